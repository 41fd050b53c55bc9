/* The way to the store of this process: one transfer at a time, sent and waited for. Runs on the
 * thread that owns the client.
 *
 * Invariant: a transfer that storaged has begun is taken to its end, by an abort when source, sink
 * or asker have had enough; so a call blocks for at most one step of storaged longer. */
#include "actors/object_client_internal.h"

#include "base/clock.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xxhash.h>

#define COUNTED_NS  30000000000ull /* waits for a store that counts its objects */
#define COUNTING_NS 50000000l      /* between two looks whether it has */

struct local {
    struct lh_object_client client;
    struct lh_actor *storaged;
    struct lh_actor inbox; /* without a thread: the owner's waits on it */
    bool links_nothing;    /* a file could not become an object: no other is tried */
};

static void destroy(struct lh_object_client *client)
{
    struct local *local = (struct local *)client;
    lh_actor_deinit(&local->inbox);
    free(local);
}

/* ---- one step ---- */

/* Takes the transfer a step further. LH_STOPPING: nobody is there any more; it is over then. */
static enum lh_status step(struct local *local, struct lh_transfer *transfer)
{
    transfer->head.lane = LH_LANE_EXPRESS;
    if (lh_actor_send(local->storaged, &transfer->head) != LH_OK)
        return lh_error_set(&transfer->error, LH_STOPPING, "storaged has stopped");
    bool is_back = lh_actor_wait(&local->inbox);
    struct lh_msg *msg = lh_actor_next(&local->inbox);
    assert(is_back && msg == &transfer->head);
    (void)is_back, (void)msg;
    return transfer->error.status;
}

/* Ends a transfer early, if it has begun. */
static void end(struct local *local, struct lh_transfer *transfer)
{
    if (transfer == NULL)
        return;
    transfer->is_abort = true;
    while (transfer->state != NULL && !transfer->is_over) {
        if (step(local, transfer) == LH_STOPPING)
            break;
    }
    lh_transfer_destroy(transfer);
}

static enum lh_status fail(struct lh_transfer *transfer, const char *verb,
                           const struct lh_error *reason, struct lh_error *error)
{
    int len = (int)(transfer->key.len < 60 ? transfer->key.len : 60);
    return lh_error_set(error, reason->status, "%s %.*s: %.90s", verb, len, transfer->key.ptr,
                        reason->text);
}

static enum lh_status fail_cancelled(struct lh_transfer *transfer, const char *verb,
                                     struct lh_error *error)
{
    return fail(transfer, verb, &(struct lh_error){.status = LH_CLOSED, .text = "cancelled"},
                error);
}

static struct lh_transfer *begin(struct local *local, enum lh_transfer_op op, struct lh_str key)
{
    struct lh_transfer *transfer = lh_transfer_create(op, &local->inbox.mailbox);
    if (transfer == NULL)
        return NULL;
    lh_buf_append_str(&transfer->key, key);
    if (!lh_buf_failed(&transfer->key))
        return transfer;
    lh_transfer_destroy(transfer);
    return NULL;
}

static enum lh_status no_memory(struct lh_error *error)
{
    return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for an object call");
}

/* ---- the calls ---- */

/* The next bytes of the source; *sent moves on. */
static enum lh_status fill(struct lh_transfer *transfer, const struct lh_http_source *source,
                           uint64_t *sent, struct lh_error *error)
{
    uint64_t left = source->length - *sent;
    size_t len = left < LH_TRANSFER_PIECE_BYTES ? (size_t)left : LH_TRANSFER_PIECE_BYTES;
    transfer->piece.len = 0;
    if (lh_buf_reserve(&transfer->piece, len) != LH_OK)
        return no_memory(error);
    if (len > 0) {
        enum lh_status status = source->read(*sent, transfer->piece.ptr, len, source->arg, error);
        if (status != LH_OK)
            return status;
    }
    transfer->piece.len = len;
    *sent += len;
    transfer->is_last = *sent == source->length;
    return LH_OK;
}

static enum lh_status put(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_source *source, const char *content_type,
                          bool is_new, struct lh_object_info *info, struct lh_error *error)
{
    struct local *local = (struct local *)client;
    struct lh_transfer *transfer = begin(local, LH_TRANSFER_PUT, key);
    enum lh_status status = LH_OK;
    uint64_t sent = 0;
    if (transfer == NULL)
        return no_memory(error);
    transfer->length = source->length;
    if (is_new)
        lh_buf_append_char(&transfer->if_none_match, '*');
    if (lh_buf_failed(&transfer->if_none_match))
        status = no_memory(error);
    if (content_type != NULL)
        snprintf(transfer->info.content_type, sizeof transfer->info.content_type, "%s",
                 content_type);
    while (status == LH_OK && !transfer->is_over) {
        if (client->is_cancelled(client->arg))
            status = fail_cancelled(transfer, "PUT", error);
        else
            status = fill(transfer, source, &sent, error);
        if (status != LH_OK)
            break;
        status = step(local, transfer);
        if (status != LH_OK)
            (void)fail(transfer, "PUT", &transfer->error, error);
    }
    if (status == LH_OK)
        *info = transfer->info;
    end(local, transfer);
    return status;
}

/* The XXH3-128 of a source, big-endian, as the store has it. */
static enum lh_status hash(const struct local *local, const struct lh_http_source *source,
                           uint8_t digest[16], struct lh_error *error)
{
    const struct lh_object_client *client = &local->client;
    XXH3_state_t *state = XXH3_createState();
    char *block = malloc(LH_TRANSFER_PIECE_BYTES);
    enum lh_status status = state != NULL && block != NULL ? LH_OK : no_memory(error);
    if (status == LH_OK)
        XXH3_128bits_reset(state);
    for (uint64_t at = 0; status == LH_OK && at < source->length;) {
        uint64_t left = source->length - at;
        size_t len = left < LH_TRANSFER_PIECE_BYTES ? (size_t)left : LH_TRANSFER_PIECE_BYTES;
        status = source->read(at, block, len, source->arg, error);
        if (status == LH_OK)
            XXH3_128bits_update(state, block, len);
        if (client->is_cancelled(client->arg))
            status = lh_error_set(error, LH_CLOSED, "cancelled");
        at += len;
    }
    if (status == LH_OK)
        XXH128_canonicalFromHash((XXH128_canonical_t *)digest, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    free(block);
    return status;
}

static enum lh_status link_(struct lh_object_client *client, struct lh_str key, const char *path,
                            const struct lh_http_source *source, const char *content_type,
                            struct lh_object_info *info, struct lh_error *error)
{
    struct local *local = (struct local *)client;
    if (local->links_nothing)
        return LH_INVALID_ARGUMENT;
    struct lh_transfer *transfer = begin(local, LH_TRANSFER_PUT, key);
    if (transfer == NULL)
        return no_memory(error);
    transfer->length = source->length;
    transfer->linked = path;
    transfer->is_last = true;
    if (content_type != NULL)
        snprintf(transfer->info.content_type, sizeof transfer->info.content_type, "%s",
                 content_type);
    enum lh_status status = hash(local, source, transfer->linked_hash, error);
    if (status == LH_OK) {
        status = step(local, transfer);
        if (status == LH_OK)
            *info = transfer->info;
        else
            (void)fail(transfer, "PUT", &transfer->error, error);
        local->links_nothing = status == LH_INVALID_ARGUMENT;
    }
    end(local, transfer);
    return status;
}

static enum lh_status get(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_sink *sink, struct lh_error *error)
{
    struct local *local = (struct local *)client;
    struct lh_transfer *transfer = begin(local, LH_TRANSFER_GET, key);
    enum lh_status status = LH_OK;
    if (transfer == NULL)
        return no_memory(error);
    transfer->want_body = true;
    while (status == LH_OK && !transfer->is_over) {
        if (client->is_cancelled(client->arg)) {
            status = fail_cancelled(transfer, "GET", error);
            break;
        }
        status = step(local, transfer);
        if (status != LH_OK)
            (void)fail(transfer, "GET", &transfer->error, error);
        else if (transfer->piece.len > 0)
            status = sink->write(lh_buf_str(&transfer->piece), sink->arg, error);
    }
    end(local, transfer);
    return status;
}

static enum lh_status head(struct lh_object_client *client, struct lh_str key,
                           struct lh_object_info *info, struct lh_error *error)
{
    struct local *local = (struct local *)client;
    struct lh_transfer *transfer = begin(local, LH_TRANSFER_GET, key);
    if (transfer == NULL)
        return no_memory(error);
    enum lh_status status = step(local, transfer);
    if (status == LH_OK)
        *info = transfer->info;
    else
        (void)fail(transfer, "HEAD", &transfer->error, error);
    end(local, transfer);
    return status;
}

static enum lh_status delete_(struct lh_object_client *client, struct lh_str key,
                              struct lh_error *error)
{
    struct local *local = (struct local *)client;
    struct lh_transfer *transfer = begin(local, LH_TRANSFER_DELETE, key);
    if (transfer == NULL)
        return no_memory(error);
    enum lh_status status = step(local, transfer);
    if (status != LH_OK)
        (void)fail(transfer, "DELETE", &transfer->error, error);
    end(local, transfer);
    return status;
}

static enum lh_status list_once(struct local *local, const struct lh__object_page *page,
                                struct lh_error *error)
{
    struct lh_transfer *transfer = begin(local, LH_TRANSFER_LIST, page->prefix);
    if (transfer == NULL)
        return no_memory(error);
    lh_buf_append_str(&transfer->cursor, page->after);
    transfer->limit = LH_OBJECT_LIST_MAX;
    enum lh_status status =
        lh_buf_failed(&transfer->cursor) ? no_memory(&transfer->error) : step(local, transfer);
    if (status != LH_OK)
        (void)fail(transfer, "LIST", &transfer->error, error);
    for (uint32_t i = 0; i < transfer->entry_count && status == LH_OK; i++) {
        const struct lh_object_entry *entry = &transfer->entries[i];
        const struct lh_object_listed listed = {
            .key = entry->key, .size = entry->size, .etag = lh_str_of(entry->etag)};
        status = page->each(&listed, page->arg, error);
    }
    if (status == LH_OK && transfer->is_truncated)
        lh_buf_append_str(page->next, transfer->entries[transfer->entry_count - 1].key);
    end(local, transfer);
    return status;
}

/* Once the store has counted its objects. */
static enum lh_status list(struct lh_object_client *client, const struct lh__object_page *page,
                           struct lh_error *error)
{
    uint64_t deadline_ns = lh_clock_ns() + COUNTED_NS;
    for (;;) {
        enum lh_status status = list_once((struct local *)client, page, error);
        if (status != LH_OVERLOADED || lh_clock_ns() > deadline_ns)
            return status;
        if (client->is_cancelled(client->arg))
            return lh_error_set(error, LH_CLOSED, "LIST: cancelled");
        nanosleep(&(struct timespec){.tv_nsec = COUNTING_NS}, NULL);
    }
}

static const struct lh__object_calls calls = {destroy, put, link_, get, head, delete_, list};

struct lh_object_client *lh__object_client_local(struct lh_actor *storaged)
{
    struct local *local = calloc(1, sizeof *local);
    if (local == NULL)
        return NULL;
    local->client.calls = &calls;
    local->storaged = storaged;
    lh_actor_init(&local->inbox, "objects", NULL, NULL);
    return &local->client;
}
