"""Who may go where through a forward proxy. Pure: nothing is resolved and nothing dialled in here.

Laws of this module:
- Nothing is allowed that no `allow` rule allows, and nothing that a `deny` rule denies.
- A name is judged twice: as it was asked for, before anybody resolves it, and with each address that it has. Only the
  address that was judged may be dialled, or a second answer of the DNS could be another (DNS rebinding).
- Addresses that are not of the public Internet (loopback, private, link-local with the metadata services of clouds,
  multicast, those in which IPv4 addresses hide, see SPECIAL) need a rule whose `networks` name them: a network that
  lies within such a range. 0.0.0.0/0 holds them, but does not name them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple

from hemi.component import Component, prop
from hemi.library.networktable import plain
from hemi.source import Given
from hemi.values import Context, Hostname, Kind, Network
from hemi.values.net import Net, to_ascii

__all__ = ["ForwardRule", "Permit", "Rules", "Wish", "clean_host", "is_special"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SPECIAL: tuple[Net, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: 169.254.169.254 tells a cloud's secrets
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
        # Of IPv6, only 2000::/3 is the Internet. 64:ff9b::/96 (NAT64), ::ffff:0:0/96 and fc00::/7 are outside of it.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4: IPv4 addresses hide in it
        "3fff::/20",
    )
)
"""What is not of the public Internet (the IANA registries of special-purpose addresses, RFC 6890)."""


class PortsKind(Kind):
    """A port or a range of ports."""

    noun = 'a port such as 443, or a range such as "8000-8999"'

    def parse(self, given: Given, context: Context) -> tuple[int, int]:
        value = given.value
        if isinstance(value, bool) or not isinstance(value, int | str):
            self.refuse(given)
        match = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", str(value))
        first, last = (int(match[1]), int(match[2] or match[1])) if match is not None else (0, 0)
        if not 0 < first <= last <= 65535:
            self.refuse(given)
        return first, last

    def show(self, value: tuple[int, int]) -> Any:
        first, last = value
        return first if first == last else f"{first}-{last}"

    def schema(self) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$"},
            ]
        }


Ports = Annotated[tuple[int, int], PortsKind()]


class ForwardRule(Component, kind="forward_rules", nested=True, sign="forward_rule"):
    """Describes who may, or may not, go where through a forward proxy. Everything that is given must hold."""

    users: list[str] = prop([], "The users; anybody when empty.", inherit=False)
    sources: list[Network] = prop(
        [], "Networks of the clients; anywhere when empty. Clients of Unix domain sockets are in none.",
        inherit=False,
    )  # fmt: skip
    names: list[Hostname] = prop(
        [],
        'The hosts as they were asked for: "example.com", "*.example.com", "*" (any name, and any address).',
        inherit=False,
    )
    networks: list[Network] = prop(
        [],
        "Networks of the addresses that the hosts have. Private and other special ranges must be named.",
        inherit=False,
    )
    ports: list[Ports] = prop([], 'The ports: 443, "8000-8999"; all when empty.', inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A rule must say where: an empty one would be forgotten rather than meant."""
        if not (self.users or self.sources or self.names or self.networks or self.ports):
            yield "must have users, sources, names, networks or ports"


class Wish(NamedTuple):
    """What a client wants: to get to a host (a name, or an address as text) and a port. `user` is "" for nobody."""

    user: str
    source: str
    host: str
    port: int


class _Rule:
    """A rule, taken apart for matching."""

    def __init__(self, rule: ForwardRule) -> None:
        self.users = frozenset(rule.users)
        self.sources = tuple(plain(network) for network in rule.sources)
        self.networks = tuple(plain(network) for network in rule.networks)
        self.named = tuple(network for network in self.networks if _names_special(network))
        self.ports = rule.ports
        self.any_name = not rule.names or "*" in rule.names
        self.exact = frozenset(name.strip("[]") for name in rule.names)
        self.suffixes = tuple(name[1:] for name in rule.names if name.startswith("*."))
        self.prefixes = tuple(name[:-1] for name in rule.names if name.endswith(".*"))

    def fits(self, wish: Wish) -> bool:
        """Whether all holds that can be told without the address."""
        if self.users and wish.user not in self.users:
            return False
        if self.ports and not any(first <= wish.port <= last for first, last in self.ports):
            return False
        if self.sources and not _within(parse_address(wish.source), self.sources):
            return False
        return self.any_name or self._has_name(wish.host)

    def _has_name(self, host: str) -> bool:
        if host in self.exact:
            return True
        if parse_address(host) is not None:
            return False  # 10.* is no pattern for addresses
        return host.endswith(self.suffixes) or host.startswith(self.prefixes)

    def allows(self, address: Address) -> bool:
        """Whether the networks of an `allow` rule let this address pass."""
        if is_special(address):
            return _within(address, self.named)
        return not self.networks or _within(address, self.networks)

    def denies(self, address: Address) -> bool:
        """Whether the networks of a `deny` rule hold this address."""
        return not self.networks or _within(address, self.networks)


class Rules:
    """The rules of a proxy: see the laws of this module."""

    def __init__(self, allow: Iterable[ForwardRule], deny: Iterable[ForwardRule]) -> None:
        self._allow = [_Rule(rule) for rule in allow]
        self._deny = [_Rule(rule) for rule in deny]

    def __repr__(self) -> str:
        return f"<Rules allow={len(self._allow)} deny={len(self._deny)}>"

    def permit(self, wish: Wish) -> Permit | None:
        """What judges the addresses of a host, or None when no address could make it right."""
        if not 0 < wish.port <= 65535:
            return None
        allow = [rule for rule in self._allow if rule.fits(wish)]
        deny = [rule for rule in self._deny if rule.fits(wish)]
        if not allow or any(not rule.networks for rule in deny):
            return None
        return Permit(allow, deny)


class Permit:
    """Says which addresses of one host may be dialled. `refused` tells of one that was not."""

    __slots__ = ("_allow", "_deny", "refused")

    def __init__(self, allow: list[_Rule], deny: list[_Rule]) -> None:
        self._allow = allow
        self._deny = deny
        self.refused = ""

    def __call__(self, text: str) -> bool:
        address = parse_address(text)
        if (
            address is not None
            and any(rule.allows(address) for rule in self._allow)
            and not any(rule.denies(address) for rule in self._deny)
        ):
            return True
        self.refused = text
        return False


def is_special(address: Address) -> bool:
    """True when an address is not of the public Internet."""
    return not address.is_global or _within(address, SPECIAL)


def _names_special(network: Net) -> bool:
    """True when a network lies within a special range, and so cannot be meant for the Internet at large."""
    if network.prefixlen == network.max_prefixlen:
        return True
    return any(
        block.prefixlen <= network.prefixlen and network.network_address in block
        for block in SPECIAL
        if block.version == network.version
    )


def parse_address(text: str) -> Address | None:
    """The address that a text is, None when it is none. IPv4 addresses that come as IPv6 ones are IPv4 ones."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _within(address: Address | None, networks: Iterable[Net]) -> bool:
    return address is not None and any(address in network for network in networks)


def clean_host(text: str) -> str:
    """A host in the one form in which rules look at it: a canonical address, or a name in lower case without a dot at
    its end. Raises ValueError for what is neither, such as "127.1" or an address with a zone."""
    if "%" in text:
        raise ValueError("an address must not have a zone")
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return to_ascii(text)
