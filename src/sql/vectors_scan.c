/* vectors(index): every item of an index as a table. The session's thread.
 *
 * Items come page by page, in no order that means anything; each that was there throughout comes
 * once. Vectors and metadata are fetched only where a statement reads them. */
#include "sql/vectors_internal.h"

#include <stdlib.h>
#include <string.h>

enum column { COLUMN_ID, COLUMN_VECTOR, COLUMN_METADATA, COLUMNS };

struct asked {
    struct lh_sql_session *session;
    char *index;
};

struct running {
    const struct asked *asked;
    struct lh_sql_items page;
    uint32_t sent; /* of it */
    struct lh_buf cursor;
    bool is_begun;
    bool with_vector;
    uint32_t column_count;
    enum column columns[COLUMNS];
};

static void free_asked(void *arg)
{
    struct asked *asked = arg;
    duckdb_free(asked->index);
    free(asked);
}

static void free_running(void *arg)
{
    struct running *running = arg;
    running->asked->session->vectors.release(&running->page);
    lh_buf_deinit(&running->cursor);
    free(running);
}

static void add_columns(duckdb_bind_info info)
{
    duckdb_logical_type varchar = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type number = duckdb_create_logical_type(DUCKDB_TYPE_FLOAT);
    duckdb_logical_type list = duckdb_create_list_type(number);
    duckdb_logical_type json = lh__sql_json_type();
    duckdb_bind_add_result_column(info, "id", varchar);
    duckdb_bind_add_result_column(info, "vector", list);
    duckdb_bind_add_result_column(info, "metadata", json);
    duckdb_destroy_logical_type(&varchar);
    duckdb_destroy_logical_type(&number);
    duckdb_destroy_logical_type(&list);
    duckdb_destroy_logical_type(&json);
}

static void bind(duckdb_bind_info info)
{
    struct lh_error error = {.status = LH_OK};
    duckdb_client_context context;
    struct asked *asked = calloc(1, sizeof *asked);
    if (asked == NULL) {
        duckdb_bind_set_error(info, "not enough memory for the scan");
        return;
    }
    duckdb_table_function_get_client_context(info, &context);
    asked->session = lh__sql_find_session(duckdb_bind_get_extra_info(info), context);
    duckdb_destroy_client_context(&context);
    add_columns(info);
    duckdb_value index = duckdb_bind_get_parameter(info, 0);
    if (index != NULL && !duckdb_is_null_value(index))
        asked->index = duckdb_get_varchar(index);
    if (asked->index == NULL)
        lh_error_set(&error, LH_INVALID_ARGUMENT, "index: a name is needed");
    duckdb_destroy_value(&index);
    if (asked->session == NULL)
        lh_error_set(&error, LH_INVALID_ARGUMENT, "there are no vectors here");
    if (error.status != LH_OK) {
        free_asked(asked);
        duckdb_bind_set_error(info, error.text);
        return;
    }
    duckdb_bind_set_bind_data(info, asked, free_asked);
}

static void init(duckdb_init_info info)
{
    struct running *running = calloc(1, sizeof *running);
    if (running == NULL) {
        duckdb_init_set_error(info, "not enough memory for the scan");
        return;
    }
    running->asked = duckdb_init_get_bind_data(info);
    running->column_count = (uint32_t)duckdb_init_get_column_count(info);
    for (uint32_t i = 0; i < running->column_count && i < COLUMNS; i++) {
        running->columns[i] = (enum column)duckdb_init_get_column_index(info, i);
        running->with_vector |= running->columns[i] == COLUMN_VECTOR;
    }
    duckdb_init_set_init_data(info, running, free_running);
    duckdb_init_set_max_threads(info, 1);
}

static enum lh_status next_page(struct running *running, struct lh_error *error)
{
    const struct lh_sql_vectors *vectors = &running->asked->session->vectors;
    while (running->sent == running->page.count &&
           (!running->is_begun || running->cursor.len > 0)) {
        if (lh__sql_is_interrupted(running->asked->session, error))
            return LH_CLOSED;
        vectors->release(&running->page);
        running->page = (struct lh_sql_items){0};
        running->sent = 0;
        running->is_begun = true;
        enum lh_status status =
            vectors->page(vectors->arg, lh_str_of(running->asked->index), running->with_vector,
                          &running->cursor, &running->page, error);
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

/* False: no memory. */
static bool put_vectors(const struct lh_sql_item *items, uint32_t count, uint32_t dimension,
                        duckdb_vector vector)
{
    duckdb_list_entry *entries = duckdb_vector_get_data(vector);
    uint64_t total = (uint64_t)count * dimension;
    if (duckdb_list_vector_reserve(vector, total) != DuckDBSuccess ||
        duckdb_list_vector_set_size(vector, total) != DuckDBSuccess)
        return false;
    float *numbers = duckdb_vector_get_data(duckdb_list_vector_get_child(vector));
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (duckdb_list_entry){(uint64_t)i * dimension, dimension};
        memcpy(numbers + (uint64_t)i * dimension, items[i].vector, dimension * sizeof *numbers);
    }
    return true;
}

static void next_rows(duckdb_function_info info, duckdb_data_chunk output)
{
    struct running *running = duckdb_function_get_init_data(info);
    struct lh_error error = {.status = LH_OK};
    if (next_page(running, &error) != LH_OK) {
        duckdb_function_set_error(info, error.text);
        return;
    }
    const struct lh_sql_item *items = running->page.items + running->sent;
    uint32_t count = running->page.count - running->sent;
    if (count > duckdb_vector_size())
        count = (uint32_t)duckdb_vector_size();
    for (uint32_t c = 0; c < running->column_count && c < COLUMNS; c++) {
        duckdb_vector vector = duckdb_data_chunk_get_vector(output, c);
        enum column column = running->columns[c];
        if (column == COLUMN_VECTOR && count > 0 &&
            !put_vectors(items, count, running->page.dimension, vector)) {
            duckdb_function_set_error(info, "not enough memory for the vectors");
            return;
        }
        for (uint32_t i = 0; i < count && (column == COLUMN_ID || column == COLUMN_METADATA); i++)
            lh__sql_put_string(vector, i, column == COLUMN_ID ? items[i].id : items[i].metadata);
    }
    running->sent += count;
    duckdb_data_chunk_set_size(output, count);
}

enum lh_status lh__sql_add_vector_scan(struct lh_sql *sql, duckdb_connection connection,
                                       struct lh_error *error)
{
    duckdb_table_function function = duckdb_create_table_function();
    duckdb_logical_type varchar = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_table_function_set_name(function, "vectors");
    duckdb_table_function_add_parameter(function, varchar);
    duckdb_table_function_set_extra_info(function, sql, NULL);
    duckdb_table_function_set_bind(function, bind);
    duckdb_table_function_set_init(function, init);
    duckdb_table_function_set_function(function, next_rows);
    duckdb_table_function_supports_projection_pushdown(function, true);
    bool is_added = duckdb_register_table_function(connection, function) == DuckDBSuccess;
    duckdb_destroy_logical_type(&varchar);
    duckdb_destroy_table_function(&function);
    return is_added ? LH_OK : lh__sql_refused_function("vectors", error);
}
