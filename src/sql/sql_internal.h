/* Between the files that know DuckDB. */
#ifndef LH_SQL_SQL_INTERNAL_H
#define LH_SQL_SQL_INTERNAL_H

#include "base/metrics.h"
#include "sql/sql.h"
#include "sql/vectors.h"
#include <duckdb.h>
#include <pthread.h>

struct lh_sql {
    pthread_mutex_t opening;         /* sessions of several threads may be the first */
    duckdb_database database;        /* NULL: not open yet */
    pthread_mutex_t mutex;           /* of `sessions` */
    struct lh_sql_session *sessions; /* all that there are */
    char *folder;
    char *spill_folder;
    struct lh_sql_options options; /* with the two above */
};

/* A parameter. Where it is the query of vector functions and nothing else, its numbers stay here,
 * and DuckDB gets a list of one that stands for them: a list of a hundred values costs it more than
 * all the rest of a search. */
struct lh_sql__parameter {
    uint32_t uses;     /* places that name it */
    uint32_t as_query; /* those of them that are a vector function's query */
    double *numbers;   /* of this run; NULL: DuckDB has the value */
    uint32_t count;
};

#define LH_SQL__PARAMETERS 8u /* that are looked at; DuckDB has the others' values */

struct lh_sql__statement {
    struct lh_sql__statement *next;
    struct lh_buf text;   /* with a NUL at its end */
    struct lh_buf tables; /* that it names and does not define, each with a NUL behind it */
    struct lh_sql__parameter parameters[LH_SQL__PARAMETERS];
    duckdb_prepared_statement prepared;
};

/* What lets a session's rows into a Parquet file, and no more of them than may be. */
struct lh_sql__sieve {
    char name[40];     /* the SQL function that does; empty: not registered yet */
    uint64_t rows_max; /* of this file */
    uint64_t rows;     /* that came so far */
};

struct lh_sql_session {
    struct lh_sql *sql;
    struct lh_sql_session *next;
    duckdb_connection connection;
    uint64_t connection_id;              /* DuckDB's */
    struct lh_sql_vectors vectors;       /* zero: none */
    duckdb_prepared_statement serialize; /* the gate's: a statement's text to its syntax tree */
    struct lh_sql__statement *kept;      /* the one used last comes first */
    uint32_t kept_count;
    const struct lh_sql__statement *running; /* NULL: none, or one that is written as Parquet */
    struct lh_sql__sieve sieve;
    struct lh_counter interrupted; /* 1: until resumed; any thread sets it */
};

struct lh_sql__column {
    const char *name; /* the result's */
    char *type;       /* as SQL; owned */
    duckdb_logical_type logical;
    duckdb_vector vector; /* of the chunk */
};

struct lh_sql_query {
    struct lh_sql_session *session;
    struct lh_sql__statement *statement;
    duckdb_result result;
    bool has_result;
    bool has_failed;
    duckdb_data_chunk chunk;
    uint32_t column_count;
    struct lh_sql__column *columns;
};

/* What DuckDB's error (JSON, see instance.c) means, into `error` and, when not NULL, `fault`. */
enum lh_status lh__sql_error(const char *text, struct lh_sql_fault *fault, struct lh_error *error);

/* Looks at a user's statement. */
LH_MUST_USE enum lh_status lh__sql_pass_gate(struct lh_sql_session *session,
                                             const struct lh_sql_gate *gate, struct lh_str text,
                                             struct lh_sql_fault *fault, struct lh_error *error);

/* Runs statements to their end. */
LH_MUST_USE enum lh_status lh__sql_run(duckdb_connection connection, const char *text,
                                       struct lh_error *error);

/* What every statement sees beside DuckDB's own functions. */
LH_MUST_USE enum lh_status lh__sql_add_macros(duckdb_connection connection, struct lh_error *error);

/* Whether somebody wants the session's query to end; says so. */
bool lh__sql_is_interrupted(const struct lh_sql_session *session, struct lh_error *error);

/* Binds the elements of the JSON array `params`; to `parameters`, when not NULL, what may stay
 * there. */
LH_MUST_USE enum lh_status lh__sql_bind(duckdb_prepared_statement prepared,
                                        struct lh_sql__parameter *parameters,
                                        const struct lh_json *params, struct lh_error *error);

/* The parameter that a list's only number stands for. NULL: it is a number. */
const struct lh_sql__parameter *lh__sql_find_parameter(const struct lh_sql_session *session,
                                                       double number);

/* The name of a type in SQL. NULL: no memory. */
char *lh__sql_type_name(duckdb_logical_type type);

/* Appends a value as JSON. */
void lh__sql_append_value(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                          uint64_t row);

/* A statement on its way through the gate. */
struct lh_sql__passing {
    const struct lh_sql_gate *gate; /* the caller's */
    struct lh_sql__statement *statement;
};

/* Not prepared yet. NULL: no memory. */
struct lh_sql__statement *lh__sql_statement_create(struct lh_str text);
void lh__sql_statement_destroy(struct lh_sql__statement *statement);
/* One of this text that was kept, and is not any more; NULL: none. */
struct lh_sql__statement *lh__sql_statement_take(struct lh_sql_session *session,
                                                 struct lh_str text);
/* Instead of destroying it. */
void lh__sql_statement_keep(struct lh_sql_session *session, struct lh_sql__statement *statement);
void lh__sql_statements_drop(struct lh_sql_session *session);
/* For a gate, both; `arg` is a struct lh_sql__passing. */
bool lh__sql_statement_note_table(struct lh_str name, void *arg);
void lh__sql_statement_note_parameter(struct lh_str name, bool is_query, void *arg);
/* Whether every table that it names is still there. */
bool lh__sql_statement_has_tables(const struct lh_sql__statement *statement,
                                  const struct lh_sql_gate *gate);

#endif
