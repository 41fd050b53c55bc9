/* What each thread may take, and has. Any thread; each has a count of its own.
 *
 * operator new has no argument to hand the count down by, and so it is the one thing here that is
 * the thread's own. */
#include "ext/allowance.h"

#include "base/metrics.h"

#define LITTLE_BYTES  (64u << 10) /* in one call */
#define LARGE_BYTES   (1u << 20)
#define RESERVE_BYTES (16u << 20) /* of little ones, past the end */

struct lh_allowance *lh_allowance_mine(void)
{
    static _Thread_local struct lh_allowance allowance;
    return &allowance;
}

void lh_allowance_begin(uint64_t bytes_max, const struct lh_counter *is_over)
{
    struct lh_allowance *allowance = lh_allowance_mine();
    allowance->taken = allowance->made = 0;
    allowance->max = (int64_t)bytes_max;
    allowance->is_over = is_over;
}

static bool is_refused(const struct lh_allowance *allowance, size_t bytes)
{
    return bytes >= LARGE_BYTES && allowance->is_over != NULL &&
           lh_counter_get(allowance->is_over) != 0;
}

bool lh_allowance_take(struct lh_allowance *allowance, size_t bytes)
{
    int64_t max = allowance->max + (bytes < LITTLE_BYTES ? RESERVE_BYTES : 0);
    if (bytes > INT64_MAX / 2 || allowance->taken + (int64_t)bytes > max ||
        is_refused(allowance, bytes))
        return false;
    allowance->taken += (int64_t)bytes;
    allowance->made += (int64_t)bytes;
    return true;
}

bool lh_allowance_map(size_t bytes)
{
    struct lh_allowance *allowance = lh_allowance_mine();
    if (allowance->max != 0 &&
        (bytes > (uint64_t)allowance->max || allowance->mapped + bytes > (uint64_t)allowance->max ||
         is_refused(allowance, bytes)))
        return false;
    allowance->mapped += bytes;
    return true;
}

uint64_t lh_allowance_mapped(void)
{
    return lh_allowance_mine()->mapped;
}

uint64_t lh_allowance_made(void)
{
    return (uint64_t)lh_allowance_mine()->made;
}
