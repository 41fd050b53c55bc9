/* HTTP to the server over libcurl's easy interface. A client belongs to one thread.
 *
 * The connection is kept between calls, bodies go out at once (no Expect: 100-continue, which
 * would cost a round trip a batch), and proxies are not used: this is a client of a database. */
#include "client.h"

#include "ext/json_read.h"
#include "net/curl.h"

#include <stdlib.h>

#define CONNECT_TIMEOUT_S 10L
#define CALL_TIMEOUT_S    600L         /* a batch may wait for many others */
#define UPLOAD_BYTES      (512L << 10) /* libcurl's upload buffer: few writes a batch */

struct lh_client {
    CURL *curl;
    char *url;         /* without a slash at its end */
    const char *token; /* NULL: none */
    char detail[CURL_ERROR_SIZE];
};

static size_t take_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct lh_answer *answer = arg;
    lh_buf_append(&answer->body, bytes, size * count);
    return lh_buf_failed(&answer->body) ? 0 : size * count;
}

static size_t take_header(char *line, size_t size, size_t count, void *arg)
{
    static const char name[] = "retry-after:";
    struct lh_answer *answer = arg;
    struct lh_str s = {line, size * count};
    size_t len = sizeof name - 1;
    if (s.len > len && lh_str_eq_nocase((struct lh_str){s.ptr, len}, LH_STR("retry-after:"))) {
        uint64_t seconds;
        struct lh_str value = {s.ptr + len, s.len - len};
        while (value.len > 0 &&
               (value.ptr[value.len - 1] == '\n' || value.ptr[value.len - 1] == '\r'))
            value.len--;
        if (lh_str_to_u64(lh_str_trim(value), &seconds))
            answer->retry_after_s = seconds < 3600 ? (uint32_t)seconds : 3600;
    }
    return size * count;
}

/* The URL with a scheme and without the slashes at its end; NULL: it is none. */
static char *tidy_url(const char *url)
{
    struct lh_buf text = LH_BUF_EMPTY;
    if (strstr(url, "://") == NULL)
        lh_buf_append_str(&text, LH_STR("http://"));
    lh_buf_append_str(&text, lh_str_of(url));
    while (text.len > 0 && text.ptr[text.len - 1] == '/')
        text.len--;
    lh_buf_append_char(&text, '\0');
    if (lh_buf_failed(&text)) {
        lh_buf_deinit(&text);
        return NULL;
    }
    return text.ptr; /* a buffer's memory is malloc's */
}

static bool url_is_valid(const char *url)
{
    CURLU *parsed = curl_url();
    char *part = NULL;
    bool ok = parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK;
    ok = ok && curl_url_get(parsed, CURLUPART_SCHEME, &part, 0) == CURLUE_OK &&
         (strcmp(part, "http") == 0 || strcmp(part, "https") == 0);
    curl_free(part);
    curl_url_cleanup(parsed);
    return ok;
}

/* What a header can carry (RFC 9110, VCHAR): a line break would begin another. */
static bool token_is_valid(const char *token)
{
    while (*token > ' ' && *token < 0x7f)
        token++;
    return *token == '\0';
}

struct lh_client *lh_client_create(const struct lh_cli_options *options)
{
    struct lh_client *client = calloc(1, sizeof *client);
    if (client != NULL) {
        client->url = tidy_url(options->url);
        client->token = options->token != NULL ? options->token : getenv("LAKEHOUSE_TOKEN");
        client->curl = curl_easy_init();
    }
    if (client == NULL || client->url == NULL || client->curl == NULL) {
        lh_cli_say("not enough memory");
        lh_client_destroy(client);
        return NULL;
    }
    if (!url_is_valid(client->url)) {
        lh_cli_say("--url: \"%s\" is no http:// or https:// address, such as " LH_CLI_URL,
                   options->url);
        lh_client_destroy(client);
        return NULL;
    }
    if (client->token != NULL && !token_is_valid(client->token)) {
        lh_cli_say("%s: a token has no spaces and no control characters",
                   options->token != NULL ? "--token" : "LAKEHOUSE_TOKEN");
        lh_client_destroy(client);
        return NULL;
    }
    return client;
}

void lh_client_destroy(struct lh_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    free(client->url);
    free(client);
}

static void set_reason(struct lh_client *client, CURLcode code, struct lh_answer *answer)
{
    const char *reason = lh_curl_reason(client->curl, code, client->detail);
    snprintf(answer->reason, sizeof answer->reason, "%s", reason);
    answer->http = 0;
}

static void set_up(struct lh_client *client, const char *method, const char *url,
                   struct curl_slist *headers, struct lh_str body, struct lh_answer *answer)
{
    CURL *curl = client->curl;
    bool has_token = client->token != NULL && client->token[0] != '\0';
    const struct lh_curl_call common = {
        .url = url,
        .user_agent = "lakehouse/" LH_VERSION,
        .headers = headers,
        .connect_timeout_s = CONNECT_TIMEOUT_S,
        .token = has_token ? client->token : NULL,
        .detail = client->detail,
    };
    lh_curl_begin(curl, &common);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, CALL_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BYTES);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, answer);
    if (body.len > 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.ptr);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

void lh_client_call(struct lh_client *client, const char *method, const char *path,
                    const char *content_type, struct lh_str body, struct lh_answer *answer)
{
    char type[64];
    struct lh_buf url = LH_BUF_EMPTY;
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    answer->body.len = 0;
    answer->body.failed = false;
    answer->retry_after_s = 0;
    answer->http = 0;
    lh_buf_printf(&url, "%s%s", client->url, path);
    lh_buf_append_char(&url, '\0');
    if (body.len > 0 && headers != NULL) {
        snprintf(type, sizeof type, "Content-Type: %s", content_type);
        struct curl_slist *more = curl_slist_append(headers, type);
        if (more == NULL)
            curl_slist_free_all(headers);
        headers = more;
    }
    if (headers == NULL || lh_buf_failed(&url)) {
        snprintf(answer->reason, sizeof answer->reason, "not enough memory");
        goto done;
    }
    set_up(client, method, url.ptr, headers, body, answer);
    CURLcode code = curl_easy_perform(client->curl);
    long http = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &http);
    /* A server that refuses a body answers before it has read all of it: that answer counts. */
    if (code == CURLE_OK || (code == CURLE_SEND_ERROR && http >= 400))
        answer->http = (int)http;
    else
        set_reason(client, code, answer);
done:
    curl_slist_free_all(headers);
    lh_buf_deinit(&url);
}

char *lh_client_index_path(struct lh_client *client, const char *name, const char *rest,
                           const char *id)
{
    struct lh_buf path = LH_BUF_EMPTY;
    char *name_text = curl_easy_escape(client->curl, name, 0);
    char *id_text = id != NULL ? curl_easy_escape(client->curl, id, 0) : NULL;
    if (name_text != NULL && (id == NULL || id_text != NULL)) {
        lh_buf_printf(&path, "/v1/vectors/index/%s%s%s", name_text, rest != NULL ? rest : "",
                      id_text != NULL ? id_text : "");
        lh_buf_append_char(&path, '\0');
    }
    curl_free(name_text);
    curl_free(id_text);
    if (lh_buf_failed(&path) || path.ptr == NULL) {
        lh_cli_say("not enough memory");
        lh_buf_deinit(&path);
        return NULL;
    }
    return path.ptr;
}

void lh_answer_error(const struct lh_answer *answer, char *code, size_t code_size, char *message,
                     size_t message_size)
{
    struct lh_json_doc *doc = NULL;
    struct lh_json root, error;
    struct lh_str text;
    snprintf(code, code_size, "%s", answer->http == 0 ? "no_answer" : "unknown");
    if (answer->http == 0)
        snprintf(message, message_size, "%s", answer->reason);
    else
        snprintf(message, message_size, "HTTP status %d", answer->http);
    if (answer->http == 0 ||
        lh_json_doc_create(lh_buf_str(&answer->body), &doc, &root, NULL) != LH_OK)
        return;
    if (lh_json_get(root, "error", &error)) {
        if (lh_json_get_str(error, "code", &text))
            snprintf(code, code_size, "%.*s", LH_STR_FMT(text));
        if (lh_json_get_str(error, "message", &text))
            snprintf(message, message_size, "%.*s", LH_STR_FMT(text));
    }
    lh_json_doc_destroy(doc);
}

enum lh_cli_exit lh_client_complain(const struct lh_client *client, const struct lh_answer *answer)
{
    char code[64], message[512];
    lh_answer_error(answer, code, sizeof code, message, sizeof message);
    if (answer->http == 0) {
        lh_cli_say("cannot reach %s: %s. Is lakehoused running? Start it with tools/run, or name "
                   "its address with --url",
                   client->url, message);
        return LH_CLI_UNREACHABLE;
    }
    if (strcmp(code, "unknown") == 0)
        lh_cli_say("%s answered with %s: is that a lakehoused?", client->url, message);
    else
        lh_cli_say("%s (%s)", message, code);
    return LH_CLI_REFUSED;
}

void lh_answer_deinit(struct lh_answer *answer)
{
    lh_buf_deinit(&answer->body);
}
