/* GET, DELETE and LIST of storaged on S3. The actor's thread.
 *
 * Invariants of a GET: what has been received and not yet been sent on is in `held`, in order; a
 * try that is cut goes on behind what was received, of the same version of the object; no more goes
 * to the asker than the store has announced, and it goes well only when all of that has come. */
#include "actors/s3_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void answer_and_end(struct lh__s3_work *work)
{
    lh__s3_answer(work, true);
    lh__s3_work_destroy(work);
}

/* ---- GET ---- */

static void add_conditions(struct lh__s3_work *work)
{
    struct lh_s3_request *request = &work->call.request;
    lh_s3_add_header(request, "if-match", lh_buf_str(&work->if_match));
    lh_s3_add_header(request, "if-none-match", lh_buf_str(&work->if_none_match));
    lh_s3_add_header(request, "if-modified-since", lh_buf_str(&work->if_modified_since));
}

static void write_range(const struct lh_transfer *transfer, char text[96])
{
    if (transfer->is_range_suffix)
        snprintf(text, 96, "bytes=-%" PRIu64, transfer->range_last);
    else if (transfer->range_last == UINT64_MAX)
        snprintf(text, 96, "bytes=%" PRIu64 "-", transfer->range_first);
    else
        snprintf(text, 96, "bytes=%" PRIu64 "-%" PRIu64, transfer->range_first,
                 transfer->range_last);
}

/* The next try asks for what is missing, of the version that the first one had. */
static void continue_get(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    if (work->get.received > work->get.received_before)
        call->tries = 1; /* it got on: its tries count anew */
    work->get.received_before = work->get.received;
    if (work->get.received == 0)
        return;
    snprintf(work->text, sizeof work->text, "bytes=%" PRIu64 "-%" PRIu64,
             work->get.first + work->get.received, work->get.first + work->get.length - 1);
    work->if_match.len = 0;
    work->if_none_match.len = 0;
    work->if_modified_since.len = 0;
    lh_buf_printf(&work->if_match, "\"%s\"", work->get.info.etag);
    call->request.header_count = 0;
    lh_s3_add_header(&call->request, "range", lh_str_of(work->text));
    add_conditions(work);
}

static void describe(struct lh__s3_work *work)
{
    const struct lh__s3_head *head = &work->call.head;
    struct lh_object_info *info = &work->get.info;
    bool is_part = head->http == 206 && head->has_range;
    work->get.is_described = true;
    work->get.is_part = is_part;
    work->get.first = is_part ? head->range_first : 0;
    work->get.length = head->length;
    info->size = is_part ? head->range_size : head->length;
    info->modified_ms = head->modified_ms;
    memcpy(info->etag, head->etag, sizeof info->etag);
    memcpy(info->content_type, head->content_type, sizeof info->content_type);
    if (!head->has_length || (head->http == 206 && !head->has_range)) {
        work->get.is_broken = true;
        lh_error_set(&work->error, LH_BAD_GATEWAY,
                     "s3: the store does not say how long the object is");
    }
}

static void break_off(struct lh__s3_work *work, enum lh_status status, const char *why)
{
    work->get.is_broken = true;
    lh_error_set(&work->error, status, "%s", why);
}

/* The first bytes of a try that goes on: they are all that is asked for, of the same version. */
static bool is_continuation(const struct lh__s3_work *work)
{
    const struct lh__s3_head *head = &work->call.head;
    bool is_rest = !head->has_length || head->length == work->get.length - work->get.received;
    return is_rest && head->has_range && head->range_size == work->get.info.size &&
           head->range_first == work->get.first + work->get.received &&
           strcmp(head->etag, work->get.info.etag) == 0;
}

static bool take_bytes(struct lh__s3_call *call, struct lh_str bytes)
{
    struct lh__s3_work *work = call->owner;
    struct lh_buf *held = &work->get.held;
    if (work->get.is_broken)
        return true; /* dropped: the call is about to be cancelled */
    if (held->len > 0 && held->len + bytes.len > LH_S3_DOWNLOAD_BYTES_MAX)
        return false;
    if (work->get.received == 0)
        describe(work);
    else if (work->get.received == work->get.received_before && !is_continuation(work))
        break_off(work, LH_BAD_GATEWAY,
                  "s3: the connection broke, and the store does not go on where it did");
    if (!work->get.is_broken && bytes.len > work->get.length - work->get.received)
        break_off(work, LH_BAD_GATEWAY, "s3: the store sends more than it has announced");
    if (work->get.is_broken)
        return true;
    lh_buf_append_str(held, bytes);
    work->get.received += bytes.len;
    if (lh_buf_failed(held))
        break_off(work, LH_OUT_OF_MEMORY, "s3: not enough memory for an object");
    return true;
}

/* The answer to a HEAD has no body: a list of the bucket fails for the same reason, and says it. */
static void probe(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    work->get.is_probing = true;
    work->error = call->error;
    call->request = (struct lh_s3_request){.method = "GET"};
    call->on_body = NULL;
    call->before_retry = NULL;
    lh_s3_add_query(&call->request, "list-type", LH_STR("2"));
    lh_s3_add_query(&call->request, "max-keys", LH_STR("1"));
    lh__s3_call_start(call);
}

static void get_whole(struct lh__s3_work *work);

/* What has to come. */
static uint64_t body_length(const struct lh__s3_work *work)
{
    bool has_body = work->get.is_described && strcmp(work->call.request.method, "HEAD") != 0;
    return has_body ? work->get.length : 0;
}

static void get_done(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    long http = call->head.http;
    if (http == 412 && work->get.is_range_conditional && work->get.received == 0) {
        get_whole(work);
        return;
    }
    bool is_unexplained = call->code[0] == '\0' && http >= 300 && http < 500 && http != 404 &&
                          http != 412 && http != 416 && http != 304;
    if (!work->get.is_probing && strcmp(call->request.method, "HEAD") == 0 && is_unexplained) {
        probe(work);
        return;
    }
    work->get.is_done = true;
    if (work->get.is_broken)
        return;
    if (call->error.status != LH_OK && call->error.status != LH_PRECONDITION_FAILED)
        work->error = call->error;
    else if (call->error.status != LH_OK && work->get.received > 0)
        lh_error_set(&work->error, LH_BAD_GATEWAY, "s3: the object changed while it was read");
    else if (call->error.status != LH_OK)
        work->error = call->error;
    else if (!work->get.is_probing && !work->get.is_described && http != 304)
        describe(work); /* without a body */
    if (work->error.status == LH_OK && work->get.received < body_length(work))
        break_off(work, LH_BAD_GATEWAY, "s3: the store sends less than it has announced");
}

static void fill_description(struct lh__s3_work *work)
{
    struct lh_transfer *transfer = work->transfer;
    transfer->is_not_modified = work->call.head.http == 304;
    transfer->info = work->get.info;
    transfer->body_first = work->get.first;
    transfer->body_length = work->get.length;
    transfer->has_range = work->get.is_part;
    if (transfer->is_not_modified)
        memcpy(transfer->info.etag, work->call.head.etag, sizeof transfer->info.etag);
}

void lh__s3_read_deliver(struct lh__s3_work *work)
{
    struct lh_transfer *transfer = work->transfer;
    bool is_done = work->get.is_done || work->get.is_broken;
    if (transfer == NULL || (!is_done && work->get.held.len == 0))
        return;
    if (is_done && work->error.status != LH_OK) {
        lh__s3_call_cancel(&work->call);
        if (work->error.status == LH_RANGE_NOT_SATISFIABLE)
            transfer->info.size = work->call.head.range_size;
        answer_and_end(work);
        return;
    }
    fill_description(work);
    lh_buf_deinit(&transfer->piece);
    transfer->piece = lh_buf_take(&work->get.held);
    transfer->is_last = is_done;
    if (is_done) {
        answer_and_end(work);
        return;
    }
    lh__s3_answer(work, false);
    lh__s3_call_resume(&work->call);
}

/* S3 does not know If-Range. A part is asked for with If-Match or If-Unmodified-Since instead, and
 * when that fails, the whole. A weak tag, or a condition beside it, makes it whole at once. */
static void add_range(struct lh__s3_work *work)
{
    const struct lh_transfer *transfer = work->transfer;
    struct lh_s3_request *request = &work->call.request;
    struct lh_str condition = lh_buf_str(&transfer->if_range);
    if (condition.len > 0 && (lh_str_has_prefix(condition, LH_STR("W/")) || work->if_match.len > 0))
        return;
    write_range(transfer, work->text);
    lh_s3_add_header(request, "range", lh_str_of(work->text));
    if (condition.len == 0)
        return;
    work->get.is_range_conditional = true;
    lh_buf_append_str(&work->if_range, condition);
    lh_s3_add_header(request, condition.ptr[0] == '"' ? "if-match" : "if-unmodified-since",
                     lh_buf_str(&work->if_range));
}

/* If-Range does not hold: the whole object is wanted. */
static void get_whole(struct lh__s3_work *work)
{
    work->get.is_range_conditional = false;
    work->call.request.header_count = 0;
    add_conditions(work);
    lh__s3_call_start(&work->call);
}

static void begin_get(struct lh__s3_work *work)
{
    const struct lh_transfer *transfer = work->transfer;
    struct lh__s3_call *call = &work->call;
    call->request.method = transfer->want_body ? "GET" : "HEAD";
    call->request.key = lh_buf_str(&work->key);
    call->pace = transfer->want_body ? LH__S3_BODY : LH__S3_SHORT;
    call->on_body = take_bytes;
    call->before_retry = continue_get;
    call->on_done = get_done;
    lh_buf_append_str(&work->if_modified_since, lh_buf_str(&transfer->if_modified_since));
    if (transfer->has_range)
        add_range(work);
    add_conditions(work);
    lh__s3_call_start(call);
}

/* ---- DELETE ---- */

static void delete_done(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    if (call->error.status != LH_KEY_NOT_FOUND) /* gone is gone */
        work->error = call->error;
    answer_and_end(work);
}

static void begin_delete(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    call->request.method = "DELETE";
    call->request.key = lh_buf_str(&work->key);
    call->on_done = delete_done;
    add_conditions(work);
    lh__s3_call_start(call);
}

/* ---- LIST ---- */

static void begin_page(struct lh__s3_work *work)
{
    struct lh_s3_request *request = &work->call.request;
    uint32_t left = work->transfer->limit - work->list.count;
    *request = (struct lh_s3_request){.method = "GET"};
    snprintf(work->text, sizeof work->text, "%" PRIu32,
             left < LH_S3_PAGE_KEYS_MAX ? left : LH_S3_PAGE_KEYS_MAX);
    lh_s3_add_query(request, "list-type", LH_STR("2"));
    lh_s3_add_query(request, "encoding-type", LH_STR("url"));
    lh_s3_add_query(request, "max-keys", lh_str_of(work->text));
    if (work->key.len > 0)
        lh_s3_add_query(request, "prefix", lh_buf_str(&work->key));
    if (work->list.after.len > 0)
        lh_s3_add_query(request, "start-after", lh_buf_str(&work->list.after));
    lh__s3_call_start(&work->call);
}

static bool is_behind(struct lh_str key, struct lh_str before)
{
    size_t len = key.len < before.len ? key.len : before.len;
    int order = len > 0 ? memcmp(key.ptr, before.ptr, len) : 0;
    return order != 0 ? order > 0 : key.len > before.len;
}

static enum lh_status add_entries(struct lh__s3_work *work, const struct lh_s3_xml *page,
                                  struct lh_error *error)
{
    uint32_t count = work->list.count + page->entry_count;
    struct lh_object_entry *grown = realloc(work->list.entries, (count + 1) * sizeof *grown);
    if (grown == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a list");
    work->list.entries = grown;
    for (uint32_t i = 0; i < page->entry_count; i++) {
        const struct lh_s3_entry *from = &page->entries[i];
        struct lh_object_entry *to = &grown[work->list.count];
        /* A cursor is a key: it only works where lists are in byte order. */
        if (work->list.after.len > 0 && !is_behind(from->key, lh_buf_str(&work->list.after)))
            return lh_error_set(error, LH_BAD_GATEWAY,
                                "s3: the store does not list in the byte order of keys");
        *to = (struct lh_object_entry){
            .key = {NULL, from->key.len}, .size = from->size, .modified_ms = from->modified_ms};
        memcpy(to->etag, from->etag, sizeof to->etag);
        lh_buf_append_str(&work->list.keys, from->key);
        work->list.after.len = 0;
        lh_buf_append_str(&work->list.after, from->key);
        work->list.count++;
    }
    if (lh_buf_failed(&work->list.keys) || lh_buf_failed(&work->list.after))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a list");
    return LH_OK;
}

static void answer_list(struct lh__s3_work *work, bool is_truncated)
{
    struct lh_transfer *transfer = work->transfer;
    lh_buf_deinit(&transfer->keys);
    free(transfer->entries);
    transfer->keys = lh_buf_take(&work->list.keys);
    transfer->entries = work->list.entries;
    transfer->entry_count = work->list.count;
    transfer->is_truncated = is_truncated;
    work->list.entries = NULL;
    size_t at = 0;
    for (uint32_t i = 0; i < transfer->entry_count; i++) {
        transfer->entries[i].key.ptr = transfer->keys.ptr + at;
        at += transfer->entries[i].key.len;
    }
    answer_and_end(work);
}

static void page_done(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    struct lh_s3_xml page = {.document = LH_S3_ERROR};
    work->error = call->error;
    if (work->error.status == LH_OK) {
        enum lh_status status = lh_s3_xml_read(lh_buf_str(&call->answer), &page, &work->error);
        if (status == LH_OK && page.document != LH_S3_LIST)
            status = lh_error_set(&work->error, LH_BAD_GATEWAY, "s3: the answer is not a list");
        if (status == LH_OK)
            status = add_entries(work, &page, &work->error);
        if (status == LH_OK && page.is_truncated && page.entry_count == 0)
            lh_error_set(&work->error, LH_BAD_GATEWAY, "s3: a part of a list with nothing in it");
    }
    bool has_more = page.is_truncated;
    lh_s3_xml_deinit(&page);
    if (work->error.status != LH_OK)
        answer_and_end(work);
    else if (has_more && work->list.count < work->transfer->limit)
        begin_page(work);
    else
        answer_list(work, has_more);
}

static void begin_list(struct lh__s3_work *work)
{
    struct lh_transfer *transfer = work->transfer;
    if (transfer->limit == 0) {
        lh_error_set(&work->error, LH_INVALID_ARGUMENT, "limit: it is 0");
        answer_and_end(work);
        return;
    }
    lh_buf_append_str(&work->list.after, lh_buf_str(&transfer->cursor));
    work->call.on_done = page_done;
    begin_page(work);
}

/* ---- what a transfer asks ---- */

void lh__s3_read_begin(struct lh__s3_work *work)
{
    switch (work->op) {
    case LH_TRANSFER_GET:
        begin_get(work);
        break;
    case LH_TRANSFER_DELETE:
        begin_delete(work);
        break;
    case LH_TRANSFER_LIST:
        begin_list(work);
        break;
    case LH_TRANSFER_PUT:
        assert(false); /* s3_upload.c */
        break;
    }
}

void lh__s3_read_go_on(struct lh__s3_work *work)
{
    assert(work->op == LH_TRANSFER_GET); /* the others are over at once */
    if (!work->transfer->is_abort) {
        lh__s3_read_deliver(work);
        return;
    }
    lh__s3_call_cancel(&work->call);
    work->error = (struct lh_error){.status = LH_OK};
    answer_and_end(work);
}
