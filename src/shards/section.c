/* A shard's section, written. Runs on the shard's worker thread.
 *
 * The graph's tables come from its snapshot. Items (ids and metadata) are frozen in the same way:
 * lh__touch_item puts a node's item aside before it changes, as the bytes that the section will
 * have. Invariant: the item of a node that was live at the begin has an image, or is as it was, or
 * is past its reading. */
#include "shards/section_layout.h"
#include "shards/shard_internal.h"

#include "hnsw/images.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_A_READ 4096u /* each a random read or two: under half a millisecond */

struct item_image {
    uint32_t len;
    char bytes[];
};

struct lh_section_writer {
    struct lh_shard *shard;
    struct lh_snapshot *snapshot;
    struct lh_images items;
    struct lh__section_layout layout;
    uint64_t pos;  /* read so far */
    int table;     /* that is read now */
    uint32_t node; /* of the items */
    uint32_t at;   /* bytes of the node's item that have been read */
    char header[LH__SECTION_HEADER_BYTES];
};

enum lh_status lh_section_begin(struct lh_shard *shard, struct lh_section_writer **out)
{
    assert(shard->section == NULL);
    enum lh_status status = LH_OUT_OF_MEMORY;
    struct lh_section_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return status;
    writer->shard = shard;
    if (lh_images_init(&writer->items, lh_graph_slots(shard->graph)) != LH_OK)
        goto done;
    status = lh_snapshot_begin(shard->graph, &writer->snapshot);
    if (status != LH_OK)
        goto done;
    const struct lh_graph_shape *shape = lh_snapshot_shape(writer->snapshot);
    uint64_t items_bytes = shard->heap.content + (uint64_t)shape->live * LH__ITEM_HEAD_BYTES;
    lh__section_layout(shard->graph, shape, items_bytes, &writer->layout);
    lh__section_header_encode(lh_snapshot_options(writer->snapshot), &writer->layout,
                              writer->header);
    shard->section = writer;
    *out = writer;
    writer = NULL;
done:
    lh_section_end(writer);
    return status;
}

void lh_section_end(struct lh_section_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->shard->section == writer)
        writer->shard->section = NULL;
    lh_snapshot_end(writer->snapshot);
    lh_images_deinit(&writer->items);
    free(writer);
}

uint64_t lh_section_length(const struct lh_section_writer *writer)
{
    return writer->layout.length;
}

uint32_t lh_section_count(const struct lh_section_writer *writer)
{
    return writer->layout.shape.live;
}

uint64_t lh_section_bytes(const struct lh_section_writer *writer)
{
    return lh_snapshot_bytes(writer->snapshot) + lh_images_bytes(&writer->items);
}

/* ---- items ---- */

/* An item as the section has it: one piece after the other. */
struct item {
    struct lh_str pieces[3];
    size_t len;
    char head[LH__ITEM_HEAD_BYTES];
};

static void item_now(const struct lh_shard *shard, uint32_t node, struct item *item)
{
    struct lh_str id = lh_heap_get(&shard->heap, shard->id_at[node]);
    struct lh_str metadata = {NULL, 0};
    uint16_t id_len = (uint16_t)id.len;
    uint32_t metadata_len = LH__ITEM_NO_METADATA;
    if (shard->metadata_at[node] != LH_HEAP_NONE) {
        metadata = lh_heap_get(&shard->heap, shard->metadata_at[node]);
        metadata_len = (uint32_t)metadata.len;
    }
    memcpy(item->head, &id_len, sizeof id_len);
    memcpy(item->head + sizeof id_len, &metadata_len, sizeof metadata_len);
    item->pieces[0] = (struct lh_str){item->head, sizeof item->head};
    item->pieces[1] = id;
    item->pieces[2] = metadata;
    item->len = sizeof item->head + id.len + metadata.len;
}

static void item_frozen(const struct lh_section_writer *writer, uint32_t node, struct item *item)
{
    const struct item_image *image = lh_images_get(&writer->items, node);
    if (image == NULL) {
        item_now(writer->shard, node, item);
        return;
    }
    *item = (struct item){.pieces = {{image->bytes, image->len}}, .len = image->len};
}

/* Copies up to `len` bytes of an item from its byte `at` on. */
static size_t item_copy(const struct item *item, size_t at, char *to, size_t len)
{
    size_t got = 0;
    for (uint32_t i = 0; i < 3 && got < len; i++) {
        struct lh_str piece = item->pieces[i];
        if (at >= piece.len) {
            at -= piece.len;
            continue;
        }
        size_t part = piece.len - at < len - got ? piece.len - at : len - got;
        memcpy(to + got, piece.ptr + at, part);
        got += part;
        at = 0;
    }
    return got;
}

void lh__section_put_item(struct lh_section_writer *writer, uint32_t node)
{
    struct item item;
    if (node >= writer->layout.shape.slots || lh_images_has(&writer->items, node))
        return;
    if (writer->table == LH__SECTION_ITEMS && node < writer->node)
        return;
    if (writer->shard->id_at[node] == LH_HEAP_NONE)
        return; /* new in a slot that was free */
    item_now(writer->shard, node, &item);
    struct item_image *image = lh_images_put(&writer->items, node, sizeof *image + item.len);
    if (image == NULL)
        return;
    image->len = (uint32_t)item.len;
    item_copy(&item, 0, image->bytes, item.len);
}

static size_t read_items(struct lh_section_writer *writer, char *to, size_t len, bool *is_done)
{
    size_t got = 0;
    uint32_t items = 0;
    while (writer->node < writer->layout.shape.slots && items < ITEMS_A_READ) {
        struct item item;
        if (lh_snapshot_is_live(writer->snapshot, writer->node)) {
            item_frozen(writer, writer->node, &item);
            size_t part = item_copy(&item, writer->at, to + got, len - got);
            got += part;
            writer->at += (uint32_t)part;
            items++;
            if (writer->at < item.len)
                break;
        }
        writer->at = 0;
        writer->node++;
    }
    *is_done = writer->node == writer->layout.shape.slots;
    return got;
}

/* ---- all of it ---- */

/* Header and padding stand before the table that comes next; then the table itself. */
static size_t read_some(struct lh_section_writer *writer, char *to, size_t len)
{
    uint64_t before = writer->layout.at[writer->table] - writer->pos;
    bool is_done = false;
    size_t got;
    if (writer->pos < writer->layout.at[writer->table]) {
        got = before < len ? (size_t)before : len;
        memset(to, 0, got);
        if (writer->pos < sizeof writer->header)
            memcpy(to, writer->header + writer->pos, got);
        return got;
    }
    if (writer->table < LH__SECTION_ITEMS)
        got = lh_snapshot_read(writer->snapshot, to, len, &is_done);
    else
        got = read_items(writer, to, len, &is_done);
    if (is_done) {
        const struct lh__section_layout *layout = &writer->layout;
        assert(writer->pos + got == layout->at[writer->table] + layout->bytes[writer->table]);
        (void)layout;
        writer->table++;
    }
    return got;
}

enum lh_status lh_section_read(struct lh_section_writer *writer, void *bytes, size_t len,
                               size_t *got)
{
    *got = 0;
    lh_snapshot_release(writer->snapshot);
    while (*got == 0 && len > 0 && writer->table < LH__SECTION_TABLES) {
        *got = read_some(writer, bytes, len);
        writer->pos += *got;
    }
    if (lh_snapshot_failed(writer->snapshot) || writer->items.failed)
        return LH_OUT_OF_MEMORY;
    assert(*got > 0 || len == 0 || writer->pos == writer->layout.length);
    return LH_OK;
}
