/* Reading segments: a window on one file, records out of it, the search behind a bad one, and the
 * second pass. Runs on the thread that owns the disk; reading blocks.
 *
 * No byte is believed before its checksum is right: a record's length is used only to find the
 * bytes that the checksum covers, and only when they are inside the file. */
#include "store/wal_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (1u << 20) /* records of large batches fit: none is read twice */

int lh__wal_reader_open(struct lh__wal_reader *reader, const char *path)
{
    int result;
    assert(reader->file < 0);
    /* Exact: blocks that were allocated and never written would, once read ahead, be told as data
     * from then on, and each piece of them that is read makes the next. */
    result = lh_disk_open(reader->disk, path, LH_DISK_OPEN_READ_EXACT, &reader->file);
    if (result != 0) {
        reader->file = -1;
        return result;
    }
    reader->window_len = 0;
    result = lh_disk_size(reader->disk, reader->file, &reader->bytes);
    if (result != 0)
        lh__wal_reader_close(reader);
    return result;
}

void lh__wal_reader_close(struct lh__wal_reader *reader)
{
    if (reader->file >= 0)
        lh_disk_close(reader->disk, reader->file);
    reader->file = -1;
}

void lh__wal_reader_deinit(struct lh__wal_reader *reader)
{
    lh__wal_reader_close(reader);
    free(reader->window);
    reader->window = NULL;
    reader->window_cap = reader->window_len = 0;
}

static bool is_in_window(const struct lh__wal_reader *reader, uint64_t offset, size_t len)
{
    return offset >= reader->window_at && offset - reader->window_at <= reader->window_len &&
           len <= reader->window_len - (offset - reader->window_at);
}

int lh__wal_reader_at(struct lh__wal_reader *reader, uint64_t offset, size_t len,
                      const void **bytes)
{
    size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
    size_t got = 0;
    int result;
    assert(offset <= reader->bytes && len <= reader->bytes - offset);
    if (is_in_window(reader, offset, len)) {
        *bytes = reader->window + (offset - reader->window_at);
        return 0;
    }
    if (want > reader->window_cap) {
        char *grown = malloc(want);
        if (grown == NULL)
            return -ENOMEM;
        free(reader->window);
        reader->window = grown;
        reader->window_cap = want;
    }
    reader->window_len = 0;
    result = lh_disk_read(reader->disk, reader->file, reader->window, want, offset, &got);
    if (result != 0 || got < len)
        return result != 0 ? result : -EIO;
    reader->window_at = offset;
    reader->window_len = got;
    *bytes = reader->window;
    return 0;
}

int lh__wal_reader_record(struct lh__wal_reader *reader, uint64_t offset,
                          struct lh__wal_record *record, const void **payload, bool *is_good)
{
    const char *bytes;
    size_t size;
    int result;
    *record = (struct lh__wal_record){0};
    *is_good = false;
    if (offset > reader->bytes || reader->bytes - offset < sizeof *record)
        return 0;
    result = lh__wal_reader_at(reader, offset, sizeof *record, (const void **)&bytes);
    if (result != 0)
        return result;
    memcpy(record, bytes, sizeof *record);
    size = lh__wal_record_size(record->length);
    if (record->length < LH_RECORD_BYTES_MIN || record->length > LH_RECORD_BYTES_MAX ||
        size > reader->bytes - offset)
        return 0;
    result = lh__wal_reader_at(reader, offset, size, (const void **)&bytes);
    if (result != 0)
        return result;
    *payload = bytes + sizeof *record;
    *is_good = reader->crc->extend(reader->segment_crc, bytes + sizeof record->crc,
                                   size - sizeof record->crc) == record->crc;
    return 0;
}

/* Whether a record could begin at `offset` with these bytes: cheap, and false for nearly all. */
static bool is_plausible(const struct lh__wal_reader *reader, uint64_t offset,
                         const struct lh__wal_record *record, uint64_t lsn_least)
{
    uint64_t synced = (uint64_t)record->synced * LH__WAL_SYNCED_UNIT;
    return record->length >= LH_RECORD_BYTES_MIN && record->length <= LH_RECORD_BYTES_MAX &&
           lh__wal_record_size(record->length) <= reader->bytes - offset &&
           record->lsn >= lsn_least && synced >= LH__WAL_HEADER_BYTES && synced <= offset;
}

static bool is_zero(const char *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* The file system knows what of a segment was allocated ahead and never written; it may take blocks
 * of zeros for written, and those are read. It is asked before it is made to read. */
int lh__wal_reader_skip_zeros(struct lh__wal_reader *reader, uint64_t *offset)
{
    while (*offset % LH__WAL_ZEROS_BYTES == 0 && *offset + LH__WAL_ZEROS_BYTES <= reader->bytes) {
        const void *bytes;
        uint64_t data = *offset;
        int result = 0;
        if (!is_in_window(reader, *offset, LH__WAL_ZEROS_BYTES))
            result = lh_disk_data(reader->disk, reader->file, *offset, &data);
        data = data < reader->bytes ? data : reader->bytes;
        if (result == 0 && data - *offset >= LH__WAL_ZEROS_BYTES) {
            *offset = data / LH__WAL_ZEROS_BYTES * LH__WAL_ZEROS_BYTES;
            continue;
        }
        if (result == 0)
            result = lh__wal_reader_at(reader, *offset, LH__WAL_ZEROS_BYTES, &bytes);
        if (result != 0)
            return result;
        if (!is_zero(bytes, LH__WAL_ZEROS_BYTES))
            return 0;
        *offset += LH__WAL_ZEROS_BYTES;
    }
    return 0;
}

int lh__wal_reader_scan(struct lh__wal_reader *reader, uint64_t bad_offset, uint64_t lsn_least,
                        struct lh__wal_behind *behind)
{
    uint64_t spent = 0;
    uint64_t offset = bad_offset + 8;
    *behind = (struct lh__wal_behind){0};
    while (offset + sizeof(struct lh__wal_record) <= reader->bytes) {
        struct lh__wal_record record;
        const void *bytes;
        bool is_good = false;
        /* No record begins in zeros, for its length is in its first 8 bytes. */
        int result = lh__wal_reader_skip_zeros(reader, &offset);
        if (result != 0)
            return result;
        if (offset + sizeof record > reader->bytes)
            return 0;
        result = lh__wal_reader_at(reader, offset, sizeof record, &bytes);
        if (result != 0)
            return result;
        memcpy(&record, bytes, sizeof record);
        if (is_plausible(reader, offset, &record, lsn_least)) {
            result = lh__wal_reader_record(reader, offset, &record, &bytes, &is_good);
            if (result != 0)
                return result;
            spent += lh__wal_record_size(record.length);
        }
        if (is_good)
            behind->end = offset + lh__wal_record_size(record.length);
        /* Bytes made to look like records cannot make this search long; what was not searched is
         * put aside and not cut, which loses nothing. */
        if ((is_good && (uint64_t)record.synced * LH__WAL_SYNCED_UNIT > bad_offset) ||
            spent > LH_WAL_SCAN_BYTES_MAX) {
            behind->is_corruption = true;
            return 0;
        }
        offset = is_good ? behind->end : offset + 8;
    }
    return 0;
}

/* ---- the second pass ---- */

/* Opens the segment that has the record behind replay_lsn. */
static enum lh_status open_replay(struct lh_wal *wal, uint64_t after, struct lh_error *error)
{
    struct lh__wal_segment *segment = wal->segments;
    struct lh__wal_header header;
    char path[LH__WAL_PATH_BYTES];
    const void *block;
    enum lh_status status;
    int result;
    while (segment != NULL && (segment->first_lsn == 0 || segment->last_lsn <= after ||
                               segment->first_lsn > wal->replay_last))
        segment = segment->next;
    if (segment == NULL)
        return LH_NOT_FOUND;
    lh__wal_path(segment->sequence, LH__WAL_SEGMENT_SUFFIX, path);
    result = lh__wal_reader_open(&wal->replay, path);
    if (result == 0 && wal->replay.bytes < segment->end)
        result = -EIO;
    if (result == 0)
        result = lh__wal_reader_at(&wal->replay, 0, LH__WAL_HEADER_BYTES, &block);
    if (result != 0)
        return lh_error_sys(error, LH_IO, -result, "%s", path);
    status = lh__wal_header_decode(wal->crc, block, &header, error);
    if (status != LH_OK)
        return status;
    wal->replay.segment_crc = lh__wal_segment_crc(wal->crc, header.seed);
    wal->replay_segment = segment;
    wal->replay_offset = LH__WAL_HEADER_BYTES;
    wal->replay_lsn = segment->first_lsn - 1;
    return LH_OK;
}

/* The next record of the open segment, undecoded. */
static enum lh_status next_replay(struct lh_wal *wal, struct lh__wal_record *head,
                                  const void **payload, struct lh_error *error)
{
    bool is_good;
    int result = lh__wal_reader_record(&wal->replay, wal->replay_offset, head, payload, &is_good);
    if (result == 0 && is_good && head->lsn == wal->replay_lsn + 1) {
        wal->replay_offset += lh__wal_record_size(head->length);
        wal->replay_lsn = head->lsn;
        return LH_OK;
    }
    if (result != 0)
        return lh_error_sys(error, LH_IO, -result, LH__WAL_FOLDER "/%016llx.log",
                            (unsigned long long)wal->replay_segment->sequence);
    return lh_error_set(
        error, LH_CORRUPT, LH__WAL_FOLDER "/%016llx.log: byte %llu: the record has changed",
        (unsigned long long)wal->replay_segment->sequence, (unsigned long long)wal->replay_offset);
}

enum lh_status lh_wal_replay(struct lh_wal *wal, uint64_t after, struct lh_record *record,
                             struct lh_error *error)
{
    struct lh__wal_record head;
    const void *payload;
    enum lh_status status;
    after = after > wal->replay_lsn ? after : wal->replay_lsn;
    for (;;) {
        if (after >= wal->replay_last)
            return LH_NOT_FOUND;
        if (wal->replay_segment != NULL && wal->replay_lsn >= wal->replay_segment->last_lsn) {
            lh__wal_reader_close(&wal->replay);
            wal->replay_segment = NULL;
        }
        if (wal->replay_segment == NULL) {
            status = open_replay(wal, after, error);
            if (status != LH_OK)
                return status;
        }
        status = next_replay(wal, &head, &payload, error);
        if (status != LH_OK)
            return status;
        if (head.lsn <= after)
            continue;
        status = lh_record_decode(payload, head.length, record, error);
        if (status == LH_OK)
            record->lsn = head.lsn;
        return status;
    }
}
