/* Rows, queries and their exact neighbours, for benches. One thread.
 *
 * fbin: u32 rows, u32 dimensions, float32 rows, little-endian. */
#include "dataset.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRUTH_BLOCK_ROWS \
    256u /* a block of rows stays in the cache while all queries pass over it */

float lh_dataset_dot(const float *a, const float *b, uint32_t dimension)
{
    float sum = 0;
    for (uint32_t i = 0; i < dimension; i++)
        sum += a[i] * b[i];
    return sum;
}

static void to_unit(float *to, const float *from, uint32_t dimension)
{
    double squares = 0;
    for (uint32_t i = 0; i < dimension; i++)
        squares += (double)from[i] * from[i];
    float scale = (float)(1 / sqrt(squares + 1e-30));
    for (uint32_t i = 0; i < dimension; i++)
        to[i] = from[i] * scale;
}

/* Puts a row into a query's sorted list of nearest ones when it belongs there. */
static void keep_nearest(uint32_t *rows, float *dots, uint32_t k, uint32_t row, float dot)
{
    if (dot <= dots[k - 1])
        return;
    uint32_t at = k - 1;
    for (; at > 0 && dots[at - 1] < dot; at--) {
        dots[at] = dots[at - 1];
        rows[at] = rows[at - 1];
    }
    dots[at] = dot;
    rows[at] = row;
}

static enum lh_status find_truth(struct lh_dataset *data)
{
    size_t entries = (size_t)data->queries * data->truth_k;
    float *dots = malloc(entries * sizeof *dots);
    data->truth = malloc(entries * sizeof *data->truth);
    if (dots == NULL || data->truth == NULL) {
        free(dots);
        return LH_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < entries; i++) {
        dots[i] = -INFINITY;
        data->truth[i] = UINT32_MAX;
    }
    for (uint32_t start = 0; start < data->count; start += TRUTH_BLOCK_ROWS) {
        uint32_t end =
            start + TRUTH_BLOCK_ROWS < data->count ? start + TRUTH_BLOCK_ROWS : data->count;
        for (uint32_t q = 0; q < data->queries; q++) {
            const float *query = data->query_rows + (size_t)q * data->dimension;
            for (uint32_t row = start; row < end; row++) {
                const float *unit = data->units + (size_t)row * data->dimension;
                keep_nearest(data->truth + (size_t)q * data->truth_k,
                             dots + (size_t)q * data->truth_k, data->truth_k, row,
                             lh_dataset_dot(query, unit, data->dimension));
            }
        }
    }
    free(dots);
    return LH_OK;
}

static enum lh_status read_rows(FILE *file, const char *path, struct lh_dataset *data,
                                struct lh_error *error)
{
    size_t row_bytes = data->dimension * sizeof(float);
    data->rows = malloc(data->count * row_bytes);
    data->units = malloc(data->count * row_bytes);
    data->query_rows = malloc(data->queries * row_bytes);
    if (data->rows == NULL || data->units == NULL || data->query_rows == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "%s: no memory for its rows", path);
    if (fread(data->rows, row_bytes, data->count, file) != data->count ||
        fseek(file, -(long)(data->queries * row_bytes), SEEK_END) != 0 ||
        fread(data->query_rows, row_bytes, data->queries, file) != data->queries)
        return lh_error_set(error, LH_IO, "%s: shorter than its header says", path);
    for (uint32_t i = 0; i < data->count; i++)
        to_unit(data->units + (size_t)i * data->dimension, data->rows + (size_t)i * data->dimension,
                data->dimension);
    for (uint32_t i = 0; i < data->queries; i++) {
        float *row = data->query_rows + (size_t)i * data->dimension;
        to_unit(row, row, data->dimension);
    }
    return LH_OK;
}

enum lh_status lh_dataset_load(const char *path, uint32_t count, uint32_t queries, uint32_t truth_k,
                               struct lh_dataset *data, struct lh_error *error)
{
    *data = (struct lh_dataset){.count = count, .queries = queries, .truth_k = truth_k};
    enum lh_status status = LH_OK;
    uint32_t head[2];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return lh_error_sys(error, LH_IO, errno, "%s", path);
    if (fread(head, sizeof head, 1, file) != 1 || head[1] == 0) {
        status = lh_error_set(error, LH_IO, "%s: no fbin header", path);
        goto done;
    }
    if ((uint64_t)count + queries > head[0] || truth_k > count) {
        status = lh_error_set(error, LH_INVALID_ARGUMENT,
                              "%s: %u rows, not enough for %u and %u queries", path, head[0], count,
                              queries);
        goto done;
    }
    data->dimension = head[1];
    status = read_rows(file, path, data, error);
    if (status == LH_OK && find_truth(data) != LH_OK)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "%s: no memory for neighbours", path);

done:
    fclose(file);
    if (status != LH_OK)
        lh_dataset_deinit(data);
    return status;
}

void lh_dataset_deinit(struct lh_dataset *data)
{
    free(data->rows);
    free(data->units);
    free(data->query_rows);
    free(data->truth);
    *data = (struct lh_dataset){0};
}

uint32_t lh_dataset_hits(const struct lh_dataset *data, uint32_t query, const uint32_t *rows,
                         uint32_t found, uint32_t k)
{
    const uint32_t *truth = data->truth + (size_t)query * data->truth_k;
    uint32_t hits = 0;
    for (uint32_t i = 0; i < found; i++)
        for (uint32_t j = 0; j < k; j++)
            if (truth[j] == rows[i]) {
                hits++;
                break;
            }
    return hits;
}
