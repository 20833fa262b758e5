"""The handlet `uwsgi_proxy`: passes requests on to servers that speak the uwsgi protocol, such as uWSGI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.builtin.backends.uwsgi_backend import UWSGIBackend
from hemi.component import prop
from hemi.library import uwsgi
from hemi.values import Path, Ref
from hemi.web.cgi.gateway import Gateway, PlainReader
from hemi.web.cgi.variables import check_script_name, mounted

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["UWSGIProxy"]


class Dialect:
    """The uwsgi protocol: a head, the content as it is, an answer up to the end of the connection."""

    ends_with_conn = True
    needs_size = True
    end = b""
    abort = b""

    def __init__(self, modifier1: int, modifier2: int) -> None:
        self._modifiers = (modifier1, modifier2)

    def head(self, variables: dict[str, str], size: int) -> bytes:
        """What goes before the content. Raises ValueError when the variables cannot be said."""
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in variables.items()]
        return uwsgi.head(pairs, *self._modifiers)

    def frame(self, data: bytes) -> bytes:
        """A piece of the content."""
        return data

    def reader(self) -> PlainReader:
        """For one answer."""
        return PlainReader()


class UWSGIProxy(Gateway, sign="uwsgi_proxy"):
    """Passes requests on to servers that speak the uwsgi protocol, such as uWSGI, and their answers back."""

    to_backend: Ref[UWSGIBackend] = prop(doc="The servers.")
    script_name: str = prop(
        "",
        "Where the app is mounted, such as /shop: SCRIPT_NAME. The rest of the path is PATH_INFO; requests outside of "
        "it are declined.",
        inherit=False,
    )
    web_root: Path | None = prop(None, "DOCUMENT_ROOT, for apps that want one.")
    modifier1: int = prop(
        0,
        "What uWSGI does with requests: 0 for Python, 5 for Perl, 14 for PHP.",
        least=0,
        most=255,
        inherit=False,
    )
    modifier2: int = prop(0, "A detail of that.", least=0, most=255, inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The place must be one."""
        yield from super().check()
        yield from check_script_name(self.script_name)

    def prepare(self) -> None:
        """Lays out what is the same for all requests."""
        self.ready(self.to_backend, Dialect(self.modifier1, self.modifier2), self.web_root or "")

    def handle(self, req: Request, resp: Response) -> bool:
        """Passes the request on."""
        script = mounted(req.path, self.script_name) if req.path[:1] == "/" else None
        return script is not None and self.forward(req, resp, script)
