"""Kinds of plain values: booleans, numbers, text, choices, sizes, durations, paths, patterns, secrets."""

from __future__ import annotations

import math
import os
import re
from typing import Any

from hemi.patterns import Pattern, PatternError
from hemi.source import Given
from hemi.values.base import Context, Kind, Wrong, named, spelled, suggestion


class BoolKind(Kind):
    noun = "true or false"

    def parse(self, given: Given, context: Context) -> bool:
        if not isinstance(given.value, bool):
            self.refuse(given)
        return given.value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class IntKind(Kind):
    noun = "a whole number"
    measure = "value"

    def parse(self, given: Given, context: Context) -> int:
        if isinstance(given.value, bool) or not isinstance(given.value, int):
            self.refuse(given)
        return given.value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer"}


class FloatKind(Kind):
    noun = "a number"
    measure = "value"

    def parse(self, given: Given, context: Context) -> float:
        if isinstance(given.value, bool) or not isinstance(given.value, (int, float)):
            self.refuse(given)
        try:
            value = float(given.value)
        except OverflowError:
            self.refuse(given)
        if not math.isfinite(value):
            self.refuse(given)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


class TextKind(Kind):
    noun = "text"
    measure = "length"

    def parse(self, given: Given, context: Context) -> str:
        return text_of(given, self)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}


def text_of(given: Given, kind: Kind) -> str:
    """The text of a scalar, as it is spelled: 1.10 stays 1.10; refuses lists, mappings and nothing."""
    if isinstance(given.value, str):
        return given.value
    if isinstance(given.value, (bool, int, float)):
        return given.text if given.text is not None else spelled(given.value)
    kind.refuse(given)


class AnyKind(Kind):
    """Whatever is written, as plain data: settings of users' own."""

    noun = "any value"

    def parse(self, given: Given, context: Context) -> Any:
        return given.plain()


class ChoiceKind(Kind):
    def __init__(self, choices: tuple[Any, ...]) -> None:
        self.choices = choices
        spellings = [str(choice) if isinstance(choice, str) else spelled(choice) for choice in choices]
        self.noun = " or ".join(filter(None, (", ".join(spellings[:-1]), spellings[-1])))

    def parse(self, given: Given, context: Context) -> Any:
        for choice in self.choices:
            if type(choice) is type(given.value) and choice == given.value:
                return choice
            if isinstance(choice, str) and given.text == choice:  # 1.2 and true where texts are meant
                return choice
        near = (
            suggestion(given.value, [c for c in self.choices if isinstance(c, str)])
            if isinstance(given.value, str)
            else ""
        )
        raise Wrong((given, f"must be {self.noun}, not {named(given)}{near}"))

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.choices)}

    def _identity(self) -> tuple[Any, ...]:
        return self.choices


class SizeKind(Kind):
    """Bytes: a whole number, or one with a unit of 1024 powers."""

    noun = "a size such as 64K"
    measure = "value"
    _units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    _form = re.compile(r"([0-9]{1,19})([KMGT]?)B?")

    def parse(self, given: Given, context: Context) -> int:
        value = given.value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
            return value
        match = self._form.fullmatch(value) if isinstance(value, str) else None
        size = int(match[1]) * self._units[match[2]] if match else -1
        if not 0 <= size < 1 << 63:
            self.refuse(given)
        return size

    def show(self, value: int) -> Any:
        for unit in "TGMK":
            if value and value % self._units[unit] == 0:
                return f"{value // self._units[unit]}{unit}"
        return value

    def spell(self, value: int) -> str:
        return str(self.show(value))

    def schema(self) -> dict[str, Any]:
        return {"type": ["integer", "string"], "pattern": "^[0-9]+[KMGT]?B?$", "minimum": 0}


class DurationKind(Kind):
    """Seconds: a number, or numbers with units, the larger ones first."""

    noun = "a duration such as 30s"
    measure = "value"
    _units = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
    _bare = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
    _form = re.compile("".join(rf"(?:([0-9]{{1,12}}(?:\.[0-9]{{1,9}})?){unit})?" for unit, _ in _units))

    def parse(self, given: Given, context: Context) -> float:
        value = given.value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
            return float(value)
        if isinstance(value, str) and self._bare.fullmatch(value):
            return float(value)
        match = self._form.fullmatch(value) if isinstance(value, str) and value else None
        if match is None:
            self.refuse(given)
        amounts = zip(match.groups(), self._units, strict=True)
        total = sum(float(amount) * seconds for amount, (_, seconds) in amounts if amount)
        return round(total, 9)

    def show(self, value: float) -> Any:
        milliseconds = round(value * 1000)
        if not math.isclose(value * 1000, milliseconds, rel_tol=1e-12, abs_tol=0) or not milliseconds:
            return value if value else 0
        parts = []
        for unit, seconds in self._units:
            amount, milliseconds = divmod(milliseconds, round(seconds * 1000))
            if amount:
                parts.append(f"{amount}{unit}")
        return "".join(parts)

    def spell(self, value: float) -> str:
        return str(self.show(value))

    def schema(self) -> dict[str, Any]:
        form = "^([0-9.]+d)?([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9.]+ms)?$"
        return {"type": ["number", "string"], "pattern": form, "minimum": 0}


class PathKind(Kind):
    """A path; a relative one starts at the top directory."""

    noun = "a path"

    def parse(self, given: Given, context: Context) -> str:
        text = text_of(given, self)
        if not text or "\0" in text:
            self.refuse(given)
        return os.path.normpath(os.path.join(context.dirs.top, os.path.expanduser(text)))

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class ModeKind(Kind):
    """Permissions of a file, in octal as chmod has them."""

    noun = "permissions such as 0660"
    _form = re.compile(r"0?o?([0-7]{3,4})")

    def parse(self, given: Given, context: Context) -> int:
        text = given.text if given.text is not None else given.value
        match = self._form.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            self.refuse(given)
        return int(match[1], 8)

    def show(self, value: int) -> Any:
        return f"{value:04o}"

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "integer"], "pattern": "^0?o?[0-7]{3,4}$"}


class PatternKind(Kind):
    noun = "a regular expression"

    def parse(self, given: Given, context: Context) -> Pattern:
        text = text_of(given, self)
        try:
            return Pattern(text)
        except PatternError as error:
            raise Wrong((given, f"must be a regular expression, not {spelled(text)}: {error}")) from None

    def show(self, value: Pattern) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class SecretKind(Kind):
    """A secret: itself, {env: NAME} or {file: PATH}. It is shown nowhere."""

    noun = "text, {env: NAME} or {file: PATH}"
    _MAX_FILE = 1 << 16  # bytes

    def parse(self, given: Given, context: Context) -> str:
        if not isinstance(given.value, dict):
            if isinstance(given.value, list) or given.value is None:
                self.refuse(given)
            return text_of(given, self)
        if len(given.value) != 1 or not set(given.value) <= {"env", "file"}:
            raise Wrong((given, f"must be {self.noun}"))
        ((source, name),) = given.value.items()
        if not isinstance(name.value, str) or not name.value:
            raise Wrong((name, f"must be {self.noun}"))
        if source == "env":
            if name.value not in os.environ:
                raise Wrong((name, f"must be in the environment variable {name.value}, which is not set"))
            return os.environ[name.value]
        return self._read(name, context)

    def _read(self, given: Given, context: Context) -> str:
        path = os.path.join(context.dirs.top, given.value)
        try:
            if not os.path.isfile(path):
                raise OSError("no such file")
            with open(path, encoding="utf-8") as file:
                return file.read(self._MAX_FILE).rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise Wrong(
                (given, f"must be in a readable file, not {spelled(given.value)}: {reason}")
            ) from None

    def show(self, value: str) -> Any:
        return "***"

    def schema(self) -> dict[str, Any]:
        source = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
        return {
            "anyOf": [
                {"type": "string"},
                source | {"properties": {"env": {"type": "string"}, "file": {"type": "string"}}},
            ]
        }
