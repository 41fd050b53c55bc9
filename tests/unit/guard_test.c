/* The header guard as a function: where a block ends, and what it takes apart. Each refusal is
 * also a test over a socket. */
#include "net/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static enum lh_status check(const char *block, struct lh__head *head)
{
    struct lh_error error;

    return lh__guard_check(lh_str_of(block), head, &error);
}

static void a_block_that_comes_byte_by_byte_ends_at_its_empty_line(void **state)
{
    const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n";
    const size_t end = strstr(text, "body") - text;
    size_t seen = 0;
    size_t block_len = 0;
    struct lh_error error;

    for (size_t len = 0; len < end; len++) {
        assert_int_equal(lh__guard_find_end(text, len, &seen, &block_len, &error), LH_OK);
        assert_int_equal(block_len, 0);
    }
    assert_int_equal(lh__guard_find_end(text, sizeof text - 1, &seen, &block_len, &error), LH_OK);
    assert_int_equal(block_len, end);
}

static void a_bare_lf_is_refused_before_the_block_ends(void **state)
{
    size_t seen = 0;
    size_t block_len;
    struct lh_error error;

    assert_int_equal(lh__guard_find_end("GET / HTTP/1.1\n", 15, &seen, &block_len, &error),
                     LH_BAD_REQUEST);
}

static void a_lf_whose_cr_came_in_an_earlier_piece_is_a_line_end(void **state)
{
    const char text[] = "GET / HTTP/1.1\r\n";
    size_t seen = 0;
    size_t block_len;
    struct lh_error error;

    assert_int_equal(lh__guard_find_end(text, 15, &seen, &block_len, &error), LH_OK);
    assert_int_equal(lh__guard_find_end(text, 16, &seen, &block_len, &error), LH_OK);
    assert_int_equal(block_len, 0);
}

static void a_trailer_section_ends_at_its_empty_line_however_it_is_cut(void **state)
{
    const char *const sections[] = {"\r\n", "X: a\r\n\r\n", "X: a\r\nY: b\r\n\r\n"};
    struct lh__head head = {.field_count = 2};
    struct lh_error error;

    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        struct lh_str section = lh_str_of(sections[i]);
        size_t seen = 0;
        size_t section_len = 0;

        for (size_t len = 0; len <= section.len; len++) {
            assert_int_equal(section_len, 0);
            assert_int_equal(
                lh__guard_find_trailer_end(section.ptr, len, &seen, &section_len, &error), LH_OK);
        }
        assert_int_equal(section_len, section.len);
        assert_int_equal(lh__guard_check_trailer(section, &head, &error), LH_OK);
    }
}

static void a_block_is_taken_apart(void **state)
{
    const char text[] = "POST /a?b HTTP/1.1\r\nHost: h:1\r\nContent-Length: 12\r\n"
                        "Expect: 100-Continue\r\nX:\t v w \r\n\r\n";
    struct lh__head head;
    struct lh__field last;

    assert_int_equal(check(text, &head), LH_OK);
    assert_true(lh_str_eq(head.method, LH_STR("POST")));
    assert_true(lh_str_eq(head.target, LH_STR("/a?b")));
    assert_int_equal(head.content_length, 12);
    assert_true(head.has_content_length && head.expect_continue && head.keep_alive);
    assert_false(head.chunked);
    assert_int_equal(head.field_count, 4);
    last = head.fields[3];
    assert_true(lh_str_eq((struct lh_str){text + last.name, last.name_len}, LH_STR("X")));
    assert_true(lh_str_eq((struct lh_str){text + last.value, last.value_len}, LH_STR("v w")));
}

static void keep_alive_follows_version_and_connection(void **state)
{
    struct lh__head head;

    assert_int_equal(check("GET / HTTP/1.0\r\n\r\n", &head), LH_OK);
    assert_false(head.keep_alive);
    assert_int_equal(check("GET / HTTP/1.0\r\nConnection: a, Keep-Alive\r\n\r\n", &head), LH_OK);
    assert_true(head.keep_alive);
    assert_int_equal(check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &head), LH_OK);
    assert_true(head.keep_alive);
    assert_int_equal(
        check("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
              &head),
        LH_OK);
    assert_false(head.keep_alive);
}

static void an_error_names_the_line(void **state)
{
    struct lh__head head;
    struct lh_error error;

    assert_int_equal(
        lh__guard_check(LH_STR("GET / HTTP/1.1\r\nHost: a\r\nB : c\r\n\r\n"), &head, &error),
        LH_BAD_REQUEST);
    assert_non_null(strstr(error.text, "line 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_that_comes_byte_by_byte_ends_at_its_empty_line),
        cmocka_unit_test(a_bare_lf_is_refused_before_the_block_ends),
        cmocka_unit_test(a_lf_whose_cr_came_in_an_earlier_piece_is_a_line_end),
        cmocka_unit_test(a_trailer_section_ends_at_its_empty_line_however_it_is_cut),
        cmocka_unit_test(a_block_is_taken_apart),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(an_error_names_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
