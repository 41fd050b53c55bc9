"""Who may come in, and how much: tokens, scopes, limits, rates, binds."""

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

import tls_help
from lakehouse_server import Client, Server, in_parallel, wait_until

READER = "reader-0123456789abcdef"
WRITER = "writer-0123456789abcdef"
ADMIN = "admin-0123456789abcdef"
TENANT = "tenant-0123456789abcdef"
OBJECTS = "objects-0123456789abcdef"
NOBODY = "nobody-0123456789abcdef"

SECRETS = f"""
[[token]]
name = "reader"
token = "{READER}"
scopes = ["read"]

[[token]]
name = "writer"
sha256 = "{hashlib.sha256(WRITER.encode()).hexdigest()}"
scopes = ["write"]

[[token]]
name = "admin"
token = "{ADMIN}"
scopes = ["admin"]

[[token]]
name = "tenant"
token = "{TENANT}"
scopes = ["admin"]
indexes = ["mine", "t-*"]

[[token]]
name = "objects"
token = "{OBJECTS}"
scopes = ["read", "write"]
prefixes = ["o/"]
"""

LISTENING = "/v1/vectors/index"


def write_secrets(path, text=SECRETS, mode=0o600):
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, mode)) as file:
        file.write(text)
    os.chmod(new, mode)
    os.rename(new, path)
    return str(path)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = write_secrets(tmp_path_factory.mktemp("secrets") / "secrets.toml")
    with Server(f"gateway.secrets_path={path}") as running:
        admin = Caller(running, ADMIN)
        for name in ("mine", "theirs"):
            assert admin.post(LISTENING, {"name": name, "dimension": 2}).status == 201
            items = {"items": [{"id": "a", "vector": [1, 0]}]}
            assert admin.post(f"{LISTENING}/{name}/add", items).status == 200
        yield running


class Caller:
    """A client that sends a token; None: none."""

    def __init__(self, running, token, service="gateway", prefix="Bearer "):
        self.client = Client(running.ports[service])
        self.headers = {} if token is None else {"Authorization": prefix + token}

    def request(self, method, path, body=None):
        return self.client.request(method, path, body, headers=self.headers)

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body):
        return self.request("POST", path, body)

    def delete(self, path):
        return self.request("DELETE", path)


def assert_error(answer, status, code, challenge=None):
    assert (answer.status, answer.json["error"]["code"]) == (status, code), answer
    assert answer.headers.get("www-authenticate") == challenge
    return answer.json["error"]["message"]


# ---- tokens ----


def test_a_request_without_a_token_is_told_what_is_needed(server):
    answer = Caller(server, None).get(LISTENING)
    assert_error(answer, 401, "unauthorized", 'Bearer realm="lakehoused"')


@pytest.mark.parametrize("token", [NOBODY, READER[:-1], READER + "x", "=", "a b", READER.upper(),
                                   hashlib.sha256(WRITER.encode()).hexdigest(), "x" * 8000])
def test_an_unknown_token_is_refused(server, token):
    answer = Caller(server, token).get(LISTENING)
    assert_error(answer, 401, "unauthorized",
                 'Bearer realm="lakehoused", error="invalid_token"')
    assert token[:16] not in answer.json["error"]["message"] or len(token) < 4


@pytest.mark.parametrize("value", ["Basic cmVhZGVyOg==", "Bearer", "Bearer ", READER,
                                   f"Bearer{READER}", f"Token {READER}"])
def test_another_scheme_is_no_token(server, value):
    answer = Caller(server, value, prefix="").get(LISTENING)
    assert_error(answer, 401, "unauthorized", 'Bearer realm="lakehoused"')


def test_the_scheme_is_read_in_any_case(server):
    assert Caller(server, READER, prefix="bEARER  ").get(LISTENING).status == 200


def test_every_port_asks(server):
    for service in server.ports:
        for prefix in ("", "/v1") if service != "gateway" else ("/v1",):
            path = f"{prefix}/vectors/index"
            expected = 401 if service in ("gateway", "vectord") else 404
            assert Caller(server, None, service).get(path).status == expected, (service, path)
    assert Caller(server, READER, "vectord").get("/vectors/index").status == 200


def test_health_is_open_and_status_is_open_to_this_host(server):
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert Caller(server, None).get(path).status == 200
        assert Caller(server, NOBODY).get(path).status == 200


def test_status_can_be_closed(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    with Server(f"gateway.secrets_path={path}", "gateway.open_status=nobody") as server:
        assert Caller(server, None).get("/healthz").status == 200
        for path in ("/readyz", "/metrics", "/openapi.json"):
            assert Caller(server, None).get(path).status == 401
            assert Caller(server, WRITER).get(path).status == 403
            assert Caller(server, READER).get(path).status == 200
            assert Caller(server, OBJECTS).get(path).status == 200


# ---- scopes ----

ROUTES = [
    ("GET", "", None, "read"),
    ("GET", "/mine", None, "read"),
    ("POST", "/mine/search", {"vector": [1, 0]}, "read"),
    ("GET", "/mine/items", None, "read"),
    ("GET", "/mine/items/a", None, "read"),
    ("HEAD", "/mine/items/a", None, "read"),
    ("POST", "/mine/add", {"items": [{"id": "a", "vector": [1, 0]}]}, "write"),
    ("POST", "/mine/delete", {"ids": ["gone"]}, "write"),
    ("DELETE", "/mine/items/gone", None, "write"),
    ("POST", "", {"name": "theirs", "dimension": 2}, "admin"),
    ("POST", "/mine/checkpoint", None, "admin"),
    ("POST", "/mine/reshard", {"shards": 1}, "admin"),
    ("DELETE", "/none", None, "admin"),
]


@pytest.mark.parametrize("method,path,body,scope", ROUTES)
def test_a_route_needs_its_scope(server, method, path, body, scope):
    allowed = {READER: scope == "read", WRITER: scope == "write", ADMIN: True}
    for token, is_allowed in allowed.items():
        answer = Caller(server, token).request(method, LISTENING + path, body)
        if is_allowed:
            assert answer.status not in (401, 403), answer
            continue
        assert answer.status == 403
        assert answer.headers["www-authenticate"] == (
            f'Bearer realm="lakehoused", error="insufficient_scope", scope="{scope}"')
        if method != "HEAD":
            name = "reader" if token == READER else "writer"
            assert answer.json["error"]["message"] == f'token "{name}" has no scope {scope}'


def test_the_document_says_which_scope_each_route_needs(server):
    document = Caller(server, None).get("/openapi.json").json
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"}}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            security = operation["security"]
            if path == "/healthz":
                assert security == []
            elif path in ("/readyz", "/metrics", "/openapi.json"):
                assert security == [{}, {"bearer": ["read"]}]
            else:
                assert security[0]["bearer"][0] in ("read", "write", "admin"), (path, method)
    paths = document["paths"]
    for method, path, _, scope in ROUTES:
        if method == "HEAD":
            continue
        path = LISTENING + path.replace("/mine", "/{name}").replace("/none", "/{name}")
        path = path.replace("/items/a", "/items/{id}").replace("/items/gone", "/items/{id}")
        assert paths[path][method.lower()]["security"] == [{"bearer": [scope]}], path


# ---- limits ----


def test_a_token_reaches_only_the_indexes_that_it_is_limited_to(server):
    tenant = Caller(server, TENANT)
    for method, path, body, _ in ROUTES:
        if "/mine" not in path:
            continue
        assert tenant.request(method, LISTENING + path, body).status not in (401, 403)
        other = LISTENING + path.replace("mine", "theirs")
        assert tenant.request(method, other, body).status == 403
    message = assert_error(tenant.get(f"{LISTENING}/theirs"), 403, "forbidden")
    assert message == 'token "tenant" is limited, and not to index "theirs"'


def test_a_limited_token_sees_and_makes_what_it_is_limited_to(server):
    tenant = Caller(server, TENANT)
    assert tenant.post(LISTENING, {"name": "t-1", "dimension": 2}).status == 201
    message = assert_error(tenant.post(LISTENING, {"name": "u-1", "dimension": 2}),
                           403, "forbidden")
    assert message == 'the token is limited, and not to index "u-1"'
    # Nor does it learn what there is.
    assert tenant.post(LISTENING, {"name": "theirs", "dimension": 2}).status == 403
    listed = tenant.get(LISTENING).json
    assert [index["name"] for index in listed["indexes"]] == ["mine", "t-1"]
    assert listed["count"] == 2
    assert tenant.delete(f"{LISTENING}/t-1").status == 204
    assert Caller(server, OBJECTS).get(LISTENING).json == {"indexes": [], "count": 0}
    assert Caller(server, OBJECTS).get(f"{LISTENING}/mine").status == 403


def test_a_limit_is_compared_with_the_decoded_name(server):
    tenant = Caller(server, TENANT)
    assert tenant.get(f"{LISTENING}/%6dine").status == 200
    assert tenant.get(f"{LISTENING}/mine%2F..%2Ftheirs").status == 403
    assert tenant.get(f"{LISTENING}/t-..%2Ftheirs").status == 404
    assert tenant.get(f"{LISTENING}/mine/../theirs").status in (400, 403, 404)


# ---- the command line ----


def run_client(server, *arguments, token=None):
    environment = {**os.environ, "LAKEHOUSE_TOKEN": token or ""}
    command = [os.environ.get("LAKEHOUSE", "build/release/lakehouse"), *arguments,
               "--url", f"http://127.0.0.1:{server.port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_the_command_line_brings_a_token(server):
    assert "mine" in run_client(server, "index", "list", token=READER).stdout
    assert "mine" in run_client(server, "index", "list", "--token", READER, token=NOBODY).stdout
    for token in (None, NOBODY):
        done = run_client(server, "index", "list", token=token)
        assert done.returncode == 1 and "unauthorized" in done.stderr
        assert NOBODY not in done.stderr
    done = run_client(server, "index", "create", "x", "--dimension", "2", token=READER)
    assert done.returncode == 1 and 'token "reader" has no scope admin' in done.stderr
    done = run_client(server, "index", "list", token="a\r\nX-Injected: yes")
    assert done.returncode == 3 or done.returncode == 2
    assert "no control characters" in done.stderr


# ---- before the body ----


def test_an_unknown_caller_is_not_told_to_continue(server):
    raw = server.connect()
    raw.send(f"POST {LISTENING}/mine/add HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode())
    assert raw.answer().status == 401
    raw.close()
    raw = server.connect()
    raw.send(f"POST {LISTENING}/mine/add HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             f"Authorization: Bearer {READER}\r\n"
             "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode())
    assert raw.answer().status == 403
    raw.close()


def test_an_unknown_caller_s_stream_is_not_read(server):
    raw = server.connect()
    raw.send(f"POST {LISTENING}/mine/add HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
             "Content-Type: application/x-ndjson\r\n\r\n".encode())
    assert raw.answer().status == 401
    raw.close()


# ---- binds ----


def run(*sets, seconds=60):
    command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused")]
    for setting in ("vectord.bind=127.0.0.1:0", "queryd.bind=127.0.0.1:0", *sets):
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]", "192.0.2.1", "[::ffff:192.0.2.1]",
                                  "some.host.example"])
def test_without_a_token_other_hosts_are_kept_out(host, tmp_path):
    code, text = run(f"gateway.bind={host}:0")
    assert code == 2
    assert "gateway.bind: other hosts reach" in text
    assert "no token is configured: gateway.secrets_path names the file of tokens" in text
    path = write_secrets(tmp_path / "secrets.toml", "[peer]\ntoken = \"0123456789abcdef\"\n")
    assert run(f"gateway.bind={host}:0", f"gateway.secrets_path={path}")[0] == 2


def test_with_a_token_every_bind_is_allowed(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    with Server("gateway.bind=0.0.0.0:0", f"queryd.secrets_path={path}") as server:
        assert Caller(server, None).get(LISTENING).status == 401
        assert Caller(server, READER).get(LISTENING).status == 200


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused(mode, tmp_path):
    path = write_secrets(tmp_path / "secrets.toml", mode=mode)
    for flags in ((), ("--check",)):
        command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused"), *flags,
                   "--set", f"gateway.secrets_path={path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert f"{path}: has mode {mode:04o}: others than its owner can get at it" in done.stderr


def test_the_two_names_of_the_file_are_one_file(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    code, text = run(f"gateway.secrets_path={path}", "queryd.secrets_path=/elsewhere")
    assert code == 2
    assert "queryd.secrets_path is not the file that gateway.secrets_path names" in text


def test_no_secret_is_printed(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused"), "--check",
               "--set", f"gateway.secrets_path={path}", "--set", "s3.secret_access_key=hidden1234"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert path in done.stdout
    for secret in (READER, WRITER, ADMIN, "hidden1234"):
        assert secret not in done.stdout + done.stderr
    with Server(f"gateway.secrets_path={path}", "log.level=debug") as server:
        Caller(server, READER).get(LISTENING)
        Caller(server, NOBODY).get(LISTENING)
        server.stop()
        assert "listIndexes" in server.log_text()
        for secret in (READER, NOBODY, hashlib.sha256(READER.encode()).hexdigest()):
            assert secret not in server.log_text()


# ---- SIGHUP ----


def hang_up(server):
    """Sends SIGHUP and returns what the server logs because of it."""
    def events():
        return [event for event in server.events() if event["event"] != "request"]

    seen = len(events())
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: any(event["event"] == "reloaded" or event.get("part") == "configuration"
                           for event in events()[seen:]))
    return events()[seen:]


def test_tokens_are_reloaded_and_a_broken_file_keeps_the_old_ones(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    with Server(f"gateway.secrets_path={path}") as server:
        known, new = Caller(server, READER), Caller(server, "fresh-0123456789abcdef")
        assert (known.get(LISTENING).status, new.get(LISTENING).status) == (200, 401)
        write_secrets(path, SECRETS.replace(READER, "fresh-0123456789abcdef"))
        assert known.get(LISTENING).status == 200
        assert hang_up(server)[-1]["tokens"] == 5
        assert (known.get(LISTENING).status, new.get(LISTENING).status) == (401, 200)
        for text, mode, reason in (("[[token]]\nname = 5", 0o600, "is not a string in quotes"),
                                   (SECRETS, 0o644, "has mode 0644"),
                                   ("[[token]]\ntoken = 'unclosed", 0o600, "TOML")):
            write_secrets(path, text, mode)
            events = hang_up(server)
            assert events[0]["part"] == "secrets" and reason in events[0]["reason"]
            assert "unclosed" not in server.log_text()
            assert (known.get(LISTENING).status, new.get(LISTENING).status) == (401, 200)
        os.unlink(path)
        assert hang_up(server)[0]["part"] == "secrets"
        assert new.get(LISTENING).status == 200


@pytest.mark.parametrize("length", [20, 158, 159, 160, 161, 250, 4000])
def test_a_secrets_file_of_any_path_is_told_by_its_key(length):
    path = "/" + "x" * (length - 1)
    done = subprocess.run([os.environ["LAKEHOUSED"], "--check", "--set",
                           f"gateway.secrets_path={path}"], capture_output=True, text=True)
    assert done.returncode != 0 and "gateway.secrets_path" in done.stderr, done


def test_the_last_token_of_an_open_bind_stays(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    with Server("gateway.bind=0.0.0.0:0", f"gateway.secrets_path={path}") as server:
        write_secrets(path, "")
        assert "no token is configured" in hang_up(server)[0]["reason"]
        assert Caller(server, None).get(LISTENING).status == 401


def test_the_configuration_is_reloaded_as_far_as_it_can_be(tmp_path):
    config = tmp_path / "lakehouse.toml"
    config.write_text('[log]\nlevel = "info"\n')
    path = write_secrets(tmp_path / "secrets.toml")
    with Server(config=config) as server:
        Caller(server, None).get(LISTENING)
        assert "request" not in [event["event"] for event in server.events()]
        config.write_text('[log]\nlevel = "debug"\n[server]\nsearch_timeout = "1s"\n'
                          f'[gateway]\nsecrets_path = "{path}"\nrequests_per_second = 2\n')
        events = hang_up(server)
        assert [event["key"] for event in events if "restart" in event["event"]] == [
            "server.search_timeout"]
        assert events[-1]["log_level"] == "debug" and events[-1]["tokens"] == 5
        assert Caller(server, None).get(LISTENING).status == 401
        wait_until(lambda: "request" in [event["event"] for event in server.events()])
        until_refused(lambda: Caller(server, READER).get(LISTENING).status)
        config.write_text("[log]\nlevel = 5\n")
        events = hang_up(server)
        assert "log.level" in events[-1]["reason"]
        assert Caller(server, None).get(LISTENING).status in (401, 429)
        config.write_text(f'[gateway]\nsecrets_path = "{path}"\n')
        write_secrets(path, SECRETS + '[peer]\ntoken = "0123456789abcdef"\n'
                      '[s3]\naccess_key_id = "a"\nsecret_access_key = "b"\n')
        assert [event["key"] for event in hang_up(server) if "restart" in event["event"]] == [
            "[s3] of the secrets file", "[peer] of the secrets file"]


def test_the_certificate_is_reloaded_and_a_broken_one_is_not(tmp_path):
    paths = [tmp_path / name for name in ("server.pem", "server.key")]

    def use(*texts):
        for path, text in zip(paths, texts):
            path.write_bytes(text)
            path.chmod(0o600)

    def served(server):
        return ssl.get_server_certificate(("127.0.0.1", server.port))

    first, second = ([Path(path).read_bytes() for path in tls_help.certificate(name)]
                     for name in ("first", "second"))
    use(*first)
    with Server(f"server.tls_certificate={paths[0]}", f"server.tls_key={paths[1]}") as server:
        assert served(server).encode() == first[0]
        use(*second)
        hang_up(server)
        assert served(server).encode() == second[0]
        for broken in ((first[0], second[1]), (b"none", b"none")):
            use(*broken)
            assert "the old certificate stays" in [event["event"] for event in hang_up(server)]
            assert served(server).encode() == second[0]


def test_reloads_under_load_lose_nothing(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    with Server(f"gateway.secrets_path={path}") as server:
        ends = time.monotonic() + 2

        def ask():
            caller = Caller(server, READER)
            while time.monotonic() < ends:
                assert caller.get(LISTENING).status == 200

        def reload():
            for _ in range(40):
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.05)

        in_parallel(ask, ask, ask, reload)


# ---- rates ----


def rated(tmp_path, *sets, **limits):
    text = f'[[token]]\nname = "free"\ntoken = "{ADMIN}"\nscopes = ["admin"]\n'
    text += "requests_per_second = 0\nbytes_per_second = 0\n"
    text += f'[[token]]\nname = "plain"\ntoken = "{READER}"\nscopes = ["read", "write"]\n'
    text += f'[[token]]\nname = "own"\ntoken = "{WRITER}"\nscopes = ["read"]\n'
    text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in limits.items())
    path = write_secrets(tmp_path / "secrets.toml", text)
    return Server(f"gateway.secrets_path={path}", *sets)


def until_refused(ask):
    """How many were let in before the first 429, and how long that took."""
    start = time.monotonic()
    for let_in in range(1000):
        if ask() == 429:
            return let_in, time.monotonic() - start
    raise AssertionError("never refused")


def test_a_caller_gets_its_rate_and_a_truthful_retry_after(tmp_path):
    with rated(tmp_path, "gateway.requests_per_second=5", requests_per_second=1) as server:
        plain, own, free = (Caller(server, token) for token in (READER, WRITER, ADMIN))
        let_in, seconds = until_refused(lambda: plain.get(LISTENING).status)
        assert 5 <= let_in <= 5 + 5 * seconds + 1
        answers = []  # others' rates are their own

        def ask_as_own():
            answers.append(own.get(LISTENING))
            return answers[-1].status

        let_in, seconds = until_refused(ask_as_own)
        assert 1 <= let_in <= 1 + seconds + 1
        answer = answers[-1]
        message = assert_error(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"
        assert message == "1 requests a second are allowed: try again in 1 s"
        assert all(free.get(LISTENING).status == 200 for _ in range(50))
        time.sleep(1)
        assert own.get(LISTENING).status == 200
        assert plain.get(LISTENING).status == 200
        assert Caller(server, None).get("/healthz").status == 200
        assert server.metric("lakehouse_access_refused_total", reason="rate") == 2


def test_bodies_are_counted_and_a_large_one_goes_into_debt(tmp_path):
    rate = 5000
    with rated(tmp_path, f"gateway.bytes_per_second={rate}") as server:
        admin, plain = Caller(server, ADMIN), Caller(server, READER)
        assert admin.post(LISTENING, {"name": "i", "dimension": 2}).status == 201
        body = json.dumps({"ids": ["x" * 500] * 60})
        assert 30000 < len(body) < 32000

        def delete():
            return plain.request("POST", f"{LISTENING}/i/delete", body)

        def check_wait(answer, began, debt):
            """Of a refusal: so many seconds after the debt was made, less the one of a full bucket."""
            wait = int(answer.headers["retry-after"])
            assert answer.status == 429
            assert debt - 1 - (time.monotonic() - began) <= wait <= debt + 1
            return wait

        began = time.monotonic()
        assert delete().status == 200
        answer = delete()
        wait = check_wait(answer, began, len(body) / rate)
        until = time.monotonic() + wait
        while time.monotonic() < until and answer.status == 429:
            time.sleep(0.1)
            answer = delete()
        assert answer.status == 200 or delete().status == 200
        assert time.monotonic() - began > len(body) / rate - 1
        # A stream is let in by what it may still send, and counted as it comes.
        time.sleep(int(delete().headers["retry-after"]))
        lines = '{"id":"a","vector":[1,0]}\n' * 2000
        began = time.monotonic()
        stream = plain.client.request("POST", f"{LISTENING}/i/add", iter([lines.encode()]),
                                      headers={**plain.headers,
                                               "Content-Type": "application/x-ndjson",
                                               "Transfer-Encoding": "chunked"}, chunked=True)
        assert stream.status == 200
        check_wait(delete(), began, len(lines) / rate)


def get_from(port, source, path=LISTENING):
    with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_addresses_have_rates_where_there_are_no_tokens():
    with Server("gateway.requests_per_second=3") as server:
        let_in, seconds = until_refused(lambda: get_from(server.port, "127.0.0.2"))
        assert 3 <= let_in <= 3 + 3 * seconds + 1
        assert get_from(server.port, "127.0.0.3") == 200
        # More addresses than the table holds: the newest are known.
        for i in range(4200):
            get_from(server.port, f"127.1.{i >> 8}.{i & 255}", "/healthz")
        for i in range(4200):
            assert get_from(server.port, f"127.1.{i >> 8}.{i & 255}") == 200
        until_refused(lambda: get_from(server.port, "127.1.16.103"))


def test_guessing_is_slowed_down(tmp_path):
    path = write_secrets(tmp_path / "secrets.toml")
    with Server(f"gateway.secrets_path={path}", "gateway.requests_per_second=3") as server:
        guesser = Caller(server, NOBODY)
        let_in, seconds = until_refused(lambda: guesser.get(LISTENING).status)
        assert 3 <= let_in <= 3 + 3 * seconds + 1
        assert Caller(server, READER).get(LISTENING).status == 200
