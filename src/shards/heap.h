/* Variable-length records (ids and metadata) of one shard, by offset.
 *
 * Bytes live in chunks of 1 MiB, so that growth never copies and a chunk that is more than half
 * garbage is emptied into others in well under a bulk step. Single-owner. */
#ifndef LH_SHARDS_HEAP_H
#define LH_SHARDS_HEAP_H

#include "base/status.h"
#include "base/str.h"
#include <stdint.h>

#define LH_HEAP_CHUNK_BYTES (1u << 20)
#define LH_HEAP_NONE        UINT32_MAX /* the offset of no record */

struct lh_heap_chunk {
    char *bytes;
    uint32_t used;
    uint32_t garbage;
};

struct lh_heap {
    struct lh_heap_chunk *chunks;
    uint32_t count;
    uint32_t capacity;
    uint32_t open;     /* the chunk that is being filled */
    uint32_t spare;    /* how many chunks hold nothing yet */
    uint64_t promised; /* bytes that reserve has promised and put has not used */
    uint64_t content;  /* bytes of the records, without what a record takes beside them */
    /* Told when evacuation moves a record, with the word that it was put with. */
    void (*moved)(void *arg, uint32_t word, uint32_t offset);
    void *arg;
};

void lh_heap_init(struct lh_heap *heap, void (*moved)(void *arg, uint32_t word, uint32_t offset),
                  void *arg);
void lh_heap_deinit(struct lh_heap *heap);

/* What a record of `len` bytes takes. */
uint64_t lh_heap_record_bytes(size_t len);

/* Promises room for records that take `bytes` together, beyond earlier promises; may move records.
 * LH_OUT_OF_MEMORY promises nothing. */
LH_MUST_USE enum lh_status lh_heap_reserve(struct lh_heap *heap, uint64_t bytes);

/* Gives back a promise that was not needed. */
void lh_heap_unreserve(struct lh_heap *heap, uint64_t bytes);

/* Stores a record out of what was promised; cannot fail. `word` comes back in `moved`. */
uint32_t lh_heap_put(struct lh_heap *heap, uint32_t word, struct lh_str bytes);

/* Valid until the next reserve or drop. */
struct lh_str lh_heap_get(const struct lh_heap *heap, uint32_t offset);

/* Frees a record; may move others. */
void lh_heap_drop(struct lh_heap *heap, uint32_t offset);

uint64_t lh_heap_bytes(const struct lh_heap *heap);

#endif
