"""Configuration files as users have them: that of the separate daemons runs as it is, and a mistake
is told with its place, its key and the reason."""

import os
import pathlib
import socket
import subprocess
import tomllib

import pytest

from lakehouse_server import SERVICES, Client, Server, free_port, wait_until

GO_FILE = pathlib.Path(__file__).with_name("go_daemons.toml")

# The services of this version, each on its port.
HERE = ("gateway", "vectord")


def run(*arguments, cwd=None):
    done = subprocess.run([os.environ["LAKEHOUSED"], *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def has_duckdb():
    """Services that need it do not start without it."""
    with Server() as server, server.client() as client:
        return client.get("/v1/sql?q=SELECT+1").status != 501


# ---- the file of the separate daemons ----


def daemons_file(folder):
    """Its text, with secrets that are there."""
    secrets = folder / "secrets.toml"
    secrets.write_text("")
    secrets.chmod(0o600)
    return GO_FILE.read_text().replace("/etc/lakehouse/secrets.toml", str(secrets))


def test_the_daemons_file_is_taken_as_it_is(tmp_path):
    config = tmp_path / "lakehouse.toml"
    config.write_text(daemons_file(tmp_path))
    code, out, said = run("--config", config, "--check")
    assert code == 0, said
    effective = tomllib.loads(out)
    for section, keys in tomllib.loads(config.read_text()).items():
        for key, value in keys.items():
            if key == "secret_access_key":
                assert "very secret" not in out and "*" in effective[section][key]
            elif key == "max_ingest_bytes":
                assert effective[section][key] == "256MiB"
            else:
                assert effective[section][key] == value, (section, key)


def test_the_daemons_file_starts_all_of_them_in_one(tmp_path, monkeypatch):
    text = daemons_file(tmp_path)
    wanted = {}
    services = ("gateway", "storaged", "catalogd", "ingestd", "queryd", "vectord")
    for (name, old), new in zip(zip(services, (3110, 3211, 3212, 3213, 3214, 3215)), (free_port() for _ in range(6))):
        text = text.replace(f":{old}\"", f":{new}\"")
        wanted[name] = new
    config = tmp_path / "lakehouse.toml"
    config.write_text(text)
    monkeypatch.chdir(tmp_path)
    with Server(config=config, binds=()) as server:
        assert set(HERE) <= set(server.ports)
        for name, port in server.ports.items():
            assert port == wanted[name]
            with Client(port) as client:
                assert client.get("/healthz").status == 200, name
        with server.client() as client:
            body = {"name": "words", "dimension": 2}
            wait_until(lambda: client.post("/v1/vectors/index", body).status == 201)
            assert "services" not in client.get("/readyz").json, "none is in another process"


def test_every_key_of_the_table_is_documented():
    code, out, _ = run("--check")
    assert code == 0
    before = ""
    for line in out.splitlines():
        is_key = " = " in line and line.lstrip("# ").split(" = ")[0].replace("_", "").isalnum()
        if is_key:
            assert before.startswith("# "), line
        before = line


# ---- mistakes ----


@pytest.mark.parametrize("text,said", [
    ("[gateway]\nbnd = \":1\"\n", ":2: gateway.bnd: unknown key; did you mean gateway.bind?"),
    ("[vectord]\nshards = \"4\"\n",
     ":2: vectord.shards: \"4\" is a string: a whole number stands without quotes"),
    ("[vectord]\n\nshards = 1000\n", ":3: vectord.shards: 1000 is more than 256"),
    ("[gateway]\nbind = 3110\n", ":2: gateway.bind: 3110 is not a string in quotes"),
    ("[gateway]\nbind = \"localhost\"\n", ":2: gateway.bind: \"localhost\" is not host:port"),
    ("[gateway]\nvectord_url = \"127.0.0.1:3215\"\n",
     ":2: gateway.vectord_url: \"127.0.0.1:3215\" does not begin with http:// or https://"),
    ("[gateway]\nproxy_timeout = \"soon\"\n", ":2: gateway.proxy_timeout: \"soon\" is not a "
     "duration such as 500ms, 30s, 2m or 1h"),
    ("[vectord]\nbind = \"127.0.0.1:3110\"\n",
     ":2: gateway.bind and vectord.bind are both port 3110"),
    ("[log]\nlevel = \"loud\"\n", ":2: log.level: \"loud\" is none of debug|info|warn|error"),
    ("[gateway\n", ":1: "),
])
def test_a_mistake_is_told_with_its_place(tmp_path, text, said):
    config = tmp_path / "lakehouse.toml"
    config.write_text(text)
    for more in ([], ["--check"]):
        code, _, err = run("--config", config, *more, cwd=tmp_path)
        assert code == 2, err
        assert err.startswith(f"lakehoused: {config}{said}"), err


@pytest.mark.parametrize("text,said", [
    ("[gateway]\nbind = \"0.0.0.0:0\"\n",
     ":2: gateway.bind: other hosts reach 0.0.0.0, and no token is configured"),
    ("[gateway]\n\nsecrets_path = \"none\"\n",
     ":3: gateway.secrets_path: none: No such file or directory"),
    ("[queryd]\nsecrets_path = \".\"\n", ":2: queryd.secrets_path: .: is not a file"),
    ("[server]\ntls_key = \"none\"\ntls_certificate = \"none\"\n",
     ":3: server.tls_certificate: cannot open none: No such file or directory"),
    ("[storaged]\nbackend = \"disk\"\n",
     ":2: storaged.backend: disk needs a folder, storaged.root"),
    ("[s3]\nbucket = \"b\"\n", ":2: s3.bucket: needs a name of 3 to 63 "),
    ("[s3]\nbucket = \"bucket\"\nsecret_access_key = \"s\"\n", "s3.access_key_id: "),
])
def test_what_cannot_be_used_is_told_with_its_line_and_by_check(tmp_path, text, said):
    config = tmp_path / "l.toml"
    config.write_text(text)
    for more in ([], ["--check"]):
        binds = [f"--set={name}.bind=127.0.0.1:0" for name in SERVICES
                 if f"[{name}]\nbind" not in text]
        code, out, err = run("--config", "l.toml", *binds, *more, cwd=tmp_path)
        assert code == 2 and out == ""
        prefix = "lakehoused: l.toml" if said.startswith(":") else "lakehoused: "
        assert err.splitlines()[-1].startswith(prefix + said), err


@pytest.mark.parametrize("section,key", [
    ("vectord", "data_dir"), ("storaged", "root"), ("ingestd", "spool_dir"),
    ("queryd", "cache_dir")])
def test_a_folder_that_cannot_be_made_is_told_with_its_line(tmp_path, section, key):
    if key in ("spool_dir", "cache_dir") and not has_duckdb():
        pytest.skip("built without DuckDB")
    (tmp_path / "file").write_text("")
    (tmp_path / "l.toml").write_text(f"[{section}]\n{key} = \"file/folder\"\n")
    binds = [f"--set={name}.bind=127.0.0.1:0" for name in SERVICES]
    more = [] if key == "root" else ["--set=storaged.root=root"]
    code, _, err = run("--config", "l.toml", *binds, *more, cwd=tmp_path)
    assert code in (1, 2)
    assert err.splitlines()[-1].startswith(f"lakehoused: l.toml:2: {section}.{key}: "), err


@pytest.mark.parametrize("key", [f"{name}.bind" for name in SERVICES])
def test_a_port_that_is_taken_is_told_with_its_line(tmp_path, key):
    section = key.split(".")[0]
    if section in ("catalogd", "ingestd") and not has_duckdb():
        pytest.skip("built without DuckDB")
    others = [f"--set={name}.bind=127.0.0.1:0" for name in SERVICES if name != section]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "lakehouse.toml"
        config.write_text(f"[{section}]\nbind = \"127.0.0.1:{port}\"\n")
        code, _, err = run("--config", "lakehouse.toml", "--set=storaged.root=root", *others,
                           cwd=tmp_path)
    assert code == 1
    assert f"lakehouse.toml:2: {key}: cannot listen on 127.0.0.1:{port}" in err
    assert err.endswith("address already in use\n")


def test_a_folder_that_cannot_be_is_told_with_its_line(tmp_path):
    (tmp_path / "file").write_text("")
    config = tmp_path / "lakehouse.toml"
    config.write_text("[gateway]\nbind = \"127.0.0.1:0\"\n[vectord]\nbind = \"127.0.0.1:0\"\n"
                      "data_dir = \"file/data\"\n")
    binds = [f"--set={name}.bind=127.0.0.1:0" for name in SERVICES if name not in HERE]
    code, _, err = run("--config", "lakehouse.toml", *binds, cwd=tmp_path)
    assert code != 0
    last = err.splitlines()[-1]
    assert "lakehouse.toml:5: vectord.data_dir: " in last and "not a folder" in last, last


def test_an_address_that_is_not_ours_is_told_with_its_line(tmp_path):
    config = tmp_path / "lakehouse.toml"
    config.write_text("[gateway]\nbind = \"127.0.0.1:0\"\n[vectord]\nbind = \"[::2]:3215\"\n")
    secrets = tmp_path / "secrets.toml"
    secrets.write_text("[[token]]\nname = \"a\"\ntoken = \"" + "t" * 40 + "\"\nscopes = [\"read\"]\n")
    secrets.chmod(0o600)
    binds = [f"--set={name}.bind=127.0.0.1:0" for name in SERVICES if name not in HERE]
    code, _, err = run("--config", "lakehouse.toml", f"--set=gateway.secrets_path={secrets}",
                       *binds, cwd=tmp_path)
    assert code == 1 and "lakehouse.toml:4: vectord.bind: cannot listen on " in err, err
