/* A call sent on to an upstream, and its answer sent back: RFC 9110 section 7.6 for a gateway. */
#ifndef LH_NET_FORWARD_H
#define LH_NET_FORWARD_H

#include "net/upstream.h"

/* For a call whose body is streamed, from its handler: answers it with what the upstream answers,
 * or with an error. `authorization`, when not empty, goes in place of the client's. */
void lh_http_forward(struct lh_http_call *call, struct lh_upstream *upstream,
                     struct lh_str authorization);

#endif
