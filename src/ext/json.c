/* The strict JSON reader. Any thread; no state.
 *
 * A pushdown automaton without recursion: what a value is nested in stands in a fixed array, so
 * the deepest text costs no more stack than the shallowest. Invariant: `at` never passes `end`. */
#include "ext/json.h"

#include <assert.h>

struct reader {
    const char *at;
    const char *end;
    char *out; /* NULL: nothing is written */
    const char *reason;
    unsigned depth;
    char nest[LH_JSON_DEPTH_MAX]; /* the closing bracket of each open container */
};

static bool broken(struct reader *r, const char *reason)
{
    r->reason = reason;
    return false;
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end &&
           (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) {
        r->at++;
    }
}

static bool next_is(const struct reader *r, char c)
{
    return r->at < r->end && *r->at == c;
}

static void copy(struct reader *r, const char *from)
{
    if (r->out != NULL) {
        memcpy(r->out, from, (size_t)(r->at - from));
        r->out += r->at - from;
    }
}

static bool read_digits(struct reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        r->at++;
    }
    return r->at > from || broken(r, "a digit is missing");
}

static bool read_number(struct reader *r)
{
    if (next_is(r, '-')) {
        r->at++;
    }
    if (next_is(r, '0')) {
        r->at++;
        if (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
            return broken(r, "a number cannot have leading zeros");
        }
    } else if (!read_digits(r)) {
        return false;
    }
    if (next_is(r, '.')) {
        r->at++;
        if (!read_digits(r)) {
            return false;
        }
    }
    if (next_is(r, 'e') || next_is(r, 'E')) {
        r->at++;
        if (next_is(r, '+') || next_is(r, '-')) {
            r->at++;
        }
        return read_digits(r);
    }
    return true;
}

/* Four hexadecimal digits at `p`, or -1. */
static int hex4(const char *p, const char *end)
{
    int value = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* At the backslash. A surrogate must be half of a pair: alone it has no UTF-8. */
static bool read_escape(struct reader *r)
{
    int code;
    int low;
    if (r->end - r->at < 2) {
        return broken(r, "the string does not end");
    }
    if (r->at[1] != 'u') {
        if (r->at[1] == 0 || strchr("\"\\/bfnrt", r->at[1]) == NULL) {
            return broken(r, "no such escape in a string");
        }
        r->at += 2;
        return true;
    }
    code = hex4(r->at + 2, r->end);
    if (code < 0) {
        return broken(r, "\\u needs four hexadecimal digits");
    }
    if (code >= 0xd800 && code < 0xe000) {
        bool paired = code < 0xdc00 && r->end - r->at >= 12 && r->at[6] == '\\' && r->at[7] == 'u';
        low = paired ? hex4(r->at + 8, r->end) : -1;
        if (low < 0xdc00 || low >= 0xe000) {
            return broken(r, "a surrogate must be half of a pair");
        }
        r->at += 6;
    }
    r->at += 6;
    return true;
}

/* The length of the well-formed UTF-8 sequence at `p`, whose first byte is not ASCII; 0: none.
 * Table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const char *p, const char *end)
{
    const unsigned char *b = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    size_t len = b[0] >= 0xc2 && b[0] <= 0xdf   ? 2
                 : b[0] >= 0xe0 && b[0] <= 0xef ? 3
                 : b[0] >= 0xf0 && b[0] <= 0xf4 ? 4
                                                : 0;
    unsigned char low = b[0] == 0xe0 ? 0xa0 : b[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = b[0] == 0xed ? 0x9f : b[0] == 0xf4 ? 0x8f : 0xbf;
    if (len == 0 || left < len || b[1] < low || b[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (b[i] < 0x80 || b[i] > 0xbf) {
            return 0;
        }
    }
    return len;
}

/* At the opening quote. */
static bool read_string(struct reader *r)
{
    r->at++;
    while (r->at < r->end) {
        unsigned char c = (unsigned char)*r->at;
        if (c == '"') {
            r->at++;
            return true;
        }
        if (c == '\\') {
            if (!read_escape(r)) {
                return false;
            }
        } else if (c < 0x20) {
            return broken(r, "a control character in a string must be escaped");
        } else if (c < 0x80) {
            r->at++;
        } else {
            size_t len = utf8_sequence(r->at, r->end);
            if (len == 0) {
                return broken(r, "not valid UTF-8");
            }
            r->at += len;
        }
    }
    return broken(r, "the string does not end");
}

static bool read_word(struct reader *r, struct lh_str word)
{
    if ((size_t)(r->end - r->at) < word.len || memcmp(r->at, word.ptr, word.len) != 0) {
        return broken(r, "a JSON value was expected");
    }
    r->at += word.len;
    return true;
}

/* A string, number, true, false or null. */
static bool read_scalar(struct reader *r)
{
    const char *from = r->at;
    bool good;
    if (r->at == r->end) {
        return broken(r, "the text ends too early");
    }
    switch (*r->at) {
    case '"':
        good = read_string(r);
        break;
    case 't':
        good = read_word(r, LH_STR("true"));
        break;
    case 'f':
        good = read_word(r, LH_STR("false"));
        break;
    case 'n':
        good = read_word(r, LH_STR("null"));
        break;
    default:
        good = *r->at == '-' || (*r->at >= '0' && *r->at <= '9')
                   ? read_number(r)
                   : broken(r, "a JSON value was expected");
    }
    if (good) {
        copy(r, from);
    }
    return good;
}

/* One byte that `reason` asks for, if it is `c`. */
static bool read_byte(struct reader *r, char c, const char *reason)
{
    if (r->at == r->end) {
        return broken(r, "the text ends too early");
    }
    if (*r->at != c) {
        return broken(r, reason);
    }
    r->at++;
    copy(r, r->at - 1);
    return true;
}

/* A member's name and its colon; in an array, nothing. */
static bool read_name(struct reader *r)
{
    const char *from;
    if (r->depth == 0 || r->nest[r->depth - 1] != '}') {
        return true;
    }
    skip_space(r);
    from = r->at;
    if (!next_is(r, '"')) {
        return broken(r, r->at == r->end ? "the text ends too early"
                                         : "a member's name in quotes was expected");
    }
    if (!read_string(r)) {
        return false;
    }
    copy(r, from);
    skip_space(r);
    return read_byte(r, ':', "a colon was expected");
}

/* After a value: closes what ends here and steps over a comma. `more`: a value follows. */
static bool read_after_value(struct reader *r, bool *more)
{
    for (;;) {
        skip_space(r);
        if (r->depth == 0) {
            *more = false;
            return r->at == r->end || broken(r, "nothing may follow the JSON value");
        }
        if (!next_is(r, r->nest[r->depth - 1])) {
            *more = true;
            return read_byte(r, ',',
                             r->nest[r->depth - 1] == '}' ? "a comma or } was expected"
                                                          : "a comma or ] was expected") &&
                   read_name(r);
        }
        r->at++;
        copy(r, r->at - 1);
        r->depth--;
    }
}

/* Opens a container. `empty`: it closed again at once. */
static bool read_open(struct reader *r, unsigned depth_max, bool *empty)
{
    if (r->depth == depth_max) {
        return broken(r, "nested too deeply");
    }
    r->nest[r->depth++] = *r->at == '{' ? '}' : ']';
    r->at++;
    copy(r, r->at - 1);
    skip_space(r);
    *empty = next_is(r, r->nest[r->depth - 1]);
    return *empty || read_name(r);
}

static bool read_document(struct reader *r, unsigned depth_max)
{
    bool more = true;
    while (more) {
        bool closed = true;
        skip_space(r);
        if (next_is(r, '{') || next_is(r, '[')) {
            if (!read_open(r, depth_max, &closed)) {
                return false;
            }
        } else if (!read_scalar(r)) {
            return false;
        }
        if (closed && !read_after_value(r, &more)) {
            return false;
        }
    }
    return true;
}

bool lh_json_check(struct lh_str text, unsigned depth_max, char *minified, size_t *minified_len,
                   struct lh_json_fault *fault)
{
    struct reader r = {.at = text.ptr, .end = text.ptr + text.len, .out = minified};
    bool good;
    assert(depth_max <= LH_JSON_DEPTH_MAX);
    good = read_document(&r, depth_max);
    assert(r.at <= r.end);
    if (good && minified != NULL) {
        *minified_len = (size_t)(r.out - minified);
        assert(*minified_len <= text.len);
    }
    if (!good) {
        *fault = (struct lh_json_fault){(size_t)(r.at - text.ptr), r.reason};
    }
    return good;
}

static char *write_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

/* What the valid escape at `p` stands for; `p` moves behind it. */
static unsigned escape_value(const char **p, const char *end)
{
    static const char letters[] = "bfnrt";
    static const char values[] = "\b\f\n\r\t";
    const char *at = *p;
    const char *letter = strchr(letters, at[1]);
    unsigned code;
    if (at[1] != 'u') {
        *p += 2;
        return (unsigned char)(letter == NULL ? at[1] : values[letter - letters]);
    }
    code = (unsigned)hex4(at + 2, end);
    *p += 6;
    if (code >= 0xd800 && code < 0xdc00) {
        unsigned low = (unsigned)hex4(at + 8, end);
        *p += 6;
        code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
    }
    return code;
}

bool lh_json_unescape(struct lh_str text, char *out, size_t *out_len, struct lh_json_fault *fault)
{
    struct reader r = {.at = text.ptr, .end = text.ptr + text.len};
    const char *p = text.ptr + 1;
    char *to = out;
    bool good = next_is(&r, '"') ? read_string(&r) : broken(&r, "a string was expected");
    if (good && r.at != r.end) {
        good = broken(&r, "nothing may follow the string");
    }
    if (!good) {
        *fault = (struct lh_json_fault){(size_t)(r.at - text.ptr), r.reason};
        return false;
    }
    while (p < r.end - 1) {
        if (*p == '\\') {
            to = write_utf8(to, escape_value(&p, r.end));
        } else {
            *to++ = *p++;
        }
    }
    *out_len = (size_t)(to - out);
    assert(*out_len <= text.len);
    return true;
}
