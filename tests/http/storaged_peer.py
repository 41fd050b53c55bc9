"""A storaged peer for tests: an object store in memory, behind HTTP, with every fault that a real
one may have."""
import http.server
import json
import socket
import ssl
import threading
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", claimed=None):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        self.end_headers()
        self.wfile.write(body)
        if claimed is not None:
            self.close_connection = True

    def drop(self):
        """Ends the connection without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def key(self, verb):
        path = urllib.parse.urlsplit(self.path).path
        prefix = f"/v1/storage/{verb}/"
        assert path.startswith(prefix), path
        return urllib.parse.unquote(path[len(prefix):])

    def faulty(self):
        """True: a fault has answered."""
        peer = self.server.peer
        peer.calls.append((self.command, self.path))
        if peer.hangs:
            peer.released.wait(60)
            self.drop()
            return True
        if peer.status:
            self.answer(peer.status, b'{"error":{"code":"internal","message":"no"}}')
            return True
        return False

    def do_GET(self):
        peer = self.server.peer
        if self.faulty():
            return
        if self.path.startswith("/v1/storage/list?"):
            peer.times.append(time.monotonic())
            self.answer(200, peer.list(self.path))
            return
        body = peer.objects.get(self.key("get"))
        if body is None:
            self.answer(404, b'{"error":{"code":"key_not_found","message":"no"}}')
        elif peer.get == "truncates":
            self.answer(200, body[:len(body) // 2], claimed=len(body))
        elif peer.get == "short":
            self.answer(200, body[:len(body) // 2])
        elif peer.get == "garbage":
            self.answer(200, b"\x00not an index\xff" * 1000)
        elif peer.get == "flips":
            self.answer(200, body[:-2] + bytes([body[-2] ^ 1]) + body[-1:])
        elif peer.get == "drips":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for at in range(0, len(body) - 1, 512):
                self.wfile.write(body[at:min(at + 512, len(body) - 1)])
                time.sleep(0.02)
            peer.released.wait(60)
            self.wfile.write(body[-1:])
        else:
            self.answer(200, body)

    def do_PUT(self):
        peer = self.server.peer
        length = int(self.headers["Content-Length"])
        assert "Expect" not in self.headers and "Transfer-Encoding" not in self.headers
        if peer.put in ("truncates", "stalls"):
            self.rfile.read(length // 2)
            if peer.put == "stalls":
                peer.putting.set()
                peer.released.wait(60)
            self.drop()
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self.drop()
            return
        if self.faulty():
            return
        key = self.key("put")
        if peer.put == "garbage":
            self.answer(200, b"<html>welcome</html>")
        elif peer.put == "wrong size":
            self.answer(200, json.dumps({"key": key, "size": length - 1, "etag": "x"}).encode())
        else:
            peer.objects[key] = body
            peer.puts.append(key)
            self.answer(200, json.dumps({"key": key, "size": length, "etag": "x"}).encode())

    def do_DELETE(self):
        if self.faulty():
            return
        self.server.peer.objects.pop(self.key("delete"), None)
        self.answer(204)


class Peer:
    """`certificate`: the paths of one and of its key, for https."""

    def __init__(self, port=None, objects=None, certificate=None):
        self.objects = dict(objects or {})
        self.puts, self.calls, self.times = [], [], []  # times: of lists
        self.get = self.put = self.status = self.listing = None
        self.hangs = False
        self.page = 1000
        self.released, self.putting = threading.Event(), threading.Event()
        http.server.ThreadingHTTPServer.allow_reuse_address = True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port or 0), Handler)
        self.server.handle_error = lambda *args: None  # clients come and go
        self.server.peer = self
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False)
            self.url = f"https://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def list(self, path):
        if self.listing is not None:
            return self.listing
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))
        objects = dict(self.objects)  # as it is now: others change it
        keys = sorted(key for key in objects
                      if key.startswith(query["prefix"]) and key > query.get("cursor", ""))
        page = keys[:min(self.page, int(query["limit"]))]
        told = {"prefix": query["prefix"], "truncated": len(page) < len(keys),
                "objects": [{"Key": key, "Size": len(objects[key]), "ETag": "x",
                             "LastModified": "2026-11-21T07:58:56Z"} for key in page]}
        if told["truncated"]:
            told["next_cursor"] = page[-1]
        return json.dumps(told).encode()

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
