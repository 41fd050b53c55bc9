/* Writing to a client what stands in a pipe. Loop thread.
 *
 * A connection has at most one pipe that is not empty, and what stands in it comes behind all that
 * libuv has queued for the socket. As long as the socket takes it, it is spliced. A socket that is
 * full is waited for by giving libuv a small part, copied: its callback is the news that there is
 * room. When something else is to be written, all of the rest is libuv's.
 *
 * Pipes are few, since the system limits them: one goes back as soon as it is empty, and with what
 * was left in it when its client has gone, which closes it. */
#include "net/internal.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define LH__UNSENT_BYTES_MAX (256 << 10) /* with 64 KiB as fast, with 512 slower */

void lh_http_call_take_pipe(struct lh_http_call *call, struct lh_pipe *pipe)
{
    struct lh_http_server *server = call->conn->server;

    assert(pipe->room == 0);
    if (call->conn->tls != NULL || call->chunked || call->bodiless) {
        return;
    }
    if (server->pipes_spare > 0) {
        *pipe = lh_pipe_take(&server->pipes[--server->pipes_spare]);
    } else if (server->pipes_open < LH_PIPES_MAX && lh_pipe_open(pipe, LH_PIPE_BYTES)) {
        server->pipes_open++;
    }
}

void lh_http_server_give_pipe(struct lh_http_server *server, struct lh_pipe *pipe)
{
    if (pipe->room == 0) {
        return;
    }
    if (pipe->len > 0) {
        lh_pipe_close(pipe);
        server->pipes_open--;
        return;
    }
    server->pipes[server->pipes_spare++] = lh_pipe_take(pipe);
    assert(server->pipes_spare <= server->pipes_open);
}

void lh__pipes_close(struct lh_http_server *server)
{
    while (server->pipes_spare > 0) {
        lh_pipe_close(&server->pipes[--server->pipes_spare]);
    }
}

/* So many bytes of the pipe have gone, or will not be sent. */
static void lh__write_pipe_less(struct lh__conn *conn, size_t bytes)
{
    conn->server->answer_bytes -= bytes;
    if (conn->pipe.len == 0) {
        lh_http_server_give_pipe(conn->server, &conn->pipe);
    }
}

void lh__write_pipe_drop(struct lh__conn *conn)
{
    conn->server->answer_bytes -= conn->pipe.len;
    lh_http_server_give_pipe(conn->server, &conn->pipe);
}

static void lh__write_pipe_failed(struct lh__conn *conn, int rc)
{
    char name[LH_PIPE_FILE_NAME_BYTES];

    if (rc == -ESTALE) {
        lh_pipe_file_name(&conn->pipe, name);
        lh_log_line(conn->server->options.log, LH_LOG_WARN,
                    "a file was changed by another program while it was sent",
                    LH_LOG_TEXT("file", name));
    }
    conn->broken = conn->cut = true; /* what has come of the body must not look whole */
}

/* Gives libuv the next bytes, `len` at most. */
static void lh__write_pipe_copy(struct lh__conn *conn, size_t len)
{
    struct lh_buf part = LH_BUF_EMPTY;
    int64_t got = -ENOMEM;

    if (lh_buf_reserve(&part, len) == LH_OK) {
        got = lh_pipe_read(&conn->pipe, part.ptr, len);
    }
    if (got < 0) {
        lh_buf_deinit(&part);
        lh__write_pipe_failed(conn, (int)got);
        return;
    }
    part.len = (size_t)got;
    lh__write_rest(conn, LH_STR(""), &part, LH_STR(""), 0);
    lh_buf_deinit(&part); /* when it was not taken */
    lh__write_pipe_less(conn, (size_t)got);
}

void lh__write_pipe_out(struct lh__conn *conn)
{
    while (conn->pipe.len > 0 && !conn->broken) {
        lh__write_pipe_copy(conn, conn->pipe.len);
    }
}

/* Where TCP paces (bbr), what a socket has and cannot send at once goes out when acknowledgements
 * come in: on the reader's core, which is the busy one. With little unsent, it is this thread that
 * sends. Elsewhere it would only be called more often. */
static void lh__write_pipe_pace(struct lh__conn *conn, int socket)
{
    char name[16] = ""; /* TCP_CA_NAME_MAX */
    socklen_t len = sizeof name;
    int most = LH__UNSENT_BYTES_MAX;

    if (conn->pace_known) {
        return;
    }
    conn->pace_known = true;
    if (getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0 &&
        strncmp(name, "bbr", 3) == 0) {
        setsockopt(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof most);
    }
}

void lh__write_pipe_go_on(struct lh__conn *conn)
{
    size_t had = conn->pipe.len;
    uv_os_fd_t socket;
    int rc;

    if (had == 0 || conn->broken || lh__write_queued(conn) > had) {
        return;
    }
    rc = uv_fileno((const uv_handle_t *)&conn->tcp, &socket);
    if (rc == 0) {
        lh__write_pipe_pace(conn, socket);
        rc = lh_pipe_send(&conn->pipe, socket);
    }
    size_t sent = had - conn->pipe.len;
    lh_counter_add(&conn->server->spliced_bytes, sent);
    lh__write_pipe_less(conn, sent);
    if (rc == -EAGAIN) {
        lh__write_pipe_copy(conn, LH__PIPE_PART_BYTES);
    } else if (rc != 0) {
        lh__write_pipe_failed(conn, rc);
    }
}

void lh__write_pipe(struct lh__conn *conn, struct lh_pipe *pipe)
{
    if (conn->closed || conn->broken) {
        lh_http_server_give_pipe(conn->server, pipe);
        return;
    }
    assert(conn->tls == NULL);
    lh__write_pipe_out(conn);
    if (conn->pipe.len > 0) { /* it broke */
        lh_http_server_give_pipe(conn->server, pipe);
        return;
    }
    conn->pipe = lh_pipe_take(pipe);
    conn->written += conn->pipe.len;
    conn->server->answer_bytes += conn->pipe.len;
    lh__write_pipe_go_on(conn);
}
