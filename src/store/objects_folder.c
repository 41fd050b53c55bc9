/* Folders whose names change, and the group commit of their syncs. Runs on the store's thread.
 *
 * A change is durable when its folder was synced after it. One sync at a time runs for a folder;
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
        folder->step.objects = objects;
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
        lh_disk_close(folder->step.objects->disk, folder->file);
    folder->file = -1;
}

void lh__folder_unref(struct lh_objects *objects, struct lh__folder *folder)
{
    assert(folder->refs > 0);
    folder->refs--;
    bool is_needed = folder->refs > 0 || folder->is_busy || folder->waiters != NULL ||
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
    if (folder->is_busy)
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
    if (folder->file < 0 && !folder->is_busy && folder->removing == 0 &&
        folder->removals == removals)
        folder->file = file;
    else
        lh_disk_close(folder->step.objects->disk, file);
}

/* ---- syncs ---- */

static void start(struct lh__folder *folder);

static void synced(struct lh__step *step, int rc)
{
    struct lh__folder *folder =
        (struct lh__folder *)((char *)step - offsetof(struct lh__folder, step));
    struct lh__wait *over = NULL;
    struct lh__wait **over_end = &over;
    folder->is_busy = false;
    folder->refs++;
    /* After an error this descriptor says nothing any more about what is on the disk. */
    if (folder->is_stale || folder->removing > 0 || rc != 0)
        close_file(folder);
    folder->is_stale = false;
    if (rc == 0 && folder->synced < folder->syncing)
        folder->synced = folder->syncing;
    for (struct lh__wait **at = &folder->waiters; *at != NULL;) {
        struct lh__wait *wait = *at;
        if (wait->change > folder->syncing) {
            at = &wait->next;
            continue;
        }
        *at = wait->next;
        wait->next = NULL;
        *over_end = wait;
        over_end = &wait->next;
    }
    if (folder->waiters != NULL)
        start(folder);
    while (over != NULL) {
        struct lh__wait *wait = over;
        over = wait->next;
        wait->done(wait, rc);
    }
    lh__folder_unref(step->objects, folder);
}

static void sync_opened(struct lh__folder *folder)
{
    folder->step.objects->folder_syncs++;
    lh__object_step(&folder->step,
                    (struct lh_disk_op){.kind = LH_DISK_SYNC_ALL, .file = folder->file}, synced);
}

static void opened(struct lh__step *step, int rc)
{
    struct lh__folder *folder =
        (struct lh__folder *)((char *)step - offsetof(struct lh__folder, step));
    if (rc == -ENOENT || rc == -ENOTDIR) {
        synced(step, 0); /* it has been removed: that is a change of the folder above */
    } else if (rc != 0) {
        synced(step, rc);
    } else {
        assert(folder->file < 0);
        folder->file = step->op.file;
        sync_opened(folder);
    }
}

static void start(struct lh__folder *folder)
{
    folder->is_busy = true;
    folder->syncing = folder->changes;
    if (folder->file >= 0)
        sync_opened(folder);
    else
        lh__object_step(&folder->step,
                        (struct lh_disk_op){
                            .kind = LH_DISK_OPEN, .path = folder->path, .how = LH_DISK_OPEN_FOLDER},
                        opened);
}

void lh__folder_sync(struct lh_objects *objects, struct lh__folder *folder, struct lh__wait *wait)
{
    struct lh__wait **end = &folder->waiters;
    (void)objects;
    wait->change = folder->changes;
    wait->next = NULL;
    while (*end != NULL)
        end = &(*end)->next;
    *end = wait;
    if (!folder->is_busy)
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
        lh__folder_sync(up->objects, folder, &up->wait);
        return;
    }
    up->done(up, 0);
}

void lh__object_settle(struct lh__settle *up, struct lh_str path)
{
    up->folder = lh__object_parent(path);
    go_up(up);
}
