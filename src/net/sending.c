/* Answers in pieces. Loop thread.
 *
 * A piece is sent as it is given; what the socket does not take at once is queued from where it
 * lies. The next piece is asked for when the queue has room, from lh__conn_go_on, so that a service
 * is never called from inside its own call. Memory is bounded by the queue and one piece a
 * connection; while all answers together are past their bound, by one piece a connection. */
#include "net/internal.h"

#include <assert.h>
#include <stdio.h>

void lh_http_answer_begin(struct lh_http_call *call, int status, const char *content_type,
                          uint64_t length, const struct lh_http_sending *sending)
{
    struct lh__conn *conn = call->conn;

    assert(!call->answered && !call->begun && !conn->closed);
    assert(status >= 200 && status <= 599);
    lh__answer_head(call, status, content_type, length);
    call->extra.len = 0; /* what comes behind this is trailers */
    call->begun = true;
    call->wanted = true;
    call->bodiless = call->is_head || status == 204 || status == 304;
    call->chunked = length == LH_HTTP_LENGTH_UNKNOWN && call->head.minor > 0;
    call->status = status;
    call->answer_left = length;
    call->sending = *sending;
    lh__write(conn, lh_buf_str(&conn->server->out), NULL, LH_STR(""));
    if (!conn->feeding) {
        lh__server_ready(conn);
    }
}

void lh_http_answer_piece(struct lh_http_call *call, struct lh_buf *piece)
{
    struct lh__conn *conn = call->conn;
    char chunk_line[24];

    assert(call->begun && !call->answered);
    call->wanted = true;
    if (piece->len > 0 && !call->bodiless) {
        if (call->answer_left != LH_HTTP_LENGTH_UNKNOWN) {
            assert(piece->len <= call->answer_left);
            call->answer_left -= piece->len;
        }
        call->answer_sent += piece->len;
        if (call->chunked) {
            int len = snprintf(chunk_line, sizeof chunk_line, "%zx\r\n", piece->len);
            lh__write(conn, (struct lh_str){chunk_line, (size_t)len}, piece, LH_STR("\r\n"));
        } else {
            lh__write(conn, LH_STR(""), piece, LH_STR(""));
        }
    }
    lh_http_server_give_spare(conn->server, piece);
    if (!conn->feeding) {
        lh__server_ready(conn);
    }
}

void lh_http_answer_pipe(struct lh_http_call *call, struct lh_pipe *pipe)
{
    struct lh__conn *conn = call->conn;

    assert(call->begun && !call->answered && !call->bodiless && !call->chunked);
    assert(pipe->len > 0 && pipe->len <= call->answer_left);
    call->wanted = true;
    if (call->answer_left != LH_HTTP_LENGTH_UNKNOWN) {
        call->answer_left -= pipe->len;
    }
    call->answer_sent += pipe->len;
    lh__write_pipe(conn, pipe);
    if (!conn->feeding) {
        lh__server_ready(conn);
    }
}

void lh_http_answer_end(struct lh_http_call *call)
{
    struct lh__conn *conn = call->conn;

    assert(call->begun && !call->answered);
    assert(call->bodiless || call->answer_left == 0 || call->answer_left == LH_HTTP_LENGTH_UNKNOWN);
    if (call->chunked && !call->bodiless) {
        bool has_trailers = call->extra.len > 0 && !lh_buf_failed(&call->extra);
        lh__write(conn, LH_STR("0\r\n"), has_trailers ? &call->extra : NULL, LH_STR("\r\n"));
    }
    if (conn->server->stopping) {
        call->keep = false;
    }
    lh__answer_given(call);
}

void lh_http_answer_abort(struct lh_http_call *call)
{
    struct lh__conn *conn = call->conn;

    assert(call->begun && !call->answered);
    /* A body that ends with the connection would look whole without the reset. */
    conn->broken = conn->cut = true;
    call->keep = false;
    call->status = 500; /* as it is counted; the client saw another */
    lh__answer_given(call);
}

void lh__sending_go_on(struct lh_http_call *call)
{
    const struct lh__conn *conn = call->conn;
    const struct lh_http_server *server = conn->server;
    struct lh_http_sending sending;
    size_t queued;

    if (!call->begun || call->answered || !call->wanted) {
        return;
    }
    sending = call->sending;
    queued = lh__write_queued(conn);
    if (call->bodiless) {
        lh__answer_given(call);
        sending.on_gone(sending.arg);
    } else if (queued == 0 || (queued < LH_WRITE_QUEUE_BYTES_MAX && conn->pipe.len == 0 &&
                               server->answer_bytes <= server->options.body_bytes_in_flight_max)) {
        call->wanted = false;
        sending.on_ready(call, sending.arg);
    }
}
