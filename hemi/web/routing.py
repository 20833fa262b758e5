"""Routes: path patterns compiled to a tree, found by the segments of a path. Pure: no requests, no responses.

A pattern is made of segments; one of them may hold one parameter, with text around it:

    /users/<int:id>        /files/<name>.json        /docs/<path:rest>

- No regular expression is made of a pattern, so no path can make one backtrack: the search looks at a node of the tree
  once at the most.
- The most specific match wins, whatever the order of declaration: text before parameters, `int`, `float`, `uuid` and
  one's own converters before `str`, `path` last, and among equals those with more text around them.
- A pattern without parameters is found by one look-up in a dictionary.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from hemi.web.uri import quote_path

T = TypeVar("T")

_PARAMETER = re.compile(r"<(?:([a-z_][a-z0-9_]*):)?([A-Za-z_][A-Za-z0-9_]*)>")
_INT = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class BadPattern(ValueError):
    """A path pattern that means nothing."""


class Converter(NamedTuple):
    """How a parameter is read from a path (`parse` raises ValueError for what does not match) and written to one."""

    parse: Callable[[str], Any]
    write: Callable[[Any], str] = str


def _matching(pattern: re.Pattern[str], make: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if pattern.fullmatch(text) is None:
            raise ValueError(text)
        return make(text)

    return parse


CONVERTERS: dict[str, Converter] = {
    "str": Converter(str),
    "int": Converter(_matching(_INT, int)),
    "float": Converter(_matching(_FLOAT, float)),
    "uuid": Converter(_matching(_UUID, uuid.UUID)),
    "path": Converter(str),
}
"""The built-in converters. `str` takes one segment, `path` all that are left."""


class Segment(NamedTuple):
    """One segment of a pattern. Without a name it is plain text, in `prefix`."""

    prefix: str
    name: str = ""
    kind: str = ""
    suffix: str = ""


def parse_pattern(pattern: str, converters: dict[str, Converter]) -> tuple[Segment, ...]:
    """The segments of a pattern. Raises BadPattern."""
    if not pattern.startswith("/"):
        raise BadPattern(f"a path pattern must start with /, not {pattern!r}")
    segments = [_parse_segment(text, pattern, converters) for text in pattern[1:].split("/")]
    names = [segment.name for segment in segments if segment.name]
    if len(set(names)) != len(names):
        raise BadPattern(f"{pattern!r} has two parameters of one name")
    for segment in segments[:-1]:
        if segment.kind == "path":
            raise BadPattern(f"{pattern!r}: a path parameter must be at the end")
        if not segment.prefix and not segment.name:
            raise BadPattern(f"{pattern!r} has an empty segment")
    return tuple(segments)


def _parse_segment(text: str, pattern: str, converters: dict[str, Converter]) -> Segment:
    found = list(_PARAMETER.finditer(text))
    if len(found) > 1:
        raise BadPattern(f"{pattern!r} has two parameters in one segment")
    if not found:
        if "<" in text or ">" in text:
            raise BadPattern(f"{pattern!r}: a parameter must be like <name> or <int:name>")
        return Segment(text)
    kind, name = found[0].group(1) or "str", found[0].group(2)
    if kind not in converters:
        raise BadPattern(f"{pattern!r}: there is no converter {kind!r}, but {', '.join(sorted(converters))}")
    prefix, suffix = text[: found[0].start()], text[found[0].end() :]
    if "<" in prefix + suffix or ">" in prefix + suffix:
        raise BadPattern(f"{pattern!r}: a parameter must be like <name> or <int:name>")
    if kind == "path" and suffix:
        raise BadPattern(f"{pattern!r}: a path parameter must be at the end")
    return Segment(prefix, name, kind, suffix)


def build_path(
    segments: tuple[Segment, ...], values: dict[str, Any], converters: dict[str, Converter]
) -> str:
    """The encoded path of a pattern with these values. Raises KeyError for one that is missing, ValueError for one
    that the pattern would not match."""
    pieces = []
    for segment in segments:
        text = segment.prefix
        if segment.name:
            written = converters[segment.kind].write(values[segment.name])
            converters[segment.kind].parse(written)
            if segment.kind != "path" and (not written or "/" in written or written in (".", "..")):
                raise ValueError(f"{segment.name} cannot be {written!r} in a path")
            text += written + segment.suffix
        pieces.append(text)
    return quote_path("/" + "/".join(pieces))


class _Node(Generic[T]):
    """A place in the tree: below it the texts, and the parameters, that may come next."""

    __slots__ = ("leaf", "parameters", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, _Node[T]] = {}
        self.parameters: list[tuple[Segment, Callable[[str], Any], _Node[T]]] = []
        self.leaf: dict[str, tuple[T, tuple[str, ...]]] = {}  # method -> target, names of its parameters

    def below(self, segment: Segment, converters: dict[str, Converter]) -> _Node[T]:
        """The node behind a segment, made if need be."""
        if not segment.name:
            return self.texts.setdefault(segment.prefix, _Node())
        for known, _, node in self.parameters:
            if known._replace(name="") == segment._replace(name=""):
                return node
        node = _Node[T]()
        self.parameters.append((segment, converters[segment.kind].parse, node))
        self.parameters.sort(key=lambda one: _rank(one[0]))
        return node


def _rank(segment: Segment) -> tuple[int, int]:
    """What is tried first: the least."""
    return {"str": 1, "path": 2}.get(segment.kind, 0), -len(segment.prefix) - len(segment.suffix)


class Router(Generic[T]):
    """Finds the target for a method and a path. `add` all, then `find`."""

    def __init__(self, converters: dict[str, Converter] | None = None) -> None:
        self.converters = CONVERTERS if converters is None else converters
        self._root = _Node[T]()
        self._static: dict[str, dict[str, tuple[T, tuple[str, ...]]]] = {}

    def add(self, methods: tuple[str, ...], pattern: str, target: T) -> tuple[Segment, ...]:
        """Adds a route; returns the segments of its pattern. Raises BadPattern, also when there is one like it."""
        segments = parse_pattern(pattern, self.converters)
        node = self._root
        for segment in segments:
            node = node.below(segment, self.converters)
        names = tuple(segment.name for segment in segments if segment.name)
        for method in methods:
            if method in node.leaf:
                raise BadPattern(f"{method} {pattern} is declared twice")
            node.leaf[method] = (target, names)
        if not names:
            self._static[pattern] = node.leaf
        return segments

    def find(self, method: str, path: str) -> tuple[T, dict[str, Any]] | None:
        """The target, and the values of the parameters by name; None when there is none for this method."""
        static = self._static.get(path)
        if static is not None:
            found = static.get(method)
            if found is not None:
                return found[0], {}
        for leaf, values in self._walk(self._root, path[1:].split("/"), 0):
            found = leaf.get(method)
            if found is not None:
                return found[0], dict(zip(found[1], values, strict=True))
        return None

    def methods(self, path: str) -> set[str]:
        """The methods that there are targets for at a path; empty when the path is not known."""
        return {method for leaf, _ in self._walk(self._root, path[1:].split("/"), 0) for method in leaf}

    def _walk(
        self, node: _Node[T], texts: list[str], at: int
    ) -> Iterator[tuple[dict[str, tuple[T, tuple[str, ...]]], list[Any]]]:
        """All ends of the tree that match, the most specific first, with the values of their parameters."""
        if at == len(texts):
            if node.leaf:
                yield node.leaf, []
            return
        text = texts[at]
        below = node.texts.get(text)
        if below is not None:
            yield from self._walk(below, texts, at + 1)
        for segment, parse, child in node.parameters:
            is_path = segment.kind == "path"
            given = "/".join(texts[at:]) if is_path else text
            value = _value(segment, parse, given)
            if value is not None:
                for leaf, values in self._walk(child, texts, len(texts) if is_path else at + 1):
                    yield leaf, [value[0], *values]


def _value(segment: Segment, parse: Callable[[str], Any], text: str) -> tuple[Any] | None:
    """The value of a parameter, or None when the segment does not match."""
    prefix, suffix = segment.prefix, segment.suffix
    if len(text) <= len(prefix) + len(suffix) or not (text.startswith(prefix) and text.endswith(suffix)):
        return None
    try:
        return (parse(text[len(prefix) : len(text) - len(suffix)]),)
    except ValueError:
        return None
