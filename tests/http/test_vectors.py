"""The vector routes: what each answers, every rule, every mistake with its place."""

import json
import math
import struct
import threading

import pytest

from lakehouse_server import (Client, Server, SplitServer, float32, floats, in_parallel,
                              seeded, to_base64)


@pytest.fixture(scope="module", params=[Server, SplitServer], ids=["in one", "behind a gateway"])
def server(request):
    with request.param("vectord.shards=3", "server.decoders=2") as running:
        yield running


@pytest.fixture
def client(server):
    with server.client() as one:
        yield one


names = iter(range(1_000_000))


@pytest.fixture
def new_name():
    return lambda: f"index-{next(names)}"


@pytest.fixture
def make(client, new_name):
    """make(dimension, ...) is a new index that goes with the test."""
    made = []

    def create(dimension, **options):
        made.append(client.create(new_name(), dimension, **options))
        return made[-1]

    yield create
    for index in made:
        index.drop()


def random_vector(rng, dimension):
    return [float32(rng.gauss(0, 1)) for _ in range(dimension)]


# ---- indexes ----


def test_a_new_index_is_described_with_its_defaults(client, new_name):
    name = new_name()
    answer = client.post("/v1/vectors/index", {"name": name, "dimension": 7})
    assert answer.status == 201
    info = answer.json
    assert isinstance(info.pop("bytes"), int) and isinstance(info.pop("lsn"), int)
    assert info == {
        "name": name,
        "dimension": 7,
        "distance": "cosine",
        "m": 16,
        "ef_construction": 200,
        "ef_search": 128,
        "shards": 3,
        "count": 0,
        "state": "ready",
        "checkpoint_lsn": 0,
    }
    assert client.index(name).info()["name"] == name
    assert client.index(name).drop().status == 204


def test_an_index_keeps_what_it_was_made_with(client, new_name):
    options = {
        "distance": "euclidean",
        "m": 64,
        "ef_construction": 4096,
        "ef_search": 4096,
        "shards": 256,
    }
    index = client.create(new_name(), 1, **options)
    info = index.info()
    assert {key: info[key] for key in options} == options
    index.add([{"id": str(i), "vector": [i]} for i in range(300)])
    assert [hit["id"] for hit in index.search([7.2], k=3)] == ["7", "8", "6"]
    assert index.drop().status == 204


def test_indexes_are_listed_by_name(client, new_name):
    wanted = sorted(new_name() for _ in range(5))
    for name in reversed(wanted):
        client.create(name, 2)
    listed = client.get("/v1/vectors/index").json
    assert listed["count"] == len(listed["indexes"]) >= 5
    assert [i["name"] for i in listed["indexes"] if i["name"] in wanted] == wanted
    for name in wanted:
        assert client.index(name).drop().status == 204
    left = {i["name"] for i in client.get("/v1/vectors/index").json["indexes"]}
    assert not left & set(wanted)


def test_a_name_is_taken_until_its_index_is_deleted(client, make):
    index = make(2)
    answer = client.post("/v1/vectors/index", {"name": index.name, "dimension": 3})
    assert (answer.status, answer.code) == (409, "index_already_exists")
    assert index.name in answer.message
    assert index.info()["dimension"] == 2
    assert index.drop().status == 204
    answer = index.drop()
    assert (answer.status, answer.code) == (404, "index_not_found")
    client.create(index.name, 3)
    assert index.info()["dimension"] == 3


def test_both_ports_and_both_spellings_answer(server, make):
    index = make(2)
    with Client(server.vectord_port) as other:
        for path in (index.path, index.path.removeprefix("/v1")):
            assert other.get(path).json["name"] == index.name
        answer = other.post(index.path[3:] + "/add", {"items": [{"id": "a", "vector": [1, 2]}]})
        assert answer.json == {"added": 1, "updated": 0}
    assert index.get("a").status == 200


LONGEST_NAME = "n" * 128


@pytest.mark.parametrize("name", ["a", "0", "A-b_c.d", LONGEST_NAME])
def test_a_name_may_be(client, name):
    client.create(name, 1)
    assert client.index(name).info()["name"] == name
    assert client.index(name).drop().status == 204


# body, code, what the message starts with or holds
BAD_INDEXES = [
    ({"dimension": 3}, "invalid_argument", "name: is missing"),
    ({"name": "x"}, "invalid_argument", "dimension: is missing"),
    ({"name": "", "dimension": 3}, "invalid_argument", "name: "),
    ({"name": "n" * 129, "dimension": 3}, "limit_exceeded", "name: 129 bytes, the limit is 128"),
    ({"name": "-a", "dimension": 3}, "invalid_argument", 'name: "-a"'),
    ({"name": ".a", "dimension": 3}, "invalid_argument", 'name: ".a"'),
    ({"name": "a/b", "dimension": 3}, "invalid_argument", 'name: "a/b"'),
    ({"name": "ä", "dimension": 3}, "invalid_argument", "name: "),
    ({"name": "a b", "dimension": 3}, "invalid_argument", "name: "),
    ({"name": 7, "dimension": 3}, "invalid_argument", "name: must be a string, found a number"),
    ({"name": None, "dimension": 3}, "invalid_argument", "name: must be a string, found null"),
    ({"name": "x", "dimension": 0}, "limit_exceeded", "dimension: 0 is not within 1 to 65535"),
    ({"name": "x", "dimension": 65536}, "limit_exceeded", "dimension: 65536 is not within 1 to"),
    ({"name": "x", "dimension": -1}, "limit_exceeded", "dimension: -1 is not within 1 to 65535"),
    ({"name": "x", "dimension": 2.5}, "invalid_argument", "dimension: must be an integer"),
    ({"name": "x", "dimension": "3"}, "invalid_argument", "dimension: must be an integer"),
    ({"name": "x", "dimension": True}, "invalid_argument", "dimension: must be an integer"),
    ({"name": "x", "dimension": 10**30}, "limit_exceeded", "dimension: "),
    ({"name": "x", "dimension": 3, "distance": "l2"}, "invalid_argument", 'distance: "l2"'),
    ({"name": "x", "dimension": 3, "distance": 1}, "invalid_argument", "distance: must be a str"),
    ({"name": "x", "dimension": 3, "m": 1}, "limit_exceeded", "m: 1 is not within 2 to 64"),
    ({"name": "x", "dimension": 3, "m": 65}, "limit_exceeded", "m: 65 is not within 2 to 64"),
    ({"name": "x", "dimension": 3, "ef_construction": 0}, "limit_exceeded", "ef_construction: 0"),
    ({"name": "x", "dimension": 3, "ef_construction": 4097}, "limit_exceeded", "4097 is not with"),
    ({"name": "x", "dimension": 3, "ef_search": 0}, "limit_exceeded", "ef_search: 0 is not"),
    ({"name": "x", "dimension": 3, "ef_search": 4097}, "limit_exceeded", "ef_search: 4097"),
    ({"name": "x", "dimension": 3, "shards": 0}, "limit_exceeded", "shards: 0 is not within 1 to"),
    ({"name": "x", "dimension": 3, "shards": 257}, "limit_exceeded", "shards: 257 is not within"),
    ({"name": "x", "dimension": 3, "metric": "dot"}, "invalid_argument", '"metric"'),
    ([], "invalid_argument", "must be a JSON object"),
    ('{"name": "x", "dimension": 3', "invalid_json", "byte 28"),
    ('{"name": "x", "name": "y", "dimension": 3}', "invalid_argument", "name: the member is the"),
    ('{"name": "x", "dimension": 3} {}', "invalid_json", "byte 30"),
    ("", "invalid_json", "empty"),
    ("null", "invalid_argument", "must be a JSON object"),
]


def check_refusal(client, path, body, code, part, status=400):
    """Refused with its place, on a connection that goes on."""
    if client.socket is None:
        client.get("/healthz")
    socket = client.socket
    answer = client.post(path, body)
    assert answer.status == status and answer.code == code, answer
    assert part in answer.message, answer
    assert answer.headers["content-type"] == "application/json"
    assert not answer.closes
    assert client.get("/healthz").status == 200
    assert client.socket is socket


@pytest.mark.parametrize("body,code,part", BAD_INDEXES)
def test_a_bad_index_is_refused_with_its_place(client, body, code, part):
    before = client.get("/v1/vectors/index").json["count"]
    check_refusal(client, "/v1/vectors/index", body, code, part)
    assert client.get("/v1/vectors/index").json["count"] == before


# ---- adding ----


def test_an_add_tells_new_from_updated(make):
    index = make(2)
    assert index.add([{"id": "a", "vector": [1, 0]}]) == {"added": 1, "updated": 0}
    items = [{"id": "a", "vector": [0, 1]}, {"id": "b", "vector": [1, 1]}]
    assert index.add(items) == {"added": 1, "updated": 1}
    assert index.add([]) == {"added": 0, "updated": 0}
    assert index.info()["count"] == 2
    assert index.get("a").json["vector"] == [0, 1]


def test_the_same_id_twice_in_a_batch_the_last_one_wins(make):
    index = make(2)
    items = [{"id": "a", "vector": [i, 1], "metadata": {"i": i}} for i in range(50)]
    items += [{"id": "b", "vector": [1, 1]}, {"id": "a", "vector": [99, 1]}]
    assert index.add(items) == {"added": 2, "updated": 50}
    assert index.get("a").json == {"id": "a", "vector": [99, 1], "metadata": {"i": 49}}
    assert index.info()["count"] == 2


def test_metadata_left_out_stays_and_an_empty_one_clears(make):
    index = make(2)
    rich = {"s": "tä\"\\\n", "n": [1, 2.5, None, True], "o": {"deep": {"er": {}}}}
    index.add([{"id": "a", "vector": [1, 2], "metadata": rich}])
    assert index.get("a").json["metadata"] == rich
    index.add([{"id": "a", "vector": [3, 4]}])
    assert index.get("a").json == {"id": "a", "vector": [3, 4], "metadata": rich}
    index.add([{"id": "a", "vector": [3, 4], "metadata": {"new": 1}}])
    assert index.get("a").json["metadata"] == {"new": 1}
    index.add([{"id": "a", "vector": [5, 6], "metadata": {}}])
    assert index.get("a").json == {"id": "a", "vector": [5, 6], "metadata": {}}
    assert index.delete("a").status == 204
    index.add([{"id": "a", "vector": [5, 6]}])  # a new item has nothing of the old one
    assert index.get("a").json["metadata"] == {}


def test_metadata_is_given_back_as_it_was_written(client, make):
    index = make(1)
    text = '{"big":123456789012345678901234567890,"e":1.50E+3,"u":"\\u00e4","dup":1,"z":[ ]}'
    body = '{"items":[{"id":"a","vector":[1],"metadata":%s}]}' % text
    assert client.post(index.path + "/add", body).status == 200
    assert text.replace("[ ]", "[]").encode() in index.get("a").body


def test_vectors_come_back_bit_for_bit(client, make):
    rng = seeded("vectors_come_back_bit_for_bit")
    bits = [0x00000001, 0x80000001, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800001, 0x33800000]
    while len(bits) < 1500:
        pattern = rng.getrandbits(32)
        if pattern & 0x7F800000 != 0x7F800000:
            bits.append(pattern)
    vector = [struct.unpack("<f", struct.pack("<I", pattern))[0] for pattern in bits]
    for distance in ("cosine", "euclidean", "dot"):
        index = make(len(vector), distance=distance)
        index.add([{"id": "json", "vector": vector}, {"id": "b64", "vector": to_base64(vector)}])
        for item in ("json", "b64"):
            got = index.get(item).json["vector"]
            assert [struct.unpack("<I", struct.pack("<f", x))[0] for x in got] == bits
        with_vector = next(index.pages(with_vector="true"))["vector"]
        assert [struct.unpack("<I", struct.pack("<f", x))[0] for x in with_vector] == bits


def test_base64_and_arrays_are_the_same(make):
    rng = seeded("base64_and_arrays_are_the_same")
    index = make(33)
    vectors = [random_vector(rng, 33) for _ in range(40)]
    index.add([{"id": f"a{i}", "vector": v} for i, v in enumerate(vectors)])
    index.add([{"id": f"b{i}", "vector": to_base64(v)} for i, v in enumerate(vectors)])
    for i, vector in enumerate(vectors):
        for query in (vector, to_base64(vector)):
            hits = index.search(query, k=2)
            assert {hit["id"] for hit in hits} == {f"a{i}", f"b{i}"}
            assert all(abs(hit["distance"]) <= 1e-6 for hit in hits)


def test_numbers_of_any_spelling_become_the_nearest_float32(client, make):
    index = make(6, distance="dot")
    spelled = "[1e0, -0, 0.1, 16777217, 1.401298464324817e-45, 3.4028234e38]"
    body = '{"items":[{"id":"a","vector":%s}]}' % spelled
    assert client.post(index.path + "/add", body).status == 200
    answer = index.get("a")
    got = floats(answer.json["vector"])
    assert got == floats([1, 0, 0.1, 16777216, 1.4013e-45, 3.4028234e38])
    assert b"[1,-0.0,0.1," in answer.body


def item(**members):
    return {"items": [{"id": "good", "vector": [1, 1]}, {"id": "x", "vector": [1, 2], **members}]}


def raw_item(vector):
    return '{"items":[{"id":"good","vector":[1,1]},{"id":"x","vector":%s}]}' % vector


# body, code, what the message holds; each has one good item first, which must not be applied
BAD_ADDS = [
    ({}, "invalid_argument", "items: is missing"),
    ({"items": {}}, "invalid_argument", "items: must be an array, found an object"),
    ({"items": [], "upsert": True}, "invalid_argument", '"upsert"'),
    ({"items": [7]}, "invalid_argument", "items[0]: must be an object, found a number"),
    ({"items": [{"id": "good", "vector": [1, 1]}, {"id": "x"}]}, "invalid_argument",
     "items[1].vector: is missing"),
    ({"items": [{"id": "good", "vector": [1, 1]}, {"vector": [1, 2]}]}, "invalid_argument",
     "items[1].id: is missing"),
    (item(id=""), "invalid_argument", "items[1].id: an empty id"),
    (item(id="i" * 513), "limit_exceeded", "items[1].id: 513 bytes, the limit is 512"),
    (item(id="ä" * 257), "limit_exceeded", "items[1].id: 514 bytes, the limit is 512"),
    (item(id=5), "invalid_argument", "items[1].id: must be a string, found a number"),
    (raw_item('[1,2],"id":"\\ud800"'), "invalid_argument", "items[1].id: the member is there"),
    ('{"items":[{"id":"\\ud800","vector":[1,2]}]}', "invalid_json", "byte "),
    (item(vector=[1, 2, 3]), "dimension_mismatch",
     "items[1].vector: 3 numbers, the index has 2 dimensions"),
    (item(vector=to_base64([1])), "dimension_mismatch",
     "items[1].vector: 1 numbers, the index has 2 dimensions"),
    ({"items": [{"id": "a", "vector": [1, 2, 3]}]}, "dimension_mismatch", "items[0].vector: 3 num"),
    (item(vector=[]), "invalid_argument", "items[1].vector: an empty vector"),
    (item(vector=""), "invalid_argument", "items[1].vector: an empty vector"),
    (item(vector=None), "invalid_argument", "items[1].vector: must be an array of numbers or"),
    (item(vector={"a": 1}), "invalid_argument", "items[1].vector: must be an array of numbers"),
    (item(vector=[1, "2"]), "invalid_argument", "items[1].vector[1]: must be a number"),
    (item(vector=[1, None]), "invalid_argument", "items[1].vector[1]: must be a number"),
    (item(vector=[1, [2]]), "invalid_argument", "items[1].vector[1]: must be a number"),
    (item(vector=[1, math.nan]), "invalid_argument", "items[1].vector[1]: NaN is not a finite"),
    (item(vector=[math.inf, 1]), "invalid_argument", "items[1].vector[0]: Infinity is not a fin"),
    (item(vector=[1, -math.inf]), "invalid_argument", "items[1].vector[1]: -Infinity is not"),
    (raw_item("[1, 1e39]"), "invalid_argument", "items[1].vector[1]: 1e39 is beyond the range"),
    (raw_item("[1, -1e400]"), "invalid_argument", "items[1].vector[1]: -1e400 is beyond the"),
    (raw_item("[1, 01]"), "invalid_json", "byte "),
    (raw_item("[1, +1]"), "invalid_json", "byte "),
    (raw_item("[1, .5]"), "invalid_json", "byte "),
    (raw_item("[1, 2,]"), "invalid_json", "byte "),
    (raw_item("[1 2]"), "invalid_json", "byte "),
    (raw_item("[1, 2"), "invalid_json", "byte "),
    (item(vector=to_base64([1, math.nan])), "invalid_argument",
     "items[1].vector[1]: NaN is not a finite number"),
    (item(vector=to_base64([-math.inf, 1])), "invalid_argument",
     "items[1].vector[0]: -Infinity is not a finite number"),
    (item(vector="AAAA!AAA"), "invalid_argument", "items[1].vector: not base64"),
    (item(vector="AAAAAAA"), "invalid_argument", "items[1].vector: not base64"),
    (item(vector="AAAAAAA="), "invalid_argument", "items[1].vector: 5 bytes of base64 are no"),
    (item(vector=[0, 0]), "invalid_argument", "items[1].vector: all zeros"),
    (item(vector=[-0.0, 1e-46]), "invalid_argument", "items[1].vector: all zeros"),
    (item(vector=[1] * 65536), "limit_exceeded", "items[1].vector: more than 65535 numbers"),
    (item(metadata=[]), "invalid_argument", "items[1].metadata: must be an object, found an array"),
    (item(metadata="{}"), "invalid_argument", "items[1].metadata: must be an object, found a str"),
    (item(metadata=None), "invalid_argument", "items[1].metadata: must be an object, found null"),
    (item(metadata={"a": "x" * 65536}), "limit_exceeded",
     "items[1].metadata: 65544 bytes, the limit is 65536"),
    (item(meta={}), "invalid_argument", 'items[1]: unknown member "meta"'),
    (raw_item('[1,2],"metadata":{"a":tru}'), "invalid_json", "items[1].metadata: byte "),
    (raw_item('[1,2],"metadata":{"a":1,}'), "invalid_json", "items[1].metadata: byte "),
    (raw_item('[1,2],"metadata":' + '{"a":' * 65 + "1" + "}" * 65), "invalid_json", "metadata"),
    ("not json", "invalid_json", "byte 0"),
    ("[]", "invalid_argument", "the body must be a JSON object"),
    (b'{"items":[{"id":"\xff","vector":[1,2]}]}', "invalid_json", "byte 17"),
    ('{"items":[]}x', "invalid_json", "byte 12"),
]


@pytest.mark.parametrize("body,code,part", BAD_ADDS)
def test_a_bad_add_is_refused_with_its_place_and_nothing_is_applied(make, body, code, part):
    index = make(2)
    index.add([{"id": "before", "vector": [1, 2]}])
    lsn = index.info()["lsn"]
    check_refusal(index.client, index.path + "/add", body, code, part)
    assert index.info()["count"] == 1
    assert index.info()["lsn"] == lsn
    assert index.get("good").status == 404


def test_a_bad_item_at_the_end_of_a_large_batch_undoes_nothing_because_nothing_was_done(make):
    index = make(8, shards=5)
    items = [{"id": str(i), "vector": [i + 1] * 8} for i in range(5000)]
    answer = index.try_add(items + [{"id": "last", "vector": [1] * 9}])
    assert (answer.status, answer.code) == (400, "dimension_mismatch")
    assert answer.message.startswith("items[5000].vector: 9 numbers")
    assert index.info()["count"] == 0
    assert list(index.pages()) == []


def test_zero_vectors_are_vectors_but_for_cosine(make):
    for distance in ("euclidean", "dot"):
        index = make(3, distance=distance)
        index.add([{"id": "zero", "vector": [0, 0, 0]}, {"id": "one", "vector": [1, 0, 0]}])
        assert index.get("zero").json["vector"] == [0, 0, 0]
        assert abs(index.search([0, 0, 0], k=1)[0]["distance"]) == 0


def test_limits_are_inclusive(make):
    index = make(2)
    longest = "ä" * 256
    metadata = {"a": "x" * (65536 - len('{"a":""}'))}
    index.add([{"id": longest, "vector": [1, 2], "metadata": metadata}])
    assert index.get(longest).json == {"id": longest, "vector": [1, 2], "metadata": metadata}
    widest = make(65535, distance="dot", shards=1)
    vector = [1.0] * 65535
    widest.add([{"id": "a", "vector": vector}, {"id": "b", "vector": to_base64(vector)}])
    hits = widest.search(to_base64(vector), k=10000, ef=4096)
    assert [hit["distance"] for hit in hits] == [-65535, -65535]


# ---- searching ----


def python_distance(distance, a, b):
    dot = math.fsum(x * y for x, y in zip(a, b))
    if distance == "cosine":
        return 1 - dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    if distance == "euclidean":
        return math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(a, b)))
    return -dot


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("dimension", [1, 3, 100, 513])
def test_distances_are_exact_and_results_in_order(make, distance, dimension):
    rng = seeded(f"distances {distance} {dimension}")
    index = make(dimension, distance=distance)
    vectors = {f"v{i}": random_vector(rng, dimension) for i in range(60)}
    index.add([{"id": key, "vector": value} for key, value in vectors.items()])
    for _ in range(5):
        query = random_vector(rng, dimension)
        hits = index.search(query, k=60, ef=4096)
        exact = {key: python_distance(distance, query, value) for key, value in vectors.items()}
        assert len(hits) == len({hit["id"] for hit in hits}) == 60
        for hit in hits:
            want = exact[hit["id"]]
            assert abs(hit["distance"] - want) <= 1e-5 + 1e-6 * abs(want)
        distances = [hit["distance"] for hit in hits]
        assert distances == sorted(distances)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1, 1e6, 1e30])
def test_a_vector_finds_itself_at_distance_zero(make, distance, scale):
    rng = seeded(f"self distance {distance} {scale}")
    index = make(64, distance=distance)
    vectors = {
        str(i): [float32(x * scale) for x in random_vector(rng, 64)] for i in range(200)
    }
    index.add([{"id": key, "vector": value} for key, value in vectors.items()])
    for key, value in vectors.items():
        first = index.search(value, k=1, with_vector=True)[0]
        assert first["id"] == key
        assert abs(first["distance"]) <= 1e-6
        assert floats(first["vector"]) == value


def test_distances_stay_numbers_at_the_ends_of_float32(make):
    for distance in ("cosine", "euclidean", "dot"):
        index = make(4, distance=distance)
        big, small = [3e38, -3e38, 3e38, 3e38], [1e-44, 0, 0, 0]
        index.add([{"id": "big", "vector": big}, {"id": "small", "vector": small}])
        for query in (big, small, [-x for x in big]):
            for hit in index.search(query, k=2):
                assert isinstance(hit["distance"], (int, float)) and math.isfinite(hit["distance"])


def test_a_search_answers_what_it_was_asked_for(make):
    index = make(2)
    index.add([{"id": "a", "vector": [1, 2], "metadata": {"k": [1]}}])
    index.add([{"id": "b", "vector": [2, 1]}])
    plain = index.search([1, 2])
    assert [set(hit) for hit in plain] == [{"id", "distance", "metadata"}, {"id", "distance"}]
    assert plain[0]["metadata"] == {"k": [1]}
    bare = index.search([1, 2], with_metadata=False)
    assert [set(hit) for hit in bare] == [{"id", "distance"}] * 2
    full = index.search([1, 2], with_vector=True, with_metadata=True)
    assert full[0]["vector"] == [1, 2] and full[1]["vector"] == [2, 1]


def test_k_beyond_the_count_gives_all_and_an_empty_index_none(make):
    index = make(3, shards=8)
    assert index.search([1, 2, 3]) == []
    assert index.try_search(vectors=[[1, 2, 3], [4, 5, 6]]).json == {
        "batches": [{"results": []}, {"results": []}]
    }
    index.add([{"id": str(i), "vector": [i, 1, 1]} for i in range(37)])
    for k in (37, 38, 10000):
        hits = index.search([1, 2, 3], k=k)
        assert sorted(int(hit["id"]) for hit in hits) == list(range(37))
    assert len(index.search([1, 2, 3])) == 10
    assert len(index.search([1, 2, 3], k=1)) == 1


def test_a_batch_of_searches_is_its_single_searches(make):
    rng = seeded("batch search")
    index = make(20, shards=4)
    index.add([{"id": str(i), "vector": random_vector(rng, 20), "metadata": {"i": i}}
               for i in range(1000)])
    queries = [random_vector(rng, 20) for _ in range(50)]
    queries[7] = to_base64(queries[7])
    for options in ({}, {"k": 3, "ef": 400, "with_vector": True}, {"with_metadata": False}):
        answer = index.try_search(vectors=queries, **options)
        assert answer.status == 200
        singles = [{"results": index.search(query, **options)} for query in queries]
        assert answer.json == {"batches": singles}


BAD_SEARCHES = [
    ({}, "invalid_argument", '"vector" or "vectors" is missing'),
    ({"k": 3}, "invalid_argument", '"vector" or "vectors" is missing'),
    ({"vector": [1, 2], "vectors": [[1, 2]]}, "invalid_argument", "exclude one another"),
    ({"vector": [1, 2, 3]}, "dimension_mismatch", "vector: 3 numbers, the index has 2 dimensions"),
    ({"vectors": [[1, 2], [1]]}, "dimension_mismatch", "vectors[1]: 1 numbers, the index has 2"),
    ({"vectors": [[1], [1, 2]]}, "dimension_mismatch", "vectors[0]: 1 numbers, the index has 2"),
    ({"vectors": []}, "invalid_argument", "vectors: an empty list"),
    ({"vectors": [[1, 2], 7]}, "invalid_argument", "vectors[1]: must be an array of numbers"),
    ({"vector": [0, 0]}, "invalid_argument", "vector: all zeros"),
    ({"vectors": [[1, 2], [0, 0]]}, "invalid_argument", "vectors[1]: all zeros"),
    ({"vector": [1, math.nan]}, "invalid_argument", "vector[1]: NaN is not a finite number"),
    ('{"vector": [1, 1e39]}', "invalid_argument", "vector[1]: 1e39 is beyond the range of float32"),
    ({"vector": [1, 2], "k": 0}, "limit_exceeded", "k: 0 is not within 1 to 10000"),
    ({"vector": [1, 2], "k": 10001}, "limit_exceeded", "k: 10001 is not within 1 to 10000"),
    ({"vector": [1, 2], "k": 1.5}, "invalid_argument", "k: must be an integer from 1 to 10000"),
    ({"vector": [1, 2], "k": "3"}, "invalid_argument", "k: must be an integer"),
    ({"vector": [1, 2], "ef": 0}, "limit_exceeded", "ef: 0 is not within 1 to 4096"),
    ({"vector": [1, 2], "ef": 4097}, "limit_exceeded", "ef: 4097 is not within 1 to 4096"),
    ({"vector": [1, 2], "with_vector": 1}, "invalid_argument", "with_vector: must be true or fal"),
    ({"vector": [1, 2], "with_metadata": "no"}, "invalid_argument", "with_metadata: must be true"),
    ({"vector": [1, 2], "top_k": 3}, "invalid_argument", 'unknown member "top_k"'),
    ({"vectors": [[1, 2]] * 1025}, "limit_exceeded", "vectors: more than the limit of 1024 vec"),
    ({"vectors": [[1, 2]] * 101, "k": 10000}, "limit_exceeded", "1000000 results"),
    ('{"vector": [1, 2}', "invalid_json", "byte "),
]


@pytest.mark.parametrize("body,code,part", BAD_SEARCHES)
def test_a_bad_search_is_refused_with_its_place(make, body, code, part):
    index = make(2)
    index.add([{"id": "a", "vector": [1, 2]}])
    check_refusal(index.client, index.path + "/search", body, code, part)


def test_an_answer_beyond_its_bytes_is_refused_and_not_sent(make):
    index = make(2, shards=2)
    metadata = {"a": "x" * 65000}
    for batch in range(10):
        index.add([{"id": f"{batch}-{i}", "vector": [i + 1, batch + 1], "metadata": metadata}
                   for i in range(100)])
    answer = index.try_search(vectors=[[1, 2]] * 20, k=1000, ef=4096)
    assert (answer.status, answer.code) == (400, "limit_exceeded")
    assert "268435456 bytes" in answer.message
    assert len(index.search([1, 2], k=1000, with_metadata=False)) == 1000


# ---- items ----


ODD_IDS = [
    "a/b/c", "/", "..", ".", "a b", "100%", "%2F", "%", 'say "hi"', "back\\slash", "ünï ☃ 𝄞",
    "?query=1#fragment", "+&=;", "'", "\t\n\x01", "{id}", "i" * 512, "items", "e\u0301",
]


def test_ids_of_any_characters_work_in_paths_and_bodies(make):
    index = make(2)
    index.add([{"id": one, "vector": [i + 1, 1]} for i, one in enumerate(ODD_IDS)])
    for i, one in enumerate(ODD_IDS):
        answer = index.get(one)
        assert answer.status == 200, (one, answer)
        assert answer.json == {"id": one, "vector": [i + 1, 1], "metadata": {}}
    assert {hit["id"] for hit in index.search([1, 1], k=100)} == set(ODD_IDS)
    assert {entry["id"] for entry in index.pages(limit=3)} == set(ODD_IDS)
    for one in ODD_IDS[::2]:
        assert index.delete(one).status == 204
        assert index.get(one).status == 404
    assert index.delete_many(ODD_IDS) == len(ODD_IDS) - len(ODD_IDS[::2])
    assert index.info()["count"] == 0


@pytest.mark.parametrize(
    "path,status,code",
    [
        ("/items/" + "i" * 513, 400, "invalid_argument"),
        ("/items/%FF", 400, "invalid_argument"),
        ("/items/%ED%A0%80", 400, "invalid_argument"),
        ("/items/a%00b", 400, "bad_request"),
        ("/items/%zz", 400, "bad_request"),
        ("/items/nobody", 404, "item_not_found"),
    ],
)
def test_a_bad_id_in_a_path_is_refused(make, path, status, code):
    index = make(2)
    for method in ("GET", "DELETE"):
        answer = index.client.request(method, index.path + path)
        assert (answer.status, answer.code) == (status, code), answer


def test_a_delete_tells_how_many_were_there(make):
    index = make(2)
    index.add([{"id": str(i), "vector": [i + 1, 1]} for i in range(10)])
    assert index.delete_many(["1", "2", "2", "none"]) == 2
    assert index.delete_many([]) == 0
    assert index.delete("3").status == 204
    answer = index.delete("3")
    assert (answer.status, answer.code) == (404, "item_not_found")
    assert '"3"' in answer.message and index.name in answer.message
    assert index.info()["count"] == 7
    found = {hit["id"] for hit in index.search([1, 1], k=100)}
    assert found == set("0456789")


@pytest.mark.parametrize(
    "body,code,part",
    [
        ({}, "invalid_argument", "ids: is missing"),
        ({"ids": "a"}, "invalid_argument", "ids: must be an array, found a string"),
        ({"ids": ["keep", 3]}, "invalid_argument", "ids[1]: must be a string, found a number"),
        ({"ids": ["keep", ""]}, "invalid_argument", "ids[1]: an empty id"),
        ({"ids": ["keep", "i" * 513]}, "limit_exceeded", "ids[1]: 513 bytes, the limit is 512"),
        ({"ids": ["keep"], "all": True}, "invalid_argument", 'unknown member "all"'),
        ('{"ids": ["keep",]}', "invalid_json", "byte "),
    ],
)
def test_a_bad_delete_is_refused_and_deletes_nothing(make, body, code, part):
    index = make(1)
    index.add([{"id": "keep", "vector": [1]}])
    check_refusal(index.client, index.path + "/delete", body, code, part)
    assert index.get("keep").status == 200


def test_the_last_item_can_go_and_the_next_add_works(make):
    for shards in (1, 4):
        index = make(4, shards=shards)
        for _ in range(20):
            assert index.add([{"id": "only", "vector": [1, 2, 3, 4]}])["added"] == 1
            assert [hit["id"] for hit in index.search([1, 1, 1, 1])] == ["only"]
            assert index.delete("only").status == 204
            assert index.search([1, 1, 1, 1]) == []
            assert index.info()["count"] == 0


# ---- pages ----


def test_pages_of_any_size_show_each_item_once(make):
    index = make(2, shards=5)
    index.add([{"id": str(i), "vector": [i + 1, 1], "metadata": {"i": i}} for i in range(500)])
    for limit in (1, 7, 100, 499, 500, 501, 1000):
        seen = [entry["id"] for entry in index.pages(limit=limit)]
        assert len(seen) == 500 and set(seen) == {str(i) for i in range(500)}
    first = index.page()
    assert len(first["items"]) == 100
    assert all(entry["metadata"] == {"i": int(entry["id"])} for entry in first["items"])
    assert "vector" not in first["items"][0]
    for entry in index.pages(with_vector="true"):
        assert entry["vector"] == [int(entry["id"]) + 1, 1]


def test_pages_show_what_stays_exactly_once_while_others_come_and_go(server, make):
    index = make(4, shards=4)
    stay = {f"stay-{i}" for i in range(600)}
    index.add([{"id": one, "vector": [1, 2, 3, i]} for i, one in enumerate(sorted(stay))])
    done = threading.Event()

    def churn(number):
        rng = seeded(f"churn {number}")
        with server.client() as client:
            mine = client.index(index.name)
            while not done.is_set():
                ids = [f"go-{number}-{rng.randrange(300)}" for _ in range(30)]
                mine.add([{"id": one, "vector": random_vector(rng, 4)} for one in ids])
                stayer = f"stay-{rng.randrange(600)}"  # an update is no going
                mine.add([{"id": stayer, "vector": random_vector(rng, 4)}])
                mine.delete_many(ids[:20])

    def read():
        try:
            with server.client() as client:
                mine = client.index(index.name)
                for limit in (3, 17, 50, 111, 1000, 9):
                    seen = [entry["id"] for entry in mine.pages(limit=limit)]
                    staying = [one for one in seen if one in stay]
                    assert len(staying) == len(stay) and set(staying) == stay
        finally:
            done.set()

    in_parallel(read, lambda: churn(1), lambda: churn(2))


@pytest.mark.parametrize(
    "query,code,part",
    [
        ("limit=0", "invalid_argument", 'limit: "0" is not a whole number from 1 to 1000'),
        ("limit=1001", "invalid_argument", 'limit: "1001"'),
        ("limit=-1", "invalid_argument", "limit"),
        ("limit=ten", "invalid_argument", 'limit: "ten"'),
        ("with_vector=yes", "invalid_argument", 'with_vector: "yes" is not true or false'),
        ("cursor=nonsense", "invalid_cursor", "cursor"),
        ("cursor=00000000-0-0", "invalid_cursor", "cursor"),
    ],
)
def test_a_bad_page_is_refused_with_its_place(make, query, code, part):
    index = make(1)
    answer = index.client.get(index.path + "/items?" + query)
    assert (answer.status, answer.code) == (400, code), answer
    assert part in answer.message


def test_a_cursor_of_a_deleted_index_means_nothing_to_its_successor(client, new_name):
    index = client.create(new_name(), 1)
    index.add([{"id": str(i), "vector": [i + 1]} for i in range(50)])
    cursor = index.page(limit=10)["next_cursor"]
    index.drop()
    client.create(index.name, 1)
    answer = client.get(f"{index.path}/items?cursor={cursor}")
    assert (answer.status, answer.code) == (400, "invalid_cursor")
    index.drop()


# ---- what is not there ----


@pytest.mark.parametrize(
    "method,path,body",
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/add", {"items": []}),
        ("POST", "/search", {"vector": [1]}),
        ("POST", "/delete", {"ids": ["a"]}),
        ("GET", "/items", None),
        ("GET", "/items/a", None),
        ("DELETE", "/items/a", None),
    ],
)
@pytest.mark.parametrize("name", ["nobody", "-bad-", "n" * 129, "%C3%A4"])
def test_every_route_of_an_index_that_is_not_there_says_so(client, method, path, body, name):
    answer = client.request(method, f"/v1/vectors/index/{name}{path}", body)
    assert (answer.status, answer.code) == (404, "index_not_found"), answer


@pytest.mark.parametrize("media_type", ["application/xml", "text/csv", "multipart/form", "json"])
@pytest.mark.parametrize("route", ["", "/{name}/add", "/{name}/search", "/{name}/delete"])
def test_a_body_of_another_media_type_is_refused(make, media_type, route):
    index = make(1)
    path = "/v1/vectors/index" + route.format(name=index.name)
    answer = index.client.post(path, "{}", headers={"Content-Type": media_type})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert media_type in answer.message


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json",
     "application/x-www-form-urlencoded"],
)
def test_json_by_any_of_its_names_is_json(make, media_type):
    index = make(1)
    body = json.dumps({"items": [{"id": "a", "vector": [1]}]})
    answer = index.client.post(index.path + "/add", body, headers={"Content-Type": media_type})
    assert answer.json == {"added": 1, "updated": 0}


# ---- many at once ----


def test_an_add_that_was_answered_is_in_every_later_search(server, make):
    index = make(16, shards=4)
    rng = seeded("read your writes")
    noise = threading.Event()

    def add_noise():
        with server.client() as client:
            mine = client.index(index.name)
            number = 0
            noise_rng = seeded("noise")
            while not noise.is_set():
                number += 1
                mine.add([{"id": f"noise-{number}-{i}", "vector": random_vector(noise_rng, 16)}
                          for i in range(50)])

    def write_and_read():
        try:
            with server.client() as writer, server.client() as reader:
                for i in range(150):
                    vector = random_vector(rng, 16)
                    writer.index(index.name).add([{"id": f"mine-{i}", "vector": vector}])
                    first = reader.index(index.name).search(vector, k=1)[0]
                    assert first["id"] == f"mine-{i}" and first["distance"] <= 1e-6
        finally:
            noise.set()

    in_parallel(write_and_read, add_noise)


def test_creating_and_deleting_one_name_from_many_threads(server, new_name):
    name = new_name()
    totals = {201: 0, 409: 0, 204: 0, 404: 0}
    lock = threading.Lock()

    def fight():
        with server.client() as client:
            index = client.index(name)
            for i in range(60):
                statuses = [client.post("/v1/vectors/index", {"name": name, "dimension": 4}).status]
                added = index.try_add([{"id": str(i), "vector": [1, 2, 3, 4]}])
                assert added.status in (200, 404), added
                found = index.try_search(vector=[1, 2, 3, 4])
                assert found.status in (200, 404), found
                statuses.append(index.drop().status)
                with lock:
                    for status in statuses:
                        totals[status] += 1

    in_parallel(*[fight] * 6)
    assert totals[201] == totals[204] > 0  # each that was made was deleted once
    with server.client() as client:
        assert client.index(name).drop().status == 404
        client.create(name, 2)
        assert client.index(name).info()["count"] == 0
        client.index(name).drop()


def test_more_shards_than_workers_and_many_indexes_at_once(server, new_name):
    def use(shards):
        rng = seeded(f"{shards} shards")
        with server.client() as client:
            index = client.create(new_name(), 12, shards=shards, distance="euclidean")
            vectors = {str(i): random_vector(rng, 12) for i in range(400)}
            index.add([{"id": key, "vector": value} for key, value in vectors.items()])
            for key in list(vectors)[:60]:
                assert index.search(vectors[key], k=1)[0]["id"] == key
            assert index.info()["count"] == 400
            assert index.drop().status == 204

    in_parallel(*[lambda shards=shards: use(shards) for shards in (1, 2, 3, 8, 17, 64)])


class Model:
    """What an index should hold of one thread's ids."""

    def __init__(self, rng, index, prefix, distance):
        self.rng = rng
        self.index = index
        self.prefix = prefix
        self.distance = distance
        self.items = {}
        self.wanted = 0
        self.missed = 0

    def some_id(self):
        return f"{self.prefix}/{self.rng.randrange(120)}"

    def add(self):
        batch, want = [], {"added": 0, "updated": 0}
        for _ in range(self.rng.randint(1, 12)):
            vector = random_vector(self.rng, 10)
            entry = {"id": self.some_id(), "vector": vector}
            if self.rng.random() < 0.3:
                entry["vector"] = to_base64(vector)
            before = self.items.get(entry["id"])
            metadata = before[1] if before else {}
            if self.rng.random() < 0.5:
                metadata = self.rng.choice([{}, {"n": self.rng.random(), "s": "ä/☃"}])
                entry["metadata"] = metadata
            want["updated" if before else "added"] += 1
            self.items[entry["id"]] = (vector, metadata)
            batch.append(entry)
        assert self.index.add(batch) == want

    def delete(self):
        one = self.some_id()
        assert self.index.delete(one).status == (204 if one in self.items else 404)
        self.items.pop(one, None)

    def delete_many(self):
        ids = [self.some_id() for _ in range(self.rng.randint(0, 8))]
        assert self.index.delete_many(ids) == len(set(ids) & set(self.items))
        for one in ids:
            self.items.pop(one, None)

    def get(self):
        one = self.some_id()
        answer = self.index.get(one)
        if one not in self.items:
            assert answer.status == 404
            return
        vector, metadata = self.items[one]
        assert answer.json["id"] == one and answer.json["metadata"] == metadata
        assert floats(answer.json["vector"]) == vector

    def search(self):
        """Others' items are in the answer too: ours among them must be right and near enough."""
        query = random_vector(self.rng, 10)
        hits = self.index.search(query, k=200, ef=800, with_vector=True)
        mine = {hit["id"]: hit for hit in hits if hit["id"].startswith(self.prefix + "/")}
        for key, hit in mine.items():
            vector, metadata = self.items[key]
            assert floats(hit["vector"]) == vector and hit.get("metadata", {}) == metadata
            want = python_distance(self.distance, query, vector)
            assert abs(hit["distance"] - want) <= 1e-5 + 1e-6 * abs(want)
        reach = hits[-1]["distance"] - 1e-5 if len(hits) == 200 else math.inf
        for key, (vector, _) in self.items.items():
            if python_distance(self.distance, query, vector) < reach:
                self.wanted += 1
                self.missed += key not in mine


@pytest.mark.parametrize("distance,shards", [("cosine", 1), ("euclidean", 3), ("dot", 8)])
def test_random_operations_from_several_threads_agree_with_a_model(server, make, distance, shards):
    index = make(10, distance=distance, shards=shards)

    def run(number):
        rng = seeded(f"model {distance} thread {number}")
        with server.client() as client:
            model = Model(rng, client.index(index.name), f"t{number}", distance)
            for _ in range(250):
                step = rng.choices(
                    [model.add, model.delete, model.delete_many, model.get, model.search],
                    [5, 4, 1, 3, 3],
                )[0]
                step()
            mine = {}
            for entry in model.index.pages(limit=50, with_vector="true"):
                if entry["id"].startswith(model.prefix + "/"):
                    mine[entry["id"]] = (floats(entry["vector"]), entry.get("metadata", {}))
            assert mine == model.items
            assert model.missed <= model.wanted * 0.02

    in_parallel(*[lambda number=number: run(number) for number in range(4)])


def test_a_delete_of_too_many_ids_is_refused(client):
    client.create("many_ids", 2)
    answer = client.post("/v1/vectors/index/many_ids/delete", {"ids": ["a"] * 1_000_001})
    assert (answer.status, answer.code) == (400, "limit_exceeded")
    assert "ids" in answer.message and "1000000" in answer.message


def test_a_message_whose_quote_is_cut_inside_a_character_keeps_its_place(client):
    client.create("cut", 2)
    # One byte, then characters of two: the cut at 40 bytes falls inside one.
    answer = client.get("/v1/vectors/index/cut/items?limit=a" + "%C3%A9" * 30)
    assert (answer.status, answer.code) == (400, "invalid_argument")
    assert answer.message.startswith('limit: "a\u00e9') and "whole number" in answer.message
