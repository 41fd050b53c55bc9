/* The byte heap of one shard. Runs on the shard's worker thread.
 *
 * Invariants: an offset counts 8-byte units over all chunks; a record never crosses a chunk; a
 * chunk other than the open one takes no new records; `spare` empty chunks always cover what was
 * promised, even if every chunk wastes the longest record at its end. */
#include "shards/heap.h"

#include "base/limits.h"
#include <assert.h>
#include <stdlib.h>

#define UNIT            8u
#define UNITS_A_CHUNK   (LH_HEAP_CHUNK_BYTES / UNIT)
#define CHUNKS_MAX      (UINT32_MAX / UNITS_A_CHUNK) /* offsets fit 32 bits: 32 GiB a shard */
#define DEAD            UINT32_MAX                   /* the word of a dropped record */
#define RECORD_MAX      (LH_METADATA_BYTES_MAX + 2 * UNIT)
#define CHUNK_BYTES_MIN (LH_HEAP_CHUNK_BYTES - RECORD_MAX) /* what a chunk surely holds */

struct record {
    uint32_t word;
    uint32_t len;
    char bytes[];
};

void lh_heap_init(struct lh_heap *heap, void (*moved)(void *arg, uint32_t word, uint32_t offset),
                  void *arg)
{
    *heap = (struct lh_heap){.open = UINT32_MAX, .moved = moved, .arg = arg};
}

void lh_heap_deinit(struct lh_heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++)
        free(heap->chunks[i].bytes);
    free(heap->chunks);
}

uint64_t lh_heap_record_bytes(size_t len)
{
    return (sizeof(struct record) + len + UNIT - 1) / UNIT * UNIT;
}

static struct record *record_at(const struct lh_heap *heap, uint32_t offset)
{
    assert(offset / UNITS_A_CHUNK < heap->count);
    return (struct record *)(void *)(heap->chunks[offset / UNITS_A_CHUNK].bytes +
                                     (size_t)(offset % UNITS_A_CHUNK) * UNIT);
}

static enum lh_status add_chunk(struct lh_heap *heap)
{
    if (heap->count == CHUNKS_MAX)
        return LH_OUT_OF_MEMORY;
    if (heap->count == heap->capacity) {
        uint32_t capacity = heap->capacity ? 2 * heap->capacity : 4;
        struct lh_heap_chunk *chunks = realloc(heap->chunks, capacity * sizeof *chunks);
        if (chunks == NULL)
            return LH_OUT_OF_MEMORY;
        heap->chunks = chunks;
        heap->capacity = capacity;
    }
    char *bytes = malloc(LH_HEAP_CHUNK_BYTES);
    if (bytes == NULL)
        return LH_OUT_OF_MEMORY;
    heap->chunks[heap->count++] = (struct lh_heap_chunk){.bytes = bytes};
    heap->spare++;
    return LH_OK;
}

/* Bytes that can surely still be put: the spare chunks, and the rest of the open one. */
static uint64_t sure_bytes(const struct lh_heap *heap)
{
    uint64_t bytes = (uint64_t)heap->spare * CHUNK_BYTES_MIN;
    if (heap->open != UINT32_MAX && heap->chunks[heap->open].used < CHUNK_BYTES_MIN)
        bytes += CHUNK_BYTES_MIN - heap->chunks[heap->open].used;
    return bytes;
}

void lh_heap_unreserve(struct lh_heap *heap, uint64_t bytes)
{
    assert(bytes <= heap->promised);
    heap->promised -= bytes;
}

/* Opens an empty chunk. One is there: the caller has a promise or has looked at `spare`. */
static void open_chunk(struct lh_heap *heap)
{
    assert(heap->spare > 0);
    for (uint32_t i = 0; i < heap->count; i++) {
        if (heap->chunks[i].used == 0) {
            heap->open = i;
            heap->spare--;
            return;
        }
    }
    assert(!"a spare chunk is counted but not there");
}

static uint32_t append(struct lh_heap *heap, uint32_t word, struct lh_str bytes)
{
    uint64_t size = lh_heap_record_bytes(bytes.len);
    assert(size <= RECORD_MAX && word != DEAD);
    if (heap->open == UINT32_MAX || heap->chunks[heap->open].used + size > LH_HEAP_CHUNK_BYTES)
        open_chunk(heap);
    struct lh_heap_chunk *chunk = &heap->chunks[heap->open];
    uint32_t offset = heap->open * UNITS_A_CHUNK + chunk->used / UNIT;
    struct record *record = record_at(heap, offset);
    record->word = word;
    record->len = (uint32_t)bytes.len;
    memcpy(record->bytes, bytes.ptr, bytes.len);
    chunk->used += (uint32_t)size;
    return offset;
}

uint32_t lh_heap_put(struct lh_heap *heap, uint32_t word, struct lh_str bytes)
{
    lh_heap_unreserve(heap, lh_heap_record_bytes(bytes.len));
    heap->content += bytes.len;
    return append(heap, word, bytes);
}

struct lh_str lh_heap_get(const struct lh_heap *heap, uint32_t offset)
{
    const struct record *record = record_at(heap, offset);
    assert(record->word != DEAD);
    return (struct lh_str){record->bytes, record->len};
}

/* Moves what lives in a chunk to the open one and leaves it empty. */
static void evacuate(struct lh_heap *heap, uint32_t number)
{
    struct lh_heap_chunk *chunk = &heap->chunks[number];
    uint32_t at = 0;
    while (at < chunk->used) {
        const struct record *record = (const struct record *)(const void *)(chunk->bytes + at);
        at += (uint32_t)lh_heap_record_bytes(record->len);
        if (record->word == DEAD)
            continue;
        uint32_t offset = append(heap, record->word, (struct lh_str){record->bytes, record->len});
        heap->moved(heap->arg, record->word, offset);
    }
    chunk->used = 0;
    chunk->garbage = 0;
    heap->spare++;
}

/* Whether emptying a chunk pays, and can be done with room that no promise counts on. */
static bool is_wasteful(const struct lh_heap *heap, uint32_t number)
{
    const struct lh_heap_chunk *chunk = &heap->chunks[number];
    uint64_t live = chunk->used - chunk->garbage;
    if (number == heap->open || chunk->garbage <= chunk->used / 2)
        return false;
    return live == 0 || sure_bytes(heap) >= heap->promised + live + RECORD_MAX;
}

enum lh_status lh_heap_reserve(struct lh_heap *heap, uint64_t bytes)
{
    /* A chunk may have become garbage while it was the open one, with nothing left to drop in it:
     * the open chunk is never emptied. One a call, as emptying takes time. */
    for (uint32_t i = 0; i < heap->count; i++) {
        if (is_wasteful(heap, i)) {
            evacuate(heap, i);
            break;
        }
    }
    while (sure_bytes(heap) < heap->promised + bytes) {
        enum lh_status status = add_chunk(heap);
        if (status != LH_OK)
            return status;
    }
    heap->promised += bytes;
    return LH_OK;
}

void lh_heap_drop(struct lh_heap *heap, uint32_t offset)
{
    uint32_t number = offset / UNITS_A_CHUNK;
    struct lh_heap_chunk *chunk = &heap->chunks[number];
    struct record *record = record_at(heap, offset);
    assert(record->word != DEAD);
    record->word = DEAD;
    heap->content -= record->len;
    chunk->garbage += (uint32_t)lh_heap_record_bytes(record->len);
    if (is_wasteful(heap, number))
        evacuate(heap, number);
}

uint64_t lh_heap_bytes(const struct lh_heap *heap)
{
    return (uint64_t)heap->count * LH_HEAP_CHUNK_BYTES + heap->capacity * sizeof *heap->chunks;
}
