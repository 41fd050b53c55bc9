/* Memory of a stored vector beyond its float32 numbers: codes, links, ids, tables, spare room.
 *
 * Fills one shard with the rows under ids like "item-00012345", as vectord does, and reads what the
 * shard, its graph and the process hold. One thread. */
#include "lib/bench.h"
#include "lib/items.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define STEPS 8u

static double resident_bytes(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    bool ok = file != NULL && fscanf(file, "%lu %lu", &total, &resident) == 2;
    if (file != NULL)
        fclose(file);
    return ok ? 4096.0 * (double)resident : 0;
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 50000,
                                       .queries = 1,
                                       .rounds = 1,
                                       .batch = LH_ITEMS_MAX,
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
    struct lh_items items = {.data = &data};
    lh_bench_check(lh_shard_create(&graph, &items.shard), "shard");
    double before = resident_bytes(), row_bytes = 4.0 * data.dimension;
    for (uint32_t step = 1; step <= STEPS; step++) {
        uint32_t to = (uint32_t)((uint64_t)data.count * step / STEPS),
                 from = lh_shard_count(items.shard);
        for (uint32_t count; from < to; from += count) {
            count = to - from < LH_ITEMS_MAX ? to - from : LH_ITEMS_MAX;
            lh_items_add(&items, from, data.rows + (size_t)from * data.dimension, count);
        }
        malloc_trim(0);
        printf("%8u vectors: beyond the float32 bytes, graph %6.0f, shard with ids %6.0f, "
               "process %6.0f bytes a vector\n",
               to, (double)lh_graph_bytes(lh_shard_graph(items.shard)) / to - row_bytes,
               (double)lh_shard_bytes(items.shard) / to - row_bytes,
               (resident_bytes() - before) / to - row_bytes);
        fflush(stdout);
    }
    lh_shard_destroy(items.shard);
    lh_dataset_deinit(&data);
    return 0;
}
