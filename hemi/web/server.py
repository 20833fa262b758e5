"""The HTTP server on TCP, TLS and Unix domain sockets: `httpx_server`. What it accepts is in `hemi.web.gate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from hemi.component import prop
from hemi.listening import StreamListening
from hemi.logger import Logger
from hemi.meter import new_meter
from hemi.server import Server
from hemi.tls import Identity, SiteTable, check_certificate, warn_of_certificate
from hemi.tls import Site as TLSSite
from hemi.values import Duration, Network, Ref, Size
from hemi.web.explain import explain
from hemi.web.fields import check_value
from hemi.web.gate import Gate
from hemi.web.h1.framing import Refusal
from hemi.web.h1.known import KnownHead, KnownLine
from hemi.web.h2 import settings
from hemi.web.h2.head import KnownFields
from hemi.web.h2.settings import settings_frame
from hemi.web.hosts import HostTable, Site
from hemi.web.realip import Networks, believe
from hemi.web.rehearsal import problem_of, rehearse
from hemi.web.uri import BadTarget
from hemi.web.variables import LOG_SCOPE
from hemi.web.webapp import Webapp
from hemi.web.websocket import keeper as websockets

if TYPE_CHECKING:
    from hemi.stage import Stage
    from hemi.tls import TLSInfo
    from hemi.web.request import Request
    from hemi.web.response import Response

KNOWN_HOSTS = 4096
"""How many different Host fields are remembered; clients can send any, so it must be bounded."""


class HTTPXServer(StreamListening, Server, sign="httpx_server"):
    """Serves webapps by HTTP/1.1 and HTTP/2 on TCP, TLS and Unix domain sockets."""

    webapps: list[Ref[Webapp]] = prop([], "The webapps served here, chosen by host name.", inherit=False)
    protocols: list[Literal["http/1.1", "h2"]] = prop(
        ["http/1.1", "h2"],
        "The versions of HTTP that are served: over TLS as clients ask by ALPN, else as they begin to talk.",
        least=1,
    )
    overload = prop(
        "refuse",
        "Beyond max_concurrent_conns: answer 503 with Retry-After, or let clients wait to be accepted.",
    )

    head_timeout: Duration = prop("30s", "How long the head of a request may take to arrive.", least="100ms")
    keepalive_timeout: Duration = prop("75s", "How long an idle connection is kept.", least="0s")
    keepalive_requests: int = prop(10000, "After how many requests a connection is closed.", least=1)
    keepalive_age: Duration = prop("1h", "After how long a connection is closed.", least="1s")
    read_timeout: Duration = prop("60s", "How long a client may send nothing of a content.", least="100ms")
    write_timeout: Duration = prop(
        "60s", "How long a client may take nothing, or less than min_rate, of a response.", least="100ms"
    )
    min_rate: Size = prop(
        "256", "Bytes per second that contents must keep up on average, both ways.", least=1
    )
    rate_grace: Duration = prop("20s", "For how long min_rate does not count.", least="0s")

    max_head_size: Size = prop(
        "32K", "The largest head of a request; more is answered with 431.", least="1K", most="1M"
    )
    max_target_size: Size = prop(
        "8K", "The longest target of a request; more is answered with 414.", least="64"
    )
    max_fields: int = prop(100, "The most fields of a head; more is answered with 431.", least=1, most=10000)

    h2_max_streams: int = prop(
        100, "HTTP/2: how many requests a client may have going on a connection.", least=1, most=10000
    )
    h2_window: Size = prop(
        "256K",
        "HTTP/2: how much of a request's content is taken in before it is read.",
        least=65535,
        most="1G",
    )
    h2_max_window: Size = prop(
        "8M", "HTTP/2: up to what h2_window grows for contents that are read fast.", least=65535, most="1G"
    )
    h2_conn_window: Size = prop(
        "1M", "HTTP/2: how much is taken in for all requests of a connection.", least=65535, most="1G"
    )
    h2_table_size: Size = prop(
        "4K", "HTTP/2: how much a client may have us remember to shorten its heads by.", least=0, most="64K"
    )
    h2_max_frame_size: Size = prop(
        "16K", "HTTP/2: the largest frame that clients may send.", least=16384, most=16777215
    )
    h2_max_resets: int = prop(
        200,
        "HTTP/2: how many more requests a client may break off than it lets end; a tenth is forgiven each second.",
        least=10,
    )
    h2_settings_timeout: Duration = prop(
        "10s",
        "HTTP/2: how long a client may take to acknowledge the settings of a connection.",
        least="100ms",
    )

    tls = prop(False, "Serve TLS, with the certificates of the webapps.", inherit=False)
    tls_default: Ref[Webapp] | None = prop(
        None,
        "Whose certificate serves clients that name no webapp; the first one's when missing.",
        inherit=False,
    )
    tls_strict_sni = prop(
        False,
        "Refuse clients that ask for a host of no webapp; those that name none get the certificate of tls_default.",
    )

    trusted_proxies: list[Network] = prop(
        [], "Proxies whose word about the client's address and scheme counts."
    )
    trust_uds: bool = prop(False, "Count clients of Unix domain sockets among trusted_proxies.")
    real_ip: Literal["x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip", "true-client-ip"] = (
        prop("x-forwarded-for", "The field in which trusted proxies name the client.")
    )
    forced_scheme: Literal["http", "https"] | None = prop(
        None, "What requests report as their scheme, when something in front ends TLS."
    )
    warm_up: list[str] = prop(
        [],
        "Paths or URLs that a new worker requests of itself; it is ready when all are answered, below 500.",
        inherit=False,
    )
    server_header: str = prop("gorox", "The Server field of responses; none when empty.")
    access_log: Ref[Logger] | None = prop(None, "Where requests are logged that no webapp wants.")

    gates: Sequence[Gate]
    gate_class = Gate

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together: addresses, certificates, proxies."""
        yield from super().check()
        try:
            check_value(self.server_header)
        except ValueError as error:
            yield "server_header", f"must be a field value: {error}"
        if self.access_log is not None and (problem := self.access_log.format_problem(LOG_SCOPE)):
            yield "access_log", f"does not fit requests: {problem}"
        for url in self.warm_up:
            if problem := problem_of(url):
                yield "warm_up", problem
        if self.warm_up and "http/1.1" not in self.protocols:
            yield "warm_up", "needs http/1.1 among the protocols"
        if self.warm_up and self.tls and self.tls_client_auth == "require":
            yield "warm_up", 'must be empty with tls_client_auth "require"'
        yield from self._check_names()
        if self.tls:
            yield from self._check_tls()
        if self.h2_max_window < self.h2_window:
            yield "h2_max_window", "must not be smaller than h2_window"

    def _check_names(self) -> Iterator[tuple[str, str]]:
        owners: dict[str, Webapp] = {}
        for webapp in self.webapps:
            for hostname in webapp.hostnames:
                other = owners.setdefault(hostname, webapp)
                if other is not webapp:
                    yield (
                        "webapps",
                        f'"{other.name}" and "{webapp.name}" both have the host name "{hostname}"',
                    )

    def _check_tls(self) -> Iterator[tuple[str, str]]:
        if not self.webapps:
            yield "tls", "needs webapps, for their certificates"
        for webapp in self.webapps:
            if webapp.tls_certificate is None:
                yield "tls", f'needs a tls_certificate on webapp "{webapp.name}"'
                continue
            identity = _identity_of(webapp)
            problem = check_certificate(identity.certificate, identity.private_key, identity.password)
            if problem:
                yield "webapps", f'"{webapp.name}": {problem}'
        if self.tls_default is not None and self.tls_default not in self.webapps:
            yield "tls_default", f'"{self.tls_default.name}" must be one of the webapps'

    def alpn(self) -> tuple[str, ...]:
        """The versions of HTTP to agree on over TLS, in our order of liking."""
        return tuple(name for name in ("h2", "http/1.1") if name in self.protocols)

    def prepare(self) -> None:
        """Builds the tables and takes the addresses."""
        super().prepare()
        self.meter = new_meter()
        """Of requests that no webapp wants."""
        self.clock = self.stage.clock
        self.hosts = HostTable(self.webapps)
        self.sites: dict[bytes, Site] = {}
        secure = self.forced_scheme == "https" if self.forced_scheme else self.tls
        self.default_port = 443 if secure else 80
        self.known_heads: dict[bytes, KnownHead] = {}
        self.known_lines: dict[bytes, KnownLine] = {}
        self.known_answers: dict[tuple[object, ...], bytes] = {}
        self.known_fields: dict[tuple[object, ...], KnownFields] = {}
        self.known_blocks: dict[tuple[int, str, int], bytes] = {}
        self.h2_settings = settings_frame(
            (
                (settings.HEADER_TABLE_SIZE, self.h2_table_size),
                (settings.MAX_CONCURRENT_STREAMS, self.h2_max_streams),
                (settings.INITIAL_WINDOW_SIZE, self.h2_window),
                (settings.MAX_FRAME_SIZE, self.h2_max_frame_size),
                (settings.MAX_HEADER_LIST_SIZE, self.max_head_size),
                (settings.ENABLE_CONNECT_PROTOCOL, 1),
                (settings.NO_RFC7540_PRIORITIES, 1),
            )
        )
        self.head_lines = b"server: %b\r\n" % check_value(self.server_header) if self.server_header else b""
        self.trusted = Networks(self.trusted_proxies, self.trust_uds)
        logger = self.access_log or self.stage.access_log
        self.record: Callable[[Response], None] | None = (
            logger.recorder(LOG_SCOPE) if logger is not None else None
        )
        if self.tls:
            self._prepare_tls()
        self.take_addresses()

    def _prepare_tls(self) -> None:
        self.tls_sites = SiteTable(self.tls_strict_sni)
        self.site_of: dict[Webapp, TLSSite] = {}
        for webapp in self.webapps:
            site = self.tls_sites.site(_identity_of(webapp), self.tls_policy())
            self.site_of[webapp] = site
            self.tls_sites.add(webapp.hostnames, site)
            for warning in warn_of_certificate(site.identity.certificate, webapp.hostnames):
                self.stage.log.warning("tls", f'webapp "{webapp.name}": {warning}')
        if self.tls_default is not None:
            self.tls_sites.default = self.site_of[self.tls_default]
        elif self.tls_sites.default is None and self.webapps:
            self.tls_sites.default = self.site_of[self.webapps[0]]

    def urls(self) -> list[str]:
        """The addresses as one may type them into a browser."""
        scheme, usual = ("https", ":443") if self.tls else ("http", ":80")
        urls = []
        for gate in self.gates:
            bound = gate.listener.bound
            if gate.listener.address.path:
                urls.append(f"unix:{bound}")
            else:
                for wildcard in ("[::]:", "0.0.0.0:"):
                    bound = bound.replace(wildcard, "localhost:")
                urls.append(f"{scheme}://{bound.removesuffix(usual)}/")
        return urls

    def explain(
        self, method: str, url: str, fields: list[tuple[str, str]], source: str
    ) -> dict[str, Any] | None:
        """What a request would meet here: see `hemi.web.explain`."""
        return explain(self, method, url, fields, source)

    def rehearse(self) -> None:
        """Makes the requests of `warm_up`."""
        for url in self.warm_up:
            rehearse(self, url)

    def take_over(self, predecessor: Stage) -> None:
        """Lets the gates of the stage before retire in favour of the new ones, address by address."""
        for server, old, gate in self.retiring(predecessor, HTTPXServer):
            if _same_terms(server, self):
                old.retire(gate)

    def stop(self, deadline: float) -> None:
        """Closes the gates, gives the addresses back, waits for the connections until `deadline`, cuts the rest."""
        gates = self.close_gates()
        websockets.drain(self.stage, deadline, at_once=any(gate.closing for gate in self.gates))
        for gate in gates:
            gate.join(deadline)

    # For the gates and connections

    def find_site(self, host: bytes) -> Site:
        """What a Host field comes to, remembered. Raises Refusal when it is malformed."""
        try:
            site = self.hosts.site(host, self.default_port)
        except BadTarget as error:
            raise Refusal(400, f"The field Host is not usable: {error}.") from error
        if len(self.sites) >= KNOWN_HOSTS:
            self.sites.clear()
        self.sites[host] = site
        return site

    def believe_proxy(self, request: Request) -> None:
        """Takes the client's address and scheme from what a trusted proxy says."""
        believe(request, self.trusted, self.real_ip)

    def check_site(self, request: Request, info: TLSInfo) -> None:
        """Refuses a request for a webapp of another certificate than its connection has (RFC 9110 §15.5.20)."""
        if request.webapp is None:
            return
        mine, theirs = self.site_of[request.webapp], info.site
        # A connection that came over from an older stage has a site of that stage, which may be the same to the letter.
        if mine is not theirs and (mine.identity, mine.policy) != (theirs.identity, theirs.policy):
            raise Refusal(421, "This connection was made for another site.")


def _identity_of(webapp: Webapp) -> Identity:
    return Identity(webapp.tls_certificate or "", webapp.tls_private_key or "", webapp.tls_password or "")


def _same_terms(old: HTTPXServer, new: HTTPXServer) -> bool:
    """True when a connection accepted by one server may go on at the other: TLS was agreed on for good."""
    return old.tls == new.tls and (not old.tls or old.tls_policy() == new.tls_policy())


__all__ = ["HTTPXServer"]
