/* Object calls at the gateway: bodies between sockets and transfers. Loop thread.
 *
 * Of a body that comes, one piece is with the store while the next gathers; past that the socket is
 * not read. Of one that goes, a piece is asked for when the socket has taken the last. So a call of
 * any length holds three pieces at most.
 *
 * Invariant: a transfer that is not over is with the store (`is_out`) or here; whatever becomes of
 * the client, it is taken to its end, by an abort when nobody wants it any more. */
#include "actors/gateway.h"
#include "actors/object_cursor.h"
#include "actors/object_range.h"
#include "store/disk.h"
#include "store/object_key.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define READ_BYTES_MAX 65536u /* what one read brings, at most, where it is copied */

struct object_call {
    struct lh_gateway *gateway;
    struct lh_http_ticket ticket;
    struct lh_transfer *transfer;
    bool is_out;
    bool is_gone;   /* nobody waits for it any more */
    bool has_begun; /* GET: the answer's header is out */
    bool has_ended; /* PUT: all of the body has come */
    bool is_paused;
    bool is_out_of_memory;
    struct lh_buf next; /* PUT: what has come since, */
    size_t next_at;     /* from here on */
};

/* ---- making and ending ---- */

static void destroy(struct object_call *object)
{
    assert(!object->is_out);
    object->gateway->in_flight--;
    object->gateway->transfers--;
    lh_http_server_give_pipe(object->gateway->http, &object->transfer->pipe);
    lh_transfer_destroy(object->transfer);
    lh_buf_deinit(&object->next);
    free(object);
}

static void send(struct object_call *object)
{
    object->is_out = true;
    enum lh_status status = lh_actor_send(object->gateway->storaged, &object->transfer->head);
    assert(status == LH_OK); /* the actors stop after the loop */
    (void)status;
}

/* Ends a transfer that nobody wants any more; it is not out. */
static void drop(struct object_call *object)
{
    object->is_gone = true;
    if (object->transfer->state == NULL) {
        destroy(object);
        return;
    }
    object->transfer->is_abort = true;
    send(object);
}

static bool has_store(struct lh_gateway *gateway, struct lh_http_call *call)
{
    struct lh_error error;
    if (gateway->storaged == NULL)
        lh_error_set(&error, LH_NOT_IMPLEMENTED,
                     "objects have nowhere to be: configure [storaged] root, a folder, or backend "
                     "\"s3\"");
    else if (gateway->transfers >= LH_TRANSFERS_MAX)
        lh_error_set(&error, LH_OVERLOADED, "%u object calls are in flight, the limit: try again",
                     gateway->transfers);
    else
        return true;
    gateway->refused += gateway->storaged != NULL;
    lh_http_answer_error(call, &error);
    return false;
}

static void refuse_for_memory(struct lh_http_call *call)
{
    struct lh_error error;
    lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the object call");
    lh_http_answer_error(call, &error);
}

static void copy_header(struct lh_http_call *call, const char *name, struct lh_buf *to)
{
    lh_buf_append_str(to, lh_http_call_header(call, name));
}

/* NULL when it has been answered. `key` may be a prefix. */
static struct object_call *create(struct lh_gateway *gateway, struct lh_http_call *call,
                                  enum lh_transfer_op op, struct lh_str key)
{
    struct object_call *object = calloc(1, sizeof *object);
    struct lh_transfer *transfer = lh_transfer_create(op, lh_http_server_mailbox(gateway->http));
    if (object == NULL || transfer == NULL) {
        free(object);
        lh_transfer_destroy(transfer);
        refuse_for_memory(call);
        return NULL;
    }
    object->gateway = gateway;
    object->ticket = lh_http_call_ticket(call);
    object->transfer = transfer;
    transfer->owner = object;
    transfer->request_id = lh_http_call_request_id(call);
    gateway->in_flight++;
    gateway->transfers++;
    lh_buf_append_str(&transfer->key, key);
    copy_header(call, "if-match", &transfer->if_match);
    copy_header(call, "if-none-match", &transfer->if_none_match);
    copy_header(call, "if-modified-since", &transfer->if_modified_since);
    copy_header(call, "if-range", &transfer->if_range);
    if (!lh_buf_failed(&transfer->key) && !lh_buf_failed(&transfer->if_match) &&
        !lh_buf_failed(&transfer->if_none_match) && !lh_buf_failed(&transfer->if_modified_since) &&
        !lh_buf_failed(&transfer->if_range))
        return object;
    refuse_for_memory(call); /* a condition that is lost would be one that holds */
    destroy(object);
    return NULL;
}

/* The same for a call whose path has a key. */
static struct object_call *create_for_key(struct lh_gateway *gateway, struct lh_http_call *call,
                                          enum lh_transfer_op op)
{
    struct lh_str key = lh_http_call_param(call, 0);
    struct lh_error error;
    if (!has_store(gateway, call))
        return NULL;
    if (lh_object_key_check(key, &error) != LH_OK) {
        lh_http_answer_error(call, &error);
        return NULL;
    }
    return create(gateway, call, op, key);
}

/* ---- put ---- */

static void set_paused(struct object_call *object, struct lh_http_call *call, bool is_paused)
{
    if (object->is_paused == is_paused)
        return;
    object->is_paused = is_paused;
    if (is_paused)
        lh_http_call_pause(call);
    else
        lh_http_call_resume(call);
}

/* Sends what has gathered; the buffer that came back empty gathers next. */
static void send_piece(struct object_call *object)
{
    struct lh_transfer *transfer = object->transfer;
    struct lh_buf empty = transfer->piece;
    transfer->piece = object->next;
    transfer->piece_at = object->next_at;
    transfer->is_last = object->has_ended;
    empty.len = 0;
    object->next = empty;
    object->next_at = 0;
    send(object);
}

static void answer_put(struct object_call *object, struct lh_http_call *call)
{
    const struct lh_transfer *transfer = object->transfer;
    char etag[LH_ETAG_BYTES_MAX + 3];
    struct lh_buf body = LH_BUF_EMPTY;
    snprintf(etag, sizeof etag, "\"%s\"", transfer->info.etag);
    lh_buf_append_str(&body, LH_STR("{\"key\":"));
    lh_buf_append_json_string(&body, lh_buf_str(&transfer->key));
    lh_buf_printf(&body, ",\"size\":%" PRIu64 ",\"etag\":", transfer->info.size);
    lh_buf_append_json_string(&body, lh_str_of(transfer->info.etag));
    lh_buf_append_str(&body, LH_STR("}\n"));
    lh_http_call_add_header(call, "ETag", etag);
    lh_http_answer(call, 200, "application/json", &body);
}

static void put_back(struct object_call *object, struct lh_http_call *call)
{
    struct lh_transfer *transfer = object->transfer;
    if (call == NULL || object->is_out_of_memory) {
        if (call != NULL)
            refuse_for_memory(call);
        if (transfer->is_over)
            destroy(object);
        else
            drop(object);
        return;
    }
    if (transfer->is_over) {
        if (transfer->error.status != LH_OK)
            lh_http_answer_error(call, &transfer->error);
        else
            answer_put(object, call);
        destroy(object);
        return;
    }
    if (object->has_ended || object->next.len >= LH_TRANSFER_PIECE_BYTES)
        send_piece(object);
    set_paused(object, call, false);
}

/* Room for one piece and what a read may bring beyond it, so that it does not grow. What the store
 * can write past the page cache begins at an aligned byte in it: malloc would keep the holes of
 * aligned memory from the next of the same length, and the process would grow. */
static bool reserve_piece(struct object_call *object)
{
    uint64_t length = object->transfer->length;
    bool is_aligned =
        length >= LH_DIRECT_BYTES_MIN && length <= LH_TRANSFER_PIECE_BYTES - LH_DISK_DIRECT_BYTES;
    size_t room = LH_TRANSFER_PIECE_BYTES + READ_BYTES_MAX;
    room = length < room ? (size_t)length : room;
    if (object->next.cap > 0)
        return true;
    if (lh_buf_reserve(&object->next, room + (is_aligned ? LH_DISK_DIRECT_BYTES : 0)) != LH_OK)
        return false;
    object->next_at = is_aligned ? -(uintptr_t)object->next.ptr % LH_DISK_DIRECT_BYTES : 0;
    object->next.len = object->next_at;
    return true;
}

static char *put_room(void *arg, size_t *room)
{
    struct object_call *object = arg;
    if (!reserve_piece(object))
        return NULL;
    *room = object->next.cap - object->next.len;
    return object->next.ptr + object->next.len;
}

static void put_data(struct lh_http_call *call, void *arg, struct lh_str piece)
{
    struct object_call *object = arg;
    object->is_out_of_memory |= !reserve_piece(object);
    if (piece.ptr == object->next.ptr + object->next.len)
        object->next.len += piece.len; /* it was read to there */
    else
        lh_buf_append_str(&object->next, piece);
    object->is_out_of_memory |= lh_buf_failed(&object->next);
    if (object->is_out_of_memory && !object->is_out) {
        refuse_for_memory(call);
        drop(object);
        return;
    }
    if (object->next.len < LH_TRANSFER_PIECE_BYTES)
        return;
    if (object->is_out)
        set_paused(object, call, true);
    else
        send_piece(object);
}

static void put_end(struct lh_http_call *call, void *arg)
{
    struct object_call *object = arg;
    object->has_ended = true;
    if (!object->is_out)
        send_piece(object);
    (void)call;
}

static void put_gone(void *arg)
{
    struct object_call *object = arg;
    object->is_gone = true;
    if (!object->is_out)
        drop(object);
}

/* The content type is a header's value, so that it can be one again. */
static bool take_content_type(struct object_call *object, struct lh_http_call *call)
{
    struct lh_str type = lh_http_call_header(call, "content-type");
    struct lh_error error;
    if (type.len == 0)
        type = LH_STR("application/octet-stream");
    bool is_visible = true;
    for (size_t i = 0; i < type.len; i++)
        is_visible &= type.ptr[i] >= 0x20 && type.ptr[i] <= 0x7e;
    if (!is_visible || type.len > LH_CONTENT_TYPE_BYTES_MAX) {
        lh_error_set(&error, LH_INVALID_ARGUMENT,
                     "Content-Type: it has up to %u bytes of printable ASCII",
                     LH_CONTENT_TYPE_BYTES_MAX);
        lh_http_answer_error(call, &error);
        return false;
    }
    memcpy(object->transfer->info.content_type, type.ptr, type.len);
    return true;
}

void lh_handle_object_put(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_error error;
    struct lh_str length = lh_http_call_header(call, "content-length");
    if (lh_http_call_header(call, "content-range").len > 0) {
        lh_error_set(&error, LH_INVALID_ARGUMENT,
                     "Content-Range: an object is put whole, not in parts");
        lh_http_answer_error(call, &error);
        return;
    }
    struct object_call *object = create_for_key(gateway, call, LH_TRANSFER_PUT);
    if (object == NULL)
        return;
    if (!take_content_type(object, call)) {
        destroy(object);
        return;
    }
    if (length.len > 0)
        (void)lh_str_to_u64(length, &object->transfer->length); /* net has read it already */
    lh_http_call_stream(call, &(struct lh_http_stream){.on_data = put_data,
                                                       .on_room = put_room,
                                                       .on_end = put_end,
                                                       .on_gone = put_gone,
                                                       .arg = object});
}

/* ---- get ---- */

/* Asks for the next piece. */
static void get_ready(struct lh_http_call *call, void *arg)
{
    struct object_call *object = arg;
    struct lh_transfer *transfer = object->transfer;
    if (transfer->want_body && transfer->pipe.room == 0)
        lh_http_call_take_pipe(call, &transfer->pipe);
    send(object);
}

static void answer_piece(struct object_call *object, struct lh_http_call *call)
{
    struct lh_transfer *transfer = object->transfer;
    if (transfer->pipe.len > 0) {
        lh_http_answer_pipe(call, &transfer->pipe);
        return;
    }
    lh_http_server_give_pipe(object->gateway->http, &transfer->pipe); /* for others meanwhile */
    lh_http_answer_piece(call, &transfer->piece);
}

static void get_gone(void *arg)
{
    struct object_call *object = arg;
    if (object == NULL)
        return; /* all of it had been given, or HEAD */
    object->is_gone = true;
    if (!object->is_out)
        drop(object);
}

static void add_headers(const struct lh_transfer *transfer, struct lh_http_call *call)
{
    char text[LH_ETAG_BYTES_MAX + 3];
    char date[LH_HTTP_DATE_BYTES];
    snprintf(text, sizeof text, "\"%s\"", transfer->info.etag);
    lh_http_call_add_header(call, "ETag", text);
    lh_http_date(transfer->info.modified_ms, date);
    lh_http_call_add_header(call, "Last-Modified", date);
    lh_http_call_add_header(call, "Accept-Ranges", "bytes");
    /* What someone has put is not to be taken for a page of this server's. */
    lh_http_call_add_header(call, "X-Content-Type-Options", "nosniff");
    if (!transfer->has_range)
        return;
    char range[80];
    snprintf(range, sizeof range, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, transfer->body_first,
             transfer->body_first + transfer->body_length - 1, transfer->info.size);
    lh_http_call_add_header(call, "Content-Range", range);
}

static void answer_get_error(const struct lh_transfer *transfer, struct lh_http_call *call)
{
    char range[40];
    if (transfer->error.status == LH_RANGE_NOT_SATISFIABLE) {
        snprintf(range, sizeof range, "bytes */%" PRIu64, transfer->info.size);
        lh_http_call_add_header(call, "Content-Range", range);
    }
    lh_http_answer_error(call, &transfer->error);
}

/* The first answer of the store: the header, and the first piece. */
static void begin_answer(struct object_call *object, struct lh_http_call *call)
{
    struct lh_transfer *transfer = object->transfer;
    bool is_whole = transfer->is_over; /* nothing more will come */
    struct lh_http_sending sending = {
        .on_ready = get_ready, .on_gone = get_gone, .arg = is_whole ? NULL : object};
    if (transfer->error.status != LH_OK) {
        answer_get_error(transfer, call);
        return;
    }
    bool is_range = transfer->has_range && !transfer->is_not_modified;
    transfer->has_range = is_range;
    add_headers(transfer, call);
    if (transfer->is_not_modified) {
        lh_http_answer(call, 304, NULL, NULL);
        return;
    }
    int status = is_range ? 206 : 200;
    if (is_whole && transfer->piece.len > 0) {
        lh_http_answer(call, status, transfer->info.content_type, &transfer->piece);
        return;
    }
    lh_http_answer_begin(call, status, transfer->info.content_type, transfer->body_length,
                         &sending);
    object->has_begun = true;
    if (!is_whole || transfer->pipe.len > 0)
        answer_piece(object, call);
    if (is_whole && transfer->want_body)
        lh_http_answer_end(call);
}

static void get_back(struct object_call *object, struct lh_http_call *call)
{
    struct lh_transfer *transfer = object->transfer;
    if (call == NULL) {
        if (transfer->is_over)
            destroy(object);
        else
            drop(object);
        return;
    }
    if (!object->has_begun) {
        begin_answer(object, call);
    } else if (transfer->error.status != LH_OK) {
        lh_http_answer_abort(call);
    } else {
        answer_piece(object, call);
        if (transfer->is_over)
            lh_http_answer_end(call);
    }
    if (transfer->is_over)
        destroy(object);
}

void lh_handle_object_get(struct lh_http_call *call, void *context)
{
    struct lh_range range;
    struct object_call *object = create_for_key(context, call, LH_TRANSFER_GET);
    if (object == NULL)
        return;
    struct lh_transfer *transfer = object->transfer;
    transfer->want_body = !lh_http_call_is_head(call);
    transfer->has_range = lh_range_parse(lh_http_call_header(call, "range"), &range);
    transfer->is_range_suffix = range.is_suffix;
    transfer->range_first = range.first;
    transfer->range_last = range.last;
    get_ready(call, object);
}

/* ---- delete ---- */

static void delete_back(struct object_call *object, struct lh_http_call *call)
{
    const struct lh_transfer *transfer = object->transfer;
    if (call != NULL && transfer->error.status != LH_OK)
        lh_http_answer_error(call, &transfer->error);
    else if (call != NULL)
        lh_http_answer(call, 204, NULL, NULL);
    destroy(object);
}

void lh_handle_object_delete(struct lh_http_call *call, void *context)
{
    struct object_call *object = create_for_key(context, call, LH_TRANSFER_DELETE);
    if (object != NULL)
        send(object);
}

/* ---- list ---- */

static void append_time(struct lh_buf *out, uint64_t ms)
{
    char text[40];
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    size_t len = strftime(text, sizeof text, "\"%Y-%m-%dT%H:%M:%S", &tm);
    lh_buf_append(out, text, len);
    lh_buf_printf(out, ".%03uZ\"", (unsigned)(ms % 1000));
}

static void append_entry(struct lh_buf *out, const struct lh_object_entry *entry)
{
    lh_buf_append_str(out, LH_STR("{\"Key\":"));
    lh_buf_append_json_string(out, entry->key);
    lh_buf_printf(out, ",\"Size\":%" PRIu64 ",\"ETag\":", entry->size);
    lh_buf_append_json_string(out, lh_str_of(entry->etag));
    lh_buf_append_str(out, LH_STR(",\"LastModified\":"));
    append_time(out, entry->modified_ms);
    lh_buf_append_char(out, '}');
}

static void list_back(struct object_call *object, struct lh_http_call *call)
{
    const struct lh_transfer *transfer = object->transfer;
    struct lh_buf body = LH_BUF_EMPTY;
    if (call != NULL && transfer->error.status != LH_OK) {
        lh_http_answer_error(call, &transfer->error);
    } else if (call != NULL) {
        lh_buf_append_str(&body, LH_STR("{\"prefix\":"));
        lh_buf_append_json_string(&body, lh_buf_str(&transfer->key));
        lh_buf_append_str(&body, LH_STR(",\"objects\":["));
        for (uint32_t i = 0; i < transfer->entry_count; i++) {
            if (i > 0)
                lh_buf_append_char(&body, ',');
            append_entry(&body, &transfer->entries[i]);
        }
        lh_buf_printf(&body, "],\"truncated\":%s", transfer->is_truncated ? "true" : "false");
        if (transfer->is_truncated) {
            lh_buf_append_str(&body, LH_STR(",\"next_cursor\":\""));
            lh_object_cursor_append(&body, transfer->entries[transfer->entry_count - 1].key);
            lh_buf_append_char(&body, '"');
        }
        lh_buf_append_str(&body, LH_STR("}\n"));
        if (lh_buf_failed(&body)) {
            lh_buf_deinit(&body);
            refuse_for_memory(call);
        } else {
            lh_http_answer(call, 200, "application/json", &body);
        }
    }
    destroy(object);
}

void lh_handle_object_list(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_error error;
    struct lh_str prefix = LH_STR("");
    struct lh_str text;
    uint64_t limit = LH_OBJECT_LIST_MAX;
    if (!has_store(gateway, call))
        return;
    (void)lh_http_call_query(call, "prefix", &prefix);
    if (lh_http_call_query(call, "limit", &text) &&
        (!lh_str_to_u64(text, &limit) || limit == 0 || limit > LH_OBJECT_LIST_MAX)) {
        lh_error_set(&error, LH_INVALID_ARGUMENT, "limit: a number from 1 to %u",
                     LH_OBJECT_LIST_MAX);
        lh_http_answer_error(call, &error);
        return;
    }
    if (prefix.len > LH_OBJECT_KEY_BYTES_MAX) {
        lh_error_set(&error, LH_LIMIT_EXCEEDED, "prefix: a key has at most %u bytes",
                     LH_OBJECT_KEY_BYTES_MAX);
        lh_http_answer_error(call, &error);
        return;
    }
    if (!lh_str_is_utf8(prefix)) {
        lh_error_set(&error, LH_INVALID_ARGUMENT, "prefix: it is not UTF-8, as keys are");
        lh_http_answer_error(call, &error);
        return;
    }
    struct object_call *object = create(gateway, call, LH_TRANSFER_LIST, prefix);
    if (object == NULL)
        return;
    object->transfer->limit = (uint32_t)limit;
    if (lh_http_call_query(call, "cursor", &text) && text.len > 0 &&
        !lh_object_cursor_read(text, &object->transfer->cursor)) {
        lh_error_set(&error, LH_INVALID_CURSOR, "cursor: it is not from a list's next_cursor");
        lh_http_answer_error(call, &error);
        destroy(object);
        return;
    }
    send(object);
}

/* ---- back from the store ---- */

void lh__object_back(struct lh_gateway *gateway, struct lh_transfer *transfer)
{
    struct object_call *object = transfer->owner;
    struct lh_http_call *call =
        object->is_gone ? NULL : lh_http_find(gateway->http, object->ticket);
    object->is_out = false;
    switch (transfer->op) {
    case LH_TRANSFER_PUT:
        put_back(object, call);
        break;
    case LH_TRANSFER_GET:
        get_back(object, call);
        break;
    case LH_TRANSFER_DELETE:
        delete_back(object, call);
        break;
    case LH_TRANSFER_LIST:
        list_back(object, call);
        break;
    }
}
