/* Rows of a query into an index. */
#ifndef LH_ACTORS_QUERY_IMPORT_H
#define LH_ACTORS_QUERY_IMPORT_H

#include "actors/query_worker.h"

/* Adds every row of `sql` to the index that the worker's query names, and puts the answer into
 * `out`. An error names the row, and how many items were applied before it. */
LH_MUST_USE enum lh_status lh_query_import(struct lh_query_worker *worker, struct lh_sql_query *sql,
                                           struct lh_buf *out, struct lh_error *error);

#endif
