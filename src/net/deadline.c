/* Deadlines: one timer a connection, which stands for the phase it is in. Loop thread.
 *
 * A phase is armed when it is entered and not by every byte, so that a client that sends one byte
 * a second gains nothing. Bodies are judged by their rate, window by window; an answer must make
 * progress in each: what counts is what the client's host has acknowledged, because the queue is
 * refilled while an answer comes in pieces, and the kernel takes from it in large steps. */
#include "net/internal.h"

static enum lh__phase lh__phase_of(const struct lh__conn *conn)
{
    const struct lh_http_call *call = conn->call;

    if (conn->closed) {
        return LH__PHASE_NONE;
    }
    if (lh__write_queued(conn) > 0) {
        return LH__PHASE_WRITE;
    }
    if (conn->lingering) {
        return LH__PHASE_LINGER;
    }
    if (call == NULL) {
        return conn->requests == 0 ? LH__PHASE_HEAD : LH__PHASE_IDLE;
    }
    switch (call->state) {
    case LH__CALL_HEAD:
        return LH__PHASE_HEAD;
    case LH__CALL_WAIT:
        return LH__PHASE_WAIT;
    case LH__CALL_BODY:
    case LH__CALL_TRAILER:
        return call->paused && !call->answered ? LH__PHASE_NONE : LH__PHASE_BODY;
    case LH__CALL_HELD:
        return LH__PHASE_NONE;
    }
    return LH__PHASE_NONE;
}

static uint64_t lh__phase_delay_ms(struct lh__conn *conn, enum lh__phase phase)
{
    const struct lh_http_server *server = conn->server;

    switch (phase) {
    case LH__PHASE_IDLE:
        return server->options.idle_timeout_ms;
    case LH__PHASE_HEAD:
    case LH__PHASE_WAIT:
        return server->options.header_timeout_ms;
    case LH__PHASE_BODY:
        conn->call->body_since_ms = server->timers.now_ms;
        conn->call->body_in_window = 0;
        return LH__BODY_GRACE_MS;
    case LH__PHASE_WRITE:
        conn->write_mark = lh__write_taken(conn);
        return server->options.write_timeout_ms;
    case LH__PHASE_LINGER:
        conn->linger_until_ms = server->timers.now_ms + LH__LINGER_TOTAL_MS;
        return LH__LINGER_IDLE_MS;
    case LH__PHASE_NONE:
        break;
    }
    return 0;
}

void lh__deadline_arm(struct lh__conn *conn)
{
    enum lh__phase phase = lh__phase_of(conn);

    if (phase == conn->phase && conn->phase_request == conn->requests) {
        return;
    }
    conn->phase = phase;
    conn->phase_request = conn->requests;
    if (phase == LH__PHASE_NONE) {
        lh_timer_cancel(&conn->timer);
    } else {
        lh_timer_set(&conn->server->timers, &conn->timer, lh__phase_delay_ms(conn, phase));
    }
}

/* True: the window that ends now brought enough, and the next one begins. */
static bool lh__body_is_fast_enough(struct lh__conn *conn)
{
    struct lh_http_server *server = conn->server;
    struct lh_http_call *call = conn->call;
    uint64_t elapsed_ms = server->timers.now_ms - call->body_since_ms;
    uint64_t rate = server->options.body_rate_bytes_min;

    /* What is reserved for a body is given back in a bounded time, however slow its client. */
    if (rate > 0 && rate < call->body_accounted / LH__BODY_SECONDS_MAX) {
        rate = call->body_accounted / LH__BODY_SECONDS_MAX;
    }
    uint64_t wanted = rate * elapsed_ms / 1000;

    if (call->body_in_window < wanted) {
        return false;
    }
    lh_timer_set(&server->timers, &conn->timer, lh__phase_delay_ms(conn, LH__PHASE_BODY));
    return true;
}

static void lh__time_out(struct lh__conn *conn, enum lh_status status, const char *text)
{
    struct lh_error error;

    lh_error_set(&error, status, "%s", text);
    lh__request_fail(conn->call, &error);
    lh__conn_go_on(conn);
}

void lh__deadline_fired(struct lh_timer *timer, void *arg)
{
    struct lh__conn *conn = arg;
    struct lh_http_server *server = conn->server;

    switch (conn->phase) {
    case LH__PHASE_HEAD:
        if (conn->call != NULL) {
            lh__time_out(conn, LH_REQUEST_TIMEOUT, "the header did not arrive in time");
            return;
        }
        break;
    case LH__PHASE_WAIT:
        lh__time_out(conn, LH_OVERLOADED, "the server stayed at its limit, try again");
        return;
    case LH__PHASE_BODY:
        if (!lh__body_is_fast_enough(conn)) {
            lh__time_out(conn, LH_REQUEST_TIMEOUT, "the body arrives too slowly");
        }
        return;
    case LH__PHASE_WRITE:
        if (lh__write_taken(conn) > conn->write_mark) {
            lh_timer_set(&server->timers, timer, lh__phase_delay_ms(conn, LH__PHASE_WRITE));
            return;
        }
        break;
    case LH__PHASE_LINGER:
    case LH__PHASE_IDLE:
    case LH__PHASE_NONE:
        break;
    }
    lh__conn_close(conn);
}
