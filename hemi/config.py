"""From given values to a stage: components are made, configured and checked; all problems are found and
raised together.

Loading does not need gevent, starts nothing and opens nothing but the files of the configuration (and those
that it names to be tested, such as certificates).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from hemi import component as registry
from hemi.component import Component, Prop
from hemi.effective import effective
from hemi.errors import BugError, ConfigError, Place, Problem
from hemi.expand import expand
from hemi.source import Dirs, Given, Reader, SourceError, from_data
from hemi.stage import Stage
from hemi.values import NamedKind, Wrong, named, spelled, suggestion

__all__ = ["Dirs", "effective", "load_file", "load_mapping", "load_text"]

_MAX_SUGGESTIONS = 200  # a suggestion takes a millisecond, and a hopeless file can have thousands of problems
_NAME = re.compile(r"[\w.-]{1,80}")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def load_file(
    path: str, dirs: Dirs, *, debug: int = 0, begun: Callable[[float], None] | None = None
) -> Stage:
    """Loads the configuration of a file; raises ConfigError with all that is wrong.

    `begun` is called with its start_timeout (seconds), if it has one, before anything that it names is imported.
    """
    reader = Reader()
    root = reader.open(path)
    if begun is not None and root is not None and isinstance(root.value, dict):
        _tell_start_timeout(root.value.get("start_timeout"), begun)
    return _load(reader, root, path, dirs, debug)


def _tell_start_timeout(given: Given | None, tell: Callable[[float], None]) -> None:
    match = _DURATION.fullmatch(str(given.value)) if given is not None else None
    if match:  # what is no duration, or made of constants, is found later
        tell(float(match[1]) * _UNITS[match[2] or "s"])


def load_text(text: str, dirs: Dirs, name: str = "<text>", *, debug: int = 0) -> Stage:
    """Loads a configuration that is a text; includes are relative to the top directory."""
    reader = Reader()
    return _load(reader, reader.read(text, name), "", dirs, debug)


def load_mapping(mapping: dict[str, Any], dirs: Dirs, *, debug: int = 0) -> Stage:
    """Loads a configuration that is Python data, for embedding programs and tests."""
    reader = Reader()
    try:
        root = from_data(mapping)
    except SourceError as error:
        raise ConfigError([Problem(None, "", error.message)]) from None
    return _load(reader, root, "", dirs, debug)


def _load(reader: Reader, root: Given | None, path: str, dirs: Dirs, debug: int) -> Stage:
    problems = reader.problems
    if root is not None:
        root = expand(root, reader, path, dirs)
        loading = _Loading(dirs, debug, reader)
        stage = loading.load(root)
    if problems:
        raise ConfigError(_sorted(problems))
    return stage


def _sorted(problems: list[Problem]) -> list[Problem]:
    files: dict[str, int] = {}
    for problem in problems:
        if problem.place:
            files.setdefault(problem.place.file, len(files))

    def key(problem: Problem) -> tuple[int, int, int]:
        place = problem.place
        return (files[place.file], place.line, place.column) if place else (len(files), 0, 0)

    return sorted(dict.fromkeys(problems), key=key)


class _Loading:
    """One load: makes the components of a stage, and configures them when all that have names are there."""

    def __init__(self, dirs: Dirs, debug: int, reader: Reader) -> None:
        self.dirs = dirs
        self.problems = reader.problems
        self.stage = Stage(dirs, debug)
        self.broken: set[tuple[str, str]] = set()  # (kind, name) of components that could not be made
        self.placed: dict[int, Component] = {}  # id of a given mapping -> the component made of it in place
        self.used: set[int] = set()  # ids of the given values that somebody took
        self._pending: deque[Component] = deque()
        self._reported: set[tuple[Any, ...]] = set()
        self._broken_places = reader.broken - {None}

    def load(self, root: Given) -> Stage:
        stage = self.stage
        if not isinstance(root.value, dict):
            self.problem(root.place, "", f"must be a mapping of sections and properties, not {named(root)}")
            return stage
        stage.place = root.place
        self._adopt(stage, root, False)
        ready = []
        while self._pending:
            component = self._pending.popleft()
            component.configure(self)
            ready.append(component)
        for component in ready:
            self._check_unused(component)
            self._check(component)
        if not self.problems:
            stage.open_log()
        return stage

    def problem(self, place: Place | None, label: str, message: str) -> None:
        """Reports a problem; one that is inherited by many components is reported once."""
        key = (place, message) if place else (label, message)
        if key not in self._reported and place not in self._broken_places:
            self._reported.add(key)
            self.problems.append(Problem(place, label, message))

    # Making components

    def make(
        self,
        cls: type[Component],
        given: Given,
        name: str,
        parent: Component,
        place: Place | None,
        typed: bool,
    ) -> Component:
        """Makes a component. Its mapping may have a `type`, when it is `typed`."""
        component = cls(name, parent, place)
        parent._parts.append(component)
        self._adopt(component, Given({}, given.place) if given.value is None else given, typed)
        return component

    def _adopt(self, component: Component, given: Given, typed: bool) -> None:
        component._given = given
        self._check_keys(component, given, typed)
        self._pending.append(component)
        for declared in component.props().values():
            if isinstance(declared.bare_kind, NamedKind):
                self._make_named(component, declared, declared.bare_kind)

    def _check_keys(self, component: Component, given: Given, typed: bool) -> None:
        cls = type(component)
        props, inherited = cls.props(), registry.inheritable(cls)
        for key in given.value:
            if key not in props and key not in inherited and not (typed and key == "type"):
                near = suggestion(key, [*props, *inherited]) if len(self.problems) < _MAX_SUGGESTIONS else ""
                self.problem(given.key_place(key), component.label, f"unknown key {spelled(key)}{near}")

    def _make_named(self, owner: Component, declared: Prop, kind: NamedKind) -> None:
        table = owner._named.setdefault(declared.name, {})
        given = owner._given.value.get(declared.name, declared.given)
        if given.value is None:
            return
        if not isinstance(given.value, dict):
            self.problem(given.place, owner.label, f"{declared.name} must be {kind.noun}, not {named(given)}")
            return
        for name, item in given.value.items():
            place = given.key_place(name)
            label = f"{kind.word} {spelled(name)}"
            if not _NAME.fullmatch(name):
                self.problem(
                    place,
                    owner.label,
                    f"{declared.name} must have names of letters, digits, _ . and -, not {spelled(name)}",
                )
            cls = self.choose(kind.base, item, label)
            if cls is None:
                self.broken.add((kind.base.kind, name))
            else:
                table[name] = self.make(cls, item, name, owner, place, True)

    def choose(self, base: type[Component], given: Given, label: str) -> type[Component] | None:
        """The class that a mapping means, by its `type` or because there is only one, or None."""
        if given.value is not None and not isinstance(given.value, dict):
            self.problem(given.place, label, f"must be a mapping, not {named(given)}")
            return None
        classes = registry.concrete(base)
        known = [cls.sign for cls in classes]
        written = (given.value or {}).get("type")
        if written is None:
            if base.sign:
                return base
            if len(classes) == 1:
                return classes[0]
            self.problem(given.place, label, f"type is required: {_either(known)}")
            return None
        if written.value not in known:
            near = suggestion(written.value, known) if isinstance(written.value, str) else ""
            self.problem(written.place, label, f"type must be {_either(known)}, not {named(written)}{near}")
            return None
        return next(cls for cls in classes if cls.sign == written.value)

    # Configuring them

    def configure(self, component: Component, declared: Prop) -> None:
        """Sets the attribute of one property."""
        if isinstance(declared.bare_kind, NamedKind):
            setattr(component, declared.attribute, component._named[declared.name])
            return
        given, holder = self._look_up(component, declared)
        if given is None and declared.required:
            self.problem(component.place, component.label, f"{declared.name} is required")
            return
        if given is None and declared.default is None:
            setattr(component, declared.attribute, None)
            return
        context = _Context(self, component, holder or self.stage, declared)
        try:
            value = declared.kind.parse(given or declared.given, context)
            if given is not None:
                self._check_limits(declared, given, value, context)
            setattr(component, declared.attribute, value)
        except Wrong as wrong:
            if given is None and not declared.kind.bases():
                raise BugError(
                    f"{declared.owner.__qualname__}.{declared.attribute} has a bad default: {wrong}"
                ) from None
            for item, message in wrong.problems:
                self.problem(item.place or component.place, component.label, f"{declared.name} {message}")

    def _look_up(self, component: Component, declared: Prop) -> tuple[Given | None, Component | None]:
        """What is given for a property, and on which component."""
        name = declared.name
        given = component._given.value.get(name)
        if given is not None:
            return given, component
        if not declared.inherits:
            return None, None
        ancestor = component.parent
        while ancestor is not None:
            given = ancestor._given.value.get(name)
            if given is not None:
                other = ancestor.props().get(name)
                if other is None or (other.inherits and other.bare_kind == declared.bare_kind):
                    self.used.add(id(given))
                    return given, ancestor
            ancestor = ancestor.parent
        return None, None

    def _check_limits(self, declared: Prop, given: Given, value: Any, context: _Context) -> None:
        kind = declared.bare_kind
        if value is None or kind.measure is None or (declared.least is None and declared.most is None):
            return
        least, most = (self._limit(declared, limit, context) for limit in (declared.least, declared.most))
        measured = len(value) if kind.measure == "length" else value
        if not isinstance(measured, (int, float)):
            return  # "auto" where a number or a word may stand
        if (least is None or measured >= least) and (most is None or measured <= most):
            return
        span = describe_limits(declared)
        raise Wrong((given, f"must be {span}, not {named(given) if kind.measure == 'value' else measured}"))

    def _limit(self, declared: Prop, limit: Any, context: _Context) -> Any:
        if limit is None or declared.bare_kind.measure == "length":
            return limit
        try:
            return declared.bare_kind.parse(from_data(limit), context)
        except Wrong as wrong:
            raise BugError(
                f"{declared.owner.__qualname__}.{declared.attribute} has a bad limit: {wrong}"
            ) from None

    def _check_unused(self, component: Component) -> None:
        """Checks the values for components inside of this one when there happens to be none."""
        own, inherited = component.props(), registry.inheritable(type(component))
        for name, given in component._given.value.items():
            if name in own or name not in inherited or id(given) in self.used:
                continue
            problems: list[tuple[Given, str]] = []
            for declared in inherited[name]:
                context = _Context(self, component, component, declared)
                try:
                    if not (isinstance(given.value, dict) and declared.kind.bases()):
                        self._check_limits(declared, given, declared.kind.parse(given, context), context)
                    break
                except Wrong as wrong:
                    problems += wrong.problems
            else:
                for item, message in problems[:1]:
                    self.problem(item.place, component.label, f"{name} {message}")

    def _check(self, component: Component) -> None:
        try:
            for found in component.check() or ():
                name, message = found if isinstance(found, tuple) else ("", found)
                given = component._given
                place = given.value[name].place if name in given.value else component.place
                self.problem(place, component.label, f"{name} {message}".lstrip())
        except Exception as error:
            if not self.problems:  # otherwise it is about attributes that could not be set
                self.problem(
                    component.place, component.label, f"cannot be checked: {type(error).__name__}: {error}"
                )


class _Context:
    """hemi.values.Context for one property of one component. `holder` is the component it is written on."""

    __slots__ = ("_declared", "_holder", "_loading", "_owner")

    def __init__(self, loading: _Loading, owner: Component, holder: Component, declared: Prop) -> None:
        self._loading = loading
        self._owner = owner
        self._holder = holder
        self._declared = declared

    @property
    def dirs(self) -> Dirs:
        return self._loading.dirs

    @property
    def scope(self) -> Any:
        component: Component | None = self._owner
        while component is not None:
            if component.scope is not None:
                return component.scope
            component = component.parent
        return None

    def place_component(self, base: type[Component], given: Given) -> Component | None:
        placed = self._loading.placed
        if id(given) not in placed:
            cls = self._loading.choose(base, given, f"{self._holder.label}: {self._declared.name}")
            if cls is None:
                return None
            placed[id(given)] = self._loading.make(cls, given, "", self._holder, given.place, True)
        return placed[id(given)]

    def make_component(self, base: type[Component], sign: str, given: Given, mark: Given) -> Component | None:
        cls = registry.find(sign, base.kind) if sign else None
        if sign and (cls is None or not issubclass(cls, base)):
            known = [one.sign for one in registry.concrete(base)]
            near = suggestion(sign, [*known, *self.component_names(base)])
            raise Wrong(
                (mark, f"must be the sign or name of one of the {base.kind}, not {spelled(sign)}{near}")
            )
        if given.value is not None and not isinstance(given.value, dict):
            raise Wrong((given, f"must be a mapping of properties, not {named(given)}"))
        if cls is None:
            cls = self._loading.choose(base, given, f"{self._owner.label}: {self._declared.name}")
        return self._loading.make(cls, given, "", self._owner, mark.place, not sign) if cls else None

    def find_component(self, base: type[Component], name: str) -> Component | None:
        owner: Component | None = self._owner
        while owner is not None:
            for table in owner._named.values():
                if name in table and table[name].kind == base.kind:
                    return table[name]
            owner = owner.parent
        return None

    def component_names(self, base: type[Component]) -> list[str]:
        names = []
        owner: Component | None = self._owner
        while owner is not None:
            for table in owner._named.values():
                names += [name for name, one in table.items() if isinstance(one, base)]
            owner = owner.parent
        return names

    def is_broken(self, base: type[Component], name: str) -> bool:
        return (base.kind, name) in self._loading.broken


def describe_limits(declared: Prop) -> str:
    """The limits of a property in words: "1K to 1M", "at least 1"."""
    least, most = declared.least, declared.most
    span = f"{least} to {most}" if least is not None and most is not None else ""
    span = span or (f"at least {least}" if least is not None else f"at most {most}")
    if declared.bare_kind.measure == "length":
        one = (most if most is not None else least) == 1
        span += " character" if declared.bare_kind.noun == "text" else " item"
        span += "" if one else "s"
    return span


def _either(words: list[str]) -> str:
    return (
        " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "nothing, none is known"
    )
