"""Starting and stopping: signals under load, exit codes, mistakes of the configuration."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from lakehouse_server import SERVICES, Client, Server, seeded, wait_until
from raw_http import get


def run(*arguments, env=None):
    """A start that is to fail: exit code and what it says."""
    done = subprocess.run(
        [os.environ["LAKEHOUSED"], *arguments],
        capture_output=True,
        timeout=60,
        env=dict(os.environ, **(env or {})),
    )
    return done.returncode, done.stderr.decode()


# ---- stopping ----


class Load:
    """Threads that add and search until the server is gone, and count what they saw."""

    def __init__(self, server, threads):
        self.server = server
        self.answered = [0] * threads
        self.closing = 0
        self.cut = []  # requests that were sent whole and never answered
        self.wrong = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        rng = random.Random(number)
        client = Client(self.server.port, timeout=60)
        index = client.index("a")
        client.connection.connect()
        for batch in range(1_000_000):
            vector = [rng.gauss(0, 1) for _ in range(16)]
            try:
                if number % 2:
                    answer = index.try_search(vector=vector)
                else:
                    answer = index.try_add([
                        {"id": f"{number}-{batch}-{i}", "vector": [rng.gauss(0, 1), *vector[1:]]}
                        for i in range(50)])
            except Exception as failure:  # noqa: BLE001: reported by the test
                # A connection that was idle, or not yet accepted, may be closed under a request.
                with self.lock:
                    self.cut.append((number, batch, repr(failure)))
                return
            with self.lock:
                self.answered[number] += 1
                if answer.status != 200:
                    self.wrong.append(answer)
                if answer.closes:
                    self.closing += 1
                    return

    def join(self):
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_answers_what_is_in_flight(number):
    server = Server("vectord.shards=2", "server.drain_timeout=120s")
    with server.client() as client:
        # So slow to add to that some adds are always under way.
        client.create("a", 16, ef_construction=4096)
    load = Load(server, 16)
    wait_until(lambda: all(load.answered) or load.cut)
    wait_until(lambda: server.metric("lakehouse_requests_in_flight") > 4)
    server.process.send_signal(number)
    assert server.wait(120) == 0, server.log_text()
    load.join()
    assert load.wrong == []
    events = [event["event"] for event in server.events()]
    assert events[-2:] == ["stopping", "stopped"]
    # Clients of one request at a time: at the stop each had one in flight, or had just been
    # answered. The first kind gets its answer with Connection: close.
    assert load.closing > 0
    assert len(load.cut) + load.closing == 16, load.cut
    server.__exit__(None)


def test_a_request_in_flight_is_answered_and_its_connection_closed():
    rng = seeded("in flight at stop")
    server = Server("vectord.shards=1", "server.drain_timeout=120s")
    with server.client(timeout=120) as client:
        index = client.create("a", 64, ef_construction=4096)
        vectors = [[rng.gauss(0, 1) for _ in range(64)] for _ in range(8000)]
        items = [{"id": str(i), "vector": vector} for i, vector in enumerate(vectors)]
        body = json.dumps({"items": items}).encode()
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(client.post(index.path + "/add", body))
        )
        thread.start()
        wait_until(lambda: server.metric("lakehouse_requests_in_flight") == 1)
        server.terminate()

        def listens_no_more():
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            except OSError:
                return True
            return False

        wait_until(listens_no_more)
        assert answers == []
        thread.join()
        assert answers[0].status == 200 and answers[0].json["added"] == 8000
        assert answers[0].closes
    assert server.wait(120) == 0
    server.__exit__(None)


def test_idle_connections_do_not_hold_up_a_stop():
    server = Server()
    idle = [server.connect() for _ in range(50)]
    for one in idle[:25]:
        one.send(get())
        assert one.answer().status == 200
    wait_until(lambda: server.metric("lakehouse_http_connections") == 51)  # and the asker's
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 9  # of the 10 seconds that are the default
    for one in idle:
        assert one.at_eof()
        one.close()
    server.__exit__(None)


def test_a_client_that_never_finishes_its_request_holds_up_a_stop_until_the_drain_timeout():
    server = Server("server.drain_timeout=700ms")
    with server.client() as client:
        client.create("a", 4)
    stuck = socket.create_connection(("127.0.0.1", server.port))
    stuck.sendall(b"POST /v1/vectors/index/a/add HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{")
    wait_until(lambda: server.metric("lakehouse_http_body_bytes_in_flight") == 9)
    start = time.monotonic()
    server.stop()
    assert 0.6 < time.monotonic() - start < 9
    stuck.close()
    server.__exit__(None)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_second_signal_aborts(is_whole):
    """While a request is being read, and while one is behind the loop, at decoder or shard."""
    rng = seeded("abort")
    server = Server("server.drain_timeout=60s", "vectord.shards=1")
    with server.client() as client:
        client.create("a", 64, ef_construction=4000)
    vectors = [[rng.gauss(0, 1) for _ in range(64)] for _ in range(8000)]
    items = [{"id": str(i), "vector": vector} for i, vector in enumerate(vectors)]
    body = json.dumps({"items": items}).encode()
    stuck = socket.create_connection(("127.0.0.1", server.port))
    stuck.sendall(
        b"POST /v1/vectors/index/a/add HTTP/1.1\r\nHost: t\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    stuck.sendall(body if is_whole else body[:1000])
    is_there = ("lakehouse_requests_in_flight" if is_whole else
                "lakehouse_http_body_bytes_in_flight")
    wait_until(lambda: server.metric(is_there) > 0)
    server.terminate()
    server.wait_for_event("stopping")  # signals that come together are one
    time.sleep(0.2)
    assert server.process.poll() is None  # it waits for the request
    start = time.monotonic()
    server.terminate()
    assert server.wait() == 1
    assert time.monotonic() - start < 20
    assert [event["event"] for event in server.events()][-1] == "aborted"
    stuck.close()
    server.__exit__(ValueError)


def test_it_starts_and_stops_many_times():
    for shards in (1, 2, 7, 64):
        with Server(f"vectord.shards={shards}", f"server.decoders={min(shards, 8)}") as server:
            with server.client() as client:
                client.create("a", 4).add([{"id": "x", "vector": [1, 2, 3, 4]}])


# ---- starting ----

MISTAKES = [
    ("[server]\nadd_credits = 0\n", ["2", "server.add_credits", "0 is less than 1"]),
    ("[server]\n\nsearch_credits = 'many'\n", ["3", "server.search_credits"]),
    ("[server]\nidle_timeout = '3 fortnights'\n", ["2", "server.idle_timeout"]),
    ("[vectord]\nshards = 257\n", ["2", "vectord.shards", "257 is more than 256"]),
    ("[vectord]\nshard = 2\n", ["2", "vectord.shard: unknown key; did you mean vectord.shards?"]),
    ("[vektord]\nshards = 2\n", ["vektord"]),
    ("[gateway]\nbind = 'nowhere'\n", ["2", "gateway.bind"]),
    ("[log]\nlevel = 'loud'\n", ["2", "log.level", "loud", "debug"]),
    ("[server]\ndecoders = 1\ndecoders = 2\n", ["3"]),
    ("[server\n", ["1"]),
]


@pytest.mark.parametrize("text,parts", MISTAKES)
def test_a_mistake_in_the_file_is_told_with_key_line_and_reason(tmp_path, text, parts):
    path = tmp_path / "lakehouse.toml"
    path.write_text(text)
    for flags in ([], ["--check"]):
        code, said = run("--config", str(path), *flags)
        assert code == 2, said
        assert said.startswith(f"lakehoused: {path}:{parts[0]}: " if parts[0].isdigit() else "lake")
        for part in parts[1:]:
            assert part in said, said


@pytest.mark.parametrize(
    "arguments,env,parts",
    [
        (["--set", "vectord.shards=999"], {}, ["--set", "vectord.shards", "999"]),
        (["--set", "vectord.shards"], {}, ["--set", "vectord.shards"]),
        (["--set"], {}, ["--set"]),
        (["--config"], {}, []),
        (["--config", "/nowhere/lakehouse.toml"], {}, ["/nowhere/lakehouse.toml"]),
        (["--nonsense"], {}, ["--nonsense", "usage:"]),
        (["stray"], {}, ["stray", "usage:"]),
        ([], {"LAKEHOUSE_VECTORD_SHARDS": "x"}, ["LAKEHOUSE_VECTORD_SHARDS", "vectord.shards"]),
        ([], {"LAKEHOUSE_VECTORD_SHARD": "1"}, ["LAKEHOUSE_VECTORD_SHARD"]),
    ],
)
def test_a_mistake_in_flags_or_environment_is_told(arguments, env, parts):
    code, said = run(*arguments, env=env)
    assert code == 2, said
    for part in parts:
        assert part in said, said


@pytest.mark.parametrize("key", ["gateway.bind", "vectord.bind"])
def test_a_port_that_is_taken_is_told(key):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        others = [f"--set={name}.bind=127.0.0.1:0" for name in SERVICES if f"{name}.bind" != key]
        code, said = run("--set", f"{key}={address}", *others)
    assert code == 1, said
    service = key.split(".")[0]
    assert said.endswith(
        f"lakehoused: --set: {key}: cannot listen on {address} for {service}: "
        "address already in use\n"
    )


def test_a_stream_that_goes_on_holds_up_a_stop_until_the_drain_timeout():
    server = Server("server.drain_timeout=700ms")
    with server.client() as client:
        client.create("a", 2)
    stream = socket.create_connection(("127.0.0.1", server.port))
    stream.sendall(
        b"POST /v1/vectors/index/a/add HTTP/1.1\r\nHost: t\r\n"
        b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with server.client() as client:
        wait_until(lambda: "lakehouse_ndjson_streams 1\n" in client.get("/metrics").body.decode())
    server.terminate()
    start = time.monotonic()
    line = b'{"id":"a","vector":[1,2]}\n'
    while server.process.poll() is None:
        assert time.monotonic() - start < 9
        try:
            stream.sendall(b"%x\r\n%s\r\n" % (len(line), line))
        except OSError:
            pass  # it has been told to go
        time.sleep(0.05)
    assert server.process.returncode == 0
    stream.close()
    server.__exit__(None)
