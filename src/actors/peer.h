/* The storaged peer's actor: keeps a copy of every index's file in another process's object store,
 * as "_vectors/<name>.lhv1", and brings back what is there and not here. The store may also be this
 * process's own.
 *
 * What is here wins: a file of the peer is wanted only when vectord knows no index of its name, and
 * nothing here waits for the peer. Whatever fails is tried again with backoff and jitter, for each
 * index with its newest file. docs/FORMAT.md has the files that keep deletions across restarts. */
#ifndef LH_ACTORS_PEER_H
#define LH_ACTORS_PEER_H

#include "actors/object_client.h"
#include "actors/persister.h"
#include "base/metrics.h"

struct lh_peer_options {
    struct lh_object_client_options objects; /* where it is; who cancels is the peer's own */
    struct lh_disk *disk; /* vectord.data_dir, a view of its own; taken on success */
    const struct lh_log *log;
    struct lh_actor *vectord;
};

struct lh_peer_metrics {
    struct lh_counter uploads;
    struct lh_counter downloads;
    struct lh_counter failures;
    struct lh_counter pending;    /* indexes whose copy is not what it should be */
    struct lh_counter notes;      /* of vectord's, that `pending` has seen */
    struct lh_counter success_ns; /* when a call last went well; 0: none has */
    struct lh_counter is_listed;  /* 1 once the peer has said what it has */
    struct lh_counter list_failures;
};

enum lh_peer_want {
    LH_PEER_NOTHING,
    LH_PEER_CHECK, /* a file was here at start: does the peer have it? */
    LH_PEER_UPLOAD,
    LH_PEER_DELETE,
    LH_PEER_DOWNLOAD
};

/* When a thing that failed is tried again. */
struct lh_peer_retry {
    uint64_t due_ns;
    uint64_t backoff_ms; /* 0: the last try went well, or there was none */
};

/* What is to be done about one object. */
struct lh_peer_task {
    struct lh_peer_task *next;
    char name[LH_NAME_BYTES_MAX + 1];
    enum lh_peer_want want;
    struct lh_peer_retry retry;
    uint64_t listed_bytes;    /* DOWNLOAD */
    struct lh_msg_queue gone; /* notes: tombstones to remove once the peer has answered */
};

struct lh_peer {
    struct lh_actor actor;
    struct lh_peer_options options;
    struct lh_object_client *objects;
    struct lh_peer_task *tasks;
    struct lh_peer_retry list;
    bool is_list_due;    /* what the peer has is not known, or some of it is still to be had */
    bool has_unanswered; /* downloads that failed since the last listing */
    bool may_drain;      /* what is under way may go on for a while after the stop */
    uint64_t stop_ns;    /* 0: not stopping */
    uint64_t random;
    struct lh_peer_metrics metrics;
};

/* Reads what tombstones and files there are. Main thread, after the persister's start-up. */
LH_MUST_USE enum lh_status lh_peer_init(struct lh_peer *peer, const struct lh_peer_options *options,
                                        struct lh_error *error);
void lh_peer_deinit(struct lh_peer *peer);

/* ---- between the files of the peer ---- */

/* The key of an index's object, in `text`. */
struct lh_str lh__peer_key(const char *name, char text[LH_NAME_BYTES_MAX + 64]);

/* Reads the peer's list into a LISTED note. */
LH_MUST_USE enum lh_status lh__peer_list(struct lh_peer *peer, struct lh_peer_note *note,
                                         struct lh_error *error);

/* Each does one thing with one object, and waits for the peer. LH_NOT_FOUND: the file, or the
 * object, is not there. */
LH_MUST_USE enum lh_status lh__peer_upload(struct lh_peer *peer, const char *name,
                                           struct lh_error *error);
LH_MUST_USE enum lh_status lh__peer_compare(struct lh_peer *peer, const char *name, bool *is_same,
                                            struct lh_error *error);
LH_MUST_USE enum lh_status lh__peer_download(struct lh_peer *peer, const struct lh_peer_task *task,
                                             struct lh_arrival **arrival, struct lh_error *error);
/* Notes in the folder of indexes that it has had a peer: from then on, deletions leave tombstones,
 * also while none is configured. */
LH_MUST_USE enum lh_status lh__peer_mark(struct lh_peer *peer, struct lh_error *error);
/* A file of the folder of indexes, durably removed. */
LH_MUST_USE enum lh_status lh__peer_remove(struct lh_peer *peer, const char *path,
                                           struct lh_error *error);

#endif
