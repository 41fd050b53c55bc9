"""A crowd of idle and slow clients does not keep a normal one waiting."""
import resource
import statistics
import time

import pytest

from lakehouse_server import Server, wait_until

IDLE = 10000
SLOW = 1000
HEAD = "GET /healthz HTTP/1.1\r\nHost: t\r\n"


def raise_descriptor_limit(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("at most %d descriptors here, %d are needed" % (hard, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def median_seconds(*servers, count=200):
    """Of requests to each of them, taken in turns: what else the machine does, slows all of them."""
    times = [[] for _ in servers]
    clients = [server.connect() for server in servers]
    for _ in range(count):
        for client, mine in zip(clients, times):
            started = time.monotonic()
            client.send(HEAD + "\r\n")
            assert client.answer().status == 200
            mine.append(time.monotonic() - started)
    for client in clients:
        client.close()
    return [statistics.median(mine) for mine in times]


def test_ten_thousand_idle_and_a_thousand_slow_connections_leave_a_normal_client_alone():
    raise_descriptor_limit(IDLE + SLOW + 500)
    server = Server("server.connections_max=%d" % (IDLE + SLOW + 100), "server.header_timeout=1h")
    quiet = Server()
    crowd = []
    try:
        before = server.resident_bytes()
        for _ in range(IDLE):
            crowd.append(server.connect())
        assert server.resident_bytes() - before < IDLE * 4096, "an idle connection costs too much"
        slow = [server.connect() for _ in range(SLOW)]
        crowd += slow
        for byte in HEAD[:5]:
            for client in slow:
                client.send(byte)
        alone, beside = median_seconds(quiet, server)
        for client in slow[::100]:  # they are still served when they finish
            client.send(HEAD[5:] + "\r\n")
            assert client.answer().status == 200
        idle = crowd[0]
        idle.send(HEAD + "\r\n")
        assert idle.answer().status == 200
        # Generous, for a busy machine: the crowd costs nothing measurable when all is well.
        assert beside < 10 * alone + 0.005, (alone, beside)
    finally:
        for client in crowd:
            client.close()
        server.end()
        quiet.end()


def test_connections_beyond_the_descriptor_limit_wait_and_are_accepted_when_others_close():
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    with Server("vectord.shards=1", prepare=limit) as server:
        crowd = [server.connect() for _ in range(150)]
        for client in crowd:
            client.send(HEAD + "\r\n")
        wait_until(lambda: sum(not client.is_quiet(0) for client in crowd) >= 40)
        before = server.processor_seconds()
        time.sleep(1)
        assert server.processor_seconds() - before < 0.3, "it spins"
        served = [client for client in crowd if not client.is_quiet(0)]
        assert len(served) < 128
        while served:  # each close lets another one in, until all have been answered
            client = served.pop()
            assert client.answer().status == 200
            client.close()
            crowd.remove(client)
            if not served and crowd:
                wait_until(lambda: not crowd[0].is_quiet(0))
                served = [client for client in crowd if not client.is_quiet(0.05)]
        assert crowd == []
        assert "accept failed" not in server.log_text()
