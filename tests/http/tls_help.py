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


def certificate(name="localhost"):
    """Paths of a self-signed certificate for localhost and 127.0.0.1, and of its key."""
    return make_certificate(name, 30)


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


@functools.cache
def expired_certificate():
    """Made as of 2020 by openssl's own certificate authority: -days takes no past."""
    key = certificate()[1]
    request, out, config, index = (
        os.path.join(folder(), name) for name in ("request.pem", "old.pem", "ca.cnf", "index.txt")
    )
    with open(index, "w", encoding="utf-8"):
        pass
    with open(config, "w", encoding="utf-8") as file:
        file.write(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={index}\nnew_certs_dir={folder()}\n"
            "rand_serial=yes\ndefault_md=sha256\npolicy=p\nx509_extensions=e\n"
            "[p]\ncommonName=supplied\n[e]\nsubjectAltName=IP:127.0.0.1\n"
        )
    subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", "/CN=a", "-out", request],
                   check=True, capture_output=True)  # fmt: skip
    subprocess.run(
        ["openssl", "ca", "-batch", "-config", config, "-selfsign", "-keyfile", key, "-in",
         request, "-out", out, "-notext", "-startdate", "20200101000000Z", "-enddate",
         "20200201000000Z"], check=True, capture_output=True)  # fmt: skip
    return out, key


def client_context(name="localhost"):
    """Trusts that certificate alone."""
    return ssl.create_default_context(cafile=certificate(name)[0])


def server_context(files=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(files or certificate()))
    return context


def url(port):
    return f"http{'s' if IS_ON else ''}://127.0.0.1:{port}"


def trust(path=None):
    """The environment of a server that is to trust that certificate, or the tests' own, alone."""
    return {
        "SSL_CERT_FILE": path or certificate()[0],
        "SSL_CERT_DIR": os.path.join(folder(), "none"),
    }
