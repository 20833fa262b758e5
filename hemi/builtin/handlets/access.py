"""The handlet `access`: who may go on, by address or by any condition.

Two ways to say it. `allow` and `deny` are two sets, in which the most specific entry that holds the client's address
decides, whatever the order: an address before a network, a narrow network before a wide one, `all` last. `order` is
one list as nginx has it, in which the first line that fits decides; its lines may also be conditions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from hemi.component import Component, prop
from hemi.conditions import CompiledCondition, ConditionError, Networks, compile_condition
from hemi.library.networktable import NetworkTable, plain
from hemi.peers import UDS_HOST
from hemi.source import Given
from hemi.values import Context, Kind, Parts, Wrong, spelled
from hemi.values.net import Net
from hemi.web.handlet import Handlet

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

KNOWN_HOSTS = 1024


def parse_who(text: str) -> Net | str:
    """A network, "all" or "unix". Raises ValueError."""
    return text if text in ("all", "unix") else plain(ipaddress.ip_network(text))


class WhoKind(Kind):
    """An address, a network, `all`, or `unix` for the clients of Unix domain sockets."""

    noun = 'an address, a network such as "10.0.0.0/8", "all" or "unix"'

    def parse(self, given: Given, context: Context) -> Net | str:
        if not isinstance(given.value, str):
            self.refuse(given)
        try:
            return parse_who(given.value)
        except ValueError:
            self.refuse(given)

    def show(self, value: Net | str) -> Any:
        if isinstance(value, str):
            return value
        return str(value.network_address if value.prefixlen == value.max_prefixlen else value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Line(NamedTuple):
    """A line of `order`: whom it is about, by address or by a condition, and what it says."""

    text: str
    allows: bool
    whom: tuple[Net | str, ...]
    condition: CompiledCondition | None


class LineKind(Kind):
    """`allow` or `deny`, and behind it addresses and networks, or `if` and a condition."""

    noun = 'a line such as "allow 10.0.0.0/8 ::1", "deny all" or "allow if $method == \\"GET\\""'

    def parse(self, given: Given, context: Context) -> Line:
        text = given.value
        verb, _, rest = text.partition(" ") if isinstance(text, str) else ("", "", "")
        rest = rest.strip()
        if verb not in ("allow", "deny") or not rest:
            self.refuse(given)
        if rest.startswith("if "):
            try:
                condition = compile_condition(rest[3:], context.scope, given.place)
            except ConditionError as error:
                raise Wrong(
                    (given, f"must be {verb} if and a condition, not {spelled(text)}: {error}")
                ) from None
            return Line(text, verb == "allow", (), condition)
        whom = []
        for word in rest.replace(",", " ").split():
            try:
                whom.append(parse_who(word))
            except ValueError:
                raise Wrong(
                    (given, f"must be {self.noun}, not {spelled(text)}: {word!r} is none of these")
                ) from None
        return Line(text, verb == "allow", tuple(whom), None)

    def show(self, value: Line) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^(allow|deny) +[^ ]"}


Who = Annotated[Any, WhoKind()]
AccessLine = Annotated[Line, LineKind()]


class AccessLists(Component):
    """The part of a component that knows which clients may come in, by their addresses and by conditions."""

    allow: list[Who] = prop(
        [], 'Who may come in: addresses, networks, "unix" (Unix domain sockets), "all".', inherit=False
    )
    deny: list[Who] = prop([], "Who may not.", inherit=False)
    order: list[AccessLine] = prop(
        [],
        'Lines such as "allow 10.0.0.0/8", "deny if $src_host == \\"10.6.6.6\\"", "deny all".',
        inherit=False,
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The ways to say it do not mix, and an entry must not be on both lists."""
        if self.order and (self.allow or self.deny):
            yield "must have either order, or allow and deny"
        if not (self.order or self.allow or self.deny):
            yield "must have order, allow or deny"
        for who in self.deny:
            if who in self.allow:
                yield "deny", f'must not have "{who}", which is allowed as well'

    def prepare(self) -> None:
        """Builds the tables."""
        self._allows: Callable[[Any], bool] = (
            by_order(self.order) if self.order else Specific(self.allow, self.deny).allows
        )


class Access(AccessLists, Handlet, sign="access"):
    """Refuses clients that may not come in, and declines the requests of all others, so that the next handlet or rule
    serves them.

    Say either `allow` and `deny`, of which the most specific entry decides (whoever is in neither may come in, unless
    there is an `allow`), or `order`, of which the first line that fits decides (whom no line fits may come in).
    """

    auth: Parts[Handlet] = prop(
        [], "Handlets such as basic_auth that ask for more than an address.", inherit=False
    )
    satisfy: Literal["all", "any"] = prop(
        "all", "Whether a client needs both the right address and to pass auth, or either.", inherit=False
    )
    status: int = prop(403, "The status of refusals.", least=400, most=599, inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Either way in must be there."""
        yield from AccessLists.check(self)
        if self.satisfy == "any" and not self.auth:
            yield "satisfy", '"any" needs auth, the other way in'

    def prepare(self) -> None:
        """Builds the tables."""
        AccessLists.prepare(self)
        self._auth = tuple(handlet.handle for handlet in self.auth)
        self._any = self.satisfy == "any"

    def handle(self, req: Request, resp: Response) -> bool | None:
        """Declines when the client may go on."""
        if self._allows(req):
            if self._any or not self._auth:
                return False
        elif not self._any:
            self.stage.log.info("access", f"{req.src_host} was refused at {req.line()}")
            resp.error(self.status)
            return True
        for handle in self._auth:
            done = handle(req, resp)
            if done or done is None or resp.is_sent:
                return done
        return False


class Specific:
    """Two sets of which the most specific entry decides."""

    def __init__(self, allow: list[Net | str], deny: list[Net | str]) -> None:
        self._table: NetworkTable[int] = NetworkTable()  # 1: allowed, 0: denied
        self._known: dict[str, bool] = {}
        named: dict[str, bool] = {}
        for entries, allows in ((allow, True), (deny, False)):
            for entry in dict.fromkeys(entries):
                if isinstance(entry, str):
                    named[entry] = allows
                else:
                    self._table.add(entry, int(allows))
        self._rest = named.get("all", not allow)
        self._unix = named.get("unix", self._rest)

    def allows(self, req: Any) -> bool:
        """Tells whether the client may come in."""
        host = req.src_host
        known = self._known.get(host)
        if known is None:
            found = self._table.find(host)
            known = bool(found) if found is not None else self._unix if host == UDS_HOST else self._rest
            if len(self._known) >= KNOWN_HOSTS:
                self._known.clear()
            self._known[host] = known
        return known


def by_order(lines: list[Line]) -> Callable[[Any], bool]:
    """What tells whether a client may come in by the first line that fits; also used at layer 4."""
    tests = [(_test_of(line), line.allows) for line in lines]

    def allows(req: Any) -> bool:
        for test, verdict in tests:
            if test(req):
                return verdict
        return True

    return allows


def _test_of(line: Line) -> Callable[[Any], bool]:
    if line.condition is not None:
        return line.condition
    if "all" in line.whom:
        return lambda req: True
    networks, with_unix = Networks(), "unix" in line.whom
    for who in line.whom:
        if who != "unix":
            networks.add(str(who))
    return lambda req: networks(req.src_host) or (with_unix and req.src_host == UDS_HOST)
