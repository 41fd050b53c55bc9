/* One shard of one index: its graph, its ids and its metadata. No thread of its own; its worker
 * calls everything.
 *
 * Room is promised first (lh_shard_reserve) and used later, so that an add which spans shards is
 * applied by all of them or by none: after a promise, nothing of an add can fail. */
#ifndef LH_SHARDS_SHARD_H
#define LH_SHARDS_SHARD_H

#include "base/buf.h"
#include "ext/decode.h"
#include "hnsw/graph.h"

struct lh_shard;

LH_MUST_USE enum lh_status lh_shard_create(const struct lh_graph_options *options,
                                           struct lh_shard **shard);
void lh_shard_destroy(struct lh_shard *shard);

/* What an add may need on one shard. */
struct lh_shard_room {
    uint64_t nodes;
    uint64_t bytes; /* of ids and metadata, lh_shard_item_bytes each */
};

uint64_t lh_shard_item_bytes(const struct lh_batch_item *item);

/* Promises room on top of earlier promises. LH_OUT_OF_MEMORY changes nothing. */
LH_MUST_USE enum lh_status lh_shard_reserve(struct lh_shard *shard, struct lh_shard_room room);

struct lh_shard_counts {
    uint32_t added;
    uint32_t updated;
    uint32_t deleted;
};

/* Applies the items `numbers[0..count)` of `batch` in order, out of promised room; what they did
 * not need stays promised and is told in `unused`. The same id twice: the last one wins. Metadata
 * left out of an update stays as it was. */
void lh_shard_add(struct lh_shard *shard, const struct lh_batch *batch, const uint32_t *numbers,
                  const uint64_t *hashes, uint32_t count, struct lh_shard_counts *counts,
                  struct lh_shard_room *unused);

/* True when the id was there. */
bool lh_shard_delete(struct lh_shard *shard, struct lh_str id, uint64_t hash);

/* ---- reading ---- */

/* One item in an answer; the bytes are in the list's text and rows. */
struct lh_found {
    float distance;
    uint32_t id_len;
    uint32_t metadata_len;
    bool has_metadata;
    size_t text_at; /* id, then metadata */
    size_t row_at;  /* in floats; when rows were asked for */
};

struct lh_found_list {
    struct lh_found *items;
    uint32_t count;
    uint32_t capacity;
    struct lh_buf text;
    float *rows;
    size_t row_floats;
    size_t row_capacity;
};

void lh_found_list_deinit(struct lh_found_list *list);

struct lh_found_options {
    bool with_metadata;
    bool with_vector;
    uint64_t bytes_max; /* past it a list fails with LH_LIMIT_EXCEEDED */
};

/* Appends the nearest of all `count` shards (1..LH_SHARDS_MAX, of one index) to `list`, nearest
 * first. */
LH_MUST_USE enum lh_status lh_shard_search(struct lh_shard *const *shards, uint32_t count,
                                           const float *query, const struct lh_search *search,
                                           const struct lh_found_options *options,
                                           struct lh_found_list *list);

/* Appends the item of an id; LH_ITEM_NOT_FOUND. */
LH_MUST_USE enum lh_status lh_shard_get(struct lh_shard *shard, struct lh_str id, uint64_t hash,
                                        const struct lh_found_options *options,
                                        struct lh_found_list *list);

/* Appends up to `limit` items from node `*node` on, and moves `*node` behind them; LH_NO_ITEM when
 * there are no more. A node number stays with its item, so pages see each item once. */
LH_MUST_USE enum lh_status lh_shard_page(struct lh_shard *shard, uint32_t *node, uint32_t limit,
                                         const struct lh_found_options *options,
                                         struct lh_found_list *list);

uint32_t lh_shard_count(const struct lh_shard *shard);
uint64_t lh_shard_bytes(const struct lh_shard *shard);
struct lh_graph *lh_shard_graph(struct lh_shard *shard);

/* The graph's invariants, and that ids, nodes and metadata belong together. */
LH_MUST_USE enum lh_status lh_shard_validate(const struct lh_shard *shard, struct lh_error *error);

#endif
