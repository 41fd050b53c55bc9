/* The ids of a version 1 file while it is read: which have metadata, which have been seen. Private
 * to this folder.
 *
 * An id is known by 128 bits of its XXH3: two of a billion ids collide with a probability of
 * 1 to 10^20, which is less than that of the memory failing, and saves keeping their text. */
#ifndef LH_STORE_LHV1_IDS_H
#define LH_STORE_LHV1_IDS_H

#include "base/status.h"
#include "base/str.h"

struct lh__lhv1_id {
    uint64_t low; /* of its hash; 0: the slot is free */
    uint64_t high;
    uint32_t metadata_at; /* in the envelope's bytes */
    uint32_t metadata_len;
    uint64_t layer; /* the last one that it was seen in, from 1; 0: it has only metadata so far */
};

struct lh__lhv1_ids {
    struct lh__lhv1_id *slots;
    size_t capacity; /* a power of two, at least twice `count` */
    size_t count;
};

void lh__lhv1_ids_deinit(struct lh__lhv1_ids *ids);

/* The slot of `id`, which is new when it is all zeros but for its hash. NULL: out of memory. It is
 * good until the next call. */
struct lh__lhv1_id *lh__lhv1_ids_put(struct lh__lhv1_ids *ids, struct lh_str id);

/* NULL: it is not there. */
struct lh__lhv1_id *lh__lhv1_ids_find(struct lh__lhv1_ids *ids, struct lh_str id);

#endif
