/* Calls on their way through an upstream. Loop thread.
 *
 * Bodies go both ways as they come: a side that takes slowly stops the reading of the other, so one
 * call holds a few hundred KiB at most. A short answer is gathered and sent when it is whole: it is
 * one write, and an upstream that dies in the middle of it is an error that the client can read. In
 * the middle of a longer one the client's connection is cut, as nothing else can be said any more.
 *
 * A forward lives until both its exchange and its call are done with it; whichever ends first takes
 * it along, so no event finds it freed. */
#include "net/forward.h"

#include "net/internal.h"
#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#define VIA_NAME "lakehoused"
#define CONTINUE_WAIT_MS                                                    \
    1000u /* an upstream that does not know 100-continue gets the body then \
           */

struct lh__forward {
    struct lh_http_server *server;
    struct lh_http_ticket ticket;
    struct lh_http_forward_options options;
    struct lh_exchange *exchange;
    struct lh_timer timer; /* 100-continue */
    struct lh_buf body;    /* of a short answer */
    uint64_t length;       /* of the answer's body, as announced */
    size_t extra_len;      /* of header lines that are not the upstream's */
    int status;            /* of the answer; 0: its header has not come */
    bool awaits_continue;  /* the client is not read until the upstream wants its body */
    bool has_begun;        /* the answer goes out in pieces */
};

static void lh__forward_free(struct lh__forward *forward)
{
    lh_timer_cancel(&forward->timer);
    lh_buf_deinit(&forward->body);
    free(forward);
}

/* ---- header fields ---- */

static bool lh__is_one_of(struct lh_str name, const struct lh_str *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (name.len == names[i].len && lh_str_eq_nocase(name, names[i])) {
            return true;
        }
    }
    return false;
}

/* Takes the next member off a comma-separated list; false when there is none. */
static bool lh__next_member(struct lh_str *list, struct lh_str *member)
{
    while (list->len > 0) {
        const char *comma = memchr(list->ptr, ',', list->len);
        size_t len = comma != NULL ? (size_t)(comma - list->ptr) : list->len;
        size_t step = comma != NULL ? len + 1 : len;
        *member = lh_str_trim((struct lh_str){list->ptr, len});
        list->ptr += step;
        list->len -= step;
        if (member->len > 0) {
            return true;
        }
    }
    return false;
}

static struct lh_str lh__field_name(const struct lh__head *head, unsigned i)
{
    return (struct lh_str){head->block + head->fields[i].name, head->fields[i].name_len};
}

static struct lh_str lh__field_value(const struct lh__head *head, unsigned i)
{
    return (struct lh_str){head->block + head->fields[i].value, head->fields[i].value_len};
}

/* Whether Connection names the field as one of this hop's. */
static bool lh__is_named_in_connection(const struct lh__head *head, struct lh_str name)
{
    for (unsigned i = 0; i < head->field_count; i++) {
        struct lh_str list = lh__field_value(head, i);
        struct lh_str member;
        if (!lh_str_eq_nocase(lh__field_name(head, i), LH_STR("connection"))) {
            continue;
        }
        while (lh__next_member(&list, &member)) {
            if (lh_str_eq_nocase(member, name)) {
                return true;
            }
        }
    }
    return false;
}

/* RFC 9110 section 7.6.1, and the older ones of RFC 2616 that are still about. */
static bool lh__is_hop_by_hop(const struct lh__head *head, struct lh_str name)
{
    static const struct lh_str names[] = {
        LH_STR("connection"),         LH_STR("keep-alive"), LH_STR("proxy-connection"),
        LH_STR("proxy-authenticate"), LH_STR("te"),         LH_STR("proxy-authorization"),
        LH_STR("transfer-encoding"),  LH_STR("trailer"),    LH_STR("upgrade"),
        LH_STR("http2-settings"),
    };

    return lh__is_one_of(name, names, sizeof names / sizeof *names) ||
           lh__is_named_in_connection(head, name);
}

static void lh__append_field(struct lh_buf *out, struct lh_str name, struct lh_str value)
{
    lh_buf_append_str(out, name);
    lh_buf_append(out, ": ", 2);
    lh_buf_append_str(out, value);
    lh_buf_append(out, "\r\n", 2);
}

/* All values of a field as one list, with a comma behind it; nothing when it is not there. */
static void lh__append_list(struct lh_buf *out, const struct lh__head *head, struct lh_str name)
{
    for (unsigned i = 0; i < head->field_count; i++) {
        struct lh_str value = lh__field_value(head, i);
        if (lh_str_eq_nocase(lh__field_name(head, i), name) && value.len > 0) {
            lh_buf_append_str(out, value);
            lh_buf_append(out, ", ", 2);
        }
    }
}

/* ---- the request ---- */

/* How many gateways of ours it has come through: "1.1 lakehoused" in Via. */
static unsigned lh__count_hops(const struct lh__head *head)
{
    unsigned hops = 0;

    for (unsigned i = 0; i < head->field_count; i++) {
        struct lh_str list = lh__field_value(head, i);
        struct lh_str member;
        if (!lh_str_eq_nocase(lh__field_name(head, i), LH_STR("via"))) {
            continue;
        }
        while (lh__next_member(&list, &member)) {
            const char *space = memchr(member.ptr, ' ', member.len);
            struct lh_str by = {space != NULL ? space + 1 : member.ptr, 0};
            by.len = (size_t)(member.ptr + member.len - by.ptr);
            hops += lh_str_eq_nocase(lh_str_trim(by), LH_STR(VIA_NAME));
        }
    }
    return hops;
}

/* The origin form: an absolute one loses its scheme and authority. */
static struct lh_str lh__origin_form(struct lh_str target)
{
    const char *end = target.ptr + target.len;
    const char *at = target.ptr;

    if (*at == '/') {
        return target;
    }
    at = memmem(at, target.len, "://", 3);
    at = at != NULL ? memchr(at + 3, '/', (size_t)(end - at - 3)) : NULL;
    return at != NULL ? (struct lh_str){at, (size_t)(end - at)} : LH_STR("/");
}

static void lh__append_address(struct lh_buf *out, const struct lh_http_call *call)
{
    struct lh_http_address address = lh_http_call_address(call);
    char text[INET6_ADDRSTRLEN];
    struct in6_addr in6;

    memcpy(&in6, address.bytes, sizeof in6);
    if (IN6_IS_ADDR_V4MAPPED(&in6)) {
        inet_ntop(AF_INET, address.bytes + 12, text, sizeof text);
    } else {
        inet_ntop(AF_INET6, &in6, text, sizeof text);
    }
    lh_buf_append_str(out, lh_str_of(text));
}

/* What this gateway says itself, in place of what came. */
static void lh__append_own_fields(struct lh_buf *out, const struct lh_http_call *call)
{
    const struct lh__head *head = &call->head;
    char made[LH_REQUEST_ID_MADE_BYTES];

    lh__append_field(out, LH_STR("X-Request-Id"), lh_http_call_request_id_text(call, made));
    lh_buf_append_str(out, LH_STR("X-Forwarded-For: "));
    lh__append_list(out, head, LH_STR("x-forwarded-for"));
    lh__append_address(out, call);
    lh_buf_append_str(out, LH_STR("\r\nVia: "));
    lh__append_list(out, head, LH_STR("via"));
    lh_buf_printf(out, "1.%u " VIA_NAME "\r\n", head->minor);
    if (head->chunked) {
        lh_buf_append_str(out, LH_STR("Transfer-Encoding: chunked\r\n"));
    } else if (head->has_content_length) {
        lh_buf_printf(out, "Content-Length: %" PRIu64 "\r\n", head->content_length);
    }
    if (head->expect_continue && !call->sent_100) {
        lh_buf_append_str(out, LH_STR("Expect: 100-continue\r\n"));
    }
}

static void lh__append_request(struct lh_buf *out, const struct lh_http_call *call,
                               const struct lh_upstream *upstream, struct lh_str token)
{
    static const struct lh_str own[] = {
        LH_STR("host"),         LH_STR("content-length"),  LH_STR("expect"),
        LH_STR("x-request-id"), LH_STR("x-forwarded-for"), LH_STR("via"),
    };
    const struct lh__head *head = &call->head;

    lh_buf_append_str(out, head->method);
    lh_buf_append_char(out, ' ');
    lh_buf_append_str(out, lh_upstream_prefix(upstream));
    lh_buf_append_str(out, lh__origin_form(head->target));
    lh_buf_append_str(out, LH_STR(" HTTP/1.1\r\n"));
    lh__append_field(out, LH_STR("Host"), lh_upstream_authority(upstream));
    for (unsigned i = 0; i < head->field_count; i++) {
        struct lh_str name = lh__field_name(head, i);
        bool is_replaced = lh__is_one_of(name, own, sizeof own / sizeof *own) ||
                           (token.len > 0 && lh_str_eq_nocase(name, LH_STR("authorization")));
        if (!is_replaced && !lh__is_hop_by_hop(head, name)) {
            lh__append_field(out, name, lh__field_value(head, i));
        }
    }
    if (token.len > 0) {
        lh_buf_append_str(out, LH_STR("Authorization: Bearer "));
        lh_buf_append_str(out, token);
        lh_buf_append(out, "\r\n", 2);
    }
    lh__append_own_fields(out, call);
    lh_buf_append(out, "\r\n", 2);
}

/* ---- from the client ---- */

static void lh__forward_on_data(struct lh_http_call *call, void *arg, struct lh_str piece)
{
    struct lh__forward *forward = arg;

    if (call->head.chunked && forward->options.on_unannounced != NULL) {
        forward->options.on_unannounced(call, piece.len, forward->options.arg);
    }
    lh_exchange_send(forward->exchange, piece);
    if (lh_exchange_is_full(forward->exchange)) {
        lh_http_call_pause(call);
    }
}

static void lh__forward_on_request_end(struct lh_http_call *call, void *arg)
{
    struct lh__forward *forward = arg;

    lh_exchange_end(forward->exchange);
    (void)call;
}

/* Whether a client that has closed its side still waits is for the service to judge, as it does for
 * its own: the upstream sees the same. */
static void lh__forward_on_fin(struct lh_http_call *call, void *arg)
{
    struct lh__forward *forward = arg;

    lh_exchange_fin(forward->exchange);
    (void)call;
}

/* The client went away: so does the upstream's. */
static void lh__forward_on_gone(void *arg)
{
    struct lh__forward *forward = arg;

    lh_exchange_cancel(forward->exchange);
    lh__forward_free(forward);
}

/* The client may send its body. */
static void lh__forward_continue(struct lh__forward *forward)
{
    struct lh_http_call *call = lh_http_find(forward->server, forward->ticket);

    if (!forward->awaits_continue) {
        return;
    }
    forward->awaits_continue = false;
    lh_timer_cancel(&forward->timer);
    assert(call != NULL); /* or on_gone had come */
    if (!call->begun) {
        call->sent_100 = true;
        lh__answer_continue(call->conn);
    }
    lh_http_call_resume(call);
}

static void lh__forward_on_continue_due(struct lh_timer *timer, void *arg)
{
    lh__forward_continue(arg);
    (void)timer;
}

static void lh__forward_on_ready(struct lh_http_call *call, void *arg)
{
    struct lh__forward *forward = arg;

    lh_exchange_resume(forward->exchange);
    (void)call;
}

/* ---- from the upstream ---- */

static struct lh_http_call *lh__forward_call(const struct lh__forward *forward)
{
    struct lh_http_call *call = lh_http_find(forward->server, forward->ticket);

    assert(call != NULL); /* a call that goes takes its exchange along */
    return call;
}

static void lh__forward_on_writable(void *arg)
{
    struct lh__forward *forward = arg;

    if (!forward->awaits_continue) {
        lh_http_call_resume(lh__forward_call(forward));
    }
}

static void lh__forward_on_continue(void *arg)
{
    lh__forward_continue(arg);
}

/* The fields that the client gets; Date, framing and X-Request-Id are this server's own. */
static void lh__append_answer_fields(struct lh_buf *out, const struct lh__head *head)
{
    static const struct lh_str own[] = {LH_STR("date"), LH_STR("content-length"),
                                        LH_STR("x-request-id")};

    for (unsigned i = 0; i < head->field_count; i++) {
        struct lh_str name = lh__field_name(head, i);
        if (!lh__is_one_of(name, own, sizeof own / sizeof *own) && !lh__is_hop_by_hop(head, name)) {
            lh__append_field(out, name, lh__field_value(head, i));
        }
    }
}

static void lh__forward_on_head(int status, const struct lh__head *head, void *arg)
{
    struct lh__forward *forward = arg;
    struct lh_http_call *call = lh__forward_call(forward);
    const struct lh_http_sending sending = {
        .on_ready = lh__forward_on_ready, .on_gone = lh__forward_on_gone, .arg = forward};
    bool is_bodiless;

    lh_timer_cancel(&forward->timer);
    forward->status = status;
    forward->length = head->has_content_length ? head->content_length : LH_HTTP_LENGTH_UNKNOWN;
    forward->extra_len = call->extra.len;
    lh__append_answer_fields(&call->extra, head);
    is_bodiless = call->is_head || status == 204 || status == 304;
    if (!is_bodiless && forward->length > LH_UPSTREAM_WHOLE_BYTES) {
        forward->has_begun = true;
        lh_http_answer_begin(call, status, NULL, forward->length, &sending);
        if (forward->awaits_continue) { /* it answers without the body, and may yet take it */
            forward->awaits_continue = false;
            lh_http_call_resume(call);
        }
    }
}

static void lh__forward_on_body(struct lh_str piece, void *arg)
{
    struct lh__forward *forward = arg;
    struct lh_http_call *call = lh__forward_call(forward);
    const struct lh_http_server *server = forward->server;
    struct lh_buf copy = LH_BUF_EMPTY;
    size_t queued;

    if (!forward->has_begun) {
        lh_buf_append_str(&forward->body, piece);
        return;
    }
    lh_buf_append_str(&copy, piece);
    if (lh_buf_failed(&copy)) {
        lh_http_answer_abort(call);
        lh__forward_on_gone(forward);
        return;
    }
    lh_http_answer_piece(call, &copy);
    queued = lh__write_queued(call->conn);
    if (queued >= LH_WRITE_QUEUE_BYTES_MAX ||
        (queued > 0 && server->answer_bytes > server->options.body_bytes_in_flight_max)) {
        lh_exchange_pause(forward->exchange);
    }
}

/* In place of an answer that did not become whole. */
static void lh__forward_answer_error(struct lh__forward *forward, struct lh_http_call *call,
                                     const struct lh_error *error)
{
    if (forward->status != 0) {
        call->extra.len = forward->extra_len;
    }
    lh_http_answer_error(call, error);
}

static void lh__ignore_data(struct lh_http_call *call, void *arg, struct lh_str piece)
{
    (void)call;
    (void)arg;
    (void)piece;
}

static void lh__ignore_ready(struct lh_http_call *call, void *arg)
{
    (void)call;
    (void)arg;
}

static void lh__ignore_gone(void *arg)
{
    (void)arg;
}

static void lh__forward_on_end(void *arg)
{
    struct lh__forward *forward = arg;
    struct lh_http_call *call = lh__forward_call(forward);
    const struct lh_http_sending nothing = {.on_ready = lh__ignore_ready,
                                            .on_gone = lh__ignore_gone};

    if (forward->has_begun) {
        lh_http_answer_end(call);
    } else if (call->is_head) {
        /* Its length is that of the body which a GET would bring. The call ends a moment later. */
        call->stream = (struct lh_http_stream){.on_data = lh__ignore_data};
        lh_http_answer_begin(call, forward->status, NULL, forward->length, &nothing);
    } else if (lh_buf_failed(&forward->body)) {
        const struct lh_error error = {.status = LH_OUT_OF_MEMORY};
        lh__forward_answer_error(forward, call, &error);
    } else {
        lh_http_answer(call, forward->status, NULL, &forward->body);
    }
    lh__forward_free(forward);
}

static void lh__forward_on_failed(const struct lh_error *error, void *arg)
{
    struct lh__forward *forward = arg;
    struct lh_http_call *call = lh__forward_call(forward);

    if (forward->has_begun) {
        lh_http_answer_abort(call);
    } else {
        lh__forward_answer_error(forward, call, error);
    }
    lh__forward_free(forward);
}

/* ---- beginning ---- */

static enum lh_status lh__forward_begin(struct lh__forward *forward, struct lh_http_call *call,
                                        struct lh_upstream *upstream, struct lh_error *error)
{
    const struct lh_exchange_events events = {
        .on_writable = lh__forward_on_writable,
        .on_continue = lh__forward_on_continue,
        .on_head = lh__forward_on_head,
        .on_body = lh__forward_on_body,
        .on_end = lh__forward_on_end,
        .on_failed = lh__forward_on_failed,
        .arg = forward,
    };
    struct lh_exchange_request request = {
        .body = call->head.chunked              ? LH_EXCHANGE_CHUNKED
                : call->head.content_length > 0 ? LH_EXCHANGE_LENGTH
                                                : LH_EXCHANGE_NO_BODY,
        .is_head = call->is_head,
        .is_safe = call->is_head || lh_str_eq(call->head.method, LH_STR("GET")),
    };
    enum lh_status status;

    lh__append_request(&request.head, call, upstream, forward->options.token);
    forward->options.token = (struct lh_str){"", 0}; /* its owner may reload it */
    status = lh_exchange_begin(upstream, &request, &events, &forward->exchange, error);
    lh_buf_deinit(&request.head);
    return status;
}

void lh_http_forward(struct lh_http_call *call, struct lh_upstream *upstream,
                     const struct lh_http_forward_options *options)
{
    struct lh__forward *forward;
    struct lh_error error;

    if (lh__count_hops(&call->head) >= LH_PROXY_HOPS_MAX) {
        lh_error_set(&error, LH_LOOP_DETECTED,
                     "the request came through %u gateways: the one for %s leads back here",
                     lh__count_hops(&call->head), lh_upstream_name(upstream));
        lh_http_answer_error(call, &error);
        return;
    }
    forward = calloc(1, sizeof *forward);
    if (forward == NULL) {
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the request");
        lh_http_answer_error(call, &error);
        return;
    }
    forward->server = call->conn->server;
    forward->ticket = lh_http_call_ticket(call);
    forward->options = *options;
    lh_timer_init(&forward->timer, lh__forward_on_continue_due, forward);
    if (lh__forward_begin(forward, call, upstream, &error) != LH_OK) {
        lh__forward_free(forward);
        lh_http_answer_error(call, &error);
        return;
    }
    lh_http_call_stream(call, &(struct lh_http_stream){.on_data = lh__forward_on_data,
                                                       .on_end = lh__forward_on_request_end,
                                                       .on_fin = lh__forward_on_fin,
                                                       .on_gone = lh__forward_on_gone,
                                                       .arg = forward});
    if (!call->sent_100) {
        forward->awaits_continue = true;
        lh_http_call_pause(call);
        lh_timer_set(&forward->server->timers, &forward->timer, CONTINUE_WAIT_MS);
    }
}
