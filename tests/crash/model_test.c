/* Random operations, a crash after every disk operation, and a model of what must be there.
 *
 * One run makes a few dozen changes (several in flight at once) on a simulated disk. Before each of
 * the disk's operations the disk is copied; the copy loses power and a server recovers from it.
 * What it holds must be what the changes up to one LSN make, whole and in order, with every change
 * among them that had been acknowledged, and its graphs must validate.
 *
 *     model_test [SEED [CRASHES]]      CRASHES 0: until stopped */
#include "ext/batch.h"
#include "shards/placement.h"
#include "sim/server_sim.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES     3u
#define IDS       24u
#define DIMENSION 5u
#define OPS_MAX   96u
#define CRASHES   10000u
#define SEEN_MAX  4096u

#define CHECK(condition, ...)                                                \
    do {                                                                     \
        if (!(condition)) {                                                  \
            fprintf(stderr, "seed %" PRIu64 ": " #condition ": ", run_seed); \
            fprintf(stderr, __VA_ARGS__);                                    \
            fprintf(stderr, "\n");                                           \
            abort();                                                         \
        }                                                                    \
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
    struct change changes[8];
    uint64_t lsn; /* 0: it failed, or was no change */
    bool is_answered;
};

struct item {
    uint32_t version; /* 0: not there */
    uint32_t metadata;
};

struct model {
    bool exists[NAMES];
    struct item items[NAMES][IDS];
};

/* What was known when the disk was copied. */
struct seen {
    struct lh_sim_disk *copy;
    uint64_t acknowledged; /* the highest LSN that was */
};

struct run {
    uint64_t random;
    struct lh_sim_server server;
    struct op ops[OPS_MAX];
    uint32_t op_count;
    uint64_t acknowledged;
    struct seen seen[SEEN_MAX];
    uint32_t seen_count;
    uint32_t copy_every; /* a copy of every n-th operation */
    uint64_t operations;
    uint64_t version;
};

static uint64_t next_random(struct run *run)
{
    uint64_t x = run->random += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint32_t below(struct run *run, uint32_t n)
{
    return (uint32_t)(next_random(run) % n);
}

static uint64_t hash(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    return x ^ (x >> 27);
}

static void vector_of(uint32_t id, uint32_t version, float row[DIMENSION])
{
    for (uint32_t i = 0; i < DIMENSION; i++)
        row[i] = (float)(hash(((uint64_t)id << 40) ^ ((uint64_t)version << 8) ^ (i + 1)) % 2000) -
                 999.5f;
}

static int id_of(uint32_t id, char text[16])
{
    return snprintf(text, 16, "id-%u", id);
}

static int metadata_of(uint32_t metadata, char text[16])
{
    return metadata == 1 ? snprintf(text, 16, "{}") : snprintf(text, 16, "{\"v\":%u}", metadata);
}

static const char *const names[NAMES] = {"a", "b.lhv1", "c-3"};

/* ---- the model ---- */

static void apply(struct model *model, const struct op *op)
{
    switch (op->kind) {
    case OP_CREATE:
        model->exists[op->name] = true;
        memset(model->items[op->name], 0, sizeof model->items[op->name]);
        break;
    case OP_DROP:
        model->exists[op->name] = false;
        memset(model->items[op->name], 0, sizeof model->items[op->name]);
        break;
    case OP_ADD:
        for (uint32_t i = 0; i < op->count; i++) {
            struct item *item = &model->items[op->name][op->changes[i].id];
            if (op->changes[i].metadata != 0 || item->version == 0)
                item->metadata = op->changes[i].metadata;
            item->version = op->changes[i].version;
        }
        break;
    case OP_DELETE:
        for (uint32_t i = 0; i < op->count; i++)
            model->items[op->name][op->changes[i].id] = (struct item){0};
        break;
    case OP_CHECKPOINT:
    case OP_RESHARD:
        break;
    }
}

/* The state after every change up to `lsn`. */
static void model_at(const struct run *run, uint64_t lsn, struct model *model)
{
    memset(model, 0, sizeof *model);
    uint64_t last = 0;
    for (;;) {
        const struct op *next = NULL;
        for (uint32_t i = 0; i < run->op_count; i++) {
            const struct op *op = &run->ops[i];
            if (op->lsn > last && op->lsn <= lsn && (next == NULL || op->lsn < next->lsn))
                next = op;
        }
        if (next == NULL)
            return;
        apply(model, next);
        last = next->lsn;
    }
}

/* ---- what is there ---- */

static void check_item(uint64_t run_seed, const char *where, struct lh_shard *shard,
                       const struct item *item, uint32_t id)
{
    struct lh_found_list list = {0};
    struct lh_found_options options = {
        .with_metadata = true, .with_vector = true, .bytes_max = UINT64_MAX};
    char text[16];
    struct lh_str name = {text, (size_t)id_of(id, text)};
    enum lh_status status = lh_shard_get(shard, name, lh_placement_hash(name), &options, &list);
    if (item->version == 0) {
        CHECK(status == LH_ITEM_NOT_FOUND, "%s: %s is there", where, text);
        return;
    }
    CHECK(status == LH_OK, "%s: %s is missing", where, text);
    float row[DIMENSION];
    vector_of(id, item->version, row);
    CHECK(memcmp(row, list.rows, sizeof row) == 0, "%s: %s has another vector", where, text);
    char metadata[16];
    int len = item->metadata == 0 ? 0 : metadata_of(item->metadata, metadata);
    CHECK(list.items[0].has_metadata == (item->metadata != 0), "%s: %s metadata", where, text);
    CHECK(list.items[0].metadata_len == (uint32_t)len &&
              memcmp(list.text.ptr + list.items[0].text_at + list.items[0].id_len, metadata,
                     (size_t)len) == 0,
          "%s: %s has other metadata", where, text);
    lh_found_list_deinit(&list);
}

static void check_state(uint64_t run_seed, const char *where, struct lh_sim_server *server,
                        const struct model *model)
{
    for (uint32_t n = 0; n < NAMES; n++) {
        struct lh_index *index = lh_sim_server_index(server, names[n]);
        struct lh_error error = {0};
        uint32_t count = 0;
        CHECK((index != NULL) == model->exists[n], "%s: index %s", where, names[n]);
        if (index == NULL)
            continue;
        CHECK(index->state == LH_STATE_READY, "%s: index %s is in state %d: %s", where, names[n],
              index->state, index->reason);
        for (uint32_t id = 0; id < IDS; id++) {
            char text[16];
            struct lh_str name = {text, (size_t)id_of(id, text)};
            uint32_t shard = lh_placement_shard(lh_placement_hash(name), index->shard_count);
            check_item(run_seed, where, index->shards[shard].shard, &model->items[n][id], id);
            count += model->items[n][id].version != 0;
        }
        uint32_t there = 0;
        for (uint32_t s = 0; s < index->shard_count; s++) {
            there += lh_shard_count(index->shards[s].shard);
            CHECK(lh_shard_validate(index->shards[s].shard, &error) == LH_OK, "%s: %s shard %u: %s",
                  where, names[n], s, error.text);
        }
        CHECK(there == count, "%s: %s has %u items, not %u", where, names[n], there, count);
    }
}

/* ---- one run ---- */

static void answered(struct lh_request *request, void *arg)
{
    struct run *run = arg;
    struct op *op = &run->ops[request->request_id];
    op->is_answered = true;
    if (op->kind != OP_CHECKPOINT && request->record.lsn != 0 && request->entry.status == LH_OK &&
        request->error.status != LH_INDEX_NOT_FOUND &&
        request->error.status != LH_INDEX_ALREADY_EXISTS)
        op->lsn = request->record.lsn;
    if (op->lsn > run->acknowledged)
        run->acknowledged = op->lsn;
    lh_request_destroy(request);
}

static void before_operation(struct lh_sim_disk *disk, void *arg)
{
    struct run *run = arg;
    if (run->operations++ % run->copy_every != 0 || run->seen_count == SEEN_MAX)
        return;
    run->seen[run->seen_count++] =
        (struct seen){.copy = lh_sim_disk_copy(disk, run->operations * 31 + 7),
                      .acknowledged = run->acknowledged};
}

static void fill_batch(struct run *run, struct op *op, struct lh_request *request)
{
    uint64_t run_seed = 0;
    lh_batch_init(&request->batch);
    for (uint32_t i = 0; i < op->count; i++) {
        struct change *change = &op->changes[i];
        char id[16], metadata[16];
        float row[DIMENSION];
        *change = (struct change){.id = below(run, IDS), .version = (uint32_t)++run->version};
        if (below(run, 3) != 0)
            change->metadata = 1 + below(run, 1000);
        struct lh_str text = {id, (size_t)id_of(change->id, id)};
        struct lh_batch_item item = {.id = {lh_batch_bytes(&request->batch, text.len), text.len}};
        memcpy((char *)item.id.ptr, text.ptr, text.len);
        if (op->kind == OP_ADD && change->metadata != 0) {
            size_t len = (size_t)metadata_of(change->metadata, metadata);
            item.metadata = (struct lh_str){lh_batch_bytes(&request->batch, len), len};
            memcpy((char *)item.metadata.ptr, metadata, len);
        }
        item.dimension = op->kind == OP_ADD ? DIMENSION : 0;
        vector_of(change->id, change->version, row);
        enum lh_status status = op->kind == OP_ADD
                                    ? lh_batch_add_row(&request->batch, &item, row, op->count)
                                    : lh_batch_add(&request->batch, &item);
        CHECK(status == LH_OK, "no memory");
    }
    request->hashes = malloc((op->count + 1) * sizeof *request->hashes);
    for (uint32_t i = 0; i < op->count; i++)
        request->hashes[i] = lh_placement_hash(request->batch.items[i].id);
}

static void send_op(struct run *run)
{
    static const enum lh_op ops[] = {
        LH_OP_INDEX_CREATE, LH_OP_INDEX_DROP,       LH_OP_ADD,
        LH_OP_ITEMS_DELETE, LH_OP_INDEX_CHECKPOINT, LH_OP_INDEX_RESHARD};
    struct op *op = &run->ops[run->op_count];
    uint32_t draw = below(run, 100);
    op->kind = draw < 12   ? OP_CREATE
               : draw < 17 ? OP_DROP
               : draw < 70 ? OP_ADD
               : draw < 84 ? OP_DELETE
               : draw < 92 ? OP_RESHARD
                           : OP_CHECKPOINT;
    op->name = below(run, NAMES);
    op->count = 1 + below(run, 8);
    struct lh_request *request = lh_request_create(ops[op->kind]);
    request->request_id = run->op_count++;
    snprintf(request->index_name, sizeof request->index_name, "%s", names[op->name]);
    if (op->kind == OP_CREATE) {
        snprintf(request->create.name, sizeof request->create.name, "%s", names[op->name]);
        request->create.dimension = DIMENSION;
        request->create.distance = below(run, 3);
        request->create.m = 2 + below(run, 4);
        request->create.ef_construction = 20;
        request->create.ef_search = 20;
        request->create.shards = below(run, 2) * (1 + below(run, 3));
    }
    if (op->kind == OP_RESHARD)
        request->create.shards = 1 + below(run, 4);
    if (op->kind == OP_ADD || op->kind == OP_DELETE)
        fill_batch(run, op, request);
    lh_sim_server_send(&run->server, request);
}

static const struct lh_log quiet = {.fd = -1, .level = LH_LOG_ERROR + 1};

static struct lh_sim_server_options options_of(struct run *run)
{
    return (struct lh_sim_server_options){.workers = 1 + below(run, 3),
                                          .default_shards = 1 + below(run, 3),
                                          .segment_bytes = 8192u << below(run, 3),
                                          .checkpoint_bytes = 2000u << below(run, 4),
                                          .seed = next_random(run),
                                          .log = &quiet};
}

/* Recovers from a copy, after a power cut or a plain kill, and checks it against the model. */
static void check_seen(uint64_t run_seed, struct run *run, uint32_t number)
{
    static struct lh_sim_server server;
    struct seen *seen = &run->seen[number];
    struct lh_error error = {0};
    struct model model;
    char where[64];
    struct lh_sim_server_options options = options_of(run);
    bool is_power_cut = below(run, 8) != 0;
    snprintf(where, sizeof where, "crash %u (%s)", number, is_power_cut ? "power" : "kill");
    if (is_power_cut)
        lh_sim_disk_crash(seen->copy);
    CHECK(lh_sim_server_start(&server, seen->copy, &options, &error), "%s: %s", where, error.text);
    uint64_t lsn = server.vectord.lsn;
    CHECK(lsn >= seen->acknowledged, "%s: recovered to %" PRIu64 ", acknowledged %" PRIu64, where,
          lsn, seen->acknowledged);
    model_at(run, lsn, &model);
    check_state(run_seed, where, &server, &model);
    lh_sim_server_end(&server);
}

static uint32_t one_run(uint64_t run_seed, uint32_t copy_every)
{
    static struct run run;
    struct lh_error error = {0};
    struct model model;
    memset(&run, 0, sizeof run);
    run.random = run_seed;
    run.copy_every = copy_every;
    struct lh_sim_disk *disk = lh_sim_disk_create(next_random(&run));
    struct lh_sim_server_options options = options_of(&run);
    CHECK(lh_sim_server_start(&run.server, disk, &options, &error), "%s", error.text);
    run.server.answered = answered;
    run.server.arg = &run;
    lh_sim_disk_watch(disk, before_operation, &run);
    uint32_t ops = 20 + below(&run, OPS_MAX - 20);
    while (run.op_count < ops) {
        send_op(&run);
        if (below(&run, 3) == 0)
            lh_sim_server_pump(&run.server, below(&run, 30));
        if (below(&run, 10) == 0)
            lh_sim_server_pump(&run.server, 0);
        if (below(&run, 12) == 0 && !run.server.is_tick_out)
            lh_sim_server_tick(&run.server, false);
    }
    lh_sim_server_pump(&run.server, 0);
    CHECK(run.server.in_flight == 0, "%u requests were never answered", run.server.in_flight);
    model_at(&run, UINT64_MAX, &model);
    check_state(run_seed, "the run itself", &run.server, &model);
    bool is_stopped = below(&run, 2) == 0;
    if (is_stopped)
        lh_sim_server_tick(&run.server, true);
    lh_sim_disk_watch(disk, NULL, NULL);
    CHECK(!is_stopped || !run.server.is_tick_out, "the stop never ended");
    lh_sim_server_end(&run.server);
    for (uint32_t i = 0; i < run.seen_count; i++)
        check_seen(run_seed, &run, i);
    return run.seen_count;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : CRASHES;
    uint64_t crashes = 0;
    uint64_t runs = 0;
    while (wanted == 0 || crashes < wanted) {
        crashes += one_run(seed + runs, 1);
        runs++;
        if (runs % 50 == 0) {
            printf("%" PRIu64 " runs, %" PRIu64 " crashes\n", runs, crashes);
            fflush(stdout);
        }
    }
    printf("%" PRIu64 " runs from seed %" PRIu64 ", %" PRIu64 " crashes: all as acknowledged\n",
           runs, seed, crashes);
    return 0;
}
