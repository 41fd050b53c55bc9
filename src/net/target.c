/* Request targets. Any thread: no state.
 *
 * A path is split at its slashes before anything is decoded, so that %2F inside an id is part of
 * the id, and each part is decoded once, so that %252e stays "%2e". Dot segments mean nothing
 * here: they match no route. */
#include "net/target.h"

#include <assert.h>

static int lh__hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Decodes `raw` to *out and moves *out behind it. */
static enum lh_status lh__decode(struct lh_str raw, bool plus_is_space, char **out,
                                 struct lh_str *decoded, struct lh_error *error)
{
    char *to = *out;

    decoded->ptr = to;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c == '%') {
            int high = raw.len - i > 2 ? lh__hex(raw.ptr[i + 1]) : -1;
            int low = raw.len - i > 2 ? lh__hex(raw.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return lh_error_set(error, LH_BAD_REQUEST,
                                    "the request target has a %% without two hex digits");
            }
            c = (char)(high * 16 + low);
            if (c == '\0') {
                return lh_error_set(error, LH_BAD_REQUEST, "the request target has a %%00");
            }
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        *to++ = c;
    }
    decoded->len = (size_t)(to - decoded->ptr);
    *out = to;
    return LH_OK;
}

/* Segments lie one behind the other with a '/' between, so that a tail of them is one string. */
static enum lh_status lh__parse_path(struct lh_str raw, char **out, struct lh__target *target,
                                     struct lh_error *error)
{
    const char *at = raw.ptr + 1;
    const char *end = raw.ptr + raw.len;

    target->path.ptr = *out;
    for (;;) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        struct lh_str part = {at, (size_t)((slash ? slash : end) - at)};
        struct lh_str segment;
        enum lh_status status = lh__decode(part, false, out, &segment, error);
        if (status != LH_OK) {
            return status;
        }
        if (target->segment_count < LH__SEGMENTS_MAX) {
            target->segments[target->segment_count++] = segment;
        } else {
            target->segment_count = LH__SEGMENTS_MAX + 1;
        }
        if (slash == NULL) {
            break;
        }
        *(*out)++ = '/';
        at = slash + 1;
    }
    target->path.len = (size_t)(*out - target->path.ptr);
    return LH_OK;
}

static enum lh_status lh__parse_query(struct lh_str raw, char **out, struct lh__target *target,
                                      struct lh_error *error)
{
    const char *at = raw.ptr;
    const char *end = raw.ptr + raw.len;

    while (at < end) {
        const char *ampersand = memchr(at, '&', (size_t)(end - at));
        const char *stop = ampersand ? ampersand : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        struct lh_str name = {at, (size_t)((equals ? equals : stop) - at)};
        struct lh_str value = {stop, 0};
        struct lh__query_param *param = &target->query[target->query_count];
        enum lh_status status;

        if (equals != NULL) {
            value = (struct lh_str){equals + 1, (size_t)(stop - equals - 1)};
        }
        if (target->query_count == LH__QUERY_MAX) {
            return lh_error_set(error, LH_BAD_REQUEST, "more than %u query parameters",
                                LH__QUERY_MAX);
        }
        status = lh__decode(name, true, out, &param->name, error);
        if (status == LH_OK) {
            status = lh__decode(value, true, out, &param->value, error);
        }
        if (status != LH_OK) {
            return status;
        }
        if (param->name.len > 0) {
            target->query_count++;
        }
        at = ampersand ? ampersand + 1 : end;
    }
    return LH_OK;
}

/* "http://host/path" to "/path"; other targets stay as they are (RFC 9112 section 3.2.2). */
static struct lh_str lh__strip_authority(struct lh_str raw)
{
    const struct lh_str schemes[] = {LH_STR("http://"), LH_STR("https://")};

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct lh_str scheme = schemes[i];
        if (raw.len > scheme.len &&
            lh_str_eq_nocase((struct lh_str){raw.ptr, scheme.len}, scheme)) {
            size_t at = scheme.len;
            while (at < raw.len && raw.ptr[at] != '/' && raw.ptr[at] != '?') {
                at++;
            }
            return (struct lh_str){raw.ptr + at, raw.len - at};
        }
    }
    return raw;
}

enum lh_status lh__target_parse(struct lh_str raw, char *scratch, struct lh__target *target,
                                struct lh_error *error)
{
    struct lh_str rest = lh__strip_authority(raw);
    struct lh_str query = {rest.ptr, 0};
    const char *mark;
    char *out = scratch;
    enum lh_status status;

    target->segment_count = 0;
    target->query_count = 0;
    target->is_asterisk = lh_str_eq(raw, LH_STR("*"));
    target->path = (struct lh_str){scratch, 0};
    if (target->is_asterisk) {
        return LH_OK;
    }
    if (memchr(rest.ptr, '#', rest.len) != NULL) {
        return lh_error_set(error, LH_BAD_REQUEST, "the request target has a fragment");
    }
    mark = memchr(rest.ptr, '?', rest.len);
    if (mark != NULL) {
        query = (struct lh_str){mark + 1, rest.len - (size_t)(mark + 1 - rest.ptr)};
        rest.len = (size_t)(mark - rest.ptr);
    }
    if (rest.len == 0 && rest.ptr != raw.ptr) {
        rest = LH_STR("/"); /* "http://host" */
    }
    if (rest.len == 0 || rest.ptr[0] != '/') {
        return lh_error_set(error, LH_BAD_REQUEST, "the request target does not start with /");
    }
    status = lh__parse_path(rest, &out, target, error);
    if (status == LH_OK) {
        status = lh__parse_query(query, &out, target, error);
    }
    assert(out <= scratch + raw.len);
    return status;
}
