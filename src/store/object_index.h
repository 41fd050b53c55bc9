/* The keys of all objects in byte order, in memory: what a list is answered from.
 *
 * Records of any length stand packed and sorted in leaves of 4 KiB; an array has the leaves in
 * their order (a B+ tree of two levels, Bayer and McCreight 1972). A key is found by a binary
 * search over the leaves and a walk through one. One thread owns an index. */
#ifndef LH_STORE_OBJECT_INDEX_H
#define LH_STORE_OBJECT_INDEX_H

#include "base/status.h"
#include "store/object_info.h"

struct lh_object_leaf;

struct lh_object_index {
    struct lh_object_leaf **leaves;
    size_t leaf_count;
    size_t leaf_room;
    uint64_t key_count; /* tombstones too */
};

/* A place between two keys; any change of the index ends it. */
struct lh_object_cursor {
    size_t leaf;
    size_t offset;
};

void lh_object_index_deinit(struct lh_object_index *index);

/* Inserts or replaces. A key has 1 to LH_OBJECT_KEY_BYTES_MAX bytes. */
LH_MUST_USE enum lh_status lh_object_index_put(struct lh_object_index *index, struct lh_str key,
                                               const struct lh_object_stat *stat);
bool lh_object_index_remove(struct lh_object_index *index, struct lh_str key);
bool lh_object_index_find(const struct lh_object_index *index, struct lh_str key,
                          struct lh_object_stat *stat);

/* Before the first key that is not less than `from`. */
struct lh_object_cursor lh_object_index_seek(const struct lh_object_index *index,
                                             struct lh_str from);
/* The key behind the cursor, which moves past it; false at the end. `key` is in the index. */
bool lh_object_index_next(const struct lh_object_index *index, struct lh_object_cursor *cursor,
                          struct lh_str *key, struct lh_object_stat *stat);

/* What it takes in memory. */
uint64_t lh_object_index_bytes(const struct lh_object_index *index);

#endif
