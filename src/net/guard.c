/* The header guard. Any thread: no state; in the server it runs on the loop.
 *
 * llhttp with every lenient flag off still lets through what makes two HTTP programs disagree on
 * where a request ends: a bare CR inside a value, a missing or doubled Host, `Host : a`, folded
 * lines, HTTP/1.0 with Transfer-Encoding, versions that do not exist. So a block is read here
 * first, whole and line by line, and the parser only ever sees one that passed; a trailer section,
 * behind which it would take a bare LF for the end, it does not see at all. Whatever is refused
 * here closes the connection: after it nobody knows where the next message starts. */
#include "net/guard.h"

#include "base/limits.h"
#include <assert.h>
#include <stddef.h>

enum {
    CLASS_TCHAR = 1, /* RFC 9110 section 5.6.2 */
    CLASS_VALUE = 2, /* field-content: HTAB, SP, VCHAR, obs-text */
    CLASS_HOST = 4,  /* reg-name, IPv4 and the inside of an IP literal, RFC 3986 section 3.2.2 */
};

#define ALL   (CLASS_TCHAR | CLASS_VALUE | CLASS_HOST)
#define TOKEN (CLASS_TCHAR | CLASS_VALUE)
#define HOST  (CLASS_VALUE | CLASS_HOST)

static const unsigned char lh__class[256] = {
    ['0' ... '9'] = ALL,  ['A' ... 'Z'] = ALL,
    ['a' ... 'z'] = ALL,  ['!'] = ALL,
    ['$'] = ALL,          ['%'] = ALL,
    ['&'] = ALL,          ['\''] = ALL,
    ['*'] = ALL,          ['+'] = ALL,
    ['-'] = ALL,          ['.'] = ALL,
    ['_'] = ALL,          ['~'] = ALL,
    ['#'] = TOKEN,        ['^'] = TOKEN,
    ['`'] = TOKEN,        ['|'] = TOKEN,
    ['('] = HOST,         [')'] = HOST,
    [','] = HOST,         [';'] = HOST,
    ['='] = HOST,         ['"'] = CLASS_VALUE,
    [' '] = CLASS_VALUE,  ['/'] = CLASS_VALUE,
    [':'] = CLASS_VALUE,  ['<'] = CLASS_VALUE,
    ['>'] = CLASS_VALUE,  ['?'] = CLASS_VALUE,
    ['@'] = CLASS_VALUE,  ['['] = CLASS_VALUE,
    ['\\'] = CLASS_VALUE, [']'] = CLASS_VALUE,
    ['{'] = CLASS_VALUE,  ['}'] = CLASS_VALUE,
    ['\t'] = CLASS_VALUE, [0x80 ... 0xff] = CLASS_VALUE,
};

static bool lh__is(char c, unsigned kind)
{
    return (lh__class[(unsigned char)c] & kind) != 0;
}

static bool lh__all(struct lh_str s, unsigned kind)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!lh__is(s.ptr[i], kind)) {
            return false;
        }
    }
    return true;
}

static struct lh_str lh__slice(const char *from, const char *to)
{
    return (struct lh_str){from, (size_t)(to - from)};
}

/* Looks on from *seen for the empty line; *end_len counts it in, or is 0 when it has not come. */
static enum lh_status lh__find_empty_line(const char *bytes, size_t len, size_t *seen,
                                          size_t *end_len, struct lh_error *error)
{
    const char *end = bytes + len;
    const char *at = bytes + *seen;

    assert(*seen <= len);
    *end_len = 0;
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        if (lf == NULL) {
            *seen = len;
            return LH_OK;
        }
        if (lf == bytes || lf[-1] != '\r') {
            return lh_error_set(error, LH_BAD_REQUEST, "a line ends in LF without CR");
        }
        at = lf + 1;
        if (lf - bytes == 1 || lf[-2] == '\n') {
            *end_len = (size_t)(at - bytes);
            break;
        }
    }
    *seen = (size_t)(at - bytes);
    return LH_OK;
}

enum lh_status lh__guard_find_end(const char *bytes, size_t len, size_t *seen, size_t *block_len,
                                  struct lh_error *error)
{
    *block_len = 0;
    if (len > 0 && !lh__is(bytes[0], CLASS_TCHAR)) {
        return lh_error_set(error, LH_BAD_REQUEST, "the request line does not start with a method");
    }
    return lh__find_empty_line(bytes, len, seen, block_len, error);
}

enum lh_status lh__guard_find_trailer_end(const char *bytes, size_t len, size_t *seen,
                                          size_t *section_len, struct lh_error *error)
{
    return lh__find_empty_line(bytes, len, seen, section_len, error);
}

/* "HTTP/1.1" or "HTTP/1.0"; other versions of the same form are 505. `line` is for errors. */
static enum lh_status lh__check_version(struct lh_str version, const char *line,
                                        struct lh__head *head, struct lh_error *error)
{
    const char *v = version.ptr;

    if (version.len != 8 || memcmp(v, "HTTP/", 5) != 0 || v[5] < '0' || v[5] > '9' || v[6] != '.' ||
        v[7] < '0' || v[7] > '9') {
        return lh_error_set(error, LH_BAD_REQUEST, "the %s HTTP/1.1", line);
    }
    if (v[5] != '1' || v[7] > '1') {
        return lh_error_set(error, LH_VERSION_NOT_SUPPORTED, "%.8s: only HTTP/1.0 and HTTP/1.1", v);
    }
    head->minor = (uint8_t)(v[7] - '0');
    head->keep_alive = head->minor == 1;
    return LH_OK;
}

/* method SP request-target SP HTTP-version, with exactly these two spaces. */
static enum lh_status lh__check_request_line(struct lh_str line, struct lh__head *head,
                                             struct lh_error *error)
{
    const char *end = line.ptr + line.len;
    const char *first = memchr(line.ptr, ' ', line.len);
    const char *second = first ? memchr(first + 1, ' ', (size_t)(end - first - 1)) : NULL;

    if (second == NULL) {
        return lh_error_set(error, LH_BAD_REQUEST,
                            "the request line is not `method target HTTP/1.1`");
    }
    head->method = lh__slice(line.ptr, first);
    head->target = lh__slice(first + 1, second);
    if (head->method.len == 0 || !lh__all(head->method, CLASS_TCHAR)) {
        return lh_error_set(error, LH_BAD_REQUEST, "the method is not a token");
    }
    if (head->target.len > LH_TARGET_BYTES_MAX) {
        return lh_error_set(error, LH_URI_TOO_LONG, "the request target has %zu bytes, over %u",
                            head->target.len, LH_TARGET_BYTES_MAX);
    }
    for (size_t i = 0; i < head->target.len; i++) {
        if (head->target.ptr[i] <= ' ' || head->target.ptr[i] >= 0x7f) {
            return lh_error_set(error, LH_BAD_REQUEST,
                                "byte %zu of the request target (0x%02x) must be percent-encoded",
                                i, (unsigned char)head->target.ptr[i]);
        }
    }
    if (head->target.len == 0) {
        return lh_error_set(error, LH_BAD_REQUEST, "the request target is empty");
    }
    return lh__check_version(lh__slice(second + 1, end), "request line does not end in", head,
                             error);
}

/* HTTP-version SP 3DIGIT SP [ reason-phrase ]. */
static enum lh_status lh__check_status_line(struct lh_str line, struct lh__head *head,
                                            struct lh_error *error)
{
    const char *s = line.ptr + 8;
    struct lh_str version = {line.ptr, line.len < 8 ? line.len : 8};
    enum lh_status status =
        lh__check_version(version, "status line does not begin with", head, error);

    if (status != LH_OK) {
        return status;
    }
    if (line.len < 13 || s[0] != ' ' || s[1] < '1' || s[1] > '5' || s[2] < '0' || s[2] > '9' ||
        s[3] < '0' || s[3] > '9' || s[4] != ' ') {
        return lh_error_set(error, LH_BAD_REQUEST,
                            "the status line is not `HTTP/1.1 status reason`");
    }
    if (!lh__all(lh__slice(s + 5, line.ptr + line.len), CLASS_VALUE)) {
        return lh_error_set(error, LH_BAD_REQUEST, "a control byte in the reason phrase");
    }
    head->status = (s[1] - '0') * 100 + (s[2] - '0') * 10 + (s[3] - '0');
    return LH_OK;
}

/* uri-host [ ":" port ], RFC 9110 section 7.2. */
static bool lh__host_is_valid(struct lh_str host)
{
    const char *end = host.ptr + host.len;
    const char *colon;

    if (host.len > 0 && host.ptr[0] == '[') {
        const char *close = memchr(host.ptr, ']', host.len);
        if (close == NULL || close == host.ptr + 1) {
            return false;
        }
        for (const char *c = host.ptr + 1; c < close; c++) {
            if (!lh__is(*c, CLASS_HOST) && *c != ':') {
                return false;
            }
        }
        colon = close + 1;
    } else {
        colon = memchr(host.ptr, ':', host.len);
        colon = colon ? colon : end;
        if (colon == host.ptr || !lh__all(lh__slice(host.ptr, colon), CLASS_HOST)) {
            return false;
        }
    }
    if (colon == end) {
        return true;
    }
    if (*colon != ':' || end - colon > 6) {
        return false;
    }
    for (const char *c = colon + 1; c < end; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
    }
    return true;
}

/* Only exactly `chunked`. A coding we do not know is 501; chunked twice is malformed. */
static enum lh_status lh__check_transfer_encoding(struct lh_str value, struct lh_error *error)
{
    const char *at = value.ptr;
    const char *end = value.ptr + value.len;
    bool unknown = false;

    if (lh_str_eq_nocase(value, LH_STR("chunked"))) {
        return LH_OK;
    }
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct lh_str coding = lh_str_trim(lh__slice(at, comma ? comma : end));
        if (coding.len > 0 && !lh_str_eq_nocase(coding, LH_STR("chunked"))) {
            unknown = true;
        }
        at = comma ? comma + 1 : end;
    }
    return lh_error_set(error, unknown ? LH_NOT_IMPLEMENTED : LH_BAD_REQUEST,
                        "Transfer-Encoding: only `chunked` is implemented");
}

/* 1*DIGIT. A number beyond 64 bits is well-formed and surely too large. */
static enum lh_status lh__check_content_length(struct lh_str value, struct lh__head *head,
                                               struct lh_error *error)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9') {
            return lh_error_set(error, LH_BAD_REQUEST, "Content-Length is not a number");
        }
    }
    if (value.len == 0) {
        return lh_error_set(error, LH_BAD_REQUEST, "Content-Length is empty");
    }
    if (!lh_str_to_u64(value, &head->content_length)) {
        return lh_error_set(error, LH_BODY_TOO_LARGE, "Content-Length does not fit 64 bits");
    }
    return LH_OK;
}

static void lh__read_connection(struct lh_str value, struct lh__head *head, bool *close)
{
    const char *at = value.ptr;
    const char *end = value.ptr + value.len;

    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct lh_str option = lh_str_trim(lh__slice(at, comma ? comma : end));
        if (lh_str_eq_nocase(option, LH_STR("close"))) {
            *close = true;
        } else if (lh_str_eq_nocase(option, LH_STR("keep-alive"))) {
            head->keep_alive = true;
        }
        at = comma ? comma + 1 : end;
    }
}

/* What has been seen of the fields that may stand only once. */
struct lh__seen {
    unsigned hosts;
    unsigned transfer_encodings;
    bool close;
};

/* The five fields that decide framing and connection; all others pass by. */
static enum lh_status lh__check_field(struct lh_str name, struct lh_str value,
                                      struct lh__head *head, struct lh__seen *seen,
                                      struct lh_error *error)
{
    switch (name.len) {
    case 4:
        if (head->status == 0 && lh_str_eq_nocase(name, LH_STR("host"))) {
            if (++seen->hosts > 1) {
                return lh_error_set(error, LH_BAD_REQUEST, "more than one Host");
            }
            if (!lh__host_is_valid(value)) {
                return lh_error_set(error, LH_BAD_REQUEST, "Host is not host[:port]");
            }
        }
        return LH_OK;
    case 6:
        if (head->status == 0 && head->minor == 1 && lh_str_eq_nocase(name, LH_STR("expect"))) {
            if (!lh_str_eq_nocase(value, LH_STR("100-continue"))) {
                return lh_error_set(error, LH_EXPECTATION_FAILED, "Expect: only 100-continue");
            }
            head->expect_continue = true;
        }
        return LH_OK;
    case 10:
        if (lh_str_eq_nocase(name, LH_STR("connection"))) {
            lh__read_connection(value, head, &seen->close);
        }
        return LH_OK;
    case 14:
        if (lh_str_eq_nocase(name, LH_STR("content-length"))) {
            if (head->has_content_length) {
                return lh_error_set(error, LH_BAD_REQUEST, "more than one Content-Length");
            }
            head->has_content_length = true;
            return lh__check_content_length(value, head, error);
        }
        return LH_OK;
    case 17:
        if (lh_str_eq_nocase(name, LH_STR("transfer-encoding"))) {
            if (++seen->transfer_encodings > 1) {
                return lh_error_set(error, LH_BAD_REQUEST, "more than one Transfer-Encoding");
            }
            head->chunked = true;
            return lh__check_transfer_encoding(value, error);
        }
        return LH_OK;
    default:
        return LH_OK;
    }
}

/* Parsers differ on whether a tab around these values belongs to them; no client sends one. */
static bool lh__has_framing_tab(struct lh_str name, struct lh_str value)
{
    return memchr(value.ptr, '\t', value.len) != NULL &&
           (lh_str_eq_nocase(name, LH_STR("transfer-encoding")) ||
            lh_str_eq_nocase(name, LH_STR("content-length")));
}

/* field-name ":" OWS field-value OWS, no folding, no control bytes. `section` is for errors. */
static enum lh_status lh__split_line(struct lh_str line, const char *section, unsigned number,
                                     struct lh_str *name, struct lh_str *value,
                                     struct lh_error *error)
{
    const char *end = line.ptr + line.len;
    const char *colon = line.ptr;

    if (*line.ptr == ' ' || *line.ptr == '\t') {
        return lh_error_set(error, LH_BAD_REQUEST, "%s line %u is folded", section, number);
    }
    while (colon < end && lh__is(*colon, CLASS_TCHAR)) {
        colon++;
    }
    if (colon == line.ptr || colon == end || *colon != ':') {
        return lh_error_set(error, LH_BAD_REQUEST, "%s line %u: the name is not a token", section,
                            number);
    }
    *name = lh__slice(line.ptr, colon);
    *value = lh__slice(colon + 1, end);
    if (!lh__all(*value, CLASS_VALUE)) {
        return lh_error_set(error, LH_BAD_REQUEST, "%s line %u: a control byte in the value",
                            section, number);
    }
    return LH_OK;
}

static enum lh_status lh__check_line(struct lh_str line, unsigned number, struct lh__head *head,
                                     struct lh__seen *seen, struct lh_error *error)
{
    struct lh__field *field;
    struct lh_str name;
    struct lh_str value;
    enum lh_status status = lh__split_line(line, "header", number, &name, &value, error);

    if (status != LH_OK) {
        return status;
    }
    if (lh__has_framing_tab(name, value)) {
        return lh_error_set(error, LH_BAD_REQUEST, "header line %u: a tab in a framing header",
                            number);
    }
    if (head->field_count == LH__FIELDS_MAX) {
        return lh_error_set(error, LH_HEADERS_TOO_LARGE, "more than %u header lines",
                            LH__FIELDS_MAX);
    }
    value = lh_str_trim(value);
    field = &head->fields[head->field_count++];
    field->name = (uint16_t)(name.ptr - head->block);
    field->name_len = (uint16_t)name.len;
    field->value = (uint16_t)(value.ptr - head->block);
    field->value_len = (uint16_t)value.len;
    return lh__check_field(name, value, head, seen, error);
}

/* What no single line shows. */
static enum lh_status lh__check_framing(struct lh__head *head, const struct lh__seen *seen,
                                        struct lh_error *error)
{
    if (head->status == 0 && seen->hosts == 0 && head->minor == 1) {
        return lh_error_set(error, LH_BAD_REQUEST, "Host is missing");
    }
    if (head->chunked && head->minor == 0) {
        return lh_error_set(error, LH_BAD_REQUEST, "Transfer-Encoding in an HTTP/1.0 message");
    }
    if (head->chunked && head->has_content_length) {
        return lh_error_set(error, LH_BAD_REQUEST, "both Transfer-Encoding and Content-Length");
    }
    /* RFC 9112 section 6.1: these have no body, so a framing of one is somebody's mistake. */
    if (head->status != 0 && (head->status < 200 || head->status == 204) &&
        (head->chunked || head->content_length > 0)) {
        return lh_error_set(error, LH_BAD_REQUEST, "a body in a %d response", head->status);
    }
    if (seen->close) {
        head->keep_alive = false;
    }
    return LH_OK;
}

static enum lh_status
lh__check_block(struct lh_str block,
                enum lh_status (*check_first)(struct lh_str, struct lh__head *, struct lh_error *),
                struct lh__head *head, struct lh_error *error)
{
    const char *at = block.ptr;
    const char *end = block.ptr + block.len - 2; /* the empty line */
    struct lh__seen seen = {0};
    unsigned number = 0;

    assert(block.len >= 4 && block.len <= LH_HEADER_BYTES_MAX);
    assert(memcmp(end - 2, "\r\n\r\n", 4) == 0);
    memset(head, 0, offsetof(struct lh__head, fields));
    head->block = block.ptr;
    while (at < end) {
        /* Every LF has its CR (lh__guard_find_end); a CR elsewhere is a control byte. */
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        struct lh_str line = lh__slice(at, lf - 1);
        enum lh_status status = number == 0 ? check_first(line, head, error)
                                            : lh__check_line(line, number, head, &seen, error);
        if (status != LH_OK) {
            return status;
        }
        number++;
        at = lf + 1;
    }
    return lh__check_framing(head, &seen, error);
}

enum lh_status lh__guard_check(struct lh_str block, struct lh__head *head, struct lh_error *error)
{
    return lh__check_block(block, lh__check_request_line, head, error);
}

enum lh_status lh__guard_check_response(struct lh_str block, struct lh__head *head,
                                        struct lh_error *error)
{
    return lh__check_block(block, lh__check_status_line, head, error);
}

/* RFC 9110 section 6.5.1: what frames or routes a message, authenticates it or says how to read
 * its content is no use behind it; who merges it into the header reads another message than we. */
static bool lh__is_forbidden_in_trailer(struct lh_str name)
{
    static const struct lh_str forbidden[] = {
        LH_STR("transfer-encoding"),
        LH_STR("content-length"),
        LH_STR("host"),
        LH_STR("connection"),
        LH_STR("keep-alive"),
        LH_STR("proxy-connection"),
        LH_STR("te"),
        LH_STR("trailer"),
        LH_STR("upgrade"),
        LH_STR("expect"),
        LH_STR("max-forwards"),
        LH_STR("cache-control"),
        LH_STR("range"),
        LH_STR("authorization"),
        LH_STR("proxy-authorization"),
        LH_STR("cookie"),
        LH_STR("content-type"),
        LH_STR("content-encoding"),
        LH_STR("content-range"),
    };

    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        if (lh_str_eq_nocase(name, forbidden[i])) {
            return true;
        }
    }
    return false;
}

enum lh_status lh__guard_check_trailer(struct lh_str section, const struct lh__head *head,
                                       struct lh_error *error)
{
    const char *at = section.ptr;
    const char *end = section.ptr + section.len - 2; /* the empty line */
    unsigned number = 0;

    assert(section.len >= 2 && memcmp(end, "\r\n", 2) == 0);
    while (at < end) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        struct lh_str name;
        struct lh_str value;
        enum lh_status status =
            lh__split_line(lh__slice(at, lf - 1), "trailer", ++number, &name, &value, error);
        if (status != LH_OK) {
            return status;
        }
        if (lh__is_forbidden_in_trailer(name)) {
            return lh_error_set(error, LH_BAD_REQUEST,
                                "trailer line %u: %.*s belongs in the header", number,
                                LH_STR_FMT(name));
        }
        if (head->field_count + number > LH__FIELDS_MAX) {
            return lh_error_set(error, LH_HEADERS_TOO_LARGE,
                                "more than %u header and trailer lines", LH__FIELDS_MAX);
        }
        at = lf + 1;
    }
    return LH_OK;
}
