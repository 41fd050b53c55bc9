/* Names and texts inside a statement. Any thread; no DuckDB. */
#include "sql/sql.h"

static void append_quoted(struct lh_buf *out, struct lh_str text, char quote)
{
    lh_buf_append_char(out, quote);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == quote)
            lh_buf_append_char(out, quote);
        lh_buf_append_char(out, text.ptr[i]);
    }
    lh_buf_append_char(out, quote);
}

void lh_sql_append_identifier(struct lh_buf *out, struct lh_str name)
{
    append_quoted(out, name, '"');
}

void lh_sql_append_literal(struct lh_buf *out, struct lh_str text)
{
    append_quoted(out, text, '\'');
}
