"""slowhttptest's four attacks: others are served meanwhile, and the attackers are gone after their
deadlines."""

import shutil
import subprocess
import time

import pytest

import tls_help
from lakehouse_server import wait_until
from raw_http import get

CONNECTIONS = 200

ATTACKS = {
    "headers": ["-H", "-i", "1"],
    "body": ["-B", "-i", "1", "-s", "100000", "-t", "POST", "-f", "application/json"],
    "range": ["-R"],
    "read": ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "3"],
}


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_slow_attack_keeps_nobody_waiting(start, attack):
    server = start("server.header_timeout=2s", "server.write_timeout=2s", "server.idle_timeout=2s")
    path = {"body": "/v1/vectors/index", "read": "/openapi.json"}.get(attack, "/healthz")
    scheme = "https" if tls_help.IS_ON else "http"
    tool = subprocess.Popen(
        ["slowhttptest", *ATTACKS[attack], "-c", str(CONNECTIONS), "-r", "200", "-l", "5",
         "-p", "2", "-u", f"{scheme}://127.0.0.1:{server.port}{path}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    slowest = 0
    most = 0
    while tool.poll() is None:
        since = time.monotonic()
        assert server.ask(get("/healthz")).status == 200
        slowest = max(slowest, time.monotonic() - since)
        most = max(most, server.metric("lakehouse_http_connections"))
        time.sleep(0.05)
    output = tool.communicate()[0]
    assert slowest < 1
    assert most > CONNECTIONS / 4 or attack == "range", output  # it did attack
    assert "service available:" in output and "NO" not in output, output
    wait_until(lambda: server.metric("lakehouse_http_connections") <= 2, seconds=20)
