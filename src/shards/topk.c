/* The k-way merge of sorted lists. Any thread; pure.
 *
 * A linear look at every head an item: shards are few, and each list is read once. */
#include "shards/topk.h"

#include <assert.h>

uint32_t lh_topk_merge(const struct lh_part *parts, uint32_t part_count, uint32_t query, uint32_t k,
                       struct lh_pick *picks)
{
    uint32_t next[LH_SHARDS_MAX];
    uint32_t count = 0;
    assert(part_count <= LH_SHARDS_MAX);
    for (uint32_t p = 0; p < part_count; p++)
        next[p] = query == 0 ? 0 : parts[p].ends[query - 1];
    while (count < k) {
        const struct lh_found *best = NULL;
        uint32_t best_part = 0;
        for (uint32_t p = 0; p < part_count; p++) {
            if (next[p] == parts[p].ends[query])
                continue;
            const struct lh_found *head = &parts[p].found.items[next[p]];
            if (best == NULL || head->distance < best->distance) {
                best = head;
                best_part = p;
            }
        }
        if (best == NULL)
            break;
        next[best_part]++;
        picks[count++] = (struct lh_pick){best, &parts[best_part].found};
    }
    return count;
}
