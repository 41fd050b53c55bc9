/* Finding the file of a key, and reading objects. Runs on the store's thread.
 *
 * A reader takes no lock: it looks under the object's own name and then under its other one. When
 * it finds neither, and an object has changed its name meanwhile, it looks again. What is open is
 * one version for good, since a put makes a new file. */
#include "store/objects_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static struct lh__find *find_of(struct lh__step *step)
{
    return (struct lh__find *)((char *)step - offsetof(struct lh__find, step));
}

static void look(struct lh__find *find);

static void opened(struct lh__step *step, int rc)
{
    struct lh__find *find = find_of(step);
    struct lh_disk *disk = step->objects->disk;
    bool is_missing = rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP;
    bool is_folder = false;
    if (rc == 0) {
        find->file = step->op.file;
        rc = lh_disk_describe(disk, find->file, &find->facts);
        is_folder = rc == 0 && find->facts.is_folder;
        is_missing = rc == 0 && !find->facts.is_file;
        if (rc != 0 || is_missing)
            lh_disk_close(disk, find->file);
    }
    if (!is_missing) {
        find->done(find, rc);
        return;
    }
    if (!find->is_aside && (is_folder || find->looks_aside)) {
        find->is_aside = true;
        look(find);
    } else if (step->objects->moves != find->moves) {
        lh__object_find(find);
    } else {
        find->done(find, -ENOENT);
    }
}

static void look(struct lh__find *find)
{
    lh__object_step(&find->step,
                    (struct lh_disk_op){.kind = LH_DISK_OPEN,
                                        .path = find->is_aside ? find->aside : find->path,
                                        .how = LH_DISK_OPEN_READ},
                    opened);
}

void lh__object_find(struct lh__find *find)
{
    find->moves = find->step.objects->moves;
    find->is_aside = false;
    look(find);
}

/* ---- get ---- */

struct lh__get {
    struct lh__step step;
    struct lh__find find;
    struct lh_object_get *get;
    char path[LH_OBJECT_PATH_BYTES];
    char aside[LH_OBJECT_PATH_BYTES];
};

static void found(struct lh__find *find, int rc)
{
    struct lh_object_get *get = find->arg;
    struct lh__get *own = get->own;
    struct lh_object_stat stat;
    if (rc == 0) {
        lh_object_describe(&find->facts, &stat, &get->info);
        get->done(get);
        return;
    }
    get->own = NULL;
    find->step.objects->open--;
    if (rc == -ENOENT)
        lh_error_set(&get->error, LH_KEY_NOT_FOUND, "there is no object \"%.*s\"",
                     (int)(get->key.len < 100 ? get->key.len : 100), get->key.ptr);
    else
        lh__object_fail(&get->error, rc, "opening", get->key);
    free(own);
    get->done(get);
}

void lh_object_open(struct lh_objects *objects, struct lh_object_get *get)
{
    struct lh__get *own = malloc(sizeof *own);
    if (own == NULL) {
        lh_error_set(&get->error, LH_OUT_OF_MEMORY, "not enough memory to open an object");
        get->done(get);
        return;
    }
    get->error = (struct lh_error){.status = LH_OK};
    get->own = own;
    own->get = get;
    own->step.objects = objects;
    size_t len = lh_object_key_path(get->key, own->path);
    memcpy(own->aside, own->path, len);
    memcpy(own->aside + len, "%", 2);
    own->find.step.objects = objects;
    own->find.path = own->path;
    own->find.aside = own->aside;
    own->find.looks_aside = lh__object_may_be_aside(objects, get->key);
    own->find.done = found;
    own->find.arg = get;
    objects->open++;
    lh__object_find(&own->find);
}

static void have_read(struct lh__step *step, int rc)
{
    struct lh__get *own = (struct lh__get *)((char *)step - offsetof(struct lh__get, step));
    struct lh_object_get *get = own->get;
    get->got = step->op.finished;
    if (rc != 0)
        lh__object_fail(&get->error, rc, "reading", get->key);
    else if (get->got < step->op.len)
        lh_error_set(&get->error, LH_DISK_FAILED, "another program has made its file shorter");
    get->done(get);
}

/* Of an object that is open. */
static void submit(struct lh_object_get *get, struct lh_disk_op op,
                   void (*done)(struct lh__step *step, int rc))
{
    struct lh__get *own = get->own;
    assert(op.len > 0);
    op.file = own->find.file;
    lh__object_step(&own->step, op, done);
}

void lh_object_read(struct lh_object_get *get, void *into, size_t len, uint64_t offset)
{
    submit(get,
           (struct lh_disk_op){.kind = LH_DISK_READ, .into = into, .len = len, .offset = offset},
           have_read);
}

static void have_spliced(struct lh__step *step, int rc)
{
    struct lh__get *own = (struct lh__get *)((char *)step - offsetof(struct lh__get, step));
    struct lh_object_get *get = own->get;
    get->got = ((const struct lh_pipe *)step->op.into)->len;
    if (get->got == 0)
        lh__object_fail(&get->error, rc != 0 ? rc : -ENODATA, "splicing", get->key);
    get->done(get);
}

bool lh_objects_splice(const struct lh_objects *objects)
{
    return lh_disk_splices(objects->disk);
}

void lh_object_splice(struct lh_object_get *get, struct lh_pipe *pipe, size_t len, uint64_t offset)
{
    submit(get,
           (struct lh_disk_op){.kind = LH_DISK_SPLICE, .into = pipe, .len = len, .offset = offset},
           have_spliced);
}

void lh_object_close(struct lh_object_get *get)
{
    struct lh_objects *objects = get->own->step.objects;
    lh_disk_close(objects->disk, get->own->find.file);
    objects->open--;
    free(get->own);
    get->own = NULL;
}
