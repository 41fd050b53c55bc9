"""Certificates for the tests, made by openssl when they are first asked for. With LH_TEST_TLS set,
servers speak TLS and clients speak it to them, so that any test runs both ways."""

import atexit
import functools
import os
import shutil
import ssl
import subprocess
import tempfile

IS_ON = bool(os.environ.get("LH_TEST_TLS"))


@functools.cache
def folder():
    made = tempfile.mkdtemp(prefix="lakehouse-tls-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def certificate(name="localhost", days=30):
    """Paths of a self-signed certificate for localhost and 127.0.0.1, and of its key."""
    return make_certificate(name, days)


@functools.cache
def make_certificate(name, days):
    paths = [os.path.join(folder(), f"{name}{days}.{kind}") for kind in ("pem", "key")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-out", paths[0], "-keyout", paths[1], "-subj", "/CN=" + name,
         "-days", str(days), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True)  # fmt: skip
    os.chmod(paths[1], 0o600)
    return tuple(paths)


def client_context(name="localhost"):
    """Trusts that certificate alone."""
    return ssl.create_default_context(cafile=certificate(name)[0])
