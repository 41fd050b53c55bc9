/* NEON (every aarch64). The owner of a graph runs these. */
#if defined(__aarch64__)
#include "hnsw/graph_internal.h"

#include <arm_neon.h>
#include <string.h>

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

/* Pairs of byte products stay within 16 bits: 2 * 127 * 127 = 32258. */
static inline int32x4_t dot_bytes(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    int16x8_t products = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    products = vmlal_high_s8(products, a, b);
    return vpadalq_s16(sum, products);
}

static inline __attribute__((always_inline)) f4 dot_codes(const int8_t *query,
                                                          const int8_t *const x[4], size_t bytes)
{
    int32x4_t a = vdupq_n_s32(0), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 16) {
        int8x16_t q = vld1q_s8(query + i);
        a = dot_bytes(a, q, vld1q_s8(x[0] + i));
        b = dot_bytes(b, q, vld1q_s8(x[1] + i));
        c = dot_bytes(c, q, vld1q_s8(x[2] + i));
        d = dot_bytes(d, q, vld1q_s8(x[3] + i));
    }
    int32x4_t sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
    return (f4)vcvtq_f32_s32(sums);
}

static inline float dot_rows(const float *a, const float *b, size_t length)
{
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        s0 = vfmaq_f32(s0, vld1q_f32(a + i), vld1q_f32(b + i));
        s1 = vfmaq_f32(s1, vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));
    }
    float sum = vaddvq_f32(vaddq_f32(s0, s1));
    for (; i < length; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static inline float l2_rows(const float *a, const float *b, size_t length)
{
    float32x4_t s0 = vdupq_n_f32(0), s1 = s0;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        float32x4_t d0 = vsubq_f32(vld1q_f32(a + i), vld1q_f32(b + i));
        float32x4_t d1 = vsubq_f32(vld1q_f32(a + i + 4), vld1q_f32(b + i + 4));
        s0 = vfmaq_f32(s0, d0, d0);
        s1 = vfmaq_f32(s1, d1, d1);
    }
    float sum = vaddvq_f32(vaddq_f32(s0, s1));
    for (; i < length; i++) {
        float difference = a[i] - b[i];
        sum += difference * difference;
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
    float32x4_t limit = vdupq_n_f32(d);
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i += 4) {
        uint32x4_t le = vcleq_f32(vld1q_f32(distances + i), limit);
        uint32_t here = vaddvq_u32(vshrq_n_u32(le, 31));
        total += here;
        if (here != 4) {
            break;
        }
    }
    return total;
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
        uint8x16_t sum = vdupq_n_u8(0); /* at most 32 a lane */
        for (uint32_t i = 0; i < LH__SIGN_WORDS; i += 2) {
            uint64x2_t differ = veorq_u64(vld1q_u64(signs + i), vld1q_u64(x[j] + i));
            sum = vaddq_u8(sum, vcntq_u8(vreinterpretq_u8_u64(differ)));
        }
        bits[j] = vaddlvq_u8(sum);
    }
    return bits;
}

static inline uint32_t below(f4 distances, float bound)
{
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_f32((float32x4_t)distances, vdupq_n_f32(bound)), bits));
}

#include "hnsw/traverse.inc"

static bool usable(void)
{
    return true;
}

const struct lh__kernels lh__kernels_neon = LH__KERNELS("neon", usable);
#endif
