/* NDJSON in pieces of whole lines, passed on as they are. One thread at a time. */
#include "source.h"

#include "ext/json_read.h"

#include <errno.h>
#include <unistd.h>

#define READ_BYTES  (256u << 10)
#define PIECE_BYTES (1u << 20) /* a piece ends with the first line past it */

/* Reads more behind what is there. */
static enum lh_status fill(struct lh_source *source, struct lh_error *error)
{
    if (source->carry_at > 0) {
        lh_buf_consume(&source->carry, source->carry_at);
        source->carry_at = 0;
    }
    if (lh_buf_reserve(&source->carry, READ_BYTES) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a line");
    ssize_t got;
    do {
        got = read(source->fd, source->carry.ptr + source->carry.len, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return lh_error_sys(error, LH_IO, errno, "%.80s", source->name);
    source->at_end = got == 0;
    source->carry.len += (size_t)got;
    return LH_OK;
}

/* The next line with its newline; `len` 0 at the end of the file. */
static enum lh_status next_line(struct lh_source *source, struct lh_str *line,
                                struct lh_error *error)
{
    size_t looked = 0;
    for (;;) {
        const char *at = source->carry.ptr + source->carry_at;
        size_t have = source->carry.len - source->carry_at;
        const char *end = have > looked ? memchr(at + looked, '\n', have - looked) : NULL;
        if (end != NULL || source->at_end) {
            *line = (struct lh_str){at, end != NULL ? (size_t)(end - at) + 1 : have};
            return LH_OK;
        }
        if (have > LH_NDJSON_LINE_BYTES_MAX)
            return lh_error_set(error, LH_LINE_TOO_LONG, "%.80s, line %ju: is longer than %u bytes",
                                source->name, (uintmax_t)source->next_row + 1,
                                LH_NDJSON_LINE_BYTES_MAX);
        looked = have;
        enum lh_status status = fill(source, error);
        if (status != LH_OK)
            return status;
    }
}

static bool is_blank(struct lh_str line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] != ' ' && line.ptr[i] != '\t' && line.ptr[i] != '\r' && line.ptr[i] != '\n')
            return false;
    }
    return true;
}

/* How many numbers the item's vector has: a list, or base64 of float32. 0: it has none. */
static uint32_t dimension_of(struct lh_json item)
{
    struct lh_json vector;
    struct lh_str text;
    if (!lh_json_get(item, "vector", &vector))
        return 0;
    if (!lh_json_as_str(vector, &text))
        return lh_json_count(vector);
    size_t padding = 0;
    while (padding < text.len && text.ptr[text.len - 1 - padding] == '=')
        padding++;
    return (uint32_t)((text.len - padding) * 3 / 4 / sizeof(float));
}

enum lh_status lh_source_peek_ndjson(struct lh_source *source, struct lh_error *error)
{
    struct lh_json_doc *doc = NULL;
    struct lh_json item;
    struct lh_error fault;
    struct lh_str line;
    enum lh_status status;
    for (;;) {
        status = next_line(source, &line, error);
        if (status != LH_OK)
            return status;
        if (line.len == 0)
            return lh_error_set(error, LH_INVALID_ARGUMENT, "%.80s: has no items", source->name);
        if (!is_blank(line))
            break;
        source->carry_at += line.len;
        source->next_row++;
    }
    status = lh_json_doc_create(line, &doc, &item, &fault);
    if (status != LH_OK)
        return lh_error_set(error, status, "%.60s, first line: %.80s", source->name, fault.text);
    source->dimension = dimension_of(item);
    lh_json_doc_destroy(doc);
    if (source->dimension == 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s, first line: is no {\"id\": \"...\", \"vector\": [...]}",
                            source->name);
    return LH_OK;
}

enum lh_status lh_source_next_ndjson(struct lh_source *source, uint32_t max_lines,
                                     struct lh_piece *piece, struct lh_error *error)
{
    piece->first = source->next_row + 1;
    piece->count = 0;
    piece->text.len = 0;
    while (piece->count < max_lines && piece->text.len < PIECE_BYTES) {
        struct lh_str line;
        enum lh_status status = next_line(source, &line, error);
        if (status != LH_OK)
            return status;
        if (line.len == 0)
            break;
        lh_buf_append_str(&piece->text, line);
        source->carry_at += line.len;
        source->next_row++;
        piece->count++;
    }
    piece->bytes = piece->text.len;
    if (lh_buf_failed(&piece->text))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a batch");
    return LH_OK;
}
