"""Statements that would take the machine: memory, time, the stack. After each of them the server, the
other queries and the vectors go on, and the memory comes back."""

import time

import pytest
from lakehouse_server import Server, wait_until

MIB = 1 << 20


def texts(piece, count, name="s"):
    return f"(SELECT string_agg('{piece}', '') {name} FROM range({count}))"


DEEP_LIST = "(SELECT string_agg('[', '') || string_agg(']', '') s FROM range(200000))"
DEEP_OBJECT = """(SELECT string_agg('{"a":', '') || '1' || string_agg('}', '') s FROM range(200000))"""


@pytest.fixture(scope="module")
def server():
    with Server("queryd.workers=2", "queryd.timeout=4s", "queryd.memory_limit=256MiB") as server:
        with server.client() as client:
            if client.post("/v1/sql", {"sql": "SELECT 1"}).status == 501:
                pytest.skip("built without DuckDB")
            client.create("words", 3, distance="euclidean").add(
                [{"id": f"w{i}", "vector": [i, 0, 1]} for i in range(100)])
            expect_all_well(client)
        yield server


def ask(client, sql, **fields):
    return client.post("/v1/sql", {"sql": sql, **fields})


def expect_all_well(client):
    assert client.get("/healthz").status == 200
    assert client.index("words").search([7, 0, 1], k=1)[0]["id"] == "w7"
    assert ask(client, "SELECT id FROM vector_search('words', [9, 0, 1], 1)").json["rows"] == [["w9"]]
    assert ask(client, "SELECT sum(i) FROM range(1000) t(i)").json["rows"] == [[499500]]


MEMORY = {
    "replace": f"SELECT length(replace(s, 'a', s)) FROM {texts('a', 100000)}",
    "regexp_replace": f"SELECT length(regexp_replace(s, 'a', s, 'g')) FROM {texts('a', 100000)}",
    "regexp_split": f"SELECT regexp_split_to_table(s, '') FROM {texts('aaaaaaaaaaaaaaaa', 3000000)}",
    "concat": "SELECT max(length(s || i)) FROM range(100000) t(i), "
              + texts("aaaaaaaaaaaaaaaa", 600000),
    "upper": "SELECT max(length(upper(s || i))) FROM range(100000) t(i), "
             + texts("aaaaaaaaaaaaaaaa", 600000),
    "lists": "SELECT len(list_transform(range(10000), lambda x: range(10000))) FROM range(5000)",
    "lists_in_lists": "SELECT len(flatten(list_transform(range(10000), lambda x: list_transform("
                      "range(10000), lambda y: [x, y]))))",
    "doubling": "SELECT length(list_reduce(list_transform(range(60), lambda x: 'aaaaaaaa'), "
                "lambda a, b: a || a))",
    "doubling_by_recursion": "WITH RECURSIVE t(s) AS (SELECT 'aaaaaaaaaaaaaaaa' UNION ALL "
                             "SELECT s || s FROM t) SELECT max(length(s)) FROM t",
    "hex_of_hex": "SELECT length(" + "hex(" * 12 + "s" + ")" * 12 + f") FROM {texts('%', 1000000)}",
    "string_agg": f"SELECT length(s) FROM {texts('x' * 24, 1000000000)}",
    "list": "SELECT len(list(i)) FROM range(1000000000) t(i)",
    "histogram": "SELECT histogram(i) FROM range(1000000000) t(i)",
    "json_group_array": "SELECT length(json_group_array(i)) FROM range(1000000000) t(i)",
    "distinct": "SELECT count(DISTINCT hash(i)) FROM range(10000000000) t(i)",
    "sort": "SELECT hash(i) FROM range(10000000000) t(i) ORDER BY 1",
    "window": "SELECT list(i) OVER (ORDER BY i) FROM range(10000000) t(i)",
    "cross_join": "SELECT max(a.i * b.i + c.i) FROM range(1000000000) a(i), "
                  "range(1000000000) b(i), range(1000000000) c(i)",
    "hash_join": "SELECT count(*) FROM (SELECT hash(i) h FROM range(1000000000) t(i)) a "
                 "JOIN (SELECT hash(i) h FROM range(1000000000) t(i)) b USING (h)",
    "recursion": "WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT b.a FROM t a, t b) "
                 "SELECT count(*) FROM t",
    "cube": "SELECT 1 FROM range(1000) t(i) GROUP BY CUBE ("
            + ", ".join(f"i + {n}" for n in range(16)) + ")",
    "pivot": "PIVOT (SELECT i FROM range(1000000) t(i)) ON i USING count(*)",
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory(server, name):
    if server.is_sanitized(["libtsan"]):
        pytest.skip("that runtime has an operator new of its own, which bounds nothing")
    with server.client(timeout=120) as client:
        answer = ask(client, MEMORY[name], max_bytes=1000)
        assert answer.status in (200, 400, 503, 507), answer
        expect_all_well(client)
        # The heaviest has ended by now, or ends at its next allocation.
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0)
        if not server.is_sanitized():
            assert server.resident_bytes() < 1200 * MIB
            expect_all_well(client)


def test_memory_has_come_back(server):
    """Behind all of the above."""
    with server.client() as client:
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0)

        def has_come_back():  # each worker takes a query some time, and gives back what it has
            expect_all_well(client)
            return server.is_sanitized() or server.resident_bytes() < 600 * MIB

        wait_until(has_come_back)


TIME = {
    "like": f"SELECT s LIKE '%_a%_a%_a%_a%_a%_a%_a%_a%_a%_a%_b' FROM {texts('a', 1000)}",
    "not_ilike": f"SELECT s NOT ILIKE '%_a%_a%_a%_a%_a%_a%_a%_a%_a%_a%_b' FROM {texts('a', 1000)}",
    "like_parameter": f"SELECT s LIKE $1 FROM {texts('a', 1000)}",
    "like_column": f"SELECT s LIKE p FROM {texts('a', 1000)}, {texts('%a', 100, 'q')}, "
                   "(SELECT q || 'b' p)",
    "like_long": "SELECT s LIKE p || 'b' FROM (SELECT string_agg('a', '') s, string_agg('%a', '') p "
                 "FROM range(5000000))",
    "like_escape": f"SELECT s LIKE '%_a%_a%_a%_a%_a%_a%_b' ESCAPE '!' FROM {texts('a', 1000)}",
    "glob": f"SELECT s GLOB '*a*a*a*a*a*a*a*b' FROM {texts('a', 10000)}",
    "levenshtein": f"SELECT levenshtein(s, s || 'x') FROM {texts('a', 1000000)}",
    "damerau_levenshtein": f"SELECT damerau_levenshtein(s, s || 'x') FROM {texts('a', 100000)}",
    "editdist3": f"SELECT editdist3(s, s || 'x') FROM {texts('a', 1000000)}",
    "regex": f"SELECT regexp_matches(s, '(x+x+)+y') FROM {texts('x', 100000)}",
    "regex_size": "SELECT regexp_matches('a', '((a{1,100}){1,100}){1,100}')",
    "recursion": "WITH RECURSIVE t(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM t) "
                 "SELECT max(a) FROM t",
}


@pytest.mark.parametrize("name", TIME)
def test_time(server, name):
    with server.client(timeout=120) as client:
        started = time.monotonic()
        params = ["%_a" * 10 + "%b"] if "$1" in TIME[name] else []
        answer = ask(client, TIME[name], params=params)
        assert answer.status in (200, 400, 503), answer
        assert time.monotonic() - started < 30  # of 4; others compute here, too
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0, seconds=30)
        expect_all_well(client)


STACK = {
    "json": f"SELECT length(json(s)) FROM {DEEP_LIST}",
    "json_pretty": f"SELECT length(json_pretty(s)) FROM {DEEP_OBJECT}",
    "json_keys": f"SELECT len(json_keys(s)) FROM {DEEP_OBJECT}",
    "json_extract": f"SELECT json_extract(s, '$..b') FROM {DEEP_OBJECT}",
    "json_structure": f"SELECT json_structure(s) FROM {DEEP_LIST}",
    "json_contains": f"SELECT json_contains(s, '1') FROM {DEEP_LIST}",
    "json_merge_patch": f"SELECT json_merge_patch(s, s) FROM {DEEP_OBJECT}",
    "json_group_structure": f"SELECT json_group_structure(s::JSON) FROM {DEEP_OBJECT}",
    "aggregate_by_name": f"SELECT list_aggregate([s::JSON], 'json_group_structure') FROM {DEEP_LIST}",
    "variant": f"SELECT s::JSON::VARIANT FROM {DEEP_LIST}",
    "variant_within": f"SELECT [s::JSON]::VARIANT[] FROM {DEEP_LIST}",
    "from_json": "SELECT from_json('1', '" + "[" * 100000 + '"INT"' + "]" * 100000 + "')",
    "json_transform": "SELECT json_transform('1', '" + '{"a":' * 50000 + '"INT"' + "}" * 50000 + "')",
    "from_json_names": "SELECT from_json('1', '" + '{"]":' * 50000 + '"INT"' + "}" * 50000 + "')",
    "from_json_types": "SELECT from_json('1', '\"INT" + "[]" * 100000 + "\"')",
    "list_cast": f"SELECT s::VARCHAR[] FROM {DEEP_LIST}",
    "like": "SELECT s LIKE p FROM (SELECT string_agg('a', '') s, string_agg('%a', '') p "
            "FROM range(3000000))",
    "glob": "SELECT s GLOB p FROM (SELECT string_agg('a', '') s, string_agg('*a', '') p "
            "FROM range(3000000))",
    "parentheses": "SELECT " + "(" * 100000 + "1" + ")" * 100000,
    "columns": "SELECT " + ", ".join(["1"] * 300000),
    "in_list": "SELECT 1 IN (" + ", ".join(["1"] * 300000) + ")",
    "types": "SELECT NULL::INT" + "[]" * 100000,
    "lambdas": "SELECT " + "list_transform(" * 900 + "[1]" + ", lambda x: x)" * 900,
    "common_tables": "WITH t0 AS (SELECT 1 a)" + "".join(
        f", t{i} AS (SELECT a.a FROM t{i - 1} a, t{i - 1} b)" for i in range(1, 60))
        + " SELECT count(*) FROM t59",
}


@pytest.mark.parametrize("name", STACK)
def test_stack(server, name):
    with server.client(timeout=120) as client:
        answer = ask(client, STACK[name])
        assert answer.status in (200, 400, 413, 503, 507), answer
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0)
        expect_all_well(client)


def test_a_client_does_not_wait_for_a_function_that_nothing_interrupts(server):
    with server.client(timeout=120) as client:
        started = time.monotonic()
        answer = ask(client, "SELECT max(len(list_filter(range(10000), lambda x: list_contains(l, -x - "
                             "1)))) FROM (SELECT range(10000) l FROM range(100))", timeout_ms=300)
        waited = time.monotonic() - started
        assert answer.code == "deadline_exceeded", answer
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0, seconds=180)
        ended = time.monotonic() - started
        assert waited < max(3, ended / 2), (waited, ended)  # whatever stops the machine meanwhile
        expect_all_well(client)


LIKES = [
    ("'abcab'", "'%a%b%'", True), ("'abcab'", "'a%c%b'", True), ("'abcab'", "'%b%c%x'", False),
    ("'a.c*b'", "'%.%*%'", True), ("'abc'", "'%.%c%'", False), ("'aéc'", "'%_é%_c%'", False),
    ("'aébc'", "'%_é%_c%'", True), ("E'a\\nb\\nc'", "'a%b%c'", True), ("'a\\b\\c'", "'%\\%\\%'", True),
    ("'50%'", "'%0!%' ESCAPE '!'", True), ("'50%x'", "'%!%%' ESCAPE '!'", True),
]  # fmt: skip


@pytest.mark.parametrize("text, pattern, is_like", LIKES)
def test_like_means_what_it_does(server, text, pattern, is_like):
    with server.client() as client:
        row = f"SELECT {text} LIKE {pattern}, {text} NOT LIKE {pattern}, {text} ILIKE {pattern}, " \
              f"{text} NOT ILIKE {pattern}"
        assert ask(client, row).json["rows"] == [[is_like, not is_like, is_like, not is_like]]
