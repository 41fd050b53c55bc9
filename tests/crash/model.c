/* The history and what it makes. No threads. */
#include "crash/model.h"

#include "ext/batch.h"
#include "shards/placement.h"
#include "unit/lhv1_help.h"
#include "unit/seed.h"

/* Prefixes of each other, and like the names of files that they are not. */
const char *const names[NAMES] = {"a", "a.lhv1", "a.lhv1.v1", "ab", "a.lhv1.corrupt-1"};

static const struct lh_log quiet = {.fd = -1, .level = {LH_LOG_ERROR + 1}};
static const struct lh_log loud = {.fd = 2, .level = {LH_LOG_DEBUG}};

uint64_t next_random(struct run *run)
{
    return lh_test_next(&run->random);
}

uint32_t below(struct run *run, uint32_t n)
{
    return lh_test_below(&run->random, n);
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

void run_begin(struct run *run, uint64_t seed)
{
    memset(run, 0, sizeof *run);
    run->seed = run->random = seed;
    lh_sim_replay_from(seed);
    run->is_mixed = below(run, 3) == 0;
}

void history_print(const struct run *run)
{
    static const char *const kinds[] = {"create", "drop", "add", "delete", "checkpoint", "reshard"};
    static const char *const durabilities[] = {"commit", "interval", "none"};
    for (uint32_t i = 0; i < run->op_count; i++) {
        const struct op *op = &run->ops[i];
        fprintf(stderr, "  %u: %s %s (%u items, %s): lsn %" PRIu64 ", tried %" PRIu64 ", %s\n", i,
                kinds[op->kind], names[op->name], op->count, durabilities[op->durability], op->lsn,
                op->tried, op->is_answered ? lh_status_text(op->status) : "no answer");
    }
}

struct lh_sim_server_options random_options(struct run *run)
{
    return (struct lh_sim_server_options){.workers = 1 + below(run, 3),
                                          .default_shards = 1 + below(run, 3),
                                          .segment_bytes = 4096u + (256u << below(run, 7)),
                                          .checkpoint_bytes = 1000u << below(run, 6),
                                          .seed = next_random(run),
                                          .ticks_at_start = below(run, 4) == 0,
                                          .log = getenv("LH_TEST_LOG") != NULL ? &loud : &quiet};
}

/* ---- changes ---- */

static void apply(struct state *state, const struct op *op)
{
    switch (op->kind) {
    case OP_CREATE:
    case OP_DROP:
        *state = (struct state){.exists = op->kind == OP_CREATE};
        break;
    case OP_ADD:
        for (uint32_t i = 0; i < op->count; i++) {
            struct item *item = &state->items[op->changes[i].id];
            if (op->changes[i].metadata != 0 || item->version == 0)
                item->metadata = op->changes[i].metadata;
            item->version = op->changes[i].version;
        }
        break;
    case OP_DELETE:
        for (uint32_t i = 0; i < op->count; i++)
            state->items[op->changes[i].id] = (struct item){0};
        break;
    case OP_CHECKPOINT:
    case OP_RESHARD:
        break;
    }
}

void state_at(const struct run *run, uint32_t name, uint64_t lsn, struct state *state)
{
    uint64_t last = 0;
    *state = run->first[name];
    for (;;) {
        const struct op *next = NULL;
        for (uint32_t i = 0; i < run->op_count; i++) {
            const struct op *op = &run->ops[i];
            if (op->name == name && op->lsn > last && op->lsn <= lsn &&
                (next == NULL || op->lsn < next->lsn))
                next = op;
        }
        if (next == NULL)
            return;
        apply(state, next);
        last = next->lsn;
    }
}

static void fill_batch(struct run *run, struct op *op, struct lh_request *request)
{
    lh_batch_init(&request->batch);
    for (uint32_t i = 0; i < op->count; i++) {
        struct change *change = &op->changes[i];
        char id[16], metadata[16];
        float row[DIMENSION];
        *change = (struct change){.id = below(run, IDS), .version = (uint32_t)++run->version};
        if (below(run, 3) != 0)
            change->metadata = 1 + below(run, 1000) * below(run, 4);
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
        CHECK(run, status == LH_OK, "no memory");
    }
    request->hashes = malloc((op->count + 1) * sizeof *request->hashes);
    for (uint32_t i = 0; i < op->count; i++)
        request->hashes[i] = lh_placement_hash(request->batch.items[i].id);
}

bool send_op(struct run *run, enum kind kind, uint32_t name)
{
    static const enum lh_op ops[] = {
        LH_OP_INDEX_CREATE, LH_OP_INDEX_DROP,       LH_OP_ADD,
        LH_OP_ITEMS_DELETE, LH_OP_INDEX_CHECKPOINT, LH_OP_INDEX_RESHARD};
    if (run->op_count == OPS_MAX)
        return false;
    struct op *op = &run->ops[run->op_count];
    *op = (struct op){.kind = kind, .name = name, .count = 1 + below(run, 8)};
    if (below(run, 10) == 0)
        op->count = 1 + below(run, CHANGES_MAX);
    struct lh_request *request = lh_request_create(ops[kind]);
    request->request_id = run->op_count++;
    snprintf(request->index_name, sizeof request->index_name, "%s", names[name]);
    if (kind == OP_CREATE) {
        snprintf(request->create.name, sizeof request->create.name, "%s", names[name]);
        request->create.dimension = DIMENSION;
        request->create.distance = below(run, 3);
        request->create.m = 2 + below(run, 4);
        request->create.ef_construction = 20;
        request->create.ef_search = 20;
        request->create.shards = below(run, 2) * (1 + below(run, 3));
    }
    if (kind == OP_RESHARD)
        request->create.shards = 1 + below(run, 4);
    if (kind == OP_ADD || kind == OP_DELETE) {
        fill_batch(run, op, request);
        if (run->is_mixed) /* the way of indexes themselves is always commit */
            op->durability = below(run, 3);
    }
    request->durability = op->durability;
    lh_sim_server_send(&run->server, request);
    return true;
}

bool send_random_op(struct run *run)
{
    uint32_t draw = below(run, 100);
    enum kind kind = draw < 16   ? OP_CREATE
                     : draw < 23 ? OP_DROP
                     : draw < 72 ? OP_ADD
                     : draw < 84 ? OP_DELETE
                     : draw < 92 ? OP_RESHARD
                                 : OP_CHECKPOINT;
    /* One index more than the others: so its log is replayed, its files replaced. */
    return send_op(run, kind, below(run, 3) == 0 ? 0 : below(run, NAMES));
}

static void raise_to(uint64_t *least, uint64_t lsn)
{
    if (*least < lsn)
        *least = lsn;
}

void run_answered(struct lh_request *request, void *arg)
{
    struct run *run = arg;
    struct op *op = &run->ops[request->request_id];
    bool was_logged = op->kind != OP_CHECKPOINT && request->record.lsn != 0;
    CHECK(run, !op->is_answered, "op %u was answered twice", (unsigned)request->request_id);
    op->is_answered = true;
    op->status = request->error.status;
    if (was_logged && request->entry.status == LH_OK)
        op->lsn = request->record.lsn;
    else if (was_logged)
        op->tried = request->record.lsn;
    /* A failed index is not in the log any more: to delete it is to remove its file. An index that
     * has the asked number of shards already needs no change. */
    CHECK(run,
          op->lsn != 0 || op->status != LH_OK || op->kind == OP_CHECKPOINT || op->kind == OP_DROP ||
              op->kind == OP_RESHARD,
          "op %u says that it is done, and is not in the log", (unsigned)request->request_id);
    if (op->lsn != 0) {
        raise_to(&run->acknowledged.any, op->lsn);
        if (op->durability <= LH_DURABILITY_INTERVAL)
            raise_to(&run->acknowledged.interval, op->lsn);
        if (op->durability == LH_DURABILITY_COMMIT)
            raise_to(&run->acknowledged.commit, op->lsn);
    }
    lh_request_destroy(request);
}

/* ---- version 1 files ---- */

static void on_written(struct lh_disk_op *op)
{
    *(bool *)op->arg = op->result == 0;
}

static void run_op(struct run *run, struct lh_disk *disk, struct lh_disk_op op)
{
    bool is_done = false;
    op.done = on_written;
    op.arg = &is_done;
    lh_disk_submit(disk, &op);
    for (unsigned i = 0; i < 1000 && !is_done; i++)
        (void)lh_disk_run(disk, false);
    CHECK(run, is_done, "the version 1 file cannot be written");
}

static void v1_bytes(struct run *run, uint32_t name, struct lh_buf *file)
{
    struct state *state = &run->first[name];
    struct lh_buf envelope = LH_BUF_EMPTY;
    double ml = 0.25;
    uint32_t count = 0;
    char text[16];
    state->exists = true;
    lh_buf_printf(&envelope,
                  "{\"version\":1,\"params\":{\"name\":\"%s\",\"dimension\":%u,\"m\":4,"
                  "\"ef_search\":20,\"distance\":\"euclidean\"},\"metadata\":{",
                  names[name], DIMENSION);
    for (uint32_t id = 0; id < IDS; id++) {
        if (below(run, 2) == 0)
            continue;
        state->items[id] = (struct item){.version = (uint32_t)++run->version};
        if (below(run, 2) == 0)
            continue;
        state->items[id].metadata = 2 + below(run, 9);
        metadata_of(state->items[id].metadata, text);
        lh_buf_printf(&envelope, "%s\"id-%u\":%s", count++ == 0 ? "" : ",", id, text);
    }
    lh_buf_printf(&envelope, "}}");
    lhv1_head(file, (uint32_t)envelope.len);
    lh_buf_append(file, envelope.ptr, envelope.len);
    lh_buf_deinit(&envelope);
    go_int(file, 1);
    go_int(file, 4);
    lh_buf_append(file, &ml, sizeof ml);
    go_int(file, 20);
    go_string(file, "euclidean");
    count = 0;
    for (uint32_t id = 0; id < IDS; id++)
        count += state->items[id].version != 0;
    go_int(file, 1);
    go_int(file, count);
    for (uint32_t id = 0; id < IDS; id++) {
        float row[DIMENSION];
        if (state->items[id].version == 0)
            continue;
        id_of(id, text);
        vector_of(id, state->items[id].version, row);
        go_string(file, text);
        go_vector(file, row, DIMENSION);
        go_int(file, 0);
    }
}

void put_v1(struct run *run, struct lh_sim_disk *sim, uint32_t name)
{
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    struct lh_buf bytes = LH_BUF_EMPTY;
    struct lh_lhv1_paths paths;
    int file = -1;
    v1_bytes(run, name, &bytes);
    lh_lhv1_paths(names[name], &paths);
    CHECK(run, lh_disk_make_folder(disk, LH_LHV1_FOLDER) == 0, "no folder");
    CHECK(run, lh_disk_open(disk, paths.file, LH_DISK_OPEN_NEW, &file) == 0, "no file");
    run_op(run, disk,
           (struct lh_disk_op){
               .kind = LH_DISK_WRITE, .file = file, .bytes = bytes.ptr, .len = bytes.len});
    run_op(run, disk, (struct lh_disk_op){.kind = LH_DISK_SYNC, .file = file});
    run_op(run, disk, (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = LH_LHV1_FOLDER});
    run_op(run, disk, (struct lh_disk_op){.kind = LH_DISK_SYNC_FOLDER, .path = "."});
    lh_disk_close(disk, file);
    lh_buf_deinit(&bytes);
}

/* ---- what is there ---- */

#define DIFFERS(...) (snprintf(why, WHY_BYTES, __VA_ARGS__), false)

static bool is_item(const struct lh_index *index, const struct item *item, uint32_t id,
                    char why[WHY_BYTES])
{
    struct lh_found_list list = {0};
    struct lh_found_options options = {
        .with_metadata = true, .with_vector = true, .bytes_max = UINT64_MAX};
    char text[16], metadata[16];
    float row[DIMENSION];
    struct lh_str name = {text, (size_t)id_of(id, text)};
    uint64_t hashed = lh_placement_hash(name);
    struct lh_shard *shard = index->shards[lh_placement_shard(hashed, index->shard_count)].shard;
    enum lh_status status = lh_shard_get(shard, name, hashed, &options, &list);
    size_t len = item->metadata == 0 ? 0 : (size_t)metadata_of(item->metadata, metadata);
    bool is_same = true;
    vector_of(id, item->version, row);
    if ((status == LH_OK) != (item->version != 0))
        is_same = DIFFERS("%s is %s", text, status == LH_OK ? "there" : "missing");
    else if (status != LH_OK)
        is_same = true;
    else if (memcmp(row, list.rows, sizeof row) != 0)
        is_same = DIFFERS("%s has another vector", text);
    else if (list.items[0].has_metadata != (item->metadata != 0) ||
             list.items[0].metadata_len != len ||
             (len > 0 && memcmp(list.text.ptr + list.items[0].text_at + list.items[0].id_len,
                                metadata, len) != 0))
        is_same = DIFFERS("%s has other metadata", text);
    lh_found_list_deinit(&list);
    return is_same;
}

bool is_state(const struct run *run, struct lh_sim_server *server, uint32_t name,
              const struct state *state, char why[WHY_BYTES])
{
    struct lh_index *index = lh_sim_server_index(server, names[name]);
    struct lh_error error = {0};
    uint32_t count = 0, there = 0;
    (void)run;
    if (index != NULL && index->state == LH_STATE_DROPPING)
        index = NULL; /* nobody sees it */
    if ((index != NULL) != state->exists)
        return DIFFERS("%s is %s", names[name], index != NULL ? "there" : "missing");
    if (index == NULL)
        return true;
    if (index->state != LH_STATE_READY)
        return DIFFERS("%s is in state %d: %.90s", names[name], index->state, index->reason);
    for (uint32_t id = 0; id < IDS; id++) {
        char item_why[WHY_BYTES];
        if (!is_item(index, &state->items[id], id, item_why))
            return DIFFERS("%s: %.90s", names[name], item_why);
        count += state->items[id].version != 0;
    }
    for (uint32_t s = 0; s < index->shard_count; s++) {
        there += lh_shard_count(index->shards[s].shard);
        if (lh_shard_validate(index->shards[s].shard, &error) != LH_OK)
            return DIFFERS("%s, shard %u: %.90s", names[name], s, error.text);
    }
    return there == count || DIFFERS("%s has %u items, not %u", names[name], there, count);
}

/* The prefix that makes this name what it is: its state and where it ends. A name that is not there
 * has no LSN to tell: any will do that leaves it out. */
static bool find_prefix(const struct run *run, struct lh_sim_server *server, uint32_t name,
                        uint64_t least, uint64_t most, uint64_t *end, struct state *state,
                        char why[WHY_BYTES])
{
    struct lh_index *index = lh_sim_server_index(server, names[name]);
    if (index != NULL && index->state != LH_STATE_DROPPING) {
        *end = index->lsn;
        state_at(run, name, *end, state);
        return is_state(run, server, name, state, why);
    }
    *end = least;
    state_at(run, name, least, state);
    for (uint32_t i = 0; state->exists && i < run->op_count; i++) {
        const struct op *op = &run->ops[i];
        if (op->name != name || op->lsn < least || op->lsn > most)
            continue;
        *end = op->lsn;
        state_at(run, name, *end, state);
    }
    return !state->exists || DIFFERS("%s is missing", names[name]);
}

void check_prefix(const struct run *run, const char *where, struct lh_sim_server *server,
                  uint64_t least, uint64_t most, struct state states[NAMES])
{
    char why[WHY_BYTES] = "";
    for (uint32_t n = 0; n < NAMES; n++) {
        uint64_t end = 0;
        bool found = find_prefix(run, server, n, least, most, &end, &states[n], why);
        CHECK(run, found, "%s: %s", where, why);
        for (uint32_t i = 0; i < run->op_count; i++) {
            const struct op *op = &run->ops[i];
            CHECK(run, op->name != n || op->lsn <= end || op->lsn > least,
                  "%s: %s: change %u is lost, LSN %" PRIu64 " of %" PRIu64, where, names[n], i,
                  op->lsn, least);
        }
    }
}

void begin_anew(struct run *run, uint64_t lsn, const struct state states[NAMES])
{
    memcpy(run->first, states, sizeof run->first);
    run->op_count = 0;
    run->acknowledged = (struct acknowledged){lsn, lsn, lsn};
}

void check_all(struct run *run, const char *where, struct lh_sim_server *server)
{
    char why[WHY_BYTES] = "";
    for (uint32_t n = 0; n < NAMES; n++) {
        struct state state;
        state_at(run, n, UINT64_MAX, &state);
        bool is_same = is_state(run, server, n, &state, why);
        CHECK(run, is_same, "%s: %s", where, why);
    }
}
