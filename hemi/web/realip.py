"""Who the client really is, when proxies that we trust stand between: fields of the request, or the PROXY protocol.

Nothing of it is believed from a peer that is not listed: anybody can write an X-Forwarded-For.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hemi.web.fields import parse_parameters, split_list

if TYPE_CHECKING:
    from hemi.web.request import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """A set of networks. A Unix domain peer, which has no address, is in it when `with_uds` is set."""

    def __init__(self, networks: Iterable[Network], with_uds: bool = False) -> None:
        self.networks = tuple(networks)
        self.with_uds = with_uds

    def __bool__(self) -> bool:
        return bool(self.networks) or self.with_uds

    def __contains__(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self.with_uds and host == "unix:"
        return any(address in network for network in self.networks)


def believe(request: Request, trusted: Networks, header: str) -> None:
    """Takes the client's address and scheme from what trusted proxies say of them.

    Of a list of addresses the last one that is no trusted proxy counts: what stands before it, anybody wrote.
    """
    if header == "forwarded":
        hops = [parse_parameters("x;" + member)[1] for member in split_list(request.header_text("forwarded"))]
        addresses = [_node(hop.get("for", "")) for hop in hops]
        schemes = [hop.get("proto", "") for hop in hops]
    else:
        addresses = [_node(member) for member in split_list(request.header_text(header))]
        schemes = split_list(request.header_text("x-forwarded-proto"))
    for host, port in reversed(addresses):
        if not host:
            break
        request.src_host, request.src_port = host, port
        if host not in trusted:
            break
    scheme = schemes[-1].lower() if schemes else ""
    if scheme in ("http", "https") and scheme != request.scheme:
        request.scheme = scheme
        if ":" not in request.authority.rpartition("]")[2]:  # it names no port
            request.port = 443 if scheme == "https" else 80


def _node(text: str) -> tuple[str, int]:
    """An address with an optional port, as proxies write it (RFC 7239 §6); ("", 0) for everything else."""
    text = text.strip().strip('"')
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "", 0
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
