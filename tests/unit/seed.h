/* Random tests: one number replays a failure. LH_TEST_SEED sets it, and each run prints it. */
#ifndef LH_TESTS_SEED_H
#define LH_TESTS_SEED_H

#include "base/clock.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t lh_test_seed(void)
{
    const char *given = getenv("LH_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : lh_clock_wall_ms() & 0xffffffff;
    printf("LH_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t lh_test_next(uint64_t *rng)
{
    uint64_t x = *rng += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* 0 .. n - 1 */
static inline uint32_t lh_test_below(uint64_t *rng, uint32_t n)
{
    return (uint32_t)((lh_test_next(rng) >> 32) * n >> 32);
}

/* -1 .. 1 */
static inline float lh_test_float(uint64_t *rng)
{
    return (float)(lh_test_next(rng) >> 40) / 8388608.0f - 1.0f;
}

#endif
