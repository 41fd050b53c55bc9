/* A disk's folder: making it, locking it, choosing the way operations are done, and all calls that
 * answer at once. Runs on the thread that owns the disk, but for reads and wakes.
 *
 * Invariants: as long as a disk is open its process holds the lock on the file "lock" in it; every
 * descriptor is closed on exec, so that no child keeps that lock. */
#include "store/disk_internal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LH__DISK_LOCK_FILE "lock"

static void lh__disk_close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

void lh__disk_folder_deinit(struct lh__disk_folder *folder)
{
    for (size_t i = 0; i < folder->opened_count; i++) {
        close(folder->opened[i].fd);
        free(folder->opened[i].path);
    }
    free(folder->opened);
    lh__disk_close_fd(folder->wake);
    lh__disk_close_fd(folder->root);
    lh__disk_close_fd(folder->lock);
}

/* ---- opening ---- */

/* Syncs the folder that `path` is in, so that a folder made there is still there after a power cut.
 * `path` is changed and changed back. */
static int lh__disk_sync_parent(char *path)
{
    char *slash = strrchr(path, '/');
    const char *parent = slash == NULL ? "." : slash == path ? "/" : path;
    int fd, rc = 0;
    if (slash != NULL && slash != path)
        *slash = '\0';
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (slash != NULL && slash != path)
        *slash = '/';
    if (fd < 0 || fsync(fd) != 0)
        rc = -errno;
    lh__disk_close_fd(fd);
    return rc;
}

static int lh__disk_make_one(char *path, mode_t mode)
{
    if (mkdir(path, mode) == 0)
        return lh__disk_sync_parent(path);
    return errno == EEXIST ? 0 : -errno;
}

/* The folder and its parents. Only the last is private: the others may be anyone's. */
static int lh__disk_make_root(const char *root)
{
    char path[PATH_MAX];
    size_t len = strlen(root);
    while (len > 1 && root[len - 1] == '/')
        len--;
    if (len == 0)
        return -ENOENT;
    if (len >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, root, len);
    path[len] = '\0';
    if (access(path, F_OK) == 0)
        return 0; /* nothing to make, and its parents may be closed to us */
    for (size_t i = 1; i < len; i++) {
        int rc;
        if (path[i] != '/' || path[i - 1] == '/')
            continue;
        path[i] = '\0';
        rc = access(path, F_OK) == 0 ? 0 : lh__disk_make_one(path, 0755);
        path[i] = '/';
        if (rc != 0)
            return rc;
    }
    return lh__disk_make_one(path, 0700);
}

static enum lh_status lh__disk_refuse(struct lh_error *error, const char *root, const char *doing,
                                      int sys_errno)
{
    switch (sys_errno) {
    case ENOTDIR:
        lh_error_set(error, LH_IO, "data_dir %s: it, or a folder on its way, is not a folder",
                     root);
        break;
    case EACCES:
    case EPERM:
        lh_error_set(error, LH_IO, "data_dir %s: no permission to %s", root, doing);
        break;
    case EROFS:
        lh_error_set(error, LH_IO, "data_dir %s is on a read-only file system", root);
        break;
    default:
        return lh_error_sys(error, LH_IO, sys_errno, "data_dir %s: cannot %s", root, doing);
    }
    if (error != NULL)
        error->sys_errno = sys_errno;
    return LH_IO;
}

/* The lock goes with its last descriptor, however the process ends; the file stays, since removing
 * it could take it from under a server that has just opened it. */
static enum lh_status lh__disk_lock(struct lh__disk_folder *folder, const char *root,
                                    struct lh_error *error)
{
    char pid[16];
    ssize_t len;
    folder->lock = openat(folder->root, LH__DISK_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (folder->lock < 0)
        return lh__disk_refuse(error, root, "write in it", errno);
    if (flock(folder->lock, LOCK_EX | LOCK_NB) != 0) {
        long holder = 0;
        if (errno != EWOULDBLOCK)
            return lh__disk_refuse(error, root, "lock it", errno);
        len = pread(folder->lock, pid, sizeof pid - 1, 0);
        if (len > 0) {
            pid[len] = '\0';
            holder = strtol(pid, NULL, 10);
        }
        if (holder <= 0) /* it has the lock and has not said yet who it is */
            return lh_error_set(error, LH_IO, "data_dir %s is in use by another lakehoused", root);
        return lh_error_set(error, LH_IO, "data_dir %s is in use by lakehoused with pid %ld", root,
                            holder);
    }
    len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* What is there can be read on a full disk: it only costs others the pid. */
    if ((ftruncate(folder->lock, 0) != 0 || pwrite(folder->lock, pid, (size_t)len, 0) != len) &&
        errno != ENOSPC)
        return lh__disk_refuse(error, root, "write the file " LH__DISK_LOCK_FILE, errno);
    return LH_OK;
}

enum lh_status lh_disk_open_folder(const char *root, enum lh_disk_io io, struct lh_disk **disk,
                                   char note[160], struct lh_error *error)
{
    struct lh__disk_folder folder = {.root = -1, .lock = -1, .wake = -1};
    enum lh_status status;
    int rc;
    note[0] = '\0';
    *disk = NULL;
    rc = lh__disk_make_root(root);
    if (rc != 0)
        return lh__disk_refuse(error, root, "make it", -rc);
    folder.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder.root < 0)
        return lh__disk_refuse(error, root, "open it", errno);
    status = lh__disk_lock(&folder, root, error);
    if (status != LH_OK)
        goto done;
    folder.wake = eventfd(0, EFD_CLOEXEC);
    if (folder.wake < 0) {
        status = lh__disk_refuse(error, root, "make an eventfd for it", errno);
        goto done;
    }
    if (io != LH_DISK_BLOCKING)
        *disk = lh__disk_uring_create(&folder, note);
    if (*disk == NULL && io != LH_DISK_URING)
        *disk = lh__disk_blocking_create(&folder);
    if (*disk == NULL)
        status =
            io == LH_DISK_URING
                ? lh_error_set(error, LH_IO, "server.io is \"uring\", but %.120s", note)
                : lh_error_set(error, LH_OUT_OF_MEMORY, "data_dir %s: not enough memory", root);
done:
    if (status != LH_OK)
        lh__disk_folder_deinit(&folder);
    return status;
}

const char *lh_disk_effective(enum lh_disk_io io, char note[160])
{
    const struct lh__disk_folder none = {.root = -1, .lock = -1, .wake = -1};
    struct lh_disk *disk = NULL;
    note[0] = '\0';
    if (io != LH_DISK_BLOCKING)
        disk = lh__disk_uring_create(&none, note);
    if (disk == NULL && io != LH_DISK_URING)
        disk = lh__disk_blocking_create(&none);
    const char *name = disk != NULL ? lh_disk_name(disk) : NULL;
    lh_disk_destroy(disk);
    return name;
}

/* ---- calls that answer at once ---- */

int lh__disk_folder_fd(struct lh__disk_folder *folder, const char *path)
{
    struct lh__disk_opened *grown;
    char *copy;
    int fd;
    for (size_t i = 0; i < folder->opened_count; i++)
        if (strcmp(folder->opened[i].path, path) == 0)
            return folder->opened[i].fd;
    grown = realloc(folder->opened, (folder->opened_count + 1) * sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    folder->opened = grown;
    copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    fd = openat(folder->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int sys_errno = errno;
        free(copy);
        return -sys_errno;
    }
    grown[folder->opened_count++] = (struct lh__disk_opened){copy, fd};
    return fd;
}

int lh__disk_not_allocated(const struct lh_disk_op *op, int result)
{
    struct stat stat;
    uint64_t end = op->offset + op->len;
    if (result == -ENOSPC && ftruncate(op->file, (off_t)op->offset) != 0)
        return -errno;
    if (result != -EOPNOTSUPP)
        return result;
    if (fstat(op->file, &stat) != 0)
        return -errno;
    if ((uint64_t)stat.st_size >= end)
        return 0;
    return ftruncate(op->file, (off_t)end) == 0 ? 0 : -errno;
}

void lh__disk_folder_wake(struct lh_disk *disk)
{
    struct lh__disk_folder *folder = (struct lh__disk_folder *)disk;
    uint64_t one = 1;
    ssize_t rc;
    do
        rc = write(folder->wake, &one, sizeof one);
    while (rc < 0 && errno == EINTR);
    assert(rc == sizeof one);
    (void)rc;
}

int lh__disk_folder_open(struct lh_disk *disk, const char *path, enum lh_disk_open how, int *file)
{
    struct lh__disk_folder *folder = (struct lh__disk_folder *)disk;
    static const int flags[] = {[LH_DISK_OPEN_READ] = O_RDONLY,
                                [LH_DISK_OPEN_READ_EXACT] = O_RDONLY,
                                [LH_DISK_OPEN_NEW] = O_RDWR | O_CREAT | O_TRUNC,
                                [LH_DISK_OPEN_REUSE] = O_RDWR};
    int fd;
    do
        fd = openat(folder->root, path, flags[how] | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    if (how == LH_DISK_OPEN_READ_EXACT)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* a hint */
    *file = fd;
    return 0;
}

void lh__disk_folder_close(struct lh_disk *disk, int file)
{
    close(file); /* what counted was synced before; an error here says nothing about it */
}

int lh__disk_folder_read(struct lh_disk *disk, int file, void *bytes, size_t len, uint64_t offset,
                         size_t *got)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = pread(file, (char *)bytes + have, len - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    *got = have;
    return 0;
}

int lh__disk_folder_size(struct lh_disk *disk, int file, uint64_t *bytes)
{
    struct stat stat;
    if (fstat(file, &stat) != 0)
        return -errno;
    *bytes = (uint64_t)stat.st_size;
    return 0;
}

int lh__disk_folder_data(struct lh_disk *disk, int file, uint64_t offset, uint64_t *at)
{
    off_t found = lseek(file, (off_t)offset, SEEK_DATA);
    *at = found < 0 ? offset : (uint64_t)found;
    if (found < 0 && errno == ENXIO)
        return lh__disk_folder_size(disk, file, at);
    return 0; /* whatever else it says: then all of it may be data */
}

int lh__disk_folder_list(struct lh_disk *disk, const char *path,
                         void (*each)(const char *name, uint64_t bytes, void *arg), void *arg)
{
    struct lh__disk_folder *folder = (struct lh__disk_folder *)disk;
    int rc = 0, fd = openat(folder->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    DIR *dir;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    dir = fdopendir(fd);
    if (dir == NULL) {
        rc = -errno;
        close(fd);
        return rc;
    }
    for (;;) {
        struct stat stat;
        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(fd, entry->d_name, &stat, 0) != 0) {
            if (errno == ENOENT)
                continue; /* gone since, or a link to nothing */
            rc = -errno;
            break;
        }
        each(entry->d_name, S_ISDIR(stat.st_mode) ? 0 : (uint64_t)stat.st_size, arg);
    }
    closedir(dir);
    return rc;
}

int lh__disk_folder_make(struct lh_disk *disk, const char *path)
{
    struct lh__disk_folder *folder = (struct lh__disk_folder *)disk;
    char part[PATH_MAX];
    struct stat stat;
    size_t len = strlen(path);
    if (len >= sizeof part)
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdirat(folder->root, part, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    if (fstatat(folder->root, path, &stat, 0) != 0)
        return -errno;
    return S_ISDIR(stat.st_mode) ? 0 : -ENOTDIR;
}
