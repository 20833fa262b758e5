"""Conditional requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.dates import format_date
from hemi.web.preconditions import evaluate, if_range_holds, is_etag, parse_etags, same_strongly, same_weakly

THEN = 784111777
BEFORE, DATE, AFTER = format_date(THEN - 1), format_date(THEN), format_date(THEN + 1)


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),  # RFC 9110 §8.8.3.2
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'"1"', True, True),
    ],
)
def test_comparison(one: bytes, other: bytes, strong: bool, weak: bool) -> None:
    assert same_strongly(one, other) is same_strongly(other, one) is strong
    assert same_weakly(one, other) is same_weakly(other, one) is weak


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b"*", None),
        (b" * ", None),
        (b"", []),
        (b'"a"', [b'"a"']),
        (b'"xyzzy", "r2d2xxxx",W/"c3piozzzz" ,', [b'"xyzzy"', b'"r2d2xxxx"', b'W/"c3piozzzz"']),
        (b',, "a"', [b'"a"']),
        (b'"a,b"', [b'"a,b"']),
        (b'""', [b'""']),
        (b'"a" "b"', []),
        (b'"a", b, "c"', [b'"a"']),
        (b'w/"a"', []),
        (b'"a', []),
        (b'"\xff"', [b'"\xff"']),
    ],
)
def test_parse_etags(value: bytes, tags: list[bytes] | None) -> None:
    assert parse_etags(value) == tags


def test_is_etag() -> None:
    assert is_etag(b'W/"a"')
    assert not is_etag(b"a")
    assert not is_etag(b'"a b"')


def test_long_lists_are_cut() -> None:
    assert len(parse_etags(b'"a",' * 1000) or ()) == 256


@pytest.mark.parametrize(
    ("method", "fields", "result"),
    [
        ("GET", {}, 0),
        ("GET", {b"if-none-match": b'"e"'}, 304),
        ("HEAD", {b"if-none-match": b'"x", W/"e"'}, 304),
        ("GET", {b"if-none-match": b"*"}, 304),
        ("GET", {b"if-none-match": b'"x"'}, 0),
        ("GET", {b"if-none-match": b"e"}, 0),
        ("PUT", {b"if-none-match": b"*"}, 412),
        ("POST", {b"if-none-match": b'"e"'}, 412),
        ("PUT", {b"if-none-match": b'"x"'}, 0),
        ("GET", {b"if-match": b'"e"'}, 0),
        ("PUT", {b"if-match": b'"e"'}, 0),
        ("PUT", {b"if-match": b'W/"e"'}, 412),
        ("PUT", {b"if-match": b'"x"'}, 412),
        ("PUT", {b"if-match": b"*"}, 0),
        ("PUT", {b"if-match": b""}, 412),
        ("GET", {b"if-modified-since": DATE}, 304),
        ("GET", {b"if-modified-since": AFTER}, 304),
        ("GET", {b"if-modified-since": BEFORE}, 0),
        ("GET", {b"if-modified-since": b"yesterday"}, 0),
        ("PUT", {b"if-modified-since": DATE}, 0),
        ("PUT", {b"if-unmodified-since": DATE}, 0),
        ("PUT", {b"if-unmodified-since": BEFORE}, 412),
        ("GET", {b"if-unmodified-since": BEFORE}, 412),
        ("PUT", {b"if-unmodified-since": b"yesterday"}, 0),
        # the order of RFC 9110 §13.2.2: tags go before dates, matching before not matching
        ("GET", {b"if-none-match": b'"x"', b"if-modified-since": DATE}, 0),
        ("GET", {b"if-none-match": b'"e"', b"if-modified-since": BEFORE}, 304),
        ("PUT", {b"if-match": b'"e"', b"if-unmodified-since": BEFORE}, 0),
        ("GET", {b"if-match": b'"x"', b"if-none-match": b'"e"'}, 412),
        ("GET", {b"if-match": b'"e"', b"if-none-match": b'"e"'}, 304),
        ("GET", {b"if-unmodified-since": BEFORE, b"if-none-match": b'"e"'}, 412),
        # no representation is selected
        ("OPTIONS", {b"if-none-match": b"*"}, 0),
        ("CONNECT", {b"if-match": b'"x"'}, 0),
        ("TRACE", {b"if-match": b'"x"'}, 0),
    ],
)
def test_evaluate(method: str, fields: dict[bytes, bytes], result: int) -> None:
    assert evaluate(method, fields, b'"e"', THEN + 0.7) == result


def test_without_validators() -> None:
    assert evaluate("GET", {b"if-none-match": b'"e"', b"if-modified-since": DATE}, None, None) == 0
    assert evaluate("GET", {b"if-modified-since": DATE, b"if-unmodified-since": DATE}, None, None) == 0
    assert evaluate("PUT", {b"if-match": b'"e"'}, None, None) == 412


def test_without_a_representation() -> None:
    assert evaluate("PUT", {b"if-none-match": b"*"}, None, None, exists=False) == 0
    assert evaluate("PUT", {b"if-match": b"*"}, None, None, exists=False) == 412


def test_a_weak_tag_of_ours() -> None:
    assert evaluate("GET", {b"if-none-match": b'W/"e"'}, b'W/"e"', None) == 304
    assert evaluate("PUT", {b"if-match": b'W/"e"'}, b'W/"e"', None) == 412


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (b'"e"', True),
        (b'W/"e"', False),
        (b'"x"', False),
        (DATE, True),
        (AFTER, False),
        (BEFORE, False),
        (b"e", False),
        (b"", False),
        (b"*", False),
    ],
)
def test_if_range(value: bytes, holds: bool) -> None:
    assert if_range_holds({b"if-range": value}, b'"e"', THEN + 0.5) is holds


def test_if_range_needs_a_strong_validator() -> None:
    assert if_range_holds({}, None, None)
    assert not if_range_holds({b"if-range": b'W/"e"'}, b'W/"e"', None)
    assert not if_range_holds({b"if-range": DATE}, None, None)
    assert not if_range_holds({b"if-range": DATE}, None, THEN, now=THEN + 0.5)
    assert if_range_holds({b"if-range": DATE}, None, THEN, now=THEN + 1)


_VALUES = st.binary(max_size=20) | st.text('W/"a*, ', max_size=20).map(str.encode)


@given(_VALUES, _VALUES)
def test_never_raises(one: bytes, other: bytes) -> None:
    for method in ("GET", "PUT"):
        fields = {b"if-match": one, b"if-none-match": other, b"if-range": one}
        assert evaluate(method, fields, b'"a"', THEN) in (0, 304, 412)
        if_range_holds(fields, b'"a"', THEN)
    evaluate("GET", {b"if-unmodified-since": one, b"if-modified-since": other}, None, THEN)
