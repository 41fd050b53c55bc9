/* store/wal: when entries end, what rots, what is reused, and what a full disk does. */
#include "unit/wal_help.h"

#include "store/crc32c.h"

static void commit_all(struct test_log *log)
{
    test_settle(log);
    assert_int_equal(log->ended, log->count);
    assert_int_equal(log->failed, 0);
}

/* The log of `log`, closed and opened again. */
static void restart(struct test_log *log, struct test_found *found)
{
    test_settle(log);
    lh_wal_close(log->wal);
    log->wal = NULL;
    test_reopen(log, found);
}

/* ---- group commit ---- */

static void entries_that_gather_share_one_write_and_one_sync(void **state)
{
    struct test_log *log = test_log_create(1);
    struct lh_wal_metrics *metrics = lh_wal_metrics(log->wal);
    for (int i = 0; i < 10; i++)
        test_append(log, LH_DURABILITY_COMMIT, 40);
    commit_all(log);
    assert_int_equal(lh_counter_get(&metrics->records), 10);
    assert_int_equal(lh_counter_get(&metrics->groups), 1);
    assert_int_equal(lh_counter_get(&metrics->syncs), 1);
    assert_int_equal(lh_wal_last_lsn(log->wal), 10);
    assert_true(lh_wal_is_idle(log->wal));
    test_log_destroy(log);
}

static void entries_of_no_durability_end_before_they_are_written(void **state)
{
    struct test_log *log = test_log_create(2);
    test_append(log, LH_DURABILITY_NONE, 40);
    lh_wal_flush(log->wal);
    assert_int_equal(log->ended, 1);
    test_append(log, LH_DURABILITY_COMMIT, 40);
    test_append(log, LH_DURABILITY_NONE, 40);
    lh_wal_flush(log->wal);
    assert_int_equal(log->ended, 1); /* in order: the last waits for the one before */
    commit_all(log);
    test_log_destroy(log);
}

static void entries_of_no_durability_wait_when_the_disk_does_not_follow(void **state)
{
    struct test_log *log = test_log_create(3);
    for (int i = 0; i < 40; i++)
        test_append(log, LH_DURABILITY_NONE, LH_WAL_HELD_BYTES_MAX / 32);
    lh_wal_flush(log->wal);
    assert_true(log->ended < 40); /* 260 KiB each: 40 are more than are held */
    commit_all(log);
    test_log_destroy(log);
}

static void interval_entries_end_when_written_and_are_synced_in_time(void **state)
{
    struct test_log *log = test_log_create(4);
    struct lh_wal_metrics *metrics = lh_wal_metrics(log->wal);
    test_append(log, LH_DURABILITY_INTERVAL, 40);
    commit_all(log);
    assert_int_equal(lh_counter_get(&metrics->syncs), 0);
    assert_false(lh_wal_is_idle(log->wal));
    test_now_ns += 50 * 1000000ull - 1;
    test_settle(log);
    assert_int_equal(lh_counter_get(&metrics->syncs), 0);
    test_now_ns++;
    test_settle(log);
    assert_int_equal(lh_counter_get(&metrics->syncs), 1);
    assert_true(lh_wal_is_idle(log->wal));
    test_log_destroy(log);
}

static void note_result(int result, void *arg)
{
    *(int *)arg = result;
}

static void a_sync_covers_all_that_was_appended(void **state)
{
    struct test_log *log = test_log_create(5);
    struct test_found found;
    int result = 1;
    lh_wal_sync(log->wal, note_result, &result);
    assert_int_equal(result, 0); /* nothing is left: at once */
    result = 1;
    test_append(log, LH_DURABILITY_NONE, 40);
    test_append(log, LH_DURABILITY_INTERVAL, 40);
    lh_wal_sync(log->wal, note_result, &result);
    assert_int_equal(result, 1);
    test_settle(log);
    assert_int_equal(result, 0);
    assert_true(lh_wal_is_idle(log->wal));
    lh_wal_close(log->wal);
    lh_sim_disk_crash(log->sim);
    test_reopen(log, &found);
    assert_int_equal(found.told, 2);
    test_log_destroy(log);
}

static void append_another(struct lh_wal_entry *entry)
{
    struct test_entry *test = entry->arg;
    struct test_log *log = test->log;
    test_done(entry);
    if (log->count < 20) {
        uint32_t number = test_append(log, LH_DURABILITY_COMMIT, 10);
        log->entries[number]->entry.done = append_another;
    }
    lh_wal_flush(log->wal);
}

static void an_entry_that_ends_may_append_another(void **state)
{
    struct test_log *log = test_log_create(6);
    log->entries[test_append(log, LH_DURABILITY_COMMIT, 10)]->entry.done = append_another;
    commit_all(log);
    assert_int_equal(log->count, 20);
    test_log_destroy(log);
}

/* ---- segments ---- */

struct folder {
    unsigned segments;
    unsigned spares;
    unsigned corrupt;
    uint64_t bytes[64];
    char names[64][64];
};

static void on_file(const char *name, uint64_t bytes, void *arg)
{
    struct folder *folder = arg;
    size_t len = strlen(name);
    if (strstr(name, ".corrupt-") != NULL) {
        folder->corrupt++;
    } else if (strcmp(name + len - 4, ".tmp") == 0) {
        folder->spares++;
    } else {
        assert_true(folder->segments < 64);
        snprintf(folder->names[folder->segments], sizeof folder->names[0], "wal/%s", name);
        folder->bytes[folder->segments++] = bytes;
    }
}

static struct folder look(struct lh_sim_disk *sim)
{
    struct folder folder = {0};
    assert_int_equal(lh_disk_list(lh_sim_disk_disk(sim), "wal", on_file, &folder), 0);
    return folder;
}

static void released_segments_are_reused(void **state)
{
    struct test_log *log = test_log_create(7);
    struct test_found found;
    struct lh_wal *wal;
    struct lh_sim_disk *copy;
    for (int i = 0; i < 200; i++) {
        test_append(log, LH_DURABILITY_COMMIT, 3000);
        commit_all(log);
        log->released_lsn = log->ended_lsn + 1;
        lh_wal_release(log->wal, log->released_lsn);
        test_settle(log);
        assert_int_equal(lh_wal_live_bytes(log->wal), 0);
        assert_true(look(log->sim).segments + look(log->sim).spares <= 2 + LH_WAL_SPARES_MAX);
    }
    copy = lh_sim_disk_copy(log->sim, 7);
    lh_sim_disk_crash(copy); /* what a segment had in an earlier life is not seen */
    test_check_recovery(log, copy, log->committed_lsn, &wal, &found);
    assert_int_equal(found.summary.last_lsn, 200);
    assert_true(found.summary.records < 10);
    assert_int_equal(found.summary.torn_bytes, 0);
    lh_wal_close(wal);
    lh_disk_destroy(lh_sim_disk_disk(copy));
    test_log_destroy(log);
}

static void a_record_larger_than_a_segment_gets_one_of_its_size(void **state)
{
    struct test_log *log = test_log_create(8);
    struct test_found found;
    test_append(log, LH_DURABILITY_COMMIT, 10);
    test_append(log, LH_DURABILITY_COMMIT, 10 * TEST_SEGMENT_BYTES);
    test_append(log, LH_DURABILITY_COMMIT, 10);
    commit_all(log);
    restart(log, &found);
    assert_int_equal(found.told, 3);
    test_log_destroy(log);
}

static void numbers_go_on_over_restarts_and_behind_what_index_files_know(void **state)
{
    struct test_log *log = test_log_create(9);
    struct test_found found;
    test_append(log, LH_DURABILITY_COMMIT, 10);
    commit_all(log);
    for (uint64_t i = 1; i < 6; i++) {
        restart(log, &found);
        assert_int_equal(found.summary.last_lsn, log->ended_lsn);
        assert_int_equal(found.told, 2 * i - 1);
        if (i == 3) { /* more than the log has: the log's own records stay */
            lh_wal_set_lsn_least(log->wal, 100);
            log->ended_lsn = 100;
        }
        test_append(log, LH_DURABILITY_COMMIT, 5000);
        test_append(log, LH_DURABILITY_INTERVAL, 9000);
        commit_all(log);
        if (i == 3)
            break;
    }
    lh_wal_close(log->wal);
    assert_int_equal(test_try_open(log->sim, TEST_SEGMENT_BYTES, 1, &log->wal, &found), LH_OK);
    assert_int_equal(found.summary.quarantined, 0);
    assert_int_equal(found.summary.last_lsn, 102);
    assert_int_equal(found.summary.records, 7);
    assert_int_equal(found.holes, 95); /* 6 to 100 */
    test_log_destroy(log);
}

/* ---- rot ---- */

/* Four groups of one record, over two segments. */
static struct test_log *small_log(void)
{
    struct test_log *log = test_log_create(10);
    static const uint32_t bytes[] = {20, 11900, 600, 20};
    for (int i = 0; i < 4; i++) {
        test_append(log, LH_DURABILITY_COMMIT, bytes[i]);
        commit_all(log);
    }
    return log;
}

static void a_flipped_bit_anywhere_never_makes_a_wrong_record(void **state)
{
    struct test_log *log = small_log();
    struct folder folder = look(log->sim);
    unsigned cut = 0, put_aside = 0;
    uint64_t seed = lh_test_seed();
    assert_int_equal(folder.segments, 3); /* two with records, one ahead */
    for (unsigned file = 0; file < folder.segments; file++) {
        for (uint64_t at = 0; at < folder.bytes[file]; at++) {
            struct lh_sim_disk *copy = lh_sim_disk_copy(log->sim, 1);
            struct test_found found;
            struct lh_record record;
            struct lh_wal *wal;
            uint32_t number = 0;
            uint8_t mask = (uint8_t)(1u << lh_test_below(&seed, 8));
            assert_int_equal(lh_sim_disk_rot(copy, folder.names[file], at, mask), 0);
            assert_int_equal(test_try_open(copy, TEST_SEGMENT_BYTES, 1, &wal, &found), LH_OK);
            while (lh_wal_replay(wal, 0, &record, &found.error) == LH_OK) {
                assert_int_equal(test_number_of(&record), number++);
                lh_record_deinit(&record);
            }
            assert_int_equal(number, found.summary.records);
            if (found.summary.quarantined > 0) {
                put_aside++;
                assert_true(found.summary.reason[0] != '\0');
                assert_int_equal(look(copy).corrupt, found.summary.quarantined);
            } else if (number < 4) { /* the last record may have been torn as well */
                cut++;
                assert_int_equal(number, 3);
            }
            lh_wal_close(wal);
            lh_disk_destroy(lh_sim_disk_disk(copy));
        }
    }
    assert_true(put_aside > 11000 + 4096 && cut > 50 && cut < 200);
    test_log_destroy(log);
}

static void what_is_put_aside_stays_aside_and_the_log_goes_on(void **state)
{
    struct test_log *log = small_log();
    struct test_found found;
    test_settle(log);
    lh_wal_close(log->wal);
    assert_int_equal(lh_sim_disk_rot(log->sim, "wal/0000000000000001.log", 5000, 1), 0);
    test_reopen(log, &found);
    assert_int_equal(found.told, 1);
    assert_true(found.summary.quarantined >= 2);
    assert_string_equal(found.summary.reason,
                        "wal/0000000000000001.log, byte 4192: a bad record that is not the last");
    log->ended_lsn = 1;
    test_append(log, LH_DURABILITY_COMMIT, 20);
    commit_all(log);
    restart(log, &found);
    assert_int_equal(found.told, 2);
    assert_int_equal(found.summary.quarantined, 0);
    test_log_destroy(log);
}

static void nothing_more(struct lh_disk_op *op)
{
    assert_int_equal(op->result, 0);
}

static void a_segment_that_is_missing_puts_those_behind_it_aside(void **state)
{
    struct test_log *log = test_log_create(12);
    struct lh_disk *disk = lh_sim_disk_disk(log->sim);
    struct lh_disk_op op = {.kind = LH_DISK_UNLINK, .path = "wal/0000000000000002.log"};
    struct test_found found;
    for (int i = 0; i < 4; i++)
        test_append(log, LH_DURABILITY_COMMIT, 14000);
    commit_all(log);
    lh_wal_close(log->wal);
    op.done = nothing_more;
    lh_disk_submit(disk, &op);
    while (test_run(log))
        ;
    test_reopen(log, &found);
    assert_int_equal(found.told, 1);
    assert_int_equal(found.summary.quarantined, 3);
    assert_non_null(strstr(found.summary.reason, "the segment before it is missing"));
    test_log_destroy(log);
}

static void a_torn_group_is_cut_though_good_records_are_behind_the_bad_one(void **state)
{
    struct test_log *log = test_log_create(13);
    struct test_found found;
    test_append(log, LH_DURABILITY_COMMIT, 20);
    commit_all(log);
    for (int i = 0; i < 3; i++)
        test_append(log, LH_DURABILITY_INTERVAL, 20);
    commit_all(log);
    test_settle(log);
    lh_wal_close(log->wal); /* kill -9 */
    assert_int_equal(lh_sim_disk_rot(log->sim, "wal/0000000000000001.log", 4300, 1), 0);
    assert_int_equal(test_try_open(log->sim, TEST_SEGMENT_BYTES, 1, &log->wal, &found), LH_OK);
    assert_int_equal(found.summary.quarantined, 0);
    assert_true(found.summary.torn_bytes > 0 && found.told >= 1 && found.told < 4);
    test_log_destroy(log);
}

static void a_version_that_is_not_known_is_refused_by_name(void **state)
{
    struct test_log *log = small_log();
    const struct lh_crc32c *crc = lh_crc32c_best();
    struct test_found found;
    struct lh_wal *wal;
    unsigned char block[4096];
    uint32_t sum;
    size_t got;
    int file;
    struct lh_disk *disk = lh_sim_disk_disk(log->sim);
    test_settle(log);
    assert_int_equal(lh_disk_open(disk, "wal/0000000000000001.log", LH_DISK_OPEN_READ, &file), 0);
    assert_int_equal(lh_disk_read(disk, file, block, sizeof block, 0, &got), 0);
    lh_disk_close(disk, file);
    block[8] ^= 3; /* 1 becomes 2 */
    memcpy(&sum, block + 4092, 4);
    sum ^= crc->extend(0, block, 4092);
    assert_int_equal(lh_sim_disk_rot(log->sim, "wal/0000000000000001.log", 8, 3), 0);
    for (unsigned i = 0; i < 4; i++)
        if ((uint8_t)(sum >> 8 * i) != 0)
            assert_int_equal(lh_sim_disk_rot(log->sim, "wal/0000000000000001.log", 4092 + i,
                                             (uint8_t)(sum >> 8 * i)),
                             0);
    assert_int_equal(test_try_open(log->sim, TEST_SEGMENT_BYTES, 1, &wal, &found),
                     LH_NOT_IMPLEMENTED);
    assert_string_equal(found.error.text,
                        "wal/0000000000000001.log: version 2 is not known to this server");
    assert_int_equal(look(log->sim).corrupt, 0); /* nothing was touched */
    test_log_destroy(log);
}

/* ---- full disks ---- */

static void a_full_disk_fails_entries_with_no_space_and_works_when_there_is_some(void **state)
{
    struct test_log *log = test_log_create(14);
    struct test_found found;
    uint32_t number = 0;
    lh_sim_disk_set_space(log->sim, 8 * TEST_SEGMENT_BYTES);
    while (log->failed == 0) {
        assert_true(log->count < 100);
        number = test_append(log, LH_DURABILITY_COMMIT, 3000);
        test_settle(log);
        assert_int_equal(log->ended, log->count);
    }
    assert_int_equal(log->entries[number]->entry.status, LH_NO_SPACE);
    assert_int_equal(log->entries[number]->entry.sys_errno, ENOSPC);
    assert_true(log->count > 20);
    assert_int_equal(lh_wal_last_lsn(log->wal), log->ended_lsn); /* given back */
    assert_true(lh_wal_is_idle(log->wal));
    lh_sim_disk_set_space(log->sim, UINT64_MAX);
    test_append(log, LH_DURABILITY_COMMIT, 3000);
    test_settle(log);
    assert_int_equal(log->failed, 2); /* not tried again at once */
    test_now_ns += LH_WAL_RETRY_MS * 1000000ull;
    test_append(log, LH_DURABILITY_COMMIT, 3000);
    test_settle(log);
    assert_int_equal(log->failed, 2);
    restart(log, &found);
    assert_int_equal(found.told, log->ended_lsn);
    test_log_destroy(log);
}

static uint32_t commit(struct test_log *log, uint32_t bytes)
{
    uint32_t number = test_append(log, LH_DURABILITY_COMMIT, bytes);
    test_settle(log);
    assert_int_equal(log->ended, log->count);
    return number;
}

static void on_a_disk_smaller_than_a_segment_all_that_fits_is_taken(void **state)
{
    struct test_log *log = test_log_create(16);
    struct test_found found;
    uint64_t space = TEST_SEGMENT_BYTES - 1;
    uint32_t rounds = 0;
    lh_sim_disk_set_space(log->sim, space);
    for (; log->failed == 0; rounds++)
        commit(log, 200);
    /* A header for the segment, one for the next, and then records to the last byte. */
    assert_true(log->ended_lsn * 200 > space - 2 * 4096 - 3000);
    for (rounds = 0; rounds < 50; rounds++) /* refusals take nothing */
        assert_int_equal(log->entries[commit(log, 4000)]->entry.status, LH_NO_SPACE);
    lh_sim_disk_set_space(log->sim, space + 400);
    assert_int_equal(log->entries[commit(log, 4000)]->entry.status, LH_NO_SPACE);
    assert_int_equal(log->entries[commit(log, 200)]->entry.status, LH_OK); /* at once */
    restart(log, &found);
    assert_int_equal(found.told, log->ended_lsn);
    assert_int_equal(found.summary.torn_bytes, 0);
    lh_sim_disk_set_space(log->sim, UINT64_MAX);
    for (rounds = 0; rounds < 100; rounds++)
        assert_int_equal(log->entries[commit(log, 3000)]->entry.status, LH_OK);
    restart(log, &found);
    assert_int_equal(found.told, log->ended_lsn);
    test_log_destroy(log);
}

static void what_ended_before_the_disk_failed_is_written_when_it_works_again(void **state)
{
    struct test_log *log = test_log_create(15);
    struct lh_sim_fault fault = {.error = EIO, .lasts = true};
    struct test_found found;
    test_append(log, LH_DURABILITY_INTERVAL, 100);
    commit_all(log);
    lh_sim_disk_fail(log->sim, &fault);
    test_append(log, LH_DURABILITY_NONE, 100);
    test_append(log, LH_DURABILITY_COMMIT, 100);
    test_settle(log);
    assert_int_equal(log->ended, 3);
    assert_int_equal(log->failed, 1);
    assert_int_equal(log->entries[2]->entry.status, LH_DISK_FAILED);
    lh_sim_disk_clear_fault(log->sim);
    test_settle(log); /* not at once */
    assert_int_equal(lh_counter_get(&lh_wal_metrics(log->wal)->records), 2);
    test_now_ns += LH_WAL_RETRY_MS * 1000000ull;
    test_settle(log);
    assert_true(lh_wal_is_idle(log->wal));
    lh_wal_close(log->wal);
    lh_sim_disk_crash(log->sim);
    test_reopen(log, &found);
    assert_int_equal(found.told, 2);
    test_log_destroy(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_that_gather_share_one_write_and_one_sync),
        cmocka_unit_test(entries_of_no_durability_end_before_they_are_written),
        cmocka_unit_test(entries_of_no_durability_wait_when_the_disk_does_not_follow),
        cmocka_unit_test(interval_entries_end_when_written_and_are_synced_in_time),
        cmocka_unit_test(a_sync_covers_all_that_was_appended),
        cmocka_unit_test(an_entry_that_ends_may_append_another),
        cmocka_unit_test(released_segments_are_reused),
        cmocka_unit_test(a_record_larger_than_a_segment_gets_one_of_its_size),
        cmocka_unit_test(numbers_go_on_over_restarts_and_behind_what_index_files_know),
        cmocka_unit_test(a_flipped_bit_anywhere_never_makes_a_wrong_record),
        cmocka_unit_test(what_is_put_aside_stays_aside_and_the_log_goes_on),
        cmocka_unit_test(a_segment_that_is_missing_puts_those_behind_it_aside),
        cmocka_unit_test(a_torn_group_is_cut_though_good_records_are_behind_the_bad_one),
        cmocka_unit_test(a_version_that_is_not_known_is_refused_by_name),
        cmocka_unit_test(a_full_disk_fails_entries_with_no_space_and_works_when_there_is_some),
        cmocka_unit_test(on_a_disk_smaller_than_a_segment_all_that_fits_is_taken),
        cmocka_unit_test(what_ended_before_the_disk_failed_is_written_when_it_works_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
