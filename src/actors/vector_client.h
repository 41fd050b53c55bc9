/* The vector service for threads that may block: one call at a time, and its answer in place.
 *
 * In this process a call is a message to vectord and back; nothing of it becomes text. */
#ifndef LH_ACTORS_VECTOR_CLIENT_H
#define LH_ACTORS_VECTOR_CLIENT_H

#include "actors/messages.h"
#include "runtime/actor.h"

struct lh_vector_client {
    struct lh_actor replies; /* of the thread that calls; no thread of its own */
    struct lh_actor *vectord;
};

void lh_vector_client_init(struct lh_vector_client *client, struct lh_actor *vectord);
/* When vectord has ended, or has answered every call. */
void lh_vector_client_deinit(struct lh_vector_client *client);

/* Sends a request whose batch is decoded, and waits until it is answered: what was found is in its
 * parts, and no text is made of it. Returns request->error.status. */
LH_MUST_USE enum lh_status lh_vector_client_call(struct lh_vector_client *client,
                                                 struct lh_request *request);

#endif
