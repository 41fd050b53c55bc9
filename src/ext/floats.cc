/* An array of JSON numbers to float32. Any thread; no state.
 *
 * Digits are taken eight at a time (one 64-bit word, three multiplications). The decimal value
 * w * 10^e is then computed in double precision, with at most three roundings of half an ulp, and
 * rounded once more to float32. That last rounding is right unless the double lies within those
 * errors of the middle between two floats: one number in 2^26, which std::from_chars decides, as it
 * does what is out of range, subnormal, or has too many digits for 64 bits. */
#include "ext/floats.h"

#include <cassert>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstring>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first digit is the lowest byte");

namespace
{

constexpr int exponent_min = -64;
constexpr int exponent_max = 38;
constexpr double power_of_ten[exponent_max - exponent_min + 1] = {
    1e-64, 1e-63, 1e-62, 1e-61, 1e-60, 1e-59, 1e-58, 1e-57, 1e-56, 1e-55, 1e-54, 1e-53, 1e-52,
    1e-51, 1e-50, 1e-49, 1e-48, 1e-47, 1e-46, 1e-45, 1e-44, 1e-43, 1e-42, 1e-41, 1e-40, 1e-39,
    1e-38, 1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26,
    1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13,
    1e-12, 1e-11, 1e-10, 1e-9,  1e-8,  1e-7,  1e-6,  1e-5,  1e-4,  1e-3,  1e-2,  1e-1,  1e0,
    1e1,   1e2,   1e3,   1e4,   1e5,   1e6,   1e7,   1e8,   1e9,   1e10,  1e11,  1e12,  1e13,
    1e14,  1e15,  1e16,  1e17,  1e18,  1e19,  1e20,  1e21,  1e22,  1e23,  1e24,  1e25,  1e26,
    1e27,  1e28,  1e29,  1e30,  1e31,  1e32,  1e33,  1e34,  1e35,  1e36,  1e37,  1e38};

constexpr uint64_t small_power_of_ten[9] = {1,      10,      100,      1000,     10000,
                                            100000, 1000000, 10000000, 100000000};

/* The largest w that can take n more digits and stay below 2^63. */
constexpr uint64_t room_for_digits[9] = {INT64_MAX,
                                         INT64_MAX / 10 - 1,
                                         INT64_MAX / 100 - 1,
                                         INT64_MAX / 1000 - 1,
                                         INT64_MAX / 10000 - 1,
                                         INT64_MAX / 100000 - 1,
                                         INT64_MAX / 1000000 - 1,
                                         INT64_MAX / 10000000 - 1,
                                         INT64_MAX / 100000000 - 1};

bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

struct decimal {
    uint64_t w = 0;
    bool too_long = false; /* digits that did not fit w */
};

/* Appends the digits at `p` to the decimal, and returns where they end. */
inline const char *take_digits(const char *p, decimal &number)
{
    for (;;) {
        uint64_t word;
        std::memcpy(&word, p, 8);
        word ^= 0x3030303030303030u; /* digits become 0..9 */
        uint64_t others = ((word + 0x7676767676767676u) | word) & 0x8080808080808080u;
        unsigned n = others == 0 ? 8 : (unsigned)__builtin_ctzll(others) >> 3;
        if (n == 0) {
            return p;
        }
        word <<= 64 - 8 * n; /* leading zeros in front */
        word = word * 10 + (word >> 8);
        word = ((word & 0x000000ff000000ffu) * (100 + (1000000ull << 32)) +
                ((word >> 16) & 0x000000ff000000ffu) * (1 + (10000ull << 32))) >>
               32;
        number.too_long |= number.w > room_for_digits[n];
        number.w = number.w * small_power_of_ten[n] + (uint32_t)word;
        p += n;
        if (n < 8) {
            return p;
        }
    }
}

/* The exponent's digits at `p`; far beyond any range they only stay there. */
const char *take_exponent(const char *p, bool negative, int &exponent)
{
    int value = 0;
    for (; is_digit(*p); p++) {
        value = value < 100000 ? value * 10 + (*p - '0') : value;
    }
    exponent += negative ? -value : value;
    return p;
}

/* Any number of the JSON grammar. False: infinity as float32. */
bool read_exactly(const char *from, const char *to, float &value)
{
    std::from_chars_result result = std::from_chars(from, to, value);
    assert(result.ptr == to);
    if (result.ec == std::errc()) {
        return std::isfinite(value);
    }
    /* Out of range at either end, which from_chars does not tell apart; a double does, unless it
     * is out of range too. */
    double wide = 0;
    result = std::from_chars(from, to, wide);
    if (result.ec == std::errc()) {
        value = std::copysign(0.0f, (float)wide);
        return std::fabs(wide) < 1;
    }
    long long exponent = 0; /* of the first digit that is not zero */
    const char *p = from + (*from == '-');
    const char *first = p;
    while (first < to && (*first == '0' || *first == '.')) {
        first++;
    }
    const char *point = p;
    while (point < to && is_digit(*point)) {
        point++;
    }
    exponent = point - first;
    const char *e = point;
    while (e < to && *e != 'e' && *e != 'E') {
        e++;
    }
    if (e < to) {
        int written = 0;
        bool negative = e[1] == '-';
        take_exponent(e + 1 + (e[1] == '-' || e[1] == '+'), negative, written);
        exponent += written;
    }
    value = *from == '-' ? -0.0f : 0.0f;
    return exponent < 0;
}

/* w * 10^exponent as float32 when double precision decides it; false when it does not. */
inline bool round_quickly(const decimal &number, int exponent, bool negative, float &value)
{
    if (number.w == 0 && !number.too_long) {
        value = negative ? -0.0f : 0.0f;
        return true;
    }
    if (number.too_long || exponent < exponent_min || exponent > exponent_max) {
        return false;
    }
    double wide = (double)(int64_t)number.w * power_of_ten[exponent - exponent_min];
    uint64_t bits;
    std::memcpy(&bits, &wide, 8);
    /* A float keeps 23 of 52 bits: the middle between two is a one and 28 zeros. */
    constexpr uint64_t middle = 1u << 28;
    constexpr uint64_t error = 4;
    if (((bits - (middle - error)) & (2 * middle - 1)) <= 2 * error || wide < FLT_MIN * 2.0) {
        return false;
    }
    value = (float)(negative ? -wide : wide);
    return std::isfinite(value);
}

/* One number at `p`; returns its end, NULL when there is none. `finite` false: overflow. */
inline const char *read_number(const char *p, float &value, bool &finite)
{
    const char *from = p;
    decimal number;
    int exponent = 0;
    bool negative = *p == '-';
    p += negative;
    if (*p == '0') {
        p++;
        if (is_digit(*p)) {
            return nullptr;
        }
    } else {
        const char *digits = p;
        while (is_digit(*p) && p - digits < 3) { /* most have one digit here */
            number.w = number.w * 10 + (uint64_t)(*p++ - '0');
        }
        if (p == digits) {
            return nullptr;
        }
        if (is_digit(*p)) {
            p = take_digits(p, number);
        }
    }
    if (*p == '.') {
        const char *digits = ++p;
        p = take_digits(p, number);
        if (p == digits) {
            return nullptr;
        }
        exponent = (int)(p - digits > 100000 ? -100000 : digits - p);
    }
    if (*p == 'e' || *p == 'E') {
        bool down = p[1] == '-';
        p += 1 + (down || p[1] == '+');
        if (!is_digit(*p)) {
            return nullptr;
        }
        p = take_exponent(p, down, exponent);
    }
    finite = round_quickly(number, exponent, negative, value) || read_exactly(from, p, value);
    return p;
}

} // namespace

lh__floats lh__floats_read(const char *text, float *out, uint32_t max) noexcept
{
    const char *p = text;
    uint32_t count = 0;
    while (is_space(*p)) {
        p++;
    }
    if (*p == ']') {
        return {lh__floats_end::whole, 0, p + 1};
    }
    for (;;) {
        bool finite = true;
        if (count == max) {
            return {lh__floats_end::too_many, count, p};
        }
        const char *end = read_number(p, out[count], finite);
        if (end == nullptr) {
            return {lh__floats_end::not_number, count, p};
        }
        if (!finite) {
            return {lh__floats_end::overflow, count, p};
        }
        count++;
        p = end;
        while (is_space(*p)) {
            p++;
        }
        if (*p != ',') {
            return {*p == ']' ? lh__floats_end::whole : lh__floats_end::syntax, count,
                    p + (*p == ']')};
        }
        p++;
        while (is_space(*p)) {
            p++;
        }
    }
}
