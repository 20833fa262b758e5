"""The backend `scgi_backend`: servers that speak SCGI."""

from __future__ import annotations

from hemi.web.cgi.backend import CGIBackend

__all__ = ["SCGIBackend"]


class SCGIBackend(CGIBackend, sign="scgi_backend"):
    """A group of SCGI servers; each request has a connection of its own."""
