/* actors/callers: whose entry is whose, what a bounded table forgets, and what rates let through.
 */
#include "actors/callers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND 1000000000ull

static struct lh_http_address ipv4(uint32_t number)
{
    struct lh_http_address address = {{[10] = 0xff, [11] = 0xff}};
    for (int i = 0; i < 4; i++)
        address.bytes[12 + i] = (unsigned char)(number >> (24 - 8 * i));
    return address;
}

static void an_ipv6_address_stands_for_its_64(void **state)
{
    struct lh_callers callers;
    struct lh_http_address a = {{0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5}};
    struct lh_http_address b = {{0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 6, 7, 8, 9}};
    struct lh_http_address c = {{0x20, 1, 0xd, 0xb8, 1, 2, 3, 5}};
    assert_int_equal(lh_callers_init(&callers), LH_OK);
    assert_ptr_equal(lh_callers_of_address(&callers, a), lh_callers_of_address(&callers, b));
    assert_ptr_not_equal(lh_callers_of_address(&callers, a), lh_callers_of_address(&callers, c));
    assert_ptr_not_equal(lh_callers_of_address(&callers, ipv4(1)),
                         lh_callers_of_address(&callers, ipv4(2)));
    lh_callers_deinit(&callers);
    (void)state;
}

static void a_token_is_no_address(void **state)
{
    struct lh_callers callers;
    struct lh_token token = {.has_hash = true};
    assert_int_equal(lh_callers_init(&callers), LH_OK);
    memcpy(token.hash, ipv4(1).bytes, 16);
    struct lh_caller *caller = lh_callers_of_token(&callers, &token);
    assert_ptr_not_equal(caller, lh_callers_of_address(&callers, ipv4(1)));
    assert_ptr_equal(caller, lh_callers_of_token(&callers, &token));
    lh_callers_deinit(&callers);
    (void)state;
}

static void the_longest_unused_makes_room_and_its_ticket_is_void(void **state)
{
    struct lh_callers callers;
    assert_int_equal(lh_callers_init(&callers), LH_OK);
    struct lh_caller *first = lh_callers_of_address(&callers, ipv4(0));
    struct lh_caller *second = lh_callers_of_address(&callers, ipv4(1));
    uint64_t first_ticket = lh_caller_ticket(&callers, first);
    uint64_t second_ticket = lh_caller_ticket(&callers, second);
    for (uint32_t i = 2; i < LH_CALLERS_MAX; i++)
        lh_callers_of_address(&callers, ipv4(i));
    assert_ptr_equal(lh_callers_of_address(&callers, ipv4(0)), first); /* used again */
    assert_ptr_equal(lh_callers_of_address(&callers, ipv4(1u << 20)), second);
    assert_ptr_equal(lh_callers_find(&callers, first_ticket), first);
    assert_null(lh_callers_find(&callers, second_ticket));
    assert_null(lh_callers_find(&callers, 0));
    assert_ptr_not_equal(lh_callers_of_address(&callers, ipv4(1)), second);
    lh_callers_deinit(&callers);
    (void)state;
}

static void who_is_busy_stays_and_latecomers_share(void **state)
{
    struct lh_callers callers;
    assert_int_equal(lh_callers_init(&callers), LH_OK);
    for (uint32_t i = 0; i < LH_CALLERS_MAX; i++)
        lh_callers_of_address(&callers, ipv4(i))->pins = 1;
    struct lh_caller *shared = lh_callers_of_address(&callers, ipv4(1u << 20));
    assert_true(shared->is_shared);
    assert_ptr_equal(lh_callers_of_address(&callers, ipv4(2u << 20)), shared);
    assert_ptr_equal(lh_callers_find(&callers, lh_caller_ticket(&callers, shared)), shared);
    struct lh_caller *idle = lh_callers_of_address(&callers, ipv4(77));
    assert_false(idle->is_shared);
    idle->pins = 0;
    assert_ptr_equal(lh_callers_of_address(&callers, ipv4(1u << 20)), idle);
    lh_callers_deinit(&callers);
    (void)state;
}

static void a_bucket_holds_a_second_and_fills_at_its_rate(void **state)
{
    struct lh_bucket bucket = {0};
    uint64_t now = 50 * SECOND;
    for (int i = 0; i < 10; i++)
        assert_int_equal(lh_bucket_take(&bucket, 10, 1, false, now), 0);
    assert_int_equal(lh_bucket_take(&bucket, 10, 1, false, now), SECOND / 10);
    assert_int_equal(lh_bucket_take(&bucket, 10, 1, false, now), SECOND / 10); /* it took nothing */
    now += SECOND / 10 - 1;
    assert_int_equal(lh_bucket_take(&bucket, 10, 1, false, now), 1);
    assert_int_equal(lh_bucket_take(&bucket, 10, 1, false, now + 1), 0); /* it told the truth */
    for (int i = 0; i < 100; i++) { /* as many as a second has, after a pause of any length */
        bool is_let_in = lh_bucket_take(&bucket, 10, 1, false, now + 100 * SECOND) == 0;
        assert_int_equal(is_let_in, i < 10);
    }
    (void)state;
}

static void a_bucket_that_is_not_empty_goes_into_debt(void **state)
{
    struct lh_bucket bucket = {0};
    uint64_t now = 50 * SECOND;
    assert_int_equal(lh_bucket_take(&bucket, 1000, 5000, true, now), 0);
    uint64_t wait = lh_bucket_take(&bucket, 1000, 1, true, now);
    assert_in_range(wait, 4 * SECOND, 4 * SECOND + 1);
    assert_int_equal(lh_bucket_take(&bucket, 1000, 1, true, now + wait), 0);
    lh_bucket_charge(&bucket, 1000, 2000, now + wait);
    assert_in_range(lh_bucket_take(&bucket, 1000, 1, true, now + wait), 2 * SECOND,
                    2 * SECOND + SECOND / 100);
    (void)state;
}

static void no_amount_overflows_a_bucket(void **state)
{
    struct lh_bucket bucket = {0};
    for (int i = 0; i < 100; i++)
        lh_bucket_charge(&bucket, 1, UINT64_MAX, UINT64_MAX / 16);
    assert_true(lh_bucket_take(&bucket, 1, UINT64_MAX, true, UINT64_MAX / 16) > 0);
    assert_true(lh_bucket_take(&bucket, 1, 1, false, UINT64_MAX / 16) > 0);
    assert_int_equal(lh_bucket_take(&bucket, 0, UINT64_MAX, true, 0), 0); /* no limit */
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ipv6_address_stands_for_its_64),
        cmocka_unit_test(a_token_is_no_address),
        cmocka_unit_test(the_longest_unused_makes_room_and_its_ticket_is_void),
        cmocka_unit_test(who_is_busy_stays_and_latecomers_share),
        cmocka_unit_test(a_bucket_holds_a_second_and_fills_at_its_rate),
        cmocka_unit_test(a_bucket_that_is_not_empty_goes_into_debt),
        cmocka_unit_test(no_amount_overflows_a_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
