/* Many producers, one consumer, two lanes.
 *
 * Each lane is a take-all stack: push is a compare-and-swap on the head and wakes the consumer only
 * when the head was empty; drain exchanges the head with empty and reverses, so that messages of
 * one producer stay in order. A message moves on a successful push and never on a failed one.
 * (Not a Vyukov queue: it publishes `next` after its exchange, which together with
 * uv_async_send's unordered early read can lose a wake-up; libuv issue 4584.) */
#ifndef LH_RUNTIME_MAILBOX_H
#define LH_RUNTIME_MAILBOX_H

#include "base/status.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lh_lane {
    LH_LANE_EXPRESS, /* searches and replies */
    LH_LANE_BULK,    /* adds */
    LH_LANES
};

/* The head of every message: first member, statically asserted where the message is defined. */
struct lh_msg {
    struct lh_msg *next;
    uint16_t type;
    uint16_t lane; /* enum lh_lane: where a push puts it */
};

/* A plain first-in first-out list with one owner. */
struct lh_msg_queue {
    struct lh_msg *first;
    struct lh_msg *last;
    size_t count;
};

void lh_msg_queue_put(struct lh_msg_queue *queue, struct lh_msg *msg);
struct lh_msg *lh_msg_queue_take(struct lh_msg_queue *queue); /* NULL when empty */
/* Takes the one behind `before`, which is in the queue; NULL when that is the last. */
struct lh_msg *lh_msg_queue_take_behind(struct lh_msg_queue *queue, struct lh_msg *before);

/* A mailbox, and what `wake` touches, live until every thread that may push has ended: a push wakes
 * after its message is out, when the consumer may already have handled it. */
struct lh_mailbox {
    char before[64];                   /* no neighbour's field shares a cache line with the heads */
    _Atomic(uintptr_t) head[LH_LANES]; /* newest message; bit 0: closed */
    _Atomic(uint64_t) depth[LH_LANES]; /* pushed and not yet drained */
    void (*wake)(void *arg);           /* called by a producer whose push found the lane empty */
    void *wake_arg;
    char after[64];
};

void lh_mailbox_init(struct lh_mailbox *mailbox, void (*wake)(void *arg), void *wake_arg);

/* Takes `msg` and returns LH_OK, or returns LH_CLOSED and leaves it with the caller. */
LH_MUST_USE enum lh_status lh_mailbox_push(struct lh_mailbox *mailbox, struct lh_msg *msg);

/* Moves all that waits to the ends of `queues`, oldest first. Consumer only. True when anything
 * came. */
bool lh_mailbox_drain(struct lh_mailbox *mailbox, struct lh_msg_queue queues[LH_LANES]);

/* Refuses every later push; what is there stays for the consumer, who is woken. Any thread. */
void lh_mailbox_shut(struct lh_mailbox *mailbox);

/* True once a shut is done: a drain that starts after this has seen it takes the last of it. */
bool lh_mailbox_is_shut(const struct lh_mailbox *mailbox);

/* Refuses every later push, and moves what is left into `queues` so that each request gets its
 * answer. Consumer only. */
void lh_mailbox_close(struct lh_mailbox *mailbox, struct lh_msg_queue queues[LH_LANES]);

/* How many messages wait in a lane, undrained. Any thread; a metric, not a promise. */
uint64_t lh_mailbox_depth(const struct lh_mailbox *mailbox, enum lh_lane lane);

#endif
