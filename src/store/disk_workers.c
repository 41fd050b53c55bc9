/* Threads that do chains by blocking system calls. A ring has none of its own for opening a file
 * for writing, attributes, syncs and names: it hands each operation to a thread of the kernel and
 * takes it back, and where nothing may be linked, one after another. Here a chain goes to a thread
 * once, whatever its length.
 *
 * Runs on the thread that owns the disk, but for run, which is each worker's. A worker is the
 * message that brings it a chain, and that brings the chain back: so nothing is allocated on the
 * way, and a worker has one chain at a time.
 *
 * Invariant: a worker is idle, or its message is in its own mailbox, with its thread, or in `back`;
 * chains wait only while no worker is idle. */
#include "store/disk_workers.h"

#include <assert.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>

struct lh__disk_worker {
    struct lh_msg head;
    struct lh__disk_workers *workers;
    struct lh_disk_op *chain;
    struct lh__disk_worker *next_idle;
    struct lh_actor actor;
};

_Static_assert(offsetof(struct lh__disk_worker, head) == 0, "a worker is a message");

/* It waits for the disk nearly all the time, and a batch thread that wakes up lets whoever runs go
 * on: the loop, and the disk's owner. Where that is refused, it only costs time. */
static void run(void *self)
{
    struct lh__disk_worker *worker = self;
    const struct sched_param no_priority = {0};
    sched_setscheduler(0, SCHED_BATCH, &no_priority);
    while (lh_actor_wait(&worker->actor)) {
        struct lh_msg *msg = lh_actor_next(&worker->actor);
        lh__disk_do_chain(worker->workers->folder, worker->chain);
        enum lh_status status = lh_mailbox_push(&worker->workers->back, msg);
        assert(status == LH_OK); /* it is never closed */
        (void)status;
    }
}

static void wake(void *arg)
{
    lh__disk_folder_wake(arg);
}

void lh__disk_workers_init(struct lh__disk_workers *workers, struct lh__disk_folder *folder)
{
    *workers = (struct lh__disk_workers){.folder = folder};
    lh_mailbox_init(&workers->back, wake, &folder->disk);
}

void lh__disk_workers_deinit(struct lh__disk_workers *workers)
{
    for (uint32_t i = 0; i < workers->count; i++)
        lh_actor_stop(&workers->all[i]->actor);
    for (uint32_t i = 0; i < workers->count; i++) {
        assert(workers->all[i]->chain == NULL);
        lh_actor_join(&workers->all[i]->actor);
        lh_actor_deinit(&workers->all[i]->actor);
        free(workers->all[i]);
    }
}

static struct lh__disk_worker *start(struct lh__disk_workers *workers)
{
    struct lh_error error;
    if (workers->count == LH__DISK_WORKERS_MAX)
        return NULL;
    struct lh__disk_worker *worker = malloc(sizeof *worker);
    if (worker == NULL)
        return NULL;
    *worker = (struct lh__disk_worker){.workers = workers};
    lh_actor_init(&worker->actor, "disk", run, worker);
    if (lh_actor_start(&worker->actor, &error) != LH_OK) {
        lh_actor_deinit(&worker->actor);
        free(worker);
        return NULL;
    }
    workers->all[workers->count++] = worker;
    return worker;
}

static void give(struct lh__disk_worker *worker, struct lh_disk_op *chain)
{
    worker->chain = chain;
    enum lh_status status = lh_actor_send(&worker->actor, &worker->head);
    assert(status == LH_OK); /* it is told to stop when nothing is in flight any more */
    (void)status;
}

bool lh__disk_workers_take(struct lh__disk_workers *workers, struct lh_disk_op *chain)
{
    struct lh__disk_worker *worker = workers->idle;
    if (worker != NULL)
        workers->idle = worker->next_idle;
    else
        worker = start(workers);
    if (worker != NULL) {
        give(worker, chain);
        return true;
    }
    if (workers->count == 0)
        return false;
    chain->queued = NULL;
    if (workers->first == NULL)
        workers->first = chain;
    else
        workers->last->queued = chain;
    workers->last = chain;
    return true;
}

uint32_t lh__disk_workers_reap(struct lh__disk_workers *workers)
{
    struct lh_msg_queue over[LH_LANES] = {{0}};
    struct lh__disk_worker *worker;
    uint32_t ended = 0;
    if (workers->count == 0)
        return 0;
    lh_mailbox_drain(&workers->back, over);
    while ((worker = (struct lh__disk_worker *)lh_msg_queue_take(&over[LH_LANE_EXPRESS])) != NULL) {
        struct lh_disk_op *chain = worker->chain;
        struct lh_disk_op *next = workers->first;
        worker->chain = NULL;
        if (next != NULL) {
            workers->first = next->queued;
            give(worker, next);
        } else {
            worker->next_idle = workers->idle;
            workers->idle = worker;
        }
        ended += lh__disk_chain_done(chain);
    }
    return ended;
}
