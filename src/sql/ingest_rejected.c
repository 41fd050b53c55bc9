/* Lines of CSV that were put aside: which lines of the file they are. The ingest's thread.
 *
 * DuckDB counts records, and a value in quotes may hold line ends. But it also says at which byte
 * of the text a record begins. So the text is read once more, with these bytes in order, and its
 * lines are counted; what comes of it goes into a table, as there may be any number of them.
 *
 * Where lines end in CR LF, the byte and the text that DuckDB gives are off by one: from the LF
 * before the record. */
#include "sql/ingest_internal.h"

#include <inttypes.h>

#define BYTE "(line_byte_position::BIGINT + starts_with(csv_line, chr(10))::BIGINT)" /* from 1 */

struct numbering {
    struct lh__ingest_taker taker; /* comes first */
    struct lh__ingest_rows rows;   /* BYTE, ascending */
    duckdb_appender appender;
    char line_end;
    uint64_t byte;  /* the next record's; 0: there is none */
    uint64_t count; /* of records so far */
    uint64_t bytes; /* of the text so far */
    uint64_t lines; /* that have ended in it */
};

static enum lh_status next_record(struct numbering *numbering, struct lh_error *error)
{
    struct lh_str cell;
    numbering->byte = 0;
    if (lh__ingest_next(&numbering->rows, &cell, 1) &&
        (!lh_str_to_u64(cell, &numbering->byte) || numbering->byte == 0))
        return lh_error_set(error, LH_IO, "DuckDB has no place for a line that it rejected");
    numbering->taker.is_enough = numbering->byte == 0;
    return LH_OK;
}

static enum lh_status append_record(struct numbering *numbering, struct lh_error *error)
{
    duckdb_appender appender = numbering->appender;
    if (duckdb_append_int64(appender, (int64_t)numbering->byte) != DuckDBSuccess ||
        duckdb_append_int64(appender, (int64_t)numbering->lines + 1) != DuckDBSuccess ||
        duckdb_appender_end_row(appender) != DuckDBSuccess)
        return lh__sql_error(duckdb_appender_error(appender), NULL, error);
    numbering->count++;
    return LH_OK;
}

static void count_lines(struct numbering *numbering, struct lh_str text)
{
    const char *at = text.ptr, *end = text.ptr + text.len;
    while (at < end && (at = memchr(at, numbering->line_end, (size_t)(end - at))) != NULL) {
        numbering->lines++;
        at++;
    }
    numbering->bytes += text.len;
}

static enum lh_status take(struct lh__ingest_taker *taker, struct lh_str text,
                           struct lh_error *error)
{
    struct numbering *numbering = (struct numbering *)taker;
    while (numbering->byte > 0 && numbering->byte <= numbering->bytes + text.len) {
        size_t before = (size_t)(numbering->byte - 1 - numbering->bytes);
        count_lines(numbering, (struct lh_str){text.ptr, before});
        text = (struct lh_str){text.ptr + before, text.len - before};
        enum lh_status status = append_record(numbering, error);
        if (status == LH_OK)
            status = next_record(numbering, error);
        if (status != LH_OK)
            return status;
    }
    count_lines(numbering, text);
    return LH_OK;
}

static enum lh_status number_into(struct lh_ingest *ingest, struct numbering *numbering,
                                  struct lh_error *error)
{
    enum lh_status status = LH_OK;
    if (duckdb_appender_create_ext(ingest->session->connection, "temp", NULL, "reject_lines",
                                   &numbering->appender) != DuckDBSuccess)
        status = lh__sql_error(duckdb_appender_error(numbering->appender), NULL, error);
    if (status == LH_OK)
        status = next_record(numbering, error);
    if (status == LH_OK && numbering->byte > 0)
        status = lh__ingest_read_text(ingest, &numbering->taker, error);
    if (status == LH_OK && numbering->byte > 0)
        status = lh_error_set(
            error, LH_IO, "DuckDB rejected a line at byte %" PRIu64 ", and the text has %" PRIu64,
            numbering->byte, numbering->bytes);
    if (status == LH_OK && duckdb_appender_close(numbering->appender) != DuckDBSuccess)
        status = lh__sql_error(duckdb_appender_error(numbering->appender), NULL, error);
    duckdb_appender_destroy(&numbering->appender);
    return status;
}

enum lh_status lh__ingest_number_rejected(struct lh_ingest *ingest, uint64_t *count,
                                          struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    struct numbering numbering = {.taker.take = take, .line_end = ingest->line_end};
    duckdb_result result;
    *count = 0;
    enum lh_status status = lh_sql_execute(
        ingest->session, "CREATE OR REPLACE TEMP TABLE reject_lines (byte BIGINT, line BIGINT)",
        error);
    if (status != LH_OK)
        return status;
    lh_buf_append_str(&text, LH_STR("SELECT b::VARCHAR FROM (SELECT DISTINCT " BYTE
                                    " AS b FROM reject_errors) ORDER BY b"));
    status = lh__ingest_query(ingest, &text, &result, error);
    lh_buf_deinit(&text);
    if (status != LH_OK)
        return status;
    numbering.rows.result = &result;
    status = number_into(ingest, &numbering, error);
    *count = numbering.count;
    return lh__ingest_close(&numbering.rows, status, error);
}

void lh__ingest_append_rejected(struct lh_buf *out)
{
    lh_buf_append_str(out,
                      LH_STR("SELECT l.line, byte - 1 AS byte_offset, "
                             "column_name AS \"column\", error_message AS error, "
                             "ltrim(csv_line, chr(10)) AS text FROM reject_errors e "
                             "JOIN reject_lines l ON l.byte = " BYTE " ORDER BY byte, column_idx"));
}

enum lh_status lh__ingest_drop_rejected(struct lh_ingest *ingest, struct lh_error *error)
{
    return lh_sql_execute(ingest->session,
                          "DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans; "
                          "DROP TABLE IF EXISTS reject_lines",
                          error);
}
