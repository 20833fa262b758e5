"""The environ of a WSGI app (PEP 3333), made of a request.

What does not change is in a dictionary made once; an environ is that one, the items of the request, and its fields.

- Text is "bytes as latin-1" (PEP 3333, "Unicode issues"): a path in UTF-8 is decoded as latin-1.
- PATH_INFO is the path that the rules saw: decoded once and normalised, so that no check on it can be tricked. The
  target as it came is REQUEST_URI and RAW_URI.
- The variables that CGI programs have, too, and what is left out of them, are the business of
  `hemi.web.cgi.variables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hemi import __version__
from hemi.web.cgi.variables import PROTOCOLS, add_fields, add_tls, as_latin1
from hemi.web.wsgi.reply import FileWrapper

if TYPE_CHECKING:
    from hemi.logger import ErrorLog
    from hemi.web.request import Request
    from hemi.web.wsgi.input import Input, NoInput

MAX_HEADS = 512
"""How many remembered heads are kept with their environ."""

_EVERY_TIME = (
    "REQUEST_METHOD",
    "PATH_INFO",
    "QUERY_STRING",
    "REQUEST_URI",
    "RAW_URI",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "wsgi.url_scheme",
    "wsgi.input",
    "wsgi.early_hints",
)


class ErrorStream:
    """wsgi.errors: whole lines go to the error log."""

    def __init__(self, log: ErrorLog) -> None:
        self._log = log
        self._rest = ""

    def write(self, text: str) -> int:
        """Takes text; lines go on when they are complete."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log.error("wsgi", line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Takes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Passes on what has no end of line yet."""
        if self._rest:
            rest, self._rest = self._rest, ""
            self._log.error("wsgi", rest)


class EnvironMaker:
    """Makes the environs of one mounted app. `extras` are further items, the same for every request."""

    __slots__ = ("_base", "_cut", "_heads")

    def __init__(self, script_name: str, extras: dict[str, str], log: ErrorLog) -> None:
        self._cut = len(script_name)
        self._heads: dict[int, tuple[Mapping[bytes, bytes], dict[str, Any]]] = {}
        # With all keys that every request sets: copying is then one memcpy, with room for the fields (0.6 µs saved).
        self._base: dict[str, Any] = dict.fromkeys(_EVERY_TIME, "") | {
            "SCRIPT_NAME": as_latin1(script_name),
            "SERVER_SOFTWARE": f"gorox/{__version__}",
            "wsgi.version": (1, 0),
            "wsgi.errors": ErrorStream(log),
            "wsgi.multithread": True,  # greenlets of one process call the app at the same time
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            **extras,
        }

    def make(self, req: Request, source: Input | NoInput, hints: Callable[..., None]) -> dict[str, Any]:
        """The environ of a request whose path is below the script name."""
        path, query = req.path[self._cut :], req.query_string
        index = req.index
        if (
            index.__class__ is MappingProxyType
        ):  # a head that the connection layer remembers, one object each time
            known = self._heads.get(id(index))
            environ = (known if known is not None else self._learn(index))[1].copy()
        else:
            environ = self._base.copy()
            add_fields(environ, index)
        environ["REQUEST_METHOD"] = req.method
        environ["PATH_INFO"] = path if path.isascii() else as_latin1(path)
        environ["QUERY_STRING"] = query if query.isascii() else as_latin1(query)
        environ["REQUEST_URI"] = environ["RAW_URI"] = req.target.decode("latin-1")
        environ["SERVER_NAME"] = req.hostname or "localhost"
        environ["SERVER_PORT"] = str(req.port)
        environ["SERVER_PROTOCOL"] = PROTOCOLS[req.version]
        environ["REMOTE_ADDR"] = req.src_host
        environ["REMOTE_PORT"] = str(req.src_port)
        environ["wsgi.url_scheme"] = req.scheme
        environ["wsgi.input"] = source
        environ["wsgi.early_hints"] = hints
        if req.auth_user:
            environ["REMOTE_USER"] = as_latin1(req.auth_user)
        if req.scheme == "https":
            environ["HTTPS"] = "on"
        if req.tls is not None:
            add_tls(environ, req.tls)
        if req.filters:
            environ.pop("CONTENT_LENGTH", None)  # the filters change it
        return environ

    def _learn(self, index: Mapping[bytes, bytes]) -> tuple[Mapping[bytes, bytes], dict[str, Any]]:
        """Makes the part of the environ that a remembered head decides; it holds the head, so that its id stays."""
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        environ = self._base.copy()
        add_fields(environ, index)
        self._heads[id(index)] = known = (index, environ)
        return known
