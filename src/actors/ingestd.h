/* The ingest service: uploads from calls to the spool, to workers, and what came of them back. Its
 * state is the loop's. */
#ifndef LH_ACTORS_INGESTD_H
#define LH_ACTORS_INGESTD_H

#include "actors/access.h"
#include "actors/catalog.h"
#include "actors/ingest_spool.h"
#include "actors/ingest_worker.h"
#include "actors/work_folder.h"

struct lh_ingestd_options {
    struct lh_http_server *http;
    struct lh_access *access;
    const struct lh_log *log;
    /* Each is an actor of this process or, when NULL, at the URL; without a URL it is nowhere. */
    struct lh_actor *storaged;
    struct lh_actor *catalogd;
    struct lh_str storaged_url;
    struct lh_str catalogd_url;
    const char *token; /* for calls elsewhere; NULL: none */
};

struct lh_ingestd {
    struct lh_ingestd_options options;
    struct lh_sql *sql; /* NULL: not started, for `reason` */
    struct lh_error reason;
    struct lh_work_folder folder;
    struct lh_ingest_spool spool;
    bool has_spool;
    struct lh_ingest_worker *workers;
    uint32_t worker_count;
    uint32_t workers_made;
    uint64_t bytes_max;      /* of one upload */
    uint64_t text_bytes_max; /* of one that is compressed */
    uint64_t next_number;
    struct lh_ingest_job *jobs; /* in the order of arrival, and some that are over */
    uint32_t active;            /* of them, of clients, that are not over */
    uint32_t over;
    uint64_t refused;
    uint64_t cancelled;
};

/* Opens DuckDB and makes the threads' state. Where something that it needs is not to be had, the
 * service is there and answers with the reason. LH_CONFIG, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_ingestd_init(struct lh_ingestd *ingestd,
                                           const struct lh_config *config,
                                           const struct lh_ingestd_options *options,
                                           struct lh_error *error);
LH_MUST_USE enum lh_status lh_ingestd_start(struct lh_ingestd *ingestd, struct lh_error *error);
/* After the loop: joins the threads, whose calls go on until then. */
void lh_ingestd_stop(struct lh_ingestd *ingestd);
/* After the threads that it calls. */
void lh_ingestd_deinit(struct lh_ingestd *ingestd);

/* ---- loop thread ---- */

/* The routes. The context is the gateway. */
void lh_handle_ingest(struct lh_http_call *call, void *context);
void lh_handle_ingest_get(struct lh_http_call *call, void *context);
void lh_handle_ingest_cancel(struct lh_http_call *call, void *context);

/* A job has come back, or a worker's first word. */
void lh_ingestd_on_message(struct lh_ingestd *ingestd, struct lh_msg *msg);
/* Ten times a second; at a stop, what runs is cancelled. */
void lh_ingestd_on_tick(struct lh_ingestd *ingestd, bool is_stopping);
/* Whether no client's ingest is left. */
bool lh_ingestd_is_idle(const struct lh_ingestd *ingestd);
void lh_ingestd_metrics(const struct lh_ingestd *ingestd, struct lh_buf *out);

/* ---- between its files ---- */

/* Reads what a call asks for into the job. */
LH_MUST_USE enum lh_status lh__ingest_read_call(const struct lh_http_call *call,
                                                struct lh_ingest_job *job, struct lh_error *error);
/* What the upload itself has said of its format, once it is there. */
void lh__ingest_read_form(struct lh_ingest_job *job);
/* Puts a job behind the others; from then on it is the service's. */
void lh__ingestd_add(struct lh_ingestd *ingestd, struct lh_ingest_job *job);
/* Gives up a job that is not over: it ends soon. */
void lh__ingestd_end(struct lh_ingest_job *job, enum lh_status status, const char *why);
/* The latest of this id; NULL: there is none. */
struct lh_ingest_job *lh__ingestd_find(const struct lh_ingestd *ingestd, struct lh_str id);

#endif
