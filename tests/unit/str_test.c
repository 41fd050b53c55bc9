/* base/str: comparing, trimming, numbers, UTF-8. */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void case_is_ignored_for_ascii_letters_only(void **state)
{
    assert_true(lh_str_eq_nocase(LH_STR("Content-TYPE"), LH_STR("content-type")));
    assert_false(lh_str_eq_nocase(LH_STR("content-type"), LH_STR("content-typ")));
    assert_false(lh_str_eq_nocase(LH_STR("@"), LH_STR("`"))); /* differ in bit 5 like letters */
    assert_false(lh_str_eq_nocase(LH_STR("\xc4"), LH_STR("\xe4")));
    assert_true(lh_str_eq_nocase((struct lh_str){NULL, 0}, LH_STR("")));
}

static void a_prefix_is_no_longer_than_the_whole(void **state)
{
    assert_true(lh_str_has_prefix(LH_STR("/v1/x"), LH_STR("/v1")));
    assert_true(lh_str_has_prefix(LH_STR("/v1"), LH_STR("")));
    assert_false(lh_str_has_prefix(LH_STR("/v"), LH_STR("/v1")));
}

static void trim_takes_spaces_and_tabs_off_both_ends(void **state)
{
    assert_true(lh_str_eq(lh_str_trim(LH_STR(" \t a b\t ")), LH_STR("a b")));
    assert_int_equal(lh_str_trim(LH_STR(" \t ")).len, 0);
    assert_true(lh_str_eq(lh_str_trim(LH_STR("\n")), LH_STR("\n")));
}

static void numbers_are_digits_up_to_the_largest(void **state)
{
    uint64_t n = 7;
    assert_true(lh_str_to_u64(LH_STR("0"), &n));
    assert_int_equal(n, 0);
    assert_true(lh_str_to_u64(LH_STR("18446744073709551615"), &n));
    assert_true(n == UINT64_MAX);
    n = 7;
    assert_false(lh_str_to_u64(LH_STR("18446744073709551616"), &n));
    assert_false(lh_str_to_u64(LH_STR("28446744073709551615"), &n));
    assert_false(lh_str_to_u64(LH_STR(""), &n));
    assert_false(lh_str_to_u64(LH_STR("-1"), &n));
    assert_false(lh_str_to_u64(LH_STR("+1"), &n));
    assert_false(lh_str_to_u64(LH_STR(" 1"), &n));
    assert_false(lh_str_to_u64(LH_STR("1x"), &n));
    assert_int_equal(n, 7);
}

static size_t lh_encode(uint32_t c, size_t len, char out[4])
{
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    if (len == 1) {
        out[0] = (char)c;
        return 1;
    }
    for (size_t i = len - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[len] | c);
    return len;
}

/* Every code point in every length that can hold it: valid in its shortest form alone. */
static void utf8_is_the_shortest_form_of_every_scalar_value(void **state)
{
    for (uint32_t c = 0; c < 0x200000; c++) {
        size_t shortest = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        int is_scalar = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        for (size_t len = shortest; len <= 4; len++) {
            char text[4];
            struct lh_str s = {text, lh_encode(c, len, text)};
            size_t want = is_scalar && len == shortest ? len : 0;
            if (lh_str_utf8_length(s) != want || lh_str_is_utf8(s) != (want > 0))
                fail_msg("U+%X in %zu bytes", c, len);
            s.len--;
            if (len > 1 && lh_str_utf8_length(s) != 0)
                fail_msg("U+%X cut after %zu bytes", c, s.len);
        }
    }
}

static void utf8_is_checked_in_every_byte_of_a_long_text(void **state)
{
    char text[40];
    memset(text, 'a', sizeof text);
    assert_true(lh_str_is_utf8((struct lh_str){text, sizeof text}));
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)0x80;
        assert_false(lh_str_is_utf8((struct lh_str){text, sizeof text}));
        text[i] = 'a';
    }
    assert_true(lh_str_is_utf8(LH_STR("1234567\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x98")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(a_prefix_is_no_longer_than_the_whole),
        cmocka_unit_test(trim_takes_spaces_and_tabs_off_both_ends),
        cmocka_unit_test(numbers_are_digits_up_to_the_largest),
        cmocka_unit_test(utf8_is_the_shortest_form_of_every_scalar_value),
        cmocka_unit_test(utf8_is_checked_in_every_byte_of_a_long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
