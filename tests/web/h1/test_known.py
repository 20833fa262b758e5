"""What a server remembers of requests: only what is plain, only so much, and nothing that decides about framing."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.h1.known import KNOWN_HEADS, KNOWN_LINES, KNOWN_SIZE, KnownHead, learn_head, learn_line
from tests.webkit import Site, serve

BLOCK = b"host: a\r\n\r\n"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture
def server(site: Site) -> Any:
    site.server.known_lines.clear()
    site.server.known_heads.clear()
    return site.server


def test_a_plain_line(server: Any) -> None:
    line = b"GET /a/../b%20c?d=e HTTP/1.1"
    known = learn_line(server, line)
    assert known == ("GET", b"/a/../b%20c?d=e", b"/a/../b%20c", "/b c", "d=e")
    assert server.known_lines == {line: known}


@pytest.mark.parametrize(
    "line",
    [
        b"get / HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /# HTTP/1.1",
        b"GET /.. HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"CONNECT /a HTTP/1.1",
        b"GET /" + b"a" * 8192 + b" HTTP/1.1",
    ],
)
def test_all_else_is_for_the_parser(server: Any, line: bytes) -> None:
    assert learn_line(server, line) is None and not server.known_lines


def test_lines_are_bounded(server: Any) -> None:
    assert learn_line(server, b"GET /" + b"a" * KNOWN_SIZE + b" HTTP/1.1") is not None
    assert not server.known_lines
    for number in range(KNOWN_LINES + 1):
        learn_line(server, b"GET /%d HTTP/1.1" % number)
    assert len(server.known_lines) == 1


def request(fields: dict[bytes, bytes], **more: Any) -> Any:
    given = {"version": 11, "path": "/", "target": b"/", "fields": list(fields.items()), "index": fields}
    return SimpleNamespace(**{**given, **more})


def stream(of: Any, refusal: Any = None, content: Any = None) -> Any:
    return SimpleNamespace(request=of, refusal=refusal, content=content, keep_alive=True)


def test_an_ordinary_head(server: Any) -> None:
    learn_head(server, stream(request({b"host": b"a"})), BLOCK)
    head: KnownHead = server.known_heads[BLOCK]
    assert head.fields == ((b"host", b"a"),) and head.keep_alive
    with pytest.raises(TypeError):
        head.table[b"host"] = b"b"  # type: ignore[index]


@pytest.mark.parametrize(
    "odd",
    [
        stream(request({b"host": b"a"}), refusal=object()),
        stream(request({b"host": b"a"}), content=object()),
        stream(request({b"host": b"a"}, version=10)),
        stream(request({b"host": b"a"}, path="*")),
        stream(request({b"host": b"a"}, target=b"http://a/")),
        stream(request({b"host": b"a", b"upgrade": b"x"})),
        stream(request({b"host": b"a", b"expect": b"100-continue"})),
    ],
)
def test_what_is_not_ordinary(server: Any, odd: Any) -> None:
    learn_head(server, odd, BLOCK)
    assert not server.known_heads


def test_heads_are_bounded(server: Any) -> None:
    learn_head(server, stream(request({b"host": b"a"})), BLOCK + bytes(KNOWN_SIZE))
    assert not server.known_heads
    for number in range(KNOWN_HEADS + 1):
        learn_head(server, stream(request({b"host": b"a"})), b"%d" % number)
    assert len(server.known_heads) == 1


def test_a_head_that_another_line_would_make_too_large() -> None:
    with serve(server={"max_target_size": "8K", "max_head_size": "8K"}) as site:
        learn_head(site.server, stream(request({b"host": b"a"})), BLOCK)
        assert not site.server.known_heads
