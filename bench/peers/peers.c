/* lh_graph against hnswlib and faiss: the same rows, one thread, one process.
 *
 * A round builds every graph, each with the round's seed, in turns of a tenth of the rows, so that
 * a noisy moment of the machine meets all of them; adds/s is rows over the processor time of a
 * graph's turns.
 * lh_graph takes the rows as they are in batches and normalises them itself, hnswlib takes unit
 * rows one by one, faiss takes a turn's unit rows in one call. Then:
 *
 *   quality: links are exported and one float32 searcher (lib/links.c) finds how many distances it
 *            needs on each graph for recall@10 = 0.95 and 0.99;
 *   search:  each library's own search on its own graph at the ef where its own recall@10 reaches
 *            the target, in turns of one pass over the queries.
 *
 * Ratios are taken within a round; the last lines give their medians (speed) and the ratio of
 * means (quality). */
#include "peers.h"

#include "lib/bench.h"
#include "lib/quality.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURNS        10u
#define SEARCH_TURNS 9u
#define ROUNDS_MAX   32u
#define K            10u
#define TARGETS      2u
#define CONTENDERS   3u

static const double targets[TARGETS] = {0.95, 0.99};

/* One library in one round; `kind` is NULL for lh_graph. */
struct contender {
    const struct lh_peer_kind *kind;
    struct lh_peer *peer;
    struct lh_graph *graph;
    uint32_t *nodes; /* lh_graph: by row */
    uint32_t *rows;  /* lh_graph: by node */
    double add_s;
};

struct figures {
    double adds_per_s;
    double ef[TARGETS];
    double distances[TARGETS];
    double degree;
    uint32_t own_ef[TARGETS];
    double searches_per_s[TARGETS];
};

struct run {
    struct lh_bench_options options;
    struct lh_dataset data;
    uint32_t count;
    const struct lh_peer_kind *kinds[CONTENDERS]; /* NULL is lh_graph */
    struct figures figures[ROUNDS_MAX][CONTENDERS];
};

static const char *name_of(const struct lh_peer_kind *kind)
{
    return kind == NULL ? "lh_graph" : kind->name;
}

static void contender_init(struct contender *c, const struct run *run, uint32_t which,
                           uint32_t round)
{
    const struct lh_bench_options *o = &run->options;
    *c = (struct contender){.kind = run->kinds[which]};
    uint64_t seed = o->seed + round;
    if (c->kind != NULL) {
        struct lh_peer_options peer = {.dimension = run->data.dimension,
                                       .capacity = run->data.count,
                                       .m = o->m,
                                       .ef_construction = o->ef_construction,
                                       .seed = (uint32_t)seed};
        c->peer = c->kind->create(&peer);
        return;
    }
    c->graph = lh_bench_graph(o, run->data.dimension, seed);
    c->nodes = lh_bench_alloc(run->data.count, sizeof *c->nodes);
    c->rows = lh_bench_alloc(run->data.count, sizeof *c->rows);
}

static void contender_deinit(struct contender *c)
{
    if (c->kind != NULL)
        c->kind->destroy(c->peer);
    lh_graph_destroy(c->graph);
    free(c->nodes);
    free(c->rows);
}

static void add_turn(struct contender *c, const struct run *run, uint32_t from, uint32_t to)
{
    const struct lh_dataset *data = &run->data;
    if (c->kind == NULL) {
        c->add_s +=
            lh_bench_add(c->graph, &run->options, data->rows, data->dimension, from, to, c->nodes);
        return;
    }
    double start = lh_bench_cpu_seconds();
    c->kind->add(c->peer, data->units + (size_t)from * data->dimension, to - from);
    c->add_s += lh_bench_cpu_seconds() - start;
}

static void judge_links(struct contender *c, const struct run *run, struct figures *figures)
{
    struct lh_links *links;
    if (c->kind == NULL) {
        lh_bench_check(lh_links_create_from_graph(c->graph, c->nodes, run->data.count, &links),
                       "links");
    } else {
        struct lh_links_source source = {.graph = c->peer,
                                         .count = run->data.count,
                                         .entry = c->kind->entry(c->peer),
                                         .level = c->kind->level,
                                         .links = c->kind->links};
        lh_bench_check(lh_links_create(&source, &links), "links");
    }
    struct lh_links_probe arg = {.links = links, .data = &run->data, .k = K};
    struct lh_probe probe = {.arg = &arg, .run = lh_links_probe_run};
    for (uint32_t t = 0; t < TARGETS; t++) {
        struct lh_quality quality = {0};
        if (!lh_quality_find(&probe, K, targets[t], &quality))
            printf("%s never reaches recall %.2f\n", name_of(c->kind), targets[t]);
        figures->ef[t] = quality.ef;
        figures->distances[t] = quality.cost;
    }
    figures->degree = lh_links_degree(links);
    lh_links_destroy(links);
}

struct own_probe {
    struct contender *contender;
    const struct lh_dataset *data;
};

static double own_run(void *arg, uint32_t ef, double *cost)
{
    struct own_probe *probe = arg;
    struct contender *c = probe->contender;
    const struct lh_dataset *data = probe->data;
    if (c->kind == NULL) {
        struct lh_graph_probe graph = {.graph = c->graph, .data = data, .rows = c->rows, .k = K};
        return lh_graph_probe_run(&graph, ef, cost);
    }
    uint64_t hits = 0;
    for (uint32_t q = 0; q < data->queries; q++) {
        uint32_t rows[K];
        const float *query = data->query_rows + (size_t)q * data->dimension;
        uint32_t found = c->kind->search(c->peer, query, K, ef, rows);
        hits += lh_dataset_hits(data, q, rows, found, K);
    }
    *cost = 0;
    return (double)hits / ((double)K * data->queries);
}

static void time_searches(struct contender *contenders, struct run *run, struct figures *figures)
{
    double passes[CONTENDERS][SEARCH_TURNS];
    for (uint32_t t = 0; t < TARGETS; t++) {
        for (uint32_t i = 0; i < run->count; i++) {
            struct own_probe arg = {&contenders[i], &run->data};
            struct lh_probe probe = {.arg = &arg, .run = own_run};
            struct lh_quality quality = {.ef_whole = K};
            if (!lh_quality_find(&probe, K, targets[t], &quality))
                printf("%s's own search never reaches recall %.2f\n", name_of(contenders[i].kind),
                       targets[t]);
            figures[i].own_ef[t] = quality.ef_whole;
        }
        for (uint32_t turn = 0; turn < SEARCH_TURNS; turn++)
            for (uint32_t i = 0; i < run->count; i++) {
                struct own_probe arg = {&contenders[i], &run->data};
                double cost, start = lh_bench_cpu_seconds();
                own_run(&arg, figures[i].own_ef[t], &cost);
                passes[i][turn] = run->data.queries / (lh_bench_cpu_seconds() - start);
            }
        for (uint32_t i = 0; i < run->count; i++)
            figures[i].searches_per_s[t] = lh_bench_median(passes[i], SEARCH_TURNS);
    }
}

static void run_round(struct run *run, uint32_t round)
{
    struct contender contenders[CONTENDERS];
    struct figures *figures = run->figures[round];
    for (uint32_t i = 0; i < run->count; i++)
        contender_init(&contenders[i], run, i, round);
    for (uint32_t turn = 0; turn < TURNS; turn++)
        for (uint32_t i = 0; i < run->count; i++) {
            uint64_t rows = run->data.count;
            add_turn(&contenders[(i + turn) % run->count], run, (uint32_t)(rows * turn / TURNS),
                     (uint32_t)(rows * (turn + 1) / TURNS));
        }
    for (uint32_t i = 0; i < run->count; i++) {
        struct contender *c = &contenders[i];
        figures[i].adds_per_s = run->data.count / c->add_s;
        for (uint32_t row = 0; c->kind == NULL && row < run->data.count; row++)
            c->rows[c->nodes[row]] = row;
        judge_links(c, run, &figures[i]);
    }
    time_searches(contenders, run, figures);
    for (uint32_t i = 0; i < run->count; i++) {
        const struct figures *f = &figures[i];
        printf("seed %-3u %-9s %7.0f adds/s | links %4.1f | float32 searcher: ef %5.1f %6.0f "
               "distances, ef %5.1f %6.0f | own search: ef %3u %6.0f/s, ef %3u %6.0f/s\n",
               (uint32_t)run->options.seed + round, name_of(run->kinds[i]), f->adds_per_s,
               f->degree, f->ef[0], f->distances[0], f->ef[1], f->distances[1], f->own_ef[0],
               f->searches_per_s[0], f->own_ef[1], f->searches_per_s[1]);
        contender_deinit(&contenders[i]);
    }
    fflush(stdout);
}

/* The last contender is lh_graph; the others are compared with it. */
static void print_ratios(const struct run *run)
{
    uint32_t lh = run->count - 1, rounds = run->options.rounds;
    for (uint32_t i = 0; i < lh; i++) {
        double adds[ROUNDS_MAX], searches[TARGETS][ROUNDS_MAX];
        double ours[TARGETS] = {0}, theirs[TARGETS] = {0};
        for (uint32_t r = 0; r < rounds; r++) {
            const struct figures *a = &run->figures[r][lh], *b = &run->figures[r][i];
            adds[r] = a->adds_per_s / b->adds_per_s;
            for (uint32_t t = 0; t < TARGETS; t++) {
                searches[t][r] = a->searches_per_s[t] / b->searches_per_s[t];
                ours[t] += a->distances[t];
                theirs[t] += b->distances[t];
            }
        }
        printf("against %s: adds/s x%.2f |", run->kinds[i]->name, lh_bench_median(adds, rounds));
        for (uint32_t t = 0; t < TARGETS; t++)
            printf(" at recall %.2f distances x%.3f, searches/s x%.2f%s", targets[t],
                   ours[t] / theirs[t], lh_bench_median(searches[t], rounds),
                   t + 1 < TARGETS ? " |" : "\n");
    }
}

int main(int argc, char **argv)
{
    struct run *run = lh_bench_alloc(1, sizeof *run);
    run->options = (struct lh_bench_options){.rows = 100000,
                                             .queries = 1000,
                                             .rounds = 3,
                                             .batch = 64,
                                             .m = 16,
                                             .ef_construction = 200,
                                             .seed = 1};
    lh_bench_options(
        argc, argv,
        "bench_peers: adds/s, graph quality and searches/s of lh_graph against hnswlib "
        "and faiss,\none thread, interleaved. --only: some of hnswlib,faiss,lh\n",
        &run->options);
    const char *only = run->options.only;
    if (only == NULL || strstr(only, "hnswlib") != NULL)
        run->kinds[run->count++] = &lh_peer_hnswlib;
    if (only == NULL || strstr(only, "faiss") != NULL)
        run->kinds[run->count++] = &lh_peer_faiss;
    if (only == NULL || strstr(only, "lh") != NULL)
        run->kinds[run->count++] = NULL;
    if (run->count == 0 || run->options.rounds > ROUNDS_MAX) {
        fprintf(stderr, "--only names none of hnswlib,faiss,lh, or --rounds is above %u\n",
                ROUNDS_MAX);
        return 2;
    }
    lh_bench_load(&run->options, K, &run->data);
    lh_bench_print_setting(&run->options, &run->data);
    for (uint32_t round = 0; round < run->options.rounds; round++)
        run_round(run, round);
    if (run->kinds[run->count - 1] == NULL)
        print_ratios(run);
    lh_dataset_deinit(&run->data);
    free(run);
    return 0;
}
