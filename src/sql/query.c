/* One statement of a user: through the gate, prepared, bound, run, and its rows fetched chunk by
 * chunk. The session's thread; lh_sql_interrupt alone may be called from any.
 *
 * The first chunk is fetched by the caller before anything is answered, so most errors come early
 * enough for a status; an error in a later chunk shows only in the result behind the last one. */
#include "sql/sql_internal.h"

#include <assert.h>
#include <stdlib.h>

/* ---- the gate ---- */

static enum lh_status check_tree(const struct lh_sql_gate *gate, duckdb_result *result,
                                 struct lh_sql_fault *fault, struct lh_error *error)
{
    duckdb_data_chunk chunk = duckdb_fetch_chunk(*result);
    if (chunk == NULL || duckdb_data_chunk_get_size(chunk) != 1) {
        duckdb_destroy_data_chunk(&chunk);
        return lh__sql_error(duckdb_result_error(result), fault, error);
    }
    duckdb_string_t *text = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
    struct lh_str tree = {duckdb_string_t_data(text), duckdb_string_t_length(*text)};
    enum lh_status status = lh_sql_gate_check(gate, tree, fault, error);
    duckdb_destroy_data_chunk(&chunk);
    return status;
}

enum lh_status lh__sql_pass_gate(struct lh_sql_session *session, const struct lh_sql_gate *gate,
                                 struct lh_str text, struct lh_sql_fault *fault,
                                 struct lh_error *error)
{
    duckdb_result result;
    enum lh_status status = LH_OUT_OF_MEMORY;
    *fault = (struct lh_sql_fault){0};
    if (text.len > LH_SQL_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "sql: longer than %u bytes",
                            LH_SQL_BYTES_MAX);
    const char *nul = text.len > 0 ? memchr(text.ptr, '\0', text.len) : NULL;
    if (nul != NULL) {
        *fault = (struct lh_sql_fault){true, (uint64_t)(nul - text.ptr)};
        return lh_error_set(error, LH_INVALID_SQL, "a NUL character");
    }
    if (!lh_str_is_utf8(text))
        return lh_error_set(error, LH_INVALID_SQL, "not UTF-8");
    if (duckdb_bind_varchar_length(session->serialize, 1, text.ptr, text.len) != DuckDBSuccess)
        return lh_error_set(error, status, "not enough memory for the statement");
    if (duckdb_execute_prepared(session->serialize, &result) == DuckDBSuccess)
        status = check_tree(gate, &result, fault, error);
    else
        status = lh__sql_error(duckdb_result_error(&result), fault, error);
    duckdb_destroy_result(&result);
    return status;
}

/* ---- running ---- */

/* Through the gate, and prepared. */
static enum lh_status prepare(struct lh_sql_query *query, const struct lh_sql_gate *gate,
                              struct lh_str text, struct lh_sql_fault *fault,
                              struct lh_error *error)
{
    struct lh_sql__statement *statement = query->statement = lh__sql_statement_create(text);
    if (statement == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the statement");
    struct lh_sql__passing passing = {gate, statement};
    const struct lh_sql_gate noting = {.is_table = lh__sql_statement_note_table,
                                       .note_parameter = lh__sql_statement_note_parameter,
                                       .arg = &passing};
    enum lh_status status = lh__sql_pass_gate(query->session, &noting, text, fault, error);
    if (status != LH_OK)
        return status;
    if (duckdb_prepare(query->session->connection, statement->text.ptr, &statement->prepared) ==
        DuckDBSuccess)
        return LH_OK;
    return lh__sql_error(duckdb_prepare_error(statement->prepared), fault, error);
}

/* The statement as it was kept, or anew. */
static enum lh_status find_or_prepare(struct lh_sql_query *query, const struct lh_sql_gate *gate,
                                      struct lh_str text, struct lh_sql_fault *fault,
                                      struct lh_error *error)
{
    query->statement = lh__sql_statement_take(query->session, text);
    if (query->statement != NULL && lh__sql_statement_has_tables(query->statement, gate))
        return LH_OK;
    if (query->statement != NULL)
        lh__sql_statement_destroy(query->statement);
    return prepare(query, gate, text, fault, error);
}

static enum lh_status execute(struct lh_sql_query *query, struct lh_sql_fault *fault,
                              struct lh_error *error)
{
    duckdb_pending_result pending;
    enum lh_status status = LH_OK;
    if (duckdb_pending_prepared_streaming(query->statement->prepared, &pending) != DuckDBSuccess) {
        status = lh__sql_error(duckdb_pending_error(pending), fault, error);
    } else {
        query->has_result = true; /* holds the reason when this fails */
        if (duckdb_execute_pending(pending, &query->result) != DuckDBSuccess)
            status = lh__sql_error(duckdb_result_error(&query->result), fault, error);
    }
    duckdb_destroy_pending(&pending);
    return status;
}

static enum lh_status describe(struct lh_sql_query *query, struct lh_error *error)
{
    uint32_t count = (uint32_t)duckdb_column_count(&query->result);
    query->columns = calloc(count > 0 ? count : 1, sizeof *query->columns);
    if (query->columns == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for %u columns", count);
    query->column_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct lh_sql__column *column = &query->columns[i];
        column->name = duckdb_column_name(&query->result, i);
        column->logical = duckdb_column_logical_type(&query->result, i);
        column->type = lh__sql_type_name(column->logical);
        if (column->type == NULL)
            return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for %u columns", count);
    }
    return LH_OK;
}

enum lh_status lh_sql_start(struct lh_sql_session *session, const struct lh_sql_gate *gate,
                            struct lh_str text, const struct lh_json *params,
                            struct lh_sql_query **query, struct lh_sql_fault *fault,
                            struct lh_error *error)
{
    struct lh_sql_query *made = calloc(1, sizeof *made);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a query");
    made->session = session;
    *fault = (struct lh_sql_fault){0};
    enum lh_status status = find_or_prepare(made, gate, text, fault, error);
    if (status == LH_OK)
        status =
            lh__sql_bind(made->statement->prepared, made->statement->parameters, params, error);
    session->running = made->statement;
    if (status == LH_OK && lh__sql_is_interrupted(session, error))
        status = LH_CLOSED;
    if (status == LH_OK)
        status = execute(made, fault, error);
    if (status == LH_OK)
        status = describe(made, error);
    made->has_failed = status != LH_OK;
    if (status == LH_OK)
        *query = made;
    else
        lh_sql_finish(made);
    return status;
}

enum lh_status lh_sql_fetch(struct lh_sql_query *query, uint64_t *rows, struct lh_error *error)
{
    *rows = 0;
    do {
        duckdb_destroy_data_chunk(&query->chunk);
        if (lh__sql_is_interrupted(query->session, error))
            return LH_CLOSED;
        query->chunk = duckdb_fetch_chunk(query->result);
    } while (query->chunk != NULL && duckdb_data_chunk_get_size(query->chunk) == 0);
    if (query->chunk == NULL) {
        const char *reason = duckdb_result_error(&query->result);
        query->has_failed = reason != NULL && *reason != '\0';
        return query->has_failed ? lh__sql_error(reason, NULL, error) : LH_OK;
    }
    for (uint32_t i = 0; i < query->column_count; i++)
        query->columns[i].vector = duckdb_data_chunk_get_vector(query->chunk, i);
    *rows = duckdb_data_chunk_get_size(query->chunk);
    return LH_OK;
}

/* DuckDB forgets an interrupt that comes when nothing runs: hence the mark. */
void lh_sql_interrupt(struct lh_sql_session *session)
{
    lh_counter_set(&session->interrupted, 1);
    duckdb_interrupt(session->connection);
}

void lh_sql_resume(struct lh_sql_session *session)
{
    lh_counter_set(&session->interrupted, 0);
}

bool lh_sql_is_interrupted(const struct lh_sql_session *session)
{
    return lh_counter_get(&session->interrupted) != 0;
}

bool lh__sql_is_interrupted(const struct lh_sql_session *session, struct lh_error *error)
{
    if (lh_counter_get(&session->interrupted) == 0)
        return false;
    lh_error_set(error, LH_CLOSED, "interrupted");
    return true;
}

void lh_sql_finish(struct lh_sql_query *query)
{
    duckdb_destroy_data_chunk(&query->chunk);
    for (uint32_t i = 0; i < query->column_count; i++) {
        if (query->columns[i].logical != NULL)
            duckdb_destroy_logical_type(&query->columns[i].logical);
        free(query->columns[i].type);
    }
    free(query->columns);
    query->session->running = NULL;
    if (query->has_result)
        duckdb_destroy_result(&query->result);
    if (query->statement != NULL && query->has_failed)
        lh__sql_statement_destroy(query->statement);
    else if (query->statement != NULL)
        lh__sql_statement_keep(query->session, query->statement);
    free(query);
}

uint32_t lh_sql_column_count(const struct lh_sql_query *query)
{
    return query->column_count;
}

const char *lh_sql_column_type(const struct lh_sql_query *query, uint32_t column)
{
    assert(column < query->column_count);
    return query->columns[column].type;
}
