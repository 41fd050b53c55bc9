/* Start: what was kept comes back. Runs on vectord's thread.
 *
 * Files are loaded side by side by the workers; then version 1 files are taken in item by item, one
 * after the other; then the log is replayed in order. An index serves as soon as nothing of it is
 * left to come; until all is there, a name that is not known may still turn up in the log. */
#include "actors/vectord.h"

#include "base/clock.h"
#include "store/lhv1_go.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#define REPLAYS_MAX 8u /* records in flight: enough to keep every shard busy */

/* A version 1 file has no identity: it gets one from its name, the same at every start, so that
 * records that were logged for it before it became version 2 find it again. */
static const uuid_t v1_namespace = {0x5c, 0x1f, 0x0a, 0x7e, 0x3d, 0x42, 0x4b, 0x19,
                                    0x9e, 0x55, 0xd1, 0x6a, 0x20, 0x83, 0xc4, 0xf7};

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

static void mark_failed(struct lh_vectord *vectord, struct lh_index *index, const char *reason)
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

static void mark_ready_if_done(struct lh_vectord *vectord, struct lh_index *index)
{
    if (index->state != LH_STATE_LOADING || index->replay_until > index->lsn || index->replays > 0)
        return;
    index->state = LH_STATE_READY;
    lh_log_line(vectord->options.log, LH_LOG_INFO, "index loaded",
                LH_LOG_TEXT("index", index->name), LH_LOG_U64("lsn", index->lsn));
}

static struct lh_index *find_by_uuid(struct lh_vectord *vectord, const uint8_t uuid[16])
{
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        if (memcmp(vectord->indexes[i]->uuid_bytes, uuid, 16) == 0)
            return vectord->indexes[i];
    }
    return NULL;
}

static struct lh_index *add_index(struct lh_vectord *vectord, const struct lh_index_params *params)
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

/* ---- files ---- */

static void load_file(struct lh_vectord *vectord, struct lh_found_file *found)
{
    const struct lh_lhv1_envelope *envelope = &found->envelope;
    uint32_t shards = envelope->params.shards;
    struct lh_index *index = add_index(vectord, &envelope->params);
    if (index == NULL)
        return;
    index->lsn = envelope->lsn;
    index->checkpoint_lsn = envelope->lsn;
    index->file_bytes =
        envelope->sections[shards - 1].offset + envelope->sections[shards - 1].length;
    struct lh_part *parts = calloc(shards, sizeof *parts);
    struct lh_section_job *sections = calloc(shards, sizeof *sections);
    if (parts == NULL || sections == NULL) {
        free(parts);
        free(sections);
        mark_failed(vectord, index, "not enough memory to load it");
        return;
    }
    index->loading = (struct lh_loading){.parts = parts,
                                         .sections = sections,
                                         .file = found->file,
                                         .out = shards,
                                         .error = {.status = LH_OK}};
    vectord->recovering.loads++;
    index->in_flight++;
    for (uint32_t i = 0; i < shards; i++) {
        parts[i].head.type = LH_MSG_PART;
        parts[i].home = &vectord->actor;
        parts[i].index = index;
        parts[i].graph = index->graph;
        parts[i].section = &sections[i];
        sections[i] = (struct lh_section_job){.disk = vectord->options.persister->options.disk,
                                              .file = found->file,
                                              .offset = envelope->sections[i].offset,
                                              .length = envelope->sections[i].length,
                                              .xxh3 = envelope->sections[i].xxh3,
                                              .count = envelope->sections[i].count};
        lh__vectord_aim(&parts[i], LH_PART_LOAD, index, i);
        enum lh_status status = lh_actor_send(&index->shards[i].worker->actor, &parts[i].head);
        assert(status == LH_OK);
        (void)status;
    }
}

/* An index whose file turned out to be of no use. A broken file is put aside; one that could not be
 * read may be whole. */
static void give_up(struct lh_vectord *vectord, struct lh_index *index, const char *path,
                    const struct lh_error *error)
{
    snprintf(index->path, sizeof index->path, "%s", path);
    mark_failed(vectord, index, error->text);
    if (error->status == LH_CORRUPT)
        index->unsaved_lsn = 0; /* without its file its changes are of no use */
    struct lh_job *job = error->status == LH_CORRUPT ? calloc(1, sizeof *job) : NULL;
    if (job == NULL)
        return;
    job->kind = LH_JOB_QUARANTINE;
    job->index = index;
    snprintf(job->paths.file, sizeof job->paths.file, "%s", path);
    snprintf(job->v1_path, sizeof job->v1_path, LH_LHV1_FOLDER "/%s.lhv1.corrupt-%" PRIu64,
             index->name, lh_clock_wall_ms() / 1000);
    snprintf(index->path, sizeof index->path, "%s", job->v1_path);
    vectord->recovering.removals++;
    lh__vectord_send_job(vectord, job);
}

static void give_up_file(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_lhv1_paths paths;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        struct lh_index_shard *shard = &index->shards[i];
        vectord->items -= shard->count;
        vectord->bytes -= shard->bytes;
        lh_shard_destroy(shard->shard); /* its worker has handed it over, and none has used it */
    }
    index->shard_count = 0;
    lh_lhv1_paths(index->name, &paths);
    give_up(vectord, index, paths.file, &index->loading.error);
}

void lh__recover_part_back(struct lh_vectord *vectord, struct lh_part *part)
{
    struct lh_index *index = part->index;
    struct lh_loading *loading = &index->loading;
    if (part->status == LH_OK && part->shard_count != part->section->count)
        part->status = lh_error_set(&part->section->error, LH_CORRUPT, "shard %u: %u items, not %u",
                                    part->number, part->shard_count, part->section->count);
    if (part->status != LH_OK && loading->error.status == LH_OK) {
        loading->error = part->section->error;
        loading->error.status = part->status;
    }
    if (--loading->out > 0)
        return;
    lh_disk_close(vectord->options.persister->options.disk, loading->file);
    free(loading->parts);
    free(loading->sections);
    index->in_flight--;
    vectord->recovering.loads--;
    if (loading->error.status != LH_OK)
        give_up_file(vectord, index);
    else
        mark_ready_if_done(vectord, index);
    lh__recover_advance(vectord);
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
        mark_failed(vectord, index, "not enough memory to load it");
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

static void take_v1(struct lh_vectord *vectord, struct lh_found_file *found)
{
    struct lh_index_params params = found->envelope.params;
    params.shards = vectord->options.default_shards;
    params.seed = ++vectord->seed;
    struct lh_index *index = add_index(vectord, &params);
    if (index == NULL)
        return;
    index->v1 = found->is_aside ? LH_V1_ASIDE : LH_V1_IN_PLACE;
    index->wants_checkpoint = true; /* as version 2, soon */
    index->import = found;
}

/* Deleted, and the server ended before the file was gone. */
static void remove_file(struct lh_vectord *vectord, struct lh_found_file *found, uint64_t drop_lsn)
{
    struct lh_index_params params = found->envelope.params;
    lh_disk_close(vectord->options.persister->options.disk, found->file);
    params.shards = 0;
    struct lh_index *index = add_index(vectord, &params);
    if (index == NULL)
        return;
    index->state = LH_STATE_DROPPING;
    index->unsaved_lsn = drop_lsn;
    lh__index_remove(vectord, index, NULL);
}

static void take_failed(struct lh_vectord *vectord, struct lh_found_file *found)
{
    struct lh_index_params params = found->envelope.params;
    memcpy(params.name, found->name, sizeof params.name);
    params.shards = 0;
    if (lh__vectord_find(vectord, found->name) != NULL)
        return;
    struct lh_index *index = add_index(vectord, &params);
    if (index == NULL)
        return;
    snprintf(index->path, sizeof index->path, "%s", found->path);
    mark_failed(vectord, index, found->error.text);
    if (found->error.status == LH_CORRUPT)
        index->unsaved_lsn = 0;
}

static void identify_v1(struct lh_found_file *found)
{
    uuid_generate_sha1(found->envelope.params.uuid, v1_namespace, found->name, strlen(found->name));
}

static void take_file(struct lh_vectord *vectord, struct lh_found_file *found)
{
    struct lh_index_params *params = &found->envelope.params;
    if (found->error.status != LH_OK) {
        take_failed(vectord, found);
        return;
    }
    if (found->envelope.version == 1)
        identify_v1(found);
    const struct lh_found_changes *changes =
        lh_recovery_changes(vectord->options.recovery, params->uuid);
    if (changes != NULL && changes->drop_lsn > found->envelope.lsn) {
        remove_file(vectord, found, changes->drop_lsn);
    } else if (found->envelope.version == 1) {
        take_v1(vectord, found);
    } else {
        load_file(vectord, found);
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
        take_file(vectord, &recovery->files[i]);
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
        mark_ready_if_done(vectord, vectord->indexes[i]);
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
        mark_failed(vectord, index, "not enough memory to replay its changes");
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
        mark_failed(vectord, index, reason);
    }
    lh_request_destroy(request);
    lh__reshard_tick(vectord, index, false);
    if (index->import == NULL)
        mark_ready_if_done(vectord, index);
    lh__recover_advance(vectord);
}

/* Another shard count, which the index's file does not have yet. */
static void replay_reshard(struct lh_vectord *vectord, struct lh_index *index,
                           const struct lh_record *record)
{
    struct lh_request *request = make_request(vectord, LH_OP_INDEX_RESHARD, index);
    if (request == NULL) {
        mark_failed(vectord, index, "not enough memory to replay its changes");
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
    index = add_index(vectord, &record->params);
    if (index != NULL)
        make_shards(vectord, index, record->lsn);
}

static void replay_record(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_record *record = &job->record;
    struct lh_index *index = find_by_uuid(vectord, record->uuid);
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
    if (job->status == LH_NOT_FOUND)
        return;
    vectord->recovering.is_incomplete = true;
    lh_log_line(vectord->options.log, LH_LOG_ERROR, "the log could not be read to its end",
                LH_LOG_TEXT("reason", job->error.text));
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (index->state == LH_STATE_LOADING && index->replay_until > index->lsn)
            mark_failed(vectord, index, job->error.text);
    }
}

static void end_of_import(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_index *index = job->index;
    lh_disk_close(vectord->options.persister->options.disk, index->import->file);
    if (job->status != LH_NOT_FOUND) {
        job->error.status = job->status;
        give_up(vectord, index, index->import->path, &job->error);
    }
    index->import = NULL;
    mark_ready_if_done(vectord, index);
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

/* ---- what comes later ---- */

bool lh__recover_identify(struct lh_vectord *vectord, struct lh_found_file *found,
                          struct lh_index **other)
{
    const uint8_t *uuid = found->envelope.params.uuid;
    if (found->envelope.version == 1)
        identify_v1(found);
    const struct lh_found_changes *changes = lh_recovery_changes(vectord->options.recovery, uuid);
    *other = find_by_uuid(vectord, uuid);
    return changes != NULL && changes->drop_lsn != 0;
}

void lh__recover_adopt(struct lh_vectord *vectord, struct lh_found_file *found)
{
    if (found->envelope.version == 1)
        take_v1(vectord, found);
    else
        load_file(vectord, found);
    struct lh_index *index = lh__vectord_find(vectord, found->name);
    if (index != NULL)
        index->replay_until = 0; /* the log has been read */
    lh__recover_advance(vectord);
}
