/* Folders whose names change, and the group commit of their syncs. Runs on the store's thread.
 *
 * A change is durable when its folder was synced after it. A few syncs at a time run for a folder;
 * what changes meanwhile waits for the next, which is one for all that have come by then.
 *
 * Operations under way happen at one moment and are known of at another, and in another order: so
 * what counts is what was known before an operation began.
 *
 * Invariant: a folder with changes that are not durable stays in the table, used or not, until a
 * sync of it has gone well or it is removed: so nobody answers for a name in it, or below it,
 * without that sync. */
#include "store/objects_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct lh_str lh__object_parent(struct lh_str path)
{
    const char *slash = memrchr(path.ptr, '/', path.len);
    return slash == NULL ? LH_STR(".") : (struct lh_str){path.ptr, (size_t)(slash - path.ptr)};
}

static struct lh__folder **bucket_of(struct lh_objects *objects, struct lh_str path)
{
    return &objects->folders[XXH3_64bits(path.ptr, path.len) % LH__FOLDER_BUCKETS];
}

struct lh__folder *lh__folder_find(struct lh_objects *objects, struct lh_str path)
{
    struct lh__folder *folder = *bucket_of(objects, path);
    while (folder != NULL && !lh_str_eq((struct lh_str){folder->path, folder->len}, path))
        folder = folder->next;
    return folder;
}

struct lh__folder *lh__folder_ref(struct lh_objects *objects, struct lh_str path)
{
    struct lh__folder *folder = lh__folder_find(objects, path);
    if (folder == NULL) {
        folder = calloc(1, sizeof *folder + path.len + 1);
        if (folder == NULL)
            return NULL;
        struct lh__folder **bucket = bucket_of(objects, path);
        folder->objects = objects;
        folder->file = -1;
        folder->len = path.len;
        memcpy(folder->path, path.ptr, path.len);
        folder->next = *bucket;
        *bucket = folder;
    }
    folder->refs++;
    return folder;
}

static void close_file(struct lh__folder *folder)
{
    if (folder->file >= 0)
        lh_disk_close(folder->objects->disk, folder->file);
    folder->file = -1;
}

void lh__folder_unref(struct lh_objects *objects, struct lh__folder *folder)
{
    assert(folder->refs > 0);
    folder->refs--;
    bool is_needed = folder->refs > 0 || folder->syncs_busy > 0 || folder->waiters != NULL ||
                     folder->changes > folder->synced;
    if (is_needed)
        return;
    struct lh__folder **at = bucket_of(objects, (struct lh_str){folder->path, folder->len});
    while (*at != folder)
        at = &(*at)->next;
    *at = folder->next;
    close_file(folder);
    free(folder);
}

void lh__folder_changed(struct lh__folder *folder)
{
    folder->changes++;
}

static void forget_file(struct lh__folder *folder)
{
    folder->removals++;
    if (folder->syncs_busy > 0)
        folder->is_stale = true;
    else
        close_file(folder);
}

void lh__folder_remove_begins(struct lh__folder *folder, uint64_t *changes)
{
    folder->removing++;
    *changes = folder->changes;
    forget_file(folder);
}

void lh__folder_remove_ended(struct lh__folder *folder, bool is_gone, uint64_t changes)
{
    folder->removing--;
    if (is_gone && folder->synced < changes)
        folder->synced = changes;
    forget_file(folder);
}

void lh__folder_give_file(struct lh__folder *folder, int file, uint64_t removals)
{
    if (folder->file < 0 && folder->syncs_busy == 0 && folder->removing == 0 &&
        folder->removals == removals)
        folder->file = file;
    else
        lh_disk_close(folder->objects->disk, file);
}

/* ---- syncs ---- */

static void start(struct lh__folder *folder);

/* Takes those whose changes are durable, or not to be had, off the list. */
static struct lh__wait *take_waiters(struct lh__folder *folder, uint64_t changes)
{
    struct lh__wait *over = NULL;
    struct lh__wait **over_end = &over;
    for (struct lh__wait **at = &folder->waiters; *at != NULL;) {
        struct lh__wait *wait = *at;
        if (wait->change > changes) {
            at = &wait->next;
            continue;
        }
        *at = wait->next;
        wait->next = NULL;
        *over_end = wait;
        over_end = &wait->next;
    }
    return over;
}

static void synced(struct lh__step *step, int rc)
{
    struct lh__sync *sync = (struct lh__sync *)step;
    struct lh__folder *folder = sync->folder;
    sync->folder = NULL;
    folder->syncs_busy--;
    folder->refs++;
    /* An error is told once: what others say that had the same descriptor then says nothing. */
    if (folder->failure == 0)
        folder->failure = rc;
    rc = folder->failure;
    folder->is_stale |= folder->removing > 0 || rc != 0;
    if (folder->syncs_busy == 0) {
        if (folder->is_stale)
            close_file(folder);
        folder->is_stale = false;
        folder->failure = 0;
    }
    if (rc == 0 && folder->synced < sync->changes)
        folder->synced = sync->changes;
    struct lh__wait *over = take_waiters(folder, sync->changes);
    start(folder);
    while (over != NULL) {
        struct lh__wait *wait = over;
        over = wait->next;
        wait->done(wait, rc);
    }
    lh__folder_unref(step->objects, folder);
}

static void sync_opened(struct lh__sync *sync)
{
    sync->step.objects->folder_syncs++;
    lh__object_step(&sync->step,
                    (struct lh_disk_op){.kind = LH_DISK_SYNC_ALL, .file = sync->folder->file},
                    synced);
}

static void opened(struct lh__step *step, int rc)
{
    struct lh__sync *sync = (struct lh__sync *)step;
    if (rc == -ENOENT || rc == -ENOTDIR) {
        synced(step, 0); /* it has been removed: that is a change of the folder above */
    } else if (rc != 0) {
        synced(step, rc);
    } else {
        assert(sync->folder->file < 0);
        sync->folder->file = step->op.file;
        sync_opened(sync);
    }
}

/* Whether someone waits for a change that no sync under way takes with it. */
static bool is_sync_wanted(const struct lh__folder *folder)
{
    const struct lh__wait *wait = folder->waiters;
    while (wait != NULL && folder->syncs_busy > 0 && wait->change <= folder->syncing)
        wait = wait->next;
    return wait != NULL;
}

/* Beside another: only where the folder is open, and is the one that has the name. */
static bool may_sync(const struct lh__folder *folder)
{
    return folder->syncs_busy == 0 ||
           (folder->syncs_busy < LH__FOLDER_SYNCS_MAX && folder->file >= 0 && !folder->is_stale &&
            folder->removing == 0);
}

static void start(struct lh__folder *folder)
{
    struct lh__sync *sync = folder->syncs;
    if (!is_sync_wanted(folder) || !may_sync(folder))
        return;
    while (sync->folder != NULL)
        sync++;
    sync->step.objects = folder->objects;
    sync->folder = folder;
    sync->changes = folder->syncing = folder->changes;
    folder->syncs_busy++;
    if (folder->file >= 0)
        sync_opened(sync);
    else
        lh__object_step(&sync->step,
                        (struct lh_disk_op){
                            .kind = LH_DISK_OPEN, .path = folder->path, .how = LH_DISK_OPEN_FOLDER},
                        opened);
}

void lh__folder_sync(struct lh__folder *folder, struct lh__wait *wait)
{
    struct lh__wait **end = &folder->waiters;
    wait->change = folder->changes;
    wait->next = NULL;
    while (*end != NULL)
        end = &(*end)->next;
    *end = wait;
    start(folder);
}

static void go_up(struct lh__settle *up);

static void one_synced(struct lh__wait *wait, int rc)
{
    struct lh__settle *up = wait->arg;
    if (rc != 0)
        up->done(up, rc);
    else
        go_up(up);
}

static void go_up(struct lh__settle *up)
{
    while (up->folder.len > 0) {
        struct lh__folder *folder = lh__folder_find(up->objects, up->folder);
        bool is_root = lh_str_eq(up->folder, LH_STR("."));
        /* What is under way may have happened without our knowing, and others have built on it. */
        if (folder != NULL && folder->naming > 0)
            lh__folder_changed(folder);
        up->folder = is_root ? (struct lh_str){0} : lh__object_parent(up->folder);
        if (folder == NULL || folder->changes == folder->synced)
            continue;
        up->wait.done = one_synced;
        up->wait.arg = up;
        lh__folder_sync(folder, &up->wait);
        return;
    }
    up->done(up, 0);
}

void lh__object_settle(struct lh__settle *up, struct lh_str path)
{
    up->folder = lh__object_parent(path);
    go_up(up);
}
