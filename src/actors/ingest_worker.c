/* Ingest workers. Each runs on a thread of its own, and blocks: in DuckDB, and in calls of the
 * object store and the catalog.
 *
 * Nothing of an ingest is to be seen before its last step, the registration; what it leaves in the
 * spool is removed whatever comes of it. The loop gives no two jobs that touch the same dataset to
 * workers at a time. */
#include "actors/ingest_worker.h"

#include "actors/ingest_spool.h"
#include "actors/ingestd.h"
#include "base/clock.h"
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool lh_ingest_worker_is_cancelled(void *arg)
{
    struct lh_ingest_worker *worker = arg;
    if (lh_mailbox_is_shut(&worker->actor.mailbox))
        return true;
    return worker->may_be_cancelled && worker->job != NULL &&
           lh_counter_get(&worker->job->is_cancelled) != 0;
}

static enum lh_status check_cancelled(const struct lh_ingest_job *job, struct lh_error *error)
{
    if (lh_counter_get(&job->is_cancelled) == 0)
        return LH_OK;
    return lh_error_set(error, LH_CANCELLED, "the ingest was cancelled");
}

/* The first upload opens the ingest, and the loop is told: it can be interrupted from then on. */
static enum lh_status connect(struct lh_ingest_worker *worker, struct lh_error *error)
{
    if (worker->ingest != NULL)
        return LH_OK;
    enum lh_status status = lh_ingest_create(worker->sql, &worker->ingest, error);
    if (status != LH_OK)
        return status;
    worker->ready.head = (struct lh_msg){.type = LH_MSG_INGEST_READY, .lane = LH_LANE_BULK};
    worker->ready.worker = worker;
    status = lh_mailbox_push(worker->loop, &worker->ready.head);
    assert(status == LH_OK); /* the workers stop after the loop */
    return status;
}

static enum lh_status convert(struct lh_ingest_worker *worker, const struct lh_ingest_job *job,
                              struct lh_ingest_result *result, struct lh_error *error)
{
    char upload[PATH_MAX], parquet[PATH_MAX], rejected[PATH_MAX];
    lh_spool_path(upload, worker->folder, LH_SPOOL_UPLOAD, job->number);
    lh_spool_path(parquet, worker->folder, LH_SPOOL_PARQUET, job->number);
    lh_spool_path(rejected, worker->folder, LH_SPOOL_REJECTED, job->number);
    const struct lh_ingest_source source = {.path = upload,
                                            .format = job->format,
                                            .compression = job->compression,
                                            .dialect = {.delim = job->texts.delim,
                                                        .quote = job->texts.quote,
                                                        .escape = job->texts.escape,
                                                        .nullstr = job->texts.nullstr,
                                                        .types = job->texts.types,
                                                        .header = job->header},
                                            .scan = &job->scan,
                                            .text_bytes_max = job->ingestd->text_bytes_max};
    const struct lh_ingest_target target = {
        .parquet = parquet, .rejected = *job->rejected_name != '\0' ? rejected : NULL};
    enum lh_status status = lh_ingest_run(worker->ingest, &source, &target, result, error);
    lh_counter_add(&worker->metrics.rows, status == LH_OK ? result->rows : 0);
    lh_counter_add(&worker->metrics.bytes_in, job->scan.bytes);
    return status;
}

static enum lh_status measure(struct lh_ingest_made *made, struct lh_error *error)
{
    struct stat about;
    if (stat(made->path, &about) != 0)
        return lh_error_set(error, LH_DISK_FAILED, "the Parquet file is gone");
    made->bytes = (uint64_t)about.st_size;
    return LH_OK;
}

static void append_made(struct lh_buf *out, const struct lh_ingest_made *made)
{
    lh_buf_append_str(out, LH_STR("{\"name\":"));
    lh_buf_append_json_string(out, lh_str_of(made->name));
    lh_buf_printf(
        out, ",\"dataset_id\":\"%s\",\"version\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"columns\":",
        made->manifest->dataset_id, made->manifest->version, made->rows);
    lh_buf_append_str(out, made->columns);
    lh_buf_append_str(out, LH_STR(",\"key\":"));
    lh_buf_append_json_string(out, lh_str_of(made->key));
    lh_buf_printf(out, ",\"bytes\":%" PRIu64 ",\"fingerprint\":\"%s\"", made->bytes,
                  made->fingerprint);
}

/* The rejected lines' dataset comes first: the main one is what makes all of it visible. */
static enum lh_status publish(struct lh_ingest_worker *worker, struct lh_ingest_job *job,
                              const struct lh_ingest_result *result, struct lh_error *error)
{
    struct lh_ingest_made made[2] = {0};
    struct lh_ingest_made *main = &made[result->rejected > 0];
    uint32_t count = result->rejected > 0 ? 2 : 1;
    memcpy(main->name, job->name, sizeof main->name);
    main->rows = result->rows;
    main->columns = lh_buf_str(&result->columns);
    main->mode = job->mode;
    lh_spool_path(main->path, worker->folder, LH_SPOOL_PARQUET, job->number);
    if (count == 2) {
        memcpy(made->name, job->rejected_name, sizeof made->name);
        made->rows = result->rejected;
        made->columns = lh_buf_str(&result->rejected_columns);
        made->mode = job->mode == LH_REGISTER_APPEND ? LH_REGISTER_APPEND : LH_REGISTER_REPLACE;
        lh_spool_path(made->path, worker->folder, LH_SPOOL_REJECTED, job->number);
    }
    enum lh_status status = measure(main, error);
    if (status == LH_OK && count == 2)
        status = measure(made, error);
    if (status == LH_OK)
        status = lh__ingest_publish(worker, made, count, error);
    if (status == LH_OK) {
        job->http_status = main->is_new ? 201 : 200;
        append_made(&job->answer, main);
        lh_buf_append_str(&job->answer, LH_STR(",\"request_id\":"));
        lh_buf_append_json_string(&job->answer, lh_str_of(job->id));
        if (count == 2) {
            lh_buf_append_str(&job->answer, LH_STR(",\"rejected\":"));
            append_made(&job->answer, made);
            lh_buf_append_char(&job->answer, '}');
        }
        lh_buf_append_str(&job->answer, LH_STR("}\n"));
        lh_counter_add(&worker->metrics.bytes_out, main->bytes);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (made[i].manifest != NULL)
            lh_manifest_destroy(made[i].manifest);
    }
    return status;
}

static enum lh_status run(struct lh_ingest_worker *worker, struct lh_ingest_job *job)
{
    struct lh_ingest_result result = {0};
    struct lh_error error;
    enum lh_status status = check_cancelled(job, &error);
    if (status == LH_OK)
        status = connect(worker, &error);
    if (status == LH_OK)
        status = convert(worker, job, &result, &error);
    if (status == LH_OK)
        status = check_cancelled(job, &error);
    if (status == LH_OK)
        status = publish(worker, job, &result, &error);
    if (status == LH_CLOSED)
        status = lh_error_set(&error, LH_CANCELLED, "the ingest was cancelled");
    if (status != LH_OK)
        job->error = error;
    else
        job->rows = result.rows;
    lh_ingest_result_deinit(&result);
    return status;
}

/* The files lose their names; the pages of the upload, which take their time to free, are freed
 * when the descriptor that this returns is closed. */
static int clean(const struct lh_ingest_worker *worker, const struct lh_ingest_job *job)
{
    char upload[PATH_MAX];
    lh_spool_path(upload, worker->folder, LH_SPOOL_UPLOAD, job->number);
    int file = open(upload, O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < LH_SPOOL_PENDING; i++)
        lh_spool_remove(worker->folder, (enum lh_spool_file)i, job->number);
    return file;
}

static void handle(struct lh_ingest_worker *worker, struct lh_ingest_job *job)
{
    uint64_t started = lh_clock_ns();
    int upload = -1;
    worker->job = job;
    /* An interrupt that is still there was for the job before: the loop repeats those of this one.
     */
    if (worker->ingest != NULL)
        lh_ingest_resume(worker->ingest);
    lh_counter_set(&job->has_begun, 1);
    if (job->kind == LH_INGEST_SWEEP) {
        struct lh_error error;
        if (lh__ingest_sweep(worker, job, &error) != LH_OK)
            job->error = error;
    } else {
        enum lh_status status = run(worker, job);
        lh_counter_add(&worker->metrics.files, 1);
        lh_counter_add(&worker->metrics.errors, status != LH_OK);
        upload = clean(worker, job);
    }
    lh_counter_add(&worker->metrics.busy_ns, lh_clock_ns() - started);
    worker->job = NULL;
    enum lh_status pushed = lh_mailbox_push(worker->loop, &job->head);
    assert(pushed == LH_OK); /* the workers stop after the loop */
    (void)pushed;
    if (upload >= 0)
        close(upload);
    if (worker->ingest != NULL)
        lh_ingest_rest(worker->ingest);
}

static void run_actor(void *self)
{
    struct lh_ingest_worker *worker = self;
    struct lh_msg *msg;
    while (lh_actor_wait(&worker->actor)) {
        while ((msg = lh_actor_next(&worker->actor)) != NULL)
            handle(worker, (struct lh_ingest_job *)msg);
    }
}

void lh_ingest_worker_init(struct lh_ingest_worker *worker, uint32_t number, struct lh_sql *sql,
                           const char *folder, struct lh_mailbox *loop, const struct lh_log *log)
{
    *worker = (struct lh_ingest_worker){.loop = loop, .sql = sql, .folder = folder, .log = log};
    snprintf(worker->name, sizeof worker->name, "ingest-%u", number);
    lh_actor_init(&worker->actor, worker->name, run_actor, worker);
}

void lh_ingest_worker_deinit(struct lh_ingest_worker *worker)
{
    if (worker->ingest != NULL)
        lh_ingest_destroy(worker->ingest);
    if (worker->objects != NULL)
        lh_object_client_destroy(worker->objects);
    if (worker->catalog != NULL)
        lh_catalog_client_destroy(worker->catalog);
    lh_actor_deinit(&worker->actor);
}
