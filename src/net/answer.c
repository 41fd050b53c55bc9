/* Answers. Loop thread.
 *
 * An answer is written in the call of lh_http_answer; what follows from it, the next pipelined
 * request or the close, happens when the connection goes on, never inside the service's call. */
#include "net/internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

static const struct {
    int status;
    struct lh_str reason;
} lh__reasons[] = {
    {201, LH_STR("Created")},
    {202, LH_STR("Accepted")},
    {204, LH_STR("No Content")},
    {206, LH_STR("Partial Content")},
    {304, LH_STR("Not Modified")},
    {400, LH_STR("Bad Request")},
    {401, LH_STR("Unauthorized")},
    {403, LH_STR("Forbidden")},
    {404, LH_STR("Not Found")},
    {405, LH_STR("Method Not Allowed")},
    {408, LH_STR("Request Timeout")},
    {409, LH_STR("Conflict")},
    {411, LH_STR("Length Required")},
    {412, LH_STR("Precondition Failed")},
    {413, LH_STR("Content Too Large")},
    {414, LH_STR("URI Too Long")},
    {415, LH_STR("Unsupported Media Type")},
    {416, LH_STR("Range Not Satisfiable")},
    {417, LH_STR("Expectation Failed")},
    {429, LH_STR("Too Many Requests")},
    {431, LH_STR("Request Header Fields Too Large")},
    {500, LH_STR("Internal Server Error")},
    {501, LH_STR("Not Implemented")},
    {502, LH_STR("Bad Gateway")},
    {503, LH_STR("Service Unavailable")},
    {504, LH_STR("Gateway Timeout")},
    {505, LH_STR("HTTP Version Not Supported")},
    {507, LH_STR("Insufficient Storage")},
    {508, LH_STR("Loop Detected")},
};

/* May be empty (RFC 9112 section 4). */
static struct lh_str lh__reason(int status)
{
    for (size_t i = 0; i < sizeof lh__reasons / sizeof *lh__reasons; i++) {
        if (lh__reasons[i].status == status) {
            return lh__reasons[i].reason;
        }
    }
    return LH_STR("");
}

static void lh__append_number(struct lh_buf *out, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    lh_buf_append(out, digits + at, sizeof digits - at);
}

/* Letters, digits and what UUIDs, ULIDs and trace ids have between them. */
static bool lh__is_request_id(struct lh_str id)
{
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c != '\0' && strchr("-_.:/+=", c) != NULL))) {
            return false;
        }
    }
    return id.len > 0 && id.len <= LH_REQUEST_ID_BYTES_MAX;
}

struct lh_str lh_http_call_request_id_text(const struct lh_http_call *call,
                                           char made[LH_REQUEST_ID_MADE_BYTES])
{
    struct lh_str sent = lh_http_call_header(call, "x-request-id");
    uint64_t number = call->request_id;

    if (lh__is_request_id(sent)) {
        return sent;
    }
    for (unsigned i = LH_REQUEST_ID_MADE_BYTES; i-- > 0; number >>= 4) {
        made[i] = "0123456789abcdef"[number & 15];
    }
    return (struct lh_str){made, LH_REQUEST_ID_MADE_BYTES};
}

#define LH__APPEND(out, literal) lh_buf_append((out), "" literal, sizeof(literal) - 1)

static void lh__append_status_line(struct lh_buf *out, int status)
{
    if (status == 200) {
        LH__APPEND(out, "HTTP/1.1 200 OK\r\n");
        return;
    }
    LH__APPEND(out, "HTTP/1.1 ");
    lh__append_number(out, (uint64_t)status);
    lh_buf_append_char(out, ' ');
    lh_buf_append_str(out, lh__reason(status));
    LH__APPEND(out, "\r\n");
}

/* Whether what is left of the request is so little that reading it beats a new connection. A
 * client that waits for 100-continue may send the body or not, so nobody knows what comes. */
static bool lh__can_drop_rest(const struct lh_http_call *call)
{
    const struct lh__head *head = &call->head;

    return call->complete || (call->state != LH__CALL_HEAD && !head->chunked && call->sent_100 &&
                              head->content_length - call->body_received <= LH__DROP_BYTES_MAX);
}

void lh__answer_head(struct lh_http_call *call, int status, const char *content_type,
                     uint64_t length)
{
    struct lh_http_server *server = call->conn->server;
    struct lh_buf *out = &server->out;
    char made[LH_REQUEST_ID_MADE_BYTES];

    if (server->stopping || !lh__can_drop_rest(call)) {
        call->keep = false;
    }
    out->len = 0;
    lh__append_status_line(out, status);
    LH__APPEND(out, "Date: ");
    lh_buf_append(out, server->date, 29);
    /* No such field with these (RFC 9110 section 8.6, RFC 9112 section 6.1). */
    if (status != 204 && status != 304) {
        if (length != LH_HTTP_LENGTH_UNKNOWN) {
            LH__APPEND(out, "\r\nContent-Length: ");
            lh__append_number(out, length);
        } else if (call->head.minor == 0) {
            call->keep = false;
        } else {
            LH__APPEND(out, "\r\nTransfer-Encoding: chunked");
        }
    }
    if (content_type != NULL) {
        LH__APPEND(out, "\r\nContent-Type: ");
        lh_buf_append_str(out, lh_str_of(content_type));
    }
    LH__APPEND(out, "\r\nX-Request-Id: ");
    lh_buf_append_str(out, lh_http_call_request_id_text(call, made));
    if (!call->keep) {
        LH__APPEND(out, "\r\nConnection: close");
    } else if (call->head.minor == 0) {
        LH__APPEND(out, "\r\nConnection: keep-alive");
    }
    LH__APPEND(out, "\r\n");
    lh_buf_append(out, call->extra.ptr, call->extra.len);
    LH__APPEND(out, "\r\n");
    if (lh_buf_failed(out) || lh_buf_failed(&call->extra)) {
        call->conn->broken = true; /* no memory for 300 bytes: nothing is written */
        lh_buf_deinit(out);
    }
}

static void lh__log_access(const struct lh_http_call *call)
{
    char made[LH_REQUEST_ID_MADE_BYTES];

    lh_log_line(call->conn->server->options.log, LH_LOG_DEBUG, "request",
                LH_LOG_STR("request_id", lh_http_call_request_id_text(call, made)),
                LH_LOG_STR("method", call->head.method), LH_LOG_STR("target", call->head.target),
                LH_LOG_TEXT("route", call->route ? call->route->operation : ""),
                LH_LOG_U64("status", (uint64_t)call->status),
                LH_LOG_U64("bytes", call->answer_sent));
}

void lh__answer_given(struct lh_http_call *call)
{
    struct lh__conn *conn = call->conn;

    assert(!call->answered);
    call->answered = true;
    conn->server->slots[conn->slot].generation++;
    lh__metrics_answered(call);
    if (lh_log_enabled(conn->server->options.log, LH_LOG_DEBUG)) {
        lh__log_access(call);
    }
    if (!conn->feeding) {
        lh__server_ready(conn);
    }
}

void lh_http_answer(struct lh_http_call *call, int status, const char *content_type,
                    struct lh_buf *body)
{
    struct lh__conn *conn = call->conn;
    struct lh_http_server *server = conn->server;
    uint64_t body_len = body ? body->len : 0;
    bool bodiless = call->is_head || status == 204 || status == 304;

    assert(!call->answered && !call->begun && !conn->closed);
    assert(status >= 200 && status <= 599);
    if (body_len > LH__ANSWER_SMALL_BYTES && server->answer_bytes > 0 &&
        server->answer_bytes + body_len > 2 * server->options.body_bytes_in_flight_max) {
        const struct lh_error error = {.status = LH_OVERLOADED};
        lh_buf_deinit(body); /* clients that do not read must not fill the memory */
        lh_http_answer_error(call, &error);
        return;
    }
    lh__answer_head(call, status, body_len > 0 ? content_type : NULL, body_len);
    call->status = status;
    call->answer_sent = body_len;
    lh__write(conn, lh_buf_str(&server->out), bodiless ? NULL : body, LH_STR(""));
    if (body != NULL) {
        lh_http_server_give_spare(server, body);
    }
    lh__answer_given(call);
}

/* Whether a line of the coming answer's header, which follows others, begins so. */
static bool lh__has_header(const struct lh_http_call *call, const char *line)
{
    const struct lh_buf *extra = &call->extra;
    size_t len = strlen(line) - 1;

    return extra->len > len && (memcmp(extra->ptr, line + 1, len) == 0 ||
                                memmem(extra->ptr, extra->len, line, len + 1) != NULL);
}

void lh_http_answer_error(struct lh_http_call *call, const struct lh_error *error)
{
    struct lh_buf body = LH_BUF_EMPTY;
    int status = lh_status_http(error->status);
    const char *text = error->text[0] ? error->text : lh_status_text(error->status);

    LH__APPEND(&body, "{\"error\":{\"code\":\"");
    lh_buf_append_str(&body, lh_str_of(lh_status_code(error->status)));
    LH__APPEND(&body, "\",\"message\":");
    lh_buf_append_json_string(&body, lh_str_of(text)); /* a cut character becomes U+FFFD */
    LH__APPEND(&body, "}}\n");
    if ((status == 503 || status == 429) && !lh__has_header(call, "\nRetry-After: ")) {
        lh_http_call_add_header(call, "Retry-After", "1");
    }
    if (lh_buf_failed(&body)) {
        lh_buf_deinit(&body); /* no memory: the status alone */
    }
    lh_http_answer(call, status, "application/json", &body);
}

void lh_http_call_add_header(struct lh_http_call *call, const char *name, const char *value)
{
    assert(strpbrk(name, "\r\n") == NULL && strpbrk(value, "\r\n") == NULL);
    lh_buf_append_str(&call->extra, lh_str_of(name));
    LH__APPEND(&call->extra, ": ");
    lh_buf_append_str(&call->extra, lh_str_of(value));
    LH__APPEND(&call->extra, "\r\n");
}

void lh__answer_continue(struct lh__conn *conn)
{
    lh__write(conn, LH_STR("HTTP/1.1 100 Continue\r\n\r\n"), NULL, LH_STR(""));
}

void lh__answer_options(struct lh_http_call *call, const struct lh__match *match)
{
    char allow[64];

    lh__router_allow(match, allow);
    lh_http_call_add_header(call, "Allow", allow);
    lh_http_answer(call, 204, NULL, NULL);
}
