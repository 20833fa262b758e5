"""Names to addresses: the fixture "resolv".

Belongs here: what is asked, in which order, how long an answer counts, and what happens when nobody answers.
Messages and their transport are `dnsclient`'s. Never blocks the hub; the C library's resolver is not used.

The order for a name: an IP address is its own answer; `localhost` and what ends with it is this machine (RFC
6761 §6.3); then the hosts file; then DNS, A and AAAA at the same time. An answer counts for its TTL within
`min_ttl` and `max_ttl`; that a name does not exist counts too, but shorter. When DNS fails (no answer, or
SERVFAIL), the last good answer is served for up to `stale_limit` (RFC 8767). That a name does not exist any
more is an answer, no failure.
"""

from __future__ import annotations

import os
import re
import socket
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import gevent
from gevent.event import AsyncResult

from hemi.component import Component, prop
from hemi.dnsreply import DNSFailure, Reply, Server
from hemi.resolvconf import LOOK, Hosts, Settings, literal_family, parse_server, parse_settings
from hemi.values import Duration, Path

if TYPE_CHECKING:
    from hemi.dnsclient import DNSClient

__all__ = ["Resolv", "ResolveError", "Resolver", "Service"]

Sockaddr = tuple[str, int] | tuple[str, int, int, int]
Prefer = Literal["ipv4", "ipv6"]
Families = Literal["both", "ipv4", "ipv6"]

SECOND_WAIT = 0.25  # seconds that the other family gets when one has answered
PARTIAL_TTL = 30.0  # seconds an answer counts at most when one family has failed
STALE_WAIT = 1.0  # seconds to wait for a fresh answer when there is a stale one
RETRY = 5.0  # seconds until DNS is asked again for a name that has a stale answer
MOST_QUERIES = 1000  # names that are asked for at the same time

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class ResolveError(OSError):
    """A name has no address. `temporary`: it may have one later, nobody could be asked."""

    def __init__(self, name: str, reason: str, temporary: bool) -> None:
        self.name = name
        self.reason = reason
        self.temporary = temporary
        super().__init__(f"{name!r} cannot be resolved: {reason}")


class Service(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(NamedTuple):
    """What is known about a name: `values` (none: it does not exist), and monotonic times."""

    values: tuple[Any, ...]
    reason: str
    due: float  # until when it counts
    good_until: float  # until when it is served where DNS fails


def clean_name(host: str) -> str:
    """A name in lower case A-labels, a trailing dot kept. Raises ResolveError when it cannot be one.

    Names that end with a number are refused: they mean an IPv4 address to some (127.1, 0x7f.1), and checks of
    addresses must not be got around (WHATWG URL, "ends in a number").
    """
    dot = "." if host.endswith(".") else ""
    name = host.removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            raise ResolveError(host, "it is not a host name", False) from None
    name = name.lower()
    labels = name.split(".")
    if (
        len(name) > 253
        or not all(map(_LABEL.fullmatch, labels))
        or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1])
    ):
        raise ResolveError(host, "it is not a host name", False)
    return name + dot


class Resolver:
    """Resolves and remembers; pure of configuration, so that any program can have one. Times in seconds."""

    def __init__(
        self,
        *,
        servers: tuple[Server, ...] = (),
        hosts_file: str = "/etc/hosts",
        settings_file: str = "/etc/resolv.conf",
        timeout: float = 5.0,
        attempt_timeout: float | None = None,
        min_ttl: float = 1.0,
        max_ttl: float = 3600.0,
        negative_ttl: float = 10.0,
        stale_limit: float = 86400.0,
        max_names: int = 1000,
        families: Families = "both",
        prefer: Prefer = "ipv4",
    ) -> None:
        self.servers = servers
        self.settings_file = settings_file
        self.timeout = timeout
        self.attempt_timeout = attempt_timeout
        self.min_ttl = min_ttl
        self.max_ttl = max_ttl
        self.negative_ttl = negative_ttl
        self.stale_limit = stale_limit
        self.max_names = max_names
        self.types = {"both": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}[families]
        self.prefer = prefer
        self.client: DNSClient | None = None
        self.hosts = Hosts(hosts_file)
        self.answers: OrderedDict[tuple[str, str], Answer] = OrderedDict()
        self.queries: dict[tuple[str, str], AsyncResult[Answer]] = {}
        self._tasks: set[gevent.Greenlet[..., Any]] = set()
        self._settings = Settings()
        self._settings_seen: tuple[int, int] | None = None
        self._look = 0.0

    def resolve(self, host: str, port: int, *, timeout: float | None = None) -> list[tuple[int, Sockaddr]]:
        """The (family, sockaddr) pairs to connect to, best first. Raises ResolveError."""
        pairs: list[tuple[int, Sockaddr]] = []
        for address in self.lookup(host, timeout=timeout):
            if ":" not in address:
                pairs.append((socket.AF_INET, (address, port)))
            elif "%" in address:
                bare, _, zone = address.partition("%")
                pairs.append((socket.AF_INET6, (bare, port, 0, zone_index(address, zone))))
            else:
                pairs.append((socket.AF_INET6, (address, port, 0, 0)))
        return pairs

    def lookup(self, host: str, *, timeout: float | None = None) -> list[str]:
        """The addresses of a host, best first; never an empty list. Raises ResolveError."""
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if literal_family(host) is not None:
            return [host]
        name = clean_name(host)
        bare = name.removesuffix(".")
        if bare == "localhost" or bare.endswith(".localhost"):
            return self._sort([*({"A": "127.0.0.1", "AAAA": "::1"}[kind] for kind in self.types)])
        found = self.hosts.find(bare)
        if found and (fitting := self._sort([one for one in found if self._wants(one)])):
            return fitting
        return list(self._find("address", name, host, timeout))

    def lookup_srv(self, name: str, *, timeout: float | None = None) -> list[Service]:
        """The services of a name such as `_http._tcp.example.com`, best first. Raises ResolveError."""
        return list(self._find("srv", clean_name(name), name, timeout))

    def close(self) -> None:
        """Give up all queries."""
        for task in list(self._tasks):
            task.kill(block=False)
        for key, query in list(self.queries.items()):
            query.set_exception(ResolveError(key[1], "the resolver stops", True))
        self.queries.clear()

    # --- what is remembered

    def _find(self, kind: str, name: str, host: str, timeout: float | None) -> tuple[Any, ...]:
        key = (kind, name)
        known = self.answers.get(key)
        if known is not None:
            self.answers.move_to_end(key)
            if monotonic() < known.due:
                return self._values(known, host)
        wait = self.timeout if timeout is None else timeout
        stale = known if known is not None and known.values and monotonic() < known.good_until else None
        try:
            answer: Answer | None = self._ask(key, host).get(timeout=min(wait, STALE_WAIT) if stale else wait)
        except gevent.Timeout:
            if stale is None:
                raise ResolveError(host, f"no answer within {wait:g} s", True) from None
            answer = stale
        except ResolveError as e:
            if stale is None:
                raise ResolveError(host, e.reason, e.temporary) from None
            answer = stale
        assert answer is not None  # only for type checkers: a get with block=False could give None
        return self._values(answer, host)

    def _values(self, answer: Answer, host: str) -> tuple[Any, ...]:
        if not answer.values:
            raise ResolveError(host, answer.reason, False)
        return answer.values

    def _ask(self, key: tuple[str, str], host: str) -> AsyncResult[Answer]:
        """The query for a name that is under way, or a new one: it goes on when who waits for it gives up."""
        query = self.queries.get(key)
        if query is None:
            if len(self.queries) >= MOST_QUERIES:
                raise ResolveError(host, "too many names are being resolved", True)
            query = self.queries[key] = AsyncResult()
            task = gevent.spawn(self._query, key, query)
            self._tasks.add(task)
            task.link(self._tasks.discard)
        return query

    def _query(self, key: tuple[str, str], query: AsyncResult[Answer]) -> None:
        try:
            answer = self._search(*key)
        except DNSFailure as e:
            self._keep_stale(key)
            query.set_exception(ResolveError(key[1], str(e), True))
        except Exception as e:  # whoever waits must learn of it
            query.set_exception(ResolveError(key[1], f"{type(e).__name__}: {e}", True))
        else:
            self._keep(key, answer)
            query.set(answer)
        finally:
            if self.queries.get(key) is query:
                del self.queries[key]

    def _keep(self, key: tuple[str, str], answer: Answer) -> None:
        self.answers[key] = answer
        self.answers.move_to_end(key)
        while len(self.answers) > self.max_names:
            self.answers.popitem(last=False)

    def _keep_stale(self, key: tuple[str, str]) -> None:
        """DNS failed: a last good answer counts a little longer, so that not everybody waits again."""
        answer = self.answers.get(key)
        now = monotonic()
        if answer is not None and answer.values and now < answer.good_until:
            self.answers[key] = answer._replace(due=min(now + RETRY, answer.good_until))

    # --- asking

    def _search(self, kind: str, name: str) -> Answer:
        """Ask for a name, and below the search domains as resolv.conf(5) says. Raises DNSFailure."""
        settings = self._current_settings()
        if name.endswith("."):
            candidates = [name]
        else:
            absolute, relative = [name + "."], [f"{name}.{domain}." for domain in settings.search]
            candidates = absolute + relative if name.count(".") >= settings.ndots else relative + absolute
        answers = []
        for candidate in candidates if kind == "address" else [name.removesuffix(".") + "."]:
            answer = (
                self._ask_addresses(candidate, settings)
                if kind == "address"
                else self._ask_srv(candidate, settings)
            )
            if answer.values:
                return answer
            answers.append(answer)
        return min(answers, key=lambda answer: answer.due)

    def _ask_addresses(self, name: str, settings: Settings) -> Answer:
        """A and AAAA at once; the slower gets little time when the other has addresses. Raises DNSFailure."""
        tasks = [gevent.spawn(self._attempt, name, kind, settings) for kind in self.types]
        try:
            for done in gevent.iwait(tasks):
                if isinstance(done.value, Reply) and done.value.values:
                    gevent.joinall(tasks, timeout=SECOND_WAIT)
                    break
        finally:
            gevent.killall(tasks, block=False)
        replies = [task.value for task in tasks if isinstance(task.value, Reply)]
        addresses = self._sort([address for reply in replies for address in reply.values])
        if len(replies) < len(tasks) and not addresses:
            # "Exists, without addresses of this family" says nothing about the other one.
            if absent := next((reply for reply in replies if reply.is_absent), None):
                return self._answer((), absent.ttl, "no such name")
            raise next(
                (task.value for task in tasks if isinstance(task.value, DNSFailure)), DNSFailure("no answer")
            )
        ttl = min(reply.ttl for reply in replies if reply.values or not addresses)
        if len(replies) < len(tasks):
            ttl = min(ttl, PARTIAL_TTL)
        is_absent = all(reply.is_absent for reply in replies)
        return self._answer(tuple(addresses), ttl, "no such name" if is_absent else "it has no address")

    def _ask_srv(self, name: str, settings: Settings) -> Answer:
        outcome = self._attempt(name, "SRV", settings)
        if isinstance(outcome, DNSFailure):
            raise outcome
        services = sorted(
            (Service(*value) for value in outcome.values), key=lambda one: (one.priority, -one.weight)
        )
        # A single "." says: decidedly no such service (RFC 2782).
        services = [one for one in services if one.target]
        return self._answer(tuple(services), outcome.ttl, "no such service")

    def _attempt(self, name: str, kind: str, settings: Settings) -> Reply | DNSFailure:
        """Ask the servers in turn. Returns a failure instead of raising it: a greenlet would print it."""
        failure = DNSFailure("no server")
        client = self.client or self._load_client()
        for _ in range(settings.attempts):
            for server in settings.servers:
                try:
                    return client.ask(name, kind, server, self.attempt_timeout or settings.timeout)
                except DNSFailure as e:
                    failure = e
        return failure

    def _load_client(self) -> DNSClient:
        from hemi.dnsclient import DNSClient  # with all of dnspython, which is a tenth of a start

        self.client = DNSClient()
        return self.client

    def _answer(self, values: tuple[Any, ...], ttl: float, reason: str) -> Answer:
        most = self.max_ttl if values else self.negative_ttl
        due = monotonic() + min(max(ttl, self.min_ttl), most)
        return Answer(values, reason, due, due + self.stale_limit)

    def _current_settings(self) -> Settings:
        now = monotonic()
        if now >= self._look:
            self._look = now + LOOK
            try:
                status = os.stat(self.settings_file)
                seen = (status.st_ino, status.st_mtime_ns)
                if seen != self._settings_seen:
                    with open(self.settings_file, encoding="utf-8", errors="replace") as file:
                        self._settings = parse_settings(file.read(1 << 20))
                    self._settings_seen = seen
            except OSError:
                pass  # what was known last is the best guess
        return self._settings._replace(servers=self.servers) if self.servers else self._settings

    def _wants(self, address: str) -> bool:
        return ("AAAA" if ":" in address else "A") in self.types

    def _sort(self, addresses: list[str]) -> list[str]:
        return sorted(addresses, key=lambda address: (":" in address) != (self.prefer == "ipv6"))


def zone_index(address: str, zone: str) -> int:
    """The number of the interface that an IPv6 zone names. Raises ResolveError."""
    if zone.isascii() and zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        raise ResolveError(address, f"there is no interface {zone!r}", False) from None


class Resolv(Component, kind="fixtures", sign="resolv"):
    """Finds the addresses of names, for everything in a stage that connects."""

    servers: list[str] = prop(
        [], "Name servers, as ADDRESS or ADDRESS:PORT; by default those of resolv_file.", inherit=False
    )
    hosts_file: Path = prop("/etc/hosts", "Names that need no name server.", inherit=False)
    resolv_file: Path = prop("/etc/resolv.conf", "Name servers, search domains and options.", inherit=False)
    resolv_timeout: Duration = prop("5s", "How long a name may take altogether.", least="10ms", inherit=False)
    min_ttl: Duration = prop("1s", "An answer counts at least this long.", inherit=False)
    max_ttl: Duration = prop("1h", "An answer counts at most this long.", inherit=False)
    negative_ttl: Duration = prop(
        "10s", "That a name does not exist counts at most this long.", inherit=False
    )
    stale_limit: Duration = prop(
        "1d", "How long the last good answer is served while DNS fails.", inherit=False
    )
    max_names: int = prop(1000, "How many names to remember.", least=1, inherit=False)
    families: Families = prop("both", "Which addresses to ask for.", inherit=False)
    prefer: Prefer = prop("ipv4", "Which addresses come first.", inherit=False)

    resolve: Callable[..., list[tuple[int, Sockaddr]]]  # those of the Resolver
    lookup: Callable[..., list[str]]
    lookup_srv: Callable[..., list[Service]]
    resolver: Resolver | None = None

    def check(self) -> Any:
        """Name servers must be addresses."""
        for server in self.servers:
            if parse_server(server) is None:
                yield "servers", f"must have IP addresses with or without a port, not {server!r}"

    def prepare(self) -> None:
        """Make the resolver; nobody is asked yet."""
        self.resolver = resolver = Resolver(
            servers=tuple(found for server in self.servers if (found := parse_server(server)) is not None),
            hosts_file=self.hosts_file,
            settings_file=self.resolv_file,
            timeout=self.resolv_timeout,
            min_ttl=self.min_ttl,
            max_ttl=self.max_ttl,
            negative_ttl=self.negative_ttl,
            stale_limit=self.stale_limit,
            max_names=self.max_names,
            families=self.families,
            prefer=self.prefer,
        )
        self.resolve, self.lookup, self.lookup_srv = resolver.resolve, resolver.lookup, resolver.lookup_srv

    def stop(self, deadline: float) -> None:
        """Give up what is under way."""
        if self.resolver is not None:
            self.resolver.close()
