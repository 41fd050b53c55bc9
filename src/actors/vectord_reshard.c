/* Another shard count for an index, while it goes on serving. Runs on vectord's thread.
 *
 * The new shards are made beside the old ones, and the items are copied into them page by page.
 * Before a page is read, changes are held back until none is in flight; once its copy is on its way
 * they go on, into both sets. So a page is never older than what the new set already has, and the
 * copy simply replaces. At the end everything is held back, one record goes to the log, and the new
 * set takes the place of the old. Before that record the index is what it was, after it what it
 * will be; nothing is written in between. */
#include "actors/vectord.h"

#include "ext/batch.h"
#include "shards/placement.h"
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ITEMS 256u        /* copied at once: about 10 ms of one worker at 100 dimensions */
#define PAGE_BYTES (64u << 20) /* of ids, metadata and rows; one more item may go beyond */

enum step {
    STEP_MAKE,   /* the new shards are being made */
    STEP_HOLD,   /* changes are held: waiting for those in flight */
    STEP_PAGE,   /* a page is being read, or its copy waits for room */
    STEP_COPY,   /* the copy is with the new shards: changes go on behind it */
    STEP_LAST,   /* everything is held: waiting for all that is in flight */
    STEP_LOG,    /* the record is on its way into the log */
    STEP_DISCARD /* shards are being destroyed: the old ones, or after a failure the new ones */
};

struct lh_reshard {
    struct lh_request *request; /* who asked; answered at the end */
    enum step step;
    uint32_t count; /* of new shards */
    uint32_t shard; /* the next page is from here */
    uint32_t node;
    bool is_cancelled;
    struct lh_error error;
    struct lh_part *discards;
    uint32_t discards_out;
};

static void advance(struct lh_vectord *vectord, struct lh_index *index);

uint32_t lh__reshard_count(const struct lh_index *index)
{
    return index->reshard->count;
}

/* The first reason counts. */
static void fail(struct lh_reshard *reshard, enum lh_status status, const char *text)
{
    if (reshard->error.status == LH_OK)
        lh_error_set(&reshard->error, status, "the index keeps its shards: %s", text);
}

/* ---- holding back ---- */

static bool is_change(enum lh_op op)
{
    return op == LH_OP_ADD || op == LH_OP_NDJSON || op == LH_OP_ITEM_DROP ||
           op == LH_OP_ITEMS_DELETE;
}

bool lh__reshard_holds(struct lh_index *index, struct lh_request *request)
{
    struct lh_reshard *reshard = index->reshard;
    bool is_held = false;
    if (reshard != NULL && request->op == LH_OP_INDEX_DROP) {
        fail(reshard, LH_INDEX_NOT_FOUND, "it is being deleted");
        is_held = true; /* and goes on as soon as this has ended */
    } else if (reshard != NULL && (reshard->step == STEP_LAST || reshard->step == STEP_LOG)) {
        is_held = request->op != LH_OP_INDEX_GET;
    } else if (reshard != NULL && (reshard->step == STEP_HOLD || reshard->step == STEP_PAGE)) {
        is_held = is_change(request->op);
    }
    if (is_held) {
        lh_msg_queue_put(&index->held, &request->head);
    } else if (is_change(request->op)) {
        request->changing = index;
        request->sets =
            reshard != NULL && reshard->step != STEP_DISCARD && reshard->step != STEP_MAKE
                ? LH_SET_CURRENT | LH_SET_NEW
                : LH_SET_CURRENT;
        index->changes++;
    }
    return is_held;
}

/* Lets what was held go on, in the order in which it came. */
static void release(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_msg_queue held = index->held;
    index->held = (struct lh_msg_queue){0};
    while (held.first != NULL)
        lh__vectord_route(vectord, (struct lh_request *)lh_msg_queue_take(&held));
}

void lh__reshard_change_done(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->changing;
    request->changing = NULL;
    assert(index->changes > 0);
    index->changes--;
    advance(vectord, index);
}

/* ---- pages ---- */

static enum lh_status add_found(struct lh_batch *batch, const struct lh_found_list *list,
                                const struct lh_found *found, uint32_t dimension)
{
    struct lh_batch_item item = {.dimension = dimension};
    char *text = lh_batch_bytes(batch, found->id_len + found->metadata_len);
    if (text == NULL)
        return LH_OUT_OF_MEMORY;
    memcpy(text, list->text.ptr + found->text_at, found->id_len + found->metadata_len);
    item.id = (struct lh_str){text, found->id_len};
    if (found->has_metadata)
        item.metadata = (struct lh_str){text + found->id_len, found->metadata_len};
    return lh_batch_add_row(batch, &item, list->rows + found->row_at, list->count);
}

static enum lh_status fill_copy(struct lh_request *copy, const struct lh_found_list *list,
                                uint32_t dimension)
{
    lh_batch_init(&copy->batch);
    copy->hashes = malloc((list->count + 1) * sizeof *copy->hashes);
    if (copy->hashes == NULL)
        return LH_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < list->count; i++) {
        enum lh_status status = add_found(&copy->batch, list, &list->items[i], dimension);
        if (status != LH_OK)
            return status;
        copy->hashes[i] = lh_placement_hash(copy->batch.items[i].id);
    }
    return LH_OK;
}

static void read_page(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_reshard *reshard = index->reshard;
    struct lh_request *page = lh_request_create(LH_OP_ITEMS_PAGE);
    if (page == NULL || lh__vectord_make_parts(vectord, page, index, 1) != LH_OK) {
        lh_request_destroy(page);
        fail(reshard, LH_OUT_OF_MEMORY, "not enough memory for a page");
        return;
    }
    page->is_copy = true;
    reshard->step = STEP_PAGE;
    struct lh_part *part = &page->parts[0];
    lh__vectord_aim(part, LH_PART_PAGE, index, reshard->shard);
    part->node = reshard->node;
    part->limit = PAGE_ITEMS;
    part->options = (struct lh_found_options){
        .with_metadata = true, .with_vector = true, .bytes_max = PAGE_BYTES};
    lh__vectord_send(vectord, page, part, index->shards[reshard->shard].worker);
}

static void note_place(struct lh_reshard *reshard, const struct lh_part *part)
{
    reshard->node = part->node;
    if (part->node == LH_NO_ITEM) {
        reshard->shard++;
        reshard->node = 0;
    }
}

/* A page is here: its items go to the new set by the way that every add goes. */
static void copy_page(struct lh_vectord *vectord, struct lh_index *index, struct lh_request *page)
{
    struct lh_reshard *reshard = index->reshard;
    struct lh_part *part = &page->parts[0];
    struct lh_request *copy = NULL;
    enum lh_status status = part->status == LH_LIMIT_EXCEEDED ? LH_OK : part->status;
    note_place(reshard, part);
    if (status == LH_OK && part->found.count > 0) {
        copy = lh_request_create(LH_OP_ADD);
        status =
            copy == NULL ? LH_OUT_OF_MEMORY : fill_copy(copy, &part->found, index->graph.dimension);
    }
    if (status != LH_OK) {
        lh_request_destroy(copy);
        copy = NULL;
        fail(reshard, status, "not enough memory for a page");
    }
    lh_request_destroy(page);
    if (copy == NULL) {
        lh__reshard_copy_sent(vectord, index);
        return;
    }
    copy->index = index;
    copy->is_copy = true;
    copy->sets = LH_SET_NEW;
    lh__items_add(vectord, copy, index);
}

void lh__reshard_copy_sent(struct lh_vectord *vectord, struct lh_index *index)
{
    index->reshard->step = STEP_COPY;
    release(vectord, index);
}

void lh__reshard_copy_back(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    struct lh_reshard *reshard = index->reshard;
    if (request->op == LH_OP_ITEMS_PAGE) {
        copy_page(vectord, index, request);
    } else {
        if (request->error.status != LH_OK) { /* no room: what was held is held still */
            fail(reshard, request->error.status, request->error.text);
            lh__reshard_copy_sent(vectord, index);
        }
        lh_request_destroy(request);
    }
    if (reshard->step == STEP_COPY)
        reshard->step = STEP_HOLD;
    if (index->reshard == reshard)
        advance(vectord, index);
}

/* ---- its end ---- */

static void destroy(struct lh_reshard *reshard)
{
    if (reshard != NULL)
        free(reshard->discards);
    free(reshard);
}

static void end(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_reshard *reshard = index->reshard;
    struct lh_request *request = reshard->request;
    index->reshard = NULL;
    if (reshard->error.status != LH_OK)
        request->error = reshard->error;
    else
        lh__index_encode_info(&request->answer, index);
    index->in_flight--;
    destroy(reshard);
    lh__vectord_answer(vectord, request);
    release(vectord, index);
    lh__checkpoint_next(vectord);
}

void lh__reshard_part_back(struct lh_vectord *vectord, struct lh_part *part)
{
    struct lh_index *index = part->index;
    if (--index->reshard->discards_out == 0)
        end(vectord, index);
}

/* Destroys shards that no index has any more: `count` of them from index->shards[first] on. */
static void discard(struct lh_vectord *vectord, struct lh_index *index, uint32_t first,
                    uint32_t count)
{
    struct lh_reshard *reshard = index->reshard;
    reshard->step = STEP_DISCARD;
    for (uint32_t i = 0; i < count; i++) {
        struct lh_index_shard *shard = &index->shards[first + i];
        struct lh_part *part = &reshard->discards[i];
        vectord->bytes -= shard->bytes;
        if (first == 0)
            vectord->items -= shard->count;
        *part = (struct lh_part){.head = {.type = LH_MSG_PART, .lane = LH_LANE_BULK},
                                 .kind = LH_PART_DROP,
                                 .shard = shard->shard,
                                 .home = &vectord->actor,
                                 .index = index,
                                 .is_discard = true};
        enum lh_status status = lh_actor_send(&shard->worker->actor, &part->head);
        assert(status == LH_OK); /* workers stop after vectord */
        (void)status;
    }
    reshard->discards_out = count;
}

static void give_up(struct lh_vectord *vectord, struct lh_index *index)
{
    discard(vectord, index, index->shard_count, index->reshard->count);
}

/* The record is in the log: the new set is the index. */
static void take_over(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_reshard *reshard = index->reshard;
    uint32_t old = index->shard_count;
    uint32_t count = reshard->count;
    discard(vectord, index, 0, old);
    memmove(index->shards, index->shards + old, count * sizeof *index->shards);
    index->shard_count = count;
    for (uint32_t i = 0; i < count; i++)
        vectord->items += index->shards[i].count;
    index->wants_checkpoint = true; /* so that a start need not do this again */
    release(vectord, index);
}

void lh__reshard_logged(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    if (request->entry.status == LH_OK) {
        take_over(vectord, index);
        return;
    }
    fail(index->reshard, request->entry.status, request->error.text);
    give_up(vectord, index);
}

static void log_it(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_request *request = index->reshard->request;
    index->reshard->step = STEP_LOG;
    request->index = index;
    if (request->is_replay) { /* it comes from the log */
        lh__vectord_note(vectord, request);
        take_over(vectord, index);
        return;
    }
    lh__vectord_log(vectord, request, LH_RECORD_RESHARD);
}

/* No change is in flight; at start, one of the log's records is this reshard itself. */
static bool is_still(const struct lh_index *index)
{
    return index->changes == 0 && index->replays <= index->reshard->request->is_replay;
}

/* Goes on when what it waits for is there. */
static void advance(struct lh_vectord *vectord, struct lh_index *index)
{
    struct lh_reshard *reshard = index->reshard;
    if (reshard == NULL || (reshard->step != STEP_HOLD && reshard->step != STEP_LAST))
        return;
    if (reshard->is_cancelled)
        fail(reshard, LH_STOPPING, "the server stops");
    if (reshard->step == STEP_HOLD && is_still(index) && reshard->error.status == LH_OK &&
        reshard->shard < index->shard_count)
        read_page(vectord, index);
    /* Not while a checkpoint takes its time: searches are held, too, from here on. */
    if (reshard->step == STEP_HOLD && is_still(index) && vectord->checkpoint.index != index &&
        (reshard->error.status != LH_OK || reshard->shard == index->shard_count))
        reshard->step = STEP_LAST;
    /* One is this reshard's own. */
    if (reshard->step != STEP_LAST || index->in_flight > 1)
        return;
    if (reshard->error.status != LH_OK)
        give_up(vectord, index);
    else
        log_it(vectord, index);
}

bool lh__reshard_is_ending(const struct lh_index *index)
{
    return index->reshard != NULL && index->reshard->step >= STEP_LAST;
}

void lh__reshard_tick(struct lh_vectord *vectord, struct lh_index *index, bool is_stop)
{
    if (index->reshard == NULL)
        return;
    index->reshard->is_cancelled |= is_stop;
    advance(vectord, index);
}

/* ---- its begin ---- */

/* Room for `count` more shards in the index, and what this needs to its end. */
static enum lh_status make_room(struct lh_index *index, struct lh_reshard **out, uint32_t count)
{
    uint32_t all = index->shard_count + count;
    struct lh_index_shard *shards = realloc(index->shards, all * sizeof *shards);
    if (shards == NULL)
        return LH_OUT_OF_MEMORY;
    index->shards = shards;
    memset(shards + index->shard_count, 0, count * sizeof *shards);
    struct lh_reshard *reshard = calloc(1, sizeof *reshard);
    if (reshard == NULL)
        return LH_OUT_OF_MEMORY;
    reshard->discards = calloc(all, sizeof *reshard->discards);
    if (reshard->discards == NULL) {
        destroy(reshard);
        return LH_OUT_OF_MEMORY;
    }
    *out = reshard;
    return LH_OK;
}

void lh__reshard_begin(struct lh_vectord *vectord, struct lh_request *request,
                       struct lh_index *index)
{
    uint32_t count = request->create.shards;
    struct lh_reshard *reshard = NULL;
    if (count == index->shard_count) {
        if (request->is_replay) /* a version 1 file is loaded into as many as are configured */
            lh__vectord_note(vectord, request);
        lh__index_info(vectord, request, index);
        return;
    }
    if (index->reshard != NULL) {
        lh__vectord_fail(vectord, request, LH_OVERLOADED,
                         "index \"%s\" is being resharded already: try again", index->name);
        return;
    }
    if (make_room(index, &reshard, count) != LH_OK ||
        lh__vectord_make_parts(vectord, request, index, count) != LH_OK) {
        destroy(reshard);
        lh__vectord_fail(vectord, request, LH_OUT_OF_MEMORY, "not enough memory for %u shards",
                         count);
        return;
    }
    reshard->request = request;
    reshard->count = count;
    index->reshard = reshard;
    index->in_flight++;
    request->stage = LH_STAGE_GATHER;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = index->shard_count + i;
        index->shards[at].worker = &vectord->options.workers[i % vectord->options.worker_count];
        lh__vectord_aim(&request->parts[i], LH_PART_CREATE, index, at);
        lh__vectord_send(vectord, request, &request->parts[i], index->shards[at].worker);
    }
}

/* The new shards are made, or could not be. */
void lh__reshard_made(struct lh_vectord *vectord, struct lh_request *request)
{
    struct lh_index *index = request->index;
    for (uint32_t i = 0; i < request->part_count; i++) {
        if (request->parts[i].status != LH_OK)
            fail(index->reshard, request->parts[i].status, "not enough memory for more shards");
    }
    index->reshard->step = STEP_HOLD;
    advance(vectord, index);
}
