/* Any bytes as a request's header, and as the trailer section of one, cut anywhere: the guard, the
 * parser, the target, the router.
 *
 * What the guard lets through, llhttp must read the same way; a piecewise search for the block's
 * end must find what one search finds. */
#include "net/guard.h"
#include "net/router.h"
#include "net/target.h"

#include <llhttp.h>
#include <stdlib.h>

static const struct lh_route rows[] = {
    {.method = LH_HTTP_GET, .pattern = "/healthz", .services = LH_HTTP_EVERYWHERE},
    {.method = LH_HTTP_GET, .pattern = "/vectors/{name}", .services = LH_HTTP_VECTORD},
    {.method = LH_HTTP_PUT, .pattern = "/vectors/{name}/{id}", .services = LH_HTTP_VECTORD},
    {.method = LH_HTTP_POST, .pattern = "/put/{key...}", .services = LH_HTTP_GATEWAY},
};

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_end(const char *bytes, size_t len, size_t cut, size_t block_len,
                      enum lh_status status)
{
    struct lh_error error;
    size_t seen = 0;
    size_t found = 0;
    enum lh_status first = lh__guard_find_end(bytes, cut, &seen, &found, &error);

    if (first == LH_OK && found == 0) {
        first = lh__guard_find_end(bytes, len, &seen, &found, &error);
    }
    must(first == status || found > 0);
    must(status != LH_OK || found == block_len);
}

struct seen {
    const struct lh__head *head;
    bool complete;
};

static int on_headers_complete(llhttp_t *parser)
{
    struct seen *seen = parser->data;

    must(((parser->flags & F_CHUNKED) != 0) == seen->head->chunked);
    must(parser->content_length == seen->head->content_length);
    must(parser->http_major == 1 && parser->http_minor == seen->head->minor);
    parser->upgrade = 0;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    ((struct seen *)parser->data)->complete = true;
    return HPE_PAUSED;
}

static void check_parser(struct lh_str block, const struct lh__head *head)
{
    const llhttp_settings_t settings = {.on_headers_complete = on_headers_complete,
                                        .on_message_complete = on_message_complete};
    struct seen seen = {head, false};
    llhttp_t parser;
    llhttp_errno_t err;

    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &seen;
    err = llhttp_execute(&parser, block.ptr, block.len);
    if (err == HPE_OK) {
        must(!seen.complete && (head->chunked || head->content_length > 0));
    } else if (err == HPE_PAUSED) {
        must(seen.complete && !head->chunked && head->content_length == 0);
        must(llhttp_get_error_pos(&parser) == block.ptr + block.len);
    }
}

static int on_trailer_end(llhttp_t *parser)
{
    *(bool *)parser->data = true;
    return HPE_PAUSED;
}

/* The same bytes behind the last chunk, to the guard and to the parser. */
static void check_trailer(const char *bytes, size_t len, size_t cut)
{
    const char before[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    const llhttp_settings_t settings = {.on_message_complete = on_trailer_end};
    const struct lh__head head = {.field_count = 2};
    struct lh_error error;
    llhttp_t parser;
    llhttp_errno_t err;
    bool complete = false;
    size_t seen = 0;
    size_t section_len = 0;
    enum lh_status status = lh__guard_find_trailer_end(bytes, cut, &seen, &section_len, &error);

    if (status == LH_OK && section_len == 0) {
        status = lh__guard_find_trailer_end(bytes, len, &seen, &section_len, &error);
    }
    if (status != LH_OK || section_len == 0) {
        return;
    }
    must(section_len <= len);
    if (lh__guard_check_trailer((struct lh_str){bytes, section_len}, &head, &error) != LH_OK) {
        return;
    }
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &complete;
    must(llhttp_execute(&parser, before, sizeof before - 1) == HPE_OK);
    err = llhttp_execute(&parser, bytes, section_len);
    must(err != HPE_OK || complete);
    if (err == HPE_PAUSED) {
        must(complete && llhttp_get_error_pos(&parser) == bytes + section_len);
    }
}

/* The server turns all other methods away before the parser sees them. */
static bool is_implemented(struct lh_str method)
{
    const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (lh_str_eq(method, lh_str_of(names[i]))) {
            return true;
        }
    }
    return false;
}

static void check_target(struct lh_str raw)
{
    char *scratch = malloc(raw.len);
    struct lh__router *router = NULL;
    struct lh__target target;
    struct lh__match match;
    struct lh_error error;

    if (memchr(raw.ptr, '\0', raw.len) != NULL) {
        free(scratch);
        return; /* the guard lets no such target through */
    }
    must(lh__router_create(rows, sizeof rows / sizeof *rows, &router, &error) == LH_OK);
    if (scratch != NULL && lh__target_parse(raw, scratch, &target, &error) == LH_OK) {
        must(memchr(target.path.ptr, '\0', target.path.len) == NULL);
        lh__router_match(router, LH_HTTP_GATEWAY, &target, &match);
        lh__router_match(router, LH_HTTP_VECTORD, &target, &match);
        for (unsigned i = 0; match.found && i < LH_PATH_PARAMS_MAX; i++) {
            must(match.params[i].len <= raw.len);
        }
    }
    lh__router_destroy(router);
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data + 1;
    struct lh__head head;
    struct lh_error error;
    size_t seen = 0;
    size_t block_len = 0;
    enum lh_status status;

    if (size < 2 || size > LH_HEADER_BYTES_MAX) {
        return 0;
    }
    status = lh__guard_find_end(bytes, size - 1, &seen, &block_len, &error);
    check_end(bytes, size - 1, data[0] % size, block_len, status);
    if (status == LH_OK && block_len > 0) {
        struct lh_str block = {bytes, block_len};
        if (lh__guard_check(block, &head, &error) == LH_OK && is_implemented(head.method)) {
            check_parser(block, &head);
        }
    }
    check_trailer(bytes, size - 1, data[0] % size);
    check_target((struct lh_str){bytes, size - 1});
    return 0;
}
