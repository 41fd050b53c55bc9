/* Histograms and the Prometheus text format, version 0.0.4. Any thread observes; the thread that
 * answers /metrics reads.
 *
 * Every access is relaxed: a metric orders nothing. A reader may therefore see a sum without the
 * bucket it belongs to, as Prometheus allows; the count it is given is the sum of the buckets that
 * it read, so that the `+Inf` bucket and `_count` always agree. */
#include "base/metrics.h"

#include <math.h>

const double lh_histogram_bounds_s[LH_HISTOGRAM_BUCKETS] = {
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 0.1, 0.25, 1.0, 2.5, 10.0,
};

void lh_histogram_observe(struct lh_histogram *histogram, uint64_t ns)
{
    double seconds = (double)ns * 1e-9;
    unsigned bucket = 0;
    while (bucket < LH_HISTOGRAM_BUCKETS && seconds > lh_histogram_bounds_s[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, ns, memory_order_relaxed);
}

void lh_metrics_family(struct lh_buf *out, const char *name, const char *type, const char *help)
{
    lh_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void lh_metrics_value(struct lh_buf *out, double value)
{
    if (isnan(value))
        lh_buf_append_str(out, LH_STR("NaN"));
    else if (isinf(value))
        lh_buf_append_str(out, value > 0 ? LH_STR("+Inf") : LH_STR("-Inf"));
    else if (value == floor(value) && fabs(value) < 9007199254740992.0) /* 2^53: exact */
        lh_buf_printf(out, "%.0f", value);
    else
        lh_buf_printf(out, "%.9g", value);
}

void lh_metrics_sample(struct lh_buf *out, const char *name, const char *labels, double value)
{
    lh_buf_append_str(out, lh_str_of(name));
    if (labels[0] != '\0')
        lh_buf_printf(out, "{%s}", labels);
    lh_buf_append_char(out, ' ');
    lh_metrics_value(out, value);
    lh_buf_append_char(out, '\n');
}

void lh_metrics_histogram(struct lh_buf *out, const char *name, const char *labels,
                          const struct lh_histogram *histogram)
{
    struct lh_histogram *h = (struct lh_histogram *)histogram; /* C17 loads take no const */
    const char *comma = labels[0] != '\0' ? "," : "";
    const char *open = labels[0] != '\0' ? "{" : "", *close = labels[0] != '\0' ? "}" : "";
    uint64_t count = 0;
    for (unsigned i = 0; i <= LH_HISTOGRAM_BUCKETS; i++) {
        count += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        if (i < LH_HISTOGRAM_BUCKETS)
            lh_buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma,
                          lh_histogram_bounds_s[i], (unsigned long long)count);
        else
            lh_buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
                          (unsigned long long)count);
    }
    lh_buf_printf(out, "%s_sum%s%s%s %.9g\n", name, open, labels, close,
                  (double)atomic_load_explicit(&h->sum_ns, memory_order_relaxed) * 1e-9);
    lh_buf_printf(out, "%s_count%s%s%s %llu\n", name, open, labels, close,
                  (unsigned long long)count);
}
