"""SQL over HTTP: answers in every format, errors with their place, limits, cancelling."""

import json
import socket
import threading
import time

import pytest

from lakehouse_server import Server, wait_until

ENDLESS = "WITH RECURSIVE t AS (SELECT 1 a UNION ALL SELECT a + 1 FROM t) SELECT max(a) FROM t"


@pytest.fixture(scope="module")
def server():
    with Server("queryd.workers=2") as server:
        with server.client() as client:
            if ask(client, "SELECT 1").status == 501:
                pytest.skip("built without DuckDB")
        yield server


def ask(client, sql, headers=None, **fields):
    return client.post("/v1/sql", {"sql": sql, **fields}, headers=headers or {})


def test_an_answer(server):
    with server.client() as client:
        answer = ask(client, "SELECT $1 + 1 AS n, $2 AS t, NULL AS nothing", params=[41, "x"])
        assert answer.status == 200
        body = answer.json
        assert body["columns"] == [{"name": "n", "type": "BIGINT"},
                                   {"name": "t", "type": "VARCHAR"},
                                   {"name": "nothing", "type": "INTEGER"}]
        assert body["rows"] == [[42, "x", None]]
        assert (body["row_count"], body["truncated"]) == (1, False)
        assert body["statistics"]["rows"] == 1 and body["elapsed_ms"] > 0


def test_other_formats(server):
    with server.client() as client:
        sql = "SELECT i, i::VARCHAR s FROM range(3) t(i)"
        answer = ask(client, sql, {"Accept": "application/x-ndjson"})
        rows = [json.loads(line) for line in answer.body.splitlines()]
        assert rows == [{"i": i, "s": str(i)} for i in range(3)]
        answer = ask(client, sql, {"Accept": "text/html, text/csv;q=0.5"})
        assert answer.body == b"i,s\r\n0,0\r\n1,1\r\n2,2\r\n"
        assert ask(client, sql, {"Accept": "image/png"}).code == "not_acceptable"


def test_by_get(server):
    with server.client() as client:
        answer = client.get("/v1/sql?q=SELECT%207%20AS%20seven")
        assert answer.json["rows"] == [[7]]
        assert client.get("/v1/sql").code == "invalid_argument"


def test_many_rows_come_in_order(server):
    with server.client() as client:
        answer = ask(client, "SELECT i FROM range(500000) t(i)",
                     {"Accept": "application/x-ndjson"})
        rows = [json.loads(line)["i"] for line in answer.body.splitlines()]
        assert rows == list(range(500000))
        answer = ask(client, "SELECT i FROM range(300000) t(i)")
        assert answer.json["row_count"] == len(answer.json["rows"]) == 300000


def test_errors_name_the_place(server):
    with server.client() as client:
        for sql, code, place in [
            ("SELEC 1", "invalid_sql", "byte 0"),
            ("SELECT nosuch", "invalid_sql", "byte 7"),
            ("SELECT * FROM nobody", "dataset_not_found", "byte 14"),
            ("SELECT * FROM read_text('/etc/passwd')", "sql_not_allowed", "byte 14"),
            ("SELECT 1; SELECT 2", "sql_not_allowed", ""),
            ("SELECT 1 / (i - 70000)::VARCHAR::DATE::INT FROM range(100000) t(i)", "invalid_sql", ""),
        ]:
            answer = ask(client, sql)
            assert answer.status in (400, 404) and answer.code == code, (sql, answer)
            assert place in answer.message, answer
        for body in [[], {"sql": 1}, {"sql": "SELECT 1", "nosuch": 1},
                     {"sql": "SELECT 1", "params": 1}, {"sql": "SELECT $1"},
                     {"sql": "SELECT 1", "max_rows": -1}, {}]:
            assert client.post("/v1/sql", body).status == 400, body
        assert ask(client, "SELECT 1").status == 200


def test_limits(server):
    with server.client() as client:
        answer = ask(client, "SELECT i FROM range(100000) t(i)", max_rows=3)
        assert answer.json["rows"] == [[0], [1], [2]] and answer.json["truncated"]
        answer = ask(client, "SELECT i FROM range(100000) t(i)", max_bytes=2000)
        assert answer.json["truncated"] and len(answer.body) < 3000
        started = time.monotonic()
        answer = ask(client, ENDLESS, timeout_ms=300)
        assert answer.code == "deadline_exceeded"
        assert time.monotonic() - started < 20  # of 0.3; queryd.timeout is a minute


def test_cancel(server):
    answers = []
    wait_until(lambda: server.metric("lakehouse_sql_running") == 0)  # what others have ended

    def run():
        with server.client(timeout=60) as client:
            answers.append(ask(client, ENDLESS, {"X-Query-Id": "to-cancel"}))

    with server.client() as client:
        assert client.delete("/v1/sql/to-cancel").code == "query_not_found"
        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: server.metric("lakehouse_sql_running") == 1)
        assert ask(client, "SELECT 1", {"X-Query-Id": "to-cancel"}).status == 400
        assert client.delete("/v1/sql/to-cancel").status == 204
        thread.join()
        assert (answers[0].status, answers[0].code) == (409, "cancelled")
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0)


def test_clients_that_go_away_or_do_not_read_hold_nothing_up(server):
    body = json.dumps({"sql": "SELECT i, repeat_me FROM range(1000000000) t(i), "
                              "(SELECT 'xxxxxxxxxxxxxxxxxxxxxxxx' repeat_me)"})
    request = (f"POST /v1/sql HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    lazy = []
    for _ in range(2):
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.sendall(request.encode())
        lazy.append(sock)
    wait_until(lambda: server.metric("lakehouse_sql_running") == 2)
    with server.client(timeout=60) as client:
        waits = threading.Thread(target=lambda: ask(client, "SELECT 1"))
        waits.start()
        before = server.metric("process_resident_memory_bytes")
        time.sleep(0.5)
        assert server.metric("process_resident_memory_bytes") < before + (64 << 20)
        for sock in lazy:
            sock.close()
        waits.join(timeout=30)
        assert not waits.is_alive()
        wait_until(lambda: server.metric("lakehouse_sql_running") == 0)


def test_a_crowd(server):
    wrong = []

    def run(number):
        with server.client(timeout=60) as client:
            for i in range(20):
                answer = ask(client, "SELECT sum(i) + $1 FROM range(1000) t(i)", params=[number])
                if answer.status != 503 and answer.json["rows"] != [[499500 + number]]:
                    wrong.append(answer)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_stop_ends_queries():
    server = Server("server.drain_timeout=200ms")
    with server.client(timeout=60) as client:
        if ask(client, "SELECT 1").status == 501:
            server.stop()
            pytest.skip("built without DuckDB")

        def run():
            try:
                ask(client, ENDLESS)
            except OSError:
                pass

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: server.metric("lakehouse_sql_running") == 1)
        server.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()
