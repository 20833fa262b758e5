"""Importing what a configuration names as "module:attr": WSGI apps, apps of the framework.

Laws of this module:
- An app is imported after gevent has patched, or it would keep the blocking functions for good. `load` is for
  callers who know that; `is_patched` tells.
- Whatever goes wrong inside of the app's code is reported with its traceback, from its first line on: our frames
  and those of the import system help nobody.
- A module is imported once for a process. A reload of the configuration sees the code that has been loaded;
  changed code comes with new processes.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from hemi.component import Component, prop
from hemi.errors import UsageError
from hemi.values import Path, Secret

_SPEC = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)(\(\))?")
INDENT = "    "


class AppError(UsageError):
    """An app cannot be loaded. The text says why, with the traceback of the app's code below."""


def problem_of(spec: str) -> str | None:
    """What is wrong with the form of "module:attr" or "module:create()", None when nothing is."""
    if _SPEC.fullmatch(spec) is None:
        return f'must be "module:attr" or "module:create()", not {spec!r}'
    return None


def is_patched() -> bool:
    """Whether gevent has patched the standard library, so that apps may be imported."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def load(spec: str, python_path: Iterable[str] = (), env: Mapping[str, str] | None = None) -> Any:
    """Imports the module of "module:attr" and returns the attribute, or what "module:create()" returns.

    The folders of `python_path` are put in front of sys.path, `env` into the process's environment, before anything
    is imported. Raises AppError.
    """
    matched = _SPEC.fullmatch(spec)
    if matched is None:
        raise AppError(f"{problem_of(spec)}")
    module_name, attribute, call = matched.groups()
    os.environ.update(env or {})
    _extend_path(python_path)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise AppError(_describe(f"{spec!r} cannot be imported", error)) from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AppError(f"{spec!r} cannot be imported: {module_name} has no {attribute}") from None
    if not call:
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise AppError(_describe(f"{spec!r} failed", error)) from error


def _extend_path(folders: Iterable[str]) -> None:
    for folder in reversed(list(folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
            importlib.invalidate_caches()


def _describe(message: str, error: BaseException) -> str:
    """The message with the error and, if the app's code was reached, its traceback, indented."""
    start = _foreign_part(error.__traceback__)
    head = f"{message}: {type(error).__name__}: {error}"
    if start is None and not isinstance(error, SyntaxError):
        return head
    lines = "".join(traceback.format_exception(type(error), error, start)).rstrip().splitlines()
    return "\n".join([head, *(INDENT + line for line in lines)])


def _foreign_part(start: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is neither ours nor the import system's."""
    while start is not None:
        name = start.tb_frame.f_code.co_filename
        if name != __file__ and not name.startswith("<frozen") and name != importlib.__file__:
            return start
        start = start.tb_next
    return None


class AppMount(Component):
    """The part of a handlet that names its app. Who derives from it takes what was imported, by `mount`."""

    app: str = prop(
        doc='The app: "module:attr", or "module:create()" for what a function returns.', inherit=False
    )
    python_path: list[Path] = prop(["."], "Folders to put in front of sys.path before the app is imported.")
    env: dict[str, Secret] = prop(
        {}, "Environment variables to set for the process before the app is imported."
    )

    _is_mounted = False

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Imports the app, unless gevent has not patched yet: then `prepare` does."""
        problem = problem_of(self.app)
        if problem is not None:
            yield "app", problem
        elif is_patched():
            try:
                self._import()
            except AppError as error:
                yield "app", str(error)

    def prepare(self) -> None:
        """Imports the app, if `check` has not. Raises AppError."""
        if not self._is_mounted:
            self._import()

    def _import(self) -> None:
        self.mount(load(self.app, self.python_path, self.env))
        self._is_mounted = True

    def mount(self, app: Any) -> None:
        """Takes what the app's name stands for. Raises AppError when it is nothing to run."""
        raise NotImplementedError
