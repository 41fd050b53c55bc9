/* The persister's thread: log records, checkpoint blocks and file jobs.
 *
 * It sleeps in the disk's run, which a push to its mailbox wakes. Invariant: whatever has come is
 * either waiting in the log, with the disk, or on its way back. */
#include "actors/persister.h"

#include "base/clock.h"
#include "store/lhv1_go.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

static void send_to_vectord(struct lh_persister *persister, struct lh_msg *msg)
{
    msg->lane =
        LH_LANE_EXPRESS; /* one lane, so that the order of the log is the order of arrival */
    enum lh_status status = lh_actor_send(persister->options.vectord, msg);
    assert(status == LH_OK); /* vectord stops only when nothing of it is here */
    (void)status;
}

/* ---- log records ---- */

static void record_done(struct lh_wal_entry *entry)
{
    struct lh_request *request = entry->arg;
    struct lh_persister *persister = request->persister;
    request->stage = LH_STAGE_LOGGED;
    send_to_vectord(persister, &request->head);
}

static void append_record(struct lh_persister *persister, struct lh_request *request)
{
    assert(request->stage == LH_STAGE_LOG);
    request->persister = persister;
    request->entry = (struct lh_wal_entry){.record = &request->record,
                                           .durability = request->durability,
                                           .done = record_done,
                                           .arg = request};
    lh_wal_append(persister->wal, &request->entry);
}

/* ---- blocks of checkpoints ---- */

static void block_done(struct lh_disk_op *op)
{
    struct lh_block *block = op->arg;
    struct lh_section_job *section = block->part->section;
    struct lh_persister *persister = (struct lh_persister *)section->persister->self;
    if (op->next != NULL)
        return; /* its sync is to come, whatever has become of it */
    persister->out--;
    enum lh_status status = lh_actor_send(section->worker, &block->head);
    assert(status == LH_OK); /* a worker stops only when no block of its is out */
    (void)status;
}

static void write_block(struct lh_persister *persister, struct lh_block *block)
{
    for (struct lh_disk_op *op = &block->op; op != NULL; op = op->next) {
        op->done = block_done;
        op->arg = block;
    }
    persister->out++;
    lh_disk_submit(persister->options.disk, &block->op);
}

/* ---- jobs ---- */

static void job_back(struct lh_persister *persister, struct lh_job *job)
{
    send_to_vectord(persister, &job->head);
}

static const char *op_name(enum lh_disk_kind kind)
{
    switch (kind) {
    case LH_DISK_WRITE:
        return "writing";
    case LH_DISK_RENAME:
        return "renaming";
    case LH_DISK_UNLINK:
        return "removing";
    default:
        return "syncing";
    }
}

static void job_op_done(struct lh_disk_op *op)
{
    struct lh_job *job = op->arg;
    struct lh_persister *persister = job->persister;
    /* A version 1 file that stays beside its version 2 goes at the next start, or with its index.
     */
    bool is_minor = job->kind == LH_JOB_FINISH && op->kind == LH_DISK_UNLINK;
    if (op->result != 0 && op->result != -ECANCELED && job->status == LH_OK && !is_minor)
        job->status =
            lh_error_sys(&job->error, lh_disk_status(op->result), -op->result, "%s %s",
                         op_name(op->kind), op->path != NULL ? op->path : job->paths.temp);
    assert(job->ops_out > 0);
    if (--job->ops_out > 0)
        return;
    persister->out--;
    if (job->kind == LH_JOB_FINISH) {
        lh_disk_close(persister->options.disk, job->file);
        job->file = -1;
        lh_buf_deinit(&job->bytes);
    }
    job_back(persister, job);
}

static void push_op(struct lh_job *job, struct lh_disk_op op)
{
    struct lh_disk_op *at = &job->ops[job->ops_out];
    assert(job->ops_out < LH_JOB_OPS_MAX);
    *at = op;
    at->done = job_op_done;
    at->arg = job;
    if (job->ops_out > 0)
        job->ops[job->ops_out - 1].next = at;
    job->ops_out++;
}

static void submit_ops(struct lh_persister *persister, struct lh_job *job)
{
    persister->out++;
    lh_disk_submit(persister->options.disk, &job->ops[0]);
}

static void push_rename(struct lh_job *job, const char *from, const char *to)
{
    push_op(job, (struct lh_disk_op){.kind = LH_DISK_RENAME, .path = from, .to = to});
}

static void push_unlink(struct lh_job *job, const char *path)
{
    push_op(job, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = path});
}

static void push_sync_folder(struct lh_job *job)
{
    push_op(job, (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = LH_LHV1_FOLDER});
}

static bool is_there(struct lh_disk *disk, const char *path)
{
    int file;
    int rc = lh_disk_open(disk, path, LH_DISK_OPEN_READ, &file);
    if (rc == 0)
        lh_disk_close(disk, file);
    return rc != -ENOENT;
}

static void finish_file(struct lh_persister *persister, struct lh_job *job)
{
    /* An attempt that failed may have put it aside. */
    if (job->v1 == LH_V1_IN_PLACE && !is_there(persister->options.disk, job->paths.file))
        job->v1 = LH_V1_ASIDE;
    push_op(job, (struct lh_disk_op){.kind = LH_DISK_WRITE,
                                     .file = job->file,
                                     .bytes = job->bytes.ptr,
                                     .len = job->bytes.len});
    push_op(job, (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = job->file});
    if (job->v1 == LH_V1_IN_PLACE)
        push_rename(job, job->paths.file, job->v1_path);
    push_rename(job, job->paths.temp, job->paths.file);
    push_sync_folder(job);
    if (job->v1 != LH_V1_NONE)
        push_unlink(job, job->v1_path); /* only now: the new file is there for good */
    submit_ops(persister, job);
}

/* What came from the peer is complete and synced; its envelope may be written anew. */
static void adopt_file(struct lh_persister *persister, struct lh_job *job)
{
    if (job->bytes.len > 0) {
        push_op(job, (struct lh_disk_op){.kind = LH_DISK_WRITE,
                                         .file = job->file,
                                         .bytes = job->bytes.ptr,
                                         .len = job->bytes.len});
        push_op(job, (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = job->file});
    }
    push_rename(job, job->paths.temp, job->paths.file);
    push_sync_folder(job);
    submit_ops(persister, job);
}

/* Makes the tombstone of an index that the peer may have, and syncs it. */
static bool make_tombstone(struct lh_persister *persister, struct lh_job *job)
{
    int file;
    if (job->gone_path[0] == '\0')
        return true;
    int rc = lh_disk_open(persister->options.disk, job->gone_path, LH_DISK_OPEN_NEW, &file);
    if (rc != 0) {
        job->status =
            lh_error_sys(&job->error, lh_disk_status(rc), -rc, "making %.100s", job->gone_path);
        return false;
    }
    lh_disk_close(persister->options.disk, file); /* it is empty: only its name counts */
    push_sync_folder(job);
    return true;
}

/* What a version 1 file held that version 2 says otherwise. */
static void log_facts(const struct lh_persister *persister, const struct lh_job *job)
{
    struct lh_lhv1_go_facts facts = lh_lhv1_go_facts(job->import);
    lh_log_line(persister->options.log, LH_LOG_INFO, "a version 1 file was read",
                LH_LOG_U64("items", facts.items),
                LH_LOG_U64("zero_vectors_left_out", facts.zero_vectors),
                LH_LOG_U64("metadata_that_was_no_object", facts.wrapped));
}

static void import_items(struct lh_persister *persister, struct lh_job *job)
{
    job->record.type = LH_RECORD_ADD;
    if (job->import == NULL)
        job->status = lh_lhv1_go_open(persister->options.disk, job->file,
                                      (struct lh_lhv1_go **)&job->import, &job->error);
    if (job->status == LH_OK)
        job->status = lh_lhv1_go_next(job->import, &job->record.batch, &job->error);
    if (job->status == LH_NOT_FOUND)
        log_facts(persister, job);
    if (job->status != LH_OK) {
        lh_lhv1_go_close(job->import);
        job->import = NULL;
    }
    job_back(persister, job);
}

static void run_job(struct lh_persister *persister, struct lh_job *job)
{
    struct lh_disk *disk = persister->options.disk;
    int rc;
    job->persister = persister;
    job->status = LH_OK;
    job->ops_out = 0;
    memset(job->ops, 0, sizeof job->ops);
    switch (job->kind) {
    case LH_JOB_REPLAY:
        job->status = lh_wal_replay(persister->wal, job->after, &job->record, &job->error);
        job_back(persister, job);
        return;
    case LH_JOB_IMPORT:
        import_items(persister, job);
        return;
    case LH_JOB_BEGIN:
        rc = lh_disk_open(disk, job->paths.temp, LH_DISK_OPEN_NEW, &job->file);
        if (rc != 0)
            job->status =
                lh_error_sys(&job->error, lh_disk_status(rc), -rc, "making %s", job->paths.temp);
        job_back(persister, job);
        return;
    case LH_JOB_FINISH:
        finish_file(persister, job);
        return;
    case LH_JOB_ABANDON:
        if (job->file != -1)
            lh_disk_close(disk, job->file);
        job->file = -1;
        push_unlink(job, job->paths.temp);
        submit_ops(persister, job);
        return;
    case LH_JOB_QUARANTINE:
        push_rename(job, job->paths.file, job->v1_path);
        push_sync_folder(job);
        submit_ops(persister, job);
        return;
    case LH_JOB_ADOPT:
        adopt_file(persister, job);
        return;
    case LH_JOB_REMOVE:
        if (!make_tombstone(persister, job)) {
            job_back(persister, job);
            return;
        }
        push_unlink(job, job->paths.file);
        push_unlink(job, job->v1_path);
        push_unlink(job, job->paths.temp);
        push_sync_folder(job);
        submit_ops(persister, job);
        return;
    }
}

/* ---- time ---- */

static void tick_back(struct lh_persister *persister, struct lh_tick *tick)
{
    tick->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(persister->options.gateway, &tick->head);
    assert(status == LH_OK); /* the gateway's mailbox closes last */
    (void)status;
}

static void final_sync_done(int result, void *arg)
{
    struct lh_persister *persister = arg;
    struct lh_tick *tick = persister->last_tick;
    if (result != 0)
        lh_log_line(persister->options.log, LH_LOG_ERROR, "the last sync of the log failed",
                    LH_LOG_TEXT("reason", strerror(-result)));
    persister->last_tick = NULL;
    tick_back(persister, tick);
}

static void on_tick(struct lh_persister *persister, struct lh_tick *tick)
{
    lh_wal_release(persister->wal, tick->lsn_least);
    if (!tick->is_stop) {
        tick_back(persister, tick);
        return;
    }
    persister->last_tick = tick;
    lh_wal_sync(persister->wal, final_sync_done, persister);
}

/* ---- the thread ---- */

static void handle(struct lh_persister *persister, struct lh_msg *msg)
{
    switch (msg->type) {
    case LH_MSG_REQUEST:
        append_record(persister, (struct lh_request *)msg);
        break;
    case LH_MSG_BLOCK:
        write_block(persister, (struct lh_block *)msg);
        break;
    case LH_MSG_JOB:
        run_job(persister, (struct lh_job *)msg);
        break;
    default:
        assert(msg->type == LH_MSG_TICK);
        on_tick(persister, (struct lh_tick *)msg);
    }
}

bool lh_persister_turn(struct lh_persister *persister, bool sleep)
{
    struct lh_actor *actor = &persister->actor;
    struct lh_msg *msg;
    bool is_shut = lh_mailbox_is_shut(&actor->mailbox);
    bool any = lh_actor_poll(actor);
    while ((msg = lh_actor_next(actor)) != NULL)
        handle(persister, msg);
    lh_wal_flush(persister->wal);
    bool is_idle = persister->out == 0 && lh_wal_is_idle(persister->wal);
    if (is_shut && !any && is_idle)
        return false;
    any |= lh_disk_run(persister->options.disk, sleep && !any);
    return sleep || any;
}

static void run(void *self)
{
    while (lh_persister_turn(self, true))
        continue;
}

static void wake(void *arg)
{
    lh_disk_wake(arg);
}

enum lh_status lh_persister_init(struct lh_persister *persister,
                                 const struct lh_persister_options *options,
                                 struct lh_recovery *recovery, struct lh_error *error)
{
    *persister = (struct lh_persister){.options = *options};
    enum lh_status status = lh__recovery_read(persister, recovery, error);
    if (status != LH_OK) {
        persister->options.disk = NULL;
        return status;
    }
    lh_actor_init(&persister->actor, "persister", run, persister);
    lh_actor_wake_by(&persister->actor, wake, options->disk);
    return LH_OK;
}

void lh_persister_deinit(struct lh_persister *persister)
{
    if (persister->options.disk == NULL)
        return; /* never made */
    lh_wal_close(persister->wal);
    lh_disk_destroy(persister->options.disk);
    lh_actor_deinit(&persister->actor);
    persister->options.disk = NULL;
}
