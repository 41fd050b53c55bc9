/* Search (Malkov and Yashunin, algorithm 5): traverse on codes, then rank the best again by their
 * float32 rows, so that answers are exact. The owner of the graphs runs it.
 *
 * Several graphs are searched as one: each on its own first, then those go on that still have
 * candidates near enough for the common answer, and only the best of all are ranked again. */
#include "hnsw/graph_internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* The graphs of one search, and its query's norm. */
struct team {
    struct lh_graph *const *graphs;
    uint32_t count;
    float norm;
};

static struct lh__walk *walk_of(const struct team *team, uint32_t graph)
{
    return &team->graphs[graph]->walks[0];
}

static int compare_hits(const void *a, const void *b)
{
    const struct lh_hit *x = a, *y = b;
    if (x->distance != y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    if (x->graph != y->graph) {
        return x->graph < y->graph ? -1 : 1;
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

/* ---- code distances of several graphs ---- */

/* By what a graph's code distances are scaled: its norm scale, squared as they are. */
static double unit_of(const struct lh_graph *graph)
{
    double scale = graph->norm_scale;
    if (graph->options.distance == LH_DISTANCE_COSINE) {
        return 1.0;
    }
    if (scale == 0 && graph->metric != LH__WEIGHTED) {
        return 1.0; /* float32 rows, as they are */
    }
    return scale * scale;
}

/* What the zero vectors of a graph without a norm scale have for a distance. */
static double zero_distance(const struct lh_graph *graph, float norm)
{
    return graph->options.distance == LH_DISTANCE_EUCLIDEAN ? (double)norm * norm : 0.0;
}

/* A code distance of a graph as one that compares with those of other graphs. */
static double common_distance(const struct lh_graph *graph, float norm, float distance)
{
    double unit = unit_of(graph);
    return unit > 0 ? distance / unit : zero_distance(graph, norm);
}

/* The other way round. */
static float own_distance(const struct lh_graph *graph, double distance)
{
    return (float)fmax(-FLT_MAX, fmin(FLT_MAX, distance * unit_of(graph)));
}

/* Counts into `taken` how many of each pool are among the `n` nearest of all; returns the distance
 * of the last one, INFINITY when there are fewer. A linear look at every head: graphs are few. */
static double take_nearest(const struct team *team, uint32_t n)
{
    double nearest = -INFINITY;
    for (uint32_t g = 0; g < team->count; g++) {
        walk_of(team, g)->taken = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct lh__walk *best = NULL;
        nearest = INFINITY;
        for (uint32_t g = 0; g < team->count; g++) {
            struct lh__walk *walk = walk_of(team, g);
            if (walk->taken == walk->pool.count) {
                continue;
            }
            double distance =
                common_distance(team->graphs[g], team->norm, walk->pool.distances[walk->taken]);
            if (best == NULL || distance < nearest) {
                best = walk;
                nearest = distance;
            }
        }
        if (best == NULL) {
            break;
        }
        best->taken++;
    }
    return nearest;
}

/* ---- the search ---- */

/* Each graph's own search: its best `ef` are expanded, up to `ef_most` kept. */
static enum lh_status search_alone(struct team *team, const float *query, uint32_t ef,
                                   uint32_t ef_most)
{
    for (uint32_t g = 0; g < team->count; g++) {
        struct lh_graph *graph = team->graphs[g];
        struct lh__walk *walk = walk_of(team, g);
        uint32_t most = ef_most < graph->live ? ef_most : graph->live;
        walk->pool.count = 0;
        if (graph->live == 0) {
            continue;
        }
        if (lh__pool_reserve(&walk->pool, most) != LH_OK) {
            return LH_OUT_OF_MEMORY;
        }
        struct lh__encoded encoded = {.code = graph->query_code, .signs = graph->query_signs};
        lh__encode(graph, query, &encoded);
        team->norm = encoded.norm;
        walk->query = lh__query_make(graph, encoded.code, encoded.signs, encoded.weight);
        lh__walk_descend(graph, walk, 0, most);
        uint32_t same = lh__copies_find_row(graph, query, &encoded);
        if (same != LH__NIL) { /* a stored vector finds itself, whatever the graph */
            lh__walk_start_at(graph, walk, same);
        }
        walk->ef = ef < most ? ef : most;
        graph->kernels->beam(graph, walk, 1, 0);
    }
    return LH_OK;
}

/* Lets each graph go on with the candidates that may matter to the common answer. */
static void search_on(const struct team *team, uint32_t k, float slack)
{
    double nearest = take_nearest(team, k);
    double limit = nearest + slack * fabs(nearest);
    for (uint32_t g = 0; g < team->count; g++) {
        struct lh_graph *graph = team->graphs[g];
        if (graph->live > 0) {
            walk_of(team, g)->limit = own_distance(graph, limit);
            graph->kernels->beam(graph, walk_of(team, g), 1, 0);
        }
    }
}

/* How many hits a graph may have: what was taken of its pool, with copies up to `most`. */
static uint32_t hits_max(const struct team *team, uint32_t g, uint32_t most)
{
    uint32_t taken = walk_of(team, g)->taken;
    return team->graphs[g]->copies == 0 || taken > most ? taken : most;
}

static struct lh_hit *reserve_hits(struct lh_graph *graph, uint64_t count)
{
    if (count > graph->reranked_room) {
        struct lh_hit *hits = realloc(graph->reranked, count * sizeof *hits);
        if (hits == NULL) {
            return NULL;
        }
        graph->reranked = hits;
        graph->reranked_room = (uint32_t)count;
    }
    return graph->reranked;
}

/* Exact distances of what was taken, with its copies, sorted. Returns how many. */
static uint32_t rerank(const struct team *team, const float *query, uint32_t most,
                       struct lh_hit *hits)
{
    uint32_t count = 0;
    for (uint32_t g = 0; g < team->count; g++) {
        struct lh_graph *graph = team->graphs[g];
        struct lh__walk *walk = walk_of(team, g);
        struct lh_hit *own = hits + count;
        uint32_t own_max = hits_max(team, g, most);
        walk->pool.count = walk->taken;
        uint32_t own_count = lh__copies_expand(graph, &walk->pool, own_max, own_max, own);
        for (uint32_t i = 0; i < own_count; i++) {
            if (i + 4 < own_count) {
                prefetch_row(graph, own[i + 4].node);
            }
            own[i].distance = lh__exact_distance(graph, query, team->norm, own[i].node);
            own[i].graph = g;
        }
        graph->stats.reranked += own_count;
        count += own_count;
    }
    qsort(hits, count, sizeof *hits, compare_hits);
    return count;
}

enum lh_status lh_graphs_search(struct lh_graph *const *graphs, uint32_t count, const float *query,
                                const struct lh_search *search, struct lh_hit *hits,
                                uint32_t *found)
{
    struct team team = {.graphs = graphs, .count = count};
    uint32_t share = count == 0 ? 0 : (search->k + count - 1) / count;
    uint32_t ef = search->ef > share ? search->ef : share;
    uint32_t ef_most = search->ef_most > ef ? search->ef_most : ef;
    uint64_t exact = (uint64_t)ef * count / 4, room = 0;
    *found = 0;
    if (search->k == 0 || count == 0) {
        return LH_OK;
    }
    if (search_alone(&team, query, ef, ef_most) != LH_OK) {
        return LH_OUT_OF_MEMORY;
    }
    if (ef_most > ef) {
        search_on(&team, search->k, search->slack);
    }
    take_nearest(&team, exact > 2 * search->k ? (uint32_t)exact : 2 * search->k);
    for (uint32_t g = 0; g < count; g++) {
        room += hits_max(&team, g, ef_most);
    }
    if (room == 0) {
        return LH_OK;
    }
    struct lh_hit *ranked = reserve_hits(graphs[0], room);
    if (ranked == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    uint32_t ranked_count = rerank(&team, query, ef_most, ranked);
    *found = search->k < ranked_count ? search->k : ranked_count;
    for (uint32_t i = 0; i < *found; i++) {
        hits[i] = ranked[i];
    }
    return LH_OK;
}

enum lh_status lh_graph_search(struct lh_graph *graph, const float *query, uint32_t k, uint32_t ef,
                               struct lh_hit *hits, uint32_t *found)
{
    struct lh_search search = {.k = k, .ef = ef};
    return lh_graphs_search(&graph, 1, query, &search, hits, found);
}
