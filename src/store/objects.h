/* Objects as plain files under a root folder: put, get, delete, list.
 *
 * An object's file has the key's own path (object_key.h). An upload is a file of %tmp until all of
 * it is there and synced; a rename then makes it the object, and the folders whose names changed
 * are synced before the put is answered. So a reader sees the old object or the new one, and a
 * crash leaves one of the two. While `a` is a folder, the object `a` has the name `a%`; at no time
 * does it have both names.
 *
 * All of it runs on the thread that owns the disk and never waits: calls begin, and `done` is
 * called, at the earliest from within the call, when they have ended. One thread owns a store. */
#ifndef LH_STORE_OBJECTS_H
#define LH_STORE_OBJECTS_H

#include "base/buf.h"
#include "runtime/pipe.h"
#include "store/object_info.h"

struct lh_objects;

struct lh_objects_counts {
    uint64_t keys;
    uint64_t index_bytes;
    uint64_t folder_syncs;
    bool is_listed;   /* the walk that fills the index has ended well */
    bool is_counting; /* it has not ended */
};

/* Removes what uploads have left in %tmp, and tries what the file system can: LH_IO when it cannot
 * hold a store (it folds case). Blocks; belongs to start-up. The disk stays the caller's. */
LH_MUST_USE enum lh_status lh_objects_create(struct lh_disk *disk, const char *root,
                                             struct lh_objects **objects, struct lh_error *error);
/* Nothing may be in flight. */
void lh_objects_destroy(struct lh_objects *objects);

/* Whether files keep content types and hashes: where the file system has no extended attributes,
 * every object is application/octet-stream, and its entity tag is made from its file's times. */
bool lh_objects_keeps_types(const struct lh_objects *objects);
bool lh_objects_is_idle(const struct lh_objects *objects);
struct lh_objects_counts lh_objects_counts(const struct lh_objects *objects);

/* What must hold of that which is there, as in the headers; empty: nothing. When it does not, the
 * call ends with LH_PRECONDITION_FAILED and has changed nothing. */
struct lh_object_conditions {
    struct lh_str if_match;
    struct lh_str if_none_match;
};

/* ---- put ---- */

#define LH_OBJECT_LENGTH_UNKNOWN UINT64_MAX

/* In its owner's memory until it is over: once `done` has been called with an error, for the piece
 * that is last, or for an abort. What it borrows stays until then, a piece until its `done`. */
struct lh_object_put {
    struct lh_str key; /* checked */
    struct lh_object_conditions conditions;
    uint64_t length;
    struct lh_str piece;
    bool is_last;
    /* Instead of pieces: the path of a file of `length` bytes, with their XXH3-128, big-endian. It
     * becomes the object, and nobody writes to it any more; its name stays. LH_INVALID_ARGUMENT: it
     * cannot, being on another file system. NULL: pieces. */
    const char *linked;
    uint8_t linked_hash[16];
    void (*done)(struct lh_object_put *put);
    void *arg;                  /* the owner's */
    struct lh_error error;      /* LH_PRECONDITION_FAILED, LH_NO_SPACE, ... */
    struct lh_object_info info; /* `content_type` is asked, the rest answered */
    struct lh__put *own;        /* NULL before the first piece and when it is over */
};

/* Takes the next piece: the first opens the file, the last ends it. */
void lh_object_put(struct lh_objects *objects, struct lh_object_put *put);
/* Instead of a piece: leaves nothing. */
void lh_object_put_abort(struct lh_object_put *put);

/* ---- get ---- */

struct lh_object_get {
    struct lh_str key;
    void (*done)(struct lh_object_get *get);
    void *arg;
    struct lh_error error; /* LH_KEY_NOT_FOUND, ... */
    struct lh_object_info info;
    size_t got; /* bytes of the last read */
    struct lh__get *own;
};

/* Opens it and fills `info`: from then on it is this version, whatever is put. With an error
 * nothing is open. */
void lh_object_open(struct lh_objects *objects, struct lh_object_get *get);
void lh_object_read(struct lh_object_get *get, void *into, size_t len, uint64_t offset);
/* The same into an empty pipe; up to `len` bytes, as the pipe has room. An error leaves the pipe
 * empty and says nothing of the file: what cannot be spliced may still be read. */
bool lh_objects_splice(const struct lh_objects *objects);
void lh_object_splice(struct lh_object_get *get, struct lh_pipe *pipe, size_t len, uint64_t offset);
void lh_object_close(struct lh_object_get *get);

/* ---- delete ---- */

struct lh_object_delete {
    struct lh_str key;
    struct lh_object_conditions conditions;
    void (*done)(struct lh_object_delete *delete_);
    void *arg;
    struct lh_error error; /* LH_OK also when there was nothing, unless a condition wants it */
    struct lh__delete *own;
};

void lh_object_delete(struct lh_objects *objects, struct lh_object_delete *delete_);

/* ---- list ---- */

/* The keys with `prefix` that are greater than `after`, in byte order: calls `each` for up to
 * `limit`. `*is_truncated`: there are more. LH_OVERLOADED until the walk has ended. */
LH_MUST_USE enum lh_status
lh_objects_list(const struct lh_objects *objects, struct lh_str prefix, struct lh_str after,
                uint32_t limit,
                void (*each)(struct lh_str key, const struct lh_object_stat *stat, void *arg),
                void *arg, bool *is_truncated, struct lh_error *error);

/* ---- the walk that fills the index at start ---- */

/* Keys that the walk has found, for the thread of the store. */
struct lh_object_batch {
    struct lh_buf records; /* u16 length, stat, key; see objects_walk.c */
    uint32_t count;
    bool is_last;
    enum lh_status status; /* of the walk; LH_OK until the last */
};

/* Looks at every file, on a thread and with a disk of its own: `disk` is a second one on the same
 * folder. `take` gets a batch and owns its records; false ends the walk. */
void lh_objects_walk(struct lh_disk *disk, bool (*take)(struct lh_object_batch *batch, void *arg),
                     void *arg);

/* On the store's thread: what was put and deleted since the walk began wins. Frees the records. */
void lh_objects_found(struct lh_objects *objects, struct lh_object_batch *batch);

#endif
