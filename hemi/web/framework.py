"""A small web framework for blocking code: routes, hooks, error handlers, groups, templates.

    from hemi.web.framework import App, abort

    app = App()

    @app.get("/users/<int:id>")
    def user(req, id):
        return db.find(id) or abort(404)            # a dict or list becomes JSON

    @app.websocket("/chat/<room>")
    def chat(ws, room):
        for message in ws:
            ws.send(message)

A configuration runs it with `handlets: [{app: {app: "module:app"}}]`. How patterns match is in `hemi.web.routing`;
`Request` and `Response` are those of every handlet, so nothing is hidden and nothing is in the way.

Laws of this module:
- A function gets the request, the response if it has a parameter `resp`, and the parameters of its pattern by name.
  What does not fit is found when the route is declared.
- What a function returns is the response: str (HTML), bytes, dict or list (JSON), an iterator (streamed),
  (body, status), (body, status, headers); or None, when it has sent the response through `resp` itself.
- HEAD runs the route of GET, OPTIONS and 405 come with Allow, and a path that is there with or without its slash at the
  end redirects to it (308, so that the method stays).
- An app declines what it has no route for, so that the next handlet or rule can try; unless it handles 404 itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter, signature
from typing import Any, NamedTuple, NoReturn, TypeVar

from hemi.web.errors import ClientGone, HTTPError
from hemi.web.request import Request
from hemi.web.response import Response, quote_location
from hemi.web.routing import CONVERTERS, Converter, Router, Segment, build_path
from hemi.web.templates import Templates
from hemi.web.uri import build_query, quote_path
from hemi.web.websocket.handshake import is_upgrade, upgrade_required
from hemi.web.websocket.serving import accept, serve
from hemi.web.websocket.terms import WebSocketTerms

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)
Hook = tuple[Function, bool]  # and whether it wants `resp`

WEBSOCKET = "(websocket)"
"""Stands where routes have a method; no method can be called so."""


class Route(NamedTuple):
    """One declared route."""

    methods: tuple[str, ...]
    pattern: str
    function: Function
    name: str
    wants_resp: bool
    subprotocols: tuple[str, ...] | None = None


class Target(NamedTuple):
    """A route with what its groups add to it."""

    function: Function
    wants_resp: bool
    before: tuple[Hook, ...]
    after: tuple[Hook, ...]
    groups: tuple[Group, ...]
    subprotocols: tuple[str, ...] | None = None


def abort(status: int, text: str = "", *, headers: Iterable[tuple[str, str]] = ()) -> NoReturn:
    """Ends the function with the error handler or error page of this status; `text` is shown on the page."""
    raise HTTPError(status, text, headers=tuple(headers))


def redirect(location: str, status: int = 302) -> tuple[bytes, int, list[tuple[str, str]]]:
    """What a function returns to send the client elsewhere, to a path or URL."""
    return b"", status, [("location", quote_location(location))]


class Group:
    """Routes with a prefix, hooks and error handlers of their own. To be mounted in an app, or in another group."""

    def __init__(self, prefix: str = "", *, name: str = "") -> None:
        """`prefix` is put in front of all patterns; `name` in front of the names for `url_for`, with a dot.

        Raises ValueError when the prefix is not "" or like "/api".
        """
        if prefix and (prefix[0] != "/" or prefix[-1] == "/"):
            raise ValueError(f'a prefix must be "" or like "/api", not {prefix!r}')
        self.prefix = prefix
        self.name = name
        self.routes: list[Route] = []
        self.groups: list[tuple[str, Group]] = []
        self._before: list[Hook] = []
        self._after: list[Hook] = []
        self._errors: dict[int | type[BaseException], Hook] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.prefix or '/'} routes={len(self.routes)} groups={len(self.groups)}>"

    # Routes

    def route(self, pattern: str, *methods: str, name: str = "") -> Callable[[F], F]:
        """Declares the function below for these methods, GET if none is named. `name` is for `url_for`: the function's
        when missing."""

        def declare(function: F) -> F:
            wanted = tuple(method.upper() for method in methods) or ("GET",)
            wants_resp = _check_parameters(function, pattern)
            self.routes.append(Route(wanted, pattern, function, name or function.__name__, wants_resp))
            return function

        return declare

    def get(self, pattern: str, *, name: str = "") -> Callable[[F], F]:
        """Declares the function below for GET and HEAD."""
        return self.route(pattern, "GET", name=name)

    def post(self, pattern: str, *, name: str = "") -> Callable[[F], F]:
        """Declares the function below for POST."""
        return self.route(pattern, "POST", name=name)

    def put(self, pattern: str, *, name: str = "") -> Callable[[F], F]:
        """Declares the function below for PUT."""
        return self.route(pattern, "PUT", name=name)

    def patch(self, pattern: str, *, name: str = "") -> Callable[[F], F]:
        """Declares the function below for PATCH."""
        return self.route(pattern, "PATCH", name=name)

    def delete(self, pattern: str, *, name: str = "") -> Callable[[F], F]:
        """Declares the function below for DELETE."""
        return self.route(pattern, "DELETE", name=name)

    def websocket(
        self, pattern: str, *, name: str = "", subprotocols: Iterable[str] | None = None
    ) -> Callable[[F], F]:
        """Declares the function below for WebSockets: it gets one, and the parameters of the pattern.

        When it returns the WebSocket ends. `subprotocols` are those that it speaks; the handlet's when None. Functions
        of `before` see the request first, and can refuse it.
        """

        def declare(function: F) -> F:
            _check_parameters(function, pattern, "the WebSocket")
            spoken = None if subprotocols is None else tuple(subprotocols)
            self.routes.append(
                Route((WEBSOCKET,), pattern, function, name or function.__name__, False, spoken)
            )
            return function

        return declare

    # Groups, hooks, errors

    def group(self, prefix: str, *, name: str = "") -> Group:
        """Makes a group within this one."""
        return self.mount(Group(prefix, name=name))

    def mount(self, group: Group, prefix: str = "") -> Group:
        """Takes a group in, below a further prefix; returns it."""
        if prefix and (prefix[0] != "/" or prefix[-1] == "/"):
            raise ValueError(f'a prefix must be "" or like "/api", not {prefix!r}')
        self.groups.append((prefix, group))
        return group

    def before(self, function: F) -> F:
        """Calls the function before those of the routes; what it returns, if not None, is the response instead."""
        self._before.append((function, _wants_resp(function)))
        return function

    def after(self, function: F) -> F:
        """Calls the function with request and response before the response goes out, to change its head.

        That of an error handler, too; for a path without a route, those of the app. Not called when the route's
        function has sent the response itself, and not for unhandled errors.
        """
        self._after.insert(0, (function, _wants_resp(function)))
        return function

    def error(self, *kinds: int | type[BaseException]) -> Callable[[F], F]:
        """Calls the function below, with request and error, for these statuses or classes of exceptions.

        What it returns is the response; its status is that of the error unless it says otherwise, 500 for exceptions.
        """

        def declare(function: F) -> F:
            for kind in kinds:
                self._errors[kind] = (function, _wants_resp(function))
            return function

        return declare


class App(Group):
    """The outermost group, and what runs it all."""

    def __init__(self, prefix: str = "", *, templates: str | os.PathLike[str] | None = None) -> None:
        """`templates` is a folder of Jinja2 templates, relative to the file of the caller."""
        super().__init__(prefix)
        self.converters: dict[str, Converter] = dict(CONVERTERS)
        self.templates: Templates | None = None
        if templates is not None:
            caller = sys._getframe(1).f_globals.get("__file__", "")
            self.templates = Templates(os.path.join(os.path.dirname(os.path.abspath(caller)), templates))
            self.templates.globals["url_for"] = self.url_for
        self._router: Router[Target] | None = None
        self._named: dict[str | Function, list[tuple[Segment, ...]]] = {}
        self._teardown: list[Function] = []

    def converter(self, name: str, parse: Callable[[str], Any], write: Callable[[Any], str] = str) -> None:
        """Adds a converter for parameters. `parse` raises ValueError for text that does not match, `write` is for
        `url_for`."""
        self.converters[name] = Converter(parse, write)

    def teardown(self, function: F) -> F:
        """Calls the function at the very end of each request with request and error (or None), to release things."""
        self._teardown.append(function)
        return function

    def render(self, name: str, /, **values: Any) -> str:
        """The HTML that a template makes of these values."""
        if self.templates is None:
            raise RuntimeError('this app has no templates: App(templates="folder")')
        return self.templates.render(name, **values)

    def url_for(self, name: str | Function, /, **values: Any) -> str:
        """The path to a route, by its name ("group.name" in a named group) or function. Values that are no parameters
        of its pattern become the query. Raises LookupError, ValueError."""
        self.compile()
        known = self._named.get(name, [])
        for segments in known:
            names = {segment.name for segment in segments if segment.name}
            if names <= values.keys():
                query = build_query([(key, str(values[key])) for key in values if key not in names])
                path = build_path(segments, values, self.converters)
                return f"{path}?{query}" if query else path
        if known:
            wanted = [segment.name for segment in known[0] if segment.name]
            raise LookupError(f"a path to {name!r} needs {', '.join(wanted)}")
        raise LookupError(f"there is no route {name!r}")

    # Compiling

    def compile(self) -> None:
        """Makes the tree of all routes; those that are declared afterwards are not found. Idempotent.

        Raises routing.BadPattern.
        """
        if self._router is None:
            router: Router[Target] = Router(self.converters)
            self._compile(router, self, "", "", (), (), ())
            self._router = router

    def _compile(
        self,
        router: Router[Target],
        group: Group,
        prefix: str,
        names: str,
        before: tuple[Hook, ...],
        after: tuple[Hook, ...],
        groups: tuple[Group, ...],
    ) -> None:
        prefix += group.prefix
        names += f"{group.name}." if group.name else ""
        before, after, groups = (*before, *group._before), (*group._after, *after), (group, *groups)
        for route in group.routes:
            target = Target(route.function, route.wants_resp, before, after, groups, route.subprotocols)
            pattern = prefix + ("" if route.pattern == "/" and prefix else route.pattern)
            segments = router.add(route.methods, pattern, target)
            self._named.setdefault(names + route.name, []).append(segments)
            self._named.setdefault(route.function, []).append(segments)
        for further, inner in group.groups:
            self._compile(router, inner, prefix + further, names, before, after, groups)

    # Running

    def handle(self, req: Request, resp: Response, terms: WebSocketTerms) -> bool:
        """Answers a request; False when there is no route for it. `terms` are those of WebSockets."""
        if self._router is None:
            self.compile()
        router: Router[Target] = self._router  # type: ignore[assignment]  # made by compile
        method = req.method
        if b"upgrade" in req.index and is_upgrade(req):
            opened = router.find(WEBSOCKET, req.path)
            if opened is not None:
                return self._open(opened, req, resp, terms)
        if req.path == "*":
            return False  # about the server, not about a resource (RFC 9110 §9.3.7)
        found = router.find(method, req.path)
        if found is None and method == "HEAD":
            found = router.find("GET", req.path)
        if self._teardown:
            return self._run_and_tear_down(found, req, resp)
        return self._run(found, req, resp)

    def _open(
        self, found: tuple[Target, dict[str, Any]], req: Request, resp: Response, terms: WebSocketTerms
    ) -> bool:
        """Runs the function of a WebSocket, from the handshake to the end."""
        target, values = found

        def run(_: object, req: Request, resp: Response) -> bool:
            for function, wants_resp in target.before:
                result = function(req, resp) if wants_resp else function(req)
                if result is not None or resp.is_sent:
                    respond(req, resp, result, target.after)
                    return True
            serve(accept(req, resp, terms, target.subprotocols), target.function, **values)
            return True

        try:
            return self._run_and_tear_down(found, req, resp, run)
        except Exception as error:
            if resp.is_sent or not self._handle_error(target.groups, req, resp, error, target.after):
                raise
            return True

    def _run_and_tear_down(
        self,
        found: tuple[Target, dict[str, Any]] | None,
        req: Request,
        resp: Response,
        run: Callable[[Any, Request, Response], bool] | None = None,
    ) -> bool:
        failure: BaseException | None = None
        try:
            return (run or self._run)(found, req, resp)
        except BaseException as error:
            failure = error
            raise
        finally:
            for function in self._teardown:
                function(req, failure)

    def _run(self, found: tuple[Target, dict[str, Any]] | None, req: Request, resp: Response) -> bool:
        if found is None:
            return self._miss(req, resp)
        target, values = found
        try:
            result = None
            for function, wants_resp in target.before:
                result = function(req, resp) if wants_resp else function(req)
                if result is not None or resp.is_sent:
                    break
            else:
                if target.wants_resp:
                    result = target.function(req, resp, **values)
                else:
                    result = target.function(req, **values)
            respond(req, resp, result, target.after)
        except Exception as error:
            if (
                isinstance(error, ClientGone)
                or resp.is_sent
                or not self._handle_error(target.groups, req, resp, error, target.after)
            ):
                raise
        return True

    def _miss(self, req: Request, resp: Response) -> bool:
        """No route: for this method, for the path without or with its slash, or at all."""
        router: Router[Target] = self._router  # type: ignore[assignment]  # made by handle
        path = req.path
        methods = router.methods(path)
        error = HTTPError(404)
        if WEBSOCKET in methods:
            methods.discard(WEBSOCKET)
            if not methods:
                raise upgrade_required()
        if methods:
            if "GET" in methods:
                methods.add("HEAD")
            allow = ", ".join(sorted({*methods, "OPTIONS"}))
            if req.method == "OPTIONS":
                resp.add_header("allow", allow)
                resp.send(b"", 204)
                return True
            error = HTTPError(405, headers=(("allow", allow),))
        elif len(path) > 1 and router.methods(path[:-1] if path[-1] == "/" else path + "/"):
            other = quote_path(path[:-1] if path[-1] == "/" else path + "/")
            resp.redirect(f"{other}?{req.query_string}" if req.query_string else other, 308)
            return True
        if self._handle_error((self,), req, resp, error, tuple(self._after)):
            return True
        if methods:
            raise error
        return False

    def _handle_error(
        self,
        groups: tuple[Group, ...],
        req: Request,
        resp: Response,
        error: Exception,
        after: tuple[Hook, ...],
    ) -> bool:
        """Answers with what the error handler of the innermost group makes of it; False when there is none."""
        hook = _hook_for(groups, error)
        if hook is None:
            return False
        status = error.status if isinstance(error, HTTPError) else 500
        if not isinstance(error, HTTPError) and req.webapp is not None:
            req.webapp.stage.log.error("app", f"{req.line()} failed", error)
        resp.reset()
        resp.status = status
        if isinstance(error, HTTPError):
            for name, value in error.headers:
                resp.add_header(name, value)
            if error.close:
                resp.close = True
        function, wants_resp = hook
        result = function(req, resp, error) if wants_resp else function(req, error)
        respond(req, resp, result, after)
        return True


def _hook_for(groups: tuple[Group, ...], error: Exception) -> Hook | None:
    """The handler of an error: by status, then by the classes of the exception, group by group outwards."""
    kinds: tuple[Any, ...] = type(error).__mro__
    if isinstance(error, HTTPError):  # meant for the client: a handler of Exception does not want it
        kinds = (error.status, *(kind for kind in kinds if issubclass(kind, HTTPError)))
    else:
        kinds = (*kinds[:-3], 500, *kinds[-3:])  # 500 before Exception
    for group in groups:
        for kind in kinds:
            hook = group._errors.get(kind)
            if hook is not None:
                return hook
    return None


def respond(req: Request, resp: Response, result: Any, after: tuple[Hook, ...]) -> None:
    """Sends what a function returned. Raises TypeError for what can't be a response."""
    if result is None:
        if not resp.is_sent:
            raise RuntimeError("a function of a route returned None and sent nothing")
        return
    if resp.is_sent:
        raise RuntimeError("a function of a route sent a response and returned another")
    if result.__class__ is tuple:
        result = _unpack(resp, result)
    if after:
        for function, wants_resp in after:
            if wants_resp:
                function(req, resp)
            else:
                function(req)
    kind = result.__class__
    if kind is str or kind is bytes:
        resp.send(result)
    elif kind is dict or kind is list:
        resp.send_json(result)
    elif isinstance(result, (str, bytes, bytearray)):
        resp.send(str(result) if isinstance(result, str) else bytes(result))
    elif isinstance(result, Iterator):
        _stream(resp, result)
    else:
        raise TypeError(f"a function of a route returned {result!r:.80}, which cannot be a response")


def _unpack(resp: Response, result: tuple[Any, ...]) -> Any:
    """Takes status and headers out of (body, status) and (body, status, headers)."""
    if len(result) not in (2, 3) or not isinstance(result[1], int) or not 200 <= result[1] <= 599:
        raise TypeError(f"a tuple must be (body, status) or (body, status, headers), not {result!r:.80}")
    resp.status = int(result[1])
    if len(result) == 3:
        headers = result[2]
        for name, value in headers.items() if hasattr(headers, "items") else headers:
            resp.add_header(name, value)
    return b"" if result[0] is None else result[0]


def _stream(resp: Response, pieces: Iterator[str | bytes]) -> None:
    try:
        for piece in pieces:
            if piece:
                resp.echo(piece)
                if resp.request.method == "HEAD":
                    break
        if not resp.is_sent:
            resp.send(b"")
        else:
            resp.finish()
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


# Checks at declaration


def _wants_resp(function: Function) -> bool:
    return "resp" in signature(function).parameters


def _check_parameters(function: Function, pattern: str, first: str = "the request") -> bool:
    """Whether a function wants `resp`. Raises TypeError when it does not fit the pattern."""
    given = {name.strip("<>").rpartition(":")[2] for name in _parameters_of(pattern)}
    parameters = list(signature(function).parameters.values())
    label = f"{function.__name__}(), declared for {pattern!r},"
    if not parameters:
        raise TypeError(f"{label} must take {first} as its first parameter")
    rest = parameters[1:]
    if any(one.kind is Parameter.VAR_KEYWORD for one in rest):
        return any(one.name == "resp" for one in rest)
    names = {one.name for one in rest} - {"resp"}
    needed = {one.name for one in rest if one.default is Parameter.empty} - {"resp"}
    if given - names:
        raise TypeError(f"{label} has no parameter {', '.join(sorted(given - names))}")
    if needed - given:
        raise TypeError(f"{label} wants {', '.join(sorted(needed - given))}, which the pattern does not have")
    return len(names) != len(rest)


def _parameters_of(pattern: str) -> list[str]:
    return [piece.partition(">")[0] for piece in pattern.split("<")[1:]]


__all__ = ["App", "Group", "HTTPError", "Request", "Response", "abort", "redirect"]
