/* Any bytes as what a request for an object says: its key, Range, and the conditions.
 *
 * A line each. A key that is let in comes back from its URL and from the names of its file and
 * folders. What is answered lies within the object and is what the range asks for; a range or a
 * condition is refused only when there is one. */
#include "actors/messages.h"
#include "actors/object_range.h"
#include "net/client.h"
#include "net/target.h"
#include "store/object_key.h"

#include <inttypes.h>
#include <stdlib.h>

#define FOLDER "/v1/storage/get/"

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* The next line, without its end; empty when there is none. */
static struct lh_str take_line(struct lh_str *text)
{
    const char *end = text->len > 0 ? memchr(text->ptr, '\n', text->len) : NULL;
    struct lh_str line = {text->ptr, end != NULL ? (size_t)(end - text->ptr) : text->len};
    size_t step = end != NULL ? line.len + 1 : line.len;
    *text = (struct lh_str){text->ptr + step, text->len - step};
    return line;
}

/* A copy in memory of its own length, so that no byte beside it is read unnoticed. */
static struct lh_buf copy_of(struct lh_str text)
{
    struct lh_buf copy = LH_BUF_EMPTY;
    copy.ptr = malloc(text.len + (text.len == 0));
    must(copy.ptr != NULL);
    memcpy(copy.ptr, text.ptr, text.len);
    copy.len = copy.cap = text.len;
    return copy;
}

/* ---- keys ---- */

static void check_names(struct lh_str key)
{
    char path[LH_OBJECT_PATH_BYTES], part[LH_OBJECT_PATH_BYTES];
    struct lh_buf parts = LH_BUF_EMPTY;
    struct lh_str left = {path, lh_object_key_path(key, path)};
    must(left.len == strlen(path));
    while (left.len > 0) {
        const char *slash = memchr(left.ptr, '/', left.len);
        struct lh_str name = {left.ptr, slash != NULL ? (size_t)(slash - left.ptr) : left.len};
        bool is_aside;
        size_t len = lh_object_key_of_name(name, part, &is_aside);
        must(len > 0 && !is_aside && name.len <= LH_OBJECT_NAME_BYTES_MAX);
        must(!lh_str_eq(name, LH_STR(".")) && !lh_str_eq(name, LH_STR("..")));
        if (parts.len > 0)
            lh_buf_append_char(&parts, '/');
        lh_buf_append(&parts, part, len);
        left.ptr += name.len + (slash != NULL);
        left.len -= name.len + (slash != NULL);
    }
    must(lh_str_eq(lh_buf_str(&parts), key));
    lh_buf_deinit(&parts);
}

static void check_url(struct lh_str key)
{
    struct lh_buf url = LH_BUF_EMPTY;
    struct lh__target target;
    struct lh_error error;
    lh_buf_append_str(&url, LH_STR(FOLDER));
    lh_http_escape(&url, key);
    lh_buf_append_str(&url, LH_STR("?prefix="));
    lh_http_escape(&url, key);
    char *scratch = malloc(url.len);
    must(scratch != NULL && !lh_buf_failed(&url));
    must(lh__target_parse(lh_buf_str(&url), scratch, &target, &error) == LH_OK);
    struct lh_str path = target.path;
    must(path.len == sizeof FOLDER - 2 + key.len);
    must(lh_str_eq((struct lh_str){path.ptr + sizeof FOLDER - 2, key.len}, key));
    must(target.query_count == 1 && lh_str_eq(target.query[0].value, key));
    free(scratch);
    lh_buf_deinit(&url);
}

static void check_key(struct lh_str key)
{
    struct lh_error error = {.status = LH_OK};
    if (lh_object_key_check(key, &error) == LH_OK) {
        check_names(key);
        check_url(key);
    } else {
        must(error.text[0] != '\0');
    }
}

/* ---- ranges and conditions ---- */

static void check_range(struct lh_str header, const struct lh_range *range)
{
    struct lh_buf again = LH_BUF_EMPTY;
    struct lh_range read;
    lh_buf_append_str(&again, LH_STR("bytes="));
    if (!range->is_suffix)
        lh_buf_printf(&again, "%" PRIu64, range->first);
    lh_buf_append_char(&again, '-');
    if (range->is_suffix || range->last != UINT64_MAX)
        lh_buf_printf(&again, "%" PRIu64, range->last);
    must(memchr(header.ptr, '-', header.len) != NULL);
    must(lh_range_parse(lh_buf_str(&again), &read));
    must(read.is_suffix == range->is_suffix && read.last == range->last);
    must(read.first == range->first);
    lh_buf_deinit(&again);
}

/* The bytes that are answered, against the range as it was read. */
static void check_part(const struct lh_transfer *transfer, const struct lh_range *range)
{
    uint64_t first = transfer->body_first, length = transfer->body_length;
    uint64_t size = transfer->info.size;
    must(first <= size && length <= size - first);
    if (!transfer->has_range) {
        must(first == 0 && length == size);
    } else if (range->is_suffix) {
        must(length > 0 && first + length == size && length <= range->last);
        must(length == range->last || first == 0);
    } else {
        must(length > 0 && first == range->first && first + length - 1 <= range->last);
        must(first + length - 1 == range->last || first + length == size);
    }
}

static void check_conditions(struct lh_transfer *transfer, const struct lh_range *range)
{
    bool had_range = transfer->has_range;
    uint64_t size = transfer->info.size;
    enum lh_status status = lh_transfer_check(transfer);
    must(status == transfer->error.status && (had_range || !transfer->has_range));
    if (status == LH_PRECONDITION_FAILED) {
        must(transfer->if_match.len > 0);
    } else if (status == LH_RANGE_NOT_SATISFIABLE) {
        must(transfer->has_range);
        must(size == 0 || (range->is_suffix ? range->last == 0 : range->first >= size));
    } else {
        must(status == LH_OK);
        must(!transfer->is_not_modified ||
             transfer->if_none_match.len + transfer->if_modified_since.len > 0);
        if (!transfer->is_not_modified)
            check_part(transfer, range);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {0, 1, 2, 10, 1000, 1ull << 32, UINT64_MAX >> 1, UINT64_MAX};
    struct lh_str text = {(const char *)data + 1, size - 1};
    struct lh_transfer *transfer;
    struct lh_range range;
    if (size < 1 || size > LH_HEADER_BYTES_MAX)
        return 0;
    transfer = lh_transfer_create(LH_TRANSFER_GET, NULL);
    must(transfer != NULL);
    struct lh_buf key = copy_of(take_line(&text));
    struct lh_buf header = copy_of(take_line(&text));
    transfer->if_match = copy_of(take_line(&text));
    transfer->if_none_match = copy_of(take_line(&text));
    transfer->if_range = copy_of(take_line(&text));
    transfer->if_modified_since = copy_of(take_line(&text));
    transfer->info = (struct lh_object_info){.size = sizes[data[0] % 8u], .etag = "a1"};
    transfer->info.modified_ms = (uint64_t)(data[0] / 8u) * 1000u;
    transfer->has_range = lh_range_parse(lh_buf_str(&header), &range);
    transfer->is_range_suffix = range.is_suffix;
    transfer->range_first = range.first;
    transfer->range_last = range.last;
    check_key(lh_buf_str(&key));
    if (transfer->has_range)
        check_range(lh_buf_str(&header), &range);
    check_conditions(transfer, &range);
    lh_transfer_destroy(transfer);
    lh_buf_deinit(&header);
    lh_buf_deinit(&key);
    return 0;
}
