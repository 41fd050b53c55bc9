/* Between the files of the object store. */
#ifndef LH_STORE_OBJECTS_INTERNAL_H
#define LH_STORE_OBJECTS_INTERNAL_H

#include "store/object_index.h"
#include "store/object_key.h"
#include "store/objects.h"
#include <xxhash.h>

#define LH__LOCK_BUCKETS   256u
#define LH__FOLDER_BUCKETS 256u
#define LH__TRIES_MAX      16u /* of a put whose folders others remove: each time one got further */

/* Syncs of one folder at once. A journal's commit that is under way does not take what comes behind
 * its start: whoever waits for its end to begin the next sync waits for two. */
#define LH__FOLDER_SYNCS_MAX 4u

/* One disk operation, or one chain of them, at a time of a call, and what it goes on with. */
struct lh__step {
    struct lh_objects *objects;
    struct lh_disk_op op;
    int rc; /* of what has ended so far */
    void (*then)(struct lh__step *step, int rc);
};

void lh__object_step(struct lh__step *step, struct lh_disk_op op,
                     void (*then)(struct lh__step *step, int rc));
/* The same for operations that are the caller's; `rc` is the first that is not 0. */
void lh__object_chain(struct lh__step *step, struct lh_disk_op *ops, uint32_t count,
                      void (*then)(struct lh__step *step, int rc));

/* The right to change which file is a key's: held or waited for, first come first served. Whoever
 * holds a key's may ask for that of a folder on its way, never the other way round. */
struct lh__lock {
    struct lh__lock *next;    /* of those held, in a bucket */
    struct lh__lock *waiters; /* for this path, in order; the holder's list */
    struct lh_str path;
    void (*granted)(struct lh__lock *lock);
    void *arg;
};

void lh__object_lock(struct lh_objects *objects, struct lh__lock *lock);
void lh__object_unlock(struct lh_objects *objects, struct lh__lock *lock);

/* ---- folders (objects_folder.c) ---- */

/* Waits until changes of a folder's names are durable. */
struct lh__wait {
    struct lh__wait *next;
    uint64_t change; /* the last that counts */
    void (*done)(struct lh__wait *wait, int rc);
    void *arg;
};

struct lh__sync {
    struct lh__step step;
    struct lh__folder *folder; /* NULL: not under way */
    uint64_t changes;          /* the last that it takes with it */
};

/* A folder in which names change. It exists while someone uses it or has a change to be synced. */
struct lh__folder {
    struct lh__folder *next; /* of its bucket */
    struct lh_objects *objects;
    struct lh__sync syncs[LH__FOLDER_SYNCS_MAX];
    uint32_t syncs_busy;
    uint32_t refs;
    int file; /* open, or -1 */
    uint64_t changes;
    uint64_t synced;   /* of `changes` */
    uint64_t syncing;  /* of those, what syncs under way take with them */
    uint32_t naming;   /* operations under way that make or remove a folder in it */
    uint32_t removing; /* those that remove this one */
    uint64_t removals; /* how often one of those began or ended */
    bool is_stale;     /* while a sync was under way: `file` is not to be used again */
    int failure;       /* of a sync, until those that were under way with it have ended */
    struct lh__wait *waiters;
    size_t len;
    char path[];
};

/* NULL: no memory. The root is ".". */
struct lh__folder *lh__folder_ref(struct lh_objects *objects, struct lh_str path);
void lh__folder_unref(struct lh_objects *objects, struct lh__folder *folder);
struct lh__folder *lh__folder_find(struct lh_objects *objects, struct lh_str path);
/* A name in it was made, changed or removed. */
void lh__folder_changed(struct lh__folder *folder);
/* Around an operation that removes it: nobody may keep a descriptor from before or meanwhile. When
 * it has gone, so have the changes from before it began, `changes`: all that is left to sync is in
 * the folder above. */
void lh__folder_remove_begins(struct lh__folder *folder, uint64_t *changes);
void lh__folder_remove_ended(struct lh__folder *folder, bool is_gone, uint64_t changes);
/* An open descriptor of it, asked for when `removals` was what it is: kept, or closed. */
void lh__folder_give_file(struct lh__folder *folder, int file, uint64_t removals);
/* Group commit: one sync for all that wait when it starts. */
void lh__folder_sync(struct lh__folder *folder, struct lh__wait *wait);

/* Makes durable what has changed in the folder of a path and in those above it: whoever waits for a
 * name must also wait for those of its folders, whoever made or removed them. */
struct lh__settle {
    struct lh_objects *objects;
    struct lh__wait wait;
    struct lh_str folder; /* the next */
    void (*done)(struct lh__settle *up, int rc);
    void *arg;
};

void lh__object_settle(struct lh__settle *up, struct lh_str path);

/* The folder that a path is in, "." for the root. */
struct lh_str lh__object_parent(struct lh_str path);

/* ---- the way to a file (objects_way.c) ---- */

/* Opens the folder of a path, and with `makes` makes what is missing on the way: folders, and the
 * other name of an object that is in the way of one. */
struct lh__way {
    struct lh__step step;
    struct lh__lock lock; /* of an object that is in the way */
    struct lh_str path;   /* of the file */
    bool makes;
    bool is_locked;
    uint32_t tries;
    uint64_t removals;               /* the folder's, when it was opened */
    struct lh__folder *folder;       /* the result, a ref */
    struct lh__folder *above;        /* a ref: the folder of what is being made */
    struct lh_object_stat stat;      /* of the object in the way */
    size_t at;                       /* end of the folder that is being made */
    char from[LH_OBJECT_PATH_BYTES]; /* paths of the operation under way */
    char to[LH_OBJECT_PATH_BYTES];
    void (*done)(struct lh__way *way, int rc);
    void *arg;
    struct lh_error *error; /* filled when `rc` is -EINVAL */
};

/* `done` gets 0, or -errno: -ENOENT without `makes`, -EINVAL when something that is no object is in
 * the way. */
void lh__object_way_find(struct lh__way *way);

/* ---- the file of a key (objects_get.c) ---- */

struct lh__find {
    struct lh__step step;
    const char *path;
    const char *aside; /* looked at when `path` is a folder, or `looks_aside` */
    uint64_t moves;    /* the store's, at the start */
    bool looks_aside;
    bool is_aside;
    int file;
    struct lh_disk_facts facts;
    void (*done)(struct lh__find *find, int rc);
    void *arg;
};

/* `done` gets 0 with an open file, or -ENOENT. */
void lh__object_find(struct lh__find *find);

/* ---- the store (objects.c) ---- */

struct lh_objects {
    struct lh_disk *disk;
    struct lh_object_index index;
    bool is_listed;   /* the walk has ended: the index has every key */
    bool is_unlisted; /* it has ended badly, or memory was short: the index never will */
    struct lh_error unlisted;
    bool has_tombstones;
    bool has_attributes;
    uint64_t out;   /* operations with the disk */
    uint64_t open;  /* files of gets, and puts under way */
    uint64_t moves; /* names that objects in the way of folders, and after them, have changed */
    uint64_t next_temp;
    uint64_t folder_syncs;
    struct lh__lock *locks[LH__LOCK_BUCKETS];
    struct lh__folder *folders[LH__FOLDER_BUCKETS];
};

/* Whether the object may have its other name, for all that the index says. */
bool lh__object_may_be_aside(const struct lh_objects *objects, struct lh_str key);
/* Whether there may be a key in the folder `path`. */
bool lh__object_may_have_keys(const struct lh_objects *objects, struct lh_str path);
void lh__object_keep_key(struct lh_objects *objects, struct lh_str key,
                         const struct lh_object_stat *stat);
void lh__object_drop_key(struct lh_objects *objects, struct lh_str key);
/* The key of a file's path that is not aside. `key` has as much room as the path. */
struct lh_str lh__object_key_of_path(struct lh_str path, char *key);

bool lh__object_has_conditions(const struct lh_object_conditions *conditions);
/* Against the entity tag of what is there, NULL: nothing. */
LH_MUST_USE enum lh_status
lh__object_check_conditions(const struct lh_object_conditions *conditions, const char *etag,
                            struct lh_error *error);

/* What -errno means to a client. */
enum lh_status lh__object_fail(struct lh_error *error, int rc, const char *doing,
                               struct lh_str key);

/* ---- folders that have become empty (objects_delete.c) ---- */

/* Removes the folder of `path` when it is empty, and then those above it; an object that had to
 * have its other name for one gets its own back. Failing is no error: a folder stays. */
struct lh__prune {
    struct lh__step step;
    struct lh__lock lock;
    struct lh_str folder;     /* the next to go */
    struct lh__folder *going; /* a ref: it */
    uint64_t changes;         /* in it, before */
    struct lh__folder *above; /* a ref: the folder that it is in */
    char path[LH_OBJECT_PATH_BYTES];
    char aside[LH_OBJECT_PATH_BYTES];
    void (*done)(struct lh__prune *prune);
    void *arg;
};

void lh__object_prune(struct lh__prune *prune, struct lh_str path);

#endif
