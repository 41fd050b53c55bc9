/* ext/toml: what a file hands over, and the place of each mistake. */
#include "ext/toml.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static enum lh_status note(const char *key, struct lh_str value, enum lh_config_type type,
                           unsigned line, void *arg, struct lh_error *error)
{
    static const char types[] = "sidb";
    lh_buf_printf(arg, "%u %s %c %.*s\n", line, key, types[type], LH_STR_FMT(value));
    if (lh_str_eq(value, LH_STR("stop")))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "stopped at %s", key);
    return LH_OK;
}

/* Reads `text` as a file; the seen values are in `seen`, and the path in an error's text is "F". */
static enum lh_status read_text(struct lh_str text, struct lh_buf *seen, char error_text[160])
{
    char path[] = "/tmp/lh_toml_test_XXXXXX";
    struct lh_error error = {0};
    enum lh_status status;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.ptr, text.len), (ssize_t)text.len);
    close(fd);
    status = lh_toml_read(path, note, seen, &error);
    unlink(path);
    if (lh_str_has_prefix(lh_str_of(error.text), lh_str_of(path)))
        snprintf(error_text, 160, "F%s", error.text + strlen(path));
    else
        snprintf(error_text, 160, "%s", error.text);
    return status;
}

static void assert_reads(struct lh_str text, const char *want)
{
    struct lh_buf seen = LH_BUF_EMPTY;
    char error[160];
    if (read_text(text, &seen, error) != LH_OK)
        fail_msg("%s", error);
    if (!lh_str_eq(lh_buf_str(&seen), lh_str_of(want)))
        fail_msg("%.*s", LH_STR_FMT(lh_buf_str(&seen)));
    lh_buf_deinit(&seen);
}

static void assert_refused(struct lh_str text, const char *want)
{
    struct lh_buf seen = LH_BUF_EMPTY;
    char error[160];
    assert_int_equal(read_text(text, &seen, error), LH_CONFIG);
    assert_string_equal(error, want);
    assert_int_equal(seen.len, 0); /* nothing is handed over from a broken file */
    lh_buf_deinit(&seen);
}

static void values_come_in_the_order_of_lines_with_their_types(void **state)
{
    assert_reads(LH_STR("# comment\n[vectord]\nshards = 1_000\nbind = \"a\\n\\u00e4\"\n\n[s3]\n"
                        "use_path_style = true\nregion = 'raw\\n'\ncolour = false\nn = -3\n"),
                 "3 vectord.shards i 1000\n4 vectord.bind s a\n\xc3\xa4\n7 s3.use_path_style b "
                 "true\n8 s3.region s raw\\n\n9 s3.colour b false\n10 s3.n i -3\n");
    assert_reads(LH_STR(""), "");
    assert_reads(LH_STR("[empty]\n"), "");
    assert_reads(LH_STR("a.b = 1\r\n"), "1 a.b i 1\n"); /* a dotted key is its section's */
}

static void broken_syntax_names_line_and_reason(void **state)
{
    assert_refused(LH_STR("[a]\nb = 1\nb = 2\n"), "F:3: value (\"b\") already exists.");
    assert_refused(LH_STR("[a]\nb = \n"), "F:2: missing value after key-value separator '='");
    assert_refused(LH_STR("[a\nb = 1\n"), "F:1: an invalid key appeared.");
    assert_refused(LH_STR("[a]\nb 1\n"), "F:2: missing key-value separator `=`");
    assert_refused(LH_STR("[a]\nb = \"x\n"), "F:2: the next token is not a valid string");
    assert_refused(LH_STR("[a]\nb = \"\xff\"\n"), "F:2: invalid utf8 sequence found");
}

static void only_plain_values_in_sections_are_accepted(void **state)
{
    assert_refused(LH_STR("\nshards = 8\n"), "F:2: shards: stands outside any [section]");
    assert_refused(LH_STR("[a]\nb = [1]\n"), "F:2: a.b: an array where a plain value belongs");
    assert_refused(LH_STR("[a]\nx = 1\n[a.b]\nc = 1\n"),
                   "F:3: a.b: a table where a plain value belongs");
    assert_refused(LH_STR("[a]\nb = 1.5\n"),
                   "F:2: a.b: a number with a fraction where a plain value belongs");
    assert_refused(LH_STR("[a]\nb = 2020-01-01\n"),
                   "F:2: a.b: a date or time where a plain value belongs");
    assert_refused(LH_STR("[[a]]\nb = 1\n"),
                   "F:1: a: an array of tables where a [section] belongs");
}

static void an_integer_beyond_64_bits_is_not_wrapped(void **state)
{
    struct lh_buf seen = LH_BUF_EMPTY;
    char error[160];
    if (read_text(LH_STR("[a]\nb = 18446744073709551624\n"), &seen, error) == LH_OK)
        assert_true(lh_str_eq(lh_buf_str(&seen), LH_STR("2 a.b i 9223372036854775807\n")));
    lh_buf_deinit(&seen);
}

static void what_cannot_be_read_is_named(void **state)
{
    struct lh_error error;
    struct lh_buf seen = LH_BUF_EMPTY;
    assert_int_equal(lh_toml_read("/nonexistent/x.toml", note, &seen, &error), LH_CONFIG);
    assert_string_equal(error.text, "/nonexistent/x.toml: No such file or directory");
    assert_int_equal(lh_toml_read("/tmp", note, &seen, &error), LH_CONFIG);
    assert_string_equal(error.text, "/tmp: is a directory, not a file");
    assert_int_equal(lh_toml_read("/dev/zero", note, &seen, &error), LH_CONFIG);
    assert_string_equal(error.text, "/dev/zero: is larger than 1048576 bytes");
    lh_buf_deinit(&seen);
}

static void what_each_refuses_ends_the_reading(void **state)
{
    struct lh_buf seen = LH_BUF_EMPTY;
    char error[160];
    assert_int_equal(read_text(LH_STR("[a]\nb = 1\nc = \"stop\"\nd = 2\n"), &seen, error),
                     LH_INVALID_ARGUMENT);
    assert_string_equal(error, "stopped at a.c");
    assert_true(lh_str_eq(lh_buf_str(&seen), LH_STR("2 a.b i 1\n3 a.c s stop\n")));
    lh_buf_deinit(&seen);
}

static enum lh_status set_key(const char *key, struct lh_str value, enum lh_config_type type,
                              unsigned line, void *arg, struct lh_error *error)
{
    return lh_config_set(arg, key, value, type, "printed", error);
}

/* What the configuration prints, it reads, and prints again the same. */
static void a_printed_configuration_reads_back(void **state)
{
    struct lh_config *config, *again;
    struct lh_buf first = LH_BUF_EMPTY, second = LH_BUF_EMPTY;
    struct lh_error error = {0};
    char path[] = "/tmp/lh_toml_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(lh_config_create(&config), LH_OK);
    assert_int_equal(lh_config_create(&again), LH_OK);
    assert_int_equal(lh_config_set_argument(config, LH_STR("server.idle_timeout=90500"), &error),
                     LH_OK);
    assert_int_equal(
        lh_config_set_argument(config, LH_STR("vectord.data_dir=q\"u\\o\t\x7f\xc3\xa4"), &error),
        LH_OK);
    lh_config_print(config, &first);
    assert_int_equal(write(fd, first.ptr, first.len), (ssize_t)first.len);
    close(fd);
    if (lh_toml_read(path, set_key, again, &error) != LH_OK)
        fail_msg("%s", error.text);
    unlink(path);
    lh_config_print(again, &second);
    assert_true(lh_str_eq(lh_buf_str(&first), lh_buf_str(&second)));
    assert_true(
        lh_str_eq(lh_config_string(again, "vectord.data_dir"), LH_STR("q\"u\\o\t\x7f\xc3\xa4")));
    lh_buf_deinit(&first);
    lh_buf_deinit(&second);
    lh_config_destroy(config);
    lh_config_destroy(again);
}

static void lists_are_numbered(void **state)
{
    struct lh_buf seen = LH_BUF_EMPTY;
    struct lh_error error = {0};
    struct lh_str text = LH_STR("[[a]]\nb = [1, 2]\n[[a]]\nc = \"x\"\n[d]\ne = [true]\n");
    assert_int_equal(lh_toml_read_lists(text, "F", note, &seen, &error), LH_OK);
    lh_buf_append_char(&seen, '\0');
    assert_string_equal(seen.ptr, "2 a[0].b[0] i 1\n2 a[0].b[1] i 2\n4 a[1].c s x\n"
                                  "6 d.e[0] b true\n");
    lh_buf_deinit(&seen);
    (void)state;
}

static void lists_in_lists_are_refused(void **state)
{
    struct lh_buf seen = LH_BUF_EMPTY;
    struct lh_error error = {0};
    assert_int_equal(lh_toml_read_lists(LH_STR("[a]\nb = [[1]]\n"), "F", note, &seen, &error),
                     LH_CONFIG);
    assert_string_equal(error.text, "F:2: a.b: an array inside an array");
    assert_int_equal(lh_toml_read_lists(LH_STR("[a]\nb = []\n"), "F", note, &seen, &error),
                     LH_CONFIG);
    assert_string_equal(error.text, "F:2: a.b: is empty");
    assert_int_equal(lh_toml_read_lists(LH_STR("a = [1]\n"), "F", note, &seen, &error), LH_CONFIG);
    assert_string_equal(error.text, "F:1: a: an array of tables where a [section] belongs");
    assert_int_equal(seen.len, 0);
    lh_buf_deinit(&seen);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_in_the_order_of_lines_with_their_types),
        cmocka_unit_test(broken_syntax_names_line_and_reason),
        cmocka_unit_test(only_plain_values_in_sections_are_accepted),
        cmocka_unit_test(an_integer_beyond_64_bits_is_not_wrapped),
        cmocka_unit_test(what_cannot_be_read_is_named),
        cmocka_unit_test(what_each_refuses_ends_the_reading),
        cmocka_unit_test(a_printed_configuration_reads_back),
        cmocka_unit_test(lists_are_numbered),
        cmocka_unit_test(lists_in_lists_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
