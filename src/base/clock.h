/* Time: monotonic for deadlines, wall for logs, CPU for busy fractions. Any thread. */
#ifndef LH_BASE_CLOCK_H
#define LH_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of the monotonic clock. */
uint64_t lh_clock_ns(void);

/* Nanoseconds of CPU time that the calling thread has used. */
uint64_t lh_clock_thread_cpu_ns(void);

/* Wall clock as milliseconds since 1970. */
uint64_t lh_clock_wall_ms(void);

#endif
