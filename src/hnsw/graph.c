/* A graph's life: creation, room, adding, updating, reading. Its one owner runs everything.
 *
 * Invariants: slots below `slots` are live or on the free list; every live slot has a code of its
 * row and is either linked or a copy of one that is (copies.c); a linked one has links only to
 * linked nodes of the same level and, on level 0, when it is not alone, at least one link, and can
 * be reached from the entry point (prune.c). */
#include "hnsw/graph_internal.h"

#include <math.h>
#include <string.h>

/* Below, the members of a group would be too large a part of one another's neighbours. */
#define GROUP_LINKED_MIN 1024u

static uint64_t mix(uint64_t x)
{
    /* splitmix64 (Steele, Lea, Flood 2014) */
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* Levels fall off by a factor m, as in the paper; a slot's is a function of the seed. */
uint32_t lh__level_of_slot(const struct lh_graph *graph, uint32_t slot)
{
    uint64_t draw = mix(graph->options.seed ^ mix(slot));
    double uniform = ((double)(draw >> 11) + 1.0) * 0x1p-53;
    double level = -log(uniform) / log(graph->m);
    return level >= LH__LEVEL_MAX ? LH__LEVEL_MAX : (uint32_t)level;
}

static enum lh__metric metric_of(const struct lh_graph_options *options)
{
    if (options->dimension <= LH__FLAT_DIMENSIONS) {
        return options->distance == LH_DISTANCE_EUCLIDEAN ? LH__FLAT_L2 : LH__FLAT_DOT;
    }
    return options->distance == LH_DISTANCE_COSINE ? LH__UNIT : LH__WEIGHTED;
}

/* `ef_construction` promises hnswlib's quality at that value; with pruned candidates kept up to m
 * links, about half of it comes near, and less in many dimensions. Judged by the distance
 * computations to recall@10 = 0.99 on 100,000 GloVe vectors (100 dimensions, 4,000 queries, three
 * seeds) and 50,000 of 768. */
static uint32_t beam_width_of(const struct lh_graph_options *options)
{
    uint32_t percent = options->dimension >= LH__SIGN_BITS ? 40 : 46;
    uint32_t width = (options->ef_construction * percent + 99) / 100;
    uint32_t least = 2 * options->m > 16 ? 2 * options->m : 16; /* below, graphs fall apart */
    return width < least ? least : width;
}

/* The heuristic's alpha, from the same measurements. Under dot, distances are no metric. */
static float alpha_of(const struct lh_graph_options *options)
{
    bool plain = options->distance == LH_DISTANCE_DOT || options->dimension >= LH__SIGN_BITS;
    return plain ? 1.0f : 1.05f;
}

static void shape_init(struct lh_graph *graph, const struct lh_graph_options *options)
{
    bool flat = options->dimension <= LH__FLAT_DIMENSIONS;
    graph->options = *options;
    graph->metric = metric_of(options);
    graph->filtered = graph->metric == LH__UNIT && options->dimension >= LH__SIGN_BITS;
    graph->code_bytes = flat ? 64 : (options->dimension + 63) / 64 * 64;
    graph->m = options->m;
    graph->links_stride = (2 * options->m + 15) / 16 * 16;
    graph->upper_stride = (options->m + 15) / 16 * 16;
    graph->beam_width = beam_width_of(options);
    graph->alpha = alpha_of(options);
    graph->entry = LH__NIL;
    graph->free_head = LH__NIL;
    lh__codes_init(graph);
}

enum lh_status lh__graph_create(const struct lh_graph_options *options,
                                const struct lh__kernels *kernels, struct lh_graph **graph)
{
    if (options->dimension < 1 || options->dimension > LH_DIMENSION_MAX || options->m < LH_M_MIN ||
        options->m > LH_M_MAX || options->ef_construction < 1 ||
        options->ef_construction > LH_EF_MAX || options->distance > LH_DISTANCE_DOT) {
        return LH_INVALID_ARGUMENT;
    }
    enum lh_status status = LH_OUT_OF_MEMORY;
    struct lh_graph *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    shape_init(made, options);
    made->kernels = kernels;
    made->work = malloc(options->dimension * sizeof *made->work);
    made->rotation = malloc(options->dimension * sizeof *made->rotation);
    made->query_code = aligned_alloc(64, made->code_bytes);
    if (made->work == NULL || made->rotation == NULL || made->query_code == NULL) {
        goto done;
    }
    for (uint32_t i = 0; i < options->dimension; i++) {
        made->rotation[i] = (uint32_t)mix(~options->seed ^ mix(i));
    }
    for (uint32_t i = 0; i < LH__WALKS; i++) {
        if (lh__pool_reserve(&made->walks[i].pool, made->beam_width) != LH_OK) {
            goto done;
        }
    }
    status = LH_OK;
    *graph = made;
    made = NULL;
done:
    lh_graph_destroy(made);
    return status;
}

enum lh_status lh_graph_create(const struct lh_graph_options *options, struct lh_graph **graph)
{
    return lh__graph_create(options, lh__kernels_best(), graph);
}

void lh_graph_destroy(struct lh_graph *graph)
{
    if (graph == NULL) {
        return;
    }
    lh__tables_release(graph);
    for (uint32_t i = 0; i < LH__WALKS; i++) {
        lh__pool_deinit(&graph->walks[i].pool);
    }
    free(graph->reranked);
    free(graph->query_code);
    free(graph->rotation);
    free(graph->work);
    free(graph);
}

enum lh_status lh_graph_reserve(struct lh_graph *graph, uint32_t more)
{
    if (more <= graph->free_count) {
        return LH_OK;
    }
    uint64_t slots = (uint64_t)graph->slots + (more - graph->free_count);
    if (slots > LH_NODES_MAX) {
        return LH_OUT_OF_MEMORY;
    }
    uint32_t blocks = graph->upper_used;
    for (uint32_t slot = graph->slots; slot < slots; slot++) {
        blocks += lh__level_of_slot(graph, slot);
    }
    return lh__tables_reserve(graph, (uint32_t)slots, blocks);
}

static void links_clear(struct lh_graph *graph, uint32_t node)
{
    lh__touch_links(graph, node);
    for (uint32_t level = 0; level <= lh__level(graph, node); level++) {
        uint32_t stride = level == 0 ? graph->links_stride : graph->upper_stride;
        memset(lh__links(graph, node, level), 0xff, stride * sizeof(uint32_t));
    }
    graph->t.checked[node] = 0;
}

/* A slot off the free list, or a fresh one with its level drawn. */
static uint32_t slot_take(struct lh_graph *graph)
{
    uint32_t slot = graph->free_head;
    if (slot != LH__NIL) {
        graph->free_head = *lh__links(graph, slot, 0);
        graph->free_count--;
        lh__touch_links(graph, slot);
        graph->t.levels[slot] &= (uint8_t)~LH__LEVEL_FREE;
    } else {
        assert(graph->slots < graph->capacity);
        slot = graph->slots++;
        uint32_t level = lh__level_of_slot(graph, slot);
        assert(graph->upper_used + level <= graph->upper_capacity);
        graph->t.levels[slot] = (uint8_t)level;
        graph->t.upper_at[slot] = level == 0 ? LH__NIL : graph->upper_used;
        graph->upper_used += level;
        graph->backlinks_known += graph->backlinks_known == slot;
        if (slot % LH__TOUCH_EVERY == 0) {
            lh__tables_touch(graph);
        }
        lh__copies_grow(graph);
    }
    graph->t.incoming[slot] = (struct lh__incoming){0};
    links_clear(graph, slot);
    return slot;
}

/* True when the vector of `node` is one that the graph has: the node is its copy then. */
static bool settled_as_copy(struct lh_graph *graph, uint32_t node)
{
    uint32_t linked = lh__copies_find(graph, node);
    if (linked == LH__NIL) {
        lh__copies_insert(graph, node);
        return false;
    }
    lh__copies_join(graph, node, linked);
    return true;
}

void lh_graph_add(struct lh_graph *graph, const float *rows, uint32_t count, uint32_t *nodes)
{
    uint32_t group[LH__WALKS];
    uint32_t grouped = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t node = slot_take(graph);
        nodes[i] = node;
        lh__encode_node(graph, node, rows + (size_t)i * graph->options.dimension);
        graph->live++;
        if (settled_as_copy(graph, node)) {
            continue;
        }
        if (lh__level(graph, node) > 0 || graph->live - graph->copies <= GROUP_LINKED_MIN) {
            lh__link(graph, node);
        } else {
            group[grouped++] = node;
        }
        if (grouped == LH__WALKS) {
            lh__link_group(graph, group, grouped);
            grouped = 0;
        }
    }
    if (grouped > 0) {
        lh__link_group(graph, group, grouped);
    }
}

/* Takes the vector of a node out of the graph; the first of its copies takes its place. */
static void detach(struct lh_graph *graph, uint32_t node)
{
    if (lh__is_copy(graph, node)) {
        lh__copies_leave(graph, node);
        return;
    }
    uint32_t heir = graph->t.copies[node];
    lh__copies_erase(graph, node);
    lh__unlink(graph, node);
    links_clear(graph, node);
    if (heir != LH__NIL) {
        lh__copies_promote(graph, heir);
        lh__link(graph, heir);
    }
}

void lh_graph_update(struct lh_graph *graph, uint32_t node, const float *row)
{
    assert(lh_graph_is_live(graph, node));
    size_t bytes = graph->options.dimension * sizeof *row;
    if (memcmp(lh__row(graph, node), row, bytes) == 0) {
        return;
    }
    detach(graph, node);
    lh__encode_node(graph, node, row);
    if (!settled_as_copy(graph, node)) {
        lh__link(graph, node);
    }
}

void lh_graph_remove(struct lh_graph *graph, uint32_t node)
{
    assert(lh_graph_is_live(graph, node));
    detach(graph, node);
    lh__touch_links(graph, node);
    graph->t.levels[node] |= LH__LEVEL_FREE;
    *lh__links(graph, node, 0) = graph->free_head;
    graph->free_head = node;
    graph->free_count++;
    graph->live--;
    assert(graph->live + graph->free_count == graph->slots);
}

const float *lh_graph_row(const struct lh_graph *graph, uint32_t node)
{
    assert(lh_graph_is_live(graph, node));
    return lh__row(graph, node);
}

uint32_t lh_graph_count(const struct lh_graph *graph)
{
    return graph->live;
}

uint32_t lh_graph_slots(const struct lh_graph *graph)
{
    return graph->slots;
}

bool lh_graph_is_live(const struct lh_graph *graph, uint32_t node)
{
    return node < graph->slots && (graph->t.levels[node] & LH__LEVEL_FREE) == 0;
}

uint64_t lh_graph_bytes(const struct lh_graph *graph)
{
    uint64_t scratch = (uint64_t)graph->walks[0].pool.room * 8 + graph->code_bytes +
                       (uint64_t)graph->options.dimension * 8 +
                       (uint64_t)graph->reranked_room * sizeof *graph->reranked;
    return sizeof *graph + scratch + lh__tables_bytes(graph);
}

struct lh_graph_stats lh_graph_stats(const struct lh_graph *graph)
{
    return graph->stats;
}

uint32_t lh_graph_level(const struct lh_graph *graph, uint32_t node)
{
    return lh__level(graph, node);
}

const uint32_t *lh_graph_links(const struct lh_graph *graph, uint32_t node, uint32_t level,
                               uint32_t *count)
{
    const uint32_t *links = lh__links(graph, node, level);
    *count = lh__links_count(graph, links, level);
    return links;
}

bool lh_graph_entry(const struct lh_graph *graph, uint32_t *node)
{
    *node = graph->entry;
    return graph->entry != LH__NIL;
}

const char *lh_graph_kernels(void)
{
    return lh__kernels_best()->name;
}
