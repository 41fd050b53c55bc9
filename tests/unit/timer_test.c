/* runtime/timer: when timers fire, and what a firing one may do. */
#include "runtime/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct alarm {
    struct lh_timer timer;
    struct lh_timers *timers;
    struct alarm *other;
    unsigned fired;
    uint64_t fired_ms;
};

static void note_time(struct lh_timer *timer, void *arg)
{
    struct alarm *alarm = arg;
    assert_ptr_equal(timer, &alarm->timer);
    assert_false(lh_timer_is_set(timer));
    alarm->fired++;
    alarm->fired_ms = alarm->timers->now_ms;
}

static void alarm_init(struct alarm *alarm, struct lh_timers *timers,
                       void (*fire)(struct lh_timer *, void *))
{
    *alarm = (struct alarm){.timers = timers};
    lh_timer_init(&alarm->timer, fire, alarm);
}

static void a_timer_fires_once_and_at_most_a_tick_late(void **state)
{
    static const uint64_t delays[] = {0, 1, 99, 100, 101, 51199, 51200, 51201, 60000, 200000};
    for (unsigned i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        struct lh_timers timers;
        struct alarm alarm;
        uint64_t start = 1234567;
        lh_timers_init(&timers, start);
        alarm_init(&alarm, &timers, note_time);
        lh_timer_set(&timers, &alarm.timer, delays[i]);
        assert_true(lh_timer_is_set(&alarm.timer));
        for (uint64_t now = start; now < start + delays[i] + 300000; now += 10)
            lh_timers_advance(&timers, now);
        assert_int_equal(alarm.fired, 1);
        assert_true(alarm.fired_ms >= start + delays[i]);
        assert_true(alarm.fired_ms <= start + delays[i] + LH_TIMER_TICK_MS + 10);
    }
}

static void a_cancelled_timer_does_not_fire_and_a_set_one_moves(void **state)
{
    struct lh_timers timers;
    struct alarm cancelled, moved;
    lh_timers_init(&timers, 0);
    alarm_init(&cancelled, &timers, note_time);
    alarm_init(&moved, &timers, note_time);
    lh_timer_set(&timers, &cancelled.timer, 500);
    lh_timer_set(&timers, &moved.timer, 500);
    lh_timer_cancel(&cancelled.timer);
    lh_timer_cancel(&cancelled.timer); /* twice is once */
    lh_timer_set(&timers, &moved.timer, 2000);
    lh_timers_advance(&timers, 1900);
    assert_int_equal(cancelled.fired + moved.fired, 0);
    lh_timers_advance(&timers, 2000);
    assert_int_equal(cancelled.fired, 0);
    assert_int_equal(moved.fired, 1);
}

static void a_jump_of_the_clock_fires_all_that_is_due_once(void **state)
{
    struct lh_timers timers;
    struct alarm alarms[2000];
    lh_timers_init(&timers, 0);
    for (unsigned i = 0; i < 2000; i++) {
        alarm_init(&alarms[i], &timers, note_time);
        lh_timer_set(&timers, &alarms[i].timer, i * 100);
    }
    lh_timers_advance(&timers, 150000); /* three turns of the wheel */
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(alarms[i].fired, i * 100 <= 150000);
    lh_timers_advance(&timers, 1000000);
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(alarms[i].fired, 1);
}

static void set_again(struct lh_timer *timer, void *arg)
{
    struct alarm *alarm = arg;
    alarm->fired++;
    lh_timer_set(alarm->timers, timer, 0);
}

static void cancel_other(struct lh_timer *timer, void *arg)
{
    struct alarm *alarm = arg;
    alarm->fired++;
    lh_timer_cancel(&alarm->other->timer);
}

static void a_firing_timer_may_set_itself_and_cancel_its_neighbour(void **state)
{
    struct lh_timers timers;
    struct alarm again, first, second;
    lh_timers_init(&timers, 0);
    alarm_init(&again, &timers, set_again);
    alarm_init(&first, &timers, cancel_other);
    alarm_init(&second, &timers, cancel_other);
    first.other = &second;
    second.other = &first;
    lh_timer_set(&timers, &again.timer, 300);
    lh_timer_set(&timers, &first.timer, 300);
    lh_timer_set(&timers, &second.timer, 300);
    lh_timers_advance(&timers, 300);
    assert_int_equal(again.fired, 1);
    assert_int_equal(first.fired + second.fired, 1);
    lh_timers_advance(&timers, 399);
    assert_int_equal(again.fired, 1);
    lh_timers_advance(&timers, 400);
    assert_int_equal(again.fired, 2);
    assert_int_equal(first.fired + second.fired, 1);
    lh_timer_cancel(&again.timer);
}

/* Random sets, cancels and steps against a plain list of deadlines. */
static void random_timers_agree_with_a_list(void **state)
{
    const char *given = getenv("LH_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : 7;
    struct lh_timers timers;
    struct alarm alarms[64];
    uint64_t due[64] = {0}; /* 0: not set */
    uint64_t now = 1000;
    print_message("seed %u (LH_TEST_SEED)\n", seed);
    lh_timers_init(&timers, now);
    for (unsigned i = 0; i < 64; i++)
        alarm_init(&alarms[i], &timers, note_time);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned i = (unsigned)rand_r(&seed) % 64;
        unsigned what = (unsigned)rand_r(&seed) % 8;
        if (what < 3) {
            uint64_t delay = (uint64_t)rand_r(&seed) % (what == 0 ? 120000 : 2000);
            lh_timer_set(&timers, &alarms[i].timer, delay);
            alarms[i].fired = 0;
            due[i] = now + delay;
        } else if (what == 3) {
            lh_timer_cancel(&alarms[i].timer);
            due[i] = 0;
        } else {
            now += (uint64_t)rand_r(&seed) % (what == 4 ? 1000 : 50);
            lh_timers_advance(&timers, now);
            for (unsigned j = 0; j < 64; j++) {
                bool has_fired = due[j] != 0 && !lh_timer_is_set(&alarms[j].timer);
                if (has_fired && (now < due[j] || alarms[j].fired != 1))
                    fail_msg("seed step %u: timer %u fired early or twice", step, j);
                if (!has_fired && due[j] != 0 && now >= due[j] + LH_TIMER_TICK_MS)
                    fail_msg("seed step %u: timer %u is late", step, j);
                if (has_fired)
                    due[j] = 0;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_fires_once_and_at_most_a_tick_late),
        cmocka_unit_test(a_cancelled_timer_does_not_fire_and_a_set_one_moves),
        cmocka_unit_test(a_jump_of_the_clock_fires_all_that_is_due_once),
        cmocka_unit_test(a_firing_timer_may_set_itself_and_cancel_its_neighbour),
        cmocka_unit_test(random_timers_agree_with_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
