"""Clients that go away while something long runs for them: it ends, also behind a gateway."""

import pytest

import tls_help
from lakehouse_server import Server, wait_until
from raw_http import post

ENDLESS = b"WITH RECURSIVE t AS (SELECT 1 a UNION ALL SELECT a + 1 FROM t) SELECT max(a) FROM t"
GO = {"close": lambda client: client.close(), "reset": lambda client: client.reset(),
      "half-close": lambda client: client.finish()}


@pytest.fixture(scope="module", params=["directly", "through a gateway"])
def servers(request):
    """Who is asked, and who runs it."""
    with Server("queryd.workers=1") as service:
        with service.client() as client:
            if client.post("/v1/sql", {"sql": "SELECT 1"}).status == 501:
                pytest.skip("built without DuckDB")
        if request.param == "directly":
            yield service, service
            return
        with Server(f"gateway.queryd_url={tls_help.url(service.port)}",
                    "queryd.bind=none") as gateway:
            yield gateway, service


@pytest.mark.parametrize("how", GO)
def test_a_query_of_a_client_that_goes_away_ends(servers, how):
    asked, service = servers
    client = asked.connect()
    client.send(post("/v1/sql", b'{"sql": "%s"}' % ENDLESS))
    wait_until(lambda: service.metric("lakehouse_sql_running") == 1)
    GO[how](client)
    wait_until(lambda: service.metric("lakehouse_sql_running") == 0, seconds=30)
    if how == "half-close":
        assert client.answer().code == "cancelled"
    with asked.client() as other:  # the only worker is free
        assert other.post("/v1/sql", {"sql": "SELECT 7"}).json["rows"] == [[7]]


def test_a_query_that_waits_for_a_client_that_goes_away_never_runs(servers):
    asked, service = servers
    first, second = asked.connect(), asked.connect()
    for client in (first, second):
        client.send(post("/v1/sql", b'{"sql": "%s"}' % ENDLESS))
    wait_until(lambda: service.metric("lakehouse_sql_waiting") == 1)
    second.close()
    wait_until(lambda: service.metric("lakehouse_sql_waiting") == 0, seconds=30)
    assert service.metric("lakehouse_sql_running") == 1
    first.close()
    wait_until(lambda: service.metric("lakehouse_sql_running") == 0, seconds=30)
