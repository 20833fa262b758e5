"""CGI without servers: heads of answers, lines of stderr, targets. The rest is in tests/web/cgi and with fcgi_proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.patterns import Pattern
from hemi.web.cgi.answer import BadReply, CGIHead, HeadReader
from hemi.web.cgi.errorlines import MAX_LINES, ErrorLines
from hemi.web.cgi.variables import _origin_form, as_latin1

HEADS = {
    b"Content-Type: text/html\r\n\r\n": CGIHead(200, "text/html", -1, ()),
    b"Content-Type: text/html\n\n": CGIHead(200, "text/html", -1, ()),
    b"content-type:a/b\nX-A:  1 \nX-A:\n\n": CGIHead(200, "a/b", -1, ((b"x-a", b"1"), (b"x-a", b""))),
    b"Status: 404\nContent-Length: 7\n\n": CGIHead(404, "", 7, ()),
    b"Status: 404 Not Found\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n": CGIHead(404, "", 7, ()),
    b"HTTP/1.0 403 No\r\nX: y\r\n\r\n": CGIHead(403, "", -1, ((b"x", b"y"),)),
    b"Location: /a?b\n\n": CGIHead(302, "", -1, ((b"location", b"/a?b"),), "/a?b"),
    b"Location: //a\n\n": CGIHead(302, "", -1, ((b"location", b"//a"),)),
    b"Location: /\\a\n\n": CGIHead(302, "", -1, ((b"location", b"/\\a"),)),
    b"Status: 200\nLocation: /a\n\n": CGIHead(200, "", -1, ((b"location", b"/a"),)),
}


@pytest.mark.parametrize("block", HEADS)
def test_heads(block: bytes) -> None:
    reader = HeadReader()
    assert reader.feed(block) == HEADS[block]
    assert reader.rest == b""


@pytest.mark.parametrize("block", HEADS)
def test_heads_byte_by_byte_and_with_a_tail(block: bytes) -> None:
    reader = HeadReader()
    for at in range(len(block) - 1):
        assert reader.feed(block[at : at + 1]) is None
    assert reader.feed(block[-1:] + b"\n\ntail") == HEADS[block]
    assert reader.rest == b"\n\ntail"


@pytest.mark.parametrize(
    "block",
    [b"\n\n", b"\r\n\r\n", b"no field\n\n", b": x\n\n", b"a b: x\n\n", b" a: b\n\n", b"a: b\n c\n\n", b"a: b\0\n\n",
     b"a: b\rc\n\n",
     b"Status: 1000\n\n", b"Status: 200x\n\n", b"Status:\n\n", b"Status: 101\n\n", b"Content-Length: \n\n",
     b"Content-Length: +1\n\n", b"Content-Length: 1\nContent-Length: 2\n\n", b"Content-Length: " + b"1" * 19 + b"\n\n",
     b"HTTP/1.1 100 Continue\nA: b\n\n", b"a\x01: b\n\n"],
)  # fmt: skip
def test_bad_heads(block: bytes) -> None:
    with pytest.raises(BadReply):
        HeadReader().feed(block)


@given(st.binary(max_size=200), st.integers(1, 40))
def test_garbage_never_breaks_the_reader(data: bytes, step: int) -> None:
    reader = HeadReader(100)
    try:
        for at in range(0, len(data), step):
            if reader.feed(data[at : at + step]) is not None:
                break
    except BadReply:
        pass


def test_a_head_without_end() -> None:
    reader = HeadReader(1000)
    with pytest.raises(BadReply, match="larger than 1000"):
        for _ in range(200):
            reader.feed(b"X-A: aaaa")


def lines_of(*pieces: bytes) -> list[str]:
    found: list[str] = []
    lines = ErrorLines(found.append)
    for piece in pieces:
        lines.feed(piece)
    lines.finish()
    return found


def test_lines() -> None:
    assert lines_of(b"a\nb", b"c\r\n\n  \nd") == ["a", "bc", "d"]
    assert lines_of(b"caf\xc3\xa9 \xff\x1b[1m\x00\t|") == ["café \ufffd\\x1b[1m\\x00\t|"]
    assert lines_of(b"x" * 5000 + b"\n", b"y") == ["x" * 2000 + "…", "y"]
    assert lines_of(*[b"x" * 1000] * 50) == ["x" * 2000 + "…"]
    found = lines_of(b"a\n" * (MAX_LINES + 7))
    assert len(found) == MAX_LINES + 1 and found[-1] == "… and 7 more lines"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a?b", b"/a?b"), (b"*", b"*"), (b"http://h/a?b", b"/a?b"), (b"http://h", b"/"),
        (b"http://h?a=/b", b"/?a=/b"),
        (b"/a?u=http://x/", b"/a?u=http://x/"),
    ],
)  # fmt: skip
def test_origin_form(target: bytes, expected: bytes) -> None:
    assert _origin_form(target) == expected


def test_text_is_bytes() -> None:
    assert (as_latin1("/a"), as_latin1("/é"), as_latin1("/\udcff")) == ("/a", "/Ã©", "/ÿ")


@pytest.mark.parametrize(
    ("pattern", "text", "end"),
    [
        (r"^(.+?\.php)(/.*)$", "/a.php/b.php/c", 6), (r"\.php", "/a.php/b", 6), (r"\.php", "/a", -1),
        (r"^(.+?\.php)(/.*)$", "/é\udcff.php/b", 7),
    ],
)  # fmt: skip
def test_where_scripts_end(pattern: str, text: str, end: int) -> None:
    assert Pattern(pattern).end_of_first(text) == end
