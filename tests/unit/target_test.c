/* Request targets: split first, decoded once. */
#include "net/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char scratch[4096];

static enum lh_status parse(const char *raw, struct lh__target *target)
{
    struct lh_error error;

    return lh__target_parse(lh_str_of(raw), scratch, target, &error);
}

static void a_path_is_split_before_it_is_decoded(void **state)
{
    struct lh__target target;

    assert_int_equal(parse("/a%2Fb/%63//d", &target), LH_OK);
    assert_int_equal(target.segment_count, 4);
    assert_true(lh_str_eq(target.segments[0], LH_STR("a/b")));
    assert_true(lh_str_eq(target.segments[1], LH_STR("c")));
    assert_true(lh_str_eq(target.segments[2], LH_STR("")));
    assert_true(lh_str_eq(target.segments[3], LH_STR("d")));
    assert_true(lh_str_eq(target.path, LH_STR("a/b/c//d")));
}

static void a_path_is_decoded_once(void **state)
{
    struct lh__target target;

    assert_int_equal(parse("/%252e%2e/+", &target), LH_OK);
    assert_true(lh_str_eq(target.segments[0], LH_STR("%2e.")));
    assert_true(lh_str_eq(target.segments[1], LH_STR("+")));
}

static void bad_escapes_nul_and_fragments_are_refused(void **state)
{
    const char *const bad[] = {"/%",     "/a%4", "/%4/1", "/%zz", "/%00", "/a?b=%0",
                               "/a?%00", "/a#b", "a/b",   "",     "*a",   "http:/a"};
    struct lh__target target;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(bad[i], &target), LH_BAD_REQUEST);
    }
}

static void a_query_is_form_decoded(void **state)
{
    struct lh__target target;

    assert_int_equal(parse("/a?b=c+d%26e&f&&=g&h=i=j?k", &target), LH_OK);
    assert_int_equal(target.query_count, 3);
    assert_true(lh_str_eq(target.query[0].value, LH_STR("c d&e")));
    assert_true(lh_str_eq(target.query[1].name, LH_STR("f")));
    assert_int_equal(target.query[1].value.len, 0);
    assert_true(lh_str_eq(target.query[2].value, LH_STR("i=j?k")));
}

static void an_absolute_form_loses_its_authority(void **state)
{
    struct lh__target target;

    assert_int_equal(parse("HTTP://h:80/a/b?c=d", &target), LH_OK);
    assert_true(lh_str_eq(target.path, LH_STR("a/b")));
    assert_int_equal(parse("http://h", &target), LH_OK);
    assert_int_equal(target.path.len, 0);
    assert_int_equal(parse("http://h?a=b", &target), LH_OK);
    assert_int_equal(target.query_count, 1);
}

static void more_segments_than_the_limit_stay_in_the_path(void **state)
{
    char raw[2 * LH__SEGMENTS_MAX + 3] = "";
    struct lh__target target;

    for (unsigned i = 0; i <= LH__SEGMENTS_MAX; i++) {
        strcat(raw, "/a");
    }
    assert_int_equal(parse(raw, &target), LH_OK);
    assert_int_equal(target.segment_count, LH__SEGMENTS_MAX + 1);
    assert_int_equal(target.path.len, strlen(raw) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_split_before_it_is_decoded),
        cmocka_unit_test(a_path_is_decoded_once),
        cmocka_unit_test(bad_escapes_nul_and_fragments_are_refused),
        cmocka_unit_test(a_query_is_form_decoded),
        cmocka_unit_test(an_absolute_form_loses_its_authority),
        cmocka_unit_test(more_segments_than_the_limit_stay_in_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
