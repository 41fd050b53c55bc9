/* TLS on a server's connections. Loop thread.
 *
 * The seam is where bytes come from the socket and where they go to it: what lies between speaks
 * HTTP and knows of none of this. The handshake falls under the deadline of the first header. */
#include "net/internal.h"

#include <assert.h>
#include <time.h>

static enum lh_status lh__tls_read_files(const char *certificate, const char *key,
                                         struct lh__tls_context **context, struct lh_error *error)
{
    const struct lh__tls_files files = {
        .certificate = certificate,
        .certificate_name = "server.tls_certificate",
        .key = key,
        .key_name = "server.tls_key",
    };

    return lh__tls_context_create_server(&files, context, error);
}

enum lh_status lh_http_check_tls(const char *certificate, const char *key, struct lh_error *error)
{
    struct lh__tls_context *context = NULL;
    enum lh_status status = LH_OK;

    if (*certificate != '\0' && *key != '\0') {
        status = lh__tls_read_files(certificate, key, &context, error);
        lh__tls_context_unref(context);
    }
    return status;
}

enum lh_status lh__server_load_tls(struct lh_http_server *server, struct lh_error *error)
{
    const struct lh_http_options *options = &server->options;
    struct lh__tls_context *context = NULL;
    enum lh_status status;

    assert((options->tls_certificate == NULL) == (options->tls_key == NULL));
    if (options->tls_key == NULL) {
        return LH_OK;
    }
    status = lh__tls_read_files(options->tls_certificate, options->tls_key, &context, error);
    if (status != LH_OK) {
        return status;
    }
    lh__tls_context_unref(server->tls); /* its sessions keep it for as long as they are */
    server->tls = context;
    if (lh__tls_context_not_after(context) <= (int64_t)(lh_clock_wall_ms() / 1000)) {
        lh_log_line(server->options.log, LH_LOG_WARN, "the certificate has expired",
                    LH_LOG_TEXT("server.tls_certificate", options->tls_certificate));
    }
    return LH_OK;
}

bool lh_http_server_reload_tls(struct lh_http_server *server)
{
    struct lh_error error;
    char date[32];
    struct tm tm;
    time_t not_after;

    if (lh__upstreams_reload_tls(server, &error) != LH_OK) {
        lh_log_line(server->options.log, LH_LOG_ERROR, "the old certificate authorities stay",
                    LH_LOG_TEXT("error", error.text));
        return false;
    }
    if (server->tls == NULL) {
        return true;
    }
    if (lh__server_load_tls(server, &error) != LH_OK) {
        lh_log_line(server->options.log, LH_LOG_ERROR, "the old certificate stays",
                    LH_LOG_TEXT("error", error.text));
        return false;
    }
    not_after = (time_t)lh__tls_context_not_after(server->tls);
    gmtime_r(&not_after, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    lh_log_line(server->options.log, LH_LOG_INFO, "certificate loaded",
                LH_LOG_TEXT("server.tls_certificate", server->options.tls_certificate),
                LH_LOG_TEXT("not_after", date));
    return true;
}

static void lh__conn_tls_flush(struct lh__conn *conn)
{
    struct lh_buf *out = lh__tls_out(conn->tls);

    if (out->len > 0) {
        lh__write_wire(conn, LH_STR(""), out, LH_STR(""));
        lh_http_server_give_spare(conn->server, out);
    }
}

/* Somebody speaks HTTP to a port that speaks TLS: a person wants to read why it fails. */
static void lh__conn_tls_refuse_plain(struct lh__conn *conn)
{
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
        "Content-Length: 77\r\n\r\n"
        "{\"error\":{\"code\":\"bad_request\",\"message\":\"this port speaks TLS: use https\"}}\n";

    lh__write_wire(conn, (struct lh_str){answer, sizeof answer - 1}, NULL, LH_STR(""));
    lh__tls_end(conn->tls);
    conn->lingering = true;
}

void lh__conn_tls_read(struct lh__conn *conn, const char *bytes, size_t len)
{
    struct lh_http_server *server = conn->server;
    enum lh__tls_result result;
    size_t got;

    /* A record's first byte is its type, 20 to 23; a request's is a letter. */
    if (!conn->wire_read && bytes[0] >= 'A' && bytes[0] <= 'z') {
        lh__conn_tls_refuse_plain(conn);
        return;
    }
    conn->wire_read = true;
    lh__tls_give(conn->tls, (struct lh_str){bytes, len});
    do {
        result = lh__tls_read(conn->tls, server->plain_buffer, sizeof server->plain_buffer, &got);
        lh__conn_tls_flush(conn); /* the handshake's turn, an alert */
        if (conn->refused && lh__tls_is_open(conn->tls)) {
            lh__conn_refuse(conn);
            return;
        }
        if (got > 0) {
            lh__conn_consume(conn, server->plain_buffer, got);
        }
    } while (result == LH__TLS_DATA && !conn->broken && !conn->lingering);
    if (result == LH__TLS_END) {
        conn->eof = true;
    } else if (result == LH__TLS_FAILED) {
        lh_log_line(server->options.log, LH_LOG_DEBUG, "TLS failed",
                    LH_LOG_TEXT("reason", lh__tls_reason(conn->tls)));
        /* Lingers, so that the client gets the alert. */
        conn->lingering = conn->call == NULL;
        conn->broken = conn->broken || conn->call != NULL;
    }
}

void lh__conn_tls_write(struct lh__conn *conn, struct lh_str head, struct lh_str body,
                        struct lh_str tail)
{
    struct lh__tls *tls = conn->tls;
    size_t len = head.len + body.len + tail.len;
    bool is_written;

    if (len <= LH__TLS_PIECE_BYTES) {
        char *record = conn->server->record_buffer;
        memcpy(record, head.ptr, head.len);
        memcpy(record + head.len, body.ptr, body.len);
        memcpy(record + head.len + body.len, tail.ptr, tail.len);
        is_written = lh__tls_write(tls, (struct lh_str){record, len});
    } else {
        is_written =
            lh__tls_write(tls, head) && lh__tls_write(tls, body) && lh__tls_write(tls, tail);
    }
    lh__conn_tls_flush(conn);
    conn->broken = conn->broken || !is_written;
}

void lh__conn_tls_end(struct lh__conn *conn)
{
    lh__tls_end(conn->tls);
    lh__conn_tls_flush(conn);
}
