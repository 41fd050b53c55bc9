/* A finished HNSW graph's links, whoever built it, and one plain float32 search over them.
 *
 * Graphs of different libraries are compared by the number of distances that this one searcher
 * computes on each to reach a recall: it depends on the links alone, not on anyone's kernels,
 * heaps or memory layout, nor on the noise of the machine. */
#ifndef LH_BENCH_LINKS_H
#define LH_BENCH_LINKS_H

#include "dataset.h"
#include "hnsw/graph.h"
#include <stdbool.h>
#include <stdint.h>

#define LH_LINKS_MAX 512u /* links of one node on one level */

/* How to read a graph. Nodes are numbered as the rows that went in. */
struct lh_links_source {
    const void *graph;
    uint32_t count;
    uint32_t entry;
    uint32_t (*level)(const void *graph, uint32_t row);
    /* Writes the linked rows, at most LH_LINKS_MAX, and returns how many. */
    uint32_t (*links)(const void *graph, uint32_t row, uint32_t level, uint32_t *linked);
};

struct lh_links;

LH_MUST_USE enum lh_status lh_links_create(const struct lh_links_source *source,
                                           struct lh_links **links);

/* The same from an lh_graph; `nodes[row]` is the node that holds a row. */
LH_MUST_USE enum lh_status lh_links_create_from_graph(const struct lh_graph *graph,
                                                      const uint32_t *nodes, uint32_t count,
                                                      struct lh_links **links);
void lh_links_destroy(struct lh_links *links);

/* Mean number of links on level 0. */
double lh_links_degree(const struct lh_links *links);

/* The `k` rows nearest to `query` (unit length) by a beam of `ef`, algorithms 2 and 5 of Malkov and
 * Yashunin, nearest first. Adds the distances computed to `*distances`. */
uint32_t lh_links_search(struct lh_links *links, const struct lh_dataset *data, const float *query,
                         uint32_t k, uint32_t ef, uint32_t *rows, uint64_t *distances);

#endif
