/* Batches: one array of items, one aligned array of rows, and the bytes of ids and metadata in a
 * few chunks. Owned by one thread at a time.
 *
 * Invariants: item i's row is rows[i * dimension]; chunks never move, so an item's strings stay
 * where they are while the batch grows. */
#include "ext/batch.h"

#include <assert.h>
#include <stdlib.h>

#define CHUNK_BYTES   65536u
#define ROW_ALIGNMENT 64u

struct chunk {
    struct chunk *next;
    size_t used;
    size_t cap;
    char bytes[];
};

struct memory {
    struct chunk *chunks; /* the one being filled first */
    size_t items_cap;
    size_t rows_cap; /* floats */
};

void lh_batch_init(struct lh_batch *batch)
{
    *batch = (struct lh_batch){.odd_item = LH_NO_ITEM, .zero_item = LH_NO_ITEM};
}

void lh_batch_deinit(struct lh_batch *batch)
{
    struct memory *memory = batch->memory;
    if (memory != NULL) {
        while (memory->chunks != NULL) {
            struct chunk *next = memory->chunks->next;
            free(memory->chunks);
            memory->chunks = next;
        }
        free(memory);
    }
    free(batch->items);
    free(batch->rows);
    lh_batch_init(batch);
}

static struct memory *memory_of(struct lh_batch *batch)
{
    if (batch->memory == NULL) {
        batch->memory = calloc(1, sizeof(struct memory));
        batch->bytes += batch->memory == NULL ? 0 : sizeof(struct memory);
    }
    return batch->memory;
}

char *lh_batch_bytes(struct lh_batch *batch, size_t len)
{
    struct memory *memory = memory_of(batch);
    struct chunk *chunk;
    if (memory == NULL) {
        return NULL;
    }
    chunk = memory->chunks;
    if (chunk == NULL || chunk->cap - chunk->used < len) {
        /* Small batches are many and short-lived: the first chunk fits what it is made for. */
        size_t cap = chunk == NULL ? 512 : CHUNK_BYTES;
        cap = len > cap ? len : cap;
        chunk = malloc(sizeof *chunk + cap);
        if (chunk == NULL) {
            return NULL;
        }
        *chunk = (struct chunk){.next = memory->chunks, .cap = cap};
        memory->chunks = chunk;
        batch->bytes += sizeof *chunk + cap;
    }
    chunk->used += len;
    return chunk->bytes + chunk->used - len;
}

void lh_batch_give_back(struct lh_batch *batch, size_t len)
{
    struct memory *memory = batch->memory;
    assert(memory != NULL && memory->chunks != NULL && memory->chunks->used >= len);
    memory->chunks->used -= len;
}

enum lh_status lh_batch_add(struct lh_batch *batch, const struct lh_batch_item *item)
{
    struct memory *memory = memory_of(batch);
    if (memory == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    if (batch->count == memory->items_cap) {
        size_t cap = memory->items_cap == 0 ? 4 : memory->items_cap * 2;
        struct lh_batch_item *items = realloc(batch->items, cap * sizeof *items);
        if (items == NULL) {
            return LH_OUT_OF_MEMORY;
        }
        batch->bytes += (cap - memory->items_cap) * sizeof *items;
        batch->items = items;
        memory->items_cap = cap;
    }
    batch->items[batch->count++] = *item;
    return LH_OK;
}

/* Room for one more row behind `count` rows. */
static enum lh_status reserve_row(struct lh_batch *batch, size_t rows_expected)
{
    struct memory *memory = batch->memory;
    size_t used = (size_t)batch->count * batch->dimension;
    size_t cap = rows_expected * batch->dimension;
    size_t bytes;
    float *rows;
    if (memory->rows_cap - used >= batch->dimension) {
        return LH_OK;
    }
    cap = cap < used + batch->dimension ? used + batch->dimension : cap;
    cap = cap < used * 2 ? used * 2 : cap;
    bytes = (cap * sizeof *rows + ROW_ALIGNMENT - 1) & ~(size_t)(ROW_ALIGNMENT - 1);
    rows = aligned_alloc(ROW_ALIGNMENT, bytes);
    if (rows == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    if (used > 0) {
        memcpy(rows, batch->rows, used * sizeof *rows);
    }
    free(batch->rows);
    batch->bytes += (cap - memory->rows_cap) * sizeof *rows;
    batch->rows = rows;
    memory->rows_cap = cap;
    return LH_OK;
}

static bool is_zero(const float *row, uint32_t dimension)
{
    for (uint32_t i = 0; i < dimension; i++) {
        if (row[i] != 0) {
            return false; /* at the first number, as a rule */
        }
    }
    return true;
}

enum lh_status lh_batch_add_row(struct lh_batch *batch, const struct lh_batch_item *item,
                                const float *row, size_t rows_expected)
{
    enum lh_status status;
    uint32_t index = batch->count;
    assert(item->dimension > 0);
    if (memory_of(batch) == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    if (index == 0) {
        batch->dimension = item->dimension;
    }
    if (item->dimension != batch->dimension && batch->odd_item == LH_NO_ITEM) {
        batch->odd_item = index;
    }
    if (batch->odd_item == LH_NO_ITEM) {
        status = reserve_row(batch, rows_expected);
        if (status != LH_OK) {
            return status;
        }
        memcpy(batch->rows + (size_t)index * batch->dimension, row, item->dimension * sizeof *row);
    }
    if (batch->zero_item == LH_NO_ITEM && is_zero(row, item->dimension)) {
        batch->zero_item = index;
    }
    return lh_batch_add(batch, item);
}

enum lh_status lh_batch_of_id(struct lh_batch *batch, struct lh_str id)
{
    struct lh_batch_item item = {.id = {NULL, id.len}};
    lh_batch_init(batch);
    char *bytes = lh_batch_bytes(batch, id.len);
    if (bytes == NULL) {
        return LH_OUT_OF_MEMORY;
    }
    memcpy(bytes, id.ptr, id.len);
    item.id.ptr = bytes;
    return lh_batch_add(batch, &item);
}
