/* Addresses, signed requests, and failures in words that a user can act on. Any thread.
 *
 * Invariant: no error has any part of the credentials in it, nor what a store echoes of a
 * signature. */
#include "store/s3.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define REGION_BYTES_MAX 63u
#define BUCKET_BYTES_MIN 3u
#define BUCKET_BYTES_MAX 63u

struct lh_s3 {
    struct lh_buf text; /* what all that follows lies in */
    bool is_https;
    bool use_path_style;
    struct lh_str endpoint; /* scheme and host */
    struct lh_str host;     /* with its port, as in the Host header */
    struct lh_str folder;   /* of the endpoint: "/base", or empty */
    struct lh_str region;
    struct lh_str bucket;
    struct lh_s3_credentials credentials;
};

/* ---- a store ---- */

static bool is_made_of(struct lh_str text, const char *more)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_plain && (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return true;
}

static enum lh_status check_options(const struct lh_s3_options *options, struct lh_error *error)
{
    const struct lh_s3_credentials *credentials = &options->credentials;
    if (options->bucket.len < BUCKET_BYTES_MIN || options->bucket.len > BUCKET_BYTES_MAX ||
        !is_made_of(options->bucket, "._-"))
        return lh_error_set(error, LH_CONFIG,
                            "s3.bucket: needs a name of %u to %u letters, digits, - . and _",
                            BUCKET_BYTES_MIN, BUCKET_BYTES_MAX);
    if (options->region.len == 0 || options->region.len > REGION_BYTES_MAX ||
        !is_made_of(options->region, "._-"))
        return lh_error_set(error, LH_CONFIG,
                            "s3.region: needs a name such as \"us-east-1\" (any, for many stores)");
    if (credentials->access_key_id.len == 0)
        return lh_error_set(error, LH_CONFIG,
                            "s3.access_key_id: neither secrets_path, AWS_ACCESS_KEY_ID nor this "
                            "key gives one");
    if (credentials->secret_access_key.len == 0)
        return lh_error_set(error, LH_CONFIG, "s3.secret_access_key: there is a key id without it");
    if (!is_made_of(credentials->access_key_id, "!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~") ||
        !is_made_of(credentials->session_token, "!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~"))
        return lh_error_set(error, LH_CONFIG,
                            "s3.access_key_id: it and a session token have no spaces, and no "
                            "letters beyond ASCII");
    return LH_OK;
}

/* Splits "https://host:port/base". */
static enum lh_status split_endpoint(struct lh_s3 *s3, struct lh_str url, struct lh_error *error)
{
    size_t scheme = 0;
    if (lh_str_has_prefix(url, LH_STR("https://")))
        scheme = 8;
    else if (lh_str_has_prefix(url, LH_STR("http://")))
        scheme = 7;
    s3->is_https = scheme == 8;
    while (url.len > scheme && url.ptr[url.len - 1] == '/')
        url.len--;
    size_t end = scheme;
    while (end < url.len && url.ptr[end] != '/')
        end++;
    s3->endpoint = (struct lh_str){url.ptr, end};
    s3->host = (struct lh_str){url.ptr + scheme, end - scheme};
    s3->folder = (struct lh_str){url.ptr + end, url.len - end};
    if (scheme == 0 || s3->host.len == 0 || !is_made_of(s3->host, ".-_:[]") ||
        !is_made_of(s3->folder, ".-_~/"))
        return lh_error_set(error, LH_CONFIG,
                            "s3.endpoint: needs a URL such as https://host or http://host:9000");
    if (!s3->use_path_style && s3->host.ptr[0] == '[')
        return lh_error_set(error, LH_CONFIG,
                            "s3.use_path_style: an address cannot have a bucket before it");
    return LH_OK;
}

static struct lh_str keep(struct lh_s3 *s3, struct lh_str text)
{
    struct lh_str kept = {s3->text.ptr + s3->text.len, text.len};
    assert(s3->text.cap - s3->text.len >= text.len);
    lh_buf_append_str(&s3->text, text);
    return kept;
}

enum lh_status lh_s3_create(const struct lh_s3_options *options, struct lh_s3 **s3,
                            struct lh_error *error)
{
    char amazon[REGION_BYTES_MAX + 32];
    struct lh_str endpoint = options->endpoint;
    const struct lh_s3_credentials *credentials = &options->credentials;
    enum lh_status status = check_options(options, error);
    if (status != LH_OK)
        return status;
    if (endpoint.len == 0) {
        snprintf(amazon, sizeof amazon, "https://s3.%.*s.amazonaws.com",
                 LH_STR_FMT(options->region));
        endpoint = lh_str_of(amazon);
    }
    struct lh_s3 *made = calloc(1, sizeof *made);
    if (made == NULL ||
        lh_buf_reserve(&made->text, endpoint.len + options->region.len + options->bucket.len +
                                        credentials->access_key_id.len +
                                        credentials->secret_access_key.len +
                                        credentials->session_token.len) != LH_OK) {
        lh_s3_destroy(made);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the S3 store");
    }
    made->use_path_style = options->use_path_style;
    made->region = keep(made, options->region);
    made->bucket = keep(made, options->bucket);
    made->credentials.access_key_id = keep(made, credentials->access_key_id);
    made->credentials.secret_access_key = keep(made, credentials->secret_access_key);
    made->credentials.session_token = keep(made, credentials->session_token);
    status = split_endpoint(made, keep(made, endpoint), error);
    if (status != LH_OK) {
        lh_s3_destroy(made);
        return status;
    }
    *s3 = made;
    return LH_OK;
}

void lh_s3_destroy(struct lh_s3 *s3)
{
    if (s3 == NULL)
        return;
    if (s3->text.ptr != NULL)
        OPENSSL_cleanse(s3->text.ptr, s3->text.len);
    lh_buf_deinit(&s3->text);
    free(s3);
}

struct lh_str lh_s3_endpoint(const struct lh_s3 *s3)
{
    return s3->endpoint;
}

struct lh_str lh_s3_region(const struct lh_s3 *s3)
{
    return s3->region;
}

struct lh_str lh_s3_bucket(const struct lh_s3 *s3)
{
    return s3->bucket;
}

/* ---- a request ---- */

enum lh_status lh_s3_check_key(struct lh_str key, struct lh_error *error)
{
    if (key.len == 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "key: it is empty");
    if (key.len > LH_S3_KEY_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "key: %zu bytes, S3 takes %u", key.len,
                            LH_S3_KEY_BYTES_MAX);
    if (!lh_str_is_utf8(key))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "key: it is not UTF-8");
    return LH_OK;
}

void lh_s3_add_query(struct lh_s3_request *request, const char *name, struct lh_str value)
{
    assert(request->query_count < LH_S3_PAIRS_MAX);
    request->query[request->query_count++] = (struct lh_s3_pair){lh_str_of(name), value};
}

void lh_s3_add_header(struct lh_s3_request *request, const char *name, struct lh_str value)
{
    assert(request->header_count < sizeof request->headers / sizeof request->headers[0]);
    if (value.len > 0)
        request->headers[request->header_count++] = (struct lh_s3_pair){lh_str_of(name), value};
}

static enum lh_status check_headers(const struct lh_s3_request *request, struct lh_error *error)
{
    for (size_t i = 0; i < request->header_count; i++)
        for (size_t j = 0; j < request->headers[i].value.len; j++) {
            unsigned char c = (unsigned char)request->headers[i].value.ptr[j];
            if ((c < ' ' && c != '\t') || c == 0x7f)
                return lh_error_set(error, LH_INVALID_ARGUMENT, "%.*s: a control character in it",
                                    LH_STR_FMT(request->headers[i].name));
        }
    return LH_OK;
}

static void append_header(struct lh_buf *out, struct lh_str name, struct lh_str value)
{
    lh_buf_append_str(out, name);
    lh_buf_append_str(out, LH_STR(": "));
    lh_buf_append_str(out, value);
    lh_buf_append_char(out, '\0');
}

/* The path as it is signed, not escaped; the host that it is asked of. */
static void address(const struct lh_s3 *s3, struct lh_str key, struct lh_buf *host,
                    struct lh_buf *path)
{
    if (!s3->use_path_style) {
        lh_buf_append_str(host, s3->bucket);
        lh_buf_append_char(host, '.');
    }
    lh_buf_append_str(host, s3->host);
    lh_buf_append_str(path, s3->folder);
    lh_buf_append_char(path, '/');
    if (s3->use_path_style) {
        lh_buf_append_str(path, s3->bucket);
        if (key.len > 0)
            lh_buf_append_char(path, '/');
    }
    lh_buf_append_str(path, key);
}

static void append_url(const struct lh_s3 *s3, const struct lh_s3_request *request,
                       struct lh_str host, struct lh_str path, struct lh_buf *url)
{
    lh_buf_append_str(url, s3->is_https ? LH_STR("https://") : LH_STR("http://"));
    lh_buf_append_str(url, host);
    lh_s3_escape(url, path, true);
    if (request->query_count > 0)
        lh_buf_append_char(url, '?');
    lh_s3_query(url, request->query, request->query_count);
    lh_buf_append_char(url, '\0');
}

static enum lh_status sign(const struct lh_s3 *s3, const struct lh_s3_request *request,
                           struct lh_str host, struct lh_str path, struct lh_s3_wire *wire)
{
    char hash[LH_SHA256_HEX_LEN + 1] = "UNSIGNED-PAYLOAD";
    struct lh_s3_pair headers[LH_S3_PAIRS_MAX];
    struct lh_buf authorization = LH_BUF_EMPTY;
    size_t count = request->header_count;
    if (!s3->is_https || strcmp(request->method, "PUT") != 0)
        lh_sha256_hex(request->body, hash);
    memcpy(headers, request->headers, count * sizeof headers[0]);
    headers[count++] = (struct lh_s3_pair){LH_STR("x-amz-content-sha256"), lh_str_of(hash)};
    headers[count++] = (struct lh_s3_pair){LH_STR("x-amz-date"), lh_str_of(wire->date)};
    if (s3->credentials.session_token.len > 0)
        headers[count++] =
            (struct lh_s3_pair){LH_STR("x-amz-security-token"), s3->credentials.session_token};
    headers[count++] = (struct lh_s3_pair){LH_STR("host"), host};
    for (size_t i = 0; i < count; i++)
        append_header(&wire->headers, headers[i].name, headers[i].value);
    struct lh_s3_signing signing = {.method = lh_str_of(request->method),
                                    .path = path,
                                    .query = request->query,
                                    .query_count = request->query_count,
                                    .headers = headers,
                                    .header_count = count,
                                    .payload_hash = lh_str_of(hash),
                                    .date = wire->date,
                                    .region = s3->region,
                                    .service = LH_STR("s3"),
                                    .credentials = &s3->credentials};
    enum lh_status status = lh_s3_sign(&signing, &authorization);
    append_header(&wire->headers, LH_STR("Authorization"), lh_buf_str(&authorization));
    lh_buf_deinit(&authorization);
    return status;
}

enum lh_status lh_s3_prepare(const struct lh_s3 *s3, const struct lh_s3_request *request,
                             uint64_t wall_ms, struct lh_s3_wire *wire, struct lh_error *error)
{
    struct lh_buf host = LH_BUF_EMPTY, path = LH_BUF_EMPTY;
    enum lh_status status = check_headers(request, error);
    if (status != LH_OK)
        return status;
    wire->url.len = 0;
    wire->headers.len = 0;
    lh_s3_date(wall_ms, wire->date);
    address(s3, request->key, &host, &path);
    append_url(s3, request, lh_buf_str(&host), lh_buf_str(&path), &wire->url);
    if (lh_buf_failed(&host) || lh_buf_failed(&path))
        status = LH_OUT_OF_MEMORY;
    else
        status = sign(s3, request, lh_buf_str(&host), lh_buf_str(&path), wire);
    lh_buf_deinit(&host);
    lh_buf_deinit(&path);
    if (status != LH_OK || lh_buf_failed(&wire->url) || lh_buf_failed(&wire->headers))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "s3: not enough memory for a request");
    return LH_OK;
}

void lh_s3_wire_deinit(struct lh_s3_wire *wire)
{
    lh_buf_deinit(&wire->url);
    lh_buf_deinit(&wire->headers);
}

/* ---- a failure ---- */

#define IS(name) (strcmp(code, name) == 0)

/* What is wrong with the configuration or the clock; LH_OK: it is something else. */
static enum lh_status explain_setup(const struct lh_s3 *s3, const struct lh_s3_failure *failure,
                                    const struct lh_s3_xml *xml, struct lh_error *error)
{
    const char *code = failure->code;
    const char *region = xml->region[0] != '\0' ? xml->region : failure->bucket_region;
    bool is_region = failure->http == 301 || failure->http == 307 ||
                     IS("AuthorizationHeaderMalformed") || IS("PermanentRedirect");
    if (is_region && region[0] != '\0')
        return lh_error_set(error, LH_BAD_GATEWAY,
                            "s3.region: the store wants \"%.63s\", the configuration says \"%.*s\"",
                            region, LH_STR_FMT(s3->region));
    if (IS("SignatureDoesNotMatch"))
        return lh_error_set(error, LH_BAD_GATEWAY,
                            "s3.secret_access_key: it is not the one of s3.access_key_id "
                            "(SignatureDoesNotMatch)");
    if (IS("InvalidAccessKeyId"))
        return lh_error_set(error, LH_BAD_GATEWAY,
                            "s3.access_key_id: the store does not know it (InvalidAccessKeyId)");
    if (IS("ExpiredToken") || IS("InvalidToken") || IS("TokenRefreshRequired"))
        return lh_error_set(error, LH_BAD_GATEWAY,
                            "s3: the session token is not valid any more (%s)", code);
    if (IS("NoSuchBucket"))
        return lh_error_set(error, LH_BAD_GATEWAY, "s3.bucket: the store has no bucket \"%.*s\"",
                            LH_STR_FMT(s3->bucket));
    if (IS("RequestTimeTooSkewed"))
        return lh_error_set(
            error, LH_BAD_GATEWAY, "s3: the clocks differ: here %s, at the store %.40s (%s)",
            failure->signed_date,
            xml->server_time[0] != '\0' ? xml->server_time : failure->server_date, code);
    if (IS("AccessDenied") || IS("AllAccessDisabled") || failure->http == 401)
        return lh_error_set(error, LH_BAD_GATEWAY,
                            "s3: the access key may not do this in the bucket \"%.*s\" (%s)",
                            LH_STR_FMT(s3->bucket), code[0] != '\0' ? code : "401");
    return LH_OK;
}

/* What is the asker's own doing; LH_OK: it is something else. */
static enum lh_status explain_request(const struct lh_s3_failure *failure, struct lh_error *error)
{
    const char *code = failure->code;
    if (IS("NoSuchKey") || (failure->http == 404 && code[0] == '\0'))
        return lh_error_set(error, LH_KEY_NOT_FOUND, "no object has this key");
    if (failure->http == 412 || IS("ConditionalRequestConflict"))
        return lh_error_set(error, LH_PRECONDITION_FAILED, "the object is not the one asked for");
    if (failure->http == 416)
        return lh_error_set(error, LH_RANGE_NOT_SATISFIABLE, "the range is outside the object");
    if (failure->http == 501 || IS("NotImplemented")) /* such as a condition of a put */
        return lh_error_set(error, LH_NOT_IMPLEMENTED, "s3: the store cannot do this (%s)",
                            code[0] != '\0' ? code : "501");
    if (IS("KeyTooLongError"))
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "key: longer than the store takes");
    if (IS("EntityTooLarge"))
        return lh_error_set(error, LH_BODY_TOO_LARGE, "the object is larger than the store takes");
    return LH_OK;
}

static bool may_repeat(const struct lh_s3_failure *failure)
{
    const char *code = failure->code;
    return failure->http == 500 || failure->http == 502 || failure->http == 503 ||
           failure->http == 504 || failure->http == 429 || IS("InternalError") || IS("SlowDown") ||
           IS("ServiceUnavailable") || IS("RequestTimeout") || IS("OperationAborted");
}

enum lh_status lh_s3_explain(const struct lh_s3 *s3, struct lh_s3_failure *failure,
                             struct lh_error *error)
{
    struct lh_s3_xml xml = {.document = LH_S3_ERROR};
    struct lh_error unread;
    bool is_read = failure->body.len > 0 && lh_s3_xml_read(failure->body, &xml, &unread) == LH_OK &&
                   xml.document == LH_S3_ERROR;
    enum lh_status status = LH_OK;
    snprintf(failure->code, sizeof failure->code, "%s", is_read ? xml.code : "");
    failure->may_repeat = may_repeat(failure);
    status = explain_setup(s3, failure, &xml, error);
    if (status == LH_OK)
        status = explain_request(failure, error);
    const char *code = failure->code[0] != '\0' ? failure->code : "no reason";
    if (status == LH_OK &&
        (failure->http == 503 || failure->http == 429 || strcmp(code, "SlowDown") == 0))
        status = lh_error_set(error, LH_OVERLOADED, "s3: the store wants fewer requests (%ld %s)",
                              failure->http, code);
    else if (status == LH_OK && failure->http == 504)
        status =
            lh_error_set(error, LH_GATEWAY_TIMEOUT, "s3: the store took too long (504 %s)", code);
    else if (status == LH_OK)
        status = lh_error_set(error, LH_BAD_GATEWAY, "s3: the store answered %ld (%s)%s%.80s",
                              failure->http, code, xml.message[0] != '\0' ? ": " : "", xml.message);
    lh_s3_xml_deinit(&xml);
    return status;
}
