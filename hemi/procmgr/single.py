"""Single mode: one stage, served by this process in the foreground. For development, tests and embedding.

Import this after gevent has patched (`hemi.procmgr.main` does): it imports the engine.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import gevent
from gevent.event import Event

from hemi.config import Dirs, effective, load_file, load_text
from hemi.errors import EXIT_STOP, UsageError
from hemi.procmgr.options import Options
from hemi.procmgr.program import Program
from hemi.procmgr.stages import StageKeeper
from hemi.reference import help_sign, help_signs
from hemi.stage import Stage

__all__ = ["build", "check", "describe", "serve"]

EXIT_QUIT = 0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def build(program: Program, options: Options, begun: Callable[[float], None] | None = None) -> Stage:
    """Makes a stage of the configuration that the options name, or of the embedded one if there is none.

    `begun` is told start_timeout, if the file has one, before extensions and applications are imported.
    Raises ConfigError with all its problems, or UsageError if the file is missing.
    """
    for module in program.components:
        importlib.import_module(module)
    dirs = Dirs(options.top_dir, options.log_dir, options.tmp_dir, options.var_dir)
    path = os.path.join(options.top_dir, program.config_path)
    if options.config is not None:
        path = os.path.join(options.top_dir, options.config)
        if not os.path.isfile(path):
            raise UsageError(f"--config {options.config}: there is no such file below {options.top_dir}")
    elif not os.path.exists(path):
        if program.embedded is None:
            raise UsageError(
                f"there is no {program.config_path} below {options.top_dir}; name one with --config"
            )
        return load_text(program.embedded(), dirs, name=f"<{program.name}'s welcome>", debug=options.debug)
    return load_file(path, dirs, debug=options.debug, begun=begun)


def check(program: Program, options: Options) -> str:
    """Loads the configuration as `serve` does and returns what to tell: all is well, or the one in effect."""
    stage = build(program, options)
    if options.print:
        return effective(stage).rstrip("\n")
    return "the configuration is fine"


def describe(program: Program, sign: str) -> str:
    """Returns the help on the components of a sign, or what "signs" there are. Raises UsageError if there are none."""
    for module in program.components:
        importlib.import_module(module)
    return (help_signs() if sign == "signs" else help_sign(sign)).rstrip("\n")


def serve(program: Program, options: Options) -> int:
    """Serves until a signal ends it, and returns the exit code: 0 when drained, 10 when stopped at once."""
    raise_file_limit()
    keeper = StageKeeper(lambda: build(program, options))
    orders = _Orders()
    keeper.start()
    assert keeper.current is not None
    for line in addresses(keeper.current):
        print(f"{program.name}: {line}", flush=True)
    return _obey(keeper, orders)


def _obey(keeper: StageKeeper, orders: _Orders) -> int:
    """Carries out the signals as they come."""
    while True:
        order = orders.get()
        assert order is not None
        if order == signal.SIGHUP:
            keeper.request_reload()
        elif order == signal.SIGUSR1:
            keeper.reopen()
        else:
            break
    if order == signal.SIGTERM and _delay(keeper, orders):
        keeper.stop(time.monotonic())
        return EXIT_STOP
    stopping = gevent.spawn(keeper.stop, time.monotonic() + keeper.drain_timeout)
    stopping.link(lambda _: orders.put(0))
    while (order := orders.get()) in (signal.SIGHUP, signal.SIGUSR1):
        pass
    if order:
        keeper.stop(time.monotonic())
        return EXIT_STOP
    stopping.get()
    return EXIT_QUIT


def _delay(keeper: StageKeeper, orders: _Orders) -> bool:
    """Serves on for `shutdown_delay`, while readiness checks fail. True when another signal has hurried it."""
    assert keeper.current is not None
    deadline = time.monotonic() + keeper.current.shutdown_delay
    for stage in (keeper.current, *keeper.draining):
        stage.leaving = True
    while (left := deadline - time.monotonic()) > 0:
        if orders.get(left) in (signal.SIGTERM, signal.SIGINT):
            return True
    return False


class _Orders:
    """The signals that came in and wait to be carried out.

    The handlers are Python's own, so that they are called even while an application keeps the hub from running (as an
    endless loop does): the third request to end then ends the process where it is.
    """

    def __init__(self) -> None:
        self._queue: deque[int] = deque()
        self._ready = Event()
        self._ends = 0
        self._waker = gevent.get_hub().loop.async_()
        self._waker.start(self._ready.set)
        for signum in _SIGNALS:
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signum in (signal.SIGTERM, signal.SIGINT):
            self._ends += 1
            if self._ends > 2:
                os._exit(EXIT_STOP)
        self.put(signum)

    def put(self, signum: int) -> None:
        self._queue.append(signum)
        self._waker.send()

    def get(self, seconds: float | None = None) -> int | None:
        """Waits for the next one; None when there was none for so many seconds."""
        while not self._queue:
            self._ready.clear()
            if not self._ready.wait(seconds):
                return None
        return self._queue.popleft()


def raise_file_limit() -> None:
    """Raises the soft limit of open files to the hard one: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # "unlimited" above what the kernel allows: what we have must do
            print(f"the limit of open files stays {soft}", file=sys.stderr)


class Accepting(Protocol):
    """What accepts connections, as far as it is counted: servers, routers."""

    requests: int

    @property
    def conns(self) -> int: ...


def accepting(stage: Stage) -> list[Accepting]:
    """What accepts connections, or takes datagrams, in a stage."""
    found: list[Any] = [*stage.members["routers"].values(), *stage.members["servers"].values()]
    return [each for each in found if hasattr(each, "conns")]


def addresses(stage: Stage) -> list[str]:
    """Tells for each server and router where it listens: 'server "main" at http://localhost:3080/'."""
    listening = [
        (kind.removesuffix("s"), name, getattr(one, "urls", None))
        for kind in ("servers", "routers")
        for name, one in stage.members.get(kind, {}).items()
    ]
    return [
        f'{word} "{name}" at {" and ".join(urls())}' for word, name, urls in listening if urls is not None
    ]
