/* The persister: the one thread that writes. It owns the disk and the log.
 *
 * Requests come to it as records of the log and go back to vectord in the order of their LSNs;
 * vectord applies them as they come back, so what no log has is never seen by a search. Workers
 * send it blocks of checkpoints, vectord jobs (messages.h). */
#ifndef LH_ACTORS_PERSISTER_H
#define LH_ACTORS_PERSISTER_H

#include "actors/messages.h"
#include "base/log.h"

/* An index's file as recovery found it. */
struct lh_found_file {
    char name[LH_NAME_BYTES_MAX + 1];
    char path[LH_NAME_BYTES_MAX + 64];
    struct lh_lhv1_envelope envelope; /* when `error.status` is LH_OK */
    int file;                         /* open for reading then */
    bool is_aside;                    /* a version 1 file under its ".v1" name */
    struct lh_error error; /* why it cannot be used; it has been renamed, or was before */
};

/* A file that has come from the storaged peer: checked, synced, under a temporary name. The peer
 * makes it, vectord has the persister rename it, and loads it. */
struct lh_arrival {
    struct lh_job job;
    struct lh_found_file found;
    struct lh_arrival *next; /* vectord's */
};

_Static_assert(offsetof(struct lh_arrival, job) == 0, "an arrival is a message");

/* What the log holds of one index. */
struct lh_found_changes {
    uint8_t uuid[16];
    uint64_t first_lsn;
    uint64_t last_lsn;
    uint64_t drop_lsn; /* 0: not dropped */
    uint64_t file_lsn; /* of its file, when that has been loaded; else 0 */
};

/* What there is on disk at start, for vectord. */
struct lh_recovery {
    struct lh_found_file *files;
    uint32_t file_count;
    struct lh_found_changes *changes;
    uint32_t change_count;
    struct lh_wal_summary log;
    bool had_peer; /* LH_PEER_MARK */
    bool failed;   /* memory was short while it was made */
};

/* Files beside those of indexes: a tombstone says that an object of the peer is to be deleted, and
 * stays until it is; a download that was cut short goes at the next start. */
#define LH_GONE_SUFFIX     ".gone" /* <name>.<uuid>.gone */
#define LH_DOWNLOAD_SUFFIX ".lhv1.download"
/* The folder has had a peer, which may have any index of it: deletions leave tombstones. */
#define LH_PEER_MARK ".peer"

/* The index's name in a tombstone's file name; empty when it is none. */
struct lh_str lh_gone_name(const char *file);

void lh_recovery_deinit(struct lh_recovery *recovery);
const struct lh_found_changes *lh_recovery_changes(const struct lh_recovery *recovery,
                                                   const uint8_t uuid[16]);
/* An index was deleted while what was found is still being taken in. */
void lh_recovery_note_drop(struct lh_recovery *recovery, const uint8_t uuid[16], uint64_t lsn);
/* An index's file has been loaded, with all changes up to `lsn` in it. */
void lh_recovery_note_file(struct lh_recovery *recovery, const uint8_t uuid[16], uint64_t lsn);
/* The last record that nothing loaded so far needs, nor any before it. */
uint64_t lh_recovery_after(const struct lh_recovery *recovery);

struct lh_persister_options {
    struct lh_disk *disk; /* taken on success */
    const struct lh_log *log;
    uint64_t segment_bytes;
    uint64_t sync_interval_ms;
    uint64_t (*clock_ns)(void);
    uint64_t seed; /* of the log's segments; 0: from the kernel */
    struct lh_actor *vectord;
    struct lh_mailbox *gateway;
};

struct lh_persister {
    struct lh_actor actor;
    struct lh_persister_options options;
    struct lh_wal *wal;
    uint32_t out;              /* jobs and blocks that are with the disk */
    struct lh_tick *last_tick; /* waits for the final sync */
};

/* Reads what is on the disk: removes temporary files, opens every index's file, makes the log's
 * first pass. Blocks; belongs to start-up, before the thread starts. LH_IO, LH_DISK_FAILED: the
 * folder cannot be used at all, with the reason. */
LH_MUST_USE enum lh_status lh_persister_init(struct lh_persister *persister,
                                             const struct lh_persister_options *options,
                                             struct lh_recovery *recovery, struct lh_error *error);
void lh_persister_deinit(struct lh_persister *persister);

/* One look at the mailbox and the disk; the thread does nothing else. False: with `sleep`, it was
 * told to stop and all is done; without, there was nothing to do. */
bool lh_persister_turn(struct lh_persister *persister, bool sleep);

/* ---- between the files of the persister ---- */

/* Fills `recovery` from the disk. */
LH_MUST_USE enum lh_status lh__recovery_read(struct lh_persister *persister,
                                             struct lh_recovery *recovery, struct lh_error *error);

#endif
