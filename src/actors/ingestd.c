/* The ingest service on the loop: uploads, whose turn it is, and what became of whom.
 *
 * Of an upload one piece is with the spool while the next gathers; past that its socket is not
 * read. Workers get jobs in the order of arrival, but no two at a time that touch the same dataset:
 * of two that would make it, the second finds it made, and neither deletes what the other stores.
 *
 * Invariant: a job that is not over is with the spool (`is_out`), with a worker (`worker`), waits
 * for one (`is_waiting`), or is an upload of which less than a piece has gathered here. */
#include "actors/ingestd.h"

#include "actors/gateway.h"
#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS    1000000000ull
#define KEPT_NS      (3600 * SECOND_NS) /* what became of an ingest can be asked for so long */
#define KEPT_COUNT   256u               /* and of so many */
#define GATHER_BYTES (64u << 10) /* past a piece, so that the last read into it is no short one */
#define SETTLED_MS   15000u      /* a registration whose answer was lost is over, or was none */

static bool is_over(const struct lh_ingest_job *job)
{
    return lh_counter_get(&job->state) >= LH_INGEST_DONE;
}

/* ---- the list ---- */

static void append(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    struct lh_ingest_job **link = &ingestd->jobs;
    while (*link != NULL)
        link = &(*link)->next;
    *link = job;
}

static void unlink_job(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    struct lh_ingest_job **link = &ingestd->jobs;
    while (*link != job)
        link = &(*link)->next;
    *link = job->next;
    job->next = NULL;
}

void lh__ingestd_add(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    append(ingestd, job);
    job->ingestd = ingestd;
    ingestd->active += job->kind == LH_INGEST_UPLOAD;
}

struct lh_ingest_job *lh__ingestd_find(const struct lh_ingestd *ingestd, struct lh_str id)
{
    struct lh_ingest_job *found = NULL;
    for (struct lh_ingest_job *job = ingestd->jobs; job != NULL; job = job->next)
        if (job->kind == LH_INGEST_UPLOAD && lh_str_eq(lh_str_of(job->id), id))
            found = job;
    return found;
}

static void forget(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    unlink_job(ingestd, job);
    lh_ingest_job_destroy(job);
}

/* Of those that are over, the oldest go. */
static void forget_old(struct lh_ingestd *ingestd)
{
    uint64_t now = lh_clock_ns();
    for (struct lh_ingest_job *job = ingestd->jobs, *next; job != NULL; job = next) {
        next = job->next;
        if (job->kind == LH_INGEST_UPLOAD && is_over(job) &&
            (ingestd->over > KEPT_COUNT || now - job->ended_ns > KEPT_NS)) {
            ingestd->over--;
            forget(ingestd, job);
        }
    }
}

/* ---- turns ---- */

static bool is_free(const struct lh_ingestd *ingestd, const struct lh_ingest_job *job)
{
    for (uint32_t i = 0; i < ingestd->workers_made; i++) {
        const struct lh_ingest_job *other = ingestd->workers[i].given;
        if (other != NULL &&
            (strcmp(other->name, job->name) == 0 || strcmp(other->rejected_name, job->name) == 0 ||
             strcmp(other->name, job->rejected_name) == 0))
            return false;
    }
    return true;
}

static void dispatch(struct lh_ingestd *ingestd)
{
    struct lh_ingest_job *job = ingestd->jobs;
    for (uint32_t i = 0; i < ingestd->workers_made; i++) {
        struct lh_ingest_worker *worker = &ingestd->workers[i];
        if (worker->given != NULL)
            continue;
        while (job != NULL && !(job->is_waiting && is_free(ingestd, job)))
            job = job->next;
        if (job == NULL)
            return;
        job->is_waiting = false;
        job->worker = worker;
        worker->given = job;
        enum lh_status status = lh_actor_send(&worker->actor, &job->head);
        assert(status == LH_OK); /* the workers stop after the loop */
        (void)status;
    }
}

/* ---- ends ---- */

static void answer(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    struct lh_http_call *call = lh_http_find(ingestd->options.http, job->ticket);
    struct lh_buf body = LH_BUF_EMPTY;
    if (call == NULL)
        return;
    if (job->error.status != LH_OK) {
        lh_http_answer_error(call, &job->error);
        return;
    }
    lh_buf_append_str(&body, lh_buf_str(&job->answer)); /* its own is kept: GET answers it again */
    if (lh_buf_failed(&job->answer) || lh_buf_failed(&body))
        lh_http_answer_error(call, &(struct lh_error){.status = LH_OUT_OF_MEMORY});
    else
        lh_http_answer(call, job->http_status, "application/json", &body);
    lh_buf_deinit(&body);
}

/* The job is nobody's any more. */
static void finish(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    bool was_given_up = job->is_abort || job->error.status == LH_CANCELLED;
    if (was_given_up && job->ending.status != LH_OK)
        job->error = job->ending;
    answer(ingestd, job);
    lh_counter_set(&job->state, job->error.status == LH_OK ? LH_INGEST_DONE : LH_INGEST_FAILED);
    job->ended_ns = lh_clock_ns();
    lh_buf_deinit(&job->piece);
    lh_buf_deinit(&job->gathered);
    ingestd->active--;
    ingestd->over++;
    unlink_job(ingestd, job); /* those that are over stand in the order in which they ended */
    append(ingestd, job);
    forget_old(ingestd);
}

static void send_to_spool(struct lh_ingest_job *job)
{
    job->is_out = true;
    enum lh_status status = lh_actor_send(&job->ingestd->spool.actor, &job->head);
    assert(status == LH_OK); /* the spool stops after the loop */
    (void)status;
}

void lh__ingestd_end(struct lh_ingest_job *job, enum lh_status status, const char *why)
{
    if (job->ending.status == LH_OK)
        lh_error_set(&job->ending, status, "%s", why);
    lh_counter_set(&job->is_cancelled, 1);
    if (job->worker != NULL) {
        if (job->worker->is_connected)
            lh_ingest_interrupt(job->worker->ingest);
    } else if (!job->is_out) {
        job->is_waiting = false;
        job->is_abort = true;
        send_to_spool(job);
    }
}

/* ---- uploads ---- */

static void set_paused(struct lh_ingest_job *job, bool is_paused)
{
    struct lh_http_call *call = lh_http_find(job->ingestd->options.http, job->ticket);
    if (call == NULL || job->is_paused == is_paused)
        return;
    job->is_paused = is_paused;
    if (is_paused)
        lh_http_call_pause(call);
    else
        lh_http_call_resume(call);
}

/* Sends what has gathered; the buffer that came back empty gathers next. */
static void send_piece(struct lh_ingest_job *job)
{
    struct lh_buf empty = job->piece;
    job->piece = job->gathered;
    job->is_last = job->has_ended;
    empty.len = 0;
    job->gathered = empty;
    send_to_spool(job);
}

static void back_from_spool(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    job->is_out = false;
    if (job->is_abort || job->error.status != LH_OK) {
        finish(ingestd, job);
    } else if (job->ending.status != LH_OK) {
        job->is_abort = true;
        send_to_spool(job);
    } else if (job->is_last) {
        lh__ingest_read_form(job);
        lh_counter_set(&job->state, LH_INGEST_CONVERTING);
        lh_buf_deinit(&job->piece);
        lh_buf_deinit(&job->gathered);
        job->is_waiting = true;
        dispatch(ingestd);
    } else {
        if (job->has_ended || job->gathered.len >= LH_INGEST_PIECE_BYTES)
            send_piece(job);
        set_paused(job, false); /* last: it may deliver bytes at once */
    }
}

/* Room for a piece, and for what may come with its last bytes. */
static bool reserve_gathered(struct lh_ingest_job *job)
{
    return job->gathered.cap > 0 ||
           lh_buf_reserve(&job->gathered, LH_INGEST_PIECE_BYTES + GATHER_BYTES) == LH_OK;
}

static char *on_room(void *arg, size_t *room)
{
    struct lh_ingest_job *job = arg;
    if (job->ending.status != LH_OK || !reserve_gathered(job))
        return NULL;
    *room = job->gathered.cap - job->gathered.len;
    return job->gathered.ptr + job->gathered.len;
}

static void on_data(struct lh_http_call *call, void *arg, struct lh_str piece)
{
    struct lh_ingest_job *job = arg;
    if (job->ending.status != LH_OK)
        return;
    if (lh_http_call_body_length(call) == LH_HTTP_LENGTH_UNKNOWN)
        lh_access_count_bytes(job->ingestd->options.access, call, piece.len);
    job->bytes += piece.len;
    if (job->bytes > job->ingestd->bytes_max) {
        lh__ingestd_end(job, LH_BODY_TOO_LARGE,
                        "the upload is larger than ingestd.max_ingest_bytes allows");
        lh_http_answer_error(call, &job->ending);
        return;
    }
    if (reserve_gathered(job) && piece.ptr == job->gathered.ptr + job->gathered.len)
        job->gathered.len += piece.len; /* it was read to there */
    else
        lh_buf_append_str(&job->gathered, piece);
    if (lh_buf_failed(&job->gathered)) {
        lh__ingestd_end(job, LH_OUT_OF_MEMORY, "not enough memory for the upload");
        return;
    }
    if (job->gathered.len < LH_INGEST_PIECE_BYTES)
        return;
    if (job->is_out)
        set_paused(job, true);
    else
        send_piece(job);
}

static void on_end(struct lh_http_call *call, void *arg)
{
    struct lh_ingest_job *job = arg;
    job->has_ended = true;
    if (!job->is_out && job->ending.status == LH_OK)
        send_piece(job);
    (void)call;
}

static void on_gone(void *arg)
{
    struct lh_ingest_job *job = arg;
    if (!is_over(job))
        lh__ingestd_end(job, LH_CANCELLED, "the client went away");
}

static void refuse(struct lh_http_call *call, const struct lh_error *error)
{
    lh_http_answer_error(call, error);
}

/* Whether the service can take an upload now, and the caller may. */
static enum lh_status check_call(struct lh_ingestd *ingestd, struct lh_http_call *call,
                                 struct lh_error *error)
{
    uint64_t length = lh_http_call_body_length(call);
    if (ingestd->sql == NULL) {
        *error = ingestd->reason;
        return error->status;
    }
    if (length != LH_HTTP_LENGTH_UNKNOWN && length > ingestd->bytes_max)
        return lh_error_set(error, LH_BODY_TOO_LARGE,
                            "%" PRIu64 " bytes, ingestd.max_ingest_bytes is %" PRIu64, length,
                            ingestd->bytes_max);
    if (ingestd->active < LH_INGESTS_MAX)
        return LH_OK;
    ingestd->refused++;
    return lh_error_set(error, LH_OVERLOADED, "%u ingests are under way, the limit: try again",
                        ingestd->active);
}

/* A token that is limited to prefixes reaches the datasets whose folders they allow. False: it was
 * answered. */
static bool may_reach(struct lh_ingestd *ingestd, struct lh_http_call *call, const char *name)
{
    const struct lh_token *token;
    struct lh_error error;
    char folder[sizeof LH_DATASET_FOLDER + LH_NAME_BYTES_MAX + 1];
    if (!lh_access_token(ingestd->options.access, call, &token))
        return false;
    snprintf(folder, sizeof folder, LH_DATASET_FOLDER "%s/", name);
    if (token == NULL || lh_token_allows_prefix(token, lh_str_of(folder)))
        return true;
    lh_error_set(&error, LH_FORBIDDEN, "token \"%.64s\" is limited, and not to dataset \"%.60s\"",
                 token->name, name);
    refuse(call, &error);
    return false;
}

static bool may_reach_all(struct lh_ingestd *ingestd, struct lh_http_call *call,
                          const struct lh_ingest_job *job)
{
    return may_reach(ingestd, call, job->name) &&
           (*job->rejected_name == '\0' || may_reach(ingestd, call, job->rejected_name));
}

static enum lh_status choose_id(const struct lh_ingestd *ingestd, const struct lh_http_call *call,
                                struct lh_ingest_job *job, struct lh_error *error)
{
    char made[LH_REQUEST_ID_MADE_BYTES];
    struct lh_str id = lh_http_call_request_id_text(call, made);
    const struct lh_ingest_job *other = lh__ingestd_find(ingestd, id);
    if (other != NULL && !is_over(other))
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "X-Request-Id: an ingest with this id is under way");
    assert(id.len <= LH_REQUEST_ID_BYTES_MAX);
    memcpy(job->id, id.ptr, id.len);
    return LH_OK;
}

void lh_handle_ingest(struct lh_http_call *call, void *context)
{
    struct lh_ingestd *ingestd = ((struct lh_gateway *)context)->ingestd;
    struct lh_error error;
    if (check_call(ingestd, call, &error) != LH_OK) {
        refuse(call, &error);
        return;
    }
    struct lh_ingest_job *job = lh_ingest_job_create(LH_INGEST_UPLOAD);
    if (job == NULL) {
        refuse(call, &(struct lh_error){.status = LH_OUT_OF_MEMORY});
        return;
    }
    enum lh_status status = lh__ingest_read_call(call, job, &error);
    if (status == LH_OK)
        status = choose_id(ingestd, call, job, &error);
    if (status != LH_OK)
        refuse(call, &error);
    if (status != LH_OK || !may_reach_all(ingestd, call, job)) {
        lh_ingest_job_destroy(job);
        return;
    }
    job->ticket = lh_http_call_ticket(call);
    job->number = ingestd->next_number++;
    lh__ingestd_add(ingestd, job);
    lh_http_call_stream(call, &(struct lh_http_stream){.on_data = on_data,
                                                       .on_room = on_room,
                                                       .on_end = on_end,
                                                       .on_gone = on_gone,
                                                       .arg = job});
}

/* ---- what became of it ---- */

/* While a worker has the job, `rows` is the worker's. */
static uint64_t rows_of(const struct lh_ingest_job *job)
{
    if (job->worker == NULL)
        return job->rows;
    bool has_begun = job->worker->is_connected && lh_counter_get(&job->has_begun) != 0;
    return has_begun ? lh_ingest_rows(job->worker->ingest) : 0;
}

/* The job that the path names. NULL: it was answered. */
static struct lh_ingest_job *job_of(struct lh_ingestd *ingestd, struct lh_http_call *call)
{
    struct lh_error error;
    struct lh_ingest_job *job = NULL;
    if (ingestd->sql == NULL) {
        refuse(call, &ingestd->reason);
        return NULL;
    }
    job = lh__ingestd_find(ingestd, lh_http_call_param(call, 0));
    if (job != NULL)
        return may_reach(ingestd, call, job->name) ? job : NULL;
    lh_error_set(&error, LH_INGEST_NOT_FOUND, "no ingest of this id is known");
    refuse(call, &error);
    return NULL;
}

void lh_handle_ingest_get(struct lh_http_call *call, void *context)
{
    static const char *const states[] = {"uploading",   "converting", "storing",
                                         "registering", "done",       "failed"};
    struct lh_buf body = LH_BUF_EMPTY;
    const struct lh_ingest_job *job = job_of(((struct lh_gateway *)context)->ingestd, call);
    if (job == NULL)
        return;
    lh_buf_append_str(&body, LH_STR("{\"request_id\":"));
    lh_buf_append_json_string(&body, lh_str_of(job->id));
    lh_buf_append_str(&body, LH_STR(",\"name\":"));
    lh_buf_append_json_string(&body, lh_str_of(job->name));
    lh_buf_printf(&body, ",\"state\":\"%s\",\"bytes_received\":%" PRIu64 ",\"rows\":%" PRIu64,
                  states[lh_counter_get(&job->state)], job->bytes, rows_of(job));
    if (is_over(job) && job->error.status != LH_OK) {
        lh_buf_printf(
            &body, ",\"error\":{\"code\":\"%s\",\"message\":", lh_status_code(job->error.status));
        lh_buf_append_json_string(&body, lh_str_of(job->error.text));
        lh_buf_append_char(&body, '}');
    } else if (is_over(job) && !lh_buf_failed(&job->answer)) {
        lh_buf_append_str(&body, LH_STR(",\"result\":"));
        lh_buf_append_str(&body, lh_buf_str(&job->answer));
    }
    lh_buf_append_str(&body, LH_STR("}\n"));
    lh_http_answer(call, 200, "application/json", &body);
}

void lh_handle_ingest_cancel(struct lh_http_call *call, void *context)
{
    struct lh_ingestd *ingestd = ((struct lh_gateway *)context)->ingestd;
    struct lh_ingest_job *job = job_of(ingestd, call);
    struct lh_error error;
    if (job == NULL)
        return;
    if (lh_counter_get(&job->state) >= LH_INGEST_REGISTERING ||
        (!lh_counter_swap(&job->fate, LH_INGEST_OPEN, LH_INGEST_CANCELLED) &&
         lh_counter_get(&job->fate) == LH_INGEST_REGISTERED)) {
        lh_error_set(&error, LH_INGEST_NOT_FOUND, "the ingest is %s",
                     is_over(job) ? "over" : "past the point where it can be cancelled");
        refuse(call, &error);
        return;
    }
    ingestd->cancelled++;
    lh__ingestd_end(job, LH_CANCELLED, "the ingest was cancelled");
    lh_http_answer(call, 204, NULL, NULL);
}

/* ---- messages and time ---- */

/* Sweeps what a failed ingest could not, later. */
static void sweep_later(struct lh_ingestd *ingestd, const struct lh_ingest_job *failed)
{
    struct lh_ingest_job *job = lh_ingest_job_create(LH_INGEST_SWEEP);
    if (job == NULL)
        return; /* the next start finds it */
    memcpy(job->name, failed->name, sizeof job->name);
    memcpy(job->rejected_name, failed->rejected_name, sizeof job->rejected_name);
    job->number = failed->number;
    job->backoff_ms = failed->is_unsettled ? SETTLED_MS : lh_clock_backoff_ms(0);
    job->retry_ns = lh_clock_ns() + job->backoff_ms * 1000000;
    lh__ingestd_add(ingestd, job);
}

static void back_from_worker(struct lh_ingestd *ingestd, struct lh_ingest_job *job)
{
    job->worker->given = NULL;
    job->worker = NULL;
    if (job->kind == LH_INGEST_UPLOAD) {
        if (job->leaves_objects)
            sweep_later(ingestd, job);
        finish(ingestd, job);
    } else if (job->error.status == LH_OK) {
        forget(ingestd, job);
    } else {
        lh_log_line(ingestd->options.log, LH_LOG_INFO,
                    "objects of a failed ingest are still there: tried again",
                    LH_LOG_TEXT("dataset", job->name), LH_LOG_TEXT("reason", job->error.text));
        job->backoff_ms = lh_clock_backoff_ms(job->backoff_ms);
        job->retry_ns = lh_clock_ns() + job->backoff_ms * 1000000;
        job->error = (struct lh_error){.status = LH_OK};
    }
    dispatch(ingestd);
}

void lh_ingestd_on_message(struct lh_ingestd *ingestd, struct lh_msg *msg)
{
    if (msg->type == LH_MSG_INGEST_READY) {
        ((struct lh_ingest_ready *)msg)->worker->is_connected = true;
        return;
    }
    assert(msg->type == LH_MSG_INGEST);
    struct lh_ingest_job *job = (struct lh_ingest_job *)msg;
    if (job->worker != NULL)
        back_from_worker(ingestd, job);
    else
        back_from_spool(ingestd, job);
}

/* Whether nobody waits for the answer. */
static bool is_gone(const struct lh_ingestd *ingestd, const struct lh_ingest_job *job)
{
    const struct lh_http_call *call = lh_http_find(ingestd->options.http, job->ticket);
    return call == NULL || lh_http_call_has_fin(call);
}

void lh_ingestd_on_tick(struct lh_ingestd *ingestd, bool is_stopping)
{
    uint64_t now = lh_clock_ns();
    for (struct lh_ingest_job *job = ingestd->jobs; job != NULL; job = job->next) {
        if (job->kind == LH_INGEST_SWEEP) {
            bool is_due = job->retry_ns != 0 && job->retry_ns <= now && !is_stopping;
            job->is_waiting |= is_due;
            job->retry_ns = is_due ? 0 : job->retry_ns;
            job->is_waiting &= !is_stopping;
        } else if (!is_over(job) && job->ending.status != LH_OK) {
            lh__ingestd_end(job, LH_OK, ""); /* again: an interrupt can come too early */
        } else if (!is_over(job) && is_gone(ingestd, job)) {
            lh__ingestd_end(job, LH_CANCELLED, "the client went away");
        } else if (!is_over(job) && is_stopping) {
            lh__ingestd_end(job, LH_STOPPING, "the server is stopping");
        }
    }
    dispatch(ingestd);
    forget_old(ingestd);
}

bool lh_ingestd_is_idle(const struct lh_ingestd *ingestd)
{
    for (uint32_t i = 0; i < ingestd->workers_made; i++)
        if (ingestd->workers[i].given != NULL)
            return false; /* a sweep */
    return ingestd->active == 0;
}
