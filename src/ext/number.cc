/* Numbers and base64 as text, out and in. Any thread; no state. */
#include "ext/number.h"

#include <cassert>
#include <charconv>
#include <cmath>

namespace
{

constexpr size_t float_text_max = 16; /* "-1.17549435e-38" and a comma */

constexpr char base64_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr uint32_t base64_bad = 1u << 31;

/* What each character adds to the 24 bits of its group of four, by its place in the group. */
struct base64_table {
    uint32_t part[4][256];

    constexpr base64_table() : part()
    {
        for (auto &place : part) {
            for (uint32_t &value : place) {
                value = base64_bad;
            }
        }
        for (uint32_t i = 0; i < 64; i++) {
            for (int place = 0; place < 4; place++) {
                part[place][(unsigned char)base64_alphabet[i]] = i << (18 - 6 * place);
            }
        }
    }
};

constexpr base64_table table;

inline uint32_t decode_four(const unsigned char *in)
{
    return table.part[0][in[0]] | table.part[1][in[1]] | table.part[2][in[2]] |
           table.part[3][in[3]];
}

char *write_f32(char *at, float value)
{
    assert(std::isfinite(value));
    if (value == 0 && std::signbit(value)) {
        memcpy(at, "-0.0", 4); /* many JSON readers take "-0" for an integer without a sign */
        return at + 4;
    }
    return std::to_chars(at, at + float_text_max, value).ptr;
}

constexpr size_t double_text_max = 32; /* "-2.2250738585072014e-308" */

} // namespace

extern "C" void lh_number_append_f64(struct lh_buf *buf, double value)
{
    char text[double_text_max];
    assert(std::isfinite(value));
    if (value == 0 && std::signbit(value)) {
        lh_buf_append(buf, "-0.0", 4); /* as above */
        return;
    }
    lh_buf_append(buf, text, (size_t)(std::to_chars(text, text + sizeof text, value).ptr - text));
}

extern "C" void lh_number_append_f32(struct lh_buf *buf, float value)
{
    char text[float_text_max];
    lh_buf_append(buf, text, (size_t)(write_f32(text, value) - text));
}

extern "C" void lh_number_append_f32_array(struct lh_buf *buf, const float *values, uint32_t count)
{
    lh_buf_append_char(buf, '[');
    if (lh_buf_reserve(buf, count * float_text_max + 1) != LH_OK) {
        buf->failed = true;
    }
    if (lh_buf_failed(buf)) {
        return;
    }
    char *at = buf->ptr + buf->len;
    for (uint32_t i = 0; i < count; i++) {
        at = write_f32(at, values[i]);
        *at++ = ',';
    }
    at -= count > 0; /* the last comma becomes the bracket */
    *at++ = ']';
    buf->len = (size_t)(at - buf->ptr);
    assert(buf->len <= buf->cap);
}

extern "C" bool lh_base64_decode(struct lh_str text, void *out, size_t *out_len)
{
    const unsigned char *in = (const unsigned char *)text.ptr;
    unsigned char *at = (unsigned char *)out;
    uint32_t bad = 0;
    *out_len = 0;
    if (text.len % 4 != 0) {
        return false;
    }
    if (text.len == 0) {
        return true;
    }
    size_t padding =
        (in[text.len - 1] == '=') + (in[text.len - 1] == '=' && in[text.len - 2] == '=');
    size_t groups = text.len / 4 - (padding > 0);
    for (size_t i = 0; i < groups; i++, in += 4, at += 3) {
        uint32_t bits = decode_four(in);
        bad |= bits;
        at[0] = (unsigned char)(bits >> 16);
        at[1] = (unsigned char)(bits >> 8);
        at[2] = (unsigned char)bits;
    }
    if (padding > 0) {
        unsigned char last[4] = {in[0], in[1], padding == 2 ? (unsigned char)'A' : in[2], 'A'};
        uint32_t bits = decode_four(last);
        bad |= bits;
        *at++ = (unsigned char)(bits >> 16);
        if (padding == 1) {
            *at++ = (unsigned char)(bits >> 8);
        }
        if ((bits & (padding == 1 ? 0xffu : 0xffffu)) != 0) {
            return false; /* bits behind the last byte: a text that no encoder writes */
        }
    }
    *out_len = (size_t)(at - (unsigned char *)out);
    return (bad & base64_bad) == 0;
}

extern "C" void lh_base64_append(struct lh_buf *buf, const void *bytes, size_t len)
{
    const unsigned char *in = (const unsigned char *)bytes;
    if (lh_buf_reserve(buf, (len + 2) / 3 * 4) != LH_OK) {
        buf->failed = true;
    }
    if (lh_buf_failed(buf)) {
        return;
    }
    char *at = buf->ptr + buf->len;
    for (; len > 0; in += 3) {
        size_t n = len < 3 ? len : 3;
        uint32_t bits =
            (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0) | (n > 2 ? in[2] : 0);
        at[0] = base64_alphabet[bits >> 18];
        at[1] = base64_alphabet[bits >> 12 & 63];
        at[2] = n > 1 ? base64_alphabet[bits >> 6 & 63] : '=';
        at[3] = n > 2 ? base64_alphabet[bits & 63] : '=';
        at += 4;
        len -= n;
    }
    buf->len = (size_t)(at - buf->ptr);
}
