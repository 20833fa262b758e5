"""The handlet `host_checker`: one canonical host name for a site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hemi.builtin.handlets.redirect import host_text, path_of, status_for
from hemi.component import prop
from hemi.values import Hostname
from hemi.web.handlet import Handlet
from hemi.web.uri import split_authority

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

DEFAULT_PORTS = {"http": 80, "https": 443}


class HostChecker(Handlet, sign="host_checker"):
    """Redirects requests for another host name to the right one, and declines all others.

    Scheme, port, path and query stay as they are. For the first handlet of a site with several names.
    """

    hostname: Hostname = prop(doc="The host name that the site should be visited by.", inherit=False)
    permanent: bool = prop(False, "Redirect for good (301), so that browsers remember.", inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A pattern is no place to send anybody."""
        if "*" in self.hostname:
            yield "hostname", f'must be one host name, not the pattern "{self.hostname}"'

    def handle(self, req: Request, resp: Response) -> bool:
        """Declines when the host name is right."""
        if req.hostname == self.hostname:
            return False
        authority = host_text(self.hostname)
        # The port that the client used: behind a mapping of ports it is not the one that we listen on.
        port = split_authority(req.authority)[1] if req.authority else None
        if port is not None and port != DEFAULT_PORTS.get(req.scheme):
            authority += f":{port}"
        resp.redirect(f"{req.scheme}://{authority}{path_of(req)}", status_for(req, self.permanent))
        return True
