/* The write-ahead log: entries gather in groups, a group is written and synced as one, entries end
 * in order. Runs on the thread that owns the disk.
 *
 * One chain is under way at most: a group's write, a sync, or both. All records that are not synced
 * stay in memory, those that were written too, because a descriptor is not trusted again after any
 * of its operations has failed: what its page cache says after a failed sync is not what the disk
 * has. The records then go to a fresh segment, from the first that was not synced on; the reader
 * takes that segment's word for them (docs/FORMAT.md). When that fails as well, the entries that
 * have not ended fail and give their LSNs back, and those that have (interval, none) wait in memory
 * for a disk that works again.
 *
 * Invariants:
 *  - synced_lsn <= written_lsn <= last_lsn, and the groups hold exactly the records above
 *    synced_lsn;
 *  - entries end in the order of their LSNs, so the records that have ended are a prefix;
 *  - before a segment gets its first record, all records before that were synced. */
#include "store/wal.h"

#include "store/wal_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static void start(struct lh_wal *wal);

/* ---- entries ---- */

void lh_wal_append(struct lh_wal *wal, struct lh_wal_entry *entry)
{
    entry->next = NULL;
    entry->sys_errno = 0;
    entry->status = lh__wal_gather(wal, entry);
    if (wal->last_entry != NULL)
        wal->last_entry->next = entry;
    else
        wal->first_entry = entry;
    wal->last_entry = entry;
}

static bool may_end(const struct lh_wal *wal, const struct lh_wal_entry *entry)
{
    uint64_t lsn = entry->record->lsn;
    if (entry->status != LH_OK)
        return true;
    switch (entry->durability) {
    case LH_DURABILITY_COMMIT:
        return lsn <= wal->synced_lsn;
    case LH_DURABILITY_INTERVAL:
        return lsn <= wal->written_lsn;
    case LH_DURABILITY_NONE: /* the disk sets the pace when too much is held for it */
        return lsn <= wal->written_lsn ||
               (wal->failures == 0 && wal->held_bytes <= LH_WAL_HELD_BYTES_MAX);
    }
    return false;
}

static void end_entries(struct lh_wal *wal)
{
    if (wal->is_ending)
        return;
    wal->is_ending = true;
    while (wal->first_entry != NULL && may_end(wal, wal->first_entry)) {
        struct lh_wal_entry *entry = wal->first_entry;
        wal->first_entry = entry->next;
        if (wal->first_entry == NULL)
            wal->last_entry = NULL;
        if (entry->status == LH_OK) {
            assert(entry->record->lsn == wal->ended_lsn + 1);
            wal->ended_lsn = entry->record->lsn;
            lh_counter_add(&wal->metrics.records, 1);
        }
        entry->done(entry);
    }
    wal->is_ending = false;
}

static void end_sync(struct lh_wal *wal, int result)
{
    void (*done)(int, void *) = wal->sync_done;
    if (done == NULL || (result == 0 && wal->synced_lsn < wal->sync_target))
        return;
    wal->sync_done = NULL;
    done(result, wal->sync_arg);
}

/* ---- failing disks ---- */

/* What has not ended fails, and its LSNs are given back. */
static void give_up(struct lh_wal *wal)
{
    struct lh_wal_entry *entry = wal->first_entry;
    wal->first_entry = wal->last_entry = NULL;
    wal->last_lsn = wal->ended_lsn;
    lh__wal_groups_keep(wal, wal->ended_lsn);
    while (entry != NULL) {
        struct lh_wal_entry *next = entry->next;
        if (entry->status == LH_OK) {
            entry->status = lh_disk_status(-wal->sys_errno);
            entry->sys_errno = wal->sys_errno;
        }
        entry->done(entry);
        entry = next;
    }
    end_sync(wal, -wal->sys_errno);
}

/* The current segment is not trusted any more; what it should have goes to a fresh one. */
static void disk_failed(struct lh_wal *wal, int result)
{
    assert(result < 0 && wal->in_flight == 0);
    lh__wal_retire(wal);
    wal->written_lsn = wal->synced_lsn;
    wal->unwritten = wal->groups;
    wal->unsynced_since_ns = 0;
    wal->sys_errno = -result;
    wal->failures++;
    if (wal->failures < 2)
        return;
    wal->retry_ns = wal->options.clock_ns() + LH_WAL_RETRY_MS * 1000000ull;
    give_up(wal);
}

/* There was no room to be had for the group: nothing was written, and nothing waits to be written
 * anew, so the segment is as good as it was. It is tried once more, and what is smaller than what
 * is refused then may still fit. */
static void lacked_room(struct lh_wal *wal)
{
    assert(wal->written_lsn == wal->synced_lsn);
    wal->current->chain = wal->sealed_from;
    wal->was_tried = !wal->was_tried;
    if (wal->was_tried)
        return;
    wal->sys_errno = -wal->result;
    give_up(wal);
}

/* Between the attempts on a failed disk. */
static bool is_waiting_for_disk(const struct lh_wal *wal, uint64_t now_ns)
{
    return wal->failures >= 2 && now_ns < wal->retry_ns;
}

void lh__wal_prepared(struct lh_wal *wal, int result)
{
    bool was_needed = wal->next.is_needed;
    wal->next.is_needed = false;
    if (result != 0 && was_needed)
        disk_failed(wal, result);
    lh_wal_flush(wal);
}

/* ---- writing ---- */

static void written(struct lh_wal *wal)
{
    struct lh__wal_group *group = wal->writing;
    struct lh__wal_segment *segment = wal->current;
    assert(group == wal->unwritten && group->first_lsn == wal->written_lsn + 1);
    wal->writing = NULL;
    wal->was_tried = false;
    wal->unwritten = group->next;
    wal->written_lsn = group->last_lsn;
    segment->end += group->bytes.len;
    if (segment->end > segment->bytes)
        segment->bytes = segment->end;
    if (segment->first_lsn == 0)
        segment->first_lsn = group->first_lsn;
    segment->last_lsn = group->last_lsn;
    lh_counter_add(&wal->metrics.bytes, group->bytes.len);
    lh_counter_add(&wal->metrics.groups, 1);
    if (wal->unsynced_since_ns == 0)
        wal->unsynced_since_ns = wal->options.clock_ns();
    end_entries(wal); /* those that need no sync */
}

static void synced(struct lh_wal *wal)
{
    wal->synced_lsn = wal->syncing_lsn;
    wal->current->synced = wal->current->end;
    wal->unsynced_since_ns = 0;
    wal->gap = (struct lh__wal_header){0};
    lh_counter_add(&wal->metrics.syncs, 1);
    lh_histogram_observe(&wal->metrics.sync_time, wal->options.clock_ns() - wal->started_ns);
    if (wal->failures > 0)
        lh_log_line(wal->options.log, LH_LOG_WARN, "log is written again, in a fresh segment",
                    LH_LOG_U64("lsn", wal->synced_lsn));
    wal->failures = 0;
    lh__wal_groups_drop_synced(wal);
}

static void on_op(struct lh_disk_op *op)
{
    struct lh_wal *wal = op->arg;
    if (op->result != 0 && op->result != -ECANCELED && wal->result == 0)
        wal->result = op->result;
    wal->lacks_room |= op->kind == LH_DISK_ALLOCATE && lh_disk_status(op->result) == LH_NO_SPACE;
    if (op->kind == LH_DISK_WRITE && op->result == 0)
        written(wal);
    if (--wal->in_flight > 0)
        return;
    wal->writing = NULL;
    if (wal->result != 0) {
        lh__wal_note_failure(wal, "log not written", wal->current->sequence, wal->result);
        if (wal->lacks_room && wal->failures == 0 && wal->ended_lsn == wal->synced_lsn)
            lacked_room(wal);
        else
            disk_failed(wal, wal->result);
    } else if (wal->syncing_lsn != 0) {
        synced(wal);
    }
    lh_wal_flush(wal);
}

static bool sync_is_due(const struct lh_wal *wal, uint64_t now_ns)
{
    return wal->unsynced_since_ns != 0 &&
           (now_ns >= wal->unsynced_since_ns + wal->options.interval_ms * 1000000ull ||
            wal->sync_done != NULL || wal->failures > 0 || wal->held_bytes > LH_WAL_HELD_BYTES_MAX);
}

static bool group_is_synced(const struct lh_wal *wal, const struct lh__wal_group *group,
                            uint64_t now_ns)
{
    if (wal->failures > 0) /* a fresh segment counts once all is in it */
        return group->next == NULL;
    return group->wants_sync || wal->sync_done != NULL || sync_is_due(wal, now_ns) ||
           wal->held_bytes > LH_WAL_HELD_BYTES_MAX;
}

/* Submits the write of `group` (NULL: none), with room for it, and, when `with_sync`, a sync behind
 * it. */
static void submit(struct lh_wal *wal, struct lh__wal_group *group, bool with_sync)
{
    struct lh__wal_segment *segment = wal->current;
    unsigned n = 0;
    wal->started_ns = wal->options.clock_ns();
    wal->writing = group;
    wal->result = 0;
    wal->lacks_room = false;
    wal->syncing_lsn = 0;
    if (group != NULL) {
        uint64_t end = segment->end + group->bytes.len;
        wal->sealed_from = segment->chain;
        lh__wal_group_seal(wal, group);
        if (end > segment->bytes)
            wal->ops[n++] = (struct lh_disk_op){.kind = LH_DISK_ALLOCATE,
                                                .file = segment->file,
                                                .offset = segment->bytes,
                                                .len = end - segment->bytes};
        wal->ops[n++] = (struct lh_disk_op){.kind = LH_DISK_WRITE,
                                            .file = segment->file,
                                            .bytes = group->bytes.ptr,
                                            .len = group->bytes.len,
                                            .offset = segment->end};
    }
    if (with_sync) {
        wal->ops[n++] = (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = segment->file};
        wal->syncing_lsn = group != NULL ? group->last_lsn : wal->written_lsn;
    }
    assert(n > 0);
    for (unsigned i = 0; i < n; i++) {
        wal->ops[i].done = on_op;
        wal->ops[i].arg = wal;
        wal->ops[i].next = i + 1 < n ? &wal->ops[i + 1] : NULL;
    }
    wal->in_flight = n;
    lh_disk_submit(wal->options.disk, &wal->ops[0]);
}

/* Whether the current segment takes the group, and grows when its file is not that long yet. An
 * empty one takes any. */
static bool fits(const struct lh_wal *wal, const struct lh__wal_group *group)
{
    const struct lh__wal_segment *segment = wal->current;
    return segment != NULL && (segment->end == LH__WAL_HEADER_BYTES ||
                               segment->end + group->bytes.len <= wal->options.segment_bytes);
}

/* Makes the next segment the current one. False: not now; its being ready flushes again. */
static bool rotate(struct lh_wal *wal)
{
    lh__wal_retire(wal);
    if (wal->next.state == LH__WAL_NEXT_READY &&
        wal->next.segment->sequence == wal->next_sequence) {
        lh__wal_advance(wal);
        return true;
    }
    wal->next.is_needed = true;
    if (wal->next.state != LH__WAL_NEXT_PREPARING)
        lh__wal_prepare(wal);
    return false;
}

/* One step: what can be started is, and then something is under way. */
static void start(struct lh_wal *wal)
{
    uint64_t now_ns = wal->options.clock_ns();
    struct lh__wal_group *group = wal->unwritten;
    if (wal->in_flight > 0)
        return;
    if (is_waiting_for_disk(wal, now_ns)) {
        give_up(wal);
        return;
    }
    if (group == NULL || group->bytes.len == 0) {
        if (sync_is_due(wal, now_ns))
            submit(wal, NULL, true);
        return;
    }
    if (group == wal->gathering)
        wal->gathering = NULL;
    if (fits(wal, group))
        submit(wal, group, group_is_synced(wal, group, now_ns));
    else if (wal->current != NULL && wal->written_lsn > wal->synced_lsn)
        submit(wal, NULL, true); /* all before a segment's first record is synced */
    else if (rotate(wal))
        submit(wal, group, group_is_synced(wal, group, now_ns));
}

void lh_wal_flush(struct lh_wal *wal)
{
    unsigned failures;
    if (wal->is_flushing)
        return;
    wal->is_flushing = true;
    end_entries(wal);
    do { /* a segment that could not even be opened is tried again at once, once */
        failures = wal->failures;
        start(wal);
    } while (wal->failures == 1 && failures == 0);
    end_sync(wal, 0);
    if (wal->failures == 0 && wal->next.state == LH__WAL_NEXT_NONE &&
        wal->options.clock_ns() >= wal->next.again_ns)
        lh__wal_prepare(wal);
    lh_counter_set(&wal->metrics.live_bytes, lh_wal_live_bytes(wal));
    wal->is_flushing = false;
}

void lh_wal_sync(struct lh_wal *wal, void (*done)(int result, void *arg), void *arg)
{
    assert(wal->sync_done == NULL && done != NULL);
    wal->sync_target = wal->last_lsn;
    wal->sync_done = done;
    wal->sync_arg = arg;
    lh_wal_flush(wal);
}

bool lh_wal_is_idle(const struct lh_wal *wal)
{
    bool is_held = wal->held_bytes > 0 && wal->failures < 2;
    return wal->in_flight == 0 && wal->first_entry == NULL && !is_held && wal->sync_done == NULL &&
           wal->next.state != LH__WAL_NEXT_PREPARING && wal->removal.segment == NULL;
}

void lh_wal_release(struct lh_wal *wal, uint64_t lsn)
{
    if (lsn > wal->released_lsn)
        wal->released_lsn = lsn;
    lh__wal_remove_released(wal);
}

/* ---- the rest ---- */

uint64_t lh_wal_last_lsn(const struct lh_wal *wal)
{
    return wal->last_lsn;
}

/* Of a segment that is partly released, the part that is not, as if all its records were equal. */
uint64_t lh_wal_live_bytes(const struct lh_wal *wal)
{
    uint64_t live = 0;
    for (const struct lh__wal_segment *s = wal->segments; s != NULL; s = s->next) {
        double records = (double)(s->last_lsn - s->first_lsn + 1);
        if (s->first_lsn == 0 || s->last_lsn < wal->released_lsn)
            continue;
        if (s->first_lsn >= wal->released_lsn)
            live += s->end - LH__WAL_HEADER_BYTES;
        else
            live += (uint64_t)((double)(s->end - LH__WAL_HEADER_BYTES) *
                               (double)(s->last_lsn + 1 - wal->released_lsn) / records);
    }
    return live;
}

struct lh_wal_metrics *lh_wal_metrics(struct lh_wal *wal)
{
    return &wal->metrics;
}

void lh_wal_set_lsn_least(struct lh_wal *wal, uint64_t lsn_least)
{
    assert(wal->first_entry == NULL && wal->ended_lsn == wal->last_lsn && wal->current == NULL &&
           wal->next.state == LH__WAL_NEXT_NONE);
    if (lsn_least <= wal->last_lsn)
        return;
    if (wal->last_lsn > 0)
        wal->gap =
            (struct lh__wal_header){.resumes_lsn = lsn_least + 1, .after_lsn = wal->last_lsn};
    wal->last_lsn = wal->ended_lsn = wal->written_lsn = wal->synced_lsn = lsn_least;
}

static enum lh_status seed_of(const struct lh_wal_options *options, uint64_t *seed,
                              struct lh_error *error)
{
    *seed = options->seed;
    if (*seed == 0 && getrandom(seed, sizeof *seed, 0) != sizeof *seed)
        return lh_error_sys(error, LH_IO, errno, "no random numbers for the log");
    return LH_OK;
}

enum lh_status lh_wal_open(const struct lh_wal_options *options,
                           void (*each)(const struct lh_wal_found *found, void *arg), void *arg,
                           struct lh_wal **wal, struct lh_wal_summary *summary,
                           struct lh_error *error)
{
    struct lh_wal *made = calloc(1, sizeof *made);
    enum lh_status status;
    assert(options->segment_bytes > LH__WAL_HEADER_BYTES);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for the log");
    made->options = *options;
    made->crc = lh_crc32c_best();
    made->next_sequence = 1;
    made->replay = (struct lh__wal_reader){.disk = options->disk, .crc = made->crc, .file = -1};
    made->next.block = malloc(LH__WAL_HEADER_BYTES);
    status = made->next.block != NULL ? seed_of(options, &made->rng, error)
                                      : lh_error_set(error, LH_OUT_OF_MEMORY, "no memory");
    if (status == LH_OK)
        status = lh__wal_recover(made, each, arg, summary, error);
    if (status != LH_OK) {
        lh_wal_close(made);
        return status;
    }
    made->last_lsn = made->ended_lsn = summary->last_lsn;
    made->written_lsn = made->synced_lsn = made->replay_last = summary->last_lsn;
    lh_counter_set(&made->metrics.live_bytes, lh_wal_live_bytes(made));
    *wal = made;
    return LH_OK;
}

void lh_wal_close(struct lh_wal *wal)
{
    if (wal == NULL)
        return;
    assert(wal->in_flight == 0 && wal->next.state != LH__WAL_NEXT_PREPARING &&
           wal->removal.segment == NULL);
    lh__wal_groups_deinit(wal);
    if (wal->current != NULL)
        lh_disk_close(wal->options.disk, wal->current->file);
    if (wal->next.segment != NULL)
        lh_disk_close(wal->options.disk, wal->next.segment->file);
    free(wal->next.segment);
    free(wal->next.block);
    while (wal->segments != NULL) {
        struct lh__wal_segment *next = wal->segments->next;
        free(wal->segments);
        wal->segments = next;
    }
    lh__wal_reader_deinit(&wal->replay);
    free(wal);
}
