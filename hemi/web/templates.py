"""Templates through Jinja2, which is an extra: `pip install "gorox[templates]"`."""

from __future__ import annotations

import os
from typing import Any

from hemi.errors import EnvError


class Templates:
    """The templates of a folder. What goes into HTML is escaped (autoescape), but in files that end with .txt.

    Files are read when they are first used, and again when they change.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self.globals: dict[str, Any] = {}
        """What every template may use."""
        self._environment: Any = None

    def __repr__(self) -> str:
        return f"<Templates {self.folder}>"

    @property
    def environment(self) -> Any:
        """The jinja2.Environment, for filters and options of your own. Raises EnvError without Jinja2."""
        if self._environment is None:
            try:
                import jinja2
            except ImportError as error:
                raise EnvError('templates need Jinja2: pip install "gorox[templates]"') from error
            self._environment = jinja2.Environment(
                loader=jinja2.FileSystemLoader(self.folder),
                autoescape=_must_escape,
                undefined=jinja2.StrictUndefined,
            )
            self._environment.globals.update(self.globals)
        return self._environment

    def render(self, name: str, /, **values: Any) -> str:
        """The text that a template makes of these values. Raises jinja2.TemplateError, EnvError."""
        text: str = self.environment.get_template(name).render(values)
        return text


def _must_escape(name: str | None) -> bool:
    return name is None or not name.endswith(".txt")
