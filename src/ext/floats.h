/* An array of JSON numbers to float32: the hot path of every body. Private to this folder. */
#ifndef LH_EXT_FLOATS_H
#define LH_EXT_FLOATS_H

#include <cstdint>

enum class lh__floats_end {
    whole,      /* `at` is past the ] */
    not_number, /* `at` is where a number should be */
    overflow,   /* the number at `at` is infinity as float32 */
    too_many,   /* more than `max`, at `at` */
    syntax,     /* `at` is no comma and no ] */
};

struct lh__floats {
    lh__floats_end end;
    uint32_t count; /* whole numbers before `at` */
    const char *at;
};

/* Reads what follows the [ at `text`, of which something that is not part of a number must follow
 * and at least 8 more bytes be readable. Every value is the float32 nearest to the decimal text,
 * ties to even, as strtof gives it. */
lh__floats lh__floats_read(const char *text, float *out, uint32_t max) noexcept;

#endif
