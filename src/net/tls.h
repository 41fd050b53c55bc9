/* TLS 1.2 and 1.3 between a socket and what is spoken over it; the socket is the caller's.
 *
 * A session is given the bytes that came from the peer and asked for what they say; what it has to
 * send gathers in a buffer. It never blocks, and has no notion of time. OpenSSL behind it. */
#ifndef LH_NET_TLS_H
#define LH_NET_TLS_H

#include "base/buf.h"
#include "base/status.h"
#include <stdbool.h>

/* Certificates and settings, for any number of sessions, each of which keeps it alive. */
struct lh__tls_context;
/* One connection. */
struct lh__tls;

/* A server's: PEM files of the certificate with its chain, and of its private key, which neither
 * group nor others may read. `key_name` and `certificate_name` are what errors call them. */
struct lh__tls_files {
    const char *certificate;
    const char *certificate_name;
    const char *key;
    const char *key_name;
};
LH_MUST_USE enum lh_status lh__tls_context_create_server(const struct lh__tls_files *files,
                                                         struct lh__tls_context **context,
                                                         struct lh_error *error);
/* A client's: servers are checked against the system's certificate authorities, or those of
 * SSL_CERT_FILE and SSL_CERT_DIR. */
LH_MUST_USE enum lh_status lh__tls_context_create_client(struct lh__tls_context **context,
                                                         struct lh_error *error);
void lh__tls_context_unref(struct lh__tls_context *context);
/* When a server's certificate ends, in seconds since 1970; it may be in the past. */
int64_t lh__tls_context_not_after(const struct lh__tls_context *context);

/* What connections to one server leave for the next, so that its handshake is a short one: the
 * session that the server gave last. Zeroed: nothing. It outlives the connections. */
struct lh__tls_ticket {
    struct lh__tls_context *context; /* by which the server was checked: under another it is void */
    void *session;
};
void lh__tls_ticket_deinit(struct lh__tls_ticket *ticket);

/* NULL when there is no memory. */
struct lh__tls *lh__tls_accept(struct lh__tls_context *context);
/* A client's; `host` is the name or the address that the server's certificate must be for, and of
 * the server that `ticket` is from (NULL: none is kept). The first lh__tls_read makes its first
 * message. */
struct lh__tls *lh__tls_connect(struct lh__tls_context *context, const char *host,
                                struct lh__tls_ticket *ticket);
void lh__tls_destroy(struct lh__tls *tls);

/* Lends the bytes that came, until lh__tls_read has returned something else than LH__TLS_DATA. */
void lh__tls_give(struct lh__tls *tls, struct lh_str bytes);

enum lh__tls_result {
    LH__TLS_DATA,  /* *len bytes */
    LH__TLS_MORE,  /* more must come first */
    LH__TLS_END,   /* the peer has said that nothing follows */
    LH__TLS_FAILED /* lh__tls_reason says why; the alert is in lh__tls_out, if there is one */
};
enum lh__tls_result lh__tls_read(struct lh__tls *tls, char *to, size_t cap, size_t *len);

/* Once the handshake is over (something has been read, or lh__tls_is_open). False: no memory, or it
 * has failed. */
LH_MUST_USE bool lh__tls_write(struct lh__tls *tls, struct lh_str bytes);
bool lh__tls_is_open(const struct lh__tls *tls);
/* Whether it was checked by `context`. */
bool lh__tls_is_of(const struct lh__tls *tls, const struct lh__tls_context *context);

/* Says that nothing follows (close_notify), once. */
void lh__tls_end(struct lh__tls *tls);

/* What is to be sent; the caller takes it or empties it. */
struct lh_buf *lh__tls_out(struct lh__tls *tls);
/* Why it failed, as text of the library's or the certificate check's. */
const char *lh__tls_reason(const struct lh__tls *tls);

#endif
