/* A hashed timer wheel: set and cancel in constant time, however many connections hold one.
 * Single-owner: the thread that ticks it. Varghese and Lauck, "Hashed and Hierarchical Timing
 * Wheels" (SOSP 1987), scheme 6. */
#ifndef LH_RUNTIME_TIMER_H
#define LH_RUNTIME_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#define LH_TIMER_SLOTS   512u /* one turn of the wheel: 51.2 s at the tick below */
#define LH_TIMER_TICK_MS 100u /* how late a deadline may be */

struct lh_timer {
    struct lh_timer *prev;
    struct lh_timer *next;
    uint64_t expires_ms; /* of the clock that lh_timers_advance is given */
    void (*fire)(struct lh_timer *timer, void *arg);
    void *arg;
};

struct lh_timers {
    struct lh_timer slots[LH_TIMER_SLOTS]; /* list heads */
    uint64_t now_ms;
    uint64_t ticks;
};

void lh_timers_init(struct lh_timers *timers, uint64_t now_ms);
void lh_timer_init(struct lh_timer *timer, void (*fire)(struct lh_timer *, void *), void *arg);

/* Fires once, `delay_ms` from the wheel's now, at most one tick late; a set timer is moved. */
void lh_timer_set(struct lh_timers *timers, struct lh_timer *timer, uint64_t delay_ms);
void lh_timer_cancel(struct lh_timer *timer);
bool lh_timer_is_set(const struct lh_timer *timer);

/* Fires what has expired. A firing timer may set or cancel any timer, itself too. */
void lh_timers_advance(struct lh_timers *timers, uint64_t now_ms);

#endif
