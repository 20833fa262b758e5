"""Header and trailer fields: validation of what goes out, a view of what came in, and their common syntax.

Fields are ``list[tuple[bytes, bytes]]`` everywhere. This module has the rules that hold for every field
(RFC 9110 §5): names are tokens, values have no controls, lists and parameters honour quoted strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

SINGLETONS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-location",
        b"content-range",
        b"content-type",
        b"date",
        b"from",
        b"host",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"max-forwards",
        b"origin",
        b"proxy-authorization",
        b"range",
        b"referer",
        b"sec-websocket-key",
        b"user-agent",
    }
)
"""Fields that a request can have once: a second one is a 400 (as in nginx since 1.23), lest two parties
take a different one."""

MAX_LIST = 256
"""The most members that the list parsers here look at; a header of 32K could have 16,000."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def is_token(text: bytes) -> bool:
    """Whether this is a token (RFC 9110 §5.6.2): what field names, methods and codings are made of."""
    return _TOKEN.fullmatch(text) is not None


def check_name(name: bytes | str) -> bytes:
    """The name of an outgoing field as bytes. Raises ValueError if it is not a token."""
    raw = name.encode("latin-1", "replace") if isinstance(name, str) else name
    if _TOKEN.fullmatch(raw) is None:
        raise ValueError(f"a field name must be a token, not {name!r}{_attack(raw)}")
    return raw


def check_value(value: bytes | str) -> bytes:
    """The value of an outgoing field as bytes, without white space around it.

    Raises ValueError for CR, LF, NUL and other controls, and for text beyond latin-1.
    """
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(
                f"a field value must be latin-1 text, not {value!r}; percent-encode it"
            ) from None
    if _BAD_VALUE.search(value) is not None:
        raise ValueError(f"a field value must not have control characters: {value[:80]!r}{_attack(value)}")
    return value.strip(b" \t")


def _attack(raw: bytes) -> str:
    if b"\r" in raw or b"\n" in raw:
        return ": CR and LF would split the message (response splitting)"
    return ": NUL would cut it short in the next party (field truncation)" if b"\0" in raw else ""


class Fields(Mapping[str, str]):
    """A read-only view of fields as text: a case-insensitive mapping, in the order of arrival.

    Values are latin-1, the only decoding that loses nothing. A field that came several times reads as one
    list, joined by ``, `` (RFC 9110 §5.3), or ``; `` for Cookie (RFC 9113 §8.2.3).
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[bytes, bytes]]):
        self._pairs = pairs

    def get_all(self, name: str) -> list[str]:
        """Every value of a field, in order; [] if there is none. Set-Cookie can only be read so."""
        raw = _raw_name(name)
        return [value.decode("latin-1") for key, value in self._pairs if key == raw or key.lower() == raw]

    def all_items(self) -> Iterator[tuple[str, str]]:
        """Every (name, value) as it came, repeated names included; names in lower case."""
        for name, value in self._pairs:
            yield name.lower().decode("latin-1"), value.decode("latin-1")

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else ("; " if name.lower() == "cookie" else ", ").join(values)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        raw = _raw_name(name)
        return any(key == raw or key.lower() == raw for key, _ in self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._pairs})

    def __repr__(self) -> str:
        return f"<Fields {list(self.all_items())}>"


def _raw_name(name: str) -> bytes:
    return name.encode("latin-1", "replace").lower()


# The members of a list and the parameters behind a value; a quoted string (RFC 9110 §5.6.4) is one piece.
# A quote that is never closed reaches to the end. Alternatives start with different characters: linear time.
_QUOTED = r'"(?:[^"\\]|\\.)*(?:"|\\?$)'
_MEMBER = re.compile(rf'(?:[^",]|{_QUOTED})+', re.DOTALL)
_PIECE = re.compile(rf'(?:[^";]|{_QUOTED})+', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def split_list(value: str, most: int = MAX_LIST) -> list[str]:
    """The members of a list-valued field (RFC 9110 §5.6.1), empty ones left out; at most the first `most`."""
    members = value.split(",", most) if '"' not in value else _pieces(_MEMBER, value, most)
    return [member for raw in members[:most] if (member := raw.strip(" \t"))]


def _pieces(pattern: re.Pattern[str], value: str, most: int) -> list[str]:
    pieces: list[str] = []
    for match in pattern.finditer(value):
        if len(pieces) >= most:
            break
        pieces.append(match.group())
    return pieces


def unquote_string(text: str) -> str:
    """The content of a quoted string (RFC 9110 §5.6.4); text without quotes comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    text = text[1:-1]
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def quote_string(text: str) -> str:
    """A quoted string with this content. Raises ValueError if it holds controls."""
    check_value(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_parameters(value: str) -> tuple[str, dict[str, str]]:
    """A value and its parameters: ``Text/HTML; Charset="utf-8"`` is ``("text/html", {"charset": "utf-8"})``.

    Value and names are in lower case. Of a repeated parameter the first one counts; pieces without
    ``=`` are skipped.
    """
    if ";" not in value:
        return value.strip(" \t").lower(), {}
    head, _, rest = value.partition(";")
    parameters: dict[str, str] = {}
    for piece in _pieces(_PIECE, rest, MAX_LIST):
        name, equals, text = piece.partition("=")
        name = name.strip(" \t").lower()
        if equals and name:
            parameters.setdefault(name, unquote_string(text.strip(" \t")))
    return head.strip(" \t").lower(), parameters


_WEIGHT = re.compile(r"(?:0(?:\.[0-9]*)?|1(?:\.0*)?|\.[0-9]+)", re.ASCII)


def parse_weights(value: str) -> list[tuple[str, dict[str, str], float]]:
    """The members of Accept, Accept-Encoding and the like: (value, parameters but q, weight), in order.

    RFC 9110 §12.4.2. Weight 1 if there is no q; a member with a malformed q is skipped.
    """
    members = []
    for member in split_list(value):
        name, parameters = parse_parameters(member)
        weight = parameters.pop("q", "1")
        if name and len(weight) <= 8 and _WEIGHT.fullmatch(weight) is not None:
            members.append((name, parameters, float(weight)))
    return members


KNOWN_TYPES = 1024
"""How many lines of content types are remembered."""

_content_type_lines: dict[str, bytes] = {"": b""}


def content_type_line(value: str) -> bytes:
    """The field line of a content type. Raises ValueError when it can't be a field value."""
    line = _content_type_lines.get(value)
    if line is None:
        line = b"content-type: %b\r\n" % check_value(value)
        if len(_content_type_lines) < KNOWN_TYPES:
            _content_type_lines[value] = line
    return line
