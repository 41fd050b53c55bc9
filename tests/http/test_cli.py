"""The command-line client against the real server: what it prints, and its exit status.

0 done, 1 the server said no, 2 a mistake in the command line or a file, 3 cannot reach the server.
"""
import base64
import json
import math
import os
import random
import socket
import struct
import subprocess
import threading
import time

import pytest

from lakehouse_server import Server, free_port

CLIENT = os.environ.get("LAKEHOUSE", "build/release/lakehouse")


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture
def lakehouse(server):
    def run(*arguments, stdin=None, port=server.port):
        return call(*arguments, "--url", "127.0.0.1:%d" % port, stdin=stdin)
    return run


def call(*arguments, stdin=None):
    return subprocess.run([CLIENT, *map(str, arguments)], input=stdin, text=True,
                          capture_output=True, timeout=120)


def rows_of(count, dimension, seed=7):
    draw = random.Random(seed)
    return [[struct.unpack("f", struct.pack("f", draw.gauss(0, 1)))[0] for _ in range(dimension)]
            for _ in range(count)]


def pack(rows):
    return b"".join(struct.pack("<%df" % len(row), *row) for row in rows)


def write_fbin(path, rows):
    path.write_bytes(struct.pack("<II", len(rows), len(rows[0])) + pack(rows))
    return path


def npy_bytes(rows, version=1, descr="<f4", fortran="False", shape=None):
    header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (
        descr, fortran, shape or "(%d, %d)" % (len(rows), len(rows[0])))
    lead = 10 if version == 1 else 12
    header += " " * (-(lead + len(header) + 1) % 64) + "\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode() + pack(rows)


def ok(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def info(lakehouse, name):
    return json.loads(ok(lakehouse("index", "info", name, "--json")))


def vector_of(lakehouse, name, item):
    return json.loads(ok(lakehouse("get", "--index", name, item, "--json")))["vector"]


# ---- import ----

@pytest.mark.parametrize("encoding", ["base64", "json"])
def test_fbin_arrives_whole_and_exact(lakehouse, tmp_path, encoding):
    rows = rows_of(3000, 12)
    path = write_fbin(tmp_path / "a.fbin", rows)
    name = "fbin-" + encoding
    result = lakehouse("import", path, "--index", name, "--encoding", encoding, "--batch", 256,
                       "--connections", 3, "--distance", "euclidean", "--shards", 2, "--m", 8,
                       "--ef-construction", 50, "--ef-search", 70)
    assert "imported 3,000 vectors" in ok(result) and "3,000 added, 0 updated" in result.stdout
    assert "created index %s with 12 dimensions" % name in result.stderr
    about = info(lakehouse, name)
    assert (about["count"], about["distance"], about["shards"], about["m"],
            about["ef_construction"], about["ef_search"]) == (3000, "euclidean", 2, 8, 50, 70)
    for row in (0, 255, 256, 1717, 2999):
        got = vector_of(lakehouse, name, row)
        assert struct.pack("12f", *got) == struct.pack("12f", *rows[row])
    again = lakehouse("import", path, "--index", name)
    assert "0 added, 3,000 updated" in ok(again) and "created" not in again.stderr
    assert info(lakehouse, name)["count"] == 3000


@pytest.mark.parametrize("version", [1, 2])
def test_npy_of_both_versions(lakehouse, tmp_path, version):
    rows = rows_of(100, 5)
    path = tmp_path / "a.npy"
    path.write_bytes(npy_bytes(rows, version))
    name = "npy%d" % version
    ok(lakehouse("import", path, "--index", name))
    assert vector_of(lakehouse, name, 99) == pytest.approx(rows[99])
    assert info(lakehouse, name)["count"] == 100


def test_ndjson_passes_metadata_and_both_kinds_of_vector(lakehouse, tmp_path):
    rows = rows_of(2500, 4)
    lines = [""]
    for i, row in enumerate(rows):
        vector = row if i % 2 else base64.b64encode(pack([row])).decode()
        lines.append(json.dumps({"id": "é%d" % i, "vector": vector, "metadata": {"row": i}}))
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(lines))
    ok(lakehouse("import", path, "--index", "lines", "--batch", 100, "--connections", 5))
    assert info(lakehouse, "lines")["count"] == 2500
    item = json.loads(ok(lakehouse("get", "--index", "lines", "é2499", "--json")))
    assert item["metadata"] == {"row": 2499} and item["vector"] == pytest.approx(rows[2499])


def test_ndjson_from_standard_input(lakehouse):
    text = "".join('{"id":"%d","vector":[%d,1]}\n' % (i, i) for i in range(50))
    ok(lakehouse("import", "-", "--format", "ndjson", "--index", "piped", stdin=text))
    assert info(lakehouse, "piped")["count"] == 50


def test_ids_are_the_lines_of_the_ids_file(lakehouse, tmp_path):
    rows = rows_of(1500, 3)
    path = write_fbin(tmp_path / "a.fbin", rows)
    ids = ["wort/%d \"ü\" \\ ?#%%" % i for i in range(1500)]
    (tmp_path / "a.ids").write_text("\n".join(ids))  # no newline at its end
    ok(lakehouse("import", path, "--ids", tmp_path / "a.ids", "--index", "ids"))
    for row in (0, 511, 512, 1499):
        assert vector_of(lakehouse, "ids", ids[row]) == pytest.approx(rows[row])


def test_a_batch_of_long_rows_stays_under_the_body_limit(lakehouse, tmp_path):
    path = write_fbin(tmp_path / "a.fbin", rows_of(1, 20000) * 200)
    ok(lakehouse("import", path, "--index", "long", "--batch", 4096, "--encoding", "json", "--m",
                 2, "--ef-construction", 2))
    assert info(lakehouse, "long")["count"] == 200


def test_dimension_mismatch_names_the_row(lakehouse, tmp_path):
    ok(lakehouse("index", "create", "three", "--dimension", 3))
    path = write_fbin(tmp_path / "a.fbin", rows_of(10, 4))
    result = lakehouse("import", path, "--index", "three")
    assert result.returncode == 1
    assert "dimension_mismatch" in result.stderr and "a.fbin, row" in result.stderr
    assert "stopped after 0 vectors" in result.stdout


def test_a_bad_line_is_named_by_its_number_in_the_file(lakehouse, tmp_path):
    lines = ['{"id":"%d","vector":[1,2]}' % i for i in range(300)]
    lines[249] = '{"id":"x","vector":[1,"two"]}'
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join(lines) + "\n")
    result = lakehouse("import", path, "--index", "badline", "--batch", 100)
    assert result.returncode == 1
    assert "a.ndjson, line 250: " in result.stderr


def test_a_zero_vector_under_cosine_is_named_by_its_row(lakehouse, tmp_path):
    rows = rows_of(700, 3)
    rows[600] = [0.0, 0.0, 0.0]
    result = lakehouse("import", write_fbin(tmp_path / "a.fbin", rows), "--index", "zero")
    assert result.returncode == 1
    assert "a.fbin, row 600: " in result.stderr


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("encoding", ["base64", "json"])
def test_a_number_that_is_not_finite_is_named(lakehouse, tmp_path, value, encoding):
    rows = rows_of(600, 3)
    rows[555][2] = value
    result = lakehouse("import", write_fbin(tmp_path / "a.fbin", rows), "--index", "finite",
                       "--encoding", encoding)
    assert result.returncode == 2
    assert "a.fbin, row 555: number 2" in result.stderr


BAD_FILES = {
    "short.fbin": (struct.pack("<II", 3, 2) + b"\0" * 20, "says 3 rows of 2"),
    "header.fbin": (b"\1\0\0", "ends within its header"),
    "empty.fbin": (b"", "empty"),
    "flat.fbin": (struct.pack("<II", 3, 0), "0 dimensions"),
    "wide.fbin": (struct.pack("<II", 1, 70000), "70000 dimensions"),
    "double.npy": (npy_bytes([[1.0, 2.0]], descr="<f8"), "not float32"),
    "big.npy": (npy_bytes([[1.0, 2.0]], descr=">f4"), "not float32"),
    "fortran.npy": (npy_bytes([[1.0, 2.0]], fortran="True"), "Fortran"),
    "one.npy": (npy_bytes([[1.0, 2.0]], shape="(2,)"), "shape is (2,)"),
    "three.npy": (npy_bytes([[1.0, 2.0]], shape="(1, 2, 1)"), "shape is (1, 2, 1)"),
    "cut.npy": (npy_bytes([[1.0, 2.0]])[:-1], "bytes follow"),
    "no.npy": (b"PK\3\4 something else", "is no npy file"),
    "v9.npy": (b"\x93NUMPY\x09\x00" + b" " * 60, "version 9.0"),
    "vector.ndjson": (b'{"id":"a"}\n', "first line"),
    "broken.ndjson": (b'{"id":"a"\n', "first line"),
    "blank.ndjson": (b"\n \n", "has no items"),
    "what.bin": (b"1234", "--format"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_told_with_its_name_and_reason(lakehouse, tmp_path, name):
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    result = lakehouse("import", tmp_path / name, "--index", "never")
    assert result.returncode == 2
    assert name in result.stderr and reason in result.stderr, result.stderr
    assert lakehouse("index", "info", "never").returncode == 1


def test_files_that_are_not_there(lakehouse, tmp_path):
    path = write_fbin(tmp_path / "a.fbin", rows_of(3, 2))
    result = lakehouse("import", tmp_path / "b.fbin", "--index", "never")
    assert result.returncode == 2 and "No such file" in result.stderr
    result = lakehouse("import", path, "--ids", tmp_path / "b.ids", "--index", "never")
    assert result.returncode == 2 and "No such file" in result.stderr
    result = lakehouse("import", tmp_path, "--format", "fbin", "--index", "never")
    assert result.returncode == 2 and "folder" in result.stderr


@pytest.mark.parametrize("ids, reason", [
    (b"a\nb\n", "has 2 lines"),
    (b"a\nb\nc\nd\n", "has 4 lines"),
    (b"a\n\nc\n", "line 2: 0 bytes"),
    (b"a\nb\n" + b"c" * 513 + b"\n", "line 3: 513 bytes"),
    (b"\xff\nb\nc\n", "line 1: is not UTF-8"),
])
def test_bad_ids(lakehouse, tmp_path, ids, reason):
    path = write_fbin(tmp_path / "a.fbin", rows_of(3, 2))
    (tmp_path / "a.ids").write_bytes(ids)
    result = lakehouse("import", path, "--ids", tmp_path / "a.ids", "--index", "badids")
    assert result.returncode == 2 and reason in result.stderr, result.stderr


# ---- a server that is away, or says "not now" ----

def test_a_server_killed_in_mid_import(tmp_path):
    running = Server()
    # No two alike: equal vectors are linked once and take no time.
    rows = [[i * 0.3719 % 5] + row[1:] for i, row in enumerate(rows_of(500, 200) * 100)]
    path = write_fbin(tmp_path / "a.fbin", rows)
    client = subprocess.Popen([CLIENT, "import", str(path), "--index", "k", "--url",
                               "127.0.0.1:%d" % running.port], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert "created" in client.stderr.readline()
    time.sleep(0.3)
    running.kill()
    out, err = client.communicate(timeout=60)
    assert client.returncode == 3, err
    assert "cannot reach" in err and "tried" in err and "stopped after" in out


class Scripted:
    """A server whose answers are a list; the last one is repeated."""

    def __init__(self, *answers):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answers = list(answers)
        self.requests = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(sock,), daemon=True).start()

    def talk(self, sock):
        data = sock.makefile("rb")
        while line := data.readline():
            size = 0
            head = line
            while (line := data.readline()).strip():
                head += line
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            data.read(size)
            self.requests.append(head)
            status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else \
                self.answers[0]
            sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (
                status, len(body), headers, body))


INFO = (200, b"", b'{"name":"a"}')
BUSY = (503, b"Retry-After: 1\r\n", b'{"error":{"code":"overloaded","message":"full"}}')
DONE = (200, b"", b'{"added":3,"updated":0}')


def test_a_busy_server_is_asked_again_after_the_time_it_names(tmp_path):
    scripted = Scripted(INFO, BUSY, BUSY, DONE)
    path = write_fbin(tmp_path / "a.fbin", rows_of(3, 2))
    started = time.monotonic()
    ok(call("import", path, "--index", "a", "--url", "127.0.0.1:%d" % scripted.port))
    assert 2 <= time.monotonic() - started < 20
    assert len(scripted.requests) == 4
    assert not any(b"expect" in head.lower() for head in scripted.requests)


def test_a_server_that_stays_busy_is_given_up(tmp_path):
    scripted = Scripted(INFO, BUSY)
    path = write_fbin(tmp_path / "a.fbin", rows_of(3, 2))
    result = call("import", path, "--index", "a", "--url", "127.0.0.1:%d" % scripted.port)
    assert result.returncode == 1
    assert "a.fbin, rows 0 to 2: full (overloaded)" in result.stderr
    assert len(scripted.requests) == 9


def test_another_service_is_told_from_lakehoused():
    scripted = Scripted((404, b"", b"<html>"))
    result = call("index", "list", "--url", "127.0.0.1:%d" % scripted.port)
    assert result.returncode == 1 and "is that a lakehoused?" in result.stderr


def test_nobody_listens(tmp_path):
    port = free_port()
    path = write_fbin(tmp_path / "a.fbin", rows_of(3, 2))
    for command in (["health"], ["index", "list"], ["search", "--index", "a", "--id", "b"],
                    ["get", "--index", "a", "b"], ["import", path, "--index", "a"]):
        result = call(*command, "--url", "http://127.0.0.1:%d/" % port)
        assert result.returncode == 3, command
        assert ("cannot reach http://127.0.0.1:%d: Connection refused. Is lakehoused running? "
                "Start it with tools/run" % port) in result.stderr


# ---- search and items ----

@pytest.fixture
def points(lakehouse):
    lakehouse("index", "delete", "points")
    text = "".join('{"id":"p%d","vector":[%d,0],"metadata":{"n":%d}}\n' % (i, i, i)
                   for i in range(20))
    ok(lakehouse("import", "-", "--format", "ndjson", "--index", "points", "--distance",
                 "euclidean", stdin=text))


def test_search_by_id_leaves_the_item_out(lakehouse, points):
    lines = ok(lakehouse("search", "--index", "points", "--id", "p0", "--k", 3)).splitlines()
    assert [line.split() for line in lines] == [
        ["1", "1.000000", "p1", '{"n":1}'], ["2", "2.000000", "p2", '{"n":2}'],
        ["3", "3.000000", "p3", '{"n":3}']]
    found = json.loads(ok(lakehouse("search", "--index", "points", "--id", "p0", "--json")))
    assert [r["id"] for r in found["results"]] == ["p%d" % i for i in range(1, 11)]


@pytest.mark.parametrize("text", ["7.2,0", "[7.2, 0]", " 7.2\n0.0\n", "7.2 0e0"])
def test_search_by_vector_in_every_way(lakehouse, points, tmp_path, text):
    path = tmp_path / "v"
    path.write_text(text)
    for way in (["--vector", text], ["--vector=" + text], ["--vector-file", path]):
        found = json.loads(ok(lakehouse("search", "--index", "points", *way, "--k", 2, "--ef", 50,
                                        "--json")))
        assert [r["id"] for r in found["results"]] == ["p7", "p8"]
    for way in (["-"], ["--vector-file", "-"], ["--vector", "-"]):
        assert ok(lakehouse("search", "--index", "points", *way, "--k", 1,
                            stdin=text)).split()[2] == "p7"


@pytest.mark.parametrize("text", ["", "1,two", "nan", "1e99", "0x"])
def test_a_vector_that_is_none(lakehouse, points, text):
    result = lakehouse("search", "--index", "points", "-", stdin=text)
    assert result.returncode == 2 and "standard input" in result.stderr


def test_search_that_the_server_refuses(lakehouse, points):
    for arguments, reason in ((["--vector", "1,2,3"], "dimension_mismatch"),
                              (["--id", "nobody"], "item_not_found")):
        result = lakehouse("search", "--index", "points", *arguments)
        assert result.returncode == 1 and reason in result.stderr
    result = lakehouse("search", "--index", "nowhere", "--vector", "1")
    assert result.returncode == 1 and "index_not_found" in result.stderr


def test_get_and_delete(lakehouse, points):
    out = ok(lakehouse("get", "--index", "points", "p3"))
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["id", "p3"], ["metadata", '{"n":3}'], ["vector", "[3,0]"]]
    assert "deleted 2 of 2" in ok(lakehouse("delete", "--index", "points", "p3", "p4"))
    result = lakehouse("delete", "--index", "points", "p4", "p5")
    assert result.returncode == 1 and "deleted 1 of 2" in result.stdout
    result = lakehouse("get", "--index", "points", "p4")
    assert result.returncode == 1 and "item_not_found" in result.stderr
    assert info(lakehouse, "points")["count"] == 17


def test_an_id_with_a_dash_goes_behind_two(lakehouse):
    ok(lakehouse("import", "-", "--format", "ndjson", "--index", "dash",
                 stdin='{"id":"-x","vector":[1]}\n'))
    url = lakehouse("health").args[-1]
    assert '"-x"' in ok(call("get", "--index", "dash", "--json", "--url", url, "--", "-x"))


def test_control_characters_in_an_id_do_not_reach_the_terminal(lakehouse):
    line = json.dumps({"id": "a\x1b[2J", "vector": [1, 0]}) + '\n{"id":"b","vector":[1,1]}\n'
    ok(lakehouse("import", "-", "--format", "ndjson", "--index", "esc", stdin=line))
    out = ok(lakehouse("search", "--index", "esc", "--id", "b"))
    assert "\\u001b[2J" in out and "\x1b" not in out


# ---- indexes and health ----

def test_an_index_comes_and_goes(lakehouse):
    out = ok(lakehouse("index", "create", "short", "--dimension", 2, "--distance", "dot"))
    assert "distance" in out and "dot" in out
    again = lakehouse("index", "create", "short", "--dimension", 2)
    assert again.returncode == 1 and "index_already_exists" in again.stderr
    lines = ok(lakehouse("index", "list")).splitlines()
    assert lines[0].split()[:3] == ["name", "dimension", "distance"]
    column = lines[0].index("dimension")
    row = next(line for line in lines if line.startswith("short "))
    assert row[column] == "2" and row[column - 1] == " "
    assert "short" in [i["name"] for i in
                       json.loads(ok(lakehouse("index", "list", "--json")))["indexes"]]
    ok(lakehouse("index", "delete", "short"))
    gone = lakehouse("index", "delete", "short")
    assert gone.returncode == 1 and "index_not_found" in gone.stderr


def test_health(lakehouse):
    assert "alive and ready" in ok(lakehouse("health"))


# ---- the command line ----

def test_help_and_version():
    overview = ok(call("--help"))
    assert overview == ok(call("help")) == ok(call("-h"))
    assert "Exit status" in overview
    for command in ("import", "search", "get", "delete", "index list", "index create",
                    "index delete", "index info", "health"):
        assert command in overview
        text = ok(call("help", *command.split()))
        assert text == ok(call(*command.split(), "--help"))
        assert text.startswith("usage: lakehouse " + command)
        assert all(len(line) <= 100 for line in text.splitlines())
    assert "usage: lakehouse index info" in ok(call("help", "index"))
    version = ok(call("--version")).split()
    assert version[0] == "lakehouse" and version[1].count(".") == 2


WRONG = [
    "", "frobnicate", "help frobnicate", "index", "index frobnicate", "index create a",
    "index create --dimension 3", "index create a b --dimension 3",
    "index create a --dimension 0", "index create a --dimension 65536",
    "index create a --dimension -1", "index create a --dimension 3.5",
    "index create a --dimension 3 --m 1", "index create a --dimension 3 --distance manhattan",
    "index info", "index delete", "index list a", "health now",
    "import --index a", "import a.fbin", "import a.fbin b.fbin --index a",
    "import a.fbin --index a --connections 0", "import a.fbin --index a --connections 257",
    "import a.fbin --index a --batch 5000", "import a.fbin --index a --encoding hex",
    "import a.fbin --index a --format csv", "import a.fbin --index a --format fbin|npy",
    "import a.fbin --index", "import a.fbin --index=", "import a.fbin --index a --k 3",
    "search --index a", "search --id b", "search --index a b", "search --index a --id b --k 0",
    "search --index a --id b --vector 1", "search --index a --id b --k 10001",
    "search --index a --id b --json=1", "search --index a --id b --frob",
    "get --index a", "get b", "delete --index a", "delete b", "health --url ftp://x",
    "health --url http://", "index list --url=",
]


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_says_what_is_wrong(line):
    result = call(*line.split())
    assert result.returncode == 2, result
    assert result.stdout == "" and result.stderr
    assert "lakehouse" in result.stderr
