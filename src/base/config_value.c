/* Sizes, durations and addresses as text. Any thread; no state. */
#include "base/config_value.h"

#include <assert.h>
#include <stddef.h>

struct lh_unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: the writers take the first that divides. */
static const struct lh_unit lh_byte_units[] = {
    {"TiB", 1ull << 40}, {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}};
static const struct lh_unit lh_duration_units[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

#define LH_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Splits digits off the front; false when there are none or they overflow. */
static bool lh_take_number(struct lh_str *text, uint64_t *value)
{
    struct lh_str digits = {text->ptr, 0};
    while (digits.len < text->len && text->ptr[digits.len] >= '0' && text->ptr[digits.len] <= '9')
        digits.len++;
    text->ptr += digits.len;
    text->len -= digits.len;
    return lh_str_to_u64(digits, value);
}

/* Splits letters off the front and finds them; NULL when they are no unit. */
static const struct lh_unit *lh_take_unit(struct lh_str *text, const struct lh_unit *units,
                                          size_t count)
{
    struct lh_str name = {text->ptr, 0};
    while (name.len < text->len && (text->ptr[name.len] < '0' || text->ptr[name.len] > '9'))
        name.len++;
    text->ptr += name.len;
    text->len -= name.len;
    for (size_t i = 0; i < count; i++)
        if (lh_str_eq(name, lh_str_of(units[i].name)))
            return &units[i];
    return NULL;
}

const char *lh_config_read_integer(struct lh_str text, bool has_unit, uint64_t *value)
{
    const struct lh_unit *unit;
    struct lh_str rest = text;
    const char *wrong = has_unit ? "is not a size: a whole number, or one with KiB, MiB, GiB or TiB"
                                 : "is not a whole number";
    if (lh_str_to_u64(text, value))
        return NULL;
    if (!has_unit || !lh_take_number(&rest, value))
        return wrong;
    unit = lh_take_unit(&rest, lh_byte_units, LH_COUNT(lh_byte_units));
    if (unit == NULL || rest.len > 0)
        return wrong;
    return __builtin_mul_overflow(*value, unit->factor, value) ? "is too large" : NULL;
}

const char *lh_config_read_duration_ms(struct lh_str text, uint64_t *value)
{
    static const char wrong[] = "is not a duration such as 500ms, 30s, 2m or 1h";
    uint64_t total = 0;
    if (lh_str_to_u64(text, value))
        return NULL;
    if (text.len == 0)
        return wrong;
    while (text.len > 0) {
        const struct lh_unit *unit;
        uint64_t part;
        if (!lh_take_number(&text, &part))
            return wrong;
        unit = lh_take_unit(&text, lh_duration_units, LH_COUNT(lh_duration_units));
        if (unit == NULL)
            return wrong;
        if (__builtin_mul_overflow(part, unit->factor, &part) ||
            __builtin_add_overflow(total, part, &total))
            return "is too large";
    }
    *value = total;
    return NULL;
}

const char *lh_config_read_bind(struct lh_str text, struct lh_config_address *bind)
{
    struct lh_str host, port;
    uint64_t number;
    size_t colon = text.len;
    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return "is not host:port";
    host = (struct lh_str){text.ptr, colon - 1};
    port = (struct lh_str){text.ptr + colon, text.len - colon};
    if (!lh_str_to_u64(port, &number) || number > UINT16_MAX)
        return "does not end in a port from 0 to 65535";
    if (host.len == 0) {
        host = LH_STR("0.0.0.0");
    } else if (host.ptr[0] == '[') {
        if (host.len < 3 || host.ptr[host.len - 1] != ']')
            return "has a bracket without its other one";
        host.ptr++;
        host.len -= 2;
    } else if (memchr(host.ptr, ':', host.len) != NULL) {
        return "is an IPv6 address without brackets: write [address]:port";
    }
    *bind = (struct lh_config_address){host, (uint16_t)number};
    return NULL;
}

const char *lh_config_read_url(struct lh_str text)
{
    struct lh_config_address address;
    struct lh_str host = text;
    if (lh_str_has_prefix(text, LH_STR("http://")))
        host = (struct lh_str){text.ptr + 7, text.len - 7};
    else if (lh_str_has_prefix(text, LH_STR("https://")))
        host = (struct lh_str){text.ptr + 8, text.len - 8};
    else
        return "does not begin with http:// or https://";
    for (size_t i = 0; i < host.len; i++) {
        unsigned char c = (unsigned char)host.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"<>\\^`{|}", c) != NULL)
            return "is no URL: a character in it must be escaped";
        if (c == '@' || c == '?' || c == '#')
            return "must have no user, query or fragment";
    }
    const char *slash = host.len > 0 ? memchr(host.ptr, '/', host.len) : NULL;
    host.len = slash != NULL ? (size_t)(slash - host.ptr) : host.len;
    bool has_port =
        host.len > 0 && memchr(host.ptr, ':', host.len) != NULL && host.ptr[host.len - 1] != ']';
    if (host.len == 0 || host.ptr[0] == ':')
        return "is no URL: it has no host";
    return has_port ? lh_config_read_bind(host, &address) : NULL;
}

struct lh_config_url lh_config_split_url(struct lh_str text)
{
    struct lh_config_url url = {.is_tls = lh_str_has_prefix(text, LH_STR("https://"))};
    size_t scheme = url.is_tls ? 8 : 7;
    assert(lh_config_read_url(text) == NULL);
    struct lh_str rest = {text.ptr + scheme, text.len - scheme};
    const char *slash = memchr(rest.ptr, '/', rest.len);
    url.authority = (struct lh_str){rest.ptr, slash ? (size_t)(slash - rest.ptr) : rest.len};
    url.path = (struct lh_str){rest.ptr + url.authority.len, rest.len - url.authority.len};
    while (url.path.len > 0 && url.path.ptr[url.path.len - 1] == '/')
        url.path.len--;
    if (lh_config_read_bind(url.authority, &url.address) == NULL)
        return url;
    url.address = (struct lh_config_address){url.authority, url.is_tls ? 443 : 80};
    if (url.authority.ptr[0] == '[')
        url.address.host = (struct lh_str){url.authority.ptr + 1, url.authority.len - 2};
    return url;
}

static void lh_config_write(struct lh_buf *out, uint64_t value, const struct lh_unit *units,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (value > 0 && value % units[i].factor == 0) {
            lh_buf_printf(out, "\"%llu%s\"", (unsigned long long)(value / units[i].factor),
                          units[i].name);
            return;
        }
    }
    lh_buf_printf(out, "%llu", (unsigned long long)value);
}

void lh_config_write_bytes(struct lh_buf *out, uint64_t value)
{
    lh_config_write(out, value, lh_byte_units, LH_COUNT(lh_byte_units));
}

void lh_config_write_duration_ms(struct lh_buf *out, uint64_t value)
{
    lh_config_write(out, value, lh_duration_units, LH_COUNT(lh_duration_units));
}
