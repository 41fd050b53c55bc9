/* What both ways to a store share: checks of keys, the pages of a list, and memory and files as
 * sources and sinks. Runs on the thread that owns the client. */
#include "actors/object_client_internal.h"

#include "store/object_key.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGES_MAX 10000u /* of a list that comes from another process */

static bool never(void *arg)
{
    (void)arg;
    return false;
}

enum lh_status lh_object_client_create(const struct lh_object_client_options *options,
                                       struct lh_object_client **client, struct lh_error *error)
{
    struct lh_object_client_options own = *options;
    if (own.is_cancelled == NULL)
        own.is_cancelled = never;
    struct lh_object_client *made =
        own.storaged != NULL ? lh__object_client_local(own.storaged) : lh__object_client_http(&own);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a client of objects");
    made->is_cancelled = own.is_cancelled;
    made->arg = own.arg;
    *client = made;
    return LH_OK;
}

void lh_object_client_destroy(struct lh_object_client *client)
{
    if (client != NULL)
        client->calls->destroy(client);
}

/* ---- put ---- */

static enum lh_status put(struct lh_object_client *client, struct lh_str key,
                          const struct lh_http_source *source, const char *content_type,
                          bool is_new, struct lh_object_info *info, struct lh_error *error)
{
    struct lh_object_info ignored;
    enum lh_status status = lh_object_key_check(key, error);
    if (status != LH_OK)
        return status;
    return client->calls->put(client, key, source, content_type, is_new,
                              info != NULL ? info : &ignored, error);
}

enum lh_status lh_object_client_put(struct lh_object_client *client, struct lh_str key,
                                    const struct lh_http_source *source, const char *content_type,
                                    struct lh_object_info *info, struct lh_error *error)
{
    return put(client, key, source, content_type, false, info, error);
}

static enum lh_status read_bytes(uint64_t offset, void *to, size_t len, void *arg,
                                 struct lh_error *error)
{
    const struct lh_str *bytes = arg;
    memcpy(to, bytes->ptr + offset, len);
    (void)error;
    return LH_OK;
}

enum lh_status lh_object_client_put_bytes(struct lh_object_client *client, struct lh_str key,
                                          struct lh_str bytes, const char *content_type,
                                          struct lh_object_info *info, struct lh_error *error)
{
    struct lh_http_source source = {.length = bytes.len, .read = read_bytes, .arg = &bytes};
    return lh_object_client_put(client, key, &source, content_type, info, error);
}

enum lh_status lh_object_client_put_new(struct lh_object_client *client, struct lh_str key,
                                        struct lh_str bytes, const char *content_type,
                                        struct lh_object_info *info, struct lh_error *error)
{
    struct lh_http_source source = {.length = bytes.len, .read = read_bytes, .arg = &bytes};
    return put(client, key, &source, content_type, true, info, error);
}

static enum lh_status read_file(uint64_t offset, void *to, size_t len, void *arg,
                                struct lh_error *error)
{
    const int *file = arg;
    for (size_t have = 0; have < len;) {
        ssize_t got = pread(*file, (char *)to + have, len - have, (off_t)(offset + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return lh_error_sys(error, LH_DISK_FAILED, errno, "reading at byte %" PRIu64,
                                offset + have);
        if (got == 0)
            return lh_error_set(error, LH_DISK_FAILED, "the file ends at byte %" PRIu64,
                                offset + have);
        have += (size_t)got;
    }
    return LH_OK;
}

enum lh_status lh_object_client_put_file(struct lh_object_client *client, struct lh_str key,
                                         const char *path, uint64_t length,
                                         const char *content_type, struct lh_object_info *info,
                                         struct lh_error *error)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct lh_http_source source = {.length = length, .read = read_file, .arg = &file};
    struct lh_object_info ignored;
    struct stat about;
    if (file < 0)
        return lh_error_sys(error, LH_DISK_FAILED, errno, "the file cannot be read");
    enum lh_status status = lh_object_key_check(key, error);
    bool is_whole = fstat(file, &about) == 0 && (uint64_t)about.st_size == length;
    if (status == LH_OK) {
        status = LH_INVALID_ARGUMENT;
        if (is_whole && client->calls->link != NULL)
            status = client->calls->link(client, key, path, &source, content_type,
                                         info != NULL ? info : &ignored, error);
        if (status == LH_INVALID_ARGUMENT)
            status = lh_object_client_put(client, key, &source, content_type, info, error);
    }
    close(file);
    return status;
}

/* ---- get ---- */

enum lh_status lh_object_client_get(struct lh_object_client *client, struct lh_str key,
                                    const struct lh_http_sink *sink, struct lh_error *error)
{
    enum lh_status status = lh_object_key_check(key, error);
    return status == LH_OK ? client->calls->get(client, key, sink, error) : status;
}

struct into_buf {
    struct lh_buf *bytes;
    size_t room;
};

static enum lh_status take_bytes(struct lh_str bytes, void *arg, struct lh_error *error)
{
    struct into_buf *into = arg;
    if (bytes.len > into->room)
        return lh_error_set(error, LH_BODY_TOO_LARGE, "the object is larger than what is taken");
    into->room -= bytes.len;
    lh_buf_append_str(into->bytes, bytes);
    if (lh_buf_failed(into->bytes))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for an object");
    return LH_OK;
}

enum lh_status lh_object_client_get_bytes(struct lh_object_client *client, struct lh_str key,
                                          struct lh_buf *bytes, size_t max, struct lh_error *error)
{
    struct into_buf into = {bytes, max};
    struct lh_http_sink sink = {take_bytes, &into};
    return lh_object_client_get(client, key, &sink, error);
}

static enum lh_status write_file(struct lh_str bytes, void *arg, struct lh_error *error)
{
    const int *file = arg;
    while (bytes.len > 0) {
        ssize_t put = write(*file, bytes.ptr, bytes.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return lh_error_sys(error, lh_disk_status(-errno), errno, "writing an object");
        bytes.ptr += put;
        bytes.len -= (size_t)put;
    }
    return LH_OK;
}

enum lh_status lh_object_client_get_file(struct lh_object_client *client, struct lh_str key,
                                         int file, struct lh_error *error)
{
    struct lh_http_sink sink = {write_file, &file};
    return lh_object_client_get(client, key, &sink, error);
}

/* ---- head, delete ---- */

enum lh_status lh_object_client_head(struct lh_object_client *client, struct lh_str key,
                                     struct lh_object_info *info, struct lh_error *error)
{
    enum lh_status status = lh_object_key_check(key, error);
    return status == LH_OK ? client->calls->head(client, key, info, error) : status;
}

enum lh_status lh_object_client_delete(struct lh_object_client *client, struct lh_str key,
                                       struct lh_error *error)
{
    enum lh_status status = lh_object_key_check(key, error);
    return status == LH_OK ? client->calls->delete_(client, key, error) : status;
}

/* ---- list ---- */

struct listing {
    struct lh_str prefix;
    enum lh_status (*each)(const struct lh_object_listed *listed, void *arg,
                           struct lh_error *error);
    void *arg;
};

/* Whoever lists may be about to delete: what nobody has asked for is not believed. */
static enum lh_status hand_on(const struct lh_object_listed *listed, void *arg,
                              struct lh_error *error)
{
    const struct listing *listing = arg;
    struct lh_str key = listed->key;
    if (key.len == 0 || !lh_str_has_prefix(key, listing->prefix) ||
        memchr(key.ptr, '\0', key.len) != NULL)
        return lh_error_set(error, LH_CORRUPT, "the list: a key that is not below \"%.*s\"",
                            (int)(listing->prefix.len < 80 ? listing->prefix.len : 80),
                            listing->prefix.ptr);
    return listing->each(listed, listing->arg, error);
}

enum lh_status lh_object_client_list(struct lh_object_client *client, struct lh_str prefix,
                                     enum lh_status (*each)(const struct lh_object_listed *listed,
                                                            void *arg, struct lh_error *error),
                                     void *arg, struct lh_error *error)
{
    struct lh_buf after = LH_BUF_EMPTY;
    struct lh_buf next = LH_BUF_EMPTY;
    struct listing listing = {prefix, each, arg};
    struct lh__object_page page = {
        .prefix = prefix, .each = hand_on, .arg = &listing, .next = &next};
    enum lh_status status;
    uint32_t pages = 0;
    do {
        page.after = lh_buf_str(&after);
        next.len = 0;
        status = client->calls->list(client, &page, error);
        if (status == LH_OK && lh_buf_failed(&next))
            status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a list");
        if (status == LH_OK && ++pages == PAGES_MAX && next.len > 0)
            status = lh_error_set(error, LH_IO, "the list has no end after %u pages", pages);
        struct lh_buf last = after;
        after = next;
        next = last;
    } while (status == LH_OK && after.len > 0);
    lh_buf_deinit(&after);
    lh_buf_deinit(&next);
    return status;
}
