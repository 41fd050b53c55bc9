/* The spool: uploads as files, until a worker has read them. */
#ifndef LH_ACTORS_INGEST_SPOOL_H
#define LH_ACTORS_INGEST_SPOOL_H

#include "actors/ingest_job.h"
#include "runtime/actor.h"
#include <limits.h>

struct lh_ingest_spool {
    struct lh_actor actor;
    struct lh_mailbox *loop;
    const char *folder; /* with a slash at its end */
    struct lh_counter bytes;
};

/* No thread yet. `folder` outlives it. */
void lh_ingest_spool_init(struct lh_ingest_spool *spool, const char *folder,
                          struct lh_mailbox *loop);
/* After its thread. */
void lh_ingest_spool_deinit(struct lh_ingest_spool *spool);

/* ---- its files; any thread ---- */

enum lh_spool_file {
    LH_SPOOL_UPLOAD,   /* what has come */
    LH_SPOOL_PARQUET,  /* what has become of it */
    LH_SPOOL_REJECTED, /* lines that could not be read */
    LH_SPOOL_PENDING,  /* objects that are stored and not registered yet */
    LH_SPOOL_FILES
};

void lh_spool_path(char path[PATH_MAX], const char *folder, enum lh_spool_file file,
                   uint64_t number);
/* Removes the file if it is there. */
void lh_spool_remove(const char *folder, enum lh_spool_file file, uint64_t number);

/* Removes what uploads of a process before have left, and lists its pending files: their numbers go
 * to `each`. LH_IO. */
LH_MUST_USE enum lh_status lh_spool_clean(const char *folder,
                                          void (*each)(uint64_t number, void *arg), void *arg,
                                          struct lh_error *error);

#endif
