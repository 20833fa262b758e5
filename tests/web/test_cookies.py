"""Cookies, read and made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.cookies import MAX_COOKIES, build_cookie, parse_cookies


@pytest.mark.parametrize(
    ("value", "cookies"),
    [
        (b"", {}),
        (b"SID=31d4d96e407aad42; lang=en-US", {"SID": "31d4d96e407aad42", "lang": "en-US"}),
        (b"a=1;b=2;  c=3 ;", {"a": "1", "b": "2", "c": "3"}),
        (b"a=1; a=2", {"a": "1"}),
        (b"a=b=c==", {"a": "b=c=="}),
        (b"a=", {"a": ""}),
        (b'a="x y"; b=""', {"a": "x y", "b": ""}),
        (b'a="; b=x"y', {"a": '"', "b": 'x"y'}),
        (b'a="x\\"y\\\\\\073\\303\\251"', {"a": 'x"y\\;é'}),
        (b"a=\\073", {"a": "\\073"}),
        (b"lone; =x; a=1", {"a": "1"}),
        (b"=__Host-a=1; b=2", {"b": "2"}),
        (b"a=x\0y; b=1\r\n; c=2", {"c": "2"}),
        (b"basket[1]=x; a:b=y", {"basket[1]": "x", "a:b": "y"}),
        ("n=é".encode(), {"n": "é"}),
        (b"n=\xff", {"n": "\ufffd"}),
        ("n=é".encode().decode("latin-1"), {"n": "é"}),
        ("\xa0__Host-id=1", {"\ufffd__Host-id": "1"}),
    ],
)
def test_parse(value: bytes | str, cookies: dict[str, str]) -> None:
    assert parse_cookies(value) == cookies


def test_parse_is_capped() -> None:
    value = b";".join(b"c%d=1" % number for number in range(MAX_COOKIES + 5))
    assert len(parse_cookies(value)) == MAX_COOKIES
    assert parse_cookies(b"a=1; b=2; c=3", 2) == {"a": "1", "b": "2"}


@given(st.binary() | st.text(';=" \\a01\r\xa0'))
def test_parse_never_raises(value: bytes | str) -> None:
    assert "" not in parse_cookies(value)


def test_build() -> None:
    assert build_cookie("a", "1") == b"a=1; Path=/; HttpOnly; SameSite=Lax"
    assert build_cookie("a", "", path=None, http_only=False, same_site=None) == b"a="
    assert (
        build_cookie(
            "id",
            "x",
            path="/app",
            domain=".example.com",
            expires=784111777,
            max_age=60,
            secure=True,
            same_site="none",
            partitioned=True,
        )
        == b"id=x; Path=/app; Domain=example.com; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Max-Age=60; Secure; "
        b"HttpOnly; SameSite=None; Partitioned"
    )
    assert build_cookie("a", "b;c é").startswith(b'a="b\\073c \\303\\251"; ')
    assert build_cookie("__Host-id", "1", secure=True).startswith(b"__Host-id=1; Path=/; Secure")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "token"),
        ({"name": "a b"}, "token"),
        ({"name": "a\r\nx"}, "token"),
        ({"name": "é"}, "token"),
        ({"value": "\udcff"}, "surrogates"),
        ({"value": "x" * 4096}, "larger"),
        ({"path": "app"}, "path"),
        ({"path": "/; Domain=evil"}, "path"),
        ({"path": "/a\r\n"}, "path"),
        ({"path": "/" + "a" * 1024}, "path"),
        ({"domain": "a;b"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"domain": "a..b"}, "domain"),
        ({"same_site": "loose"}, "same_site"),
        ({"same_site": "none"}, "must be secure"),
        ({"partitioned": True}, "must be secure"),
        ({"name": "__Secure-a"}, "must be secure"),
        ({"name": "__HOST-a"}, "must be secure"),
        ({"name": "__Host-a", "secure": True, "path": "/app"}, "path /"),
        ({"name": "__Host-a", "secure": True, "path": None}, "path /"),
        ({"name": "__Host-a", "secure": True, "domain": "a.b"}, "no domain"),
        ({"name": "__Http-a", "secure": True, "http_only": False}, "http_only"),
        ({"name": "__Host-Http-a", "secure": True, "http_only": False}, "http_only"),
    ],
)
def test_build_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_cookie(**{"name": "a", "value": "1", **arguments})  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_values_round_trip(value: str) -> None:
    pair = build_cookie("a", value, path=None, http_only=False, same_site=None)
    assert pair.isascii()
    assert not set(b";\r\n\0") & set(pair)
    assert parse_cookies(b"x=1; " + pair + b"; y=2") == {"x": "1", "a": value, "y": "2"}
