"""Heads of requests: what they come to. What is malformed is in tests/conformance/test_h2_messages.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hemi.web.h2.errors import Malformed
from hemi.web.h2.head import check_fields, check_trailers, examine, split_pseudo
from tests.webkit import serve

GET = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/a%20b?c=d"),
    (b":authority", b"A.example:81"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with serve() as site:
        yield site.server


def test_an_ordinary_head(server: Any) -> None:
    fields = [(b"accept", b"*/*"), (b"priority", b"u=1, i"), (b"content-length", b"12")]
    head = examine(GET + fields, server)
    assert (head.method, head.target, head.raw_path, head.path, head.query) == (
        "GET", b"/a%20b?c=d", b"/a%20b", "/a b", "c=d",
    )  # fmt: skip
    known = head.known
    assert known.fields == ((b"host", b"A.example:81"), *fields)
    assert known.table == dict(known.fields)
    assert (known.site.hostname, known.site.port) == ("a.example", 81)
    assert (known.size, known.urgency, known.incremental, known.expects) == (12, 1, True, False)
    assert head.refusal is None


def test_the_same_fields_are_examined_once(server: Any) -> None:
    first = examine([*GET, (b"x", b"once")], server)
    second = examine([*GET[:2], (b":path", b"/other"), GET[3], (b"x", b"once")], server)
    assert first.known is second.known
    assert second.path == "/other"
    assert examine([*GET, (b"x", b"twice")], server).known is not first.known


def test_refusals_are_not_remembered(server: Any) -> None:
    before = dict(server.known_fields)
    assert examine([*GET, (b"expect", b"more")], server).refusal.status == 417
    assert server.known_fields == before


def test_an_extended_connect_looks_like_an_upgrade(server: Any) -> None:
    pairs = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:], (b"origin", b"x")]
    head = examine(pairs, server)
    assert (head.method, head.protocol, head.path) == ("GET", b"websocket", "/a b")
    assert head.known.table[b"upgrade"] == b"websocket"
    assert head.known.table[b"connection"] == b"upgrade"
    assert head.known.fields[-2:] == ((b"connection", b"upgrade"), (b"upgrade", b"websocket"))
    assert b"upgrade" not in examine([*GET, (b"origin", b"x")], server).known.table


def test_pseudo_fields_come_first() -> None:
    assert split_pseudo([*GET, (b"x", b"y")]) == (dict(GET), [(b"x", b"y")])
    assert split_pseudo([]) == ({}, [])
    with pytest.raises(Malformed, match="repeated"):
        split_pseudo([GET[0], GET[0]])


def test_values_may_have_tabs_and_high_bytes() -> None:
    check_fields([(b"x", b"a\tb"), (b"y", b"\xff"), (b"te", b"trailers"), (b"z", b"")])
    with pytest.raises(Malformed, match="te, which"):
        check_fields([(b"te", b"gzip")])


def test_trailers(server: Any) -> None:
    assert check_trailers([(b"x", b"y")], server) == [(b"x", b"y")]
    with pytest.raises(Malformed, match="too large"):
        check_trailers([(b"x", b"y")] * 101, server)
    with pytest.raises(Malformed, match="behind"):
        check_trailers([(b":path", b"/")], server)
