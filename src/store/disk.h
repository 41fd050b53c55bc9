/* The disk seam: all that the server writes goes through here, and tests replace it.
 *
 * Three implementations: io_uring (one ring), blocking system calls (where the kernel or a
 * container refuses io_uring), and a simulated disk that keeps unsynced writes apart, so that a
 * test can crash after any operation and lose or tear any subset of them.
 *
 * Paths are relative to the disk's folder. Changes of what is on disk are operations: submitted as
 * chains, completed by callbacks. Everything else (opening, reading, listing) answers at once and
 * may block: it belongs to start-up, to loading and to the making of a file that no one waits for.
 * One thread owns a disk, and may hand it to another when nothing is in flight; only lh_disk_wake
 * and lh_disk_read may be called from others. */
#ifndef LH_STORE_DISK_H
#define LH_STORE_DISK_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lh_disk_kind {
    LH_DISK_WRITE,       /* `len` bytes at `offset`, all of them: short writes are resubmitted */
    LH_DISK_SYNC,        /* the file's data, and what is needed to read it back (fdatasync) */
    LH_DISK_ALLOCATE,    /* blocks for `len` bytes from `offset`, the file's end, on: it grows to
                            that, or ends where it did */
    LH_DISK_RENAME,      /* `path` to `to`, over what is there */
    LH_DISK_LINK,        /* `path`, which may be absolute, is also named `to`: -EEXIST when that is
                            there, -EXDEV when the two are on different file systems */
    LH_DISK_UNLINK,      /* `path`; one that is not there is no error */
    LH_DISK_SYNC_FOLDER, /* the names in folder `path` */
    LH_DISK_OPEN,        /* `path` as `how` says: gives `file`, to all behind it in its chain,
                            too; never through a symbolic link */
    LH_DISK_READ,        /* up to `len` bytes at `offset` to `into`; `finished` says how many */
    LH_DISK_SET_ATTRIBUTE, /* the file's attribute becomes the `len` bytes of `into`, when its time
                              was put into the 8 at `offset`: ns since 1970, little-endian */
    LH_DISK_SYNC_ALL, /* SYNC, with times and attribute; also of a folder that is open: its names */
    LH_DISK_MAKE_FOLDER,   /* `path` alone; -EEXIST when something is there */
    LH_DISK_REMOVE_FOLDER, /* `path`, which must be empty: -ENOTEMPTY */
    LH_DISK_SPLICE, /* up to `len` bytes at `offset` into the empty pipe (struct lh_pipe) that
                       `into` is; its `len` says how many. Where lh_disk_splices */
    LH_DISK_KINDS
};

/* How a file is opened. */
enum lh_disk_open {
    LH_DISK_OPEN_READ,       /* may be a folder: lh_disk_describe says so */
    LH_DISK_OPEN_READ_EXACT, /* nothing is read ahead of what is asked for; as an operation: READ */
    LH_DISK_OPEN_NEW,        /* for writing; an older one of that name is emptied first */
    LH_DISK_OPEN_REUSE,      /* for writing; must be there, and keeps its bytes */
    LH_DISK_OPEN_FOLDER      /* -ENOTDIR when it is none; only as an operation */
};

/* One operation, in its owner's memory until `done` was called. */
struct lh_disk_op {
    enum lh_disk_kind kind;
    int file;
    const void *bytes;
    void *into; /* READ, SET_ATTRIBUTE, SPLICE */
    size_t len;
    uint64_t offset;
    const char *path;
    const char *to;
    enum lh_disk_open how; /* OPEN */
    bool is_direct; /* WRITE: past the page cache (O_DIRECT), as far as that goes: for what is
                       synced at once and need not be cached for a reader. A hint, which the ring
                       does not take; nobody else may use the file meanwhile */
    /* Starts when this one has succeeded; when it fails, this and all behind it in the chain end
     * with -ECANCELED without being tried. */
    struct lh_disk_op *next;
    int result; /* 0, or -errno */
    void (*done)(struct lh_disk_op *op);
    void *arg; /* the owner's */

    /* The disk's. */
    struct lh_disk_op *queued; /* the chain behind this one, while both wait to be started */
    size_t finished;           /* bytes of a write; of a READ the owner's to look at */
    uint32_t slot;             /* io_uring: which chain of those in flight */
    bool answered;             /* io_uring: the kernel is through with it; `done` is called when
                                * that has been for all before it in the chain */
};

/* A WRITE goes past the page cache where its memory and its offset are multiples of this, with as
 * many bytes as are. No less than a sector of nearly any disk; where it is, the file system refuses
 * and all goes through the cache. */
#define LH_DISK_DIRECT_BYTES 4096u

/* Operations in one chain: linked writes are one submission, so they must fit a ring. */
#define LH_DISK_CHAIN_OPS_MAX 256u

/* Bytes that a file keeps beside its own, where the file system can: an extended attribute. */
#define LH_DISK_ATTRIBUTE_BYTES_MAX 512u

struct lh_disk_facts {
    uint64_t bytes;
    uint64_t modified_ns; /* since 1970 */
    uint64_t number;      /* of the inode */
    bool is_file;         /* a regular one */
    bool is_folder;
    size_t attribute_len; /* 0: it has none, or one that is too long */
    uint8_t attribute[LH_DISK_ATTRIBUTE_BYTES_MAX];
};

struct lh_disk;

struct lh_disk_calls {
    const char *name; /* "io_uring", "blocking", "simulated" */
    bool splices;     /* its files are the kernel's */
    void (*destroy)(struct lh_disk *disk);
    void (*submit)(struct lh_disk *disk, struct lh_disk_op *chain);
    bool (*run)(struct lh_disk *disk, bool sleep);
    void (*wake)(struct lh_disk *disk);
    int (*open)(struct lh_disk *disk, const char *path, enum lh_disk_open how, int *file);
    void (*close)(struct lh_disk *disk, int file);
    int (*read)(struct lh_disk *disk, int file, void *bytes, size_t len, uint64_t offset,
                size_t *got);
    int (*size)(struct lh_disk *disk, int file, uint64_t *bytes);
    int (*data)(struct lh_disk *disk, int file, uint64_t offset, uint64_t *at);
    int (*describe)(struct lh_disk *disk, int file, struct lh_disk_facts *facts);
    int (*list)(struct lh_disk *disk, const char *folder,
                void (*each)(const char *name, uint64_t bytes, void *arg), void *arg);
    int (*make_folder)(struct lh_disk *disk, const char *path);
};

/* Embedded first in each implementation. */
struct lh_disk {
    const struct lh_disk_calls *calls;
};

/* What `[server] io` asks for. */
enum lh_disk_io { LH_DISK_AUTO, LH_DISK_URING, LH_DISK_BLOCKING };

struct lh_disk_options {
    const char *key;  /* the configuration key that names the folder, for errors */
    const char *lock; /* the file in it that is locked */
    enum lh_disk_io io;
    bool is_shared; /* other programs may read it: permissions are the umask's, not the owner's only
                     */
};

/* Opens the folder `root` (made, with its parents, when it is not there) and takes its lock: a
 * second server on it gets LH_IO with the pid of the first. AUTO tries io_uring once and falls back
 * to blocking; `note` (never NULL) then says why, with the likely cause, and is empty otherwise. */
LH_MUST_USE enum lh_status lh_disk_open_folder(const char *root,
                                               const struct lh_disk_options *options,
                                               struct lh_disk **disk, char note[160],
                                               struct lh_error *error);

/* Opens a folder that is there, without its lock and without making anything; lh_disk_run must not
 * sleep. For looking at files, and for a thread of the process that holds the lock: both have files
 * open as descriptors, so that one may go on with the other's. */
LH_MUST_USE enum lh_status lh_disk_open_plain(const char *root, struct lh_disk **disk,
                                              struct lh_error *error);

/* Which of the two on a folder `io` leads to here, without one: "io_uring", "blocking", or NULL
 * when what is asked for is not to be had; `note` as above. */
const char *lh_disk_effective(enum lh_disk_io io, char note[160]);
/* Nothing may be in flight. The lock goes with it. */
void lh_disk_destroy(struct lh_disk *disk);

/* What 0 or -errno means to a client: LH_OK, LH_NO_SPACE or LH_DISK_FAILED. */
enum lh_status lh_disk_status(int result);

const char *lh_disk_name(const struct lh_disk *disk);

/* Whether SPLICE may be asked for. It may still fail where READ does not: without a thread for it,
 * or on a file system that has none. */
bool lh_disk_splices(const struct lh_disk *disk);

/* Queues a chain; nothing has started when this returns. Cannot fail: errors come to `done`. */
void lh_disk_submit(struct lh_disk *disk, struct lh_disk_op *chain);

/* Starts what is queued, as much as a ring holds, in one system call, and calls `done` for what has
 * finished, chains in the order of their links; chains among each other have no order. With
 * `sleep`, waits for a completion or a wake when nothing has finished yet. A callback may submit:
 * that starts with the next run. True: an operation ended; a wake alone is not one. */
bool lh_disk_run(struct lh_disk *disk, bool sleep);

/* For disks: what an OPEN and a SET_ATTRIBUTE do to their operations. */
void lh_disk_op_opened(struct lh_disk_op *op, int file);
void lh_disk_op_stamp(const struct lh_disk_op *op, uint64_t modified_ns);

/* Any thread: a sleeping or the next lh_disk_run returns. */
void lh_disk_wake(struct lh_disk *disk);

/* These return 0 or -errno. */
LH_MUST_USE int lh_disk_open(struct lh_disk *disk, const char *path, enum lh_disk_open how,
                             int *file);
void lh_disk_close(struct lh_disk *disk, int file);
LH_MUST_USE int lh_disk_size(struct lh_disk *disk, int file, uint64_t *bytes);
/* Where the first byte at or behind `offset`, which is inside the file, may be that is not zero:
 * its size when there is none. What was allocated and never written need not be read. */
LH_MUST_USE int lh_disk_data(struct lh_disk *disk, int file, uint64_t offset, uint64_t *at);
LH_MUST_USE int lh_disk_describe(struct lh_disk *disk, int file, struct lh_disk_facts *facts);
/* Any thread. As many bytes as there are, up to `len`; fewer only at the file's end. */
LH_MUST_USE int lh_disk_read(struct lh_disk *disk, int file, void *bytes, size_t len,
                             uint64_t offset, size_t *got);
/* Names in a folder, without "." and ".."; one of a folder has 0 bytes. A folder that is not there
 * is empty. */
LH_MUST_USE int lh_disk_list(struct lh_disk *disk, const char *folder,
                             void (*each)(const char *name, uint64_t bytes, void *arg), void *arg);
/* With its parents; one that is there is no error. Durable after the parent's SYNC_FOLDER. */
LH_MUST_USE int lh_disk_make_folder(struct lh_disk *disk, const char *path);

#endif
