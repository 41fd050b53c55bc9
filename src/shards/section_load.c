/* A shard's section, read. Runs on the thread of the worker that will own the shard.
 *
 * The graph's tables are read straight to where they belong. Items pass through a small buffer: a
 * record in the heap and an entry in the id map are made from each as soon as it is there whole.
 *
 * Invariant: nothing is believed. Memory is taken for no more than the section's length bears out,
 * and every number is checked before it leads anywhere. */
#include "shards/section_layout.h"
#include "shards/shard_internal.h"

#include "base/limits.h"
#include "shards/placement.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define BUFFER_BYTES (256u << 10) /* the longest item, and enough to read at once */
#define ITEMS_AHEAD  32u          /* whose places are fetched together: each is likely a miss */

/* An item takes less than this many bytes more in the heap than in the section: two records' heads
 * and their rounding. */
#define RECORDS_BYTES_MORE 32u

_Static_assert(BUFFER_BYTES >= 2 * (LH__ITEM_HEAD_BYTES + LH_ID_BYTES_MAX + LH_METADATA_BYTES_MAX),
               "half an item leaves room to read the other half");
_Static_assert(BUFFER_BYTES >= LH__SECTION_HEADER_BYTES, "the header is read there too");

struct lh_section_loader {
    struct lh_graph_options options;
    uint64_t length;
    uint64_t pos; /* filled so far */
    struct lh__section_layout layout;
    struct lh_shard *shard;
    struct lh_graph_load graph;
    enum lh_status
        rows_status; /* of the nodes whose rows have come: told at the end, behind what */
    struct lh_error rows_error; /* the caller finds out by the checksum */
    XXH3_state_t *hash;
    int table;     /* that is filled now */
    bool is_open;  /* the header has been read */
    uint32_t node; /* no item of a node before it is missing */
    uint32_t items;
    size_t buffered;
    char buffer[BUFFER_BYTES]; /* header, padding, items */
};

enum lh_status lh_section_load(const struct lh_graph_options *options, uint64_t length,
                               struct lh_section_loader **out)
{
    if (length < LH__SECTION_HEADER_BYTES)
        return LH_CORRUPT;
    enum lh_status status = LH_OUT_OF_MEMORY;
    struct lh_section_loader *loader = malloc(sizeof *loader);
    if (loader == NULL)
        return status;
    memset(loader, 0, offsetof(struct lh_section_loader, buffer));
    loader->options = *options;
    loader->length = length;
    loader->hash = XXH3_createState();
    if (loader->hash == NULL)
        goto done;
    XXH3_64bits_reset(loader->hash);
    status = lh_shard_create(options, &loader->shard);
    if (status != LH_OK)
        goto done;
    *out = loader;
    loader = NULL;
done:
    lh_section_abandon(loader);
    return status;
}

void lh_section_abandon(struct lh_section_loader *loader)
{
    if (loader == NULL)
        return;
    lh_shard_destroy(loader->shard);
    XXH3_freeState(loader->hash);
    free(loader);
}

struct lh_shard *lh_section_take(struct lh_section_loader *loader)
{
    struct lh_shard *shard = loader->shard;
    loader->shard = NULL;
    lh_section_abandon(loader);
    return shard;
}

uint64_t lh_section_xxh3(const struct lh_section_loader *loader)
{
    return XXH3_64bits_digest(loader->hash);
}

/* ---- filling ---- */

static uint64_t table_end(const struct lh_section_loader *loader)
{
    return loader->layout.at[loader->table] + loader->layout.bytes[loader->table];
}

void *lh_section_next(struct lh_section_loader *loader, size_t *len)
{
    if (loader->pos == loader->length)
        return NULL;
    if (!loader->is_open) {
        *len = LH__SECTION_HEADER_BYTES - loader->buffered;
        return loader->buffer + loader->buffered;
    }
    while (loader->pos == table_end(loader))
        loader->table++;
    uint64_t at = loader->layout.at[loader->table];
    if (loader->pos < at) {
        *len = (size_t)(at - loader->pos);
        return loader->buffer;
    }
    uint64_t left = table_end(loader) - loader->pos;
    if (loader->table < LH__SECTION_ITEMS) {
        char *table = lh_graph_load_table(&loader->graph, (enum lh_graph_table)loader->table);
        *len = (size_t)left;
        return table + (loader->pos - at);
    }
    size_t room = BUFFER_BYTES - loader->buffered;
    *len = left < room ? (size_t)left : room;
    return loader->buffer + loader->buffered;
}

/* The header is there: takes memory for what it counts. */
static enum lh_status open_section(struct lh_section_loader *loader, struct lh_error *error)
{
    struct lh_shard *shard = loader->shard;
    enum lh_status status = lh__section_header_decode(loader->buffer, loader->length, shard->graph,
                                                      &loader->options, &loader->layout, error);
    if (status != LH_OK)
        return status;
    const struct lh_graph_shape *shape = &loader->layout.shape;
    status = lh_graph_load_begin(shard->graph, shape, &loader->graph, error);
    if (status != LH_OK)
        return status;
    if (lh__shard_reserve_tables(shard, shape->slots) != LH_OK ||
        lh_idmap_reserve(&shard->ids, shape->live) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for %u ids", shape->live);
    loader->is_open = true;
    loader->buffered = 0;
    return LH_OK;
}

static enum lh_status check_padding(const struct lh_section_loader *loader, size_t len,
                                    struct lh_error *error)
{
    for (size_t i = 0; i < len; i++) {
        if (loader->buffer[i] != 0)
            return lh_error_set(error, LH_CORRUPT,
                                "section byte %" PRIu64 ": padding that is not 0", loader->pos + i);
    }
    return LH_OK;
}

/* An item in the buffer. */
struct item {
    struct lh_str id;
    struct lh_str metadata; /* ptr NULL: it has none */
    uint64_t hash;          /* of the id */
};

static enum lh_status put_item(struct lh_section_loader *loader, const struct item *item,
                               struct lh_error *error)
{
    struct lh_shard *shard = loader->shard;
    uint32_t node = loader->node;
    if (!lh_str_is_utf8(item->id))
        return lh_error_set(error, LH_CORRUPT, "node %u: its id is not UTF-8", node);
    uint32_t other = lh_idmap_find(&shard->ids, item->id, item->hash);
    if (other != LH_IDMAP_NONE)
        return lh_error_set(error, LH_CORRUPT, "node %u: its id is that of node %u", node, other);
    if (loader->items++ == loader->layout.shape.live)
        return lh_error_set(error, LH_CORRUPT, "node %u: the header has %u nodes", node,
                            loader->layout.shape.live);
    shard->id_at[node] = lh_heap_put(&shard->heap, node, item->id);
    if (item->metadata.ptr != NULL)
        shard->metadata_at[node] =
            lh_heap_put(&shard->heap, node | LH__METADATA_BIT, item->metadata);
    lh_idmap_put(&shard->ids, item->hash, node);
    return LH_OK;
}

/* Finds the item in the buffer's bytes from `at` on; `*len` is 0 when it is not there whole. */
static enum lh_status find_item(const struct lh_section_loader *loader, size_t at,
                                struct item *item, size_t *len, struct lh_error *error)
{
    const char *from = loader->buffer + at;
    size_t left = loader->buffered - at;
    uint16_t id_len;
    uint32_t metadata_len;
    *len = 0;
    if (left < LH__ITEM_HEAD_BYTES)
        return LH_OK;
    memcpy(&id_len, from, sizeof id_len);
    memcpy(&metadata_len, from + sizeof id_len, sizeof metadata_len);
    bool has_metadata = metadata_len != LH__ITEM_NO_METADATA;
    if (id_len < 1 || id_len > LH_ID_BYTES_MAX)
        return lh_error_set(error, LH_CORRUPT, "node %u: an id of %u bytes", loader->node, id_len);
    if (has_metadata && metadata_len > LH_METADATA_BYTES_MAX)
        return lh_error_set(error, LH_CORRUPT, "node %u: %u bytes of metadata", loader->node,
                            metadata_len);
    size_t bytes = LH__ITEM_HEAD_BYTES + id_len + (has_metadata ? metadata_len : 0);
    if (left < bytes)
        return LH_OK;
    *len = bytes;
    from += LH__ITEM_HEAD_BYTES;
    item->id = (struct lh_str){from, id_len};
    item->metadata = (struct lh_str){has_metadata ? from + id_len : NULL, metadata_len};
    return LH_OK;
}

/* Moves to the next slot that has an item; false when there is none. */
static bool find_live(struct lh_section_loader *loader)
{
    while (loader->node < loader->layout.shape.slots &&
           !lh_graph_is_live(loader->shard->graph, loader->node))
        loader->node++;
    return loader->node < loader->layout.shape.slots;
}

/* Finds the next items, up to ITEMS_AHEAD that are whole and right, and has their places in the id
 * map fetched. The error is that of the item behind them; of the first it is the loader's. */
static uint32_t find_items(const struct lh_section_loader *loader, size_t at, struct item *items,
                           size_t *lens, enum lh_status *status, struct lh_error *error)
{
    uint32_t count = 0;
    while (count < ITEMS_AHEAD) {
        struct item *item = &items[count];
        *status = find_item(loader, at, item, &lens[count], error);
        if (*status != LH_OK || lens[count] == 0)
            break;
        item->hash = lh_placement_hash(item->id);
        lh_idmap_prefetch(&loader->shard->ids, item->hash);
        at += lens[count++];
    }
    return count;
}

/* Takes items off the buffer; `*at` is behind the last. */
static enum lh_status put_items(struct lh_section_loader *loader, size_t *at,
                                struct lh_error *error)
{
    struct item items[ITEMS_AHEAD];
    size_t lens[ITEMS_AHEAD];
    enum lh_status status = LH_OK;
    while (status == LH_OK && *at < loader->buffered) {
        if (!find_live(loader))
            return lh_error_set(error, LH_CORRUPT,
                                "section byte %" PRIu64 ": an item that belongs to no node",
                                loader->pos + *at - loader->buffered);
        uint32_t count = find_items(loader, *at, items, lens, &status, error);
        if (count == 0)
            return status;
        status = LH_OK; /* what is behind them has its turn */
        for (uint32_t i = 0; i < count && status == LH_OK && find_live(loader); i++) {
            status = put_item(loader, &items[i], error);
            *at += lens[i];
            loader->node++;
        }
    }
    return status;
}

static enum lh_status take_items(struct lh_section_loader *loader, struct lh_error *error)
{
    struct lh_heap *heap = &loader->shard->heap;
    size_t at = 0;
    uint64_t before = heap->promised;
    uint64_t items_most = loader->buffered / (LH__ITEM_HEAD_BYTES + 1);
    enum lh_status status =
        lh_heap_reserve(heap, loader->buffered + items_most * RECORDS_BYTES_MORE);
    if (status != LH_OK)
        return lh_error_set(error, status, "no memory for ids and metadata");
    status = put_items(loader, &at, error);
    lh_heap_unreserve(heap, heap->promised - before);
    memmove(loader->buffer, loader->buffer + at, loader->buffered - at);
    loader->buffered -= at;
    return status;
}

static void take_rows(struct lh_section_loader *loader)
{
    uint64_t bytes = loader->pos - loader->layout.at[LH_TABLE_ROWS];
    if (loader->rows_status == LH_OK)
        loader->rows_status = lh_graph_load_rows(&loader->graph, bytes, &loader->rows_error);
}

static enum lh_status check_end(struct lh_section_loader *loader, struct lh_error *error)
{
    if (loader->buffered > 0)
        return lh_error_set(error, LH_CORRUPT, "node %u: its item is cut off", loader->node);
    if (find_live(loader))
        return lh_error_set(error, LH_CORRUPT, "node %u: it has no item", loader->node);
    return LH_OK;
}

enum lh_status lh_section_filled(struct lh_section_loader *loader, size_t len,
                                 struct lh_error *error)
{
    size_t asked = 0;
    const void *bytes = lh_section_next(loader, &asked);
    enum lh_status status = LH_OK;
    assert(bytes != NULL && len > 0 && len <= asked);
    XXH3_64bits_update(loader->hash, bytes, len);
    bool is_padding = loader->is_open && loader->pos < loader->layout.at[loader->table];
    if (is_padding)
        status = check_padding(loader, len, error);
    loader->pos += len;
    if (!loader->is_open || (!is_padding && loader->table == LH__SECTION_ITEMS))
        loader->buffered += len;
    if (!loader->is_open) {
        if (loader->buffered == LH__SECTION_HEADER_BYTES)
            status = open_section(loader, error);
    } else if (!is_padding && loader->table == LH__SECTION_ITEMS) {
        status = take_items(loader, error);
    } else if (!is_padding && loader->table == LH_TABLE_ROWS) {
        take_rows(loader);
    }
    if (status == LH_OK && loader->pos == loader->length)
        status = check_end(loader, error);
    return status;
}

enum lh_status lh_section_finish(struct lh_section_loader *loader, uint32_t nodes, bool *is_done,
                                 struct lh_error *error)
{
    assert(loader->pos == loader->length);
    if (loader->rows_status != LH_OK) {
        *error = loader->rows_error;
        return loader->rows_status;
    }
    return lh_graph_load_step(&loader->graph, nodes, is_done, error);
}
