/* What a query's body asks. A query worker's thread. */
#include "actors/query_worker.h"

static enum lh_status read_limit(struct lh_json root, const char *name, uint64_t *limit,
                                 struct lh_error *error)
{
    struct lh_json value;
    uint64_t number;
    if (!lh_json_get(root, name, &value))
        return LH_OK;
    if (!lh_json_get_u64(root, name, &number))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: not a positive integer", name);
    if (number < *limit)
        *limit = number;
    return LH_OK;
}

static enum lh_status read_members(struct lh_query *query, struct lh_json root,
                                   struct lh_query_asked *asked, struct lh_error *error)
{
    static const char *const known[] = {"sql", "params", "max_rows", "max_bytes", "timeout_ms"};
    struct lh_json value;
    struct lh_str name;
    uint64_t timeout_ms = (lh_counter_get(&query->deadline_ns) - query->started_ns) / 1000000;
    for (struct lh_json_iter iter = lh_json_members(root); lh_json_member(&iter, &name, &value);) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known |= lh_str_eq(name, lh_str_of(known[i]));
        if (!is_known)
            return lh_error_set(error, LH_INVALID_ARGUMENT, "%.*s: unknown field",
                                (int)(name.len < 60 ? name.len : 60), name.ptr);
    }
    if (!lh_json_get_str(root, "sql", &asked->text))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "sql: a statement as a string is needed");
    asked->has_params = lh_json_get(root, "params", &asked->params);
    if (asked->has_params && !lh_json_is_array(asked->params))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "params: not an array");
    enum lh_status status = read_limit(root, "max_rows", &query->rows_max, error);
    if (status == LH_OK)
        status = read_limit(root, "max_bytes", &query->bytes_max, error);
    if (status == LH_OK)
        status = read_limit(root, "timeout_ms", &timeout_ms, error);
    if (status == LH_OK)
        lh_counter_set(&query->deadline_ns, query->started_ns + timeout_ms * 1000000);
    return status;
}

enum lh_status lh_query_read(struct lh_query *query, struct lh_query_asked *asked,
                             struct lh_error *error)
{
    struct lh_json root;
    *asked = (struct lh_query_asked){.text = lh_buf_str(&query->body)};
    if (query->is_text)
        return LH_OK;
    enum lh_status status = lh_json_doc_create(asked->text, &asked->doc, &root, error);
    if (status != LH_OK)
        return status;
    if (!lh_json_is_object(root))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "the body is not a JSON object");
    return read_members(query, root, asked, error);
}
