/* What must be there: the history of changes, the state that any part of it makes, and comparisons
 * of that with a server on a simulated disk. One seed replays everything, time and uuids too. */
#ifndef LH_TESTS_CRASH_MODEL_H
#define LH_TESTS_CRASH_MODEL_H

#include "sim/server_sim.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAMES       5u
#define IDS         24u
#define DIMENSION   5u
#define CHANGES_MAX 80u  /* of a large batch: ids come again and again in it */
#define OPS_MAX     400u /* of a run, all its lives together */
#define WHY_BYTES   200u

#define CHECK(run, condition, ...)                                              \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "seed %" PRIu64 ": " #condition ": ", (run)->seed); \
            fprintf(stderr, __VA_ARGS__);                                       \
            fprintf(stderr, "\nhistory:\n");                                    \
            history_print(run);                                                 \
            abort();                                                            \
        }                                                                       \
    } while (0)

enum kind { OP_CREATE, OP_DROP, OP_ADD, OP_DELETE, OP_CHECKPOINT, OP_RESHARD };

struct change {
    uint32_t id;
    uint32_t version;  /* of the vector */
    uint32_t metadata; /* 0: left out; 1: {}; else {"v":n} */
};

struct op {
    enum kind kind;
    uint32_t name;
    uint32_t count;
    struct change changes[CHANGES_MAX];
    enum lh_durability durability;
    uint64_t lsn;   /* 0: it was refused, was no change, or a crash took it */
    uint64_t tried; /* the LSN it would have had, when the log has refused it */
    enum lh_status status;
    bool is_answered;
};

struct item {
    uint32_t version; /* 0: not there */
    uint32_t metadata;
};

struct state {
    bool exists;
    struct item items[IDS];
};

/* What has been acknowledged: the highest LSNs. */
struct acknowledged {
    uint64_t commit;
    uint64_t interval; /* or more */
    uint64_t any;
};

struct run {
    uint64_t seed;
    uint64_t random;
    struct lh_sim_server server;
    struct state first[NAMES]; /* before any change: version 1 files */
    struct op ops[OPS_MAX];
    uint32_t op_count;
    struct acknowledged acknowledged;
    bool is_mixed; /* changes with interval and none, too */
    uint64_t version;
};

extern const char *const names[NAMES];

uint64_t next_random(struct run *run);
uint32_t below(struct run *run, uint32_t n);

void run_begin(struct run *run, uint64_t seed);
void history_print(const struct run *run);

/* Random sizes, so that segments end and checkpoints are due within a few changes. */
struct lh_sim_server_options random_options(struct run *run);

/* Sends a request to the run's server, whose answer goes to the history. False: no room in it. */
bool send_op(struct run *run, enum kind kind, uint32_t name);
bool send_random_op(struct run *run);
void run_answered(struct lh_request *request, void *run);

/* A version 1 file of a name, as the Go daemon wrote it, with items. */
void put_v1(struct run *run, struct lh_sim_disk *disk, uint32_t name);

/* The state of a name after all its changes up to `lsn`. */
void state_at(const struct run *run, uint32_t name, uint64_t lsn, struct state *state);

/* Compares, validates graphs. False: `why` says what is different. */
bool is_state(const struct run *run, struct lh_sim_server *server, uint32_t name,
              const struct state *state, char why[WHY_BYTES]);

/* Every name is what a prefix of its changes makes that reaches at least to `least` and, of those
 * that are not there, at most to `most`. */
void check_prefix(const struct run *run, const char *where, struct lh_sim_server *server,
                  uint64_t least, uint64_t most, struct state states[NAMES]);
/* What the server holds is what another history begins with. Its LSNs may begin anew: when the log
 * has gone with the last index, nothing knows them any more. */
void begin_anew(struct run *run, uint64_t lsn, const struct state states[NAMES]);
/* Every name is what all its changes make. */
void check_all(struct run *run, const char *where, struct lh_sim_server *server);

#endif
