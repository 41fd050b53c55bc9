/* Connections. Loop thread.
 *
 * Bytes come from one read buffer of the loop and are consumed in steps: by the header, the body,
 * or nobody when a call is with its handler; then they are kept for later, up to a bound past
 * which the socket is not read. All transitions happen in lh__conn_go_on and its steps, which
 * never nest: an answer from inside a step is noticed by the next one, an answer from elsewhere
 * puts the connection on the server's ready ring. */
#include "net/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>

/* A call that is answered, or answered and read: the connection's next state. */
static void lh__conn_finish_call(struct lh__conn *conn)
{
    struct lh_http_call *call = conn->call;

    if (call != NULL && call->answered && (call->complete || !call->keep)) {
        conn->lingering = !call->keep;
        lh__call_give(call);
    }
}

/* So much is unsent that the client is not listened to, or it stands in a pipe, which what comes
 * behind it would have to be copied out of. An answer in pieces is bounded by itself, and its
 * service may need the request's body to go on. */
static bool lh__conn_is_clogged(const struct lh__conn *conn)
{
    const struct lh_http_call *call = conn->call;
    bool is_sending = call != NULL && call->begun && !call->complete;

    return !is_sending && (conn->pipe.len > 0 || lh__write_queued(conn) > LH_WRITE_QUEUE_BYTES_MAX);
}

/* Takes some of `bytes`. False: nothing more for now. */
static bool lh__conn_step(struct lh__conn *conn, const char *bytes, size_t len, size_t *used)
{
    struct lh_http_call *call;

    *used = 0;
    lh__conn_finish_call(conn);
    if (conn->closed || conn->broken || conn->lingering) {
        *used = len;
        return false;
    }
    if (lh__conn_is_clogged(conn)) {
        return false;
    }
    call = conn->call;
    if (call == NULL || call->state == LH__CALL_HEAD) {
        *used = len > 0 ? lh__request_read_head(conn, bytes, len) : 0;
        return *used > 0;
    }
    if (call->state == LH__CALL_BODY && (!call->paused || call->answered)) {
        if (call->complete) { /* paused before its end, which is told now */
            lh__request_complete(call);
            return true;
        }
        bool was_paused = llhttp_get_errno(&call->parser) == HPE_PAUSED;
        if (len == 0 && !was_paused) {
            return false;
        }
        *used = lh__body_read(conn, bytes, len);
        return true;
    }
    if (call->state == LH__CALL_TRAILER && (!call->paused || call->answered)) {
        *used = len > 0 ? lh__body_read_trailer(conn, bytes, len) : 0;
        return *used > 0;
    }
    return false;
}

/* How many of `bytes` were consumed. */
static size_t lh__conn_feed(struct lh__conn *conn, const char *bytes, size_t len)
{
    size_t total = 0;
    size_t used;
    bool more;

    assert(!conn->feeding);
    conn->feeding = true;
    do {
        more = lh__conn_step(conn, bytes + total, len - total, &used);
        total += used;
        assert(total <= len);
    } while (more);
    conn->feeding = false;
    return total;
}

static void lh__conn_feed_ahead(struct lh__conn *conn)
{
    struct lh_buf ahead = lh_buf_take(&conn->ahead);
    size_t used = lh__conn_feed(conn, ahead.ptr ? ahead.ptr : "", ahead.len);

    if (used == ahead.len) {
        lh_buf_deinit(&ahead);
        return;
    }
    lh_buf_consume(&ahead, used);
    conn->ahead = ahead;
}

/* A body is read to where its service wants it. Of a header behind which one came the last time,
 * little is read at once: what comes of a body with it is copied. */
static void lh__conn_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct lh__conn *conn = handle->data;
    const struct lh_http_call *call = conn->call;
    bool is_head = call == NULL ? !conn->lingering : call->state == LH__CALL_HEAD;
    size_t room = is_head && conn->has_rooms ? LH__READ_HEAD_BYTES : LH__READ_BYTES;

    *buf = uv_buf_init(conn->server->read_buffer, (unsigned)room);
    if (call != NULL && conn->tls == NULL && conn->ahead.len == 0) {
        char *own = lh__body_room(call, &room);
        if (own != NULL) {
            *buf = uv_buf_init(own, (unsigned)room);
        }
    }
}

static void lh__conn_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);

static void lh__conn_update_reading(struct lh__conn *conn)
{
    const struct lh_http_call *call = conn->call;
    bool want =
        !conn->eof &&
        (conn->lingering ||
         (conn->ahead.len < LH__AHEAD_BYTES_MAX && !lh__conn_is_clogged(conn) &&
          !(call != NULL && (call->state == LH__CALL_WAIT || (call->paused && !call->answered)))));

    if (want && !conn->reading) {
        conn->reading =
            uv_read_start((uv_stream_t *)&conn->tcp, lh__conn_alloc, lh__conn_on_read) == 0;
        conn->broken = conn->broken || !conn->reading;
    } else if (!want && conn->reading) {
        uv_read_stop((uv_stream_t *)&conn->tcp);
        conn->reading = false;
    }
}

/* The client sent its FIN: it may still read, so a call that is complete gets its answer. */
static void lh__conn_at_eof(struct lh__conn *conn)
{
    struct lh_http_call *call = conn->call;
    const struct lh_error cut = {.status = LH_BAD_REQUEST, .text = "the request ends too early"};

    if (call != NULL && call->complete && !call->answered && call->stream.on_fin != NULL) {
        void (*on_fin)(struct lh_http_call *, void *) = call->stream.on_fin;
        call->stream.on_fin = NULL;
        on_fin(call, call->stream.arg);
        call = conn->call; /* it may have been answered */
    }
    if (call != NULL && !call->complete && call->state != LH__CALL_WAIT &&
        (!call->paused || call->answered) && !lh__conn_is_clogged(conn)) {
        lh__request_fail(call, &cut);
        lh__conn_finish_call(conn);
    }
    if (conn->call == NULL && lh__write_queued(conn) == 0) {
        lh__conn_close(conn);
    }
}

/* Our FIN, when all is written; the socket itself is closed after theirs or the deadline, because
 * closing it with unread bytes resets the connection and can destroy the answer on its way. */
static void lh__conn_send_fin(struct lh__conn *conn)
{
    uv_os_fd_t fd;

    if (conn->tls != NULL) {
        lh__conn_tls_end(conn);
        if (lh__write_queued(conn) > 0) {
            return; /* comes back when it is written */
        }
    }
    conn->fin_sent = true;
    if (uv_fileno((uv_handle_t *)&conn->tcp, &fd) != 0 || shutdown(fd, SHUT_WR) != 0) {
        conn->broken = true;
    }
}

void lh__conn_go_on(struct lh__conn *conn)
{
    if (conn->closed) {
        return;
    }
    lh__conn_feed_ahead(conn);
    if (conn->call != NULL && !conn->broken) {
        lh__sending_go_on(conn->call);
    }
    if (conn->eof && !conn->broken) {
        lh__conn_at_eof(conn);
    }
    if (!conn->closed && !conn->broken && conn->lingering && !conn->fin_sent &&
        lh__write_queued(conn) == 0) {
        lh__conn_send_fin(conn);
    }
    if (!conn->closed && conn->server->stopping && conn->call == NULL && !conn->lingering &&
        lh__write_queued(conn) == 0) {
        lh__conn_close(conn); /* idle: nothing is lost */
    }
    if (!conn->closed && !conn->broken) {
        lh__conn_update_reading(conn);
    }
    if (conn->broken) {
        lh__conn_close(conn);
    }
    if (!conn->closed) {
        lh__deadline_arm(conn);
    }
}

static void lh__conn_linger_on(struct lh__conn *conn)
{
    const struct lh_timers *timers = &conn->server->timers;

    if (conn->phase == LH__PHASE_LINGER &&
        timers->now_ms + LH__LINGER_IDLE_MS < conn->linger_until_ms) {
        lh_timer_set(&conn->server->timers, &conn->timer, LH__LINGER_IDLE_MS);
    }
}

void lh__conn_consume(struct lh__conn *conn, const char *bytes, size_t len)
{
    size_t used = conn->ahead.len == 0 ? lh__conn_feed(conn, bytes, len) : 0;

    if (used < len) {
        lh_buf_append(&conn->ahead, bytes + used, len - used);
        conn->broken = conn->broken || lh_buf_failed(&conn->ahead);
    }
}

static void lh__conn_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct lh__conn *conn = stream->data;

    if (nread == 0) {
        return;
    }
    if (nread == UV_EOF) {
        conn->eof = true;
        conn->reading = false;
        uv_read_stop(stream);
    } else if (nread < 0) {
        conn->broken = true;
    } else if (conn->lingering) {
        lh__conn_linger_on(conn);
        return;
    } else if (conn->tls != NULL) {
        lh__conn_tls_read(conn, buf->base, (size_t)nread);
    } else {
        lh__conn_consume(conn, buf->base, (size_t)nread);
    }
    lh__conn_go_on(conn);
}

static void lh__conn_on_closed(uv_handle_t *handle)
{
    struct lh__conn *conn = handle->data;
    struct lh_http_server *server = conn->server;
    struct lh__slot *slot = &server->slots[conn->slot];

    lh__link_remove(&conn->all);
    slot->conn = NULL;
    slot->next_free = server->slot_free;
    server->slot_free = conn->slot;
    if (conn->refused) {
        server->refused_count--;
    } else {
        server->conn_count--;
    }
    lh_buf_deinit(&conn->ahead);
    lh__tls_destroy(conn->tls);
    free(conn);
    lh__server_conn_gone(server);
}

void lh__conn_close(struct lh__conn *conn)
{
    if (conn->closed) {
        return;
    }
    if (conn->tls != NULL && !conn->cut) {
        lh__conn_tls_end(conn);
    }
    conn->closed = true;
    lh_timer_cancel(&conn->timer);
    lh__link_remove(&conn->ready);
    lh__write_pipe_drop(conn);
    if (conn->call != NULL) {
        lh__call_gone(conn->call);
        lh__call_give(conn->call);
    }
    if (!conn->cut || uv_tcp_close_reset(&conn->tcp, lh__conn_on_closed) != 0) {
        uv_close((uv_handle_t *)&conn->tcp, lh__conn_on_closed);
    }
}

void lh__conn_abort(struct lh__conn *conn)
{
    const struct lh_error stopping = {.status = LH_STOPPING};

    if (!conn->closed && conn->call != NULL && !conn->call->answered) {
        conn->feeding = true; /* it does not go on */
        lh__request_fail(conn->call, &stopping);
        conn->feeding = false;
    }
    lh__conn_close(conn);
}

/* A slot with a free place in the ticket table; grows it. */
static bool lh__conn_take_slot(struct lh__conn *conn)
{
    struct lh_http_server *server = conn->server;

    if (server->slot_free == UINT32_MAX) {
        uint32_t count = server->slot_count ? 2 * server->slot_count : 64;
        struct lh__slot *slots = realloc(server->slots, count * sizeof *slots);
        if (slots == NULL) {
            return false;
        }
        for (uint32_t i = server->slot_count; i < count; i++) {
            slots[i] = (struct lh__slot){NULL, 0, i + 1 < count ? i + 1 : UINT32_MAX};
        }
        server->slot_free = server->slot_count;
        server->slots = slots;
        server->slot_count = count;
    }
    conn->slot = server->slot_free;
    server->slot_free = server->slots[conn->slot].next_free;
    server->slots[conn->slot].conn = conn;
    return true;
}

void lh__conn_refuse(struct lh__conn *conn)
{
    const struct lh_error full = {.status = LH_OVERLOADED,
                                  .text = "the server has its most connections, try again"};

    lh_counter_add(&conn->server->refused, 1);
    if (lh__call_take(conn) == NULL) {
        conn->broken = true;
        return;
    }
    conn->call->started_ns = lh_clock_ns();
    lh__request_fail(conn->call, &full);
}

static void lh__conn_on_dropped(uv_handle_t *handle)
{
    struct lh__conn *conn = handle->data;

    lh__tls_destroy(conn->tls);
    free(conn);
}

void lh__conn_accept(struct lh__listener *listener)
{
    struct lh_http_server *server = listener->server;
    struct lh__conn *conn = NULL;

    if (server->conn_count + server->refused_count < server->descriptors_max) {
        conn = calloc(1, sizeof *conn);
    }
    listener->is_held = conn == NULL;
    if (listener->is_held) {
        return;
    }
    if (server->tls != NULL) {
        conn->tls = lh__tls_accept(server->tls);
        if (conn->tls == NULL) {
            listener->is_held = true;
            free(conn);
            return;
        }
    }
    uv_tcp_init(&server->loop, &conn->tcp);
    conn->tcp.data = conn;
    conn->server = server;
    conn->service = listener->service;
    conn->refused = server->conn_count >= server->options.connections_max;
    if (uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&conn->tcp) != 0 ||
        server->refused_count > LH__CONNECTIONS_REFUSED || !lh__conn_take_slot(conn)) {
        uv_close((uv_handle_t *)&conn->tcp, lh__conn_on_dropped);
        return;
    }
    lh__link_append(&server->conns, &conn->all);
    lh__link_init(&conn->waiting);
    lh__link_init(&conn->ready);
    lh_timer_init(&conn->timer, lh__deadline_fired, conn);
    uv_tcp_nodelay(&conn->tcp, 1);
    lh_counter_add(&server->accepted, 1);
    if (conn->refused) {
        server->refused_count++;
        if (conn->tls == NULL) {
            lh__conn_refuse(conn);
        }
    } else {
        server->conn_count++;
    }
    lh__conn_go_on(conn);
}
