/* The HTTP server as its services see it: routes, calls and answers.
 *
 * Everything here runs on the loop thread. A call lives in its connection; one call at a time a
 * connection, so pipelined requests are answered in order. A service that answers later keeps the
 * call's ticket: the client may go away meanwhile, and lh_http_find then returns NULL. */
#ifndef LH_NET_HTTP_H
#define LH_NET_HTTP_H

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "runtime/mailbox.h"
#include "runtime/pipe.h"
#include "runtime/timer.h"
#include <stdbool.h>
#include <stdint.h>

struct lh_http_server;
struct lh_http_call;

enum lh_http_method {
    LH_HTTP_GET,
    LH_HTTP_POST,
    LH_HTTP_PUT,
    LH_HTTP_DELETE,
    LH_HTTP_METHODS /* HEAD and OPTIONS are made from the table */
};

enum lh_http_body {
    LH_HTTP_BODY_NONE,   /* a body is read and dropped, up to 64 KiB */
    LH_HTTP_BODY_WHOLE,  /* `handle` runs once, when all of it is there */
    LH_HTTP_BODY_STREAM, /* `handle` runs at the end of the header, then `on_data` per piece */
};

/* Which ports a route answers on. The gateway's port answers every route under /v1. */
enum lh_http_service {
    LH_HTTP_EVERYWHERE = 0xff, /* health, metrics, openapi: as they are, without /v1 */
    LH_HTTP_GATEWAY = 1 << 0,
    LH_HTTP_VECTORD = 1 << 1,
    LH_HTTP_STORAGED = 1 << 2,
    LH_HTTP_CATALOGD = 1 << 3,
    LH_HTTP_INGESTD = 1 << 4,
    LH_HTTP_QUERYD = 1 << 5,
};

/* What a caller's token must allow. A row that says nothing needs the most. */
enum lh_http_scope {
    LH_HTTP_SCOPE_UNSET,
    LH_HTTP_SCOPE_ADMIN, /* makes, deletes and rearranges what others use */
    LH_HTTP_SCOPE_WRITE,
    LH_HTTP_SCOPE_READ,
    LH_HTTP_SCOPE_STATUS, /* read, or without a token where that is configured */
    LH_HTTP_SCOPE_OPEN,   /* anyone */
};

/* What of the server a call is for: a token may be limited to some. */
enum lh_http_reach {
    LH_HTTP_REACH_ALL,     /* more than could be named */
    LH_HTTP_REACH_INDEX,   /* the index that the first parameter names */
    LH_HTTP_REACH_KEY,     /* the object whose key is the first parameter */
    LH_HTTP_REACH_PREFIX,  /* the objects under the query's `prefix` */
    LH_HTTP_REACH_DATASET, /* the dataset that the first parameter names */
    LH_HTTP_REACH_HANDLER, /* what the body says, or all that is allowed: the handler looks */
};

/* One row of the route table. `pattern` is the path without /v1: "/vectors/index/{name}/add".
 * A `{name}` is one segment, percent-decoded after splitting; "{key...}" is the rest. */
struct lh_route {
    enum lh_http_method method;
    const char *pattern;
    unsigned services; /* enum lh_http_service */
    enum lh_http_body body;
    enum lh_http_scope scope;
    enum lh_http_reach reach;
    /* Runs on the loop thread. Must answer the call now or keep its ticket and answer later. */
    void (*handle)(struct lh_http_call *call, void *context);
    const char *operation;     /* OpenAPI operationId, the route's name in metrics and logs */
    const char *summary;       /* one line for OpenAPI */
    const char *request_json;  /* OpenAPI schema object of the body as JSON text, or NULL */
    const char *response_json; /* OpenAPI schema object of the 2xx body as JSON text, or NULL */
    const char *query;         /* names of query parameters, comma separated, or NULL */
    int success;               /* the 2xx status */
    /* A WHOLE route that streams bodies of this Content-Type instead, or NULL. */
    const char *stream_media_type;
    uint64_t
        stream_bytes_max; /* of a streamed body, which body_bytes_max does not bound; 0: none */
};

struct lh_http_bind {
    struct lh_str host; /* "127.0.0.1", "::1", "0.0.0.0", "localhost" */
    uint16_t port;      /* 0: any free one; the log names it */
    enum lh_http_service service;
};

struct lh_http_options {
    const struct lh_route *routes;
    size_t route_count;
    void *context; /* handed to every handler */
    /* Called when a request's header has been checked and its route found, before 100-continue and
     * before any of its body. It may answer, with lh_http_answer_error: the handler does not run
     * then. NULL: every request is let in. */
    void (*on_head)(struct lh_http_call *call, void *context);
    /* Routes of these services (enum lh_http_service), when they are asked for on the gateway's
     * port, are not handled here: `forward` runs in place of their handlers, with the call's body
     * streamed whatever the row says, and of any length. */
    unsigned forwarded;
    void (*forward)(struct lh_http_call *call, void *context);
    /* Called for every message in the loop's mailbox. */
    void (*on_message)(struct lh_msg *msg, void *context);
    /* Called each timer tick (100 ms) and once after each pass over the mailbox. */
    void (*on_tick)(void *context);
    /* Called at SIGHUP, once signals are watched; NULL: SIGHUP is not. */
    void (*on_hangup)(void *context);
    /* Called once when lh_http_server_stop has drained or its deadline has passed. */
    void (*on_stopped)(void *context);
    const struct lh_log *log;
    uint64_t body_bytes_max;           /* of one body that is not streamed */
    uint64_t body_bytes_in_flight_max; /* of all bodies; past it new bodies wait, past twice: 503 */
    uint32_t connections_max;          /* past it a connection is answered 503 and closed */
    uint32_t header_timeout_ms;        /* from the first byte (or accept) to the header's end */
    uint32_t idle_timeout_ms;          /* between requests of a keep-alive connection */
    uint32_t body_rate_bytes_min;      /* bytes a second a body must bring, after a grace of 10 s */
    uint32_t write_timeout_ms;         /* for an answer to make progress */
    uint32_t drain_timeout_ms;         /* at stop: for calls in flight */
    /* PEM files; with both, every port speaks TLS. They outlive the server. */
    const char *tls_certificate;
    const char *tls_key;
};

LH_MUST_USE enum lh_status lh_http_server_create(const struct lh_http_options *options,
                                                 struct lh_http_server **server,
                                                 struct lh_error *error);
LH_MUST_USE enum lh_status lh_http_server_listen(struct lh_http_server *server,
                                                 const struct lh_http_bind *bind,
                                                 struct lh_error *error);

/* Reads certificate and key again, and the authorities that upstreams are checked against, for
 * connections to come; false when that failed: why is logged, and the old ones stay. Loop thread.
 */
bool lh_http_server_reload_tls(struct lh_http_server *server);

/* Whether the files could be used; empty names: nothing is. */
LH_MUST_USE enum lh_status lh_http_check_tls(const char *certificate, const char *key,
                                             struct lh_error *error);

/* Runs the loop on the calling thread until stopped. */
void lh_http_server_run(struct lh_http_server *server);

/* From the loop thread (a signal handler of libuv, a message): stops listening, answers what is in
 * flight with `Connection: close`, then calls on_stopped; lh_http_server_run returns when
 * lh_http_server_finish has been called. Calling stop twice aborts at once. */
void lh_http_server_stop(struct lh_http_server *server);
void lh_http_server_finish(struct lh_http_server *server);
bool lh_http_server_is_stopping(const struct lh_http_server *server);
/* After lh_http_server_run: whether a second stop cut it short, with requests perhaps in flight. */
bool lh_http_server_was_aborted(const struct lh_http_server *server);
void lh_http_server_destroy(struct lh_http_server *server);

/* SIGTERM and SIGINT call lh_http_server_stop: once drains, twice aborts. SIGHUP calls on_hangup.
 */
LH_MUST_USE enum lh_status lh_http_server_watch_signals(struct lh_http_server *server,
                                                        struct lh_error *error);

/* Where other threads post replies: pushes wake the loop. */
struct lh_mailbox *lh_http_server_mailbox(struct lh_http_server *server);

/* The loop's timers, for its services. Loop thread. */
struct lh_timers *lh_http_server_timers(struct lh_http_server *server);

/* Appends the HTTP metrics as Prometheus text: per route count by status and latency histogram,
 * connections, bodies in flight. Loop thread. */
void lh_http_server_metrics(const struct lh_http_server *server, struct lh_buf *out);

/* Appends the OpenAPI 3.1 document of the route table. */
void lh_http_openapi(const struct lh_route *routes, size_t count, struct lh_buf *out);

/* ---- one call ---- */

/* Outlives the connection: found again only while the same call is still unanswered. */
struct lh_http_ticket {
    uint32_t slot;
    uint32_t generation;
};

struct lh_http_ticket lh_http_call_ticket(const struct lh_http_call *call);
struct lh_http_call *lh_http_find(struct lh_http_server *server, struct lh_http_ticket ticket);

/* HEAD: the answer's body is for its length alone. */
bool lh_http_call_is_head(const struct lh_http_call *call);
uint64_t lh_http_call_request_id(const struct lh_http_call *call);
/* What X-Request-Id says in the answer and to an upstream: the client's own, if it sent one that
 * can stand in a log, or ours, which is written to `made`. */
#define LH_REQUEST_ID_MADE_BYTES 16u
struct lh_str lh_http_call_request_id_text(const struct lh_http_call *call,
                                           char made[LH_REQUEST_ID_MADE_BYTES]);
const struct lh_route *lh_http_call_route(const struct lh_http_call *call);
enum lh_http_service lh_http_call_service(const struct lh_http_call *call); /* the port's */
struct lh_str lh_http_call_method(const struct lh_http_call *call);         /* HEAD is "HEAD" */
struct lh_str lh_http_call_target(const struct lh_http_call *call);         /* as it was sent */

/* Who calls: an IPv6 address, an IPv4 one as ::ffff:a.b.c.d; all zeros when it is gone. */
struct lh_http_address {
    unsigned char bytes[16];
};
struct lh_http_address lh_http_call_address(const struct lh_http_call *call);

/* Something of the services' own that goes with the call; NULL until it is set. */
void lh_http_call_set_data(struct lh_http_call *call, void *data);
void *lh_http_call_data(const struct lh_http_call *call);

/* A path parameter, decoded. Of "{key...}": the segments with the slashes between them, so that
 * "a%2Fb" and "a/b" are the same key; empty, "." and ".." segments stay as they are. */
struct lh_str lh_http_call_param(const struct lh_http_call *call, unsigned i);
/* A decoded query parameter; false when absent. Valid while the call lives. */
bool lh_http_call_query(const struct lh_http_call *call, const char *name, struct lh_str *value);
/* A header's value, trimmed; empty when absent. */
struct lh_str lh_http_call_header(const struct lh_http_call *call, const char *name);
/* The header's lines in their order, for i from 0; false past the last. */
bool lh_http_call_header_line(const struct lh_http_call *call, unsigned i, struct lh_str *name,
                              struct lh_str *value);
bool lh_http_call_is_answered(const struct lh_http_call *call);
/* Whether the client has closed its side of the connection. It may still read an answer, but most
 * that do this have gone: for what takes long and is of no use then. */
bool lh_http_call_has_fin(const struct lh_http_call *call);
/* The body's announced length: 0 without a body, LH_HTTP_LENGTH_UNKNOWN when it is chunked. */
uint64_t lh_http_call_body_length(const struct lh_http_call *call);

/* Moves the body of a WHOLE call to the caller. Its bytes stay in the in-flight account until
 * lh_http_server_body_done(server, bytes) is called with body.len (loop thread). */
struct lh_buf lh_http_call_take_body(struct lh_http_call *call);
void lh_http_server_body_done(struct lh_http_server *server, size_t bytes);

/* STREAM calls. `handle` sets these; it and `on_data` may pause the call, which gets nothing more
 * until it is resumed; `on_end` runs after the last piece; `on_gone` when the client went away
 * before the answer (the ticket is dead by then). */
struct lh_http_stream {
    void (*on_data)(struct lh_http_call *call, void *arg, struct lh_str piece);
    /* Memory for what comes next, `*room` bytes, or NULL. Where the socket brings nothing else than
     * the body (no TLS, no chunks) it is read into it, and on_data gets it where it lies: without a
     * copy. Used at once or not at all. NULL: data comes in memory of the connection's. */
    char *(*on_room)(void *arg, size_t *room);
    void (*on_end)(struct lh_http_call *call, void *arg);
    /* The client has closed its side behind the whole request, as lh_http_call_has_fin says; once,
     * before or behind on_end. NULL: it is of no matter. */
    void (*on_fin)(struct lh_http_call *call, void *arg);
    void (*on_gone)(void *arg);
    void *arg;
};
/* Whether this call's body is streamed: the route is STREAM, or its stream_media_type matched. */
bool lh_http_call_is_stream(const struct lh_http_call *call);
void lh_http_call_stream(struct lh_http_call *call, const struct lh_http_stream *stream);
void lh_http_call_pause(struct lh_http_call *call);
void lh_http_call_resume(struct lh_http_call *call);

/* Answers, once. `body` is taken (may be NULL). `content_type` is a constant string. When the
 * request's body has not been read to its end, the connection is closed lingeringly. */
void lh_http_answer(struct lh_http_call *call, int status, const char *content_type,
                    struct lh_buf *body);
void lh_http_answer_error(struct lh_http_call *call, const struct lh_error *error);

/* ---- an answer in pieces, of any length at bounded memory ---- */

#define LH_HTTP_LENGTH_UNKNOWN UINT64_MAX /* sent chunked; to HTTP/1.0, until the close */

struct lh_http_sending {
    /* Less than LH_WRITE_QUEUE_BYTES_MAX is unsent, or nothing when the server holds many answers:
     * more is wanted. First called from the loop after lh_http_answer_begin has returned, then once
     * after each piece. */
    void (*on_ready)(struct lh_http_call *call, void *arg);
    /* The client went away before lh_http_answer_end, or its request broke off, or it wanted no
     * body (HEAD): nothing more is taken, and the ticket is dead. Called once, from the loop,
     * instead of any further on_ready, and of the on_gone of the request's own stream. */
    void (*on_gone)(void *arg);
    void *arg;
};

/* Begins an answer: the status line and the header go out. Instead of lh_http_answer, and also
 * while the request's own body is still being read: on_data and on_end go on then until the answer
 * has ended. The ticket holds until then. */
void lh_http_answer_begin(struct lh_http_call *call, int status, const char *content_type,
                          uint64_t length, const struct lh_http_sending *sending);
/* `piece` is taken: sent from where it lies, so that large ones (256 KiB to 1 MiB) cost no copy.
 * All pieces together must have the announced length. */
void lh_http_answer_piece(struct lh_http_call *call, struct lh_buf *piece);
/* Memory for the next piece, out of answers that are sent: a large buffer that is made anew costs a
 * page fault for every 4 KiB. `piece` is empty; it stays so when there is none. Loop thread. */
void lh_http_server_take_spare(struct lh_http_server *server, struct lh_buf *piece);
/* The other way: kept for the next piece, or freed. */
void lh_http_server_give_spare(struct lh_http_server *server, struct lh_buf *piece);
/* A pipe for the next piece; none is lent where the connection could not send from it (TLS, a body
 * that is chunked or not wanted), or all are out. Loop thread. */
void lh_http_call_take_pipe(struct lh_http_call *call, struct lh_pipe *pipe);
/* Back; what stands in it is dropped. None at all may be given, too. */
void lh_http_server_give_pipe(struct lh_http_server *server, struct lh_pipe *pipe);
/* A piece that stands in a pipe, which is taken. What the connection could not send before is sent
 * first. */
void lh_http_answer_pipe(struct lh_http_call *call, struct lh_pipe *pipe);
/* All of it has been given; the call is over when it is sent. */
void lh_http_answer_end(struct lh_http_call *call);
/* It cannot be finished: the connection is cut so that the client sees that something is missing.
 */
void lh_http_answer_abort(struct lh_http_call *call);

/* Adds one header line to the coming answer: name and value without CR or LF. Behind
 * lh_http_answer_begin it is a trailer, which is sent where the body is chunked. */
void lh_http_call_add_header(struct lh_http_call *call, const char *name, const char *value);

#endif
