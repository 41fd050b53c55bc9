/* Items: adds, deletes, searches, pages. Runs on vectord's thread.
 *
 * An add is all or nothing over its shards: before it goes to the log, every shard that it touches
 * has promised the room that it may need. Shards promise ahead of need, so that most adds find
 * enough promised and go straight through. What the log has taken is sent to the shards in the
 * order of the log, and cannot fail any more. */
#include "actors/vectord.h"

#include "shards/placement.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Promised beyond need, so that one promise serves many adds: an eighth of what the shard holds,
 * between these, as vectors and as bytes of ids and metadata each. */
#define ROOM_AHEAD_MIN  64u
#define ROOM_AHEAD_MAX  4096u
#define ROOM_AHEAD_ITEM 64u

/* ---- what depends on the index ---- */

/* Where a bad vector stands: "items[3].vector", "vectors[3]", "vector" or "line 12: vector". */
static void name_place(const struct lh_request *request, uint32_t bad, char *place, size_t size)
{
    if (request->op == LH_OP_NDJSON)
        snprintf(place, size, "line %" PRIu64 ": vector",
                 request->piece.line + request->batch.items[bad].line);
    else if (request->op != LH_OP_SEARCH)
        snprintf(place, size, "items[%u].vector", bad);
    else if (request->search.is_batch)
        snprintf(place, size, "vectors[%u]", bad);
    else
        snprintf(place, size, "vector");
}

/* Finds the first vector that this index cannot take and describes it; LH_NO_ITEM: none. */
static uint32_t find_bad_vector(const struct lh_request *request, const struct lh_index *index,
                                struct lh_error *error)
{
    const struct lh_batch *batch = &request->batch;
    char place[48];
    uint32_t odd = batch->dimension != index->graph.dimension ? 0 : batch->odd_item;
    uint32_t zero = index->graph.distance == LH_DISTANCE_COSINE ? batch->zero_item : LH_NO_ITEM;
    uint32_t bad = odd < zero ? odd : zero;
    if (batch->count == 0 || bad == LH_NO_ITEM)
        return LH_NO_ITEM;
    name_place(request, bad, place, sizeof place);
    if (bad == odd)
        lh_error_set(error, LH_DIMENSION_MISMATCH, "%s: %u numbers, the index has %u dimensions",
                     place, batch->items[bad].dimension, index->graph.dimension);
    else
        lh_error_set(error, LH_INVALID_ARGUMENT,
                     "%s: all zeros, which has no direction under cosine", place);
    return bad;
}

/* True when the request can go on. A stream applies what stands before a bad line, then stops. */
static bool check_vectors(struct lh_vectord *vectord, struct lh_request *request,
                          const struct lh_index *index)
{
    uint32_t bad = find_bad_vector(request, index, &request->late_error);
    if (bad == LH_NO_ITEM)
        return true;
    if (request->op == LH_OP_NDJSON && bad > 0) {
        request->batch.count = bad;
        return true;
    }
    request->error = request->late_error;
    lh__vectord_answer(vectord, request);
    return false;
}

/* ---- adds ---- */

/* What an add needs of one shard, kept in its part until it is sent. */
static struct lh_shard_room need_of(const struct lh_request *request, const struct lh_part *part)
{
    struct lh_shard_room need = {.nodes = part->count};
    for (uint32_t i = 0; i < part->count; i++)
        need.bytes += lh_shard_item_bytes(&request->batch.items[part->numbers[i]]);
    return need;
}

/* One set of shards: index->shards[first] and those behind it. */
struct set {
    uint32_t first;
    uint32_t count;
};

static uint32_t sets_of(const struct lh_request *request, const struct lh_index *index,
                        struct set sets[2])
{
    uint32_t count = 0;
    if (request->sets != LH_SET_NEW)
        sets[count++] = (struct set){0, index->shard_count};
    if (request->sets & LH_SET_NEW)
        sets[count++] = (struct set){index->shard_count, lh__reshard_count(index)};
    return count;
}

/* How many items each shard of a set gets, and how many shards get some. */
static uint32_t count_items(const struct lh_request *request, struct set set,
                            uint32_t counts[LH_SHARDS_MAX])
{
    uint32_t some = 0;
    memset(counts, 0, set.count * sizeof *counts);
    for (uint32_t i = 0; i < request->batch.count; i++)
        some += counts[lh_placement_shard(request->hashes[i], set.count)]++ == 0;
    return some;
}

/* Groups the item numbers by shard, in `numbers`, and fills a part for each that gets some. */
static struct lh_part *group_items(const struct lh_request *request, const struct lh_index *index,
                                   struct set set, uint32_t *numbers, struct lh_part *part)
{
    uint32_t counts[LH_SHARDS_MAX];
    uint32_t starts[LH_SHARDS_MAX];
    uint32_t start = 0;
    count_items(request, set, counts);
    for (uint32_t s = 0; s < set.count; s++) {
        starts[s] = start;
        start += counts[s];
        if (counts[s] == 0)
            continue;
        lh__vectord_aim(part, LH_PART_ADD, index, set.first + s);
        part->numbers = numbers + starts[s];
        part->count = counts[s];
        part++;
    }
    for (uint32_t i = 0; i < request->batch.count; i++)
        numbers[starts[lh_placement_shard(request->hashes[i], set.count)]++] = i;
    return part;
}

/* Makes a part for each shard that gets some of the items. */
static enum lh_status scatter(struct lh_vectord *vectord, struct lh_request *request,
                              struct lh_index *index)
{
    uint32_t counts[LH_SHARDS_MAX];
    struct set sets[2];
    uint32_t set_count = sets_of(request, index, sets);
    uint32_t items = request->batch.count;
    uint32_t parts = 0;
    for (uint32_t i = 0; i < set_count; i++)
        parts += count_items(request, sets[i], counts);
    request->numbers = malloc((size_t)set_count * items * sizeof *request->numbers);
    if (request->numbers == NULL || lh__vectord_make_parts(vectord, request, index, parts) != LH_OK)
        return LH_OUT_OF_MEMORY;
    struct lh_part *part = request->parts;
    for (uint32_t i = 0; i < set_count; i++)
        part = group_items(request, index, sets[i], request->numbers + (size_t)i * items, part);
    return LH_OK;
}

static void send_all(struct lh_vectord *vectord, struct lh_request *request)
{
    request->stage = LH_STAGE_GATHER;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct lh_part *part = &request->parts[i];
        lh__vectord_send(vectord, request, part, request->index->shards[part->number].worker);
    }
}

/* Its shards have room: to the log, or, when it comes from there, on to the shards. */
static void log_change(struct lh_vectord *vectord, struct lh_request *request,
                       enum lh_record_type type)
{
    for (uint32_t i = 0; i < request->part_count; i++) {
        request->parts[i].kind = type == LH_RECORD_ADD ? LH_PART_ADD : LH_PART_DELETE;
        request->parts[i].status = LH_OK;
        request->parts[i].room = (struct lh_shard_room){0};
    }
    if (request->is_copy) {
        send_all(vectord, request);
        lh__reshard_copy_sent(vectord, request->index);
        return;
    }
    if (!request->is_replay) {
        lh__vectord_log(vectord, request, type);
        return;
    }
    if (request->record.lsn != 0) /* 0: from a version 1 file */
        lh__vectord_note(vectord, request);
    send_all(vectord, request);
    lh__recover_sent(vectord, request);
}

/* How much of `need` a balance does not cover, after `need` was taken off it. */
static uint64_t missing(int64_t balance, uint64_t need)
{
    if (balance >= 0)
        return 0;
    return (uint64_t)-balance < need ? (uint64_t)-balance : need;
}

/* What the vectors of a promise will take, roughly: rows, codes, links. */
static uint64_t estimate(const struct lh_index *index, struct lh_shard_room room)
{
    return room.nodes * (index->graph.dimension * 5ull + index->graph.m * 8ull + 64) + room.bytes;
}

static uint64_t room_ahead(const struct lh_index_shard *shard)
{
    uint64_t ahead = shard->count / 8;
    if (ahead < ROOM_AHEAD_MIN)
        return ROOM_AHEAD_MIN;
    return ahead < ROOM_AHEAD_MAX ? ahead : ROOM_AHEAD_MAX;
}

/* Takes the add's need off each shard's balance. True when all of it was promised already. */
static bool take_room(struct lh_request *request, uint64_t *asked_bytes)
{
    struct lh_index *index = request->index;
    bool is_there = true;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct lh_part *part = &request->parts[i];
        struct lh_index_shard *shard = &index->shards[part->number];
        struct lh_shard_room need = need_of(request, part);
        shard->room_nodes -= (int64_t)need.nodes;
        shard->room_bytes -= (int64_t)need.bytes;
        part->room.nodes = missing(shard->room_nodes, need.nodes);
        part->room.bytes = missing(shard->room_bytes, need.bytes);
        if (part->room.nodes == 0 && part->room.bytes == 0)
            continue;
        is_there = false;
        uint64_t ahead = room_ahead(shard);
        part->room.nodes += ahead;
        part->room.bytes += ahead * ROOM_AHEAD_ITEM;
        *asked_bytes += estimate(index, part->room);
    }
    return is_there;
}

static void give_room_back(struct lh_request *request)
{
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct lh_index_shard *shard = &request->index->shards[request->parts[i].number];
        struct lh_shard_room need = need_of(request, &request->parts[i]);
        shard->room_nodes += (int64_t)need.nodes;
        shard->room_bytes += (int64_t)need.bytes;
    }
}

/* Whether a stream's next piece meets the index that its first one met. */
static bool is_same_index(struct lh_request *request, const struct lh_index *index)
{
    char *uuid = request->piece.index_uuid;
    if (request->op != LH_OP_NDJSON)
        return true;
    if (uuid[0] == '\0')
        memcpy(uuid, index->uuid, sizeof index->uuid);
    return strcmp(uuid, index->uuid) == 0;
}

void lh__items_logged(struct lh_vectord *vectord, struct lh_request *request)
{
    if (request->entry.status == LH_OK) {
        send_all(vectord, request);
        return;
    }
    if (request->record.type == LH_RECORD_ADD)
        give_room_back(request);
    lh__vectord_answer(vectord, request);
}

void lh__items_add(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    uint64_t limit = vectord->options.memory_bytes_max;
    if (!is_same_index(request, index)) {
        lh__vectord_fail(vectord, request, LH_INDEX_NOT_FOUND,
                         "index \"%s\" was deleted while the stream went on", index->name);
        return;
    }
    if (!check_vectors(vectord, request, index))
        return;
    if (request->batch.count == 0) {
        lh__items_gathered(vectord, request);
        return;
    }
    if (scatter(vectord, request, index) != LH_OK) {
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for the batch");
        return;
    }
    request->asked_bytes = 0;
    if (take_room(request, &request->asked_bytes)) {
        log_change(vectord, request, LH_RECORD_ADD);
        return;
    }
    /* What was acknowledged once is taken in again, whatever the limit says now. */
    if (limit != 0 && !request->is_replay &&
        vectord->bytes + vectord->asked_bytes + request->asked_bytes > limit) {
        give_room_back(request);
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY,
                         "no room for %u more items: vectors hold %" PRIu64
                         " bytes, server.memory_max is %" PRIu64,
                         request->batch.count, vectord->bytes, limit);
        return;
    }
    vectord->asked_bytes += request->asked_bytes;
    request->stage = LH_STAGE_RESERVE;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct lh_part *part = &request->parts[i];
        if (part->room.nodes == 0 && part->room.bytes == 0)
            continue;
        part->kind = LH_PART_RESERVE;
        part->done = part->count; /* nothing to apply yet */
        lh__vectord_send(vectord, request, part, index->shards[part->number].worker);
    }
}

void lh__items_reserved(struct lh_vectord *vectord, struct lh_request *request)
{
    bool is_there = true;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct lh_part *part = &request->parts[i];
        if (part->kind == LH_PART_RESERVE && part->status != LH_OK)
            is_there = false;
        part->done = 0;
    }
    vectord->asked_bytes -= request->asked_bytes;
    if (is_there && request->index->state != LH_STATE_DROPPING) {
        log_change(vectord, request, LH_RECORD_ADD);
        return;
    }
    give_room_back(request);
    if (is_there) {
        lh__vectord_fail(vectord, request, LH_INDEX_NOT_FOUND, "index \"%s\" has been deleted",
                         request->index->name);
        return;
    }
    lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for %u more items",
                     request->batch.count);
}

/* ---- deletes ---- */

/* Makes the batch of one id for an item route. */
static enum lh_status batch_of_id(struct lh_request *request)
{
    struct lh_str id = lh_buf_str(&request->text);
    enum lh_status status = lh_batch_of_id(&request->batch, id);
    if (status != LH_OK)
        return status;
    request->hashes = malloc(sizeof *request->hashes);
    if (request->hashes == NULL)
        return LH_OUT_OF_MEMORY;
    request->hashes[0] = lh_placement_hash(id);
    return LH_OK;
}

void lh__items_delete(struct lh_vectord *vectord, struct lh_request *request,
                      struct lh_index *index)
{
    enum lh_status status = LH_OK;
    if (request->op == LH_OP_ITEM_DROP)
        status = batch_of_id(request);
    if (status == LH_OK && request->batch.count == 0) {
        lh__items_gathered(vectord, request);
        return;
    }
    if (status == LH_OK)
        status = scatter(vectord, request, index);
    if (status != LH_OK) {
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for the ids");
        return;
    }
    log_change(vectord, request, LH_RECORD_DELETE);
}

/* ---- searches ---- */

/* The shards that live on the part's worker: every `workers`-th, its own first. */
static enum lh_status gather_shards(struct lh_part *part, const struct lh_index *index,
                                    uint32_t workers)
{
    part->shards = calloc(index->shard_count / workers + 1, sizeof *part->shards);
    if (part->shards == NULL)
        return LH_OUT_OF_MEMORY;
    for (uint32_t s = part->number; s < index->shard_count; s += workers)
        part->shards[part->shards_here++] = index->shards[s].shard;
    return LH_OK;
}

void lh__items_search(struct lh_vectord *vectord, struct lh_request *request,
                      struct lh_index *index)
{
    const struct lh_search_request *search = &request->search;
    uint32_t ef = search->ef ? search->ef : index->ef_search;
    if (!check_vectors(vectord, request, index))
        return;
    if ((uint64_t)request->batch.count * search->k > LH_BATCH_RESULTS_MAX) {
        lh__vectord_fail(vectord, request, LH_LIMIT_EXCEEDED,
                         "%u vectors times k = %u: an answer holds at most %u results",
                         request->batch.count, search->k, LH_BATCH_RESULTS_MAX);
        return;
    }
    uint32_t workers = vectord->options.worker_count;
    uint32_t parts = workers < index->shard_count ? workers : index->shard_count;
    enum lh_status status = lh__vectord_make_parts(vectord, request, index, parts);
    for (uint32_t i = 0; i < parts && status == LH_OK; i++) {
        struct lh_part *part = &request->parts[i];
        lh__vectord_aim(part, LH_PART_SEARCH, index, i);
        status = gather_shards(part, index, workers);
        part->search = lh_placement_search(search->k, ef, index->shard_count, part->shards_here);
        part->options.with_metadata = search->with_metadata;
        part->options.with_vector = search->with_vector;
        part->ends = calloc(request->batch.count + 1, sizeof *part->ends);
        if (part->ends == NULL)
            status = LH_OUT_OF_MEMORY;
    }
    if (status != LH_OK) {
        lh__vectord_fail(vectord, request, status, "not enough memory for the search");
        return;
    }
    send_all(vectord, request);
}

void lh__items_get(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    enum lh_status status = batch_of_id(request);
    if (status == LH_OK)
        status = lh__vectord_make_parts(vectord, request, index, 1);
    if (status != LH_OK) {
        lh__vectord_fail(vectord, request, status, "not enough memory for the item");
        return;
    }
    struct lh_part *part = &request->parts[0];
    lh__vectord_aim(part, LH_PART_GET, index,
                    lh_placement_shard(request->hashes[0], index->shard_count));
    part->options.with_metadata = true;
    part->options.with_vector = true;
    send_all(vectord, request);
}

/* ---- pages ---- */

/* A cursor is "<first 8 of the uuid>-<shards>-<shard>-<node>" in hexadecimal: it means nothing to
 * an index of the same name that was made later, nor to one that was resharded. */
static bool parse_cursor(struct lh_request *request, const struct lh_index *index)
{
    char text[64];
    char uuid[9];
    unsigned shards;
    unsigned shard;
    unsigned node;
    int end = 0;
    if (request->text.len == 0)
        return true;
    if (request->text.len >= sizeof text)
        return false;
    memcpy(text, request->text.ptr, request->text.len);
    text[request->text.len] = '\0';
    if (sscanf(text, "%8[0-9a-f]-%3x-%3x-%8x%n", uuid, &shards, &shard, &node, &end) != 4 ||
        text[end] != '\0')
        return false;
    request->page.shard = shard;
    request->page.node = node;
    return strncmp(uuid, index->uuid, 8) == 0 && shards == index->shard_count &&
           shard < index->shard_count;
}

/* Asks the next shard for what the page still lacks. */
static void send_page(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    struct lh_part *part = &request->parts[request->page.shard];
    lh__vectord_aim(part, LH_PART_PAGE, index, request->page.shard);
    part->node = request->page.node;
    part->limit = request->page.limit;
    part->options.bytes_max = LH_ANSWER_BYTES_MAX; /* one shard at a time */
    part->options.with_metadata = true;
    part->options.with_vector = request->with_vector;
    lh__vectord_send(vectord, request, part, index->shards[part->number].worker);
}

void lh__items_page(struct lh_vectord *vectord, struct lh_request *request, struct lh_index *index)
{
    if (!parse_cursor(request, index)) {
        lh__vectord_fail(vectord, request, LH_INVALID_CURSOR,
                         "cursor: not one that index \"%s\" gave out", index->name);
        return;
    }
    if (lh__vectord_make_parts(vectord, request, index, index->shard_count) != LH_OK) {
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for the page");
        return;
    }
    request->stage = LH_STAGE_GATHER;
    send_page(vectord, request);
}

/* One shard's share of a page is back: go on with the next shard, or finish. */
static void page_gathered(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    struct lh_part *part = &request->parts[request->page.shard];
    request->page.limit -= part->found.count;
    request->page.node = part->node;
    if (part->node == LH_NO_ITEM) {
        request->page.shard++;
        request->page.node = 0;
        if (request->page.shard < index->shard_count && request->page.limit > 0) {
            send_page(vectord, request);
            return;
        }
    }
    request->text.len = 0;
    if (request->page.shard < index->shard_count)
        lh_buf_printf(&request->text, "%.8s-%x-%x-%x", index->uuid, index->shard_count,
                      request->page.shard, request->page.node);
    lh__vectord_encode(vectord, request);
}

/* ---- answers ---- */

static bool any_part_failed(struct lh_vectord *vectord, struct lh_request *request)
{
    for (uint32_t i = 0; i < request->part_count; i++) {
        enum lh_status status = request->parts[i].status;
        if (status == LH_OK)
            continue;
        if (status == LH_LIMIT_EXCEEDED)
            lh__vectord_fail(vectord, request, status,
                             "the answer is larger than %u bytes: ask for fewer items, or for no "
                             "metadata or vectors",
                             LH_ANSWER_BYTES_MAX);
        else
            lh__vectord_fail(vectord, request, status, "%s", lh_status_text(status));
        return true;
    }
    return false;
}

static void answer_counts(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_buf *out = &request->answer;
    if (request->op == LH_OP_ITEM_DROP) {
        request->http_status = 204;
        if (request->counts.deleted == 0) {
            lh__vectord_fail(vectord, request, LH_ITEM_NOT_FOUND, "%s",
                             lh_status_text(LH_ITEM_NOT_FOUND));
            return;
        }
    } else if (request->op == LH_OP_ITEMS_DELETE) {
        lh_buf_printf(out, "{\"deleted\":%u}", request->counts.deleted);
    } else if (request->op == LH_OP_NDJSON) {
        request->error = request->late_error;
    } else {
        lh_buf_printf(out, "{\"added\":%u,\"updated\":%u}", request->counts.added,
                      request->counts.updated);
    }
    lh__vectord_answer(vectord, request);
}

void lh__items_gathered(struct lh_vectord *vectord, struct lh_request *request)
{
    if (any_part_failed(vectord, request))
        return;
    switch (request->op) {
    case LH_OP_SEARCH:
    case LH_OP_ITEM_GET:
        lh__vectord_encode(vectord, request);
        break;
    case LH_OP_ITEMS_PAGE:
        page_gathered(vectord, request);
        break;
    default:
        answer_counts(vectord, request);
    }
}
