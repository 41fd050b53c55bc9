"""Connections: framing of bodies, pipelines, keep-alive, closing, deadlines, limits and stop.
Section numbers are those of RFC 9112 unless another document is named."""
import contextlib
import socket
import ssl
import threading
import time

import pytest

import tls_help
from lakehouse_server import wait_until
from raw_http import chunked, get, post, post_chunked

INDEX = "/v1/vectors/index"
# Deadlines of a header are those of the TLS handshake before it, too, which takes this process.
HEADER_SECONDS = 5 if tls_help.IS_ON else 1
NO_INDEX = b'{"name":"x"}'  # no dimension: always 400, and never makes an index


# ---- delivery ----


def test_a_request_byte_by_byte(server):
    client = server.connect()
    for byte in post(INDEX, NO_INDEX):
        client.send(bytes([byte]))
        time.sleep(0.0005)
    answer = client.answer()
    assert (answer.status, answer.code) == (400, "invalid_argument")
    client.close()


def test_a_chunked_body_byte_by_byte(server):
    client = server.connect()
    for byte in post_chunked(INDEX, chunked(NO_INDEX[:5], NO_INDEX[5:])):
        client.send(bytes([byte]))
        time.sleep(0.0005)
    assert client.answer().code == "invalid_argument"
    client.send(get())
    assert client.answer().status == 200
    client.close()


def test_s9_3_2_fifty_pipelined_requests_are_answered_in_order(server):
    client = server.connect()
    client.send("".join(get("/v1/none-%d" % i) if i % 2 else get() for i in range(50)))
    for i in range(50):
        answer = client.answer()
        assert answer.status == (404 if i % 2 else 200)
        if i % 2:
            assert "/v1/none-%d" % i in answer.message
    assert client.is_quiet(0.1)
    client.close()


def test_s9_3_2_pipelined_requests_that_other_threads_answer_keep_their_order(server):
    client = server.connect()
    wave = b""
    for i in range(50):
        wave += post(INDEX + "/none-%d/search" % i, b'{"vector":[1]}') + get().encode()
    client.send(wave)
    for i in range(50):
        answer = client.answer()
        assert (answer.status, answer.code) == (404, "index_not_found")
        assert client.answer().status == 200
    client.close()


def test_a_body_pipelined_behind_a_body(server):
    client = server.connect()
    client.send(post(INDEX, NO_INDEX) + post_chunked(INDEX, chunked(NO_INDEX)) + get().encode())
    assert [client.answer().status for _ in range(3)] == [400, 400, 200]
    client.close()


# ---- chunked bodies ----


@pytest.mark.parametrize("framed", [
    chunked(b"{}", b"[]", trailers=b"X-Trailer: a\r\n"),
    b"2;name=value\r\n{}\r\n0\r\n\r\n",
    b'2;name="quoted"\r\n{}\r\n0;last\r\n\r\n',
    b"002\r\n{}\r\n000\r\n\r\n",
    b"A\r\n{        }\r\n0\r\n\r\n",
], ids=["trailers", "extension", "quoted_extension", "leading_zeros", "upper_case_hexadecimal"])
def test_s7_1_chunk_extensions_and_trailers_are_ignored(server, framed):
    client = server.connect()
    client.send(post_chunked(INDEX, framed) + get().encode())
    assert client.answer().status == 400  # the body is read, and is not an index
    assert client.answer().status == 200
    client.close()


@pytest.mark.parametrize("framed", [
    b"g\r\n{}\r\n0\r\n\r\n",
    b"-2\r\n{}\r\n0\r\n\r\n",
    b"0x2\r\n{}\r\n0\r\n\r\n",
    b"\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}xx0\r\n\r\n",
    b"2\r\n{}\n0\r\n\r\n",
    b"2\r{}\r\n0\r\n\r\n",
    b"2 \r\r\n{}\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
], ids=["no_number", "negative", "with_0x", "empty_size", "no_crlf_behind_the_data",
        "lf_behind_the_data", "cr_behind_the_size", "cr_in_the_chunk_line", "over_64_bits"])
def test_s7_1_malformed_chunks_close_the_connection(server, framed):
    client = server.connect()
    client.send(post_chunked(INDEX, framed + get().encode()))
    answer = client.answer()
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.closes and client.at_eof()
    client.close()


INDEX_BODY = b"2\r\n{}\r\n"

BAD_TRAILERS = {
    "s7_1_a_bare_lf_ends_the_section": b"0\r\n\n",
    "s7_1_a_bare_lf_behind_the_last_chunk": b"0\n\r\n",
    "s7_1_a_bare_lf_behind_a_last_chunk_with_extension": b"0;a=b\n\r\n",
    "s7_1_1_a_bare_lf_in_a_quoted_extension": b'0;a="\n"\r\n\r\n',
    "s7_1_1_a_bare_cr_in_a_quoted_extension": b'0;a="\rb"\r\n\r\n',
    "s7_1_1_a_nul_in_an_extension": b"0;a=\0\r\n\r\n",
    "s7_1_a_cr_and_something_else_behind_the_last_chunk": b"0\r\n\rX\r\n\r\n",
    "s7_1_2_a_bare_lf_behind_a_field": b"0\r\nX-Abc: a\n\r\n",
    "s7_1_2_a_bare_lf_ends_the_section_behind_a_field": b"0\r\nX-Abc: a\r\n\n",
    "s7_1_2_a_bare_cr_inside_a_value": b"0\r\nX-Abc: a\rTransfer-Encoding: chunked\r\n\r\n",
    "s7_1_2_a_bare_cr_before_a_name": b"0\r\n\rX-Abc: a\r\n\r\n",
    "s7_1_2_a_nul_in_a_value": b"0\r\nX-Abc: a\0b\r\n\r\n",
    "s7_1_2_a_delete_byte_in_a_value": b"0\r\nX-Abc: a\x7fb\r\n\r\n",
    "s7_1_2_a_nul_in_a_name": b"0\r\nX\0Abc: a\r\n\r\n",
    "s7_1_2_a_name_that_is_no_token": b"0\r\nX(Abc): a\r\n\r\n",
    "s7_1_2_an_empty_name": b"0\r\n: a\r\n\r\n",
    "s7_1_2_a_space_before_the_colon": b"0\r\nX-Abc : a\r\n\r\n",
    "s7_1_2_a_line_without_a_colon": b"0\r\nX-Abc\r\n\r\n",
    "s7_1_2_a_folded_line": b"0\r\nX-Abc: a\r\n b\r\n\r\n",
    "s7_1_2_another_request": b"0\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    **{"rfc9110_s6_5_1_%s_in_a_trailer" % name.decode().lower().replace("-", "_"):
       b"0\r\nX-Abc: a\r\n%s: %s\r\n\r\n" % (name, value) for name, value in [
           (b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"identity"),
           (b"Content-Length", b"5"), (b"Host", b"b"), (b"Connection", b"close"),
           (b"Trailer", b"X"), (b"TE", b"trailers"), (b"Upgrade", b"h2c"),
           (b"Expect", b"100-continue"), (b"Authorization", b"Bearer a"), (b"Cookie", b"a=b"),
           (b"Content-Type", b"text/html"), (b"Content-Encoding", b"gzip")]},
}


@pytest.mark.parametrize("framed", BAD_TRAILERS.values(), ids=BAD_TRAILERS.keys())
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_malformed_end_of_a_chunked_body_closes_the_connection(server, framed, in_pieces):
    client = server.connect()
    raw = post_chunked(INDEX, INDEX_BODY + framed)
    if in_pieces:
        for byte in raw:
            if not client.is_quiet(0):
                break  # answered: it waits for more, but not for long
            client.send(bytes([byte]))
    else:
        client.send(raw + get().encode())  # a request smuggled behind it is not answered
    answer = client.answer()
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.closes and client.at_eof()
    client.close()


def test_s7_1_2_trailers_count_with_the_header(server):
    """16 KiB and 100 lines in all."""
    for lines, trailers, status in [
            (["X: " + "a" * 15000], b"", 400), (["X: " + "a" * 15000], b"Y: a\r\n", 400),
            ([], b"Y: " + b"a" * 15000 + b"\r\n", 400),
            (["X: " + "a" * 15000], b"Y: " + b"a" * 1500 + b"\r\n", 431),
            ([], b"Y: " + b"a" * 16384 + b"\r\n", 431), ([], b"Y: " + b"a" * 100000, 431),
            ([], b"Y: a\r\n" * 97, 400), ([], b"Y: a\r\n" * 98, 431),
            (["X: a"] * 50, b"Y: a\r\n" * 47, 400), (["X: a"] * 50, b"Y: a\r\n" * 48, 431)]:
        client = server.connect()
        client.send(post_chunked(INDEX, chunked(b"{}", trailers=trailers), *lines))
        answer = client.answer()
        assert answer.status == status, (len(lines), trailers[:20], answer)
        assert answer.code == ("headers_too_large" if status == 431 else "invalid_argument")
        if status == 400:
            client.send(get())
            assert client.answer().status == 200
        else:
            assert answer.closes and client.at_eof()
        client.close()


def test_s7_1_2_trailers_may_be_cut_anywhere(server):
    raw = post_chunked(INDEX, chunked(NO_INDEX, trailers=b"X-Abc: a\r\ny: \t b\r\n"))
    for cut in range(len(raw) - 40, len(raw)):
        client = server.connect()
        client.send(raw[:cut])
        time.sleep(0.002)
        client.send(raw[cut:] + get().encode())
        assert client.answer().code == "invalid_argument"
        assert client.answer().status == 200
        client.close()


def test_s7_1_2_trailers_behind_an_ndjson_stream(server):
    client = server.connect()
    client.send(post(INDEX, {"name": "trailers", "dimension": 1}))
    assert client.answer().status == 201
    line = b'{"id":"a","vector":[1]}\n'
    for trailers, status in [(b"X-Checksum: 1\r\n", 200), (b"Content-Length: 1\r\n", 400)]:
        client.send(post_chunked(INDEX + "/trailers/add", chunked(line, trailers=trailers),
                                 media_type="application/x-ndjson"))
        assert client.answer().status == status
    client.close()
    assert server.ask("DELETE %s/trailers HTTP/1.1\r\nHost: a\r\n\r\n" % INDEX).status == 204


@pytest.mark.parametrize("framed", [
    b"2;" + b"a" * 20000 + b"\r\n{}\r\n0\r\n\r\n",
    b"0" * 20000 + b"2\r\n{}\r\n0\r\n\r\n",
    b"2\r\n{}\r\n0\r\n" + b"X-Trailer: a\r\n" * 2000 + b"\r\n",
], ids=["extension", "zeros", "trailers"])
def test_s7_1_chunk_overhead_is_bounded(server, framed):
    client = server.connect()
    client.send(post_chunked(INDEX, framed))
    assert client.answer().status == 431
    assert client.at_eof()
    client.close()


# ---- sizes ----


def test_a_body_over_the_limit_is_refused_before_it_is_read(start):
    server = start("server.body_bytes_max=64KiB")
    client = server.connect()
    client.send(post(INDEX, b"", "Content-Length: 65537", length=False))
    answer = client.answer()
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert "65537" in answer.message
    assert "65536" in answer.message
    client.close()


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(start):
    server = start("server.body_bytes_max=64KiB")
    client = server.connect()
    client.send(post_chunked(INDEX, b""))
    for _ in range(17):
        client.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
    answer = client.answer()
    assert (answer.status, answer.code) == (413, "body_too_large")
    assert client.at_eof()
    client.close()


def test_a_client_that_sends_on_after_an_early_error_reads_the_answer(start):
    server = start("server.body_bytes_max=64KiB")
    client = server.connect()
    body = b" " * (8 << 20)
    client.send(post(INDEX, body))  # far more than socket buffers hold
    assert client.answer().status == 413
    assert client.at_eof()
    client.close()


def test_a_small_unwanted_body_keeps_the_connection(server):
    client = server.connect()
    client.send(post("/v1/none", b"x" * 60000) + get().encode())
    answer = client.answer()
    assert answer.status == 404 and not answer.closes
    assert client.answer().status == 200
    client.close()


def test_a_large_unwanted_body_closes_the_connection(server):
    client = server.connect()
    client.send(post("/v1/none", b"x" * 70000))
    answer = client.answer()
    assert answer.status == 404 and answer.closes
    assert client.at_eof()
    client.close()


def test_a_get_with_a_body_is_answered(server):
    client = server.connect()
    client.send(get("/healthz", "Content-Length: 5") + "hello" + get())
    assert client.answer().status == 200
    assert client.answer().status == 200
    client.close()


def test_rfc9110_s15_5_12_a_body_needs_its_length(server):
    client = server.connect()
    client.send(post(INDEX, length=False))
    answer = client.answer()
    assert (answer.status, answer.code) == (411, "length_required")
    client.send(get())
    assert client.answer().status == 200
    client.close()


def test_bodies_wait_for_memory_and_are_all_answered(start):
    server = start("server.body_bytes_max=1MiB", "server.body_bytes_in_flight_max=1MiB",
                   "server.header_timeout=1h")
    first = server.connect()
    body = b" " * (900 << 10)
    first.send(post(INDEX, body)[:-1])  # holds 900 KiB of the account
    wait_for_body(server, len(body))
    second = server.connect()
    second.send(post(INDEX, b"", "Content-Length: 921600", length=False))
    third = server.connect()
    third.send(post(INDEX, b"", "Content-Length: 921600", length=False))
    answer = third.answer()
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.headers["retry-after"]
    small = server.connect()
    small.send(post(INDEX, NO_INDEX))  # a small one does not wait
    assert small.answer().status == 400
    assert second.is_quiet(0.2)
    first.send(b" ")
    assert first.answer().status == 400
    second.send(b" " * 921600)
    assert second.answer().status == 400
    for client in (first, second, third, small):
        client.close()


def wait_for_body(server, count):
    """Until the server has read the headers of requests whose bodies have so many bytes."""
    wait_until(lambda: server.metric("lakehouse_http_body_bytes_in_flight") == count)


# ---- 100-continue ----


def test_rfc9110_s10_1_1_a_waiting_client_is_told_to_continue(server):
    client = server.connect()
    client.send(post(INDEX, b"", "Expect: 100-continue", "Content-Length: 12", length=False))
    assert client.answer().status == 100
    client.send(NO_INDEX)
    assert client.answer().status == 400
    client.send(get())
    assert client.answer().status == 200
    client.close()


def test_rfc9110_s10_1_1_no_continue_when_the_body_is_already_there(server):
    client = server.connect()
    client.send(post(INDEX, NO_INDEX, "Expect: 100-continue"))
    assert client.answer().status == 400
    client.close()


@pytest.mark.parametrize("path,length,status", [("/v1/none", 5, 404), ("/healthz", 5, 405),
                                                (INDEX, 1 << 40, 413)])
def test_rfc9110_s10_1_1_an_error_comes_instead_of_continue(server, path, length, status):
    client = server.connect()
    client.send(post(path, b"", "Expect: 100-continue", "Content-Length: %d" % length,
                     length=False))
    answer = client.answer()
    assert answer.status == status and answer.closes
    assert client.at_eof()
    client.close()


def test_rfc9110_s10_1_1_http_1_0_does_not_expect(server):
    client = server.connect()
    client.send("POST %s HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n" % INDEX)
    assert client.is_quiet(0.2)
    client.send(NO_INDEX)
    assert client.answer().status == 400
    client.close()


# ---- keep-alive and closing ----


def test_s9_3_http_1_1_stays_open(server):
    client = server.connect()
    for _ in range(3):
        client.send(get())
        assert "connection" not in client.answer().headers
    client.close()


@pytest.mark.parametrize("value", ["close", "Close", "x, close", "keep-alive, close"])
def test_s9_6_connection_close_closes(server, value):
    client = server.connect()
    client.send(get("/healthz", "Connection: " + value) + get())
    assert client.answer().closes
    assert client.at_eof()
    client.close()


def test_s9_3_http_1_0_closes(server):
    client = server.connect()
    client.send(get(version="1.0"))
    assert client.answer().closes
    assert client.at_eof()
    client.close()


def test_s9_3_http_1_0_without_host_is_answered(server):
    client = server.connect()
    client.send("GET /healthz HTTP/1.0\r\n\r\n")
    assert client.answer().status == 200
    client.close()


def test_s9_3_http_1_0_with_keep_alive_stays_open(server):
    client = server.connect()
    for _ in range(2):
        client.send(get("/healthz", "Connection: keep-alive", version="1.0"))
        assert client.answer().headers["connection"] == "keep-alive"
    client.close()


def test_a_half_closed_client_gets_its_answers(server):
    client = server.connect()
    client.send(get() + get("/v1/none") + post(INDEX + "/none/search",
                                               b'{"vector":[1]}').decode())
    client.finish()
    assert [client.answer().status for _ in range(3)] == [200, 404, 404]
    assert client.at_eof()
    client.close()


@pytest.mark.parametrize("part", [get()[:20].encode(), post(INDEX, NO_INDEX)[:-3]],
                         ids=["header", "body"])
def test_s8_a_request_that_ends_early_is_told_so(server, part):
    client = server.connect()
    client.send(part)
    client.finish()
    assert client.answer().code == "bad_request"
    assert client.at_eof()
    client.close()


def test_clients_that_vanish_in_mid_body_leave_nothing_behind(server):
    for _ in range(50):
        client = server.connect()
        client.send(post(INDEX, b" " * 500000)[:300000])
        client.reset()
    wait_until(lambda: "lakehouse_http_body_bytes_in_flight 0\n" in server.ask(
        get("/metrics", "Connection: close")).body.decode())


# ---- deadlines ----


def test_a_header_that_does_not_end_is_timed_out(start):
    server = start(f"server.header_timeout={HEADER_SECONDS}s")
    began = time.monotonic()
    client = server.connect()
    for byte in get().encode()[:-2]:
        if not client.is_quiet(HEADER_SECONDS / 20):
            break
        client.send(bytes([byte]))
    else:
        pytest.fail("each byte brought it more time")
    answer = client.answer()
    assert (answer.status, answer.code) == (408, "request_timeout")
    assert time.monotonic() - began > 0.9 * HEADER_SECONDS
    assert client.at_eof()
    client.close()


def test_a_connection_without_a_request_is_closed(start):
    server = start(f"server.header_timeout={HEADER_SECONDS}s")
    client = server.connect()
    assert client.at_eof(timeout=9)  # of the 10 seconds that are the default
    client.close()


def test_an_idle_connection_is_closed(start):
    server = start("server.idle_timeout=300ms")
    client = server.connect()
    began = time.monotonic()
    client.send(get())
    assert client.answer().status == 200
    assert client.at_eof()
    assert time.monotonic() - began > 0.25
    client.close()


def test_a_body_below_its_rate_is_timed_out_after_its_grace(start):
    """The rate is what the configuration asks for, and for a large announced body what it takes to
    give its memory back in five minutes."""
    server = start("server.body_rate_min=1KiB")
    small, large, fast = (server.connect() for _ in range(3))
    length = "Content-Length: %d" % (60 << 20)
    sent = {large: 0, fast: 0}

    def send_on(client, bytes_per_second):
        wanted = int((time.monotonic() - began) * bytes_per_second)
        client.send(b" " * (wanted - sent[client]))
        sent[client] = wanted

    began = time.monotonic()
    small.send(post(INDEX, NO_INDEX)[:-1])
    for client in (large, fast):
        client.send(post(INDEX, b"", length, length=False))
    while large.is_quiet(0) and time.monotonic() - began < 30:
        send_on(large, 20_000)
        send_on(fast, 1_000_000)  # it takes a fifth of it
        time.sleep(0.1)
    assert 9 < time.monotonic() - began < 30
    for client in (small, large):
        answer = client.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        client.close()
    assert fast.is_quiet(0.5)
    fast.close()


def test_a_client_that_does_not_read_is_closed(start):
    server = start("server.write_timeout=500ms")
    client = server.connect()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wave = get("/openapi.json").encode() * 100
    client.sock.settimeout(0.3)
    deadline = time.monotonic() + 60
    with pytest.raises(OSError) as failed:
        while time.monotonic() < deadline:  # the server stops reading, then closes
            try:
                client.sock.send(wave)
            except (socket.timeout, BlockingIOError):
                pass
    assert isinstance(failed.value, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError))
    client.close()


# ---- many connections ----


def test_a_connection_over_the_limit_is_told_so(start):
    server = start("server.connections_max=4")
    held = [server.connect() for _ in range(4)]
    for client in held:
        client.send(get())
        assert client.answer().status == 200
    client = server.connect()
    answer = client.answer()
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.closes and answer.headers["retry-after"]
    assert client.at_eof()
    client.close()
    held.pop().close()

    def is_let_in():
        client = server.connect()
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):  # refused before it has asked
            client.send(get())
        status = client.answer().status
        client.close()
        return status == 200

    wait_until(is_let_in)
    for client in held:
        client.close()


def test_idle_and_slow_connections_keep_nobody_waiting(server):
    slow = []
    for _ in range(200):
        slow.append(server.connect())
        slow[-1].send(post(INDEX, NO_INDEX)[:40])
    idle = [server.connect() for _ in range(600)]
    client = server.connect()
    waits = []
    for _ in range(200):
        began = time.monotonic()
        client.send(get())
        assert client.answer().status == 200
        waits.append(time.monotonic() - began)
    assert sorted(waits)[-3] < 1, "and not because the machine stood still"
    for other in [*idle, *slow, client]:
        other.close()


# ---- stop ----


def test_stop_closes_idle_connections_and_ends_with_0(start):
    server = start()
    client = server.connect()
    client.send(get())
    assert client.answer().status == 200
    server.terminate()
    assert server.wait() == 0
    assert client.at_eof()
    client.close()


def test_stop_answers_a_request_that_is_coming_in(start):
    server = start()
    client = server.connect()
    request = post(INDEX, NO_INDEX)
    client.send(request[:-4])
    wait_for_body(server, len(NO_INDEX))
    server.terminate()
    server.wait_for_event("stopping")
    client.send(request[-4:])
    answer = client.answer()
    assert answer.status == 400 and answer.closes
    assert client.at_eof()
    assert server.wait() == 0
    client.close()


def test_stop_gives_up_on_a_request_that_never_comes(start):
    server = start("server.drain_timeout=500ms")
    client = server.connect()
    client.send(post(INDEX, NO_INDEX)[:-4])
    wait_for_body(server, len(NO_INDEX))
    began = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    assert 0.4 < time.monotonic() - began < 9  # of the 10 seconds that are the default
    client.close()


def test_a_second_signal_aborts(start):
    server = start("server.drain_timeout=1h")
    client = server.connect()
    client.send(post(INDEX, NO_INDEX)[:-4])
    wait_for_body(server, len(NO_INDEX))
    server.terminate()
    server.wait_for_event("stopping")  # signals that come together are one
    time.sleep(0.2)
    assert server.process.poll() is None
    server.terminate()
    assert server.wait() == 1
    client.close()


def test_stop_under_load_cuts_no_answer(start):
    server = start()
    counts = [0] * 8
    errors = []

    def load(number):
        try:
            client = server.connect()
            while True:
                client.send(get())
                answer = client.answer()
                assert answer.status == 200
                counts[number] += 1
                if answer.closes:
                    assert client.at_eof()
                    return
        except (ConnectionError, ssl.SSLEOFError):
            pass  # it was idle, or its request had not been read
        except BaseException as error:  # noqa: BLE001: told below
            if "closed before an answer: b''" not in str(error):
                errors.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(count > 10 for count in counts) or errors)
    server.terminate()
    assert server.wait() == 0
    for thread in threads:
        thread.join()
    assert errors == []
