/* An ingest on its way: from the loop to the spool with every piece of its upload, to a worker, and
 * back. Whoever has it in hand owns it, but for what is the loop's, and counters, which any thread
 * reads. */
#ifndef LH_ACTORS_INGEST_JOB_H
#define LH_ACTORS_INGEST_JOB_H

#include "actors/manifest.h"
#include "base/metrics.h"
#include "net/http.h"
#include "net/multipart.h"
#include "sql/ingest.h"

#define LH_MSG_INGEST       24u /* a job */
#define LH_MSG_INGEST_READY 25u /* a worker can be interrupted from now on */

enum lh_ingest_state {
    LH_INGEST_UPLOADING,
    LH_INGEST_CONVERTING, /* or waiting for a worker */
    LH_INGEST_STORING,
    LH_INGEST_REGISTERING, /* it cannot be cancelled any more */
    LH_INGEST_DONE,
    LH_INGEST_FAILED
};

/* A client that cancels is told so, or it is registered: who says it first. */
enum lh_ingest_fate { LH_INGEST_OPEN, LH_INGEST_CANCELLED, LH_INGEST_REGISTERED };

enum lh_ingest_kind {
    LH_INGEST_UPLOAD,
    LH_INGEST_SWEEP /* objects that an ingest of a process before may have left: no client's */
};

struct lh_ingestd;
struct lh_ingest_worker;

/* The options of CSV, as text; NULL: not given. */
struct lh_ingest_texts {
    char *delim, *quote, *escape, *nullstr, *types;
};

struct lh_ingest_job {
    struct lh_msg head;
    enum lh_ingest_kind kind;
    char id[LH_REQUEST_ID_BYTES_MAX + 1];
    char name[LH_NAME_BYTES_MAX + 1];          /* of the dataset */
    char rejected_name[LH_NAME_BYTES_MAX + 1]; /* of that of its rejected lines; empty: none */
    uint64_t number;                           /* of its files in the spool */
    enum lh_register_mode mode;
    enum lh_ingest_format format;
    enum lh_ingest_compression compression;
    enum lh_ingest_header header;
    struct lh_ingest_texts texts;

    /* to the spool and back */
    struct lh_buf piece;
    bool is_last;
    bool is_abort; /* removes the file */
    bool is_form;  /* multipart/form-data */
    struct lh_multipart form;
    int file; /* -1: not open */
    struct lh_text_scan scan;

    /* any thread */
    struct lh_counter state;        /* enum lh_ingest_state */
    struct lh_counter is_cancelled; /* the loop sets it */
    struct lh_counter fate;         /* enum lh_ingest_fate */
    struct lh_counter has_begun;    /* the rows that the worker has counted are this one's */

    /* answered */
    struct lh_error error;
    int http_status;
    struct lh_buf answer;
    bool leaves_objects; /* its pending file is still there: to be swept later */
    bool is_unsettled;   /* the catalog was asked to register it, and its answer did not come */

    /* the loop's */
    struct lh_ingestd *ingestd;
    struct lh_ingest_job *next; /* of all that are known */
    struct lh_http_ticket ticket;
    struct lh_ingest_worker *worker; /* that has it */
    struct lh_buf gathered;          /* of the upload, since the last piece went out */
    uint64_t bytes;                  /* of the upload so far */
    uint64_t rows;                   /* when it is over */
    uint64_t ended_ns;
    uint64_t retry_ns; /* of a sweep that failed */
    uint64_t backoff_ms;
    bool is_out; /* with the spool */
    bool has_ended;
    bool is_paused;
    bool is_waiting;        /* for a worker */
    struct lh_error ending; /* why the loop has given it up */
};

_Static_assert(offsetof(struct lh_ingest_job, head) == 0, "a job is a message");

/* NULL when there is no memory. */
struct lh_ingest_job *lh_ingest_job_create(enum lh_ingest_kind kind);
void lh_ingest_job_destroy(struct lh_ingest_job *job);

/* The dataset of the lines that could not be read: this behind its name. */
#define LH_REJECTED_SUFFIX "__rejected"

#endif
