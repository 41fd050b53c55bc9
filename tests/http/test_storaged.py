"""storaged as other services use it: copies of indexes in a lakehoused of their own or in the same
process, tokens for objects, and objects that are larger than what a process may take."""
import hashlib
import http.client
import os
import shutil

import pytest

from lakehouse_server import (MS_REMOUNT, SERVICES, Client, Server, free_port, mount, unmount,
                              wait_until)
from relay import Relay
from test_peer import (KEY, check, checkpoint, files, idle, items, logged, make, names, serve,
                       wait_ready)
from tokens import secrets_file, token

OTHERS = ("gateway", "vectord", "catalogd", "ingestd", "queryd")
REST = tuple(name for name in SERVICES if name != "storaged")
MIB = 1 << 20
__all__ = ["serve"]  # a fixture


def storaged_alone(root, port=0, *sets, **options):
    """With `port` 0 on any, which another process may have once this one has ended."""
    return Server(*(f"{name}.bind=none" for name in OTHERS), f"storaged.root={root}",
                  f"storaged.bind=127.0.0.1:{port}", *sets, binds=(), **options)


@pytest.fixture
def storaged(tmp_path):
    with storaged_alone(tmp_path / "root") as running:
        yield running


def port_of(server):
    return server.ports["storaged"]


def put(server, key, body, **headers):
    with Client(port_of(server)) as client:
        return client.request("PUT", f"/v1/storage/put/{key}", body, headers)


def keys(server, prefix=""):
    with Client(port_of(server)) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        return [one["Key"] for one in
                client.get(f"/v1/storage/list?prefix={prefix}").json["objects"]]


def read(path):
    with open(path, "rb") as file:
        return file.read()


# ---- the store of the same process ----


@pytest.fixture
def own(tmp_path):
    """Starts a server whose copies go to its own storaged."""
    running = []

    def start(name="here", *sets, root=tmp_path / "root"):
        port = free_port()
        running.append(Server(
            f"storaged.root={root}", f"storaged.bind=127.0.0.1:{port}",
            f"vectord.data_dir={tmp_path / name}", f"vectord.storaged_url=http://127.0.0.1:{port}",
            "vectord.shards=2", *sets, binds=REST))
        return running[-1]

    yield start
    for server in running:
        server.kill()
        server.log.close()


def test_copies_lie_in_the_servers_own_store_without_a_socket(own, tmp_path):
    rows = items(40)
    with own() as server:
        assert logged(server, "storaged peer")[0]["by"] == "messages"
        wait_ready(server)
        make(server, "words", rows)
        wait_until(lambda: keys(server) == [KEY.format("words")] and idle(server))
        copy = tmp_path / "root" / KEY.format("words")
        assert read(copy) == read(tmp_path / "here" / KEY.format("words"))
        assert server.metric("lakehouse_objects_put_total") == 1
        assert server.metric("lakehouse_http_requests_total", route="putObject") == 0
    with own() as server:  # it is the same: nothing is sent
        wait_ready(server)
        wait_until(lambda: idle(server))
        assert server.metric("lakehouse_objects_put_total") == 0
        check(server, "words", rows)
    with own("fresh") as server:  # and enough for a start on an empty disk
        wait_ready(server)
        check(server, "words", rows)
        with server.client() as client:
            assert client.delete("/v1/vectors/index/words").status == 204
        wait_until(lambda: idle(server) and not copy.exists())
        assert keys(server) == []


def test_a_stop_in_order_leaves_the_last_checkpoint_in_the_own_store(own, tmp_path):
    rows = items(40)
    with own() as server:
        wait_ready(server)
        with server.client() as client:
            client.create("words", 8, distance="euclidean").add(rows)
    assert (tmp_path / "root" / KEY.format("words")).exists()
    with own("fresh") as server:
        wait_ready(server)
        check(server, "words", rows)


def test_an_own_store_that_is_full_costs_no_add(own, tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    mount(root, "size=1m")
    try:
        rows = items(5000, 64)
        with own(root=root) as server:
            wait_ready(server)
            make(server, "few", items(10))
            make(server, "words", rows, 64)
            wait_until(lambda: logged(server, "could not be copied"))
            event = logged(server, "could not be copied")[0]
            assert event["index"] == "words" and "No space left on device" in event["reason"]
            check(server, "words", rows)
            assert os.listdir(root / "_vectors") == ["few.lhv1"]
            mount(root, "size=64m", MS_REMOUNT)
            wait_until(lambda: idle(server))
        with own("fresh", root=root) as server:
            wait_ready(server)
            check(server, "words", rows)
    finally:
        unmount(root)


def test_an_own_store_that_is_not_there_is_said_at_the_start(tmp_path):
    port = free_port()
    with pytest.raises(AssertionError, match="vectord.storaged_url: it is this server's own, which "
                                             "keeps no objects without storaged.root"):
        Server(f"storaged.bind=127.0.0.1:{port}", f"vectord.data_dir={tmp_path}/data",
               f"vectord.storaged_url=http://127.0.0.1:{port}",
               binds=REST)


# ---- the store of another lakehoused ----


def test_copies_in_another_lakehoused_are_enough_for_an_empty_disk(storaged, serve):
    rows = items(300, 32)
    url = f"http://127.0.0.1:{port_of(storaged)}"
    with serve(url) as server:
        assert logged(server, "storaged peer")[0]["by"] == "HTTP"
        wait_ready(server)
        make(server, "words", rows, 32)
        make(server, "gone", items(5))
        wait_until(lambda: idle(server))
        with server.client() as client:
            assert client.delete("/v1/vectors/index/gone").status == 204
        wait_until(lambda: idle(server))
    assert keys(storaged) == [KEY.format("words")]
    with serve(url, "fresh") as server:
        wait_ready(server)
        check(server, "words", rows)


def test_a_peer_killed_in_the_middle_of_a_put_has_the_old_copy_or_the_new(tmp_path, serve):
    root = tmp_path / "root"
    old, rows = items(500, 64, seed=2), items(6000, 64)
    storaged = storaged_alone(root, free_port())
    with Relay(port_of(storaged)) as relay, serve(relay.url) as server:
        wait_ready(server)
        make(server, "words", old, 64)
        wait_until(lambda: idle(server))
        copy = root / KEY.format("words")
        before = read(copy)

        def kill():
            storaged.process.kill()
            storaged.process.wait()

        relay.on_limit, relay.limit = kill, 600_000
        with server.client() as client:
            client.index("words").add(rows)
            checkpoint(client, "words")
            wait_until(lambda: relay.cuts == 1 and storaged.process.poll() is not None)
            assert read(copy) == before
            client.index("words").add(items(3, 64, seed=5))  # nobody waits for it
        with storaged_alone(root, relay.target) as again:
            wait_until(lambda: idle(server), 90)
            assert keys(again) == [KEY.format("words")]
            assert os.listdir(root / "%tmp") == []
            assert read(copy) == read(tmp_path / "here" / KEY.format("words")) != before
            with serve(relay.url, "fresh") as fresh:
                wait_ready(fresh)
                assert names(fresh)["words"]["count"] == len(rows)
    storaged.log.close()


def test_a_network_that_is_cut_costs_nothing_but_time(storaged, serve, tmp_path):
    rows = items(6000, 64)
    copy = tmp_path / "root" / KEY.format("words")
    with Relay(port_of(storaged)) as relay:
        with serve(relay.url) as server:
            wait_ready(server)
            relay.limit = 700_000
            relay.on_limit = lambda: setattr(relay, "is_cut", True)
            make(server, "words", rows, 64)
            wait_until(lambda: relay.cuts == 1)
            wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= 2)
            assert not copy.exists()
            wait_until(lambda: os.listdir(tmp_path / "root" / "%tmp") == [])
            check(server, "words", rows)
            relay.is_cut = False
            wait_until(lambda: idle(server), 90)
        assert read(copy) == read(tmp_path / "here" / KEY.format("words"))
        relay.on_limit, relay.down_limit = lambda: None, 700_000
        with serve(relay.url, "fresh") as server:  # the same on the way back
            wait_until(lambda: relay.cuts == 2)
            wait_until(lambda: names(server).get("words", {}).get("state") == "ready", 90)
            assert files(tmp_path, "fresh") == ["words.lhv1"]
            check(server, "words", rows)


def test_a_peer_whose_disk_is_full_keeps_the_old_copy(serve, tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    mount(root, "size=1m")
    try:
        old, rows = items(200, 64, seed=2), items(6000, 64)
        with storaged_alone(root) as storaged, serve(f"http://127.0.0.1:{port_of(storaged)}") as server:
            wait_ready(server)
            make(server, "words", old, 64)
            wait_until(lambda: idle(server))
            before = read(root / KEY.format("words"))
            with server.client() as client:
                client.index("words").add(rows)
                checkpoint(client, "words")
                wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= 2)
                assert "507" in logged(server, "could not be copied")[0]["reason"]
                client.index("words").add(items(3, 64, seed=5))
            assert read(root / KEY.format("words")) == before
            wait_until(lambda: os.listdir(root / "%tmp") == [])  # between two tries
            mount(root, "size=64m", MS_REMOUNT)
            wait_until(lambda: idle(server), 90)
            assert read(root / KEY.format("words")) == read(tmp_path / "here" / KEY.format("words"))
    finally:
        unmount(root)


# ---- tokens ----


def test_tokens_reach_the_objects_that_they_are_for(tmp_path):
    secrets = secrets_file(
        tmp_path / "secrets.toml", token("all", "a-token-for-everything", "admin"),
        token("images", "a-token-for-the-images", "read", "write", prefixes=["images/"]),
        token("reader", "a-token-that-only-reads", "read"))
    cases = [  # method, path, images', reader's
        ("PUT", "put/images/a", 200, 403),
        ("PUT", "put/other/a", 403, 403),
        ("PUT", "put/images%2Fb", 200, 403),
        ("PUT", "put/images", 403, 403),
        ("PUT", "put/imagesb", 403, 403),
        ("GET", "get/images/a", 200, 200),
        ("HEAD", "get/images/a", 200, 200),
        ("GET", "get/other/a", 403, 404),
        ("GET", "list?prefix=images/", 200, 200),
        ("GET", "list?prefix=images/a", 200, 200),
        ("GET", "list?prefix=images", 403, 200),
        ("GET", "list", 403, 200),
        ("DELETE", "delete/other/a", 403, 403),
        ("DELETE", "delete/images/a", 204, 403),
    ]
    with storaged_alone(tmp_path / "root", 0, secrets) as server:
        with Client(port_of(server)) as client:
            def ask(method, path, token):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                body = b"bytes" if method == "PUT" else None
                return client.request(method, f"/v1/storage/{path}", body, headers).status

            wait_until(lambda: ask("GET", "list", "a-token-for-everything") == 200)
            for method, path, images, reader in cases:
                assert ask(method, path, None) == 401, (method, path)
                assert ask(method, path, "a-token-that-only-reads") == reader, (method, path)
                assert ask(method, path, "a-token-for-the-images") == images, (method, path)
            assert ask("PUT", "put/other/a", "a-token-for-everything") == 200
            assert ask("DELETE", "delete/images%2Fb", "a-token-for-everything") == 204


# ---- large objects ----


class Pattern:
    """A body of `size` bytes, of which no two pieces are the same."""

    def __init__(self, size):
        self.left = size
        self.hash = hashlib.blake2b()
        self.block = bytearray(os.urandom(MIB))

    def read(self, most):
        len_ = min(self.left, len(self.block))
        self.block[:8] = self.left.to_bytes(8, "little")
        self.left -= len_
        piece = bytes(self.block[:len_])
        self.hash.update(piece)
        return piece


def transfer_both_ways(port, size, resident):
    """Puts and gets `size` bytes; the most that `resident` has been meanwhile."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body = Pattern(size)
    most = [0]

    class Watched:
        def __init__(self):
            self.count = 0

        def look(self):
            self.count += 1
            if self.count % 64 == 0:
                most[0] = max(most[0], resident())

        def read(self, wanted):
            self.look()
            return body.read(wanted)

    watched = Watched()
    connection.request("PUT", "/v1/storage/put/large", watched, {"Content-Length": str(size)})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    connection.request("GET", "/v1/storage/get/large")
    answer = connection.getresponse()
    got = hashlib.blake2b()
    buffer = bytearray(MIB)
    length = 0
    while count := answer.readinto(buffer):
        got.update(memoryview(buffer)[:count])
        length += count
        watched.look()
    connection.close()
    assert length == size and got.digest() == body.hash.digest()
    return most[0]


def test_two_gib_go_both_ways_in_bounded_memory(storaged, tmp_path):
    if shutil.disk_usage(tmp_path).free < 5 << 30:
        pytest.skip("no room for 2 GiB here")
    if storaged.is_sanitized():
        pytest.skip("its memory is the sanitizer's")
    before = storaged.resident_bytes()
    most = transfer_both_ways(port_of(storaged), 2 << 30, storaged.resident_bytes)
    assert most - before < 200 * MIB, f"{(most - before) >> 20} MiB"
    os.remove(tmp_path / "root" / "large")


def test_a_gateway_passes_large_objects_on_in_bounded_memory(storaged, tmp_path):
    port = port_of(storaged)
    if storaged.is_sanitized():
        pytest.skip("its memory is the sanitizer's")
    with Server(f"gateway.storaged_url=http://127.0.0.1:{port}",
                binds=REST) as gateway:
        before = gateway.resident_bytes()
        most = transfer_both_ways(gateway.port, 600 * MIB, gateway.resident_bytes)
        assert most - before < 100 * MIB, f"{(most - before) >> 20} MiB"
    assert os.path.getsize(tmp_path / "root" / "large") == 600 * MIB
