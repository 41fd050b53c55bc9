/* Who links to a node without being linked back: listed as links come and go, learnt after loading,
 * and found without lists where there was no memory for them. */
#include "graph_testing.h"

#include "hnsw/snapshot.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIMENSION 24u

static void add_rows(struct lh_graph *graph, uint64_t *random, uint32_t count)
{
    float row[DIMENSION];
    for (uint32_t i = 0; i < count; i++) {
        testing_row(random, DIMENSION, row);
        testing_add(graph, row);
    }
}

static uint32_t backlinks_of_all(const struct lh_graph *graph)
{
    uint32_t sum = 0, count;
    for (uint32_t node = 0; node < graph->slots; node++) {
        lh__backlinks(graph, node, 0, &count);
        sum += count;
    }
    return sum;
}

static struct lh_graph *saved_and_loaded(struct lh_graph *graph)
{
    struct lh_snapshot *snapshot;
    struct lh_graph_load load;
    struct lh_error error = {0};
    struct lh_graph *loaded;
    bool is_done = false;
    assert_int_equal(lh_graph_create(&graph->options, &loaded), LH_OK);
    assert_int_equal(lh_snapshot_begin(graph, &snapshot), LH_OK);
    const struct lh_graph_shape *shape = lh_snapshot_shape(snapshot);
    assert_int_equal(lh_graph_load_begin(loaded, shape, &load, &error), LH_OK);
    for (int table = 0; table < LH_GRAPH_TABLES; table++) {
        char *to = lh_graph_load_table(&load, (enum lh_graph_table)table);
        uint64_t left = lh_graph_table_bytes(loaded, shape, (enum lh_graph_table)table);
        bool is_read = false;
        while (!is_read) {
            size_t got = lh_snapshot_read(snapshot, to, left, &is_read);
            to += got;
            left -= got;
        }
        assert_int_equal(left, 0);
    }
    lh_snapshot_end(snapshot);
    if (lh_graph_load_step(&load, UINT32_MAX, &is_done, &error) != LH_OK) {
        fail_msg("%s", error.text);
    }
    assert_true(is_done);
    return loaded;
}

static void the_lists_follow_links_as_they_come_and_go(void **state)
{
    (void)state;
    uint64_t random = testing_seed(__func__);
    struct lh_graph *graph = testing_graph(DIMENSION, LH_DISTANCE_COSINE, 4, random);
    add_rows(graph, &random, 3000);
    testing_validate(graph);
    assert_true(backlinks_of_all(graph) > 1000); /* of eight links a node, some are one-way */
    for (uint32_t node = 0; node < 3000; node++) {
        lh_graph_remove(graph, (node * 7) % 3000);
        if (node % 300 == 0) {
            testing_validate(graph);
        }
    }
    testing_validate(graph);
    assert_int_equal(backlinks_of_all(graph), 0);
    lh_graph_destroy(graph);
}

static void a_node_that_nearly_all_link_to_can_go(void **state)
{
    (void)state;
    uint64_t random = testing_seed(__func__);
    struct lh_graph *graph = testing_graph(DIMENSION, LH_DISTANCE_DOT, 4, random);
    float row[DIMENSION];
    for (uint32_t i = 0; i < 2000; i++) {
        testing_row(&random, DIMENSION, row);
        row[0] = 1;
        for (uint32_t j = 0; i == 500 && j < DIMENSION; j++) {
            row[j] = j == 0 ? 1000 : 0; /* the nearest of all, whatever one looks for */
        }
        testing_add(graph, row);
    }
    uint32_t count;
    lh__backlinks(graph, 500, 0, &count);
    printf("%u backlinks\n", count);
    assert_true(count > 500);
    lh_graph_update(graph, 500, row);
    testing_validate(graph);
    lh__backlinks(graph, 500, 0, &count);
    assert_true(count < 500);
    lh_graph_destroy(graph);
}

/* A file has no lists: removals find who links to a node all the same, and learn. */
static void a_loaded_graph_learns_its_lists_as_nodes_go(void **state)
{
    (void)state;
    uint64_t random = testing_seed(__func__);
    struct lh_graph *saved = testing_graph(DIMENSION, LH_DISTANCE_EUCLIDEAN, 4, random);
    add_rows(saved, &random, 20000);
    struct lh_graph *graph = saved_and_loaded(saved);
    lh_graph_destroy(saved);
    assert_int_equal(graph->backlinks_known, 0);
    assert_int_equal(backlinks_of_all(graph), 0);
    testing_validate(graph);
    add_rows(graph, &random, 100); /* slots behind those that are not known */
    uint32_t removals = 0;
    while (graph->backlinks_known < graph->slots) {
        float row[DIMENSION];
        uint32_t before = graph->backlinks_known, node = 19999 - removals;
        uint32_t high = graph->entry;
        testing_row(&random, DIMENSION, row);
        lh_graph_remove(graph, node);
        lh_graph_update(graph, high, row); /* all levels, and another entry point */
        assert_true(graph->backlinks_known > before);
        testing_validate(graph);
        removals++;
    }
    assert_true(removals > 1);
    add_rows(graph, &random, 100); /* free slots, then a new one */
    assert_int_equal(graph->backlinks_known, graph->slots);
    testing_validate(graph);
    lh_graph_destroy(graph);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static uint32_t lost_lists(const struct lh_graph *graph)
{
    uint32_t lost = 0;
    for (uint32_t node = 0; node < graph->slots; node++) {
        lost += graph->t.incoming[node].backlinks == LH__BACKLINKS_LOST;
    }
    return lost;
}

/* Runs in a child, whose address space cannot grow once there is room for the nodes; returns its
 * exit status. */
static int go_on_without_memory(uint64_t random)
{
    struct lh_graph *graph = testing_graph(DIMENSION, LH_DISTANCE_COSINE, 4, random);
    struct rlimit limit;
    struct lh_error error;
    float row[DIMENSION];
    uint32_t node;
    if (lh_graph_reserve(graph, 12000) != LH_OK || getrlimit(RLIMIT_AS, &limit) != 0) {
        return 2;
    }
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 1;
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        return 2;
    }
    for (uint32_t i = 0; i < 12000; i++) {
        testing_row(&random, DIMENSION, row);
        lh_graph_add(graph, row, 1, &node);
    }
    for (node = 0; node < 1000; node++) {
        testing_row(&random, DIMENSION, row);
        lh_graph_update(graph, node, row);
        lh_graph_remove(graph, 1000 + node);
    }
    uint32_t lost = lost_lists(graph);
    limit.rlim_cur = before;
    if (setrlimit(RLIMIT_AS, &limit) != 0 || lh_graph_validate(graph, &error) != LH_OK) {
        return 3;
    }
    for (node = 2000; node < 12000; node++) {
        lh_graph_remove(graph, node);
    }
    if (lh_graph_validate(graph, &error) != LH_OK) {
        return 4;
    }
    return lost > 0 && lost_lists(graph) < lost ? 0 : 5;
}

static void without_memory_for_lists_nodes_go_nevertheless(void **state)
{
    (void)state;
    uint64_t seed = testing_seed(__func__);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(go_on_without_memory(seed));
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
        cmocka_unit_test(the_lists_follow_links_as_they_come_and_go),
        cmocka_unit_test(a_node_that_nearly_all_link_to_can_go),
        cmocka_unit_test(a_loaded_graph_learns_its_lists_as_nodes_go),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(without_memory_for_lists_nodes_go_nevertheless),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
