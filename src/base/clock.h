/* Time: monotonic for deadlines, wall for logs, CPU for busy fractions. Any thread. */
#ifndef LH_BASE_CLOCK_H
#define LH_BASE_CLOCK_H

#include "base/limits.h"
#include <stdint.h>

/* Nanoseconds of the monotonic clock. */
uint64_t lh_clock_ns(void);

/* Nanoseconds of CPU time that the calling thread has used. */
uint64_t lh_clock_thread_cpu_ns(void);

/* Wall clock as milliseconds since 1970. */
uint64_t lh_clock_wall_ms(void);

/* How long to wait with the next try of what has failed: LH_BACKOFF_MS_MIN, then twice as long as
 * `last_ms`, up to LH_BACKOFF_MS_MAX: never longer than it has failed already. 0: it has not failed
 * before. */
static inline uint64_t lh_clock_backoff_ms(uint64_t last_ms)
{
    if (last_ms == 0)
        return LH_BACKOFF_MS_MIN;
    return last_ms < LH_BACKOFF_MS_MAX / 2 ? 2 * last_ms : LH_BACKOFF_MS_MAX;
}

#endif
