/* ext/json: values of checked text, each where it stands. */
#include "ext/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Steps through `text` and all that is in it; every value is in `out`, its name before it. */
static size_t walk_all(const char *text, struct lh_str value, char *out, size_t len)
{
    struct lh_json_walk walk = lh_json_walk_begin(value);
    struct lh_str name;
    struct lh_str next;
    while (lh_json_step(&walk, &name, &next)) {
        assert_true(next.ptr >= text && next.len > 0);
        len += (size_t)sprintf(out + len, "%.*s%s%.*s\n", LH_STR_FMT(name), name.len > 0 ? "=" : "",
                               LH_STR_FMT(next));
        len = walk_all(text, next, out, len);
    }
    return len;
}

static void assert_walks(const char *text, const char *want)
{
    char out[1024] = {0};
    struct lh_json_fault fault;
    /* In memory of its own size, so that a sanitizer sees each byte read behind it. */
    size_t len = strlen(text);
    char *tight = malloc(len);
    assert_non_null(tight);
    memcpy(tight, text, len);
    assert_true(lh_json_check((struct lh_str){tight, len}, LH_JSON_DEPTH_MAX, NULL, NULL, &fault));
    walk_all(tight, (struct lh_str){tight, len}, out, 0);
    assert_string_equal(out, want);
    free(tight);
}

static void scalars_have_nothing_inside(void **state)
{
    assert_walks("1", "");
    assert_walks("\"{}\"", "");
    assert_walks(" null ", "");
    assert_walks("{}", "");
    assert_walks("[ ]", "");
    assert_walks(" { } ", "");
}

static void members_come_in_order_with_their_names(void **state)
{
    assert_walks("{\"a\":1,\"b\":\"x\",\"a\":null}", "\"a\"=1\n\"b\"=\"x\"\n\"a\"=null\n");
    assert_walks("[1,-2.5e3,true,\"\"]", "1\n-2.5e3\ntrue\n\"\"\n");
    assert_walks("{\"\":[]}", "\"\"=[]\n");
}

static void values_inside_values_are_whole(void **state)
{
    assert_walks("{\"a\":{\"b\":[1,{\"c\":2}]},\"d\":3}",
                 "\"a\"={\"b\":[1,{\"c\":2}]}\n\"b\"=[1,{\"c\":2}]\n1\n{\"c\":2}\n\"c\"=2\n"
                 "\"d\"=3\n");
}

static void strings_may_hold_brackets_quotes_and_backslashes(void **state)
{
    assert_walks("{\"a\\\"}\":\"]}\\\\\",\"b\":\"\\u007b,:\"}",
                 "\"a\\\"}\"=\"]}\\\\\"\n\"b\"=\"\\u007b,:\"\n");
    assert_walks("[\"\\\\\\\"\",\"[\"]", "\"\\\\\\\"\"\n\"[\"\n");
}

static void white_space_is_no_part_of_a_value(void **state)
{
    assert_walks("\t{ \"a\" :\r\n 1 , \"b\" : [ 2 , 3 ] } \n", "\"a\"=1\n\"b\"=[ 2 , 3 ]\n2\n3\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_have_nothing_inside),
        cmocka_unit_test(members_come_in_order_with_their_names),
        cmocka_unit_test(values_inside_values_are_whole),
        cmocka_unit_test(strings_may_hold_brackets_quotes_and_backslashes),
        cmocka_unit_test(white_space_is_no_part_of_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
