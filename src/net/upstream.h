/* An HTTP/1.1 client on the server's loop: services in other processes, each with a pool of
 * connections that are kept between requests.
 *
 * Loop thread only. Redirects are not followed and the environment's proxies not used: what is
 * configured is who is asked. An upstream belongs to its server and ends with it. One with https://
 * must have a certificate for the URL's name or address, from an authority that the system trusts,
 * or SSL_CERT_FILE and SSL_CERT_DIR. */
#ifndef LH_NET_UPSTREAM_H
#define LH_NET_UPSTREAM_H

#include "base/metrics.h"
#include "net/http.h"

struct lh_upstream;
struct lh_exchange;
struct lh__head; /* net/guard.h; for this folder */

struct lh_upstream_options {
    const char *name;            /* for errors: "vectord" */
    struct lh_str url;           /* http:// or https://, perhaps with a path before every target */
    uint32_t connections_max;    /* open at once; past it exchanges wait */
    uint32_t waiting_max;        /* exchanges that wait; past it they are refused */
    uint64_t connect_timeout_ms; /* to have a connection: the wait, its making, its handshake */
    uint64_t timeout_ms;         /* for the upstream to take, to begin its answer, or to go on */
};

struct lh_upstream_metrics {
    struct lh_counter requests;  /* exchanges begun */
    struct lh_counter failures;  /* that got no whole answer, the upstream's fault */
    struct lh_counter refused;   /* for want of a connection */
    struct lh_counter retries;   /* on another connection, as a kept one had died */
    struct lh_counter connects;  /* connections made */
    struct lh_histogram latency; /* to the end of the answer's header */
};

LH_MUST_USE enum lh_status lh_upstream_create(struct lh_http_server *server,
                                              const struct lh_upstream_options *options,
                                              struct lh_upstream **upstream,
                                              struct lh_error *error);

const struct lh_upstream_metrics *lh_upstream_metrics(const struct lh_upstream *upstream);
uint32_t lh_upstream_open(const struct lh_upstream *upstream);    /* connections */
uint32_t lh_upstream_idle(const struct lh_upstream *upstream);    /* of these, kept unused */
uint32_t lh_upstream_waiting(const struct lh_upstream *upstream); /* exchanges, for one */

/* "host:port" as it stands in the URL, and the path before every target, "" mostly. */
struct lh_str lh_upstream_authority(const struct lh_upstream *upstream);
struct lh_str lh_upstream_prefix(const struct lh_upstream *upstream);
const char *lh_upstream_name(const struct lh_upstream *upstream);

/* ---- one request and its answer ---- */

enum lh_exchange_body { LH_EXCHANGE_NO_BODY, LH_EXCHANGE_LENGTH, LH_EXCHANGE_CHUNKED };

/* What becomes of an exchange. They come from the loop, never from within the functions below.
 * After on_end or on_failed the exchange is gone. */
struct lh_exchange_events {
    void (*on_writable)(void *arg); /* it was full, and takes more of the request's body */
    void (*on_continue)(void *arg); /* 100: it wants the body */
    void (*on_head)(int status, const struct lh__head *head, void *arg);
    void (*on_body)(struct lh_str piece, void *arg);
    void (*on_end)(void *arg);
    /* No answer, or not all of one: LH_BAD_GATEWAY, LH_GATEWAY_TIMEOUT, LH_OVERLOADED (no
     * connection to be had), LH_OUT_OF_MEMORY or LH_STOPPING. */
    void (*on_failed)(const struct lh_error *error, void *arg);
    void *arg;
};

struct lh_exchange_request {
    struct lh_buf head; /* request line and header with its empty line; taken on success */
    enum lh_exchange_body body;
    bool is_head; /* its answer has no body */
    bool is_safe; /* RFC 9110 section 9.2.1: may be sent again */
};

LH_MUST_USE enum lh_status lh_exchange_begin(struct lh_upstream *upstream,
                                             struct lh_exchange_request *request,
                                             const struct lh_exchange_events *events,
                                             struct lh_exchange **exchange, struct lh_error *error);
/* A piece of the request's body; it is copied, and framed where the body is chunked. */
void lh_exchange_send(struct lh_exchange *exchange, struct lh_str piece);
/* The request is whole. */
void lh_exchange_end(struct lh_exchange *exchange);
/* Behind the request, the upstream is sent a FIN: its connection serves no other. */
void lh_exchange_fin(struct lh_exchange *exchange);
/* More than LH_UPSTREAM_OUT_BYTES is unsent: on_writable will say when to go on. */
bool lh_exchange_is_full(struct lh_exchange *exchange);
/* Whether the answer's body is wanted now; what has been read already still comes. */
void lh_exchange_pause(struct lh_exchange *exchange);
void lh_exchange_resume(struct lh_exchange *exchange);
/* Nobody wants the answer: no event comes any more, and the exchange is gone. The upstream gets a
 * reset, so that it can give up, too; a FIN would leave it a reader. */
void lh_exchange_cancel(struct lh_exchange *exchange);

#endif
