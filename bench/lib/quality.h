/* Where a search reaches a recall, and how much work it does there. */
#ifndef LH_BENCH_QUALITY_H
#define LH_BENCH_QUALITY_H

#include "links.h"
#include <stdbool.h>
#include <stdint.h>

/* One way of searching: answers all queries with a beam of `ef`, returns the recall and the mean
 * cost of a query in the probe's own unit. */
struct lh_probe {
    void *arg;
    double (*run)(void *arg, uint32_t ef, double *cost);
};

struct lh_quality {
    uint32_t ef_whole; /* the smallest ef tried that reached the target */
    double ef;         /* between two tried ones, by linear interpolation */
    double cost;       /* the same */
};

/* The smallest ef, from `ef_min` up, whose recall is `target`. False when none up to LH_EF_MAX. */
bool lh_quality_find(const struct lh_probe *probe, uint32_t ef_min, double target,
                     struct lh_quality *quality);

/* A probe of the float32 searcher; the cost is distances computed. */
struct lh_links_probe {
    struct lh_links *links;
    const struct lh_dataset *data;
    uint32_t k;
};
double lh_links_probe_run(void *arg, uint32_t ef, double *cost);

/* A probe of lh_graph_search; the cost is codes compared. `rows[node]` is the row of a node. */
struct lh_graph_probe {
    struct lh_graph *graph;
    const struct lh_dataset *data;
    const uint32_t *rows;
    uint32_t k;
};
double lh_graph_probe_run(void *arg, uint32_t ef, double *cost);

#endif
