/* Adds to one graph, in process: one vector at a time, and in batches of 16, 128 and 1024.
 *
 * The graphs of the four batch sizes grow side by side in turns of a twentieth of the rows, so that
 * a noisy moment of the machine meets all. Every call reserves its room first, as the server does.
 * A call's time is processor time, and includes normalising, coding, searching and linking. One
 * thread. */
#include "lib/bench.h"

#include <stdio.h>
#include <stdlib.h>

#define TURNS 20u
#define SIZES 4u

static const uint32_t sizes[SIZES] = {1, 16, 128, 1024};

struct series {
    struct lh_graph *graph;
    uint32_t *nodes;
    double *call_s;
    uint32_t calls;
    double total_s;
};

static void add_turn(struct series *series, uint32_t batch, const struct lh_bench_options *options,
                     const struct lh_dataset *data, uint32_t from, uint32_t to)
{
    struct lh_bench_options one_call = *options;
    one_call.batch = batch;
    for (uint32_t row = from; row < to; row += batch) {
        uint32_t end = to - row < batch ? to : row + batch;
        double seconds = lh_bench_add(series->graph, &one_call, data->rows, data->dimension, row,
                                      end, series->nodes);
        series->total_s += seconds;
        if (end - row == batch)
            series->call_s[series->calls++] = seconds;
    }
}

static void run_round(const struct lh_bench_options *options, const struct lh_dataset *data,
                      uint32_t round)
{
    struct series series[SIZES] = {0};
    for (uint32_t i = 0; i < SIZES; i++) {
        series[i].graph = lh_bench_graph(options, data->dimension, options->seed + round);
        series[i].nodes = lh_bench_alloc(data->count, sizeof *series[i].nodes);
        series[i].call_s = lh_bench_alloc(data->count / sizes[i] + 1, sizeof *series[i].call_s);
    }
    for (uint32_t turn = 0; turn < TURNS; turn++)
        for (uint32_t i = 0; i < SIZES; i++) {
            uint64_t rows = data->count;
            uint32_t which = (i + turn) % SIZES;
            add_turn(&series[which], sizes[which], options, data, (uint32_t)(rows * turn / TURNS),
                     (uint32_t)(rows * (turn + 1) / TURNS));
        }
    for (uint32_t i = 0; i < SIZES; i++) {
        struct series *s = &series[i];
        double p50 = lh_bench_median(s->call_s, s->calls); /* sorts */
        printf(
            "seed %-3u N=%-5u %8.0f adds/s | x%.2f of N=1 | a call: p50 %8.1f us, p99 %8.1f us\n",
            (uint32_t)options->seed + round, sizes[i], data->count / s->total_s,
            series[0].total_s / s->total_s, p50 * 1e6, s->call_s[s->calls * 99u / 100] * 1e6);
        lh_graph_destroy(s->graph);
        free(s->nodes);
        free(s->call_s);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 50000,
                                       .queries = 1,
                                       .rounds = 3,
                                       .batch = 1,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1};
    lh_bench_options(argc, argv,
                     "bench_insert: adds/s of one graph from empty to --rows, for calls of 1, 16, "
                     "128 and 1024\nvectors, interleaved.\n",
                     &options);
    struct lh_dataset data;
    if (options.rows < sizes[SIZES - 1] * TURNS) {
        fprintf(stderr, "--rows: at least %u\n", sizes[SIZES - 1] * TURNS);
        return 2;
    }
    lh_bench_load(&options, 1, &data);
    printf("# the batch sizes are 1, 16, 128 and 1024, whatever the next line says\n");
    lh_bench_print_setting(&options, &data);
    for (uint32_t round = 0; round < options.rounds; round++)
        run_round(&options, &data, round);
    lh_dataset_deinit(&data);
    return 0;
}
