"""The handlet `scgi_proxy`: passes requests on to servers that speak SCGI."""

from __future__ import annotations

from hemi.builtin.backends.scgi_backend import SCGIBackend
from hemi.component import prop
from hemi.library import scgi
from hemi.values import Ref
from hemi.web.cgi.mounted import MountedGateway, PlainDialect

__all__ = ["SCGIProxy"]


class Dialect(PlainDialect):
    """SCGI."""

    encode = staticmethod(scgi.encode)
    head = staticmethod(scgi.head)


class SCGIProxy(MountedGateway, sign="scgi_proxy"):
    """Passes requests on to servers that speak SCGI, and their answers back."""

    to_backend: Ref[SCGIBackend] = prop(doc="The servers.")

    def prepare(self) -> None:
        """Lays out what is the same for all requests."""
        self.ready(self.to_backend, Dialect(), self.web_root or "")
