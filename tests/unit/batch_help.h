/* Batches of numbered items ("id-7") for the tests of shards and workers, made without a decoder.
 */
#ifndef LH_TESTS_BATCH_HELP_H
#define LH_TESTS_BATCH_HELP_H

#include "ext/decode.h"
#include "shards/placement.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_batch {
    struct lh_batch batch;
    uint64_t *hashes;
    uint32_t *numbers; /* 0, 1, 2, ... */
    uint32_t capacity;
};

static inline void *test_must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static inline struct lh_str test_id(uint32_t number, char out[16])
{
    int len = snprintf(out, 16, "id-%u", number);
    return (struct lh_str){out, (size_t)len};
}

/* UINT32_MAX when it is none of these ids. */
static inline uint32_t test_id_number(struct lh_str id)
{
    uint64_t number;
    struct lh_str digits = {id.ptr + 3, id.len - 3};
    if (id.len < 4 || memcmp(id.ptr, "id-", 3) != 0 || !lh_str_to_u64(digits, &number))
        return UINT32_MAX;
    return (uint32_t)number;
}

static inline void test_batch_init(struct test_batch *made, uint32_t dimension)
{
    *made = (struct test_batch){
        .batch = {.dimension = dimension, .odd_item = LH_NO_ITEM, .zero_item = LH_NO_ITEM}};
}

static inline void test_batch_add(struct test_batch *made, uint32_t number, const float *row,
                                  const char *metadata)
{
    char id[16];
    struct lh_batch *batch = &made->batch;
    if (batch->count == made->capacity) {
        uint32_t room = made->capacity ? 2 * made->capacity : 64;
        size_t row_bytes = batch->dimension * sizeof(float);
        batch->items = test_must(realloc(batch->items, room * sizeof *batch->items));
        batch->rows = test_must(realloc(batch->rows, room * row_bytes));
        made->hashes = test_must(realloc(made->hashes, room * sizeof *made->hashes));
        made->numbers = test_must(realloc(made->numbers, room * sizeof *made->numbers));
        made->capacity = room;
    }
    uint32_t i = batch->count++;
    struct lh_str text = test_id(number, id);
    batch->items[i] = (struct lh_batch_item){.dimension = batch->dimension};
    batch->items[i].id = (struct lh_str){test_must(strdup(id)), text.len};
    if (metadata != NULL)
        batch->items[i].metadata = (struct lh_str){test_must(strdup(metadata)), strlen(metadata)};
    memcpy(batch->rows + (size_t)i * batch->dimension, row, batch->dimension * sizeof *row);
    made->hashes[i] = lh_placement_hash(text);
    made->numbers[i] = i;
}

static inline void test_batch_deinit(struct test_batch *made)
{
    for (uint32_t i = 0; i < made->batch.count; i++) {
        free((char *)made->batch.items[i].id.ptr);
        free((char *)made->batch.items[i].metadata.ptr);
    }
    free(made->batch.items);
    free(made->batch.rows);
    free(made->hashes);
    free(made->numbers);
    *made = (struct test_batch){0};
}

#endif
