/* base/buf: growth, sticky failure, JSON strings. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_holds(const struct lh_buf *buf, struct lh_str want)
{
    assert_int_equal(buf->len, want.len);
    assert_memory_equal(buf->ptr, want.ptr, want.len);
}

static void appends_stand_one_after_another(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_buf_append(&buf, "ab", 2);
    lh_buf_append_char(&buf, 'c');
    lh_buf_append_str(&buf, LH_STR("de"));
    lh_buf_append(&buf, NULL, 0);
    lh_buf_printf(&buf, "%d-%s", 42, "f");
    assert_holds(&buf, LH_STR("abcde42-f"));
    assert_false(lh_buf_failed(&buf));
    lh_buf_deinit(&buf);
}

static void contents_survive_growth(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    for (unsigned i = 0; i < 100000; i++)
        lh_buf_append(&buf, &i, sizeof i);
    assert_int_equal(buf.len, 100000 * sizeof(unsigned));
    for (unsigned i = 0; i < 100000; i++)
        assert_memory_equal(buf.ptr + i * sizeof i, &i, sizeof i);
    lh_buf_deinit(&buf);
}

static void a_printf_longer_than_the_room_is_whole(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_buf_printf(&buf, "%0500d", 7);
    assert_int_equal(buf.len, 500);
    assert_int_equal(buf.ptr[0], '0');
    assert_int_equal(buf.ptr[499], '7');
    lh_buf_deinit(&buf);
}

static void a_reserve_that_fails_leaves_the_contents(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_buf_append_str(&buf, LH_STR("kept"));
    assert_int_equal(lh_buf_reserve(&buf, SIZE_MAX), LH_OUT_OF_MEMORY);
    assert_int_equal(lh_buf_reserve(&buf, PTRDIFF_MAX), LH_OUT_OF_MEMORY);
    assert_false(lh_buf_failed(&buf));
    assert_holds(&buf, LH_STR("kept"));
    assert_int_equal(lh_buf_reserve(&buf, 1000), LH_OK);
    assert_true(buf.cap >= 1004);
    lh_buf_deinit(&buf);
}

static void a_failed_append_is_sticky(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_buf_append_str(&buf, LH_STR("kept"));
    lh_buf_append(&buf, "x", SIZE_MAX); /* refused before a byte of it is read */
    assert_true(lh_buf_failed(&buf));
    lh_buf_append_char(&buf, 'y');
    lh_buf_printf(&buf, "z");
    assert_holds(&buf, LH_STR("kept"));
    lh_buf_deinit(&buf);
    assert_false(lh_buf_failed(&buf));
}

static void consume_drops_from_the_front(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_buf_consume(&buf, 0);
    lh_buf_append_str(&buf, LH_STR("abcdef"));
    lh_buf_consume(&buf, 2);
    assert_holds(&buf, LH_STR("cdef"));
    lh_buf_consume(&buf, 4);
    assert_int_equal(buf.len, 0);
    lh_buf_deinit(&buf);
}

static void take_moves_the_contents_out(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY, taken;
    lh_buf_append_str(&buf, LH_STR("abc"));
    taken = lh_buf_take(&buf);
    assert_null(buf.ptr);
    assert_int_equal(buf.len + buf.cap, 0);
    assert_holds(&taken, LH_STR("abc"));
    lh_buf_deinit(&taken);
}

static void assert_json(struct lh_str in, struct lh_str want)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_buf_append_json_string(&buf, in);
    assert_holds(&buf, want);
    lh_buf_deinit(&buf);
}

static void json_strings_escape_what_json_demands(void **state)
{
    assert_json(LH_STR(""), LH_STR("\"\""));
    assert_json((struct lh_str){NULL, 0}, LH_STR("\"\""));
    assert_json(LH_STR("plain / text"), LH_STR("\"plain / text\""));
    assert_json(LH_STR("a\"b\\c"), LH_STR("\"a\\\"b\\\\c\""));
    assert_json(LH_STR("\b\f\n\r\t"), LH_STR("\"\\b\\f\\n\\r\\t\""));
    assert_json(LH_STR("\0\x01\x1f\x7f"), LH_STR("\"\\u0000\\u0001\\u001f\\u007f\""));
    assert_json(LH_STR("\xc3\xa4\xf0\x9f\x90\x98"), LH_STR("\"\xc3\xa4\xf0\x9f\x90\x98\""));
}

static void bytes_that_are_not_utf8_become_the_replacement_character(void **state)
{
    assert_json(LH_STR("a\xff"
                       "b"),
                LH_STR("\"a\xef\xbf\xbd"
                       "b\""));
    assert_json(LH_STR("\xe2\x82"), LH_STR("\"\xef\xbf\xbd\xef\xbf\xbd\""));
    assert_json(LH_STR("\xc0\x80"), LH_STR("\"\xef\xbf\xbd\xef\xbf\xbd\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_stand_one_after_another),
        cmocka_unit_test(contents_survive_growth),
        cmocka_unit_test(a_printf_longer_than_the_room_is_whole),
        cmocka_unit_test(a_reserve_that_fails_leaves_the_contents),
        cmocka_unit_test(a_failed_append_is_sticky),
        cmocka_unit_test(consume_drops_from_the_front),
        cmocka_unit_test(take_moves_the_contents_out),
        cmocka_unit_test(json_strings_escape_what_json_demands),
        cmocka_unit_test(bytes_that_are_not_utf8_become_the_replacement_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
