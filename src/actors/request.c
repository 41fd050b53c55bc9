/* A request's memory. Whichever thread holds the request. */
#include "actors/messages.h"

#include "shards/placement.h"
#include <stdio.h>
#include <stdlib.h>

static enum lh_lane lane_of(enum lh_op op)
{
    switch (op) {
    case LH_OP_INDEX_CREATE:
    case LH_OP_INDEX_DROP:
    case LH_OP_ADD:
    case LH_OP_NDJSON:
    case LH_OP_ITEM_DROP:
    case LH_OP_ITEMS_DELETE:
        return LH_LANE_BULK;
    default:
        return LH_LANE_EXPRESS;
    }
}

struct lh_request *lh_request_create(enum lh_op op)
{
    struct lh_request *request = calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->head.type = LH_MSG_REQUEST;
    request->head.lane = lane_of(op);
    request->op = op;
    request->http_status = 200;
    return request;
}

void lh_request_reset(struct lh_request *request)
{
    lh_batch_deinit(&request->batch);
    request->batch = (struct lh_batch){0};
    free(request->hashes);
    free(request->numbers);
    for (uint32_t i = 0; i < request->part_count; i++) {
        lh_found_list_deinit(&request->parts[i].found);
        free(request->parts[i].ends);
        free(request->parts[i].shards);
    }
    free(request->parts);
    request->hashes = NULL;
    request->numbers = NULL;
    request->parts = NULL;
    request->part_count = 0;
    request->index = NULL;
    request->counts = (struct lh_shard_counts){0};
    request->error = (struct lh_error){.status = LH_OK};
    request->late_error = (struct lh_error){.status = LH_OK};
}

enum lh_status lh_request_hash(struct lh_request *request)
{
    const struct lh_batch *batch = &request->batch;
    request->hashes = malloc((batch->count + 1) * sizeof *request->hashes);
    if (request->hashes == NULL)
        return LH_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < batch->count; i++)
        request->hashes[i] = lh_placement_hash(batch->items[i].id);
    return LH_OK;
}

void lh_request_destroy(struct lh_request *request)
{
    if (request == NULL)
        return;
    lh_request_reset(request);
    lh_buf_deinit(&request->body);
    lh_buf_deinit(&request->text);
    lh_reach_deinit(&request->reach);
    lh_buf_deinit(&request->answer);
    free(request);
}

struct lh_peer_note *lh_peer_note_create(enum lh_peer_note_kind kind, const char *name)
{
    struct lh_peer_note *note = calloc(1, sizeof *note);
    if (note == NULL)
        return NULL;
    note->head = (struct lh_msg){.type = LH_MSG_PEER, .lane = LH_LANE_EXPRESS};
    note->kind = kind;
    snprintf(note->name, sizeof note->name, "%s", name);
    return note;
}

void lh_peer_note_destroy(struct lh_peer_note *note)
{
    if (note != NULL)
        free(note->objects);
    free(note);
}
