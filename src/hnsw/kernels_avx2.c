/* AVX2 (Haswell, Zen and later). The owner of a graph runs these; the set is chosen only where
 * `usable` holds. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,popcnt,bmi,bmi2"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,popcnt,bmi,bmi2")
#endif
#include "hnsw/graph_internal.h"

#include <immintrin.h>
#include <string.h>

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

/* |query| times sign-transferred codes: maddubs takes unsigned times signed. Pairs of products stay
 * within 16 bits: 2 * 127 * 127 = 32258. */
static inline __m256i dot_bytes(__m256i sum, __m256i q, __m256i positive, const int8_t *x)
{
    __m256i codes = _mm256_sign_epi8(_mm256_load_si256((const __m256i *)(const void *)x), q);
    __m256i pairs = _mm256_maddubs_epi16(positive, codes);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline __attribute__((always_inline)) f4 dot_codes(const int8_t *query,
                                                          const int8_t *const x[4], size_t bytes)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 32) {
        __m256i q = _mm256_load_si256((const __m256i *)(const void *)(query + i));
        __m256i positive = _mm256_abs_epi8(q);
        a = dot_bytes(a, q, positive, x[0] + i);
        b = dot_bytes(b, q, positive, x[1] + i);
        c = dot_bytes(c, q, positive, x[2] + i);
        d = dot_bytes(d, q, positive, x[3] + i);
    }
    __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return (f4)_mm_cvtepi32_ps(sums);
}

static inline f4 sum4(const __m256 x[4])
{
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    return (f4)_mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

static inline f4 dot_flat(const void *query, const int8_t *const x[4])
{
    const float *q = query;
    __m256 sums[4];
    for (int j = 0; j < 4; j++) {
        const float *row = (const float *)(const void *)x[j];
        sums[j] = _mm256_mul_ps(_mm256_load_ps(q), _mm256_load_ps(row));
        sums[j] = _mm256_fmadd_ps(_mm256_load_ps(q + 8), _mm256_load_ps(row + 8), sums[j]);
    }
    return sum4(sums);
}

static inline f4 l2_flat(const void *query, const int8_t *const x[4])
{
    const float *q = query;
    __m256 sums[4];
    for (int j = 0; j < 4; j++) {
        const float *row = (const float *)(const void *)x[j];
        __m256 low = _mm256_sub_ps(_mm256_load_ps(q), _mm256_load_ps(row));
        __m256 high = _mm256_sub_ps(_mm256_load_ps(q + 8), _mm256_load_ps(row + 8));
        sums[j] = _mm256_fmadd_ps(high, high, _mm256_mul_ps(low, low));
    }
    return sum4(sums);
}

static inline uint32_t count_le(const float *distances, uint32_t count, float d)
{
    __m256 limit = _mm256_set1_ps(d);
    uint32_t below = 0;
    for (uint32_t i = 0; i < count; i += 8) {
        __m256 le = _mm256_cmp_ps(_mm256_load_ps(distances + i), limit, _CMP_LE_OQ);
        uint32_t mask = (uint32_t)_mm256_movemask_ps(le);
        below += (uint32_t)__builtin_popcount(mask);
        if (mask != 0xff) {
            break;
        }
    }
    return below;
}

/* Aligned blocks only: what one insertion stores, the next can read before it reaches the cache. */
static inline void insert_word(void *words, uint32_t at, uint32_t count, uint32_t word)
{
    const __m256i rotate_up = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i *block = (__m256i *)words + at / 8;
    __m256i *end = (__m256i *)words + count / 8;
    __m256i place = _mm256_set1_epi32((int)(at % 8));
    __m256i here = _mm256_load_si256(block);
    __m256i last = _mm256_permutevar8x32_epi32(here, rotate_up);
    __m256i moved = _mm256_blendv_epi8(here, last, _mm256_cmpgt_epi32(lanes, place));
    _mm256_store_si256(block, _mm256_blendv_epi8(moved, _mm256_set1_epi32((int)word),
                                                 _mm256_cmpeq_epi32(lanes, place)));
    for (block++; block <= end; block++) {
        __m256i rotated = _mm256_permutevar8x32_epi32(_mm256_load_si256(block), rotate_up);
        _mm256_store_si256(block, _mm256_blend_epi32(rotated, last, 1));
        last = rotated;
    }
}

static inline uint32_t count_links(const uint32_t *links, uint32_t stride)
{
    __m256i nil = _mm256_set1_epi32(-1);
    for (uint32_t i = 0; i < stride; i += 8) {
        __m256i row = _mm256_load_si256((const __m256i *)(const void *)(links + i));
        __m256 equal = _mm256_castsi256_ps(_mm256_cmpeq_epi32(row, nil));
        uint32_t mask = (uint32_t)_mm256_movemask_ps(equal);
        if (mask != 0) {
            return i + (uint32_t)__builtin_ctz(mask);
        }
    }
    return stride;
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
    return (uint32_t)_mm_movemask_ps(_mm_cmplt_ps((__m128)distances, _mm_set1_ps(bound)));
}

static inline float sum8(__m256 x)
{
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

static inline float dot_rows(const float *a, const float *b, size_t length)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
    }
    float sum = sum8(_mm256_add_ps(s0, s1));
    for (; i < length; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static inline float l2_rows(const float *a, const float *b, size_t length)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        __m256 d0 = _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        __m256 d1 = _mm256_sub_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8));
        s0 = _mm256_fmadd_ps(d0, d0, s0);
        s1 = _mm256_fmadd_ps(d1, d1, s1);
    }
    float sum = sum8(_mm256_add_ps(s0, s1));
    for (; i < length; i++) {
        float difference = a[i] - b[i];
        sum += difference * difference;
    }
    return sum;
}

#include "hnsw/traverse.inc"

static bool usable(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi2");
}

const struct lh__kernels lh__kernels_avx2 = LH__KERNELS("avx2", usable);
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
