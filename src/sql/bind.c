/* Parameters of a statement: JSON values become DuckDB's. The session's thread. */
#include "sql/sql_internal.h"

#include <stdlib.h>
#include <string.h>

/* The bits of a NaN that no statement comes by, and below them a parameter's place. */
#define STANDS_FOR 0x7ff86c6800000000ull

/* NULL: it is an object, or there is no memory. */
static duckdb_value make_value(struct lh_json json);

/* The type that the elements have in common: that of the first one that is not null, and among
 * integers and doubles, double. The value's own: not to be destroyed. NULL: all are null. */
static duckdb_logical_type common_type(duckdb_value *values, uint32_t count)
{
    duckdb_logical_type common = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (duckdb_is_null_value(values[i]))
            continue;
        duckdb_logical_type type = duckdb_get_value_type(values[i]);
        bool is_double = duckdb_get_type_id(type) == DUCKDB_TYPE_DOUBLE;
        if (common == NULL || (is_double && duckdb_get_type_id(common) == DUCKDB_TYPE_BIGINT))
            common = type;
    }
    return common;
}

/* The elements are cast to the type that they have in common. */
static duckdb_value make_list(struct lh_json json)
{
    uint32_t count = lh_json_count(json);
    duckdb_value *values = calloc(count > 0 ? count : 1, sizeof *values);
    duckdb_value list = NULL;
    struct lh_json element;
    uint32_t made = 0;
    if (values == NULL)
        return NULL;
    for (struct lh_json_iter iter = lh_json_elements(json); lh_json_next(&iter, &element);) {
        values[made] = make_value(element);
        if (values[made] == NULL)
            goto done;
        made++;
    }
    duckdb_logical_type type = common_type(values, made);
    duckdb_logical_type none = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
    list = duckdb_create_list_value(type != NULL ? type : none, values, count);
    duckdb_destroy_logical_type(&none);
done:
    for (uint32_t i = 0; i < made; i++)
        duckdb_destroy_value(&values[i]);
    free(values);
    return list;
}

static duckdb_value make_value(struct lh_json json)
{
    struct lh_str text;
    double number;
    int64_t integer;
    bool truth;
    if (lh_json_is_null(json))
        return duckdb_create_null_value();
    if (lh_json_as_bool(json, &truth))
        return duckdb_create_bool(truth);
    if (lh_json_as_i64(json, &integer))
        return duckdb_create_int64(integer);
    if (lh_json_as_f64(json, &number))
        return duckdb_create_double(number);
    if (lh_json_as_str(json, &text))
        return duckdb_create_varchar_length(text.ptr, text.len);
    return lh_json_is_object(json) ? NULL : make_list(json);
}

/* ---- queries of vector functions ---- */

/* DOUBLE[1], as the functions take it: with the same type, DuckDB does not plan anew. */
static duckdb_value make_stand_in(uint64_t place)
{
    uint64_t bits = STANDS_FOR | place;
    double number;
    memcpy(&number, &bits, sizeof number);
    duckdb_logical_type type = duckdb_create_logical_type(DUCKDB_TYPE_DOUBLE);
    duckdb_value value = duckdb_create_double(number);
    duckdb_value list = duckdb_create_list_value(type, &value, 1);
    duckdb_destroy_value(&value);
    duckdb_destroy_logical_type(&type);
    return list;
}

/* Takes a list of numbers into `parameter`. False: it is something else, or there is no memory. */
static bool take_numbers(struct lh_sql__parameter *parameter, struct lh_json json)
{
    uint32_t count = lh_json_count(json);
    struct lh_json element;
    double *numbers = malloc((count + 1ul) * sizeof *numbers);
    bool is_numbers = numbers != NULL && count > 0;
    uint32_t at = 0;
    struct lh_json_iter iter = lh_json_elements(json);
    while (is_numbers && lh_json_next(&iter, &element))
        is_numbers = lh_json_as_f64(element, &numbers[at++]);
    if (!is_numbers) {
        free(numbers);
        return false;
    }
    free(parameter->numbers);
    parameter->numbers = numbers;
    parameter->count = count;
    return true;
}

const struct lh_sql__parameter *lh__sql_find_parameter(const struct lh_sql_session *session,
                                                       double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    uint64_t place = bits ^ STANDS_FOR;
    if (place >= LH_SQL__PARAMETERS || session->running == NULL)
        return NULL;
    const struct lh_sql__parameter *parameter = &session->running->parameters[place];
    return parameter->numbers != NULL ? parameter : NULL;
}

/* ---- all of them ---- */

enum lh_status lh__sql_bind(duckdb_prepared_statement prepared,
                            struct lh_sql__parameter *parameters, const struct lh_json *params,
                            struct lh_error *error)
{
    uint64_t wanted = duckdb_nparams(prepared);
    uint64_t given = params != NULL ? lh_json_count(*params) : 0;
    struct lh_json element;
    uint64_t at = 0;
    if (wanted != given)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "params: %llu given, the statement has %llu", (unsigned long long)given,
                            (unsigned long long)wanted);
    if (params == NULL)
        return LH_OK;
    for (struct lh_json_iter iter = lh_json_elements(*params); lh_json_next(&iter, &element);) {
        struct lh_sql__parameter *parameter =
            parameters != NULL && at < LH_SQL__PARAMETERS ? &parameters[at] : NULL;
        bool is_query = parameter != NULL && parameter->uses > 0 &&
                        parameter->uses == parameter->as_query && take_numbers(parameter, element);
        duckdb_value value = is_query ? make_stand_in(at) : make_value(element);
        if (value == NULL)
            return lh_error_set(error, LH_INVALID_ARGUMENT,
                                "params[%llu]: null, booleans, numbers, strings and lists of one "
                                "type can be bound",
                                (unsigned long long)at);
        duckdb_state state = duckdb_bind_value(prepared, ++at, value);
        duckdb_destroy_value(&value);
        if (state != DuckDBSuccess)
            return lh__sql_error(duckdb_prepare_error(prepared), NULL, error);
    }
    return LH_OK;
}
