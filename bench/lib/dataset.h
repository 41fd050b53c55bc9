/* Rows and queries from an fbin file, with each query's exact nearest neighbours. */
#ifndef LH_BENCH_DATASET_H
#define LH_BENCH_DATASET_H

#include "base/status.h"
#include <stdint.h>

struct lh_dataset {
    uint32_t dimension;
    uint32_t count;
    uint32_t queries;
    uint32_t truth_k;
    float *rows;       /* count x dimension, as in the file */
    float *units;      /* the same at unit length */
    float *query_rows; /* queries x dimension, at unit length */
    uint32_t *truth;   /* queries x truth_k row numbers, nearest by cosine first */
};

/* The file's first `count` rows, and its last `queries` rows as queries, which must not overlap.
 * Exact neighbours are found by comparing every query with every row. */
LH_MUST_USE enum lh_status lh_dataset_load(const char *path, uint32_t count, uint32_t queries,
                                           uint32_t truth_k, struct lh_dataset *data,
                                           struct lh_error *error);
void lh_dataset_deinit(struct lh_dataset *data);

/* How many of `found` rows are among the query's `k` nearest. */
uint32_t lh_dataset_hits(const struct lh_dataset *data, uint32_t query, const uint32_t *rows,
                         uint32_t found, uint32_t k);

/* The dot product of two rows. */
float lh_dataset_dot(const float *a, const float *b, uint32_t dimension);

#endif
