/* Checkpoints: an index's shards into its file. Runs on vectord's thread.
 *
 * One at a time. All shards freeze at the same place in the order of changes, so the file holds
 * every change up to one LSN; they go on being changed while what was frozen is streamed to the
 * persister, which at the end writes the envelope, syncs, and gives the file its name. A checkpoint
 * that fails leaves the older file and the log as they were, and is tried again later. */
#include "actors/vectord.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOP_MS      30000u /* at a clean stop, no further checkpoint starts after this */
#define LOG_TO_FILES 2u     /* log beside files that starts one: bounds what is written a vector */
#define NANOS_A_MS   1000000ull

/* Beside searches a worker rests behind each block, since it is the writing as a whole, also in the
 * kernel, that takes the processors from them: with this, 32 MiB/s a worker. That is more than adds
 * have been seen to write to the log for each, so that the log does not outgrow the files. */
#define REST_NS      (4 * NANOS_A_MS)
#define RESTS_NS_MAX (60000 * NANOS_A_MS) /* of a checkpoint: a large file is paced less */
#define LOG_TO_LIMIT 2u /* log that is so many times as long as starts a checkpoint: no rests */

/* ---- which ---- */

static bool is_unsaved(const struct lh_index *index)
{
    return index->state == LH_STATE_READY && !lh__reshard_is_ending(index) &&
           (index->unsaved_lsn != 0 || index->v1 != LH_V1_NONE);
}

/* The log is longer than `times` what starts a checkpoint. */
static bool is_log_over(const struct lh_vectord *vectord, uint32_t times)
{
    uint64_t limit = vectord->options.checkpoint_bytes;
    uint64_t files = 0;
    uint64_t unsaved = 0;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        files += vectord->indexes[i]->file_bytes;
        unsaved += vectord->indexes[i]->unsaved_bytes;
    }
    if (limit < LOG_TO_FILES * files)
        limit = LOG_TO_FILES * files;
    return unsaved / times > limit;
}

/* The index without whose checkpoint the log cannot shrink; NULL: the log is short enough. */
static struct lh_index *find_oldest(const struct lh_vectord *vectord)
{
    struct lh_index *oldest = NULL;
    if (!is_log_over(vectord, 1))
        return NULL;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (is_unsaved(index) && index->unsaved_lsn != 0 &&
            (oldest == NULL || index->unsaved_lsn < oldest->unsaved_lsn))
            oldest = index;
    }
    return oldest;
}

static struct lh_index *find_due(const struct lh_vectord *vectord)
{
    uint64_t age_ns = vectord->options.checkpoint_age_ms * NANOS_A_MS;
    uint64_t now = vectord->options.clock_ns();
    struct lh_index *wanted = NULL;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (is_unsaved(index) && index->asked.first != NULL)
            return index;
        if (is_unsaved(index) && index->wants_checkpoint && wanted == NULL)
            wanted = index;
    }
    if (wanted != NULL)
        return wanted;
    for (uint32_t i = 0; i < vectord->index_count && age_ns != 0; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (is_unsaved(index) && index->unsaved_lsn != 0 && now - index->unsaved_since_ns > age_ns)
            return index;
    }
    return find_oldest(vectord);
}

/* Records from here on are needed. */
static uint64_t lsn_least(const struct lh_vectord *vectord)
{
    uint64_t least = vectord->lsn + 1;
    if (vectord->recovering.is_on || vectord->recovering.is_incomplete)
        return 0;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        uint64_t unsaved = vectord->indexes[i]->unsaved_lsn;
        if (unsaved != 0 && unsaved < least)
            least = unsaved;
    }
    return least;
}

/* ---- its end ---- */

static void answer_asked(struct lh_vectord *vectord, struct lh_index *index)
{
    const struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    struct lh_msg_queue asked = index->asked;
    index->asked = (struct lh_msg_queue){0};
    index->wants_checkpoint = false;
    while (asked.first != NULL) {
        struct lh_request *request = (struct lh_request *)lh_msg_queue_take(&asked);
        if (checkpoint->status != LH_OK) {
            request->error = checkpoint->error;
        } else if (request->record.lsn > index->checkpoint_lsn) {
            index->wants_checkpoint = true; /* it came while this one was under way */
            lh_msg_queue_put(&index->asked, &request->head);
            continue;
        } else {
            lh__index_encode_info(&request->answer, index);
            if (lh_buf_failed(&request->answer))
                lh_error_set(&request->error, LH_OUT_OF_MEMORY, "not enough memory to answer");
        }
        lh__vectord_answer(vectord, request);
    }
}

static void note_success(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    uint64_t took = vectord->options.clock_ns() - checkpoint->started_ns;
    index->checkpoint_lsn = checkpoint->lsn;
    index->file_bytes = checkpoint->bytes;
    index->v1 = LH_V1_NONE;
    index->unsaved_bytes -= checkpoint->unsaved_bytes;
    index->unsaved_since_ns = checkpoint->started_ns;
    index->unsaved_lsn = index->lsn > checkpoint->lsn ? checkpoint->lsn + 1 : 0;
    vectord->checkpoint_backoff_ms = 0;
    lh_counter_add(&vectord->metrics.checkpoints, 1);
    lh_counter_add(&vectord->metrics.checkpoint_bytes, checkpoint->bytes);
    lh_histogram_observe(&vectord->metrics.checkpoint_time, took);
    lh_log_line(vectord->options.log, LH_LOG_INFO, "checkpoint written",
                LH_LOG_TEXT("index", index->name), LH_LOG_U64("lsn", checkpoint->lsn),
                LH_LOG_U64("bytes", checkpoint->bytes), LH_LOG_U64("ms", took / NANOS_A_MS));
}

static void note_failure(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    uint64_t backoff = lh_clock_backoff_ms(vectord->checkpoint_backoff_ms);
    vectord->checkpoint_backoff_ms = backoff;
    vectord->checkpoint_retry_ns = vectord->options.clock_ns() + backoff * NANOS_A_MS;
    lh_counter_add(&vectord->metrics.checkpoint_failures, 1);
    lh_log_line(vectord->options.log, LH_LOG_ERROR, "a checkpoint failed",
                LH_LOG_TEXT("index", index->name), LH_LOG_TEXT("reason", checkpoint->error.text),
                LH_LOG_U64("retry_ms", backoff));
}

static void end(struct lh_vectord *vectord)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    struct lh_index *index = checkpoint->index;
    if (checkpoint->status == LH_OK) {
        note_success(vectord, index);
        lh__remote_upload(vectord, index);
    } else {
        note_failure(vectord, index);
    }
    bool was_lost = checkpoint->status != LH_OK && index->wants_checkpoint;
    answer_asked(vectord, index);
    index->wants_checkpoint |= was_lost;
    free(checkpoint->parts);
    free(checkpoint->sections);
    lh_buf_deinit(&checkpoint->job.bytes);
    *checkpoint = (struct lh_checkpoint){0};
    if (--index->in_flight == 0 && index->drop != NULL)
        lh__index_drop_now(vectord, index);
    lh__reshard_tick(vectord, index, false);
    lh__checkpoint_next(vectord);
}

static void fail(struct lh_vectord *vectord, enum lh_status status, const struct lh_error *error)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    if (checkpoint->status != LH_OK)
        return;
    checkpoint->status = status;
    checkpoint->error = *error;
    checkpoint->error.status = status;
    if (error->text[0] == '\0')
        lh_error_set(&checkpoint->error, status, "%s", lh_status_text(status));
}

/* ---- its way ---- */

static void send_parts(struct lh_vectord *vectord, enum lh_part_kind kind)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    struct lh_index *index = checkpoint->index;
    checkpoint->parts_out = index->shard_count;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        struct lh_part *part = &checkpoint->parts[i];
        lh__vectord_aim(part, kind, index, i);
        part->status = LH_OK;
        enum lh_status status = lh_actor_send(&index->shards[i].worker->actor, &part->head);
        assert(status == LH_OK); /* workers stop after vectord */
        (void)status;
    }
}

static void send_job(struct lh_vectord *vectord, enum lh_job_kind kind)
{
    vectord->checkpoint.job.kind = kind;
    lh__vectord_send_job(vectord, &vectord->checkpoint.job);
}

static void begin(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    *checkpoint = (struct lh_checkpoint){.index = index,
                                         .lsn = index->lsn,
                                         .started_ns = vectord->options.clock_ns(),
                                         .unsaved_bytes = index->unsaved_bytes};
    checkpoint->job.index = index;
    checkpoint->job.v1 = index->v1;
    checkpoint->job.file = -1;
    lh_lhv1_paths(index->name, &checkpoint->job.paths);
    snprintf(checkpoint->job.v1_path, sizeof checkpoint->job.v1_path, "%s.v1",
             checkpoint->job.paths.file);
    index->in_flight++;
    checkpoint->parts = calloc(index->shard_count, sizeof *checkpoint->parts);
    checkpoint->sections = calloc(index->shard_count, sizeof *checkpoint->sections);
    if (checkpoint->parts == NULL || checkpoint->sections == NULL) {
        fail(vectord, LH_OUT_OF_MEMORY, &(struct lh_error){.status = LH_OUT_OF_MEMORY});
        end(vectord);
        return;
    }
    for (uint32_t i = 0; i < index->shard_count; i++) {
        struct lh_part *part = &checkpoint->parts[i];
        part->head.type = LH_MSG_PART;
        part->home = &vectord->actor;
        part->index = index;
        part->section = &checkpoint->sections[i];
        part->section->persister = &vectord->options.persister->actor;
    }
    send_parts(vectord, LH_PART_FREEZE);
}

/* How long each worker leaves the processor to searches behind a block. */
static uint64_t rest_ns(const struct lh_vectord *vectord)
{
    const struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    uint64_t workers = checkpoint->index->shard_count;
    if (workers > vectord->options.worker_count)
        workers = vectord->options.worker_count;
    uint64_t blocks = 1 + checkpoint->bytes / LH_SECTION_BLOCK_BYTES / workers; /* of one worker */
    if (vectord->tick != NULL || is_log_over(vectord, LOG_TO_LIMIT))
        return 0;
    return REST_NS * blocks < RESTS_NS_MAX ? REST_NS : RESTS_NS_MAX / blocks;
}

static void frozen(struct lh_vectord *vectord)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    uint64_t offset = lh_lhv1_envelope_room(checkpoint->index->shard_count);
    for (uint32_t i = 0; i < checkpoint->index->shard_count; i++) {
        struct lh_section_job *section = &checkpoint->sections[i];
        section->offset = offset;
        offset +=
            (section->length + LH_LHV1_ALIGN_BYTES - 1) / LH_LHV1_ALIGN_BYTES * LH_LHV1_ALIGN_BYTES;
        checkpoint->bytes = section->offset + section->length;
    }
    for (uint32_t i = 0; i < checkpoint->index->shard_count; i++)
        checkpoint->sections[i].rest_ns = rest_ns(vectord);
    if (checkpoint->status == LH_OK)
        send_job(vectord, LH_JOB_BEGIN);
    else
        send_parts(vectord, LH_PART_THAW);
}

/* Every byte is written: the envelope is left. */
static void streamed(struct lh_vectord *vectord)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    struct lh_index *index = checkpoint->index;
    struct lh_lhv1_envelope envelope = {
        .version = 2, .lsn = checkpoint->lsn, .created_at_ms = lh_clock_wall_ms()};
    struct lh_lhv1_section sections[LH_SHARDS_MAX];
    lh__index_params(index, &envelope.params);
    envelope.sections = sections;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        const struct lh_section_job *section = &checkpoint->sections[i];
        sections[i] = (struct lh_lhv1_section){.offset = section->offset,
                                               .length = section->length,
                                               .xxh3 = section->xxh3,
                                               .count = section->count};
        envelope.count += section->count;
    }
    if (checkpoint->status == LH_OK &&
        lh_lhv1_envelope_encode(&envelope, &checkpoint->job.bytes) != LH_OK)
        fail(vectord, LH_OUT_OF_MEMORY, &(struct lh_error){.status = LH_OUT_OF_MEMORY});
    send_job(vectord, checkpoint->status == LH_OK ? LH_JOB_FINISH : LH_JOB_ABANDON);
}

void lh__checkpoint_part_back(struct lh_vectord *vectord, struct lh_part *part)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    enum lh_part_kind kind = part->kind;
    if (part->status != LH_OK)
        fail(vectord, part->status, &part->section->error);
    assert(checkpoint->parts_out > 0);
    if (--checkpoint->parts_out > 0)
        return;
    if (kind == LH_PART_FREEZE)
        frozen(vectord);
    else if (kind == LH_PART_STREAM)
        streamed(vectord);
    else
        end(vectord); /* thawed */
}

void lh__checkpoint_job_back(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_checkpoint *checkpoint = &vectord->checkpoint;
    assert(job == &checkpoint->job);
    if (job->status != LH_OK)
        fail(vectord, job->status, &job->error);
    if (job->kind == LH_JOB_BEGIN && checkpoint->status == LH_OK) {
        for (uint32_t i = 0; i < checkpoint->index->shard_count; i++)
            checkpoint->sections[i].file = job->file;
        send_parts(vectord, LH_PART_STREAM);
    } else if (job->kind == LH_JOB_BEGIN) {
        send_parts(vectord, LH_PART_THAW);
    } else if (job->kind == LH_JOB_FINISH && checkpoint->status != LH_OK) {
        send_job(vectord, LH_JOB_ABANDON);
    } else {
        end(vectord);
    }
}

/* ---- when ---- */

/* Whoever waits for an answer does not wait out what another index's failure costs. */
static bool is_anyone_waiting(const struct lh_vectord *vectord)
{
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        if (vectord->indexes[i]->asked.first != NULL)
            return true;
    }
    return false;
}

void lh__checkpoint_next(struct lh_vectord *vectord)
{
    if (vectord->checkpoint.index != NULL || vectord->options.persister == NULL ||
        (vectord->options.clock_ns() < vectord->checkpoint_retry_ns && !is_anyone_waiting(vectord)))
        return;
    if (vectord->stop_deadline_ns != 0 && vectord->options.clock_ns() > vectord->stop_deadline_ns)
        return;
    struct lh_index *index = find_due(vectord);
    if (index != NULL)
        begin(vectord, index);
}

void lh__checkpoint_ask(struct lh_vectord *vectord, struct lh_request *request,
                        struct lh_index *index)
{
    if (vectord->options.persister == NULL) {
        lh__vectord_fail(vectord, request, LH_NOT_IMPLEMENTED,
                         "the server keeps nothing on disk: it was started without "
                         "vectord.data_dir");
        return;
    }
    if (index->unsaved_lsn == 0 && index->v1 == LH_V1_NONE) {
        lh__index_info(vectord, request, index); /* its file holds everything already */
        return;
    }
    request->record.lsn = index->lsn;
    index->wants_checkpoint = true;
    lh_msg_queue_put(&index->asked, &request->head);
    vectord->checkpoint_retry_ns = 0; /* someone asks: now */
    lh__checkpoint_next(vectord);
}

void lh__checkpoint_withdraw(struct lh_vectord *vectord, struct lh_index *index)
{
    while (index->asked.first != NULL) {
        struct lh_request *request = (struct lh_request *)lh_msg_queue_take(&index->asked);
        lh__vectord_fail(vectord, request, LH_INDEX_NOT_FOUND, "index \"%s\" has been deleted",
                         index->name);
    }
}

static void mark_all(struct lh_vectord *vectord)
{
    for (uint32_t i = 0; i < vectord->index_count; i++)
        vectord->indexes[i]->wants_checkpoint |= vectord->indexes[i]->unsaved_lsn != 0;
}

/* The last tick is held until all that can be kept is in a file, or has failed to be. */
static bool is_stop_over(struct lh_vectord *vectord)
{
    if (vectord->checkpoint.index != NULL || !lh__recover_is_quiet(vectord))
        return false;
    return find_due(vectord) == NULL || vectord->checkpoint_backoff_ms != 0 ||
           vectord->options.clock_ns() > vectord->stop_deadline_ns;
}

/* To the persister; where nothing is kept, back. */
static void tick_on(struct lh_vectord *vectord, struct lh_tick *tick)
{
    struct lh_mailbox *to = vectord->options.persister != NULL
                                ? &vectord->options.persister->actor.mailbox
                                : vectord->options.gateway;
    tick->lsn_least = lsn_least(vectord);
    tick->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(to, &tick->head);
    assert(status == LH_OK); /* both stop after vectord */
    (void)status;
}

void lh__checkpoint_tick(struct lh_vectord *vectord, struct lh_tick *tick)
{
    if (tick->is_stop) {
        mark_all(vectord);
        vectord->tick = tick;
        vectord->stop_deadline_ns = vectord->options.clock_ns() + STOP_MS * NANOS_A_MS;
        vectord->checkpoint_retry_ns = 0;
        vectord->checkpoint_backoff_ms = 0;
    }
    lh__index_retry_removals(vectord);
    for (uint32_t i = 0; i < vectord->index_count; i++)
        lh__reshard_tick(vectord, vectord->indexes[i], tick->is_stopping);
    lh__checkpoint_next(vectord);
    if (!tick->is_stop)
        tick_on(vectord, tick);
}

void lh__checkpoint_try_stop(struct lh_vectord *vectord)
{
    struct lh_tick *tick = vectord->tick;
    if (tick == NULL || !is_stop_over(vectord))
        return;
    vectord->tick = NULL;
    tick_on(vectord, tick);
}
