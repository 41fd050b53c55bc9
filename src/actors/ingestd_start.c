/* Starting, stopping and counting the ingest service. Main thread; metrics: loop. */
#include "actors/ingestd.h"

#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPILL_SHARE 4u /* times its memory that a conversion may write to disk */

/* ---- the spool's folder ---- */

/* Of a pending file: its dataset, in its first line. */
static bool read_name(const char *folder, uint64_t number, char name[LH_NAME_BYTES_MAX + 1])
{
    char path[PATH_MAX];
    struct lh_str line = {name, 0};
    lh_spool_path(path, folder, LH_SPOOL_PENDING, number);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file >= 0 ? read(file, name, LH_NAME_BYTES_MAX + 1) : -1;
    if (file >= 0)
        close(file);
    char *end = got > 0 ? memchr(name, '\n', (size_t)got) : NULL;
    if (end == NULL)
        return false;
    *end = '\0';
    line.len = (size_t)(end - name);
    return lh_dataset_name_is_valid(line);
}

/* What a process before has left pending is swept first. */
static void add_sweep(uint64_t number, void *arg)
{
    struct lh_ingestd *ingestd = arg;
    struct lh_ingest_job *job = lh_ingest_job_create(LH_INGEST_SWEEP);
    if (job == NULL)
        return; /* the next start finds it */
    if (!read_name(ingestd->folder.path, number, job->name)) {
        /* Cut off by a crash: nothing was stored before it was synced. */
        lh_spool_remove(ingestd->folder.path, LH_SPOOL_PENDING, number);
        lh_ingest_job_destroy(job);
        return;
    }
    job->number = number;
    job->is_waiting = true;
    if (number >= ingestd->next_number)
        ingestd->next_number = number + 1;
    lh__ingestd_add(ingestd, job);
}

static enum lh_status make_spool(struct lh_ingestd *ingestd, const struct lh_config *config,
                                 struct lh_error *error)
{
    enum lh_status status =
        lh_work_folder_make(&ingestd->folder, config, "ingestd.spool_dir", "ingest", error);
    if (status == LH_OK)
        status = lh_spool_clean(ingestd->folder.path, add_sweep, ingestd, error);
    if (status != LH_OK)
        return status;
    lh_ingest_spool_init(&ingestd->spool, ingestd->folder.path,
                         lh_http_server_mailbox(ingestd->options.http));
    ingestd->has_spool = true;
    return LH_OK;
}

/* ---- workers ---- */

static enum lh_status make_clients(struct lh_ingestd *ingestd, struct lh_ingest_worker *worker,
                                   struct lh_error *error)
{
    const struct lh_ingestd_options *options = &ingestd->options;
    const struct lh_object_client_options objects = {.storaged = options->storaged,
                                                     .url = options->storaged_url,
                                                     .token = options->token,
                                                     .is_cancelled = lh_ingest_worker_is_cancelled,
                                                     .arg = worker};
    const struct lh_catalog_client_options catalog = {.catalogd = options->catalogd,
                                                      .url = options->catalogd_url,
                                                      .token = options->token,
                                                      .is_cancelled = lh_ingest_worker_is_cancelled,
                                                      .arg = worker};
    enum lh_status status = lh_object_client_create(&objects, &worker->objects, error);
    return status == LH_OK ? lh_catalog_client_create(&catalog, &worker->catalog, error) : status;
}

static enum lh_status make_workers(struct lh_ingestd *ingestd, struct lh_error *error)
{
    struct lh_mailbox *loop = lh_http_server_mailbox(ingestd->options.http);
    enum lh_status status = LH_OK;
    ingestd->workers = calloc(ingestd->worker_count, sizeof *ingestd->workers);
    if (ingestd->workers == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for ingest workers");
    for (uint32_t i = 0; i < ingestd->worker_count && status == LH_OK; i++) {
        lh_ingest_worker_init(&ingestd->workers[i], i, ingestd->sql, ingestd->folder.path, loop,
                              ingestd->options.log);
        ingestd->workers_made++;
        status = make_clients(ingestd, &ingestd->workers[i], error);
    }
    return status;
}

static enum lh_status open_sql(struct lh_ingestd *ingestd, const struct lh_config *config,
                               struct lh_error *error)
{
    char spill[PATH_MAX + 8];
    uint64_t memory = lh_config_integer(config, "ingestd.memory_limit");
    lh_work_folder_empty_below(&ingestd->folder, "spill");
    snprintf(spill, sizeof spill, "%sspill", ingestd->folder.path);
    const struct lh_sql_options options = {.folder = ingestd->folder.path,
                                           .spill_folder = spill,
                                           .memory_bytes = memory,
                                           .spill_bytes = SPILL_SHARE * memory};
    return lh_sql_open(&options, &ingestd->sql, error);
}

/* Why there can be no ingest here, in `reason`; LH_OK: there can. */
static enum lh_status check_needs(struct lh_ingestd *ingestd)
{
    const struct lh_ingestd_options *options = &ingestd->options;
    struct lh_sql_options none = {0};
    if (lh_sql_version() == NULL)
        return lh_sql_open(&none, &ingestd->sql, &ingestd->reason);
    if (options->storaged == NULL && options->storaged_url.len == 0)
        return lh_error_set(&ingestd->reason, LH_NOT_IMPLEMENTED,
                            "datasets have nowhere to be: configure [storaged] root, or "
                            "[ingestd] storaged_url");
    if (options->catalogd == NULL && options->catalogd_url.len == 0)
        return lh_error_set(&ingestd->reason, LH_NOT_IMPLEMENTED,
                            "there is no catalog: configure [ingestd] catalogd_url");
    return LH_OK;
}

/* ---- the service ---- */

enum lh_status lh_ingestd_init(struct lh_ingestd *ingestd, const struct lh_config *config,
                               const struct lh_ingestd_options *options, struct lh_error *error)
{
    *ingestd = (struct lh_ingestd){
        .options = *options,
        .next_number = 1,
        .bytes_max = lh_config_integer(config, "ingestd.max_ingest_bytes"),
        .text_bytes_max = lh_config_integer(config, "ingestd.max_decompressed_bytes"),
        .worker_count = (uint32_t)lh_config_integer(config, "ingestd.workers"),
    };
    if (check_needs(ingestd) != LH_OK)
        return LH_OK; /* its routes say so */
    enum lh_status status = make_spool(ingestd, config, error);
    if (status == LH_OK)
        status = open_sql(ingestd, config, error);
    return status == LH_OK ? make_workers(ingestd, error) : status;
}

enum lh_status lh_ingestd_start(struct lh_ingestd *ingestd, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    if (ingestd->has_spool)
        status = lh_actor_start(&ingestd->spool.actor, error);
    for (uint32_t i = 0; i < ingestd->workers_made && status == LH_OK; i++)
        status = lh_actor_start(&ingestd->workers[i].actor, error);
    return status;
}

void lh_ingestd_stop(struct lh_ingestd *ingestd)
{
    for (uint32_t i = 0; i < ingestd->workers_made; i++)
        lh_actor_stop(&ingestd->workers[i].actor);
    for (uint32_t i = 0; i < ingestd->workers_made; i++)
        lh_actor_join(&ingestd->workers[i].actor);
    if (!ingestd->has_spool)
        return;
    lh_actor_stop(&ingestd->spool.actor);
    lh_actor_join(&ingestd->spool.actor);
}

void lh_ingestd_deinit(struct lh_ingestd *ingestd)
{
    for (struct lh_ingest_job *job = ingestd->jobs, *next; job != NULL; job = next) {
        next = job->next;
        lh_ingest_job_destroy(job);
    }
    for (uint32_t i = 0; i < ingestd->workers_made; i++)
        lh_ingest_worker_deinit(&ingestd->workers[i]);
    free(ingestd->workers);
    if (ingestd->sql != NULL)
        lh_sql_close(ingestd->sql);
    if (ingestd->has_spool)
        lh_ingest_spool_deinit(&ingestd->spool);
    lh_work_folder_end(&ingestd->folder);
}

/* ---- metrics ---- */

static void append(struct lh_buf *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    lh_metrics_family(out, name, type, help);
    lh_metrics_sample(out, name, "", (double)value);
}

void lh_ingestd_metrics(const struct lh_ingestd *ingestd, struct lh_buf *out)
{
    uint64_t files = 0, errors = 0, rows = 0, bytes_in = 0, bytes_out = 0;
    for (uint32_t i = 0; i < ingestd->workers_made; i++) {
        const struct lh_ingest_worker_metrics *metrics = &ingestd->workers[i].metrics;
        files += lh_counter_get(&metrics->files);
        errors += lh_counter_get(&metrics->errors);
        rows += lh_counter_get(&metrics->rows);
        bytes_in += lh_counter_get(&metrics->bytes_in);
        bytes_out += lh_counter_get(&metrics->bytes_out);
    }
    append(out, "lakehouse_ingest_files_total", "counter", "Uploads that were converted, or tried",
           files);
    append(out, "lakehouse_ingest_errors_total", "counter", "Of them, those that failed", errors);
    append(out, "lakehouse_ingest_rows_total", "counter", "Rows converted to Parquet", rows);
    append(out, "lakehouse_ingest_bytes_total", "counter", "Bytes of the uploads converted",
           bytes_in);
    append(out, "lakehouse_ingest_parquet_bytes_total", "counter", "Bytes of the datasets made",
           bytes_out);
    append(out, "lakehouse_ingest_active", "gauge", "Ingests under way", ingestd->active);
    append(out, "lakehouse_ingest_refused_total", "counter", "Uploads refused for their number",
           ingestd->refused);
    append(out, "lakehouse_ingest_cancelled_total", "counter", "Ingests cancelled by DELETE",
           ingestd->cancelled);
}
