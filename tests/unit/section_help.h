/* Whole sections in memory, for the tests of sections: saved in slices, loaded in pieces. */
#ifndef LH_TESTS_SECTION_HELP_H
#define LH_TESTS_SECTION_HELP_H

#include "hnsw/graph_internal.h"
#include "shards/section.h"
#include "unit/batch_help.h"
#include "unit/seed.h"
#include <xxhash.h>

/* A promise and its use, as vectord keeps its balance. Never fails. */
static inline struct lh_shard_counts
test_shard_apply(struct lh_shard *shard, const struct test_batch *made, struct lh_shard_room *room)
{
    struct lh_shard_room need = {.nodes = made->batch.count}, more = {0};
    struct lh_shard_counts counts = {0};
    for (uint32_t i = 0; i < made->batch.count; i++)
        need.bytes += lh_shard_item_bytes(&made->batch.items[i]);
    more.nodes = need.nodes > room->nodes ? need.nodes - room->nodes : 0;
    more.bytes = need.bytes > room->bytes ? need.bytes - room->bytes : 0;
    if (lh_shard_reserve(shard, more) != LH_OK)
        abort();
    room->nodes += more.nodes;
    room->bytes += more.bytes;
    struct lh_shard_room unused = {0};
    lh_shard_add(shard, &made->batch, made->numbers, made->hashes, made->batch.count, &counts,
                 &unused);
    room->nodes -= need.nodes - unused.nodes;
    room->bytes -= need.bytes - unused.bytes;
    return counts;
}

static inline bool test_shard_delete(struct lh_shard *shard, uint32_t number)
{
    char text[16];
    struct lh_str id = test_id(number, text);
    return lh_shard_delete(shard, id, lh_placement_hash(id));
}

/* Reads the rest of a section behind `at` bytes in slices of 1 to `slice_max` bytes. */
static inline enum lh_status test_section_rest(struct lh_section_writer *writer, char *bytes,
                                               uint64_t at, uint64_t *rng, uint32_t slice_max)
{
    uint64_t length = lh_section_length(writer);
    for (;;) {
        uint64_t left = length - at;
        size_t slice = 1 + lh_test_below(rng, slice_max), got;
        enum lh_status status =
            lh_section_read(writer, bytes + at, slice < left ? slice : left, &got);
        if (status != LH_OK || got == 0)
            return at == length || status != LH_OK ? status : LH_CORRUPT;
        at += got;
    }
}

/* The section of a shard as it is now; the caller frees it. */
static inline char *test_section_save(struct lh_shard *shard, uint64_t *length)
{
    struct lh_section_writer *writer;
    uint64_t rng = 1;
    if (lh_section_begin(shard, &writer) != LH_OK)
        abort();
    *length = lh_section_length(writer);
    char *bytes = test_must(malloc(*length));
    if (test_section_rest(writer, bytes, 0, &rng, 1u << 20) != LH_OK)
        abort();
    lh_section_end(writer);
    return bytes;
}

/* Loads in pieces of 1 to `piece_max` bytes and steps of 1 to `nodes_max` nodes. */
static inline enum lh_status test_section_load(const struct lh_graph_options *options,
                                               const char *bytes, uint64_t length, uint64_t *rng,
                                               uint32_t piece_max, uint32_t nodes_max,
                                               struct lh_shard **shard, struct lh_error *error)
{
    struct lh_section_loader *loader;
    uint64_t at = 0;
    size_t room;
    void *to;
    bool is_done = false;
    enum lh_status status = lh_section_load(options, length, &loader);
    if (status != LH_OK)
        return lh_error_set(error, status, "%s", lh_status_text(status));
    while (status == LH_OK && (to = lh_section_next(loader, &room)) != NULL) {
        size_t piece = 1 + lh_test_below(rng, piece_max);
        piece = piece < room ? piece : room;
        memcpy(to, bytes + at, piece);
        at += piece;
        status = lh_section_filled(loader, piece, error);
    }
    while (status == LH_OK && !is_done)
        status = lh_section_finish(loader, 1 + lh_test_below(rng, nodes_max), &is_done, error);
    if (status != LH_OK) {
        lh_section_abandon(loader);
        return status;
    }
    if (at != length || lh_section_xxh3(loader) != XXH3_64bits(bytes, length))
        abort();
    *shard = lh_section_take(loader);
    return LH_OK;
}

#endif
