"""Objects whose bytes go from the page cache to the socket through pipes: what is sent is what was
put, whoever is slow, goes away, asks for more or changes the file meanwhile."""

import contextlib
import hashlib
import os
import random
import re
import shutil
import subprocess
import time

import pytest

import tls_help
from lakehouse_server import SERVICES, in_parallel, wait_until
from raw_http import CUT
from test_objects import Store

KIB, MIB = 1 << 10, 1 << 20
SPLICED = 64 * KIB  # LH_SPLICE_BYTES_MIN
PIPES = 32  # LH_PIPES_MAX


@pytest.fixture(params=["auto", "blocking"])
def store(request, tmp_path):
    with Store(tmp_path / "root", f"server.io={request.param}") as made:
        yield made


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


def put(store, key, size, seed=0):
    body = noise(size, seed)
    assert store.put(key, body).status == 200
    return body


def request(key, *lines, method="GET"):
    head = [f"{method} /v1/storage/get/{key} HTTP/1.1", "Host: x", *lines, "", ""]
    return "\r\n".join(head).encode()


def spliced(store):
    return store.server.metric("lakehouse_http_answer_bytes_spliced_total")


def descriptors(store):
    folder = f"/proc/{store.server.process.pid}/fd"
    found = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(os.path.join(folder, name)))
    return found


def unsent(store):
    """What stands in sockets of the server and has not been sent for the first time."""
    text = subprocess.run(["ss", "-tinH", "sport", "=", f":{store.server.port}"], check=True,
                          capture_output=True, text=True).stdout
    return sum(int(found) for found in re.findall(r" notsent:(\d+)", text))


def objects_open(store):
    """Descriptors of files under the root but its lock."""
    return [path for path in descriptors(store)
            if path.startswith(store.root + "/") and not path.endswith("lock")]


def pipes_open(store):
    return len({path for path in descriptors(store) if path.startswith("pipe:")})


def is_at_rest(store):
    """Nothing is held for an answer any more."""
    return (objects_open(store) == []
            and store.server.metric("lakehouse_http_answer_bytes_queued") == 0
            and store.server.metric("lakehouse_storaged_in_flight") == 0)


def test_long_objects_are_spliced_and_short_ones_are_not(store):
    for size in (1, 4096, SPLICED - 1, SPLICED, MIB - 1, MIB, MIB + 1, 3 * MIB + 4095, 9 * MIB):
        body = put(store, "object", size, size)
        before = spliced(store)
        assert store.get("object").body == body, size
        assert (spliced(store) > before) == (size >= SPLICED), size
        assert store.get("object", method="HEAD").headers["content-length"] == str(size)
    wait_until(lambda: is_at_rest(store))


def test_ranges_begin_and_end_anywhere(store):
    body = put(store, "object", 6 * MIB + 77)
    size = len(body)
    before = spliced(store)
    for first in (0, 1, 4095, 4096, 4097, MIB - 1, 3 * MIB + 12345):
        for length in (SPLICED, MIB, MIB + 1, 2 * MIB - 4095):
            got = store.get("object", Range=f"bytes={first}-{first + length - 1}")
            assert got.status == 206
            assert got.headers["content-range"] == f"bytes {first}-{first + length - 1}/{size}"
            assert got.body == body[first : first + length], (first, length)
    for last in (SPLICED, 2 * MIB + 1):
        assert store.get("object", Range=f"bytes=-{last}").body == body[-last:]
    assert spliced(store) - before > 20 * MIB


def test_conditions_hold_for_long_objects(store):
    body = put(store, "object", 2 * MIB)
    tag = store.get("object").headers["etag"]
    assert store.get("object", If_Match=tag).body == body
    assert store.get("object", If_Match='"other"').status == 412
    assert store.get("object", If_None_Match=tag).status == 304
    assert store.get("object", If_Range='"other"', Range="bytes=1-2").body == body


def test_a_slow_reader_gets_every_byte(store):
    body = put(store, "object", 24 * MIB)
    before = spliced(store)
    client = store.server.connect(receive_bytes=4096, timeout=60)
    client.send(request("object"))
    while b"\r\n\r\n" not in client.buffer:
        client.fill()
    head, got = client.buffer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200")
    client.buffer, got, chooser = b"", bytearray(got), random.Random(4)
    while len(got) < len(body):
        piece = client.sock.recv(chooser.choice((1, 100, 4096, 70000, MIB)))
        assert piece
        got += piece
        if chooser.random() < 0.01:
            time.sleep(0.02)
            assert store.client.get("/healthz").status == 200
    assert got == body
    assert client.is_quiet(0.1)
    # A full socket costs a copy of a page, not of all that comes behind it.
    assert spliced(store) - before > len(body) // 4
    client.close()
    wait_until(lambda: is_at_rest(store))


def test_pipelined_requests_are_answered_in_their_order(store):
    bodies = {f"{i}": put(store, f"{i}", size, i)
              for i, size in enumerate((3 * MIB, 10, MIB, SPLICED, SPLICED - 1, 2 * MIB + 5))}
    chooser = random.Random(9)
    wishes = [chooser.choice([*bodies, "none", "head", "range"]) for _ in range(60)]
    raw = b""
    for wish in wishes:
        if wish == "head":
            raw += request("0", method="HEAD")
        elif wish == "range":
            raw += request("5", f"Range: bytes=4097-{MIB + 5000}")
        else:
            raw += request(wish)
    client = store.server.connect(receive_bytes=65536, timeout=60)
    client.send(raw)
    for wish in wishes:
        answer = client.answer(to_head=wish == "head")
        if wish == "none":
            assert answer.status == 404
        elif wish == "head":
            assert answer.status == 200 and answer.headers["content-length"] == str(3 * MIB)
        elif wish == "range":
            assert answer.status == 206 and answer.body == bodies["5"][4097 : MIB + 5001]
        else:
            assert answer.status == 200 and answer.body == bodies[wish], wish
    assert client.is_quiet(0.1)
    client.close()


def test_the_end_of_a_connection_comes_behind_the_body(store):
    body = put(store, "object", 6 * MIB)
    for how in ("close", "half-close"):
        client = store.server.connect(receive_bytes=4096, timeout=60)
        client.send(request("object", *(["Connection: close"] if how == "close" else [])))
        if how == "half-close":
            client.finish()
        assert client.answer().body == body
        assert client.at_eof()
        client.close()


def test_clients_that_go_leave_nothing_open(store):
    put(store, "object", 8 * MIB)
    others = pipes_open(store)
    for i in range(2 * PIPES + 8):
        client = store.server.connect(receive_bytes=4096)
        client.send(request("object"))
        if i % 4 > 0:
            client.fill()
        if i % 2:
            client.reset()
        else:
            client.close()
    wait_until(lambda: is_at_rest(store))
    assert pipes_open(store) - others <= PIPES
    before = spliced(store)
    assert len(store.get("object").body) == 8 * MIB
    assert spliced(store) > before  # there are still pipes


def test_more_readers_than_pipes_are_all_served(store):
    body = put(store, "object", 3 * MIB)
    others = pipes_open(store)  # the loop's own
    readers = [store.server.connect(receive_bytes=65536, timeout=120) for _ in range(2 * PIPES)]
    for reader in readers:
        reader.send(request("object"))
    for reader in readers:
        reader.fill()
    assert 0 < pipes_open(store) - others <= PIPES
    digest = hashlib.blake2b(body).digest()

    def read(some):
        for reader in some:
            assert hashlib.blake2b(reader.answer().body).digest() == digest

    in_parallel(*(lambda some=readers[i::4]: read(some) for i in range(4)))
    wait_until(lambda: store.server.metric("lakehouse_http_answer_bytes_queued") == 0)
    for reader in readers:
        reader.close()


def test_what_the_page_cache_has_lost_is_read_from_the_disk(store):
    body = put(store, "object", 16 * MIB)
    with open(os.path.join(store.root, "object"), "rb") as file:
        for first in (0, 5 * MIB + 1):
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            before = spliced(store)
            got = store.get("object", Range=f"bytes={first}-").body
            assert got == body[first:]
            assert spliced(store) > before


def begin_reading(store, key):
    """A reader with little room, whose answer does not fit the socket."""
    client = store.server.connect(receive_bytes=4096)
    client.send(request(key))
    client.fill()
    wait_until(lambda: objects_open(store) != []
               and store.server.metric("lakehouse_http_answer_bytes_queued") > 0)
    return client


@pytest.mark.parametrize("size", [4 * MIB, 12 * MIB])
@pytest.mark.parametrize("change", ["shortened", "emptied", "written to", "appended to"])
def test_a_file_that_another_program_changes_ends_the_connection(store, change, size):
    put(store, "object", size)
    client = begin_reading(store, "object")
    path = os.path.join(store.root, "object")
    with open(path, "r+b") as file:
        if change == "shortened":
            os.truncate(path, size - 5)
        elif change == "emptied":
            os.truncate(path, 0)
        elif change == "written to":
            os.pwrite(file.fileno(), b"something else", size - 100)
        else:
            os.pwrite(file.fileno(), b"more", size)
    with pytest.raises(CUT):
        client.answer()
    client.close()
    wait_until(lambda: is_at_rest(store))
    warnings = [event for event in store.server.events() if event["level"] == "warn"]
    assert any("changed by another program" in event["event"] and event["file"] == path
               for event in warnings), warnings


def test_an_object_that_is_replaced_or_deleted_is_read_to_its_end(store):
    old = put(store, "object", 6 * MIB, 1)
    first = begin_reading(store, "object")
    new = put(store, "object", 6 * MIB, 2)
    second = begin_reading(store, "object")
    assert store.delete("object").status == 204
    assert first.answer().body == old
    assert second.answer().body == new
    assert store.get("object").status == 404


def test_a_reader_that_stands_still_is_cut_at_the_deadline(tmp_path):
    with Store(tmp_path / "root", "server.write_timeout=1s") as store:
        put(store, "object", 4 * MIB)
        client = store.server.connect(receive_bytes=4096)
        client.send(request("object"))
        assert client.fill()  # it has begun, and does not fit the socket
        wait_until(lambda: is_at_rest(store))
        with pytest.raises(CUT):
            client.answer()
        client.close()


def test_a_stop_waits_for_what_stands_in_a_pipe(store):
    body = put(store, "object", 5 * MIB)
    client = begin_reading(store, "object")
    store.server.terminate()
    assert client.answer().body == body
    client.close()
    assert store.server.wait() == 0


def test_over_tls_the_content_is_the_same(tmp_path):
    before, tls_help.IS_ON = tls_help.IS_ON, True
    try:
        with Store(tmp_path / "root") as store:
            body = put(store, "object", 5 * MIB + 1)
            assert store.get("object").body == body
            got = store.get("object", Range=f"bytes=4097-{3 * MIB}").body
            assert got == body[4097 : 3 * MIB + 1]
            assert spliced(store) == 0
    finally:
        tls_help.IS_ON = before


def test_where_pipes_are_refused_objects_are_read(tmp_path):
    """A process that may open no more descriptors than these: pipes are the first to be missing. It
    has no other service, whose threads might have one meanwhile."""
    others = (f"{name}.bind=none" for name in SERVICES if name != "storaged")
    with Store(tmp_path / "root", *others, binds=("storaged",)) as store:
        body = put(store, "object", 2 * MIB)
        wait_until(lambda: objects_open(store) == [])  # without a connection of its own
        limit = len(descriptors(store)) + 2  # a connection, and the object's file
        os_limit(store.server.process.pid, limit)
        client = store.server.connect("storaged")
        client.send(request("object"))
        assert client.answer().body == body
        assert client.is_quiet(0.1)
        client.close()
        os_limit(store.server.process.pid, 1024)
        assert spliced(store) == 0


def os_limit(pid, count):
    import resource

    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, 1024))


def test_where_tcp_paces_little_stands_unsent(store):
    """It would go out on the reader's core, which has enough to do."""
    with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="utf-8") as file:
        if not file.read().startswith("bbr"):
            pytest.skip("TCP does not pace here")
    if shutil.which("ss") is None:
        pytest.skip("ss is not here")
    body = put(store, "paced", 8 * MIB)
    client = store.server.connect(receive_bytes=65536, timeout=60)
    client.send(request("paced"))
    wait_until(lambda: unsent(store) > 0)
    time.sleep(0.2)  # it goes on as long as the socket takes more
    assert unsent(store) <= 512 * KIB  # LH__UNSENT_BYTES_MAX, and what is begun below it
    answer = client.answer()
    assert answer.status == 200 and answer.body == body
