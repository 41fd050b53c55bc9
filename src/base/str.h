/* A borrowed run of bytes. NUL-termination exists only at a system call. */
#ifndef LH_BASE_STR_H
#define LH_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct lh_str {
    const char *ptr;
    size_t len;
};

#define LH_STR(literal) ((struct lh_str){"" literal, sizeof(literal) - 1})
#define LH_STR_FMT(s)   (int)(s).len, (s).ptr /* for "%.*s" */

static inline struct lh_str lh_str_of(const char *z)
{
    return (struct lh_str){z, strlen(z)};
}

static inline bool lh_str_eq(struct lh_str a, struct lh_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII case is ignored: header names and media types. */
bool lh_str_eq_nocase(struct lh_str a, struct lh_str b);

bool lh_str_has_prefix(struct lh_str s, struct lh_str prefix);

/* Spaces and tabs off both ends. */
struct lh_str lh_str_trim(struct lh_str s);

/* A decimal number without sign, spaces or overflow; false when `s` is anything else. */
bool lh_str_to_u64(struct lh_str s, uint64_t *value);

/* Whether the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool lh_str_is_utf8(struct lh_str s);

/* The length, 1 to 4, of the well-formed UTF-8 character that `s` starts with; 0 when it starts
 * with anything else or is empty. */
size_t lh_str_utf8_length(struct lh_str s);

#ifdef __cplusplus
}
#endif

#endif
