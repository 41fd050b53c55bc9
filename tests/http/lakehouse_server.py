"""A lakehoused of one's own on free ports, and clients for it: one that keeps its connection, and
raw sockets. LAKEHOUSED names the binary. Everything is the standard library's but pytest."""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import random
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest
import tls_help
from raw_http import Answer, RawClient


def seeded(name):
    """A random generator; LH_TEST_SEED replays a run."""
    seed = int(os.environ.get("LH_TEST_SEED", time.time_ns() & 0xFFFFFFFF))
    print(f"{name}: LH_TEST_SEED={seed}")
    return random.Random(seed)


def float32(value):
    """The nearest float32, as the server keeps it."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def floats(vector):
    """What the shortest decimals of an answer stand for."""
    return [float32(value) for value in vector]


def to_base64(vector):
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def free_port(given=set()):  # noqa: B006: shared by all calls
    """One that nobody has, and that the kernel gives to nobody who asks for any: it is still free
    when it is bound, or bound again, whatever runs beside the test. Never the same twice."""
    while True:
        port = random.randrange(10240, 32768)  # below net.ipv4.ip_local_port_range
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in given:
                given.add(port)
                return port


libc = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT = 1, 32


def mount(folder, options, flags=0):
    """A small file system in memory; the test is skipped where it may not be mounted."""
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, options.encode()) != 0:
        pytest.skip("no mount here: " + os.strerror(ctypes.get_errno()))


def unmount(folder):
    libc.umount2(str(folder).encode(), 2)  # MNT_DETACH: whoever uses it may go on


def in_parallel(*jobs):
    """Runs them on threads of their own; the first failure is raised."""
    failures = []

    def run(job):
        try:
            job()
        except BaseException as failure:  # noqa: BLE001: raised below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Client:
    """One keep-alive connection."""

    def __init__(self, port, timeout=60):
        if tls_help.IS_ON:
            self.connection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=timeout, context=tls_help.client_context()
            )
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.connection.close()

    @property
    def socket(self):
        return self.connection.sock

    def request(self, method, path, body=None, headers=None, chunked=False):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body, allow_nan=True).encode()
            headers.setdefault("Content-Type", "application/json")
        elif isinstance(body, str):
            body = body.encode()
        try:
            self.connection.request(method, path, body, headers, encode_chunked=chunked)
        except (BrokenPipeError, ConnectionResetError):
            if self.connection.sock is None:
                raise
            # It was answered before all of it was sent, and the server did not wait for the rest.
        response = self.connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.request("POST", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    # ---- vectors ----

    def create(self, name, dimension, **options):
        answer = self.post("/v1/vectors/index", {"name": name, "dimension": dimension, **options})
        assert answer.status == 201, answer
        return Index(self, name)

    def index(self, name):
        return Index(self, name)


class Index:
    """One index through one client."""

    def __init__(self, client, name):
        self.client = client
        self.name = name
        self.path = "/v1/vectors/index/" + name

    def info(self):
        answer = self.client.get(self.path)
        assert answer.status == 200, answer
        return answer.json

    def drop(self):
        return self.client.delete(self.path)

    def try_add(self, items):
        return self.client.post(self.path + "/add", {"items": items})

    def add(self, items):
        answer = self.try_add(items)
        assert answer.status == 200, answer
        return answer.json

    def add_lines(self, lines, **kw):
        return self.client.post(
            self.path + "/add", lines, headers={"Content-Type": "application/x-ndjson"}, **kw
        )

    def try_search(self, **body):
        return self.client.post(self.path + "/search", body)

    def search(self, vector, **options):
        answer = self.try_search(vector=vector, **options)
        assert answer.status == 200, answer
        return answer.json["results"]

    def item_path(self, item_id):
        return self.path + "/items/" + urllib.parse.quote(item_id, safe="")

    def get(self, item_id):
        return self.client.get(self.item_path(item_id))

    def delete(self, item_id):
        return self.client.delete(self.item_path(item_id))

    def delete_many(self, ids):
        answer = self.client.post(self.path + "/delete", {"ids": ids})
        assert answer.status == 200, answer
        return answer.json["deleted"]

    def page(self, **query):
        query = {key: value for key, value in query.items() if value is not None}
        answer = self.client.get(self.path + "/items?" + urllib.parse.urlencode(query))
        assert answer.status == 200, answer
        return answer.json

    def pages(self, **query):
        """All items, page by page."""
        cursor = None
        while True:
            page = self.page(cursor=cursor, **query)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return


SERVICES = ("gateway", "vectord", "storaged", "catalogd", "ingestd", "queryd")
WITHOUT_VECTORD = tuple(name for name in SERVICES if name != "vectord")


class Server:
    """Started by the constructor, ready when it returns; stop() in order, kill() otherwise.

    Its log goes to a file, so that a server that logs much never waits for a reader."""

    def __init__(self, *sets, prepare=None, env=None, config=None, binds=SERVICES):
        self.log = tempfile.TemporaryFile()
        command = [os.environ.get("LAKEHOUSED", "build/release/lakehoused")]
        if config is not None:
            command += ["--config", str(config)]
        if tls_help.IS_ON:
            certificate, key = tls_help.certificate()
            sets = ("server.tls_certificate=" + certificate, "server.tls_key=" + key, *sets)
            env = {**tls_help.trust(), **(env or {})}
        for setting in (*(f"{name}.bind=127.0.0.1:0" for name in binds), *sets):
            command += ["--set", setting]
        self.process = subprocess.Popen(
            command, stderr=self.log, preexec_fn=prepare, env=dict(os.environ, **(env or {}))
        )
        self.ports = self.wait_for_ports()
        self.port = self.ports.get("gateway")
        self.vectord_port = self.ports.get("vectord")

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        if kind is None:
            self.end()
        self.kill()
        self.log.close()

    def wait_for_ports(self):
        for _ in range(1200):
            events = self.events()
            if any(event["event"] == "started" for event in events):
                return {
                    event["service"]: int(event["bind"].rsplit(":", 1)[1])
                    for event in events
                    if event["event"] == "listening"
                }
            assert self.process.poll() is None, f"it ended: {self.log_text()}"
            time.sleep(0.025)
        raise AssertionError("not ready in time: " + self.log_text())

    def wait_for_catalog(self, seconds=60):
        """Until it has read what is in its store; there is none without DuckDB or a store."""
        def is_read():
            return client.get("/readyz").json.get("catalog", {"state": "read"})["state"] == "read"
        with Client(next(iter(self.ports.values()))) as client:
            wait_until(is_read, seconds)

    def log_text(self):
        return os.pread(self.log.fileno(), 1 << 24, 0).decode(errors="replace")

    def events(self):
        """The log's lines that are whole."""
        lines = self.log_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for_event(self, name):
        wait_until(lambda: any(event["event"] == name for event in self.events()))

    def client(self, **kw):
        return Client(self.port, **kw)

    def connect(self, service="gateway", **kw):
        return RawClient(self.ports[service], **kw)

    def ask(self, raw, service="gateway"):
        """Sends raw bytes on a new connection and returns the first answer."""
        client = self.connect(service)
        try:
            client.send(raw)
            return client.answer()
        finally:
            client.close()

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def processor_seconds(self):
        """What it has had of processors: it does not grow while the machine is busy with others."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_sanitized(self, runtimes=("libasan", "libtsan")):
        with open(f"/proc/{self.process.pid}/maps") as maps:
            return any(runtime in line for line in maps for runtime in runtimes)

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        with Client(self.port or self.vectord_port or self.ports["storaged"]) as client:
            for line in client.get("/metrics").body.decode().splitlines():
                if line.startswith(name) and line[len(name)] in "{ ":
                    if all(f'{key}="{value}"' in line for key, value in labels.items()):
                        total += float(line.rsplit(" ", 1)[1])
        return total

    def terminate(self):
        """SIGTERM, and no more."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout=30):
        return self.process.wait(timeout)

    def stop(self, timeout=120):
        """SIGTERM; a stop in order ends with 0."""
        self.terminate()
        code = self.wait(timeout)
        assert code == 0, f"exit {code}: {self.log_text()[-4000:]}"

    def end(self):
        """Stops it in order, unless it has ended."""
        if self.process.poll() is None:
            self.stop()

    def kill(self):
        self.process.kill()
        self.process.wait()


class SplitServer:
    """The vector service alone in one process, and a gateway before it in another. What is asked of
    the server is asked of the gateway, and its metrics of the service."""

    def __init__(self, *sets):
        self.vectord = Server("gateway.bind=none", *sets)
        self.vectord_port = self.vectord.vectord_port
        try:
            self.gateway = Server(
                f"gateway.vectord_url={tls_help.url(self.vectord_port)}", binds=WITHOUT_VECTORD
            )
        except BaseException:
            self.vectord.kill()
            raise

    def __getattr__(self, name):
        return getattr(self.gateway, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.gateway.__exit__(*exc)
        self.vectord.__exit__(*exc)

    def metric(self, name, **labels):
        return self.vectord.metric(name, **labels)

    def resident_bytes(self):
        return self.gateway.resident_bytes() + self.vectord.resident_bytes()

    def processor_seconds(self):
        return self.gateway.processor_seconds() + self.vectord.processor_seconds()
