"""The handlet `redirect`: sends clients elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from hemi.component import prop
from hemi.values import Template
from hemi.web.handlet import Handlet
from hemi.web.response import quote_location

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class Redirect(Handlet, sign="redirect"):
    """Redirects to another path or URL.

    301 and 308 are permanent: browsers remember them. 307 and 308 keep method and content of the request, 303 makes a
    GET of it; what clients do at 301 and 302 with a POST is up to them.
    """

    to: Template = prop(
        doc='Where to: a URL or a path, such as "https://www.example.com$uri" or "/new/".', inherit=False
    )
    code: Literal[301, 302, 303, 307, 308] = prop(302, "The status.", inherit=False)
    keep_query: bool = prop(
        True, "Append the query of the request, unless the target has one of its own.", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The target must be one that means the same to all clients."""
        text = self.to.text
        if not text:
            yield "to", "must not be empty"
        elif not text.startswith(("/", "$")) and "://" not in text:
            yield "to", f'must be a URL, or a path that starts with "/", not "{text}"'

    def handle(self, req: Request, resp: Response) -> bool:
        """Redirects."""
        location = self.to(req)
        if self.to.text[0] in "/$":
            location = keep_here(location)
        if self.keep_query and req.query_string and "?" not in location:
            location, hash_, fragment = location.partition("#")
            location = f"{location}?{req.query_string}{hash_}{fragment}"
        resp.redirect(location, self.code)
        return True


def keep_here(location: str) -> str:
    """A location that was meant as a path of this site, made one.

    "//evil.example/" is another site, and browsers read "/\\evil.example/" the same: whoever makes users click on
    such a link of ours would get them there (an open redirect).
    """
    if location[:1] in ("/", "\\") and location[1:2] in ("/", "\\"):
        return "/" + location.lstrip("/\\")
    return location


def host_text(hostname: str) -> str:
    """A host name as an authority has it: an IPv6 address in brackets."""
    return f"[{hostname}]" if ":" in hostname else hostname


def status_for(req: Request, permanent: bool) -> int:
    """The status of a redirection to the same thing under another name: a POST must not become a GET."""
    if req.method in ("GET", "HEAD"):
        return 301 if permanent else 302
    return 308 if permanent else 307


def path_of(req: Request) -> str:
    """Path and query as they came, fit to follow an authority: "/" for what is no path."""
    uri = quote_location(req.uri())
    return uri if uri[:1] == "/" else "/"
