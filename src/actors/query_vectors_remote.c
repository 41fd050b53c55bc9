/* The vector functions of SQL where the vector service is another process: its routes over HTTP.
 * A query worker's thread. */
#include "actors/query_vectors.h"

#include "actors/told.h"
#include "ext/json_read.h"
#include "ext/number.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What an answer is made of. */
struct remote {
    struct lh_json_doc *doc; /* ids are in it */
    struct lh_buf metadata;  /* of all items, one behind the other */
    struct lh_sql_item *items;
    uint32_t *ends;
    float *rows;
};

void lh_query_vectors_release_remote(struct lh_sql_items *items)
{
    struct remote *remote = items->owner;
    if (remote == NULL)
        return;
    if (remote->doc != NULL)
        lh_json_doc_destroy(remote->doc);
    lh_buf_deinit(&remote->metadata);
    free(remote->items);
    free(remote->ends);
    free(remote->rows);
    free(remote);
    items->owner = NULL;
}

/* Calls, and reads what is answered into `doc`. */
static enum lh_status ask(struct lh_http_client *http, const struct lh_http_ask *asked,
                          struct lh_json_doc **doc, struct lh_json *root, struct lh_error *error)
{
    struct lh_http_told told = {0};
    enum lh_status status = lh_http_client_ask(http, asked, &told, error);
    if (status == LH_OK && told.status != 200)
        status = lh_told_error("vectord", asked, &told, error);
    if (status == LH_OK)
        status = lh_json_doc_create(lh_buf_str(&told.body), doc, root, error);
    lh_buf_deinit(&told.body);
    return status;
}

static void append_path(struct lh_buf *path, struct lh_str index, const char *end)
{
    lh_buf_append_str(path, LH_STR("/v1/vectors/index/"));
    lh_http_escape(path, index);
    lh_buf_append_str(path, lh_str_of(end));
}

/* ---- answers ---- */

/* An item without its metadata, which is appended to that of all. */
static enum lh_status read_item(struct remote *remote, struct lh_json json, bool has_distance,
                                struct lh_sql_item *item, struct lh_error *error)
{
    struct lh_json metadata;
    double distance = 0;
    size_t at = remote->metadata.len;
    if (!lh_json_get_str(json, "id", &item->id) ||
        (has_distance && !lh_json_get_f64(json, "distance", &distance)))
        return lh_error_set(error, LH_BAD_GATEWAY, "vectord: an item without its id or distance");
    item->distance = (float)distance;
    if (lh_json_get(json, "metadata", &metadata))
        lh_json_append(&remote->metadata, metadata);
    else
        lh_buf_append_str(&remote->metadata, LH_STR("{}"));
    item->metadata.len = remote->metadata.len - at;
    return LH_OK;
}

/* Once all are there: they do not move any more. */
static void place_metadata(struct remote *remote, uint32_t count)
{
    const char *at = remote->metadata.ptr;
    for (uint32_t i = 0; i < count; i++) {
        remote->items[i].metadata.ptr = at;
        at += remote->items[i].metadata.len;
    }
}

static enum lh_status out_of_memory(struct lh_error *error)
{
    return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for what vectord answers");
}

/* Makes room for items and their vectors. */
static enum lh_status make_room(struct remote *remote, uint64_t count, uint64_t floats,
                                struct lh_error *error)
{
    remote->items = calloc(count + 1, sizeof *remote->items);
    remote->rows = malloc((floats + 1) * sizeof *remote->rows);
    return remote->items == NULL || remote->rows == NULL ? out_of_memory(error) : LH_OK;
}

/* ---- searches ---- */

static void append_search(struct lh_buf *body, const struct lh_sql_search *search)
{
    lh_buf_append_str(body, LH_STR("{\"vectors\":["));
    for (uint32_t i = 0; i < search->count; i++) {
        lh_buf_append_str(body, i > 0 ? LH_STR(",\"") : LH_STR("\""));
        lh_base64_append(body, search->queries + (size_t)i * search->dimension,
                         search->dimension * sizeof *search->queries);
        lh_buf_append_char(body, '"');
    }
    lh_buf_printf(body, "],\"k\":%u,\"with_metadata\":%s", search->k,
                  search->with_metadata ? "true" : "false");
    if (search->ef != 0)
        lh_buf_printf(body, ",\"ef\":%u", search->ef);
    lh_buf_append_char(body, '}');
}

static enum lh_status read_batches(struct remote *remote, struct lh_json root,
                                   const struct lh_sql_search *search, struct lh_sql_items *items,
                                   struct lh_error *error)
{
    struct lh_json batches, batch, results, result;
    uint64_t most = (uint64_t)search->count * search->k;
    uint32_t at = 0;
    enum lh_status status = make_room(remote, most, 0, error);
    remote->ends = calloc(search->count, sizeof *remote->ends);
    if (status != LH_OK || remote->ends == NULL)
        return out_of_memory(error);
    if (!lh_json_get(root, "batches", &batches) || lh_json_count(batches) != search->count)
        return lh_error_set(error, LH_BAD_GATEWAY,
                            "vectord: an answer for each query was expected");
    for (struct lh_json_iter iter = lh_json_elements(batches); lh_json_next(&iter, &batch); at++) {
        if (!lh_json_get(batch, "results", &results) || !lh_json_is_array(results) ||
            lh_json_count(results) > search->k)
            return lh_error_set(error, LH_BAD_GATEWAY, "vectord: up to %u results were expected",
                                search->k);
        struct lh_json_iter hits = lh_json_elements(results);
        while (status == LH_OK && lh_json_next(&hits, &result))
            status = read_item(remote, result, true, &remote->items[items->count++], error);
        remote->ends[at] = items->count;
    }
    return status;
}

enum lh_status lh_query_vectors_search_remote(struct lh_http_client *http,
                                              const struct lh_sql_search *search,
                                              struct lh_sql_items *items, struct lh_error *error)
{
    struct lh_buf path = LH_BUF_EMPTY, body = LH_BUF_EMPTY;
    struct lh_json root;
    struct remote *remote = calloc(1, sizeof *remote);
    enum lh_status status = LH_OK;
    *items = (struct lh_sql_items){.owner = remote};
    append_path(&path, search->index, "/search");
    lh_buf_append_char(&path, '\0');
    append_search(&body, search);
    if (remote == NULL || lh_buf_failed(&path) || lh_buf_failed(&body))
        status = out_of_memory(error);
    const struct lh_http_ask asked = {.method = "POST",
                                      .path = path.ptr,
                                      .content_type = "application/json",
                                      .body = lh_buf_str(&body),
                                      .answer_max = LH_ANSWER_BYTES_MAX};
    if (status == LH_OK)
        status = ask(http, &asked, &remote->doc, &root, error);
    if (status == LH_OK)
        status = read_batches(remote, root, search, items, error);
    if (status == LH_OK && lh_buf_failed(&remote->metadata))
        status = out_of_memory(error);
    lh_buf_deinit(&path);
    lh_buf_deinit(&body);
    if (status != LH_OK) {
        lh_query_vectors_release_remote(items);
        return status;
    }
    place_metadata(remote, items->count);
    items->items = remote->items;
    items->ends = remote->ends;
    return LH_OK;
}

/* ---- scans ---- */

/* The numbers of all items' vectors, which are as many each. */
static enum lh_status read_vector(struct remote *remote, struct lh_json json, uint32_t dimension,
                                  uint32_t number, struct lh_error *error)
{
    struct lh_json vector, element;
    float *row = remote->rows + (size_t)number * dimension;
    uint32_t at = 0;
    if (!lh_json_get(json, "vector", &vector) || lh_json_count(vector) != dimension)
        return lh_error_set(error, LH_BAD_GATEWAY, "vectord: an item without its vector");
    for (struct lh_json_iter iter = lh_json_elements(vector); lh_json_next(&iter, &element);) {
        double value;
        if (!lh_json_as_f64(element, &value))
            return lh_error_set(error, LH_BAD_GATEWAY, "vectord: a vector of other than numbers");
        row[at++] = (float)value;
    }
    remote->items[number].vector = row;
    return LH_OK;
}

static enum lh_status read_page(struct remote *remote, struct lh_json root, bool with_vector,
                                struct lh_buf *cursor, struct lh_sql_items *items,
                                struct lh_error *error)
{
    struct lh_json list, json, vector;
    struct lh_str next;
    if (!lh_json_get(root, "items", &list) || !lh_json_is_array(list))
        return lh_error_set(error, LH_BAD_GATEWAY, "vectord: a list of items was expected");
    struct lh_json_iter iter = lh_json_elements(list);
    if (with_vector && lh_json_next(&iter, &json) && lh_json_get(json, "vector", &vector))
        items->dimension = lh_json_count(vector);
    uint64_t count = lh_json_count(list);
    enum lh_status status = make_room(remote, count, count * items->dimension, error);
    iter = lh_json_elements(list);
    while (status == LH_OK && lh_json_next(&iter, &json)) {
        status = read_item(remote, json, false, &remote->items[items->count], error);
        if (status == LH_OK && with_vector)
            status = read_vector(remote, json, items->dimension, items->count, error);
        items->count++;
    }
    cursor->len = 0;
    if (lh_json_get_str(root, "next_cursor", &next))
        lh_buf_append_str(cursor, next);
    return status;
}

enum lh_status lh_query_vectors_page_remote(struct lh_http_client *http, struct lh_str index,
                                            bool with_vector, uint32_t limit, struct lh_buf *cursor,
                                            struct lh_sql_items *items, struct lh_error *error)
{
    struct lh_buf path = LH_BUF_EMPTY;
    struct lh_json root;
    struct remote *remote = calloc(1, sizeof *remote);
    enum lh_status status = LH_OK;
    *items = (struct lh_sql_items){.owner = remote};
    append_path(&path, index, "/items?limit=");
    lh_buf_printf(&path, "%u&with_vector=%s&cursor=", limit, with_vector ? "true" : "false");
    lh_http_escape(&path, lh_buf_str(cursor));
    lh_buf_append_char(&path, '\0');
    if (remote == NULL || lh_buf_failed(&path))
        status = out_of_memory(error);
    const struct lh_http_ask asked = {
        .method = "GET", .path = path.ptr, .answer_max = LH_ANSWER_BYTES_MAX};
    if (status == LH_OK)
        status = ask(http, &asked, &remote->doc, &root, error);
    if (status == LH_OK)
        status = read_page(remote, root, with_vector, cursor, items, error);
    if (status == LH_OK && (lh_buf_failed(&remote->metadata) || lh_buf_failed(cursor)))
        status = out_of_memory(error);
    lh_buf_deinit(&path);
    if (status != LH_OK) {
        lh_query_vectors_release_remote(items);
        return status;
    }
    place_metadata(remote, items->count);
    items->items = remote->items;
    return LH_OK;
}

/* ---- adds ---- */

enum lh_status lh_query_vectors_add_remote(struct lh_http_client *http, struct lh_str index,
                                           const char *durability, struct lh_str lines,
                                           uint64_t *added, uint64_t *updated,
                                           struct lh_error *error)
{
    struct lh_buf path = LH_BUF_EMPTY;
    struct lh_json_doc *doc = NULL;
    struct lh_json root;
    append_path(&path, index, "/add?durability=");
    lh_buf_append_str(&path, lh_str_of(durability));
    lh_buf_append_char(&path, '\0');
    if (lh_buf_failed(&path)) {
        lh_buf_deinit(&path);
        return out_of_memory(error);
    }
    const struct lh_http_ask asked = {.method = "POST",
                                      .path = path.ptr,
                                      .content_type = "application/x-ndjson",
                                      .body = lines,
                                      .answer_max = 1u << 16};
    enum lh_status status = ask(http, &asked, &doc, &root, error);
    lh_buf_deinit(&path);
    *added = *updated = 0;
    if (status != LH_OK)
        return status;
    lh_json_get_u64(root, "added", added);
    lh_json_get_u64(root, "updated", updated);
    lh_json_doc_destroy(doc);
    return LH_OK;
}
