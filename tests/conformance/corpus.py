"""Reads the corpus of messages; corpus/README.md says how it is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "corpus"

_ESCAPE = re.compile(
    rb"\\(?:\((?P<repeat>(?:[^*\\]|\\.)*)\*(?P<count>\d+)\)|x(?P<hex>[0-9a-f]{2})|(?P<char>.))"
)
_CHARS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


class Expected(NamedTuple):
    """An answer. `statuses` are those that will do; `saw` is None when no handlet may have been called."""

    statuses: tuple[int, ...]
    closes: bool
    in_content: bool
    saw: dict[str, Any] | None


class Case(NamedTuple):
    """A message, maybe several in a row, and what must come of it. Without `expected` it is closed in silence."""

    name: str
    message: bytes
    expected: tuple[Expected, ...]
    eof: bool

    @property
    def closes(self) -> bool:
        """The server must close behind the last answer."""
        return self.eof or not self.expected or self.expected[-1].closes


def read(folder: str) -> list[Case]:
    """All cases of a folder of the corpus."""
    cases = []
    for path in sorted((FOLDER / folder).glob("*.http")):
        for block in re.split(r"^== ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            cases.append(_case(path.stem, block))
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "a name is given twice"
    return cases


def _case(stem: str, block: str) -> Case:
    title, *lines = block.splitlines()
    message, expected, eof, silent = b"", [], False, False
    for line in lines:
        if line.startswith("-- "):
            words = line[3:]
            if words == "eof":
                eof = True
            elif words == "silent":
                silent = True
            else:
                expected.append(_expected(words))
        elif not line.startswith("#"):
            assert not expected and not eof, f"{title}: bytes behind the expectations"
            message += unescape(line.encode("utf-8"))
    assert silent or expected, f"{title}: nothing is expected"
    return Case(f"{stem}/{title.partition(':')[0]}", message, tuple(expected), eof)


def _expected(words: str) -> Expected:
    match = re.fullmatch(r"((?:\d{3} ?)+)(close ?)?(content)?(\{.*\})?", words)
    assert match is not None, words
    statuses = tuple(int(word) for word in match[1].split())
    saw = json.loads(match[4]) if match[4] else None
    return Expected(statuses, bool(match[2]) or saw is None, bool(match[3]), saw)


def unescape(text: bytes) -> bytes:
    """The bytes that a text of the corpus stands for."""

    def replace(match: re.Match[bytes]) -> bytes:
        if match["count"] is not None:
            return unescape(match["repeat"]) * int(match["count"])
        if match["hex"] is not None:
            return bytes([int(match["hex"], 16)])
        return _CHARS[match["char"]]

    return _ESCAPE.sub(replace, text)
