/* The route table as a tree of path segments. Built once, then read by the loop thread.
 *
 * A node has literal children, at most one `{name}` child and at most one "{key...}" child; a
 * literal is tried before a name, and a name before a tail. The table has some dozens of rows, so
 * children are a short list that is compared one by one. */
#include "net/router.h"

#include <assert.h>
#include <stdlib.h>

struct lh__node {
    struct lh_str literal;
    struct lh__node *sibling;
    struct lh__node *literals;
    struct lh__node *name;
    const struct lh_route *here[LH_HTTP_METHODS]; /* the path ends at this node */
    const struct lh_route *tail[LH_HTTP_METHODS]; /* "{key...}" follows it */
};

struct lh__router {
    struct lh__node root;
};

static void lh__node_free(struct lh__node *node)
{
    while (node != NULL) {
        struct lh__node *next = node->sibling;
        lh__node_free(node->literals);
        lh__node_free(node->name);
        free(node);
        node = next;
    }
}

static struct lh__node *lh__node_literal(struct lh__node *node, struct lh_str literal)
{
    struct lh__node *child;

    for (child = node->literals; child != NULL; child = child->sibling) {
        if (lh_str_eq(child->literal, literal)) {
            return child;
        }
    }
    child = calloc(1, sizeof *child);
    if (child != NULL) {
        child->literal = literal;
        child->sibling = node->literals;
        node->literals = child;
    }
    return child;
}

/* Walks `pattern` into the tree; *slot is where its route belongs. */
static enum lh_status lh__node_grow(struct lh__node *node, const char *pattern,
                                    const struct lh_route *(**slot)[LH_HTTP_METHODS])
{
    const char *at = pattern;
    unsigned params = 0;

    while (*at == '/') {
        const char *part = at + 1;
        size_t len = strcspn(part, "/");
        at = part + len;
        if (len == 0) {
            return LH_INVALID_ARGUMENT;
        }
        if (part[0] != '{') {
            node = lh__node_literal(node, (struct lh_str){part, len});
        } else if (part[len - 1] != '}' || ++params > LH_PATH_PARAMS_MAX) {
            return LH_INVALID_ARGUMENT;
        } else if (len > 5 && memcmp(part + len - 4, "...}", 4) == 0) {
            *slot = &node->tail;
            return *at == '\0' ? LH_OK : LH_INVALID_ARGUMENT;
        } else {
            node->name = node->name ? node->name : calloc(1, sizeof *node->name);
            node = node->name;
        }
        if (node == NULL) {
            return LH_OUT_OF_MEMORY;
        }
    }
    *slot = &node->here;
    return at != pattern && *at == '\0' ? LH_OK : LH_INVALID_ARGUMENT;
}

enum lh_status lh__router_create(const struct lh_route *routes, size_t count,
                                 struct lh__router **router, struct lh_error *error)
{
    struct lh__router *made = calloc(1, sizeof *made);

    if (made == NULL) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for the route table");
    }
    for (size_t i = 0; i < count; i++) {
        const struct lh_route *(*slot)[LH_HTTP_METHODS] = NULL;
        enum lh_status status = lh__node_grow(&made->root, routes[i].pattern, &slot);
        if (status == LH_OK && (*slot)[routes[i].method] != NULL) {
            status = LH_INVALID_ARGUMENT;
        }
        if (status != LH_OK) {
            lh__router_destroy(made);
            return lh_error_set(error, status, "route %s: %s", routes[i].pattern,
                                status == LH_OUT_OF_MEMORY ? "no memory"
                                                           : "not a pattern, or there twice");
        }
        (*slot)[routes[i].method] = &routes[i];
    }
    *router = made;
    return LH_OK;
}

void lh__router_destroy(struct lh__router *router)
{
    if (router != NULL) {
        lh__node_free(router->root.literals);
        lh__node_free(router->root.name);
        free(router);
    }
}

/* One walk over the tree. */
struct lh__walk {
    const struct lh__target *target;
    struct lh__match *match;
    enum lh_http_service service;
    bool under_v1;
};

static bool lh__answers_here(const struct lh__walk *walk, const struct lh_route *route)
{
    if (route->services == LH_HTTP_EVERYWHERE) {
        return !walk->under_v1;
    }
    if (walk->service == LH_HTTP_GATEWAY) {
        return walk->under_v1;
    }
    return (route->services & walk->service) != 0;
}

static bool lh__take_routes(const struct lh__walk *walk,
                            const struct lh_route *const routes[LH_HTTP_METHODS])
{
    for (unsigned m = 0; m < LH_HTTP_METHODS; m++) {
        if (routes[m] != NULL && lh__answers_here(walk, routes[m])) {
            walk->match->routes[m] = routes[m];
            walk->match->found = true;
        }
    }
    return walk->match->found;
}

/* Depth is bounded by LH__SEGMENTS_MAX. */
static bool lh__walk_from(const struct lh__walk *walk, const struct lh__node *node, unsigned at,
                          unsigned params)
{
    const struct lh__target *target = walk->target;
    struct lh_str segment;

    if (at == target->segment_count) {
        return lh__take_routes(walk, node->here);
    }
    if (at == LH__SEGMENTS_MAX) {
        return false;
    }
    segment = target->segments[at];
    if (segment.len > 0) {
        for (const struct lh__node *child = node->literals; child != NULL; child = child->sibling) {
            if (lh_str_eq(child->literal, segment) && lh__walk_from(walk, child, at + 1, params)) {
                return true;
            }
        }
        if (node->name != NULL && lh__walk_from(walk, node->name, at + 1, params + 1)) {
            walk->match->params[params] = segment;
            return true;
        }
    }
    if (lh__take_routes(walk, node->tail)) {
        const char *end = target->path.ptr + target->path.len;
        walk->match->params[params] = (struct lh_str){segment.ptr, (size_t)(end - segment.ptr)};
        return true;
    }
    return false;
}

void lh__router_match(const struct lh__router *router, enum lh_http_service service,
                      const struct lh__target *target, struct lh__match *match)
{
    struct lh__walk walk = {target, match, service, false};

    memset(match, 0, sizeof *match);
    if (target->segment_count > 1 && lh_str_eq(target->segments[0], LH_STR("v1"))) {
        walk.under_v1 = true;
    }
    lh__walk_from(&walk, &router->root, walk.under_v1 ? 1 : 0, 0);
}

void lh__router_allow(const struct lh__match *match, char *text)
{
    static const char *const names[LH_HTTP_METHODS] = {
        [LH_HTTP_GET] = "GET, HEAD, ",
        [LH_HTTP_POST] = "POST, ",
        [LH_HTTP_PUT] = "PUT, ",
        [LH_HTTP_DELETE] = "DELETE, ",
    };

    *text = '\0';
    for (unsigned m = 0; m < LH_HTTP_METHODS; m++) {
        if (match == NULL || match->routes[m] != NULL) {
            strcat(text, names[m]);
        }
    }
    strcat(text, "OPTIONS");
}
