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
    request->stage = LH_STAGE_ANSWER;
    request->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(vectord->options.gateway, &request->head);
    assert(status == LH_OK); /* the gateway's mailbox closes last */
    (void)status;
}

void lh__vectord_encode(struct lh_vectord *vectord, struct lh_request *request)
{
    (void)vectord;
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

/* A request arrives from a decoder or from the gateway. */
static void route(struct lh_vectord *vectord, struct lh_request *request)
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
    if (index == NULL || index->lsn == 0) { /* 0: still being made */
        lh__vectord_fail(vectord, request, LH_INDEX_NOT_FOUND, "there is no index \"%s\"",
                         request->index_name);
        return;
    }
    switch (request->op) {
    case LH_OP_INDEX_GET:
        lh__index_info(vectord, request, index);
        break;
    case LH_OP_INDEX_DROP:
        lh__index_drop(vectord, request, index);
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
    struct lh_index *index = request->index;
    note_shard(vectord, index, part);
    request->counts.added += part->counts.added;
    request->counts.updated += part->counts.updated;
    request->counts.deleted += part->counts.deleted;
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
    default:
        break;
    }
    if (request->stage == LH_STAGE_RESERVE)
        lh__items_reserved(vectord, request);
    else
        lh__items_gathered(vectord, request);
    if (index->drop != NULL && index->in_flight == 0)
        lh__index_drop_now(vectord, index);
}

static void publish(struct lh_vectord *vectord)
{
    lh_counter_set(&vectord->metrics.indexes, vectord->index_count);
    lh_counter_set(&vectord->metrics.items, vectord->items);
    lh_counter_set(&vectord->metrics.bytes, vectord->bytes);
    lh_counter_set(&vectord->metrics.lsn, vectord->lsn);
}

static void run(void *arg)
{
    struct lh_vectord *vectord = arg;
    while (lh_actor_wait(&vectord->actor)) {
        struct lh_msg *msg;
        while ((msg = lh_actor_next(&vectord->actor)) != NULL) {
            if (msg->type == LH_MSG_PART) {
                part_back(vectord, (struct lh_part *)msg);
            } else {
                assert(msg->type == LH_MSG_REQUEST);
                route(vectord, (struct lh_request *)msg);
            }
        }
        publish(vectord);
    }
}

void lh_vectord_init(struct lh_vectord *vectord, const struct lh_vectord_options *options)
{
    *vectord = (struct lh_vectord){.options = *options, .seed = lh_clock_wall_ms()};
    lh_actor_init(&vectord->actor, "vectord", run, vectord);
}

void lh_vectord_deinit(struct lh_vectord *vectord)
{
    /* The workers' threads have ended: their shards are ours to free. */
    for (uint32_t i = 0; i < vectord->index_count; i++) {
        struct lh_index *index = vectord->indexes[i];
        for (uint32_t s = 0; s < index->shard_count; s++)
            lh_shard_destroy(index->shards[s].shard);
        free(index);
    }
    free(vectord->indexes);
    lh_actor_deinit(&vectord->actor);
}
