/* A thread that makes datasets of uploads, one at a time, and blocks in it. */
#ifndef LH_ACTORS_INGEST_WORKER_H
#define LH_ACTORS_INGEST_WORKER_H

#include "actors/catalog_client.h"
#include "actors/ingest_job.h"
#include "actors/object_client.h"
#include "base/log.h"
#include "runtime/actor.h"
#include <limits.h>

struct lh_ingest_worker;

struct lh_ingest_ready {
    struct lh_msg head;
    struct lh_ingest_worker *worker;
};

_Static_assert(offsetof(struct lh_ingest_ready, head) == 0, "it is a message");

struct lh_ingest_worker_metrics {
    struct lh_counter files;
    struct lh_counter errors;
    struct lh_counter rows;
    struct lh_counter bytes_in;  /* uploads */
    struct lh_counter bytes_out; /* Parquet */
    struct lh_counter busy_ns;
};

struct lh_ingest_worker {
    struct lh_actor actor;
    struct lh_mailbox *loop;
    struct lh_sql *sql;
    struct lh_ingest *ingest; /* NULL before the first upload, and then for good */
    struct lh_object_client *objects;
    struct lh_catalog_client *catalog;
    const char *folder; /* the spool's */
    const struct lh_log *log;
    struct lh_ingest_job *job; /* that it runs */
    bool may_be_cancelled;     /* what it calls now */
    struct lh_ingest_ready ready;
    struct lh_ingest_job *given; /* the loop's: that it has been given */
    bool is_connected;           /* the loop's: it has an ingest, which can be interrupted */
    struct lh_ingest_worker_metrics metrics;
    char name[16];
};

/* No thread yet. The clients are set by whoever makes it; their `is_cancelled` is the function
 * below, with the worker. */
void lh_ingest_worker_init(struct lh_ingest_worker *worker, uint32_t number, struct lh_sql *sql,
                           const char *folder, struct lh_mailbox *loop, const struct lh_log *log);
/* After its thread; the clients are destroyed. */
void lh_ingest_worker_deinit(struct lh_ingest_worker *worker);
bool lh_ingest_worker_is_cancelled(void *worker);

/* ---- ingest_publish.c ---- */

/* What a conversion has made, as objects to be stored and datasets to be registered. */
struct lh_ingest_made {
    char name[LH_NAME_BYTES_MAX + 1];
    char fingerprint[65]; /* SHA-256 in hex */
    char key[2 * LH_NAME_BYTES_MAX + 96];
    uint64_t bytes;
    uint64_t rows;
    struct lh_str columns;
    enum lh_register_mode mode;
    char path[PATH_MAX];
    struct lh_manifest *manifest; /* once it is registered */
    bool is_new;
};

/* Stores and registers the datasets: all of them or, when it fails, none. Fills `manifest`. */
LH_MUST_USE enum lh_status lh__ingest_publish(struct lh_ingest_worker *worker,
                                              struct lh_ingest_made *made, uint32_t count,
                                              struct lh_error *error);

/* Deletes the objects that the job's pending file names and no manifest does. LH_OK also when there
 * is none; else it is to be tried again. */
LH_MUST_USE enum lh_status lh__ingest_sweep(struct lh_ingest_worker *worker,
                                            const struct lh_ingest_job *job,
                                            struct lh_error *error);

#endif
