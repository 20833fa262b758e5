"""The `app` handlet: runs an app of the framework, `hemi.web.framework`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.component import prop
from hemi.values import Path, Secret
from hemi.web import apploader
from hemi.web.framework import App
from hemi.web.handlet import Handlet
from hemi.web.routing import BadPattern
from hemi.web.websocket.terms import WebSocketTerms

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class AppHandlet(Handlet, WebSocketTerms, sign="app"):
    """Runs an app of Gorox's own framework; declines what the app has no route for."""

    scope = Handlet.scope

    app: str = prop(
        doc='The app: "module:attr", or "module:create()" for what a function returns.', inherit=False
    )
    python_path: list[Path] = prop(["."], "Folders to put in front of sys.path before the app is imported.")
    env: dict[str, Secret] = prop(
        {}, "Environment variables to set for the process before the app is imported."
    )

    _app: App | None = None

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Imports the app, unless gevent has not patched yet: then `prepare` does."""
        yield from WebSocketTerms.check(self)
        problem = apploader.problem_of(self.app)
        if problem is not None:
            yield "app", problem
        elif apploader.is_patched():
            try:
                self._load()
            except apploader.AppError as error:
                yield "app", str(error)

    def prepare(self) -> None:
        """Imports the app, if `check` has not. Raises AppError."""
        if self._app is None:
            self._load()

    def _load(self) -> None:
        app = apploader.load(self.app, self.python_path, self.env)
        if not isinstance(app, App):
            raise apploader.AppError(f"{self.app!r} must be an App of hemi.web.framework, not {app!r:.80}")
        try:
            app.compile()
        except BadPattern as error:
            raise apploader.AppError(f"{self.app!r}: {error}") from error
        self._app = app

    def handle(self, req: Request, resp: Response) -> bool:
        """Lets the app answer."""
        return self._app.handle(req, resp, self)  # type: ignore[union-attr]  # loaded by prepare
