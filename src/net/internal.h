/* What the files of this folder share: the server, its connections and their calls.
 *
 * Loop thread only. A connection takes a call from the server's pool when a request's first byte
 * comes and gives it back when the request is answered and read to its end, so an idle connection
 * is a socket, a timer and little more. */
#ifndef LH_NET_INTERNAL_H
#define LH_NET_INTERNAL_H

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "net/guard.h"
#include "net/http.h"
#include "net/router.h"
#include "net/target.h"
#include "net/tls.h"
#include <llhttp.h>
#include <uv.h>

#define LH__READ_BYTES          65536u /* one read; the buffer is the loop's */
#define LH__READ_HEAD_BYTES     2048u /* one read of a header, where a body is read apart from it */
#define LH__READ_ROOM_BYTES_MIN 4096u /* into less room a body is not read by itself */
#define LH__TLS_PIECE_BYTES     16384u /* a record's plain text, at most */
#define LH__AHEAD_BYTES_MAX     65536u /* read before its turn; past it the socket is not read */
#define LH__DROP_BYTES_MAX      65536u /* of a body nobody wants; a longer one closes */
#define LH__BODY_SMALL_BYTES    65536u /* waits for no import: a search's vector in any form */
#define LH__BODY_STEP_BYTES     (1u << 20) /* memory for a body runs at most so far ahead of it */
#define LH__HEAD_BYTES_FIRST    2048u      /* a header buffer's first size */
#define LH__BODY_GRACE_MS       10000u     /* a body's rate is looked at after this */
#define LH__BODY_SECONDS_MAX    300u       /* an announced body must keep up with this */
#define LH__ANSWER_SMALL_BYTES  65536u     /* not refused for what other clients leave unread */
#define LH__LINGER_IDLE_MS      2000u /* after our FIN: how long to wait for more or for theirs */
#define LH__LINGER_TOTAL_MS     30000u
#define LH__SPARES              32u    /* buffers kept for the next large answers */
#define LH__SPARE_BYTES_MIN     65536u /* smaller ones cost nothing to make */
#define LH__SPARE_BYTES_MAX     (2u << 20)
#define LH__READY_ROUNDS        4u    /* of what is ready, before the sockets are looked at again */
#define LH__CALLS_SPARE         64u   /* pooled for the next requests; about 5 KiB each */
#define LH__CONNECTIONS_REFUSED 64u   /* being told 503; past them a connection is just closed */
#define LH__DESCRIPTORS_OTHER   288u  /* kept from connections: files, pipes, the loop's own */
#define LH__PIPE_PART_BYTES     4096u /* copied for libuv, which says when a full socket has room */
#define LH__BACKLOG             4096  /* a burst of clients; the kernel caps it at somaxconn */

struct lh__conn;

/* Where a call is. */
enum lh__call_state {
    LH__CALL_HEAD,    /* its header is being read */
    LH__CALL_WAIT,    /* checked; waits for body memory, unread */
    LH__CALL_BODY,    /* its body is being read */
    LH__CALL_TRAILER, /* its last chunk has been read, the trailer section has not */
    LH__CALL_HELD,    /* read to the end: the handler's turn, now or later */
};

struct lh_http_call {
    struct lh__conn *conn;
    struct lh_http_call *next; /* in the pool */
    enum lh__call_state state;
    bool answered;
    bool complete; /* the request has been read to its end */
    bool keep;     /* the connection goes on after it */
    bool is_head;
    bool forwarded; /* `forward` runs, not the route's handler */
    bool paused;    /* STREAM: the service wants no data now */
    bool sent_100;  /* or needs none */
    bool begun;     /* the header of an answer in pieces has been given */
    bool bodiless;  /* such an answer has no body: HEAD, 204, 304 */
    bool wanted;    /* its next piece is due: on_ready is called when there is room */
    bool chunked;   /* it is sent chunked */
    int status;     /* answered, or begun */
    uint64_t request_id;
    uint64_t started_ns;
    const struct lh_route *route; /* NULL: none matched yet */
    enum lh_http_body body_mode;  /* the route's, or STREAM by its stream_media_type */
    struct lh_str params[LH_PATH_PARAMS_MAX];
    struct lh_http_stream stream;
    struct lh_http_sending sending;
    uint64_t answer_left; /* of the announced length */
    uint64_t answer_sent; /* given, of all pieces */
    void *data;           /* the services' */
    struct lh_buf body;
    enum lh_status body_status; /* why reading it failed */
    uint64_t body_received;
    uint64_t body_waiting;   /* of the server's body_bytes_waiting */
    uint64_t body_accounted; /* of the server's body_bytes_in_flight */
    uint64_t body_since_ms;  /* the rate's window: grace starts here */
    uint64_t body_in_window;
    const char *body_mark;   /* in this read: behind the last body byte */
    uint64_t chunk_overhead; /* bytes since the last body byte that were none */
    struct lh_buf trailer;   /* the section as far as it has come; mostly empty */
    size_t trailer_seen;
    struct lh_buf extra; /* header lines of the answer */
    llhttp_t parser;
    char *head_bytes; /* the header block, then the decoded target */
    size_t head_cap;
    size_t head_len;
    size_t head_seen;
    struct lh__target target;
    struct lh__head head;
};

/* Which deadline a connection's timer stands for. */
enum lh__phase {
    LH__PHASE_NONE,
    LH__PHASE_IDLE,
    LH__PHASE_HEAD,
    LH__PHASE_WAIT,
    LH__PHASE_BODY,
    LH__PHASE_WRITE,
    LH__PHASE_LINGER,
};

/* A doubly linked ring of connections; its own head when empty. */
struct lh__link {
    struct lh__link *prev;
    struct lh__link *next;
};

struct lh__conn {
    uv_tcp_t tcp; /* data: this */
    struct lh_http_server *server;
    struct lh__tls *tls;     /* NULL: plain text */
    struct lh__link all;     /* of the server's connections */
    struct lh__link waiting; /* for body memory */
    struct lh__link ready;   /* to go on in this turn of the loop */
    struct lh_http_call *call;
    struct lh_buf ahead;
    struct lh_pipe pipe; /* with bytes of an answer: they come behind all that libuv has queued */
    struct lh_timer timer;
    uint64_t phase_request; /* the phase was armed in this request */
    uint64_t requests;
    uint64_t written;    /* bytes given to lh__write_wire */
    uint64_t write_mark; /* taken by the client at the last look of the write deadline */
    uint64_t linger_until_ms;
    uint32_t slot;
    enum lh_http_service service;
    enum lh__phase phase;
    struct lh_http_address address; /* the client's, once it was asked for */
    bool has_address;
    bool wire_read;  /* TLS: something has come */
    bool feeding;    /* in lh__conn_feed: answers do not re-enter it */
    bool reading;    /* uv_read_start is on */
    bool pace_known; /* its congestion control was asked for: see write_pipe.c */
    bool has_rooms;  /* bodies have come that are read into their service's memory */
    bool eof;        /* the client sent its FIN */
    bool broken;     /* a write failed: close as soon as nothing runs on it */
    bool lingering;  /* answered the last time; FIN sent or about to be */
    bool fin_sent;
    bool cut;     /* close it with a reset */
    bool closed;  /* uv_close is under way */
    bool refused; /* past connections_max */
};

/* A ticket's slot: the generation outlives the connection. */
struct lh__slot {
    struct lh__conn *conn; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

struct lh__listener {
    uv_tcp_t tcp;
    struct lh_http_server *server;
    struct lh__listener *next;
    enum lh_http_service service;
    uint16_t port;
    bool is_held; /* a connection waits in it, not accepted: tried again at the next tick */
};

/* Counted for each route, and once for what matched none. */
struct lh__route_metrics {
    struct lh_counter *by_status; /* LH__STATUSES of them */
    struct lh_histogram latency;
};

struct lh_http_server {
    struct lh_http_options options;
    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t ticker;
    uv_prepare_t prepare;
    uv_idle_t idle; /* keeps the loop from sleeping while connections are ready */
    bool is_idle_on;
    uv_signal_t signals[3];
    unsigned signal_count;
    struct lh_mailbox mailbox;
    struct lh_msg_queue inbox[LH_LANES];
    struct lh_timers timers;
    struct lh_timer drain;
    struct lh_upstream *upstreams; /* a list */
    struct lh__link unflushed;     /* of exchanges that have something to send */
    struct lh__router *router;
    struct lh__listener *listeners;
    struct lh__link conns;
    struct lh__link waiting_body;
    struct lh__link ready;
    struct lh__slot *slots;
    uint32_t slot_count;
    uint32_t slot_free; /* UINT32_MAX: none */
    uint32_t conn_count;
    uint32_t refused_count;
    uint64_t descriptors_max; /* for connections: with so many open, no more are accepted */
    struct lh_http_call *pool;
    unsigned pool_count;
    uint64_t body_bytes;         /* in flight: reserved, being read, or with a service */
    uint64_t body_bytes_waiting; /* announced by calls that wait for body memory */
    uint64_t answer_bytes;       /* of answers that clients have not taken yet */
    uint64_t request_id;
    uint64_t accept_error_ms; /* the last time it was logged */
    uint64_t date_s;
    char date[32];     /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    struct lh_buf out; /* the answer's header is put together here */
    struct lh_buf spares[LH__SPARES];
    unsigned spare_count;
    struct lh_pipe pipes[LH_PIPES_MAX]; /* those that nobody has: the first `pipes_spare` */
    unsigned pipes_spare;
    unsigned pipes_open;
    struct lh_counter spliced_bytes;
    struct lh__route_metrics *route_metrics; /* route_count + 1 */
    struct lh_counter *status_counters;
    struct lh_counter accepted;
    struct lh_counter refused;
    bool stopping;
    bool aborted; /* stopped twice */
    bool stopped; /* on_stopped has been called */
    bool finished;
    struct lh__tls_context *tls;          /* NULL: plain text on every port */
    struct lh__tls_context *upstream_tls; /* NULL: no upstream speaks TLS */
    char read_buffer[LH__READ_BYTES];
    char plain_buffer[LH__TLS_PIECE_BYTES];  /* what was read, out of its records */
    char record_buffer[LH__TLS_PIECE_BYTES]; /* a short answer, for one record */
};

static inline void lh__link_init(struct lh__link *link)
{
    link->prev = link->next = link;
}

static inline bool lh__link_is_alone(const struct lh__link *link)
{
    return link->next == link;
}

static inline void lh__link_remove(struct lh__link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    lh__link_init(link);
}

static inline void lh__link_append(struct lh__link *ring, struct lh__link *link)
{
    link->prev = ring->prev;
    link->next = ring;
    ring->prev->next = link;
    ring->prev = link;
}

#define lh__conn_of(link, member) \
    ((struct lh__conn *)(void *)((char *)(link)-offsetof(struct lh__conn, member)))

/* ---- server.c ---- */

/* Goes on with `conn` before the loop sleeps again. */
void lh__server_ready(struct lh__conn *conn);
void lh__server_conn_gone(struct lh_http_server *server);

/* ---- conn.c ---- */

/* Accepts from `listener`. Without memory or a descriptor to spare the connection waits in it:
 * libuv does not call again until it has been accepted, so the ticker does. */
void lh__conn_accept(struct lh__listener *listener);
/* One connection more than we serve: it is told so, without being read. */
void lh__conn_refuse(struct lh__conn *conn);
/* Bytes of HTTP have come: consumes them, or keeps them for their turn. */
void lh__conn_consume(struct lh__conn *conn, const char *bytes, size_t len);
/* Runs what has been read ahead, closes what is broken, arms the deadline. */
void lh__conn_go_on(struct lh__conn *conn);
void lh__conn_close(struct lh__conn *conn);
/* At the server's end: answers what is unanswered with 503, and closes. */
void lh__conn_abort(struct lh__conn *conn);

/* ---- conn_tls.c: a connection's TLS ---- */

/* Loads what the options name; LH_OK without TLS when they name nothing. */
LH_MUST_USE enum lh_status lh__server_load_tls(struct lh_http_server *server,
                                               struct lh_error *error);
void lh__conn_tls_read(struct lh__conn *conn, const char *bytes, size_t len);
void lh__conn_tls_write(struct lh__conn *conn, struct lh_str head, struct lh_str body,
                        struct lh_str tail);
/* Says that nothing follows. */
void lh__conn_tls_end(struct lh__conn *conn);

/* ---- deadline.c ---- */

void lh__deadline_arm(struct lh__conn *conn);
void lh__deadline_fired(struct lh_timer *timer, void *arg);

/* ---- request.c: a call's header, dispatch and end ---- */

/* Each takes what it can of `bytes` and says how much; 0: nothing more for now. */
size_t lh__request_read_head(struct lh__conn *conn, const char *bytes, size_t len);
/* Lets in those that wait, as far as there is body memory. */
void lh__request_let_in(struct lh_http_server *server);
/* Takes a call out of its line, if it stands in one. */
void lh__request_wait_over(struct lh_http_call *call);
/* The last byte has been read: runs a WHOLE handler. */
void lh__request_complete(struct lh_http_call *call);
/* Answers an error and closes behind it: the rest of the request is not known or not wanted. Where
 * an answer has begun, the connection is cut. */
void lh__request_fail(struct lh_http_call *call, const struct lh_error *error);

/* ---- call.c: the pool, and what services ask a call ---- */

struct lh_http_call *lh__call_take(struct lh__conn *conn);
void lh__call_give(struct lh_http_call *call);
/* The client went away, or the server ends: nobody will read an answer. */
void lh__call_gone(struct lh_http_call *call);
/* Makes the header buffer hold `cap` bytes. */
LH_MUST_USE enum lh_status lh__call_reserve_head(struct lh_http_call *call, size_t cap);

/* ---- body.c: reading bodies, and their account ---- */

enum lh__admission { LH__ADMIT_NOW, LH__ADMIT_LATER, LH__ADMIT_NEVER };

/* Feeds the checked header block to the parser. */
LH_MUST_USE enum lh_status lh__body_start(struct lh_http_call *call, struct lh_error *error);
size_t lh__body_read(struct lh__conn *conn, const char *bytes, size_t len);
/* Where the socket's next bytes may be read to, which are all the body's; NULL: nowhere. */
char *lh__body_room(const struct lh_http_call *call, size_t *room);
size_t lh__body_read_trailer(struct lh__conn *conn, const char *bytes, size_t len);
/* The most bytes of the call's body: as its route says, or of one that nobody wants. */
uint64_t lh__body_max(const struct lh_http_call *call);
/* Whether the call's body may be read now; counts it if so. */
enum lh__admission lh__body_admit(struct lh_http_call *call);
void lh__body_release(struct lh_http_call *call);

/* ---- upstream.c ---- */

/* Reads the certificate authorities for upstreams again, if any speaks TLS. */
LH_MUST_USE enum lh_status lh__upstreams_reload_tls(struct lh_http_server *server,
                                                    struct lh_error *error);
/* Sends what the last turn of the loop has gathered for upstreams. */
void lh__upstreams_flush(struct lh_http_server *server);
/* At the server's end: fails what is in flight and closes every connection. */
void lh__upstreams_close(struct lh_http_server *server);
/* Behind the loop. */
void lh__upstreams_free(struct lh_http_server *server);

/* ---- write.c ---- */

/* Sends `head`, then `body` (taken; may be NULL), then `tail`, which is a constant: tried at once,
 * the rest queued. */
void lh__write(struct lh__conn *conn, struct lh_str head, struct lh_buf *body, struct lh_str tail);
/* The same past TLS: what goes over the wire. */
void lh__write_wire(struct lh__conn *conn, struct lh_str head, struct lh_buf *body,
                    struct lh_str tail);
/* What is left behind the first `sent` bytes is libuv's to send; `body` is taken. */
void lh__write_rest(struct lh__conn *conn, struct lh_str head, struct lh_buf *body,
                    struct lh_str tail, size_t sent);
/* Not yet in the socket: what libuv has queued and what stands in a pipe. */
size_t lh__write_queued(const struct lh__conn *conn);
/* How much of what was written the client's host has acknowledged. */
uint64_t lh__write_taken(const struct lh__conn *conn);

/* ---- write_pipe.c ---- */

/* Sends a piece that stands in a pipe, which is taken, behind all that was written. */
void lh__write_pipe(struct lh__conn *conn, struct lh_pipe *pipe);
/* Goes on with it, once libuv has nothing queued. */
void lh__write_pipe_go_on(struct lh__conn *conn);
/* Something else is to be written behind it: all of it becomes libuv's. */
void lh__write_pipe_out(struct lh__conn *conn);
/* The connection closes. */
void lh__write_pipe_drop(struct lh__conn *conn);
void lh__pipes_close(struct lh_http_server *server);

/* ---- answer.c ---- */

/* Puts the status line and the header together in server->out; `length` may be unknown. */
void lh__answer_head(struct lh_http_call *call, int status, const char *content_type,
                     uint64_t length);
/* The answer has been given: the ticket dies, the request counts. */
void lh__answer_given(struct lh_http_call *call);
void lh__answer_continue(struct lh__conn *conn);
/* 204 with Allow: OPTIONS. `match` is NULL for `OPTIONS *`. */
void lh__answer_options(struct lh_http_call *call, const struct lh__match *match);

/* ---- sending.c ---- */

/* Asks for the next piece of an answer in pieces, if there is room for it. */
void lh__sending_go_on(struct lh_http_call *call);

/* ---- http_metrics.c ---- */

LH_MUST_USE enum lh_status lh__metrics_create(struct lh_http_server *server);
void lh__metrics_destroy(struct lh_http_server *server);
void lh__metrics_answered(struct lh_http_call *call);

#endif
