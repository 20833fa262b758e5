"""From YAML text to a tree of `Given` values, each with its place.

What is read is YAML as people expect it (YAML 1.2's core schema, and stricter): only `true` and `false` are
booleans, `null`, `~` and nothing at all are null, numbers are decimal, hexadecimal (0x1F) or octal (0o17),
and everything else is text: `on`, `no`, `1:30`, `0660`, `2024-01-01`. A number remembers how it was spelled,
so that a text property given 1.10 is "1.10".

The tree is made from the parser's events, without recursion in the parser, under caps on size, nodes and
depth.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from hemi.errors import Place, Problem

MAX_BYTES = 1 << 20  # of one file
MAX_NODES = 100_000  # of one configuration, with aliases expanded
MAX_DEPTH = 64

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Dirs(NamedTuple):
    """The directories that a configuration is read against; absolute paths."""

    top: str
    log: str
    tmp: str
    var: str

    @classmethod
    def below(cls, top: str) -> Dirs:
        """The usual ones below a top directory."""
        top = os.path.abspath(top)
        return cls(top, *(os.path.join(top, name) for name in ("log", "tmp", "var")))


class Given:
    """A value as it is written: plain data, where it stands, and where its keys stand (of a mapping)."""

    __slots__ = ("key_places", "place", "text", "value")

    def __init__(
        self,
        value: Any,
        place: Place | None = None,
        key_places: dict[str, Place] | None = None,
        text: str | None = None,
    ) -> None:
        self.value = value  # None, bool, int, float, str, list[Given] or dict[str, Given]
        self.place = place
        self.key_places = key_places or {}
        self.text = text  # the spelling of a scalar

    def key_place(self, key: str) -> Place | None:
        """Where a key of this mapping stands."""
        return self.key_places.get(key, self.place)

    def plain(self) -> Any:
        """The value as plain Python data."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def __repr__(self) -> str:
        return f"<Given {self.plain()!r}>"


class SourceError(Exception):
    """Text that cannot be read on; the problem says why."""

    def __init__(self, place: Place | None, message: str) -> None:
        self.place = place
        self.message = message
        super().__init__(message)


def resolve_scalar(text: str) -> Any:
    """The value of an unquoted scalar."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if len(text) < 64 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def from_data(data: Any, depth: int = 0) -> Given:
    """Makes a tree of Python data, for embedding, tests and defaults; without places. Raises SourceError."""
    if depth > MAX_DEPTH:
        raise SourceError(None, f"must be nested at most {MAX_DEPTH} deep")
    if isinstance(data, Given):
        return data
    if isinstance(data, Mapping):
        return Given({str(key): from_data(item, depth + 1) for key, item in data.items()})
    if isinstance(data, (list, tuple)):
        return Given([from_data(item, depth + 1) for item in data])
    if isinstance(data, os.PathLike):
        return Given(os.fspath(data))
    return Given(
        data, text=str(data) if isinstance(data, (int, float)) and not isinstance(data, bool) else None
    )


class Reader:
    """Reads files into trees, under caps that hold for all files of one configuration together."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.broken: set[Place | None] = set()  # where texts are that need not be looked at any more
        self._nodes = 0

    def read(self, text: str | bytes, name: str) -> Given | None:
        """Reads a text; None when it cannot be read at all. Problems go to `self.problems`."""
        try:
            return _Builder(self, name).build(_decode(text, name))
        except SourceError as error:
            self.problem(error.place, error.message)
            return None

    def open(self, path: str, place: Place | None = None) -> Given | None:
        """Reads a file; `place` is where it is asked for."""
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                raise OSError("not a regular file")
            with open(path, "rb") as file:
                text = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.problem(place, f'"{path}" must be a readable file: {reason}')
            return None
        return self.read(text, path)

    def problem(self, place: Place | None, message: str) -> None:
        self.problems.append(Problem(place, "", message))

    def count(self, place: Place) -> None:
        """Counts a node; raises SourceError beyond the cap."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise SourceError(place, f"must have at most {MAX_NODES} values, with aliases expanded")


def _decode(text: str | bytes, name: str) -> str:
    if len(text) > MAX_BYTES:
        raise SourceError(
            Place(name, 1, 1), f"must have at most {MAX_BYTES >> 20} MiB, not {len(text)} bytes"
        )
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1)
        raise SourceError(
            Place(name, line, column + 1), f"must be UTF-8, not byte 0x{text[error.start]:02x}"
        ) from None


class _Builder:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, reader: Reader, name: str) -> None:
        self._reader = reader
        self._name = name
        self._anchors: dict[str, Given | None] = {}
        self._depth = 0
        self._brackets: list[Place] = []  # those that are open
        self._events: Iterator[Any] = iter(())

    def build(self, text: str) -> Given:
        self._events = self._parse(text)
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Given({}, Place(self._name, 1, 1))
        root = self._node(next(self._events))
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise SourceError(self._place(event), "must be one document, not several")
        return root

    def _parse(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            raise SourceError(*self._explain(error, text)) from None
        except (yaml.reader.ReaderError, UnicodeError) as error:
            raise SourceError(*self._explain_character(error, text)) from None
        except (yaml.YAMLError, ValueError) as error:
            raise SourceError(Place(self._name, 1, 1), f"must be YAML: {error}") from None

    def _explain(self, error: Any, text: str) -> tuple[Place, str]:
        mark = error.problem_mark or error.context_mark
        if mark and mark.index >= len(text.rstrip()):  # what is not closed says more than where the text ends
            if self._brackets and "quoted" not in (error.context or ""):
                return self._brackets[-1], "must be closed by ] or }"
            mark = error.context_mark or mark
        place = Place(self._name, mark.line + 1, mark.column + 1) if mark else Place(self._name, 1, 1)
        lines = text.split("\n")
        line = lines[place.line - 1] if place.line <= len(lines) else ""
        if line.lstrip(" ").startswith("\t") and place.column > line.index("\t"):
            return place._replace(column=line.index("\t") + 1), "must be indented by spaces, not tabs"
        if "expected ','" in error.problem and "${" in line[: place.column]:
            return place, "must be quoted when ${…} is inside of [ ] or { }"
        parts = [part for part in (error.problem, error.context) if part]
        return place, "must be YAML: " + ", ".join(parts)

    def _explain_character(self, error: Any, text: str) -> tuple[Place, str]:
        match = _UNPRINTABLE.search(text)
        position = match.start() if match else 0
        line = text.count("\n", 0, position) + 1
        column = position - text.rfind("\n", 0, position)
        character = f"character 0x{ord(match[0]):02x}" if match else str(error)
        return Place(self._name, line, column), f"must be printable text, not {character}"

    def _place(self, event: Any) -> Place:
        return Place(self._name, event.start_mark.line + 1, event.start_mark.column + 1)

    def _node(self, event: Any) -> Given:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, place)
        self._reader.count(place)
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self._reader.problem(place, f"must be written without a tag, not {event.tag}")
        if event.anchor:
            self._anchors[event.anchor] = None  # until it is complete
        if isinstance(event, yaml.ScalarEvent):
            given = self._scalar(event, place)
        else:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise SourceError(place, f"must be nested at most {MAX_DEPTH} deep")
            given = self._collection(event, place)
            self._depth -= 1
        if event.anchor:
            self._anchors[event.anchor] = given
        return given

    def _collection(self, event: Any, place: Place) -> Given:
        if event.flow_style:
            self._brackets.append(place)
        given = self._sequence(place) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(place)
        if event.flow_style:
            self._brackets.pop()
        return given

    def _scalar(self, event: Any, place: Place) -> Given:
        if not event.style and event.tag is None:
            return Given(resolve_scalar(event.value), place, text=event.value)
        return Given(event.value, place)

    def _sequence(self, place: Place) -> Given:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event))
        return Given(items, place)

    def _mapping(self, place: Place) -> Given:
        given = Given({}, place)
        merged: list[Given] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_place = self._place(event)
            key = self._node(event)
            value = self._node(next(self._events))
            name = key.text if key.text is not None else key.value
            if not isinstance(name, str):
                self._reader.problem(key_place, "a key must be text, not a list or a mapping")
            elif key.text == "<<":
                merged.append(value)
            elif name in given.value:
                first = given.key_places[name]
                self._reader.problem(
                    key_place, f'"{name}" must be written once, it is already in line {first.line}'
                )
            else:
                given.value[name] = value
                given.key_places[name] = key_place
        for source in merged:
            self._merge(given, source)
        return given

    def _merge(self, given: Given, source: Given) -> None:
        sources = source.value if isinstance(source.value, list) else [source]
        for one in sources:
            if not isinstance(one.value, dict):
                self._reader.problem(one.place, "<< must have a mapping or a list of mappings")
                continue
            for name, value in one.value.items():
                if name not in given.value:
                    given.value[name] = value
                    given.key_places[name] = one.key_places[name]

    def _alias(self, anchor: Any, place: Place) -> Given:
        if anchor not in self._anchors:
            raise SourceError(place, f"there is no anchor &{anchor} above")
        target = self._anchors[anchor]
        if target is None:
            raise SourceError(place, f"*{anchor} must not stand inside of &{anchor}")
        return self._copy(target, place)

    def _copy(self, given: Given, place: Place) -> Given:
        """Copies a tree: components are told apart by the object they are given as."""
        self._reader.count(place)
        value = given.value
        if isinstance(value, dict):
            value = {key: self._copy(item, place) for key, item in value.items()}
        elif isinstance(value, list):
            value = [self._copy(item, place) for item in value]
        return Given(value, given.place, given.key_places, given.text)
