/* Backlinks: who links to a node that does not link back. The owner of the graph runs it.
 *
 * A node that goes must be known to all that link to it. Most of those it links to itself; the
 * others stand in its list of backlinks, one a level. That is a fifth of all links, and seven nodes
 * of ten have no such list.
 *
 * Lists are blocks of one array: the first word has the size and the count, the others an entry
 * each. Sizes are an eighth of a power of two apart, as most lists are short and there is one for
 * three nodes in ten. Blocks of a size that are free are chained.
 *
 * A list is far from everything that an add touches. So changes are put off until a node is linked,
 * while the lists come into the cache.
 *
 * Invariant: the one-way links of nodes below `backlinks_known` are in the lists, and nothing else
 * is. A graph out of a file begins with none of them known, because reading each link's other side
 * takes longer than the rest of loading: removals make them known. A list that there was no memory
 * for is lost until its node goes. Who links to a node is then found in a pass over all. */
#include "hnsw/graph_internal.h"

#include <inttypes.h>

#define UNIT_WORDS (LH__BACKLINK_UNIT_BYTES / 4u)
#define SIZES      LH__BACKLINK_SIZES
#define UNITS_MAX  UINT32_MAX /* 32 GiB of lists */

static uint32_t *block_at(const struct lh_graph *graph, uint32_t at)
{
    return graph->t.backlinks + (size_t)at * UNIT_WORDS;
}

static uint32_t size_of(const uint32_t *block)
{
    return block[0] % SIZES;
}

static uint32_t count_of(const uint32_t *block)
{
    return block[0] / SIZES;
}

/* Units of a block: 1 to 16, then every second to 32, every fourth to 64 and so on. */
static uint32_t units_of(uint32_t size)
{
    return size < 8 ? size + 1 : (9 + size % 8) << (size / 8 - 1);
}

/* Entries. */
static uint32_t room_of(uint32_t size)
{
    return UNIT_WORDS * units_of(size) - 1;
}

/* Where a node's list on a level begins: LH__BACKLINKS_NONE, LH__BACKLINKS_LOST or a block. */
static uint32_t *list_of(const struct lh_graph *graph, uint32_t node, uint32_t level)
{
    return level == 0 ? &graph->t.incoming[node].backlinks
                      : &graph->t.upper_backlinks[graph->t.upper_at[node] + level - 1];
}

static bool is_block(uint32_t list)
{
    return list != LH__BACKLINKS_NONE && list != LH__BACKLINKS_LOST;
}

static void give_block(struct lh_graph *graph, uint32_t at)
{
    uint32_t size = size_of(block_at(graph, at));
    block_at(graph, at)[1] = graph->backlinks_free[size];
    graph->backlinks_free[size] = at;
}

/* An empty block; LH__BACKLINKS_NONE when there is no memory. */
static uint32_t take_block(struct lh_graph *graph, uint32_t size)
{
    if (size == SIZES) {
        return LH__BACKLINKS_NONE;
    }
    uint32_t at = graph->backlinks_free[size];
    if (at != LH__BACKLINKS_NONE) {
        graph->backlinks_free[size] = block_at(graph, at)[1];
    } else {
        uint32_t used = graph->backlinks_used == 0 ? 1 : graph->backlinks_used; /* 0 is no block */
        uint64_t wanted = (uint64_t)used + units_of(size);
        if (wanted > UNITS_MAX || lh__tables_reserve_backlinks(graph, (uint32_t)wanted) != LH_OK) {
            return LH__BACKLINKS_NONE;
        }
        at = used;
        graph->backlinks_used = (uint32_t)wanted;
    }
    block_at(graph, at)[0] = size;
    return at;
}

/* Moves a list, or none, into a block of another size. False when there is no memory. */
static bool resize(struct lh_graph *graph, uint32_t *list, uint32_t size)
{
    uint32_t at = take_block(graph, size);
    if (at == LH__BACKLINKS_NONE) {
        return false;
    }
    if (*list != LH__BACKLINKS_NONE) {
        const uint32_t *from = block_at(graph, *list);
        uint32_t *to = block_at(graph, at);
        uint32_t count = count_of(from);
        for (uint32_t i = 1; i <= count; i++) {
            to[i] = from[i];
        }
        to[0] += count * SIZES;
        give_block(graph, *list);
    }
    *list = at;
    return true;
}

static void put(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t from)
{
    uint32_t *list = list_of(graph, node, level);
    if (*list == LH__BACKLINKS_LOST) {
        return;
    }
    uint32_t *block = *list == LH__BACKLINKS_NONE ? NULL : block_at(graph, *list);
    if (block == NULL || count_of(block) == room_of(size_of(block))) {
        uint32_t size = block == NULL ? 0 : size_of(block) + 1;
        if (!resize(graph, list, size)) {
            lh__backlinks_drop(graph, node, level);
            *list = LH__BACKLINKS_LOST;
            return;
        }
        block = block_at(graph, *list);
    }
    block[0] += SIZES;
    block[count_of(block)] = from;
}

static void erase(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t from)
{
    uint32_t *list = list_of(graph, node, level);
    if (*list == LH__BACKLINKS_LOST) {
        return;
    }
    assert(*list != LH__BACKLINKS_NONE);
    uint32_t *block = block_at(graph, *list);
    uint32_t count = count_of(block), size = size_of(block), i = 1;
    while (block[i] != from) {
        assert(i < count);
        i++;
    }
    block[i] = block[count--];
    block[0] -= SIZES;
    if (count == 0) {
        lh__backlinks_drop(graph, node, level);
    } else if (size > 1 && count <= room_of(size - 2)) {
        (void)resize(graph, list, size - 1); /* or it stays where it is */
    }
}

void lh__backlinks_settle(struct lh_graph *graph)
{
    for (uint32_t i = 0; i < graph->backlink_changes_count; i++) {
        const struct lh__backlink_change *change = &graph->backlink_changes[i];
        (change->is_put ? put : erase)(graph, change->node, change->level, change->from);
    }
    graph->backlink_changes_count = 0;
}

static void change(struct lh_graph *graph, const struct lh__backlink_change *change)
{
    if (change->from >= graph->backlinks_known) {
        return;
    }
    if (graph->backlink_changes_count == LH__BACKLINK_CHANGES) {
        lh__backlinks_settle(graph);
    }
    uint32_t list = *list_of(graph, change->node, change->level);
    const void *ahead = is_block(list) ? (const void *)block_at(graph, list) : graph;
    __builtin_prefetch(ahead, 1);
    graph->backlink_changes[graph->backlink_changes_count++] = *change;
}

void lh__backlinks_put(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t from)
{
    change(graph, &(struct lh__backlink_change){node, from, (uint8_t)level, true});
}

void lh__backlinks_erase(struct lh_graph *graph, uint32_t node, uint32_t level, uint32_t from)
{
    change(graph, &(struct lh__backlink_change){node, from, (uint8_t)level, false});
}

void lh__backlinks_drop(struct lh_graph *graph, uint32_t node, uint32_t level)
{
    uint32_t *list = list_of(graph, node, level);
    if (is_block(*list)) {
        give_block(graph, *list);
    }
    *list = LH__BACKLINKS_NONE;
}

const uint32_t *lh__backlinks(const struct lh_graph *graph, uint32_t node, uint32_t level,
                              uint32_t *count)
{
    uint32_t list = *list_of(graph, node, level);
    const uint32_t *block = is_block(list) ? block_at(graph, list) : NULL;
    *count = block != NULL ? count_of(block) : 0;
    return block != NULL ? block + 1 : NULL;
}

uint32_t lh__backlinks_known(const struct lh_graph *graph, uint32_t node, uint32_t level)
{
    return *list_of(graph, node, level) == LH__BACKLINKS_LOST ? 0 : graph->backlinks_known;
}

uint32_t lh__backlinks_in_degree(const struct lh_graph *graph, uint32_t node)
{
    const uint32_t *links = lh__links(graph, node, 0);
    uint32_t degree, count = lh__links_count(graph, links, 0);
    lh__backlinks(graph, node, 0, &degree);
    for (uint32_t i = 0; i < count; i++) {
        degree += lh__links_has(graph, links[i], 0, node);
    }
    for (uint32_t other = lh__backlinks_known(graph, node, 0); other < graph->slots; other++) {
        degree += lh__is_linked(graph, other) && lh__links_has(graph, other, 0, node) &&
                  !lh__links_has(graph, node, 0, other);
    }
    return degree;
}

static void learn_level(struct lh_graph *graph, uint32_t node, uint32_t level)
{
    const uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    for (uint32_t i = 0; i < count; i++) {
        lh__links_prefetch(graph, links[i], level);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!lh__links_has(graph, links[i], level, node)) {
            lh__backlinks_put(graph, links[i], level, node);
        }
    }
}

void lh__backlinks_learn(struct lh_graph *graph, uint32_t nodes)
{
    for (; nodes > 0 && graph->backlinks_known < graph->slots; nodes--) {
        uint32_t node = graph->backlinks_known++;
        for (uint32_t l = 0; lh__is_linked(graph, node) && l <= lh__level(graph, node); l++) {
            learn_level(graph, node, l);
        }
    }
    lh__backlinks_settle(graph);
}

/* ---- the validator's part ---- */

/* The entries of a list. */
static enum lh_status check_list(const struct lh_graph *graph, uint32_t node, uint32_t level,
                                 struct lh_error *error)
{
    uint32_t count;
    const uint32_t *from = lh__backlinks(graph, node, level, &count);
    if (*list_of(graph, node, level) != LH__BACKLINKS_NONE && !lh__is_linked(graph, node)) {
        return lh_error_set(error, LH_CORRUPT, "node %u level %u: backlinks to what is not linked",
                            node, level);
    }
    for (uint32_t i = 0; i < count; i++) {
        bool is_right = from[i] < graph->backlinks_known && lh__is_linked(graph, from[i]) &&
                        lh__level(graph, from[i]) >= level &&
                        lh__links_has(graph, from[i], level, node) &&
                        !lh__links_has(graph, node, level, from[i]);
        for (uint32_t j = 0; j < i; j++) {
            is_right = is_right && from[j] != from[i];
        }
        if (!is_right) {
            return lh_error_set(error, LH_CORRUPT, "node %u level %u: backlink from %u", node,
                                level, from[i]);
        }
    }
    return LH_OK;
}

/* One-way links that have to stand in a list. */
static uint64_t one_way_links(const struct lh_graph *graph, uint32_t node, uint32_t level)
{
    const uint32_t *links = lh__links(graph, node, level);
    uint32_t count = lh__links_count(graph, links, level);
    uint64_t one_way = 0;
    if (!lh__is_linked(graph, node) || node >= graph->backlinks_known) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        one_way += *list_of(graph, links[i], level) != LH__BACKLINKS_LOST &&
                   !lh__links_has(graph, links[i], level, node);
    }
    return one_way;
}

/* Units of the blocks that no list has. */
static uint64_t free_units(const struct lh_graph *graph)
{
    uint64_t units = graph->backlinks_used > 0; /* the first is no block */
    for (uint32_t size = 0; size < SIZES; size++) {
        uint32_t at = graph->backlinks_free[size];
        while (at != LH__BACKLINKS_NONE && units <= graph->backlinks_used) {
            units += units_of(size);
            at = block_at(graph, at)[1];
        }
    }
    return units;
}

/* Of links that are right themselves. */
enum lh_status lh__backlinks_validate(const struct lh_graph *graph, struct lh_error *error)
{
    uint64_t units = free_units(graph), one_way = 0, listed = 0;
    for (uint32_t node = 0; node < graph->slots; node++) {
        for (uint32_t level = 0; level <= lh__level(graph, node); level++) {
            uint32_t count, list = *list_of(graph, node, level);
            enum lh_status status = check_list(graph, node, level, error);
            if (status != LH_OK) {
                return status;
            }
            lh__backlinks(graph, node, level, &count);
            listed += count;
            units += is_block(list) ? units_of(size_of(block_at(graph, list))) : 0;
            one_way += one_way_links(graph, node, level);
        }
    }
    if (one_way != listed || units != graph->backlinks_used) {
        return lh_error_set(error, LH_CORRUPT,
                            "%" PRIu64 " one-way links, %" PRIu64 " backlinks; %" PRIu64
                            " of %u units of blocks",
                            one_way, listed, units, graph->backlinks_used);
    }
    return LH_OK;
}
