"""Objects over HTTP: put, get, delete and list, keys of every kind, conditions and ranges."""

import base64
import ctypes
import itertools
import json
import mmap
import os
import random
import subprocess
import time
import urllib.parse

import pytest
from lakehouse_server import SERVICES, Client, Server, wait_until
from raw_http import RawClient

LIBC = ctypes.CDLL(None)


def quote(key):
    return urllib.parse.quote(key, safe="/")


class Store:
    """A server with a root, and calls by key."""

    def __init__(self, root, *sets, **kw):
        self.root = str(root)
        self.server = Server(f"storaged.root={root}", *sets, **kw)
        self.client = Client(self.server.port or self.server.ports["storaged"])
        while self.client.get("/readyz").status != 200:  # its objects are being counted
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.close()
        self.server.__exit__(*exc)

    def put(self, key, body, **headers):
        return self.client.request(
            "PUT", "/v1/storage/put/" + quote(key), body, headers=named(headers)
        )

    def get(self, key, method="GET", **headers):
        return self.client.request(method, "/v1/storage/get/" + quote(key), headers=named(headers))

    def delete(self, key):
        return self.client.request("DELETE", "/v1/storage/delete/" + quote(key))

    def try_list(self, **query):
        return self.client.get("/v1/storage/list?" + urllib.parse.urlencode(query))

    def list(self, **query):
        answer = self.try_list(**query)
        assert answer.status == 200, answer
        return answer.json

    def keys(self, **query):
        """Of all pages."""
        found, cursor = [], {}
        while True:
            page = self.list(**query, **cursor)
            found += [entry["Key"] for entry in page["objects"]]
            if not page["truncated"]:
                assert "next_cursor" not in page
                return found
            cursor = {"cursor": page["next_cursor"]}


def named(headers):
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "root") as made:
        yield made


def test_what_is_put_is_got(store):
    body = os.urandom(100_000)
    answer = store.put("a/b.bin", body, Content_Type="image/png")
    assert answer.status == 200 and answer.json["key"] == "a/b.bin"
    assert answer.json["size"] == len(body)
    assert answer.headers["etag"] == '"%s"' % answer.json["etag"]
    got = store.get("a/b.bin")
    assert got.status == 200 and got.body == body
    assert got.headers["content-type"] == "image/png"
    assert got.headers["etag"] == answer.headers["etag"]
    assert got.headers["accept-ranges"] == "bytes"
    with open(os.path.join(store.root, "a", "b.bin"), "rb") as file:
        assert file.read() == body


def cached_pages(path):
    """How many of a file's are in the page cache, without a read, which would fetch them."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(mapped)
        assert LIBC.mincore(ctypes.byref(first), ctypes.c_size_t(len(mapped)), pages) == 0
        del first
        return sum(page & 1 for page in pages)


def pages_of_a_file(path, flags):
    """That is written with `flags` and synced: what the file system does about them."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
        os.write(file, mmap.mmap(-1, 65536))
    except OSError:
        pytest.skip("this file system knows no O_DIRECT")
    os.fsync(file)
    os.close(file)
    return cached_pages(path)


def test_a_body_of_one_piece_is_written_past_the_page_cache(store, tmp_path):
    if pages_of_a_file(tmp_path / "direct", os.O_DIRECT) or not pages_of_a_file(tmp_path / "a", 0):
        pytest.skip("this file system has pages, or none, whatever it is told")
    pages = {}
    for length in (16384, 65536, 65637):
        assert store.put(f"one/{length}", os.urandom(length)).status == 200
        pages[length] = cached_pages(os.path.join(store.root, "one", str(length)))
    assert pages[16384] > 0  # a short one is not
    assert pages[65536] == 0 and pages[65637] < 65637 // mmap.PAGESIZE  # but for its tail


def put_bytes(key, body):
    head = f"PUT /v1/storage/put/{key} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# Around what is read at once of a header, the least that is read of a body alone, one read, a piece
# for the store, two of them, and what is written past the page cache: whole blocks, with and without
# a tail.
LENGTHS = (0, 1, 2000, 2048, 4095, 4096, 6200, 32767, 32768, 32769, 36863, 65535, 65536, 70000,
           262143, 262144, 327681, 600001)


@pytest.mark.parametrize("cut", ["whole", "behind the header", "in three"])
def test_bodies_of_one_connection_arrive_whole_however_they_are_cut(store, cut):
    bodies = {f"cut/{length}": random.Random(length).randbytes(length) for length in LENGTHS}
    client = RawClient(store.server.port)
    for key, body in bodies.items():
        request = put_bytes(key, body)
        head = len(request) - len(body)
        ends = {"whole": [], "behind the header": [head], "in three": [head + len(body) // 3,
                                                                      head + 2 * len(body) // 3]}
        for first, end in itertools.pairwise([0, *ends[cut], len(request)]):
            client.send(request[first:end])
            time.sleep(0.005)  # so that the server reads what has come
        assert client.answer().json["size"] == len(body)
    client.close()
    assert all(store.get(key).body == body for key, body in bodies.items())


@pytest.mark.parametrize("pause", [0, 0.01])
def test_what_is_sent_behind_a_body_is_no_part_of_it(store, pause):
    """While a body is read to where it is written from, the next request is in the socket, too."""
    bodies = {f"pipe/{length}": random.Random(length).randbytes(length) for length in LENGTHS}
    requests = b"".join(put_bytes(key, body) for key, body in bodies.items())
    client = RawClient(store.server.port)
    at = 0
    for step in itertools.cycle((70001, 65536, 4097, 300000)):
        client.exchange(requests[at : at + step])
        at += step
        time.sleep(pause)
        if at >= len(requests):
            break
    for key, body in bodies.items():
        answer = client.answer()
        assert (answer.status, answer.json["key"], answer.json["size"]) == (200, key, len(body))
    client.close()
    assert all(store.get(key).body == body for key, body in bodies.items())


def test_a_key_that_is_not_there(store):
    answer = store.get("no/such")
    assert answer.status == 404 and answer.json["error"]["code"] == "key_not_found"
    assert store.delete("no/such").status == 204


def test_a_deleted_object_is_gone_and_so_are_its_folders(store):
    assert store.put("a/b/c/d", b"1").status == 200
    assert store.put("a/x", b"2").status == 200
    assert store.delete("a/b/c/d").status == 204
    assert store.get("a/b/c/d").status == 404
    assert os.listdir(os.path.join(store.root, "a")) == ["x"]
    assert store.keys() == ["a/x"]


def test_a_key_and_its_folder_both_exist(store):
    """In either order, with either going first, and after a restart."""
    assert store.put("a", b"file").status == 200
    assert store.put("a/b/c", b"deep").status == 200
    assert store.put("a/b", b"middle").status == 200
    assert [store.get(key).body for key in ("a", "a/b", "a/b/c")] == [b"file", b"middle", b"deep"]
    assert store.put("a", b"again").status == 200
    assert store.get("a").body == b"again"
    assert store.keys() == ["a", "a/b", "a/b/c"]
    with Store(store.root + "2") as other:  # the folder first
        assert other.put("k/l", b"1").status == 200
        assert other.put("k", b"2").status == 200
        assert other.get("k").body == b"2" and other.get("k/l").body == b"1"
    store.server.stop()
    with Store(store.root) as again:
        assert again.get("a").body == b"again" and again.get("a/b/c").body == b"deep"
        assert again.delete("a/b/c").status == 204
        assert again.delete("a/b").status == 204
        assert again.get("a").body == b"again"
        assert sorted(os.listdir(again.root)) == ["%lock", "%tmp", "a"]  # it has its name again


@pytest.mark.parametrize(
    "key",
    ["%", "%tmp/1", "%lock", "a%", "a%25", "100%/x", ".hidden", "...", "a b+c=&?#*()", "ü/日本/🙂",
     "A", "-", "x" * 254, "/".join(["d" * 100] * 10), "tmp", "lock", "a\\b", "con", "a:b", "'\"<>"],
)
def test_odd_keys_are_kept_as_they_are(store, key):
    body = key.encode()
    assert store.put(key, body).json["key"] == key
    assert store.get(key).body == body
    assert store.keys() == [key]
    store.server.stop()
    with Store(store.root) as again:
        assert again.keys() == [key]
        assert again.get(key).body == body
        assert again.delete(key).status == 204
        assert again.keys() == []


def test_keys_that_differ_in_case_are_different(store):
    for key in ("Key", "key", "KEY", "dir/a", "Dir/a"):
        assert store.put(key, key.encode()).status == 200
    for key in ("Key", "key", "KEY", "dir/a", "Dir/a"):
        assert store.get(key).body == key.encode()


@pytest.mark.parametrize(
    "path, place",
    [
        ("", "0 bytes"),
        ("a//b", "segment 2 is empty"),
        ("/a", "segment 1 is empty"),
        ("a/", "segment 2 is empty"),
        ("..", 'segment 1 is ".."'),
        ("a/../b", 'segment 2 is ".."'),
        ("a/%2e%2e/b", 'segment 2 is ".."'),
        ("a/..%2f..%2fb", 'segment 2 is ".."'),
        ("a/./b", 'segment 2 is "."'),
        ("a%0ab", "byte 2 is the control character 0x0a"),
        ("a%7f", "byte 2 is the control character 0x7f"),
        ("a%ff", "not UTF-8"),
        ("x" * 255, "segment 1 has 255 bytes"),
        ("%25" * 85, "segment 1 has 255 bytes"),
        ("/".join(["x" * 100] * 11), "1110 bytes"),
        ("a%00b", ""),
    ],
)
def test_bad_keys_are_refused_with_their_place(store, path, place):
    for method, call in (("PUT", "put"), ("GET", "get"), ("DELETE", "delete")):
        answer = store.client.request(method, f"/v1/storage/{call}/{path}", b"x" * (call == "put"))
        assert answer.status == 400, (call, answer)
        assert place in answer.json["error"]["message"]
    assert store.keys() == []


def test_no_symbolic_link_is_followed(store, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s")
    os.symlink(secret, os.path.join(store.root, "out"))
    os.symlink(secret / "key", os.path.join(store.root, "file"))
    assert store.get("out/key").status == 404
    assert store.get("file").status == 404
    answer = store.put("out/new", b"x")
    assert answer.status == 400 and "symbolic link" in answer.json["error"]["message"]
    assert store.delete("out/key").status == 400
    assert os.listdir(secret) == ["key"]
    assert store.put("file", b"own").status == 200  # the link itself is replaced
    assert store.get("file").body == b"own" and (secret / "key").read_text() == "s"


# ---- conditions ----


def test_conditions_of_a_get(store):
    etag = store.put("k", b"0123456789").headers["etag"]
    other = '"0000"'
    modified = store.get("k").headers["last-modified"]
    for headers, status in (
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": "W/" + etag}, 304),
        ({"If_None_Match": f"{other}, {etag}"}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": other}, 200),
        ({"If_None_Match": "nonsense"}, 200),
        ({"If_Modified_Since": modified}, 304),
        ({"If_Modified_Since": modified, "If_None_Match": other}, 200),
        ({"If_Modified_Since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 200),
        ({"If_Match": etag}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": other}, 412),
        ({"If_Match": "W/" + etag}, 412),
    ):
        for method in ("GET", "HEAD"):
            answer = store.get("k", method, **headers)
            assert answer.status == status, (headers, answer)
            if status in (200, 304):
                assert answer.headers["etag"] == etag
            if status == 304:
                assert answer.body == b""


def test_conditions_of_a_put(store):
    created = store.put("k", b"1", If_None_Match="*")
    assert created.status == 200
    refused = store.put("k", b"2", If_None_Match="*")
    assert refused.status == 412 and refused.json["error"]["code"] == "precondition_failed"
    assert store.put("k", b"2", If_Match='"other"').status == 412
    assert store.put("new", b"2", If_Match="*").status == 412
    assert store.put("k", b"2" * 3_000_000, If_None_Match="*").status == 412
    assert store.get("k").body == b"1"
    assert store.put("k", b"3", If_Match=created.headers["etag"]).status == 200
    assert store.get("k").body == b"3"
    assert os.listdir(os.path.join(store.root, "%tmp")) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("folder", ["", "in/a/folder/"])
def test_conditions_of_a_change(store, method, is_there, folder):
    key, other = folder + "k", '"0000"'
    etag = store.put("same bytes", b"here").headers["etag"]
    for headers, holds in (
        ({"If_Match": etag}, is_there),
        ({"If_Match": f"{other}, {etag}"}, is_there),
        ({"If_Match": "*"}, is_there),
        ({"If_Match": other}, False),
        ({"If_Match": "W/" + etag}, False),
        ({"If_Match": "nonsense"}, False),
        ({"If_None_Match": "*"}, not is_there),
        ({"If_None_Match": etag}, not is_there),
        ({"If_None_Match": "W/" + etag}, not is_there),
        ({"If_None_Match": other}, True),
        ({"If_Match": etag, "If_None_Match": other}, is_there),
        ({"If_Match": etag, "If_None_Match": etag}, False),
    ):
        assert (store.put(key, b"here") if is_there else store.delete(key)).status in (200, 204)
        call = "put" if method == "PUT" else "delete"
        answer = store.client.request(method, f"/v1/storage/{call}/{key}",
                                      b"new" if method == "PUT" else None, named(headers))
        done = 200 if method == "PUT" else 204
        assert answer.status == (done if holds else 412), (headers, answer)
        after = store.get(key)
        if not holds:
            assert answer.code == "precondition_failed"
            assert (after.status, after.body == b"here") == ((200, True) if is_there else
                                                             (404, False))
        elif method == "PUT":
            assert after.body == b"new"
        else:
            assert after.status == 404
    assert os.listdir(os.path.join(store.root, "%tmp")) == []


def test_conditions_of_a_delete_find_an_object_whose_name_is_a_folder(store):
    etag = store.put("a", b"file").headers["etag"]
    assert store.put("a/b", b"deep").status == 200
    for value, status in (('"0000"', 412), (etag, 204)):
        answer = store.client.delete("/v1/storage/delete/a", headers={"If-Match": value})
        assert answer.status == status
    assert store.keys() == ["a/b"]


def test_etags_follow_the_bytes_and_outlive_a_restart(store):
    one = store.put("k", b"same").headers["etag"]
    assert store.put("l", b"same").headers["etag"] == one
    assert store.put("k", b"else").headers["etag"] != one
    assert store.put("k", b"same", Content_Type="text/css").headers["etag"] == one
    store.server.stop()
    with Store(store.root) as again:
        answer = again.get("k", If_None_Match=one)
        assert answer.status == 304
        assert again.get("k").headers["content-type"] == "text/css"
        assert {entry["ETag"] for entry in again.list()["objects"]} == {one.strip('"')}


def test_a_file_of_another_program_is_an_object(store):
    """It is got at once, and has an ETag that changes with its bytes."""
    os.makedirs(os.path.join(store.root, "in"))
    path = os.path.join(store.root, "in", "file")
    with open(path, "w") as file:
        file.write("one")
    first = store.get("in/file")
    assert first.body == b"one"
    store.put("k", b"kept")
    kept = store.get("k").headers["etag"]
    with open(os.path.join(store.root, "k"), "r+") as file:  # in place, under the attribute
        file.write("torn")
    assert store.get("k").headers["etag"] != kept
    store.server.stop()
    with Store(store.root) as again:
        assert again.keys() == ["in/file", "k"]
        assert again.get("in/file").headers["etag"] == first.headers["etag"]


# ---- ranges ----


def test_ranges(store):
    etag = store.put("k", b"0123456789").headers["etag"]
    modified = store.get("k").headers["last-modified"]
    for value, body, content_range in (
        ("bytes=0-0", b"0", "0-0/10"),
        ("bytes=2-4", b"234", "2-4/10"),
        ("bytes=7-", b"789", "7-9/10"),
        ("bytes=7-99", b"789", "7-9/10"),
        ("bytes=-3", b"789", "7-9/10"),
        ("bytes=-99", b"0123456789", "0-9/10"),
        ("BYTES=1-2", b"12", "1-2/10"),
    ):
        answer = store.get("k", Range=value)
        assert (answer.status, answer.body) == (206, body), value
        assert answer.headers["content-range"] == "bytes " + content_range
        head = store.get("k", "HEAD", Range=value)
        assert head.status == 206 and head.headers["content-length"] == str(len(body))
    for value in ("bytes=10-", "bytes=99-100", "bytes=-0"):
        answer = store.get("k", Range=value)
        assert answer.status == 416 and answer.headers["content-range"] == "bytes */10"
    for value in ("bytes=4-2", "bytes=a-b", "lines=1-2", "bytes=", "bytes=-", "bytes=0-1,3-4",
                  "bytes=99999999999999999999-"):
        answer = store.get("k", Range=value)
        assert (answer.status, answer.body) == (200, b"0123456789"), value
    assert store.get("k", Range="bytes=1-1", If_Range=etag).status == 206
    assert store.get("k", Range="bytes=1-1", If_Range=modified).status == 206
    assert store.get("k", Range="bytes=1-1", If_Range='"old"').status == 200
    assert store.get("k", Range="bytes=1-1", If_Range="W/" + etag).status == 200
    assert store.get("k", Range="bytes=1-1", If_None_Match=etag).status == 304


def test_an_empty_object(store):
    assert store.put("empty", b"", Content_Type="text/plain").json["size"] == 0
    answer = store.get("empty")
    assert answer.status == 200 and answer.body == b""
    assert answer.headers["content-type"] == "text/plain"
    assert store.get("empty", Range="bytes=0-").status == 416
    assert store.get("empty", "HEAD").headers["content-length"] == "0"


# ---- lists ----


def test_lists_are_in_byte_order_and_pages_are_seamless(store):
    keys = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "b", "Z", "ä", "a%b", "a/"[:1] + "~"]
    for key in keys:
        assert store.put(key, key.encode()).status == 200
    in_order = sorted(keys, key=lambda key: key.encode())
    assert store.keys() == in_order
    for limit in (1, 2, 3, 1000):
        assert store.keys(limit=limit) == in_order
    assert store.keys(prefix="a/") == ["a/b", "a/b/c"]
    assert store.keys(prefix="a/b", limit=1) == ["a/b", "a/b/c"]
    assert store.keys(prefix="nothing") == []
    # A prefix is bytes, not a path, and a cursor a place, whether or not a key is there.
    assert store.keys(prefix="/") == store.keys(prefix="a//") == store.keys(prefix="..") == []
    assert store.keys(prefix="a%") == ["a%b"]
    for after in ("a", "a/", "a/b", "a/b0", "0", "ä", "ü"):
        cursor = base64.urlsafe_b64encode(after.encode()).decode().rstrip("=")
        if after.endswith("/"):
            assert store.try_list(cursor=cursor).code == "invalid_cursor"
            continue
        page = [entry["Key"] for entry in store.list(cursor=cursor)["objects"]]
        assert page == [key for key in in_order if key.encode() > after.encode()]
        page = [entry["Key"] for entry in store.list(cursor=cursor, prefix="a/")["objects"]]
        assert page == [key for key in ("a/b", "a/b/c") if key.encode() > after.encode()]
    entry = store.list(prefix="b")["objects"][0]
    assert entry["Size"] == 1 and entry["ETag"] == store.get("b").headers["etag"].strip('"')
    assert entry["LastModified"].endswith("Z") and len(entry["LastModified"]) == 24


@pytest.mark.parametrize(
    "query, code",
    [
        ({"limit": "0"}, "invalid_argument"),
        ({"limit": "1001"}, "invalid_argument"),
        ({"limit": "x"}, "invalid_argument"),
        ({"cursor": "!!!!"}, "invalid_cursor"),
        ({"cursor": "AAAA"}, "invalid_cursor"),
        ({"cursor": "YQ+"}, "invalid_cursor"),
        ({"cursor": "Li4"}, "invalid_cursor"),  # of ".."
        ({"cursor": "YQ=="}, "invalid_cursor"),
        ({"limit": ""}, "invalid_argument"),
        ({"limit": "-1"}, "invalid_argument"),
        ({"limit": "99999999999999999999"}, "invalid_argument"),
        ({"prefix": "x" * 1025}, "limit_exceeded"),
        ({"prefix": b"\xff"}, "invalid_argument"),
    ],
)
def test_bad_list_queries_are_refused(store, query, code):
    answer = store.try_list(**query)
    assert answer.status == 400 and answer.json["error"]["code"] == code


# ---- where it answers ----


def test_it_answers_on_its_own_port_with_and_without_v1(store):
    store.put("k", b"1")
    for target in ("/storage/get/k", "/v1/storage/get/k"):
        answer = store.server.ask(
            f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), service="storaged"
        )
        assert answer.status == 200 and answer.body == b"1"


def test_without_a_root_it_says_what_to_configure():
    with Server() as server, server.client() as client:
        for method, path in (("PUT", "put/k"), ("GET", "get/k"), ("DELETE", "delete/k"),
                             ("GET", "list")):
            answer = client.request(method, "/v1/storage/" + path, b"x" if "put" in path else None)
            assert answer.status == 501
            assert "[storaged] root" in answer.json["error"]["message"]


def test_two_servers_cannot_have_one_root(store):
    command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused")]
    for setting in (*(f"{name}.bind=127.0.0.1:0" for name in SERVICES),
                    f"storaged.root={store.root}"):
        command += ["--set", setting]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode != 0
    assert "storaged.root" in run.stderr and "in use" in run.stderr


def test_metrics_count_objects(store):
    store.put("k", b"12345")
    store.get("k")
    store.delete("k")
    for name, value in (("put", 1), ("got", 1), ("deleted", 1)):
        assert store.server.metric(f"lakehouse_objects_{name}_total") == value
    assert store.server.metric("lakehouse_objects_put_bytes_total") == 5
    wait_until(lambda: store.server.metric("lakehouse_objects_in_flight") == 0)
    assert json.loads(store.client.get("/openapi.json").body)["paths"]["/v1/storage/list"]
