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
