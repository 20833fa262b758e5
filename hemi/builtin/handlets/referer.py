"""The handlet `referer`: requests only from pages of known sites, so that others do not show our images as theirs.

The Referer field is the client's word. This keeps honest browsers from loading files into foreign pages; it is no
protection against anybody who writes requests himself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from hemi.component import prop
from hemi.patterns import Pattern, PatternError
from hemi.source import Given
from hemi.values import Context, Kind, Wrong, spelled
from hemi.values.net import HostnameKind
from hemi.web.handlet import Handlet
from hemi.web.uri import BadTarget, split_authority

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class Page(NamedTuple):
    """Where a Referer may come from: a host or pattern of hosts and a prefix of the path, or a regular expression of
    all behind the "://"."""

    text: str
    host: str
    prefix: str
    pattern: Pattern | None


class PageKind(Kind):
    """A host name, `*.suffix` or `prefix.*`, maybe with a path behind it; or `~` and a regular expression."""

    noun = (
        'a host name such as "example.com", "*.example.com", "www.*" or "example.com/shop/", or a "~pattern"'
    )
    _host = HostnameKind()

    def parse(self, given: Given, context: Context) -> Page:
        text = given.value
        if not isinstance(text, str):
            self.refuse(given)
        if text.startswith("~"):
            try:
                return Page(text, "", "", Pattern(text[1:]))
            except PatternError as error:
                raise Wrong((given, f"must be {self.noun}, not {spelled(text)}: {error}")) from None
        host, slash, path = text.partition("/")
        try:
            name = self._host.parse(Given(host, given.place), context)
        except Wrong:
            self.refuse(given)
        return Page(text, name.strip("[]"), slash + path, None)

    def show(self, value: Page) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Referer(Handlet, sign="referer"):
    """Refuses requests that other sites' pages make, and declines all others, so that the next handlet or rule serves
    them.

    A Referer counts when its host, without the port, is one of `names`, and its path begins with the path of that name
    if it has one. "~pattern" is searched for in all that stands behind "http://" or "https://".
    """

    names: list[Annotated[Page, PageKind()]] = prop(
        [],
        'The sites whose pages may: "example.com", "*.example.com", "www.*", "example.com/shop/", "~pattern".',
        inherit=False,
    )
    own: bool = prop(True, "The pages of the requested host itself may, too.", inherit=False)
    none: bool = prop(
        False,
        "Requests without a Referer may: typed addresses, bookmarks, strict privacy settings.",
        inherit=False,
    )
    blocked: bool = prop(
        False,
        "Requests whose Referer is no http URL may: something on the way has blotted it out.",
        inherit=False,
    )
    status: int = prop(403, "The status of refusals.", least=400, most=599, inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Somebody must be let in."""
        if not (self.names or self.own):
            yield "must have names, or own: true"

    def prepare(self) -> None:
        """Sorts the names by their form."""
        self._exact: dict[str, list[str]] = {}
        self._ends: list[Page] = []
        self._begins: list[Page] = []
        self._patterns = [page.pattern for page in self.names if page.pattern is not None]
        for page in self.names:
            if page.host.startswith("*"):
                self._ends.append(page._replace(host=page.host[1:]))
            elif page.host.endswith(".*"):
                self._begins.append(page._replace(host=page.host[:-1]))
            elif page.pattern is None:
                self._exact.setdefault(page.host, []).append(page.prefix)

    def handle(self, req: Request, resp: Response) -> bool:
        """Declines when the Referer is a good one."""
        if self._may(req):
            return False
        self.stage.log.info("referer", f"{req.src_host} came from elsewhere to {req.line()}")
        resp.error(self.status)
        return True

    def _may(self, req: Request) -> bool:
        raw = req.index.get(b"referer")
        if raw is None:
            return self.none
        scheme, slashes, rest = raw.decode("latin-1").partition("://")
        if not slashes or scheme.lower() not in ("http", "https"):
            return self.blocked
        whole = rest
        for mark in "#?":
            rest = rest.partition(mark)[0]
        authority, slash, path = rest.partition("/")
        try:
            hostname, _ = split_authority(authority)  # refuses "good.example@evil.example"
        except BadTarget:
            return False
        return (self.own and hostname == req.hostname) or self._is_named(hostname, slash + path, whole)

    def _is_named(self, hostname: str, path: str, whole: str) -> bool:
        if any(path.startswith(prefix) for prefix in self._exact.get(hostname, ())):
            return True
        for page in self._ends:
            if (
                hostname.endswith(page.host)
                and len(hostname) > len(page.host)
                and path.startswith(page.prefix)
            ):
                return True
        for page in self._begins:
            if (
                hostname.startswith(page.host)
                and len(hostname) > len(page.host)
                and path.startswith(page.prefix)
            ):
                return True
        return any(pattern.search(whole) for pattern in self._patterns)
