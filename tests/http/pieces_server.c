/* A server whose services do all that a service may: answers in pieces of any size and length, at
 * once or later, while the request's body comes, given up in the middle; and a look at each header.
 * test_pieces.py drives it. One thread: the loop.
 *
 *     pieces_server CERTIFICATE KEY [write_timeout_ms [drain_timeout_ms
 *                   [body_bytes_in_flight_max]]]
 *
 * Without TLS when CERTIFICATE and KEY are empty. */
#include "base/log.h"
#include "net/http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the services saw, for GET /seen. */
struct seen {
    struct lh_http_server *server;
    unsigned ready;       /* on_ready */
    unsigned gone;        /* on_gone of an answer */
    unsigned stream_gone; /* on_gone of a request's body */
    unsigned handled;     /* PUT /held */
    unsigned ended;       /* on_end of it */
};

/* One answer in pieces. */
struct source {
    struct seen *seen;
    struct lh_http_ticket ticket;
    struct lh_timer timer;
    uint64_t at; /* bytes given */
    uint64_t bytes;
    uint64_t piece;
    uint64_t delay_ms;    /* between a wish for more and the piece; 0: at once */
    uint64_t abort_after; /* given up then */
};

static uint64_t number(struct lh_http_call *call, const char *name, uint64_t fallback)
{
    struct lh_str text;
    char digits[32] = "";
    if (!lh_http_call_query(call, name, &text) || text.len >= sizeof digits)
        return fallback;
    memcpy(digits, text.ptr, text.len);
    return strtoull(digits, NULL, 10);
}

static void source_end(struct source *source)
{
    lh_timer_cancel(&source->timer);
    free(source);
}

/* Byte i of every answer is i * 2654435761 >> 24, so that a lost or doubled byte shows. */
static void source_give(struct source *source, struct lh_http_call *call)
{
    struct lh_buf piece = LH_BUF_EMPTY;
    uint64_t left = source->bytes - source->at;
    size_t len = (size_t)(left < source->piece ? left : source->piece);
    if (source->at >= source->abort_after) {
        lh_http_answer_abort(call);
        source_end(source);
        return;
    }
    if (lh_buf_reserve(&piece, len + 1) != LH_OK)
        abort();
    for (size_t i = 0; i < len; i++)
        piece.ptr[i] = (char)((uint32_t)(source->at + i) * 2654435761u >> 24);
    piece.len = len;
    source->at += len;
    lh_http_answer_piece(call, &piece);
    if (source->at == source->bytes && source->abort_after == UINT64_MAX) {
        lh_http_answer_end(call);
        source_end(source);
    }
}

static void source_on_timer(struct lh_timer *timer, void *arg)
{
    struct source *source = arg;
    struct lh_http_call *call = lh_http_find(source->seen->server, source->ticket);
    if (call == NULL)
        abort(); /* on_gone has cancelled the timer */
    source_give(source, call);
    (void)timer;
}

static void source_on_ready(struct lh_http_call *call, void *arg)
{
    struct source *source = arg;
    source->seen->ready++;
    if (source->delay_ms == 0)
        source_give(source, call);
    else
        lh_timer_set(lh_http_server_timers(source->seen->server), &source->timer, source->delay_ms);
}

static void source_on_gone(void *arg)
{
    struct source *source = arg;
    source->seen->gone++;
    if (lh_http_find(source->seen->server, source->ticket) != NULL)
        abort();
    source_end(source);
}

/* GET /pieces?bytes=&piece=&delay=&abort=&length=unknown&status= */
static void handle_pieces(struct lh_http_call *call, void *context)
{
    struct source *source = calloc(1, sizeof *source);
    struct lh_http_sending sending = {source_on_ready, source_on_gone, source};
    struct lh_str length;
    if (source == NULL)
        abort();
    source->seen = context;
    source->ticket = lh_http_call_ticket(call);
    source->bytes = number(call, "bytes", 0);
    source->piece = number(call, "piece", 65536);
    source->delay_ms = number(call, "delay", 0);
    source->abort_after = number(call, "abort", UINT64_MAX);
    lh_timer_init(&source->timer, source_on_timer, source);
    bool is_known = !lh_http_call_query(call, "length", &length);
    lh_http_call_add_header(call, "X-Note", "of the service");
    lh_http_answer_begin(call, (int)number(call, "status", 200), "application/octet-stream",
                         is_known ? source->bytes : LH_HTTP_LENGTH_UNKNOWN, &sending);
}

/* ---- a body that is answered while it comes ---- */

struct echo {
    struct seen *seen;
    struct lh_http_ticket ticket;
    uint64_t unsent; /* pieces given and not yet asked for again */
    uint64_t stop_after;
    uint64_t given;
    bool has_ended;
};

static void echo_finish(struct echo *echo, struct lh_http_call *call)
{
    lh_http_answer_end(call);
    free(echo);
}

static void echo_on_ready(struct lh_http_call *call, void *arg)
{
    struct echo *echo = arg;
    echo->unsent = 0;
    if (echo->has_ended)
        echo_finish(echo, call);
    else
        lh_http_call_resume(call);
}

static void echo_on_data(struct lh_http_call *call, void *arg, struct lh_str bytes)
{
    struct echo *echo = arg;
    struct lh_buf piece = LH_BUF_EMPTY;
    lh_buf_append_str(&piece, bytes);
    lh_http_answer_piece(call, &piece);
    echo->given += bytes.len;
    echo->unsent++;
    lh_http_call_pause(call);
    if (echo->given >= echo->stop_after)
        echo_finish(echo, call);
}

static void echo_on_end(struct lh_http_call *call, void *arg)
{
    struct echo *echo = arg;
    echo->has_ended = true;
    if (echo->unsent == 0)
        echo_finish(echo, call);
}

static void echo_on_gone(void *arg)
{
    struct echo *echo = arg;
    echo->seen->gone++;
    free(echo);
}

static void echo_on_stream_gone(void *arg)
{
    ((struct echo *)arg)->seen->stream_gone++;
}

/* POST /echo?stop= */
static void handle_echo(struct lh_http_call *call, void *context)
{
    struct echo *echo = calloc(1, sizeof *echo);
    struct lh_http_sending sending = {echo_on_ready, echo_on_gone, echo};
    struct lh_http_stream stream = {.on_data = echo_on_data,
                                    .on_end = echo_on_end,
                                    .on_gone = echo_on_stream_gone,
                                    .arg = echo};
    if (echo == NULL)
        abort();
    echo->seen = context;
    echo->ticket = lh_http_call_ticket(call);
    echo->stop_after = number(call, "stop", UINT64_MAX);
    lh_http_call_stream(call, &stream);
    lh_http_answer_begin(call, 200, "application/octet-stream", LH_HTTP_LENGTH_UNKNOWN, &sending);
}

/* ---- a body that is paused before any of it ---- */

struct held {
    struct seen *seen;
    struct lh_http_ticket ticket;
    struct lh_timer timer;
    uint64_t bytes;
};

static void held_on_data(struct lh_http_call *call, void *arg, struct lh_str bytes)
{
    ((struct held *)arg)->bytes += bytes.len;
    (void)call;
}

static void held_on_end(struct lh_http_call *call, void *arg)
{
    struct held *held = arg;
    struct lh_buf body = LH_BUF_EMPTY;
    held->seen->ended++;
    lh_buf_printf(&body, "%" PRIu64 " %" PRIu64, held->bytes, lh_http_call_body_length(call));
    if (lh_timer_is_set(&held->timer))
        lh_buf_append_str(&body, LH_STR(" while paused"));
    lh_timer_cancel(&held->timer);
    free(held);
    lh_http_answer(call, 200, "text/plain", &body);
}

static void held_on_gone(void *arg)
{
    struct held *held = arg;
    held->seen->stream_gone++;
    lh_timer_cancel(&held->timer);
    free(held);
}

static void held_on_timer(struct lh_timer *timer, void *arg)
{
    struct held *held = arg;
    struct lh_http_call *call = lh_http_find(held->seen->server, held->ticket);
    if (call != NULL)
        lh_http_call_resume(call);
    (void)timer;
}

/* PUT /held/{key...}: at most 100000 bytes. */
static void handle_held(struct lh_http_call *call, void *context)
{
    struct held *held = calloc(1, sizeof *held);
    struct lh_http_stream stream = {
        .on_data = held_on_data, .on_end = held_on_end, .on_gone = held_on_gone, .arg = held};
    if (held == NULL)
        abort();
    held->seen = context;
    held->seen->handled++;
    held->ticket = lh_http_call_ticket(call);
    lh_timer_init(&held->timer, held_on_timer, held);
    lh_timer_set(lh_http_server_timers(held->seen->server), &held->timer, 200);
    lh_http_call_stream(call, &stream);
    lh_http_call_pause(call);
}

/* ---- small ones ---- */

/* GET /key/{key...}: the key, as it was decoded. */
static void handle_key(struct lh_http_call *call, void *context)
{
    struct lh_buf body = LH_BUF_EMPTY;
    lh_buf_append_str(&body, lh_http_call_param(call, 0));
    lh_http_answer(call, 200, "text/plain", &body);
    (void)context;
}

static void handle_seen(struct lh_http_call *call, void *context)
{
    const struct seen *seen = context;
    struct lh_buf body = LH_BUF_EMPTY;
    lh_buf_printf(&body,
                  "{\"ready\":%u,\"gone\":%u,\"stream_gone\":%u,\"handled\":%u,\"ended\":%u}",
                  seen->ready, seen->gone, seen->stream_gone, seen->handled, seen->ended);
    lh_http_answer(call, 200, "application/json", &body);
}

static void handle_metrics(struct lh_http_call *call, void *context)
{
    struct lh_buf body = LH_BUF_EMPTY;
    lh_http_server_metrics(((struct seen *)context)->server, &body);
    lh_http_answer(call, 200, "text/plain", &body);
}

/* GET /who: what a call says of itself. */
static void handle_who(struct lh_http_call *call, void *context)
{
    struct lh_buf body = LH_BUF_EMPTY;
    struct lh_http_address address = lh_http_call_address(call);
    struct lh_str name;
    struct lh_str value;
    for (unsigned i = 0; i < sizeof address.bytes; i++)
        lh_buf_printf(&body, "%02x", address.bytes[i]);
    lh_buf_printf(&body, "\n%s %d\n%.*s %.*s\n", lh_http_call_route(call)->operation,
                  (int)lh_http_call_service(call), LH_STR_FMT(lh_http_call_method(call)),
                  LH_STR_FMT(lh_http_call_target(call)));
    lh_buf_printf(&body, "%s\n", lh_http_call_data(call) == context ? "data" : "no data");
    for (unsigned i = 0; lh_http_call_header_line(call, i, &name, &value); i++)
        lh_buf_printf(&body, "%.*s=%.*s\n", LH_STR_FMT(name), LH_STR_FMT(value));
    lh_http_answer(call, 200, "text/plain", &body);
}

/* Refuses what says "X-Refuse". */
static void on_head(struct lh_http_call *call, void *context)
{
    const struct lh_error error = {.status = LH_UNAUTHORIZED};
    lh_http_call_set_data(call, context);
    if (lh_http_call_header(call, "x-refuse").len > 0)
        lh_http_answer_error(call, &error);
}

#define ROW(METHOD, PATTERN, BODY, HANDLE, MAX)                                             \
    {                                                                                       \
        .method = LH_HTTP_##METHOD, .pattern = PATTERN, .services = LH_HTTP_EVERYWHERE,     \
        .body = LH_HTTP_BODY_##BODY, .handle = HANDLE, .operation = #HANDLE, .summary = "", \
        .success = 200, .stream_bytes_max = MAX                                             \
    }

static const struct lh_route routes[] = {
    ROW(GET, "/pieces", NONE, handle_pieces, 0),
    ROW(POST, "/echo", STREAM, handle_echo, 0),
    ROW(PUT, "/held/{key...}", STREAM, handle_held, 100000),
    ROW(GET, "/key/{key...}", NONE, handle_key, 0),
    ROW(GET, "/seen", NONE, handle_seen, 0),
    ROW(GET, "/metrics", NONE, handle_metrics, 0),
    ROW(GET, "/who", NONE, handle_who, 0),
    ROW(POST, "/whole", WHOLE, handle_seen, 0),
};

static void on_stopped(void *context)
{
    lh_http_server_finish(((struct seen *)context)->server);
}

static void on_message(struct lh_msg *msg, void *context)
{
    (void)msg;
    (void)context;
}

int main(int argc, char **argv)
{
    struct seen seen = {0};
    const struct lh_log log = {.fd = STDERR_FILENO, .level = {LH_LOG_INFO}};
    const struct lh_http_bind bind = {LH_STR("127.0.0.1"), 0, LH_HTTP_GATEWAY};
    struct lh_http_options options = {
        .routes = routes,
        .route_count = sizeof routes / sizeof *routes,
        .context = &seen,
        .on_head = on_head,
        .on_message = on_message,
        .on_stopped = on_stopped,
        .log = &log,
        .body_bytes_max = 1 << 20,
        .body_bytes_in_flight_max = argc > 5 ? strtoull(argv[5], NULL, 10) : 64 << 20,
        .connections_max = 1000,
        .header_timeout_ms = 10000,
        .idle_timeout_ms = 30000,
        .body_rate_bytes_min = 1024,
        .write_timeout_ms = argc > 3 ? (uint32_t)atoi(argv[3]) : 30000,
        .drain_timeout_ms = argc > 4 ? (uint32_t)atoi(argv[4]) : 5000,
        .tls_certificate = argc > 1 && argv[1][0] != '\0' ? argv[1] : NULL,
        .tls_key = argc > 2 && argv[2][0] != '\0' ? argv[2] : NULL,
    };
    struct lh_error error;
    if (lh_http_server_create(&options, &seen.server, &error) != LH_OK ||
        lh_http_server_listen(seen.server, &bind, &error) != LH_OK ||
        lh_http_server_watch_signals(seen.server, &error) != LH_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 2;
    }
    lh_log_line(&log, LH_LOG_INFO, "started");
    lh_http_server_run(seen.server);
    lh_http_server_destroy(seen.server);
    return 0;
}
