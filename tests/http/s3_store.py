"""S3 stores for tests: a real one, which is ended and started again, and a proxy with faults."""
import http.client
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from lakehouse_server import free_port

BUCKET = "lake"
REGION = "eu-test-1"
ACCESS_KEY = "test:tester"
SECRET_KEY = "secret/with+signs="


class Swift:
    """OpenStack Swift, see swift_server.py, with a folder and a port of its own."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lakehoused-s3-")
        self.port = free_port()  # it is started again on it
        self.start()

    def start(self):
        script = os.path.join(os.path.dirname(__file__), "swift_server.py")
        self.process = subprocess.Popen([sys.executable, script, self.folder.name, str(self.port)],
                                        stdout=subprocess.PIPE)
        assert int(self.process.stdout.readline()) == self.port

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def end(self):
        self.kill()
        self.folder.cleanup()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def files(self):
        """What it keeps: objects, parts, and the marks of uploads."""
        return sorted(os.path.join(at, name)
                      for at, _, names in os.walk(os.path.join(self.folder.name, "devices"))
                      for name in names if name.endswith(".data"))


def settings(endpoint, **changes):
    """What lakehoused is told of a store; NAME=None leaves a key out."""
    keys = {"endpoint": endpoint, "region": REGION, "bucket": BUCKET, "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY, **changes}
    return ["storaged.backend=s3",
            *(f"s3.{name}={value}" for name, value in keys.items() if value is not None)]


def error_xml(code, more=""):
    return (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
            f"<Message>made for a test</Message>{more}</Error>").encode()


class Fault:
    """What the proxy does to the next `times` requests whose "METHOD /path?query" has `pattern`.

    answer=(status, body, headers): instead of the store's; cut=N: the store's answer ends after N
    bytes of its body; lose: the store does it, and the answer is lost; late=SECONDS: the answer comes
    so long after the store did it, at `done_at`."""

    def __init__(self, pattern="", times=1, answer=None, cut=None, lose=False, late=0):
        self.pattern = re.compile(pattern)
        self.left = times
        self.answer = answer
        self.cut = cut
        self.lose = lose
        self.late = late
        self.done_at = None
        self.met = 0


class FaultProxy:
    """Stands before the store at `port`, and does to requests what `faults` say."""

    def __init__(self, port):
        self.store_port = port
        self.faults = []
        self.lock = threading.Lock()
        self.requests = []
        self.port = free_port()  # it goes and comes back
        self.come()

    def come(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Proxied)
        self.server.daemon_threads = True
        self.server.proxy = self
        self.is_here = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go(self):
        """As a store that is ended: kept connections break, new ones are refused."""
        self.is_here = False
        self.end()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def add(self, *args, **kw):
        fault = Fault(*args, **kw)
        self.faults.append(fault)
        return fault

    def fault_for(self, line):
        with self.lock:
            self.requests.append((time.monotonic(), line))
            for fault in self.faults:
                if fault.left > 0 and fault.pattern.search(line):
                    fault.left -= 1
                    fault.met += 1
                    return fault
        return None

    def end(self):
        self.server.shutdown()
        self.server.server_close()


class Proxied(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def relay(self):
        if not self.server.proxy.is_here:
            self.drop()
            return
        fault = self.server.proxy.fault_for(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault is not None and fault.answer is not None:
            status, body, headers = fault.answer
            self.begin(status, {"Content-Length": str(len(body)), **headers})
            self.wfile.write(body if self.command != "HEAD" else b"")
            return
        store = http.client.HTTPConnection("127.0.0.1", self.server.proxy.store_port, timeout=60)
        try:
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                store.putheader(name, value)
            store.endheaders(body)
            answer = store.getresponse()
            if fault is not None:
                fault.done_at = time.monotonic()
                time.sleep(fault.late)
            if fault is not None and fault.lose:
                answer.read()
                self.drop()
                return
            self.pass_on(answer, fault)
        finally:
            store.close()

    def begin(self, status, headers):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def pass_on(self, answer, fault):
        headers = dict(answer.getheaders())
        if "Content-Length" not in headers:
            headers["Connection"] = "close"
            self.close_connection = True
        headers.pop("Transfer-Encoding", None)
        self.begin(answer.status, headers)
        left = fault.cut if fault is not None else None
        while block := answer.read(65536 if left is None else min(left, 65536)):
            self.wfile.write(block)
            if left is not None:
                left -= len(block)
        if left is not None:
            self.drop()

    def drop(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay
