"""POST .../reshard: another number of shards while adds, deletes and searches go on, across a kill
too."""

import tempfile
import threading

import pytest

from lakehouse_server import Client, Server, seeded, wait_until

DIMENSION = 16


def vector(rng):
    return [rng.gauss(0, 1) for _ in range(DIMENSION)]


def fill(index, rng, count):
    items = [{"id": f"i{n}", "vector": vector(rng), "metadata": {"n": n}} for n in range(count)]
    for first in range(0, count, 500):
        index.add(items[first:first + 500])
    return {item["id"]: item for item in items}


def reshard(client, name, shards):
    return client.post(f"/v1/vectors/index/{name}/reshard", {"shards": shards})


def check(index, items):
    """Every item is there as it should be, once, and finds itself."""
    assert index.info()["count"] == len(items)
    seen = [item["id"] for item in index.pages(limit=500)]
    assert sorted(seen) == sorted(items)
    for item in list(items.values())[::97]:
        found = index.get(item["id"]).json
        assert found["metadata"] == item["metadata"]
        assert found["vector"] == pytest.approx(item["vector"], abs=1e-6)
        assert index.search(item["vector"], k=1)[0]["id"] == item["id"]


class Changer(threading.Thread):
    """Upserts, with and without metadata, and deletes, until it is told to stop."""

    def __init__(self, port, name, items, rng):
        super().__init__()
        self.client = Client(port)
        self.index = self.client.index(name)
        self.items = items
        self.rng = rng
        self.stopped = threading.Event()
        self.changes = 0
        self.error = None

    def run(self):
        try:
            while not self.stopped.is_set():
                self.step()
                self.changes += 1
        except Exception as error:  # told to the test
            self.error = error

    def step(self):
        item_id = f"i{self.rng.randrange(4000)}"
        if self.rng.random() < 0.3:
            expected = 204 if self.items.pop(item_id, None) else 404
            assert self.index.delete(item_id).status == expected
            return
        item = {"id": item_id, "vector": vector(self.rng)}
        if self.rng.random() < 0.5:
            item["metadata"] = {"c": self.changes}
        self.index.add([item])
        before = self.items.get(item_id, {"metadata": {}})
        self.items[item_id] = {"metadata": before["metadata"], **item}

    def finish(self):
        self.stopped.set()
        self.join()
        self.client.close()
        assert self.error is None, self.error
        return self.changes


@pytest.mark.parametrize("kept", [False, True])
def test_an_index_is_resharded_while_it_changes(kept):
    rng = seeded("reshard")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(*([f"vectord.data_dir={folder}"] if kept else []))
        with server, server.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            index = client.create("r", DIMENSION, shards=2)
            items = fill(index, rng, 3000)
            changer = Changer(server.port, "r", items, rng)
            changer.start()
            for shards in (5, 1, 3, 3):
                answer = reshard(client, "r", shards)
                assert (answer.status, answer.json["shards"]) == (200, shards), answer
                index.search(vector(seeded("query")), k=3)
            assert changer.finish() > 0
            check(index, items)


def test_a_reshard_outlives_a_kill():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(f"vectord.data_dir={folder}")
        with server.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            index = client.create("r", DIMENSION, shards=2)
            items = fill(index, seeded("kill"), 2000)
            assert reshard(client, "r", 4).status == 200
        server.kill()
        with Server(f"vectord.data_dir={folder}") as again, again.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            assert client.index("r").info()["shards"] == 4
            check(client.index("r"), items)


def test_a_cursor_from_before_a_reshard_is_refused(server):
    with server.client() as client:
        index = client.create("cursor", DIMENSION, shards=2)
        fill(index, seeded("cursor"), 100)
        cursor = index.page(limit=10)["next_cursor"]
        assert reshard(client, "cursor", 3).status == 200
        answer = client.get(f"/v1/vectors/index/cursor/items?cursor={cursor}")
        assert (answer.status, answer.code) == (400, "invalid_cursor")
        index.drop()


@pytest.mark.parametrize("body, place", [
    ({}, "shards"), ({"shards": 0}, "shards: 0"), ({"shards": 257}, "shards: 257"),
    ({"shards": "2"}, "shards"), ({"shards": 2, "more": 1}, "more"),
])
def test_mistakes_name_their_place(server, body, place):
    with server.client() as client:
        index = client.create("mistake", DIMENSION)
        answer = client.post("/v1/vectors/index/mistake/reshard", body)
        assert answer.status == 400 and place in answer.message, answer
        index.drop()


def test_an_index_that_is_not_there(server):
    with server.client() as client:
        answer = reshard(client, "nothing", 2)
        assert (answer.status, answer.code) == (404, "index_not_found")


# ---- when it cannot be done, or is not to be finished ----


def begin_reshard(server, name, shards):
    """Asks for a reshard on a thread of its own; its answer comes into the list."""
    answers = []

    def ask():
        with server.client(timeout=120) as client:
            answers.append(reshard(client, name, shards))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


def fill_large(client, name):
    """So many items that another client sees the reshard of them under way, into one shard above
    all: one processor does that."""
    index = client.create(name, 128, shards=2, ef_construction=4096)
    rng = seeded("large")
    rows = [[rng.gauss(0, 1) for _ in range(128)] for _ in range(6000)]
    for first in range(0, 6000, 500):
        index.add([{"id": f"i{n}", "vector": rows[n]} for n in range(first, first + 500)])
    return index, rows


def bytes_of(server):
    return server.metric("lakehouse_vector_bytes")


def wait_until_under_way(server, before):
    wait_until(lambda: bytes_of(server) > before + (1 << 20))


def test_without_room_the_index_keeps_its_shards():
    with Server("server.memory_max=12MiB") as server, server.client() as client:
        index = client.create("full", DIMENSION, shards=2)
        items = fill(index, seeded("full"), 20000)
        answer = reshard(client, "full", 64)
        assert (answer.status, answer.code) == (507, "out_of_memory"), answer
        assert "keeps its shards" in answer.message, answer
        assert index.info()["shards"] == 2
        check(index, items)
        assert index.delete("i0").status == 204


def test_one_at_a_time_and_a_deletion_ends_it(server):
    with server.client() as client:
        before_all = bytes_of(server)
        index, rows = fill_large(client, "large")
        before = bytes_of(server)
        thread, answers = begin_reshard(server, "large", 1)
        wait_until_under_way(server, before)
        second = reshard(client, "large", 4)
        assert (second.status, second.code) == (503, "overloaded"), second
        assert index.search(rows[7], k=1)[0]["id"] == "i7"
        assert index.drop().status == 204
        thread.join()
        assert (answers[0].status, answers[0].code) == (404, "index_not_found"), answers
        assert client.get("/v1/vectors/index/large").status == 404
        wait_until(lambda: bytes_of(server) <= before_all)


def test_a_stop_ends_it_and_keeps_the_shards():
    with tempfile.TemporaryDirectory() as folder:
        sets = (f"vectord.data_dir={folder}", "server.drain_timeout=100ms")
        server = Server(*sets)
        with server.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            fill_large(client, "large")
            before = bytes_of(server)
            thread, _ = begin_reshard(server, "large", 1)
            wait_until_under_way(server, before)
        server.stop()
        thread.join()
        with Server(*sets) as again, again.client() as client:
            wait_until(lambda: client.get("/readyz").status == 200)
            info = client.index("large").info()
            assert (info["shards"], info["count"]) == (2, 6000)
