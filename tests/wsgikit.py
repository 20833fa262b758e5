"""WSGI apps in a running server, for tests: `mount` makes a function of a test something that a configuration names."""

from __future__ import annotations

import itertools
import sys
from contextlib import AbstractContextManager
from typing import Any
from wsgiref.validate import validator

import hemi.builtin.handlets.app
import hemi.builtin.handlets.wsgi  # noqa: F401  registers its component
from tests import webkit

TEXT = [("Content-Type", "text/plain")]

_numbers = itertools.count(1)


def name_of(thing: Any) -> str:
    """A "module:attr" that imports to this object."""
    name = f"thing{next(_numbers)}"
    setattr(sys.modules[__name__], name, thing)
    return f"{__name__}:{name}"


def mount(app: Any, *, valid: bool = True, **properties: Any) -> dict[str, Any]:
    """The configuration of a `wsgi` handlet with this app, in the validator of wsgiref unless it is not `valid`."""
    app = validator(app) if valid else app
    return {"wsgi": {"app": name_of(app), "python_path": [], **properties}}


def serve(app: Any, *, valid: bool = True, properties: dict[str, Any] | None = None, **more: Any) -> Any:
    """A site with nothing but this app."""
    handlet = mount(app, valid=valid, **(properties or {}))
    site: AbstractContextManager[webkit.Site] = webkit.serve(rules=[{"handlets": [handlet]}], **more)
    return site


def plain(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"hello"]


def seen(environ: dict[str, Any], keys: list[str]) -> bytes:
    return "\n".join(f"{key}={environ.get(key, '-')}" for key in keys).encode("latin-1")


def shows(*keys: str) -> Any:
    """An app that tells items of its environ."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        content = seen(environ, list(keys))
        start_response("200 OK", [*TEXT, ("Content-Length", str(len(content)))])
        return [content]

    return app


class Pieces:
    """An iterable that notes whether it was closed."""

    def __init__(self, pieces: Any) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> bytes:
        return next(self.pieces)

    def close(self) -> None:
        self.closed += 1
