"""The backend `fcgi_backend`: servers that speak FastCGI, such as php-fpm."""

from __future__ import annotations

from hemi.component import prop
from hemi.web.proxy.backend import WebBackend

__all__ = ["FCGIBackend"]


class FCGIBackend(WebBackend, sign="fcgi_backend"):
    """A group of FastCGI servers, such as php-fpm."""

    keep_conn: bool = prop(
        False,
        "Ask nodes to leave connections open for further requests. A process of php-fpm serves one connection at a "
        "time: with idle connections to all of its processes, nobody else is served.",
        inherit=False,
    )
