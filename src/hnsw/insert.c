/* Linking a node into the graph (Malkov and Yashunin, algorithm 1). The owner of the graph runs
 * it.
 *
 * Differences from the paper: candidates that the heuristic pruned fill a level-0 list up to m
 * (a pool of half the width then makes as good a graph), the heuristic has an alpha as in Vamana
 * (Subramanya et al., "DiskANN", 2019), and no node is left without a link to it on level 0. */
#include "hnsw/graph_internal.h"

#include <math.h>
#include <string.h>

#define ENTRIES_MAX 4u /* of one level's search, from the level above */

/* Starts a search's visited set: one byte a node, cleared every 255 searches. */
void lh__visit_none(struct lh_graph *graph)
{
    if (++graph->epoch == 0) {
        memset(graph->t.visited, 0, graph->slots);
        graph->epoch = 1;
    }
}

/* Greedy walk from the entry point down to above `level`; leaves the pool with where it ended. */
void lh__descend(struct lh_graph *graph, const struct lh__query *query, uint32_t level)
{
    uint32_t nearest = graph->entry;
    float best;
    graph->kernels->distances(graph, query, &nearest, 1, &best);
    for (uint32_t l = lh__level(graph, nearest); l > level; l--) {
        bool moved = true;
        while (moved) {
            const uint32_t *links = lh__links(graph, nearest, l);
            uint32_t count = lh__links_count(graph, links, l);
            float distances[LH_M_MAX];
            graph->kernels->distances(graph, query, links, count, distances);
            moved = false;
            for (uint32_t i = 0; i < count; i++) {
                if (distances[i] < best) {
                    best = distances[i];
                    nearest = links[i];
                    moved = true;
                }
            }
        }
    }
    graph->pool.distances[0] = best;
    graph->pool.nodes[0] = nearest;
    graph->pool.count = 1;
}

/* Searches one level with the construction pool, from the best entries that the pool holds. */
void lh__link_beam(struct lh_graph *graph, const struct lh__query *query, uint32_t level)
{
    struct lh__pool *pool = &graph->pool;
    float distances[ENTRIES_MAX];
    uint32_t nodes[ENTRIES_MAX];
    uint32_t count = pool->count < ENTRIES_MAX ? pool->count : ENTRIES_MAX;
    memcpy(distances, pool->distances, count * sizeof *distances);
    memcpy(nodes, pool->nodes, count * sizeof *nodes);
    lh__pool_reset(pool, graph->beam_width);
    lh__visit_none(graph);
    for (uint32_t i = 0; i < count && i < pool->capacity; i++) {
        graph->t.visited[nodes[i]] = graph->epoch;
        pool->distances[i] = distances[i];
        pool->nodes[i] = nodes[i];
        pool->count++;
    }
    if (pool->count == pool->capacity) {
        pool->bound = pool->distances[pool->capacity - 1];
    }
    graph->kernels->beam(graph, query, level, pool);
}

static void link_level(struct lh_graph *graph, uint32_t node, uint32_t level)
{
    float distances[2 * LH_M_MAX];
    uint32_t nodes[2 * LH_M_MAX];
    struct lh__candidates candidates = {graph->pool.distances, graph->pool.nodes, NULL,
                                        graph->pool.count};
    struct lh__selection selection = {.distances = distances,
                                      .nodes = nodes,
                                      .keep = graph->m,
                                      .fill = level == 0 ? graph->m : 0,
                                      .alpha = graph->alpha};
    graph->kernels->select(graph, &candidates, &selection);
    lh__links_set(graph, node, level, &selection);
    for (uint32_t i = 0; i < selection.count; i++) {
        __builtin_prefetch(lh__links(graph, nodes[i], level));
        __builtin_prefetch(lh__links(graph, nodes[i], level) + 16);
    }
    for (uint32_t i = 0; i < selection.count; i++) {
        lh__links_add(graph, nodes[i], level, node, distances[i]);
    }
    if (level == 0 && graph->t.in_degree[node] == 0 && selection.count > 0) {
        lh__links_splice(graph, nodes[0], node);
    }
}

void lh__link(struct lh_graph *graph, uint32_t node)
{
    uint32_t level = lh__level(graph, node);
    if (graph->entry == LH__NIL) {
        graph->entry = node;
        return;
    }
    struct lh__query query = lh__query_of(graph, node);
    uint32_t top = lh__level(graph, graph->entry);
    lh__descend(graph, &query, level);
    for (uint32_t l = level < top ? level : top;; l--) {
        lh__link_beam(graph, &query, l);
        link_level(graph, node, l);
        if (l == 0) {
            break;
        }
    }
    if (level > top) {
        graph->entry = node;
    }
}
