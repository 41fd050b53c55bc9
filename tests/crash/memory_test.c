/* Starts without memory: each allocation of a recovery fails in turn, alone or with all that
 * follow. The start must end, with an error or with what could be loaded; what it could not load is
 * failed or not known yet, and never taken for deleted; and a start with memory finds everything.
 *
 *     memory_test [first seed [seeds]]
 *
 * The build wraps the allocator here; C++'s operators that may fail are replaced below. */
#include "crash/model.h"

#include <sys/mman.h>

#define SEEDS 12u
#define NEVER UINT64_MAX

/* ---- the allocator ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset);

static uint64_t fail_at = NEVER; /* so many calls go well before */
static uint64_t calls;
static bool all_fail; /* those behind it, too */

static bool fails(void)
{
    uint64_t call = calls++;
    return call == fail_at || (call > fail_at && all_fail);
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *at, size_t bytes, int prot, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(at, bytes, prot, flags, file, offset);
}

/* operator new(nothrow), by its names in the Itanium C++ ABI; delete goes to free. */
void *new_or_null(size_t size, const void *nothrow) __asm__("_ZnwmRKSt9nothrow_t");
void *new_array_or_null(size_t size, const void *nothrow) __asm__("_ZnamRKSt9nothrow_t");

void *new_or_null(size_t size, const void *nothrow)
{
    (void)nothrow;
    return __wrap_malloc(size);
}

void *new_array_or_null(size_t size, const void *nothrow)
{
    (void)nothrow;
    return __wrap_malloc(size);
}

/* ---- a disk with a past ---- */

static void set_answers(struct run *run)
{
    run->server.answered = run_answered;
    run->server.arg = run;
}

/* Files of both versions, indexes that only the log has, changes behind checkpoints, deletions. */
static struct lh_sim_disk *make_disk(struct run *run, uint64_t seed)
{
    struct lh_sim_disk *disk;
    struct lh_error error = {0};
    run_begin(run, seed);
    run->is_mixed = false;
    disk = lh_sim_disk_create(next_random(run));
    for (uint32_t name = 0; name < NAMES; name++)
        if (below(run, 3) == 0)
            put_v1(run, disk, name);
    struct lh_sim_server_options options = random_options(run);
    options.ticks_at_start = false;
    bool is_started = lh_sim_server_start(&run->server, disk, &options, &error);
    CHECK(run, is_started, "%s", error.text);
    set_answers(run);
    uint32_t ops = below(run, 40);
    for (uint32_t i = 0; i < ops; i++) {
        send_random_op(run);
        lh_sim_server_pump(&run->server, below(run, 4) == 0 ? 0 : 1 + below(run, 30));
        if (below(run, 8) == 0 && !run->server.is_tick_out)
            lh_sim_server_send_tick(&run->server, false);
    }
    lh_sim_server_pump(&run->server, 0);
    CHECK(run, run->server.in_flight == 0, "requests were never answered");
    check_all(run, "before any fault", &run->server);
    disk = lh_sim_disk_copy(disk, next_random(run));
    lh_sim_server_end(&run->server);
    return disk;
}

/* ---- one failing start ---- */

/* How starts ended, each seen at least once or the test has tried nothing. */
static uint64_t refused, endless, failed, dropped, whole;

static void count_outcome(const struct run *run)
{
    const struct lh_vectord *vectord = &run->server.vectord;
    bool has_failed = false;
    for (uint32_t i = 0; i < vectord->index_count; i++)
        has_failed |= vectord->indexes[i]->state == LH_STATE_FAILED;
    endless += vectord->recovering.is_on;
    failed += has_failed;
    whole += !vectord->recovering.is_on && !has_failed;
}

/* What is ready is complete; what is not says why, or is still to come. */
static void check_honest(struct run *run, const char *where)
{
    const struct lh_vectord *vectord = &run->server.vectord;
    char why[WHY_BYTES] = "";
    for (uint32_t n = 0; n < NAMES; n++) {
        struct state state;
        const struct lh_index *index = lh_sim_server_index(&run->server, names[n]);
        state_at(run, n, UINT64_MAX, &state);
        if (index == NULL)
            CHECK(run, !state.exists || vectord->recovering.is_on, "%s: %s is gone", where,
                  names[n]);
        else if (index->state == LH_STATE_FAILED)
            CHECK(run, index->reason[0] != '\0', "%s: %s failed for nothing", where, names[n]);
        else if (index->state == LH_STATE_LOADING)
            CHECK(run, vectord->recovering.is_on, "%s: %s loads for ever", where, names[n]);
        else if (index->state == LH_STATE_READY) {
            bool is_same = is_state(run, &run->server, n, &state, why);
            CHECK(run, is_same, "%s: %s", where, why);
        }
    }
}

/* A name that is on disk, whether it could be loaded or not, is nobody else's. */
static void check_names_are_taken(struct run *run, const char *where)
{
    for (uint32_t n = 0; n < NAMES; n++) {
        struct state state;
        state_at(run, n, UINT64_MAX, &state);
        if (!state.exists)
            continue;
        bool is_sent = send_op(run, OP_CREATE, n);
        CHECK(run, is_sent, "no room for an op");
        lh_sim_server_pump(&run->server, 0);
        const struct op *op = &run->ops[run->op_count - 1];
        CHECK(run, op->is_answered && op->status != LH_OK, "%s: %s was made again", where,
              names[n]);
    }
}

/* What failed can be deleted, and does not come back. */
static void drop_what_failed(struct run *run, const char *where)
{
    for (uint32_t n = 0; n < NAMES; n++) {
        const struct lh_index *index = lh_sim_server_index(&run->server, names[n]);
        if (index == NULL || index->state != LH_STATE_FAILED || below(run, 2) == 0)
            continue;
        send_op(run, OP_DROP, n);
        lh_sim_server_pump(&run->server, 0);
        const struct op *op = &run->ops[run->op_count - 1];
        CHECK(run, op->is_answered, "%s: dropping %s was never answered", where, names[n]);
        if (op->status != LH_OK) {
            CHECK(run, op->status == LH_INDEX_LOADING, "%s: %s cannot be dropped: %s", where,
                  names[n], lh_status_text(op->status));
            continue;
        }
        run->first[n] = (struct state){0};
        dropped++;
        for (uint32_t i = 0; i < run->op_count; i++)
            if (run->ops[i].name == n)
                run->ops[i].lsn = 0;
    }
}

/* Starts with the fault, uses what there is, and starts again without. False: the fault was behind
 * the last allocation. */
static bool try_fault(const struct run *base, const struct lh_sim_disk *disk, uint64_t n, bool all)
{
    static struct run run;
    struct lh_error error = {0};
    char where[64];
    run = *base;
    snprintf(where, sizeof where, "allocation %" PRIu64 "%s", n, all ? " and all behind it" : "");
    struct lh_sim_server_options options = random_options(&run);
    struct lh_sim_disk *copy = lh_sim_disk_copy(disk, next_random(&run));
    struct lh_sim_disk *kept = NULL;
    calls = 0;
    fail_at = n;
    all_fail = all;
    bool is_started = lh_sim_server_start(&run.server, copy, &options, &error);
    bool was_met = calls > n;
    fail_at = NEVER;
    if (is_started) {
        set_answers(&run);
        check_honest(&run, where);
        count_outcome(&run);
        check_names_are_taken(&run, where);
        drop_what_failed(&run, where);
        for (uint32_t i = 0; i < 3 && !run.server.is_tick_out; i++)
            lh_sim_server_tick(&run.server, false);
        if (below(&run, 2) == 0 && !run.server.is_tick_out)
            lh_sim_server_tick(&run.server, true);
        check_honest(&run, where);
        kept = lh_sim_disk_copy(copy, next_random(&run));
        lh_sim_server_end(&run.server);
    } else {
        refused++;
        CHECK(&run, error.status == LH_OUT_OF_MEMORY && error.text[0] != '\0', "%s: %s", where,
              error.text);
        kept = lh_sim_disk_copy(disk, next_random(&run));
    }
    is_started = lh_sim_server_start(&run.server, kept, &options, &error);
    CHECK(&run, is_started, "%s: the next start: %s", where, error.text);
    set_answers(&run);
    check_all(&run, where, &run.server);
    lh_sim_server_end(&run.server);
    return was_met;
}

int main(int argc, char **argv)
{
    static struct run base;
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : SEEDS;
    uint64_t faults = 0;
    for (uint64_t i = 0; i < seeds; i++) {
        struct lh_sim_disk *disk = make_disk(&base, seed + i);
        for (uint64_t n = 0; try_fault(&base, disk, n, false); n++)
            faults++;
        for (uint64_t n = 0; try_fault(&base, disk, n, true); n++)
            faults++;
        lh_disk_destroy(lh_sim_disk_disk(disk));
    }
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " faults: %" PRIu64
           " starts refused, %" PRIu64 " without an end, %" PRIu64 " with failed indexes (%" PRIu64
           " of those dropped), %" PRIu64 " whole\n",
           seeds, seed, faults, refused, endless, failed, dropped, whole);
    return refused > 0 && endless > 0 && failed > 0 && dropped > 0 ? 0 : 1;
}
