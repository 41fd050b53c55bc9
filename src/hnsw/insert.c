/* Linking a node into the graph (Malkov and Yashunin, algorithm 1). The owner of the graph runs
 * it.
 *
 * Differences from the paper: candidates that the heuristic pruned fill a level-0 list up to m
 * (a pool of half the width then makes as good a graph), the heuristic has an alpha as in Vamana
 * (Subramanya et al., "DiskANN", 2019), and every node stays reachable on level 0. */
#include "hnsw/graph_internal.h"

#include <math.h>
#include <string.h>

/* Visited marks are one byte a node, cleared every 255 searches. */
static void next_epoch(struct lh_graph *graph, struct lh__walk *walk)
{
    walk->visited = graph->t.visited[walk - graph->walks];
    if (++walk->epoch == 0) {
        memset(walk->visited, 0, graph->slots);
        walk->epoch = 1;
    }
}

/* Compares the neighbours of the nearest candidate that were not met before. True when one of them
 * is nearer still. */
static bool step_down(struct lh_graph *graph, struct lh__walk *walk, uint32_t level)
{
    struct lh__pool *pool = &walk->pool;
    uint32_t nearest = pool->nodes[0];
    const uint32_t *links = lh__links(graph, nearest, level);
    uint32_t count = lh__links_count(graph, links, level);
    uint32_t fresh = 0;
    float distances[LH_M_MAX];
    for (uint32_t i = 0; i < count; i++) {
        walk->nodes[fresh] = links[i];
        fresh += walk->visited[links[i]] != walk->epoch;
        walk->visited[links[i]] = walk->epoch;
    }
    graph->kernels->distances(graph, &walk->query, walk->nodes, fresh, distances);
    for (uint32_t i = 0; i < fresh; i++) {
        graph->kernels->pool_put(pool, distances[i], walk->nodes[i]);
    }
    return pool->nodes[0] != nearest;
}

/* Makes a search of `ef` candidates start from the best that the pool holds. */
static void start(struct lh_graph *graph, struct lh__walk *walk, uint32_t ef)
{
    struct lh__pool *pool = &walk->pool;
    float distances[LH__POOL_ENTRIES];
    uint32_t nodes[LH__POOL_ENTRIES];
    uint32_t count = pool->count < LH__POOL_ENTRIES ? pool->count : LH__POOL_ENTRIES;
    memcpy(distances, pool->distances, count * sizeof *distances);
    memcpy(nodes, pool->nodes, count * sizeof *nodes);
    lh__pool_reset(pool, ef);
    next_epoch(graph, walk);
    walk->at = 0;
    walk->ef = ef;
    walk->limit = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        walk->visited[nodes[i]] = walk->epoch;
        graph->kernels->pool_put(pool, distances[i], nodes[i]);
        __builtin_prefetch(lh__links(graph, nodes[i], 0));
    }
}

static void start_at(struct lh_graph *graph, struct lh__walk *walk, uint32_t node, float distance)
{
    if (walk->visited[node] != walk->epoch) {
        walk->visited[node] = walk->epoch;
        graph->kernels->pool_put(&walk->pool, distance, node);
    }
}

/* Makes a search that is ready start from one more node. */
void lh__walk_start_at(struct lh_graph *graph, struct lh__walk *walk, uint32_t node)
{
    float distance;
    graph->kernels->distances(graph, &walk->query, &node, 1, &distance);
    start_at(graph, walk, node, distance);
}

/* Greedy walk from the entry point down to above `level`, then ready for a search of `ef`
 * candidates there, from the best few that it met. On level 0 the entry point is one of them, from
 * where all others can be reached: a search that keeps as many candidates as there are finds all,
 * and others drop it before they would expand it. */
void lh__walk_descend(struct lh_graph *graph, struct lh__walk *walk, uint32_t level, uint32_t ef)
{
    float distance;
    lh__pool_reset(&walk->pool, LH__POOL_ENTRIES);
    next_epoch(graph, walk);
    walk->visited[graph->entry] = walk->epoch;
    graph->kernels->distances(graph, &walk->query, &graph->entry, 1, &distance);
    graph->kernels->pool_put(&walk->pool, distance, graph->entry);
    for (uint32_t l = lh__level(graph, graph->entry); l > level; l--) {
        while (step_down(graph, walk, l)) {
            continue;
        }
    }
    start(graph, walk, ef);
    if (level == 0) {
        start_at(graph, walk, graph->entry, distance);
    }
}

static void link_level(struct lh_graph *graph, const struct lh__pool *pool, uint32_t node,
                       uint32_t level)
{
    float distances[2 * LH_M_MAX];
    uint32_t nodes[2 * LH_M_MAX];
    struct lh__candidates candidates = {pool->distances, pool->nodes, NULL, pool->count};
    struct lh__selection selection = {.distances = distances,
                                      .nodes = nodes,
                                      .keep = graph->m,
                                      .fill = level == 0 ? graph->m : 0,
                                      .alpha = graph->alpha};
    graph->kernels->select(graph, &candidates, &selection);
    lh__links_begin(graph, node, level, &selection);
    for (uint32_t i = 0; i < selection.count; i++) {
        __builtin_prefetch(lh__links(graph, nodes[i], level));
        __builtin_prefetch(lh__links(graph, nodes[i], level) + 16);
    }
    for (uint32_t i = 0; i < selection.count; i++) {
        lh__links_add(graph, nodes[i], level, node, distances[i]);
    }
    if (level == 0) {
        lh__links_rescue(graph, node);
    }
    lh__backlinks_settle(graph);
}

void lh__link(struct lh_graph *graph, uint32_t node)
{
    uint32_t level = lh__level(graph, node);
    if (graph->entry == LH__NIL) {
        lh__entry_set(graph, node);
        return;
    }
    struct lh__walk *walk = &graph->walks[0];
    uint32_t top = lh__level(graph, graph->entry);
    walk->query = lh__query_of(graph, node);
    lh__walk_descend(graph, walk, level, graph->beam_width);
    for (uint32_t l = level < top ? level : top;; l--) {
        graph->kernels->beam(graph, walk, 1, l);
        link_level(graph, &walk->pool, node, l);
        if (l == 0) {
            break;
        }
        start(graph, walk, graph->beam_width);
    }
    if (level > top) {
        lh__entry_set(graph, node);
    }
}

/* Links up to LH__WALKS nodes of level 0: searches in step against the graph as it stands, then
 * links in order, each with the earlier ones among its candidates. */
void lh__link_group(struct lh_graph *graph, const uint32_t *nodes, uint32_t count)
{
    assert(count <= LH__WALKS && graph->entry != LH__NIL);
    for (uint32_t i = 0; i < count; i++) {
        assert(lh__level(graph, nodes[i]) == 0);
        graph->walks[i].query = lh__query_of(graph, nodes[i]);
        lh__walk_descend(graph, &graph->walks[i], 0, graph->beam_width);
    }
    graph->kernels->beam(graph, graph->walks, count, 0);
    for (uint32_t i = 0; i < count; i++) {
        float distances[LH__WALKS];
        graph->kernels->distances(graph, &graph->walks[i].query, nodes, i, distances);
        for (uint32_t j = 0; j < i; j++) {
            graph->kernels->pool_put(&graph->walks[i].pool, distances[j], nodes[j]);
        }
        link_level(graph, &graph->walks[i].pool, nodes[i], 0);
    }
}
