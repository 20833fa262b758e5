"""Kinds made of other kinds: lists, mappings, alternatives, values that may be missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hemi.source import Given
from hemi.values.base import Context, Kind, Wrong, named


class ListKind(Kind):
    """A list; a single value that is not a list stands for a list of one."""

    measure = "length"

    def __init__(self, item: Kind) -> None:
        self.item = item
        self.noun = f"a list, each item {item.noun}"

    def parse(self, given: Given, context: Context) -> list[Any]:
        if given.value is None:
            return []
        items = given.value if isinstance(given.value, list) else [given]
        values: list[Any] = []
        problems: list[tuple[Given, str]] = []
        failed = False
        for item in items:
            try:
                values.append(self.item.parse(item, context))
            except Wrong as wrong:
                failed = True
                problems += wrong.problems
        if failed:
            raise Wrong(*problems)
        return values

    def show(self, value: list[Any]) -> Any:
        return [self.item.show(item) for item in value]

    def schema(self) -> dict[str, Any]:
        item = self.item.schema()
        return {"anyOf": [{"type": ["array", "null"], "items": item}, item]}

    def bases(self) -> Iterable[type]:
        return self.item.bases()

    def _identity(self) -> tuple[Any, ...]:
        return (self.item,)


class DictKind(Kind):
    measure = "length"

    def __init__(self, item: Kind) -> None:
        self.item = item
        self.noun = f"a mapping, each value {item.noun}"

    def parse(self, given: Given, context: Context) -> dict[str, Any]:
        if given.value is None:
            return {}
        if not isinstance(given.value, dict):
            raise Wrong((given, f"must be a mapping, not {named(given)}"))
        values: dict[str, Any] = {}
        problems: list[tuple[Given, str]] = []
        failed = False
        for key, item in given.value.items():
            try:
                values[key] = self.item.parse(item, context)
            except Wrong as wrong:
                failed = True
                problems += [(place, f'"{key}" {message}') for place, message in wrong.problems]
        if failed:
            raise Wrong(*problems)
        return values

    def show(self, value: dict[str, Any]) -> Any:
        return {key: self.item.show(item) for key, item in value.items()}

    def schema(self) -> dict[str, Any]:
        return {"type": ["object", "null"], "additionalProperties": self.item.schema()}

    def bases(self) -> Iterable[type]:
        return self.item.bases()

    def _identity(self) -> tuple[Any, ...]:
        return (self.item,)


class OptionalKind(Kind):
    """A value of a kind, or null."""

    def __init__(self, item: Kind) -> None:
        self.item = item
        self.noun = item.noun
        self.measure = item.measure
        self.structural = item.structural

    def parse(self, given: Given, context: Context) -> Any:
        return None if given.value is None else self.item.parse(given, context)

    def show(self, value: Any) -> Any:
        return None if value is None else self.item.show(value)

    def spell(self, value: Any) -> str:
        return "null" if value is None else self.item.spell(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.item.schema(), {"type": "null"}]}

    def bases(self) -> Iterable[type]:
        return self.item.bases()

    def _identity(self) -> tuple[Any, ...]:
        return (self.item,)


class EitherKind(Kind):
    """A value of one of several kinds; the first that takes it."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self.kinds = kinds
        self.noun = " or ".join(kind.noun for kind in kinds)
        self.measure = next((kind.measure for kind in kinds if kind.measure), None)

    def parse(self, given: Given, context: Context) -> Any:
        for kind in self.kinds:
            try:
                return kind.parse(given, context)
            except Wrong as wrong:
                if not wrong.problems or (
                    isinstance(given.value, (list, dict)) and wrong.problems[0][0] is not given
                ):
                    raise  # it was this kind, with something wrong inside
        self.refuse(given)

    def show(self, value: Any) -> Any:
        for kind in self.kinds:
            try:
                return kind.show(value)
            except (TypeError, ValueError, AttributeError):
                continue
        return value

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}

    def bases(self) -> Iterable[type]:
        return [base for kind in self.kinds for base in kind.bases()]

    def _identity(self) -> tuple[Any, ...]:
        return self.kinds
