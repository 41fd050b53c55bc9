/* The nearest candidates of one search, sorted, as a structure of arrays.
 *
 * Both arrays run LH__POOL_PAD entries past the capacity, so that insertion can move whole vectors;
 * distances past `count` are infinite. */
#ifndef LH_HNSW_POOL_H
#define LH_HNSW_POOL_H

#include "base/status.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define LH__POOL_PAD 48u

/* The least room of a pool: what one level's search hands to the next. */
#define LH__POOL_ENTRIES 4u

/* Top bit of a pool's node number: its links have been read. */
#define LH__EXPANDED 0x80000000u

struct lh__pool {
    float *distances;
    uint32_t *nodes;
    uint32_t count;
    uint32_t capacity;
    uint32_t room; /* capacities up to this need no memory */
    float bound;   /* candidates at or above it are refused */
};

static inline void lh__pool_reset(struct lh__pool *pool, uint32_t capacity)
{
    pool->count = 0;
    pool->capacity = capacity;
    pool->bound = INFINITY;
    for (uint32_t i = 0; i < capacity + LH__POOL_PAD; i++) {
        pool->distances[i] = INFINITY;
    }
}

static inline void lh__pool_deinit(struct lh__pool *pool)
{
    free(pool->distances);
    free(pool->nodes);
    *pool = (struct lh__pool){0};
}

/* Makes room for `capacity` candidates; on failure the pool is as it was. */
LH_MUST_USE static inline enum lh_status lh__pool_reserve(struct lh__pool *pool, uint32_t capacity)
{
    if (capacity < LH__POOL_ENTRIES) {
        capacity = LH__POOL_ENTRIES;
    }
    if (capacity <= pool->room) {
        return LH_OK;
    }
    size_t bytes = (((size_t)capacity + LH__POOL_PAD) * sizeof(float) + 63) / 64 * 64;
    float *distances = aligned_alloc(64, bytes);
    uint32_t *nodes = aligned_alloc(64, bytes);
    if (distances == NULL || nodes == NULL) {
        free(distances);
        free(nodes);
        return LH_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < bytes / sizeof *nodes; i++) {
        nodes[i] = 0; /* moved along with the padding, never read as a node */
    }
    lh__pool_deinit(pool);
    pool->distances = distances;
    pool->nodes = nodes;
    pool->room = capacity;
    return LH_OK;
}

#endif
