"""A leader's loop with a cmdui, in this process, without workers; commands of its own to play with."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from hemi.procmgr import commands, keyfile
from hemi.procmgr.client import Client
from hemi.procmgr.cmdui import CmdUI
from hemi.procmgr.commands import COMMANDS
from hemi.procmgr.loop import CommandError, Loop, Steps, say, until
from hemi.procmgr.messages import Decoder, encode
from hemi.procmgr.options import Options


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str, error: object = None) -> None:
        self.lines.append(message)

    warning = debug = error = info


class Leader:
    """As much of a leader as a cmdui needs."""

    def __init__(self, folder: Path, cmdui: str) -> None:
        self.options = Options(top_dir=str(folder), var_dir=str(folder / "var"), cmdui=cmdui)
        self.log = Log()
        self.complaints: list[Exception] = []
        self.loop = Loop(lambda message, error: self.complaints.append(error))
        self.cmdui = CmdUI(self)  # type: ignore[arg-type]
        self.released = False

    def run_command(self, name: str, args: dict[str, Any], done: Any, progress: Any = None) -> None:
        self.loop.spawn(commands.begin(self, name, args), done, progress)  # type: ignore[arg-type]

    def connect(self, **options: Any) -> Client:
        """Connects as an operator."""
        return Client.connect(self.cmdui.address, self.cmdui.key, **options)


def _echo(leader: Any, args: dict[str, Any]) -> dict[str, Any]:
    return args


def _slow(leader: Any, args: dict[str, Any]) -> Steps:
    yield say("one", number=1)
    yield until(lambda: leader.released, 10.0)
    yield say("two", number=2)
    return {"released": leader.released}


def _release(leader: Any, args: dict[str, Any]) -> dict[str, Any]:
    leader.released = True
    return {}


def _fail(leader: Any, args: dict[str, Any]) -> dict[str, Any]:
    raise CommandError("it cannot be", ["because", "of this"])


def _break(leader: Any, args: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError("oops")


def _large(leader: Any, args: dict[str, Any]) -> dict[str, Any]:
    return {"text": "x" * (4 << 20)}


EXTRA = {"echo": _echo, "slow": _slow, "release": _release, "fail": _fail, "break": _break, "large": _large}


def dial(leader: Leader) -> socket.socket:
    host, _, port = leader.cmdui.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """The next message; None at the end."""
    decoder = Decoder()
    while data := sock.recv(65536):
        messages = decoder.feed(data)
        if messages:
            return messages[0]
    return None


def greet(sock: socket.socket, key: str) -> dict[str, Any] | None:
    """Proves as an operator does."""
    mine = keyfile.nonce()
    sock.sendall(encode({"hello": mine}))
    challenge = receive(sock)
    assert challenge is not None
    sock.sendall(encode({"proof": keyfile.prove(key, "operator", mine, challenge["nonce"])}))
    return receive(sock)


@contextmanager
def running(folder: Path, cmdui: str = "127.0.0.1:0") -> Iterator[Leader]:
    """Runs a leader's loop with a cmdui until the block ends."""
    leader = Leader(folder, cmdui)
    before = dict(COMMANDS)
    COMMANDS.update(EXTRA)  # type: ignore[arg-type]
    task = None
    try:
        leader.cmdui.open()
        leader.loop.every(0.02, lambda: None)  # so that it sees that it is to stop
        task = gevent.spawn(leader.loop.run)
        yield leader
    finally:
        leader.loop.stop()
        if task is not None:
            task.join(5)
        leader.cmdui.close()
        leader.loop.close()
        COMMANDS.clear()
        COMMANDS.update(before)
    assert not leader.complaints, leader.complaints
