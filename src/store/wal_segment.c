/* Segments of the log: their names and headers, making the next one ahead, and letting go of those
 * that are no longer needed. Runs on the thread that owns the disk.
 *
 * Invariants:
 *  - a file has the name of a segment only once its header is synced: it is made under another name
 *    and renamed, be it new or reused; so a segment whose header is bad was damaged;
 *  - sequences in the folder have no gap: segments go oldest first, each after the folder that
 *    lacks the one before was synced;
 *  - the next segment's bytes are allocated before it is ready, so that taking it costs nothing,
 *    as long as the disk has room for that; else its file grows with its records. */
#include "store/wal_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A header block; the rest of it is zero but for the CRC of all before in its last four bytes. */
struct header_block {
    char magic[8];
    uint32_t version;
    uint32_t zero;
    struct lh__wal_header header;
};

static const char magic[8] = "LHWALSEG"; /* no NUL */

void lh__wal_path(uint64_t sequence, const char *suffix, char path[LH__WAL_PATH_BYTES])
{
    int len =
        snprintf(path, LH__WAL_PATH_BYTES, LH__WAL_FOLDER "/%016" PRIx64 "%s", sequence, suffix);
    assert(len > 0 && len < (int)LH__WAL_PATH_BYTES);
}

void lh__wal_header_encode(const struct lh_crc32c *crc, const struct lh__wal_header *header,
                           char block[LH__WAL_HEADER_BYTES])
{
    struct header_block head = {.version = LH__WAL_VERSION, .header = *header};
    uint32_t sum;
    memcpy(head.magic, magic, sizeof magic);
    memset(block, 0, LH__WAL_HEADER_BYTES);
    memcpy(block, &head, sizeof head);
    sum = crc->extend(0, block, LH__WAL_HEADER_BYTES - sizeof sum);
    memcpy(block + LH__WAL_HEADER_BYTES - sizeof sum, &sum, sizeof sum);
}

enum lh_status lh__wal_header_decode(const struct lh_crc32c *crc, const void *block,
                                     struct lh__wal_header *header, struct lh_error *error)
{
    struct header_block head;
    uint32_t sum;
    memcpy(&head, block, sizeof head);
    memcpy(&sum, (const char *)block + LH__WAL_HEADER_BYTES - sizeof sum, sizeof sum);
    if (memcmp(head.magic, magic, sizeof magic) != 0)
        return lh_error_set(error, LH_CORRUPT, "not the header of a segment");
    if (sum != crc->extend(0, block, LH__WAL_HEADER_BYTES - sizeof sum))
        return lh_error_set(error, LH_CORRUPT, "the header's checksum is wrong");
    if (head.version != LH__WAL_VERSION)
        return lh_error_set(error, LH_NOT_IMPLEMENTED, "version %u is not known to this server",
                            head.version);
    *header = head.header;
    return LH_OK;
}

uint32_t lh__wal_segment_crc(const struct lh_crc32c *crc, uint64_t seed)
{
    return crc->extend(0, &seed, sizeof seed);
}

void lh__wal_segment_append(struct lh_wal *wal, struct lh__wal_segment *segment)
{
    segment->next = NULL;
    if (wal->last_segment != NULL)
        wal->last_segment->next = segment;
    else
        wal->segments = segment;
    wal->last_segment = segment;
}

/* splitmix64 (Steele, Lea, Flood 2014), started from the kernel's randomness or a test's seed. */
static uint64_t random_seed(struct lh_wal *wal)
{
    uint64_t x = wal->rng += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

void lh__wal_note_failure(struct lh_wal *wal, const char *event, uint64_t sequence, int result)
{
    char path[LH__WAL_PATH_BYTES];
    char reason[64];
    lh__wal_path(sequence, LH__WAL_SEGMENT_SUFFIX, path);
    lh_counter_add(&wal->metrics.failures, 1);
    lh_log_line(wal->options.log, LH_LOG_WARN, event, LH_LOG_TEXT("file", path),
                LH_LOG_TEXT("reason", strerror_r(-result, reason, sizeof reason)));
}

/* ---- the next one ---- */

static void prepare_failed(struct lh_wal *wal, int result)
{
    struct lh__wal_next *next = &wal->next;
    lh__wal_note_failure(wal, "log segment not made", wal->next_sequence, result);
    if (next->segment != NULL && next->segment->file >= 0)
        lh_disk_close(wal->options.disk, next->segment->file);
    free(next->segment);
    next->segment = NULL;
    next->state = LH__WAL_NEXT_NONE;
    next->again_ns = wal->options.clock_ns() + LH_WAL_RETRY_MS * 1000000ull;
    lh__wal_prepared(wal, result);
}

static void make_next(struct lh_wal *wal, bool is_spare);

/* The half-made file is gone, or could not be removed: then the next attempt empties it. */
static void on_cleaned(struct lh_disk_op *op)
{
    struct lh_wal *wal = op->arg;
    struct lh__wal_next *next = &wal->next;
    if (lh_disk_status(next->result) != LH_NO_SPACE || next->grows) {
        prepare_failed(wal, next->result);
        return;
    }
    lh_disk_close(wal->options.disk, next->segment->file);
    next->grows = true;
    make_next(wal, false);
}

static void on_prepared(struct lh_disk_op *op)
{
    struct lh_wal *wal = op->arg;
    struct lh__wal_next *next = &wal->next;
    if (op->result != 0 && op->result != -ECANCELED && next->result == 0)
        next->result = op->result;
    if (--next->in_flight > 0)
        return;
    if (next->result != 0) {
        next->ops[0] = (struct lh_disk_op){
            .kind = LH_DISK_UNLINK, .path = next->temp, .done = on_cleaned, .arg = wal};
        lh_disk_submit(wal->options.disk, &next->ops[0]);
        return;
    }
    next->state = LH__WAL_NEXT_READY;
    if (next->grows)
        lh_log_line(wal->options.log, LH_LOG_WARN,
                    "no room to allocate a log segment: it grows as it is written",
                    LH_LOG_TEXT("file", next->path));
    lh__wal_prepared(wal, 0);
}

/* A reused file's blocks are there already; a new one's are allocated when `is_new`. One that has
 * the name of a segment, `from`, loses it first. */
static void submit_prepare(struct lh_wal *wal, bool is_new, const char *from)
{
    struct lh__wal_next *next = &wal->next;
    int file = next->segment->file;
    struct lh_disk_op *ops = next->ops;
    unsigned n = 0;
    if (from != NULL) {
        ops[n++] = (struct lh_disk_op){.kind = LH_DISK_RENAME, .path = from, .to = next->temp};
        ops[n++] = (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = LH__WAL_FOLDER};
    }
    if (is_new)
        ops[n++] = (struct lh_disk_op){
            .kind = LH_DISK_ALLOCATE, .file = file, .len = wal->options.segment_bytes};
    ops[n++] = (struct lh_disk_op){
        .kind = LH_DISK_WRITE, .file = file, .bytes = next->block, .len = LH__WAL_HEADER_BYTES};
    ops[n++] = (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = file};
    ops[n++] = (struct lh_disk_op){.kind = LH_DISK_RENAME, .path = next->temp, .to = next->path};
    ops[n++] = (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = LH__WAL_FOLDER};
    assert(n <= sizeof next->ops / sizeof next->ops[0]);
    for (unsigned i = 0; i < n; i++) {
        ops[i].done = on_prepared;
        ops[i].arg = wal;
        ops[i].next = i + 1 < n ? &ops[i + 1] : NULL;
    }
    next->in_flight = n;
    next->result = 0;
    lh_disk_submit(wal->options.disk, &ops[0]);
}

/* What the next segment will be, with its header in `block`; its file is opened by the caller. */
static void describe_next(struct lh_wal *wal, struct lh__wal_segment *segment)
{
    struct lh__wal_header header = wal->gap;
    header.sequence = wal->next_sequence;
    header.seed = random_seed(wal);
    lh__wal_header_encode(wal->crc, &header, wal->next.block);
    *segment = (struct lh__wal_segment){.sequence = header.sequence,
                                        .end = LH__WAL_HEADER_BYTES,
                                        .bytes = wal->next.grows ? LH__WAL_HEADER_BYTES
                                                                 : wal->options.segment_bytes,
                                        .synced = LH__WAL_HEADER_BYTES,
                                        .file = segment->file,
                                        .crc = lh__wal_segment_crc(wal->crc, header.seed)};
    segment->chain = segment->crc;
    lh__wal_path(header.sequence, LH__WAL_SEGMENT_SUFFIX, wal->next.path);
}

/* The next segment was ready behind one whose place it must take now. */
static void prepare_again(struct lh_wal *wal)
{
    struct lh__wal_next *next = &wal->next;
    uint64_t sequence = next->segment->sequence;
    lh__wal_path(sequence, LH__WAL_SEGMENT_SUFFIX, next->from);
    lh__wal_path(sequence, ".tmp", next->temp);
    describe_next(wal, next->segment);
    submit_prepare(wal, false, next->from);
}

/* From the spare file that `temp` names, or anew. */
static void make_next(struct lh_wal *wal, bool is_spare)
{
    struct lh__wal_next *next = &wal->next;
    if (!is_spare)
        lh__wal_path(wal->next_sequence, ".tmp", next->temp);
    int result =
        lh_disk_open(wal->options.disk, next->temp,
                     is_spare ? LH_DISK_OPEN_REUSE : LH_DISK_OPEN_NEW, &next->segment->file);
    if (result != 0) {
        next->segment->file = -1;
        prepare_failed(wal, result);
        return;
    }
    describe_next(wal, next->segment);
    submit_prepare(wal, !is_spare && !next->grows, NULL);
}

void lh__wal_prepare(struct lh_wal *wal)
{
    struct lh__wal_next *next = &wal->next;
    bool was_ready = next->state == LH__WAL_NEXT_READY;
    bool is_spare = wal->spare_count > 0;
    assert(next->state != LH__WAL_NEXT_PREPARING);
    next->state = LH__WAL_NEXT_PREPARING;
    if (was_ready) {
        prepare_again(wal);
        return;
    }
    next->segment = calloc(1, sizeof *next->segment);
    if (next->segment == NULL) {
        prepare_failed(wal, -ENOMEM);
        return;
    }
    next->grows = false;
    if (is_spare)
        lh__wal_path(wal->spares[--wal->spare_count], ".tmp", next->temp);
    make_next(wal, is_spare);
}

void lh__wal_advance(struct lh_wal *wal)
{
    struct lh__wal_segment *segment = wal->next.segment;
    assert(wal->next.state == LH__WAL_NEXT_READY && wal->current == NULL &&
           segment->sequence == wal->next_sequence);
    wal->next.segment = NULL;
    wal->next.state = LH__WAL_NEXT_NONE;
    wal->next_sequence = segment->sequence + 1;
    lh__wal_segment_append(wal, segment);
    wal->current = segment;
}

void lh__wal_retire(struct lh_wal *wal)
{
    struct lh__wal_segment *segment = wal->current;
    struct lh__wal_segment **link = &wal->segments, *before = NULL;
    if (segment == NULL)
        return;
    assert(segment == wal->last_segment);
    lh_disk_close(wal->options.disk, segment->file);
    segment->file = -1;
    wal->current = NULL;
    if (segment->last_lsn > wal->synced_lsn)
        segment->last_lsn = wal->synced_lsn;
    if (segment->first_lsn != 0 && segment->last_lsn >= segment->first_lsn)
        return;
    /* Nothing in it counts: the next one takes its sequence and its name. So a disk that goes on
     * failing does not fill with such segments, and the reader need not guess about them. */
    while (*link != segment) {
        before = *link;
        link = &before->next;
    }
    *link = NULL;
    wal->last_segment = before;
    wal->next_sequence = segment->sequence;
    free(segment);
}

/* ---- those that are released ---- */

static void on_removed(struct lh_disk_op *op)
{
    struct lh_wal *wal = op->arg;
    struct lh__wal_removal *removal = &wal->removal;
    struct lh__wal_segment *segment = removal->segment;
    if (op->result != 0 && op->result != -ECANCELED && removal->result == 0)
        removal->result = op->result;
    if (--removal->in_flight > 0)
        return;
    removal->segment = NULL;
    if (removal->result != 0) { /* the next release tries again */
        lh__wal_note_failure(wal, "log segment not removed", segment->sequence, removal->result);
        return;
    }
    assert(wal->segments == segment && segment != wal->current);
    wal->segments = segment->next;
    if (wal->last_segment == segment)
        wal->last_segment = NULL;
    if (removal->is_spare && wal->spare_count < LH_WAL_SPARES_MAX)
        wal->spares[wal->spare_count++] = segment->sequence;
    if (wal->replay_segment == segment) {
        lh__wal_reader_close(&wal->replay);
        wal->replay_segment = NULL;
    }
    free(segment);
    lh__wal_remove_released(wal);
}

void lh__wal_remove_released(struct lh_wal *wal)
{
    struct lh__wal_removal *removal = &wal->removal;
    struct lh__wal_segment *oldest = wal->segments;
    struct lh_disk_op *ops = removal->ops;
    if (removal->segment != NULL || oldest == NULL || oldest == wal->current ||
        oldest->last_lsn >= wal->released_lsn)
        return;
    removal->segment = oldest;
    removal->is_spare =
        oldest->bytes == wal->options.segment_bytes && wal->spare_count < LH_WAL_SPARES_MAX;
    removal->result = 0;
    removal->in_flight = 2;
    lh__wal_path(oldest->sequence, LH__WAL_SEGMENT_SUFFIX, removal->path);
    lh__wal_path(oldest->sequence, ".tmp", removal->temp);
    ops[0] = (struct lh_disk_op){.kind = removal->is_spare ? LH_DISK_RENAME : LH_DISK_UNLINK,
                                 .path = removal->path,
                                 .to = removal->temp,
                                 .next = &ops[1],
                                 .done = on_removed,
                                 .arg = wal};
    ops[1] = (struct lh_disk_op){
        .kind = LH_DISK_SYNC_FOLDER, .path = LH__WAL_FOLDER, .done = on_removed, .arg = wal};
    lh_disk_submit(wal->options.disk, &ops[0]);
}

/* ---- operations, waited for ---- */

#define UNANSWERED 65536u /* runs of a disk without an answer: it has gone */

struct waiting {
    unsigned left;
    int result;
};

static void on_waited(struct lh_disk_op *op)
{
    struct waiting *waiting = op->arg;
    if (op->result != 0 && op->result != -ECANCELED && waiting->result == 0)
        waiting->result = op->result;
    waiting->left--;
}

int lh__wal_run(struct lh_disk *disk, struct lh_disk_op *chain)
{
    struct waiting waiting = {0};
    for (struct lh_disk_op *op = chain; op != NULL; op = op->next) {
        op->done = on_waited;
        op->arg = &waiting;
        waiting.left++;
    }
    lh_disk_submit(disk, chain);
    for (unsigned silent = 0; waiting.left > 0 && silent < UNANSWERED; silent++)
        if (lh_disk_run(disk, true))
            silent = 0;
    return waiting.left > 0 ? -EIO : waiting.result;
}
