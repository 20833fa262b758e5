"""The stage: the order of the verbs, half-started stages, and that a dropped stage is gone."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator

import gevent
import pytest

from hemi.errors import BugError, EnvError, UsageError
from hemi.stage import Stage
from tests import samples
from tests.samples import events, load
from tests.waiting import until

TEXT = """
servers:
  s: {type: httpx_server, address: ":0", webapps: [w]}
  t: {type: tcpx_server, address: ":0"}
webapps:
  w:
    handlets: {h: {type: static, web_root: x}}
    rules:
      - handlets: [h, {http_proxy: {to_backend: b}}]
        revisers: gzip
backends:
  b: {type: http_backend, nodes: [{address: ":1"}]}
"""
FORWARDS = ["node", "b", "h", "http_proxy", "gzip", "rule", "w", "s", "t"]


@pytest.fixture(autouse=True)
def sandbox() -> Iterator[None]:
    events.clear()
    with samples.sandbox:
        yield


def stopped(stage: Stage) -> None:
    stage.stop(time.monotonic() + 1)


def of(verb: str) -> list[str]:
    return [name for what, _, name in (event.partition(" ") for event in events) if what == verb]


def test_verbs_walk_kinds_and_parts() -> None:
    stage = load(TEXT)
    assert events == []  # loading does nothing
    stage.prepare()
    stage.start()
    stopped(stage)
    assert of("prepare") == FORWARDS
    assert of("start") == FORWARDS
    assert of("stop") == FORWARDS[::-1]
    assert [event.split()[0] for event in events] == ["prepare"] * 9 + ["start"] * 9 + ["stop"] * 9


def test_stop_is_idempotent_and_legal_before_anything() -> None:
    stage = load(TEXT)
    stopped(stage)
    stage.prepare()
    stopped(stage)
    stopped(stage)
    assert len(of("stop")) == len(FORWARDS)


@pytest.mark.parametrize("verb", ["prepare", "start"])
def test_a_stage_that_fails_half_way_stops_what_was_begun(verb: str) -> None:
    stage = load(TEXT.replace('address: ":0", webapps: [w]', f"address: ':0', webapps: [w], fails: {verb}"))
    with pytest.raises(EnvError) as caught:
        stage.prepare()
        stage.start()
    assert str(caught.value) == "it:3:3: httpx_server \"s\": address already in use '/x'"
    begun = FORWARDS[:-1] if verb == "prepare" else FORWARDS
    assert of("stop") == begun[::-1]
    stopped(stage)
    assert len(of("stop")) == len(begun)


def test_other_errors_name_the_component_too() -> None:
    stage = load(TEXT.replace("h: {type: static,", "h: {type: static, fails: bug,"))
    with pytest.raises(EnvError, match=r"^it:7:16: static \"h\": KeyError: 'oops'$") as caught:
        stage.prepare()
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [UsageError("no"), EnvError("no"), BugError("no")])
def test_errors_with_exit_codes_keep_them(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(self: samples.Webapp) -> None:
        raise error

    monkeypatch.setattr(samples.Webapp, "prepare", prepare)
    with pytest.raises(type(error), match='webapp "w": no'):
        load(TEXT).prepare()


def test_greenlets_that_are_killed_stop_what_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(self: samples.Webapp) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(samples.Webapp, "prepare", prepare)
    with pytest.raises(KeyboardInterrupt):
        load(TEXT).prepare()
    assert of("stop")[-1] == "node"


def test_what_cannot_be_stopped_is_logged_and_the_rest_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = load(TEXT.replace("webapps: [w]", "webapps: [w], fails: stop"))
    logged = []
    monkeypatch.setattr(
        stage.log, "error", lambda subsystem, message, exc=None: logged.append((subsystem, message))
    )
    stage.prepare()
    stopped(stage)
    assert of("stop") == FORWARDS[::-1]
    assert logged == [("stage", 'httpx_server "s" cannot be stopped')]


def test_components_of_a_kind_drain_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[str] = []

    def stop(self: samples.Server, deadline: float) -> None:
        waiting.append(self.name)
        until(lambda: len(waiting) == 2)

    monkeypatch.setattr(samples.Server, "stop", stop)
    stage = load(TEXT)
    stage.prepare()
    stopped(stage)
    assert sorted(waiting) == ["s", "t"]


def test_servers_see_the_predecessor_while_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(samples.Server, "start", lambda self: seen.append(self.stage.predecessor))
    old, new = load(TEXT), load(TEXT)
    new.prepare()
    new.start(old)
    assert seen == [old, old]
    assert new.predecessor is None
    assert new.id > old.id
    stopped(new)


def test_fixtures_are_always_there() -> None:
    stage = load("fcache: {cache_timeout: 2s}")
    assert (stage.clock.sign, stage.fcache.sign, stage.resolv.sign) == ("clock", "fcache", "resolv")
    assert stage.fcache.cache_timeout == 2.0
    assert [part.sign for part in stage.parts()][:3] == ["clock", "fcache", "resolv"]


@pytest.mark.parametrize(("text", "warned"), [("", True), ("webapps: {w: {}}", True), (TEXT, False)])
def test_a_configuration_that_serves_nothing_is_warned_about(
    text: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file is a good one, but nobody means it: an editor may be about to write it."""
    stage = load(text)
    logged = []
    monkeypatch.setattr(stage.log, "warning", lambda subsystem, message: logged.append((subsystem, message)))
    stage.prepare()
    stage.start()
    stopped(stage)
    message = "nothing is served: the configuration has no servers, routers or cronjobs"
    assert logged == ([("stage", message)] if warned else [])


def test_the_error_log_is_what_the_configuration_says() -> None:
    stage = load("error_log: {target: stdout}\nlog_level: warning")
    assert stage.log.logger is stage.error_log
    assert stage.log.level == "warning"
    assert load("", debug=1).log.level == "debug"
    assert load("").log.logger is None


def test_a_logger_written_on_the_stage_is_one_component() -> None:
    stage = load("access_log: {target: stdout}")
    assert [part for part in stage.parts() if part.kind == "loggers"] == [stage.access_log]


def test_sections_are_members() -> None:
    stage = load(TEXT)
    assert list(stage.members["webapps"]) == ["w"]
    assert list(stage.members["loggers"]) == []
    assert list(stage.members) == list(Stage.KINDS[1:])


def test_a_dropped_stage_is_gone() -> None:
    stage = load(TEXT)
    stage.prepare()
    stage.start()
    stopped(stage)
    gone = [weakref.ref(one) for one in (stage, stage.members["webapps"]["w"], stage.members["servers"]["s"])]
    del stage
    gc.collect()
    assert [one() for one in gone] == [None, None, None]


def test_a_second_stop_waits_for_the_first_and_can_hurry_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def stop(self: samples.Server, deadline: float) -> None:
        calls.append(deadline)
        if len(calls) == 1:
            until(lambda: self.stage.time_left(deadline) <= 0)

    monkeypatch.setattr(samples.Server, "stop", stop)
    stage = load(TEXT.replace('  t: {type: tcpx_server, address: ":0"}\n', ""))
    stage.prepare()
    now = time.monotonic()
    first = gevent.spawn(stage.stop, now + 60)
    gevent.sleep(0)
    stage.stop(now + 0.2)
    assert first.join(5) is None
    assert first.ready()
    assert calls == [now + 60, now + 0.2], "what is being stopped is told as well"
    assert 0.2 <= time.monotonic() - now < 10
    assert len(of("stop")) == len(FORWARDS) - 2, "nothing but that is stopped twice"
