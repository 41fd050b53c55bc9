/* A thread that runs queries, one at a time, and blocks in them. */
#ifndef LH_ACTORS_QUERY_WORKER_H
#define LH_ACTORS_QUERY_WORKER_H

#include "actors/query.h"
#include "actors/query_vectors.h"
#include "base/metrics.h"
#include "runtime/actor.h"

struct lh_query_worker_metrics {
    struct lh_counter queries;
    struct lh_counter errors;
    struct lh_counter rows;
    struct lh_counter busy_ns;
};

struct lh_query_worker {
    struct lh_actor actor;
    struct lh_sql *sql;
    struct lh_sql_session *session; /* NULL before the first query, and then for good */
    struct lh_mailbox *loop;
    struct lh_query_piece pieces[LH_QUERY_PIECES];
    struct lh_msg_queue free_pieces; /* here */
    struct lh_query *query;          /* that it runs */
    struct lh_vector_client client;
    struct lh_query_vectors vectors;
    struct lh_decoder *decoder; /* of imports; NULL before the first */
    bool is_taken;              /* the loop's: a query is with it */
    bool is_connected;          /* the loop's: it has a session, which can be interrupted */
    struct lh_query_worker_metrics metrics;
    char name[16];
};

/* No thread yet; the session on `sql` opens with the first query. `vectord` NULL: it is not here.
 */
void lh_query_worker_init(struct lh_query_worker *worker, uint32_t number, struct lh_sql *sql,
                          struct lh_actor *vectord, struct lh_mailbox *loop);
/* When no thread is left that answers it. */
void lh_query_worker_deinit(struct lh_query_worker *worker);

#endif
