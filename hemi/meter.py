"""Meters: the counts of exchanges that a component keeps, for operators.

A meter is a plain list of integers, because it is written with every exchange (four slots, 0.5 µs, no calls into
Python); this module says what stands where, and makes of it what people want to know. A component that counts has the
attribute `meter`.

Latencies are counted in buckets that double: bucket n holds those below 2**n µs. A percentile is estimated inside of
its bucket, so it is off by a third or so; in return nothing is kept per exchange, and meters of many workers add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "BEGUN",
    "BYTES",
    "LATENCY",
    "Meter",
    "add",
    "describe",
    "in_flight",
    "new_meter",
    "percentile",
    "requests",
    "subtract",
]

Meter = list[int]

BEGUN = 0
"""How many exchanges have begun. Slots 1 to 9: how many have ended with a status of that hundred."""

BYTES = 10
"""Bytes of content that were sent."""

LATENCY = 11
"""The first bucket; the bucket of a latency is its bit length in microseconds."""

SIZE = LATENCY + 64


def new_meter() -> Meter:
    """A meter that has counted nothing."""
    return [0] * SIZE


def add(meters: Iterable[Sequence[int]]) -> Meter:
    """The sum of meters."""
    total = new_meter()
    for meter in meters:
        for slot, count in enumerate(meter[:SIZE]):
            total[slot] += count
    return total


def subtract(later: Sequence[int], earlier: Sequence[int]) -> Meter:
    """What ended in between, with what is in flight later. Where counting began anew, all of it counts."""
    if any(a < b for a, b in zip(later, earlier, strict=True)):
        return list(later)
    rest = [a - b for a, b in zip(later, earlier, strict=True)]
    rest[BEGUN] = requests(rest) + in_flight(later)
    return rest


def in_flight(meter: Sequence[int]) -> int:
    """How many exchanges have begun and not ended."""
    return meter[BEGUN] - requests(meter)


def requests(meter: Sequence[int]) -> int:
    """How many exchanges have ended."""
    return sum(meter[1:BYTES])


def percentile(meter: Sequence[int], share: float) -> float | None:
    """The latency, in seconds, that so large a share of the exchanges (0.99) stayed below; None without any."""
    counts = meter[LATENCY:]
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    for bucket, count in enumerate(counts):
        if count and rank <= count:
            least, most = ((1 << bucket) >> 1), 1 << bucket
            return (least + (most - least) * rank / count) / 1e6
        rank -= count
    return None


def describe(meter: Sequence[int]) -> dict[str, Any]:
    """What operators see: plain data. Latencies in seconds."""
    return {
        "requests": requests(meter),
        "in_flight": in_flight(meter),
        "status": {f"{hundred}xx": meter[hundred] for hundred in range(1, 6)},
        "bytes": meter[BYTES],
        "latency": {
            name: None if (value := percentile(meter, share)) is None else round(value, 6)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
        },
    }
