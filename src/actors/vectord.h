/* vectord: which indexes there are, the order of their changes, and who answers what.
 *
 * It alone knows the registry; it numbers every change (LSN), sends each shard its part, and
 * gathers the parts. It never touches a vector. */
#ifndef LH_ACTORS_VECTORD_H
#define LH_ACTORS_VECTORD_H

#include "actors/messages.h"
#include "actors/persister.h"
#include "base/log.h"
#include "shards/worker.h"

/* What vectord knows of one shard of an index. */
struct lh_index_shard {
    struct lh_shard *shard; /* the worker's; vectord only hands it on */
    struct lh_worker *worker;
    uint64_t count;
    uint64_t bytes;
    /* Promised by the shard and not yet used. Negative while adds wait for their promise. */
    int64_t room_nodes;
    int64_t room_bytes;
};

enum lh_index_state {
    LH_STATE_MAKING,   /* its shards, or its first record: no one sees it yet */
    LH_STATE_ARRIVING, /* the storaged peer has it; its file is not here yet */
    LH_STATE_LOADING,
    LH_STATE_READY,
    LH_STATE_FAILED, /* its file could not be used; `reason` */
    LH_STATE_DROPPING
};

/* An index's file on its way in. */
struct lh_loading {
    struct lh_part *parts;
    struct lh_section_job *sections;
    int file;
    uint32_t out;
    struct lh_error error;
};

struct lh_index {
    char name[LH_NAME_BYTES_MAX + 1];
    char uuid[37]; /* its identity: a name that is made again is another index */
    uint8_t uuid_bytes[16];
    enum lh_index_state state;
    char reason[160];
    struct lh_graph_options graph;
    uint32_t ef_search;
    uint64_t lsn;            /* of its last change */
    uint32_t in_flight;      /* requests and checkpoints that are under way */
    struct lh_request *drop; /* a DELETE that waits for in_flight to reach 0 */

    /* What is on disk. */
    uint64_t checkpoint_lsn;   /* the last change in its file; 0: it has none */
    uint64_t unsaved_lsn;      /* the first change that only the log has; 0: there is none */
    uint64_t unsaved_bytes;    /* of the log since then */
    uint64_t unsaved_since_ns; /* when that one came */
    uint64_t file_bytes;       /* of its file; 0: it has none */
    enum lh_v1 v1;             /* its version 1 file, until a checkpoint replaces it */
    bool wants_checkpoint;     /* asked for, or due for another reason than size and age */
    struct lh_msg_queue asked; /* POST .../checkpoint requests that wait for one */
    bool is_remote;            /* what is known of it is the peer's: it is arriving, or failed to */
    char path[LH_NAME_BYTES_MAX + 64]; /* of a file that failed */
    bool wants_removal;        /* it is deleted, and its files could not be removed: tried again */
    uint64_t replay_until;     /* at start: the log's last record of it; 0: none to come */
    uint32_t replays;          /* at start: its records that are being applied */
    struct lh_loading loading; /* at start */
    struct lh_found_file *import; /* at start: a version 1 file whose items are to come */

    uint32_t shard_count;
    struct lh_index_shard *shards; /* behind those, while it is resharded, the new ones */
    struct lh_reshard *reshard;    /* NULL: none is under way */
    struct lh_msg_queue held;      /* requests that wait for a step of it */
    uint32_t changes;              /* requests that change items, from their arrival to their end */
};

struct lh_vectord_options {
    struct lh_worker *workers;
    uint32_t worker_count;
    uint32_t default_shards;
    uint64_t memory_bytes_max;      /* 0: none; past it, adds get LH_OUT_OF_MEMORY */
    struct lh_persister *persister; /* NULL: nothing is kept */
    struct lh_recovery *recovery;   /* what there is at start; given to vectord with its content */
    uint64_t checkpoint_bytes;      /* log that starts a checkpoint */
    uint64_t checkpoint_age_ms;     /* a change that is older starts one; 0: never */
    struct lh_actor *peer;          /* the storaged peer's; NULL: there is none */
    uint64_t (*clock_ns)(void);     /* lh_clock_ns, or a test's */
    uint64_t seed;                  /* of graphs; 0: from the clock */
    struct lh_mailbox *gateway;
    const struct lh_log *log;
};

struct lh_vectord_metrics {
    struct lh_counter indexes;
    struct lh_counter items;
    struct lh_counter bytes;
    struct lh_counter lsn;
    struct lh_counter recovering;  /* 1 until everything is loaded */
    struct lh_counter loading;     /* indexes that are not there yet */
    struct lh_counter failed;      /* indexes that could not be loaded */
    struct lh_counter arriving;    /* indexes that the peer has and is sending */
    struct lh_counter awaits_peer; /* 1: nothing was here at start, and the peer's is yet to come */
    struct lh_counter peer_notes;  /* sent to the peer's actor */
    struct lh_counter replayed;    /* records of the log that were looked at, of... */
    struct lh_counter to_replay;
    struct lh_counter checkpoints;
    struct lh_counter checkpoint_failures;
    struct lh_counter checkpoint_bytes;
    struct lh_histogram checkpoint_time;
};

/* The one checkpoint that is under way. */
struct lh_checkpoint {
    struct lh_index *index; /* NULL: none */
    uint64_t lsn;           /* its file will hold every change up to here */
    uint64_t started_ns;
    uint64_t unsaved_bytes; /* of the log, at its begin */
    struct lh_part *parts;
    struct lh_section_job *sections;
    uint32_t parts_out;
    enum lh_status status;
    struct lh_error error;
    struct lh_job job;
    uint64_t bytes;
};

/* Start: files are loaded side by side, then the log is replayed in order. */
struct lh_recovering {
    bool is_on;
    uint32_t loads;             /* indexes whose files are being read */
    uint32_t removals;          /* indexes' files that are being removed or put aside, unasked */
    uint32_t in_flight;         /* records that are being applied */
    bool is_asking;             /* the persister has `job` */
    struct lh_request *waiting; /* for shards or for room: what follows keeps its order */
    bool is_replaying;          /* all files are in */
    bool has_ended;             /* there are no more records */
    bool is_incomplete; /* something is on disk and not here: the log stays whole, and the start
                           goes on for ever, since a name that is not known may be that; a new
                           start may do better */
    struct lh_job job;
};

/* What is known of the storaged peer. */
struct lh_vectord_peer {
    bool is_fresh;  /* nothing was here at start, and what the peer has for it is yet to come */
    bool is_listed; /* the peer has said what it has */
    bool may_have;  /* it, or one that was configured before, may have what is deleted here */
    struct lh_msg_queue early;   /* notes that wait for the log's end */
    struct lh_arrival *arrivals; /* version 1 files: read while the server runs */
};

struct lh_vectord {
    struct lh_actor actor;
    struct lh_vectord_options options;
    struct lh_index **indexes; /* sorted by name */
    uint32_t index_count;
    uint32_t index_capacity;
    uint64_t lsn;
    uint64_t items;
    uint64_t bytes;       /* of all shards, as they last told */
    uint64_t asked_bytes; /* of promises on their way, by estimate */
    uint64_t seed;
    struct lh_recovering recovering;
    struct lh_checkpoint checkpoint;
    struct lh_vectord_peer peer;
    uint64_t checkpoint_retry_ns; /* not before: the last one failed */
    uint64_t checkpoint_backoff_ms;
    struct lh_tick *tick; /* held: the last one, until what is cheap to keep is kept */
    uint64_t stop_deadline_ns;
    struct lh_vectord_metrics metrics;
};

void lh_vectord_init(struct lh_vectord *vectord, const struct lh_vectord_options *options);
void lh_vectord_deinit(struct lh_vectord *vectord);

/* One look at the mailbox; the thread does nothing else. False: nothing waited, or with `sleep`, it
 * was told to stop. A test without threads calls it. */
bool lh_vectord_turn(struct lh_vectord *vectord, bool sleep);

/* ---- between the files of vectord ---- */

/* Finds an index by name; NULL when there is none. */
struct lh_index *lh__vectord_find(struct lh_vectord *vectord, const char *name);

/* Allocates `count` zeroed parts for a request, with what all kinds share filled in. */
LH_MUST_USE enum lh_status lh__vectord_make_parts(struct lh_vectord *vectord,
                                                  struct lh_request *request,
                                                  struct lh_index *index, uint32_t count);

/* Aims a part at a shard of the index. */
void lh__vectord_aim(struct lh_part *part, enum lh_part_kind kind, const struct lh_index *index,
                     uint32_t shard);

/* Sends a part to its shard's worker. */
void lh__vectord_send(struct lh_vectord *vectord, struct lh_request *request, struct lh_part *part,
                      struct lh_worker *worker);

/* The request is done here: to the gateway, or to its decoder for encoding. */
void lh__vectord_answer(struct lh_vectord *vectord, struct lh_request *request);
void lh__vectord_encode(struct lh_vectord *vectord, struct lh_request *request);
void lh__vectord_fail(struct lh_vectord *vectord, struct lh_request *request, enum lh_status status,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Sends a change to the log. Once that has it, or has refused it, lh__items_logged,
 * lh__index_create_logged and their like go on; where there is no log, at once. Nothing of a change
 * is applied before. */
void lh__vectord_log(struct lh_vectord *vectord, struct lh_request *request,
                     enum lh_record_type type);

/* Sets the metrics of indexes by state. */
void lh__vectord_count_states(struct lh_vectord *vectord);

/* Notes a change that is in the log: the index's LSN, and that its file lacks it. */
void lh__vectord_note(struct lh_vectord *vectord, const struct lh_request *request);

/* vectord_index.c */
struct lh_index *lh__index_make(struct lh_vectord *vectord, const struct lh_index_params *params);
LH_MUST_USE enum lh_status lh__index_insert(struct lh_vectord *vectord, struct lh_index *index);
void lh__index_withdraw(struct lh_vectord *vectord, struct lh_index *index);
void lh__index_free(struct lh_index *index);
void lh__index_params(const struct lh_index *index, struct lh_index_params *params);
void lh__index_encode_info(struct lh_buf *out, const struct lh_index *index);
void lh__index_create_logged(struct lh_vectord *vectord, struct lh_request *request);
void lh__index_drop_logged(struct lh_vectord *vectord, struct lh_request *request);
void lh__index_removed(struct lh_vectord *vectord, struct lh_job *job);
/* Removes the files of an index that is deleted, then itself, then answers (NULL: no one waits). */
void lh__index_remove(struct lh_vectord *vectord, struct lh_index *index,
                      struct lh_request *request);
/* What could not be removed is tried again. */
void lh__index_retry_removals(struct lh_vectord *vectord);

/* vectord_items.c */
void lh__items_logged(struct lh_vectord *vectord, struct lh_request *request);

/* vectord_checkpoint.c */
void lh__checkpoint_ask(struct lh_vectord *vectord, struct lh_request *request,
                        struct lh_index *index);
/* Starts the checkpoint that is due, if one is and none is under way. */
void lh__checkpoint_next(struct lh_vectord *vectord);
/* The index is being deleted: answers those who wait for a checkpoint of it. */
void lh__checkpoint_withdraw(struct lh_vectord *vectord, struct lh_index *index);
void lh__checkpoint_tick(struct lh_vectord *vectord, struct lh_tick *tick);
/* When nothing is under way any more, lets the last tick go on. */
void lh__checkpoint_try_stop(struct lh_vectord *vectord);
void lh__checkpoint_part_back(struct lh_vectord *vectord, struct lh_part *part);
void lh__checkpoint_job_back(struct lh_vectord *vectord, struct lh_job *job);

/* vectord_reshard.c */
void lh__reshard_begin(struct lh_vectord *vectord, struct lh_request *request,
                       struct lh_index *index);
/* Whether a request that has come is held back; otherwise it is counted, and knows its sets. */
bool lh__reshard_holds(struct lh_index *index, struct lh_request *request);
uint32_t lh__reshard_count(const struct lh_index *index); /* of new shards */
void lh__reshard_change_done(struct lh_vectord *vectord, struct lh_request *request);
void lh__reshard_made(struct lh_vectord *vectord, struct lh_request *request);
void lh__reshard_copy_sent(struct lh_vectord *vectord, struct lh_index *index);
void lh__reshard_copy_back(struct lh_vectord *vectord, struct lh_request *request);
void lh__reshard_logged(struct lh_vectord *vectord, struct lh_request *request);
void lh__reshard_part_back(struct lh_vectord *vectord, struct lh_part *part);
bool lh__reshard_is_ending(const struct lh_index *index);
/* Something of the index has ended, or time has passed. */
void lh__reshard_tick(struct lh_vectord *vectord, struct lh_index *index, bool is_stop);

/* A request arrives: from a decoder, from the gateway, or from where it was held. */
void lh__vectord_route(struct lh_vectord *vectord, struct lh_request *request);

/* vectord_recover.c */
void lh__recover_begin(struct lh_vectord *vectord);
void lh__recover_job_back(struct lh_vectord *vectord, struct lh_job *job);
/* A job that no one waits for has ended. */
void lh__recover_removed(struct lh_vectord *vectord);
void lh__recover_end_import(struct lh_vectord *vectord);
bool lh__recover_is_quiet(const struct lh_vectord *vectord);
void lh__recover_sent(struct lh_vectord *vectord, struct lh_request *request);
void lh__recover_applied(struct lh_vectord *vectord, struct lh_request *request);

/* Goes on with what comes item by item, and ends the start when nothing is left to come. */
void lh__recover_advance(struct lh_vectord *vectord);
/* The registry as it comes back. An index that fails keeps its log as long as a later start may do
 * better; NULL: no memory, and the start will not end. */
struct lh_index *lh__recover_find(struct lh_vectord *vectord, const uint8_t uuid[16]);
struct lh_index *lh__recover_add_index(struct lh_vectord *vectord,
                                       const struct lh_index_params *params);
void lh__recover_fail(struct lh_vectord *vectord, struct lh_index *index, const char *reason);
void lh__recover_ready_if_done(struct lh_vectord *vectord, struct lh_index *index);

/* vectord_load.c */
void lh__recover_part_back(struct lh_vectord *vectord, struct lh_part *part);
void lh__recover_take_file(struct lh_vectord *vectord, struct lh_found_file *found);
/* An index whose file turned out to be of no use. A broken file is put aside; one that could not be
 * read may be whole. */
void lh__recover_give_up(struct lh_vectord *vectord, struct lh_index *index, const char *path,
                         const struct lh_error *error);
/* Gives a version 1 file its identity. True: an index of it was deleted here. `other` is one that
 * has it, or NULL. */
bool lh__recover_identify(struct lh_vectord *vectord, struct lh_found_file *found,
                          struct lh_index **other);
/* Loads a file that came while the server runs. `found` of version 1 stays until the server ends.
 */
void lh__recover_adopt(struct lh_vectord *vectord, struct lh_found_file *found);

/* vectord_peer.c; without a peer, these do nothing. */
void lh__remote_begin(struct lh_vectord *vectord);
/* At the log's end: true when the peer has been asked once, or there is none. */
bool lh__remote_settle(struct lh_vectord *vectord);
/* A fresh disk is not ready before all that the peer has for it is here, or cannot be had. */
void lh__remote_publish(struct lh_vectord *vectord);
void lh__remote_note(struct lh_vectord *vectord, struct lh_peer_note *note);
void lh__remote_arrival(struct lh_vectord *vectord, struct lh_arrival *arrival);
void lh__remote_adopted(struct lh_vectord *vectord, struct lh_job *job);
void lh__remote_upload(struct lh_vectord *vectord, const struct lh_index *index);
/* Of a REMOVE job: a tombstone is to come before the file goes; both are done. */
void lh__remote_mark_gone(const struct lh_vectord *vectord, struct lh_job *job, const char *name,
                          const uint8_t uuid[16]);
void lh__remote_removed(struct lh_vectord *vectord, const struct lh_job *job);
void lh__remote_deinit(struct lh_vectord *vectord);

/* To the persister, in the order of the calls. */
void lh__vectord_send_job(struct lh_vectord *vectord, struct lh_job *job);

void lh__index_create(struct lh_vectord *vectord, struct lh_request *request);
void lh__index_created(struct lh_vectord *vectord, struct lh_request *request);
void lh__index_list(struct lh_vectord *vectord, struct lh_request *request);
void lh__index_info(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index);
void lh__index_drop(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index);
void lh__index_drop_now(struct lh_vectord *vectord, struct lh_index *index);
void lh__index_dropped(struct lh_vectord *vectord, struct lh_request *request);

void lh__items_add(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index);
void lh__items_reserved(struct lh_vectord *vectord, struct lh_request *request);
void lh__items_delete(struct lh_vectord *vectord, struct lh_request *request,
                      struct lh_index *index);
void lh__items_search(struct lh_vectord *vectord, struct lh_request *request,
                      struct lh_index *index);
void lh__items_get(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index);
void lh__items_page(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index);
void lh__items_gathered(struct lh_vectord *vectord, struct lh_request *request);

#endif
