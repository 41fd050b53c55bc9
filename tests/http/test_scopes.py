"""Every route against every kind of caller, in one process and through a gateway before another."""

import json

import pytest

import tls_help
from lakehouse_server import Client, Server, wait_until
from test_access import write_secrets

TOKENS = {name: f"{name}-0123456789abcdef" for name in ("reader", "writer", "admin", "else")}
SECRETS = "".join(
    f'[[token]]\nname = "{name}"\ntoken = "{TOKENS[name]}"\nscopes = [{scopes}]\n{limits}\n'
    for name, scopes, limits in (
        ("reader", '"read"', ""), ("writer", '"write"', ""), ("admin", '"admin"', ""),
        ("else", '"admin"', 'indexes = ["else"]\nprefixes = ["else/"]')))

INDEX = "/v1/vectors/index"
DATASET = {"name": "mine", "fingerprint": "f", "objects": [{"key": "mine/k", "size": 1}]}
ITEM = {"items": [{"id": "a", "vector": [1, 0]}]}

# operation: method, path, body, scope, and what a token that is limited to other names gets: 403,
# or, where the handler looks at what the call is for, one of these.
ROUTES = {
    "createIndex": ("POST", INDEX, {"name": "mine", "dimension": 2}, "admin", {403}),
    "listIndexes": ("GET", INDEX, None, "read", {200}),
    "getIndex": ("GET", f"{INDEX}/mine", None, "read", {403}),
    "deleteIndex": ("DELETE", f"{INDEX}/none", None, "admin", {403}),
    "checkpointIndex": ("POST", f"{INDEX}/mine/checkpoint", None, "admin", {403}),
    "reshardIndex": ("POST", f"{INDEX}/mine/reshard", {"shards": 1}, "admin", {403}),
    "addItems": ("POST", f"{INDEX}/mine/add", ITEM, "write", {403}),
    "search": ("POST", f"{INDEX}/mine/search", {"vector": [1, 0]}, "read", {403}),
    "deleteItems": ("POST", f"{INDEX}/mine/delete", {"ids": ["b"]}, "write", {403}),
    "listItems": ("GET", f"{INDEX}/mine/items", None, "read", {403}),
    "getItem": ("GET", f"{INDEX}/mine/items/a", None, "read", {403}),
    "deleteItem": ("DELETE", f"{INDEX}/mine/items/b", None, "write", {403}),
    "importRows": ("POST", f"{INDEX}/mine/import", {"sql": "SELECT 1"}, "write", {403}),
    "putObject": ("PUT", "/v1/storage/put/mine/k", b"mine", "write", {403}),
    "getObject": ("GET", "/v1/storage/get/mine/k", None, "read", {403}),
    "deleteObject": ("DELETE", "/v1/storage/delete/mine/none", None, "write", {403}),
    "listObjects": ("GET", "/v1/storage/list", None, "read", {403}),
    "registerDataset": ("POST", "/v1/catalog/register", DATASET, "write", {403}),
    "getManifest": ("GET", "/v1/catalog/manifest/mine", None, "read", {403}),
    "deleteDataset": ("DELETE", "/v1/catalog/manifest/none", None, "admin", {403}),
    "listDatasets": ("GET", "/v1/catalog/list", None, "read", {200}),
    "ingest": ("POST", "/v1/ingest?name=mine", b"a\n1\n", "write", {403}),
    "getIngest": ("GET", "/v1/ingest/one", None, "read", {403, 404}),
    "cancelIngest": ("DELETE", "/v1/ingest/one", None, "write", {403, 404}),
    "query": ("POST", "/v1/sql", {"sql": "SELECT * FROM mine"}, "read", {400, 403, 404}),
    "queryText": ("GET", "/v1/sql?q=FROM+mine", None, "read", {400, 403, 404}),
    "listTables": ("GET", "/v1/sql/tables", None, "read", {200}),
    "getTable": ("GET", "/v1/sql/tables/mine", None, "read", {403, 404}),
    "queryProgress": ("GET", "/v1/sql/one", None, "read", {403}),
    "cancelQuery": ("DELETE", "/v1/sql/one", None, "read", {403, 404}),
}
# What is named in a body is not looked at on its way to another process.
SENT_ON = {"listIndexes", "listDatasets", "listTables"}
STATUS = {"ready", "metrics", "openapi"}  # open to this host unless gateway.open_status says not


def start(secrets, *sets):
    return Server(f"gateway.secrets_path={secrets}", "gateway.open_status=nobody", *sets)


@pytest.fixture(scope="module", params=["one process", "behind a gateway"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scopes")
    secrets = write_secrets(folder / "secrets.toml", SECRETS)
    with start(secrets, f"storaged.root={folder / 'root'}") as whole:
        whole.is_gateway = False
        assert ask(whole, "admin", "createIndex").status == 201
        assert ask(whole, "admin", "addItems").status == 200
        wait_until(lambda: ask(whole, "admin", "listDatasets").status in (200, 501))
        assert ask(whole, "admin", "putObject").status == 200
        assert ask(whole, "admin", "ingest", "X-Request-Id: one").status in (201, 501)
        if request.param == "one process":
            yield whole
            return
        url = tls_help.url(whole.port)
        urls = [f"gateway.{name}_url={url}"
                for name in ("vectord", "storaged", "catalogd", "ingestd", "queryd")]
        with start(secrets, *urls) as gateway:
            gateway.is_gateway = True
            wait_until(lambda: is_ready(gateway))
            yield gateway


def is_ready(server):
    with Client(server.port) as client:
        headers = {"Authorization": "Bearer " + TOKENS["reader"]}
        return client.get("/readyz", headers=headers).status == 200


def ask(server, caller, operation, *headers):
    method, path, body, _, _ = ROUTES[operation]
    fields = dict(line.split(": ") for line in headers)
    if caller is not None:
        fields["Authorization"] = "Bearer " + TOKENS.get(caller, caller)
    with Client(server.port) as client:
        return client.request(method, path, body, fields)


def test_no_route_is_missing_here(server):
    with Client(server.port) as client:
        document = client.get("/openapi.json",
                              headers={"Authorization": "Bearer " + TOKENS["reader"]}).json
    said = {operation["operationId"]: operation["security"]
            for item in document["paths"].values() for operation in item.values()}
    assert set(said) == set(ROUTES) | STATUS | {"health"}
    for operation, (_, _, _, scope, _) in ROUTES.items():
        assert said[operation] == [{"bearer": [scope]}], operation


@pytest.mark.parametrize("operation", ROUTES)
def test_a_route_lets_in_whom_its_scope_names(server, operation):
    scope = ROUTES[operation][3]
    for caller in (None, "stranger-0123456789", TOKENS["admin"] + "x", TOKENS["admin"][:-1]):
        answer = ask(server, caller, operation)
        assert (answer.status, answer.code) == (401, "unauthorized"), caller
        assert "mine" not in answer.message
    for caller, scopes in (("reader", {"read"}), ("writer", {"write"}),
                           ("admin", {"read", "write", "admin"})):
        answer = ask(server, caller, operation)
        if scope in scopes:
            assert answer.status not in (401, 403), (caller, answer)
        else:
            assert answer.status == 403, (caller, answer)
            assert answer.message == f'token "{caller}" has no scope {scope}'


@pytest.mark.parametrize("operation", ROUTES)
def test_a_limited_token_does_not_come_to_what_is_not_its_own(server, operation):
    answer = ask(server, "else", operation)
    expected = ROUTES[operation][4]
    if server.is_gateway and operation in SENT_ON:
        expected = {403}
    assert answer.status in expected | {501}, answer
    if answer.status == 200:
        body = json.loads(answer.body)
        assert all(value in ([], 0) for value in body.values()), body


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/openapi.json"])
def test_status_that_is_closed_needs_read(server, path):
    with Client(server.port) as client:
        for caller, status in ((None, 401), ("writer", 403), ("reader", 200)):
            headers = {"Authorization": "Bearer " + TOKENS[caller]} if caller else {}
            assert client.get(path, headers=headers).status == status
        assert client.get("/healthz").status == 200


SERVICES = {"vectors": "vectord", "storage": "storaged", "catalog": "catalogd",
            "ingest": "ingestd", "sql": "queryd"}


def service_of(operation):
    part = ROUTES[operation][1].split("/")[2].split("?")[0]
    return "queryd" if operation == "importRows" else SERVICES[part]


@pytest.mark.parametrize("service", SERVICES.values())
def test_a_service_s_own_port_asks_as_well(server, service):
    if server.is_gateway:
        pytest.skip("the services are elsewhere")
    with Client(server.ports[service]) as client:
        for operation, (method, path, body, _, _) in ROUTES.items():
            expected = (401,) if service_of(operation) == service else (404, 405)
            for prefix in ("", "/v1"):
                answer = client.request(method, prefix + path.removeprefix("/v1"), body)
                assert answer.status in expected, operation
