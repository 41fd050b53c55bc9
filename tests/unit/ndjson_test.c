/* NDJSON: whole lines to batches, wherever the pieces of a stream end. */
#include "unit/decode_help.h"

struct piece {
    struct lh_batch batch;
    size_t consumed;
    uint64_t lines;
    struct lh_error error;
    enum lh_status status;
};

static struct piece decode_piece(void **state, struct lh_str text, bool is_last, uint64_t line)
{
    struct piece p = {0};
    struct lh_buf buf = tight_buf(text);
    p.status =
        lh_decode_ndjson(*state, &buf, 0, is_last, line, &p.batch, &p.consumed, &p.lines, &p.error);
    lh_buf_deinit(&buf);
    return p;
}

#define A "{\"id\":\"a\",\"vector\":[1,2]}"
#define B "{\"id\":\"b\",\"vector\":[3,4],\"metadata\":{\"n\": 1}}"

static void expect_piece(const struct piece *p, uint32_t count, size_t consumed, uint64_t lines)
{
    if (p->status != LH_OK) {
        fail_msg("%s", p->error.text);
    }
    assert_int_equal(p->batch.count, count);
    assert_int_equal(p->consumed, consumed);
    assert_int_equal(p->lines, lines);
}

static void each_line_is_an_item(void **state)
{
    struct piece p = decode_piece(state, LH_STR(A "\n" B "\n"), false, 1);
    const float rows[] = {1, 2, 3, 4};
    expect_piece(&p, 2, sizeof(A "\n" B), 2);
    expect_str(p.batch.items[1].id, "b");
    expect_str(p.batch.items[1].metadata, "{\"n\":1}");
    assert_memory_equal(p.batch.rows, rows, sizeof rows);
    lh_batch_deinit(&p.batch);
}

static void the_last_line_needs_no_newline(void **state)
{
    struct piece p = decode_piece(state, LH_STR(A "\n" B), true, 1);
    expect_piece(&p, 2, sizeof(A "\n" B) - 1, 2);
    lh_batch_deinit(&p.batch);
}

static void a_line_without_its_end_waits(void **state)
{
    struct piece p = decode_piece(state, LH_STR(A "\n" B), false, 1);
    expect_piece(&p, 1, sizeof A, 1);
    lh_batch_deinit(&p.batch);
    p = decode_piece(state, LH_STR("{\"id\":"), false, 1);
    expect_piece(&p, 0, 0, 0);
    lh_batch_deinit(&p.batch);
    p = decode_piece(state, LH_STR(""), true, 1);
    expect_piece(&p, 0, 0, 0);
    lh_batch_deinit(&p.batch);
}

static void blank_lines_and_crlf_are_skipped(void **state)
{
    struct piece p = decode_piece(state, LH_STR("\r\n\n  \t\n" A "\r\n\n" B "\r\n \n"), false, 1);
    expect_piece(&p, 2, sizeof("\r\n\n  \t\n" A "\r\n\n" B "\r\n \n") - 1, 7);
    lh_batch_deinit(&p.batch);
}

static void a_bad_first_line_is_refused_with_its_number(void **state)
{
    static const struct {
        const char *text;
        enum lh_status status;
        const char *error;
    } list[] = {
        {"{\"id\":\"a\"}\n", LH_INVALID_ARGUMENT, "line 12: vector: is missing"},
        {"\n\r\n{\"id\":\"a\"}\n", LH_INVALID_ARGUMENT, "line 14: vector: is missing"},
        {"[1]\n", LH_INVALID_ARGUMENT, "line 12: the body must be a JSON object"},
        {"{\"id\":\"a\",\n", LH_INVALID_JSON, "line 12: byte 10: the text ends too early"},
        {"{\"id\":\"a\n\"}\n", LH_INVALID_JSON, "line 12: byte 8: the string does not end"},
        {A A "\n", LH_INVALID_JSON, "line 12: byte 25: nothing may follow the JSON value"},
        {A ",\n", LH_INVALID_JSON, "line 12: byte 25: nothing may follow the JSON value"},
        {"{\"id\":\"a\",\"vector\":[1,NaN]}\n", LH_INVALID_ARGUMENT,
         "line 12: vector[1]: NaN is not a finite number"},
        {"{\"id\":\"a\",\"vector\":[1,2\n]}\n", LH_INVALID_JSON,
         "line 12: byte 23: the text ends too early"},
        {"{\"id\":\"a\",\"x\":1}\n", LH_INVALID_ARGUMENT, "line 12: unknown member \"x\""},
        {"{\"id\":\"\xff\"}\n", LH_INVALID_JSON, "line 12: byte 7: not valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct piece p = decode_piece(state, lh_str_of(list[i].text), false, 12);
        expect_error(list[i].text, p.status, &p.error, list[i].status, list[i].error);
        assert_int_equal(p.batch.count, 0);
    }
}

static void lines_before_a_bad_one_are_returned_first(void **state)
{
    struct lh_str text = LH_STR(A "\n" B "\nbad\n" A "\n");
    struct piece p = decode_piece(state, text, true, 1);
    expect_piece(&p, 2, sizeof(A "\n" B), 2);
    text.ptr += p.consumed;
    text.len -= p.consumed;
    lh_batch_deinit(&p.batch);
    p = decode_piece(state, text, true, 3);
    expect_error("", p.status, &p.error, LH_INVALID_JSON,
                 "line 3: byte 0: a JSON value was expected");
}

static void another_dimension_begins_another_batch(void **state)
{
    struct lh_str text = LH_STR(A "\n{\"id\":\"c\",\"vector\":[1]}\n" A "\n");
    struct piece p = decode_piece(state, text, true, 1);
    expect_piece(&p, 1, sizeof A, 1);
    text.ptr += p.consumed;
    text.len -= p.consumed;
    lh_batch_deinit(&p.batch);
    p = decode_piece(state, text, true, 2);
    expect_piece(&p, 1, sizeof "{\"id\":\"c\",\"vector\":[1]}", 1);
    assert_int_equal(p.batch.dimension, 1);
    lh_batch_deinit(&p.batch);
}

static void a_line_that_was_left_is_read_again_as_it_was(void **state)
{
    const char *line = "{\"id\":\"c\",\"vector\":\"zcz\\/vQ==\"}\n"; /* an escaped slash */
    struct lh_buf text = LH_BUF_EMPTY;
    struct piece p = {0};
    size_t offset;
    lh_buf_printf(&text, "%s\n%s", A, line);
    p.status =
        lh_decode_ndjson(*state, &text, 0, false, 1, &p.batch, &p.consumed, &p.lines, &p.error);
    expect_piece(&p, 1, sizeof A, 1);
    offset = p.consumed;
    lh_batch_deinit(&p.batch);
    p.status = lh_decode_ndjson(*state, &text, offset, false, 2, &p.batch, &p.consumed, &p.lines,
                                &p.error);
    expect_piece(&p, 1, strlen(line), 1);
    assert_int_equal(p.batch.dimension, 1);
    lh_batch_deinit(&p.batch);
    lh_buf_deinit(&text);
}

static void a_batch_ends_at_its_limit(void **state)
{
    struct lh_buf text = LH_BUF_EMPTY;
    struct piece p;
    for (unsigned i = 0; i < LH_NDJSON_BATCH_ITEMS + 5; i++) {
        lh_buf_printf(&text, A "\n");
    }
    p = decode_piece(state, lh_buf_str(&text), true, 1);
    expect_piece(&p, LH_NDJSON_BATCH_ITEMS, LH_NDJSON_BATCH_ITEMS * sizeof A,
                 LH_NDJSON_BATCH_ITEMS);
    lh_batch_deinit(&p.batch);
    lh_buf_consume(&text, p.consumed);
    p = decode_piece(state, lh_buf_str(&text), true, LH_NDJSON_BATCH_ITEMS + 1);
    expect_piece(&p, 5, 5 * sizeof A, 5);
    lh_batch_deinit(&p.batch);
    lh_buf_deinit(&text);
}

static void a_line_ends_at_its_limit(void **state)
{
    for (int whole = 0; whole < 2; whole++) {
        for (size_t more = 0; more < 2; more++) {
            struct lh_buf text = LH_BUF_EMPTY;
            struct piece p;
            lh_buf_printf(&text, "{\"id\":\"a\",");
            while (text.len < LH_NDJSON_LINE_BYTES_MAX + more - 13) {
                lh_buf_append_char(&text, ' ');
            }
            lh_buf_printf(&text, "\"vector\":[1]}%s", whole ? "\n" : "");
            p = decode_piece(state, lh_buf_str(&text), false, 3);
            if (more == 0) {
                expect_piece(&p, whole ? 1 : 0, whole ? text.len : 0, whole ? 1 : 0);
                lh_batch_deinit(&p.batch);
            } else {
                expect_error("", p.status, &p.error, LH_LINE_TOO_LONG,
                             "line 3: longer than the limit of 4194304 bytes");
            }
            lh_buf_deinit(&text);
        }
    }
}

static void a_stream_cut_anywhere_gives_the_same_items(void **state)
{
    struct lh_str text = LH_STR(A "\r\n\n" B "\n" A "\n" B);
    for (size_t cut = 0; cut <= text.len; cut++) {
        struct piece p = decode_piece(state, (struct lh_str){text.ptr, cut}, false, 1);
        struct piece q;
        assert_int_equal(p.status, LH_OK);
        q = decode_piece(state, (struct lh_str){text.ptr + p.consumed, text.len - p.consumed}, true,
                         1 + p.lines);
        assert_int_equal(q.status, LH_OK);
        assert_int_equal(p.batch.count + q.batch.count, 4);
        assert_int_equal(p.consumed + q.consumed, text.len);
        assert_int_equal(p.lines + q.lines, 5);
        lh_batch_deinit(&p.batch);
        lh_batch_deinit(&q.batch);
    }
}

static void reading_starts_at_the_offset(void **state)
{
    struct lh_buf buf = tight_buf(LH_STR("garbage" A "\n"));
    struct piece p = {0};
    p.status =
        lh_decode_ndjson(*state, &buf, 7, false, 1, &p.batch, &p.consumed, &p.lines, &p.error);
    expect_piece(&p, 1, sizeof A, 1);
    lh_batch_deinit(&p.batch);
    lh_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_is_an_item),
        cmocka_unit_test(the_last_line_needs_no_newline),
        cmocka_unit_test(a_line_without_its_end_waits),
        cmocka_unit_test(blank_lines_and_crlf_are_skipped),
        cmocka_unit_test(a_bad_first_line_is_refused_with_its_number),
        cmocka_unit_test(lines_before_a_bad_one_are_returned_first),
        cmocka_unit_test(another_dimension_begins_another_batch),
        cmocka_unit_test(a_line_that_was_left_is_read_again_as_it_was),
        cmocka_unit_test(a_batch_ends_at_its_limit),
        cmocka_unit_test(a_line_ends_at_its_limit),
        cmocka_unit_test(a_stream_cut_anywhere_gives_the_same_items),
        cmocka_unit_test(reading_starts_at_the_offset),
    };
    return cmocka_run_group_tests(tests, decode_setup, decode_teardown);
}
