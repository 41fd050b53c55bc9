/* Upstreams: their pools and their exchanges. Loop thread.
 *
 * An exchange takes the connection that was used last, or has a new one made, or waits in line; the
 * line is bounded in length and in time. What is sent gathers in the exchange and goes out when the
 * loop has done its turn, so that a small request is one write.
 *
 * A kept connection may die in the moment in which it is used again. The exchange is then tried on
 * another one, once, unless the upstream may have acted on it already: only when no byte of an
 * answer has come, and the method is safe or the request's body has not been begun. */
#include "base/config_value.h"
#include "net/upstream_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- upstreams ---- */

/* Takes the URL apart; the configuration has checked it. */
static enum lh_status lh__upstream_parse(struct lh_upstream *upstream, struct lh_error *error)
{
    struct lh_config_url url = lh_config_split_url(lh_str_of(upstream->url));

    upstream->is_tls = url.is_tls;
    upstream->authority = url.authority;
    upstream->prefix = url.path;
    snprintf(upstream->port, sizeof upstream->port, "%u", (unsigned)url.address.port);
    upstream->host = strndup(url.address.host.ptr, url.address.host.len);
    return upstream->host != NULL
               ? LH_OK
               : lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for an upstream");
}

static enum lh_status lh__upstreams_load_tls(struct lh_http_server *server, struct lh_error *error)
{
    struct lh__tls_context *context = NULL;
    enum lh_status status = lh__tls_context_create_client(&context, error);

    if (status == LH_OK) {
        lh__tls_context_unref(server->upstream_tls); /* its connections keep it */
        server->upstream_tls = context;
    }
    return status;
}

/* A connection in use ends with its exchange. */
static void lh__upstreams_drop_idle_tls(struct lh_http_server *server)
{
    for (struct lh_upstream *at = server->upstreams; at != NULL; at = at->next) {
        while (at->is_tls && !lh__link_is_alone(&at->idle)) {
            lh__upstream_conn_close(lh__container(at->idle.next, lh__upstream_conn, idle));
        }
    }
}

enum lh_status lh__upstreams_reload_tls(struct lh_http_server *server, struct lh_error *error)
{
    enum lh_status status =
        server->upstream_tls != NULL ? lh__upstreams_load_tls(server, error) : LH_OK;

    if (status == LH_OK) {
        lh__upstreams_drop_idle_tls(server);
    }
    return status;
}

static void lh__upstream_free(struct lh_upstream *upstream)
{
    assert(upstream->open_count == 0 && upstream->waiting_count == 0);
    lh__tls_ticket_deinit(&upstream->tls_ticket);
    free(upstream->host);
    free(upstream->url);
    free(upstream);
}

enum lh_status lh_upstream_create(struct lh_http_server *server,
                                  const struct lh_upstream_options *options,
                                  struct lh_upstream **upstream, struct lh_error *error)
{
    struct lh_upstream *made = calloc(1, sizeof *made);
    enum lh_status status = LH_OUT_OF_MEMORY;

    if (made == NULL) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for an upstream");
    }
    made->server = server;
    made->options = *options;
    lh__link_init(&made->conns);
    lh__link_init(&made->idle);
    lh__link_init(&made->waiting);
    made->url = strndup(options->url.ptr, options->url.len);
    if (made->url == NULL) {
        lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for an upstream");
    } else {
        made->options.url = lh_str_of(made->url);
        status = lh__upstream_parse(made, error);
    }
    if (status == LH_OK && made->is_tls && server->upstream_tls == NULL) {
        status = lh__upstreams_load_tls(server, error);
    }
    if (status != LH_OK) {
        lh__upstream_free(made);
        return status;
    }
    made->next = server->upstreams;
    server->upstreams = made;
    *upstream = made;
    return LH_OK;
}

const struct lh_upstream_metrics *lh_upstream_metrics(const struct lh_upstream *upstream)
{
    return &upstream->metrics;
}

uint32_t lh_upstream_open(const struct lh_upstream *upstream)
{
    return upstream->open_count;
}

uint32_t lh_upstream_idle(const struct lh_upstream *upstream)
{
    return upstream->idle_count;
}

uint32_t lh_upstream_waiting(const struct lh_upstream *upstream)
{
    return upstream->waiting_count;
}

struct lh_str lh_upstream_authority(const struct lh_upstream *upstream)
{
    return upstream->authority;
}

struct lh_str lh_upstream_prefix(const struct lh_upstream *upstream)
{
    return upstream->prefix;
}

const char *lh_upstream_name(const struct lh_upstream *upstream)
{
    return upstream->options.name;
}

void lh__upstreams_close(struct lh_http_server *server)
{
    for (struct lh_upstream *at = server->upstreams; at != NULL; at = at->next) {
        at->is_closing = true;
        while (!lh__link_is_alone(&at->waiting)) {
            lh__exchange_fail(lh__container(at->waiting.next, lh_exchange, waiting), LH_STOPPING,
                              "the server is stopping");
        }
        while (!lh__link_is_alone(&at->conns)) {
            struct lh__upstream_conn *conn = lh__container(at->conns.next, lh__upstream_conn, all);
            if (conn->exchange != NULL) {
                lh__exchange_fail(conn->exchange, LH_STOPPING, "the server is stopping");
            } else {
                lh__upstream_conn_close(conn);
            }
        }
    }
}

void lh__upstreams_free(struct lh_http_server *server)
{
    while (server->upstreams != NULL) {
        struct lh_upstream *upstream = server->upstreams;
        server->upstreams = upstream->next;
        lh__upstream_free(upstream);
    }
    lh__tls_context_unref(server->upstream_tls);
}

void lh__upstreams_flush(struct lh_http_server *server)
{
    while (!lh__link_is_alone(&server->unflushed)) {
        struct lh_exchange *exchange =
            lh__container(server->unflushed.next, lh_exchange, unflushed);
        lh__link_remove(&exchange->unflushed);
        if (lh_buf_failed(&exchange->out)) {
            lh__exchange_fail(exchange, LH_OUT_OF_MEMORY, "not enough memory for the request");
        } else if (exchange->conn != NULL) {
            lh__upstream_conn_flush(exchange->conn);
            lh__exchange_moved(exchange);
        }
    }
}

/* ---- the deadline of an exchange ---- */

/* Of the request, something that it has not taken, or all of it is there and it is its turn. */
static bool lh__exchange_awaits_upstream(const struct lh_exchange *exchange)
{
    return exchange->out.len > 0 || exchange->conn->is_writing ||
           (exchange->is_whole && !exchange->is_paused);
}

void lh__exchange_arm(struct lh_exchange *exchange)
{
    struct lh_timers *timers = &exchange->upstream->server->timers;

    if (exchange->conn == NULL || !exchange->conn->is_ready) {
        if (!lh_timer_is_set(&exchange->timer)) {
            lh_timer_set(timers, &exchange->timer, exchange->upstream->options.connect_timeout_ms);
        }
    } else if (lh__exchange_awaits_upstream(exchange)) {
        lh_timer_set(timers, &exchange->timer, exchange->upstream->options.timeout_ms);
    } else {
        lh_timer_cancel(&exchange->timer); /* its client's turn, with deadlines of its own */
    }
}

static void lh__exchange_on_deadline(struct lh_timer *timer, void *arg)
{
    struct lh_exchange *exchange = arg;
    const struct lh_upstream_options *options = &exchange->upstream->options;
    char reason[96];

    if (exchange->conn == NULL) {
        lh__exchange_fail(exchange, LH_OVERLOADED, "no connection came free, try again");
    } else if (!exchange->conn->is_ready) {
        snprintf(reason, sizeof reason, "could not be connected to within %llu ms",
                 (unsigned long long)options->connect_timeout_ms);
        lh__exchange_fail(exchange, LH_GATEWAY_TIMEOUT, reason);
    } else {
        snprintf(reason, sizeof reason, "did not %s within %llu ms",
                 exchange->has_answered ? "go on with its answer" : "answer",
                 (unsigned long long)options->timeout_ms);
        lh__exchange_fail(exchange, LH_GATEWAY_TIMEOUT, reason);
    }
    (void)timer;
}

/* ---- beginning ---- */

/* False: there is no connection for it, and no more may be made. */
static bool lh__exchange_connect(struct lh_exchange *exchange)
{
    struct lh_upstream *upstream = exchange->upstream;

    /* What killed one kept connection has mostly killed the others as well. */
    if (!exchange->has_retried && !lh__link_is_alone(&upstream->idle)) {
        lh__upstream_conn_use(lh__container(upstream->idle.prev, lh__upstream_conn, idle),
                              exchange);
        return true;
    }
    return upstream->open_count < upstream->options.connections_max &&
           lh__upstream_conn_open(exchange) != NULL;
}

static void lh__exchange_wait(struct lh_exchange *exchange, bool first)
{
    struct lh_upstream *upstream = exchange->upstream;

    lh__link_append(first ? upstream->waiting.next : &upstream->waiting, &exchange->waiting);
    upstream->waiting_count++;
    lh__exchange_arm(exchange);
}

enum lh_status lh_exchange_begin(struct lh_upstream *upstream, struct lh_exchange_request *request,
                                 const struct lh_exchange_events *events,
                                 struct lh_exchange **exchange, struct lh_error *error)
{
    struct lh_exchange *made = calloc(1, sizeof *made);

    if (made != NULL) {
        lh_buf_append(&made->out, request->head.ptr, request->head.len);
    }
    if (made == NULL || lh_buf_failed(&made->out) || lh_buf_failed(&request->head)) {
        free(made);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the request");
    }
    made->upstream = upstream;
    made->events = *events;
    made->body = request->body;
    made->is_head = request->is_head;
    made->is_safe = request->is_safe;
    made->started_ns = lh_clock_ns();
    lh__link_init(&made->waiting);
    lh__link_init(&made->unflushed);
    lh_timer_init(&made->timer, lh__exchange_on_deadline, made);
    lh_counter_add(&upstream->metrics.requests, 1);
    if (upstream->is_closing || !lh__exchange_connect(made)) {
        bool is_full = upstream->waiting_count >= upstream->options.waiting_max;
        if (upstream->is_closing || is_full || upstream->open_count == 0) {
            lh_buf_deinit(&made->out);
            free(made);
            lh_counter_add(&upstream->metrics.refused, 1);
            return lh_error_set(error, LH_OVERLOADED,
                                "%s: %u connections are in use and %u requests wait, try again",
                                upstream->options.name, upstream->open_count,
                                upstream->waiting_count);
        }
        lh__exchange_wait(made, false);
    }
    made->head = lh_buf_take(&request->head);
    lh__exchange_arm(made);
    lh__link_append(&upstream->server->unflushed, &made->unflushed);
    *exchange = made;
    return LH_OK;
}

/* ---- the request ---- */

static size_t lh__exchange_unsent(const struct lh_exchange *exchange)
{
    const struct lh__upstream_conn *conn = exchange->conn;

    return exchange->out.len + (conn != NULL && conn->is_writing ? conn->writing.len : 0);
}

/* It goes out with what else this turn of the loop brings, or at once when it is much. */
static void lh__exchange_sent(struct lh_exchange *exchange)
{
    if (exchange->out.len >= LH__READ_BYTES && exchange->conn != NULL &&
        !lh_buf_failed(&exchange->out)) {
        lh__link_remove(&exchange->unflushed);
        lh__upstream_conn_flush(exchange->conn);
    } else if (lh__link_is_alone(&exchange->unflushed)) {
        lh__link_append(&exchange->upstream->server->unflushed, &exchange->unflushed);
    }
}

void lh_exchange_send(struct lh_exchange *exchange, struct lh_str piece)
{
    assert(exchange->body != LH_EXCHANGE_NO_BODY && !exchange->is_whole);
    if (piece.len == 0) {
        return; /* an empty chunk would be the last */
    }
    if (exchange->conn != NULL && exchange->conn->is_deaf) {
        exchange->handed += piece.len;
        return;
    }
    if (exchange->body == LH_EXCHANGE_CHUNKED) {
        lh_buf_printf(&exchange->out, "%zx\r\n", piece.len);
        lh_buf_append_str(&exchange->out, piece);
        lh_buf_append(&exchange->out, "\r\n", 2);
    } else {
        lh_buf_append_str(&exchange->out, piece);
    }
    lh__exchange_sent(exchange);
}

void lh_exchange_end(struct lh_exchange *exchange)
{
    assert(!exchange->is_whole);
    exchange->is_whole = true;
    if (exchange->body == LH_EXCHANGE_CHUNKED &&
        !(exchange->conn != NULL && exchange->conn->is_deaf)) {
        lh_buf_append(&exchange->out, "0\r\n\r\n", 5);
    }
    if (exchange->conn != NULL && exchange->conn->is_ready) {
        lh__exchange_arm(exchange);
    }
    lh__exchange_sent(exchange);
}

void lh_exchange_fin(struct lh_exchange *exchange)
{
    exchange->wants_fin = true;
    lh__exchange_sent(exchange);
}

bool lh_exchange_is_full(struct lh_exchange *exchange)
{
    exchange->is_full = lh__exchange_unsent(exchange) > LH_UPSTREAM_OUT_BYTES;
    return exchange->is_full;
}

void lh__exchange_moved(struct lh_exchange *exchange)
{
    if (exchange->is_full && !lh_exchange_is_full(exchange)) {
        exchange->events.on_writable(exchange->events.arg);
    }
}

/* ---- the answer ---- */

void lh_exchange_pause(struct lh_exchange *exchange)
{
    exchange->is_paused = true;
    if (exchange->conn != NULL && exchange->conn->is_ready) {
        lh__upstream_conn_update_reading(exchange->conn);
        lh__exchange_arm(exchange);
    }
}

void lh_exchange_resume(struct lh_exchange *exchange)
{
    exchange->is_paused = false;
    if (exchange->conn != NULL && exchange->conn->is_ready) {
        lh__upstream_conn_update_reading(exchange->conn);
        lh__exchange_arm(exchange);
    }
}

/* ---- the end ---- */

/* Takes it out of everything but its connection. */
static void lh__exchange_unlink(struct lh_exchange *exchange)
{
    lh_timer_cancel(&exchange->timer);
    lh__link_remove(&exchange->unflushed);
    if (!lh__link_is_alone(&exchange->waiting)) {
        lh__link_remove(&exchange->waiting);
        exchange->upstream->waiting_count--;
    }
}

static void lh__exchange_leave(struct lh_exchange *exchange)
{
    struct lh__upstream_conn *conn = exchange->conn;

    if (conn != NULL) {
        exchange->conn = NULL;
        conn->exchange = NULL;
        lh__upstream_conn_close(conn);
    }
}

static void lh__exchange_free(struct lh_exchange *exchange)
{
    assert(exchange->conn == NULL);
    lh__exchange_unlink(exchange);
    lh_buf_deinit(&exchange->head);
    lh_buf_deinit(&exchange->out);
    free(exchange);
}

void lh__exchange_done(struct lh_exchange *exchange, bool is_reusable)
{
    const struct lh_exchange_events events = exchange->events;
    struct lh_upstream *upstream = exchange->upstream;
    struct lh__upstream_conn *conn = exchange->conn;

    if (is_reusable && !upstream->is_closing && !lh__upstream_conn_is_outdated(conn)) {
        exchange->conn = NULL;
        conn->exchange = NULL;
        lh__upstream_conn_keep(conn);
    } else {
        lh__exchange_leave(exchange);
    }
    lh__exchange_free(exchange);
    events.on_end(events.arg);
    lh__upstream_go_on(upstream);
}

void lh__exchange_fail(struct lh_exchange *exchange, enum lh_status status, const char *reason)
{
    const struct lh_exchange_events events = exchange->events;
    struct lh_upstream *upstream = exchange->upstream;
    struct lh_error error;

    lh_error_set(&error, status, "%s (%.*s): %s", upstream->options.name,
                 (int)(upstream->authority.len < 60 ? upstream->authority.len : 60),
                 upstream->authority.ptr, reason);
    if (status == LH_OVERLOADED) {
        lh_counter_add(&upstream->metrics.refused, 1);
    } else if (status != LH_STOPPING) {
        lh_counter_add(&upstream->metrics.failures, 1);
    }
    lh__exchange_leave(exchange);
    lh__exchange_free(exchange);
    events.on_failed(&error, events.arg);
    lh__upstream_go_on(upstream);
}

void lh__exchange_lost(struct lh_exchange *exchange, const char *reason)
{
    const struct lh__upstream_conn *conn = exchange->conn;
    bool has_sent_body = exchange->handed > exchange->head.len;
    bool can_retry =
        conn->is_reused && !exchange->has_retried && !exchange->has_answered &&
        (!conn->response.has_begun || exchange->handed == 0) && !has_sent_body &&
        (exchange->is_safe || exchange->body != LH_EXCHANGE_NO_BODY || exchange->handed == 0);
    struct lh_buf again = LH_BUF_EMPTY;

    if (!can_retry || exchange->upstream->is_closing) {
        lh__exchange_fail(exchange, LH_BAD_GATEWAY, reason);
        return;
    }
    if (exchange->handed > 0) {
        lh_buf_append_str(&again, lh_buf_str(&exchange->head));
        lh_buf_append_str(&again, lh_buf_str(&exchange->out));
        lh_buf_deinit(&exchange->out);
        exchange->out = again;
        exchange->handed = 0;
    }
    exchange->has_retried = true;
    lh_counter_add(&exchange->upstream->metrics.retries, 1);
    lh_timer_cancel(&exchange->timer);
    lh__exchange_leave(exchange);
    lh__exchange_wait(exchange, true);
    lh__upstream_go_on(exchange->upstream);
}

void lh_exchange_cancel(struct lh_exchange *exchange)
{
    struct lh_upstream *upstream = exchange->upstream;

    if (exchange->conn != NULL) {
        exchange->conn->is_reset = true;
    }
    lh__exchange_leave(exchange);
    lh__exchange_free(exchange);
    lh__upstream_go_on(upstream);
}

void lh__upstream_go_on(struct lh_upstream *upstream)
{
    while (!upstream->is_closing && !lh__link_is_alone(&upstream->waiting)) {
        struct lh_exchange *exchange = lh__container(upstream->waiting.next, lh_exchange, waiting);
        if (!lh__exchange_connect(exchange)) {
            return;
        }
        lh__link_remove(&exchange->waiting);
        upstream->waiting_count--;
        if (lh__link_is_alone(&exchange->unflushed)) {
            lh__link_append(&upstream->server->unflushed, &exchange->unflushed);
        }
    }
}
