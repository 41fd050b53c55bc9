/* What SQL's vector functions share: their session, their registration.
 *
 * Functions belong to the instance and statements to sessions: at bind, the connection's id leads
 * to the session, and so to its provider. */
#include "sql/vectors_internal.h"

void lh_sql_session_set_vectors(struct lh_sql_session *session,
                                const struct lh_sql_vectors *vectors)
{
    session->vectors = *vectors;
}

struct lh_sql_session *lh__sql_find_session(struct lh_sql *sql, duckdb_client_context context)
{
    uint64_t id = duckdb_client_context_get_connection_id(context);
    struct lh_sql_session *session;
    pthread_mutex_lock(&sql->mutex);
    for (session = sql->sessions; session != NULL; session = session->next)
        if (session->connection_id == id)
            break;
    pthread_mutex_unlock(&sql->mutex);
    return session != NULL && session->vectors.search != NULL ? session : NULL;
}

/* ---- results ---- */

duckdb_logical_type lh__sql_json_type(void)
{
    duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type_set_alias(type, "JSON");
    return type;
}

void lh__sql_put_string(duckdb_vector vector, uint64_t row, struct lh_str text)
{
    duckdb_vector_assign_string_element_len(vector, row, text.len > 0 ? text.ptr : "", text.len);
}

/* ---- registration ---- */

enum lh_status lh__sql_refused_function(const char *name, struct lh_error *error)
{
    return lh_error_set(error, LH_IO, "DuckDB %s does not take the function %s", lh_sql_version(),
                        name);
}

enum lh_status lh__sql_add_vectors(struct lh_sql *sql, duckdb_connection connection,
                                   struct lh_error *error)
{
    enum lh_status status = lh__sql_add_nearest(sql, connection, error);
    if (status == LH_OK)
        status = lh__sql_add_vector_scan(sql, connection, error);
    return status;
}
