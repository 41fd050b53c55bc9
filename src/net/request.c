/* A request from its first byte to its handler. Loop thread.
 *
 * The header block is gathered in the call's buffer and passes the guard before the parser sees
 * it. Then the request is refused, or waits for body memory, or is begun. What is
 * refused with its length known and small keeps its connection; all else closes it lingeringly. */
#include "net/internal.h"

#include <assert.h>

void lh__request_fail(struct lh_http_call *call, const struct lh_error *error)
{
    call->keep = false;
    if (call->begun && !call->answered) {
        call->conn->broken = call->conn->cut = true; /* lh__call_gone tells the service */
        lh__server_ready(call->conn);
    } else if (!call->answered) {
        struct lh_http_stream stream = call->stream;
        lh_http_answer_error(call, error);
        if (stream.on_gone != NULL) {
            stream.on_gone(stream.arg);
        }
    }
}

void lh__request_complete(struct lh_http_call *call)
{
    void *context = call->conn->server->options.context;

    assert(call->complete);
    call->state = LH__CALL_HELD;
    if (call->answered) {
        return;
    }
    if (call->body_mode != LH_HTTP_BODY_STREAM) {
        if (call->body_mode == LH_HTTP_BODY_WHOLE) {
            /* Announced and arrived are the same; a chunked one was counted as it came. */
            assert(call->body_accounted == call->body.len);
        }
        call->route->handle(call, context);
    } else if (call->stream.on_end != NULL) {
        call->stream.on_end(call, call->stream.arg);
    }
}

static void lh__request_begin(struct lh_http_call *call, bool more)
{
    struct lh_http_server *server = call->conn->server;

    call->state = LH__CALL_BODY;
    if (!call->sent_100 && (more || !call->forwarded)) { /* an upstream's 100 is passed on */
        call->sent_100 = true;
        if (!more) {
            lh__answer_continue(call->conn);
        }
    }
    if (call->body_mode == LH_HTTP_BODY_STREAM) {
        (call->forwarded ? server->options.forward : call->route->handle)(call,
                                                                          server->options.context);
        assert(call->answered || call->stream.on_data != NULL);
    }
    if (call->complete && !call->paused) {
        lh__request_complete(call);
    }
}

/* Begins the call, or lines it up for body memory, or turns it away. */
static void lh__request_admit(struct lh_http_call *call, bool more)
{
    struct lh_http_server *server = call->conn->server;
    const struct lh_error overloaded = {.status = LH_OVERLOADED};

    switch (lh__body_admit(call)) {
    case LH__ADMIT_NOW:
        lh__request_begin(call, more);
        break;
    case LH__ADMIT_LATER:
        call->state = LH__CALL_WAIT;
        call->body_waiting = call->head.content_length;
        server->body_bytes_waiting += call->body_waiting;
        lh__link_append(&server->waiting_body, &call->conn->waiting);
        break;
    case LH__ADMIT_NEVER:
        lh_http_answer_error(call, &overloaded);
        break;
    }
}

void lh__request_wait_over(struct lh_http_call *call)
{
    call->conn->server->body_bytes_waiting -= call->body_waiting;
    call->body_waiting = 0;
    lh__link_remove(&call->conn->waiting);
}

void lh__request_let_in(struct lh_http_server *server)
{
    while (!lh__link_is_alone(&server->waiting_body)) {
        struct lh__conn *conn = lh__conn_of(server->waiting_body.next, waiting);
        if (lh__body_admit(conn->call) != LH__ADMIT_NOW) {
            break;
        }
        lh__request_wait_over(conn->call);
        lh__request_begin(conn->call, conn->ahead.len > 0);
        lh__server_ready(conn);
    }
}

/* Size rules that the header alone decides. */
static enum lh_status lh__check_size(const struct lh_http_call *call, struct lh_error *error)
{
    const struct lh__head *head = &call->head;
    uint64_t max = lh__body_max(call);

    if (head->content_length > max) {
        return lh_error_set(error, LH_BODY_TOO_LARGE, "the body has %llu bytes, the limit is %llu",
                            (unsigned long long)head->content_length, (unsigned long long)max);
    }
    if (call->body_mode != LH_HTTP_BODY_NONE && !head->has_content_length && !head->chunked &&
        !call->forwarded) {
        return lh_error_set(error, LH_LENGTH_REQUIRED, "%s", lh_status_text(LH_LENGTH_REQUIRED));
    }
    return LH_OK;
}

static const struct {
    struct lh_str name;
    enum lh_http_method method;
    bool is_options;
} lh__methods[] = {
    {LH_STR("GET"), LH_HTTP_GET, false},  {LH_STR("POST"), LH_HTTP_POST, false},
    {LH_STR("PUT"), LH_HTTP_PUT, false},  {LH_STR("DELETE"), LH_HTTP_DELETE, false},
    {LH_STR("HEAD"), LH_HTTP_GET, false}, {LH_STR("OPTIONS"), LH_HTTP_METHODS, true},
};

#define LH__METHODS (sizeof lh__methods / sizeof *lh__methods)

/* A media type may carry parameters: "application/x-ndjson; charset=utf-8". */
static enum lh_http_body lh__body_mode(const struct lh_http_call *call)
{
    struct lh_str type = lh_http_call_header(call, "content-type");
    const char *semicolon;

    if (call->route->stream_media_type == NULL || type.len == 0) {
        return call->route->body;
    }
    semicolon = memchr(type.ptr, ';', type.len);
    if (semicolon != NULL) {
        type = lh_str_trim((struct lh_str){type.ptr, (size_t)(semicolon - type.ptr)});
    }
    return lh_str_eq_nocase(type, lh_str_of(call->route->stream_media_type)) ? LH_HTTP_BODY_STREAM
                                                                             : call->route->body;
}

/* The route, or an error that keeps the connection. LH_OK without a route: answered. */
static enum lh_status lh__route(struct lh_http_call *call, unsigned method, struct lh_error *error)
{
    struct lh__conn *conn = call->conn;
    struct lh__match match;
    enum lh_status status = lh__target_parse(call->head.target, call->head_bytes + call->head_len,
                                             &call->target, error);

    if (status != LH_OK) {
        return status;
    }
    if (call->target.is_asterisk && lh__methods[method].is_options) {
        lh__answer_options(call, NULL);
        return LH_OK;
    }
    lh__router_match(conn->server->router, conn->service, &call->target, &match);
    if (!match.found) {
        return lh_error_set(error, LH_NOT_FOUND, "no such route: /%.*s",
                            (int)(call->target.path.len < 100 ? call->target.path.len : 100),
                            call->target.path.ptr);
    }
    if (lh__methods[method].is_options) {
        lh__answer_options(call, &match);
        return LH_OK;
    }
    if (match.routes[lh__methods[method].method] == NULL) {
        char allow[64];
        lh__router_allow(&match, allow);
        lh_http_call_add_header(call, "Allow", allow);
        return lh_error_set(error, LH_METHOD_NOT_ALLOWED, "the route allows %s", allow);
    }
    call->route = match.routes[lh__methods[method].method];
    call->forwarded = conn->service == LH_HTTP_GATEWAY &&
                      call->route->services != LH_HTTP_EVERYWHERE &&
                      (call->route->services & conn->server->options.forwarded) != 0;
    call->body_mode = call->forwarded ? LH_HTTP_BODY_STREAM : lh__body_mode(call);
    memcpy(call->params, match.params, sizeof match.params);
    if (conn->server->answer_bytes > conn->server->options.body_bytes_in_flight_max &&
        call->route->services != LH_HTTP_EVERYWHERE) {
        return lh_error_set(error, LH_OVERLOADED,
                            "answers of %llu bytes wait for their clients, try again",
                            (unsigned long long)conn->server->answer_bytes);
    }
    return lh__check_size(call, error);
}

/* The header block is whole. `more`: bytes lie behind it. */
static void lh__request_dispatch(struct lh_http_call *call, bool more)
{
    struct lh_http_server *server = call->conn->server;
    struct lh_error error;
    enum lh_status status;
    unsigned method = 0;

    call->started_ns = lh_clock_ns();
    status =
        lh__guard_check((struct lh_str){call->head_bytes, call->head_len}, &call->head, &error);
    call->is_head = lh_str_eq(call->head.method, LH_STR("HEAD")); /* errors have no body either */
    if (status != LH_OK) {
        lh__request_fail(call, &error);
        return;
    }
    while (method < LH__METHODS && !lh_str_eq(lh__methods[method].name, call->head.method)) {
        method++;
    }
    if (method == LH__METHODS) {
        lh_error_set(&error, LH_NOT_IMPLEMENTED, "method %.*s is not implemented",
                     (int)(call->head.method.len < 40 ? call->head.method.len : 40),
                     call->head.method.ptr);
        lh__request_fail(call, &error);
        return;
    }
    if (lh__body_start(call, &error) != LH_OK) {
        lh__request_fail(call, &error);
        return;
    }
    call->keep = call->head.keep_alive;
    call->sent_100 = !call->head.expect_continue || call->complete;
    call->state = LH__CALL_BODY;
    if (lh__route(call, method, &error) != LH_OK) {
        lh_http_answer_error(call, &error);
        return;
    }
    if (!call->answered && server->options.on_head != NULL) {
        server->options.on_head(call, server->options.context);
        assert(!call->begun);
    }
    if (!call->answered) {
        lh__request_admit(call, more);
    }
}

/* The block did not end within its limit: 414 when not even the request line did. */
static void lh__head_too_large(struct lh_http_call *call, const char *bytes, size_t len)
{
    struct lh_error error;
    const char *lf = memchr(bytes, '\n', len);

    if (lf == NULL || lf - bytes > (ptrdiff_t)LH_TARGET_BYTES_MAX + 64) {
        lh_error_set(&error, LH_URI_TOO_LONG, "the request line is longer than %u bytes",
                     LH_TARGET_BYTES_MAX);
    } else {
        lh_error_set(&error, LH_HEADERS_TOO_LARGE, "the header is longer than %u bytes",
                     LH_HEADER_BYTES_MAX);
    }
    lh__request_fail(call, &error);
}

/* Gathers the block in call->head_bytes; *block_len is 0 until it is whole. False: answered. */
static bool lh__head_gather(struct lh_http_call *call, const char *bytes, size_t len, size_t *used,
                            size_t *block_len)
{
    struct lh_error error;
    size_t take = len;
    size_t room = LH_HEADER_BYTES_MAX - call->head_len;
    size_t had = call->head_len;
    enum lh_status status;

    /* The first piece is searched where it lies: mostly it holds the block and a body behind. */
    if (had == 0) {
        status = lh__guard_find_end(bytes, len, &call->head_seen, block_len, &error);
        take = *block_len > 0 ? *block_len : len;
    }
    take = take < room ? take : room;
    if (lh__call_reserve_head(call, 2 * (had + take)) != LH_OK) {
        lh_error_set(&error, LH_OUT_OF_MEMORY, "no memory for the header");
        lh__request_fail(call, &error);
        return false;
    }
    memcpy(call->head_bytes + had, bytes, take);
    call->head_len += take;
    if (had > 0) {
        status = lh__guard_find_end(call->head_bytes, call->head_len, &call->head_seen, block_len,
                                    &error);
    }
    if (status != LH_OK) {
        lh__request_fail(call, &error);
        return false;
    }
    if (*block_len > LH_HEADER_BYTES_MAX ||
        (*block_len == 0 && call->head_len == LH_HEADER_BYTES_MAX)) {
        lh__head_too_large(call, call->head_bytes, call->head_len);
        return false;
    }
    *used = *block_len > 0 ? *block_len - had : take;
    call->head_len = had + *used;
    return true;
}

size_t lh__request_read_head(struct lh__conn *conn, const char *bytes, size_t len)
{
    size_t skipped = 0;
    size_t used = 0;
    size_t block_len = 0;

    if (conn->call == NULL) {
        /* RFC 9112 section 2.2: empty lines before a request are ignored. */
        while (skipped < len && (bytes[skipped] == '\r' || bytes[skipped] == '\n')) {
            skipped++;
        }
        if (skipped == len) {
            return len;
        }
        if (lh__call_take(conn) == NULL) {
            conn->broken = true;
            return len;
        }
    }
    if (!lh__head_gather(conn->call, bytes + skipped, len - skipped, &used, &block_len)) {
        return len;
    }
    if (block_len > 0) {
        lh__request_dispatch(conn->call, skipped + used < len);
    }
    return skipped + used;
}
