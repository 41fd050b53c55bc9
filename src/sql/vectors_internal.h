/* Between the files of SQL's vector functions. */
#ifndef LH_SQL_VECTORS_INTERNAL_H
#define LH_SQL_VECTORS_INTERNAL_H

#include "sql/sql_internal.h"
#include "sql/vectors.h"

/* Registers the functions with the instance, before it is locked. */
LH_MUST_USE enum lh_status lh__sql_add_vectors(struct lh_sql *sql, duckdb_connection connection,
                                               struct lh_error *error);
LH_MUST_USE enum lh_status lh__sql_add_nearest(struct lh_sql *sql, duckdb_connection connection,
                                               struct lh_error *error);
LH_MUST_USE enum lh_status lh__sql_add_vector_scan(struct lh_sql *sql, duckdb_connection connection,
                                                   struct lh_error *error);
enum lh_status lh__sql_refused_function(const char *name, struct lh_error *error);

/* The session whose statement is bound in this context, if it has vectors; else NULL. Any thread.
 */
struct lh_sql_session *lh__sql_find_session(struct lh_sql *sql, duckdb_client_context context);

/* VARCHAR that holds JSON. Destroy it. */
duckdb_logical_type lh__sql_json_type(void);

/* Writes a string of the provider's into row `row`. */
void lh__sql_put_string(duckdb_vector vector, uint64_t row, struct lh_str text);

#endif
