/* The catalog's blocking half: manifests in the object store, written, read, listed and deleted on
 * a thread of its own, so that a slow store holds up no question that memory can answer. */
#ifndef LH_ACTORS_CATALOG_STORE_H
#define LH_ACTORS_CATALOG_STORE_H

#include "actors/catalog.h"
#include "actors/catalog_files.h"
#include "actors/object_client.h"
#include "base/log.h"
#include "base/metrics.h"
#include "runtime/actor.h"

#define LH_MANIFEST_FOLDER  "_catalog/manifests/"  /* <name>/<version>.parquet */
#define LH_TOMBSTONE_FOLDER "_catalog/tombstones/" /* <name>.json: it is being deleted */

enum lh_catalog_job_kind {
    /* Finishes the deletions that were begun, and lists what versions there are: of `name`, or of
     * all datasets. */
    LH_CATALOG_SCAN,
    LH_CATALOG_READ,  /* the manifests of `versions` */
    LH_CATALOG_WRITE, /* `manifest`, once the objects from `first_new` on are seen to be there */
    LH_CATALOG_ERASE  /* all versions of `name`, and the objects in `keys` */
};

/* One version of a dataset, and for READ what it was. */
struct lh_catalog_version {
    char name[LH_NAME_BYTES_MAX + 1];
    uint64_t version;
    struct lh_manifest *manifest; /* NULL: `error` says why */
    struct lh_error error;        /* LH_CORRUPT, or LH_KEY_NOT_FOUND: it is gone */
};

struct lh_catalog_job {
    struct lh_msg head;
    enum lh_catalog_job_kind kind;
    struct lh_error error; /* of the whole job: it is tried again, or told */
    char name[LH_NAME_BYTES_MAX + 1];
    struct lh_catalog_version *versions;
    uint32_t count;
    uint32_t capacity;
    struct lh_manifest *manifest; /* WRITE */
    uint32_t first_new;
    struct lh_buf keys;           /* ERASE: each with a NUL behind it */
    struct lh_catalog_call *call; /* READ: who asked for it; NULL: nobody */
    bool is_of_change;            /* of the registration or deletion under way */
};

_Static_assert(offsetof(struct lh_catalog_job, head) == 0, "a job is a message");

/* NULL when there is no memory. Jobs of the change under way and of calls are express. */
struct lh_catalog_job *lh_catalog_job_create(enum lh_catalog_job_kind kind, enum lh_lane lane);
void lh_catalog_job_destroy(struct lh_catalog_job *job);
/* LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_catalog_job_add(struct lh_catalog_job *job, struct lh_str name,
                                              uint64_t version);

struct lh_catalog_store_metrics {
    struct lh_counter writes;
    struct lh_counter reads; /* manifests */
    struct lh_counter erases;
    struct lh_counter errors; /* jobs that failed by the store or a disk */
    struct lh_histogram write_time;
};

struct lh_catalog_store {
    struct lh_actor actor;
    struct lh_actor *catalogd; /* gets every job back */
    struct lh_object_client *objects;
    struct lh_catalog_files files; /* once opened */
    const struct lh_log *log;
    struct lh_catalog_store_metrics metrics;
};

/* Takes `objects` and `files`, which are made. */
void lh_catalog_store_init(struct lh_catalog_store *store, struct lh_actor *catalogd,
                           const struct lh_log *log);
/* After the thread. */
void lh_catalog_store_deinit(struct lh_catalog_store *store);

/* Whether the thread was told to stop: calls under way are given up then. */
bool lh_catalog_store_is_stopping(void *store);

#endif
