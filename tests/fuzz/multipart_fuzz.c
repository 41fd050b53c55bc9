/* multipart/form-data in pieces: whatever comes, the same body comes out of any pieces. The
 * Content-Type with the boundary is the first line where the first byte is above 127. */
#include "base/buf.h"
#include "net/multipart.h"

#include <stdlib.h>

static enum lh_status append(struct lh_str bytes, void *arg, struct lh_error *error)
{
    lh_buf_append_str(arg, bytes);
    return LH_OK;
}

static enum lh_status take(struct lh_str type, struct lh_str text, size_t step, struct lh_buf *body)
{
    struct lh_multipart multipart;
    struct lh_error error;
    enum lh_status status = lh_multipart_init(&multipart, type, &error);
    if (status != LH_OK)
        return status;
    for (size_t i = 0; i < text.len; i += step) {
        size_t len = text.len - i < step ? text.len - i : step;
        status = lh_multipart_take(&multipart, (struct lh_str){text.ptr + i, len},
                                   &(struct lh_multipart_sink){append, body}, &error);
        if (status != LH_OK)
            return status;
    }
    return lh_multipart_end(&multipart, &error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lh_buf whole = LH_BUF_EMPTY, pieces = LH_BUF_EMPTY;
    if (size < 1)
        return 0;
    struct lh_str type = LH_STR("multipart/form-data; boundary=b");
    struct lh_str text = {(const char *)data + 1, size - 1};
    const char *end = data[0] > 127 ? memchr(text.ptr, '\n', text.len) : NULL;
    if (end != NULL) {
        type = (struct lh_str){text.ptr, (size_t)(end - text.ptr)};
        text = (struct lh_str){end + 1, text.len - type.len - 1};
        lh_multipart_is(type);
    }
    enum lh_status status = take(type, text, text.len + 1, &whole);
    if (end == NULL && status == LH_INVALID_ARGUMENT)
        abort();
    if (take(type, text, data[0] % 16u + 1, &pieces) != status)
        abort();
    if (status == LH_OK && !lh_str_eq(lh_buf_str(&whole), lh_buf_str(&pieces)))
        abort();
    lh_buf_deinit(&whole);
    lh_buf_deinit(&pieces);
    return 0;
}
