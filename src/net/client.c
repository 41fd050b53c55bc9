/* Outgoing HTTP over libcurl's easy interface. Runs on the thread that owns the client.
 *
 * Invariant: between two calls the handle holds no pointer into a call, since each begins by
 * resetting every option; the connection outlives that. */
#include "net/client.h"

#include "net/curl.h"
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_S 5L
#define STALLED_BYTES_S   1024L /* slower than this ... */
#define STALLED_S         30L   /* ... for so long: it hangs */
#define SHORT_CALL_S      10L
#define BUFFER_BYTES      (512L << 10) /* few reads and writes an object */

struct lh_http_client {
    struct lh_http_client_options options;
    char *url;   /* without a slash at its end */
    char *token; /* NULL: none */
    CURL *curl;
    char detail[CURL_ERROR_SIZE];
};

/* One call while it is under way. */
struct call {
    struct lh_http_client *client;
    const char *method;
    const char *path;
    const struct lh_http_source *source;
    uint64_t sent;
    const struct lh_http_ask *ask; /* NULL: only 200 counts */
    struct lh_http_told *told;
    const char *content_type; /* NULL: none is sent */
    bool is_new;              /* If-None-Match: * */
    const struct lh_http_sink *sink;
    bool is_head;
    enum lh_status status; /* of source, sink or cancellation */
    struct lh_error *error;
};

enum lh_status lh_http_client_create(const struct lh_http_client_options *options,
                                     struct lh_http_client **client, struct lh_error *error)
{
    struct lh_http_client *made = calloc(1, sizeof *made);
    size_t len = options->url.len;
    while (len > 0 && options->url.ptr[len - 1] == '/')
        len--;
    if (made != NULL && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
        made->options = *options;
        made->url = strndup(options->url.ptr, len);
        made->token = options->token != NULL ? strdup(options->token) : NULL;
        made->curl = curl_easy_init();
    }
    if (made == NULL || made->url == NULL || made->curl == NULL ||
        (options->token != NULL && made->token == NULL)) {
        lh_http_client_destroy(made);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for an HTTP client");
    }
    *client = made;
    return LH_OK;
}

void lh_http_client_destroy(struct lh_http_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    free(client->url);
    free(client->token);
    free(client);
}

/* ---- what libcurl calls ---- */

static size_t read_body(char *to, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    uint64_t left = call->source->length - call->sent;
    size_t len = left < size * count ? (size_t)left : size * count;
    if (len == 0)
        return 0;
    call->status = call->source->read(call->sent, to, len, call->source->arg, call->error);
    if (call->status != LH_OK)
        return CURL_READFUNC_ABORT;
    call->sent += len;
    return len;
}

/* A body that starts anew. */
static int seek_body(void *arg, curl_off_t offset, int origin)
{
    struct call *call = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > call->source->length)
        return CURL_SEEKFUNC_FAIL;
    call->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t write_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct call *call = arg;
    long http = 0;
    curl_easy_getinfo(call->client->curl, CURLINFO_RESPONSE_CODE, &http);
    if ((http != 200 && call->ask == NULL) || call->sink == NULL)
        return size * count; /* what an error has to say is not for us */
    call->status =
        call->sink->write((struct lh_str){bytes, size * count}, call->sink->arg, call->error);
    return call->status == LH_OK ? size * count : 0;
}

static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                       curl_off_t up)
{
    struct call *call = arg;
    const struct lh_http_client_options *options = &call->client->options;
    (void)down_all, (void)down, (void)up_all, (void)up;
    if (options->is_cancelled == NULL || !options->is_cancelled(options->arg))
        return 0;
    call->status =
        lh_error_set(call->error, LH_CLOSED, "%s %s: cancelled", call->method, call->path);
    return 1;
}

/* ---- a call ---- */

static void set_up_ask(CURL *curl, const struct lh_http_ask *ask)
{
    if (ask == NULL || ask->content_type == NULL)
        return;
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)ask->body.len);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, ask->body.ptr);
}

static void set_up(struct call *call, const char *url, struct curl_slist *headers)
{
    struct lh_http_client *client = call->client;
    CURL *curl = client->curl;
    const struct lh_curl_call common = {
        .url = url,
        .user_agent = "lakehoused/" LH_VERSION,
        .headers = headers,
        .connect_timeout_s = CONNECT_TIMEOUT_S,
        .token = client->token,
        .detail = client->detail,
    };
    lh_curl_begin(curl, &common);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALLED_BYTES_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALLED_S);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, write_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, call);
    if (call->source != NULL) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->source->length);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, read_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, call);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, seek_body);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, call);
    } else if (call->is_head) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        curl_easy_setopt(curl, CURLOPT_FILETIME, 1L);
    } else {
        set_up_ask(curl, call->ask);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    }
}

/* Why there was no whole answer. */
static enum lh_status refuse(struct call *call, CURLcode code)
{
    struct lh_http_client *client = call->client;
    return lh_error_set(call->error, LH_IO, "%s %.60s: %.90s", call->method, call->path,
                        lh_curl_reason(client->curl, code, client->detail));
}

/* What a whole answer that was not the one hoped for means. */
static enum lh_status status_of(long http)
{
    switch (http) {
    case 404:
        return LH_NOT_FOUND;
    case 501:
        return LH_NOT_IMPLEMENTED;
    case 412:
        return LH_PRECONDITION_FAILED;
    case 429:
    case 503:
        return LH_OVERLOADED;
    case 507:
        return LH_NO_SPACE;
    default:
        return LH_IO;
    }
}

/* Takes `headers`, which may be NULL; NULL: no memory. */
static struct curl_slist *add_header(struct curl_slist *headers, const char *line)
{
    struct curl_slist *longer = headers != NULL ? curl_slist_append(headers, line) : NULL;
    if (longer == NULL)
        curl_slist_free_all(headers);
    return longer;
}

/* NULL: no memory. */
static struct curl_slist *make_headers(const struct call *call)
{
    char line[300];
    /* Without it, libcurl waits a second for leave to send a body. */
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (call->content_type != NULL) {
        snprintf(line, sizeof line, "Content-Type: %s", call->content_type);
        headers = add_header(headers, line);
    }
    return call->is_new ? add_header(headers, "If-None-Match: *") : headers;
}

static enum lh_status perform(struct call *call, long timeout_s)
{
    struct lh_http_client *client = call->client;
    struct lh_buf url = LH_BUF_EMPTY;
    struct curl_slist *headers = make_headers(call);
    CURLcode code = CURLE_OUT_OF_MEMORY;
    long http = 0;
    lh_buf_printf(&url, "%s%s", client->url, call->path);
    lh_buf_append_char(&url, '\0');
    if (!lh_buf_failed(&url) && headers != NULL) {
        set_up(call, url.ptr, headers);
        curl_easy_setopt(client->curl, CURLOPT_TIMEOUT, timeout_s);
        code = curl_easy_perform(client->curl);
        curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &http);
    }
    curl_slist_free_all(headers);
    lh_buf_deinit(&url);
    if (call->status != LH_OK)
        return call->status;
    /* A peer that refuses a body early may close before it has all; its answer is what counts. */
    if (code != CURLE_OK && (http == 0 || http == 200 || call->ask != NULL))
        return refuse(call, code);
    if (call->ask != NULL) {
        call->told->status = (int)http;
        return LH_OK;
    }
    if (http != 200 && !(http == 204 && call->source == NULL && call->sink == NULL))
        return lh_error_set(call->error, status_of(http), "%s %.80s: answered %ld", call->method,
                            call->path, http);
    return LH_OK;
}

/* ---- a short answer ---- */

struct short_answer {
    struct lh_buf *to;
    size_t max;
};

static enum lh_status take_short(struct lh_str bytes, void *arg, struct lh_error *error)
{
    struct short_answer *answer = arg;
    if (bytes.len > answer->max - answer->to->len)
        return lh_error_set(error, LH_IO, "an answer of more than %zu bytes", answer->max);
    lh_buf_append_str(answer->to, bytes);
    if (lh_buf_failed(answer->to))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for an answer");
    return LH_OK;
}

/* ---- the calls ---- */

enum lh_status lh_http_client_put(struct lh_http_client *client, const char *path,
                                  const struct lh_http_source *source, const char *content_type,
                                  bool is_new, struct lh_buf *answer, size_t answer_max,
                                  struct lh_error *error)
{
    struct short_answer to = {answer, answer_max};
    struct lh_http_sink sink = {take_short, &to};
    struct call call = {.client = client,
                        .method = "PUT",
                        .path = path,
                        .source = source,
                        .content_type = content_type,
                        .is_new = is_new,
                        .sink = &sink,
                        .error = error};
    return perform(&call, 0);
}

enum lh_status lh_http_client_get(struct lh_http_client *client, const char *path,
                                  const struct lh_http_sink *sink, struct lh_error *error)
{
    struct call call = {
        .client = client, .method = "GET", .path = path, .sink = sink, .error = error};
    return perform(&call, 0);
}

enum lh_status lh_http_client_get_short(struct lh_http_client *client, const char *path,
                                        struct lh_buf *answer, size_t answer_max,
                                        struct lh_error *error)
{
    struct short_answer to = {answer, answer_max};
    struct lh_http_sink sink = {take_short, &to};
    struct call call = {
        .client = client, .method = "GET", .path = path, .sink = &sink, .error = error};
    return perform(&call, SHORT_CALL_S);
}

/* A header's value; empty when it has none. */
static const char *header_of(CURL *curl, const char *name)
{
    struct curl_header *header;
    return curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value
                                                                                   : "";
}

enum lh_status lh_http_client_head(struct lh_http_client *client, const char *path,
                                   struct lh_http_client_head *head, struct lh_error *error)
{
    struct call call = {
        .client = client, .method = "HEAD", .path = path, .is_head = true, .error = error};
    curl_off_t length = -1;
    curl_off_t modified_s = -1;
    enum lh_status status = perform(&call, SHORT_CALL_S);
    if (status != LH_OK)
        return status;
    curl_easy_getinfo(client->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(client->curl, CURLINFO_FILETIME_T, &modified_s);
    if (length < 0)
        return lh_error_set(error, LH_IO, "HEAD %.80s: the answer has no length", path);
    const char *etag = header_of(client->curl, "ETag");
    size_t etag_len = strlen(etag);
    *head = (struct lh_http_client_head){.length = (uint64_t)length,
                                         .modified_ms =
                                             modified_s > 0 ? (uint64_t)modified_s * 1000 : 0};
    if (etag_len >= 2 && etag[0] == '"' && etag[etag_len - 1] == '"')
        snprintf(head->etag, sizeof head->etag, "%.*s", (int)etag_len - 2, etag + 1);
    snprintf(head->content_type, sizeof head->content_type, "%s",
             header_of(client->curl, "Content-Type"));
    return LH_OK;
}

enum lh_status lh_http_client_delete(struct lh_http_client *client, const char *path,
                                     struct lh_error *error)
{
    struct call call = {.client = client, .method = "DELETE", .path = path, .error = error};
    return perform(&call, SHORT_CALL_S);
}

enum lh_status lh_http_client_ask(struct lh_http_client *client, const struct lh_http_ask *ask,
                                  struct lh_http_told *told, struct lh_error *error)
{
    struct short_answer to = {&told->body, ask->answer_max};
    struct lh_http_sink sink = {take_short, &to};
    struct call call = {.client = client,
                        .method = ask->method,
                        .path = ask->path,
                        .ask = ask,
                        .told = told,
                        .content_type = ask->content_type,
                        .sink = &sink,
                        .error = error};
    return perform(&call, 0);
}

void lh_http_escape(struct lh_buf *out, struct lh_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || strchr("-._~", c) != NULL;
        if (is_plain && c != '\0')
            lh_buf_append_char(out, (char)c);
        else
            lh_buf_printf(out, "%%%02X", c);
    }
}
