"""A crowd of idle and slow clients does not keep a normal one waiting."""
import os
import resource
import statistics
import time

import pytest

from lakehouse_server import Server

IDLE = 10000
SLOW = 1000
HEAD = "GET /healthz HTTP/1.1\r\nHost: t\r\n"


def raise_descriptor_limit(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("at most %d descriptors here, %d are needed" % (hard, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def median_seconds(server, count=200):
    times = []
    client = server.connect()
    for _ in range(count):
        started = time.monotonic()
        client.send(HEAD + "\r\n")
        assert client.answer().status == 200
        times.append(time.monotonic() - started)
    client.close()
    return statistics.median(times)


def test_ten_thousand_idle_and_a_thousand_slow_connections_leave_a_normal_client_alone():
    raise_descriptor_limit(IDLE + SLOW + 500)
    server = Server("server.connections_max=%d" % (IDLE + SLOW + 100))
    crowd = []
    try:
        alone = median_seconds(server)
        before = server.resident_bytes()
        for _ in range(IDLE):
            crowd.append(server.connect(timeout=30))
        assert server.resident_bytes() - before < IDLE * 4096, "an idle connection costs too much"
        slow = [server.connect(timeout=30) for _ in range(SLOW)]
        crowd += slow
        for byte in HEAD[:5]:
            for client in slow:
                client.send(byte)
        beside = median_seconds(server)
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


def processor_seconds(server):
    with open("/proc/%d/stat" % server.process.pid) as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_connections_beyond_the_descriptor_limit_wait_and_are_accepted_when_others_close():
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    with Server("vectord.shards=1", prepare=limit) as server:
        crowd = [server.connect() for _ in range(150)]
        for client in crowd:
            client.send(HEAD + "\r\n")
        served = [client for client in crowd if not client.is_quiet(0.01)]
        assert 40 <= len(served) < 128
        before = processor_seconds(server)
        time.sleep(1)
        assert processor_seconds(server) - before < 0.3, "it spins"
        while served:  # each close lets another one in, until all have been answered
            client = served.pop()
            assert client.answer().status == 200
            client.close()
            crowd.remove(client)
            if not served and crowd:
                assert not crowd[0].is_quiet(5)
                served = [client for client in crowd if not client.is_quiet(0.05)]
        assert crowd == []
        assert "accept failed" not in server.log_text()
