"""The leader: keeps workers, owns their listening sockets, does what operators say. Serves nothing itself.

Laws: standard library and psutil only, one thread, no gevent, none of the user's code. What needs the engine runs in
forked children. The parts: `loop` waits, `crew` keeps the workers, `listening` the sockets, `changes` are the things
that take a while, `commands` is what operators can ask for.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from hemi.errors import EnvError, HemiError
from hemi.procmgr import (
    changes,
    commands,
    controls,  # noqa: F401  it registers commands
    heir,
    offspring,
)
from hemi.procmgr.board import Board
from hemi.procmgr.child import Child
from hemi.procmgr.cmdui import CmdUI
from hemi.procmgr.crew import Crew
from hemi.procmgr.daemon import PidFile, Starter, detach, redirect
from hemi.procmgr.heir import Heir, Heritage
from hemi.procmgr.listening import Listening
from hemi.procmgr.log import Log
from hemi.procmgr.loop import CommandError, Loop, Steps, until
from hemi.procmgr.notify import Notify, passed_sockets
from hemi.procmgr.options import Options
from hemi.procmgr.privileges import Identity, check_root, find, hand_over
from hemi.procmgr.program import Program
from hemi.procmgr.stock import Stock
from hemi.procmgr.vitals import Vitals

__all__ = ["Leader", "lead"]

ASK_PATIENCE = 30.0
"""Seconds that workers have to carry out an order, unless said otherwise."""


class Leader:
    """The leader of an instance. `run` returns its exit code."""

    def __init__(self, program: Program, options: Options, identity: Identity | None, directory: str) -> None:
        self.program = program
        self.options = options
        self.identity = identity
        self.directory = directory
        """Where the command line was typed; what an upgrade starts in."""
        self.environ = dict(os.environ)
        self.heritage = Heritage()
        self.notify = Notify()
        self.log = Log(debug=options.debug)
        self.loop = Loop(self.log.error)
        self.listening = Listening(self.log.info)
        self.board = Board()
        self.stock = Stock(
            self.loop,
            lambda lifeline: offspring.become_spare(
                self.loop, program, options, identity, self.board, lifeline
            ),
        )
        self.crew = Crew(
            self.loop,
            self.log,
            self.listening,
            self.board,
            self.stock,
            lambda seat: offspring.become_worker(self.loop, program, options, identity, self.board, seat),
        )
        self.crew.wanted = options.workers
        self.vitals = Vitals()
        self.cmdui = CmdUI(self)
        self.starter: Starter | None = None
        self.pid_file: PidFile | None = None
        self.reopen_output: Callable[[], None] = lambda: None
        self.started = time.monotonic()
        self.state = "starting"
        self.changing = ""
        """The change that is going on, "" when none is."""
        self.next_reload: changes.Outcome | None = None
        """The reload that waits for its turn; who asks for another one gets its outcome."""
        self.handed_over = False
        """An upgrade's new leader has taken over; the sockets' files and the service's name are its own now."""
        self.hurried = False
        self.reloads = 0
        self.warning = ""
        """What to tell once everything serves."""
        self._code = 0
        self._fatal = ""
        """Why it could not start."""

    def __repr__(self) -> str:
        return f"<Leader {self.state} {self.crew!r}>"

    # Life

    def run(self) -> int:
        """Leads until it is told to end; returns the exit code."""
        self._adopt()
        self._hear_signals()
        self.crew.reap()  # orphans that were left to us, and have ended before we heard of such things
        self.loop.every(1.0, self._look)
        if self.notify.interval:
            self.loop.every(self.notify.interval, self.notify.ping)
        self.loop.spawn(self._boot(), self._booted)
        try:
            if not self.heritage:
                self.cmdui.open()
            self.loop.run()
        finally:
            self._close()
        if self.starter is not None:  # only now: its user may look for what we have removed
            self.starter.report(self._code, self._fatal)
        return self._code

    def finish(self, code: int) -> None:
        """Ends the loop; everything was stopped already."""
        self._code = code
        self.loop.stop()

    def _adopt(self) -> None:
        """Takes over the sockets that come from outside. Raises EnvError."""
        try:
            self.listening.restore(self.heritage.sockets)
            for descriptor, name in passed_sockets():
                self.listening.adopt(descriptor, name)
        except OSError as error:
            raise EnvError(f"a socket cannot be taken over: {error.strerror or error}") from error

    def _boot(self) -> Steps:
        """Starts the first worker; only when it serves, the others. Nothing is tried twice before anything served."""
        crew = self.crew
        first = crew.add(1, candidate=True)
        yield until(lambda: first.state != "starting" or crew.leaving)  # who takes too long is killed
        if crew.leaving:
            return
        if first.state != "ready":
            self._cannot_boot(first)
            return
        crew.booting = False
        crew.confirm(first)
        for line in first.told.get("lines", ()):
            print(f"{self.program.name}: {line}", flush=True)
        others = [crew.add(number) for number in range(2, crew.wanted + 1)]
        yield until(lambda: all(child.state != "starting" for child in others))
        if self.heritage:
            self._inherit(first)
        self.state = "serving"
        self.tell_state()
        if self.starter is not None:
            self.starter.report(0)
        self._close_unclaimed()
        self.stock.open = not self.options.no_spare
        self.stock.refill(0.0)  # the first crash may come soon
        if self.warning:
            self.log.warning(self.warning)

    def _inherit(self, first: Child) -> None:
        """Takes over what an upgrade leaves to us; the sockets become what the configuration says now.

        Raises EnvError: then all is still the old leader's.
        """
        try:
            changes.adjust(self, changes.wishes_of([first]))
        except CommandError as error:
            raise EnvError(str(error)) from error
        if self.pid_file is not None:
            self.pid_file.take(successor=True)
        self.listening.take_over()
        self.heritage.accept()
        self.cmdui.take_over()

    def _close_unclaimed(self) -> None:
        """Tells about sockets from outside that the configuration does not name."""
        for adopted in self.listening.adopted:
            self.log.warning(
                f"a socket was passed that no server names: {adopted.sock.getsockname()} {adopted.name}"
            )
        self.crew.release_unused()

    def _booted(self, answer: Any, error: Exception | None) -> None:
        if error is not None:
            self.log.error("the leader cannot start", None if isinstance(error, HemiError) else error)
            if isinstance(error, HemiError):
                self._say_fatal(str(error), error.exit_code)
            for child in self.crew.alive():
                self.crew.kill(child, "the leader cannot start")
            self.finish(error.exit_code if isinstance(error, HemiError) else 20)

    def _cannot_boot(self, first: Child) -> None:
        code = first.told.get("code") or first.exit_code
        problems = first.told.get("problems") or [f"the first worker did not get ready: {first.reason}"]
        self._say_fatal("\n".join(problems), code if 0 < code < 128 else 11)

    def _say_fatal(self, text: str, code: int) -> None:
        print(text, file=sys.stderr, flush=True)
        self.heritage.refuse(text)
        self._fatal = text
        self.finish(code)

    def _close(self) -> None:
        if not self.handed_over and not self.heritage.open:  # else the service is another leader's
            self.notify.status("stopped")
        self.stock.close()
        self.crew.close()
        self.listening.close(unlink=not self.handed_over)
        if self.pid_file is not None:
            self.pid_file.remove()
        self.cmdui.close()  # last: for operators it is the sign that all is over
        self.loop.close()

    # Signals

    def _hear_signals(self) -> None:
        for signum, call in {
            signal.SIGCHLD: self.crew.reap,
            signal.SIGTERM: self._on_term,
            signal.SIGINT: lambda: self.obey("stop"),
            signal.SIGQUIT: lambda: self.obey("stop"),
            signal.SIGHUP: self._on_hup,
            signal.SIGUSR1: lambda: self.obey("reopen"),
            signal.SIGUSR2: lambda: self.obey("upgrade"),
            signal.SIGTTIN: lambda: self._resize_by(1),
            signal.SIGTTOU: lambda: self._resize_by(-1),
        }.items():
            self.loop.on_signal(signum, call)

    def _on_term(self) -> None:
        self.obey("stop" if self.crew.leaving else "quit")

    def _on_hup(self) -> None:
        if self.next_reload is None:
            self.obey("reload")

    def _resize_by(self, step: int) -> None:
        self.loop.spawn(changes.resize(self, lambda before: before + step), self._note)

    def obey(self, name: str) -> None:
        """Runs a command that nobody waits for; what goes wrong is logged."""
        self.run_command(name, {}, self._note)

    def _note(self, answer: Any, error: Exception | None) -> None:
        if isinstance(error, CommandError):
            self.log.warning(str(error))
        elif error is not None:
            self.log.error("a command failed", error)

    # For commands and changes

    def run_command(
        self,
        name: str,
        args: dict[str, Any],
        done: Callable[[Any, Exception | None], None],
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Begins a command. `done(answer, error)` is called once; errors other than CommandError are bugs of ours."""
        self.loop.spawn(commands.begin(self, name, args), done, progress)

    def ask_all(
        self,
        order: str,
        args: dict[str, Any] | None = None,
        *,
        children: list[Child] | None = None,
        seconds: float = ASK_PATIENCE,
    ) -> Steps:
        """Gives an order to all ready workers, or to these, at the same time; returns one answer a worker.

        An answer has `worker` and `pid`, and what the worker returned, or `error` and `details`.
        """
        asked = self.crew.ready() if children is None else children
        calls = [
            (child, child.pid, child.conn.order(order, args)) for child in asked if child.conn is not None
        ]
        yield until(lambda: all(call.done for _, _, call in calls), seconds)
        answers: list[dict[str, Any]] = []
        for child, pid, call in calls:
            answer: dict[str, Any] = {"worker": child.number, "pid": pid}
            if not call.done:
                answer |= {"error": f"no answer within {seconds:g} s"}
            elif call.error:
                answer |= {"error": call.error, "details": call.details}
            else:
                answer |= call.result
            answers.append(answer)
        return answers

    def check(self) -> Steps:
        """Loads the configuration in a forked child; returns its settings. Raises CommandError with the problems."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        try:
            pid = self._fork_check(writer)
        except OSError as error:
            os.close(reader)
            raise CommandError(f"the check cannot be forked: {error.strerror}") from error
        finally:
            os.close(writer)
        pieces: list[bytes] = []
        ended: list[bool] = []

        def read() -> None:
            piece = os.read(reader, 1 << 20)
            pieces.append(piece)
            if not piece:
                ended.append(True)
                self.loop.unwatch(reader)

        self.loop.watch(reader, selectors.EVENT_READ, read)
        try:
            done = yield until(lambda: bool(ended), self.crew.settings.start_timeout)
        finally:
            self.loop.unwatch(reader)
            os.close(reader)
        if not done:
            os.kill(pid, signal.SIGKILL)
            raise CommandError("the check of the configuration takes too long")
        answer = json.loads(b"".join(pieces) or b'{"error": "the check of the configuration died"}')
        if "error" in answer:
            raise CommandError(answer["error"], answer.get("details"))
        return answer["settings"]

    def _fork_check(self, writer: int) -> int:
        taken = self.stock.take_check(writer)
        if taken is not None:
            taken[1].close()
            return taken[0]
        pid = os.fork()
        if pid == 0:
            offspring.become_check(self.loop, self.program, self.options, self.identity, writer)
        return pid

    def start_heir(self) -> Heir:
        """Starts an upgrade's new leader. Raises CommandError."""
        try:
            new = heir.start(self.loop, self.directory, self.environ, self.listening.export())
        except OSError as error:
            raise CommandError(f"the new leader cannot be started: {error.strerror}") from error
        self.crew.on_stranger[new.pid] = new.ended
        return new

    def tell_state(self) -> None:
        """Tells the service manager how things are."""
        if self.state == "serving" and not self.crew.leaving:
            ready = len(self.crew.ready())
            self.notify.ready(f"{ready} of {self.crew.wanted} worker(s) ready")

    def _look(self) -> None:
        for child, reason in list(self.crew.look()):
            if not self.changing:
                self.loop.spawn(changes.replace(self, child, reason), self._note)
                break


def lead(program: Program, options: Options) -> int:
    """Runs the leader of the instance that the options describe; returns its exit code."""
    directory = os.getcwd()
    identity = find(options.user, options.group)
    allowed = options.allow_root or bool(os.environ.get("GOROX_ALLOW_ROOT"))
    warning = check_root(identity, allowed)
    made = [path for path in (options.log_dir, options.tmp_dir, options.var_dir) if os.path.isdir(path)]
    hand_over(identity, made)
    if options.umask is not None:
        os.umask(options.umask)
    upgraded = heir.VARIABLE in os.environ
    starter = detach() if options.daemon and not upgraded else None
    redirected = False
    try:
        leader = Leader(program, options, identity, directory)
        leader.starter = starter
        if options.daemon:
            leader.reopen_output = redirect(options.stdout, options.stderr)
            redirected = True
            os.chdir(options.top_dir)
        if options.pid_file:
            leader.pid_file = PidFile(options.pid_file)
            if not upgraded:
                leader.pid_file.take()
        leader.warning = warning
        return leader.run()
    except HemiError as error:
        if starter is not None:
            starter.report(error.exit_code, f"{program.name}: {error}")
            if not redirected:  # the starter tells it at the same terminal
                return error.exit_code
        raise
    except OSError as error:
        raise EnvError(f"the leader cannot start: {error.strerror or error}") from error
