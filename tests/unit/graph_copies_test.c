/* Many copies of one vector: all are found, and nothing else gets lost behind them. */
#include "graph_testing.h"

#define ROWS      6000u
#define COPIES    (ROWS / 2)
#define DIMENSION 40u
#define QUERIES   200u

static const enum lh_distance distances[] = {LH_DISTANCE_COSINE, LH_DISTANCE_EUCLIDEAN,
                                             LH_DISTANCE_DOT};

enum order { COPIES_FIRST, COPIES_LAST, COPIES_AMONG };

/* Rows, and `groups` groups of copies of some of them, in one order; `sources` says which. */
static uint32_t make_order(uint32_t groups, enum order order, uint64_t *random, uint32_t *sources)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < ROWS && order == COPIES_LAST; i++) {
        sources[total++] = i;
    }
    for (uint32_t i = 0; i < COPIES && groups > 0; i++) {
        sources[total++] = i % groups;
    }
    for (uint32_t i = 0; i < ROWS && order != COPIES_LAST; i++) {
        sources[total++] = i;
    }
    for (uint32_t i = total; i > 1 && order == COPIES_AMONG; i--) {
        uint32_t j = (uint32_t)(testing_random(random) % i);
        uint32_t source = sources[i - 1];
        sources[i - 1] = sources[j];
        sources[j] = source;
    }
    return total;
}

static struct lh_graph *build(enum lh_distance distance, uint32_t groups, enum order order,
                              float (*rows)[DIMENSION])
{
    static uint32_t sources[ROWS + COPIES];
    static float batch[ROWS + COPIES][DIMENSION];
    static uint32_t nodes[ROWS + COPIES];
    uint64_t random = 7;
    for (uint32_t i = 0; i < ROWS; i++) {
        testing_row(&random, DIMENSION, rows[i]);
    }
    uint32_t total = make_order(groups, order, &random, sources);
    struct lh_graph *graph = testing_graph(DIMENSION, distance, 16, 3);
    assert_int_equal(lh_graph_reserve(graph, total), LH_OK);
    for (uint32_t i = 0; i < total; i++) {
        memcpy(batch[i], rows[sources[i]], sizeof batch[i]);
    }
    for (uint32_t i = 0; i < total; i += 64) {
        lh_graph_add(graph, batch[i], total - i < 64 ? total - i : 64, nodes + i);
    }
    testing_validate(graph);
    return graph;
}

static void check_copies(struct lh_graph *graph, const float *row, uint32_t copies)
{
    static struct lh_hit hits[COPIES + 1];
    uint32_t found, same = 0;
    assert_int_equal(lh_graph_search(graph, row, copies, copies, hits, &found), LH_OK);
    assert_int_equal(found, copies);
    for (uint32_t i = 0; i < found; i++) {
        same += memcmp(lh_graph_row(graph, hits[i].node), row, DIMENSION * sizeof *row) == 0;
    }
    assert_int_equal(same, copies);
}

static void check_orders(uint32_t groups)
{
    static float rows[ROWS][DIMENSION];
    for (size_t d = 0; d < 3; d++) {
        struct lh_graph *plain = build(distances[d], 0, COPIES_FIRST, rows);
        double without = testing_recall(plain, 99, QUERIES, 24);
        lh_graph_destroy(plain);
        for (enum order order = COPIES_FIRST; order <= COPIES_AMONG; order++) {
            struct lh_graph *graph = build(distances[d], groups, order, rows);
            double with = testing_recall(graph, 99, QUERIES, 24);
            printf("distance %zu, %u groups, order %d: recall@10 %.4f, without copies %.4f\n", d,
                   groups, (int)order, with, without);
            assert_true(with >= without - 0.005);
            /* Under dot, longer vectors come before a vector's own copies. */
            for (uint32_t g = 0; g < groups && distances[d] != LH_DISTANCE_DOT; g++) {
                check_copies(graph, rows[g], COPIES / groups + 1);
            }
            lh_graph_destroy(graph);
        }
    }
}

static void a_large_group_of_copies_cuts_nothing_off(void **state)
{
    (void)state;
    check_orders(1);
}

static void many_groups_of_copies_cut_nothing_off(void **state)
{
    (void)state;
    check_orders(100);
}

/* Two rows of one direction are one point of a cosine graph; the query's norm tells them apart for
 * nobody, but each comes back as it went in. */
static void multiples_of_a_vector_are_copies_under_cosine(void **state)
{
    (void)state;
    uint64_t random = testing_seed(__func__);
    struct lh_graph *graph = testing_graph(DIMENSION, LH_DISTANCE_COSINE, 16, 3);
    float row[DIMENSION], scaled[DIMENSION];
    static struct lh_hit hits[1000];
    uint32_t found, node = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        testing_row(&random, DIMENSION, scaled);
        testing_add(graph, scaled);
    }
    testing_row(&random, DIMENSION, row);
    for (uint32_t i = 0; i < 1000; i++) {
        for (uint32_t j = 0; j < DIMENSION; j++) {
            scaled[j] = row[j] * (0.01f + (float)i);
        }
        node = testing_add(graph, scaled);
        assert_memory_equal(lh_graph_row(graph, node), scaled, sizeof scaled);
    }
    assert_true(graph->copies > 900); /* rounding may part a few */
    testing_validate(graph);
    assert_int_equal(lh_graph_search(graph, row, 1000, 1000, hits, &found), LH_OK);
    assert_int_equal(found, 1000);
    assert_true(hits[999].distance <= 1e-6f);
    lh_graph_destroy(graph);
}

/* The node that is linked goes first, last, or is given another vector: the others stay. */
static void copies_outlive_the_one_that_is_linked(void **state)
{
    (void)state;
    for (uint32_t which = 0; which < 3; which++) {
        uint64_t random = testing_seed(__func__);
        struct lh_graph *graph = testing_graph(DIMENSION, LH_DISTANCE_EUCLIDEAN, 4, 3);
        float row[DIMENSION], other[DIMENSION];
        uint32_t nodes[300];
        testing_row(&random, DIMENSION, row);
        for (uint32_t i = 0; i < 300; i++) {
            nodes[i] = testing_add(graph, row);
            testing_row(&random, DIMENSION, other);
            testing_add(graph, other);
        }
        for (uint32_t left = 299; left > 0; left--) {
            uint32_t place = which == 0 ? 299 - left : which == 1 ? left : 0;
            if (which == 2) {
                testing_row(&random, DIMENSION, other);
                lh_graph_update(graph, nodes[place], other);
                nodes[0] = nodes[left];
            } else {
                lh_graph_remove(graph, nodes[place]);
            }
            check_copies(graph, row, left);
        }
        testing_validate(graph);
        lh_graph_destroy(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_group_of_copies_cuts_nothing_off),
        cmocka_unit_test(many_groups_of_copies_cut_nothing_off),
        cmocka_unit_test(multiples_of_a_vector_are_copies_under_cosine),
        cmocka_unit_test(copies_outlive_the_one_that_is_linked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
