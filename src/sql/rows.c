/* Rows as JSON arrays, JSON objects and CSV, and the names of types. The session's thread. */
#include "sql/sql_internal.h"

#include <stdlib.h>
#include <string.h>

void lh_sql_append_row_array(struct lh_sql_query *query, uint64_t row, struct lh_buf *out)
{
    lh_buf_append_char(out, '[');
    for (uint32_t i = 0; i < query->column_count; i++) {
        if (i > 0)
            lh_buf_append_char(out, ',');
        lh__sql_append_value(out, query->columns[i].vector, query->columns[i].logical, row);
    }
    lh_buf_append_char(out, ']');
}

void lh_sql_append_row_object(struct lh_sql_query *query, uint64_t row, struct lh_buf *out)
{
    lh_buf_append_char(out, '{');
    for (uint32_t i = 0; i < query->column_count; i++) {
        if (i > 0)
            lh_buf_append_char(out, ',');
        lh_buf_append_json_string(out, lh_str_of(query->columns[i].name));
        lh_buf_append_char(out, ':');
        lh__sql_append_value(out, query->columns[i].vector, query->columns[i].logical, row);
    }
    lh_buf_append_char(out, '}');
}

/* ---- CSV ---- */

static void append_field(struct lh_buf *out, struct lh_str text)
{
    bool is_quoted = text.len == 0; /* nothing at all is NULL */
    for (size_t i = 0; i < text.len && !is_quoted; i++)
        is_quoted = strchr(",\"\r\n", text.ptr[i]) != NULL;
    if (is_quoted)
        lh_sql_append_identifier(out, text); /* the same quoting: "" for " */
    else
        lh_buf_append_str(out, text);
}

/* A field of CSV from JSON: a string's text, or the JSON itself. */
static void append_json_field(struct lh_buf *out, struct lh_str json)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_str text;
    if (lh_str_eq(json, LH_STR("null")))
        return;
    if (json.ptr[0] != '"') {
        append_field(out, json);
        return;
    }
    if (lh_json_doc_create(json, &doc, &root, NULL) != LH_OK) {
        out->failed = true;
        return;
    }
    if (lh_json_as_str(root, &text))
        append_field(out, text);
    lh_json_doc_destroy(doc);
}

static bool is_text(duckdb_logical_type type)
{
    return duckdb_get_type_id(type) == DUCKDB_TYPE_VARCHAR;
}

void lh_sql_append_row_csv(struct lh_sql_query *query, uint64_t row, struct lh_buf *out)
{
    struct lh_buf json = LH_BUF_EMPTY;
    for (uint32_t i = 0; i < query->column_count; i++) {
        const struct lh_sql__column *column = &query->columns[i];
        uint64_t *validity = duckdb_vector_get_validity(column->vector);
        if (i > 0)
            lh_buf_append_char(out, ',');
        if (validity != NULL && !duckdb_validity_row_is_valid(validity, row))
            continue;
        if (is_text(column->logical)) {
            duckdb_string_t text = ((duckdb_string_t *)duckdb_vector_get_data(column->vector))[row];
            append_field(
                out, (struct lh_str){duckdb_string_t_data(&text), duckdb_string_t_length(text)});
            continue;
        }
        json.len = 0;
        lh__sql_append_value(&json, column->vector, column->logical, row);
        if (lh_buf_failed(&json))
            out->failed = true;
        else
            append_json_field(out, lh_buf_str(&json));
    }
    lh_buf_append(out, "\r\n", 2);
    lh_buf_deinit(&json);
}

void lh_sql_append_header_csv(const struct lh_sql_query *query, struct lh_buf *out)
{
    for (uint32_t i = 0; i < query->column_count; i++) {
        if (i > 0)
            lh_buf_append_char(out, ',');
        append_field(out, lh_str_of(query->columns[i].name));
    }
    lh_buf_append(out, "\r\n", 2);
}

void lh_sql_append_columns(const struct lh_sql_query *query, struct lh_buf *out)
{
    lh_buf_append_char(out, '[');
    for (uint32_t i = 0; i < query->column_count; i++) {
        lh_buf_append_str(out, i > 0 ? LH_STR(",{\"name\":") : LH_STR("{\"name\":"));
        lh_buf_append_json_string(out, lh_str_of(query->columns[i].name));
        lh_buf_append_str(out, LH_STR(",\"type\":"));
        lh_buf_append_json_string(out, lh_str_of(lh_sql_column_type(query, i)));
        lh_buf_append_char(out, '}');
    }
    lh_buf_append_char(out, ']');
}

/* ---- types ---- */

static const char *plain_name(duckdb_type id)
{
    switch (id) {
#define NAME(id, text)     \
    case DUCKDB_TYPE_##id: \
        return text
        NAME(BOOLEAN, "BOOLEAN");
        NAME(TINYINT, "TINYINT");
        NAME(SMALLINT, "SMALLINT");
        NAME(INTEGER, "INTEGER");
        NAME(BIGINT, "BIGINT");
        NAME(UTINYINT, "UTINYINT");
        NAME(USMALLINT, "USMALLINT");
        NAME(UINTEGER, "UINTEGER");
        NAME(UBIGINT, "UBIGINT");
        NAME(HUGEINT, "HUGEINT");
        NAME(UHUGEINT, "UHUGEINT");
        NAME(BIGNUM, "BIGNUM");
        NAME(FLOAT, "FLOAT");
        NAME(DOUBLE, "DOUBLE");
        NAME(DATE, "DATE");
        NAME(TIME, "TIME");
        NAME(TIME_NS, "TIME_NS");
        NAME(TIME_TZ, "TIME WITH TIME ZONE");
        NAME(TIMESTAMP, "TIMESTAMP");
        NAME(TIMESTAMP_S, "TIMESTAMP_S");
        NAME(TIMESTAMP_MS, "TIMESTAMP_MS");
        NAME(TIMESTAMP_NS, "TIMESTAMP_NS");
        NAME(TIMESTAMP_TZ, "TIMESTAMP WITH TIME ZONE");
        NAME(INTERVAL, "INTERVAL");
        NAME(VARCHAR, "VARCHAR");
        NAME(BLOB, "BLOB");
        NAME(BIT, "BIT");
        NAME(UUID, "UUID");
        NAME(ENUM, "ENUM");
        NAME(SQLNULL, "NULL");
#undef NAME
    default:
        return "UNKNOWN";
    }
}

static void append_type(struct lh_buf *out, duckdb_logical_type type);

static void append_member(struct lh_buf *out, char *name, duckdb_logical_type type)
{
    lh_sql_append_identifier(out, lh_str_of(name != NULL ? name : ""));
    lh_buf_append_char(out, ' ');
    append_type(out, type);
    duckdb_destroy_logical_type(&type);
    duckdb_free(name);
}

static void append_members(struct lh_buf *out, duckdb_logical_type type, bool is_union)
{
    uint64_t count =
        is_union ? duckdb_union_type_member_count(type) : duckdb_struct_type_child_count(type);
    lh_buf_append_str(out, is_union ? LH_STR("UNION(") : LH_STR("STRUCT("));
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0)
            lh_buf_append_str(out, LH_STR(", "));
        if (is_union)
            append_member(out, duckdb_union_type_member_name(type, i),
                          duckdb_union_type_member_type(type, i));
        else
            append_member(out, duckdb_struct_type_child_name(type, i),
                          duckdb_struct_type_child_type(type, i));
    }
    lh_buf_append_char(out, ')');
}

static void append_child(struct lh_buf *out, duckdb_logical_type child)
{
    append_type(out, child);
    duckdb_destroy_logical_type(&child);
}

static void append_type(struct lh_buf *out, duckdb_logical_type type)
{
    char *alias = duckdb_logical_type_get_alias(type);
    duckdb_type id = duckdb_get_type_id(type);
    if (alias != NULL) { /* JSON */
        lh_buf_append_str(out, lh_str_of(alias));
    } else if (id == DUCKDB_TYPE_DECIMAL) {
        lh_buf_printf(out, "DECIMAL(%u,%u)", duckdb_decimal_width(type),
                      duckdb_decimal_scale(type));
    } else if (id == DUCKDB_TYPE_LIST) {
        append_child(out, duckdb_list_type_child_type(type));
        lh_buf_append_str(out, LH_STR("[]"));
    } else if (id == DUCKDB_TYPE_ARRAY) {
        append_child(out, duckdb_array_type_child_type(type));
        lh_buf_printf(out, "[%llu]", (unsigned long long)duckdb_array_type_array_size(type));
    } else if (id == DUCKDB_TYPE_MAP) {
        lh_buf_append_str(out, LH_STR("MAP("));
        append_child(out, duckdb_map_type_key_type(type));
        lh_buf_append_str(out, LH_STR(", "));
        append_child(out, duckdb_map_type_value_type(type));
        lh_buf_append_char(out, ')');
    } else if (id == DUCKDB_TYPE_STRUCT || id == DUCKDB_TYPE_UNION) {
        append_members(out, type, id == DUCKDB_TYPE_UNION);
    } else {
        lh_buf_append_str(out, lh_str_of(plain_name(id)));
    }
    duckdb_free(alias);
}

char *lh__sql_type_name(duckdb_logical_type type)
{
    struct lh_buf out = LH_BUF_EMPTY;
    append_type(&out, type);
    lh_buf_append_char(&out, '\0');
    if (!lh_buf_failed(&out))
        return out.ptr;
    lh_buf_deinit(&out);
    return NULL;
}
