/* Stepping through valid JSON text. Any thread; no state.
 *
 * Invariant: the text was accepted by the strict reader (json.c), so brackets match and strings
 * end; what is left to do is to find where a value stops. */
#include "ext/json.h"

#include <assert.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Over white space and the commas and colons between values. */
static void skip_between(struct lh_json_walk *walk)
{
    while (walk->at < walk->end && (is_space(*walk->at) || *walk->at == ',' || *walk->at == ':'))
        walk->at++;
}

/* Behind the string that begins at `at`. */
static const char *string_end(const char *at, const char *end)
{
    for (at++; *at != '"'; at++) {
        at += *at == '\\';
        assert(at < end);
    }
    return at + 1;
}

/* The value that begins at walk->at, which moves behind it. */
static struct lh_str take_value(struct lh_json_walk *walk)
{
    const char *from = walk->at;
    const char *at = from;
    unsigned depth = 0;
    do {
        if (*at == '"') {
            at = string_end(at, walk->end);
            continue;
        }
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        at++;
    } while (at < walk->end && (depth > 0 || (!is_space(*at) && strchr(",:]}", *at) == NULL)));
    walk->at = at;
    return (struct lh_str){from, (size_t)(at - from)};
}

struct lh_json_walk lh_json_walk_begin(struct lh_str value)
{
    struct lh_json_walk walk = {value.ptr, value.ptr + value.len};
    while (walk.at < walk.end && is_space(*walk.at))
        walk.at++;
    if (walk.at == walk.end || (*walk.at != '{' && *walk.at != '['))
        return (struct lh_json_walk){NULL, NULL};
    while (is_space(walk.end[-1]))
        walk.end--;
    return (struct lh_json_walk){walk.at + 1, walk.end - 1};
}

bool lh_json_step(struct lh_json_walk *walk, struct lh_str *name, struct lh_str *value)
{
    *name = (struct lh_str){NULL, 0};
    skip_between(walk);
    if (walk->at >= walk->end)
        return false;
    *value = take_value(walk);
    while (walk->at < walk->end && is_space(*walk->at))
        walk->at++;
    if (walk->at < walk->end && *walk->at == ':') {
        *name = *value;
        skip_between(walk);
        *value = take_value(walk);
    }
    return true;
}
