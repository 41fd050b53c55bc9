/* The registry from the object store: at start all of it, later what has become doubtful.
 * catalogd's thread.
 *
 * First the names, after deletions that were begun are finished; then the newest manifest of each,
 * hundreds a job. One job is out at a time, and one that fails is tried again with growing delays.
 * Calls go on meanwhile: what is not read yet is answered 503. */
#include "actors/catalogd.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define NANOS_A_MS     1000000ull
#define BACKOFF_MS_MAX 5000u /* a list costs the store little, and every request waits for it */

void lh__catalogd_count(struct lh_catalogd *catalogd)
{
    uint64_t datasets = 0, failed = 0;
    catalogd->unread = catalogd->deleting = 0;
    for (uint32_t i = 0; i < catalogd->registry.count; i++) {
        const struct lh_dataset *dataset = catalogd->registry.datasets[i];
        if (dataset->version_count == 0)
            continue; /* its first version is being written */
        datasets++;
        failed += dataset->state == LH_DATASET_IS_FAILED;
        catalogd->unread += dataset->state == LH_DATASET_IS_LOADING;
        catalogd->deleting += dataset->state == LH_DATASET_IS_DELETING;
    }
    lh_counter_set(&catalogd->metrics.datasets, datasets);
    lh_counter_set(&catalogd->metrics.failed, failed);
    lh_counter_set(&catalogd->metrics.unread, catalogd->unread);
    lh_counter_set(&catalogd->metrics.is_listed, catalogd->is_listed);
}

/* ---- what to do next ---- */

/* The next of the datasets that are in `state`, from next_name on and round; NULL: none is. */
static struct lh_dataset *find_next(const struct lh_catalogd *catalogd, enum lh_dataset_state state,
                                    uint32_t *at)
{
    const struct lh_registry *registry = &catalogd->registry;
    for (; *at < registry->count; (*at)++) {
        struct lh_dataset *dataset = registry->datasets[*at];
        if (dataset->state == state && dataset->version_count > 0)
            return dataset;
    }
    return NULL;
}

static struct lh_catalog_job *make_read(struct lh_catalogd *catalogd)
{
    struct lh_catalog_job *job = lh_catalog_job_create(LH_CATALOG_READ, LH_LANE_BULK);
    uint32_t at = lh_registry_seek(&catalogd->registry, lh_str_of(catalogd->next_name));
    struct lh_dataset *dataset = find_next(catalogd, LH_DATASET_IS_LOADING, &at);
    if (dataset == NULL) {
        at = 0;
        dataset = find_next(catalogd, LH_DATASET_IS_LOADING, &at);
    }
    for (; job != NULL && dataset != NULL && job->count < LH_CATALOG_FILES_BATCH;
         at++, dataset = find_next(catalogd, LH_DATASET_IS_LOADING, &at)) {
        memcpy(catalogd->next_name, dataset->name, sizeof dataset->name);
        if (lh_catalog_job_add(job, lh_str_of(dataset->name), lh_dataset_last_version(dataset)) !=
            LH_OK) {
            lh_catalog_job_destroy(job);
            return NULL;
        }
    }
    return job;
}

static struct lh_catalog_job *make_scan(struct lh_catalogd *catalogd)
{
    struct lh_catalog_job *job = lh_catalog_job_create(LH_CATALOG_SCAN, LH_LANE_BULK);
    uint32_t at = 0;
    if (job != NULL && catalogd->is_listed)
        memcpy(job->name, find_next(catalogd, LH_DATASET_IS_DELETING, &at)->name, sizeof job->name);
    return job;
}

static void try_later(struct lh_catalogd *catalogd, const struct lh_error *error)
{
    if (catalogd->backoff_ms == 0)
        lh_log_line(catalogd->log, LH_LOG_WARN, "the catalog cannot be read",
                    LH_LOG_TEXT("reason", error->text));
    catalogd->trouble = *error;
    catalogd->backoff_ms = lh_clock_backoff_ms(catalogd->backoff_ms);
    if (catalogd->backoff_ms > BACKOFF_MS_MAX)
        catalogd->backoff_ms = BACKOFF_MS_MAX;
    catalogd->retry_ns = lh_clock_ns() + catalogd->backoff_ms * NANOS_A_MS;
}

void lh__catalogd_read(struct lh_catalogd *catalogd)
{
    bool is_scan = !catalogd->is_listed || catalogd->deleting > 0;
    struct lh_error error;
    if (catalogd->is_background_out || (!is_scan && catalogd->unread == 0) ||
        (catalogd->retry_ns != 0 && lh_clock_ns() < catalogd->retry_ns))
        return;
    catalogd->retry_ns = 0;
    struct lh_catalog_job *job = is_scan ? make_scan(catalogd) : make_read(catalogd);
    if (job == NULL) {
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory");
        try_later(catalogd, &error);
        return;
    }
    catalogd->is_background_out = true;
    lh__catalogd_send(catalogd, job);
}

/* ---- what has come ---- */

enum lh_status lh__catalogd_take_scan(struct lh_catalogd *catalogd,
                                      const struct lh_catalog_job *job, struct lh_error *error)
{
    struct lh_registry *registry = &catalogd->registry;
    struct lh_dataset *dataset = NULL;
    if (job->name[0] != '\0') /* its versions are those of the list, and no others */
        lh_registry_remove(registry, lh_str_of(job->name));
    for (uint32_t i = 0; i < job->count; i++) {
        const struct lh_catalog_version *found = &job->versions[i];
        enum lh_status status = LH_OK;
        if (dataset == NULL || strcmp(dataset->name, found->name) != 0)
            status = lh_registry_make(registry, lh_str_of(found->name), &dataset);
        if (status == LH_OK)
            status = lh_dataset_add_version(dataset, found->version);
        if (status != LH_OK)
            return lh_error_set(error, status, "not enough memory for the catalog");
    }
    return LH_OK;
}

/* Whether its deletion is under way: what becomes of the dataset is decided at the end of that. */
static bool is_being_deleted(const struct lh_catalogd *catalogd, const char *name)
{
    const struct lh_catalog_call *call = catalogd->change.call;
    return call != NULL && call->op == LH_CATALOG_DELETE && strcmp(call->name, name) == 0;
}

void lh__catalogd_take_read(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        struct lh_catalog_version *read = &job->versions[i];
        struct lh_dataset *dataset = lh_registry_find(&catalogd->registry, lh_str_of(read->name));
        if (dataset == NULL || dataset->state != LH_DATASET_IS_LOADING ||
            lh_dataset_last_version(dataset) != read->version ||
            is_being_deleted(catalogd, read->name))
            continue; /* it has changed since, or does */
        if (read->manifest != NULL) {
            lh_dataset_take(dataset, read->manifest);
            read->manifest = NULL;
        } else if (read->error.status == LH_KEY_NOT_FOUND) {
            lh_dataset_drop_version(dataset, read->version);
            if (dataset->version_count == 0)
                lh_registry_remove(&catalogd->registry, lh_str_of(read->name));
        } else {
            lh_log_line(catalogd->log, LH_LOG_ERROR, "a manifest is broken",
                        LH_LOG_TEXT("dataset", read->name), LH_LOG_U64("version", read->version),
                        LH_LOG_TEXT("reason", read->error.text));
            lh_dataset_fail(dataset, read->error.text);
        }
    }
}

void lh__catalogd_read_back(struct lh_catalogd *catalogd, struct lh_catalog_job *job)
{
    struct lh_error error = job->error;
    bool was_unread = catalogd->unread > 0 || !catalogd->is_listed;
    catalogd->is_background_out = false;
    if (error.status == LH_OK && job->kind == LH_CATALOG_READ) {
        lh__catalogd_take_read(catalogd, job);
    } else if (error.status == LH_OK && lh__catalogd_take_scan(catalogd, job, &error) == LH_OK) {
        catalogd->is_listed = true;
    }
    if (error.status != LH_OK) {
        try_later(catalogd, &error);
    } else {
        if (catalogd->backoff_ms != 0)
            lh_log_line(catalogd->log, LH_LOG_INFO, "the catalog can be read again");
        catalogd->backoff_ms = 0;
        catalogd->trouble = (struct lh_error){.status = LH_OK};
    }
    lh_catalog_job_destroy(job);
    lh__catalogd_count(catalogd);
    if (was_unread && catalogd->is_listed && catalogd->unread == 0)
        lh_log_line(catalogd->log, LH_LOG_INFO, "catalog read",
                    LH_LOG_U64("datasets", lh_counter_get(&catalogd->metrics.datasets)),
                    LH_LOG_U64("failed", lh_counter_get(&catalogd->metrics.failed)));
}
