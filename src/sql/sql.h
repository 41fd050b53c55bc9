/* SQL over DuckDB's C API, for whoever runs statements: the server's other parts see no type of it.
 *
 * An instance is one locked in-memory database: its statements read the files of one folder,
 * through views that the server makes, and nothing else. A session is a connection, and belongs to
 * one thread, which blocks in it; a session runs one query at a time. Without DuckDB (see
 * CMakeLists.txt) every call that can fail returns LH_NOT_IMPLEMENTED and says how to get it. */
#ifndef LH_SQL_SQL_H
#define LH_SQL_SQL_H

#include "base/buf.h"
#include "ext/json_read.h"
#include "sql/gate.h"

struct lh_sql;
struct lh_sql_session;
struct lh_sql_query;

struct lh_sql_options {
    const char *folder;       /* whose files may be read; absolute, with a slash at its end */
    const char *spill_folder; /* where what does not fit into memory goes; absolute */
    uint64_t memory_bytes;    /* of all queries together; what functions work in is beside it, and
                                 one session with that takes up to twice as much, or
                                 LH_SQL_SESSION_BYTES_MIN */
    uint64_t spill_bytes;
    bool reads_once; /* no file is read again: what was read of one is not kept in memory */
    bool is_fixed;   /* a file never changes under its name: what was read of one is believed */
};

/* The library's version, "1.5.5"; NULL in a build without it. */
const char *lh_sql_version(void);

/* DuckDB itself opens with the first session: that takes about 20 ms and 30 MB. LH_OUT_OF_MEMORY.
 */
LH_MUST_USE enum lh_status lh_sql_open(const struct lh_sql_options *options, struct lh_sql **sql,
                                       struct lh_error *error);
/* After its sessions. */
void lh_sql_close(struct lh_sql *sql);

LH_MUST_USE enum lh_status
lh_sql_session_create(struct lh_sql *sql, struct lh_sql_session **session, struct lh_error *error);
void lh_sql_session_destroy(struct lh_sql_session *session);

/* Runs statements of the server's own, such as CREATE VIEW, to their end; no gate. */
LH_MUST_USE enum lh_status lh_sql_execute(struct lh_sql_session *session, const char *text,
                                          struct lh_error *error);

/* Appends `name` as an identifier, and `text` as a string literal. */
void lh_sql_append_identifier(struct lh_buf *out, struct lh_str name);
void lh_sql_append_literal(struct lh_buf *out, struct lh_str text);

/* ---- queries ---- */

/* Checks a user's statement at the gate, prepares it, binds `params` (a JSON array of null,
 * booleans, numbers, strings and lists of these; NULL: there are none) and starts it.
 * LH_INVALID_SQL, LH_SQL_NOT_ALLOWED, LH_DATASET_NOT_FOUND, LH_INVALID_ARGUMENT for a parameter,
 * LH_OUT_OF_MEMORY, LH_CLOSED when it was interrupted. `fault` says where in the statement. */
LH_MUST_USE enum lh_status lh_sql_start(struct lh_sql_session *session,
                                        const struct lh_sql_gate *gate, struct lh_str text,
                                        const struct lh_json *params, struct lh_sql_query **query,
                                        struct lh_sql_fault *fault, struct lh_error *error);

struct lh_sql_written {
    uint64_t rows;
    bool is_truncated; /* the statement has more */
};

/* A user's statement as above, whose first `rows_max` rows become a Parquet file at `path`, which
 * is in the instance's folder and is made anew. LH_LIMIT_EXCEEDED: it would be longer than
 * `bytes_max`; a file that is left is of no use then. */
LH_MUST_USE enum lh_status lh_sql_write_parquet(struct lh_sql_session *session,
                                                const struct lh_sql_gate *gate, struct lh_str text,
                                                const struct lh_json *params, const char *path,
                                                uint64_t rows_max, uint64_t bytes_max,
                                                struct lh_sql_written *written,
                                                struct lh_sql_fault *fault, struct lh_error *error);

/* The next rows, up to 2,048 of them; 0 at the end. Statuses as above. */
LH_MUST_USE enum lh_status lh_sql_fetch(struct lh_sql_query *query, uint64_t *rows,
                                        struct lh_error *error);

/* Any thread, while the session lives: what it runs ends with LH_CLOSED within a few milliseconds,
 * longer only where one function takes longer for 2,048 rows. Lasts until lh_sql_resume; one that
 * comes in the moment when a query starts may be noticed only when it is repeated. */
void lh_sql_interrupt(struct lh_sql_session *session);
void lh_sql_resume(struct lh_sql_session *session); /* the session's thread, between queries */

bool lh_sql_is_interrupted(const struct lh_sql_session *session);

/* The session's thread, between queries: what the last one has freed goes back to the system, and
 * the next one may take as much as it. */
void lh_sql_rest(struct lh_sql_session *session);

void lh_sql_finish(struct lh_sql_query *query);

/* ---- what a query answers ---- */

uint32_t lh_sql_column_count(const struct lh_sql_query *query);
/* In SQL, "DECIMAL(10,2)". */
const char *lh_sql_column_type(const struct lh_sql_query *query, uint32_t column);

/* Append row `row` of those that were fetched last.
 *
 * JSON has what it can hold without loss: integers and decimals beyond 2^53 are strings, as are NaN
 * and the infinities; dates and times are ISO 8601, time zones as UTC; a BLOB is base64; an
 * INTERVAL is ISO 8601 ("P1Y2M3DT4H"); lists and structs are arrays and objects, a MAP is an array
 * of [key, value] pairs. */
void lh_sql_append_row_array(struct lh_sql_query *query, uint64_t row, struct lh_buf *out);
void lh_sql_append_row_object(struct lh_sql_query *query, uint64_t row, struct lh_buf *out);
/* RFC 4180, CRLF at its end; NULL is empty, "" an empty string; nested values as JSON. */
void lh_sql_append_row_csv(struct lh_sql_query *query, uint64_t row, struct lh_buf *out);
void lh_sql_append_header_csv(const struct lh_sql_query *query, struct lh_buf *out);
/* [{"name":"a","type":"BIGINT"},...] */
void lh_sql_append_columns(const struct lh_sql_query *query, struct lh_buf *out);

#endif
