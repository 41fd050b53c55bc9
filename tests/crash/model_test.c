/* Random operations in several lives of one server, a crash before every disk operation, and a
 * model of what must be there.
 *
 * A life is a start and a few dozen changes, several in flight at once, on a simulated disk; the
 * first may find version 1 files. Before each of the disk's operations, of the start too, the disk
 * is copied; the copy loses power, or only its process, and a server recovers from it, whose own
 * operations are cut short in turn now and then. What it holds must be what the changes up to one
 * LSN make, whole and in order, with every change among them that had been acknowledged, and its
 * graphs must validate. One of the copies, or the disk after a stop in order, is the next life.
 *
 * Where changes are acknowledged with less than commit, those may be missing after a power cut, of
 * each index from one LSN on; a kill loses none that was written.
 *
 *     model_test [SEED [CRASHES]]      CRASHES 0: until stopped */
#include "crash/model.h"

#include <string.h>

#define LIVES_MAX 3u
#define OPS_LIFE  90u /* of one life at most */
#define CRASHES   10000u
#define SEEN_MAX  4096u
#define CUTS_MAX  48u /* crashes within one recovery */

/* A disk as it was, and what was known then. */
struct seen {
    struct lh_sim_disk *copy; /* NULL: it is the next life's */
    struct acknowledged acknowledged;
    uint64_t most;   /* the highest LSN that there was */
    bool is_settled; /* every change had been acknowledged and is there */
};

struct watch {
    struct run *run;
    struct seen *seen;
    uint32_t count;
    uint32_t room;
    uint64_t operations;
    uint64_t most; /* 0: as the run's log says */
};

struct cut {
    bool is_power;
    char where[80];
};

static void before_operation(struct lh_sim_disk *disk, void *arg)
{
    struct watch *watch = arg;
    const struct run *run = watch->run;
    const struct lh_wal *wal = run->server.persister.wal;
    uint64_t most = watch->most;
    watch->operations++;
    if (watch->count == watch->room)
        return;
    if (most == 0)
        most = wal != NULL ? lh_wal_last_lsn(wal) : UINT64_MAX;
    watch->seen[watch->count++] =
        (struct seen){.copy = lh_sim_disk_copy(disk, watch->operations * 31 + run->random),
                      .acknowledged = run->acknowledged,
                      .most = most};
}

/* After a recovery; `states` gets what there is. */
static void check_recovered(const struct run *run, struct lh_sim_server *server,
                            const struct seen *seen, const struct cut *cut,
                            struct state states[NAMES])
{
    bool is_strict = cut->is_power || !run->is_mixed;
    uint64_t least = is_strict ? seen->acknowledged.commit : seen->acknowledged.interval;
    uint64_t lsn = server->vectord.lsn;
    CHECK(run, !server->vectord.recovering.is_on, "%s: the recovery never ended", cut->where);
    /* Without weak changes, all indexes stand at one LSN. */
    if (!run->is_mixed && lsn > least)
        least = lsn;
    check_prefix(run, cut->where, server, least, seen->most, states);
}

static void crash(struct run *run, struct lh_sim_disk *disk, struct cut *cut, const char *what,
                  uint32_t number)
{
    cut->is_power = below(run, 8) != 0;
    snprintf(cut->where, sizeof cut->where, "%s %u (%s)", what, number,
             cut->is_power ? "power" : "kill");
    if (cut->is_power)
        lh_sim_disk_crash(disk);
}

/* Starts on a copy, which it takes, and lets what follows from the start come to its end. */
static void recover(struct run *run, struct lh_sim_server *server, struct lh_sim_disk *disk,
                    const char *where)
{
    struct lh_error error = {0};
    struct lh_sim_server_options options = random_options(run);
    bool is_started = lh_sim_server_start(server, disk, &options, &error);
    CHECK(run, is_started, "%s: %s", where, error.text);
    if (below(run, 4) == 0)
        lh_sim_server_tick(server, false);
}

/* `history` is what led to the copy; `run` goes on with its random numbers. */
static uint32_t check_seen(struct run *run, const struct run *history, struct seen *seen,
                           uint32_t number)
{
    static struct lh_sim_server server;
    static struct seen cuts[CUTS_MAX];
    struct watch watch = {.run = run, .seen = cuts, .room = CUTS_MAX, .most = 1};
    struct state states[NAMES];
    struct cut cut, again;
    bool is_cut = below(run, 16) == 0;
    crash(run, seen->copy, &cut, "crash", number);
    if (is_cut)
        lh_sim_disk_watch(seen->copy, before_operation, &watch);
    recover(run, &server, seen->copy, cut.where);
    lh_sim_disk_watch(seen->copy, NULL, NULL);
    check_recovered(history, &server, seen, &cut, states);
    lh_sim_server_end(&server);
    for (uint32_t i = 0; i < watch.count; i++) {
        crash(run, cuts[i].copy, &again, "crash in a recovery", i);
        /* What a power cut has taken cannot come back by a kill. */
        again.is_power |= cut.is_power;
        recover(run, &server, cuts[i].copy, again.where);
        check_recovered(history, &server, seen, &again, states);
        lh_sim_server_end(&server);
    }
    return 1 + watch.count;
}

static void make_changes(struct run *run)
{
    uint32_t ops = 10 + below(run, OPS_LIFE - 10);
    for (uint32_t i = 0; i < ops && send_random_op(run); i++) {
        if (below(run, 3) == 0)
            lh_sim_server_pump(&run->server, 1 + below(run, 30));
        if (below(run, 10) == 0)
            lh_sim_server_pump(&run->server, 0);
        if (below(run, 4) == 0 && !run->server.is_tick_out)
            lh_sim_server_send_tick(&run->server, false);
    }
    lh_sim_server_pump(&run->server, 0);
    CHECK(run, run->server.in_flight == 0, "%u requests were never answered",
          run->server.in_flight);
    check_all(run, "the life itself", &run->server);
}

/* SIGTERM: all that was acknowledged, in whatever way, is in files. */
static void stop(struct run *run)
{
    if (run->server.is_tick_out)
        lh_sim_server_pump(&run->server, 0);
    lh_sim_server_tick(&run->server, true);
    CHECK(run, !run->server.is_tick_out, "the stop never ended");
    for (uint32_t i = 0; i < run->server.vectord.index_count; i++) {
        const struct lh_index *index = run->server.vectord.indexes[i];
        CHECK(run, index->unsaved_lsn == 0 && index->v1 == LH_V1_NONE,
              "the stop left %s without a checkpoint", index->name);
    }
    run->acknowledged.commit = run->acknowledged.interval = run->acknowledged.any;
}

/* Starts where all that there is is known, and does not wait for it to come back. */
static void start_in_use(struct run *run, struct lh_sim_disk *disk)
{
    struct lh_sim_server_options options = random_options(run);
    struct lh_error error = {0};
    struct state states[NAMES];
    for (uint32_t n = 0; n < NAMES; n++)
        state_at(run, n, UINT64_MAX, &states[n]);
    begin_anew(run, 0, states);
    options.ticks_at_start = false;
    options.turns_at_start = 1 + below(run, 20);
    memset(&run->server, 0, sizeof run->server); /* its log was another */
    bool is_started = lh_sim_server_start(&run->server, disk, &options, &error);
    CHECK(run, is_started, "%s", error.text);
}

/* One life on a disk, which it takes; `next` gets the next one's. */
static uint32_t live(struct run *run, struct seen *start, struct cut *cut, struct seen *next)
{
    static struct seen seen[SEEN_MAX];
    static struct run past;
    struct watch watch = {.run = run, .seen = seen, .room = SEEN_MAX - 1, .most = start->most};
    struct state states[NAMES];
    uint32_t crashes = 0;
    run->acknowledged = start->acknowledged;
    uint32_t seen_before = 0;
    lh_sim_disk_watch(start->copy, before_operation, &watch);
    if (start->is_settled && below(run, 2) == 0) {
        watch.most = 0;
        start_in_use(run, start->copy);
    } else {
        recover(run, &run->server, start->copy, cut->where);
        check_recovered(run, &run->server, start, cut, states);
        seen_before = watch.count;
        past = *run;
        watch.most = 0;
        begin_anew(run, run->server.vectord.lsn, states);
    }
    run->server.answered = run_answered;
    run->server.arg = run;
    make_changes(run);
    bool is_stopped = below(run, 2) == 0;
    if (is_stopped)
        stop(run);
    before_operation(start->copy, &watch);
    seen[watch.count - 1].is_settled = is_stopped || !run->is_mixed;
    lh_sim_disk_watch(start->copy, NULL, NULL);
    lh_sim_server_end(&run->server);
    uint32_t chosen = below(run, 2) == 0 ? watch.count - 1 : below(run, watch.count);
    if (seen_before > 0 && below(run, 4) == 0) /* with nothing done but to start */
        chosen = seen_before - 1;
    *next = seen[chosen];
    for (uint32_t i = 0; i < watch.count; i++)
        if (i != chosen)
            crashes += check_seen(run, i < seen_before ? &past : run, &seen[i], i);
    if (chosen < seen_before) { /* the next life follows on the start of this one */
        memcpy(run->first, past.first, sizeof run->first);
        memcpy(run->ops, past.ops, sizeof run->ops);
        run->op_count = past.op_count;
    }
    return crashes;
}

static uint32_t one_run(uint64_t seed)
{
    static struct run run;
    struct cut cut = {.is_power = true, .where = "first start"};
    struct seen start = {.most = 1}, next;
    uint32_t crashes = 0;
    run_begin(&run, seed);
    uint32_t lives = 1 + below(&run, LIVES_MAX);
    start.copy = lh_sim_disk_create(next_random(&run));
    for (uint32_t n = 0; n < NAMES && below(&run, 3) == 0; n++)
        put_v1(&run, start.copy, n);
    for (uint32_t life = 0; life < lives; life++) {
        crashes += live(&run, &start, &cut, &next);
        start = next;
        crash(&run, start.copy, &cut, "life", life + 1);
        if (cut.is_power)
            start.acknowledged.interval = start.acknowledged.commit;
        start.acknowledged.any = start.acknowledged.interval;
    }
    lh_disk_destroy(lh_sim_disk_disk(start.copy));
    return crashes;
}

/* An index that is all there is deleted while the log, which made it, is still being read. False:
 * the log was read before the deletion was done. */
static bool drop_while_coming_back(uint64_t seed)
{
    static struct run run;
    struct lh_sim_server_options options;
    struct lh_error error = {0};
    uint32_t changes = 250;
    run_begin(&run, seed);
    run.is_mixed = false;
    options = random_options(&run);
    options.checkpoint_bytes = 1u << 30;
    struct lh_sim_disk *disk = lh_sim_disk_create(next_random(&run));
    bool is_started = lh_sim_server_start(&run.server, disk, &options, &error);
    CHECK(&run, is_started, "%s", error.text);
    run.server.answered = run_answered;
    run.server.arg = &run;
    send_op(&run, OP_CREATE, 1);
    lh_sim_server_pump(&run.server, 0);
    for (uint32_t i = 0; i < changes; i++)
        send_op(&run, OP_ADD, 1);
    lh_sim_server_pump(&run.server, 0);
    send_op(&run, OP_CREATE, 0);
    lh_sim_server_pump(&run.server, 0);
    send_op(&run, OP_CHECKPOINT, 0);
    lh_sim_server_pump(&run.server, 0);
    disk = lh_sim_disk_copy(disk, next_random(&run));
    lh_sim_server_end(&run.server);
    start_in_use(&run, disk);
    run.server.answered = run_answered;
    run.server.arg = &run;
    do { /* refused until the index is there, which may be before or after the log */
        send_op(&run, OP_DROP, 0);
        while (!run.ops[run.op_count - 1].is_answered)
            lh_sim_server_pump(&run.server, 1);
    } while (run.ops[run.op_count - 1].status == LH_INDEX_LOADING);
    bool was_reading = run.server.vectord.recovering.is_on;
    lh_sim_server_pump(&run.server, 0);
    CHECK(&run, run.server.in_flight == 0, "the drop was never answered");
    check_all(&run, "dropped in a recovery", &run.server);
    lh_sim_server_end(&run.server);
    return was_reading;
}

/* A version 1 file's index has as many shards as are configured; when those are what its reshard in
 * the log asked for, that record is done with all the same. False: there was no such record. */
static bool reshard_to_what_is_configured(uint64_t seed)
{
    static struct run run;
    struct lh_sim_server_options options;
    struct lh_error error = {0};
    run_begin(&run, seed);
    run.is_mixed = false;
    struct lh_sim_disk *disk = lh_sim_disk_create(next_random(&run));
    put_v1(&run, disk, 0);
    options = random_options(&run);
    options.ticks_at_start = false;
    bool is_started = lh_sim_server_start(&run.server, disk, &options, &error);
    CHECK(&run, is_started, "%s", error.text);
    run.server.answered = run_answered;
    run.server.arg = &run;
    send_op(&run, OP_RESHARD, 0);
    while (!run.ops[0].is_answered)
        lh_sim_server_pump(&run.server, 1);
    struct lh_index *index = lh_sim_server_index(&run.server, names[0]);
    uint32_t shards = index->shard_count;
    bool is_in_log_alone = run.ops[0].lsn != 0 && index->v1 != LH_V1_NONE;
    disk = lh_sim_disk_copy(disk, next_random(&run));
    lh_sim_server_pump(&run.server, 0);
    lh_sim_server_end(&run.server);
    options.default_shards = shards;
    is_started = lh_sim_server_start(&run.server, disk, &options, &error);
    CHECK(&run, is_started, "%s", error.text);
    index = lh_sim_server_index(&run.server, names[0]);
    CHECK(&run, index->lsn == run.ops[0].lsn && index->shard_count == shards, "LSN %" PRIu64,
          index->lsn);
    check_all(&run, "resharded to what is configured", &run.server);
    lh_sim_server_end(&run.server);
    return is_in_log_alone;
}

/* Ends the server and starts another on the same disk. */
static struct lh_sim_disk *start_again(struct run *run, struct lh_sim_disk *disk)
{
    disk = lh_sim_disk_copy(disk, next_random(run));
    lh_sim_server_end(&run->server);
    recover(run, &run->server, disk, "the next start");
    run->server.answered = run_answered;
    run->server.arg = run;
    return disk;
}

/* When the log has gone, because files hold all that it said, LSNs go on behind those. */
static void go_on_without_a_log(uint64_t seed)
{
    static struct run run;
    run_begin(&run, seed);
    run.is_mixed = false;
    struct lh_sim_disk *disk = lh_sim_disk_create(next_random(&run));
    recover(&run, &run.server, disk, "the first start");
    run.server.answered = run_answered;
    run.server.arg = &run;
    send_op(&run, OP_CREATE, 0);
    lh_sim_server_pump(&run.server, 0);
    for (uint32_t i = 0; i < 5; i++)
        send_op(&run, OP_ADD, 0);
    lh_sim_server_pump(&run.server, 0);
    stop(&run);
    disk = start_again(&run, disk);
    for (uint32_t i = 0; i < 3; i++)
        lh_sim_server_tick(&run.server, false);
    disk = start_again(&run, disk);
    send_op(&run, OP_ADD, 0);
    lh_sim_server_pump(&run.server, 0);
    (void)start_again(&run, disk);
    check_all(&run, "after the log had gone", &run.server);
    lh_sim_server_end(&run.server);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : CRASHES;
    uint64_t crashes = 0;
    uint64_t runs = 0;
    uint32_t early_drops = 0, reshards = 0;
    for (uint32_t i = 0; i < 20; i++) {
        early_drops += drop_while_coming_back(seed + i);
        reshards += reshard_to_what_is_configured(seed + i);
        go_on_without_a_log(seed + i);
    }
    if (early_drops == 0 || reshards == 0) {
        fprintf(stderr, "seed %" PRIu64 ": no index was %s\n", seed,
                reshards == 0 ? "resharded before its first checkpoint"
                              : "deleted before the log's end");
        return 1;
    }
    while (wanted == 0 || crashes < wanted) {
        crashes += one_run(seed + runs);
        runs++;
        if (runs % 50 == 0) {
            printf("%" PRIu64 " runs, %" PRIu64 " crashes\n", runs, crashes);
            fflush(stdout);
        }
    }
    printf("%" PRIu64 " runs from seed %" PRIu64 ", %" PRIu64 " crashes: all as acknowledged\n",
           runs, seed, crashes);
    return 0;
}
