/* A file in, a Parquet file out. The ingest's thread.
 *
 * All of it is one COPY, which streams: memory is bounded by the instance's limit whatever the file
 * is. Rows are counted as they pass by a function in its WHERE, which is true of all of them.
 *
 * The same file gives the same bytes: one thread, insertion order, and nothing in Parquet's footer
 * but the library's version. So the hash of what comes out tells whether it was there before. */
#include "sql/ingest_internal.h"

#include "base/limits.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- statements ---- */

enum lh_status lh__ingest_query(struct lh_ingest *ingest, const struct lh_buf *text,
                                duckdb_result *result, struct lh_error *error)
{
    struct lh_buf ended = LH_BUF_EMPTY;
    enum lh_status status = LH_OK;
    lh_buf_append_str(&ended, lh_buf_str(text));
    lh_buf_append_char(&ended, '\0');
    if (lh_buf_failed(text) || lh_buf_failed(&ended))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a statement");
    else if (lh__sql_is_interrupted(ingest->session, error))
        status = LH_CLOSED;
    else if (duckdb_query(ingest->session->connection, ended.ptr, result) != DuckDBSuccess) {
        status = lh__ingest_error(ingest, duckdb_result_error(result), error);
        duckdb_destroy_result(result);
    }
    lh_buf_deinit(&ended);
    return status;
}

enum lh_status lh__ingest_execute(struct lh_ingest *ingest, const struct lh_buf *text,
                                  struct lh_error *error)
{
    duckdb_result result;
    enum lh_status status = lh__ingest_query(ingest, text, &result, error);
    if (status == LH_OK)
        duckdb_destroy_result(&result);
    return status;
}

bool lh__ingest_next(struct lh__ingest_rows *rows, struct lh_str *cells, uint32_t count)
{
    while (rows->chunk == NULL || rows->at == duckdb_data_chunk_get_size(rows->chunk)) {
        duckdb_destroy_data_chunk(&rows->chunk);
        rows->chunk = duckdb_fetch_chunk(*rows->result);
        rows->at = 0;
        rows->is_over = rows->chunk == NULL;
        if (rows->is_over)
            return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        duckdb_vector vector = duckdb_data_chunk_get_vector(rows->chunk, i);
        uint64_t *validity = duckdb_vector_get_validity(vector);
        duckdb_string_t *strings = duckdb_vector_get_data(vector);
        cells[i] = (struct lh_str){NULL, 0};
        if (validity == NULL || duckdb_validity_row_is_valid(validity, rows->at))
            cells[i] = (struct lh_str){duckdb_string_t_data(&strings[rows->at]),
                                       duckdb_string_t_length(strings[rows->at])};
    }
    rows->at++;
    rows->taken++;
    return true;
}

enum lh_status lh__ingest_close(struct lh__ingest_rows *rows, enum lh_status status,
                                struct lh_error *error)
{
    bool is_short = rows->is_over && rows->taken < duckdb_row_count(rows->result);
    duckdb_destroy_data_chunk(&rows->chunk);
    duckdb_destroy_result(rows->result);
    if (is_short) /* whatever was made of the rest */
        status = lh_error_set(error, LH_IO, "DuckDB does not give all of what it has found");
    return status;
}

/* ---- counting rows ---- */

static void count_rows(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
    struct lh_ingest *ingest = duckdb_scalar_function_get_extra_info(info);
    uint64_t rows = duckdb_data_chunk_get_size(input);
    bool *is_true = duckdb_vector_get_data(output);
    lh_counter_add(&ingest->rows, rows);
    memset(is_true, true, rows * sizeof *is_true);
}

static enum lh_status register_counter(struct lh_ingest *ingest, struct lh_error *error)
{
    duckdb_scalar_function function = duckdb_create_scalar_function();
    duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_BOOLEAN);
    /* Functions are the instance's: each ingest has its own. */
    snprintf(ingest->counter, sizeof ingest->counter, "count_rows_%p", (void *)ingest);
    duckdb_scalar_function_set_name(function, ingest->counter);
    duckdb_scalar_function_set_return_type(function, type);
    duckdb_scalar_function_set_volatile(function);
    duckdb_scalar_function_set_extra_info(function, ingest, NULL);
    duckdb_scalar_function_set_function(function, count_rows);
    duckdb_state state = duckdb_register_scalar_function(ingest->session->connection, function);
    duckdb_destroy_logical_type(&type);
    duckdb_destroy_scalar_function(&function);
    return state == DuckDBSuccess
               ? LH_OK
               : lh_error_set(error, LH_IO, "DuckDB does not take the function that counts rows");
}

uint64_t lh_ingest_rows(const struct lh_ingest *ingest)
{
    return lh_counter_get(&ingest->rows);
}

/* ---- making and ending ---- */

enum lh_status lh_ingest_create(struct lh_sql *sql, struct lh_ingest **ingest,
                                struct lh_error *error)
{
    struct lh_ingest *made = calloc(1, sizeof *made);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for ingest");
    enum lh_status status = lh_sql_session_create(sql, &made->session, error);
    if (status == LH_OK)
        status = register_counter(made, error);
    if (status == LH_OK)
        *ingest = made;
    else
        lh_ingest_destroy(made);
    return status;
}

void lh_ingest_destroy(struct lh_ingest *ingest)
{
    if (ingest->session != NULL)
        lh_sql_session_destroy(ingest->session);
    free(ingest);
}

void lh_ingest_interrupt(struct lh_ingest *ingest)
{
    lh_sql_interrupt(ingest->session);
}

void lh_ingest_resume(struct lh_ingest *ingest)
{
    lh_counter_set(&ingest->rows, 0);
    lh_sql_resume(ingest->session);
}

void lh_ingest_rest(struct lh_ingest *ingest)
{
    lh_sql_rest(ingest->session);
}

void lh_ingest_result_deinit(struct lh_ingest_result *result)
{
    lh_buf_deinit(&result->columns);
    lh_buf_deinit(&result->rejected_columns);
}

/* ---- what the file is ---- */

static enum lh_status look_at_magic(struct lh_ingest *ingest, struct lh_error *error)
{
    unsigned char magic[4] = {0};
    int file = open(ingest->source->path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file >= 0 ? pread(file, magic, sizeof magic, 0) : -1;
    if (file >= 0)
        close(file);
    if (got < 0)
        return lh_error_set(error, LH_IO, "the file cannot be read");
    if (got == 0)
        return lh_error_set(error, LH_INVALID_DATA, "line 1: the file is empty");
    if (ingest->compression == LH_INGEST_COMPRESSION_ANY)
        ingest->compression = memcmp(magic, "\x1f\x8b", 2) == 0           ? LH_INGEST_GZIP
                              : memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0 ? LH_INGEST_ZSTD
                                                                          : LH_INGEST_PLAIN;
    if (ingest->format == LH_INGEST_ANY && memcmp(magic, "PAR1", 4) == 0)
        ingest->format = LH_INGEST_PARQUET;
    if (ingest->format == LH_INGEST_PARQUET || ingest->compression != LH_INGEST_PLAIN)
        return LH_OK;
    if (memcmp(magic, "\xff\xfe", 2) == 0 || memcmp(magic, "\xfe\xff", 2) == 0)
        return lh_error_set(error, LH_INVALID_DATA,
                            "line 1, byte 1: a byte order mark of UTF-16, text has to be UTF-8");
    return LH_OK;
}

/* Of a text whose format nobody has said. */
static enum lh_status look_at_line(struct lh_ingest *ingest, struct lh_error *error)
{
    struct lh_buf line = LH_BUF_EMPTY;
    enum lh_status status = lh__ingest_first_line(ingest, &line, error);
    struct lh_str text = lh_str_trim(lh_buf_str(&line));
    if (lh_str_has_prefix(text, LH_STR("\xef\xbb\xbf")))
        text = (struct lh_str){text.ptr + 3, text.len - 3};
    bool is_json = text.len > 0 && (*text.ptr == '{' || *text.ptr == '[');
    ingest->format = is_json ? LH_INGEST_JSON : LH_INGEST_CSV;
    lh_buf_deinit(&line);
    return status;
}

static enum lh_status look_at_scan(const struct lh_ingest *ingest, struct lh_error *error)
{
    const struct lh_text_scan *scan = ingest->source->scan;
    struct lh_text_place place;
    if (scan == NULL || ingest->compression != LH_INGEST_PLAIN || ingest->format != LH_INGEST_CSV)
        return LH_OK;
    if (scan->nul_at != LH_TEXT_NOWHERE &&
        lh_text_place_of(ingest->source->path, scan->nul_at, &place))
        return lh_error_set(error, LH_INVALID_DATA,
                            "line %" PRIu64 ", byte %" PRIu64 ": a NUL byte: \"%s\"", place.line,
                            place.byte, place.text);
    if (scan->long_at != LH_TEXT_NOWHERE &&
        lh_text_place_of(ingest->source->path, scan->long_at, &place))
        return lh__ingest_tell_long_line(&place, error);
    return LH_OK;
}

/* What the footer says of the sizes of a Parquet file's column chunks before they were compressed.
 */
static enum lh_status look_at_footer(struct lh_ingest *ingest, struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    duckdb_result result;
    struct lh_str cell;
    uint64_t bytes = 0, bytes_max = ingest->source->text_bytes_max;
    if (bytes_max == 0)
        return LH_OK;
    lh_buf_append_str(&text, LH_STR("SELECT coalesce(sum(greatest(total_uncompressed_size, 0)), 0)"
                                    "::VARCHAR FROM parquet_metadata("));
    lh_sql_append_literal(&text, lh_str_of(ingest->source->path));
    lh_buf_append_char(&text, ')');
    enum lh_status status = lh__ingest_query(ingest, &text, &result, error);
    lh_buf_deinit(&text);
    if (status != LH_OK)
        return status;
    struct lh__ingest_rows rows = {.result = &result};
    if (lh__ingest_next(&rows, &cell, 1) && !lh_str_to_u64(cell, &bytes))
        bytes = UINT64_MAX; /* more than that */
    if (bytes > bytes_max)
        status = lh_error_set(error, LH_BODY_TOO_LARGE,
                              "the file holds more than %" PRIu64
                              " bytes (ingestd.max_decompressed_bytes)",
                              bytes_max);
    return lh__ingest_close(&rows, status, error);
}

static enum lh_status look(struct lh_ingest *ingest, struct lh_error *error)
{
    enum lh_status status = look_at_magic(ingest, error);
    if (status == LH_OK)
        status = ingest->format == LH_INGEST_PARQUET ? look_at_footer(ingest, error)
                                                     : lh__ingest_check_whole(ingest, error);
    if (status == LH_OK && ingest->format == LH_INGEST_ANY)
        status = look_at_line(ingest, error);
    return status == LH_OK ? look_at_scan(ingest, error) : status;
}

/* ---- the copy ---- */

static enum lh_status append_reader(struct lh_ingest *ingest, bool is_tolerant, struct lh_buf *out,
                                    struct lh_error *error)
{
    if (ingest->format == LH_INGEST_CSV)
        return lh__ingest_read_csv(ingest, is_tolerant, out, error);
    if (is_tolerant)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "on_error: lines of CSV can be put aside, not of other formats");
    bool is_parquet = ingest->format == LH_INGEST_PARQUET;
    lh_buf_append_str(out, is_parquet ? LH_STR("read_parquet(") : LH_STR("read_json("));
    lh_sql_append_literal(out, lh_str_of(ingest->source->path));
    if (!is_parquet) {
        lh__ingest_append_compression(ingest, out);
        lh__ingest_append_option(out, "format",
                                 ingest->format == LH_INGEST_NDJSON ? LH_STR("newline_delimited")
                                                                    : LH_STR("auto"));
        lh_buf_printf(out, ", maximum_object_size=%u", LH_INGEST_LINE_BYTES_MAX);
    }
    lh_buf_append_char(out, ')');
    return LH_OK;
}

static void append_target(struct lh_buf *out, const char *path)
{
    lh_buf_append_str(out, LH_STR(") TO "));
    lh_sql_append_literal(out, lh_str_of(path));
    lh_buf_append_str(out, LH_STR(" (FORMAT parquet, COMPRESSION zstd)"));
}

static enum lh_status copy(struct lh_ingest *ingest, const struct lh_ingest_target *target,
                           struct lh_ingest_result *result, struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    duckdb_result copied;
    lh_buf_append_str(&text, LH_STR("COPY (SELECT * FROM "));
    enum lh_status status = append_reader(ingest, target->rejected != NULL, &text, error);
    lh_buf_printf(&text, " WHERE %s()", ingest->counter);
    append_target(&text, target->parquet);
    if (status == LH_OK)
        status = lh__ingest_query(ingest, &text, &copied, error);
    lh_buf_deinit(&text);
    if (status != LH_OK)
        return status;
    result->rows = duckdb_rows_changed(&copied);
    duckdb_destroy_result(&copied);
    return LH_OK;
}

/* What the Parquet file says of its columns, which is what queries will see. */
static enum lh_status describe(struct lh_ingest *ingest, const char *path, struct lh_buf *columns,
                               struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    duckdb_result result;
    struct lh_str cells[2];
    lh_buf_append_str(&text, LH_STR("SELECT column_name, column_type FROM (DESCRIBE FROM "
                                    "read_parquet("));
    lh_sql_append_literal(&text, lh_str_of(path));
    lh_buf_append_str(&text, LH_STR("))"));
    enum lh_status status = lh__ingest_query(ingest, &text, &result, error);
    lh_buf_deinit(&text);
    if (status != LH_OK)
        return status;
    struct lh__ingest_rows rows = {.result = &result};
    lh_buf_append_char(columns, '[');
    while (lh__ingest_next(&rows, cells, 2)) {
        lh_buf_append_str(columns, columns->len > 1 ? LH_STR(",{\"name\":") : LH_STR("{\"name\":"));
        lh_buf_append_json_string(columns, cells[0]);
        lh_buf_append_str(columns, LH_STR(",\"type\":"));
        lh_buf_append_json_string(columns, cells[1]);
        lh_buf_append_char(columns, '}');
    }
    lh_buf_append_char(columns, ']');
    if (lh_buf_failed(columns))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    return lh__ingest_close(&rows, status, error);
}

/* The lines that DuckDB put aside, as a Parquet file of their own. */
static enum lh_status write_rejected(struct lh_ingest *ingest,
                                     const struct lh_ingest_target *target,
                                     struct lh_ingest_result *result, struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    enum lh_status status = lh__ingest_number_rejected(ingest, &result->rejected, error);
    if (status != LH_OK || result->rejected == 0)
        return status;
    lh_buf_append_str(&text, LH_STR("COPY ("));
    lh__ingest_append_rejected(&text);
    append_target(&text, target->rejected);
    status = lh__ingest_execute(ingest, &text, error);
    lh_buf_deinit(&text);
    return status == LH_OK ? describe(ingest, target->rejected, &result->rejected_columns, error)
                           : status;
}

/* ---- all of it ---- */

/* What the scan could not see: NUL bytes in text that was compressed. */
static enum lh_status look_for_nul(struct lh_ingest *ingest, const struct lh_ingest_target *target,
                                   const struct lh_ingest_result *result, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root, column;
    struct lh_buf text = LH_BUF_EMPTY;
    struct lh_str cells[2], name, type;
    duckdb_result found;
    bool has_any = false;
    if (ingest->format != LH_INGEST_CSV || ingest->compression == LH_INGEST_PLAIN)
        return LH_OK;
    if (lh_json_doc_create(lh_buf_str(&result->columns), &doc, &root, error) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the columns");
    for (struct lh_json_iter iter = lh_json_elements(root); lh_json_next(&iter, &column);) {
        if (!lh_json_get_str(column, "name", &name) || !lh_json_get_str(column, "type", &type) ||
            !lh_str_eq(type, LH_STR("VARCHAR")))
            continue;
        lh_buf_append_str(&text, has_any ? LH_STR(" UNION ALL SELECT ") : LH_STR("SELECT "));
        lh_sql_append_literal(&text, name);
        lh_buf_append_str(&text, LH_STR(", (file_row_number + 1)::VARCHAR FROM read_parquet("));
        lh_sql_append_literal(&text, lh_str_of(target->parquet));
        lh_buf_append_str(&text, LH_STR(", file_row_number=true) WHERE contains("));
        lh_sql_append_identifier(&text, name);
        lh_buf_append_str(&text, LH_STR(", chr(0))"));
        has_any = true;
    }
    lh_json_doc_destroy(doc);
    lh_buf_append_str(&text, LH_STR(" LIMIT 1"));
    enum lh_status status = has_any ? lh__ingest_query(ingest, &text, &found, error) : LH_OK;
    lh_buf_deinit(&text);
    if (status != LH_OK || !has_any)
        return status;
    struct lh__ingest_rows rows = {.result = &found};
    if (lh__ingest_next(&rows, cells, 2))
        status = lh_error_set(error, LH_INVALID_DATA, "row %.*s, column \"%.*s\": a NUL byte",
                              LH_STR_FMT(cells[1]), (int)(cells[0].len < 60 ? cells[0].len : 60),
                              cells[0].ptr);
    return lh__ingest_close(&rows, status, error);
}

enum lh_status lh_ingest_run(struct lh_ingest *ingest, const struct lh_ingest_source *source,
                             const struct lh_ingest_target *target, struct lh_ingest_result *result,
                             struct lh_error *error)
{
    struct lh_error ignored;
    *result = (struct lh_ingest_result){0};
    ingest->source = source;
    ingest->format = source->format;
    ingest->compression = source->compression;
    ingest->delim = '\0'; /* not found out yet */
    ingest->quote = source->dialect.quote != NULL ? *source->dialect.quote : '"';
    ingest->has_open_quote = false;
    lh_counter_set(&ingest->rows, 0);
    enum lh_status status = look(ingest, error);
    if (status == LH_OK)
        status = copy(ingest, target, result, error);
    if (status == LH_OK)
        status = describe(ingest, target->parquet, &result->columns, error);
    if (status == LH_OK)
        status = look_for_nul(ingest, target, result, error);
    if (status == LH_OK && target->rejected != NULL)
        status = write_rejected(ingest, target, result, error);
    /* An open quote in the header takes all rows with it, of which DuckDB says nothing. */
    if (status == LH_OK && ingest->has_open_quote && result->rejected == 0)
        status = lh__ingest_tell_open_quote(&ingest->open_quote, error);
    if (target->rejected != NULL)
        (void)!lh__ingest_drop_rejected(ingest, &ignored);
    ingest->source = NULL;
    return status;
}
