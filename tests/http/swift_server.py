"""An S3 server for the tests: OpenStack Swift with its s3api, all of it in one process.

    swift_server.py FOLDER PORT      serves on 127.0.0.1:PORT (0: any free port) until SIGTERM

Swift checks signatures as version 4 has them, keeps objects in files under FOLDER and is what S3
clients meet behind many an OpenStack cloud. Its account, container and object servers and its proxy
run here as green threads on ports of their own, with one device and one replica. Prints the port
once it answers. Needs Debian's python3-swift, which brings no daemon.
"""
import array
import os
import signal
import socket
import sys
from time import time as now

import eventlet
import eventlet.patcher

eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True, time=True)

from eventlet import wsgi  # noqa: E402
from swift.common import storage_policy, utils  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.ring import RingData  # noqa: E402
from swift.common.swob import Request  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

BUCKET = "lake"
REGION = "eu-test-1"
ACCESS_KEY = "test:tester"
SECRET_KEY = "secret/with+signs="
DOMAIN = "s3.localhost"  # <bucket>.s3.localhost is virtual-hosted style

SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = lakehoused
swift_hash_path_suffix = tests
[storage-policy:0]
name = one
default = yes
"""

BACKEND_CONF = """
[DEFAULT]
devices = {folder}/devices
mount_check = false
swift_dir = {folder}/etc
log_level = ERROR
fsync = off
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

PROXY_CONF = """
[DEFAULT]
swift_dir = {folder}/etc
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
storage_domain = {domain}
min_segment_size = 65536
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""

# Without authentication, for what is done from inside.
INSIDE_CONF = """
[DEFAULT]
swift_dir = {folder}/etc
log_level = ERROR
[pipeline:main]
pipeline = proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""

KINDS = ("account", "container", "object")


class Cache:
    """What Swift keeps in memcached, in this process."""

    def __init__(self):
        self.kept = {}

    def get(self, key, **_):
        value, expires = self.kept.get(key, (None, 0))
        return value if expires == 0 or now() < expires else None

    def set(self, key, value, time=0, **_):
        self.kept[key] = (value, now() + time if time > 0 else 0)

    def delete(self, key, **_):
        self.kept.pop(key, None)

    def wrap(self, app):
        def with_cache(environ, start_response):
            environ["swift.cache"] = self
            return app(environ, start_response)

        return with_cache


class Quiet:
    """A log that keeps nothing: what matters is what the client sees."""

    def write(self, *_):
        pass

    info = debug = warning = error = exception = write


def make_folder(folder, listeners):
    etc = os.path.join(folder, "etc")
    os.makedirs(etc, exist_ok=True)
    os.makedirs(os.path.join(folder, "devices", "disk"), exist_ok=True)
    write(os.path.join(etc, "swift.conf"), SWIFT_CONF)
    for kind in KINDS:
        port = listeners[kind].getsockname()[1]
        device = {"id": 0, "zone": 0, "region": 0, "weight": 1.0, "device": "disk",
                  "ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1",
                  "replication_port": port}
        parts = array.array("H", [0] * 4)
        RingData([parts], [device], 30).save(os.path.join(etc, f"{kind}.ring.gz"))
        write(os.path.join(etc, f"{kind}.conf"), BACKEND_CONF.format(folder=folder, kind=kind))
    write(os.path.join(etc, "proxy.conf"),
          PROXY_CONF.format(folder=folder, region=REGION, domain=DOMAIN, secret=SECRET_KEY))


    write(os.path.join(etc, "inside.conf"), INSIDE_CONF.format(folder=folder))


def make_bucket(folder):
    app = Cache().wrap(loadapp(os.path.join(folder, "etc", "inside.conf")))
    answer = Request.blank(f"/v1/AUTH_test/{BUCKET}", method="PUT").get_response(app)
    assert answer.is_success, answer.status


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def use(folder):
    """Points what Swift keeps per process at the folder instead of /etc/swift."""
    utils.SWIFT_CONF_FILE = storage_policy.SWIFT_CONF_FILE = os.path.join(folder, "etc",
                                                                          "swift.conf")
    utils.HASH_PATH_PREFIX = b"lakehoused"
    utils.HASH_PATH_SUFFIX = b"tests"
    storage_policy.reload_storage_policies()


def main():
    folder, port = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    listeners = {kind: eventlet.listen(("127.0.0.1", 0), backlog=1024) for kind in KINDS}
    listeners["proxy"] = eventlet.listen(("127.0.0.1", port), backlog=1024, reuse_addr=True)
    make_folder(folder, listeners)
    use(folder)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for kind, listener in listeners.items():
        app = loadapp(os.path.join(folder, "etc", f"{kind}.conf"))
        if kind == "proxy":
            app = Cache().wrap(app)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        eventlet.spawn(wsgi.server, listener, app, log=Quiet(), protocol=SwiftHttpProtocol,
                       custom_pool=eventlet.GreenPool(1024), log_output=False)
    make_bucket(folder)
    print(listeners["proxy"].getsockname()[1], flush=True)
    eventlet.hubs.get_hub().switch()


if __name__ == "__main__":
    main()
