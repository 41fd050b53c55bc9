"""Datasets as tables: versions, what changes under statements, the cache, and what is missing."""

import os
import pathlib
import time

import pytest

from lakehouse_server import Client, Server, in_parallel, wait_until
from tokens import bearer, secrets_file, token

PARQUET = "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start("queryd.workers=3") is a server with an object store of its own."""
    running = []

    def start_one(*sets, folder=None, **options):
        folder = folder or tmp_path_factory.mktemp("datasets")
        server = Server(f"vectord.data_dir={folder}/data", f"storaged.root={folder}/objects", *sets,
                        **options)
        server.folder = folder
        running.append(server)
        with Client(server.ports.get("gateway") or server.ports["queryd"]) as client:
            if ask(client, "SELECT 1").status == 501:
                pytest.skip("built without DuckDB")
            wait_until(lambda: client.get("/v1/sql/tables").status != 503)  # the catalog is read
        return server

    yield start_one
    for server in running:
        if server.process.poll() is None:
            server.end()


@pytest.fixture(scope="module")
def server(start):
    return start("queryd.workers=3")


@pytest.fixture
def client(server):
    with server.client() as one:
        yield one


numbers = iter(range(1_000_000))


@pytest.fixture
def name():
    return f"table{next(numbers)}"


def ask(client, sql, *params, headers=None, **options):
    return client.request("POST", "/v1/sql", {"sql": sql, "params": list(params), **options},
                          headers=headers or {})


def test_two_servers_do_not_share_a_cache(server, tmp_path):
    cache = f"queryd.cache_dir={tmp_path}/cache"
    with Server(f"storaged.root={tmp_path}/objects", cache):
        with pytest.raises(AssertionError,
                           match="queryd.cache_dir: another server or service uses"):
            Server(f"storaged.root={tmp_path}/others", cache)


def rows(client, sql, *params):
    answer = ask(client, sql, *params)
    assert answer.status == 200, answer
    return answer.json["rows"]


def error(client, sql, **options):
    answer = ask(client, sql, **options)
    assert answer.status >= 400, answer
    return answer.status, answer.json["error"]["message"]


def parquet(client, sql, *params):
    answer = ask(client, sql, *params, headers={"Accept": PARQUET})
    assert answer.status == 200, answer
    return answer.body


def put(client, name, sql):
    """An object of the rows; its key and size."""
    body = parquet(client, sql)
    key = f"datasets/{name}/{next(numbers)}.parquet"
    assert client.request("PUT", f"/v1/storage/put/{key}", body).status == 200
    return {"key": key, "size": len(body)}


def register(client, name, sql, mode="replace", **options):
    thing = put(client, name, sql)
    answer = client.post("/v1/catalog/register", {
        "name": name, "fingerprint": thing["key"], "objects": [thing], "mode": mode, **options})
    assert answer.status == 201, answer
    return thing


# ---- versions ----


def test_a_dataset_is_a_table_at_once(client, name):
    register(client, name, "SELECT i, 'n' || i AS n FROM range(5000) t(i)")
    assert rows(client, f"SELECT count(*), max(n) FROM {name}") == [[5000, "n999"]]
    assert rows(client, f"SELECT n FROM {name} WHERE i = $1", 77) == [["n77"]]
    assert rows(client, f'SELECT a.n FROM {name} a JOIN "{name}" b USING (i) WHERE b.i = 3') == [
        ["n3"]]


def test_the_next_statement_reads_the_next_version(client, name):
    for version in range(1, 6):
        register(client, name, f"SELECT {version} AS v")
        for _ in range(6):  # each worker, with the statement prepared and without
            assert rows(client, f"SELECT v FROM {name}") == [[version]]
    for version in range(1, 6):
        for table in (f'"{name}@{version}"', f"version_of('{name}', {version})"):
            for _ in range(3):
                assert rows(client, f"SELECT v FROM {table}") == [[version]]
    assert rows(client, f'SELECT a.v, b.v FROM "{name}@2" a, {name} b') == [[2, 5]]


def test_a_version_may_have_other_columns(client, name):
    register(client, name, "SELECT 1 AS a")
    assert ask(client, f"SELECT * FROM {name}").json["columns"] == [
        {"name": "a", "type": "INTEGER"}]
    register(client, name, "SELECT 'x' AS b, 2 AS c")
    for _ in range(6):
        answer = ask(client, f"SELECT * FROM {name}").json
        assert answer["columns"] == [{"name": "b", "type": "VARCHAR"},
                                     {"name": "c", "type": "INTEGER"}]
        assert answer["rows"] == [["x", 2]]
    assert error(client, f"SELECT a FROM {name}")[0] == 400


def test_appended_objects_are_one_table(client, name):
    register(client, name, "SELECT i FROM range(10) t(i)")
    register(client, name, "SELECT i FROM range(10, 30) t(i)", mode="append")
    assert rows(client, f"SELECT count(*), sum(i) FROM {name}") == [[30, sum(range(30))]]
    assert rows(client, f'SELECT count(*) FROM "{name}@1"') == [[10]]


def test_deleted_and_made_again(client, name):
    register(client, name, "SELECT 'old' AS v")
    assert rows(client, f"SELECT v FROM {name}") == [["old"]]
    assert client.delete(f"/v1/catalog/manifest/{name}?purge=true").status == 204
    for _ in range(4):
        assert error(client, f"SELECT v FROM {name}")[0] == 404
    register(client, name, "SELECT 'new' AS v")
    for _ in range(4):
        assert rows(client, f"SELECT v FROM {name}") == [["new"]]


@pytest.mark.parametrize("table, status", [
    ("nothing", 404),
    ('"nothing@1"', 404),
    ('"{name}@2"', 404),
    ('"{name}@0"', 404),
    ('"{name}@"', 404),
    ('"{name}@1@1"', 404),
    ('"{name}@-1"', 404),
    ("version_of('{name}', 2)", 404),
    ("version_of('{name}', 0)", 404),
    ("version_of('{name}', $1)", 400),
    ("version_of('{name}')", 400),
    ("version_of('{name}', 1, 1)", 400),
    ("version_of({name}, 1)", 400),
    ("version_of('nothing', 1)", 404),
    ("version_of('a b', 1)", 404),
    ("temp.{name}", 400),
    ("{name} AT (VERSION => 1)", 400),
    ("query_table('{name}')", 400),
    ("read_parquet('{name}')", 400),
])  # fmt: skip
def test_tables_that_are_none(client, name, table, status):
    register(client, name, "SELECT 1 AS a")
    got = error(client, "SELECT * FROM " + table.format(name=name))
    assert got[0] == status, got


def test_views_of_others_cannot_be_read_by_their_names(client, name):
    """A session keeps the views of earlier statements; only the gate opens them."""
    register(client, name, "SELECT 1 AS a")
    for _ in range(6):
        assert rows(client, f'SELECT * FROM "{name}@1"') == [[1]]
    assert client.delete(f"/v1/catalog/manifest/{name}").status == 204
    for _ in range(6):
        assert error(client, f'SELECT * FROM "{name}@1"')[0] == 404


def test_names_that_differ_in_case(client, name):
    register(client, name, "SELECT 'lower' AS v")
    register(client, name.upper(), "SELECT 'upper' AS v")
    for _ in range(6):
        assert rows(client, f"SELECT v FROM {name}") == [["lower"]]
        assert rows(client, f"SELECT v FROM {name.upper()}") == [["upper"]]
    status, message = error(client, f"SELECT * FROM {name}, {name.upper()}")
    assert status == 400 and "differ only in case" in message


def test_readers_and_a_writer_at_once(server, name):
    with server.client() as client:
        register(client, name, "SELECT 0 AS v FROM range(1000)")
    last = [0]

    def write():
        with server.client() as client:
            for version in range(1, 15):
                register(client, name, f"SELECT {version} AS v FROM range(1000)")
                last[0] = version

    def read():
        with server.client() as client:
            while last[0] < 14:
                least = last[0]
                ((low, high, count),) = rows(client, f"SELECT min(v), max(v), count(*) FROM {name}")
                assert least <= low == high and count == 1000

    in_parallel(write, *[read] * 5)


# ---- joins with vectors ----


def test_a_join_with_vectors(client, name):
    index = client.create(name, 2, distance="euclidean")
    index.add([{"id": f"p{i}", "vector": [i, 0]} for i in range(100)])
    register(client, name, "SELECT 'p' || i AS id, i * 10 AS salary FROM range(100) t(i)")
    assert rows(client, f"""SELECT p.salary, n.distance FROM vector_search('{name}', [7.25, 0], 2) n
        JOIN {name} p USING (id) ORDER BY n.distance""") == [[70, 0.25], [80, 0.75]]
    assert rows(client, f"""SELECT n.id FROM (SELECT [5, 0] AS v FROM {name} LIMIT 1) p,
        nearest('{name}', p.v, 1) n""") == [["p5"]]
    imported = client.post(f"/v1/vectors/index/{name}/import", {
        "sql": f"SELECT id || 'x' AS id, [salary, 1] AS vector FROM {name}"})
    assert imported.status == 200 and imported.json["added"] == 100, imported
    index.drop()


# ---- the cache ----


def cached(server):
    return [file for file in pathlib.Path(server.folder, "data", "query").iterdir()
            if file.is_file()]


def test_a_file_that_went_is_fetched_again(server, client, name):
    register(client, name, "SELECT 1 AS a")
    before = set(cached(server))
    assert rows(client, f"SELECT a FROM {name}") == [[1]]
    (file,) = set(cached(server)) - before
    for damage in (os.unlink, lambda path: os.truncate(path, 10)):
        damage(file)
        for _ in range(4):
            assert rows(client, f"SELECT a FROM {name}") == [[1]]


def test_old_files_make_room(start):
    server = start("queryd.cache_bytes=1MiB", "queryd.workers=1")
    with server.client() as client:
        # Larger than all of the cache, in which there is nothing yet.
        register(client, "huge", "SELECT hash(i) AS h FROM range(200000) t(i)")
        assert rows(client, "SELECT count(*) FROM huge") == [[200000]]
        for file in cached(server):
            assert file.stat().st_size > 2**20
            os.utime(file, (time.time() - 3600, file.stat().st_mtime))
        for i in range(6):
            register(client, f"big{i}", f"SELECT hash(i + {i}) AS h FROM range(50000) t(i)")
            assert rows(client, f"SELECT count(*) FROM big{i}") == [[50000]]
            for file in cached(server):  # as if nobody had used it for an hour
                os.utime(file, (time.time() - 3600, file.stat().st_mtime))
        assert sum(file.stat().st_size for file in cached(server)) <= 1.5 * 2**20
        for i in range(6):
            assert rows(client, f"SELECT count(*) FROM big{i}") == [[50000]]


def test_what_a_crash_has_left_is_removed(start):
    server = start()
    folder = pathlib.Path(server.folder, "data", "query")
    server.kill()
    (folder / ".partial-abcdef").write_bytes(b"x" * 1000)
    (folder / "spill").mkdir(exist_ok=True)
    (folder / "spill" / "duckdb_temp_storage-0.tmp").write_bytes(b"x" * 1000)
    again = start(folder=server.folder)
    assert not (folder / ".partial-abcdef").exists()
    assert not list((folder / "spill").iterdir()) if (folder / "spill").exists() else True
    again.end()


def test_an_object_that_is_gone(client, name):
    thing = register(client, name, "SELECT 1 AS a")
    assert client.delete(f"/v1/storage/delete/{thing['key']}").status == 204
    status, message = error(client, f"SELECT a FROM {name}")
    assert status in (404, 409, 502) and thing["key"] in message, (status, message)


def test_an_object_that_is_another(client, name):
    thing = register(client, name, "SELECT 1 AS a")
    assert client.request("PUT", f"/v1/storage/put/{thing['key']}", b"short").status == 200
    status, message = error(client, f"SELECT a FROM {name}")
    assert status == 409 and thing["key"] in message, (status, message)


def test_an_object_that_is_no_parquet(client, name):
    thing = {"key": f"datasets/{name}/x.parquet", "size": 4}
    assert client.request("PUT", f"/v1/storage/put/{thing['key']}", b"nope").status == 200
    answer = client.post("/v1/catalog/register",
                         {"name": name, "fingerprint": "x", "objects": [thing]})
    assert answer.status == 201, answer
    for _ in range(4):
        status, message = error(client, f"SELECT * FROM {name}")
        assert status >= 400 and "arquet" in message, (status, message)
    assert rows(client, "SELECT 1") == [[1]]


# ---- after a restart ----


def test_datasets_are_there_after_a_kill(start, name):
    server = start()
    with server.client() as client:
        register(client, name, "SELECT i FROM range(100) t(i)")
    server.kill()
    again = start(folder=server.folder)
    with again.client() as client:
        wait_until(lambda: ask(client, f"SELECT 1 FROM {name}").status != 503)
        assert rows(client, f"SELECT count(*) FROM {name}") == [[100]]
    again.end()


# ---- what tables there are ----


def test_tables_are_listed_and_described(client, name):
    register(client, name, "SELECT 1 AS a, 'x' AS b", row_count=1)
    listed = client.get(f"/v1/sql/tables?prefix={name}").json["tables"]
    assert [table["name"] for table in listed if table["name"] == name] == [name]
    table = client.get(f"/v1/sql/tables/{name}").json
    assert table["columns"] == [{"name": "a", "type": "INTEGER"}, {"name": "b", "type": "VARCHAR"}]
    assert table["version"] == 1 and table["row_count"] == 1
    register(client, name, "SELECT 2.5 AS c")
    assert client.get(f"/v1/sql/tables/{name}").json["version"] == 2
    assert client.get(f"/v1/sql/tables/{name}@1").json["version"] == 1
    assert client.get("/v1/sql/tables/nothing").status == 404
    assert client.get(f"/v1/sql/tables/{name}@7").status == 404
    assert client.get("/v1/sql/tables?limit=0").status == 400


def test_tables_come_in_pages(start):
    server = start()
    with server.client() as client:
        thing = put(client, "p", "SELECT 1 AS a")
        for i in range(12):
            assert client.post("/v1/catalog/register", {
                "name": f"p{i:02}", "fingerprint": "x", "objects": [thing]}).status == 201
        seen, cursor = [], ""
        while True:
            page = client.get(f"/v1/sql/tables?limit=5&cursor={cursor}").json
            seen += [table["name"] for table in page["tables"]]
            cursor = page.get("next_cursor")
            if not cursor:
                break
        assert seen == [f"p{i:02}" for i in range(12)]


# ---- answers ----


def test_parquet_answers(client, name):
    body = parquet(client, """SELECT i AS id, [i, i + 0.5]::FLOAT[] AS vector, 'ü' || i AS s,
        i::DECIMAL(20, 2) AS d, NULL::DATE AS n FROM range(100000) t(i) -- with a comment""")
    assert body[:4] == b"PAR1" == body[-4:]
    assert client.request("PUT", f"/v1/storage/put/datasets/{name}/a.parquet", body).status == 200
    assert client.post("/v1/catalog/register", {
        "name": name, "fingerprint": "a",
        "objects": [{"key": f"datasets/{name}/a.parquet", "size": len(body)}]}).status == 201
    assert rows(client, f"SELECT count(*), max(s), max(d), min(vector) FROM {name}") == [
        [100000, "ü99999", 99999.00, [0, 0.5]]]
    answer = ask(client, "SELECT $1 AS a, i FROM range(10) t(i) ORDER BY i DESC;", "z",
                 headers={"Accept": PARQUET})
    assert answer.status == 200 and answer.headers["x-row-count"] == "10"
    cut = ask(client, "SELECT i FROM range(1000) t(i)", max_rows=7, headers={"Accept": PARQUET})
    assert cut.headers["x-row-count"] == "7" and cut.headers["x-truncated"] == "true"


@pytest.mark.parametrize("sql, is_descending", [
    ("SELECT i FROM range({n}) t(i)", False),
    ("SELECT i FROM range({n}) t(i) ORDER BY i DESC", True),
    ("SELECT max(i) AS i FROM range({n}) t(i) GROUP BY i ORDER BY i", False),
    ("FROM range(1) t(i) UNION ALL FROM range(1, {n}) t(i) LIMIT {n}", False),
])  # fmt: skip
@pytest.mark.parametrize("rows_max", [1, 2047, 2048, 2049, 122880, 125000])
def test_parquet_answers_are_truncated_where_there_is_more(
        client, name, sql, is_descending, rows_max):
    for n in (rows_max, rows_max + 1, rows_max + 5000):
        answer = ask(client, sql.format(n=n), max_rows=rows_max, headers={"Accept": PARQUET})
        assert answer.status == 200, answer
        assert answer.headers["x-row-count"] == str(rows_max)
        assert answer.headers["x-truncated"] == ("true" if n > rows_max else "false")
        key = f"datasets/{name}/{n}.parquet"
        assert client.request("PUT", f"/v1/storage/put/{key}", answer.body).status == 200
        made = client.post("/v1/catalog/register", {
            "name": name, "fingerprint": key, "mode": "replace",
            "objects": [{"key": key, "size": len(answer.body)}]})
        assert made.status == 201, made
        start = n - rows_max if is_descending else 0
        assert rows(client, f"SELECT min(i), max(i), count(*) FROM {name}") == [
            [start, start + rows_max - 1, rows_max]]


@pytest.mark.parametrize("sql, status, text", [
    ("SELECT nope FROM range(3)", 400, "byte 7"),
    ("SELECT 1) TO '/tmp/x' (FORMAT csv); --", 400, ""),
    ("COPY (SELECT 1) TO '/tmp/x'", 400, "only one SELECT"),
    ("SELECT hash(x * 10000 + i) FROM range(10000) a(x), range(10000) b(i)", 400, "longer than"),
    ("SELECT * FROM nothing", 404, "nothing"),
])  # fmt: skip
def test_mistakes_of_parquet_answers(server, client, sql, status, text):
    answer = ask(client, sql, headers={"Accept": PARQUET}, max_bytes=1 << 20)
    assert answer.status == status and text in answer.json["error"]["message"], answer
    assert not [file for file in cached(server) if "partial" in file.name]


def test_statistics_come_as_headers_or_trailers(server, client):
    small = ask(client, "SELECT 1", headers={"Accept": "text/csv"})
    assert small.headers["x-row-count"] == "1" and small.headers["x-truncated"] == "false"
    assert {"x-bytes-read", "x-elapsed-ms", "x-cpu-ms"} <= set(small.headers)
    raw = server.connect()
    body = b'{"sql": "SELECT i FROM range(200000) t(i)", "max_rows": 150000}'
    raw.send(b"POST /v1/sql HTTP/1.1\r\nHost: x\r\nAccept: text/csv\r\nTE: trailers\r\n"
             b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    answer = raw.answer()
    raw.close()
    assert answer.headers["trailer"].startswith("X-Row-Count, X-Truncated")
    assert answer.body.count(b"\n") == 150001
    assert raw.trailers["x-row-count"] == "150000" and raw.trailers["x-truncated"] == "true"


def test_bytes_read_are_counted(client, name):
    thing = register(client, name, "SELECT hash(i) AS h FROM range(100000) t(i)")
    statistics = ask(client, f"SELECT bit_xor(h) FROM {name}").json["statistics"]
    assert 0.5 * thing["size"] < statistics["bytes_read"] < 3 * thing["size"]


# ---- tokens ----

ALL, SOME = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def test_a_limited_token_reads_its_datasets_alone(start, tmp_path):
    secrets = secrets_file(tmp_path / "secrets.toml", token("all", ALL, "admin"),
                           token("some", SOME, "read", prefixes=["datasets/mine"]))
    server = Server(f"vectord.data_dir={tmp_path}/data", f"storaged.root={tmp_path}/objects",
                    secrets)
    some = bearer(SOME)

    class Everything(Client):
        def request(self, method, path, body=None, headers=None, **options):
            return super().request(method, path, body, {**bearer(ALL), **(headers or {})},
                                   **options)

    with server, Everything(server.port) as client:
        if ask(client, "SELECT 1").status == 501:
            pytest.skip("built without DuckDB")
        wait_until(lambda: client.get("/v1/sql/tables").status == 200)
        register(client, "mine", "SELECT 1 AS a")
        register(client, "theirs", "SELECT 2 AS a")
        for _ in range(4):
            assert rows(client, "SELECT a FROM theirs") == [[2]]
            assert ask(client, "SELECT a FROM mine", headers=some).json["rows"] == [[1]]
            assert ask(client, "SELECT a FROM theirs", headers=some).status == 403
            assert ask(client, 'SELECT a FROM "theirs@1"', headers=some).status == 403
        listed = client.request("GET", "/v1/sql/tables", headers=some).json["tables"]
        assert [table["name"] for table in listed] == ["mine"]
        assert client.request("GET", "/v1/sql/tables/theirs", headers=some).status == 404


# ---- in processes of their own ----


def test_a_query_service_of_its_own(start, name):
    lake = start()
    query = start(f"queryd.catalogd_url=http://127.0.0.1:{lake.ports['catalogd']}",
                  f"queryd.storaged_url=http://127.0.0.1:{lake.ports['storaged']}",
                  "queryd.refresh_every=1s", "gateway.bind=none", "vectord.bind=none",
                  "storaged.bind=none", "catalogd.bind=none", "ingestd.bind=none",
                  binds=("queryd",))
    with lake.client() as client, Client(query.ports["queryd"]) as far:
        register(client, name, "SELECT 1 AS v")
        assert rows(far, f"SELECT v FROM {name}") == [[1]]
        register(client, name, "SELECT 2 AS v")
        wait_until(lambda: rows(far, f"SELECT v FROM {name}") == [[2]])
        assert rows(far, f'SELECT v FROM "{name}@1"') == [[1]]
        assert error(far, "SELECT * FROM nothing")[0] == 404
        assert [t["name"] for t in far.get("/v1/sql/tables").json["tables"]] == [name]
    lake.end()
    with Client(query.ports["queryd"]) as far:
        time.sleep(1.2)
        status, message = error(far, "SELECT * FROM elsewhere")
        assert status in (502, 503), (status, message)
        assert rows(far, "SELECT 1") == [[1]]
