/* shards/worker: in which order bulk parts are worked off. The worker has no thread. */
#include "base/limits.h"
#include "shards/worker.h"
#include "unit/batch_help.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DIMENSION 32u
#define LARGE     500u

struct bench {
    struct lh_worker worker;
    struct lh_actor home;
    struct lh_shard *shard;
    struct test_batch large; /* items 0 to LARGE */
    uint64_t rng;
};

static void make_items(struct bench *bench, struct test_batch *made, uint32_t first, uint32_t count)
{
    test_batch_init(made, DIMENSION);
    for (uint32_t i = 0; i < count; i++) {
        float row[DIMENSION];
        for (uint32_t d = 0; d < DIMENSION; d++)
            row[d] = lh_test_float(&bench->rng);
        test_batch_add(made, first + i, row, NULL);
    }
}

static struct lh_part change(enum lh_part_kind kind, const struct test_batch *made)
{
    return (struct lh_part){.kind = kind,
                            .batch = &made->batch,
                            .hashes = made->hashes,
                            .numbers = made->numbers,
                            .count = made->batch.count};
}

static struct lh_part create(void)
{
    return (struct lh_part){.kind = LH_PART_CREATE,
                            .graph = {.dimension = DIMENSION,
                                      .distance = LH_DISTANCE_EUCLIDEAN,
                                      .m = 16,
                                      .ef_construction = 100,
                                      .seed = 1}};
}

static struct lh_part reserve(void)
{
    return (struct lh_part){.kind = LH_PART_RESERVE, .room = {2 * LARGE, 200 * LARGE}};
}

/* Sends the parts in their order; they come home as order[0], order[1], ... */
static void assert_order(struct bench *bench, struct lh_part *parts, const unsigned *order,
                         unsigned count)
{
    struct lh_actor *worker = &bench->worker.actor;
    for (unsigned i = 0; i < count; i++) {
        parts[i].head = (struct lh_msg){.type = LH_MSG_PART, .lane = LH_LANE_BULK};
        parts[i].home = &bench->home;
        parts[i].shard = bench->shard;
        assert_int_equal(lh_actor_send(worker, &parts[i].head), LH_OK);
    }
    while (lh_worker_turn(&bench->worker, false))
        continue;
    for (unsigned i = 0; i < count; i++) {
        assert_true(i == 0 ? lh_actor_poll(&bench->home) : true);
        assert_ptr_equal(lh_actor_next(&bench->home), &parts[order[i]]);
        assert_int_equal(parts[i].status, LH_OK);
    }
    assert_int_equal(worker->waiting[LH_LANE_BULK].count, 0);
}

static int start(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct lh_part parts[] = {create(), reserve()};
    assert_non_null(bench);
    bench->rng = lh_test_seed();
    lh_worker_init(&bench->worker, 3);
    lh_actor_init(&bench->home, "home", NULL, NULL);
    make_items(bench, &bench->large, 0, LARGE);
    assert_order(bench, &parts[0], (const unsigned[]){0}, 1);
    bench->shard = parts[0].shard;
    assert_order(bench, &parts[1], (const unsigned[]){0}, 1);
    *state = bench;
    return 0;
}

static int stop(void **state)
{
    struct bench *bench = *state;
    lh_shard_destroy(bench->shard);
    test_batch_deinit(&bench->large);
    lh_actor_deinit(&bench->home);
    lh_actor_deinit(&bench->worker.actor);
    free(bench);
    return 0;
}

static void small_changes_pass_large_ones_of_other_items(void **state)
{
    struct bench *bench = *state;
    struct test_batch small, nine;
    make_items(bench, &small, 1000, 8);
    make_items(bench, &nine, 2000, 9);
    struct lh_part parts[] = {
        change(LH_PART_ADD, &bench->large), change(LH_PART_ADD, &nine),     reserve(),
        change(LH_PART_ADD, &small),        change(LH_PART_DELETE, &small),
    };
    assert_order(bench, parts, (const unsigned[]){2, 3, 4, 0, 1}, 5);
    assert_int_equal(parts[0].counts.added, LARGE);
    assert_int_equal(parts[3].counts.added, 8);
    assert_int_equal(parts[4].counts.deleted, 8);
    assert_int_equal(lh_shard_count(bench->shard), LARGE + 9);
    test_batch_deinit(&small);
    test_batch_deinit(&nine);
}

static void changes_of_one_item_keep_their_order(void **state)
{
    struct bench *bench = *state;
    struct test_batch last;
    make_items(bench, &last, LARGE - 1, 1);
    struct lh_part parts[] = {
        change(LH_PART_ADD, &bench->large),
        change(LH_PART_DELETE, &last),
        change(LH_PART_ADD, &last),
        change(LH_PART_DELETE, &last),
    };
    assert_order(bench, parts, (const unsigned[]){0, 1, 2, 3}, 4);
    assert_int_equal(parts[1].counts.deleted, 1);
    assert_int_equal(parts[2].counts.added, 1);
    assert_int_equal(parts[3].counts.deleted, 1);
    assert_int_equal(lh_shard_count(bench->shard), LARGE - 1);
    test_batch_deinit(&last);
}

/* What a checkpoint freezes is all that came before it, and nothing else. */
static void no_change_passes_what_is_none(void **state)
{
    struct bench *bench = *state;
    struct test_batch small;
    make_items(bench, &small, 1000, 1);
    struct lh_part parts[] = {change(LH_PART_ADD, &bench->large), create(),
                              change(LH_PART_ADD, &small)};
    assert_order(bench, parts, (const unsigned[]){0, 1, 2}, 3);
    lh_shard_destroy(parts[1].shard);
    test_batch_deinit(&small);
}

/* Small ones that keep coming do not starve a large one: between two of its steps go a few. */
static void a_large_change_goes_on_beside_many_small_ones(void **state)
{
    enum { SMALL = 200 };
    struct bench *bench = *state;
    struct test_batch items[SMALL];
    struct lh_part small[SMALL];
    struct lh_part large = change(LH_PART_ADD, &bench->large);
    large.head = (struct lh_msg){.type = LH_MSG_PART, .lane = LH_LANE_BULK};
    large.home = &bench->home;
    large.shard = bench->shard;
    assert_int_equal(lh_actor_send(&bench->worker.actor, &large.head), LH_OK);
    for (unsigned i = 0; i < SMALL; i++) {
        make_items(bench, &items[i], 1000 + i, 1);
        small[i] = change(LH_PART_ADD, &items[i]);
        small[i].head = large.head;
        small[i].home = large.home;
        small[i].shard = large.shard;
        assert_int_equal(lh_actor_send(&bench->worker.actor, &small[i].head), LH_OK);
    }
    for (unsigned turns = 1; large.done < LARGE; turns++) {
        assert_true(lh_worker_turn(&bench->worker, false));
        assert_true(large.done >= turns || large.done == LARGE);
        assert_true(small[SMALL - 1].done == 0 || large.done >= SMALL / 8);
    }
    while (lh_worker_turn(&bench->worker, false))
        continue;
    for (unsigned i = 0; i < SMALL; i++) {
        assert_int_equal(small[i].counts.added, 1);
        test_batch_deinit(&items[i]);
    }
    assert_int_equal(lh_shard_count(bench->shard), LARGE + SMALL);
    lh_actor_poll(&bench->home);
    while (lh_actor_next(&bench->home) != NULL)
        continue;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(small_changes_pass_large_ones_of_other_items),
        TEST(changes_of_one_item_keep_their_order),
        TEST(no_change_passes_what_is_none),
        TEST(a_large_change_goes_on_beside_many_small_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
