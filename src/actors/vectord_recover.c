/* Start: what was kept comes back. Runs on vectord's thread.
 *
 * Files are loaded side by side by the workers; then version 1 files are taken in item by item, one
 * after the other; then the log is replayed in order. An index serves as soon as nothing of it is
 * left to come; until all is there, a name that is not known may still turn up in the log. */
#include "actors/vectord.h"

#include "store/lhv1_go.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLAYS_MAX 8u /* records in flight: enough to keep every shard busy */

bool lh__recover_is_quiet(const struct lh_vectord *vectord)
{
    const struct lh_recovering *recovering = &vectord->recovering;
    return recovering->loads == 0 && recovering->removals == 0 && recovering->in_flight == 0 &&
           !recovering->is_asking;
}

/* ---- the registry ---- */

/* Whether the log may hold changes that the index's file lacks. */
static bool has_changes(const struct lh_vectord *vectord, const struct lh_index *index)
{
    static const uint8_t unknown[16];
    const struct lh_found_changes *changes =
        lh_recovery_changes(vectord->options.recovery, index->uuid_bytes);
    if (memcmp(index->uuid_bytes, unknown, sizeof unknown) == 0)
        return vectord->options.recovery->log.records > 0;
    return changes != NULL && changes->last_lsn > index->checkpoint_lsn;
}

void lh__recover_fail(struct lh_vectord *vectord, struct lh_index *index, const char *reason)
{
    index->state = LH_STATE_FAILED;
    index->replay_until = 0;
    index->import = NULL;
    /* The next start may have better luck with its file: its log stays. */
    index->unsaved_lsn = has_changes(vectord, index) ? index->checkpoint_lsn + 1 : 0;
    snprintf(index->reason, sizeof index->reason, "%s", reason);
    lh_log_line(vectord->options.log, LH_LOG_ERROR, "an index could not be loaded",
                LH_LOG_TEXT("index", index->name), LH_LOG_TEXT("reason", reason));
}

void lh__recover_ready_if_done(struct lh_vectord *vectord, struct lh_index *index)
{
    if (index->state != LH_STATE_LOADING || index->replay_until > index->lsn || index->replays > 0)
        return;
    index->state = LH_STATE_READY;
    lh_log_line(vectord->options.log, LH_LOG_INFO, "index loaded",
                LH_LOG_TEXT("index", index->name), LH_LOG_U64("lsn", index->lsn));
}

struct lh_index *lh__recover_find(struct lh_vectord *vectord, const uint8_t uuid[16])
{
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        if (memcmp(vectord->indexes[i]->uuid_bytes, uuid, 16) == 0)
            return vectord->indexes[i];
    }
    return NULL;
}

struct lh_index *lh__recover_add_index(struct lh_vectord *vectord,
                                       const struct lh_index_params *params)
{
    struct lh_index *index = lh__index_make(vectord, params);
    if (index == NULL || lh__index_insert(vectord, index) != LH_OK) {
        lh_log_line(vectord->options.log, LH_LOG_ERROR,
                    "not enough memory to load an index: not ready until the next start",
                    LH_LOG_TEXT("index", params->name));
        lh__index_free(index);
        vectord->recovering.is_incomplete = true;
        return NULL;
    }
    const struct lh_found_changes *changes =
        lh_recovery_changes(vectord->options.recovery, params->uuid);
    index->state = LH_STATE_LOADING;
    index->replay_until = changes != NULL ? changes->last_lsn : 0;
    return index;
}

/* A request of our own, through the same code as a client's. */
static struct lh_request *make_request(struct lh_vectord *vectord, enum lh_op op,
                                       struct lh_index *index)
{
    struct lh_request *request = lh_request_create(op);
    if (request == NULL)
        return NULL;
    request->is_replay = true;
    request->index = index;
    vectord->recovering.in_flight++;
    index->replays++;
    return request;
}

/* Makes the shards of an index that has no file of version 2; the next step waits for that. */
static void make_shards(struct lh_vectord *vectord, struct lh_index *index, uint64_t lsn)
{
    struct lh_request *request = make_request(vectord, LH_OP_INDEX_CREATE, index);
    if (request == NULL ||
        lh__vectord_make_parts(vectord, request, index, index->shard_count) != LH_OK) {
        lh__recover_fail(vectord, index, "not enough memory to load it");
        if (request != NULL)
            lh__recover_applied(vectord, request);
        return;
    }
    vectord->recovering.waiting = request;
    request->record.lsn = lsn;
    request->record.type = LH_RECORD_CREATE;
    request->stage = LH_STAGE_GATHER;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        lh__vectord_aim(&request->parts[i], LH_PART_CREATE, index, i);
        lh__vectord_send(vectord, request, &request->parts[i], index->shards[i].worker);
    }
}

void lh__recover_begin(struct lh_vectord *vectord)
{
    struct lh_recovery *recovery = vectord->options.recovery;
    vectord->recovering.is_on = true;
    vectord->lsn = recovery->log.last_lsn;
    lh_counter_set(&vectord->metrics.to_replay, recovery->log.records);
    lh__remote_begin(vectord);
    for (uint32_t i = 0; i < recovery->file_count; i++) {
        if (recovery->files[i].envelope.lsn > vectord->lsn)
            vectord->lsn = recovery->files[i].envelope.lsn;
    }
    for (uint32_t i = 0; i < recovery->file_count; i++)
        lh__recover_take_file(vectord, &recovery->files[i]);
    lh__recover_advance(vectord);
}

/* ---- what comes item by item: version 1 files, the log ---- */

/* An import that was not read to its end leaves its reader, which the persister does not use
 * between two jobs. */
void lh__recover_end_import(struct lh_vectord *vectord)
{
    struct lh_job *job = &vectord->recovering.job;
    lh_lhv1_go_close(job->import);
    job->import = NULL;
}

/* The next version 1 file whose items have not come; NULL: none. One that is being read is read to
 * its end, whatever comes from the peer meanwhile. */
static struct lh_index *next_import(const struct lh_vectord *vectord)
{
    const struct lh_job *job = &vectord->recovering.job;
    struct lh_index *next = NULL;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (index->import != NULL && (next == NULL || (job->import != NULL && job->index == index)))
            next = index;
    }
    return next;
}

static void finish(struct lh_vectord *vectord)
{
    vectord->recovering.is_on = false;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        vectord->indexes[i]->replay_until = 0;
        lh__recover_ready_if_done(vectord, vectord->indexes[i]);
    }
    if (vectord->options.peer == NULL) { /* else what was deleted is asked for until the end */
        lh_recovery_deinit(vectord->options.recovery);
        vectord->options.recovery = NULL;
    }
    lh_counter_set(&vectord->metrics.recovering, 0);
    lh_log_line(vectord->options.log, LH_LOG_INFO, "ready",
                LH_LOG_U64("indexes", vectord->index_count), LH_LOG_U64("items", vectord->items),
                LH_LOG_U64("lsn", vectord->lsn));
}

/* Asks for the next step when there may be one. */
void lh__recover_advance(struct lh_vectord *vectord)
{
    struct lh_recovering *recovering = &vectord->recovering;
    if (recovering->loads > 0 || recovering->is_asking || recovering->waiting != NULL ||
        vectord->tick != NULL)
        return;
    struct lh_index *import = next_import(vectord);
    if (recovering->has_ended && import == NULL) {
        if (recovering->is_on && recovering->in_flight == 0 && recovering->removals == 0 &&
            !recovering->is_incomplete && lh__remote_settle(vectord))
            finish(vectord);
        return;
    }
    if (recovering->in_flight >= REPLAYS_MAX)
        return;
    struct lh_job *job = &recovering->job;
    if (import == NULL && !recovering->is_replaying) {
        if (recovering->in_flight > 0 || recovering->removals > 0)
            return;
        recovering->is_replaying = true;
        recovering->job.after = lh_recovery_after(vectord->options.recovery);
    }
    if (job->index != import)
        lh__recover_end_import(vectord);
    if (import != NULL && import->shards[0].shard == NULL) {
        make_shards(vectord, import, 0);
        return;
    }
    job->kind = import != NULL ? LH_JOB_IMPORT : LH_JOB_REPLAY;
    job->index = import;
    if (import != NULL)
        job->file = import->import->file;
    recovering->is_asking = true;
    lh__vectord_send_job(vectord, job);
}

/* Sends what the job brought through the code that clients' changes go through. */
static void apply_items(struct lh_vectord *vectord, struct lh_index *index, struct lh_job *job)
{
    bool is_add = job->record.type == LH_RECORD_ADD;
    struct lh_request *request =
        make_request(vectord, is_add ? LH_OP_ADD : LH_OP_ITEMS_DELETE, index);
    if (request == NULL) {
        lh_record_deinit(&job->record);
        lh__recover_fail(vectord, index, "not enough memory to replay its changes");
        return;
    }
    request->record.lsn = job->record.lsn;
    request->record.type = job->record.type;
    request->batch = job->record.batch;
    job->record = (struct lh_record){0};
    if (lh_request_hash(request) != LH_OK) {
        lh_error_set(&request->error, LH_OUT_OF_MEMORY, "not enough memory");
        lh__recover_applied(vectord, request);
        return;
    }
    vectord->recovering.waiting = request; /* for its room; records stay in order */
    if (is_add)
        lh__items_add(vectord, request, index);
    else
        lh__items_delete(vectord, request, index);
}

void lh__recover_sent(struct lh_vectord *vectord, struct lh_request *request)
{
    assert(vectord->recovering.waiting == request);
    vectord->recovering.waiting = NULL;
    lh__recover_advance(vectord);
}

/* What a record did is done; or it could not be done, and the index is not what it was. */
void lh__recover_applied(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    char reason[sizeof index->reason];
    vectord->recovering.in_flight--;
    if (vectord->recovering.waiting == request)
        vectord->recovering.waiting = NULL;
    index->replays--;
    if (request->error.status != LH_OK && index->state == LH_STATE_LOADING) {
        snprintf(reason, sizeof reason, "a change could not be replayed: %.100s",
                 request->error.text);
        lh__recover_fail(vectord, index, reason);
    }
    lh_request_destroy(request);
    lh__reshard_tick(vectord, index, false);
    if (index->import == NULL)
        lh__recover_ready_if_done(vectord, index);
    lh__recover_advance(vectord);
}

/* Another shard count, which the index's file does not have yet. */
static void replay_reshard(struct lh_vectord *vectord, struct lh_index *index,
                           const struct lh_record *record)
{
    struct lh_request *request = make_request(vectord, LH_OP_INDEX_RESHARD, index);
    if (request == NULL) {
        lh__recover_fail(vectord, index, "not enough memory to replay its changes");
        return;
    }
    request->record.type = record->type;
    request->record.lsn = record->lsn;
    request->create.shards = record->shards;
    vectord->recovering.waiting = request;
    lh__reshard_begin(vectord, request, index);
}

/* A failed index makes room for what the log has of it, which is all. */
static void discard(struct lh_vectord *vectord, struct lh_index *index)
{
    assert(index->state == LH_STATE_FAILED && index->in_flight == 0 && index->replays == 0);
    lh_log_line(vectord->options.log, LH_LOG_WARN, "the log has all of an index whose file failed",
                LH_LOG_TEXT("index", index->name), LH_LOG_TEXT("reason", index->reason));
    for (uint32_t i = 0; i < index->shard_count; i++) {
        vectord->items -= index->shards[i].count;
        vectord->bytes -= index->shards[i].bytes;
        lh_shard_destroy(index->shards[i].shard); /* no worker has a part of it */
    }
    lh__index_withdraw(vectord, index);
    lh__index_free(index);
}

static void replay_create(struct lh_vectord *vectord, const struct lh_record *record)
{
    struct lh_index *index = lh__vectord_find(vectord, record->params.name);
    if (index != NULL && index->state != LH_STATE_FAILED) {
        if (memcmp(index->uuid_bytes, record->uuid, sizeof record->uuid) != 0)
            lh_log_line(vectord->options.log, LH_LOG_ERROR,
                        "the log makes an index whose name another file has: it is left out",
                        LH_LOG_TEXT("index", record->params.name));
        return;
    }
    if (index != NULL)
        discard(vectord, index);
    index = lh__recover_add_index(vectord, &record->params);
    if (index != NULL)
        make_shards(vectord, index, record->lsn);
}

static void replay_record(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_record *record = &job->record;
    struct lh_index *index = lh__recover_find(vectord, record->uuid);
    const struct lh_found_changes *changes =
        lh_recovery_changes(vectord->options.recovery, record->uuid);
    lh_counter_add(&vectord->metrics.replayed, 1);
    if (record->type == LH_RECORD_CREATE && (changes == NULL || changes->drop_lsn == 0)) {
        replay_create(vectord, record);
        return;
    }
    if (record->type == LH_RECORD_RESHARD && index != NULL && record->lsn > index->lsn &&
        index->state == LH_STATE_LOADING)
        replay_reshard(vectord, index, record);
    if ((record->type == LH_RECORD_ADD || record->type == LH_RECORD_DELETE) && index != NULL &&
        record->lsn > index->lsn && index->state == LH_STATE_LOADING) {
        apply_items(vectord, index, job);
        return;
    }
    lh_record_deinit(record);
}

static void end_of_log(struct lh_vectord *vectord, const struct lh_job *job)
{
    vectord->recovering.has_ended = true;
    if (job->status == LH_NOT_FOUND) { /* of all records, those in index files not read again */
        lh_counter_set(&vectord->metrics.replayed, vectord->options.recovery->log.records);
        return;
    }
    vectord->recovering.is_incomplete = true;
    lh_log_line(vectord->options.log, LH_LOG_ERROR, "the log could not be read to its end",
                LH_LOG_TEXT("reason", job->error.text));
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (index->state == LH_STATE_LOADING && index->replay_until > index->lsn)
            lh__recover_fail(vectord, index, job->error.text);
    }
}

static void end_of_import(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_index *index = job->index;
    lh_disk_close(vectord->options.persister->options.disk, index->import->file);
    if (job->status != LH_NOT_FOUND) {
        job->error.status = job->status;
        lh__recover_give_up(vectord, index, index->import->path, &job->error);
    }
    index->import = NULL;
    lh__recover_ready_if_done(vectord, index);
}

void lh__recover_removed(struct lh_vectord *vectord)
{
    vectord->recovering.removals--;
    lh__recover_advance(vectord);
}

void lh__recover_job_back(struct lh_vectord *vectord, struct lh_job *job)
{
    if (job->kind == LH_JOB_QUARANTINE) {
        if (job->status != LH_OK)
            lh_log_line(vectord->options.log, LH_LOG_ERROR, "an index's file could not be moved",
                        LH_LOG_TEXT("reason", job->error.text));
        free(job);
        lh__recover_removed(vectord);
        return;
    }
    vectord->recovering.is_asking = false;
    if (job->status == LH_OK && job->kind == LH_JOB_IMPORT)
        apply_items(vectord, job->index, job);
    else if (job->status == LH_OK)
        replay_record(vectord, job);
    else if (job->kind == LH_JOB_IMPORT)
        end_of_import(vectord, job);
    else
        end_of_log(vectord, job);
    lh__recover_advance(vectord);
}
