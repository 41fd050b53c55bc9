/* Disks that fail: one operation after the other, once or until it is mended; full disks; rotten
 * bytes.
 *
 * A run is the same changes again and again, each time with a fault at another of the disk's
 * operations, of the start too. While the fault lasts, a change that is refused was not made, in
 * memory and (but where a failed operation leaves open whether it happened) on disk; once it is
 * over, everything works again without a new start; and after a crash at the end, all that was
 * acknowledged is there.
 *
 *     fault_test [SEED [FAULTS]]      FAULTS 0: until stopped */
#include "crash/model.h"

#include <errno.h>
#include <string.h>

#define FAULTS    2500u
#define OPS       40u
#define SEEN_MAX  12u
#define ATTEMPTS  64u
#define FILES_MAX 64u
#define RETRY_MS  100000u /* past every back-off */
#define KINDS_ALL 0u

/* A disk while it failed. */
struct seen {
    struct lh_sim_disk *copy;
    uint64_t acknowledged;
};

struct trial {
    struct run run;
    struct lh_sim_disk *disk;
    struct lh_sim_fault fault;
    uint64_t space; /* 0: no limit */
    bool is_hit;
    struct seen seen[SEEN_MAX];
    uint32_t seen_count;
};

static void go_on(struct run *run)
{
    lh_sim_server_pump(&run->server, 0);
    if (!run->server.is_tick_out)
        lh_sim_server_tick(&run->server, false);
    CHECK(run, !run->server.is_tick_out, "the tick never came back");
    CHECK(run, run->server.in_flight == 0, "%u requests were never answered",
          run->server.in_flight);
}

static enum lh_status do_op(struct run *run, enum kind kind, uint32_t name)
{
    CHECK(run, send_op(run, kind, name), "too many changes");
    struct op *op = &run->ops[run->op_count - 1];
    lh_sim_server_pump(&run->server, 0);
    CHECK(run, op->is_answered, "op %u was never answered", run->op_count - 1);
    return op->status;
}

/* ---- changes while the disk fails ---- */

static void make_changes(struct trial *trial)
{
    struct run *run = &trial->run;
    for (uint32_t i = 0; i < OPS; i++) {
        CHECK(run, send_random_op(run), "too many changes");
        if (below(run, 3) != 0)
            lh_sim_server_pump(&run->server, 0);
        if (below(run, 6) == 0)
            go_on(run);
        if (trial->seen_count < SEEN_MAX && below(run, OPS / SEEN_MAX) == 0)
            trial->seen[trial->seen_count++] =
                (struct seen){.copy = lh_sim_disk_copy(trial->disk, next_random(run)),
                              .acknowledged = run->acknowledged.commit};
    }
    go_on(run);
    check_all(run, "under the fault", &run->server);
}

static bool is_refusal(enum lh_status status)
{
    return status == LH_DISK_FAILED || status == LH_NO_SPACE || status == LH_IO;
}

/* Errors are the disk's, and only while it fails. */
static void check_errors(struct trial *trial)
{
    struct run *run = &trial->run;
    for (uint32_t i = 0; i < run->op_count; i++) {
        enum lh_status status = run->ops[i].status;
        CHECK(run,
              is_refusal(status) || status == LH_OK || status == LH_INDEX_NOT_FOUND ||
                  (status == LH_OVERLOADED && run->ops[i].kind == OP_RESHARD) ||
                  status == LH_INDEX_ALREADY_EXISTS,
              "op %u: %s", i, lh_status_text(status));
    }
}

/* Once the disk works, everything does. */
static void check_mended(struct trial *trial)
{
    struct run *run = &trial->run;
    lh_sim_server_pass_ms(RETRY_MS);
    go_on(run);
    lh_sim_server_pass_ms(RETRY_MS);
    go_on(run);
    for (uint32_t n = 0; n < NAMES; n++) {
        struct state state;
        state_at(run, n, UINT64_MAX, &state);
        if (!state.exists && below(run, 2) == 0)
            continue; /* it must not come back */
        if (!state.exists) {
            enum lh_status status = do_op(run, OP_CREATE, n);
            CHECK(run, status == LH_OK, "%s cannot be made: %s", names[n], lh_status_text(status));
        }
        CHECK(run, do_op(run, OP_ADD, n) == LH_OK, "no add to %s", names[n]);
        CHECK(run, do_op(run, OP_CHECKPOINT, n) == LH_OK, "no checkpoint of %s", names[n]);
        if (below(run, 3) == 0)
            CHECK(run, do_op(run, OP_DROP, n) == LH_OK, "no drop of %s", names[n]);
        else
            CHECK(run, do_op(run, OP_DELETE, n) == LH_OK, "no delete from %s", names[n]);
    }
    go_on(run);
    check_all(run, "mended", &run->server);
}

/* ---- what is there afterwards ---- */

static bool is_explained(const struct run *run, struct lh_sim_server *server, uint64_t lsn,
                         char why[WHY_BYTES])
{
    struct state state;
    for (uint32_t n = 0; n < NAMES; n++) {
        state_at(run, n, lsn, &state);
        if (!is_state(run, server, n, &state, why))
            return false;
    }
    return true;
}

/* Tries every change that had the LSN `at`, acknowledged later or refused, and for each of them
 * those of the next, up to `most`. */
static bool is_explained_by_some(struct run *run, const uint64_t *kept,
                                 struct lh_sim_server *server, uint64_t at, uint64_t most,
                                 char why[WHY_BYTES])
{
    bool found = false;
    if (at > most)
        return is_explained(run, server, most, why);
    for (uint32_t i = 0; i < run->op_count && !found; i++) {
        struct op *op = &run->ops[i];
        if (kept[i] != at && op->tried != at)
            continue;
        op->lsn = at;
        found = is_explained_by_some(run, kept, server, at + 1, most, why);
        op->lsn = 0;
    }
    return found;
}

/* What was acknowledged, and behind it perhaps more: what was under way, or was refused because the
 * disk failed when it had written it already. */
static bool is_explained_from(struct run *run, struct lh_sim_server *server, uint64_t least,
                              char why[WHY_BYTES])
{
    static uint64_t kept[OPS_MAX];
    uint64_t most = server->vectord.lsn > least ? server->vectord.lsn : least;
    if (is_explained(run, server, most, why))
        return true;
    for (uint32_t i = 0; i < run->op_count; i++) {
        kept[i] = run->ops[i].lsn;
        if (kept[i] > least)
            run->ops[i].lsn = 0;
    }
    bool found = is_explained_by_some(run, kept, server, least + 1, most, why);
    for (uint32_t i = 0; i < run->op_count; i++)
        run->ops[i].lsn = kept[i];
    return found;
}

static void check_copy(struct trial *trial, struct lh_sim_disk *disk, uint64_t least,
                       const char *where)
{
    static struct lh_sim_server server;
    struct run *run = &trial->run;
    struct lh_sim_server_options options = random_options(run);
    struct lh_error error = {0};
    char why[WHY_BYTES] = "";
    bool is_power_cut = below(run, 4) != 0;
    lh_sim_disk_set_space(disk, UINT64_MAX);
    if (is_power_cut)
        lh_sim_disk_crash(disk);
    bool is_started = lh_sim_server_start(&server, disk, &options, &error);
    CHECK(run, is_started, "%s: %s", where, error.text);
    CHECK(run, !server.vectord.recovering.is_on, "%s: the recovery never ended", where);
    bool is_right = is_explained_from(run, &server, least, why);
    CHECK(run, is_right, "%s (%s): %s", where, is_power_cut ? "power" : "kill", why);
    lh_sim_server_end(&server);
}

/* Starts under the fault, if it comes so early: then the start may fail, with an error. */
static void start(struct trial *trial)
{
    struct run *run = &trial->run;
    struct lh_sim_server_options options = random_options(run);
    struct lh_error error = {0};
    struct lh_sim_disk *again = lh_sim_disk_copy(trial->disk, next_random(run));
    lh_sim_disk_fail(trial->disk, &trial->fault);
    if (lh_sim_server_start(&run->server, trial->disk, &options, &error) &&
        !run->server.vectord.recovering.is_on) {
        lh_disk_destroy(lh_sim_disk_disk(again));
    } else {
        CHECK(run, error.text[0] != '\0' || run->server.vectord.recovering.is_on,
              "the start failed and does not say why");
        if (run->server.vectord.recovering.is_on)
            lh_sim_server_end(&run->server);
        trial->disk = again;
        error = (struct lh_error){0};
        bool is_started = lh_sim_server_start(&run->server, trial->disk, &options, &error);
        CHECK(run, is_started, "the second start: %s", error.text);
    }
    run->server.answered = run_answered;
    run->server.arg = run;
}

/* One run with one fault. Returns how many operations it took without. */
static uint64_t try_fault(uint64_t seed, const struct lh_sim_fault *fault, uint64_t space)
{
    static struct trial trial;
    struct run *run = &trial.run;
    memset(&trial, 0, sizeof trial);
    run_begin(run, seed);
    run->is_mixed = false;
    trial.fault = *fault;
    trial.disk = lh_sim_disk_create(next_random(run));
    for (uint32_t n = 0; n < NAMES && below(run, 3) == 0; n++)
        put_v1(run, trial.disk, n);
    uint64_t before = lh_sim_disk_operations(trial.disk);
    start(&trial);
    lh_sim_disk_set_space(trial.disk, space);
    make_changes(&trial);
    uint64_t operations = lh_sim_disk_operations(trial.disk) - before;
    lh_sim_disk_clear_fault(trial.disk);
    lh_sim_disk_set_space(trial.disk, UINT64_MAX);
    check_errors(&trial);
    check_mended(&trial);
    struct lh_sim_disk *last = lh_sim_disk_copy(trial.disk, next_random(run));
    lh_sim_server_end(&run->server);
    for (uint32_t i = 0; i < trial.seen_count; i++)
        check_copy(&trial, trial.seen[i].copy, trial.seen[i].acknowledged, "while it failed");
    check_copy(&trial, last, run->acknowledged.commit, "at the end");
    return operations;
}

/* ---- rotten bytes ---- */

struct files {
    char paths[FILES_MAX][LH_NAME_BYTES_MAX + 128];
    uint64_t bytes[FILES_MAX];
    uint32_t count;
    const char *folder;
};

static void on_file(const char *name, uint64_t bytes, void *arg)
{
    struct files *files = arg;
    if (files->count == FILES_MAX || bytes == 0)
        return;
    snprintf(files->paths[files->count], sizeof files->paths[0], "%s/%s", files->folder, name);
    files->bytes[files->count++] = bytes;
}

static void list(struct lh_sim_disk *disk, struct files *files, const char *folder)
{
    files->folder = folder;
    int rc = lh_disk_list(lh_sim_disk_disk(disk), folder, on_file, files);
    if (rc != 0)
        abort();
}

static bool has_corrupt_file(struct lh_sim_disk *disk, const char *name)
{
    struct files files = {0};
    char prefix[LH_NAME_BYTES_MAX + 64];
    list(disk, &files, LH_LHV1_FOLDER);
    snprintf(prefix, sizeof prefix, LH_LHV1_FOLDER "/%s.lhv1.corrupt-", name);
    for (uint32_t i = 0; i < files.count; i++)
        if (strncmp(files.paths[i], prefix, strlen(prefix)) == 0 &&
            strchr(files.paths[i] + strlen(prefix), '.') == NULL)
            return true;
    return false;
}

/* A failed index says why, its file is kept, it can be deleted and its name used again. */
static void check_failed(struct run *run, struct lh_sim_disk *disk, uint32_t name)
{
    struct lh_index *index = lh_sim_server_index(&run->server, names[name]);
    CHECK(run, index->reason[0] != '\0', "%s failed without a reason", names[name]);
    CHECK(run, has_corrupt_file(disk, names[name]), "the file of %s was not kept", names[name]);
    CHECK(run, do_op(run, OP_ADD, name) == LH_INDEX_FAILED, "%s takes items", names[name]);
    CHECK(run, do_op(run, OP_DROP, name) == LH_OK, "%s cannot be deleted", names[name]);
    CHECK(run, !has_corrupt_file(disk, names[name]), "the file of %s is left", names[name]);
    run->first[name] = (struct state){0};
    for (uint32_t i = 0; i < run->op_count; i++)
        if (run->ops[i].name == name)
            run->ops[i].lsn = 0;
    if (below(run, 2) == 0)
        return;
    CHECK(run, do_op(run, OP_CREATE, name) == LH_OK, "%s cannot be made again", names[name]);
    CHECK(run, do_op(run, OP_ADD, name) == LH_OK, "%s takes no items", names[name]);
}

/* Any prefix of a name's changes will do when the log is damaged. */
static void accept_any_prefix(struct run *run, uint32_t name)
{
    char why[WHY_BYTES] = "";
    struct state state;
    for (uint32_t i = 0; i <= run->op_count; i++) {
        uint64_t lsn = i == run->op_count ? 0 : run->ops[i].lsn;
        state_at(run, name, lsn, &state);
        if (!is_state(run, &run->server, name, &state, why))
            continue;
        for (uint32_t k = 0; k < run->op_count; k++)
            if (run->ops[k].name == name && run->ops[k].lsn > lsn)
                run->ops[k].lsn = 0;
        return;
    }
    CHECK(run, false, "no part of the changes makes what there is: %s", why);
}

static void restart(struct run *run, struct lh_sim_disk **disk)
{
    struct lh_sim_server_options options = random_options(run);
    struct lh_error error = {0};
    struct lh_sim_disk *copy = lh_sim_disk_copy(*disk, next_random(run));
    lh_sim_server_end(&run->server);
    lh_sim_disk_crash(copy);
    bool is_started = lh_sim_server_start(&run->server, copy, &options, &error);
    CHECK(run, is_started, "the start: %s", error.text);
    run->server.answered = run_answered;
    run->server.arg = run;
    *disk = copy;
}

/* Flips a bit of a byte, most times of one that is not padding. */
static void rot(struct run *run, struct lh_sim_disk *sim, const char *path)
{
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    uint64_t bytes = 0, at = 0;
    int file = -1;
    if (lh_disk_open(disk, path, LH_DISK_OPEN_READ, &file) != 0)
        return; /* the crash took it */
    int rc = lh_disk_size(disk, file, &bytes);
    for (uint32_t i = 0; i < 50 && rc == 0 && bytes > 0; i++) {
        char byte = 0;
        size_t got = 0;
        at = next_random(run) % bytes;
        rc = lh_disk_read(disk, file, &byte, 1, at, &got);
        if (byte != 0)
            break;
    }
    lh_disk_close(disk, file);
    if (bytes > 0)
        (void)lh_sim_disk_rot(sim, path, at, (uint8_t)(1u << below(run, 8)));
}

/* Starts with a rotten byte in some file. */
static void start_rotten(struct run *run, struct lh_sim_disk **disk, bool in_log)
{
    struct files files = {0};
    struct lh_sim_disk *copy = lh_sim_disk_copy(*disk, next_random(run));
    struct lh_sim_server_options options = random_options(run);
    struct lh_error error = {0};
    list(copy, &files, in_log ? "wal" : LH_LHV1_FOLDER);
    lh_sim_server_end(&run->server);
    lh_sim_disk_crash(copy);
    if (files.count > 0)
        rot(run, copy, files.paths[below(run, files.count)]);
    bool is_started = lh_sim_server_start(&run->server, copy, &options, &error);
    CHECK(run, is_started, "the start with a rotten byte: %s", error.text);
    run->server.answered = run_answered;
    run->server.arg = run;
    *disk = copy;
}

static void try_rot(uint64_t seed)
{
    static struct run run;
    struct lh_sim_server_options options;
    struct lh_error error = {0};
    run_begin(&run, seed);
    run.is_mixed = false;
    bool in_log = below(&run, 3) == 0;
    struct lh_sim_disk *disk = lh_sim_disk_create(next_random(&run));
    for (uint32_t n = 0; n < NAMES && below(&run, 3) == 0; n++)
        put_v1(&run, disk, n);
    options = random_options(&run);
    bool is_started = lh_sim_server_start(&run.server, disk, &options, &error);
    CHECK(&run, is_started, "%s", error.text);
    run.server.answered = run_answered;
    run.server.arg = &run;
    for (uint32_t i = 0; i < 60; i++)
        send_random_op(&run);
    go_on(&run);
    if (below(&run, 2) == 0)
        lh_sim_server_tick(&run.server, true);
    start_rotten(&run, &disk, in_log);
    for (uint32_t n = 0; n < NAMES; n++) {
        struct lh_index *index = lh_sim_server_index(&run.server, names[n]);
        if (index != NULL && index->state == LH_STATE_FAILED)
            check_failed(&run, disk, n);
        else if (in_log)
            accept_any_prefix(&run, n);
    }
    check_all(&run, "with a rotten byte", &run.server);
    restart(&run, &disk);
    if (!in_log) /* the LSNs may be others now */
        check_all(&run, "after a rotten byte", &run.server);
    lh_sim_server_end(&run.server);
}

/* ---- a file that cannot be removed ---- */

/* While the file of a deleted index is there, the log says that it is deleted, whatever else is let
 * go of it; and once it can be removed, its name is free. */
static void try_stubborn_file(uint64_t seed)
{
    static struct run run;
    struct lh_sim_fault fault = {.kinds = 1u << LH_DISK_UNLINK, .error = EIO, .lasts = true};
    struct lh_sim_server_options options;
    struct lh_error error = {0};
    run_begin(&run, seed);
    run.is_mixed = false;
    options = random_options(&run);
    struct lh_sim_disk *disk = lh_sim_disk_create(next_random(&run));
    bool is_started = lh_sim_server_start(&run.server, disk, &options, &error);
    CHECK(&run, is_started, "%s", error.text);
    run.server.answered = run_answered;
    run.server.arg = &run;
    CHECK(&run, do_op(&run, OP_CREATE, 0) == LH_OK && do_op(&run, OP_CREATE, 1) == LH_OK, "create");
    CHECK(&run, do_op(&run, OP_CHECKPOINT, 0) == LH_OK, "no checkpoint");
    lh_sim_disk_fail(disk, &fault);
    CHECK(&run, do_op(&run, OP_DROP, 0) == LH_DISK_FAILED, "the file is gone nevertheless");
    CHECK(&run, do_op(&run, OP_CREATE, 0) == LH_INDEX_ALREADY_EXISTS, "the name is free");
    for (uint32_t i = 0; i < 60; i++) {
        CHECK(&run, do_op(&run, OP_ADD, 1) == LH_OK, "no add");
        if (i % 10 == 9)
            CHECK(&run, do_op(&run, OP_CHECKPOINT, 1) == LH_OK, "no checkpoint");
        go_on(&run);
    }
    restart(&run, &disk);
    check_all(&run, "a file that could not be removed", &run.server);
    go_on(&run);
    CHECK(&run, do_op(&run, OP_CREATE, 0) == LH_OK, "the name is not free");
    lh_sim_server_end(&run.server);
}

/* ---- all of them ---- */

int main(int argc, char **argv)
{
    static const int errors[] = {EIO, ENOSPC, EROFS};
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : FAULTS;
    struct lh_sim_fault none = {.error = 0};
    uint64_t faults = 0;
    for (; wanted == 0 || faults < wanted; seed++) {
        uint64_t operations = try_fault(seed, &none, UINT64_MAX);
        for (uint64_t at = 0; at < operations; at++, faults++) {
            struct lh_sim_fault fault = {.after = at,
                                         .kinds = KINDS_ALL,
                                         .error = errors[(at + seed) % 3],
                                         .lasts = (at + seed) % 2 == 0};
            if (at % 5 >= 3) /* the first of one kind from here on */
                fault.kinds = 1u << (at / 5 % (LH_DISK_KINDS + 1));
            try_fault(seed, &fault, UINT64_MAX);
        }
        for (uint64_t space = 4096; space < 400000; space += space / 3, faults++)
            try_fault(seed, &none, space);
        for (uint32_t i = 0; i < 100; i++, faults++)
            try_rot(seed * 1000 + i);
        for (uint32_t i = 0; i < 5; i++, faults++)
            try_stubborn_file(seed * 1000 + i);
        printf("seed %" PRIu64 ": %" PRIu64 " faults so far\n", seed, faults);
        fflush(stdout);
    }
    return 0;
}
