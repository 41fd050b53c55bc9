/* store/wal: power is cut before every operation of random runs, and each single operation fails
 * with each error in turn. LH_TEST_CRASH_POINTS asks for more than the usual number. */
#include "unit/wal_help.h"

#define CRASH_POINTS_LEAST 10000u

struct crashes {
    struct test_log *log;
    uint64_t points;
    uint64_t found; /* records, over all recoveries */
    uint64_t torn;
    bool is_inside; /* a recovery of its own is crashed as well */
};

/* What was recovered goes on: an entry that is committed now survives the next crash as well. */
static void append_and_crash_again(struct crashes *crashes, struct lh_sim_disk *sim,
                                   struct lh_wal *wal, uint64_t last_lsn)
{
    struct lh_wal_summary summary;
    struct test_log *log = crashes->log;
    struct test_log *other = calloc(1, sizeof *other);
    struct test_found found;
    assert_non_null(other);
    other->sim = sim;
    other->wal = wal;
    other->rng = lh_test_next(&log->rng);
    lh_wal_set_lsn_least(wal, log->committed_lsn); /* as index files would know */
    other->ended_lsn = last_lsn > log->committed_lsn ? last_lsn : log->committed_lsn;
    test_append(other, LH_DURABILITY_COMMIT, lh_test_below(&other->rng, 3000));
    test_append(other, LH_DURABILITY_COMMIT, 1);
    test_settle(other);
    assert_int_equal(other->ended, 2);
    assert_int_equal(other->failed, 0);
    lh_wal_close(wal);
    lh_sim_disk_crash(sim);
    assert_int_equal(
        test_try_open(sim, TEST_SEGMENT_BYTES, lh_test_next(&other->rng), &other->wal, &found),
        LH_OK);
    summary = found.summary;
    if (summary.quarantined > 0)
        print_error("%s\n", summary.reason);
    assert_int_equal(summary.quarantined, 0);
    assert_int_equal(summary.last_lsn, other->ended_lsn);
    test_log_destroy(other);
}

static void crash_here(struct lh_sim_disk *sim, void *arg)
{
    struct crashes *crashes = arg;
    struct test_log *log = crashes->log;
    struct lh_sim_disk *copy = lh_sim_disk_copy(sim, lh_test_next(&log->rng));
    struct test_found found;
    struct lh_wal *wal;
    if (lh_test_below(&log->rng, 8) > 0) /* else: kill -9 */
        lh_sim_disk_crash(copy);
    if (lh_test_below(&log->rng, 4) == 0) { /* recovery is cut as well */
        lh_sim_disk_crash_after(copy, lh_test_below(&log->rng, 8));
        if (test_try_open(copy, TEST_SEGMENT_BYTES, 3, &wal, &found) == LH_OK)
            lh_wal_close(wal);
        lh_sim_disk_crash(copy);
    }
    test_check_recovery(log, copy, log->committed_lsn, &wal, &found);
    crashes->points++;
    crashes->found += found.summary.records;
    crashes->torn += found.summary.torn_bytes > 0;
    if (lh_test_below(&log->rng, 4) == 0) {
        append_and_crash_again(crashes, copy, wal, found.summary.last_lsn);
        return;
    }
    lh_wal_close(wal);
    lh_disk_destroy(lh_sim_disk_disk(copy));
}

static uint32_t random_bytes(uint64_t *rng)
{
    switch (lh_test_below(rng, 12)) {
    case 0:
        return lh_test_below(rng, 3 * TEST_SEGMENT_BYTES);
    case 1:
    case 2:
        return lh_test_below(rng, 4000);
    default:
        return lh_test_below(rng, 200);
    }
}

/* One turn of an owner: some entries, perhaps a release, and the disk does something. */
static void random_turn(struct test_log *log)
{
    static const enum lh_durability kinds[] = {LH_DURABILITY_COMMIT, LH_DURABILITY_INTERVAL,
                                               LH_DURABILITY_NONE};
    for (uint32_t n = lh_test_below(&log->rng, 5); n > 0; n--)
        test_append(log, kinds[lh_test_below(&log->rng, 3)], random_bytes(&log->rng));
    lh_wal_flush(log->wal);
    if (lh_test_below(&log->rng, 16) == 0 && log->committed_lsn > 0) {
        uint64_t lsn = log->committed_lsn - lh_test_below(&log->rng, 2);
        log->released_lsn = lsn > log->released_lsn ? lsn : log->released_lsn;
        lh_wal_release(log->wal, lsn);
    }
    for (uint32_t n = lh_test_below(&log->rng, 3); n > 0; n--)
        test_run(log);
    test_now_ns += lh_test_below(&log->rng, 20) * 1000000ull;
}

static void what_commit_ended_survives_a_crash_at_any_operation(void **state)
{
    const char *more = getenv("LH_TEST_CRASH_POINTS");
    uint64_t least = more != NULL ? strtoull(more, NULL, 0) : CRASH_POINTS_LEAST;
    uint64_t rng = lh_test_seed();
    struct crashes crashes = {0};
    while (crashes.points < least) {
        crashes.log = test_log_create(lh_test_next(&rng));
        lh_sim_disk_watch(crashes.log->sim, crash_here, &crashes);
        for (int turn = 0; turn < 60; turn++)
            random_turn(crashes.log);
        test_settle(crashes.log);
        assert_int_equal(crashes.log->failed, 0);
        assert_int_equal(crashes.log->ended, crashes.log->count);
        lh_sim_disk_watch(crashes.log->sim, NULL, NULL);
        test_log_destroy(crashes.log);
    }
    print_message("%llu crash points, %llu records recovered, %llu torn ends\n",
                  (unsigned long long)crashes.points, (unsigned long long)crashes.found,
                  (unsigned long long)crashes.torn);
    assert_true(crashes.found > crashes.points && crashes.torn > crashes.points / 100);
}

/* Runs with one fault and checks what holds then; false: the run ended before the fault. */
static bool run_with_fault(uint64_t seed, const struct lh_sim_fault *fault)
{
    struct test_log *log = test_log_create(seed);
    struct lh_sim_disk *copy;
    struct test_found found;
    struct lh_wal *wal;
    uint64_t before = lh_sim_disk_operations(log->sim), least;
    bool was_met;
    lh_sim_disk_fail(log->sim, fault);
    for (int turn = 0; turn < 25; turn++)
        random_turn(log);
    test_settle(log);
    was_met = lh_sim_disk_operations(log->sim) - before > fault->after;
    lh_sim_disk_clear_fault(log->sim);
    test_now_ns += 2 * LH_WAL_RETRY_MS * 1000000ull;
    test_settle(log);
    assert_int_equal(log->ended, log->count);
    /* It works again. */
    least = log->failed;
    test_append(log, LH_DURABILITY_COMMIT, 100);
    test_settle(log);
    assert_int_equal(log->failed, least);
    assert_int_equal(log->ended, log->count);
    assert_int_equal(log->committed_lsn, log->ended_lsn);
    if (!fault->lasts) /* the second attempt went well */
        assert_int_equal(log->failed, 0);
    copy = lh_sim_disk_copy(log->sim, seed);
    lh_sim_disk_crash(copy);
    test_check_recovery(log, copy, log->ended_lsn, &wal, &found);
    lh_wal_close(wal);
    lh_disk_destroy(lh_sim_disk_disk(copy));
    test_log_destroy(log);
    return was_met;
}

static const int errors[] = {EIO, ENOSPC, EDQUOT, EROFS, EFBIG};

static void no_entry_fails_when_any_single_operation_does(void **state)
{
    uint64_t seed = lh_test_seed();
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        struct lh_sim_fault fault = {.error = errors[e]};
        while (run_with_fault(seed, &fault))
            fault.after++;
        assert_true(fault.after > 30);
    }
}

static void a_disk_that_goes_on_failing_fails_entries_until_it_works_again(void **state)
{
    uint64_t seed = lh_test_seed();
    for (unsigned kind = 0; kind < LH_DISK_KINDS; kind++) {
        struct lh_sim_fault fault = {.kinds = 1u << kind, .error = ENOSPC, .lasts = true};
        for (fault.after = 0; fault.after < 60; fault.after++)
            run_with_fault(seed + fault.after, &fault);
    }
}

static void faults_and_crashes_together_lose_nothing_committed(void **state)
{
    uint64_t rng = lh_test_seed();
    struct crashes crashes = {0};
    while (crashes.points < CRASH_POINTS_LEAST / 4) {
        struct lh_sim_fault fault = {.error = errors[lh_test_below(&rng, 5)]};
        struct test_log *log = crashes.log = test_log_create(lh_test_next(&rng));
        lh_sim_disk_watch(log->sim, crash_here, &crashes);
        for (int turn = 0; turn < 60; turn++) {
            if (lh_test_below(&rng, 8) == 0) {
                fault.after = lh_test_below(&rng, 6);
                fault.lasts = lh_test_below(&rng, 2) == 0;
                fault.kinds = lh_test_below(&rng, 2) == 0 ? 1u << lh_test_below(&rng, 6) : 0;
                lh_sim_disk_fail(log->sim, &fault);
            } else if (lh_test_below(&rng, 4) == 0) {
                lh_sim_disk_clear_fault(log->sim);
                test_now_ns += lh_test_below(&rng, 2) * LH_WAL_RETRY_MS * 1000000ull;
            }
            random_turn(log);
        }
        lh_sim_disk_clear_fault(log->sim);
        test_now_ns += LH_WAL_RETRY_MS * 1000000ull;
        test_settle(log);
        assert_int_equal(log->ended, log->count);
        lh_sim_disk_watch(log->sim, NULL, NULL);
        test_log_destroy(log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_commit_ended_survives_a_crash_at_any_operation),
        cmocka_unit_test(no_entry_fails_when_any_single_operation_does),
        cmocka_unit_test(a_disk_that_goes_on_failing_fails_entries_until_it_works_again),
        cmocka_unit_test(faults_and_crashes_together_lose_nothing_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
