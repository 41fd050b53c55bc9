/* The way to a store in another process: the routes of storaged, over libcurl. Runs on the thread
 * that owns the client.
 *
 * Nothing of an answer is believed: each member has the type that it must have, and the size that a
 * put says it has kept must be the one that was sent. */
#include "actors/object_client_internal.h"

#include "ext/json_read.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_MAX (64u << 10)
#define PAGE_BYTES_MAX   (8u << 20) /* 1,000 keys of 1 KiB, each byte escaped, fit */

struct remote {
    struct lh_object_client client;
    struct lh_http_client *http;
    struct lh_buf path; /* of the call */
};

static void destroy(struct lh_object_client *client)
{
    struct remote *remote = (struct remote *)client;
    lh_http_client_destroy(remote->http);
    lh_buf_deinit(&remote->path);
    free(remote);
}

/* The path of the call `verb` for a key: valid until the next; NULL: no memory. */
static const char *path_of(struct remote *remote, const char *verb, struct lh_str key)
{
    struct lh_buf *path = &remote->path;
    path->len = 0;
    lh_buf_printf(path, "/v1/storage/%s", verb);
    while (key.len > 0) { /* a slash stays one */
        const char *slash = memchr(key.ptr, '/', key.len);
        size_t len = slash != NULL ? (size_t)(slash - key.ptr) : key.len;
        lh_buf_append_char(path, '/');
        lh_http_escape(path, (struct lh_str){key.ptr, len});
        if (slash != NULL)
            len++;
        key.ptr += len;
        key.len -= len;
    }
    lh_buf_append_char(path, '\0');
    return lh_buf_failed(path) ? NULL : path->ptr;
}

static enum lh_status no_memory(struct lh_error *error)
{
    return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for an object call");
}

/* A 404 of a key that may not be there. */
static enum lh_status key_status(enum lh_status status, struct lh_error *error)
{
    if (status == LH_NOT_FOUND)
        error->status = LH_KEY_NOT_FOUND;
    return status == LH_NOT_FOUND ? LH_KEY_NOT_FOUND : status;
}

/* ---- put ---- */

static enum lh_status read_answer(struct lh_str text, uint64_t sent, struct lh_object_info *info,
                                  struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_error reason;
    struct lh_str etag = {"", 0};
    if (lh_json_doc_create(text, &doc, &root, &reason) != LH_OK)
        return lh_error_set(error, LH_IO, "PUT: the answer is not JSON: %.100s", reason.text);
    *info = (struct lh_object_info){0};
    bool has_size = lh_json_get_u64(root, "size", &info->size);
    (void)lh_json_get_str(root, "etag", &etag);
    snprintf(info->etag, sizeof info->etag, "%.*s", LH_STR_FMT(etag));
    lh_json_doc_destroy(doc);
    if (!has_size)
        return lh_error_set(error, LH_IO, "PUT: the answer has no size");
    if (info->size != sent)
        return lh_error_set(error, LH_IO,
                            "PUT: the answer says %" PRIu64 " bytes, %" PRIu64 " were sent",
                            info->size, sent);
    return LH_OK;
}

static enum lh_status put(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_source *source, const char *content_type,
                          bool is_new, struct lh_object_info *info, struct lh_error *error)
{
    struct remote *remote = (struct remote *)client;
    struct lh_buf answer = LH_BUF_EMPTY;
    const char *path = path_of(remote, "put", key);
    if (path == NULL)
        return no_memory(error);
    enum lh_status status = lh_http_client_put(remote->http, path, source, content_type, is_new,
                                               &answer, ANSWER_BYTES_MAX, error);
    if (status == LH_NOT_FOUND) /* it is the route that is not there */
        status = error->status = LH_IO;
    if (status == LH_OK)
        status = read_answer(lh_buf_str(&answer), source->length, info, error);
    if (status == LH_OK && content_type != NULL)
        snprintf(info->content_type, sizeof info->content_type, "%s", content_type);
    lh_buf_deinit(&answer);
    return status;
}

/* ---- get, head, delete ---- */

static enum lh_status get(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_sink *sink, struct lh_error *error)
{
    struct remote *remote = (struct remote *)client;
    const char *path = path_of(remote, "get", key);
    if (path == NULL)
        return no_memory(error);
    return key_status(lh_http_client_get(remote->http, path, sink, error), error);
}

static enum lh_status head(struct lh_object_client *client, struct lh_str key,
                           struct lh_object_info *info, struct lh_error *error)
{
    struct remote *remote = (struct remote *)client;
    struct lh_http_client_head answer;
    const char *path = path_of(remote, "get", key);
    if (path == NULL)
        return no_memory(error);
    enum lh_status status =
        key_status(lh_http_client_head(remote->http, path, &answer, error), error);
    if (status != LH_OK)
        return status;
    *info = (struct lh_object_info){.size = answer.length, .modified_ms = answer.modified_ms};
    snprintf(info->etag, sizeof info->etag, "%s", answer.etag);
    snprintf(info->content_type, sizeof info->content_type, "%s", answer.content_type);
    return LH_OK;
}

static enum lh_status delete_(struct lh_object_client *client, struct lh_str key,
                              struct lh_error *error)
{
    struct remote *remote = (struct remote *)client;
    const char *path = path_of(remote, "delete", key);
    if (path == NULL)
        return no_memory(error);
    enum lh_status status = lh_http_client_delete(remote->http, path, error);
    return status == LH_NOT_FOUND ? LH_OK : status;
}

/* ---- list ---- */

static enum lh_status take_objects(struct lh_json root, const struct lh__object_page *page,
                                   struct lh_error *error)
{
    struct lh_json objects;
    struct lh_json object;
    uint32_t at = 0;
    enum lh_status status = LH_OK;
    if (!lh_json_get(root, "objects", &objects) || !lh_json_is_array(objects))
        return lh_error_set(error, LH_CORRUPT, "the list has no objects");
    struct lh_json_iter iter = lh_json_elements(objects);
    while (status == LH_OK && lh_json_next(&iter, &object)) {
        struct lh_object_listed listed = {.etag = {"", 0}};
        if (!lh_json_get_str(object, "Key", &listed.key))
            return lh_error_set(error, LH_CORRUPT, "the list: objects[%u].Key is no string", at);
        if (!lh_json_get_u64(object, "Size", &listed.size))
            return lh_error_set(error, LH_CORRUPT, "the list: objects[%u].Size is no number", at);
        (void)lh_json_get_str(object, "ETag", &listed.etag);
        status = page->each(&listed, page->arg, error);
        at++;
    }
    return status;
}

static enum lh_status take_page(struct lh_str text, const struct lh__object_page *page,
                                struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root;
    struct lh_json truncated;
    struct lh_str next = {"", 0};
    struct lh_error reason;
    bool is_truncated = false;
    if (lh_json_doc_create(text, &doc, &root, &reason) != LH_OK)
        return lh_error_set(error, LH_CORRUPT, "the list is not JSON: %.100s", reason.text);
    enum lh_status status = take_objects(root, page, error);
    if (lh_json_get(root, "truncated", &truncated))
        (void)lh_json_as_bool(truncated, &is_truncated);
    (void)lh_json_get_str(root, "next_cursor", &next); /* of the last page: none */
    if (status == LH_OK && next.len > 0 && lh_str_eq(next, page->after))
        status = lh_error_set(error, LH_CORRUPT, "the list: next_cursor is the page's own");
    if (status == LH_OK && next.len == 0 && is_truncated)
        status = lh_error_set(error, LH_CORRUPT, "the list is truncated and has no next_cursor");
    lh_buf_append_str(page->next, next);
    lh_json_doc_destroy(doc);
    return status;
}

static enum lh_status list(struct lh_object_client *client, const struct lh__object_page *page,
                           struct lh_error *error)
{
    struct remote *remote = (struct remote *)client;
    struct lh_buf *path = &remote->path;
    struct lh_buf answer = LH_BUF_EMPTY;
    path->len = 0;
    lh_buf_printf(path, "/v1/storage/list?limit=%u&prefix=", LH_OBJECT_LIST_MAX);
    lh_http_escape(path, page->prefix);
    if (page->after.len > 0) {
        lh_buf_append_str(path, LH_STR("&cursor="));
        lh_http_escape(path, page->after);
    }
    lh_buf_append_char(path, '\0');
    if (lh_buf_failed(path))
        return no_memory(error);
    enum lh_status status =
        lh_http_client_get_short(remote->http, path->ptr, &answer, PAGE_BYTES_MAX, error);
    if (status == LH_NOT_FOUND)
        status = error->status = LH_IO;
    if (status == LH_OK)
        status = take_page(lh_buf_str(&answer), page, error);
    lh_buf_deinit(&answer);
    return status;
}

static const struct lh__object_calls calls = {destroy, put, NULL, get, head, delete_, list};

struct lh_object_client *lh__object_client_http(const struct lh_object_client_options *options)
{
    const struct lh_http_client_options http = {.url = options->url,
                                                .token = options->token,
                                                .is_cancelled = options->is_cancelled,
                                                .arg = options->arg};
    struct remote *remote = calloc(1, sizeof *remote);
    struct lh_error ignored; /* it can only be memory */
    if (remote == NULL || lh_http_client_create(&http, &remote->http, &ignored) != LH_OK) {
        free(remote);
        return NULL;
    }
    remote->client.calls = &calls;
    return &remote->client;
}
