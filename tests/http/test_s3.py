"""Objects on S3: through HTTP to a real store that checks signatures, with its faults."""
import os
import random
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest
from lakehouse_server import SERVICES, Server, in_parallel, wait_until
from s3_store import SECRET_KEY, FaultProxy, Swift, error_xml, settings

pytest.importorskip("swift", reason="python3-swift is not here: there is no S3 store to test with")

MIB = 1 << 20


def quote(key):
    return urllib.parse.quote(key, safe="/")


class Objects:
    """A client of one server's objects."""

    def __init__(self, server):
        self.server = server
        self.client = server.client(timeout=120)

    def put(self, key, body, chunked=False, **headers):
        return self.client.request("PUT", "/v1/storage/put/" + quote(key), body,
                                   {k.replace("_", "-"): v for k, v in headers.items()},
                                   chunked=chunked)

    def get(self, key, method="GET", **headers):
        return self.client.request(method, "/v1/storage/get/" + quote(key),
                                   headers={k.replace("_", "-"): v for k, v in headers.items()})

    def delete(self, key):
        return self.client.delete("/v1/storage/delete/" + quote(key))

    def list(self, **query):
        answer = self.client.get("/v1/storage/list?" + urllib.parse.urlencode(query))
        assert answer.status == 200, answer
        return answer.json

    def keys(self, **query):
        keys, cursor = [], {}
        while True:
            page = self.list(**query, **cursor)
            keys += [entry["Key"] for entry in page["objects"]]
            if not page["truncated"]:
                return keys
            cursor = {"cursor": page["next_cursor"]}


@pytest.fixture(scope="module")
def swift():
    store = Swift()
    yield store
    store.end()


@pytest.fixture(scope="module")
def server(swift):
    with Server(*settings(swift.endpoint)) as running:
        yield running


@pytest.fixture
def objects(server):
    return Objects(server)


@pytest.fixture
def proxy(swift):
    standing = FaultProxy(swift.port)
    yield standing
    standing.end()


@pytest.fixture
def behind(proxy, start):
    """Objects of a server that sees the store through the proxy, and asks nothing more of itself."""
    server = start(*settings(proxy.endpoint))
    server.wait_for_catalog()
    return Objects(server)


def some_bytes(count, seed=1):
    return random.Random(seed).randbytes(count)


def error_of(answer):
    return answer.json["error"]


# ---- what it does ----

ODD_KEYS = ["plain", "a b", "a+b", "a%20b", "100%", "a=b&c?d*(e)!'", "été/☃/🐘", "#frag;x,y:z@w",
            "tilde~", '"<&>"', "x\\y", "a.b/..c", "k" * 200 + "/" + "l" * 200 + "/" + "ü" * 100]


def test_odd_keys(objects):
    for number, key in enumerate(ODD_KEYS):
        answer = objects.put("odd/" + key, b"x" * number, Content_Type="text/x-odd")
        assert answer.status == 200, answer
        assert answer.json["key"] == "odd/" + key and answer.json["size"] == number
    listed = objects.list(prefix="odd/")["objects"]
    assert [entry["Key"] for entry in listed] == sorted(("odd/" + key for key in ODD_KEYS),
                                                        key=str.encode)
    for number, key in enumerate(ODD_KEYS):
        got = objects.get("odd/" + key)
        assert got.status == 200 and got.body == b"x" * number
        assert got.headers["content-type"] == "text/x-odd"
        assert objects.delete("odd/" + key).status == 204
        answer = objects.get("odd/" + key)
        assert answer.status == 404 and error_of(answer)["code"] == "key_not_found"
        assert objects.delete("odd/" + key).status == 204
    assert objects.keys(prefix="odd/") == []


def test_the_longest_key_and_one_that_is_longer(objects):
    longest = "/".join(["k" * 204] * 5)
    assert len(longest) == 1024
    assert objects.put(longest, b"1").status == 200
    assert objects.get(longest).body == b"1"
    assert objects.delete(longest).status == 204
    answer = objects.put(longest + "k", b"1")
    assert answer.status == 400 and error_of(answer)["code"] == "limit_exceeded"


def test_an_empty_object(objects):
    for chunked in (False, True):
        answer = objects.put("empty", iter([]) if chunked else b"", chunked=chunked)
        assert answer.status == 200 and answer.json["size"] == 0
        got = objects.get("empty")
        assert got.status == 200 and got.body == b"" and got.headers["content-length"] == "0"


@pytest.mark.parametrize("kib", [32, 128, 252, 256, 1000])
def test_a_body_of_one_piece_and_of_more(objects, kib):
    for length in (kib * 1024 - 1, kib * 1024, kib * 1024 + 1):
        body = some_bytes(length)
        assert objects.put("pieces", body).status == 200
        assert objects.get("pieces").body == body


def test_ranges_conditions_and_head(objects):
    body = some_bytes(3 * MIB)
    etag = objects.put("ranged", body, Content_Type="image/png").headers["etag"]
    head = objects.get("ranged", "HEAD")
    assert head.status == 200 and head.headers["content-length"] == str(len(body))
    assert head.headers["etag"] == etag and head.headers["content-type"] == "image/png"
    assert "last-modified" in head.headers
    for given, first, last in [("0-9", 0, 9), ("1000-", 1000, len(body) - 1),
                               ("-5", len(body) - 5, len(body) - 1),
                               ("5-99999999", 5, len(body) - 1)]:
        got = objects.get("ranged", Range="bytes=" + given)
        assert got.status == 206 and got.body == body[first:last + 1]
        assert got.headers["content-range"] == f"bytes {first}-{last}/{len(body)}"
    outside = objects.get("ranged", Range=f"bytes={len(body)}-")
    assert outside.status == 416
    assert objects.get("ranged", If_None_Match=etag).status == 304
    assert objects.get("ranged", If_Match=etag).status == 200
    other = objects.get("ranged", If_Match='"0123456789abcdef0123456789abcdef"')
    assert other.status == 412 and error_of(other)["code"] == "precondition_failed"
    part = objects.get("ranged", Range="bytes=0-9", If_Range=etag)
    assert part.status == 206 and part.body == body[:10]
    whole = objects.get("ranged", Range="bytes=0-9", If_Range='"another"')
    assert whole.status == 200 and whole.body == body
    assert objects.get("none", "HEAD").status == 404


def test_a_large_object_goes_up_in_parts_and_comes_down_at_bounded_memory(server, objects, swift):
    body = some_bytes(100 * MIB)
    objects.put("warm", b"1")
    before = server.resident_bytes()
    answer = objects.put("large", body)
    assert answer.status == 200 and answer.json["size"] == len(body)
    assert answer.json["etag"].endswith("-7"), "it is in parts of 16 MiB"
    pieces = (body[at:at + MIB] for at in range(0, len(body), MIB))
    streamed = objects.put("streamed", pieces, chunked=True)
    assert streamed.status == 200 and streamed.json["etag"] == answer.json["etag"]
    for key in ("large", "streamed"):
        assert objects.get(key).body == body
    got = objects.get("large", Range=f"bytes={50 * MIB}-{51 * MIB - 1}")
    assert got.body == body[50 * MIB:51 * MIB]
    if not server.is_sanitized():
        assert server.resident_bytes() - before < 100 * MIB
    for key in ("large", "streamed"):
        assert objects.delete(key).status == 204


def test_a_reader_that_stops_holds_little(server, objects):
    objects.put("much", some_bytes(60 * MIB))
    before = server.resident_bytes()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"GET /v1/storage/get/much HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(2)
        assert server.resident_bytes() - before < 20 * MIB
    assert objects.get("much").body == some_bytes(60 * MIB)
    assert objects.delete("much").status == 204


def test_an_upload_that_is_cut_off_leaves_nothing(server, objects, swift):
    before = set(swift.files())
    head = b"PUT /v1/storage/put/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n"
    for sent in (0, 1000, 20 * MIB, 60 * MIB):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head + some_bytes(sent))
        wait_until(lambda: server.metric("lakehouse_s3_upload_bytes") == 0)
        assert objects.get("cut").status == 404
        wait_until(lambda: set(swift.files()) <= before)


def test_an_abort_waits_for_a_part_that_the_store_has(proxy, behind, swift):
    """Whether its connection is cut or not, the store may keep it: then it must be there when the
    upload is aborted, or nobody removes it."""
    before = set(swift.files())
    late = proxy.add("PUT /lake/late.*partNumber=1&", late=2)
    with socket.create_connection(("127.0.0.1", behind.server.port)) as raw:
        raw.sendall(b"PUT /v1/storage/put/late HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n"
                    + some_bytes(20 * MIB))
        wait_until(lambda: late.done_at is not None)

    def aborts():
        return [at for at, line in proxy.requests if line.startswith("DELETE /lake/late?uploadId=")]

    wait_until(aborts)
    assert aborts()[0] - late.done_at >= 2
    wait_until(lambda: set(swift.files()) <= before)


def test_pages_of_many_keys(server, objects):
    names = sorted(f"many/{number * 7919 % 2503:05}" for number in range(2500))
    assert len(set(names)) == 2500

    def put_some(first):
        mine = Objects(server)
        for name in names[first::10]:
            assert mine.put(name, b"").status == 200

    in_parallel(*(lambda first=first: put_some(first) for first in range(10)))
    assert objects.keys(prefix="many/") == names
    assert objects.keys(prefix="many/", limit=999) == names
    assert objects.keys(prefix="many/000") == [name for name in names
                                               if name.startswith("many/000")]


def test_fifty_at_once(server):
    def one(number):
        mine = Objects(server)
        body = some_bytes(MIB, number)
        for round_number in range(3):
            assert mine.put(f"fifty/{number}", body).status == 200
            assert mine.get(f"fifty/{number}").body == body
        assert mine.delete(f"fifty/{number}").status == 204

    in_parallel(*(lambda number=number: one(number) for number in range(50)))
    wait_until(lambda: server.metric("lakehouse_s3_upload_bytes") == 0)


def test_the_bucket_in_the_host_name(swift, start):
    objects = Objects(start(*settings(f"http://s3.localhost:{swift.port}", use_path_style="false")))
    key = "virtual/a b+c%"
    assert objects.put(key, b"hosted").status == 200
    assert objects.get(key).body == b"hosted"
    assert objects.keys(prefix="virtual/") == [key]
    assert objects.delete(key).status == 204


# ---- who asks, and what is wrong with it ----

WRONG = [
    ({"secret_access_key": "another"}, "s3.secret_access_key"),
    ({"bucket": "no-such-bucket"}, 's3.bucket: the store has no bucket "no-such-bucket"'),
    ({"region": "us-west-9"}, 's3.region: the store wants "eu-test-1"'),
]


@pytest.mark.parametrize("change, text", WRONG)
def test_what_is_wrong_is_named(swift, start, change, text):
    server = start(*settings(swift.endpoint, **change))
    objects = Objects(server)
    for answer in (objects.put("k", b"1"), objects.get("k"), objects.delete("k"),
                   objects.client.get("/v1/storage/list")):
        assert answer.status == 502 and error_of(answer)["code"] == "bad_gateway"
        assert text in error_of(answer)["message"]
    wait_until(lambda: text in server.log_text().replace('\\"', '"'))
    assert "another" not in server.log_text() and SECRET_KEY not in server.log_text()


def test_a_head_that_is_refused_says_why_in_the_log(swift, start):
    server = start(*settings(swift.endpoint, secret_access_key="another"))
    assert Objects(server).get("k", "HEAD").status == 502
    wait_until(lambda: "s3.secret_access_key" in server.log_text())


def test_no_store_and_no_host(start):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        answer = Objects(start(*settings(nobody))).get("k")
    assert answer.status == 502 and "Connection refused" in error_of(answer)["message"]
    answer = Objects(start(*settings("http://no-such-host.invalid"))).get("k")
    assert answer.status == 502 and "no such host" in error_of(answer)["message"]


def test_tls_that_cannot_be_trusted(tmp_path, start):
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate], check=True,
                   capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                plain.close()

    threading.Thread(target=serve, daemon=True).start()
    endpoint = f"https://127.0.0.1:{listener.getsockname()[1]}"
    answer = Objects(start(*settings(endpoint))).get("k")
    listener.close()
    assert answer.status == 502 and "TLS" in error_of(answer)["message"], answer


def test_credentials_come_from_one_place_at_a_time(swift, start, tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[[token]]\nname = "all"\ntoken = "' + "t" * 32 + '"\nscopes = ["admin"]\n\n'
                       f'[s3]\naccess_key_id = "test:tester"\nsecret_access_key = "{SECRET_KEY}"\n')
    secrets.chmod(0o600)
    wrong = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    right = {"AWS_ACCESS_KEY_ID": "test:tester", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    token = {"Authorization": "Bearer " + "t" * 32}
    no_keys = settings(swift.endpoint, access_key_id=None, secret_access_key=None)
    cases = [
        ([*no_keys, f"gateway.secrets_path={secrets}"], wrong, "secrets_path"),
        (settings(swift.endpoint, secret_access_key="another"), right, "environment"),
        (settings(swift.endpoint), {}, "configuration"),
    ]
    for sets, environment, place in cases:
        server = start(*sets, env=environment)
        assert server.client().get("/v1/storage/get/none", headers=token).status == 404
        opened = [e for e in server.events() if e["event"] == "object store on s3"]
        assert opened[0]["credentials"] == place
        assert SECRET_KEY not in server.log_text()


def run_server(*sets, check=False):
    command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused"), "--check"]
    for setting in sets:
        command += ["--set", setting]
    return subprocess.run(command if check else [c for c in command if c != "--check"],
                          capture_output=True, text=True, timeout=30)


def test_the_secret_is_masked_in_what_is_printed():
    run = run_server(*settings("http://127.0.0.1:9"), check=True)
    assert run.returncode == 0 and "secret_access_key" in run.stdout
    assert SECRET_KEY not in run.stdout + run.stderr


@pytest.mark.parametrize("changes, text", [
    ({"bucket": None}, "s3.bucket"), ({"bucket": "a/b"}, "s3.bucket"),
    ({"access_key_id": None, "secret_access_key": None}, "s3.access_key_id"),
    ({"secret_access_key": None}, "s3.secret_access_key"),
    ({"endpoint": "ftp://x"}, "s3.endpoint"), ({"region": "a b"}, "s3.region"),
])
def test_a_configuration_that_cannot_work_is_refused_at_start(changes, text):
    binds = [f"{name}.bind=127.0.0.1:0" for name in SERVICES]
    given = {"endpoint": "http://127.0.0.1:9", **changes}
    run = run_server(*binds, *settings(given.pop("endpoint"), **given))
    assert run.returncode != 0 and text in run.stderr


# ---- faults ----

SLOW_DOWN = (503, error_xml("SlowDown"), {})


def test_throttling_is_waited_out(proxy, behind):
    body = some_bytes(MIB)
    fault = proxy.add("PUT /lake/slow", times=3, answer=SLOW_DOWN)
    assert behind.put("slow", body).status == 200 and fault.met == 3
    times = [at for at, line in proxy.requests if line.startswith("PUT /lake/slow")]
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert len(gaps) == 3 and gaps[0] >= 0.1 and gaps[2] >= 0.4, gaps
    fault = proxy.add("GET /lake/slow", times=2, answer=(500, error_xml("InternalError"), {}))
    assert behind.get("slow").body == body and fault.met == 2
    assert behind.delete("slow").status == 204


def test_throttling_without_an_end_is_said(proxy, behind):
    fault = proxy.add("GET /lake/never", times=100, answer=SLOW_DOWN)
    answer = behind.get("never")
    assert answer.status == 503 and "SlowDown" in error_of(answer)["message"]
    assert fault.met == 6


def test_an_answer_that_is_cut_is_continued(proxy, behind):
    body = some_bytes(8 * MIB)
    assert behind.put("cut", body).status == 200
    for cut in (0, 1, 100_000, 3 * MIB, 8 * MIB - 1):
        fault = proxy.add("GET /lake/cut", times=2, cut=cut)
        assert behind.get("cut").body == body and fault.met == 2
        part = proxy.add("GET /lake/cut", cut=min(cut, 1000))
        got = behind.get("cut", Range="bytes=5-2000004")
        assert got.status == 206 and got.body == body[5:2000005] and part.met == 1
    assert behind.delete("cut").status == 204


def test_an_object_that_changes_while_it_is_read_is_cut(proxy, behind, objects):
    body = some_bytes(8 * MIB)
    assert behind.put("changed", body).status == 200
    fault = proxy.add("GET /lake/changed", cut=4 * MIB)
    answer = proxy.add("GET /lake/changed", answer=(412, error_xml("PreconditionFailed"), {}))
    with pytest.raises(Exception, match="IncompleteRead|Connection|closed"):
        behind.get("changed")
    assert fault.met == 1 and answer.met == 1


@pytest.mark.parametrize("by", (-1_000_000, 1_000_000))
def test_a_store_that_announces_another_length_than_it_sends(proxy, behind, by):
    """Announced and sent in chunks, whose lengths are what counts on the wire."""
    body = some_bytes(4 * MIB)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    fault = proxy.add("GET /lake/length", answer=(
        200, chunked, {"Content-Length": str(len(body) + by), "Transfer-Encoding": "chunked",
                       "ETag": '"1"'}))
    with pytest.raises(Exception, match="IncompleteRead|Connection|closed"):
        behind.get("length")
    behind.client.close()  # the next call is on a new connection
    assert fault.met == 1
    assert behind.put("length", body).status == 200 and behind.get("length").body == body


@pytest.mark.parametrize("etag, first, more", (("another", 0, b""), (None, 1, b""), (None, 0, b"x")))
def test_a_store_that_goes_on_with_something_else(proxy, behind, etag, first, more):
    """Another version, from another place, or more than is missing."""
    body = some_bytes(4 * MIB)
    kept = behind.put("on", body).json["etag"]
    fault = proxy.add("GET /lake/on", cut=2 * MIB)
    rest = body[2 * MIB + first:] + more
    answer = proxy.add("GET /lake/on", answer=(206, rest, {
        "ETag": f'"{etag or kept}"',
        "Content-Range": f"bytes {2 * MIB + first}-{len(body) - 1 + len(more)}/{len(body) + 1}"}))
    with pytest.raises(Exception, match="IncompleteRead|Connection|closed"):
        behind.get("on")
    behind.client.close()
    assert fault.met == 1 and answer.met == 1
    assert behind.get("on").body == body


def test_a_list_of_what_nobody_asked_for_deletes_nothing(proxy, behind):
    """A deletion lists the manifests of its dataset, and deletes what is listed."""
    assert behind.put("precious", b"1").status == 200 and behind.put("data", b"1").status == 200
    answer = behind.client.post("/v1/catalog/register", {
        "name": "listed", "fingerprint": "f", "objects": [{"key": "data", "size": 1}]})
    if answer.status == 501:
        pytest.skip("built without DuckDB")
    assert answer.status == 201, answer
    listed = (b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>precious</Key>"
              b"<Size>1</Size></Contents></ListBucketResult>")
    fault = proxy.add(r"GET /lake\?.*prefix=_catalog%2Fmanifests%2Flisted",
                      answer=(200, listed, {}))
    answer = behind.client.delete("/v1/catalog/manifest/listed")
    assert answer.status >= 500 and "not below" in error_of(answer)["message"], answer
    assert fault.met == 1 and behind.get("precious").body == b"1"
    # The deletion was begun, and is finished once the store lists what it has.
    wait_until(lambda: behind.keys(prefix="_catalog/") == [])
    assert behind.get("precious").body == b"1"


def test_a_part_that_fails_for_good_leaves_nothing(proxy, behind, swift):
    before = set(swift.files())
    fault = proxy.add(r"PUT /lake/parts\?partNumber=3", times=100,
                      answer=(403, error_xml("AccessDenied"), {}))
    answer = behind.put("parts", some_bytes(100 * MIB))
    assert answer.status == 502 and "may not do this" in error_of(answer)["message"]
    assert fault.met == 1
    wait_until(lambda: set(swift.files()) <= before)


def test_parts_are_repeated(proxy, behind):
    body = some_bytes(80 * MIB)
    faults = [proxy.add(r"PUT /lake/again\?partNumber=2", times=2, answer=SLOW_DOWN),
              proxy.add(r"PUT /lake/again\?partNumber=4", lose=True),
              proxy.add(r"POST /lake/again\?uploads", answer=SLOW_DOWN)]
    answer = behind.put("again", body)
    assert answer.status == 200 and [fault.left for fault in faults] == [0, 0, 0]
    assert behind.get("again").body == body
    assert behind.delete("again").status == 204


def test_an_error_behind_200_and_a_lost_answer_to_the_last_step(proxy, behind):
    body = some_bytes(70 * MIB)
    late = proxy.add(r"POST /lake/late\?uploadId", answer=(200, error_xml("InternalError"), {}))
    assert behind.put("late", body).status == 200 and late.met == 1
    assert behind.get("late").body == body
    lost = proxy.add(r"POST /lake/lost\?uploadId", lose=True)
    answer = behind.put("lost", body)
    assert answer.status == 200 and answer.json["etag"].endswith("-5") and lost.met == 1
    assert behind.get("lost").body == body
    for key in ("late", "lost"):
        assert behind.delete(key).status == 204


def test_clocks_and_regions_are_named(proxy, behind):
    skewed = error_xml("RequestTimeTooSkewed", "<ServerTime>2031-01-02T03:04:05Z</ServerTime>")
    proxy.add("GET /lake/skewed", answer=(403, skewed, {}))
    answer = behind.get("skewed")
    message = error_of(answer)["message"]
    assert answer.status == 502 and "2031-01-02T03:04:05Z" in message and "clocks" in message
    assert time.strftime("%Y%m%dT", time.gmtime()) in message
    proxy.add("PUT /lake/moved", answer=(301, error_xml("PermanentRedirect"),
                                         {"x-amz-bucket-region": "ap-south-1"}))
    answer = behind.put("moved", b"1")
    assert answer.status == 502 and '"ap-south-1"' in error_of(answer)["message"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
                                  b"<Error><Code>" + b"x" * 100_000, b"\x00\xff" * 1000],
                         ids=["nothing", "a page", "entities", "a long code", "binary"])
def test_answers_that_are_not_from_s3(proxy, behind, body):
    for status in (200, 403):
        proxy.add("GET /lake\\?", answer=(status, body, {}))
        answer = behind.client.get("/v1/storage/list")
        assert answer.status == 502, answer


def test_a_store_that_is_away_for_a_moment_is_waited_for(proxy, behind):
    assert behind.put("stays", b"1").status == 200
    retries = behind.server.metric("lakehouse_s3_retries_total")
    proxy.go()

    def come_back():
        wait_until(lambda: behind.server.metric("lakehouse_s3_retries_total") > retries)
        proxy.come()

    def put():
        assert behind.put("back", b"2").status == 200

    in_parallel(put, come_back)
    assert behind.get("stays").body == b"1" and behind.get("back").body == b"2"


def test_a_store_that_is_killed_and_started_again(swift, server, objects):
    assert objects.put("kept", b"1").status == 200
    swift.kill()
    answer = objects.get("kept")
    assert answer.status == 502 and "Connection refused" in error_of(answer)["message"]
    assert server.client().get("/healthz").status == 200
    swift.start()
    assert objects.get("kept").body == b"1"
    assert objects.put("after", b"2").status == 200


def test_a_stop_in_mid_transfer_ends(swift):
    server = Server(*settings(swift.endpoint), "server.drain_timeout=1s")
    before = set(swift.files())
    raw = socket.create_connection(("127.0.0.1", server.port))
    raw.sendall(b"PUT /v1/storage/put/stopped HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n"
                b"\r\n" + some_bytes(40 * MIB))
    server.end()
    raw.close()
    wait_until(lambda: set(swift.files()) <= before)
