"""Places, problems and the exceptions that end a program with a known exit code.

Exit codes are part of the interface between a leader and its workers: 10 stopped, 11 crashed, 20 a bug, 21 a
wrong configuration or command line, 22 an environment that does not let us run. An exception knows its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

EXIT_STOP = 10
EXIT_CRASH = 11
EXIT_BUG = 20
EXIT_USAGE = 21
EXIT_ENV = 22


class Place(NamedTuple):
    """Where something is written. Lines and columns count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """Something that is wrong in a configuration: where, with which component, and what must be instead."""

    place: Place | None
    component: str
    message: str

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.place, self.component, self.message) if part)


class HemiError(Exception):
    """The base of all errors that Hemi raises on purpose."""

    exit_code = EXIT_CRASH


class UsageError(HemiError):
    """The user asked for something that cannot be: a wrong option, a wrong configuration."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """A configuration that is wrong, with everything that is wrong in it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class EnvError(HemiError):
    """The environment does not let us run: an address in use, a file that cannot be read, no space left."""

    exit_code = EXIT_ENV


class BugError(HemiError):
    """The program itself is wrong: a component that is declared badly, a state that must not be."""

    exit_code = EXIT_BUG
