"""Ranges of status codes."""

from __future__ import annotations

import pytest

from hemi.upstream.ranges import parse_ranges


def test_ranges() -> None:
    assert parse_ranges([]) == frozenset()
    assert parse_ranges(["200", "502-504"]) == {200, 502, 503, 504}
    assert parse_ranges(["100-599"]) == set(range(100, 600))


@pytest.mark.parametrize(
    "text", ["", "20", "600", "099", "300-200", "200-", "-200", "2xx", "200 -204", "２００"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match='must have statuses such as 200 or "200-299", not'):
        parse_ranges(["200", text])
