"""Ranges of status codes, as configurations write them: 200, "200-299"."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["parse_ranges"]

_RANGE = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")


def parse_ranges(texts: Iterable[str]) -> frozenset[int]:
    """The codes that the ranges have. Raises ValueError with "must have …"."""
    codes: set[int] = set()
    for text in texts:
        match = _RANGE.fullmatch(text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f'must have statuses such as 200 or "200-299", not "{text}"')
        codes.update(range(first, last + 1))
    return frozenset(codes)
