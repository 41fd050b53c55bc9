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

/* Greedy walk from the entry point down to above `level`; leaves the pool with where it ended. */
void lh__walk_descend(struct lh_graph *graph, struct lh__walk *walk, uint32_t level)
{
    uint32_t nearest = graph->entry;
    float best;
    graph->kernels->distances(graph, &walk->query, &nearest, 1, &best);
    for (uint32_t l = lh__level(graph, nearest); l > level; l--) {
        bool moved = true;
        while (moved) {
            const uint32_t *links = lh__links(graph, nearest, l);
            uint32_t count = lh__links_count(graph, links, l);
            float distances[LH_M_MAX];
            graph->kernels->distances(graph, &walk->query, links, count, distances);
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
    walk->pool.distances[0] = best;
    walk->pool.nodes[0] = nearest;
    walk->pool.count = 1;
}

/* Makes a search of `ef` candidates start from the best that the pool holds. Visited marks are one
 * byte a node, cleared every 255 searches. */
void lh__walk_start(struct lh_graph *graph, struct lh__walk *walk, uint32_t ef)
{
    struct lh__pool *pool = &walk->pool;
    float distances[ENTRIES_MAX];
    uint32_t nodes[ENTRIES_MAX];
    uint32_t count = pool->count < ENTRIES_MAX ? pool->count : ENTRIES_MAX;
    count = count < ef ? count : ef;
    memcpy(distances, pool->distances, count * sizeof *distances);
    memcpy(nodes, pool->nodes, count * sizeof *nodes);
    lh__pool_reset(pool, ef);
    walk->visited = graph->t.visited[walk - graph->walks];
    if (++walk->epoch == 0) {
        memset(walk->visited, 0, graph->slots);
        walk->epoch = 1;
    }
    walk->at = 0;
    for (uint32_t i = 0; i < count; i++) {
        walk->visited[nodes[i]] = walk->epoch;
        graph->kernels->pool_put(pool, distances[i], nodes[i]);
        __builtin_prefetch(lh__links(graph, nodes[i], 0));
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
    struct lh__walk *walk = &graph->walks[0];
    uint32_t top = lh__level(graph, graph->entry);
    walk->query = lh__query_of(graph, node);
    lh__walk_descend(graph, walk, level);
    for (uint32_t l = level < top ? level : top;; l--) {
        lh__walk_start(graph, walk, graph->beam_width);
        graph->kernels->beam(graph, walk, 1, l);
        link_level(graph, &walk->pool, node, l);
        if (l == 0) {
            break;
        }
    }
    if (level > top) {
        graph->entry = node;
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
        lh__walk_descend(graph, &graph->walks[i], 0);
        lh__walk_start(graph, &graph->walks[i], graph->beam_width);
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
