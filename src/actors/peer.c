/* The peer's thread: which object is next, and what a failure means.
 *
 * It blocks in calls to the peer and in reads and writes of files of its own, so nobody waits for
 * it: vectord sends notes and goes on. One call at a time; of an index, only the latest wish
 * counts. Invariant: a tombstone is removed only when the peer has deleted the object since it was
 * made, or has a newer file in its place. */
#include "actors/peer.h"

#include "base/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define STOP_NS    5000000000ull /* at a stop, for uploads that nothing is known against */
#define NANOS_A_MS 1000000ull
#define NEVER      LH_ACTOR_FOR_EVER

struct lh_str lh__peer_key(const char *name, char text[LH_NAME_BYTES_MAX + 64])
{
    int len = snprintf(text, LH_NAME_BYTES_MAX + 64, LH_LHV1_FOLDER "/%s.lhv1", name);
    return (struct lh_str){text, (size_t)len};
}

/* ---- tasks ---- */

static struct lh_peer_task *find_task(struct lh_peer *peer, struct lh_str name)
{
    for (struct lh_peer_task *task = peer->tasks; task != NULL; task = task->next) {
        if (lh_str_eq(lh_str_of(task->name), name))
            return task;
    }
    return NULL;
}

/* Made when there is none; NULL: no memory. */
static struct lh_peer_task *take_task(struct lh_peer *peer, struct lh_str name)
{
    struct lh_peer_task *task = find_task(peer, name);
    if (task != NULL)
        return task;
    task = calloc(1, sizeof *task);
    if (task == NULL)
        return NULL;
    memcpy(task->name, name.ptr, name.len);
    task->next = peer->tasks;
    peer->tasks = task;
    return task;
}

static void free_task(struct lh_peer_task *task)
{
    while (task->gone.first != NULL)
        lh_peer_note_destroy((struct lh_peer_note *)lh_msg_queue_take(&task->gone));
    free(task);
}

/* Forgets tasks that want nothing, and counts the others. */
static void sweep(struct lh_peer *peer)
{
    uint64_t pending = 0;
    for (struct lh_peer_task **at = &peer->tasks; *at != NULL;) {
        struct lh_peer_task *task = *at;
        if (task->want == LH_PEER_NOTHING) {
            *at = task->next;
            free_task(task);
        } else {
            pending++;
            at = &task->next;
        }
    }
    lh_counter_set(&peer->metrics.pending, pending);
}

static uint64_t next_random(struct lh_peer *peer)
{
    peer->random ^= peer->random << 13; /* xorshift64 */
    peer->random ^= peer->random >> 7;
    peer->random ^= peer->random << 17;
    return peer->random;
}

/* The next try, later than the last by a growing and random delay. */
static void try_later(struct lh_peer *peer, struct lh_peer_retry *retry)
{
    uint64_t backoff = retry->backoff_ms = lh_clock_backoff_ms(retry->backoff_ms);
    /* Between half and all of it: servers that lost the same peer do not return as one. */
    retry->due_ns = lh_clock_ns() + (backoff / 2 + next_random(peer) % (backoff / 2)) * NANOS_A_MS;
}

/* ---- outcomes ---- */

/* Logged when it is news. */
static void note_failure(struct lh_peer *peer, struct lh_peer_retry *retry, const char *what,
                         const char *name, const struct lh_error *error)
{
    lh_counter_add(&peer->metrics.failures, 1);
    if (retry->backoff_ms == 0)
        lh_log_line(peer->options.log, LH_LOG_WARN, what, LH_LOG_TEXT("index", name),
                    LH_LOG_TEXT("reason", error->text));
    try_later(peer, retry);
}

static void note_success(struct lh_peer *peer, struct lh_peer_retry *retry, const char *name)
{
    lh_counter_set(&peer->metrics.success_ns, lh_clock_ns());
    if (retry->backoff_ms != 0)
        lh_log_line(peer->options.log, LH_LOG_INFO, "the storaged peer works again",
                    LH_LOG_TEXT("index", name));
    *retry = (struct lh_peer_retry){0};
}

static void send_note(struct lh_peer *peer, struct lh_peer_note *note)
{
    if (lh_actor_send(peer->options.vectord, &note->head) != LH_OK)
        lh_peer_note_destroy(note); /* the server stops */
}

/* Without memory nothing is said: the next listing says it again. */
static void tell(struct lh_peer *peer, enum lh_peer_note_kind kind, const char *name,
                 const struct lh_error *error)
{
    struct lh_peer_note *note = lh_peer_note_create(kind, name);
    peer->has_unanswered |= note == NULL;
    if (note == NULL)
        return;
    if (error != NULL)
        note->error = *error;
    send_note(peer, note);
}

/* The peer has answered for an object: what stood for its older ones is not needed any more. */
static void remove_tombstones(struct lh_peer *peer, struct lh_peer_task *task)
{
    struct lh_error error;
    while (task->gone.first != NULL) {
        struct lh_peer_note *note = (struct lh_peer_note *)lh_msg_queue_take(&task->gone);
        if (lh__peer_remove(peer, note->path, &error) != LH_OK)
            lh_log_line(peer->options.log, LH_LOG_WARN,
                        "a tombstone stays until the next start has deleted its object again",
                        LH_LOG_TEXT("reason", error.text));
        lh_peer_note_destroy(note);
    }
}

/* ---- one object ---- */

static void upload(struct lh_peer *peer, struct lh_peer_task *task)
{
    struct lh_error error;
    enum lh_status status = lh__peer_upload(peer, task->name, &error);
    if (status == LH_OK) {
        lh_counter_add(&peer->metrics.uploads, 1);
        note_success(peer, &task->retry, task->name);
        remove_tombstones(peer, task);
        task->want = LH_PEER_NOTHING;
    } else if (status == LH_NOT_FOUND) {
        /* It has been deleted since; what deletes the object is here, or comes. */
        task->want = task->gone.first != NULL ? LH_PEER_DELETE : LH_PEER_NOTHING;
    } else if (status == LH_CORRUPT || status == LH_NOT_IMPLEMENTED) {
        lh_log_line(peer->options.log, LH_LOG_ERROR,
                    "a file that cannot be read is not sent to the storaged peer",
                    LH_LOG_TEXT("index", task->name), LH_LOG_TEXT("reason", error.text));
        task->want = task->gone.first != NULL ? LH_PEER_DELETE : LH_PEER_NOTHING;
    } else if (status != LH_CLOSED) {
        note_failure(peer, &task->retry,
                     "an index could not be copied to the storaged peer: it is tried again",
                     task->name, &error);
    }
}

static void check(struct lh_peer *peer, struct lh_peer_task *task)
{
    struct lh_error error;
    bool is_same;
    enum lh_status status = lh__peer_compare(peer, task->name, &is_same, &error);
    if (status == LH_OK && is_same) {
        note_success(peer, &task->retry, task->name);
        remove_tombstones(peer, task);
        task->want = LH_PEER_NOTHING;
    } else if (status == LH_OK || status == LH_NOT_FOUND || status == LH_CORRUPT) {
        task->want = LH_PEER_UPLOAD; /* which finds out what is wrong with the file */
    } else if (status != LH_CLOSED) {
        note_failure(peer, &task->retry,
                     "an index could not be compared with the storaged peer's: it is tried again",
                     task->name, &error);
    }
}

static void delete_object(struct lh_peer *peer, struct lh_peer_task *task)
{
    char text[LH_NAME_BYTES_MAX + 64];
    struct lh_error error;
    struct lh_str key = lh__peer_key(task->name, text);
    enum lh_status status = lh_object_client_delete(peer->objects, key, &error);
    if (status == LH_OK) {
        note_success(peer, &task->retry, task->name);
        remove_tombstones(peer, task);
        task->want = LH_PEER_NOTHING;
    } else if (status != LH_CLOSED) {
        note_failure(peer, &task->retry,
                     "an index could not be deleted at the storaged peer: it is tried again",
                     task->name, &error);
    }
}

static void download(struct lh_peer *peer, struct lh_peer_task *task)
{
    struct lh_arrival *arrival;
    struct lh_error error;
    enum lh_status status = lh__peer_download(peer, task, &arrival, &error);
    task->want = LH_PEER_NOTHING;
    if (status == LH_OK) {
        lh_counter_add(&peer->metrics.downloads, 1);
        lh_counter_set(&peer->metrics.success_ns, lh_clock_ns());
        peer->list.backoff_ms = 0;
        if (lh_actor_send(peer->options.vectord, &arrival->job.head) != LH_OK) {
            lh_disk_close(peer->options.disk, arrival->found.file);
            lh_lhv1_envelope_deinit(&arrival->found.envelope);
            free(arrival);
        }
    } else if (status == LH_NOT_FOUND) {
        tell(peer, LH_NOTE_GONE, task->name, NULL);
    } else if (status != LH_CLOSED) {
        lh_counter_add(&peer->metrics.failures, 1);
        peer->has_unanswered = true;
        tell(peer, LH_NOTE_REFUSED, task->name, &error);
    }
}

/* ---- the list ---- */

/* What is to be deleted there is not to come here. */
static void drop_deleted(struct lh_peer *peer, struct lh_peer_note *note)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < note->object_count; i++) {
        const struct lh_peer_task *task = find_task(peer, lh_str_of(note->objects[i].name));
        if (task == NULL || task->want != LH_PEER_DELETE)
            note->objects[kept++] = note->objects[i];
    }
    note->object_count = kept;
}

static void list(struct lh_peer *peer)
{
    struct lh_error error = {0};
    struct lh_peer_note *note = lh_peer_note_create(LH_NOTE_LISTED, "");
    enum lh_status status = note == NULL
                                ? lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory")
                                : lh__peer_list(peer, note, &error);
    if (status == LH_OK) {
        if (lh_counter_get(&peer->metrics.is_listed) == 0)
            note_success(peer, &peer->list, "*");
        lh_counter_set(&peer->metrics.success_ns, lh_clock_ns());
        lh_counter_set(&peer->metrics.is_listed, 1);
        peer->is_list_due = false;
        drop_deleted(peer, note);
        send_note(peer, note);
        return;
    }
    lh_peer_note_destroy(note);
    if (status == LH_CLOSED)
        return;
    lh_counter_add(&peer->metrics.list_failures, 1);
    note_failure(peer, &peer->list, "the storaged peer could not be listed: it is tried again", "*",
                 &error);
    tell(peer, LH_NOTE_UNLISTED, "", &error);
}

/* Once all that was wanted has been tried: what could not be had is asked for anew, with a fresh
 * list, since the peer may have something else by then. */
static void end_pass(struct lh_peer *peer)
{
    if (peer->is_list_due || !peer->has_unanswered)
        return;
    for (struct lh_peer_task *task = peer->tasks; task != NULL; task = task->next) {
        if (task->want == LH_PEER_DOWNLOAD)
            return;
    }
    peer->has_unanswered = false;
    peer->is_list_due = true;
    try_later(peer, &peer->list);
}

/* ---- notes ---- */

static void take_note(struct lh_peer *peer, struct lh_peer_note *note)
{
    struct lh_peer_task *task = take_task(peer, lh_str_of(note->name));
    struct lh_error error;
    bool is_kept = false;
    if (task == NULL) {
        lh_log_line(peer->options.log, LH_LOG_ERROR,
                    "not enough memory to keep the storaged peer up to date until the next start",
                    LH_LOG_TEXT("index", note->name));
        lh_peer_note_destroy(note);
        return;
    }
    switch (note->kind) {
    case LH_NOTE_UPLOAD:
        task->want = LH_PEER_UPLOAD;
        break;
    case LH_NOTE_DELETE:
        task->want = LH_PEER_DELETE;
        is_kept = note->path[0] != '\0';
        if (is_kept)
            lh_msg_queue_put(&task->gone, &note->head);
        break;
    case LH_NOTE_DOWNLOAD:
        task->listed_bytes = note->bytes;
        if (task->want == LH_PEER_NOTHING)
            task->want = LH_PEER_DOWNLOAD;
        else if (task->want != LH_PEER_DOWNLOAD) /* it has been deleted here since it was listed */
            tell(peer, LH_NOTE_GONE, note->name, NULL);
        break;
    case LH_NOTE_DISCARD:
        peer->has_unanswered = true;
        if (lh__peer_remove(peer, note->path, &error) != LH_OK)
            lh_log_line(peer->options.log, LH_LOG_WARN, "a file stays until the next start",
                        LH_LOG_TEXT("reason", error.text));
        break;
    default:
        assert(!"a note that is not for the peer");
    }
    if (!is_kept)
        lh_peer_note_destroy(note);
}

/* ---- the thread ---- */

static bool is_cancelled(void *arg)
{
    struct lh_peer *peer = arg;
    if (!lh_mailbox_is_shut(&peer->actor.mailbox))
        return false;
    if (peer->stop_ns == 0)
        peer->stop_ns = lh_clock_ns() + STOP_NS;
    return !peer->may_drain || lh_clock_ns() > peer->stop_ns;
}

static uint64_t due_ns(const struct lh_peer *peer, const struct lh_peer_task *task)
{
    switch (task->want) {
    case LH_PEER_NOTHING:
        return NEVER;
    case LH_PEER_CHECK: /* what is not here comes first */
        if (!lh_counter_get(&peer->metrics.is_listed))
            return NEVER;
        /* fall through */
    case LH_PEER_DOWNLOAD:
        return peer->stop_ns == 0 ? task->retry.due_ns : NEVER;
    default:
        return task->retry.due_ns;
    }
}

static struct lh_peer_task *find_next(const struct lh_peer *peer)
{
    struct lh_peer_task *next = NULL;
    for (struct lh_peer_task *task = peer->tasks; task != NULL; task = task->next) {
        if (next == NULL || due_ns(peer, task) < due_ns(peer, next))
            next = task;
    }
    return next;
}

/* What a stop still does: what has been wished for and has not failed yet. */
static bool is_drained(const struct lh_peer *peer, const struct lh_peer_task *next)
{
    if (peer->tasks == NULL || next == NULL || lh_clock_ns() > peer->stop_ns)
        return true;
    return (next->want != LH_PEER_UPLOAD && next->want != LH_PEER_DELETE) ||
           next->retry.backoff_ms != 0;
}

static void run_task(struct lh_peer *peer, struct lh_peer_task *task)
{
    peer->may_drain = task->want == LH_PEER_UPLOAD || task->want == LH_PEER_DELETE;
    switch (task->want) {
    case LH_PEER_CHECK:
        check(peer, task);
        break;
    case LH_PEER_UPLOAD:
        upload(peer, task);
        break;
    case LH_PEER_DELETE:
        delete_object(peer, task);
        break;
    case LH_PEER_DOWNLOAD:
        download(peer, task);
        break;
    case LH_PEER_NOTHING:
        break;
    }
    peer->may_drain = false;
}

/* False: it was told to stop, and has. */
static bool turn(struct lh_peer *peer)
{
    struct lh_actor *actor = &peer->actor;
    struct lh_msg *msg;
    bool is_stopping = is_cancelled(peer);
    uint64_t notes = 0;
    lh_actor_poll(actor);
    for (; (msg = lh_actor_next(actor)) != NULL; notes++)
        take_note(peer, (struct lh_peer_note *)msg);
    end_pass(peer);
    sweep(peer);
    lh_counter_add(&peer->metrics.notes, notes); /* behind it: a note is never nowhere */
    struct lh_peer_task *next = find_next(peer);
    uint64_t now = lh_clock_ns();
    uint64_t due = next != NULL ? due_ns(peer, next) : NEVER;
    if (is_stopping && is_drained(peer, next))
        return false;
    if (!is_stopping && peer->is_list_due && peer->list.due_ns <= now) {
        list(peer);
    } else if (due <= now) {
        run_task(peer, next);
    } else {
        if (peer->is_list_due && peer->list.due_ns < due)
            due = peer->list.due_ns;
        (void)lh_actor_wait_until(actor, due);
    }
    return true;
}

static void run(void *arg)
{
    while (turn(arg))
        continue;
}

/* ---- start ---- */

struct folder {
    struct lh_peer *peer;
    bool is_marked;
    bool failed;
};

static void take_entry(const char *file, uint64_t bytes, void *arg)
{
    static const struct lh_str suffix = {".lhv1", 5};
    struct folder *folder = arg;
    struct lh_str gone = lh_gone_name(file);
    struct lh_str name = lh_str_of(file);
    struct lh_peer_task *task = NULL;
    struct lh_peer_note *note = NULL;
    (void)bytes;
    folder->is_marked |= strcmp(file, LH_PEER_MARK) == 0;
    bool is_index = name.len > suffix.len &&
                    memcmp(name.ptr + name.len - suffix.len, suffix.ptr, suffix.len) == 0;
    name.len -= is_index ? suffix.len : 0;
    if (gone.len == 0 && !(is_index && lh_index_name_is_valid(name)))
        return;
    task = take_task(folder->peer, gone.len > 0 ? gone : name);
    if (gone.len > 0)
        note = lh_peer_note_create(LH_NOTE_DELETE, "");
    folder->failed |= task == NULL || (gone.len > 0 && note == NULL);
    if (folder->failed) {
        lh_peer_note_destroy(note);
        return;
    }
    if (gone.len == 0) {
        task->want = LH_PEER_CHECK; /* the name has been made again, if it has a tombstone */
        return;
    }
    snprintf(note->path, sizeof note->path, LH_LHV1_FOLDER "/%s", file);
    lh_msg_queue_put(&task->gone, &note->head);
    if (task->want == LH_PEER_NOTHING)
        task->want = LH_PEER_DELETE;
}

enum lh_status lh_peer_init(struct lh_peer *peer, const struct lh_peer_options *options,
                            struct lh_error *error)
{
    struct folder folder = {.peer = peer};
    *peer = (struct lh_peer){.options = *options, .is_list_due = true, .random = lh_clock_ns() | 1};
    lh_actor_init(&peer->actor, "peer", run, peer);
    struct lh_object_client_options objects = options->objects;
    objects.is_cancelled = is_cancelled;
    objects.arg = peer;
    enum lh_status status = lh_object_client_create(&objects, &peer->objects, error);
    int rc = status == LH_OK ? lh_disk_list(options->disk, LH_LHV1_FOLDER, take_entry, &folder) : 0;
    if (rc != 0)
        status = lh_error_sys(error, LH_DISK_FAILED, -rc, "listing %s", LH_LHV1_FOLDER);
    else if (status == LH_OK && folder.failed)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to start");
    else if (status == LH_OK && !folder.is_marked)
        status = lh__peer_mark(peer, error);
    if (status != LH_OK) {
        peer->options.disk = NULL;
        lh_peer_deinit(peer);
    }
    return status;
}

void lh_peer_deinit(struct lh_peer *peer)
{
    struct lh_msg *msg;
    while (lh_actor_poll(&peer->actor) && (msg = lh_actor_next(&peer->actor)) != NULL)
        lh_peer_note_destroy((struct lh_peer_note *)msg); /* when it was never started */
    while (peer->tasks != NULL) {
        struct lh_peer_task *task = peer->tasks;
        peer->tasks = task->next;
        free_task(task);
    }
    lh_object_client_destroy(peer->objects);
    lh_disk_destroy(peer->options.disk);
    lh_actor_deinit(&peer->actor);
}
