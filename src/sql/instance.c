/* Instances and sessions: mutex DuckDB and closing it to the world. The thread that calls.
 *
 * One process, no threads of DuckDB's own (threads=1), no extension that is not in the library, no
 * file but those of one folder, and a configuration that is locked before the first statement of a
 * user. The gate (gate.c) stops what is possible all the same. */
#include "sql/arena.h"
#include "sql/vectors_internal.h"

#include "base/limits.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const char *lh_sql_version(void)
{
    const char *version = duckdb_library_version();
    return *version == 'v' ? version + 1 : version;
}

/* ---- errors ---- */

static bool is_interrupt(struct lh_str kind)
{
    return lh_str_eq(kind, LH_STR("Interrupt")) || lh_str_eq(kind, LH_STR("INTERRUPT"));
}

static enum lh_status tell(struct lh_json root, struct lh_sql_fault *fault, struct lh_error *error)
{
    struct lh_str kind = LH_STR(""), message = LH_STR(""), position;
    uint64_t offset;
    lh_json_get_str(root, "exception_type", &kind);
    lh_json_get_str(root, "exception_message", &message);
    const char *end = message.len > 0 ? memchr(message.ptr, '\n', message.len) : NULL;
    if (end != NULL)
        message.len = (size_t)(end - message.ptr);
    if (fault != NULL && lh_json_get_str(root, "position", &position) &&
        lh_str_to_u64(position, &offset))
        *fault = (struct lh_sql_fault){.has_offset = true, .offset = offset};
    enum lh_status status = LH_INVALID_SQL;
    if (is_interrupt(kind))
        status = LH_CLOSED;
    else if (lh_str_eq(kind, LH_STR("Out of Memory")))
        status = LH_OUT_OF_MEMORY;
    else if (lh_str_eq(kind, LH_STR("IO")))
        status = LH_IO;
    return lh_error_set(error, status, "%.*s", (int)(message.len < 150 ? message.len : 150),
                        message.ptr);
}

enum lh_status lh__sql_error(const char *text, struct lh_sql_fault *fault, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    if (text == NULL)
        return lh_error_set(error, LH_INVALID_SQL, "DuckDB gave no reason");
    if (lh_json_doc_create(lh_str_of(text), &doc, &root, error) != LH_OK)
        return lh_error_set(error, LH_INVALID_SQL, "%.150s", text);
    enum lh_status status = tell(root, fault, error);
    lh_json_doc_destroy(doc);
    return status;
}

/* ---- the instance ---- */

static enum lh_status configure(duckdb_config config, const struct lh_sql_options *options,
                                struct lh_error *error)
{
    char memory[32], spill[32];
    snprintf(memory, sizeof memory, "%" PRIu64 "B", options->memory_bytes);
    snprintf(spill, sizeof spill, "%" PRIu64 "B", options->spill_bytes);
    const char *const settings[][2] = {
        {"threads", "1"}, /* a query runs on the thread that asks */
        {"memory_limit", memory},
        {"temp_directory", options->spill_folder},
        {"max_temp_directory_size", spill},
        {"enable_external_file_cache", options->reads_once ? "false" : "true"},
        {"validate_external_file_cache", options->is_fixed ? "NO_VALIDATION" : "VALIDATE_ALL"},
        {"autoinstall_known_extensions", "false"},
        {"autoload_known_extensions", "false"},
        {"allow_community_extensions", "false"},
        {"allow_unsigned_extensions", "false"},
        {"allow_persistent_secrets", "false"},
        {"errors_as_json", "true"}, /* with the position in the statement */
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (duckdb_set_config(config, settings[i][0], settings[i][1]) != DuckDBSuccess)
            return lh_error_set(error, LH_IO, "DuckDB %s does not know the setting %s",
                                lh_sql_version(), settings[i][0]);
    return LH_OK;
}

/* Each pipeline makes a set of what a profiler would measure, also while there is none: a tenth of
 * the work of a short statement. So a session measures nothing; that is set in the session, which
 * the lock lets through. Libraries before 1.5.3 know no such way: there it costs what it costs. */
static void let_measure_nothing(duckdb_connection connection)
{
    struct lh_error error;
    enum lh_status status =
        lh__sql_run(connection, "SET GLOBAL allowed_configs=['custom_profiling_settings']", &error);
    (void)status;
}

/* The first switches the profiler on, the second off again. */
static void measure_nothing(duckdb_connection connection)
{
    struct lh_error error;
    enum lh_status status = lh__sql_run(
        connection, "SET custom_profiling_settings='{}'; PRAGMA disable_profiling", &error);
    (void)status;
}

/* What can only be set once the instance is there, and last of all its lock. */
static enum lh_status lock(duckdb_connection connection, const struct lh_sql_options *options,
                           struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    /* DuckDB plans a statement over Parquet files anew each time that it runs, and reads their
     * footers for it. */
    if (options->is_fixed)
        lh_buf_append_str(&text, LH_STR("SET GLOBAL parquet_metadata_cache=true; "));
    lh_buf_append_str(&text, LH_STR("SET allowed_directories=["));
    lh_sql_append_literal(&text, lh_str_of(options->folder));
    lh_buf_append_str(&text, LH_STR("]; SET enable_external_access=false; "
                                    "SET lock_configuration=true;"));
    lh_buf_append_char(&text, '\0');
    enum lh_status status = lh_buf_failed(&text)
                                ? lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory")
                                : lh__sql_run(connection, text.ptr, error);
    lh_buf_deinit(&text);
    return status;
}

static enum lh_status open_database(struct lh_sql *sql, duckdb_config config,
                                    struct lh_error *error)
{
    duckdb_connection connection;
    char *reason = NULL;
    enum lh_status status;
    if (duckdb_open_ext(NULL, &sql->database, config, &reason) != DuckDBSuccess) {
        status = lh__sql_error(reason, NULL, error);
        duckdb_free(reason);
        sql->database = NULL;
        return status == LH_INVALID_SQL ? LH_IO : status;
    }
    if (duckdb_connect(sql->database, &connection) == DuckDBSuccess) {
        status = lh__sql_add_vectors(sql, connection, error);
        if (status == LH_OK)
            status = lh__sql_add_macros(connection, error);
        let_measure_nothing(connection);
        if (status == LH_OK)
            status = lock(connection, &sql->options, error);
        duckdb_disconnect(&connection);
    } else {
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "DuckDB gives no connection");
    }
    if (status != LH_OK)
        duckdb_close(&sql->database);
    return status;
}

/* Under the mutex. */
static enum lh_status open_once(struct lh_sql *sql, struct lh_error *error)
{
    duckdb_config config = NULL;
    if (sql->database != NULL)
        return LH_OK;
    if (duckdb_create_config(&config) != DuckDBSuccess)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for DuckDB");
    enum lh_status status = configure(config, &sql->options, error);
    if (status == LH_OK)
        status = open_database(sql, config, error);
    duckdb_destroy_config(&config);
    return status;
}

enum lh_status lh_sql_open(const struct lh_sql_options *options, struct lh_sql **sql,
                           struct lh_error *error)
{
    struct lh_sql *made = calloc(1, sizeof *made);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for DuckDB");
    pthread_mutex_init(&made->opening, NULL);
    pthread_mutex_init(&made->mutex, NULL);
    made->options = *options;
    made->options.folder = made->folder = strdup(options->folder);
    made->options.spill_folder = made->spill_folder = strdup(options->spill_folder);
    if (made->folder == NULL || made->spill_folder == NULL) {
        lh_sql_close(made);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for DuckDB");
    }
    *sql = made;
    return LH_OK;
}

void lh_sql_close(struct lh_sql *sql)
{
    if (sql->database != NULL)
        duckdb_close(&sql->database);
    pthread_mutex_destroy(&sql->opening);
    pthread_mutex_destroy(&sql->mutex);
    free(sql->folder);
    free(sql->spill_folder);
    free(sql);
}

/* ---- sessions ---- */

static void enter(struct lh_sql_session *session)
{
    struct lh_sql *sql = session->sql;
    duckdb_client_context context;
    duckdb_connection_get_client_context(session->connection, &context);
    session->connection_id = duckdb_client_context_get_connection_id(context);
    duckdb_destroy_client_context(&context);
    pthread_mutex_lock(&sql->mutex);
    session->next = sql->sessions;
    sql->sessions = session;
    pthread_mutex_unlock(&sql->mutex);
}

enum lh_status lh_sql_session_create(struct lh_sql *sql, struct lh_sql_session **session,
                                     struct lh_error *error)
{
    struct lh_sql_session *made = calloc(1, sizeof *made);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a session");
    made->sql = sql;
    lh_sql_rest(made);
    pthread_mutex_lock(&sql->opening);
    enum lh_status status = open_once(sql, error);
    pthread_mutex_unlock(&sql->opening);
    if (status == LH_OK && duckdb_connect(sql->database, &made->connection) != DuckDBSuccess)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "DuckDB gives no connection");
    if (status != LH_OK) {
        lh__sql_arena_end();
        free(made);
        return status;
    }
    if (duckdb_prepare(made->connection, "SELECT json_serialize_sql($1::VARCHAR)",
                       &made->serialize) != DuckDBSuccess) {
        status = lh__sql_error(duckdb_prepare_error(made->serialize), NULL, error);
        lh_sql_session_destroy(made);
        return status;
    }
    measure_nothing(made->connection);
    enter(made);
    *session = made;
    return LH_OK;
}

void lh_sql_rest(struct lh_sql_session *session)
{
    uint64_t bytes = session->sql->options.memory_bytes * 2;
    lh__sql_arena_begin(bytes > LH_SQL_SESSION_BYTES_MIN ? bytes : LH_SQL_SESSION_BYTES_MIN,
                        &session->interrupted);
}

void lh_sql_session_destroy(struct lh_sql_session *session)
{
    struct lh_sql_session **link = &session->sql->sessions;
    pthread_mutex_lock(&session->sql->mutex);
    while (*link != NULL && *link != session)
        link = &(*link)->next;
    if (*link != NULL) /* not where it failed to come about */
        *link = session->next;
    pthread_mutex_unlock(&session->sql->mutex);
    lh__sql_statements_drop(session);
    duckdb_destroy_prepare(&session->serialize);
    duckdb_disconnect(&session->connection);
    lh__sql_arena_end();
    free(session);
}

enum lh_status lh__sql_run(duckdb_connection connection, const char *text, struct lh_error *error)
{
    duckdb_result result;
    enum lh_status status = LH_OK;
    if (duckdb_query(connection, text, &result) != DuckDBSuccess)
        status = lh__sql_error(duckdb_result_error(&result), NULL, error);
    duckdb_destroy_result(&result);
    return status;
}

enum lh_status lh_sql_execute(struct lh_sql_session *session, const char *text,
                              struct lh_error *error)
{
    return lh__sql_run(session->connection, text, error);
}
