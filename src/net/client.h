/* Outgoing HTTP, over libcurl: whole objects to and from another service.
 *
 * Every call blocks until it is over, so a client belongs to a thread that may. Its connection is
 * kept between calls. Redirects are not followed and the environment's proxies not used: what is
 * configured is who is asked. A server's certificate must be trusted by the system's store or, as
 * for OpenSSL's own programs, by what SSL_CERT_FILE and SSL_CERT_DIR name. A call ends when no
 * connection comes about in 5 seconds, or when for 30 seconds less than 1 KiB/s went over it. */
#ifndef LH_NET_CLIENT_H
#define LH_NET_CLIENT_H

#include "base/buf.h"
#include <stdbool.h>

struct lh_http_client;

struct lh_http_client_options {
    struct lh_str url; /* http:// or https://; what is called stands behind it */
    const char *token; /* sent as a bearer token; NULL: none */
    /* Asked about once a second while a call is under way; true ends it with LH_CLOSED. NULL: calls
     * are not cancelled. */
    bool (*is_cancelled)(void *arg);
    void *arg;
};

/* Where a body comes from: all of its `length` bytes, some of them more than once when a kept
 * connection turns out to be dead. */
struct lh_http_source {
    uint64_t length;
    enum lh_status (*read)(uint64_t offset, void *to, size_t len, void *arg,
                           struct lh_error *error);
    void *arg;
};

/* Where a body goes, piece by piece; anything but LH_OK ends the call with that. */
struct lh_http_sink {
    enum lh_status (*write)(struct lh_str bytes, void *arg, struct lh_error *error);
    void *arg;
};

/* For the main thread, before others use libcurl. */
LH_MUST_USE enum lh_status lh_http_client_create(const struct lh_http_client_options *options,
                                                 struct lh_http_client **client,
                                                 struct lh_error *error);
void lh_http_client_destroy(struct lh_http_client *client);

/* `path` begins with a slash and is escaped. These return LH_OK when the answer was 200 (a DELETE's
 * may be 204), LH_NOT_FOUND when it was 404, LH_OVERLOADED for 429 and 503, LH_NO_SPACE for 507,
 * LH_PRECONDITION_FAILED for 412, LH_NOT_IMPLEMENTED for 501, LH_CLOSED when it was cancelled, what
 * source or sink returned, and else LH_IO; `error` then says what was called and why it failed. */

/* The answer's body goes to `answer`, up to `answer_max` bytes. `content_type` may be NULL.
 * `is_new`: only where the path has nothing yet. */
LH_MUST_USE enum lh_status lh_http_client_put(struct lh_http_client *client, const char *path,
                                              const struct lh_http_source *source,
                                              const char *content_type, bool is_new,
                                              struct lh_buf *answer, size_t answer_max,
                                              struct lh_error *error);
LH_MUST_USE enum lh_status lh_http_client_get(struct lh_http_client *client, const char *path,
                                              const struct lh_http_sink *sink,
                                              struct lh_error *error);
/* A short body, within 10 seconds. */
LH_MUST_USE enum lh_status lh_http_client_get_short(struct lh_http_client *client, const char *path,
                                                    struct lh_buf *answer, size_t answer_max,
                                                    struct lh_error *error);
/* What the header of an answer says of its body; texts are cut to their room. */
struct lh_http_client_head {
    uint64_t length;
    uint64_t modified_ms; /* 0: it does not say */
    char etag[80];        /* without quotes; empty: it has none, or a weak one */
    char content_type[256];
};
LH_MUST_USE enum lh_status lh_http_client_head(struct lh_http_client *client, const char *path,
                                               struct lh_http_client_head *head,
                                               struct lh_error *error);
LH_MUST_USE enum lh_status lh_http_client_delete(struct lh_http_client *client, const char *path,
                                                 struct lh_error *error);

/* A call whose answer counts whatever its status is, as an error may say what to do. */
struct lh_http_ask {
    const char *method;
    const char *path;
    const char *content_type; /* of `body`; NULL: there is none */
    struct lh_str body;
    size_t answer_max;
};

struct lh_http_told {
    int status;
    struct lh_buf body;
};

/* LH_OK for every whole answer. */
LH_MUST_USE enum lh_status lh_http_client_ask(struct lh_http_client *client,
                                              const struct lh_http_ask *ask,
                                              struct lh_http_told *told, struct lh_error *error);

/* Appends `text` as it can stand in a query's value. */
void lh_http_escape(struct lh_buf *out, struct lh_str text);

#endif
