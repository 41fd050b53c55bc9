/* A mailbox with a thread that sleeps on it. */
#ifndef LH_RUNTIME_ACTOR_H
#define LH_RUNTIME_ACTOR_H

#include "runtime/mailbox.h"
#include <pthread.h>
#include <semaphore.h>

struct lh_actor {
    struct lh_mailbox mailbox;
    struct lh_msg_queue waiting[LH_LANES]; /* drained, not yet handled; the actor's thread only */
    sem_t wakeup;
    pthread_t thread;
    const char *name; /* at most 15 bytes: the thread's name */
    void (*run)(void *self);
    void *self;
    bool started;
};

/* Ready to receive; no thread yet. `run` is called with `self` on the actor's own thread and
 * returns when lh_actor_wait has returned false. */
void lh_actor_init(struct lh_actor *actor, const char *name, void (*run)(void *self), void *self);

/* For an actor that sleeps elsewhere (in a disk's run): pushes call `wake` instead of posting the
 * semaphore; the actor polls and never waits. Before anything is sent. */
void lh_actor_wake_by(struct lh_actor *actor, void (*wake)(void *arg), void *arg);

/* Starts the thread, with every signal blocked. */
LH_MUST_USE enum lh_status lh_actor_start(struct lh_actor *actor, struct lh_error *error);

/* From any thread; as lh_mailbox_push. */
LH_MUST_USE enum lh_status lh_actor_send(struct lh_actor *actor, struct lh_msg *msg);

/* Moves what has arrived into `waiting` without sleeping. True: something waits. Own thread only.
 */
bool lh_actor_poll(struct lh_actor *actor);

/* Sleeps until something waits, and drains it. False: the actor was told to stop and nothing
 * waits any more; the mailbox is closed then. Own thread only. */
bool lh_actor_wait(struct lh_actor *actor);

#define LH_ACTOR_FOR_EVER UINT64_MAX

/* The same until `deadline_ns` of the monotonic clock at the latest, or LH_ACTOR_FOR_EVER. False:
 * it is past, or as above. */
bool lh_actor_wait_until(struct lh_actor *actor, uint64_t deadline_ns);

/* The next message, express lane first; NULL when nothing waits. Own thread only. */
struct lh_msg *lh_actor_next(struct lh_actor *actor);

/* Any thread: closes the mailbox behind what it holds; the thread handles that and ends. A send
 * that starts after this has returned gives LH_CLOSED. */
void lh_actor_stop(struct lh_actor *actor);

/* Waits for the thread's end. Once, after lh_actor_stop; nothing when it was never started. */
void lh_actor_join(struct lh_actor *actor);

/* When every thread that may send has ended (see struct lh_mailbox). */
void lh_actor_deinit(struct lh_actor *actor);

#endif
