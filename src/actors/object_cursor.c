/* Cursors are base64url without padding (RFC 4648, section 5). No state; any thread. */
#include "actors/object_cursor.h"

#include "store/object_key.h"
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void lh_object_cursor_append(struct lh_buf *out, struct lh_str key)
{
    for (size_t i = 0; i < key.len; i += 3) {
        size_t left = key.len - i;
        uint32_t bits = (uint32_t)(uint8_t)key.ptr[i] << 16;
        bits |= left > 1 ? (uint32_t)(uint8_t)key.ptr[i + 1] << 8 : 0;
        bits |= left > 2 ? (uint32_t)(uint8_t)key.ptr[i + 2] : 0;
        for (unsigned k = 0; k < 4 && k <= left; k++)
            lh_buf_append_char(out, digits[bits >> (18 - 6 * k) & 63]);
    }
}

bool lh_object_cursor_read(struct lh_str text, struct lh_buf *key)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *digit = text.ptr[i] != '\0' ? strchr(digits, text.ptr[i]) : NULL;
        if (digit == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (i % 4 > 0)
            lh_buf_append_char(key, (char)(bits >> (6 - 2 * (i % 4))));
    }
    struct lh_error ignored;
    return text.len % 4 != 1 && !lh_buf_failed(key) &&
           lh_object_key_check(lh_buf_str(key), &ignored) == LH_OK;
}
