/* Starting and stopping the query service. Main thread. */
#include "actors/queryd.h"

#include <stdio.h>
#include <stdlib.h>

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
    snprintf(spill, sizeof spill, "%sspill", folder);
    struct lh_sql_options options = {.folder = folder,
                                     .spill_folder = spill,
                                     .memory_bytes = memory,
                                     .spill_bytes = SPILL_SHARE * memory};
    return lh_sql_open(&options, &queryd->sql, error);
}

enum lh_status lh_queryd_init(struct lh_queryd *queryd, const struct lh_config *config,
                              struct lh_http_server *http, struct lh_actor *vectord,
                              const struct lh_log *log, struct lh_error *error)
{
    *queryd = (struct lh_queryd){
        .http = http,
        .log = log,
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
    queryd->workers = calloc(queryd->worker_count, sizeof *queryd->workers);
    if (queryd->workers == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for query workers");
    for (uint32_t i = 0; i < queryd->worker_count; i++)
        lh_query_worker_init(&queryd->workers[i], i, queryd->sql, vectord,
                             lh_http_server_mailbox(http));
    queryd->workers_made = queryd->worker_count;
    return LH_OK;
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
