"""Vectors in SQL: what vector_search, nearest and vectors answer, their mistakes, and imports."""

import json
import threading
import time

import pytest

import tls_help
from lakehouse_server import Server, in_parallel, seeded, wait_until
from raw_upstream import Upstream, always
from tokens import bearer, secrets_file, token

class FarServer(Server):
    """SQL in one process, with the gateway, and the vectors in another."""

    def __init__(self, *sets):
        self.vectord = Server("gateway.bind=none", *sets, binds=("vectord", "queryd"))
        super().__init__(f"gateway.vectord_url={tls_help.url(self.vectord.vectord_port)}", *sets,
                         binds=("gateway", "queryd"))

    def __exit__(self, *exc):
        super().__exit__(*exc)
        self.vectord.__exit__(*exc)


@pytest.fixture(scope="module", params=[Server, FarServer], ids=["in one", "vectors elsewhere"])
def server(request):
    with request.param("vectord.shards=3", "queryd.workers=3") as running:
        with running.client() as client:
            if ask(client, "SELECT 1").status == 501:
                pytest.skip("built without DuckDB")
        yield running


@pytest.fixture
def client(server):
    with server.client() as one:
        yield one


@pytest.fixture(scope="module")
def is_far(server):
    return isinstance(server, FarServer)


@pytest.fixture(scope="module")
def words(server):
    """w0, w1, ... on a line, each with its number."""
    with server.client() as client:
        index = client.create("words", 3, distance="euclidean")
        index.add([{"id": f"w{i}", "vector": [i, 0, 1], "metadata": {"n": i}} for i in range(3000)])
    return "words"


names = iter(range(1_000_000))


@pytest.fixture
def new_index(client):
    made = []

    def create(dimension, **options):
        made.append(client.create(f"sql-{next(names)}", dimension, **options))
        return made[-1]

    yield create
    for index in made:
        index.drop()


def ask(client, sql, *params, **options):
    return client.post("/v1/sql", {"sql": sql, "params": list(params), **options})


def rows(client, sql, *params, **options):
    answer = ask(client, sql, *params, **options)
    assert answer.status == 200, answer
    return answer.json["rows"]


def error(client, sql, *params):
    answer = ask(client, sql, *params)
    assert answer.status >= 400, answer
    return answer.status, answer.json["error"]["message"]


# ---- a vector service that answers anything ----

PAGE = "SELECT id, vector FROM vectors('words')"
SEARCH = "SELECT id FROM vector_search('words', [1, 2], 2)"


@pytest.mark.parametrize("sql, answer, text", [
    (SEARCH, [], "an answer for each query"),
    (SEARCH, {"batches": {}}, "an answer for each query"),
    (SEARCH, {"batches": [{"results": []}] * 2}, "an answer for each query"),
    (SEARCH, {"batches": [{}]}, "up to 2 results"),
    (SEARCH, {"batches": [{"results": {"id": "a"}}]}, "up to 2 results"),
    (SEARCH, {"batches": [{"results": [{"id": "a", "distance": 1}] * 3}]}, "up to 2 results"),
    (SEARCH, {"batches": [{"results": [{"distance": 1}]}]}, "without its id or distance"),
    (SEARCH, {"batches": [{"results": [{"id": 7, "distance": 1}]}]}, "without its id or distance"),
    (SEARCH, {"batches": [{"results": [{"id": "a"}]}]}, "without its id or distance"),
    (PAGE, {"items": {}}, "a list of items"),
    (PAGE, {"items": [7]}, "without its id"),
    (PAGE, {"items": [{"id": "a"}]}, "without its vector"),
    (PAGE, {"items": [{"id": "a", "vector": [1, 2]}, {"id": "b"}]}, "without its vector"),
    (PAGE, {"items": [{"id": "a", "vector": [1, 2]}, {"id": "b", "vector": [1]}]}, "its vector"),
    (PAGE, {"items": [{"id": "a", "vector": [1, "2"]}]}, "of other than numbers"),
])
def test_a_vector_service_that_answers_anything(sql, answer, text):
    upstream = Upstream(always(json.dumps(answer).encode(), "Content-Type: application/json"))
    with Server(f"gateway.vectord_url={upstream.url}", binds=("gateway", "queryd")) as server:
        with server.client() as client:
            if ask(client, "SELECT 1").status == 501:
                pytest.skip("built without DuckDB")
            assert ask(client, "SELECT 1").status == 200
            status, message = error(client, sql)
            assert status == 502 and text in message, message
            assert ask(client, "SELECT 1").status == 200
    upstream.close()


# ---- searches ----


@pytest.mark.parametrize("function", ["vector_search", "nearest"])
@pytest.mark.parametrize("query, params", [
    ("[5, 0, 1]", []),
    ("[5.25, 0, 1]::FLOAT[3]", []),
    ("[5.25, 0, 1]::DOUBLE[]", []),
    ("$1", [[5, 0, 1]]),
    ("$1", [[5, 0.25, 1]]),
    ("(SELECT vector FROM vectors('words') WHERE id = 'w5')", []),
])  # fmt: skip
def test_the_nearest_by_any_kind_of_query(client, words, function, query, params):
    found = rows(client, f"SELECT id FROM {function}('words', {query}, 3)", *params)
    assert found[0] == ["w5"] and {row[0] for row in found[1:]} == {"w4", "w6"}


def test_columns_and_order(client, words):
    answer = ask(client, "SELECT * FROM vector_search('words', [7, 0, 1], 2)").json
    assert answer["columns"] == [{"name": "id", "type": "VARCHAR"},
                                 {"name": "distance", "type": "FLOAT"},
                                 {"name": "metadata", "type": "JSON"}]
    assert answer["rows"][0] == ["w7", 0, '{"n":7}']
    assert answer["rows"][1][1] == 1


def test_the_same_as_over_http(client, new_index):
    rng = seeded("the same as over http")
    index = new_index(20)
    vectors = [[rng.gauss(0, 1) for _ in range(20)] for _ in range(2000)]
    index.add([{"id": str(i), "vector": vector} for i, vector in enumerate(vectors)])
    for _ in range(20):
        query = [rng.gauss(0, 1) for _ in range(20)]
        for ef in (16, 300):
            expected = [[hit["id"], hit["distance"]] for hit in index.search(query, k=10, ef=ef)]
            sql = f"SELECT id, distance FROM vector_search('{index.name}', $1, 10, {ef})"
            assert rows(client, sql, query) == expected


def test_ef_by_place_and_by_name(client, words):
    for ef in ("64", "ef := 64"):
        assert rows(client, f"SELECT id FROM vector_search('words', [9, 0, 1], 1, {ef})") == [["w9"]]


def test_all_names_of_a_search_can_be_parameters(client, words):
    sql = "SELECT id FROM vector_search($1, $2, $3, $4)"
    assert rows(client, sql, "words", [11, 0, 1], 1, 50) == [["w11"]]
    assert rows(client, sql, "words", [12.4, 0, 1], 1, 50) == [["w12"]]


def test_a_bound_query_is_a_list_wherever_else_it_is_named(client, words):
    sql = "SELECT id, len($1), $1[1] FROM vector_search('words', $1, 1)"
    assert rows(client, sql, [13, 0, 1]) == [["w13", 3, 13]]
    sql = "SELECT id FROM vector_search('words', [x + 1 FOR x IN $1], 1)"
    assert rows(client, sql, [13, -1, 0]) == [["w14"]]


def test_each_search_of_a_statement_has_its_own_bound_query(client, words):
    sql = """SELECT a.id, b.id, c.id FROM vector_search('words', $2, 1) a,
             nearest('words', $1, 1) b, vector_search('words', $2, 1) c"""
    for i in range(5):
        assert rows(client, sql, [i, 0, 1], [i + 7.25, 0, 1]) == [
            [f"w{i + 7}", f"w{i}", f"w{i + 7}"]]
    sql = "SELECT a.id, b.id FROM vector_search('words', ?, ?) a, vector_search('words', ?, ?) b"
    assert rows(client, sql, [20, 0, 1], 1, [21, 0, 1], 1) == [["w20", "w21"]]


def test_a_bound_query_behind_many_parameters(client, words):
    names = ", ".join(f"${i + 1}" for i in range(11))
    sql = f"SELECT {names}, id FROM vector_search('words', $12, 1)"
    assert rows(client, sql, *range(11), [30, 0, 1]) == [[*range(11), "w30"]]


def test_a_bound_query_is_asked_for_each_row(client, words):
    sql = """SELECT q.i, n.id FROM (VALUES (1), (2)) q(i), nearest('words', $1, 1) n ORDER BY q.i"""
    assert rows(client, sql, [40, 0, 1]) == [[1, "w40"], [2, "w40"]]
    sql = "WITH f AS (FROM vector_search('words', $1, 2)) SELECT a.id FROM f a JOIN f b USING (id)"
    assert ["w41"] in rows(client, sql, [41, 0, 1])


def test_bound_queries_of_other_kinds_follow_one_another(client, words, new_index):
    one = new_index(1, distance="euclidean")
    one.add([{"id": str(i), "vector": [i]} for i in range(9)])
    sql = "SELECT id FROM vector_search($1, $2, 1)"
    for _ in range(2):
        assert rows(client, sql, one.name, [7]) == [["7"]]
        assert rows(client, sql, "words", [50, 0, 1]) == [["w50"]]
        assert rows(client, sql, "words", None) == []
        status, message = error(client, sql, "words", [50, 0])
        assert status == 400 and "2 numbers, the index has 3 dimensions" in message


@pytest.mark.parametrize("query, text", [
    ([], "query: a list of 1 to 65535 numbers"),
    ([1, 2, None], "query[2]: NULL"),
    ([1, 2, 1e39], "query[2]: not a finite number"),
    ([1, "two", 3], "params[0]: "),
    (["1", "2", "3"], "VARCHAR[]"),
    ([[1, 2, 3]], "BIGINT[][]"),
    ("abc", "abc"),
    (True, "BOOLEAN"),
])  # fmt: skip
def test_mistakes_of_bound_queries(client, words, query, text):
    for _ in range(2):
        got, message = error(client, "SELECT id FROM vector_search('words', $1, 1)", query)
        assert got == 400 and text in message, message


@pytest.mark.parametrize("accept", ["text/csv", "application/vnd.apache.parquet"])
def test_a_bound_query_whatever_the_answer_is_written_as(client, words, accept):
    body = {"sql": "SELECT id FROM vector_search('words', $1, 1)", "params": [[60, 0, 1]]}
    assert b"w60" in client.post("/v1/sql", body, headers={"Accept": accept}).body


def test_a_lateral_join_searches_for_each_row(client, words):
    found = rows(client, """
        SELECT v.id, n.id FROM vectors('words') v, vector_search('words', v.vector, 1) n
        WHERE v.id != n.id""")
    assert found == []
    assert rows(client, """
        SELECT count(*) FROM vectors('words') v, nearest('words', v.vector, 2, 32) n""") == [[6000]]


def test_a_statement_that_was_kept_searches_anew(client, new_index):
    index = new_index(2)
    sql = f"SELECT id FROM vector_search('{index.name}', [0, 1], 1)"
    index.add([{"id": "far", "vector": [1, 0.1]}])
    for _ in range(8):
        assert rows(client, sql) == [["far"]]
    index.add([{"id": "near", "vector": [0, 1]}])
    for _ in range(8):
        assert rows(client, sql) == [["near"]]
    index.drop()
    for _ in range(8):
        assert error(client, sql)[0] == 404


def test_null_is_near_to_nothing(client, words):
    assert rows(client, "SELECT * FROM nearest('words', NULL, 3)") == []
    assert rows(client, """
        SELECT q.i, n.id FROM (VALUES (1, [3, 0, 1]), (2, NULL), (3, [4, 0, 1])) q(i, v),
        nearest('words', q.v, 1) n ORDER BY q.i""") == [[1, "w3"], [3, "w4"]]


@pytest.mark.parametrize("call, status, text", [
    ("vector_search('nothing', [1, 2, 3], 3)", 404, 'there is no index "nothing"'),
    ("vector_search('words', [1, 2], 3)", 400, "2 numbers, the index has 3 dimensions"),
    ("vector_search('words', [], 3)", 400, "query: a list of 1 to 65535 numbers"),
    ("vector_search('words', [1, 2, 3], 0)", 400, "k: an integer from 1 to 10000"),
    ("vector_search('words', [1, 2, 3], 10001)", 400, "k: an integer from 1 to 10000"),
    ("vector_search('words', [1, 2, 3], -1)", 400, "k: an integer from 1 to 10000"),
    ("vector_search('words', [1, 2, 3], 1, 4097)", 400, "ef: an integer from 1 to 4096"),
    ("vector_search('words', [1, 2, NULL], 1)", 400, "query[2]: NULL"),
    ("vector_search('words', [1e39, 2, 3], 1)", 400, "query[0]: not a finite number"),
    ("vector_search('words', ['nan'::DOUBLE, 2, 3], 1)", 400, "query[0]: not a finite number"),
    ("vector_search('words', 'abc', 1)", 400, "DOUBLE[]"),
    ("vector_search('words', [1, 2, 3])", 400, "vector_search"),
    ("vectors('nothing')", 404, 'there is no index "nothing"'),
    ("vectors(NULL)", 400, "index: a name is needed"),
    ("lakehouse_nearest('words', [1, 2, 3], 1, 0)", 400, "is not allowed"),
])  # fmt: skip
def test_mistakes(client, words, call, status, text):
    got, message = error(client, f"SELECT * FROM {call}")
    assert got == status and text in message, message


def test_a_zero_vector_under_cosine(client, new_index):
    index = new_index(2)
    index.add([{"id": "a", "vector": [1, 0]}])
    status, message = error(client, f"SELECT * FROM vector_search('{index.name}', [0, 0], 1)")
    assert status == 400 and "no direction under cosine" in message


def test_many_at_once_hold_nobody_up(server, words):
    """Searches in SQL, over HTTP, and adds, all waiting for the same shards and decoders."""
    def sql():
        with server.client() as client:
            for i in range(40):
                n = i * 7 % 3000
                assert rows(client, "SELECT id FROM vector_search('words', $1, 1)", [n, 0, 1]) == [
                    [f"w{n}"]]

    def lateral():
        with server.client() as client:
            assert rows(client, """SELECT count(*) FROM vectors('words') v,
                nearest('words', v.vector, 1) n WHERE n.id LIKE 'w%'""")[0][0] >= 3000

    def http():
        with server.client() as client:
            for i in range(100):
                assert client.index("words").search([i, 0, 1], k=1)[0]["id"] == f"w{i}"

    def add():
        with server.client() as client:
            for i in range(50):
                client.index("words").add([{"id": f"x{i}", "vector": [-5 - i, 9, 9]}])

    in_parallel(*[sql] * 8, *[lateral] * 3, http, http, add)


# ---- scans ----


def test_an_index_as_a_table(client, new_index):
    index = new_index(4)
    items = [{"id": f"i{i}", "vector": [i, 1, 0, 0.5], "metadata": {"i": i}} for i in range(5000)]
    index.add(items)
    table = f"vectors('{index.name}')"
    assert rows(client, f"SELECT count(*), sum((metadata->>'$.i')::INT) FROM {table}") == [
        [5000, sum(range(5000))]]
    assert rows(client, f"SELECT id, vector, metadata FROM {table} WHERE id = 'i77'") == [
        ["i77", [77, 1, 0, 0.5], '{"i":77}']]
    assert rows(client, f"SELECT count(DISTINCT id) FROM {table}") == [[5000]]
    assert rows(client, f"SELECT 1 FROM {table} LIMIT 1") == [[1]]
    assert ask(client, f"SELECT * FROM {table} LIMIT 0").json["columns"] == [
        {"name": "id", "type": "VARCHAR"}, {"name": "vector", "type": "FLOAT[]"},
        {"name": "metadata", "type": "JSON"}]


def test_an_empty_index_is_an_empty_table(client, new_index):
    index = new_index(4)
    assert rows(client, f"SELECT * FROM vectors('{index.name}')") == []
    assert rows(client, f"SELECT * FROM vector_search('{index.name}', [1, 2, 3, 4], 5)") == []


# ---- imports ----


def import_rows(client, name, sql, *params, **options):
    return client.post(f"/v1/vectors/index/{name}/import",
                       {"sql": sql, "params": list(params), **options})


def test_rows_become_items(client, new_index):
    index = new_index(3)
    answer = import_rows(client, index.name, """
        SELECT 'r' || i AS id, [i, 1, 2] AS vector, {'n': i, 'even': i % 2 = 0} AS metadata
        FROM range(10000) t(i)""")
    assert answer.status == 200, answer
    assert {key: answer.json[key] for key in ("rows", "added", "updated")} == {
        "rows": 10000, "added": 10000, "updated": 0}
    assert index.get("r17").json == {"id": "r17", "vector": [17, 1, 2],
                                     "metadata": {"n": 17, "even": False}}
    again = import_rows(client, index.name, "SELECT 'r1' AS id, [9, 9, 9] AS vector")
    assert again.json["updated"] == 1
    assert index.get("r1").json["metadata"] == {"n": 1, "even": False}  # left out: as it was


@pytest.mark.parametrize("vector, expected", [
    ("[1.5, 2, 3]::FLOAT[]", [1.5, 2, 3]),
    ("[1.5, 2, 3]::FLOAT[3]", [1.5, 2, 3]),
    ("[1.5, 2, 3]::DOUBLE[]", [1.5, 2, 3]),
    ("[1.5, 2, 3]::DOUBLE[3]", [1.5, 2, 3]),
    ("[1.5, 2.25, 3]", [1.5, 2.25, 3]),
    ("[1, 2, 3]", [1, 2, 3]),
])  # fmt: skip
def test_vectors_of_any_type(client, new_index, vector, expected):
    index = new_index(3)
    assert import_rows(client, index.name, f"SELECT 7 AS id, {vector} AS vector").status == 200
    assert index.get("7").json["vector"] == expected


def test_an_index_into_another(client, words, new_index):
    index = new_index(3, distance="euclidean")
    answer = import_rows(client, index.name, """
        SELECT id, vector, metadata FROM vectors('words') WHERE (metadata->>'$.n')::INT < 1000""")
    assert answer.json["added"] == 1000, answer
    assert index.search([5, 0, 1], k=1)[0] == {"id": "w5", "distance": 0, "metadata": {"n": 5}}


@pytest.mark.parametrize("sql, text", [
    ("SELECT 1 AS id", "columns id, vector"),
    ("SELECT 1 AS id, [1, 2, 3] AS vector, 4 AS more", "columns id, vector"),
    ("SELECT 1 AS id, 2 AS id, [1, 2, 3] AS vector", "columns id, vector"),
    ("SELECT 1 AS id, 2 AS vector", "column vector is of type INTEGER"),
    ("SELECT NULL AS id, [1, 2, 3] AS vector", "row 1: id is NULL; 0 rows"),
    ("SELECT i AS id, CASE WHEN i < 2500 THEN [1, 2, i] END AS vector FROM range(9999) t(i)",
     "row 2501: vector is NULL; 2048 rows were applied before"),
    ("SELECT i AS id, CASE WHEN i < 3 THEN [1, 2, i] ELSE [1] END AS vector FROM range(9) t(i)",
     "row 4: vector: 1 numbers, the index has 3 dimensions; 3 rows"),
    ("SELECT 1 AS id, ['nan'::FLOAT, 2, 3] AS vector", "row 1: vector[0]"),
    ("SELECT 1 AS id, [1, NULL, 3]::FLOAT[] AS vector", "row 1: vector[1]"),
    ("SELECT '' AS id, [1, 2, 3] AS vector", "row 1: id"),
    ("SELECT 1 AS id, [1, 2, 3] AS vector, '[1]' AS metadata", "row 1: metadata"),
    ("SELECT 1 AS id, [1, 2, 3] AS vector, 'x' AS metadata", "row 1"),
    ("DROP TABLE x", "only one SELECT"),
])  # fmt: skip
def test_mistakes_of_an_import(client, new_index, is_far, sql, text):
    answer = import_rows(client, new_index(3).name, sql)
    assert answer.status == 400, answer
    message = answer.json["error"]["message"]
    if is_far and "NULL" not in text:  # the other counts the lines that it was sent
        text = text.replace("row ", "line ").split(";")[0]
    assert text in message, message


def test_an_import_into_nothing(client):
    answer = import_rows(client, "not-there", "SELECT 1 AS id, [1, 2] AS vector")
    assert answer.status == 404, answer
    answer = client.post("/v1/vectors/index/a%2Fb/import", {"sql": "SELECT 1"})
    assert answer.status == 404, answer


def test_an_import_is_watched_and_cancelled(server, client, new_index):
    index = new_index(32)
    outcome = []

    def run():
        with server.client() as other:
            outcome.append(other.request(
                "POST", f"/v1/vectors/index/{index.name}/import",
                {"sql": """SELECT i AS id, list_transform(range(32), lambda j: sin(i * j + j))
                    AS vector FROM range(10000) a(k), (SELECT k * 10000 + m AS i
                    FROM range(10000) b(m))"""}, headers={"X-Query-Id": "long-import"}))

    thread = threading.Thread(target=run)
    thread.start()
    seen = 0
    deadline = time.monotonic() + 60
    while seen < 4000 and time.monotonic() < deadline:
        answer = client.get("/v1/sql/long-import")
        seen = answer.json["rows"] if answer.status == 200 else 0
        time.sleep(0.01)
    assert seen >= 4000 and answer.json["state"] == "running"
    assert client.delete("/v1/sql/long-import").status == 204
    thread.join(60)
    assert outcome and outcome[0].json["error"]["code"] == "cancelled", outcome
    count = client.get(f"/v1/vectors/index/{index.name}").json["count"]
    assert count >= 4000
    assert client.get("/v1/sql/long-import").status == 404


def test_an_imported_index_is_there_after_a_kill(tmp_path):
    with Server(f"vectord.data_dir={tmp_path}") as server:
        with server.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            client.create("kept", 2)
            assert import_rows(client, "kept", """SELECT i AS id, [i, 1] AS vector
                FROM range(5000) t(i)""").json["added"] == 5000
        server.kill()
    with Server(f"vectord.data_dir={tmp_path}") as server:
        with server.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            assert rows(client, "SELECT count(*) FROM vectors('kept')") == [[5000]]


# ---- what a token reaches ----


def test_a_limited_token_sees_its_indexes_alone(tmp_path):
    secrets = secrets_file(tmp_path / "secrets.toml",
                           token("all", "0123456789abcdef" * 2, "admin"),
                           token("some", "fedcba9876543210" * 2, "read", "write",
                                 indexes=["mine-*"]))
    with Server(secrets) as server, server.client() as client:
        everything, some = bearer("0123456789abcdef" * 2), bearer("fedcba9876543210" * 2)
        for name in ("mine-1", "theirs"):
            answer = client.request("POST", "/v1/vectors/index", {"name": name, "dimension": 2},
                                    headers=everything)
            assert answer.status == 201, answer

        def status(function, headers):
            return client.request("POST", "/v1/sql", {"sql": f"SELECT * FROM {function}"},
                                  headers=headers).status

        for call in ("vectors('{}')", "vector_search('{}', [1, 2], 3)", "nearest('{}', [1, 2], 3)"):
            for _ in range(3):  # also when the other has had it prepared
                assert status(call.format("theirs"), everything) == 200
                assert status(call.format("mine-1"), some) == 200
                assert status(call.format("theirs"), some) == 403
        imported = client.request("POST", "/v1/vectors/index/theirs/import",
                                  {"sql": "SELECT 1 AS id, [1, 2] AS vector"}, headers=some)
        assert imported.status == 403
        assert client.request("POST", "/v1/sql", {"sql": "SELECT 1"}).status == 401
