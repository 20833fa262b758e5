"""The most specific network decides."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.library.networktable import NetworkTable, plain


def table(*networks: str) -> NetworkTable[str]:
    made: NetworkTable[str] = NetworkTable()
    for network in networks:
        made.add(ipaddress.ip_network(network), network)
    return made


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.4", "10.1.0.0/16"),
        ("10.2.2.3", "10.0.0.0/8"),
        ("11.0.0.1", None),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::/32"),
        ("2001:db8::1%eth0", "2001:db8::/32"),
        ("2001:db9::1", "::/0"),
        ("unix:", None),
        ("", None),
    ],
)
def test_the_longest_prefix(address: str, expected: str | None) -> None:
    made = table("10.0.0.0/8", "10.1.2.3", "::/0", "10.1.0.0/16", "2001:db8::/32")
    assert made.find(address) == expected and len(made) == 5


def test_mapped_networks_are_ipv4() -> None:
    assert table("::ffff:10.0.0.0/104").find("10.9.9.9") == "::ffff:10.0.0.0/104"
    assert plain(ipaddress.ip_network("::ffff:1.2.3.4")) == ipaddress.ip_network("1.2.3.4")
    assert plain(ipaddress.ip_network("::/90")) == ipaddress.ip_network("::/90")


def test_no_network_twice() -> None:
    with pytest.raises(KeyError):
        table("10.0.0.0/8", "10.0.0.0/8")


NETWORKS = st.one_of(
    st.builds(
        lambda n, p: ipaddress.ip_network((n, p), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
    ),
    st.builds(
        lambda n, p: ipaddress.ip_network((n + 2**120, p), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(1, 128),
    ),
)


@given(
    st.lists(NETWORKS, unique=True),
    st.one_of(st.ip_addresses(), NETWORKS.map(lambda net: net.network_address)),
)
def test_it_finds_what_a_search_finds(networks: list[object], address: object) -> None:
    made = table(*map(str, networks))
    holding = [net for net in networks if net.version == address.version and address in net]  # type: ignore[attr-defined, operator]
    best = max(holding, key=lambda net: net.prefixlen, default=None)  # type: ignore[attr-defined]
    assert made.find(str(address)) == (str(best) if best is not None else None)
