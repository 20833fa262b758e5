"""Datagrams and several workers: a source stays at its worker, through crashes, reloads and upgrades."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.udpkit import Client, Node
from tests.processes.leaderkit import Leader
from tests.processes.test_goroxctl import ask, control
from tests.running import until

CONFIG = """\
drain_timeout: 10s
servers:
  main: {{type: echo_server, address: "127.0.0.1:0"}}
backends:
  b: {{type: udpx_backend, nodes: [{{address: "{node}"}}]}}
routers:
  front:
    type: udpx_router
    address: ["127.0.0.1:0", "{folder}/d"]
    cases: [{{dealets: [{{udpx_proxy: {{to_backend: b}}}}]}}]
"""


@pytest.fixture
def node() -> Iterator[Node]:
    one = Node()
    yield one
    one.stop()


@pytest.fixture
def leader(tmp_path: Path, node: Node) -> Iterator[Leader]:
    text = CONFIG.format(node=node.address, folder=tmp_path)
    one = Leader(tmp_path, text, "--workers", "2", "--cmdui", "127.0.0.1:0")
    one.wait_workers(2)
    yield one
    if one.process.poll() is None:
        one.end()
    one.kill()


def address(leader: Leader) -> str:
    return re.findall(r'router "front" at udp (\S+)', leader.out.read_text())[0]


def again(client: Client) -> bool:
    """Asks until there is an answer: what was sent to a worker that dies is lost."""
    client.sock.settimeout(0.2)

    def answered() -> bool:
        client.send(b"again")
        try:
            return client.receive() == b"again"
        except TimeoutError:
            return False

    try:
        return bool(until(answered, 20))
    finally:
        client.sock.settimeout(10)


def test_a_source_stays_at_its_worker(leader: Leader, node: Node, tmp_path: Path) -> None:
    clients = [Client(address(leader)) for _ in range(24)]
    for number in range(3):
        for client in clients:
            assert client.ask(b"%d" % number) == b"%d" % number
    assert len({peer for _, peer in node.got}) == len(clients)  # a session each, and no more

    def told() -> list[int]:
        return [each["figures"]["conns"] for each in ask(tmp_path, "worker")["workers"]]

    assert until(lambda: sum(told()) == len(clients)), told()
    assert all(told()), told()  # both have some

    leader.signal(signal.SIGHUP)
    assert until(lambda: all(each["figures"]["reloads"] == 1 for each in ask(tmp_path, "worker")["workers"]))
    for client in clients:
        assert client.ask(b"after") == b"after"
    assert len({peer for _, peer in node.got}) == len(clients)  # the same sessions
    stages = [stage for each in ask(tmp_path, "stages")["workers"] for stage in each["stages"]]
    assert sum(stage["conns"] for stage in stages if stage["state"] == "draining") == len(clients)

    first = leader.workers()[0]
    os.kill(first, signal.SIGKILL)
    assert until(lambda: first not in leader.workers() and len(leader.workers()) == 2, 20)
    for client in clients:
        assert again(client)
    sessions = {peer for _, peer in node.got}
    assert len(clients) < len(sessions) < 2 * len(clients)  # those of the other worker have not changed
    for client in clients:
        client.sock.close()


def test_an_upgrade_keeps_the_sockets(leader: Leader, tmp_path: Path) -> None:
    where = address(leader)
    with Client(where) as client:
        assert client.ask() == b"hello"
        done = control(tmp_path, "upgrade", timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert again(client)
    listening = ask(tmp_path, "status")["listening"]
    assert [key for key in listening if "udp" in key or "unixgram" in key] == [
        f"udp 127.0.0.1:0 #{number} of front" for number in (1, 2)
    ] + [f"unixgram {tmp_path}/d"]
    control(tmp_path, "quit", timeout=60)
    leader.process.wait(20)
    assert until(lambda: not (tmp_path / "d").exists())
