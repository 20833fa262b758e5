"""Leaders as processes, and load on them whose failures are counted."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.event

from tests.client import Client
from tests.running import TOP_DIR, GoroxProcess, until
from tests.waiting import gone

GOROX = str(TOP_DIR / "bin" / "gorox")

CONFIG = """\
drain_timeout: 10s
webapps:
  one:
    hostnames: ["*"]
    rules:
      - return_code: 200
        return_text: first
servers:
  main: {type: httpx_server, address: "127.0.0.1:0", webapps: [one]}
"""

TRICKS = '''\
"""A handlet that does what is asked of it, good or bad."""

import ctypes
import os
import time

import gevent

from hemi.web.handlet import Handlet

KEPT = []


class Tricks(Handlet, sign="tricks"):
    """Does what the path says."""

    def handle(self, req, resp):
        word = req.path[1:]
        if word == "pid":
            resp.send(str(os.getpid()))
        elif word == "uid":
            resp.send(f"{os.getuid()}:{os.getgid()}:{sorted(os.getgroups())}")
        elif word == "block":
            culprit_of_the_block(float(req.query("s", "10")))
            resp.send("unblocked")
        elif word == "hold":
            culprit_that_holds_the_lock(int(req.query("s", "10")))
            resp.send("let go")
        elif word == "slow":
            gevent.sleep(float(req.query("s", "1")))
            resp.send("done at last")
        elif word == "leak":
            KEPT.append(bytearray(os.urandom(4096)) * 256)
            resp.send(str(os.getpid()))
        elif word == "exit":
            os._exit(int(req.query("code", "3")))
        else:
            resp.send("first")
        return True


def culprit_that_holds_the_lock(seconds):
    """Waits in C without giving up the interpreter's lock: no other thread runs."""
    ctypes.PyDLL(None).sleep(seconds)


def culprit_of_the_block(seconds):
    """Computes, and lets nobody else run."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))
'''

TRICKY = CONFIG.replace("drain_timeout", "extensions: [tricks]\ndrain_timeout").replace(
    "return_code: 200\n        return_text: first", "handlets: tricks"
)


class Leader(GoroxProcess):
    """A leader in the foreground, with its workers."""

    def __init__(self, folder: Path, config: str | None, *arguments: str, **options: Any) -> None:
        command = [sys.executable, GOROX, "--top-dir", str(folder), "--config", str(folder / "test.yaml")]
        (folder / "tricks.py").write_text(TRICKS)
        options["env"] = {"PYTHONPATH": str(folder), **options.get("env", {})}
        super().__init__(folder, config, *arguments, command=command, **options)

    def workers(self) -> list[int]:
        """The process ids of the workers, as the log tells them: those that got ready and are still there."""
        pids = re.findall(r"worker \d+ is ready \(process (\d+)\)", self.log())
        return [int(pid) for pid in pids if not gone(int(pid))]

    def wait_workers(self, count: int, timeout: float = 20) -> list[int]:
        """Waits until there are so many ready workers."""
        assert until(lambda: len(self.workers()) == count, timeout), self.log()
        return self.workers()

    def wait_log(self, text: str, count: int = 1, timeout: float = 20) -> None:
        """Waits until the log has a text (at least so many times)."""
        assert until(lambda: self.log().count(text) >= count, timeout), f"{text!r} is not in: {self.log()}"

    def fetch(self, path: str = "/") -> str:
        """One exchange on a connection of its own."""
        with self.client() as client:
            return client.request("GET", path, close=True).text

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Ends it by a signal."""
        self.signal(signum)
        return self.wait()


class Load:
    """Clients that ask all the time, over kept connections and over new ones; every failure is noted."""

    def __init__(self, address: str, kept: int = 4, fresh: int = 2, good: str = "first|answer.*") -> None:
        self.address = address
        self.good = re.compile(good)
        self.count = 0
        self.failures: list[str] = []
        self._done = gevent.event.Event()
        self._askers = [gevent.spawn(self._run, self._keep_asking) for _ in range(kept)]
        self._askers += [gevent.spawn(self._run, self._ask_anew) for _ in range(fresh)]

    def _run(self, ask: Callable[[], None]) -> None:
        while not self._done.is_set():
            try:
                ask()
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _ask(self, client: Client, close: bool) -> bool:
        answer = client.request("GET", "/", close=close)
        if answer.status != 200 or not self.good.fullmatch(answer.text):
            self.failures.append(f"{answer.status} {answer.text[:100]}")
        self.count += 1
        return answer.header("connection") != "close"

    def _keep_asking(self) -> None:
        with Client(self.address) as client:
            while self._ask(client, False) and not self._done.is_set():
                pass

    def _ask_anew(self) -> None:
        with Client(self.address) as client:
            self._ask(client, True)

    def stop(self) -> None:
        """Ends the load."""
        self._done.set()
        gevent.joinall(self._askers, timeout=15)


def kill_hard(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)
