"""lakehouse lhv1 inspect and verify: index files of both versions, whole and damaged.

No server is needed. Exit status: 0 the file is good, 2 it is not.
"""
import json
import os
import subprocess

import pytest

CLIENT = os.environ.get("LAKEHOUSE", "build/release/lakehouse")
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")
VERSION_1 = os.path.join(GOLDEN, "lhv1-go", "go_euclidean_140x5_deleted.lhv1")
VERSION_2 = os.path.join(GOLDEN, "lhv1-v2", "words.lhv1")


def lhv1(*arguments, cwd=None):
    return subprocess.run([os.path.abspath(CLIENT), "lhv1", *map(str, arguments)], text=True,
                          capture_output=True, timeout=120, cwd=cwd)


def ok(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(result, *texts):
    assert result.returncode == 2 and result.stdout == ""
    for text in texts:
        assert text in result.stderr
    return result.stderr


def damaged(tmp_path, source, change):
    with open(source, "rb") as file:
        data = bytearray(file.read())
    path = tmp_path / "damaged.lhv1"
    path.write_bytes(change(data) or data)
    return path


def flip(at):
    def change(data):
        data[at] ^= 1
    return change


def test_inspect_shows_a_version_2_file():
    rows = dict(line.split(None, 1) for line in ok(lhv1("inspect", VERSION_2)).split("\n")
                if line and not line[0].isdigit())
    assert rows["version"] == "2" and rows["name"] == "words" and rows["count"] == "514"
    assert rows["uuid"] == "a8f3c1d2-4e5b-5a6c-9d8e-7f0a1b2c3d4e"
    assert rows["seed"] == "9e3779b97f4a7c15" and rows["created_at"] == "2026-11-21T07:58:56.123Z"
    assert "verified" not in rows


def test_inspect_as_json_has_the_sections():
    told = json.loads(ok(lhv1("inspect", VERSION_2, "--json")))
    assert told["shards"] == 3 == len(told["sections"]) and told["lsn"] == 700
    assert sum(section["count"] for section in told["sections"]) == told["count"] == 514
    assert told["bytes"] == os.path.getsize(VERSION_2)
    for section in told["sections"]:
        assert section["offset"] % 4096 == 0 and len(section["xxh3"]) == 16
        assert section["offset"] + section["length"] <= told["bytes"]


@pytest.mark.parametrize("path, count", [(VERSION_1, 140), (VERSION_2, 514)])
def test_verify_reads_all_of_a_good_file(path, count):
    assert json.loads(ok(lhv1("verify", path, "--json")))["verified"] is True
    told = ok(lhv1("verify", path))
    assert "count" in told and str(count) in told and "verified" in told


def test_inspect_shows_a_version_1_file():
    told = json.loads(ok(lhv1("inspect", VERSION_1, "--json")))
    assert told["version"] == 1 and told["distance"] == "euclidean" and told["count"] == 140
    assert told["layers"] == 5 and "sections" not in told and "verified" not in told


def test_a_file_in_the_current_folder_needs_no_slash(tmp_path):
    with open(VERSION_2, "rb") as file:
        (tmp_path / "words.lhv1").write_bytes(file.read())
    assert "words" in ok(lhv1("verify", "words.lhv1", cwd=tmp_path))
    assert os.listdir(tmp_path) == ["words.lhv1"]


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_verify_finds_a_flipped_bit_in_a_section(tmp_path, shard, where):
    section = json.loads(ok(lhv1("inspect", VERSION_2, "--json")))["sections"][shard]
    at = section["offset"] + {"first": 0, "middle": section["length"] // 2,
                              "last": section["length"] - 1}[where]
    path = damaged(tmp_path, VERSION_2, flip(at))
    ok(lhv1("inspect", path))  # which does not read sections
    refused(lhv1("verify", path), "shard %d" % shard, "checksum", "put back a copy")


def test_a_flipped_bit_in_the_envelope_is_found_by_both(tmp_path):
    path = damaged(tmp_path, VERSION_2, flip(100))
    for command in ("inspect", "verify"):
        refused(lhv1(command, path), "byte ", "checksum", "put back a copy")


def test_a_short_file_is_found_by_both(tmp_path):
    path = damaged(tmp_path, VERSION_2, lambda data: data[:-1])
    for command in ("inspect", "verify"):
        refused(lhv1(command, path), "byte ", "the file ends at byte")
    path = damaged(tmp_path, VERSION_1, lambda data: data[:-1])
    ok(lhv1("inspect", path))  # which reads only where the items begin
    refused(lhv1("verify", path), "byte ", "the file ends inside")


def test_an_unknown_version_is_named(tmp_path):
    text = b'{"version":9}'
    path = tmp_path / "new.lhv1"
    path.write_bytes(b"LHV1" + len(text).to_bytes(4, "big") + text)
    refused(lhv1("verify", path), "version 9 is not known", "belongs to the server which wrote it")


def test_what_is_no_index_file_is_refused(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("a text of no version")
    refused(lhv1("inspect", other), "byte 0", "not an LHV1 file")
    refused(lhv1("inspect", tmp_path / "missing"), "missing", "No such file")
    refused(lhv1("inspect", tmp_path / "no" / "folder"), "No such file")
    refused(lhv1("inspect", tmp_path), "s a directory")


def test_mistakes_in_the_command_line_point_to_the_help():
    refused(lhv1(), "needs inspect or verify")
    refused(lhv1("show"), "lhv1 show is no command")
    refused(lhv1("verify"), "needs one FILE", "lakehouse help lhv1 verify explains it")
    refused(lhv1("verify", "a", "b"), "needs one FILE, found 2")
    refused(lhv1("inspect", VERSION_2, "--url", "x"), "--url is no option")
    assert "lhv1 verify FILE" in ok(lhv1("verify", "--help"))
