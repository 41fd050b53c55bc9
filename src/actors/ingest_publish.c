/* From a Parquet file to a registered dataset: named by its hash, stored, registered. The worker's
 * thread.
 *
 * Between storing and registering, an object is there that no manifest names. Before it is stored,
 * a pending file in the spool is durable that says so; whoever finds it later, this worker when the
 * registration fails or the next process after a crash, deletes the object unless a manifest has
 * come to name it. One key can come again, when the same file does: then older versions of its
 * dataset name it. */
#include "actors/ingest_worker.h"

#include "actors/catalog.h"
#include "actors/ingest_spool.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_BLOCK_BYTES  (256u << 10)
#define PENDING_BYTES_MAX 4096u /* two keys of at most 352 bytes, and a name */

/* ---- names ---- */

static enum lh_status read_block(int file, uint64_t offset, void *to, size_t len, size_t *got,
                                 struct lh_error *error)
{
    ssize_t result;
    do
        result = pread(file, to, len, (off_t)offset);
    while (result < 0 && errno == EINTR);
    *got = result > 0 ? (size_t)result : 0;
    return result >= 0
               ? LH_OK
               : lh_error_sys(error, LH_DISK_FAILED, errno, "the Parquet file cannot be read");
}

static enum lh_status hash_blocks(int file, EVP_MD_CTX *hash, uint64_t bytes,
                                  struct lh_error *error)
{
    char *block = malloc(HASH_BLOCK_BYTES);
    enum lh_status status = block != NULL ? LH_OK
                                          : lh_error_set(error, LH_OUT_OF_MEMORY, "%s",
                                                         lh_status_text(LH_OUT_OF_MEMORY));
    size_t got;
    for (uint64_t at = 0; status == LH_OK && at < bytes; at += got) {
        status = read_block(file, at, block, HASH_BLOCK_BYTES, &got, error);
        if (status == LH_OK && (got == 0 || EVP_DigestUpdate(hash, block, got) != 1))
            status = lh_error_set(error, LH_DISK_FAILED, "the Parquet file has become shorter");
    }
    free(block);
    return status;
}

/* The file's SHA-256, and the key that follows from it. */
static enum lh_status fingerprint(struct lh_ingest_made *made, struct lh_error *error)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int file = open(made->path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return lh_error_sys(error, LH_DISK_FAILED, errno, "the Parquet file cannot be read");
    /* Storing it waits for the device, which may as well begin now. */
    (void)sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    enum lh_status status = LH_OK;
    if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a hash");
    if (status == LH_OK)
        status = hash_blocks(file, hash, made->bytes, error);
    if (status == LH_OK && EVP_DigestFinal_ex(hash, digest, &len) != 1)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a hash");
    EVP_MD_CTX_free(hash);
    close(file);
    for (unsigned i = 0; status == LH_OK && i < len && 2 * i + 2 < sizeof made->fingerprint; i++)
        snprintf(made->fingerprint + (size_t)2 * i, 3, "%02x", digest[i]);
    snprintf(made->key, sizeof made->key, LH_DATASET_FOLDER "%s/%s.parquet", made->name,
             made->fingerprint);
    return status;
}

/* ---- pending files ---- */

static enum lh_status sync_folder(const char *path)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return LH_DISK_FAILED;
    int result = fsync(folder);
    close(folder);
    return result == 0 ? LH_OK : LH_DISK_FAILED;
}

/* The name of the job's dataset, then "name key" of each object, a line each. */
static enum lh_status write_pending(const struct lh_ingest_worker *worker,
                                    const struct lh_ingest_made *made, uint32_t count,
                                    struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    char path[PATH_MAX];
    lh_spool_path(path, worker->folder, LH_SPOOL_PENDING, worker->job->number);
    lh_buf_printf(&text, "%s\n", worker->job->name);
    for (uint32_t i = 0; i < count; i++)
        lh_buf_printf(&text, "%s %s\n", made[i].name, made[i].key);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_written = file >= 0 && !lh_buf_failed(&text) &&
                      write(file, text.ptr, text.len) == (ssize_t)text.len && fdatasync(file) == 0;
    int reason = errno;
    if (file >= 0)
        close(file);
    lh_buf_deinit(&text);
    if (is_written && sync_folder(worker->folder) == LH_OK)
        return LH_OK;
    return lh_error_sys(error, reason == ENOSPC ? LH_NO_SPACE : LH_DISK_FAILED, reason,
                        "the spool cannot be written");
}

static struct lh_str next_word(struct lh_str *text, char end)
{
    const char *at = text->len > 0 ? memchr(text->ptr, end, text->len) : NULL;
    struct lh_str word = {text->ptr, at != NULL ? (size_t)(at - text->ptr) : text->len};
    size_t used = word.len + (at != NULL);
    *text = (struct lh_str){text->ptr + used, text->len - used};
    return word;
}

/* ---- objects that nobody names ---- */

static bool names_key(const struct lh_manifest *manifest, struct lh_str key)
{
    bool is_named = false;
    for (uint32_t i = 0; i < manifest->count; i++)
        is_named |= lh_str_eq(manifest->objects[i].key, key);
    return is_named;
}

/* Whether any version of the dataset names the key. A version that cannot be read may. */
static enum lh_status is_named(struct lh_ingest_worker *worker, struct lh_str name,
                               struct lh_str key, bool *result, struct lh_error *error)
{
    struct lh_manifest *manifest;
    enum lh_status status = lh_catalog_client_get(worker->catalog, name, 0, &manifest, error);
    *result = status == LH_DATASET_FAILED;
    if (status == LH_DATASET_NOT_FOUND || status == LH_DATASET_FAILED)
        return LH_OK;
    if (status != LH_OK)
        return status;
    uint64_t version = manifest->version;
    *result = names_key(manifest, key);
    lh_manifest_destroy(manifest);
    while (!*result && --version > 0) {
        status = lh_catalog_client_get(worker->catalog, name, version, &manifest, error);
        if (status == LH_VERSION_NOT_FOUND)
            continue;
        if (status == LH_DATASET_NOT_FOUND)
            return LH_OK;
        if (status != LH_OK && status != LH_DATASET_FAILED)
            return status;
        *result = status == LH_DATASET_FAILED || names_key(manifest, key);
        if (status == LH_OK)
            lh_manifest_destroy(manifest);
    }
    return LH_OK;
}

static enum lh_status release(struct lh_ingest_worker *worker, struct lh_str name,
                              struct lh_str key, struct lh_error *error)
{
    bool is_kept;
    enum lh_status status = is_named(worker, name, key, &is_kept, error);
    if (status != LH_OK || is_kept)
        return status;
    return lh_object_client_delete(worker->objects, key, error);
}

enum lh_status lh__ingest_sweep(struct lh_ingest_worker *worker, const struct lh_ingest_job *job,
                                struct lh_error *error)
{
    char path[PATH_MAX], bytes[PENDING_BYTES_MAX];
    lh_spool_path(path, worker->folder, LH_SPOOL_PENDING, job->number);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        return LH_OK;
    ssize_t got = file >= 0 ? read(file, bytes, sizeof bytes) : -1;
    int reason = errno;
    if (file >= 0)
        close(file);
    if (got < 0)
        return lh_error_sys(error, LH_DISK_FAILED, reason, "the spool cannot be read");
    struct lh_str text = {bytes, (size_t)got};
    enum lh_status status = LH_OK;
    next_word(&text, '\n');
    while (text.len > 0 && status == LH_OK) {
        struct lh_str key = next_word(&text, '\n');
        struct lh_str name = next_word(&key, ' ');
        /* One that was cut off by a crash was not acted upon. */
        if (lh_dataset_name_is_valid(name) && key.len > 0 && text.ptr[-1] == '\n')
            status = release(worker, name, key, error);
    }
    if (status != LH_OK)
        return status;
    lh_spool_remove(worker->folder, LH_SPOOL_PENDING, job->number);
    return LH_OK;
}

/* ---- storing and registering ---- */

static enum lh_status store(struct lh_ingest_worker *worker, const struct lh_ingest_made *made,
                            struct lh_error *error)
{
    struct lh_object_info info;
    struct lh_error none;
    struct lh_str key = lh_str_of(made->key);
    if (lh_object_client_head(worker->objects, key, &info, &none) == LH_OK &&
        info.size == made->bytes)
        return LH_OK; /* the key is the hash of what is there */
    return lh_object_client_put_file(worker->objects, key, made->path, made->bytes,
                                     "application/vnd.apache.parquet", NULL, error);
}

static enum lh_status enroll(struct lh_ingest_worker *worker, struct lh_ingest_made *made,
                             struct lh_error *error)
{
    struct lh_manifest_object object = {.key = lh_str_of(made->key),
                                        .size = made->bytes,
                                        .fingerprint = lh_str_of(made->fingerprint)};
    const struct lh_manifest asked = {.name = lh_str_of(made->name),
                                      .fingerprint = lh_str_of(made->fingerprint),
                                      .objects = &object,
                                      .count = 1,
                                      .schema_json = made->columns,
                                      .has_row_count = true,
                                      .row_count = made->rows};
    return lh_catalog_client_register(worker->catalog, &asked, made->mode, &made->manifest,
                                      &made->is_new, error);
}

/* What the registration would refuse is refused before anything is stored. */
static enum lh_status look_for_conflict(struct lh_ingest_worker *worker,
                                        const struct lh_ingest_made *made, struct lh_error *error)
{
    struct lh_manifest *manifest;
    if (made->mode != LH_REGISTER_CREATE)
        return LH_OK;
    enum lh_status status =
        lh_catalog_client_get(worker->catalog, lh_str_of(made->name), 0, &manifest, error);
    if (status == LH_DATASET_NOT_FOUND)
        return LH_OK;
    if (status != LH_OK)
        return status;
    if (!lh_str_eq(manifest->fingerprint, lh_str_of(made->fingerprint)))
        status = lh_error_set(error, LH_FINGERPRINT_CONFLICT,
                              "dataset \"%.60s\" is there with other contents: say mode=replace or "
                              "mode=append",
                              made->name);
    lh_manifest_destroy(manifest);
    return status;
}

static enum lh_status put_in_force(struct lh_ingest_worker *worker, struct lh_ingest_made *made,
                                   uint32_t count, struct lh_error *error)
{
    enum lh_status status = write_pending(worker, made, count, error);
    worker->may_be_cancelled = true;
    for (uint32_t i = 0; i < count && status == LH_OK; i++)
        status = store(worker, &made[i], error);
    worker->may_be_cancelled = false;
    if (status == LH_OK &&
        (lh_counter_get(&worker->job->is_cancelled) != 0 ||
         !lh_counter_swap(&worker->job->fate, LH_INGEST_OPEN, LH_INGEST_REGISTERED)))
        status = lh_error_set(error, LH_CLOSED, "cancelled");
    if (status != LH_OK)
        return status;
    lh_counter_set(&worker->job->state, LH_INGEST_REGISTERING);
    for (uint32_t i = 0; i < count && status == LH_OK; i++)
        status = enroll(worker, &made[i], error);
    worker->job->is_unsettled = status == LH_BAD_GATEWAY;
    return status;
}

enum lh_status lh__ingest_publish(struct lh_ingest_worker *worker, struct lh_ingest_made *made,
                                  uint32_t count, struct lh_error *error)
{
    struct lh_error trouble = {.status = LH_OK};
    enum lh_status status = LH_OK;
    lh_counter_set(&worker->job->state, LH_INGEST_STORING);
    for (uint32_t i = 0; i < count && status == LH_OK; i++)
        status = fingerprint(&made[i], error);
    if (status == LH_OK)
        status = look_for_conflict(worker, &made[count - 1], error);
    if (status != LH_OK)
        return status;
    status = put_in_force(worker, made, count, error);
    if (status == LH_OK) {
        lh_spool_remove(worker->folder, LH_SPOOL_PENDING, worker->job->number);
        return LH_OK;
    }
    for (uint32_t i = 0; i < count; i++) { /* rejected lines of what was not loaded */
        if (made[i].manifest != NULL && made[i].is_new && made[i].manifest->version == 1)
            (void)!lh_catalog_client_delete(worker->catalog, lh_str_of(made[i].name), false,
                                            &trouble);
    }
    if (worker->job->is_unsettled) /* who names the objects is not known before that has ended */
        lh_error_set(&trouble, LH_BAD_GATEWAY, "the catalog may still register it");
    worker->job->leaves_objects =
        worker->job->is_unsettled || lh__ingest_sweep(worker, worker->job, &trouble) != LH_OK;
    if (worker->job->leaves_objects)
        lh_log_line(worker->log, LH_LOG_WARN, "objects of a failed ingest are still there",
                    LH_LOG_TEXT("dataset", worker->job->name), LH_LOG_TEXT("reason", trouble.text));
    return status;
}
