/* Calls of vectord from threads that block. The calling thread's; vectord never waits for it, so
 * however many of them there are, nothing stands still. */
#include "actors/vector_client.h"

#include <assert.h>

void lh_vector_client_init(struct lh_vector_client *client, struct lh_actor *vectord)
{
    client->vectord = vectord;
    lh_actor_init(&client->replies, "replies", NULL, NULL);
}

void lh_vector_client_deinit(struct lh_vector_client *client)
{
    lh_actor_deinit(&client->replies);
}

enum lh_status lh_vector_client_call(struct lh_vector_client *client, struct lh_request *request)
{
    request->stage = LH_STAGE_ROUTE;
    request->reply_to = &client->replies.mailbox;
    enum lh_status status = lh_actor_send(client->vectord, &request->head);
    assert(status == LH_OK); /* vectord stops behind all who call it */
    (void)lh_actor_wait(&client->replies);
    struct lh_msg *msg = lh_actor_next(&client->replies);
    assert(msg == &request->head);
    (void)status;
    (void)msg;
    return request->error.status;
}
