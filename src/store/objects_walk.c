/* The walk over all files that fills the index at start. Runs on a thread of its own with a disk of
 * its own, while the store works already: what it finds goes to the store's thread in batches.
 *
 * A batch: for each object a u16 with the key's length, its struct lh_object_stat, the key. */
#include "store/objects_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BATCH_RECORDS 1024u

struct walk {
    struct lh_disk *disk;
    bool (*take)(struct lh_object_batch *batch, void *arg);
    void *arg;
    struct lh_object_batch batch;
    enum lh_status status;
    bool is_over;                    /* it is told to end, or cannot go on */
    char path[LH_OBJECT_PATH_BYTES]; /* of what is looked at */
    char key[LH_OBJECT_PATH_BYTES];  /* that it stands for */
};

/* Names in a folder. */
struct names {
    struct lh_buf text;
    const char **at;
    size_t count;
};

static void give_batch(struct walk *walk)
{
    if (lh_buf_failed(&walk->batch.records)) {
        lh_buf_deinit(&walk->batch.records);
        walk->batch.count = 0;
        walk->status = LH_OUT_OF_MEMORY;
        walk->is_over = true;
    }
    walk->batch.status = walk->status;
    if (!walk->take(&walk->batch, walk->arg))
        walk->is_over = true;
    walk->batch = (struct lh_object_batch){0};
}

static void take_object(struct walk *walk, size_t key_len, const struct lh_object_stat *stat)
{
    struct lh_buf *records = &walk->batch.records;
    struct lh_error ignored;
    uint16_t len = (uint16_t)key_len;
    if (lh_object_key_check((struct lh_str){walk->key, key_len}, &ignored) != LH_OK)
        return; /* what another program has put there cannot be asked for */
    lh_buf_append(records, &len, sizeof len);
    lh_buf_append(records, stat, sizeof *stat);
    lh_buf_append(records, walk->key, key_len);
    walk->batch.count++;
    if (walk->batch.count == BATCH_RECORDS)
        give_batch(walk);
}

/* ---- one folder ---- */

static void take_name(const char *name, uint64_t bytes, void *arg)
{
    struct names *names = arg;
    lh_buf_append(&names->text, name, strlen(name) + 1);
    names->count++;
    (void)bytes;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum lh_status sort_names(struct names *names)
{
    const char *at = names->text.ptr;
    names->at = malloc((names->count + 1) * sizeof *names->at);
    if (names->at == NULL || lh_buf_failed(&names->text))
        return LH_OUT_OF_MEMORY;
    for (size_t i = 0; i < names->count; i++) {
        names->at[i] = at;
        at += strlen(at) + 1;
    }
    qsort(names->at, names->count, sizeof *names->at, compare);
    return LH_OK;
}

static void op_done(struct lh_disk_op *op)
{
    *(bool *)op->arg = true;
}

/* Its disk does what is submitted within the run. */
static int describe(struct lh_disk *disk, const char *path, struct lh_disk_facts *facts)
{
    bool is_done = false;
    struct lh_disk_op op = {.kind = LH_DISK_OPEN,
                            .path = path,
                            .how = LH_DISK_OPEN_READ,
                            .done = op_done,
                            .arg = &is_done};
    lh_disk_submit(disk, &op);
    while (!is_done)
        if (!lh_disk_run(disk, false) && !is_done)
            return -EIO;
    if (op.result != 0)
        return op.result;
    int rc = lh_disk_describe(disk, op.file, facts);
    lh_disk_close(disk, op.file);
    return rc;
}

static void walk_folder(struct walk *walk, size_t path_len, size_t key_len);

/* `path_len` and `key_len` are those of the folder, with its slash. */
static void walk_name(struct walk *walk, const char *name, size_t path_len, size_t key_len)
{
    struct lh_disk_facts facts;
    struct lh_object_stat stat;
    size_t len = strlen(name);
    bool is_aside;
    if (path_len + len + 2 > sizeof walk->path || key_len + len > LH_OBJECT_KEY_BYTES_MAX + 1)
        return;
    memcpy(walk->path + path_len, name, len + 1);
    size_t part = lh_object_key_of_name((struct lh_str){name, len}, walk->key + key_len, &is_aside);
    if (part == 0)
        return;
    int rc = describe(walk->disk, walk->path, &facts);
    if (rc == -ENOENT || rc == -ELOOP || rc == -ENXIO)
        return; /* gone since, or nothing that an object could be */
    if (rc != 0) {
        walk->status = LH_DISK_FAILED;
        walk->is_over = true;
        return;
    }
    if (facts.is_folder && !is_aside) {
        walk->path[path_len + len] = '/';
        walk->key[key_len + part] = '/';
        walk_folder(walk, path_len + len + 1, key_len + part + 1);
    } else if (facts.is_file) {
        lh_object_describe(&facts, &stat, NULL);
        stat.is_aside = is_aside;
        take_object(walk, key_len + part, &stat);
    }
}

static void walk_folder(struct walk *walk, size_t path_len, size_t key_len)
{
    struct names names = {0};
    if (path_len > 0)
        walk->path[path_len - 1] = '\0';
    int rc = lh_disk_list(walk->disk, path_len > 0 ? walk->path : ".", take_name, &names);
    if (rc != 0)
        walk->status = LH_DISK_FAILED;
    else
        walk->status = sort_names(&names);
    walk->is_over |= walk->status != LH_OK;
    if (path_len > 0)
        walk->path[path_len - 1] = '/';
    for (size_t i = 0; i < names.count && !walk->is_over; i++)
        walk_name(walk, names.at[i], path_len, key_len);
    free(names.at);
    lh_buf_deinit(&names.text);
}

void lh_objects_walk(struct lh_disk *disk, bool (*take)(struct lh_object_batch *batch, void *arg),
                     void *arg)
{
    struct walk *walk = calloc(1, sizeof *walk);
    struct lh_object_batch none = {.is_last = true, .status = LH_OUT_OF_MEMORY};
    if (walk == NULL) {
        (void)take(&none, arg);
        return;
    }
    walk->disk = disk;
    walk->take = take;
    walk->arg = arg;
    walk_folder(walk, 0, 0);
    walk->batch.is_last = true;
    give_batch(walk);
    free(walk);
}
