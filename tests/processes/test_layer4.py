"""Layer 4 with the programs that people have: iperf3, OpenSSH through SOCKS and CONNECT, openssl with names; and over
links that are slow and lose packets."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.forwardkit import closed_port
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, dial, until
from tests.running import TOP_DIR, GoroxProcess, require_program
from tests.tlskit import Authority

Start = Callable[[str], Net]

TIMEOUT = 60


def run(*command: str, content: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end; an exit code that is not 0 fails the test with what it said."""
    done = subprocess.run(command, input=content, capture_output=True, timeout=TIMEOUT, check=False)
    assert not done.returncode, (done.stdout[-2000:], done.stderr[-2000:])
    return done


def listens(port: int) -> bool:
    try:
        dial(f"127.0.0.1:{port}").close()
    except OSError:
        return False
    return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts a server: start(port, command, …) and waits until it listens. Killed at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(port: int, *command: str) -> None:
        out = (tmp_path / f"server{len(running)}.out").open("wb")
        with out:
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
        until(lambda: listens(port) or running[-1].poll() is not None, TIMEOUT)
        assert running[-1].poll() is None, (tmp_path / f"server{len(running) - 1}.out").read_text()

    yield begin
    for process in running:
        process.kill()
        process.wait(10)


# Bulk


def test_iperf3(net: Start, start: Callable[..., None]) -> None:  # noqa: F811
    """Four streams each way, and back, at whatever rate; the counts are those of iperf3."""
    iperf, port = require_program("iperf3", "iperf3"), closed_port()
    start(port, iperf, "-s", "-p", str(port))
    one = net(f"""
backends: {{b: {{type: tcpx_backend, nodes: [{{address: "127.0.0.1:{port}"}}]}}}}
routers:
  front: {{type: tcpx_router, address: "127.0.0.1:0", cases: [dealets: [{{tcpx_proxy: {{to_backend: b}}}}]]}}
""")
    records = one.records("front")
    front = one.address("front").rpartition(":")[2]
    for way in ((), ("-R",)):
        records.clear()
        done = run(iperf, "-c", "127.0.0.1", "-p", front, "-J", "-n", "20M", "-P", "4", *way)
        end = json.loads(done.stdout)["end"]
        received = end["sum_received"]["bytes"]
        assert received > 8 << 20
        until(lambda: len(records) == 5)  # and the one that they talk about it on
        assert sum(record[4 if way else 3] for record in records) >= received
        assert {record[0] for record in records} == {200}


# OpenSSH


@pytest.fixture
def sshd(start: Callable[..., None], tmp_path: Path) -> tuple[str, ...]:
    """An OpenSSH server with keys of its own; returns the command of a client without its proxy."""
    program, client = require_program("sshd", "openssh-server"), require_program("ssh", "openssh-client")
    keygen, port = require_program("ssh-keygen", "openssh-client"), closed_port()
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # it insists, and a machine without services has none
    for name in ("host", "user"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    config = tmp_path / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    start(port, program, "-D", "-e", "-f", str(config))
    options = (
        "BatchMode=yes",
        "StrictHostKeyChecking=no",
        f"UserKnownHostsFile={tmp_path}/known",
        "LogLevel=ERROR",
    )
    return (
        client, "-F", "none", "-i", str(tmp_path / "user"), "-p", str(port), "-l", getpass.getuser(), "-T",
        *(word for option in options for word in ("-o", option)), "127.0.0.1",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [("socks", "5"), ("socks", "4"), ("tunnel", "connect")])
def test_openssh(net: Start, sshd: tuple[str, ...], name: str, kind: str) -> None:  # noqa: F811
    """As its users do it, by ProxyCommand and nc."""
    nc = require_program("nc", "netcat-openbsd")
    one = net(
        f'servers: {{{name}: {{type: {name}_server, address: "127.0.0.1:0", allow: [{{networks: 127.0.0.1}}]}}}}'
    )
    *command, host = sshd
    proxy = f"ProxyCommand={nc} -X {kind} -x {one.address(name)} %h %p"
    data = os.urandom(3 << 20)
    done = run(*command, "-o", proxy, host, "sha256sum", content=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert len(run(*command, "-o", proxy, host, "head -c 3000000 /dev/zero").stdout) == 3_000_000


# TLS by name


def test_openssl_with_names(net: Start, tmp_path: Path) -> None:  # noqa: F811
    """Two sites behind a router that looks at the name and lets TLS pass, and one whose TLS ends at it."""
    openssl = require_program("openssl", "openssl")
    authority = Authority(tmp_path)

    def certificate(name: str) -> str:
        one = authority.issue(name)
        return f"{{certificate: {one.certificate}, private_key: {one.private_key}, hostnames: [{name}]}}"

    uds = str(tmp_path / "{}.sock")
    servers = "".join(
        f"  {name}: {{type: echo_server, address: {uds.format(name)}, tls: true,"
        f" certificates: [{certificate(f'{name}.example')}]}}\n"
        for name in ("a", "b")
    )
    cases = "".join(
        f"      - {{if: '$server_name == \"{name}.example\"', dealets: [{{tcpx_proxy: {{to_backend: {name}}}}}]}}\n"
        for name in ("a", "b")
    )
    nodes = "".join(
        f"  {name}: {{type: tcpx_backend, nodes: [{{address: {uds.format(name)}}}]}}\n" for name in ("a", "b")
    )
    one = net(f"""
servers:
{servers}
backends:
{nodes}
routers:
  pass:
    type: tcpx_router
    address: "127.0.0.1:0"
    cases:
{cases}
""")
    for name in ("a", "b"):
        done = run(
            openssl, "s_client", "-connect", one.address("pass"), "-servername", f"{name}.example",
            "-CAfile", authority.file, "-verify_return_error", "-verify_hostname", f"{name}.example",
            "-quiet", "-no_ign_eof",
            content=b"hello\n",
        )  # fmt: skip
        assert done.stdout in (b"", b"hello\n")  # it may leave before the echo is there
    wrong = subprocess.run(
        [openssl, "s_client", "-connect", one.address("pass"), "-servername", "c.example"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert wrong.returncode and b"no peer certificate available" in wrong.stdout
    assert one.log.find("no case deals with TLS c.example")


# Links


class Link:
    """Two network namespaces with a link between them, on whose one side is 10.203.0.1."""

    def __init__(self) -> None:
        self.ip, self.tc = require_program("ip", "iproute2"), require_program("tc", "iproute2")
        self.names = [f"gorox-{os.getpid()}-{side}" for side in "sc"]

    def on(self, side: int, *command: str) -> list[str]:
        """The command that runs a command on the server's side (0) or the client's (1)."""
        return [self.ip, "netns", "exec", self.names[side], *command]

    def make(self) -> None:
        """Makes it; skips the test where that is not possible."""
        for name in self.names:
            done = subprocess.run([self.ip, "netns", "add", name], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"network namespaces cannot be made here: {done.stderr.decode().strip()}")
        run(*self.on(0, *f"{self.ip} link add veth0 type veth peer name veth1 netns {self.names[1]}".split()))
        for side in (0, 1):
            run(*self.on(side, *f"{self.ip} addr add 10.203.0.{side + 1}/24 dev veth{side}".split()))
            for device in ("lo", f"veth{side}"):
                run(*self.on(side, self.ip, "link", "set", device, "up"))

    def slow_down(self, rate: str) -> None:
        """Makes it slow, with a queue so short that it loses packets."""
        for side in (0, 1):
            words = f"{self.tc} qdisc replace dev veth{side} root tbf rate {rate} burst 4kb limit 12kb"
            run(*self.on(side, *words.split()))

    def remove(self) -> None:
        """Removes what was made."""
        for name in self.names:
            subprocess.run([self.ip, "netns", "del", name], capture_output=True, check=False)


@pytest.fixture
def link() -> Iterator[Link]:
    if os.geteuid():
        pytest.skip("only root may make network namespaces")
    one = Link()
    try:
        one.make()
        yield one
    finally:
        one.remove()


CLIENT = """
import hashlib, os, socket, sys, threading, time
size, pause = int(sys.argv[1]), float(sys.argv[2])
data = os.urandom(size)
sock = socket.create_connection(("10.203.0.1", 7000), 30)
sock.settimeout(30)
def send():
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = b""
while piece := sock.recv(16384):
    back += piece
    time.sleep(pause)
print("same" if back == data else f"{len(back)} of {size}")
"""


@pytest.mark.slow
def test_bad_links(tmp_path: Path, link: Link) -> None:
    """All arrives, the half-close as well; whoever is slow but takes something within `write_timeout` is not cut."""
    config = tmp_path / "test.yaml"
    config.write_text(f"""
write_timeout: 400ms
backends: {{back: {{type: tcpx_backend, nodes: [{{address: {tmp_path}/echo.sock}}]}}}}
routers:
  front: {{type: tcpx_router, address: "10.203.0.1:7000", cases: [dealets: [{{tcpx_proxy: {{to_backend: back}}}}]]}}
servers:
  echo: {{type: echo_server, address: {tmp_path}/echo.sock, write_timeout: 30s}}
""")
    program = [sys.executable, str(TOP_DIR / "bin" / "gorox"), "--single", "--top-dir", str(tmp_path)]
    server = GoroxProcess(
        tmp_path, None, command=link.on(0, *program, "--config", str(config)), wait=False
    )  # fmt: skip

    def through(rate: str, size: int, pause: float = 0.0) -> bytes:
        link.slow_down(rate)
        return run(*link.on(1, sys.executable, "-c", CLIENT, str(size), str(pause))).stdout

    try:
        server.wait_ready()
        assert through("20mbit", 250_000) == b"same\n"
        shown = run(*link.on(0, "tc", "-s", "qdisc", "show", "dev", "veth0")).stdout.decode()
        assert int(re.findall(r"dropped (\d+)", shown)[0]) > 0  # else it has not shown anything
        assert through("2mbit", 100_000) == b"same\n"
        assert through("20mbit", 150_000, 0.05) == b"same\n"  # a slow reader
    finally:
        server.kill()
