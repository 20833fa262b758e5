"""What the proxies of SCGI and uwsgi share: apps that are mounted somewhere, answers that end with the connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.component import prop
from hemi.values import Path
from hemi.web.cgi.gateway import Gateway
from hemi.web.cgi.variables import check_script_name, mounted

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["MountedGateway", "PlainDialect"]


class PlainReader:
    """Of protocols whose answers end with the connection."""

    __slots__ = ("done", "errors", "excess")

    def __init__(self) -> None:
        self.done = False
        self.excess = False
        self.errors: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """The answer as it is."""
        return data


class PlainDialect:
    """Of protocols that have a head, the content as it is, and an answer up to the end of the connection."""

    ends_with_conn = True
    needs_size = True
    end = b""
    abort = b""

    def frame(self, data: bytes) -> bytes:
        """A piece of the content."""
        return data

    def reader(self) -> PlainReader:
        """For one answer."""
        return PlainReader()


class MountedGateway(Gateway):
    """Passes requests on to an app that is mounted somewhere."""

    script_name: str = prop(
        "",
        "Where the app is mounted, such as /shop: SCRIPT_NAME. The rest of the path is PATH_INFO; requests outside of "
        "it are declined.",
        inherit=False,
    )
    web_root: Path | None = prop(None, "DOCUMENT_ROOT, for apps that want one.")

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The place must be one."""
        yield from super().check()
        yield from check_script_name(self.script_name)

    def handle(self, req: Request, resp: Response) -> bool:
        """Passes the request on."""
        script = mounted(req.path, self.script_name) if req.path[:1] == "/" else None
        return script is not None and self.forward(req, resp, script)
