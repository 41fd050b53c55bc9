"""A running lakehoused on free ports, and raw sockets to talk to it.

The binary is named by the variable LAKEHOUSED. Nothing here parses leniently: an answer that is
not exactly one HTTP/1.1 message fails the test.
"""
import json
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time

import pytest

BINARY = os.environ.get("LAKEHOUSED", "build/release/lakehoused")


class Server:
    """One process. Settings are --set overrides with '__' for the dot: server__idle_timeout."""

    def __init__(self, **settings):
        settings.setdefault("gateway__bind", "127.0.0.1:0")
        settings.setdefault("vectord__bind", "127.0.0.1:0")
        command = [BINARY]
        for key, value in settings.items():
            command += ["--set", "%s=%s" % (key.replace("__", "."), value)]
        self.log_file = tempfile.TemporaryFile()  # a pipe that nobody reads would block the server
        self.process = subprocess.Popen(command, stderr=self.log_file)
        self.log = b""
        self.ports = {}
        deadline = time.monotonic() + 30
        while not {"gateway", "vectord"} <= set(self.ports):
            assert time.monotonic() < deadline, "no ports announced: %r" % self.log
            self.read_log(0.01)
            assert self.process.poll() is None, "the server ended: %r" % self.log
        self.port = self.ports["gateway"]

    def read_log(self, timeout=0):
        time.sleep(timeout)
        self.log = os.pread(self.log_file.fileno(), 1 << 24, 0)
        for line in self.log.split(b"\n")[:-1]:
            event = json.loads(line) if line.startswith(b"{") else {}
            if event.get("event") == "listening":
                self.ports[event["service"]] = int(event["bind"].rsplit(":", 1)[1])

    def connect(self, service="gateway", timeout=10):
        sock = socket.create_connection(("127.0.0.1", self.ports[service]), timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Client(sock)

    def ask(self, raw, service="gateway"):
        """Sends raw bytes on a new connection and returns the first answer."""
        client = self.connect(service)
        try:
            client.send(raw)
            return client.answer()
        finally:
            client.close()

    def stop(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)

    def wait(self, timeout=30):
        code = self.process.wait(timeout)
        self.read_log()
        return code

    def end(self):
        if self.process.poll() is None:
            self.stop()
            try:
                assert self.wait() == 0, self.log
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
                raise


class Answer:
    def __init__(self, status, reason, headers, body):
        self.status = status
        self.reason = reason
        self.headers = headers  # lower-case names; each at most once
        self.body = body

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The one error shape, checked."""
        shape = self.json()
        assert set(shape) == {"error"} and set(shape["error"]) == {"code", "message"}, shape
        assert shape["error"]["message"]
        return shape["error"]["code"]

    @property
    def closes(self):
        return self.headers.get("connection") == "close"


class Client:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def send(self, raw):
        self.sock.sendall(raw.encode("latin-1") if isinstance(raw, str) else raw)

    def fill(self):
        piece = self.sock.recv(65536)
        self.buffer += piece
        return len(piece) > 0

    def answer(self, to_head=False):
        while b"\r\n\r\n" not in self.buffer:
            assert self.fill(), "closed before an answer: %r" % self.buffer
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.split(b"\r\n")
        status = re.fullmatch(rb"HTTP/1\.1 (\d{3}) ([A-Z][A-Za-z -]+)", lines[0])
        assert status, lines[0]
        headers = {}
        for line in lines[1:]:
            name, value = re.fullmatch(rb"([A-Za-z0-9-]+): (.*)", line).groups()
            name = name.decode().lower()
            assert name not in headers, name
            headers[name] = value.decode()
        code = int(status.group(1))
        if code >= 200:
            assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
                                headers["date"])
            assert re.fullmatch(r"[0-9a-f]{16}", headers["x-request-id"])
        size = 0
        if code < 200 or code in (204, 304):
            assert "content-length" not in headers
        elif not to_head:
            size = int(headers["content-length"])
        while len(self.buffer) < size:
            assert self.fill(), "closed within a body"
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Answer(code, status.group(2).decode(), headers, body)

    def is_quiet(self, seconds):
        """Nothing comes for so long."""
        if self.buffer:
            return False
        ready, _, _ = select.select([self.sock], [], [], seconds)
        return not ready

    def at_eof(self, timeout=10):
        """The server sent its FIN, and nothing before it; a reset raises."""
        assert self.buffer == b"", self.buffer
        self.sock.settimeout(timeout)
        return self.sock.recv(1) == b""

    def close(self):
        self.sock.close()


def get(path="/healthz", *lines, version="1.1"):
    host = [] if any(line.lower().startswith("host") for line in lines) else ["Host: test"]
    return "\r\n".join(["GET %s HTTP/%s" % (path, version), *host, *lines, "", ""])


def post(path, body=b"", *lines, length=True):
    head = ["POST %s HTTP/1.1" % path, "Host: test", "Content-Type: application/json", *lines]
    if length:
        head.append("Content-Length: %d" % len(body))
    return "\r\n".join(head + ["", ""]).encode("latin-1") + body


@pytest.fixture(scope="module")
def server():
    running = Server()
    yield running
    running.end()


@pytest.fixture
def start():
    """Starts servers with settings of the test's own, and ends them."""
    running = []

    def start_one(**settings):
        running.append(Server(**settings))
        return running[-1]

    yield start_one
    for one in running:
        one.end()
