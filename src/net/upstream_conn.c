/* Connections to upstreams: made, written to, read from, kept. Loop thread.
 *
 * A name is resolved for each connection that is made, and its addresses are tried in their order.
 * An idle connection is read: whatever comes on it, its end mostly, closes it. When a write fails,
 * reading goes on, since an upstream that refuses a body answers first and then resets.
 *
 * TLS lies where bytes come from the socket and where they go to it. Its handshake belongs to the
 * making of a connection. */
#include "net/upstream_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static void lh__conn_free(struct lh__upstream_conn *conn)
{
    assert(conn->is_closed && !conn->has_tcp && !conn->is_resolving);
    if (conn->addresses != NULL) {
        uv_freeaddrinfo(conn->addresses);
    }
    lh__response_deinit(&conn->response);
    lh_buf_deinit(&conn->writing);
    lh__tls_destroy(conn->tls);
    free(conn);
}

static void lh__conn_on_closed(uv_handle_t *handle)
{
    struct lh__upstream_conn *conn = handle->data;

    conn->has_tcp = false;
    lh__conn_free(conn);
}

/* As much of the session's end as fits: it is a courtesy. */
static void lh__conn_say_end(struct lh__upstream_conn *conn)
{
    struct lh_buf *out = lh__tls_out(conn->tls);
    uv_buf_t bytes;

    lh__tls_end(conn->tls);
    if (!conn->is_writing && out->len > 0) {
        bytes = uv_buf_init(out->ptr, (unsigned)out->len);
        (void)uv_try_write((uv_stream_t *)&conn->tcp, &bytes, 1);
    }
}

void lh__upstream_conn_close(struct lh__upstream_conn *conn)
{
    struct lh_upstream *upstream = conn->upstream;

    if (conn->is_closed) {
        return;
    }
    assert(conn->exchange == NULL);
    conn->is_closed = true;
    lh_timer_cancel(&conn->timer);
    lh__link_remove(&conn->all);
    upstream->open_count--;
    if (!lh__link_is_alone(&conn->idle)) {
        lh__link_remove(&conn->idle);
        upstream->idle_count--;
    }
    if (conn->is_resolving) {
        uv_cancel((uv_req_t *)&conn->resolve); /* or it ends by itself; its callback frees */
    } else if (!conn->has_tcp) {
        lh__conn_free(conn);
    } else if (!uv_is_closing((uv_handle_t *)&conn->tcp)) {
        if (conn->tls != NULL && !conn->is_reset) {
            lh__conn_say_end(conn);
        }
        if (!conn->is_reset || uv_tcp_close_reset(&conn->tcp, lh__conn_on_closed) != 0) {
            uv_close((uv_handle_t *)&conn->tcp, lh__conn_on_closed);
        }
    }
}

/* Ends the connection and tells its exchange, which may try another. */
static void lh__conn_die(struct lh__upstream_conn *conn, const char *reason)
{
    if (conn->exchange != NULL) {
        lh__exchange_lost(conn->exchange, reason);
    } else {
        struct lh_upstream *upstream = conn->upstream;
        lh__upstream_conn_close(conn);
        lh__upstream_go_on(upstream);
    }
}

/* ---- reading ---- */

static void lh__conn_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct lh__upstream_conn *conn = handle->data;

    *buf = uv_buf_init(conn->upstream->server->read_buffer, LH__READ_BYTES);
}

/* The response's events, passed on while anyone wants them. */
static void lh__conn_on_interim(int status, void *arg)
{
    struct lh__upstream_conn *conn = arg;

    if (conn->exchange != NULL && status == 100) {
        conn->exchange->events.on_continue(conn->exchange->events.arg);
    }
}

static void lh__conn_on_head(const struct lh__head *head, void *arg)
{
    struct lh__upstream_conn *conn = arg;
    struct lh_exchange *exchange = conn->exchange;

    if (exchange != NULL) {
        exchange->has_answered = true;
        lh_histogram_observe(&conn->upstream->metrics.latency,
                             lh_clock_ns() - exchange->started_ns);
        exchange->events.on_head(head->status, head, exchange->events.arg);
    }
}

static void lh__conn_on_body(struct lh_str piece, void *arg)
{
    struct lh__upstream_conn *conn = arg;

    if (conn->exchange != NULL) {
        conn->exchange->events.on_body(piece, conn->exchange->events.arg);
    }
}

static void lh__conn_take(struct lh__upstream_conn *conn, const char *bytes, size_t len)
{
    struct lh_exchange *exchange = conn->exchange;
    struct lh_error error;
    size_t used = 0;

    if (exchange == NULL || exchange->handed == 0) {
        lh__conn_die(conn, "it answered without having been asked");
        return;
    }
    if (lh__response_read(&conn->response, bytes, len, &used, &error) != LH_OK) {
        if (conn->exchange != NULL) {
            lh__exchange_fail(conn->exchange,
                              error.status == LH_OUT_OF_MEMORY ? error.status : LH_BAD_GATEWAY,
                              error.text);
        }
        return;
    }
    exchange = conn->exchange; /* its owner may have cancelled it */
    if (exchange == NULL) {
        return;
    }
    if (conn->response.state == LH__RESPONSE_DONE) {
        bool is_taken = exchange->is_whole && exchange->out.len == 0 && !conn->is_writing &&
                        !conn->is_deaf && !conn->has_fin;
        lh__exchange_done(exchange, is_taken && conn->response.head.keep_alive &&
                                        !conn->response.until_close && used == len);
    } else if (exchange->has_answered) {
        lh__exchange_arm(exchange);
    }
}

/* Nothing follows; nobody has cut it short. */
static void lh__conn_at_end(struct lh__upstream_conn *conn)
{
    struct lh_error error;

    if (conn->exchange == NULL) {
        lh__conn_die(conn, "");
    } else if (lh__response_at_eof(&conn->response, &error) == LH_OK) {
        lh__exchange_done(conn->exchange, false);
    } else {
        lh__conn_die(conn, error.text);
    }
}

static void lh__conn_decrypt(struct lh__upstream_conn *conn, const char *bytes, size_t len);

static void lh__conn_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct lh__upstream_conn *conn = stream->data;

    if (conn->is_closed || nread == 0) {
        return;
    }
    if (nread < 0 && nread != UV_EOF) {
        lh__conn_die(conn, uv_strerror((int)nread));
    } else if (nread < 0 && conn->tls != NULL) {
        /* Whoever sits on the wire could have ended it so (RFC 8446 section 6.1). */
        lh__conn_die(conn, "the connection ended without the end of its TLS session");
    } else if (nread < 0) {
        lh__conn_at_end(conn);
    } else if (conn->tls != NULL) {
        lh__conn_decrypt(conn, buf->base, (size_t)nread);
    } else {
        lh__conn_take(conn, buf->base, (size_t)nread);
    }
}

void lh__upstream_conn_update_reading(struct lh__upstream_conn *conn)
{
    bool is_paused = conn->is_ready && conn->exchange != NULL && conn->exchange->is_paused;
    bool want = conn->is_connected && !conn->is_closed && !is_paused;

    if (want && !conn->is_reading) {
        conn->is_reading =
            uv_read_start((uv_stream_t *)&conn->tcp, lh__conn_alloc, lh__conn_on_read) == 0;
    } else if (!want && conn->is_reading) {
        uv_read_stop((uv_stream_t *)&conn->tcp);
        conn->is_reading = false;
    }
}

/* ---- writing ---- */

/* What it does not take any more is dropped: the answer, or the end, is on its way. */
static void lh__conn_deafen(struct lh__upstream_conn *conn)
{
    struct lh_exchange *exchange = conn->exchange;

    conn->is_deaf = true;
    if (exchange != NULL) {
        exchange->handed += exchange->out.len;
        exchange->out.len = 0;
    }
}

static bool lh__conn_send(struct lh__upstream_conn *conn, struct lh_buf *wire);

static void lh__conn_on_written(uv_write_t *req, int status)
{
    struct lh__upstream_conn *conn = req->data;
    struct lh_exchange *exchange = conn->exchange;
    bool is_sent = status >= 0;

    conn->is_writing = false;
    lh_buf_deinit(&conn->writing);
    if (conn->is_closed) {
        return;
    }
    if (is_sent && conn->tls != NULL) {
        is_sent = lh__conn_send(conn, lh__tls_out(conn->tls)); /* the session's own */
    }
    if (exchange == NULL || !conn->is_ready) {
        return;
    }
    if (!is_sent) {
        lh__conn_deafen(conn);
    } else {
        lh__upstream_conn_flush(conn);
    }
    lh__exchange_arm(exchange);
    lh__exchange_moved(exchange);
}

/* Empties `wire` into the socket, unless the last is still under way: then it goes behind that.
 * False when nothing is taken any more. */
static bool lh__conn_send(struct lh__upstream_conn *conn, struct lh_buf *wire)
{
    uv_buf_t bytes;
    int n;

    if (conn->is_writing || wire->len == 0) {
        return true;
    }
    assert(wire->len <= UINT32_MAX); /* a client's socket is not read past LH_UPSTREAM_OUT_BYTES */
    bytes = uv_buf_init(wire->ptr, (unsigned)wire->len);
    n = uv_try_write((uv_stream_t *)&conn->tcp, &bytes, 1);
    if (n < 0 && n != UV_EAGAIN) {
        return false;
    }
    if (n >= 0 && (size_t)n == wire->len) {
        wire->len = 0;
        return true;
    }
    conn->writing = lh_buf_take(wire);
    n = n > 0 ? n : 0;
    bytes = uv_buf_init(conn->writing.ptr + n, (unsigned)(conn->writing.len - (size_t)n));
    conn->write.data = conn;
    conn->is_writing =
        uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &bytes, 1, lh__conn_on_written) == 0;
    if (!conn->is_writing) {
        lh_buf_deinit(&conn->writing);
    }
    return conn->is_writing;
}

static void lh__conn_send_fin(struct lh__upstream_conn *conn)
{
    uv_os_fd_t fd;

    conn->has_fin = true;
    if (conn->tls != NULL) {
        lh__tls_end(conn->tls); /* the session's end is one, too */
        (void)lh__conn_send(conn, lh__tls_out(conn->tls));
    } else if (uv_fileno((uv_handle_t *)&conn->tcp, &fd) == 0) {
        (void)shutdown(fd, SHUT_WR); /* when it fails, reading says why */
    }
}

static void lh__conn_send_out(struct lh__upstream_conn *conn)
{
    struct lh_exchange *exchange = conn->exchange;
    struct lh_buf *out = &exchange->out;
    bool is_sent;

    exchange->handed += out->len;
    if (conn->tls == NULL) {
        is_sent = lh__conn_send(conn, out);
    } else {
        is_sent = lh__tls_write(conn->tls, lh_buf_str(out)) &&
                  lh__conn_send(conn, lh__tls_out(conn->tls));
    }
    out->len = 0;
    if (!is_sent) {
        lh__conn_deafen(conn);
    }
    lh__exchange_arm(exchange);
}

void lh__upstream_conn_flush(struct lh__upstream_conn *conn)
{
    const struct lh_exchange *exchange = conn->exchange;
    bool is_able = conn->is_ready && !conn->is_writing && !conn->is_deaf && !conn->has_fin;

    if (is_able && exchange->out.len > 0) {
        lh__conn_send_out(conn);
    }
    if (is_able && exchange->wants_fin && exchange->is_whole && !conn->is_writing &&
        !conn->is_deaf) {
        lh__conn_send_fin(conn);
    }
}

/* ---- connecting ---- */

static void lh__conn_connect(struct lh__upstream_conn *conn);

/* No address could be connected to. What this process is short of is no fault of the upstream. */
static void lh__conn_unreachable(struct lh__upstream_conn *conn)
{
    int error = conn->error;
    bool is_ours = error == UV_EMFILE || error == UV_ENFILE || error == UV_ENOMEM ||
                   error == UV_ENOBUFS || error == UV_EADDRNOTAVAIL;

    if (conn->exchange != NULL) {
        lh__exchange_fail(conn->exchange, is_ours ? LH_OVERLOADED : LH_BAD_GATEWAY,
                          uv_strerror(error));
    }
}

/* The handle of a failed try is gone: the next address, if there is one. */
static void lh__conn_on_given_up(uv_handle_t *handle)
{
    struct lh__upstream_conn *conn = handle->data;

    conn->has_tcp = false;
    if (conn->is_closed) {
        lh__conn_free(conn);
    } else if (conn->address != NULL && conn->address->ai_next != NULL) {
        conn->address = conn->address->ai_next;
        lh__conn_connect(conn);
    } else {
        lh__conn_unreachable(conn);
    }
}

static void lh__conn_on_ready(struct lh__upstream_conn *conn)
{
    conn->is_ready = true;
    lh_counter_add(&conn->upstream->metrics.connects, 1);
    lh__upstream_conn_update_reading(conn);
    lh__exchange_arm(conn->exchange);
    lh__upstream_conn_flush(conn);
    lh__exchange_moved(conn->exchange);
}

/* What the records in `bytes` say goes on; what the session answers to them goes out. */
static void lh__conn_decrypt(struct lh__upstream_conn *conn, const char *bytes, size_t len)
{
    char *plain = conn->upstream->server->plain_buffer;
    enum lh__tls_result result;
    char reason[160];
    size_t got;

    if (!conn->is_ready && len >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        lh__conn_die(conn, "it speaks plain text: its URL begins with http://");
        return;
    }
    lh__tls_give(conn->tls, (struct lh_str){bytes, len});
    do {
        result = lh__tls_read(conn->tls, plain, LH__TLS_PIECE_BYTES, &got);
        /* When the socket takes it no more, reading says why. */
        (void)lh__conn_send(conn, lh__tls_out(conn->tls));
        if (!conn->is_ready && lh__tls_is_open(conn->tls)) {
            lh__conn_on_ready(conn);
        }
        if (got > 0 && !conn->is_closed) {
            lh__conn_take(conn, plain, got);
        }
    } while (result == LH__TLS_DATA && !conn->is_closed);
    if (conn->is_closed) {
        return;
    }
    if (result == LH__TLS_END) {
        lh__conn_at_end(conn);
    } else if (result == LH__TLS_FAILED) {
        snprintf(reason, sizeof reason, "TLS: %s", lh__tls_reason(conn->tls));
        lh__conn_die(conn, reason);
    }
}

static void lh__conn_begin_tls(struct lh__upstream_conn *conn)
{
    struct lh_upstream *upstream = conn->upstream;

    conn->tls =
        lh__tls_connect(upstream->server->upstream_tls, upstream->host, &upstream->tls_ticket);
    if (conn->tls == NULL) {
        lh__exchange_fail(conn->exchange, LH_OUT_OF_MEMORY, "no memory for TLS");
        return;
    }
    lh__upstream_conn_update_reading(conn);
    lh__conn_decrypt(conn, "", 0);
}

static void lh__conn_on_connected(uv_connect_t *req, int status)
{
    struct lh__upstream_conn *conn = req->data;

    if (conn->is_closed) {
        return;
    }
    if (status != 0) {
        conn->error = status;
        uv_close((uv_handle_t *)&conn->tcp, lh__conn_on_given_up);
        return;
    }
    conn->is_connected = true;
    uv_tcp_nodelay(&conn->tcp, 1);
    uv_freeaddrinfo(conn->addresses);
    conn->addresses = NULL;
    conn->address = NULL;
    if (conn->upstream->is_tls) {
        lh__conn_begin_tls(conn);
    } else {
        lh__conn_on_ready(conn);
    }
}

static void lh__conn_connect(struct lh__upstream_conn *conn)
{
    int error;

    uv_tcp_init(&conn->upstream->server->loop, &conn->tcp);
    conn->tcp.data = conn;
    conn->has_tcp = true;
    conn->connect.data = conn;
    error =
        uv_tcp_connect(&conn->connect, &conn->tcp, conn->address->ai_addr, lh__conn_on_connected);
    if (error != 0) {
        conn->error = error;
        uv_close((uv_handle_t *)&conn->tcp, lh__conn_on_given_up);
    }
}

static void lh__conn_on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *addresses)
{
    struct lh__upstream_conn *conn = req->data;

    conn->is_resolving = false;
    conn->addresses = addresses;
    conn->address = addresses;
    if (conn->is_closed) {
        lh__conn_free(conn);
    } else if (status != 0 || addresses == NULL) {
        conn->error = status != 0 ? status : UV_EAI_NODATA;
        lh__conn_unreachable(conn);
    } else {
        lh__conn_connect(conn);
    }
}

static void lh__conn_on_idle(struct lh_timer *timer, void *arg)
{
    lh__upstream_conn_close(arg);
    (void)timer;
}

struct lh__upstream_conn *lh__upstream_conn_open(struct lh_exchange *exchange)
{
    struct lh_upstream *upstream = exchange->upstream;
    struct lh__upstream_conn *conn = calloc(1, sizeof *conn);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

    if (conn == NULL) {
        return NULL;
    }
    conn->upstream = upstream;
    conn->resolve.data = conn;
    conn->response.on_interim = lh__conn_on_interim;
    conn->response.on_head = lh__conn_on_head;
    conn->response.on_body = lh__conn_on_body;
    conn->response.arg = conn;
    lh__link_init(&conn->idle);
    lh_timer_init(&conn->timer, lh__conn_on_idle, conn);
    lh__response_begin(&conn->response, exchange->is_head);
    /* An address is a name as well, so there is one way; libuv asks from a thread of its own. */
    if (uv_getaddrinfo(&upstream->server->loop, &conn->resolve, lh__conn_on_resolved,
                       upstream->host, upstream->port, &hints) != 0) {
        free(conn);
        return NULL;
    }
    conn->is_resolving = true;
    lh__link_append(&upstream->conns, &conn->all);
    upstream->open_count++;
    conn->exchange = exchange;
    exchange->conn = conn;
    return conn;
}

/* ---- keeping ---- */

void lh__upstream_conn_use(struct lh__upstream_conn *conn, struct lh_exchange *exchange)
{
    assert(conn->exchange == NULL && conn->is_ready && !conn->is_closed);
    lh_timer_cancel(&conn->timer);
    lh__link_remove(&conn->idle);
    conn->upstream->idle_count--;
    conn->is_reused = true;
    conn->exchange = exchange;
    exchange->conn = conn;
    lh__response_begin(&conn->response, exchange->is_head);
    lh__exchange_arm(exchange);
}

void lh__upstream_conn_keep(struct lh__upstream_conn *conn)
{
    struct lh_upstream *upstream = conn->upstream;

    assert(conn->exchange == NULL && !conn->is_writing && !conn->is_deaf);
    lh__link_append(&upstream->idle, &conn->idle);
    upstream->idle_count++;
    lh_timer_set(&upstream->server->timers, &conn->timer, LH_UPSTREAM_IDLE_MS);
    lh__upstream_conn_update_reading(conn);
}

bool lh__upstream_conn_is_outdated(const struct lh__upstream_conn *conn)
{
    return conn->tls != NULL && !lh__tls_is_of(conn->tls, conn->upstream->server->upstream_tls);
}
