/* A call of the catalog: from whoever asks to catalogd, and back.
 *
 * The loop sends the calls of the routes, blocking clients theirs; what is asked and answered is
 * the routes' own JSON in both cases, so that there is one contract. Whoever holds the call owns
 * it. */
#ifndef LH_ACTORS_CATALOG_H
#define LH_ACTORS_CATALOG_H

#include "net/http.h"
#include <stddef.h>

#define LH_MSG_CATALOG     22u
#define LH_MSG_CATALOG_JOB 23u

enum lh_catalog_op {
    LH_CATALOG_REGISTER, /* `body` */
    LH_CATALOG_GET,      /* `name`, `version` */
    LH_CATALOG_LIST,     /* `name` as prefix, `cursor`, `limit` */
    LH_CATALOG_DELETE    /* `name`, `purge` */
};

struct lh_catalog_call {
    struct lh_msg head;
    enum lh_catalog_op op;
    struct lh_mailbox *reply_to;
    void *owner; /* the asker's */

    /* asked */
    struct lh_buf body; /* REGISTER: as the route's */
    char name[LH_NAME_BYTES_MAX + 1];
    uint64_t version; /* GET: 0 is the newest */
    bool purge;
    char cursor[LH_NAME_BYTES_MAX + 1]; /* LIST: names after this one; empty: from the start */
    uint32_t limit;
    /* Key prefixes that the caller is limited to, with a newline behind each; empty: it is not. */
    struct lh_buf allowed;

    /* answered */
    struct lh_error error; /* status LH_OK when it went well */
    int http_status;
    struct lh_buf answer; /* JSON */

    /* the gateway's */
    struct lh_http_ticket ticket;
    size_t body_bytes; /* to give back to the server's account */
};

_Static_assert(offsetof(struct lh_catalog_call, head) == 0, "a call is a message");

/* NULL when there is no memory. */
struct lh_catalog_call *lh_catalog_call_create(enum lh_catalog_op op, struct lh_mailbox *reply_to);
void lh_catalog_call_destroy(struct lh_catalog_call *call);

/* Where a dataset's own objects are: "datasets/<name>/". A token that is limited to prefixes
 * reaches the datasets whose folder they allow. */
#define LH_DATASET_FOLDER "datasets/"

#endif
