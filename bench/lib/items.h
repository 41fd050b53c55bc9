/* Items for a shard, as the server would hand them on: ids like "item-00012345" and rows. */
#ifndef LH_BENCH_ITEMS_H
#define LH_BENCH_ITEMS_H

#include "dataset.h"
#include "shards/shard.h"
#include <stdint.h>

#define LH_ITEMS_MAX 64u /* in one batch */

struct lh_items {
    struct lh_shard *shard;
    const struct lh_dataset *data;
    struct lh_shard_room spare; /* promised by the shard and not used yet */
    uint64_t random;            /* state of lh_items_below */
};

/* A random number below `n`. */
uint32_t lh_items_below(struct lh_items *items, uint32_t n);

/* A vector that is no row: one, and some of another. */
void lh_items_mix(struct lh_items *items, float *out);

/* Adds or updates items [from, from + count) in one batch, room included. Returns the thread's
 * seconds of processor time. */
double lh_items_add(struct lh_items *items, uint32_t from, const float *rows, uint32_t count);

/* Deletes an item, which is there. The same. */
double lh_items_delete(struct lh_items *items, uint32_t item);

#endif
