"""Answers in pieces, bodies that are streamed, and the look at each header, over raw sockets. The
services are those of pieces_server.c: the product's own routes cannot be made to misbehave."""

import os
import ssl
import subprocess
import tempfile
import threading
import time

import pytest

from lakehouse_server import Server, in_parallel, wait_until
import tls_help
from raw_http import CUT, RawClient, chunk, get

MIB = 1 << 20


class PiecesServer(Server):
    """Arguments as pieces_server.c takes them."""

    def __init__(self, *arguments):
        self.log = tempfile.TemporaryFile()
        binary = os.environ.get("PIECES_SERVER", "build/release/tests/pieces_server")
        files = tls_help.certificate() if tls_help.IS_ON else ("", "")
        self.process = subprocess.Popen(
            [binary, *files, *map(str, arguments)], stderr=self.log
        )
        self.ports = self.wait_for_ports()
        self.port = self.ports["gateway"]

    def seen(self):
        with self.client() as client:
            return client.get("/seen").json


@pytest.fixture
def server():
    with PiecesServer() as running:
        yield running


def expected(count, start=0):
    """The bytes that pieces_server.c makes."""
    return bytes(
        ((i * 2654435761) & 0xFFFFFFFF) >> 24 & 0xFF for i in range(start, start + count)
    )


def check_bytes(body, count):
    """Whole, and the same at both ends and at some places between: all of 64 MiB would take long."""
    assert len(body) == count
    for at in {0, count // 3, count // 2, max(0, count - 1000)}:
        some = min(1000, count - at)
        assert body[at : at + some] == expected(some, at)


def pieces(count, piece=65536, version="1.1", **query):
    extra = "".join(f"&{name}={value}" for name, value in query.items())
    return get(f"/pieces?bytes={count}&piece={piece}{extra}", version=version)


# ---- framing ----


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("count,piece", [(0, 1), (1, 1), (5, 2), (70000, 1000), (300000, 300000)])
def test_a_known_length_is_announced_and_kept(server, count, piece, delay):
    if delay and count > 10 * piece:
        piece = count // 5
    client = server.connect()
    for _ in range(2):  # the connection goes on
        client.send(pieces(count, piece, delay=delay))
        answer = client.answer()
        assert answer.status == 200 and answer.headers["content-length"] == str(count)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-note"] == "of the service"
        assert answer.body == expected(count)
    client.close()
    assert server.seen()["gone"] == 0


@pytest.mark.parametrize("count,piece", [(0, 1), (1, 1), (5, 2), (70000, 1000), (300000, 300000)])
def test_an_unknown_length_is_sent_chunked(server, count, piece):
    client = server.connect()
    for _ in range(2):
        client.send(pieces(count, piece, length="unknown"))
        answer = client.answer()
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == expected(count)
    client.close()


def test_http_1_0_gets_an_unknown_length_until_the_close(server):
    client = server.connect()
    client.send(
        get("/pieces?bytes=70000&piece=999&length=unknown", "Connection: keep-alive", version="1.0")
    )
    answer = client.answer(until_close=True)
    assert "transfer-encoding" not in answer.headers and answer.closes
    assert answer.body == expected(70000)


def test_http_1_0_keeps_its_connection_when_the_length_is_known(server):
    client = server.connect()
    for _ in range(2):
        client.send(get("/pieces?bytes=70000", "Connection: keep-alive", version="1.0"))
        answer = client.answer()
        assert answer.headers["connection"] == "keep-alive" and answer.body == expected(70000)
    client.send(get("/pieces?bytes=70000", version="1.0"))
    assert client.answer().closes
    assert client.at_eof()


def test_connection_close_is_honoured_after_the_last_piece(server):
    client = server.connect()
    client.send(get("/pieces?bytes=2000000&piece=100000", "Connection: close"))
    answer = client.answer()
    assert answer.closes
    check_bytes(answer.body, 2000000)
    assert client.at_eof()


@pytest.mark.parametrize("length", ["", "&length=unknown"])
def test_head_gets_the_header_and_the_service_is_told_once(server, length):
    client = server.connect()
    request = get("/pieces?bytes=123456" + length).replace("GET", "HEAD", 1)
    client.send(request + request + get("/pieces?bytes=3"))
    for _ in range(2):
        answer = client.answer(to_head=True)
        if length:
            assert answer.headers["transfer-encoding"] == "chunked"
        else:
            assert answer.headers["content-length"] == "123456"
    assert client.answer().body == expected(3)
    client.close()
    wait_until(lambda: server.seen()["gone"] == 2)


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_none(server, status):
    client = server.connect()
    client.send(pieces(0, status=status) + get("/pieces?bytes=3"))
    assert client.answer().status == status
    assert client.answer().body == expected(3)


def test_pipelined_answers_come_in_order(server):
    client = server.connect()
    counts = [300000, 0, 1, 70000, 65536, 2 * MIB]
    client.send(
        "".join(
            pieces(count, 50000 + i, delay=i % 2, **({"length": "unknown"} if i % 3 else {}))
            for i, count in enumerate(counts)
        )
    )
    for count in counts:
        check_bytes(client.answer().body, count)


# ---- bounds ----


def queued(server):
    return server.metric("lakehouse_http_answer_bytes_queued")


@pytest.mark.parametrize("length", ["known", "unknown"])
def test_a_large_answer_to_a_slow_reader_is_held_in_a_bounded_queue(server, length):
    count = 64 * MIB
    query = {} if length == "known" else {"length": "unknown"}
    client = server.connect(receive_bytes=65536)
    client.send(pieces(count, MIB, **query))
    wait_until(lambda: queued(server) > 0)  # the kernel's buffers are full
    most = 0
    for _ in range(20):
        client.fill()
        time.sleep(0.02)
        most = max(most, queued(server))
    assert 0 < most <= 2 * MIB + 65536  # the last of one piece, and the next
    assert server.resident_bytes() < 40 * MIB or server.is_sanitized()
    answer = client.answer()
    check_bytes(answer.body, count)
    client.close()
    wait_until(lambda: queued(server) == 0)


def test_past_the_bound_of_all_answers_each_holds_one_piece():
    with PiecesServer(30000, 5000, 2 * MIB) as server:
        clients = [server.connect(receive_bytes=65536) for _ in range(30)]
        for client in clients:
            client.send(pieces(100 * MIB, 100000))
            time.sleep(0.01)
        wait_until(lambda: queued(server) > 0)  # the kernel's buffers are full
        time.sleep(0.5)
        # One piece each, and what was let in before the bound was reached.
        assert 0 < queued(server) <= 2 * MIB + 256 * 1024 + 30 * 110000
        for client in clients[1:]:
            client.reset()
        wait_until(lambda: server.seen()["gone"] == 29)
        check_bytes(clients[0].answer().body, 100 * MIB)


def test_a_reader_that_is_fast_does_not_keep_the_loop_from_others(server):
    """The service gives the next piece whenever it is asked."""
    greedy = [server.connect() for _ in range(2)]
    for client in greedy:  # before other threads read: TLS bears one at a time
        client.send(pieces(1 << 50, 1000))
    done = threading.Event()

    def read(client):
        while not done.is_set():
            assert client.sock.recv(1 << 20)

    def ask():
        try:
            time.sleep(0.2)
            waits = []
            for _ in range(20):
                since = time.monotonic()
                assert server.ask(get("/seen")).status == 200
                waits.append(time.monotonic() - since)
            assert sorted(waits)[-3] < 2, "and not because the machine stood still"
        finally:
            done.set()

    in_parallel(ask, *(lambda client=client: read(client) for client in greedy))
    for client in greedy:
        client.reset()
    wait_until(lambda: server.seen()["gone"] == 2)


def test_a_reader_that_stops_is_cut_by_the_write_deadline():
    with PiecesServer(700) as server:
        client = server.connect(receive_bytes=65536)
        client.send(pieces(100 * MIB, MIB))
        wait_until(lambda: server.seen()["gone"] == 1, seconds=20)  # of 30 that are the default
        wait_until(lambda: server.metric("lakehouse_http_connections") <= 1)  # the asker's
        wait_until(lambda: queued(server) == 0)


def test_a_reader_that_is_slow_is_not_cut():
    """Progress is what its host acknowledges: the queue itself does not shrink, being refilled."""
    with PiecesServer(4000) as server:
        client = server.connect(receive_bytes=65536)
        client.send(pieces(100 * MIB, MIB))
        deadline = time.monotonic() + 9  # two deadlines of the server's, and more
        while time.monotonic() < deadline:
            assert len(client.take(65536)) == 65536
            time.sleep(0.1)
        assert server.seen()["gone"] == 0
        client.reset()
        wait_until(lambda: server.seen()["gone"] == 1)


def test_a_service_that_is_slow_is_not_a_reader_that_stops():
    with PiecesServer(300) as server:
        client = server.connect()
        client.send(pieces(3000, 1000, delay=1000))
        assert client.answer().body == expected(3000)


# ---- ends before the end ----


@pytest.mark.parametrize("delay", [0, 20])
def test_a_client_that_goes_in_the_middle_is_told_of_once(server, delay):
    for end in (RawClient.reset, RawClient.close):
        before = server.seen()["gone"]
        client = server.connect(receive_bytes=65536)
        client.send(pieces(100 * MIB, 100000, delay=delay))
        client.take(200000)
        end(client)
        wait_until(lambda: server.seen()["gone"] == before + 1)
    time.sleep(0.2)
    assert server.seen() == {**server.seen(), "gone": 2, "stream_gone": 0}


def test_a_client_that_only_ends_its_side_gets_all(server):
    client = server.connect()
    client.send(pieces(2 * MIB, 100000, delay=5))
    client.finish()
    check_bytes(client.answer().body, 2 * MIB)
    assert client.at_eof()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("length", ["known", "unknown"])
def test_an_answer_that_is_given_up_looks_cut(server, length, version):
    query = {} if length == "known" else {"length": "unknown"}
    client = server.connect()
    client.send(pieces(200000, 1000, version=version, delay=1, abort=3000, **query))
    with pytest.raises(CUT):
        client.answer(until_close=True)
    assert server.seen()["gone"] == 0  # the service knows
    wait_until(lambda: server.metric("lakehouse_http_requests_total", status="500") == 1)


# ---- while the body comes ----


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_is_answered_while_it_comes(server, framing):
    body = os.urandom(8 * MIB)
    client = server.connect(timeout=30)
    length = "Content-Length: %d" % len(body)
    framed = body
    if framing == "chunked":
        length = "Transfer-Encoding: chunked"
        framed = b"".join(chunk(body[at : at + 9999]) for at in range(0, len(body), 9999))
        framed += b"0\r\n\r\n"
    head = f"POST /echo HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n".encode()
    client.exchange(head + framed)
    answer = client.answer()
    assert answer.body == body
    assert answer.closes  # it was begun before the request's end was known


def test_the_first_bytes_come_back_before_the_last_are_sent(server):
    client = server.connect()
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    while b"\r\n\r\n" not in client.buffer:
        assert client.fill()
    client.buffer = client.buffer.split(b"\r\n\r\n", 1)[1]
    for word in (b"one", b"two", b"three"):
        client.send(chunk(word))
        assert client.line() == b"%x" % len(word) and client.take(len(word) + 2) == word + b"\r\n"
    client.send("0\r\n\r\n")
    assert client.line() == b"0" and client.line() == b""
    assert client.at_eof()


def test_an_answer_that_ends_before_the_body_arrives_whole(server):
    client = server.connect()
    client.send("POST /echo?stop=1000 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    client.send(b"a" * 3000000)  # far more than is asked for, while the answer is on its way
    answer = client.answer()
    assert answer.closes and len(answer.body) >= 1000
    assert set(answer.body) == {ord("a")}
    assert client.at_eof()
    assert server.seen()["gone"] == 0


@pytest.mark.parametrize("end", [b"xyz\r\n", None], ids=["malformed", "cut off"])
def test_a_body_that_breaks_off_cuts_the_answer(server, end):
    client = server.connect()
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(chunk(b"one"))
    while b"one\r\n" not in client.buffer:
        assert client.fill()
    if end is None:
        client.finish()
    else:
        client.send(end)
    with pytest.raises(CUT):
        client.rest()
    wait_until(lambda: server.seen()["gone"] == 1)
    time.sleep(0.1)
    assert server.seen() == {**server.seen(), "gone": 1, "stream_gone": 0}


def test_a_client_that_sends_and_does_not_read_is_bounded():
    """The service is paused with its answer; the write deadline ends it."""
    with PiecesServer(1000) as server:
        client = server.connect(receive_bytes=65536)
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        client.sock.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionError, ssl.SSLEOFError)):
            while True:
                client.send(b"a" * 100000)
        assert queued(server) <= MIB
        wait_until(lambda: server.seen()["gone"] == 1, seconds=20)


# ---- bodies ----


def put(path, body=b"", *lines, framing=None):
    framing = framing or "Content-Length: %d" % len(body)
    head = "\r\n".join([f"PUT {path} HTTP/1.1", "Host: a", framing, *lines, "", ""])
    return head.encode("latin-1") + body


@pytest.mark.parametrize("body", [b"", b"some"])
def test_a_paused_body_waits_its_end_too(server, body):
    chunked_body = (chunk(body) if body else b"") + b"0\r\n\r\n"
    client = server.connect()
    client.send(put("/held/a", body))
    assert client.answer().body == b"%d %d" % (len(body), len(body))
    client.send(put("/held/a", chunked_body, framing="Transfer-Encoding: chunked"))
    assert client.answer().body == b"%d %d" % (len(body), 2**64 - 1)


def test_a_streamed_body_is_bound_by_its_route_alone(server):
    assert server.ask(put("/held/a", b"a" * 100000)).status == 200
    client = server.connect()
    client.send(put("/held/a", framing="Content-Length: 100001"))
    answer = client.answer()
    assert answer.status == 413 and "100001 bytes, the limit is 100000" in answer.message
    assert answer.closes
    client = server.connect()
    client.send(put("/held/a", framing="Transfer-Encoding: chunked"))
    client.send(chunk(b"a" * 60000) + chunk(b"a" * 60000))
    answer = client.answer()
    assert answer.status == 413 and "longer than 100000 bytes" in answer.message
    assert server.seen() == {**server.seen(), "handled": 2, "ended": 1, "stream_gone": 1}
    # /echo has no limit, and body_bytes_max is not one of its either.
    client = server.connect(timeout=60)
    head = "POST /echo?stop=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"
    client.send(head + "a")
    assert client.answer().status == 200


@pytest.mark.parametrize(
    "raw,key",
    [
        ("a", b"a"),
        ("a/b//c/", b"a/b//c/"),
        ("", b""),
        ("a%2Fb", b"a/b"),
        ("a%252Fb", b"a%2Fb"),
        ("a+b%2Bc%20d", b"a+b+c d"),
        ("../..%2f.", b"../../."),
        ("%C3%BC/%e2%82%ac", "ü/€".encode()),
        ("=&%3f*()'!:@$,;~", b"=&?*()'!:@$,;~"),
        ("/".join("%02d" % i for i in range(60)), b"/".join(b"%02d" % i for i in range(60))),
    ],
)
def test_a_key_is_split_first_and_decoded_once(server, raw, key):
    assert server.ask(get("/key/" + raw)).body == key
    assert server.ask(get("/key/" + raw + "?a=b/c")).body == key


def test_a_key_with_a_nul_is_refused(server):
    assert server.ask(get("/key/a%00b")).status == 400


# ---- the look at each header ----


def test_what_is_refused_by_its_header_sends_no_body(server):
    client = server.connect()
    client.send(
        put("/held/a", framing="Content-Length: 50", *()).replace(
            b"\r\n\r\n", b"\r\nExpect: 100-continue\r\nX-Refuse: 1\r\n\r\n"
        )
    )
    answer = client.answer()  # no 100 before it
    assert answer.status == 401 and answer.closes
    assert server.seen() == {**server.seen(), "handled": 0, "stream_gone": 0}


def test_what_is_refused_by_its_header_keeps_its_connection_when_the_body_is_small(server):
    client = server.connect()
    client.send(put("/held/a", b"a" * 50, "X-Refuse: 1") + get("/seen").encode())
    answer = client.answer()
    assert answer.status == 401 and not answer.closes
    assert client.answer().json["handled"] == 0
    client.send(put("/held/a", b"a" * 99999, "X-Refuse: 1"))
    assert client.answer().closes


def test_what_is_refused_by_its_header_does_not_wait_for_body_memory():
    with PiecesServer(30000, 5000, 1 << 20) as server:
        holder = server.connect()
        holder.send("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n")
        wait_until(lambda: server.metric("lakehouse_http_body_bytes_in_flight") == 1048576)
        client = server.connect(timeout=9)  # the holder is given 10
        client.send(
            "POST /whole HTTP/1.1\r\nHost: a\r\nX-Refuse: 1\r\nContent-Length: 500000\r\n\r\n"
        )
        assert client.answer().status == 401


def test_a_call_says_who_calls_and_how(server):
    client = server.connect()
    client.send(get("/who?a=%20b", "X-One: 1", "X-Two:  two ", "X-One: again"))
    lines = client.answer().body.decode().splitlines()
    assert lines == [
        "00000000000000000000ffff7f000001",
        "handle_who 1",
        "GET /who?a=%20b",
        "data",
        "Host=test",
        "X-One=1",
        "X-Two=two",
        "X-One=again",
    ]


# ---- the end of the server ----


def test_a_stop_lets_an_answer_end(server):
    client = server.connect()
    client.send(pieces(50000, 10000, delay=100))
    client.fill()
    server.terminate()
    assert client.answer().body == expected(50000)
    assert client.at_eof()
    assert server.wait() == 0


def test_a_stop_cuts_what_does_not_end_in_time():
    with PiecesServer(30000, 500) as server:
        clients = [server.connect(receive_bytes=65536) for _ in range(3)]
        clients[0].send(pieces(100 * MIB, MIB))  # its reader has stopped
        clients[1].send(pieces(100000, 10, delay=100))
        clients[2].send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for client in clients:
            client.fill()
        server.terminate()
        assert server.wait() == 0
        for client in clients[:2]:
            with pytest.raises(CUT):
                client.answer()
