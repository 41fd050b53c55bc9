/* Statements through the whole of src/sql: what is let in, what comes out, what is refused where.
 */
#include "sql/sql.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    struct lh_sql *sql;
    struct lh_sql_session *session;
    char folder[64];
    struct lh_sql_fault fault;
    struct lh_error error;
};

static bool is_people(struct lh_str name, void *arg)
{
    return lh_str_eq_nocase(name, LH_STR("people")) || lh_str_eq(name, LH_STR("people@2"));
}

static const struct lh_sql_gate gate = {.is_table = is_people};

static int setup(void **state)
{
    static struct fixture fixture;
    char folder[64] = "/tmp/sql_test_XXXXXX";
    if (lh_sql_version() == NULL)
        return 0;
    fixture = (struct fixture){0};
    assert_non_null(mkdtemp(folder));
    snprintf(fixture.folder, sizeof fixture.folder, "%s/", folder);
    struct lh_sql_options options = {.folder = fixture.folder,
                                     .spill_folder = folder,
                                     .memory_bytes = 256u << 20,
                                     .spill_bytes = 64u << 20};
    assert_int_equal(lh_sql_open(&options, &fixture.sql, &fixture.error), LH_OK);
    assert_int_equal(lh_sql_session_create(fixture.sql, &fixture.session, &fixture.error), LH_OK);
    assert_int_equal(lh_sql_execute(fixture.session,
                                    "CREATE VIEW people AS SELECT * FROM (VALUES (1, 'Ada', 36), "
                                    "(2, 'Grace', NULL)) t(id, name, age); "
                                    "CREATE VIEW \"people@2\" AS SELECT 2 AS id",
                                    &fixture.error),
                     LH_OK);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture == NULL)
        return 0;
    lh_sql_session_destroy(fixture->session);
    lh_sql_close(fixture->sql);
    return rmdir(fixture->folder);
}

static struct fixture *fixture_of(void **state)
{
    if (*state == NULL)
        skip();
    return *state;
}

/* Runs `text`; its rows as JSON arrays, a comma between. */
static enum lh_status run(struct fixture *fixture, const char *text, const char *params,
                          struct lh_buf *out)
{
    struct lh_sql_query *query;
    struct lh_json_doc *doc = NULL;
    struct lh_json list;
    uint64_t rows;
    if (params != NULL)
        assert_int_equal(lh_json_doc_create(lh_str_of(params), &doc, &list, &fixture->error),
                         LH_OK);
    out->len = 0;
    enum lh_status status =
        lh_sql_start(fixture->session, &gate, lh_str_of(text), params != NULL ? &list : NULL,
                     &query, &fixture->fault, &fixture->error);
    if (doc != NULL)
        lh_json_doc_destroy(doc);
    if (status != LH_OK)
        return status;
    while ((status = lh_sql_fetch(query, &rows, &fixture->error)) == LH_OK && rows > 0) {
        for (uint64_t i = 0; i < rows; i++) {
            if (out->len > 0)
                lh_buf_append_char(out, ',');
            lh_sql_append_row_array(query, i, out);
        }
    }
    lh_sql_finish(query);
    return status;
}

static void expect(struct fixture *fixture, const char *text, const char *params,
                   const char *wanted)
{
    struct lh_buf out = LH_BUF_EMPTY;
    enum lh_status status = run(fixture, text, params, &out);
    if (status != LH_OK)
        fail_msg("%s: %s", text, fixture->error.text);
    lh_buf_append_char(&out, '\0');
    assert_string_equal(out.ptr, wanted);
    lh_buf_deinit(&out);
}

static void test_rows(void **state)
{
    struct fixture *fixture = fixture_of(state);
    expect(fixture, "SELECT * FROM people ORDER BY id", NULL, "[1,\"Ada\",36],[2,\"Grace\",null]");
    expect(fixture, "SELECT * FROM \"people@2\"", NULL, "[2]");
    expect(fixture, "FROM people SELECT count(*)", NULL, "[2]");
    expect(fixture, "SELECT name FROM people WHERE 1 = 0", NULL, "");
    expect(fixture,
           "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) "
           "SELECT list(n) FROM t",
           NULL, "[[1,2,3]]");
    expect(fixture, "WITH a AS (SELECT 1 x), b AS (SELECT x + 1 y FROM a) SELECT * FROM a, b", NULL,
           "[1,2]");
    expect(fixture, "SELECT sum(i)::BIGINT FROM range(100000) t(i)", NULL, "[4999950000]");
    expect(fixture, "SELECT printf('%5.2f|%s', 1.5, 'x'), format('{:>4}', 7)", NULL,
           "[\" 1.50|x\",\"   7\"]");
}

static void test_params(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    expect(fixture, "SELECT $1 + 1, $2, $3 IS NULL, $4::BOOLEAN", "[41, \"\\u00e9\", null, true]",
           "[42,\"\303\251\",true,true]");
    expect(fixture, "SELECT list_sum($1::INTEGER[]), $2", "[[1, 2, 3], [\"a\", \"b\"]]",
           "[6,[\"a\",\"b\"]]");
    expect(fixture, "SELECT ? || ?", "[\"a\", \"b\"]", "[\"ab\"]");
    assert_int_equal(run(fixture, "SELECT $1", NULL, &out), LH_INVALID_ARGUMENT);
    assert_string_equal(fixture->error.text, "params: 0 given, the statement has 1");
    assert_int_equal(run(fixture, "SELECT 1", "[1]", &out), LH_INVALID_ARGUMENT);
    assert_int_equal(run(fixture, "SELECT $1, $2", "[1, {}]", &out), LH_INVALID_ARGUMENT);
    assert_memory_equal(fixture->error.text, "params[1]:", 10);
    lh_buf_deinit(&out);
}

static void test_values(void **state)
{
    static const char *const cases[][2] = {
        {"9007199254740992::BIGINT, 9007199254740993::BIGINT, -9007199254740993::BIGINT",
         "9007199254740992,\"9007199254740993\",\"-9007199254740993\""},
        {"18446744073709551615::UBIGINT, (-170141183460469231731687303715884105728)::HUGEINT",
         "\"18446744073709551615\",\"-170141183460469231731687303715884105728\""},
        {"1.50::DECIMAL(10,2), -0.05::DECIMAL(4,2), "
         "12345678901234567890.12::DECIMAL(38,2)",
         "1.50,-0.05,\"12345678901234567890.12\""},
        {"0.1::DOUBLE, 1e300::DOUBLE, 'nan'::DOUBLE, '-inf'::FLOAT, 0.1::FLOAT",
         "0.1,1e+300,\"NaN\",\"-Infinity\",0.1"},
        {"DATE '2024-02-29', DATE '0044-03-15 (BC)', DATE '12024-01-01', 'infinity'::DATE",
         "\"2024-02-29\",\"-00043-03-15\",\"+12024-01-01\",\"infinity\""},
        {"TIMESTAMP '2024-02-29 12:34:56.5', TIMESTAMP '1969-12-31 23:59:59'",
         "\"2024-02-29T12:34:56.500000\",\"1969-12-31T23:59:59\""},
        {"TIMESTAMP_NS '2024-02-29 12:34:56.123456789', TIMESTAMP_S '2024-02-29 12:34:56'",
         "\"2024-02-29T12:34:56.123456789\",\"2024-02-29T12:34:56\""},
        {"TIMESTAMPTZ '2024-02-29 12:34:56+02:00', TIME '01:02:03', TIMETZ '01:02:03+05:30'",
         "\"2024-02-29T10:34:56Z\",\"01:02:03\",\"01:02:03+05:30\""},
        {"INTERVAL '14 months 3 days 4.5 seconds', INTERVAL '0 s', -INTERVAL '90 seconds'",
         "\"P1Y2M3DT4.500000S\",\"PT0S\",\"PT-1M-30S\""},
        {"'\\x00\\xFFa'::BLOB, '0101'::BIT, '11111111-2222-3333-8444-555555555555'::UUID",
         "\"AP9h\",\"0101\",\"11111111-2222-3333-8444-555555555555\""},
        {"[1, NULL, 3], {'a': 1, 'b b': [true]}, MAP {'k': 1.5}, [1, 2]::INTEGER[2]",
         "[1,null,3],{\"a\":1,\"b b\":[true]},[[\"k\",1.5]],[1,2]"},
        {"union_value(k := 'v'), 'x'::ENUM('y', 'x'), '{\"a\": 1}'::JSON, NULL",
         "\"v\",\"x\",\"{\\\"a\\\": 1}\",null"},
        {"'123456789012345678901234567890123456789012'::BIGNUM, (-255)::BIGNUM, 0::BIGNUM",
         "\"123456789012345678901234567890123456789012\",\"-255\",\"0\""},
        {"'tab\t\"q\" \\ \303\251'", "\"tab\\t\\\"q\\\" \\\\ \303\251\""},
    };
    struct fixture *fixture = fixture_of(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], wanted[256];
        snprintf(text, sizeof text, "SELECT %s", cases[i][0]);
        snprintf(wanted, sizeof wanted, "[%s]", cases[i][1]);
        expect(fixture, text, NULL, wanted);
    }
}

static void test_csv_and_types(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    struct lh_sql_query *query;
    uint64_t rows;
    const char *text = "SELECT 'a,\"b\"' AS \"x,y\", NULL AS n, '' AS e, [1] AS l, 2.50 AS d, "
                       "{'s': MAP {1: 'x'}} AS t, DATE '2024-01-02' AS day";
    assert_int_equal(lh_sql_start(fixture->session, &gate, lh_str_of(text), NULL, &query,
                                  &fixture->fault, &fixture->error),
                     LH_OK);
    assert_int_equal(lh_sql_fetch(query, &rows, &fixture->error), LH_OK);
    assert_int_equal(rows, 1);
    lh_sql_append_header_csv(query, &out);
    lh_sql_append_row_csv(query, 0, &out);
    lh_buf_append_char(&out, '\0');
    assert_string_equal(out.ptr, "\"x,y\",n,e,l,d,t,day\r\n"
                                 "\"a,\"\"b\"\"\",,\"\",[1],2.50,"
                                 "\"{\"\"s\"\":[[1,\"\"x\"\"]]}\",2024-01-02\r\n");
    static const char *const types[] = {"VARCHAR",      "INTEGER",
                                        "VARCHAR",      "INTEGER[]",
                                        "DECIMAL(3,2)", "STRUCT(\"s\" MAP(INTEGER, VARCHAR))",
                                        "DATE"};
    assert_int_equal(lh_sql_column_count(query), 7);
    for (uint32_t i = 0; i < 7; i++)
        assert_string_equal(lh_sql_column_type(query, i), types[i]);
    lh_sql_finish(query);
    lh_buf_deinit(&out);
}

static void test_errors_have_a_place(void **state)
{
    static const struct {
        const char *text;
        enum lh_status status;
        long offset; /* -1: none */
    } cases[] = {
        {"SELEC 1", LH_INVALID_SQL, 0},
        {"", LH_SQL_NOT_ALLOWED, -1},
        {"SELECT nosuch FROM people", LH_INVALID_SQL, 7},
        {"SELECT * FROM nobody", LH_DATASET_NOT_FOUND, 14},
        {"SELECT 1 + getenv('HOME')", LH_SQL_NOT_ALLOWED, 11},
        {"SELECT 'a'::INTEGER", LH_INVALID_SQL, 10},
    };
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(run(fixture, cases[i].text, NULL, &out), cases[i].status);
        assert_int_equal(fixture->fault.has_offset ? (long)fixture->fault.offset : -1,
                         cases[i].offset);
    }
    expect(fixture, "SELECT 1", NULL, "[1]");
    lh_buf_deinit(&out);
}

static const char *const refused[] = {
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "COPY (SELECT 1) TO '/tmp/x'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x'",
    "ATTACH '/tmp/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads=8",
    "PRAGMA database_list",
    "CREATE TABLE t(a INT)",
    "DROP VIEW people",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "SET VARIABLE x = 1",
    "SELECT getvariable('x')",
    "SELECT * FROM enable_logging(storage='file', storage_path='/tmp/x')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SHOW TABLES",
    "DESCRIBE people",
    "SUMMARIZE people",
    "SELECT current_setting('threads')",
    "SELECT repeat('x', 4000000000)",
    "SELECT lpad('x', 4000000000, 'y')",
    "SELECT range(1000000000)",
    "SELECT generate_series(1, id) FROM people",
    "SELECT printf('%999999999d', 1)",
    "SELECT printf(name, 1) FROM people",
    "SELECT format('{:{}}', 1, 999999999)",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('people')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT sleep_ms(100000)",
    "SELECT write_log('x')",
    "SELECT (SELECT (SELECT getenv('HOME')))",
    "SELECT 1 FROM people WHERE EXISTS (FROM read_parquet('x'))",
    "SELECT 1 ORDER BY getenv('HOME')",
    "SELECT 1 LIMIT (SELECT length(getenv('HOME')))",
    "SELECT list_transform([1], lambda x: getenv('HOME'))",
    "SELECT sum(1) FILTER (WHERE getenv('HOME') = '') FROM people",
    "SELECT sum(1) OVER (PARTITION BY getenv('HOME')) FROM people",
    "WITH t AS (SELECT getenv('HOME')) SELECT 1",
    "WITH duckdb_tables AS (SELECT 1) SELECT * FROM (SELECT 1), main.duckdb_settings",
    "SELECT * FROM (WITH duckdb_settings AS (SELECT 1) FROM duckdb_settings), duckdb_settings",
    "SELECT GetEnv('HOME')",
    "SELECT \"getenv\"('HOME')",
    "SELECT system.main.getenv('HOME')",
    "SELECT 1; SELECT 2",
    "SELECT * FROM people AT (VERSION => 1)",
    "VALUES (getenv('HOME'))",
    "SELECT COLUMNS(c -> getenv('HOME') = c) FROM people",
    "SELECT * REPLACE (getenv('HOME') AS name) FROM people",
    "FROM people TABLESAMPLE 10% SELECT getenv('HOME')",
    "SELECT CASE WHEN true THEN getenv('HOME') END",
    "SELECT nextval('s')",
    "SELECT * FROM parquet_metadata('x')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "CALL pragma_version()",
    "VACUUM",
    "CHECKPOINT",
    "EXPORT DATABASE '/tmp/x'",
    "UPDATE people SET id = 1",
    "DELETE FROM people",
    "INSERT INTO people VALUES (1)",
    "SELECT * FROM test_all_types()",
    "SELECT json_structure('[]')",
    "SELECT json_group_structure(j) FROM (VALUES ('[]'::JSON)) t(j)",
    "SELECT json_contains('[]', '1')",
    "SELECT json_merge_patch('{}', '{}')",
    "SELECT list_aggregate(['[]'::JSON], 'json_group_structure')",
    "SELECT list_aggregate([1], name) FROM people",
    "SELECT list_aggr([1], lower('SUM'))",
    "SELECT '[]'::JSON::VARIANT",
    "SELECT TRY_CAST(1 AS STRUCT(a VARIANT[]))",
    "SELECT variant_typeof('[]'::JSON)",
    "SELECT from_json('1', $1)",
    "SELECT json_transform('1', name) FROM people",
    "SELECT * FROM version_of(version := 2, name := 'people')",
    "SELECT * FROM version_of('people', version := 2)",
    "SELECT * FROM version_of('people', 2.0)",
    "SELECT * FROM version_of('people', '2')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json_objects('/etc/passwd')",
    "FROM \"/etc/passwd\"",
    "FROM 's3://bucket/key.parquet'",
    "FROM \"people@../2\"",
    "FROM \"people'; DROP VIEW people; --\"",
    "SELECT * FROM people POSITIONAL JOIN read_text('/etc/passwd')",
    "SELECT * FROM people, LATERAL (SELECT * FROM read_text(people.name))",
    "PIVOT people ON getenv(name) USING count(*)",
    "SELECT /*x*/ \"GETENV\" /*y*/ ('HOME')",
    "SELECT ['HOME'].list_transform(lambda x: x.getenv())",
    "SELECT [x.getenv() FOR x IN ['HOME']]",
    "SELECT count(*) FROM people GROUP BY GROUPING SETS ((getenv('HOME')), ())",
    "SELECT count(*) FROM people QUALIFY getenv('HOME') IS NULL",
    "SELECT sum(1) OVER w FROM people WINDOW w AS (ORDER BY getenv('HOME'))",
    "SELECT string_agg(name, ',' ORDER BY getenv('HOME')) FROM people",
    "SELECT DISTINCT ON (getenv('HOME')) * FROM people",
    "WITH RECURSIVE x(a) USING KEY (a) AS (SELECT 1 a UNION SELECT size FROM "
    "read_text('/etc/passwd'), x) FROM x",
    "SELECT * FROM pragma_table_info('people')",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM repeat('x', 1000000000)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "EXPLAIN SELECT 1",
    "EXECUTE p",
    "USE memory",
    "RESET memory_limit",
    "CREATE SECRET s (TYPE s3)",
    "MERGE INTO people USING people p ON true WHEN MATCHED THEN DELETE",
};

static void test_refused(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        enum lh_status status = run(fixture, refused[i], NULL, &out);
        if (status != LH_SQL_NOT_ALLOWED && status != LH_DATASET_NOT_FOUND)
            fail_msg("%s: %s, %s", refused[i], lh_status_code(status), fixture->error.text);
        expect(fixture, "SELECT 1", NULL, "[1]");
    }
    lh_buf_deinit(&out);
}

/* A text of `count` times `middle`. */
static char *repeated(const char *before, const char *middle, size_t count, const char *after)
{
    struct lh_buf out = LH_BUF_EMPTY;
    lh_buf_append_str(&out, lh_str_of(before));
    for (size_t i = 0; i < count; i++)
        lh_buf_append_str(&out, lh_str_of(middle));
    lh_buf_append_str(&out, lh_str_of(after));
    lh_buf_append_char(&out, '\0');
    assert_false(lh_buf_failed(&out));
    return out.ptr;
}

static void test_sizes(void **state)
{
    static const struct {
        const char *before, *middle, *after;
        size_t count;
    } cases[] = {
        {"SELECT ", "(", "1", 50000},
        {"SELECT ", "-", "1", 100000},
        {"SELECT 1", " + 1", "", 100000},
        {"SELECT ", "1,", "1", 300000},
        {"SELECT 1 WHERE 1 IN (", "1,", "1)", 300000},
        {"SELECT * FROM people", ", people", "", 1000},
        {"SELECT ", "(SELECT ", "1", 20000},
        {"SELECT '", "x", "'", 2000000},
        {"SELECT ", "[", "1", 50000},
    };
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = repeated(cases[i].before, cases[i].middle, cases[i].count, cases[i].after);
        assert_int_not_equal(run(fixture, text, NULL, &out), LH_OK);
        free(text);
        expect(fixture, "SELECT 1", NULL, "[1]");
    }
    lh_buf_deinit(&out);
}

static void *interrupt_soon(void *arg)
{
    struct fixture *fixture = arg;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    lh_sql_interrupt(fixture->session);
    return NULL;
}

static void test_interrupt(void **state)
{
    static const char *const texts[] = {
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        "SELECT count(*) FROM range(1000000000000) a, range(1000000000000) b",
    };
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, fixture), 0);
        assert_int_equal(run(fixture, texts[i], NULL, &out), LH_CLOSED);
        pthread_join(thread, NULL);
        assert_int_equal(run(fixture, "SELECT 1", NULL, &out), LH_CLOSED);
        lh_sql_resume(fixture->session);
        expect(fixture, "SELECT 1", NULL, "[1]");
    }
    lh_buf_deinit(&out);
}

static void test_memory(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct lh_buf out = LH_BUF_EMPTY;
    assert_int_equal(run(fixture,
                         "SELECT length(string_agg(i::VARCHAR, '')) FROM range(100000000) t(i)",
                         NULL, &out),
                     LH_OUT_OF_MEMORY);
    expect(fixture, "SELECT 1", NULL, "[1]");
    lh_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_params, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_csv_and_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors_have_a_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
