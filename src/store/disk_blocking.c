/* A disk by blocking system calls, where there is no io_uring. Runs on the thread that owns it:
 * lh_disk_run does what is queued, in the order in which it came, and sleeps in a read of an
 * eventfd.
 *
 * Invariant: nothing is ever in flight between two runs; an operation waits in the queue or is
 * over. */
#include "store/disk_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct lh_disk_blocking {
    struct lh__disk_folder folder; /* first */
    struct lh_disk_op *first;
    struct lh_disk_op *last;
};

static void lh_disk_blocking_submit(struct lh_disk *disk, struct lh_disk_op *chain)
{
    struct lh_disk_blocking *blocking = (struct lh_disk_blocking *)disk;
    for (struct lh_disk_op *op = chain; op != NULL; op = op->next)
        op->finished = 0;
    chain->queued = NULL;
    if (blocking->first == NULL)
        blocking->first = chain;
    else
        blocking->last->queued = chain;
    blocking->last = chain;
}

static bool lh_disk_blocking_run(struct lh_disk *disk, bool sleep)
{
    struct lh_disk_blocking *blocking = (struct lh_disk_blocking *)disk;
    struct lh_disk_op *chain = blocking->first;
    bool did = chain != NULL;
    uint64_t wakes;
    blocking->first = NULL; /* what callbacks submit is for the next run */
    while (chain != NULL) {
        struct lh_disk_op *next = chain->queued;
        lh__disk_do_chain(&blocking->folder, chain);
        lh__disk_chain_done(chain);
        chain = next;
    }
    if (!did && sleep)
        while (read(blocking->folder.wake, &wakes, sizeof wakes) < 0 && errno == EINTR)
            ;
    return did;
}

static void lh_disk_blocking_destroy(struct lh_disk *disk)
{
    struct lh_disk_blocking *blocking = (struct lh_disk_blocking *)disk;
    assert(blocking->first == NULL);
    lh__disk_folder_deinit(&blocking->folder);
    free(blocking);
}

static const struct lh_disk_calls lh_disk_blocking_calls = {
    .name = "blocking",
    .destroy = lh_disk_blocking_destroy,
    .submit = lh_disk_blocking_submit,
    .run = lh_disk_blocking_run,
    LH__DISK_FOLDER_CALLS,
};

struct lh_disk *lh__disk_blocking_create(const struct lh__disk_folder *folder)
{
    struct lh_disk_blocking *blocking = calloc(1, sizeof *blocking);
    if (blocking == NULL)
        return NULL;
    blocking->folder = *folder;
    blocking->folder.disk.calls = &lh_disk_blocking_calls;
    return &blocking->folder.disk;
}
