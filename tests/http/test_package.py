"""Running it for real: what the service manager is told, the manual, completion, and the Debian
package, installed into an overlay of this machine, which stays as it is."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakehouse_server import SERVICES, Client, Server, wait_until

BUILD = Path(os.environ.get("LAKEHOUSED", "build/release/lakehoused")).resolve().parent
SOURCE = Path(__file__).resolve().parents[2]


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.told = []

    def read(self):
        try:
            while True:
                self.told.append(self.socket.recv(4096).decode())
        except BlockingIOError:
            return self.told

    def count(self, text):
        return sum(text in message for message in self.read())


# ---- the service manager ----


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_manager_is_told_of_the_start_and_the_stop(tmp_path, is_abstract):
    path = f"\0lh-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    manager = Manager(path)
    with Server(env={"NOTIFY_SOCKET": path.replace("\0", "@")}) as server:
        wait_until(lambda: manager.count("READY=1") == 1)
        time.sleep(0.5)
        assert manager.read() == ["READY=1\nSTATUS=Serving\n"]
        server.stop()
    assert manager.read()[1:] == ["STOPPING=1\nSTATUS=Stopping\n"]


def test_the_watchdog_is_fed_twice_a_period_and_by_a_server_that_runs(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    with Server(f"vectord.data_dir={tmp_path}/data", env=env) as server:
        wait_until(lambda: manager.count("WATCHDOG=1") >= 2)
        times = []  # when one more was there
        while len(times) < 9:
            before = manager.count("WATCHDOG=1")
            wait_until(lambda: manager.count("WATCHDOG=1") > before)
            times.append(time.monotonic())
        gaps = [after - before for before, after in zip(times, times[1:])]
        # Every half second, at the tick after it, but for moments at which the machine stands.
        assert 0.4 < statistics.median(gaps) < 0.8, gaps
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        before = manager.count("WATCHDOG=1")
        time.sleep(1.5)
        assert manager.count("WATCHDOG=1") == before
        server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: manager.count("WATCHDOG=1") > before)


def test_another_process_s_watchdog_is_not_fed(tmp_path):
    manager = Manager(str(tmp_path / "notify"))
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000",
           "WATCHDOG_PID": "1"}
    with Server(env=env):
        wait_until(lambda: manager.count("READY=1") == 1)
        time.sleep(0.5)
        assert manager.count("WATCHDOG=1") == 0


def test_a_manager_that_is_gone_or_does_not_read_is_no_matter(tmp_path):
    for path in (str(tmp_path / "none"), "relative", "@", "/" + "x" * 200):
        with Server(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000"}) as server:
            with server.client() as client:
                assert client.get("/healthz").status == 200
    manager = Manager(str(tmp_path / "full"))
    with Server(env={"NOTIFY_SOCKET": str(tmp_path / "full"), "WATCHDOG_USEC": "1000"}) as server:
        time.sleep(2)
        with server.client() as client:
            assert client.get("/healthz").status == 200
    assert manager.count("READY=1") == 1


def test_ready_waits_for_the_log(tmp_path):
    """With much to read again, READY=1 comes when /readyz says so, not when the ports are open."""
    data = f"vectord.data_dir={tmp_path}/data"
    with Server(data, "vectord.checkpoint_age=0") as server:
        with server.client() as client:
            index = client.create("i", 64, shards=1)
            for start in range(0, 20000, 1000):
                index.add([{"id": str(i), "vector": [float(i * 31 % 97), 1.0] + [float(i)] * 62}
                           for i in range(start, start + 1000)])
        server.kill()
        server.log.close()
    manager = Manager(str(tmp_path / "notify"))
    with Server(data, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as server:
        with server.client() as client:
            while True:
                is_told = manager.count("READY=1") == 1
                answer = client.get("/readyz")
                assert answer.status == 200 or not is_told, answer
                if is_told:
                    break
                time.sleep(0.005)
            assert client.index("i").info()["count"] == 20000


# ---- the manual and completion ----


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("pages")
    subprocess.run([sys.executable, SOURCE / "packaging/pages", BUILD, out, out / "lakehouse.toml"],
                   check=True, timeout=60)
    return out


def test_the_pages_say_what_the_programs_say(pages):
    config = (pages / "lakehouse.toml.5").read_text()
    shown = subprocess.run([BUILD / "lakehoused", "--check"], capture_output=True, text=True,
                           check=True, timeout=20).stdout
    keys = re.findall(r"^(?:# )?([a-z0-9_]+) = ", shown, re.M)
    assert len(keys) > 50
    assert re.findall(r"^\\fB([a-z0-9_\\-]+)\\fR = ", config, re.M) == keys
    for page in ("lakehoused.8", "lakehouse.1", "lakehouse.toml.5"):
        if shutil.which("groff"):
            done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", pages / page],
                                  capture_output=True, text=True, timeout=20)
            assert done.returncode == 0 and not done.stderr, done.stderr
    client = (pages / "lakehouse.1").read_text().replace("\\-", "-")
    for command in set(complete(f"{BUILD}/lakehouse ", "_lakehouse")) - {"help", "--help", "--version"}:
        assert re.search(rf"^\.SS {command}\b", client, re.M), command
    assert "--connections N" in client and "--token TOKEN" in client
    assert "--set" in (pages / "lakehoused.8").read_text().replace("\\-", "-")


def test_the_packaged_configuration_keeps_data(pages):
    text = (pages / "lakehouse.toml").read_text()
    assert 'data_dir = "/var/lib/lakehouse/vectors"' in text
    subprocess.run([BUILD / "lakehoused", "--check", "--config", pages / "lakehouse.toml"],
                   check=True, capture_output=True, timeout=20)


def complete(line, function):
    words = line.split(" ")
    script = (f'source {SOURCE}/packaging/lakehouse.bash; COMP_WORDS=({" ".join(words)} ""); '
              f'[[ "{words[-1]}" != "" ]] && unset "COMP_WORDS[{len(words)}]"; '
              f"COMP_CWORD={len(words) - 1}; {function}; "
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_completion_offers_what_the_help_says():
    client, server = BUILD / "lakehouse", BUILD / "lakehoused"
    assert {"import", "search", "get", "delete", "health", "index", "lhv1"} <= set(
        complete(f"{client} ", "_lakehouse"))
    assert complete(f"{client} sea", "_lakehouse") == ["search"]
    assert set(complete(f"{client} index ", "_lakehouse")) == {"list", "create", "delete", "info"}
    assert set(complete(f"{client} lhv1 v", "_lakehouse")) == {"verify"}
    assert "--encoding" in complete(f"{client} import --e", "_lakehouse")
    assert "--dimension" in complete(f"{client} index create --d", "_lakehouse")
    assert set(complete(f"{server} --c", "_lakehoused")) == {"--config", "--check"}
    assert "vectord.shards=" in complete(f"{server} --set vectord.s", "_lakehoused")


# ---- the package ----


def is_release():
    with open(BUILD / "CMakeCache.txt", encoding="utf-8") as cache:
        text = cache.read()
    return "LH_SANITIZE:STRING=\n" in text and "LH_COVERAGE:BOOL=OFF" in text


needs_dpkg = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("dpkg", "dpkg-deb", "dpkg-shlibdeps", "cpack")),
    reason="dpkg's tools or cpack are missing")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    if not is_release():
        pytest.skip("packages are made of builds without sanitizers")
    out = tmp_path_factory.mktemp("package")
    subprocess.run(["cpack", "--config", BUILD / "CPackConfig.cmake", "-B", out], check=True,
                   capture_output=True, timeout=300)
    (made,) = out.glob("*.deb")
    return made


def dpkg_deb(*arguments):
    return subprocess.run(["dpkg-deb", *map(str, arguments)], check=True, capture_output=True,
                          text=True, timeout=300).stdout


@needs_dpkg
def test_the_package_has_what_it_needs(package):
    control = dpkg_deb("-f", package)
    for library in ("libc6", "libuv1", "liburing2", "libcurl4", "libssl3", "libuuid1"):
        assert re.search(rf"^Depends:.*\b{library}", control, re.M), (library, control)
    contents = dpkg_deb("-c", package)
    for path in ("./usr/bin/lakehoused", "./usr/bin/lakehouse", "./etc/lakehouse/lakehouse.toml",
                 "./usr/lib/systemd/system/lakehoused.service", "./usr/share/man/man8/lakehoused.8",
                 "./usr/share/man/man1/lakehouse.1", "./usr/share/man/man5/lakehouse.toml.5",
                 "./usr/share/bash-completion/completions/lakehouse",
                 "./usr/share/doc/lakehouse/copyright"):
        assert re.search(rf" {re.escape(path)}$", contents, re.M), path
    assert "root/root" in contents and not re.search(r"^-\S*w[^ ]* (?!root/root)", contents, re.M)


class Machine:
    """This machine's files under an overlay in memory: what is done to them is gone with it."""

    def __init__(self, folder):
        self.root = folder / "root"
        self.upper = folder / "upper"
        self.root.mkdir()
        self.upper.mkdir()
        self.mounted = []
        try:
            self.mount("-t", "tmpfs", "tmpfs", self.upper)
            for part in ("files", "work"):
                (self.upper / part).mkdir()
            self.mount("-t", "overlay", "overlay", "-o",
                       f"lowerdir=/,upperdir={self.upper}/files,workdir={self.upper}/work",
                       self.root)
            for part in ("proc", "dev"):
                self.mount("--bind", f"/{part}", self.root / part)
            self.mount("-t", "tmpfs", "tmpfs", self.root / "tmp")
            self.mount("-t", "tmpfs", "tmpfs", self.root / "run")
        except subprocess.CalledProcessError as failure:
            self.close()
            pytest.skip(f"no overlay can be mounted: {failure.stderr}")

    def mount(self, *arguments):
        subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True, text=True)
        self.mounted.append(arguments[-1])

    def close(self):
        for path in reversed(self.mounted):
            subprocess.run(["umount", "-l", path], check=False)

    def run(self, *command, user=None):
        spec = ["--userspec", f"{user}:{user}"] if user else []
        return subprocess.run(["chroot", *spec, self.root, *command], capture_output=True,
                              text=True, timeout=300, check=False)

    def dpkg(self, *arguments):
        done = self.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def put(self, path):
        shutil.copy(path, self.root / "tmp")
        return f"/tmp/{path.name}"

    def path(self, path):
        return self.root / path.lstrip("/")

    def serve(self):
        """The service as its unit starts it, but for ports that are free."""
        notify = self.path("/tmp/notify")
        notify.unlink(missing_ok=True)
        manager = Manager(str(notify))
        os.chmod(notify, 0o666)
        os.chmod(self.root / "tmp", 0o1777)
        log = open(self.root / "tmp/log", "wb+")
        process = subprocess.Popen(
            ["chroot", "--userspec=lakehouse:lakehouse", self.root, "env",
             "NOTIFY_SOCKET=/tmp/notify", "WATCHDOG_USEC=1000000", "/usr/bin/lakehoused",
             "--config", "/etc/lakehouse/lakehouse.toml", *(word for name in SERVICES
                                                          for word in ("--set", f"{name}.bind=127.0.0.1:0"))],
            stderr=log)
        wait_until(lambda: manager.count("READY=1") == 1 or process.poll() is not None)
        log.seek(0)
        text = log.read().decode()
        assert process.poll() is None, text
        port = int(re.search(r'"service":"gateway","bind":"127.0.0.1:(\d+)"', text).group(1))
        return process, manager, port

    def stop(self, process, manager):
        process.terminate()
        assert process.wait(60) == 0
        assert manager.count("STOPPING=1") == 1


@pytest.fixture
def machine(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can mount and install")
    made = Machine(tmp_path)
    yield made
    made.close()


def newer(package, folder):
    """The same with another version."""
    tree = folder / "tree"
    dpkg_deb("-R", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: ", "Version: 99."))
    made = folder / "newer.deb"
    dpkg_deb("-Zgzip", "-z1", "-b", "--root-owner-group", tree, made)
    return made


def check_sql(machine, client):
    """DuckDB comes along, and it is the package's that is used."""
    libraries = machine.run("ldd", "/usr/bin/lakehoused").stdout
    answer = client.post("/v1/sql", {"sql": "SELECT 40 + 2 AS a"})
    if "libduckdb" in libraries:
        assert "libduckdb.so => /usr/lib/lakehouse/libduckdb.so" in libraries
        assert answer.json["rows"] == [[42]], answer
    else:
        assert answer.status == 501 and not machine.path("/usr/lib/lakehouse").exists()


@needs_dpkg
def test_it_installs_serves_upgrades_and_goes(package, machine, tmp_path):
    machine.dpkg("-i", machine.put(package))
    assert "lakehouse:" in machine.path("/etc/passwd").read_text()
    state = machine.path("/var/lib/lakehouse").stat()
    assert state.st_mode & 0o777 == 0o750 and state.st_uid != 0
    config = machine.path("/etc/lakehouse/lakehouse.toml")
    config.write_text(config.read_text().replace('level = "info"', 'level = "warn"', 1)
                      .replace('level = "warn"', 'level = "info" # mine', 1))

    process, manager, port = machine.serve()
    with Client(port) as client:
        client.create("kept", 2).add([{"id": "a", "vector": [1, 0]}])
        check_sql(machine, client)
    wait_until(lambda: manager.count("WATCHDOG=1") >= 2)
    machine.stop(process, manager)

    machine.dpkg("-i", machine.put(newer(package, tmp_path)))
    assert "# mine" in config.read_text()
    process, manager, port = machine.serve()
    with Client(port) as client:
        assert client.index("kept").get("a").status == 200
    machine.stop(process, manager)

    machine.dpkg("-r", "lakehouse")
    assert not machine.path("/usr/bin/lakehoused").exists()
    assert not machine.path("/usr/lib/systemd/system/lakehoused.service").exists()
    assert config.exists() and machine.path("/var/lib/lakehouse/vectors").exists()

    said = machine.dpkg("-P", "lakehouse")
    assert "has data and is kept" in said
    assert not config.exists() and machine.path("/var/lib/lakehouse/vectors").exists()

    machine.dpkg("-i", machine.put(package))
    for folder in ("vectors", "objects"):
        shutil.rmtree(machine.path(f"/var/lib/lakehouse/{folder}"), ignore_errors=True)
    machine.dpkg("-P", "lakehouse")
    assert not machine.path("/var/lib/lakehouse").exists()
    assert not machine.path("/etc/lakehouse").exists()
    assert "lakehouse:" not in machine.path("/etc/passwd").read_text()


@needs_dpkg
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_reads_the_unit(package, machine):
    machine.dpkg("-i", machine.put(package))
    done = machine.run("systemd-analyze", "verify", "--man=no", "lakehoused.service")
    assert "lakehoused" not in done.stdout + done.stderr, done.stdout + done.stderr
