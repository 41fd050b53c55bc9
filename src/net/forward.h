/* A call sent on to an upstream, and its answer sent back: RFC 9110 section 7.6 for a gateway. */
#ifndef LH_NET_FORWARD_H
#define LH_NET_FORWARD_H

#include "net/upstream.h"

struct lh_http_forward_options {
    struct lh_str token; /* goes as a bearer token in place of the client's; empty: the client's */
    /* A piece of a body that was not announced has come. NULL: nobody counts. */
    void (*on_unannounced)(struct lh_http_call *call, size_t bytes, void *arg);
    void *arg;
};

/* For a call whose body is streamed, from its handler: answers it with what the upstream answers,
 * or with an error. */
void lh_http_forward(struct lh_http_call *call, struct lh_upstream *upstream,
                     const struct lh_http_forward_options *options);

#endif
