"""The storaged peer: a copy of every index's file in another process's object store, which may be
down, slow, broken, or lie. Whatever it does, adds go on and what is here stays."""
import json
import os
import random
import signal
import subprocess
import time

import pytest

from lakehouse_server import MS_REMOUNT, Server, floats, free_port, mount, unmount, wait_until
from storaged_peer import Peer

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "lhv1-go")
KEY = "_vectors/{}.lhv1"


def items(count, dimension=8, seed=1):
    rng = random.Random(seed)
    return [{"id": f"i{n}", "vector": floats([rng.gauss(0, 1) for _ in range(dimension)]),
             "metadata": {"n": n}} for n in range(count)]


@pytest.fixture
def peer():
    with Peer() as running:
        yield running


@pytest.fixture
def serve(tmp_path):
    """Starts a server on folder `name` with the peer's URL, and ends them all."""
    running = []

    def start(url, name="here", *sets, env=None):
        server = Server(f"vectord.data_dir={tmp_path / name}", f"vectord.storaged_url={url}",
                        "vectord.shards=2", *sets, env=env)
        running.append(server)
        return server

    yield start
    for server in running:
        server.kill()
        server.log.close()


def ready(server):
    with server.client() as client:
        return client.get("/readyz")


def wait_ready(server, seconds=20):
    wait_until(lambda: ready(server).status == 200, seconds)


def make(server, name, of, dimension=8):
    """An index with these items, in a file."""
    with server.client() as client:
        index = client.create(name, dimension, distance="euclidean")
        index.add(of)
        checkpoint(client, name)


def checkpoint(client, name):
    answer = client.post(f"/v1/vectors/index/{name}/checkpoint", b"")
    assert answer.status == 200, answer


def names(server):
    with server.client() as client:
        return {one["name"]: one for one in client.get("/v1/vectors/index").json["indexes"]}


def check(server, name, of):
    """Every item is there as it went in, and finds itself."""
    with server.client() as client:
        index = client.index(name)
        assert index.info()["count"] == len(of)
        for item in of:
            got = index.get(item["id"]).json
            assert floats(got["vector"]) == item["vector"] and got["metadata"] == item["metadata"]
            nearest = index.search(item["vector"], k=1)[0]
            assert nearest["id"] == item["id"] and nearest["distance"] == 0


def files(tmp_path, name="here"):
    """In the folder of indexes, but for the mark of a folder that has had a peer."""
    listed = os.listdir(tmp_path / name / "_vectors")
    return sorted(file for file in listed if file != ".peer")


def logged(server, text):
    return [event for event in server.events() if text in event["event"]]


def idle(server):
    return server.metric("lakehouse_peer_pending") == 0


def test_a_fresh_disk_gets_what_a_checkpoint_left_at_the_peer(peer, serve, tmp_path):
    rows, more = items(60), items(20, 3, seed=2)
    peer.page = 1  # a page an object
    with serve(peer.url) as first:
        wait_ready(first)
        make(first, "words", rows)
        make(first, "other.two", more, 3)
        wait_until(lambda: len(peer.objects) == 2 and idle(first))
        assert first.metric("lakehouse_peer_uploads_total") == 2
        assert first.metric("lakehouse_peer_success_age_seconds") < 30
    with open(tmp_path / "here" / "_vectors" / "words.lhv1", "rb") as file:
        assert file.read() == peer.objects[KEY.format("words")]
    peer.objects["_vectors/README"] = peer.objects["_vectors/.lhv1"] = b"none of ours"
    with serve(peer.url, "there") as second:
        wait_ready(second)
        assert ready(second).json["peer"] == "listed"
        assert sorted(names(second)) == ["other.two", "words"]
        check(second, "words", rows)
        check(second, "other.two", more)
        with second.client() as client:  # it goes on from here
            extra = items(80)[60:]
            client.index("words").add(extra)
        second.process.kill()
        second.wait()
    peer.status = 500
    with serve(peer.url, "there") as third:  # and what was added since is in the log
        wait_until(lambda: names(third).get("words", {}).get("state") == "ready")
        check(third, "words", rows + extra)


def version_1(name, of):
    """The Go daemon's file `of`, as that of index `name`."""
    with open(os.path.join(GOLDEN, of + ".lhv1"), "rb") as file:
        content = file.read()
    length = int.from_bytes(content[4:8], "big")
    envelope = json.loads(content[8:8 + length])
    envelope["params"]["name"] = name
    envelope = json.dumps(envelope).encode()
    return b"LHV1" + len(envelope).to_bytes(4, "big") + envelope + content[8 + length:]


def test_version_1_files_at_the_peer_are_loaded_and_become_version_2(peer, serve):
    counts = {}
    for number, (of, count) in enumerate(
            [("go_cosine_300x16", 300), ("go_euclidean_140x5_deleted", 140), ("go_empty_8", 0)] * 3):
        name = f"{chr(ord('z') - number)}-old"  # each sorts before the last, which may be under way
        peer.objects[KEY.format(name)] = version_1(name, of)
        counts[name] = count
    with serve(peer.url) as server:
        wait_until(lambda: [one["state"] for one in names(server).values()] == ["ready"] * 9)
        assert {name: one["count"] for name, one in names(server).items()} == counts
        wait_until(lambda: all(b'"version":2' in file[:100] for file in peer.objects.values()))
        wait_until(lambda: idle(server))
    with serve(peer.url, "fresh") as server:
        wait_ready(server)
        assert {name: one["count"] for name, one in names(server).items()} == counts


def test_a_stop_in_order_sends_the_last_checkpoint(peer, serve):
    rows = items(40)
    with serve(peer.url) as server:
        wait_ready(server)
        with server.client() as client:
            client.create("words", 8, distance="euclidean").add(rows)
    assert peer.puts == [KEY.format("words")]
    with serve(peer.url, "fresh") as server:
        wait_ready(server)
        check(server, "words", rows)


def test_a_peer_that_hangs_at_the_start_keeps_neither_searches_nor_a_stop_waiting(peer, serve):
    rows = items(10)
    with serve(peer.url) as server:
        wait_ready(server)
        make(server, "words", rows)
        wait_until(lambda: idle(server))
    peer.hangs = True
    with serve(peer.url) as server:
        wait_until(lambda: names(server).get("words", {}).get("state") == "ready", 20)
        check(server, "words", rows)
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 20  # it is given up after 30


def test_a_peer_that_is_down_is_logged_once_and_filled_when_it_comes(serve):
    port, rows = free_port(), items(30)
    with serve(f"http://127.0.0.1:{port}") as server:
        wait_until(lambda: ready(server).json.get("peer") == "unreachable")
        answer = ready(server)  # nothing is here, and what the peer has is not known
        assert answer.status == 503 and answer.headers["retry-after"] == "1"
        make(server, "words", rows)
        check(server, "words", rows)
        wait_until(lambda: logged(server, "could not be copied"))
        failures = server.metric("lakehouse_peer_failures_total")  # of lists, or of the copy
        wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= failures + 4)
        assert len(logged(server, "could not be listed")) == 1
        assert len(logged(server, "could not be copied")) == 1
        with Peer(port) as peer:
            wait_until(lambda: KEY.format("words") in peer.objects and idle(server))
            wait_ready(server, 60)  # it was away for long, and is listed as seldom
            assert len(logged(server, "works again")) >= 1


def test_what_is_here_serves_while_the_peer_is_down(peer, serve):
    rows = items(30)
    with serve(peer.url) as server:
        wait_ready(server)
        make(server, "words", rows)
    with serve(f"http://127.0.0.1:{free_port()}") as server:
        wait_ready(server)
        wait_until(lambda: ready(server).json["peer"] == "unreachable")  # once it has been asked
        assert ready(server).status == 200
        check(server, "words", rows)
        with server.client() as client:
            client.create("new", 4)


def test_what_comes_late_appears(serve):
    rows, port = items(30), free_port()
    with Peer() as peer, serve(peer.url, "first") as server:
        wait_ready(server)
        make(server, "words", rows)
        make(server, "mine", rows)
        wait_until(lambda: len(peer.objects) == 2)
        objects = peer.objects
    with serve(f"http://127.0.0.1:{port}", "second") as server:
        wait_until(lambda: ready(server).json.get("peer") == "unreachable")
        make(server, "mine", rows[:3])
        with Peer(port, objects) as late:
            wait_until(lambda: names(server).get("words", {}).get("state") == "ready")
            check(server, "words", rows)
            check(server, "mine", rows[:3])  # what is here wins, and goes there
            wait_until(lambda: idle(server))
            assert late.objects[KEY.format("mine")] != objects[KEY.format("mine")]
            assert late.objects[KEY.format("words")] == objects[KEY.format("words")]


def test_adds_and_checkpoints_do_not_wait_for_a_peer_that_hangs(peer, serve):
    with serve(peer.url) as server:
        wait_ready(server)
        make(server, "words", items(10))
        wait_until(lambda: idle(server))
        peer.hangs = True
        slowest = 0
        with server.client() as client:
            index = client.index("words")
            for round_ in range(20):
                begin = time.monotonic()
                index.add(items(20, seed=round_))
                slowest = max(slowest, time.monotonic() - begin)
                if round_ % 5 == 0:
                    checkpoint(client, "words")
            checkpoint(client, "words")
        assert server.metric("lakehouse_peer_pending") == 1
        print(f"slowest add: {slowest * 1000:.1f} ms")
        assert slowest < 15  # the peer hangs for a minute, and is given up after half of one
        begin = time.monotonic()
        server.stop()  # and neither does a stop, for long
        assert time.monotonic() - begin < 20


@pytest.mark.parametrize("fault", ["truncates", "garbage", "wrong size", 500, 302])
def test_an_upload_that_is_not_confirmed_is_tried_again(peer, serve, fault):
    with serve(peer.url) as server:
        wait_ready(server)
        if isinstance(fault, int):
            peer.status = fault
        else:
            peer.put = fault
        make(server, "words", items(40))
        wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= 2)
        assert not peer.objects and server.metric("lakehouse_peer_pending") == 1
        assert len(logged(server, "could not be copied")) == 1
        with server.client() as client:
            client.index("words").add(items(50))
            checkpoint(client, "words")
        failures = server.metric("lakehouse_peer_failures_total")  # one may be of the old file
        wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= failures + 2)
        peer.status = peer.put = None
        wait_until(lambda: idle(server))
        assert peer.puts == [KEY.format("words")]  # the newest, and only that
        with open(os.path.join(data_dir(server), "_vectors", "words.lhv1"), "rb") as file:
            assert file.read() == peer.objects[KEY.format("words")]


def data_dir(server):
    return logged(server, "disk opened")[0]["data_dir"]


@pytest.mark.parametrize("fault", ["truncates", "short", "garbage", "flips", "size", "name"])
def test_a_download_that_is_not_whole_is_refused_and_tried_again(peer, serve, fault, tmp_path):
    rows = items(40)
    with serve(peer.url, "first") as server:
        wait_ready(server)
        make(server, "words", rows)
        wait_until(lambda: peer.objects)
    if fault == "size":
        peer.listing = json.dumps({"objects": [{"Key": KEY.format("words"), "Size": 5}]}).encode()
    elif fault == "name":
        peer.objects = {KEY.format("sworn"): peer.objects[KEY.format("words")]}
    else:
        peer.get = fault
    name = "sworn" if fault == "name" else "words"
    with serve(peer.url, "second") as server:
        wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= 2)
        told = names(server)[name]
        assert told["state"] == "failed" and "storaged peer" in told["reason"]
        assert len(logged(server, "could not be had")) == 1
        assert ready(server).status == 200
        assert not [file for file in files(tmp_path, "second") if file.endswith(".lhv1")]
        with server.client() as client:
            assert client.post("/v1/vectors/index", {"name": name, "dimension": 3}).status == 409
        if fault == "name":
            with server.client() as client:  # the way out of one that is never whole
                assert client.delete("/v1/vectors/index/sworn").status == 204
            wait_until(lambda: not peer.objects and not names(server))
            return
        peer.get = peer.listing = None
        wait_until(lambda: names(server)[name]["state"] == "ready")
        check(server, "words", rows)


@pytest.mark.parametrize("listing", [
    b"<html>", b"[]", b"{}", b'{"objects":[{"Key":7,"Size":1}]}',
    b'{"objects":[{"Key":"_vectors/a.lhv1","Size":"many"}]}',
    b'{"objects":[],"truncated":true}', b'{"objects":[],"truncated":true,"next_cursor":"same"}'])
def test_a_list_that_is_none_is_refused(peer, serve, listing):
    peer.listing = listing
    with serve(peer.url) as server:
        wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= 1)
        assert ready(server).json["peer"] == "unreachable" and ready(server).status == 503
        peer.listing = None
        wait_ready(server)


def test_a_slow_peer_keeps_nobody_waiting(peer, serve):
    rows = items(40)
    with serve(peer.url, "first") as server:
        wait_ready(server)
        make(server, "words", rows)
        wait_until(lambda: peer.objects)
    peer.get = "drips"
    with serve(peer.url, "second") as server:
        wait_until(lambda: names(server).get("words", {}).get("state") == "loading")
        assert ready(server).json["peer"] == "loading" and ready(server).status == 503
        with server.client() as client:
            assert client.index("words").get("i1").status == 503
            client.create("mine", 8).add(rows)  # another name is free
        peer.released.set()
        wait_ready(server)
        check(server, "words", rows)


def test_a_deletion_reaches_a_peer_that_was_down_across_a_restart(serve, tmp_path):
    port, rows = free_port(), items(20)
    url = f"http://127.0.0.1:{port}"
    with Peer(port) as peer:
        with serve(url) as server:
            wait_ready(server)
            make(server, "words", rows)
            make(server, "kept", rows)
            wait_until(lambda: len(peer.objects) == 2)
        objects = peer.objects
    with serve(url) as server:
        wait_ready(server)
        with server.client() as client:
            assert client.delete("/v1/vectors/index/words").status == 204
        assert [file for file in files(tmp_path) if file.startswith("words.")] == [
            file for file in files(tmp_path) if file.endswith(".gone")] != []
        server.process.send_signal(signal.SIGKILL)
        server.wait()
    with serve(url) as server:
        wait_ready(server)
        assert list(names(server)) == ["kept"]
        with Peer(port, objects) as peer:
            wait_until(lambda: idle(server))
            assert list(peer.objects) == [KEY.format("kept")]
            assert list(names(server)) == ["kept"]
            wait_until(lambda: files(tmp_path) == ["kept.lhv1"])
    with Peer(port, peer.objects), serve(url) as server:
        wait_ready(server)
        assert list(names(server)) == ["kept"]


def test_a_name_that_is_made_again_replaces_the_deleted_object(peer, serve, tmp_path):
    with serve(peer.url) as server:
        wait_ready(server)
        make(server, "words", items(20))
        wait_until(lambda: peer.objects and idle(server))
        old = peer.objects[KEY.format("words")]
        peer.status = 503
        with server.client() as client:
            assert client.delete("/v1/vectors/index/words").status == 204
        make(server, "words", items(5, 3, seed=9), 3)
        server.process.kill()
        server.wait()
    with serve(peer.url) as server:
        wait_ready(server)
        check(server, "words", items(5, 3, seed=9))
        peer.status = None
        wait_until(lambda: idle(server))
        assert peer.objects[KEY.format("words")] != old
        assert files(tmp_path) == ["words.lhv1"]
    with serve(peer.url, "fresh") as server:
        wait_ready(server)
        check(server, "words", items(5, 3, seed=9))


def test_a_kill_in_the_middle_of_an_upload_is_made_good_at_the_next_start(peer, serve):
    rows = items(3000, 64)
    with serve(peer.url) as server:
        wait_ready(server)
        peer.put = "stalls"
        make(server, "words", rows, 64)
        assert peer.putting.wait(20)
        server.process.kill()
        server.wait()
    peer.put = None
    peer.released.set()
    assert not peer.objects
    with serve(peer.url) as server:
        wait_ready(server)
        wait_until(lambda: idle(server))
        assert len(peer.objects) == 1
        peer.puts.clear()
    with serve(peer.url) as server:  # what is there already is not sent again
        wait_ready(server)
        wait_until(lambda: idle(server))
    assert not peer.puts


def test_a_damaged_file_does_not_replace_a_good_copy(peer, serve, tmp_path):
    with serve(peer.url) as server:
        wait_ready(server)
        make(server, "words", items(40))
        wait_until(lambda: idle(server))
        good = dict(peer.objects)
        peer.status = 500
        with server.client() as client:
            client.index("words").add(items(50))
            checkpoint(client, "words")
        server.process.kill()
        server.wait()
    with open(tmp_path / "here" / "_vectors" / "words.lhv1", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
        file.seek(0)
        damaged = file.read()
    peer.status = None
    with serve(peer.url) as server:  # what the log has of it comes back, or it is listed as failed
        wait_until(lambda: names(server).get("words", {}).get("state") in ("ready", "failed"))
        wait_until(lambda: idle(server))
        assert peer.objects[KEY.format("words")] != damaged
        assert peer.objects == good or names(server)["words"]["count"] == 50


def test_without_a_data_dir_a_folder_is_made_for_the_log(peer, tmp_path):
    with Server(f"vectord.storaged_url={peer.url}", prepare=lambda: os.chdir(tmp_path)) as server:
        assert data_dir(server) == "lakehouse-data"
        assert logged(server, "storaged peer")[0]["vectord.storaged_url"] == peer.url
        assert not logged(server, "ephemeral")
    assert (tmp_path / "lakehouse-data" / "wal").is_dir()


@pytest.mark.parametrize("made_again", [False, True])
def test_what_is_deleted_while_no_peer_is_configured_does_not_come_back(
        peer, serve, tmp_path, made_again):
    with serve(peer.url) as server:
        wait_ready(server)
        make(server, "words", items(20))
        make(server, "kept", items(20))
        wait_until(lambda: len(peer.objects) == 2 and idle(server))
        kept = peer.objects[KEY.format("kept")]
    with serve("") as server:
        wait_ready(server)
        with server.client() as client:
            for _ in range(3):  # however often, one tombstone
                assert client.delete("/v1/vectors/index/words").status == 204
                gone = [file for file in files(tmp_path) if file != "kept.lhv1"]
                assert gone == ["words.00000000-0000-0000-0000-000000000000.gone"]
                make(server, "words", items(7, seed=2))
            if not made_again:
                assert client.delete("/v1/vectors/index/words").status == 204
        server.kill()
    expected = ["kept", "words"] if made_again else ["kept"]
    with serve(peer.url) as server:
        wait_ready(server)
        assert sorted(names(server)) == expected
        wait_until(lambda: idle(server))
        assert sorted(peer.objects) == [KEY.format(name) for name in expected]
        assert peer.objects[KEY.format("kept")] == kept
        assert files(tmp_path) == [f"{name}.lhv1" for name in expected]
        if made_again:
            check(server, "words", items(7, seed=2))


def test_without_a_peer_ever_a_deletion_leaves_nothing(serve, tmp_path):
    with serve("") as server:
        make(server, "words", items(20))
        with server.client() as client:
            assert client.delete("/v1/vectors/index/words").status == 204
        assert os.listdir(tmp_path / "here" / "_vectors") == []


# ---- a disk here without room ----


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "size=3m")
    yield "small"
    unmount(folder)


def test_a_download_that_the_disk_has_no_room_for_is_had_once_there_is(
        peer, serve, small_disk, tmp_path):
    rows, few = items(5000, 256), items(30)
    with serve(peer.url, "first") as server:
        wait_ready(server)
        make(server, "words", rows, 256)
        make(server, "few", few)
        wait_until(lambda: len(peer.objects) == 2 and idle(server))
    objects = dict(peer.objects)
    with serve(peer.url, small_disk, "vectord.log_segment_bytes=64KiB") as server:
        wait_until(lambda: server.metric("lakehouse_peer_failures_total") >= 3)
        told = names(server)
        assert told["words"]["state"] == "failed"
        assert "No space left on device" in told["words"]["reason"], told["words"]
        refused = logged(server, "could not be had")
        assert len(refused) == 1 and "No space left on device" in refused[0]["reason"]
        check(server, "few", few)  # the others go on, and changes as well
        make(server, "mine", few)
        wait_until(lambda: sorted(  # no half of it but while it is tried, and nothing put aside
            file for file in files(tmp_path, small_disk) if "few" not in file) == ["mine.lhv1"])
        mount(tmp_path / small_disk, "size=64m", MS_REMOUNT)
        wait_until(lambda: names(server)["words"]["state"] == "ready")
        assert names(server)["words"]["count"] == len(rows)
        wait_until(lambda: idle(server))
    assert objects.items() <= peer.objects.items()  # what is there was not touched


# ---- how often ----


def test_what_cannot_be_had_is_asked_for_again_and_the_peer_is_not_hammered(peer, serve):
    with serve(peer.url, "first") as server:
        wait_ready(server)
        make(server, "words", items(40))
        wait_until(lambda: peer.objects)
    peer.get, peer.times = "garbage", []
    with serve(peer.url, "second") as server:
        wait_until(lambda: len(peer.times) >= 7)  # they grow twofold: 6.3 s and what it takes
        gaps = [after - before for before, after in zip(peer.times, peer.times[1:])]
        for number, gap in enumerate(gaps):  # 0.1, 0.2, ... 3.2 s, each by up to half of it less
            assert 0.045 * 2 ** number < gap, gaps
        assert sum("/get/" in path for _, path in peer.calls) <= len(peer.times)
        assert names(server)["words"]["state"] == "failed" and ready(server).status == 200


# ---- https ----


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Self-signed ones, each with its key: for this address, and for another."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, subject in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:storaged.example")):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}",
             "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"],
            check=True, capture_output=True)
    return {name: (str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
            for name in ("here", "elsewhere")}


def test_a_peer_behind_https_that_is_trusted_has_the_copies(serve, certificates):
    rows = items(3000, 64)
    env = {"SSL_CERT_FILE": certificates["here"][0]}
    with Peer(certificate=certificates["here"]) as peer:
        with serve(peer.url, "first", env=env) as server:
            wait_ready(server)
            make(server, "words", rows, 64)
            wait_until(lambda: peer.objects and idle(server))
        with serve(peer.url, "second", env=env) as server:
            wait_ready(server)
            assert names(server)["words"]["count"] == len(rows)


@pytest.mark.parametrize("of, trusted, reason", [
    ("here", None, "self-signed certificate"),
    ("here", "elsewhere", "self-signed certificate"),
    ("elsewhere", "elsewhere", "matches target host name '127.0.0.1'"),
])
def test_a_certificate_that_is_not_trusted_is_a_logged_error(
        serve, certificates, of, trusted, reason):
    env = {"SSL_CERT_FILE": certificates[trusted][0]} if trusted else None
    with Peer(certificate=certificates[of]) as peer:
        with serve(peer.url, env=env) as server:
            wait_until(lambda: logged(server, "could not be listed"))
            assert reason in logged(server, "could not be listed")[0]["reason"]
            assert ready(server).json["peer"] == "unreachable"
            make(server, "words", items(5))  # nothing here waits for it
            wait_until(lambda: logged(server, "could not be copied"))
            assert reason in logged(server, "could not be copied")[0]["reason"]
        assert not peer.calls and not peer.objects
