"""A relay in front of a port that a test can cut: what goes through it breaks off where it says."""
import socket
import threading


class Relay:
    """Passes connections on to `port`; after `limit` bytes upstream (None: never), or `down_limit`
    bytes downstream, of a connection, the `on_limit` of the test is called, once, and both of its
    sides are reset."""

    def __init__(self, port):
        self.target = port
        self.limit = None
        self.down_limit = None
        self.on_limit = lambda: None
        self.lock = threading.Lock()  # of the limits, which all connections share
        self.is_cut = False
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts: a mere close would not
        self.listener.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            try:
                if self.is_cut:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                reset(client)
                continue
            pair = (client, server)
            threading.Thread(target=self.pump, args=(*pair, "limit"), daemon=True).start()
            threading.Thread(target=self.pump, args=(*pair[::-1], "down_limit"),
                             daemon=True).start()

    def take_limit(self, limit, count):
        """The limit, if a connection that passes on so many bytes is the one that it cuts."""
        with self.lock:
            most = getattr(self, limit)
            if most is None or count <= most:
                return None
            setattr(self, limit, None)
            return most

    def pump(self, source, sink, limit):
        passed = 0
        try:
            while data := source.recv(1 << 16):
                most = self.take_limit(limit, passed + len(data))
                if most is not None:
                    sink.sendall(data[: max(0, most - passed)])
                    self.cuts += 1
                    self.on_limit()
                    break
                sink.sendall(data)
                passed += len(data)
        except OSError:
            pass
        reset(source)
        reset(sink)


def reset(sock):
    """Wakes who reads from it, and sends a RST to the other side."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
