/* One HNSW graph: vectors in, nearest neighbours out.
 *
 * Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
 * Navigable Small World graphs" (2018). No threads, no I/O, no locks: one owner calls everything.
 * A node number stays with its vector from add to remove, updates included, and is then reused.
 */
#ifndef LH_HNSW_GRAPH_H
#define LH_HNSW_GRAPH_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lh_distance {
    LH_DISTANCE_COSINE,    /* 1 - cos */
    LH_DISTANCE_EUCLIDEAN, /* root of the sum of squares */
    LH_DISTANCE_DOT        /* -dot */
};

struct lh_graph;

struct lh_graph_options {
    uint32_t dimension; /* 1..LH_DIMENSION_MAX */
    enum lh_distance distance;
    uint32_t m;               /* links a node on upper levels; 2m on level 0 */
    uint32_t ef_construction; /* a promise of quality: hnswlib's graph at this value */
    uint64_t seed;            /* levels and rotation; the same seed and adds give the same graph */
};

struct lh_hit {
    float distance; /* exact in float32, in the unit of lh_distance */
    uint32_t node;
    uint32_t graph; /* which one, in a search of several */
};

/* Work done since creation; benches and /metrics read it. */
struct lh_graph_stats {
    uint64_t distances; /* codes compared, building and searching */
    uint64_t reranked;  /* float32 rows compared */
    uint64_t expanded;  /* nodes whose links were read in searches */
};

LH_MUST_USE enum lh_status lh_graph_create(const struct lh_graph_options *options,
                                           struct lh_graph **graph);
void lh_graph_destroy(struct lh_graph *graph);

/* Makes room for `more` further nodes. LH_OUT_OF_MEMORY leaves the graph as it was; after LH_OK,
 * adding that many vectors cannot fail. */
LH_MUST_USE enum lh_status lh_graph_reserve(struct lh_graph *graph, uint32_t more);

/* Adds `count` rows of `dimension` float32 (packed, finite; not zero under cosine) and writes
 * their node numbers. Room must have been reserved. */
void lh_graph_add(struct lh_graph *graph, const float *rows, uint32_t count, uint32_t *nodes);

/* Gives a node another vector and links it anew; its number stays. */
void lh_graph_update(struct lh_graph *graph, uint32_t node, const float *row);

/* Unlinks a node, repairs its neighbours and frees its slot. The last one can go. */
void lh_graph_remove(struct lh_graph *graph, uint32_t node);

/* The `k` nearest to `query` (dimension float32), nearest first, fewer when the graph holds fewer.
 * `ef` below k is raised to k. `hits` has room for k. LH_OUT_OF_MEMORY when scratch cannot grow. */
LH_MUST_USE enum lh_status lh_graph_search(struct lh_graph *graph, const float *query, uint32_t k,
                                           uint32_t ef, struct lh_hit *hits, uint32_t *found);

/* How a search of several graphs goes: each expands its `ef` nearest candidates, then goes on, up
 * to `ef_most`, while it has some that are at most a share `slack` farther than the k-th nearest
 * that all graphs together have found. An `ef_most` below ef means ef. */
struct lh_search {
    uint32_t k;
    uint32_t ef;
    uint32_t ef_most;
    float slack;
};

/* The `k` nearest of all `count` graphs together, as lh_graph_search for one. The graphs have one
 * owner and equal options but for their seeds. Together they hold at least k candidates: `ef` is
 * raised to k / count. The stop is that of distance-adaptive beam search (Al-Jazzazi et al., 2025),
 * with the k-th distance of the union. Which graphs are searched together, not their order, decides
 * what is found; of equal distances, the lower graph's come first. */
LH_MUST_USE enum lh_status lh_graphs_search(struct lh_graph *const *graphs, uint32_t count,
                                            const float *query, const struct lh_search *search,
                                            struct lh_hit *hits, uint32_t *found);

/* The vector as it went in: `dimension` float32, valid until the next add, update or remove. */
const float *lh_graph_row(const struct lh_graph *graph, uint32_t node);

uint32_t lh_graph_count(const struct lh_graph *graph); /* live nodes */
uint32_t lh_graph_slots(const struct lh_graph *graph); /* node numbers are below this */
bool lh_graph_is_live(const struct lh_graph *graph, uint32_t node);
uint64_t lh_graph_bytes(const struct lh_graph *graph); /* memory held */
struct lh_graph_stats lh_graph_stats(const struct lh_graph *graph);

/* Checks every invariant (links in range, linked, distinct, on existing levels, within degree;
 * every linked node reachable from the entry point on level 0; backlinks; copies; entry point; free
 * list; codes that match rows). LH_CORRUPT names the first that fails. */
LH_MUST_USE enum lh_status lh_graph_validate(const struct lh_graph *graph, struct lh_error *error);

/* Read-only view of the links, for benches, tests and (later) files. Level 0 first. `links` points
 * into the graph; unused slots are left out of `count`. A vector that is there already is not
 * linked but kept as a copy: its only link, on level 0, is to the copy before it or to the node
 * that is linked. */
uint32_t lh_graph_level(const struct lh_graph *graph, uint32_t node);
const uint32_t *lh_graph_links(const struct lh_graph *graph, uint32_t node, uint32_t level,
                               uint32_t *count);
bool lh_graph_entry(const struct lh_graph *graph, uint32_t *node); /* false when empty */

/* The kernels chosen for this process: "avx512-vnni", "avx512", "avx2", "neon" or "scalar". */
const char *lh_graph_kernels(void);

#endif
