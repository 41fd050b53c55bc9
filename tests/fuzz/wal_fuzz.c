/* Two segments of any bytes: the log opens or says why not, tells records in order, replays as many
 * as it told, and a second start finds the same without putting anything aside again.
 *
 * Input: a byte of flags, a byte that says where the second segment begins, 16 bytes for the
 * headers, and the records. With CHECKSUMS the checksums are made right, so that what lies behind
 * them is reached; with HEADERS the headers are good. */
#include "sim/disk_sim.h"
#include "store/wal_internal.h"

#include <stdlib.h>

#define CHECKSUMS 1
#define HEADERS   2
#define HEAD      18u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct told {
    uint64_t records;
    uint64_t last_lsn;
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t clock_of_fuzz(void)
{
    return 1;
}

static void on_record(const struct lh_wal_found *found, void *arg)
{
    struct told *told = arg;
    check(told->records == 0 || found->lsn > told->last_lsn);
    check(found->bytes >= LH_RECORD_BYTES_MIN && found->uuid != NULL);
    told->records++;
    told->last_lsn = found->lsn;
}

static void make_checksums_right(const struct lh_crc32c *crc, uint32_t segment_crc, char *bytes,
                                 size_t len)
{
    uint32_t chain = segment_crc;
    for (size_t at = 0; len - at >= sizeof(struct lh__wal_record);) {
        struct lh__wal_record record;
        size_t record_size;
        memcpy(&record, bytes + at, sizeof record);
        record_size = lh__wal_record_size(record.length);
        if (record_size > len - at)
            return;
        record.chain = chain;
        memcpy(bytes + at, &record, sizeof record);
        chain = crc->extend(segment_crc, bytes + at + 4, record_size - 4);
        memcpy(bytes + at, &chain, sizeof chain);
        at += record_size;
    }
}

static void put_segment(struct lh_disk *disk, uint64_t sequence, const uint8_t *data,
                        const uint8_t *records, size_t len)
{
    const struct lh_crc32c *crc = lh_crc32c_best();
    struct lh__wal_header header = {.sequence = sequence, .seed = 99 + sequence};
    char path[LH__WAL_PATH_BYTES];
    char *bytes = malloc(LH__WAL_HEADER_BYTES + len);
    struct lh_disk_op write = {.kind = LH_DISK_WRITE, .len = LH__WAL_HEADER_BYTES + len};
    check(bytes != NULL);
    if (sequence == 2)
        memcpy(&header.resumes_lsn, data + 2, 16);
    lh__wal_header_encode(crc, &header, bytes);
    if ((data[0] & HEADERS) == 0)
        memcpy(bytes, data, HEAD);
    if (len > 0)
        memcpy(bytes + LH__WAL_HEADER_BYTES, records, len);
    if (data[0] & CHECKSUMS)
        make_checksums_right(crc, lh__wal_segment_crc(crc, header.seed),
                             bytes + LH__WAL_HEADER_BYTES, len);
    lh__wal_path(sequence, LH__WAL_SEGMENT_SUFFIX, path);
    check(lh_disk_open(disk, path, LH_DISK_OPEN_NEW, &write.file) == 0);
    write.bytes = bytes;
    check(lh__wal_run(disk, &write) == 0);
    lh_disk_close(disk, write.file);
    free(bytes);
}

/* What a start tells. */
static bool open_log(struct lh_disk *disk, struct told *told, struct lh_wal_summary *summary)
{
    const struct lh_log silent = {.fd = -1, .level = {LH_LOG_ERROR}};
    struct lh_wal_options options = {.disk = disk,
                                     .log = &silent,
                                     .segment_bytes = 16384,
                                     .interval_ms = 50,
                                     .clock_ns = clock_of_fuzz,
                                     .seed = 1};
    uint64_t replayed = 0;
    struct lh_record record;
    struct lh_error error;
    struct lh_wal *wal;
    enum lh_status status;
    *told = (struct told){0};
    status = lh_wal_open(&options, on_record, told, &wal, summary, &error);
    check(status == LH_OK || status == LH_NOT_IMPLEMENTED);
    if (status != LH_OK)
        return false;
    check(told->records == summary->records && told->last_lsn == summary->last_lsn);
    while ((status = lh_wal_replay(wal, 0, &record, &error)) == LH_OK) {
        lh_record_deinit(&record);
        replayed++;
    }
    check(status == LH_CORRUPT || (status == LH_NOT_FOUND && replayed == told->records));
    lh_wal_close(wal);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lh_wal_summary summary;
    struct lh_sim_disk *sim;
    struct lh_disk *disk;
    struct told first, second;
    size_t cut;
    if (size < HEAD)
        return 0;
    sim = lh_sim_disk_create(1);
    disk = lh_sim_disk_disk(sim);
    check(lh_disk_make_folder(disk, LH__WAL_FOLDER) == 0);
    cut = (size - HEAD) * data[1] / 255;
    put_segment(disk, 1, data, data + HEAD, cut);
    put_segment(disk, 2, data, data + HEAD + cut, size - HEAD - cut);
    if (open_log(disk, &first, &summary)) {
        check(open_log(disk, &second, &summary));
        check(second.records == first.records && second.last_lsn == first.last_lsn);
        check(summary.quarantined == 0);
    }
    lh_disk_destroy(disk);
    return 0;
}
