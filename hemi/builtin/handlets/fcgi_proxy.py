"""The handlet `fcgi_proxy`: passes requests on to FastCGI servers, such as php-fpm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.builtin.backends.fcgi_backend import FCGIBackend
from hemi.component import prop
from hemi.fcache import below
from hemi.library import fcgi
from hemi.values import Path, Pattern, Ref
from hemi.web.cgi.gateway import Gateway
from hemi.web.cgi.lane import FCGILane
from hemi.web.cgi.variables import Script, check_script_name, mounted
from hemi.web.errors import HTTPError

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["FCGIProxy"]


class Dialect:
    """FastCGI. Without `needs_size`, content of vague size is passed on as it arrives."""

    ends_with_conn = False
    encode = staticmethod(fcgi.encode)
    end = fcgi.END_OF_CONTENT
    abort = fcgi.ABORT

    def __init__(self, keep: bool, needs_size: bool) -> None:
        self.needs_size = needs_size
        self._begin = fcgi.begin(keep)

    def head(self, block: bytes, size: int) -> bytes:
        """The records before the content."""
        return self._begin + fcgi.parameters(block)

    def frame(self, data: bytes) -> bytes:
        """The records of a piece of content."""
        return fcgi.content(data)

    def reader(self) -> fcgi.Reader:
        """For one answer."""
        return fcgi.Reader()


class FCGIProxy(Gateway, sign="fcgi_proxy"):
    """Passes requests on to FastCGI servers, such as php-fpm, and their answers back.

    Which script is meant is said by one of three: web_root for scripts that are files below it, script_filename for
    one that gets all requests (a front controller), script_name for an app that is not a file.
    """

    to_backend: Ref[FCGIBackend] = prop(doc="The servers.")
    web_root: Path | None = prop(None, "The folder of the scripts, as the servers see it: DOCUMENT_ROOT.")
    index_file: str = prop("index.php", "The script for a path that ends with a slash.", inherit=False)
    split_path: Pattern | None = prop(
        None,
        r'Where a path is SCRIPT_NAME and PATH_INFO: the script ends where the first group ends, "^(.+?\.php)(/.*)$".',
    )
    script_filename: Path | None = prop(
        None, "The script for all requests, whatever their path.", inherit=False
    )
    script_name: str | None = prop(
        None,
        'Where an app that is not a file is mounted, such as /shop, or "": SCRIPT_NAME. The rest of the path is '
        "PATH_INFO; requests outside of it are declined.",
        inherit=False,
    )
    must_exist: bool = prop(
        False,
        "Answer 404 for scripts that are no files below web_root, instead of asking: for servers on this machine.",
    )
    stream_vague: bool = prop(
        False,
        "Pass on content of vague size as it arrives, without a CONTENT_LENGTH. Most apps would take it for none.",
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """It must be clear which script is meant."""
        yield from super().check()
        if self.web_root is None and self.script_filename is None and self.script_name is None:
            yield "needs web_root, script_filename or script_name"
        if self.script_filename is not None and self.script_name is not None:
            yield "script_name", "must not stand beside script_filename"
        if not self.index_file or self.index_file.startswith("/"):
            yield "index_file", f'must be the name of a file, not "{self.index_file}"'
        if self.must_exist and self.web_root is None:
            yield "must_exist", "needs a web_root"
        yield from check_script_name(self.script_name)

    def prepare(self) -> None:
        """Lays out what is the same for all requests."""
        self.ready(
            self.to_backend, Dialect(self.to_backend.keep_conn, not self.stream_vague), self.web_root or ""
        )
        self.lane = FCGILane(self)
        self._base = (self.web_root or "").rstrip("/")
        self._fixed: Script | None = None
        if self.script_filename is not None:
            inner = below(self.script_filename, self.web_root) if self.web_root else None
            name = inner or os.path.basename(self.script_filename)
            self._fixed = Script("/" + name, "", self.script_filename)

    def handle(self, req: Request, resp: Response) -> bool:
        """Passes the request on."""
        if req.path[:1] != "/":
            return False
        script = self._fixed
        if script is None:
            if self.script_name is not None:
                script = mounted(req.path, self.script_name)
                if script is None:
                    return False
            else:
                script = self._find(req.path)
        if self.must_exist:
            self._look(script.file)
        self.lane.run(req, resp, script)
        return True

    def _find(self, path: str) -> Script:
        end = self.split_path.end_of_first(path) if self.split_path is not None else -1
        name, info = (path[:end], path[end:]) if end >= 0 else (path, "")
        if name.endswith("/"):
            name += self.index_file
        return Script(name, info, self._base + name)

    def _look(self, file: str) -> None:
        """Raises HTTPError 404 for a script that is not there: php-fpm may otherwise run a part of the path instead."""
        try:
            found = self.stage.fcache.get(file, self.web_root, "root")
        except OSError as error:
            raise HTTPError(403 if isinstance(error, PermissionError) else 404) from error
        if found.is_dir:
            raise HTTPError(404)
