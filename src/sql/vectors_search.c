/* vector_search(index, query, k [, ef]): a macro over a table function, for the sake of `ef`, whose
 * place may be empty. The session's thread.
 *
 * Its arguments are constants when it is bound, parameters included, and the search is made when
 * the statement begins to run: it is bound more often than it runs. */
#include "sql/vectors_internal.h"

#include <stdlib.h>

#define TABLE "lakehouse_search"

enum column { COLUMN_ID, COLUMN_DISTANCE, COLUMN_METADATA, COLUMNS };

struct asked {
    struct lh_sql_session *session;
    char *index;
    float *query;
    uint32_t dimension;
    uint32_t k;
    uint32_t ef;
};

struct running {
    const struct asked *asked;
    struct lh_sql_items found;
    uint32_t sent;
    uint32_t column_count; /* that are asked for */
    enum column columns[COLUMNS];
};

static void free_asked(void *arg)
{
    struct asked *asked = arg;
    duckdb_free(asked->index);
    free(asked->query);
    free(asked);
}

static void free_running(void *arg)
{
    struct running *running = arg;
    if (running->asked->session != NULL)
        running->asked->session->vectors.release(&running->found);
    free(running);
}

static enum lh_status read_arguments(duckdb_bind_info info, struct asked *asked,
                                     struct lh_error *error)
{
    duckdb_value index = duckdb_bind_get_parameter(info, 0);
    duckdb_value query = duckdb_bind_get_parameter(info, 1);
    duckdb_value k = duckdb_bind_get_parameter(info, 2);
    duckdb_value ef = duckdb_bind_get_parameter(info, 3);
    enum lh_status status = LH_INVALID_ARGUMENT;
    asked->index = lh__sql_take_string(index, "index", error);
    if (asked->index != NULL)
        status = lh__sql_take_query(query, &asked->query, &asked->dimension, error);
    if (status == LH_OK)
        status = lh__sql_take_count(k, "k", LH_K_MAX, &asked->k, error);
    if (status == LH_OK && !duckdb_is_null_value(ef))
        status = lh__sql_take_count(ef, "ef", LH_EF_MAX, &asked->ef, error);
    duckdb_destroy_value(&index);
    duckdb_destroy_value(&query);
    duckdb_destroy_value(&k);
    duckdb_destroy_value(&ef);
    return status;
}

static void add_columns(duckdb_bind_info info)
{
    duckdb_logical_type varchar = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type distance = duckdb_create_logical_type(DUCKDB_TYPE_FLOAT);
    duckdb_logical_type json = lh__sql_json_type();
    duckdb_bind_add_result_column(info, "id", varchar);
    duckdb_bind_add_result_column(info, "distance", distance);
    duckdb_bind_add_result_column(info, "metadata", json);
    duckdb_destroy_logical_type(&varchar);
    duckdb_destroy_logical_type(&distance);
    duckdb_destroy_logical_type(&json);
}

static void bind(duckdb_bind_info info)
{
    struct lh_error error = {.status = LH_OK};
    duckdb_client_context context;
    struct asked *asked = calloc(1, sizeof *asked);
    if (asked == NULL) {
        duckdb_bind_set_error(info, "not enough memory for the search");
        return;
    }
    duckdb_table_function_get_client_context(info, &context);
    asked->session = lh__sql_find_session(duckdb_bind_get_extra_info(info), context);
    duckdb_destroy_client_context(&context);
    add_columns(info);
    /* The macro's own creation binds and even begins it, without a session and arguments. */
    if (asked->session != NULL && read_arguments(info, asked, &error) != LH_OK) {
        free_asked(asked);
        duckdb_bind_set_error(info, error.text);
        return;
    }
    duckdb_bind_set_bind_data(info, asked, free_asked);
    duckdb_bind_set_cardinality(info, asked->k, false);
}

static void init(duckdb_init_info info)
{
    const struct asked *asked = duckdb_init_get_bind_data(info);
    struct lh_error error = {.status = LH_OK};
    struct running *running = calloc(1, sizeof *running);
    if (running == NULL) {
        duckdb_init_set_error(info, "not enough memory for the search");
        return;
    }
    struct lh_sql_search search = {.index = lh_str_of(asked->index),
                                   .queries = asked->query,
                                   .count = 1,
                                   .dimension = asked->dimension,
                                   .k = asked->k,
                                   .ef = asked->ef};
    running->asked = asked;
    running->column_count = (uint32_t)duckdb_init_get_column_count(info);
    for (uint32_t i = 0; i < running->column_count && i < COLUMNS; i++) {
        running->columns[i] = (enum column)duckdb_init_get_column_index(info, i);
        search.with_metadata |= running->columns[i] == COLUMN_METADATA;
    }
    if (asked->session != NULL &&
        asked->session->vectors.search(asked->session->vectors.arg, &search, &running->found,
                                       &error) != LH_OK) {
        free(running);
        duckdb_init_set_error(info, error.text);
        return;
    }
    duckdb_init_set_init_data(info, running, free_running);
    duckdb_init_set_max_threads(info, 1);
}

static void put(const struct lh_sql_item *items, uint32_t count, enum column column,
                duckdb_vector vector)
{
    float *distances = duckdb_vector_get_data(vector);
    for (uint32_t i = 0; i < count; i++) {
        if (column == COLUMN_DISTANCE)
            distances[i] = items[i].distance;
        else
            lh__sql_put_string(vector, i, column == COLUMN_ID ? items[i].id : items[i].metadata);
    }
}

static void next_rows(duckdb_function_info info, duckdb_data_chunk output)
{
    struct running *running = duckdb_function_get_init_data(info);
    uint32_t count = running->found.count - running->sent;
    if (count > duckdb_vector_size())
        count = (uint32_t)duckdb_vector_size();
    for (uint32_t i = 0; i < running->column_count && i < COLUMNS; i++)
        if (running->columns[i] < COLUMNS) /* beyond: the row's number, which is not wanted */
            put(running->found.items + running->sent, count, running->columns[i],
                duckdb_data_chunk_get_vector(output, i));
    running->sent += count;
    duckdb_data_chunk_set_size(output, count);
}

static bool add(struct lh_sql *sql, duckdb_connection connection)
{
    duckdb_table_function function = duckdb_create_table_function();
    duckdb_logical_type varchar = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type any = duckdb_create_logical_type(DUCKDB_TYPE_ANY);
    duckdb_logical_type bigint = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
    duckdb_table_function_set_name(function, TABLE);
    duckdb_table_function_add_parameter(function, varchar);
    duckdb_table_function_add_parameter(function, any); /* a list or an array, of any numbers */
    duckdb_table_function_add_parameter(function, bigint);
    duckdb_table_function_add_parameter(function, bigint);
    duckdb_table_function_set_extra_info(function, sql, NULL);
    duckdb_table_function_set_bind(function, bind);
    duckdb_table_function_set_init(function, init);
    duckdb_table_function_set_function(function, next_rows);
    duckdb_table_function_supports_projection_pushdown(function, true);
    bool is_added = duckdb_register_table_function(connection, function) == DuckDBSuccess;
    duckdb_destroy_logical_type(&varchar);
    duckdb_destroy_logical_type(&any);
    duckdb_destroy_logical_type(&bigint);
    duckdb_destroy_table_function(&function);
    return is_added;
}

enum lh_status lh__sql_add_vector_search(struct lh_sql *sql, duckdb_connection connection,
                                         struct lh_error *error)
{
    static const char macro[] = "CREATE MACRO vector_search(index, query, k, ef := NULL) AS TABLE "
                                "FROM " TABLE "(index, query, k, ef)";
    return add(sql, connection) ? lh__sql_run(connection, macro, error)
                                : lh__sql_refused_function(TABLE, error);
}
