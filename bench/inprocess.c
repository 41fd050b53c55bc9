/* What the shards can do without HTTP: adds/s and searches/s of S shards on S threads.
 *
 * Each thread owns one shard (graph, ids, placement by id) and works off all that belongs to it:
 * its part of the rows in batches, then every query at the per-shard k and ef of
 * lh_placement_search. Searches are timed at the smallest ef whose merged recall@10 is 0.95, which
 * is printed for the HTTP side to use. --only truth prints each query's ten nearest rows instead,
 * one query a line. */
#include "lib/bench.h"
#include "lib/quality.h"

#include "shards/placement.h"
#include "shards/shard.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define K          10u
#define TARGET     0.95
#define PASSES     5u
#define SHARDS_MAX 64u
#define ID_BYTES   12u

struct part {
    struct lh_shard *shard;
    const struct lh_bench_options *options;
    const struct lh_dataset *data;
    uint32_t count;
    float *rows;
    struct lh_batch_item *items;
    uint64_t *hashes;
    uint32_t *numbers;
    struct lh_search search;
    struct lh_found_list *answers; /* one list a query, kept for the merge */
};

struct parts {
    uint32_t count;
    char (*ids)[ID_BYTES];
    struct part part[SHARDS_MAX];
};

static void parts_init(struct parts *parts, const struct lh_bench_options *options,
                       const struct lh_dataset *data, uint32_t count)
{
    *parts = (struct parts){.count = count};
    parts->ids = lh_bench_alloc(data->count, sizeof *parts->ids);
    for (uint32_t s = 0; s < count; s++) {
        struct lh_graph_options graph = {.dimension = data->dimension,
                                         .distance = LH_DISTANCE_COSINE,
                                         .m = options->m,
                                         .ef_construction = options->ef_construction,
                                         .seed = options->seed + s};
        struct part *part = &parts->part[s];
        *part = (struct part){.options = options, .data = data};
        lh_bench_check(lh_shard_create(&graph, &part->shard), "shard");
        part->rows = lh_bench_alloc((size_t)data->count * data->dimension, sizeof(float));
        part->items = lh_bench_alloc(data->count, sizeof *part->items);
        part->hashes = lh_bench_alloc(data->count, sizeof *part->hashes);
        part->numbers = lh_bench_alloc(data->count, sizeof *part->numbers);
        part->answers = lh_bench_alloc(data->queries, sizeof *part->answers);
    }
    for (uint32_t row = 0; row < data->count; row++) {
        snprintf(parts->ids[row], ID_BYTES, "%u", row);
        struct lh_str id = lh_str_of(parts->ids[row]);
        uint64_t hash = lh_placement_hash(id);
        struct part *part = &parts->part[lh_placement_shard(hash, count)];
        memcpy(part->rows + (size_t)part->count * data->dimension,
               data->rows + (size_t)row * data->dimension, data->dimension * sizeof(float));
        part->items[part->count] = (struct lh_batch_item){.id = id, .dimension = data->dimension};
        part->hashes[part->count] = hash;
        part->numbers[part->count] = part->count % options->batch;
        part->count++;
    }
}

static void parts_deinit(struct parts *parts)
{
    for (uint32_t s = 0; s < parts->count; s++) {
        struct part *part = &parts->part[s];
        for (uint32_t q = 0; q < part->data->queries; q++)
            lh_found_list_deinit(&part->answers[q]);
        lh_shard_destroy(part->shard);
        free(part->rows);
        free(part->items);
        free(part->hashes);
        free(part->numbers);
        free(part->answers);
    }
    free(parts->ids);
}

static void *add_part(void *arg)
{
    struct part *part = arg;
    for (uint32_t from = 0; from < part->count; from += part->options->batch) {
        uint32_t left = part->count - from;
        struct lh_batch batch = {.count = left < part->options->batch ? left : part->options->batch,
                                 .dimension = part->data->dimension,
                                 .items = part->items + from,
                                 .rows = part->rows + (size_t)from * part->data->dimension,
                                 .odd_item = LH_NO_ITEM,
                                 .zero_item = LH_NO_ITEM};
        struct lh_shard_room room = {.nodes = batch.count}, unused;
        struct lh_shard_counts counts = {0};
        for (uint32_t i = 0; i < batch.count; i++)
            room.bytes += lh_shard_item_bytes(&batch.items[i]);
        lh_bench_check(lh_shard_reserve(part->shard, room), "reserve");
        lh_shard_add(part->shard, &batch, part->numbers + from, part->hashes + from, batch.count,
                     &counts, &unused);
    }
    return NULL;
}

static void *search_part(void *arg)
{
    struct part *part = arg;
    struct lh_found_options options = {.bytes_max = UINT64_MAX};
    for (uint32_t q = 0; q < part->data->queries; q++) {
        struct lh_found_list *list = &part->answers[q];
        list->count = 0;
        list->text.len = 0;
        lh_bench_check(lh_shard_search(&part->shard, 1,
                                       part->data->query_rows + (size_t)q * part->data->dimension,
                                       &part->search, &options, list),
                       "search");
    }
    return NULL;
}

/* Runs `work` for every part on a thread of its own. Returns the seconds. */
static double on_threads(struct parts *parts, void *(*work)(void *))
{
    pthread_t threads[SHARDS_MAX];
    double start = lh_bench_seconds();
    for (uint32_t s = 0; s < parts->count; s++)
        if (pthread_create(&threads[s], NULL, work, &parts->part[s]) != 0)
            lh_bench_check(LH_IO, "thread");
    for (uint32_t s = 0; s < parts->count; s++)
        pthread_join(threads[s], NULL);
    return lh_bench_seconds() - start;
}

static uint32_t merged_hits(const struct parts *parts, uint32_t query)
{
    uint32_t at[SHARDS_MAX] = {0}, rows[K], count = 0;
    while (count < K) {
        const struct lh_found_list *best = NULL;
        uint32_t best_part = 0;
        for (uint32_t s = 0; s < parts->count; s++) {
            const struct lh_found_list *list = &parts->part[s].answers[query];
            if (at[s] < list->count && (best == NULL || list->items[at[s]].distance <
                                                            best->items[at[best_part]].distance)) {
                best = list;
                best_part = s;
            }
        }
        if (best == NULL)
            break;
        const struct lh_found *hit = &best->items[at[best_part]++];
        char id[ID_BYTES] = {0};
        memcpy(id, best->text.ptr + hit->text_at, hit->id_len);
        rows[count++] = (uint32_t)strtoul(id, NULL, 10);
    }
    return lh_dataset_hits(parts->part[0].data, query, rows, count, K);
}

static double parts_run(void *arg, uint32_t ef, double *cost)
{
    struct parts *parts = arg;
    uint64_t hits = 0;
    for (uint32_t s = 0; s < parts->count; s++)
        parts->part[s].search = lh_placement_search(K, ef, parts->count, 1);
    *cost = on_threads(parts, search_part);
    for (uint32_t q = 0; q < parts->part[0].data->queries; q++)
        hits += merged_hits(parts, q);
    return (double)hits / ((double)K * parts->part[0].data->queries);
}

static void print_truth(const struct lh_dataset *data)
{
    for (uint32_t q = 0; q < data->queries; q++)
        for (uint32_t i = 0; i < K; i++)
            printf("%u%c", data->truth[(size_t)q * data->truth_k + i], i + 1 < K ? ' ' : '\n');
}

static void measure(const struct lh_bench_options *options, const struct lh_dataset *data,
                    uint32_t shards)
{
    struct parts *parts = lh_bench_alloc(1, sizeof *parts);
    parts_init(parts, options, data, shards);
    double add_s = on_threads(parts, add_part);
    struct lh_probe probe = {parts, parts_run};
    struct lh_quality quality = {.ef_whole = K};
    double passes[PASSES], recall = 0;
    if (!lh_quality_find(&probe, K, TARGET, &quality))
        printf("recall %.2f not reached\n", TARGET);
    for (uint32_t i = 0; i < PASSES; i++) {
        double seconds;
        recall = parts_run(parts, quality.ef_whole, &seconds);
        passes[i] = data->queries / seconds;
    }
    printf("shards %u adds_per_s %.0f ef %u recall %.4f searches_per_s %.0f\n", shards,
           data->count / add_s, quality.ef_whole, recall, lh_bench_median(passes, PASSES));
    fflush(stdout);
    parts_deinit(parts);
    free(parts);
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 100000,
                                       .queries = 1000,
                                       .rounds = 1,
                                       .batch = 64,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1};
    lh_bench_options(argc, argv,
                     "bench_inprocess: adds/s and searches/s of shards on threads of their own, "
                     "without HTTP.\n--only: the number of shards (1), or \"truth\"\n",
                     &options);
    struct lh_dataset data;
    uint64_t shards = 1;
    bool truth = options.only != NULL && strcmp(options.only, "truth") == 0;
    if (!truth && options.only != NULL &&
        (!lh_str_to_u64(lh_str_of(options.only), &shards) || shards < 1 || shards > SHARDS_MAX)) {
        fprintf(stderr, "--only: a number of shards up to %u, or truth\n", SHARDS_MAX);
        return 2;
    }
    lh_bench_load(&options, K, &data);
    if (truth) {
        print_truth(&data);
    } else {
        lh_bench_print_setting(&options, &data);
        for (uint32_t round = 0; round < options.rounds; round++)
            measure(&options, &data, (uint32_t)shards);
    }
    lh_dataset_deinit(&data);
    return 0;
}
