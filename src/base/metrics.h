/* Counters, gauges and histograms that any thread may bump and one thread reads.
 *
 * All updates are relaxed atomics: a metric orders nothing, and a reader may see one counter a
 * moment before another. */
#ifndef LH_BASE_METRICS_H
#define LH_BASE_METRICS_H

#include "base/buf.h"
#include <stdatomic.h>
#include <stdint.h>

struct lh_counter {
    _Atomic(uint64_t) value;
};

/* Latencies in nanoseconds, in the buckets below. */
#define LH_HISTOGRAM_BUCKETS 14u
extern const double lh_histogram_bounds_s[LH_HISTOGRAM_BUCKETS]; /* 50 us .. 10 s */

struct lh_histogram {
    _Atomic(uint64_t) buckets[LH_HISTOGRAM_BUCKETS + 1];
    _Atomic(uint64_t) sum_ns;
};

static inline void lh_counter_add(struct lh_counter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}
static inline void lh_counter_sub(struct lh_counter *counter, uint64_t n)
{
    atomic_fetch_sub_explicit(&counter->value, n, memory_order_relaxed);
}
static inline void lh_counter_set(struct lh_counter *counter, uint64_t n)
{
    atomic_store_explicit(&counter->value, n, memory_order_relaxed);
}
static inline uint64_t lh_counter_get(const struct lh_counter *counter)
{
    return atomic_load_explicit(&((struct lh_counter *)counter)->value, memory_order_relaxed);
}

/* Sets it where it is `from`; true where it was. One of two threads that try has its way. */
static inline bool lh_counter_swap(struct lh_counter *counter, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&counter->value, &from, to, memory_order_relaxed,
                                                   memory_order_relaxed);
}

void lh_histogram_observe(struct lh_histogram *histogram, uint64_t ns);

/* Prometheus text format 0.0.4. `labels` is the inside of the braces, or "". */
void lh_metrics_family(struct lh_buf *out, const char *name, const char *type, const char *help);
void lh_metrics_sample(struct lh_buf *out, const char *name, const char *labels, double value);
void lh_metrics_histogram(struct lh_buf *out, const char *name, const char *labels,
                          const struct lh_histogram *histogram);

#endif
