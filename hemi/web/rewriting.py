"""Other paths and queries for requests: targets with groups and variables, tables of paths, changes of queries.

Pure functions and small classes on text. A path is decoded text here (what `Request.path` is, and what people write in
a configuration), and is encoded once, at the end. So whatever a group or a variable brings stays inside of the place
where it was put: a "?" in it begins no query, a "&" no further pair, and a ".." is refused, since what came from a
client must not climb out of the folder that a configuration names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from hemi.conditions import CompiledTemplate, ConditionError, Scope, compile_template
from hemi.source import Given
from hemi.values import Context, Kind, Wrong, spelled
from hemi.web.uri import BadTarget, normalise_path, quote_path, unquote_query

# The path of a target may begin with the variable $path, even right behind the name of a site.
_URL = re.compile(
    r"(https?://(?:(?!\$path\b|\$\(path\))[^/?#])+)?((?:/|\$path\b|\$\(path\))[^?#]*)?(?:\?([^#]*))?",
    re.DOTALL,
)
_PIECE = re.compile(
    r"(?P<dollar>\$\$)|\$(?P<group>[0-9])|\$\((?P<number>[0-9]{1,2})\)"
    r"|\$(?P<name>[A-Za-z_][A-Za-z0-9_]*)|\$\((?P<inner>[A-Za-z_][A-Za-z0-9_]*)\)|(?P<text>[^$]+|\$)"
)
_QUERY = re.compile(r"[!-~]*")  # visible ASCII
_ENCODED = {"uri": "$path", "encoded_path": "$path", "query_string": "$query_string behind a ?"}
"""Variables that are encoded already, and what a path can have in their place."""


class Place(NamedTuple):
    """Where a request is to go: scheme and authority of another site, or ""; the path, decoded; the query, encoded, or
    None when nothing is said about it."""

    site: str
    path: str
    query: str | None

    def raw_path(self) -> str:
        """The path, encoded and normalised. Raises BadTarget for dot segments and NUL."""
        if not {".", ".."}.isdisjoint(self.path.split("/")):
            raise BadTarget("a path must not have dot segments where a rewriting put them")
        return quote_path(normalise_path(quote_path(self.path).encode("ascii")))


def _split(text: str) -> tuple[str, str, str | None]:
    """Site, path and query of a target as people write it. Raises ValueError."""
    match = _URL.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise ValueError("it must be a path that starts with / or $path, or a URL, without a fragment")
    path, query = match[2] or "/", match[3]
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError("its path must not have dot segments")
    if query is not None and not _QUERY.fullmatch(query):
        raise ValueError("its query must be encoded, without spaces")
    return match[1] or "", path, query


class Target:
    """A target with groups of a pattern ($1) and variables ($path) in it.

    The site may have variables, but no groups: a path must not decide which site it leads to.
    """

    def __init__(self, text: str, scope: Scope | None) -> None:
        """Compiles a text; raises ValueError (which a ConditionError is)."""
        self.text = text
        site, path, query = _split(text)
        if re.search(r"\$\(?[0-9]", site):
            raise ValueError("groups must stand behind the name of the site")
        self.has_site = bool(site)
        self._site = compile_template(site, scope)
        self._path = tuple(_compile(path, scope, in_path=True))
        self._query = None if query is None else tuple(_compile(query, scope, in_path=False))
        self.highest_group = max(
            (one for one, _ in (*self._path, *(self._query or ())) if isinstance(one, int)), default=0
        )

    def __call__(self, subject: Any, groups: tuple[str, ...]) -> Place:
        """The place for a request; `groups` are the whole match and the groups."""
        path = "".join([_value(one, subject, groups) for one, _ in self._path])
        if self._query is None:
            return Place(self._site(subject), path, None)
        query = "".join(
            [
                quote(_value(one, subject, groups), safe="", errors="surrogateescape")
                if coded
                else _value(one, subject, groups)
                for one, coded in self._query
            ]
        )
        return Place(self._site(subject), path, query)


Piece = tuple[
    "str | int | CompiledTemplate", bool
]  # text, the number of a group, a variable; and whether to encode it


def _compile(text: str, scope: Scope | None, in_path: bool) -> Iterable[Piece]:
    for match in _PIECE.finditer(text):
        group, name = match["group"] or match["number"], match["name"] or match["inner"]
        if group is not None:
            yield int(group), True
        elif name is None:
            yield ("$" if match["dollar"] else match["text"]), False
        elif in_path and name in _ENCODED:
            raise ValueError(f"${name} must not stand in a path: it is encoded; write {_ENCODED[name]}")
        else:
            yield compile_template(f"$({name})", scope), name != "query_string"


def _value(piece: str | int | CompiledTemplate, subject: Any, groups: tuple[str, ...]) -> str:
    if isinstance(piece, str):
        return piece
    return groups[piece] if isinstance(piece, int) else piece(subject)


class TargetKind(Kind):
    noun = 'a path or URL such as "/new/$1"'

    def parse(self, given: Given, context: Context) -> Target:
        if not isinstance(given.value, str):
            self.refuse(given)
        try:
            return Target(given.value, context.scope)
        except (ConditionError, ValueError) as error:
            raise Wrong((given, f"must be {self.noun}, not {spelled(given.value)}: {error}")) from None

    def show(self, value: Target) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class PathTable:
    """A table from paths to targets without variables. A path that ends with "/*" stands for all below it, and the
    longest such path counts; a "*" at the end of its target is what they have in place of the star.
    """

    def __init__(self, pairs: dict[str, str]) -> None:
        """Takes the pairs; raises ValueError for the first one that is wrong."""
        self.has_site = False
        self._exact: dict[str, Place] = {}
        self._below: dict[str, tuple[Place, bool]] = {}  # the path with its final slash -> target, has a star
        for path, target in pairs.items():
            try:
                self._add(path, target)
            except ValueError as error:
                raise ValueError(f"{path!r}: {error}") from None

    def __len__(self) -> int:
        return len(self._exact) + len(self._below)

    def _add(self, path: str, target: str) -> None:
        if path[:1] != "/" or "*" in path.removesuffix("/*"):
            raise ValueError('it must start with "/", and have no "*" but at its end, behind a "/"')
        place = Place(*_split(target))
        self.has_site = self.has_site or bool(place.site)
        if not path.endswith("/*"):
            if "*" in place.path:
                raise ValueError(f'its target must not have a "*" either, as {target!r} has')
            self._exact[path] = place
            return
        star = place.path.endswith("*")
        if "*" in place.path.removesuffix("*"):
            raise ValueError(f'its target must have no "*" but at the end of its path, unlike {target!r}')
        self._below[path[:-1]] = (place._replace(path=place.path.removesuffix("*")), star)

    def find(self, path: str) -> Place | None:
        """Where a path is to go, or None."""
        place = self._exact.get(path)
        if place is not None or not self._below:
            return place
        cut = path.rfind("/") + 1
        while cut:
            found = self._below.get(path[:cut])
            if found is not None:
                place, star = found
                return place._replace(path=place.path + path[cut:]) if star else place
            cut = path.rfind("/", 0, cut - 1) + 1
        return None


def parse_table(text: str) -> PathTable:
    """A table of a text: a path and its target on each line; # begins a comment. Raises ValueError."""
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise ValueError(f"line {number} must be a path and a target")
        if words[0] in pairs:
            raise ValueError(f"line {number}: {words[0]!r} is there twice")
        pairs[words[0]] = words[1]
    return PathTable(pairs)


def strip_prefix(path: str, prefix: str) -> str | None:
    """A path without a prefix of whole segments ("/api" is none of "/apis"); None when it does not have it."""
    if not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    if rest[:1] == "/":
        return rest
    return "/" + rest if not rest or prefix[-1:] == "/" else None


def edit_query(query: str, drop: frozenset[str], add: Iterable[tuple[str, str]]) -> str:
    """A query without the pairs of some names ("*": without any), and with others added. The rest stays as it is."""
    pieces = []
    if query and "*" not in drop:
        pieces = [
            piece
            for piece in query.split("&")
            if piece and (not drop or unquote_query(piece.partition("=")[0]) not in drop)
        ]
    pieces += [f"{_quote(name)}={_quote(value)}" for name, value in add]
    return "&".join(pieces)


def _quote(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")
