/* The gate before every statement of a user: what of SQL is let through.
 *
 * DuckDB's own `json_serialize_sql` gives a statement's syntax tree as JSON, before anything is
 * bound or run; this is where it is looked at. The instance is locked besides (files, settings,
 * extensions), which is not enough: some table functions change it all the same, and some scalars
 * take any memory. So everything in the tree must be known here, and what is not is refused. */
#ifndef LH_SQL_GATE_H
#define LH_SQL_GATE_H

#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

struct lh_sql_gate {
    /* Whether a statement may read this table: a dataset, or a version of one ("people@2"). Called
     * once for each place where the statement names one that is none of its own (WITH). */
    bool (*is_table)(struct lh_str name, void *arg);
    /* NULL, or called for each place where the statement names a parameter ("1" for $1); before
     * that with `is_query` where all that a vector function is given as its query is the parameter.
     */
    void (*note_parameter)(struct lh_str name, bool is_query, void *arg);
    void *arg;
};

/* What was wrong, where it stands. */
struct lh_sql_fault {
    bool has_offset;
    uint64_t offset; /* bytes from the statement's start */
};

/* Looks at the answer of json_serialize_sql for one statement. LH_INVALID_SQL: it is none;
 * LH_SQL_NOT_ALLOWED; LH_DATASET_NOT_FOUND; LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_sql_gate_check(const struct lh_sql_gate *gate, struct lh_str tree,
                                             struct lh_sql_fault *fault, struct lh_error *error);

#endif
