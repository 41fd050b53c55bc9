"""The route table seen from outside: dispatch on each port, 404, 405, OPTIONS, HEAD, OpenAPI."""
import pytest

from raw_http import get, post


def request(method, path, *lines):
    return "\r\n".join(["%s %s HTTP/1.1" % (method, path), "Host: test", *lines, "", ""])


@pytest.mark.parametrize("service,path,status", [
    ("gateway", "/healthz", 200),
    ("vectord", "/healthz", 200),
    ("gateway", "/v1/healthz", 404),
    ("vectord", "/v1/healthz", 404),
    ("gateway", "/v1/vectors/index", 200),
    ("gateway", "/vectors/index", 404),
    ("vectord", "/v1/vectors/index", 200),
    ("vectord", "/vectors/index", 200),
    ("gateway", "/v1/vectors/index/", 404),
    ("gateway", "/v1//vectors/index", 404),
    ("gateway", "/v1/vectors/../vectors/index", 404),
    ("gateway", "/v1/%76ectors/index", 200),
    ("gateway", "/v1%2fvectors/index", 404),
    ("gateway", "/v1/vectors/index?limit=1", 200),
    ("gateway", "/", 404),
    ("gateway", "/v1", 404),
    ("gateway", "/" + "a/" * 40, 404),
    ("gateway", "/v1/storage/list", 501),
    ("gateway", "/v1/catalog/list", 501),
    ("gateway", "/catalog/list", 404),
    ("gateway", "/v1/ingest/a", 501),
    ("gateway", "/ingest/a", 404),
    ("vectord", "/v1/ingest/a", 404),
    ("vectord", "/v1/catalog/list", 404),
    ("gateway", "/storage/list", 404),
    ("vectord", "/v1/storage/list", 404),
])
def test_each_port_answers_its_routes(server, service, path, status):
    assert server.ask(get(path), service).status == status


def test_an_unknown_path_is_one_json_error(server):
    answer = server.ask(get("/v1/none"))
    assert (answer.status, answer.code) == (404, "not_found")
    assert answer.headers["content-type"] == "application/json"


def test_an_error_quotes_the_path_as_json(server):
    message = server.ask(get("/v1/%22%5c%0a%1b")).message
    assert '"\\\n\x1b' in message
    assert server.ask(get("/v1/%ff")).code == "not_found"


@pytest.mark.parametrize("method,path,allow", [
    ("DELETE", "/healthz", "GET, HEAD, OPTIONS"),
    ("PUT", "/v1/vectors/index", "GET, HEAD, POST, OPTIONS"),
    ("DELETE", "/v1/vectors/index/a/search", "POST, OPTIONS"),
    ("PUT", "/v1/vectors/index/a/items/b", "GET, HEAD, DELETE, OPTIONS"),
])
def test_rfc9110_s15_5_6_a_wrong_method_is_told_the_right_ones(server, method, path, allow):
    answer = server.ask(request(method, path))
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("path,allow", [
    ("/healthz", "GET, HEAD, OPTIONS"),
    ("/v1/vectors/index", "GET, HEAD, POST, OPTIONS"),
    ("*", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
])
def test_rfc9110_s9_3_7_options(server, path, allow):
    client = server.connect()
    client.send(request("OPTIONS", path) + get())
    answer = client.answer()
    assert answer.status == 204 and answer.headers["allow"] == allow
    assert client.answer().status == 200
    client.close()


def test_options_of_an_unknown_path(server):
    assert server.ask(request("OPTIONS", "/v1/none")).status == 404


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/v1/vectors/index",
                                  "/v1/vectors/index/none", "/v1/none"])
def test_rfc9110_s9_3_2_head_is_get_without_the_body(server, path):
    client = server.connect()
    client.send(request("HEAD", path) + get(path))
    head = client.answer(to_head=True)
    whole = client.answer()
    assert head.status == whole.status
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert head.headers["content-type"] == whole.headers["content-type"]
    client.close()


def test_request_ids_differ(server):
    client = server.connect()
    client.send(get() * 20)
    assert len({client.answer().headers["x-request-id"] for _ in range(20)}) == 20
    client.close()


def test_openapi_lists_the_routes_that_answer(server):
    answer = server.ask(get("/openapi.json"))
    document = answer.json
    assert document["openapi"].startswith("3.1")
    operations = [o["operationId"] for item in document["paths"].values() for o in item.values()]
    assert len(operations) == len(set(operations)) > 10
    for path, item in document["paths"].items():
        filled = path.replace("{name}", "none").replace("{id}", "none")
        allow = server.ask(request("OPTIONS", filled)).headers["allow"].split(", ")
        assert {method.upper() for method in item} == set(allow) - {"HEAD", "OPTIONS"}
        for operation in item.values():
            assert operation["summary"] and operation["responses"]
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_metrics_count_by_route_and_status(server):
    def count():
        for line in server.ask(get("/metrics")).body.decode().splitlines():
            if line.startswith("lakehouse_http_requests_total{") and 'route="none"' in line:
                if 'status="404"' in line:
                    return float(line.rsplit(" ", 1)[1])
        return 0

    before = count()
    for _ in range(3):
        server.ask(get("/v1/none"))
    assert count() == before + 3


def test_a_body_of_another_kind_is_refused_with_its_reason(server):
    answer = server.ask(post("/v1/vectors/index", b"not json"))
    assert (answer.status, answer.code) == (400, "invalid_json")
