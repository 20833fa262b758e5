"""Addresses of cmdui."""

from __future__ import annotations

import pytest

from hemi.errors import UsageError
from hemi.procmgr.target import parse_target, show_target


@pytest.mark.parametrize(
    ("text", "target", "shown"),
    [
        ("127.0.0.1:9527", ("127.0.0.1", 9527), "127.0.0.1:9527"),
        ("127.8.0.1:0", ("127.8.0.1", 0), "127.8.0.1:0"),
        (":9000", ("127.0.0.1", 9000), "127.0.0.1:9000"),
        ("localhost:1", ("127.0.0.1", 1), "127.0.0.1:1"),
        ("[::1]:9527", ("::1", 9527), "[::1]:9527"),
        ("/run/gorox.sock", "/run/gorox.sock", "/run/gorox.sock"),
        ("unix:c.sock", "c.sock", "c.sock"),
    ],
)
def test_good_ones(text: str, target: object, shown: str) -> None:
    assert parse_target(text) == target
    assert show_target(parse_target(text)) == shown


BAD = ["", "9527", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:٣", "0.0.0.0:1", "[::]:1"]
BAD += ["10.0.0.1:1", "example.com:1", "127.0.0.1.evil.test:1", "unix:", "/" + "x" * 107, "/a\0b"]


@pytest.mark.parametrize("text", BAD)
def test_bad_ones(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)
