"""A server without vectord.data_dir: what is about files is answered so that nobody takes it for
done, and all else goes on as ever."""
import pytest

PATH = "/v1/vectors/index/words"
ITEM = {"items": [{"id": "a", "vector": [1, 0]}]}


@pytest.fixture(scope="module")
def client(server):
    assert any("ephemeral" in event["event"] for event in server.events())
    with server.client() as client:
        client.create("words", 2)
        yield client


def test_a_checkpoint_is_not_implemented_and_says_what_is_missing(client):
    answer = client.post(PATH + "/checkpoint", b"")
    assert (answer.status, answer.code) == (501, "not_implemented")
    assert "vectord.data_dir" in answer.json["error"]["message"]
    info = client.index("words").info()
    assert info["state"] == "ready" and info["checkpoint_lsn"] == 0
    assert client.index("words").try_add(ITEM["items"]).status == 200


def test_a_checkpoint_of_an_index_that_is_not_there_is_not_found(client):
    answer = client.post("/v1/vectors/index/others/checkpoint", b"")
    assert (answer.status, answer.code) == (404, "index_not_found")


@pytest.mark.parametrize("durability", ["commit", "interval", "none"])
def test_each_durability_is_taken(client, durability):
    answer = client.post(f"{PATH}/add?durability={durability}", ITEM)
    assert answer.status == 200 and answer.json["added"] + answer.json["updated"] == 1
    assert client.post(f"{PATH}/delete?durability={durability}", {"ids": ["b"]}).status == 200


@pytest.mark.parametrize("durability", ["", "COMMIT", "fsync"])
def test_any_other_durability_is_refused_by_name(client, durability):
    answer = client.post(f"{PATH}/add?durability={durability}", ITEM)
    assert (answer.status, answer.code) == (400, "invalid_argument"), answer.body
    assert f'"{durability}"' in answer.json["error"]["message"]


def test_more_than_is_configured_is_refused_here_as_well(start):
    server = start("vectord.durability=interval")
    with server.client() as client:
        client.create("words", 2)
        for durability, status in (("commit", 400), ("interval", 200), ("none", 200)):
            answer = client.post(f"{PATH}/add?durability={durability}", ITEM)
            assert answer.status == status, answer.body


def test_nothing_is_there_at_the_next_start(start):
    first = start()
    with first.client() as client:
        client.create("words", 2).add(ITEM["items"])
    first.stop()
    with start().client() as client:
        assert client.get("/v1/vectors/index").json["count"] == 0
