"""HTTP dates."""

import calendar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.dates import format_date, parse_date

RFC_EXAMPLE = 784111777


@pytest.mark.parametrize(
    "text",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_the_three_forms(text: bytes | str) -> None:
    assert parse_date(text) == RFC_EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Sun Nov 06  08:49:37 1994",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_date(text) is None


def test_a_leap_second_is_the_next_one() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == calendar.timegm((2017, 1, 1, 0, 0, 0))


def test_a_year_of_two_digits_is_at_most_50_years_ahead() -> None:
    now = calendar.timegm((2026, 11, 22, 0, 0, 0))
    assert parse_date("Sunday, 06-Nov-76 08:49:37 GMT", now) == calendar.timegm((2076, 11, 6, 8, 49, 37))
    assert parse_date("Sunday, 06-Nov-77 08:49:37 GMT", now) == calendar.timegm((1977, 11, 6, 8, 49, 37))


def test_format() -> None:
    assert format_date(RFC_EXAMPLE + 0.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert format_date(0) == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert format_date(-1) == b"Wed, 31 Dec 1969 23:59:59 GMT"
    for beyond in (1e15, -1e15):
        with pytest.raises(ValueError, match="years 1 to 9999"):
            format_date(beyond)


@given(st.integers(-62135596800, 253402300799))
def test_dates_round_trip(seconds: int) -> None:
    assert parse_date(format_date(seconds)) == seconds


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_never_raises(text: bytes | str) -> None:
    parse_date(text)
