"""The `app` handlet: runs an app of the framework, `hemi.web.framework`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hemi.web.apploader import AppError, AppMount
from hemi.web.framework import App
from hemi.web.handlet import Handlet
from hemi.web.routing import BadPattern
from hemi.web.websocket.terms import WebSocketTerms

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class AppHandlet(AppMount, Handlet, WebSocketTerms, sign="app"):
    """Runs an app of Gorox's own framework; declines what the app has no route for."""

    scope = Handlet.scope

    _app: App

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Imports the app, unless gevent has not patched yet: then `prepare` does."""
        yield from WebSocketTerms.check(self)
        yield from AppMount.check(self)

    def mount(self, app: Any) -> None:
        """Takes the app. Raises AppError when it is none of the framework, or its routes are wrong."""
        if not isinstance(app, App):
            raise AppError(f"{self.app!r} must be an App of hemi.web.framework, not {app!r:.80}")
        try:
            app.compile()
        except BadPattern as error:
            raise AppError(f"{self.app!r}: {error}") from error
        self._app = app

    def handle(self, req: Request, resp: Response) -> bool:
        """Lets the app answer."""
        return self._app.handle(req, resp, self)
