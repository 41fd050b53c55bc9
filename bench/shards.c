/* What splitting an index into shards costs a search and brings an add.
 *
 * On one core, for 1, 2, 4 and 8 shards: the build rate (adds arrive in row order and each shard
 * takes its own in batches, the shards in turn), then the ef that a request needs for a merged
 * recall of 0.95 and 0.99 at k = 1, 10 and 100, with the distances of all shards together (int8
 * codes plus float32 rows reranked), against one shard: when one worker has all shards, and when
 * each shard is on a worker of its own and knows nothing of the others. Both search as the server
 * does (lh_placement_search, lh_graphs_search). On two cores: two shards on a thread each against
 * one.
 *
 * The one-core part is one thread; in the two-core part each thread owns its graph. */
#include "lib/bench.h"
#include "lib/quality.h"

#include "shards/placement.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTS     4u
#define SHARDS_MAX 8u
#define KS         3u
#define K_MAX      100u
#define TARGETS    2u
#define ROUNDS_MAX 32u

static const uint32_t shard_counts[COUNTS] = {1, 2, 4, 8};
static const uint32_t ks[KS] = {1, 10, 100};
static const double targets[TARGETS] = {0.95, 0.99};

struct one_shard {
    struct lh_graph *graph;
    uint32_t count;
    float *rows;       /* its rows of the data, packed */
    uint32_t *globals; /* their numbers in the data */
    uint32_t *nodes;   /* by own row */
    uint32_t *owner;   /* by node: number in the data */
};

struct cluster {
    const struct lh_bench_options *options;
    const struct lh_dataset *data;
    uint32_t shards;
    struct one_shard shard[SHARDS_MAX];
};

/* Deals the rows out as the server would, by the hash of their ids. */
static void cluster_init(struct cluster *cluster, const struct lh_bench_options *options,
                         const struct lh_dataset *data, uint32_t shards, uint64_t seed)
{
    *cluster = (struct cluster){.options = options, .data = data, .shards = shards};
    for (uint32_t s = 0; s < shards; s++) {
        struct one_shard *shard = &cluster->shard[s];
        shard->graph = lh_bench_graph(options, data->dimension, seed + s);
        shard->rows = lh_bench_alloc((size_t)data->count * data->dimension, sizeof(float));
        shard->globals = lh_bench_alloc(data->count, sizeof(uint32_t));
        shard->nodes = lh_bench_alloc(data->count, sizeof(uint32_t));
        shard->owner = lh_bench_alloc(data->count, sizeof(uint32_t));
    }
    for (uint32_t row = 0; row < data->count; row++) {
        char id[16];
        snprintf(id, sizeof id, "%u", row);
        uint32_t s = lh_placement_shard(lh_placement_hash(lh_str_of(id)), shards);
        struct one_shard *shard = &cluster->shard[s];
        memcpy(shard->rows + (size_t)shard->count * data->dimension,
               data->rows + (size_t)row * data->dimension, data->dimension * sizeof(float));
        shard->globals[shard->count++] = row;
    }
}

static void cluster_deinit(struct cluster *cluster)
{
    for (uint32_t s = 0; s < cluster->shards; s++) {
        struct one_shard *shard = &cluster->shard[s];
        lh_graph_destroy(shard->graph);
        free(shard->rows);
        free(shard->globals);
        free(shard->nodes);
        free(shard->owner);
    }
}

/* Adds all rows on this thread, a batch to each shard in turn. Returns the seconds. */
static double cluster_build(struct cluster *cluster)
{
    double seconds = 0;
    uint32_t batch = cluster->options->batch;
    for (uint32_t from = 0; from < cluster->data->count; from += batch)
        for (uint32_t s = 0; s < cluster->shards; s++) {
            struct one_shard *shard = &cluster->shard[s];
            if (from >= shard->count)
                continue;
            uint32_t to = shard->count - from < batch ? shard->count : from + batch;
            seconds += lh_bench_add(shard->graph, cluster->options, shard->rows,
                                    cluster->data->dimension, from, to, shard->nodes);
        }
    for (uint32_t s = 0; s < cluster->shards; s++)
        for (uint32_t i = 0; i < cluster->shard[s].count; i++)
            cluster->shard[s].owner[cluster->shard[s].nodes[i]] = cluster->shard[s].globals[i];
    return seconds;
}

/* ---- searching ---- */

struct merge_entry {
    float distance;
    uint32_t row;
};

static int compare_entries(const void *a, const void *b)
{
    const struct merge_entry *x = a, *y = b;
    return (x->distance > y->distance) - (x->distance < y->distance);
}

struct cluster_probe {
    struct cluster *cluster;
    uint32_t k;
    uint32_t here; /* shards that a worker has: all of them, or 1 */
};

static uint64_t work_of(const struct cluster *cluster)
{
    uint64_t work = 0;
    for (uint32_t s = 0; s < cluster->shards; s++) {
        struct lh_graph_stats stats = lh_graph_stats(cluster->shard[s].graph);
        work += stats.distances + stats.reranked;
    }
    return work;
}

/* Searches with a request's `ef`, worker by worker, and merges. */
static double cluster_run(void *arg, uint32_t ef, double *cost)
{
    struct cluster_probe *probe = arg;
    struct cluster *cluster = probe->cluster;
    const struct lh_dataset *data = cluster->data;
    struct lh_search search = lh_placement_search(probe->k, ef, cluster->shards, probe->here);
    struct lh_graph *graphs[SHARDS_MAX];
    uint64_t before = work_of(cluster), total = 0;
    for (uint32_t s = 0; s < cluster->shards; s++)
        graphs[s] = cluster->shard[s].graph;
    for (uint32_t q = 0; q < data->queries; q++) {
        const float *query = data->query_rows + (size_t)q * data->dimension;
        struct merge_entry merged[SHARDS_MAX * K_MAX];
        uint32_t count = 0, rows[K_MAX];
        for (uint32_t s = 0; s < cluster->shards; s += probe->here) {
            struct lh_hit hits[K_MAX];
            uint32_t found;
            lh_bench_check(lh_graphs_search(graphs + s, probe->here, query, &search, hits, &found),
                           "search");
            for (uint32_t i = 0; i < found; i++)
                merged[count++] = (struct merge_entry){
                    hits[i].distance, cluster->shard[s + hits[i].graph].owner[hits[i].node]};
        }
        qsort(merged, count, sizeof *merged, compare_entries);
        count = count < probe->k ? count : probe->k;
        for (uint32_t i = 0; i < count; i++)
            rows[i] = merged[i].row;
        total += lh_dataset_hits(data, q, rows, count, probe->k);
    }
    *cost = (double)(work_of(cluster) - before) / data->queries;
    return (double)total / ((double)probe->k * data->queries);
}

/* One shard's figures, which the others are compared with. */
struct base_figures {
    struct lh_quality quality[KS][TARGETS];
};

/* One way of searching at one k and target, against one shard. */
static void judge_one(struct cluster_probe *arg, double target, const struct lh_quality *one,
                      struct lh_quality *quality)
{
    struct lh_probe probe = {arg, cluster_run};
    const char *workers = arg->here == arg->cluster->shards ? "one worker" : "a worker each";
    if (!lh_quality_find(&probe, arg->k, target, quality) || one->ef == 0) {
        printf("  k %-3u recall %.2f, %s: not reached\n", arg->k, target, workers);
        return;
    }
    double cost, recall = cluster_run(arg, one->ef_whole, &cost);
    printf("  k %-3u recall %.2f, %-13s: ef %6.1f (x%.2f), distances %6.0f (x%.2f) | at one "
           "shard's ef: recall %.4f, distances x%.2f\n",
           arg->k, target, workers, quality->ef, quality->ef / one->ef, quality->cost,
           quality->cost / one->cost, recall, cost / one->cost);
    fflush(stdout);
}

static void judge(struct cluster *cluster, struct base_figures *base)
{
    for (uint32_t i = 0; i < KS; i++)
        for (uint32_t t = 0; t < TARGETS; t++) {
            struct cluster_probe together = {cluster, ks[i], cluster->shards};
            struct cluster_probe apart = {cluster, ks[i], 1};
            struct lh_quality *one = &base->quality[i][t], quality = {0};
            if (cluster->shards == 1) {
                struct lh_probe probe = {&together, cluster_run};
                if (!lh_quality_find(&probe, ks[i], targets[t], one))
                    *one = (struct lh_quality){0};
            }
            judge_one(&together, targets[t], one, &quality);
            if (cluster->shards > 1)
                judge_one(&apart, targets[t], one, &quality);
        }
}

static void on_one_core(const struct lh_bench_options *options, const struct lh_dataset *data)
{
    double rates[COUNTS][ROUNDS_MAX];
    for (uint32_t round = 0; round < options->rounds; round++) {
        struct base_figures base = {0};
        for (uint32_t c = 0; c < COUNTS; c++) {
            struct cluster cluster;
            cluster_init(&cluster, options, data, shard_counts[c],
                         options->seed + (uint64_t)round * SHARDS_MAX);
            rates[c][round] = data->count / cluster_build(&cluster);
            printf("%u shards: %.0f adds/s on one core (x%.2f)\n", shard_counts[c], rates[c][round],
                   rates[c][round] / rates[0][round]);
            judge(&cluster, &base);
            cluster_deinit(&cluster);
        }
    }
}

/* ---- two cores ---- */

struct builder {
    struct cluster *cluster;
    uint32_t shard;
    double cpu_s;
};

static void *build_shard(void *arg)
{
    struct builder *builder = arg;
    struct one_shard *shard = &builder->cluster->shard[builder->shard];
    builder->cpu_s = lh_bench_add(shard->graph, builder->cluster->options, shard->rows,
                                  builder->cluster->data->dimension, 0, shard->count, shard->nodes);
    return NULL;
}

struct build_times {
    double wall_s; /* first start to last end */
    double cpu_s;  /* of the thread that used most: what an undisturbed machine would take */
};

/* Every shard on a thread of its own. */
static struct build_times build_on_threads(struct cluster *cluster)
{
    pthread_t threads[SHARDS_MAX];
    struct builder builders[SHARDS_MAX];
    struct build_times times = {0};
    double start = lh_bench_seconds();
    for (uint32_t s = 0; s < cluster->shards; s++) {
        builders[s] = (struct builder){.cluster = cluster, .shard = s};
        if (pthread_create(&threads[s], NULL, build_shard, &builders[s]) != 0)
            lh_bench_check(LH_IO, "thread");
    }
    for (uint32_t s = 0; s < cluster->shards; s++) {
        pthread_join(threads[s], NULL);
        times.cpu_s = fmax(times.cpu_s, builders[s].cpu_s);
    }
    times.wall_s = lh_bench_seconds() - start;
    return times;
}

static void on_two_cores(const struct lh_bench_options *options, const struct lh_dataset *data)
{
    double wall[ROUNDS_MAX], cpu[ROUNDS_MAX];
    for (uint32_t round = 0; round < options->rounds; round++) {
        struct build_times times[2];
        for (uint32_t which = 0; which < 2; which++) {
            struct cluster cluster;
            cluster_init(&cluster, options, data, which + 1,
                         options->seed + (uint64_t)round * SHARDS_MAX);
            times[which] = build_on_threads(&cluster);
            cluster_deinit(&cluster);
        }
        wall[round] = times[0].wall_s / times[1].wall_s;
        cpu[round] = times[0].cpu_s / times[1].cpu_s;
        printf(
            "1 shard on 1 core %.0f adds/s, 2 shards on 2 cores %.0f adds/s: x%.2f by the clock, "
            "x%.2f by processor time\n",
            data->count / times[0].wall_s, data->count / times[1].wall_s, wall[round], cpu[round]);
        fflush(stdout);
    }
    printf("two shards on two cores against one: adds/s x%.2f by the clock, x%.2f by processor "
           "time\n",
           lh_bench_median(wall, options->rounds), lh_bench_median(cpu, options->rounds));
}

int main(int argc, char **argv)
{
    struct lh_bench_options options = {.rows = 100000,
                                       .queries = 1000,
                                       .rounds = 3,
                                       .batch = 64,
                                       .m = 16,
                                       .ef_construction = 200,
                                       .seed = 1};
    lh_bench_options(
        argc, argv,
        "bench_shards: adds/s and search work of 1, 2, 4 and 8 shards on one core, and "
        "adds/s of two\nshards on two cores. --only: core or cores\n",
        &options);
    if (options.rounds > ROUNDS_MAX) {
        fprintf(stderr, "--rounds: at most %u\n", ROUNDS_MAX);
        return 2;
    }
    struct lh_dataset data;
    lh_bench_load(&options, K_MAX, &data);
    lh_bench_print_setting(&options, &data);
    if (options.only == NULL || strcmp(options.only, "core") == 0)
        on_one_core(&options, &data);
    if (options.only == NULL || strcmp(options.only, "cores") == 0)
        on_two_cores(&options, &data);
    lh_dataset_deinit(&data);
    return 0;
}
