/* The first pass over the log at start-up: which segments there are, what of them counts, where
 * the log ends, and what is put aside. Runs on the thread that owns the disk; blocks.
 *
 * The end of the log is the first record that is not good, in the last segment that has any. Was it
 * torn by a crash, or has a record that was safe been damaged? Each record says how far its file
 * had been synced when it was written: a good record behind the bad one that says "beyond it" makes
 * it damage. (A. Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST
 * 2018, section 3.3: telling corruption from crashes needs such a second witness.)
 *
 * What is put aside keeps its bytes under another name; every step of that can be cut by a crash
 * and is done again by the next start with the same outcome. */
#include "store/wal_internal.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_BYTES 32u
#define COPY_BYTES (64u << 10)

struct segment {
    uint64_t sequence;
    uint64_t bytes;
    uint64_t seed;
    uint64_t first_lsn; /* of its first record; 0: it has none that is good */
    uint64_t base_lsn;  /* the record that the first one follows */
    uint64_t last_lsn;  /* that counts; 0: none */
    uint64_t end;       /* of that */
    uint64_t synced;    /* offset up to which it surely was */
};

struct recovery {
    struct lh_wal *wal;
    struct lh_disk *disk;
    struct lh__wal_reader reader;
    struct segment *segments; /* by sequence */
    size_t count;
    size_t room;
    char (*temps)[NAME_BYTES]; /* names of unfinished files */
    size_t temp_count;
    bool is_out_of_memory;

    void (*each)(const struct lh_wal_found *found, void *arg);
    void *arg;
    struct lh_wal_summary *summary;
    struct lh_error *error;

    bool is_corrupt;
    size_t bad; /* segment and offset from which all is put aside; 0: with its header */
    uint64_t bad_offset;
};

/* ---- operations, waited for ---- */

static int run_one(struct lh_disk *disk, struct lh_disk_op op)
{
    return lh__wal_run(disk, &op);
}

/* Renames, or without `to` unlinks, and syncs the folder: one change of names at a time. */
static int change_name(struct lh_disk *disk, const char *path, const char *to)
{
    struct lh_disk_op sync = {.kind = LH_DISK_SYNC_FOLDER, .path = LH__WAL_FOLDER};
    struct lh_disk_op change = {.kind = to != NULL ? LH_DISK_RENAME : LH_DISK_UNLINK,
                                .path = path,
                                .to = to,
                                .next = &sync};
    return lh__wal_run(disk, &change);
}

static enum lh_status failed(struct recovery *r, int result, const char *path)
{
    return result == -ENOMEM ? lh_error_set(r->error, LH_OUT_OF_MEMORY, "no memory for the log")
                             : lh_error_sys(r->error, LH_IO, -result, "the log: %s", path);
}

/* ---- which segments there are ---- */

static void *grown(struct recovery *r, void *array, size_t count, size_t size)
{
    void *more = realloc(array, (count + 1) * size);
    if (more == NULL)
        r->is_out_of_memory = true;
    return more;
}

static void on_name(const char *name, uint64_t bytes, void *arg)
{
    struct recovery *r = arg;
    size_t len = strlen(name);
    unsigned long long sequence;
    char *end;
    if (r->is_out_of_memory || len != LH__WAL_NAME_DIGITS + 4)
        return;
    if (strcmp(name + LH__WAL_NAME_DIGITS, ".tmp") == 0) {
        void *more = grown(r, r->temps, r->temp_count, sizeof *r->temps);
        if (more != NULL) {
            r->temps = more;
            memcpy(r->temps[r->temp_count++], name, len + 1);
        }
        return;
    }
    if (strcmp(name + LH__WAL_NAME_DIGITS, LH__WAL_SEGMENT_SUFFIX) != 0 ||
        strspn(name, "0123456789abcdef") != LH__WAL_NAME_DIGITS)
        return;
    sequence = strtoull(name, &end, 16);
    if (r->count == r->room) {
        void *more = grown(r, r->segments, r->count, sizeof *r->segments);
        if (more == NULL)
            return;
        r->segments = more;
        r->room++;
    }
    r->segments[r->count++] = (struct segment){.sequence = sequence, .bytes = bytes};
}

static int by_sequence(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static enum lh_status list(struct recovery *r)
{
    struct lh_disk_op sync = {.kind = LH_DISK_SYNC_FOLDER, .path = "."};
    int result = lh_disk_make_folder(r->disk, LH__WAL_FOLDER);
    if (result == 0)
        result = lh__wal_run(r->disk, &sync);
    if (result == 0)
        result = lh_disk_list(r->disk, LH__WAL_FOLDER, on_name, r);
    if (result == 0 && r->is_out_of_memory)
        result = -ENOMEM;
    if (result != 0)
        return failed(r, result, LH__WAL_FOLDER);
    if (r->count > 0)
        qsort(r->segments, r->count, sizeof *r->segments, by_sequence);
    return LH_OK;
}

static void corrupt(struct recovery *r, size_t segment, uint64_t offset, const char *reason)
{
    char path[LH__WAL_PATH_BYTES];
    lh__wal_path(r->segments[segment].sequence, LH__WAL_SEGMENT_SUFFIX, path);
    r->is_corrupt = true;
    r->bad = segment;
    r->bad_offset = offset;
    snprintf(r->summary->reason, sizeof r->summary->reason, "%s, byte %" PRIu64 ": %.80s", path,
             offset, reason);
}

/* Whether a file has nothing but zeros: its blocks were given and nothing was written. */
static int is_blank(struct recovery *r, bool *blank)
{
    const char *bytes;
    uint64_t at = 0;
    int result = lh__wal_reader_skip_zeros(&r->reader, &at);
    uint64_t left = r->reader.bytes - at;
    *blank = result == 0 && left < LH__WAL_ZEROS_BYTES;
    if (!*blank || left == 0)
        return result;
    result = lh__wal_reader_at(&r->reader, at, (size_t)left, (const void **)&bytes);
    *blank = result == 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, (size_t)left - 1) == 0;
    return result;
}

/* Reads the header and the first record of an open segment. */
static enum lh_status read_head(struct recovery *r, size_t i, const char *path)
{
    struct segment *segment = &r->segments[i];
    struct lh__wal_header header = {0};
    struct lh__wal_record record;
    struct lh_error why;
    const void *bytes;
    bool blank, is_good;
    enum lh_status status = LH_CORRUPT;
    int result = is_blank(r, &blank);
    if (result != 0)
        return failed(r, result, path);
    if (blank)
        return LH_OK;
    lh_error_set(&why, LH_CORRUPT, "the file is shorter than a header");
    if (r->reader.bytes >= LH__WAL_HEADER_BYTES) {
        result = lh__wal_reader_at(&r->reader, 0, LH__WAL_HEADER_BYTES, &bytes);
        if (result != 0)
            return failed(r, result, path);
        status = lh__wal_header_decode(r->wal->crc, bytes, &header, &why);
    }
    if (status == LH_NOT_IMPLEMENTED)
        return lh_error_set(r->error, status, "%s: %s", path, why.text);
    if (status == LH_OK && header.sequence != segment->sequence)
        status =
            lh_error_set(&why, LH_CORRUPT, "the header is of segment %" PRIx64, header.sequence);
    if (status != LH_OK) {
        corrupt(r, i, 0, why.text);
        return LH_OK;
    }
    segment->seed = header.seed;
    r->reader.segment_crc = lh__wal_segment_crc(r->wal->crc, header.seed);
    result = lh__wal_reader_record(&r->reader, LH__WAL_HEADER_BYTES, &record, &bytes, &is_good);
    if (result != 0)
        return failed(r, result, path);
    if (!is_good || record.chain != r->reader.segment_crc || record.lsn == 0)
        return LH_OK;
    segment->first_lsn = record.lsn;
    segment->base_lsn = header.resumes_lsn == record.lsn && header.after_lsn < record.lsn
                            ? header.after_lsn
                            : record.lsn - 1;
    return LH_OK;
}

/* Opens segment `i` for reading; its header is good, or not yet read. */
static enum lh_status open_segment(struct recovery *r, size_t i, char path[LH__WAL_PATH_BYTES])
{
    int result;
    lh__wal_reader_close(&r->reader);
    lh__wal_path(r->segments[i].sequence, LH__WAL_SEGMENT_SUFFIX, path);
    result = lh__wal_reader_open(&r->reader, path);
    if (result != 0)
        return failed(r, result, path);
    r->segments[i].bytes = r->reader.bytes;
    r->reader.segment_crc = lh__wal_segment_crc(r->wal->crc, r->segments[i].seed);
    return LH_OK;
}

static enum lh_status read_heads(struct recovery *r)
{
    char path[LH__WAL_PATH_BYTES];
    for (size_t i = 0; i < r->count && !r->is_corrupt; i++) {
        enum lh_status status;
        if (i > 0 && r->segments[i].sequence != r->segments[i - 1].sequence + 1) {
            corrupt(r, i, 0, "the segment before it is missing");
            return LH_OK;
        }
        status = open_segment(r, i, path);
        if (status == LH_OK)
            status = read_head(r, i, path);
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

/* ---- what of them counts ---- */

/* The last record before the first of any later segment: from there on, those are right. */
static uint64_t limit_of(const struct recovery *r, size_t i)
{
    uint64_t limit = UINT64_MAX;
    size_t count = r->is_corrupt ? r->bad : r->count;
    for (size_t later = i + 1; later < count; later++)
        if (r->segments[later].first_lsn != 0 && r->segments[later].base_lsn < limit)
            limit = r->segments[later].base_lsn;
    return limit;
}

static void tell(struct recovery *r, const struct lh__wal_record *record, const uint8_t *payload)
{
    struct lh_wal_found found = {
        .lsn = record->lsn, .type = payload[0], .uuid = payload + 8, .bytes = record->length};
    if (r->summary->first_lsn == 0)
        r->summary->first_lsn = record->lsn;
    r->summary->last_lsn = record->lsn;
    r->summary->records++;
    r->summary->bytes += record->length;
    if (r->each != NULL)
        r->each(&found, r->arg);
}

/* The bad record at `offset` is the log's end: torn, or damage. */
static enum lh_status judge_end(struct recovery *r, size_t i, uint64_t offset,
                                const struct lh__wal_record *bad, const char *path)
{
    struct lh__wal_behind behind;
    uint64_t expected = r->summary->last_lsn + 1;
    uint64_t least = r->segments[i].first_lsn != 0 ? expected : 1;
    uint64_t end = 0;
    int result = lh__wal_reader_scan(&r->reader, offset, least, &behind);
    if (result != 0)
        return failed(r, result, path);
    if (behind.is_corruption) {
        corrupt(r, i, offset, "a bad record with good ones behind it");
        return LH_OK;
    }
    if (bad->lsn == expected && bad->length >= LH_RECORD_BYTES_MIN)
        end = offset + lh__wal_record_size(bad->length);
    end = end < r->reader.bytes ? end : r->reader.bytes;
    end = end > behind.end ? end : behind.end;
    if (end <= offset)
        return LH_OK; /* nothing of the log stands here */
    r->summary->torn_bytes += end - offset;
    lh_log_line(r->wal->options.log, LH_LOG_WARN, "torn end of the log cut",
                LH_LOG_TEXT("file", path), LH_LOG_U64("offset", offset),
                LH_LOG_U64("bytes", end - offset), LH_LOG_U64("last_lsn", expected - 1));
    return LH_OK;
}

/* Tells the records of segment `i` that count. */
static enum lh_status walk(struct recovery *r, size_t i)
{
    struct segment *segment = &r->segments[i];
    uint64_t limit = limit_of(r, i);
    uint64_t offset = LH__WAL_HEADER_BYTES;
    uint64_t lsn = segment->first_lsn;
    struct lh__wal_record record;
    char path[LH__WAL_PATH_BYTES];
    uint32_t chain;
    enum lh_status status = open_segment(r, i, path);
    if (status != LH_OK)
        return status;
    chain = r->reader.segment_crc;
    for (; lsn <= limit; lsn++) {
        const uint8_t *payload;
        bool is_good;
        int result =
            lh__wal_reader_record(&r->reader, offset, &record, (const void **)&payload, &is_good);
        if (result != 0)
            return failed(r, result, path);
        if (!is_good || record.lsn != lsn || record.chain != chain)
            break;
        if (payload[0] < LH_RECORD_CREATE || payload[0] > LH_RECORD_RESHARD) {
            corrupt(r, i, offset, "a record of a type that is not known to this server");
            return LH_OK;
        }
        tell(r, &record, payload);
        chain = record.crc;
        offset += lh__wal_record_size(record.length);
        segment->last_lsn = lsn;
        segment->end = offset;
        segment->synced = (uint64_t)record.synced * LH__WAL_SYNCED_UNIT;
    }
    if (lsn > limit)
        return LH_OK;
    if (limit != UINT64_MAX) {
        corrupt(r, i, offset, "a bad record that is not the last");
        return LH_OK;
    }
    return judge_end(r, i, offset, &record, path);
}

/* A segment behind the last record: whether it had any. */
static enum lh_status check_empty(struct recovery *r, size_t i)
{
    struct lh__wal_record record;
    char path[LH__WAL_PATH_BYTES];
    const void *payload;
    bool is_good;
    int result;
    enum lh_status status = open_segment(r, i, path);
    if (status != LH_OK)
        return status;
    result = lh__wal_reader_record(&r->reader, LH__WAL_HEADER_BYTES, &record, &payload, &is_good);
    if (result != 0)
        return failed(r, result, path);
    return judge_end(r, i, LH__WAL_HEADER_BYTES, &record, path);
}

static enum lh_status walk_all(struct recovery *r)
{
    size_t last = r->count; /* that has records */
    for (size_t i = 0; i < r->count; i++)
        if (r->segments[i].first_lsn != 0)
            last = i;
    for (size_t i = 0; i < (r->is_corrupt ? r->bad : r->count); i++) {
        const struct segment *segment = &r->segments[i];
        enum lh_status status = LH_OK;
        if (segment->first_lsn == 0) {
            if (last != r->count && i < last)
                corrupt(r, i, LH__WAL_HEADER_BYTES, "a bad record that is not the last");
            else
                status = check_empty(r, i);
        } else if (segment->first_lsn <= limit_of(r, i)) {
            if (r->summary->last_lsn != 0 && segment->base_lsn != r->summary->last_lsn)
                corrupt(r, i, 0, "records before it are missing");
            else
                status = walk(r, i);
        }
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

/* ---- putting aside ---- */

/* Bytes of the open segment to the same place in `file`. */
static int write_part(struct recovery *r, int file, uint64_t at, size_t len)
{
    const void *bytes;
    int result = lh__wal_reader_at(&r->reader, at, len, &bytes);
    if (result != 0)
        return result;
    return run_one(
        r->disk,
        (struct lh_disk_op){
            .kind = LH_DISK_WRITE, .file = file, .bytes = bytes, .len = len, .offset = at});
}

/* Copies the first `len` bytes of the open segment to `to`, whole or not at all. */
static int copy(struct recovery *r, uint64_t len, const char *to)
{
    char temp[LH__WAL_PATH_BYTES];
    uint64_t at = 0;
    int file;
    int result;
    lh__wal_path(0, ".tmp", temp);
    result = lh_disk_open(r->disk, temp, LH_DISK_OPEN_NEW, &file);
    if (result != 0)
        return result;
    while (result == 0 && at < len) {
        size_t part = len - at < COPY_BYTES ? (size_t)(len - at) : COPY_BYTES;
        result = write_part(r, file, at, part);
        at += part;
    }
    if (result == 0)
        result = run_one(r->disk, (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = file});
    lh_disk_close(r->disk, file);
    return result == 0 ? change_name(r->disk, temp, to) : result;
}

/* The last segment before the bad one ends where its records that count end: the bad one may have
 * superseded what is behind them, and will not be there to say so. */
static int cut_before(struct recovery *r, char path[LH__WAL_PATH_BYTES])
{
    size_t i = r->bad;
    int result;
    while (i > 0 && r->segments[i - 1].last_lsn == 0)
        i--;
    if (i-- == 0)
        return 0;
    lh__wal_reader_close(&r->reader);
    lh__wal_path(r->segments[i].sequence, LH__WAL_SEGMENT_SUFFIX, path);
    result = lh__wal_reader_open(&r->reader, path);
    r->segments[i].bytes = r->segments[i].end;
    return result == 0 ? copy(r, r->segments[i].end, path) : result;
}

/* All from the bad record on, the last segment first: so what is left to do is always at the end
 * of the log, where the next start finds it. */
static enum lh_status quarantine(struct recovery *r)
{
    char path[LH__WAL_PATH_BYTES], to[LH__WAL_PATH_BYTES], suffix[48];
    bool is_part = r->bad_offset > LH__WAL_HEADER_BYTES;
    enum lh_status status = LH_OK;
    int result = 0;
    if (!r->is_corrupt)
        return LH_OK;
    snprintf(suffix, sizeof suffix, LH__WAL_SEGMENT_SUFFIX ".corrupt-%" PRIu64,
             lh_clock_wall_ms() / 1000);
    if (!is_part)
        result = cut_before(r, path);
    for (size_t i = r->count; i-- > r->bad + (is_part ? 1 : 0) && result == 0;) {
        lh__wal_path(r->segments[i].sequence, LH__WAL_SEGMENT_SUFFIX, path);
        lh__wal_path(r->segments[i].sequence, suffix, to);
        result = change_name(r->disk, path, to);
    }
    if (result == 0 && is_part) {
        status = open_segment(r, r->bad, path);
        if (status != LH_OK)
            return status;
        lh__wal_path(r->segments[r->bad].sequence, suffix, to);
        result = copy(r, r->reader.bytes, to);
        if (result == 0)
            result = copy(r, r->bad_offset, path);
        r->segments[r->bad].bytes = r->bad_offset;
    }
    if (result != 0)
        return failed(r, result, path);
    r->summary->quarantined = (uint32_t)(r->count - r->bad);
    r->count = r->bad + (is_part ? 1 : 0);
    lh_log_line(r->wal->options.log, LH_LOG_ERROR, "corrupt log put aside",
                LH_LOG_TEXT("reason", r->summary->reason),
                LH_LOG_U64("segments", r->summary->quarantined),
                LH_LOG_U64("last_lsn", r->summary->last_lsn));
    return LH_OK;
}

/* Unfinished files, and segments behind the last record, the last first. */
static enum lh_status tidy(struct recovery *r)
{
    char path[LH__WAL_PATH_BYTES];
    int result = 0;
    for (size_t i = 0; i < r->temp_count && result == 0; i++) {
        snprintf(path, sizeof path, LH__WAL_FOLDER "/%s", r->temps[i]);
        result = run_one(r->disk, (struct lh_disk_op){.kind = LH_DISK_UNLINK, .path = path});
    }
    while (result == 0 && r->count > 0 && r->segments[r->count - 1].last_lsn == 0) {
        lh__wal_path(r->segments[--r->count].sequence, LH__WAL_SEGMENT_SUFFIX, path);
        result = change_name(r->disk, path, NULL);
    }
    return result == 0 ? LH_OK : failed(r, result, path);
}

/* Writes a part of the open segment again, where it is, and syncs it. */
static int write_again(struct recovery *r, const char *path, uint64_t at, uint64_t end)
{
    int file;
    int result = lh_disk_open(r->disk, path, LH_DISK_OPEN_REUSE, &file);
    if (result != 0)
        return result;
    while (result == 0 && at < end) {
        size_t part = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
        result = write_part(r, file, at, part);
        at += part;
    }
    if (result == 0)
        result = run_one(r->disk, (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = file});
    lh_disk_close(r->disk, file);
    return result;
}

/* What was read behind the last sync may be in the page cache alone: when a process ended and the
 * machine did not, and for good when a sync had failed, after which Linux takes such pages for
 * clean. What is appended next relies on it, so it is written again: the same bytes to the same
 * place, which harms nothing that is there, and makes them dirty. */
static enum lh_status secure_end(struct recovery *r)
{
    char path[LH__WAL_PATH_BYTES] = LH__WAL_FOLDER;
    struct lh_disk_op folder = {.kind = LH_DISK_SYNC_FOLDER, .path = LH__WAL_FOLDER};
    int result = lh__wal_run(r->disk, &folder);
    if (result == 0 && r->count > 0) {
        const struct segment *last = &r->segments[r->count - 1];
        bool is_known = last->synced >= LH__WAL_HEADER_BYTES && last->synced <= last->end;
        enum lh_status status = open_segment(r, r->count - 1, path);
        if (status != LH_OK)
            return status;
        result = write_again(r, path, is_known ? last->synced : LH__WAL_HEADER_BYTES, last->end);
    }
    return result == 0 ? LH_OK : failed(r, result, path);
}

static enum lh_status keep(struct recovery *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct segment *from = &r->segments[i];
        struct lh__wal_segment *segment = calloc(1, sizeof *segment);
        if (segment == NULL)
            return failed(r, -ENOMEM, "");
        *segment = (struct lh__wal_segment){.sequence = from->sequence,
                                            .first_lsn = from->last_lsn ? from->first_lsn : 0,
                                            .last_lsn = from->last_lsn,
                                            .end = from->end,
                                            .bytes = from->bytes,
                                            .file = -1};
        lh__wal_segment_append(r->wal, segment);
        r->wal->next_sequence = from->sequence + 1;
    }
    return LH_OK;
}

enum lh_status lh__wal_recover(struct lh_wal *wal,
                               void (*each)(const struct lh_wal_found *found, void *arg), void *arg,
                               struct lh_wal_summary *summary, struct lh_error *error)
{
    struct recovery r = {.wal = wal,
                         .disk = wal->options.disk,
                         .reader = {.disk = wal->options.disk, .crc = wal->crc, .file = -1},
                         .each = each,
                         .arg = arg,
                         .summary = summary,
                         .error = error};
    enum lh_status (*const steps[])(struct recovery *) = {list, read_heads, walk_all, quarantine,
                                                          tidy, secure_end, keep};
    enum lh_status status = LH_OK;
    *summary = (struct lh_wal_summary){0};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && status == LH_OK; i++)
        status = steps[i](&r);
    lh__wal_reader_deinit(&r.reader);
    free(r.segments);
    free(r.temps);
    return status;
}
