"""The stages of one process: the one that serves, and those that retire behind it.

A reload builds a complete new stage beside the old one; only when the new one serves does the old one retire. What
goes wrong on the way there leaves the old one as it was. Reloads happen one at a time. Requests for one that come in
while one is going on are answered by a single further one, which sees what all of them wanted seen.

`StageKeeper` knows no signals and no channels: single mode drives it by signals, a worker by its leader's orders.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gevent
import gevent.lock

import hemi.listeners
from hemi.component import Component
from hemi.errors import BugError, ConfigError, EnvError, HemiError
from hemi.logger import Logger
from hemi.server import Server
from hemi.stage import Stage

__all__ = ["StageKeeper"]


class StageKeeper:
    """Keeps one stage serving, through reloads, until it is stopped.

    `build` makes a configured stage that was not prepared yet; it raises ConfigError or another HemiError.
    """

    def __init__(self, build: Callable[[], Stage]) -> None:
        self._build = build
        self._lock = gevent.lock.RLock()
        self._reloader: gevent.Greenlet[[], None] | None = None
        self._reload_wanted = False
        self._stopping = False
        self._next: Stage | None = None
        self.current: Stage | None = None
        self.draining: list[Stage] = []
        self.reloads = 0
        """How many reloads succeeded."""

    def __repr__(self) -> str:
        return f"<StageKeeper current={self.current!r} draining={len(self.draining)} reloads={self.reloads}>"

    def start(self) -> None:
        """Builds, prepares and starts the first stage, and rehearses with it. Raises what these raise."""
        with self._lock:
            stage = self._make()
            stage.start()
            try:
                _rehearse(stage)
            except BaseException:
                stage.stop(time.monotonic())
                raise
            self.current = stage

    def prepare_next(self) -> Stage:
        """First half of a reload: makes the next stage, ready to start. Raises what building and preparing raise."""
        with self._lock:
            self._drop_next()
            if self._stopping:
                raise EnvError("this process is stopping")
            self._next = stage = self._make()
            return stage

    def _make(self) -> Stage:
        """Builds and prepares a stage. Raises what these raise."""
        stage = self._build()
        hemi.listeners.wishes.clear()
        stage.prepare()
        return stage

    def commit_next(self, retired: Callable[[Stage], None]) -> None:
        """Second half: the prepared stage takes over. `retired` is called when the old one has ended."""
        with self._lock:
            stage, self._next = self._next, None
            if stage is None:
                raise BugError("no stage is prepared")
            self._take_over(stage, retired)

    def drop_next(self) -> None:
        """Takes the first half of a reload back. Idempotent."""
        with self._lock:
            self._drop_next()

    def _drop_next(self) -> None:
        stage, self._next = self._next, None
        if stage is not None:
            stage.stop(time.monotonic())

    def reload(self) -> None:
        """Replaces the stage by one made of the configuration as it is now, and returns when the new one serves.

        Raises what building, preparing and starting raise; the current stage serves on then.
        """
        with self._lock:
            if self._stopping:
                return
            stage = self._make()
            self._take_over(stage)

    def _take_over(self, stage: Stage, retired: Callable[[Stage], None] | None = None) -> None:
        """Starts a prepared stage; the one that served until now retires."""
        old = self.current
        try:
            undo = hemi.listeners.adjust_all()
        except EnvError:
            stage.stop(time.monotonic())
            raise
        try:
            stage.start(old)
        except BaseException:
            undo()
            raise
        self.current = stage
        self.reloads += 1
        if old is not None:
            self.draining.append(old)
            gevent.spawn(self._retire, old, retired)

    def request_reload(self) -> None:
        """Has a reload done soon, by a greenlet of its own; returns at once. Its outcome goes to the error log."""
        self._reload_wanted = True
        if self._reloader is None:
            self._reloader = gevent.spawn(self._reload_while_wanted)

    def _reload_while_wanted(self) -> None:
        try:
            while self._reload_wanted:
                self._reload_wanted = False
                self._reload_and_log()
        finally:
            self._reloader = None

    def _reload_and_log(self) -> None:
        assert self.current is not None
        log = self.current.log
        try:
            self.reload()
        except ConfigError as error:
            log.error("reload", f"nothing was changed: {len(error.problems)} problem(s) in the configuration")
            for problem in error.problems:
                log.error("reload", str(problem))
        except HemiError as error:
            log.error("reload", f"nothing was changed: {error}")
        except Exception as error:
            log.error("reload", "nothing was changed: the new stage crashed while it was made", error)
        else:
            self.current.log.info("reload", f"done: {len(self.draining)} stage(s) retiring")

    def _retire(self, stage: Stage, retired: Callable[[Stage], None] | None) -> None:
        try:
            stage.stop(time.monotonic() + stage.drain_timeout)
        finally:
            self.draining.remove(stage)
            if retired is not None:
                retired(stage)

    def reopen(self) -> None:
        """Opens the log files of the current stage again, after something moved them away."""
        if self.current is not None:
            for component in _within(self.current):
                if isinstance(component, Logger):
                    component.reopen()

    @property
    def drain_timeout(self) -> float:
        """How many seconds the current stage gives its requests in flight."""
        return self.current.drain_timeout if self.current is not None else 0.0

    def stop(self, deadline: float) -> None:
        """Stops every stage, all at once, by the deadline (of time.monotonic()). Idempotent."""
        self._stopping = True
        # A reload that is going on is let finish: half a stage could not be stopped. One that hangs is left behind.
        got = self._lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        try:
            self._drop_next()
            stages = [*self.draining, self.current] if self.current is not None else self.draining
            gevent.joinall([gevent.spawn(stage.stop, deadline) for stage in stages])
            self.current = None
        finally:
            if got:
                self._lock.release()


def _rehearse(stage: Stage) -> None:
    """Has the servers make sure that they work. Raises EnvError."""
    for server in stage.members["servers"].values():
        try:
            if isinstance(server, Server):
                server.rehearse()
        except EnvError as error:
            raise EnvError(f"{server.place}: {server.label}: {error}") from error


def _within(component: Component) -> Iterator[Component]:
    yield component
    for part in component.parts():
        yield from _within(part)
