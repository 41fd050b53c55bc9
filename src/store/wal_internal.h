/* The log's insides: segments, groups, and the reader. Private to this folder.
 *
 * One thread, the owner of the disk, runs all of it. */
#ifndef LH_STORE_WAL_INTERNAL_H
#define LH_STORE_WAL_INTERNAL_H

#include "store/crc32c.h"
#include "store/wal.h"

#define LH__WAL_FOLDER         "wal"
#define LH__WAL_HEADER_BYTES   4096u /* of a segment: whole pages and sectors */
#define LH__WAL_ZEROS_BYTES    4096u /* looked at at once for being nothing but zeros */
#define LH__WAL_PATH_BYTES     64u
#define LH__WAL_SYNCED_UNIT    8u /* of struct lh__wal_record.synced; records begin at multiples */
#define LH__WAL_NAME_DIGITS    16
#define LH__WAL_VERSION        1u
#define LH__WAL_SEGMENT_SUFFIX ".log"

/* ---- what is in a file ---- */

/* The head of a record, before its payload, as it is in the file. */
struct lh__wal_record {
    uint32_t crc;    /* from the segment's: of the bytes behind this one to the record's end */
    uint32_t length; /* of the payload; zeros pad it to 8 bytes */
    uint64_t lsn;
    uint32_t chain;  /* crc of the record before; of the first one, the segment's */
    uint32_t synced; /* the file was synced up to here, in units, when this was written */
};

/* What a segment's header block says. */
struct lh__wal_header {
    uint64_t sequence;
    uint64_t seed;
    /* When the first record has LSN `resumes_lsn`, it follows `after_lsn` and not the LSN before:
     * index files knew more than the log. 0: no such first record. */
    uint64_t resumes_lsn;
    uint64_t after_lsn;
};

static inline size_t lh__wal_record_size(size_t payload_bytes)
{
    return sizeof(struct lh__wal_record) + ((payload_bytes + 7) & ~(size_t)7);
}

/* "wal/<sequence>.log", or with another suffix. */
void lh__wal_path(uint64_t sequence, const char *suffix, char path[LH__WAL_PATH_BYTES]);

void lh__wal_header_encode(const struct lh_crc32c *crc, const struct lh__wal_header *header,
                           char block[LH__WAL_HEADER_BYTES]);
/* LH_CORRUPT, or LH_NOT_IMPLEMENTED with the version that is not known. */
LH_MUST_USE enum lh_status lh__wal_header_decode(const struct lh_crc32c *crc, const void *block,
                                                 struct lh__wal_header *header,
                                                 struct lh_error *error);
/* What a segment's record CRCs start from. */
uint32_t lh__wal_segment_crc(const struct lh_crc32c *crc, uint64_t seed);

/* ---- reading: wal_read.c ---- */

/* A window on one open segment. */
struct lh__wal_reader {
    struct lh_disk *disk;
    const struct lh_crc32c *crc;
    int file; /* -1: none is open */
    uint64_t bytes;
    uint32_t segment_crc;
    char *window;
    size_t window_cap;
    size_t window_len;
    uint64_t window_at;
};

/* These return 0 or -errno. */
LH_MUST_USE int lh__wal_reader_open(struct lh__wal_reader *reader, const char *path);
/* `len` bytes at `offset`, which are inside the file, until the next call. */
LH_MUST_USE int lh__wal_reader_at(struct lh__wal_reader *reader, uint64_t offset, size_t len,
                                  const void **bytes);
/* The record at `offset`: whether its checksum is right, and then its payload until the next
 * call. `record` is what stands there, right or not; zeros at the end of the file. */
LH_MUST_USE int lh__wal_reader_record(struct lh__wal_reader *reader, uint64_t offset,
                                      struct lh__wal_record *record, const void **payload,
                                      bool *is_good);
/* Moves `offset` on over whole blocks of zeros from a multiple of LH__WAL_ZEROS_BYTES. */
LH_MUST_USE int lh__wal_reader_skip_zeros(struct lh__wal_reader *reader, uint64_t *offset);
void lh__wal_reader_close(struct lh__wal_reader *reader); /* the file; the window stays */
void lh__wal_reader_deinit(struct lh__wal_reader *reader);

/* What stands behind a bad record. */
struct lh__wal_behind {
    uint64_t end;       /* of the last good record behind it; 0: there is none */
    bool is_corruption; /* one of them says that the bad record had been synced */
};
LH_MUST_USE int lh__wal_reader_scan(struct lh__wal_reader *reader, uint64_t bad_offset,
                                    uint64_t lsn_least, struct lh__wal_behind *behind);

/* ---- segments: wal_segment.c ---- */

/* One file. */
struct lh__wal_segment {
    uint64_t sequence;
    uint64_t first_lsn; /* 0: no record of it counts */
    uint64_t last_lsn;
    uint64_t end;   /* behind its last record */
    uint64_t bytes; /* of the file */
    struct lh__wal_segment *next;

    /* While records are appended. */
    int file;
    uint32_t crc;
    uint32_t chain;
    uint64_t synced; /* offset */
};

/* The segment behind the current one, made before it is needed. */
struct lh__wal_next {
    enum { LH__WAL_NEXT_NONE, LH__WAL_NEXT_PREPARING, LH__WAL_NEXT_READY } state;
    struct lh__wal_segment *segment;
    uint64_t again_ns; /* when it has failed: not ahead of need before this */
    bool is_needed;    /* a group waits for it */
    bool grows;        /* there is no room for all of it: its file grows with its records */
    int result;
    unsigned in_flight;
    struct lh_disk_op ops[6];
    char *block; /* the header */
    char from[LH__WAL_PATH_BYTES];
    char path[LH__WAL_PATH_BYTES];
    char temp[LH__WAL_PATH_BYTES];
};

/* Released segments on their way out, one at a time, oldest first: so a crash leaves no gap. */
struct lh__wal_removal {
    struct lh__wal_segment *segment; /* NULL: none is under way */
    bool is_spare;
    unsigned in_flight;
    int result;
    struct lh_disk_op ops[2];
    char path[LH__WAL_PATH_BYTES];
    char temp[LH__WAL_PATH_BYTES];
};

/* ---- groups: wal_group.c ---- */

/* Records that are written together. */
struct lh__wal_group {
    struct lh_buf bytes;
    uint64_t first_lsn;
    uint64_t last_lsn;
    bool wants_sync;
    struct lh__wal_group *next;
};

struct lh_wal {
    struct lh_wal_options options;
    const struct lh_crc32c *crc;
    uint64_t rng;
    struct lh_wal_metrics metrics;

    /* Entries that have not ended, in the order of their LSNs. */
    struct lh_wal_entry *first_entry;
    struct lh_wal_entry *last_entry;
    bool is_ending;   /* callbacks of entries run: further up the stack, ... */
    bool is_flushing; /* ... lh_wal_flush is */

    /* All records that are not synced, in LSN order: groups that are written, then `unwritten` and
     * those behind it; `gathering`, when there is one, is the last. */
    struct lh__wal_group *groups;
    struct lh__wal_group *last_group;
    struct lh__wal_group *unwritten;
    struct lh__wal_group *gathering;
    struct lh__wal_group *free_groups;
    unsigned free_count;
    uint64_t held_bytes;

    uint64_t last_lsn;    /* given to a record */
    uint64_t ended_lsn;   /* of the last entry that ended well */
    uint64_t written_lsn; /* to the current segment */
    uint64_t synced_lsn;
    uint64_t unsynced_since_ns;

    /* The chain under way: a group's write, a sync, or both. */
    unsigned in_flight;
    int result;
    struct lh_disk_op ops[3];
    struct lh__wal_group *writing;
    uint64_t syncing_lsn; /* 0: it has no sync */
    uint32_t sealed_from; /* the current segment's chain before the group */
    bool lacks_room;      /* the segment could not grow for the group, ... */
    bool was_tried;       /* ... nor the time before */
    uint64_t started_ns;

    /* Attempts that failed since the last that went well. The first is followed by one more at
     * once, on a fresh segment; after that, only one each LH_WAL_RETRY_MS. */
    unsigned failures;
    int sys_errno;
    uint64_t retry_ns;

    uint64_t sync_target; /* lh_wal_sync: up to here */
    void (*sync_done)(int result, void *arg);
    void *sync_arg;

    /* Oldest first; the last is the current one, when there is a current one. */
    struct lh__wal_segment *segments;
    struct lh__wal_segment *last_segment;
    struct lh__wal_segment *current;
    uint64_t next_sequence;
    uint64_t released_lsn;     /* records below it are not needed */
    struct lh__wal_header gap; /* of the next segments' headers, until one has a synced record */
    struct lh__wal_next next;
    struct lh__wal_removal removal;
    uint64_t spares[LH_WAL_SPARES_MAX]; /* sequences of "<sequence>.tmp" */
    unsigned spare_count;

    /* The second pass. */
    struct lh__wal_reader replay;
    struct lh__wal_segment *replay_segment;
    uint64_t replay_offset;
    uint64_t replay_lsn;  /* of the last record given */
    uint64_t replay_last; /* of the last that the first pass saw */
};

/* Takes an entry's record into the group that gathers and gives it its LSN. LH_LIMIT_EXCEEDED,
 * LH_OUT_OF_MEMORY: it has none. */
LH_MUST_USE enum lh_status lh__wal_gather(struct lh_wal *wal, struct lh_wal_entry *entry);
/* Fills in what depends on where the records go: the current segment, behind its last record. */
void lh__wal_group_seal(struct lh_wal *wal, struct lh__wal_group *group);
/* The groups whose last record is synced go. */
void lh__wal_groups_drop_synced(struct lh_wal *wal);
/* Keeps the records up to `lsn`, all of them to be written anew. */
void lh__wal_groups_keep(struct lh_wal *wal, uint64_t lsn);
void lh__wal_groups_deinit(struct lh_wal *wal);

/* Starts to make the next segment, or to make it again when it is ready under another sequence than
 * the next. The end of it, which may be at once when it fails, calls
 * lh__wal_prepared. */
void lh__wal_prepare(struct lh_wal *wal);
/* wal.c's: the next segment is ready, or `result` says why not. */
void lh__wal_prepared(struct lh_wal *wal, int result);
/* Makes the next segment, which is ready, the current one. */
void lh__wal_advance(struct lh_wal *wal);
/* Closes the current segment's file: for good when it is full, or because it cannot be trusted; of
 * its records, those above `synced_lsn` do not count then. */
void lh__wal_retire(struct lh_wal *wal);
/* Removes what was released, when nothing is being removed. */
void lh__wal_remove_released(struct lh_wal *wal);

/* Counts a failure and logs it at warn. `result` is -errno. */
void lh__wal_note_failure(struct lh_wal *wal, const char *event, uint64_t sequence, int result);

void lh__wal_segment_append(struct lh_wal *wal, struct lh__wal_segment *segment);

/* Runs a chain to its end: recovery only. 0, or the -errno of the first that failed. */
LH_MUST_USE int lh__wal_run(struct lh_disk *disk, struct lh_disk_op *chain);

/* The first pass: fills `segments`, LSNs and `next_sequence`. */
LH_MUST_USE enum lh_status
lh__wal_recover(struct lh_wal *wal, void (*each)(const struct lh_wal_found *found, void *arg),
                void *arg, struct lh_wal_summary *summary, struct lh_error *error);

#endif
