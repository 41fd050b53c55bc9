/* Ingest from files to Parquet: dialects, types, what is told of what is wrong, and where. */
#include "sql/ingest.h"

#include "base/limits.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef LH_TESTS_DUCKDB
#include <duckdb.h>
#endif

struct fixture {
    struct lh_sql *sql;
    struct lh_sql_session *session;
    struct lh_ingest *ingest;
    char folder[64];
    char input[96], output[96], rejected[96], spill[96];
    struct lh_ingest_result result;
    struct lh_error error;
};

/* ---- answers of DuckDB that break off ---- */

static unsigned fetches_left; /* to the one that fails; 0: none does */

#ifdef LH_TESTS_DUCKDB
duckdb_data_chunk __real_duckdb_fetch_chunk(duckdb_result result);
duckdb_data_chunk __wrap_duckdb_fetch_chunk(duckdb_result result);

duckdb_data_chunk __wrap_duckdb_fetch_chunk(duckdb_result result)
{
    bool fails = fetches_left > 0 && --fetches_left == 0;
    return fails ? NULL : __real_duckdb_fetch_chunk(result);
}
#endif

/* ---- the fixture ---- */

static bool is_any_table(struct lh_str name, void *arg)
{
    return true;
}

static const struct lh_sql_gate gate = {.is_table = is_any_table};

static int setup(void **state)
{
    static struct fixture fixture;
    char folder[64] = "/tmp/ingest_test_XXXXXX";
    if (lh_sql_version() == NULL)
        return 0;
    fixture = (struct fixture){0};
    assert_non_null(mkdtemp(folder));
    snprintf(fixture.folder, sizeof fixture.folder, "%s/", folder);
    snprintf(fixture.input, sizeof fixture.input, "%sinput", fixture.folder);
    snprintf(fixture.output, sizeof fixture.output, "%soutput", fixture.folder);
    snprintf(fixture.rejected, sizeof fixture.rejected, "%srejected", fixture.folder);
    snprintf(fixture.spill, sizeof fixture.spill, "%sspill", fixture.folder);
    struct lh_sql_options options = {.folder = fixture.folder,
                                     .spill_folder = fixture.spill,
                                     .memory_bytes = 1024u << 20,
                                     .spill_bytes = 1024u << 20};
    assert_int_equal(lh_sql_open(&options, &fixture.sql, &fixture.error), LH_OK);
    assert_int_equal(lh_sql_session_create(fixture.sql, &fixture.session, &fixture.error), LH_OK);
    assert_int_equal(lh_ingest_create(fixture.sql, &fixture.ingest, &fixture.error), LH_OK);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture == NULL)
        return 0;
    lh_ingest_destroy(fixture->ingest);
    lh_sql_session_destroy(fixture->session);
    lh_sql_close(fixture->sql);
    unlink(fixture->input);
    unlink(fixture->output);
    unlink(fixture->rejected);
    rmdir(fixture->spill);
    return rmdir(fixture->folder);
}

static struct fixture *fixture_of(void **state)
{
    if (*state == NULL)
        skip();
    return *state;
}

/* The rows of a Parquet file as JSON arrays, a comma between. */
static void read_rows(struct fixture *fixture, const char *path, struct lh_buf *out)
{
    static const char select[] = "SELECT * FROM made";
    char text[256];
    struct lh_sql_query *query;
    struct lh_sql_fault fault;
    uint64_t rows;
    snprintf(text, sizeof text, "CREATE OR REPLACE TEMP VIEW made AS FROM read_parquet('%s')",
             path);
    assert_int_equal(lh_sql_execute(fixture->session, text, &fixture->error), LH_OK);
    assert_int_equal(lh_sql_start(fixture->session, &gate, lh_str_of(select), NULL, &query, &fault,
                                  &fixture->error),
                     LH_OK);
    while (lh_sql_fetch(query, &rows, &fixture->error) == LH_OK && rows > 0) {
        for (uint64_t i = 0; i < rows; i++) {
            if (out->len > 0)
                lh_buf_append_char(out, ',');
            lh_sql_append_row_array(query, i, out);
        }
    }
    lh_sql_finish(query);
    lh_buf_append_char(out, '\0');
    assert_false(lh_buf_failed(out));
}

static enum lh_status ingest(struct fixture *fixture, struct lh_str bytes,
                             struct lh_ingest_source source, bool puts_aside)
{
    struct lh_text_scan scan = LH_TEXT_SCAN_EMPTY;
    struct lh_ingest_target target = {.parquet = fixture->output,
                                      .rejected = puts_aside ? fixture->rejected : NULL};
    FILE *file = fopen(fixture->input, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.ptr, 1, bytes.len, file), bytes.len);
    fclose(file);
    for (size_t i = 0; i < bytes.len; i += 1000) /* pieces that end anywhere */
        lh_text_scan_add(
            &scan, (struct lh_str){bytes.ptr + i, bytes.len - i < 1000 ? bytes.len - i : 1000});
    source.path = fixture->input;
    source.scan = &scan;
    lh_ingest_result_deinit(&fixture->result);
    return lh_ingest_run(fixture->ingest, &source, &target, &fixture->result, &fixture->error);
}

static void expect_rows(struct fixture *fixture, struct lh_str bytes,
                        struct lh_ingest_source source, const char *columns, const char *rows)
{
    struct lh_buf made = LH_BUF_EMPTY;
    if (ingest(fixture, bytes, source, false) != LH_OK)
        fail_msg("%.60s: %s", bytes.ptr, fixture->error.text);
    lh_buf_append_char(&fixture->result.columns, '\0');
    if (columns != NULL)
        assert_string_equal(fixture->result.columns.ptr, columns);
    read_rows(fixture, fixture->output, &made);
    assert_string_equal(made.ptr, rows);
    lh_buf_deinit(&made);
}

static void expect_error(struct fixture *fixture, struct lh_str bytes,
                         struct lh_ingest_source source, enum lh_status status, const char *text)
{
    if (ingest(fixture, bytes, source, false) == LH_OK)
        fail_msg("%.60s: taken", bytes.ptr);
    assert_string_equal(fixture->error.text, text);
    assert_int_equal(fixture->error.status, status);
}

#define PLAIN     ((struct lh_ingest_source){.format = LH_INGEST_ANY})
#define WITH(...) ((struct lh_ingest_source){.format = LH_INGEST_CSV, .dialect = {__VA_ARGS__}})
#define COL(n, t) "{\"name\":\"" n "\",\"type\":\"" t "\"}"
#define AB        "[" COL("a", "BIGINT") "," COL("b", "VARCHAR") "]"

static void dialects_are_found(void **state)
{
    struct fixture *fixture = fixture_of(state);
    static const struct {
        struct lh_str bytes;
        const char *rows;
    } cases[] = {
#define CASE(text, rows) {{"" text, sizeof(text) - 1}, rows}
        CASE("a,b\n1,x\n2,y\n", "[1,\"x\"],[2,\"y\"]"),
        CASE("a;b\n1;x,1\n2;y\n", "[1,\"x,1\"],[2,\"y\"]"),
        CASE("a\tb\n1\tx\n2\ty\n", "[1,\"x\"],[2,\"y\"]"),
        CASE("a|b\n1|x\n2|y\n", "[1,\"x\"],[2,\"y\"]"),
        CASE("a,b\r\n1,x\r\n2,y\r\n", "[1,\"x\"],[2,\"y\"]"),
        CASE("\xef\xbb\xbf"
             "a,b\n1,x\n2,y\n",
             "[1,\"x\"],[2,\"y\"]"),
        CASE("a,b\n1,x\n2,y", "[1,\"x\"],[2,\"y\"]"),
        CASE("a,b\n1,\"x\ny\"\n2,\"q\"\"q\"\n", "[1,\"x\\ny\"],[2,\"q\\\"q\"]"),
        CASE("a,b\n1,\n2,y\n", "[1,null],[2,\"y\"]"),
        CASE("a,b\n1,5\" pipe\n2,y\n", "[1,\"5\\\" pipe\"],[2,\"y\"]"),
        CASE("# by hand\na,b\n1,x\n2,y\n", "[1,\"x\"],[2,\"y\"]"),
        CASE("Report\n\na,b\n1,x\n2,y\n", "[1,\"x\"],[2,\"y\"]"),
        CASE("a,b\n1,\xc3\xa9\n2,\xf0\x9f\x8e\x89\n", "[1,\"\xc3\xa9\"],[2,\"\xf0\x9f\x8e\x89\"]"),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_rows(fixture, cases[i].bytes, PLAIN, AB, cases[i].rows);
}

static void types_are_found(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect_rows(
        fixture,
        LH_STR("i,f,d,t,b,s,n\n1,1.5,2020-02-29,2020-01-01 10:00:00,true,\"1,000\",NaN\n"
               "-2,2.25,2021-12-31,2020-01-01 10:00:01,false,\"2,000\",inf\n"),
        PLAIN,
        "[" COL("i", "BIGINT") "," COL("f", "DOUBLE") "," COL("d", "DATE") "," COL(
            "t", "TIMESTAMP") "," COL("b", "BOOLEAN") "," COL("s", "VARCHAR") "," COL("n",
                                                                                      "DOUBLE") "]",
        "[1,1.5,\"2020-02-29\",\"2020-01-01T10:00:00\",true,\"1,000\",\"NaN\"],"
        "[-2,2.25,\"2021-12-31\",\"2020-01-01T10:00:01\",false,\"2,000\",\"Infinity\"]");
}

static void dates_of_other_formats_are_found(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect_rows(
        fixture, LH_STR("d,t\n31.12.2020,31/12/2020 23:59:58\n01.02.2021,01/02/2021 00:00:00\n"),
        PLAIN, "[" COL("d", "DATE") "," COL("t", "TIMESTAMP") "]",
        "[\"2020-12-31\",\"2020-12-31T23:59:58\"],[\"2021-02-01\",\"2021-02-01T00:00:00\"]");
}

static void names_are_kept_and_made_unique(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect_rows(fixture, LH_STR("it's,a,a,,\"q\"\"q\"\n1,2,3,4,5\n"), PLAIN,
                "[" COL("it's", "BIGINT") "," COL("a", "BIGINT") "," COL("a_1", "BIGINT") "," COL(
                    "column3", "BIGINT") "," COL("q\\\"q", "BIGINT") "]",
                "[1,2,3,4,5]");
}

static void what_is_said_counts(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect_rows(fixture, LH_STR("a,b\n1,x\n"), WITH(.header = LH_INGEST_HEADER_NO),
                "[" COL("column0", "VARCHAR") "," COL("column1", "VARCHAR") "]",
                "[\"a\",\"b\"],[\"1\",\"x\"]");
    expect_rows(fixture, LH_STR("1,2\n3,4\n"), WITH(.header = LH_INGEST_HEADER_YES),
                "[" COL("1", "BIGINT") "," COL("2", "BIGINT") "]", "[3,4]");
    expect_rows(fixture, LH_STR("a,b\n1,NA\n2,3\n"), WITH(.nullstr = "NA"),
                "[" COL("a", "BIGINT") "," COL("b", "BIGINT") "]", "[1,null],[2,3]");
    expect_rows(fixture, LH_STR("a,b\n1.10,2\n"),
                WITH(.types = "{\"a\": \"DECIMAL(10,2)\", \"b\": \"VARCHAR\"}"),
                "[" COL("a", "DECIMAL(10,2)") "," COL("b", "VARCHAR") "]", "[1.10,\"2\"]");
    expect_rows(fixture, LH_STR("a,b\n1,2\n"), WITH(.types = "[\"INTEGER\", \"DOUBLE\"]"),
                "[" COL("a", "INTEGER") "," COL("b", "DOUBLE") "]", "[1,2]");
    expect_rows(fixture, LH_STR("a~b\n1~'x~y'\n2~'q\\'q'\n"),
                WITH(.delim = "~", .quote = "'", .escape = "\\"), AB, "[1,\"x~y\"],[2,\"q'q\"]");
    expect_rows(fixture, LH_STR("note\nhello, world\nyes\n"), WITH(.delim = "\x02"),
                "[" COL("note", "VARCHAR") "]", "[\"hello, world\"],[\"yes\"]");
}

static void wrong_options_are_refused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_str bytes = LH_STR("a,b\n1,x\n");
    expect_error(fixture, bytes, WITH(.types = "nonsense"), LH_INVALID_ARGUMENT,
                 "types: not JSON, as {\"column\": \"TYPE\"} or [\"TYPE\"]");
    expect_error(fixture, bytes, WITH(.types = "{\"a\": 1}"), LH_INVALID_ARGUMENT,
                 "types: a type is a string, \"BIGINT\"");
    expect_error(fixture, bytes, WITH(.types = "7"), LH_INVALID_ARGUMENT,
                 "types: an object {\"column\": \"TYPE\"} or an array [\"TYPE\"]");
    assert_int_not_equal(ingest(fixture, bytes, WITH(.types = "{\"z\": \"BIGINT\"}"), false),
                         LH_OK);
    assert_int_equal(fixture->error.status, LH_INVALID_ARGUMENT);
    assert_non_null(strstr(fixture->error.text, "\"z\""));
    assert_int_not_equal(ingest(fixture, bytes, WITH(.types = "{\"a\": \"NOTYPE\"}"), false),
                         LH_OK);
    assert_int_equal(fixture->error.status, LH_INVALID_ARGUMENT);
    assert_non_null(strstr(fixture->error.text, "NOTYPE"));
    assert_int_not_equal(ingest(fixture, bytes, WITH(.types = "{\"a\": \"'||x\"}"), false), LH_OK);
    assert_int_not_equal(ingest(fixture, bytes, WITH(.quote = "xx"), false), LH_OK);
}

static void what_is_wrong_has_its_place(void **state)
{
    struct fixture *fixture = fixture_of(state);
    static const struct {
        struct lh_str bytes;
        const char *text;
    } cases[] = {
#define CASE(bytes, text) {{"" bytes, sizeof(bytes) - 1}, text}
        CASE("", "line 1: the file is empty"),
        CASE("a,b\n1,2\n3\n4,5\n", "line 3, column 1: the line has 1 columns, not 2: \"3\""),
        CASE("a,b\n1,2\n3,4,5\n", "line 3, column 3: the line has 3 columns, not 2: \"3,4,5\""),
        CASE("a,b\n1,caf\xe9\n2,x\n", "line 2, byte 6: not UTF-8: \"1,caf\xe9\""),
        CASE("\xff\xfe"
             "a\0,\0b\0\n\0",
             "line 1, byte 1: a byte order mark of UTF-16, text has to be UTF-8"),
        CASE("a,b\n1,x\0y\n2,z\n", "line 2, byte 4: a NUL byte: \"1,x?y\""),
        CASE("a,b\r\n1,x\r\n2,y\n",
             "line 3, byte 4: the line does not end as those before it: \"2,y\""),
        CASE("a,b\n1,\"x\n", "line 2, byte 3: a quote that is not closed: \"1,\"x\""),
        CASE("a,b\n0,\"k\n\"\n1,\"x\n2,y\n",
             "line 4, byte 3: a quote that is not closed: \"1,\"x\""),
        CASE("a,b,c\n1,\"x\ny\",\"z\n", "line 3, byte 4: a quote that is not closed: \"y\",\"z\""),
        CASE("a,\"b\n1,2\n", "line 1, byte 3: a quote that is not closed: \"a,\"b\""),
        CASE("word, and\nwords; here,\nabc\n",
             "line 3, column 1: the line has 1 columns, not 2: \"abc\""),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_error(fixture, cases[i].bytes, PLAIN, LH_INVALID_DATA, cases[i].text);
}

/* `count` lines, then `tail`. */
static void append_lines(struct lh_buf *out, unsigned count, const char *line, const char *tail)
{
    lh_buf_append_str(out, LH_STR("a,b\n"));
    for (unsigned i = 0; i < count; i++)
        lh_buf_append_str(out, lh_str_of(line));
    lh_buf_append_str(out, lh_str_of(tail));
    assert_false(lh_buf_failed(out));
}

static void conflicts_past_the_sample_have_their_line(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf bytes = LH_BUF_EMPTY;
    append_lines(&bytes, 30000, "1,2\n", "3,oops\n");
    expect_error(fixture, lh_buf_str(&bytes), PLAIN, LH_INVALID_DATA,
                 "line 30002, column \"b\": \"oops\" is not of type BIGINT");
    bytes.len = 0;
    append_lines(&bytes, 30000, "1,\"x\ny\"\n", "z,1\n");
    expect_error(fixture, lh_buf_str(&bytes), PLAIN, LH_INVALID_DATA,
                 "line 60002, column \"a\": \"z\" is not of type BIGINT");
    bytes.len = 0;
    append_lines(&bytes, 30000, "1,2\n", "3,\"never closed\n1,2\n");
    assert_int_not_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
    assert_non_null(strstr(fixture->error.text, "line 30002"));
    bytes.len = 0;
    append_lines(&bytes, 30000, "1,\"2, 3\"\n", "3,\"y\" z\n1,2\n");
    expect_error(fixture, lh_buf_str(&bytes), PLAIN, LH_INVALID_DATA,
                 "line 30002, byte 6: text behind a closing quote: \"3,\"y\" z\"");
    lh_buf_deinit(&bytes);
}

static void quotes_may_come_after_the_sample(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf bytes = LH_BUF_EMPTY;
    append_lines(&bytes, 30000, "1,x\n", "2,\"y, \"\"z\"\"\"\n");
    assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
    assert_int_equal(fixture->result.rows, 30001);
    lh_buf_deinit(&bytes);
}

static void quotes_that_are_text_stay(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect_rows(fixture, LH_STR("a,b\n1,\"Hello\" he said\n2,\"y\n"), PLAIN, AB,
                "[1,\"\\\"Hello\\\" he said\"],[2,\"\\\"y\"]");
    expect_rows(fixture, LH_STR("a,b\n1,\"x\n"), WITH(.quote = ""), AB, "[1,\"\\\"x\"]");
}

static void a_quote_to_the_end_is_put_aside(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf made = LH_BUF_EMPTY;
    struct lh_str bytes = LH_STR("\"a\",\"b\"\n0,\"k\"\n1,\"x\n2,y\n");
    assert_int_equal(ingest(fixture, bytes, PLAIN, true), LH_OK);
    assert_non_null(strstr(fixture->result.columns.ptr, "{\"name\":\"b\","));
    read_rows(fixture, fixture->output, &made);
    assert_string_equal(made.ptr, "[0,\"k\"]");
    made.len = 0;
    read_rows(fixture, fixture->rejected, &made);
    assert_string_equal(made.ptr, "[3,14,\"b\",\"Value with unterminated quote found.\","
                                  "\"1,\\\"x\\n2,y\\n\"]");
    lh_buf_deinit(&made);
    assert_int_equal(ingest(fixture, LH_STR("a,\"b\n1,2\n"), PLAIN, true), LH_INVALID_DATA);
    assert_string_equal(fixture->error.text,
                        "line 1, byte 3: a quote that is not closed: \"a,\"b\"");
}

static void a_header_alone_has_no_rows(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect_rows(fixture, LH_STR("a,b\n"), PLAIN,
                "[" COL("a", "VARCHAR") "," COL("b", "VARCHAR") "]", "");
    assert_int_equal(fixture->result.rows, 0);
}

static void long_lines_are_refused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf bytes = LH_BUF_EMPTY;
    lh_buf_append_str(&bytes, LH_STR("a,b\n1,2\n"));
    assert_int_equal(lh_buf_reserve(&bytes, 100u << 20), LH_OK);
    memset(bytes.ptr + bytes.len, 'x', 100u << 20);
    bytes.len += 100u << 20;
    expect_error(fixture, lh_buf_str(&bytes), PLAIN, LH_INVALID_DATA,
                 "line 3: longer than 2097152 bytes: \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"");
    bytes.len = 8 + LH_INGEST_LINE_BYTES_MAX / 2;
    memcpy(bytes.ptr + 8, "3,", 2);
    assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
    assert_int_equal(fixture->result.rows, 2);
    bytes.len = 0;
    lh_buf_append_str(&bytes, LH_STR("a,b\r"));
    for (unsigned i = 0; i < 900000; i++) /* more than one may have, in lines that end in CR */
        lh_buf_append_str(&bytes, LH_STR("1,2\r"));
    assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
    assert_int_equal(fixture->result.rows, 900000);
    lh_buf_deinit(&bytes);
}

static void ten_thousand_columns(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf bytes = LH_BUF_EMPTY;
    for (unsigned i = 0; i < 10000; i++)
        lh_buf_printf(&bytes, "%sc%u", i > 0 ? "," : "", i);
    for (unsigned i = 0; i < 10000; i++)
        lh_buf_printf(&bytes, "%s%u", i > 0 ? "," : "\n", i);
    assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
    assert_int_equal(fixture->result.rows, 1);
    assert_non_null(
        memmem(fixture->result.columns.ptr, fixture->result.columns.len, "\"c9999\"", 7));
    bytes.len = 0;
    for (unsigned i = 0; i <= LH_INGEST_COLUMNS_MAX; i++)
        lh_buf_append_str(&bytes, i > 0 ? LH_STR(",c") : LH_STR("c"));
    assert_int_not_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
    lh_buf_deinit(&bytes);
}

static void bad_lines_are_put_aside(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf bytes = LH_BUF_EMPTY, made = LH_BUF_EMPTY;
    append_lines(&bytes, 30000, "1,2\n", "3,oops\n4\n5,6,7\n8,9\n");
    assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, true), LH_OK);
    assert_int_equal(fixture->result.rows, 30001);
    assert_int_equal(fixture->result.rejected, 3);
    read_rows(fixture, fixture->rejected, &made);
    assert_string_equal(made.ptr,
                        "[30002,120004,\"b\",\"Error when converting column \\\"b\\\". Could not "
                        "convert string \\\"oops\\\" to 'BIGINT'\",\"3,oops\"],"
                        "[30003,120011,\"b\",\"Expected Number of Columns: 2 Found: 1\",\"4\"],"
                        "[30004,120013,null,\"Expected Number of Columns: 2 Found: 3\",\"5,6,7\"]");
    assert_int_equal(ingest(fixture, LH_STR("a,b\n1,2\n"), PLAIN, true), LH_OK);
    assert_int_equal(fixture->result.rejected, 0);
    lh_buf_deinit(&bytes);
    lh_buf_deinit(&made);
}

/* Whichever answer of DuckDB breaks off: nothing of the file is lost without an error. */
static void answers_that_break_off_lose_nothing(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf bytes = LH_BUF_EMPTY, columns = LH_BUF_EMPTY;
    unsigned failed = 0;
    append_lines(&bytes, 30000, "1,2\n", "3,\"oops\"\n4\n5,6,7\n8,9\n");
    assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, true), LH_OK);
    lh_buf_append_str(&columns, lh_buf_str(&fixture->result.columns));
    for (unsigned n = 1;; n++) {
        fetches_left = n;
        enum lh_status status = ingest(fixture, lh_buf_str(&bytes), PLAIN, true);
        if (fetches_left > 0)
            break; /* it takes fewer */
        if (status != LH_OK) {
            assert_int_equal(status, LH_IO);
            assert_string_equal(fixture->error.text,
                                "DuckDB does not give all of what it has found");
            failed++;
            continue;
        }
        assert_int_equal(fixture->result.rows, 30001); /* it was the end of an answer */
        assert_int_equal(fixture->result.rejected, 3);
        assert_int_equal(fixture->result.columns.len, columns.len);
        assert_memory_equal(fixture->result.columns.ptr, columns.ptr, columns.len);
    }
    fetches_left = 0;
    assert_true(failed >= 4); /* how it is to be read, its columns, the lines, their columns */
    lh_buf_deinit(&bytes);
    lh_buf_deinit(&columns);
}

/* Small as it is, by what its footer says. */
static void parquet_that_holds_too_much(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf csv = LH_BUF_EMPTY, parquet = LH_BUF_EMPTY;
    struct lh_ingest_source source = {.text_bytes_max = 200000}; /* and what is around them */
    lh_buf_append_str(&csv, LH_STR("a\n"));
    for (unsigned i = 0; i < 20000; i++)
        lh_buf_printf(&csv, "%u\n", i);
    assert_int_equal(ingest(fixture, lh_buf_str(&csv), PLAIN, false), LH_OK);
    FILE *file = fopen(fixture->output, "rb");
    assert_non_null(file);
    assert_int_equal(lh_buf_reserve(&parquet, 1u << 20), LH_OK);
    parquet.len = fread(parquet.ptr, 1, 1u << 20, file);
    fclose(file);
    assert_true(parquet.len < 100000);
    assert_int_equal(ingest(fixture, lh_buf_str(&parquet), source, false), LH_OK);
    assert_int_equal(fixture->result.rows, 20000);
    source.text_bytes_max = 150000; /* 20,000 numbers of 8 bytes are more */
    expect_error(fixture, lh_buf_str(&parquet), source, LH_BODY_TOO_LARGE,
                 "the file holds more than 150000 bytes (ingestd.max_decompressed_bytes)");
    lh_buf_deinit(&csv);
    lh_buf_deinit(&parquet);
}

static void json_and_parquet(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf parquet = LH_BUF_EMPTY;
    const char *rows = "[1,\"x\",null],[2,null,[1,2]]";
    expect_rows(fixture, LH_STR("{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":null,\"c\":[1,2]}\n"), PLAIN,
                "[" COL("a", "BIGINT") "," COL("b", "VARCHAR") "," COL("c", "BIGINT[]") "]", rows);
    expect_rows(fixture, LH_STR("[{\"a\":1,\"b\":\"x\"},\n{\"a\":2,\"b\":null,\"c\":[1,2]}]"),
                PLAIN, NULL, rows);
    FILE *file = fopen(fixture->output, "rb");
    assert_non_null(file);
    assert_int_equal(lh_buf_reserve(&parquet, 1u << 20), LH_OK);
    parquet.len = fread(parquet.ptr, 1, 1u << 20, file);
    fclose(file);
    expect_rows(fixture, lh_buf_str(&parquet), PLAIN, NULL, rows);
    parquet.len -= 20;
    assert_int_equal(ingest(fixture, lh_buf_str(&parquet), PLAIN, false), LH_INVALID_DATA);
    lh_buf_deinit(&parquet);
    expect_error(fixture, LH_STR("{\"a\":1}\n\n{\"a\":2}\n{\"a\":\n"),
                 (struct lh_ingest_source){.format = LH_INGEST_NDJSON}, LH_INVALID_DATA,
                 "line 4: not JSON: unexpected end of data.: \"{\"a\":\"");
    expect_error(fixture, LH_STR("{\"a\":1}\n"),
                 (struct lh_ingest_source){.format = LH_INGEST_PARQUET}, LH_INVALID_DATA,
                 "not Parquet: too small to be a Parquet file");
}

static void the_same_file_gives_the_same_bytes(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf first = LH_BUF_EMPTY, second = LH_BUF_EMPTY, bytes = LH_BUF_EMPTY;
    append_lines(&bytes, 5000, "1,some text\n2,more\n", "");
    for (unsigned i = 0; i < 2; i++) {
        struct lh_buf *into = i == 0 ? &first : &second;
        assert_int_equal(ingest(fixture, lh_buf_str(&bytes), PLAIN, false), LH_OK);
        FILE *file = fopen(fixture->output, "rb");
        assert_non_null(file);
        assert_int_equal(lh_buf_reserve(into, 1u << 20), LH_OK);
        into->len = fread(into->ptr, 1, 1u << 20, file);
        fclose(file);
    }
    assert_true(first.len > 100 && lh_str_eq(lh_buf_str(&first), lh_buf_str(&second)));
    lh_buf_deinit(&first);
    lh_buf_deinit(&second);
    lh_buf_deinit(&bytes);
}

static void an_interrupt_ends_it(void **state)
{
    struct fixture *fixture = fixture_of(state);
    lh_ingest_interrupt(fixture->ingest);
    assert_int_equal(ingest(fixture, LH_STR("a,b\n1,2\n"), PLAIN, false), LH_CLOSED);
    lh_ingest_resume(fixture->ingest);
    assert_int_equal(ingest(fixture, LH_STR("a,b\n1,2\n"), PLAIN, false), LH_OK);
    assert_int_equal(lh_ingest_rows(fixture->ingest), 1);
    lh_ingest_result_deinit(&fixture->result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dialects_are_found),
        cmocka_unit_test(types_are_found),
        cmocka_unit_test(dates_of_other_formats_are_found),
        cmocka_unit_test(names_are_kept_and_made_unique),
        cmocka_unit_test(what_is_said_counts),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(what_is_wrong_has_its_place),
        cmocka_unit_test(conflicts_past_the_sample_have_their_line),
        cmocka_unit_test(quotes_may_come_after_the_sample),
        cmocka_unit_test(quotes_that_are_text_stay),
        cmocka_unit_test(a_quote_to_the_end_is_put_aside),
        cmocka_unit_test(a_header_alone_has_no_rows),
        cmocka_unit_test(long_lines_are_refused),
        cmocka_unit_test(ten_thousand_columns),
        cmocka_unit_test(bad_lines_are_put_aside),
        cmocka_unit_test(answers_that_break_off_lose_nothing),
        cmocka_unit_test(parquet_that_holds_too_much),
        cmocka_unit_test(json_and_parquet),
        cmocka_unit_test(the_same_file_gives_the_same_bytes),
        cmocka_unit_test(an_interrupt_ends_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
