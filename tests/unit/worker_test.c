/* shards/worker: a real worker thread, and homes that send it parts of every kind. Run it under
 * ThreadSanitizer as well. */
#include "base/clock.h"
#include "base/limits.h"
#include "shards/worker.h"
#include "unit/batch_help.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DIMENSION 32u

/* Who sends parts and gets them back: an actor without a thread of its own; the test drains it. */
struct home {
    struct lh_actor actor;
    struct lh_worker *worker;
    struct lh_shard *shard;
    uint64_t rng;
};

static void home_init(struct home *home, struct lh_worker *worker, uint64_t seed)
{
    *home = (struct home){.worker = worker, .rng = seed};
    lh_actor_init(&home->actor, "home", NULL, NULL);
}

static void send(struct home *home, struct lh_part *part)
{
    bool is_express =
        part->kind == LH_PART_SEARCH || part->kind == LH_PART_GET || part->kind == LH_PART_PAGE;
    part->head.type = LH_MSG_PART;
    part->head.lane = is_express ? LH_LANE_EXPRESS : LH_LANE_BULK;
    part->home = &home->actor;
    part->shard = home->shard;
    if (part->shards == NULL) {
        part->shards = &part->shard;
        part->shards_here = 1;
    }
    part->options.bytes_max = LH_ANSWER_BYTES_MAX;
    assert_int_equal(lh_actor_send(&home->worker->actor, &part->head), LH_OK);
}

/* The next part that comes home. */
static struct lh_part *receive(struct home *home)
{
    assert_true(lh_actor_wait(&home->actor));
    struct lh_part *part = (struct lh_part *)lh_actor_next(&home->actor);
    assert_int_equal(part->head.type, LH_MSG_PART);
    return part;
}

static void ask(struct home *home, struct lh_part *part)
{
    send(home, part);
    assert_ptr_equal(receive(home), part);
}

static void create_shard(struct home *home)
{
    struct lh_part part = {.kind = LH_PART_CREATE,
                           .graph = {.dimension = DIMENSION,
                                     .distance = LH_DISTANCE_EUCLIDEAN,
                                     .m = 16,
                                     .ef_construction = 100,
                                     .seed = 1}};
    ask(home, &part);
    assert_int_equal(part.status, LH_OK);
    assert_non_null(part.shard);
    home->shard = part.shard;
}

static void drop_shard(struct home *home)
{
    struct lh_part part = {.kind = LH_PART_DROP};
    ask(home, &part);
    assert_null(part.shard);
    assert_int_equal(part.shard_count, 0);
    home->shard = NULL;
}

/* `count` random items with the ids from `first` on. */
static void make_items(struct home *home, struct test_batch *made, uint32_t first, uint32_t count)
{
    test_batch_init(made, DIMENSION);
    for (uint32_t i = 0; i < count; i++) {
        float row[DIMENSION];
        for (uint32_t d = 0; d < DIMENSION; d++)
            row[d] = lh_test_float(&home->rng);
        test_batch_add(made, first + i, row, i % 2 ? "{\"a\":1}" : NULL);
    }
}

static struct lh_part part_of(enum lh_part_kind kind, const struct test_batch *made)
{
    return (struct lh_part){.kind = kind,
                            .batch = &made->batch,
                            .hashes = made->hashes,
                            .numbers = made->numbers,
                            .count = made->batch.count};
}

static struct lh_part search_of(const struct test_batch *queries, uint32_t *ends)
{
    return (struct lh_part){.kind = LH_PART_SEARCH,
                            .batch = &queries->batch,
                            .search = {.k = 5, .ef = 50},
                            .ends = ends};
}

static void reserve_for(struct home *home, const struct test_batch *made)
{
    struct lh_part part = {.kind = LH_PART_RESERVE, .room = {.nodes = made->batch.count}};
    for (uint32_t i = 0; i < made->batch.count; i++)
        part.room.bytes += lh_shard_item_bytes(&made->batch.items[i]);
    ask(home, &part);
    assert_int_equal(part.status, LH_OK);
}

static void add_items(struct home *home, uint32_t first, uint32_t count)
{
    struct test_batch made;
    make_items(home, &made, first, count);
    reserve_for(home, &made);
    struct lh_part part = part_of(LH_PART_ADD, &made);
    ask(home, &part);
    assert_int_equal(part.counts.added, count);
    assert_int_equal(part.done, count);
    test_batch_deinit(&made);
}

/* ---- the worker of each test ---- */

static int start_worker(void **state)
{
    struct lh_error error;
    struct lh_worker *worker = calloc(1, sizeof *worker);
    assert_non_null(worker);
    lh_worker_init(worker, 3);
    assert_int_equal(lh_actor_start(&worker->actor, &error), LH_OK);
    *state = worker;
    return 0;
}

static int stop_worker(void **state)
{
    struct lh_worker *worker = *state;
    lh_actor_stop(&worker->actor);
    lh_actor_join(&worker->actor);
    for (int lane = 0; lane < LH_LANES; lane++)
        assert_int_equal(lh_worker_depth(worker, lane), 0);
    lh_actor_deinit(&worker->actor);
    free(worker);
    return 0;
}

/* ---- tests ---- */

/* Adds the items twice: once they are new, then they are there. */
static void add_twice(struct home *home, const struct test_batch *made)
{
    uint32_t count = made->batch.count;
    reserve_for(home, made);
    struct lh_part add = part_of(LH_PART_ADD, made);
    ask(home, &add);
    assert_int_equal(add.counts.added, count);
    assert_int_equal(add.room.nodes, 0);
    assert_int_equal(add.shard_count, count);
    assert_true(add.shard_bytes > count * DIMENSION * sizeof(float));

    reserve_for(home, made);
    struct lh_part again = part_of(LH_PART_ADD, made);
    ask(home, &again);
    assert_int_equal(again.counts.updated, count);
    assert_int_equal(again.room.nodes, count); /* none of it was needed */
}

/* Each item's own vector finds it, in one batch of queries. */
static void search_each(struct home *home, const struct test_batch *made)
{
    uint32_t *ends = calloc(made->batch.count, sizeof *ends);
    assert_non_null(ends);
    struct lh_part search = search_of(made, ends);
    ask(home, &search);
    assert_int_equal(search.status, LH_OK);
    for (uint32_t i = 0; i < made->batch.count; i++) {
        const struct lh_found *first = &search.found.items[i == 0 ? 0 : ends[i - 1]];
        struct lh_str id = {search.found.text.ptr + first->text_at, first->id_len};
        assert_int_equal(ends[i], 5 * (i + 1));
        assert_int_equal(test_id_number(id), i);
        assert_true(first->distance < 1e-6f);
    }
    lh_found_list_deinit(&search.found);
    free(ends);
}

static void get_and_delete(struct home *home, const struct test_batch *one, const float *row)
{
    struct lh_part get = part_of(LH_PART_GET, one);
    get.options.with_vector = true;
    ask(home, &get);
    assert_int_equal(get.status, LH_OK);
    assert_memory_equal(get.found.rows, row, DIMENSION * sizeof(float));
    lh_found_list_deinit(&get.found);

    struct lh_part delete = part_of(LH_PART_DELETE, one);
    ask(home, &delete);
    assert_int_equal(delete.counts.deleted, 1);
    struct lh_part twice = part_of(LH_PART_DELETE, one);
    ask(home, &twice);
    assert_int_equal(twice.counts.deleted, 0);
    struct lh_part gone = part_of(LH_PART_GET, one);
    ask(home, &gone);
    assert_int_equal(gone.status, LH_ITEM_NOT_FOUND);
    lh_found_list_deinit(&gone.found);
}

static void every_kind_of_part_comes_home_answered(void **state)
{
    struct lh_worker *worker = *state;
    struct home home;
    struct test_batch made, one;
    home_init(&home, worker, lh_test_seed());
    create_shard(&home);
    make_items(&home, &made, 0, 100);
    make_items(&home, &one, 7, 1);
    add_twice(&home, &made);
    search_each(&home, &made);

    struct lh_part page = {.kind = LH_PART_PAGE, .limit = 60};
    ask(&home, &page);
    assert_int_equal(page.found.count, 60);
    assert_int_not_equal(page.node, LH_NO_ITEM);
    ask(&home, &page); /* from where it ended */
    assert_int_equal(page.found.count, 100);
    lh_found_list_deinit(&page.found);

    get_and_delete(&home, &one, made.batch.rows + 7 * DIMENSION);
    drop_shard(&home);
    assert_int_equal(lh_counter_get(&worker->metrics.adds), 100);
    assert_int_equal(lh_counter_get(&worker->metrics.updates), 100);
    assert_int_equal(lh_counter_get(&worker->metrics.deletes), 1);
    assert_int_equal(lh_counter_get(&worker->metrics.searches), 100);
    assert_true(lh_counter_get(&worker->metrics.busy_ns) > 0);
    test_batch_deinit(&made);
    test_batch_deinit(&one);
    lh_actor_deinit(&home.actor);
}

static void a_search_overtakes_queued_adds(void **state)
{
    struct lh_worker *worker = *state;
    struct home home;
    struct test_batch large, query;
    uint32_t end = 0;
    home_init(&home, worker, lh_test_seed());
    create_shard(&home);
    add_items(&home, 0, 100);
    make_items(&home, &large, 1000, 10000);
    make_items(&home, &query, 0, 1);
    reserve_for(&home, &large);
    struct lh_part add = part_of(LH_PART_ADD, &large);
    struct lh_part search = search_of(&query, &end);
    send(&home, &add);
    send(&home, &search);
    assert_ptr_equal(receive(&home), &search);
    assert_true(search.shard_count < 10100); /* it ran while the add was going on */
    assert_int_equal(search.found.count, 5);
    assert_ptr_equal(receive(&home), &add);
    assert_int_equal(add.counts.added, 10000);
    lh_found_list_deinit(&search.found);
    drop_shard(&home);
    test_batch_deinit(&large);
    test_batch_deinit(&query);
    lh_actor_deinit(&home.actor);
}

static void a_large_batch_of_searches_holds_up_neither_a_search_nor_an_add(void **state)
{
    enum { QUERIES = 20000 };
    struct lh_worker *worker = *state;
    struct home home;
    struct test_batch large, query, items;
    uint32_t *ends = calloc(QUERIES, sizeof *ends);
    uint32_t end = 0;
    assert_non_null(ends);
    home_init(&home, worker, lh_test_seed());
    create_shard(&home);
    add_items(&home, 0, 1000);
    make_items(&home, &large, 0, QUERIES);
    make_items(&home, &query, 0, 1);
    make_items(&home, &items, 5000, 100);
    reserve_for(&home, &items);
    struct lh_part batch = search_of(&large, ends);
    struct lh_part add = part_of(LH_PART_ADD, &items);
    struct lh_part single = search_of(&query, &end);
    send(&home, &batch);
    send(&home, &add);
    send(&home, &single);
    assert_ptr_not_equal(receive(&home), &batch);
    assert_ptr_not_equal(receive(&home), &batch);
    assert_ptr_equal(receive(&home), &batch);
    assert_int_equal(batch.status, LH_OK);
    assert_int_equal(batch.found.count, 5 * QUERIES);
    assert_int_equal(single.found.count, 5);
    assert_int_equal(add.counts.added, 100);
    lh_found_list_deinit(&batch.found);
    lh_found_list_deinit(&single.found);
    drop_shard(&home);
    test_batch_deinit(&large);
    test_batch_deinit(&query);
    test_batch_deinit(&items);
    free(ends);
    lh_actor_deinit(&home.actor);
}

static void a_search_past_its_deadline_is_skipped(void **state)
{
    struct lh_worker *worker = *state;
    struct home home;
    struct test_batch query;
    uint32_t end = 0;
    home_init(&home, worker, lh_test_seed());
    create_shard(&home);
    add_items(&home, 0, 10);
    make_items(&home, &query, 0, 1);
    struct lh_part late = search_of(&query, &end);
    late.deadline_ns = 1;
    ask(&home, &late);
    assert_int_equal(late.status, LH_DEADLINE);
    assert_int_equal(late.found.count, 0);
    assert_int_equal(lh_counter_get(&worker->metrics.expired), 1);
    struct lh_part timely = search_of(&query, &end);
    timely.deadline_ns = lh_clock_ns() + 60000000000;
    ask(&home, &timely);
    assert_int_equal(timely.status, LH_OK);
    lh_found_list_deinit(&timely.found);
    drop_shard(&home);
    test_batch_deinit(&query);
    lh_actor_deinit(&home.actor);
}

/* A part of a batch for several shards, while other homes' adds and searches go on. */
static void a_batch_over_several_shards_is_answered_as_one(void **state)
{
    enum { SHARDS = 5, QUERIES = 400 };
    struct lh_worker *worker = *state;
    struct home homes[SHARDS];
    struct lh_shard *shards[SHARDS];
    struct test_batch queries, single, items;
    uint32_t ends[QUERIES] = {0}, end = 0;
    uint64_t seed = lh_test_seed();
    for (uint32_t s = 0; s < SHARDS; s++) {
        home_init(&homes[s], worker, seed + s);
        create_shard(&homes[s]);
        if (s > 0) /* the first stays empty, the second has less than k */
            add_items(&homes[s], s * 1000, s == 1 ? 3 : 300);
        shards[s] = homes[s].shard;
    }
    make_items(&homes[2], &queries, 0, QUERIES);
    make_items(&homes[2], &single, 0, 1);
    make_items(&homes[2], &items, 5000, 200);
    reserve_for(&homes[2], &items);
    struct lh_part batch = search_of(&queries, ends);
    struct lh_part add = part_of(LH_PART_ADD, &items);
    struct lh_part other = search_of(&single, &end);
    batch.shards = shards;
    batch.shards_here = SHARDS;
    batch.search = (struct lh_search){.k = 10, .ef = 20, .ef_most = 60, .slack = 0.3f};
    send(&homes[0], &batch);
    send(&homes[2], &add);
    send(&homes[2], &other);
    assert_ptr_equal(receive(&homes[2]), &other); /* neither waits for the batch */
    assert_ptr_equal(receive(&homes[2]), &add);
    assert_ptr_equal(receive(&homes[0]), &batch);
    assert_int_equal(batch.status, LH_OK);
    for (uint32_t q = 0; q < QUERIES; q++) {
        assert_int_equal(ends[q], 10 * (q + 1));
        for (uint32_t i = 10 * q + 1; i < ends[q]; i++)
            assert_true(batch.found.items[i - 1].distance <= batch.found.items[i].distance);
    }
    batch.deadline_ns = 1;
    batch.done = 0;
    ask(&homes[0], &batch);
    assert_int_equal(batch.status, LH_DEADLINE);
    lh_found_list_deinit(&batch.found);
    lh_found_list_deinit(&other.found);
    test_batch_deinit(&queries);
    test_batch_deinit(&single);
    test_batch_deinit(&items);
    for (uint32_t s = 0; s < SHARDS; s++) {
        drop_shard(&homes[s]);
        lh_actor_deinit(&homes[s].actor);
    }
}

static void a_stop_answers_what_is_queued(void **state)
{
    enum { PARTS = 50 };
    struct lh_worker *worker = *state;
    struct home home;
    struct test_batch made[PARTS];
    struct lh_part adds[PARTS], searches[PARTS];
    uint32_t ends[PARTS] = {0};
    home_init(&home, worker, lh_test_seed());
    create_shard(&home);
    for (uint32_t i = 0; i < PARTS; i++) {
        make_items(&home, &made[i], i * 40, 40);
        reserve_for(&home, &made[i]);
        adds[i] = part_of(LH_PART_ADD, &made[i]);
        searches[i] = (struct lh_part){.kind = LH_PART_SEARCH,
                                       .batch = &made[i].batch,
                                       .search = {.k = 1, .ef = 10},
                                       .ends = calloc(40, sizeof *ends)};
        assert_non_null(searches[i].ends);
    }
    struct lh_part drop = {.kind = LH_PART_DROP};
    for (uint32_t i = 0; i < PARTS; i++) {
        send(&home, &adds[i]);
        send(&home, &searches[i]);
    }
    lh_actor_stop(&worker->actor);
    assert_int_equal(lh_actor_send(&worker->actor, &drop.head), LH_CLOSED);
    for (uint32_t i = 0; i < 2 * PARTS; i++)
        receive(&home);
    for (uint32_t i = 0; i < PARTS; i++) {
        assert_int_equal(adds[i].counts.added, 40);
        assert_int_equal(searches[i].status, LH_OK);
        lh_found_list_deinit(&searches[i].found);
        free(searches[i].ends);
        test_batch_deinit(&made[i]);
    }
    lh_actor_join(&worker->actor);
    assert_int_equal(lh_shard_count(home.shard), PARTS * 40);
    lh_shard_destroy(home.shard); /* the thread has ended: it is the test's */
    lh_actor_deinit(&home.actor);
}

/* ---- many homes at once ---- */

#define HOMES       4u
#define HOME_ROUNDS 60u

/* One home's traffic, with several parts of its own under way at once. Plain asserts of cmocka do
 * not belong on other threads: it counts what is wrong. */
struct traffic {
    struct home home;
    pthread_t thread;
    unsigned wrong;
};

static void run_traffic_round(struct traffic *traffic, uint32_t round)
{
    struct home *home = &traffic->home;
    struct test_batch made, query;
    uint32_t end = 0, first = round * 100;
    make_items(home, &made, first, 100);
    make_items(home, &query, first, 1);
    struct lh_part reserve = {.kind = LH_PART_RESERVE, .room = {.nodes = 100, .bytes = 100 * 64}};
    struct lh_part add = part_of(LH_PART_ADD, &made);
    struct lh_part search = search_of(&query, &end);
    struct lh_part page = {.kind = LH_PART_PAGE, .limit = 10};
    struct lh_part delete = part_of(LH_PART_DELETE, &query);
    struct lh_part *parts[] = {&reserve, &add, &search, &page, &delete};
    for (unsigned i = 0; i < 5; i++) { /* bulk parts keep their order */
        bool is_express = parts[i]->kind == LH_PART_SEARCH || parts[i]->kind == LH_PART_PAGE;
        parts[i]->head.type = LH_MSG_PART;
        parts[i]->head.lane = is_express ? LH_LANE_EXPRESS : LH_LANE_BULK;
        parts[i]->home = &home->actor;
        parts[i]->shard = home->shard;
        parts[i]->shards = &parts[i]->shard;
        parts[i]->shards_here = 1;
        parts[i]->options.bytes_max = LH_ANSWER_BYTES_MAX;
        traffic->wrong += lh_actor_send(&home->worker->actor, &parts[i]->head) != LH_OK;
    }
    for (unsigned home_again = 0; home_again < 5; home_again++) {
        if (!lh_actor_wait(&home->actor) || lh_actor_next(&home->actor) == NULL)
            traffic->wrong++;
    }
    traffic->wrong += reserve.status != LH_OK || add.counts.added != 100 ||
                      delete.counts.deleted != 1 || search.status != LH_OK;
    lh_found_list_deinit(&search.found);
    lh_found_list_deinit(&page.found);
    test_batch_deinit(&made);
    test_batch_deinit(&query);
}

static void *run_traffic(void *arg)
{
    struct traffic *traffic = arg;
    for (uint32_t round = 0; round < HOME_ROUNDS; round++)
        run_traffic_round(traffic, round);
    return NULL;
}

static void many_homes_share_one_worker(void **state)
{
    struct lh_worker *worker = *state;
    struct traffic traffic[HOMES];
    uint64_t seed = lh_test_seed();
    for (unsigned i = 0; i < HOMES; i++) {
        traffic[i].wrong = 0;
        home_init(&traffic[i].home, worker, seed + i);
        create_shard(&traffic[i].home);
    }
    for (unsigned i = 0; i < HOMES; i++)
        assert_int_equal(pthread_create(&traffic[i].thread, NULL, run_traffic, &traffic[i]), 0);
    for (unsigned i = 0; i < HOMES; i++) {
        struct lh_error error = {0};
        pthread_join(traffic[i].thread, NULL);
        assert_int_equal(traffic[i].wrong, 0);
        assert_int_equal(lh_shard_count(traffic[i].home.shard), HOME_ROUNDS * 99);
        assert_int_equal(lh_shard_validate(traffic[i].home.shard, &error), LH_OK);
        drop_shard(&traffic[i].home);
        lh_actor_deinit(&traffic[i].home.actor);
    }
    assert_int_equal(lh_counter_get(&worker->metrics.adds), HOMES * HOME_ROUNDS * 100);
}

int main(void)
{
#define WITH_WORKER(test) cmocka_unit_test_setup_teardown(test, start_worker, stop_worker)
    const struct CMUnitTest tests[] = {
        WITH_WORKER(every_kind_of_part_comes_home_answered),
        WITH_WORKER(a_search_overtakes_queued_adds),
        WITH_WORKER(a_large_batch_of_searches_holds_up_neither_a_search_nor_an_add),
        WITH_WORKER(a_search_past_its_deadline_is_skipped),
        WITH_WORKER(a_batch_over_several_shards_is_answered_as_one),
        WITH_WORKER(a_stop_answers_what_is_queued),
        WITH_WORKER(many_homes_share_one_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
