/* The folders on the way to an object's file: opened, and made when they are missing. Runs on the
 * store's thread.
 *
 * Each step is tried, and what the file system says decides about the next: other puts and deletes
 * make and remove the same folders meanwhile, and other programs may too. An object that lies where
 * a folder must be gets its other name by one rename, under its key's lock; the folder is made
 * behind that. So the object is found at every moment, and after a crash, under one of the two. */
#include "store/objects_internal.h"

#include <assert.h>
#include <errno.h>

static void make_next(struct lh__way *way);
static void try_folder(struct lh__way *way);

static struct lh__way *way_of(struct lh__step *step)
{
    return (struct lh__way *)((char *)step - offsetof(struct lh__way, step));
}

static void end(struct lh__way *way, int rc)
{
    struct lh_objects *objects = way->step.objects;
    if (way->above != NULL)
        lh__folder_unref(objects, way->above);
    way->above = NULL;
    if (rc != 0 && way->folder != NULL) {
        lh__folder_unref(objects, way->folder);
        way->folder = NULL;
    }
    if (way->is_locked)
        lh__object_unlock(objects, &way->lock);
    way->is_locked = false;
    way->done(way, rc);
}

static void refuse(struct lh__way *way, const char *what)
{
    lh_error_set(way->error, LH_INVALID_ARGUMENT, "key: \"%.80s\", which is on its way, is %s",
                 way->from, what);
    end(way, -EINVAL);
}

/* Another has been faster: once more from the start, but not for ever. */
static void again(struct lh__way *way, int rc)
{
    if (way->tries++ == LH__TRIES_MAX) {
        end(way, rc);
        return;
    }
    way->at = 0;
    make_next(way);
}

/* ---- an object in the way ---- */

static void leave(struct lh__way *way)
{
    way->is_locked = false;
    lh__object_unlock(way->step.objects, &way->lock);
}

static void moved(struct lh__step *step, int rc)
{
    struct lh__way *way = way_of(step);
    char text[LH_OBJECT_PATH_BYTES];
    if (rc == 0) {
        step->objects->moves++;
        way->stat.is_aside = true;
        lh__object_keep_key(step->objects, lh__object_key_of_path(way->lock.path, text),
                            &way->stat);
        lh__folder_changed(way->above);
    }
    leave(way);
    if (rc != 0 && rc != -ENOENT)
        end(way, rc);
    else
        again(way, rc);
}

static void looked(struct lh__step *step, int rc)
{
    struct lh__way *way = way_of(step);
    struct lh_disk_facts facts;
    if (rc == 0) {
        rc = lh_disk_describe(step->objects->disk, step->op.file, &facts);
        lh_disk_close(step->objects->disk, step->op.file);
    }
    if (rc == -ENOENT || rc == -ENOTDIR || (rc == 0 && facts.is_folder)) {
        leave(way);
        again(way, -ENOTDIR);
    } else if (rc == -ELOOP) {
        refuse(way, "a symbolic link");
    } else if (rc != 0) {
        end(way, rc);
    } else if (!facts.is_file) {
        refuse(way, "neither a file nor a folder");
    } else {
        lh_object_describe(&facts, &way->stat, NULL);
        memcpy(way->to, way->lock.path.ptr, way->lock.path.len);
        memcpy(way->to + way->lock.path.len, "%", 2);
        lh__object_step(
            step, (struct lh_disk_op){.kind = LH_DISK_RENAME, .path = way->from, .to = way->to},
            moved);
    }
}

static void locked(struct lh__lock *lock)
{
    struct lh__way *way = lock->arg;
    way->is_locked = true;
    lh__object_step(
        &way->step,
        (struct lh_disk_op){.kind = LH_DISK_OPEN, .path = way->from, .how = LH_DISK_OPEN_READ},
        looked);
}

/* ---- making folders, from the top ---- */

static void checked(struct lh__step *step, int rc)
{
    struct lh__way *way = way_of(step);
    if (rc == 0) {
        lh_disk_close(step->objects->disk, step->op.file);
        make_next(way);
    } else if (rc == -ENOTDIR) {
        way->lock = (struct lh__lock){
            .path = {way->from, strlen(way->from)}, .granted = locked, .arg = way};
        lh__object_lock(step->objects, &way->lock);
    } else if (rc == -ELOOP) {
        refuse(way, "a symbolic link");
    } else if (rc == -ENOENT) {
        again(way, rc);
    } else {
        end(way, rc);
    }
}

static void made(struct lh__step *step, int rc)
{
    struct lh__way *way = way_of(step);
    way->above->naming--;
    if (rc == 0) {
        lh__folder_changed(way->above);
        make_next(way);
    } else if (rc == -EEXIST) {
        lh__object_step(step,
                        (struct lh_disk_op){
                            .kind = LH_DISK_OPEN, .path = way->from, .how = LH_DISK_OPEN_FOLDER},
                        checked);
    } else if (rc == -ENOENT || rc == -ENOTDIR) {
        again(way, rc);
    } else {
        end(way, rc);
    }
}

static void make_next(struct lh__way *way)
{
    struct lh_objects *objects = way->step.objects;
    struct lh_str folder = lh__object_parent(way->path);
    if (way->above != NULL)
        lh__folder_unref(objects, way->above);
    way->above = NULL;
    if (way->at >= folder.len) {
        try_folder(way);
        return;
    }
    size_t from = way->at == 0 ? 0 : way->at + 1;
    const char *slash = memchr(folder.ptr + from, '/', folder.len - from);
    way->at = slash == NULL ? folder.len : (size_t)(slash - folder.ptr);
    memcpy(way->from, folder.ptr, way->at);
    way->from[way->at] = '\0';
    /* Before the folder is made: a change that could not be noted might never be synced. */
    way->above = lh__folder_ref(objects, lh__object_parent((struct lh_str){way->from, way->at}));
    if (way->above == NULL) {
        end(way, -ENOMEM);
        return;
    }
    way->above->naming++;
    lh__object_step(&way->step, (struct lh_disk_op){.kind = LH_DISK_MAKE_FOLDER, .path = way->from},
                    made);
}

/* ---- the folder itself ---- */

static void opened(struct lh__step *step, int rc)
{
    struct lh__way *way = way_of(step);
    if (rc == 0)
        lh__folder_give_file(way->folder, step->op.file, way->removals);
    if ((rc == -ENOENT || rc == -ENOTDIR) && way->makes)
        again(way, rc);
    else
        end(way, rc);
}

static void try_folder(struct lh__way *way)
{
    if (way->folder->file >= 0) {
        end(way, 0);
        return;
    }
    way->removals = way->folder->removals;
    lh__object_step(&way->step,
                    (struct lh_disk_op){.kind = LH_DISK_OPEN,
                                        .path = way->folder->path,
                                        .how = LH_DISK_OPEN_FOLDER},
                    opened);
}

void lh__object_way_find(struct lh__way *way)
{
    assert(way->folder == NULL);
    way->at = 0;
    way->folder = lh__folder_ref(way->step.objects, lh__object_parent(way->path));
    if (way->folder == NULL)
        end(way, -ENOMEM);
    else
        try_folder(way);
}
