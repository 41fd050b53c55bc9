/* Between the files of storaged on S3. All of it belongs to the actor's thread.
 *
 * A work is what one transfer needs; it makes calls. A call is one request to the store with its
 * repetitions. */
#ifndef LH_ACTORS_S3_INTERNAL_H
#define LH_ACTORS_S3_INTERNAL_H

#include "actors/storaged_s3.h"

/* ---- calls ---- */

enum lh__s3_pace {
    LH__S3_SHORT, /* little to carry: half a minute in all */
    LH__S3_BODY,  /* as long as bytes flow */
    LH__S3_SLOW   /* CompleteMultipartUpload: the store puts a large object together */
};

/* What the header of an answer says. */
struct lh__s3_head {
    long http;
    bool has_length;
    uint64_t length;
    bool has_range; /* Content-Range: bytes first-last/size */
    uint64_t range_first;
    uint64_t range_size; /* also with 416 */
    uint64_t modified_ms;
    char etag[LH_ETAG_BYTES_MAX + 1];
    char content_type[LH_CONTENT_TYPE_BYTES_MAX + 1];
    char bucket_region[64];
    char date[40];
};

struct lh__s3_call {
    struct lh_storaged_s3 *storaged;
    struct lh__s3_call *next;
    struct lh__s3_call *prev;

    /* asked; texts live as long as the call */
    struct lh_s3_request request;
    enum lh__s3_pace pace;
    bool may_fail_late; /* 200, and an error in the body */
    /* Called before each try but the first: the request may be changed. NULL: nothing is. */
    void (*before_retry)(struct lh__s3_call *call);
    /* Takes bytes of a 2xx answer; false: not now, until lh__s3_call_resume. NULL: they are kept
     * in `answer`. */
    bool (*on_body)(struct lh__s3_call *call, struct lh_str bytes);
    /* Called once, from the loop: over, for `error`. The call may be started again in it. */
    void (*on_done)(struct lh__s3_call *call);
    void *owner;

    /* under way */
    bool is_active; /* in the actor's list */
    void *easy;     /* CURL; NULL: waits for `due_ns` */
    void *lines;    /* curl_slist */
    uint64_t due_ns;
    unsigned tries;
    size_t sent;
    bool is_paused;
    struct lh_s3_wire wire;
    char detail[256]; /* CURL_ERROR_SIZE */

    /* answered */
    struct lh__s3_head head;
    struct lh_buf answer; /* the body, unless on_body takes it */
    char code[64];        /* of S3, when it failed */
    struct lh_error error;
};

/* Begins at the loop's next turn. What `owner` sets stands; the rest is made anew. */
void lh__s3_call_start(struct lh__s3_call *call);
/* Cuts it short: on_done is not called. Nothing when it is not under way. */
void lh__s3_call_cancel(struct lh__s3_call *call);
/* on_body has room again. */
void lh__s3_call_resume(struct lh__s3_call *call);
/* It went well, or is over: frees what it keeps. Not while it is under way. */
void lh__s3_call_deinit(struct lh__s3_call *call);

/* Starts what is due, moves bytes, ends what has ended. */
void lh__s3_calls_turn(struct lh_storaged_s3 *storaged);
/* When a call is next due; UINT64_MAX: none waits. */
uint64_t lh__s3_calls_due(const struct lh_storaged_s3 *storaged);

/* ---- works ---- */

#define LH__S3_SENDING_MAX 2u /* parts of one upload: while they go out, the next one comes in */

struct lh__s3_part {
    struct lh__s3_call call;
    struct lh_buf bytes;
    uint64_t room;
    char number[12];
    bool is_used;
};

struct lh__s3_work {
    struct lh_storaged_s3 *storaged;
    struct lh__s3_work *next;
    struct lh__s3_work *prev;
    struct lh_transfer *transfer; /* NULL while the asker has it, or when it is over */
    enum lh_transfer_op op;
    bool is_answered; /* the transfer is over; what is left is cleaning up */
    struct lh_error error;
    struct lh__s3_call call; /* all but parts */
    char text[96];           /* a value of its query or headers */
    struct lh_buf key;       /* the transfer's own is with the asker meanwhile */
    struct lh_buf if_match;
    struct lh_buf if_none_match;
    struct lh_buf if_modified_since;
    struct lh_buf if_range;

    struct { /* GET */
        struct lh_buf held;
        bool is_described;
        bool is_done;
        bool is_part;              /* the answer is one */
        bool is_range_conditional; /* by If-Range */
        bool is_broken;            /* it cannot go on where it was cut, for the work's error */
        bool is_probing;           /* a HEAD was refused: why? */
        uint64_t received;
        uint64_t received_before; /* this try */
        uint64_t first;           /* of the object: where its body begins */
        uint64_t length;
        struct lh_object_info info;
    } get;

    struct { /* LIST */
        struct lh_buf after;
        struct lh_buf keys;
        struct lh_object_entry *entries;
        uint32_t count;
    } list;

    struct { /* PUT */
        char content_type[LH_CONTENT_TYPE_BYTES_MAX + 1];
        uint64_t length; /* announced, or LH_HTTP_LENGTH_UNKNOWN */
        uint64_t came;
        struct lh_buf piece; /* from `piece_at` not yet taken */
        size_t piece_at;
        bool has_all;
        bool is_failing;    /* what is at the store is being removed */
        bool is_aborting;   /* by its asker, who waits for the end of it */
        struct lh_buf part; /* is being filled */
        uint64_t room;      /* promised for it; 0: none yet */
        bool has_room;
        bool is_in_room_queue;
        struct lh__s3_work *room_next;
        uint64_t room_deadline_ns;
        bool is_multipart;
        bool is_closing; /* CompleteMultipartUpload, or the single PUT, is under way */
        struct lh_buf upload_id;
        struct lh__s3_part sending[LH__S3_SENDING_MAX];
        char (*etags)[LH_S3_ETAG_BYTES_MAX + 1];
        uint32_t part_count;
        struct lh_buf body; /* of CompleteMultipartUpload */
    } put;
};

/* Sends the transfer back with what the work has for an error; `is_over` is set by it. */
void lh__s3_answer(struct lh__s3_work *work, bool is_over);
/* Frees a work that has no transfer and nothing under way. */
void lh__s3_work_destroy(struct lh__s3_work *work);

/* A transfer has come: the first time with a new work, later with its own. */
void lh__s3_read_begin(struct lh__s3_work *work);   /* GET, DELETE, LIST */
void lh__s3_read_go_on(struct lh__s3_work *work);   /* GET */
void lh__s3_upload_begin(struct lh__s3_work *work); /* PUT */
void lh__s3_upload_go_on(struct lh__s3_work *work);
/* Its asker cannot come back: what is at the store is removed. */
void lh__s3_upload_abandon(struct lh__s3_work *work);

/* After bytes have moved: sends on what has come for a GET. */
void lh__s3_read_deliver(struct lh__s3_work *work);

/* Gives room to uploads that wait, and up on those that have waited too long. */
void lh__s3_rooms_turn(struct lh_storaged_s3 *storaged);

#endif
