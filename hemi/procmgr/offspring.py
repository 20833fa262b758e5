"""What a forked child of the leader does first: it sheds what is the leader's, then becomes a worker or a check.

None of these functions returns into the leader's code.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import NoReturn

from hemi.errors import EXIT_CRASH, ConfigError, HemiError
from hemi.procmgr.board import Board
from hemi.procmgr.crew import Seat
from hemi.procmgr.loop import Loop
from hemi.procmgr.options import Options
from hemi.procmgr.patching import patch
from hemi.procmgr.privileges import Identity, drop
from hemi.procmgr.program import Program
from hemi.procmgr.stock import await_order

__all__ = ["become_check", "become_spare", "become_worker", "shed"]

_IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


def shed(loop: Loop, keep: Iterable[int]) -> None:
    """Closes every descriptor but these and the standard ones, and forgets the leader's signal handlers.

    The leader's objects live on below us on the stack, with the numbers of closed descriptors; nobody touches them.
    """
    # Ignored by a handler: SIG_IGN would be inherited by programs that the user's code runs.
    loop.forget_signals(lambda signum: (lambda *_: None) if signum in _IGNORED else signal.SIG_DFL)
    lowest = 3
    for descriptor in sorted(keep):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))


def _leave_home(loop: Loop, identity: Identity | None, keep: list[int]) -> None:
    """What every child does first: it gives up what is the leader's, but for some descriptors, and patches."""
    os.setsid()  # a session of its own: Ctrl-C at the terminal is for the leader, which says what is to be done
    shed(loop, keep)
    drop(identity)
    patch()


def become_worker(
    loop: Loop, program: Program, options: Options, identity: Identity | None, board: Board, seat: Seat
) -> NoReturn:
    """Runs a worker, and ends the process with its exit code."""
    code = EXIT_CRASH
    try:
        _leave_home(loop, identity, [seat.lifeline, *seat.inherited.values()])
        code = _work(program, options, board, seat)
    except HemiError as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    _leave(code)


def become_check(
    loop: Loop, program: Program, options: Options, identity: Identity | None, writer: int
) -> NoReturn:
    """Loads the configuration as a worker would, and writes what came of it, as JSON, to the descriptor."""
    try:
        _leave_home(loop, identity, [writer])
        _check(program, options, writer)
    except BaseException:
        traceback.print_exc()
    _leave(0)


def become_spare(
    loop: Loop, program: Program, options: Options, identity: Identity | None, board: Board, lifeline: int
) -> NoReturn:
    """Imports the engine, waits for what to become, and becomes that."""
    code = EXIT_CRASH
    try:
        _leave_home(loop, identity, [lifeline])
        import hemi.procmgr.worker  # noqa: F401

        for module in program.components:
            importlib.import_module(module)
        order, passed = await_order(lifeline)
        if order["become"] == "check":
            code = 0
            _check(program, options, passed)
        else:
            seat = Seat(**order["seat"])
            seat.lifeline = lifeline
            host, port = seat.door  # JSON made a list of the pair
            seat.door = (host, port)
            code = _work(program, options, board, seat)
    except HemiError as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    _leave(code)


def _work(program: Program, options: Options, board: Board, seat: Seat) -> int:
    from hemi.procmgr.worker import run

    return run(program, options, board, seat)


def _check(program: Program, options: Options, writer: int) -> None:
    answer: dict[str, object] = {"error": "the check crashed", "details": []}
    try:
        from hemi.procmgr.settings import settings_of
        from hemi.procmgr.single import build

        answer = {"settings": settings_of(build(program, options))}
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
        answer = {"error": f"{len(problems)} problem(s) in the configuration", "details": problems}
    except HemiError as error:
        answer = {"error": str(error), "details": []}
    except BaseException:
        answer["details"] = traceback.format_exc().splitlines()
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(writer, data) :]


def _leave(code: int) -> NoReturn:
    """Ends the process, after the exit handlers of the user's code."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        pass
    os._exit(code)
