"""Kinds of texts that are compiled against the variables of their owner: conditions and templates."""

from __future__ import annotations

from typing import Any

from hemi.conditions import ConditionError, compile_condition, compile_template
from hemi.source import Given
from hemi.values.base import Context, Kind, Wrong, spelled
from hemi.values.scalars import text_of


def _at(given: Given, error: ConditionError) -> Given:
    """The given value with the place of the error inside of it, when it is unquoted and thus known."""
    if given.place is None or given.text != given.value:
        return given
    return Given(given.value, given.place._replace(column=given.place.column + error.column - 1))


class ConditionKind(Kind):
    noun = "a condition such as '$path ^= \"/api/\"'"

    def parse(self, given: Given, context: Context) -> Any:
        if not isinstance(given.value, str):
            self.refuse(given)
        try:
            return compile_condition(given.value, context.scope)
        except ConditionError as error:
            raise Wrong(
                (_at(given, error), f"must be a condition, not {spelled(given.value)}: {error}")
            ) from None

    def show(self, value: Any) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class TemplateKind(Kind):
    noun = "text, in which $name is replaced by a variable"

    def parse(self, given: Given, context: Context) -> Any:
        text = text_of(given, self)
        try:
            return compile_template(text, context.scope)
        except ConditionError as error:
            raise Wrong(
                (_at(given, error), f"must be text with variables, not {spelled(text)}: {error}")
            ) from None

    def show(self, value: Any) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}
