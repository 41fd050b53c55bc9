/* runtime/mailbox: order, closing, and a stress with many producers, closes in mid-flight and a
 * libuv loop as consumer. Run it under ThreadSanitizer as well. */
#include "runtime/mailbox.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include <cmocka.h>

#define PRODUCERS          8u
#define MESSAGES_PER_ROUND 4000u
#define ROUNDS             50u

struct note {
    struct lh_msg head;
    unsigned producer;
    unsigned number;  /* of its producer and lane, from 0 */
    unsigned handled; /* how often the consumer has seen it: plain, so that races show */
};
_Static_assert(offsetof(struct note, head) == 0, "a message starts with its head");

static void count_wake(void *arg)
{
    ++*(unsigned *)arg;
}

static struct note make(unsigned number, enum lh_lane lane)
{
    return (struct note){.head.lane = (uint16_t)lane, .number = number};
}

static unsigned number_of(struct lh_msg *msg)
{
    return ((struct note *)msg)->number;
}

static void a_drain_gives_each_lane_in_order(void **state)
{
    struct lh_mailbox mailbox;
    struct lh_msg_queue queues[LH_LANES] = {0};
    struct note notes[6];
    unsigned wakes = 0;
    lh_mailbox_init(&mailbox, count_wake, &wakes);
    assert_false(lh_mailbox_drain(&mailbox, queues));
    for (unsigned i = 0; i < 6; i++) {
        notes[i] = make(i, i % 2 ? LH_LANE_BULK : LH_LANE_EXPRESS);
        assert_int_equal(lh_mailbox_push(&mailbox, &notes[i].head), LH_OK);
        if (i == 3) /* the rest goes behind what the queues hold */
            assert_true(lh_mailbox_drain(&mailbox, queues));
    }
    assert_true(lh_mailbox_drain(&mailbox, queues));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(number_of(lh_msg_queue_take(&queues[LH_LANE_EXPRESS])), 2 * i);
        assert_int_equal(number_of(lh_msg_queue_take(&queues[LH_LANE_BULK])), 2 * i + 1);
    }
    assert_null(lh_msg_queue_take(&queues[LH_LANE_EXPRESS]));
    assert_null(lh_msg_queue_take(&queues[LH_LANE_BULK]));
}

static void only_a_push_to_an_empty_lane_wakes(void **state)
{
    struct lh_mailbox mailbox;
    struct lh_msg_queue queues[LH_LANES] = {0};
    struct note notes[4] = {make(0, LH_LANE_BULK), make(1, LH_LANE_BULK), make(2, LH_LANE_EXPRESS),
                            make(3, LH_LANE_BULK)};
    unsigned wakes = 0;
    lh_mailbox_init(&mailbox, count_wake, &wakes);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[0].head), LH_OK);
    assert_int_equal(wakes, 1);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[1].head), LH_OK);
    assert_int_equal(wakes, 1);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[2].head), LH_OK);
    assert_int_equal(wakes, 2);
    lh_mailbox_drain(&mailbox, queues);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[3].head), LH_OK);
    assert_int_equal(wakes, 3);
}

static void depth_counts_what_is_not_drained(void **state)
{
    struct lh_mailbox mailbox;
    struct lh_msg_queue queues[LH_LANES] = {0};
    struct note notes[3] = {make(0, LH_LANE_BULK), make(1, LH_LANE_BULK), make(2, LH_LANE_BULK)};
    unsigned wakes = 0;
    lh_mailbox_init(&mailbox, count_wake, &wakes);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[0].head), LH_OK);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[1].head), LH_OK);
    assert_int_equal(lh_mailbox_depth(&mailbox, LH_LANE_BULK), 2);
    assert_int_equal(lh_mailbox_depth(&mailbox, LH_LANE_EXPRESS), 0);
    lh_mailbox_close(&mailbox, queues);
    assert_int_equal(lh_mailbox_depth(&mailbox, LH_LANE_BULK), 0);
    assert_int_equal(lh_mailbox_push(&mailbox, &notes[2].head), LH_CLOSED);
    assert_int_equal(lh_mailbox_depth(&mailbox, LH_LANE_BULK), 0);
}

static void push_to_a_closed_mailbox_keeps_ownership(void **state)
{
    struct lh_mailbox mailbox;
    struct lh_msg_queue queues[LH_LANES] = {0};
    struct note before = make(1, LH_LANE_EXPRESS), after = make(2, LH_LANE_EXPRESS);
    unsigned wakes = 0;
    lh_mailbox_init(&mailbox, count_wake, &wakes);
    assert_int_equal(lh_mailbox_push(&mailbox, &before.head), LH_OK);
    assert_false(lh_mailbox_is_shut(&mailbox));
    lh_mailbox_shut(&mailbox);
    assert_true(lh_mailbox_is_shut(&mailbox));
    assert_int_equal(wakes, 2);
    assert_int_equal(lh_mailbox_push(&mailbox, &after.head), LH_CLOSED);
    assert_true(lh_mailbox_drain(&mailbox, queues));
    assert_int_equal(lh_mailbox_push(&mailbox, &after.head), LH_CLOSED); /* a drain opens nothing */
    lh_mailbox_close(&mailbox, queues);
    assert_int_equal(queues[LH_LANE_EXPRESS].count, 1);
    assert_ptr_equal(lh_msg_queue_take(&queues[LH_LANE_EXPRESS]), &before.head);
}

/* ---- stress ---- */

struct round {
    struct lh_mailbox mailbox;
    uv_loop_t loop;
    uv_async_t async;
    pthread_barrier_t start;
    unsigned close_after; /* handled messages; 0: another thread shuts at some time */
    unsigned handled;
    unsigned next[PRODUCERS][LH_LANES]; /* the consumer's: what each must send next */
    bool is_done;
    struct producer {
        struct round *round;
        struct note *notes;
        unsigned index;
        unsigned accepted[LH_LANES];
    } producers[PRODUCERS];
};

static void wake_loop(void *arg)
{
    uv_async_send(arg);
}

/* Sends to both lanes in turn until all is sent or the mailbox is closed. */
static void *produce(void *arg)
{
    struct producer *p = arg;
    unsigned refused = 0;
    pthread_barrier_wait(&p->round->start);
    for (unsigned i = 0; i < MESSAGES_PER_ROUND && refused == 0; i++) {
        struct note *note = &p->notes[i];
        unsigned lane = (i * 7 + p->index) % 3 == 0 ? LH_LANE_EXPRESS : LH_LANE_BULK;
        *note = (struct note){
            .head.lane = (uint16_t)lane, .producer = p->index, .number = p->accepted[lane]};
        if (lh_mailbox_push(&p->round->mailbox, &note->head) == LH_OK)
            p->accepted[lane]++;
        else
            refused++;
    }
    return NULL;
}

static void consume(struct round *round, struct lh_msg_queue queues[LH_LANES])
{
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        struct lh_msg *msg;
        while ((msg = lh_msg_queue_take(&queues[lane])) != NULL) {
            struct note *note = (struct note *)msg;
            unsigned *next = &round->next[note->producer][lane];
            if (note->handled++ > 0 || note->number != *next)
                fail_msg("producer %u lane %u: %u, not %u", note->producer, lane, note->number,
                         *next);
            (*next)++;
            round->handled++;
        }
    }
}

static void on_wake(uv_async_t *async)
{
    struct round *round = async->data;
    struct lh_msg_queue queues[LH_LANES] = {0};
    bool is_shut = lh_mailbox_is_shut(&round->mailbox);
    lh_mailbox_drain(&round->mailbox, queues);
    consume(round, queues);
    if (!is_shut && round->close_after > 0 && round->handled >= round->close_after) {
        lh_mailbox_close(&round->mailbox, queues);
        consume(round, queues);
        is_shut = true;
    }
    if (is_shut && !round->is_done) {
        round->is_done = true;
        uv_stop(&round->loop); /* the handle lives until the producers have ended */
    }
}

static void *shut_at_some_time(void *arg)
{
    struct round *round = arg;
    pthread_barrier_wait(&round->start);
    for (volatile unsigned spin = 0; spin < 400000; spin++)
        continue;
    lh_mailbox_shut(&round->mailbox);
    return NULL;
}

static void run_round(struct round *round, struct note *notes)
{
    pthread_t threads[PRODUCERS], closer;
    uint64_t accepted = 0;
    lh_mailbox_init(&round->mailbox, wake_loop, &round->async);
    assert_int_equal(uv_loop_init(&round->loop), 0);
    assert_int_equal(uv_async_init(&round->loop, &round->async, on_wake), 0);
    round->async.data = round;
    assert_int_equal(
        pthread_barrier_init(&round->start, NULL, PRODUCERS + 1 + (round->close_after == 0)), 0);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        round->producers[i] =
            (struct producer){.round = round, .notes = notes + i * MESSAGES_PER_ROUND, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &round->producers[i]), 0);
    }
    if (round->close_after == 0)
        assert_int_equal(pthread_create(&closer, NULL, shut_at_some_time, round), 0);
    pthread_barrier_wait(&round->start);
    uv_run(&round->loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    if (round->close_after == 0)
        pthread_join(closer, NULL);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        for (unsigned lane = 0; lane < LH_LANES; lane++) {
            assert_int_equal(round->producers[i].accepted[lane], round->next[i][lane]);
            assert_int_equal(lh_mailbox_depth(&round->mailbox, (enum lh_lane)lane), 0);
            accepted += round->producers[i].accepted[lane];
        }
    }
    assert_int_equal(accepted, round->handled);
    uv_close((uv_handle_t *)&round->async, NULL);
    uv_run(&round->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&round->loop), 0);
    pthread_barrier_destroy(&round->start);
}

static void stress(bool by_consumer)
{
    struct note *notes = calloc(PRODUCERS * MESSAGES_PER_ROUND, sizeof *notes);
    assert_non_null(notes);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct round *round = calloc(1, sizeof *round);
        assert_non_null(round);
        /* the last rounds close when all has arrived: nothing may be lost on the way there */
        if (by_consumer)
            round->close_after = PRODUCERS * MESSAGES_PER_ROUND * (i + 1) / ROUNDS;
        run_round(round, notes);
        if (by_consumer && i == ROUNDS - 1)
            assert_int_equal(round->handled, PRODUCERS * MESSAGES_PER_ROUND);
        free(round);
    }
    free(notes);
}

static void nothing_is_lost_or_twice_when_the_consumer_closes(void **state)
{
    stress(true);
}

static void nothing_is_lost_or_twice_when_another_thread_shuts(void **state)
{
    stress(false);
}

/* One message in flight a time: each needs its own wake-up, so a lost one hangs the test. */
struct ping {
    struct lh_mailbox mailbox;
    uv_loop_t loop;
    uv_async_t async;
    struct note note[2];
    pthread_barrier_t both;
    unsigned left;
};

static void on_ping(uv_async_t *async)
{
    struct ping *ping = async->data;
    struct lh_msg_queue queues[LH_LANES] = {0};
    lh_mailbox_drain(&ping->mailbox, queues);
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        while (lh_msg_queue_take(&queues[lane]) != NULL) {
            ping->left--;
            pthread_barrier_wait(&ping->both);
        }
    }
    if (ping->left == 0)
        uv_close((uv_handle_t *)async, NULL);
}

static void *send_pings(void *arg)
{
    struct ping *ping = arg;
    for (unsigned i = 0, count = ping->left; i < count; i++) {
        ping->note[i % 2] = make(i, (enum lh_lane)(i % LH_LANES));
        assert_int_equal(lh_mailbox_push(&ping->mailbox, &ping->note[i % 2].head), LH_OK);
        pthread_barrier_wait(&ping->both);
    }
    return NULL;
}

static void every_single_message_wakes_a_libuv_consumer(void **state)
{
    struct ping *ping = calloc(1, sizeof *ping);
    pthread_t sender;
    assert_non_null(ping);
    ping->left = 20000;
    lh_mailbox_init(&ping->mailbox, wake_loop, &ping->async);
    assert_int_equal(pthread_barrier_init(&ping->both, NULL, 2), 0);
    assert_int_equal(uv_loop_init(&ping->loop), 0);
    assert_int_equal(uv_async_init(&ping->loop, &ping->async, on_ping), 0);
    ping->async.data = ping;
    assert_int_equal(pthread_create(&sender, NULL, send_pings, ping), 0);
    uv_run(&ping->loop, UV_RUN_DEFAULT);
    pthread_join(sender, NULL);
    assert_int_equal(ping->left, 0);
    assert_int_equal(uv_loop_close(&ping->loop), 0);
    pthread_barrier_destroy(&ping->both);
    free(ping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drain_gives_each_lane_in_order),
        cmocka_unit_test(only_a_push_to_an_empty_lane_wakes),
        cmocka_unit_test(depth_counts_what_is_not_drained),
        cmocka_unit_test(push_to_a_closed_mailbox_keeps_ownership),
        cmocka_unit_test(nothing_is_lost_or_twice_when_the_consumer_closes),
        cmocka_unit_test(nothing_is_lost_or_twice_when_another_thread_shuts),
        cmocka_unit_test(every_single_message_wakes_a_libuv_consumer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
