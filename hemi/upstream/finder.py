"""The finder: keeps the nodes of a backend what its list and its sources say.

Each source has a greenlet that asks it now and then. The nodes of the list are always there; those of the
sources come and go, and one that goes finishes what it has in flight.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from hemi.errors import UsageError
from hemi.resolv import ResolveError
from hemi.upstream.discovery import DiscoveryError, FileSource, Found, Source
from hemi.upstream.node import Node

if TYPE_CHECKING:
    from hemi.upstream.backend import Backend

__all__ = ["Finder"]

FIRST_LOOK = 2.0
"""Seconds after which a start does not wait any longer for the first answer of a source."""


class Finder:
    """Looks for nodes, and tells the backend of those that come and go."""

    def __init__(self, backend: Backend, sources: list[Source]) -> None:
        self.backend = backend
        self.sources = sources
        self.began = monotonic()
        self._known: dict[Source | None, list[Found]] = {}  # None: what the stage before knew
        self._looked: list[Event] = []
        self._tasks: list[Any] = []
        self._complaints: dict[Source, str] = {}

    def begin(self) -> None:
        """Begins to look. Files must be right the first time: UsageError."""
        for source in self.sources:
            if isinstance(source, FileSource):
                try:
                    self._learn(source, source.look() or [])
                except DiscoveryError as error:
                    raise UsageError(str(error)) from None
            looked = Event()
            self._looked.append(looked)
            self._tasks.append(gevent.spawn(self._run, source, looked))

    def wait(self) -> None:
        """Waits until each source was asked once, but not for long."""
        with gevent.Timeout(max(0.0, self.began + FIRST_LOOK - monotonic()), False):  # type: ignore[arg-type]
            for looked in self._looked:
                looked.wait()

    def adopt(self, old: Finder) -> None:
        """Where no source has answered yet, what was found before is the best guess."""
        same = [source.name for source in self.sources] == [source.name for source in old.sources]
        if self.sources and same and not self._known:
            self._learn(None, list(old.found()))

    def stop(self) -> None:
        """Looks no more. Idempotent."""
        tasks, self._tasks = self._tasks, []
        gevent.killall(tasks, block=False)

    def found(self) -> Iterator[Found]:
        """What the sources know."""
        for nodes in self._known.values():
            yield from nodes

    def _run(self, source: Source, looked: Event) -> None:
        while True:
            try:
                found = source.look()
                if found is not None:
                    self._learn(source, found)
                self._complaints.pop(source, None)
            except ResolveError as error:
                self._complain(source, str(error))
                if not error.temporary:  # that there are none is an answer
                    self._learn(source, [])
            except DiscoveryError as error:
                self._complain(source, str(error))
            except Exception as error:  # the search must go on
                self.backend.stage.log.error("backend", f'"{self.backend.name}": the search failed', error)
            looked.set()
            gevent.sleep(self.backend.discovery_interval)

    def _complain(self, source: Source, problem: str) -> None:
        """Logs what is wrong with a source, once as long as it is the same."""
        if self._complaints.get(source) != problem:
            self._complaints[source] = problem
            self.backend.log_warning(f"the search for nodes failed: {problem}")

    def _learn(self, source: Source | None, found: list[Found]) -> None:
        self._known.pop(None, None)
        self._known[source] = found
        self._update()

    def _update(self) -> None:
        backend = self.backend
        wanted = {str(one.address): one for one in self.found()}
        for node in backend.nodes:
            wanted.pop(str(node.address), None)
        for node in [node for node in backend.roster.nodes if node not in backend.nodes]:
            found = wanted.pop(node.key, None)
            if found is None:
                backend.remove_node(node)
            else:
                node.learn(found)
        for found in wanted.values():
            backend.add_node(Node.discovered(backend, found))
        backend.roster.refresh()
