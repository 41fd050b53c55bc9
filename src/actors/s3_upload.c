/* PUT of storaged on S3. The actor's thread.
 *
 * What comes is collected into parts; a part that is full goes out while the next one is filled,
 * and its asker is only asked for more when there is room. An object that ends before one part is
 * full, or that is announced as short, is one PUT.
 *
 * Invariant: the bytes of a part stay until the store has answered for it. Every byte that is kept
 * is part of a room promised before; a promise for a whole part is made at once, so uploads never
 * wait for one another in a circle. An upload that ends in any other way than well leaves nothing
 * at the store: its parts are cut off, or waited for where the store may have all of them, then the
 * upload is aborted there. */
#include "actors/s3_internal.h"

#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOM_WAIT_NS   30000000000u
#define PARTS_A_SIZE   2000u /* unknown length: after so many parts they are twice as large */
#define ETAGS_GROWN_BY 256u
#define DEFAULT_MEDIA  "application/octet-stream"
#define MIB            (1ull << 20)

static void go_on(struct lh__s3_work *work);
static void fail(struct lh__s3_work *work);

/* ---- room ---- */

/* One always has room, so that a part larger than all of it can go up, too. */
static bool has_room_for(const struct lh_storaged_s3 *storaged, uint64_t bytes)
{
    return storaged->upload_bytes == 0 ||
           storaged->upload_bytes + bytes <= storaged->options.upload_bytes_max;
}

static void take_room(struct lh__s3_work *work)
{
    struct lh_storaged_s3 *storaged = work->storaged;
    work->put.has_room = true;
    storaged->upload_bytes += work->put.room;
    lh_counter_set(&storaged->metrics.upload_bytes, storaged->upload_bytes);
}

static void give_room(struct lh_storaged_s3 *storaged, uint64_t bytes)
{
    assert(storaged->upload_bytes >= bytes);
    storaged->upload_bytes -= bytes;
    lh_counter_set(&storaged->metrics.upload_bytes, storaged->upload_bytes);
}

static void queue_for_room(struct lh__s3_work *work)
{
    struct lh_storaged_s3 *storaged = work->storaged;
    work->put.is_in_room_queue = true;
    work->put.room_next = NULL;
    work->put.room_deadline_ns = lh_clock_ns() + ROOM_WAIT_NS;
    if (storaged->room_last != NULL)
        storaged->room_last->put.room_next = work;
    else
        storaged->room_first = work;
    storaged->room_last = work;
}

static void leave_room_queue(struct lh__s3_work *work)
{
    struct lh_storaged_s3 *storaged = work->storaged;
    struct lh__s3_work *before = NULL;
    if (!work->put.is_in_room_queue)
        return;
    for (struct lh__s3_work *at = storaged->room_first; at != work; at = at->put.room_next)
        before = at;
    if (before != NULL)
        before->put.room_next = work->put.room_next;
    else
        storaged->room_first = work->put.room_next;
    if (storaged->room_last == work)
        storaged->room_last = before;
    work->put.is_in_room_queue = false;
}

void lh__s3_rooms_turn(struct lh_storaged_s3 *storaged)
{
    struct lh__s3_work *work;
    while ((work = storaged->room_first) != NULL) {
        if (has_room_for(storaged, work->put.room)) {
            leave_room_queue(work);
            take_room(work);
            go_on(work);
        } else if (lh_clock_ns() > work->put.room_deadline_ns) {
            leave_room_queue(work);
            lh_error_set(&work->error, LH_OVERLOADED,
                         "too many uploads wait for the S3 store, try again");
            fail(work);
        } else {
            return;
        }
    }
}

/* ---- sizes ---- */

static bool is_length_known(const struct lh__s3_work *work)
{
    return work->put.length != LH_HTTP_LENGTH_UNKNOWN;
}

/* How long the part that comes next will be, at most. */
static uint64_t part_bytes(const struct lh__s3_work *work)
{
    const struct lh_storaged_s3_options *options = &work->storaged->options;
    uint64_t bytes = options->part_bytes;
    if (!is_length_known(work))
        return bytes << (work->put.part_count / PARTS_A_SIZE);
    if (work->put.length <= options->single_put_bytes)
        return work->put.length;
    uint64_t least = (work->put.length / LH_S3_PARTS_MAX / MIB + 1) * MIB;
    uint64_t left = work->put.length - work->put.came;
    if (bytes < least)
        bytes = least;
    return bytes < left ? bytes : left;
}

/* ---- the end ---- */

static bool is_quiet(const struct lh__s3_work *work)
{
    bool is_active = work->call.is_active;
    for (unsigned i = 0; i < LH__S3_SENDING_MAX; i++)
        is_active = is_active || work->put.sending[i].call.is_active;
    return !is_active;
}

static void drop_part(struct lh__s3_work *work, struct lh__s3_part *part)
{
    lh__s3_call_cancel(&part->call);
    if (part->is_used)
        give_room(work->storaged, part->room);
    part->is_used = false;
    lh_buf_deinit(&part->bytes);
}

/* The store may have all of it, and keep it, whether the connection is cut or not: what it keeps
 * after the abort stays there. */
static bool may_be_kept(const struct lh__s3_part *part)
{
    return part->call.easy != NULL && part->call.sent == part->call.request.body.len;
}

/* But for that of parts whose answer is waited for. */
static void give_all_room(struct lh__s3_work *work)
{
    leave_room_queue(work);
    if (work->put.has_room)
        give_room(work->storaged, work->put.room);
    work->put.has_room = false;
    lh_buf_deinit(&work->put.part);
    lh_buf_deinit(&work->put.piece);
    for (unsigned i = 0; i < LH__S3_SENDING_MAX; i++) {
        struct lh__s3_part *part = &work->put.sending[i];
        if (may_be_kept(part))
            part->call.tries = LH_S3_TRIES_MAX;
        else
            drop_part(work, part);
    }
}

/* All that is left is to tell the asker, who may have the transfer just now. */
static void end(struct lh__s3_work *work)
{
    assert(is_quiet(work));
    give_all_room(work);
    if (work->transfer != NULL)
        lh__s3_answer(work, true);
    if (work->is_answered)
        lh__s3_work_destroy(work);
}

static void abort_done(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    work->put.upload_id.len = 0; /* gone; or the store has refused six times, as the log says */
    end(work);
}

static void abort_upload(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    call->request = (struct lh_s3_request){.method = "DELETE", .key = lh_buf_str(&work->key)};
    lh_s3_add_query(&call->request, "uploadId", lh_buf_str(&work->put.upload_id));
    call->pace = LH__S3_SHORT;
    call->may_fail_late = false;
    call->on_done = abort_done;
    lh__s3_call_start(call);
}

/* It has failed, for the work's error, or its asker wants it gone. An asker that waits is told of a
 * failure at once, and of the abort that it wanted when it is done. */
static void fail(struct lh__s3_work *work)
{
    work->put.is_failing = true;
    give_all_room(work);
    if (work->transfer != NULL && !work->put.is_aborting)
        lh__s3_answer(work, true);
    if (!is_quiet(work))
        return; /* on_done comes back: first the parts are over, then the upload is aborted */
    if (work->put.upload_id.len > 0)
        abort_upload(work);
    else
        end(work);
}

static void fail_for(struct lh__s3_work *work, const struct lh_error *error)
{
    if (work->error.status == LH_OK)
        work->error = *error;
    fail(work);
}

static void succeed(struct lh__s3_work *work, const char *etag)
{
    struct lh_object_info *info = &work->transfer->info;
    snprintf(info->etag, sizeof info->etag, "%s", etag);
    info->size = work->put.came;
    info->modified_ms = lh_clock_wall_ms(); /* S3 does not say; within the clocks' difference */
    work->put.upload_id.len = 0;
    end(work);
}

/* ---- one PUT ---- */

static void put_done(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    if (call->error.status != LH_OK)
        fail_for(work, &call->error);
    else
        succeed(work, call->head.etag);
}

static void add_conditions(struct lh__s3_work *work, struct lh_s3_request *request)
{
    lh_s3_add_header(request, "if-match", lh_buf_str(&work->if_match));
    lh_s3_add_header(request, "if-none-match", lh_buf_str(&work->if_none_match));
}

static void put_whole(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    call->request = (struct lh_s3_request){
        .method = "PUT", .key = lh_buf_str(&work->key), .body = lh_buf_str(&work->put.part)};
    lh_s3_add_header(&call->request, "content-type", lh_str_of(work->put.content_type));
    add_conditions(work, &call->request);
    call->pace = LH__S3_BODY;
    call->on_done = put_done;
    work->put.is_closing = true;
    lh__s3_call_start(call);
}

/* ---- parts ---- */

static void part_done(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    struct lh__s3_part *part = (struct lh__s3_part *)call;
    if (work->put.is_failing) {
        drop_part(work, part);
        fail(work);
        return;
    }
    if (call->error.status != LH_OK) {
        fail_for(work, &call->error);
        return;
    }
    if (call->head.etag[0] == '\0') {
        lh_error_set(&work->error, LH_BAD_GATEWAY, "s3: the store gives a part no ETag");
        fail(work);
        return;
    }
    uint32_t number = (uint32_t)strtoul(part->number, NULL, 10);
    memcpy(work->put.etags[number - 1], call->head.etag, sizeof call->head.etag);
    drop_part(work, part);
    go_on(work);
}

static void send_part(struct lh__s3_work *work, struct lh__s3_part *part)
{
    struct lh__s3_call *call = &part->call;
    call->request = (struct lh_s3_request){
        .method = "PUT", .key = lh_buf_str(&work->key), .body = lh_buf_str(&part->bytes)};
    lh_s3_add_query(&call->request, "partNumber", lh_str_of(part->number));
    lh_s3_add_query(&call->request, "uploadId", lh_buf_str(&work->put.upload_id));
    call->pace = LH__S3_BODY;
    call->on_done = part_done;
    lh__s3_call_start(call);
}

static void initiated(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    struct lh_s3_xml xml = {.document = LH_S3_ERROR};
    struct lh_error error = call->error;
    if (error.status == LH_OK && lh_s3_xml_read(lh_buf_str(&call->answer), &xml, &error) == LH_OK) {
        if (xml.document == LH_S3_INITIATE && xml.upload_id.len > 0)
            work->put.upload_id = lh_buf_take(&xml.upload_id);
        else
            lh_error_set(&error, LH_BAD_GATEWAY, "s3: the store begins an upload without its id");
    }
    lh_s3_xml_deinit(&xml);
    if (error.status != LH_OK || work->put.is_failing) {
        fail_for(work, &error);
        return;
    }
    for (unsigned i = 0; i < LH__S3_SENDING_MAX; i++)
        if (work->put.sending[i].is_used)
            send_part(work, &work->put.sending[i]);
    go_on(work);
}

static void initiate(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    work->put.is_multipart = true;
    call->request = (struct lh_s3_request){.method = "POST", .key = lh_buf_str(&work->key)};
    lh_s3_add_query(&call->request, "uploads", (struct lh_str){"", 0});
    lh_s3_add_header(&call->request, "content-type", lh_str_of(work->put.content_type));
    call->pace = LH__S3_SHORT;
    call->on_done = initiated;
    lh__s3_call_start(call);
}

/* Room for one more ETag. */
static bool grow_etags(struct lh__s3_work *work)
{
    if (work->put.part_count % ETAGS_GROWN_BY != 0)
        return true;
    void *grown =
        realloc(work->put.etags, (work->put.part_count + ETAGS_GROWN_BY) * sizeof *work->put.etags);
    if (grown != NULL)
        work->put.etags = grown;
    return grown != NULL;
}

/* Moves the part that is full on its way. False: both that may be are. */
static bool hand_over_part(struct lh__s3_work *work)
{
    struct lh__s3_part *part = &work->put.sending[0];
    while (part < work->put.sending + LH__S3_SENDING_MAX && part->is_used)
        part++;
    if (part == work->put.sending + LH__S3_SENDING_MAX)
        return false;
    if (work->put.part_count == LH_S3_PARTS_MAX) {
        lh_error_set(&work->error, LH_BODY_TOO_LARGE, "the object has more than %u parts",
                     LH_S3_PARTS_MAX);
        return true;
    }
    if (!grow_etags(work)) {
        lh_error_set(&work->error, LH_OUT_OF_MEMORY, "not enough memory for an upload");
        return true;
    }
    part->is_used = true;
    part->bytes = lh_buf_take(&work->put.part);
    part->room = work->put.room;
    work->put.has_room = false;
    snprintf(part->number, sizeof part->number, "%" PRIu32, ++work->put.part_count);
    if (!work->put.is_multipart)
        initiate(work);
    else if (work->put.upload_id.len > 0)
        send_part(work, part);
    return true;
}

/* ---- putting the parts together ---- */

static void complete(struct lh__s3_work *work);

/* The answer to an earlier try may have been lost: is the object there? */
static void looked(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    char count[16];
    size_t len = (size_t)snprintf(count, sizeof count, "-%" PRIu32, work->put.part_count);
    size_t etag_len = strlen(call->head.etag);
    bool is_ours = call->error.status == LH_OK && call->head.length == work->put.came &&
                   etag_len > len && strcmp(call->head.etag + etag_len - len, count) == 0;
    if (is_ours) {
        succeed(work, call->head.etag);
        return;
    }
    lh_error_set(&work->error, LH_BAD_GATEWAY, "s3: the store has lost the upload (NoSuchUpload)");
    fail(work);
}

static void look(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    call->request = (struct lh_s3_request){.method = "HEAD", .key = lh_buf_str(&work->key)};
    call->pace = LH__S3_SHORT;
    call->may_fail_late = false;
    call->on_done = looked;
    lh__s3_call_start(call);
}

static void completed(struct lh__s3_call *call)
{
    struct lh__s3_work *work = call->owner;
    struct lh_s3_xml xml = {.document = LH_S3_ERROR};
    struct lh_error error = call->error;
    if (call->tries > 1 && strcmp(call->code, "NoSuchUpload") == 0) {
        look(work);
        return;
    }
    if (error.status == LH_OK && lh_s3_xml_read(lh_buf_str(&call->answer), &xml, &error) == LH_OK &&
        xml.document != LH_S3_COMPLETE)
        lh_error_set(&error, LH_BAD_GATEWAY, "s3: the store does not say that the upload is whole");
    if (error.status == LH_OK)
        succeed(work, xml.etag);
    lh_s3_xml_deinit(&xml);
    if (error.status != LH_OK)
        fail_for(work, &error);
}

static void complete(struct lh__s3_work *work)
{
    struct lh__s3_call *call = &work->call;
    lh_s3_xml_complete(&work->put.body, (const void *)work->put.etags, work->put.part_count);
    if (lh_buf_failed(&work->put.body)) {
        lh_error_set(&work->error, LH_OUT_OF_MEMORY, "not enough memory for an upload");
        fail(work);
        return;
    }
    call->request = (struct lh_s3_request){
        .method = "POST", .key = lh_buf_str(&work->key), .body = lh_buf_str(&work->put.body)};
    lh_s3_add_query(&call->request, "uploadId", lh_buf_str(&work->put.upload_id));
    add_conditions(work, &call->request);
    call->pace = LH__S3_SLOW;
    call->may_fail_late = true;
    call->on_done = completed;
    work->put.is_closing = true;
    lh__s3_call_start(call);
}

/* ---- what comes in ---- */

/* Moves what fits from the piece to the part. */
static void fill_part(struct lh__s3_work *work)
{
    struct lh_buf *part = &work->put.part;
    size_t left = work->put.piece.len - work->put.piece_at;
    size_t room = (size_t)work->put.room - part->len;
    size_t len = left < room ? left : room;
    if (len > 0 && is_length_known(work) && part->cap == 0 &&
        lh_buf_reserve(part, (size_t)work->put.room) != LH_OK)
        part->failed = true;
    lh_buf_append(part, work->put.piece.ptr + work->put.piece_at, len);
    work->put.piece_at += len;
    work->put.came += len;
    if (lh_buf_failed(part))
        lh_error_set(&work->error, LH_OUT_OF_MEMORY, "not enough memory for an upload");
}

static void check_length(struct lh__s3_work *work)
{
    uint64_t came = work->put.came + (work->put.piece.len - work->put.piece_at);
    if (is_length_known(work) &&
        (came > work->put.length || (work->put.has_all && came < work->put.length)))
        lh_error_set(&work->error, LH_INVALID_ARGUMENT,
                     "the body: %" PRIu64 " bytes were announced, %" PRIu64 "%s came",
                     work->put.length, came, came > work->put.length ? " or more" : "");
}

/* All has come. */
static void close_upload(struct lh__s3_work *work)
{
    bool is_sending = false;
    if (!work->put.is_multipart) {
        put_whole(work);
        return;
    }
    if (work->put.part.len > 0 && !hand_over_part(work))
        return;
    if (work->error.status != LH_OK) {
        fail(work);
        return;
    }
    for (unsigned i = 0; i < LH__S3_SENDING_MAX; i++)
        is_sending = is_sending || work->put.sending[i].is_used;
    if (!is_sending)
        complete(work);
}

/* Takes as much as there is room for; asks for more when all is taken. */
static void go_on(struct lh__s3_work *work)
{
    if (work->put.is_failing || work->put.is_closing || work->put.is_in_room_queue)
        return;
    while (work->error.status == LH_OK && work->put.piece_at < work->put.piece.len) {
        bool is_single =
            is_length_known(work) && work->put.length <= work->storaged->options.single_put_bytes;
        if (!work->put.has_room) {
            work->put.room = part_bytes(work);
            if (work->storaged->room_first != NULL ||
                !has_room_for(work->storaged, work->put.room)) {
                queue_for_room(work);
                return;
            }
            take_room(work);
        }
        fill_part(work);
        if (work->error.status == LH_OK && !is_single && work->put.part.len == work->put.room &&
            !hand_over_part(work))
            return; /* a part that is done comes back here */
    }
    if (work->error.status != LH_OK) {
        fail(work);
        return;
    }
    if (work->put.has_all)
        close_upload(work);
    else if (work->transfer != NULL)
        lh__s3_answer(work, false);
}

static void take_piece(struct lh__s3_work *work)
{
    struct lh_transfer *transfer = work->transfer;
    lh_buf_deinit(&work->put.piece);
    work->put.piece = lh_buf_take(&transfer->piece);
    work->put.piece_at = transfer->piece_at;
    work->put.has_all = transfer->is_last;
    check_length(work);
    go_on(work);
}

void lh__s3_upload_begin(struct lh__s3_work *work)
{
    struct lh_transfer *transfer = work->transfer;
    const char *type = transfer->info.content_type;
    work->put.length = transfer->length;
    snprintf(work->put.content_type, sizeof work->put.content_type, "%s",
             type[0] != '\0' ? type : DEFAULT_MEDIA);
    if (is_length_known(work) && work->put.length > LH_S3_OBJECT_BYTES_MAX)
        lh_error_set(&work->error, LH_BODY_TOO_LARGE, "the object is longer than S3's 5 TiB");
    take_piece(work);
}

void lh__s3_upload_go_on(struct lh__s3_work *work)
{
    if (work->put.is_failing) { /* meanwhile */
        bool is_over = is_quiet(work);
        lh__s3_answer(work, true);
        if (is_over)
            lh__s3_work_destroy(work);
        return;
    }
    if (work->transfer->is_abort) {
        work->put.is_aborting = true;
        fail(work);
        return;
    }
    take_piece(work);
}

void lh__s3_upload_abandon(struct lh__s3_work *work)
{
    if (work->put.is_failing) {
        if (is_quiet(work))
            end(work);
        return;
    }
    fail(work);
}
