/* Starting and stopping the query service. Main thread. */
#include "actors/queryd.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPILL_SHARE 4u /* times its memory that a query may write to disk */

/* Makes `path` and its parents. */
static int make_folders(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        int result = mkdir(path, 0777);
        *at = '/';
        if (result != 0 && errno != EEXIST)
            return -1;
    }
    return mkdir(path, 0777) == 0 || errno == EEXIST ? 0 : -1;
}

/* Removes a folder with the files in it. */
static void remove_folder(const char *path)
{
    char file[PATH_MAX + NAME_MAX + 2];
    struct dirent *entry;
    DIR *folder = opendir(path);
    if (folder == NULL)
        return;
    while ((entry = readdir(folder)) != NULL) {
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlink(file) != 0)
            remove_folder(file);
    }
    closedir(folder);
    rmdir(path);
}

/* What is configured, else beside the vectors, else a folder that goes with the server. */
static enum lh_status choose_folder(struct lh_queryd *queryd, const struct lh_config *config,
                                    struct lh_error *error)
{
    struct lh_str configured = lh_config_string(config, "queryd.cache_dir");
    struct lh_str data = lh_config_string(config, "vectord.data_dir");
    const char *temporary = getenv("TMPDIR");
    char path[PATH_MAX];
    int len;
    if (configured.len > 0)
        len = snprintf(path, sizeof path, "%.*s", LH_STR_FMT(configured));
    else if (data.len > 0)
        len = snprintf(path, sizeof path, "%.*s/query", LH_STR_FMT(data));
    else
        len = snprintf(path, sizeof path, "%s/lakehoused-XXXXXX",
                       temporary != NULL && *temporary == '/' ? temporary : "/tmp");
    if (len < 0 || (size_t)len >= sizeof path - 16)
        return lh_error_set(error, LH_CONFIG, "queryd.cache_dir: the path is too long");
    queryd->is_temporary = configured.len == 0 && data.len == 0;
    if (queryd->is_temporary ? mkdtemp(path) == NULL : make_folders(path) != 0)
        return lh_error_sys(error, LH_CONFIG, errno, "queryd.cache_dir: folder %.80s", path);
    if (realpath(path, queryd->folder) == NULL || strlen(queryd->folder) >= PATH_MAX - 16)
        return lh_error_sys(error, LH_CONFIG, errno, "queryd.cache_dir: folder %.80s", path);
    strcat(queryd->folder, "/");
    return LH_OK;
}

static enum lh_status open_sql(struct lh_queryd *queryd, const struct lh_config *config,
                               struct lh_error *error)
{
    char spill[PATH_MAX + 8];
    uint64_t memory = lh_config_integer(config, "queryd.memory_limit");
    if (lh_sql_version() == NULL) {
        struct lh_sql_options none = {0};
        return lh_sql_open(&none, &queryd->sql, error);
    }
    enum lh_status status = choose_folder(queryd, config, error);
    if (status != LH_OK)
        return status;
    snprintf(spill, sizeof spill, "%sspill", queryd->folder);
    struct lh_sql_options options = {.folder = queryd->folder,
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
    if (queryd->is_temporary)
        remove_folder(queryd->folder);
}
