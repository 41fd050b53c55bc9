/* vectord: which indexes there are, the order of their changes, and who answers what.
 *
 * It alone knows the registry; it numbers every change (LSN), sends each shard its part, and
 * gathers the parts. It never touches a vector. */
#ifndef LH_ACTORS_VECTORD_H
#define LH_ACTORS_VECTORD_H

#include "actors/messages.h"
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

struct lh_index {
    char name[LH_NAME_BYTES_MAX + 1];
    char uuid[37]; /* its identity: a name that is made again is another index */
    struct lh_graph_options graph;
    uint32_t ef_search;
    uint64_t lsn;            /* of its last change */
    uint32_t in_flight;      /* requests whose parts are out */
    struct lh_request *drop; /* a DELETE that waits for in_flight to reach 0 */
    uint32_t shard_count;
    struct lh_index_shard shards[];
};

struct lh_vectord_options {
    struct lh_worker *workers;
    uint32_t worker_count;
    uint32_t default_shards;
    uint64_t memory_bytes_max; /* 0: none; past it, adds get LH_OUT_OF_MEMORY */
    struct lh_mailbox *gateway;
    const struct lh_log *log;
};

struct lh_vectord_metrics {
    struct lh_counter indexes;
    struct lh_counter items;
    struct lh_counter bytes;
    struct lh_counter lsn;
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
    struct lh_vectord_metrics metrics;
};

void lh_vectord_init(struct lh_vectord *vectord, const struct lh_vectord_options *options);
void lh_vectord_deinit(struct lh_vectord *vectord);

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
