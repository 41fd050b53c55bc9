/* The actor: takes transfers, turns libcurl's multi handle, sends pieces back. Its thread runs
 * everything here but init and deinit, and sleeps in curl_multi_poll, which a push to its mailbox
 * wakes.
 *
 * Invariant: a transfer that has come is with exactly one work until it is sent back; a work lives
 * until its transfer is over and nothing of it is left at the store. */
#include "actors/s3_internal.h"

#include "base/clock.h"
#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>

#define CONNECTIONS_KEPT 64L
#define SLEEP_MS_MAX     1000u
#define CLEANUP_NS       5000000000u /* at a stop, for uploads that are being aborted */
#define NS_PER_MS        1000000u

/* ---- works ---- */

static struct lh__s3_work *work_create(struct lh_storaged_s3 *storaged,
                                       struct lh_transfer *transfer)
{
    struct lh__s3_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return NULL;
    work->storaged = storaged;
    work->op = transfer->op;
    work->call.storaged = storaged;
    work->call.owner = work;
    for (unsigned i = 0; i < LH__S3_SENDING_MAX; i++) {
        work->put.sending[i].call.storaged = storaged;
        work->put.sending[i].call.owner = work;
    }
    lh_buf_append_str(&work->key, lh_buf_str(&transfer->key));
    lh_buf_append_str(&work->if_match, lh_buf_str(&transfer->if_match));
    lh_buf_append_str(&work->if_none_match, lh_buf_str(&transfer->if_none_match));
    work->next = storaged->works;
    if (storaged->works != NULL)
        storaged->works->prev = work;
    storaged->works = work;
    return work;
}

void lh__s3_work_destroy(struct lh__s3_work *work)
{
    struct lh_storaged_s3 *storaged = work->storaged;
    assert(work->transfer == NULL && !work->put.is_in_room_queue);
    if (work->prev != NULL)
        work->prev->next = work->next;
    else
        storaged->works = work->next;
    if (work->next != NULL)
        work->next->prev = work->prev;
    lh__s3_call_deinit(&work->call);
    for (unsigned i = 0; i < LH__S3_SENDING_MAX; i++) {
        lh__s3_call_deinit(&work->put.sending[i].call);
        lh_buf_deinit(&work->put.sending[i].bytes);
    }
    lh_buf_deinit(&work->key);
    lh_buf_deinit(&work->if_match);
    lh_buf_deinit(&work->if_none_match);
    lh_buf_deinit(&work->if_modified_since);
    lh_buf_deinit(&work->if_range);
    lh_buf_deinit(&work->get.held);
    lh_buf_deinit(&work->list.after);
    lh_buf_deinit(&work->list.keys);
    free(work->list.entries);
    lh_buf_deinit(&work->put.piece);
    lh_buf_deinit(&work->put.part);
    lh_buf_deinit(&work->put.upload_id);
    lh_buf_deinit(&work->put.body);
    free(work->put.etags);
    free(work);
}

static void send_back(struct lh_transfer *transfer)
{
    transfer->head.lane = LH_LANE_EXPRESS;
    enum lh_status status = lh_mailbox_push(transfer->reply_to, &transfer->head);
    assert(status == LH_OK); /* an asker stops only when no transfer of its is out */
    (void)status;
}

void lh__s3_answer(struct lh__s3_work *work, bool is_over)
{
    struct lh_transfer *transfer = work->transfer;
    assert(transfer != NULL);
    transfer->error = work->error;
    transfer->is_over = is_over;
    if (is_over) {
        transfer->state = NULL;
        work->is_answered = true;
    }
    work->transfer = NULL;
    send_back(transfer);
}

/* ---- the mailbox ---- */

static enum lh_status check(const struct lh_transfer *transfer, struct lh_error *error)
{
    if (transfer->op == LH_TRANSFER_LIST)
        return LH_OK; /* a prefix may be anything */
    if (transfer->linked != NULL)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "no file here becomes an object there");
    return lh_s3_check_key(lh_buf_str(&transfer->key), error);
}

static void refuse(struct lh_transfer *transfer)
{
    transfer->is_over = true;
    send_back(transfer);
}

static void take(struct lh_storaged_s3 *storaged, struct lh_transfer *transfer)
{
    struct lh__s3_work *work = transfer->state;
    bool is_new = work == NULL;
    if (is_new) {
        transfer->error = (struct lh_error){.status = LH_OK};
        if (transfer->is_abort || check(transfer, &transfer->error) != LH_OK) {
            refuse(transfer);
            return;
        }
        work = work_create(storaged, transfer);
        if (work == NULL || lh_buf_failed(&work->key) || lh_buf_failed(&work->if_match) ||
            lh_buf_failed(&work->if_none_match)) {
            if (work != NULL)
                lh__s3_work_destroy(work);
            lh_error_set(&transfer->error, LH_OUT_OF_MEMORY, "not enough memory for a transfer");
            refuse(transfer);
            return;
        }
        transfer->state = work;
    }
    work->transfer = transfer;
    if (work->op == LH_TRANSFER_PUT)
        (is_new ? lh__s3_upload_begin : lh__s3_upload_go_on)(work);
    else
        (is_new ? lh__s3_read_begin : lh__s3_read_go_on)(work);
}

/* ---- the thread ---- */

static void deliver(struct lh_storaged_s3 *storaged)
{
    struct lh__s3_work *next;
    for (struct lh__s3_work *work = storaged->works; work != NULL; work = next) {
        next = work->next;
        if (work->op == LH_TRANSFER_GET)
            lh__s3_read_deliver(work);
    }
}

/* The mailbox is closed: an asker that has its transfer cannot send it back. */
static void abandon(struct lh_storaged_s3 *storaged)
{
    struct lh__s3_work *next;
    for (struct lh__s3_work *work = storaged->works; work != NULL; work = next) {
        next = work->next;
        if (work->transfer != NULL || work->is_answered)
            continue;
        work->is_answered = true;
        if (work->op == LH_TRANSFER_PUT) {
            lh__s3_upload_abandon(work);
        } else {
            lh__s3_call_cancel(&work->call);
            lh__s3_work_destroy(work);
        }
    }
}

/* Does anyone still wait for an answer, or is something being cleaned up that may take its time? */
static bool is_done(const struct lh_storaged_s3 *storaged, uint64_t stop_ns)
{
    for (const struct lh__s3_work *work = storaged->works; work != NULL; work = work->next)
        if (!work->is_answered)
            return false;
    return storaged->works == NULL || lh_clock_ns() > stop_ns + CLEANUP_NS;
}

static int sleep_ms(const struct lh_storaged_s3 *storaged)
{
    uint64_t now_ns = lh_clock_ns(), due_ns = lh__s3_calls_due(storaged);
    uint64_t ms = due_ns <= now_ns ? 0 : (due_ns - now_ns) / NS_PER_MS + 1;
    return (int)(ms < SLEEP_MS_MAX ? ms : SLEEP_MS_MAX);
}

static void run(void *self)
{
    struct lh_storaged_s3 *storaged = self;
    uint64_t stop_ns = 0;
    for (;;) {
        /* Asked before the poll: a push may come between a poll and the close. */
        bool is_shut = lh_mailbox_is_shut(&storaged->actor.mailbox);
        lh_actor_poll(&storaged->actor);
        for (struct lh_msg *msg; (msg = lh_actor_next(&storaged->actor)) != NULL;) {
            assert(msg->type == LH_MSG_TRANSFER);
            take(storaged, (struct lh_transfer *)msg);
        }
        lh__s3_calls_turn(storaged);
        deliver(storaged);
        lh__s3_rooms_turn(storaged);
        if (is_shut && stop_ns == 0)
            stop_ns = lh_clock_ns();
        if (is_shut)
            abandon(storaged);
        if (is_shut && is_done(storaged, stop_ns))
            return;
        curl_multi_poll(storaged->multi, NULL, 0, sleep_ms(storaged), NULL);
    }
}

/* ---- start and end ---- */

static void probed(struct lh__s3_call *call)
{
    struct lh_storaged_s3 *storaged = call->storaged;
    const struct lh_s3 *s3 = storaged->options.s3;
    if (call->error.status == LH_OK) /* a failure has its line already */
        lh_log_line(storaged->options.log, LH_LOG_INFO, "s3 store answers",
                    LH_LOG_STR("endpoint", lh_s3_endpoint(s3)),
                    LH_LOG_STR("bucket", lh_s3_bucket(s3)));
}

/* A wrong secret or bucket is better seen in the log at the start than at the first request. */
static enum lh_status make_probe(struct lh_storaged_s3 *storaged)
{
    storaged->probe = calloc(1, sizeof *storaged->probe);
    if (storaged->probe == NULL)
        return LH_OUT_OF_MEMORY;
    storaged->probe->storaged = storaged;
    storaged->probe->request.method = "GET";
    storaged->probe->on_done = probed;
    lh_s3_add_query(&storaged->probe->request, "list-type", LH_STR("2"));
    lh_s3_add_query(&storaged->probe->request, "max-keys", LH_STR("1"));
    lh__s3_call_start(storaged->probe);
    return LH_OK;
}

static void wake(void *multi)
{
    curl_multi_wakeup(multi);
}

enum lh_status lh_storaged_s3_init(struct lh_storaged_s3 *storaged,
                                   const struct lh_storaged_s3_options *options,
                                   struct lh_error *error)
{
    *storaged = (struct lh_storaged_s3){.options = *options, .random = lh_clock_ns() | 1};
    if (storaged->options.single_put_bytes == 0)
        storaged->options.single_put_bytes = LH_S3_SINGLE_PUT_BYTES;
    if (storaged->options.part_bytes == 0)
        storaged->options.part_bytes = LH_S3_PART_BYTES;
    if (storaged->options.upload_bytes_max == 0)
        storaged->options.upload_bytes_max = LH_S3_UPLOAD_BYTES_MAX;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
        storaged->multi = curl_multi_init();
    if (storaged->multi == NULL || make_probe(storaged) != LH_OK) {
        if (storaged->multi != NULL)
            curl_multi_cleanup(storaged->multi);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for storaged on S3");
    }
    curl_multi_setopt(storaged->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    lh_actor_init(&storaged->actor, "storaged", run, storaged);
    lh_actor_wake_by(&storaged->actor, wake, storaged->multi);
    return LH_OK;
}

void lh_storaged_s3_deinit(struct lh_storaged_s3 *storaged)
{
    while (storaged->calls != NULL)
        lh__s3_call_cancel(storaged->calls);
    while (storaged->works != NULL)
        lh__s3_work_destroy(storaged->works);
    lh__s3_call_deinit(storaged->probe);
    free(storaged->probe);
    curl_multi_cleanup(storaged->multi);
    lh_actor_deinit(&storaged->actor);
    lh_s3_destroy(storaged->options.s3);
}
