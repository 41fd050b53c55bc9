/* vector_search(index, query, k [, ef]), and nearest: macros over a scalar function, since a table
 * function takes no subquery and no column of another table, and with a bound list is planned anew
 * each time. The session's thread.
 *
 * The scalar function answers a list of structs for each row, which the macro unnests. Rows that
 * follow one another and ask the same index for as many are one batch of queries. */
#include "sql/vectors_internal.h"

#include <math.h>
#include <stdlib.h>

#define SCALAR "lakehouse_nearest"

enum argument { ARGUMENT_INDEX, ARGUMENT_QUERY, ARGUMENT_K, ARGUMENT_EF, ARGUMENTS };

/* One chunk of rows: arguments as they lie in memory. */
struct rows {
    struct lh_sql_session *session;
    duckdb_vector vectors[ARGUMENTS];
    uint64_t *validity[ARGUMENTS]; /* NULL: none is NULL */
    const duckdb_list_entry *lists;
    uint64_t *child_validity;
    const double *numbers;
    uint64_t count;
};

/* The query of one row. */
struct query {
    const double *numbers;
    uint64_t count;
    uint64_t *validity; /* NULL: none of them is NULL */
    uint64_t offset;    /* of the first one's validity */
};

/* Rows that are asked as one batch. */
struct batch {
    struct lh_sql_search search;
    uint64_t first;
    uint64_t behind;
    float *queries;
};

/* The answers so far. */
struct answers {
    duckdb_vector lists;
    duckdb_vector ids;
    duckdb_vector distances;
    duckdb_vector metadata;
    uint64_t count;
};

static bool is_null(const struct rows *rows, uint64_t row)
{
    for (unsigned i = 0; i < ARGUMENTS; i++)
        if (rows->validity[i] != NULL && !duckdb_validity_row_is_valid(rows->validity[i], row))
            return true;
    return false;
}

static struct lh_str index_of(const struct rows *rows, uint64_t row)
{
    duckdb_string_t *texts = duckdb_vector_get_data(rows->vectors[ARGUMENT_INDEX]);
    return (struct lh_str){duckdb_string_t_data(&texts[row]), duckdb_string_t_length(texts[row])};
}

/* As it lies in the chunk, or as it was bound. */
static struct query query_of(const struct rows *rows, uint64_t row)
{
    duckdb_list_entry entry = rows->lists[row];
    const double *numbers = rows->numbers + entry.offset;
    const struct lh_sql__parameter *bound =
        entry.length == 1 ? lh__sql_find_parameter(rows->session, *numbers) : NULL;
    if (bound != NULL)
        return (struct query){.numbers = bound->numbers, .count = bound->count};
    return (struct query){numbers, entry.length, rows->child_validity, entry.offset};
}

static enum lh_status read_row(const struct rows *rows, uint64_t row, struct lh_sql_search *search,
                               struct lh_error *error)
{
    int64_t k = ((int64_t *)duckdb_vector_get_data(rows->vectors[ARGUMENT_K]))[row];
    int64_t ef = ((int64_t *)duckdb_vector_get_data(rows->vectors[ARGUMENT_EF]))[row];
    uint64_t dimension = query_of(rows, row).count;
    if (k < 1 || k > LH_K_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "k: an integer from 1 to %u is needed",
                            LH_K_MAX);
    if (ef < 0 || ef > LH_EF_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "ef: an integer from 1 to %u is needed",
                            LH_EF_MAX);
    if (dimension < 1 || dimension > LH_DIMENSION_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "query: a list of 1 to %u numbers is needed", LH_DIMENSION_MAX);
    *search = (struct lh_sql_search){.index = index_of(rows, row),
                                     .dimension = (uint32_t)dimension,
                                     .k = (uint32_t)k,
                                     .ef = (uint32_t)ef,
                                     .with_metadata = true};
    return LH_OK;
}

static enum lh_status copy_query(const struct rows *rows, uint64_t row, float *to,
                                 struct lh_error *error)
{
    struct query query = query_of(rows, row);
    for (uint32_t i = 0; i < query.count; i++) {
        if (query.validity != NULL &&
            !duckdb_validity_row_is_valid(query.validity, query.offset + i))
            return lh_error_set(error, LH_INVALID_ARGUMENT, "query[%u]: NULL", i);
        to[i] = (float)query.numbers[i];
        if (!isfinite(to[i]))
            return lh_error_set(error, LH_INVALID_ARGUMENT,
                                "query[%u]: not a finite number that a float32 holds", i);
    }
    return LH_OK;
}

/* As many rows from batch->behind on as can be asked at once. */
static enum lh_status gather(const struct rows *rows, struct batch *batch, struct lh_error *error)
{
    struct lh_sql_search *search = &batch->search;
    batch->first = batch->behind;
    enum lh_status status = read_row(rows, batch->first, search, error);
    if (status != LH_OK)
        return status;
    float *queries =
        realloc(batch->queries, (rows->count - batch->first) * search->dimension * sizeof *queries);
    if (queries == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the queries");
    batch->queries = queries;
    do {
        struct lh_sql_search next;
        if (is_null(rows, batch->behind))
            return LH_OK;
        status = read_row(rows, batch->behind, &next, error);
        if (status != LH_OK)
            return status;
        if (!lh_str_eq(next.index, search->index) || next.dimension != search->dimension ||
            next.k != search->k || next.ef != search->ef || search->count == LH_BATCH_SEARCH_MAX ||
            (uint64_t)(search->count + 1) * search->k > LH_BATCH_RESULTS_MAX)
            return LH_OK;
        status = copy_query(rows, batch->behind,
                            queries + (uint64_t)search->count * search->dimension, error);
        search->count++;
        batch->behind++;
    } while (status == LH_OK && batch->behind < rows->count);
    return status;
}

static enum lh_status put(const struct batch *batch, const struct lh_sql_items *found,
                          struct answers *answers, struct lh_error *error)
{
    duckdb_list_entry *entries = duckdb_vector_get_data(answers->lists);
    uint64_t total = answers->count + found->count;
    uint32_t at = 0;
    if (duckdb_list_vector_reserve(answers->lists, total) != DuckDBSuccess ||
        duckdb_list_vector_set_size(answers->lists, total) != DuckDBSuccess)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for what was found");
    duckdb_vector item = duckdb_list_vector_get_child(answers->lists);
    duckdb_vector ids = duckdb_struct_vector_get_child(item, 0);
    float *distances = duckdb_vector_get_data(duckdb_struct_vector_get_child(item, 1));
    duckdb_vector metadata = duckdb_struct_vector_get_child(item, 2);
    for (uint32_t query = 0; query < batch->search.count; query++) {
        uint64_t begin = answers->count;
        for (; at < found->ends[query]; at++, answers->count++) {
            lh__sql_put_string(ids, answers->count, found->items[at].id);
            distances[answers->count] = found->items[at].distance;
            lh__sql_put_string(metadata, answers->count, found->items[at].metadata);
        }
        entries[batch->first + query] = (duckdb_list_entry){begin, answers->count - begin};
    }
    return LH_OK;
}

static void read_chunk(duckdb_data_chunk input, struct rows *rows)
{
    rows->count = duckdb_data_chunk_get_size(input);
    for (unsigned i = 0; i < ARGUMENTS; i++) {
        rows->vectors[i] = duckdb_data_chunk_get_vector(input, i);
        rows->validity[i] = duckdb_vector_get_validity(rows->vectors[i]);
    }
    duckdb_vector child = duckdb_list_vector_get_child(rows->vectors[ARGUMENT_QUERY]);
    rows->lists = duckdb_vector_get_data(rows->vectors[ARGUMENT_QUERY]);
    rows->child_validity = duckdb_vector_get_validity(child);
    rows->numbers = duckdb_vector_get_data(child);
}

static enum lh_status answer(struct rows *rows, struct batch *batch, struct answers *answers,
                             struct lh_error *error)
{
    const struct lh_sql_vectors *vectors = &rows->session->vectors;
    duckdb_list_entry *entries = duckdb_vector_get_data(answers->lists);
    while (batch->behind < rows->count) {
        if (is_null(rows, batch->behind)) { /* nothing is near to NULL */
            entries[batch->behind++] = (duckdb_list_entry){answers->count, 0};
            continue;
        }
        if (lh__sql_is_interrupted(rows->session, error))
            return LH_CLOSED;
        struct lh_sql_items found = {0};
        enum lh_status status = gather(rows, batch, error);
        batch->search.queries = batch->queries;
        if (status == LH_OK)
            status = vectors->search(vectors->arg, &batch->search, &found, error);
        if (status != LH_OK)
            return status;
        status = put(batch, &found, answers, error);
        vectors->release(&found);
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

static void call(duckdb_function_info info, duckdb_data_chunk input, duckdb_vector output)
{
    struct rows rows = {.session = duckdb_scalar_function_get_bind_data(info)};
    struct answers answers = {.lists = output};
    struct lh_error error = {.status = LH_OK};
    struct batch batch = {0};
    if (rows.session == NULL) {
        duckdb_scalar_function_set_error(info, "there are no vectors here");
        return;
    }
    read_chunk(input, &rows);
    if (answer(&rows, &batch, &answers, &error) != LH_OK)
        duckdb_scalar_function_set_error(info, error.text);
    free(batch.queries);
}

static void bind(duckdb_bind_info info)
{
    duckdb_client_context context;
    duckdb_scalar_function_get_client_context(info, &context);
    struct lh_sql_session *session =
        lh__sql_find_session(duckdb_scalar_function_bind_get_extra_info(info), context);
    duckdb_destroy_client_context(&context);
    if (session != NULL) /* the macro's own creation binds it without one */
        duckdb_scalar_function_set_bind_data(info, session, NULL);
}

/* STRUCT(id VARCHAR, distance FLOAT, metadata JSON)[] */
static duckdb_logical_type answer_type(void)
{
    const char *names[] = {"id", "distance", "metadata"};
    duckdb_logical_type types[] = {duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR),
                                   duckdb_create_logical_type(DUCKDB_TYPE_FLOAT),
                                   lh__sql_json_type()};
    duckdb_logical_type item = duckdb_create_struct_type(types, names, 3);
    duckdb_logical_type list = duckdb_create_list_type(item);
    for (unsigned i = 0; i < 3; i++)
        duckdb_destroy_logical_type(&types[i]);
    duckdb_destroy_logical_type(&item);
    return list;
}

static bool add(struct lh_sql *sql, duckdb_connection connection)
{
    duckdb_scalar_function function = duckdb_create_scalar_function();
    duckdb_logical_type varchar = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type bigint = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
    duckdb_logical_type child = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
    duckdb_logical_type query = duckdb_create_list_type(child);
    duckdb_logical_type list = answer_type();
    duckdb_scalar_function_set_name(function, SCALAR);
    duckdb_scalar_function_add_parameter(function, varchar);
    duckdb_scalar_function_add_parameter(function, query);
    duckdb_scalar_function_add_parameter(function, bigint);
    duckdb_scalar_function_add_parameter(function, bigint);
    duckdb_scalar_function_set_return_type(function, list);
    duckdb_scalar_function_set_extra_info(function, sql, NULL);
    duckdb_scalar_function_set_bind(function, bind);
    duckdb_scalar_function_set_function(function, call);
    duckdb_scalar_function_set_special_handling(function); /* NULL gives no rows, not NULL */
    duckdb_scalar_function_set_volatile(function);         /* not while it is being prepared */
    bool is_added = duckdb_register_scalar_function(connection, function) == DuckDBSuccess;
    duckdb_destroy_logical_type(&varchar);
    duckdb_destroy_logical_type(&bigint);
    duckdb_destroy_logical_type(&child);
    duckdb_destroy_logical_type(&query);
    duckdb_destroy_logical_type(&list);
    duckdb_destroy_scalar_function(&function);
    return is_added;
}

enum lh_status lh__sql_add_nearest(struct lh_sql *sql, duckdb_connection connection,
                                   struct lh_error *error)
{
#define MACRO(name)                                                                  \
    "CREATE MACRO " name "(index, query, k, ef := 0) AS TABLE SELECT unnest(" SCALAR \
    "(index, query, k, ef), recursive := true);"
    if (!add(sql, connection))
        return lh__sql_refused_function(SCALAR, error);
    return lh__sql_run(connection, MACRO("vector_search") MACRO("nearest"), error);
#undef MACRO
}
