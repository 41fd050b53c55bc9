/* A user's statement as a Parquet file. The session's thread.
 *
 * What has passed the gate is one SELECT, and stands in brackets of its own here; the rest of the
 * statement, and so the file, is the server's. It asks for one row more than the file may have: a
 * function in its WHERE, which sees every row, in order, refuses that one and knows of it. DuckDB
 * writes it block by block, and between two of
 * its steps the file's length is looked at. */
#include "sql/sql_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define BEFORE "COPY (SELECT * FROM (SELECT * FROM ("

/* ---- no more rows than may be ---- */

static void sieve_rows(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
    struct lh_sql__sieve *sieve = duckdb_scalar_function_get_extra_info(info);
    uint64_t rows = duckdb_data_chunk_get_size(input);
    bool *is_in = duckdb_vector_get_data(output);
    for (uint64_t i = 0; i < rows; i++)
        is_in[i] = sieve->rows++ < sieve->rows_max;
}

static enum lh_status set_sieve(struct lh_sql_session *session, uint64_t rows_max,
                                struct lh_error *error)
{
    struct lh_sql__sieve *sieve = &session->sieve;
    sieve->rows_max = rows_max;
    sieve->rows = 0;
    if (sieve->name[0] != '\0')
        return LH_OK;
    duckdb_scalar_function function = duckdb_create_scalar_function();
    duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_BOOLEAN);
    /* Functions are the instance's: each session has its own. */
    snprintf(sieve->name, sizeof sieve->name, "sieve_rows_%p", (void *)session);
    duckdb_scalar_function_set_name(function, sieve->name);
    duckdb_scalar_function_set_return_type(function, type);
    duckdb_scalar_function_set_volatile(function);
    duckdb_scalar_function_set_extra_info(function, sieve, NULL);
    duckdb_scalar_function_set_function(function, sieve_rows);
    duckdb_state state = duckdb_register_scalar_function(session->connection, function);
    duckdb_destroy_logical_type(&type);
    duckdb_destroy_scalar_function(&function);
    if (state == DuckDBSuccess)
        return LH_OK;
    sieve->name[0] = '\0';
    return lh_error_set(error, LH_IO, "DuckDB does not take the function that counts rows");
}

/* ---- the statement ---- */

/* A statement may end in semicolons. */
static struct lh_str without_end(struct lh_str text)
{
    while (text.len > 0 &&
           (text.ptr[text.len - 1] == ';' || isspace((unsigned char)text.ptr[text.len - 1])))
        text.len--;
    return text;
}

static void append_statement(struct lh_buf *out, struct lh_str text,
                             const struct lh_sql__sieve *sieve, const char *path)
{
    lh_buf_append_str(out, LH_STR(BEFORE));
    lh_buf_append_str(out, without_end(text));
    /* On a line of its own: the statement may end in a comment. */
    lh_buf_printf(out, "\n) LIMIT %" PRIu64 ") WHERE %s()) TO ", sieve->rows_max + 1, sieve->name);
    lh_sql_append_literal(out, lh_str_of(path));
    lh_buf_append_str(out, LH_STR(" (FORMAT parquet, COMPRESSION zstd)"));
    lh_buf_append_char(out, '\0');
}

static enum lh_status step(struct lh_sql_session *session, duckdb_pending_result pending,
                           const char *path, uint64_t bytes_max, struct lh_error *error)
{
    struct stat info;
    while (!duckdb_pending_execution_is_finished(duckdb_pending_execute_task(pending))) {
        if (lh__sql_is_interrupted(session, error))
            return LH_CLOSED;
        if (stat(path, &info) == 0 && (uint64_t)info.st_size > bytes_max)
            return lh_error_set(error, LH_LIMIT_EXCEEDED,
                                "the answer is longer than %" PRIu64 " bytes", bytes_max);
    }
    return LH_OK;
}

static uint64_t count_of(duckdb_result *result)
{
    duckdb_data_chunk chunk = duckdb_fetch_chunk(*result);
    uint64_t count = 0;
    if (chunk != NULL && duckdb_data_chunk_get_size(chunk) == 1)
        count = *(uint64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
    duckdb_destroy_data_chunk(&chunk);
    return count;
}

static enum lh_status execute(struct lh_sql_session *session, duckdb_prepared_statement prepared,
                              const char *path, uint64_t bytes_max, uint64_t *rows,
                              struct lh_error *error)
{
    duckdb_pending_result pending;
    duckdb_result result;
    enum lh_status status;
    if (duckdb_pending_prepared(prepared, &pending) != DuckDBSuccess) {
        status = lh__sql_error(duckdb_pending_error(pending), NULL, error);
        duckdb_destroy_pending(&pending);
        return status;
    }
    status = step(session, pending, path, bytes_max, error);
    if (status == LH_OK) {
        if (duckdb_execute_pending(pending, &result) == DuckDBSuccess)
            *rows = count_of(&result);
        else
            status = lh__sql_error(duckdb_result_error(&result), NULL, error);
        duckdb_destroy_result(&result);
    }
    duckdb_destroy_pending(&pending);
    return status;
}

enum lh_status lh_sql_write_parquet(struct lh_sql_session *session, const struct lh_sql_gate *gate,
                                    struct lh_str text, const struct lh_json *params,
                                    const char *path, uint64_t rows_max, uint64_t bytes_max,
                                    struct lh_sql_written *written, struct lh_sql_fault *fault,
                                    struct lh_error *error)
{
    struct lh_buf statement = LH_BUF_EMPTY;
    duckdb_prepared_statement prepared = NULL;
    *written = (struct lh_sql_written){0};
    enum lh_status status = lh__sql_pass_gate(session, gate, text, fault, error);
    if (status == LH_OK)
        status = set_sieve(session, rows_max, error);
    if (status != LH_OK)
        return status;
    append_statement(&statement, text, &session->sieve, path);
    if (lh_buf_failed(&statement)) {
        lh_buf_deinit(&statement);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the statement");
    }
    if (duckdb_prepare(session->connection, statement.ptr, &prepared) != DuckDBSuccess) {
        status = lh__sql_error(duckdb_prepare_error(prepared), fault, error);
        if (fault->has_offset && fault->offset >= sizeof BEFORE - 1)
            fault->offset -= sizeof BEFORE - 1;
    }
    lh_buf_deinit(&statement);
    if (status == LH_OK)
        status = lh__sql_bind(prepared, NULL, params, error);
    if (status == LH_OK)
        status = execute(session, prepared, path, bytes_max, &written->rows, error);
    written->is_truncated = session->sieve.rows > rows_max;
    duckdb_destroy_prepare(&prepared);
    return status;
}
