/* base/log: what a line looks like, and that it is one write. */
#include "base/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A datagram socket keeps writes apart, so that one read is one write. */
static void open_log(struct lh_log *log, int *reader)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair), 0);
    *log = (struct lh_log){.fd = pair[0], .level = {LH_LOG_INFO}};
    *reader = pair[1];
}

static struct lh_str next_line(int reader, char line[8192])
{
    ssize_t got = read(reader, line, 8192);
    return (struct lh_str){line, got > 0 ? (size_t)got : 0};
}

static struct lh_str after_timestamp(struct lh_str line)
{
    static const char shape[] = "{\"ts\":\"0000-00-00T00:00:00.000Z\"";
    size_t len = sizeof shape - 1;
    assert_true(line.len > len);
    for (size_t i = 0; i < len; i++) {
        if (shape[i] == '0')
            assert_true(line.ptr[i] >= '0' && line.ptr[i] <= '9');
        else
            assert_int_equal(line.ptr[i], shape[i]);
    }
    return (struct lh_str){line.ptr + len, line.len - len};
}

static void assert_line(struct lh_str line, struct lh_str want)
{
    struct lh_str rest = after_timestamp(line);
    if (!lh_str_eq(rest, want))
        fail_msg("%.*s", LH_STR_FMT(rest));
}

static void an_event_is_one_write_of_one_json_line(void **state)
{
    char line[8192];
    struct lh_log log;
    int reader;
    open_log(&log, &reader);
    lh_log_line(&log, LH_LOG_INFO, "index created", LH_LOG_TEXT("index", "words"),
                LH_LOG_U64("shards", UINT64_MAX));
    assert_line(next_line(reader, line),
                LH_STR(",\"level\":\"info\",\"event\":\"index created\",\"index\":\"words\","
                       "\"shards\":18446744073709551615}\n"));
    lh_log_event(&log, LH_LOG_ERROR, "bare", NULL, 0);
    assert_line(next_line(reader, line), LH_STR(",\"level\":\"error\",\"event\":\"bare\"}\n"));
    assert_int_equal(next_line(reader, line).len, 0);
    close(log.fd);
    close(reader);
}

static void text_is_escaped_and_made_utf8(void **state)
{
    char line[8192];
    struct lh_log log;
    int reader;
    open_log(&log, &reader);
    lh_log_line(&log, LH_LOG_WARN, "a\nb", LH_LOG_STR("t", LH_STR("\"\\\x01\xff\xc3\xa4")));
    assert_line(next_line(reader, line),
                LH_STR(",\"level\":\"warn\",\"event\":\"a\\nb\","
                       "\"t\":\"\\\"\\\\\\u0001\xef\xbf\xbd\xc3\xa4\"}\n"));
    close(log.fd);
    close(reader);
}

static void lines_below_the_level_are_not_written(void **state)
{
    char line[8192];
    struct lh_log log;
    int reader;
    open_log(&log, &reader);
    lh_log_event(&log, LH_LOG_DEBUG, "quiet", NULL, 0);
    lh_log_event(NULL, LH_LOG_ERROR, "no log", NULL, 0);
    assert_int_equal(next_line(reader, line).len, 0);
    close(log.fd);
    close(reader);
}

/* Every length of text around the limit: whole, or cut and closed, and never past 4 KiB. */
static void a_long_line_is_cut_and_still_json(void **state)
{
    char line[8192], text[4600];
    struct lh_log log;
    int reader;
    bool was_whole = false, was_cut = false;
    open_log(&log, &reader);
    memset(text, '\n', sizeof text); /* two bytes each when escaped */
    for (size_t len = 1900; len <= 2100; len++) {
        struct lh_str got, tail = LH_STR("\",\"n\":7}\n"), cut = LH_STR(",\"cut\":true}\n");
        lh_log_line(&log, LH_LOG_INFO, "e", LH_LOG_STR("t", ((struct lh_str){text, len})),
                    LH_LOG_U64("n", 7));
        got = next_line(reader, line);
        assert_true(got.len <= 4096);
        if (lh_str_has_prefix((struct lh_str){got.ptr + got.len - cut.len, cut.len}, cut)) {
            struct lh_str before = {got.ptr, got.len - cut.len};
            was_cut = true;
            /* closed after a whole escape or a whole string, never within */
            assert_int_equal(before.ptr[before.len - 1], '"');
            assert_true(before.ptr[before.len - 2] == 'n' && before.ptr[before.len - 3] == '\\');
        } else {
            assert_true(lh_str_eq((struct lh_str){got.ptr + got.len - tail.len, tail.len}, tail));
            assert_false(was_cut);
            was_whole = true;
        }
    }
    assert_true(was_whole && was_cut);
    close(log.fd);
    close(reader);
}

static void levels_have_their_four_names(void **state)
{
    enum lh_log_level level = LH_LOG_ERROR;
    assert_true(lh_log_level_parse(LH_STR("debug"), &level));
    assert_int_equal(level, LH_LOG_DEBUG);
    assert_true(lh_log_level_parse(LH_STR("warn"), &level));
    assert_int_equal(level, LH_LOG_WARN);
    assert_false(lh_log_level_parse(LH_STR("warning"), &level));
    assert_false(lh_log_level_parse(LH_STR(""), &level));
    assert_int_equal(level, LH_LOG_WARN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_one_write_of_one_json_line),
        cmocka_unit_test(text_is_escaped_and_made_utf8),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(a_long_line_is_cut_and_still_json),
        cmocka_unit_test(levels_have_their_four_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
