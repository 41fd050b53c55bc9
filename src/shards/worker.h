/* A shard worker: one thread that owns shards of every index and works off their parts. */
#ifndef LH_SHARDS_WORKER_H
#define LH_SHARDS_WORKER_H

#include "base/metrics.h"
#include "shards/parts.h"

/* Bumped by the worker, read by /metrics. */
struct lh_worker_metrics {
    struct lh_counter adds;              /* items that were new */
    struct lh_counter updates;           /* items that replaced one */
    struct lh_counter deletes;           /* items that were there */
    struct lh_counter searches;          /* queries answered */
    struct lh_counter expired;           /* searches skipped, past their deadline */
    struct lh_counter busy_ns;           /* time with something to do */
    struct lh_counter waiting[LH_LANES]; /* drained and not yet finished */
    struct lh_histogram bulk_step;       /* and a checkpoint's blocks */
};

struct lh_worker {
    struct lh_actor actor;
    struct lh_worker_metrics metrics;
    uint64_t (*clock_ns)(void);  /* lh_clock_ns; a test may stop time before the thread starts */
    struct lh_msg_queue streams; /* parts of a checkpoint with a block to fill, in turn */
    uint64_t rest_until_ns;      /* none of them goes on before */
    uint64_t read_ns;            /* when a search or another read was last here; 0: never */
    char name[16];
};

void lh_worker_init(struct lh_worker *worker, uint32_t number);

/* One look at the mailbox and the work of one turn; the worker's thread does nothing else. False:
 * nothing waited, or a checkpoint that rests, or with `sleep`, the worker was told to stop. A test
 * without threads calls it. */
bool lh_worker_turn(struct lh_worker *worker, bool sleep);

/* Parts that wait, taken from the mailbox or not. Any thread. */
uint64_t lh_worker_depth(const struct lh_worker *worker, enum lh_lane lane);

#endif
