"""The handlet `http_proxy`: passes requests on to the servers of a backend, and their answers back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from hemi.builtin.backends.http_backend import HTTPBackend
from hemi.component import prop
from hemi.upstream.ranges import parse_ranges
from hemi.values import Duration, Pattern, Ref, Template
from hemi.web.errors import HTTPError
from hemi.web.fields import check_name, check_value, is_token
from hemi.web.handlet import Handlet
from hemi.web.proxy.grpcstatus import answer_error, is_grpc
from hemi.web.proxy.lane import HTTPLane
from hemi.web.proxy.mirror import Mirror
from hemi.web.proxy.names import CONNECTION, FRAMING
from hemi.web.proxy.requests import Mode, RequestHead, RequestRules, Value
from hemi.web.proxy.responses import ResponseHead, ResponseRules
from hemi.web.proxy.retries import IDEMPOTENT, Budget, Retries
from hemi.web.proxy.spool import Buffering

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class HTTPProxy(Buffering, Handlet, sign="http_proxy"):
    """Passes requests on to the servers of a backend, and their answers back, content and all as it comes.

    Messages are rebuilt from their parsed form, with one framing. Timeouts and limits towards the nodes that are not
    here are the backend's.
    """

    to_backend: Ref[HTTPBackend] = prop(doc="The servers.")

    host: Template | None = prop(None, "What Host says to the nodes; the client's when missing.")
    strip_prefix: str = prop("", "A beginning of paths that is taken off before they go to a node.")
    add_prefix: str = prop("", "What is put in front of paths then.")
    rewrite_pattern: Pattern | None = prop(None, "A regular expression to find in the path and query then.")
    rewrite_to: str = prop("", r"What to put in place of what it finds; \1 is its first group.")

    x_forwarded: Literal["append", "set", "off"] = prop(
        "append",
        "X-Forwarded-For, -Proto, -Host, -Port: go on with what trusted_proxies say, say only what is seen here,"
        " or pass on whatever clients send.",
    )
    forwarded: Literal["append", "set", "off"] = prop("off", "The same for Forwarded (RFC 7239).")
    x_real_ip: bool = prop(False, "Tell nodes the client's address in X-Real-IP.")
    via: str = prop("gorox", "The name for Via, both ways; no Via when empty.")
    delete_request: list[str] = prop([], "Request fields that do not go to nodes.", inherit=False)
    set_request: dict[str, Template] = prop({}, "Request fields to set.", inherit=False)
    add_request: dict[str, Template] = prop({}, "Request fields to add.", inherit=False)
    delete_response: list[str] = prop([], "Response fields that do not go to clients.", inherit=False)
    set_response: dict[str, Template] = prop({}, "Response fields to set.", inherit=False)
    add_response: dict[str, Template] = prop({}, "Response fields to add.", inherit=False)
    follow_redirects: bool = prop(
        True, "Make Location and Refresh that point to the node, or to its paths, point to here."
    )
    redirects: dict[str, Template] = prop(
        {}, "Beginnings of locations, and what to put in their place.", inherit=False
    )
    cookie_domains: dict[str, str] = prop(
        {}, "Domains of cookies, and what to put in their place; empty: nothing.", inherit=False
    )
    cookie_paths: dict[str, str] = prop(
        {}, "Beginnings of paths of cookies, and what to put in their place.", inherit=False
    )
    upgrades: list[str] = prop(["websocket"], "The protocols that a connection may be upgraded to.")

    head_timeout: Duration = prop(
        "60s", "How long a node may take to begin its answer, each try.", least="10ms"
    )
    read_timeout: Duration = prop("60s", "How long a node may send nothing of a content.", least="10ms")
    total_timeout: Duration = prop("0s", "How long all tries, and the answer, may take; 0 is any.")
    tunnel_timeout: Duration = prop("10m", "How long an upgraded connection may be silent.", least="10ms")

    max_retries: int = prop(2, "How often to try other nodes.", least=0, most=20)
    retry_on: list[Literal["connect", "closed", "timeout", "malformed"]] = prop(
        ["connect", "closed"],
        "When: no connection; it was closed before the answer began; no answer in time; an answer that is no HTTP.",
    )
    retry_statuses: list[str] = prop([], 'Also on these statuses, such as 503 or "502-504".')
    retry_methods: list[str] = prop(
        sorted(IDEMPOTENT),
        "Methods of requests that may be sent twice; others are tried again if nothing was sent.",
    )
    retry_budget: float = prop(
        0.2, "The part of all requests that retries may make up, bursts aside.", least=0
    )
    sticky_cookie: str = prop("gorox_node", "The cookie for a backend with sticky_secret.")

    mirror: Ref[HTTPBackend] | None = prop(None, "Servers that get copies of requests.", inherit=False)
    mirror_share: float = prop(
        1.0, "The part of the requests that are copied.", least=0, most=1, inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Names and values must be sendable; some fields are the proxy's own business."""
        for side in ("request", "response"):
            for verb in ("delete", "set", "add"):
                name = f"{verb}_{side}"
                for field in getattr(self, name):
                    problem = _problem_of(field)
                    if problem:
                        yield name, problem
        for name in ("strip_prefix", "add_prefix"):
            prefix = getattr(self, name)
            if prefix and (
                prefix[0] != "/" or not prefix.isascii() or not prefix.isprintable() or " " in prefix
            ):
                yield name, f'must be a path such as /api, not "{prefix}"'
        if self.add_prefix.endswith("/"):
            yield "add_prefix", f'must not end with /, as paths begin with it: "{self.add_prefix}"'
        if self.rewrite_to and self.rewrite_pattern is None:
            yield "rewrite_to", "needs a rewrite_pattern"
        for protocol in self.upgrades:
            if protocol.lower() in ("h2c", "http/2.0", "h2"):
                yield (
                    "upgrades",
                    f'must not have "{protocol}": its requests would pass the rules by (smuggling)',
                )
        try:
            check_value(self.via)
        except ValueError as error:
            yield "via", str(error)
        if not is_token(self.sticky_cookie.encode()):
            yield "sticky_cookie", f'must be the name of a cookie, not "{self.sticky_cookie}"'
        try:
            parse_ranges(self.retry_statuses)
        except ValueError as error:
            yield "retry_statuses", str(error)

    def prepare(self) -> None:
        """Readies the rules."""
        via = check_value(self.via)
        x_forwarded: Mode = self.x_forwarded
        self.request_head = RequestHead(
            RequestRules(
                self.host,
                x_forwarded,
                self.forwarded,
                self.x_real_ip,
                via,
                self.strip_prefix.encode(),
                self.add_prefix.encode(),
                self.rewrite_pattern,
                self.rewrite_to,
                _names(self.delete_request),
                _values(self.set_request),
                _values(self.add_request),
            )
        )
        self.response_head = ResponseHead(
            ResponseRules(
                via,
                self.strip_prefix,
                self.add_prefix,
                self.follow_redirects,
                tuple(self.redirects.items()),
                {domain.lstrip(".").lower(): new for domain, new in self.cookie_domains.items()},
                tuple(self.cookie_paths.items()),
                _names(self.delete_response),
                _values(self.set_response),
                _values(self.add_response),
            )
        )
        self.own_host: str = (self.host.constant or "") if self.host is not None else ""
        self.protocols = frozenset(protocol.lower().encode() for protocol in self.upgrades)
        self.retries = Retries(
            self.max_retries,
            frozenset(self.retry_on),
            parse_ranges(self.retry_statuses),
            frozenset(self.retry_methods),
        )
        self.budget = Budget(self.retry_budget)
        self.mirror_to = Mirror(self.mirror, self.mirror_share, self.head_timeout) if self.mirror else None
        self.lane = HTTPLane(self)

    def stop(self, deadline: float) -> None:
        """Ends the copies that are on their way."""
        if getattr(self, "mirror_to", None) is not None and self.mirror_to is not None:
            self.mirror_to.stop()

    def handle(self, req: Request, resp: Response) -> bool:
        """Passes the request on, and the answer back."""
        try:
            self.lane.run(req, resp)
        except HTTPError as error:
            if not (is_grpc(req) and answer_error(req, resp, error)):
                raise
        return True


def _problem_of(field: str) -> str:
    try:
        name = check_name(field).lower()
    except ValueError as error:
        return str(error)
    if name in CONNECTION or name in FRAMING or name == b"host":
        return f'must not have "{field}", which is the proxy\'s own business'
    return ""


def _names(given: list[str]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in given)


def _values(given: dict[str, Any]) -> tuple[Value, ...]:
    return tuple((name.lower().encode(), template) for name, template in given.items())
