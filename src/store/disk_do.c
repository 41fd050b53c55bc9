/* Operations by blocking system calls. Runs on any thread: of the folder only what never changes is
 * read, and a chain belongs to who does it. */
#include "store/disk_internal.h"

#include "runtime/pipe.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* As many whole blocks as it has, without a copy and without taking pages from what is read. The
 * caller writes the rest, which is all of it where this is refused or fails, through the page
 * cache: then it is that write, or the sync, that says what is wrong. */
static void lh__disk_do_write_direct(struct lh_disk_op *op)
{
    size_t len = op->len - op->len % LH_DISK_DIRECT_BYTES;
    if (len == 0 || op->offset % LH_DISK_DIRECT_BYTES != 0 ||
        (uintptr_t)op->bytes % LH_DISK_DIRECT_BYTES != 0 || fcntl(op->file, F_SETFL, O_DIRECT) != 0)
        return;
    ssize_t n = pwrite(op->file, op->bytes, len, (off_t)op->offset);
    if (n > 0)
        op->finished = (size_t)n;
    fcntl(op->file, F_SETFL, 0); /* as OPEN left a file that may be written */
}

static int lh__disk_do_write(struct lh_disk_op *op)
{
    if (op->is_direct)
        lh__disk_do_write_direct(op);
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

/* fallocate takes what room there is before it finds that there is not enough: whoever writes at
 * that moment would find none. So it is not tried with more than is free, where that is known: a
 * tmpfs without a limit, and many a FUSE, say that they have no blocks at all. */
static int lh__disk_do_allocate(const struct lh_disk_op *op)
{
    struct statvfs disk;
    if (fstatvfs(op->file, &disk) == 0 && disk.f_blocks > 0 &&
        op->len / disk.f_frsize > disk.f_bavail)
        return -ENOSPC;
    if (fallocate(op->file, 0, (off_t)op->offset, (off_t)op->len) == 0)
        return 0;
    return errno == EINTR ? -EINTR : lh__disk_not_allocated(op, -errno);
}

/* glibc has no wrapper for it. */
static int lh__disk_do_open(const struct lh__disk_folder *folder, struct lh_disk_op *op)
{
    const struct open_how *how = lh__disk_folder_how(folder, op->how);
    long fd = syscall(SYS_openat2, folder->root, op->path, how, sizeof *how);
    if (fd < 0)
        return -errno;
    lh_disk_op_opened(op, (int)fd);
    return 0;
}

static int lh__disk_do_sync_folder(const struct lh__disk_folder *folder, const char *path)
{
    int rc, fd = openat(folder->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return rc;
}

static int lh__disk_do_set_attribute(const struct lh_disk_op *op)
{
    int rc = lh__disk_stamp(op);
    if (rc != 0)
        return rc;
    return fsetxattr(op->file, LH__DISK_ATTRIBUTE, op->into, op->len, 0) == 0 ? 0 : -errno;
}

static int lh__disk_do(struct lh__disk_folder *folder, struct lh_disk_op *op)
{
    switch (op->kind) {
    case LH_DISK_WRITE:
        return lh__disk_do_write(op);
    case LH_DISK_SYNC:
        return fdatasync(op->file) == 0 ? 0 : -errno;
    case LH_DISK_ALLOCATE:
        return lh__disk_do_allocate(op);
    case LH_DISK_RENAME:
        return renameat(folder->root, op->path, folder->root, op->to) == 0 ? 0 : -errno;
    case LH_DISK_LINK:
        return linkat(folder->root, op->path, folder->root, op->to, 0) == 0 ? 0 : -errno;
    case LH_DISK_UNLINK:
        return unlinkat(folder->root, op->path, 0) == 0 || errno == ENOENT ? 0 : -errno;
    case LH_DISK_SYNC_FOLDER:
        return lh__disk_do_sync_folder(folder, op->path);
    case LH_DISK_OPEN:
        return lh__disk_do_open(folder, op);
    case LH_DISK_READ:
        return lh__disk_folder_read(&folder->disk, op->file, op->into, op->len, op->offset,
                                    &op->finished);
    case LH_DISK_SET_ATTRIBUTE:
        return lh__disk_do_set_attribute(op);
    case LH_DISK_SYNC_ALL:
        return fsync(op->file) == 0 ? 0 : -errno;
    case LH_DISK_MAKE_FOLDER:
        return mkdirat(folder->root, op->path, folder->folder_mode) == 0 ? 0 : -errno;
    case LH_DISK_REMOVE_FOLDER:
        return unlinkat(folder->root, op->path, AT_REMOVEDIR) == 0 ? 0 : -errno;
    case LH_DISK_SPLICE:
        return lh_pipe_fill(op->into, op->file, op->offset, op->len);
    case LH_DISK_KINDS:
        break;
    }
    return -EINVAL;
}

void lh__disk_do_chain(struct lh__disk_folder *folder, struct lh_disk_op *chain)
{
    int rc = 0;
    for (struct lh_disk_op *op = chain; op != NULL; op = op->next) {
        op->result = -ECANCELED;
        if (rc != 0)
            continue;
        do
            rc = lh__disk_do(folder, op);
        while (rc == -EINTR || rc == -EAGAIN);
        op->result = rc;
    }
}

uint32_t lh__disk_chain_done(struct lh_disk_op *chain)
{
    uint32_t ended = 0;
    while (chain != NULL) {
        struct lh_disk_op *next = chain->next; /* `done` may free the operation */
        chain->done(chain);
        chain = next;
        ended++;
    }
    return ended;
}
