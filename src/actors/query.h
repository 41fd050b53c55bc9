/* A query on its way: from the loop to a worker, and its rows back, piece by piece.
 *
 * The loop makes a query of a call, gives it to a worker that is free, and owns it again when its
 * last piece comes. Meanwhile it is the worker's, but for `ticket` and what the loop marks in the
 * pieces that it sends back. */
#ifndef LH_ACTORS_QUERY_H
#define LH_ACTORS_QUERY_H

#include "actors/secrets.h"
#include "base/metrics.h"
#include "net/http.h"
#include "sql/sql.h"
#include "store/wal.h"

#define LH_MSG_QUERY       20u
#define LH_MSG_QUERY_PIECE 21u

enum lh_query_format { LH_QUERY_JSON, LH_QUERY_NDJSON, LH_QUERY_CSV, LH_QUERY_PARQUET };

/* What a query is for. */
enum lh_query_kind {
    LH_QUERY_ROWS,   /* its rows are the answer */
    LH_QUERY_IMPORT, /* they go into an index */
    LH_QUERY_TABLES, /* none: what tables there are */
    LH_QUERY_TABLE   /* none: what one of them is */
};

struct lh_query_statistics {
    uint64_t rows;
    uint64_t bytes_read; /* of files, by the worker */
    uint64_t cpu_ns;     /* of the worker */
    bool is_truncated;
};

#define LH_QUERY_PIECES 2u /* one fills while another is sent */

struct lh_query_piece;
struct lh_query_worker;
struct lh_queryd;

struct lh_query {
    struct lh_msg head;
    struct lh_http_ticket ticket;
    char id[37];           /* by which it can be cancelled */
    struct lh_buf body;    /* {"sql", "params"?, ...}, or the statement itself; TABLES: the prefix;
                            * TABLE: the name */
    struct lh_buf cursor;  /* TABLES */
    uint32_t limit;        /* TABLES */
    size_t body_bytes;     /* to give back to the server's account */
    bool is_text;          /* the body is the statement: GET with ?q= */
    struct lh_reach reach; /* of its caller's token */
    enum lh_query_kind kind;
    enum lh_query_format format;
    char index_name[LH_NAME_BYTES_MAX + 1]; /* IMPORT */
    enum lh_durability durability;          /* of those */
    uint64_t started_ns;
    struct lh_counter rows_done;   /* for whoever asks how far it is */
    struct lh_counter deadline_ns; /* the worker may bring it forward while the loop looks */
    uint64_t rows_max;
    uint64_t bytes_max; /* of the answer; what is cut off is said in it */

    /* the loop's */
    struct lh_queryd *queryd;
    struct lh_query *next;          /* of all that there are */
    struct lh_query_worker *worker; /* NULL: it waits, or its rows have all come */
    struct lh_buf held[LH_QUERY_PIECES];
    struct lh_query_piece *pieces[LH_QUERY_PIECES]; /* that brought them; NULL: gone back */
    uint32_t held_count;                            /* that the client has no room for yet */
    bool is_begun;                                  /* the answer's header is out */
    bool wants_piece;                               /* the client has room for more */
    bool is_complete;                               /* the last rows have come */
    struct lh_error error; /* of the last piece, or why it was ended before */

    /* the worker's; the loop's when it is complete */
    struct lh_query_statistics statistics;
};

_Static_assert(offsetof(struct lh_query, head) == 0, "a query is a message");

struct lh_query_piece {
    struct lh_msg head;
    struct lh_query *query; /* NULL: the worker has its session now, and nothing else to say */
    struct lh_query_worker *worker;
    struct lh_buf bytes;
    bool is_last;          /* the worker is free, and the query the loop's */
    bool is_unwanted;      /* on its way back: nobody takes more */
    struct lh_error error; /* of the last */
};

_Static_assert(offsetof(struct lh_query_piece, head) == 0, "a piece is a message");

/* NULL when there is no memory. */
struct lh_query *lh_query_create(void);
void lh_query_destroy(struct lh_query *query);

#endif
