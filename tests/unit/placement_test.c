/* shards/placement: an even spread of ids, and the rule for what each shard searches with. */
#include "base/limits.h"
#include "shards/placement.h"
#include "unit/seed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define IDS 100000u

static const uint32_t shard_counts[] = {1, 2, 3, 7, 8, 16, 64, 256};
#define SHARD_COUNTS (sizeof shard_counts / sizeof *shard_counts)

/* Counting numbers, as users have them, must spread as evenly as random draws would: no shard is
 * six standard deviations off. */
static void numbered_ids_spread_evenly(void **state)
{
    for (size_t c = 0; c < SHARD_COUNTS; c++) {
        uint32_t shards = shard_counts[c];
        uint32_t counts[LH_SHARDS_MAX] = {0};
        for (uint32_t i = 0; i < IDS; i++) {
            char id[16];
            snprintf(id, sizeof id, "%u", i);
            counts[lh_placement_shard(lh_placement_hash(lh_str_of(id)), shards)]++;
        }
        double mean = (double)IDS / shards;
        double deviation = sqrt(mean * (1.0 - 1.0 / shards));
        for (uint32_t s = 0; s < shards; s++)
            assert_true(fabs(counts[s] - mean) <= 6 * deviation);
    }
}

/* Files of a later version depend on it: XXH3 of "" and of "lakehouse" with seed 0 never change. */
static void the_hash_depends_on_every_byte_and_nothing_else(void **state)
{
    char a[LH_ID_BYTES_MAX];
    memset(a, 'a', sizeof a);
    assert_true(lh_placement_hash(LH_STR("")) == 0x2d06800538d394c2ull);
    for (size_t len = 1; len <= sizeof a; len++) {
        uint64_t hash = lh_placement_hash((struct lh_str){a, len});
        assert_true(hash != lh_placement_hash((struct lh_str){a, len - 1}));
        a[len - 1] = 'b';
        assert_true(hash != lh_placement_hash((struct lh_str){a, len}));
        a[len - 1] = 'a';
        assert_true(hash == lh_placement_hash((struct lh_str){a, len}));
    }
}

static void one_shard_searches_with_what_was_asked(void **state)
{
    struct lh_shard_search each = lh_placement_search(10, 128, 1);
    assert_int_equal(each.k, 10);
    assert_int_equal(each.ef, 128);
    each = lh_placement_search(100, 10, 1); /* ef is at least k */
    assert_int_equal(each.k, 100);
    assert_int_equal(each.ef, 100);
}

static void ef_and_k_of_a_shard_grow_with_what_is_asked_and_fall_with_the_shards(void **state)
{
    static const uint32_t ks[] = {1, 2, 5, 10, 11, 50, 99, 100, 1000, 10000};
    static const uint32_t efs[] = {1, 10, 50, 128, 129, 200, 1000, 4096};
    for (size_t ki = 0; ki < sizeof ks / sizeof *ks; ki++) {
        for (size_t ei = 0; ei < sizeof efs / sizeof *efs; ei++) {
            for (size_t c = 0; c < SHARD_COUNTS; c++) {
                uint32_t k = ks[ki], ef = efs[ei], shards = shard_counts[c];
                struct lh_shard_search each = lh_placement_search(k, ef, shards);
                assert_in_range(each.k, 1, k);
                assert_true(each.ef >= each.k);
                assert_true(each.ef <= (ef > k ? ef : k));
                assert_true((uint64_t)each.k * shards >= k); /* together they can fill the answer */
                if (ei > 0)
                    assert_true(each.ef >= lh_placement_search(k, efs[ei - 1], shards).ef);
                if (ki > 0)
                    assert_true(each.k >= lh_placement_search(ks[ki - 1], ef, shards).k);
                if (c > 0) {
                    struct lh_shard_search fewer = lh_placement_search(k, ef, shard_counts[c - 1]);
                    assert_true(each.k <= fewer.k && each.ef <= fewer.ef + 1);
                }
            }
        }
    }
}

static void the_rule_is_the_measured_one_at_its_two_points(void **state)
{
    /* ef / S + 1.4 sqrt(ef) up to k = 10, ef / S + 0.9 sqrt(ef) from k = 100 on */
    assert_int_equal(lh_placement_search(10, 128, 8).ef, 32);  /* 31.84 */
    assert_int_equal(lh_placement_search(10, 128, 2).ef, 80);  /* 79.84 */
    assert_int_equal(lh_placement_search(100, 400, 8).ef, 68); /* 68.0 */
}

/* Draws of which shard each of the top k lies on: almost never more on one than it answers. */
static void a_shard_answers_enough_for_its_share_of_the_top_k(void **state)
{
    uint64_t rng = lh_test_seed();
    static const uint32_t ks[] = {1, 10, 100, 1000};
    uint32_t missed = 0;
    uint64_t drawn = 0;
    for (size_t ki = 0; ki < sizeof ks / sizeof *ks; ki++) {
        for (size_t c = 1; c < SHARD_COUNTS; c++) {
            struct lh_shard_search each = lh_placement_search(ks[ki], 4096, shard_counts[c]);
            for (uint32_t round = 0; round < 300; round++) {
                uint32_t counts[LH_SHARDS_MAX] = {0};
                for (uint32_t i = 0; i < ks[ki]; i++)
                    missed += ++counts[lh_test_below(&rng, shard_counts[c])] > each.k;
                drawn += ks[ki];
            }
        }
    }
    assert_true(missed <= drawn / 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbered_ids_spread_evenly),
        cmocka_unit_test(the_hash_depends_on_every_byte_and_nothing_else),
        cmocka_unit_test(one_shard_searches_with_what_was_asked),
        cmocka_unit_test(ef_and_k_of_a_shard_grow_with_what_is_asked_and_fall_with_the_shards),
        cmocka_unit_test(the_rule_is_the_measured_one_at_its_two_points),
        cmocka_unit_test(a_shard_answers_enough_for_its_share_of_the_top_k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
