/* A thread that runs queries, one at a time, and blocks in them. */
#ifndef LH_ACTORS_QUERY_WORKER_H
#define LH_ACTORS_QUERY_WORKER_H

#include "actors/query.h"
#include "actors/query_tables.h"
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
    struct lh_msg_queue resting;     /* the loop's between two queries: pieces of the last one */
    struct lh_query *query;          /* that it runs */
    struct lh_vector_client client;
    struct lh_query_vectors vectors;
    struct lh_query_tables tables;
    int io_file;                /* what this thread has read so far; negative: not open */
    uint64_t read_before;       /* of that, before the query that runs */
    struct lh_decoder *decoder; /* of imports; NULL before the first */
    bool is_taken;              /* the loop's: a query is with it */
    bool is_connected;          /* the loop's: it has a session, which can be interrupted */
    struct lh_query_worker_metrics metrics;
    char name[16];
};

struct lh_query_worker_options {
    struct lh_sql *sql;
    struct lh_actor *vectord;  /* NULL: it is not here */
    struct lh_str vectord_url; /* in another process; empty: nowhere */
    const char *token;         /* what calls there carry; NULL: nothing */
    struct lh_query_tables_options tables;
    struct lh_mailbox *loop;
};

/* No thread yet; the session opens with the first query. To be deinitialised also when it fails. */
LH_MUST_USE enum lh_status lh_query_worker_init(struct lh_query_worker *worker, uint32_t number,
                                                const struct lh_query_worker_options *options,
                                                struct lh_error *error);
/* When no thread is left that answers it. */
void lh_query_worker_deinit(struct lh_query_worker *worker);

/* ---- the worker's thread ---- */

/* What a body asks. */
struct lh_query_asked {
    struct lh_json_doc *doc; /* NULL, or to be destroyed, also after a failure */
    struct lh_str text;
    struct lh_json params;
    bool has_params;
};

LH_MUST_USE enum lh_status lh_query_read(struct lh_query *query, struct lh_query_asked *asked,
                                         struct lh_error *error);

/* The next free piece; waits for one. */
struct lh_query_piece *lh_query_take_piece(struct lh_query_worker *worker, bool *is_unwanted);
void lh_query_send(struct lh_query_worker *worker, struct lh_query *query,
                   struct lh_query_piece *piece);

/* Send rows until their end; the last piece, not yet sent, comes into `last`. */
LH_MUST_USE enum lh_status lh_query_send_rows(struct lh_query_worker *worker,
                                              struct lh_sql_query *sql,
                                              struct lh_query_piece **last, struct lh_error *error);
LH_MUST_USE enum lh_status
lh_query_send_parquet(struct lh_query_worker *worker, const struct lh_sql_gate *gate,
                      const struct lh_query_asked *asked, struct lh_query_piece **last,
                      struct lh_sql_fault *fault, struct lh_error *error);

#endif
