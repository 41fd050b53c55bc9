/* Datasets as tables. A query worker's thread, which blocks in the catalog and in downloads.
 *
 * The catalog is asked each time that a statement names a dataset, so a version that has just been
 * registered is read by the next statement; a view is made again only when the answer is another
 * one. Views are the session's own: two statements may read two versions at the same time.
 *
 * A cached file is named by the hash of its object's key, size and fingerprint, and gets its name
 * when it is whole: a name means its bytes for good, and workers need not agree on anything. */
#include "actors/query_tables.h"

#include "actors/query_cache.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIEWS_MAX 256u /* of a session; then the one used longest ago goes */

struct lh_query_view {
    struct lh_query_view *next; /* used before this one */
    struct lh_manifest *manifest;
    uint64_t statement; /* that used it last */
    char name[];        /* "people@2" */
};

enum lh_status lh_query_tables_init(struct lh_query_tables *tables,
                                    const struct lh_query_tables_options *options,
                                    struct lh_error *error)
{
    *tables = (struct lh_query_tables){.options = *options};
    if (options->catalog.catalogd == NULL && options->catalog.url.len == 0)
        return LH_OK;
    enum lh_status status = lh_catalog_client_create(&options->catalog, &tables->catalog, error);
    if (status == LH_OK && (options->objects.storaged != NULL || options->objects.url.len > 0))
        status = lh_object_client_create(&options->objects, &tables->objects, error);
    return status;
}

static void free_view(struct lh_query_view *view)
{
    lh_manifest_destroy(view->manifest);
    free(view);
}

void lh_query_tables_deinit(struct lh_query_tables *tables)
{
    while (tables->views != NULL) {
        struct lh_query_view *view = tables->views;
        tables->views = view->next;
        free_view(view);
    }
    if (tables->catalog != NULL)
        lh_catalog_client_destroy(tables->catalog);
    if (tables->objects != NULL)
        lh_object_client_destroy(tables->objects);
}

void lh_query_tables_begin(struct lh_query_tables *tables, const struct lh_reach *reach)
{
    tables->reach = reach;
    tables->statement++;
    tables->error = (struct lh_error){.status = LH_OK};
}

bool lh_query_tables_allows(const struct lh_reach *reach, struct lh_str name)
{
    char prefix[LH_NAME_BYTES_MAX + 16];
    if (!reach->is_limited)
        return true;
    int len = snprintf(prefix, sizeof prefix, "datasets/%.*s/", (int)name.len, name.ptr);
    return len > 0 && (size_t)len < sizeof prefix &&
           lh_reach_allows_prefix(reach, (struct lh_str){prefix, (size_t)len});
}

/* ---- views ---- */

/* The view of this name, first in the list from now on. DuckDB does not tell names by case, so
 * another one that differs in nothing else is dropped: the view in DuckDB is replaced. */
static struct lh_query_view *take_view(struct lh_query_tables *tables, struct lh_str name)
{
    for (struct lh_query_view **link = &tables->views; *link != NULL;) {
        struct lh_query_view *view = *link;
        if (!lh_str_eq_nocase(lh_str_of(view->name), name)) {
            link = &view->next;
            continue;
        }
        if (!lh_str_eq(lh_str_of(view->name), name) && view->statement == tables->statement) {
            lh_error_set(&tables->error, LH_INVALID_SQL,
                         "datasets \"%.60s\" and \"%.*s\" differ only in case: a statement can "
                         "name one of them",
                         view->name, (int)(name.len < 60 ? name.len : 60), name.ptr);
            return NULL;
        }
        *link = view->next;
        if (lh_str_eq(lh_str_of(view->name), name))
            return view;
        free_view(view);
    }
    return NULL;
}

static void put_view(struct lh_query_tables *tables, struct lh_query_view *view)
{
    uint32_t count = 1;
    view->statement = tables->statement;
    view->next = tables->views;
    tables->views = view;
    for (struct lh_query_view **link = &view->next; *link != NULL; link = &(*link)->next) {
        struct lh_query_view *last = *link;
        if (++count <= VIEWS_MAX || last->next != NULL || last->statement == tables->statement)
            continue;
        *link = NULL; /* its view in DuckDB stays: a few hundred bytes, and nothing reads it */
        free_view(last);
        return;
    }
}

static bool is_same(const struct lh_manifest *a, const struct lh_manifest *b)
{
    return a->version == b->version && a->created_ms == b->created_ms &&
           lh_str_eq(a->fingerprint, b->fingerprint);
}

/* CREATE OR REPLACE TEMP VIEW "people@2" AS SELECT * FROM read_parquet(['/cache/a.parquet']) */
static enum lh_status make_view(struct lh_query_tables *tables, struct lh_str name,
                                const struct lh_manifest *manifest, struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    char path[PATH_MAX];
    lh_buf_append_str(&text, LH_STR("CREATE OR REPLACE TEMP VIEW "));
    lh_sql_append_identifier(&text, name);
    lh_buf_append_str(&text, LH_STR(" AS SELECT * FROM read_parquet(["));
    for (uint32_t i = 0; i < manifest->count; i++) {
        lh_query_cache_path(tables->options.folder, &manifest->objects[i], path);
        if (i > 0)
            lh_buf_append_char(&text, ',');
        lh_sql_append_literal(&text, lh_str_of(path));
    }
    lh_buf_append_str(&text, LH_STR("])"));
    lh_buf_append_char(&text, '\0');
    enum lh_status status = lh_buf_failed(&text)
                                ? lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory")
                                : lh_sql_execute(tables->session, text.ptr, error);
    lh_buf_deinit(&text);
    return status;
}

/* ---- names ---- */

bool lh_query_tables_split(struct lh_str *name, uint64_t *version)
{
    const char *at = name->len > 0 ? memchr(name->ptr, '@', name->len) : NULL;
    *version = 0;
    if (at == NULL)
        return true;
    struct lh_str digits = {at + 1, name->len - (size_t)(at + 1 - name->ptr)};
    name->len = (size_t)(at - name->ptr);
    return lh_str_to_u64(digits, version) && *version > 0;
}

static bool fail(struct lh_query_tables *tables, enum lh_status status,
                 const struct lh_error *error)
{
    tables->error = *error;
    tables->error.status = status;
    return false;
}

/* All objects are in the cache when this returns LH_OK. */
static enum lh_status fetch_objects(struct lh_query_tables *tables,
                                    const struct lh_manifest *manifest, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    for (uint32_t i = 0; i < manifest->count && status == LH_OK; i++) {
        bool is_fetched = false;
        status = lh_query_cache_fetch(tables->options.folder, tables->options.cache_bytes,
                                      tables->objects, &manifest->objects[i], &is_fetched, error);
        if (is_fetched) {
            lh_counter_add(&tables->downloads, 1);
            lh_counter_add(&tables->downloaded_bytes, manifest->objects[i].size);
        }
    }
    return status;
}

/* Makes the view anew, unless the one that there is does. Takes the manifest. */
static bool settle(struct lh_query_tables *tables, struct lh_str name, struct lh_manifest *manifest)
{
    struct lh_error error = {.status = LH_OK};
    struct lh_query_view *view = take_view(tables, name);
    bool is_current = view != NULL && is_same(view->manifest, manifest);
    enum lh_status status = tables->error.status;
    if (status == LH_OK) {
        status = fetch_objects(tables, manifest, &error);
        if (status == LH_OK && !is_current)
            status = make_view(tables, name, manifest, &error);
        if (status != LH_OK)
            (void)fail(tables, status, &error);
    }
    if (view == NULL && status == LH_OK) {
        view = calloc(1, sizeof *view + name.len + 1);
        if (view != NULL)
            memcpy(view->name, name.ptr, name.len);
    }
    if (status != LH_OK || view == NULL) {
        if (view != NULL)
            free_view(view);
        lh_manifest_destroy(manifest);
        if (status == LH_OK)
            lh_error_set(&tables->error, LH_OUT_OF_MEMORY, "not enough memory for a table");
        return false;
    }
    lh_manifest_destroy(view->manifest);
    view->manifest = manifest;
    put_view(tables, view);
    return true;
}

bool lh_query_tables_find(struct lh_str name, void *arg)
{
    struct lh_query_tables *tables = arg;
    struct lh_manifest *manifest;
    struct lh_error error;
    struct lh_str dataset = name;
    uint64_t version;
    if (tables->catalog == NULL || tables->objects == NULL ||
        !lh_query_tables_split(&dataset, &version) || !lh_dataset_name_is_valid(dataset))
        return false;
    if (!lh_query_tables_allows(tables->reach, dataset)) {
        lh_error_set(&error, LH_FORBIDDEN, "the token does not allow dataset \"%.*s\"",
                     LH_STR_FMT(dataset));
        return fail(tables, LH_FORBIDDEN, &error);
    }
    enum lh_status status =
        lh_catalog_client_get(tables->catalog, dataset, version, &manifest, &error);
    if (status == LH_DATASET_NOT_FOUND)
        return false;
    if (status != LH_OK)
        return fail(tables, status, &error);
    return settle(tables, name, manifest);
}
