/* runtime/actor: waking, lanes, and stopping while others send. */
#include "runtime/actor.h"

#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define SENDERS  6u
#define MESSAGES 20000u
#define ROUNDS   20u

/* Is stopped when wake-ups are taken the next time; NULL: none is. */
static struct lh_actor *stopped_in_poll;

int __real_sem_trywait(sem_t *wakeup);
int __wrap_sem_trywait(sem_t *wakeup);

int __wrap_sem_trywait(sem_t *wakeup)
{
    struct lh_actor *actor = stopped_in_poll;
    if (actor != NULL) {
        stopped_in_poll = NULL;
        lh_actor_stop(actor);
    }
    return __real_sem_trywait(wakeup);
}

struct note {
    struct lh_msg head;
    unsigned sender;
    unsigned number;
};

/* Checks that each sender's notes come in order, and counts them. */
struct counter {
    struct lh_actor actor;
    unsigned next[SENDERS][LH_LANES];
    unsigned handled;
    bool is_disordered;
    bool has_signals;
};

static void count_notes(void *self)
{
    struct counter *counter = self;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    counter->has_signals = !sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGINT);
    while (lh_actor_wait(&counter->actor)) {
        struct lh_msg *msg = lh_actor_next(&counter->actor);
        struct note *note = (struct note *)msg;
        if (note->number != counter->next[note->sender][msg->lane]++)
            counter->is_disordered = true;
        counter->handled++;
    }
}

struct sender {
    struct counter *counter;
    struct note *notes;
    unsigned index;
    unsigned accepted;
    unsigned per_lane[LH_LANES];
    bool was_reopened;
};

static void *send_notes(void *arg)
{
    struct sender *sender = arg;
    bool is_closed = false;
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct note *note = &sender->notes[i];
        unsigned lane = i % LH_LANES;
        *note = (struct note){.head.lane = (uint16_t)lane, .sender = sender->index};
        note->number = sender->per_lane[lane];
        if (lh_actor_send(&sender->counter->actor, &note->head) == LH_OK) {
            sender->per_lane[lane]++;
            sender->accepted++;
            /* the lanes close one after the other, the express lane first */
            sender->was_reopened |= is_closed && lane == LH_LANE_EXPRESS;
        } else {
            is_closed |= lane == LH_LANE_EXPRESS;
        }
    }
    return NULL;
}

static void run_round(unsigned round, struct note *notes)
{
    struct counter *counter = calloc(1, sizeof *counter);
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    unsigned accepted = 0;
    struct note late = {0};
    assert_non_null(counter);
    lh_actor_init(&counter->actor, "counter", count_notes, counter);
    assert_int_equal(lh_actor_start(&counter->actor, NULL), LH_OK);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] =
            (struct sender){.counter = counter, .notes = notes + (size_t)i * MESSAGES, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_notes, &senders[i]), 0);
    }
    for (volatile unsigned spin = 0; spin < round * 100000; spin++)
        continue;
    lh_actor_stop(&counter->actor);
    assert_int_equal(lh_actor_send(&counter->actor, &late.head), LH_CLOSED);
    lh_actor_join(&counter->actor);
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(senders[i].was_reopened);
        accepted += senders[i].accepted;
    }
    assert_int_equal(counter->handled, accepted);
    assert_false(counter->is_disordered);
    assert_false(counter->has_signals);
    lh_actor_deinit(&counter->actor);
    free(counter);
}

static void a_stop_while_others_send_loses_nothing(void **state)
{
    struct note *notes = calloc((size_t)SENDERS * MESSAGES, sizeof *notes);
    assert_non_null(notes);
    for (unsigned round = 0; round < ROUNDS; round++)
        run_round(round, notes);
    free(notes);
}

static void what_was_sent_before_the_start_is_handled(void **state)
{
    struct counter *counter = calloc(1, sizeof *counter);
    struct note notes[4];
    assert_non_null(counter);
    lh_actor_init(&counter->actor, "counter", count_notes, counter);
    for (unsigned i = 0; i < 4; i++) {
        notes[i] = (struct note){.number = i};
        assert_int_equal(lh_actor_send(&counter->actor, &notes[i].head), LH_OK);
    }
    lh_actor_stop(&counter->actor);
    assert_int_equal(lh_actor_start(&counter->actor, NULL), LH_OK);
    lh_actor_join(&counter->actor);
    assert_int_equal(counter->handled, 4);
    lh_actor_deinit(&counter->actor);
    free(counter);
}

static void the_express_lane_goes_first_and_poll_keeps_what_waits(void **state)
{
    struct lh_actor actor;
    struct note bulk = {.head.lane = LH_LANE_BULK}, express = {.head.lane = LH_LANE_EXPRESS};
    lh_actor_init(&actor, "idle", count_notes, NULL); /* never started: this thread is its own */
    assert_false(lh_actor_poll(&actor));
    assert_int_equal(lh_actor_send(&actor, &bulk.head), LH_OK);
    assert_true(lh_actor_poll(&actor));
    assert_true(lh_actor_poll(&actor)); /* nothing new, but something waits */
    assert_int_equal(lh_actor_send(&actor, &express.head), LH_OK);
    assert_true(lh_actor_wait(&actor));
    assert_ptr_equal(lh_actor_next(&actor), &express.head);
    assert_ptr_equal(lh_actor_next(&actor), &bulk.head);
    assert_null(lh_actor_next(&actor));
    lh_actor_stop(&actor);
    assert_false(lh_actor_wait(&actor));
    lh_actor_join(&actor);
    lh_actor_deinit(&actor);
}

static void a_wait_ends_at_its_deadline_with_a_message_or_with_a_stop(void **state)
{
    struct lh_actor actor;
    struct note note = {.head.lane = LH_LANE_BULK};
    lh_actor_init(&actor, "idle", count_notes, NULL);
    uint64_t begin = lh_clock_ns();
    assert_false(lh_actor_wait_until(&actor, begin + 20000000));
    assert_true(lh_clock_ns() >= begin + 20000000);
    assert_false(lh_actor_wait_until(&actor, begin)); /* it is past */
    assert_int_equal(lh_actor_send(&actor, &note.head), LH_OK);
    assert_true(lh_actor_wait_until(&actor, UINT64_MAX / 2));
    assert_ptr_equal(lh_actor_next(&actor), &note.head);
    lh_actor_stop(&actor);
    assert_false(lh_actor_wait_until(&actor, UINT64_MAX / 2));
    lh_actor_deinit(&actor);
}

static void a_busy_actor_does_not_pile_up_wakeups(void **state)
{
    struct lh_actor actor;
    struct note note = {.head.lane = LH_LANE_BULK};
    int tokens;
    lh_actor_init(&actor, "idle", count_notes, NULL);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(lh_actor_send(&actor, &note.head), LH_OK);
        assert_true(lh_actor_poll(&actor));
        assert_non_null(lh_actor_next(&actor));
    }
    assert_int_equal(sem_getvalue(&actor.wakeup, &tokens), 0);
    assert_int_equal(tokens, 0);
    lh_actor_deinit(&actor);
}

/* Between the look at whether it is to stop and the taking of wake-ups, that for the stop among
 * them. */
static void a_stop_in_the_moment_of_a_poll_is_not_slept_over(void **state)
{
    struct lh_actor actor;
    lh_actor_init(&actor, "idle", count_notes, NULL);
    stopped_in_poll = &actor;
    alarm(60); /* the wait would have no end */
    assert_false(lh_actor_wait(&actor));
    alarm(0);
    assert_null(stopped_in_poll);
    lh_actor_deinit(&actor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_while_others_send_loses_nothing),
        cmocka_unit_test(what_was_sent_before_the_start_is_handled),
        cmocka_unit_test(the_express_lane_goes_first_and_poll_keeps_what_waits),
        cmocka_unit_test(a_wait_ends_at_its_deadline_with_a_message_or_with_a_stop),
        cmocka_unit_test(a_busy_actor_does_not_pile_up_wakeups),
        cmocka_unit_test(a_stop_in_the_moment_of_a_poll_is_not_slept_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
