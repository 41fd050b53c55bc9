/* Placement and the effort of a search. Any thread; pure. */
#include "shards/placement.h"

#include <math.h>
#include <xxhash.h>

uint64_t lh_placement_hash(struct lh_str id)
{
    return XXH3_64bits(id.ptr, id.len);
}

/* A shard holds a random S-th of the items, so at equal ef it finds more of its own neighbours than
 * one graph would: the work may shrink almost as 1/S. What it needs beyond ef / S grows with the
 * root of ef, as the spread of a shard's share does; measured on 100,000 GloVe rows at equal merged
 * recall, 0.95 and 0.99, on 2, 4 and 8 shards (bench/shards.c). */
static double spread(uint32_t k)
{
    if (k <= 10)
        return 1.4;
    if (k >= 100)
        return 0.9;
    return 1.4 - 0.5 * (log10((double)k) - 1.0);
}

/* How many of the top k may lie on a part of the items: its share of a binomial draw plus five
 * standard deviations. */
static double likely_share(uint32_t k, double part)
{
    double share = k * part;
    return fmin(k, share + 5.0 * sqrt(share * (1.0 - part)) + 1.0);
}

/* Shards searched together know how near the k-th of them all is, and a shard stops where it has
 * nothing left that might matter. Queries differ in how many candidates that leaves: easy ones stop
 * at 0.85 of what a shard alone needs on the average, hard ones go on to twice that. Distances grow
 * as a power of the rank, with 2 over the data's intrinsic dimension as the exponent; 0.07 keeps
 * the promise on 100,000 GloVe rows (100 dimensions) and nearly so on 50,000 of text (768). */
#define EF_EASY 0.85
#define EF_HARD 2.0
#define GROWTH  0.07

struct lh_search lh_placement_search(uint32_t k, uint32_t ef, uint32_t shards, uint32_t here)
{
    if (ef < k)
        ef = k;
    if (shards == 1)
        return (struct lh_search){.k = k, .ef = ef, .ef_most = ef};
    double least = likely_share(k, 1.0 / shards);
    double alone = fmax(least, fmin(ef, (double)ef / shards + spread(k) * sqrt((double)ef)));
    if (here == 1)
        return (struct lh_search){.k = (uint32_t)ceil(least),
                                  .ef = (uint32_t)ceil(alone),
                                  .ef_most = (uint32_t)ceil(alone)};
    return (struct lh_search){.k = (uint32_t)ceil(likely_share(k, (double)here / shards)),
                              .ef = (uint32_t)ceil(fmax(least, EF_EASY * alone)),
                              .ef_most = (uint32_t)ceil(fmin(ef, EF_HARD * alone)),
                              .slack = (float)(pow(1.0 + (double)ef / k, GROWTH) - 1.0)};
}
