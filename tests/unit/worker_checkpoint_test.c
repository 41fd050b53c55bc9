/* shards/worker: a checkpoint between a worker's other work. The worker has no thread and time
 * stands still unless a test lets it pass, but for the last test. */
#include "base/clock.h"
#include "base/limits.h"
#include "shards/worker.h"
#include "unit/batch_help.h"
#include "unit/seed.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <xxhash.h>

#include <cmocka.h>

#define DIMENSION      16u
#define ITEMS          110u
#define METADATA_BYTES 60000u /* the section has 6.6 MB: 51 blocks, one of them with a sync */
#define UPDATES        100u   /* batches: more steps than blocks */
#define REST_NS        3000000u

static uint64_t now_ns = 1000000000;

static uint64_t clock_ns(void)
{
    return now_ns;
}

/* A worker with a shard that is frozen, and what becomes of its blocks. */
struct bench {
    struct lh_worker worker;
    struct lh_actor home;
    struct lh_actor persister;
    struct lh_shard *shard;
    struct lh_section_job job;
    struct lh_part stream;
    struct test_batch items;
    struct test_batch updates; /* of the same items */
    char *file;
    uint32_t blocks; /* that have come */
    uint32_t syncs;
    int sync_result;
};

static void send(struct bench *bench, struct lh_part *part, enum lh_part_kind kind,
                 enum lh_lane lane)
{
    part->kind = kind;
    part->head = (struct lh_msg){.type = LH_MSG_PART, .lane = lane};
    part->home = &bench->home;
    part->shard = bench->shard;
    part->shards = &part->shard;
    part->shards_here = 1;
    part->section = &bench->job;
    part->options.bytes_max = LH_ANSWER_BYTES_MAX;
    assert_int_equal(lh_actor_send(&bench->worker.actor, &part->head), LH_OK);
}

/* The part that has come home; NULL: none. */
static struct lh_part *receive(struct bench *bench)
{
    return lh_actor_poll(&bench->home) ? (struct lh_part *)lh_actor_next(&bench->home) : NULL;
}

static void turn_until_home(struct bench *bench, struct lh_part *part)
{
    struct lh_part *home = NULL;
    while (home == NULL && lh_worker_turn(&bench->worker, false))
        home = receive(bench);
    assert_ptr_equal(home, part);
    assert_int_equal(part->status, LH_OK);
}

static void run(struct bench *bench, struct lh_part *part, enum lh_part_kind kind)
{
    send(bench, part, kind, LH_LANE_BULK);
    turn_until_home(bench, part);
}

static void send_add(struct bench *bench, struct lh_part *part, const struct test_batch *items)
{
    *part = (struct lh_part){
        .batch = &items->batch, .hashes = items->hashes, .numbers = items->numbers, .count = ITEMS};
    send(bench, part, LH_PART_ADD, LH_LANE_BULK);
}

static void reserve(struct bench *bench, uint32_t adds, uint64_t item_bytes)
{
    struct lh_part part = {.room = {.nodes = adds * ITEMS, .bytes = adds * ITEMS * item_bytes}};
    run(bench, &part, LH_PART_RESERVE);
}

static void search(struct bench *bench)
{
    uint32_t ends[ITEMS];
    struct lh_part part = {
        .batch = &bench->items.batch, .search = {.k = 1, .ef = 10}, .ends = ends};
    send(bench, &part, LH_PART_SEARCH, LH_LANE_EXPRESS);
    turn_until_home(bench, &part);
    lh_found_list_deinit(&part.found);
}

static void make_items(struct test_batch *items, uint64_t *rng, const char *metadata)
{
    test_batch_init(items, DIMENSION);
    for (uint32_t i = 0; i < ITEMS; i++) {
        float row[DIMENSION];
        for (uint32_t d = 0; d < DIMENSION; d++)
            row[d] = lh_test_float(rng);
        test_batch_add(items, i, row, metadata);
    }
}

static void make_batches(struct bench *bench)
{
    uint64_t rng = lh_test_seed();
    char *metadata = test_must(malloc(METADATA_BYTES + 1));
    memset(metadata, ' ', METADATA_BYTES);
    memcpy(metadata, "{}", 2);
    metadata[METADATA_BYTES] = '\0';
    make_items(&bench->items, &rng, metadata);
    make_items(&bench->updates, &rng, NULL);
    free(metadata);
}

static int make_bench(void **state)
{
    struct bench *bench = test_must(calloc(1, sizeof *bench));
    struct lh_part create = {.graph = {.dimension = DIMENSION,
                                       .distance = LH_DISTANCE_EUCLIDEAN,
                                       .m = 16,
                                       .ef_construction = 50,
                                       .seed = 1}};
    struct lh_part adding, freeze = {0};
    lh_worker_init(&bench->worker, 0);
    bench->worker.clock_ns = clock_ns;
    lh_actor_init(&bench->home, "home", NULL, NULL);
    lh_actor_init(&bench->persister, "persister", NULL, NULL);
    run(bench, &create, LH_PART_CREATE);
    bench->shard = create.shard;
    make_batches(bench);
    reserve(bench, 1, METADATA_BYTES + 100);
    reserve(bench, UPDATES, 100);
    send_add(bench, &adding, &bench->items);
    turn_until_home(bench, &adding);
    bench->job = (struct lh_section_job){.persister = &bench->persister, .rest_ns = REST_NS};
    run(bench, &freeze, LH_PART_FREEZE);
    bench->file = test_must(malloc(bench->job.length));
    *state = bench;
    return 0;
}

static int end_bench(void **state)
{
    struct bench *bench = *state;
    lh_shard_destroy(bench->shard);
    for (int lane = 0; lane < LH_LANES; lane++)
        assert_int_equal(lh_worker_depth(&bench->worker, lane), 0);
    test_batch_deinit(&bench->items);
    test_batch_deinit(&bench->updates);
    lh_actor_deinit(&bench->worker.actor);
    lh_actor_deinit(&bench->home);
    lh_actor_deinit(&bench->persister);
    free(bench->file);
    free(bench);
    return 0;
}

/* Writes what has come to the persister and sends it back. */
static void write_blocks(struct bench *bench)
{
    while (lh_actor_poll(&bench->persister)) {
        struct lh_block *block = (struct lh_block *)lh_actor_next(&bench->persister);
        assert_int_equal(block->op.kind, LH_DISK_WRITE);
        assert_true(block->op.offset + block->op.len <= bench->job.length);
        memcpy(bench->file + block->op.offset, block->op.bytes, block->op.len);
        block->op.result = 0;
        bench->blocks++;
        if (block->op.next != NULL) {
            assert_int_equal(block->op.next->kind, LH_DISK_SYNC);
            block->op.next->result = bench->sync_result;
            bench->syncs++;
        }
        assert_int_equal(lh_actor_send(&bench->worker.actor, &block->head), LH_OK);
    }
}

/* Turns until nothing goes on; whether the stream is home. */
static bool settle(struct bench *bench)
{
    struct lh_part *home = NULL;
    while (home == NULL && lh_worker_turn(&bench->worker, false)) {
        write_blocks(bench);
        home = receive(bench);
    }
    assert_true(home == NULL || home == &bench->stream);
    return home != NULL;
}

static void assert_written(const struct bench *bench)
{
    assert_int_equal(bench->stream.status, LH_OK);
    assert_int_equal(bench->job.at, bench->job.length);
    assert_true(XXH3_64bits(bench->file, bench->job.length) == bench->job.xxh3);
    assert_int_equal(bench->syncs, 1);
}

/* ---- tests ---- */

static void without_searches_a_checkpoint_does_not_rest(void **state)
{
    struct bench *bench = *state;
    send(bench, &bench->stream, LH_PART_STREAM, LH_LANE_BULK);
    assert_true(settle(bench)); /* and no time has passed */
    assert_written(bench);
}

static void beside_searches_it_rests_behind_each_block(void **state)
{
    struct bench *bench = *state;
    search(bench);
    send(bench, &bench->stream, LH_PART_STREAM, LH_LANE_BULK);
    uint32_t before = 0;
    while (!settle(bench)) {
        assert_int_equal(bench->blocks, before + 1);
        before = bench->blocks;
        search(bench);
        now_ns += REST_NS - 1;
        assert_false(settle(bench));
        assert_int_equal(bench->blocks, before);
        now_ns += 1;
    }
    assert_true(bench->blocks > bench->job.length / LH_SECTION_BLOCK_BYTES);
    assert_written(bench);
}

static void when_searches_end_it_goes_on_without_rests(void **state)
{
    struct bench *bench = *state;
    search(bench);
    send(bench, &bench->stream, LH_PART_STREAM, LH_LANE_BULK);
    assert_false(settle(bench));
    now_ns += 1000000000;
    assert_true(settle(bench));
    assert_written(bench);
}

static void it_does_not_queue_behind_adds(void **state)
{
    struct bench *bench = *state;
    struct lh_part adds[UPDATES];
    send(bench, &bench->stream, LH_PART_STREAM, LH_LANE_BULK);
    assert_true(lh_worker_turn(&bench->worker, false)); /* its first block is out */
    for (unsigned i = 0; i < UPDATES; i++)
        send_add(bench, &adds[i], &bench->updates);
    struct lh_part *home = NULL;
    unsigned before = 0;
    while (home != &bench->stream) {
        assert_true(lh_worker_turn(&bench->worker, false));
        write_blocks(bench);
        while ((home = receive(bench)) != NULL && home != &bench->stream)
            before++;
    }
    assert_written(bench);
    assert_in_range(before, 10, UPDATES / 2); /* nor do adds wait for it */
    for (; before < UPDATES; before++)
        turn_until_home(bench, &adds[before]);
}

static void a_sync_that_fails_ends_it(void **state)
{
    struct bench *bench = *state;
    bench->sync_result = -EIO;
    send(bench, &bench->stream, LH_PART_STREAM, LH_LANE_BULK);
    assert_true(settle(bench));
    assert_int_equal(bench->stream.status, LH_DISK_FAILED);
    assert_non_null(strstr(bench->job.error.text, "syncing"));
    assert_true(bench->job.at < bench->job.length);
}

static void a_worker_that_sleeps_goes_on_by_itself(void **state)
{
    struct bench *bench = *state;
    struct lh_error error;
    uint64_t begin = lh_clock_ns();
    bench->worker.clock_ns = lh_clock_ns;
    bench->worker.read_ns = begin;
    assert_int_equal(lh_actor_start(&bench->worker.actor, &error), LH_OK);
    send(bench, &bench->stream, LH_PART_STREAM, LH_LANE_BULK);
    struct lh_part *home = NULL;
    while (home == NULL) {
        if (lh_actor_wait_until(&bench->persister, lh_clock_ns() + 100000))
            write_blocks(bench);
        home = receive(bench);
    }
    assert_true(lh_clock_ns() - begin >= (uint64_t)(bench->blocks - 1) * REST_NS);
    assert_written(bench);
    lh_actor_stop(&bench->worker.actor);
    lh_actor_join(&bench->worker.actor);
}

int main(void)
{
#define WITH_BENCH(test) cmocka_unit_test_setup_teardown(test, make_bench, end_bench)
    const struct CMUnitTest tests[] = {
        WITH_BENCH(without_searches_a_checkpoint_does_not_rest),
        WITH_BENCH(beside_searches_it_rests_behind_each_block),
        WITH_BENCH(when_searches_end_it_goes_on_without_rests),
        WITH_BENCH(it_does_not_queue_behind_adds),
        WITH_BENCH(a_sync_that_fails_ends_it),
        WITH_BENCH(a_worker_that_sleeps_goes_on_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
