"""The gateway before services in other processes: what goes on, what comes back, and what happens
when the other side does not keep to HTTP, or is not there."""

import hashlib
import re
import threading
import time

import pytest

import tls_help
from lakehouse_server import (
    WITHOUT_VECTORD, Client, Server, SplitServer, free_port, in_parallel, seeded, wait_until,
)
from raw_http import CUT, RawClient, chunked, get, post, post_chunked
from raw_upstream import Upstream, always
from tokens import bearer, secrets_file, token

INDEX = "/v1/vectors/index/a"
ADD = INDEX + "/add"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def upstream():
    """upstream(behave) is a service that behaves so."""
    running = []

    def make(behave, **options):
        running.append(Upstream(behave, **options))
        return running[-1]

    yield make
    for one in running:
        one.close()


@pytest.fixture
def gateway(start, upstream):
    """gateway(behave, *sets) is a gateway before such a service; .upstream is that. The gateway has
    asked whether it is ready and does not ask again, so all connections are the test's own."""

    def make(behave, *sets, path=""):
        behind = upstream(behave, answers_probe=True)
        running = start("vectord.bind=none", f"gateway.vectord_url={behind.url}{path}",
                        "gateway.proxy_probe_every=1h", *sets)
        running.upstream = behind
        with running.client() as client:
            wait_until(lambda: client.get("/readyz").json["services"] == {"vectord": "ready"})
        behind.stop_probing()
        wait_until(lambda: running.metric("lakehouse_upstream_connections") == 0)
        return running

    return make


def keeper(requests, *answer, **options):
    """A behaviour: keeps every request, and gives them this answer."""

    def behave(connection):
        while True:
            request = connection.request()
            if request is None:
                return
            requests.append(request)
            connection.answer(*answer, **options)

    return behave


# ---- shapes ----


def test_a_gateway_before_another_process_runs_no_vector_service(start, tmp_path):
    vectord = start("gateway.bind=none")
    assert "vectord" in vectord.ports and "gateway" not in vectord.ports
    gateway = start(f"gateway.vectord_url={tls_help.url(vectord.vectord_port)}",
                    f"vectord.data_dir={tmp_path}/data", binds=WITHOUT_VECTORD)
    assert "gateway" in gateway.ports and "vectord" not in gateway.ports
    assert {folder.name for folder in tmp_path.glob("data/*")} <= {"query"}  # no log
    with gateway.client() as client:
        index = client.create("words", 2)
        assert index.add([{"id": "a", "vector": [1, 2]}]) == {"added": 1, "updated": 0}
        wait_until(lambda: client.get("/readyz").status == 200)
        metrics = client.get("/metrics").body.decode()
    assert "lakehouse_shard_adds_total" not in metrics
    assert 'lakehouse_upstream_ready{service="vectord"} 1' in metrics
    with Client(vectord.vectord_port) as direct:
        assert [hit["id"] for hit in direct.index("words").search([1, 2])] == ["a"]


def test_a_bind_that_is_set_is_opened_beside_the_proxy(start):
    vectord = start("gateway.bind=none")
    both = start(f"gateway.vectord_url={tls_help.url(vectord.vectord_port)}")
    assert {"gateway", "vectord"} <= set(both.ports)
    with both.client() as far, Client(both.vectord_port) as near:
        far.create("far", 2)
        near.create("near", 2)
        assert [i["name"] for i in far.get("/v1/vectors/index").json["indexes"]] == ["far"]
        assert [i["name"] for i in near.get("/v1/vectors/index").json["indexes"]] == ["near"]
    with Client(vectord.vectord_port) as direct:
        assert [i["name"] for i in direct.get("/v1/vectors/index").json["indexes"]] == ["far"]


@pytest.mark.parametrize("bind,url", [
    ("127.0.0.1:{}", "http://127.0.0.1:{}"),
    ("127.0.0.1:{}", "http://127.0.0.1:{}/"),
    ("127.0.0.1:{}", "http://localhost:{}"),
    ("localhost:{}", "http://127.0.0.1:{}"),
    ("[::1]:{}", "http://[::1]:{}"),
])
def test_a_url_that_is_our_own_bind_is_no_other_process(start, bind, url):
    port = free_port()
    server = start("vectord.bind=" + bind.format(port), "gateway.vectord_url=" + url.format(port))
    assert server.vectord_port == port
    with server.client() as client:
        client.create("here", 2)
        assert "lakehouse_upstream" not in client.get("/metrics").body.decode()
        assert "services" not in client.get("/readyz").json


def test_a_url_that_is_our_own_gateway_is_no_other_process(start):
    port = free_port()
    server = start(f"gateway.bind=127.0.0.1:{port}", f"gateway.vectord_url={tls_help.url(port)}")
    with server.client() as client:
        client.create("here", 2)


def test_two_gateways_that_name_each_other_end_in_an_error(start):
    ports = free_port(), free_port()
    for own, other in (ports, ports[::-1]):
        last = start(f"gateway.bind=127.0.0.1:{own}", "vectord.bind=none",
                     f"gateway.vectord_url={tls_help.url(other)}")
    with last.client() as client:
        answer = client.get(INDEX)
    assert (answer.status, answer.code) == (508, "loop_detected")
    assert "vectord" in answer.message


# ---- what goes on ----


def test_rfc9110_s7_6_the_request_goes_on_as_a_gateway_sends_it(gateway):
    requests = []
    server = gateway(keeper(requests))
    client = server.connect()
    client.send("\r\n".join([
        "GET " + INDEX + "?a=%2f&b HTTP/1.1", "Host: outside.example:3110",
        "Connection: keep-alive, X-Mine, Via", "X-Mine: 1", "Keep-Alive: timeout=5", "TE: trailers",
        "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "Upgrade: h2c",
        "HTTP2-Settings: AAM", "Trailer: X-Sum", "Accept: */*", "Authorization: Bearer t",
        "X-Forwarded-For: 10.0.0.9", "Via: 1.0 edge", "X-Request-Id: 7c1e-a", "Cookie: a=1",
        "Cookie: b=2", "", ""]))
    while b"\r\n\r\n{}" not in client.buffer:
        assert client.fill()
    assert client.buffer.startswith(OK) and b"\r\nX-Request-Id: 7c1e-a\r\n" in client.buffer
    request, = requests
    assert request.line == "GET " + INDEX + "?a=%2f&b HTTP/1.1"
    names = [name.lower() for name, _ in request.fields]
    assert sorted(names) == sorted(["host", "accept", "authorization", "cookie", "cookie",
                                    "x-request-id", "x-forwarded-for", "via"])
    assert request.one("host") == "127.0.0.1:%d" % server.upstream.port
    assert request.one("x-forwarded-for") == "10.0.0.9, 127.0.0.1"
    assert request.one("via") == "1.0 edge, 1.1 lakehoused"
    assert request.one("x-request-id") == "7c1e-a"
    assert request.one("authorization") == "Bearer t"
    assert request.all("cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("target,wanted", [
    ("http://outside.example" + INDEX + "?x=1", INDEX + "?x=1"),
    (INDEX + "?x=http://a/b", INDEX + "?x=http://a/b"),
])
def test_rfc9112_s3_2_the_target_goes_on_in_origin_form(gateway, target, wanted):
    requests = []
    server = gateway(keeper(requests))
    assert server.ask(get(target)).status == 200
    assert requests[0].target == wanted


def test_the_path_of_a_url_stands_before_every_target(gateway):
    requests = []
    server = gateway(keeper(requests), path="/deep/er/")
    assert server.ask(get(INDEX)).status == 200
    assert requests[0].target == "/deep/er" + INDEX


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, 'a"', "\xe9"])
def test_a_request_id_that_cannot_stand_in_a_log_is_replaced(gateway, sent):
    requests = []
    server = gateway(keeper(requests))
    answer = server.ask(get(INDEX, "X-Request-Id: " + sent))
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    assert requests[0].one("x-request-id") == answer.headers["x-request-id"]


def test_a_body_keeps_its_framing_both_ways(gateway):
    requests = []

    def behave(connection):
        while True:
            request = connection.request()
            if request is None:
                return
            requests.append(request)
            if request.framing == "length":
                connection.answer(request.body)
            else:
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                chunked(request.body, b"!", trailers=b"X-Sum: 1\r\n"))

    server = gateway(behave)
    client = server.connect()
    client.send(post(ADD, b"12345"))
    answer = client.answer()
    assert answer.body == b"12345" and answer.headers["content-length"] == "5"
    client.send(post_chunked(ADD, chunked(b"abc", b"de", trailers=b"X-T: 1\r\n")))
    answer = client.answer()
    assert answer.body == b"abcde!" and answer.headers["transfer-encoding"] == "chunked"
    client.send(post(ADD, b""))
    assert client.answer().body == b""
    assert [(r.framing, r.body) for r in requests] == [
        ("length", b"12345"), ("chunked", b"abcde"), ("length", b"")]
    assert server.upstream.connections <= 2


def test_a_large_body_arrives_whole_both_ways(gateway):
    def behave(connection):
        while True:
            request = connection.request()
            if request is None:
                return
            connection.answer(request.body, "X-Sum: " + hashlib.md5(request.body).hexdigest())

    rng = seeded("large body")
    server = gateway(behave)
    with server.client() as client:
        for size in (65535, 65536, 65537, 1 << 20, 70 << 20):
            body = rng.randbytes(size)
            answer = client.post(ADD, body)
            assert answer.headers["x-sum"] == hashlib.md5(body).hexdigest()
            assert answer.body == body


def test_pipelined_requests_are_answered_in_order(gateway):
    def behave(connection):
        while True:
            request = connection.request()
            if request is None:
                return
            if request.target.endswith("/0"):
                time.sleep(0.2)
            connection.answer(request.target.encode())

    client = gateway(behave).connect()
    client.send("".join(get(f"{INDEX}/items/{i}") for i in range(20)))
    for i in range(20):
        assert client.answer().body == f"{INDEX}/items/{i}".encode()


# ---- what comes back ----


def test_rfc9110_s7_6_1_the_answer_loses_what_was_for_the_hop(gateway):
    server = gateway(always(b"ok", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=9",
                            "Content-Type: text/plain", "ETag: \"1\"", "Date: yesterday",
                            "X-Request-Id: theirs", "Set-Cookie: a=1", "Set-Cookie: b=2",
                            "Proxy-Authenticate: Basic", "Upgrade: h2c", "Server: other"))
    client = server.connect()
    client.send(get(INDEX))
    while not client.buffer.endswith(b"\r\n\r\nok"):
        assert client.fill()
    head = client.buffer.decode()
    names = sorted(line.split(":")[0].lower() for line in head.split("\r\n")[1:-2])
    assert names == sorted(["date", "content-length", "content-type", "etag", "x-request-id",
                            "set-cookie", "set-cookie", "server"])
    assert "yesterday" not in head and "theirs" not in head


def test_rfc9110_s15_2_interim_answers_are_swallowed(gateway):
    def behave(connection):
        while connection.request():
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                            b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.answer(b"done")

    client = gateway(behave).connect()
    for _ in range(2):
        client.send(get(INDEX))
        assert client.answer().body == b"done"


def test_an_answer_without_a_body_keeps_its_meaning(gateway):
    def behave(connection):
        while True:
            request = connection.request()
            if request is None:
                return
            if request.method == "HEAD":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n")
            elif request.method == "DELETE":
                connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                connection.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n"
                                b"ETag: \"1\"\r\n\r\n")

    server = gateway(behave)
    client = server.connect()
    for _ in range(2):
        client.send(get(INDEX).replace("GET", "HEAD", 1))
        assert client.answer(to_head=True).headers["content-length"] == "123456"
        client.send(get(INDEX).replace("GET", "DELETE", 1))
        assert client.answer().status == 204
        client.send(get(INDEX))
        answer = client.answer()
        assert (answer.status, answer.headers["etag"]) == (304, '"1"')
    assert server.upstream.connections <= 2


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_rfc9112_s6_3_a_body_may_end_with_the_connection(gateway, version):
    def behave(connection):
        connection.request()
        connection.send(b"HTTP/%s 200 OK\r\n\r\nhello " % version.encode())
        time.sleep(0.1)
        connection.send(b"you")

    server = gateway(behave)
    assert server.ask(get(INDEX)).body == b"hello you"


def test_an_http_1_0_client_is_answered_as_one(gateway):
    requests = []
    server = gateway(keeper(requests, b"old"))
    answer = server.ask(get(INDEX, version="1.0"))
    assert answer.body == b"old" and answer.closes
    assert requests[0].version == "HTTP/1.1" and requests[0].one("via") == "1.0 lakehoused"


# ---- Expect ----


def test_rfc9110_s10_1_1_the_upstream_says_whether_it_wants_the_body(gateway):
    def behave(connection):
        while True:
            request = connection.head()
            if request is None:
                return
            assert request.one("expect") == "100-continue"
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.body_of(request)
            connection.answer(request.body)

    client = gateway(behave).connect()
    for _ in range(2):
        head, body = post(ADD, b"body", "Expect: 100-continue").split(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert client.answer().status == 100
        client.send(body)
        assert client.answer().body == b"body"


def test_an_upstream_that_refuses_a_body_is_not_sent_it(gateway):
    def behave(connection):
        if connection.head():
            connection.answer(b"no", status="413 Content Too Large")
            assert connection.fill() is False, connection.buffer

    client = gateway(behave).connect()
    client.send(post(ADD, b"", "Expect: 100-continue", "Content-Length: 1000000", length=False))
    answer = client.answer()
    assert (answer.status, answer.body) == (413, b"no") and answer.closes


def test_an_upstream_that_ignores_expect_gets_the_body_after_a_while(gateway):
    client = gateway(always(b"got it")).connect()
    head, body = post(ADD, b"body", "Expect: 100-continue").split(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert client.answer().status == 100
    client.send(body)
    assert client.answer().body == b"got it"


def test_an_early_answer_ends_an_upload(gateway):
    told = threading.Event()

    def behave(connection):
        if connection.head():
            connection.answer(b"full", status="507 Insufficient Storage")
            told.wait(60)  # an end with bytes unread would be a reset

    client = gateway(behave).connect()
    client.send(post(ADD, b"", "Content-Length: 100000000", length=False))
    sent = 0
    while not client.buffer and sent < 100_000_000:
        client.exchange(bytes(50_000))
        sent += 50_000
    assert client.answer().body == b"full"
    told.set()
    assert sent < 100_000_000
    client.close()


# ---- faults before an answer ----


def after_request(raw, then="close"):
    def behave(connection):
        if connection.request():
            connection.send(raw)
            if then == "reset":
                connection.reset()
            elif then == "wait":
                connection.fill()

    return behave


FAULTS = {
    "closes at once": lambda connection: None,
    "resets at once": lambda connection: connection.reset(),
    "closes after the request": after_request(b""),
    "resets after the request": after_request(b"", "reset"),
    "closes in the status line": after_request(b"HTTP/1.1 20"),
    "resets in the header": after_request(OK + b"X: 1\r\n", "reset"),
    "closes in the header": after_request(OK + b"X: 1\r\n"),
    "closes in a short body": after_request(OK + b"Content-Length: 10\r\n\r\n12345"),
    "resets in a short body": after_request(OK + b"Content-Length: 10\r\n\r\n12345", "reset"),
    "answers garbage": after_request(b"\x00\xff garbage\r\n\r\n", "wait"),
    "answers SMTP": after_request(b"220 mail.example ESMTP\r\n\r\n", "wait"),
    "answers HTTP/0.9": after_request(b"<html>hello</html>\r\n\r\n", "wait"),
    "answers HTTP/2.0": after_request(b"HTTP/2.0 200 OK\r\n\r\n", "wait"),
    "answers status 99": after_request(b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", "wait"),
    "answers status 600": after_request(b"HTTP/1.1 600 Hi\r\nContent-Length: 0\r\n\r\n", "wait"),
    "switches protocols": after_request(b"HTTP/1.1 101 Sure\r\nUpgrade: x\r\n\r\n", "wait"),
    "never comes to the point": after_request(b"HTTP/1.1 102 Processing\r\n\r\n" * 100, "wait"),
    "both framings": after_request(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   b"0\r\n\r\n", "wait"),
    "two lengths": after_request(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
                                 "wait"),
    "a list of lengths": after_request(OK + b"Content-Length: 5, 5\r\n\r\n12345", "wait"),
    "a negative length": after_request(OK + b"Content-Length: -1\r\n\r\n", "wait"),
    "an unknown coding": after_request(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "wait"),
    "chunked in HTTP/1.0": after_request(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                         b"0\r\n\r\n", "wait"),
    "a bare CR": after_request(OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", "wait"),
    "a bare LF": after_request(OK + b"X: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", "wait"),
    "a NUL": after_request(OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n", "wait"),
    "a folded line": after_request(OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "wait"),
    "a space before the colon": after_request(OK + b"X : a\r\nContent-Length: 0\r\n\r\n", "wait"),
    "a header that is too long": after_request(OK + b"X: " + b"a" * 20000 + b"\r\n\r\n", "wait"),
    "too many fields": after_request(OK + b"X: a\r\n" * 200 + b"Content-Length: 0\r\n\r\n", "wait"),
    "a 204 with a body": after_request(b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\nabc", "wait"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_upstream_that_does_not_keep_to_http_is_a_bad_gateway(gateway, fault):
    server = gateway(FAULTS[fault])
    client = server.connect()
    for request in (get(INDEX), post(ADD, {"items": []})):
        client.send(request)
        answer = client.answer()
        assert (answer.status, answer.code) == (502, "bad_gateway")
        assert answer.message.startswith("vectord (127.0.0.1:%d): " % server.upstream.port)
    assert server.metric("lakehouse_upstream_failures_total") >= 2


def test_an_upstream_that_is_not_there_is_a_bad_gateway(start):
    server = start("vectord.bind=none", f"gateway.vectord_url={tls_help.url(free_port())}")
    answer = server.ask(get(INDEX))
    assert (answer.status, answer.code) == (502, "bad_gateway")
    assert answer.message.endswith("connection refused")


def test_a_name_that_nobody_knows_is_a_bad_gateway(start):
    server = start("vectord.bind=none", "gateway.vectord_url=http://no-such-host.invalid:1")
    answer = server.ask(get(INDEX))
    assert answer.status in (502, 504) and "no-such-host.invalid:1" in answer.message


def trickle(connection):
    if connection.request():
        for byte in OK:
            connection.send(bytes([byte]))
            time.sleep(0.1)


@pytest.mark.parametrize("behave", [
    lambda connection: connection.request() and connection.fill(),
    trickle,
    lambda connection: connection.request() and (connection.send(OK), connection.fill()),
    lambda connection: connection.request() and (
        connection.send(OK + b"Content-Length: 10\r\n\r\n12345"), connection.fill()),
], ids=["nothing", "a byte at a time", "half a header", "half a short body"])
def test_an_upstream_that_does_not_answer_in_time_is_a_gateway_timeout(gateway, behave):
    server = gateway(behave, "gateway.proxy_timeout=500ms")
    began = time.monotonic()
    answer = server.ask(get(INDEX))
    assert (answer.status, answer.code) == (504, "gateway_timeout")
    assert "500 ms" in answer.message
    assert 0.4 < time.monotonic() - began < 30  # of the 5 minutes that are the default


def test_a_slow_client_is_not_the_upstreams_fault(gateway):
    server = gateway(always(b"ok"), "gateway.proxy_timeout=5s", "server.body_rate_min=0")
    client = server.connect()
    client.send(post(ADD, b"", "Content-Length: 4", length=False))
    for byte in b"body":
        time.sleep(1.5)
        client.send(bytes([byte]))
    assert client.answer().body == b"ok"


# ---- faults within an answer ----

LARGE = 1 << 20


@pytest.mark.parametrize("raw", [
    OK + b"Content-Length: %d\r\n\r\n" % LARGE + bytes(1000),
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nnonsense\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nContent-Length: 5\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX: a\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n1;" + b"x" * 40000,
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\nX: " + b"a" * 40000,
], ids=["length", "chunked", "chunk garbage", "framing trailer", "bare LF trailer",
        "long extension", "long trailer"])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_an_upstream_that_dies_in_mid_answer_cuts_the_client(gateway, raw, then):
    server = gateway(after_request(raw, then))
    client = server.connect()
    client.send(get(INDEX))
    with pytest.raises(CUT):
        while client.fill():
            pass
        pytest.fail("the answer looks whole: %r" % client.buffer[-100:])
    assert server.ask(get("/healthz")).status == 200


def test_an_answer_that_stops_is_cut_after_a_while(gateway):
    server = gateway(after_request(OK + b"Content-Length: %d\r\n\r\n" % LARGE + bytes(1000), "wait"),
                     "gateway.proxy_timeout=4s")  # which the answer's beginning stays within
    client = server.connect()
    client.send(get(INDEX))
    with pytest.raises(CUT):
        while client.fill():
            pass


def test_what_comes_behind_an_answer_is_no_answer(gateway):
    """Response splitting: the second one was never asked for."""
    def behave(connection):
        while connection.request():
            connection.send(OK + b"Content-Length: 2\r\n\r\nok" +
                            OK + b"Content-Length: 4\r\n\r\nevil")

    server = gateway(behave)
    client = server.connect()
    for _ in range(5):
        client.send(get(INDEX))
        assert client.answer().body == b"ok"
        time.sleep(0.02)
    assert client.is_quiet(0.1)
    assert server.upstream.connections >= 5


def test_more_than_the_announced_length_is_not_passed_on(gateway):
    server = gateway(after_request(OK + b"Content-Length: 2\r\n\r\nokmore", "wait"))
    client = server.connect()
    for _ in range(3):
        client.send(get(INDEX))
        assert client.answer().body == b"ok"
    assert client.is_quiet(0.1)


# ---- kept connections ----


def test_connections_are_kept_and_used_again(gateway):
    server = gateway(always(b"ok"))
    with server.client() as client:
        for _ in range(50):
            assert client.get(INDEX).body == b"ok"
            assert client.post(ADD, b"x").body == b"ok"
    assert server.upstream.connections == 1
    assert server.metric("lakehouse_upstream_connections", state="idle") == 1


def test_an_upstream_that_closes_idle_connections_is_not_noticed(gateway):
    def behave(connection):
        connection.request()
        connection.answer(b"ok")

    server = gateway(behave)
    with server.client() as client:
        for _ in range(5):
            assert client.post(ADD, b"x").body == b"ok"
            wait_until(lambda: server.metric("lakehouse_upstream_connections") == 0)


def dies_when_reused(requests):
    """Answers one request on its first connection, and takes a second one to its grave."""
    def behave(connection):
        while True:
            request = connection.request()
            if request is None:
                return
            requests.append(request)
            if connection.number == 0 and len(requests) == 2:
                connection.reset()
                return
            connection.answer(b"ok")

    return behave


def test_a_safe_request_is_sent_again_when_a_kept_connection_was_dead(gateway):
    requests = []
    server = gateway(dies_when_reused(requests))
    with server.client() as client:
        assert client.get(INDEX).body == b"ok"
        assert client.get(INDEX + "/items").body == b"ok"
    assert [r.target for r in requests] == [INDEX, INDEX + "/items", INDEX + "/items"]
    assert server.metric("lakehouse_upstream_retries_total") == 1


@pytest.mark.parametrize("method,path,body", [
    ("POST", ADD, b"{}"), ("POST", INDEX + "/checkpoint", None), ("DELETE", INDEX, None)])
def test_a_request_that_may_have_been_done_is_not_sent_again(gateway, method, path, body):
    requests = []
    server = gateway(dies_when_reused(requests))
    with server.client() as client:
        assert client.get(INDEX).body == b"ok"
        answer = client.request(method, path, body=body)
    assert (answer.status, answer.code) == (502, "bad_gateway")
    assert [r.target for r in requests] == [INDEX, path]


def test_a_body_that_was_not_begun_goes_over_another_connection(gateway):
    heads = []

    def behave(connection):
        while True:
            request = connection.head()
            if request is None:
                return
            heads.append(request.target)
            if connection.number == 0 and len(heads) == 2:
                return
            connection.body_of(request)
            connection.answer(request.body)

    server = gateway(behave)
    client = server.connect()
    client.send(get(INDEX))
    assert client.answer().status == 200
    client.send(post(ADD, b"", "Content-Length: 4", length=False))
    wait_until(lambda: len(heads) == 3)
    client.send(b"body")
    assert client.answer().body == b"body"


def test_an_upstream_that_starts_again_is_found_again(start):
    port = free_port()
    gateway = start("vectord.bind=none", f"gateway.vectord_url={tls_help.url(port)}")
    with gateway.client() as client:
        for _ in range(2):
            vectord = start("gateway.bind=none", f"vectord.bind=127.0.0.1:{port}")
            wait_until(lambda: client.get("/readyz").status == 200)
            assert client.get("/v1/vectors/index").json == {"indexes": [], "count": 0}
            vectord.end()
            assert client.get("/v1/vectors/index").status == 502
            wait_until(lambda: client.get("/readyz").status == 503)


# ---- tokens ----

PEER, ALL, SOME = "p" * 40, "a" * 40, "s" * 40


def test_the_gateway_asks_for_tokens_and_brings_its_own(start, tmp_path):
    behind = secrets_file(tmp_path / "behind.toml", token("gateway", PEER, "admin"))
    before = secrets_file(tmp_path / "before.toml", token("all", ALL, "admin"),
                          token("some", SOME, "admin", indexes=["mine"]),
                          f'[peer]\ntoken = "{PEER}"\n')
    vectord = start("gateway.bind=none", behind)
    gateway = start(before, f"gateway.vectord_url={tls_help.url(vectord.vectord_port)}",
                    binds=WITHOUT_VECTORD)
    new = {"name": "mine", "dimension": 2}
    with gateway.client() as client, Client(vectord.vectord_port) as direct:
        assert client.post("/v1/vectors/index", new).status == 401
        assert client.post("/v1/vectors/index", new, headers=bearer(PEER)).status == 401
        assert direct.post("/v1/vectors/index", new, headers=bearer(ALL)).status == 401
        assert client.post("/v1/vectors/index", new, headers=bearer(ALL)).status == 201
        path = "/v1/vectors/index/"
        assert client.get(path + "mine", headers=bearer(SOME)).status == 200
        assert client.get(path + "other", headers=bearer(SOME)).status == 403
        # Which index a body names, nobody looks at on its way.
        for answer in (client.post("/v1/vectors/index", new, headers=bearer(SOME)),
                       client.get("/v1/vectors/index", headers=bearer(SOME))):
            assert (answer.status, answer.code) == (403, "forbidden")


# ---- objects ----


def test_objects_go_through_the_gateway(start, tmp_path):
    storaged = start("gateway.bind=none", "vectord.bind=none", "catalogd.bind=none",
                     "ingestd.bind=none", "queryd.bind=none", f"storaged.root={tmp_path}",
                     binds=["storaged"])
    gateway = start(f"gateway.storaged_url={tls_help.url(storaged.ports['storaged'])}")
    rng = seeded("objects")
    body = rng.randbytes(5 << 20)
    key = "a%20b/%E2%82%AC+c"
    with gateway.client() as client:
        put = client.request("PUT", "/v1/storage/put/" + key, body=body)
        assert put.status == 200 and put.json["size"] == len(body)
        whole = client.get("/v1/storage/get/" + key)
        assert whole.body == body and whole.headers["etag"]
        head = client.request("HEAD", "/v1/storage/get/" + key)
        assert head.headers["content-length"] == str(len(body)) and head.body == b""
        part = client.get("/v1/storage/get/" + key, headers={"Range": "bytes=70000-299999"})
        assert part.status == 206 and part.body == body[70000:300000]
        same = client.get("/v1/storage/get/" + key,
                          headers={"If-None-Match": whole.headers["etag"]})
        assert same.status == 304
        assert client.get("/v1/storage/list").json["objects"][0]["Size"] == len(body)
        assert client.delete("/v1/storage/delete/" + key).status == 204
        assert client.get("/v1/storage/get/" + key).code == "key_not_found"
        assert client.create("words", 2).info()["count"] == 0, "vectors are here"


# ---- limits ----


def test_past_the_pool_and_its_line_requests_are_refused(gateway):
    release = threading.Event()

    def behave(connection):
        while connection.request():
            release.wait(60)
            connection.answer(b"ok")

    server = gateway(behave, "gateway.proxy_connections=2", "gateway.proxy_waiting=3",
                     "gateway.proxy_connect_timeout=30s")
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        client.send(get(INDEX))
    wait_until(lambda: server.metric("lakehouse_upstream_waiting") >= 3)
    answer = server.ask(get(INDEX))
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    release.set()
    assert all(client.answer().body == b"ok" for client in clients)
    assert server.upstream.connections <= 2


def test_a_wait_for_a_connection_ends(gateway):
    release = threading.Event()

    def behave(connection):
        while connection.request():
            release.wait(60)
            connection.answer(b"ok")

    server = gateway(behave, "gateway.proxy_connections=1", "gateway.proxy_connect_timeout=4s")
    first = server.connect()
    first.send(get(INDEX))
    wait_until(lambda: server.metric("lakehouse_upstream_connections", state="busy") == 1)
    answer = server.ask(get(INDEX))
    assert (answer.status, answer.code) == (503, "overloaded")
    release.set()
    assert first.answer().body == b"ok"


def test_two_hundred_clients_at_once():
    with SplitServer("vectord.shards=2") as server:
        with server.client() as client:
            client.create("crowd", 3)

        def work(number):
            with server.client(timeout=60) as mine:
                index = mine.index("crowd")
                for round_ in range(5):
                    name = f"{number}-{round_}"
                    index.add([{"id": name, "vector": [number + 1, round_ + 1, 1]}])
                    assert index.get(name).json["id"] == name

        in_parallel(*[lambda n=n: work(n) for n in range(200)])
        with server.client() as client:
            assert client.index("crowd").info()["count"] == 1000
        assert server.gateway.metric("lakehouse_upstream_failures_total") == 0


def assert_grew_little(server, before):
    if not server.is_sanitized():  # a sanitizer keeps what was freed
        assert server.resident_bytes() - before < 24 << 20


def test_a_large_answer_waits_for_a_slow_client(gateway):
    total = 400 << 20
    sent = []

    def behave(connection):
        connection.request()
        connection.send(OK + b"Content-Length: %d\r\n\r\n" % total)
        for _ in range(total >> 20):
            connection.send(bytes(1 << 20))
            sent.append(1)

    server = gateway(behave)
    before = server.resident_bytes()
    client = server.connect(receive_bytes=65536)
    client.send(get(INDEX))
    while b"\r\n\r\n" not in client.buffer:
        assert client.fill()
    time.sleep(1.5)
    assert len(sent) < 60, "the gateway reads on for a client that does not"
    assert_grew_little(server, before)
    seen = len(client.buffer) - client.buffer.index(b"\r\n\r\n") - 4
    while seen < total:
        piece = client.sock.recv(1 << 20)
        assert piece
        seen += len(piece)
    assert_grew_little(server, before)


def test_a_large_request_waits_for_a_slow_upstream(gateway):
    release = threading.Event()

    def behave(connection):
        request = connection.head()
        release.wait(60)
        connection.body_of(request)
        connection.answer(str(len(request.body)).encode())

    total = 200 << 20
    server = gateway(behave)
    before = server.resident_bytes()
    client = server.connect(timeout=60)
    client.send(post(ADD, b"", f"Content-Length: {total}", length=False))
    sender = threading.Thread(target=client.send, args=(bytes(total),))
    sender.start()
    time.sleep(1.5)
    assert sender.is_alive()
    assert_grew_little(server, before)
    release.set()
    sender.join()
    assert client.answer().body == str(total).encode()
    assert_grew_little(server, before)


# ---- clients that leave ----


def test_a_client_that_leaves_in_mid_body_takes_the_exchange_along(gateway):
    heads, ends = [], []

    def behave(connection):
        request = connection.head()
        if request:
            heads.append(request)
            try:
                ends.append(connection.body_of(request))
            except ConnectionResetError:
                ends.append(None)

    server = gateway(behave)
    client = server.connect()
    client.send(post(ADD, b"half", "Content-Length: 8", length=False))
    wait_until(lambda: heads)
    client.reset()
    wait_until(lambda: ends == [None])
    assert server.ask(get("/healthz")).status == 200


def test_a_client_that_leaves_before_its_answer_takes_the_exchange_along(gateway):
    ends = []

    def behave(connection):
        if connection.request():
            connection.send(OK + b"Content-Length: %d\r\n\r\n" % (LARGE << 10))
            try:
                while True:
                    connection.send(bytes(LARGE))
            except OSError:
                ends.append("cut")

    server = gateway(behave)
    client = server.connect()
    client.send(get(INDEX))
    client.fill()
    client.reset()
    wait_until(lambda: ends == ["cut"])
    wait_until(lambda: server.metric("lakehouse_upstream_connections", state="busy") == 0)


@pytest.mark.parametrize("raw,body", [
    (get(INDEX).encode(), b""),
    (post(INDEX + "/search", b'{"vector":[1]}'), b'{"vector":[1]}'),
    (post_chunked(ADD, chunked(b"a" * 100_000)), b"a" * 100_000),
], ids=["no body", "length", "chunked"])
def test_an_upstream_sees_that_the_client_has_closed_its_side(gateway, raw, body):
    """It may know that nobody waits then; a client that reads on gets its answer all the same."""
    seen = []

    def behave(connection):
        while request := connection.request():
            seen.append(request.body)
            if connection.fill():
                seen.append("something follows")
            seen.append("end")
            connection.answer(b"{}")
            return

    server = gateway(behave)
    client = server.connect()
    client.send(raw)
    wait_until(lambda: seen == [body])
    time.sleep(0.1)
    assert seen == [body]
    client.finish()
    assert client.answer().status == 200
    assert client.at_eof()
    client.close()
    assert seen == [body, "end"]
    wait_until(lambda: server.metric("lakehouse_upstream_connections", state="busy") == 0)


def test_a_connection_whose_side_is_closed_serves_no_other_request(gateway):
    numbers = []

    def behave(connection):
        while connection.request():
            numbers.append(connection.number)
            connection.answer(b"{}")

    server = gateway(behave)
    for _ in range(5):
        client = server.connect()
        client.send(get(INDEX))
        client.finish()
        assert client.answer().status == 200
        client.close()
    with server.client() as client:
        assert [client.get(INDEX).status for _ in range(5)] == [200] * 5
    assert len(numbers) == 10 and server.metric("lakehouse_upstream_failures_total") == 0


def test_an_upstream_is_reset_when_its_client_is_gone(gateway):
    ends = []

    def behave(connection):
        if connection.request():
            ends.append("asked")
            try:
                # Python's TLS tells a reset as an end.
                ends.append("reset" if not connection.fill() and tls_help.IS_ON else "an end")
            except ConnectionResetError:
                ends.append("reset")

    server = gateway(behave)
    client = server.connect()
    client.send(post(INDEX + "/search", b"{}"))
    wait_until(lambda: ends == ["asked"])
    client.reset()
    wait_until(lambda: ends == ["asked", "reset"])
    wait_until(lambda: server.metric("lakehouse_upstream_connections", state="busy") == 0)


# ---- readiness, stop ----


def test_readyz_says_what_cannot_be_reached(start, upstream):
    state = ["503 Service Unavailable"]

    def behave(connection):
        while connection.until(b"\r\n\r\n") is not None:
            connection.answer(b"{}", status=state[0])

    behind = upstream(behave)
    server = start("vectord.bind=none", f"gateway.vectord_url={behind.url}")
    with server.client() as client:
        answers = []

        def is_told(status):
            answers.append(client.get("/readyz"))
            return answers[-1].json["services"] == {"vectord": status}

        wait_until(lambda: is_told("loading"))
        answer = answers[-1]
        assert (answer.status, answer.json["status"]) == (503, "loading")
        assert answer.headers["retry-after"] == "1"
        state[0] = "200 OK"
        wait_until(lambda: is_told("ready"))
        assert answers[-1].status == 200
        assert answers[-1].json == {"status": "ready", "services": {"vectord": "ready"}}
        behind.behave = lambda connection: None
        behind.stop_listening()
        state[0] = "500 Bad\r\nConnection: close"
        wait_until(lambda: client.get("/readyz").status == 503)
        wait_until(lambda: "connection refused" in client.get("/readyz").json["reason"])
        assert client.get("/readyz").json["status"] == "unreachable"
        assert client.get("/healthz").status == 200


def test_an_upstream_that_hangs_is_not_ready(start, upstream):
    behind = upstream(lambda connection: connection.until(b"never") is None)
    server = start("vectord.bind=none", f"gateway.vectord_url={behind.url}")
    with server.client() as client:
        wait_until(lambda: "readyz" in client.get("/readyz").json.get("reason", ""))
        assert client.get("/readyz").json["status"] == "unreachable"


def test_a_stop_waits_for_what_is_on_its_way(gateway):
    began, release = threading.Event(), threading.Event()

    def behave(connection):
        while connection.request():
            began.set()
            release.wait(60)
            connection.answer(b"in time")

    server = gateway(behave, "server.drain_timeout=60s")
    client = server.connect()
    client.send(get(INDEX))
    assert began.wait(60)
    server.terminate()
    server.wait_for_event("stopping")
    release.set()
    answer = client.answer()
    assert answer.body == b"in time" and answer.closes
    assert server.wait() == 0


def test_a_stop_does_not_wait_for_ever(gateway):
    began = threading.Event()

    def behave(connection):
        if connection.request():
            began.set()
            connection.fill()

    server = gateway(behave, "server.drain_timeout=300ms")
    client = server.connect()
    client.send(get(INDEX))
    assert began.wait(60)
    server.terminate()
    assert server.wait(60) == 0
    answer = client.answer()
    assert (answer.status, answer.code) == (503, "stopping")


def test_a_second_signal_ends_it_with_exchanges_under_way(gateway):
    began = threading.Event()

    def behave(connection):
        if connection.request():
            began.set()
            connection.fill()

    server = gateway(behave, "server.drain_timeout=1h")
    client = server.connect()
    client.send(get(INDEX))
    assert began.wait(60)
    server.terminate()
    server.wait_for_event("stopping")  # signals that come together are one
    server.terminate()
    assert server.wait(60) == 1
    client.close()


def test_a_url_that_cannot_be_used_is_told_at_the_start(start):
    with pytest.raises(AssertionError, match="gateway.vectord_url"):
        start("gateway.vectord_url=ftp://127.0.0.1:1")
    with pytest.raises(AssertionError, match="every bind"):
        start(*(f"{name}.bind=none" for name in
                ("gateway", "vectord", "storaged", "catalogd", "ingestd", "queryd")))
