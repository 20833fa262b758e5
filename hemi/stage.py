"""The stage: everything that one configuration describes, alive.

The one place that knows the order of kinds. `prepare` and `start` go forwards through them, and within a
component first through its parts; `stop` goes the other way. Two stages overlap during a reload.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hemi import component as registry
from hemi.component import STAGE_KINDS, Component, Prop, prop
from hemi.errors import BugError, ConfigError, EnvError, HemiError, UsageError
from hemi.source import Dirs
from hemi.values import Duration, InPlaceKind, NamedKind, Ref, Size

if TYPE_CHECKING:
    from hemi.clock import Clock
    from hemi.fcache import Fcache
    from hemi.logger import ErrorLog, Logger
    from hemi.resolv import Resolv

# The components that every stage has, or can name, whatever a program imports.
_CORE = ("hemi.clock", "hemi.fcache", "hemi.resolv", "hemi.logger")

_ids = itertools.count(1)

ACTIVE = ("servers", "routers", "cronjobs")
"""The kinds that do something by themselves. Without any of them the file was probably empty, or cut off."""

LOOK = 0.1
"""Seconds between two looks at whether what is being stopped has ended, or must end sooner than it was said."""

GRACE = 1.0
"""Seconds beyond the deadline that what it cuts has to end."""


class Stage(Component, kind="stages", nested=True, sign="stage"):
    """Everything that one configuration describes; its properties stand at the top of the file."""

    KINDS: ClassVar[tuple[str, ...]] = STAGE_KINDS

    extensions: list[str] = prop(
        [], "Python modules to import; they define further components.", inherit=False
    )
    include: list[str] = prop([], "Files to splice in, relative to this one; * and ? match.", inherit=False)
    constants: dict[str, Any] = prop({}, "Values that ${name} stands for.", inherit=False)
    drain_timeout: Duration = prop("30s", "How long a stopping stage waits for what is in flight.")

    shutdown_delay: Duration = prop(
        "0s", "How long readiness checks fail before a stopping instance begins to drain.", inherit=False
    )
    start_timeout: Duration = prop(
        "2m", "How long a worker may take to get ready.", least="1s", inherit=False
    )
    start_attempts: int = prop(
        6, "After how many failures in a row a worker is given up.", least=1, most=1000, inherit=False
    )
    hang_timeout: Duration = prop(
        "30s", "A worker that something blocks for so long is replaced; 0 is never.", inherit=False
    )
    max_rss: Size = prop("0", "A worker that takes more memory is replaced; 0 is no limit.", inherit=False)
    max_requests: int = prop(
        0, "After how many requests a worker is replaced; 0 is never.", least=0, inherit=False
    )
    max_lifetime: Duration = prop("0s", "After how long a worker is replaced; 0 is never.", inherit=False)

    error_log: Ref[Logger] | None = prop(
        None, "Where the error log goes, instead of to stderr.", inherit=False
    )
    log_level: Literal["debug", "info", "warning", "error", "off"] = prop(
        "info", "The least level that the error log has.", inherit=False
    )
    access_log: Ref[Logger] | None = prop(None, "The log of requests, unless a component has one of its own.")

    clock: Clock
    fcache: Fcache
    resolv: Resolv
    log: ErrorLog
    predecessor: Stage | None

    def __init__(self, dirs: Dirs, debug: int = 0) -> None:
        super().__init__()
        self.stage = self
        self.dirs = dirs
        self.debug = debug
        self.id = next(_ids)
        self.predecessor = None
        self.leaving = False  # the instance is about to stop: readiness checks should say so
        self._named = {kind: {} for kind in STAGE_KINDS if kind != "fixtures"}
        self.members: dict[str, dict[str, Component]] = self._named
        self._begun: list[Component] = []
        self._ending: list[Component] = []
        """Those whose `stop` is going on."""
        self.stop_by = math.inf
        """Until when (monotonic seconds) the stage must have stopped: the earliest deadline of all `stop`s."""
        self.log = import_module("hemi.logger").ErrorLog()  # until the stage is configured

    @classmethod
    def props(cls) -> dict[str, Prop]:
        """The properties, a section for each kind that has classes, and the fixtures."""
        for module in _CORE:
            import_module(module)
        table = _props.get(cls)
        if table is None:
            table = _props[cls] = cls.__props__ | dict(_sections())
        return table

    def open_log(self) -> None:
        """Makes `log` what the configuration says."""
        self.log.logger = self.error_log
        self.log.level = "debug" if self.debug else self.log_level

    def parts(self) -> Iterator[Component]:
        """All components of the top level, in the order of prepare."""
        return iter(sorted(self._parts, key=_rank))

    def prepare(self) -> None:
        """Prepares all components; when one fails, stops those that were begun and raises the error."""
        for component in self._walk():
            self._begun.append(component)
            self._attempt(component, component.prepare)

    def start(self, predecessor: Stage | None = None) -> None:
        """Starts all components; servers may take connections over from `predecessor`, which retires."""
        self.predecessor = predecessor
        if not any(self.members.get(kind) for kind in ACTIVE):
            self.log.warning(
                "stage",
                f"nothing is served: the configuration has no {', '.join(ACTIVE[:-1])} or {ACTIVE[-1]}",
            )
        try:
            for component in self._walk():
                self._attempt(component, component.start)
        finally:
            self.predecessor = None
        if predecessor is not None:
            for component in self._walk():
                component.take_over(predecessor)

    def stop(self, deadline: float) -> None:
        """Stops what was begun, kind by kind backwards. Errors are logged, and the rest stopped all the same.

        Components of one kind stop at the same time: they share the deadline, and none takes new work while
        another drains. Routers stop with the servers, as both listen.
        A second call waits for the first, and can bring its deadline nearer (see `time_left`).
        """
        begun, self._begun = self._begun, []
        if begun:
            self.stop_by = deadline
        elif self._ending:
            self._hurry(deadline)
        for _, members in itertools.groupby(reversed(begun), key=_turn_to_stop):
            chains = [list(chain) for _, chain in itertools.groupby(members, key=_top)]
            if len(chains) == 1 or "gevent" not in sys.modules:
                for chain in chains:
                    self._stop_chain(chain, deadline)
            else:
                self._stop_together(chains, deadline)

    def time_left(self, deadline: float) -> float:
        """The seconds until a deadline that `stop` was given, or until a nearer one that it was given since."""
        return min(deadline, self.stop_by) - time.monotonic()

    def _hurry(self, deadline: float) -> None:
        from gevent import sleep

        self.stop_by = min(self.stop_by, deadline)
        for component in list(self._ending):
            component.stop(deadline)
        while self._ending and time.monotonic() < self.stop_by + GRACE:
            sleep(LOOK)

    def _stop_together(self, chains: list[list[Component]], deadline: float) -> None:
        from gevent import joinall, spawn  # not at the top: loading a configuration must not load gevent

        joinall([spawn(self._stop_chain, chain, deadline) for chain in chains])

    def _stop_chain(self, chain: list[Component], deadline: float) -> None:
        """Stops a component of the top level, then what is inside of it."""
        for component in chain:
            self._ending.append(component)
            try:
                component.stop(min(deadline, self.stop_by))
            except Exception as error:
                self.log.error("stage", f"{component.label} cannot be stopped", error)
            finally:
                self._ending.remove(component)

    def _walk(self) -> Iterator[Component]:
        for part in self.parts():
            yield from _within(part)

    def _attempt(self, component: Component, verb: Callable[[], None]) -> None:
        try:
            verb()
        except BaseException as error:
            self.stop(time.monotonic())
            if not isinstance(error, Exception):
                raise
            raise _named(component, error) from error


def _named(component: Component, error: Exception) -> HemiError:
    """The error that says which component could not begin."""
    where = ": ".join(str(part) for part in (component.place, component.label) if part)
    if isinstance(error, ConfigError):
        return UsageError(f"{where}: {error}")
    if isinstance(error, UsageError | EnvError | BugError):
        return type(error)(f"{where}: {error}")
    if isinstance(error, OSError) and error.strerror:
        name = f" {error.filename!r}" if error.filename is not None else ""
        return EnvError(f"{where}: {error.strerror.lower()}{name}")
    return EnvError(f"{where}: {type(error).__name__}: {error}")


def _within(component: Component) -> Iterator[Component]:
    for part in component.parts():
        yield from _within(part)
    yield component


def _top(component: Component) -> Component:
    """The component of the top level that this one is inside of, or is."""
    while component.parent is not None and component.parent is not component.stage:
        component = component.parent
    return component


def _rank(component: Component) -> float:
    """The position of a kind; components of nested kinds that several inherit come after the fixtures."""
    return STAGE_KINDS.index(component.kind) if component.kind in STAGE_KINDS else 0.5


def _turn_to_stop(component: Component) -> float:
    """The rank among which a component stops: servers with the routers, as both take new work."""
    top = _top(component)
    return STAGE_KINDS.index("routers") if top.kind == "servers" else _rank(top)


_props: dict[Any, dict[str, Prop]] = registry.cache()


def _sections() -> Iterator[tuple[str, Prop]]:
    bases = registry.kinds()
    for kind in STAGE_KINDS:
        if kind not in bases or not registry.signs(kind):
            continue
        if kind == "fixtures":
            for sign in registry.signs(kind):
                cls = registry.find(sign, kind)
                yield (
                    sign,
                    _declared(sign, InPlaceKind(cls), (cls.__doc__ or "").split("\n")[0] if cls else ""),
                )
        else:
            yield kind, _declared(kind, NamedKind(bases[kind]), f"The {kind}, by name.")


def _declared(name: str, kind: Any, doc: str) -> Prop:
    declared: Prop = prop({}, doc, inherit=False)
    declared.owner, declared.attribute, declared.name = Stage, name, name
    declared._kind = kind
    return declared


__all__ = ["LOOK", "Stage"]
