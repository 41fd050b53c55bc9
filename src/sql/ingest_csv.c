/* How a CSV file is to be read. The ingest's thread.
 *
 * DuckDB's sniffer looks at the first 20,480 lines; what it finds is then said explicitly, so that
 * the rest of the file is read as that and nothing else. Some of its findings are not taken as they
 * are. Where the sample has no quotes it says that there are none, though they may come later: if
 * quotes do not change what it finds, they are allowed. It says so too where one quote is open to
 * the file's end, and would take all of them for text: then they are quotes, and that one is told.
 * And a file whose lines differ it reads as one column, by a delimiter that does not occur: then
 * the delimiter that the first line has is taken, so that the line that differs is told rather than
 * the file silently folded. Nor are lines passed over in silence because those behind them have
 * more columns. */
#include "sql/ingest_internal.h"

#include "base/limits.h"
#include <inttypes.h>
#include <stdlib.h>

#define FOLD_LINES 1000 /* of a file of one column, that are looked at for delimiters */

struct sniffed {
    struct lh_json_doc *doc;
    struct lh_json root;
    uint32_t columns;
};

/* What is asked of the sniffer beside the user's own options. */
struct asked {
    const char *delim; /* NULL: the user's, or any */
    const char *quote;
    bool is_tolerant; /* of lines that differ */
    bool skips_none;
};

static const char *or_else(const char *given, const char *fallback)
{
    return given != NULL ? given : fallback;
}

void lh__ingest_append_option(struct lh_buf *out, const char *name, struct lh_str value)
{
    lh_buf_printf(out, ", %s=", name);
    lh_sql_append_literal(out, value);
}

static void append_text(struct lh_buf *out, const char *name, const char *value)
{
    if (value != NULL)
        lh__ingest_append_option(out, name, lh_str_of(value));
}

void lh__ingest_append_compression(const struct lh_ingest *ingest, struct lh_buf *out)
{
    append_text(out, "compression",
                ingest->compression == LH_INGEST_GZIP   ? "gzip"
                : ingest->compression == LH_INGEST_ZSTD ? "zstd"
                                                        : "uncompressed");
}

static void append_sizes(struct lh_buf *out)
{
    lh_buf_printf(out, ", max_line_size=%u, buffer_size=%u", LH_INGEST_LINE_BYTES_MAX,
                  LH_INGEST_READ_BYTES);
}

/* ---- the user's types ---- */

static enum lh_status append_type(struct lh_buf *out, struct lh_json value, struct lh_error *error)
{
    struct lh_str type;
    if (!lh_json_as_str(value, &type) || type.len == 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "types: a type is a string, \"BIGINT\"");
    lh_sql_append_literal(out, type);
    return LH_OK;
}

/* A JSON object or array as DuckDB's struct or list. */
static enum lh_status append_types(struct lh_buf *out, const char *text, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root, value;
    struct lh_str name;
    const char *between = "";
    if (lh_json_doc_create(lh_str_of(text), &doc, &root, error) != LH_OK)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "types: not JSON, as {\"column\": \"TYPE\"} or [\"TYPE\"]");
    enum lh_status status = LH_OK;
    bool is_object = lh_json_is_object(root);
    if (!is_object && !lh_json_is_array(root))
        status = lh_error_set(error, LH_INVALID_ARGUMENT,
                              "types: an object {\"column\": \"TYPE\"} or an array [\"TYPE\"]");
    lh_buf_append_str(out, is_object ? LH_STR(", types={") : LH_STR(", types=["));
    struct lh_json_iter iter = is_object ? lh_json_members(root) : lh_json_elements(root);
    while (status == LH_OK &&
           (is_object ? lh_json_member(&iter, &name, &value) : lh_json_next(&iter, &value))) {
        lh_buf_append_str(out, lh_str_of(between));
        if (is_object) {
            lh_sql_append_literal(out, name);
            lh_buf_append_char(out, ':');
        }
        status = append_type(out, value, error);
        between = ", ";
    }
    lh_buf_append_char(out, is_object ? '}' : ']');
    lh_json_doc_destroy(doc);
    return status;
}

/* ---- sniffing ---- */

static enum lh_status append_asked(const struct lh_ingest *ingest, const struct asked *asked,
                                   struct lh_buf *out, struct lh_error *error)
{
    const struct lh_ingest_dialect *dialect = &ingest->source->dialect;
    lh_sql_append_literal(out, lh_str_of(ingest->source->path));
    lh__ingest_append_compression(ingest, out);
    append_sizes(out);
    append_text(out, "delim", or_else(dialect->delim, asked->delim));
    append_text(out, "quote", or_else(dialect->quote, asked->quote));
    append_text(out, "escape", or_else(dialect->escape, asked->quote));
    append_text(out, "nullstr", dialect->nullstr);
    if (dialect->header != LH_INGEST_HEADER_ANY)
        lh_buf_printf(out, ", header=%s",
                      dialect->header == LH_INGEST_HEADER_YES ? "true" : "false");
    if (asked->is_tolerant)
        lh_buf_append_str(out, LH_STR(", ignore_errors=true"));
    if (asked->skips_none)
        lh_buf_append_str(out, LH_STR(", skip=0"));
    return dialect->types != NULL ? append_types(out, dialect->types, error) : LH_OK;
}

static enum lh_status read_sniffed(struct lh_str text, struct sniffed *sniffed,
                                   struct lh_error *error)
{
    struct lh_json columns;
    if (lh_json_doc_create(text, &sniffed->doc, &sniffed->root, error) != LH_OK)
        return LH_INVALID_DATA;
    if (lh_json_get(sniffed->root, "Columns", &columns))
        sniffed->columns = lh_json_count(columns);
    if (sniffed->columns > 0 && sniffed->columns <= LH_INGEST_COLUMNS_MAX)
        return LH_OK;
    uint32_t count = sniffed->columns;
    lh_json_doc_destroy(sniffed->doc);
    sniffed->doc = NULL;
    return lh_error_set(error, LH_INVALID_DATA, "line 1: %u columns, the limit is %u", count,
                        LH_INGEST_COLUMNS_MAX);
}

static enum lh_status sniff(struct lh_ingest *ingest, const struct asked *asked,
                            struct sniffed *sniffed, struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    duckdb_result result;
    struct lh_str cell;
    *sniffed = (struct sniffed){0};
    lh_buf_append_str(&text, LH_STR("SELECT to_json(s)::VARCHAR FROM sniff_csv("));
    enum lh_status status = append_asked(ingest, asked, &text, error);
    lh_buf_append_str(&text, LH_STR(") s"));
    if (status == LH_OK)
        status = lh__ingest_query(ingest, &text, &result, error);
    lh_buf_deinit(&text);
    if (status != LH_OK)
        return status;
    struct lh__ingest_rows rows = {.result = &result};
    if (lh__ingest_next(&rows, &cell, 1))
        status = read_sniffed(cell, sniffed, error);
    else
        status = lh_error_set(error, LH_INVALID_DATA, "line 1: no dialect of CSV fits");
    return lh__ingest_close(&rows, status, error);
}

static void forget(struct sniffed *sniffed)
{
    if (sniffed->doc != NULL)
        lh_json_doc_destroy(sniffed->doc);
    sniffed->doc = NULL;
}

/* A finding; "(empty)" is how the sniffer says that there is none. */
static struct lh_str found(const struct sniffed *sniffed, const char *name)
{
    struct lh_str value = LH_STR("");
    lh_json_get_str(sniffed->root, name, &value);
    return lh_str_eq(value, LH_STR("(empty)")) ? LH_STR("") : value;
}

static bool is_same(const struct sniffed *a, const struct sniffed *b)
{
    struct lh_buf one = LH_BUF_EMPTY, other = LH_BUF_EMPTY;
    struct lh_json columns;
    if (lh_json_get(a->root, "Columns", &columns))
        lh_json_append(&one, columns);
    if (lh_json_get(b->root, "Columns", &columns))
        lh_json_append(&other, columns);
    bool is_equal = !lh_buf_failed(&one) && !lh_buf_failed(&other) &&
                    lh_str_eq(lh_buf_str(&one), lh_buf_str(&other));
    lh_buf_deinit(&one);
    lh_buf_deinit(&other);
    return is_equal;
}

static enum lh_status look_for_open_quote(struct lh_ingest *ingest, const struct sniffed *sniffed,
                                          struct lh_error *error)
{
    struct lh_str delim = found(sniffed, "Delimiter");
    if (delim.len == 0 || ingest->source->dialect.escape != NULL) /* it may stand before quotes */
        return LH_OK;
    return lh__ingest_find_open_quote(ingest, *delim.ptr, '"', &ingest->has_open_quote,
                                      &ingest->open_quote, error);
}

/* Quotes are allowed where the sample has none, unless that changes what the sample says. */
static enum lh_status allow_quotes(struct lh_ingest *ingest, struct asked *asked,
                                   struct sniffed *sniffed, struct lh_error *error)
{
    struct sniffed quoted;
    if (ingest->source->dialect.quote != NULL || found(sniffed, "Quote").len > 0)
        return LH_OK;
    asked->quote = "\"";
    enum lh_status status = sniff(ingest, asked, &quoted, error);
    if (status != LH_OK && status != LH_INVALID_DATA && status != LH_INVALID_ARGUMENT)
        return status; /* it is not the quotes' fault */
    if (status == LH_OK && is_same(sniffed, &quoted)) {
        forget(sniffed);
        *sniffed = quoted;
        return LH_OK;
    }
    forget(&quoted);
    asked->quote = NULL;
    return look_for_open_quote(ingest, sniffed, error);
}

/* ---- folding ---- */

/* Runs a SELECT of the first lines as they are. */
static enum lh_status select_lines(struct lh_ingest *ingest, unsigned limit, duckdb_result *result,
                                   struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    lh_buf_append_str(&text, LH_STR("SELECT line FROM read_csv("));
    lh_sql_append_literal(&text, lh_str_of(ingest->source->path));
    lh__ingest_append_compression(ingest, &text);
    append_sizes(&text);
    /* No text has this delimiter; a line that does is passed over. */
    lh_buf_printf(&text,
                  ", auto_detect=false, columns={'line': 'VARCHAR'}, delim='\x01', quote='', "
                  "escape='', header=false, ignore_errors=true, strict_mode=false) LIMIT %u",
                  limit);
    enum lh_status status = lh__ingest_query(ingest, &text, result, error);
    lh_buf_deinit(&text);
    return status;
}

enum lh_status lh__ingest_first_line(struct lh_ingest *ingest, struct lh_buf *line,
                                     struct lh_error *error)
{
    duckdb_result result;
    struct lh_str cell;
    enum lh_status status = select_lines(ingest, 1, &result, error);
    if (status != LH_OK)
        return status;
    struct lh__ingest_rows rows = {.result = &result};
    if (lh__ingest_next(&rows, &cell, 1) && cell.ptr != NULL)
        lh_buf_append_str(line, cell);
    return lh__ingest_close(&rows, LH_OK, error);
}

/* The delimiter that occurs most outside of double quotes; NULL: none does. */
static const char *delimiter_of(struct lh_str line)
{
    static const char *const delimiters[] = {",", ";", "\t", "|"};
    uint32_t counts[sizeof delimiters / sizeof *delimiters] = {0}, most = 0;
    const char *best = NULL;
    bool is_quoted = false;
    for (size_t i = 0; i < line.len; i++) {
        is_quoted ^= line.ptr[i] == '"';
        for (size_t j = 0; j < sizeof delimiters / sizeof *delimiters; j++)
            counts[j] += !is_quoted && line.ptr[i] == *delimiters[j];
    }
    for (size_t j = 0; j < sizeof delimiters / sizeof *delimiters; j++) {
        if (counts[j] > most)
            best = delimiters[j], most = counts[j];
    }
    return best;
}

/* The first of the first lines that holds a delimiter, from 1, and which; 0: none does. */
static enum lh_status find_delimiter(struct lh_ingest *ingest, uint64_t *line,
                                     const char **delimiter, struct lh_error *error)
{
    duckdb_result result;
    struct lh_str cell;
    *delimiter = NULL;
    *line = 0;
    enum lh_status status = select_lines(ingest, FOLD_LINES, &result, error);
    if (status != LH_OK)
        return status;
    struct lh__ingest_rows rows = {.result = &result};
    for (uint64_t i = 1; *delimiter == NULL && lh__ingest_next(&rows, &cell, 1); i++) {
        *delimiter = cell.ptr != NULL ? delimiter_of(cell) : NULL;
        *line = *delimiter != NULL ? i : 0;
    }
    return lh__ingest_close(&rows, LH_OK, error);
}

/* Of a file that was sniffed as one column. */
static enum lh_status unfold(struct lh_ingest *ingest, struct asked *asked, struct sniffed *sniffed,
                             struct lh_error *error)
{
    uint64_t line;
    const char *delimiter;
    enum lh_status status = find_delimiter(ingest, &line, &delimiter, error);
    if (status != LH_OK || delimiter == NULL)
        return status;
    forget(sniffed);
    asked->delim = delimiter;
    asked->is_tolerant = true;
    status = sniff(ingest, asked, sniffed, error);
    if (status != LH_OK || sniffed->columns > 1)
        return status;
    return lh_error_set(error, LH_INVALID_DATA,
                        "line %" PRIu64 ": holds \"%s\", and not every line does: say delim, or a "
                        "character that does not occur for one column",
                        line, *delimiter == '\t' ? "\\t" : delimiter);
}

/* Lines before the header that the sniffer would pass over: titles and comments may be, lines of
 * the table may not. */
static enum lh_status keep_lines(struct lh_ingest *ingest, struct asked *asked,
                                 struct sniffed *sniffed, struct lh_error *error)
{
    struct lh_str delimiter = found(sniffed, "Delimiter"), cell;
    duckdb_result result;
    uint64_t skipped = 0;
    bool has_row = false;
    lh_json_get_u64(sniffed->root, "SkipRows", &skipped);
    if (skipped == 0)
        return LH_OK;
    enum lh_status status = select_lines(ingest, (unsigned)skipped, &result, error);
    if (status != LH_OK)
        return status;
    struct lh__ingest_rows rows = {.result = &result};
    while (!has_row && lh__ingest_next(&rows, &cell, 1))
        has_row = cell.len > 0 && *cell.ptr != '#' &&
                  memmem(cell.ptr, cell.len, delimiter.ptr, delimiter.len) != NULL;
    status = lh__ingest_close(&rows, LH_OK, error);
    if (status != LH_OK || !has_row)
        return status;
    forget(sniffed);
    asked->skips_none = true;
    asked->is_tolerant = true;
    return sniff(ingest, asked, sniffed, error);
}

/* ---- reading ---- */

static void append_columns(const struct lh_ingest *ingest, const struct sniffed *sniffed,
                           struct lh_buf *out)
{
    struct lh_json columns, column;
    if (!lh_json_get(sniffed->root, "Columns", &columns))
        return;
    lh_buf_append_str(out, LH_STR(", columns={"));
    uint32_t i = 0;
    for (struct lh_json_iter iter = lh_json_elements(columns); lh_json_next(&iter, &column); i++) {
        struct lh_str name = LH_STR(""), type = LH_STR("VARCHAR");
        lh_json_get_str(column, "name", &name);
        lh_json_get_str(column, "type", &type);
        if (ingest->has_open_quote && name.len >= 2 && *name.ptr == '"' &&
            name.ptr[name.len - 1] == '"')
            name = (struct lh_str){name.ptr + 1, name.len - 2};
        if (i > 0)
            lh_buf_append_str(out, LH_STR(", "));
        lh_sql_append_literal(out, name);
        lh_buf_append_str(out, LH_STR(": "));
        lh_sql_append_literal(out, type);
    }
    lh_buf_append_char(out, '}');
}

/* ISO 8601 is read without being told, and faster. */
static void append_time_format(const struct sniffed *sniffed, const char *name, const char *option,
                               const char *iso, struct lh_buf *out)
{
    struct lh_str format = found(sniffed, name);
    if (format.len > 0 && !lh_str_eq(format, lh_str_of(iso)))
        lh__ingest_append_option(out, option, format);
}

static void append_found(struct lh_ingest *ingest, const struct sniffed *sniffed,
                         struct lh_buf *out)
{
    const struct lh_ingest_dialect *dialect = &ingest->source->dialect;
    struct lh_json header;
    uint64_t skipped = 0;
    bool has_header = false;
    struct lh_str quote = found(sniffed, "Quote"), escape = found(sniffed, "Escape");
    if (ingest->has_open_quote)
        quote = LH_STR("\"");
    if (escape.len == 0 && dialect->escape == NULL)
        escape = quote; /* doubled, RFC 4180; the sample had none */
    lh_json_get_u64(sniffed->root, "SkipRows", &skipped);
    if (lh_json_get(sniffed->root, "HasHeader", &header))
        lh_json_as_bool(header, &has_header);
    struct lh_str delim = found(sniffed, "Delimiter");
    ingest->delim = delim.len > 0 ? *delim.ptr : ',';
    ingest->quote = quote.len > 0 ? *quote.ptr : '\0';
    ingest->line_end = lh_str_eq(found(sniffed, "NewLineDelimiter"), LH_STR("\\r")) ? '\r' : '\n';
    lh__ingest_append_option(out, "delim", delim);
    lh__ingest_append_option(out, "quote", quote);
    lh__ingest_append_option(out, "escape", escape);
    lh__ingest_append_option(out, "comment", found(sniffed, "Comment"));
    lh_buf_printf(out, ", skip=%" PRIu64 ", header=%s", skipped, has_header ? "true" : "false");
    append_time_format(sniffed, "DateFormat", "dateformat", "%Y-%m-%d", out);
    append_time_format(sniffed, "TimestampFormat", "timestampformat", "%Y-%m-%d %H:%M:%S", out);
    if (dialect->nullstr != NULL) {
        lh_buf_append_str(out, LH_STR(", nullstr=['', "));
        lh_sql_append_literal(out, lh_str_of(dialect->nullstr));
        lh_buf_append_char(out, ']');
    }
}

enum lh_status lh__ingest_read_csv(struct lh_ingest *ingest, bool is_tolerant, struct lh_buf *out,
                                   struct lh_error *error)
{
    struct asked asked = {.is_tolerant = is_tolerant};
    struct sniffed sniffed;
    enum lh_status status = sniff(ingest, &asked, &sniffed, error);
    if (status == LH_INVALID_DATA && !is_tolerant) {
        /* A line that differs is told when the file is read, with its number. */
        asked.is_tolerant = true;
        status = sniff(ingest, &asked, &sniffed, error);
    }
    if (status == LH_OK && sniffed.columns == 1 && ingest->source->dialect.delim == NULL)
        status = unfold(ingest, &asked, &sniffed, error);
    if (status == LH_OK)
        status = keep_lines(ingest, &asked, &sniffed, error);
    if (status == LH_OK)
        status = allow_quotes(ingest, &asked, &sniffed, error);
    if (status == LH_OK) {
        lh_buf_append_str(out, LH_STR("read_csv("));
        lh_sql_append_literal(out, lh_str_of(ingest->source->path));
        lh__ingest_append_compression(ingest, out);
        append_sizes(out);
        lh_buf_append_str(out, LH_STR(", auto_detect=false"));
        append_found(ingest, &sniffed, out);
        append_columns(ingest, &sniffed, out);
        lh_buf_append_str(out, is_tolerant ? LH_STR(", store_rejects=true, rejects_limit=0)")
                                           : LH_STR(")"));
    }
    forget(&sniffed);
    return status;
}
