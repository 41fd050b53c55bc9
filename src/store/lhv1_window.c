/* A window that moves over a file. Any thread that may read from the disk.
 *
 * Invariant: bytes[at..len) are the file's from begin + at on. */
#include "store/lhv1_window.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum lh_status lh__window_init(struct lh__window *window, struct lh_disk *disk, int file,
                               uint64_t file_bytes, uint64_t offset, struct lh_error *error)
{
    *window =
        (struct lh__window){.disk = disk, .file = file, .file_bytes = file_bytes, .begin = offset};
    assert(offset <= file_bytes);
    window->bytes = malloc(LH__WINDOW_BYTES);
    if (window->bytes == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read a file");
    return LH_OK;
}

void lh__window_deinit(struct lh__window *window)
{
    free(window->bytes);
    *window = (struct lh__window){0};
}

uint64_t lh__window_offset(const struct lh__window *window)
{
    return window->begin + window->at;
}

uint64_t lh__window_left(const struct lh__window *window)
{
    return window->file_bytes - lh__window_offset(window);
}

/* Moves what is left to the front and reads on behind it. */
static enum lh_status refill(struct lh__window *window, struct lh_error *error)
{
    uint64_t room;
    uint64_t left;
    size_t got = 0;
    int result;
    memmove(window->bytes, window->bytes + window->at, window->len - window->at);
    window->begin += window->at;
    window->len -= window->at;
    window->at = 0;
    room = LH__WINDOW_BYTES - window->len;
    left = window->file_bytes - window->begin - window->len;
    result = lh_disk_read(window->disk, window->file, window->bytes + window->len,
                          room < left ? room : left, window->begin + window->len, &got);
    if (result < 0)
        return lh_error_sys(error, LH_IO, -result, "reading at byte %" PRIu64,
                            window->begin + window->len);
    window->len += got;
    return LH_OK;
}

enum lh_status lh__window_take(struct lh__window *window, size_t len, const char *what,
                               const uint8_t **bytes, struct lh_error *error)
{
    assert(len <= LH__WINDOW_BYTES);
    if (window->len - window->at < len) {
        enum lh_status status = refill(window, error);
        if (status != LH_OK)
            return status;
    }
    if (window->len - window->at < len)
        return lh_error_set(error, LH_CORRUPT, "byte %" PRIu64 ": the file ends inside %s",
                            window->begin + window->len, what);
    *bytes = window->bytes + window->at;
    window->at += len;
    return LH_OK;
}

enum lh_status lh__window_number(struct lh__window *window, uint64_t min, uint64_t max,
                                 const char *what, uint64_t *number, struct lh_error *error)
{
    uint64_t offset = lh__window_offset(window);
    uint64_t zigzag = 0;
    const uint8_t *byte = NULL;
    unsigned shift = 0;
    assert(max <= INT64_MAX);
    do {
        enum lh_status status = lh__window_take(window, 1, what, &byte, error);
        if (status != LH_OK)
            return status;
        if (shift == 63 && *byte > 1) /* the tenth byte: one bit is left of 64 */
            return lh_error_set(error, LH_CORRUPT,
                                "byte %" PRIu64 ": %s: a number of more than 64 bits", offset,
                                what);
        zigzag |= (uint64_t)(*byte & 0x7f) << shift;
        shift += 7;
    } while ((*byte & 0x80) != 0);
    *number = zigzag >> 1;
    if ((zigzag & 1) != 0 || *number < min || *number > max)
        return lh_error_set(
            error, LH_CORRUPT,
            "byte %" PRIu64 ": %s: %s%" PRIu64 " is not from %" PRIu64 " to %" PRIu64, offset, what,
            (zigzag & 1) != 0 ? "-" : "", *number + (zigzag & 1), min, max);
    return LH_OK;
}

enum lh_status lh__window_count(struct lh__window *window, uint64_t bytes_each, const char *what,
                                uint64_t *count, struct lh_error *error)
{
    uint64_t offset = lh__window_offset(window);
    uint64_t left;
    enum lh_status status = lh__window_number(window, 0, INT64_MAX, what, count, error);
    if (status != LH_OK)
        return status;
    left = lh__window_left(window);
    if (*count > left / bytes_each)
        return lh_error_set(error, LH_CORRUPT,
                            "byte %" PRIu64 ": %" PRIu64 " %s do not fit in the %" PRIu64
                            " bytes that are left",
                            offset, *count, what, left);
    return LH_OK;
}
