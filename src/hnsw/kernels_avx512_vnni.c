/* AVX-512 with VNNI and VPOPCNTDQ (Ice Lake, Zen 4 and later): a byte product is one instruction,
 * and so is counting the bits of a register.
 * The owner of a graph runs these; the set is chosen only where `usable` holds. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((                                                                         \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vpopcntdq,fma,bmi2"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vpopcntdq,fma,bmi2")
#endif
#include <immintrin.h>

static inline __m512i dot_bytes(__m512i sum, __m512i positive, __m512i x)
{
    return _mm512_dpbusd_epi32(sum, positive, x);
}

#define LH__VPOPCNTDQ
#include "hnsw/kernels_avx512.inc"

static bool usable(void)
{
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("fma");
}

const struct lh__kernels lh__kernels_avx512_vnni = LH__KERNELS("avx512-vnni", usable);
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
