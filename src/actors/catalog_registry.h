/* The registry of datasets: what there is by name, and what a registration makes of it. Memory
 * only; one owner. */
#ifndef LH_ACTORS_CATALOG_REGISTRY_H
#define LH_ACTORS_CATALOG_REGISTRY_H

#include "actors/manifest.h"

enum lh_dataset_state {
    LH_DATASET_IS_LOADING, /* its newest manifest has not been read yet */
    LH_DATASET_IS_READY,
    LH_DATASET_IS_FAILED,  /* its newest manifest is broken; the older ones may be had */
    LH_DATASET_IS_DELETING /* a tombstone stands for it */
};

const char *lh_dataset_state_name(enum lh_dataset_state state);

struct lh_dataset {
    char name[LH_NAME_BYTES_MAX + 1];
    enum lh_dataset_state state;
    uint64_t *versions; /* in order; at least one, but while the first is written */
    uint32_t version_count;
    uint32_t version_capacity;
    struct lh_manifest *newest; /* READY */
    char reason[160];           /* FAILED */
};

/* Older manifests that were asked for are kept, the latest of them. */
#define LH_CATALOG_OLD_MAX 64u

struct lh_registry {
    struct lh_dataset **datasets; /* in byte order of names */
    uint32_t count;
    uint32_t capacity;
    struct lh_manifest *old[LH_CATALOG_OLD_MAX];
    uint32_t next_old;
};

void lh_registry_deinit(struct lh_registry *registry);

/* NULL when there is none. */
struct lh_dataset *lh_registry_find(const struct lh_registry *registry, struct lh_str name);
/* Where the first name is that is not before `name`. */
uint32_t lh_registry_seek(const struct lh_registry *registry, struct lh_str name);
/* The dataset of the name, made when there is none: LOADING, without versions. LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_registry_make(struct lh_registry *registry, struct lh_str name,
                                            struct lh_dataset **dataset);
void lh_registry_remove(struct lh_registry *registry, struct lh_str name);

/* Makes room, so that adding one version does not fail. LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_dataset_reserve(struct lh_dataset *dataset);
/* Adds a version to those that there are; nothing when it is there. LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_dataset_add_version(struct lh_dataset *dataset, uint64_t version);
void lh_dataset_drop_version(struct lh_dataset *dataset, uint64_t version);
bool lh_dataset_has_version(const struct lh_dataset *dataset, uint64_t version);
uint64_t lh_dataset_last_version(const struct lh_dataset *dataset); /* 0: none */

/* Takes the manifest of its last version: the dataset is ready. */
void lh_dataset_take(struct lh_dataset *dataset, struct lh_manifest *newest);
void lh_dataset_fail(struct lh_dataset *dataset, const char *reason);

/* An older manifest, if it is kept; takes one to keep. */
const struct lh_manifest *lh_registry_recall(const struct lh_registry *registry, struct lh_str name,
                                             uint64_t version);
void lh_registry_remember(struct lh_registry *registry, struct lh_manifest *manifest);

/* What a registration makes of `dataset` (NULL: there is none of the name). LH_OK with `next` as
 * the manifest to write, or NULL when the dataset has this fingerprint: nothing changes. Else
 * LH_FINGERPRINT_CONFLICT, LH_SCHEMA_CONFLICT, LH_LIMIT_EXCEEDED, LH_INVALID_ARGUMENT,
 * LH_DATASET_LOADING, LH_DATASET_FAILED, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_dataset_decide(const struct lh_dataset *dataset,
                                             const struct lh_manifest *asked,
                                             enum lh_register_mode mode, uint64_t now_ms,
                                             struct lh_manifest **next, struct lh_error *error);

#endif
