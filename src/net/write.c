/* Writing to a client. Loop thread.
 *
 * What the socket takes at once is sent with one writev and no allocation; the rest is queued with
 * libuv, which keeps the order. A failed write marks the connection broken; it is closed where
 * nothing runs on it any more. */
#include "net/internal.h"

#include <assert.h>
#include <stdlib.h>

/* What a write still has to send, until libuv is through with it. */
struct lh__write {
    uv_write_t req; /* data: the connection */
    struct lh_buf body;
    char head[];
};

size_t lh__write_queued(const struct lh__conn *conn)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);
}

static void lh__write_done(uv_write_t *req, int status)
{
    struct lh__write *write = (struct lh__write *)(void *)req;
    struct lh__conn *conn = req->data;

    conn->server->answer_bytes -= write->body.cap;
    lh_buf_deinit(&write->body);
    free(write);
    if (status < 0) {
        conn->broken = true;
    }
    if (!conn->closed) {
        lh__server_ready(conn);
    }
}

/* Queues what is left after `sent` bytes; takes `body`. */
static void lh__write_rest(struct lh__conn *conn, struct lh_str head, struct lh_buf *body,
                           size_t sent)
{
    size_t head_left = sent < head.len ? head.len - sent : 0;
    size_t body_sent = sent - (head.len - head_left);
    struct lh__write *write = malloc(sizeof *write + head_left);
    uv_buf_t bufs[2];
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
    if (write->body.len > body_sent) {
        /* Answers are bounded far below 4 GiB by LH_BATCH_RESULTS_MAX. */
        assert(write->body.len <= UINT32_MAX);
        bufs[count++] =
            uv_buf_init(write->body.ptr + body_sent, (unsigned)(write->body.len - body_sent));
    }
    if (uv_write(&write->req, (uv_stream_t *)&conn->tcp, bufs, count, lh__write_done) != 0) {
        lh_buf_deinit(&write->body);
        free(write);
        conn->broken = true;
        return;
    }
    conn->server->answer_bytes += write->body.cap;
}

void lh__write(struct lh__conn *conn, struct lh_str head, struct lh_buf *body)
{
    size_t body_len = body ? body->len : 0;
    size_t sent = 0;

    if (conn->closed || conn->broken) {
        return;
    }
    if (lh__write_queued(conn) == 0) {
        uv_buf_t bufs[2] = {uv_buf_init((char *)head.ptr, (unsigned)head.len)};
        int n;
        if (body_len > 0) {
            bufs[1] = uv_buf_init(body->ptr, (unsigned)body_len);
        }
        n = uv_try_write((uv_stream_t *)&conn->tcp, bufs, body_len > 0 ? 2 : 1);
        if (n < 0 && n != UV_EAGAIN) {
            conn->broken = true;
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent < head.len + body_len) {
        lh__write_rest(conn, head, body, sent);
    }
}
