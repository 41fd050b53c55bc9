/* The spool's thread, and the names of its files.
 *
 * Uploads are written as they come, a piece at a time each, and are looked at on the way: forms are
 * taken apart, and bytes that no text may hold are found while they are in the cache. Nothing is
 * synced: after a crash, what was not answered is not there. */
#include "actors/ingest_spool.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const endings[LH_SPOOL_FILES] = {"upload", "parquet", "rejected", "pending"};

struct lh_ingest_job *lh_ingest_job_create(enum lh_ingest_kind kind)
{
    struct lh_ingest_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->head = (struct lh_msg){.type = LH_MSG_INGEST, .lane = LH_LANE_BULK};
    job->kind = kind;
    job->file = -1;
    job->scan = (struct lh_text_scan)LH_TEXT_SCAN_EMPTY;
    return job;
}

void lh_ingest_job_destroy(struct lh_ingest_job *job)
{
    assert(job->file < 0);
    free(job->texts.delim);
    free(job->texts.quote);
    free(job->texts.escape);
    free(job->texts.nullstr);
    free(job->texts.types);
    lh_buf_deinit(&job->piece);
    lh_buf_deinit(&job->gathered);
    lh_buf_deinit(&job->answer);
    free(job);
}

/* ---- files ---- */

void lh_spool_path(char path[PATH_MAX], const char *folder, enum lh_spool_file file,
                   uint64_t number)
{
    int len = snprintf(path, PATH_MAX, "%s%" PRIu64 ".%s", folder, number, endings[file]);
    assert(len > 0 && len < PATH_MAX); /* the folder leaves room */
    (void)len;
}

void lh_spool_remove(const char *folder, enum lh_spool_file file, uint64_t number)
{
    char path[PATH_MAX];
    lh_spool_path(path, folder, file, number);
    (void)unlink(path);
}

/* "17.upload". */
static bool read_name(const char *name, enum lh_spool_file *file, uint64_t *number)
{
    const char *dot = strchr(name, '.');
    if (dot == NULL || !lh_str_to_u64((struct lh_str){name, (size_t)(dot - name)}, number))
        return false;
    for (unsigned i = 0; i < LH_SPOOL_FILES; i++) {
        *file = (enum lh_spool_file)i;
        if (strcmp(dot + 1, endings[i]) == 0)
            return true;
    }
    return false;
}

enum lh_status lh_spool_clean(const char *folder, void (*each)(uint64_t number, void *arg),
                              void *arg, struct lh_error *error)
{
    enum lh_spool_file file;
    struct dirent *entry;
    uint64_t number;
    DIR *listing = opendir(folder);
    if (listing == NULL)
        return lh_error_sys(error, LH_IO, errno, "folder %.100s", folder);
    while ((entry = readdir(listing)) != NULL) {
        if (!read_name(entry->d_name, &file, &number))
            continue;
        if (file == LH_SPOOL_PENDING)
            each(number, arg);
        else
            lh_spool_remove(folder, file, number);
    }
    closedir(listing);
    return LH_OK;
}

/* ---- uploads ---- */

static enum lh_status write_all(struct lh_str bytes, void *arg, struct lh_error *error)
{
    struct lh_ingest_job *job = arg;
    lh_text_scan_add(&job->scan, bytes);
    while (bytes.len > 0) {
        ssize_t wrote = write(job->file, bytes.ptr, bytes.len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0 && (errno == ENOSPC || errno == EDQUOT))
            return lh_error_set(error, LH_NO_SPACE, "the disk is full: the upload is not kept");
        if (wrote < 0)
            return lh_error_sys(error, LH_DISK_FAILED, errno, "the upload cannot be written");
        bytes = (struct lh_str){bytes.ptr + wrote, bytes.len - (size_t)wrote};
    }
    return LH_OK;
}

static enum lh_status open_file(struct lh_ingest_spool *spool, struct lh_ingest_job *job)
{
    char path[PATH_MAX];
    if (job->file >= 0)
        return LH_OK;
    lh_spool_path(path, spool->folder, LH_SPOOL_UPLOAD, job->number);
    job->file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (job->file >= 0)
        return LH_OK;
    if (errno == ENOSPC || errno == EDQUOT)
        return lh_error_set(&job->error, LH_NO_SPACE, "the disk is full: the upload is not kept");
    return lh_error_sys(&job->error, LH_DISK_FAILED, errno, "the upload cannot be written");
}

static enum lh_status take_piece(struct lh_ingest_spool *spool, struct lh_ingest_job *job)
{
    const struct lh_multipart_sink sink = {write_all, job};
    enum lh_status status = open_file(spool, job);
    if (status != LH_OK)
        return status;
    lh_counter_add(&spool->bytes, job->piece.len);
    if (!job->is_form)
        return write_all(lh_buf_str(&job->piece), job, &job->error);
    status = lh_multipart_take(&job->form, lh_buf_str(&job->piece), &sink, &job->error);
    return status == LH_OK && job->is_last ? lh_multipart_end(&job->form, &job->error) : status;
}

static void close_file(struct lh_ingest_job *job)
{
    if (job->file >= 0)
        close(job->file);
    job->file = -1;
}

static void handle(struct lh_ingest_spool *spool, struct lh_ingest_job *job)
{
    if (!job->is_abort && job->error.status == LH_OK)
        (void)!take_piece(spool, job);
    if (job->is_abort || job->error.status != LH_OK) {
        close_file(job);
        lh_spool_remove(spool->folder, LH_SPOOL_UPLOAD, job->number);
    } else if (job->is_last) {
        close_file(job);
    }
    job->piece.len = 0;
    enum lh_status status = lh_mailbox_push(spool->loop, &job->head);
    assert(status == LH_OK); /* the spool stops after the loop */
    (void)status;
}

static void run(void *self)
{
    struct lh_ingest_spool *spool = self;
    struct lh_msg *msg;
    while (lh_actor_wait(&spool->actor)) {
        while ((msg = lh_actor_next(&spool->actor)) != NULL)
            handle(spool, (struct lh_ingest_job *)msg);
    }
}

void lh_ingest_spool_init(struct lh_ingest_spool *spool, const char *folder,
                          struct lh_mailbox *loop)
{
    *spool = (struct lh_ingest_spool){.loop = loop, .folder = folder};
    lh_actor_init(&spool->actor, "ingest-spool", run, spool);
}

void lh_ingest_spool_deinit(struct lh_ingest_spool *spool)
{
    lh_actor_deinit(&spool->actor);
}
