/* What statements ask of the vector service. A query worker's thread.
 *
 * What was found stays in the request's parts, which live until DuckDB has copied it. */
#include "actors/query_vectors.h"

#include "ext/batch.h"
#include "shards/topk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ITEMS        1024u /* of a scan at once */
#define PAGE_ITEMS_REMOTE 1000u /* the most that the route gives */

/* What an answer to SQL is made of. */
struct found {
    struct lh_request *request;
    struct lh_sql_item *items;
    uint32_t *ends;
};

static void release(struct lh_sql_items *items)
{
    struct found *found = items->owner;
    if (found == NULL)
        return;
    lh_request_destroy(found->request);
    free(found->items);
    free(found->ends);
    free(found);
    items->owner = NULL;
}

static enum lh_status fail(struct lh_query_vectors *vectors, enum lh_status status,
                           struct lh_error *error, const char *text)
{
    vectors->status = status;
    return lh_error_set(error, status, "%s", text);
}

/* Whether there is a vector service, and its index may be read. */
static enum lh_status check(struct lh_query_vectors *vectors, struct lh_str index,
                            struct lh_error *error)
{
    if (vectors->client == NULL && vectors->http == NULL)
        return fail(vectors, LH_NOT_IMPLEMENTED, error,
                    "there is no vector service here, and no queryd.vectord_url");
    if (!lh_index_name_is_valid(index))
        return fail(vectors, LH_INDEX_NOT_FOUND, error, "there is no index of this name");
    if (lh_reach_allows_index(vectors->reach, index))
        return LH_OK;
    vectors->status = LH_FORBIDDEN;
    return lh_error_set(error, LH_FORBIDDEN, "the token does not allow index \"%.*s\"",
                        LH_STR_FMT(index));
}

/* Its request is for `index`. NULL: told in `error`. */
static struct found *begin(struct lh_query_vectors *vectors, enum lh_op op, struct lh_str index,
                           struct lh_error *error)
{
    struct found *found = calloc(1, sizeof *found);
    if (found != NULL)
        found->request = lh_request_create(op);
    if (found == NULL || found->request == NULL) {
        free(found);
        fail(vectors, LH_OUT_OF_MEMORY, error, "not enough memory for the search");
        return NULL;
    }
    memcpy(found->request->index_name, index.ptr, index.len);
    return found;
}

/* Calls, and on a failure frees. */
static enum lh_status call(struct lh_query_vectors *vectors, struct found *found,
                           struct lh_error *error)
{
    enum lh_status status = lh_vector_client_call(vectors->client, found->request);
    if (status == LH_OK)
        return LH_OK;
    *error = found->request->error;
    vectors->status = status;
    release(&(struct lh_sql_items){.owner = found});
    return status;
}

static struct lh_sql_item item_of(const struct lh_found *found, const struct lh_found_list *list)
{
    const char *text = list->text.ptr + found->text_at;
    struct lh_str metadata = {text + found->id_len, found->metadata_len};
    return (struct lh_sql_item){
        .id = {text, found->id_len},
        .metadata = found->has_metadata && metadata.len > 0 ? metadata : LH_STR("{}"),
        .distance = found->distance,
        .vector = list->rows != NULL ? list->rows + found->row_at : NULL,
    };
}

/* ---- searches ---- */

static enum lh_status make_batch(struct lh_request *request, const struct lh_sql_search *search)
{
    enum lh_status status = LH_OK;
    lh_batch_init(&request->batch);
    for (uint32_t i = 0; i < search->count && status == LH_OK; i++) {
        const struct lh_batch_item item = {.dimension = search->dimension};
        status = lh_batch_add_row(&request->batch, &item,
                                  search->queries + (size_t)i * search->dimension, search->count);
    }
    request->search.k = search->k;
    request->search.ef = search->ef;
    request->search.with_metadata = search->with_metadata;
    request->search.is_batch = search->count > 1;
    return status;
}

static enum lh_status merge(struct found *found, const struct lh_sql_search *search,
                            struct lh_sql_items *items)
{
    const struct lh_request *request = found->request;
    struct lh_pick *picks = malloc(search->k * sizeof *picks);
    uint64_t count = 0;
    for (uint32_t p = 0; p < request->part_count; p++)
        count += request->parts[p].found.count;
    found->items = malloc((count + 1) * sizeof *found->items);
    found->ends = malloc(search->count * sizeof *found->ends);
    if (picks == NULL || found->items == NULL || found->ends == NULL) {
        free(picks);
        return LH_OUT_OF_MEMORY;
    }
    *items = (struct lh_sql_items){.items = found->items, .ends = found->ends, .owner = found};
    for (uint32_t query = 0; query < search->count; query++) {
        uint32_t merged =
            lh_topk_merge(request->parts, request->part_count, query, search->k, picks);
        for (uint32_t i = 0; i < merged; i++)
            found->items[items->count++] = item_of(picks[i].found, picks[i].list);
        found->ends[query] = items->count;
    }
    free(picks);
    return LH_OK;
}

static enum lh_status search(void *arg, const struct lh_sql_search *asked,
                             struct lh_sql_items *items, struct lh_error *error)
{
    struct lh_query_vectors *vectors = arg;
    enum lh_status status = check(vectors, asked->index, error);
    if (status != LH_OK)
        return status;
    if (vectors->http != NULL)
        return vectors->status = lh_query_vectors_search_remote(vectors->http, asked, items, error);
    struct found *found = begin(vectors, LH_OP_SEARCH, asked->index, error);
    if (found == NULL)
        return error->status;
    status = make_batch(found->request, asked);
    if (status == LH_OK) {
        status = call(vectors, found, error);
        if (status != LH_OK)
            return status;
        status = merge(found, asked, items);
    }
    if (status != LH_OK) {
        release(&(struct lh_sql_items){.owner = found});
        return fail(vectors, status, error, "not enough memory for the search");
    }
    return LH_OK;
}

/* ---- scans ---- */

static enum lh_status list_page(struct found *found, struct lh_buf *cursor,
                                struct lh_sql_items *items)
{
    const struct lh_request *request = found->request;
    uint32_t count = 0;
    for (uint32_t p = 0; p < request->part_count; p++)
        count += request->parts[p].found.count;
    found->items = malloc((count + 1) * sizeof *found->items);
    if (found->items == NULL)
        return LH_OUT_OF_MEMORY;
    *items = (struct lh_sql_items){
        .items = found->items, .dimension = request->parts[0].graph.dimension, .owner = found};
    for (uint32_t p = 0; p < request->part_count; p++) {
        const struct lh_found_list *list = &request->parts[p].found;
        for (uint32_t i = 0; i < list->count; i++)
            found->items[items->count++] = item_of(&list->items[i], list);
    }
    cursor->len = 0;
    lh_buf_append_str(cursor, lh_buf_str(&request->text));
    return lh_buf_failed(cursor) ? LH_OUT_OF_MEMORY : LH_OK;
}

static enum lh_status page(void *arg, struct lh_str index, bool with_vector, struct lh_buf *cursor,
                           struct lh_sql_items *items, struct lh_error *error)
{
    struct lh_query_vectors *vectors = arg;
    enum lh_status status = check(vectors, index, error);
    if (status != LH_OK)
        return status;
    if (vectors->http != NULL)
        return vectors->status = lh_query_vectors_page_remote(
                   vectors->http, index, with_vector, PAGE_ITEMS_REMOTE, cursor, items, error);
    struct found *found = begin(vectors, LH_OP_ITEMS_PAGE, index, error);
    if (found == NULL)
        return error->status;
    lh_buf_append_str(&found->request->text, lh_buf_str(cursor));
    found->request->page.limit = PAGE_ITEMS;
    found->request->with_vector = with_vector;
    status = LH_OUT_OF_MEMORY;
    if (!lh_buf_failed(&found->request->text)) {
        status = call(vectors, found, error);
        if (status != LH_OK)
            return status;
        status = list_page(found, cursor, items);
    }
    if (status != LH_OK) {
        *items = (struct lh_sql_items){0};
        release(&(struct lh_sql_items){.owner = found});
        return fail(vectors, status, error, "not enough memory for the scan");
    }
    return LH_OK;
}

struct lh_sql_vectors lh_query_vectors_provider(struct lh_query_vectors *vectors)
{
    return (struct lh_sql_vectors){
        .search = search,
        .page = page,
        .release = vectors->http != NULL ? lh_query_vectors_release_remote : release,
        .arg = vectors};
}
