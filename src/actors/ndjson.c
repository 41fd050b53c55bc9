/* NDJSON bodies: streamed, applied in batches as they come, answered at the end. Loop thread.
 *
 * One piece is at a decoder or a shard at a time; the next one gathers meanwhile, and past two
 * pieces the socket is not read. So a stream of any length holds a few MiB. A piece goes out when
 * it is full, or when its first whole line has waited for APPLY_AFTER_MS: batches are large when
 * lines come fast, and lines that trickle are soon found by searches. Lines are applied in order;
 * the first bad one ends the stream. */
#include "actors/gateway.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define APPLY_AFTER_MS 200u /* a person hardly notices; a batch of so long is worth its way */

struct lh_ndjson {
    struct lh_gateway *gateway;
    struct lh_http_ticket ticket;
    struct lh_request *request; /* the one message of this stream, over and over */
    bool is_out;                /* it is with a decoder, vectord or the shards */
    bool is_gone;               /* the client went away: finish what is out, then free */
    bool has_ended;             /* the last piece of the body has come */
    bool is_paused;
    bool is_out_of_memory; /* what came could not be kept */
    bool has_line;         /* a line ends in `next`: the timer runs, or has run out */
    bool is_overdue;       /* the timer has run out */
    struct lh_timer timer;
    struct lh_buf next; /* what has come since */
    uint64_t lines;     /* lines consumed */
    uint64_t added;
    uint64_t updated;
};

static void destroy(struct lh_ndjson *stream)
{
    assert(!stream->is_out);
    lh_timer_cancel(&stream->timer);
    stream->gateway->streams--;
    lh__gateway_release(stream->gateway, stream->request);
    lh_buf_deinit(&stream->next);
    free(stream);
}

static void finish(struct lh_ndjson *stream, const struct lh_error *error)
{
    struct lh_http_call *call = lh_http_find(stream->gateway->http, stream->ticket);
    struct lh_buf body = LH_BUF_EMPTY;
    struct lh_error told;
    if (call == NULL) {
        destroy(stream);
        return;
    }
    if (error != NULL) {
        char detail[sizeof error->text];
        memcpy(detail, error->text, sizeof detail);
        lh_error_set(&told, error->status, "%.110s; %" PRIu64 " items were applied before", detail,
                     stream->added + stream->updated);
        lh_http_answer_error(call, &told);
    } else {
        lh_buf_printf(&body, "{\"added\":%" PRIu64 ",\"updated\":%" PRIu64 "}", stream->added,
                      stream->updated);
        lh_http_answer(call, 200, "application/json", &body);
    }
    destroy(stream);
}

static void finish_out_of_memory(struct lh_ndjson *stream)
{
    struct lh_error error;
    lh_error_set(&error, LH_OUT_OF_MEMORY, "line %" PRIu64 ": not enough memory",
                 stream->lines + 1);
    finish(stream, &error);
}

static void send(struct lh_ndjson *stream)
{
    struct lh_request *request = stream->request;
    lh_request_reset(request);
    request->head.lane = LH_LANE_BULK;
    request->piece.line = stream->lines + 1;
    request->piece.is_last = stream->has_ended && stream->next.len == 0;
    stream->is_out = true;
    lh__gateway_admit(stream->gateway, request);
}

static bool has_whole_line(const struct lh_ndjson *stream)
{
    const struct lh_request *request = stream->request;
    size_t offset = request->piece.offset;
    return request->body.len > offset &&
           memchr(request->body.ptr + offset, '\n', request->body.len - offset) != NULL;
}

/* Puts what has come since behind what is left of the piece. */
static bool join(struct lh_ndjson *stream)
{
    struct lh_request *request = stream->request;
    lh_buf_consume(&request->body, request->piece.offset);
    request->piece.offset = 0;
    if (request->body.len == 0) {
        struct lh_buf empty = request->body;
        request->body = stream->next;
        stream->next = empty;
    } else {
        lh_buf_append(&request->body, stream->next.ptr, stream->next.len);
    }
    stream->next.len = 0;
    stream->has_line = false;
    stream->is_overdue = false;
    lh_timer_cancel(&stream->timer);
    return !lh_buf_failed(&request->body);
}

static void set_paused(struct lh_ndjson *stream, bool is_paused)
{
    struct lh_http_call *call = lh_http_find(stream->gateway->http, stream->ticket);
    if (call == NULL || stream->is_paused == is_paused)
        return;
    stream->is_paused = is_paused;
    if (is_paused)
        lh_http_call_pause(call);
    else
        lh_http_call_resume(call);
}

/* Decides what to do when nothing is out: send, finish, or wait for more bytes. */
static void advance(struct lh_ndjson *stream)
{
    struct lh_error error;
    if (stream->is_gone) {
        destroy(stream);
        return;
    }
    if (stream->is_out_of_memory) {
        finish_out_of_memory(stream);
        return;
    }
    if (!has_whole_line(stream)) {
        bool is_due =
            stream->has_ended || stream->is_overdue || stream->next.len >= LH_NDJSON_PIECE_BYTES;
        if (!is_due)
            return;
        if (!join(stream)) {
            finish_out_of_memory(stream);
            return;
        }
        if (stream->request->body.len == 0) { /* has_ended, and all of it is applied */
            finish(stream, NULL);
            return;
        }
        if (!has_whole_line(stream) && stream->request->body.len > LH_NDJSON_LINE_BYTES_MAX) {
            lh_error_set(&error, LH_LINE_TOO_LONG, "line %" PRIu64 ": longer than %u bytes",
                         stream->lines + 1, LH_NDJSON_LINE_BYTES_MAX);
            finish(stream, &error);
            return;
        }
        if (!has_whole_line(stream) && !stream->has_ended) {
            set_paused(stream, false);
            return;
        }
    }
    send(stream);
    /* Last: unpausing may deliver bytes at once. */
    set_paused(stream, false);
}

static void on_overdue(struct lh_timer *timer, void *arg)
{
    struct lh_ndjson *stream = arg;
    stream->is_overdue = true;
    if (!stream->is_out)
        advance(stream);
    (void)timer;
}

static void on_data(struct lh_http_call *call, void *arg, struct lh_str piece)
{
    struct lh_ndjson *stream = arg;
    if (lh_http_call_body_length(call) == LH_HTTP_LENGTH_UNKNOWN)
        lh_access_count_bytes(stream->gateway->access, call, piece.len);
    lh_buf_append_str(&stream->next, piece);
    if (lh_buf_failed(&stream->next))
        stream->is_out_of_memory = true; /* told as soon as nothing is out */
    if (!stream->has_line && memchr(piece.ptr, '\n', piece.len) != NULL) {
        stream->has_line = true;
        lh_timer_set(lh_http_server_timers(stream->gateway->http), &stream->timer, APPLY_AFTER_MS);
    }
    /* When nothing is out there is no whole line in what is left of the piece (see advance), and it
     * is not searched again for every few bytes that come. */
    bool is_due = stream->is_out_of_memory || stream->next.len >= LH_NDJSON_PIECE_BYTES;
    if (!stream->is_out && is_due)
        advance(stream);
    else if (stream->is_out && stream->next.len >= 2 * LH_NDJSON_PIECE_BYTES)
        set_paused(stream, true);
}

static void on_end(struct lh_http_call *call, void *arg)
{
    struct lh_ndjson *stream = arg;
    stream->has_ended = true;
    if (!stream->is_out)
        advance(stream);
    (void)call;
}

static void on_gone(void *arg)
{
    struct lh_ndjson *stream = arg;
    stream->is_gone = true;
    if (!stream->is_out)
        destroy(stream);
}

void lh__ndjson_begin(struct lh_gateway *gateway, struct lh_http_call *call)
{
    struct lh_error error;
    if (gateway->streams >= LH_NDJSON_STREAMS_MAX) {
        gateway->refused++;
        lh_error_set(&error, LH_OVERLOADED,
                     "%u NDJSON streams are being read, the limit: try again", gateway->streams);
        lh_http_answer_error(call, &error);
        return;
    }
    struct lh_request *request = lh__gateway_request(gateway, call, LH_OP_NDJSON);
    if (request == NULL)
        return;
    struct lh_ndjson *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the stream");
        lh_http_answer_error(call, &error);
        lh__gateway_release(gateway, request);
        return;
    }
    stream->gateway = gateway;
    stream->ticket = request->ticket;
    stream->request = request;
    request->stream = stream;
    lh_timer_init(&stream->timer, on_overdue, stream);
    gateway->streams++;
    lh_http_call_stream(
        call, &(struct lh_http_stream){
                  .on_data = on_data, .on_end = on_end, .on_gone = on_gone, .arg = stream});
}

void lh__ndjson_back(struct lh_gateway *gateway, struct lh_request *request)
{
    struct lh_ndjson *stream = request->stream;
    assert(gateway == stream->gateway);
    stream->is_out = false;
    stream->added += request->counts.added;
    stream->updated += request->counts.updated;
    if (request->error.status != LH_OK) {
        finish(stream, &request->error);
        return;
    }
    stream->lines += request->piece.lines;
    request->piece.offset += request->piece.consumed;
    advance(stream);
}
