/* The log on a simulated disk, with a model of what was appended and what ended. An entry's record
 * is an ADD of one item whose id is its number and whose row follows from that; so a record that
 * was found says which entry it was, and can be checked to the last number. */
#ifndef LH_TESTS_WAL_HELP_H
#define LH_TESTS_WAL_HELP_H

#include "ext/batch.h"
#include "sim/disk_sim.h"
#include "store/wal.h"
#include "unit/seed.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEST_SEGMENT_BYTES 16384u
#define TEST_ENTRIES_MAX   4096u

struct test_entry {
    struct lh_wal_entry entry;
    struct lh_record record;
    uint32_t number;
    bool has_ended;
    struct test_log *log;
};

struct test_log {
    struct lh_sim_disk *sim;
    struct lh_wal *wal;
    struct lh_wal_options options;
    uint64_t rng;

    struct test_entry *entries[TEST_ENTRIES_MAX]; /* by number */
    uint32_t count;
    uint32_t ended;
    uint32_t failed;
    uint64_t ended_lsn;     /* of the last that ended well */
    uint64_t committed_lsn; /* of the last of them with COMMIT */
    uint64_t released_lsn;
    uint32_t by_lsn[TEST_ENTRIES_MAX]; /* the entry that ended well with this LSN */
};

/* What a recovery told. */
struct test_found {
    struct lh_wal_summary summary;
    struct lh_error error;
    uint64_t told;  /* records */
    uint64_t holes; /* numbers left out between them */
    uint64_t next_lsn;
};

/* Time stands still unless a test moves it. */
static uint64_t test_now_ns = 1000000000;

static uint64_t test_clock(void)
{
    return test_now_ns;
}

static uint32_t test_dimension(uint32_t number, uint32_t bytes)
{
    return bytes / 4 > LH_DIMENSION_MAX ? LH_DIMENSION_MAX : bytes / 4 + 1 + number % 2;
}

static float test_number(uint32_t number, uint32_t i)
{
    return (float)(number * 31 + i);
}

static void test_fill(struct lh_record *record, uint32_t number, uint32_t bytes)
{
    struct lh_batch_item item = {.dimension = test_dimension(number, bytes)};
    float *row = malloc(item.dimension * sizeof *row);
    char *id;
    assert_non_null(row);
    *record = (struct lh_record){.type = LH_RECORD_ADD};
    memset(record->uuid, (int)(number & 0xff), sizeof record->uuid);
    lh_batch_init(&record->batch);
    id = lh_batch_bytes(&record->batch, 16);
    assert_non_null(id);
    item.id = (struct lh_str){id, (size_t)snprintf(id, 16, "%u", number)};
    for (uint32_t i = 0; i < item.dimension; i++)
        row[i] = test_number(number, i);
    assert_int_equal(lh_batch_add_row(&record->batch, &item, row, 1), LH_OK);
    free(row);
}

/* Which entry a record that was found is of. */
static uint32_t test_number_of(const struct lh_record *record)
{
    uint64_t number = UINT64_MAX;
    assert_int_equal(record->type, LH_RECORD_ADD);
    assert_int_equal(record->batch.count, 1);
    assert_true(lh_str_to_u64(record->batch.items[0].id, &number));
    for (uint32_t i = 0; i < record->batch.dimension; i++)
        assert_true(record->batch.rows[i] == test_number((uint32_t)number, i));
    return (uint32_t)number;
}

static void test_done(struct lh_wal_entry *entry)
{
    struct test_entry *test = entry->arg;
    struct test_log *log = test->log;
    assert_false(test->has_ended);
    assert_int_equal(test->number, log->ended); /* in order */
    test->has_ended = true;
    log->ended++;
    if (entry->status != LH_OK) {
        log->failed++;
        return;
    }
    assert_int_equal(test->record.lsn, log->ended_lsn + 1); /* without holes */
    log->ended_lsn = test->record.lsn;
    log->by_lsn[test->record.lsn] = test->number;
    if (entry->durability == LH_DURABILITY_COMMIT)
        log->committed_lsn = test->record.lsn;
}

static uint32_t test_append(struct test_log *log, enum lh_durability durability, uint32_t bytes)
{
    struct test_entry *test = calloc(1, sizeof *test);
    assert_non_null(test);
    assert_true(log->count < TEST_ENTRIES_MAX);
    test->number = log->count++;
    test->log = log;
    log->entries[test->number] = test;
    test_fill(&test->record, test->number, bytes);
    test->entry = (struct lh_wal_entry){
        .record = &test->record, .durability = durability, .done = test_done, .arg = test};
    lh_wal_append(log->wal, &test->entry);
    return test->number;
}

static void test_count(const struct lh_wal_found *found, void *arg)
{
    struct test_found *seen = arg;
    assert_true(seen->told == 0 || found->lsn >= seen->next_lsn);
    seen->holes += seen->told == 0 ? 0 : found->lsn - seen->next_lsn;
    assert_int_equal(found->type, LH_RECORD_ADD);
    seen->told++;
    seen->next_lsn = found->lsn + 1;
}

static enum lh_status test_try_open(struct lh_sim_disk *sim, uint64_t segment_bytes, uint64_t seed,
                                    struct lh_wal **wal, struct test_found *found)
{
    static const struct lh_log silent = {.fd = -1, .level = {LH_LOG_ERROR}};
    struct lh_wal_options options = {.disk = lh_sim_disk_disk(sim),
                                     .log = &silent,
                                     .segment_bytes = segment_bytes,
                                     .interval_ms = 50,
                                     .clock_ns = test_clock,
                                     .seed = seed | 1};
    *found = (struct test_found){0};
    return lh_wal_open(&options, test_count, found, wal, &found->summary, &found->error);
}

static void test_reopen(struct test_log *log, struct test_found *found)
{
    enum lh_status status =
        test_try_open(log->sim, TEST_SEGMENT_BYTES, lh_test_next(&log->rng), &log->wal, found);
    if (status != LH_OK)
        print_error("%s\n", found->error.text);
    assert_int_equal(status, LH_OK);
    assert_int_equal(found->told, found->summary.records);
}

static struct test_log *test_log_create(uint64_t seed)
{
    struct test_log *log = calloc(1, sizeof *log);
    struct test_found found;
    assert_non_null(log);
    log->rng = seed;
    log->sim = lh_sim_disk_create(seed);
    test_reopen(log, &found);
    assert_int_equal(found.told, 0);
    return log;
}

/* Something of what is under way is done; false: nothing is. */
static bool test_run(struct test_log *log)
{
    lh_disk_wake(lh_sim_disk_disk(log->sim)); /* or it would sleep when there is nothing */
    return lh_disk_run(lh_sim_disk_disk(log->sim), true);
}

/* Runs the disk until nothing is under way. */
static void test_settle(struct test_log *log)
{
    lh_wal_flush(log->wal);
    while (test_run(log))
        ;
}

static void test_log_destroy(struct test_log *log)
{
    struct lh_disk *disk = lh_sim_disk_disk(log->sim);
    if (log->wal != NULL) {
        while (test_run(log))
            ;
        lh_wal_close(log->wal);
    }
    for (uint32_t i = 0; i < log->count; i++) {
        lh_record_deinit(&log->entries[i]->record);
        free(log->entries[i]);
    }
    lh_disk_destroy(disk);
    free(log);
}

/* Recovers from `sim` and checks it against what the model knows now: records without holes, each
 * whole and of an entry that was given its LSN; those up to `least` as they ended. */
static void test_check_recovery(struct test_log *log, struct lh_sim_disk *sim, uint64_t least,
                                struct lh_wal **wal, struct test_found *found)
{
    struct lh_record record;
    struct lh_error error;
    uint64_t lsn;
    enum lh_status status =
        test_try_open(sim, TEST_SEGMENT_BYTES, lh_test_next(&log->rng), wal, found);
    if (status != LH_OK || found->summary.quarantined > 0)
        print_error("%s%s\n", status != LH_OK ? found->error.text : "", found->summary.reason);
    assert_int_equal(status, LH_OK);
    assert_int_equal(found->summary.quarantined, 0);
    assert_int_equal(found->holes, 0);
    if (found->summary.last_lsn < least) /* only what was released may be gone */
        assert_true(found->summary.records == 0 && least < log->released_lsn);
    if (found->summary.records > 0)
        assert_true(found->summary.first_lsn <= (log->released_lsn ? log->released_lsn : 1));
    lsn = found->summary.first_lsn;
    while ((status = lh_wal_replay(*wal, 0, &record, &error)) == LH_OK) {
        uint32_t number = test_number_of(&record);
        assert_int_equal(record.lsn, lsn++);
        assert_true(number < log->count && log->entries[number]->record.lsn == record.lsn);
        if (record.lsn <= least)
            assert_int_equal(number, log->by_lsn[record.lsn]);
        lh_record_deinit(&record);
    }
    assert_int_equal(status, LH_NOT_FOUND);
    assert_int_equal(lsn, found->summary.records ? found->summary.last_lsn + 1 : 0);
}

#endif
