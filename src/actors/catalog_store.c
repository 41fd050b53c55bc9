/* Manifests in the object store. Runs on the store's own thread, and blocks: in the object store,
 * over HTTP where that is elsewhere, and in DuckDB.
 *
 * Invariants: a version is written once (If-None-Match) and never again; the tombstone of a
 * deletion is there before the first object goes, and goes after the last. */
#include "actors/catalog_store.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_BYTES       (sizeof LH_TOMBSTONE_FOLDER + LH_NAME_BYTES_MAX + 40u)
#define MEDIA_TYPE      "application/vnd.apache.parquet"
#define SUFFIX          ".parquet"
#define FILE_BYTES_MAX  (256u << 20) /* of a manifest: what is longer is none of ours */
#define BATCH_BYTES_MAX (64u << 20)  /* of manifests that are read at once */
#define TOMBSTONE_MAX   (256u << 20) /* of as many versions as there may be */

/* ---- jobs ---- */

struct lh_catalog_job *lh_catalog_job_create(enum lh_catalog_job_kind kind, enum lh_lane lane)
{
    struct lh_catalog_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->head = (struct lh_msg){.type = LH_MSG_CATALOG_JOB, .lane = (uint16_t)lane};
    job->kind = kind;
    return job;
}

void lh_catalog_job_destroy(struct lh_catalog_job *job)
{
    if (job == NULL)
        return;
    for (uint32_t i = 0; i < job->count; i++)
        lh_manifest_destroy(job->versions[i].manifest);
    free(job->versions);
    lh_manifest_destroy(job->manifest);
    lh_buf_deinit(&job->keys);
    lh_catalog_call_destroy(job->call);
    free(job);
}

enum lh_status lh_catalog_job_add(struct lh_catalog_job *job, struct lh_str name, uint64_t version)
{
    assert(name.len <= LH_NAME_BYTES_MAX);
    if (job->count == job->capacity) {
        uint32_t capacity = job->capacity == 0 ? 1 : 2 * job->capacity;
        struct lh_catalog_version *grown = realloc(job->versions, capacity * sizeof *grown);
        if (grown == NULL)
            return LH_OUT_OF_MEMORY;
        job->versions = grown;
        job->capacity = capacity;
    }
    struct lh_catalog_version *added = &job->versions[job->count++];
    *added = (struct lh_catalog_version){.version = version};
    memcpy(added->name, name.ptr, name.len);
    return LH_OK;
}

/* ---- keys ---- */

static struct lh_str manifest_key(const char *name, uint64_t version, char key[KEY_BYTES])
{
    int len = snprintf(key, KEY_BYTES, LH_MANIFEST_FOLDER "%s/%" PRIu64 SUFFIX, name, version);
    return (struct lh_str){key, (size_t)len};
}

static struct lh_str manifests_of(const char *name, char prefix[KEY_BYTES])
{
    int len = snprintf(prefix, KEY_BYTES, LH_MANIFEST_FOLDER "%s%s", name, *name != 0 ? "/" : "");
    return (struct lh_str){prefix, (size_t)len};
}

static struct lh_str tombstone_key(const char *name, char key[KEY_BYTES])
{
    int len = snprintf(key, KEY_BYTES, LH_TOMBSTONE_FOLDER "%s.json", name);
    return (struct lh_str){key, (size_t)len};
}

/* False: the key is no manifest's. */
static bool split_manifest_key(struct lh_str key, struct lh_str *name, uint64_t *version)
{
    static const struct lh_str suffix = LH_STR(SUFFIX);
    size_t folder = sizeof LH_MANIFEST_FOLDER - 1;
    const char *slash = key.len > folder ? memchr(key.ptr + folder, '/', key.len - folder) : NULL;
    if (slash == NULL)
        return false;
    *name = (struct lh_str){key.ptr + folder, (size_t)(slash - key.ptr) - folder};
    struct lh_str file = {slash + 1, key.len - folder - name->len - 1};
    if (!lh_dataset_name_is_valid(*name) || file.len <= suffix.len || *file.ptr == '0' ||
        memcmp(file.ptr + file.len - suffix.len, suffix.ptr, suffix.len) != 0)
        return false;
    file.len -= suffix.len;
    return lh_str_to_u64(file, version) && *version > 0;
}

/* ---- writing ---- */

/* What is registered must be there. */
static enum lh_status check_objects(struct lh_catalog_store *store,
                                    const struct lh_catalog_job *job, struct lh_error *error)
{
    const struct lh_manifest *manifest = job->manifest;
    for (uint32_t i = job->first_new; i < manifest->count; i++) {
        const struct lh_manifest_object *object = &manifest->objects[i];
        struct lh_object_info info;
        enum lh_status status = lh_object_client_head(store->objects, object->key, &info, error);
        if (status == LH_KEY_NOT_FOUND)
            return lh_error_set(error, LH_OBJECT_MISMATCH,
                                "objects[%" PRIu32 "].key: no object has the key \"%.80s\"",
                                i - job->first_new, object->key.ptr);
        if (status != LH_OK)
            return status;
        if (info.size != object->size)
            return lh_error_set(error, LH_OBJECT_MISMATCH,
                                "objects[%" PRIu32 "].size: %" PRIu64 ", the object has %" PRIu64
                                " bytes",
                                i - job->first_new, object->size, info.size);
    }
    return LH_OK;
}

/* A store that has no conditional put is looked at first: there, two catalogs that write the same
 * version in the same moment do not see one another. */
static enum lh_status put_once(struct lh_catalog_store *store, struct lh_str key,
                               struct lh_str bytes, struct lh_error *error)
{
    struct lh_object_info info;
    enum lh_status status =
        lh_object_client_put_new(store->objects, key, bytes, MEDIA_TYPE, NULL, error);
    if (status != LH_NOT_IMPLEMENTED)
        return status;
    status = lh_object_client_head(store->objects, key, &info, error);
    if (status == LH_OK)
        return lh_error_set(error, LH_PRECONDITION_FAILED, "the version is there");
    if (status != LH_KEY_NOT_FOUND)
        return status;
    return lh_object_client_put_bytes(store->objects, key, bytes, MEDIA_TYPE, NULL, error);
}

static enum lh_status write_manifest(struct lh_catalog_store *store, struct lh_catalog_job *job,
                                     struct lh_error *error)
{
    const struct lh_manifest *manifest = job->manifest;
    struct lh_buf bytes = LH_BUF_EMPTY;
    char key[KEY_BYTES];
    uint64_t started_ns = lh_clock_ns();
    enum lh_status status = check_objects(store, job, error);
    if (status == LH_OK)
        status = lh_catalog_files_write(&store->files, manifest, &bytes, error);
    if (status == LH_OK)
        status = put_once(store, manifest_key(job->name, manifest->version, key),
                          lh_buf_str(&bytes), error);
    lh_buf_deinit(&bytes);
    lh_counter_add(&store->metrics.writes, 1);
    lh_histogram_observe(&store->metrics.write_time, lh_clock_ns() - started_ns);
    return status;
}

/* ---- reading ---- */

/* The bytes of up to a batch of manifests, from `*next` on; which version each is, in `numbers`. */
static enum lh_status fetch(struct lh_catalog_store *store, struct lh_catalog_job *job,
                            uint32_t *next, struct lh_catalog_file *list, uint32_t *numbers,
                            uint32_t *count, struct lh_error *error)
{
    char key[KEY_BYTES];
    size_t bytes = 0;
    *count = 0;
    for (; *next < job->count && *count < LH_CATALOG_FILES_BATCH && bytes < BATCH_BYTES_MAX;
         (*next)++) {
        struct lh_catalog_version *version = &job->versions[*next];
        struct lh_catalog_file *file = &list[*count];
        *file =
            (struct lh_catalog_file){.name = lh_str_of(version->name), .version = version->version};
        enum lh_status status = lh_object_client_get_bytes(
            store->objects, manifest_key(version->name, version->version, key), &file->bytes,
            FILE_BYTES_MAX, error);
        bytes += file->bytes.len;
        if (status == LH_OK) {
            numbers[(*count)++] = *next;
            continue;
        }
        lh_buf_deinit(&file->bytes);
        if (status != LH_KEY_NOT_FOUND && status != LH_BODY_TOO_LARGE)
            return status;
        version->error = *error;
        if (status == LH_BODY_TOO_LARGE)
            version->error.status = LH_CORRUPT;
    }
    return LH_OK;
}

static enum lh_status read_manifests(struct lh_catalog_store *store, struct lh_catalog_job *job,
                                     struct lh_error *error)
{
    struct lh_catalog_file *list = calloc(LH_CATALOG_FILES_BATCH, sizeof *list);
    uint32_t numbers[LH_CATALOG_FILES_BATCH];
    enum lh_status status = LH_OK;
    uint32_t next = 0, count = 0;
    if (list == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for manifests");
    while (next < job->count && status == LH_OK) {
        status = fetch(store, job, &next, list, numbers, &count, error);
        if (status == LH_OK && count > 0)
            status = lh_catalog_files_read(&store->files, list, count, error);
        for (uint32_t i = 0; i < count; i++) {
            lh_buf_deinit(&list[i].bytes);
            job->versions[numbers[i]].manifest = list[i].manifest;
            job->versions[numbers[i]].error = list[i].error;
        }
    }
    lh_counter_add(&store->metrics.reads, job->count);
    free(list);
    return status;
}

/* ---- deleting ---- */

/* Deletes the keys that are gathered first: a list must not change under its own reading. */
static enum lh_status append_key(struct lh_buf *keys, struct lh_str key, struct lh_error *error)
{
    lh_buf_append_str(keys, key);
    lh_buf_append_char(keys, '\0');
    return lh_buf_failed(keys) ? lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for keys")
                               : LH_OK;
}

static enum lh_status add_key(const struct lh_object_listed *listed, void *arg,
                              struct lh_error *error)
{
    return append_key(arg, listed->key, error);
}

static enum lh_status delete_keys(struct lh_catalog_store *store, struct lh_str keys,
                                  struct lh_error *error)
{
    enum lh_status status = LH_OK;
    while (keys.len > 0 && status == LH_OK) {
        struct lh_str key = lh_str_of(keys.ptr);
        status = lh_object_client_delete(store->objects, key, error);
        keys = (struct lh_str){keys.ptr + key.len + 1, keys.len - key.len - 1};
    }
    return status;
}

/* All that a tombstone stands for, and then itself. */
static enum lh_status finish_deletion(struct lh_catalog_store *store, const char *name,
                                      struct lh_str purged, struct lh_error *error)
{
    struct lh_buf keys = LH_BUF_EMPTY;
    char text[KEY_BYTES];
    enum lh_status status =
        lh_object_client_list(store->objects, manifests_of(name, text), add_key, &keys, error);
    if (status == LH_OK)
        status = delete_keys(store, lh_buf_str(&keys), error);
    if (status == LH_OK)
        status = delete_keys(store, purged, error);
    if (status == LH_OK)
        status = lh_object_client_delete(store->objects, tombstone_key(name, text), error);
    lh_buf_deinit(&keys);
    if (status == LH_OK)
        lh_counter_add(&store->metrics.erases, 1);
    return status;
}

static enum lh_status erase(struct lh_catalog_store *store, struct lh_catalog_job *job,
                            struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY;
    char key[KEY_BYTES];
    struct lh_str left = lh_buf_str(&job->keys);
    lh_buf_printf(&text, "{\"name\":\"%s\",\"keys\":[", job->name);
    while (left.len > 0) {
        struct lh_str purged = lh_str_of(left.ptr);
        lh_buf_append_json_string(&text, purged);
        left = (struct lh_str){left.ptr + purged.len + 1, left.len - purged.len - 1};
        if (left.len > 0)
            lh_buf_append_char(&text, ',');
    }
    lh_buf_append_str(&text, LH_STR("]}\n"));
    enum lh_status status = LH_OUT_OF_MEMORY;
    if (lh_buf_failed(&text))
        lh_error_set(error, status, "not enough memory for the tombstone");
    else
        status = lh_object_client_put_bytes(store->objects, tombstone_key(job->name, key),
                                            lh_buf_str(&text), "application/json", NULL, error);
    lh_buf_deinit(&text);
    if (status == LH_OK)
        status = finish_deletion(store, job->name, lh_buf_str(&job->keys), error);
    return status;
}

/* ---- deletions that were begun ---- */

static enum lh_status read_tombstone(struct lh_str text, struct lh_buf *keys,
                                     struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root, list, value;
    struct lh_str key;
    enum lh_status status = lh_json_doc_create(text, &doc, &root, error);
    if (status != LH_OK)
        return status;
    if (!lh_json_get(root, "keys", &list) || !lh_json_is_array(list))
        status = lh_error_set(error, LH_CORRUPT, "keys: not an array");
    for (struct lh_json_iter iter = lh_json_elements(list);
         status == LH_OK && lh_json_next(&iter, &value);)
        status = lh_json_as_str(value, &key)
                     ? append_key(keys, key, error)
                     : lh_error_set(error, LH_CORRUPT, "keys: an element is not a string");
    lh_json_doc_destroy(doc);
    return status;
}

static enum lh_status resume_deletion(struct lh_catalog_store *store, struct lh_str name,
                                      struct lh_error *error)
{
    struct lh_buf text = LH_BUF_EMPTY, keys = LH_BUF_EMPTY;
    char z[LH_NAME_BYTES_MAX + 1] = "", key[KEY_BYTES];
    memcpy(z, name.ptr, name.len);
    enum lh_status status = lh_object_client_get_bytes(store->objects, tombstone_key(z, key), &text,
                                                       TOMBSTONE_MAX, error);
    if (status == LH_OK && read_tombstone(lh_buf_str(&text), &keys, error) != LH_OK) {
        /* It was put whole, so it is not ours any more; that it stands is what counts. */
        lh_log_line(store->log, LH_LOG_ERROR, "a tombstone is broken: objects may be left",
                    LH_LOG_TEXT("dataset", z), LH_LOG_TEXT("reason", error->text));
        keys.len = 0;
    }
    if (status == LH_OK)
        status = finish_deletion(store, z, lh_buf_str(&keys), error);
    if (status == LH_OK)
        lh_log_line(store->log, LH_LOG_INFO, "a deletion was finished", LH_LOG_TEXT("dataset", z));
    lh_buf_deinit(&keys);
    lh_buf_deinit(&text);
    return status == LH_KEY_NOT_FOUND ? LH_OK : status; /* there is none */
}

static enum lh_status resume_deletions(struct lh_catalog_store *store, struct lh_error *error)
{
    static const struct lh_str suffix = LH_STR(".json");
    size_t folder = sizeof LH_TOMBSTONE_FOLDER - 1;
    struct lh_buf keys = LH_BUF_EMPTY;
    enum lh_status status =
        lh_object_client_list(store->objects, LH_STR(LH_TOMBSTONE_FOLDER), add_key, &keys, error);
    for (size_t at = 0; at < keys.len && status == LH_OK;) {
        struct lh_str key = lh_str_of(keys.ptr + at);
        struct lh_str name = {key.ptr + folder, key.len - folder};
        at += key.len + 1;
        if (name.len <= suffix.len)
            continue;
        name.len -= suffix.len;
        if (lh_str_eq((struct lh_str){name.ptr + name.len, suffix.len}, suffix) &&
            lh_dataset_name_is_valid(name))
            status = resume_deletion(store, name, error);
    }
    lh_buf_deinit(&keys);
    return status;
}

/* ---- listing ---- */

static enum lh_status add_version(const struct lh_object_listed *listed, void *arg,
                                  struct lh_error *error)
{
    struct lh_catalog_job *job = arg;
    struct lh_str name;
    uint64_t version;
    if (!split_manifest_key(listed->key, &name, &version))
        return LH_OK; /* someone else's */
    if (lh_catalog_job_add(job, name, version) == LH_OK)
        return LH_OK;
    return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the catalog");
}

static enum lh_status scan(struct lh_catalog_store *store, struct lh_catalog_job *job,
                           struct lh_error *error)
{
    char prefix[KEY_BYTES];
    enum lh_status status = *job->name != '\0' ? resume_deletion(store, lh_str_of(job->name), error)
                                               : resume_deletions(store, error);
    if (status == LH_OK)
        status = lh_object_client_list(store->objects, manifests_of(job->name, prefix), add_version,
                                       job, error);
    return status;
}

/* ---- the actor ---- */

static enum lh_status perform(struct lh_catalog_store *store, struct lh_catalog_job *job,
                              struct lh_error *error)
{
    switch (job->kind) {
    case LH_CATALOG_SCAN:
        return scan(store, job, error);
    case LH_CATALOG_READ:
        return read_manifests(store, job, error);
    case LH_CATALOG_WRITE:
        return write_manifest(store, job, error);
    case LH_CATALOG_ERASE:
        return erase(store, job, error);
    }
    return LH_INTERNAL;
}

static void handle(struct lh_catalog_store *store, struct lh_catalog_job *job)
{
    struct lh_error error = {.status = LH_OK};
    if (perform(store, job, &error) != LH_OK) {
        job->error = error;
        if (error.status == LH_IO) /* a store elsewhere that does not answer as it should */
            job->error.status = LH_BAD_GATEWAY;
        if (lh_status_http(error.status) >= 500)
            lh_counter_add(&store->metrics.errors, 1);
    }
    job->head.lane = LH_LANE_EXPRESS;
    if (lh_actor_send(store->catalogd, &job->head) != LH_OK)
        lh_catalog_job_destroy(job); /* the server stops */
}

static void run(void *self)
{
    struct lh_catalog_store *store = self;
    struct lh_msg *msg;
    while (lh_actor_wait(&store->actor)) {
        /* One at a time: a call's job overtakes what is read in the background. */
        while ((msg = lh_actor_next(&store->actor)) != NULL) {
            handle(store, (struct lh_catalog_job *)msg);
            (void)lh_actor_poll(&store->actor);
        }
    }
}

bool lh_catalog_store_is_stopping(void *arg)
{
    struct lh_catalog_store *store = arg;
    return lh_mailbox_is_shut(&store->actor.mailbox);
}

void lh_catalog_store_init(struct lh_catalog_store *store, struct lh_actor *catalogd,
                           const struct lh_log *log)
{
    *store = (struct lh_catalog_store){.catalogd = catalogd, .log = log};
    lh_actor_init(&store->actor, "catalog-store", run, store);
}

void lh_catalog_store_deinit(struct lh_catalog_store *store)
{
    lh_object_client_destroy(store->objects);
    if (store->files.sql != NULL)
        lh_catalog_files_deinit(&store->files);
    lh_actor_deinit(&store->actor);
}
