/* The vectord actor: its thread, and the way of a request through it.
 *
 * Runs on its own thread, which owns the registry. Invariants: a request whose parts are out stays
 * allocated until the last is back; an index is destroyed only when nothing of it is in flight. */
#include "actors/vectord.h"

#include "actors/decoder.h"
#include "base/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lh_index *lh__vectord_find(struct lh_vectord *vectord, const char *name)
{
    uint32_t low = 0;
    uint32_t high = vectord->index_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = strcmp(vectord->indexes[middle]->name, name);
        if (order == 0)
            return vectord->indexes[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

enum lh_status lh__vectord_make_parts(struct lh_vectord *vectord, struct lh_request *request,
                                      struct lh_index *index, uint32_t count)
{
    request->parts = calloc(count, sizeof *request->parts);
    if (request->parts == NULL)
        return LH_OUT_OF_MEMORY;
    request->part_count = count;
    request->index = index;
    for (uint32_t i = 0; i < count; i++) {
        struct lh_part *part = &request->parts[i];
        part->head.type = LH_MSG_PART;
        part->request = request;
        part->home = &vectord->actor;
        part->deadline_ns = request->deadline_ns;
        part->batch = &request->batch;
        part->hashes = request->hashes;
        part->graph = index->graph;
        part->index = index;
        /* What all shards find together may be this much. */
        part->options.bytes_max = LH_ANSWER_BYTES_MAX / count;
    }
    return LH_OK;
}

void lh__vectord_aim(struct lh_part *part, enum lh_part_kind kind, const struct lh_index *index,
                     uint32_t shard)
{
    bool is_express = kind == LH_PART_SEARCH || kind == LH_PART_GET || kind == LH_PART_PAGE;
    part->kind = kind;
    part->number = shard;
    part->shard = index->shards[shard].shard;
    part->head.lane = is_express ? LH_LANE_EXPRESS : LH_LANE_BULK;
}

void lh__vectord_send(struct lh_vectord *vectord, struct lh_request *request, struct lh_part *part,
                      struct lh_worker *worker)
{
    (void)vectord;
    if (request->parts_out++ == 0)
        request->index->in_flight++;
    enum lh_status status = lh_actor_send(&worker->actor, &part->head);
    assert(status == LH_OK); /* workers stop after vectord */
    (void)status;
}

void lh__vectord_answer(struct lh_vectord *vectord, struct lh_request *request)
{
    if (request->changing != NULL)
        lh__reshard_change_done(vectord, request);
    if (request->is_copy) {
        lh__reshard_copy_back(vectord, request);
        return;
    }
    if (request->is_replay) {
        lh__recover_applied(vectord, request);
        return;
    }
    request->stage = LH_STAGE_ANSWER;
    request->head.lane = LH_LANE_EXPRESS;
    struct lh_mailbox *to =
        request->reply_to != NULL ? request->reply_to : vectord->options.gateway;
    enum lh_status status = lh_mailbox_push(to, &request->head);
    assert(status == LH_OK); /* who asks stops after vectord */
    (void)status;
}

void lh__vectord_encode(struct lh_vectord *vectord, struct lh_request *request)
{
    if (request->reply_to != NULL) {
        lh__vectord_answer(vectord, request);
        return;
    }
    request->stage = LH_STAGE_ENCODE;
    request->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_actor_send(request->decoder, &request->head);
    assert(status == LH_OK); /* nothing is in flight when decoders stop */
    (void)status;
}

void lh__vectord_fail(struct lh_vectord *vectord, struct lh_request *request, enum lh_status status,
                      const char *format, ...)
{
    va_list args;
    request->error.status = status;
    va_start(args, format);
    vsnprintf(request->error.text, sizeof request->error.text, format, args);
    va_end(args);
    lh__vectord_answer(vectord, request);
}

void lh__vectord_send_job(struct lh_vectord *vectord, struct lh_job *job)
{
    job->head = (struct lh_msg){.type = LH_MSG_JOB, .lane = LH_LANE_EXPRESS};
    job->status = LH_OK;
    enum lh_status status = lh_actor_send(&vectord->options.persister->actor, &job->head);
    assert(status == LH_OK); /* it stops after vectord */
    (void)status;
}

/* ---- the log ---- */

static void logged(struct lh_vectord *vectord, struct lh_request *request);

void lh__vectord_log(struct lh_vectord *vectord, struct lh_request *request,
                     enum lh_record_type type)
{
    struct lh_index *index = request->index;
    request->record = (struct lh_record){.type = type, .batch = request->batch};
    memcpy(request->record.uuid, index->uuid_bytes, sizeof index->uuid_bytes);
    request->record.shards = request->create.shards;
    if (type == LH_RECORD_CREATE)
        lh__index_params(index, &request->record.params);
    index->in_flight++;
    if (vectord->options.persister == NULL) {
        request->record.lsn = vectord->lsn + 1;
        request->entry.status = LH_OK;
        logged(vectord, request);
        return;
    }
    request->stage = LH_STAGE_LOG;
    request->head.lane = LH_LANE_EXPRESS; /* one lane: records keep their order */
    enum lh_status status = lh_actor_send(&vectord->options.persister->actor, &request->head);
    assert(status == LH_OK); /* it stops after vectord */
    (void)status;
}

void lh__vectord_note(struct lh_vectord *vectord, const struct lh_request *request)
{
    struct lh_index *index = request->index;
    assert(request->record.lsn > index->lsn);
    index->lsn = request->record.lsn;
    if (vectord->lsn < index->lsn)
        vectord->lsn = index->lsn;
    if (vectord->options.persister == NULL)
        return;
    if (index->unsaved_lsn == 0) {
        index->unsaved_lsn = index->lsn;
        index->unsaved_since_ns = vectord->options.clock_ns();
    }
    index->unsaved_bytes += lh_record_bytes(&request->record);
}

/* The change is in the log, or is not and will not be. */
static void logged(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    index->in_flight--;
    if (request->entry.status == LH_OK) {
        lh__vectord_note(vectord, request);
    } else {
        lh_error_sys(&request->error, request->entry.status, request->entry.sys_errno,
                     "the log could not be written, nothing was changed");
    }
    switch (request->record.type) {
    case LH_RECORD_CREATE:
        lh__index_create_logged(vectord, request);
        break;
    case LH_RECORD_DROP:
        lh__index_drop_logged(vectord, request);
        break;
    case LH_RECORD_RESHARD:
        lh__reshard_logged(vectord, request);
        return;
    default:
        lh__items_logged(vectord, request);
    }
    if (index->drop != NULL && index->in_flight == 0)
        lh__index_drop_now(vectord, index);
}

/* ---- in ---- */

/* False: the request was answered, for its index is not there or not in a state to serve it. */
static bool is_served(struct lh_vectord *vectord, struct lh_request *request,
                      const struct lh_index *index)
{
    bool is_hidden =
        index == NULL || index->state == LH_STATE_MAKING || index->state == LH_STATE_DROPPING;
    if (is_hidden && vectord->recovering.is_on) {
        lh__vectord_fail(vectord, request, LH_INDEX_LOADING,
                         "the log is still being read, and may hold index \"%s\": try again",
                         request->index_name);
        return false;
    }
    if (is_hidden) {
        lh__vectord_fail(vectord, request, LH_INDEX_NOT_FOUND, "there is no index \"%s\"",
                         request->index_name);
        return false;
    }
    if (index->state == LH_STATE_READY || request->op == LH_OP_INDEX_GET ||
        (index->state == LH_STATE_FAILED && request->op == LH_OP_INDEX_DROP))
        return true;
    if (index->state == LH_STATE_FAILED)
        lh__vectord_fail(vectord, request, LH_INDEX_FAILED, "index \"%.40s\": %.100s", index->name,
                         index->reason);
    else
        lh__vectord_fail(vectord, request, LH_INDEX_LOADING,
                         "index \"%s\" is still being loaded: try again", index->name);
    return false;
}

/* A request arrives from a decoder or from the gateway. */
void lh__vectord_route(struct lh_vectord *vectord, struct lh_request *request)
{
    if (request->op == LH_OP_INDEX_CREATE) {
        lh__index_create(vectord, request);
        return;
    }
    if (request->op == LH_OP_INDEX_LIST) {
        lh__index_list(vectord, request);
        return;
    }
    struct lh_index *index = lh__vectord_find(vectord, request->index_name);
    if (!is_served(vectord, request, index) || lh__reshard_holds(index, request))
        return;
    switch (request->op) {
    case LH_OP_INDEX_GET:
        lh__index_info(vectord, request, index);
        break;
    case LH_OP_INDEX_DROP:
        lh__index_drop(vectord, request, index);
        break;
    case LH_OP_INDEX_RESHARD:
        lh__reshard_begin(vectord, request, index);
        break;
    case LH_OP_INDEX_CHECKPOINT:
        lh__checkpoint_ask(vectord, request, index);
        break;
    case LH_OP_ADD:
    case LH_OP_NDJSON:
        lh__items_add(vectord, request, index);
        break;
    case LH_OP_ITEMS_DELETE:
    case LH_OP_ITEM_DROP:
        lh__items_delete(vectord, request, index);
        break;
    case LH_OP_SEARCH:
        lh__items_search(vectord, request, index);
        break;
    case LH_OP_ITEM_GET:
        lh__items_get(vectord, request, index);
        break;
    case LH_OP_ITEMS_PAGE:
        lh__items_page(vectord, request, index);
        break;
    default:
        assert(!"an operation that no one handles");
    }
}

/* What a shard told about itself with its part. */
static void note_shard(struct lh_vectord *vectord, struct lh_index *index,
                       const struct lh_part *part)
{
    struct lh_index_shard *shard = &index->shards[part->number];
    shard->shard = part->shard;
    if (part->number < index->shard_count) /* a reshard's new set holds the same items again */
        vectord->items += part->shard_count - shard->count;
    vectord->bytes += part->shard_bytes - shard->bytes;
    shard->count = part->shard_count;
    shard->bytes = part->shard_bytes;
    if (part->kind == LH_PART_RESERVE && part->status != LH_OK)
        return; /* nothing was promised */
    shard->room_nodes += (int64_t)part->room.nodes;
    shard->room_bytes += (int64_t)part->room.bytes;
}

static void part_back(struct lh_vectord *vectord, struct lh_part *part)
{
    struct lh_request *request = part->request;
    struct lh_index *index = part->index;
    if (part->is_discard) {
        lh__reshard_part_back(vectord, part);
        return;
    }
    note_shard(vectord, index, part);
    if (part->kind == LH_PART_LOAD) {
        lh__recover_part_back(vectord, part);
        return;
    }
    if (part->section != NULL) {
        lh__checkpoint_part_back(vectord, part);
        return;
    }
    if (part->number < index->shard_count) { /* not of a reshard's new set */
        request->counts.added += part->counts.added;
        request->counts.updated += part->counts.updated;
        request->counts.deleted += part->counts.deleted;
    }
    assert(request->parts_out > 0);
    if (--request->parts_out > 0)
        return;
    index->in_flight--;
    switch (request->op) {
    case LH_OP_INDEX_CREATE:
        lh__index_created(vectord, request);
        return;
    case LH_OP_INDEX_DROP:
        lh__index_dropped(vectord, request);
        return;
    case LH_OP_INDEX_RESHARD:
        lh__reshard_made(vectord, request);
        return;
    default:
        break;
    }
    if (request->is_copy && request->op == LH_OP_ITEMS_PAGE)
        lh__reshard_copy_back(vectord, request);
    else if (request->stage == LH_STAGE_RESERVE)
        lh__items_reserved(vectord, request);
    else
        lh__items_gathered(vectord, request);
    if (index->drop != NULL && index->in_flight == 0)
        lh__index_drop_now(vectord, index);
    lh__reshard_tick(vectord, index, false);
}

static void job_back(struct lh_vectord *vectord, struct lh_job *job)
{
    switch (job->kind) {
    case LH_JOB_REPLAY:
    case LH_JOB_IMPORT:
    case LH_JOB_QUARANTINE:
        lh__recover_job_back(vectord, job);
        break;
    case LH_JOB_ADOPT:
        lh__remote_adopted(vectord, job);
        break;
    case LH_JOB_REMOVE:
        lh__index_removed(vectord, job);
        break;
    default:
        lh__checkpoint_job_back(vectord, job);
    }
}

void lh__vectord_count_states(struct lh_vectord *vectord)
{
    uint64_t arriving = 0;
    uint64_t loading = 0;
    uint64_t failed = 0;
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        arriving += vectord->indexes[i]->state == LH_STATE_ARRIVING;
        loading += vectord->indexes[i]->state == LH_STATE_LOADING;
        failed += vectord->indexes[i]->state == LH_STATE_FAILED;
    }
    lh_counter_set(&vectord->metrics.arriving, arriving);
    lh_counter_set(&vectord->metrics.loading, loading);
    lh_counter_set(&vectord->metrics.failed, failed);
}

static void publish(struct lh_vectord *vectord)
{
    /* Afterwards none loads or fails any more; one that failed may be deleted. */
    if (lh_counter_get(&vectord->metrics.loading) > 0 || vectord->recovering.is_on ||
        lh_counter_get(&vectord->metrics.failed) > 0 ||
        lh_counter_get(&vectord->metrics.indexes) != vectord->index_count)
        lh__vectord_count_states(vectord);
    lh_counter_set(&vectord->metrics.indexes, vectord->index_count);
    lh_counter_set(&vectord->metrics.items, vectord->items);
    lh_counter_set(&vectord->metrics.bytes, vectord->bytes);
    lh_counter_set(&vectord->metrics.lsn, vectord->lsn);
    if (vectord->peer.is_fresh)
        lh__remote_publish(vectord);
}

static void handle(struct lh_vectord *vectord, struct lh_msg *msg)
{
    struct lh_request *request = (struct lh_request *)msg;
    switch (msg->type) {
    case LH_MSG_PART:
        part_back(vectord, (struct lh_part *)msg);
        break;
    case LH_MSG_JOB:
        job_back(vectord, (struct lh_job *)msg);
        break;
    case LH_MSG_PEER:
        lh__remote_note(vectord, (struct lh_peer_note *)msg);
        break;
    case LH_MSG_ARRIVAL:
        lh__remote_arrival(vectord, (struct lh_arrival *)msg);
        break;
    case LH_MSG_TICK:
        lh__checkpoint_tick(vectord, (struct lh_tick *)msg);
        break;
    default:
        assert(msg->type == LH_MSG_REQUEST);
        if (request->stage == LH_STAGE_LOGGED)
            logged(vectord, request);
        else
            lh__vectord_route(vectord, request);
    }
}

bool lh_vectord_turn(struct lh_vectord *vectord, bool sleep)
{
    struct lh_msg *msg;
    if (vectord->options.recovery != NULL && !vectord->recovering.is_on &&
        !vectord->recovering.has_ended) {
        lh__recover_begin(vectord);
        publish(vectord);
        return true;
    }
    if (sleep ? !lh_actor_wait(&vectord->actor) : !lh_actor_poll(&vectord->actor))
        return false;
    while ((msg = lh_actor_next(&vectord->actor)) != NULL)
        handle(vectord, msg);
    lh__checkpoint_try_stop(vectord);
    publish(vectord);
    return true;
}

static void run(void *arg)
{
    while (lh_vectord_turn(arg, true))
        continue;
}

void lh_vectord_init(struct lh_vectord *vectord, const struct lh_vectord_options *options)
{
    *vectord = (struct lh_vectord){.options = *options, .seed = options->seed};
    if (options->seed == 0)
        vectord->seed = lh_clock_wall_ms();
    /* Until it runs, no one may think that all is loaded. */
    lh_counter_set(&vectord->metrics.recovering, options->recovery != NULL);
    lh_actor_init(&vectord->actor, "vectord", run, vectord);
}

void lh_vectord_deinit(struct lh_vectord *vectord)
{
    lh__recover_end_import(vectord);
    /* The workers' threads have ended: their shards are ours to free. */
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        for (uint32_t s = 0; s < index->shard_count; s++)
            lh_shard_destroy(index->shards[s].shard);
        lh__index_free(index);
    }
    lh__remote_deinit(vectord);
    free(vectord->indexes);
    lh_actor_deinit(&vectord->actor);
}
