"""What systemd is told and hands over."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hemi.procmgr.notify import Notify, passed_sockets


@pytest.mark.parametrize("abstract", [False, True])
def test_assignments(tmp_path: Path, abstract: bool) -> None:
    path = f"@gorox-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path.replace("@", "\0"))
        environ = {"NOTIFY_SOCKET": path, "OTHER": "1"}
        notify = Notify(environ)
        assert environ == {"OTHER": "1"}
        notify.ready("fine")
        notify.main_pid(7)
        notify.ping()
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1\nSTATUS=fine", b"MAINPID=7", b"WATCHDOG=1"]


@pytest.mark.parametrize("path", ["", "/no/such/socket"])
def test_without_a_manager_nothing_happens(path: str) -> None:
    Notify({"NOTIFY_SOCKET": path}).stopping()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "often"}, 0),
    ],
)
def test_the_watchdog(environ: dict[str, str], interval: float) -> None:
    assert Notify(environ).interval == interval


@pytest.mark.parametrize(
    ("count", "names", "passed"),
    [
        ("2", "main:safe", [(3, "main"), (4, "safe")]),
        ("2", "main", [(3, "main"), (4, "")]),
        ("0", "", []),
        ("x", "", []),
    ],
)
def test_passed_sockets(count: str, names: str, passed: list[tuple[int, str]]) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
    assert passed_sockets(environ) == passed
    assert environ == {}


def test_sockets_that_were_passed_to_another_process() -> None:
    assert passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
