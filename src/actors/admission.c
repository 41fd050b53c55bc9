/* Credits and turns. Loop thread.
 *
 * Invariants: a caller is in a lane's ring as long as something of it waits there; what is left and
 * what callers hold add up to all credits. */
#include "actors/admission.h"

#include <assert.h>

#define WAITING_A_CREDIT 8u           /* so many may wait for each: about a second's work */
#define PERIOD_NS        500000000ull /* who has asked within one or two of these counts */

/* Of all credits that several callers share: enough to keep the shards busy, and what is in flight
 * is what the next request waits for. */
#define SHARED_PART 4u

/* Bytes of a body that stand for one more credit: as much work as a small request. A search's
 * vectors are looked for one by one; an add's go in by batches. */
static const uint32_t bytes_a_credit[LH_LANES] = {[LH_LANE_EXPRESS] = 2048, [LH_LANE_BULK] = 16384};

void lh_admission_init(struct lh_admission *admission, uint32_t express, uint32_t bulk)
{
    *admission = (struct lh_admission){0};
    assert(express > 0 && bulk > 0);
    admission->lanes[LH_LANE_EXPRESS].all = admission->lanes[LH_LANE_EXPRESS].left = express;
    admission->lanes[LH_LANE_BULK].all = admission->lanes[LH_LANE_BULK].left = bulk;
    for (int lane = 0; lane < LH_LANES; lane++)
        admission->lanes[lane].period = 1; /* 0 is of no caller */
}

enum lh_lane lh_admission_lane(const struct lh_request *request)
{
    switch (request->op) {
    case LH_OP_SEARCH:
    case LH_OP_ITEM_GET:
    case LH_OP_ITEMS_PAGE:
        return LH_LANE_EXPRESS;
    default:
        return LH_LANE_BULK;
    }
}

/* ---- the ring of callers ---- */

static void ring_append(struct lh_admission_lane *lane, enum lh_lane number,
                        struct lh_caller *caller)
{
    caller->lines[number].next = NULL;
    if (lane->first == NULL)
        lane->first = caller;
    else
        lane->last->lines[number].next = caller;
    lane->last = caller;
}

static struct lh_caller *ring_take(struct lh_admission_lane *lane, enum lh_lane number)
{
    struct lh_caller *caller = lane->first;
    lane->first = caller->lines[number].next;
    return caller;
}

/* ---- shares ---- */

static void count_caller(struct lh_admission_lane *lane, struct lh_caller_line *line,
                         uint64_t now_ns)
{
    if (now_ns - lane->period_began_ns >= PERIOD_NS) {
        bool is_next = now_ns - lane->period_began_ns < 2 * PERIOD_NS;
        lane->callers_before = is_next ? lane->callers : 0;
        lane->callers = 0;
        lane->period++;
        lane->period_began_ns = now_ns;
    }
    lane->callers += line->period != lane->period;
    line->period = lane->period;
}

static uint32_t active(const struct lh_admission_lane *lane)
{
    uint32_t most = lane->callers > lane->callers_before ? lane->callers : lane->callers_before;
    return most > 0 ? most : 1;
}

static uint32_t credits_of(const struct lh_admission_lane *lane, const struct lh_request *request)
{
    size_t more = request->body.len / bytes_a_credit[lh_admission_lane(request)];
    return more < lane->all ? 1 + (uint32_t)more : lane->all;
}

/* Whether the line's next request stays within its caller's share; one always does. */
static bool is_within_share(const struct lh_admission_lane *lane, const struct lh_caller_line *line,
                            uint32_t credits)
{
    uint32_t callers = active(lane);
    uint32_t shared = callers == 1 ? lane->all : lane->all / SHARED_PART;
    return line->held == 0 || line->held + credits <= shared / callers;
}

/* ---- in and out ---- */

bool lh_admission_put(struct lh_admission *admission, struct lh_request *request, uint64_t now_ns)
{
    enum lh_lane number = lh_admission_lane(request);
    struct lh_admission_lane *lane = &admission->lanes[number];
    struct lh_caller_line *line = &request->caller->lines[number];
    count_caller(lane, line, now_ns);
    /* A stream has been let in already: it waits, however many do. */
    if (line->waiting.count >= (size_t)lane->all * WAITING_A_CREDIT / active(lane) &&
        line->waiting.count > 0 && request->stream == NULL)
        return false;
    if (line->waiting.count == 0)
        ring_append(lane, number, request->caller);
    lh_msg_queue_put(&line->waiting, &request->head);
    lane->waiting++;
    return true;
}

struct lh_request *lh_admission_take(struct lh_admission *admission, enum lh_lane number)
{
    struct lh_admission_lane *lane = &admission->lanes[number];
    struct lh_caller *tried = NULL; /* the first that had to wait on */
    while (lane->first != NULL && lane->first != tried) {
        struct lh_caller *caller = lane->first;
        struct lh_caller_line *line = &caller->lines[number];
        uint32_t credits = credits_of(lane, (struct lh_request *)line->waiting.first);
        bool may_go = is_within_share(lane, line, credits);
        if (may_go && credits > lane->left)
            return NULL; /* it is its turn: small ones behind it would never let it go */
        ring_take(lane, number);
        if (!may_go) {
            tried = tried != NULL ? tried : caller;
            ring_append(lane, number, caller);
            continue;
        }
        struct lh_request *request = (struct lh_request *)lh_msg_queue_take(&line->waiting);
        lane->waiting--;
        if (line->waiting.count > 0)
            ring_append(lane, number, caller);
        request->credits = credits;
        line->held += credits;
        lane->left -= credits;
        return request;
    }
    return NULL;
}

void lh_admission_give(struct lh_admission *admission, struct lh_request *request)
{
    enum lh_lane number = lh_admission_lane(request);
    struct lh_admission_lane *lane = &admission->lanes[number];
    struct lh_caller_line *line = &request->caller->lines[number];
    assert(line->held >= request->credits && lane->left + request->credits <= lane->all);
    line->held -= request->credits;
    lane->left += request->credits;
    request->credits = 0;
}

struct lh_request *lh_admission_expired(struct lh_admission *admission, uint64_t now_ns)
{
    struct lh_admission_lane *lane = &admission->lanes[LH_LANE_EXPRESS];
    struct lh_caller *before = NULL;
    for (struct lh_caller *at = lane->first; at != NULL;
         before = at, at = at->lines[LH_LANE_EXPRESS].next) {
        struct lh_caller_line *line = &at->lines[LH_LANE_EXPRESS];
        struct lh_request *request = (struct lh_request *)line->waiting.first;
        if (request->deadline_ns == 0 || request->deadline_ns > now_ns)
            continue; /* the oldest of a line stands first */
        lh_msg_queue_take(&line->waiting);
        lane->waiting--;
        if (line->waiting.count == 0) {
            *(before == NULL ? &lane->first : &before->lines[LH_LANE_EXPRESS].next) = line->next;
            lane->last = lane->last == at ? before : lane->last;
        }
        return request;
    }
    return NULL;
}
