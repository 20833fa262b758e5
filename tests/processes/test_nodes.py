"""Nodes that are processes, behind a real leader: restarted one after another under load, killed, and ordered about by
goroxctl."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.leaderkit import Leader, Load
from tests.running import TOP_DIR, run, until

NODE = '''\
"""Answers with its process id; SIGTERM ends it as servers end: what has begun is finished, idle connections close."""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ending = threading.Event()


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        content = b"answer %d" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if ending.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", int(sys.argv[1])), Answering)
signal.signal(signal.SIGTERM, lambda *_: (ending.set(), threading.Thread(target=server.shutdown).start()))
print(server.server_port, flush=True)
server.serve_forever(0.02)
server.server_close()
os._exit(0)
'''

CONFIG = """\
drain_timeout: 2s
backends:
  api:
    type: http_backend
    fail_timeout: 300ms
    nodes: [{nodes}]
    checks: [{{http: {{path: /, interval: 100ms, timeout: 1s, fall: 1, rise: 1}}}}]
webapps:
  one: {{hostnames: ["*"], rules: [handlets: [{{http_proxy: {{to_backend: api}}}}]]}}
servers:
  main: {{type: httpx_server, address: "127.0.0.1:0", webapps: [one]}}
"""


class Node:
    """A node as a process, which keeps its port when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "node.py"
        self.script.write_text(NODE)
        self.port = 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-IS", str(self.script), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.address = f"127.0.0.1:{self.port}"

    def end(self, signum: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(signum)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    running = [Node(tmp_path_factory.mktemp("node")) for _ in range(3)]
    yield running
    for node in running:
        node.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def leader(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    given = ", ".join(f'{{address: "{node.address}"}}' for node in nodes)
    leader = Leader(
        tmp_path_factory.mktemp("leader"),
        CONFIG.format(nodes=given),
        "--workers",
        "2",
        "--cmdui",
        "127.0.0.1:0",
    )
    leader.wait_workers(2)
    yield leader
    leader.end()
    leader.kill()


def control(leader: Leader, *arguments: str) -> Any:
    """What goroxctl answers, or its complaint."""
    command = [sys.executable, "-IS", str(TOP_DIR / "bin" / "goroxctl"), *arguments]
    done = run([*command, "--json", "--top-dir", str(leader.folder)], timeout=30)
    told = json.loads(done.stdout)
    return told.get("answer", told) if told["ok"] else told


def states(leader: Leader, key: str = "state") -> list[dict[str, Any]]:
    """What each worker says of the nodes, by address."""
    found = []
    for worker in control(leader, "backends")["workers"]:
        (backend,) = worker["backends"]
        found.append({node["address"]: node[key] for node in backend["nodes"]})
    return found


def pids(leader: Leader, count: int = 24) -> set[int]:
    """The processes that answer."""
    return {int(leader.fetch().split()[1]) for _ in range(count)}


def test_no_get_fails_while_nodes_are_restarted_one_after_another(leader: Leader, nodes: list[Node]) -> None:
    """The last one is killed, in the middle of what it does."""
    load = Load(leader.address, kept=4, fresh=1)
    try:
        for number, node in enumerate(nodes):
            before = load.count
            assert until(lambda before=before: load.count > before + 50)
            node.end(signal.SIGKILL if number == 2 else signal.SIGTERM)
            before = load.count
            assert until(lambda before=before: load.count > before + 50)
            node.start()
            assert until(lambda node=node: all(each[node.address] == "up" for each in states(leader)))
    finally:
        load.stop()
    assert load.failures == []
    assert load.count > 300


def test_orders_to_nodes(leader: Leader, nodes: list[Node]) -> None:
    first, second, third = (node.address for node in nodes)
    assert until(lambda: all(set(each.values()) == {"up"} for each in states(leader)))
    for order in ("down", "draining", "disabled"):
        control(leader, "node", "api", first, order)
        assert all(each == {first: order, second: "up", third: "up"} for each in states(leader))
        assert nodes[0].process.pid not in pids(leader)
    control(leader, "node", "api", first, "up")
    assert all(set(each.values()) == {"up"} for each in states(leader))
    assert pids(leader) == {node.process.pid for node in nodes}
    control(leader, "node", "api", second, "7")
    assert all(each == {first: 1, second: 7, third: 1} for each in states(leader, "weight"))


def test_orders_that_cannot_be(leader: Leader, nodes: list[Node]) -> None:
    for words, complaint in (
        (("api", "127.0.0.1:1", "down"), 'has no node "127.0.0.1:1"'),
        (("nothing", nodes[0].address, "down"), "nothing"),
        (("api", nodes[0].address, "sideways"), "sideways"),
        (("api", nodes[0].address, "5000"), "5000"),
    ):
        told = control(leader, "node", *words)
        assert not told["ok"] and re.search(re.escape(complaint), json.dumps(told).replace("\\", "")), told
