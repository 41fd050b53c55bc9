/* What the two disks on a real folder share: the folder itself, its lock, and all calls that answer
 * at once. io_uring and blocking system calls differ only in how operations are done. */
#ifndef LH_STORE_DISK_INTERNAL_H
#define LH_STORE_DISK_INTERNAL_H

#include "store/disk.h"

#include <linux/openat2.h>
#include <sys/types.h>

/* The extended attribute that files keep. */
#define LH__DISK_ATTRIBUTE "user.lakehoused"

/* A folder that was synced once stays open for the next time. */
struct lh__disk_opened {
    char *path;
    int fd;
};

/* Embedded first in both. */
struct lh__disk_folder {
    struct lh_disk disk;
    int root; /* the folder */
    int lock; /* the file that is locked as long as this is open */
    int wake; /* an eventfd; its reads block */
    mode_t file_mode;
    mode_t folder_mode;
    struct lh__disk_opened *opened;
    size_t opened_count;
};

/* Take what `folder` holds and return the disk; NULL leaves it there: no memory, or what `note`
 * says. */
struct lh_disk *lh__disk_uring_create(const struct lh__disk_folder *folder, char note[160]);
struct lh_disk *lh__disk_blocking_create(const struct lh__disk_folder *folder);

/* Fills `note` with why a ring could not be had: what failed and the likely cause. */
void lh__disk_uring_note(int sys_errno, char note[160]);

/* Closes all and gives the lock back. */
void lh__disk_folder_deinit(struct lh__disk_folder *folder);

/* An open descriptor of the folder `path`, which stays the disk's; or -errno. */
int lh__disk_folder_fd(struct lh__disk_folder *folder, const char *path);

/* Does a chain: sets every `result`, calls no `done`. Any thread. */
void lh__disk_do_chain(struct lh__disk_folder *folder, struct lh_disk_op *chain);

/* Calls every `done` of a chain; returns how many. */
uint32_t lh__disk_chain_done(struct lh_disk_op *chain);

/* What SET_ATTRIBUTE puts into its bytes; 0 or -errno. */
int lh__disk_stamp(const struct lh_disk_op *op);

/* How OPEN opens: constants, since a ring reads them later. */
const struct open_how *lh__disk_folder_how(const struct lh__disk_folder *folder,
                                           enum lh_disk_open how);

/* The result of an ALLOCATE for which fallocate has failed with `result`: where the file system has
 * none, it sets the size alone. What was allocated before there was no more room is let go. */
int lh__disk_not_allocated(const struct lh_disk_op *op, int result);

/* The entries of lh_disk_calls that both share. */
void lh__disk_folder_wake(struct lh_disk *disk);
int lh__disk_folder_open(struct lh_disk *disk, const char *path, enum lh_disk_open how, int *file);
void lh__disk_folder_close(struct lh_disk *disk, int file);
int lh__disk_folder_read(struct lh_disk *disk, int file, void *bytes, size_t len, uint64_t offset,
                         size_t *got);
int lh__disk_folder_size(struct lh_disk *disk, int file, uint64_t *bytes);
int lh__disk_folder_data(struct lh_disk *disk, int file, uint64_t offset, uint64_t *at);
int lh__disk_folder_describe(struct lh_disk *disk, int file, struct lh_disk_facts *facts);
int lh__disk_folder_list(struct lh_disk *disk, const char *folder,
                         void (*each)(const char *name, uint64_t bytes, void *arg), void *arg);
int lh__disk_folder_make(struct lh_disk *disk, const char *path);
#define LH__DISK_FOLDER_CALLS                                                                   \
    .splices = true, .wake = lh__disk_folder_wake, .open = lh__disk_folder_open,                \
    .close = lh__disk_folder_close, .read = lh__disk_folder_read, .size = lh__disk_folder_size, \
    .data = lh__disk_folder_data, .describe = lh__disk_folder_describe,                         \
    .list = lh__disk_folder_list, .make_folder = lh__disk_folder_make

#endif
