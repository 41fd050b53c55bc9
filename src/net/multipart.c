/* multipart/form-data as it arrives. Any thread; the caller's memory.
 *
 * The body of a part ends where CR LF "--" boundary begins, and the first boundary may stand at the
 * very beginning, without CR LF. A boundary holds no CR, and begins with one: so when a match
 * breaks off, only the byte that broke it can begin another, and what had matched belongs to the
 * body. */
#include "net/multipart.h"

/* ---- headers ---- */

/* The value of a parameter "; name=value", with or without quotes. False: there is none. */
static bool find_parameter(struct lh_str text, const char *name, struct lh_str *value)
{
    size_t len = strlen(name);
    while (text.len > 0) {
        bool is_within = false; /* quotes */
        size_t at = 0;
        while (at < text.len && (is_within || text.ptr[at] != ';'))
            is_within ^= text.ptr[at++] == '"';
        if (at == text.len)
            return false;
        text = (struct lh_str){text.ptr + at + 1, text.len - at - 1};
        struct lh_str rest = lh_str_trim(text);
        if (rest.len <= len || rest.ptr[len] != '=' ||
            !lh_str_eq_nocase((struct lh_str){rest.ptr, len}, lh_str_of(name)))
            continue;
        rest = (struct lh_str){rest.ptr + len + 1, rest.len - len - 1};
        bool is_quoted = rest.len > 0 && *rest.ptr == '"';
        if (is_quoted)
            rest = (struct lh_str){rest.ptr + 1, rest.len - 1};
        const char *end = rest.len > 0 ? memchr(rest.ptr, is_quoted ? '"' : ';', rest.len) : NULL;
        if (is_quoted && end == NULL)
            return false;
        if (end != NULL)
            rest.len = (size_t)(end - rest.ptr);
        *value = is_quoted ? rest : lh_str_trim(rest);
        return true;
    }
    return false;
}

bool lh_multipart_is(struct lh_str content_type)
{
    const char *semicolon =
        content_type.len > 0 ? memchr(content_type.ptr, ';', content_type.len) : NULL;
    if (semicolon != NULL)
        content_type.len = (size_t)(semicolon - content_type.ptr);
    return lh_str_eq_nocase(lh_str_trim(content_type), LH_STR("multipart/form-data"));
}

enum lh_status lh_multipart_init(struct lh_multipart *multipart, struct lh_str content_type,
                                 struct lh_error *error)
{
    struct lh_str boundary = {"", 0};
    *multipart = (struct lh_multipart){.state = LH_MULTIPART_PREAMBLE};
    bool is_valid = find_parameter(content_type, "boundary", &boundary) && boundary.len > 0 &&
                    boundary.len <= LH_MULTIPART_BOUNDARY_MAX;
    for (size_t i = 0; i < boundary.len; i++)
        is_valid &= boundary.ptr[i] >= 0x20 && boundary.ptr[i] < 0x7f;
    if (!is_valid)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "Content-Type: multipart/form-data has a boundary of 1 to %u bytes",
                            LH_MULTIPART_BOUNDARY_MAX);
    memcpy(multipart->boundary, "\r\n--", 4);
    memcpy(multipart->boundary + 4, boundary.ptr, boundary.len);
    multipart->boundary_len = boundary.len + 4;
    multipart->matched = multipart->assumed = 2; /* as if a line had ended before the first one */
    return LH_OK;
}

static void keep(char *to, size_t size, struct lh_str value)
{
    size_t len = value.len < size ? value.len : size - 1;
    for (size_t i = 0; i < len; i++)
        to[i] = value.ptr[i] != '\0' ? value.ptr[i] : '?';
    to[len] = '\0';
}

/* A line of the part's header, without its end. */
static enum lh_status take_header(struct lh_multipart *multipart, struct lh_error *error)
{
    struct lh_str line = {multipart->line, multipart->line_len}, value;
    const char *colon = memchr(line.ptr, ':', line.len);
    if (colon == NULL)
        return lh_error_set(error, LH_BAD_REQUEST,
                            "multipart: a line of a part's header has no ':'");
    struct lh_str name = {line.ptr, (size_t)(colon - line.ptr)};
    struct lh_str text = lh_str_trim((struct lh_str){colon + 1, line.len - name.len - 1});
    if (lh_str_eq_nocase(name, LH_STR("Content-Type")))
        keep(multipart->content_type, sizeof multipart->content_type, text);
    else if (lh_str_eq_nocase(name, LH_STR("Content-Disposition")) &&
             find_parameter(text, "filename", &value))
        keep(multipart->file_name, sizeof multipart->file_name, value);
    return LH_OK;
}

/* Takes one byte of the part's header. */
static enum lh_status take_header_byte(struct lh_multipart *multipart, char c,
                                       struct lh_error *error)
{
    if (c != '\n') {
        if (multipart->line_len == LH_MULTIPART_LINE_MAX)
            return lh_error_set(error, LH_BAD_REQUEST,
                                "multipart: a line of a part's header is longer than %u bytes",
                                LH_MULTIPART_LINE_MAX);
        multipart->line[multipart->line_len++] = c;
        return LH_OK;
    }
    if (multipart->line_len == 0 || multipart->line[multipart->line_len - 1] != '\r')
        return lh_error_set(error, LH_BAD_REQUEST,
                            "multipart: a line of a part's header ends without CR");
    multipart->line_len--;
    if (multipart->line_len == 0) {
        multipart->state = LH_MULTIPART_BODY;
        multipart->matched = multipart->assumed = 2; /* the blank line's end may be a boundary's */
        return LH_OK;
    }
    if (++multipart->lines > LH_MULTIPART_LINES_MAX)
        return lh_error_set(error, LH_BAD_REQUEST,
                            "multipart: a part's header of more than %u lines",
                            LH_MULTIPART_LINES_MAX);
    enum lh_status status = take_header(multipart, error);
    multipart->line_len = 0;
    return status;
}

/* ---- boundaries ---- */

/* Behind a boundary: "--" ends it all, blanks and CR LF begin a part. */
static enum lh_status take_boundary_end(struct lh_multipart *multipart, char c,
                                        struct lh_error *error)
{
    bool is_last = multipart->line_len == 1 && multipart->line[0] == '-' && c == '-';
    bool is_part = multipart->line_len == 1 && multipart->line[0] == '\r' && c == '\n';
    if (is_last) {
        multipart->state = LH_MULTIPART_OVER;
    } else if (is_part) {
        if (++multipart->parts > 1)
            return lh_error_set(error, LH_BAD_REQUEST,
                                "multipart: one file is taken, here is another part; what else is "
                                "to be said stands in the query");
        multipart->state = LH_MULTIPART_HEADER;
        multipart->line_len = 0;
    } else if (multipart->line_len == 0 && (c == '\r' || c == '-')) {
        multipart->line[multipart->line_len++] = c;
    } else if (multipart->line_len != 0 || (c != ' ' && c != '\t')) {
        return lh_error_set(error, LH_BAD_REQUEST, "multipart: a boundary's line does not end");
    }
    return LH_OK;
}

/* Up to where a boundary may begin. */
static size_t take_plain(struct lh_multipart *multipart, struct lh_str piece, struct lh_str *body)
{
    const char *cr = memchr(piece.ptr, '\r', piece.len);
    size_t len = cr != NULL ? (size_t)(cr - piece.ptr) : piece.len;
    multipart->matched = cr != NULL;
    *body = (struct lh_str){piece.ptr, len};
    return len + (cr != NULL);
}

/* On with a match. What turns out to be none is the body's. */
static size_t take_match(struct lh_multipart *multipart, struct lh_str piece, struct lh_str *body)
{
    size_t i = 0;
    while (i < piece.len && multipart->matched < multipart->boundary_len &&
           piece.ptr[i] == multipart->boundary[multipart->matched]) {
        multipart->matched++;
        i++;
    }
    if (multipart->matched == multipart->boundary_len) {
        multipart->state = LH_MULTIPART_BOUNDARY_END;
        multipart->matched = 0;
        multipart->line_len = 0;
    } else if (i < piece.len) {
        *body = (struct lh_str){multipart->boundary + multipart->assumed,
                                multipart->matched - multipart->assumed};
        multipart->matched = 0;
        multipart->assumed = 0;
    }
    return i;
}

/* Of a preamble or a body, some of the piece. */
static enum lh_status take_body(struct lh_multipart *multipart, struct lh_str piece,
                                const struct lh_multipart_sink *sink, size_t *taken,
                                struct lh_error *error)
{
    bool is_body = multipart->state == LH_MULTIPART_BODY;
    struct lh_str body = {NULL, 0};
    *taken = multipart->matched == 0 ? take_plain(multipart, piece, &body)
                                     : take_match(multipart, piece, &body);
    return is_body && body.len > 0 ? sink->write(body, sink->arg, error) : LH_OK;
}

enum lh_status lh_multipart_take(struct lh_multipart *multipart, struct lh_str piece,
                                 const struct lh_multipart_sink *sink, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    while (piece.len > 0 && status == LH_OK) {
        size_t taken = 1;
        switch (multipart->state) {
        case LH_MULTIPART_PREAMBLE:
        case LH_MULTIPART_BODY:
            status = take_body(multipart, piece, sink, &taken, error);
            break;
        case LH_MULTIPART_BOUNDARY_END:
            status = take_boundary_end(multipart, *piece.ptr, error);
            break;
        case LH_MULTIPART_HEADER:
            status = take_header_byte(multipart, *piece.ptr, error);
            break;
        case LH_MULTIPART_OVER:
            return LH_OK; /* an epilogue is not read */
        }
        piece = (struct lh_str){piece.ptr + taken, piece.len - taken};
    }
    return status;
}

enum lh_status lh_multipart_end(const struct lh_multipart *multipart, struct lh_error *error)
{
    if (multipart->state != LH_MULTIPART_OVER)
        return lh_error_set(error, LH_BAD_REQUEST, "multipart: the last boundary is missing");
    if (multipart->parts == 0)
        return lh_error_set(error, LH_BAD_REQUEST, "multipart: there is no file in it");
    return LH_OK;
}
