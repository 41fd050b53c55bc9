/* The decoder threads: stateless work on text, before and after vectord.
 *
 * An express request (a search) overtakes bulk ones here as everywhere. A search whose deadline
 * has passed is answered without being decoded. */
#include "actors/decoder.h"

#include "base/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* What a search's answer takes, as it is found and as text: an expectation, since only the shards
 * know ids and metadata. What it is counted for is in gateway.c. */
#define ANSWER_SMALL_BYTES  65536u
#define RESULT_BYTES        128u  /* id and distance */
#define RESULT_META_BYTES   1024u /* most are shorter */
#define RESULT_NUMBER_BYTES 16u   /* of its vector: a float32, and about 12 characters */

static enum lh_status decode_search(struct lh_decoder *decoder, struct lh_request *request)
{
    enum lh_status status =
        lh_decode_search(decoder, &request->body, &request->search, &request->error);
    if (status != LH_OK)
        return status;
    request->batch = request->search.queries;
    request->search.queries = (struct lh_batch){0};
    return LH_OK;
}

static uint64_t expected_answer_bytes(const struct lh_request *request)
{
    const struct lh_search_request *search = &request->search;
    uint64_t results = (uint64_t)request->batch.count * search->k;
    uint64_t result_bytes = RESULT_BYTES;
    if (search->with_metadata)
        result_bytes += RESULT_META_BYTES;
    if (search->with_vector)
        result_bytes += (uint64_t)request->batch.dimension * RESULT_NUMBER_BYTES;
    return results * result_bytes;
}

static enum lh_status decode(struct lh_decoder *decoder, struct lh_request *request)
{
    struct lh_error *error = &request->error;
    struct lh_ndjson_piece *piece = &request->piece;
    enum lh_status status;
    switch (request->op) {
    case LH_OP_ADD:
        status = lh_decode_items(decoder, &request->body, &request->batch, error);
        return status == LH_OK ? lh_request_hash(request) : status;
    case LH_OP_NDJSON:
        status =
            lh_decode_ndjson(decoder, &request->body, piece->offset, piece->is_last, piece->line,
                             &request->batch, &piece->consumed, &piece->lines, error);
        return status == LH_OK ? lh_request_hash(request) : status;
    case LH_OP_ITEMS_DELETE:
        status = lh_decode_ids(decoder, &request->body, &request->batch, error);
        return status == LH_OK ? lh_request_hash(request) : status;
    case LH_OP_SEARCH:
        return decode_search(decoder, request);
    case LH_OP_INDEX_RESHARD:
        return lh_decode_reshard(decoder, &request->body, &request->create.shards, error);
    case LH_OP_INDEX_CREATE:
        return lh_decode_index(decoder, &request->body, &request->create, error);
    default:
        assert(!"an operation without a body");
        return LH_INTERNAL;
    }
}

/* To the gateway: its mailbox outlives every decoder. */
static void answer(struct lh_decoder_actor *self, struct lh_request *request)
{
    request->stage = LH_STAGE_ANSWER;
    request->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(self->gateway, &request->head);
    assert(status == LH_OK);
    (void)status;
}

static void handle_decode(struct lh_decoder_actor *self, struct lh_request *request)
{
    enum lh_status status = LH_OK;
    if (request->deadline_ns != 0 && lh_clock_ns() > request->deadline_ns)
        status = lh_error_set(&request->error, LH_DEADLINE, "%s", lh_status_text(LH_DEADLINE));
    if (status == LH_OK)
        status = decode(self->decoder, request);
    if (status != LH_OK) {
        if (request->error.status == LH_OK)
            lh_error_set(&request->error, status, "%s", lh_status_text(status));
        answer(self, request);
        return;
    }
    if (request->op == LH_OP_SEARCH && expected_answer_bytes(request) > ANSWER_SMALL_BYTES) {
        request->answer_bytes = expected_answer_bytes(request);
        request->stage = LH_STAGE_ADMIT;
        status = lh_mailbox_push(self->gateway, &request->head);
    } else {
        request->stage = LH_STAGE_ROUTE;
        status = lh_actor_send(self->vectord, &request->head);
    }
    assert(status == LH_OK);
}

static void run(void *arg)
{
    struct lh_decoder_actor *self = arg;
    while (lh_actor_wait(&self->actor)) {
        struct lh_msg *msg = lh_actor_next(&self->actor);
        struct lh_request *request = (struct lh_request *)msg;
        assert(msg->type == LH_MSG_REQUEST);
        if (request->stage == LH_STAGE_DECODE) {
            handle_decode(self, request);
        } else {
            assert(request->stage == LH_STAGE_ENCODE);
            lh_encode_answer(request);
            answer(self, request);
        }
    }
}

enum lh_status lh_decoder_actor_init(struct lh_decoder_actor *self, uint32_t number,
                                     struct lh_actor *vectord, struct lh_mailbox *gateway)
{
    *self = (struct lh_decoder_actor){.vectord = vectord, .gateway = gateway};
    snprintf(self->name, sizeof self->name, "decoder-%u", number);
    lh_actor_init(&self->actor, self->name, run, self);
    return lh_decoder_create(&self->decoder);
}

void lh_decoder_actor_deinit(struct lh_decoder_actor *self)
{
    lh_decoder_destroy(self->decoder);
    lh_actor_deinit(&self->actor);
}
