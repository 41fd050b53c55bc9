/* net/multipart: one file out of multipart/form-data, whatever the pieces are that it comes in. */
#include "base/buf.h"
#include "net/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static enum lh_status append(struct lh_str bytes, void *arg, struct lh_error *error)
{
    lh_buf_append_str(arg, bytes);
    return LH_OK;
}

/* In pieces of `step` bytes. */
static enum lh_status take(struct lh_multipart *multipart, struct lh_str text, size_t step,
                           struct lh_buf *body, struct lh_error *error)
{
    enum lh_status status = lh_multipart_init(
        multipart, LH_STR("multipart/form-data; charset=utf-8; boundary=\"xYz\""), error);
    assert_int_equal(status, LH_OK);
    for (size_t i = 0; i < text.len && status == LH_OK; i += step) {
        size_t len = text.len - i < step ? text.len - i : step;
        status = lh_multipart_take(multipart, (struct lh_str){text.ptr + i, len},
                                   &(struct lh_multipart_sink){append, body}, error);
    }
    return status == LH_OK ? lh_multipart_end(multipart, error) : status;
}

#define HEAD                                                                                       \
    "--xYz\r\nContent-Disposition: form-data; name=\"a; filename=b\"; filename=\"p;q.csv.gz\"\r\n" \
    "content-type: text/csv\r\n\r\n"

static void files_come_out_as_they_were(void **state)
{
    static const struct {
        struct lh_str text, body;
    } cases[] = {
#define CASE(text, body)           \
    {                              \
        {text, sizeof(text) - 1},  \
        {                          \
            body, sizeof(body) - 1 \
        }                          \
    }
        CASE(HEAD "a,b\n1,2\r\n--xYz--\r\n", "a,b\n1,2"),
        CASE(HEAD "a,b\r\n1,2\r\n\r\n--xYz--", "a,b\r\n1,2\r\n"),
        CASE(HEAD "\r\n--xYz--", ""),
        CASE(HEAD "\r\r\n--xY\r\n--xYz--", "\r\r\n--xY"),
        CASE(HEAD "\r\n\r\n-\r\n--xYz--", "\r\n\r\n-"),
        CASE(HEAD "\r\n--xY\r\n--xYz--", "\r\n--xY"),
        CASE(HEAD "--xYz\r\n--xYz--", ""),
        CASE(HEAD "a\0b\r\n--xYz--", "a\0b"),
        CASE("preamble\r\n" HEAD "a\r\n--xYz--\r\nepilogue", "a"),
        CASE("\r\n" HEAD "a\r\n--xYz  --", "a"),
#undef CASE
    };
    struct lh_multipart multipart;
    struct lh_error error;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step <= cases[i].text.len; step++) {
            struct lh_buf body = LH_BUF_EMPTY;
            enum lh_status status = take(&multipart, cases[i].text, step, &body, &error);
            if (i == 6) { /* empty, and then another part */
                assert_int_equal(status, LH_BAD_REQUEST);
                lh_buf_deinit(&body);
                continue;
            }
            if (status != LH_OK || !lh_str_eq(lh_buf_str(&body), cases[i].body))
                fail_msg("case %zu in steps of %zu", i, step);
            assert_string_equal(multipart.file_name, "p;q.csv.gz");
            assert_string_equal(multipart.content_type, "text/csv");
            lh_buf_deinit(&body);
        }
    }
}

static void what_is_wrong_is_told(void **state)
{
    static const char *const cases[] = {
        "",
        "--xYz--",
        "no boundary at all",
        HEAD "a",
        HEAD "a\r\n--xYz",
        HEAD "a\r\n--xYz\r\nContent-Disposition: form-data\r\n\r\nb\r\n--xYz--",
        HEAD "a\r\n--xYzz",
        "--xYz\r\nno colon\r\n\r\na\r\n--xYz--",
        "--xYz\r\nA: b\n\r\na\r\n--xYz--",
    };
    struct lh_multipart multipart;
    struct lh_error error;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lh_buf body = LH_BUF_EMPTY;
        assert_int_equal(take(&multipart, lh_str_of(cases[i]), 7, &body, &error), LH_BAD_REQUEST);
        lh_buf_deinit(&body);
    }
}

static void headers_are_bounded(void **state)
{
    struct lh_multipart multipart;
    struct lh_error error;
    struct lh_buf text = LH_BUF_EMPTY, body = LH_BUF_EMPTY;
    (void)state;
    lh_buf_append_str(&text, LH_STR("--xYz\r\n"));
    for (unsigned i = 0; i <= LH_MULTIPART_LINES_MAX; i++)
        lh_buf_append_str(&text, LH_STR("A: b\r\n"));
    assert_int_equal(take(&multipart, lh_buf_str(&text), 100, &body, &error), LH_BAD_REQUEST);
    text.len = 7;
    for (unsigned i = 0; i <= LH_MULTIPART_LINE_MAX; i++)
        lh_buf_append_char(&text, 'a');
    assert_int_equal(take(&multipart, lh_buf_str(&text), 100, &body, &error), LH_BAD_REQUEST);
    lh_buf_deinit(&text);
    lh_buf_deinit(&body);
}

static void boundaries_are_checked(void **state)
{
    static const char *const bad[] = {
        "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"",
        "multipart/form-data; boundary=\"a\tb\"",
        "multipart/form-data; "
        "boundary=01234567890123456789012345678901234567890123456789012345678901234567890"};
    struct lh_multipart multipart;
    struct lh_error error;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(lh_multipart_init(&multipart, lh_str_of(bad[i]), &error),
                         LH_INVALID_ARGUMENT);
    assert_true(lh_multipart_is(LH_STR("Multipart/Form-Data ; boundary=x")));
    assert_false(lh_multipart_is(LH_STR("multipart/mixed; boundary=x")));
    assert_false(lh_multipart_is(LH_STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_come_out_as_they_were),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(boundaries_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
