"""The gateway before services that speak TLS: whom it trusts, and what it says of whom it does not.
What goes over such connections is tested by test_proxy.py, which runs over TLS, too."""

import os
import shutil
import signal
import socket
import ssl
import threading
import time

import pytest

import tls_help
from lakehouse_server import Server, wait_until
from raw_http import CUT, get
from raw_upstream import Connection, always

INDEX = "/v1/vectors/index/a"


class Service:
    """Speaks TLS by `context`, or nothing at all with None; behave(connection) for each."""

    def __init__(self, behave, context, host="127.0.0.1", scheme="https"):
        self.listener = socket.create_server((host, 0))
        self.url = f"{scheme}://{host}:{self.listener.getsockname()[1]}"
        self.behave, self.context = behave, context
        self.failures = []  # of handshakes
        self.versions = []
        self.resumed = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(sock,), daemon=True).start()

    def run(self, sock):
        try:
            if self.context is not None:
                sock = self.context.wrap_socket(sock, server_side=True)
                self.versions.append(sock.version())
                self.resumed.append(sock.session_reused)
            self.behave(Connection(sock, 0))
        except OSError as failure:
            self.failures.append(failure)
        finally:
            sock.close()


@pytest.fixture
def gateway():
    """gateway(service, *sets, **environment): one that trusts the tests' own certificate alone."""
    started = []

    def make(service, *sets, **env):
        server = Server("gateway.vectord_url=" + service.url, "vectord.bind=none",
                        "gateway.proxy_connect_timeout=30s", *sets,
                        env={**tls_help.trust(), **env})
        started.append((server, service))
        return server

    yield make
    for server, service in started:
        with server:
            pass
        service.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        service.listener.close()


def refusal(server):
    with server.client() as client:
        answer = client.get(INDEX)
    assert (answer.status, answer.code) == (502, "bad_gateway"), answer
    assert answer.message.startswith("vectord (")
    return answer.message


def test_one_connection_and_one_handshake_serve_many_requests(gateway):
    context = tls_help.server_context()
    service = Service(always(b"{}"), context)
    server = gateway(service, "gateway.proxy_probe_every=1h")
    with server.client() as client:
        for _ in range(50):
            assert client.get(INDEX).status == 200
    # The gateway asks for /readyz by itself, perhaps at the same time.
    assert server.metric("lakehouse_upstream_connects_total") <= 2
    assert set(service.versions) == {"TLSv1.3"}


def once(connection):
    """A behaviour: a request, an answer, the end."""
    if connection.request():
        connection.answer(b"{}", "Connection: close")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_next_connection_resumes_the_session_of_the_last(gateway, version):
    context = tls_help.server_context()
    context.minimum_version = context.maximum_version = version
    service = Service(once, context)
    server = gateway(service, "gateway.proxy_probe_every=1h")
    with server.client() as client:
        wait_until(lambda: client.get("/readyz").status == 200)  # asked once, on the first
        for _ in range(5):
            assert client.get(INDEX).status == 200
    assert len(service.resumed) >= 5
    assert not service.resumed[0] and all(service.resumed[1:])
    assert service.failures == []


def test_a_session_is_not_resumed_once_its_authority_is_trusted_no_more(gateway, tmp_path):
    trusted = tmp_path / "trusted.pem"
    shutil.copy(tls_help.certificate()[0], trusted)
    service = Service(once, tls_help.server_context())
    server = gateway(service, "gateway.proxy_probe_every=1h", SSL_CERT_FILE=str(trusted))
    with server.client() as client:
        wait_until(lambda: client.get("/readyz").status == 200)  # asked once
        for _ in range(3):
            assert client.get(INDEX).status == 200
        assert service.resumed[-1]
        shutil.copy(tls_help.certificate("stranger")[0], trusted)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: client.get(INDEX).status == 502)
        for _ in range(10):  # on no connection that was kept, either
            assert "its certificate is refused" in refusal(server)


def test_a_kept_connection_is_dropped_once_its_authority_is_trusted_no_more(gateway, tmp_path):
    trusted = tmp_path / "trusted.pem"
    shutil.copy(tls_help.certificate()[0], trusted)
    service = Service(always(b"{}"), tls_help.server_context())
    server = gateway(service, SSL_CERT_FILE=str(trusted))
    with server.client() as client:
        for _ in range(3):
            assert client.get(INDEX).status == 200
        shutil.copy(tls_help.certificate("stranger")[0], trusted)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: client.get(INDEX).status == 502)
        for _ in range(10):
            assert "its certificate is refused" in refusal(server)


def test_the_name_of_the_url_is_asked_for_and_checked(gateway):
    names = []
    context = tls_help.server_context()
    context.sni_callback = lambda sock, name, context: names.append(name)
    server = gateway(Service(always(b"{}"), context, host="localhost"))
    with server.client() as client:
        assert client.get(INDEX).status == 200
    assert set(names) == {"localhost"}


def test_a_certificate_of_nobody_trusted_is_refused(gateway, tmp_path):
    service = Service(always(b"secret"), tls_help.server_context(tls_help.certificate("stranger")))
    server = gateway(service)
    assert refusal(server).endswith("TLS: its certificate is refused: self-signed certificate")
    wait_until(lambda: service.failures)  # and it is told why
    assert "unknown ca" in str(service.failures[0])
    wait_until(lambda: [event for event in server.events()
                        if event["event"] == "service behind the gateway"
                        and "self-signed" in event["reason"]])
    with server.client() as client:
        assert client.get("/readyz").status == 503


def test_a_certificate_for_another_name_is_refused(gateway):
    service = Service(always(b"secret"), tls_help.server_context(), host="127.0.0.2")
    assert "its certificate is refused: IP address mismatch" in refusal(gateway(service))


def test_an_expired_certificate_is_refused(gateway):
    files = tls_help.expired_certificate()
    context = tls_help.server_context(files)
    server = gateway(Service(always(b"secret"), context), **tls_help.trust(files[0]))
    assert "its certificate is refused: certificate has expired" in refusal(server)


def test_a_version_before_tls_1_2_is_refused(gateway):
    context = tls_help.server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert "TLS: " in refusal(gateway(Service(always(b"secret"), context)))


def test_a_service_that_speaks_plain_text_is_told_so(gateway):
    def answer(connection):
        connection.fill()
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    service = Service(answer, None)
    assert "plain text" in refusal(gateway(service))


def test_plain_text_to_a_service_that_speaks_tls_ends_in_an_error(gateway):
    service = Service(always(b"secret"), tls_help.server_context(), scheme="http")
    refusal(gateway(service))


def test_a_handshake_has_a_deadline(gateway):
    service = Service(lambda connection: time.sleep(20), None)
    server = gateway(service, "gateway.proxy_connect_timeout=300ms")
    started = time.monotonic()
    with server.client() as client:
        answer = client.get(INDEX)
    assert (answer.status, answer.code) == (504, "gateway_timeout"), answer
    assert "could not be connected to within 300 ms" in answer.message
    assert time.monotonic() - started < 15  # it would be cut after 20


def test_rfc8446_s6_1_an_answer_that_ends_with_the_connection_must_end_with_its_session(gateway):
    def cut(connection):
        while connection.request():
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
            os.close(connection.sock.detach())  # no close_notify

    server = gateway(Service(cut, tls_help.server_context()))
    client = server.connect()
    client.send(get(INDEX))
    with pytest.raises(CUT):
        client.answer()


def test_authorities_are_read_again_at_sighup(gateway, tmp_path):
    trusted = tmp_path / "trusted.pem"
    shutil.copy(tls_help.certificate()[0], trusted)
    service = Service(always(b"{}"), tls_help.server_context(tls_help.certificate("second")))
    server = gateway(service, SSL_CERT_FILE=str(trusted))
    assert "self-signed" in refusal(server)
    shutil.copy(tls_help.certificate("second")[0], trusted)
    server.process.send_signal(signal.SIGHUP)

    def is_there():
        with server.client() as client:
            return client.get(INDEX).status == 200

    wait_until(is_there)
