/* The object store: its start, its locks, its index. Runs on the thread that owns the disk.
 *
 * Which file is a key's changes only under the key's lock, by a rename or an unlink, and the index
 * is changed when that has happened: so the index says what readers see, and what they see may be
 * a moment ahead of what is durable; whoever made it so is answered when it is. */
#include "store/objects_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PROBE_FILE LH_OBJECT_TEMP_FOLDER "/probe"

/* ---- operations ---- */

static void note(struct lh_disk_op *op)
{
    struct lh__step *step = op->arg;
    if (step->rc == 0)
        step->rc = op->result;
}

static void step_done(struct lh_disk_op *op)
{
    struct lh__step *step = op->arg;
    note(op);
    step->objects->out--;
    step->then(step, step->rc);
}

void lh__object_chain(struct lh__step *step, struct lh_disk_op *ops, uint32_t count,
                      void (*then)(struct lh__step *step, int rc))
{
    for (uint32_t i = 0; i < count; i++) {
        bool is_last = i + 1 == count;
        ops[i].next = is_last ? NULL : &ops[i + 1];
        ops[i].done = is_last ? step_done : note;
        ops[i].arg = step;
    }
    step->rc = 0;
    step->then = then;
    step->objects->out++;
    lh_disk_submit(step->objects->disk, ops);
}

void lh__object_step(struct lh__step *step, struct lh_disk_op op,
                     void (*then)(struct lh__step *step, int rc))
{
    step->op = op;
    lh__object_chain(step, &step->op, 1, then);
}

enum lh_status lh__object_fail(struct lh_error *error, int rc, const char *doing, struct lh_str key)
{
    assert(rc < 0);
    if (rc == -ELOOP)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "key: a symbolic link is in its way, and none is followed");
    if (rc == -ENOMEM)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for %s", doing);
    return lh_error_sys(error, lh_disk_status(rc), -rc, "%s \"%.*s\"", doing,
                        (int)(key.len < 60 ? key.len : 60), key.ptr);
}

bool lh__object_has_conditions(const struct lh_object_conditions *conditions)
{
    return conditions->if_match.len > 0 || conditions->if_none_match.len > 0;
}

enum lh_status lh__object_check_conditions(const struct lh_object_conditions *conditions,
                                           const char *etag, struct lh_error *error)
{
    struct lh_str must_be = conditions->if_match;
    struct lh_str must_not_be = conditions->if_none_match;
    if (must_be.len > 0 && !lh_etag_is_in(must_be, etag, true))
        return lh_error_set(error, LH_PRECONDITION_FAILED, "If-Match: the object %s%.40s",
                            etag == NULL ? "is not there" : "has the ETag ",
                            etag == NULL ? "" : etag);
    if (must_not_be.len > 0 && lh_etag_is_in(must_not_be, etag, false))
        return lh_error_set(error, LH_PRECONDITION_FAILED,
                            "If-None-Match: the object is there, with the ETag %.40s", etag);
    return LH_OK;
}

/* ---- locks ---- */

static uint32_t bucket_of(struct lh_str path, uint32_t buckets)
{
    return (uint32_t)(XXH3_64bits(path.ptr, path.len) % buckets);
}

void lh__object_lock(struct lh_objects *objects, struct lh__lock *lock)
{
    struct lh__lock **bucket = &objects->locks[bucket_of(lock->path, LH__LOCK_BUCKETS)];
    lock->waiters = NULL;
    for (struct lh__lock *held = *bucket; held != NULL; held = held->next) {
        if (!lh_str_eq(held->path, lock->path))
            continue;
        struct lh__lock **end = &held->waiters;
        while (*end != NULL)
            end = &(*end)->next;
        lock->next = NULL;
        *end = lock;
        return;
    }
    lock->next = *bucket;
    *bucket = lock;
    lock->granted(lock);
}

void lh__object_unlock(struct lh_objects *objects, struct lh__lock *lock)
{
    struct lh__lock **at = &objects->locks[bucket_of(lock->path, LH__LOCK_BUCKETS)];
    struct lh__lock *heir = lock->waiters;
    while (*at != lock)
        at = &(*at)->next;
    if (heir == NULL) {
        *at = lock->next;
        return;
    }
    heir->waiters = heir->next;
    heir->next = lock->next;
    *at = heir;
    heir->granted(heir);
}

/* ---- the index ---- */

bool lh__object_may_be_aside(const struct lh_objects *objects, struct lh_str key)
{
    struct lh_object_stat stat;
    if (objects->is_unlisted)
        return true;
    if (lh_object_index_find(&objects->index, key, &stat))
        return stat.is_aside;
    return !objects->is_listed;
}

struct lh_str lh__object_key_of_path(struct lh_str path, char *key)
{
    bool is_aside;
    size_t len = lh_object_key_of_name(path, key, &is_aside);
    return (struct lh_str){key, len};
}

bool lh__object_may_have_keys(const struct lh_objects *objects, struct lh_str path)
{
    char text[LH_OBJECT_PATH_BYTES + 1];
    struct lh_str folder = lh__object_key_of_path(path, text);
    struct lh_object_stat stat;
    struct lh_str key;
    if (!objects->is_listed || objects->is_unlisted)
        return false; /* whoever tries finds out */
    text[folder.len++] = '/';
    struct lh_object_cursor cursor = lh_object_index_seek(&objects->index, folder);
    return lh_object_index_next(&objects->index, &cursor, &key, &stat) &&
           lh_str_has_prefix(key, folder);
}

static void end_listing(struct lh_objects *objects, enum lh_status status, const char *text)
{
    objects->is_unlisted = true;
    lh_error_set(&objects->unlisted, status, "%s", text);
}

void lh__object_keep_key(struct lh_objects *objects, struct lh_str key,
                         const struct lh_object_stat *stat)
{
    if (lh_object_index_put(&objects->index, key, stat) != LH_OK)
        end_listing(objects, LH_OUT_OF_MEMORY,
                    "there was no memory for every key: objects can be listed again after a "
                    "restart");
}

void lh__object_drop_key(struct lh_objects *objects, struct lh_str key)
{
    static const struct lh_object_stat tombstone = {.is_tombstone = true};
    if (objects->is_listed) {
        (void)lh_object_index_remove(&objects->index, key);
        return;
    }
    objects->has_tombstones = true; /* the walk may have seen it and not said so yet */
    lh__object_keep_key(objects, key, &tombstone);
}

static void sweep_tombstones(struct lh_objects *objects)
{
    struct lh_object_cursor cursor = {0};
    struct lh_object_stat stat;
    struct lh_buf keys = LH_BUF_EMPTY;
    struct lh_str key;
    while (lh_object_index_next(&objects->index, &cursor, &key, &stat)) {
        if (!stat.is_tombstone)
            continue;
        lh_buf_append_str(&keys, key);
        lh_buf_append_char(&keys, '\0'); /* which is in no key */
    }
    if (lh_buf_failed(&keys))
        end_listing(objects, LH_OUT_OF_MEMORY, "there was no memory to end the first listing");
    for (size_t at = 0; at < keys.len; at += key.len + 1) {
        key = lh_str_of(keys.ptr + at);
        (void)lh_object_index_remove(&objects->index, key);
    }
    lh_buf_deinit(&keys);
    objects->has_tombstones = false;
}

void lh_objects_found(struct lh_objects *objects, struct lh_object_batch *batch)
{
    struct lh_object_stat stat;
    struct lh_object_stat known;
    const char *at = batch->records.ptr;
    for (uint32_t i = 0; i < batch->count; i++) {
        uint16_t len;
        memcpy(&len, at, sizeof len);
        memcpy(&stat, at + sizeof len, sizeof stat);
        struct lh_str key = {at + sizeof len + sizeof stat, len};
        if (!lh_object_index_find(&objects->index, key, &known))
            lh__object_keep_key(objects, key, &stat);
        at = key.ptr + key.len;
    }
    lh_buf_deinit(&batch->records);
    if (!batch->is_last)
        return;
    if (batch->status != LH_OK)
        end_listing(objects, batch->status, "the root could not be read to its end: see the log");
    objects->is_listed = true;
    if (objects->has_tombstones)
        sweep_tombstones(objects);
}

enum lh_status lh_objects_list(const struct lh_objects *objects, struct lh_str prefix,
                               struct lh_str after, uint32_t limit,
                               void (*each)(struct lh_str key, const struct lh_object_stat *stat,
                                            void *arg),
                               void *arg, bool *is_truncated, struct lh_error *error)
{
    struct lh_object_stat stat;
    struct lh_str key;
    *is_truncated = false;
    if (objects->is_unlisted)
        return lh_error_set(error, objects->unlisted.status, "%s", objects->unlisted.text);
    if (!objects->is_listed)
        return lh_error_set(error, LH_OVERLOADED,
                            "the objects are being counted since the start: try again");
    size_t len = after.len < prefix.len ? after.len : prefix.len;
    int order = len > 0 ? memcmp(after.ptr, prefix.ptr, len) : 0;
    bool starts_after = after.len > 0 && (order > 0 || (order == 0 && after.len >= prefix.len));
    struct lh_object_cursor cursor =
        lh_object_index_seek(&objects->index, starts_after ? after : prefix);
    while (lh_object_index_next(&objects->index, &cursor, &key, &stat)) {
        if (starts_after && lh_str_eq(key, after))
            continue;
        if (!lh_str_has_prefix(key, prefix))
            break;
        if (limit-- == 0) {
            *is_truncated = true;
            break;
        }
        each(key, &stat, arg);
    }
    return LH_OK;
}

/* ---- start and end ---- */

static void op_done(struct lh_disk_op *op)
{
    *(bool *)op->arg = true;
}

/* At start nobody wakes the disk: a run that did nothing means that it has failed. */
static int do_op(struct lh_disk *disk, struct lh_disk_op op)
{
    bool is_done = false;
    op.done = op_done;
    op.arg = &is_done;
    lh_disk_submit(disk, &op);
    while (!is_done)
        if (!lh_disk_run(disk, true) && !is_done)
            return -EIO;
    return op.result;
}

static void take_name(const char *name, uint64_t bytes, void *arg)
{
    struct lh_buf *names = arg;
    lh_buf_append(names, name, strlen(name) + 1);
    (void)bytes;
}

static int clean_temp(struct lh_disk *disk)
{
    struct lh_buf names = LH_BUF_EMPTY;
    char path[LH_OBJECT_PATH_BYTES];
    int rc = lh_disk_make_folder(disk, LH_OBJECT_TEMP_FOLDER);
    if (rc == 0)
        rc = lh_disk_list(disk, LH_OBJECT_TEMP_FOLDER, take_name, &names);
    if (rc == 0 && lh_buf_failed(&names))
        rc = -ENOMEM;
    for (size_t at = 0; rc == 0 && at < names.len; at += strlen(names.ptr + at) + 1) {
        snprintf(path, sizeof path, "%s/%s", LH_OBJECT_TEMP_FOLDER, names.ptr + at);
        rc = do_op(disk, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = path});
    }
    lh_buf_deinit(&names);
    return rc;
}

/* What the file system can: `*folds_case`, and whether files take an attribute. */
static int probe(struct lh_objects *objects, bool *folds_case)
{
    struct lh_disk *disk = objects->disk;
    static const char other_case[] = LH_OBJECT_TEMP_FOLDER "/PROBE";
    int file, other;
    int rc = lh_disk_open(disk, PROBE_FILE, LH_DISK_OPEN_NEW, &file);
    if (rc != 0)
        return rc;
    rc = lh_disk_open(disk, other_case, LH_DISK_OPEN_READ, &other);
    *folds_case = rc == 0;
    if (rc == 0)
        lh_disk_close(disk, other);
    uint8_t attribute[8];
    rc = do_op(disk, (struct lh_disk_op){.kind = LH_DISK_SET_ATTRIBUTE,
                                         .file = file,
                                         .into = attribute,
                                         .len = sizeof attribute});
    objects->has_attributes = rc == 0;
    lh_disk_close(disk, file);
    if (rc != 0 && rc != -EOPNOTSUPP)
        return rc;
    return do_op(disk, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = PROBE_FILE});
}

enum lh_status lh_objects_create(struct lh_disk *disk, const char *root,
                                 struct lh_objects **objects, struct lh_error *error)
{
    struct lh_objects *made = calloc(1, sizeof *made);
    bool folds_case = false;
    enum lh_status status = LH_OK;
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the object store");
    made->disk = disk;
    int rc = clean_temp(disk);
    if (rc == 0)
        rc = probe(made, &folds_case);
    if (rc != 0)
        status = lh_error_sys(error, LH_IO, -rc, "storaged.root %.80s: its folder %s", root,
                              LH_OBJECT_TEMP_FOLDER);
    else if (folds_case)
        status = lh_error_set(error, LH_IO,
                              "storaged.root %.80s: the file system takes upper and lower case for "
                              "the same, so keys would collide",
                              root);
    if (status != LH_OK)
        free(made);
    else
        *objects = made;
    return status;
}

bool lh_objects_keeps_types(const struct lh_objects *objects)
{
    return objects->has_attributes;
}

bool lh_objects_is_idle(const struct lh_objects *objects)
{
    return objects->out == 0 && objects->open == 0;
}

struct lh_objects_counts lh_objects_counts(const struct lh_objects *objects)
{
    return (struct lh_objects_counts){.keys = objects->index.key_count,
                                      .index_bytes = lh_object_index_bytes(&objects->index),
                                      .folder_syncs = objects->folder_syncs,
                                      .is_listed = objects->is_listed && !objects->is_unlisted,
                                      .is_counting = !objects->is_listed && !objects->is_unlisted};
}

void lh_objects_destroy(struct lh_objects *objects)
{
    if (objects == NULL)
        return;
    for (unsigned i = 0; i < LH__FOLDER_BUCKETS; i++) {
        while (objects->folders[i] != NULL) { /* with changes whose sync has failed */
            struct lh__folder *folder = objects->folders[i];
            objects->folders[i] = folder->next;
            if (folder->file >= 0)
                lh_disk_close(objects->disk, folder->file);
            free(folder);
        }
    }
    lh_object_index_deinit(&objects->index);
    free(objects);
}
