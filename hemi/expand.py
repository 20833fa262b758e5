"""Includes, constants, `${…}` and extensions: what happens to a tree of given values before components are
made of it.

- `include: [sites/*.yaml]` splices files into the mapping where it stands: at the top, in a section, or in a
  named component. Relative paths start at the directory of the file. Sections merge by name; any other key is
  written once.
- `constants: {name: value}` at the top makes `${name}`; `${top_dir} ${log_dir} ${tmp_dir} ${var_dir}` and
  `${env:NAME}`, `${env:NAME:-default}` are always there. `$${` stands for `${` itself.
- A text that is unquoted, or nothing but one `${…}`, is read again after the replacement: `${env:PORT:-3080}`
  is a number.
"""

from __future__ import annotations

import glob
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from hemi import component as registry
from hemi.errors import Place
from hemi.source import Dirs, Given, Reader, resolve_scalar
from hemi.values.base import named, spelled, suggestion

MAX_FILES = 1000
MAX_TEXT = 1 << 16  # characters of a text after replacement

_SECTIONS = frozenset(registry.STAGE_KINDS)
_VARIABLE = re.compile(r"\$\$\{|\$\{([^{}]*)\}")


def expand(root: Given, reader: Reader, path: str, dirs: Dirs) -> Given:
    """Splices includes, replaces `${…}`, imports extensions. Problems go to the reader."""
    if not isinstance(root.value, dict):
        return root
    _Includes(reader, dirs).splice(root, path, 0, ())
    constants = root.value.get("constants")
    _Variables(reader, dirs).replace(root, constants)
    extensions = root.value.get("extensions")
    if extensions is not None:
        _import_all(extensions, reader, dirs)
    return root


class _Includes:
    def __init__(self, reader: Reader, dirs: Dirs) -> None:
        self._reader = reader
        self._dirs = dirs
        self._files = 0

    def splice(self, given: Given, path: str, level: int, above: tuple[str, ...]) -> None:
        """Splices files into a mapping and into those inside of it.

        `level` is 0 for the top, 1 for a section, 2 for a named component; `above` are the files around.
        """
        if not isinstance(given.value, dict):
            return
        above = above or (os.path.realpath(path),)
        include = given.value.get("include")
        if include is not None and not isinstance(include.value, dict):
            del given.value["include"]
            for file, place in self._files_of(include, path):
                self._splice_file(given, file, place, level, above)
        for key, value in given.value.items():
            if level == 1 or (level == 0 and key in _SECTIONS):
                self.splice(value, path, level + 1, above)

    def _files_of(self, include: Given, path: str) -> Iterator[tuple[str, Place | None]]:
        base = os.path.dirname(path) if path else self._dirs.top
        variables = _Variables(self._reader, self._dirs)
        for item in include.value if isinstance(include.value, list) else [include]:
            variables.replace(item, None)
            if not isinstance(item.value, str) or not item.value or "\0" in item.value:
                self._reader.problem(item.place, f"include must be a list of files, not {named(item)}")
                continue
            pattern = os.path.join(base, item.value)
            if glob.has_magic(pattern):
                yield from (
                    (file, item.place)
                    for file in sorted(glob.glob(pattern, recursive=True))
                    if os.path.isfile(file)
                )
            else:
                yield pattern, item.place

    def _splice_file(
        self, given: Given, file: str, place: Place | None, level: int, above: tuple[str, ...]
    ) -> None:
        identity = os.path.realpath(file)
        if identity in above:
            self._reader.problem(
                place, f"include must not go round in circles: {spelled(file)} includes itself"
            )
            return
        self._files += 1
        if self._files > MAX_FILES:
            if self._files == MAX_FILES + 1:
                self._reader.problem(place, f"include must lead to at most {MAX_FILES} files")
            return
        part = self._reader.open(file, place)
        if part is None:
            return
        if not isinstance(part.value, dict):
            self._reader.problem(part.place, f"must be a mapping to be included, not {named(part)}")
            return
        self.splice(part, file, level, (*above, identity))
        self._merge(given, part, level)

    def _merge(self, given: Given, part: Given, level: int) -> None:
        for key, value in part.value.items():
            mine = given.value.get(key)
            if mine is None:
                given.value[key] = value
                given.key_places[key] = part.key_places[key]
            elif level == 0 and self._may_merge(key, mine, value):
                if isinstance(mine.value, list):
                    mine.value += value.value
                else:
                    self._merge(mine, value, level + 1)
            else:
                place = given.key_place(key)
                self._reader.problem(
                    part.key_place(key), f'"{key}" must be written once, it is already at {place}'
                )

    def _may_merge(self, key: str, mine: Given, value: Given) -> bool:
        if key in _SECTIONS or key == "constants":
            return isinstance(mine.value, dict) and isinstance(value.value, dict)
        return key == "extensions" and isinstance(mine.value, list) and isinstance(value.value, list)


class _Variables:
    """Replaces `${…}` in texts."""

    def __init__(self, reader: Reader, dirs: Dirs) -> None:
        self._reader = reader
        self._texts = {f"{name}_dir": value for name, value in dirs._asdict().items()}

    def replace(self, given: Given, constants: Given | None) -> None:
        """Replaces in a whole tree; the constants first, in order: a later one can use an earlier one."""
        if constants is not None and isinstance(constants.value, dict):
            for name, constant in constants.value.items():
                self.replace(constant, None)
                place = constants.key_place(name)
                if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in self._texts:
                    self._reader.problem(
                        place, f"constants must have new names of letters, digits and _, not {spelled(name)}"
                    )
                elif isinstance(constant.value, (list, dict)):
                    self._reader.problem(
                        constant.place, f'constants "{name}" must be one value, not {named(constant)}'
                    )
                else:
                    self._texts[name] = constant.text if constant.text is not None else _text(constant.value)
        for item in _scalars(given):
            if "${" in item.value:
                self._replace_text(item)

    def _replace_text(self, given: Given) -> None:
        text = given.value
        try:
            replaced = _VARIABLE.sub(self._value, text)
        except KeyError as error:
            self._reader.problem(given.place, str(error.args[0]))
            self._reader.broken.add(given.place)
            return
        if len(replaced) > MAX_TEXT:
            self._reader.problem(
                given.place, f"must have at most {MAX_TEXT} characters after ${{…}} is replaced"
            )
            return
        given.value = replaced
        whole = _VARIABLE.fullmatch(text)
        if given.text is not None or (whole is not None and whole[1] is not None):
            given.text = replaced
            given.value = resolve_scalar(replaced)

    def _value(self, match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "${"
        if name.startswith("env:"):
            variable, dash, default = name[4:].partition(":-")
            value = os.environ.get(variable) or (default if dash else os.environ.get(variable))
            if value is None:
                raise KeyError(f"${{{name}}} must be in the environment, {variable} is not set")
            return value
        if name not in self._texts:
            near = suggestion(name, self._texts)
            raise KeyError(f"there is no constant ${{{name}}}{near or '; write $${ for ${ itself'}")
        return str(self._texts[name])


def _scalars(given: Given) -> Iterator[Given]:
    """All texts of a tree."""
    todo = [given]
    while todo:
        one = todo.pop()
        if isinstance(one.value, dict):
            todo += one.value.values()
        elif isinstance(one.value, list):
            todo += one.value
        elif isinstance(one.value, str):
            yield one


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _import_all(given: Given, reader: Reader, dirs: Dirs) -> None:
    """Imports the modules of `extensions`: defining components registers them."""
    if dirs.top not in sys.path:
        sys.path.insert(0, dirs.top)
    for item in given.value if isinstance(given.value, list) else [given]:
        name = item.value
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            reader.problem(item.place, f"extensions must be names of modules, not {named(item)}")
            continue
        before = set(sys.modules)
        try:
            importlib.invalidate_caches()
            importlib.import_module(name)
            registry.resolve_all()
        except (Exception, SystemExit) as error:
            registry.forget(set(sys.modules) - before)
            last = traceback.format_exception_only(error)[-1].strip() + _where(error)
            reader.problem(item.place, f"extensions must be importable, not {spelled(name)}: {last}")


def _where(error: BaseException) -> str:
    """Where an import went wrong, when it was inside of the module."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if len(frames) > 1 else ""
