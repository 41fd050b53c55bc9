/* AVX-512 without VNNI (Skylake-X): a byte product takes two multiplications and an addition.
 * The owner of a graph runs these; the set is chosen only where `usable` holds. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2,popcnt,bmi,bmi2"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2,popcnt,bmi,bmi2")
#endif
#include <immintrin.h>

/* Pairs of products stay within 16 bits: 2 * 127 * 127 = 32258. */
static inline __m512i dot_bytes(__m512i sum, __m512i positive, __m512i x)
{
    __m512i pairs = _mm512_maddubs_epi16(positive, x);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#include "hnsw/kernels_avx512.inc"

static bool usable(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("fma");
}

const struct lh__kernels lh__kernels_avx512 = LH__KERNELS("avx512", usable);
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
