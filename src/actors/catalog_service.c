/* Starting and stopping the catalog. Main thread. */
#include "actors/catalog_service.h"

static enum lh_status open_objects(struct lh_catalog *catalog,
                                   const struct lh_catalog_options *options, struct lh_error *error)
{
    struct lh_object_client_options objects = options->objects;
    if (objects.storaged == NULL && objects.url.len == 0)
        return lh_error_set(error, LH_NOT_IMPLEMENTED,
                            "datasets have nowhere to be: configure [storaged] root, or [catalogd] "
                            "storaged_url");
    objects.is_cancelled = lh_catalog_store_is_stopping;
    objects.arg = &catalog->store;
    return lh_object_client_create(&objects, &catalog->store.objects, error);
}

static enum lh_status open_files(struct lh_catalog *catalog,
                                 const struct lh_catalog_options *options, struct lh_error *error)
{
    enum lh_status status =
        lh_work_folder_make(&catalog->folder, options->config, NULL, "catalog", error);
    if (status != LH_OK)
        return status;
    lh_work_folder_empty(&catalog->folder); /* what a crash has left */
    return lh_catalog_files_init(&catalog->store.files, catalog->folder.path, error);
}

enum lh_status lh_catalog_init(struct lh_catalog *catalog, const struct lh_catalog_options *options,
                               struct lh_error *error)
{
    *catalog = (struct lh_catalog){.is_made = true};
    lh_catalogd_init(&catalog->catalogd, &catalog->store.actor, options->log);
    lh_catalog_store_init(&catalog->store, &catalog->catalogd.actor, options->log);
    struct lh_sql_options none = {.folder = NULL};
    enum lh_status status = LH_OK;
    if (lh_sql_version() == NULL)
        status = lh_sql_open(&none, &catalog->store.files.sql, error);
    if (status == LH_OK)
        status = open_objects(catalog, options, error);
    if (status == LH_OK)
        status = open_files(catalog, options, error);
    if (status == LH_OK)
        return LH_OK;
    struct lh_error reason = *error;
    lh_catalog_deinit(catalog);
    catalog->reason = reason;
    return status == LH_NOT_IMPLEMENTED ? LH_OK : status;
}

enum lh_status lh_catalog_start(struct lh_catalog *catalog, struct lh_error *error)
{
    if (!catalog->is_made)
        return LH_OK;
    enum lh_status status = lh_actor_start(&catalog->store.actor, error);
    if (status == LH_OK)
        status = lh_actor_start(&catalog->catalogd.actor, error);
    return status;
}

void lh_catalog_stop(struct lh_catalog *catalog)
{
    if (!catalog->is_made)
        return;
    lh_actor_stop(&catalog->catalogd.actor);
    lh_actor_join(&catalog->catalogd.actor);
    lh_actor_stop(&catalog->store.actor);
    lh_actor_join(&catalog->store.actor);
}

void lh_catalog_deinit(struct lh_catalog *catalog)
{
    if (!catalog->is_made)
        return;
    lh_catalog_store_deinit(&catalog->store);
    lh_catalogd_deinit(&catalog->catalogd);
    lh_work_folder_end(&catalog->folder);
    catalog->is_made = false;
}
