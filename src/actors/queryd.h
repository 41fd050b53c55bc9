/* The query service: statements from calls to workers, and rows back. Its state is the loop's. */
#ifndef LH_ACTORS_QUERYD_H
#define LH_ACTORS_QUERYD_H

#include "actors/query_ids.h"
#include "actors/query_worker.h"
#include "actors/work_folder.h"
#include "base/config.h"
#include "base/log.h"

struct lh_queryd {
    struct lh_sql *sql; /* NULL: not started, for `reason` */
    struct lh_error reason;
    struct lh_query_worker *workers;
    uint32_t worker_count;
    uint32_t workers_made;
    struct lh_http_server *http;
    const struct lh_log *log;
    uint64_t timeout_ms;
    uint64_t rows_max;
    uint64_t bytes_max;
    struct lh_query *queries; /* all: running, waiting, being sent */
    struct lh_query_ids ids;
    struct lh_msg_queue waiting; /* for a worker */
    uint64_t refused;
    uint64_t cancelled;
    struct lh_work_folder folder; /* of cached files */
};

struct lh_queryd_options {
    const struct lh_config *config;
    struct lh_http_server *http;
    /* Of this process; NULL: not here. Another process's is used where the configuration says. */
    struct lh_actor *vectord;
    struct lh_actor *catalogd;
    struct lh_actor *storaged;
    const char *token; /* what calls of other services carry; NULL: nothing */
    const struct lh_log *log;
};

/* Opens DuckDB and makes the workers. Where that is not to be had, the service is there and answers
 * with the reason. LH_CONFIG, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_queryd_init(struct lh_queryd *queryd,
                                          const struct lh_queryd_options *options,
                                          struct lh_error *error);
LH_MUST_USE enum lh_status lh_queryd_start(struct lh_queryd *queryd, struct lh_error *error);
/* After the loop, and before the services that queries call. */
void lh_queryd_stop(struct lh_queryd *queryd);
/* When those have ended. */
void lh_queryd_deinit(struct lh_queryd *queryd);

/* ---- loop thread ---- */

/* The routes. The context is the gateway. */
void lh_handle_sql(struct lh_http_call *call, void *context);
void lh_handle_sql_text(struct lh_http_call *call, void *context);
void lh_handle_sql_cancel(struct lh_http_call *call, void *context);
void lh_handle_sql_progress(struct lh_http_call *call, void *context);
void lh_handle_tables(struct lh_http_call *call, void *context);
void lh_handle_table(struct lh_http_call *call, void *context);
void lh_handle_import(struct lh_http_call *call, void *context);

/* A piece has come. */
void lh_queryd_on_piece(struct lh_queryd *queryd, struct lh_query_piece *piece);
/* Ten times a second: deadlines; at a stop, all that run. */
void lh_queryd_on_tick(struct lh_queryd *queryd, bool is_stopping);
/* Whether no query is left. */
bool lh_queryd_is_idle(const struct lh_queryd *queryd);
void lh_queryd_metrics(const struct lh_queryd *queryd, struct lh_buf *out);

#endif
