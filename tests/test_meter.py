"""Meters: sums, differences, percentiles."""

from __future__ import annotations

import random

import pytest

from hemi import meter as m


def metered(*latencies: float, status: int = 200, size: int = 0) -> m.Meter:
    """A meter that has seen exchanges of these latencies, in seconds."""
    meter = m.new_meter()
    for latency in latencies:
        meter[m.BEGUN] += 1
        meter[status // 100] += 1
        meter[m.BYTES] += size
        meter[m.LATENCY + int(latency * 1e6).bit_length()] += 1
    return meter


def test_a_new_meter_says_nothing() -> None:
    told = m.describe(m.new_meter())
    assert told["requests"] == told["in_flight"] == told["bytes"] == 0
    assert told["latency"] == {"p50": None, "p90": None, "p99": None}


def test_it_tells_requests_statuses_and_bytes() -> None:
    told = m.describe(m.add([metered(0.001, 0.002, size=10), metered(0.5, status=503)]))
    assert told["requests"] == 3
    assert told["status"] == {"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 0, "5xx": 1}
    assert told["bytes"] == 20


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_percentiles_are_off_by_a_bucket_at_most(share: float) -> None:
    chance = random.Random(7)
    latencies = sorted(chance.lognormvariate(-6, 1.2) for _ in range(5000))
    exact = latencies[int(share * len(latencies))]
    told = m.percentile(metered(*latencies), share)
    assert told is not None
    assert exact / 1.5 < told < exact * 1.5


def test_every_latency_has_a_bucket() -> None:
    meter = metered(0.0, 1e-7, 1e-6, 86400 * 365.0)
    assert sum(meter[m.LATENCY :]) == 4
    percentile = m.percentile(meter, 1.0)
    assert percentile is not None
    assert percentile > 86400 * 300


def test_a_difference_is_what_came_in_between() -> None:
    earlier = metered(0.001)
    later = m.add([earlier, metered(0.1, 0.1)])
    later[m.BEGUN] += 4
    between = m.subtract(later, earlier)
    assert m.requests(between) == 2
    assert m.in_flight(between) == 4
    told = m.percentile(between, 0.5)
    assert told is not None
    assert 0.065 < told < 0.132


def test_a_worker_that_began_anew_is_counted_from_nothing() -> None:
    assert m.requests(m.subtract(metered(0.001), metered(0.1, 0.2, 0.3))) == 1
