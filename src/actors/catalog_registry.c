/* The registry of datasets, and the rules by which versions follow one another. catalogd's thread.
 *
 * Invariants: names are in byte order and each stands once; a dataset that is READY has the
 * manifest of its last version. */
#include "actors/catalog_registry.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lh_dataset_state_name(enum lh_dataset_state state)
{
    static const char *const names[] = {"loading", "ready", "failed", "deleting"};
    return names[state];
}

/* ---- datasets by name ---- */

static void destroy(struct lh_dataset *dataset)
{
    lh_manifest_destroy(dataset->newest);
    free(dataset->versions);
    free(dataset);
}

void lh_registry_deinit(struct lh_registry *registry)
{
    for (uint32_t i = 0; i < registry->count; i++)
        destroy(registry->datasets[i]);
    for (uint32_t i = 0; i < LH_CATALOG_OLD_MAX; i++)
        lh_manifest_destroy(registry->old[i]);
    free(registry->datasets);
    *registry = (struct lh_registry){.count = 0};
}

static int compare(struct lh_str a, struct lh_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

uint32_t lh_registry_seek(const struct lh_registry *registry, struct lh_str name)
{
    uint32_t low = 0, high = registry->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare(lh_str_of(registry->datasets[middle]->name), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct lh_dataset *lh_registry_find(const struct lh_registry *registry, struct lh_str name)
{
    uint32_t at = lh_registry_seek(registry, name);
    if (at == registry->count || !lh_str_eq(lh_str_of(registry->datasets[at]->name), name))
        return NULL;
    return registry->datasets[at];
}

enum lh_status lh_registry_make(struct lh_registry *registry, struct lh_str name,
                                struct lh_dataset **dataset)
{
    assert(lh_dataset_name_is_valid(name));
    *dataset = lh_registry_find(registry, name);
    if (*dataset != NULL)
        return LH_OK;
    if (registry->count == registry->capacity) {
        uint32_t capacity = registry->capacity == 0 ? 64 : 2 * registry->capacity;
        struct lh_dataset **grown =
            realloc(registry->datasets, capacity * sizeof(struct lh_dataset *));
        if (grown == NULL)
            return LH_OUT_OF_MEMORY;
        registry->datasets = grown;
        registry->capacity = capacity;
    }
    struct lh_dataset *made = calloc(1, sizeof *made);
    if (made == NULL)
        return LH_OUT_OF_MEMORY;
    memcpy(made->name, name.ptr, name.len);
    uint32_t at = lh_registry_seek(registry, name);
    memmove(&registry->datasets[at + 1], &registry->datasets[at],
            (registry->count - at) * sizeof(struct lh_dataset *));
    registry->datasets[at] = made;
    registry->count++;
    *dataset = made;
    return LH_OK;
}

static void forget_old(struct lh_registry *registry, struct lh_str name)
{
    for (uint32_t i = 0; i < LH_CATALOG_OLD_MAX; i++) {
        if (registry->old[i] == NULL || !lh_str_eq(registry->old[i]->name, name))
            continue;
        lh_manifest_destroy(registry->old[i]);
        registry->old[i] = NULL;
    }
}

void lh_registry_remove(struct lh_registry *registry, struct lh_str name)
{
    struct lh_dataset *dataset = lh_registry_find(registry, name);
    if (dataset == NULL)
        return;
    uint32_t at = lh_registry_seek(registry, name);
    forget_old(registry, name);
    registry->count--;
    memmove(&registry->datasets[at], &registry->datasets[at + 1],
            (registry->count - at) * sizeof(struct lh_dataset *));
    destroy(dataset);
}

/* ---- versions ---- */

enum lh_status lh_dataset_reserve(struct lh_dataset *dataset)
{
    if (dataset->version_count < dataset->version_capacity)
        return LH_OK;
    uint32_t capacity = dataset->version_capacity == 0 ? 2 : 2 * dataset->version_capacity;
    uint64_t *grown = realloc(dataset->versions, capacity * sizeof *grown);
    if (grown == NULL)
        return LH_OUT_OF_MEMORY;
    dataset->versions = grown;
    dataset->version_capacity = capacity;
    return LH_OK;
}

enum lh_status lh_dataset_add_version(struct lh_dataset *dataset, uint64_t version)
{
    uint32_t at = dataset->version_count;
    if (lh_dataset_has_version(dataset, version))
        return LH_OK;
    if (lh_dataset_reserve(dataset) != LH_OK)
        return LH_OUT_OF_MEMORY;
    while (at > 0 && dataset->versions[at - 1] > version)
        at--;
    memmove(&dataset->versions[at + 1], &dataset->versions[at],
            (dataset->version_count - at) * sizeof *dataset->versions);
    dataset->versions[at] = version;
    dataset->version_count++;
    return LH_OK;
}

void lh_dataset_drop_version(struct lh_dataset *dataset, uint64_t version)
{
    for (uint32_t i = 0; i < dataset->version_count; i++) {
        if (dataset->versions[i] != version)
            continue;
        dataset->version_count--;
        memmove(&dataset->versions[i], &dataset->versions[i + 1],
                (dataset->version_count - i) * sizeof *dataset->versions);
        return;
    }
}

bool lh_dataset_has_version(const struct lh_dataset *dataset, uint64_t version)
{
    for (uint32_t i = dataset->version_count; i > 0; i--)
        if (dataset->versions[i - 1] == version)
            return true;
    return false;
}

uint64_t lh_dataset_last_version(const struct lh_dataset *dataset)
{
    return dataset->version_count > 0 ? dataset->versions[dataset->version_count - 1] : 0;
}

void lh_dataset_take(struct lh_dataset *dataset, struct lh_manifest *newest)
{
    assert(newest->version == lh_dataset_last_version(dataset));
    lh_manifest_destroy(dataset->newest);
    dataset->newest = newest;
    dataset->state = LH_DATASET_IS_READY;
}

void lh_dataset_fail(struct lh_dataset *dataset, const char *reason)
{
    lh_manifest_destroy(dataset->newest);
    dataset->newest = NULL;
    dataset->state = LH_DATASET_IS_FAILED;
    snprintf(dataset->reason, sizeof dataset->reason, "%s", reason);
}

/* ---- older manifests ---- */

const struct lh_manifest *lh_registry_recall(const struct lh_registry *registry, struct lh_str name,
                                             uint64_t version)
{
    for (uint32_t i = 0; i < LH_CATALOG_OLD_MAX; i++) {
        const struct lh_manifest *old = registry->old[i];
        if (old != NULL && old->version == version && lh_str_eq(old->name, name))
            return old;
    }
    return NULL;
}

void lh_registry_remember(struct lh_registry *registry, struct lh_manifest *manifest)
{
    lh_manifest_destroy(registry->old[registry->next_old]);
    registry->old[registry->next_old] = manifest;
    registry->next_old = (registry->next_old + 1) % LH_CATALOG_OLD_MAX;
}

/* ---- what a registration makes of a dataset ---- */

static bool has_fingerprint(const struct lh_manifest *manifest, struct lh_str fingerprint)
{
    for (uint32_t i = 0; i < manifest->count; i++)
        if (lh_str_eq(manifest->objects[i].fingerprint, fingerprint))
            return true;
    return false;
}

/* Each row of a manifest's file has its schema. */
static enum lh_status make_next(const struct lh_manifest *shape, struct lh_manifest **next,
                                struct lh_error *error)
{
    if ((uint64_t)shape->count * shape->schema_json.len > LH_MANIFEST_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED,
                            "objects: %" PRIu32 " of them, with a schema of %zu bytes in each row "
                            "of the manifest, are more than %u bytes",
                            shape->count, shape->schema_json.len, LH_MANIFEST_BYTES_MAX);
    *next = lh_manifest_create(shape);
    if (*next == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the manifest");
    return LH_OK;
}

/* Objects of the last version, then those that were asked for. */
static enum lh_status join(const struct lh_manifest *last, const struct lh_manifest *asked,
                           struct lh_manifest *shape, struct lh_error *error)
{
    uint32_t first, again;
    memcpy(shape->objects, last->objects, last->count * sizeof *last->objects);
    memcpy(shape->objects + last->count, asked->objects, asked->count * sizeof *asked->objects);
    if (lh_manifest_find_repeated(shape->objects, shape->count, &first, &again) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the objects");
    if (again == shape->count)
        return LH_OK;
    return lh_error_set(error, LH_FINGERPRINT_CONFLICT,
                        "objects[%" PRIu32 "].key: version %" PRIu64
                        " has this object, by fingerprint \"%.40s\"",
                        again - last->count, last->version, shape->objects[first].fingerprint.ptr);
}

static enum lh_status append(const struct lh_manifest *last, const struct lh_manifest *asked,
                             struct lh_manifest *shape, struct lh_manifest **next,
                             struct lh_error *error)
{
    enum lh_status status = lh_schema_compare(last->schema_json, asked->schema_json, error);
    if (status != LH_OK)
        return status;
    if (last->count + asked->count > LH_MANIFEST_OBJECTS_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED,
                            "objects: with the %" PRIu32 " of version %" PRIu64
                            " they are more than %u: replace the dataset by fewer",
                            last->count, last->version, LH_MANIFEST_OBJECTS_MAX);
    if (shape->schema_json.len == 0)
        shape->schema_json = last->schema_json;
    shape->has_row_count = last->has_row_count && asked->has_row_count;
    shape->row_count = shape->has_row_count ? last->row_count + asked->row_count : 0;
    if (shape->row_count > LH_ROW_COUNT_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "row_count: the sum is more than 2^53");
    shape->count = last->count + asked->count;
    shape->objects = calloc(shape->count, sizeof *shape->objects);
    if (shape->objects == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the objects");
    status = join(last, asked, shape, error);
    if (status == LH_OK)
        status = make_next(shape, next, error);
    free(shape->objects);
    return status;
}

static enum lh_status refuse_state(const struct lh_dataset *dataset, struct lh_error *error)
{
    if (dataset->state == LH_DATASET_IS_FAILED)
        return lh_error_set(error, LH_DATASET_FAILED,
                            "version %" PRIu64 " is broken (%.80s): mode replace mends it",
                            lh_dataset_last_version(dataset), dataset->reason);
    return lh_error_set(error, LH_DATASET_LOADING, "the dataset is %s: try again",
                        dataset->state == LH_DATASET_IS_LOADING ? "still being read"
                                                                : "being deleted");
}

enum lh_status lh_dataset_decide(const struct lh_dataset *dataset, const struct lh_manifest *asked,
                                 enum lh_register_mode mode, uint64_t now_ms,
                                 struct lh_manifest **next, struct lh_error *error)
{
    struct lh_manifest shape = *asked;
    *next = NULL;
    shape.version = 1;
    shape.created_ms = now_ms;
    if (dataset == NULL)
        return make_next(&shape, next, error);
    shape.version = lh_dataset_last_version(dataset) + 1;
    if (dataset->state == LH_DATASET_IS_FAILED && mode == LH_REGISTER_REPLACE)
        return make_next(&shape, next, error);
    if (dataset->state != LH_DATASET_IS_READY)
        return refuse_state(dataset, error);
    const struct lh_manifest *last = dataset->newest;
    if (lh_str_eq(last->fingerprint, asked->fingerprint) ||
        (mode == LH_REGISTER_APPEND && has_fingerprint(last, asked->fingerprint)))
        return LH_OK;
    switch (mode) {
    case LH_REGISTER_REPLACE:
        return make_next(&shape, next, error);
    case LH_REGISTER_APPEND:
        return append(last, asked, &shape, next, error);
    case LH_REGISTER_CREATE:
        break;
    }
    return lh_error_set(error, LH_FINGERPRINT_CONFLICT,
                        "dataset \"%.50s\" has the fingerprint \"%.40s\": mode replace or append "
                        "makes a new version",
                        dataset->name, last->fingerprint.ptr);
}
