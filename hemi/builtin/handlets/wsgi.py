"""The `wsgi` handlet: mounts WSGI apps (PEP 3333). What an exchange is made of is in `hemi.web.wsgi`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hemi.component import prop
from hemi.web.apploader import AppError, AppMount
from hemi.web.errors import ClientGone
from hemi.web.handlet import Handlet
from hemi.web.websocket.handshake import is_upgrade
from hemi.web.websocket.terms import WebSocketTerms
from hemi.web.wsgi.environ import EnvironMaker
from hemi.web.wsgi.input import NO_INPUT, Input, InputFailed, spool
from hemi.web.wsgi.reply import Reply
from hemi.web.wsgi.websocket import Offer

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


class WSGI(AppMount, Handlet, WebSocketTerms, sign="wsgi"):
    """Runs a WSGI app, such as one of Flask or Django, in the greenlet of the connection.

    Blocking calls of the app do not stop other connections: gevent has patched the standard library before the app
    is imported. An app that cannot be imported is a problem that `gorox check` reports, with its traceback.
    WebSockets are offered in the environ as gevent-websocket and simple-websocket expect them.
    """

    scope = Handlet.scope

    environ: dict[str, str] = prop({}, "Further items of each request's environ.", inherit=False)
    script_name: str = prop(
        "",
        "Where the app is mounted, such as /shop: SCRIPT_NAME. Requests outside of it are declined.",
        inherit=False,
    )

    buffer_chunked: bool = prop(
        False,
        "Read chunked content before the app is called, so that there is a CONTENT_LENGTH: Django and Bottle see no "
        "chunked content otherwise.",
    )

    _application: Application

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Imports the app, unless gevent has not patched yet: then `prepare` does."""
        yield from WebSocketTerms.check(self)
        name = self.script_name
        if name and (name[0] != "/" or name[-1] == "/" or "//" in name):
            yield "script_name", f'must be "" or a path like "/shop", not {name!r}'
        yield from AppMount.check(self)

    def prepare(self) -> None:
        """Imports the app, if `check` has not, and readies what its environs have in common. Raises AppError."""
        AppMount.prepare(self)
        self._root = self.script_name + "/"
        self._environs = EnvironMaker(self.script_name, self.environ, self.stage.log)

    def mount(self, app: Any) -> None:
        """Takes the app. Raises AppError when it cannot be called."""
        if not callable(app):
            raise AppError(f"{self.app!r} must be a WSGI app, not {app!r:.80}")
        self._application = app

    def handle(self, req: Request, resp: Response) -> bool:
        """Calls the app; declines what is outside of its script name."""
        path = req.path
        if not path.startswith(self._root) and (path != self.script_name or not path):
            return False
        if b"upgrade" in req.index and is_upgrade(req):
            return self._offer(req, resp)
        source = Input(req) if req.content_size else NO_INPUT
        reply = Reply(resp, source)
        environ = self._environs.make(req, source, reply.early_hints)
        file = None
        try:
            if req.content_size < 0 and self.buffer_chunked:
                file = spool(req, environ)
            result = self._application(environ, reply.start)
            try:
                reply.answer(result)
            finally:
                if result.__class__ is not list:
                    close = getattr(result, "close", None)
                    if close is not None:
                        close()
        except InputFailed as error:
            raise error.reason from error
        except ClientGone:
            self.stage.log.debug("wsgi", f"{req.src_host} left during {req.line()}")
            raise
        finally:
            if file is not None:
                file.close()
        return True

    def _offer(self, req: Request, resp: Response) -> bool:
        """Calls the app for a handshake, of which it may make a WebSocket."""
        reply = Reply(resp, NO_INPUT)
        environ = self._environs.make(req, NO_INPUT, reply.early_hints)
        offer = Offer(req, resp, self, environ)

        def call() -> None:
            result = self._application(environ, reply.start)
            try:
                if not offer.is_taken:
                    reply.answer(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()

        offer.run(call)
        return True
