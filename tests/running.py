"""Running what is tested: stages in this process, gorox as a process, and programs that may be missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

import hemi.builtin  # noqa: F401
from hemi.config import load_text
from hemi.procmgr.stages import StageKeeper
from hemi.server import Server
from hemi.source import Dirs
from hemi.stage import Stage
from tests.client import Client

TOP_DIR = Path(__file__).resolve().parents[1]


def require_program(name: str, package: str) -> str:
    """Returns the path of a program. Without it the test is skipped, in CI it fails: CI installs what tests need."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        text = f"{name} is missing (Debian, Ubuntu: apt install {package})"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return path


def until(condition: Callable[[], Any], timeout: float = 30) -> Any:
    """Waits until a condition is true and returns what it said; after timeout seconds what it said last."""
    deadline = time.monotonic() + timeout
    while not (result := condition()) and time.monotonic() < deadline:
        gevent.sleep(0.005)
    return result


def dirs_below(folder: Path) -> Dirs:
    """Makes the four directories of a stage below a folder."""
    paths = [folder, folder / "log", folder / "tmp", folder / "var"]
    for path in paths:
        path.mkdir(exist_ok=True)
    return Dirs(*(str(path) for path in paths))


class Served:
    """A stage that serves in this process."""

    def __init__(self, text: str, dirs: Dirs, debug: int = 0) -> None:
        self.text = text
        self.dirs = dirs
        self.debug = debug
        self.keeper = StageKeeper(self._build)
        self.keeper.start()

    def _build(self) -> Stage:
        return load_text(self.text, self.dirs, "test.yaml", debug=self.debug)

    @property
    def stage(self) -> Stage:
        """The stage that serves now."""
        assert self.keeper.current is not None
        return self.keeper.current

    def server(self, name: str = "") -> Server:
        """The server of that name, default: the first one."""
        servers = self.stage.members["servers"]
        server = servers[name] if name else next(iter(servers.values()))
        assert isinstance(server, Server)
        return server

    def url(self, path: str = "/", server: str = "") -> str:
        """A URL of a server, at its first address."""
        return self.server(server).urls()[0].rstrip("/") + path

    def address(self, server: str = "") -> str:
        """The first address that a server is bound to: "127.0.0.1:34567" or a path."""
        return self.server(server).addresses[0]

    def client(self, server: str = "", timeout: float = 10, **options: Any) -> Client:
        """Connects a raw client to a server's first address."""
        return Client(self.address(server), timeout=timeout, **options)

    def get(
        self, path: str = "/", *fields: str, method: str = "GET", host: str = "localhost", server: str = ""
    ) -> Any:
        """One exchange on a connection of its own; returns the client's Answer."""
        with self.client(server) as client:
            return client.request(method, path, *fields, host=host, close=True)

    def reload(self, text: str | None = None) -> None:
        """Reloads, with another configuration if one is given."""
        if text is not None:
            self.text = text
        self.keeper.reload()

    def close(self, grace: float = 0.0) -> None:
        """Stops the stage; requests in flight have `grace` seconds."""
        self.keeper.stop(time.monotonic() + grace)


def serve_text(text: str, dirs: Dirs, **options: Any) -> Served:
    """Serves a configuration in this process."""
    return Served(text, dirs, **options)


class GoroxProcess:
    """bin/gorox, run with a configuration (a text; None: none is given), its output in files."""

    def __init__(
        self,
        folder: Path,
        config: str | None,
        *arguments: str,
        command: list[str] | None = None,
        wait: bool = True,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.folder = folder
        self.config = folder / "test.yaml"
        options = ["--single", "--top-dir", str(folder)]
        if config is not None:
            self.config.write_text(config)
            options += ["--config", str(self.config)]
        self.out = folder / "stdout.txt"
        self.err = folder / "stderr.txt"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*(command or [sys.executable, str(TOP_DIR / "bin" / "gorox"), *options]), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd or folder,
                env={**os.environ, **(env or {})},
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout: float = 20) -> None:
        """Waits until it told the addresses of its servers."""
        until(lambda: self.urls() or self.process.poll() is not None, timeout)
        assert self.urls(), f"not up: {self.out.read_text()}{self.err.read_text()}"

    def urls(self) -> list[str]:
        """The URLs that it printed."""
        return [
            url
            for line in re.findall(r'^gorox: server ".*" at (.*)\n', self.out.read_text(), re.M)
            for url in line.split(" and ")
        ]

    @property
    def url(self) -> str:
        """The first URL, without a slash at the end."""
        return self.urls()[0].rstrip("/")

    @property
    def address(self) -> str:
        """The first server's host and port."""
        return self.url.partition("://")[2]

    def client(self, timeout: float = 10) -> Client:
        """Connects a raw client to the first address."""
        return Client(self.address, timeout=timeout)

    def signal(self, signum: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(signum)

    def wait(self, timeout: float = 20) -> int:
        """Waits for its end, and returns its exit code."""
        return self.process.wait(timeout)

    def log(self) -> str:
        """What it wrote to stderr, where the error log goes by default."""
        return self.err.read_text()

    def kill(self) -> None:
        """Kills it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def run(command: list[str], timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, and returns its exit code and its output as text."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",  # pip and its helpers write over each other now and then
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
