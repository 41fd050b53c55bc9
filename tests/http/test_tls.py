"""TLS on every port: what is agreed on, what is refused, how it ends, certificates and their files.
What is spoken over it is tested by the other files, which run over TLS too (LH_TEST_TLS)."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

import tls_help
from lakehouse_server import Server, in_parallel, wait_until
from raw_http import RawClient, get, post


@pytest.fixture(scope="module", autouse=True)
def over_tls():
    before, tls_help.IS_ON = tls_help.IS_ON, True
    yield
    tls_help.IS_ON = before


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def impatient():
    """With a deadline for handshake and header that only those keep who are quick."""
    with Server("server.header_timeout=1s") as running:
        yield running


def s_client(server, *options, say=b""):
    """What openssl's client prints; its standard input is `say`, then its end."""
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}",
         "-CAfile", tls_help.certificate()[0], *options],
        input=say, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
    ).stdout.decode(errors="replace")  # fmt: skip


# ---- what is agreed on ----


@pytest.mark.parametrize("version,name", [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_tls_1_2_and_1_3_are_spoken(server, version, name):
    for port in server.ports.values():
        out = s_client(server, version, "-connect", f"127.0.0.1:{port}")
        assert f"New, {name}, Cipher is" in out and "Verify return code: 0 (ok)" in out


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused_with_their_alert(server, version):
    out = s_client(server, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert "alert protocol version" in out and "Cipher is (NONE)" in out


@pytest.mark.parametrize("cipher", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(server, cipher):
    out = s_client(server, "-tls1_2", "-cipher", cipher + "@SECLEVEL=0")
    assert "handshake failure" in out and "Cipher is (NONE)" in out


def test_renegotiation_is_refused(server):
    client = subprocess.Popen(
        ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{server.port}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    client.stdin.write(b"R\n")
    client.stdin.flush()
    out = b""
    while b"no renegotiation" not in out:
        piece = os.read(client.stdout.fileno(), 65536)
        assert piece, out
        out += piece
    client.communicate(timeout=60)
    assert b"RENEGOTIATING" in out


def alpn(server, *protocols):
    context = tls_help.client_context()
    context.set_alpn_protocols(list(protocols))
    client = server.connect(tls=context)
    client.send(get())
    assert client.answer().status == 200
    chosen = client.sock.selected_alpn_protocol()
    client.close()
    return chosen


def test_http_1_1_is_chosen_by_alpn(server):
    assert alpn(server, "h2", "http/1.1") == "http/1.1"
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        alpn(server, "h2", "spdy/3")


def test_a_session_is_resumed(server):
    context = tls_help.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # Python keeps a 1.3 session only when told
    first = server.connect(tls=context)
    again = context.wrap_socket(
        socket.create_connection(("127.0.0.1", server.port)),
        server_hostname="localhost", session=first.sock.session)  # fmt: skip
    assert again.session_reused
    again.close()
    first.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server):
    base = f"https://localhost:{server.port}"
    command = ["curl", "-sS", "--fail", "--cacert", tls_help.certificate()[0]]
    done = subprocess.run([*command, base + "/healthz", base + "/healthz"], capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b"ok") == 2, done
    body = b"x" * 3_000_000
    done = subprocess.run(
        [*command[:2], *command[3:], "--data-binary", "@-", base + "/v1/vectors/index"],
        input=body, capture_output=True)  # fmt: skip
    assert b"invalid_json" in done.stdout, done


# ---- what is not TLS ----


def test_plain_text_is_told_so_and_never_answered(server):
    client = server.connect(tls=False)
    client.send(get() + get())
    answer_head = client.rest()
    assert answer_head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer_head.count(b"HTTP/1.1") == 1
    head, body = answer_head.split(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    assert b"this port speaks TLS" in body


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 1000,
        b"\x16\x03\x01" + b"\xff" * 4000,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" * 50,
        b"\x80\x2e\x01\x00\x02" + b"\0" * 60,
        bytes(range(256)) * 20,
        b"\x17\x03\x03\x00\x10" + b"a" * 16,
    ],
    ids=["zeros", "a_record_too_long", "empty_hellos", "sslv2", "all_bytes", "data_first"],
)
def test_garbage_is_ended(server, impatient, garbage):
    client = impatient.connect(tls=False)
    client.send(garbage)
    got = b""
    with contextlib.suppress(ConnectionResetError):
        got = client.rest()
    assert b"HTTP" not in got and len(got) <= 7  # an alert at most
    client = server.connect(tls=False)
    client.send(garbage)
    assert server.ask(get()).status == 200
    client.reset()


def test_garbage_behind_a_handshake_ends_the_connection(server):
    client = server.connect()
    client.send(get())
    assert client.answer().status == 200
    os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"a" * 32)  # past Python's TLS
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        client.fill()
    assert server.ask(get()).status == 200


def test_garbage_in_the_middle_of_a_body_ends_its_request(server):
    client = server.connect()
    client.send(post("/v1/vectors/index", b"", "Content-Length: 1000", length=False) + b"{")
    time.sleep(0.1)
    os.write(client.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"a" * 32)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        client.fill()
    wait_until(lambda: server.metric("lakehouse_http_body_bytes_in_flight") == 0)


# ---- slow and broken handshakes ----


class Memory:
    """A TLS client whose records the test carries, as it likes."""

    def __init__(self, server):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls_help.client_context().wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)

    def run(self, step, *arguments, send):
        while True:
            try:
                return step(*arguments)
            except ssl.SSLWantReadError:
                send(self.outgoing.read())
                piece = self.sock.recv(65536)
                assert piece, "closed"
                self.incoming.write(piece)


def test_records_may_be_cut_anywhere(start):
    memory = Memory(start())

    def bytewise(data):
        for byte in data:
            memory.sock.send(bytes([byte]))
            time.sleep(0.0002)

    memory.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    memory.run(memory.tls.do_handshake, send=bytewise)
    for part in (get()[:10], get()[10:] + get()):  # two records, one and a half requests each
        memory.tls.write(part.encode())
    bytewise(memory.outgoing.read())
    got = b""
    while got.count(b"\r\n\r\n") < 2:
        got += memory.run(memory.tls.read, 65536, send=bytewise)
    assert got.count(b"HTTP/1.1 200 OK") == 2
    memory.sock.close()


@pytest.mark.parametrize("sent", [0, 1, 5, 100])
def test_a_handshake_falls_under_the_header_deadline(impatient, sent):
    began = time.monotonic()
    memory = Memory(impatient)
    with pytest.raises(ssl.SSLWantReadError):
        memory.tls.do_handshake()
    memory.sock.sendall(memory.outgoing.read()[:sent])
    assert memory.sock.recv(1) == b""
    assert 0.8 < time.monotonic() - began < 9  # of the 10 seconds that are the default
    memory.sock.close()


def test_a_handshake_that_is_dripped_falls_under_it_too(impatient):
    began = time.monotonic()
    memory = Memory(impatient)
    with pytest.raises(ssl.SSLWantReadError):
        memory.tls.do_handshake()
    hello = memory.outgoing.read()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for byte in hello[:-1]:
            memory.sock.send(bytes([byte]))
            time.sleep(0.05)
    assert 0.8 < time.monotonic() - began < 9


def test_a_handshake_that_ends_early_is_closed(server):
    memory = Memory(server)
    with pytest.raises(ssl.SSLWantReadError):
        memory.tls.do_handshake()
    memory.sock.sendall(memory.outgoing.read())
    memory.sock.shutdown(socket.SHUT_WR)
    began = time.monotonic()
    while memory.sock.recv(65536):
        pass
    assert time.monotonic() - began < 9  # not at its deadline


def test_a_header_after_a_handshake_falls_under_the_same_deadline(start):
    client = start("server.header_timeout=5s").connect()
    client.send("GET / HT")
    assert client.answer().status == 408
    assert client.at_eof()


# ---- how it ends ----


def test_an_end_is_announced_both_ways(server):
    client = server.connect()
    client.send(get())
    assert client.answer().status == 200
    client.sock.settimeout(30)
    plain = client.sock.unwrap()  # sends close_notify and waits for the server's
    assert plain.recv(1) == b""
    plain.close()


def test_what_was_sent_before_a_close_notify_is_answered(server):
    memory = Memory(server)
    memory.run(memory.tls.do_handshake, send=memory.sock.sendall)
    memory.tls.write((get() + get("/v1/none")).encode())
    with pytest.raises(ssl.SSLWantReadError):
        memory.tls.unwrap()
    memory.sock.sendall(memory.outgoing.read())
    got = b""
    while True:
        piece = memory.sock.recv(65536)
        if not piece:
            break
        got += piece
    assert len(got) > 300  # two answers, in records that a closed session does not open any more
    memory.sock.close()


def test_idle_connections_are_closed_with_a_close_notify(start):
    server = start("server.idle_timeout=300ms")
    client = server.connect()
    client.send(get())
    assert client.answer().status == 200
    assert client.at_eof()  # which raises without one


def test_a_stop_says_so_to_idle_connections(start):
    server = start()
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.send(get())
        assert client.answer().status == 200
    server.stop()
    for client in clients:
        assert client.at_eof()


# ---- many ----


def test_two_hundred_connections_at_once(start):
    server = start()
    done = []

    def work(of):
        clients = [server.connect(timeout=60) for _ in range(20)]
        for turn in range(3):
            for client in clients:
                client.send(get() + get("/openapi.json"))
            for client in clients:
                assert client.answer().status == 200
                assert client.answer().json["openapi"] == "3.1.0"
        done.append(of)
        for client in clients:
            client.close()

    in_parallel(*(lambda of=of: work(of) for of in range(10)))
    assert len(done) == 10
    wait_until(lambda: server.metric("lakehouse_http_connections") == 1)


def test_a_connection_over_the_limit_is_told_so_over_tls(start):
    server = start("server.connections_max=2")
    held = [server.connect() for _ in range(2)]
    client = server.connect()
    answer = client.answer()
    assert answer.status == 503 and answer.closes
    assert client.at_eof()
    assert len(held) == 2


# ---- certificates and their files ----


def serial(server):
    client = server.connect(tls=ssl._create_unverified_context())
    return client, client.sock.getpeercert(binary_form=True)


def reload(server):
    """The event that says how it went."""
    before = len(server.events())
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: any(event["event"] == "reloaded" for event in server.events()[before:]))
    told = ("certificate loaded", "the old certificate stays")
    (event,) = [event for event in server.events()[before:] if event["event"] in told]
    return event


@pytest.fixture
def files(tmp_path):
    paths = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    for path, source in zip(paths, tls_help.certificate()):
        shutil.copy(source, path)
    return paths


def test_a_reload_serves_the_new_certificate_to_new_connections(files, monkeypatch):
    monkeypatch.setattr(tls_help, "certificate", lambda: files)
    with Server() as server:
        old, before = serial(server)
        for path, source in zip(files, tls_help.make_certificate("other", 10)):
            shutil.copy(source, path)
        event = reload(server)
        assert event["event"] == "certificate loaded" and event["not_after"].startswith("20")
        new, after = serial(server)
        assert after != before
        assert after == ssl.PEM_cert_to_DER_cert(open(files[0]).read())
        for client in (old, new):
            client.send(get())
            assert client.answer().status == 200


def break_mode(files):
    os.chmod(files[1], 0o640)


def break_key(files):
    with open(files[1], "w") as key:
        key.write("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")


def break_certificate(files):
    with open(files[0], "w") as certificate:
        certificate.write("nothing")


def remove_certificate(files):
    os.unlink(files[0])


def make_folder_of_key(files):
    os.unlink(files[1])
    os.mkdir(files[1])


def take_other_key(files):
    shutil.copy(tls_help.make_certificate("other", 10)[1], files[1])


def encrypt_key(files):
    subprocess.run(
        ["openssl", "ec", "-in", files[1], "-out", files[1] + ".e", "-aes128",
         "-passout", "pass:abcdef"], check=True, capture_output=True)  # fmt: skip
    os.replace(files[1] + ".e", files[1])
    os.chmod(files[1], 0o600)


BREAKS = {
    break_mode: ("server.tls_key", 1, "mode 0640"),
    break_key: ("server.tls_key", 1, "no private key"),
    break_certificate: ("server.tls_certificate", 0, "no certificate"),
    remove_certificate: ("server.tls_certificate", 0, "No such file"),
    make_folder_of_key: ("server.tls_key", 1, "not a file"),
    take_other_key: ("server.tls_key", 1, "does not fit the certificate"),
    encrypt_key: ("server.tls_key", 1, "is encrypted"),
}


@pytest.mark.parametrize("broken", BREAKS, ids=lambda step: step.__name__)
def test_a_reload_that_fails_keeps_the_old_certificate(files, broken, monkeypatch):
    monkeypatch.setattr(tls_help, "certificate", lambda: files)
    name, which, reason = BREAKS[broken]
    with Server() as server:
        old, before = serial(server)
        broken(files)
        event = reload(server)
        assert serial(server)[1] == before
        old.send(get())
        assert old.answer().status == 200
        assert event["event"] == "the old certificate stays" and event["level"] == "error"
        for part in (name, files[which], reason):
            assert part in event["error"], event


def try_start(*sets):
    command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused")]
    for setting in ("gateway.bind=127.0.0.1:0", "vectord.bind=127.0.0.1:0", *sets):
        command += ["--set", setting]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("broken", BREAKS, ids=lambda step: step.__name__)
def test_a_start_that_fails_names_key_file_and_reason(files, broken):
    name, which, reason = BREAKS[broken]
    broken(files)
    done = try_start("server.tls_certificate=" + files[0], "server.tls_key=" + files[1])
    assert done.returncode == 2
    for part in (name, files[which], reason):
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("one,other", [("tls_key", "tls_certificate"), ("tls_certificate", "tls_key")])
def test_certificate_and_key_need_one_another(one, other):
    done = try_start(f"server.{one}=/etc/hostname")
    assert done.returncode == 2 and f"server.{one} needs server.{other}" in done.stderr, done.stderr


def test_an_expired_certificate_is_worth_a_line():
    certificate, key = tls_help.expired_certificate()
    with Server("server.tls_certificate=" + certificate, "server.tls_key=" + key) as server:
        assert any(event["event"] == "the certificate has expired" for event in server.events())


def test_the_command_line_trusts_what_its_environment_names(server):
    command = [os.environ["LAKEHOUSE"], "health", "--url", f"https://localhost:{server.port}"]
    done = subprocess.run(command, env={**os.environ, **tls_help.trust()}, capture_output=True,
                          text=True, timeout=20)  # fmt: skip
    assert done.returncode == 0, done.stderr
    stranger = tls_help.trust(tls_help.certificate("stranger")[0])
    for env in (os.environ, {**os.environ, **stranger}):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 3 and "certificate" in done.stderr, done
