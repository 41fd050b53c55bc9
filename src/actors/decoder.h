/* Decoders: JSON to batches, answers to JSON, on threads of their own.
 *
 * Parsing a 768-dimensional vector costs a third of inserting it: on the loop or on vectord it
 * would cap the server at a few shards. Decoders own nothing but scratch, so there can be many. */
#ifndef LH_ACTORS_DECODER_H
#define LH_ACTORS_DECODER_H

#include "actors/messages.h"

struct lh_decoder_actor {
    struct lh_actor actor;
    struct lh_decoder *decoder;
    struct lh_actor *vectord;   /* where decoded requests go */
    struct lh_mailbox *gateway; /* where answers go */
    char name[16];
};

LH_MUST_USE enum lh_status lh_decoder_actor_init(struct lh_decoder_actor *self, uint32_t number,
                                                 struct lh_actor *vectord,
                                                 struct lh_mailbox *gateway);
void lh_decoder_actor_deinit(struct lh_decoder_actor *self);

/* Writes the answer of a gathered request as JSON into request->answer. */
void lh_encode_answer(struct lh_request *request);

#endif
