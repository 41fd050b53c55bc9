/* A disk by blocking system calls, where there is no io_uring. Runs on the thread that owns it:
 * lh_disk_run does what is queued, in the order in which it came, and sleeps in a read of an
 * eventfd.
 *
 * Invariant: nothing is ever in flight between two runs; an operation waits in the queue or is
 * over. */
#include "store/disk_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

struct lh_disk_blocking {
    struct lh__disk_folder folder; /* first */
    struct lh_disk_op *first;
    struct lh_disk_op *last;
};

static int lh_disk_blocking_write(struct lh_disk_op *op)
{
    while (op->finished < op->len) {
        ssize_t n = pwrite(op->file, (const char *)op->bytes + op->finished, op->len - op->finished,
                           (off_t)(op->offset + op->finished));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        op->finished += (size_t)n;
    }
    return 0;
}

static int lh_disk_blocking_allocate(const struct lh_disk_op *op)
{
    if (fallocate(op->file, 0, (off_t)op->offset, (off_t)op->len) == 0)
        return 0;
    return errno == EINTR ? -EINTR : lh__disk_not_allocated(op, -errno);
}

/* glibc has no wrapper for it. */
static int lh_disk_blocking_open(struct lh__disk_folder *folder, struct lh_disk_op *op)
{
    const struct open_how *how = lh__disk_folder_how(folder, op->how);
    long fd = syscall(SYS_openat2, folder->root, op->path, how, sizeof *how);
    if (fd < 0)
        return -errno;
    op->file = (int)fd;
    return 0;
}

static int lh_disk_blocking_sync_folder(struct lh__disk_folder *folder, const char *path)
{
    int fd = lh__disk_folder_fd(folder, path);
    if (fd < 0)
        return fd;
    return fsync(fd) == 0 ? 0 : -errno;
}

static int lh_disk_blocking_try(struct lh__disk_folder *folder, struct lh_disk_op *op)
{
    switch (op->kind) {
    case LH_DISK_WRITE:
        return lh_disk_blocking_write(op);
    case LH_DISK_SYNC:
        return fdatasync(op->file) == 0 ? 0 : -errno;
    case LH_DISK_ALLOCATE:
        return lh_disk_blocking_allocate(op);
    case LH_DISK_RENAME:
        return renameat(folder->root, op->path, folder->root, op->to) == 0 ? 0 : -errno;
    case LH_DISK_UNLINK:
        return unlinkat(folder->root, op->path, 0) == 0 || errno == ENOENT ? 0 : -errno;
    case LH_DISK_SYNC_FOLDER:
        return lh_disk_blocking_sync_folder(folder, op->path);
    case LH_DISK_OPEN:
        return lh_disk_blocking_open(folder, op);
    case LH_DISK_READ:
        return lh__disk_folder_read(&folder->disk, op->file, op->into, op->len, op->offset,
                                    &op->finished);
    case LH_DISK_SET_ATTRIBUTE:
        return fsetxattr(op->file, LH__DISK_ATTRIBUTE, op->bytes, op->len, 0) == 0 ? 0 : -errno;
    case LH_DISK_SYNC_ALL:
        return fsync(op->file) == 0 ? 0 : -errno;
    case LH_DISK_MAKE_FOLDER:
        return mkdirat(folder->root, op->path, folder->folder_mode) == 0 ? 0 : -errno;
    case LH_DISK_REMOVE_FOLDER:
        return unlinkat(folder->root, op->path, AT_REMOVEDIR) == 0 ? 0 : -errno;
    case LH_DISK_KINDS:
        break;
    }
    return -EINVAL;
}

static void lh_disk_blocking_do_chain(struct lh__disk_folder *folder, struct lh_disk_op *op)
{
    bool failed = false;
    while (op != NULL) {
        struct lh_disk_op *next = op->next; /* `done` may free the operation */
        int rc = -ECANCELED;
        if (!failed) {
            do
                rc = lh_disk_blocking_try(folder, op);
            while (rc == -EINTR || rc == -EAGAIN);
            failed = rc != 0;
        }
        op->result = rc;
        op->done(op);
        op = next;
    }
}

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
        lh_disk_blocking_do_chain(&blocking->folder, chain);
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
