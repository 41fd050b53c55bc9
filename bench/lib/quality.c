/* Finds the beam at which a search reaches a recall. One thread.
 *
 * Recall rises with ef, up to the noise of a finite set of queries: the beam is widened by halves
 * until the target is met, then bisected to a step of 3%, then interpolated. */
#include "quality.h"

#include "base/limits.h"
#include <stdio.h>
#include <stdlib.h>

bool lh_quality_find(const struct lh_probe *probe, uint32_t ef_min, double target,
                     struct lh_quality *quality)
{
    uint32_t low = ef_min, high = ef_min;
    double low_cost, high_cost, cost;
    double low_recall = probe->run(probe->arg, low, &low_cost), high_recall = low_recall;
    high_cost = low_cost;
    while (high_recall < target) {
        if (high == LH_EF_MAX)
            return false;
        low = high;
        low_recall = high_recall;
        low_cost = high_cost;
        high = high + high / 2 + 1;
        if (high > LH_EF_MAX)
            high = LH_EF_MAX;
        high_recall = probe->run(probe->arg, high, &high_cost);
    }
    while (high - low > 1 && high - low > low / 33) {
        uint32_t middle = low + (high - low) / 2;
        double recall = probe->run(probe->arg, middle, &cost);
        if (recall >= target) {
            high = middle;
            high_recall = recall;
            high_cost = cost;
        } else {
            low = middle;
            low_recall = recall;
            low_cost = cost;
        }
    }
    double part = high_recall > low_recall ? (target - low_recall) / (high_recall - low_recall) : 0;
    part = part < 0 ? 0 : part;
    quality->ef_whole = high;
    quality->ef = low + part * (high - low);
    quality->cost = low_cost + part * (high_cost - low_cost);
    return true;
}

double lh_links_probe_run(void *arg, uint32_t ef, double *cost)
{
    struct lh_links_probe *probe = arg;
    const struct lh_dataset *data = probe->data;
    uint64_t distances = 0, hits = 0;
    uint32_t rows[LH_EF_MAX];
    for (uint32_t q = 0; q < data->queries; q++) {
        const float *query = data->query_rows + (size_t)q * data->dimension;
        uint32_t found = lh_links_search(probe->links, data, query, probe->k, ef, rows, &distances);
        hits += lh_dataset_hits(data, q, rows, found, probe->k);
    }
    *cost = (double)distances / data->queries;
    return (double)hits / ((double)probe->k * data->queries);
}

double lh_graph_probe_run(void *arg, uint32_t ef, double *cost)
{
    struct lh_graph_probe *probe = arg;
    const struct lh_dataset *data = probe->data;
    uint64_t before = lh_graph_stats(probe->graph).distances, total_hits = 0;
    struct lh_hit hits[LH_EF_MAX];
    uint32_t rows[LH_EF_MAX];
    for (uint32_t q = 0; q < data->queries; q++) {
        const float *query = data->query_rows + (size_t)q * data->dimension;
        uint32_t found = 0;
        if (lh_graph_search(probe->graph, query, probe->k, ef, hits, &found) != LH_OK) {
            fprintf(stderr, "a search ran out of memory\n");
            exit(1);
        }
        for (uint32_t i = 0; i < found; i++)
            rows[i] = probe->rows[hits[i].node];
        total_hits += lh_dataset_hits(data, q, rows, found, probe->k);
    }
    *cost = (double)(lh_graph_stats(probe->graph).distances - before) / data->queries;
    return (double)total_hits / ((double)probe->k * data->queries);
}
