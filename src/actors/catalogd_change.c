/* Registrations and deletions, one after the other. catalogd's thread.
 *
 * A registration is decided from memory, written by the store's thread, and then in force. When the
 * store has that version already, another catalog shares it: the dataset is read again and decided
 * anew. A purge reads all manifests that may name its objects before it deletes any: its own, the
 * newest of the others from memory, and their older ones. */
#include "actors/catalogd.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CONFLICTS_MAX 3u /* then whoever asks may try again */

static void next_change(struct lh_catalogd *catalogd);

/* ---- the end of a change ---- */

/* Ends what is under way, but for its answer. */
static struct lh_catalog_call *end(struct lh_catalogd *catalogd)
{
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_catalog_call *call = change->call;
    lh_manifest_destroy(change->asked);
    lh_buf_deinit(&change->keys);
    free(change->purge);
    *change = (struct lh_catalog_change){.call = NULL};
    lh__catalogd_count(catalogd);
    return call;
}

static void refuse(struct lh_catalogd *catalogd, const struct lh_error *error)
{
    lh_counter_add(&catalogd->metrics.refused, 1);
    lh__catalogd_answer_error(catalogd, end(catalogd), error);
}

static void refuse_memory(struct lh_catalogd *catalogd)
{
    struct lh_error error;
    lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the catalog");
    refuse(catalogd, &error);
}

static void send(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    job->is_of_change = true;
    lh__catalogd_send(catalogd, job);
}

/* A job of the change; NULL: it was refused. */
static struct lh_catalog_job *make_job(struct lh_catalogd *catalogd, enum lh_catalog_job_kind kind,
                                       const char *name)
{
    struct lh_catalog_job *job = lh_catalog_job_create(kind, LH_LANE_EXPRESS);
    if (job == NULL)
        refuse_memory(catalogd);
    else
        memcpy(job->name, name, strlen(name) + 1);
    return job;
}

/* ---- registrations ---- */

/* Of a dataset whose first version did not come about. */
static void forget_unwritten(struct lh_catalogd *catalogd, struct lh_str name)
{
    const struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, name);
    if (dataset != NULL && dataset->version_count == 0)
        lh_registry_remove(&catalogd->registry, name);
}

static void write(struct lh_catalogd *catalogd, struct lh_manifest *next)
{
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_dataset *dataset;
    struct lh_catalog_job *job = lh_catalog_job_create(LH_CATALOG_WRITE, LH_LANE_EXPRESS);
    /* Room for it now, so that nothing can fail once it is written. */
    if (job == NULL || lh_registry_make(&catalogd->registry, next->name, &dataset) != LH_OK ||
        lh_dataset_reserve(dataset) != LH_OK) {
        lh_catalog_job_destroy(job);
        forget_unwritten(catalogd, next->name);
        lh_manifest_destroy(next);
        refuse_memory(catalogd);
        return;
    }
    memcpy(job->name, dataset->name, sizeof job->name);
    job->manifest = next;
    job->first_new = next->count - change->asked->count;
    send(catalogd, job);
}

static void decide(struct lh_catalogd *catalogd)
{
    struct lh_catalog_change *change = &catalogd->change;
    const struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, change->asked->name);
    struct lh_manifest *next;
    struct lh_error error;
    if (lh_dataset_decide(dataset, change->asked, change->mode, lh_clock_wall_ms(), &next,
                          &error) != LH_OK) {
        refuse(catalogd, &error);
    } else if (next == NULL) {
        lh_counter_add(&catalogd->metrics.unchanged, 1);
        lh__catalogd_answer_manifest(catalogd, end(catalogd), 200, dataset->newest);
    } else {
        write(catalogd, next);
    }
}

static enum lh_status check_allowed(const struct lh_catalog_call *call,
                                    const struct lh_manifest *asked, struct lh_error *error)
{
    if (!lh__catalogd_allows_name(call, asked->name))
        return lh_error_set(error, LH_FORBIDDEN, "name: the token is limited, and not to \"%.80s\"",
                            asked->name.ptr);
    for (uint32_t i = 0; i < asked->count; i++)
        if (!lh__catalogd_allows_key(call, asked->objects[i].key))
            return lh_error_set(error, LH_FORBIDDEN,
                                "objects[%" PRIu32 "].key: the token is limited, and not to this",
                                i);
    return LH_OK;
}

static void begin_registration(struct lh_catalogd *catalogd)
{
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_catalog_call *call = change->call;
    struct lh_error error;
    if (lh_registration_read(lh_buf_str(&call->body), &change->asked, &change->mode, &error) !=
            LH_OK ||
        check_allowed(call, change->asked, &error) != LH_OK)
        refuse(catalogd, &error);
    else
        decide(catalogd);
}

/* The version is another catalog's: what it says has to be read first. */
static void look_again(struct lh_catalogd *catalogd)
{
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_catalog_job *job = make_job(catalogd, LH_CATALOG_SCAN, change->asked->name.ptr);
    change->conflicts++;
    if (job != NULL)
        send(catalogd, job);
}

static void scan_back(struct lh_catalogd *catalogd, const struct lh_catalog_job *job)
{
    struct lh_error error;
    struct lh_str name = lh_str_of(job->name);
    if (lh__catalogd_take_scan(catalogd, job, &error) != LH_OK) {
        refuse(catalogd, &error);
        return;
    }
    const struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, name);
    if (dataset == NULL) {
        decide(catalogd);
        return;
    }
    struct lh_catalog_job *read = make_job(catalogd, LH_CATALOG_READ, job->name);
    if (read == NULL)
        return;
    if (lh_catalog_job_add(read, name, lh_dataset_last_version(dataset)) == LH_OK) {
        send(catalogd, read);
    } else {
        lh_catalog_job_destroy(read);
        refuse_memory(catalogd);
    }
}

static void write_back(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    struct lh_registry *registry = &catalogd->registry;
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_dataset *dataset = lh_registry_find(registry, lh_str_of(job->name));
    assert(dataset != NULL);
    if (job->error.status != LH_OK) {
        forget_unwritten(catalogd, lh_str_of(job->name));
        if (job->error.status != LH_PRECONDITION_FAILED)
            refuse(catalogd, &job->error);
        else if (change->conflicts < CONFLICTS_MAX)
            look_again(catalogd);
        else
            refuse(catalogd, &(struct lh_error){.status = LH_OVERLOADED,
                                                .text = "another catalog changes this dataset"});
        return;
    }
    enum lh_status status = lh_dataset_add_version(dataset, job->manifest->version);
    assert(status == LH_OK);
    (void)status;
    if (dataset->newest != NULL) {
        lh_registry_remember(registry, dataset->newest);
        dataset->newest = NULL;
    }
    lh_dataset_take(dataset, job->manifest);
    job->manifest = NULL;
    lh_counter_add(&catalogd->metrics.registered, 1);
    lh__catalogd_answer_manifest(catalogd, end(catalogd), 201, dataset->newest);
}

/* ---- deletions ---- */

static void erase(struct lh_catalogd *catalogd)
{
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_catalog_job *job = make_job(catalogd, LH_CATALOG_ERASE, change->call->name);
    if (job == NULL)
        return;
    for (uint32_t i = 0; i < change->purge_count; i++) {
        if (change->purge[i].is_named)
            continue;
        lh_buf_append_str(&job->keys, change->purge[i].key);
        lh_buf_append_char(&job->keys, '\0');
    }
    if (!lh_buf_failed(&job->keys)) {
        send(catalogd, job);
    } else {
        lh_catalog_job_destroy(job);
        refuse_memory(catalogd);
    }
}

static void erase_back(struct lh_catalogd *catalogd, const struct lh_catalog_job *job)
{
    struct lh_str name = lh_str_of(job->name);
    if (job->error.status != LH_OK) {
        /* Whether its tombstone stands is not known before the store is asked again. */
        lh_registry_find(&catalogd->registry, name)->state = LH_DATASET_IS_DELETING;
        refuse(catalogd, &job->error);
        return;
    }
    lh_registry_remove(&catalogd->registry, name);
    lh_counter_add(&catalogd->metrics.deleted, 1);
    struct lh_catalog_call *call = end(catalogd);
    call->http_status = 204;
    lh__catalogd_answer(catalogd, call);
}

/* ---- purges: which objects nobody else names ---- */

static int compare_keys(const void *a, const void *b)
{
    const struct lh_purge_key *left = a, *right = b;
    return strcmp(left->key.ptr, right->key.ptr); /* keys have no NUL, and one behind */
}

/* Sorts the keys, each once. False: no memory. */
static bool sort_keys(struct lh_catalog_change *change)
{
    struct lh_str left = lh_buf_str(&change->keys);
    uint32_t count = 0, kept = 0;
    for (size_t i = 0; i < left.len; i++)
        count += left.ptr[i] == '\0';
    change->purge = calloc(count + 1, sizeof *change->purge);
    if (change->purge == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        change->purge[i].key = lh_str_of(left.ptr);
        left.ptr += change->purge[i].key.len + 1;
    }
    qsort(change->purge, count, sizeof *change->purge, compare_keys);
    for (uint32_t i = 0; i < count; i++)
        if (kept == 0 || compare_keys(&change->purge[kept - 1], &change->purge[i]) != 0)
            change->purge[kept++] = change->purge[i];
    change->purge_count = kept;
    return true;
}

static void mark_named(struct lh_catalog_change *change, const struct lh_manifest *other)
{
    for (uint32_t i = 0; i < other->count; i++) {
        struct lh_purge_key key = {.key = other->objects[i].key};
        struct lh_purge_key *found =
            bsearch(&key, change->purge, change->purge_count, sizeof *change->purge, compare_keys);
        if (found != NULL)
            found->is_named = true;
    }
}

/* The older versions of the next datasets; without any more, the deletion goes on. */
static void look_at_others(struct lh_catalogd *catalogd)
{
    struct lh_catalog_change *change = &catalogd->change;
    const struct lh_registry *registry = &catalogd->registry;
    struct lh_catalog_job *job = make_job(catalogd, LH_CATALOG_READ, change->call->name);
    uint32_t at = lh_registry_seek(registry, lh_str_of(change->next_other));
    enum lh_status status = LH_OK;
    if (job == NULL)
        return;
    for (; at < registry->count && job->count < LH_CATALOG_FILES_BATCH && status == LH_OK; at++) {
        const struct lh_dataset *other = registry->datasets[at];
        if (strcmp(other->name, change->call->name) == 0)
            continue;
        for (uint32_t i = 0; i + 1 < other->version_count && status == LH_OK; i++)
            status = lh_catalog_job_add(job, lh_str_of(other->name), other->versions[i]);
    }
    if (status == LH_OK && job->count > 0) {
        /* Behind every name: "~" is no character of one. */
        snprintf(change->next_other, sizeof change->next_other, "%s",
                 at < registry->count ? registry->datasets[at]->name : "~");
        send(catalogd, job);
        return;
    }
    lh_catalog_job_destroy(job);
    if (status == LH_OK)
        erase(catalogd);
    else
        refuse_memory(catalogd);
}

static enum lh_status check_purge(const struct lh_catalogd *catalogd, const char *name,
                                  struct lh_error *error)
{
    const struct lh_registry *registry = &catalogd->registry;
    for (uint32_t i = 0; i < registry->count; i++) {
        const struct lh_dataset *other = registry->datasets[i];
        if (other->state == LH_DATASET_IS_READY || strcmp(other->name, name) == 0)
            continue;
        return lh_error_set(
            error, other->state == LH_DATASET_IS_FAILED ? LH_DATASET_FAILED : LH_DATASET_LOADING,
            "purge: dataset \"%.60s\" is %s, so it is not known which objects it "
            "names",
            other->name, lh_dataset_state_name(other->state));
    }
    return LH_OK;
}

/* The dataset's own manifests are there: their objects go, unless another names them. */
static void own_back(struct lh_catalogd *catalogd, const struct lh_catalog_job *job)
{
    struct lh_catalog_change *change = &catalogd->change;
    struct lh_error error;
    for (uint32_t i = 0; i < job->count; i++) {
        const struct lh_manifest *own = job->versions[i].manifest;
        for (uint32_t j = 0; own != NULL && j < own->count; j++) {
            if (!lh__catalogd_allows_key(change->call, own->objects[j].key)) {
                lh_error_set(&error, LH_FORBIDDEN,
                             "purge: the token is limited, and not to \"%.80s\"",
                             own->objects[j].key.ptr);
                refuse(catalogd, &error);
                return;
            }
            lh_buf_append_str(&change->keys, own->objects[j].key);
            lh_buf_append_char(&change->keys, '\0');
        }
    }
    if (lh_buf_failed(&change->keys) || !sort_keys(change)) {
        refuse_memory(catalogd);
        return;
    }
    for (uint32_t i = 0; i < catalogd->registry.count; i++) {
        const struct lh_dataset *other = catalogd->registry.datasets[i];
        if (other->newest != NULL && strcmp(other->name, change->call->name) != 0)
            mark_named(change, other->newest);
    }
    look_at_others(catalogd);
}

static void others_back(struct lh_catalogd *catalogd, const struct lh_catalog_job *job)
{
    struct lh_error error;
    for (uint32_t i = 0; i < job->count; i++) {
        const struct lh_catalog_version *other = &job->versions[i];
        if (other->manifest != NULL) {
            mark_named(&catalogd->change, other->manifest);
        } else if (other->error.status != LH_KEY_NOT_FOUND) {
            lh_error_set(&error, LH_DATASET_FAILED,
                         "purge: version %" PRIu64 " of \"%.50s\" is broken, so it is not known "
                         "which objects it names",
                         other->version, other->name);
            refuse(catalogd, &error);
            return;
        }
    }
    look_at_others(catalogd);
}

static void read_own(struct lh_catalogd *catalogd, const struct lh_dataset *dataset)
{
    struct lh_catalog_job *job = make_job(catalogd, LH_CATALOG_READ, dataset->name);
    enum lh_status status = LH_OK;
    if (job == NULL)
        return;
    for (uint32_t i = 0; i < dataset->version_count && status == LH_OK; i++)
        status = lh_catalog_job_add(job, lh_str_of(dataset->name), dataset->versions[i]);
    if (status == LH_OK) {
        send(catalogd, job);
    } else {
        lh_catalog_job_destroy(job);
        refuse_memory(catalogd);
    }
}

static void begin_deletion(struct lh_catalogd *catalogd)
{
    const struct lh_catalog_call *call = catalogd->change.call;
    const struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, lh_str_of(call->name));
    struct lh_error error;
    if (dataset == NULL) {
        lh_error_set(&error, LH_DATASET_NOT_FOUND, "there is no dataset \"%s\"", call->name);
        refuse(catalogd, &error);
    } else if (dataset->state == LH_DATASET_IS_DELETING) {
        lh_error_set(&error, LH_DATASET_LOADING, "its deletion is under way: try again");
        refuse(catalogd, &error);
    } else if (!call->purge) {
        erase(catalogd);
    } else if (check_purge(catalogd, call->name, &error) != LH_OK) {
        refuse(catalogd, &error);
    } else {
        read_own(catalogd, dataset);
    }
}

/* ---- one after the other ---- */

static void next_change(struct lh_catalogd *catalogd)
{
    struct lh_error error;
    while (catalogd->change.call == NULL && catalogd->changes.first != NULL) {
        struct lh_catalog_call *call =
            (struct lh_catalog_call *)lh_msg_queue_take(&catalogd->changes);
        catalogd->change.call = call;
        if (lh__catalogd_check_listed(catalogd, &error) != LH_OK)
            refuse(catalogd, &error);
        else if (call->op == LH_CATALOG_REGISTER)
            begin_registration(catalogd);
        else
            begin_deletion(catalogd);
    }
}

void lh__catalogd_change(struct lh_catalogd *catalogd, struct lh_catalog_call *call)
{
    struct lh_error error;
    if (catalogd->changes.count >= LH_CATALOG_WAITING_MAX) {
        lh_counter_add(&catalogd->metrics.refused, 1);
        lh_error_set(&error, LH_OVERLOADED,
                     "%u registrations and deletions wait for the one under way: try again",
                     LH_CATALOG_WAITING_MAX);
        lh__catalogd_answer_error(catalogd, call, &error);
        return;
    }
    lh_msg_queue_put(&catalogd->changes, &call->head);
    next_change(catalogd);
    lh_counter_set(&catalogd->metrics.waiting, catalogd->changes.count);
}

void lh__catalogd_change_back(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    struct lh_catalog_change *change = &catalogd->change;
    bool is_purge = change->call->op == LH_CATALOG_DELETE;
    switch (job->kind) {
    case LH_CATALOG_WRITE:
        write_back(catalogd, job);
        break;
    case LH_CATALOG_ERASE:
        erase_back(catalogd, job);
        break;
    case LH_CATALOG_SCAN:
    case LH_CATALOG_READ:
        if (job->error.status != LH_OK) {
            refuse(catalogd, &job->error);
        } else if (job->kind == LH_CATALOG_SCAN) {
            scan_back(catalogd, job);
        } else if (!is_purge) {
            lh__catalogd_take_read(catalogd, job);
            decide(catalogd);
        } else if (change->purge == NULL) {
            own_back(catalogd, job);
        } else {
            others_back(catalogd, job);
        }
        break;
    }
    lh_catalog_job_destroy(job);
    next_change(catalogd);
    lh_counter_set(&catalogd->metrics.waiting, catalogd->changes.count);
}
