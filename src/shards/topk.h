/* Merging what the shards found into one answer. */
#ifndef LH_SHARDS_TOPK_H
#define LH_SHARDS_TOPK_H

#include "shards/parts.h"

/* One line of the merged answer. */
struct lh_pick {
    const struct lh_found *found;
    const struct lh_found_list *list;
};

/* The `k` nearest to query number `query` over all parts, nearest first, into `picks` (room for
 * k). Ties go to the lower part, so an answer does not change from one run to the next. Returns
 * how many there are. */
uint32_t lh_topk_merge(const struct lh_part *parts, uint32_t part_count, uint32_t query, uint32_t k,
                       struct lh_pick *picks);

#endif
