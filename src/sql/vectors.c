/* What SQL's vector functions share: their arguments, their session, their registration.
 *
 * Functions belong to the instance and statements to sessions: at bind, the connection's id leads
 * to the session, and so to its provider. */
#include "sql/vectors_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void lh_sql_session_set_vectors(struct lh_sql_session *session,
                                const struct lh_sql_vectors *vectors)
{
    session->vectors = *vectors;
}

struct lh_sql_session *lh__sql_find_session(struct lh_sql *sql, duckdb_client_context context)
{
    uint64_t id = duckdb_client_context_get_connection_id(context);
    struct lh_sql_session *session;
    pthread_mutex_lock(&sql->mutex);
    for (session = sql->sessions; session != NULL; session = session->next)
        if (session->connection_id == id)
            break;
    pthread_mutex_unlock(&sql->mutex);
    return session != NULL && session->vectors.search != NULL ? session : NULL;
}

/* ---- arguments ---- */

char *lh__sql_take_string(duckdb_value value, const char *name, struct lh_error *error)
{
    char *text = NULL;
    if (value != NULL && !duckdb_is_null_value(value))
        text = duckdb_get_varchar(value);
    if (text == NULL)
        lh_error_set(error, LH_INVALID_ARGUMENT, "%s: NULL", name);
    return text;
}

enum lh_status lh__sql_take_count(duckdb_value value, const char *name, uint32_t max,
                                  uint32_t *number, struct lh_error *error)
{
    int64_t given = 0;
    if (value != NULL && !duckdb_is_null_value(value))
        given = duckdb_get_int64(value);
    if (given < 1 || given > max)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: an integer from 1 to %u is needed",
                            name, max);
    *number = (uint32_t)given;
    return LH_OK;
}

enum lh_status lh__sql_to_float(double number, uint32_t place, float *to, struct lh_error *error)
{
    *to = (float)number;
    if (isfinite(*to))
        return LH_OK;
    return lh_error_set(error, LH_INVALID_ARGUMENT,
                        "query[%u]: not a finite number that a float32 holds", place);
}

static enum lh_status take_list(duckdb_value list, float *query, uint32_t count,
                                struct lh_error *error)
{
    enum lh_status status = LH_OK;
    for (uint32_t i = 0; i < count && status == LH_OK; i++) {
        duckdb_value child = duckdb_get_list_child(list, i);
        double number =
            child == NULL || duckdb_is_null_value(child) ? NAN : duckdb_get_double(child);
        status = lh__sql_to_float(number, i, &query[i], error);
        duckdb_destroy_value(&child);
    }
    return status;
}

/* An ARRAY's values can only be had as text, "[1.0, 2.5]", in digits that lose nothing. */
static enum lh_status take_array(duckdb_value array, float *query, uint32_t count,
                                 struct lh_error *error)
{
    enum lh_status status = LH_OK;
    char *text = duckdb_value_to_string(array);
    char *at = text;
    if (text == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the query");
    for (uint32_t i = 0; i < count && status == LH_OK; i++) {
        char *end;
        at += strspn(at, "[ ,");
        double number = strtod(at, &end);
        status = lh__sql_to_float(end == at ? NAN : number, i, &query[i], error);
        at = end;
    }
    duckdb_free(text);
    return status;
}

static bool is_number(duckdb_type type)
{
    return (type >= DUCKDB_TYPE_TINYINT && type <= DUCKDB_TYPE_DOUBLE) ||
           type == DUCKDB_TYPE_HUGEINT || type == DUCKDB_TYPE_UHUGEINT ||
           type == DUCKDB_TYPE_DECIMAL;
}

/* How many numbers there are; 0: they are not numbers in a list. */
static uint64_t count_numbers(duckdb_value value, bool *is_array)
{
    duckdb_logical_type type = duckdb_get_value_type(value); /* the value's own: not destroyed */
    duckdb_type kind = duckdb_get_type_id(type);
    *is_array = kind == DUCKDB_TYPE_ARRAY;
    if (!*is_array && kind != DUCKDB_TYPE_LIST)
        return 0;
    duckdb_logical_type child =
        *is_array ? duckdb_array_type_child_type(type) : duckdb_list_type_child_type(type);
    bool is_of_numbers = is_number(duckdb_get_type_id(child));
    duckdb_destroy_logical_type(&child);
    if (!is_of_numbers)
        return 0;
    return *is_array ? duckdb_array_type_array_size(type) : duckdb_get_list_size(value);
}

enum lh_status lh__sql_take_query(duckdb_value value, float **query, uint32_t *dimension,
                                  struct lh_error *error)
{
    bool is_array = false;
    uint64_t count =
        value == NULL || duckdb_is_null_value(value) ? 0 : count_numbers(value, &is_array);
    if (count == 0 || count > LH_DIMENSION_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "query: a list of 1 to %u numbers is needed", LH_DIMENSION_MAX);
    float *numbers = malloc(count * sizeof *numbers);
    if (numbers == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the query");
    enum lh_status status = is_array ? take_array(value, numbers, (uint32_t)count, error)
                                     : take_list(value, numbers, (uint32_t)count, error);
    if (status != LH_OK) {
        free(numbers);
        return status;
    }
    *query = numbers;
    *dimension = (uint32_t)count;
    return LH_OK;
}

/* ---- results ---- */

duckdb_logical_type lh__sql_json_type(void)
{
    duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type_set_alias(type, "JSON");
    return type;
}

void lh__sql_put_string(duckdb_vector vector, uint64_t row, struct lh_str text)
{
    duckdb_vector_assign_string_element_len(vector, row, text.len > 0 ? text.ptr : "", text.len);
}

/* ---- registration ---- */

enum lh_status lh__sql_refused_function(const char *name, struct lh_error *error)
{
    return lh_error_set(error, LH_IO, "DuckDB %s does not take the function %s", lh_sql_version(),
                        name);
}

enum lh_status lh__sql_add_vectors(struct lh_sql *sql, duckdb_connection connection,
                                   struct lh_error *error)
{
    enum lh_status status = lh__sql_add_vector_search(sql, connection, error);
    if (status == LH_OK)
        status = lh__sql_add_nearest(sql, connection, error);
    if (status == LH_OK)
        status = lh__sql_add_vector_scan(sql, connection, error);
    return status;
}
