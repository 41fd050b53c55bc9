/* Responses of upstreams. Loop thread; no state but the response's own.
 *
 * What is read here goes on to a client who trusts it, so it is held to what a request is held to:
 * a header block passes the guard, whole, before llhttp sees it, and both must have read the same.
 * A body without a framing ends with the connection; what comes behind an end that is known is no
 * part of the response, and its owner closes the connection. */
#include "net/response.h"

#include "base/limits.h"
#include <assert.h>

static struct lh__response *lh__response_of(llhttp_t *parser)
{
    return parser->data;
}

bool lh__response_is_bodiless(const struct lh__response *response)
{
    int status = response->head.status;

    return response->is_head || status < 200 || status == 204 || status == 304;
}

static int lh__on_headers_complete(llhttp_t *parser)
{
    struct lh__response *response = lh__response_of(parser);
    const struct lh__head *head = &response->head;

    if (parser->status_code != head->status || parser->content_length != head->content_length ||
        ((parser->flags & F_CHUNKED) != 0) != head->chunked) {
        llhttp_set_error_reason(parser, "ambiguous header");
        return -1;
    }
    parser->upgrade = 0;
    return lh__response_is_bodiless(response) ? 1 : 0;
}

static int lh__on_message_complete(llhttp_t *parser)
{
    lh__response_of(parser)->state = LH__RESPONSE_DONE;
    return HPE_PAUSED; /* nothing was asked behind it */
}

/* Chunk lines are not kept, but they may not go on for ever either. */
static bool lh__count_overhead(struct lh__response *response, const char *to)
{
    response->chunk_overhead += (uint64_t)(to - response->body_mark);
    response->body_mark = to;
    response->is_chunk_long = response->chunk_overhead > LH_CHUNK_OVERHEAD_MAX;
    return !response->is_chunk_long;
}

static int lh__on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct lh__response *response = lh__response_of(parser);

    if (len == 0) {
        return 0;
    }
    if (response->head.chunked && !lh__count_overhead(response, at)) {
        return HPE_USER;
    }
    response->chunk_overhead = 0;
    response->body_mark = at + len;
    response->on_body((struct lh_str){at, len}, response->arg);
    return 0;
}

/* The last chunk's line is read: what follows is the guard's. */
static int lh__on_chunk_header(llhttp_t *parser)
{
    struct lh__response *response = lh__response_of(parser);

    if (parser->content_length > 0) {
        return 0;
    }
    response->state = LH__RESPONSE_TRAILER;
    response->block.len = 0;
    response->seen = 0;
    return HPE_PAUSED;
}

static const llhttp_settings_t lh__settings = {
    .on_headers_complete = lh__on_headers_complete,
    .on_chunk_header = lh__on_chunk_header,
    .on_body = lh__on_body,
    .on_message_complete = lh__on_message_complete,
};

void lh__response_begin(struct lh__response *response, bool is_head)
{
    response->state = LH__RESPONSE_HEAD;
    response->is_head = is_head;
    response->has_begun = false;
    response->until_close = false;
    response->interims = 0;
    response->block.len = 0;
    response->seen = 0;
    response->chunk_overhead = 0;
}

void lh__response_deinit(struct lh__response *response)
{
    lh_buf_deinit(&response->block);
}

static enum lh_status lh__parser_failed(const struct lh__response *response, llhttp_errno_t err,
                                        struct lh_error *error)
{
    const char *reason = llhttp_get_error_reason(&response->parser);

    if (response->is_chunk_long) {
        return lh_error_set(error, LH_BAD_REQUEST, "a chunk line is longer than %u bytes",
                            LH_CHUNK_OVERHEAD_MAX);
    }
    return lh_error_set(error, LH_BAD_REQUEST, "the framing is malformed: %s",
                        reason != NULL ? reason : llhttp_errno_name(err));
}

/* The header block is whole and checked: the parser's turn, then the owner's. */
static enum lh_status lh__response_start_body(struct lh__response *response, struct lh_error *error)
{
    const struct lh__head *head = &response->head;
    llhttp_errno_t err;

    response->until_close =
        !lh__response_is_bodiless(response) && !head->chunked && !head->has_content_length;
    response->state = LH__RESPONSE_BODY;
    response->is_chunk_long = false;
    llhttp_init(&response->parser, HTTP_RESPONSE, &lh__settings);
    response->parser.data = response;
    err = llhttp_execute(&response->parser, response->block.ptr, response->block.len);
    if (err != HPE_OK && !(err == HPE_PAUSED && response->state == LH__RESPONSE_DONE)) {
        return lh__parser_failed(response, err, error);
    }
    response->on_head(head, response->arg);
    return LH_OK;
}

/* An interim response: told, forgotten. */
static enum lh_status lh__response_skip_interim(struct lh__response *response,
                                                struct lh_error *error)
{
    if (response->head.status == 101) {
        return lh_error_set(error, LH_BAD_REQUEST, "101 without having been asked to upgrade");
    }
    if (++response->interims > LH_INTERIM_RESPONSES_MAX) {
        return lh_error_set(error, LH_BAD_REQUEST, "more than %u interim responses",
                            LH_INTERIM_RESPONSES_MAX);
    }
    response->block.len = 0;
    response->seen = 0;
    response->on_interim(response->head.status, response->arg);
    return LH_OK;
}

/* Gathers what ends in an empty line; *end is its length, or 0 as long as it has not come. */
static enum lh_status lh__response_gather(struct lh__response *response, const char *bytes,
                                          size_t len, size_t *used, size_t *end,
                                          struct lh_error *error)
{
    struct lh_buf *block = &response->block;
    const size_t had = block->len;
    const size_t room = LH_HEADER_BYTES_MAX - had;
    enum lh_status status;

    lh_buf_append(block, bytes, len < room ? len : room);
    if (lh_buf_failed(block)) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for the header");
    }
    status = lh__guard_find_trailer_end(block->ptr, block->len, &response->seen, end, error);
    if (status != LH_OK) {
        return status;
    }
    if (*end == 0 && block->len == LH_HEADER_BYTES_MAX) {
        return lh_error_set(error, LH_BAD_REQUEST, "the header is longer than %u bytes",
                            LH_HEADER_BYTES_MAX);
    }
    if (*end > 0) {
        block->len = *end;
    }
    *used = block->len - had;
    return LH_OK;
}

static enum lh_status lh__response_read_head(struct lh__response *response, const char *bytes,
                                             size_t len, size_t *used, struct lh_error *error)
{
    size_t end = 0;
    enum lh_status status = lh__response_gather(response, bytes, len, used, &end, error);

    if (status != LH_OK || end == 0) {
        return status;
    }
    if (end == 2) {
        return lh_error_set(error, LH_BAD_REQUEST, "an empty line for a status line");
    }
    status = lh__guard_check_response(lh_buf_str(&response->block), &response->head, error);
    if (status != LH_OK) {
        return status;
    }
    return response->head.status < 200 ? lh__response_skip_interim(response, error)
                                       : lh__response_start_body(response, error);
}

static enum lh_status lh__response_read_body(struct lh__response *response, const char *bytes,
                                             size_t len, size_t *used, struct lh_error *error)
{
    llhttp_errno_t err;

    response->body_mark = bytes;
    err = llhttp_execute(&response->parser, bytes, len);
    *used = len;
    if (err == HPE_PAUSED) {
        *used = (size_t)(llhttp_get_error_pos(&response->parser) - bytes);
        assert(*used <= len);
        return LH_OK;
    }
    if (err == HPE_OK && response->head.chunked) {
        lh__count_overhead(response, bytes + len);
    }
    if (err != HPE_OK || response->is_chunk_long) {
        return lh__parser_failed(response, err, error);
    }
    return LH_OK;
}

static enum lh_status lh__response_read_trailer(struct lh__response *response, const char *bytes,
                                                size_t len, size_t *used, struct lh_error *error)
{
    size_t end = 0;
    enum lh_status status = lh__response_gather(response, bytes, len, used, &end, error);

    if (status == LH_OK && end > 0) {
        response->state = LH__RESPONSE_DONE;
        status = lh__guard_check_trailer(lh_buf_str(&response->block), &response->head, error);
    }
    return status;
}

enum lh_status lh__response_read(struct lh__response *response, const char *bytes, size_t len,
                                 size_t *used, struct lh_error *error)
{
    enum lh_status status = LH_OK;

    *used = 0;
    response->has_begun = response->has_begun || len > 0;
    while (*used < len && status == LH_OK && response->state != LH__RESPONSE_DONE) {
        size_t step = 0;
        assert(response->state != LH__RESPONSE_FAILED);
        if (response->state == LH__RESPONSE_HEAD) {
            status = lh__response_read_head(response, bytes + *used, len - *used, &step, error);
        } else if (response->state == LH__RESPONSE_BODY) {
            status = lh__response_read_body(response, bytes + *used, len - *used, &step, error);
        } else {
            status = lh__response_read_trailer(response, bytes + *used, len - *used, &step, error);
        }
        *used += step;
        assert(*used <= len);
    }
    if (status != LH_OK) {
        response->state = LH__RESPONSE_FAILED;
        return status == LH_OUT_OF_MEMORY ? status : (error->status = LH_BAD_REQUEST);
    }
    return LH_OK;
}

enum lh_status lh__response_at_eof(struct lh__response *response, struct lh_error *error)
{
    if (response->until_close && response->state == LH__RESPONSE_BODY) {
        response->state = LH__RESPONSE_DONE;
        return LH_OK;
    }
    return lh_error_set(error, LH_BAD_REQUEST, "it closed the connection %s",
                        response->state != LH__RESPONSE_HEAD ? "in the middle of its answer"
                        : response->has_begun                ? "in the middle of its header"
                                                             : "before it answered");
}
