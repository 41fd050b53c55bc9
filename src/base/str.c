/* Borrowed bytes: compare, trim, parse. Any thread; no state. */
#include "base/str.h"

static char lh_ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool lh_str_eq_nocase(struct lh_str a, struct lh_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lh_ascii_lower(a.ptr[i]) != lh_ascii_lower(b.ptr[i]))
            return false;
    return true;
}

bool lh_str_has_prefix(struct lh_str s, struct lh_str prefix)
{
    return s.len >= prefix.len && lh_str_eq((struct lh_str){s.ptr, prefix.len}, prefix);
}

struct lh_str lh_str_trim(struct lh_str s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool lh_str_to_u64(struct lh_str s, uint64_t *value)
{
    uint64_t n = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned char)s.ptr[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(n, (uint64_t)10, &n) ||
            __builtin_add_overflow(n, (uint64_t)digit, &n))
            return false;
    }
    *value = n;
    return true;
}

static bool lh_utf8_is_tail(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t lh_str_utf8_length(struct lh_str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (s.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        return s.len >= 2 && lh_utf8_is_tail(p[1]) ? 2 : 0;
    /* The second byte's range keeps out overlong forms (E0, F0), surrogates (ED) and what is past
     * U+10FFFF (F4): RFC 3629, section 4. */
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        unsigned char low = p[0] == 0xe0 ? 0xa0 : 0x80;
        unsigned char high = p[0] == 0xed ? 0x9f : 0xbf;
        return s.len >= 3 && p[1] >= low && p[1] <= high && lh_utf8_is_tail(p[2]) ? 3 : 0;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        unsigned char low = p[0] == 0xf0 ? 0x90 : 0x80;
        unsigned char high = p[0] == 0xf4 ? 0x8f : 0xbf;
        return s.len >= 4 && p[1] >= low && p[1] <= high && lh_utf8_is_tail(p[2]) &&
                       lh_utf8_is_tail(p[3])
                   ? 4
                   : 0;
    }
    return 0;
}

bool lh_str_is_utf8(struct lh_str s)
{
    while (s.len > 0) {
        size_t step;
        uint64_t eight;
        if (s.len >= sizeof eight) {
            memcpy(&eight, s.ptr, sizeof eight);
            step = (eight & 0x8080808080808080u) == 0 ? sizeof eight : lh_str_utf8_length(s);
        } else {
            step = lh_str_utf8_length(s);
        }
        if (step == 0)
            return false;
        s.ptr += step;
        s.len -= step;
    }
    return true;
}
