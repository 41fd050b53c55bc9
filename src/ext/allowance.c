/* What each thread may take, and has. Any thread; each has a count of its own.
 *
 * operator new has no argument to hand the count down by, and so it is the one thing here that is
 * the thread's own. */
#include "ext/allowance.h"

#include "base/metrics.h"
#include <malloc.h>

#define LITTLE_BYTES  (64u << 10) /* in one call */
#define LARGE_BYTES   (1u << 20)
#define RESERVE_BYTES (16u << 20) /* of little ones, past the end */

struct allowance {
    int64_t taken;
    uint64_t mapped;
    int64_t max; /* 0: none */
    const struct lh_counter *is_over;
};

static struct allowance *mine(void)
{
    static _Thread_local struct allowance allowance;
    return &allowance;
}

void lh_allowance_begin(uint64_t bytes_max, const struct lh_counter *is_over)
{
    struct allowance *allowance = mine();
    allowance->taken = 0;
    allowance->max = (int64_t)bytes_max;
    allowance->is_over = is_over;
}

static bool is_refused(const struct allowance *allowance, size_t bytes)
{
    return bytes >= LARGE_BYTES && allowance->is_over != NULL &&
           lh_counter_get(allowance->is_over) != 0;
}

static bool take(struct allowance *allowance, size_t bytes)
{
    int64_t max = allowance->max + (bytes < LITTLE_BYTES ? RESERVE_BYTES : 0);
    if (bytes > INT64_MAX / 2 || allowance->taken + (int64_t)bytes > max ||
        is_refused(allowance, bytes))
        return false;
    allowance->taken += (int64_t)bytes;
    return true;
}

bool lh_allowance_map(size_t bytes)
{
    struct allowance *allowance = mine();
    if (allowance->max != 0 &&
        (bytes > (uint64_t)allowance->max || allowance->mapped + bytes > (uint64_t)allowance->max ||
         is_refused(allowance, bytes)))
        return false;
    allowance->mapped += bytes;
    return true;
}

uint64_t lh_allowance_mapped(void)
{
    return mine()->mapped;
}

bool lh_allowance_take_block(void *memory)
{
    struct allowance *allowance = mine();
    return allowance->max == 0 || take(allowance, malloc_usable_size(memory));
}

void lh_allowance_give_block(void *memory)
{
    struct allowance *allowance = mine();
    if (allowance->max != 0)
        allowance->taken -= (int64_t)malloc_usable_size(memory);
}
