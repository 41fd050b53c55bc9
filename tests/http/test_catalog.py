"""The catalog over HTTP: datasets by name, fingerprint and version; what stays when the store, the
disk or the process goes; several catalogs and many clients at once."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest
import s3_store
from lakehouse_server import (
    Client, Server, free_port, in_parallel, mount, seeded, unmount, wait_until
)
from tokens import secrets_file, token

SCHEMA = [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"}]


def is_built():
    """Whether this build has DuckDB, without which these routes answer 501."""
    with Server(binds=("gateway", "vectord", "queryd")) as server, server.client() as client:
        return client.get("/v1/sql?q=SELECT%201").status != 501


@pytest.fixture(scope="module", autouse=True)
def duckdb():
    if not is_built():
        pytest.skip("built without DuckDB")


class Catalog:
    """A client of a catalog and of the object store that it is in."""

    def __init__(self, port, store_port=None, token=None):
        self.client = Client(port)
        self.store = Client(store_port or port)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.close()
        self.store.close()

    def put(self, key, body=b"12345"):
        path = "/v1/storage/put/" + urllib.parse.quote(key)
        answer = self.store.request("PUT", path, body, headers=self.headers)
        assert answer.status == 200, answer
        return {"key": key, "size": len(body)}

    def has(self, key):
        path = "/v1/storage/get/" + urllib.parse.quote(key)
        return self.store.request("HEAD", path).status == 200

    def keys(self, prefix):
        found, cursor = [], ""
        while cursor is not None:
            page = self.store.get("/v1/storage/list?" + urllib.parse.urlencode(
                {"prefix": prefix, "cursor": cursor})).json
            found += [entry["Key"] for entry in page["objects"]]
            cursor = page.get("next_cursor")
        return found

    def try_register(self, name, fingerprint, *objects, **fields):
        body = {"name": name, "fingerprint": fingerprint, "objects": list(objects), **fields}
        return self.client.post("/v1/catalog/register", body, headers=self.headers)

    def register(self, name, fingerprint, *objects, status=201, **fields):
        answer = self.try_register(name, fingerprint, *objects, **fields)
        assert answer.status == status, answer
        return answer.json

    def try_get(self, name, **query):
        path = f"/v1/catalog/manifest/{name}?" + urllib.parse.urlencode(query)
        return self.client.get(path, headers=self.headers)

    def get(self, name, **query):
        answer = self.try_get(name, **query)
        assert answer.status == 200, answer
        return answer.json

    def delete(self, name, **query):
        path = f"/v1/catalog/manifest/{name}?" + urllib.parse.urlencode(query)
        return self.client.delete(path, headers=self.headers)

    def page(self, **query):
        answer = self.client.get("/v1/catalog/list?" + urllib.parse.urlencode(query),
                                 headers=self.headers)
        assert answer.status == 200, answer
        return answer.json

    def names(self, **query):
        found, cursor = [], {}
        while True:
            page = self.page(**query, **cursor)
            found += [dataset["name"] for dataset in page["datasets"]]
            if "next_cursor" not in page:
                return found
            cursor = {"cursor": page["next_cursor"]}

    def info(self, name):
        return next(d for d in self.page(prefix=name, limit=1)["datasets"] if d["name"] == name)


class Host:
    """One process with object store and catalog, started again on the same files."""

    def __init__(self, root, *sets, **kw):
        self.arguments = (f"storaged.root={root}", *sets)
        self.options = kw
        self.root = pathlib.Path(root)
        self.start()

    def start(self):
        self.server = Server(*self.arguments, **self.options)
        self.catalog = Catalog(self.server.port)
        self.server.wait_for_catalog()

    def restart(self, is_killed=False):
        self.catalog.__exit__()
        if is_killed:
            self.server.kill()
        self.server.__exit__(None)
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.catalog.__exit__()
        self.server.__exit__(*exc)


@pytest.fixture
def host(tmp_path):
    with Host(tmp_path / "root") as made:
        yield made


@pytest.fixture
def catalog(host):
    return host.catalog


# ---- the contract ----


def test_a_dataset_is_registered_once(catalog):
    objects = [catalog.put("datasets/workers_500k/a"), catalog.put("datasets/workers_500k/b", b"")]
    made = catalog.register("workers_500k", "f1", *objects, schema=SCHEMA, row_count=7)
    assert made["dataset_id"] == "d380f6b5-dd01-5e97-8b03-e59971ef85bb"
    assert (made["name"], made["fingerprint"], made["version"]) == ("workers_500k", "f1", 1)
    assert (made["objects"], made["schema"], made["row_count"]) == (objects, SCHEMA, 7)
    assert catalog.get("workers_500k") == made
    assert catalog.get("workers_500k", version=1) == made
    assert catalog.register("workers_500k", "f1", *objects, status=200) == made
    answer = catalog.try_register("workers_500k", "f2", *objects)
    assert (answer.status, answer.code) == (409, "fingerprint_conflict")
    assert "f1" in answer.message
    assert catalog.get("workers_500k") == made


def test_an_id_is_the_names(catalog):
    made = catalog.register("demo", "f", catalog.put("x"))
    assert made["dataset_id"] == "679e0307-be5f-5828-a0e7-9afab4462864"
    assert "schema" not in made and "row_count" not in made


def test_what_is_not_there_is_not_found(catalog):
    for name in ("nobody", "..", "a%2Fb", "%ff", "x" * 129):
        answer = catalog.try_get(name)
        assert (answer.status, answer.code) in ((404, "dataset_not_found"), (404, "not_found"))
        answer = catalog.delete(name)
        assert (answer.status, answer.code) in ((404, "dataset_not_found"), (404, "not_found"))
    catalog.register("a", "f", catalog.put("x"))
    answer = catalog.try_get("a", version=2)
    assert (answer.status, answer.code) == (404, "version_not_found")
    for version in ("0", "x", "-1", "1.0", "", "18446744073709551616"):
        answer = catalog.try_get("a", version=version)
        assert (answer.status, answer.code) == (400, "invalid_argument"), version
        assert "version" in answer.message


@pytest.mark.parametrize("change,place", [
    ({"name": "a b"}, "name"),
    ({"name": None}, "name"),
    ({"fingerprint": ""}, "fingerprint"),
    ({"fingerprint": "x" * 129}, "fingerprint"),
    ({"objects": []}, "objects"),
    ({"objects": {}}, "objects"),
    ({"objects": [{"key": "x", "size": 5}] * 2}, "objects[1].key"),
    ({"objects": [{"key": "/x", "size": 5}]}, "objects[0].key"),
    ({"objects": [{"key": "x", "size": "5"}]}, "objects[0].size"),
    ({"objects": [{"key": "x", "size": 5, "etag": "e"}]}, "objects[0].etag"),
    ({"objects": [{"key": "x", "size": 5}] * 10001}, "objects"),
    ({"schema": []}, "schema"),
    ({"schema": [{"name": "a", "type": "INT"}, {"name": "a"}]}, "schema[1]"),
    ({"row_count": -1}, "row_count"),
    ({"row_count": 1 << 60}, "row_count"),
    ({"mode": "merge"}, "mode"),
    ({"rows": 1}, "rows"),
])
def test_a_wrong_field_is_named(catalog, change, place):
    catalog.put("x")
    body = {"name": "a", "fingerprint": "f", "objects": [{"key": "x", "size": 5}], **change}
    answer = catalog.client.post("/v1/catalog/register", body)
    assert answer.status == 400 and answer.code in ("invalid_argument", "limit_exceeded"), answer
    assert answer.message.startswith(place), answer
    assert catalog.names() == []


def test_a_body_that_is_no_json(catalog):
    for body, code in ((b"{", "invalid_json"), (b"", "invalid_json"), (b"[]", "invalid_argument")):
        answer = catalog.client.post("/v1/catalog/register", body)
        assert (answer.status, answer.code) == (400, code), body
    answer = catalog.client.post("/v1/catalog/register", b"{}", headers={"Content-Type": "text/csv"})
    assert answer.status == 415


def test_objects_must_be_in_the_store(catalog):
    there = catalog.put("a/1")
    answer = catalog.try_register("a", "f", there, {"key": "a/2", "size": 5})
    assert (answer.status, answer.code) == (409, "object_mismatch")
    assert answer.message.startswith("objects[1].key") and "a/2" in answer.message
    answer = catalog.try_register("a", "f", there, {**catalog.put("a/3"), "size": 6})
    assert (answer.status, answer.code) == (409, "object_mismatch")
    assert answer.message.startswith("objects[1].size")
    assert catalog.names() == [] and catalog.keys("_catalog/") == []


def test_versions(catalog):
    first = catalog.register("a", "f1", catalog.put("1"), row_count=1, schema=SCHEMA)
    second = catalog.register("a", "f2", catalog.put("2"), mode="replace", row_count=2)
    third = catalog.register("a", "f3", catalog.put("3"), mode="append", row_count=3)
    assert [v["version"] for v in (first, second, third)] == [1, 2, 3]
    assert {v["dataset_id"] for v in (first, second, third)} == {first["dataset_id"]}
    assert second["objects"] == [{"key": "2", "size": 5}] and "schema" not in second
    assert third["objects"] == [{"key": "2", "size": 5, "fingerprint": "f2"},
                                {"key": "3", "size": 5}]
    assert (third["fingerprint"], third["row_count"]) == ("f3", 5)
    for version in (first, second, third):
        assert catalog.get("a", version=version["version"]) == version
    assert catalog.get("a") == third
    # A fingerprint that is in already changes nothing.
    for fingerprint in ("f2", "f3"):
        assert catalog.register("a", fingerprint, catalog.put("2"), mode="append",
                                status=200) == third
    assert catalog.register("a", "f3", catalog.put("9"), mode="replace", status=200) == third
    assert catalog.info("a")["versions"] == 3
    # Back to what it was is a change.
    assert catalog.register("a", "f1", catalog.put("1"), mode="replace")["version"] == 4


def test_append_keeps_the_schema(catalog):
    catalog.register("a", "f1", catalog.put("1"), schema=SCHEMA)
    other = [SCHEMA[0], {"name": "name", "type": "DATE"}]
    answer = catalog.try_register("a", "f2", catalog.put("2"), schema=other, mode="append")
    assert (answer.status, answer.code) == (409, "schema_conflict")
    assert answer.message.startswith("schema[1]") and "DATE" in answer.message
    answer = catalog.try_register("a", "f2", catalog.put("2"), schema=SCHEMA[:1], mode="append")
    assert (answer.status, answer.code) == (409, "schema_conflict")
    answer = catalog.try_register("a", "f2", catalog.put("1"), schema=SCHEMA, mode="append")
    assert (answer.status, answer.code) == (409, "fingerprint_conflict")
    assert answer.message.startswith("objects[0].key")
    assert catalog.get("a")["version"] == 1
    assert catalog.register("a", "f2", catalog.put("2"), mode="append")["schema"] == SCHEMA


def test_lists_come_by_pages(catalog):
    item = catalog.put("x")
    names = sorted([f"d{i}" for i in range(25)] + ["a.b", "a-b", "a_b", "D1", "z", "d1.x", "d1-x"])
    for name in random.sample(names, len(names)):
        catalog.register(name, "f", item)
    assert catalog.names() == names
    for limit in (1, 2, 7, 32, 33):
        assert catalog.names(limit=limit) == names
    assert catalog.names(prefix="d1", limit=3) == [n for n in names if n.startswith("d1")]
    assert catalog.names(prefix="nothing") == []
    assert catalog.names(prefix="é") == []
    assert "next_cursor" not in catalog.page(limit=len(names))
    # A page goes on where the last ended, whatever has been deleted.
    page = catalog.page(limit=5)
    assert catalog.delete(page["next_cursor"]).status == 204
    rest = catalog.page(cursor=page["next_cursor"], limit=1000)["datasets"]
    assert [d["name"] for d in rest] == names[5:]
    for query in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"cursor": "?"},
                  {"prefix": "x" * 129}):
        path = "/v1/catalog/list?" + urllib.parse.urlencode(query)
        assert catalog.client.get(path).status == 400, query


def test_a_list_says_what_each_is(catalog):
    catalog.register("a", "f", catalog.put("1"), catalog.put("2", b"x" * 100), row_count=3)
    info = catalog.info("a")
    assert info["state"] == "ready" and info["version"] == info["versions"] == 1
    assert (info["objects"], info["size"], info["row_count"]) == (2, 105, 3)
    assert info["dataset_id"] == catalog.get("a")["dataset_id"]


# ---- deleting ----


def test_delete_keeps_the_objects(catalog):
    catalog.register("a", "f1", catalog.put("1"))
    catalog.register("a", "f2", catalog.put("2"), mode="append")
    answer = catalog.delete("a")
    assert answer.status == 204 and answer.body == b""
    assert catalog.try_get("a").code == "dataset_not_found"
    assert catalog.try_get("a", version=1).code == "dataset_not_found"
    assert catalog.names() == [] and catalog.keys("_catalog/") == []
    assert catalog.has("1") and catalog.has("2")
    assert catalog.delete("a").status == 404
    assert catalog.register("a", "f9", catalog.put("1"))["version"] == 1


def test_purge_deletes_what_nobody_else_names(catalog):
    for key in ("own", "old", "shared", "shared-once", "others"):
        catalog.put(key)
    five = lambda *keys: [{"key": key, "size": 5} for key in keys]  # noqa: E731
    catalog.register("a", "f1", *five("own", "old", "shared", "shared-once"))
    catalog.register("a", "f2", *five("own"), mode="replace")
    catalog.register("b", "f1", *five("shared", "others"))
    catalog.register("c", "f1", *five("shared-once"))
    catalog.register("c", "f2", *five("others"), mode="replace")  # once is enough
    assert catalog.delete("a", purge="true").status == 204
    assert not catalog.has("own") and not catalog.has("old")
    assert all(catalog.has(key) for key in ("shared", "shared-once", "others"))
    assert catalog.keys("_catalog/tombstones/") == []
    assert catalog.delete("b", purge="x").status == 400
    assert catalog.delete("c", purge="true").status == 204
    assert not catalog.has("shared-once") and catalog.has("others")
    assert catalog.delete("b", purge="true").status == 204
    assert not catalog.has("others") and not catalog.has("shared")


# ---- what stays ----


def test_a_restart_changes_nothing(host):
    catalog = host.catalog
    for i in range(5):
        catalog.register(f"d{i}", "f1", catalog.put(f"é {i} 'x'"), schema=SCHEMA, row_count=i)
        catalog.register(f"d{i}", "f2", catalog.put(f"more {i}"), mode="append", row_count=1)
    catalog.delete("d3")
    before = [catalog.get(name, version=v) for name in catalog.names() for v in (1, 2)]
    for is_killed in (False, True):
        host.restart(is_killed)
        catalog = host.catalog
        assert catalog.names() == ["d0", "d1", "d2", "d4"]
        assert [catalog.get(n, version=v) for n in catalog.names() for v in (1, 2)] == before
        assert catalog.register("d0", "f1", catalog.put("more 0"), mode="append",
                                status=200) == catalog.get("d0")


def test_many_datasets_are_read_at_start(host):
    count = 600  # some batches
    item = host.catalog.put("x")

    def some(number):
        with Catalog(host.server.port) as client:
            for i in range(number, count, 4):
                client.register(f"d{i:04}", f"f{i}", item, row_count=i)

    in_parallel(*(lambda n=n: some(n) for n in range(4)))
    started = time.monotonic()
    host.restart()
    print(f"{count} datasets: {time.monotonic() - started:.2f} s with the start of the process")
    assert host.catalog.names(limit=1000) == [f"d{i:04}" for i in range(count)]
    for i in range(0, count, 37):
        assert host.catalog.get(f"d{i:04}")["row_count"] == i


def test_kill_in_the_middle_of_registrations(host):
    """What was answered is there; what was not is there or is not, whole."""
    random_ = seeded("kill_in_the_middle_of_registrations")
    answered = {}  # name: what its last answer was
    for loop in range(6):
        stop = threading.Event()

        def work(number):
            name = f"d{number}"
            with Catalog(host.server.port) as client:
                while not stop.is_set():
                    try:
                        key = f"{name}/{random_.random()}"
                        answered[name] = client.register(name, key, client.put(key),
                                                         mode="append", row_count=1)
                    except (OSError, json.JSONDecodeError, AssertionError,
                            __import__("http").client.HTTPException):
                        if not stop.is_set():
                            raise
                        return

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answered) == 4 or not all(t.is_alive() for t in threads))
        time.sleep(0.2 + random_.random() * 0.4)
        stop.set()
        host.server.kill()
        for thread in threads:
            thread.join()
        host.catalog.__exit__()
        host.server.__exit__(None)
        host.start()
        for name, last in answered.items():
            now = host.catalog.get(name)
            assert now["version"] in (last["version"], last["version"] + 1), (name, loop)
            assert len(now["objects"]) == now["row_count"] == now["version"]
            assert [o["key"] for o in now["objects"]][:last["version"]] == \
                [o["key"] for o in last["objects"]]
    assert len(answered) == 4


def test_kill_in_the_middle_of_purges(host):
    """A deletion that was begun is finished at the next start: nothing half is left."""
    random_ = seeded("kill_in_the_middle_of_purges")
    finished = 0
    host.catalog.register("one", "f1", *(host.catalog.put(f"one/{j}") for j in range(6)))
    started = time.monotonic()
    assert host.catalog.delete("one", purge="true").status == 204
    one_s = time.monotonic() - started
    for loop in range(5):
        purged = []
        catalog = host.catalog
        for i in range(12):
            catalog.register(f"d{i}", "f1", *(catalog.put(f"d{i}/{j}") for j in range(5)))
            catalog.register(f"d{i}", "f2", catalog.put(f"d{i}/last"), mode="append")

        def purge():
            with Catalog(host.server.port) as client:
                for i in range(12):
                    try:
                        purged.append(client.delete(f"d{i}", purge="true").status)
                    except (OSError, __import__("http").client.HTTPException):
                        return

        thread = threading.Thread(target=purge)
        thread.start()
        wait_until(lambda: len(purged) >= 2 * loop)
        time.sleep(3 * random_.random() * one_s)
        host.server.kill()
        thread.join()
        assert set(purged) <= {204}
        host.catalog.__exit__()
        host.server.__exit__(None)
        host.start()
        catalog = host.catalog
        there = catalog.names(limit=1000)
        assert catalog.keys("_catalog/tombstones/") == []
        for i in range(12):
            assert f"d{i}" not in there or i >= len(purged), loop
            keys = catalog.keys(f"d{i}/")
            versions = catalog.keys(f"_catalog/manifests/d{i}/")
            assert (len(keys), len(versions)) == ((6, 2) if f"d{i}" in there else (0, 0)), loop
        finished += 12 - len(there)
        for name in there:
            assert catalog.delete(name, purge="true").status == 204
    assert finished > 0


def test_a_deletion_that_was_begun_is_finished_at_start(host):
    catalog = host.catalog
    for name in ("a", "ab", "b"):
        catalog.register(name, "f1", catalog.put(f"{name}/1"))
        catalog.register(name, "f2", catalog.put(f"{name}/2"), mode="append")
    catalog.put("_catalog/tombstones/a.json", json.dumps({"name": "a", "keys": ["a/1"]}).encode())
    catalog.put("_catalog/tombstones/b.json", b"{")  # broken: of its objects nothing is known
    host.restart()
    catalog = host.catalog
    assert catalog.names() == ["ab"] and catalog.get("ab")["version"] == 2
    assert [catalog.has(key) for key in ("a/1", "a/2", "b/1", "ab/1")] == [False, True, True, True]
    assert catalog.keys("_catalog/") == ["_catalog/manifests/ab/1.parquet",
                                         "_catalog/manifests/ab/2.parquet"]


def manifest_file(host, name, version):
    return host.root / "_catalog" / "manifests" / name / f"{version}.parquet"


@pytest.mark.parametrize("damage", ["torn", "zeros", "empty", "another's"])
def test_a_broken_manifest_costs_its_own_version(host, damage):
    catalog = host.catalog
    catalog.register("good", "f1", catalog.put("g"))
    first = catalog.register("bad", "f1", catalog.put("1"))
    catalog.register("bad", "f2", catalog.put("2"), mode="replace")
    file = manifest_file(host, "bad", 2)
    body = file.read_bytes()
    host.catalog.__exit__()
    host.server.end()
    file.write_bytes({"torn": body[:len(body) // 2], "zeros": bytes(len(body)), "empty": b"",
                      "another's": manifest_file(host, "good", 1).read_bytes()}[damage])
    host.start()
    catalog = host.catalog
    answer = catalog.try_get("bad")
    assert (answer.status, answer.code) == (503, "dataset_failed") and "version 2" in answer.message
    info = catalog.info("bad")
    assert info["state"] == "failed" and info["reason"] and info["version"] == 2
    assert catalog.get("bad", version=1) == first
    assert catalog.try_get("bad", version=2).code == "dataset_failed"
    assert catalog.get("good")["version"] == 1 and catalog.info("good")["state"] == "ready"
    # What the other one names cannot be known: a purge does not guess.
    assert catalog.delete("good", purge="true").code == "dataset_failed"
    for mode in ("create", "append"):
        answer = catalog.try_register("bad", "f3", catalog.put("3"), mode=mode)
        assert (answer.status, answer.code) == (503, "dataset_failed")
    assert catalog.register("bad", "f3", catalog.put("3"), mode="replace")["version"] == 3
    assert catalog.info("bad")["state"] == "ready"
    assert catalog.try_get("bad", version=2).code == "dataset_failed"
    host.restart()
    assert host.catalog.get("bad")["version"] == 3


def test_files_of_others_are_left_alone(host):
    catalog = host.catalog
    catalog.register("a", "f", catalog.put("x"))
    others = ["_catalog/readme", "_catalog/manifests/a/x.parquet", "_catalog/manifests/a/01.parquet",
              "_catalog/manifests/b c/1.parquet", "_catalog/manifests/x", "_catalog/tombstones/x"]
    for key in others:
        catalog.put(key)
    host.restart()
    assert host.catalog.names() == ["a"] and host.catalog.get("a")["version"] == 1
    assert all(host.catalog.has(key) for key in others)


# ---- manifests are Parquet ----


def read_parquet(path):
    """By another reader than the one that writes them; skips where that is not installed."""
    folder = pathlib.Path(__file__).resolve().parents[2]
    if shutil.which("node") is None or not (folder / "node_modules" / "hyparquet").is_dir():
        pytest.skip("no hyparquet: tools/setup --test brings it")
    script = """
        import { asyncBufferFromFile, parquetReadObjects, parquetMetadataAsync } from 'hyparquet'
        const file = await asyncBufferFromFile(process.argv[1])
        const metadata = await parquetMetadataAsync(file)
        const rows = await parquetReadObjects({ file })
        console.log(JSON.stringify(
          { schema: metadata.schema.slice(1), rows },
          (key, value) => typeof value === 'bigint' ? Number(value) : value))
    """
    run = subprocess.run(["node", "--input-type=module", "-e", script, "--", str(path)],
                         cwd=folder, capture_output=True, check=True)
    return json.loads(run.stdout)


def test_another_reader_reads_the_manifests(host):
    catalog = host.catalog
    catalog.register("people", "f1", catalog.put("é/1"), schema=SCHEMA, row_count=1)
    made = catalog.register("people", "f2", catalog.put("2", b"x" * 300), mode="append",
                            row_count=2)
    read = read_parquet(manifest_file(host, "people", 2))
    assert [column["name"] for column in read["schema"]] == [
        "dataset_id", "name", "fingerprint", "version", "key", "size", "row_count", "schema_json",
        "created_at"]
    assert [column["type"] for column in read["schema"]] == [
        "BYTE_ARRAY", "BYTE_ARRAY", "BYTE_ARRAY", "INT64", "BYTE_ARRAY", "INT64", "INT64",
        "BYTE_ARRAY", "INT64"]
    created = read["schema"][8]["logical_type"]
    assert created["type"] == "TIMESTAMP" and created["isAdjustedToUTC"]
    common = {"dataset_id": made["dataset_id"], "name": "people", "version": 2, "row_count": 3,
              "created_at": made["created_at"]}
    rows = [{key: value for key, value in row.items() if key != "schema_json"}
            for row in read["rows"]]
    assert rows == [{**common, "fingerprint": "f1", "key": "é/1", "size": 5},
                    {**common, "fingerprint": "f2", "key": "2", "size": 300}]
    assert all(json.loads(row["schema_json"]) == SCHEMA for row in read["rows"])


# ---- failures ----


def fill(path):
    """Takes all that is left of the file system."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_a_full_store_changes_nothing(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    mount(root, "size=2m")
    try:
        with Host(root) as host:
            catalog = host.catalog
            first = catalog.register("a", "f1", catalog.put("1"))
            second = catalog.put("2")
            fill(root / "fill")
            answer = catalog.try_register("a", "f2", second, mode="replace")
            assert (answer.status, answer.code) == (507, "no_space"), answer
            answer = catalog.try_register("b", "f1", second)
            assert (answer.status, answer.code) == (507, "no_space"), answer
            assert catalog.get("a") == first and catalog.names() == ["a"]
            os.unlink(root / "fill")
            assert catalog.register("a", "f2", second, mode="replace")["version"] == 2
            host.restart()
            assert host.catalog.get("a")["version"] == 2
    finally:
        unmount(root)


def test_a_full_work_folder_changes_nothing(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    mount(work, "size=2m")  # a sanitizer may keep a file of half a MiB there
    try:
        with Host(tmp_path / "root", env={"TMPDIR": str(work)}) as host:
            catalog = host.catalog
            first = catalog.register("a", "f1", catalog.put("1"))
            fill(work / "fill")
            answer = catalog.try_register("a", "f2", catalog.put("2"), mode="replace")
            assert (answer.status, answer.code) == (507, "no_space"), answer
            assert catalog.get("a") == first
            os.unlink(work / "fill")
            assert catalog.register("a", "f2", catalog.put("2"), mode="replace")["version"] == 2
            assert [p for p in work.rglob("*.parquet")] == []
    finally:
        unmount(work)


def url(port):
    return f"http://127.0.0.1:{port}"


STORE = ("gateway.bind=none", "vectord.bind=none", "queryd.bind=none", "catalogd.bind=none",
         "ingestd.bind=none")
ALONE = ("gateway.bind=none", "vectord.bind=none", "queryd.bind=none", "storaged.bind=none",
         "ingestd.bind=none")


class Split:
    """The store, the catalog, and a gateway before both, each in a process of its own."""

    def __init__(self, root):
        self.root = root
        self.store_port, self.port = free_port(), free_port()
        self.store = self.start_store()
        self.catalogd = self.start_catalogd(self.port)
        self.gateway = Server(
            "vectord.bind=none", "queryd.bind=none", f"gateway.storaged_url={url(self.store_port)}",
            f"gateway.catalogd_url={url(self.port)}", binds=("gateway",))
        self.catalog = Catalog(self.gateway.port)
        with Client(self.port) as client:  # it has read what is in the store
            wait_until(lambda: client.get("/catalog/list").status == 200)

    def start_catalogd(self, port=0):
        """Its own, or another one beside it on any port."""
        return Server(*ALONE, f"catalogd.storaged_url={url(self.store_port)}",
                      f"catalogd.bind=127.0.0.1:{port}", binds=())

    def start_store(self):
        return Server(*STORE, f"storaged.root={self.root}",
                      f"storaged.bind=127.0.0.1:{self.store_port}", binds=())

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        self.catalog.__exit__()
        for server in (self.gateway, self.catalogd, self.store):
            server.__exit__(kind, *exc)


@pytest.fixture
def split(tmp_path):
    with Split(tmp_path / "root") as made:
        yield made


def test_services_in_processes_of_their_own(split):
    catalog = split.catalog
    made = catalog.register("a", "f1", catalog.put("é/1"), schema=SCHEMA)
    catalog.register("a", "f2", catalog.put("2"), mode="append")
    answer = catalog.try_register("a", "f3", catalog.put("3"))
    assert (answer.status, answer.code) == (409, "fingerprint_conflict")
    answer = catalog.try_register("b", "f3", {"key": "none", "size": 1})
    assert (answer.status, answer.code) == (409, "object_mismatch"), answer
    answer = catalog.try_register("b", "f3", {**catalog.put("3"), "size": 1})
    assert (answer.status, answer.code) == (409, "object_mismatch"), answer
    assert catalog.get("a", version=1) == made and catalog.names() == ["a"]
    with Client(split.port) as client:  # its own port, with /v1 and without
        assert client.get("/v1/catalog/manifest/a").json == catalog.get("a")
        assert client.get("/catalog/manifest/a").json == catalog.get("a")
        assert client.get("/v1/storage/list").status == 404
    split.catalogd.__exit__(None)
    split.catalogd = split.start_catalogd(split.port)
    wait_until(lambda: catalog.try_get("a").status == 200)
    assert catalog.get("a", version=1) == made
    assert catalog.delete("a", purge="true").status == 204
    assert catalog.keys("") == ["3"]  # registered by nobody


def test_a_store_that_is_away(split):
    catalog = split.catalog
    first = catalog.register("a", "f1", catalog.put("1"))
    second = catalog.put("2")
    split.store.kill()
    answer = catalog.try_register("a", "f2", second, mode="replace")
    assert answer.status in (502, 503), answer
    assert catalog.get("a") == first  # from memory, as before
    assert catalog.delete("a").status in (502, 503)
    assert catalog.get("a") == first
    # One that starts meanwhile does not know yet, and says so.
    with split.start_catalogd() as late:
        with Client(late.ports["catalogd"]) as client:
            answer = client.get("/catalog/manifest/a")
            assert (answer.status, answer.code) == (503, "dataset_loading")
            assert int(answer.headers["retry-after"]) >= 1
            assert client.get("/catalog/list").status == 503
            answer = client.post("/catalog/register", {
                "name": "b", "fingerprint": "f", "objects": [second]})
            assert answer.status == 503
            assert client.get("/healthz").status == client.get("/readyz").status == 200
            wait_until(lambda: "object store failed" in client.get("/catalog/list").message)
            split.store = split.start_store()
            wait_until(lambda: client.get("/catalog/manifest/a").status == 200)
            assert client.get("/catalog/manifest/a").json == first
    wait_until(lambda: catalog.try_register("a", "f2", second, mode="replace").status in (200, 201))
    assert catalog.get("a")["version"] == 2 and catalog.get("a", version=1) == first


def test_two_catalogs_on_one_store(split):
    """They do not overwrite one another: who comes second looks again, and goes on."""
    with split.start_catalogd() as other:
        port = other.ports["catalogd"]
        with Catalog(split.port, split.store_port) as one, Catalog(port, split.store_port) as two:
            wait_until(lambda: two.client.get("/catalog/list").status == 200)
            item = one.put("1")
            one.register("a", "f1", item)
            assert two.try_get("a").status == 404  # it cannot know
            answer = two.try_register("a", "f2", item)
            assert (answer.status, answer.code) == (409, "fingerprint_conflict")
            assert two.register("a", "f1", item, status=200) == one.get("a")
            assert two.register("a", "f2", two.put("2"), mode="append")["version"] == 2
            third = one.register("a", "f3", one.put("3"), mode="append")
            assert third["version"] == 3
            assert [o["key"] for o in third["objects"]] == ["1", "2", "3"]

            def appends(client, label):
                for i in range(10):
                    key = f"{label}{i}"
                    item = client.put(key)
                    while client.try_register("a", key, item, mode="append").status == 503:
                        pass

            in_parallel(lambda: appends(one, "one"), lambda: appends(two, "two"))
            versions = one.keys("_catalog/manifests/a/")
            assert len(versions) == 23
            last = next(c for c in (one, two) if c.get("a")["version"] == 23).get("a")
            assert len({o["key"] for o in last["objects"]}) == 23


def test_on_s3():
    swift = s3_store.Swift()  # skips where it is not installed
    try:
        server = Server(*s3_store.settings(swift.endpoint))
        server.wait_for_catalog()
        with Catalog(server.port) as catalog:
            first = catalog.register("a", "f1", catalog.put("é 1"), schema=SCHEMA)
            second = catalog.register("a", "f2", catalog.put("2"), mode="append")
            catalog.register("b", "f1", catalog.put("3"))
        server.kill()
        server.__exit__(None)
        with Server(*s3_store.settings(swift.endpoint)) as server:
            server.wait_for_catalog()
            with Catalog(server.port) as catalog:
                assert catalog.get("a") == second and catalog.get("a", version=1) == first
                assert catalog.names() == ["a", "b"]
                assert catalog.try_register("a", "f3", {"key": "none", "size": 1},
                                            mode="append").code == "object_mismatch"
                assert catalog.delete("a", purge="true").status == 204
                assert catalog.keys("") == ["3", "_catalog/manifests/b/1.parquet"]
    finally:
        swift.end()


# ---- many at once ----


def test_fifty_clients_and_one_name(host):
    port = host.server.port
    item = host.catalog.put("x")
    statuses = []

    def run(count, action):
        statuses.clear()
        gate = threading.Barrier(count)

        def one(i):
            with Catalog(port) as client:
                gate.wait()
                statuses.append(action(client, i).status)

        in_parallel(*(lambda i=i: one(i) for i in range(count)))
        return sorted(statuses)

    assert run(50, lambda c, i: c.try_register("one", f"f{i}", item)) == [201] + [409] * 49
    assert run(50, lambda c, i: c.try_register("same", "f", item)) == [200] * 49 + [201]
    keys = [host.catalog.put(f"k{i}") for i in range(50)]
    assert run(50, lambda c, i: c.try_register("all", f"f{i}", keys[i], mode="append",
                                               row_count=i)) == [201] * 50
    made = host.catalog.get("all")
    assert made["version"] == 50 and made["row_count"] == sum(range(50))
    assert {o["key"] for o in made["objects"]} == {k["key"] for k in keys}
    assert run(50, lambda c, i: c.delete("all")) == [204] + [404] * 49


# ---- who may do what ----


def test_tokens(tmp_path):
    limits = {"limited": {"prefixes": ["datasets/people", "shared/"]},
              "vectors": {"indexes": ["words"]}}
    secrets = secrets_file(tmp_path / "secrets.toml", *(
        token(name, f"{name}-token-0123456789", *scopes, **limits.get(name, {}))
        for name, *scopes in (("admin", "admin"), ("writer", "read", "write"), ("reader", "read"),
                              ("limited", "admin"), ("vectors", "admin"))))
    with Server(f"storaged.root={tmp_path}/root", secrets) as server:
        def of(name):
            return Catalog(server.port, token=name and f"{name}-token-0123456789")

        with of("admin") as admin, of("writer") as writer, of("reader") as reader, \
                of("limited") as limited, of("vectors") as vectors, of(None) as nobody:
            server.wait_for_catalog()
            item = admin.put("datasets/people/1")
            other = admin.put("datasets/other/1")
            assert nobody.try_register("a", "f", item).status == 401
            assert reader.try_register("a", "f", item).status == 403
            writer.register("other", "f", other)
            assert reader.get("other")["version"] == 1
            assert writer.delete("other").status == 403
            assert limited.register("people", "f", item)["version"] == 1
            answer = limited.try_register("other2", "f", item)
            assert answer.status == 403 and answer.message.startswith("name")
            answer = limited.try_register("people", "f2", item, other, mode="replace")
            assert answer.status == 403 and answer.message.startswith("objects[1].key")
            assert limited.try_get("other").status == 403
            assert limited.names() == ["people"] and admin.names() == ["other", "people"]
            assert vectors.names() == [] and vectors.try_get("people").status == 403
            # A purge would reach what the token does not.
            admin.register("people", "f2", item, other, mode="replace")
            assert limited.delete("people", purge="true").status == 403
            assert admin.get("people")["version"] == 2
            assert limited.delete("people").status == 204


# ---- without what it needs ----


def test_without_a_store_it_says_what_is_missing():
    with Server() as server, server.client() as client:
        for method, path in (("GET", "/v1/catalog/list"), ("GET", "/v1/catalog/manifest/a"),
                             ("DELETE", "/v1/catalog/manifest/a"), ("POST", "/v1/catalog/register")):
            answer = client.request(method, path, b"{}" if method == "POST" else None)
            assert (answer.status, answer.code) == (501, "not_implemented")
            assert "storaged" in answer.message


def test_the_document_has_the_routes(catalog):
    paths = catalog.client.get("/openapi.json").json["paths"]
    for path in ("register", "manifest/{name}", "list"):
        assert f"/v1/catalog/{path}" in paths
    answer = catalog.client.request("OPTIONS", "/v1/catalog/manifest/a")
    assert answer.headers["allow"] == "GET, HEAD, DELETE, OPTIONS"
