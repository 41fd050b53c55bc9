/* Answers for people: cells in aligned columns on stdout. */
#ifndef LH_CLI_TABLE_H
#define LH_CLI_TABLE_H

#include "base/buf.h"
#include "ext/json_read.h"

#define LH_TABLE_COLUMNS_MAX 16u

struct lh_table {
    size_t columns;      /* up to LH_TABLE_COLUMNS_MAX */
    struct lh_buf cells; /* each with a NUL behind it, row by row */
};

/* Control characters are shown as JSON escapes: an id cannot move the cursor. */
void lh_table_add(struct lh_table *table, struct lh_str text);

/* Strings without quotes, anything else as JSON. */
void lh_table_add_json(struct lh_table *table, struct lh_json value);

/* Prints and empties it. Columns are padded to their widest cell but for the last. */
void lh_table_print(struct lh_table *table);

/* An answer as it is, and a newline. */
void lh_print_raw(const struct lh_buf *body);

#endif
