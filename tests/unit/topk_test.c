/* shards/topk: the merge against sorting everything. */
#include "base/limits.h"
#include "shards/topk.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PARTS_MAX   12u
#define QUERIES_MAX 6u
#define FOUND_MAX   30u

struct hit {
    float distance;
    uint32_t part;
    uint32_t number; /* in its part */
};

/* By distance, ties by part, then as the part has them. */
static int compare(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int compare_found(const void *a, const void *b)
{
    const struct lh_found *x = a, *y = b;
    return x->distance < y->distance ? -1 : x->distance > y->distance;
}

static void make_parts(uint64_t *rng, struct lh_part *parts, uint32_t part_count, uint32_t queries)
{
    for (uint32_t p = 0; p < part_count; p++) {
        struct lh_found_list *found = &parts[p].found;
        found->items = calloc(QUERIES_MAX * FOUND_MAX, sizeof *found->items);
        parts[p].ends = calloc(queries, sizeof *parts[p].ends);
        assert_true(found->items != NULL && parts[p].ends != NULL);
        for (uint32_t q = 0; q < queries; q++) {
            uint32_t count = lh_test_below(rng, FOUND_MAX + 1);
            struct lh_found *from = found->items + found->count;
            for (uint32_t i = 0; i < count; i++) /* few values: many ties */
                from[i].distance = (float)lh_test_below(rng, 12) - 4.0f;
            qsort(from, count, sizeof *from, compare_found);
            found->count += count;
            parts[p].ends[q] = found->count;
        }
    }
}

static uint32_t sort_all(const struct lh_part *parts, uint32_t part_count, uint32_t query,
                         struct hit *hits)
{
    uint32_t count = 0;
    for (uint32_t p = 0; p < part_count; p++) {
        uint32_t from = query == 0 ? 0 : parts[p].ends[query - 1];
        for (uint32_t i = from; i < parts[p].ends[query]; i++)
            hits[count++] = (struct hit){parts[p].found.items[i].distance, p, i};
    }
    qsort(hits, count, sizeof *hits, compare);
    return count;
}

static void a_merge_is_a_sort_cut_off_at_k(void **state)
{
    uint64_t rng = lh_test_seed();
    for (uint32_t round = 0; round < 2000; round++) {
        struct lh_part parts[PARTS_MAX] = {0};
        struct hit hits[PARTS_MAX * FOUND_MAX];
        struct lh_pick picks[PARTS_MAX * FOUND_MAX + 10];
        uint32_t part_count = 1 + lh_test_below(&rng, PARTS_MAX);
        uint32_t queries = 1 + lh_test_below(&rng, QUERIES_MAX);
        make_parts(&rng, parts, part_count, queries);
        for (uint32_t q = 0; q < queries; q++) {
            uint32_t k = 1 + lh_test_below(&rng, PARTS_MAX * FOUND_MAX + 10);
            uint32_t all = sort_all(parts, part_count, q, hits);
            uint32_t count = lh_topk_merge(parts, part_count, q, k, picks);
            assert_int_equal(count, k < all ? k : all);
            for (uint32_t i = 0; i < count; i++) {
                assert_ptr_equal(picks[i].list, &parts[hits[i].part].found);
                assert_ptr_equal(picks[i].found, &picks[i].list->items[hits[i].number]);
            }
        }
        for (uint32_t p = 0; p < part_count; p++) {
            free(parts[p].ends);
            lh_found_list_deinit(&parts[p].found);
        }
    }
}

static void shards_that_found_nothing_merge_to_nothing(void **state)
{
    struct lh_part parts[LH_SHARDS_MAX] = {0};
    uint32_t end = 0;
    struct lh_pick pick;
    for (uint32_t p = 0; p < LH_SHARDS_MAX; p++)
        parts[p].ends = &end;
    assert_int_equal(lh_topk_merge(parts, LH_SHARDS_MAX, 0, 1, &pick), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_is_a_sort_cut_off_at_k),
        cmocka_unit_test(shards_that_found_nothing_merge_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
