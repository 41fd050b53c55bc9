/* Several graphs searched as one, against brute force over all their rows. */
#include "unit/graph_testing.h"

#define GRAPHS 5u
#define K_MAX  60u

struct team {
    enum lh_distance distance;
    uint32_t dimension;
    uint32_t count;
    struct lh_graph *graphs[GRAPHS];
};

/* Graphs of the given sizes; norms of each are around another power of ten, so that their code
 * distances are scaled differently. */
static void team_init(struct team *team, enum lh_distance distance, uint32_t dimension,
                      const uint32_t *sizes, uint32_t count, uint64_t *random)
{
    float *row = malloc(dimension * sizeof *row);
    assert_non_null(row);
    *team = (struct team){.distance = distance, .dimension = dimension, .count = count};
    for (uint32_t g = 0; g < count; g++) {
        team->graphs[g] = testing_graph(dimension, distance, 8, *random + g);
        for (uint32_t i = 0; i < sizes[g]; i++) {
            testing_row(random, dimension, row);
            for (uint32_t d = 0; i == 0 && d < dimension; d++) {
                row[d] *= powf(10.0f, (float)g - 2.0f);
            }
            testing_add(team->graphs[g], row);
        }
    }
    free(row);
}

static void team_deinit(struct team *team)
{
    for (uint32_t g = 0; g < team->count; g++) {
        testing_validate(team->graphs[g]);
        lh_graph_destroy(team->graphs[g]);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* All true distances, sorted; the caller frees. */
static double *brute_force(const struct team *team, const float *query, uint32_t *total)
{
    double *all = NULL;
    *total = 0;
    for (uint32_t g = 0; g < team->count; g++) {
        uint32_t slots = lh_graph_slots(team->graphs[g]);
        all = realloc(all, (*total + slots + 1) * sizeof *all);
        assert_non_null(all);
        for (uint32_t node = 0; node < slots; node++) {
            if (lh_graph_is_live(team->graphs[g], node)) {
                all[(*total)++] = testing_distance(
                    team->distance, query, lh_graph_row(team->graphs[g], node), team->dimension);
            }
        }
    }
    qsort(all, *total, sizeof *all, compare_doubles);
    return all;
}

/* Hits stand in order, once each, with their true distances; returns how many are among the k. */
static uint32_t check_hits(const struct team *team, const float *query, uint32_t k,
                           const struct lh_hit *hits, uint32_t found)
{
    uint32_t total, right = 0;
    double *all = brute_force(team, query, &total);
    assert_int_equal(found, k < total ? k : total);
    for (uint32_t i = 0; i < found; i++) {
        const struct lh_hit *hit = &hits[i];
        assert_true(hit->graph < team->count);
        assert_true(lh_graph_is_live(team->graphs[hit->graph], hit->node));
        double distance =
            testing_distance(team->distance, query,
                             lh_graph_row(team->graphs[hit->graph], hit->node), team->dimension);
        double slack = 1e-4 * fabs(distance) + 1e-5;
        assert_true(fabs(distance - hit->distance) <= slack);
        assert_true(i == 0 || hits[i - 1].distance <= hit->distance);
        for (uint32_t j = 0; j < i; j++) {
            assert_true(hits[j].graph != hit->graph || hits[j].node != hit->node);
        }
        right += distance <= all[found - 1] + slack;
    }
    free(all);
    return right;
}

/* Of all hits of 40 queries, the share that brute force finds as well. */
static double recall_of(const struct team *team, const struct lh_search *search, uint64_t random)
{
    uint32_t right = 0, all = 0;
    float *query = malloc(team->dimension * sizeof *query);
    assert_non_null(query);
    for (uint32_t i = 0; i < 40; i++) {
        struct lh_hit hits[K_MAX];
        uint32_t found;
        testing_row(&random, team->dimension, query);
        assert_int_equal(lh_graphs_search(team->graphs, team->count, query, search, hits, &found),
                         LH_OK);
        right += check_hits(team, query, search->k, hits, found);
        all += found;
    }
    free(query);
    return all == 0 ? 1.0 : (double)right / all;
}

static uint64_t work_of(const struct team *team)
{
    uint64_t work = 0;
    for (uint32_t g = 0; g < team->count; g++) {
        struct lh_graph_stats stats = lh_graph_stats(team->graphs[g]);
        work += stats.distances + stats.reranked;
    }
    return work;
}

/* ---- tests ---- */

static void a_wide_search_of_graphs_finds_what_brute_force_finds(void **state)
{
    static const uint32_t dimensions[] = {3, 40, 600}; /* flat, int8, with sign bits */
    static const uint32_t sizes[][GRAPHS] = {
        {400, 400, 400, 400, 400}, {0, 300, 3, 0, 1}, {0, 0, 0, 0, 0}, {1, 1, 0, 2, 1}};
    uint64_t random = testing_seed(__func__);
    for (int distance = LH_DISTANCE_COSINE; distance <= LH_DISTANCE_DOT; distance++) {
        for (uint32_t i = 0; i < 3; i++) {
            for (uint32_t s = 0; s < 4; s++) {
                struct team team;
                struct lh_search alone = {.k = 20, .ef = 300};
                struct lh_search together = {.k = 20, .ef = 40, .ef_most = 300, .slack = 3.0f};
                team_init(&team, (enum lh_distance)distance, dimensions[i], sizes[s], GRAPHS,
                          &random);
                assert_true(recall_of(&team, &alone, random) >= 0.99);
                /* the narrow start and its sign bits let a few go for good */
                assert_true(recall_of(&team, &together, random) >= 0.98);
                team_deinit(&team);
            }
        }
    }
}

static void graphs_smaller_than_k_fill_the_answer_together(void **state)
{
    static const uint32_t sizes[] = {9, 11, 10, 12, 8};
    uint64_t random = testing_seed(__func__);
    struct team team;
    struct lh_search search = {.k = K_MAX, .ef = 1}; /* raised to k / graphs = 12 */
    team_init(&team, LH_DISTANCE_EUCLIDEAN, 24, sizes, GRAPHS, &random);
    assert_true(recall_of(&team, &search, random) == 1.0); /* all 50 of them */
    search.k = 0;
    recall_of(&team, &search, random);
    team_deinit(&team);
}

/* Going on where it may matter beats the narrow search of each, for less than the wide one. */
static void graphs_go_on_only_where_it_matters(void **state)
{
    static const uint32_t sizes[] = {3000, 3000, 3000, 3000, 3000};
    uint64_t random = testing_seed(__func__);
    struct team team;
    struct lh_search narrow = {.k = 10, .ef = 12};
    struct lh_search shared = {.k = 10, .ef = 12, .ef_most = 80, .slack = 0.2f};
    struct lh_search wide = {.k = 10, .ef = 80};
    double recall[3];
    uint64_t work[4];
    team_init(&team, LH_DISTANCE_COSINE, 48, sizes, GRAPHS, &random);
    work[0] = work_of(&team);
    recall[0] = recall_of(&team, &narrow, random);
    work[1] = work_of(&team);
    recall[1] = recall_of(&team, &shared, random);
    work[2] = work_of(&team);
    recall[2] = recall_of(&team, &wide, random);
    work[3] = work_of(&team);
    assert_true(recall[0] <= recall[1] && recall[1] <= recall[2] + 0.01);
    assert_true(recall[1] > 0.95);
    assert_true(work[1] - work[0] < work[2] - work[1]);
    assert_true(work[2] - work[1] < work[3] - work[2]);
    team_deinit(&team);
}

static void the_order_of_the_graphs_changes_nothing(void **state)
{
    static const uint32_t sizes[] = {500, 1500, 20, 1000, 0};
    uint64_t random = testing_seed(__func__);
    struct team team;
    struct lh_search search = {.k = 10, .ef = 12, .ef_most = 60, .slack = 0.2f};
    team_init(&team, LH_DISTANCE_EUCLIDEAN, 40, sizes, GRAPHS, &random);
    for (uint32_t i = 0; i < 50; i++) {
        float query[40];
        struct lh_graph *turned[GRAPHS];
        struct lh_hit hits[10], again[10];
        uint32_t found, found_again;
        testing_row(&random, 40, query);
        for (uint32_t g = 0; g < GRAPHS; g++) {
            turned[GRAPHS - 1 - g] = team.graphs[g];
        }
        assert_int_equal(lh_graphs_search(team.graphs, GRAPHS, query, &search, hits, &found),
                         LH_OK);
        assert_int_equal(lh_graphs_search(turned, GRAPHS, query, &search, again, &found_again),
                         LH_OK);
        assert_int_equal(found, found_again);
        for (uint32_t j = 0; j < found; j++) {
            assert_int_equal(hits[j].graph, GRAPHS - 1 - again[j].graph);
            assert_int_equal(hits[j].node, again[j].node);
        }
    }
    team_deinit(&team);
}

static void equal_vectors_are_all_found_and_the_lower_graph_comes_first(void **state)
{
    static const uint32_t sizes[] = {200, 200, 200, 200, 200};
    uint64_t random = testing_seed(__func__);
    struct team team;
    float row[40];
    struct lh_hit hits[K_MAX];
    uint32_t found;
    struct lh_search search = {.k = 50, .ef = 20, .ef_most = 60, .slack = 0.2f};
    team_init(&team, LH_DISTANCE_COSINE, 40, sizes, GRAPHS, &random);
    testing_row(&random, 40, row);
    for (uint32_t i = 0; i < 50; i++) {
        testing_add(team.graphs[i % GRAPHS], row);
    }
    assert_int_equal(lh_graphs_search(team.graphs, GRAPHS, row, &search, hits, &found), LH_OK);
    assert_int_equal(found, 50);
    for (uint32_t i = 0; i < 50; i++) {
        assert_true(hits[i].distance < 1e-6f);
        assert_int_equal(hits[i].graph, i / 10);
        assert_true(hits[i].node >= 200);
    }
    team_deinit(&team);
}

/* A graph of nothing but zeros has no norms to scale by. */
static void zero_vectors_stand_where_they_belong(void **state)
{
    static const uint32_t sizes[] = {30, 0, 30};
    uint64_t random = testing_seed(__func__);
    for (int distance = LH_DISTANCE_EUCLIDEAN; distance <= LH_DISTANCE_DOT; distance++) {
        struct team team;
        const float zero[40] = {0};
        struct lh_search search = {.k = 30, .ef = 60};
        team_init(&team, (enum lh_distance)distance, 40, sizes, 3, &random);
        for (uint32_t i = 0; i < 30; i++) {
            testing_add(team.graphs[1], zero);
        }
        assert_true(recall_of(&team, &search, random) >= 0.99);
        team_deinit(&team);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wide_search_of_graphs_finds_what_brute_force_finds),
        cmocka_unit_test(graphs_smaller_than_k_fill_the_answer_together),
        cmocka_unit_test(graphs_go_on_only_where_it_matters),
        cmocka_unit_test(the_order_of_the_graphs_changes_nothing),
        cmocka_unit_test(equal_vectors_are_all_found_and_the_lower_graph_comes_first),
        cmocka_unit_test(zero_vectors_stand_where_they_belong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
