/* The disk backend's thread: takes transfers a step further, each with at most one operation at the
 * disk, so that they share it evenly.
 *
 * It sleeps in the disk's run, which a push to its mailbox wakes. A second thread walks over all
 * files once, at start, and sends what it finds. Invariant: a transfer that is not over has its
 * `state`, and is with this thread or with who asked. */
#include "actors/storaged.h"

#include <assert.h>
#include <stdlib.h>

#define LH_MSG_FOUND 9u

struct found {
    struct lh_msg head;
    struct lh_object_batch batch;
};

_Static_assert(offsetof(struct found, head) == 0, "what the walk has found is a message");

struct state {
    struct lh_storaged *storaged;
    struct lh_transfer *transfer;
    union {
        struct lh_object_put put;
        struct lh_object_get get;
        struct lh_object_delete delete_;
    };
    uint64_t sent;     /* of a GET's body */
    bool is_unspliced; /* splicing it has failed once */
};

/* ---- back ---- */

static bool is_servers_fault(enum lh_status status)
{
    return lh_status_http(status) >= 500;
}

static void reply(struct lh_storaged *storaged, struct lh_transfer *transfer)
{
    struct lh_storaged_metrics *metrics = &storaged->metrics;
    if (transfer->is_over) {
        free(transfer->state);
        transfer->state = NULL;
        lh_counter_sub(&metrics->in_flight, 1);
        if (is_servers_fault(transfer->error.status)) {
            lh_counter_add(&metrics->errors, 1);
            if (transfer->error.status != LH_OVERLOADED)
                lh_log_line(storaged->options.log, LH_LOG_WARN, "an object call failed",
                            LH_LOG_STR("key", lh_buf_str(&transfer->key)),
                            LH_LOG_TEXT("reason", transfer->error.text));
        }
    }
    transfer->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(transfer->reply_to, &transfer->head);
    assert(status == LH_OK); /* whoever asks waits for the answer */
    (void)status;
}

static void end(struct lh_storaged *storaged, struct lh_transfer *transfer,
                const struct lh_error *error)
{
    if (error != NULL)
        transfer->error = *error;
    transfer->is_over = true;
    reply(storaged, transfer);
}

static struct lh_object_conditions conditions_of(const struct lh_transfer *transfer)
{
    return (struct lh_object_conditions){lh_buf_str(&transfer->if_match),
                                         lh_buf_str(&transfer->if_none_match)};
}

/* ---- put ---- */

static void put_done(struct lh_object_put *put)
{
    struct state *state = put->arg;
    struct lh_transfer *transfer = state->transfer;
    struct lh_storaged *storaged = state->storaged;
    transfer->piece.len = 0;
    if (put->own != NULL) {
        reply(storaged, transfer);
        return;
    }
    if (put->error.status == LH_OK && !transfer->is_abort) {
        lh_counter_add(&storaged->metrics.puts, 1);
        if (transfer->linked != NULL) /* pieces were counted as they came */
            lh_counter_add(&storaged->metrics.bytes_in, transfer->length);
        transfer->info = put->info;
    }
    end(storaged, transfer, &put->error);
}

static void begin_put(struct state *state)
{
    struct lh_transfer *transfer = state->transfer;
    state->put = (struct lh_object_put){.key = lh_buf_str(&transfer->key),
                                        .conditions = conditions_of(transfer),
                                        .length = transfer->length,
                                        .linked = transfer->linked,
                                        .info = transfer->info,
                                        .done = put_done,
                                        .arg = state};
    memcpy(state->put.linked_hash, transfer->linked_hash, sizeof transfer->linked_hash);
}

static void put(struct state *state)
{
    struct lh_transfer *transfer = state->transfer;
    struct lh_storaged *storaged = state->storaged;
    if (transfer->is_abort) {
        lh_object_put_abort(&state->put);
        return;
    }
    state->put.piece = (struct lh_str){transfer->piece.ptr + transfer->piece_at,
                                       transfer->piece.len - transfer->piece_at};
    lh_counter_add(&storaged->metrics.bytes_in, state->put.piece.len);
    state->put.is_last = transfer->is_last;
    lh_object_put(storaged->objects, &state->put);
}

/* ---- get ---- */

static void end_get(struct state *state)
{
    lh_object_close(&state->get);
    end(state->storaged, state->transfer, NULL);
}

/* `get->got` bytes more are in the piece, or in the pipe. */
static void have_piece(struct lh_object_get *get)
{
    struct state *state = get->arg;
    struct lh_transfer *transfer = state->transfer;
    state->sent += get->got;
    lh_counter_add(&state->storaged->metrics.bytes_out, get->got);
    transfer->is_last = state->sent == transfer->body_length;
    if (transfer->is_last)
        end_get(state);
    else
        reply(state->storaged, transfer);
}

static void piece_read(struct lh_object_get *get)
{
    struct state *state = get->arg;
    struct lh_transfer *transfer = state->transfer;
    if (get->error.status != LH_OK) {
        transfer->piece.len = 0;
        transfer->error = get->error;
        end_get(state);
        return;
    }
    transfer->piece.len = get->got;
    have_piece(get);
}

static void read_piece(struct state *state)
{
    struct lh_transfer *transfer = state->transfer;
    uint64_t left = transfer->body_length - state->sent;
    size_t len = left < LH_TRANSFER_PIECE_BYTES ? (size_t)left : LH_TRANSFER_PIECE_BYTES;
    transfer->piece.len = 0;
    if (lh_buf_reserve(&transfer->piece, len) != LH_OK) {
        lh_error_set(&transfer->error, LH_OUT_OF_MEMORY, "not enough memory to read an object");
        end_get(state);
        return;
    }
    state->get.done = piece_read;
    lh_object_read(&state->get, transfer->piece.ptr, len, transfer->body_first + state->sent);
}

static void piece_spliced(struct lh_object_get *get)
{
    struct state *state = get->arg;
    if (get->error.status == LH_OK) {
        have_piece(get);
        return;
    }
    get->error = (struct lh_error){.status = LH_OK};
    state->is_unspliced = true;
    read_piece(state); /* finds what is wrong, if it is the file */
}

/* The next piece: long ones into a pipe, where one was lent. */
static void give_piece(struct state *state)
{
    struct lh_transfer *transfer = state->transfer;
    uint64_t left = transfer->body_length - state->sent;
    size_t room = transfer->pipe.room;
    if (room == 0 || left < LH_SPLICE_BYTES_MIN || state->is_unspliced ||
        !lh_objects_splice(state->storaged->objects)) {
        read_piece(state);
        return;
    }
    transfer->piece.len = 0;
    state->get.done = piece_spliced;
    lh_object_splice(&state->get, &transfer->pipe, left < room ? (size_t)left : room,
                     transfer->body_first + state->sent);
}

static void opened(struct lh_object_get *get)
{
    struct state *state = get->arg;
    struct lh_transfer *transfer = state->transfer;
    if (get->error.status != LH_OK) {
        end(state->storaged, transfer, &get->error);
        return;
    }
    transfer->info = get->info;
    bool is_refused = lh_transfer_check(transfer) != LH_OK;
    if (!is_refused && !transfer->is_not_modified)
        lh_counter_add(&state->storaged->metrics.gets, 1);
    transfer->is_last = is_refused || transfer->is_not_modified || !transfer->want_body ||
                        transfer->body_length == 0;
    if (transfer->is_last)
        end_get(state);
    else
        give_piece(state);
}

static void get(struct state *state)
{
    struct lh_transfer *transfer = state->transfer;
    if (state->get.own == NULL && transfer->is_abort)
        end(state->storaged, transfer, NULL);
    else if (state->get.own == NULL)
        lh_object_open(state->storaged->objects, &state->get);
    else if (transfer->is_abort)
        end_get(state);
    else
        give_piece(state);
}

/* ---- delete, list ---- */

static void deleted(struct lh_object_delete *delete_)
{
    struct state *state = delete_->arg;
    if (delete_->error.status == LH_OK)
        lh_counter_add(&state->storaged->metrics.deletes, 1);
    end(state->storaged, state->transfer, &delete_->error);
}

static void list_entry(struct lh_str key, const struct lh_object_stat *stat, void *arg)
{
    struct lh_transfer *transfer = arg;
    struct lh_object_entry *entry = &transfer->entries[transfer->entry_count++];
    /* Where the key is becomes known when all are there. */
    *entry = (struct lh_object_entry){
        .key = {NULL, key.len}, .size = stat->size, .modified_ms = stat->modified_ns / 1000000u};
    lh_object_etag(stat, entry->etag);
    lh_buf_append_str(&transfer->keys, key);
}

static void list(struct lh_storaged *storaged, struct lh_transfer *transfer)
{
    const char *key;
    transfer->entries = calloc((size_t)transfer->limit + 1, sizeof *transfer->entries);
    enum lh_status status = LH_OUT_OF_MEMORY;
    if (transfer->entries != NULL)
        status = lh_objects_list(storaged->objects, lh_buf_str(&transfer->key),
                                 lh_buf_str(&transfer->cursor), transfer->limit, list_entry,
                                 transfer, &transfer->is_truncated, &transfer->error);
    if (transfer->entries == NULL || lh_buf_failed(&transfer->keys)) {
        lh_error_set(&transfer->error, LH_OUT_OF_MEMORY, "not enough memory to list objects");
        transfer->entry_count = 0; /* their keys are not all there */
    } else if (status == LH_OK) {
        lh_counter_add(&storaged->metrics.lists, 1);
    }
    key = transfer->keys.ptr;
    for (uint32_t i = 0; i < transfer->entry_count; i++) {
        transfer->entries[i].key.ptr = key;
        key += transfer->entries[i].key.len;
    }
    end(storaged, transfer, NULL);
}

/* ---- the thread ---- */

static struct state *begin(struct lh_storaged *storaged, struct lh_transfer *transfer)
{
    struct state *state = calloc(1, sizeof *state);
    lh_counter_add(&storaged->metrics.in_flight, 1);
    transfer->state = state;
    if (state == NULL) {
        lh_error_set(&transfer->error, LH_OUT_OF_MEMORY, "not enough memory for an object call");
        end(storaged, transfer, NULL);
        return NULL;
    }
    state->storaged = storaged;
    state->transfer = transfer;
    switch (transfer->op) {
    case LH_TRANSFER_PUT:
        begin_put(state);
        break;
    case LH_TRANSFER_GET:
        state->get =
            (struct lh_object_get){.key = lh_buf_str(&transfer->key), .done = opened, .arg = state};
        break;
    case LH_TRANSFER_DELETE:
        state->delete_ = (struct lh_object_delete){.key = lh_buf_str(&transfer->key),
                                                   .conditions = conditions_of(transfer),
                                                   .done = deleted,
                                                   .arg = state};
        break;
    case LH_TRANSFER_LIST:
        break;
    }
    return state;
}

static void step(struct lh_storaged *storaged, struct lh_transfer *transfer)
{
    struct state *state = transfer->state;
    if (state == NULL)
        state = begin(storaged, transfer);
    if (state == NULL)
        return;
    switch (transfer->op) {
    case LH_TRANSFER_PUT:
        put(state);
        break;
    case LH_TRANSFER_GET:
        get(state);
        break;
    case LH_TRANSFER_DELETE:
        lh_object_delete(storaged->objects, &state->delete_);
        break;
    case LH_TRANSFER_LIST:
        list(storaged, transfer);
        break;
    }
}

static void take_found(struct lh_storaged *storaged, struct found *found)
{
    bool is_last = found->batch.is_last;
    enum lh_status status = found->batch.status;
    lh_objects_found(storaged->objects, &found->batch);
    free(found);
    struct lh_objects_counts counts = lh_objects_counts(storaged->objects);
    if (is_last && counts.is_listed)
        lh_log_line(storaged->options.log, LH_LOG_INFO, "objects counted",
                    LH_LOG_U64("keys", counts.keys), LH_LOG_U64("index_bytes", counts.index_bytes));
    else if (is_last)
        lh_log_line(storaged->options.log, LH_LOG_ERROR,
                    "the objects could not be counted: lists are refused until a restart",
                    LH_LOG_TEXT("reason", lh_status_text(status)));
}

static void show_counts(struct lh_storaged *storaged)
{
    struct lh_objects_counts counts = lh_objects_counts(storaged->objects);
    lh_counter_set(&storaged->metrics.keys, counts.keys);
    lh_counter_set(&storaged->metrics.index_bytes, counts.index_bytes);
    lh_counter_set(&storaged->metrics.folder_syncs, counts.folder_syncs);
    lh_counter_set(&storaged->metrics.is_listed, counts.is_listed);
    lh_counter_set(&storaged->metrics.is_counting, counts.is_counting);
}

/* False: it was told to stop, and all is done. */
static bool turn(struct lh_storaged *storaged)
{
    struct lh_actor *actor = &storaged->actor;
    struct lh_msg *msg;
    bool is_shut = lh_mailbox_is_shut(&actor->mailbox);
    bool any = lh_actor_poll(actor);
    while ((msg = lh_actor_next(actor)) != NULL) {
        if (msg->type == LH_MSG_FOUND)
            take_found(storaged, (struct found *)msg);
        else
            step(storaged, (struct lh_transfer *)msg);
    }
    if (is_shut && !any && lh_objects_is_idle(storaged->objects))
        return false;
    (void)lh_disk_run(storaged->options.disk, !any);
    show_counts(storaged);
    return true;
}

static void run(void *self)
{
    while (turn(self))
        continue;
}

static void wake(void *arg)
{
    lh_disk_wake(arg);
}

/* ---- the walk ---- */

static bool take_batch(struct lh_object_batch *batch, void *arg)
{
    struct lh_storaged *storaged = arg;
    struct found *found = storaged->walk_end != NULL ? malloc(sizeof *found) : NULL;
    if (found == NULL) {
        lh_buf_deinit(&batch->records);
        found = (struct found *)storaged->walk_end;
        storaged->walk_end = NULL;
        *batch = (struct lh_object_batch){.is_last = true, .status = LH_OUT_OF_MEMORY};
    }
    if (found == NULL)
        return false;
    found->head = (struct lh_msg){.type = LH_MSG_FOUND, .lane = LH_LANE_BULK};
    found->batch = *batch;
    bool is_over = batch->is_last;
    if (lh_actor_send(&storaged->actor, &found->head) == LH_OK)
        return !is_over && !lh_mailbox_is_shut(&storaged->walker.mailbox);
    lh_buf_deinit(&found->batch.records); /* the server stops */
    free(found);
    return false;
}

static void walk(void *self)
{
    struct lh_storaged *storaged = self;
    lh_objects_walk(storaged->options.walk_disk, take_batch, storaged);
    lh_disk_destroy(storaged->options.walk_disk);
    storaged->options.walk_disk = NULL;
}

/* ---- start and stop ---- */

enum lh_status lh_storaged_init(struct lh_storaged *storaged,
                                const struct lh_storaged_options *options, struct lh_error *error)
{
    *storaged = (struct lh_storaged){.options = *options};
    enum lh_status status =
        lh_objects_create(options->disk, options->root, &storaged->objects, error);
    if (status != LH_OK)
        return status;
    if (!lh_objects_keeps_types(storaged->objects))
        lh_log_line(options->log, LH_LOG_WARN,
                    "the file system has no extended attributes: content types are not kept",
                    LH_LOG_TEXT("storaged.root", options->root));
    storaged->walk_end = malloc(sizeof(struct found));
    if (storaged->walk_end == NULL) {
        lh_objects_destroy(storaged->objects);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to start");
    }
    lh_actor_init(&storaged->actor, "storaged", run, storaged);
    lh_actor_wake_by(&storaged->actor, wake, options->disk);
    lh_actor_init(&storaged->walker, "objects", walk, storaged);
    show_counts(storaged);
    return LH_OK;
}

enum lh_status lh_storaged_start(struct lh_storaged *storaged, struct lh_error *error)
{
    enum lh_status status = lh_actor_start(&storaged->actor, error);
    return status == LH_OK ? lh_actor_start(&storaged->walker, error) : status;
}

void lh_storaged_stop(struct lh_storaged *storaged)
{
    lh_actor_stop(&storaged->walker);
    lh_actor_join(&storaged->walker);
    lh_actor_stop(&storaged->actor);
    lh_actor_join(&storaged->actor);
}

void lh_storaged_deinit(struct lh_storaged *storaged)
{
    lh_objects_destroy(storaged->objects);
    free(storaged->walk_end);
    lh_disk_destroy(storaged->options.walk_disk); /* when it was never started */
    lh_disk_destroy(storaged->options.disk);
    lh_actor_deinit(&storaged->walker);
    lh_actor_deinit(&storaged->actor);
}
