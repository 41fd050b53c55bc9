/* An open-addressing table of hashes. One thread at a time.
 *
 * Invariant: at least half of the slots are free, so that a probe ends soon. */
#include "store/lhv1_ids.h"

#include <stdlib.h>
#include <xxhash.h>

#define CAPACITY_LEAST 1024u

void lh__lhv1_ids_deinit(struct lh__lhv1_ids *ids)
{
    free(ids->slots);
    *ids = (struct lh__lhv1_ids){0};
}

static XXH128_hash_t hash_of(struct lh_str id)
{
    XXH128_hash_t hash = XXH3_128bits(id.ptr, id.len);
    hash.low64 |= hash.low64 == 0; /* 0 is a free slot */
    return hash;
}

/* Where `hash` is, or would be. */
static struct lh__lhv1_id *probe(struct lh__lhv1_id *slots, size_t capacity, uint64_t low,
                                 uint64_t high)
{
    size_t i = low & (capacity - 1);
    while (slots[i].low != 0 && (slots[i].low != low || slots[i].high != high))
        i = (i + 1) & (capacity - 1);
    return &slots[i];
}

static bool grow(struct lh__lhv1_ids *ids)
{
    size_t capacity = ids->capacity == 0 ? CAPACITY_LEAST : ids->capacity * 2;
    struct lh__lhv1_id *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < ids->capacity; i++) {
        const struct lh__lhv1_id *old = &ids->slots[i];
        if (old->low != 0)
            *probe(slots, capacity, old->low, old->high) = *old;
    }
    free(ids->slots);
    ids->slots = slots;
    ids->capacity = capacity;
    return true;
}

struct lh__lhv1_id *lh__lhv1_ids_put(struct lh__lhv1_ids *ids, struct lh_str id)
{
    XXH128_hash_t hash = hash_of(id);
    struct lh__lhv1_id *slot;
    if (ids->count * 2 >= ids->capacity && !grow(ids))
        return NULL;
    slot = probe(ids->slots, ids->capacity, hash.low64, hash.high64);
    if (slot->low == 0) {
        *slot = (struct lh__lhv1_id){.low = hash.low64, .high = hash.high64};
        ids->count++;
    }
    return slot;
}

struct lh__lhv1_id *lh__lhv1_ids_find(struct lh__lhv1_ids *ids, struct lh_str id)
{
    XXH128_hash_t hash = hash_of(id);
    struct lh__lhv1_id *slot;
    if (ids->capacity == 0)
        return NULL;
    slot = probe(ids->slots, ids->capacity, hash.low64, hash.high64);
    return slot->low == 0 ? NULL : slot;
}
