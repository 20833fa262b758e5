"""What a kind of value is: how it is parsed, shown, described.

A kind is what stands in an annotation (`Size`, `list[Address]`, `Ref[Backend]`); `kind_of` makes it from the
annotation. Kinds are immutable and compare by value. They know neither files nor stages: what they need of
the surroundings comes through a `Context`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

from hemi.source import Dirs, Given


class Wrong(Exception):
    """A given value is not of the kind: what is wrong where, as (value, message) pairs.

    A message goes on after the property's name: "must be a size, not …". No pairs: it is reported already.
    """

    def __init__(self, *problems: tuple[Given, str]) -> None:
        self.problems = problems
        super().__init__(problems)


class Context(Protocol):
    """What a kind may ask of its surroundings while it parses."""

    @property
    def dirs(self) -> Dirs: ...

    @property
    def scope(self) -> Any:
        """The hemi.conditions.Scope of the owner, or None."""

    def place_component(self, base: Any, given: Given) -> Any:
        """Makes the component that is written in place, as the value of a Ref; once per given value."""

    def make_component(self, base: Any, sign: str, given: Given, mark: Given) -> Any:
        """Makes a part of the owner; `sign` may be "" when only one can be meant; `mark` names the sign."""

    def find_component(self, base: Any, name: str) -> Any:
        """A named component that the owner may refer to, or None."""

    def component_names(self, base: Any) -> list[str]:
        """The names that a reference to a component of `base` may have."""

    def is_broken(self, base: Any, name: str) -> bool:
        """Whether a component of that name exists in the configuration, but could not be made."""


class Kind:
    """A kind of value. `noun` completes "must be …"."""

    noun = "a value"
    structural = False  # its values are written as mappings of components: never inherited
    measure: str | None = None  # what least and most limit: "value" or "length"

    def parse(self, given: Given, context: Context) -> Any:
        """Makes the value; raises Wrong."""
        raise NotImplementedError

    def show(self, value: Any) -> Any:
        """The value as plain data that parses to the same value again."""
        return value

    def spell(self, value: Any) -> str:
        """The value in a message or in help."""
        return spelled(self.show(value))

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what may be given."""
        return {}

    def bases(self) -> Iterable[type]:
        """The component classes that may be written in place."""
        return ()

    def refuse(self, given: Given) -> NoReturn:
        """Raises Wrong with the usual message."""
        raise Wrong((given, f"must be {self.noun}, not {named(given)}"))

    def _identity(self) -> tuple[Any, ...]:
        return ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._identity() == self._identity()

    def __hash__(self) -> int:
        return hash((type(self), self._identity()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.noun!r}>"


def named(given: Given) -> str:
    """How a message names a given value."""
    value = given.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if given.text is not None and not isinstance(value, str):
        return given.text
    return spelled(value)


def spelled(value: Any) -> str:
    """Plain data as it would be written in one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        shown = value if len(value) <= 80 else value[:77] + "…"
        quote = "'" if '"' in shown and "'" not in shown else '"'
        return quote + "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown) + quote
    if isinstance(value, list):
        return "[" + ", ".join(spelled(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    return str(value)


def suggestion(word: str, words: Iterable[str]) -> str:
    """', did you mean "x"?' when one of `words` is near, else ''."""
    alike = {one for one in words if abs(len(one) - len(word)) <= 5}
    near = difflib.get_close_matches(word, sorted(alike), 1, 0.7) if len(alike) <= 1000 else []
    return f', did you mean "{near[0]}"?' if near else ""
