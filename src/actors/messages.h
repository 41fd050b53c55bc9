/* Everything that travels between the actors: the server's table of contents.
 *
 * A request is made by the gateway on the loop, decoded by a decoder, routed by vectord to the
 * shards, encoded by the same decoder, and answered by the gateway. It is one message all the way:
 * a reply can therefore never fail to be allocated or queued. What it asks of each shard are its
 * parts (shards/parts.h). Whoever holds the message owns it and all that it points to. */
#ifndef LH_ACTORS_MESSAGES_H
#define LH_ACTORS_MESSAGES_H

#include "actors/secrets.h"
#include "net/http.h"
#include "runtime/pipe.h"
#include "shards/parts.h"
#include "store/lhv1.h"
#include "store/object_info.h"
#include "store/wal.h"

enum lh_op {
    LH_OP_INDEX_CREATE,
    LH_OP_INDEX_LIST,
    LH_OP_INDEX_GET,
    LH_OP_INDEX_DROP,
    LH_OP_INDEX_CHECKPOINT,
    LH_OP_INDEX_RESHARD,
    LH_OP_ADD,    /* {"items": [...]} */
    LH_OP_NDJSON, /* one piece of an NDJSON stream */
    LH_OP_SEARCH,
    LH_OP_ITEM_GET,
    LH_OP_ITEM_DROP,
    LH_OP_ITEMS_DELETE, /* {"ids": [...]} */
    LH_OP_ITEMS_PAGE
};

/* Message types; LH_MSG_PART is 1, LH_MSG_BLOCK 2. */
#define LH_MSG_REQUEST 3u
#define LH_MSG_JOB     4u
#define LH_MSG_TICK    5u
#define LH_MSG_PEER    6u
#define LH_MSG_ARRIVAL 7u /* persister.h: a file that came from the peer, for vectord */

/* Where a request is on its way; decides what its receiver does with it. */
enum lh_stage {
    LH_STAGE_DECODE,  /* at a decoder: the body becomes a batch */
    LH_STAGE_ADMIT,   /* at the gateway: decoded, and its answer will be large */
    LH_STAGE_ROUTE,   /* at vectord: new */
    LH_STAGE_RESERVE, /* at vectord: its shards are making room for an add */
    LH_STAGE_LOG,     /* at the persister: it becomes a record of the log */
    LH_STAGE_LOGGED,  /* at vectord: the log has it, or has refused it */
    LH_STAGE_GATHER,  /* at vectord: its parts are out */
    LH_STAGE_ENCODE,  /* at a decoder: what was found becomes text */
    LH_STAGE_ANSWER   /* at the gateway */
};

struct lh_index; /* vectord's */
struct lh_caller;
struct lh_persister; /* who has a request or a job */
struct lh_ndjson;    /* the gateway's state of one NDJSON stream */

/* A piece of an NDJSON stream: in `body`, from `offset`. */
struct lh_ndjson_piece {
    size_t offset;
    size_t consumed;
    uint64_t line;  /* number of the first line, from 1 */
    uint64_t lines; /* how many were consumed */
    bool is_last;
    char index_uuid[37]; /* of the first piece's index: a later one of its name is another */
};

/* While an index is resharded, changes are for both sets of shards. */
#define LH_SET_CURRENT 1u
#define LH_SET_NEW     2u

struct lh_page {
    struct lh_str cursor; /* inside `text` */
    uint32_t limit;
    uint32_t shard; /* where the page goes on; number of shards when at the end */
    uint32_t node;
};

struct lh_request {
    struct lh_msg head;
    enum lh_op op;
    enum lh_stage stage;
    struct lh_http_ticket ticket;
    uint64_t request_id;
    uint64_t deadline_ns;     /* of a search: later it is skipped; 0: none */
    struct lh_actor *decoder; /* decodes and encodes this request */
    struct lh_buf body;
    size_t body_bytes; /* to give back to the server's account */
    char index_name[LH_NAME_BYTES_MAX + 1];
    struct lh_buf text;          /* an item's id, or a cursor */
    struct lh_reach reach;       /* of a list of indexes or a new one: which may be named */
    struct lh_mailbox *reply_to; /* of one who wants what was found, not text; NULL: the gateway */

    /* decoded */
    struct lh_batch batch; /* items, ids or queries */
    struct lh_search_request search;
    struct lh_index_request create;
    struct lh_ndjson_piece piece;
    struct lh_page page;
    bool with_vector; /* of a page */
    uint64_t *hashes; /* one an item */

    /* gathered */
    struct lh_index *index;
    uint32_t *numbers; /* item numbers, grouped by shard */
    struct lh_part *parts;
    uint32_t part_count;
    uint32_t parts_out;
    struct lh_shard_counts counts;
    uint64_t asked_bytes; /* what its promises will take, until they are given */

    /* logged */
    enum lh_durability durability;
    struct lh_record record; /* borrows `batch` */
    struct lh_wal_entry entry;
    struct lh_persister *persister;
    bool is_copy;              /* a reshard's own page, or its copy into the new shards */
    unsigned sets;             /* LH_SET_*: which shards a change is for */
    struct lh_index *changing; /* a change counts here until it is answered */
    bool is_replay; /* it comes from the log or from a file: no one waits for an answer */

    /* answered */
    struct lh_error error;      /* status LH_OK when it went well */
    struct lh_error late_error; /* of a stream: after what stands before it was applied */
    int http_status;
    struct lh_buf answer;
    struct lh_ndjson *stream; /* NULL unless op is LH_OP_NDJSON */
    struct lh_caller *caller; /* the gateway's: whose it is */
    uint32_t credits;         /* of its lane, that it holds */
    uint64_t answer_bytes;    /* what a large answer is expected to take; 0: a small one */
    bool holds_answer_bytes;  /* they are in the gateway's account */
};

_Static_assert(offsetof(struct lh_request, head) == 0, "a request is a message");

/* What vectord asks of the persister beside log records. */
enum lh_job_kind {
    LH_JOB_REPLAY,     /* the next record of the log: fills `record` */
    LH_JOB_IMPORT,     /* the next items of a version 1 file: fills `record` */
    LH_JOB_BEGIN,      /* opens the temporary file of a checkpoint: fills `file` */
    LH_JOB_FINISH,     /* writes the envelope, syncs, and gives the file its name */
    LH_JOB_ABANDON,    /* closes a temporary file and removes it */
    LH_JOB_REMOVE,     /* removes an index's file for good */
    LH_JOB_QUARANTINE, /* renames an index's file to `v1_path` */
    LH_JOB_ADOPT       /* gives a file that came from the peer its name */
};

#define LH_JOB_OPS_MAX 6u

/* Where an index's version 1 file is, while there is one. */
enum lh_v1 {
    LH_V1_NONE,
    LH_V1_IN_PLACE, /* "<name>.lhv1" */
    LH_V1_ASIDE     /* "<name>.lhv1.v1": a crash came before the new one was there for good */
};

struct lh_job {
    struct lh_msg head;
    enum lh_job_kind kind;
    enum lh_status status;
    struct lh_error error;
    struct lh_index *index;     /* vectord's */
    struct lh_request *request; /* REMOVE: who waits for it; NULL at start */
    struct lh_lhv1_paths paths;
    enum lh_v1 v1; /* FINISH: the older file stays as .v1 until the new one is synced */
    struct lh_persister *persister;
    int file;            /* BEGIN to FINISH or ABANDON; IMPORT: the version 1 file */
    void *import;        /* IMPORT: the persister's reader */
    struct lh_buf bytes; /* FINISH, ADOPT: the envelope; ADOPT: empty when it stays as it is */
    uint64_t after;      /* REPLAY: records up to this one are not needed */
    struct lh_record record;
    char v1_path[LH_NAME_BYTES_MAX + 64];
    char gone_path[LH_NAME_BYTES_MAX + 64]; /* REMOVE: the tombstone, made first; empty: none */
    struct lh_disk_op ops[LH_JOB_OPS_MAX];
    uint32_t ops_out;
};

_Static_assert(offsetof(struct lh_job, head) == 0, "a job is a message");

/* Ten times a second from the gateway to vectord, the persister, and back: what is due by time. */
struct lh_tick {
    struct lh_msg head;
    bool is_stopping;   /* what takes long must give up */
    bool is_stop;       /* the last one: comes back when what is cheap to keep is kept */
    uint64_t lsn_least; /* vectord: records below are not needed any more */
};

_Static_assert(offsetof(struct lh_tick, head) == 0, "a tick is a message");

/* Between vectord and the storaged peer's actor. Whoever gets a note frees it. */
enum lh_peer_note_kind {
    /* to the peer */
    LH_NOTE_UPLOAD,   /* the index has a new file */
    LH_NOTE_DELETE,   /* it is deleted; `path` is its tombstone */
    LH_NOTE_DOWNLOAD, /* a listed object is wanted */
    LH_NOTE_DISCARD,  /* a file that came is not used */
    /* from the peer */
    LH_NOTE_LISTED,   /* what the peer has: `objects` */
    LH_NOTE_UNLISTED, /* the peer could not be listed, for `error` */
    LH_NOTE_REFUSED,  /* an object could not be had, for `error`; it is tried again */
    LH_NOTE_GONE      /* an object is not there any more */
};

struct lh_peer_object {
    char name[LH_NAME_BYTES_MAX + 1]; /* of its index */
    uint64_t bytes;                   /* as the peer says */
};

struct lh_peer_note {
    struct lh_msg head;
    enum lh_peer_note_kind kind;
    char name[LH_NAME_BYTES_MAX + 1];
    char path[LH_NAME_BYTES_MAX + 64];
    struct lh_error error;
    uint64_t bytes;                 /* DOWNLOAD */
    struct lh_peer_object *objects; /* LISTED, sorted by name; the note's */
    uint32_t object_count;
};

_Static_assert(offsetof(struct lh_peer_note, head) == 0, "a note is a message");

/* Objects: one message an object call, to storaged and back as often as its body needs.
 *
 * Whoever wants something of the store makes a transfer and sends it to storaged's actor (on disk
 * or S3, it does not matter which); it comes back to `reply_to` after each step, until `is_over`.
 *   PUT: each step brings a `piece`; the last has `is_last`. Nothing is visible before, all of it
 * is durable after; over when the last has been answered, or at the first error. With `is_abort`
 * instead of a piece it leaves nothing. The piece comes back empty, to be filled again. GET: the
 * first answer has the object's description and the first piece; send it back for the next one;
 * over with `is_last`. With `is_abort` it is closed. HEAD is `want_body` = false. DELETE, LIST: one
 * step. */
enum lh_transfer_op { LH_TRANSFER_PUT, LH_TRANSFER_GET, LH_TRANSFER_DELETE, LH_TRANSFER_LIST };

struct lh_object_entry { /* of a list */
    struct lh_str key;   /* inside the transfer's `keys` */
    uint64_t size;
    uint64_t modified_ms;
    char etag[LH_ETAG_BYTES_MAX + 1];
};

struct lh_transfer {
    struct lh_msg head;
    enum lh_transfer_op op;
    struct lh_mailbox *reply_to; /* an actor's: &actor->mailbox */
    void *owner;                 /* the asker's */
    uint64_t request_id;         /* for logs; 0: none */

    /* asked */
    struct lh_buf key;      /* LIST: the prefix */
    struct lh_buf if_match; /* as in the header, empty: none */
    struct lh_buf if_none_match;
    struct lh_buf if_modified_since; /* GET, and the next: as in the header */
    struct lh_buf if_range;
    uint64_t length;    /* PUT: of the body, or LH_HTTP_LENGTH_UNKNOWN */
    const char *linked; /* PUT, the asker's: the path of a file that becomes the object instead of
                           pieces (store/objects.h); LH_INVALID_ARGUMENT where it cannot */
    uint8_t linked_hash[16];
    bool want_body; /* GET: false for HEAD */
    bool has_range; /* GET: of the two below; suffix: the last `range_last` bytes. Still set when
                     * it is answered: the body is a part */
    bool is_range_suffix;
    uint64_t range_first;
    uint64_t range_last;  /* included; UINT64_MAX: to the end */
    struct lh_buf cursor; /* LIST: after this key; empty: from the start */
    uint32_t limit;       /* LIST */

    /* to and fro */
    struct lh_buf piece;
    size_t piece_at;     /* PUT: where the bytes of the body begin in `piece` */
    struct lh_pipe pipe; /* GET: lent, empty, by who can send from one: then a piece may be in it
                          * and not in `piece`, which is empty */
    bool is_last;
    bool is_abort;
    bool is_over;

    /* answered */
    struct lh_error error;      /* LH_KEY_NOT_FOUND, LH_PRECONDITION_FAILED, ... */
    bool is_not_modified;       /* GET: if_none_match holds */
    struct lh_object_info info; /* PUT: content_type is asked, the rest answered; GET: answered */
    uint64_t body_first;        /* GET: what of the object the body is, after the range */
    uint64_t body_length;
    struct lh_object_entry *entries; /* LIST: in byte order of keys */
    uint32_t entry_count;
    bool is_truncated;
    struct lh_buf keys;

    void *state; /* storaged's, while it is not over */
};

_Static_assert(offsetof(struct lh_transfer, head) == 0, "a transfer is a message");

#define LH_MSG_TRANSFER 8u

/* For the store, when it knows `info`: whether the conditions of a GET hold, and what of the object
 * its range is. Fills is_not_modified, body_first and body_length, and drops a range that If-Range
 * makes void. LH_PRECONDITION_FAILED, LH_RANGE_NOT_SATISFIABLE, also in `error`. */
LH_MUST_USE enum lh_status lh_transfer_check(struct lh_transfer *transfer);

/* NULL when there is no memory. Destroy only what is over or was never sent. */
struct lh_transfer *lh_transfer_create(enum lh_transfer_op op, struct lh_mailbox *reply_to);
void lh_transfer_destroy(struct lh_transfer *transfer);

/* NULL when there is no memory. */
struct lh_peer_note *lh_peer_note_create(enum lh_peer_note_kind kind, const char *name);
void lh_peer_note_destroy(struct lh_peer_note *note);

/* NULL when there is no memory. The lane follows from `op`. */
struct lh_request *lh_request_create(enum lh_op op);
void lh_request_destroy(struct lh_request *request);

/* Hashes the ids of its batch. LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_request_hash(struct lh_request *request);

/* Frees what decoding and gathering made, so that a stream can use its request again. */
void lh_request_reset(struct lh_request *request);

#endif
