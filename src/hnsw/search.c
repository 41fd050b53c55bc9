/* Search (Malkov and Yashunin, algorithm 5): traverse on codes, then rank the best again by their
 * float32 rows, so that answers are exact. The owner of the graph runs it. */
#include "hnsw/graph_internal.h"

#include <math.h>
#include <stdlib.h>

static enum lh_status reserve(struct lh_graph *graph, uint32_t ef)
{
    if (lh__pool_reserve(&graph->walks[0].pool, ef) != LH_OK) {
        return LH_OUT_OF_MEMORY;
    }
    if (ef > graph->reranked_room) {
        struct lh_hit *hits = realloc(graph->reranked, ef * sizeof *hits);
        if (hits == NULL) {
            return LH_OUT_OF_MEMORY;
        }
        graph->reranked = hits;
        graph->reranked_room = ef;
    }
    return LH_OK;
}

static int compare_hits(const void *a, const void *b)
{
    const struct lh_hit *x = a, *y = b;
    if (x->distance != y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    return x->node < y->node ? -1 : x->node > y->node;
}

static void prefetch_row(const struct lh_graph *graph, uint32_t node)
{
    const char *row = (const char *)lh__row(graph, node);
    for (uint32_t i = 0; i < graph->options.dimension * sizeof(float) && i < 1024; i += 64) {
        __builtin_prefetch(row + i);
    }
}

static void rerank(struct lh_graph *graph, const float *query, float norm, uint32_t count)
{
    struct lh_hit *hits = graph->reranked;
    for (uint32_t i = 0; i < count; i++) {
        if (i + 4 < count) {
            prefetch_row(graph, hits[i + 4].node);
        }
        hits[i].distance = lh__exact_distance(graph, query, norm, hits[i].node);
    }
    graph->stats.reranked += count;
    qsort(hits, count, sizeof *hits, compare_hits);
}

enum lh_status lh_graph_search(struct lh_graph *graph, const float *query, uint32_t k, uint32_t ef,
                               struct lh_hit *hits, uint32_t *found)
{
    *found = 0;
    if (graph->live == 0 || k == 0) {
        return LH_OK;
    }
    ef = ef < k ? k : ef;
    ef = ef > graph->live ? graph->live : ef;
    k = k > graph->live ? graph->live : k;
    uint32_t exact = 2 * k > ef / 4 ? 2 * k : ef / 4;
    exact = exact > ef ? ef : exact;
    if (reserve(graph, ef) != LH_OK) {
        return LH_OUT_OF_MEMORY;
    }
    struct lh__encoded encoded = {.code = graph->query_code, .signs = graph->query_signs};
    lh__encode(graph, query, &encoded);
    struct lh__walk *walk = &graph->walks[0];
    walk->query = lh__query_make(graph, encoded.code, encoded.signs, encoded.weight);
    lh__walk_descend(graph, walk, 0, ef);
    graph->kernels->beam(graph, walk, 1, 0);
    exact = lh__copies_expand(graph, &walk->pool, exact, ef, graph->reranked);
    rerank(graph, query, encoded.norm, exact);
    *found = k < exact ? k : exact;
    for (uint32_t i = 0; i < *found; i++) {
        hits[i] = graph->reranked[i];
    }
    return LH_OK;
}
