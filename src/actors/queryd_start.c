/* Starting and stopping the query service. Main thread. */
#include "actors/queryd.h"

#include "actors/query_cache.h"
#include "actors/services.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPILL_SHARE 4u /* times its memory that a query may write to disk */

static enum lh_status open_sql(struct lh_queryd *queryd, const struct lh_config *config,
                               struct lh_error *error)
{
    char spill[PATH_MAX + 8];
    const char *folder = queryd->folder.path;
    uint64_t memory = lh_config_integer(config, "queryd.memory_limit");
    if (lh_sql_version() == NULL) {
        struct lh_sql_options none = {0};
        return lh_sql_open(&none, &queryd->sql, error);
    }
    enum lh_status status =
        lh_work_folder_make(&queryd->folder, config, "queryd.cache_dir", "query", error);
    if (status != LH_OK)
        return status;
    lh_query_cache_clean(folder);
    lh_work_folder_empty_below(&queryd->folder, "spill");
    snprintf(spill, sizeof spill, "%sspill", folder);
    struct lh_sql_options options = {.folder = folder,
                                     .spill_folder = spill,
                                     .memory_bytes = memory,
                                     .spill_bytes = SPILL_SHARE * memory,
                                     .is_fixed = true};
    return lh_sql_open(&options, &queryd->sql, error);
}

/* Where another service is: what [queryd] says, else where the gateway sends its routes. True: in
 * another process, at `url`. */
static bool is_elsewhere(const struct lh_config *config, const char *service, bool is_here,
                         struct lh_str *url)
{
    char key[40], bind_key[40];
    snprintf(bind_key, sizeof bind_key, "%s.bind", service);
    snprintf(key, sizeof key, "queryd.%s_url", service);
    *url = lh_config_string(config, key);
    if (url->len == 0 && !is_here) {
        snprintf(key, sizeof key, "gateway.%s_url", service);
        *url = lh_config_string(config, key);
    }
    return url->len > 0 && !lh_services_is_own_url(config, bind_key, *url);
}

static void find_services(struct lh_query_worker_options *found,
                          const struct lh_queryd_options *options)
{
    const struct lh_config *config = options->config;
    struct lh_catalog_client_options *catalog = &found->tables.catalog;
    struct lh_object_client_options *objects = &found->tables.objects;
    if (is_elsewhere(config, "catalogd", options->catalogd != NULL, &catalog->url))
        catalog->believe_ms = lh_config_integer(config, "queryd.refresh_every");
    else
        *catalog = (struct lh_catalog_client_options){.catalogd = options->catalogd};
    if (!is_elsewhere(config, "storaged", options->storaged != NULL, &objects->url))
        *objects = (struct lh_object_client_options){.storaged = options->storaged};
    if (!is_elsewhere(config, "vectord", options->vectord != NULL, &found->vectord_url)) {
        found->vectord_url = (struct lh_str){0};
        found->vectord = options->vectord;
    }
    found->token = catalog->token = objects->token = options->token;
}

static enum lh_status make_workers(struct lh_queryd *queryd,
                                   const struct lh_queryd_options *options, struct lh_error *error)
{
    struct lh_query_worker_options made = {
        .sql = queryd->sql,
        .loop = lh_http_server_mailbox(options->http),
        .tables = {.folder = queryd->folder.path,
                   .cache_bytes = lh_config_integer(options->config, "queryd.cache_bytes")}};
    enum lh_status status = LH_OK;
    find_services(&made, options);
    queryd->workers = calloc(queryd->worker_count, sizeof *queryd->workers);
    if (queryd->workers == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for query workers");
    for (uint32_t i = 0; i < queryd->worker_count && status == LH_OK; i++) {
        status = lh_query_worker_init(&queryd->workers[i], i, &made, error);
        queryd->workers_made++;
    }
    return status;
}

enum lh_status lh_queryd_init(struct lh_queryd *queryd, const struct lh_queryd_options *options,
                              struct lh_error *error)
{
    const struct lh_config *config = options->config;
    *queryd = (struct lh_queryd){
        .http = options->http,
        .log = options->log,
        .timeout_ms = lh_config_integer(config, "queryd.timeout"),
        .rows_max = lh_config_integer(config, "queryd.rows_max"),
        .bytes_max = lh_config_integer(config, "queryd.bytes_max"),
        .worker_count = (uint32_t)lh_config_integer(config, "queryd.workers"),
    };
    enum lh_status status = open_sql(queryd, config, &queryd->reason);
    if (status == LH_NOT_IMPLEMENTED)
        return LH_OK; /* its routes say so */
    if (status != LH_OK) {
        *error = queryd->reason;
        return status;
    }
    return make_workers(queryd, options, error);
}

enum lh_status lh_queryd_start(struct lh_queryd *queryd, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    for (uint32_t i = 0; i < queryd->workers_made && status == LH_OK; i++)
        status = lh_actor_start(&queryd->workers[i].actor, error);
    return status;
}

void lh_queryd_stop(struct lh_queryd *queryd)
{
    for (uint32_t i = 0; i < queryd->workers_made; i++) {
        lh_actor_stop(&queryd->workers[i].actor);
        lh_actor_join(&queryd->workers[i].actor);
    }
}

void lh_queryd_deinit(struct lh_queryd *queryd)
{
    for (uint32_t i = 0; i < queryd->workers_made; i++)
        lh_query_worker_deinit(&queryd->workers[i]);
    free(queryd->workers);
    if (queryd->sql != NULL)
        lh_sql_close(queryd->sql);
    lh_work_folder_end(&queryd->folder);
}
