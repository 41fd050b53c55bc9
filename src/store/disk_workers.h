/* Threads that do chains by blocking system calls, for a disk whose owner must not wait. */
#ifndef LH_STORE_DISK_WORKERS_H
#define LH_STORE_DISK_WORKERS_H

#include "runtime/actor.h"
#include "store/disk_internal.h"

/* As many chains run at once: what takes their time is syncs, which wait for the device and for one
 * another's commit of the journal, and are no load. */
#define LH__DISK_WORKERS_MAX 64u

struct lh__disk_worker;

/* Its owner's, but for `back`. */
struct lh__disk_workers {
    struct lh__disk_folder *folder; /* its eventfd is what a worker wakes the owner by */
    struct lh_mailbox back;         /* workers whose chain is over */
    struct lh__disk_worker *idle;
    struct lh__disk_worker *all[LH__DISK_WORKERS_MAX];
    uint32_t count;
    struct lh_disk_op *first; /* chains that wait for a worker */
    struct lh_disk_op *last;
};

/* Starts no thread: one is started when a chain comes and all others have one, and stays. */
void lh__disk_workers_init(struct lh__disk_workers *workers, struct lh__disk_folder *folder);

/* No chain may be with them. Ends the threads. */
void lh__disk_workers_deinit(struct lh__disk_workers *workers);

/* False: there is no worker, and none could be started; the chain stays the caller's. */
bool lh__disk_workers_take(struct lh__disk_workers *workers, struct lh_disk_op *chain);

/* Calls `done` for the operations of chains that are over; returns how many. */
uint32_t lh__disk_workers_reap(struct lh__disk_workers *workers);

#endif
