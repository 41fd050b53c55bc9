/* shards/placement: an even spread of ids, and the rule for how a worker searches its shards. */
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
    struct lh_search each = lh_placement_search(10, 128, 1, 1);
    assert_int_equal(each.k, 10);
    assert_int_equal(each.ef, 128);
    assert_int_equal(each.ef_most, 128);
    each = lh_placement_search(100, 10, 1, 1); /* ef is at least k */
    assert_int_equal(each.k, 100);
    assert_int_equal(each.ef, 100);
}

static const uint32_t ks[] = {1, 2, 5, 10, 11, 50, 99, 100, 1000, 10000};
static const uint32_t efs[] = {1, 10, 50, 128, 129, 200, 1000, 4096};
#define KS  (sizeof ks / sizeof *ks)
#define EFS (sizeof efs / sizeof *efs)

static void check_search(uint32_t k, uint32_t ef, uint32_t shards, uint32_t here)
{
    struct lh_search each = lh_placement_search(k, ef, shards, here);
    uint32_t most = ef > k ? ef : k;
    uint32_t workers = (shards + here - 1) / here;
    assert_in_range(each.k, 1, k);
    assert_true((uint64_t)each.k * workers >= k); /* together they can fill the answer */
    assert_true((uint64_t)each.ef * here >= each.k);
    assert_true(each.ef <= each.ef_most || each.slack > 0);
    assert_true(each.ef <= most && each.ef_most <= most);
    if (here == 1)
        assert_true(each.ef_most == each.ef && each.ef >= each.k);
    else
        assert_true(each.ef <= lh_placement_search(k, ef, shards, 1).ef);
}

static void a_search_stays_between_what_the_answer_needs_and_what_was_asked(void **state)
{
    for (size_t ki = 0; ki < KS; ki++)
        for (size_t ei = 0; ei < EFS; ei++)
            for (size_t c = 0; c < SHARD_COUNTS; c++)
                for (uint32_t here = 1; here <= shard_counts[c]; here++)
                    check_search(ks[ki], efs[ei], shard_counts[c], here);
}

static void ef_and_k_of_a_shard_grow_with_what_is_asked_and_fall_with_the_shards(void **state)
{
    for (size_t ki = 0; ki < KS; ki++) {
        for (size_t ei = 0; ei < EFS; ei++) {
            for (size_t c = 0; c < SHARD_COUNTS; c++) {
                uint32_t k = ks[ki], ef = efs[ei], shards = shard_counts[c];
                struct lh_search each = lh_placement_search(k, ef, shards, 1);
                if (ei > 0)
                    assert_true(each.ef >= lh_placement_search(k, efs[ei - 1], shards, 1).ef);
                if (ki > 0)
                    assert_true(each.k >= lh_placement_search(ks[ki - 1], ef, shards, 1).k);
                if (c > 0) {
                    struct lh_search fewer = lh_placement_search(k, ef, shard_counts[c - 1], 1);
                    assert_true(each.k <= fewer.k && each.ef <= fewer.ef + 1);
                }
            }
        }
    }
}

static void the_rule_is_the_measured_one_at_its_two_points(void **state)
{
    /* alone: ef / S + 1.4 sqrt(ef) up to k = 10, ef / S + 0.9 sqrt(ef) from k = 100 on */
    assert_int_equal(lh_placement_search(10, 128, 8, 1).ef, 32);  /* 31.84 */
    assert_int_equal(lh_placement_search(10, 128, 2, 1).ef, 80);  /* 79.84 */
    assert_int_equal(lh_placement_search(100, 400, 8, 1).ef, 68); /* 68.0 */
    /* together: 0.85 of it, up to 2 times; (1 + 128 / 10) ^ 0.07 = 1.202 */
    struct lh_search each = lh_placement_search(10, 128, 8, 8);
    assert_int_equal(each.k, 10);
    assert_int_equal(each.ef, 28);      /* 27.06 */
    assert_int_equal(each.ef_most, 64); /* 63.68 */
    assert_true(fabsf(each.slack - 0.202f) < 0.001f);
}

/* Draws of which shard each of the top k lies on: almost never more on a worker than it answers. */
static void workers_answer_enough_for_their_share_of_the_top_k(void **state)
{
    uint64_t rng = lh_test_seed();
    static const uint32_t drawn_ks[] = {1, 10, 100, 1000};
    uint32_t missed = 0;
    uint64_t drawn = 0;
    for (size_t ki = 0; ki < sizeof drawn_ks / sizeof *drawn_ks; ki++) {
        for (size_t c = 1; c < SHARD_COUNTS; c++) {
            uint32_t shards = shard_counts[c], k = drawn_ks[ki];
            uint32_t here = 1 + lh_test_below(&rng, shards);
            struct lh_search alone = lh_placement_search(k, 4096, shards, 1);
            struct lh_search each = lh_placement_search(k, 4096, shards, here);
            for (uint32_t round = 0; round < 300; round++) {
                uint32_t counts[LH_SHARDS_MAX] = {0}, on_worker = 0;
                for (uint32_t i = 0; i < k; i++) {
                    uint32_t shard = lh_test_below(&rng, shards);
                    missed += ++counts[shard] > alone.k;
                    missed += shard < here && ++on_worker > each.k;
                }
                drawn += k;
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
        cmocka_unit_test(a_search_stays_between_what_the_answer_needs_and_what_was_asked),
        cmocka_unit_test(ef_and_k_of_a_shard_grow_with_what_is_asked_and_fall_with_the_shards),
        cmocka_unit_test(the_rule_is_the_measured_one_at_its_two_points),
        cmocka_unit_test(workers_answer_enough_for_their_share_of_the_top_k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
