/* Memory of a stored vector beyond its float32 numbers: codes, links, ids, tables, spare room.
 *
 * Fills one shard with the rows under ids like "item-00012345", as vectord does, and reads what the
 * shard, its graph and the process hold. One thread. */
#include "lib/bench.h"

#include "shards/placement.h"
#include "shards/shard.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define ID_BYTES 16u
#define STEPS    8u

static double resident_bytes(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    bool ok = file != NULL && fscanf(file, "%lu %lu", &total, &resident) == 2;
    if (file != NULL)
        fclose(file);
    return ok ? 4096.0 * (double)resident : 0;
}

/* Adds rows [from, to) as one batch the server could have decoded. */
static void add_rows(struct lh_shard *shard, const struct lh_dataset *data, uint32_t from,
                     uint32_t to)
{
    uint32_t count = to - from;
    char(*ids)[ID_BYTES] = lh_bench_alloc(count, sizeof *ids);
    struct lh_batch_item *items = lh_bench_alloc(count, sizeof *items);
    uint32_t *numbers = lh_bench_alloc(count, sizeof *numbers);
    uint64_t *hashes = lh_bench_alloc(count, sizeof *hashes);
    struct lh_batch batch = {.count = count,
                             .dimension = data->dimension,
                             .items = items,
                             .rows = data->rows + (size_t)from * data->dimension,
                             .odd_item = LH_NO_ITEM,
                             .zero_item = LH_NO_ITEM};
    struct lh_shard_room room = {.nodes = count}, unused;
    struct lh_shard_counts counts = {0};
    for (uint32_t i = 0; i < count; i++) {
        snprintf(ids[i], sizeof ids[i], "item-%08u", from + i);
        items[i] = (struct lh_batch_item){.id = lh_str_of(ids[i]), .dimension = data->dimension};
        hashes[i] = lh_placement_hash(items[i].id);
        numbers[i] = i;
        room.bytes += lh_shard_item_bytes(&items[i]);
    }
    lh_bench_check(lh_shard_reserve(shard, room), "reserve");
    lh_shard_add(shard, &batch, numbers, hashes, count, &counts, &unused);
    free(ids);
    free(items);
    free(numbers);
    free(hashes);
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 50000,
                                       .queries = 1,
                                       .rounds = 1,
                                       .batch = 64,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1};
    lh_bench_options(argc, argv,
                     "bench_memory: bytes a stored vector with its id takes beyond its float32 "
                     "numbers, at eight sizes up to --rows.\n",
                     &options);
    struct lh_dataset data;
    lh_bench_load(&options, 1, &data);
    lh_bench_print_setting(&options, &data);
    struct lh_graph_options graph = {.dimension = data.dimension,
                                     .distance = LH_DISTANCE_COSINE,
                                     .m = options.m,
                                     .ef_construction = options.ef_construction,
                                     .seed = options.seed};
    struct lh_shard *shard;
    lh_bench_check(lh_shard_create(&graph, &shard), "shard");
    double before = resident_bytes(), row_bytes = 4.0 * data.dimension;
    for (uint32_t step = 1; step <= STEPS; step++) {
        uint32_t to = (uint32_t)((uint64_t)data.count * step / STEPS), from = lh_shard_count(shard);
        for (; from < to; from = lh_shard_count(shard))
            add_rows(shard, &data, from, to - from < options.batch ? to : from + options.batch);
        malloc_trim(0);
        printf("%8u vectors: beyond the float32 bytes, graph %6.0f, shard with ids %6.0f, "
               "process %6.0f bytes a vector\n",
               to, (double)lh_graph_bytes(lh_shard_graph(shard)) / to - row_bytes,
               (double)lh_shard_bytes(shard) / to - row_bytes,
               (resident_bytes() - before) / to - row_bytes);
        fflush(stdout);
    }
    lh_shard_destroy(shard);
    lh_dataset_deinit(&data);
    return 0;
}
