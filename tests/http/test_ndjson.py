"""NDJSON bodies: streamed at bounded memory, applied in order, stopped at the first mistake."""

import contextlib
import json
import statistics
import threading
import time

import pytest

from lakehouse_server import Server, SplitServer, seeded, to_base64, wait_until
from raw_http import RawClient, chunk, post

LINES = 200_000
BATCH = 4096  # lines that are applied at once


@pytest.fixture(scope="module", params=[Server, SplitServer], ids=["in one", "behind a gateway"])
def server(request):
    with request.param("vectord.shards=2") as running:
        yield running


names = iter(range(1_000_000))


@pytest.fixture
def index(server):
    with server.client() as client:
        made = client.create(f"stream-{next(names)}", 4, distance="euclidean")
        yield made
        made.drop()


def line(number, **members):
    return json.dumps({"id": str(number), "vector": [number, 1, 2, 3], **members})


def lines(numbers):
    return "".join(line(number) + "\n" for number in numbers).encode()


def ids_of(index):
    return sorted(int(entry["id"]) for entry in index.pages(limit=1000))


class Stream(RawClient):
    """A chunked NDJSON request by hand, so that a test decides what is sent when."""

    def __init__(self, server, name, length=None):
        super().__init__(server.port, timeout=60)
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        self.send(post(f"/v1/vectors/index/{name}/add", b"", framing, length=False,
                       media_type="application/x-ndjson"))

    def chunk(self, data):
        self.send(chunk(data))

    def end(self):
        self.send(b"0\r\n\r\n")

    def outcome(self):
        """Status and body."""
        answer = self.answer()
        self.close()
        return answer.status, answer.json


# ---- what a stream is ----


def test_many_lines_are_applied_at_bounded_memory(server):
    def long_lines():
        pad = "x" * 1000
        for number in range(0, LINES, 500):
            yield "".join(
                '{"id":"%d","vector":[%d,1,2,3],"metadata":{"gone":"%s"}}\n' % (n % 1000, n, pad)
                for n in range(number, number + 500)
            ).encode()

    with server.client(timeout=300) as client:
        made = client.create("long", 4, distance="euclidean", m=4, ef_construction=8)
        made.add([{"id": str(n), "vector": [n, 1, 2, 3]} for n in range(1000)])
        before = server.resident_bytes()
        highest = before
        done = threading.Event()

        def watch():
            nonlocal highest
            while not done.wait(0.01):
                highest = max(highest, server.resident_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            answer = made.add_lines(long_lines(), chunked=True)
        finally:
            done.set()
            watcher.join()
        assert answer.json == {"added": 0, "updated": LINES}
        assert made.get("7").json["vector"][0] == LINES - 1000 + 7
        # The body is 210 MB. What it leaves is 1 MB of items; the allowance is for pieces, batches
        # and allocators.
        if not server.is_sanitized():
            assert highest - before < 64 << 20
        made.drop()


def test_two_hundred_thousand_small_lines_are_all_there(server):
    with server.client(timeout=300) as client:
        made = client.create("small", 4, distance="euclidean", m=4, ef_construction=8)
        pieces = (lines(range(n, n + 1000)) for n in range(0, LINES, 1000))
        assert made.add_lines(pieces, chunked=True).json == {"added": LINES, "updated": 0}
        assert made.info()["count"] == LINES
        seen = bytearray(LINES)
        for entry in made.pages(limit=1000):
            seen[int(entry["id"])] += 1
        assert seen == b"\1" * LINES
        made.drop()


def test_an_empty_stream_adds_nothing(index):
    for body in (b"", b"\n", b"\r\n\n   \n\t"):
        answer = index.add_lines(body)
        assert answer.status == 200 and answer.json == {"added": 0, "updated": 0}
    assert index.add_lines(iter([]), chunked=True).json == {"added": 0, "updated": 0}


def test_blank_lines_crlf_and_a_last_line_without_newline_are_fine(index):
    body = f"\n\r\n{line(1)}\r\n\n  {line(2)} \n\t\n{line(3)}\r\n\r\n{line(4)}"
    assert index.add_lines(body).json == {"added": 4, "updated": 0}
    assert ids_of(index) == [1, 2, 3, 4]


def test_a_line_may_hold_all_that_an_item_may(index):
    body = json.dumps({"id": "a\n☃", "vector": to_base64([1, 2, 3, 4]), "metadata": {"a": "\n"}})
    assert index.add_lines(body).json == {"added": 1, "updated": 0}
    assert index.get("a\n☃").json["metadata"] == {"a": "\n"}


def test_the_media_type_may_have_parameters_and_any_case(index):
    for media_type in ("Application/X-NDJSON", "application/x-ndjson; charset=utf-8"):
        answer = index.client.post(
            index.path + "/add", lines([1, 2]), headers={"Content-Type": media_type}
        )
        assert answer.status == 200 and sum(answer.json.values()) == 2, answer


def test_the_same_id_on_many_lines_the_last_one_wins(index):
    body = "".join(
        json.dumps({"id": "a", "vector": [n, 0, 0, 0]}) + "\n" for n in range(2 * BATCH + 5)
    )
    assert index.add_lines(body).json == {"added": 1, "updated": 2 * BATCH + 4}
    assert index.get("a").json["vector"][0] == 2 * BATCH + 4


# ---- how it arrives ----


@pytest.mark.parametrize("size", [1, 2, 3, 7, 61, 4096, 65537])
def test_chunks_may_split_lines_anywhere(server, index, size):
    count = 40 if size < 7 else 3000
    body = lines(range(count))
    stream = Stream(server, index.name)
    for at in range(0, len(body), size):
        stream.chunk(body[at : at + size])
    stream.end()
    assert stream.outcome() == (200, {"added": count, "updated": 0})
    assert ids_of(index) == list(range(count))


def test_chunks_of_random_sizes_may_split_lines_anywhere(server, index):
    rng = seeded("random chunks")
    body = lines(range(9000)).replace(b"\n", b"\r\n")
    stream = Stream(server, index.name)
    at = 0
    while at < len(body):
        size = rng.choice([1, 2, 10, 100, 1000, 20000])
        stream.chunk(body[at : at + size])
        at += size
    stream.end()
    assert stream.outcome() == (200, {"added": 9000, "updated": 0})
    assert index.info()["count"] == 9000


def test_a_slow_stream_is_waited_for_while_others_go_on(server, index):
    stream = Stream(server, index.name)
    for number in range(6):
        text = line(number).encode() + b"\n"
        stream.chunk(text[:9])
        time.sleep(0.15)
        stream.chunk(text[9:])
        index.add([{"id": str(100 + number), "vector": [1, 2, 3, 4]}])
    stream.end()
    assert stream.outcome() == (200, {"added": 6, "updated": 0})
    assert ids_of(index) == [*range(6), *range(100, 106)]


def test_lines_of_a_long_stream_are_there_before_its_end(server, index):
    stream = Stream(server, index.name)
    stream.chunk(lines(range(60000)))  # more than a piece
    wait_until(lambda: index.info()["count"] > 0)
    assert index.get("0").status == 200
    stream.chunk(lines(range(60000, 60010)))
    stream.end()
    assert stream.outcome() == (200, {"added": 60010, "updated": 0})


def test_lines_that_trickle_are_there_soon_while_the_stream_goes_on(server, index):
    stream = Stream(server, index.name)
    stream.chunk(line(0).encode())  # no line yet
    time.sleep(0.5)
    assert index.info()["count"] == 0
    waits = []
    for number in range(4):
        sent = time.monotonic()
        stream.chunk(b"\n" + line(number + 1).encode())
        wait_until(lambda: index.info()["count"] == number + 1)
        waits.append(time.monotonic() - sent)
        assert index.search([number, 1, 2, 3], k=1)[0]["id"] == str(number)
    assert min(waits) > 0.09 and statistics.median(waits) < 2, "at once, or late"
    stream.end()
    assert stream.outcome() == (200, {"added": 5, "updated": 0})


def test_a_mistake_in_a_line_that_trickles_is_told_before_the_stream_ends(server, index):
    stream = Stream(server, index.name)
    stream.chunk(lines([1, 2]))
    wait_until(lambda: index.info()["count"] == 2)
    stream.chunk(b"broken\n")
    status, answer = stream.outcome()
    assert status == 400 and answer["error"]["message"].startswith("line 3: ")
    assert answer["error"]["message"].endswith("2 items were applied before")


def test_lines_that_come_fast_are_applied_in_large_batches(server):
    with server.client() as client:
        made = client.create("fast", 4, distance="euclidean", m=4, ef_construction=8)
        stream = Stream(server, made.name)
        before = made.info()["lsn"]
        stream.send(b"".join(chunk(lines(range(at, at + 100))) for at in range(0, 40000, 100)))
        stream.end()
        assert stream.outcome() == (200, {"added": 40000, "updated": 0})
        assert made.info()["lsn"] - before < 100  # batches, of 400 chunks
        made.drop()


def test_several_streams_at_once(server, index):
    answers = [None] * 6

    def send(number):
        with server.client(timeout=120) as client:
            mine = range(number * 10000, number * 10000 + 8000)
            pieces = (lines(mine[at : at + 700]) for at in range(0, len(mine), 700))
            answers[number] = client.index(index.name).add_lines(pieces, chunked=True)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.json for answer in answers] == [{"added": 8000, "updated": 0}] * 6
    assert index.info()["count"] == 48000


# ---- mistakes ----

MISTAKES = [
    ("not json", "invalid_json", "byte 0"),
    ('{"id":"x","vector":[1,2,3', "invalid_json", "byte 25"),
    ('{"id":"x","vector":[1,2,3]}', "dimension_mismatch", "vector: 3 numbers, the index has 4 dim"),
    ('{"id":"x","vector":[1,2,3,NaN]}', "invalid_argument", "vector[3]: NaN is not a finite"),
    ('{"id":"x","vector":[1,1e39,3,4]}', "invalid_argument", "vector[1]: 1e39 is beyond the range"),
    ('{"id":"","vector":[1,2,3,4]}', "invalid_argument", "id: an empty id"),
    ('{"vector":[1,2,3,4]}', "invalid_argument", "id: is missing"),
    ('{"id":"x"}', "invalid_argument", "vector: is missing"),
    ('{"id":"x","vector":[1,2,3,4],"metadata":[]}', "invalid_argument", "metadata: must be an obj"),
    ('{"id":"x","vector":[1,2,3,4],"more":1}', "invalid_argument", 'unknown member "more"'),
    ('{"id":"x","vector":[1,2,3,4]} {}', "invalid_json", "byte "),
    ('{"id":"%s","vector":[1,2,3,4]}' % ("i" * 513), "limit_exceeded", "id: 513 bytes, the limit"),
    ("[1,2]", "invalid_argument", "must be a JSON object"),
]


@pytest.mark.parametrize("text,code,part", MISTAKES)
@pytest.mark.parametrize("good", [0, 1, BATCH - 1, BATCH, 3 * BATCH + 17])
def test_a_mistake_tells_its_line_and_how_many_went_before(index, text, code, part, good):
    body = lines(range(good)) + text.encode() + b"\n" + lines(range(900_000, 900_050))
    answer = index.add_lines(body)
    assert (answer.status, answer.code) == (400, code), answer
    assert f"line {good + 1}: " in answer.message, answer
    assert part in answer.message, answer
    assert answer.message.endswith(f"{good} items were applied before"), answer
    assert index.info()["count"] == good
    if good:
        assert index.get(str(good - 1)).status == 200
    assert index.get("900000").status == 404


def test_line_numbers_count_blank_lines(index):
    body = f"\n\n{line(1)}\n\r\n{line(2)}\n\nbroken\n"
    answer = index.add_lines(body)
    assert answer.message.startswith("line 7: ")
    assert answer.message.endswith("2 items were applied before")
    assert ids_of(index) == [1, 2]
    answer = index.add_lines(f'\n\n{line(3)}\n\n{{"id":"x","vector":[1]}}\n')
    assert answer.message.startswith("line 5: vector: 1 numbers, the index has 4 dimensions")


def test_a_zero_vector_under_cosine_tells_its_line(server):
    with server.client() as client:
        made = client.create("zeros", 2)
        body = '{"id":"a","vector":[1,2]}\n{"id":"b","vector":[0,0]}\n{"id":"c","vector":[1,2]}\n'
        answer = made.add_lines(body)
        assert (answer.status, answer.code) == (400, "invalid_argument")
        assert answer.message.startswith("line 2: vector: all zeros")
        assert [entry["id"] for entry in made.pages()] == ["a"]
        made.drop()


def test_after_a_mistake_the_client_reads_its_answer_though_it_still_sends(server, index):
    body = lines(range(10)) + b"broken\n" + lines(range(100_000, 220_000))
    stream = Stream(server, index.name, length=len(body))
    with contextlib.suppress(OSError):  # the server need not read it all
        stream.exchange(body)
    status, answer = stream.outcome()
    assert status == 400 and answer["error"]["message"].startswith("line 11: ")
    assert index.info()["count"] == 10


@pytest.mark.parametrize("ended", [True, False])
def test_a_line_beyond_its_limit_is_refused(index, ended):
    long = b'{"id":"x","vector":[1,2,3,4],"metadata":{"a":"' + b"x" * (4 << 20) + b'"}}'
    body = lines(range(20)) + long + (b"\n" + lines([50]) if ended else b"")
    answer = index.add_lines(body)
    assert (answer.status, answer.code) == (413, "line_too_long"), answer
    assert answer.message.startswith("line 21: ") and "4194304 bytes" in answer.message
    assert answer.message.endswith("20 items were applied before")
    assert ids_of(index) == list(range(20))


def test_a_line_without_an_end_does_not_fill_the_memory(server, index):
    before = server.resident_bytes()
    answer = index.add_lines((b"x" * 65536 for _ in range(2000)), chunked=True)
    assert (answer.status, answer.code) == (413, "line_too_long")
    assert server.resident_bytes() - before < (100 << 20)


def test_a_stream_into_an_index_that_is_not_there(server):
    with server.client() as client:
        answer = client.index("nobody").add_lines(lines(range(10)))
        assert (answer.status, answer.code) == (404, "index_not_found")


def test_an_index_that_is_deleted_in_mid_stream_ends_it(server):
    with server.client() as client:
        made = client.create("short-lived", 4)
        stream = Stream(server, made.name)
        stream.chunk(lines(range(1, 60000)))
        wait_until(lambda: made.info()["count"] > 0)
        assert made.drop().status == 204
        stream.chunk(lines(range(60000, 60010)))
        stream.end()
        status, answer = stream.outcome()
        assert status == 404 and answer["error"]["code"] == "index_not_found"
        assert "items were applied before" in answer["error"]["message"]


@pytest.mark.parametrize("sent", [0, 10, 300_000, 3_000_000])
def test_a_client_that_goes_away_in_mid_stream_leaves_nothing_behind(server, index, sent):
    body = lines(range(100_000))[:sent]
    for _ in range(3):
        stream = Stream(server, index.name)
        if body:
            stream.chunk(body)
        stream.reset()
    wait_until(lambda: server.metric("lakehouse_requests_in_flight") == 0)
    # Whole lines from the start, in order; a gateway may bring some of them now.
    wait_until(lambda: ids_of(index) == list(range(index.info()["count"])))
    assert index.add_lines(lines([999_999])).json == {"added": 1, "updated": 0}


def test_a_long_line_that_drips_in_does_not_hold_up_others(server, index):
    stream = Stream(server, index.name)
    stream.chunk(b"x" * 3_900_000)  # below the limit of a line, and no newline
    time.sleep(0.3)
    before = server.processor_seconds()
    stream.sock.sendall(b"1\r\nx\r\n" * 20_000)
    with server.client() as client:
        assert client.get("/healthz").status == 200
        # Searching the line again for each byte took two seconds.
        assert server.processor_seconds() - before < 1
    stream.reset()


def test_a_paused_stream_that_fails_leaves_its_connection_usable(server):
    with server.client() as client:
        client.create("paused", 16, ef_construction=4096, m=64, shards=1)
    rng = seeded("paused")

    def row(name, vector):
        return json.dumps({"id": name, "vector": vector}).encode() + b"\n"

    good = [row(str(i), [rng.random() for _ in range(16)]) for i in range(3500)]
    body = b"".join(good) + row("zero", [0] * 16)  # refused under cosine, after a slow piece
    size = (3 << 20) + 50_000
    body += b" " * (size - len(body) - 1) + b"\n"
    stream = Stream(server, "paused", length=size)
    for at in range(0, 3 << 20, 65536):
        stream.sock.sendall(body[at:at + 65536])
    head = b""
    while b"\r\n\r\n" not in head:
        piece = stream.sock.recv(4096)
        assert piece, head
        head += piece
    assert b" 400 " in head
    stream.sock.sendall(body[3 << 20:])
    if b"connection: close" not in head.lower():
        stream.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
    stream.sock.settimeout(20)
    rest = b""
    while b'{"status":"ok"}' not in rest:
        piece = stream.sock.recv(4096)
        if not piece:
            assert b"connection: close" in head.lower()
            break
        rest += piece
    stream.sock.close()
