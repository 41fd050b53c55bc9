/* Placement and the per-shard ef. Any thread; pure. */
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

/* How many of the top k may lie on one shard: its share of a binomial draw plus five standard
 * deviations. */
static double likely_share(uint32_t k, uint32_t shards)
{
    double share = (double)k / shards;
    return share + 5.0 * sqrt(share * (1.0 - 1.0 / shards)) + 1.0;
}

struct lh_shard_search lh_placement_search(uint32_t k, uint32_t ef, uint32_t shards)
{
    if (ef < k)
        ef = k;
    if (shards == 1)
        return (struct lh_shard_search){k, ef};
    double share = likely_share(k, shards);
    if (share > k)
        share = k;
    double shard_ef = (double)ef / shards + spread(k) * sqrt((double)ef);
    if (shard_ef > ef)
        shard_ef = ef;
    if (shard_ef < share)
        shard_ef = share;
    return (struct lh_shard_search){(uint32_t)ceil(share), (uint32_t)ceil(shard_ef)};
}
