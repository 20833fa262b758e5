"""A table from networks to values in which the most specific network decides.

A look-up costs a dictionary access for each prefix length that occurs, however many networks there are. IPv4
addresses that come as IPv6 ones (::ffff:192.0.2.1, RFC 4291 §2.5.5.2) are IPv4 addresses here.
"""

from __future__ import annotations

import ipaddress
from typing import Generic, TypeVar

T = TypeVar("T")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def plain(network: Network) -> Network:
    """The IPv4 network behind a network of IPv4-mapped IPv6 addresses; others as they are."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network


class NetworkTable(Generic[T]):
    """Values by network; `find` gives the value of the longest prefix."""

    def __init__(self) -> None:
        self._size = 0
        # version -> [(bits to shift off, network bits -> value)], the longest prefix first
        self._tables: dict[int, list[tuple[int, dict[int, T]]]] = {4: [], 6: []}

    def __len__(self) -> int:
        return self._size

    def add(self, network: Network, value: T) -> None:
        """Adds a network. Raises KeyError when it is there already."""
        network = plain(network)
        shift = network.max_prefixlen - network.prefixlen
        tables = self._tables[network.version]
        for at, (known, table) in enumerate(tables):
            if known == shift:
                break
            if known > shift:
                table = {}
                tables.insert(at, (shift, table))
                break
        else:
            table = {}
            tables.append((shift, table))
        key = int(network.network_address) >> shift
        if key in table:
            raise KeyError(str(network))
        table[key] = value
        self._size += 1

    def find(self, text: str) -> T | None:
        """The value for an address, None when it is in no network or no address at all."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number = int(address)
        for shift, table in self._tables[address.version]:
            value = table.get(number >> shift)
            if value is not None:
                return value
        return None
