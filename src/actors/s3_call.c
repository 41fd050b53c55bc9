/* One request to S3 over libcurl's multi interface, and its repetitions. The actor's thread.
 *
 * What can go better a little later is tried again, LH_S3_TRIES_MAX times in all, with exponential
 * backoff and jitter; each try is signed anew. Every request that is made here can be repeated:
 * its body is in memory, and doing it twice is doing it once.
 *
 * Invariant: a call in the actor's list either waits for `due_ns` or has its handle in the multi
 * handle, and on_done is called only from lh__s3_calls_turn. */
#include "actors/s3_internal.h"

#include "base/clock.h"
#include "net/curl.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_S 5L
#define STALLED_BYTES_S   1024L /* slower than this ... */
#define STALLED_S         30L   /* ... for so long: it hangs */
#define SHORT_TIMEOUT_S   30L
#define SLOW_TIMEOUT_S    300L
#define BACKOFF_FIRST_MS  200u
#define BACKOFF_MAX_MS    5000u
#define BUFFER_BYTES      (128L << 10)
#define NS_PER_MS         1000000u

_Static_assert(sizeof((struct lh__s3_call *)0)->detail >= CURL_ERROR_SIZE, "libcurl writes there");

/* ---- what libcurl calls ---- */

static size_t send_body(char *to, size_t size, size_t count, void *arg)
{
    struct lh__s3_call *call = arg;
    size_t left = call->request.body.len - call->sent;
    size_t len = left < size * count ? left : size * count;
    if (len > 0)
        memcpy(to, call->request.body.ptr + call->sent, len);
    call->sent += len;
    return len;
}

/* libcurl starts a body anew when a kept connection turns out to be dead. */
static int rewind_body(void *arg, curl_off_t offset, int origin)
{
    struct lh__s3_call *call = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > call->request.body.len)
        return CURL_SEEKFUNC_FAIL;
    call->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static void note_http(struct lh__s3_call *call)
{
    if (call->head.http == 0)
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->head.http);
}

static bool is_good(const struct lh__s3_call *call)
{
    return call->head.http >= 200 && call->head.http < 300;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct lh__s3_call *call = arg;
    size_t len = size * count;
    note_http(call);
    if (is_good(call) && call->on_body != NULL) {
        call->is_paused = !call->on_body(call, (struct lh_str){bytes, len});
        return call->is_paused ? CURL_WRITEFUNC_PAUSE : len;
    }
    if (call->answer.len + len > LH_S3_ANSWER_BYTES_MAX)
        return 0;
    lh_buf_append(&call->answer, bytes, len);
    return lh_buf_failed(&call->answer) ? 0 : len;
}

static void copy(char *to, size_t size, struct lh_str value)
{
    snprintf(to, size, "%.*s", (int)(value.len < size ? value.len : size - 1), value.ptr);
}

/* "bytes 0-9/443", or with 416 only "bytes *" and the size. */
static void read_content_range(struct lh__s3_head *head, struct lh_str value)
{
    unsigned long long first = 0, last = 0, all = 0;
    char z[96];
    copy(z, sizeof z, value);
    head->has_range =
        sscanf(z, "bytes %llu-%llu/%llu", &first, &last, &all) == 3 && first <= last && last < all;
    if (!head->has_range && sscanf(z, "bytes */%llu", &all) != 1)
        all = 0;
    head->range_first = first;
    head->range_size = all;
}

static void read_modified(struct lh__s3_head *head, struct lh_str value)
{
    char z[64];
    copy(z, sizeof z, value);
    time_t seconds = curl_getdate(z, NULL);
    head->modified_ms = seconds > 0 ? (uint64_t)seconds * 1000 : 0;
}

static size_t take_header(char *bytes, size_t size, size_t count, void *arg)
{
    struct lh__s3_call *call = arg;
    struct lh__s3_head *head = &call->head;
    struct lh_str line = {bytes, size * count};
    while (line.len > 0 && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
        line.len--;
    const char *colon = line.len > 0 ? memchr(line.ptr, ':', line.len) : NULL;
    if (lh_str_has_prefix(line, LH_STR("HTTP/")))
        *head = (struct lh__s3_head){0}; /* what came before was 100-continue */
    if (colon == NULL)
        return size * count;
    struct lh_str name = {line.ptr, (size_t)(colon - line.ptr)};
    struct lh_str value = lh_str_trim((struct lh_str){colon + 1, line.len - name.len - 1});
    if (lh_str_eq_nocase(name, LH_STR("etag")))
        lh_s3_etag(value, head->etag);
    else if (lh_str_eq_nocase(name, LH_STR("content-type")))
        copy(head->content_type, sizeof head->content_type, value);
    else if (lh_str_eq_nocase(name, LH_STR("content-length")))
        head->has_length = lh_str_to_u64(value, &head->length);
    else if (lh_str_eq_nocase(name, LH_STR("content-range")))
        read_content_range(head, value);
    else if (lh_str_eq_nocase(name, LH_STR("last-modified")))
        read_modified(head, value);
    else if (lh_str_eq_nocase(name, LH_STR("x-amz-bucket-region")))
        copy(head->bucket_region, sizeof head->bucket_region, value);
    else if (lh_str_eq_nocase(name, LH_STR("date")))
        copy(head->date, sizeof head->date, value);
    return size * count;
}

/* ---- a try ---- */

static void set_pace(struct lh__s3_call *call)
{
    CURL *curl = call->easy;
    if (call->pace == LH__S3_SLOW) {
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, SLOW_TIMEOUT_S);
        return;
    }
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALLED_BYTES_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALLED_S);
    if (call->pace == LH__S3_SHORT)
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, SHORT_TIMEOUT_S);
}

static void set_method(struct lh__s3_call *call)
{
    CURL *curl = call->easy;
    const char *method = call->request.method;
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else if (strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->request.body.len);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, send_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, call);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, rewind_body);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, call);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    } else {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    }
}

static void set_up(struct lh__s3_call *call)
{
    CURL *curl = call->easy;
    const struct lh_curl_call common = {
        .url = call->wire.url.ptr,
        .user_agent = "lakehoused/" LH_VERSION,
        .headers = call->lines,
        .connect_timeout_s = CONNECT_TIMEOUT_S,
        .detail = call->detail,
    };
    lh_curl_begin(curl, &common);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* "a/../b" is a key */
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, call);
    set_pace(call);
    set_method(call);
}

static enum lh_status make_lines(struct lh__s3_call *call)
{
    /* Without it, libcurl waits a second for leave to send a body. */
    struct curl_slist *lines = curl_slist_append(NULL, "Expect:");
    const struct lh_buf *headers = &call->wire.headers;
    for (size_t at = 0; at < headers->len && lines != NULL; at += strlen(headers->ptr + at) + 1) {
        struct curl_slist *longer = curl_slist_append(lines, headers->ptr + at);
        if (longer == NULL)
            curl_slist_free_all(lines);
        lines = longer;
    }
    call->lines = lines;
    return lines != NULL ? LH_OK : LH_OUT_OF_MEMORY;
}

static enum lh_status begin_try(struct lh__s3_call *call)
{
    struct lh_storaged_s3 *storaged = call->storaged;
    enum lh_status status = lh_s3_prepare(storaged->options.s3, &call->request, lh_clock_wall_ms(),
                                          &call->wire, &call->error);
    if (status != LH_OK)
        return status;
    call->head = (struct lh__s3_head){0};
    call->answer.len = 0;
    call->sent = 0;
    call->is_paused = false;
    call->detail[0] = '\0';
    call->easy = curl_easy_init();
    if (call->easy == NULL || make_lines(call) != LH_OK)
        return lh_error_set(&call->error, LH_OUT_OF_MEMORY, "s3: not enough memory for a request");
    set_up(call);
    if (curl_multi_add_handle(storaged->multi, call->easy) != CURLM_OK)
        return lh_error_set(&call->error, LH_OUT_OF_MEMORY, "s3: not enough memory for a request");
    call->tries++;
    lh_counter_add(&storaged->metrics.requests, 1);
    return LH_OK;
}

static void end_try(struct lh__s3_call *call)
{
    if (call->easy != NULL) {
        curl_multi_remove_handle(call->storaged->multi, call->easy);
        curl_easy_cleanup(call->easy);
    }
    curl_slist_free_all(call->lines);
    call->easy = NULL;
    call->lines = NULL;
}

/* ---- how a try ended ---- */

/* Why there was no answer. */
static bool explain_carrier(struct lh__s3_call *call, CURLcode code)
{
    struct lh_str endpoint = lh_s3_endpoint(call->storaged->options.s3);
    const char *detail = call->detail[0] != '\0' ? call->detail : curl_easy_strerror(code);
    long sys_errno = 0;
    curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &sys_errno);
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        lh_error_set(&call->error, LH_GATEWAY_TIMEOUT, "s3: %.*s does not answer in time",
                     LH_STR_FMT(endpoint));
        return true;
    case CURLE_COULDNT_RESOLVE_HOST:
        lh_error_set(&call->error, LH_BAD_GATEWAY, "s3.endpoint: %.*s: no such host",
                     LH_STR_FMT(endpoint));
        return true;
    case CURLE_COULDNT_CONNECT:
        lh_error_set(&call->error, LH_BAD_GATEWAY, "s3.endpoint: %.*s: %s", LH_STR_FMT(endpoint),
                     sys_errno != 0 ? strerror((int)sys_errno) : "no connection");
        return true;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        lh_error_set(&call->error, LH_BAD_GATEWAY, "s3.endpoint: %.*s: TLS: %.80s",
                     LH_STR_FMT(endpoint), detail);
        return false;
    case CURLE_OUT_OF_MEMORY:
        lh_error_set(&call->error, LH_OUT_OF_MEMORY, "s3: not enough memory for a request");
        return false;
    case CURLE_WRITE_ERROR: /* take_body's own */
        lh_error_set(&call->error, LH_BAD_GATEWAY, "s3: an answer of more than %u bytes",
                     LH_S3_ANSWER_BYTES_MAX);
        return false;
    default:
        lh_error_set(&call->error, LH_BAD_GATEWAY, "s3: %.*s: %.80s", LH_STR_FMT(endpoint),
                     code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ||
                             code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE
                         ? "the connection broke"
                         : detail);
        return true;
    }
}

/* Whether the body of a good answer is an error all the same. */
static bool has_failed_late(struct lh__s3_call *call)
{
    struct lh_s3_xml xml;
    struct lh_error unread;
    if (!call->may_fail_late)
        return false;
    bool is_error = lh_s3_xml_read(lh_buf_str(&call->answer), &xml, &unread) == LH_OK &&
                    xml.document == LH_S3_ERROR;
    lh_s3_xml_deinit(&xml);
    return is_error;
}

/* Fills the call's error. True: it may go better a little later. */
static bool judge(struct lh__s3_call *call, CURLcode code)
{
    call->error = (struct lh_error){.status = LH_OK};
    call->code[0] = '\0';
    note_http(call);
    /* A store that refuses a body early may close before it has all; its answer is what counts. */
    bool is_answered = code == CURLE_OK || call->head.http >= 300;
    if (!is_answered)
        return explain_carrier(call, code);
    if ((is_good(call) && !has_failed_late(call)) || call->head.http == 304)
        return false;
    struct lh_s3_failure failure = {.http = call->head.http,
                                    .body = lh_buf_str(&call->answer),
                                    .bucket_region = call->head.bucket_region,
                                    .server_date = call->head.date,
                                    .signed_date = call->wire.date};
    enum lh_status status = lh_s3_explain(call->storaged->options.s3, &failure, &call->error);
    assert(status != LH_OK);
    (void)status;
    snprintf(call->code, sizeof call->code, "%s", failure.code);
    return failure.may_repeat;
}

/* xorshift64*; jitter needs no more. */
static uint64_t next_random(struct lh_storaged_s3 *storaged)
{
    uint64_t x = storaged->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    storaged->random = x;
    return x * 0x2545f4914f6cdd1dull;
}

/* Half of the backoff for certain, the other half by chance. */
static uint64_t backoff_ns(struct lh__s3_call *call)
{
    uint64_t ms = (uint64_t)BACKOFF_FIRST_MS << (call->tries - 1);
    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    return (ms / 2 + next_random(call->storaged) % (ms / 2 + 1)) * NS_PER_MS;
}

static void unlink_call(struct lh__s3_call *call)
{
    struct lh_storaged_s3 *storaged = call->storaged;
    assert(call->is_active);
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        storaged->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    call->next = call->prev = NULL;
    call->is_active = false;
}

/* What the asker is told as a matter of course. */
static bool is_expected(enum lh_status status)
{
    return status == LH_OK || status == LH_KEY_NOT_FOUND || status == LH_PRECONDITION_FAILED ||
           status == LH_RANGE_NOT_SATISFIABLE || status == LH_INVALID_ARGUMENT ||
           status == LH_NOT_IMPLEMENTED;
}

static void finish(struct lh__s3_call *call)
{
    const struct lh_log *log = call->storaged->options.log;
    unlink_call(call);
    if (!is_expected(call->error.status)) {
        lh_counter_add(&call->storaged->metrics.failures, 1);
        lh_log_line(log, LH_LOG_WARN, "s3 request failed",
                    LH_LOG_TEXT("method", call->request.method),
                    LH_LOG_STR("key", call->request.key), LH_LOG_U64("tries", call->tries),
                    LH_LOG_TEXT("error", call->error.text));
    }
    call->on_done(call);
}

static void try_ended(struct lh__s3_call *call, CURLcode code)
{
    bool may_repeat = judge(call, code);
    end_try(call);
    if (!may_repeat || call->tries >= LH_S3_TRIES_MAX) {
        finish(call);
        return;
    }
    lh_counter_add(&call->storaged->metrics.retries, 1);
    call->due_ns = lh_clock_ns() + backoff_ns(call);
    lh_log_line(call->storaged->options.log, LH_LOG_DEBUG, "s3 request is tried again",
                LH_LOG_TEXT("method", call->request.method), LH_LOG_STR("key", call->request.key),
                LH_LOG_U64("tries", call->tries), LH_LOG_TEXT("error", call->error.text));
}

/* ---- calls ---- */

void lh__s3_call_start(struct lh__s3_call *call)
{
    struct lh_storaged_s3 *storaged = call->storaged;
    assert(!call->is_active && call->easy == NULL && call->on_done != NULL);
    call->tries = 0;
    call->due_ns = 0;
    call->is_active = true;
    call->next = storaged->calls;
    call->prev = NULL;
    if (storaged->calls != NULL)
        storaged->calls->prev = call;
    storaged->calls = call;
}

void lh__s3_call_cancel(struct lh__s3_call *call)
{
    if (!call->is_active)
        return;
    end_try(call);
    unlink_call(call);
}

void lh__s3_call_resume(struct lh__s3_call *call)
{
    if (!call->is_paused || call->easy == NULL)
        return;
    call->is_paused = false;
    curl_easy_pause(call->easy, CURLPAUSE_CONT); /* may call take_body, and pause it again */
}

void lh__s3_call_deinit(struct lh__s3_call *call)
{
    assert(!call->is_active);
    lh_s3_wire_deinit(&call->wire);
    lh_buf_deinit(&call->answer);
}

static void begin_due(struct lh_storaged_s3 *storaged)
{
    uint64_t now_ns = lh_clock_ns();
    struct lh__s3_call *call = storaged->calls;
    while (call != NULL) {
        if (call->easy != NULL || call->due_ns > now_ns) {
            call = call->next;
            continue;
        }
        if (call->tries > 0 && call->before_retry != NULL)
            call->before_retry(call);
        enum lh_status status = begin_try(call);
        if (status == LH_OK) {
            call = call->next;
            continue;
        }
        end_try(call);
        finish(call);
        call = storaged->calls; /* what on_done did to the list is not known */
    }
}

void lh__s3_calls_turn(struct lh_storaged_s3 *storaged)
{
    int running = 0, left = 0;
    CURLMsg *message;
    begin_due(storaged);
    curl_multi_perform(storaged->multi, &running);
    while ((message = curl_multi_info_read(storaged->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        struct lh__s3_call *call = NULL;
        CURLcode code = message->data.result; /* the message goes with the handle */
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        try_ended(call, code);
    }
}

uint64_t lh__s3_calls_due(const struct lh_storaged_s3 *storaged)
{
    uint64_t due_ns = UINT64_MAX;
    for (const struct lh__s3_call *call = storaged->calls; call != NULL; call = call->next)
        if (call->easy == NULL && call->due_ns < due_ns)
            due_ns = call->due_ns;
    return due_ns;
}
