/* One shard of one index. Runs on its worker's thread.
 *
 * Invariants: a live node has an id record, and the id map leads from that id to it; metadata is a
 * second record or none; everything that an add needs was promised before it came. */
#include "shards/shard_internal.h"

#include "shards/placement.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_MAX 16u /* new vectors handed to the graph at once: it interleaves their searches */

static struct lh_str id_of(const void *arg, uint32_t node)
{
    const struct lh_shard *shard = arg;
    return lh_heap_get(&shard->heap, shard->id_at[node]);
}

static void record_moved(void *arg, uint32_t word, uint32_t offset)
{
    struct lh_shard *shard = arg;
    if (word & LH__METADATA_BIT)
        shard->metadata_at[word & ~LH__METADATA_BIT] = offset;
    else
        shard->id_at[word] = offset;
}

enum lh_status lh_shard_create(const struct lh_graph_options *options, struct lh_shard **out)
{
    enum lh_status status = LH_OUT_OF_MEMORY;
    struct lh_shard *shard = calloc(1, sizeof *shard);
    if (shard == NULL)
        return status;
    shard->dimension = options->dimension;
    lh_idmap_init(&shard->ids, id_of, shard);
    lh_heap_init(&shard->heap, record_moved, shard);
    status = lh_graph_create(options, &shard->graph);
    if (status != LH_OK)
        goto done;
    *out = shard;
    shard = NULL;
done:
    lh_shard_destroy(shard);
    return status;
}

void lh_shard_destroy(struct lh_shard *shard)
{
    if (shard == NULL)
        return;
    lh_graph_destroy(shard->graph);
    lh_idmap_deinit(&shard->ids);
    lh_heap_deinit(&shard->heap);
    free(shard->id_at);
    free(shard->metadata_at);
    free(shard->group_rows);
    free(shard->hits);
    free(shard);
}

/* ---- writing ---- */

uint64_t lh_shard_item_bytes(const struct lh_batch_item *item)
{
    uint64_t bytes = lh_heap_record_bytes(item->id.len);
    if (item->metadata.ptr != NULL)
        bytes += lh_heap_record_bytes(item->metadata.len);
    return bytes;
}

static enum lh_status grow_table(uint32_t **table, uint32_t from, uint32_t to)
{
    uint32_t *grown = realloc(*table, (size_t)to * sizeof **table);
    if (grown == NULL)
        return LH_OUT_OF_MEMORY;
    for (uint32_t i = from; i < to; i++)
        grown[i] = LH_HEAP_NONE;
    *table = grown;
    return LH_OK;
}

enum lh_status lh__shard_reserve_tables(struct lh_shard *shard, uint64_t nodes)
{
    uint64_t capacity = shard->node_capacity ? shard->node_capacity : 1024;
    if (nodes <= shard->node_capacity)
        return LH_OK;
    while (capacity < nodes)
        capacity += capacity / 2;
    enum lh_status status = grow_table(&shard->id_at, shard->node_capacity, (uint32_t)capacity);
    if (status == LH_OK)
        status = grow_table(&shard->metadata_at, shard->node_capacity, (uint32_t)capacity);
    if (status == LH_OK)
        shard->node_capacity = (uint32_t)capacity;
    return status;
}

enum lh_status lh_shard_reserve(struct lh_shard *shard, struct lh_shard_room room)
{
    uint64_t more = shard->promised_nodes + room.nodes;
    uint64_t slots = lh_graph_slots(shard->graph) + more;
    if (slots > LH_NODES_MAX)
        return LH_OUT_OF_MEMORY;
    if (shard->group_rows == NULL)
        shard->group_rows = malloc((size_t)GROUP_MAX * shard->dimension * sizeof(float));
    if (shard->group_rows == NULL)
        return LH_OUT_OF_MEMORY;
    enum lh_status status = lh_graph_reserve(shard->graph, (uint32_t)more);
    if (status == LH_OK)
        status = lh__shard_reserve_tables(shard, slots);
    if (status == LH_OK)
        status = lh_idmap_reserve(&shard->ids, (uint32_t)(lh_graph_count(shard->graph) + more));
    if (status == LH_OK)
        status = lh_heap_reserve(&shard->heap, room.bytes);
    if (status == LH_OK)
        shard->promised_nodes = more;
    return status;
}

static void put_metadata(struct lh_shard *shard, uint32_t node, struct lh_str metadata)
{
    if (metadata.ptr == NULL)
        return;
    lh__touch_item(shard, node);
    uint32_t before = shard->metadata_at[node];
    shard->metadata_at[node] = lh_heap_put(&shard->heap, node | LH__METADATA_BIT, metadata);
    if (before != LH_HEAP_NONE)
        lh_heap_drop(&shard->heap, before);
}

/* New items that wait to enter the graph together. */
struct group {
    uint32_t count;
    const struct lh_batch_item *items[GROUP_MAX];
    uint64_t hashes[GROUP_MAX];
};

static void flush(struct lh_shard *shard, struct group *group)
{
    uint32_t nodes[GROUP_MAX];
    if (group->count == 0)
        return;
    assert(shard->promised_nodes >= group->count);
    lh_graph_add(shard->graph, shard->group_rows, group->count, nodes);
    shard->promised_nodes -= group->count;
    for (uint32_t i = 0; i < group->count; i++) {
        assert(nodes[i] < shard->node_capacity);
        shard->id_at[nodes[i]] = lh_heap_put(&shard->heap, nodes[i], group->items[i]->id);
        put_metadata(shard, nodes[i], group->items[i]->metadata);
        lh_idmap_put(&shard->ids, group->hashes[i], nodes[i]);
    }
    group->count = 0;
}

static bool group_has(const struct group *group, struct lh_str id)
{
    for (uint32_t i = 0; i < group->count; i++) {
        if (lh_str_eq(group->items[i]->id, id))
            return true;
    }
    return false;
}

static void update(struct lh_shard *shard, uint32_t node, const struct lh_batch_item *item,
                   const float *row)
{
    size_t bytes = shard->dimension * sizeof(float);
    /* The same vector again costs no relinking: pushing a whole set once more is common. */
    if (memcmp(lh_graph_row(shard->graph, node), row, bytes) != 0)
        lh_graph_update(shard->graph, node, row);
    put_metadata(shard, node, item->metadata);
}

void lh_shard_add(struct lh_shard *shard, const struct lh_batch *batch, const uint32_t *numbers,
                  const uint64_t *hashes, uint32_t count, struct lh_shard_counts *counts,
                  struct lh_shard_room *unused)
{
    struct group group = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct lh_batch_item *item = &batch->items[numbers[i]];
        const float *row = batch->rows + (size_t)numbers[i] * batch->dimension;
        uint64_t hash = hashes[numbers[i]];
        if (group_has(&group, item->id))
            flush(shard, &group);
        uint32_t node = lh_idmap_find(&shard->ids, item->id, hash);
        if (node != LH_IDMAP_NONE) {
            update(shard, node, item, row);
            counts->updated++;
            unused->nodes++;
            unused->bytes += lh_heap_record_bytes(item->id.len);
            continue;
        }
        group.items[group.count] = item;
        group.hashes[group.count] = hash;
        memcpy(shard->group_rows + (size_t)group.count * shard->dimension, row,
               shard->dimension * sizeof(float));
        counts->added++;
        if (++group.count == GROUP_MAX)
            flush(shard, &group);
    }
    flush(shard, &group);
}

bool lh_shard_delete(struct lh_shard *shard, struct lh_str id, uint64_t hash)
{
    uint32_t node = lh_idmap_find(&shard->ids, id, hash);
    if (node == LH_IDMAP_NONE)
        return false;
    uint32_t id_at = shard->id_at[node];
    uint32_t metadata_at = shard->metadata_at[node];
    lh__touch_item(shard, node);
    lh_idmap_drop(&shard->ids, hash, node);
    lh_graph_remove(shard->graph, node);
    /* Both offsets are forgotten before a drop, which may move other records. */
    shard->id_at[node] = LH_HEAP_NONE;
    lh_heap_drop(&shard->heap, id_at);
    metadata_at = shard->metadata_at[node];
    shard->metadata_at[node] = LH_HEAP_NONE;
    if (metadata_at != LH_HEAP_NONE)
        lh_heap_drop(&shard->heap, metadata_at);
    return true;
}

/* ---- reading ---- */

void lh_found_list_deinit(struct lh_found_list *list)
{
    free(list->items);
    free(list->rows);
    lh_buf_deinit(&list->text);
    *list = (struct lh_found_list){0};
}

static enum lh_status grow_list(struct lh_found_list *list)
{
    uint32_t capacity = list->capacity ? 2 * list->capacity : 16;
    struct lh_found *items = realloc(list->items, capacity * sizeof *items);
    if (items == NULL)
        return LH_OUT_OF_MEMORY;
    list->items = items;
    list->capacity = capacity;
    return LH_OK;
}

static enum lh_status append_row(struct lh_found_list *list, const float *row, uint32_t dimension)
{
    if (list->row_floats + dimension > list->row_capacity) {
        size_t capacity = 2 * (list->row_floats + dimension);
        float *rows = realloc(list->rows, capacity * sizeof *rows);
        if (rows == NULL)
            return LH_OUT_OF_MEMORY;
        list->rows = rows;
        list->row_capacity = capacity;
    }
    memcpy(list->rows + list->row_floats, row, dimension * sizeof *row);
    list->row_floats += dimension;
    return LH_OK;
}

/* Copies one item into an answer: its shard may change it as soon as this step is over. */
static enum lh_status append_found(const struct lh_shard *shard, uint32_t node, float distance,
                                   const struct lh_found_options *options,
                                   struct lh_found_list *list)
{
    enum lh_status status = LH_OK;
    if (list->count == list->capacity)
        status = grow_list(list);
    if (status != LH_OK)
        return status;
    struct lh_str id = lh_heap_get(&shard->heap, shard->id_at[node]);
    struct lh_found *found = &list->items[list->count];
    *found = (struct lh_found){.distance = distance,
                               .id_len = (uint32_t)id.len,
                               .text_at = list->text.len,
                               .row_at = list->row_floats};
    lh_buf_append_str(&list->text, id);
    if (options->with_metadata && shard->metadata_at[node] != LH_HEAP_NONE) {
        struct lh_str metadata = lh_heap_get(&shard->heap, shard->metadata_at[node]);
        found->has_metadata = true;
        found->metadata_len = (uint32_t)metadata.len;
        lh_buf_append_str(&list->text, metadata);
    }
    if (options->with_vector)
        status = append_row(list, lh_graph_row(shard->graph, node), shard->dimension);
    if (status != LH_OK || lh_buf_failed(&list->text))
        return LH_OUT_OF_MEMORY;
    list->count++;
    if (list->text.len + list->row_floats * sizeof(float) > options->bytes_max)
        return LH_LIMIT_EXCEEDED;
    return LH_OK;
}

enum lh_status lh_shard_search(struct lh_shard *const *shards, uint32_t count, const float *query,
                               const struct lh_search *search,
                               const struct lh_found_options *options, struct lh_found_list *list)
{
    struct lh_graph *graphs[LH_SHARDS_MAX];
    struct lh_shard *first = shards[0];
    uint32_t found = 0;
    assert(count <= LH_SHARDS_MAX);
    if (search->k > first->hit_capacity) {
        struct lh_hit *hits = realloc(first->hits, search->k * sizeof *hits);
        if (hits == NULL)
            return LH_OUT_OF_MEMORY;
        first->hits = hits;
        first->hit_capacity = search->k;
    }
    for (uint32_t i = 0; i < count; i++)
        graphs[i] = shards[i]->graph;
    enum lh_status status = lh_graphs_search(graphs, count, query, search, first->hits, &found);
    for (uint32_t i = 0; i < found && status == LH_OK; i++) {
        const struct lh_hit *hit = &first->hits[i];
        status = append_found(shards[hit->graph], hit->node, hit->distance, options, list);
    }
    return status;
}

enum lh_status lh_shard_get(struct lh_shard *shard, struct lh_str id, uint64_t hash,
                            const struct lh_found_options *options, struct lh_found_list *list)
{
    uint32_t node = lh_idmap_find(&shard->ids, id, hash);
    if (node == LH_IDMAP_NONE)
        return LH_ITEM_NOT_FOUND;
    return append_found(shard, node, 0, options, list);
}

enum lh_status lh_shard_page(struct lh_shard *shard, uint32_t *node, uint32_t limit,
                             const struct lh_found_options *options, struct lh_found_list *list)
{
    uint32_t slots = lh_graph_slots(shard->graph);
    uint32_t at = *node;
    enum lh_status status = LH_OK;
    for (; at < slots && limit > 0 && status == LH_OK; at++) {
        if (!lh_graph_is_live(shard->graph, at))
            continue;
        status = append_found(shard, at, 0, options, list);
        limit--;
    }
    *node = at < slots ? at : LH_NO_ITEM;
    return status;
}

uint32_t lh_shard_count(const struct lh_shard *shard)
{
    return lh_graph_count(shard->graph);
}

uint64_t lh_shard_bytes(const struct lh_shard *shard)
{
    return lh_graph_bytes(shard->graph) + lh_heap_bytes(&shard->heap) +
           lh_idmap_bytes(&shard->ids) + (uint64_t)shard->node_capacity * 2 * sizeof(uint32_t) +
           (shard->group_rows ? GROUP_MAX * shard->dimension * sizeof(float) : 0) + sizeof *shard;
}

struct lh_graph *lh_shard_graph(struct lh_shard *shard)
{
    return shard->graph;
}

enum lh_status lh_shard_validate(const struct lh_shard *shard, struct lh_error *error)
{
    uint32_t live = 0;
    for (uint32_t node = 0; node < lh_graph_slots(shard->graph); node++) {
        if (!lh_graph_is_live(shard->graph, node)) {
            if (node < shard->node_capacity && shard->id_at[node] != LH_HEAP_NONE)
                return lh_error_set(error, LH_CORRUPT, "node %u is free and has an id", node);
            continue;
        }
        live++;
        if (node >= shard->node_capacity || shard->id_at[node] == LH_HEAP_NONE)
            return lh_error_set(error, LH_CORRUPT, "node %u has no id", node);
        struct lh_str id = lh_heap_get(&shard->heap, shard->id_at[node]);
        if (lh_idmap_find(&shard->ids, id, lh_placement_hash(id)) != node)
            return lh_error_set(error, LH_CORRUPT, "id \"%.*s\" does not lead to node %u",
                                LH_STR_FMT(id), node);
    }
    if (live != shard->ids.now.count + shard->ids.old.count)
        return lh_error_set(error, LH_CORRUPT, "%u nodes, %u ids", live,
                            shard->ids.now.count + shard->ids.old.count);
    return lh_graph_validate(shard->graph, error);
}
