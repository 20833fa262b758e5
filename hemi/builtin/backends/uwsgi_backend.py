"""The backend `uwsgi_backend`: servers that speak the uwsgi protocol."""

from __future__ import annotations

from hemi.web.proxy.backend import WebBackend

__all__ = ["UWSGIBackend"]


class UWSGIBackend(WebBackend, sign="uwsgi_backend"):
    """A group of servers that speak the uwsgi protocol, such as uWSGI; each request has a connection of its own."""
