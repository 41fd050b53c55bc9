/* Writing to a client. Loop thread.
 *
 * What the socket takes at once is sent with one writev and no allocation; the rest is queued with
 * libuv, which keeps the order. A failed write marks the connection broken; it is closed where
 * nothing runs on it any more. */
#include "net/internal.h"

#include <assert.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/* What a write still has to send, until libuv is through with it. */
struct lh__write {
    uv_write_t req; /* data: the connection */
    struct lh_buf body;
    char head[];
};

size_t lh__write_queued(const struct lh__conn *conn)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp) + conn->pipe.len;
}

void lh_http_server_take_spare(struct lh_http_server *server, struct lh_buf *piece)
{
    assert(piece->len == 0);
    if (piece->cap == 0 && server->spare_count > 0) {
        *piece = lh_buf_take(&server->spares[--server->spare_count]); /* the one used last */
    }
}

void lh_http_server_give_spare(struct lh_http_server *server, struct lh_buf *piece)
{
    if (piece->cap < LH__SPARE_BYTES_MIN || piece->cap > LH__SPARE_BYTES_MAX ||
        server->spare_count == LH__SPARES || lh_buf_failed(piece)) {
        lh_buf_deinit(piece);
        return;
    }
    piece->len = 0;
    server->spares[server->spare_count++] = lh_buf_take(piece);
}

static void lh__write_done(uv_write_t *req, int status)
{
    struct lh__write *write = (struct lh__write *)(void *)req;
    struct lh__conn *conn = req->data;

    conn->server->answer_bytes -= write->body.cap;
    lh_http_server_give_spare(conn->server, &write->body);
    free(write);
    if (status < 0) {
        conn->broken = true;
    }
    if (!conn->closed) {
        lh__write_pipe_go_on(conn);
        lh__server_ready(conn);
    }
}

/* Adds what of `bytes` lies behind the first *sent to `bufs`; takes its length off *sent. */
static inline unsigned lh__write_part(uv_buf_t *bufs, unsigned count, struct lh_str bytes,
                                      size_t *sent)
{
    size_t skip = *sent < bytes.len ? *sent : bytes.len;

    *sent -= skip;
    if (skip == bytes.len) {
        return count;
    }
    bufs[count] = (uv_buf_t){.base = (char *)bytes.ptr + skip, .len = bytes.len - skip};
    return count + 1;
}

void lh__write_rest(struct lh__conn *conn, struct lh_str head, struct lh_buf *body,
                    struct lh_str tail, size_t sent)
{
    size_t head_left = sent < head.len ? head.len - sent : 0;
    struct lh__write *write = malloc(sizeof *write + head_left);
    uv_buf_t bufs[3];
    unsigned count = 0;

    if (write == NULL) {
        conn->broken = true;
        return;
    }
    write->req.data = conn;
    write->body = body ? lh_buf_take(body) : (struct lh_buf)LH_BUF_EMPTY;
    if (head_left > 0) {
        memcpy(write->head, head.ptr + head.len - head_left, head_left);
        bufs[count++] = uv_buf_init(write->head, (unsigned)head_left);
    }
    sent -= head.len - head_left;
    count = lh__write_part(bufs, count, lh_buf_str(&write->body), &sent);
    count = lh__write_part(bufs, count, tail, &sent);
    if (uv_write(&write->req, (uv_stream_t *)&conn->tcp, bufs, count, lh__write_done) != 0) {
        lh_buf_deinit(&write->body);
        free(write);
        conn->broken = true;
        return;
    }
    conn->server->answer_bytes += write->body.cap;
}

void lh__write(struct lh__conn *conn, struct lh_str head, struct lh_buf *body, struct lh_str tail)
{
    if (conn->tls == NULL) {
        lh__write_wire(conn, head, body, tail);
    } else if (!conn->closed && !conn->broken) {
        lh__conn_tls_write(conn, head,
                           body != NULL && body->len > 0 ? lh_buf_str(body) : LH_STR(""), tail);
    }
}

void lh__write_wire(struct lh__conn *conn, struct lh_str head, struct lh_buf *body,
                    struct lh_str tail)
{
    struct lh_str middle = body ? lh_buf_str(body) : (struct lh_str){0};
    size_t len = head.len + middle.len + tail.len;
    size_t sent = 0;

    if (conn->closed || conn->broken || len == 0) {
        return;
    }
    lh__write_pipe_out(conn);
    if (conn->broken) { /* nothing may come in the place of what stood there */
        return;
    }
    if (lh__write_queued(conn) == 0) {
        size_t none = 0;
        uv_buf_t bufs[3];
        unsigned count = lh__write_part(bufs, 0, head, &none);
        count = lh__write_part(bufs, count, middle, &none);
        count = lh__write_part(bufs, count, tail, &none);
        int n = uv_try_write((uv_stream_t *)&conn->tcp, bufs, count);
        if (n < 0 && n != UV_EAGAIN) {
            conn->broken = true;
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    conn->written += len;
    if (sent < len) {
        lh__write_rest(conn, head, body, tail, sent);
    }
}

uint64_t lh__write_taken(const struct lh__conn *conn)
{
    uv_os_fd_t fd;
    int unacknowledged = 0;

    if (uv_fileno((const uv_handle_t *)&conn->tcp, &fd) == 0) {
        ioctl(fd, SIOCOUTQ, &unacknowledged);
    }
    return conn->written - lh__write_queued(conn) - (uint64_t)unacknowledged;
}
