/* A disk by io_uring: one ring, chains as linked entries, one system call a run. Runs on the thread
 * that owns the disk.
 *
 * Only a write is linked to what is behind it. Of all the operations here the kernel breaks a link
 * for a write alone, when it fails or is short; behind a sync, an allocation, a rename or an unlink
 * that failed it goes on (seen on 6.18), and a rename would put a file in place that was never
 * synced. So a group commit, a write and its sync, is one submission, and a chain that would come
 * apart goes to a thread that does all of it (disk_workers.h). So does an operation for which the
 * kernel has nothing but a thread of its own, at more cost: names, attributes, syncs of folders.
 * Where no thread can be had, the ring does these, too, and what is behind one of them is submitted
 * when its result is known and good. What the kernel cancelled behind a short write is submitted
 * again with the rest of the write, once all completions are here. Linked entries are always one
 * submission, because links end with it.
 *
 * Waking: a read of an eventfd is outstanding in the ring whenever the disk sleeps.
 *
 * Invariants: at most RING_OPS operations are in flight, so the queue of submissions, empty after
 * every system call, takes them all, and the queue of completions (twice as long) never overflows.
 * An operation in flight has exactly one completion to come. Callbacks are called in the order of
 * their chain, whatever the order of completions.
 *
 * The ring is not bound to one thread (IORING_SETUP_SINGLE_ISSUER): a disk is opened and recovered
 * by one and then owned by another. */
#include "store/disk_internal.h"
#include "store/disk_workers.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_OPS LH_DISK_CHAIN_OPS_MAX
/* Entries beside the operations: the read of the eventfd, one for each of the last two owners. */
#define RING_WAKES 2u
/* One entry writes so much: its length has 32 bits, and one that takes long keeps others waiting.
 */
#define RING_WRITE_BYTES (16u << 20)

/* Threads of the kernel that block for this ring: as many syncs run at once. Its own limit is four
 * a core, and syncs that wait for one another's commit of the journal are no load. */
#define RING_WORKERS 64u

/* A chain in flight. */
struct lh_disk_flight {
    struct lh_disk_op *first; /* the first whose `done` was not called */
    uint32_t unanswered;      /* completions to come */
    uint32_t next_free;
    bool again;  /* what is left is to be submitted again */
    bool failed; /* what is left is cancelled */
};

struct lh_disk_uring {
    struct lh__disk_folder folder; /* first */
    struct io_uring ring;
    struct lh_disk_op *first; /* chains that wait to be started */
    struct lh_disk_op *last;
    struct lh_disk_flight flights[RING_OPS];
    struct lh__disk_workers workers;
    uint32_t free_flight; /* its index; RING_OPS: none */
    uint32_t in_flight;   /* operations */
    /* Of the submissions since the ring's queue was empty: which end their chain. */
    bool ends[RING_OPS + RING_WAKES];
    uint32_t prepared;
    uint32_t submitted;
    uint32_t wakes_waiting; /* reads of the eventfd in flight */
    bool woken;
    bool wake_is_armed; /* by `wake_owner`: a thread's reads end with it */
    pthread_t wake_owner;
    uint64_t wakes; /* what was read */
};

/* What the completion of an operation means for its chain. */
enum lh_disk_step {
    LH_DISK_OVER, /* it has its result */
    LH_DISK_AGAIN /* it is to be submitted again with those behind it */
};

static void lh_disk_uring_queue(struct lh_disk_uring *uring, struct lh_disk_op *chain)
{
    chain->queued = NULL;
    if (uring->first == NULL)
        uring->first = chain;
    else
        uring->last->queued = chain;
    uring->last = chain;
}

static void lh_disk_uring_submit(struct lh_disk *disk, struct lh_disk_op *chain)
{
    uint32_t count = 0;
    for (struct lh_disk_op *op = chain; op != NULL; op = op->next) {
        op->finished = 0;
        op->answered = false;
        count++;
    }
    assert(count <= RING_OPS);
    lh_disk_uring_queue((struct lh_disk_uring *)disk, chain);
}

/* ---- starting ---- */

static struct io_uring_sqe *lh_disk_uring_entry(struct lh_disk_uring *uring, bool ends)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    assert(sqe != NULL && uring->prepared < RING_OPS + RING_WAKES);
    uring->ends[uring->prepared++] = ends;
    return sqe;
}

/* What one entry writes or reads. */
static size_t lh_disk_uring_part(const struct lh_disk_op *op)
{
    size_t left = op->len - op->finished;
    return left < RING_WRITE_BYTES ? left : RING_WRITE_BYTES;
}

/* Clears the entry's data and flags: they are set behind it. */
static void lh_disk_uring_prepare(struct lh_disk_uring *uring, struct lh_disk_op *op,
                                  struct io_uring_sqe *sqe, size_t write_len)
{
    int root = uring->folder.root;
    switch (op->kind) {
    case LH_DISK_WRITE:
        io_uring_prep_write(sqe, op->file, (const char *)op->bytes + op->finished,
                            (unsigned)write_len, op->offset + op->finished);
        break;
    case LH_DISK_SYNC:
        io_uring_prep_fsync(sqe, op->file, IORING_FSYNC_DATASYNC);
        break;
    case LH_DISK_ALLOCATE:
        io_uring_prep_fallocate(sqe, op->file, 0, (off_t)op->offset, (off_t)op->len);
        break;
    case LH_DISK_RENAME:
        io_uring_prep_renameat(sqe, root, op->path, root, op->to, 0);
        break;
    case LH_DISK_LINK:
        io_uring_prep_linkat(sqe, root, op->path, root, op->to, 0);
        break;
    case LH_DISK_UNLINK:
        io_uring_prep_unlinkat(sqe, root, op->path, 0);
        break;
    case LH_DISK_SYNC_FOLDER:
        /* A folder that cannot be opened fails in its turn, as a bad descriptor. */
        io_uring_prep_fsync(sqe, lh__disk_folder_fd(&uring->folder, op->path), 0);
        break;
    case LH_DISK_OPEN:
        io_uring_prep_openat2(sqe, root, op->path,
                              (struct open_how *)lh__disk_folder_how(&uring->folder, op->how));
        break;
    case LH_DISK_READ:
        io_uring_prep_read(sqe, op->file, (char *)op->into + op->finished,
                           (unsigned)lh_disk_uring_part(op), op->offset + op->finished);
        break;
    case LH_DISK_SET_ATTRIBUTE:
        (void)lh__disk_stamp(op); /* fails as the operation will */
        io_uring_prep_fsetxattr(sqe, op->file, LH__DISK_ATTRIBUTE, op->into, 0, (unsigned)op->len);
        break;
    case LH_DISK_SYNC_ALL:
        io_uring_prep_fsync(sqe, op->file, 0);
        break;
    case LH_DISK_MAKE_FOLDER:
        io_uring_prep_mkdirat(sqe, root, op->path, uring->folder.folder_mode);
        break;
    case LH_DISK_REMOVE_FOLDER:
        io_uring_prep_unlinkat(sqe, root, op->path, AT_REMOVEDIR);
        break;
    case LH_DISK_SPLICE:
        io_uring_prep_nop(sqe); /* it sleeps, so only threads do it, and there was none */
        break;
    case LH_DISK_KINDS:
        break;
    }
}

/* Whether an operation may be linked to the one behind it: only a write, which breaks its link when
 * it fails. An attribute is prepared after the file's last change. */
static bool lh_disk_uring_links(const struct lh_disk_op *op)
{
    return op->kind == LH_DISK_WRITE && op->next->kind != LH_DISK_SET_ATTRIBUTE;
}

/* Whether the ring does a chain as one submission, and most often without a thread: reads, opening
 * for them, and writes with the sync behind them. */
static bool lh_disk_uring_suits(const struct lh_disk_op *chain)
{
    while (chain->next != NULL && lh_disk_uring_links(chain))
        chain = chain->next;
    switch (chain->kind) {
    case LH_DISK_READ:
    case LH_DISK_WRITE:
    case LH_DISK_SYNC:
        return chain->next == NULL;
    case LH_DISK_OPEN:
        return chain->next == NULL && chain->how != LH_DISK_OPEN_NEW;
    default:
        return false;
    }
}

/* Makes entries of a chain, up to the first operation that nothing may be linked to, or a write
 * that takes more than one entry. */
static void lh_disk_uring_start(struct lh_disk_uring *uring, struct lh_disk_op *op)
{
    uint32_t slot = uring->free_flight;
    struct lh_disk_flight *flight = &uring->flights[slot];
    bool ends;
    assert(slot < RING_OPS);
    uring->free_flight = flight->next_free;
    *flight = (struct lh_disk_flight){.first = op};
    do {
        size_t len = op->kind == LH_DISK_WRITE ? lh_disk_uring_part(op) : 0;
        struct io_uring_sqe *sqe;
        ends = op->next == NULL || !lh_disk_uring_links(op) || op->finished + len < op->len;
        sqe = lh_disk_uring_entry(uring, ends);
        lh_disk_uring_prepare(uring, op, sqe, len);
        io_uring_sqe_set_data(sqe, op);
        if (!ends)
            sqe->flags |= IOSQE_IO_LINK;
        op->slot = slot;
        op->answered = false;
        flight->unanswered++;
        uring->in_flight++;
        op = op->next;
    } while (!ends);
}

/* A read that another thread has started ends only when that thread looks: this one has its own. */
static void lh_disk_uring_arm_wake(struct lh_disk_uring *uring)
{
    struct io_uring_sqe *sqe;
    bool is_mine = uring->wake_is_armed && pthread_equal(uring->wake_owner, pthread_self());
    if (is_mine || uring->wakes_waiting == RING_WAKES)
        return;
    sqe = lh_disk_uring_entry(uring, true);
    io_uring_prep_read(sqe, uring->folder.wake, &uring->wakes, sizeof uring->wakes, 0);
    io_uring_sqe_set_data(sqe, NULL);
    uring->wakes_waiting++;
    uring->wake_is_armed = true;
    uring->wake_owner = pthread_self();
}

static void lh_disk_uring_fill(struct lh_disk_uring *uring, bool sleep)
{
    if (uring->submitted < uring->prepared)
        return; /* the kernel has left some: they go first */
    uring->submitted = uring->prepared = 0;
    if (sleep)
        lh_disk_uring_arm_wake(uring);
    while (uring->first != NULL) {
        struct lh_disk_op *chain = uring->first;
        uint32_t count = 0;
        if (!lh_disk_uring_suits(chain)) {
            struct lh_disk_op *queued = chain->queued;
            if (lh__disk_workers_take(&uring->workers, chain)) {
                uring->first = queued;
                continue;
            }
        }
        for (const struct lh_disk_op *op = chain; op != NULL; op = op->next)
            count++;
        if (uring->in_flight + count > RING_OPS)
            break;
        uring->first = chain->queued;
        lh_disk_uring_start(uring, chain);
    }
}

/* Submits, and with `wait` sleeps until there is a completion. What the kernel leaves (it has no
 * memory for it) is still in the ring's queue and goes with the next call; should it cut a chain in
 * two, the order in it would be gone, and a sync could overtake its write: better to die. */
static void lh_disk_uring_enter(struct lh_disk_uring *uring, bool wait)
{
    int rc = io_uring_submit_and_wait(&uring->ring, wait ? 1 : 0);
    assert(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM);
    if (rc > 0) {
        uring->submitted += (uint32_t)rc;
        assert(uring->submitted <= uring->prepared && uring->ends[uring->submitted - 1]);
    }
}

/* ---- ending ---- */

static enum lh_disk_step lh_disk_uring_written(struct lh_disk_op *op)
{
    if (op->result < 0)
        return LH_DISK_OVER;
    if (op->result == 0 && op->finished < op->len) {
        op->result = -EIO; /* neither bytes nor an error: trying again would not end */
        return LH_DISK_OVER;
    }
    op->finished += (size_t)op->result;
    op->result = 0;
    return op->finished == op->len ? LH_DISK_OVER : LH_DISK_AGAIN;
}

/* Nothing more comes at the file's end. */
static enum lh_disk_step lh_disk_uring_have_read(struct lh_disk_op *op)
{
    bool is_end = op->result <= 0;
    if (!is_end) {
        op->finished += (size_t)op->result;
        op->result = 0;
    }
    return is_end || op->finished == op->len ? LH_DISK_OVER : LH_DISK_AGAIN;
}

/* Turns what the kernel says, in op->result, into what the seam promises. */
static enum lh_disk_step lh_disk_uring_judge(struct lh_disk_uring *uring, struct lh_disk_op *op)
{
    int rc = op->result;
    if (rc == -EINTR || rc == -EAGAIN)
        return LH_DISK_AGAIN;
    if (op->kind == LH_DISK_WRITE)
        return lh_disk_uring_written(op);
    if (op->kind == LH_DISK_READ)
        return lh_disk_uring_have_read(op);
    if (op->kind == LH_DISK_OPEN && rc >= 0) {
        lh_disk_op_opened(op, rc);
        op->result = 0;
    } else if (op->kind == LH_DISK_SPLICE) {
        op->result = -EOPNOTSUPP;
    } else if (op->kind == LH_DISK_UNLINK && rc == -ENOENT) {
        op->result = 0;
    } else if (op->kind == LH_DISK_ALLOCATE && rc < 0) {
        op->result = lh__disk_not_allocated(op, rc);
    } else if (op->kind == LH_DISK_SYNC_FOLDER && rc == -EBADF) {
        int fd = lh__disk_folder_fd(&uring->folder, op->path);
        if (fd >= 0)
            return LH_DISK_AGAIN; /* it was made meanwhile */
        op->result = fd;
    }
    return LH_DISK_OVER;
}

/* Calls `done` for what is over of a chain, and lets go of the chain when nothing of it is in
 * flight any more. Returns how many operations ended. */
static uint32_t lh_disk_uring_settle(struct lh_disk_uring *uring, uint32_t slot)
{
    struct lh_disk_flight *flight = &uring->flights[slot];
    uint32_t ended = 0;
    while (flight->first != NULL && !flight->again) {
        struct lh_disk_op *op = flight->first;
        enum lh_disk_step step;
        if (flight->failed && flight->unanswered == 0)
            op->result = -ECANCELED;
        else if (flight->failed || !op->answered)
            break;
        step = flight->failed ? LH_DISK_OVER : lh_disk_uring_judge(uring, op);
        if (step == LH_DISK_AGAIN) {
            flight->again = true;
            break;
        }
        flight->failed = op->result != 0;
        flight->first = op->next; /* before `done`, which may free the operation */
        op->done(op);
        ended++;
    }
    if (flight->unanswered == 0) {
        if (flight->first != NULL) /* it came to its end, or a part is to be done again */
            lh_disk_uring_queue(uring, flight->first);
        flight->next_free = uring->free_flight;
        uring->free_flight = slot;
    }
    return ended;
}

static uint32_t lh_disk_uring_reap(struct lh_disk_uring *uring)
{
    struct io_uring_cqe *cqe;
    uint32_t ended = 0;
    while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct lh_disk_op *op = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        if (op == NULL) { /* whatever its result: its thread may have ended */
            uring->woken = true;
            uring->wake_is_armed = false;
            uring->wakes_waiting--;
            continue;
        }
        assert(!op->answered && uring->flights[op->slot].unanswered > 0);
        op->answered = true;
        op->result = result;
        uring->flights[op->slot].unanswered--;
        uring->in_flight--;
        ended += lh_disk_uring_settle(uring, op->slot);
    }
    return ended;
}

static bool lh_disk_uring_run(struct lh_disk *disk, bool sleep)
{
    struct lh_disk_uring *uring = (struct lh_disk_uring *)disk;
    uint32_t ended;
    uring->woken = false;
    do {
        lh_disk_uring_fill(uring, sleep);
        lh_disk_uring_enter(uring, sleep);
        ended = lh_disk_uring_reap(uring);
        ended += lh__disk_workers_reap(&uring->workers); /* behind the wake that told of them */
    } while (sleep && ended == 0 && !uring->woken);
    return ended > 0;
}

/* ---- opening and closing ---- */

/* The reads of the eventfd write into this memory: they end before it goes. */
static void lh_disk_uring_destroy(struct lh_disk *disk)
{
    struct lh_disk_uring *uring = (struct lh_disk_uring *)disk;
    assert(uring->first == NULL && uring->in_flight == 0);
    lh__disk_workers_deinit(&uring->workers);
    while (uring->wakes_waiting > 0) {
        lh__disk_folder_wake(disk);
        lh_disk_uring_enter(uring, true);
        lh_disk_uring_reap(uring);
    }
    io_uring_queue_exit(&uring->ring);
    lh__disk_folder_deinit(&uring->folder);
    free(uring);
}

static const struct lh_disk_calls lh_disk_uring_calls = {
    .name = "io_uring",
    .destroy = lh_disk_uring_destroy,
    .submit = lh_disk_uring_submit,
    .run = lh_disk_uring_run,
    LH__DISK_FOLDER_CALLS,
};

void lh__disk_uring_note(int sys_errno, char note[160])
{
    char text[64];
    const char *cause = "";
    int level = 0, rc = 0;
    FILE *file;
    switch (sys_errno) {
    case ENOSYS:
        cause = " (the kernel is older than 5.1 or was built without it)";
        break;
    case EPERM:
        file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
        if (file != NULL) {
            rc = fscanf(file, "%d", &level);
            fclose(file);
        }
        cause = rc == 1 && level > 0 ? " (kernel.io_uring_disabled is set)"
                                     : " (a container's seccomp profile forbids it)";
        break;
    case ENOMEM:
        cause = " (RLIMIT_MEMLOCK is too low for a ring: see ulimit -l)";
        break;
    }
    snprintf(note, 160, "io_uring is not available: %s%s", strerror_r(sys_errno, text, sizeof text),
             cause);
}

/* Every operation that is needed must be there: half a ring is of no use. */
static bool lh_disk_uring_probe(struct io_uring *ring, char note[160])
{
    static const struct {
        uint8_t opcode;
        const char *name;
    } needed[] = {
        {IORING_OP_WRITE, "WRITE (5.6)"},          {IORING_OP_READ, "READ (5.6)"},
        {IORING_OP_FSYNC, "FSYNC (5.1)"},          {IORING_OP_FALLOCATE, "FALLOCATE (5.6)"},
        {IORING_OP_RENAMEAT, "RENAMEAT (5.11)"},   {IORING_OP_UNLINKAT, "UNLINKAT (5.11)"},
        {IORING_OP_OPENAT2, "OPENAT2 (5.6)"},      {IORING_OP_MKDIRAT, "MKDIRAT (5.15)"},
        {IORING_OP_FSETXATTR, "FSETXATTR (5.19)"},
    };
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    const char *missing = probe == NULL ? "PROBE (5.6)" : NULL;
    for (size_t i = 0; missing == NULL && i < sizeof needed / sizeof needed[0]; i++)
        if (!io_uring_opcode_supported(probe, needed[i].opcode))
            missing = needed[i].name;
    if (missing != NULL)
        snprintf(note, 160, "io_uring is not used: the kernel is too old, its ring lacks %s",
                 missing);
    io_uring_free_probe(probe);
    return missing == NULL;
}

struct lh_disk *lh__disk_uring_create(const struct lh__disk_folder *folder, char note[160])
{
    struct lh_disk_uring *uring = calloc(1, sizeof *uring);
    /* Completions wait for the next call instead of interrupting (5.19), and an entry that is
     * refused does not hold up those behind it (5.18). */
    unsigned flags =
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
    unsigned workers[2] = {RING_WORKERS, RING_WORKERS}; /* for files, for all else */
    int rc;
    if (uring == NULL) {
        snprintf(note, 160, "there is no memory for an io_uring");
        return NULL;
    }
    rc = io_uring_queue_init(RING_OPS + RING_WAKES, &uring->ring, flags);
    if (rc == -EINVAL)
        rc = io_uring_queue_init(RING_OPS + RING_WAKES, &uring->ring, 0);
    if (rc < 0) {
        lh__disk_uring_note(-rc, note);
        goto failed;
    }
    if (!lh_disk_uring_probe(&uring->ring, note)) {
        io_uring_queue_exit(&uring->ring);
        goto failed;
    }
    (void)io_uring_register_iowq_max_workers(&uring->ring, workers); /* older than 5.15: its own */
    uring->folder = *folder;
    uring->folder.disk.calls = &lh_disk_uring_calls;
    lh__disk_workers_init(&uring->workers, &uring->folder);
    for (uint32_t i = 0; i < RING_OPS; i++)
        uring->flights[i].next_free = i + 1;
    return &uring->folder.disk;
failed:
    free(uring);
    return NULL;
}
