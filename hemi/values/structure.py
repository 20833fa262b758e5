"""Kinds of values that are components: references, parts, children, named sections.

They only look at the form; components are made, found and remembered by the Context.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hemi.source import Given
from hemi.values.base import Context, Kind, Wrong, named, spelled, suggestion

_SPOKEN_AN = ("a", "e", "i", "o", "h2", "hrpc", "http", "fcgi", "rpc", "scgi")


def _article(noun: str) -> str:
    return ("an " if noun.startswith(_SPOKEN_AN) else "a ") + noun


def _noun(base: Any) -> str:
    """What a component of a base is called in messages: its sign, or the kind in the singular."""
    kind = str(base.kind)
    singular = kind[:-3] + "y" if kind.endswith("ies") else kind[:-1] if kind.endswith("s") else kind
    return str(base.sign or singular)


class ComponentKind(Kind):
    """What the kinds below share: the class that the components are of."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.word = _noun(base)

    def bases(self) -> Iterable[type]:
        return (self.base,)

    def _identity(self) -> tuple[Any, ...]:
        return (self.base,)

    def schema(self) -> dict[str, Any]:
        return {"x-components": self.base.kind}  # resolved by hemi.reference


class RefKind(ComponentKind):
    """The name of a component, or one written in place."""

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.noun = f"the name of {_article(self.word)}"

    def parse(self, given: Given, context: Context) -> Any:
        if isinstance(given.value, dict):
            component = context.place_component(self.base, given)
            if component is None:
                raise Wrong
            return component
        if not isinstance(given.value, str):
            self.refuse(given)
        component = context.find_component(self.base, given.value)
        if component is not None:
            if not isinstance(component, self.base):
                raise Wrong((given, f"must be {self.noun}, not of {component.label}"))
            return component
        if context.is_broken(self.base, given.value):
            raise Wrong
        near = suggestion(given.value, context.component_names(self.base))
        raise Wrong((given, f"must be {self.noun}, not {spelled(given.value)}{near}"))

    def show(self, value: Any) -> Any:
        return value.name

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, super().schema() | {"x-form": "typed"}]}


class PartsKind(ComponentKind):
    """A list of components of a kind: a sign, {sign: {…}}, or the name of one declared above."""

    structural = True
    measure = "length"

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.noun = f"a list of {base.kind}"

    def parse(self, given: Given, context: Context) -> list[Any]:
        if given.value is None:
            return []
        items = given.value if isinstance(given.value, list) else [given]
        parts: list[Any] = []
        problems: list[tuple[Given, str]] = []
        failed = False
        for item in items:
            try:
                parts.append(self._part(item, context))
            except Wrong as wrong:
                failed = True
                problems += wrong.problems
        if failed:
            raise Wrong(*problems)
        return parts

    def _part(self, item: Given, context: Context) -> Any:
        if isinstance(item.value, str):
            part = context.find_component(self.base, item.value)
            if part is not None and not isinstance(part, self.base):
                raise Wrong((item, f"must have {_article(self.word)}, not {part.label}"))
            if part is not None:
                return part
            if context.is_broken(self.base, item.value):
                raise Wrong
            part = context.make_component(self.base, item.value, Given({}, item.place), item)
        elif isinstance(item.value, dict) and len(item.value) == 1:
            ((sign, given),) = item.value.items()
            part = context.make_component(self.base, sign, given, Given(sign, item.key_place(sign)))
        else:
            form = f"must be the sign of {_article(self.word)}, or {{sign: {{…}}}}"
            raise Wrong(
                (
                    item,
                    f"{form}, not {named(item)}"
                    + (" with several keys" if isinstance(item.value, dict) else ""),
                )
            )
        if part is None:
            raise Wrong
        return part

    def show(self, value: list[Any]) -> Any:
        return [part.sign for part in value]

    def schema(self) -> dict[str, Any]:
        item = super().schema() | {"x-form": "part"}
        return {"anyOf": [{"type": ["array", "null"], "items": item}, item]}


class ChildrenKind(ComponentKind):
    """A list of mappings, each a component of one class."""

    structural = True
    measure = "length"

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.noun = f"a list of {base.kind}, each a mapping"

    def parse(self, given: Given, context: Context) -> list[Any]:
        if given.value is None:
            return []
        if not isinstance(given.value, list):
            self.refuse(given)
        children: list[Any] = []
        problems: list[tuple[Given, str]] = []
        for item in given.value:
            try:
                children.append(context.make_component(self.base, "", item, item))
            except Wrong as wrong:
                problems += wrong.problems
        if problems or None in children:
            raise Wrong(*problems)
        return children

    def show(self, value: list[Any]) -> Any:
        return [{} for _ in value]

    def schema(self) -> dict[str, Any]:
        return {"type": ["array", "null"], "items": super().schema() | {"x-form": "typed"}}


class NamedKind(ComponentKind):
    """A mapping of names to components."""

    structural = True

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.noun = f"a mapping of names to {base.kind}"

    def parse(self, given: Given, context: Context) -> dict[str, Any]:
        raise NotImplementedError  # made before the owner is configured: others may refer to them

    def show(self, value: dict[str, Any]) -> Any:
        return {name: {} for name in value}

    def schema(self) -> dict[str, Any]:
        return {"type": ["object", "null"], "additionalProperties": super().schema() | {"x-form": "typed"}}


class InPlaceKind(ComponentKind):
    """One component of a fixed class, written under its sign: the fixtures of a stage."""

    structural = True

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        self.noun = f"a mapping of properties of {base.sign}"

    def parse(self, given: Given, context: Context) -> Any:
        component = context.make_component(self.base, self.base.sign, given, given)
        if component is None:
            raise Wrong
        return component

    def show(self, value: Any) -> Any:
        return {}

    def schema(self) -> dict[str, Any]:
        return {"x-components": self.base.kind, "x-sign": self.base.sign, "x-form": "bare"}
