/* The shard worker's thread.
 *
 * Lanes: drain both, run up to 8 searches (a query of several shards counts as that many), then one
 * bulk step (at most 64 vectors or half a millisecond), then one block of a checkpoint, and look
 * again. Searches overtake queued adds; adds never starve; a search never waits for more than one
 * bulk step and one block. A change of a few items does not wait for all of a large one, either: it
 * goes between two steps of that, unless both change the same item. A part is answered by sending
 * it home; its home outlives the workers, so that cannot fail.
 *
 * A checkpoint's blocks do not queue behind adds: it must get on whatever comes, or the log would
 * grow without a bound. While the worker is asked to read, it rests behind each block, because what
 * costs searches is not the filling of blocks but that the kernel's writing takes the processors
 * away from all the threads that a search passes through. */
#include "shards/worker.h"

#include "base/clock.h"
#include "shards/sections.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define SEARCHES_A_TURN 8u
#define BULK_ITEMS      64u      /* most items in one bulk step */
#define BULK_SLICE      8u       /* items between two looks at the clock */
#define BULK_STEP_NS    500000ul /* 0.5 ms, one slice more at most: what a search may wait for */

/* A step looks for small changes, of BULK_SLICE items at most, behind so many parts; it lets so
 * many pass, and compares so many hashes for that: 0.1 ms. */
#define PASSED_PARTS    16u
#define PASSING_PARTS   8u
#define PASSING_COMPARE 65536u

#define READ_AGO_NS 1000000000ul /* a read so long ago is the last for now */

static void send_home(struct lh_worker *worker, struct lh_part *part)
{
    part->shard_count = part->shard ? lh_shard_count(part->shard) : 0;
    part->shard_bytes = part->shard ? lh_shard_bytes(part->shard) : 0;
    lh_counter_sub(&worker->metrics.waiting[part->head.lane], 1);
    enum lh_status status = lh_actor_send(part->home, &part->head);
    assert(status == LH_OK);
    (void)status;
}

static enum lh_status search_one(struct lh_worker *worker, struct lh_part *part)
{
    if (part->deadline_ns != 0 && worker->clock_ns() > part->deadline_ns) {
        lh_counter_add(&worker->metrics.expired, 1);
        return LH_DEADLINE;
    }
    const float *query = part->batch->rows + (size_t)part->done * part->batch->dimension;
    enum lh_status status = lh_shard_search(part->shards, part->shards_here, query, &part->search,
                                            &part->options, &part->found);
    part->ends[part->done] = part->found.count;
    lh_counter_add(&worker->metrics.searches, 1);
    return status;
}

/* Runs queries of a search until it is finished or `budget`, which counts shards searched, is used
 * up. True: finished. */
static bool search_some(struct lh_worker *worker, struct lh_part *part, uint32_t *budget)
{
    while (part->done < part->batch->count && part->status == LH_OK) {
        if (*budget == 0)
            return false;
        part->status = search_one(worker, part);
        part->done++;
        *budget -= *budget < part->shards_here ? *budget : part->shards_here;
    }
    return true;
}

/* The parts that are not searches and do not wait behind adds. */
static void run_express(struct lh_part *part)
{
    switch (part->kind) {
    case LH_PART_GET:
        part->status = lh_shard_get(part->shard, part->batch->items[0].id, part->hashes[0],
                                    &part->options, &part->found);
        break;
    case LH_PART_PAGE:
        part->status =
            lh_shard_page(part->shard, &part->node, part->limit, &part->options, &part->found);
        break;
    default:
        assert(!"a bulk part in the express lane");
    }
}

static void block_back(struct lh_worker *worker, struct lh_block *block)
{
    struct lh_part *part = block->part;
    lh_counter_sub(&worker->metrics.waiting[LH_LANE_EXPRESS], 1);
    if (lh__section_block_back(block))
        lh_msg_queue_put(&worker->streams, &part->head);
}

static void express_turn(struct lh_worker *worker, uint64_t now)
{
    struct lh_msg_queue *queue = &worker->actor.waiting[LH_LANE_EXPRESS];
    uint32_t budget = SEARCHES_A_TURN;
    while (budget > 0 && queue->first != NULL) {
        struct lh_msg *msg = lh_msg_queue_take(queue);
        if (msg->type == LH_MSG_BLOCK) {
            block_back(worker, (struct lh_block *)msg);
            continue;
        }
        struct lh_part *part = (struct lh_part *)msg;
        worker->read_ns = now;
        if (part->kind == LH_PART_SEARCH) {
            if (!search_some(worker, part, &budget)) {
                /* A large batch goes behind the others: it must not hold up single searches. */
                lh_msg_queue_put(queue, &part->head);
                return;
            }
        } else {
            run_express(part);
            budget--;
        }
        send_home(worker, part);
    }
}

static void add_slice(struct lh_worker *worker, struct lh_part *part, uint32_t count)
{
    struct lh_shard_counts counts = {0};
    lh_shard_add(part->shard, part->batch, part->numbers + part->done, part->hashes, count, &counts,
                 &part->room);
    part->counts.added += counts.added;
    part->counts.updated += counts.updated;
    lh_counter_add(&worker->metrics.adds, counts.added);
    lh_counter_add(&worker->metrics.updates, counts.updated);
}

static void delete_slice(struct lh_worker *worker, struct lh_part *part, uint32_t count)
{
    uint32_t deleted = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = part->numbers[part->done + i];
        deleted +=
            lh_shard_delete(part->shard, part->batch->items[number].id, part->hashes[number]);
    }
    part->counts.deleted += deleted;
    lh_counter_add(&worker->metrics.deletes, deleted);
}

/* One slice of a bulk part: how many items it did. */
static uint32_t bulk_slice(struct lh_worker *worker, struct lh_part *part)
{
    uint32_t count = part->count - part->done;
    if (count > BULK_SLICE)
        count = BULK_SLICE;
    switch (part->kind) {
    case LH_PART_ADD:
        add_slice(worker, part, count);
        break;
    case LH_PART_DELETE:
        delete_slice(worker, part, count);
        break;
    case LH_PART_CREATE:
        part->status = lh_shard_create(&part->graph, &part->shard);
        break;
    case LH_PART_DROP:
        lh_shard_destroy(part->shard);
        part->shard = NULL;
        break;
    case LH_PART_RESERVE:
        part->status = lh_shard_reserve(part->shard, part->room);
        break;
    case LH_PART_FREEZE:
        lh__section_freeze(part);
        break;
    case LH_PART_THAW:
        lh__section_thaw(part);
        break;
    default:
        assert(!"an express part in the bulk lane");
    }
    part->done += count;
    return count;
}

/* A part that goes in slices with other work between them. */
static bool run_section(struct lh_worker *worker, struct lh_part *part)
{
    struct lh_msg_queue *queue = &worker->actor.waiting[LH_LANE_BULK];
    if (part->kind != LH_PART_STREAM && part->kind != LH_PART_LOAD)
        return false;
    lh_msg_queue_take(queue);
    if (part->kind == LH_PART_STREAM)
        lh_msg_queue_put(&worker->streams, &part->head);
    else if (lh__section_load(part) == LH__SLICE_MORE)
        lh_msg_queue_put(queue, &part->head);
    else
        send_home(worker, part);
    return true;
}

/* ---- small changes pass large ones ---- */

static bool is_change(const struct lh_part *part)
{
    return part->kind == LH_PART_ADD || part->kind == LH_PART_DELETE;
}

/* Whether what is left of `large` has an item of `small`: the log has them in this order. */
static bool shares_item(const struct lh_part *large, const struct lh_part *small)
{
    if (large->shard != small->shard)
        return false;
    for (uint32_t i = large->done; i < large->count; i++) {
        uint64_t hash = large->hashes[large->numbers[i]];
        for (uint32_t j = 0; j < small->count; j++) {
            if (hash == small->hashes[small->numbers[j]])
                return true;
        }
    }
    return false;
}

/* Whether `part` may go before all that stand before it, which are changes of `items` in all: if it
 * changes others. Room that is asked for is for a change to come, and waits for none. */
static bool may_pass(const struct lh_msg_queue *queue, uint64_t items, const struct lh_part *part,
                     uint64_t *budget)
{
    if (part->kind == LH_PART_RESERVE)
        return true;
    if (!is_change(part) || part->count > BULK_SLICE || items * part->count > *budget)
        return false;
    *budget -= items * part->count;
    for (const struct lh_msg *at = queue->first; at != &part->head; at = at->next) {
        if (shares_item((const struct lh_part *)at, part))
            return false;
    }
    return true;
}

/* Works off small parts behind a large one; how many items they had. */
static uint32_t bulk_pass(struct lh_worker *worker)
{
    struct lh_msg_queue *queue = &worker->actor.waiting[LH_LANE_BULK];
    struct lh_part *before = (struct lh_part *)queue->first;
    uint64_t passed_items = before->count - before->done;
    uint64_t budget = PASSING_COMPARE;
    uint32_t passed_parts = 1;
    uint32_t parts = 0;
    uint32_t items = 0;
    if (passed_items <= BULK_SLICE)
        return 0; /* it is over in this step */
    while (is_change(before) && before->head.next != NULL && parts < PASSING_PARTS &&
           passed_parts <= PASSED_PARTS) {
        struct lh_part *part = (struct lh_part *)before->head.next;
        if (may_pass(queue, passed_items, part, &budget)) {
            lh_msg_queue_take_behind(queue, &before->head);
            items += bulk_slice(worker, part);
            send_home(worker, part);
            parts++;
        } else {
            passed_items += part->count - part->done;
            passed_parts++;
            before = part;
        }
    }
    return items;
}

static void bulk_step(struct lh_worker *worker)
{
    struct lh_msg_queue *queue = &worker->actor.waiting[LH_LANE_BULK];
    if (queue->first == NULL)
        return;
    uint64_t start = worker->clock_ns();
    uint64_t now = start;
    uint32_t items = bulk_pass(worker);
    do {
        struct lh_part *part = (struct lh_part *)queue->first;
        if (run_section(worker, part)) {
            now = worker->clock_ns();
            break; /* files are not urgent: searches and adds first, again */
        }
        items += bulk_slice(worker, part);
        if (part->done == part->count) {
            lh_msg_queue_take(queue);
            send_home(worker, part);
        }
        now = worker->clock_ns();
    } while (queue->first != NULL && items < BULK_ITEMS && now - start < BULK_STEP_NS);
    lh_histogram_observe(&worker->metrics.bulk_step, now - start);
}

/* True: a part of a checkpoint got on. */
static bool stream_step(struct lh_worker *worker)
{
    if (worker->streams.first == NULL)
        return false;
    uint64_t start = worker->clock_ns();
    if (start < worker->rest_until_ns)
        return false;
    struct lh_part *part = (struct lh_part *)lh_msg_queue_take(&worker->streams);
    bool is_read = worker->read_ns != 0 && start - worker->read_ns < READ_AGO_NS;
    uint64_t rest_ns = is_read ? part->section->rest_ns : 0;
    enum lh__slice slice = lh__section_stream(part, &worker->actor);
    uint64_t end = worker->clock_ns();
    if (slice == LH__SLICE_DONE)
        send_home(worker, part);
    else if (slice == LH__SLICE_MORE)
        lh_msg_queue_put(&worker->streams, &part->head);
    worker->rest_until_ns = slice == LH__SLICE_MORE ? end + rest_ns : 0;
    lh_histogram_observe(&worker->metrics.bulk_step, end - start);
    return true;
}

/* Counts what came in since the last look. */
static void count_waiting(struct lh_worker *worker, const size_t before[LH_LANES])
{
    for (int lane = 0; lane < LH_LANES; lane++)
        lh_counter_add(&worker->metrics.waiting[lane],
                       worker->actor.waiting[lane].count - before[lane]);
}

bool lh_worker_turn(struct lh_worker *worker, bool sleep)
{
    struct lh_actor *actor = &worker->actor;
    size_t before[LH_LANES] = {actor->waiting[LH_LANE_EXPRESS].count,
                               actor->waiting[LH_LANE_BULK].count};
    bool streams = worker->streams.first != NULL;
    bool any;
    if (!sleep)
        any = lh_actor_poll(actor);
    else
        any = streams ? lh_actor_wait_until(actor, worker->rest_until_ns) : lh_actor_wait(actor);
    if (!any && !streams)
        return false;
    if (sleep && !any)
        worker->rest_until_ns = 0; /* it is over */
    count_waiting(worker, before);
    uint64_t start = worker->clock_ns();
    express_turn(worker, start);
    bulk_step(worker);
    any |= stream_step(worker);
    lh_counter_add(&worker->metrics.busy_ns, worker->clock_ns() - start);
    return any;
}

static void run(void *self)
{
    while (lh_worker_turn(self, true))
        continue;
}

void lh_worker_init(struct lh_worker *worker, uint32_t number)
{
    *worker = (struct lh_worker){.clock_ns = lh_clock_ns};
    snprintf(worker->name, sizeof worker->name, "shard-%u", number);
    lh_actor_init(&worker->actor, worker->name, run, worker);
}

uint64_t lh_worker_depth(const struct lh_worker *worker, enum lh_lane lane)
{
    return lh_mailbox_depth(&worker->actor.mailbox, lane) +
           lh_counter_get(&worker->metrics.waiting[lane]);
}
