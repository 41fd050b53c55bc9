/* Nodes whose codes are equal: the first is linked, the others are its copies. The owner of the
 * graph runs it.
 *
 * To the graph such nodes are one point. Were they all linked, each would be linked to others of
 * them alone, and who has more copies than a search has candidates would cut off what lies around.
 * So copies are no part of it: they hang on the linked node in a list, and a search that finds that
 * node goes on along the list. (pgvector keeps several rows in one element for the same reason.)
 *
 * Nodes are equal by what their codes are made from: int8 codes, and the norm where there are
 * weights; the row itself where codes are rows.
 *
 * Invariants: of equal nodes exactly one is linked. The list is `copies`, from the linked node on,
 * and back by the one level-0 link that a copy has: to the node before it in the list, which does
 * not count as an in-degree. A copy keeps the level of its slot, but has no upper links.
 *
 * Linked nodes stand in a hash table that grows by linear hashing (Litwin, "Linear hashing: a new
 * tool for file and table addressing", 1980): a bucket a slot, and each new slot splits one bucket,
 * so that no add ever waits for a whole table. */
#include "hnsw/graph_internal.h"

#include <string.h>

struct lh__key {
    const void *bytes;
    size_t length;
    float norm;
};

static bool rows_are_keys(const struct lh_graph *graph)
{
    return graph->metric == LH__FLAT_DOT || graph->metric == LH__FLAT_L2;
}

static struct lh__key key_make(const struct lh_graph *graph, const float *row, const int8_t *code,
                               float norm)
{
    struct lh__key key = {code, graph->code_bytes, graph->metric == LH__WEIGHTED ? norm : 0.0f};
    if (rows_are_keys(graph)) {
        key.bytes = row;
        key.length = graph->options.dimension * sizeof *row;
    }
    return key;
}

static struct lh__key key_of(const struct lh_graph *graph, uint32_t node)
{
    return key_make(graph, lh__row(graph, node), graph->t.codes + (size_t)node * graph->code_bytes,
                    graph->t.norms[node]);
}

static bool key_equals(const struct lh__key *a, const struct lh__key *b)
{
    return memcmp(a->bytes, b->bytes, a->length) == 0 && a->norm == b->norm;
}

bool lh__copies_same(const struct lh_graph *graph, uint32_t a, uint32_t b)
{
    struct lh__key x = key_of(graph, a), y = key_of(graph, b);
    return key_equals(&x, &y);
}

/* NH (Black et al., "UMAC: Fast and Secure Message Authentication", CRYPTO 1999, section 3), in
 * 64-bit words: products of two halves, each with a key of its own added, that do not wait for one
 * another. Keys are multiples of 2^64 over the golden ratio, from the seed on. */
static uint32_t hash_of(const struct lh_graph *graph, const struct lh__key *key)
{
    const uint64_t golden = 0x9e3779b97f4a7c15ull;
    uint64_t add = graph->options.seed, sum = key->length;
    uint64_t word = 0;
    size_t i = 0;
    for (; i + sizeof word <= key->length; i += sizeof word) {
        memcpy(&word, (const char *)key->bytes + i, sizeof word);
        add += golden;
        uint32_t low = (uint32_t)word + (uint32_t)add;
        uint32_t high = (uint32_t)(word >> 32) + (uint32_t)(add >> 32);
        sum += (uint64_t)low * high;
    }
    uint32_t tail[2] = {0}; /* an odd dimension's last number, and the norm */
    memcpy(tail, (const char *)key->bytes + i, key->length - i);
    memcpy(tail + 1, &key->norm, sizeof key->norm);
    memcpy(&word, tail, sizeof word);
    uint64_t hash = (sum ^ word * golden) * golden;
    return (uint32_t)(hash >> 32);
}

/* The least power of two above `bucket`; 1 for bucket 0. */
static uint32_t width_of(uint32_t bucket)
{
    return bucket == 0 ? 1u : 2u << (31 - __builtin_clz(bucket));
}

/* Buckets that are not split yet hold what the next one will get. */
static uint32_t *bucket_of(const struct lh_graph *graph, uint32_t hash)
{
    uint32_t width = width_of(graph->slots - 1);
    uint32_t bucket = hash & (width - 1);
    return graph->t.buckets + (bucket < graph->slots ? bucket : bucket - width / 2);
}

/* A slot more: its bucket takes what is its own from the one that held it so far. */
void lh__copies_grow(struct lh_graph *graph)
{
    uint32_t fresh = graph->slots - 1;
    graph->t.buckets[fresh] = LH__NIL;
    if (fresh == 0) {
        return;
    }
    uint32_t *from = graph->t.buckets + (fresh - width_of(fresh) / 2);
    while (*from != LH__NIL) {
        uint32_t node = *from;
        struct lh__hashed *hashed = &graph->t.hashed[node];
        if (bucket_of(graph, hashed->hash) == graph->t.buckets + fresh) {
            *from = hashed->next;
            hashed->next = graph->t.buckets[fresh];
            graph->t.buckets[fresh] = node;
        } else {
            from = &hashed->next;
        }
    }
}

static uint32_t find(const struct lh_graph *graph, const struct lh__key *key)
{
    uint32_t hash = hash_of(graph, key);
    uint32_t node = graph->slots == 0 ? LH__NIL : *bucket_of(graph, hash);
    for (; node != LH__NIL; node = graph->t.hashed[node].next) {
        struct lh__key other = key_of(graph, node);
        if (graph->t.hashed[node].hash == hash && key_equals(key, &other)) {
            break;
        }
    }
    return node;
}

/* The linked node that equals `node`; LH__NIL when there is none. */
uint32_t lh__copies_find(const struct lh_graph *graph, uint32_t node)
{
    struct lh__key key = key_of(graph, node);
    return find(graph, &key);
}

/* The linked node that equals a row, which is no node's but has been encoded. */
uint32_t lh__copies_find_row(const struct lh_graph *graph, const float *row,
                             const struct lh__encoded *encoded)
{
    struct lh__key key = key_make(graph, row, encoded->code, encoded->norm);
    return find(graph, &key);
}

void lh__copies_hash(struct lh_graph *graph, uint32_t node)
{
    struct lh__key key = key_of(graph, node);
    graph->t.hashed[node].hash = hash_of(graph, &key);
}

void lh__copies_prefetch(const struct lh_graph *graph, uint32_t node)
{
    __builtin_prefetch(bucket_of(graph, graph->t.hashed[node].hash), 1);
}

void lh__copies_put(struct lh_graph *graph, uint32_t node)
{
    uint32_t *bucket = bucket_of(graph, graph->t.hashed[node].hash);
    graph->t.hashed[node].next = *bucket;
    graph->t.copies[node] = LH__NIL;
    *bucket = node;
}

void lh__copies_insert(struct lh_graph *graph, uint32_t node)
{
    lh__copies_hash(graph, node);
    lh__copies_put(graph, node);
}

void lh__copies_erase(struct lh_graph *graph, uint32_t node)
{
    uint32_t *at = bucket_of(graph, graph->t.hashed[node].hash);
    while (*at != node) {
        assert(*at != LH__NIL);
        at = &graph->t.hashed[*at].next;
    }
    *at = graph->t.hashed[node].next;
}

/* Makes `node`, which has no links, the first copy of `linked`. */
void lh__copies_join(struct lh_graph *graph, uint32_t node, uint32_t linked)
{
    uint32_t after = graph->t.copies[linked];
    if (after != LH__NIL) {
        lh__touch_links(graph, after);
        *lh__links(graph, after, 0) = node;
    }
    lh__touch_links(graph, node);
    *lh__links(graph, node, 0) = linked;
    graph->t.copies[node] = after;
    graph->t.copies[linked] = node;
    graph->t.levels[node] |= LH__LEVEL_COPY;
    graph->copies++;
}

/* Makes a copy a node without links, and no copy. */
void lh__copies_leave(struct lh_graph *graph, uint32_t node)
{
    uint32_t before = *lh__links(graph, node, 0);
    uint32_t after = graph->t.copies[node];
    graph->t.copies[before] = after;
    if (after != LH__NIL) {
        lh__touch_links(graph, after);
        *lh__links(graph, after, 0) = before;
    }
    lh__touch_links(graph, node);
    *lh__links(graph, node, 0) = LH__NIL;
    graph->t.levels[node] &= (uint8_t)~LH__LEVEL_COPY;
    graph->copies--;
}

/* Makes the first copy of a node that is gone a node without links, with the others as its copies.
 */
void lh__copies_promote(struct lh_graph *graph, uint32_t node)
{
    uint32_t rest = graph->t.copies[node];
    lh__copies_insert(graph, node);
    graph->t.copies[node] = rest;
    lh__touch_links(graph, node);
    *lh__links(graph, node, 0) = LH__NIL;
    graph->t.levels[node] &= (uint8_t)~LH__LEVEL_COPY;
    graph->copies--;
}

/* The nodes of a pool, each with its copies, in its order: at least `least` where there are as
 * many. What is equal by its code may differ by its row, so a list of copies is not cut off there,
 * but goes on up to `most`. Writes the nodes of `hits`. */
uint32_t lh__copies_expand(const struct lh_graph *graph, const struct lh__pool *pool,
                           uint32_t least, uint32_t most, struct lh_hit *hits)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < pool->count && count < least; i++) {
        uint32_t node = pool->nodes[i];
        for (; node != LH__NIL && count < most; node = graph->t.copies[node]) {
            hits[count++].node = node;
        }
    }
    return count;
}
