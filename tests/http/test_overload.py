"""Too many requests, too little memory, clients that vanish: every request gets an answer, and the
server goes on."""

import contextlib
import datetime
import json
import random
import resource
import statistics
import threading
import time

import pytest

from lakehouse_server import Server, in_parallel, seeded, to_base64, wait_until
from raw_http import get, post

GAUSS = random.Random(1)
POOL = [GAUSS.gauss(0, 1) for _ in range(4096)]  # drawing from it is quick


def random_vector(rng, dimension):
    return rng.choices(POOL, k=dimension)


def random_items(rng, prefix, count, dimension):
    return [
        {"id": f"{prefix}-{i}", "vector": to_base64(random_vector(rng, dimension))}
        for i in range(count)
    ]


def send(server, path, body):
    """A connection on which a whole request has been sent and nothing read."""
    client = server.connect(timeout=300)  # with a sanitizer, a large one takes minutes
    client.send(post(path, body))
    return client


# ---- credits ----


def test_adds_beyond_the_credits_wait_and_then_are_refused():
    rng = seeded("adds beyond credits")
    settings = ("server.add_credits=1", "vectord.shards=1", "server.decoders=1")
    with Server(*settings, "server.idle_timeout=10m") as server:  # `client` waits for the large one
        with server.client() as client:
            index = client.create("a", 64, ef_construction=4096)
            # One large add holds the only credit; eight may wait for it; the rest are refused.
            sizes = [8000] + 39 * [20]
            bodies = [{"items": random_items(rng, n, sizes[n], 64)} for n in range(40)]
            sockets = [send(server, index.path + "/add", bodies[0])]
            wait_until(lambda: server.metric("lakehouse_credits", lane="bulk") == 0)
            sockets += [send(server, index.path + "/add", b) for b in bodies[1:]]
            answers = [one.answer() for one in sockets]
            added = [n for n, answer in enumerate(answers) if answer.status == 200]
            refused = [answer for answer in answers if answer.status == 503]
            assert len(added) + len(refused) == 40
            assert 0 in added and len(added) >= 9 and refused
            for answer in refused:
                assert answer.headers["retry-after"].isdigit()
                assert answer.code == "overloaded"
            # What was answered is there, what was refused is not.
            for n in range(40):
                assert index.get(f"{n}-0").status == (200 if n in added else 404)
            assert index.info()["count"] == sum(len(bodies[n]["items"]) for n in added)
            assert server.metric("lakehouse_refused_total") == len(refused)
            wait_until(lambda: server.metric("lakehouse_credits", lane="bulk") == 1)
            for one in sockets:
                one.close()


def test_searches_beyond_the_credits_wait_and_then_are_refused():
    rng = seeded("searches beyond credits")
    settings = ("server.search_credits=1", "vectord.shards=1", "server.decoders=1")
    with Server(*settings, "server.search_timeout=10m") as server:
        with server.client() as client:
            index = client.create("a", 32)
            index.add(random_items(rng, "i", 6000, 32))
            large = {"vectors": [random_vector(rng, 32)] * 1024, "k": 900, "ef": 4096}
            single = {"vector": random_vector(rng, 32), "k": 1}
            sockets = [send(server, index.path + "/search", large)]
            wait_until(lambda: server.metric("lakehouse_credits", lane="express") == 0)
            sockets += [
                send(server, index.path + "/search", single) for _ in range(60)
            ]
            answers = [one.answer() for one in sockets]
            statuses = [answer.status for answer in answers]
            assert set(statuses) <= {200, 503} and statuses[0] == 200
            assert statuses.count(200) >= 9 and statuses.count(503) >= 1
            for answer in answers[1:]:
                if answer.status == 503:
                    assert answer.headers["retry-after"].isdigit()
                else:
                    assert len(answer.json["results"]) == 1
            for one in sockets:  # refused or not, each connection goes on
                one.send(get())
                assert one.answer().status == 200
                one.close()
            assert len(index.search(single["vector"], k=5)) == 5


@contextlib.contextmanager
def busy_server(items, *more):
    """A server whose one add credit is taken for long, and whose line behind it is full."""
    rng = seeded("busy")
    settings = ("server.add_credits=1", "vectord.shards=1", "server.decoders=1")
    with Server(*settings, "server.drain_timeout=5m", *more) as server:
        with server.client() as client:
            index = client.create("a", 64, ef_construction=4000)
        path = index.path + "/add"
        sockets = [send(server, path, {"items": random_items(rng, "large", items, 64)})]
        wait_until(lambda: server.metric("lakehouse_credits", lane="bulk") == 0)
        body = {"items": random_items(rng, "small", 1, 64)}
        sockets += [send(server, path, body) for _ in range(8)]
        wait_until(lambda: server.metric("lakehouse_waiting", lane="bulk") == 8)
        yield server, post(path, body), sockets[0]
        for one in sockets:
            one.close()


def test_a_caller_that_tries_again_at_once_is_refused_at_the_pace_that_it_was_told():
    with busy_server(20000) as (server, request, large):
        flood = [server.connect() for _ in range(20)]
        refused = []

        def insist(client):
            until = time.monotonic() + 6
            while time.monotonic() < until:
                started = time.monotonic()
                client.send(request)
                answer = client.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1"), answer
                refused.append(time.monotonic() - started)

        began = time.monotonic()
        in_parallel(*[lambda one=one: insist(one) for one in flood])
        # At once once a second; every other one after a second.
        prompt = [seconds for seconds in refused if seconds < 0.9]
        late = [seconds for seconds in refused if seconds >= 0.9]
        assert 1 <= len(prompt) <= 1 + time.monotonic() - began, refused
        assert statistics.quantiles(late)[0] < 2.5, refused  # others where the machine stood still
        assert server.metric("lakehouse_refused_total") == len(refused)
        server.kill()  # the large add would take a while


def test_refusals_that_are_due_later_are_told_at_a_stop_and_to_nobody_who_left():
    with busy_server(10000, "log.level=debug") as (server, request, large):
        clients = [server.connect() for _ in range(10)]
        for one in clients:
            one.send(request)
        wait_until(lambda: server.metric("lakehouse_refused_total") == 10)
        for one in clients[:5]:
            one.close()
        server.terminate()
        assert [one.answer().status for one in clients[5:]] == [503] * 5
        assert large.answer().status == 200
        assert server.wait() == 0
        # The server's own clock: a machine that stands still does so between its lines, too.
        events = server.events()
        stop = next(n for n, event in enumerate(events) if event["event"] == "stopping")
        times = [datetime.datetime.fromisoformat(event["ts"]) for event in events[stop:]
                 if event["event"] == "stopping" or event.get("status") == 503]
        assert len(times) >= 1 + 5
        assert (max(times) - times[0]).total_seconds() < 0.5


def test_searches_do_not_wait_behind_the_reading_of_large_bodies():
    good = '{"id": "a", "vector": [' + ", ".join(["0.12345678"] * 64) + "]}"
    large = '{"items": [' + ", ".join([good] * 40_000) + ', {"id": "b", "vector": "?"}]}'
    with Server("vectord.shards=1", "server.decoders=1") as server, server.client() as client:
        index = client.create("a", 64)
        index.add([{"id": "c", "vector": [1.0] * 64}])
        request = post(index.path + "/add", large.encode())
        sockets = [server.connect() for _ in range(4)]
        for one in sockets:
            one.send(request[:-1])
        for one in sockets:  # now there is something to read
            one.send(request[-1:])
        answers, searches = [], 0

        def read():
            answers.extend(one.answer() for one in sockets)

        reader = threading.Thread(target=read)
        reader.start()
        while reader.is_alive():
            assert len(index.search([1.0] * 64)) == 1
            searches += 1
        reader.join()
        assert [answer.status for answer in answers] == [400] * 4  # at their very end
        assert searches > 10 * len(answers)


def test_a_search_that_waited_past_its_timeout_is_answered_503():
    rng = seeded("search timeout")
    settings = ("server.search_timeout=50ms", "server.search_credits=1", "vectord.shards=1")
    with Server(*settings) as server:
        with server.client() as client:
            index = client.create("a", 32)
            index.add(random_items(rng, "i", 3000, 32))
            body = {"vectors": [random_vector(rng, 32)] * 1000, "k": 500, "ef": 4000}
            sockets = [send(server, index.path + "/search", body) for _ in range(5)]
            for one in sockets:
                answer = one.answer()
                assert answer.status == 503 and "retry-after" in answer.headers
                assert answer.code == "deadline_exceeded"
                one.close()
            vector = random_vector(rng, 32)
            wait_until(lambda: index.try_search(vector=vector, k=3).status == 200)


# ---- memory ----


def fill(index, rng, dimension):
    """Adds batches until one is refused; the refused answer and how many items there are."""
    count = 0
    while True:
        answer = index.try_add(random_items(rng, f"{index.name}-{count}", 500, dimension))
        if answer.status != 200:
            return answer, count
        assert answer.json == {"added": 500, "updated": 0}
        count += 500
        assert count < 1_000_000, "no limit was met"


def check_full(server, index, rng, dimension, count):
    """Searches, reads and deletes go on; nothing of the refused batch is there."""
    assert index.info()["count"] == count
    ids = {entry["id"] for entry in index.pages(limit=1000)}
    assert len(ids) == count and f"{index.name}-{count}-0" not in ids
    assert len(index.search(random_vector(rng, dimension), k=10)) == 10
    assert index.get(f"{index.name}-0-7").status == 200
    assert index.delete(f"{index.name}-0-7").status == 204
    assert index.get(f"{index.name}-0-7").status == 404


def test_an_add_beyond_memory_max_is_refused_whole_and_deleting_makes_room():
    rng = seeded("memory_max")
    with Server("server.memory_max=24MiB", "vectord.shards=3") as server, server.client() as client:
        first = client.create("first", 256, m=8, ef_construction=8)
        answer, count = fill(first, rng, 256)
        assert (answer.status, answer.code) == (507, "out_of_memory")
        assert "25165824" in answer.message and "server.memory_max" in answer.message
        assert count >= 1000
        check_full(server, first, rng, 256, count)
        answer = first.add_lines(
            "".join(json.dumps(one) + "\n" for one in random_items(rng, "line", 3000, 256))
        )
        assert (answer.status, answer.code) == (507, "out_of_memory")
        assert answer.message.endswith("items were applied before")
        # Another index has no more room than this one; once it is gone, there is.
        second = client.create("second", 256, m=8, ef_construction=8)
        assert second.try_add(random_items(rng, "s", 3000, 256)).status == 507
        assert second.info()["count"] == 0
        assert first.drop().status == 204
        _, count = fill(second, rng, 256)
        assert count >= 1000


def test_an_index_beyond_memory_max_is_refused_and_deleting_one_makes_room():
    with Server("server.memory_max=8MiB", "vectord.shards=2") as server, server.client() as client:
        made = [client.create("first", 8, shards=256)]
        while True:
            body = {"name": f"index-{len(made)}", "dimension": 8, "shards": 256}
            answer = client.post("/v1/vectors/index", body)
            if answer.status != 201:
                break
            made.append(client.index(body["name"]))
            assert len(made) < 4096, "no limit was met"
        assert (answer.status, answer.code) == (507, "out_of_memory")
        assert "8388608" in answer.message and "server.memory_max" in answer.message
        assert client.get("/v1/vectors/index").json["count"] == len(made)
        assert client.get("/v1/vectors/index/" + body["name"]).status == 404
        assert made.pop().drop().status == 204
        client.create(body["name"], 8, shards=256)


def test_concurrent_adds_beyond_memory_max_are_each_applied_whole_or_not_at_all():
    with Server("server.memory_max=32MiB", "vectord.shards=4") as server, server.client() as client:
        index = client.create("a", 128, m=8, ef_construction=8)
        applied = []
        lock = threading.Lock()

        def add(number):
            rng = seeded(f"adder {number}")
            with server.client() as mine:
                for batch in range(40):
                    items = random_items(rng, f"{number}-{batch}", 400, 128)
                    answer = mine.index("a").try_add(items)
                    assert answer.status in (200, 507), answer
                    if answer.status == 200:
                        with lock:
                            applied.append(f"{number}-{batch}")

        in_parallel(*[lambda number=number: add(number) for number in range(4)])
        assert 0 < len(applied) < 160
        ids = [entry["id"] for entry in index.pages(limit=1000)]
        assert len(ids) == len(set(ids)) == 400 * len(applied)
        assert {one.rsplit("-", 1)[0] for one in ids} == set(applied)


def test_a_server_whose_address_space_is_full_refuses_adds_and_goes_on():
    """The system's own refusal instead of memory_max."""
    rng = seeded("RLIMIT_AS")

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))

    settings = ("vectord.shards=2", "server.decoders=1", "server.memory_max=0")
    try:
        server = Server(*settings, prepare=limit)
    except AssertionError as failure:
        if "anitizer" in str(failure):
            pytest.skip("a sanitizer's shadow memory does not fit the limit")
        raise
    with server, server.client() as client:
        index = client.create("a", 4096, m=2, ef_construction=4)
        answer, count = fill(index, rng, 4096)
        assert (answer.status, answer.code) == (507, "out_of_memory"), answer
        assert index.info()["count"] == count >= 1000
        assert len(index.search(random_vector(rng, 4096), k=3)) == 3
        assert index.delete("a-0-7").status == 204
        assert index.drop().status == 204
        index = client.create("a", 4096, m=2, ef_construction=4)
        index.add(random_items(rng, "again", 500, 4096))
        assert index.info()["count"] == 500


# ---- answers that are not read ----


def patient(server):
    """A client whose kernel takes little of an answer before it reads."""
    return server.connect(timeout=60, receive_bytes=4096)


@pytest.fixture(scope="module")
def unread():
    """A server with a limit of 4 MiB, and a request whose answer has 5 MB."""
    settings = ("server.body_bytes_in_flight_max=4MiB", "server.body_bytes_max=4MiB",
                "server.write_timeout=10m", "vectord.shards=1")
    with Server(*settings) as server, server.client() as client:
        index = client.create("a", 16)
        for batch in range(10):
            items = random_items(GAUSS, str(batch), 50, 16)
            index.add([{**item, "metadata": {"pad": "x" * 10000}} for item in items])
        vector = random_vector(GAUSS, 16)
        yield server, post(index.path + "/search", {"vector": vector, "k": 500, "ef": 1000})


def test_while_answers_wait_unread_past_the_limit_new_requests_are_refused(unread):
    server, search = unread
    with server.client() as client:
        slow = patient(server)
        slow.send(search)
        path = "/v1/vectors/index/a/items/0-0"
        wait_until(lambda: client.get(path).status == 503)
        answer = client.get(path)
        assert answer.code == "overloaded" and answer.headers["retry-after"].isdigit()
        assert "bytes wait for their clients" in answer.message
        assert client.get("/healthz").status == 200  # as every route without a service
        assert client.get("/metrics").status == 200
        answer = slow.answer()
        assert answer.status == 200 and len(answer.json["results"]) == 500
        wait_until(lambda: client.get(path).status == 200)
        slow.close()


def test_answers_that_would_pass_twice_the_limit_together_become_503(unread):
    server, search = unread
    crowd = [patient(server) for _ in range(12)]
    before = server.resident_bytes()
    for client in crowd:
        client.send(search)
    wait_until(lambda: all(not client.is_quiet(0) for client in crowd))
    wait_until(lambda: server.metric("lakehouse_requests_in_flight") == 0)
    if not server.is_sanitized():
        assert server.resident_bytes() - before < 40 << 20, "of 60 MB of answers"
    answers = [client.answer() for client in crowd]
    for answer in answers:
        assert answer.status in (200, 503), answer
        if answer.status == 503:
            assert answer.code == "overloaded" and answer.headers["retry-after"].isdigit()
        else:
            assert len(answer.json["results"]) == 500
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) >= 1 and statuses.count(503) >= 5, statuses
    for client in crowd:  # refused or not, each connection goes on
        client.send(get())
        assert client.answer().status == 200
        client.close()


def highest_bytes(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(row.split()[1]) for row in status if row.startswith("VmHWM:")) * 1024


def test_many_large_answers_at_once_take_turns():
    """100 answers of 200 vectors each: 160 MB as they are found, 460 MB as text."""
    dimension = 2000
    settings = ("server.body_bytes_in_flight_max=32MiB", "server.body_bytes_max=16MiB",
                "server.search_timeout=10m", "vectord.shards=1", "server.decoders=1",
                "server.header_timeout=10m")  # so long they may wait for their turn
    with Server(*settings) as server, server.client(timeout=120) as client:
        index = client.create("a", dimension, m=8, ef_construction=20)
        for batch in range(4):
            index.add(random_items(GAUSS, str(batch), 75, dimension))
        vector = to_base64(random_vector(GAUSS, dimension))
        search = post(index.path + "/search",
                      {"vector": vector, "k": 200, "ef": 300, "with_vector": True})
        before = highest_bytes(server)
        refused = []

        def ask():
            one = server.connect(timeout=120)
            one.send(search)
            answer = one.answer()
            while answer.status == 503:  # this process did not read so fast as it was answered
                refused.append(answer)
                time.sleep(int(answer.headers["retry-after"]))
                one.send(search)
                answer = one.answer()
            assert answer.status == 200, answer
            assert answer.body.count(b'"vector":[') == 200
            one.close()

        in_parallel(*[ask] * 100)
        assert len(refused) < 50
        if not server.is_sanitized():
            assert highest_bytes(server) - before < 90 << 20
        # Small searches do not stand behind large ones; and what passes the limit goes alone.
        large = send(server, index.path + "/search", {"vectors": [vector] * 8, "k": 200, "ef": 300,
                                                      "with_vector": True})
        assert len(index.search(vector, k=3)) == 3
        answer = large.answer()
        assert answer.status == 200 and answer.body.count(b'"vector":[') == 1600
        large.close()


def test_a_large_search_that_waited_past_its_timeout_is_answered_503():
    settings = ("server.body_bytes_in_flight_max=8MiB", "server.body_bytes_max=8MiB",
                "server.search_timeout=300ms", "vectord.shards=1")
    with Server(*settings) as server, server.client() as client:
        index = client.create("a", 32)
        index.add(random_items(GAUSS, "i", 3000, 32))
        body = {"vectors": [random_vector(GAUSS, 32)] * 500, "k": 500, "ef": 4000}
        sockets = [send(server, index.path + "/search", body) for _ in range(8)]
        answers = [one.answer() for one in sockets]
        late = [answer for answer in answers if answer.status == 503]
        assert len(late) >= 6 and {answer.code for answer in late} == {"deadline_exceeded"}
        wait_until(lambda: server.metric("lakehouse_requests_in_flight") == 0)
        wait_until(lambda: server.metric("lakehouse_credits") == 1024 + 256)
        for one in sockets:
            one.close()


# ---- clients ----


def test_clients_that_vanish_in_mid_request_leave_nothing_behind():
    rng = seeded("vanishing clients")
    with Server("vectord.shards=2") as server, server.client() as client:
        index = client.create("a", 32)
        index.add(random_items(rng, "i", 2000, 32))
        search = {"vectors": [random_vector(rng, 32)] * 300, "k": 100, "ef": 500}
        for number in range(60):
            body = {"items": random_items(rng, f"gone-{number}", 100, 32)}
            one = send(server, index.path + ("/add", "/search")[number % 2],
                       (body, search)[number % 2])
            if number % 3 == 0:
                one.reset()
            one.close()
            half = server.connect()
            half.send(post(index.path + "/add", b"x" * 1000)[:-990])
            half.close()
        wait_until(lambda: server.metric("lakehouse_requests_in_flight") == 0)
        wait_until(lambda: server.metric("lakehouse_credits") == 1024 + 256)
        wait_until(lambda: index.info()["count"] % 100 == 0)  # each batch whole or not at all
        assert len(index.search(random_vector(rng, 32), k=10)) == 10


def test_two_hundred_connections_add_and_search_at_once():
    with Server("vectord.shards=2") as server, server.client() as client:
        index = client.create("a", 16)
        barrier = threading.Barrier(200)

        def use(number):
            rng = random.Random(number)
            with server.client(timeout=120) as one:
                mine = one.index("a")
                barrier.wait()
                for batch in range(6):
                    items = random_items(rng, f"{number}-{batch}", 5, 16)
                    assert mine.add(items) == {"added": 5, "updated": 0}
                    first = mine.search(items[0]["vector"], k=1)[0]
                    assert first["id"] == items[0]["id"] and abs(first["distance"]) <= 1e-6

        in_parallel(*[lambda number=number: use(number) for number in range(200)])
        assert index.info()["count"] == 200 * 6 * 5
        wait_until(lambda: server.metric("lakehouse_requests_in_flight") == 0)
