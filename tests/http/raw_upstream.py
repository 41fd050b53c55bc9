"""A service behind the gateway by hand: it reads requests as bytes and answers what a test says.

The gateway asks for /readyz by itself; such requests are answered here and seen by no test. A test
that counts connections, or needs one to be free, has it ask once (`answers_probe`)."""

import contextlib
import socket
import ssl
import struct
import threading

import tls_help


class Request:
    def __init__(self, head, body, framing):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.method, self.target, self.version = lines[0].split(" ")
        self.fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
        self.body = body
        self.framing = framing  # "length", "chunked" or None

    def all(self, name):
        return [value for have, value in self.fields if have.lower() == name]

    def one(self, name):
        values = self.all(name)
        assert len(values) == 1, (name, self.fields)
        return values[0]


class Connection:
    """One connection of the gateway's."""

    def __init__(self, sock, number):
        self.sock = sock
        self.number = number  # from 0
        self.buffer = b""

    def fill(self):
        piece = self.sock.recv(65536)
        self.buffer += piece
        return len(piece) > 0

    def until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                return None
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def take(self, size):
        pieces = [self.buffer[:size]]
        self.buffer = self.buffer[size:]
        missing = size - len(pieces[0])
        while missing > 0:
            pieces.append(self.sock.recv(min(missing, 1 << 20)))
            if not pieces[-1]:
                return None
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def head(self):
        """The next request without its body; None at the end."""
        while True:
            head = self.until(b"\r\n\r\n")
            if head is None:
                return None
            request = Request(head, b"", None)
            if not request.target.endswith("/readyz"):
                return request
            self.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def body_of(self, request):
        """Reads it into the request; None when it breaks off."""
        if request.all("content-length"):
            request.framing = "length"
            request.body = self.take(int(request.one("content-length")))
        elif request.all("transfer-encoding"):
            assert request.one("transfer-encoding") == "chunked"
            request.framing = "chunked"
            pieces = []
            while True:
                line = self.until(b"\r\n")
                if line is None:
                    return None
                piece = self.take(int(line, 16) + 2)
                if piece is None:
                    return None
                if len(piece) == 2:
                    break
                pieces.append(piece[:-2])
            request.body = b"".join(pieces)
        return None if request.body is None else request

    def request(self):
        request = self.head()
        return request and self.body_of(request)

    def send(self, raw):
        self.sock.sendall(raw)

    def answer(self, body=b"{}", *lines, status="200 OK"):
        head = ["HTTP/1.1 " + status, "Content-Length: %d" % len(body), *lines, "", ""]
        self.send("\r\n".join(head).encode("latin-1") + body)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.settimeout(0)  # says that nothing follows, waits for no answer
                self.sock.unwrap()
        self.sock.close()


class Upstream:
    """Runs behave(connection) for each connection, on a thread of its own; then closes it. With
    `answers_probe` the first ones are no test's, until stop_probing(): they bring the question for
    readiness, which is answered."""

    def __init__(self, behave, answers_probe=False):
        self.behave = behave
        self.is_probed = not answers_probe
        self.probes = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.url = tls_help.url(self.port)
        self.connections = 0
        self.failures = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self.is_probed:
                behave, number = self.answer_probe, None
            else:
                behave, number = self.behave, self.connections
                self.connections += 1
            connection = Connection(sock, number)
            if number is None:
                self.probes.append(connection)
            arguments = (behave, connection)
            threading.Thread(target=self.run, args=arguments, daemon=True).start()

    def run(self, behave, connection):
        try:
            if tls_help.IS_ON:
                connection.sock = tls_help.server_context().wrap_socket(
                    connection.sock, server_side=True)
            behave(connection)
        except (OSError, ValueError):
            pass  # the gateway has gone
        except BaseException as failure:  # noqa: BLE001: told by close()
            self.failures.append(failure)
        finally:
            connection.close()

    def answer_probe(self, connection):
        head = not self.is_probed and connection.until(b"\r\n\r\n")
        if not head:
            return  # given up, and asked again on another one
        assert Request(head, b"", None).target.endswith("/readyz")
        connection.answer(b"", "Connection: close")

    def stop_probing(self):
        """The next connections are the test's."""
        self.is_probed = True
        for connection in self.probes:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def stop_listening(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts: a mere close would not
        self.listener.close()

    def close(self):
        with contextlib.suppress(OSError):  # it listens no more
            self.stop_listening()
        if self.failures:
            raise self.failures[0]


def always(*answer, **options):
    """A behaviour: every request gets this answer."""

    def behave(connection):
        while connection.request():
            connection.answer(*answer, **options)

    return behave
