/* What writing a section costs the shard that is written, and what loading it costs.
 *
 * Fills one shard with the rows (--rounds 3: with three times as many, the others mixed from two
 * rows each), then writes its section in blocks, with batches of adds or updates behind each for as
 * long as a worker rests there beside searches: it has nothing but changes to do meanwhile, which
 * is the worst that can come. Reports the longest of everything that a request may have to wait
 * for: begin, block, batch, end; the rate of changes before and meanwhile; the memory of images.
 * Then loads the section. One thread, and its processor time throughout: on a shared machine, the
 * clock has the pauses of others in it. */
#include "lib/bench.h"
#include "lib/items.h"

#include "shards/parts.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define CHANGES      8u   /* in one batch, as in a worker's between two looks at the clock */
#define REST_SECONDS 4e-3 /* as vectord has it */
#define READ_BYTES   (512u << 10)
#define STEP_NODES   1024u

struct bench {
    const struct lh_bench_options *options;
    const struct lh_dataset *data;
    struct lh_items items;
    float *changes;
    uint32_t added; /* ids below this number have come */
    double longest; /* batch */
};

static void apply(struct bench *bench, uint32_t from)
{
    for (uint32_t i = 0; i < CHANGES; i++)
        lh_items_mix(&bench->items, bench->changes + (size_t)i * bench->data->dimension);
    double took = lh_items_add(&bench->items, from, bench->changes, CHANGES);
    bench->longest = took > bench->longest ? took : bench->longest;
}

static void add_new(struct bench *bench)
{
    apply(bench, bench->added);
    bench->added += CHANGES;
}

/* Items get other vectors: each is unlinked and linked anew. */
static void update_old(struct bench *bench)
{
    apply(bench, lh_items_below(&bench->items, bench->added - CHANGES));
}

struct result {
    double begin;
    double block; /* the longest */
    double end;
    double batch; /* the longest */
    double rate;  /* changes a second of their own time */
    uint32_t batches;
    uint64_t images_bytes;
    uint64_t length;
};

/* A section with batches behind each block, into new `bytes` when not NULL. */
static struct result write_section(struct bench *bench, void (*change)(struct bench *),
                                   char **bytes)
{
    struct lh_section_writer *writer;
    struct result result = {0};
    char *block = lh_bench_alloc(1, LH_SECTION_BLOCK_BYTES);
    uint64_t at = 0;
    uint32_t blocks = 0;
    double in_batches = 0;
    size_t got = 1;
    double start = lh_bench_cpu_seconds();
    lh_bench_check(lh_section_begin(bench->items.shard, &writer), "begin");
    result.begin = lh_bench_cpu_seconds() - start;
    result.length = lh_section_length(writer);
    if (bytes != NULL)
        *bytes = lh_bench_alloc(1, result.length);
    bench->longest = 0;
    while (got > 0) {
        start = lh_bench_cpu_seconds();
        char *to = bytes != NULL ? *bytes + at : block;
        uint64_t left = result.length - at;
        size_t len = left < LH_SECTION_BLOCK_BYTES ? (size_t)left : LH_SECTION_BLOCK_BYTES;
        lh_bench_check(lh_section_read(writer, to, len, &got), "read");
        double took = lh_bench_cpu_seconds() - start;
        result.block = took > result.block ? took : result.block;
        at += got;
        blocks++;
        while (change != NULL && in_batches < REST_SECONDS * blocks) {
            start = lh_bench_cpu_seconds();
            change(bench);
            in_batches += lh_bench_cpu_seconds() - start;
            result.batches++;
        }
    }
    result.batch = bench->longest;
    result.images_bytes = lh_section_bytes(writer);
    start = lh_bench_cpu_seconds();
    lh_section_end(writer);
    result.end = lh_bench_cpu_seconds() - start;
    result.rate = in_batches > 0 ? CHANGES * (double)result.batches / in_batches : 0;
    free(block);
    return result;
}

/* Changes while a section is written, and then as many without one. */
static void compare(struct bench *bench, const char *what, void (*change)(struct bench *))
{
    struct result result = write_section(bench, change, NULL);
    bench->longest = 0;
    double start = lh_bench_cpu_seconds();
    for (uint32_t i = 0; i < result.batches; i++)
        change(bench);
    double rate = CHANGES * (double)result.batches / (lh_bench_cpu_seconds() - start);
    printf("%s, ms: begin %.3f, longest block %.3f, end %.3f; longest of %u batches of %u: %.3f "
           "(without %.3f)\n",
           what, result.begin * 1e3, result.block * 1e3, result.end * 1e3, result.batches, CHANGES,
           result.batch * 1e3, bench->longest * 1e3);
    printf("%s, items/s of a core: %.0f during, %.0f without (%.3f); images %.1f MB of %.1f MB\n",
           what, result.rate, rate, result.rate / rate, result.images_bytes * 1e-6,
           result.length * 1e-6);
}

static void load(const struct lh_graph_options *options, const char *bytes, uint64_t length)
{
    struct lh_section_loader *loader;
    struct lh_error error = {0};
    size_t room;
    void *to;
    uint64_t at = 0;
    bool is_done = false;
    double start = lh_bench_cpu_seconds();
    lh_bench_check(lh_section_load(options, length, &loader), "load");
    while ((to = lh_section_next(loader, &room)) != NULL) {
        room = room < READ_BYTES ? room : READ_BYTES;
        memcpy(to, bytes + at, room);
        at += room;
        lh_bench_check(lh_section_filled(loader, room, &error), error.text);
    }
    double filled = lh_bench_cpu_seconds();
    double longest = 0;
    while (!is_done) {
        double step = lh_bench_cpu_seconds();
        lh_bench_check(lh_section_finish(loader, STEP_NODES, &is_done, &error), error.text);
        step = lh_bench_cpu_seconds() - step;
        longest = step > longest ? step : longest;
    }
    double done = lh_bench_cpu_seconds();
    struct lh_shard *shard = lh_section_take(loader);
    double scanned = lh_bench_cpu_seconds();
    uint64_t hash = XXH3_64bits(bytes, length);
    scanned = lh_bench_cpu_seconds() - scanned;
    printf("load: %u items, %.1f MB: filled in %.0f ms, checked in %.0f ms (longest step %.3f); "
           "XXH3 alone %.0f ms (%016llx)\n",
           lh_shard_count(shard), length * 1e-6, (filled - start) * 1e3, (done - filled) * 1e3,
           longest * 1e3, scanned * 1e3, (unsigned long long)hash);
    lh_shard_destroy(shard);
}

static void fill(struct bench *bench)
{
    const struct lh_dataset *data = bench->data;
    double start = lh_bench_cpu_seconds();
    for (uint32_t row = 0; row + CHANGES <= data->count; row += CHANGES) {
        lh_items_add(&bench->items, row, data->rows + (size_t)row * data->dimension, CHANGES);
        bench->added = row + CHANGES;
    }
    while (bench->added < (uint64_t)data->count * bench->options->rounds)
        add_new(bench);
    printf("filled with %u items in %.0f s\n", bench->added, lh_bench_cpu_seconds() - start);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 100000,
                                       .rounds = 1,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1,
                                       .data = "build/data/glove.fbin"};
    struct lh_dataset data;
    struct result result;
    char *bytes;
    lh_bench_options(argc, argv,
                     "checkpoint: what writing a section costs the shard meanwhile, and loading it",
                     &options);
    lh_bench_load(&options, 0, &data);
    lh_bench_print_setting(&options, &data);
    struct lh_graph_options graph = {.dimension = data.dimension,
                                     .distance = LH_DISTANCE_COSINE,
                                     .m = options.m,
                                     .ef_construction = options.ef_construction,
                                     .seed = options.seed};
    struct bench bench = {.options = &options, .data = &data};
    bench.items = (struct lh_items){.data = &data, .random = options.seed};
    bench.changes = lh_bench_alloc((size_t)CHANGES * data.dimension, sizeof(float));
    lh_bench_check(lh_shard_create(&graph, &bench.items.shard), "create");
    fill(&bench);
    compare(&bench, "adds", add_new);
    compare(&bench, "updates", update_old);
    result = write_section(&bench, NULL, &bytes);
    load(&graph, bytes, result.length);
    free(bytes);
    free(bench.changes);
    lh_shard_destroy(bench.items.shard);
    lh_dataset_deinit(&data);
    return 0;
}
