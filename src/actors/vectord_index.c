/* Indexes come and go. Runs on vectord's thread.
 *
 * A name is taken from the moment that its creation starts, and free from the moment that its
 * deletion starts; only then are its shards made or destroyed by their workers. */
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

static void encode_info(struct lh_buf *out, const struct lh_index *index)
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
                  "\"state\":\"ready\",\"bytes\":%llu,\"lsn\":%llu,\"checkpoint_lsn\":0}",
                  index->name, index->graph.dimension, distance_name(index->graph.distance),
                  index->graph.m, index->graph.ef_construction, index->ef_search,
                  index->shard_count, (unsigned long long)count, (unsigned long long)bytes,
                  (unsigned long long)index->lsn);
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
        if (vectord->indexes[i]->lsn == 0)
            continue; /* being made */
        if (listed++ > 0)
            lh_buf_append_char(out, ',');
        encode_info(out, vectord->indexes[i]);
    }
    lh_buf_printf(out, "],\"count\":%u}", listed);
    answer(vectord, request, 200);
}

void lh__index_info(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    encode_info(&request->answer, index);
    answer(vectord, request, 200);
}

/* ---- creation ---- */

static enum lh_status insert(struct lh_vectord *vectord, struct lh_index *index)
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

static void withdraw(struct lh_vectord *vectord, struct lh_index *index)
{
    uint32_t at = 0;
    while (vectord->indexes[at] != index)
        at++;
    vectord->index_count--;
    memmove(&vectord->indexes[at], &vectord->indexes[at + 1],
            (vectord->index_count - at) * sizeof *vectord->indexes);
}

static struct lh_index *make_index(struct lh_vectord *vectord,
                                   const struct lh_index_request *create)
{
    uint32_t shards = create->shards ? create->shards : vectord->options.default_shards;
    struct lh_index *index = calloc(1, sizeof *index + shards * sizeof index->shards[0]);
    if (index == NULL)
        return NULL;
    uuid_t uuid;
    uuid_generate(uuid);
    uuid_unparse_lower(uuid, index->uuid);
    memcpy(index->name, create->name, sizeof index->name);
    index->graph = (struct lh_graph_options){.dimension = create->dimension,
                                             .distance = (enum lh_distance)create->distance,
                                             .m = create->m,
                                             .ef_construction = create->ef_construction,
                                             .seed = ++vectord->seed};
    index->ef_search = create->ef_search;
    index->shard_count = shards;
    for (uint32_t i = 0; i < shards; i++)
        index->shards[i].worker = &vectord->options.workers[i % vectord->options.worker_count];
    return index;
}

void lh__index_create(struct lh_vectord *vectord, struct lh_request *request)
{
    const struct lh_index_request *create = &request->create;
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
    if (index == NULL || insert(vectord, index) != LH_OK) {
        free(index);
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for an index");
        return;
    }
    if (lh__vectord_make_parts(vectord, request, index, index->shard_count) != LH_OK) {
        withdraw(vectord, index);
        free(index);
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
    char text[17];
    struct lh_index *index = request->index;
    for (uint32_t i = 0; i < request->part_count; i++) {
        if (request->parts[i].status == LH_OK)
            continue;
        /* Some shards could not be made: undo the others, then say so. */
        lh_error_set(&request->error, LH_OUT_OF_MEMORY, "not enough memory for %u shards",
                     index->shard_count);
        withdraw(vectord, index);
        index->drop = request;
        lh__index_drop_now(vectord, index);
        return;
    }
    index->lsn = ++vectord->lsn;
    lh_log_line(vectord->options.log, LH_LOG_INFO, "index created",
                LH_LOG_STR("request_id", id_text(request, text)), LH_LOG_TEXT("index", index->name),
                LH_LOG_U64("dimension", index->graph.dimension),
                LH_LOG_U64("shards", index->shard_count));
    encode_info(&request->answer, index);
    answer(vectord, request, 201);
}

/* ---- deletion ---- */

void lh__index_drop(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    if (lh__vectord_make_parts(vectord, request, index, index->shard_count) != LH_OK) {
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory to delete");
        return;
    }
    vectord->lsn++;
    withdraw(vectord, index);
    index->drop = request;
    if (index->in_flight == 0)
        lh__index_drop_now(vectord, index);
}

void lh__index_drop_now(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_request *request = index->drop;
    index->drop = NULL;
    request->op = LH_OP_INDEX_DROP;
    request->stage = LH_STAGE_GATHER;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        lh__vectord_aim(&request->parts[i], LH_PART_DROP, index, i);
        lh__vectord_send(vectord, request, &request->parts[i], index->shards[i].worker);
    }
}

void lh__index_dropped(struct lh_vectord *vectord, struct lh_request *request)
{
    char text[17];
    struct lh_index *index = request->index;
    lh_log_line(vectord->options.log, LH_LOG_INFO, "index deleted",
                LH_LOG_STR("request_id", id_text(request, text)),
                LH_LOG_TEXT("index", index->name));
    request->index = NULL;
    free(index);
    answer(vectord, request, 204);
}
