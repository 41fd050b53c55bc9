/* Bodies of items: what is accepted, what is refused, and with which place. */
#include "unit/decode_help.h"

#include <math.h>

struct refusal {
    const char *body;
    enum lh_status status;
    const char *text;
};

static void expect_refusals(void **state, const struct refusal *refusals, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct decoded d = decode_items(state, lh_str_of(refusals[i].body));
        expect_error(refusals[i].body, d.status, &d.error, refusals[i].status, refusals[i].text);
        decoded_deinit(&d);
    }
}

#define EXPECT_REFUSALS(state, list) expect_refusals(state, list, sizeof(list) / sizeof((list)[0]))

/* A body of one item whose vector is `text`. */
static struct decoded decode_vector(void **state, const char *text)
{
    struct lh_buf body = LH_BUF_EMPTY;
    struct decoded d;
    lh_buf_printf(&body, "{\"items\":[{\"id\":\"a\",\"vector\":%s}]}", text);
    d = decode_items(state, lh_buf_str(&body));
    lh_buf_deinit(&body);
    return d;
}

static void items_become_ids_rows_and_metadata(void **state)
{
    struct decoded d = decode_items(
        state,
        LH_STR(" {\"items\": [\n{\"id\":\"a\", \"vector\":[1, -2.5,3e0] },"
               "{\"metadata\":{\"x\": [1, {} ] , \"y z\" :\"\\u00e9 q\"},\"vector\":[0,0.5,-0],"
               "\"id\":\"b\\n\\u00e9\\ud83d\\ude00\\/\"}, {\"id\":\"c\",\"vector\""
               ":\"AACAPwAAAEAAAEBA\",\"metadata\":{}}] } \r\n\t"));
    const float rows[] = {1, -2.5f, 3, 0, 0.5f, -0.0f, 1, 2, 3};
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.count, 3);
    assert_int_equal(d.batch.dimension, 3);
    assert_int_equal((uintptr_t)d.batch.rows % 64, 0);
    assert_memory_equal(d.batch.rows, rows, sizeof rows);
    expect_str(d.batch.items[0].id, "a");
    assert_null(d.batch.items[0].metadata.ptr);
    expect_str(d.batch.items[1].id, "b\n\xc3\xa9\xf0\x9f\x98\x80/");
    expect_str(d.batch.items[1].metadata, "{\"x\":[1,{}],\"y z\":\"\\u00e9 q\"}");
    expect_str(d.batch.items[2].metadata, "{}");
    assert_int_equal(d.batch.odd_item, LH_NO_ITEM);
    assert_int_equal(d.batch.zero_item, LH_NO_ITEM);
    decoded_deinit(&d);
}

static void an_empty_list_is_a_batch_of_none(void **state)
{
    struct decoded d = decode_items(state, LH_STR("{\"items\":[]}"));
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.count, 0);
    decoded_deinit(&d);
}

static void the_same_id_twice_is_left_to_the_shards(void **state)
{
    struct decoded d = decode_items(
        state, LH_STR("{\"items\":[{\"id\":\"a\",\"vector\":[1]},{\"id\":\"a\",\"vector\":[2]}]}"));
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.count, 2);
    assert_true(d.batch.rows[1] == 2);
    decoded_deinit(&d);
}

static void a_body_that_is_no_object_is_refused(void **state)
{
    static const struct refusal list[] = {
        {"", LH_INVALID_JSON, "the body is empty"},
        {" \n", LH_INVALID_JSON, "the body is empty"},
        {"[]", LH_INVALID_ARGUMENT, "the body must be a JSON object"},
        {"3", LH_INVALID_ARGUMENT, "the body must be a JSON object"},
        {"null", LH_INVALID_ARGUMENT, "the body must be a JSON object"},
        {"\"items\"", LH_INVALID_ARGUMENT, "the body must be a JSON object"},
        {"{}", LH_INVALID_ARGUMENT, "items: is missing"},
        {"{\"items\":null}", LH_INVALID_ARGUMENT, "items: must be an array, found null"},
        {"{\"items\":{}}", LH_INVALID_ARGUMENT, "items: must be an array, found an object"},
        {"{\"items\":[],\"items\":[]}", LH_INVALID_ARGUMENT, "items: the member is there twice"},
        {"{\"item\":[]}", LH_INVALID_ARGUMENT, "unknown member \"item\""},
        {"{\"items\":[],\"a\\nb\":1}", LH_INVALID_ARGUMENT, "unknown member \"a\\nb\""},
        {"{\"items\":[3]}", LH_INVALID_ARGUMENT, "items[0]: must be an object, found a number"},
    };
    EXPECT_REFUSALS(state, list);
}

#define OK_ITEM "{\"id\":\"a\",\"vector\":[1,2]},"

static void a_wrong_member_of_an_item_is_named_with_its_place(void **state)
{
    static const struct refusal list[] = {
        {"{\"items\":[" OK_ITEM "{\"vector\":[1]}]}", LH_INVALID_ARGUMENT,
         "items[1].id: is missing"},
        {"{\"items\":[" OK_ITEM "{\"id\":\"b\"}]}", LH_INVALID_ARGUMENT,
         "items[1].vector: is missing"},
        {"{\"items\":[{\"id\":7}]}", LH_INVALID_ARGUMENT,
         "items[0].id: must be a string, found a number"},
        {"{\"items\":[{\"id\":\"\"}]}", LH_INVALID_ARGUMENT, "items[0].id: an empty id"},
        {"{\"items\":[{\"id\":\"a\",\"id\":\"b\"}]}", LH_INVALID_ARGUMENT,
         "items[0].id: the member is there twice"},
        {"{\"items\":[{\"id\":\"a\",\"vektor\":[1]}]}", LH_INVALID_ARGUMENT,
         "items[0]: unknown member \"vektor\""},
        {"{\"items\":[{\"id\":\"a\",\"vector\":null}]}", LH_INVALID_ARGUMENT,
         "items[0].vector: must be an array of numbers or a base64 string, found null"},
        {"{\"items\":[{\"id\":\"a\",\"vector\":true}]}", LH_INVALID_ARGUMENT,
         "items[0].vector: must be an array of numbers or a base64 string, found a boolean"},
        {"{\"items\":[{\"metadata\":null}]}", LH_INVALID_ARGUMENT,
         "items[0].metadata: must be an object, found null"},
        {"{\"items\":[{\"metadata\":[1]}]}", LH_INVALID_ARGUMENT,
         "items[0].metadata: must be an object, found an array"},
    };
    EXPECT_REFUSALS(state, list);
}

static void a_wrong_number_is_named_with_its_place(void **state)
{
    static const struct refusal list[] = {
        {"[]", LH_INVALID_ARGUMENT, "items[0].vector: an empty vector"},
        {"[ ]", LH_INVALID_ARGUMENT, "items[0].vector: an empty vector"},
        {"[1,NaN]", LH_INVALID_ARGUMENT, "items[0].vector[1]: NaN is not a finite number"},
        {"[Infinity]", LH_INVALID_ARGUMENT, "items[0].vector[0]: Infinity is not a finite number"},
        {"[1, -Infinity ]", LH_INVALID_ARGUMENT,
         "items[0].vector[1]: -Infinity is not a finite number"},
        {"[1,2,1e39]", LH_INVALID_ARGUMENT,
         "items[0].vector[2]: 1e39 is beyond the range of float32"},
        {"[-3.5e38]", LH_INVALID_ARGUMENT,
         "items[0].vector[0]: -3.5e38 is beyond the range of float32"},
        {"[1e999999999999]", LH_INVALID_ARGUMENT,
         "items[0].vector[0]: 1e999999999999 is beyond the range of float32"},
        {"[1,\"2\"]", LH_INVALID_ARGUMENT, "items[0].vector[1]: must be a number, found \"2\""},
        {"[null]", LH_INVALID_ARGUMENT, "items[0].vector[0]: must be a number, found null"},
        {"[1,[2]]", LH_INVALID_ARGUMENT, "items[0].vector[1]: must be a number, found [2"},
        {"[1,{}]", LH_INVALID_ARGUMENT, "items[0].vector[1]: must be a number, found {"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct decoded d = decode_vector(state, list[i].body);
        expect_error(list[i].body, d.status, &d.error, list[i].status, list[i].text);
        decoded_deinit(&d);
    }
}

static void numbers_outside_the_json_grammar_are_broken_json(void **state)
{
    static const char *const bad[] = {
        "[01]", "[-]",  "[+1]",  "[1.]",   "[.5]",  "[1e]",  "[1e+]",   "[0x10]",
        "[1,]", "[,1]", "[1 2]", "[1,,2]", "[1;2]", "[--1]", "[1.5.2]", "[1e5e5]",
        "[1}",  "[1,2", "[-a]",  "[1f]",   "[00]",  "[- 1]", "[1. 5]",  "[1_000]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct decoded d = decode_vector(state, bad[i]);
        if (d.status != LH_INVALID_JSON || strncmp(d.error.text, "byte ", 5) != 0) {
            fail_msg("%s: %s %s", bad[i], lh_status_code(d.status), d.error.text);
        }
        decoded_deinit(&d);
    }
}

static void broken_json_is_refused_with_its_byte(void **state)
{
    static const struct refusal list[] = {
        {"{\"items\":[]", LH_INVALID_JSON, "byte 11: the text ends too early"},
        {"{\"items\":[]} x", LH_INVALID_JSON, "byte 13: nothing may follow the JSON value"},
        {"{\"items\":[]}{\"items\":[]}", LH_INVALID_JSON,
         "byte 12: nothing may follow the JSON value"},
        {"{\"items\":[]}}", LH_INVALID_JSON, "byte 12: nothing may follow the JSON value"},
        {"{\"items\" []}", LH_INVALID_JSON, "byte 9: a colon was expected"},
        {"{items:[]}", LH_INVALID_JSON, "byte 1: a member's name in quotes was expected"},
        {"{\"items\":[],}", LH_INVALID_JSON, "byte 12: a member's name in quotes was expected"},
        {"{\"items\":[" OK_ITEM "]}", LH_INVALID_JSON, "byte 36: a JSON value was expected"},
        {"{\"items\":[{\"id\":\"a\"\"vector\":[1]}]}", LH_INVALID_JSON,
         "byte 19: a comma or } was expected"},
        {"{\"items\":[{\"id\":\"a\tb\"}]}", LH_INVALID_JSON,
         "byte 18: a control character in a string must be escaped"},
        {"{\"items\":[{\"id\":\"a\\qb\"}]}", LH_INVALID_JSON,
         "byte 18: no such escape in a string"},
        {"{\"items\":[{\"id\":\"a\\ud800b\"}]}", LH_INVALID_JSON,
         "byte 18: a surrogate must be half of a pair"},
        {"{\"items\":[{\"id\":\"a\\udc00b\"}]}", LH_INVALID_JSON,
         "byte 18: a surrogate must be half of a pair"},
        {"{\"items\":[{\"id\":\"a\\u12g4\"}]}", LH_INVALID_JSON,
         "byte 18: \\u needs four hexadecimal digits"},
        {"{\"items\":[{\"id\":\"a\xff\"}]}", LH_INVALID_JSON, "byte 18: not valid UTF-8"},
        {"{\"items\":[{\"id\":\"\xed\xa0\x80\"}]}", LH_INVALID_JSON, "byte 17: not valid UTF-8"},
        {"{\"items\":[{\"id\":\"a", LH_INVALID_JSON, "byte 18: the string does not end"},
        {"{\"items\":[{\"id\":\"a\",\"vector\":[1,2", LH_INVALID_JSON,
         "byte 33: the text ends too early"},
        {"\xef\xbb\xbf{\"items\":[]}", LH_INVALID_JSON, "byte 0: a JSON value was expected"},
        {"{\"items\":[{\"id\":nul}]}", LH_INVALID_ARGUMENT,
         "items[0].id: must be a string, found null"},
    };
    EXPECT_REFUSALS(state, list);
}

static void metadata_is_checked_to_its_last_byte(void **state)
{
    static const struct refusal list[] = {
        {"{\"items\":[{\"metadata\":{\"a\":tru}}]}", LH_INVALID_JSON,
         "items[0].metadata: byte 27: a JSON value was expected"},
        {"{\"items\":[{\"metadata\":{\"a\":01}}]}", LH_INVALID_JSON,
         "items[0].metadata: byte 28: a number cannot have leading zeros"},
        {"{\"items\":[{\"metadata\":{\"a\":1,}}]}", LH_INVALID_JSON,
         "items[0].metadata: byte 29: a member's name in quotes was expected"},
        {"{\"items\":[{\"metadata\":{\"a\" 1}}]}", LH_INVALID_JSON,
         "byte 27: a colon was expected"},
        {"{\"items\":[{\"metadata\":{\"a\":[1}}]}", LH_INVALID_JSON,
         "items[0].metadata: byte 29: a comma or ] was expected"},
        {"{\"items\":[{\"metadata\":{\"a\":\"\\ud800\"}}]}", LH_INVALID_JSON,
         "items[0].metadata: byte 28: a surrogate must be half of a pair"},
        {"{\"items\":[{\"metadata\":{\"a\":NaN}}]}", LH_INVALID_JSON,
         "items[0].metadata: byte 27: a JSON value was expected"},
    };
    EXPECT_REFUSALS(state, list);
}

/* A body whose only item has the metadata {"a":<open x depth ... close x depth>}. */
static struct decoded decode_nested(void **state, size_t depth)
{
    struct lh_buf body = LH_BUF_EMPTY;
    struct decoded d;
    lh_buf_printf(&body, "{\"items\":[{\"id\":\"a\",\"vector\":[1],\"metadata\":{\"a\":");
    for (size_t i = 0; i < depth; i++) {
        lh_buf_append_char(&body, '[');
    }
    for (size_t i = 0; i < depth; i++) {
        lh_buf_append_char(&body, ']');
    }
    lh_buf_printf(&body, "}}]}");
    d = decode_items(state, lh_buf_str(&body));
    lh_buf_deinit(&body);
    return d;
}

static void metadata_nests_up_to_its_limit_and_no_deeper(void **state)
{
    struct decoded d = decode_nested(state, LH_METADATA_DEPTH_MAX - 1);
    assert_int_equal(d.status, LH_OK);
    decoded_deinit(&d);
    d = decode_nested(state, LH_METADATA_DEPTH_MAX);
    expect_error("", d.status, &d.error, LH_INVALID_JSON,
                 "items[0].metadata: byte 112: nested too deeply");
    decoded_deinit(&d);
    d = decode_nested(state, 100000);
    assert_int_equal(d.status, LH_INVALID_JSON);
    decoded_deinit(&d);
}

static void a_million_open_brackets_are_refused(void **state)
{
    static const char *const starts[] = {
        "", "{\"items\":", "{\"items\":[{\"vector\":", "{\"items\":[{\"metadata\":{\"a\":"};
    for (size_t i = 0; i < 4; i++) {
        for (int bracket = 0; bracket < 2; bracket++) {
            struct lh_buf body = LH_BUF_EMPTY;
            struct decoded d;
            lh_buf_printf(&body, "%s", starts[i]);
            for (int n = 0; n < 1000000; n++) {
                lh_buf_append_char(&body, bracket == 0 ? '[' : '{');
            }
            d = decode_items(state, lh_buf_str(&body));
            assert_true(d.status == LH_INVALID_JSON || d.status == LH_INVALID_ARGUMENT);
            decoded_deinit(&d);
            lh_buf_deinit(&body);
        }
    }
}

/* `count` times `c` between `before` and `after`. */
static struct decoded decode_padded(void **state, const char *before, char c, size_t count,
                                    const char *after)
{
    struct lh_buf body = LH_BUF_EMPTY;
    struct decoded d;
    lh_buf_printf(&body, "%s", before);
    for (size_t i = 0; i < count; i++) {
        lh_buf_append_char(&body, c);
    }
    lh_buf_printf(&body, "%s", after);
    d = decode_items(state, lh_buf_str(&body));
    lh_buf_deinit(&body);
    return d;
}

static void an_id_ends_at_its_limit(void **state)
{
    const char *after = "\",\"vector\":[1]}]}";
    struct decoded d = decode_padded(state, "{\"items\":[{\"id\":\"", 'x', 512, after);
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.items[0].id.len, 512);
    decoded_deinit(&d);
    d = decode_padded(state, "{\"items\":[{\"id\":\"", 'x', 513, after);
    expect_error("", d.status, &d.error, LH_LIMIT_EXCEEDED,
                 "items[0].id: 513 bytes, the limit is 512");
    decoded_deinit(&d);
    d = decode_padded(state, "{\"items\":[{\"id\":\"", 'x', 100000, after);
    expect_error("", d.status, &d.error, LH_LIMIT_EXCEEDED,
                 "items[0].id: more than the limit of 512 bytes");
    decoded_deinit(&d);
}

static void metadata_ends_at_its_limit_without_its_white_space(void **state)
{
    const char *before = "{\"items\":[{\"id\":\"a\",\"vector\":[1],\"metadata\":{ \"a\" :  \"";
    struct decoded d = decode_padded(state, before, 'x', 65536 - 8, "\" } }]}");
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.items[0].metadata.len, 65536);
    decoded_deinit(&d);
    d = decode_padded(state, before, 'x', 65536 - 7, "\" } }]}");
    expect_error("", d.status, &d.error, LH_LIMIT_EXCEEDED,
                 "items[0].metadata: 65537 bytes, the limit is 65536");
    decoded_deinit(&d);
}

static struct decoded decode_zeros(void **state, size_t dimension, bool base64)
{
    struct lh_buf text = LH_BUF_EMPTY;
    float *zeros = calloc(dimension, sizeof *zeros);
    struct decoded d;
    assert_non_null(zeros);
    if (base64) {
        lh_buf_append_char(&text, '"');
        lh_base64_append(&text, zeros, dimension * sizeof *zeros);
        lh_buf_append_char(&text, '"');
    } else {
        lh_number_append_f32_array(&text, zeros, (uint32_t)dimension);
    }
    lh_buf_append_char(&text, 0);
    d = decode_vector(state, text.ptr);
    free(zeros);
    lh_buf_deinit(&text);
    return d;
}

static void a_dimension_ends_at_its_limit(void **state)
{
    for (int base64 = 0; base64 < 2; base64++) {
        struct decoded d = decode_zeros(state, LH_DIMENSION_MAX, base64);
        assert_int_equal(d.status, LH_OK);
        assert_int_equal(d.batch.dimension, LH_DIMENSION_MAX);
        assert_int_equal(d.batch.zero_item, 0);
        decoded_deinit(&d);
        for (size_t more = 1; more < 5; more++) {
            d = decode_zeros(state, LH_DIMENSION_MAX + more, base64);
            expect_error("", d.status, &d.error, LH_LIMIT_EXCEEDED,
                         "items[0].vector: more than 65535 numbers");
            decoded_deinit(&d);
        }
    }
}

static void base64_vectors_are_checked(void **state)
{
    static const struct refusal list[] = {
        {"\"\"", LH_INVALID_ARGUMENT, "items[0].vector: an empty vector"},
        {"\"AACAPw\"", LH_INVALID_ARGUMENT, "items[0].vector: not base64 (RFC 4648, padded)"},
        {"\"AACA*w==\"", LH_INVALID_ARGUMENT, "items[0].vector: not base64 (RFC 4648, padded)"},
        {"\"AACA\"", LH_INVALID_ARGUMENT,
         "items[0].vector: 3 bytes of base64 are no whole number of float32"},
        {"\"AACAPwAAwH8=\"", LH_INVALID_ARGUMENT, "items[0].vector[1]: NaN is not a finite number"},
        {"\"AACAfw==\"", LH_INVALID_ARGUMENT,
         "items[0].vector[0]: Infinity is not a finite number"},
        {"\"AACA/w==\"", LH_INVALID_ARGUMENT,
         "items[0].vector[0]: -Infinity is not a finite number"},
        {"\"AACA\\qw==\"", LH_INVALID_JSON, "byte 34: no such escape in a string"},
    };
    struct decoded d;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        d = decode_vector(state, list[i].body);
        expect_error(list[i].body, d.status, &d.error, list[i].status, list[i].text);
        decoded_deinit(&d);
    }
    d = decode_vector(state, "\"zcz\\/vQ==\""); /* an escaped slash, as PHP writes it */
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.dimension, 1);
    decoded_deinit(&d);
}

static void the_first_odd_dimension_and_zero_vector_are_noted(void **state)
{
    struct decoded d = decode_items(
        state,
        LH_STR("{\"items\":[{\"id\":\"a\",\"vector\":[1,2]},{\"id\":\"b\",\"vector\":[0,-0]},"
               "{\"id\":\"c\",\"vector\":[1,2,3]},{\"id\":\"d\",\"vector\":[0,0]},"
               "{\"id\":\"e\",\"vector\":[1]}]}"));
    assert_int_equal(d.status, LH_OK);
    assert_int_equal(d.batch.count, 5);
    assert_int_equal(d.batch.dimension, 2);
    assert_int_equal(d.batch.odd_item, 2);
    assert_int_equal(d.batch.zero_item, 1);
    assert_int_equal(d.batch.items[2].dimension, 3);
    assert_int_equal(d.batch.items[4].dimension, 1);
    decoded_deinit(&d);
}

/* Decimal text of many shapes, most of them where rounding is hardest. */
static void write_decimal(char text[400])
{
    static const char *const formats[] = {"%.17g", "%.9g",  "%.8f", "%.6f",
                                          "%.20f", "%.25e", "%.0f"};
    uint32_t bits = (uint32_t)mrand48();
    float value;
    double wide;
    int shape = (int)(lrand48() % 16);
    bits = shape % 2 == 0 ? (bits & 0x83ffffffu) | 0x3c000000u : bits;
    memcpy(&value, &bits, 4);
    value = isfinite(value) ? value : 1;
    wide = value;
    if (shape == 3 || shape == 5) { /* the middle between two floats, or a hair beside it */
        wide += ((double)nextafterf(value, 0) - wide) / 2;
        wide = shape == 5 ? nextafter(wide, lrand48() % 2 ? 0 : 2 * wide) : wide;
    }
    if (shape == 7) {
        snprintf(text, 400, "%ld%ld.%lde%ld", lrand48() + 1, lrand48(), lrand48(),
                 lrand48() % 90 - 60);
        return;
    }
    snprintf(text, 400, formats[lrand48() % 7], wide);
}

static void numbers_become_the_float32_that_strtof_gives(void **state)
{
    long rounds = 2000;
    const uint32_t each = 1000; /* 2,000,000 in all */
    test_seed();
    for (long round = 0; round < rounds; round++) {
        struct lh_buf body = LH_BUF_EMPTY;
        float want[1000];
        struct decoded d;
        lh_buf_printf(&body, "{\"items\":[{\"id\":\"a\",\"vector\":[");
        for (uint32_t i = 0; i < each; i++) {
            char text[400];
            do {
                write_decimal(text);
                want[i] = strtof(text, NULL);
            } while (!isfinite(want[i]));
            lh_buf_printf(&body, i == 0 ? "%s" : i % 3 == 0 ? ", %s" : ",%s", text);
        }
        lh_buf_printf(&body, "]}]}");
        d = decode_items(state, lh_buf_str(&body));
        assert_int_equal(d.status, LH_OK);
        assert_int_equal(d.batch.dimension, each);
        assert_memory_equal(d.batch.rows, want, sizeof want);
        decoded_deinit(&d);
        lh_buf_deinit(&body);
    }
}

static void the_hardest_numbers_become_what_strtof_gives(void **state)
{
    static const char *const texts[] = {
        "3.4028235677973366e38",
        "3.40282356779733661637539395458e38",
        "3.4028235e38",
        "1.17549435e-38",
        "1.1754943508222875e-38",
        "1.1754942e-38",
        "1e-45",
        "7e-46",
        "7.006492321624085e-46",
        "7.006492321624086e-46",
        "7.0064923216240853546186479164495e-46",
        "1e-46",
        "1e-400",
        "-1e-400",
        "0e999999",
        "-0.0e-99999",
        "0.000000000000000000000000000001",
        "16777217",
        "16777217.000000000000000000000000000000000000000001",
        "33554435",
        "9007199791611905",
        "8.589973e9",
        "123456789012345678901234567890",
        "9223372036854775807",
        "18446744073709551616",
        "0.1e1",
        "1E5",
        "1e+5",
        "1e05",
        "1e-05",
        "100000000000000000000e-20",
        "0.00000000000000000000000000000000000000000000000000000000000000000000000000001e76",
        "4.70197740328915e-38",
        "2.3509887e-38",
        "340282346638528859811704183484516925440",
        "340282356779733661637539395458142568447",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char vector[200];
        float want = strtof(texts[i], NULL);
        struct decoded d;
        snprintf(vector, sizeof vector, "[%s]", texts[i]);
        d = decode_vector(state, vector);
        if (isfinite(want)) {
            if (d.status != LH_OK || memcmp(d.batch.rows, &want, 4) != 0) {
                fail_msg("%s: %s", texts[i], d.status == LH_OK ? "differs" : d.error.text);
            }
        } else {
            assert_int_equal(d.status, LH_INVALID_ARGUMENT);
        }
        decoded_deinit(&d);
    }
}

static void a_million_floats_come_back_bit_for_bit(void **state)
{
    test_seed();
    for (int round = 0; round < 1000; round++) {
        struct lh_buf body = LH_BUF_EMPTY;
        float values[1000];
        struct decoded d;
        for (size_t i = 0; i < 1000; i++) {
            do {
                uint32_t bits = (uint32_t)mrand48();
                memcpy(&values[i], &bits, 4);
            } while (!isfinite(values[i]));
        }
        lh_buf_printf(&body, "{\"items\":[{\"id\":\"a\",\"vector\":");
        lh_number_append_f32_array(&body, values, 1000);
        lh_buf_printf(&body, "}]}");
        d = decode_items(state, lh_buf_str(&body));
        assert_int_equal(d.status, LH_OK);
        assert_memory_equal(d.batch.rows, values, sizeof values);
        decoded_deinit(&d);
        lh_buf_deinit(&body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_become_ids_rows_and_metadata),
        cmocka_unit_test(an_empty_list_is_a_batch_of_none),
        cmocka_unit_test(the_same_id_twice_is_left_to_the_shards),
        cmocka_unit_test(a_body_that_is_no_object_is_refused),
        cmocka_unit_test(a_wrong_member_of_an_item_is_named_with_its_place),
        cmocka_unit_test(a_wrong_number_is_named_with_its_place),
        cmocka_unit_test(numbers_outside_the_json_grammar_are_broken_json),
        cmocka_unit_test(broken_json_is_refused_with_its_byte),
        cmocka_unit_test(metadata_is_checked_to_its_last_byte),
        cmocka_unit_test(metadata_nests_up_to_its_limit_and_no_deeper),
        cmocka_unit_test(a_million_open_brackets_are_refused),
        cmocka_unit_test(an_id_ends_at_its_limit),
        cmocka_unit_test(metadata_ends_at_its_limit_without_its_white_space),
        cmocka_unit_test(a_dimension_ends_at_its_limit),
        cmocka_unit_test(base64_vectors_are_checked),
        cmocka_unit_test(the_first_odd_dimension_and_zero_vector_are_noted),
        cmocka_unit_test(numbers_become_the_float32_that_strtof_gives),
        cmocka_unit_test(the_hardest_numbers_become_what_strtof_gives),
        cmocka_unit_test(a_million_floats_come_back_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, decode_setup, decode_teardown);
}
