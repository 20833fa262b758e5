"""A worker: the process that serves. Takes its orders from its leader over admConn, and stops when that ends.

Imported after gevent has patched, in a process that the leader has just forked (`hemi.procmgr.leader.become`): the
engine and the user's code are loaded here and nowhere else. The orders are in `hemi.procmgr.orders`.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket
from gevent.event import AsyncResult
from gevent.lock import RLock

import hemi.acceptor
import hemi.listeners
from hemi.binding import ListenOptions
from hemi.errors import EXIT_CRASH, EXIT_STOP, BugError, ConfigError, EnvError, HemiError
from hemi.procmgr import profiles  # noqa: F401  it registers orders
from hemi.procmgr.board import Board, Turn
from hemi.procmgr.crew import Seat
from hemi.procmgr.figures import Meters
from hemi.procmgr.lifeline import Lifeline
from hemi.procmgr.listening import key_text
from hemi.procmgr.messages import Decoder, Message, MessageError, encode
from hemi.procmgr.options import Options
from hemi.procmgr.orders import ORDERS
from hemi.procmgr.program import Program
from hemi.procmgr.settings import settings_of
from hemi.procmgr.single import accepting, addresses, build, raise_file_limit
from hemi.procmgr.stages import StageKeeper
from hemi.procmgr.watchdog import Watchdog
from hemi.stage import Stage

if TYPE_CHECKING:
    from hemi.logger import Level

__all__ = ["Worker"]

ORPHAN_DRAIN = 1.0
"""Seconds that requests in flight have when the leader has gone."""


class Worker:
    """The worker process. `serve` returns its exit code."""

    def __init__(self, program: Program, options: Options, board: Board, seat: Seat) -> None:
        self.program = program
        self.options = options
        self.seat = seat
        self.lifeline = Lifeline(seat.lifeline, seat.inherited)
        self.keeper = StageKeeper(self._build)
        self.watchdog = Watchdog(self.lifeline, self.figures)
        self.started = time.time()
        self.meters = Meters()
        self.log_order: tuple[Level, str] | None = None
        """The least level of the error log that operators have ordered, and the configuration's at that time."""
        self._served_before = 0
        self._ended: AsyncResult[int] = AsyncResult()
        self._sending = RLock()
        self._sock: Any = None
        self.turn = Turn(board, seat.slot, self.conns)
        hemi.listeners.provider = self.lifeline.take
        hemi.acceptor.turn = self.turn
        hemi.listeners.share = seat.number

    def __repr__(self) -> str:
        return f"<Worker {self.seat.number} {self.keeper!r}>"

    def serve(self) -> int:
        """Begins, tells the leader, and serves until an order or a signal ends it."""
        faulthandler.enable()
        raise_file_limit()
        self._dial()
        self.watchdog.start()
        gevent.spawn(self._obey)
        gevent.signal_handler(signal.SIGTERM, self.quit)
        self.turn.waiting = True
        try:
            self.keeper.start()
        except HemiError as error:
            return self._cannot_begin(error)
        self.turn.waiting = False
        self.lifeline.close_rest()
        stage = self.keeper.current
        assert stage is not None
        self.note_stage(stage)
        self.turn.open = True
        self.watchdog.beat()
        self.send(
            {
                "event": "ready",
                "lines": addresses(stage),
                "keys": self.keys(),
                "wishes": self.wishes(),
                "settings": settings_of(stage),
            }
        )
        return int(self._ended.get() or 0)

    def _build(self) -> Stage:
        stage = build(
            self.program,
            self.options,
            lambda seconds: self.send({"event": "checked", "settings": {"start_timeout": seconds}}),
        )
        self.send({"event": "checked", "settings": settings_of(stage)})
        return stage

    def _cannot_begin(self, error: HemiError) -> int:
        problems = (
            [str(each) for each in error.problems]
            if isinstance(error, ConfigError)
            else [f"{self.program.name}: {error}"]
        )
        self.send({"event": "unbootable", "code": error.exit_code, "problems": problems})
        return error.exit_code

    def note_stage(self, stage: Stage) -> None:
        """Has the watchdog and the log follow the configuration that serves now."""
        if self.log_order is not None:
            level, configured = self.log_order
            if stage.log_level == configured:
                stage.log.level = level
            else:
                self.log_order = None
        self.watchdog.set_limit(stage.hang_timeout)
        self.watchdog.log = lambda text: stage.log.error("watchdog", text)

    def note_end_of(self, stage: Stage) -> None:
        """Takes over the count of a stage that has retired, and tells the leader which sockets are left."""
        self.meters.retire(stage)
        self._served_before += sum(server.requests for server in accepting(stage))
        self.tell_keys()

    def tell_keys(self) -> None:
        """Tells the leader which sockets the stages name now."""
        self.send({"event": "keys", "keys": self.keys()})

    # What the leader is told

    def keys(self) -> list[str]:
        """The listening sockets that the stages name."""
        return [key_text(key) for key in hemi.listeners.listening_keys()]

    def wishes(self) -> dict[str, ListenOptions]:
        """How the stage that was prepared last wants its listening sockets to be."""
        return {key_text(key): options for key, options in hemi.listeners.wishes.items()}

    def stages(self) -> list[Stage]:
        """The stages that are alive, the one that serves first."""
        current = [self.keeper.current] if self.keeper.current is not None else []
        return [*current, *self.keeper.draining]

    def conns(self) -> int:
        """How many connections are open."""
        return sum(server.conns for stage in self.stages() for server in accepting(stage))

    def figures(self) -> dict[str, Any]:
        """Numbers about this worker, cheap to make: they go to the leader every second."""
        self.turn.note()
        servers = [server for stage in self.stages() for server in accepting(stage)]
        return {
            "conns": self.conns(),
            "requests": self._served_before + sum(server.requests for server in servers),
            "stages": len(self.stages()),
            "reloads": self.keeper.reloads,
        }

    # admConn

    def _dial(self) -> None:
        self._sock = gevent.socket.create_connection(self.seat.door, timeout=10.0)
        self._sock.settimeout(None)
        self._sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        self.send({"hello": self.seat.key})
        self._decoder = Decoder()
        if "welcome" not in self._receive()[0]:
            raise BugError("the leader does not welcome its worker")

    def send(self, message: Message) -> None:
        """Sends a message to the leader; when it has gone, the worker ends soon anyway."""
        try:
            frame = encode(message)
        except MessageError as error:
            frame = encode({"answer": message.get("answer", 0), "error": str(error)})
        with self._sending:
            try:
                self._sock.sendall(frame)
            except OSError:
                pass

    def _receive(self) -> list[Message]:
        """Waits for messages. Raises EOFError when the leader has gone."""
        while True:
            try:
                data = self._sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise EOFError("the leader has gone")
            messages = self._decoder.feed(data)
            if messages:
                return messages

    def _obey(self) -> None:
        """Carries out the orders as they come, each in a greenlet of its own."""
        try:
            while True:
                for message in self._receive():
                    gevent.spawn(self._carry_out, message)
        except EOFError:
            self.end(ORPHAN_DRAIN, EXIT_STOP)
        except MessageError as error:
            self.log_error(f"admConn is broken: {error}")
            self.end(ORPHAN_DRAIN, EXIT_STOP)

    def _carry_out(self, message: Message) -> None:
        number = message.get("id", 0)
        order = ORDERS.get(str(message.get("order")))
        answer: Message = {"answer": number}
        try:
            if order is None:
                raise EnvError(f"a worker knows no order {message.get('order')!r}")
            result = order(
                self, message.get("args") or {}, lambda data: self.send({"progress": number, **data})
            )
            answer["result"] = result or {}
        except ConfigError as error:
            answer["error"] = f"{len(error.problems)} problem(s) in the configuration"
            answer["details"] = [str(problem) for problem in error.problems]
        except HemiError as error:
            answer["error"] = str(error)
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
            answer["details"] = traceback.format_exc().splitlines()
        self.send(answer)

    def log_error(self, message: str) -> None:
        """Writes to the error log of the stage that serves."""
        if self.keeper.current is not None:
            self.keeper.current.log.error("worker", message)
        else:
            print(message, file=sys.stderr)

    # Ending

    def quit(self) -> None:
        """Ends when what was begun is done, or at drain_timeout."""
        self.end(self.keeper.drain_timeout, 0)

    def end(self, seconds: float, code: int) -> None:
        """Stops all stages within so many seconds, and ends with the code. A later call can only hurry it."""
        self.turn.close()
        try:
            self.keeper.stop(time.monotonic() + seconds)
        finally:
            self._ended.set(code)


def run(program: Program, options: Options, board: Board, seat: Seat) -> int:
    """The worker's life; returns its exit code."""
    try:
        return Worker(program, options, board, seat).serve()
    except HemiError as error:
        print(f"{program.name}: worker {seat.number}: {error}", file=sys.stderr)
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return EXIT_CRASH
