/* Deleting an object, and the folders that are empty then. Runs on the store's thread.
 *
 * A folder that is removed while a put is on its way to it is made again by that put: the file
 * system itself refuses to remove one with a name in it, and to make a name in one that is gone. */
#include "store/objects_internal.h"

#include <errno.h>
#include <stdlib.h>

/* ---- empty folders ---- */

static void prune_next(struct lh__prune *prune);

static struct lh__prune *prune_of(struct lh__step *step)
{
    return (struct lh__prune *)((char *)step - offsetof(struct lh__prune, step));
}

static void drop_folders(struct lh__prune *prune)
{
    if (prune->above != NULL)
        lh__folder_unref(prune->step.objects, prune->above);
    if (prune->going != NULL)
        lh__folder_unref(prune->step.objects, prune->going);
    prune->above = prune->going = NULL;
}

static void end_prune(struct lh__prune *prune)
{
    drop_folders(prune);
    prune->done(prune);
}

static void moved_back(struct lh__step *step, int rc)
{
    struct lh__prune *prune = prune_of(step);
    struct lh_objects *objects = step->objects;
    char text[LH_OBJECT_PATH_BYTES];
    struct lh_object_stat stat;
    if (rc == 0) {
        struct lh_str key = lh__object_key_of_path(prune->lock.path, text);
        objects->moves++;
        lh__folder_changed(prune->above);
        if (lh_object_index_find(&objects->index, key, &stat)) {
            stat.is_aside = false;
            lh__object_keep_key(objects, key, &stat);
        }
    }
    lh__object_unlock(objects, &prune->lock);
    if (rc != -ENOENT) { /* it has its name, or the folder is there again */
        end_prune(prune);
        return;
    }
    prune->folder = lh__object_parent(prune->folder);
    prune_next(prune);
}

static void move_back(struct lh__lock *lock)
{
    struct lh__prune *prune = lock->arg;
    memcpy(prune->aside, prune->folder.ptr, prune->folder.len);
    memcpy(prune->aside + prune->folder.len, "%", 2);
    lh__object_step(
        &prune->step,
        (struct lh_disk_op){.kind = LH_DISK_RENAME, .path = prune->aside, .to = prune->path},
        moved_back);
}

static void folder_removed(struct lh__step *step, int rc)
{
    struct lh__prune *prune = prune_of(step);
    prune->above->naming--;
    lh__folder_remove_ended(prune->going, rc == 0, prune->changes);
    if (rc != 0) {
        end_prune(prune);
        return;
    }
    lh__folder_changed(prune->above);
    prune->lock = (struct lh__lock){.path = prune->folder, .granted = move_back, .arg = prune};
    lh__object_lock(step->objects, &prune->lock);
}

static void prune_next(struct lh__prune *prune)
{
    struct lh_objects *objects = prune->step.objects;
    drop_folders(prune);
    bool is_root = lh_str_eq(prune->folder, LH_STR("."));
    if (!is_root && !lh__object_may_have_keys(objects, prune->folder)) {
        prune->above = lh__folder_ref(objects, lh__object_parent(prune->folder));
        prune->going = lh__folder_ref(objects, prune->folder);
    }
    if (prune->above == NULL || prune->going == NULL) {
        end_prune(prune);
        return;
    }
    prune->above->naming++;
    lh__folder_remove_begins(prune->going, &prune->changes);
    memcpy(prune->path, prune->folder.ptr, prune->folder.len);
    prune->path[prune->folder.len] = '\0';
    lh__object_step(&prune->step,
                    (struct lh_disk_op){.kind = LH_DISK_REMOVE_FOLDER, .path = prune->path},
                    folder_removed);
}

void lh__object_prune(struct lh__prune *prune, struct lh_str path)
{
    prune->folder = lh__object_parent(path);
    prune_next(prune);
}

/* ---- delete ---- */

struct lh__delete {
    struct lh__step step;
    struct lh_object_delete *delete_;
    struct lh__lock lock;
    struct lh__way way;
    struct lh__find find; /* of what is there, for the conditions */
    struct lh__prune prune;
    struct lh__settle up;
    char path[LH_OBJECT_PATH_BYTES];
    char aside[LH_OBJECT_PATH_BYTES];
};

static struct lh__delete *delete_of(struct lh__step *step)
{
    return (struct lh__delete *)((char *)step - offsetof(struct lh__delete, step));
}

static void end(struct lh__delete *own)
{
    struct lh_object_delete *delete_ = own->delete_;
    struct lh_objects *objects = own->step.objects;
    if (own->way.folder != NULL)
        lh__folder_unref(objects, own->way.folder);
    objects->open--;
    free(own);
    delete_->own = NULL;
    delete_->done(delete_);
}

/* Ends what has not changed anything. */
static void leave(struct lh__delete *own, int rc)
{
    if (rc != 0)
        lh__object_fail(&own->delete_->error, rc, "deleting", own->delete_->key);
    lh__object_unlock(own->step.objects, &own->lock);
    end(own);
}

static void is_durable(struct lh__settle *up, int rc)
{
    struct lh__delete *own = up->arg;
    if (rc != 0)
        lh__object_fail(&own->delete_->error, rc, "syncing the folders of", own->delete_->key);
    end(own);
}

static void settle(struct lh__delete *own)
{
    own->up = (struct lh__settle){.objects = own->step.objects, .done = is_durable, .arg = own};
    lh__object_settle(&own->up, lh_str_of(own->path));
}

static void pruned(struct lh__prune *prune)
{
    settle(prune->arg);
}

static void gone(struct lh__delete *own)
{
    struct lh_objects *objects = own->step.objects;
    lh__object_drop_key(objects, own->delete_->key);
    lh__folder_changed(own->way.folder);
    lh__object_unlock(objects, &own->lock);
    own->prune = (struct lh__prune){.step.objects = objects, .done = pruned, .arg = own};
    lh__object_prune(&own->prune, lh_str_of(own->path));
}

static void aside_unlinked(struct lh__step *step, int rc)
{
    struct lh__delete *own = delete_of(step);
    if (rc != 0)
        leave(own, rc);
    else
        gone(own);
}

static void unlinked(struct lh__step *step, int rc)
{
    struct lh__delete *own = delete_of(step);
    bool is_aside = rc == -EISDIR;
    if (rc != 0 && !is_aside)
        leave(own, rc);
    else if (is_aside || lh__object_may_be_aside(step->objects, own->delete_->key))
        lh__object_step(step, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = own->aside},
                        aside_unlinked);
    else
        gone(own);
}

static void unlink_file(struct lh__delete *own)
{
    lh__object_step(&own->step, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = own->path},
                    unlinked);
}

/* Without its folder there is no object either; but whoever removed it may not have synced that. */
static void without_folder(struct lh__delete *own)
{
    struct lh_object_delete *delete_ = own->delete_;
    if (lh__object_check_conditions(&delete_->conditions, NULL, &delete_->error) != LH_OK) {
        leave(own, 0);
        return;
    }
    lh__object_unlock(own->step.objects, &own->lock);
    settle(own);
}

static void looked(struct lh__find *find, int rc)
{
    struct lh__delete *own = find->arg;
    struct lh_object_delete *delete_ = own->delete_;
    struct lh_object_info info;
    struct lh_object_stat stat;
    if (rc == 0) {
        lh_disk_close(own->step.objects->disk, find->file);
        lh_object_describe(&find->facts, &stat, &info);
    }
    if (rc != 0 && rc != -ENOENT)
        leave(own, rc);
    else if (lh__object_check_conditions(&delete_->conditions, rc == 0 ? info.etag : NULL,
                                         &delete_->error) != LH_OK)
        leave(own, 0);
    else
        unlink_file(own);
}

static void way_found(struct lh__way *way, int rc)
{
    struct lh__delete *own = way->arg;
    if (rc == -ENOENT || rc == -ENOTDIR) {
        without_folder(own);
    } else if (rc != 0) {
        leave(own, rc);
    } else if (lh__object_has_conditions(&own->delete_->conditions)) {
        own->find = (struct lh__find){.step.objects = own->step.objects,
                                      .path = own->path,
                                      .aside = own->aside,
                                      .looks_aside = true,
                                      .done = looked,
                                      .arg = own};
        lh__object_find(&own->find);
    } else {
        unlink_file(own);
    }
}

static void locked(struct lh__lock *lock)
{
    struct lh__delete *own = lock->arg;
    own->way.step.objects = own->step.objects;
    own->way.path = lock->path;
    own->way.done = way_found;
    own->way.arg = own;
    own->way.error = &own->delete_->error;
    lh__object_way_find(&own->way);
}

void lh_object_delete(struct lh_objects *objects, struct lh_object_delete *delete_)
{
    struct lh__delete *own = malloc(sizeof *own);
    delete_->error = (struct lh_error){.status = LH_OK};
    if (own == NULL) {
        lh_error_set(&delete_->error, LH_OUT_OF_MEMORY, "not enough memory to delete an object");
        delete_->done(delete_);
        return;
    }
    memset(own, 0, offsetof(struct lh__delete, path));
    own->step.objects = objects;
    own->delete_ = delete_;
    delete_->own = own;
    size_t len = lh_object_key_path(delete_->key, own->path);
    memcpy(own->aside, own->path, len);
    memcpy(own->aside + len, "%", 2);
    objects->open++;
    own->lock = (struct lh__lock){.path = {own->path, len}, .granted = locked, .arg = own};
    lh__object_lock(objects, &own->lock);
}
