/* Who goes next: credits of both lanes, shared fairly among callers. Loop thread.
 *
 * A request holds credits of its lane while it is behind the gateway, one and more for a large
 * body, and gives them back with its answer. Out of credits it waits in its caller's line, and the
 * lines take turns, a request each: however many connections one caller has, between two of its
 * requests everybody else who waits has one.
 *
 * Turns alone are not enough: behind the gateway a request stands in line with all that is there.
 * So one caller holds at most its share, all credits by the number of callers that have lately
 * asked for any: a request of another then waits for that share's work, not for all of it. */
#ifndef LH_ACTORS_ADMISSION_H
#define LH_ACTORS_ADMISSION_H

#include "actors/callers.h"
#include "actors/messages.h"

struct lh_admission_lane {
    uint32_t all;            /* credits */
    uint32_t left;           /* of them */
    size_t waiting;          /* requests */
    struct lh_caller *first; /* of the callers that have some waiting, in turn; */
    struct lh_caller *last;  /* NULL: none has */
    uint32_t period;         /* callers are counted by periods */
    uint32_t callers;        /* that have asked in this one */
    uint32_t callers_before; /* in the last one */
    uint64_t period_began_ns;
};

struct lh_admission {
    struct lh_admission_lane lanes[LH_LANES];
};

/* Credits of each lane, at least one. */
void lh_admission_init(struct lh_admission *admission, uint32_t express, uint32_t bulk);

/* The lane whose credits a request holds; its message's own lane changes on the way back. */
enum lh_lane lh_admission_lane(const struct lh_request *request);

/* Puts a request, which has its caller, into its line. False: too many of its caller's wait; it is
 * not put. */
bool lh_admission_put(struct lh_admission *admission, struct lh_request *request, uint64_t now_ns);

/* The next request of a lane, with its credits; NULL: none waits, or those that do must go on
 * waiting. */
struct lh_request *lh_admission_take(struct lh_admission *admission, enum lh_lane lane);

/* The credits come back, if it holds any. */
void lh_admission_give(struct lh_admission *admission, struct lh_request *request);

/* A search that has waited past its deadline, taken out of its line; NULL when there is none left.
 */
struct lh_request *lh_admission_expired(struct lh_admission *admission, uint64_t now_ns);

#endif
