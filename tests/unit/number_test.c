/* Numbers and base64 out and in. */
#include "ext/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void expect_text(float value, const char *text)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    lh_number_append_f32(&buf, value);
    assert_false(lh_buf_failed(&buf));
    assert_int_equal(buf.len, strlen(text));
    assert_memory_equal(buf.ptr, text, buf.len);
    lh_buf_deinit(&buf);
}

static void a_float_is_written_as_its_shortest_text(void **state)
{
    expect_text(0.1f, "0.1");
    expect_text(1, "1");
    expect_text(-2.5f, "-2.5");
    expect_text(3.4028235e38f, "3.4028235e+38");
    expect_text(1e-45f, "1e-45");
    expect_text(-1.17549435e-38f, "-1.1754944e-38");
}

static void zero_keeps_its_sign(void **state)
{
    expect_text(0.0f, "0");
    expect_text(-0.0f, "-0.0");
}

static void every_written_float_reads_back_as_itself(void **state)
{
    srand48(11);
    for (int i = 0; i < 200000; i++) {
        struct lh_buf buf = LH_BUF_EMPTY;
        uint32_t bits = (uint32_t)mrand48();
        float value;
        float again;
        memcpy(&value, &bits, 4);
        if (!isfinite(value)) {
            continue;
        }
        lh_number_append_f32(&buf, value);
        lh_buf_append_char(&buf, 0);
        again = strtof(buf.ptr, NULL);
        assert_memory_equal(&again, &value, 4);
        lh_buf_deinit(&buf);
    }
}

static void an_array_is_written_without_spaces(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    const float values[] = {1, -2.5f, 1e-7f};
    lh_buf_append_char(&buf, 'x');
    lh_number_append_f32_array(&buf, values, 3);
    lh_number_append_f32_array(&buf, values, 1);
    lh_number_append_f32_array(&buf, values, 0);
    assert_true(lh_str_eq(lh_buf_str(&buf), LH_STR("x[1,-2.5,1e-07][1][]")));
    lh_buf_deinit(&buf);
}

static void the_longest_floats_fit_their_array(void **state)
{
    struct lh_buf buf = LH_BUF_EMPTY;
    float values[257];
    for (int i = 0; i < 257; i++) {
        values[i] = -1.17549435e-38f - (float)i * 1e-44f;
    }
    lh_number_append_f32_array(&buf, values, 257);
    assert_int_equal(buf.ptr[buf.len - 1], ']');
    lh_buf_deinit(&buf);
}

static void base64_follows_the_vectors_of_rfc_4648(void **state)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct lh_buf buf = LH_BUF_EMPTY;
        char bytes[16];
        size_t len = 99;
        lh_base64_append(&buf, vectors[i][0], strlen(vectors[i][0]));
        assert_true(lh_str_eq(lh_buf_str(&buf), lh_str_of(vectors[i][1])));
        assert_true(lh_base64_decode(lh_str_of(vectors[i][1]), bytes, &len));
        assert_true(lh_str_eq((struct lh_str){bytes, len}, lh_str_of(vectors[i][0])));
        lh_buf_deinit(&buf);
    }
}

static void base64_refuses_all_but_the_alphabet_and_right_padding(void **state)
{
    static const char *const bad[] = {
        "Zg",    "Zg=",  "Z===",      "====", "Zg==Zg==", "Zm=v",    "=Zm9", "Zm9v=",
        "Zm9\n", "Zm-_", "Zm9v Zm9v", "Zh==", "Zm9=",     "Zm\x80v", "A",    "Zm9vZm9v*m9v",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char bytes[64];
        size_t len;
        if (lh_base64_decode(lh_str_of(bad[i]), bytes, &len)) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void base64_returns_the_bytes_of_any_length(void **state)
{
    unsigned char in[300];
    unsigned char out[300];
    srand48(12);
    for (size_t len = 0; len < sizeof in; len++) {
        struct lh_buf buf = LH_BUF_EMPTY;
        size_t out_len = 0;
        for (size_t i = 0; i < len; i++) {
            in[i] = (unsigned char)mrand48();
        }
        lh_base64_append(&buf, in, len);
        assert_true(lh_base64_decode(lh_buf_str(&buf), out, &out_len));
        assert_int_equal(out_len, len);
        assert_int_equal(memcmp(in, out, len), 0);
        lh_buf_deinit(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_float_is_written_as_its_shortest_text),
        cmocka_unit_test(zero_keeps_its_sign),
        cmocka_unit_test(every_written_float_reads_back_as_itself),
        cmocka_unit_test(an_array_is_written_without_spaces),
        cmocka_unit_test(the_longest_floats_fit_their_array),
        cmocka_unit_test(base64_follows_the_vectors_of_rfc_4648),
        cmocka_unit_test(base64_refuses_all_but_the_alphabet_and_right_padding),
        cmocka_unit_test(base64_returns_the_bytes_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
