"""Programs for requests: how many may run at a time, one exchange with one of them, and their ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from signal import SIGKILL, SIGTERM
from time import monotonic
from typing import TYPE_CHECKING

import gevent
from gevent.lock import BoundedSemaphore

from hemi.web.cgi.answer import BadReply
from hemi.web.cgi.process import PipeWire, Process
from hemi.web.cgi.reply import Reply, ReplyRules
from hemi.web.cgi.wires import upload
from hemi.web.errors import CLIENT_LEFT, ClientGone, HTTPError
from hemi.web.proxy.spool import Spool, gather

if TYPE_CHECKING:
    from hemi.web.cgi.handlet import CGIHandlet
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["Command", "Programs", "Run"]

PATIENCE = 5.0
"""Seconds that a program may go on behind the end of its output."""

GRACE = 2.0
"""Seconds between asking a program to end and killing it."""

EXIT_WAIT = 0.2
"""Seconds to wait for the exit status of a program that has ended its output too early."""


class Command:
    """What to run: the file, its arguments with its name in front, and the working directory."""

    __slots__ = ("args", "folder", "path")

    def __init__(self, path: str, args: list[str], folder: str) -> None:
        self.path = path
        self.args = args
        self.folder = folder

    def __repr__(self) -> str:
        return f"<Command {self.path}>"


class Programs:
    """The programs that run, and the requests that wait for one of them to end."""

    def __init__(self, most: int, queue_size: int, queue_timeout: float) -> None:
        self.most = most
        self.queue_size = queue_size
        self.queue_timeout = queue_timeout
        self.running: set[Process] = set()
        self.waiting = 0
        self._slots = BoundedSemaphore(most)

    def __repr__(self) -> str:
        return f"<Programs running={len(self.running)}/{self.most} waiting={self.waiting}>"

    def start(
        self, command: Command, variables: dict[str, str], log: Callable[[str], None]
    ) -> Process | None:
        """Runs a program; None when too many run already. Raises OSError, ValueError when it cannot be run."""
        if not self._slots.acquire(blocking=False) and not self._wait():
            return None
        try:
            process = Process(command.path, command.args, variables, command.folder, log)
        except BaseException:
            self._slots.release()
            raise
        self.running.add(process)
        return process

    def _wait(self) -> bool:
        if self.waiting >= self.queue_size:
            return False
        self.waiting += 1
        try:
            return bool(self._slots.acquire(timeout=self.queue_timeout))
        finally:
            self.waiting -= 1

    def end(self, process: Process, kill: bool, log: Callable[[str], None]) -> None:
        """Sees to the end of a program, without waiting for it: its place is free when it has ended."""
        gevent.spawn(self._bury, process, kill, log)

    def _bury(self, process: Process, kill: bool, log: Callable[[str], None]) -> None:
        try:
            process.end(0 if kill else PATIENCE, GRACE)
            if process.failed and not kill:
                log(process.status)
        finally:
            self.running.discard(process)
            self._slots.release()

    def stop(self, deadline: float) -> None:
        """Asks the programs to end, and kills those that have not at the deadline; who waits for one sees its end."""
        running = list(self.running)
        for process in running:
            process.signal(SIGTERM)
        for process in running:
            if not process.wait(max(0.0, deadline - monotonic())):
                process.signal(SIGKILL)
                process.wait(GRACE)


class Run:
    """One exchange with a program."""

    __slots__ = (
        "_deadline",
        "_ended",
        "_handlet",
        "_head_deadline",
        "_programs",
        "_reply",
        "_req",
        "_resp",
        "_spool",
        "_title",
    )

    def __init__(
        self, handlet: CGIHandlet, programs: Programs, rules: ReplyRules, req: Request, resp: Response
    ) -> None:
        self._handlet = handlet
        self._programs = programs
        self._req = req
        self._resp = resp
        self._reply = Reply(req, resp, rules, self._warn)
        self._spool: Spool | None = None
        self._ended = False
        self._deadline = req.started + handlet.total_timeout if handlet.total_timeout else math.inf
        self._head_deadline = math.inf
        self._title = ""

    def __repr__(self) -> str:
        return f"<Run {self._title} {self._req!r}>"

    def run(
        self, command: Command, make_variables: Callable[[int], dict[str, str]], stream_vague: bool
    ) -> None:
        """Does it all. `make_variables` gets the size of the content. Raises HTTPError, ClientGone, SearchAgain."""
        handlet, req = self._handlet, self._req
        self._title = command.path
        try:
            size = req.content_size if not req.filters else -1
            if size and (handlet.buffer_request or (size < 0 and not stream_vague)):
                self._spool = gather(req, handlet.buffer_memory, handlet.stage.dirs.tmp)
                size = self._spool.size
            process = self._start(command, make_variables(size))
            kill = True
            try:
                self._talk(process)
                kill = False
            except ClientGone:
                if not self._resp.is_sent:
                    self._resp.status = CLIENT_LEFT
                raise
            except (OSError, BadReply) as error:
                self._fail(process, error)
            finally:
                self._programs.end(process, kill, self._warn)
            self._reply.finish()
        finally:
            if self._spool is not None:
                self._spool.close()
            self._reply.close()

    def _start(self, command: Command, variables: dict[str, str]) -> Process:
        try:
            process = self._programs.start(command, variables, self._log_line)
        except (OSError, ValueError) as error:
            self._log(f"cannot be run: {getattr(error, 'strerror', None) or error}")
            raise HTTPError(500) from error
        if process is None:
            self._log(f"cannot be run: {self._programs.most} programs run already")
            raise HTTPError(503, "Too much is going on here.", headers=(("retry-after", "1"),))
        return process

    def _talk(self, process: Process) -> None:
        wire = PipeWire(process, self._look)
        patience = self._handlet.read_timeout
        upload(wire, self._pieces(), self._take_early, self._deadline)
        process.close_input()
        self._head_deadline = min(self._deadline, monotonic() + self._handlet.head_timeout)
        while not self._ended:
            if self._reply.head is None:
                deadline = self._head_deadline
            else:
                self._reply.push()
                deadline = min(self._deadline, monotonic() + patience)
            self._take(wire.receive(deadline))
        self._reply.check_end()

    def _pieces(self) -> Iterator[bytes]:
        if self._spool is not None:
            yield from self._spool
        elif self._req.content_size:
            while data := self._req.receive():
                yield data

    def _take(self, data: bytes) -> bool:
        """Takes what the program has written, b"" for the end."""
        if not data:
            self._ended = True
        else:
            self._reply.feed(data)
        return self._ended

    def _take_early(self, data: bytes) -> bool:
        """Takes what comes while it still reads, and passes it on: it must not pile up here."""
        if not self._take(data):
            self._reply.push()
        return self._ended

    def _look(self) -> None:
        """Looks whether the client is still there."""
        if not self._handlet.ignore_client_abort and self._req.stream.is_gone():
            raise ClientGone("the client has left")

    # Errors

    def _fail(self, process: Process, error: Exception) -> None:
        """Logs why there is no answer, or no end of it, and raises the HTTPError that tells the client."""
        phase = "head" if self._reply.head is None else "content"
        timed_out = isinstance(error, TimeoutError)
        if not timed_out and self._ended:
            process.wait(EXIT_WAIT)
        how = f"; it {process.status}" if process.failed else ""
        self._log(f"{phase}: {error}{how}")
        raise HTTPError(504 if timed_out else 502) from error

    def _log(self, what: str) -> None:
        req = self._req
        self._handlet.stage.log.error("cgi", f"{self._title}: {what}: {req.line()} from {req.src_host}")

    def _log_line(self, line: str) -> None:
        self._handlet.stage.log.error("cgi", f"{self._title}: stderr: {line}")

    def _warn(self, what: str) -> None:
        self._handlet.stage.log.warning("cgi", f"{self._title}: {what}")
