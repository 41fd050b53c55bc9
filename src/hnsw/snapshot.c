/* Reading a graph's tables as they were at one moment. The owner of the graph runs it.
 *
 * Nothing is copied at the beginning. Every function that is about to change a node's links, level
 * or row first calls lh__touch_links or lh__touch_row, which put the old ones aside if they are
 * part of the snapshot and have not been read yet. Tables are read in the order of node numbers, so
 * growth that moves them does no harm.
 *
 * Invariants: a node below the snapshot's slots has an image of what it was, or is as it was, or is
 * past its reading; levels are never below the node that is read. A free slot's bytes are blank in
 * every table but the levels: what was deleted is not in the file. */
#include "hnsw/snapshot.h"

#include "hnsw/graph_internal.h"
#include "hnsw/images.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NODES_A_READ   65536u /* some tens of microseconds of one-byte tables */
#define CHUNKS_A_SLICE 4u     /* given back at once: a tenth of a millisecond */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tables are written as they are");

struct links_image {
    uint8_t level;
    uint8_t checked;
    uint32_t links[]; /* level 0, then the others */
};

struct lh_snapshot {
    struct lh_graph *graph;
    struct lh_graph_shape shape;
    struct lh_images links;
    struct lh_images rows;
    uint8_t *levels; /* as they were, below levels_read */
    uint32_t *no_links;
    float *no_row;

    /* Where reading is. */
    enum lh_graph_table table;
    uint32_t node;
    size_t at; /* bytes of the node that have been read */

    /* Nodes below need no images any more. */
    uint32_t levels_read;
    uint32_t links_read; /* with levels and the checked prefix */
    uint32_t upper_read;
    uint32_t rows_read;
};

uint64_t lh_graph_table_bytes(const struct lh_graph *graph, const struct lh_graph_shape *shape,
                              enum lh_graph_table table)
{
    switch (table) {
    case LH_TABLE_LINKS:
        return (uint64_t)shape->slots * graph->links_stride * sizeof(uint32_t);
    case LH_TABLE_UPPER:
        return (uint64_t)shape->upper_blocks * graph->upper_stride * sizeof(uint32_t);
    case LH_TABLE_ROWS:
        return (uint64_t)shape->slots * graph->options.dimension * sizeof(float);
    default:
        return shape->slots;
    }
}

enum lh_status lh_snapshot_begin(struct lh_graph *graph, struct lh_snapshot **snapshot)
{
    assert(graph->snapshot == NULL);
    enum lh_status status = LH_OUT_OF_MEMORY;
    struct lh_snapshot *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return status;
    }
    made->graph = graph;
    made->shape = (struct lh_graph_shape){.slots = graph->slots,
                                          .live = graph->live,
                                          .upper_blocks = graph->upper_used,
                                          .entry = graph->entry,
                                          .norm_scale = graph->norm_scale};
    made->no_links = malloc(graph->links_stride * sizeof *made->no_links);
    made->no_row = calloc(graph->options.dimension, sizeof *made->no_row);
    void *levels = mmap(NULL, (size_t)graph->slots + 1, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    made->levels = levels == MAP_FAILED ? NULL : levels;
    if (made->no_links == NULL || made->no_row == NULL || made->levels == NULL ||
        lh_images_init(&made->links, graph->slots) != LH_OK ||
        lh_images_init(&made->rows, graph->slots) != LH_OK) {
        goto done;
    }
    memset(made->no_links, 0xff, graph->links_stride * sizeof *made->no_links);
    graph->snapshot = made;
    *snapshot = made;
    made = NULL;
    status = LH_OK;
done:
    lh_snapshot_end(made);
    return status;
}

void lh_snapshot_end(struct lh_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    if (snapshot->graph->snapshot == snapshot) {
        snapshot->graph->snapshot = NULL;
    }
    lh_images_deinit(&snapshot->links);
    lh_images_deinit(&snapshot->rows);
    if (snapshot->levels != NULL) {
        munmap(snapshot->levels, (size_t)snapshot->shape.slots + 1);
    }
    free(snapshot->no_row);
    free(snapshot->no_links);
    free(snapshot);
}

const struct lh_graph_shape *lh_snapshot_shape(const struct lh_snapshot *snapshot)
{
    return &snapshot->shape;
}

const struct lh_graph_options *lh_snapshot_options(const struct lh_snapshot *snapshot)
{
    return &snapshot->graph->options;
}

bool lh_snapshot_failed(const struct lh_snapshot *snapshot)
{
    return snapshot->links.failed || snapshot->rows.failed;
}

uint64_t lh_snapshot_bytes(const struct lh_snapshot *snapshot)
{
    return lh_images_bytes(&snapshot->links) + lh_images_bytes(&snapshot->rows);
}

void lh_snapshot_release(struct lh_snapshot *snapshot)
{
    if (snapshot->upper_read == snapshot->shape.slots) {
        lh_images_release(&snapshot->links, CHUNKS_A_SLICE);
    }
    if (snapshot->rows_read == snapshot->shape.slots) {
        lh_images_release(&snapshot->rows, CHUNKS_A_SLICE);
    }
}

/* ---- putting aside ---- */

static uint8_t frozen_level(const struct lh_snapshot *snapshot, uint32_t node)
{
    if (node < snapshot->levels_read) {
        return snapshot->levels[node];
    }
    const struct links_image *image = lh_images_get(&snapshot->links, node);
    return image != NULL ? image->level : snapshot->graph->t.levels[node];
}

bool lh_snapshot_is_live(const struct lh_snapshot *snapshot, uint32_t slot)
{
    assert(slot < snapshot->levels_read);
    return (snapshot->levels[slot] & LH__LEVEL_FREE) == 0;
}

void lh__snapshot_put_links(struct lh_snapshot *snapshot, uint32_t node)
{
    const struct lh_graph *graph = snapshot->graph;
    if (node >= snapshot->shape.slots) {
        return;
    }
    uint32_t level = lh__level(graph, node);
    if (node < (level == 0 ? snapshot->links_read : snapshot->upper_read) ||
        lh_images_has(&snapshot->links, node)) {
        return;
    }
    size_t links_bytes = graph->links_stride * sizeof(uint32_t);
    size_t upper_bytes = (size_t)level * graph->upper_stride * sizeof(uint32_t);
    struct links_image *image =
        lh_images_put(&snapshot->links, node, sizeof *image + links_bytes + upper_bytes);
    if (image == NULL) {
        return;
    }
    image->level = graph->t.levels[node];
    image->checked = graph->t.checked[node];
    memcpy(image->links, lh__links(graph, node, 0), links_bytes);
    if (level > 0) {
        memcpy(image->links + graph->links_stride, lh__links(graph, node, 1), upper_bytes);
    }
}

void lh__snapshot_put_row(struct lh_snapshot *snapshot, uint32_t node)
{
    const struct lh_graph *graph = snapshot->graph;
    if (node >= snapshot->shape.slots || node < snapshot->rows_read ||
        lh_images_has(&snapshot->rows, node) ||
        (frozen_level(snapshot, node) & LH__LEVEL_FREE) != 0) {
        return;
    }
    size_t bytes = graph->options.dimension * sizeof(float);
    void *image = lh_images_put(&snapshot->rows, node, bytes);
    if (image != NULL) {
        memcpy(image, lh__row(graph, node), bytes);
    }
}

/* ---- reading ---- */

static const void *frozen_links(const struct lh_snapshot *snapshot, uint32_t node, bool is_upper)
{
    const struct lh_graph *graph = snapshot->graph;
    const struct links_image *image = lh_images_get(&snapshot->links, node);
    if (image != NULL) {
        return image->links + (is_upper ? graph->links_stride : 0);
    }
    return lh__links(graph, node, is_upper ? 1 : 0);
}

/* The bytes of the current table's current node, as they were. A free slot's upper links need no
 * blanks: they are unused ones already. */
static const void *frozen(struct lh_snapshot *snapshot, size_t *bytes)
{
    static const uint8_t zero = 0;
    const struct lh_graph *graph = snapshot->graph;
    uint32_t node = snapshot->node;
    if (snapshot->table == LH_TABLE_LEVELS) {
        snapshot->levels[node] = frozen_level(snapshot, node);
        *bytes = 1;
        return &snapshot->levels[node];
    }
    bool is_free = !lh_snapshot_is_live(snapshot, node);
    const struct links_image *image;
    switch (snapshot->table) {
    case LH_TABLE_CHECKED:
        *bytes = 1;
        image = lh_images_get(&snapshot->links, node);
        return is_free ? &zero : image != NULL ? &image->checked : &graph->t.checked[node];
    case LH_TABLE_LINKS:
        *bytes = graph->links_stride * sizeof(uint32_t);
        return is_free ? snapshot->no_links : frozen_links(snapshot, node, false);
    case LH_TABLE_UPPER:
        *bytes = lh__level(graph, node) * graph->upper_stride * sizeof(uint32_t);
        return *bytes == 0 ? NULL : frozen_links(snapshot, node, true);
    default:
        *bytes = graph->options.dimension * sizeof(float);
        image = lh_images_get(&snapshot->rows, node);
        return is_free         ? snapshot->no_row
               : image != NULL ? (const void *)image
                               : lh__row(graph, node);
    }
}

static void node_read(struct lh_snapshot *snapshot)
{
    snapshot->at = 0;
    uint32_t read = ++snapshot->node;
    switch (snapshot->table) {
    case LH_TABLE_LEVELS:
        snapshot->levels_read = read;
        break;
    case LH_TABLE_LINKS:
        snapshot->links_read = read;
        break;
    case LH_TABLE_UPPER:
        snapshot->upper_read = read;
        break;
    case LH_TABLE_ROWS:
        snapshot->rows_read = read;
        break;
    default:
        break;
    }
}

size_t lh_snapshot_read(struct lh_snapshot *snapshot, void *bytes, size_t len, bool *is_done)
{
    assert(snapshot->table < LH_GRAPH_TABLES);
    char *to = bytes;
    size_t got = 0;
    for (uint32_t i = 0; i < NODES_A_READ && snapshot->node < snapshot->shape.slots; i++) {
        size_t node_bytes;
        const char *from = frozen(snapshot, &node_bytes);
        size_t part = node_bytes - snapshot->at;
        part = part < len - got ? part : len - got;
        if (part > 0) {
            memcpy(to + got, from + snapshot->at, part);
        }
        got += part;
        snapshot->at += part;
        if (snapshot->at < node_bytes) {
            break; /* no room for the rest */
        }
        node_read(snapshot);
    }
    *is_done = snapshot->node == snapshot->shape.slots;
    if (*is_done) {
        snapshot->table++;
        snapshot->node = 0;
    }
    return got;
}
