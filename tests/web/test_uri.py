"""Targets, paths, queries, authorities."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hemi.web.uri import (
    BadTarget,
    build_query,
    normalise_path,
    parse_query,
    quote_path,
    split_authority,
    split_target,
    to_ascii,
)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/", ("origin", None, None, b"/", "")),
        (b"/where?q=now", ("origin", None, None, b"/where", "q=now")),
        (b"/a?b?c=/../", ("origin", None, None, b"/a", "b?c=/../")),
        (b"/a?", ("origin", None, None, b"/a", "")),
        (b"//a//b", ("origin", None, None, b"//a//b", "")),
        ("/ü?é".encode(), ("origin", None, None, "/ü".encode(), "é")),
        (b"/a?\xff", ("origin", None, None, b"/a", "\udcff")),
        (b"http://www.example.org/pub/x.html", ("absolute", "http", "www.example.org", b"/pub/x.html", "")),
        (b"HTTPS://Example.org:8001?a=1", ("absolute", "https", "Example.org:8001", b"/", "a=1")),
        (b"http://[::1]:80/x", ("absolute", "http", "[::1]:80", b"/x", "")),
        (b"*", ("asterisk", None, None, b"*", "")),
        (b"www.example.com:80", ("authority", None, "www.example.com:80", b"", "")),
        (b"[2001:db8::1]:443", ("authority", None, "[2001:db8::1]:443", b"", "")),
    ],
)
def test_split_target(target: bytes, parts: tuple[object, ...]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"a",
        b"a/b",
        b"example.com",
        b"/a b",
        b"/a\tb",
        b"/a\r\nb",
        b"/a\0",
        b"/a\x7f",
        b"/a#b",
        b"/a?b#c",
        b"**",
        b"*?a",
        b"?a",
        b"http:///x",
        b"http://user@host/",
        b"http://host:99999/",
        b"http://a/b#c",
        b"mailto:a@b",
    ],
)
def test_split_target_refuses(target: bytes) -> None:
    with pytest.raises(BadTarget):
        split_target(target)


@given(st.binary(max_size=60))
def test_split_target_only_raises_bad_target(target: bytes) -> None:
    try:
        form, _, _, raw_path, query = split_target(target)
    except BadTarget:
        return
    if form == "origin":
        again = raw_path + (b"?" + query.encode("utf-8", "surrogateescape") if query else b"")
        assert target in (again, again + b"?")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"*", "*"),
        (b"/a/b.html", "/a/b.html"),
        (b"/a/b/", "/a/b/"),
        (b"//", "/"),
        (b"///a////b//", "/a/b/"),
        (b"/./a/.", "/a/"),
        (b"/a/./b", "/a/b"),
        (b"/a/../b", "/b"),
        (b"/a/b/..", "/a/"),
        (b"/a/..", "/"),
        (b"/a//../b", "/b"),
        (b"/...", "/..."),
        (b"/..a/.b", "/..a/.b"),
        (b"/%41%62", "/Ab"),
        (b"/a%20b+c", "/a b+c"),
        (b"/%e4%bd%a0", "/你"),
        ("/ü".encode(), "/ü"),
        (b"/%25%32e%2e", "/%2e."),
        (b"/%252e%252e/x", "/%2e%2e/x"),
        (b"/a%2fb", "/a/b"),
        (b"/a%2F%2e%2E%2fb", "/b"),
        (b"/a%5cb", "/a\\b"),
        (b"/..\\..\\x", "/..\\..\\x"),
        (b"/%c0%ae%c0%ae/x", "/\udcc0\udcae\udcc0\udcae/x"),
        (b"/\xff", "/\udcff"),
        (b"/%3f%23", "/?#"),
    ],
)
def test_normalise_path(raw: bytes, path: str) -> None:
    assert normalise_path(raw) == path


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a",
        b"%2fa",
        b"/..",
        b"/../",
        b"/a/../..",
        b"/%2e%2e/etc/passwd",
        b"/a/..%2f..%2fetc",
        b"/.%2e/x",
        b"/..%2fx",
        b"/a\0b",
        b"/a%00.html",
        b"/%",
        b"/%2",
        b"/%zz",
        b"/%%32%65",
        b"/%u002e",
        b"*/",
    ],
)
def test_normalise_path_refuses(raw: bytes) -> None:
    with pytest.raises(BadTarget) as caught:
        normalise_path(raw)
    assert caught.value.status == 400


_WILD = st.lists(
    st.sampled_from([b"/", b".", b"%2e", b"%2F", b"%", b"a", b"\\", b"\xff", b"%00", b"%c3", b"*"])
)


@given(_WILD.map(b"".join))
@example(b"/%2e%2f")
def test_normalised_paths_stay_below_the_root_and_are_stable(raw: bytes) -> None:
    try:
        path = normalise_path(raw)
    except BadTarget:
        return
    assert path == "*" or path[0] == "/"
    assert "//" not in path
    assert "\0" not in path
    assert not {"", ".", ".."} & set(path.split("/")[1:-1])
    if path != "*":
        assert path.rpartition("/")[2] not in (".", "..")
        assert normalise_path(quote_path(path).encode()) == path


def test_quote_path() -> None:
    assert quote_path("/a b/ü%?#\\\r\n") == "/a%20b/%C3%BC%25%3F%23%5C%0D%0A"
    assert quote_path("/a-b_c.d~e/f:g@h!$&'()*+,;=") == "/a-b_c.d~e/f:g@h!$&'()*+,;="
    assert quote_path("/\udcff") == "/%FF"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        ("a", [("a", "")]),
        ("=x", [("", "x")]),
        ("&&a=1&", [("a", "1")]),
        ("a=b=c", [("a", "b=c")]),
        ("a=1;b=2", [("a", "1;b=2")]),
        ("q=a+b%2Bc", [("q", "a b+c")]),
        ("q=%E4%BD%A0", [("q", "你")]),
        ("q=%ff%zz%", [("q", "\ufffd%zz%")]),
        ("q=ü\udcff", [("q", "ü\ufffd")]),
    ],
)
def test_parse_query(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_query(text) == pairs


def test_parse_query_counts() -> None:
    assert len(parse_query("&".join("a" * 1000))) == 1000
    with pytest.raises(BadTarget):
        parse_query("&".join("a" * 1001))
    with pytest.raises(BadTarget):
        parse_query("a=1&b=2", 1)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(_TEXT.filter(bool), _TEXT), max_size=6))
def test_queries_round_trip(pairs: list[tuple[str, str]]) -> None:
    query = build_query(pairs)
    assert re.fullmatch(r"[A-Za-z0-9%+&=._~-]*", query)
    assert parse_query(query) == pairs


@given(st.text(max_size=40))
def test_parse_query_never_raises(text: str) -> None:
    if not any(0xD800 <= ord(char) <= 0xDC7F or 0xDD00 <= ord(char) <= 0xDFFF for char in text):
        parse_query(text)


@pytest.mark.parametrize(
    ("authority", "parts"),
    [
        (b"example.com", ("example.com", None)),
        ("Example.COM:8080", ("example.com", 8080)),
        (b"example.com.", ("example.com", None)),
        (b"localhost", ("localhost", None)),
        (b"my_service-1:65535", ("my_service-1", 65535)),
        (b"127.0.0.1:80", ("127.0.0.1", 80)),
        (b"[::1]", ("::1", None)),
        (b"[2001:DB8:0:0::1]:443", ("2001:db8::1", 443)),
        (b"[::ffff:1.2.3.4]", ("::ffff:1.2.3.4", None)),
        (b"a:00080", ("a", 80)),
        (b"a:", ("a", None)),
        (b"[::1]:", ("::1", None)),
        (b"1a.2b", ("1a.2b", None)),
    ],
)
def test_split_authority(authority: bytes | str, parts: tuple[str, int | None]) -> None:
    assert split_authority(authority) == parts


@pytest.mark.parametrize(
    "authority",
    [
        b"",
        b":80",
        b":",
        b"a::",
        b"a:0",
        b"a:65536",
        b"a:123456",
        b"a:+80",
        b"a:8 0",
        "a:８0",
        b"a b",
        b"a,b",
        b"a/b",
        b"a@b",
        b"user:pw@b:80",
        b"a..b",
        b".a",
        b"a%20b",
        b"a\0",
        b"\xff",
        "ü.example",
        b"[::1",
        b"[::1]x",
        b"[fe80::1%eth0]",
        b"[fe80::1%25eth0]",
        b"[1.2.3.4]",
        b"[v1.x]",
        b"::1",
        b"1.2.3",
        b"1.2.3.256",
        b"1.2.3.04",
        b"127.1",
        b"0x7f.1",
        b"2130706433",
        b"0x7f000001",
        b"a" * 64,
        b"a." * 127 + b"a",
        b"a." * 200,
    ],
)
def test_split_authority_refuses(authority: bytes | str) -> None:
    with pytest.raises(BadTarget):
        split_authority(authority)


@given(st.text(max_size=30) | st.text("0123456789abcdefx.:[]%-_@", max_size=30))
def test_split_authority_only_raises_bad_target(text: str) -> None:
    try:
        hostname, port = split_authority(text)
    except BadTarget:
        return
    again = f"[{hostname}]" if ":" in hostname else hostname
    assert split_authority(again if port is None else f"{again}:{port}") == (hostname, port)


def test_to_ascii() -> None:
    assert to_ascii("Example.COM") == "example.com"
    assert to_ascii("Bücher.example") == "xn--bcher-kva.example"
    assert to_ascii("例え.jp") == "xn--r8jz45g.jp"
    for bad in ("ü..b", "ü" * 64, "ü" * 300, "\u2028ü", "\udcff"):
        with pytest.raises(BadTarget):
            to_ascii(bad)


@given(st.text(max_size=80))
def test_to_ascii_only_raises_bad_target(text: str) -> None:
    try:
        assert to_ascii(text).isascii()
    except BadTarget:
        pass
