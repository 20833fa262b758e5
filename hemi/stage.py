"""The stage: everything that one configuration describes, alive.

The one place that knows the order of kinds. `prepare` and `start` go forwards through them, and within a component first
through its parts; `stop` goes the other way. Two stages overlap during a reload.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hemi import component as registry
from hemi.component import STAGE_KINDS, Component, Prop, prop
from hemi.errors import EnvError, HemiError
from hemi.source import Dirs
from hemi.values import Duration, InPlaceKind, NamedKind, Ref

if TYPE_CHECKING:
    from hemi.clock import Clock
    from hemi.fcache import Fcache
    from hemi.logger import ErrorLog, Logger
    from hemi.resolv import Resolv

# The components that every stage has, or can name, whatever a program imports.
_CORE = ("hemi.clock", "hemi.fcache", "hemi.resolv", "hemi.logger")

_ids = itertools.count(1)


class Stage(Component, kind="stages", nested=True, sign="stage"):
    """Everything that one configuration describes; its properties stand at the top of the file."""

    KINDS: ClassVar[tuple[str, ...]] = STAGE_KINDS

    extensions: list[str] = prop([], "Python modules to import; they define further components.", inherit=False)
    include: list[str] = prop([], "Files to splice in, relative to this one; * and ? match.", inherit=False)
    constants: dict[str, Any] = prop({}, "Values that ${name} stands for.", inherit=False)
    drain_timeout: Duration = prop("30s", "How long a stopping stage waits for what is in flight.")

    error_log: Ref[Logger] | None = prop(None, "Where the error log goes, instead of to stderr.", inherit=False)
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
        self.members: dict[str, dict[str, Component]] = self._named
        self._begun: list[Component] = []
        self.log = import_module("hemi.logger").ErrorLog()  # until the stage is configured

    @classmethod
    def props(cls) -> dict[str, Prop]:
        """The properties, a section for each kind that has classes, and the fixtures."""
        for module in _CORE:
            if find_spec(module):
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
        for kind in self.KINDS:
            for part in self._parts:
                if part.kind == kind:
                    yield part
        for part in self._parts:
            if part.nested:
                yield part

    def prepare(self) -> None:
        """Prepares all components; when one fails, those that were begun are stopped, and EnvError or UsageError raised."""
        for component in self._walk():
            self._begun.append(component)
            self._attempt(component, component.prepare)

    def start(self, predecessor: Stage | None = None) -> None:
        """Starts all components. `predecessor` is the stage that retires: servers may take over its connections."""
        self.predecessor = predecessor
        try:
            for component in self._walk():
                self._attempt(component, component.start)
        finally:
            self.predecessor = None

    def stop(self, deadline: float) -> None:
        """Stops what was begun, backwards; what cannot be stopped is logged, and the rest stopped all the same."""
        begun, self._begun = self._begun, []
        for component in reversed(begun):
            try:
                component.stop(deadline)
            except Exception as error:
                self.log.error("stage", f"{component.label} cannot be stopped", error)

    def _walk(self) -> Iterator[Component]:
        for part in self.parts():
            yield from _within(part)

    def _attempt(self, component: Component, verb: Any) -> None:
        try:
            verb()
        except BaseException as error:
            self.stop(time.monotonic())
            if not isinstance(error, Exception):
                raise
            where = ": ".join(str(part) for part in (component.place, component.label) if part)
            if isinstance(error, HemiError):
                raise type(error)(f"{where}: {error}") from error
            reason = getattr(error, "strerror", None) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            raise EnvError(f"{where}: {reason or error}") from error


def _within(component: Component) -> Iterator[Component]:
    for part in component.parts():
        yield from _within(part)
    yield component


_props: dict[Any, dict[str, Prop]] = registry.cache()


def _sections() -> Iterator[tuple[str, Prop]]:
    bases = registry.kinds()
    for kind in STAGE_KINDS:
        if kind not in bases or not registry.signs(kind):
            continue
        if kind == "fixtures":
            for sign in registry.signs(kind):
                cls = registry.find(sign, kind)
                yield sign, _declared(sign, InPlaceKind(cls), (cls.__doc__ or "").split("\n")[0] if cls else "")
        else:
            yield kind, _declared(kind, NamedKind(bases[kind]), f"The {kind}, by name.")


def _declared(name: str, kind: Any, doc: str) -> Prop:
    declared: Prop = prop({}, doc, inherit=False)
    declared.owner, declared.attribute, declared.name = Stage, name, name
    declared._kind = kind
    return declared


__all__ = ["Stage"]
