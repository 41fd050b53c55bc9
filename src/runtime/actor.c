/* A mailbox with a thread that sleeps on it. Init, stop, join and deinit belong to the thread that
 * owns the actor (stop to any thread), send to any thread, the rest to the actor's own thread.
 *
 * Invariant: between taking a token from the semaphore and sleeping on it again there is always a
 * drain. A token is posted after its message is in the mailbox, so no message is slept over; and
 * as every poll takes all tokens first, they do not pile up while a busy actor never sleeps. */
#include "runtime/actor.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static void lh_actor_wake(void *arg)
{
    struct lh_actor *actor = arg;
    int rc = sem_post(&actor->wakeup);
    assert(rc == 0);
    (void)rc;
}

void lh_actor_init(struct lh_actor *actor, const char *name, void (*run)(void *self), void *self)
{
    int rc;
    *actor = (struct lh_actor){.name = name, .run = run, .self = self};
    assert(strlen(name) <= 15);
    rc = sem_init(&actor->wakeup, 0, 0);
    assert(rc == 0); /* fails only for a value out of range */
    (void)rc;
    lh_mailbox_init(&actor->mailbox, lh_actor_wake, actor);
}

void lh_actor_wake_by(struct lh_actor *actor, void (*wake)(void *arg), void *arg)
{
    assert(!actor->started);
    lh_mailbox_init(&actor->mailbox, wake, arg);
}

static void *lh_actor_main(void *arg)
{
    struct lh_actor *actor = arg;
    pthread_setname_np(pthread_self(), actor->name);
    actor->run(actor->self);
    return NULL;
}

enum lh_status lh_actor_start(struct lh_actor *actor, struct lh_error *error)
{
    sigset_t all, before;
    int rc;
    assert(!actor->started);
    /* A thread inherits its maker's mask: signals belong to the loop alone. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&actor->thread, NULL, lh_actor_main, actor);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return lh_error_sys(error, LH_IO, rc, "cannot start the thread %s", actor->name);
    actor->started = true;
    return LH_OK;
}

enum lh_status lh_actor_send(struct lh_actor *actor, struct lh_msg *msg)
{
    return lh_mailbox_push(&actor->mailbox, msg);
}

static bool lh_actor_has_waiting(const struct lh_actor *actor)
{
    for (unsigned lane = 0; lane < LH_LANES; lane++)
        if (actor->waiting[lane].count > 0)
            return true;
    return false;
}

bool lh_actor_poll(struct lh_actor *actor)
{
    while (sem_trywait(&actor->wakeup) == 0)
        continue;
    lh_mailbox_drain(&actor->mailbox, actor->waiting);
    return lh_actor_has_waiting(actor);
}

bool lh_actor_wait_until(struct lh_actor *actor, uint64_t deadline_ns)
{
    const struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                      .tv_nsec = (long)(deadline_ns % 1000000000u)};
    for (;;) {
        /* Asked before the drain: a push may come between a drain and the close. */
        bool is_shut = lh_mailbox_is_shut(&actor->mailbox);
        if (lh_actor_poll(actor))
            return true;
        if (is_shut)
            return false;
        if (lh_mailbox_is_shut(&actor->mailbox))
            continue; /* since: the poll may have taken the wake-up that said so */
        while ((deadline_ns == LH_ACTOR_FOR_EVER
                    ? sem_wait(&actor->wakeup)
                    : sem_clockwait(&actor->wakeup, CLOCK_MONOTONIC, &deadline)) != 0) {
            if (errno == ETIMEDOUT)
                return lh_actor_poll(actor);
            assert(errno == EINTR);
        }
    }
}

bool lh_actor_wait(struct lh_actor *actor)
{
    return lh_actor_wait_until(actor, LH_ACTOR_FOR_EVER);
}

struct lh_msg *lh_actor_next(struct lh_actor *actor)
{
    for (unsigned lane = 0; lane < LH_LANES; lane++)
        if (actor->waiting[lane].count > 0)
            return lh_msg_queue_take(&actor->waiting[lane]);
    return NULL;
}

void lh_actor_stop(struct lh_actor *actor)
{
    lh_mailbox_shut(&actor->mailbox);
}

void lh_actor_join(struct lh_actor *actor)
{
    int rc;
    if (!actor->started)
        return;
    assert(lh_mailbox_is_shut(&actor->mailbox));
    rc = pthread_join(actor->thread, NULL);
    assert(rc == 0);
    (void)rc;
    actor->started = false;
}

void lh_actor_deinit(struct lh_actor *actor)
{
    assert(!actor->started);
    sem_destroy(&actor->wakeup);
}
