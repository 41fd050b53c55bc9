/* Admission and answers. Runs on the loop thread.
 *
 * A request that needs shards takes credits and gives them back with its answer
 * (actors/admission.h). Without any it waits, and as a connection has one request in flight, its
 * socket is not read meanwhile; when too many wait, the answer is 503. A caller that comes again
 * before the second is over that Retry-After asked for gets its next 503 a second later: to refuse
 * a flood as fast as it comes would take the loop away from everybody else. (Every request touches
 * every shard of its index, so one count a lane says the same as one a shard and lane.)
 *
 * Credits bound what small answers can take. A search that asks for much comes back here once it is
 * decoded, with the bytes that its answer is expected to take, and goes on when all such answers
 * that are in flight leave room for it; at least one always does. */
#include "actors/gateway.h"

#include "base/clock.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS        100000000ull  /* 0.1 s between two ticks behind the gateway */
#define RETRY_AFTER_NS 1000000000ull /* as a 503 says */
#define HELD_MAX       8192u /* refused and not told yet; clients that went away are among them */

enum lh_status lh_gateway_init(struct lh_gateway *gateway, const struct lh_gateway_options *options)
{
    *gateway = (struct lh_gateway){.options = *options};
    lh_notify_init(&gateway->notify);
    lh_admission_init(&gateway->admission, options->search_credits, options->add_credits);
    lh_http_openapi(lh_routes, lh_route_count, &gateway->openapi);
    return lh_buf_failed(&gateway->openapi) ? LH_OUT_OF_MEMORY : LH_OK;
}

void lh_gateway_deinit(struct lh_gateway *gateway)
{
    lh_notify_deinit(&gateway->notify);
    lh_buf_deinit(&gateway->openapi);
}

/* ---- in ---- */

void lh_gateway_on_head(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    (void)lh_access_check(gateway->access, call);
}

/* What the route's row could not say: which indexes may be named in the body, or listed. False:
 * answered. */
static bool limit_indexes(struct lh_gateway *gateway, struct lh_http_call *call,
                          struct lh_request *request)
{
    const struct lh_token *token;
    if (request->op != LH_OP_INDEX_CREATE && request->op != LH_OP_INDEX_LIST)
        return true;
    if (!lh_access_token(gateway->access, call, &token))
        return false;
    if (lh_reach_init(&request->reach, token) == LH_OK)
        return true;
    lh_http_answer_error(call, &(struct lh_error){.status = LH_OUT_OF_MEMORY});
    return false;
}

enum lh_status lh__gateway_durability(const struct lh_gateway *gateway,
                                      const struct lh_http_call *call,
                                      enum lh_durability *durability, struct lh_error *error)
{
    static const struct lh_str names[] = {{"commit", 6}, {"interval", 8}, {"none", 4}};
    struct lh_str text;
    *durability = gateway->options.durability;
    if (!lh_http_call_query(call, "durability", &text))
        return LH_OK;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (!lh_str_eq(text, names[i]))
            continue;
        if (i < gateway->options.durability)
            return lh_error_set(error, LH_INVALID_ARGUMENT,
                                "durability: \"%s\" is more than the server is configured for, "
                                "which is \"%s\"",
                                names[i].ptr, names[gateway->options.durability].ptr);
        *durability = (enum lh_durability)i;
        return LH_OK;
    }
    return lh_error_set(error, LH_INVALID_ARGUMENT,
                        "durability: \"%.*s\" is not commit, interval or none",
                        (int)(text.len < 40 ? text.len : 40), text.ptr);
}

struct lh_request *lh__gateway_request(struct lh_gateway *gateway, struct lh_http_call *call,
                                       enum lh_op op)
{
    struct lh_error error;
    enum lh_durability durability = LH_DURABILITY_COMMIT;
    struct lh_str name = {0};
    if (op != LH_OP_INDEX_CREATE && op != LH_OP_INDEX_LIST) {
        name = lh_http_call_param(call, 0);
        if (!lh_index_name_is_valid(name)) {
            lh_error_set(&error, LH_INDEX_NOT_FOUND, "there is no index \"%.*s\"",
                         (int)(name.len < 100 ? name.len : 100), name.ptr);
            lh_http_answer_error(call, &error);
            return NULL;
        }
    }
    if (op >= LH_OP_ADD && lh__gateway_durability(gateway, call, &durability, &error) != LH_OK) {
        lh_http_answer_error(call, &error);
        return NULL;
    }
    struct lh_request *request = lh_request_create(op);
    if (request == NULL) {
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the request");
        lh_http_answer_error(call, &error);
        return NULL;
    }
    if (name.len > 0)
        memcpy(request->index_name, name.ptr, name.len);
    request->durability = durability;
    request->ticket = lh_http_call_ticket(call);
    request->request_id = lh_http_call_request_id(call);
    if (!limit_indexes(gateway, call, request)) {
        lh_request_destroy(request);
        return NULL;
    }
    if (lh_admission_lane(request) == LH_LANE_EXPRESS)
        request->deadline_ns = lh_clock_ns() + gateway->options.search_timeout_ms * 1000000;
    request->caller = lh_access_caller(gateway->access, call);
    request->caller->pins++;
    gateway->in_flight++;
    return request;
}

/* Index operations are few and small: they need no credit. */
static bool needs_credit(const struct lh_request *request)
{
    return request->op >= LH_OP_ADD;
}

static bool needs_decoding(const struct lh_request *request)
{
    switch (request->op) {
    case LH_OP_INDEX_CREATE:
    case LH_OP_INDEX_RESHARD:
    case LH_OP_ADD:
    case LH_OP_NDJSON:
    case LH_OP_SEARCH:
    case LH_OP_ITEMS_DELETE:
        return true;
    default:
        return false;
    }
}

static void send_to(struct lh_actor *to, struct lh_request *request)
{
    enum lh_status status = lh_actor_send(to, &request->head);
    assert(status == LH_OK); /* the actors stop after the loop */
    (void)status;
}

/* Half of the decoders are for large bodies, which so hold up nobody but one another. */
static struct lh_actor *choose_decoder(struct lh_gateway *gateway, size_t body_bytes)
{
    uint32_t half = gateway->decoder_count / 2;
    uint32_t i = gateway->next_decoder++ % half;
    return &gateway->decoders[body_bytes < LH_LARGE_BODY_BYTES ? i : half + i].actor;
}

static void dispatch(struct lh_gateway *gateway, struct lh_request *request)
{
    struct lh_actor *to = &gateway->vectord->actor;
    request->decoder = choose_decoder(gateway, request->body.len);
    request->stage = LH_STAGE_ROUTE;
    if (needs_decoding(request)) {
        request->stage = LH_STAGE_DECODE;
        to = request->decoder;
    }
    send_to(to, request);
}

static void answer_error(struct lh_gateway *gateway, struct lh_request *request)
{
    struct lh_http_call *call = lh_http_find(gateway->http, request->ticket);
    if (call == NULL)
        return;
    if (request->error.status == LH_ITEM_NOT_FOUND && request->text.len > 0)
        lh_error_set(&request->error, LH_ITEM_NOT_FOUND, "index \"%.60s\" has no item \"%.*s\"",
                     request->index_name, (int)(request->text.len < 60 ? request->text.len : 60),
                     request->text.ptr);
    lh_http_answer_error(call, &request->error);
}

/* Ends a request that the shards have not seen. */
static void refuse(struct lh_gateway *gateway, struct lh_request *request)
{
    if (request->stream != NULL) {
        lh__ndjson_back(gateway, request);
        return;
    }
    answer_error(gateway, request);
    lh__gateway_release(gateway, request);
}

/* The same, but a caller that does not wait as it was told is made to. */
static void refuse_paced(struct lh_gateway *gateway, struct lh_request *request)
{
    struct lh_caller *caller = request->caller;
    uint64_t now = lh_clock_ns();
    gateway->refused++;
    if (caller->refused_ns == 0 || now - caller->refused_ns >= RETRY_AFTER_NS) {
        caller->refused_ns = now;
        refuse(gateway, request);
        return;
    }
    lh_buf_deinit(&request->body);
    lh_http_server_body_done(gateway->http, request->body_bytes);
    request->body_bytes = 0;
    request->deadline_ns = now + RETRY_AFTER_NS;
    lh_msg_queue_put(&gateway->held, &request->head);
    if (gateway->held.count > HELD_MAX)
        refuse(gateway, (struct lh_request *)lh_msg_queue_take(&gateway->held));
}

/* Tells those whose time has come; all of them when the server stops. */
static void refuse_held(struct lh_gateway *gateway)
{
    bool is_stopping = lh_http_server_is_stopping(gateway->http);
    uint64_t now = lh_clock_ns();
    struct lh_request *request;
    while ((request = (struct lh_request *)gateway->held.first) != NULL &&
           (is_stopping || request->deadline_ns <= now)) { /* the oldest stands first */
        lh_msg_queue_take(&gateway->held);
        refuse(gateway, request);
    }
}

/* Sends on what has come to its turn. */
static void admit_waiting(struct lh_gateway *gateway, enum lh_lane lane)
{
    struct lh_request *request;
    while ((request = lh_admission_take(&gateway->admission, lane)) != NULL) {
        if (lane == LH_LANE_EXPRESS && lh_http_find(gateway->http, request->ticket) == NULL) {
            lh_admission_give(&gateway->admission, request);
            refuse(gateway, request); /* nobody waits for it any more */
        } else {
            dispatch(gateway, request);
        }
    }
}

void lh__gateway_admit(struct lh_gateway *gateway, struct lh_request *request)
{
    enum lh_lane lane = lh_admission_lane(request);
    if (!needs_credit(request)) {
        dispatch(gateway, request);
        return;
    }
    if (lh_admission_put(&gateway->admission, request, lh_clock_ns())) {
        admit_waiting(gateway, lane);
        return;
    }
    lh_error_set(
        &request->error, LH_OVERLOADED, "%zu requests wait, %zu of them of this caller: try again",
        gateway->admission.lanes[lane].waiting, request->caller->lines[lane].waiting.count);
    refuse_paced(gateway, request);
}

/* ---- out ---- */

void lh__gateway_give_credits(struct lh_gateway *gateway, struct lh_request *request)
{
    if (request->credits == 0)
        return;
    lh_admission_give(&gateway->admission, request);
    admit_waiting(gateway, lh_admission_lane(request));
}

static void admit_answers(struct lh_gateway *gateway)
{
    struct lh_msg_queue *waiting = &gateway->waiting_answers;
    while (waiting->first != NULL) {
        struct lh_request *request = (struct lh_request *)waiting->first;
        uint64_t bytes = gateway->answer_bytes + request->answer_bytes;
        if (gateway->answer_bytes > 0 && bytes > gateway->options.answer_bytes_max)
            return;
        lh_msg_queue_take(waiting);
        gateway->answer_bytes = bytes;
        request->holds_answer_bytes = true;
        request->stage = LH_STAGE_ROUTE;
        send_to(&gateway->vectord->actor, request);
    }
}

static void give_answer_bytes(struct lh_gateway *gateway, struct lh_request *request)
{
    if (!request->holds_answer_bytes)
        return;
    request->holds_answer_bytes = false;
    assert(gateway->answer_bytes >= request->answer_bytes);
    gateway->answer_bytes -= request->answer_bytes;
    admit_answers(gateway);
}

void lh__gateway_release(struct lh_gateway *gateway, struct lh_request *request)
{
    lh__gateway_give_credits(gateway, request);
    give_answer_bytes(gateway, request);
    lh_http_server_body_done(gateway->http, request->body_bytes);
    request->caller->pins--;
    lh_request_destroy(request);
    gateway->in_flight--;
}

void lh_gateway_on_message(struct lh_msg *msg, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_request *request = (struct lh_request *)msg;
    if (msg->type == LH_MSG_TICK) {
        gateway->is_tick_out = false;
        lh_notify_alive(&gateway->notify, lh_clock_ns()); /* vectord and the persister answer */
        if (gateway->tick.is_stop)
            lh_http_server_finish(gateway->http);
        return;
    }
    if (msg->type == LH_MSG_QUERY_PIECE) {
        lh_queryd_on_piece(gateway->queryd, (struct lh_query_piece *)msg);
        return;
    }
    if (msg->type == LH_MSG_INGEST || msg->type == LH_MSG_INGEST_READY) {
        lh_ingestd_on_message(gateway->ingestd, msg);
        return;
    }
    if (msg->type == LH_MSG_CATALOG) {
        lh__catalog_back(gateway, (struct lh_catalog_call *)msg);
        return;
    }
    if (msg->type == LH_MSG_TRANSFER) {
        lh__object_back(gateway, (struct lh_transfer *)msg);
        return;
    }
    assert(msg->type == LH_MSG_REQUEST);
    if (request->stage == LH_STAGE_ADMIT) {
        lh_msg_queue_put(&gateway->waiting_answers, msg);
        admit_answers(gateway);
        return;
    }
    assert(request->stage == LH_STAGE_ANSWER);
    if (request->stream != NULL) {
        lh__gateway_give_credits(gateway, request);
        lh__ndjson_back(gateway, request);
        return;
    }
    struct lh_http_call *call = lh_http_find(gateway->http, request->ticket);
    if (request->error.status != LH_OK)
        answer_error(gateway, request);
    else if (call != NULL)
        lh_http_answer(call, request->http_status, "application/json", &request->answer);
    lh__gateway_release(gateway, request);
}

static void refuse_expired(struct lh_gateway *gateway, struct lh_request *request)
{
    lh_error_set(&request->error, LH_DEADLINE, "%s", lh_status_text(LH_DEADLINE));
    refuse(gateway, request);
}

/* Searches that have waited past their deadline: for credits, and for room for their answers. */
static void expire(struct lh_gateway *gateway)
{
    uint64_t now = lh_clock_ns();
    struct lh_msg_queue *waiting = &gateway->waiting_answers;
    struct lh_request *request;
    while ((request = lh_admission_expired(&gateway->admission, now)) != NULL)
        refuse_expired(gateway, request);
    while ((request = (struct lh_request *)waiting->first) != NULL && request->deadline_ns != 0 &&
           request->deadline_ns <= now) { /* the oldest stands first */
        lh_msg_queue_take(waiting);
        refuse_expired(gateway, request);
    }
}

/* What is due by time behind the gateway: syncs, checkpoints, the end of the log. */
static void send_tick(struct lh_gateway *gateway)
{
    gateway->is_tick_out = true;
    gateway->tick.head = (struct lh_msg){.type = LH_MSG_TICK, .lane = LH_LANE_EXPRESS};
    enum lh_status status = lh_actor_send(&gateway->vectord->actor, &gateway->tick.head);
    assert(status == LH_OK); /* the actors stop after the loop */
    (void)status;
}

static void notify(struct lh_gateway *gateway)
{
    const struct lh_vectord *vectord = gateway->vectord;
    if (lh_http_server_is_stopping(gateway->http))
        lh_notify_stopping(&gateway->notify);
    else if (vectord == NULL || lh_counter_get(&vectord->metrics.recovering) == 0)
        lh_notify_ready(&gateway->notify);
    if (vectord == NULL)
        lh_notify_alive(&gateway->notify, lh_clock_ns()); /* else when its tick is back */
}

void lh_gateway_on_tick(void *context)
{
    struct lh_gateway *gateway = context;
    if (gateway->queryd != NULL)
        lh_queryd_on_tick(gateway->queryd, gateway->is_stopping);
    if (gateway->ingestd != NULL)
        lh_ingestd_on_tick(gateway->ingestd, gateway->is_stopping);
    bool is_over = gateway->is_stopping && gateway->in_flight == 0 &&
                   (gateway->queryd == NULL || lh_queryd_is_idle(gateway->queryd)) &&
                   (gateway->ingestd == NULL || lh_ingestd_is_idle(gateway->ingestd));
    expire(gateway);
    refuse_held(gateway);
    notify(gateway);
    if (gateway->is_tick_out || gateway->tick.is_stop)
        return;
    uint64_t now = lh_clock_ns();
    if (gateway->vectord == NULL) {
        if (is_over)
            lh_http_server_finish(gateway->http); /* nothing is due behind it */
    } else if (is_over || now - gateway->ticked_ns >= TICK_NS) {
        gateway->ticked_ns = now;
        gateway->tick.is_stopping = gateway->is_stopping;
        gateway->tick.is_stop = is_over;
        send_tick(gateway);
    }
}

void lh_gateway_forward(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    lh_proxy_forward(&gateway->proxy, call);
}

void lh_gateway_on_stopped(void *context)
{
    struct lh_gateway *gateway = context;
    /* Clients are gone; what they sent is still applied, and then the loop ends. */
    gateway->is_stopping = true;
    lh_gateway_on_tick(gateway);
}
