/* Norms far apart, tiny and huge, under euclidean and dot: codes scale them, rows answer exactly.
 */
#include "graph_testing.h"

#define ROWS    3000u
#define QUERIES 100u

/* Norms between `least` and `most`, evenly in their logarithm, in random order. */
struct norms {
    const char *name;
    double least;
    double most;
    double first;   /* of the first row alone; 0: as the others */
    double queries; /* by how much queries are longer than rows; 0: they are not */
};

static const struct norms sets[] = {
    {"a factor of 10^6", 1e-3, 1e3, 0, 0},
    {"tiny", 1e-20, 1e-19, 0, 0},
    {"huge", 1e18, 1e19, 0, 0},
    {"ordinary after a tiny one", 1, 10, 1e-20, 0},
    {"ordinary after a huge one", 1, 10, 1e18, 0},
    {"huge after a tiny one", 1e18, 1e19, 1e-20, 0},
    {"tiny after a huge one", 1e-6, 1e-5, 1e18, 0},
    {"small and large", 1e-12, 1e12, 0, 0},
    {"ordinary, of queries a million times as long", 1, 10, 0, 1e6},
    {"ordinary, of queries a million times as short", 1, 10, 0, 1e-6},
};

static void make_row(uint64_t *random, uint32_t dimension, double least, double most, float *row)
{
    double norm = 0;
    testing_row(random, dimension, row);
    for (uint32_t i = 0; i < dimension; i++) {
        norm += (double)row[i] * row[i];
    }
    double wanted = least * pow(most / least, (testing_uniform(random) + 1.0) / 2);
    for (uint32_t i = 0; i < dimension; i++) {
        row[i] = (float)(row[i] * (wanted / sqrt(norm)));
    }
}

/* How many of the answers are as near as the tenth nearest; all must be exact and in order. */
static uint32_t count_right(struct lh_graph *graph, const float *query)
{
    struct lh_hit hits[10];
    uint32_t found, right = 0;
    uint32_t dimension = graph->options.dimension;
    assert_int_equal(lh_graph_search(graph, query, 10, 128, hits, &found), LH_OK);
    assert_int_equal(found, 10);
    double kth = testing_kth(graph, query, 10);
    for (uint32_t i = 0; i < found; i++) {
        double exact = testing_distance(graph->options.distance, query,
                                        lh_graph_row(graph, hits[i].node), dimension);
        double scale =
            graph->options.distance == LH_DISTANCE_DOT
                ? sqrt(testing_distance(LH_DISTANCE_DOT, query, query, dimension) *
                       testing_distance(LH_DISTANCE_DOT, lh_graph_row(graph, hits[i].node),
                                        lh_graph_row(graph, hits[i].node), dimension))
                : exact;
        assert_true(isfinite(hits[i].distance));
        assert_true(fabs(hits[i].distance - exact) <= 1e-5 * scale);
        assert_true(i == 0 || hits[i - 1].distance <= hits[i].distance);
        right += exact <= kth + 1e-6 * fabs(kth);
    }
    return right;
}

static void check_set(enum lh_distance distance, uint32_t dimension, const struct norms *norms,
                      double recall_least)
{
    uint64_t random = testing_seed(norms->name);
    struct lh_graph *graph = testing_graph(dimension, distance, 16, random);
    float row[128];
    for (uint32_t i = 0; i < ROWS; i++) {
        bool odd = i == 0 && norms->first > 0;
        make_row(&random, dimension, odd ? norms->first : norms->least,
                 odd ? norms->first : norms->most, row);
        testing_add(graph, row);
    }
    testing_validate(graph);
    uint32_t right = 0;
    for (uint32_t i = 0; i < QUERIES; i++) {
        double by = norms->queries > 0 ? norms->queries : 1;
        make_row(&random, dimension, norms->least * by, norms->most * by, row);
        right += count_right(graph, row);
    }
    double recall = right / (10.0 * QUERIES);
    printf("distance %d, %u dimensions, norms %s: recall@10 %.4f\n", distance, dimension,
           norms->name, recall);
    assert_true(recall >= recall_least);
    lh_graph_destroy(graph);
}

static void euclidean_neighbours_are_found_whatever_the_norms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        check_set(LH_DISTANCE_EUCLIDEAN, 64, &sets[i], 0.98);
        check_set(LH_DISTANCE_EUCLIDEAN, 8, &sets[i], 0.98);
    }
}

static void dot_neighbours_are_found_whatever_the_norms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        check_set(LH_DISTANCE_DOT, 64, &sets[i], 0.98);
        check_set(LH_DISTANCE_DOT, 8, &sets[i], 0.98);
    }
}

/* Zero vectors among others: all at one point under euclidean, of dot 0 with everything. */
static void zero_vectors_are_found_among_others(void **state)
{
    (void)state;
    const enum lh_distance distances[] = {LH_DISTANCE_EUCLIDEAN, LH_DISTANCE_DOT};
    for (size_t d = 0; d < 4; d++) {
        uint32_t dimension = d < 2 ? 40 : 6;
        uint64_t random = testing_seed(__func__);
        struct lh_graph *graph = testing_graph(dimension, distances[d % 2], 16, random);
        float row[40], zero[40] = {0};
        for (uint32_t i = 0; i < ROWS; i++) {
            make_row(&random, dimension, 1e-3, 1e3, row);
            testing_add(graph, i % 10 == 0 ? zero : row);
        }
        testing_validate(graph);
        static struct lh_hit hits[ROWS];
        uint32_t found;
        assert_int_equal(lh_graph_search(graph, zero, ROWS / 10, 128, hits, &found), LH_OK);
        assert_int_equal(found, ROWS / 10);
        for (uint32_t i = 0; i < found; i++) {
            assert_true(hits[i].distance == 0.0f);
        }
        uint32_t right = 0;
        for (uint32_t i = 0; i < QUERIES; i++) {
            make_row(&random, dimension, 1e-3, 1e3, row);
            right += count_right(graph, row);
        }
        printf("distance %d, %u dimensions: recall@10 %.4f\n", distances[d % 2], dimension,
               right / (10.0 * QUERIES));
        assert_true(right >= 0.98 * 10.0 * QUERIES);
        lh_graph_destroy(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(euclidean_neighbours_are_found_whatever_the_norms),
        cmocka_unit_test(dot_neighbours_are_found_whatever_the_norms),
        cmocka_unit_test(zero_vectors_are_found_among_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
