/* The disk seam's front: every call goes to the implementation. Runs on the thread that owns the
 * disk, but for lh_disk_wake and lh_disk_read. */
#include "store/disk.h"

#include <assert.h>
#include <errno.h>

void lh_disk_destroy(struct lh_disk *disk)
{
    if (disk != NULL)
        disk->calls->destroy(disk);
}

enum lh_status lh_disk_status(int result)
{
    if (result == 0)
        return LH_OK;
    bool is_full = result == -ENOSPC || result == -EDQUOT || result == -EFBIG;
    return is_full ? LH_NO_SPACE : LH_DISK_FAILED;
}

const char *lh_disk_name(const struct lh_disk *disk)
{
    return disk->calls->name;
}

bool lh_disk_splices(const struct lh_disk *disk)
{
    return disk->calls->splices;
}

void lh_disk_submit(struct lh_disk *disk, struct lh_disk_op *chain)
{
    assert(chain != NULL && chain->kind < LH_DISK_KINDS);
    disk->calls->submit(disk, chain);
}

void lh_disk_op_opened(struct lh_disk_op *op, int file)
{
    for (; op != NULL; op = op->next)
        op->file = file;
}

void lh_disk_op_stamp(const struct lh_disk_op *op, uint64_t modified_ns)
{
    uint8_t *at = (uint8_t *)op->into + op->offset;
    assert(op->kind == LH_DISK_SET_ATTRIBUTE && op->offset + 8 <= op->len);
    for (unsigned i = 0; i < 8; i++)
        at[i] = (uint8_t)(modified_ns >> (8 * i));
}

bool lh_disk_run(struct lh_disk *disk, bool sleep)
{
    return disk->calls->run(disk, sleep);
}

void lh_disk_wake(struct lh_disk *disk)
{
    disk->calls->wake(disk);
}

int lh_disk_open(struct lh_disk *disk, const char *path, enum lh_disk_open how, int *file)
{
    return disk->calls->open(disk, path, how, file);
}

void lh_disk_close(struct lh_disk *disk, int file)
{
    disk->calls->close(disk, file);
}

int lh_disk_size(struct lh_disk *disk, int file, uint64_t *bytes)
{
    return disk->calls->size(disk, file, bytes);
}

int lh_disk_data(struct lh_disk *disk, int file, uint64_t offset, uint64_t *at)
{
    return disk->calls->data(disk, file, offset, at);
}

int lh_disk_describe(struct lh_disk *disk, int file, struct lh_disk_facts *facts)
{
    return disk->calls->describe(disk, file, facts);
}

int lh_disk_read(struct lh_disk *disk, int file, void *bytes, size_t len, uint64_t offset,
                 size_t *got)
{
    return disk->calls->read(disk, file, bytes, len, offset, got);
}

int lh_disk_list(struct lh_disk *disk, const char *folder,
                 void (*each)(const char *name, uint64_t bytes, void *arg), void *arg)
{
    return disk->calls->list(disk, folder, each, arg);
}

int lh_disk_make_folder(struct lh_disk *disk, const char *path)
{
    return disk->calls->make_folder(disk, path);
}
