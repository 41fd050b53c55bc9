/* The server behind the gateway without threads: vectord, workers and persister, turned one after
 * another until nothing is left to do. On a simulated disk, one seed replays everything. */
#ifndef LH_TESTS_SIM_SERVER_SIM_H
#define LH_TESTS_SIM_SERVER_SIM_H

#include "actors/vectord.h"
#include "sim/disk_sim.h"
#include "sim/replay.h"

#define LH_SIM_WORKERS_MAX 8u

struct lh_sim_server_options {
    uint32_t workers;
    uint32_t default_shards;
    uint64_t segment_bytes;
    uint64_t checkpoint_bytes;
    uint64_t seed;
    bool ticks_at_start;     /* time passes while all comes back */
    uint32_t turns_at_start; /* it returns before all is back; 0: when all is */
    const struct lh_log *log;
};

struct lh_sim_server {
    struct lh_sim_server_options options;
    struct lh_sim_disk *disk; /* borrowed */
    struct lh_persister persister;
    struct lh_recovery recovery;
    struct lh_vectord vectord;
    struct lh_worker workers[LH_SIM_WORKERS_MAX];
    struct lh_mailbox gateway;
    struct lh_tick tick;
    bool is_tick_out;
    uint64_t random;
    uint32_t in_flight;
    void (*answered)(struct lh_request *request, void *arg); /* takes the request */
    void *arg;
};

/* Recovers from `disk` and takes it. False: it could not start at all, `error` says why. */
bool lh_sim_server_start(struct lh_sim_server *server, struct lh_sim_disk *disk,
                         const struct lh_sim_server_options *options, struct lh_error *error);

/* Sends a request that is decoded already; `answered` gets it back. */
void lh_sim_server_send(struct lh_sim_server *server, struct lh_request *request);

/* Turns actors, in an order of the seed's choice, until none has anything to do (or `turns` are
 * over; 0: no limit). */
void lh_sim_server_pump(struct lh_sim_server *server, uint32_t turns);

/* Lets time pass, which stands still but for what the actors' turns take. One time for all. */
void lh_sim_server_pass_ms(uint64_t ms);

/* A tick, 100 ms later; the other form lets all follow from it. */
void lh_sim_server_send_tick(struct lh_sim_server *server, bool is_stop);
void lh_sim_server_tick(struct lh_sim_server *server, bool is_stop);

/* When nothing is in flight; frees all, the disk too. */
void lh_sim_server_end(struct lh_sim_server *server);

/* The item of an id, copied into `list`; false when there is none. Only between pumps. */
struct lh_index *lh_sim_server_index(struct lh_sim_server *server, const char *name);

#endif
