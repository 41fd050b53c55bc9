/* A growable run of bytes with one owner. A failed growth is sticky: appends after it do nothing,
 * and `lh_buf_failed` says so once at the end, so that text can be built without a check a line. */
#ifndef LH_BASE_BUF_H
#define LH_BASE_BUF_H

#include "base/status.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lh_buf {
    char *ptr;
    size_t len;
    size_t cap;
    bool failed;
};

/* clang-format off */
#define LH_BUF_EMPTY {0}
/* clang-format on */

void lh_buf_deinit(struct lh_buf *buf);

/* Makes room for `more` bytes past `len`; LH_OUT_OF_MEMORY leaves the contents as they were. */
LH_MUST_USE enum lh_status lh_buf_reserve(struct lh_buf *buf, size_t more);

void lh_buf_append(struct lh_buf *buf, const void *bytes, size_t len);
void lh_buf_append_str(struct lh_buf *buf, struct lh_str s);
void lh_buf_append_char(struct lh_buf *buf, char c);
void lh_buf_printf(struct lh_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends `s` as a JSON string with its quotes (RFC 8259): control characters, quote and backslash
 * escaped; each byte that is not part of well-formed UTF-8 becomes U+FFFD. */
void lh_buf_append_json_string(struct lh_buf *buf, struct lh_str s);

#define LH_JSON_ESCAPE_MAX 6u /* as in "\u001f" */

/* Writes the first character of `s`, which is not empty, as it stands inside a JSON string, and
 * says how many bytes of `s` it was and how many it has become. */
void lh_json_escape(struct lh_str s, char out[LH_JSON_ESCAPE_MAX], size_t *in_len, size_t *out_len);

/* Drops the first `len` bytes. */
void lh_buf_consume(struct lh_buf *buf, size_t len);

/* Moves the contents out; `from` is empty afterwards. */
struct lh_buf lh_buf_take(struct lh_buf *from);

static inline bool lh_buf_failed(const struct lh_buf *buf)
{
    return buf->failed;
}

static inline struct lh_str lh_buf_str(const struct lh_buf *buf)
{
    return (struct lh_str){buf->ptr, buf->len};
}

#ifdef __cplusplus
}
#endif

#endif
