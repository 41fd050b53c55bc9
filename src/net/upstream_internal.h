/* What the files of the HTTP client share: an upstream, its connections, its exchanges.
 *
 * Loop thread only. An exchange waits in its upstream's line or has a connection, from that one's
 * making on; a connection has one exchange or is idle. Each leaves the other before it goes. */
#ifndef LH_NET_UPSTREAM_INTERNAL_H
#define LH_NET_UPSTREAM_INTERNAL_H

#include "net/internal.h"
#include "net/response.h"
#include "net/upstream.h"

struct lh__upstream_conn {
    uv_tcp_t tcp; /* data: this; while it has one, `has_tcp` */
    uv_connect_t connect;
    uv_getaddrinfo_t resolve;
    uv_write_t write;
    struct lh_upstream *upstream;
    struct lh__link all;
    struct lh__link idle;
    struct lh_exchange *exchange;
    struct addrinfo *addresses;     /* of the name, until it is connected */
    const struct addrinfo *address; /* being tried */
    struct lh_buf writing;          /* with libuv */
    struct lh_timer timer;          /* how long it stays idle */
    struct lh__response response;
    struct lh__tls *tls; /* NULL: plain text, or not connected */
    int error;           /* the last address could not be connected to, for this */
    bool has_tcp;        /* libuv has the handle */
    bool is_resolving;   /* libuv has the query */
    bool is_connected;   /* its handshake may follow */
    bool is_ready;       /* for requests */
    bool is_reused;      /* it has served an exchange before */
    bool is_reading;
    bool is_writing;
    bool is_deaf;  /* it takes no more of the request; it may have answered */
    bool has_fin;  /* our side is closed */
    bool is_reset; /* it is to be closed so */
    bool is_closed;
};

struct lh_exchange {
    struct lh_upstream *upstream;
    struct lh__upstream_conn *conn; /* NULL: waiting */
    struct lh__link waiting;
    struct lh__link unflushed; /* of the server's */
    struct lh_exchange_events events;
    struct lh_timer timer;
    struct lh_buf head; /* kept for a second connection */
    struct lh_buf out;  /* not handed to the connection yet */
    uint64_t handed;    /* bytes that were */
    uint64_t started_ns;
    enum lh_exchange_body body;
    bool is_head;
    bool is_safe;
    bool is_whole;     /* the request is */
    bool wants_fin;    /* behind it */
    bool has_answered; /* on_head was called */
    bool is_full;      /* said so; on_writable is owed */
    bool is_paused;
    bool has_retried;
};

struct lh_upstream {
    struct lh_http_server *server;
    struct lh_upstream *next;
    struct lh_upstream_options options;
    struct lh_upstream_metrics metrics;
    char *url;    /* its copy; `authority` and `prefix` borrow from it */
    char *host;   /* without brackets, terminated */
    char port[8]; /* as text, for the resolver */
    struct lh_str authority;
    struct lh_str prefix;
    struct lh__link conns;
    struct lh__link idle; /* the last used at the end */
    struct lh__link waiting;
    uint32_t open_count;
    uint32_t idle_count;
    uint32_t waiting_count;
    struct lh__tls_ticket tls_ticket;
    bool is_tls;
    bool is_closing;
};

#define lh__container(link, type, member) \
    ((struct type *)(void *)((char *)(link)-offsetof(struct type, member)))

/* ---- upstream.c ---- */

/* Ends it with on_failed; its connection, if it has one, is closed. */
void lh__exchange_fail(struct lh_exchange *exchange, enum lh_status status, const char *reason);
/* The answer is whole: ends it with on_end. */
void lh__exchange_done(struct lh_exchange *exchange, bool is_reusable);
/* Its connection died. Tried on another one if that can do no harm. */
void lh__exchange_lost(struct lh_exchange *exchange, const char *reason);
/* Something moved, or it entered another phase: its deadline is set anew. */
void lh__exchange_arm(struct lh_exchange *exchange);
/* Something of the request has gone out: more of it is asked for, if that is owed. */
void lh__exchange_moved(struct lh_exchange *exchange);
/* A connection has become free or has gone. */
void lh__upstream_go_on(struct lh_upstream *upstream);

/* ---- upstream_conn.c ---- */

/* Makes a connection for `exchange`. Whatever fails is told later, never from within. NULL: no
 * memory. */
struct lh__upstream_conn *lh__upstream_conn_open(struct lh_exchange *exchange);
/* Gives an idle one to `exchange`. */
void lh__upstream_conn_use(struct lh__upstream_conn *conn, struct lh_exchange *exchange);
/* Its exchange is over: it is kept. */
void lh__upstream_conn_keep(struct lh__upstream_conn *conn);
/* Its server was checked against authorities that have been read anew since. */
bool lh__upstream_conn_is_outdated(const struct lh__upstream_conn *conn);
void lh__upstream_conn_close(struct lh__upstream_conn *conn);
/* Hands over what its exchange has gathered, as far as libuv is through with the last. */
void lh__upstream_conn_flush(struct lh__upstream_conn *conn);
void lh__upstream_conn_update_reading(struct lh__upstream_conn *conn);

#endif
