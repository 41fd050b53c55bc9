/* Bodies: read through llhttp, kept or passed on, and accounted for; trailer sections, read past
 * it through the guard. Loop thread.
 *
 * The account body_bytes holds what is reserved for announced bodies, what has come of chunked
 * ones, and what services took and have not given back. Past its limit a new body waits, unread,
 * first come first served; past twice the limit, with those that wait, it is refused. Small bodies
 * do not wait, so that a search is not held up by imports. */
#include "net/internal.h"

#include <assert.h>

static struct lh_http_call *lh__call_of(llhttp_t *parser)
{
    return parser->data;
}

/* The guard and the parser must have read the same header. */
static int lh__on_headers_complete(llhttp_t *parser)
{
    const struct lh__head *head = &lh__call_of(parser)->head;
    struct lh_str method = lh_str_of(llhttp_method_name(parser->method));

    if (!lh_str_eq(method, head->method) || parser->content_length != head->content_length ||
        ((parser->flags & F_CHUNKED) != 0) != head->chunked) {
        llhttp_set_error_reason(parser, "ambiguous header");
        return -1;
    }
    parser->upgrade = 0; /* we speak HTTP/1.1 only, and a server may ignore Upgrade */
    return 0;
}

static int lh__on_message_complete(llhttp_t *parser)
{
    lh__call_of(parser)->complete = true;
    return HPE_PAUSED; /* the next request is not this call's */
}

/* Memory for `len` more bytes: at first no more than LH__BODY_STEP_BYTES ahead of what has come,
 * then doubling, and never more than was announced. */
static enum lh_status lh__body_append(struct lh_http_call *call, const char *at, size_t len)
{
    struct lh_buf *body = &call->body;

    if (body->cap - body->len < len) {
        uint64_t left = call->head.chunked ? len : call->head.content_length - body->len;
        size_t step = body->len > LH__BODY_STEP_BYTES ? body->len : LH__BODY_STEP_BYTES;
        enum lh_status status = lh_buf_reserve(body, left < step ? (size_t)left : step);
        if (status != LH_OK) {
            return status;
        }
    }
    lh_buf_append(body, at, len);
    return lh_buf_failed(body) ? LH_OUT_OF_MEMORY : LH_OK;
}

uint64_t lh__body_max(const struct lh_http_call *call)
{
    if (call->answered || call->route == NULL) {
        return LH__DROP_BYTES_MAX;
    }
    switch (call->body_mode) {
    case LH_HTTP_BODY_WHOLE:
        return call->conn->server->options.body_bytes_max;
    case LH_HTTP_BODY_STREAM:
        if (call->forwarded) {
            return UINT64_MAX; /* the upstream knows its limits */
        }
        return call->route->stream_bytes_max ? call->route->stream_bytes_max : UINT64_MAX;
    case LH_HTTP_BODY_NONE:
        break;
    }
    return LH__DROP_BYTES_MAX;
}

/* A chunked body announces nothing: it is counted as it comes. */
static enum lh_status lh__body_count_chunk(struct lh_http_call *call, size_t len)
{
    struct lh_http_server *server = call->conn->server;

    if (server->body_bytes + len > 2 * server->options.body_bytes_in_flight_max) {
        return LH_OVERLOADED;
    }
    server->body_bytes += len;
    call->body_accounted += len;
    return LH_OK;
}

static enum lh_status lh__body_take(struct lh_http_call *call, const char *at, size_t len)
{
    enum lh_status status;

    call->body_received += len;
    call->body_in_window += len;
    /* An announced length has been compared with the limit before. */
    if (call->head.chunked && call->body_received > lh__body_max(call)) {
        return LH_BODY_TOO_LARGE;
    }
    if (call->answered || call->body_mode == LH_HTTP_BODY_NONE) {
        return LH_OK;
    }
    if (call->body_mode == LH_HTTP_BODY_STREAM) {
        call->stream.on_data(call, call->stream.arg, (struct lh_str){at, len});
        return LH_OK;
    }
    if (call->head.chunked) {
        status = lh__body_count_chunk(call, len);
        if (status != LH_OK) {
            return status;
        }
    }
    return lh__body_append(call, at, len);
}

/* Chunk lines are not kept, but they may not go on for ever either. */
static enum lh_status lh__body_count_overhead(struct lh_http_call *call, const char *to)
{
    call->chunk_overhead += (uint64_t)(to - call->body_mark);
    call->body_mark = to;
    return call->chunk_overhead > LH_CHUNK_OVERHEAD_MAX ? LH_HEADERS_TOO_LARGE : LH_OK;
}

static int lh__on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct lh_http_call *call = lh__call_of(parser);

    if (len == 0) {
        return 0; /* the parser, resumed in a span without new bytes */
    }
    call->body_status = lh__body_count_overhead(call, at);
    if (call->body_status == LH_OK) {
        call->chunk_overhead = 0;
        call->body_mark = at + len;
        call->body_status = lh__body_take(call, at, len);
    }
    if (call->body_status != LH_OK) {
        return HPE_USER;
    }
    return call->paused && !call->answered ? HPE_PAUSED : 0;
}

/* The last chunk's line is read: what follows is the guard's. */
static int lh__on_chunk_header(llhttp_t *parser)
{
    if (parser->content_length > 0) {
        return 0;
    }
    lh__call_of(parser)->state = LH__CALL_TRAILER;
    return HPE_PAUSED;
}

static const llhttp_settings_t lh__settings = {
    .on_headers_complete = lh__on_headers_complete,
    .on_chunk_header = lh__on_chunk_header,
    .on_body = lh__on_body,
    .on_message_complete = lh__on_message_complete,
};

enum lh_status lh__body_start(struct lh_http_call *call, struct lh_error *error)
{
    bool has_body = call->head.chunked || call->head.content_length > 0;
    llhttp_errno_t err;

    llhttp_init(&call->parser, HTTP_REQUEST, &lh__settings);
    call->parser.data = call;
    err = llhttp_execute(&call->parser, call->head_bytes, call->head_len);
    if (err != (has_body ? HPE_OK : HPE_PAUSED) || call->complete == has_body) {
        const char *reason = llhttp_get_error_reason(&call->parser);
        return lh_error_set(error, LH_BAD_REQUEST, "the request header is malformed: %s",
                            reason ? reason : llhttp_errno_name(err));
    }
    return LH_OK;
}

static void lh__body_fail(struct lh_http_call *call, llhttp_errno_t err)
{
    struct lh_error error = {.status = call->body_status};
    const char *reason;

    switch (call->body_status) {
    case LH_OK:
        reason = llhttp_get_error_reason(&call->parser);
        lh_error_set(&error, LH_BAD_REQUEST, "the body's framing is malformed: %s",
                     reason ? reason : llhttp_errno_name(err));
        break;
    case LH_BODY_TOO_LARGE:
        lh_error_set(&error, LH_BODY_TOO_LARGE, "the body is longer than %llu bytes",
                     (unsigned long long)lh__body_max(call));
        break;
    case LH_HEADERS_TOO_LARGE:
        lh_error_set(&error, LH_HEADERS_TOO_LARGE, "a chunk line is longer than %u bytes",
                     LH_CHUNK_OVERHEAD_MAX);
        break;
    default:
        break;
    }
    lh__request_fail(call, &error);
}

size_t lh__body_read(struct lh__conn *conn, const char *bytes, size_t len)
{
    struct lh_http_call *call = conn->call;
    size_t used = len;
    llhttp_errno_t err;

    call->body_status = LH_OK;
    call->body_mark = bytes;
    llhttp_resume(&call->parser); /* does nothing unless paused */
    err = llhttp_execute(&call->parser, bytes, len);
    if (err == HPE_PAUSED) {
        used = (size_t)(llhttp_get_error_pos(&call->parser) - bytes);
        assert(used <= len);
    }
    if ((err == HPE_OK || err == HPE_PAUSED) && call->head.chunked) {
        call->body_status = lh__body_count_overhead(call, bytes + used);
    }
    if ((err != HPE_OK && err != HPE_PAUSED) || call->body_status != LH_OK) {
        lh__body_fail(call, err);
        return len; /* the connection is done for */
    }
    if (call->complete) {
        lh__request_complete(call);
    }
    return used;
}

char *lh__body_room(const struct lh_http_call *call, size_t *room)
{
    uint64_t left = call->head.content_length - call->body_received;

    if (call->state != LH__CALL_BODY || call->body_mode != LH_HTTP_BODY_STREAM || call->answered ||
        call->paused || call->head.chunked || call->stream.on_room == NULL ||
        left < LH__READ_ROOM_BYTES_MIN) {
        return NULL;
    }
    char *at = call->stream.on_room(call->stream.arg, room);
    if (at == NULL || *room < LH__READ_ROOM_BYTES_MIN) {
        return NULL;
    }
    *room = left < *room ? (size_t)left : *room;
    return at;
}

/* Keeps the section until its end has come, then checks it; its fields are of no use to anyone. */
static enum lh_status lh__trailer_take(struct lh_http_call *call, const char *bytes, size_t len,
                                       size_t *section_len, struct lh_error *error)
{
    const size_t limit = LH_HEADER_BYTES_MAX - call->head_len;
    struct lh_buf *trailer = &call->trailer;
    size_t take = limit + 1 - trailer->len;
    enum lh_status status;

    lh_buf_append(trailer, bytes, len < take ? len : take);
    if (lh_buf_failed(trailer)) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for the trailer section");
    }
    status = lh__guard_find_trailer_end(trailer->ptr, trailer->len, &call->trailer_seen,
                                        section_len, error);
    if (status != LH_OK) {
        return status;
    }
    if (trailer->len > limit && (*section_len == 0 || *section_len > limit)) {
        return lh_error_set(error, LH_HEADERS_TOO_LARGE,
                            "header and trailer section are longer than %u bytes together",
                            LH_HEADER_BYTES_MAX);
    }
    if (*section_len == 0) {
        return LH_OK;
    }
    return lh__guard_check_trailer((struct lh_str){trailer->ptr, *section_len}, &call->head, error);
}

size_t lh__body_read_trailer(struct lh__conn *conn, const char *bytes, size_t len)
{
    struct lh_http_call *call = conn->call;
    size_t had = call->trailer.len;
    size_t section_len = 0;
    struct lh_error error;

    if (had == 0 && len >= 2 && memcmp(bytes, "\r\n", 2) == 0) {
        section_len = 2; /* no trailers, as nearly always */
    } else if (lh__trailer_take(call, bytes, len, &section_len, &error) != LH_OK) {
        lh__request_fail(call, &error);
        return len; /* the connection is done for */
    }
    if (section_len == 0) {
        return len;
    }
    call->complete = true;
    lh__request_complete(call);
    return section_len - had;
}

enum lh__admission lh__body_admit(struct lh_http_call *call)
{
    struct lh_http_server *server = call->conn->server;
    uint64_t limit = server->options.body_bytes_in_flight_max;
    uint64_t need = call->head.content_length; /* 0 for a chunked one */
    bool waited = call->state == LH__CALL_WAIT;

    if (call->complete || call->body_mode != LH_HTTP_BODY_WHOLE) {
        return LH__ADMIT_NOW;
    }
    if (need > LH__BODY_SMALL_BYTES || (call->head.chunked && server->body_bytes > limit)) {
        bool first = waited || lh__link_is_alone(&server->waiting_body);
        if (!waited && server->body_bytes + server->body_bytes_waiting + need > 2 * limit) {
            return server->body_bytes == 0 ? LH__ADMIT_NOW : LH__ADMIT_NEVER;
        }
        if (server->body_bytes > 0 && (!first || server->body_bytes + need > limit)) {
            return LH__ADMIT_LATER;
        }
    } else if (server->body_bytes + need > 2 * limit) {
        return LH__ADMIT_NEVER;
    }
    server->body_bytes += need;
    call->body_accounted = need;
    return LH__ADMIT_NOW;
}

void lh__body_release(struct lh_http_call *call)
{
    struct lh_http_server *server = call->conn->server;

    assert(server->body_bytes >= call->body_accounted);
    server->body_bytes -= call->body_accounted;
    call->body_accounted = 0;
}
