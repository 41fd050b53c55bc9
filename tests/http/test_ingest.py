"""Ingest over HTTP: files become datasets, whole or not at all; what is told of bad ones; progress,
cancelling, and what is left behind when a client, a disk, another service or the process goes."""

import ctypes
import gzip
import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest
from lakehouse_server import Client, Server, in_parallel, mount, unmount, wait_until
from raw_upstream import Upstream
from tokens import secrets_file, token

PEOPLE = b"id,name,born\n1,Ada,1815-12-10\n2,Grace,1906-12-09\n"


def wait_for_catalog(port):
    with Client(port) as client:
        if client.get("/v1/catalog/list").status != 501:
            wait_until(lambda: client.get("/readyz").json["catalog"]["state"] == "read")


def zstd(body):
    """A frame of one raw block (RFC 8878)."""
    assert len(body) < 256
    head = b"\x28\xb5\x2f\xfd\x20" + bytes([len(body)])
    return head + (len(body) << 3 | 1).to_bytes(3, "little") + body


class Ingest:
    """One process with object store, catalog and ingest, or more of them behind a gateway."""

    def __init__(self, folder, *sets, **kw):
        self.folder = folder
        self.sets = (f"storaged.root={folder}/objects", f"ingestd.spool_dir={folder}/spool", *sets)
        self.options = kw
        self.start()

    def start(self):
        self.server = Server(*self.sets, **self.options)
        self.port = self.server.port
        wait_for_catalog(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.__exit__(*exc)

    def restart(self, is_killed=False):
        if is_killed:
            self.server.kill()
        self.server.__exit__(None)
        self.start()

    def post(self, body, headers=None, chunked=False, **query):
        with Client(self.port, timeout=300) as client:
            return client.request("POST", "/v1/ingest?" + urllib.parse.urlencode(query), body,
                                  headers=headers, chunked=chunked)

    def take(self, body, status=201, **query):
        answer = self.post(body, **query)
        assert answer.status == status, answer
        return answer.json

    def ask(self, method, path):
        with Client(self.port) as client:
            return client.request(method, path)

    def state(self, request_id):
        return self.ask("GET", "/v1/ingest/" + request_id).json

    def cancel(self, request_id):
        return self.ask("DELETE", "/v1/ingest/" + request_id)

    def manifest(self, name, **query):
        return self.ask("GET", f"/v1/catalog/manifest/{name}?" + urllib.parse.urlencode(query))

    def object(self, key):
        return self.ask("GET", "/v1/storage/get/" + urllib.parse.quote(key)).body

    def keys(self, prefix="datasets/"):
        listed = self.ask("GET", "/v1/storage/list?limit=1000&prefix=" + prefix).json
        return [entry["Key"] for entry in listed["objects"]]

    def spool(self):
        """What lies there but the lock, and what DuckDB has spilled."""
        return [name for name in os.listdir(f"{self.folder}/spool") if name not in ("lock", "spill")]

    def expect_nothing_of(self, name):
        wait_until(lambda: self.spool() == [])
        assert self.manifest(name).code == "dataset_not_found"
        assert self.keys(f"datasets/{name}/") == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ingest")


@pytest.fixture(scope="module")
def ingest(folder):
    with Ingest(folder, "ingestd.workers=2", "ingestd.max_ingest_bytes=300MiB") as made:
        if made.post(PEOPLE, name="probe").status == 501:
            pytest.skip("built without DuckDB")
        yield made
        wait_until(lambda: made.spool() == [])


def big_csv(rows, seed=1):
    generator = random.Random(seed)
    lines = ["id,name,score,born,note"]
    for i in range(rows):
        lines.append(f"{i},n{generator.getrandbits(40):x},{generator.random():.6f},"
                     f"19{i % 80 + 10}-0{i % 9 + 1}-1{i % 9},note {generator.getrandbits(60):x}")
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture(scope="module")
def large():
    """Of some 60 MB."""
    return big_csv(900_000)


LONG_ROWS = 8_000_000


@pytest.fixture(scope="module")
def long():
    """Soon sent, and converted for so many seconds that it can be met in the middle of it."""
    rows = b"".join(b"%d,n%d,0.%03d,19%02d-01-1%d,note %d\n" % (i, i, i, i % 80 + 10, i % 9, i * 3)
                    for i in range(500))
    return gzip.compress(b"id,name,score,born,note\n") + gzip.compress(rows * 200) * 80


# ---- a file becomes a dataset ----


def test_a_file_becomes_a_dataset(ingest):
    answer = ingest.post(PEOPLE, name="people")
    assert answer.status == 201
    made = answer.json
    assert (made["name"], made["version"], made["rows"]) == ("people", 1, 2)
    assert made["columns"] == [{"name": "id", "type": "BIGINT"}, {"name": "name", "type": "VARCHAR"},
                               {"name": "born", "type": "DATE"}]
    assert made["request_id"] == answer.headers["x-request-id"]
    parquet = ingest.object(made["key"])
    assert parquet[:4] == parquet[-4:] == b"PAR1" and len(parquet) == made["bytes"]
    assert hashlib.sha256(parquet).hexdigest() == made["fingerprint"]
    assert made["key"] == f"datasets/people/{made['fingerprint']}.parquet"
    manifest = ingest.manifest("people").json
    assert manifest["dataset_id"] == made["dataset_id"]
    assert (manifest["row_count"], manifest["fingerprint"]) == (2, made["fingerprint"])
    assert manifest["schema"] == made["columns"]
    assert manifest["objects"] == [{"key": made["key"], "size": made["bytes"]}]


def test_the_same_again_is_the_same(ingest):
    first = ingest.take(PEOPLE, name="again")
    for mode in ("create", "replace", "append"):
        second = ingest.take(PEOPLE, status=200, name="again", mode=mode)
        second["request_id"] = first["request_id"]
        assert second == first
    assert len(ingest.keys("datasets/again/")) == 1


def test_modes(ingest):
    ingest.take(PEOPLE, name="modes")
    other = PEOPLE + b"3,Edsger,1930-05-11\n"
    answer = ingest.post(other, name="modes")
    assert (answer.status, answer.code) == (409, "fingerprint_conflict")
    assert len(ingest.keys("datasets/modes/")) == 1
    replaced = ingest.take(other, name="modes", mode="replace")
    assert (replaced["version"], replaced["rows"]) == (2, 3)
    appended = ingest.take(b"id,name,born\n4,Barbara,1939-11-07\n", name="modes", mode="append")
    manifest = ingest.manifest("modes").json
    assert (appended["version"], manifest["row_count"], len(manifest["objects"])) == (3, 4, 2)
    answer = ingest.post(b"x,y\n1,2\n", name="modes", mode="append")
    assert (answer.status, answer.code) == (409, "schema_conflict")
    assert len(ingest.keys("datasets/modes/")) == 3  # version 1 has its own still
    assert ingest.manifest("modes").json == manifest


FORMATS = {
    "people.csv": PEOPLE,
    "people.tsv": PEOPLE.replace(b",", b"\t"),
    "people.csv.gz": gzip.compress(PEOPLE),
    "people.csv.zst": zstd(PEOPLE) + zstd(b"") + zstd(b"3,Barbara,1939-11-07\n"),
    "people.ndjson": b'{"id":1,"name":"Ada","born":"1815-12-10"}\n'
                     b'{"id":2,"name":"Grace","born":"1906-12-09"}\n',
    "people.json": b'[{"id":1,"name":"Ada","born":"1815-12-10"},'
                   b'{"id":2,"name":"Grace","born":"1906-12-09"}]',
}


def zstd_by_library(body):
    """As anybody's zstd makes it: blocks of 128 KiB, compressed."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compress.restype = library.ZSTD_compressBound.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(library.ZSTD_compressBound(ctypes.c_size_t(len(body))))
    size = library.ZSTD_compress(room, ctypes.c_size_t(len(room)), body,
                                 ctypes.c_size_t(len(body)), 3)
    return room.raw[:size]


@pytest.mark.parametrize("size", [131071, 131072, 131073, 1 << 20])
def test_compressed_files_may_end_where_a_block_does(ingest, size):
    text = (b"a\n" + b"12345\n" * size)[: size - 2] + b"1\n"  # no line is empty
    for number, pack in enumerate((gzip.compress, zstd_by_library)):
        made = ingest.take(pack(text), name=f"blocks_{size}_{number}")
        assert made["rows"] == text.count(b"\n") - 1


@pytest.mark.parametrize("file", FORMATS)
def test_formats_as_bodies_and_as_files(ingest, tmp_path, file):
    path = tmp_path / file
    path.write_bytes(FORMATS[file])
    url = f"http://127.0.0.1:{ingest.port}/v1/ingest?name=f_{file}"
    for i, how in enumerate((["--data-binary", f"@{path}"], ["-F", f"file=@{path}"],
                             ["-T", str(path), "-X", "POST"])):
        done = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", *how, url],
                              capture_output=True, check=True, timeout=60)
        body, status = done.stdout.rsplit(b"\n", 1)
        assert int(status) == (200 if i > 0 else 201), body
        assert json.loads(body)["rows"] == (3 if file.endswith(".zst") else 2)
        assert [c["type"] for c in json.loads(body)["columns"]] == ["BIGINT", "VARCHAR", "DATE"]


def test_parquet_and_compression_by_header(ingest):
    made = ingest.take(PEOPLE, name="source")
    parquet = ingest.object(made["key"])
    again = ingest.take(parquet, name="copied")
    assert (again["rows"], again["columns"]) == (2, made["columns"])
    answer = ingest.post(gzip.compress(PEOPLE), name="zipped", chunked=False,
                         headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"})
    assert (answer.status, answer.json["fingerprint"]) == (201, made["fingerprint"])
    answer = ingest.post(PEOPLE, name="zipped2", headers={"Content-Encoding": "br"})
    assert answer.status == 415
    answer = ingest.post(iter([PEOPLE[:20], PEOPLE[20:]]), name="chunked", chunked=True)
    assert (answer.status, answer.json["fingerprint"]) == (201, made["fingerprint"])


def test_options_of_csv(ingest):
    made = ingest.take(b"1;NA\n2;3,5\n", name="options", header="false", delim=";", nullstr="NA",
                       types='["INTEGER","VARCHAR"]')
    assert [column["type"] for column in made["columns"]] == ["INTEGER", "VARCHAR"]
    made = ingest.take(b"a\tb\n1\t'x\ty'\n", name="options2", delim="\\t", quote="'")
    assert (made["rows"], len(made["columns"])) == (1, 2)


# ---- what is told of bad ones ----


@pytest.mark.parametrize("query, message", [
    ({}, "name: "),
    ({"name": "../x"}, "name: "),
    ({"name": "x" * 129}, "name: "),
    ({"name": "x", "mode": "upsert"}, 'mode: "upsert" is none of create, replace, append'),
    ({"name": "x", "format": "xlsx"}, 'format: "xlsx" is none of csv'),
    ({"name": "x", "on_error": "ignore"}, "on_error: "),
    ({"name": "x", "header": "maybe"}, "header: "),
    ({"name": "x", "delim": ""}, "delim: "),
    ({"name": "x", "quote": "''"}, "quote: "),
    ({"name": "x", "format": "json", "delim": ";"}, "delim: an option of CSV"),
    ({"name": "x", "types": "{"}, "types: not JSON"),
    ({"name": "x" * 120, "on_error": "quarantine"}, "name: with __rejected"),
])
def test_bad_options(ingest, query, message):
    answer = ingest.post(PEOPLE, **query)
    assert (answer.status, answer.code) == (400, "invalid_argument")
    assert answer.message.startswith(message), answer.message


@pytest.mark.parametrize("body, message", [
    (b"", "line 1: the file is empty"),
    (b"a,b\n1,2\n3\n", 'line 3, column 1: the line has 1 columns, not 2: "3"'),
    (b"a,b\n1,2\n3,4,5\n", 'line 3, column 3: the line has 3 columns, not 2: "3,4,5"'),
    (b"a,b\n1,caf\xe9\n", "line 2, byte 6: not UTF-8"),
    ("a,b\n1,2\n".encode("utf-16"), "line 1, byte 1: a byte order mark of UTF-16"),
    (b"a,b\n1,x\0y\n", "line 2, byte 4: a NUL byte"),
    (b"a,b\n" + b"1,2\n" * 30000 + b"3,oops\n",
     'line 30002, column "b": "oops" is not of type BIGINT'),
    (gzip.compress(b"a,b\n" + b"1,2\n" * 30000 + b"3,oops\n"),
     'line 30002, column "b": "oops" is not of type BIGINT'),
    (gzip.compress(b"a,b\n1,x\0y\n2,z\n"), 'row 1, column "b": a NUL byte'),
    (gzip.compress(PEOPLE)[:-12], "the gzip file is cut off"),
    (gzip.compress(PEOPLE)[:-1] + b"x", "not gzip: incorrect length check"),
    (zstd(PEOPLE)[:-8], "the zstd file is cut off"),
    (b'{"a":1}\n{"a":}\n{"a":2}\n', 'line 2: not JSON'),
    (b"PAR1" + b"x" * 100 + b"PAR1", "not Parquet"),
])
def test_bad_files(ingest, body, message):
    answer = ingest.post(body, name="bad")
    assert (answer.status, answer.code) == (400, "invalid_data"), answer
    assert answer.message.startswith(message), answer.message
    ingest.expect_nothing_of("bad")


DEEP = b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}\n"


@pytest.mark.parametrize("body, line", [
    (DEEP, 1),
    (b'{"a":1}\n' * 3000 + DEEP, 3001),
    (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, 1),
    (b"[" * 500_000 + b"]" * 500_000, 1),
    (gzip.compress(b'{"a":"]]"}\n' + DEEP), 2),
])
@pytest.mark.parametrize("format", ["", "ndjson", "json"])
def test_json_that_nests_too_deep(ingest, body, line, format):
    answer = ingest.post(body, name="deep", **({"format": format} if format else {}))
    assert (answer.status, answer.code) == (400, "invalid_data"), answer
    assert answer.message == f"line {line}: JSON of more than 256 levels"
    ingest.expect_nothing_of("deep")


def test_json_that_nests(ingest):
    made = ingest.take(b'{"a":' + b"[" * 200 + b"]" * 200 + b',"b":"' + b"[" * 5000 + b'\\""}\n',
                       name="nests")
    assert made["rows"] == 1 and [column["name"] for column in made["columns"]] == ["a", "b"]


def zstd_zeros(count):
    """A frame that says a byte over and over, 128 KiB in four bytes of its own (RFC 8878)."""
    block = (131072 << 3 | 2).to_bytes(3, "little") + b"1"
    return b"\x28\xb5\x2f\xfd\x00\x38" + block * count + (1).to_bytes(3, "little")


def test_compressed_files_that_hold_too_much(tmp_path):
    with Ingest(tmp_path, "ingestd.max_decompressed_bytes=1MiB") as small:
        lines = b"a,b\n" + b"1,2\n" * 262_000
        assert small.take(gzip.compress(lines), name="fits")["rows"] == 262_000
        for body in (gzip.compress(lines + b"1,2\n" * 1000), gzip.compress(b"1" * 50_000_000),
                     gzip.compress(lines) + gzip.compress(lines), zstd_zeros(1_000_000)):
            started = time.monotonic()
            answer = small.post(body, name="bomb")
            assert (answer.status, answer.code) == (413, "body_too_large"), answer
            assert "1048576 bytes" in answer.message and time.monotonic() - started < 30
            small.expect_nothing_of("bomb")
        assert small.take(lines * 2, name="plain", header="false")["rows"] > 262_000
        numbers = "".join(f"{i * i}\n" for i in range(200_000)).encode()
        parquet = small.object(small.take(b"a\n" + numbers, name="numbers")["key"])
        answer = small.post(parquet, name="bomb")
        assert (answer.status, answer.code) == (413, "body_too_large"), answer
        assert "1048576 bytes (ingestd.max_decompressed_bytes)" in answer.message
        small.expect_nothing_of("bomb")


def test_bad_lines_are_put_aside(ingest):
    body = b"a,b\n" + b"1,2\n" * 30000 + b"3,oops\n4\n5,6\n"
    made = ingest.take(body, name="aside", on_error="quarantine")
    assert made["rows"] == 30001
    rejected = made["rejected"]
    assert (rejected["name"], rejected["rows"]) == ("aside__rejected", 2)
    assert [column["name"] for column in rejected["columns"]] == [
        "line", "byte_offset", "column", "error", "text"]
    assert ingest.manifest("aside__rejected").json["fingerprint"] == rejected["fingerprint"]
    assert ingest.take(body, status=200, name="aside", on_error="quarantine")["version"] == 1
    assert "rejected" not in ingest.take(PEOPLE, name="clean", on_error="quarantine")
    answer = ingest.post(b"a,b\n1,2\n3\n", name="aside", on_error="quarantine")
    assert answer.code == "fingerprint_conflict"
    assert ingest.manifest("aside__rejected").json["version"] == 1


@pytest.mark.parametrize("on_error", ["fail", "quarantine"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd_by_library], ids=["plain", "gzip", "zstd"])
def test_a_line_that_is_too_long(ingest, pack, on_error):
    """Longer than what DuckDB reads at once, it must not be left out."""
    name = "long_line"
    for rows in (30_000, 0):
        lines = b"id,note\n" + b"1,a\n" * 30_000
        body = lines + b"2," + b"x" * (9 << 20) + b"\n" + b"3,b\n" * rows
        answer = ingest.post(pack(body), name=name, on_error=on_error)
        assert (answer.status, answer.code) == (400, "invalid_data"), answer
        assert answer.message == f'line 30002: longer than 2097152 bytes: "2,{"x" * 38}"'
        ingest.expect_nothing_of(name)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd_by_library], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("header", [b"a,b\n", b""])
def test_a_quote_to_the_end(ingest, header, pack):
    lines = header + b"1,2\n" * 50_000
    name = "open_end"
    answer = ingest.post(pack(lines + b'3,"4\n' + b"5,6\n" * 20_000), name=name)
    assert (answer.status, answer.code) == (400, "invalid_data"), answer
    line = lines.count(b"\n") + 1
    assert f'line {line}, byte 3: a quote that is not closed: "3,"4"' in answer.message
    ingest.expect_nothing_of(name)
    answer = ingest.post(pack(header + b'0,"1\n' + b"5,6\n" * 20_000), name=name)
    assert (answer.status, answer.code) == (400, "invalid_data"), answer
    line = header.count(b"\n") + 1
    assert f'line {line}, byte 3: a quote that is not closed: "0,"1"' in answer.message
    ingest.expect_nothing_of(name)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_a_quote_that_is_not_closed(ingest, pack, request):
    name = "unclosed_" + request.node.callspec.id
    body = pack(b'a,b\n0,"k"\n1,"x\n2,y\n')
    answer = ingest.post(body, name=name)
    assert (answer.status, answer.code) == (400, "invalid_data"), answer
    assert 'line 3, byte 3: a quote that is not closed: "1,"x"' in answer.message
    ingest.expect_nothing_of(name)
    made = ingest.take(body, name=name, on_error="quarantine")
    assert (made["rows"], made["rejected"]["rows"]) == (1, 1)
    assert ingest.take(body, name=name + "_text", quote="")["rows"] == 3


def csv_with_bad_lines(end, rows, seed):
    """Records of many lines, some of them bad, and [line, byte_offset, text] of those."""
    generator = random.Random(seed)
    body, bad, line = [b"id,note"], [], 2
    offset = len(body[0] + end)
    for i in range(rows):
        note = end.join([b"n%020d" % i, b"", b"\xc3\xbc\"\""][:generator.randrange(4)])
        record = b'%d,"%s"' % (i, note)
        if generator.random() < 0.01 or i in (0, rows - 1):
            record = generator.choice([b'no,"%s"' % note, b"7", b"8,9,10"])
            bad.append([line, offset, record.decode()])
        body.append(record)
        line += 1 + record.count(end)
        offset += len(record + end)
    return end.join([*body, b""]), bad


@pytest.mark.parametrize("pack", [None, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("first", [1, 60_000], ids=["sampled", "later"])
def test_line_feeds_in_cells_of_lines_that_end_in_crlf(ingest, first, pack, request):
    """As spreadsheets write them."""
    rows = [b'%d,"two\nlines"' % i if i >= first else b"%d,one" % i for i in range(first + 3)]
    body = b"\r\n".join([b"id,note", *rows, b""])
    name = "cells_" + request.node.callspec.id.replace("-", "_")
    made = ingest.take(pack(body) if pack else body, name=name)
    assert made["rows"] == len(rows)
    with Client(ingest.port) as client:
        answer = client.post("/v1/sql", {"sql": f"SELECT id, note FROM {name} ORDER BY id DESC",
                                         "max_rows": 4})
        assert answer.json["rows"] == [[first + i, "two\nlines"] for i in (2, 1, 0)] + [
            [first - 1, "one"]]
        body += b'x,"two\nlines"\r\n'
        made = ingest.take(pack(body) if pack else body, name=name + "_bad", quote='"',
                           on_error="quarantine",
                           types=json.dumps({"id": "BIGINT", "note": "VARCHAR"}))
        assert (made["rows"], made["rejected"]["rows"]) == (len(rows), 1)
        answer = client.post("/v1/sql", {"sql": f"SELECT line FROM {name}_bad__rejected"})
    assert answer.json["rows"] == [[2 + first + 3 + 3]]  # a header, and three lines of two


@pytest.mark.parametrize("end, rows, pack", [
    (b"\n", 3000, None), (b"\r\n", 3000, None), (b"\r", 3000, None),
    (b"\n", 3000, gzip.compress), (b"\n", 3, zstd),
    (b"\n", 1_200_000, None), (b"\r\n", 1_200_000, gzip.compress),
], ids=["lf", "crlf", "cr", "gzip", "zstd", "long", "long-crlf-gzip"])  # fmt: skip
def test_rejected_lines_are_lines_of_the_file(ingest, end, rows, pack, request):
    body, bad = csv_with_bad_lines(end, rows, 5)
    name = "lines_" + request.node.callspec.id.replace("-", "_")
    made = ingest.take(pack(body) if pack else body, name=name, on_error="quarantine",
                       types=json.dumps({"id": "BIGINT", "note": "VARCHAR"}), quote='"')
    assert (made["rows"], made["rejected"]["rows"]) == (rows - len(bad), len(bad))
    with Client(ingest.port) as client:
        answer = client.post("/v1/sql", {
            "sql": f"SELECT line, byte_offset, text FROM {name}__rejected ORDER BY line",
            "max_rows": len(bad) + 1})
    assert answer.json["rows"] == bad


def test_bad_forms(ingest):
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = ingest.post(head + PEOPLE + b"\r\n--b--\r\n", name="form", headers=form)
    assert (answer.status, answer.json["rows"]) == (201, 2)
    for body in (b"", head + PEOPLE, head + PEOPLE + b"\r\n" + head + PEOPLE + b"\r\n--b--"):
        answer = ingest.post(body, name="badform", headers=form)
        assert (answer.status, answer.code) == (400, "bad_request")
    answer = ingest.post(b"", name="badform", headers={"Content-Type": "multipart/form-data"})
    assert answer.code == "invalid_argument"
    ingest.expect_nothing_of("badform")


def test_too_large(tmp_path):
    with Ingest(tmp_path, "ingestd.max_ingest_bytes=100KiB") as small:
        assert small.take(PEOPLE, name="fits")
        body = b"a,b\n" + b"1,2\n" * 30000
        answer = small.post(body, name="large")
        assert (answer.status, answer.code) == (413, "body_too_large")
        answer = small.post((body[i:i + 1000] for i in range(0, len(body), 1000)), chunked=True,
                            name="large")
        assert (answer.status, answer.code) == (413, "body_too_large")
        small.expect_nothing_of("large")


# ---- progress, cancelling, going away ----


class Upload:
    """A request whose body is sent as the test likes."""

    def __init__(self, port, name, length, request_id):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=300)
        self.socket.sendall(f"POST /v1/ingest?name={name} HTTP/1.1\r\nHost: x\r\n"
                            f"X-Request-Id: {request_id}\r\nContent-Type: text/csv\r\n"
                            f"Content-Length: {length}\r\n\r\n".encode())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, bytes):
        self.socket.sendall(bytes)

    def answer(self):
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return response.status, json.loads(response.read())


def wait_for_state(ingest, request_id, *states):
    wait_until(lambda: ingest.state(request_id).get("state") in states)


def test_progress_and_what_became_of_it(ingest, long):
    seen = set()
    half = len(long) // 2
    with Upload(ingest.port, "progress", len(long), "progress-1") as upload:
        upload.send(long[:half])
        wait_until(lambda: ingest.state("progress-1").get("bytes_received") == half)
        assert ingest.state("progress-1")["state"] == "uploading"
        upload.send(long[half:])
        wait_for_state(ingest, "progress-1", "converting")
        rows = [0]
        while (state := ingest.state("progress-1"))["state"] not in ("done", "failed"):
            seen.add(state["state"])
            rows.append(state["rows"])
            time.sleep(0.01)
        status, made = upload.answer()
    assert (status, made["rows"], state["state"]) == (201, LONG_ROWS, "done")
    assert "converting" in seen and len(set(rows)) > 3 and rows == sorted(rows)
    assert state["result"] == made and state["rows"] == LONG_ROWS
    ingest.post(b"a,b\n1\n", name="failed", headers={"X-Request-Id": "failed-1"})
    state = ingest.state("failed-1")
    assert (state["state"], state["error"]["code"]) == ("failed", "invalid_data")
    assert ingest.ask("GET", "/v1/ingest/nobody").code == "ingest_not_found"
    assert ingest.cancel("progress-1").code == "ingest_not_found"


def test_cancelling_an_upload(ingest):
    with Upload(ingest.port, "cancelled", 1 << 20, "cancel-1") as upload:
        upload.send(PEOPLE)
        wait_for_state(ingest, "cancel-1", "uploading")
        answer = ingest.post(PEOPLE, name="other", headers={"X-Request-Id": "cancel-1"})
        assert answer.code == "invalid_argument"  # it is under way
        assert ingest.cancel("cancel-1").status == 204
        status, body = upload.answer()
        assert (status, body["error"]["code"]) == (409, "cancelled")
    ingest.expect_nothing_of("cancelled")


def test_cancelling_a_conversion(ingest, long):
    with Upload(ingest.port, "cancelled", len(long), "cancel-2") as upload:
        upload.send(long)
        wait_until(lambda: ingest.state("cancel-2").get("rows", 0) > 0)
        assert ingest.cancel("cancel-2").status == 204
        started = time.monotonic()
        status, body = upload.answer()
        assert (status, body["error"]["code"]) == (409, "cancelled")
        assert time.monotonic() - started < 10
    assert ingest.state("cancel-2")["state"] == "failed"
    ingest.expect_nothing_of("cancelled")
    assert ingest.take(PEOPLE, name="after_cancel")["rows"] == 2


def test_a_client_goes_away(ingest, long):
    with Upload(ingest.port, "gone", 1 << 20, "gone-1") as upload:
        upload.send(PEOPLE)
        wait_for_state(ingest, "gone-1", "uploading")
    wait_for_state(ingest, "gone-1", "failed")
    ingest.expect_nothing_of("gone")
    with Upload(ingest.port, "gone", len(long), "gone-2") as upload:
        upload.send(long)
        wait_until(lambda: ingest.state("gone-2").get("rows", 0) > 0)
    wait_for_state(ingest, "gone-2", "failed")
    assert ingest.state("gone-2")["error"]["code"] == "cancelled"
    ingest.expect_nothing_of("gone")


def test_others_go_on_meanwhile(ingest, long):
    with Upload(ingest.port, "long", len(long), "long-1") as upload:
        upload.send(long)
        wait_until(lambda: ingest.state("long-1").get("rows", 0) > 0)
        assert ingest.take(PEOPLE, name="short")["rows"] == 2
        with Client(ingest.port) as client:
            started = time.monotonic()
            assert client.get("/healthz").status == 200
            assert time.monotonic() - started < 5
        assert ingest.state("long-1")["state"] != "done"
        assert upload.answer()[0] == 201


def test_many_of_one_name(ingest):
    bodies = [PEOPLE + f"{i},Someone,2000-01-01\n".encode() for i in range(20)]
    statuses = []
    in_parallel(*(lambda body=body: statuses.append(ingest.post(body, name="crowd").status)
                  for body in bodies))
    assert sorted(statuses) == [201] + [409] * 19
    assert len(ingest.keys("datasets/crowd/")) == 1
    statuses.clear()
    in_parallel(*(lambda: statuses.append(ingest.post(bodies[3], name="same").status)
                  for _ in range(20)))
    assert sorted(statuses) == [200] * 19 + [201]
    statuses.clear()
    in_parallel(*(lambda body=body: statuses.append(
        ingest.post(body, name="pile", mode="append").status) for body in bodies))
    assert statuses == [201] * 20
    manifest = ingest.manifest("pile").json
    assert (manifest["version"], manifest["row_count"]) == (20, 60)


def test_memory_stays_bounded(tmp_path, large):
    with Ingest(tmp_path, "ingestd.max_ingest_bytes=1GiB") as alone:
        alone.take(PEOPLE, name="first")
        before = alone.server.resident_bytes()
        highest = [before]
        over = threading.Event()

        def watch():
            while not over.wait(0.02):
                highest[0] = max(highest[0], alone.server.resident_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        rows = large.partition(b"\n")[2]
        try:
            alone.take((large if i == 0 else rows for i in range(4)), name="large", chunked=True)
        finally:
            over.set()
            watcher.join()
        if not alone.server.is_sanitized():
            assert highest[0] - before < 400 << 20


# ---- when something else goes ----


def test_killed_in_mid_ingest(tmp_path, long):
    with Ingest(tmp_path) as ingest:
        ingest.take(PEOPLE, name="before")
        with Upload(ingest.port, "killed", len(long), "k-1") as upload, \
                Upload(ingest.port, "half", 1 << 20, "k-2") as half:
            half.send(PEOPLE)
            upload.send(long)
            wait_until(lambda: ingest.state("k-1").get("rows", 0) > 0)
            assert ingest.spool() != []
            ingest.restart(is_killed=True)
        ingest.expect_nothing_of("killed")
        ingest.expect_nothing_of("half")
        assert ingest.manifest("before").status == 200
        assert ingest.take(PEOPLE, name="killed")["version"] == 1


def test_killed_again_and_again(tmp_path):
    """At any moment: a dataset is there with all its rows, or nothing of it is."""
    body = big_csv(20_000)
    generator = random.Random(7)
    with Ingest(tmp_path) as ingest:
        for i in range(8):
            name = f"round{i}"
            post = threading.Thread(target=lambda: try_post(ingest, body, name))
            post.start()
            time.sleep(generator.random() * 0.25)
            ingest.server.kill()
            post.join()
            ingest.restart()
            wait_until(lambda: ingest.spool() == [])
            manifest = ingest.manifest(name)
            if manifest.status == 200:
                assert manifest.json["row_count"] == 20_000
                assert [o["key"] for o in manifest.json["objects"]] == \
                    ingest.keys(f"datasets/{name}/")
            else:
                assert ingest.keys(f"datasets/{name}/") == []
            assert ingest.take(body, 200 if manifest.status == 200 else 201, name=name)


def try_post(ingest, body, name):
    try:
        ingest.post(body, name=name)
    except OSError:
        pass


def test_objects_that_a_crash_has_left(tmp_path):
    """An object that was stored and not registered goes; one that an old version names stays."""
    with Ingest(tmp_path) as ingest:
        made = ingest.take(PEOPLE, name="kept")
        ingest.take(PEOPLE + b"3,Edsger,1930-05-11\n", name="kept", mode="replace")
        with Client(ingest.port) as client:
            client.request("PUT", "/v1/storage/put/datasets/lost/0.parquet", b"x")
        ingest.server.stop()
        (tmp_path / "spool" / "7.pending").write_text(
            f"kept\nkept {made['key']}\nlost datasets/lost/0.parquet\n")
        (tmp_path / "spool" / "8.pending").write_text("cut")
        (tmp_path / "spool" / "9.upload").write_text("x")
        ingest.restart()
        wait_until(lambda: ingest.spool() == [])
        assert ingest.keys("datasets/lost/") == []
        assert made["key"] in ingest.keys("datasets/kept/")


@pytest.fixture
def small_spool(tmp_path):
    """A server's folder, whose spool is a file system of its own, of 12 MiB."""
    spool = tmp_path / "spool"
    spool.mkdir()
    mount(spool, "size=12m")
    yield tmp_path
    unmount(spool)


def test_a_full_disk(small_spool):
    with Ingest(small_spool) as ingest:
        answer = ingest.post(big_csv(300_000), name="full")
        assert (answer.status, answer.code) == (507, "no_space")
        ingest.expect_nothing_of("full")
        # It fits as it is sent, and not beside what it becomes.
        noise = random.Random(3)
        body = b"a\n" + b"".join(b"%x\n" % noise.getrandbits(256) for _ in range(140_000))
        assert len(body) < 10 << 20
        answer = ingest.post(body, name="full")
        assert (answer.status, answer.code) == (507, "no_space")
        ingest.expect_nothing_of("full")
        assert ingest.take(PEOPLE, name="small")["rows"] == 2


def test_what_no_link_may_become_is_copied_and_counted_once(small_spool):
    """A spool on another file system than the objects."""
    with Ingest(small_spool) as ingest:
        before = ingest.server.metric("lakehouse_objects_put_bytes_total")
        ingest.take(big_csv(20_000), name="copied")
        with Client(ingest.port) as client:
            sizes = {entry["Key"]: entry["Size"]
                     for entry in client.get("/v1/storage/list").json["objects"]}
        assert len(sizes) == 2  # the dataset's file and its manifest
        taken = ingest.server.metric("lakehouse_objects_put_bytes_total") - before
        assert taken == sum(sizes.values())


def test_without_a_store(tmp_path):
    with Server() as server, server.client() as client:
        for method, path in (("POST", "/v1/ingest?name=x"), ("GET", "/v1/ingest/x"),
                             ("DELETE", "/v1/ingest/x")):
            answer = client.request(method, path)
            assert (answer.status, answer.code) == (501, "not_implemented")


def alone(service, *sets, bind="127.0.0.1:0"):
    """One service in a process of its own."""
    others = ("gateway", "vectord", "storaged", "catalogd", "ingestd", "queryd")
    binds = (f"{other}.bind=none" for other in others if other != service)
    return Server(*binds, f"{service}.bind={bind}", *sets, binds=())


class Split:
    """Every service in a process of its own, and a gateway before them."""

    def __init__(self, folder):
        self.storaged = alone("storaged", f"storaged.root={folder}/objects")
        self.storaged_url = f"http://127.0.0.1:{self.storaged.ports['storaged']}"
        self.catalog_bind = "127.0.0.1:0"
        self.start_catalog()
        catalogd_url = f"http://{self.catalog_bind}"
        self.ingestd = alone("ingestd", f"ingestd.spool_dir={folder}/spool",
                             f"ingestd.storaged_url={self.storaged_url}",
                             f"ingestd.catalogd_url={catalogd_url}")
        ingestd_url = f"http://127.0.0.1:{self.ingestd.ports['ingestd']}"
        self.gateway = alone("gateway", f"gateway.storaged_url={self.storaged_url}",
                             f"gateway.catalogd_url={catalogd_url}",
                             f"gateway.ingestd_url={ingestd_url}")

    def start_catalog(self):
        self.catalogd = alone("catalogd", f"catalogd.storaged_url={self.storaged_url}",
                              bind=self.catalog_bind)
        self.catalog_bind = f"127.0.0.1:{self.catalogd.ports['catalogd']}"
        with Client(self.catalogd.ports["catalogd"]) as client:
            wait_until(lambda: client.get("/readyz").json["catalog"]["state"] == "read")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for server in (self.gateway, self.ingestd, self.catalogd, self.storaged):
            server.kill()
            server.log.close()


class SplitIngest(Ingest):
    def __init__(self, split, folder):
        self.folder = folder
        self.split = split
        self.port = split.gateway.port


def test_in_processes_of_their_own(tmp_path):
    with Split(tmp_path) as split:
        ingest = SplitIngest(split, tmp_path)
        made = ingest.take(PEOPLE, name="people")
        assert hashlib.sha256(ingest.object(made["key"])).hexdigest() == made["fingerprint"]
        assert ingest.manifest("people").json["row_count"] == 2
        assert ingest.take(PEOPLE, status=200, name="people")["version"] == 1
        assert ingest.state(made["request_id"])["state"] == "done"
        with Client(split.ingestd.ports["ingestd"]) as client:  # with and without /v1
            for prefix in ("", "/v1"):
                answer = client.post(f"{prefix}/ingest?name=direct", PEOPLE)
                assert answer.status in (200, 201)
        split.catalogd.kill()
        answer = ingest.post(PEOPLE, name="nocatalog")
        assert answer.status in (502, 503), answer
        assert ingest.keys("datasets/nocatalog/") == [] and ingest.spool() == []
        answer = ingest.post(PEOPLE, name="nocatalog", mode="replace")
        assert answer.status in (502, 503), answer
        assert len(ingest.keys("datasets/nocatalog/")) == 1  # nobody can say that no one names it
        split.start_catalog()
        wait_until(lambda: ingest.keys("datasets/nocatalog/") == [] and ingest.spool() == [])
        assert ingest.take(PEOPLE, name="nocatalog")["version"] == 1
        split.storaged.kill()
        answer = ingest.post(PEOPLE, name="nostore", mode="replace")
        assert answer.status >= 500, answer


def test_a_registration_whose_answer_is_lost_keeps_its_objects(tmp_path):
    asked = []

    def catalog(connection):
        while (request := connection.request()) is not None:
            asked.append(request.method)
            if request.method == "POST":
                return  # nobody can say whether it has been registered, or will be
            connection.answer(b'{"error":{"code":"dataset_not_found","message":"none"}}',
                              "Content-Type: application/json", status="404 Not Found")

    upstream = Upstream(catalog)
    with Server(f"storaged.root={tmp_path}/objects", f"ingestd.spool_dir={tmp_path}/spool",
                f"ingestd.catalogd_url=http://127.0.0.1:{upstream.port}") as server, \
            Client(server.port) as client:
        wait_until(lambda: client.get("/v1/storage/list").status == 200)
        answer = client.request("POST", "/v1/ingest?name=lost", PEOPLE)
        assert answer.status == 502 and "POST" in asked, answer
        time.sleep(2)
        keys = [entry["Key"] for entry in client.get("/v1/storage/list").json["objects"]]
        assert len(keys) == 1 and keys[0].startswith("datasets/lost/")
    upstream.close()


def test_tokens(tmp_path):
    secrets = secrets_file(
        tmp_path / "secrets.toml", token("reader", "reader-0123456789", "read"),
        token("writer", "writer-0123456789", "read", "write"),
        token("limited", "limited-0123456789", "read", "write",
              prefixes=["datasets/mine/", "datasets/mine__rejected/"]))
    with Server(f"storaged.root={tmp_path}/objects", secrets) as server:

        def ask(token, method, path, body=None, request_id="r"):
            headers = {"X-Request-Id": request_id}
            if token:
                headers["Authorization"] = f"Bearer {token}-0123456789"
            with Client(server.port) as client:
                return client.request(method, path, body, headers=headers).status

        wait_until(lambda: ask("writer", "GET", "/v1/catalog/list") == 200)
        assert ask(None, "POST", "/v1/ingest?name=x", PEOPLE) == 401
        assert ask("reader", "POST", "/v1/ingest?name=x", PEOPLE) == 403
        assert ask("limited", "POST", "/v1/ingest?name=theirs", PEOPLE) == 403
        assert ask("limited", "POST", "/v1/ingest?name=mine", PEOPLE, "m") == 201
        assert ask("limited", "POST", "/v1/ingest?name=mine&on_error=quarantine", PEOPLE) == 200
        assert ask("writer", "POST", "/v1/ingest?name=theirs", PEOPLE, "t") == 201
        assert ask("reader", "GET", "/v1/ingest/t") == 200
        assert ask("limited", "GET", "/v1/ingest/t") == 403
        assert ask("limited", "GET", "/v1/ingest/m") == 200
        assert ask("reader", "DELETE", "/v1/ingest/t") == 403


def test_two_servers_do_not_share_a_spool(tmp_path):
    with Ingest(tmp_path):
        with pytest.raises(AssertionError, match="ingestd.spool_dir: another server or service uses"):
            Server(f"storaged.root={tmp_path}/others", f"ingestd.spool_dir={tmp_path}/spool")
