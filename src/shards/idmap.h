/* id -> node of one shard: open addressing over node numbers; the ids themselves stay in the heap.
 *
 * Growing moves a few clusters an operation from the old table to the new one, so that no single
 * add pays for rehashing a million ids. Single-owner. */
#ifndef LH_SHARDS_IDMAP_H
#define LH_SHARDS_IDMAP_H

#include "base/status.h"
#include "base/str.h"
#include <stdint.h>

#define LH_IDMAP_NONE UINT32_MAX

struct lh_idmap_slot {
    uint32_t node_plus_1; /* 0: free, so that a fresh table is untouched zero pages */
    uint32_t tag;         /* low half of the hash: spares most looks at ids */
};

struct lh_idmap_table {
    struct lh_idmap_slot *slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
};

struct lh_idmap {
    struct lh_idmap_table now;
    struct lh_idmap_table old; /* being emptied into `now`; capacity 0 when none */
    uint32_t cursor;           /* of `old`: always just behind a whole cluster */
    uint32_t visited;          /* slots of `old` that the cursor has passed */
    struct lh_str (*id_of)(const void *arg, uint32_t node);
    const void *arg;
};

void lh_idmap_init(struct lh_idmap *map, struct lh_str (*id_of)(const void *arg, uint32_t node),
                   const void *arg);
void lh_idmap_deinit(struct lh_idmap *map);

/* The node of an id, or LH_IDMAP_NONE. `hash` is lh_placement_hash of the id. */
uint32_t lh_idmap_find(const struct lh_idmap *map, struct lh_str id, uint64_t hash);

/* Has the place of an id fetched that is about to be looked up or added. */
void lh_idmap_prefetch(const struct lh_idmap *map, uint64_t hash);

/* Room for `total` ids in all. LH_OUT_OF_MEMORY changes nothing. */
LH_MUST_USE enum lh_status lh_idmap_reserve(struct lh_idmap *map, uint32_t total);

/* Adds an id that is not there; room has been reserved. */
void lh_idmap_put(struct lh_idmap *map, uint64_t hash, uint32_t node);

/* Removes the entry of `node`, which is there. */
void lh_idmap_drop(struct lh_idmap *map, uint64_t hash, uint32_t node);

uint64_t lh_idmap_bytes(const struct lh_idmap *map);

#endif
