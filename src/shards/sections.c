/* Sections of a file, written and read by the shard's worker in slices between its other work. Runs
 * on the worker's thread.
 *
 * Writing: a slice fills one block and hands it to the persister; with every block out the part is
 * parked, and the first one to come back lets it go on. A failed write ends the
 * stream once all blocks are home. Reading: a slice reads a piece of the file straight to where it
 * belongs; it may wait for the disk, which only a shard that is not in use yet makes it do. */
#include "shards/sections.h"

#include "base/limits.h"
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SYNC_BYTES  (4u << 20)   /* of a section, behind which the file is synced */
#define READ_BYTES  (256u << 10) /* read in one slice: a quarter of a millisecond from the cache */
#define CHECK_NODES 1024u        /* checked and indexed in one slice */

void lh__section_freeze(struct lh_part *part)
{
    struct lh_section_job *job = part->section;
    part->status = lh_section_begin(part->shard, &job->writer);
    if (part->status != LH_OK)
        return;
    job->length = lh_section_length(job->writer);
    job->count = lh_section_count(job->writer);
}

void lh__section_thaw(struct lh_part *part)
{
    struct lh_section_job *job = part->section;
    if (job->writer != NULL)
        lh_section_end(job->writer);
    job->writer = NULL;
}

/* ---- writing ---- */

static enum lh_status stream_begin(struct lh_part *part, struct lh_actor *worker)
{
    struct lh_section_job *job = part->section;
    job->worker = worker;
    job->hash = XXH3_createState();
    if (job->hash == NULL)
        return LH_OUT_OF_MEMORY;
    XXH3_64bits_reset(job->hash);
    for (uint32_t i = 0; i < LH_SECTION_BLOCKS; i++) {
        struct lh_block *block = &job->blocks[i];
        *block = (struct lh_block){.head = {.type = LH_MSG_BLOCK, .lane = LH_LANE_EXPRESS}};
        block->part = part;
        block->bytes = aligned_alloc(4096, LH_SECTION_BLOCK_BYTES);
        if (block->bytes == NULL)
            return LH_OUT_OF_MEMORY;
    }
    return LH_OK;
}

static enum lh__slice stream_end(struct lh_part *part)
{
    struct lh_section_job *job = part->section;
    lh__section_thaw(part);
    if (job->hash != NULL)
        job->xxh3 = XXH3_64bits_digest(job->hash);
    XXH3_freeState(job->hash);
    job->hash = NULL;
    for (uint32_t i = 0; i < LH_SECTION_BLOCKS; i++) {
        free(job->blocks[i].bytes);
        job->blocks[i].bytes = NULL;
    }
    return LH__SLICE_DONE;
}

static struct lh_block *free_block(struct lh_section_job *job)
{
    for (uint32_t i = 0; i < LH_SECTION_BLOCKS; i++) {
        if (job->blocks[i].op.file == -1)
            return &job->blocks[i];
    }
    return NULL;
}

/* Some blocks bring a sync with them, so that the one at the file's end finds little to do: the
 * processor time of all of it at once would hold up searches. */
static void send_block(struct lh_section_job *job, struct lh_block *block, size_t len)
{
    bool is_synced = job->at / SYNC_BYTES != (job->at + len) / SYNC_BYTES;
    block->op = (struct lh_disk_op){.kind = LH_DISK_WRITE,
                                    .file = job->file,
                                    .bytes = block->bytes,
                                    .len = len,
                                    .offset = job->offset + job->at,
                                    .next = is_synced ? &block->sync : NULL};
    block->sync = (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = job->file};
    job->at += len;
    job->blocks_out++;
    enum lh_status status = lh_actor_send(job->persister, &block->head);
    assert(status == LH_OK); /* it stops after the workers */
    (void)status;
}

enum lh__slice lh__section_stream(struct lh_part *part, struct lh_actor *worker)
{
    struct lh_section_job *job = part->section;
    if (job->hash == NULL && part->status == LH_OK) {
        part->status = stream_begin(part, worker);
        for (uint32_t i = 0; i < LH_SECTION_BLOCKS; i++)
            job->blocks[i].op.file = -1; /* at home */
    }
    struct lh_block *block = free_block(job);
    if (part->status == LH_OK && block != NULL && job->at < job->length) {
        size_t got = 0;
        part->status = lh_section_read(job->writer, block->bytes, LH_SECTION_BLOCK_BYTES, &got);
        if (part->status == LH_OK) {
            assert(got > 0 && job->at + got <= job->length);
            XXH3_64bits_update(job->hash, block->bytes, got);
            send_block(job, block, got);
            return LH__SLICE_MORE;
        }
        lh_error_set(&job->error, part->status, "not enough memory to keep what changed meanwhile");
    }
    if (job->blocks_out == 0)
        return stream_end(part);
    job->is_parked = true;
    return LH__SLICE_PARKED;
}

bool lh__section_block_back(struct lh_block *block)
{
    struct lh_part *part = block->part;
    struct lh_section_job *job = part->section;
    assert(job->blocks_out > 0);
    job->blocks_out--;
    int rc = block->op.result;
    const char *what = "writing";
    if (rc == 0 && block->op.next != NULL) {
        rc = block->sync.result;
        what = "syncing";
    }
    if (rc != 0 && part->status == LH_OK)
        part->status =
            lh_error_sys(&job->error, lh_disk_status(rc), -rc, "%s %zu bytes at %" PRIu64, what,
                         block->op.len, block->op.offset);
    block->op.file = -1;
    bool was_parked = job->is_parked;
    job->is_parked = false;
    return was_parked;
}

/* ---- reading ---- */

static enum lh_status read_piece(struct lh_part *part, void *to, size_t len)
{
    struct lh_section_job *job = part->section;
    size_t got = 0;
    if (len > READ_BYTES)
        len = READ_BYTES;
    int rc = lh_disk_read(job->disk, job->file, to, len, job->offset + job->at, &got);
    if (rc != 0)
        return lh_error_sys(&job->error, LH_DISK_FAILED, -rc, "reading %zu bytes at %" PRIu64, len,
                            job->offset + job->at);
    if (got == 0)
        return lh_error_set(&job->error, LH_CORRUPT, "the file ends at %" PRIu64 ", in shard %u",
                            job->offset + job->at, part->number);
    job->at += got;
    return lh_section_filled(job->loader, got, &job->error);
}

static enum lh_status load_slice(struct lh_part *part, bool *is_done)
{
    struct lh_section_job *job = part->section;
    size_t len = 0;
    if (job->loader == NULL) {
        enum lh_status status = lh_section_load(&part->graph, job->length, &job->loader);
        if (status != LH_OK)
            return lh_error_set(&job->error, status, "shard %u: %s", part->number,
                                lh_status_text(status));
    }
    void *to = lh_section_next(job->loader, &len);
    if (to != NULL)
        return read_piece(part, to, len);
    if (job->at == job->length && lh_section_xxh3(job->loader) != job->xxh3)
        return lh_error_set(&job->error, LH_CORRUPT,
                            "shard %u: the checksum of %" PRIu64 " bytes at %" PRIu64
                            " is %016" PRIx64 ", not %016" PRIx64,
                            part->number, job->length, job->offset, lh_section_xxh3(job->loader),
                            job->xxh3);
    return lh_section_finish(job->loader, CHECK_NODES, is_done, &job->error);
}

enum lh__slice lh__section_load(struct lh_part *part)
{
    struct lh_section_job *job = part->section;
    bool is_done = false;
    part->status = load_slice(part, &is_done);
    if (part->status != LH_OK) {
        if (job->loader != NULL)
            lh_section_abandon(job->loader);
        job->loader = NULL;
        return LH__SLICE_DONE;
    }
    if (!is_done)
        return LH__SLICE_MORE;
    part->shard = lh_section_take(job->loader);
    job->loader = NULL;
    return LH__SLICE_DONE;
}
