/* The least that libuv and llhttp can do: every request gets the same small answer.
 *
 *     bench_http_minimal PORT
 *
 * It is the floor under the server's own /healthz: no routes, limits, deadlines, guards or logs.
 * One thread, the loop. Bound to loopback; ends with SIGINT or SIGTERM. */
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Content-Type: application/json\r\n"
                             "Content-Length: 15\r\n"
                             "\r\n"
                             "{\"status\":\"ok\"}";

struct connection {
    uv_tcp_t tcp;
    llhttp_t parser;
    llhttp_settings_t settings;
    char bytes[65536];
};

struct answer_write {
    uv_write_t request;
    char bytes[sizeof answer];
};

static void on_close(uv_handle_t *handle)
{
    free(handle->data);
}

static void close_connection(struct connection *connection)
{
    if (!uv_is_closing((uv_handle_t *)&connection->tcp))
        uv_close((uv_handle_t *)&connection->tcp, on_close);
}

static void on_written(uv_write_t *request, int status)
{
    free(request->data);
}

/* What the socket does not take at once is copied and queued. */
static int on_message_complete(llhttp_t *parser)
{
    struct connection *connection = parser->data;
    uv_buf_t buf = uv_buf_init((char *)answer, sizeof answer - 1);
    int sent = uv_try_write((uv_stream_t *)&connection->tcp, &buf, 1);
    if (sent == (int)buf.len)
        return 0;
    if (sent < 0 && sent != UV_EAGAIN)
        return HPE_USER;
    sent = sent < 0 ? 0 : sent;
    struct answer_write *write = malloc(sizeof *write);
    if (write == NULL)
        return HPE_USER;
    write->request.data = write;
    memcpy(write->bytes, answer + sent, buf.len - (size_t)sent);
    buf = uv_buf_init(write->bytes, (unsigned)buf.len - (unsigned)sent);
    if (uv_write(&write->request, (uv_stream_t *)&connection->tcp, &buf, 1, on_written) != 0) {
        free(write);
        return HPE_USER;
    }
    return 0;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct connection *connection = handle->data;
    *buf = uv_buf_init(connection->bytes, sizeof connection->bytes);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
    struct connection *connection = stream->data;
    if (count < 0 ||
        (count > 0 && llhttp_execute(&connection->parser, buf->base, (size_t)count) != HPE_OK))
        close_connection(connection);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct connection *connection = status == 0 ? calloc(1, sizeof *connection) : NULL;
    if (connection == NULL)
        return;
    uv_tcp_init(server->loop, &connection->tcp);
    connection->tcp.data = connection;
    llhttp_settings_init(&connection->settings);
    connection->settings.on_message_complete = on_message_complete;
    llhttp_init(&connection->parser, HTTP_REQUEST, &connection->settings);
    connection->parser.data = connection;
    if (uv_accept(server, (uv_stream_t *)&connection->tcp) != 0) {
        close_connection(connection);
        return;
    }
    uv_tcp_nodelay(&connection->tcp, 1);
    uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    uv_loop_t loop;
    uv_tcp_t server;
    int port = argc == 2 ? atoi(argv[1]) : 0;
    if (port < 1 || port > 65535) {
        printf(
            "bench_http_minimal PORT: answers every request on 127.0.0.1 with {\"status\":\"ok\"}, "
            "\nfor wrk: what libuv and llhttp can do on this machine.\n");
        return argc == 1 ? 0 : 2;
    }
    uv_loop_init(&loop);
    uv_tcp_init(&loop, &server);
    uv_ip4_addr("127.0.0.1", port, &address);
    int status = uv_tcp_bind(&server, (const struct sockaddr *)&address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&server, 1024, on_connection);
    if (status != 0) {
        fprintf(stderr, "bench_http_minimal: port %d: %s\n", port, uv_strerror(status));
        return 1;
    }
    return uv_run(&loop, UV_RUN_DEFAULT);
}
