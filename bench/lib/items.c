/* Batches of items without a server. One thread. */
#include "items.h"

#include "bench.h"
#include "shards/placement.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define ID_BYTES 16u

uint32_t lh_items_below(struct lh_items *items, uint32_t n)
{
    uint64_t x = ++items->random * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    return (uint32_t)((x >> 32) * n >> 32);
}

void lh_items_mix(struct lh_items *items, float *out)
{
    const struct lh_dataset *data = items->data;
    const float *a = data->rows + (size_t)lh_items_below(items, data->count) * data->dimension;
    const float *b = data->rows + (size_t)lh_items_below(items, data->count) * data->dimension;
    for (uint32_t i = 0; i < data->dimension; i++)
        out[i] = a[i] + 0.5f * b[i];
}

static struct lh_str id_of(uint32_t item, char text[ID_BYTES])
{
    snprintf(text, ID_BYTES, "item-%08u", item);
    return lh_str_of(text);
}

/* Covers a part of the need; returns what is left. */
static struct lh_shard_room take_spare(struct lh_shard_room *need, struct lh_shard_room spare)
{
    struct lh_shard_room taken = {.nodes = need->nodes < spare.nodes ? need->nodes : spare.nodes,
                                  .bytes = need->bytes < spare.bytes ? need->bytes : spare.bytes};
    need->nodes -= taken.nodes;
    need->bytes -= taken.bytes;
    return (struct lh_shard_room){.nodes = spare.nodes - taken.nodes,
                                  .bytes = spare.bytes - taken.bytes};
}

double lh_items_add(struct lh_items *items, uint32_t from, const float *rows, uint32_t count)
{
    char ids[LH_ITEMS_MAX][ID_BYTES];
    struct lh_batch_item list[LH_ITEMS_MAX];
    uint32_t numbers[LH_ITEMS_MAX], dimension = items->data->dimension;
    uint64_t hashes[LH_ITEMS_MAX];
    struct lh_shard_room need = {.nodes = count};
    struct lh_shard_counts counts = {0};
    struct lh_batch batch = {.count = count,
                             .dimension = dimension,
                             .items = list,
                             .rows = (float *)rows,
                             .odd_item = LH_NO_ITEM,
                             .zero_item = LH_NO_ITEM};
    assert(count <= LH_ITEMS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        list[i] = (struct lh_batch_item){.id = id_of(from + i, ids[i]), .dimension = dimension};
        hashes[i] = lh_placement_hash(list[i].id);
        numbers[i] = i;
        need.bytes += lh_shard_item_bytes(&list[i]);
    }
    items->spare = take_spare(&need, items->spare);
    double start = lh_bench_cpu_seconds();
    lh_bench_check(lh_shard_reserve(items->shard, need), "reserve");
    lh_shard_add(items->shard, &batch, numbers, hashes, count, &counts, &items->spare);
    return lh_bench_cpu_seconds() - start;
}

double lh_items_delete(struct lh_items *items, uint32_t item)
{
    char text[ID_BYTES];
    struct lh_str id = id_of(item, text);
    uint64_t hash = lh_placement_hash(id);
    double start = lh_bench_cpu_seconds();
    bool was_there = lh_shard_delete(items->shard, id, hash);
    double took = lh_bench_cpu_seconds() - start;
    if (!was_there) {
        fprintf(stderr, "delete: %s is not there\n", text);
        exit(1);
    }
    return took;
}
