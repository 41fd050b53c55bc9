/* What is looked at in all of a file before DuckDB reads any of it. The ingest's thread.
 *
 * DuckDB takes a compressed file that was cut off for its end, goes on with one that holds a
 * thousand times its size, and calls itself for each level of a JSON text: a deep one leaves the
 * stack, and the process with it. A line of CSV that is longer than what it reads at once it may
 * leave out without a word. So what is compressed is read once before: to its end, whose checksums
 * must be right, and no further than the limit; its lines are measured, as those of other files are
 * while they arrive; and of JSON the levels are counted. */
#include "sql/ingest_internal.h"

#include "base/limits.h"
#include <inttypes.h>

struct check {
    struct lh__ingest_taker taker; /* comes first */
    const struct lh_ingest *ingest;
    uint64_t bytes; /* of the text so far */
    struct lh_text_scan scan;
    uint64_t line;
    enum { TEXT_BEGINS, TEXT_IS_JSON, TEXT_IS_OTHER } text;
    uint32_t depth; /* of JSON, and where in it: */
    bool is_string;
    bool is_escaped;
};

/* JSON is known by its first character, as look_at_line does. */
static void look_at_beginning(struct check *check, struct lh_str text)
{
    enum lh_ingest_format format = check->ingest->format;
    size_t at = lh_str_has_prefix(text, LH_STR("\xef\xbb\xbf")) ? 3 : 0;
    while (at < text.len && strchr(" \t\r\n", text.ptr[at]) != NULL)
        at++;
    if (format == LH_INGEST_JSON || format == LH_INGEST_NDJSON)
        check->text = TEXT_IS_JSON;
    else if (format != LH_INGEST_ANY)
        check->text = TEXT_IS_OTHER;
    else if (at < text.len)
        check->text = text.ptr[at] == '{' || text.ptr[at] == '[' ? TEXT_IS_JSON : TEXT_IS_OTHER;
}

static bool is_too_deep(struct check *check, struct lh_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        check->line += c == '\n';
        if (check->is_string) {
            check->is_string = c != '"' || check->is_escaped;
            check->is_escaped = c == '\\' && !check->is_escaped;
        } else if (c == '"') {
            check->is_string = true;
        } else if (c == '[' || c == '{') {
            if (++check->depth > LH_INGEST_JSON_DEPTH_MAX)
                return true;
        } else if (c == ']' || c == '}') {
            check->depth -= check->depth > 0;
        }
    }
    return false;
}

static enum lh_status take(struct lh__ingest_taker *taker, struct lh_str text,
                           struct lh_error *error)
{
    struct check *check = (struct check *)taker;
    bool is_plain = check->ingest->compression == LH_INGEST_PLAIN;
    uint64_t bytes_max = is_plain ? 0 : check->ingest->source->text_bytes_max;
    check->bytes += text.len;
    if (bytes_max > 0 && check->bytes > bytes_max)
        return lh_error_set(error, LH_BODY_TOO_LARGE,
                            "the file holds more than %" PRIu64 " bytes "
                            "(ingestd.max_decompressed_bytes)",
                            bytes_max);
    if (!is_plain)
        lh_text_scan_add(&check->scan, text);
    if (check->text == TEXT_BEGINS)
        look_at_beginning(check, text);
    if (check->text == TEXT_IS_JSON && is_too_deep(check, text))
        return lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ": JSON of more than %u levels",
                            check->line, LH_INGEST_JSON_DEPTH_MAX);
    taker->is_enough = check->text == TEXT_IS_OTHER;
    return LH_OK;
}

/* ---- a line that is too long ---- */

struct locating {
    struct lh__ingest_taker taker; /* comes first */
    uint64_t before;               /* bytes of text to the line */
    size_t len;                    /* of what is shown of it */
    struct lh_text_place place;
};

static enum lh_status take_line(struct lh__ingest_taker *taker, struct lh_str text,
                                struct lh_error *error)
{
    struct locating *locating = (struct locating *)taker;
    size_t at = 0;
    (void)error;
    for (; at < text.len && locating->before > 0; at++, locating->before--)
        locating->place.line += text.ptr[at] == '\n';
    for (; at < text.len && locating->len < LH_TEXT_SHOWN_BYTES; at++)
        locating->place.text[locating->len++] = text.ptr[at] != '\0' ? text.ptr[at] : '?';
    return LH_OK;
}

static enum lh_status tell_long_line(const struct lh_ingest *ingest, uint64_t offset,
                                     struct lh_error *error)
{
    struct locating locating = {.taker.take = take_line, .before = offset, .place.line = 1};
    enum lh_status status = lh__ingest_read_text(ingest, &locating.taker, error);
    return status == LH_OK ? lh__ingest_tell_long_line(&locating.place, error) : status;
}

enum lh_status lh__ingest_check_whole(const struct lh_ingest *ingest, struct lh_error *error)
{
    struct check check = {
        .taker.take = take, .ingest = ingest, .scan = LH_TEXT_SCAN_EMPTY, .line = 1};
    enum lh_status status = lh__ingest_read_text(ingest, &check.taker, error);
    if (status == LH_OK && check.text == TEXT_IS_OTHER && check.scan.long_at != LH_TEXT_NOWHERE)
        status = tell_long_line(ingest, check.scan.long_at, error);
    return status;
}
