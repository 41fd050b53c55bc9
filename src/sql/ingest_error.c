/* What DuckDB says of a file, told in terms of the file: line, column and text. The ingest's
 * thread.
 *
 * DuckDB counts records; values in quotes may hold newlines. Where the file can be read as it is,
 * the line is looked up. */
#include "sql/ingest_internal.h"

#include "base/limits.h"
#include <inttypes.h>

struct fault {
    uint64_t record;
    struct lh_str text;   /* of the record */
    struct lh_str reason; /* and all that comes behind it */
};

static struct lh_str from(struct lh_str text, const char *at)
{
    return (struct lh_str){at, text.len - (size_t)(at - text.ptr)};
}

/* NULL when it is not there. */
static const char *find(struct lh_str text, const char *what)
{
    return text.len > 0 ? memmem(text.ptr, text.len, what, strlen(what)) : NULL;
}

/* Behind `what`; false when it is not there. */
static bool skip(struct lh_str *text, const char *what)
{
    const char *at = find(*text, what);
    if (at == NULL)
        return false;
    *text = from(*text, at + strlen(what));
    return true;
}

/* What comes before `what`, which is passed. */
static bool take(struct lh_str *text, const char *what, struct lh_str *taken)
{
    const char *start = text->ptr;
    if (!skip(text, what))
        return false;
    *taken = (struct lh_str){start, (size_t)(text->ptr - start) - strlen(what)};
    return true;
}

/* How much of `text` is shown: not more than that many bytes, and no part of a character. */
static int shown(struct lh_str text, size_t most)
{
    if (text.len <= most)
        return (int)text.len;
    while (most > 0 && (text.ptr[most] & 0xc0) == 0x80)
        most--;
    return (int)most;
}

static bool read_fault(struct lh_str message, struct fault *fault)
{
    static const char *const reasons[] = {"Error when converting column \"",
                                          "Expected Number of Columns: ",
                                          "Invalid unicode",
                                          "Value with unterminated quote",
                                          "Maximum line size of ",
                                          "The CSV Parser state machine"};
    struct lh_str number;
    *fault = (struct fault){0};
    if (!skip(&message, "CSV Error on Line: ") || !take(&message, "\n", &number) ||
        !lh_str_to_u64(number, &fault->record))
        return false;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        const char *at = find(message, reasons[i]);
        if (at != NULL && (fault->reason.ptr == NULL || at < fault->reason.ptr))
            fault->reason = from(message, at);
    }
    if (fault->reason.ptr == NULL)
        return false;
    message.len = (size_t)(fault->reason.ptr - message.ptr);
    if (skip(&message, "Original Line: ") && take(&message, "\n", &fault->text))
        return true;
    fault->text = LH_STR("");
    return true;
}

static enum lh_status tell_not_utf8(const struct lh_ingest *ingest, uint64_t line,
                                    struct lh_str text, struct lh_error *error)
{
    struct lh_text_place place;
    uint64_t at = ingest->compression == LH_INGEST_PLAIN
                      ? lh_text_find_not_utf8(ingest->source->path)
                      : LH_TEXT_NOWHERE;
    if (at != LH_TEXT_NOWHERE && lh_text_place_of(ingest->source->path, at, &place))
        return lh_error_set(error, LH_INVALID_DATA,
                            "line %" PRIu64 ", byte %" PRIu64 ": not UTF-8: \"%.60s\"", place.line,
                            place.byte, place.text);
    return lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ": not UTF-8: \"%.*s\"", line,
                        shown(text, 60), text.ptr);
}

/* What DuckDB gives no place for, or that of the value's beginning. False: it is not found. */
static bool tell_not_csv(const struct lh_ingest *ingest, struct lh_error *error)
{
    struct lh_text_place place;
    const char *what;
    uint64_t at = LH_TEXT_NOWHERE;
    if (ingest->compression == LH_INGEST_PLAIN)
        at = lh_text_find_not_csv(ingest->source->path, ingest->delim, ingest->quote, &what);
    if (at == LH_TEXT_NOWHERE || !lh_text_place_of(ingest->source->path, at, &place))
        return false;
    lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ", byte %" PRIu64 ": %s: \"%.60s\"",
                 place.line, place.byte, what, place.text);
    return true;
}

struct quotes {
    struct lh__ingest_taker taker; /* comes first */
    struct lh_text_quotes quotes;
};

static enum lh_status take_text(struct lh__ingest_taker *taker, struct lh_str text,
                                struct lh_error *error)
{
    struct quotes *quotes = (struct quotes *)taker;
    if (!taker->is_enough)
        taker->is_enough = !lh_text_quotes_add(&quotes->quotes, text);
    (void)error;
    return LH_OK;
}

enum lh_status lh__ingest_find_open_quote(const struct lh_ingest *ingest, char delim, char quote,
                                          bool *is_open, struct lh_text_place *place,
                                          struct lh_error *error)
{
    struct quotes quotes = {.taker.take = take_text};
    lh_text_quotes_begin(&quotes.quotes, delim, quote);
    enum lh_status status = lh__ingest_read_text(ingest, &quotes.taker, error);
    *is_open =
        status == LH_OK && !quotes.taker.is_enough && lh_text_quotes_end(&quotes.quotes, place);
    return status;
}

enum lh_status lh__ingest_tell_open_quote(const struct lh_text_place *place, struct lh_error *error)
{
    return lh_error_set(error, LH_INVALID_DATA,
                        "line %" PRIu64 ", byte %" PRIu64 ": a quote that is not closed: \"%.60s\"",
                        place->line, place->byte, place->text);
}

enum lh_status lh__ingest_tell_long_line(const struct lh_text_place *place, struct lh_error *error)
{
    return lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ": longer than %u bytes: \"%.40s\"",
                        place->line, LH_INGEST_LINE_BYTES_MAX, place->text);
}

static enum lh_status tell_fault(const struct lh_ingest *ingest, const struct fault *fault,
                                 struct lh_error *error)
{
    struct lh_str rest = fault->reason, column, value, type, wanted, found;
    struct lh_text_place place;
    struct lh_str line = fault->text;
    uint64_t number = fault->record;
    if (lh_str_has_prefix(rest, LH_STR("Invalid unicode")))
        return tell_not_utf8(ingest, number, line, error);
    if (ingest->compression == LH_INGEST_PLAIN)
        number = lh_text_line_of_record(ingest->source->path, number, ingest->quote);
    if (lh_str_has_prefix(rest, LH_STR("Maximum line size of ")))
        return lh_error_set(error, LH_INVALID_DATA,
                            "line %" PRIu64 ": longer than %u bytes: \"%.*s\"", number,
                            LH_INGEST_LINE_BYTES_MAX, shown(line, 40), line.ptr);
    if (skip(&rest, "converting column \"") &&
        take(&rest, "\". Could not convert string \"", &column) && take(&rest, "\" to '", &value) &&
        take(&rest, "'", &type))
        return lh_error_set(error, LH_INVALID_DATA,
                            "line %" PRIu64 ", column \"%.*s\": \"%.*s\" is not of type %.*s",
                            number, shown(column, 30), column.ptr, shown(value, 40), value.ptr,
                            shown(type, 24), type.ptr);
    rest = fault->reason;
    if (skip(&rest, "Expected Number of Columns: ") && take(&rest, " Found: ", &wanted) &&
        take(&rest, "\n", &found))
        return lh_error_set(
            error, LH_INVALID_DATA,
            "line %" PRIu64 ", column %.*s: the line has %.*s columns, not %.*s: \"%.*s\"", number,
            LH_STR_FMT(found), LH_STR_FMT(found), LH_STR_FMT(wanted), shown(line, 50), line.ptr);
    if (tell_not_csv(ingest, error))
        return LH_INVALID_DATA;
    bool is_open = lh_str_has_prefix(fault->reason, LH_STR("Value with unterminated quote"));
    bool is_found = false;
    if (is_open && lh__ingest_find_open_quote(ingest, ingest->delim, ingest->quote, &is_found,
                                              &place, error) != LH_OK)
        return error->status;
    if (is_found)
        return lh__ingest_tell_open_quote(&place, error);
    return lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ": %s: \"%.*s\"", number,
                        is_open ? "a quote that is not closed" : "not CSV of this dialect",
                        shown(line, 60), line.ptr);
}

/* "...: Malformed JSON in file "/spool/17", at byte 7 in line 3: ..." without the file. DuckDB
 * counts lines that are not blank, and malformed ones from 2. */
static enum lh_status tell_json(const struct lh_ingest *ingest, struct lh_str message,
                                struct lh_error *error)
{
    struct lh_str number, reason = message;
    struct lh_text_place place;
    uint64_t line;
    bool is_malformed = find(message, "Malformed JSON") != NULL;
    if (!skip(&reason, "in line ") || !take(&reason, ": ", &number) ||
        !lh_str_to_u64(number, &line))
        return lh_error_set(error, LH_INVALID_DATA, "not JSON: %.*s", shown(message, 130),
                            message.ptr);
    line -= is_malformed && line > 1;
    const char *end = memchr(reason.ptr, '\n', reason.len);
    if (end != NULL)
        reason.len = (size_t)(end - reason.ptr);
    reason = lh_str_trim(reason);
    if (ingest->compression == LH_INGEST_PLAIN &&
        lh_text_place_of_object(ingest->source->path, line, &place))
        return lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ": %s%.*s: \"%.50s\"",
                            place.line, is_malformed ? "not JSON: " : "", shown(reason, 70),
                            reason.ptr, place.text);
    return lh_error_set(error, LH_INVALID_DATA, "line %" PRIu64 ": %s%.*s", line,
                        is_malformed ? "not JSON: " : "", shown(reason, 110), reason.ptr);
}

static bool is_full(struct lh_str message)
{
    return find(message, "No space left") != NULL || find(message, "Could not write") != NULL ||
           find(message, "max_temp_directory_size") != NULL;
}

static enum lh_status tell(const struct lh_ingest *ingest, struct lh_str kind,
                           struct lh_str message, struct lh_error *error)
{
    struct fault fault;
    if (lh_str_eq_nocase(kind, LH_STR("Interrupt")))
        return lh_error_set(error, LH_CLOSED, "interrupted");
    if (is_full(message))
        return lh_error_set(error, LH_NO_SPACE, "no space left for the conversion");
    if (lh_str_eq(kind, LH_STR("Out of Memory")))
        return lh_error_set(error, LH_OUT_OF_MEMORY,
                            "the file needs more memory than ingestd.memory_limit allows");
    if (lh_str_has_prefix(message, LH_STR("The CSV Parser state machine")))
        return tell_not_csv(ingest, error)
                   ? LH_INVALID_DATA
                   : lh_error_set(error, LH_INVALID_DATA,
                                  "a line is not CSV of this dialect: say delim, quote and escape");
    if (read_fault(message, &fault))
        return tell_fault(ingest, &fault, error);
    if (find(message, "rror when sniffing") != NULL)
        return tell_not_csv(ingest, error)
                   ? LH_INVALID_DATA
                   : lh_error_set(
                         error, LH_INVALID_DATA,
                         "line 1: no dialect of CSV fits: say delim, quote, escape or header");
    if (ingest->format == LH_INGEST_JSON || ingest->format == LH_INGEST_NDJSON)
        return tell_json(ingest, message, error);
    const char *end = memchr(message.ptr, '\n', message.len);
    if (end != NULL)
        message.len = (size_t)(end - message.ptr);
    if (skip(&message, ingest->source->path)) /* where it lies here is nobody's business */
        while (message.len > 0 && strchr("'\" :", *message.ptr) != NULL)
            message = from(message, message.ptr + 1);
    if (ingest->format == LH_INGEST_PARQUET)
        return lh_error_set(error, LH_INVALID_DATA, "not Parquet: %.*s", shown(message, 130),
                            message.ptr);
    bool is_option = lh_str_eq(kind, LH_STR("Binder")) || lh_str_eq(kind, LH_STR("Catalog")) ||
                     lh_str_eq(kind, LH_STR("Parser"));
    return lh_error_set(error, is_option ? LH_INVALID_ARGUMENT : LH_INVALID_DATA, "%.*s",
                        shown(message, 150), message.ptr);
}

enum lh_status lh__ingest_error(const struct lh_ingest *ingest, const char *text,
                                struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_str kind = LH_STR(""), message = LH_STR("");
    if (text == NULL)
        return lh_error_set(error, LH_INVALID_DATA, "DuckDB gave no reason");
    if (lh_json_doc_create(lh_str_of(text), &doc, &root, error) != LH_OK)
        return tell(ingest, kind, lh_str_of(text), error);
    lh_json_get_str(root, "exception_type", &kind);
    lh_json_get_str(root, "exception_message", &message);
    enum lh_status status = tell(ingest, kind, message, error);
    lh_json_doc_destroy(doc);
    return status;
}
