"""The crew: the workers of an instance, kept alive.

Forks them, hears what they say, reaps them, and decides what follows: start again at once after a crash, back off
when they crash again and again, give up in the end. Kills those that hang, and those that do not stop in time.
Who is to be replaced, and when, is the leader's decision (`hemi.procmgr.leader`).
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hemi.binding import ListenOptions, Target
from hemi.procmgr.admconn import AdmConn, Door
from hemi.procmgr.board import Board
from hemi.procmgr.child import Child, backoff, describe_exit
from hemi.procmgr.framedconn import FramedConn
from hemi.procmgr.listening import Listening, key_text
from hemi.procmgr.log import Log
from hemi.procmgr.loop import Loop
from hemi.procmgr.messages import Message
from hemi.procmgr.settings import Settings
from hemi.procmgr.stock import Stock
from hemi.procmgr.vitals import Vitals, count_oom_kills

__all__ = ["Crew", "Seat"]

MOST_DATAGRAM = 256 << 10
STOP_GRACE = 1.5
"""Seconds that a worker has to stop at once before it is killed."""

TELL_GRACE = 0.3
"""Seconds that a worker has to tell where it is before it is killed."""

DRAIN_GRACE = 2.0
"""Seconds beyond drain_timeout for what follows the drain, such as the exit handlers of an application."""


@dataclass(slots=True)
class Seat:
    """What a worker gets to know by the fork."""

    number: int
    slot: int
    """Its place on the board."""
    key: str
    door: tuple[str, int]
    lifeline: int = -1
    """Descriptor of its end of the socketpair that carries descriptors, heartbeats and stacks."""
    inherited: dict[str, int] = field(default_factory=dict)
    """The descriptors of the listening sockets, by key."""


class Lifeline:
    """The leader's end of the socketpair to a worker."""

    def __init__(self, sock: socket.socket, key: str) -> None:
        self.sock = sock
        self.key: str = key
        """What the worker will show on admConn; empty once it has."""


class Crew:
    """The workers. `become(seat)` turns a forked child into a worker and never returns."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        listening: Listening,
        board: Board,
        stock: Stock,
        become: Callable[[Seat], None],
    ) -> None:
        self.loop = loop
        self.log = log
        self.listening = listening
        self.become = become
        self.settings = Settings()
        self.children: list[Child] = []
        self.wanted = 1
        """How many workers there should be."""
        self.booting = True
        """No worker has served yet: a failure is told by who starts the instance."""
        self.leaving = False
        """Nothing is started again any more."""
        self.on_stranger: dict[int, Callable[[int], None]] = {}
        """Whom to tell the status of other processes of ours, by pid."""
        self.log_order = ""
        """The least level of the error log that operators have ordered, "" for none."""
        self.door = Door(loop, self._welcome, log.warning)
        self.restarts = 0
        self.stock = stock
        self.board = board
        self._lifelines: dict[Child, Lifeline] = {}
        self._candidates: set[Child] = set()
        self._successors: dict[Child, Child] = {}
        self._oom_kills = count_oom_kills()
        self._vitals = Vitals()

    def __repr__(self) -> str:
        return f"<Crew wanted={self.wanted} {self.children}>"

    # Who is there

    def alive(self) -> list[Child]:
        """The children that have a process."""
        return [child for child in self.children if child.alive]

    def ready(self) -> list[Child]:
        """The children that serve."""
        return [child for child in self.children if child.state == "ready"]

    def lasting(self) -> list[Child]:
        """The children that are not on their way out."""
        return [child for child in self.children if child.state not in ("draining", "stopping")]

    def settled(self) -> bool:
        """True when no child is on its way in or out."""
        return not any(
            child.state in ("new", "starting", "draining", "stopping", "backing off")
            for child in self.children
        )

    def free_number(self) -> int:
        """The lowest number that no lasting child has."""
        taken = {child.number for child in self.lasting()}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    # Starting

    def add(self, number: int | None = None, candidate: bool = False, replaces: Child | None = None) -> Child:
        """Starts a worker. A candidate is not started again when it fails: who asked for it looks at it."""
        child = Child(number or self.free_number())
        self.children.append(child)
        if candidate:
            self._candidates.add(child)
        if replaces is not None:
            self._successors[replaces] = child
        self._launch(child)
        return child

    def confirm(self, child: Child) -> None:
        """Makes a candidate a child like the others."""
        self._candidates.discard(child)
        self.take_settings(child.told.get("settings") or {})
        for old in [old for old, new in self._successors.items() if new is child]:
            if old not in self.children:
                del self._successors[old]

    def dismiss(self, child: Child) -> None:
        """Takes back a candidate that failed or is not needed."""
        for old in [old for old, new in self._successors.items() if new is child]:
            del self._successors[old]
            if (
                old not in self.children and not self.leaving
            ):  # it went meanwhile, and counted on the candidate
                self.add(old.number)
        self.stop(child, "not needed")

    def _launch(self, child: Child) -> None:
        child.slot = self.board.take({each.slot for each in self.alive()})
        seat = Seat(child.number, child.slot, secrets.token_urlsafe(24), self.door.address)
        try:
            pid, ours = self.stock.take_worker(seat) or self._fork(seat)
        except OSError as error:
            child.move("fork")
            self._gone(child, f"cannot be forked: {error.strerror}", 22)
            return
        line = Lifeline(ours, seat.key)
        child.pid = pid
        child.conn = None
        child.keys.clear()
        child.report, child.vitals, child.told, child.thresholds = {}, {}, {}, {}
        child.verdict = ""
        child.start_timeout = 0.0
        child.blocked_for = 0.0
        child.beat_at = time.monotonic()
        child.move("fork")
        self._lifelines[child] = line
        self.loop.watch(ours, selectors.EVENT_READ, lambda: self._hear(child, line))
        self.log.debug(f"worker {child.number} is process {pid}")

    def _fork(self, seat: Seat) -> tuple[int, socket.socket]:
        """Forks a worker; returns its process id and our end of its lifeline. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        seat.lifeline = theirs.fileno()
        seat.inherited = {key: held.sock.fileno() for key, held in self.listening.held.items()}
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            self.become(seat)
            os._exit(20)
        theirs.close()
        return pid, ours

    def retry(self, child: Child) -> None:
        """Starts again what waits or was given up."""
        if not self.leaving and child in self.children and child.can("fork"):
            child.failures = 0 if child.state == "failed" else child.failures
            self._launch(child)

    # Hearing

    def _welcome(self, conn: FramedConn, matches: Callable[[str], bool]) -> bool:
        """Lets a worker in that shows its key."""
        for child, line in self._lifelines.items():
            if line.key and child.state == "starting" and matches(line.key):
                line.key = ""
                conn.trust()
                child.conn = AdmConn(conn, partial(self._event, child), partial(self._lost, child))
                conn.send({"welcome": child.number})
                return True
        return False

    def _lost(self, child: Child, reason: str) -> None:
        """A worker whose admConn ended stops by itself; one that doesn't is killed."""
        child.conn = None
        pid = child.pid
        self.loop.after(STOP_GRACE, lambda: self._kill_if(child, pid, f"its admConn ended: {reason}"))

    def _event(self, child: Child, message: Message) -> None:
        name = message["event"]
        if name == "ready" and child.can("ready"):
            child.told = message
            child.beat_at = time.monotonic()
            child.keys = set(message.get("keys", ()))
            given = message.get("settings") or {}
            its_own = self.settings.updated(given)
            if self.booting or child not in self._candidates:  # a candidate may still be dismissed
                self.take_settings(given)
            child.thresholds = its_own.thresholds()
            child.move("ready")
            if self.log_order and child.conn is not None and its_own.log_level == self.settings.log_level:
                child.conn.order("log", {"level": self.log_order})
            self.log.info(f"worker {child.number} is ready (process {child.pid})")
        elif name == "checked":
            given = message.get("settings") or {}
            child.start_timeout = float(given.get("start_timeout", 0.0))
            if self.booting:
                self.take_settings(given)
        elif name == "unbootable":
            child.told = message
        elif name == "keys":
            child.keys = set(message.get("keys", ()))
            self.release_unused()

    def take_settings(self, given: dict[str, Any]) -> None:
        """Notes what the configuration says about processes."""
        before, self.settings = self.settings, self.settings.updated(given)
        if self.settings.log_level != before.log_level:
            self.log_order = ""  # who writes another level into the configuration wants that one

    def release_unused(self) -> None:
        """Closes listening sockets that no stage names any more; only while no worker is on its way in."""
        if (
            self.ready()
            and not self.leaving
            and not any(child.state == "starting" or child.may_listen for child in self.children)
        ):
            self.listening.release(key for child in self.alive() for key in child.keys)

    def _hear(self, child: Child, line: Lifeline) -> None:
        """Reads all that a worker has sent over its lifeline."""
        while True:
            try:
                data = line.sock.recv(MOST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.loop.unwatch(line.sock)
                return
            try:
                message = json.loads(data)
            except ValueError:
                continue
            if "beat" in message:
                child.beat_at = time.monotonic()
                child.blocked_for = 0.0
                child.report = message["beat"]
            elif "blocked" in message:
                self._is_blocked(child, float(message["blocked"]), str(message.get("stack", "")))
            elif "listen" in message:
                self._lend(child, line, message)

    def _lend(self, child: Child, line: Lifeline, message: Message) -> None:
        """Answers a worker that asks for a listening socket. Only while it starts or reloads has it reason to."""
        key = key_text((str(message["listen"][0]), str(message["listen"][1])))
        if child.state != "starting" and not child.may_listen:
            self._reply(line, {"error": "it is not the time to ask for sockets"})
            return
        try:
            sock = self.listening.get(
                key,
                str(message.get("owner", "")),
                Target(*message["target"]),
                ListenOptions(*message["options"]),
            )
        except OSError as error:
            self._reply(line, {"error": error.strerror or str(error), "errno": error.errno})
            return
        child.keys.add(key)
        self._reply(line, {"family": sock.family}, sock.fileno())

    def _reply(self, line: Lifeline, message: Message, *descriptors: int) -> None:
        try:
            socket.send_fds(line.sock, [json.dumps(message).encode()], list(descriptors))
        except OSError as error:
            self.log.warning(f"a worker cannot be answered: {error.strerror}")

    # Ending

    def drain(self, child: Child, reason: str) -> None:
        """Has a worker finish what it has begun, and end. Idempotent."""
        if self._tell_to_end(child, "drain", reason, "quit", signal.SIGTERM):
            self._give_time(child, self.settings.drain_timeout + DRAIN_GRACE, "it did not end in time")

    def stop(self, child: Child, reason: str) -> None:
        """Has a worker end at once. Idempotent."""
        if self._tell_to_end(child, "stop", reason, "stop", signal.SIGKILL):
            self._give_time(child, STOP_GRACE, "it did not stop in time")

    def _tell_to_end(self, child: Child, move: str, reason: str, order: str, number: signal.Signals) -> bool:
        """Moves a worker, and gives it the order where it can hear it, or else the signal. False where nothing is to be
        waited for."""
        if not child.can(move):
            return False
        had_process = child.alive
        child.move(move, reason)
        if not had_process:
            self._forget(child)
            return False
        if child.conn is not None:
            child.conn.order(order)
        else:
            self._signal(child, number)
        return True

    def _give_time(self, child: Child, seconds: float, complaint: str) -> None:
        pid = child.pid
        self.loop.after(seconds, lambda: self._kill_if(child, pid, complaint))

    def kill(self, child: Child, verdict: str, dump: bool = False) -> None:
        """Kills a worker, and says why. With `dump` it gets the chance to write down all stacks (SIGABRT) first."""
        child.verdict = verdict
        self.log.error(f"worker {child.number} (process {child.pid}) is killed: {verdict}")
        if not dump:
            self._signal(child, signal.SIGKILL)
            return
        self._signal(child, signal.SIGABRT)
        self._give_time(child, STOP_GRACE, verdict)

    def _give_up_on(self, child: Child, verdict: str) -> None:
        """Kills a worker that does not get ready; first it can tell where it is, if something there waits by gevent."""
        child.verdict = verdict
        call = child.conn.order("where") if child.conn is not None else None
        pid = child.pid

        def kill() -> None:
            if child.alive and child.pid == pid:
                if call is not None and call.result:
                    self.log.error(f"worker {child.number} (process {pid}) is here:\n{call.result['stack']}")
                self.kill(child, verdict, dump=True)

        self.loop.after(TELL_GRACE, kill)

    def _kill_if(self, child: Child, pid: int, verdict: str) -> None:
        if child.alive and child.pid == pid:
            self.kill(child, verdict)

    def _signal(self, child: Child, signum: int) -> None:
        try:
            os.kill(child.pid, signum)
        except ProcessLookupError:
            pass

    def reap(self) -> None:
        """Takes the statuses of all ended processes, strangers' too (as process 1 of a container)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = next((child for child in self.children if child.pid == pid and child.alive), None)
            if child is not None:
                self._ended(child, status)
                continue
            self.stock.note_end(pid)
            if pid in self.on_stranger:
                self.on_stranger.pop(pid)(status)

    def _ended(self, child: Child, status: int) -> None:
        line = self._lifelines.get(child)
        if line is not None:
            self._hear(child, line)
            del self._lifelines[child]
            self.loop.unwatch(line.sock)
            line.sock.close()
        self.board.clear(child.slot)
        conn, child.conn = child.conn, None
        if conn is not None:
            conn.drain()
        text = describe_exit(status)
        oom_kills = count_oom_kills()
        if oom_kills > self._oom_kills and os.WIFSIGNALED(status) and not child.verdict:
            text = f"{text}: out of memory"
        self._oom_kills = oom_kills
        self._vitals.forget(child.pid)
        self._gone(
            child, f"{child.verdict}: {text}" if child.verdict else text, os.waitstatus_to_exitcode(status)
        )

    def _gone(self, child: Child, text: str, code: int) -> None:
        """Decides what follows the end of a process."""
        was = child.state
        child.exit_code = code
        child.move("exit", text)
        if was in ("draining", "stopping") or self.leaving:
            self.log.info(f"worker {child.number} (process {child.pid}) has gone: {text}")
            self._forget(child)
            return
        if self.booting:
            self._forget(child)
            return
        self.log.error(f"worker {child.number} (process {child.pid}) was lost: {text}")
        for problem in child.told.get("problems", ()) if was == "starting" else ():
            self.log.error(problem)
        successor = self._successors.get(child)
        if child in self._candidates or (successor is not None and successor.state in ("starting", "ready")):
            self._forget(child)
            return
        failures = child.note_failure()
        self.restarts += 1
        if failures >= self.settings.start_attempts:
            child.move("give up", f"{failures} failures in a row, the last: {text}")
            self.log.error(f"worker {child.number} has failed: {child.reason}")
            return
        delay = backoff(failures)
        if not delay:
            self._launch(child)
            return
        child.move("back off", text)
        self.loop.after(delay, lambda: self._retry_after(child))

    def _retry_after(self, child: Child) -> None:
        if child.state == "backing off":
            self.retry(child)

    def _forget(self, child: Child) -> None:
        self.children.remove(child)
        if child in self._candidates:
            self._candidates.discard(child)
        elif child in self._successors and self._successors[child] not in self._candidates:
            del self._successors[child]
        if not self.leaving:
            self.release_unused()

    # Watching

    def _is_blocked(self, child: Child, seconds: float, stack: str) -> None:
        child.beat_at = time.monotonic()
        child.blocked_for = seconds
        who = f"worker {child.number} (process {child.pid})"
        if stack and child.state != "starting":  # to import an application may well take a while
            self.log.warning(f"the hub of {who} has been blocked for {seconds:.1f} s by:\n{stack.rstrip()}")
        limit = self.settings.hang_timeout
        if limit and seconds >= limit and child.state in ("ready", "draining") and not child.verdict:
            self.kill(child, f"its hub was blocked for {seconds:.1f} s")

    def look(self) -> Iterator[tuple[Child, str]]:
        """Looks at all workers; yields those that should be replaced, with the reason. To be called every second."""
        now = time.monotonic()
        settings = self.settings
        for child in self.alive():
            child.vitals = self._vitals.of(child.pid)
            silent = now - child.beat_at
            if child.verdict:
                continue
            limit = child.start_timeout or settings.start_timeout
            if child.state == "starting" and now - child.since > limit:
                self._give_up_on(child, f"it was not ready after {limit:g} s")
            elif (
                child.state in ("ready", "draining")
                and settings.hang_timeout
                and silent > settings.hang_timeout
            ):
                self.kill(child, f"it gave no sign of life for {silent:.1f} s", dump=True)
            elif child.state == "ready":
                reason = settings.exceeded(child, now)
                if reason:
                    yield child, reason

    def close(self) -> None:
        """Gives the sockets back."""
        self.door.close()
        for line in self._lifelines.values():
            self.loop.unwatch(line.sock)
            line.sock.close()
        self._lifelines.clear()
