/* actors/admission: turns, shares, weights, and what waits for too long or too many. */
#include "actors/admission.h"

#include "seed.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND 1000000000ull

/* Of a caller, with a body of so many bytes (only its length is looked at). */
static struct lh_request *make(struct lh_caller *caller, enum lh_op op, size_t bytes)
{
    struct lh_request *request = lh_request_create(op);
    assert_non_null(request);
    request->caller = caller;
    request->deadline_ns = UINT64_MAX; /* none that is looked at */
    request->body.len = bytes;
    return request;
}

static void put(struct lh_admission *admission, struct lh_caller *caller, size_t bytes)
{
    assert_true(lh_admission_put(admission, make(caller, LH_OP_SEARCH, bytes), SECOND));
}

static void destroy(struct lh_request *request)
{
    request->body.len = 0;
    lh_request_destroy(request);
}

/* The next one's caller; NULL: none. It is done at once when `is_short`. */
static struct lh_caller *take(struct lh_admission *admission, bool is_short)
{
    struct lh_request *request = lh_admission_take(admission, LH_LANE_EXPRESS);
    struct lh_caller *caller = request != NULL ? request->caller : NULL;
    if (request != NULL && is_short)
        lh_admission_give(admission, request);
    if (request != NULL)
        destroy(request);
    return caller;
}

/* What still waits goes, whatever its caller holds. */
static void drain(struct lh_admission *admission)
{
    while (admission->lanes[LH_LANE_EXPRESS].waiting > 0)
        destroy(lh_admission_expired(admission, UINT64_MAX));
}

static void lines_take_turns(void **state)
{
    struct lh_admission admission;
    struct lh_caller callers[3] = {{.is_token = true}};
    lh_admission_init(&admission, 100, 100);
    for (int i = 0; i < 50; i++)
        put(&admission, &callers[0], 0);
    put(&admission, &callers[1], 0);
    put(&admission, &callers[2], 0);
    put(&admission, &callers[2], 0);
    assert_ptr_equal(take(&admission, true), &callers[0]);
    assert_ptr_equal(take(&admission, true), &callers[1]);
    assert_ptr_equal(take(&admission, true), &callers[2]);
    assert_ptr_equal(take(&admission, true), &callers[0]);
    assert_ptr_equal(take(&admission, true), &callers[2]);
    for (int i = 0; i < 48; i++)
        assert_ptr_equal(take(&admission, true), &callers[0]);
    assert_null(take(&admission, true));
    (void)state;
}

static void one_caller_alone_gets_all_and_several_a_share_of_a_part(void **state)
{
    struct lh_admission admission;
    struct lh_caller callers[2] = {{.is_token = true}};
    lh_admission_init(&admission, 80, 1);
    for (int i = 0; i < 70; i++)
        put(&admission, &callers[0], 0);
    for (int i = 0; i < 60; i++)
        assert_ptr_equal(take(&admission, false), &callers[0]);
    put(&admission, &callers[1], 0); /* now the first has more than its share, and waits */
    assert_ptr_equal(take(&admission, false), &callers[1]);
    assert_null(take(&admission, false));
    for (int i = 0; i < 30; i++)
        put(&admission, &callers[1], 0);
    for (int i = 0; i < 80 / 4 / 2 - 1; i++)
        assert_ptr_equal(take(&admission, false), &callers[1]);
    assert_null(take(&admission, false));
    drain(&admission);
    (void)state;
}

static void large_bodies_weigh_more_and_one_always_goes(void **state)
{
    struct lh_admission admission;
    struct lh_caller caller = {.is_token = true};
    lh_admission_init(&admission, 10, 1);
    put(&admission, &caller, 1u << 30);
    put(&admission, &caller, 0);
    struct lh_request *large = lh_admission_take(&admission, LH_LANE_EXPRESS);
    assert_non_null(large);
    assert_int_equal(large->credits, 10);
    assert_int_equal(admission.lanes[LH_LANE_EXPRESS].left, 0);
    assert_null(take(&admission, false));
    lh_admission_give(&admission, large);
    destroy(large);
    assert_ptr_equal(take(&admission, true), &caller);
    (void)state;
}

static void too_many_of_one_caller_are_refused_and_others_are_not(void **state)
{
    struct lh_admission admission;
    struct lh_caller callers[2] = {{.is_token = true}};
    uint32_t refused_at = 0;
    lh_admission_init(&admission, 4, 1);
    while (refused_at < 1000) {
        struct lh_request *request = make(&callers[0], LH_OP_SEARCH, 0);
        if (!lh_admission_put(&admission, request, SECOND)) {
            destroy(request);
            break;
        }
        refused_at++;
    }
    assert_int_equal(refused_at, 4 * 8);
    put(&admission, &callers[1], 0);
    while (take(&admission, true) != NULL)
        continue;
    (void)state;
}

static void what_has_waited_past_its_deadline_leaves_its_line(void **state)
{
    struct lh_admission admission;
    struct lh_caller callers[3] = {{.is_token = true}};
    lh_admission_init(&admission, 4, 1);
    for (int i = 0; i < 9; i++) {
        struct lh_request *request = make(&callers[i % 3], LH_OP_SEARCH, 0);
        request->deadline_ns = i % 3 == 1 ? 5 * SECOND : 3 * SECOND;
        assert_true(lh_admission_put(&admission, request, SECOND));
    }
    for (int i = 0; i < 6; i++) {
        struct lh_request *request = lh_admission_expired(&admission, 4 * SECOND);
        assert_non_null(request);
        assert_ptr_not_equal(request->caller, &callers[1]);
        destroy(request);
    }
    assert_null(lh_admission_expired(&admission, 4 * SECOND));
    put(&admission, &callers[2], 0);
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(take(&admission, true), &callers[i == 1 ? 2 : 1]);
    assert_null(take(&admission, true));
    (void)state;
}

/* Whatever comes and goes: credits add up, everything that was put is taken once, nobody starves.
 */
static void nothing_is_lost_or_stuck(void **state)
{
    uint64_t rng = lh_test_seed();
    struct lh_admission admission;
    struct lh_caller callers[5] = {{.is_token = true}};
    struct lh_request *out[64];
    uint32_t out_count = 0, all = 1 + lh_test_below(&rng, 40);
    uint64_t now = SECOND, in = 0, gone = 0;
    lh_admission_init(&admission, all, 1);
    for (int step = 0; step < 100000; step++) {
        struct lh_caller *caller = &callers[lh_test_below(&rng, 5)];
        struct lh_request *request = make(caller, LH_OP_SEARCH, lh_test_below(&rng, 100000));
        now += lh_test_below(&rng, SECOND / 1000);
        if (lh_test_below(&rng, 3) == 0 && lh_admission_put(&admission, request, now))
            in++;
        else
            destroy(request);
        if (out_count < 64 && (request = lh_admission_take(&admission, LH_LANE_EXPRESS)) != NULL)
            out[out_count++] = request;
        if (out_count > 0 && lh_test_below(&rng, 2) == 0) {
            uint32_t at = lh_test_below(&rng, out_count);
            lh_admission_give(&admission, out[at]);
            destroy(out[at]);
            out[at] = out[--out_count];
            gone++;
        }
        uint32_t held = 0;
        for (int i = 0; i < 5; i++)
            held += callers[i].lines[LH_LANE_EXPRESS].held;
        assert_int_equal(held + admission.lanes[LH_LANE_EXPRESS].left, all);
    }
    while (out_count > 0 || admission.lanes[LH_LANE_EXPRESS].waiting > 0) {
        struct lh_request *request;
        while (out_count > 0) {
            lh_admission_give(&admission, out[--out_count]);
            destroy(out[out_count]);
            gone++;
        }
        while (out_count < 64 && (request = lh_admission_take(&admission, LH_LANE_EXPRESS)) != NULL)
            out[out_count++] = request;
        assert_true(out_count > 0 || admission.lanes[LH_LANE_EXPRESS].waiting == 0);
    }
    assert_int_equal(in, gone);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_take_turns),
        cmocka_unit_test(one_caller_alone_gets_all_and_several_a_share_of_a_part),
        cmocka_unit_test(large_bodies_weigh_more_and_one_always_goes),
        cmocka_unit_test(too_many_of_one_caller_are_refused_and_others_are_not),
        cmocka_unit_test(what_has_waited_past_its_deadline_leaves_its_line),
        cmocka_unit_test(nothing_is_lost_or_stuck),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
