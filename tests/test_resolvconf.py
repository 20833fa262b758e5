"""The hosts file and resolv.conf."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from hemi.resolvconf import Settings, literal_family, parse_hosts, parse_server, parse_settings


def test_parse_hosts() -> None:
    assert parse_hosts("\ufeff\n# x\n::1 a a\n127.0.0.1\n300.1.1.1 b\n") == {"a": ["::1"]}


def test_parse_settings() -> None:
    text = "; x\nsearch A.test. b.test\nnameserver 192.0.2.1\nnameserver ::1 # x\nnameserver no\n"
    text += "options ndots:2 timeout:9 rotate attempts:99\n"
    assert parse_settings(text) == Settings((("192.0.2.1", 53), ("::1", 53)), ("a.test", "b.test"), 2, 9.0, 5)
    assert parse_settings("") == Settings()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("ns.example", None),
        ("192.0.2.1:0", None),
        ("192.0.2.1:99999", None),
        ("", None),
    ],
)
def test_parse_server(text: str, address: Any) -> None:
    assert parse_server(text) == address


@pytest.mark.parametrize(
    ("host", "version"),
    [
        ("192.0.2.1", 4),
        ("::1", 6),
        ("fe80::1%lo", 6),
        ("fe80::1%", 0),
        ("1.2.3", 0),
        ("01.2.3.4", 0),
        ("[::1]", 0),
        ("", 0),
    ],
)
def test_literal_family(host: str, version: int) -> None:
    assert literal_family(host) == {4: socket.AF_INET, 6: socket.AF_INET6, 0: None}[version]
