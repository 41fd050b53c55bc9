/* A catalog call's memory. Whichever thread holds it. */
#include "actors/catalog.h"

#include <stdlib.h>

struct lh_catalog_call *lh_catalog_call_create(enum lh_catalog_op op, struct lh_mailbox *reply_to)
{
    struct lh_catalog_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return NULL;
    call->head = (struct lh_msg){.type = LH_MSG_CATALOG, .lane = LH_LANE_EXPRESS};
    call->op = op;
    call->reply_to = reply_to;
    return call;
}

void lh_catalog_call_destroy(struct lh_catalog_call *call)
{
    if (call == NULL)
        return;
    lh_buf_deinit(&call->body);
    lh_buf_deinit(&call->allowed);
    lh_buf_deinit(&call->answer);
    free(call);
}
