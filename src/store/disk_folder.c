/* A disk's folder: making it, locking it, choosing the way operations are done, and all calls that
 * answer at once. Runs on the thread that owns the disk, but for reads and wakes.
 *
 * Invariants: as long as a disk is open its process holds the lock on its lock file; every
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
#include <sys/xattr.h>
#include <unistd.h>

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

/* A folder on its way to be a disk, and whom to name when it cannot be one. */
struct lh__disk_opening {
    const char *root;
    const struct lh_disk_options *options;
    struct lh__disk_folder folder;
};

static enum lh_status lh__disk_refuse(const struct lh__disk_opening *opening, const char *doing,
                                      int sys_errno, struct lh_error *error)
{
    const char *key = opening->options->key;
    const char *root = opening->root;
    switch (sys_errno) {
    case ENOTDIR:
        lh_error_set(error, LH_IO, "%s %s: it, or a folder on its way, is not a folder", key, root);
        break;
    case EACCES:
    case EPERM:
        lh_error_set(error, LH_IO, "%s %s: no permission to %s", key, root, doing);
        break;
    case EROFS:
        lh_error_set(error, LH_IO, "%s %s is on a read-only file system", key, root);
        break;
    default:
        return lh_error_sys(error, LH_IO, sys_errno, "%s %s: cannot %s", key, root, doing);
    }
    if (error != NULL)
        error->sys_errno = sys_errno;
    return LH_IO;
}

/* The lock goes with its last descriptor, however the process ends; the file stays, since removing
 * it could take it from under a server that has just opened it. */
static enum lh_status lh__disk_lock(struct lh__disk_opening *opening, struct lh_error *error)
{
    const char *key = opening->options->key;
    const char *root = opening->root;
    struct lh__disk_folder *folder = &opening->folder;
    char pid[16];
    ssize_t len;
    folder->lock = openat(folder->root, opening->options->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (folder->lock < 0)
        return lh__disk_refuse(opening, "write in it", errno, error);
    if (flock(folder->lock, LOCK_EX | LOCK_NB) != 0) {
        long holder = 0;
        if (errno != EWOULDBLOCK)
            return lh__disk_refuse(opening, "lock it", errno, error);
        len = pread(folder->lock, pid, sizeof pid - 1, 0);
        if (len > 0) {
            pid[len] = '\0';
            holder = strtol(pid, NULL, 10);
        }
        if (holder <= 0) /* it has the lock and has not said yet who it is */
            return lh_error_set(error, LH_IO, "%s %s is in use by another lakehoused", key, root);
        return lh_error_set(error, LH_IO, "%s %s is in use by lakehoused with pid %ld", key, root,
                            holder);
    }
    len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* What is there can be read on a full disk: it only costs others the pid. */
    if ((ftruncate(folder->lock, 0) != 0 || pwrite(folder->lock, pid, (size_t)len, 0) != len) &&
        errno != ENOSPC)
        return lh__disk_refuse(opening, "write its lock file", errno, error);
    return LH_OK;
}

static enum lh_status lh__disk_make(struct lh__disk_opening *opening, struct lh_disk **disk,
                                    char note[160], struct lh_error *error)
{
    const struct lh_disk_options *options = opening->options;
    if (options->io != LH_DISK_BLOCKING)
        *disk = lh__disk_uring_create(&opening->folder, note);
    if (*disk == NULL && options->io != LH_DISK_URING)
        *disk = lh__disk_blocking_create(&opening->folder);
    if (*disk != NULL)
        return LH_OK;
    if (options->io == LH_DISK_URING)
        return lh_error_set(error, LH_IO, "server.io is \"uring\", but %.120s", note);
    return lh_error_set(error, LH_OUT_OF_MEMORY, "%s %s: not enough memory", options->key,
                        opening->root);
}

enum lh_status lh_disk_open_folder(const char *root, const struct lh_disk_options *options,
                                   struct lh_disk **disk, char note[160], struct lh_error *error)
{
    struct lh__disk_opening opening = {
        .root = root,
        .options = options,
        .folder = {.root = -1, .lock = -1, .wake = -1, .file_mode = 0600, .folder_mode = 0700}};
    struct lh__disk_folder *folder = &opening.folder;
    enum lh_status status;
    int rc;
    if (options->is_shared) {
        folder->file_mode = 0666;
        folder->folder_mode = 0777;
    }
    note[0] = '\0';
    *disk = NULL;
    rc = lh__disk_make_root(root);
    if (rc != 0)
        return lh__disk_refuse(&opening, "make it", -rc, error);
    folder->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->root < 0)
        return lh__disk_refuse(&opening, "open it", errno, error);
    status = lh__disk_lock(&opening, error);
    if (status != LH_OK)
        goto done;
    folder->wake = eventfd(0, EFD_CLOEXEC);
    status = folder->wake < 0 ? lh__disk_refuse(&opening, "make an eventfd for it", errno, error)
                              : lh__disk_make(&opening, disk, note, error);
done:
    if (status != LH_OK)
        lh__disk_folder_deinit(folder);
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

static uint64_t lh__disk_modified_ns(const struct stat *stat)
{
    return (uint64_t)stat->st_mtim.tv_sec * 1000000000u + (uint64_t)stat->st_mtim.tv_nsec;
}

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

int lh__disk_stamp(const struct lh_disk_op *op)
{
    struct stat stat;
    if (fstat(op->file, &stat) != 0)
        return -errno;
    lh_disk_op_stamp(op, lh__disk_modified_ns(&stat));
    return 0;
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
        fd = openat(folder->root, path, flags[how] | O_CLOEXEC, folder->file_mode);
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

int lh__disk_folder_describe(struct lh_disk *disk, int file, struct lh_disk_facts *facts)
{
    struct stat stat;
    ssize_t len;
    if (fstat(file, &stat) != 0)
        return -errno;
    facts->bytes = (uint64_t)stat.st_size;
    facts->modified_ns = lh__disk_modified_ns(&stat);
    facts->number = stat.st_ino;
    facts->is_file = S_ISREG(stat.st_mode);
    facts->is_folder = S_ISDIR(stat.st_mode);
    facts->attribute_len = 0;
    if (!facts->is_file)
        return 0;
    len = fgetxattr(file, LH__DISK_ATTRIBUTE, facts->attribute, sizeof facts->attribute);
    if (len > 0)
        facts->attribute_len = (size_t)len;
    else if (len < 0 && errno != ENODATA && errno != EOPNOTSUPP && errno != ERANGE)
        return -errno;
    return 0;
}

const struct open_how *lh__disk_folder_how(const struct lh__disk_folder *folder,
                                           enum lh_disk_open how)
{
#define RESOLVE (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    /* A pipe is opened without waiting for its other end. */
    static const struct open_how for_reading = {O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, RESOLVE};
    static const struct open_how again = {O_RDWR | O_CLOEXEC, 0, RESOLVE};
    static const struct open_how names = {O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE};
    static const struct open_how own = {O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600, RESOLVE};
    static const struct open_how shared = {O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666, RESOLVE};
#undef RESOLVE
    switch (how) {
    case LH_DISK_OPEN_READ:
    case LH_DISK_OPEN_READ_EXACT:
        return &for_reading;
    case LH_DISK_OPEN_REUSE:
        return &again;
    case LH_DISK_OPEN_FOLDER:
        return &names;
    case LH_DISK_OPEN_NEW:
        break;
    }
    return folder->file_mode == 0600 ? &own : &shared;
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
        if (mkdirat(folder->root, part, folder->folder_mode) != 0 && errno != EEXIST)
            return -errno;
    }
    if (fstatat(folder->root, path, &stat, 0) != 0)
        return -errno;
    return S_ISDIR(stat.st_mode) ? 0 : -ENOTDIR;
}
