/* What every bench needs: its options, a median, and a graph filled with rows. */
#ifndef LH_BENCH_BENCH_H
#define LH_BENCH_BENCH_H

#include "dataset.h"
#include "hnsw/graph.h"
#include <stdint.h>

struct lh_bench_options {
    const char *data;
    uint32_t rows;
    uint32_t queries;
    uint32_t rounds;
    uint32_t batch; /* rows in one lh_graph_add */
    uint32_t m;
    uint32_t ef_construction;
    uint64_t seed;
    const char *only; /* a bench's own list of what to run, NULL for all */
};

/* Reads --data FILE --rows N --queries N --rounds N --batch N --m N --efc N --seed N --only WORDS
 * over the bench's defaults. Without arguments, or with --help, prints `about` and the options and
 * exits; a wrong option exits 2. */
void lh_bench_options(int argc, char **argv, const char *about, struct lh_bench_options *options);

/* Prints the data, the parameters, the kernels and the processor, so that output explains itself.
 */
void lh_bench_print_setting(const struct lh_bench_options *options, const struct lh_dataset *data);

/* Loads the data or exits with the reason. */
void lh_bench_load(const struct lh_bench_options *options, uint32_t truth_k,
                   struct lh_dataset *data);

/* Sorts, and returns the middle one (the mean of the middle two). */
double lh_bench_median(double *values, uint32_t count);

/* Seconds of the monotonic clock. */
double lh_bench_seconds(void);

/* Seconds of processor time of the calling thread. One-thread figures are taken with it: on a
 * machine shared with others it leaves out the time when something else ran. */
double lh_bench_cpu_seconds(void);

/* A graph for cosine and these options, or exit. */
struct lh_graph *lh_bench_graph(const struct lh_bench_options *options, uint32_t dimension,
                                uint64_t seed);

/* Exits with the status's text when it is not LH_OK. */
void lh_bench_check(enum lh_status status, const char *what);

/* Adds rows [from, to) in batches of options->batch and writes their nodes. Returns the
 * thread's seconds of processor time. */
double lh_bench_add(struct lh_graph *graph, const struct lh_bench_options *options,
                    const float *rows, uint32_t dimension, uint32_t from, uint32_t to,
                    uint32_t *nodes);

/* Allocates and cannot return NULL. */
void *lh_bench_alloc(size_t count, size_t size);

#endif
