/* The OpenAPI 3.1 document of the route table. Any thread; no state.
 *
 * Rows of one pattern become one path item. The schemas are JSON text in the table and are copied
 * as they are. */
#include "net/http.h"

#include <stdio.h>

static const char *const lh__method_names[LH_HTTP_METHODS] = {
    [LH_HTTP_GET] = "get",
    [LH_HTTP_POST] = "post",
    [LH_HTTP_PUT] = "put",
    [LH_HTTP_DELETE] = "delete",
};

static void lh__text(struct lh_buf *out, const char *text)
{
    lh_buf_append_str(out, lh_str_of(text));
}

static void lh__parameter(struct lh_buf *out, struct lh_str name, const char *in, bool *first)
{
    bool in_path = in[0] == 'p';

    lh_buf_printf(out, "%s{\"name\":\"%.*s\",\"in\":\"%s\",%s\"schema\":{\"type\":\"string\"}}",
                  *first ? "" : ",", LH_STR_FMT(name), in, in_path ? "\"required\":true," : "");
    *first = false;
}

static void lh__parameters(struct lh_buf *out, const struct lh_route *route)
{
    bool first = true;

    lh__text(out, ",\"parameters\":[");
    for (const char *at = strchr(route->pattern, '{'); at != NULL; at = strchr(at, '{')) {
        size_t len = strcspn(++at, ".}");
        lh__parameter(out, (struct lh_str){at, len}, "path", &first);
    }
    for (const char *at = route->query; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ", ");
        if (len > 0) {
            lh__parameter(out, (struct lh_str){at, len}, "query", &first);
        }
        at += len + strspn(at + len, ", ");
    }
    lh__text(out, "]");
}

/* Role names beside a scheme that is not OAuth's: OpenAPI 3.1. */
static void lh__security(struct lh_buf *out, enum lh_http_scope scope)
{
    static const char *const roles[] = {
        [LH_HTTP_SCOPE_UNSET] = "[{\"bearer\":[\"admin\"]}]",
        [LH_HTTP_SCOPE_ADMIN] = "[{\"bearer\":[\"admin\"]}]",
        [LH_HTTP_SCOPE_WRITE] = "[{\"bearer\":[\"write\"]}]",
        [LH_HTTP_SCOPE_READ] = "[{\"bearer\":[\"read\"]}]",
        [LH_HTTP_SCOPE_STATUS] = "[{},{\"bearer\":[\"read\"]}]",
        [LH_HTTP_SCOPE_OPEN] = "[]",
    };

    lh__text(out, ",\"security\":");
    lh__text(out, roles[scope]);
}

static void lh__operation(struct lh_buf *out, const struct lh_route *route)
{
    lh_buf_printf(out, "\"%s\":{\"operationId\":\"%s\",\"summary\":\"%s\"",
                  lh__method_names[route->method], route->operation, route->summary);
    lh__security(out, route->scope);
    lh__parameters(out, route);
    if (route->request_json != NULL) {
        lh__text(out, ",\"requestBody\":{\"required\":true,\"content\":{\"application/json\":"
                      "{\"schema\":");
        lh__text(out, route->request_json);
        lh__text(out, "}}}");
    }
    lh_buf_printf(out, ",\"responses\":{\"%d\":{\"description\":\"success\"", route->success);
    if (route->response_json != NULL) {
        lh__text(out, ",\"content\":{\"application/json\":{\"schema\":");
        lh__text(out, route->response_json);
        lh__text(out, "}}");
    }
    lh__text(out, "},\"default\":{\"$ref\":\"#/components/responses/Error\"}}}");
}

/* A pattern as a path: under /v1 unless it answers everywhere, `{key...}` as `{key}`. */
static void lh__path(struct lh_buf *out, const struct lh_route *route)
{
    lh__text(out, route->services == LH_HTTP_EVERYWHERE ? "\"" : "\"/v1");
    for (const char *at = route->pattern; *at != '\0'; at++) {
        if (*at != '.' || strncmp(at, "...}", 4) != 0) {
            lh_buf_append_char(out, *at);
        } else {
            at += 2;
        }
    }
    lh__text(out, "\":{");
}

static bool lh__pattern_is_first(const struct lh_route *routes, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (strcmp(routes[j].pattern, routes[i].pattern) == 0) {
            return false;
        }
    }
    return true;
}

void lh_http_openapi(const struct lh_route *routes, size_t count, struct lh_buf *out)
{
    const char *comma = "";

    lh__text(out, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"lakehoused\",\"version\":\"1\"},"
                  "\"paths\":{");
    for (size_t i = 0; i < count; i++) {
        const char *inner = "";
        if (!lh__pattern_is_first(routes, i)) {
            continue;
        }
        lh__text(out, comma);
        comma = ",";
        lh__path(out, &routes[i]);
        for (size_t j = i; j < count; j++) {
            if (strcmp(routes[j].pattern, routes[i].pattern) == 0) {
                lh__text(out, inner);
                inner = ",";
                lh__operation(out, &routes[j]);
            }
        }
        lh__text(out, "}");
    }
    lh__text(out, "},\"components\":{\"securitySchemes\":{\"bearer\":{"
                  "\"type\":\"http\",\"scheme\":\"bearer\"}},\"responses\":{\"Error\":{"
                  "\"description\":\"error\","
                  "\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\","
                  "\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"object\","
                  "\"required\":[\"code\",\"message\"],\"properties\":{"
                  "\"code\":{\"type\":\"string\"},\"message\":{\"type\":\"string\"}}}}}}}}}}}\n");
}
