/* Plain C for any processor, and the reference that the other kernels are tested against.
 *
 * The owner of a graph runs these. Sums of float32 run in 16 lanes, in the order of the vector
 * kernels, so that a compiler may use what vectors the target has. */
#include "hnsw/graph_internal.h"

#include <string.h>

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

static inline f4 dot_codes(const int8_t *query, const int8_t *const x[4], size_t bytes)
{
    f4 sums = {0};
    for (int j = 0; j < 4; j++) {
        int32_t sum = 0;
        for (size_t i = 0; i < bytes; i++) {
            sum += query[i] * x[j][i];
        }
        sums[j] = (float)sum;
    }
    return sums;
}

static inline float dot_rows(const float *a, const float *b, size_t length)
{
    float lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            lanes[j] += a[i + j] * b[i + j];
        }
    }
    for (; i < length; i++) {
        lanes[i % 16] += a[i] * b[i];
    }
    float sum = 0.0f;
    for (size_t j = 0; j < 16; j++) {
        sum += lanes[j];
    }
    return sum;
}

static inline float l2_rows(const float *a, const float *b, size_t length)
{
    float lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            float difference = a[i + j] - b[i + j];
            lanes[j] += difference * difference;
        }
    }
    for (; i < length; i++) {
        float difference = a[i] - b[i];
        lanes[i % 16] += difference * difference;
    }
    float sum = 0.0f;
    for (size_t j = 0; j < 16; j++) {
        sum += lanes[j];
    }
    return sum;
}

static inline f4 dot_flat(const void *query, const int8_t *const x[4])
{
    f4 sums = {0};
    for (int j = 0; j < 4; j++) {
        sums[j] = dot_rows(query, (const float *)(const void *)x[j], LH__FLAT_DIMENSIONS);
    }
    return sums;
}

static inline f4 l2_flat(const void *query, const int8_t *const x[4])
{
    f4 sums = {0};
    for (int j = 0; j < 4; j++) {
        sums[j] = l2_rows(query, (const float *)(const void *)x[j], LH__FLAT_DIMENSIONS);
    }
    return sums;
}

static inline uint32_t count_le(const float *distances, uint32_t count, float d)
{
    uint32_t low = 0;
    while (count > 0) {
        uint32_t half = count / 2;
        if (distances[low + half] <= d) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low;
}

static inline void insert_word(void *words, uint32_t at, uint32_t count, uint32_t word)
{
    uint32_t *place = (uint32_t *)words + at;
    memmove(place + 1, place, (count - at) * sizeof *place);
    memcpy(place, &word, sizeof word);
}

static inline uint32_t count_links(const uint32_t *links, uint32_t stride)
{
    uint32_t count = 0;
    while (count < stride && links[count] != LH__NIL) {
        count++;
    }
    return count;
}

static inline i4 hamming4(const uint64_t *signs, const uint64_t *const x[4])
{
    i4 bits = {0};
    for (int j = 0; j < 4; j++) {
        for (uint32_t i = 0; i < LH__SIGN_WORDS; i++) {
            bits[j] += __builtin_popcountll(signs[i] ^ x[j][i]);
        }
    }
    return bits;
}

static inline uint32_t below(f4 distances, float bound)
{
    uint32_t mask = 0;
    for (uint32_t j = 0; j < 4; j++) {
        mask |= (uint32_t)(distances[j] < bound) << j;
    }
    return mask;
}

#include "hnsw/traverse.inc"

static bool usable(void)
{
    return true;
}

const struct lh__kernels lh__kernels_scalar = LH__KERNELS("scalar", usable);
