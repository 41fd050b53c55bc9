/* The table of callers: chained hashing over a fixed array, with a list in the order of use. Loop
 * thread. */
#include "actors/callers.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

#define NONE      UINT32_MAX
#define SECOND_NS 1000000000ull

_Static_assert((LH_CALLERS_MAX & (LH_CALLERS_MAX - 1)) == 0, "a hash is masked");
_Static_assert(LH_CALLERS_MAX < 0xffff, "an entry's number and one fit 16 bits");

enum lh_status lh_callers_init(struct lh_callers *callers)
{
    *callers = (struct lh_callers){.oldest = NONE, .youngest = NONE};
    callers->entries = calloc(LH_CALLERS_MAX + 1, sizeof *callers->entries);
    callers->chains = malloc(LH_CALLERS_MAX * sizeof *callers->chains);
    if (callers->entries == NULL || callers->chains == NULL) {
        lh_callers_deinit(callers);
        return LH_OUT_OF_MEMORY;
    }
    memset(callers->chains, 0xff, LH_CALLERS_MAX * sizeof *callers->chains);
    callers->entries[LH_CALLERS_MAX].is_shared = true;
    return LH_OK;
}

void lh_callers_deinit(struct lh_callers *callers)
{
    free(callers->entries);
    free(callers->chains);
    *callers = (struct lh_callers){0};
}

static uint32_t *chain_of(struct lh_callers *callers, const uint8_t key[16])
{
    return &callers->chains[XXH3_64bits(key, 16) & (LH_CALLERS_MAX - 1)];
}

static void unlink_use(struct lh_callers *callers, uint32_t at)
{
    const struct lh_caller *caller = &callers->entries[at];
    *(caller->older == NONE ? &callers->oldest : &callers->entries[caller->older].younger) =
        caller->younger;
    *(caller->younger == NONE ? &callers->youngest : &callers->entries[caller->younger].older) =
        caller->older;
}

static void link_youngest(struct lh_callers *callers, uint32_t at)
{
    struct lh_caller *caller = &callers->entries[at];
    caller->older = callers->youngest;
    caller->younger = NONE;
    *(caller->older == NONE ? &callers->oldest : &callers->entries[caller->older].younger) = at;
    callers->youngest = at;
}

static void unlink_chain(struct lh_callers *callers, uint32_t at)
{
    uint32_t *link = chain_of(callers, callers->entries[at].key);
    while (*link != at)
        link = &callers->entries[*link].next;
    *link = callers->entries[at].next;
}

/* A place for a new caller; NONE when something of every one is under way. */
static uint32_t make_room(struct lh_callers *callers)
{
    uint32_t at = callers->oldest;
    if (callers->count < LH_CALLERS_MAX)
        return callers->count++;
    while (at != NONE && callers->entries[at].pins > 0)
        at = callers->entries[at].younger;
    if (at != NONE) {
        unlink_use(callers, at);
        unlink_chain(callers, at);
    }
    return at;
}

static struct lh_caller *find_or_make(struct lh_callers *callers, const uint8_t key[16],
                                      bool is_token)
{
    uint32_t *chain = chain_of(callers, key);
    uint32_t at = *chain;
    while (at != NONE && (callers->entries[at].is_token != is_token ||
                          memcmp(callers->entries[at].key, key, 16) != 0))
        at = callers->entries[at].next;
    if (at != NONE) {
        unlink_use(callers, at);
        link_youngest(callers, at);
        return &callers->entries[at];
    }
    at = make_room(callers);
    if (at == NONE)
        return &callers->entries[LH_CALLERS_MAX];
    struct lh_caller *caller = &callers->entries[at];
    *caller = (struct lh_caller){
        .is_token = is_token, .generation = caller->generation + 1, .next = *chain};
    memcpy(caller->key, key, 16);
    *chain = at;
    link_youngest(callers, at);
    return caller;
}

struct lh_caller *lh_callers_of_token(struct lh_callers *callers, const struct lh_token *token)
{
    return find_or_make(callers, token->hash, true);
}

struct lh_caller *lh_callers_of_address(struct lh_callers *callers, struct lh_http_address address)
{
    static const uint8_t ipv4_mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(address.bytes, ipv4_mapped, sizeof ipv4_mapped) != 0)
        memset(address.bytes + 8, 0, 8);
    return find_or_make(callers, address.bytes, false);
}

uint64_t lh_caller_ticket(const struct lh_callers *callers, const struct lh_caller *caller)
{
    return caller->generation << 16 | (uint64_t)(caller - callers->entries + 1);
}

struct lh_caller *lh_callers_find(struct lh_callers *callers, uint64_t ticket)
{
    uint64_t at = (ticket & 0xffff) - 1;
    if (at > LH_CALLERS_MAX || callers->entries[at].generation != ticket >> 16)
        return NULL;
    return &callers->entries[at];
}

/* How long `amount` takes to flow in; so that sums of it do not overflow. */
static uint64_t flow_ns(uint64_t per_second, uint64_t amount)
{
    unsigned __int128 ns = (unsigned __int128)amount * SECOND_NS / per_second;
    return ns < UINT64_MAX / 8 ? (uint64_t)ns : UINT64_MAX / 8;
}

void lh_bucket_charge(struct lh_bucket *bucket, uint64_t per_second, uint64_t amount,
                      uint64_t now_ns)
{
    if (per_second == 0)
        return;
    if (bucket->full_ns < now_ns)
        bucket->full_ns = now_ns;
    if (bucket->full_ns < UINT64_MAX / 2)
        bucket->full_ns += flow_ns(per_second, amount);
}

uint64_t lh_bucket_take(struct lh_bucket *bucket, uint64_t per_second, uint64_t amount,
                        bool into_debt, uint64_t now_ns)
{
    if (per_second == 0)
        return 0;
    uint64_t full_ns = bucket->full_ns > now_ns ? bucket->full_ns : now_ns;
    uint64_t need_ns = into_debt ? 1 : flow_ns(per_second, amount);
    uint64_t most_ns = now_ns + (need_ns > SECOND_NS ? need_ns : SECOND_NS);
    if (full_ns + need_ns > most_ns)
        return full_ns + need_ns - most_ns;
    lh_bucket_charge(bucket, per_second, amount, now_ns);
    return 0;
}
