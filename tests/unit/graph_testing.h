/* What the graph's tests share: a seeded generator, made vectors, brute force. */
#ifndef LH_TESTS_GRAPH_TESTING_H
#define LH_TESTS_GRAPH_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hnsw/graph_internal.h"
#include <math.h>

/* LH_TEST_SEED, or one of its own; printed, so that a failure can be run again. */
static inline uint64_t testing_seed(const char *test)
{
    const char *given = getenv("LH_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 20180330;
    printf("%s: LH_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

static inline uint64_t testing_random(uint64_t *state)
{
    uint64_t x = (*state += 0x9e3779b97f4a7c15ull);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static inline float testing_uniform(uint64_t *state)
{
    return (float)(testing_random(state) >> 40) / 8388608.0f - 1.0f;
}

/* A point near one of 64 centres, as real vectors are: neighbours mean something. */
static inline void testing_row(uint64_t *state, uint32_t dimension, float *row)
{
    uint64_t centre = testing_random(state) % 64;
    for (uint32_t i = 0; i < dimension; i++) {
        row[i] = testing_uniform(&centre) + 0.6f * testing_uniform(state);
    }
}

static inline struct lh_graph *testing_graph(uint32_t dimension, enum lh_distance distance,
                                             uint32_t m, uint64_t seed)
{
    struct lh_graph_options options = {
        .dimension = dimension, .distance = distance, .m = m, .ef_construction = 200, .seed = seed};
    struct lh_graph *graph;
    assert_int_equal(lh_graph_create(&options, &graph), LH_OK);
    return graph;
}

static inline uint32_t testing_add(struct lh_graph *graph, const float *row)
{
    uint32_t node;
    assert_int_equal(lh_graph_reserve(graph, 1), LH_OK);
    lh_graph_add(graph, row, 1, &node);
    return node;
}

static inline void testing_validate(const struct lh_graph *graph)
{
    struct lh_error error = {0};
    if (lh_graph_validate(graph, &error) != LH_OK) {
        fail_msg("%s", error.text);
    }
}

static inline double testing_distance(enum lh_distance distance, const float *a, const float *b,
                                      uint32_t dimension)
{
    double dot = 0, aa = 0, bb = 0, l2 = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        dot += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
        l2 += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    }
    switch (distance) {
    case LH_DISTANCE_COSINE:
        return 1.0 - dot / sqrt(aa * bb);
    case LH_DISTANCE_EUCLIDEAN:
        return sqrt(l2);
    case LH_DISTANCE_DOT:
        break;
    }
    return -dot;
}

/* The k-th smallest true distance over the live nodes. k at most 100. */
static inline double testing_kth(const struct lh_graph *graph, const float *query, uint32_t k)
{
    double nearest[100];
    uint32_t count = 0;
    for (uint32_t node = 0; node < lh_graph_slots(graph); node++) {
        if (!lh_graph_is_live(graph, node)) {
            continue;
        }
        double d = testing_distance(graph->options.distance, query, lh_graph_row(graph, node),
                                    graph->options.dimension);
        uint32_t at = count < k ? count++ : k;
        if (at == k && !(d < nearest[k - 1])) {
            continue;
        }
        at = at == k ? k - 1 : at;
        for (; at > 0 && nearest[at - 1] > d; at--) {
            nearest[at] = nearest[at - 1];
        }
        nearest[at] = d;
    }
    return nearest[count - 1];
}

/* recall@10 over `queries` made queries. */
static inline double testing_recall(struct lh_graph *graph, uint64_t seed, uint32_t queries,
                                    uint32_t ef)
{
    uint32_t dimension = graph->options.dimension;
    float *query = malloc(dimension * sizeof *query);
    uint32_t hit = 0;
    for (uint32_t i = 0; i < queries; i++) {
        struct lh_hit hits[10];
        uint32_t found;
        testing_row(&seed, dimension, query);
        assert_int_equal(lh_graph_search(graph, query, 10, ef, hits, &found), LH_OK);
        assert_int_equal(found, 10);
        double kth = testing_kth(graph, query, 10);
        for (uint32_t j = 0; j < found; j++) {
            hit += hits[j].distance <= kth + 1e-5 * fabs(kth) + 1e-6;
        }
    }
    free(query);
    return hit / (10.0 * queries);
}

#endif
