/* Putting an object. Runs on the store's thread.
 *
 * The bytes go to a file of %tmp. With the last of them, and with the key's lock: its folders, the
 * conditions, and then one chain that writes what is left, sets the attribute, syncs the file, and
 * names it. Then the folders are synced, and the put is over. Whatever fails before the rename
 * leaves nothing but, at worst, a file of %tmp after a crash, which goes at the next start.
 *
 * What comes in one piece, and is not short, is written past the page cache: the put waits until it
 * is on the disk anyway, and the copy is saved, a quarter of the processor time. Pieces of a longer
 * body go through the cache, so that the kernel may write one while the next comes.
 *
 * A file that is there already, on the same file system, gets a second name in %tmp, and goes on
 * from there as if its bytes had been written. */
#include "store/objects_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ALLOCATE_BYTES_MIN (1u << 20) /* below, one write allocates as well */
#define CHAIN_OPS_MAX      6u         /* open, allocate, write, attribute, sync, rename */

struct lh__put {
    struct lh__step step;
    struct lh_objects *objects;
    struct lh_object_put *put;
    struct lh__lock lock;
    struct lh__find find; /* of what is there: for the conditions, and its name */
    struct lh__way way;
    struct lh__prune prune;
    struct lh__settle up;
    struct lh_disk_op ops[CHAIN_OPS_MAX];
    uint32_t op_count;
    XXH3_state_t *hash;
    int file;
    uint64_t bytes;
    uint32_t tries;
    bool has_temp;
    bool is_synced; /* all of it is on the disk, and wants its name only */
    bool is_locked;
    bool is_aside; /* the name that it gets */
    bool has_way;  /* folders may have been made for it */
    char temp[32];
    char path[LH_OBJECT_PATH_BYTES];
    char aside[LH_OBJECT_PATH_BYTES];
    size_t attribute_len;
    uint8_t attribute[LH_OBJECT_ATTRIBUTE_BYTES_MAX];
};

static struct lh__put *put_of(struct lh__step *step)
{
    return (struct lh__put *)((char *)step - offsetof(struct lh__put, step));
}

/* ---- the end ---- */

static void end(struct lh__put *own)
{
    struct lh_object_put *put = own->put;
    if (own->way.folder != NULL)
        lh__folder_unref(own->objects, own->way.folder);
    own->objects->open--;
    XXH3_freeState(own->hash);
    free(own);
    put->own = NULL;
    put->done(put);
}

static void pruned(struct lh__prune *prune)
{
    end(prune->arg);
}

static void remove_folders(struct lh__put *own)
{
    if (!own->has_way) {
        end(own);
        return;
    }
    own->prune = (struct lh__prune){.step.objects = own->objects, .done = pruned, .arg = own};
    lh__object_prune(&own->prune, lh_str_of(own->path));
}

static void temp_removed(struct lh__step *step, int rc)
{
    (void)rc; /* it goes at the next start */
    remove_folders(put_of(step));
}

/* Leaves nothing; `put->error` says why. */
static void give_up(struct lh__put *own)
{
    if (own->is_locked)
        lh__object_unlock(own->objects, &own->lock);
    own->is_locked = false;
    if (own->file >= 0)
        lh_disk_close(own->objects->disk, own->file);
    own->file = -1;
    if (!own->has_temp) {
        remove_folders(own);
        return;
    }
    lh__object_step(&own->step, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = own->temp},
                    temp_removed);
}

static void fail(struct lh__put *own, int rc, const char *doing)
{
    lh__object_fail(&own->put->error, rc, doing, own->put->key);
    give_up(own);
}

void lh_object_put_abort(struct lh_object_put *put)
{
    if (put->own == NULL)
        put->done(put);
    else
        give_up(put->own);
}

/* ---- naming ---- */

static void walk_way(struct lh__put *own);

static void is_durable(struct lh__settle *up, int rc)
{
    struct lh__put *own = up->arg;
    if (rc != 0)
        lh__object_fail(&own->put->error, rc, "syncing the folders of", own->put->key);
    end(own);
}

/* What was written here, with its attribute, is known; without one, its inode counts, too. */
static int describe(const struct lh__put *own, struct lh_disk_facts *facts)
{
    if (!own->objects->has_attributes || own->put->linked != NULL)
        return lh_disk_describe(own->objects->disk, own->file, facts);
    *facts = (struct lh_disk_facts){.bytes = own->bytes + own->put->piece.len,
                                    .modified_ns = lh_object_attribute_time(own->attribute),
                                    .is_file = true,
                                    .attribute_len = own->attribute_len};
    memcpy(facts->attribute, own->attribute, own->attribute_len);
    return 0;
}

static void named(struct lh__put *own)
{
    struct lh_objects *objects = own->objects;
    struct lh_disk_facts facts;
    struct lh_object_stat stat;
    int rc = describe(own, &facts);
    lh_disk_close(objects->disk, own->file);
    own->file = -1;
    own->has_temp = false;
    lh__folder_changed(own->way.folder);
    if (rc == 0) {
        lh_object_describe(&facts, &stat, &own->put->info);
        stat.is_aside = own->is_aside;
        lh__object_keep_key(objects, own->put->key, &stat);
    }
    own->is_locked = false;
    lh__object_unlock(objects, &own->lock);
    own->up = (struct lh__settle){.objects = objects, .done = is_durable, .arg = own};
    lh__object_settle(&own->up, lh_str_of(own->path));
}

static void rename_temp(struct lh__put *own);

static void renamed(struct lh__step *step, int rc)
{
    struct lh__put *own = put_of(step);
    bool is_gone =
        rc == -ENOENT || rc == -ENOTDIR; /* a folder on the way, since it was looked at */
    if (rc == 0) {
        named(own);
    } else if (rc == -EISDIR && !own->is_aside) {
        own->is_aside = true;
        rename_temp(own);
    } else if (is_gone && own->tries++ < LH__TRIES_MAX) {
        lh__folder_unref(own->objects, own->way.folder);
        own->way.folder = NULL;
        walk_way(own);
    } else {
        fail(own, rc, "naming");
    }
}

static struct lh_disk_op renaming(const struct lh__put *own)
{
    return (struct lh_disk_op){
        .kind = LH_DISK_RENAME, .path = own->temp, .to = own->is_aside ? own->aside : own->path};
}

static void rename_temp(struct lh__put *own)
{
    lh__object_step(&own->step, renaming(own), renamed);
}

/* ---- bytes ---- */

static struct lh_disk_op *add_op(struct lh__put *own, enum lh_disk_kind kind)
{
    assert(own->op_count < CHAIN_OPS_MAX);
    struct lh_disk_op *op = &own->ops[own->op_count++];
    *op = (struct lh_disk_op){.kind = kind, .file = own->file};
    return op;
}

static void add_link(struct lh__put *own)
{
    struct lh_disk_op *link = add_op(own, LH_DISK_LINK);
    link->path = own->put->linked;
    link->to = own->temp;
    struct lh_disk_op *open = add_op(own, LH_DISK_OPEN);
    open->path = own->temp;
    open->how = LH_DISK_OPEN_REUSE;
}

static void add_write(struct lh__put *own)
{
    struct lh_object_put *put = own->put;
    if (own->file < 0) {
        struct lh_disk_op *open = add_op(own, LH_DISK_OPEN);
        open->path = own->temp;
        open->how = LH_DISK_OPEN_NEW;
        if (put->length != LH_OBJECT_LENGTH_UNKNOWN && put->length >= ALLOCATE_BYTES_MIN)
            add_op(own, LH_DISK_ALLOCATE)->len = put->length;
    }
    if (put->piece.len > 0) {
        struct lh_disk_op *write = add_op(own, LH_DISK_WRITE);
        write->bytes = put->piece.ptr;
        write->len = put->piece.len;
        write->offset = own->bytes;
        write->is_direct = put->is_last && own->bytes == 0 && put->piece.len >= LH_DIRECT_BYTES_MIN;
    }
}

/* The attribute names the file's time, which nothing changes any more. */
static void add_attribute(struct lh__put *own)
{
    XXH128_canonical_t hash;
    struct lh_disk_op *set = add_op(own, LH_DISK_SET_ATTRIBUTE);
    if (own->put->linked != NULL)
        memcpy(hash.digest, own->put->linked_hash, sizeof hash.digest);
    else
        XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(own->hash));
    set->into = own->attribute;
    set->len = own->attribute_len =
        lh_object_attribute(hash.digest, own->put->info.content_type, own->attribute);
    set->offset = LH_OBJECT_ATTRIBUTE_TIME_AT;
}

static void chain_ended(struct lh__step *step, int rc)
{
    static const char *const doing[LH_DISK_KINDS] = {[LH_DISK_OPEN] = "making a file for",
                                                     [LH_DISK_ALLOCATE] = "making room for",
                                                     [LH_DISK_WRITE] = "writing",
                                                     [LH_DISK_SET_ATTRIBUTE] = "describing",
                                                     [LH_DISK_SYNC_ALL] = "syncing"};
    struct lh__put *own = put_of(step);
    const struct lh_disk_op *op = own->ops;
    for (uint32_t i = 0; i < 2 && i < own->op_count; i++) {
        bool is_open = op[i].kind == LH_DISK_OPEN && op[i].result == 0;
        own->has_temp |= is_open || (op[i].kind == LH_DISK_LINK && op[i].result == 0);
        if (is_open)
            own->file = op[i].file;
    }
    while (rc != 0 && op->result == 0)
        op++;
    own->is_synced = own->put->is_last && (rc == 0 || op->kind == LH_DISK_RENAME);
    if (own->is_synced) {
        renamed(step, rc);
    } else if (rc != 0 && op->kind == LH_DISK_LINK) {
        lh_error_set(&own->put->error, LH_INVALID_ARGUMENT, "%.60s cannot become an object: %s",
                     own->put->linked, strerrordesc_np(-rc));
        give_up(own);
    } else if (rc != 0) {
        fail(own, rc, doing[op->kind]);
    } else {
        own->bytes += own->put->piece.len;
        own->put->done(own->put);
    }
}

static void write_piece(struct lh__put *own)
{
    own->op_count = 0;
    add_write(own);
    if (own->op_count == 0) /* an empty piece */
        own->put->done(own->put);
    else
        lh__object_chain(&own->step, own->ops, own->op_count, chain_ended);
}

/* With its lock, its folders, and its conditions met. */
static void write_last(struct lh__put *own)
{
    own->op_count = 0;
    if (own->put->linked != NULL)
        add_link(own);
    else
        add_write(own);
    if (own->objects->has_attributes)
        add_attribute(own);
    add_op(own, LH_DISK_SYNC_ALL);
    *add_op(own, LH_DISK_RENAME) = renaming(own);
    lh__object_chain(&own->step, own->ops, own->op_count, chain_ended);
}

/* ---- the last piece: conditions, folders ---- */

/* Whether what is there, as a find says, lets the put go on; ends it otherwise. */
static bool may_go_on(struct lh__put *own, struct lh__find *find, int rc)
{
    struct lh_object_info info;
    struct lh_object_stat stat;
    if (rc == 0) {
        lh_disk_close(own->objects->disk, find->file);
        lh_object_describe(&find->facts, &stat, &info);
    }
    if (rc != 0 && rc != -ENOENT) {
        fail(own, rc, "looking at");
        return false;
    }
    if (lh__object_check_conditions(&own->put->conditions, rc == 0 ? info.etag : NULL,
                                    &own->put->error) != LH_OK) {
        give_up(own);
        return false;
    }
    return true;
}

static void look(struct lh__put *own, void (*done)(struct lh__find *find, int rc))
{
    own->find = (struct lh__find){.step.objects = own->objects,
                                  .path = own->path,
                                  .aside = own->aside,
                                  .looks_aside = true,
                                  .done = done,
                                  .arg = own};
    lh__object_find(&own->find);
}

static void go_on(struct lh__put *own)
{
    if (own->is_synced)
        rename_temp(own);
    else
        write_last(own);
}

static void replaced_found(struct lh__find *find, int rc)
{
    struct lh__put *own = find->arg;
    if (!may_go_on(own, find, rc))
        return;
    own->is_aside = rc == 0 && find->is_aside;
    go_on(own);
}

static void way_found(struct lh__way *way, int rc)
{
    struct lh__put *own = way->arg;
    if (rc == -EINVAL) { /* it has said why */
        give_up(own);
    } else if (rc != 0) {
        fail(own, rc, "making the folders of");
    } else if (lh__object_has_conditions(&own->put->conditions) ||
               lh__object_may_be_aside(own->objects, own->put->key)) {
        look(own, replaced_found);
    } else {
        go_on(own);
    }
}

static void walk_way(struct lh__put *own)
{
    own->has_way = true;
    own->is_aside = false;
    own->way.step.objects = own->objects;
    own->way.path = lh_str_of(own->path);
    own->way.makes = true;
    own->way.done = way_found;
    own->way.arg = own;
    own->way.error = &own->put->error;
    lh__object_way_find(&own->way);
}

static void locked(struct lh__lock *lock)
{
    struct lh__put *own = lock->arg;
    own->is_locked = true;
    walk_way(own);
}

static void take_piece(struct lh__put *own)
{
    struct lh_object_put *put = own->put;
    uint64_t bytes = put->linked != NULL ? put->length : own->bytes + put->piece.len;
    if (own->objects->has_attributes && put->linked == NULL)
        XXH3_128bits_update(own->hash, put->piece.ptr, put->piece.len);
    if (!put->is_last) {
        write_piece(own);
        return;
    }
    if (put->length != LH_OBJECT_LENGTH_UNKNOWN && bytes != put->length) {
        lh_error_set(&put->error, LH_BAD_REQUEST,
                     "the body has %" PRIu64 " bytes, %" PRIu64 " were announced", bytes,
                     put->length);
        give_up(own);
        return;
    }
    own->lock = (struct lh__lock){.path = lh_str_of(own->path), .granted = locked, .arg = own};
    lh__object_lock(own->objects, &own->lock);
}

static void first_found(struct lh__find *find, int rc)
{
    if (may_go_on(find->arg, find, rc))
        take_piece(find->arg);
}

static struct lh__put *create(struct lh_objects *objects, struct lh_object_put *put)
{
    struct lh__put *own = malloc(sizeof *own);
    if (own == NULL)
        return NULL;
    memset(own, 0, offsetof(struct lh__put, temp));
    own->objects = own->step.objects = objects;
    own->put = put;
    own->file = -1;
    snprintf(own->temp, sizeof own->temp, "%s/%" PRIu64, LH_OBJECT_TEMP_FOLDER,
             objects->next_temp++);
    own->hash = XXH3_createState();
    if (own->hash == NULL) {
        free(own);
        return NULL;
    }
    XXH3_128bits_reset(own->hash);
    size_t len = lh_object_key_path(put->key, own->path);
    memcpy(own->aside, own->path, len);
    memcpy(own->aside + len, "%", 2);
    return own;
}

void lh_object_put(struct lh_objects *objects, struct lh_object_put *put)
{
    if (put->own != NULL) {
        take_piece(put->own);
        return;
    }
    put->error = (struct lh_error){.status = LH_OK};
    put->own = create(objects, put);
    if (put->own == NULL) {
        lh_error_set(&put->error, LH_OUT_OF_MEMORY, "not enough memory to put an object");
        put->done(put);
        return;
    }
    objects->open++;
    /* What is refused at the end is refused before it is uploaded, too. */
    if (lh__object_has_conditions(&put->conditions))
        look(put->own, first_found);
    else
        take_piece(put->own);
}
