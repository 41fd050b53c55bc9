/* Rows as items. The session's thread.
 *
 * What an id, a vector and metadata may be is the vector service's to say, when it reads the lines;
 * here it only matters that a line is what the row says. */
#include "sql/items.h"

#include "ext/number.h"
#include "sql/sql_internal.h"
#include <string.h>

static bool find(const struct lh_sql_query *query, const char *name, uint32_t *column,
                 bool *is_twice)
{
    bool is_found = false;
    for (uint32_t i = 0; i < query->column_count; i++) {
        if (!lh_str_eq_nocase(lh_str_of(query->columns[i].name), lh_str_of(name)))
            continue;
        *is_twice |= is_found;
        is_found = true;
        *column = i;
    }
    return is_found;
}

static bool is_list(duckdb_logical_type type)
{
    duckdb_type kind = duckdb_get_type_id(type);
    return kind == DUCKDB_TYPE_LIST || kind == DUCKDB_TYPE_ARRAY;
}

enum lh_status lh_sql_find_item_columns(const struct lh_sql_query *query,
                                        struct lh_sql_item_columns *columns, struct lh_error *error)
{
    bool is_twice = false;
    *columns = (struct lh_sql_item_columns){0};
    bool is_whole = find(query, "id", &columns->id, &is_twice) &&
                    find(query, "vector", &columns->vector, &is_twice);
    columns->has_metadata = find(query, "metadata", &columns->metadata, &is_twice);
    if (!is_whole || is_twice || query->column_count != 2u + columns->has_metadata)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "sql: columns id, vector and, if wanted, metadata are needed, each "
                            "once, and no other");
    if (!is_list(query->columns[columns->vector].logical))
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "sql: column vector is of type %.60s, not a list of numbers",
                            query->columns[columns->vector].type);
    return LH_OK;
}

static bool is_null(const struct lh_sql_query *query, uint32_t column, uint64_t row)
{
    uint64_t *validity = duckdb_vector_get_validity(query->columns[column].vector);
    return validity != NULL && !duckdb_validity_row_is_valid(validity, row);
}

/* Any scalar is an id by its text. */
static void append_id(const struct lh_sql__column *column, uint64_t row, struct lh_buf *out)
{
    size_t at = out->len;
    lh__sql_append_value(out, column->vector, column->logical, row);
    if (out->failed || (out->len > at && out->ptr[at] == '"'))
        return;
    size_t len = out->len - at;
    lh_buf_append_str(out, LH_STR("  "));
    if (out->failed)
        return;
    memmove(out->ptr + at + 1, out->ptr + at, len);
    out->ptr[at] = '"';
    out->ptr[out->len - 1] = '"';
}

/* FLOAT[] and FLOAT[n] without NULL lie in memory as base64 wants them. False: another list. */
static bool append_floats(const struct lh_sql__column *column, uint64_t row, struct lh_buf *out)
{
    bool is_array = duckdb_get_type_id(column->logical) == DUCKDB_TYPE_ARRAY;
    duckdb_logical_type type = is_array ? duckdb_array_type_child_type(column->logical)
                                        : duckdb_list_type_child_type(column->logical);
    bool is_float = duckdb_get_type_id(type) == DUCKDB_TYPE_FLOAT;
    duckdb_destroy_logical_type(&type);
    duckdb_vector child = is_array ? duckdb_array_vector_get_child(column->vector)
                                   : duckdb_list_vector_get_child(column->vector);
    if (!is_float)
        return false;
    duckdb_list_entry entry;
    if (is_array) {
        uint64_t size = duckdb_array_type_array_size(column->logical);
        entry = (duckdb_list_entry){row * size, size};
    } else {
        entry = ((duckdb_list_entry *)duckdb_vector_get_data(column->vector))[row];
    }
    uint64_t *validity = duckdb_vector_get_validity(child);
    for (uint64_t i = 0; validity != NULL && i < entry.length; i++)
        if (!duckdb_validity_row_is_valid(validity, entry.offset + i))
            return false;
    const float *numbers = (const float *)duckdb_vector_get_data(child) + entry.offset;
    lh_buf_append_char(out, '"');
    lh_base64_append(out, numbers, entry.length * sizeof *numbers);
    lh_buf_append_char(out, '"');
    return true;
}

/* Text is JSON already; its line breaks can only be spaces between its parts. */
static void append_metadata(const struct lh_sql__column *column, uint64_t row, struct lh_buf *out)
{
    if (duckdb_get_type_id(column->logical) != DUCKDB_TYPE_VARCHAR) {
        lh__sql_append_value(out, column->vector, column->logical, row);
        return;
    }
    size_t at = out->len;
    duckdb_string_t *text = (duckdb_string_t *)duckdb_vector_get_data(column->vector) + row;
    lh_buf_append(out, duckdb_string_t_data(text), duckdb_string_t_length(*text));
    for (; at < out->len; at++)
        if (out->ptr[at] == '\n' || out->ptr[at] == '\r')
            out->ptr[at] = ' ';
}

enum lh_status lh_sql_append_item(struct lh_sql_query *query,
                                  const struct lh_sql_item_columns *columns, uint64_t row,
                                  struct lh_buf *out, struct lh_error *error)
{
    const struct lh_sql__column *vector = &query->columns[columns->vector];
    if (is_null(query, columns->id, row) || is_null(query, columns->vector, row))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s is NULL",
                            is_null(query, columns->id, row) ? "id" : "vector");
    lh_buf_append_str(out, LH_STR("{\"id\":"));
    append_id(&query->columns[columns->id], row, out);
    lh_buf_append_str(out, LH_STR(",\"vector\":"));
    if (!append_floats(vector, row, out))
        lh__sql_append_value(out, vector->vector, vector->logical, row);
    if (columns->has_metadata && !is_null(query, columns->metadata, row)) {
        lh_buf_append_str(out, LH_STR(",\"metadata\":"));
        append_metadata(&query->columns[columns->metadata], row, out);
    }
    lh_buf_append_str(out, LH_STR("}\n"));
    return lh_buf_failed(out) ? lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory") : LH_OK;
}
