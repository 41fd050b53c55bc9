/* For tests of disks: operations that count their callbacks, and folders to put disks in. */
#ifndef LH_TESTS_DISK_HELP_H
#define LH_TESTS_DISK_HELP_H

#include "store/disk.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct disk_tally {
    const struct lh_disk_op *ops;
    unsigned ended;
    bool is_disordered;
};

static inline void disk_tally_done(struct lh_disk_op *op)
{
    struct disk_tally *tally = op->arg;
    if (op != &tally->ops[tally->ended++])
        tally->is_disordered = true;
}

/* Links operations 0 .. count-1, submits them, and runs the disk until all have ended, in their
 * order; returns the first result that is not 0. */
static inline int disk_do(struct lh_disk *disk, struct lh_disk_op *ops, unsigned count)
{
    struct disk_tally tally = {.ops = ops};
    for (unsigned i = 0; i < count; i++) {
        ops[i].next = i + 1 < count ? &ops[i + 1] : NULL;
        ops[i].done = disk_tally_done;
        ops[i].arg = &tally;
        ops[i].result = 1;
    }
    lh_disk_submit(disk, ops);
    while (tally.ended < count)
        lh_disk_run(disk, true);
    assert_false(tally.is_disordered);
    for (unsigned i = 0; i < count; i++) {
        assert_in_range(-ops[i].result, 0, 4095);
        if (ops[i].result != 0)
            return ops[i].result;
    }
    return 0;
}

static inline int disk_do_one(struct lh_disk *disk, struct lh_disk_op op)
{
    return disk_do(disk, &op, 1);
}

static inline struct lh_disk_op disk_write(int file, const void *bytes, size_t len, uint64_t offset)
{
    return (struct lh_disk_op){
        .kind = LH_DISK_WRITE, .file = file, .bytes = bytes, .len = len, .offset = offset};
}

static inline struct lh_disk_op disk_sync(int file)
{
    return (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = file};
}

static inline struct lh_disk_op disk_allocate(int file, size_t len, uint64_t offset)
{
    return (struct lh_disk_op){
        .kind = LH_DISK_ALLOCATE, .file = file, .len = len, .offset = offset};
}

static inline struct lh_disk_op disk_rename(const char *path, const char *to)
{
    return (struct lh_disk_op){.kind = LH_DISK_RENAME, .path = path, .to = to};
}

static inline struct lh_disk_op disk_unlink(const char *path)
{
    return (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = path};
}

static inline struct lh_disk_op disk_link(const char *path, const char *to)
{
    return (struct lh_disk_op){.kind = LH_DISK_LINK, .path = path, .to = to};
}

static inline struct lh_disk_op disk_sync_folder(const char *path)
{
    return (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = path};
}

/* A new file with `text`, not synced. */
static inline int disk_make_file(struct lh_disk *disk, const char *path, const char *text)
{
    int file = -1;
    assert_int_equal(lh_disk_open(disk, path, LH_DISK_OPEN_NEW, &file), 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, text, strlen(text), 0)), 0);
    return file;
}

/* A file's bytes as text in `text`; false: there is no such file. */
static inline bool disk_read_text(struct lh_disk *disk, const char *path, char *text, size_t room)
{
    size_t got = 0;
    int file = -1;
    if (lh_disk_open(disk, path, LH_DISK_OPEN_READ, &file) != 0)
        return false;
    assert_int_equal(lh_disk_read(disk, file, text, room - 1, 0, &got), 0);
    text[got] = '\0';
    lh_disk_close(disk, file);
    return true;
}

static inline bool disk_has(struct lh_disk *disk, const char *path)
{
    char text[1];
    return disk_read_text(disk, path, text, sizeof text);
}

/* ---- folders ---- */

static inline void disk_root_make(char root[64])
{
    const char *temp = getenv("TMPDIR");
    snprintf(root, 64, "%.40s/lh-disk-XXXXXX", temp != NULL ? temp : "/tmp");
    assert_non_null(mkdtemp(root));
}

static inline int disk_root_each(const char *path, const struct stat *stat, int type,
                                 struct FTW *ftw)
{
    return remove(path);
}

static inline void disk_root_remove(const char *root)
{
    assert_int_equal(nftw(root, disk_root_each, 16, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
