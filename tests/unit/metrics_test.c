/* base/metrics: the Prometheus text, to the byte. */
#include "base/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_text(struct lh_buf *buf, struct lh_str want)
{
    if (!lh_str_eq(lh_buf_str(buf), want))
        fail_msg("%.*s", LH_STR_FMT(lh_buf_str(buf)));
    lh_buf_deinit(buf);
}

static void counters_count_up_down_and_to(void **state)
{
    struct lh_counter counter = {0};
    lh_counter_add(&counter, 5);
    lh_counter_sub(&counter, 2);
    assert_int_equal(lh_counter_get(&counter), 3);
    lh_counter_set(&counter, 9);
    assert_int_equal(lh_counter_get(&counter), 9);
}

static void a_family_and_its_samples(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_metrics_family(&buf, "lh_adds_total", "counter", "Items added.");
    lh_metrics_sample(&buf, "lh_adds_total", "shard=\"0\"", 9007199254740991.0);
    lh_metrics_sample(&buf, "lh_busy", "", 0.25);
    lh_metrics_sample(&buf, "lh_busy", "", NAN);
    lh_metrics_sample(&buf, "lh_busy", "", INFINITY);
    lh_metrics_sample(&buf, "lh_busy", "", -INFINITY);
    assert_text(&buf, LH_STR("# HELP lh_adds_total Items added.\n"
                             "# TYPE lh_adds_total counter\n"
                             "lh_adds_total{shard=\"0\"} 9007199254740991\n"
                             "lh_busy 0.25\n"
                             "lh_busy NaN\n"
                             "lh_busy +Inf\n"
                             "lh_busy -Inf\n"));
}

static void a_histogram_is_cumulative_and_bounds_are_inclusive(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    struct lh_histogram histogram = {0};
    lh_histogram_observe(&histogram, 0);
    lh_histogram_observe(&histogram, 50000); /* the first bound itself */
    lh_histogram_observe(&histogram, 50001);
    lh_histogram_observe(&histogram, 1000000000);
    lh_histogram_observe(&histogram, 60000000000);
    lh_metrics_histogram(&buf, "h", "route=\"x\"", &histogram);
    assert_text(&buf, LH_STR("h_bucket{route=\"x\",le=\"5e-05\"} 2\n"
                             "h_bucket{route=\"x\",le=\"0.0001\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.00025\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.0005\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.001\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.0025\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.005\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.01\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.025\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.1\"} 3\n"
                             "h_bucket{route=\"x\",le=\"0.25\"} 3\n"
                             "h_bucket{route=\"x\",le=\"1\"} 4\n"
                             "h_bucket{route=\"x\",le=\"2.5\"} 4\n"
                             "h_bucket{route=\"x\",le=\"10\"} 4\n"
                             "h_bucket{route=\"x\",le=\"+Inf\"} 5\n"
                             "h_sum{route=\"x\"} 61.0001\n"
                             "h_count{route=\"x\"} 5\n"));
}

static void a_histogram_without_labels_has_no_stray_braces(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    struct lh_histogram histogram = {0};
    struct lh_str head = LH_STR("h_bucket{le=\"5e-05\"} 0\n");
    struct lh_str tail = LH_STR("h_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n");
    lh_metrics_histogram(&buf, "h", "", &histogram);
    assert_true(lh_str_has_prefix(lh_buf_str(&buf), head));
    assert_memory_equal(buf.ptr + buf.len - tail.len, tail.ptr, tail.len);
    lh_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_count_up_down_and_to),
        cmocka_unit_test(a_family_and_its_samples),
        cmocka_unit_test(a_histogram_is_cumulative_and_bounds_are_inclusive),
        cmocka_unit_test(a_histogram_without_labels_has_no_stray_braces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
