"""The backend `scgi_backend`: servers that speak SCGI."""

from __future__ import annotations

from hemi.web.proxy.backend import WebBackend

__all__ = ["SCGIBackend"]


class SCGIBackend(WebBackend, sign="scgi_backend"):
    """A group of SCGI servers; each request has a connection of its own."""
