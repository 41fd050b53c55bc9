/* What one add, one update and one delete cost a large shard, and what many of them do to recall.
 *
 * `cost` fills a shard with --rows times --rounds items in batches of 16 (those past the file's
 * rows are mixed from two), tells how long the longest batches took and when they came, and then
 * times single changes. `churn` builds a graph of the rows whose every other node had another
 * vector first, then was updated, or removed and added again; its recall stands beside that of a
 * graph that had its rows from the beginning. One thread, and its processor time. */
#include "lib/bench.h"
#include "lib/items.h"
#include "lib/quality.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH   16u
#define CHANGES 4000u /* of each kind */
#define LONGEST 4u
#define POWER   65536u
#define K       10u

struct series {
    double *seconds;
    uint32_t count;
};

static void print_series(const char *what, struct series *series)
{
    double sum = 0;
    for (uint32_t i = 0; i < series->count; i++)
        sum += series->seconds[i];
    double median = lh_bench_median(series->seconds, series->count); /* sorts */
    printf("%-18s us: mean %7.1f, p50 %7.1f, p99 %7.1f, longest %7.1f\n", what,
           sum / series->count * 1e6, median * 1e6, series->seconds[series->count * 99 / 100] * 1e6,
           series->seconds[series->count - 1] * 1e6);
    fflush(stdout);
    series->count = 0;
}

/* ---- cost ---- */

struct slow {
    double seconds;
    uint32_t at; /* items before the batch */
};

/* Keeps the longest few, longest first. */
static void note(struct slow slowest[LONGEST], struct slow batch)
{
    for (uint32_t i = 0; i < LONGEST; i++)
        if (batch.seconds > slowest[i].seconds) {
            struct slow next = slowest[i];
            slowest[i] = batch;
            batch = next;
        }
}

static uint32_t fill(struct lh_items *items, uint32_t rounds, float *rows)
{
    const struct lh_dataset *data = items->data;
    uint64_t total = (uint64_t)data->count * rounds;
    uint32_t added = 0;
    double sum = 0;
    struct slow slowest[LONGEST] = {0}, at_power = {0};
    for (; added + BATCH <= total; added += BATCH) {
        const float *batch = data->rows + (size_t)added * data->dimension;
        if (added + BATCH > data->count) {
            for (uint32_t i = 0; i < BATCH; i++)
                lh_items_mix(items, rows + (size_t)i * data->dimension);
            batch = rows;
        }
        double took = lh_items_add(items, added, batch, BATCH);
        sum += took;
        note(slowest, (struct slow){took, added});
        if (added % POWER == 0 && took > at_power.seconds)
            at_power = (struct slow){took, added};
    }
    printf("%u items, %.0f adds/s; longest batches of %u:", added, added / sum, BATCH);
    for (uint32_t i = 0; i < LONGEST; i++)
        printf(" %.2f ms at %u%s", slowest[i].seconds * 1e3, slowest[i].at,
               i + 1 < LONGEST ? "," : "\n");
    printf("where tables end a page together, at multiples of %u: %.2f ms at %u\n", POWER,
           at_power.seconds * 1e3, at_power.at);
    fflush(stdout);
    return added;
}

static void cost(const struct lh_bench_options *options, const struct lh_dataset *data)
{
    struct lh_graph_options graph = {.dimension = data->dimension,
                                     .distance = LH_DISTANCE_COSINE,
                                     .m = options->m,
                                     .ef_construction = options->ef_construction,
                                     .seed = options->seed};
    struct lh_items items = {.data = data, .random = options->seed};
    float *rows = lh_bench_alloc((size_t)BATCH * data->dimension, sizeof *rows);
    uint32_t *deleted = lh_bench_alloc(CHANGES, sizeof *deleted);
    struct series series = {.seconds = lh_bench_alloc(CHANGES, sizeof(double))};
    lh_bench_check(lh_shard_create(&graph, &items.shard), "create");
    uint32_t added = fill(&items, options->rounds, rows);
    for (; series.count < CHANGES; series.count++) {
        lh_items_mix(&items, rows);
        series.seconds[series.count] = lh_items_add(&items, added + series.count, rows, 1);
    }
    print_series("add", &series);
    for (; series.count < CHANGES; series.count++) {
        lh_items_mix(&items, rows);
        series.seconds[series.count] = lh_items_add(&items, lh_items_below(&items, added), rows, 1);
    }
    print_series("update", &series);
    for (; series.count < CHANGES; series.count++) {
        uint32_t part = added / CHANGES;
        deleted[series.count] = series.count * part + lh_items_below(&items, part);
        series.seconds[series.count] = lh_items_delete(&items, deleted[series.count]);
    }
    print_series("delete", &series);
    for (; series.count < CHANGES; series.count++) {
        lh_items_mix(&items, rows);
        series.seconds[series.count] = lh_items_add(&items, deleted[series.count], rows, 1);
    }
    print_series("add where deleted", &series);
    lh_shard_destroy(items.shard);
    free(series.seconds);
    free(deleted);
    free(rows);
}

/* ---- churn ---- */

static const uint32_t beams[] = {32, 64, 128, 256};

static void print_recall(const char *what, struct lh_graph *graph, const struct lh_dataset *data,
                         const uint32_t *nodes)
{
    uint32_t *rows = lh_bench_alloc(lh_graph_slots(graph), sizeof *rows);
    struct lh_graph_probe probe = {.graph = graph, .data = data, .rows = rows, .k = K};
    struct lh_error error;
    lh_bench_check(lh_graph_validate(graph, &error), error.text);
    for (uint32_t row = 0; row < data->count; row++)
        rows[nodes[row]] = row;
    printf("%-18s", what);
    for (uint32_t i = 0; i < sizeof beams / sizeof *beams; i++) {
        double codes, recall = lh_graph_probe_run(&probe, beams[i], &codes);
        printf(" | ef %u: recall@%u %.4f, %.0f codes", beams[i], K, recall, codes);
    }
    printf("\n");
    fflush(stdout);
    free(rows);
}

/* Gives every other row its vector, in random order. */
static void replace_half(struct lh_graph *graph, const struct lh_dataset *data, uint32_t *nodes,
                         struct lh_items *random)
{
    uint32_t half = data->count / 2;
    uint32_t *order = lh_bench_alloc(half, sizeof *order);
    for (uint32_t i = 0; i < half; i++) {
        uint32_t j = lh_items_below(random, i + 1);
        order[i] = order[j];
        order[j] = 2 * i + 1;
    }
    double start = lh_bench_cpu_seconds();
    for (uint32_t i = 0; i < half; i++) {
        const float *row = data->rows + (size_t)order[i] * data->dimension;
        if (i % 2 == 0) {
            lh_graph_update(graph, nodes[order[i]], row);
            continue;
        }
        lh_graph_remove(graph, nodes[order[i]]);
        lh_bench_check(lh_graph_reserve(graph, 1), "reserve");
        lh_graph_add(graph, row, 1, &nodes[order[i]]);
    }
    printf("replaced %u rows, %.1f us each\n", half, (lh_bench_cpu_seconds() - start) / half * 1e6);
    free(order);
}

static void churn(const struct lh_bench_options *options, const struct lh_dataset *data)
{
    uint32_t *nodes = lh_bench_alloc(data->count, sizeof *nodes);
    float *rows = lh_bench_alloc((size_t)data->count * data->dimension, sizeof *rows);
    struct lh_items random = {.data = data, .random = options->seed};
    memcpy(rows, data->rows, (size_t)data->count * data->dimension * sizeof *rows);
    for (uint32_t row = 1; row < data->count; row += 2)
        lh_items_mix(&random, rows + (size_t)row * data->dimension);
    struct lh_graph *fresh = lh_bench_graph(options, data->dimension, options->seed);
    lh_bench_add(fresh, options, data->rows, data->dimension, 0, data->count, nodes);
    print_recall("fresh", fresh, data, nodes);
    lh_graph_destroy(fresh);
    struct lh_graph *graph = lh_bench_graph(options, data->dimension, options->seed);
    lh_bench_add(graph, options, rows, data->dimension, 0, data->count, nodes);
    replace_half(graph, data, nodes, &random);
    print_recall("half replaced", graph, data, nodes);
    lh_graph_destroy(graph);
    free(rows);
    free(nodes);
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 100000,
                                       .queries = 1000,
                                       .rounds = 1,
                                       .batch = BATCH,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1};
    lh_bench_options(argc, argv,
                     "bench_update: single adds, updates and deletes at --rows times --rounds "
                     "items; recall@10 after half\nof the rows were replaced.\n"
                     "--only: cost, or churn\n",
                     &options);
    struct lh_dataset data;
    bool all = options.only == NULL;
    lh_bench_load(&options, K, &data);
    lh_bench_print_setting(&options, &data);
    if (all || strcmp(options.only, "cost") == 0)
        cost(&options, &data);
    if (all || strcmp(options.only, "churn") == 0)
        churn(&options, &data);
    lh_dataset_deinit(&data);
    return 0;
}
