/* The actors are the real ones; only their threads are missing. */
#include "sim/server_sim.h"

#include <assert.h>
#include <string.h>

#define TICKS_AT_START 20u

static uint64_t next_random(struct lh_sim_server *server)
{
    uint64_t x = server->random += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t now_ns = 1000000000;

static uint64_t clock_ns(void)
{
    return now_ns;
}

void lh_sim_server_pass_ms(uint64_t ms)
{
    now_ns += ms * 1000000;
}

static void no_wake(void *arg)
{
    (void)arg;
}

void lh_sim_server_send_tick(struct lh_sim_server *server, bool is_stop)
{
    assert(!server->is_tick_out);
    lh_sim_server_pass_ms(100);
    server->is_tick_out = true;
    server->tick.is_stop = is_stop;
    server->tick.head = (struct lh_msg){.type = LH_MSG_TICK, .lane = LH_LANE_EXPRESS};
    enum lh_status status = lh_actor_send(&server->vectord.actor, &server->tick.head);
    assert(status == LH_OK);
    (void)status;
}

bool lh_sim_server_start(struct lh_sim_server *server, struct lh_sim_disk *disk,
                         const struct lh_sim_server_options *options, struct lh_error *error)
{
    *server = (struct lh_sim_server){.options = *options, .disk = disk, .random = options->seed};
    struct lh_persister_options persister = {.disk = lh_sim_disk_disk(disk),
                                             .log = options->log,
                                             .segment_bytes = options->segment_bytes,
                                             .sync_interval_ms = 100,
                                             .clock_ns = clock_ns,
                                             .seed = options->seed | 1,
                                             .vectord = &server->vectord.actor,
                                             .gateway = &server->gateway};
    struct lh_vectord_options vectord = {.workers = server->workers,
                                         .worker_count = options->workers,
                                         .default_shards = options->default_shards,
                                         .persister = &server->persister,
                                         .recovery = &server->recovery,
                                         .checkpoint_bytes = options->checkpoint_bytes,
                                         .clock_ns = clock_ns,
                                         .seed = options->seed | 1,
                                         .gateway = &server->gateway,
                                         .log = options->log};
    lh_mailbox_init(&server->gateway, no_wake, NULL);
    if (lh_persister_init(&server->persister, &persister, &server->recovery, error) != LH_OK) {
        lh_recovery_deinit(&server->recovery);
        lh_disk_destroy(lh_sim_disk_disk(disk));
        return false;
    }
    for (uint32_t i = 0; i < options->workers; i++)
        lh_worker_init(&server->workers[i], i);
    for (uint32_t i = 0; i < options->workers; i++)
        server->workers[i].clock_ns = clock_ns;
    lh_vectord_init(&server->vectord, &vectord);
    for (uint32_t i = 0; options->ticks_at_start && i < TICKS_AT_START; i++) {
        lh_sim_server_pump(server, 1 + (uint32_t)(next_random(server) % 12));
        if (!server->is_tick_out)
            lh_sim_server_send_tick(server, false);
    }
    lh_sim_server_pump(server, options->turns_at_start);
    return true;
}

void lh_sim_server_send(struct lh_sim_server *server, struct lh_request *request)
{
    request->stage = LH_STAGE_ROUTE;
    request->head.lane = LH_LANE_BULK;
    server->in_flight++;
    enum lh_status status = lh_actor_send(&server->vectord.actor, &request->head);
    assert(status == LH_OK);
    (void)status;
}

/* What the gateway would do. */
static bool take_answers(struct lh_sim_server *server)
{
    struct lh_msg_queue queues[LH_LANES] = {{0}};
    struct lh_msg *msg;
    bool any = false;
    lh_mailbox_drain(&server->gateway, queues);
    for (int lane = 0; lane < LH_LANES; lane++) {
        while ((msg = lh_msg_queue_take(&queues[lane])) != NULL) {
            any = true;
            if (msg->type == LH_MSG_TICK) {
                server->is_tick_out = false;
                continue;
            }
            server->in_flight--;
            server->answered((struct lh_request *)msg, server->arg);
        }
    }
    return any;
}

static bool turn(struct lh_sim_server *server, uint32_t actor)
{
    if (actor == 0)
        return lh_vectord_turn(&server->vectord, false);
    if (actor == 1)
        return lh_persister_turn(&server->persister, false);
    if (actor == 2)
        return take_answers(server);
    return lh_worker_turn(&server->workers[actor - 3], false);
}

/* Something is with the disk, which takes its time, or a checkpoint rests. */
static bool is_waiting(const struct lh_sim_server *server)
{
    for (uint32_t i = 0; i < server->options.workers; i++) {
        if (server->workers[i].streams.first != NULL)
            return true;
    }
    return server->persister.out > 0 || !lh_wal_is_idle(server->persister.wal);
}

void lh_sim_server_pump(struct lh_sim_server *server, uint32_t turns)
{
    uint32_t actors = 3 + server->options.workers;
    uint32_t idle = 0;
    uint32_t first = (uint32_t)(next_random(server) % actors);
    for (uint32_t i = 0; idle < actors && (turns == 0 || i < turns); i++) {
        bool any = turn(server, (first + i) % actors);
        idle = any || is_waiting(server) ? 0 : idle + 1;
        if (!any)
            now_ns += 100000; /* so a sync that is due later comes */
        /* Some turns come early, so that no order is the only one. */
        if (any && next_random(server) % 4 == 0)
            (void)turn(server, (uint32_t)(next_random(server) % actors));
    }
}

void lh_sim_server_tick(struct lh_sim_server *server, bool is_stop)
{
    lh_sim_server_send_tick(server, is_stop);
    lh_sim_server_pump(server, 0);
}

void lh_sim_server_end(struct lh_sim_server *server)
{
    assert(server->in_flight == 0);
    lh_vectord_deinit(&server->vectord);
    lh_persister_deinit(&server->persister);
    lh_recovery_deinit(&server->recovery);
    for (uint32_t i = 0; i < server->options.workers; i++)
        lh_actor_deinit(&server->workers[i].actor);
}

struct lh_index *lh_sim_server_index(struct lh_sim_server *server, const char *name)
{
    return lh__vectord_find(&server->vectord, name);
}
