/* Recall and work of one graph's own search, by ef, and where it reaches the targets. One thread.
 *
 * `codes` are int8 distances, `rows` float32 ones (the rerank); `links` is the one float32 searcher
 * of lib/links.c on the same graph: what the graph could give without codes. */
#include "lib/bench.h"
#include "lib/quality.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define K      10u
#define PASSES 5u

static const uint32_t beams[] = {10, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512};
static const double targets[] = {0.90, 0.95, 0.99};

#define BEAMS   (sizeof beams / sizeof beams[0])
#define TARGETS (sizeof targets / sizeof targets[0])

static void by_beam(struct lh_graph_probe *own, struct lh_links_probe *plain)
{
    printf("   ef | recall@%u   codes    rows expanded searches/s | links: recall@%u distances\n",
           K, K);
    for (uint32_t i = 0; i < BEAMS; i++) {
        double codes, distances, recall = 0, passes[PASSES];
        struct lh_graph_stats before = lh_graph_stats(own->graph);
        for (uint32_t pass = 0; pass < PASSES; pass++) {
            double start = lh_bench_cpu_seconds();
            recall = lh_graph_probe_run(own, beams[i], &codes);
            passes[pass] = own->data->queries / (lh_bench_cpu_seconds() - start);
        }
        struct lh_graph_stats after = lh_graph_stats(own->graph);
        double searches = (double)PASSES * own->data->queries;
        double plain_recall = lh_links_probe_run(plain, beams[i], &distances);
        printf("%5u |    %.4f %7.0f %7.0f %8.0f %10.0f |        %.4f %9.0f\n", beams[i], recall,
               codes, (after.reranked - before.reranked) / searches,
               (after.expanded - before.expanded) / searches, lh_bench_median(passes, PASSES),
               plain_recall, distances);
        fflush(stdout);
    }
}

static void by_target(struct lh_graph_probe *own, struct lh_links_probe *plain)
{
    struct lh_probe probes[] = {{own, lh_graph_probe_run}, {plain, lh_links_probe_run}};
    static const char *names[] = {"own search", "links"};
    for (uint32_t p = 0; p < 2; p++)
        for (uint32_t t = 0; t < TARGETS; t++) {
            struct lh_quality quality;
            if (lh_quality_find(&probes[p], K, targets[t], &quality))
                printf("%-10s recall@%u %.2f at ef %6.1f with %6.0f distances\n", names[p], K,
                       targets[t], quality.ef, quality.cost);
            else
                printf("%-10s never reaches recall@%u %.2f\n", names[p], K, targets[t]);
        }
}

/* A vector that is in the graph must come back first, at distance 0; cosine of equal directions. */
static void find_oneself(struct lh_graph *graph, const struct lh_dataset *data,
                         const uint32_t *nodes)
{
    uint32_t tried = data->count < 10000 ? data->count : 10000, first = 0;
    double worst = 0;
    for (uint32_t row = 0; row < tried; row++) {
        struct lh_hit hit;
        uint32_t found;
        lh_bench_check(lh_graph_search(graph, data->rows + (size_t)row * data->dimension, 1, 128,
                                       &hit, &found),
                       "search");
        first += found == 1 && hit.node == nodes[row];
        worst = found == 1 ? fmax(worst, fabs(hit.distance)) : INFINITY;
    }
    printf("of %u stored vectors, %u find themselves first at ef 128; largest distance %.2g\n",
           tried, first, worst);
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 100000,
                                       .queries = 1000,
                                       .rounds = 1,
                                       .batch = 64,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1};
    lh_bench_options(
        argc, argv,
        "bench_recall: recall@10, distances and searches/s of one graph by ef, --rounds "
        "graphs with a seed each.\n",
        &options);
    struct lh_dataset data;
    lh_bench_load(&options, K, &data);
    lh_bench_print_setting(&options, &data);
    uint32_t *nodes = lh_bench_alloc(data.count, sizeof *nodes);
    uint32_t *rows = lh_bench_alloc(data.count, sizeof *rows);
    for (uint32_t round = 0; round < options.rounds; round++) {
        struct lh_graph *graph = lh_bench_graph(&options, data.dimension, options.seed + round);
        struct lh_links *links;
        double seconds =
            lh_bench_add(graph, &options, data.rows, data.dimension, 0, data.count, nodes);
        for (uint32_t row = 0; row < data.count; row++)
            rows[nodes[row]] = row;
        lh_bench_check(lh_links_create_from_graph(graph, nodes, data.count, &links), "links");
        printf("seed %u: built at %.0f adds/s, %.1f codes compared an add, %.1f links a node\n",
               (uint32_t)options.seed + round, data.count / seconds,
               (double)lh_graph_stats(graph).distances / data.count, lh_links_degree(links));
        struct lh_graph_probe own = {.graph = graph, .data = &data, .rows = rows, .k = K};
        struct lh_links_probe plain = {.links = links, .data = &data, .k = K};
        by_beam(&own, &plain);
        by_target(&own, &plain);
        find_oneself(graph, &data, nodes);
        lh_links_destroy(links);
        lh_graph_destroy(graph);
    }
    free(nodes);
    free(rows);
    lh_dataset_deinit(&data);
    return 0;
}
