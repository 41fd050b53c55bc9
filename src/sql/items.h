/* Rows as items of an index: what a query of columns id, vector and, if there is one, metadata
 * answers, as lines of NDJSON. */
#ifndef LH_SQL_ITEMS_H
#define LH_SQL_ITEMS_H

#include "sql/sql.h"

struct lh_sql_item_columns {
    uint32_t id;
    uint32_t vector;
    uint32_t metadata;
    bool has_metadata;
};

/* Finds the columns by their names. LH_INVALID_ARGUMENT, with the one that is missing, is there
 * twice or is of a type that it cannot be. */
LH_MUST_USE enum lh_status lh_sql_find_item_columns(const struct lh_sql_query *query,
                                                    struct lh_sql_item_columns *columns,
                                                    struct lh_error *error);

/* Appends row `row` of those that were fetched last: {"id":...,"vector":...,"metadata":...} and a
 * newline. Metadata that is NULL is left out. LH_INVALID_ARGUMENT: an id or vector is NULL. */
LH_MUST_USE enum lh_status lh_sql_append_item(struct lh_sql_query *query,
                                              const struct lh_sql_item_columns *columns,
                                              uint64_t row, struct lh_buf *out,
                                              struct lh_error *error);

#endif
