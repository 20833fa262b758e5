"""Regular expressions of users, matched in linear time.

Python's `re` backtracks: one bad expression and one long path stall a worker for minutes. RE2 is linear in
the length of the text by construction, so it is the engine of everything that a configuration may contain.
Its syntax is that of `re` without back-references and look-around.
"""

from __future__ import annotations

import re2

MAX_LENGTH = 4096  # characters of an expression: nobody writes longer ones by hand
_MAX_MEMORY = 4 << 20  # bytes of a compiled expression, RE2's answer to x{1000}{1000}


class PatternError(ValueError):
    """An expression that is not one, with the reason."""


class Pattern:
    """A compiled regular expression. Surrogates in a text, which stand for odd bytes, match as "?"."""

    __slots__ = ("_regexp", "text")

    def __init__(self, text: str) -> None:
        """Compiles `text`; raises PatternError."""
        if len(text) > MAX_LENGTH:
            raise PatternError(f"more than {MAX_LENGTH} characters")
        options = re2.Options()
        options.max_mem = _MAX_MEMORY
        options.log_errors = False
        self.text = text
        try:
            self._regexp = re2.compile(text, options)
        except (re2.error, UnicodeError) as error:
            raise PatternError(_reason(error)) from None

    def search(self, text: str) -> bool:
        """Tells whether the expression matches somewhere in `text`."""
        try:
            return self._regexp.search(text) is not None
        except UnicodeError:  # surrogates of bytes that are not UTF-8
            return self._regexp.search(_clean(text)) is not None

    @property
    def group_count(self) -> int:
        """How many groups the expression has."""
        return int(self._regexp.groups)

    def groups(self, text: str) -> tuple[str, ...] | None:
        """What matched, as a whole and by group, "" for groups that took no part; None when nothing matched."""
        try:
            match = self._regexp.search(text)
        except UnicodeError:
            match = self._regexp.search(_clean(text))
        return None if match is None else (str(match[0]), *match.groups(""))

    def end_of_first(self, text: str) -> int:
        """Where the first group of the first match ends in `text`, or else the match; -1 without a match."""
        try:
            match = self._regexp.search(text)
        except UnicodeError:
            match = self._regexp.search(_clean(text))  # as long as the text
        if match is None:
            return -1
        return int(match.end(1) if self._regexp.groups else match.end())

    def sub(self, replacement: str, text: str) -> str:
        """Returns `text` with each match replaced; `\\1` in `replacement` is what the first group matched."""
        try:
            return str(self._regexp.sub(replacement, text))
        except UnicodeError:
            return str(self._regexp.sub(replacement, _clean(text)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<Pattern {self.text!r}>"


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
