/* The timer wheel. One thread: the one that advances it.
 *
 * Time is cut into ticks; a timer hangs in the slot of the first tick at or after its deadline,
 * modulo the wheel, so a timer further away than one turn is passed over until its turn comes.
 * Invariant: a set timer is in exactly one circular list; an unset one has next == NULL. */
#include "runtime/timer.h"

#include <assert.h>
#include <stddef.h>

static void lh_timer_unlink(struct lh_timer *timer)
{
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    timer->prev = NULL;
    timer->next = NULL;
}

static void lh_timer_link(struct lh_timer *list, struct lh_timer *timer)
{
    timer->prev = list->prev;
    timer->next = list;
    list->prev->next = timer;
    list->prev = timer;
}

void lh_timers_init(struct lh_timers *timers, uint64_t now_ms)
{
    for (unsigned i = 0; i < LH_TIMER_SLOTS; i++)
        timers->slots[i].prev = timers->slots[i].next = &timers->slots[i];
    timers->now_ms = now_ms;
    timers->ticks = now_ms / LH_TIMER_TICK_MS;
}

void lh_timer_init(struct lh_timer *timer, void (*fire)(struct lh_timer *, void *), void *arg)
{
    *timer = (struct lh_timer){.fire = fire, .arg = arg};
}

bool lh_timer_is_set(const struct lh_timer *timer)
{
    return timer->next != NULL;
}

void lh_timer_cancel(struct lh_timer *timer)
{
    if (lh_timer_is_set(timer))
        lh_timer_unlink(timer);
}

void lh_timer_set(struct lh_timers *timers, struct lh_timer *timer, uint64_t delay_ms)
{
    uint64_t tick;
    assert(timer->fire != NULL);
    lh_timer_cancel(timer);
    timer->expires_ms = timers->now_ms + delay_ms;
    tick = (timer->expires_ms + LH_TIMER_TICK_MS - 1) / LH_TIMER_TICK_MS;
    if (tick <= timers->ticks) /* due at once: the tick that has been looked at is over */
        tick = timers->ticks + 1;
    lh_timer_link(&timers->slots[tick % LH_TIMER_SLOTS], timer);
}

/* Fires what is due in one slot. The slot is emptied into a list of its own first, so that timers
 * that are set or cancelled on the way disturb nothing. */
static void lh_timers_fire_slot(struct lh_timers *timers, struct lh_timer *slot)
{
    struct lh_timer due;
    if (slot->next == slot)
        return;
    due.next = slot->next;
    due.prev = slot->prev;
    due.next->prev = due.prev->next = &due;
    slot->next = slot->prev = slot;
    while (due.next != &due) {
        struct lh_timer *timer = due.next;
        lh_timer_unlink(timer);
        if (timer->expires_ms <= timers->now_ms)
            timer->fire(timer, timer->arg);
        else
            lh_timer_link(slot, timer); /* a later turn of the wheel */
    }
}

void lh_timers_advance(struct lh_timers *timers, uint64_t now_ms)
{
    uint64_t first = timers->ticks + 1, target = now_ms / LH_TIMER_TICK_MS;
    assert(now_ms >= timers->now_ms);
    timers->now_ms = now_ms;
    if (target < first)
        return;
    timers->ticks = target;
    if (target - first >= LH_TIMER_SLOTS) /* more than a turn has gone by: each slot once */
        first = target - LH_TIMER_SLOTS + 1;
    for (uint64_t tick = first; tick <= target; tick++)
        lh_timers_fire_slot(timers, &timers->slots[tick % LH_TIMER_SLOTS]);
}
