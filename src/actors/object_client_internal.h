/* Between the two ways to a store and what they share. */
#ifndef LH_ACTORS_OBJECT_CLIENT_INTERNAL_H
#define LH_ACTORS_OBJECT_CLIENT_INTERNAL_H

#include "actors/object_client.h"

/* A page of a list, for `each`. */
struct lh__object_page {
    struct lh_str prefix;
    struct lh_str after; /* local: the last key; HTTP: the cursor; empty: from the start */
    enum lh_status (*each)(const struct lh_object_listed *listed, void *arg,
                           struct lh_error *error);
    void *arg;
    struct lh_buf *next; /* becomes what `after` is for the next page; empty: this was the last */
};

/* One way. Keys have been checked. */
struct lh__object_calls {
    void (*destroy)(struct lh_object_client *client);
    enum lh_status (*put)(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_source *source, const char *content_type,
                          bool is_new, struct lh_object_info *info, struct lh_error *error);
    /* Makes the file the object; LH_INVALID_ARGUMENT: its bytes have to be put. NULL: always. */
    enum lh_status (*link)(struct lh_object_client *client, struct lh_str key, const char *path,
                           const struct lh_http_source *source, const char *content_type,
                           struct lh_object_info *info, struct lh_error *error);
    enum lh_status (*get)(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_sink *sink, struct lh_error *error);
    enum lh_status (*head)(struct lh_object_client *client, struct lh_str key,
                           struct lh_object_info *info, struct lh_error *error);
    enum lh_status (*delete_)(struct lh_object_client *client, struct lh_str key,
                              struct lh_error *error);
    enum lh_status (*list)(struct lh_object_client *client, const struct lh__object_page *page,
                           struct lh_error *error);
};

/* Embedded first in both. */
struct lh_object_client {
    const struct lh__object_calls *calls;
    bool (*is_cancelled)(void *arg); /* never NULL */
    void *arg;
};

/* NULL when there is no memory. */
struct lh_object_client *lh__object_client_local(struct lh_actor *storaged);
struct lh_object_client *lh__object_client_http(const struct lh_object_client_options *options);

#endif
