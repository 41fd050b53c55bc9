/* Who calls: one entry for each token, and for each address that calls without one (an IPv6
 * address stands for its /64, which is what one customer gets). An entry has what its caller may
 * still send, and what of it waits. Loop thread.
 *
 * The table is bounded: the entry that was used the longest ago makes room, unless something of it
 * is under way; when all are busy, those that come share one. */
#ifndef LH_ACTORS_CALLERS_H
#define LH_ACTORS_CALLERS_H

#include "actors/secrets.h"
#include "net/http.h"
#include "runtime/mailbox.h"
#include <stdint.h>

/* A rate limit as the Generic Cell Rate Algorithm (ITU-T I.371, annex A), which is a token bucket
 * in one number: when the bucket will be full again. It holds what a second brings. */
struct lh_bucket {
    uint64_t full_ns;
};

/* What of a caller waits for a lane's credits, and what it holds of them (actors/admission.h). */
struct lh_caller_line {
    struct lh_msg_queue waiting;
    struct lh_caller *next; /* whose turn is next */
    uint32_t held;
    uint32_t period; /* in which it last asked */
};

struct lh_caller {
    uint8_t key[16]; /* of a token's hash, or an address */
    bool is_token;
    bool is_shared;   /* by those for whom there is no room */
    uint32_t next;    /* in its chain of the hash table */
    uint32_t older;   /* in the order of use; */
    uint32_t younger; /* UINT32_MAX: none */
    uint32_t pins;    /* something of it is under way: its entry stays */
    uint64_t generation;
    uint64_t refused_ns; /* when it was last told to try again in a second; 0: never */
    struct lh_bucket requests;
    struct lh_bucket bytes;
    uint64_t bytes_per_second; /* what holds for it; 0: no limit */
    struct lh_caller_line lines[LH_LANES];
};

struct lh_callers {
    struct lh_caller *entries; /* LH_CALLERS_MAX of them, and the shared one */
    uint32_t *chains;          /* LH_CALLERS_MAX heads */
    uint32_t count;            /* entries that have been used */
    uint32_t oldest;
    uint32_t youngest;
};

LH_MUST_USE enum lh_status lh_callers_init(struct lh_callers *callers);
void lh_callers_deinit(struct lh_callers *callers);

/* The entry of a token, or of an address; made when there is none. Never NULL. */
struct lh_caller *lh_callers_of_token(struct lh_callers *callers, const struct lh_token *token);
struct lh_caller *lh_callers_of_address(struct lh_callers *callers, struct lh_http_address address);

/* An entry as a number that can be kept: NULL is returned when another caller has it now. Not 0. */
uint64_t lh_caller_ticket(const struct lh_callers *callers, const struct lh_caller *caller);
struct lh_caller *lh_callers_find(struct lh_callers *callers, uint64_t ticket);

/* Takes `amount` from a bucket into which `per_second` flow. 0: taken; else nothing is taken, and
 * in so many nanoseconds it could be. With `into_debt` a bucket that is not empty gives any amount.
 * `per_second` 0 is no limit. */
uint64_t lh_bucket_take(struct lh_bucket *bucket, uint64_t per_second, uint64_t amount,
                        bool into_debt, uint64_t now_ns);
/* Takes it in any case: it has been had. */
void lh_bucket_charge(struct lh_bucket *bucket, uint64_t per_second, uint64_t amount,
                      uint64_t now_ns);

#endif
