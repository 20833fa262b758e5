"""The parts of a proxy that need no sockets: names, retries, spools, heads of responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hemi.web.h1.answer import parse_head
from hemi.web.proxy.names import passable_trailers
from hemi.web.proxy.responses import ResponseHead, ResponseRules
from hemi.web.proxy.retries import Budget, Retries
from hemi.web.proxy.spool import Spool


def test_trailers_that_others_would_believe_are_dropped() -> None:
    fields = [(b"x-sum", b"1"), (b"host", b"evil"), (b"content-length", b"3"), (b"x-forwarded-for", b"::1")]
    assert passable_trailers(fields) == [(b"x-sum", b"1")]


@pytest.mark.parametrize(
    ("cause", "method", "tries", "expected"),
    [
        ("connect", "POST", 1, True),
        ("connect", "POST", 3, False),
        ("closed", "GET", 1, True),
        ("closed", "POST", 1, False),
        ("timeout", "GET", 1, False),
        ("status", "GET", 1, True),
        ("status", "PATCH", 1, False),
    ],
)
def test_retries(cause: Any, method: str, tries: int, expected: bool) -> None:
    assert Retries().allow(cause, method, tries) is expected


def test_the_budget_is_a_share_of_the_requests() -> None:
    budget = Budget(0.5, spare=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()


@pytest.mark.parametrize("size", [0, 5, 100, 5000])
def test_spools_give_what_they_took(size: int, tmp_path: Path) -> None:
    spool = Spool(100, str(tmp_path))
    data = bytes(range(256)) * 20
    for at in range(0, size, 7):
        spool.write(data[at : min(at + 7, size)])
    assert spool.size == size
    assert b"".join(spool) == b"".join(spool) == data[:size]
    assert (spool.content is None) == (spool.file >= 0) == (size > 100)
    assert list(tmp_path.iterdir()) == []
    spool.close()
    spool.close()


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    spool = Spool(10, str(tmp_path))
    spool.write(b"a" * 20)

    def full(file: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            spool.write(b"b" * 20)
    assert b"".join(spool) == b"a" * 20 + b"b" * 20
    spool.close()


class Req:
    scheme = "https"
    authority = "shop.example"


@pytest.mark.parametrize(
    ("rules", "location", "expected"),
    [
        ({}, "http://10.0.0.1:80/x", "https://shop.example/x"),
        ({}, "http://other.example/x", "http://other.example/x"),
        ({}, "/x", "/x"),
        ({}, "//other.example/x", "//other.example/x"),
        ({}, "https://shop.example/x", "https://shop.example/x"),
        ({"strip_prefix": "/api"}, "/x", "/api/x"),
        ({"strip_prefix": "/api", "add_prefix": "/v1"}, "/v1/x", "/api/x"),
        ({"strip_prefix": "/api", "add_prefix": "/v1"}, "/v10/x", "/v10/x"),
        ({"follow_redirects": False}, "http://10.0.0.1:80/x", "http://10.0.0.1:80/x"),
        ({"redirects": (("http://old/", lambda req: "/new/"),)}, "http://old/x", "/new/x"),
        ({}, "http://[bad/x", "http://[bad/x"),
    ],
)
def test_locations(rules: dict[str, Any], location: str, expected: str) -> None:
    class Resp:
        revisers = ()
        fields: list[tuple[bytes, bytes]]

    resp: Any = Resp()
    resp.fields = []
    head = parse_head(f"HTTP/1.1 302 F\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
    ResponseHead(ResponseRules(**rules)).apply(head, Req(), resp, "10.0.0.1:80", "")  # type: ignore[arg-type]
    got = dict(resp.fields).get(b"location") or resp.lines.split(b"\r\n")[0].removeprefix(b"location: ")
    assert got.decode() == expected
