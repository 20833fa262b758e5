"""The handlet `https_checker`: plain requests are sent to https."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.builtin.handlets.redirect import host_text, path_of, status_for
from hemi.component import prop
from hemi.web.errors import HTTPError
from hemi.web.handlet import Handlet
from hemi.web.uri import BadTarget, split_authority

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class HTTPSChecker(Handlet, sign="https_checker"):
    """Redirects plain requests to https, and declines secure ones.

    Behind a proxy that ends TLS, the server must know it as one of its trusted_proxies, or redirections never end.
    """

    permanent: bool = prop(False, "Redirect for good (301), so that browsers remember.", inherit=False)
    authority: str = prop(
        "", "Host and port to redirect to; the host of the request when empty.", inherit=False
    )
    port: int = prop(
        443, "The port of https, when there is no authority.", least=1, most=65535, inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The authority must be one."""
        if self.authority:
            try:
                split_authority(self.authority)
            except BadTarget as error:
                yield "authority", f"must be a host, or host:port: {error}"

    def handle(self, req: Request, resp: Response) -> bool:
        """Declines when the request is secure."""
        if req.scheme == "https":
            return False
        authority = self.authority
        if not authority:
            if not req.hostname:
                raise HTTPError(400, "The request names no host.")
            authority = host_text(req.hostname) + (f":{self.port}" if self.port != 443 else "")
        resp.redirect(f"https://{authority}{path_of(req)}", status_for(req, self.permanent))
        return True
