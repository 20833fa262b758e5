"""Backends for tests, and nodes for them: real sockets on 127.0.0.1, in this process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent

import hemi.upstream.backend as upstream
from hemi.conditions import Scope
from hemi.config import load_text
from hemi.errors import ConfigError
from hemi.source import Dirs
from hemi.stage import Stage
from tests import samples

MODULES = (*samples.CORE, "hemi.upstream.backend", "hemi.upstream.node", "hemi.upstream.checks")

sandbox = samples.Sandbox(MODULES)

with sandbox:

    class EchoBackend(upstream.Backend, sign="echo_backend"):
        """Nodes that send back what they get."""

        scope = Scope("subject", {"src_host": "s.src_host", "key": "s.key"})


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Lines:
    """Stands for a logger: keeps the lines."""

    _sink = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str, level: str = "") -> None:
        self.lines.append(line.partition(" ")[2])

    def find(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]


NODE = 'address: "127.0.0.1:1"'


def listed(*nodes: str, more: str = "") -> str:
    """A backend with these nodes, for `load`."""
    return f"b: {{type: echo_backend, nodes: [{', '.join(f'{{{node}}}' for node in nodes)}]{more}}}"


def load(text: str, dirs: Dirs) -> Stage:
    """A stage with the backends that are written in `text`, one a line; what comes behind "---" is the stage's."""
    text, _, more = text.partition("\n---\n")
    lines = "".join(f"  {line}\n" for line in text.strip().splitlines())
    with sandbox:
        stage = load_text(f"backends:\n{lines}{more}\n", dirs)
    stage.log.logger = Lines()  # type: ignore[assignment]
    return stage


def problems(text: str, dirs: Dirs) -> list[str]:
    """What is wrong with the configuration of backends."""
    try:
        load(text, dirs)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


class Running:
    """A stage with backends that runs."""

    def __init__(self, text: str, dirs: Dirs, predecessor: Running | None = None) -> None:
        self.stage = load(text, dirs)
        self.stage.prepare()
        self.stage.start(predecessor.stage if predecessor else None)

    def __getitem__(self, name: str) -> Any:
        return self.stage.members["backends"][name]

    @property
    def log(self) -> Lines:
        lines: Any = self.stage.log.logger
        return lines  # type: ignore[no-any-return]

    def stop(self) -> None:
        self.stage.stop(time.monotonic())


def subject(src_host: str = "192.0.2.1", key: str = "") -> Any:
    """What a balancer may go by."""
    return SimpleNamespace(src_host=src_host, key=key)


def exchange(lease: Any, data: bytes = b"hello") -> bytes:
    """Takes a connection, sends, receives as much, and gives it back."""
    conn = lease.take()
    conn.channel.send(data)
    received = b""
    while len(received) < len(data):
        piece = conn.channel.recv(65536)
        assert piece
        received += piece
    lease.answered(200)
    lease.done(keep=True)
    return received


def spawned(function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a function in a greenlet, up to its first wait."""
    greenlet = gevent.spawn(function, *arguments)
    gevent.sleep(0)
    return greenlet
