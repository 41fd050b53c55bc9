/* Long random sequences of add, update and remove, validated along the way, searched at the end. */
#include "graph_testing.h"

#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
#define STEPS 10000u
#else
#define STEPS 100000u
#endif
#define LIVE_MAX 4000u

/* A graph to try: one row in `copies_of` is that of one of eight fixed vectors; 0: none. */
struct trial {
    enum lh_distance distance;
    uint32_t dimension;
    uint32_t m;
    uint32_t copies_of;
    double recall_least;
};

struct mirror {
    uint32_t nodes[LIVE_MAX];
    uint32_t live;
    uint64_t random;
};

static void draw_row(const struct trial *trial, struct mirror *mirror, float *row)
{
    uint64_t fixed = testing_random(&mirror->random) % 8;
    bool is_copy = trial->copies_of > 0 && testing_random(&mirror->random) % trial->copies_of == 0;
    testing_row(is_copy ? &fixed : &mirror->random, trial->dimension, row);
}

/* Grows, then shrinks almost to nothing, then grows again: in eighths of the steps. */
static void step(struct lh_graph *graph, const struct trial *trial, struct mirror *mirror,
                 uint32_t i, float *row)
{
    bool shrinking = i * 8 / STEPS % 4 == 2;
    uint32_t draw = (uint32_t)(testing_random(&mirror->random) % 10);
    draw_row(trial, mirror, row);
    if (mirror->live == 0 || (draw < (shrinking ? 2u : 6u) && mirror->live < LIVE_MAX)) {
        mirror->nodes[mirror->live++] = testing_add(graph, row);
        return;
    }
    uint32_t place = (uint32_t)(testing_random(&mirror->random) % mirror->live);
    if (draw < 8) {
        lh_graph_remove(graph, mirror->nodes[place]);
        mirror->nodes[place] = mirror->nodes[--mirror->live];
    } else {
        lh_graph_update(graph, mirror->nodes[place], row);
        assert_memory_equal(lh_graph_row(graph, mirror->nodes[place]), row,
                            graph->options.dimension * sizeof *row);
    }
}

static void run(const struct trial *trial)
{
    struct mirror *mirror = calloc(1, sizeof *mirror);
    float row[1024];
    mirror->random = testing_seed(__func__);
    struct lh_graph *graph =
        testing_graph(trial->dimension, trial->distance, trial->m, mirror->random);
    for (uint32_t i = 0; i < STEPS; i++) {
        step(graph, trial, mirror, i, row);
        if (i % (STEPS / 40) == 0) {
            testing_validate(graph);
        }
    }
    testing_validate(graph);
    assert_int_equal(lh_graph_count(graph), mirror->live);
    for (uint32_t i = 0; i < mirror->live; i++) {
        assert_true(lh_graph_is_live(graph, mirror->nodes[i]));
    }
    double recall = testing_recall(graph, mirror->random, 200, 128);
    printf("distance %d, %u dimensions, m %u: %u live, %u copies, recall@10 %.4f\n",
           trial->distance, trial->dimension, trial->m, mirror->live, graph->copies, recall);
    assert_true(recall >= trial->recall_least);
    assert_true((graph->copies > mirror->live / 4) == (trial->copies_of > 0));
    while (mirror->live > 0) {
        lh_graph_remove(graph, mirror->nodes[--mirror->live]);
    }
    testing_validate(graph);
    lh_graph_destroy(graph);
    free(mirror);
}

static void random_steps_keep_a_cosine_graph_whole(void **state)
{
    (void)state;
    run(&(struct trial){LH_DISTANCE_COSINE, 32, 16, 0, 0.99});
}

static void random_steps_keep_a_euclidean_graph_whole(void **state)
{
    (void)state;
    run(&(struct trial){LH_DISTANCE_EUCLIDEAN, 24, 16, 0, 0.99});
}

static void random_steps_keep_a_dot_graph_whole(void **state)
{
    (void)state;
    run(&(struct trial){LH_DISTANCE_DOT, 20, 16, 0, 0.97});
}

static void random_steps_keep_a_graph_of_few_dimensions_whole(void **state)
{
    (void)state;
    run(&(struct trial){LH_DISTANCE_EUCLIDEAN, 3, 8, 0, 0.99});
}

/* Few links a node, so that many are the last to their targets; every other row is a copy. */
static void random_steps_with_copies_keep_graphs_of_few_links_whole(void **state)
{
    (void)state;
    run(&(struct trial){LH_DISTANCE_EUCLIDEAN, 24, 5, 2, 0.95});
    run(&(struct trial){LH_DISTANCE_DOT, 20, 2, 2, 0.5});
    run(&(struct trial){LH_DISTANCE_COSINE, 8, 2, 2, 0.5});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_keep_a_cosine_graph_whole),
        cmocka_unit_test(random_steps_keep_a_euclidean_graph_whole),
        cmocka_unit_test(random_steps_keep_a_dot_graph_whole),
        cmocka_unit_test(random_steps_keep_a_graph_of_few_dimensions_whole),
        cmocka_unit_test(random_steps_with_copies_keep_graphs_of_few_links_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
