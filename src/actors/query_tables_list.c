/* What tables there are: the catalog's datasets, as far as a caller reaches. A query worker's
 * thread. */
#include "actors/query_tables.h"

#include <inttypes.h>

static enum lh_status need_catalog(const struct lh_query_tables *tables, struct lh_error *error)
{
    if (tables->catalog != NULL)
        return LH_OK;
    return lh_error_set(error, LH_NOT_IMPLEMENTED,
                        "there is no catalog: set storaged.root, or queryd.catalogd_url");
}

static void append_listed(const struct lh_query *query, struct lh_json root, struct lh_buf *out)
{
    struct lh_json datasets, dataset;
    struct lh_str name, cursor;
    bool is_first = true;
    lh_buf_append_str(out, LH_STR("{\"tables\":["));
    if (!lh_json_get(root, "datasets", &datasets))
        datasets = root; /* no array: nothing */
    for (struct lh_json_iter iter = lh_json_elements(datasets); lh_json_next(&iter, &dataset);) {
        if (!lh_json_get_str(dataset, "name", &name) ||
            !lh_query_tables_allows(&query->reach, name))
            continue;
        if (!is_first)
            lh_buf_append_char(out, ',');
        is_first = false;
        lh_json_append(out, dataset);
    }
    lh_buf_append_char(out, ']');
    if (lh_json_get_str(root, "next_cursor", &cursor)) {
        lh_buf_append_str(out, LH_STR(",\"next_cursor\":"));
        lh_buf_append_json_string(out, cursor);
    }
    lh_buf_append_str(out, LH_STR("}\n"));
}

enum lh_status lh_query_tables_list(struct lh_query_tables *tables, const struct lh_query *query,
                                    struct lh_buf *out, struct lh_error *error)
{
    struct lh_buf answer = LH_BUF_EMPTY;
    struct lh_json_doc *doc;
    struct lh_json root;
    enum lh_status status = need_catalog(tables, error);
    if (status == LH_OK)
        status = lh_catalog_client_list(tables->catalog, lh_buf_str(&query->body),
                                        lh_buf_str(&query->cursor), query->limit, &answer, error);
    if (status == LH_OK)
        status = lh_json_doc_create(lh_buf_str(&answer), &doc, &root, error);
    if (status == LH_OK) {
        append_listed(query, root, out);
        lh_json_doc_destroy(doc);
    }
    lh_buf_deinit(&answer);
    return status;
}

/* The columns as the files have them, where whoever registered them did not say. */
static enum lh_status read_columns(struct lh_query_tables *tables, struct lh_str name,
                                   struct lh_buf *out, struct lh_error *error)
{
    const struct lh_sql_gate gate = {.is_table = lh_query_tables_find, .arg = tables};
    struct lh_buf text = LH_BUF_EMPTY;
    struct lh_sql_fault fault;
    struct lh_sql_query *sql;
    lh_buf_append_str(&text, LH_STR("SELECT * FROM "));
    lh_sql_append_identifier(&text, name);
    lh_buf_append_str(&text, LH_STR(" LIMIT 0"));
    enum lh_status status =
        lh_sql_start(tables->session, &gate, lh_buf_str(&text), NULL, &sql, &fault, error);
    if (status == LH_OK) {
        lh_sql_append_columns(sql, out);
        lh_sql_finish(sql);
    }
    lh_buf_deinit(&text);
    return status;
}

static void append_table(const struct lh_manifest *manifest, struct lh_str columns,
                         struct lh_buf *out)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < manifest->count; i++)
        bytes += manifest->objects[i].size;
    lh_buf_append_str(out, LH_STR("{\"name\":"));
    lh_buf_append_json_string(out, manifest->name);
    lh_buf_printf(out, ",\"dataset_id\":\"%s\",\"version\":%" PRIu64, manifest->dataset_id,
                  manifest->version);
    lh_buf_append_str(out, LH_STR(",\"columns\":"));
    lh_buf_append_str(out, columns);
    if (manifest->has_row_count)
        lh_buf_printf(out, ",\"row_count\":%" PRIu64, manifest->row_count);
    lh_buf_printf(out, ",\"objects\":%u,\"bytes\":%" PRIu64 ",\"created_at\":\"", manifest->count,
                  bytes);
    lh_append_time(out, manifest->created_ms);
    lh_buf_append_str(out, LH_STR("\"}\n"));
}

enum lh_status lh_query_tables_describe(struct lh_query_tables *tables,
                                        const struct lh_query *query, struct lh_buf *out,
                                        struct lh_error *error)
{
    struct lh_str name = lh_buf_str(&query->body);
    struct lh_manifest *manifest;
    uint64_t version;
    enum lh_status status = need_catalog(tables, error);
    if (status != LH_OK)
        return status;
    if (!lh_query_tables_split(&name, &version) || !lh_dataset_name_is_valid(name) ||
        !lh_query_tables_allows(&query->reach, name))
        return lh_error_set(error, LH_DATASET_NOT_FOUND, "there is no dataset \"%.*s\"",
                            (int)(name.len < 100 ? name.len : 100), name.ptr);
    status = lh_catalog_client_get(tables->catalog, name, version, &manifest, error);
    if (status != LH_OK)
        return status;
    struct lh_buf columns = LH_BUF_EMPTY;
    lh_buf_append_str(&columns, manifest->schema_json);
    if (columns.len == 0)
        status = read_columns(tables, lh_buf_str(&query->body), &columns, error);
    if (status == LH_OK)
        append_table(manifest, lh_buf_str(&columns), out);
    out->failed |= lh_buf_failed(&columns);
    lh_buf_deinit(&columns);
    lh_manifest_destroy(manifest);
    return status;
}
