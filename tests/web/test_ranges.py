"""Byte ranges."""

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.ranges import MAX_RANGES, Range, content_range, lay_out, parse_ranges

SIZE = 10000


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (b"bytes=0-499", [(0, 500)]),  # RFC 9110 §14.1.2, with 10000 bytes
        (b"bytes=500-999", [(500, 1000)]),
        (b"bytes=-500", [(9500, 10000)]),
        (b"bytes=9500-", [(9500, 10000)]),
        (b"bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        (b"bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10000)]),
        (b"bytes=500-600,601-999", [(500, 1000)]),
        (b"bytes=500-700,601-999", [(500, 1000)]),
        (b"BYTES = 0 - 1 ,, ", [(0, 2)]),
        (b"bytes=0-", [(0, 10000)]),
        (b"bytes=0-99999", [(0, 10000)]),
        (b"bytes=-99999", [(0, 10000)]),
        (b"bytes=9999-9999", [(9999, 10000)]),
        (b"bytes=0-" + b"9" * 5000, [(0, 10000)]),
        (b"bytes=5000-5001,0-1", [(5000, 5002), (0, 2)]),
        (b"bytes=10000-", []),
        (b"bytes=-0", []),
        (b"bytes=" + b"9" * 5000 + b"-", []),
        (b"bytes=10000-,0-1", [(0, 2)]),
        # ignored
        (b"", None),
        (b"bytes", None),
        (b"bytes=", None),
        (b"bytes=,", None),
        (b"bytes=-", None),
        (b"bytes=a-b", None),
        (b"bytes=1-0", None),
        (b"bytes=0-1,5-4", None),
        (b"bytes=0-1;2-3", None),
        (b"bytes=+1-2", None),
        (b"bytes=0x1-2", None),
        (b"bytes=--1", None),
        (b"bytes=1-2-3", None),
        ("bytes=٠-١".encode(), None),
        (b"lines=0-1", None),
        (b"bytes 0-1", None),
    ],
)
def test_parse(value: bytes, ranges: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(value, SIZE) == ranges


def test_nothing_of_nothing() -> None:
    for value in (b"bytes=0-", b"bytes=0-0", b"bytes=-1"):
        assert parse_ranges(value, 0) == []


def test_apache_killer() -> None:
    """CVE-2011-3192: hundreds of ranges over the same bytes."""
    attack = b"bytes=0-" + b"".join(b",5-%d" % stop for stop in range(5, 1300))
    assert parse_ranges(attack, SIZE) is None
    assert parse_ranges(attack, SIZE, most=2000) == [(0, SIZE)]


def test_too_many_are_ignored() -> None:
    def ask(count: int) -> bytes:
        return b"bytes=" + b",".join(b"%d-%d" % (start, start) for start in range(0, count * 200, 200))

    assert len(parse_ranges(ask(MAX_RANGES), SIZE) or ()) == MAX_RANGES
    assert parse_ranges(ask(MAX_RANGES + 1), SIZE) is None


def test_no_smaller_than_the_whole_is_the_whole() -> None:
    assert parse_ranges(b"bytes=0-4900,5000-9999", SIZE) is None


@given(
    st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 1200)), min_size=1, max_size=MAX_RANGES),
    st.integers(0, 1000),
)
def test_never_more_than_the_whole(specs: list[tuple[int, int]], size: int) -> None:
    value = b"bytes=" + b",".join(b"%d-%d" % (first, first + more) for first, more in specs)
    ranges = parse_ranges(value, size)
    if ranges is None:
        return
    asked = {n for first, more in specs for n in range(first, min(first + more + 1, size))}
    got = [n for one in ranges for n in range(one.start, one.stop)]
    assert len(got) == len(set(got)) <= size
    assert asked <= set(got)
    assert all(0 <= one.start < one.stop <= size for one in ranges)
    if len(ranges) > 1:
        assert lay_out(ranges, size, b"", b"b").size <= size + 100


@given(
    st.binary(max_size=40)
    | st.text("0123456789-, =", max_size=30).map(lambda text: b"bytes=" + text.encode())
)
def test_never_raises(value: bytes) -> None:
    parse_ranges(value, 1000)


def test_content_range() -> None:
    assert content_range(Range(0, 500), SIZE) == b"bytes 0-499/10000"
    assert content_range(None, SIZE) == b"bytes */10000"


def test_multipart_is_read_by_the_email_package() -> None:
    content = bytes(range(256)) * 8
    ranges = [Range(1000, 1002), Range(0, 10), Range(2000, 2048)]
    plan = lay_out(ranges, len(content), b"text/plain; charset=utf-8")
    body = b"".join(head + content[one.start : one.stop] for head, one in plan.parts) + plan.tail
    assert len(body) == plan.size
    boundary = plan.content_type.partition(b"boundary=")[2]
    assert body.startswith(b"--" + boundary + b"\r\n")
    plan = lay_out(ranges, 50000, b"text/plain", b"SEPARATOR")
    text = b"".join(head + b"x" * one.size for head, one in plan.parts) + plan.tail
    message = email.message_from_bytes(b"Content-Type: " + plan.content_type + b"\r\n\r\n" + text)
    parts = message.get_payload()
    assert [part["Content-Range"] for part in parts] == [
        "bytes 1000-1001/50000",
        "bytes 0-9/50000",
        "bytes 2000-2047/50000",
    ]
    assert [len(part.get_payload()) for part in parts] == [2, 10, 48]
    assert all(part.get_content_type() == "text/plain" for part in parts)


def test_boundaries_are_random() -> None:
    assert lay_out([], 0, b"").content_type != lay_out([], 0, b"").content_type
