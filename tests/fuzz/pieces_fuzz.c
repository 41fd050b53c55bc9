/* Any bytes from a client of a server whose services answer in pieces, cut anywhere, with an end
 * anywhere.
 *
 * What comes back must be whole answers one behind the other, as a strict parser reads them, but
 * for the last when the connection was cut; each service must be told of its end once; and nothing
 * may be left behind: no connection, no byte in an account. */
#include "net/internal.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE_BYTES_MAX  (255u * 1000 + 1)
#define ANSWER_BYTES_MAX (4u * 1000 * 1000) /* many times what a socket takes */

/* For one connection to end: longer than each of the server's deadlines. Time, not turns of the
 * loop: these pass in microseconds, while the kernel waits 200 ms before it sends again what it
 * dropped for want of a buffer. */
#define CONVERSATION_NS_MAX (120 * UINT64_C(1000000000))

/* One answer in pieces. */
struct source {
    struct source *next;
    struct lh_http_ticket ticket;
    uint64_t left;
    uint64_t piece;
    bool is_due;   /* gives its next piece between two turns of the loop */
    bool is_later; /* always does */
    bool gives_up;
    bool is_over;
};

static struct lh_http_server *server;
static struct source *sources;

#define must(holds) must_hold((holds), #holds, __LINE__)

static void must_hold(bool holds, const char *what, int line)
{
    if (holds)
        return;
    fprintf(stderr, "line %d: %s\n", line, what);
    abort();
}

static uint64_t number(struct lh_http_call *call, const char *name)
{
    struct lh_str text;
    return lh_http_call_query(call, name, &text) && text.len > 0 ? (unsigned char)text.ptr[0] : 0;
}

static void end(struct source *source)
{
    must(!source->is_over);
    source->is_over = true;
}

static void give(struct source *source, struct lh_http_call *call)
{
    static const char bytes[PIECE_BYTES_MAX];
    struct lh_buf piece = LH_BUF_EMPTY;
    uint64_t len = source->left < source->piece ? source->left : source->piece;
    lh_buf_append(&piece, bytes, len);
    source->left -= len;
    lh_http_answer_piece(call, &piece);
    if (source->left > 0)
        return;
    if (source->gives_up)
        lh_http_answer_abort(call);
    else
        lh_http_answer_end(call);
    end(source);
}

static void on_ready(struct lh_http_call *call, void *arg)
{
    struct source *source = arg;
    must(!source->is_over);
    source->is_due = source->is_later;
    if (!source->is_later)
        give(source, call);
}

static void on_gone(void *arg)
{
    struct source *source = arg;
    must(lh_http_find(server, source->ticket) == NULL);
    end(source);
}

static void on_data(struct lh_http_call *call, void *arg, struct lh_str bytes)
{
    const struct source *source = arg;
    must(!source->is_over && bytes.len > 0);
    if (bytes.len % 3 == 0)
        lh_http_call_pause(call);
}

static void on_end(struct lh_http_call *call, void *arg)
{
    must(!((const struct source *)arg)->is_over);
    (void)call;
}

/* ?n= pieces of ?s= bytes, each a character's code, and by ?how= its bits. */
static void handle(struct lh_http_call *call, void *context)
{
    struct source *source = calloc(1, sizeof *source);
    struct lh_http_sending sending = {on_ready, on_gone, source};
    struct lh_http_stream stream = {
        .on_data = on_data, .on_end = on_end, .on_gone = on_gone, .arg = source};
    uint64_t how = number(call, "how");
    must(source != NULL);
    source->next = sources;
    sources = source;
    source->ticket = lh_http_call_ticket(call);
    source->piece = number(call, "s") * (how & 1 ? 1000 : 1) + 1;
    source->left = source->piece * number(call, "n");
    if (source->left > ANSWER_BYTES_MAX)
        source->left = ANSWER_BYTES_MAX;
    source->is_later = (how & 2) != 0;
    source->gives_up = (how & 4) != 0;
    if (lh_http_call_is_stream(call))
        lh_http_call_stream(call, &stream);
    lh_http_answer_begin(call, how & 8 ? 204 : 200, "text/plain",
                         how & 16 ? LH_HTTP_LENGTH_UNKNOWN : source->left, &sending);
    (void)context;
}

static const struct lh_route rows[] = {
    {.method = LH_HTTP_GET,
     .pattern = "/g",
     .services = LH_HTTP_EVERYWHERE,
     .body = LH_HTTP_BODY_NONE,
     .handle = handle,
     .operation = "g"},
    {.method = LH_HTTP_PUT,
     .pattern = "/p/{key...}",
     .services = LH_HTTP_EVERYWHERE,
     .body = LH_HTTP_BODY_STREAM,
     .handle = handle,
     .operation = "p",
     .stream_bytes_max = 100},
};

static void start(void)
{
    static const struct lh_log log = {.fd = STDERR_FILENO, .level = LH_LOG_ERROR};
    struct lh_http_options options = {
        .routes = rows,
        .route_count = sizeof rows / sizeof *rows,
        .log = &log,
        .body_bytes_max = 1000,
        .body_bytes_in_flight_max = 100000,
        .connections_max = 10,
        .header_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .write_timeout_ms = 60000,
    };
    struct lh_http_bind bind = {LH_STR("127.0.0.1"), 0, LH_HTTP_GATEWAY};
    struct lh_error error;
    must(lh_http_server_create(&options, &server, &error) == LH_OK);
    must(lh_http_server_listen(server, &bind, &error) == LH_OK);
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* A turn of the loop, then the pieces that are due. */
static void turn(void)
{
    uv_run(&server->loop, UV_RUN_NOWAIT);
    for (struct source *at = sources; at != NULL; at = at->next) {
        struct lh_http_call *call = lh_http_find(server, at->ticket);
        must(call != NULL || at->is_over);
        if (call != NULL && !at->is_over) {
            lh_http_call_resume(call);
            if (at->is_due) {
                at->is_due = false;
                give(at, call);
            }
        }
    }
}

/* What a client that reads strictly makes of it. */
struct reader {
    llhttp_t parser;
    bool is_begun; /* in the middle of an answer */
    bool is_cut;   /* by a reset, or not read to its end */
};

static int on_begin(llhttp_t *parser)
{
    ((struct reader *)parser->data)->is_begun = true;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    ((struct reader *)parser->data)->is_begun = false;
    return 0;
}

static const llhttp_settings_t settings = {.on_message_begin = on_begin,
                                           .on_message_complete = on_complete};

/* False: the server's side has ended. A reset is told once: what is read behind it is an end. */
static bool read_some(int fd, struct reader *reader)
{
    char bytes[65536];
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return true;
    if (n <= 0) {
        reader->is_cut = reader->is_cut || n < 0;
        return false;
    }
    must(llhttp_execute(&reader->parser, bytes, (size_t)n) == HPE_OK);
    return true;
}

/* The client goes on reading until the server ends, or goes away in the middle. */
static void converse(const uint8_t *data, size_t size, uint8_t flags)
{
    struct reader reader = {.is_begun = false};
    int fd = connect_to(server->listeners->port);
    size_t sent = 0;
    uint64_t deadline = lh_clock_ns() + CONVERSATION_NS_MAX;
    llhttp_init(&reader.parser, HTTP_RESPONSE, &settings);
    reader.parser.data = &reader;
    for (unsigned part = 1; part <= 3; part++) {
        size_t upto = part == 3 ? size : size * ((flags >> 2 * part) & 3) / 3;
        while (sent < upto) {
            ssize_t n = send(fd, data + sent, upto - sent, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN) {
                reader.is_cut = true; /* this has told the reset */
                break;
            }
            sent += n > 0 ? (size_t)n : 0;
            turn();
            read_some(fd, &reader);
            must(lh_clock_ns() < deadline);
        }
    }
    if (flags & 1) { /* it goes away, with a reset if something is unread */
        close(fd);
        reader.is_cut = true;
    } else {
        shutdown(fd, SHUT_WR);
        while (read_some(fd, &reader)) {
            turn();
            must(lh_clock_ns() < deadline);
        }
        close(fd);
        must(reader.is_cut || !reader.is_begun || llhttp_finish(&reader.parser) == HPE_OK);
    }
    while (server->conn_count > 0) {
        turn();
        must(lh_clock_ns() < deadline);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* An answer to HEAD can only be read by who knows that it is one. */
    if (size < 1 || size > 4096 || memmem(data, size, "HEAD", 4) != NULL)
        return 0;
    if (server == NULL)
        start();
    converse(data + 1, size - 1, data[0]);
    while (sources != NULL) {
        struct source *source = sources;
        sources = source->next;
        must(source->is_over);
        free(source);
    }
    must(server->body_bytes == 0 && server->body_bytes_waiting == 0 && server->answer_bytes == 0);
    return 0;
}
