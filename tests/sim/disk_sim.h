/* A simulated disk for tests: a struct lh_disk in memory that keeps apart what is durable and what
 * was written and not synced, and can lose and tear the latter.
 *
 *     struct lh_sim_disk *sim = lh_sim_disk_create(seed);
 *     lh_sim_disk_crash_after(sim, 17);
 *     ... use lh_sim_disk_disk(sim) until lh_sim_disk_is_crashed(sim) ...
 *     lh_sim_disk_crash(sim);
 *     ... recover from the same disk ...
 *     lh_disk_destroy(lh_sim_disk_disk(sim));
 *
 * or, for every operation of one run, without running it again: lh_sim_disk_watch, and in it
 * lh_sim_disk_copy, lh_sim_disk_crash of the copy, and recovery from that.
 *
 * A crash keeps of a file what was there at its last SYNC, and of what was written since, sector by
 * sector, each, none, or a part of it; sizes likewise. It keeps of a folder's names those at its
 * last SYNC_FOLDER, and of the changes since a prefix or any subset in which changes to the same
 * file or name keep their order; each change is there or not. A folder that is removed and made
 * again is another: what was, or is synced, in the one says nothing about the other, and a folder
 * that has gone for good has lost its names before. A file may be named and have none of its bytes:
 * its own SYNC is what makes those durable, and says nothing about its name.
 *
 * An "operation" here is an lh_disk_op, each part of a write that came in parts, and each open or
 * make_folder that makes or empties something. One seed, with the same calls, replays everything.
 * Threads: as struct lh_disk says; everything below belongs to the disk's owner. */
#ifndef LH_TESTS_SIM_DISK_SIM_H
#define LH_TESTS_SIM_DISK_SIM_H

#include "store/disk.h"

struct lh_sim_disk;

struct lh_sim_disk *lh_sim_disk_create(uint64_t seed);

/* lh_disk_destroy of it frees everything, whatever is in flight: that is never called back. */
struct lh_disk *lh_sim_disk_disk(struct lh_sim_disk *sim);

/* The disk as it is now, durable and not, with nothing open and nothing in flight: what a new
 * process finds after kill -9, or, once lh_sim_disk_crash was called on it, after a power cut. */
struct lh_sim_disk *lh_sim_disk_copy(const struct lh_sim_disk *sim, uint64_t seed);

/* ---- crashing ---- */

/* `operations` more take effect. The one behind them may still take effect, but nobody is told;
 * from then on callbacks are not called, lh_disk_run returns false at once, and calls that answer
 * return -EIO. */
void lh_sim_disk_crash_after(struct lh_sim_disk *sim, uint64_t operations);
bool lh_sim_disk_is_crashed(const struct lh_sim_disk *sim);

/* Power is cut and comes back: chooses what was kept. All files are closed, chains in flight are
 * forgotten, faults are over; the space stays as it was set. */
void lh_sim_disk_crash(struct lh_sim_disk *sim);

/* ---- faults ---- */

#define LH_SIM_OPENS (1u << LH_DISK_KINDS) /* opens and make_folder that change the disk */

struct lh_sim_fault {
    uint64_t after; /* so many more operations are not met by it, whatever their kind */
    uint32_t kinds; /* 1u << enum lh_disk_kind, LH_SIM_OPENS; 0: all */
    int error;      /* an errno, positive */
    bool lasts;     /* it meets all of these kinds until it is cleared, not only the first */
};

/* Replaces the fault there was. What a failed write did, and a failed SYNC: some of it, or nothing.
 * The bytes that a failed SYNC did not write are not tried again: later ones succeed, reads see the
 * bytes, and a crash loses them. That is what Linux does. */
void lh_sim_disk_fail(struct lh_sim_disk *sim, const struct lh_sim_fault *fault);
void lh_sim_disk_clear_fault(struct lh_sim_disk *sim);

/* Files may have so many bytes together; what goes beyond ends with -ENOSPC. UINT64_MAX: no end. */
void lh_sim_disk_set_space(struct lh_sim_disk *sim, uint64_t bytes);

/* Flips the bits of `mask` in a byte of a file, durable and seen: what a disk does when it rots.
 * -ENOENT or -EINVAL (the file has no such byte). */
int lh_sim_disk_rot(struct lh_sim_disk *sim, const char *path, uint64_t offset, uint8_t mask);

/* ---- looking on ---- */

uint64_t lh_sim_disk_operations(const struct lh_sim_disk *sim);

/* Bytes handed over by writes: what the disk had to take. */
uint64_t lh_sim_disk_written(const struct lh_sim_disk *sim);

/* Before each operation takes effect; it may look and copy, not submit. */
void lh_sim_disk_watch(struct lh_sim_disk *sim, void (*before)(struct lh_sim_disk *sim, void *arg),
                       void *arg);

#endif
