/* The three clocks of the server. Any thread; no state. */
#include "base/clock.h"

#include <time.h>

static uint64_t lh_clock_read_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* cannot fail: the clocks below exist on every Linux */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t lh_clock_ns(void)
{
    return lh_clock_read_ns(CLOCK_MONOTONIC);
}

uint64_t lh_clock_thread_cpu_ns(void)
{
    return lh_clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t lh_clock_wall_ms(void)
{
    return lh_clock_read_ns(CLOCK_REALTIME) / 1000000u;
}
