/* Objects for threads that may block: put, get, head, delete, list.
 *
 * One interface over two ways to a store: storaged of this process, on disk or S3, by messages and
 * without a socket; or storaged of another process, over HTTP. Calls block until they are over, so
 * a client belongs to one thread, and never to the loop. A put is durable when it returns LH_OK;
 * when it fails or its source does, the object is the one that was there before. */
#ifndef LH_ACTORS_OBJECT_CLIENT_H
#define LH_ACTORS_OBJECT_CLIENT_H

#include "actors/messages.h"
#include "net/client.h"
#include "runtime/actor.h"

struct lh_object_client;

struct lh_object_client_options {
    struct lh_actor *storaged; /* of this process; NULL: `url` is called */
    struct lh_str url;         /* http:// or https:// */
    const char *token;         /* sent to `url`; NULL: none. Copied */
    /* Asked now and then while a call is under way; true ends it with LH_CLOSED. NULL: never. */
    bool (*is_cancelled)(void *arg);
    void *arg;
};

/* Main thread, or after something on it has made one. */
LH_MUST_USE enum lh_status lh_object_client_create(const struct lh_object_client_options *options,
                                                   struct lh_object_client **client,
                                                   struct lh_error *error);
/* When no call is under way; one to `storaged` after that actor's thread has been joined, since it
 * wakes the asker once its answer is out. */
void lh_object_client_destroy(struct lh_object_client *client);

/* These return LH_OK; LH_KEY_NOT_FOUND; LH_NO_SPACE or LH_OVERLOADED as the store says;
 * LH_INVALID_ARGUMENT or LH_LIMIT_EXCEEDED for a key that cannot be one; LH_CLOSED when it was
 * cancelled; what source, sink or `each` returned; LH_OUT_OF_MEMORY; and else what the store's
 * failure is, over HTTP LH_IO. `error` says what was called and why it failed. */

/* All `source->length` bytes. `content_type` may be NULL: application/octet-stream. `info` may be
 * NULL; over HTTP it has no modified_ms. */
LH_MUST_USE enum lh_status lh_object_client_put(struct lh_object_client *client, struct lh_str key,
                                                const struct lh_http_source *source,
                                                const char *content_type,
                                                struct lh_object_info *info,
                                                struct lh_error *error);
LH_MUST_USE enum lh_status lh_object_client_put_bytes(struct lh_object_client *client,
                                                      struct lh_str key, struct lh_str bytes,
                                                      const char *content_type,
                                                      struct lh_object_info *info,
                                                      struct lh_error *error);
/* The same where the key has no object yet; else LH_PRECONDITION_FAILED. */
LH_MUST_USE enum lh_status lh_object_client_put_new(struct lh_object_client *client,
                                                    struct lh_str key, struct lh_str bytes,
                                                    const char *content_type,
                                                    struct lh_object_info *info,
                                                    struct lh_error *error);
/* A file's first `length` bytes. Nobody may write to it any more, whatever comes of this: on the
 * store's file system it becomes the object without being copied, and keeps its name. */
LH_MUST_USE enum lh_status lh_object_client_put_file(struct lh_object_client *client,
                                                     struct lh_str key, const char *path,
                                                     uint64_t length, const char *content_type,
                                                     struct lh_object_info *info,
                                                     struct lh_error *error);

/* One version of the object, whatever is put meanwhile; with an error after its first bytes the
 * sink has a part. */
LH_MUST_USE enum lh_status lh_object_client_get(struct lh_object_client *client, struct lh_str key,
                                                const struct lh_http_sink *sink,
                                                struct lh_error *error);
/* Appends to `bytes`; LH_BODY_TOO_LARGE past `max`. */
LH_MUST_USE enum lh_status lh_object_client_get_bytes(struct lh_object_client *client,
                                                      struct lh_str key, struct lh_buf *bytes,
                                                      size_t max, struct lh_error *error);
/* Writes to an open file from its current offset on, and syncs nothing. */
LH_MUST_USE enum lh_status lh_object_client_get_file(struct lh_object_client *client,
                                                     struct lh_str key, int file,
                                                     struct lh_error *error);

LH_MUST_USE enum lh_status lh_object_client_head(struct lh_object_client *client, struct lh_str key,
                                                 struct lh_object_info *info,
                                                 struct lh_error *error);

/* LH_OK also when there was none. */
LH_MUST_USE enum lh_status lh_object_client_delete(struct lh_object_client *client,
                                                   struct lh_str key, struct lh_error *error);

/* One of a list; valid during the call of `each`. */
struct lh_object_listed {
    struct lh_str key;
    uint64_t size;
    struct lh_str etag; /* may be empty when another process lists */
};

/* Every key with `prefix`, in byte order, page by page; anything but LH_OK from `each` ends it with
 * that. LH_OVERLOADED: the store still counts its objects since its start; that of this process is
 * waited for, half a minute. */
LH_MUST_USE enum lh_status
lh_object_client_list(struct lh_object_client *client, struct lh_str prefix,
                      enum lh_status (*each)(const struct lh_object_listed *listed, void *arg,
                                             struct lh_error *error),
                      void *arg, struct lh_error *error);

#endif
