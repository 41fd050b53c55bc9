/* The interface in a build without DuckDB (see CMakeLists.txt): every call says how to get it. */
#include "sql/ingest.h"
#include "sql/items.h"
#include "sql/sql.h"
#include "sql/vectors.h"

static enum lh_status absent(struct lh_error *error)
{
    return lh_error_set(error, LH_NOT_IMPLEMENTED,
                        "built without DuckDB: tools/setup fetches it with npm, then configure and "
                        "build again");
}

const char *lh_sql_version(void)
{
    return NULL;
}

enum lh_status lh_sql_open(const struct lh_sql_options *options, struct lh_sql **sql,
                           struct lh_error *error)
{
    return absent(error);
}

void lh_sql_close(struct lh_sql *sql)
{
}

enum lh_status lh_sql_session_create(struct lh_sql *sql, struct lh_sql_session **session,
                                     struct lh_error *error)
{
    return absent(error);
}

void lh_sql_session_destroy(struct lh_sql_session *session)
{
}

enum lh_status lh_sql_execute(struct lh_sql_session *session, const char *text,
                              struct lh_error *error)
{
    return absent(error);
}

enum lh_status lh_sql_start(struct lh_sql_session *session, const struct lh_sql_gate *gate,
                            struct lh_str text, const struct lh_json *params,
                            struct lh_sql_query **query, struct lh_sql_fault *fault,
                            struct lh_error *error)
{
    return absent(error);
}

enum lh_status lh_sql_fetch(struct lh_sql_query *query, uint64_t *rows, struct lh_error *error)
{
    return absent(error);
}

void lh_sql_interrupt(struct lh_sql_session *session)
{
}

void lh_sql_resume(struct lh_sql_session *session)
{
}

bool lh_sql_is_interrupted(const struct lh_sql_session *session)
{
    return false;
}

void lh_sql_rest(struct lh_sql_session *session)
{
}

void lh_sql_finish(struct lh_sql_query *query)
{
}

uint32_t lh_sql_column_count(const struct lh_sql_query *query)
{
    return 0;
}

const char *lh_sql_column_type(const struct lh_sql_query *query, uint32_t column)
{
    return "";
}

void lh_sql_append_row_array(struct lh_sql_query *query, uint64_t row, struct lh_buf *out)
{
}

void lh_sql_append_row_object(struct lh_sql_query *query, uint64_t row, struct lh_buf *out)
{
}

void lh_sql_append_row_csv(struct lh_sql_query *query, uint64_t row, struct lh_buf *out)
{
}

void lh_sql_append_header_csv(const struct lh_sql_query *query, struct lh_buf *out)
{
}

void lh_sql_append_columns(const struct lh_sql_query *query, struct lh_buf *out)
{
}

void lh_sql_session_set_vectors(struct lh_sql_session *session,
                                const struct lh_sql_vectors *vectors)
{
}

enum lh_status lh_sql_find_item_columns(const struct lh_sql_query *query,
                                        struct lh_sql_item_columns *columns, struct lh_error *error)
{
    return absent(error);
}

enum lh_status lh_ingest_create(struct lh_sql *sql, struct lh_ingest **ingest,
                                struct lh_error *error)
{
    return absent(error);
}

void lh_ingest_destroy(struct lh_ingest *ingest)
{
}

enum lh_status lh_ingest_run(struct lh_ingest *ingest, const struct lh_ingest_source *source,
                             const struct lh_ingest_target *target, struct lh_ingest_result *result,
                             struct lh_error *error)
{
    return absent(error);
}

void lh_ingest_result_deinit(struct lh_ingest_result *result)
{
}

uint64_t lh_ingest_rows(const struct lh_ingest *ingest)
{
    return 0;
}

void lh_ingest_interrupt(struct lh_ingest *ingest)
{
}

void lh_ingest_resume(struct lh_ingest *ingest)
{
}

void lh_ingest_rest(struct lh_ingest *ingest)
{
}

enum lh_status lh_sql_append_item(struct lh_sql_query *query,
                                  const struct lh_sql_item_columns *columns, uint64_t row,
                                  struct lh_buf *out, struct lh_error *error)
{
    return absent(error);
}

enum lh_status lh_sql_write_parquet(struct lh_sql_session *session, const struct lh_sql_gate *gate,
                                    struct lh_str text, const struct lh_json *params,
                                    const char *path, uint64_t rows_max, uint64_t bytes_max,
                                    struct lh_sql_written *written, struct lh_sql_fault *fault,
                                    struct lh_error *error)
{
    return absent(error);
}
