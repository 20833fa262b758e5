"""The handlet `uwsgi_proxy`: passes requests on to servers that speak the uwsgi protocol, such as uWSGI."""

from __future__ import annotations

from hemi.builtin.backends.uwsgi_backend import UWSGIBackend
from hemi.component import prop
from hemi.library import uwsgi
from hemi.values import Ref
from hemi.web.cgi.mounted import MountedGateway, PlainDialect

__all__ = ["UWSGIProxy"]


class Dialect(PlainDialect):
    """The uwsgi protocol."""

    encode = staticmethod(uwsgi.encode)

    def __init__(self, modifier1: int, modifier2: int) -> None:
        self._modifiers = (modifier1, modifier2)

    def head(self, block: bytes, size: int) -> bytes:
        """What goes before the content. Raises ValueError when the variables cannot be said."""
        return uwsgi.head(block, *self._modifiers)


class UWSGIProxy(MountedGateway, sign="uwsgi_proxy"):
    """Passes requests on to servers that speak the uwsgi protocol, such as uWSGI, and their answers back."""

    to_backend: Ref[UWSGIBackend] = prop(doc="The servers.")
    modifier1: int = prop(
        0,
        "What uWSGI does with requests: 0 for Python, 5 for Perl, 14 for PHP.",
        least=0,
        most=255,
        inherit=False,
    )
    modifier2: int = prop(0, "A detail of that.", least=0, most=255, inherit=False)

    def prepare(self) -> None:
        """Lays out what is the same for all requests."""
        self.ready(self.to_backend, Dialect(self.modifier1, self.modifier2), self.web_root or "")
