"""Who may go where."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hemi.builtin  # noqa: F401  registers its components
from hemi.config import Dirs, load_mapping
from hemi.errors import ConfigError
from hemi.net.rules import SPECIAL, Rules, Wish, clean_host, is_special
from hemi.net.rules import parse_address as address_of

PUBLIC = "93.184.216.34"


def rules(allow: Any = (), deny: Any = ()) -> Rules:
    mapping = {
        "servers": {
            "main": {
                "type": "socks_server", "address": "127.0.0.1:0", "users": {"anna": "{PLAIN}x", "bert": "{PLAIN}x"},
                "allow_plain": True, "allow": list(allow), "deny": list(deny),
            }
        }
    }  # fmt: skip
    server: Any = load_mapping(mapping, Dirs("/", "/", "/", "/")).members["servers"]["main"]
    return Rules(server.allow, server.deny)


def may(
    table: Rules, host: str, address: str = "", port: int = 443, user: str = "anna", source: str = "10.0.0.1"
) -> bool:
    permit = table.permit(Wish(user, source, host, port))
    return permit is not None and permit(address or host)


def test_nothing_is_allowed_by_default() -> None:
    assert not may(rules(), "example.com", PUBLIC)
    assert not may(rules(deny=[{"ports": [25]}]), "example.com", PUBLIC)


@pytest.mark.parametrize(
    ("rule", "wish", "expected"),
    [
        ({"names": "*"}, {}, True),
        ({"names": "example.com"}, {}, True),
        ({"names": "*.example.com"}, {}, False),
        ({"names": "*.example.com"}, {"host": "www.example.com"}, True),
        ({"names": "*.example.com"}, {"host": "www.badexample.com"}, False),
        ({"names": "example.*"}, {}, True),
        ({"names": "example.*"}, {"host": "example.com.evil.org"}, True),
        ({"names": "93.*"}, {"host": PUBLIC, "address": PUBLIC}, False),
        ({"names": PUBLIC}, {"host": PUBLIC, "address": PUBLIC}, True),
        ({"names": "other.com"}, {}, False),
        ({"ports": 443}, {}, True),
        ({"ports": "400-500"}, {}, True),
        ({"ports": [80, "8000-8999"]}, {}, False),
        ({"names": "*"}, {"port": 0}, False),
        ({"users": ["anna", "bert"]}, {}, True),
        ({"users": ["bert"]}, {}, False),
        ({"users": ["bert"]}, {"user": ""}, False),
        ({"sources": "10.0.0.0/8"}, {}, True),
        ({"sources": "10.0.0.0/8"}, {"source": "192.0.2.1"}, False),
        ({"sources": "10.0.0.0/8"}, {"source": "unix:"}, False),
        ({"networks": "93.184.0.0/16"}, {}, True),
        ({"networks": "93.0.0.0/16"}, {}, False),
        ({"networks": "0.0.0.0/0"}, {}, True),
        ({"names": "example.com", "networks": "93.0.0.0/8", "ports": 443, "users": ["anna"]}, {}, True),
        ({"names": "example.com", "networks": "94.0.0.0/8"}, {}, False),
    ],
)
def test_everything_in_a_rule_must_hold(rule: dict[str, Any], wish: dict[str, Any], expected: bool) -> None:
    asked = {"host": "example.com", "address": PUBLIC, **wish}
    assert may(rules([rule]), **asked) is expected


@pytest.mark.parametrize("port", [25, 443])
def test_deny_counts_more(port: int) -> None:
    table = rules([{"names": "*"}], [{"ports": 25}, {"names": "*.bad.com"}, {"networks": "93.184.0.0/16"}])
    assert may(table, "example.com", "1.1.1.1", port) is (port != 25)
    assert not may(table, "www.bad.com", "1.1.1.1", port)
    assert not may(table, "example.com", PUBLIC, port)


NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::",
    "2001:db8::1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_the_internet_must_be_named(address: str) -> None:
    for wide in (
        {"names": "*"},
        {"networks": ["0.0.0.0/0", "::/0"]},
        {"ports": "1-65535"},
        {"names": "a.com"},
    ):
        assert not may(rules([wide]), "a.com", address)
    bare = ipaddress.ip_address(address.partition("%")[0])
    assert may(rules([{"networks": str(bare)}]), "a.com", address)
    block = next(one for one in SPECIAL if (getattr(bare, "ipv4_mapped", None) or bare) in one)
    assert may(rules([{"networks": str(block)}]), "a.com", address)
    assert not may(rules([{"networks": str(block), "names": "b.com"}]), "a.com", address)


WIDE = rules([{"networks": ["0.0.0.0/0", "::/0"]}])


@given(st.ip_addresses())
def test_an_address_that_no_rule_names_is_public(address: Any) -> None:
    address = address_of(str(address))
    if may(WIDE, "a.com", str(address)):
        assert address.is_global and not is_special(address)
        assert not (
            address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        )


def test_what_is_no_address_is_refused() -> None:
    permit = rules([{"names": "*"}]).permit(Wish("", "10.0.0.1", "a.com", 80))
    assert permit is not None and not permit("127.1") and permit.refused == "127.1"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_hosts_have_one_form(text: str, host: str) -> None:
    assert clean_host(text) == host


@pytest.mark.parametrize(
    "text", ["", ".", "127.1", "0x7f.1", "2130706433", "a b", "a/b", "fe80::1%eth0",
     "a\0.com", "x" * 300, "a..b", "é" * 300],
)  # fmt: skip
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError):
        clean_host(text)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({}, "must have users, sources, names, networks or ports"),
        ({"ports": 0}, "ports must be a port such as 443"),
        ({"ports": "90-80"}, "ports must be a port such as 443"),
        ({"ports": "http"}, "ports must be a port such as 443"),
        ({"networks": "10.0.0.1/8"}, "10.0.0.0/8"),
        ({"name": "*"}, 'did you mean "names"'),
    ],
)
def test_rules_that_are_wrong(rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules([rule])
    assert problem in str(caught.value)
