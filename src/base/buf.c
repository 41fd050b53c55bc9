/* A growable run of bytes. Any thread; each buffer has one owner.
 *
 * Invariant: len <= cap, and ptr is NULL exactly when cap is 0. */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LH_BUF_FIRST_BYTES 64u /* the first growth: a short answer fits without a second one */

void lh_buf_deinit(struct lh_buf *buf)
{
    free(buf->ptr);
    *buf = (struct lh_buf)LH_BUF_EMPTY;
}

enum lh_status lh_buf_reserve(struct lh_buf *buf, size_t more)
{
    size_t need, cap;
    char *grown;
    assert(buf->len <= buf->cap);
    if (buf->failed || __builtin_add_overflow(buf->len, more, &need) || need > PTRDIFF_MAX)
        return LH_OUT_OF_MEMORY;
    if (need <= buf->cap)
        return LH_OK;
    cap = buf->cap < LH_BUF_FIRST_BYTES ? LH_BUF_FIRST_BYTES : buf->cap + buf->cap / 2;
    if (cap < need)
        cap = need;
    grown = realloc(buf->ptr, cap);
    if (grown == NULL)
        return LH_OUT_OF_MEMORY;
    buf->ptr = grown;
    buf->cap = cap;
    return LH_OK;
}

void lh_buf_append(struct lh_buf *buf, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    if (lh_buf_reserve(buf, len) != LH_OK) {
        buf->failed = true;
        return;
    }
    memcpy(buf->ptr + buf->len, bytes, len);
    buf->len += len;
}

void lh_buf_append_str(struct lh_buf *buf, struct lh_str s)
{
    lh_buf_append(buf, s.ptr, s.len);
}

void lh_buf_append_char(struct lh_buf *buf, char c)
{
    lh_buf_append(buf, &c, 1);
}

void lh_buf_printf(struct lh_buf *buf, const char *format, ...)
{
    va_list args;
    int len;
    size_t room = buf->cap - buf->len;
    if (buf->failed)
        return;
    va_start(args, format);
    len = vsnprintf(room > 0 ? buf->ptr + buf->len : NULL, room, format, args);
    va_end(args);
    assert(len >= 0);
    if ((size_t)len >= room) { /* vsnprintf writes its NUL */
        if (lh_buf_reserve(buf, (size_t)len + 1) != LH_OK) {
            buf->failed = true;
            return;
        }
        va_start(args, format);
        vsnprintf(buf->ptr + buf->len, (size_t)len + 1, format, args);
        va_end(args);
    }
    buf->len += (size_t)len;
}

static bool lh_json_is_plain(char c)
{
    unsigned char u = (unsigned char)c;
    return u >= 0x20 && u < 0x7f && u != '"' && u != '\\';
}

void lh_json_escape(struct lh_str s, char out[LH_JSON_ESCAPE_MAX], size_t *in_len, size_t *out_len)
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter */
    static const char hex[] = "0123456789abcdef";
    size_t len = lh_str_utf8_length(s);
    unsigned char c = (unsigned char)s.ptr[0];
    assert(s.len > 0);
    *in_len = len > 0 ? len : 1;
    if (len == 0) { /* U+FFFD in UTF-8 */
        memcpy(out, "\xef\xbf\xbd", 3);
        *out_len = 3;
        return;
    }
    for (size_t i = 0; i + 1 < sizeof short_forms; i += 2) {
        if (c == (unsigned char)short_forms[i]) {
            out[0] = '\\';
            out[1] = short_forms[i + 1];
            *out_len = 2;
            return;
        }
    }
    if (c < 0x20 || c == 0x7f) { /* DEL need not be escaped, but no terminal shows it */
        memcpy(out, "\\u00", 4);
        out[4] = hex[c >> 4];
        out[5] = hex[c & 15];
        *out_len = 6;
        return;
    }
    memcpy(out, s.ptr, len);
    *out_len = len;
}

void lh_buf_append_json_string(struct lh_buf *buf, struct lh_str s)
{
    lh_buf_append_char(buf, '"');
    while (s.len > 0) {
        char out[LH_JSON_ESCAPE_MAX];
        size_t in_len, out_len, plain = 0;
        while (plain < s.len && lh_json_is_plain(s.ptr[plain]))
            plain++;
        lh_buf_append(buf, s.ptr, plain);
        s.ptr += plain;
        s.len -= plain;
        if (s.len == 0)
            break;
        lh_json_escape(s, out, &in_len, &out_len);
        lh_buf_append(buf, out, out_len);
        s.ptr += in_len;
        s.len -= in_len;
    }
    lh_buf_append_char(buf, '"');
}

void lh_buf_consume(struct lh_buf *buf, size_t len)
{
    assert(len <= buf->len);
    if (len == 0)
        return;
    memmove(buf->ptr, buf->ptr + len, buf->len - len);
    buf->len -= len;
}

struct lh_buf lh_buf_take(struct lh_buf *from)
{
    struct lh_buf taken = *from;
    *from = (struct lh_buf)LH_BUF_EMPTY;
    return taken;
}
