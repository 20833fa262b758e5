"""What an upgrade leaves to the new leader."""

from __future__ import annotations

import json
import os

import pytest

from hemi.procmgr.heir import VARIABLE, Heritage
from tests.procmgr.loopkit import in_loop


def test_no_heritage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    heritage = Heritage()
    assert not heritage
    assert heritage.sockets == []
    heritage.accept()


def test_a_heritage(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    monkeypatch.setenv(VARIABLE, json.dumps({"sockets": [{"fd": 9}], "pipe": writer, "pid": 7}))
    heritage = Heritage()
    assert heritage
    assert (heritage.pid, heritage.sockets) == (7, [{"fd": 9}])
    assert not os.get_inheritable(writer)
    assert VARIABLE not in os.environ  # workers and what they start do not take themselves for heirs
    heritage.refuse("first this")
    assert heritage.open
    heritage.accept()
    heritage.accept()
    heritage.refuse("too late")
    assert not heritage.open
    assert os.read(reader, 100) == b"first this\0"
    os.close(reader)


@pytest.mark.parametrize(
    ("code", "ready", "status", "problems"),
    [
        ("h.accept()", True, 0, []),
        ("sys.exit(5)", False, 5, []),
        ("h.refuse(str(8)); os._exit(5)", False, 5, ["8"]),
    ],
)
def test_the_new_leader_is_started_like_the_old_one(
    code: str, ready: bool, status: int, problems: list[str]
) -> None:
    assert in_loop(f"""
from hemi.procmgr import heir
sys.orig_argv = [sys.executable, "-c", "import os, sys; from hemi.procmgr.heir import Heritage; h = Heritage(); "
    "print(os.getcwd() == os.environ['PWD_WANTED'], 'WATCHDOG_PID' in os.environ, flush=True); {code}"]
listening = socket.create_server(("127.0.0.1", 0))
environ = {{**os.environ, "PWD_WANTED": os.getcwd(), "WATCHDOG_PID": "1"}}
new = heir.start(loop, os.getcwd(), environ, [{{"key": "a", "fd": listening.fileno(), "path": "", "inode": None}}])
loop.every(0.02, lambda: None)
def steps():
    def reaped():
        pid, found = os.waitpid(new.pid, os.WNOHANG)
        if pid:
            new.ended(found)
        return bool(pid)
    yield until(reaped, 10)
    yield until(lambda: new.ready, 0.3)
    print(new.ready, os.waitstatus_to_exitcode(new.status), new.problems)
    new.kill()
    finish()
loop.spawn(steps())
loop.run()
""").splitlines() == ["True False", f"{ready} {status} {problems}"]
