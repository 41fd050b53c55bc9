/* The simulated disk's seam: chains in a seeded order, faults, the crash. Operations run on the
 * disk's owner, in lh_disk_run; reads and wakes may come from any thread, hence the lock.
 *
 * Invariants: callbacks and the watcher are called without the lock. After the crash nothing
 * changes until lh_sim_disk_crash. A chain is in `chains` or in `queued` until its last callback is
 * about to be called. */
#include "sim/disk_sim.h"

#include "sim/sim_state.h"
#include "unit/seed.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SIM_STEPS_MAX    8u /* operations in one run at most */
#define SIM_HANDLE_FIRST 1000

struct sim_handle {
    uint32_t file; /* 0: closed, or of a folder */
    bool writes;
    bool is_folder;
    uint32_t folder;
};

struct lh_sim_disk {
    struct lh_disk disk; /* first */
    pthread_mutex_t lock;
    int wake;
    uint64_t rng;
    struct lh_sim_state state;

    struct sim_handle *handles;
    size_t handle_count;
    size_t handle_room;

    struct lh_disk_op **chains; /* started: each the rest of its chain */
    size_t chain_count;
    size_t chain_room;
    struct lh_disk_op *queued; /* submitted since */
    struct lh_disk_op *queued_last;

    uint64_t operations;
    uint64_t written;
    uint64_t space;
    uint64_t crash_at; /* operations */
    bool crashed;
    struct lh_sim_fault fault; /* error 0: none */
    uint64_t fault_at;
    void (*before)(struct lh_sim_disk *sim, void *arg);
    void *before_arg;
};

static void *sim_room(void *at, size_t count, size_t *room, size_t bytes)
{
    if (count < *room)
        return at;
    *room = *room == 0 ? 16 : *room * 2;
    at = reallocarray(at, *room, bytes); /* not what tests without memory wrap */
    if (at == NULL)
        abort();
    return at;
}

/* ---- one operation ---- */

/* Counts an operation. True: it is to be done, or, when the disk is `crashed` behind this, done
 * without telling; false: not at all. */
static bool sim_count(struct lh_sim_disk *sim)
{
    if (sim->before != NULL)
        sim->before(sim, sim->before_arg);
    if (sim->operations == sim->crash_at) {
        pthread_mutex_lock(&sim->lock);
        sim->crashed = true;
        pthread_mutex_unlock(&sim->lock);
        return lh_test_below(&sim->rng, 2) == 0;
    }
    sim->operations++;
    return true;
}

/* The fault that meets an operation that was just counted: -errno, or 0. */
static int sim_fault(struct lh_sim_disk *sim, uint32_t kind)
{
    int error = sim->fault.error;
    if (error == 0 || sim->operations <= sim->fault_at)
        return 0;
    if (sim->fault.kinds != 0 && (sim->fault.kinds & kind) == 0)
        return 0;
    if (!sim->fault.lasts)
        sim->fault.error = 0;
    return -error;
}

static struct sim_handle *sim_handle(struct lh_sim_disk *sim, int file)
{
    size_t i = (size_t)(file - SIM_HANDLE_FIRST);
    if (file < SIM_HANDLE_FIRST || i >= sim->handle_count)
        return NULL;
    struct sim_handle *handle = &sim->handles[i];
    return handle->file == 0 && !handle->is_folder ? NULL : handle;
}

static int sim_add_handle(struct lh_sim_disk *sim, struct sim_handle handle)
{
    sim->handles =
        sim_room(sim->handles, sim->handle_count, &sim->handle_room, sizeof *sim->handles);
    sim->handles[sim->handle_count] = handle;
    if (handle.file != LH_SIM_FOLDER)
        lh_sim_state_file(&sim->state, handle.file)->handles++;
    return SIM_HANDLE_FIRST + (int)sim->handle_count++;
}

/* Bytes up to `end` that there is space for. */
static uint64_t sim_fit(const struct lh_sim_disk *sim, const struct lh_sim_file *file, uint64_t end)
{
    uint64_t used = lh_sim_state_used(&sim->state);
    uint64_t free_bytes = used < sim->space ? sim->space - used : 0;
    uint64_t size = file->seen->size;
    return end <= size || end - size <= free_bytes ? end : size + free_bytes;
}

/* Writes all that is left of an operation, or at random a part of it. `*part`: it goes on later. */
static int sim_write(struct lh_sim_disk *sim, struct lh_sim_file *file, struct lh_disk_op *op,
                     int fault, bool *part)
{
    uint64_t from = op->offset + op->finished;
    uint64_t end = op->offset + op->len;
    uint64_t fits = sim_fit(sim, file, end);
    size_t len = op->len - op->finished;
    if (len == 0)
        return fault;
    if (fits <= from)
        return fault != 0 ? fault : -ENOSPC;
    if (fits < end)
        len = (size_t)(fits - from);
    if (fault != 0)
        len = lh_test_below(&sim->rng, 2) * lh_test_below(&sim->rng, (uint32_t)len);
    else if (lh_test_below(&sim->rng, 8) == 0)
        len = 1 + lh_test_below(&sim->rng, (uint32_t)len);
    lh_sim_file_write(file, (const char *)op->bytes + op->finished, len, from);
    sim->written += len;
    op->finished += len;
    *part = fault == 0 && op->finished < op->len;
    return fault;
}

static int sim_allocate(struct lh_sim_disk *sim, struct lh_sim_file *file,
                        const struct lh_disk_op *op)
{
    uint64_t end = op->offset + op->len;
    if (sim_fit(sim, file, end) < end)
        return -ENOSPC;
    if (end > file->seen->size)
        lh_sim_file_grow(file, end);
    return 0;
}

static int sim_sync(struct lh_sim_disk *sim, const struct sim_handle *handle, bool all, int fault)
{
    if (handle->is_folder) {
        if (fault == 0)
            lh_sim_state_sync_folder(&sim->state, handle->folder);
        return fault;
    }
    struct lh_sim_file *file = lh_sim_state_file(&sim->state, handle->file);
    if (fault != 0)
        lh_sim_file_sync_failing(file, &sim->rng);
    else
        lh_sim_file_sync(file, all);
    return fault;
}

static int sim_read_file(struct lh_sim_disk *sim, const struct sim_handle *handle, void *bytes,
                         size_t len, uint64_t offset, size_t *got)
{
    if (handle == NULL || handle->file == LH_SIM_FOLDER)
        return handle == NULL ? -EBADF : -EISDIR;
    const struct lh_sim_bytes *seen = lh_sim_state_file(&sim->state, handle->file)->seen;
    uint64_t left = offset < seen->size ? seen->size - offset : 0;
    *got = len < left ? len : (size_t)left;
    if (*got > 0)
        memcpy(bytes, seen->at + offset, *got);
    return 0;
}

static int sim_do_file(struct lh_sim_disk *sim, struct lh_disk_op *op, int fault, bool *part)
{
    struct sim_handle *handle = sim_handle(sim, op->file);
    struct lh_sim_file *file;
    if (op->kind == LH_DISK_READ)
        return fault != 0
                   ? fault
                   : sim_read_file(sim, handle, op->into, op->len, op->offset, &op->finished);
    bool is_sync = op->kind == LH_DISK_SYNC || op->kind == LH_DISK_SYNC_ALL;
    if (handle == NULL || (!handle->writes && !is_sync))
        return -EBADF;
    if (is_sync)
        return sim_sync(sim, handle, op->kind == LH_DISK_SYNC_ALL, fault);
    file = lh_sim_state_file(&sim->state, handle->file);
    if (op->kind == LH_DISK_WRITE)
        return sim_write(sim, file, op, fault, part);
    if (fault != 0)
        return fault;
    if (op->kind == LH_DISK_ALLOCATE)
        return sim_allocate(sim, file, op);
    lh_disk_op_stamp(op, file->modified_ns);
    lh_sim_file_set_attribute(file, op->into, op->len);
    return 0;
}

static int sim_do_open(struct lh_sim_disk *sim, struct lh_disk_op *op)
{
    const struct lh_sim_name *name = lh_sim_state_find(&sim->state, op->path);
    struct sim_handle handle = {.writes =
                                    op->how == LH_DISK_OPEN_NEW || op->how == LH_DISK_OPEN_REUSE};
    int rc = 0;
    handle.is_folder = lh_sim_state_folder(&sim->state, op->path, &handle.folder) == 0;
    if (op->how == LH_DISK_OPEN_NEW && handle.is_folder)
        return -EISDIR;
    if (op->how == LH_DISK_OPEN_NEW && name != NULL)
        lh_sim_file_empty(lh_sim_state_file(&sim->state, name->file));
    else if (op->how == LH_DISK_OPEN_NEW)
        rc = lh_sim_state_make_file(&sim->state, op->path, &handle.file);
    else if (name == NULL && !handle.is_folder)
        rc = lh_sim_state_missing(&sim->state, op->path);
    else if (op->how == LH_DISK_OPEN_FOLDER && !handle.is_folder)
        rc = -ENOTDIR;
    if (rc != 0)
        return rc;
    if (handle.file == 0 && !handle.is_folder)
        handle.file = name->file;
    lh_disk_op_opened(op, sim_add_handle(sim, handle));
    return 0;
}

static int sim_sync_folder(struct lh_sim_disk *sim, const char *path)
{
    uint32_t folder;
    int rc = lh_sim_state_folder(&sim->state, path, &folder);
    if (rc == 0)
        lh_sim_state_sync_folder(&sim->state, folder);
    return rc;
}

static int sim_do_names(struct lh_sim_disk *sim, struct lh_disk_op *op)
{
    switch (op->kind) {
    case LH_DISK_OPEN:
        return sim_do_open(sim, op);
    case LH_DISK_RENAME:
        return lh_sim_state_rename(&sim->state, op->path, op->to);
    case LH_DISK_LINK:
        return *op->path == '/' ? -EXDEV : lh_sim_state_link(&sim->state, op->path, op->to);
    case LH_DISK_UNLINK:
        return lh_sim_state_unlink(&sim->state, op->path);
    case LH_DISK_SYNC_FOLDER:
        return sim_sync_folder(sim, op->path);
    case LH_DISK_MAKE_FOLDER:
        if (lh_sim_state_find(&sim->state, op->path) != NULL)
            return -EEXIST;
        return lh_sim_state_make_one_folder(&sim->state, op->path);
    case LH_DISK_REMOVE_FOLDER:
        return lh_sim_state_remove_folder(&sim->state, op->path);
    default:
        return -EINVAL;
    }
}

static int sim_do(struct lh_sim_disk *sim, struct lh_disk_op *op, bool *part)
{
    int fault = sim_fault(sim, 1u << op->kind);
    *part = false;
    switch (op->kind) {
    case LH_DISK_WRITE:
    case LH_DISK_SYNC:
    case LH_DISK_SYNC_ALL:
    case LH_DISK_ALLOCATE:
    case LH_DISK_READ:
    case LH_DISK_SET_ATTRIBUTE:
        return sim_do_file(sim, op, fault, part);
    default:
        return fault != 0 ? fault : sim_do_names(sim, op);
    }
}

/* ---- chains ---- */

static void sim_submit(struct lh_disk *disk, struct lh_disk_op *chain)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    size_t count = 0;
    for (struct lh_disk_op *op = chain; op != NULL; op = op->next) {
        op->finished = 0;
        op->answered = false;
        count++;
    }
    assert(count <= LH_DISK_CHAIN_OPS_MAX);
    chain->queued = NULL;
    if (sim->queued == NULL)
        sim->queued = chain;
    else
        sim->queued_last->queued = chain;
    sim->queued_last = chain;
}

static void sim_start_queued(struct lh_sim_disk *sim)
{
    for (struct lh_disk_op *chain = sim->queued; chain != NULL; chain = chain->queued) {
        sim->chains =
            sim_room(sim->chains, sim->chain_count, &sim->chain_room, sizeof *sim->chains);
        sim->chains[sim->chain_count++] = chain;
    }
    sim->queued = NULL;
}

/* Does an operation. True: it has ended. */
static bool sim_do_counted(struct lh_sim_disk *sim, struct lh_disk_op *op)
{
    bool part = false;
    if (sim_count(sim)) {
        pthread_mutex_lock(&sim->lock);
        op->result = sim_do(sim, op, &part);
        pthread_mutex_unlock(&sim->lock);
    }
    return !sim->crashed && !part;
}

/* Does the next operation of some chain, or tells of one that was done: others may be done, and be
 * told of, between the two. True: callbacks were called. */
static bool sim_step(struct lh_sim_disk *sim)
{
    size_t at = lh_test_below(&sim->rng, (uint32_t)sim->chain_count);
    struct lh_disk_op *op = sim->chains[at], *next = op->next;
    if (!op->answered) {
        if (!sim_do_counted(sim, op))
            return false;
        op->answered = lh_test_below(&sim->rng, 4) == 0;
        if (op->answered)
            return false;
    }
    int rc = op->result;
    if (rc == 0 && next != NULL)
        sim->chains[at] = next;
    else
        sim->chains[at] = sim->chains[--sim->chain_count];
    op->done(op);
    while (rc != 0 && next != NULL) {
        op = next;
        next = op->next;
        op->result = -ECANCELED;
        op->done(op);
    }
    return true;
}

static bool sim_run(struct lh_disk *disk, bool sleep)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    uint32_t steps = lh_test_below(&sim->rng, SIM_STEPS_MAX);
    uint64_t wakes;
    bool did = false;
    if (sim->crashed)
        return false;
    sim_start_queued(sim);
    if (sim->chain_count == 0 && sleep)
        while (read(sim->wake, &wakes, sizeof wakes) < 0 && errno == EINTR)
            ;
    for (uint32_t i = 0; sim->chain_count > 0 && !sim->crashed; i++) {
        if (i >= steps && (did || !sleep))
            break;
        did |= sim_step(sim);
    }
    return did;
}

static void sim_wake(struct lh_disk *disk)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    uint64_t one = 1;
    if (write(sim->wake, &one, sizeof one) != sizeof one)
        abort();
}

/* ---- calls that answer at once ---- */

/* What opening a path for writing changes; 0 or -errno. */
static int sim_open_new(struct lh_sim_disk *sim, const char *path, uint32_t *file)
{
    const struct lh_sim_name *name;
    bool counted = sim_count(sim);
    int rc = sim_fault(sim, LH_SIM_OPENS);
    if (!counted || rc != 0)
        return rc != 0 ? rc : -EIO;
    pthread_mutex_lock(&sim->lock);
    name = lh_sim_state_find(&sim->state, path);
    if (name == NULL) {
        rc = lh_sim_state_make_file(&sim->state, path, file);
    } else if (name->file == LH_SIM_FOLDER) {
        rc = -EISDIR;
    } else {
        *file = name->file;
        lh_sim_file_empty(lh_sim_state_file(&sim->state, *file));
    }
    pthread_mutex_unlock(&sim->lock);
    return sim->crashed ? -EIO : rc;
}

static int sim_open(struct lh_disk *disk, const char *path, enum lh_disk_open how, int *file)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    uint32_t number = 0;
    int rc = 0;
    if (sim->crashed)
        return -EIO;
    if (how == LH_DISK_OPEN_NEW) {
        rc = sim_open_new(sim, path, &number);
    } else {
        const struct lh_sim_name *name = lh_sim_state_find(&sim->state, path);
        number = name == NULL ? LH_SIM_FOLDER : name->file;
        rc = name == NULL ? -ENOENT : number == LH_SIM_FOLDER ? -EISDIR : 0;
    }
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&sim->lock);
    *file = sim_add_handle(
        sim, (struct sim_handle){.file = number,
                                 .writes = how == LH_DISK_OPEN_NEW || how == LH_DISK_OPEN_REUSE});
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

static void sim_close(struct lh_disk *disk, int file)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    struct sim_handle *handle;
    pthread_mutex_lock(&sim->lock);
    handle = sim_handle(sim, file);
    if (handle != NULL && handle->is_folder) {
        handle->is_folder = false;
    } else if (handle != NULL) { /* a crash has closed it */
        lh_sim_state_file(&sim->state, handle->file)->handles--;
        lh_sim_state_forget(&sim->state, handle->file);
        handle->file = 0;
    }
    pthread_mutex_unlock(&sim->lock);
}

static int sim_read(struct lh_disk *disk, int file, void *bytes, size_t len, uint64_t offset,
                    size_t *got)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    int rc;
    pthread_mutex_lock(&sim->lock);
    rc = sim->crashed ? -EIO : sim_read_file(sim, sim_handle(sim, file), bytes, len, offset, got);
    pthread_mutex_unlock(&sim->lock);
    return rc;
}

static int sim_size(struct lh_disk *disk, int file, uint64_t *bytes)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    struct sim_handle *handle = sim_handle(sim, file);
    if (sim->crashed)
        return -EIO;
    if (handle == NULL)
        return -EBADF;
    *bytes = lh_sim_state_file(&sim->state, handle->file)->seen->size;
    return 0;
}

/* As file systems do it: in whole blocks. */
static int sim_data(struct lh_disk *disk, int file, uint64_t offset, uint64_t *at)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    struct sim_handle *handle;
    int rc = -EBADF;
    pthread_mutex_lock(&sim->lock);
    handle = sim_handle(sim, file);
    if (sim->crashed) {
        rc = -EIO;
    } else if (handle != NULL) {
        const struct lh_sim_bytes *seen = lh_sim_state_file(&sim->state, handle->file)->seen;
        uint64_t byte = offset;
        while (byte < seen->size && seen->at[byte] == 0)
            byte++;
        *at = byte / 4096 * 4096 > offset && byte < seen->size ? byte / 4096 * 4096 : byte;
        rc = 0;
    }
    pthread_mutex_unlock(&sim->lock);
    return rc;
}

static int sim_describe(struct lh_disk *disk, int file, struct lh_disk_facts *facts)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    const struct sim_handle *handle = sim_handle(sim, file);
    if (sim->crashed || handle == NULL)
        return sim->crashed ? -EIO : -EBADF;
    *facts = (struct lh_disk_facts){.is_folder = handle->is_folder};
    if (facts->is_folder)
        return 0;
    const struct lh_sim_file *at = lh_sim_state_file(&sim->state, handle->file);
    facts->is_file = true;
    facts->bytes = at->seen->size;
    facts->modified_ns = at->modified_ns;
    facts->number = handle->file;
    if (at->seen_attribute != NULL && at->seen_attribute->size <= sizeof facts->attribute) {
        facts->attribute_len = at->seen_attribute->size;
        memcpy(facts->attribute, at->seen_attribute->at, facts->attribute_len);
    }
    return 0;
}

static int sim_list(struct lh_disk *disk, const char *folder,
                    void (*each)(const char *name, uint64_t bytes, void *arg), void *arg)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    uint32_t in;
    int rc = lh_sim_state_folder(&sim->state, folder, &in);
    if (sim->crashed)
        return -EIO;
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    for (size_t i = 0; i < sim->state.seen.count; i++) {
        const struct lh_sim_name *name = &sim->state.seen.at[i];
        if (name->place.in != in)
            continue;
        each(name->place.leaf,
             name->file == LH_SIM_FOLDER ? 0
                                         : lh_sim_state_file(&sim->state, name->file)->seen->size,
             arg);
    }
    return 0;
}

static int sim_make_folder(struct lh_disk *disk, const char *path)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    const struct lh_sim_name *name = lh_sim_state_find(&sim->state, path);
    bool counted;
    int rc;
    if (sim->crashed)
        return -EIO;
    if (name != NULL)
        return name->file == LH_SIM_FOLDER ? 0 : -ENOTDIR;
    counted = sim_count(sim);
    rc = sim_fault(sim, LH_SIM_OPENS);
    if (counted && rc == 0)
        rc = lh_sim_state_make_folder(&sim->state, path);
    return sim->crashed ? -EIO : rc;
}

/* ---- making and freeing ---- */

static void sim_destroy(struct lh_disk *disk)
{
    struct lh_sim_disk *sim = (struct lh_sim_disk *)disk;
    lh_sim_state_deinit(&sim->state);
    pthread_mutex_destroy(&sim->lock);
    close(sim->wake);
    free(sim->handles);
    free(sim->chains);
    free(sim);
}

static const struct lh_disk_calls sim_calls = {
    .name = "simulated",
    .destroy = sim_destroy,
    .submit = sim_submit,
    .run = sim_run,
    .wake = sim_wake,
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .size = sim_size,
    .data = sim_data,
    .describe = sim_describe,
    .list = sim_list,
    .make_folder = sim_make_folder,
};

struct lh_sim_disk *lh_sim_disk_create(uint64_t seed)
{
    struct lh_sim_disk *sim = calloc(1, sizeof *sim);
    if (sim == NULL)
        abort();
    sim->disk.calls = &sim_calls;
    sim->rng = seed;
    sim->space = UINT64_MAX;
    sim->crash_at = UINT64_MAX;
    sim->wake = eventfd(0, EFD_CLOEXEC);
    if (sim->wake < 0 || pthread_mutex_init(&sim->lock, NULL) != 0)
        abort();
    return sim;
}

struct lh_disk *lh_sim_disk_disk(struct lh_sim_disk *sim)
{
    return &sim->disk;
}

struct lh_sim_disk *lh_sim_disk_copy(const struct lh_sim_disk *sim, uint64_t seed)
{
    struct lh_sim_disk *copy = lh_sim_disk_create(seed);
    copy->space = sim->space;
    lh_sim_state_copy(&copy->state, &sim->state);
    return copy;
}

/* ---- crashing, faults, looking on ---- */

void lh_sim_disk_crash_after(struct lh_sim_disk *sim, uint64_t operations)
{
    sim->crash_at = sim->operations + operations;
}

bool lh_sim_disk_is_crashed(const struct lh_sim_disk *sim)
{
    return sim->crashed;
}

void lh_sim_disk_crash(struct lh_sim_disk *sim)
{
    lh_sim_state_crash(&sim->state, &sim->rng);
    for (size_t i = 0; i < sim->handle_count; i++)
        sim->handles[i] = (struct sim_handle){0};
    sim->chain_count = 0;
    sim->queued = NULL;
    sim->fault.error = 0;
    sim->crash_at = UINT64_MAX;
    sim->crashed = false;
}

void lh_sim_disk_fail(struct lh_sim_disk *sim, const struct lh_sim_fault *fault)
{
    sim->fault = *fault;
    sim->fault_at = sim->operations + fault->after;
}

void lh_sim_disk_clear_fault(struct lh_sim_disk *sim)
{
    sim->fault.error = 0;
}

void lh_sim_disk_set_space(struct lh_sim_disk *sim, uint64_t bytes)
{
    sim->space = bytes;
}

int lh_sim_disk_rot(struct lh_sim_disk *sim, const char *path, uint64_t offset, uint8_t mask)
{
    const struct lh_sim_name *name = lh_sim_state_find(&sim->state, path);
    struct lh_sim_file *file;
    if (name == NULL || name->file == LH_SIM_FOLDER)
        return -ENOENT;
    file = lh_sim_state_file(&sim->state, name->file);
    if (offset >= file->seen->size)
        return -EINVAL;
    lh_sim_file_rot(file, offset, mask);
    return 0;
}

uint64_t lh_sim_disk_operations(const struct lh_sim_disk *sim)
{
    return sim->operations;
}

uint64_t lh_sim_disk_written(const struct lh_sim_disk *sim)
{
    return sim->written;
}

void lh_sim_disk_watch(struct lh_sim_disk *sim, void (*before)(struct lh_sim_disk *sim, void *arg),
                       void *arg)
{
    sim->before = before;
    sim->before_arg = arg;
}
