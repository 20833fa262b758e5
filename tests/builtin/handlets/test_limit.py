"""Limits of requests, of requests at a time, and of bytes; by a clock that only moves when somebody sleeps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

import hemi.builtin
from hemi.errors import ConfigError
from hemi.web import throttle
from hemi.web.errors import SearchAgain
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Answer, Site, config, hello, load, running, scripted, serve, until

limit: Any = sys.modules["hemi.builtin.handlets.limit"]
BEHIND = {"trusted_proxies": ["127.0.0.1"]}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    assert hemi.builtin
    clock = Clock()
    for module in (limit, throttle):
        monkeypatch.setattr(module, "monotonic", lambda: clock.now)
        monkeypatch.setattr(module, "sleep", clock.sleep)
    yield clock


def rules(props: dict[str, Any], app: Any = hello) -> list[dict[str, Any]]:
    return [{"handlets": [{"limit": props}, scripted(app)]}]


def statuses(site: Site, count: int, address: str = "192.0.2.1", **fields: str) -> list[int]:
    return [site.get(X_Forwarded_For=address, **fields).status for _ in range(count)]


def test_requests_per_client(clock: Clock) -> None:
    with serve(rules=rules({"requests": "3/m"}), server=BEHIND) as site:
        assert statuses(site, 4) == [200, 200, 200, 429]
        assert statuses(site, 1, "192.0.2.2") == [200]
        assert statuses(site, 4, "2001:db8::1") == [200, 200, 200, 429]
        assert statuses(site, 1, "2001:db8::ffff") == [429]
        assert statuses(site, 1, "2001:db8:0:1::1") == [200]
        clock.now += 19.9
        assert statuses(site, 1) == [429]
        clock.now += 0.2
        assert statuses(site, 2) == [200, 429]
        clock.now += 1000
        assert statuses(site, 4) == [200, 200, 200, 429]


def test_a_burst_of_its_own(clock: Clock) -> None:
    with serve(rules=rules({"requests": "10/s", "burst": 2})) as site:
        assert [site.get().status for _ in range(3)] == [200, 200, 429]
        clock.now += 0.1
        assert [site.get().status for _ in range(2)] == [200, 429]


def test_fields(clock: Clock) -> None:
    def fields(answer: Answer) -> tuple[str | None, ...]:
        return tuple(answer.header(name) for name in ("ratelimit-policy", "ratelimit", "retry-after"))

    with serve(rules=rules({"requests": "2/10s"})) as site:
        assert fields(site.get()) == ('"default";q=2;w=10', '"default";r=1;t=5', None)
        assert fields(site.get()) == ('"default";q=2;w=10', '"default";r=0;t=10', None)
        clock.now += 1.5
        assert fields(site.get()) == ('"default";q=2;w=10', '"default";r=0;t=4', "4")
    with serve(rules=rules({"requests": "1/h", "fields": False, "status": 503})) as site:
        assert fields(site.get()) == (None, None, None)
        answer = site.get()
        assert answer.status == 503 and fields(answer) == (None, None, "3600")


def test_fields_are_on_whatever_handlet_answers(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "limited_app.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [('X-App', '1')])\n    return [b'x']\n"
    )
    (tmp_path / "index.html").write_text("x")
    wsgi = {"wsgi": {"app": "limited_app:app", "python_path": [str(tmp_path)]}}
    static = {"static": {"web_root": str(tmp_path)}}
    for answering in (wsgi, static):
        mapping = [{"handlets": [{"limit": {"requests": "2/s"}}, answering]}]
        with serve(rules=mapping) as site:
            answer = site.get()
            assert (answer.status, answer.content) == (200, b"x")
            assert answer.header("ratelimit") == '"default";r=1;t=1'


def test_waiting_for_a_turn(clock: Clock) -> None:
    with serve(rules=rules({"requests": "10/s", "burst": 1, "max_delay": "200ms"})) as site:
        assert site.get().status == 200
        assert clock.naps == []
        assert site.get().status == 200
        assert clock.naps == [0.1]
    # Those that wait at the same time wait in a row.
    buckets = limit.TokenBuckets(10, 1, 10)
    waits = [round(buckets.take("a", 0.0, 1.0, 0.2).wait, 6) for _ in range(3)]
    assert waits == [0, 0.1, 0.2] and not buckets.take("a", 0.0, 1.0, 0.2).allowed


def test_other_keys(clock: Clock) -> None:
    with serve(rules=rules({"requests": "1/m", "key": "$header_x_api_key"})) as site:
        assert [site.get(X_API_Key=key).status for key in ("a", "b", "a", "a" * 500, "a" * 500)] == [
            200,
            200,
            429,
            200,
            429,
        ]
        assert [site.get().status for _ in range(3)] == [200] * 3  # without a key there is no limit


def test_exemptions(clock: Clock) -> None:
    with serve(
        rules=rules({"requests": "1/m", "exempt": '$src_host in "10.0.0.0/8"'}), server=BEHIND
    ) as site:
        assert statuses(site, 3, "10.1.1.1") == [200, 200, 200]
        assert statuses(site, 2) == [200, 429]


def test_dry_run(clock: Clock) -> None:
    props = {"requests": "1/m", "concurrent": 1, "dry_run": True}
    with serve(rules=rules(props)) as site:
        answers = [site.get() for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert answers[0].header("ratelimit") is None
        (entry,) = site.log.of("warning", "limit")
        assert entry.message == (
            "'127.0.0.1' would be over the limit of requests at GET / HTTP/1.1 from 127.0.0.1"
        )
    with serve(rules=rules({"requests": "1/m", "max_delay": "2m", "dry_run": True})) as site:
        assert [site.get().status for _ in range(2)] == [200] * 2
        assert clock.naps == [] and "would wait for 60.000 seconds" in site.log.entries[-1].message


def test_a_flood_of_requests_is_no_flood_of_lines(clock: Clock) -> None:
    with serve(rules=rules({"requests": "1/h"})) as site:
        for _ in range(10):
            site.get()
        clock.now += 1
        site.get()
        first, second = site.log.of("warning", "limit")
        assert first.message.endswith("from 127.0.0.1") and second.message.endswith("and 8 others before")


def test_requests_at_a_time(clock: Clock) -> None:
    go = Event()

    def slow(req: Request, resp: Response) -> bool:
        if req.path == "/slow":
            go.wait(10)
        elif req.path == "/fails":
            raise ValueError
        return hello(req, resp)

    with serve(rules=rules({"concurrent": 2}, slow), server=BEHIND) as site:
        handlet: Any = site.stage.members["webapps"]["app"].rules[0].handlets[0]  # type: ignore[attr-defined]
        asking = [gevent.spawn(site.get, "/slow", X_Forwarded_For="192.0.2.1") for _ in range(2)]
        until(lambda: handlet._running == {"192.0.2.1": 2})
        assert statuses(site, 2) == [429, 429]
        assert statuses(site, 1, "192.0.2.2") == [200]
        go.set()
        gevent.joinall(asking, 10)
        assert [one.value.status for one in asking] == [200, 200]
        until(lambda: not handlet._running)
        assert site.get("/fails").status == 500
        until(lambda: not handlet._running)
        assert statuses(site, 3) == [200] * 3


def test_bandwidth(clock: Clock) -> None:
    def large(req: Request, resp: Response) -> bool:
        resp.send(b"x" * 100_000)
        return True

    with serve(rules=rules({"bandwidth": 10_000, "bandwidth_burst": 50_000}, large)) as site:
        assert len(site.get().content) == 100_000
        assert sum(clock.naps) == pytest.approx(5)
        assert len(site.get().content) == 100_000
        assert sum(clock.naps) == pytest.approx(15)


def test_a_request_is_counted_once_however_often_the_rules_are_searched(clock: Clock) -> None:
    def turn(req: Request, resp: Response) -> bool:
        if req.path == "/new":
            return hello(req, resp)
        req.rewrite(b"/new", "")
        raise SearchAgain

    with serve(rules=rules({"requests": "2/h", "concurrent": 1}, turn)) as site:
        answers = [site.get("/old") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[1].header("ratelimit") == '"default";r=0;t=3600'


def test_rules_can_share_a_limit(clock: Clock) -> None:
    rules = [
        {"if": '$path == "/a"', "handlets": ["api", scripted(hello)]},
        {"handlets": ["api", scripted(hello)]},
    ]
    shared = {"handlets": {"api": {"type": "limit", "requests": "2/h"}}}
    with running(config(rules=rules, webapp=shared)) as site:
        answers = [site.get(target) for target in ("/a", "/b", "/a")]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[0].header("ratelimit-policy") == '"api";q=2;w=7200' or answers[0].header(
            "ratelimit-policy"
        )


def test_clients_do_not_fill_the_memory(clock: Clock) -> None:
    with serve(rules=rules({"requests": "1/h", "memory": "64K", "key": "$header_x_key"})) as site:
        handlet: Any = site.stage.members["webapps"]["app"].rules[0].handlets[0]  # type: ignore[attr-defined]
        with site.connect() as client:
            for number in range(400):
                client.request("GET", "/", {"X-Key": str(number)})
                assert client.answer().status == 200
        assert len(handlet._buckets) == 65536 // limit.ENTRY_SIZE


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({}, "must have requests, concurrent or bandwidth"),
        ({"requests": 10}, 'requests must be a rate such as "10/s"'),
        ({"requests": "0/s"}, "requests must be a rate"),
        ({"requests": "10/w"}, "requests must be a rate"),
        ({"concurrent": 1, "burst": 1}, "burst needs requests"),
        ({"concurrent": 1, "max_delay": "1s"}, "max_delay needs requests"),
        ({"concurrent": 1, "bandwidth_burst": "1K"}, "bandwidth_burst needs a bandwidth"),
        ({"concurrent": 1, "key": ""}, "key must not be empty"),
        ({"bandwidth": 1}, "bandwidth must be at least 256"),
    ],
)
def test_problems(props: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(config(rules=[{"handlets": [{"limit": props}]}]))
