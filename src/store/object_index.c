/* The ordered index of keys. Runs on the thread that owns it.
 *
 * A record: u16 length of the key, u8 flags, u64 size, u64 modified_ns, 16 bytes of tag, the key.
 *
 * Invariants: no leaf is empty; keys ascend in a leaf and from leaf to leaf. A leaf that is full is
 * split in the middle, but for a key behind all others, which begins a new one: keys that come in
 * order fill their leaves. */
#include "store/object_index.h"

#include <assert.h>
#include <stdlib.h>

#define LEAF_BYTES   4088u /* with its header a power of two */
#define RECORD_BYTES 35u   /* without the key */
#define IS_HASHED    1u
#define IS_ASIDE     2u
#define IS_TOMBSTONE 4u

struct lh_object_leaf {
    uint32_t used;
    uint8_t bytes[LEAF_BYTES];
};

_Static_assert(RECORD_BYTES + LH_OBJECT_KEY_BYTES_MAX <= LEAF_BYTES / 3,
               "what is split has two records");

static size_t key_length(const uint8_t *record)
{
    return (size_t)record[0] | (size_t)record[1] << 8;
}

static size_t record_length(const uint8_t *record)
{
    return RECORD_BYTES + key_length(record);
}

static struct lh_str record_key(const uint8_t *record)
{
    return (struct lh_str){(const char *)record + RECORD_BYTES, key_length(record)};
}

static void write_record(uint8_t *at, struct lh_str key, const struct lh_object_stat *stat)
{
    at[0] = (uint8_t)key.len;
    at[1] = (uint8_t)(key.len >> 8);
    at[2] = (uint8_t)((stat->is_hashed ? IS_HASHED : 0) | (stat->is_aside ? IS_ASIDE : 0) |
                      (stat->is_tombstone ? IS_TOMBSTONE : 0));
    memcpy(at + 3, &stat->size, 8);
    memcpy(at + 11, &stat->modified_ns, 8);
    memcpy(at + 19, stat->tag, 16);
    memcpy(at + RECORD_BYTES, key.ptr, key.len);
}

static void read_record(const uint8_t *at, struct lh_object_stat *stat)
{
    *stat = (struct lh_object_stat){.is_hashed = (at[2] & IS_HASHED) != 0,
                                    .is_aside = (at[2] & IS_ASIDE) != 0,
                                    .is_tombstone = (at[2] & IS_TOMBSTONE) != 0};
    memcpy(&stat->size, at + 3, 8);
    memcpy(&stat->modified_ns, at + 11, 8);
    memcpy(stat->tag, at + 19, 16);
}

static int compare(struct lh_str a, struct lh_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* ---- finding ---- */

/* The last leaf whose first key is not greater, or the first leaf. */
static size_t find_leaf(const struct lh_object_index *index, struct lh_str key)
{
    size_t low = 0;
    size_t high = index->leaf_count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(record_key(index->leaves[middle]->bytes), key) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The offset of the first record that is not less; whether it is equal. */
static uint32_t find_record(const struct lh_object_leaf *leaf, struct lh_str key, bool *is_equal)
{
    uint32_t offset = 0;
    *is_equal = false;
    while (offset < leaf->used) {
        int order = compare(record_key(leaf->bytes + offset), key);
        *is_equal = order == 0;
        if (order >= 0)
            break;
        offset += (uint32_t)record_length(leaf->bytes + offset);
    }
    return offset;
}

bool lh_object_index_find(const struct lh_object_index *index, struct lh_str key,
                          struct lh_object_stat *stat)
{
    bool is_equal;
    if (index->leaf_count == 0)
        return false;
    const struct lh_object_leaf *leaf = index->leaves[find_leaf(index, key)];
    uint32_t offset = find_record(leaf, key, &is_equal);
    if (is_equal)
        read_record(leaf->bytes + offset, stat);
    return is_equal;
}

struct lh_object_cursor lh_object_index_seek(const struct lh_object_index *index,
                                             struct lh_str from)
{
    struct lh_object_cursor cursor = {0};
    bool is_equal;
    if (index->leaf_count == 0)
        return cursor;
    cursor.leaf = find_leaf(index, from);
    cursor.offset = find_record(index->leaves[cursor.leaf], from, &is_equal);
    return cursor;
}

bool lh_object_index_next(const struct lh_object_index *index, struct lh_object_cursor *cursor,
                          struct lh_str *key, struct lh_object_stat *stat)
{
    if (cursor->leaf < index->leaf_count && cursor->offset == index->leaves[cursor->leaf]->used) {
        cursor->leaf++;
        cursor->offset = 0;
    }
    if (cursor->leaf >= index->leaf_count)
        return false;
    const uint8_t *record = index->leaves[cursor->leaf]->bytes + cursor->offset;
    *key = record_key(record);
    read_record(record, stat);
    cursor->offset += record_length(record);
    return true;
}

/* ---- changing ---- */

static enum lh_status add_leaf(struct lh_object_index *index, size_t at)
{
    if (index->leaf_count == index->leaf_room) {
        size_t room = index->leaf_room == 0 ? 16 : index->leaf_room + index->leaf_room / 2;
        struct lh_object_leaf **leaves = realloc(index->leaves, room * sizeof *leaves);
        if (leaves == NULL)
            return LH_OUT_OF_MEMORY;
        index->leaves = leaves;
        index->leaf_room = room;
    }
    struct lh_object_leaf *leaf = malloc(sizeof *leaf);
    if (leaf == NULL)
        return LH_OUT_OF_MEMORY;
    leaf->used = 0;
    memmove(index->leaves + at + 1, index->leaves + at,
            (index->leaf_count - at) * sizeof *index->leaves);
    index->leaves[at] = leaf;
    index->leaf_count++;
    return LH_OK;
}

static void drop_leaf(struct lh_object_index *index, size_t at)
{
    free(index->leaves[at]);
    index->leaf_count--;
    memmove(index->leaves + at, index->leaves + at + 1,
            (index->leaf_count - at) * sizeof *index->leaves);
}

/* Moves the records from about the middle on into a new leaf behind it. */
static enum lh_status split(struct lh_object_index *index, size_t at)
{
    enum lh_status status = add_leaf(index, at + 1);
    if (status != LH_OK)
        return status;
    struct lh_object_leaf *left = index->leaves[at];
    struct lh_object_leaf *right = index->leaves[at + 1];
    uint32_t cut = 0;
    while (cut < left->used / 2)
        cut += (uint32_t)record_length(left->bytes + cut);
    right->used = left->used - cut;
    memcpy(right->bytes, left->bytes + cut, right->used);
    left->used = cut;
    return LH_OK;
}

/* Makes room for `need` bytes where `key` belongs: `*at` and `*offset` may be elsewhere then. */
static enum lh_status make_room(struct lh_object_index *index, struct lh_str key, size_t need,
                                size_t *at, uint32_t *offset)
{
    enum lh_status status = LH_OK;
    bool is_equal;
    while (status == LH_OK && index->leaves[*at]->used + need > LEAF_BYTES) {
        bool is_last = *at + 1 == index->leaf_count && *offset == index->leaves[*at]->used;
        status = is_last ? add_leaf(index, *at + 1) : split(index, *at);
        if (status == LH_OK && is_last) {
            *at += 1;
            *offset = 0;
        } else if (status == LH_OK) {
            *at = find_leaf(index, key);
            *offset = find_record(index->leaves[*at], key, &is_equal);
        }
    }
    return status;
}

enum lh_status lh_object_index_put(struct lh_object_index *index, struct lh_str key,
                                   const struct lh_object_stat *stat)
{
    size_t need = RECORD_BYTES + key.len;
    size_t at = find_leaf(index, key);
    uint32_t offset = 0;
    bool is_equal = false;
    enum lh_status status = LH_OK;
    assert(key.len > 0 && key.len <= LH_OBJECT_KEY_BYTES_MAX);
    if (index->leaf_count == 0)
        status = add_leaf(index, 0);
    else
        offset = find_record(index->leaves[at], key, &is_equal);
    if (status == LH_OK && !is_equal)
        status = make_room(index, key, need, &at, &offset);
    if (status != LH_OK)
        return status;
    struct lh_object_leaf *leaf = index->leaves[at];
    if (!is_equal) {
        memmove(leaf->bytes + offset + need, leaf->bytes + offset, leaf->used - offset);
        leaf->used += (uint32_t)need;
        index->key_count++;
    }
    assert(leaf->used <= LEAF_BYTES);
    write_record(leaf->bytes + offset, key, stat);
    return LH_OK;
}

/* Joins a leaf that has become small with a neighbour. */
static void merge(struct lh_object_index *index, size_t at)
{
    if (at > 0 &&
        (at + 1 == index->leaf_count || index->leaves[at - 1]->used < index->leaves[at + 1]->used))
        at--;
    if (at + 1 >= index->leaf_count)
        return;
    struct lh_object_leaf *left = index->leaves[at];
    struct lh_object_leaf *right = index->leaves[at + 1];
    if (left->used + right->used > LEAF_BYTES * 3 / 4)
        return;
    memcpy(left->bytes + left->used, right->bytes, right->used);
    left->used += right->used;
    drop_leaf(index, at + 1);
}

bool lh_object_index_remove(struct lh_object_index *index, struct lh_str key)
{
    bool is_equal;
    if (index->leaf_count == 0)
        return false;
    size_t at = find_leaf(index, key);
    struct lh_object_leaf *leaf = index->leaves[at];
    uint32_t offset = find_record(leaf, key, &is_equal);
    if (!is_equal)
        return false;
    uint32_t len = (uint32_t)record_length(leaf->bytes + offset);
    leaf->used -= len;
    memmove(leaf->bytes + offset, leaf->bytes + offset + len, leaf->used - offset);
    index->key_count--;
    if (leaf->used == 0)
        drop_leaf(index, at);
    else if (leaf->used < LEAF_BYTES / 3)
        merge(index, at);
    return true;
}

void lh_object_index_deinit(struct lh_object_index *index)
{
    for (size_t i = 0; i < index->leaf_count; i++)
        free(index->leaves[i]);
    free(index->leaves);
    *index = (struct lh_object_index){0};
}

uint64_t lh_object_index_bytes(const struct lh_object_index *index)
{
    return index->leaf_count * sizeof(struct lh_object_leaf) +
           index->leaf_room * sizeof *index->leaves;
}
