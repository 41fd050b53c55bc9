"""What the HTTP benches share: data, a server of their own, wrk, the client."""

import array
import base64
import collections
import http.client
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
INDEX = "bench"
K = 10


def fail(text):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


# ---- data ----


class Rows:
    """An fbin file: its first rows are indexed, its last are queries."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.count, self.dimension = struct.unpack("<II", file.read(8))

    def read(self, first, count):
        rows = array.array("f")
        with open(self.path, "rb") as file:
            file.seek(8 + 4 * self.dimension * first)
            rows.fromfile(file, count * self.dimension)
        return rows

    def write_slice(self, path, first, count):
        with open(path, "wb") as file:
            file.write(struct.pack("<II", count, self.dimension))
            self.read(first, count).tofile(file)

    def queries(self, count):
        rows = self.read(self.count - count, count)
        return [rows[i * self.dimension : (i + 1) * self.dimension] for i in range(count)]


def vector_json(row, encoding):
    if encoding == "base64":
        return json.dumps(base64.b64encode(row.tobytes()).decode())
    return json.dumps([float(f"{x:.9g}") for x in row], separators=(",", ":"))


def search_body(row, encoding, ef):
    return f'{{"vector":{vector_json(row, encoding)},"k":{K},"ef":{ef}}}'


# ---- processes ----


def thread_seconds(pid):
    """Processor seconds by thread name."""
    tick = os.sysconf("SC_CLK_TCK")
    seconds = collections.Counter()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as file:
            name, rest = re.match(r"\d+ \((.*)\) (.*)", file.read()).groups()
        fields = rest.split()
        seconds[name] += (int(fields[11]) + int(fields[12])) / tick
    return seconds


class Server:
    """lakehoused on ports of the system's choice."""

    def __init__(self, build, shards, cores=None, settings=(), service="gateway"):
        command = [
            os.path.join(build, "lakehoused"),
            *(f"--set={name}.bind=127.0.0.1:0" for name in
              ("gateway", "vectord", "storaged", "catalogd", "ingestd", "queryd")),
            f"--set=vectord.shards={shards}",
            *(f"--set={setting}" for setting in settings),
        ]
        if cores is not None:
            command = ["taskset", "-c", cores] + command
        self.log = tempfile.TemporaryFile()  # its one offset is the server's, who writes there
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self.port = self._wait_for_port(service)  # of the service that is asked
        self.url = f"http://127.0.0.1:{self.port}"

    def _wait_for_port(self, service):
        for _ in range(2500):
            for line in self._log_text().split("\n")[:-1]:
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("event") == "listening" and event.get("service") == service:
                    return int(event["bind"].rsplit(":", 1)[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        fail(f"lakehoused does not listen:\n{self._log_text()}")

    def _log_text(self):
        return os.pread(self.log.fileno(), 1 << 24, 0).decode(errors="replace")

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 300:
            fail(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text else None

    def create(self, name, dimension, shards):
        self.call("POST", "/v1/vectors/index",
                  json.dumps({"name": name, "dimension": dimension, "shards": shards}))

    def pin(self, prefix, core, others):
        """Threads whose names begin so on a core of their own, all others on another."""
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/comm", encoding="utf-8") as file:
                is_apart = file.read().startswith(prefix)
            os.sched_setaffinity(int(task), {core if is_apart else others})

    def thread_seconds(self):
        return thread_seconds(self.process.pid)

    def metric(self, name):
        """A metric without labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))

    def wait_until_ready(self):
        """Over one connection: what asks takes its time from the same cores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
            time.sleep(0.002)
        connection.close()

    def wait_until_logged(self, event):
        """What is asked all the time takes its part of the cores: the log costs little."""
        seen = 0
        while True:
            lines = self._log_text().splitlines()
            if any(f'"event":"{event}"' in line for line in lines[seen:]):
                return
            seen = max(len(lines) - 1, 0)  # the last may not be whole
            time.sleep(0.001)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        if self.process.wait(timeout=60) != 0:
            fail(f"lakehoused ended with {self.process.returncode}")


def wrk(url, script, seconds, connections, env=None, cores=None):
    """One run of wrk; its report as a dictionary, with "rate"."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s",
               os.path.join(HERE, script), url]
    if cores is not None:
        command = ["taskset", "-c", cores] + command
    environment = dict(os.environ, LH_BENCH_HTTP=HERE, **(env or {}))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"^report (.*)$", done.stdout, re.M)
    if done.returncode != 0 or found is None:
        fail(f"wrk: {done.stdout}{done.stderr}")
    words = found.group(1).split()
    report = {name: float(value) for name, value in zip(words[::2], words[1::2])}
    report["rate"] = report["requests"] / report["seconds"]
    if report["failed"] != 0:
        print(f"  {report['failed']:.0f} requests failed")
    return report


def import_command(options, server, path, name, encoding, ids=None):
    command = [os.path.join(options.build, "lakehouse"), "import", path, "--url", server.url,
               "--index", name, "--format", "fbin", "--connections", str(options.connections),
               "--encoding", encoding]
    return command + (["--ids", ids] if ids else [])


def run_import(options, server, path, name, encoding, cores=None):
    """Seconds of a whole `lakehouse import`."""
    command = import_command(options, server, path, name, encoding)
    if cores is not None:
        command = ["taskset", "-c", cores] + command
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"lakehouse import: {done.stdout}{done.stderr}")
    return time.monotonic() - start


def in_process(options, rows, shards):
    """bench_inprocess's figures: adds_per_s, ef, recall, searches_per_s."""
    command = [os.path.join(options.build, "bench", "bench_inprocess"), "--data", options.data,
               "--rows", str(rows), "--only", str(shards)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    words = re.search(r"^shards .*$", done.stdout, re.M).group(0).split()
    return {name: float(value) for name, value in zip(words[::2], words[1::2])}


def print_threads(before, after, per, unit):
    parts = [f"{name} {(after[name] - before[name]) / per * 1e6:.1f}"
             for name in sorted(after) if after[name] - before[name] > 0.05]
    print(f"    processor microseconds {unit}: {', '.join(parts)}", flush=True)
