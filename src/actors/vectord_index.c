/* Indexes come and go. Runs on vectord's thread.
 *
 * A name is taken from the moment that its creation starts until its deletion is over: its shards
 * destroyed, its file gone for good. An index is made in memory first and then logged, and deleted
 * in the log first and then in memory and on disk; so the log always knows more than the disk. */
#include "actors/vectord.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

static const char *distance_name(enum lh_distance distance)
{
    switch (distance) {
    case LH_DISTANCE_COSINE:
        return "cosine";
    case LH_DISTANCE_EUCLIDEAN:
        return "euclidean";
    default:
        return "dot";
    }
}

/* As the answer's X-Request-Id shows it. */
static struct lh_str id_text(const struct lh_request *request, char text[17])
{
    int len = snprintf(text, 17, "%016" PRIx64, request->request_id);
    return (struct lh_str){text, (size_t)len};
}

static const char *state_name(enum lh_index_state state)
{
    if (state == LH_STATE_FAILED)
        return "failed";
    return state == LH_STATE_READY ? "ready" : "loading";
}

void lh__index_encode_info(struct lh_buf *out, const struct lh_index *index)
{
    uint64_t count = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        count += index->shards[i].count;
        bytes += index->shards[i].bytes;
    }
    lh_buf_printf(out,
                  "{\"name\":\"%s\",\"dimension\":%u,\"distance\":\"%s\",\"m\":%u,"
                  "\"ef_construction\":%u,\"ef_search\":%u,\"shards\":%u,\"count\":%llu,"
                  "\"state\":\"%s\",",
                  index->name, index->graph.dimension, distance_name(index->graph.distance),
                  index->graph.m, index->graph.ef_construction, index->ef_search,
                  index->shard_count, (unsigned long long)count, state_name(index->state));
    if (index->state == LH_STATE_FAILED) {
        lh_buf_append_str(out, LH_STR("\"reason\":"));
        lh_buf_append_json_string(out, lh_str_of(index->reason));
        lh_buf_append_char(out, ',');
    }
    lh_buf_printf(out, "\"bytes\":%llu,\"lsn\":%llu,\"checkpoint_lsn\":%llu}",
                  (unsigned long long)bytes, (unsigned long long)index->lsn,
                  (unsigned long long)index->checkpoint_lsn);
}

/* Answers with what is in request->answer. */
static void answer(struct lh_vectord *vectord, struct lh_request *request, int http_status)
{
    request->http_status = http_status;
    if (lh_buf_failed(&request->answer))
        lh_error_set(&request->error, LH_OUT_OF_MEMORY, "not enough memory for the answer");
    lh__vectord_answer(vectord, request);
}

void lh__index_list(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_buf *out = &request->answer;
    uint32_t listed = 0;
    lh_buf_append_str(out, LH_STR("{\"indexes\":["));
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        enum lh_index_state state = vectord->indexes[i]->state;
        if (state == LH_STATE_MAKING || state == LH_STATE_DROPPING ||
            !lh_reach_allows_index(&request->reach, lh_str_of(vectord->indexes[i]->name)))
            continue;
        if (listed++ > 0)
            lh_buf_append_char(out, ',');
        lh__index_encode_info(out, vectord->indexes[i]);
    }
    lh_buf_printf(out, "],\"count\":%u}", listed);
    answer(vectord, request, 200);
}

void lh__index_info(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    lh__index_encode_info(&request->answer, index);
    answer(vectord, request, 200);
}

/* ---- creation ---- */

enum lh_status lh__index_insert(struct lh_vectord *vectord, struct lh_index *index)
{
    if (vectord->index_count == vectord->index_capacity) {
        uint32_t capacity = vectord->index_capacity ? 2 * vectord->index_capacity : 16;
        struct lh_index **indexes = realloc(vectord->indexes, capacity * sizeof *indexes);
        if (indexes == NULL)
            return LH_OUT_OF_MEMORY;
        vectord->indexes = indexes;
        vectord->index_capacity = capacity;
    }
    uint32_t at = vectord->index_count++;
    while (at > 0 && strcmp(vectord->indexes[at - 1]->name, index->name) > 0) {
        vectord->indexes[at] = vectord->indexes[at - 1];
        at--;
    }
    vectord->indexes[at] = index;
    return LH_OK;
}

void lh__index_withdraw(struct lh_vectord *vectord, struct lh_index *index)
{
    uint32_t at = 0;
    while (vectord->indexes[at] != index)
        at++;
    vectord->index_count--;
    memmove(&vectord->indexes[at], &vectord->indexes[at + 1],
            (vectord->index_count - at) * sizeof *vectord->indexes);
}

struct lh_index *lh__index_make(struct lh_vectord *vectord, const struct lh_index_params *params)
{
    uint32_t shards = params->shards;
    struct lh_index *index = calloc(1, sizeof *index);
    if (index == NULL)
        return NULL;
    index->shards = calloc(shards + 1, sizeof *index->shards);
    if (index->shards == NULL) {
        free(index);
        return NULL;
    }
    memcpy(index->uuid_bytes, params->uuid, sizeof index->uuid_bytes);
    uuid_unparse_lower(index->uuid_bytes, index->uuid);
    memcpy(index->name, params->name, sizeof index->name);
    index->graph = (struct lh_graph_options){.dimension = params->dimension,
                                             .distance = (enum lh_distance)params->distance,
                                             .m = params->m,
                                             .ef_construction = params->ef_construction,
                                             .seed = params->seed};
    index->ef_search = params->ef_search;
    index->shard_count = shards;
    for (uint32_t i = 0; i < shards; i++)
        index->shards[i].worker = &vectord->options.workers[i % vectord->options.worker_count];
    return index;
}

void lh__index_free(struct lh_index *index)
{
    if (index != NULL)
        free(index->shards);
    free(index);
}

void lh__index_params(const struct lh_index *index, struct lh_index_params *params)
{
    *params = (struct lh_index_params){.dimension = index->graph.dimension,
                                       .distance = index->graph.distance,
                                       .m = index->graph.m,
                                       .ef_construction = index->graph.ef_construction,
                                       .ef_search = index->ef_search,
                                       .shards = index->shard_count,
                                       .seed = index->graph.seed};
    memcpy(params->name, index->name, sizeof params->name);
    memcpy(params->uuid, index->uuid_bytes, sizeof params->uuid);
}

static struct lh_index *make_index(struct lh_vectord *vectord,
                                   const struct lh_index_request *create)
{
    struct lh_index_params params = {.dimension = create->dimension,
                                     .distance = create->distance,
                                     .m = create->m,
                                     .ef_construction = create->ef_construction,
                                     .ef_search = create->ef_search,
                                     .shards = create->shards ? create->shards
                                                              : vectord->options.default_shards,
                                     .seed = ++vectord->seed};
    memcpy(params.name, create->name, sizeof params.name);
    uuid_generate(params.uuid);
    return lh__index_make(vectord, &params);
}

void lh__index_create(struct lh_vectord *vectord, struct lh_request *request)
{
    const struct lh_index_request *create = &request->create;
    if (!lh_reach_allows_index(&request->reach, lh_str_of(create->name))) {
        lh__vectord_fail(vectord, request, LH_FORBIDDEN,
                         "the token is limited, and not to index \"%s\"", create->name);
        return;
    }
    if (vectord->recovering.is_on) {
        lh__vectord_fail(vectord, request, LH_INDEX_LOADING,
                         "the log is still being read, and may hold index \"%s\": try again",
                         create->name);
        return;
    }
    if (lh__vectord_find(vectord, create->name) != NULL) {
        lh__vectord_fail(vectord, request, LH_INDEX_ALREADY_EXISTS,
                         "there is an index \"%s\" already", create->name);
        return;
    }
    if (vectord->index_count >= LH_INDEXES_MAX) {
        lh__vectord_fail(vectord, request, LH_LIMIT_EXCEEDED,
                         "there are %u indexes, the limit is %u", vectord->index_count,
                         LH_INDEXES_MAX);
        return;
    }
    uint64_t limit = vectord->options.memory_bytes_max;
    if (limit != 0 && vectord->bytes >= limit) {
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY,
                         "vectors hold %" PRIu64 " bytes, server.memory_max is %" PRIu64,
                         vectord->bytes, limit);
        return;
    }
    struct lh_index *index = make_index(vectord, create);
    if (index == NULL || lh__index_insert(vectord, index) != LH_OK) {
        lh__index_free(index);
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for an index");
        return;
    }
    if (lh__vectord_make_parts(vectord, request, index, index->shard_count) != LH_OK) {
        lh__index_withdraw(vectord, index);
        lh__index_free(index);
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for an index");
        return;
    }
    request->stage = LH_STAGE_GATHER;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        lh__vectord_aim(&request->parts[i], LH_PART_CREATE, index, i);
        lh__vectord_send(vectord, request, &request->parts[i], index->shards[i].worker);
    }
}

void lh__index_created(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    for (uint32_t i = 0; i < request->part_count; i++) {
        if (request->parts[i].status == LH_OK)
            continue;
        lh_error_set(&request->error, LH_OUT_OF_MEMORY, "not enough memory for %u shards",
                     index->shard_count);
        if (request->is_replay) { /* it is on disk, and fails here */
            lh__vectord_answer(vectord, request);
            return;
        }
        /* Some shards could not be made: undo the others, then say so. */
        index->drop = request;
        lh__index_drop_now(vectord, index);
        return;
    }
    if (request->is_replay)
        lh__index_create_logged(vectord, request);
    else
        lh__vectord_log(vectord, request, LH_RECORD_CREATE);
}

void lh__index_create_logged(struct lh_vectord *vectord, struct lh_request *request)
{
    char text[17];
    struct lh_index *index = request->index;
    if (request->entry.status != LH_OK) {
        index->drop = request; /* the log does not know it: undone */
        return;
    }
    if (request->is_replay) {
        if (request->record.lsn != 0)
            lh__vectord_note(vectord, request);
        lh__vectord_answer(vectord, request);
        return;
    }
    index->state = LH_STATE_READY;
    lh_log_line(vectord->options.log, LH_LOG_INFO, "index created",
                LH_LOG_STR("request_id", id_text(request, text)), LH_LOG_TEXT("index", index->name),
                LH_LOG_U64("dimension", index->graph.dimension),
                LH_LOG_U64("shards", index->shard_count));
    lh__index_encode_info(&request->answer, index);
    answer(vectord, request, 201);
}

/* ---- deletion ---- */

void lh__index_drop(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    if (vectord->recovering.is_on && index->state == LH_STATE_FAILED) {
        lh__vectord_fail(vectord, request, LH_INDEX_LOADING,
                         "the log is still being read, and may make index \"%s\" whole: try again",
                         index->name);
        return;
    }
    if (lh__vectord_make_parts(vectord, request, index, index->shard_count) != LH_OK) {
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory to delete");
        return;
    }
    index->state = LH_STATE_DROPPING;
    if (index->shard_count == 0) { /* its file failed: there is nothing but that */
        lh__index_dropped(vectord, request);
        return;
    }
    lh__vectord_log(vectord, request, LH_RECORD_DROP);
}

void lh__index_drop_logged(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    if (request->entry.status != LH_OK) {
        index->state = index->reason[0] == '\0' ? LH_STATE_READY : LH_STATE_FAILED;
        lh__vectord_answer(vectord, request);
        return;
    }
    if (vectord->options.recovery != NULL)
        lh_recovery_note_drop(vectord->options.recovery, index->uuid_bytes, request->record.lsn);
    index->unsaved_lsn = request->record.lsn; /* the log keeps it until the file is gone */
    index->drop = request;                    /* and goes on when nothing is in flight */
}

void lh__index_drop_now(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_request *request = index->drop;
    index->drop = NULL;
    lh__checkpoint_withdraw(vectord, index);
    request->op = LH_OP_INDEX_DROP;
    request->stage = LH_STAGE_GATHER;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        request->parts[i].status = LH_OK;
        lh__vectord_aim(&request->parts[i], LH_PART_DROP, index, i);
        lh__vectord_send(vectord, request, &request->parts[i], index->shards[i].worker);
    }
}

/* The last of an index, in memory and on disk, is gone. */
static void forget(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    char text[17];
    bool was_made = index->state != LH_STATE_MAKING;
    if (was_made)
        lh_log_line(vectord->options.log, LH_LOG_INFO, "index deleted",
                    LH_LOG_STR("request_id", id_text(request, text)),
                    LH_LOG_TEXT("index", index->name));
    lh__index_withdraw(vectord, index);
    assert(index->asked.first == NULL && index->held.first == NULL);
    request->index = NULL;
    lh__index_free(index);
    answer(vectord, request, 204);
}

/* Its shards are gone; so must its files be. */
void lh__index_dropped(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    if (vectord->options.persister == NULL || index->state == LH_STATE_MAKING)
        forget(vectord, request, index);
    else
        lh__index_remove(vectord, index, request);
}

/* Its files are still there. The index stays, for no one to see: its name must not be used while
 * they are, and the log must say that it is deleted. */
static void keep_removing(struct lh_vectord *vectord, struct lh_index *index,
                          struct lh_request *request, const struct lh_error *error)
{
    lh_log_line(vectord->options.log, LH_LOG_ERROR, "an index's file could not be removed",
                LH_LOG_TEXT("index", index->name), LH_LOG_TEXT("reason", error->text));
    index->wants_removal = true;
    if (request == NULL)
        return;
    lh_error_set(&request->error, error->status,
                 "index \"%.40s\" is deleted, but its file is still there: %.60s", index->name,
                 error->text);
    request->index = NULL;
    lh__vectord_answer(vectord, request);
}

/* Whatever files it may have: a checkpoint that failed may have left one, in whichever place. */
void lh__index_remove(struct lh_vectord *vectord, struct lh_index *index,
                      struct lh_request *request)
{
    struct lh_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        struct lh_error error;
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory");
        keep_removing(vectord, index, request, &error);
        return;
    }
    job->kind = LH_JOB_REMOVE;
    job->index = index;
    job->request = request;
    lh_lhv1_paths(index->name, &job->paths);
    snprintf(job->v1_path, sizeof job->v1_path, "%s.v1", job->paths.file);
    if (index->path[0] != '\0')
        snprintf(job->paths.temp, sizeof job->paths.temp, "%s", index->path);
    if (request == NULL)
        vectord->recovering.removals++;
    lh__remote_mark_gone(vectord, job, index->name, index->uuid_bytes);
    lh__vectord_send_job(vectord, job);
}

void lh__index_removed(struct lh_vectord *vectord, struct lh_job *job)
{
    struct lh_request *request = job->request;
    struct lh_index *index = job->index;
    lh__remote_removed(vectord, job);
    if (job->status != LH_OK) {
        keep_removing(vectord, index, request, &job->error);
    } else if (request != NULL) {
        forget(vectord, request, index);
    } else {
        lh__index_withdraw(vectord, index);
        lh__index_free(index);
    }
    free(job);
    if (request == NULL)
        lh__recover_removed(vectord);
}

void lh__index_retry_removals(struct lh_vectord *vectord)
{
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        if (!index->wants_removal)
            continue;
        index->wants_removal = false;
        lh__index_remove(vectord, index, NULL);
    }
}
