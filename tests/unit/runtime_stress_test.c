/* The runtime as the server uses it: a libuv loop sends messages through three layers of actors and
 * gets every one back, on both lanes, with actors that stop in mid-flight. Run it under
 * ThreadSanitizer as well. */
#include "runtime/actor.h"
#include "runtime/timer.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <uv.h>

#include <cmocka.h>

#define LAYERS    3u /* decoders, a router, workers */
#define WIDTH     3u /* actors a layer */
#define MESSAGES  6000u
#define IN_FLIGHT 64u /* at once, as credits bound it */

/* A message travels down the layers and straight home. Its fields are plain: whoever holds it owns
 * it, and a race on them is a race of the runtime. */
struct trip {
    struct lh_msg head;
    unsigned hops;
    unsigned turned_back; /* refused by an actor that had stopped: sent home by who held it */
    uint64_t path;        /* written by every actor on the way */
    struct lh_timer deadline;
};
_Static_assert(offsetof(struct trip, head) == 0, "a message starts with its head");

struct layer_actor {
    struct lh_actor actor;
    struct net *net;
    unsigned layer;
    uint64_t rng;
};

struct net {
    struct layer_actor actors[LAYERS][WIDTH];
    struct lh_mailbox home;
    uv_async_t wakeup;
    uv_loop_t loop;
};

struct front {
    struct net net;
    struct lh_timers timers;
    struct lh_msg_queue inbox[LH_LANES];
    struct trip *trips;
    uint64_t rng;
    unsigned sent;
    unsigned back;
    unsigned turned_back;
    unsigned stop_after; /* so many sent, then the lowest layer stops; 0: not before all are back */
    bool is_stopped;
};

/* ---- the actors' threads ---- */

static void send_on(struct layer_actor *self, struct trip *trip)
{
    trip->hops++;
    trip->path = trip->path * 31 + self->layer + 1;
    /* Replies go by the express lane, and the way down by either. */
    if (self->layer + 1 < LAYERS) {
        struct layer_actor *next =
            &self->net->actors[self->layer + 1][lh_test_below(&self->rng, WIDTH)];
        if (lh_actor_send(&next->actor, &trip->head) == LH_OK)
            return;
        trip->turned_back = 1; /* it is still ours */
    }
    trip->head.lane = LH_LANE_EXPRESS;
    if (lh_mailbox_push(&self->net->home, &trip->head) != LH_OK)
        abort(); /* home outlives everyone */
}

static void run(void *arg)
{
    struct layer_actor *self = arg;
    while (lh_actor_wait(&self->actor)) {
        struct lh_msg *msg;
        while ((msg = lh_actor_next(&self->actor)) != NULL)
            send_on(self, (struct trip *)msg);
    }
}

/* ---- the loop's thread ---- */

static void on_deadline(struct lh_timer *timer, void *arg)
{
    (void)timer;
    (void)arg;
    abort(); /* ten minutes: cancelled by every message that comes back */
}

static void wake_home(void *arg)
{
    uv_async_send(&((struct net *)arg)->wakeup);
}

static void stop_layer(struct net *net, unsigned layer)
{
    for (unsigned i = 0; i < WIDTH; i++)
        lh_actor_stop(&net->actors[layer][i].actor);
}

static void send_more(struct front *front)
{
    while (front->sent < MESSAGES && front->sent - front->back < IN_FLIGHT) {
        struct trip *trip = &front->trips[front->sent++];
        struct layer_actor *first = &front->net.actors[0][lh_test_below(&front->rng, WIDTH)];
        *trip = (struct trip){.head.lane = (uint16_t)lh_test_below(&front->rng, 2)};
        lh_timer_init(&trip->deadline, on_deadline, front);
        lh_timer_set(&front->timers, &trip->deadline, 600000);
        assert_int_equal(lh_actor_send(&first->actor, &trip->head), LH_OK);
        if (front->sent == front->stop_after)
            stop_layer(&front->net, LAYERS - 1);
    }
}

static void come_back(struct front *front, struct trip *trip)
{
    assert_true(lh_timer_is_set(&trip->deadline)); /* for the first time */
    lh_timer_cancel(&trip->deadline);
    if (trip->turned_back) {
        front->turned_back++;
        assert_int_equal(trip->hops, LAYERS - 1);
    } else {
        assert_int_equal(trip->hops, LAYERS);
        assert_int_equal(trip->path, (1 * 31 + 2) * 31 + 3);
    }
    front->back++;
}

static void on_wakeup(uv_async_t *async)
{
    struct front *front = async->data;
    struct lh_msg *msg;
    lh_mailbox_drain(&front->net.home, front->inbox);
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        while ((msg = lh_msg_queue_take(&front->inbox[lane])) != NULL)
            come_back(front, (struct trip *)msg);
    }
    send_more(front);
    if (front->back == MESSAGES && !front->is_stopped) {
        front->is_stopped = true;
        uv_stop(&front->net.loop);
    }
}

static void start(struct front *front)
{
    struct lh_error error;
    struct net *net = &front->net;
    assert_int_equal(uv_loop_init(&net->loop), 0);
    assert_int_equal(uv_async_init(&net->loop, &net->wakeup, on_wakeup), 0);
    net->wakeup.data = front;
    lh_mailbox_init(&net->home, wake_home, net);
    lh_timers_init(&front->timers, 0);
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        for (unsigned i = 0; i < WIDTH; i++) {
            struct layer_actor *made = &net->actors[layer][i];
            made->net = net;
            made->layer = layer;
            made->rng = front->rng + layer * WIDTH + i;
            lh_actor_init(&made->actor, "layer", run, made);
            assert_int_equal(lh_actor_start(&made->actor, &error), LH_OK);
        }
    }
}

/* All threads end before the first mailbox goes: a push wakes after its message is out. */
static void stop(struct front *front)
{
    struct net *net = &front->net;
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        stop_layer(net, layer);
        for (unsigned i = 0; i < WIDTH; i++)
            lh_actor_join(&net->actors[layer][i].actor);
    }
    for (unsigned layer = 0; layer < LAYERS; layer++) {
        for (unsigned i = 0; i < WIDTH; i++)
            lh_actor_deinit(&net->actors[layer][i].actor);
    }
    uv_close((uv_handle_t *)&net->wakeup, NULL);
    uv_run(&net->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&net->loop), 0);
}

static void run_round(uint64_t seed, unsigned stop_after)
{
    struct front *front = calloc(1, sizeof *front);
    assert_non_null(front);
    front->trips = calloc(MESSAGES, sizeof *front->trips);
    assert_non_null(front->trips);
    front->rng = seed;
    front->stop_after = stop_after;
    start(front);
    send_more(front);
    uv_run(&front->net.loop, UV_RUN_DEFAULT);
    assert_int_equal(front->back, MESSAGES);
    if (stop_after == 0)
        assert_int_equal(front->turned_back, 0);
    else
        assert_in_range(front->turned_back, MESSAGES - stop_after, MESSAGES);
    stop(front);
    free(front->trips);
    free(front);
}

static void every_message_comes_home_once(void **state)
{
    uint64_t seed = lh_test_seed();
    for (unsigned round = 0; round < 5; round++)
        run_round(seed + round, 0);
}

static void an_actor_that_stops_in_mid_flight_loses_no_message(void **state)
{
    uint64_t rng = lh_test_seed();
    for (unsigned round = 0; round < 10; round++)
        run_round(lh_test_next(&rng), 1 + lh_test_below(&rng, MESSAGES - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_home_once),
        cmocka_unit_test(an_actor_that_stops_in_mid_flight_loses_no_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
