"""Which webapp for which host."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.web.hosts import HostTable
from hemi.web.uri import BadTarget


class App:
    def __init__(self, *hostnames: str) -> None:
        self.hostnames = hostnames


EXACT, SUFFIX, LONGER, PREFIX, DEFAULT = (
    App("a.example", "xn--bcher-kva.example"),
    App("*.example"),
    App("*.b.example"),
    App("www.*"),
    App("*"),
)


def table(*apps: Any) -> HostTable:
    return HostTable(apps)


@pytest.mark.parametrize(
    ("host", "app"),
    [
        ("a.example", EXACT),
        ("xn--bcher-kva.example", EXACT),
        ("b.example", SUFFIX),
        ("c.b.example", LONGER),
        ("d.c.b.example", LONGER),
        ("example", DEFAULT),
        (".example", DEFAULT),
        ("www.test", PREFIX),
        ("www.example", SUFFIX),  # suffixes before prefixes
        ("www.", DEFAULT),
        ("elsewhere.test", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_find(host: str, app: App) -> None:
    assert table(EXACT, SUFFIX, LONGER, PREFIX, DEFAULT).find(host) is app
    assert table(DEFAULT, PREFIX, LONGER, SUFFIX, EXACT).find(host) is app


def test_nobody() -> None:
    assert table(EXACT).find("b.example") is None
    assert table().find("") is None


def test_the_first_default_stays() -> None:
    first, second = App("*"), App("*")
    assert table(first, second).default is first


def test_sites() -> None:
    hosts = table(EXACT, DEFAULT)
    assert hosts.site(b"A.Example:8080", 80) == (EXACT, "a.example:8080", "a.example", 8080)
    assert hosts.site(b"a.example", 443) == (EXACT, "a.example", "a.example", 443)
    assert hosts.site(b"a.example.", 80).webapp is EXACT
    assert hosts.site(b"[::1]:80", 1) == (DEFAULT, "[::1]:80", "::1", 80)
    assert hosts.site(b"", 80) == (DEFAULT, "", "", 80)
    for bad in (b"a b", b"a,b", b"a@b", b"a:0", b"\xff", b"a/"):
        with pytest.raises(BadTarget):
            hosts.site(bad, 80)
