/* The route table as a tree of path segments. */
#ifndef LH_NET_ROUTER_H
#define LH_NET_ROUTER_H

#include "net/http.h"
#include "net/target.h"

struct lh__router;

/* What a path leads to on one port. */
struct lh__match {
    const struct lh_route *routes[LH_HTTP_METHODS]; /* by method; NULL: not allowed */
    struct lh_str params[LH_PATH_PARAMS_MAX];
    bool found; /* any method */
};

/* The table must outlive the router. A pattern that is no pattern, or the same method and pattern
 * twice, is LH_INVALID_ARGUMENT: a bug in the table that start-up shows. */
LH_MUST_USE enum lh_status lh__router_create(const struct lh_route *routes, size_t count,
                                             struct lh__router **router, struct lh_error *error);
void lh__router_destroy(struct lh__router *router);

/* `service` is the port's. Its own routes answer there with or without /v1, on the gateway's port
 * every route under /v1, and routes of LH_HTTP_EVERYWHERE as they are. */
void lh__router_match(const struct lh__router *router, enum lh_http_service service,
                      const struct lh__target *target, struct lh__match *match);

/* "GET, HEAD, OPTIONS" of a match; of every method when `match` is NULL. At least 64 bytes. */
void lh__router_allow(const struct lh__match *match, char *text);

#endif
