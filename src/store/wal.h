/* The write-ahead log: one for the server, in segments under "wal/". docs/FORMAT.md has the bytes
 * and the reader's algorithm.
 *
 * Group commit: while one group is being written and synced, later entries gather for the next; a
 * group is one write and at most one sync, whatever its size. Entries end in the order in which
 * they came, which is the order of their LSNs, so that whoever applies them as they end applies
 * them in LSN order.
 *
 * A disk that fails: what was not synced, all of which is still in memory, goes to a fresh segment.
 * If that fails too, entries fail and their LSNs are given to others later; interval and none
 * entries that had ended stay in memory and are written when the disk works again, which is tried
 * every LH_WAL_RETRY_MS while there is something to write. So LSNs never have a hole, in memory or
 * on disk. Runs on the thread that owns the disk. */
#ifndef LH_STORE_WAL_H
#define LH_STORE_WAL_H

#include "base/log.h"
#include "base/metrics.h"
#include "store/disk.h"
#include "store/record.h"

/* When an entry may end. */
enum lh_durability {
    LH_DURABILITY_COMMIT,   /* its bytes are synced */
    LH_DURABILITY_INTERVAL, /* written to the file; synced within the configured time */
    LH_DURABILITY_NONE      /* it is in order; a crash of the server may lose it */
};

/* One record on its way into the log, in its owner's memory until `done`. */
struct lh_wal_entry {
    struct lh_record *record; /* gets its `lsn`, which counts when `done` says LH_OK */
    enum lh_durability durability;
    /* LH_OK; LH_NO_SPACE or LH_DISK_FAILED; LH_LIMIT_EXCEEDED, LH_OUT_OF_MEMORY: but for LH_OK, its
     * change must not be made. */
    enum lh_status status;
    int sys_errno;
    void (*done)(struct lh_wal_entry *entry);
    void *arg;
    struct lh_wal_entry *next; /* the log's */
};

struct lh_wal_options {
    struct lh_disk *disk;
    const struct lh_log *log;
    uint64_t segment_bytes;     /* preallocated; a larger record gets a segment of its own size */
    uint64_t interval_ms;       /* LH_DURABILITY_INTERVAL: between syncs */
    uint64_t (*clock_ns)(void); /* monotonic; lh_clock_ns, or a test's */
    uint64_t seed;              /* of the segments' random seeds; 0: from the kernel */
};

struct lh_wal_metrics {
    struct lh_counter records;
    struct lh_counter bytes;  /* written */
    struct lh_counter groups; /* records / groups is the mean group size */
    struct lh_counter syncs;
    struct lh_counter failures;
    struct lh_counter live_bytes; /* of segments that are still needed */
    struct lh_histogram sync_time;
};

struct lh_wal;

/* ---- recovery, before anything is appended ---- */

/* What the log holds of one record, told in LSN order by the first pass. */
struct lh_wal_found {
    uint64_t lsn;
    enum lh_record_type type;
    const uint8_t *uuid; /* 16 bytes */
    size_t bytes;
};

struct lh_wal_summary {
    uint64_t first_lsn; /* 0: the log is empty */
    uint64_t last_lsn;
    uint64_t records;
    uint64_t bytes;
    uint64_t torn_bytes; /* cut off the end of the log */
    uint32_t
        quarantined;  /* segments renamed *.corrupt-<time>: there was more behind a bad record */
    char reason[160]; /* of the quarantine, with segment and offset; empty: none */
};

/* Opens the log and makes its first pass: every record is verified and told to `each`, a torn tail
 * is cut, corruption is quarantined; both are logged. LH_NOT_IMPLEMENTED: a segment of a version
 * that this server does not know, and nothing was touched; LH_IO: the disk failed, or is read-only.
 */
LH_MUST_USE enum lh_status lh_wal_open(const struct lh_wal_options *options,
                                       void (*each)(const struct lh_wal_found *found, void *arg),
                                       void *arg, struct lh_wal **wal,
                                       struct lh_wal_summary *summary, struct lh_error *error);
/* What index files know: LSNs go on from the higher of this and last_lsn. Before any append. */
void lh_wal_set_lsn_least(struct lh_wal *wal, uint64_t lsn_least);

/* The second pass, in steps: the next record that the first pass saw with an LSN above `after`,
 * decoded and owned by the caller. LH_NOT_FOUND: there are no more. Blocks in reading. Appending
 * may go on between the steps, in segments of its own. */
LH_MUST_USE enum lh_status lh_wal_replay(struct lh_wal *wal, uint64_t after,
                                         struct lh_record *record, struct lh_error *error);

/* ---- writing ---- */

/* Takes an entry into the group that gathers. Cannot fail: what goes wrong comes to `done`. */
void lh_wal_append(struct lh_wal *wal, struct lh_wal_entry *entry);

/* Starts what can start, and ends what can end: call once behind a turn's appends, and now and then
 * for what is due by time (an interval's sync, the next try of a failed disk). `done` is called
 * from here and from lh_disk_run, and may append. */
void lh_wal_flush(struct lh_wal *wal);

/* True when nothing gathers, is written or waits for a sync, or when the disk has failed and
 * nothing is being tried. */
bool lh_wal_is_idle(const struct lh_wal *wal);

/* Syncs what interval entries have left, then calls `done` with 0 or -errno, perhaps at once. One
 * at a time. */
void lh_wal_sync(struct lh_wal *wal, void (*done)(int result, void *arg), void *arg);

/* Records below `lsn` are no longer needed: segments that hold only such ones go (or are kept for
 * reuse). One that could not be removed is tried again at the next call. */
void lh_wal_release(struct lh_wal *wal, uint64_t lsn);

uint64_t lh_wal_last_lsn(const struct lh_wal *wal);
uint64_t lh_wal_live_bytes(const struct lh_wal *wal);
struct lh_wal_metrics *lh_wal_metrics(struct lh_wal *wal);

/* Waits for nothing: the owner sees to it that the log is idle. */
void lh_wal_close(struct lh_wal *wal);

#endif
