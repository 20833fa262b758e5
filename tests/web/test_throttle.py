"""Responses at a limited rate, by a clock that only moves when somebody sleeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.library.tokenbucket import TokenBuckets
from hemi.web import throttle
from hemi.web.request import Request
from hemi.web.response import Response
from hemi.web.throttle import ThrottledStream
from tests.webkit import Answer, App, serve

CONTENT = bytes(range(256)) * 400  # 100 KiB


class Clock:
    """Counts the sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(throttle, "monotonic", clock.monotonic)
    monkeypatch.setattr(throttle, "sleep", clock.sleep)
    yield clock


def ask(app: App, rate: int, burst: int, method: str = "GET") -> Answer:
    buckets = TokenBuckets(rate, burst, 100)

    def throttled(req: Request, resp: Response) -> bool | None:
        resp.stream = ThrottledStream(resp.stream, buckets, "key")  # type: ignore[assignment]
        return app(req, resp)

    with serve(throttled) as site, site.connect() as client:
        for _ in range(2):
            client.request(method, "/")
            answer = client.answer(method)
        assert {entry.bytes_sent for entry in site.access} == {len(answer.content)}
        assert not site.log.of("error")
        return answer


def whole(req: Request, resp: Response) -> bool:
    resp.send(CONTENT)
    return True


def streamed(req: Request, resp: Response) -> bool:
    for start in range(0, len(CONTENT), 10000):
        resp.echo(CONTENT[start : start + 10000])
    return True


def filed(tmp_path: Path) -> App:
    (tmp_path / "file").write_bytes(CONTENT)

    def app(req: Request, resp: Response) -> bool:
        resp.send_file(str(tmp_path / "file"))
        return True

    return app


@pytest.mark.parametrize("kind", ["whole", "streamed", "file"])
def test_it_takes_its_time(kind: str, clock: Clock, tmp_path: Path) -> None:
    app = {"whole": whole, "streamed": streamed}.get(kind) or filed(tmp_path)
    answer = ask(app, rate=10240, burst=10240)
    assert answer.content == CONTENT
    assert (answer.header("content-length") is None) == (kind == "streamed")
    # Two answers of 100 KiB, of which 10 KiB go at once; pieces come four times a second.
    assert sum(clock.naps) == pytest.approx(19)
    assert max(clock.naps) <= 0.2501


def test_what_is_small_goes_at_once(clock: Clock) -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(b"x" * 500)
        return True

    assert ask(app, rate=10240, burst=10240).content == b"x" * 500
    assert clock.naps == []


@pytest.mark.parametrize("kind", ["whole", "streamed", "file"])
def test_a_head_waits_for_nothing(kind: str, clock: Clock, tmp_path: Path) -> None:
    app = {"whole": whole, "streamed": streamed}.get(kind) or filed(tmp_path)
    answer = ask(app, rate=256, burst=256, method="HEAD")
    assert answer.status == 200 and clock.naps == []


def test_nothing_is_changed_about_the_stream() -> None:
    seen: list[Any] = []

    def app(req: Request, resp: Response) -> bool:
        seen.append((resp.stream.has_trailers, resp.stream.keep_alive, repr(resp.stream)))
        resp.stream.keep_alive = False
        resp.echo("x")
        return True

    buckets = TokenBuckets(1000, 1000, 10)

    def throttled(req: Request, resp: Response) -> bool:
        resp.stream = ThrottledStream(resp.stream, buckets, "key")  # type: ignore[assignment]
        return app(req, resp)

    with serve(throttled) as site:
        assert site.get().closes
    assert seen == [(True, True, "<ThrottledStream 1000 bytes/s of <Server1Stream open left=-1>>")]
