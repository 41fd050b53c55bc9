/* Aligned columns. Main thread. */
#include "table.h"

#include <assert.h>
#include <stdio.h>

/* Characters of UTF-8 text: the bytes that begin one. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void lh_table_add(struct lh_table *table, struct lh_str text)
{
    char escaped[LH_JSON_ESCAPE_MAX];
    size_t in_len, out_len;
    for (; text.len > 0; text.ptr += in_len, text.len -= in_len) {
        unsigned char c = (unsigned char)text.ptr[0];
        if (c >= 0x20 && c < 0x7f) {
            in_len = 1;
            lh_buf_append_char(&table->cells, (char)c);
        } else if (c == 0x7f) {
            in_len = 1;
            lh_buf_append_str(&table->cells, LH_STR("\\u007f"));
        } else {
            lh_json_escape(text, escaped, &in_len, &out_len);
            lh_buf_append(&table->cells, escaped, out_len);
        }
    }
    lh_buf_append_char(&table->cells, '\0');
}

void lh_table_add_json(struct lh_table *table, struct lh_json value)
{
    struct lh_str text;
    struct lh_buf json = LH_BUF_EMPTY;
    if (!lh_json_as_str(value, &text)) {
        lh_json_append(&json, value);
        text = lh_buf_str(&json);
    }
    lh_table_add(table, text);
    lh_buf_deinit(&json);
}

void lh_table_print(struct lh_table *table)
{
    size_t widths[LH_TABLE_COLUMNS_MAX] = {0};
    assert(table->columns <= LH_TABLE_COLUMNS_MAX);
    if (lh_buf_failed(&table->cells)) {
        fputs("lakehouse: not enough memory to print the answer\n", stderr);
        lh_buf_deinit(&table->cells);
        return;
    }
    const char *end = table->cells.ptr + table->cells.len;
    size_t column = 0;
    for (const char *at = table->cells.ptr; at < end; at += strlen(at) + 1) {
        size_t width = width_of(at);
        if (width > widths[column])
            widths[column] = width;
        column = (column + 1) % table->columns;
    }
    for (const char *at = table->cells.ptr; at < end; at += strlen(at) + 1) {
        bool is_last = column + 1 == table->columns;
        /* No spaces before an empty last cell. */
        bool is_padded = !is_last && (column + 2 < table->columns || at[strlen(at) + 1] != '\0');
        fputs(at, stdout);
        for (size_t i = width_of(at); is_padded && i < widths[column] + 2; i++)
            putchar(' ');
        if (is_last)
            putchar('\n');
        column = (column + 1) % table->columns;
    }
    lh_buf_deinit(&table->cells);
}

void lh_print_raw(const struct lh_buf *body)
{
    fwrite(body->ptr, 1, body->len, stdout);
    if (body->len > 0)
        putchar('\n');
}
