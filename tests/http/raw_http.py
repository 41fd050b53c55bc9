"""HTTP/1.1 by hand: requests as bytes, answers read strictly. An answer that is not exactly one
HTTP/1.1 message fails the test."""

import contextlib
import json
import re
import select
import socket
import ssl
import struct
import time

import tls_help


class Answer:
    """What either client got; the names of headers are in lower case, each at most once."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The one error shape, checked."""
        shape = self.json
        assert set(shape) == {"error"} and set(shape["error"]) == {"code", "message"}, shape
        assert shape["error"]["message"]
        return shape["error"]

    @property
    def code(self):
        return self.error["code"]

    @property
    def message(self):
        return self.error["message"]

    @property
    def closes(self):
        return self.headers.get("connection") == "close"

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


# What a reader sees of a connection that was cut: by a reset, or by an end that TLS did not announce.
CUT = (AssertionError, ConnectionResetError, ssl.SSLEOFError)


class RawClient:
    """A connection on which the test decides what is sent and when, from one thread at a time: TLS
    bears no more. `tls` is a context, or False for none; an end that is not announced by a
    close_notify raises."""

    def __init__(self, port, timeout=30, receive_bytes=None, tls=None):
        if tls is None and tls_help.IS_ON:  # the server's deadlines begin with the connection
            tls = tls_help.client_context()
        self.sock = socket.socket()
        self.sock.settimeout(timeout)
        if receive_bytes is not None:  # before the connection's window is agreed
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if tls:
            self.sock = tls.wrap_socket(
                self.sock, server_hostname="localhost", suppress_ragged_eofs=False
            )

    def send(self, raw):
        self.sock.sendall(raw.encode("latin-1") if isinstance(raw, str) else raw)

    def fill(self):
        piece = self.sock.recv(65536)
        self.buffer += piece
        return len(piece) > 0

    def answer(self, to_head=False, until_close=False):
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
        body = b""
        if code < 200 or code in (204, 304):
            assert "content-length" not in headers and "transfer-encoding" not in headers
        elif "transfer-encoding" in headers:
            assert headers["transfer-encoding"] == "chunked" and "content-length" not in headers
            body = b"" if to_head else b"".join(self.chunks())
            assert to_head or not self.trailers or "trailer" in headers
        elif "content-length" not in headers and until_close:
            body = b"" if to_head else self.rest()
        elif not to_head:
            body = self.take(int(headers["content-length"]))
        return Answer(code, headers, body)

    def line(self):
        while b"\r\n" not in self.buffer:
            assert self.fill(), "closed within a line: %r" % self.buffer
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def chunks(self):
        """The chunks up to the last one; what stands behind it goes into `trailers`."""
        self.trailers = {}
        while True:
            line = self.line()
            assert re.fullmatch(rb"[0-9a-f]+", line), line
            size = int(line, 16)
            if size == 0:
                while line := self.line():
                    name, value = re.fullmatch(rb"([A-Za-z0-9-]+): (.*)", line).groups()
                    self.trailers[name.decode().lower()] = value.decode()
                return
            yield self.take(size)
            assert self.take(2) == b"\r\n"

    def rest(self):
        """All up to the server's FIN; a reset raises."""
        pieces = [self.buffer]
        self.buffer = b""
        while pieces[-1] or len(pieces) == 1:
            pieces.append(self.sock.recv(1 << 20))
        return b"".join(pieces)

    def take(self, size):
        pieces = [self.buffer]
        missing = size - len(self.buffer)
        while missing > 0:
            pieces.append(self.sock.recv(1 << 20))
            assert pieces[-1], "closed within a body"
            missing -= len(pieces[-1])
        whole = b"".join(pieces)
        self.buffer = whole[size:]
        return whole[:size]

    def is_quiet(self, seconds):
        """Nothing comes for so long."""
        if self.buffer:
            return False
        until = time.monotonic() + seconds
        before = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            while select.select([self.sock], [], [], max(0, until - time.monotonic()))[0]:
                if not isinstance(self.sock, ssl.SSLSocket):
                    return False
                with contextlib.suppress(ssl.SSLWantReadError):  # a session ticket is no answer
                    return self.fill() and False
            return True
        finally:
            self.sock.settimeout(before)

    def at_eof(self, timeout=30):
        """The server sent its FIN, and nothing before it; a reset raises."""
        assert self.buffer == b"", self.buffer
        self.sock.settimeout(timeout)
        return self.sock.recv(1) == b""

    def exchange(self, raw):
        """Sends all of it, and keeps what comes meanwhile; ends once the other side has answered and
        takes no more."""
        is_not_now = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
        before = self.sock.gettimeout()
        self.sock.setblocking(False)
        sent = 0
        try:
            while sent < len(raw):
                assert any(select.select([self.sock], [self.sock], [], before)), "nothing moves"
                with contextlib.suppress(*is_not_now):
                    self.fill()
                with contextlib.suppress(*is_not_now):
                    sent += self.sock.send(raw[sent : sent + 65536])
        except (ConnectionError, ssl.SSLEOFError):
            if not self.buffer:
                raise
        finally:
            self.sock.settimeout(before)

    def finish(self):
        """Ends this side: a FIN, and no close_notify."""
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        """As of a client that was killed."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


# ---- requests ----


def get(path="/healthz", *lines, version="1.1"):
    host = [] if any(line.lower().startswith("host") for line in lines) else ["Host: test"]
    return "\r\n".join(["GET %s HTTP/%s" % (path, version), *host, *lines, "", ""])


def post(path, body=b"", *lines, length=True, media_type="application/json"):
    head = ["POST %s HTTP/1.1" % path, "Host: test", "Content-Type: " + media_type, *lines]
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    if length:
        head.append("Content-Length: %d" % len(body))
    return "\r\n".join(head + ["", ""]).encode("latin-1") + body


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(*chunks, trailers=b""):
    return b"".join(map(chunk, chunks)) + b"0\r\n" + trailers + b"\r\n"


def post_chunked(path, framed, *lines, **options):
    return post(path, b"", "Transfer-Encoding: chunked", *lines, length=False, **options) + framed
