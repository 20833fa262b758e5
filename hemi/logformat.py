"""What a log's line looks like: formats with $variables, compiled; escaping, so that nobody forges a line.

A format becomes the source text of three Python functions. `record` queues its subject, which is all that a
request pays for. `render` makes the lines of many subjects, one after another: the same work costs less than half of
what it costs between system calls, where the processor's caches have been filled with other things. The check is one
`bytes.translate` of all these lines that deletes every harmless character; what is left must be exactly what the
format's own text has (its quotes, its tabs), once a line. A line may only add to that, so what adds nothing in sum
adds nothing in any line. Only when a value brought a quote, a backslash, a control character or anything beyond ASCII
are the lines looked at one by one, and `one` makes those anew that brought it, each value escaped.

Text formats escape as nginx does, `\\xHH` for each byte. JSON lines are plain ASCII; bytes that are no UTF-8
appear as the characters `\\xHH`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hemi.conditions import Scope
from hemi.logsink import MOST_SUBJECTS, Sink

__all__ = ["FORMATS", "FormatError", "Stamps", "compile_recorder", "escape", "json_escape", "plain"]

# What the formats with a name stand for. Variables that a scope lacks show as "-" there.
FORMATS = {
    "combined": '$src_host - $user [$time_local] "$request" $status $body_bytes_sent'
    ' "$header_referer" "$header_user_agent"',
    "common": '$src_host - $user [$time_local] "$request" $status $body_bytes_sent',
}

# The keys of the format "json" and the variables they show, in this order; those that the scope lacks are
# left out.
JSON_KEYS = {
    "time": "time_iso8601",
    "src_host": "src_host",
    "src_port": "src_port",
    "dst_port": "dst_port",
    "user": "user",
    "method": "method",
    "scheme": "scheme",
    "hostname": "hostname",
    "uri": "uri",
    "version": "version",
    "server_name": "server_name",
    "status": "status",
    "body_bytes_sent": "body_bytes_sent",
    "bytes_received": "bytes_received",
    "bytes_sent": "bytes_sent",
    "request_time": "request_time",
    "referer": "header_referer",
    "user_agent": "header_user_agent",
    "webapp": "webapp",
    "router": "router",
}
NUMBERS = frozenset(
    (
        "src_port",
        "dst_port",
        "status",
        "body_bytes_sent",
        "bytes_received",
        "bytes_sent",
        "request_time",
        "msec",
        "pid",
    )
)

# Variables that every scope has here, as expressions of the function below.
OWN = {
    "time_local": "stamps.local",
    "time_iso8601": "stamps.iso",
    "msec": "f'{stamps.now:.3f}'",
    "pid": "stamps.pid",
}

# nginx's names, for formats that are brought along; a scope's own names come first.
ALIASES = {
    "remote_addr": "src_host",
    "remote_port": "src_port",
    "remote_user": "user",
    "host": "hostname",
    "request_method": "method",
    "request_uri": "uri",
    "args": "query_string",
    "document_uri": "path",
}
PREFIX_ALIASES = {"http_": "header_", "arg_": "query_", "sent_http_": "sent_"}

# A user name stands unquoted between others, and may have spaces: there they would make further fields of it.
ALONE = frozenset(("user", "remote_user"))

SAFE = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
_TEXT = [chr(code) if code in SAFE else f"\\x{code:02X}" for code in range(256)]
_VARIABLE = re.compile(r"\$(?:\$|([A-Za-z_][A-Za-z0-9_]*)|\(([A-Za-z_][A-Za-z0-9_]*)\))?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class FormatError(ValueError):
    """A format that cannot be compiled; says why, in words that go on after "format"."""


class Piece(NamedTuple):
    """A part of a format: literal text, or a variable with its expression ("" where the scope has none)."""

    text: str
    is_variable: bool = False
    expression: str = ""
    is_number: bool = False


class Stamps:
    """Texts of the current time, made once a second. `make_head` makes what precedes lines, for syslog."""

    __slots__ = ("begin", "end", "head", "iso", "local", "make_head", "now", "pid")

    def __init__(self, make_head: Callable[[float], str] | None = None) -> None:
        self.begin = self.end = 0.0  # the second for which the texts are right
        self.now = 0.0  # when the last lines were made
        self.local = self.iso = self.head = self.pid = ""
        self.make_head = make_head

    def tick(self, now: float) -> None:
        """Make the texts for `now`, a Unix time."""
        second = int(now)
        parts = time.localtime(second)
        offset = parts.tm_gmtoff // 60
        sign, hours, minutes = "-" if offset < 0 else "+", abs(offset) // 60, abs(offset) % 60
        clock = f"{parts.tm_hour:02}:{parts.tm_min:02}:{parts.tm_sec:02}"
        # %b would depend on the locale
        date = f"{parts.tm_mday:02}/{_MONTHS[parts.tm_mon - 1]}/{parts.tm_year:04}"
        self.local = f"{date}:{clock} {sign}{hours:02}{minutes:02}"
        self.iso = (
            f"{parts.tm_year:04}-{parts.tm_mon:02}-{parts.tm_mday:02}T{clock}{sign}{hours:02}:{minutes:02}"
        )
        self.pid = str(os.getpid())
        self.head = self.make_head(now) if self.make_head is not None else ""
        self.begin, self.end = second, second + 1


def to_bytes(text: str) -> bytes:
    """The bytes a text came from, or UTF-8; surrogates that stand for no byte become three. Never raises."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def escape(text: str) -> str:
    """A value for a text format: quotes, backslashes, control characters and all beyond ASCII as `\\xHH`."""
    data = to_bytes(text)
    if not data.translate(None, SAFE):
        return text  # as most are, of a line where one is not
    return "".join(map(_TEXT.__getitem__, data))


def json_escape(text: str) -> str:
    """A value for the inside of a JSON string, in ASCII."""
    return json.dumps(to_bytes(text).decode("utf-8", "backslashreplace"))[1:-1]


def plain(text: str) -> str:
    """A message for people: printable characters of every language stay, all others become `\\xHH`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def parse(text: str, scope: Scope, lenient: bool = False) -> list[Piece]:
    """The pieces of a format. `lenient` lets variables be missing. Raises FormatError."""
    pieces, end = [], 0
    for match in _VARIABLE.finditer(text):
        pieces.append(Piece(text[end : match.start()]))
        end = match.end()
        name = match[1] or match[2]
        if match[0] == "$$":
            pieces.append(Piece("$"))
        elif name is None:
            raise FormatError('must have a variable behind each "$" ("$$" is a dollar sign)')
        else:
            pieces.append(Piece(name, True, find(name, scope, lenient)))
    pieces.append(Piece(text[end:]))
    return [piece for piece in pieces if piece.text]


def json_pieces(scope: Scope) -> list[Piece]:
    """The pieces of the format "json" for a scope."""
    pieces = [Piece("{")]
    for key, name in JSON_KEYS.items():
        expression = find(name, scope, lenient=True)
        if expression:
            is_number = name in NUMBERS
            quote = "" if is_number else '"'
            pieces.append(Piece(f'{"," if len(pieces) > 1 else ""}"{key}":{quote}'))
            pieces.append(Piece(name, True, expression, is_number))
            pieces.append(Piece(quote))
    return [piece for piece in [*pieces, Piece("}")] if piece.text]


def find(name: str, scope: Scope, lenient: bool = False) -> str:
    """The expression of a variable; "" when it is missing and `lenient`. Raises FormatError."""
    found = OWN.get(name) or scope.expression(name)
    if found is None and name in ALIASES:
        found = scope.expression(ALIASES[name])
    if found is None:
        for prefix, own in PREFIX_ALIASES.items():
            if name.startswith(prefix):
                found = found or scope.expression(own + name[len(prefix) :])
    if found is None and not lenient:
        near = difflib.get_close_matches(name, [*OWN, *scope.names()], 1)
        raise FormatError(
            f"has an unknown variable ${name}" + (f"; did you mean ${near[0]}?" if near else "")
        )
    return found or ""


def compile_recorder(
    text: str, scope: Scope, sink: Sink, stamps: Stamps, failed: Callable[[Exception], None]
) -> Callable[[Any], None]:
    """A function that queues a line about its subject, which must not change any more. `text`: a name of FORMATS,
    "json", or a template.

    An exception of a variable goes to `failed`, and the line is lost. Raises FormatError.
    """
    is_json = text == "json"
    pieces = json_pieces(scope) if is_json else parse(FORMATS.get(text, text), scope, text in FORMATS)
    literals = "".join(piece.text for piece in pieces if not piece.is_variable) + "\n"
    expected = literals.encode("utf-8", "surrogatepass").translate(None, SAFE)
    source = "\n".join(_source(pieces, is_json, stamps.make_head is not None))
    made: dict[str, Any] = {}
    exec(compile(source, f"<log format {text[:40]!r}>", "exec"), made)
    record: Callable[[Any], None] = made["make"](
        careful=_careful(pieces, is_json),
        expected=expected,
        failed=failed,
        mend=_mend,
        most=MOST_SUBJECTS,
        odd=expected + b"\n",
        safe=SAFE,
        sink=sink,
        stamps=stamps,
        subjects=sink.subjects,
        time=time.time,
    )
    return record


_PARAMETERS = "careful, expected, failed, mend, most, odd, safe, sink, stamps, subjects, time"


def _source(pieces: list[Piece], is_json: bool, has_head: bool) -> list[str]:
    """The lines of the source text of the functions. Values are locals v0, v1, …; all else comes from cells.

    `odd` is longer than what is expected of a line, so that the check of a batch with one of it must fail.
    """
    values, parts, guards = [], [], []
    for index, piece in enumerate(piece for piece in pieces if piece.is_variable):
        # What is missing shows as nginx shows it.
        default = "0" if piece.is_number else "''" if is_json else "'-'"
        values.append(f"v{index} = ({piece.expression or default}) or {default}")
        if piece.text in ALONE and not is_json:
            guards.append(f"' ' in v{index}")
    index = 0
    for piece in pieces:
        parts.append(f"{{v{index}}}" if piece.is_variable else _literal(piece.text))
        index += piece.is_variable
    locals_ = "".join(f"v{number}, " for number in range(index))
    head = "{stamps.head}" if has_head else ""
    guard = f"odd if {' or '.join(guards)} else " if guards else ""
    return [
        f"def make({_PARAMETERS}):",
        "    def one(s):",
        "        try:",
        *(f"            {value}" for value in values),
        f"            return f'{head}{{careful(({locals_}))}}\\n'.encode('utf-8', 'surrogatepass')",
        "        except Exception as e:",
        "            failed(e)",
        "            return b''",
        "    def render(subjects):",
        "        stamps.now = now = time()",
        "        if not stamps.begin <= now < stamps.end:",
        "            stamps.tick(now)",
        "        lines = []",
        "        add = lines.append",
        "        for s in subjects:",
        "            try:",
        *(f"                {value}" for value in values),
        f"                add({guard}f'{head}{''.join(parts)}\\n'.encode())",
        "            except Exception:",
        "                add(odd)",
        "        if b''.join(lines).translate(None, safe) != expected * len(lines):",
        "            mend(lines, subjects, expected, one)",
        "        return lines",
        "    push = subjects.append",
        "    def record(s):",
        "        if sink.render is not render or len(subjects) >= most:",
        "            sink.turn_to(render)",
        "        push(s)",
        "    return record",
    ]


def _mend(lines: list[bytes], subjects: list[Any], expected: bytes, one: Callable[[Any], bytes]) -> None:
    """Make the odd ones among lines anew, carefully; those that cannot be made go."""
    for index, line in enumerate(lines):
        if line.translate(None, SAFE) != expected:
            lines[index] = one(subjects[index])
    lines[:] = filter(None, lines)


def _literal(text: str) -> str:
    """Literal text within the single quotes of an f-string."""
    inner = text.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    return inner.replace("{", "{{").replace("}", "}}")


def _careful(pieces: list[Piece], is_json: bool) -> Callable[[tuple[Any, ...]], str]:
    """The slow way to a line: each value escaped."""

    def careful(values: tuple[Any, ...]) -> str:
        rest = iter(values)
        parts = []
        for piece in pieces:
            if not piece.is_variable:
                parts.append(piece.text)
                continue
            value = str(next(rest))
            if piece.is_number:
                parts.append(value if _NUMBER.fullmatch(value) else f'"{json_escape(value)}"')
            elif is_json:
                parts.append(json_escape(value))
            else:
                parts.append(escape(value).replace(" ", "\\x20") if piece.text in ALONE else escape(value))
        return "".join(parts)

    return careful
