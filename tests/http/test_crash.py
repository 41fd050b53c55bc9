"""What was acknowledged is there: kill -9 and SIGTERM under load, disks that are full, read-only or
not ours, files of older and damaged kinds, and what is answered while all comes back."""

import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import stat
import subprocess
import tempfile
import threading
import time

import pytest

from lakehouse_server import (
    MS_RDONLY, MS_REMOUNT, SERVICES, Client, Server, mount, seeded, unmount, wait_until,
)

DIMENSION = 8
CLIENTS = 8
SHARED = ("shared-0", "shared-1")
GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "lhv1-go"

# Small enough that segments end and checkpoints run all the time.
SMALL = ("vectord.checkpoint_bytes=64KiB", "vectord.log_segment_bytes=64KiB")

GONE = (OSError, http.client.HTTPException)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="lakehoused-") as path:
        yield path


def start(folder, *sets, ready=True, **kw):
    server = Server(f"vectord.data_dir={folder}", *sets, **kw)
    if ready:
        wait_ready(server)
    return server


def wait_ready(server):
    with server.client() as client:
        wait_until(lambda: client.get("/readyz").status == 200)


def vector_of(number, version):
    return [float(number % 977), float(number // 977), float(version), 1.0, 0.0, 0.0, 0.0, 2.0]


def item_of(item_id, number, version):
    return {"id": item_id, "vector": vector_of(number, version), "metadata": {"v": version}}


# ---- a model of what was acknowledged ----


class Worker:
    """One client with ids of its own: what it was told, and the one change it was not told about."""

    def __init__(self, number, rng):
        self.number = number
        self.rng = rng
        self.items = {name: {} for name in SHARED}  # id -> version
        self.own = None  # items of an index of its own; None: there is none
        self.own_name = f"own-{number}"
        self.pending = None  # (index, {id: version or None}) or (own index, "create" or "drop")
        self.version = 0
        self.acknowledged = 0
        self.wrong = None

    def run(self, port, stopped):
        client = Client(port, timeout=30)
        try:
            while not stopped.is_set():
                self.step(client)
        except GONE:
            pass  # the server has gone: what is pending stays so
        except BaseException as failure:  # noqa: BLE001: told by the test
            self.wrong = failure
        finally:
            client.close()

    def step(self, client):
        draw = self.rng.random()
        if draw < 0.08:
            self.change_own(client)
        elif draw < 0.11:
            client.post(f"/v1/vectors/index/{self.rng.choice(SHARED)}/checkpoint", b"")
        elif draw < 0.15:
            vector = vector_of(self.rng.randrange(300), self.version)
            answer = client.index(SHARED[0]).try_search(vector=vector, k=3)
            assert answer.status == 200, answer
        else:
            self.change_items(client)

    def change_own(self, client):
        self.pending = (self.own_name, "create" if self.own is None else "drop")
        if self.own is None:
            body = {"name": self.own_name, "dimension": DIMENSION, "distance": "euclidean"}
            answer = client.post("/v1/vectors/index", body)
            assert answer.status == 201, (answer.status, answer.body)
            self.own = {}
        else:
            answer = client.delete(f"/v1/vectors/index/{self.own_name}")
            assert answer.status == 204, (answer.status, answer.body)
            self.own = None
        self.acknowledge()

    def change_items(self, client):
        name = self.rng.choice(SHARED)
        if self.own is not None and self.rng.random() < 0.3:
            name = self.own_name
        items = self.own if name == self.own_name else self.items[name]
        count = 1 if self.rng.random() < 0.5 else self.rng.randrange(2, 40)
        numbers = [self.rng.randrange(300) for _ in range(count)]
        index = client.index(name)
        weaker = "?durability=interval" if self.rng.random() < 0.3 else ""
        if self.rng.random() < 0.25:
            changes = {self.id_of(number): None for number in numbers}
            self.pending = (name, changes)
            answer = client.post(f"{index.path}/delete{weaker}", {"ids": list(changes)})
        else:
            self.version += 1
            changes = {self.id_of(number): self.version for number in numbers}
            self.pending = (name, changes)
            body = [item_of(self.id_of(number), number, self.version) for number in numbers]
            answer = client.post(f"{index.path}/add{weaker}", {"items": body})
        assert answer.status == 200, (answer.status, answer.body)
        apply(items, changes)
        self.acknowledge()

    def acknowledge(self):
        self.pending = None
        self.acknowledged += 1

    def id_of(self, number):
        return f"c{self.number}-{number}"

    # ---- afterwards ----

    def check(self, found):
        """`found`: of each index that is there, id -> version. What is pending is settled."""
        name, changes = self.pending or (None, None)
        self.pending = None
        if changes in ("create", "drop"):
            assert name not in found or changes == "drop" or found[name] == {}
            whole = self.own if changes == "drop" else {}
            self.own = whole if name in found else None
        elif changes is not None:
            old = self.own if name == self.own_name else self.items[name]
            new = dict(old)
            apply(new, changes)
            there = self.mine(found[name])
            assert there in (old, new), self.difference(name, there, new)
            old.clear()
            old.update(there)
        for shared in SHARED:
            there = self.mine(found[shared])
            assert there == self.items[shared], self.difference(shared, there, self.items[shared])
        assert (self.own_name in found) == (self.own is not None), self.own_name
        if self.own is not None:
            assert found[self.own_name] == self.own

    def mine(self, items):
        return {key: value for key, value in items.items() if key.startswith(f"c{self.number}-")}

    def difference(self, name, there, wanted):
        keys = [key for key in {*there, *wanted} if there.get(key) != wanted.get(key)]
        return name, [(key, there.get(key), wanted.get(key)) for key in keys[:5]]


def apply(items, changes):
    for key, version in changes.items():
        if version is None:
            items.pop(key, None)
        else:
            items[key] = version


def contents(client):
    """Of each index, id -> version, by pages; vectors and metadata must agree."""
    found = {}
    listed = client.get("/v1/vectors/index").json["indexes"]
    for info in listed:
        assert info["state"] == "ready", info
        items = {}
        for item in client.index(info["name"]).pages(limit=1000, with_vector="true"):
            version = item["metadata"]["v"]
            number = int(item["id"].split("-")[1])
            assert item["vector"] == vector_of(number, version), item
            assert item["id"] not in items, "paged twice"
            items[item["id"]] = version
        assert len(items) == info["count"], info
        found[info["name"]] = items
    return found


def check_by_hand(client, found, rng):
    """Some items by id and by search, too."""
    for name, items in found.items():
        for item_id in rng.sample(sorted(items), min(5, len(items))):
            answer = client.index(name).get(item_id)
            assert answer.status == 200 and answer.json["metadata"] == {"v": items[item_id]}
            hits = client.index(name).search(answer.json["vector"], k=1)
            assert hits[0]["distance"] < 1e-6, (item_id, hits)


def load(server, workers, seconds, end):
    """Ends the server once they have been told of some changes, and `seconds` later."""
    stopped = threading.Event()
    threads = [
        threading.Thread(target=worker.run, args=(server.port, stopped)) for worker in workers
    ]
    for thread in threads:
        thread.start()
    enough = sum(worker.acknowledged for worker in workers) + 20
    wait_until(lambda: sum(worker.acknowledged for worker in workers) > enough
               or any(worker.wrong for worker in workers))
    time.sleep(seconds)
    end()
    stopped.set()
    for thread in threads:
        thread.join()
    for worker in workers:
        assert worker.wrong is None, repr(worker.wrong)


def check_workers(server, workers, rng):
    with server.client() as client:
        found = contents(client)
        for worker in workers:
            worker.check(found)
        check_by_hand(client, found, rng)


def make_shared(server):
    with server.client() as client:
        for name in SHARED:
            client.create(name, DIMENSION, distance="euclidean", m=8, ef_construction=40)


# ---- kill and stop ----


@pytest.mark.parametrize("io, kills", [("auto", 10), ("blocking", 4)])
def test_kill_under_load_loses_nothing_acknowledged(folder, io, kills):
    rng = seeded("kill under load")
    workers = [Worker(number, rng) for number in range(CLIENTS)]
    with start(folder, f"server.io={io}", *SMALL) as server:
        make_shared(server)
    for kill in range(kills):
        shards = f"vectord.shards={1 + kill % 3}"
        server = start(folder, f"server.io={io}", shards, *SMALL)
        try:
            check_workers(server, workers, rng)
            load(server, workers, 0.2 + rng.random(), server.kill)
        finally:
            server.kill()
    assert sum(worker.acknowledged for worker in workers) > 20 * kills
    with start(folder, f"server.io={io}") as server:
        check_workers(server, workers, rng)


def test_stop_under_load_writes_everything_to_files(folder):
    rng = seeded("stop under load")
    workers = [Worker(number, rng) for number in range(CLIENTS)]
    for stop in range(3):
        server = start(folder, *SMALL)
        try:
            if stop == 0:
                make_shared(server)
            load(server, workers, 0.5, server.stop)
        finally:
            server.kill()
        with start(folder) as again:
            check_workers(again, workers, rng)
            with again.client() as client:
                for info in client.get("/v1/vectors/index").json["indexes"]:
                    assert info["checkpoint_lsn"] == info["lsn"], info
                progress = client.get("/readyz").json
                assert progress["log_replayed"] == progress["log_records"], progress


# ---- disks that are full, or read-only ----

@pytest.fixture
def small_disk(folder):
    mount(folder, "size=3m")
    yield folder
    unmount(folder)


def add_until_refused(index, items):
    """Adds until a 507; every item that was acknowledged is in `items`."""
    for batch in range(4000):
        numbers = range(batch * 50, batch * 50 + 50)
        answer = index.try_add([item_of(f"c0-{number}", number, 1) for number in numbers])
        if answer.status != 200:
            return answer
        items.update((f"c0-{number}", 1) for number in numbers)
    raise AssertionError("the disk was never full")


def fill_up(index, items):
    """Takes what room there is left for smaller changes: single adds, then deletes, which are the
    smallest."""
    for number in range(90000, 91000):
        if index.try_add([item_of(f"c0-{number}", number, 1)]).status != 200:
            break
        items[f"c0-{number}"] = 1
    for item_id in list(items)[-1000:]:
        answer = index.delete(item_id)
        if answer.status != 204:
            return answer
        del items[item_id]
    raise AssertionError("the disk was never full to the last byte")


def check_refusing(server, client, items, answer, status, code):
    """A refused change was not made; searches go on, all the others too."""
    assert (answer.status, answer.code) == (status, code), (answer.status, answer.body)
    assert contents(client)["a"] == items
    for item_id in list(items)[:20]:
        assert client.index("a").get(item_id).status == 200
    assert client.index("a").delete(next(iter(items))).status == status
    assert client.post("/v1/vectors/index", {"name": "b", "dimension": 4}).status == status
    assert client.get("/v1/vectors/index").json["count"] == 1
    assert client.post("/v1/vectors/index/a/checkpoint", b"").status == status
    hits = client.index("a").search(vector_of(3, 1), k=1)
    assert hits[0]["id"] == "c0-3"
    assert contents(client)["a"] == items


def check_working(client, items):
    """Without a new start: the disk is tried again five times a second."""
    wait_until(lambda: client.index("a").try_add([item_of("c0-1", 1, 2)]).status == 200, 20)
    items["c0-1"] = 2
    assert client.index("a").delete("c0-2").status == 204
    del items["c0-2"]
    assert client.post("/v1/vectors/index/a/checkpoint", b"").status == 200
    assert contents(client)["a"] == items


def check_after_kill(server, folder, items, *sets):
    server.kill()
    with start(folder, *sets) as server, server.client() as client:
        assert contents(client)["a"] == items


@pytest.mark.parametrize("io", ["auto", "blocking"])
def test_a_full_disk_refuses_changes_until_there_is_space(small_disk, io):
    sets = (f"server.io={io}", *SMALL)
    server = start(small_disk, *sets)
    try:
        items = {}
        with server.client() as client:
            index = client.create("a", DIMENSION, distance="euclidean", m=4, ef_construction=20)
            assert add_until_refused(index, items).status == 507
            answer = fill_up(index, items)
            check_refusing(server, client, items, answer, 507, "no_space")
            mount(small_disk, "size=64m", MS_REMOUNT)
            check_working(client, items)
        check_after_kill(server, small_disk, items, *sets)
    finally:
        server.kill()


@pytest.mark.parametrize("io", ["auto", "blocking"])
def test_a_disk_smaller_than_a_segment_takes_what_fits(small_disk, io):
    sets = f"server.io={io}", "vectord.log_segment_bytes=64MiB"
    server = start(small_disk, *sets)
    try:
        items = {}
        with server.client() as client:
            index = client.create("a", DIMENSION, distance="euclidean", m=4, ef_construction=20)
            answer = add_until_refused(index, items)
            assert (answer.status, answer.code) == (507, "no_space")
            assert len(items) * 32 > 1 << 20  # vectors alone: the log has most of the 3 MiB
            large = [item_of(f"c1-{number}", number, 1) for number in range(2000)]
            for number in range(20):  # one that is too large leaves room for a smaller one
                assert index.try_add(large).status == 507
                if index.try_add([item_of(f"c2-{number}", number, 1)]).status != 200:
                    break
                items[f"c2-{number}"] = 1
            assert number > 2
            assert fill_up(index, items).status == 507
            assert contents(client)["a"] == items
        server.kill()
        server = start(small_disk, *sets)  # without a byte to spare
        with server.client() as client:
            assert contents(client)["a"] == items
            assert client.index("a").delete("c0-9").status == 507
            mount(small_disk, "size=64m", MS_REMOUNT)
            check_working(client, items)
        check_after_kill(server, small_disk, items, *sets)
    finally:
        server.kill()


def test_a_read_only_disk_refuses_changes_until_it_is_writable(small_disk):
    server = start(small_disk, *SMALL)
    try:
        with server.client() as client:
            index = client.create("a", DIMENSION, distance="euclidean")
            items = {f"c0-{number}": 1 for number in range(100)}
            index.add([item_of(f"c0-{number}", number, 1) for number in range(100)])
            # The server's open files keep a mount writable: files that cannot grow stand for it.
            old = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, -1))
            answer = index.try_add([item_of("c0-5", 5, 9)])
            assert answer.status in (503, 507), answer.status
            check_refusing(server, client, items, answer, answer.status, answer.code)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, old)
            check_working(client, items)
        check_after_kill(server, small_disk, items, *SMALL)
        server = start(small_disk, *SMALL)
        server.stop()
        mount(small_disk, "size=3m", MS_REMOUNT | MS_RDONLY)
        code, said = start_that_fails(small_disk)
        assert code == 1 and "read-only file system" in said, said
    finally:
        server.kill()


# ---- folders that cannot be used ----


def start_that_fails(folder, prepare=None):
    done = subprocess.run(
        [os.environ["LAKEHOUSED"], "--set", f"vectord.data_dir={folder}",
         *(word for name in SERVICES for word in ("--set", f"{name}.bind=127.0.0.1:0"))],
        capture_output=True, timeout=60, preexec_fn=prepare,
    )  # fmt: skip
    return done.returncode, done.stderr.decode()


def test_a_second_server_on_the_folder_is_refused(folder):
    with start(folder) as server:
        code, said = start_that_fails(folder)
        assert code == 1 and folder in said and str(server.process.pid) in said, said
        with server.client() as client:
            client.create("a", 4)
    with start(folder) as server, server.client() as client:
        assert client.index("a").info()["state"] == "ready"


def test_a_folder_without_permission_is_refused(folder):
    os.mkdir(folder + "/data", 0o700)
    os.chmod(folder, 0o755)

    def as_nobody():
        os.setgid(65534)
        os.setuid(65534)

    if os.getuid() != 0:
        os.chmod(folder + "/data", 0)
        as_nobody = None  # noqa: F811
    code, said = start_that_fails(folder + "/data", as_nobody)
    assert code == 1 and "no permission" in said and folder in said, said
    os.chmod(folder + "/data", stat.S_IRWXU)


@pytest.mark.parametrize("path", ["data", "data/_vectors", "data/wal"])
def test_a_file_where_a_folder_should_be_is_refused(folder, path):
    where = pathlib.Path(folder, path)
    where.parent.mkdir(exist_ok=True)
    where.write_text("mine")
    code, said = start_that_fails(folder + "/data")
    assert code == 1 and ("not a folder" in said or "Not a directory" in said), said
    assert where.read_text() == "mine"


# ---- while it comes back ----


def test_an_index_is_served_as_soon_as_it_is_there(folder):
    rng = seeded("coming back")
    server = start(folder, "vectord.shards=1")
    try:
        with server.client() as client:
            client.create("small", DIMENSION).add([item_of("c0-1", 1, 1)])
            assert client.post("/v1/vectors/index/small/checkpoint", b"").status == 200
            large = client.create("large", 64, ef_construction=1200)
            for batch in range(20):  # no two alike: equal vectors take no time
                rows = [[rng.gauss(0, 1) for _ in range(64)] for _ in range(500)]
                large.add([{"id": f"{batch}-{i}", "vector": row} for i, row in enumerate(rows)])
    finally:
        server.kill()
    with start(folder, "vectord.shards=1", ready=False) as server, server.client() as client:
        wait_until(lambda: client.get("/readyz").json["log_records"] > 0)  # it has been opened
        progress = client.get("/readyz")
        assert progress.status == 503 and progress.headers["retry-after"] == "1", progress.body
        assert progress.json["status"] == "loading" and progress.json["log_records"] == 23
        answer = client.index("large").get("0-0")
        assert (answer.status, answer.code) == (503, "index_loading"), answer.body
        assert "retry-after" in answer.headers
        # A name that is not known may be in the log.
        assert client.post("/v1/vectors/index", {"name": "new", "dimension": 4}).status == 503
        assert client.index("small").get("c0-1").status == 200
        client.index("small").add([item_of("c0-2", 2, 1)])
        assert client.get("/readyz").status == 503, "too quick to see anything"
        seen = set()

        def is_ready():
            answer = client.get("/readyz")
            seen.add((answer.json["loading"], answer.json["log_replayed"]))
            return answer.status == 200

        wait_until(is_ready)
        assert len(seen) > 1 and {0, 1} == {loading for loading, _ in seen}, seen
        assert client.index("large").info()["count"] == 10000
    with start(folder) as server, server.client() as client:
        assert client.index("small").info()["count"] == 2


def test_durability_is_at_most_what_is_configured(folder):
    with start(folder, "vectord.durability=interval") as server, server.client() as client:
        client.create("a", DIMENSION)
        for name, status in (("none", 200), ("interval", 200), ("commit", 400), ("", 400)):
            body = {"items": [item_of("c0-1", 1, 1)]}
            answer = client.post(f"/v1/vectors/index/a/add?durability={name}", body)
            assert answer.status == status, answer.body
            if status == 400:
                assert "durability" in answer.message
        answer = client.post("/v1/vectors/index/a/delete?durability=never", {"ids": ["x"]})
        assert answer.status == 400 and "never" in answer.message
        answer = client.delete("/v1/vectors/index/a/items/c0-1?durability=none")
        assert answer.status == 204


# ---- files of other kinds ----


def test_a_rotten_file_costs_its_own_index_only(folder):
    with start(folder) as server, server.client() as client:
        for name in ("a", "b"):
            client.create(name, DIMENSION).add([item_of(f"c0-{i}", i, 1) for i in range(200)])
    # What the log still has of an index brings it back: only without it the file is all there is.
    with start(folder) as server:
        time.sleep(0.5)
    shutil.rmtree(folder + "/wal")
    path = pathlib.Path(folder, "_vectors", "a.lhv1")
    data = bytearray(path.read_bytes())
    at = next(at for at in range(len(data) // 3, len(data)) if data[at] != 0)  # no padding
    data[at] ^= 0x40
    path.write_bytes(data)
    with start(folder) as server, server.client() as client:
        info = client.index("a").info()
        assert info["state"] == "failed" and "checksum" in info["reason"], info
        kept = [name for name in os.listdir(folder + "/_vectors") if "corrupt" in name]
        assert len(kept) == 1 and re.fullmatch(r"a\.lhv1\.corrupt-\d+", kept[0]), kept
        assert pathlib.Path(folder, "_vectors", kept[0]).read_bytes() == data
        answer = client.index("a").get("c0-1")
        assert (answer.status, answer.code) == (503, "index_failed"), answer.body
        assert len(contents_of(client, "b")) == 200
        assert client.get("/readyz").json["failed"] == 1
    with start(folder) as server, server.client() as client:
        assert client.index("a").info()["state"] == "failed"
        assert client.index("a").drop().status == 204
        wait_until(lambda: client.get("/readyz").json["failed"] == 0)
        assert not [name for name in os.listdir(folder + "/_vectors") if "corrupt" in name]
        client.create("a", DIMENSION).add([item_of("c0-7", 7, 1)])
        server.kill()
    with start(folder) as server, server.client() as client:
        assert contents_of(client, "a") == {"c0-7"}


def contents_of(client, name):
    return {item["id"] for item in client.index(name).pages(limit=1000)}


def test_version_1_files_become_version_2(folder):
    vectors = pathlib.Path(folder, "_vectors")
    vectors.mkdir()
    wanted = {}
    for path in GOLDEN.glob("*.lhv1"):
        shutil.copy(path, vectors)
        items = json.loads(path.with_name(path.name + ".items.json").read_text())
        items = items["items"] if isinstance(items, dict) else items
        wanted[path.stem] = {item["id"] for item in items}
    name = "go_cosine_300x16"
    server = start(folder)
    try:
        with server.client() as client:
            for index, ids in wanted.items():
                assert contents_of(client, index) == ids, index
            gone = sorted(wanted[name])[0]
            assert client.index(name).delete(gone).status == 204
            client.index(name).add([{"id": "new", "vector": [1.0] + [0.5] * 15}])
            wanted[name] = wanted[name] - {gone} | {"new"}
    finally:
        server.kill()
    with start(folder) as server, server.client() as client:
        for index, ids in wanted.items():
            assert contents_of(client, index) == ids, index
    assert not [path for path in os.listdir(vectors) if path.endswith(".v1")]
    for index in wanted:
        assert b'"version":2' in (vectors / f"{index}.lhv1").read_bytes()[:64], index
    with start(folder) as server, server.client() as client:
        for index, ids in wanted.items():
            assert contents_of(client, index) == ids, index
