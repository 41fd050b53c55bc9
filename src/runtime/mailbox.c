/* The mailbox: any thread pushes, shuts and reads the depth; one consumer drains and closes.
 *
 * A lane is one word: the newest message, linked to the ones before it, with bit 0 set for good
 * once the lane is closed (messages are aligned, so the bit is free). Every change of the word is
 * one read-modify-write, so they stand in one order, and each message falls on one side of each
 * drain and of the close: pushed before the close, it stays for a drain; tried after, it is
 * refused. Nothing is freed by the mailbox and a drain takes the whole stack, so a producer whose
 * compare-and-swap succeeds against a head that went and came back (ABA) still links to what is
 * there.
 *
 * A wake-up cannot be lost. Take a push after which nobody wakes: it found the lane not empty, so
 * the drain that takes the other one takes it too, and its producer wakes. A push that finds the
 * lane empty always calls wake; that wake itself does not fold into an older one is shown at
 * lh_mailbox_push. */
#include "runtime/mailbox.h"

#include <assert.h>

#define LH_HEAD_EMPTY  ((uintptr_t)0)
#define LH_HEAD_CLOSED ((uintptr_t)1)

_Static_assert(_Alignof(struct lh_msg) >= 2, "bit 0 of a message's address is the closed mark");

void lh_msg_queue_put(struct lh_msg_queue *queue, struct lh_msg *msg)
{
    msg->next = NULL;
    if (queue->last != NULL)
        queue->last->next = msg;
    else
        queue->first = msg;
    queue->last = msg;
    queue->count++;
}

struct lh_msg *lh_msg_queue_take_behind(struct lh_msg_queue *queue, struct lh_msg *before)
{
    struct lh_msg *msg = before->next;

    if (msg != NULL) {
        before->next = msg->next;
        queue->last = queue->last == msg ? before : queue->last;
        queue->count--;
        msg->next = NULL;
    }
    return msg;
}

struct lh_msg *lh_msg_queue_take(struct lh_msg_queue *queue)
{
    struct lh_msg *msg = queue->first;
    if (msg == NULL) {
        assert(queue->count == 0);
        return NULL;
    }
    queue->first = msg->next;
    if (queue->first == NULL)
        queue->last = NULL;
    queue->count--;
    msg->next = NULL;
    return msg;
}

void lh_mailbox_init(struct lh_mailbox *mailbox, void (*wake)(void *arg), void *wake_arg)
{
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        /* Not yet shared: what starts the threads publishes it. */
        atomic_init(&mailbox->head[lane], LH_HEAD_EMPTY);
        atomic_init(&mailbox->depth[lane], 0);
    }
    mailbox->wake = wake;
    mailbox->wake_arg = wake_arg;
}

enum lh_status lh_mailbox_push(struct lh_mailbox *mailbox, struct lh_msg *msg)
{
    unsigned lane = msg->lane;
    uintptr_t head;
    assert(lane < LH_LANES);
    /* Relaxed, and before the message is out: the release below puts it before the drain's
     * subtraction, so the depth never falls below zero. */
    atomic_fetch_add_explicit(&mailbox->depth[lane], 1, memory_order_relaxed);
    /* Relaxed: only compared, and read again by the compare-and-swap. */
    head = atomic_load_explicit(&mailbox->head[lane], memory_order_relaxed);
    do {
        if (head & LH_HEAD_CLOSED) {
            atomic_fetch_sub_explicit(&mailbox->depth[lane], 1, memory_order_relaxed);
            return LH_CLOSED;
        }
        msg->next = (struct lh_msg *)head;
        /* On success, release: pairs with the acquire of fetch_and in lh_mailbox_drain, which
         * thereby sees the message's fields and its `next`.
         *
         * On success, acquire: pairs with the release of that same fetch_and. An empty head that
         * is found here was written by a drain, and the consumer rearmed its wake-up before it
         * (uv_async: cleared `pending`). Without it, uv_async_send's early plain read of
         * `pending` could be satisfied before the compare-and-swap and see the value from before
         * the rearming, take the wake-up for sent, and send none.
         *
         * On failure, relaxed: as the load above. */
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->head[lane], &head, (uintptr_t)msg,
                                                    memory_order_acq_rel, memory_order_relaxed));
    if (head == LH_HEAD_EMPTY)
        mailbox->wake(mailbox->wake_arg);
    return LH_OK;
}

/* Puts a stack, newest first, at the end of a queue, oldest first. */
static size_t lh_mailbox_unstack(struct lh_msg *newest, struct lh_msg_queue *queue)
{
    struct lh_msg *oldest = NULL, *last = newest;
    size_t count = 0;
    while (newest != NULL) {
        struct lh_msg *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
        count++;
    }
    if (count == 0)
        return 0;
    if (queue->last != NULL)
        queue->last->next = oldest;
    else
        queue->first = oldest;
    queue->last = last;
    queue->count += count;
    return count;
}

bool lh_mailbox_drain(struct lh_mailbox *mailbox, struct lh_msg_queue queues[LH_LANES])
{
    bool any = false;
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        /* Empties the lane and keeps its closed mark. Acquire pairs with the release of the
         * compare-and-swap of every push in the stack (each continues the release sequence of the
         * one below it); release pairs with the acquire of the push that finds the lane empty.
         * It is done even when the lane looks empty: skipping it would leave that push nothing to
         * pair with. */
        uintptr_t head =
            atomic_fetch_and_explicit(&mailbox->head[lane], LH_HEAD_CLOSED, memory_order_acq_rel);
        size_t count = lh_mailbox_unstack((struct lh_msg *)(head & ~LH_HEAD_CLOSED), &queues[lane]);
        if (count > 0) {
            any = true;
            /* Relaxed: a metric. */
            atomic_fetch_sub_explicit(&mailbox->depth[lane], count, memory_order_relaxed);
        }
    }
    return any;
}

void lh_mailbox_shut(struct lh_mailbox *mailbox)
{
    for (unsigned lane = 0; lane < LH_LANES; lane++)
        /* Release pairs with the acquire of lh_mailbox_is_shut: what the closing thread did before
         * is seen by the consumer that ends. Acquire and the full word keep the release sequence
         * of the pushes below it unbroken, as any read-modify-write does. */
        atomic_fetch_or_explicit(&mailbox->head[lane], LH_HEAD_CLOSED, memory_order_acq_rel);
    mailbox->wake(mailbox->wake_arg);
}

bool lh_mailbox_is_shut(const struct lh_mailbox *mailbox)
{
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        /* Acquire pairs with the release of fetch_or in lh_mailbox_shut. Read before a drain, the
         * mark stands before that drain in the word's order, and so does every push. */
        uintptr_t head =
            atomic_load_explicit(&((struct lh_mailbox *)mailbox)->head[lane], memory_order_acquire);
        if ((head & LH_HEAD_CLOSED) == 0)
            return false;
    }
    return true;
}

void lh_mailbox_close(struct lh_mailbox *mailbox, struct lh_msg_queue queues[LH_LANES])
{
    lh_mailbox_shut(mailbox);
    lh_mailbox_drain(mailbox, queues);
}

uint64_t lh_mailbox_depth(const struct lh_mailbox *mailbox, enum lh_lane lane)
{
    return atomic_load_explicit(&((struct lh_mailbox *)mailbox)->depth[lane],
                                memory_order_relaxed); /* a metric orders nothing */
}
