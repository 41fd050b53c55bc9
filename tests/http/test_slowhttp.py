"""slowhttptest's four attacks on every port at once: others are served meanwhile, and the attackers
are gone after their deadlines."""

import shutil
import subprocess
import time

import pytest

import tls_help
from lakehouse_server import wait_until
from raw_http import get

CONNECTIONS = 100  # to each port

# Where each service takes a body.
BODIES = {
    "gateway": ("POST", "/v1/vectors/index"),
    "vectord": ("POST", "/vectors/index"),
    "storaged": ("PUT", "/storage/put/a"),
    "catalogd": ("POST", "/catalog/register"),
    "ingestd": ("POST", "/ingest?name=a"),
    "queryd": ("POST", "/sql"),
}

ATTACKS = {
    "headers": ["-H", "-i", "1"],
    "body": ["-B", "-i", "1", "-s", "100000", "-f", "application/json"],
    "range": ["-R"],
    "read": ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "3"],
}


def start_tool(attack, service, port):
    method, path = BODIES[service]
    if attack == "body":
        options = ["-t", method]
    else:
        options, path = [], {"read": "/openapi.json"}.get(attack, "/healthz")
    scheme = "https" if tls_help.IS_ON else "http"
    return subprocess.Popen(
        ["slowhttptest", *ATTACKS[attack], *options, "-c", str(CONNECTIONS), "-r", "200",
         "-l", "5", "-p", "2", "-u", f"{scheme}://127.0.0.1:{port}{path}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_slow_attack_keeps_nobody_waiting(start, attack):
    server = start("server.header_timeout=2s", "server.write_timeout=2s", "server.idle_timeout=2s")
    tools = [start_tool(attack, service, port) for service, port in server.ports.items()]
    waits = []
    most = 0
    while any(tool.poll() is None for tool in tools):
        for service in server.ports:
            since = time.monotonic()
            assert server.ask(get("/healthz"), service).status == 200
            waits.append(time.monotonic() - since)
        most = max(most, server.metric("lakehouse_http_connections"))
        time.sleep(0.05)
    for tool in tools:
        output = tool.communicate()[0]
        assert "service available:" in output and "NO" not in output, output
    assert sorted(waits)[-3] < 1, "and not because the machine stood still"
    # They did attack.
    assert most > len(tools) * CONNECTIONS / 4 or attack == "range"
    wait_until(lambda: server.metric("lakehouse_http_connections") <= 2, seconds=60)
