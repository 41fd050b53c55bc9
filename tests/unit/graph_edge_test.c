/* The edges of the graph's contract: empty, single, duplicate, huge, tiny and out of memory. */
#include "graph_testing.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const enum lh_distance distances[] = {LH_DISTANCE_COSINE, LH_DISTANCE_EUCLIDEAN,
                                             LH_DISTANCE_DOT};

static void an_empty_graph_finds_nothing(void **state)
{
    (void)state;
    struct lh_graph *graph = testing_graph(8, LH_DISTANCE_COSINE, 16, 1);
    float query[8] = {1};
    struct lh_hit hits[10];
    uint32_t found = 7, entry;
    assert_int_equal(lh_graph_search(graph, query, 10, 50, hits, &found), LH_OK);
    assert_int_equal(found, 0);
    assert_false(lh_graph_entry(graph, &entry));
    testing_validate(graph);
    lh_graph_destroy(graph);
}

static void options_beyond_their_limits_are_refused(void **state)
{
    (void)state;
    const struct lh_graph_options bad[] = {
        {.dimension = 0, .m = 16, .ef_construction = 200},
        {.dimension = LH_DIMENSION_MAX + 1, .m = 16, .ef_construction = 200},
        {.dimension = 8, .m = 1, .ef_construction = 200},
        {.dimension = 8, .m = LH_M_MAX + 1, .ef_construction = 200},
        {.dimension = 8, .m = 16, .ef_construction = 0},
        {.dimension = 8, .m = 16, .ef_construction = LH_EF_MAX + 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct lh_graph *graph = NULL;
        assert_int_equal(lh_graph_create(&bad[i], &graph), LH_INVALID_ARGUMENT);
        assert_null(graph);
    }
}

static void the_last_item_can_go_and_the_next_add_works(void **state)
{
    (void)state;
    struct lh_graph *graph = testing_graph(4, LH_DISTANCE_EUCLIDEAN, 16, 1);
    for (uint32_t i = 0; i < 40; i++) {
        float row[4] = {(float)i, 1, 2, 3};
        uint32_t node = testing_add(graph, row);
        assert_int_equal(node, 0); /* its slot is reused */
        struct lh_hit hit;
        uint32_t found;
        assert_int_equal(lh_graph_search(graph, row, 1, 1, &hit, &found), LH_OK);
        assert_int_equal(found, 1);
        assert_int_equal(hit.node, node);
        assert_true(fabsf(hit.distance) <= 1e-6f);
        lh_graph_remove(graph, node);
        assert_int_equal(lh_graph_count(graph), 0);
        testing_validate(graph);
    }
    lh_graph_destroy(graph);
}

static void a_removed_slot_is_reused_and_never_found(void **state)
{
    (void)state;
    uint64_t random = testing_seed(__func__);
    struct lh_graph *graph = testing_graph(40, LH_DISTANCE_COSINE, 16, random);
    float row[40];
    for (uint32_t i = 0; i < 500; i++) {
        testing_row(&random, 40, row);
        testing_add(graph, row);
    }
    lh_graph_remove(graph, 123);
    assert_false(lh_graph_is_live(graph, 123));
    struct lh_hit hits[500];
    uint32_t found;
    assert_int_equal(lh_graph_search(graph, row, 500, 500, hits, &found), LH_OK);
    assert_int_equal(found, 499);
    for (uint32_t i = 0; i < found; i++) {
        assert_int_not_equal(hits[i].node, 123);
    }
    testing_row(&random, 40, row);
    assert_int_equal(testing_add(graph, row), 123);
    assert_int_equal(lh_graph_slots(graph), 500);
    testing_validate(graph);
    lh_graph_destroy(graph);
}

static void k_beyond_the_count_gives_all_nearest_first(void **state)
{
    (void)state;
    for (size_t d = 0; d < 3; d++) {
        uint64_t random = testing_seed(__func__);
        struct lh_graph *graph = testing_graph(30, distances[d], 16, random);
        float row[30];
        for (uint32_t i = 0; i < 300; i++) {
            testing_row(&random, 30, row);
            testing_add(graph, row);
        }
        static struct lh_hit hits[LH_K_MAX];
        uint32_t found;
        assert_int_equal(lh_graph_search(graph, row, LH_K_MAX, 1, hits, &found), LH_OK);
        assert_int_equal(found, 300);
        for (uint32_t i = 1; i < found; i++) {
            assert_true(hits[i - 1].distance <= hits[i].distance);
        }
        lh_graph_destroy(graph);
    }
}

static void a_stored_vector_finds_itself_at_distance_zero(void **state)
{
    (void)state;
    const uint32_t dimensions[] = {1, 2, 16, 17, 63, 64, 100, 511, 512, 768, 1000};
    uint64_t random = testing_seed(__func__);
    for (size_t i = 0; i < sizeof dimensions / sizeof dimensions[0]; i++) {
        for (size_t d = 0; d < 2; d++) {
            struct lh_graph *graph = testing_graph(dimensions[i], distances[d], 16, random);
            static float rows[200][1000];
            for (uint32_t j = 0; j < 200; j++) {
                testing_row(&random, dimensions[i], rows[j]);
                testing_add(graph, rows[j]);
            }
            testing_validate(graph);
            for (uint32_t j = 0; j < 200; j++) {
                struct lh_hit hit;
                uint32_t found;
                assert_int_equal(lh_graph_search(graph, rows[j], 1, 64, &hit, &found), LH_OK);
                assert_int_equal(found, 1);
                assert_true(fabsf(hit.distance) <= 1e-6f);
            }
            lh_graph_destroy(graph);
        }
    }
}

static void equal_vectors_are_all_found(void **state)
{
    (void)state;
    for (size_t d = 0; d < 3; d++) {
        struct lh_graph *graph = testing_graph(20, distances[d], 16, 5);
        float row[20];
        for (uint32_t i = 0; i < 20; i++) {
            row[i] = 0.25f * (float)i - 1.0f;
        }
        for (uint32_t i = 0; i < 1000; i++) {
            testing_add(graph, row);
        }
        testing_validate(graph);
        struct lh_hit hits[1000];
        uint32_t found;
        assert_int_equal(lh_graph_search(graph, row, 1000, 1000, hits, &found), LH_OK);
        assert_int_equal(found, 1000);
        for (uint32_t node = 0; node < 990; node++) {
            lh_graph_remove(graph, node);
        }
        testing_validate(graph);
        assert_int_equal(lh_graph_search(graph, row, 10, 10, hits, &found), LH_OK);
        assert_int_equal(found, 10);
        lh_graph_destroy(graph);
    }
}

static void norms_of_any_size_give_finite_ordered_distances(void **state)
{
    (void)state;
    const uint32_t dimensions[] = {1, 5, 50, 600};
    const float norms[] = {1e30f, 1e-30f, 1.0f, 1e18f, 1e-18f, 3e38f, 1e-42f};
    uint64_t random = testing_seed(__func__);
    for (size_t i = 0; i < 12; i++) {
        uint32_t dimension = dimensions[i % 4];
        struct lh_graph *graph = testing_graph(dimension, distances[i / 4], 8, random);
        float row[600];
        for (uint32_t j = 0; j < 400; j++) {
            for (uint32_t c = 0; c < dimension; c++) {
                row[c] = testing_uniform(&random) * norms[j % 7];
            }
            row[0] = row[0] == 0.0f ? norms[j % 7] : row[0];
            testing_add(graph, row);
            struct lh_hit hits[20];
            uint32_t found;
            assert_int_equal(lh_graph_search(graph, row, 20, 40, hits, &found), LH_OK);
            for (uint32_t h = 0; h < found; h++) {
                assert_true(isfinite(hits[h].distance));
                assert_true(h == 0 || hits[h - 1].distance <= hits[h].distance);
            }
        }
        testing_validate(graph);
        for (uint32_t node = 0; node < 400; node += 2) {
            lh_graph_remove(graph, node);
        }
        testing_validate(graph);
        lh_graph_destroy(graph);
    }
}

static void adding_in_batches_finds_as_much_as_one_by_one(void **state)
{
    (void)state;
    uint64_t seed = testing_seed(__func__);
    static float rows[6000][48];
    static uint32_t nodes[6000];
    uint64_t random = seed;
    for (uint32_t i = 0; i < 6000; i++) {
        testing_row(&random, 48, rows[i]);
    }
    for (uint32_t batch = 1; batch <= 6000; batch = batch == 1 ? 6000 : 6001) {
        struct lh_graph *graph = testing_graph(48, LH_DISTANCE_COSINE, 16, seed);
        assert_int_equal(lh_graph_reserve(graph, 6000), LH_OK);
        for (uint32_t i = 0; i < 6000; i += batch) {
            lh_graph_add(graph, rows[i], batch, nodes + i);
        }
        testing_validate(graph);
        double recall = testing_recall(graph, random, 100, 128);
        printf("batches of %u: recall@10 %.4f\n", batch, recall);
        assert_true(recall >= 0.99);
        for (uint32_t i = 0; i < 6000; i++) {
            assert_memory_equal(lh_graph_row(graph, nodes[i]), rows[i], sizeof rows[i]);
        }
        lh_graph_destroy(graph);
    }
}

static void the_same_seed_and_adds_give_the_same_graph(void **state)
{
    (void)state;
    struct lh_graph *graphs[2];
    for (int g = 0; g < 2; g++) {
        uint64_t random = 3;
        float row[70];
        graphs[g] = testing_graph(70, LH_DISTANCE_EUCLIDEAN, 8, 11);
        for (uint32_t i = 0; i < 800; i++) {
            testing_row(&random, 70, row);
            testing_add(graphs[g], row);
        }
    }
    for (uint32_t node = 0; node < 800; node++) {
        uint32_t count[2];
        const uint32_t *links[2];
        for (int g = 0; g < 2; g++) {
            links[g] = lh_graph_links(graphs[g], node, 0, &count[g]);
        }
        assert_int_equal(count[0], count[1]);
        assert_memory_equal(links[0], links[1], count[0] * sizeof **links);
    }
    lh_graph_destroy(graphs[0]);
    lh_graph_destroy(graphs[1]);
}

static size_t touched_of_all(const struct lh_graph *graph)
{
    size_t sum = 0;
    for (size_t i = 0; i < LH__TABLES; i++) {
        sum += graph->touched[i];
    }
    return sum;
}

/* Three tables have 64 bytes a slot here: all of them come to the end of a page at once. */
static void pages_are_touched_one_at_a_time_before_they_are_needed(void **state)
{
    (void)state;
    const uint32_t slots = 1u << 18;
    const size_t page = 2u << 20;
    struct lh_graph *graph = testing_graph(16, LH_DISTANCE_COSINE, 8, 1);
    assert_int_equal(lh_graph_reserve(graph, slots), LH_OK);
    lh__tables_touch(graph);
    for (; graph->slots < slots; graph->slots += LH__TOUCH_EVERY) {
        size_t before = touched_of_all(graph), used = (size_t)graph->slots * 64;
        const float *rows = graph->t.rows;
        assert_true(graph->touched[0] >= used && graph->mapped[0] >= graph->touched[0]);
        lh__tables_touch(graph);
        assert_true(touched_of_all(graph) <= before + page);
        if (graph->touched[0] > 0) {
            unsigned char is_there;
            char *last = (char *)(uintptr_t)rows + graph->touched[0] - page;
            assert_int_equal(mincore(last, 1, &is_there), 0);
            assert_int_equal(is_there & 1, 1);
        }
    }
    assert_true(touched_of_all(graph) >= 3 * (size_t)slots * 64);
    graph->slots = 0; /* there are no nodes */
    lh_graph_destroy(graph);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* Runs in a child, whose address space is bounded; returns its exit status. */
static int grow_until_memory_ends(void)
{
    struct lh_graph_options options = {
        .dimension = 256, .distance = LH_DISTANCE_COSINE, .m = 16, .ef_construction = 20};
    struct lh_graph *graph;
    struct rlimit limit = {256u << 20, 256u << 20};
    struct lh_error error;
    float row[256];
    uint64_t random = 1;
    uint32_t node = 0, added = 0;
    if (setrlimit(RLIMIT_AS, &limit) != 0 || lh_graph_create(&options, &graph) != LH_OK) {
        return 2;
    }
    while (lh_graph_reserve(graph, 10000) == LH_OK) {
        for (uint32_t i = 0; i < 10000; i++, added++) {
            testing_row(&random, 256, row);
            lh_graph_add(graph, row, 1, &node);
        }
    }
    struct lh_hit hit;
    uint32_t found;
    if (added == 0 || lh_graph_count(graph) != added ||
        lh_graph_search(graph, row, 1, 50, &hit, &found) != LH_OK || hit.node != node) {
        return 3;
    }
    lh_graph_remove(graph, node);
    if (lh_graph_reserve(graph, 1) != LH_OK) {
        return 4; /* its slot is room */
    }
    lh_graph_add(graph, row, 1, &node);
    limit.rlim_cur = RLIM_INFINITY;
    return lh_graph_validate(graph, &error) == LH_OK ? 0 : 5;
}

static void out_of_memory_leaves_the_graph_as_it_was(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(grow_until_memory_ends());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_graph_finds_nothing),
        cmocka_unit_test(options_beyond_their_limits_are_refused),
        cmocka_unit_test(the_last_item_can_go_and_the_next_add_works),
        cmocka_unit_test(a_removed_slot_is_reused_and_never_found),
        cmocka_unit_test(k_beyond_the_count_gives_all_nearest_first),
        cmocka_unit_test(a_stored_vector_finds_itself_at_distance_zero),
        cmocka_unit_test(equal_vectors_are_all_found),
        cmocka_unit_test(norms_of_any_size_give_finite_ordered_distances),
        cmocka_unit_test(adding_in_batches_finds_as_much_as_one_by_one),
        cmocka_unit_test(the_same_seed_and_adds_give_the_same_graph),
        cmocka_unit_test(pages_are_touched_one_at_a_time_before_they_are_needed),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(out_of_memory_leaves_the_graph_as_it_was),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
