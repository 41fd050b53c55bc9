"""Objects when things go wrong: uploads that break off, disks that are full, servers that are
killed, and many who write one key. Nothing is left over, and what was answered is there."""

import collections
import os
import resource
import threading
import time

import pytest

from lakehouse_server import in_parallel, mount, unmount, wait_until
from test_objects import Store

PUT = "PUT /v1/storage/put/{} HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n"
LENGTH = "Content-Length: {}"
CHUNKED = "Transfer-Encoding: chunked"
MIB = 1 << 20


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "root") as made:
        yield made


def temporary(store):
    return os.listdir(os.path.join(store.root, "%tmp"))


# ---- uploads that break off ----


@pytest.mark.parametrize("how,key", [
    *((how, key) for how in ("reset", "close", "half-close", "a bad chunk")
      for key in ("old", "new", "in/new/folders")),
    ("silence", "in/new/folders")])
def test_an_upload_that_breaks_off_leaves_nothing(store, how, key):
    assert store.put("old", b"as it was").status == 200
    client = store.server.connect(timeout=60)
    if how == "a bad chunk":
        client.send(PUT.format(key, CHUNKED).encode())
        for _ in range(24):
            client.send(b"10000\r\n" + bytes(65536) + b"\r\n")
    else:
        client.send(PUT.format(key, LENGTH.format(3 * MIB)).encode() + bytes(3 * MIB // 2))
    wait_until(lambda: temporary(store) != [])
    assert store.get("old").body == b"as it was"
    if how == "reset":
        client.reset()
    elif how == "close":
        client.close()
    elif how == "half-close":
        client.finish()
        assert client.answer().status == 400
    elif how == "a bad chunk":
        client.send(b"zz\r\n")
        assert client.answer().status == 400
    else:  # below server.body_rate_min
        assert client.answer().status == 408
    wait_until(lambda: temporary(store) == [])
    wait_until(lambda: store.server.metric("lakehouse_objects_in_flight") == 0)
    assert store.keys() == ["old"] and store.get("old").body == b"as it was"
    assert sorted(os.listdir(store.root)) == ["%lock", "%tmp", "old"]


def test_more_than_was_announced_belongs_to_the_next_request(store):
    client = store.server.connect()
    client.send(PUT.format("k", LENGTH.format(3)).encode() + b"abcGET /healthz HTTP/1.1\r\n"
                b"Host: x\r\n\r\n")
    assert client.answer().json["size"] == 3
    assert client.answer().status == 200
    assert store.get("k").body == b"abc"


# ---- no room ----


def expect_full(store, answer):
    assert (answer.status, answer.code) == (507, "no_space")
    assert temporary(store) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "size=8m")
    try:
        with Store(folder / "root") as store:
            assert store.put("old", b"x" * MIB).status == 200
            for key in ("old", "new"):
                expect_full(store, store.put(key, bytes(16 * MIB)))
            client = store.server.connect()
            client.send(PUT.format("new", CHUNKED).encode())
            try:  # of a length that nobody knows
                for _ in range(256):
                    client.send(b"10000\r\n" + bytes(65536) + b"\r\n")
            except OSError:
                pass  # it was answered before that
            expect_full(store, client.answer())
            assert store.keys() == ["old"] and store.get("old").body == b"x" * MIB
            with open(folder / "filler", "wb", buffering=0) as filler:
                with pytest.raises(OSError):
                    while True:
                        filler.write(bytes(MIB))
            expect_full(store, store.put("new", bytes(MIB)))
            assert store.delete("old").status == 204
            os.unlink(folder / "filler")
            assert store.put("new", b"y" * MIB).status == 200
            assert store.get("new").body == b"y" * MIB
    finally:
        unmount(folder)


def test_a_disk_that_does_not_count_its_blocks_is_not_full(tmp_path):
    """A tmpfs without a limit has no blocks at all, if one asks."""
    folder = tmp_path / "uncounted"
    folder.mkdir()
    mount(folder, "size=0")
    try:
        assert os.statvfs(folder).f_blocks == 0
        with Store(folder / "root", f"vectord.data_dir={folder}/data") as store:
            assert store.put("k", b"x" * (3 * MIB)).status == 200
            assert store.get("k").body == b"x" * (3 * MIB)
            index = store.client.create("i", 256)
            vectors = [{"id": str(i), "vector": [i + 1.0] * 256} for i in range(64)]
            assert index.add(vectors)["added"] == 64
    finally:
        unmount(folder)


def test_no_room_for_another_file_is_told_and_leaves_nothing(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount(folder, "size=8m,nr_inodes=40")
    try:
        with Store(folder / "root") as store:
            kept = 0
            while (answer := store.put(f"f{kept}", b"1")).status == 200:
                kept += 1
            expect_full(store, answer)
            expect_full(store, store.put("in/folders/k", b"1"))
            assert len(store.keys()) == kept > 10
            assert store.delete("f0").status == 204
            assert store.put("f0", b"2").status == 200
    finally:
        unmount(folder)


def test_a_file_that_may_not_be_so_large_is_told(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    with Store(tmp_path / "root", prepare=limit) as store:
        expect_full(store, store.put("k", bytes(2 * MIB)))
        assert store.put("k", b"1").status == 200


# ---- many who write one key ----


def test_readers_see_one_version_or_another_while_many_write_a_key(store):
    versions = [bytes([65 + i]) * (200_000 + i) for i in range(6)]
    begin = time.monotonic()
    seen = collections.Counter()

    def goes_on():
        """For 3 s, and until some versions have been seen, however slow the disk is."""
        return time.monotonic() < begin + (60 if len(seen) <= 2 else 3)

    def write(version):
        with store.server.client() as client:
            while goes_on():
                assert client.request("PUT", "/v1/storage/put/hot", version).status == 200

    def read():
        with store.server.client() as client:
            while goes_on():
                answer = client.get("/v1/storage/get/hot")
                assert answer.status in (200, 404)
                assert answer.status == 404 or answer.body in versions
                seen[answer.body[:1]] += 1

    def delete():
        with store.server.client() as client:
            while goes_on():
                assert client.delete("/v1/storage/delete/hot").status == 204
                time.sleep(0.05)

    in_parallel(*(lambda version=version: write(version) for version in versions),
                read, read, delete)
    assert len(seen) > 2 and temporary(store) == []
    assert store.put("hot", b"last").status == 200
    assert store.keys() == ["hot"] and store.get("hot").body == b"last"


def test_of_many_who_create_a_key_one_does(store):
    created = collections.Counter()

    def race():
        with store.server.client() as client:
            for i in range(40):
                answer = client.request("PUT", f"/v1/storage/put/k{i}", bytes(1000),
                                        headers={"If-None-Match": "*"})
                assert answer.status in (200, 412)
                created[i] += answer.status == 200

    in_parallel(*[race] * 8)
    assert created == {i: 1 for i in range(40)}


# ---- kill ----


def test_a_kill_leaves_what_was_answered_and_no_half(tmp_path):
    """Each writer has keys of its own, so the last that was answered, or the one behind it, is
    there."""
    root, keys, answered = tmp_path / "root", 4, {}

    def body(writer, number):
        return f"{writer}-{number};".encode() * 20_000

    def write(store, writer):
        for number in range(1, 1_000_000):
            key = f"w{writer}/k{number % keys}"
            try:
                with store.server.client() as client:
                    answer = client.request("PUT", f"/v1/storage/put/{key}", body(writer, number))
            except OSError:
                return
            assert answer.status == 200
            answered[key] = number

    for _ in range(3):
        answered.clear()
        store = Store(root)
        writers = [threading.Thread(target=write, args=(store, i)) for i in range(4)]
        for thread in writers:
            thread.start()
        wait_until(lambda: len(answered) == 4 * keys)
        store.server.kill()
        for thread in writers:
            thread.join()
        store.client.close()
        with Store(root) as again:
            assert temporary(again) == []
            assert set(again.keys()) == set(answered)
            for key, number in answered.items():
                writer = int(key[1])
                assert again.get(key).body in (body(writer, number), body(writer, number + keys))
