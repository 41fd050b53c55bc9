/* storaged with the disk backend: objects as files, over one ring of its own. */
#ifndef LH_ACTORS_STORAGED_H
#define LH_ACTORS_STORAGED_H

#include "actors/messages.h"
#include "base/log.h"
#include "base/metrics.h"
#include "runtime/actor.h"
#include "store/objects.h"

struct lh_storaged_metrics {
    struct lh_counter puts;
    struct lh_counter gets;
    struct lh_counter deletes;
    struct lh_counter lists;
    struct lh_counter errors; /* not those that a client has made */
    struct lh_counter bytes_in;
    struct lh_counter bytes_out;
    struct lh_counter in_flight;
    struct lh_counter keys;
    struct lh_counter index_bytes;
    struct lh_counter folder_syncs;
    struct lh_counter is_listed;
    struct lh_counter is_counting; /* lists are refused until it ends */
};

struct lh_storaged_options {
    struct lh_disk *disk;      /* taken on success */
    struct lh_disk *walk_disk; /* a second one on the same folder, for the walk; taken on success */
    const char *root;
    const struct lh_log *log;
};

struct lh_storaged {
    struct lh_actor actor;
    struct lh_actor walker;  /* fills the index, and ends */
    struct lh_msg *walk_end; /* made at start: says that it has no memory to go on; NULL: said */
    struct lh_storaged_options options;
    struct lh_objects *objects;
    struct lh_storaged_metrics metrics;
};

/* Cleans up what uploads have left. Blocks; belongs to start-up. */
LH_MUST_USE enum lh_status lh_storaged_init(struct lh_storaged *storaged,
                                            const struct lh_storaged_options *options,
                                            struct lh_error *error);
/* Starts its threads. */
LH_MUST_USE enum lh_status lh_storaged_start(struct lh_storaged *storaged, struct lh_error *error);
/* When no transfer is under way. */
void lh_storaged_stop(struct lh_storaged *storaged);
void lh_storaged_deinit(struct lh_storaged *storaged);

#endif
