/* Which shard an id lives on, and how hard shards must search. Pure functions. */
#ifndef LH_SHARDS_PLACEMENT_H
#define LH_SHARDS_PLACEMENT_H

#include "base/str.h"
#include "hnsw/graph.h"
#include <stdint.h>

/* XXH3, 64 bits. */
uint64_t lh_placement_hash(struct lh_str id);

static inline uint32_t lh_placement_shard(uint64_t hash, uint32_t shards)
{
    return (uint32_t)(hash % shards);
}

/* How a worker searches those `here` of an index's `shards` that live on it, as one, so that the
 * merged answer is as good as one graph's at (`k`, `ef`). */
struct lh_search lh_placement_search(uint32_t k, uint32_t ef, uint32_t shards, uint32_t here);

#endif
