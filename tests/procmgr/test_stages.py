from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from hemi.config import load_text
from hemi.errors import ConfigError, EnvError
from hemi.procmgr.stages import StageKeeper
from hemi.source import Dirs
from hemi.stage import Stage
from tests.running import Served, until

SITE = """\
webapps:
  one: {{hostnames: ["*"], rules: [{{return_code: 200, return_text: {text}}}]}}
servers:
  main: {{type: httpx_server, address: "127.0.0.1:0", webapps: [one]}}
"""


def test_a_reload_replaces_the_stage(serve: Callable[..., Served]) -> None:
    served = serve(SITE.format(text="old"))
    address, old = served.address(), served.stage
    with served.client() as kept:
        assert kept.request("GET", "/").text == "old"
        served.reload(SITE.format(text="new"))
        assert served.stage is not old
        assert served.address() == address
        assert served.get("/").text == "new"
        assert kept.request("GET", "/").text == "new", "an idle connection moves to the new stage"
    assert until(lambda: not served.keeper.draining)
    assert served.keeper.reloads == 1


@pytest.mark.parametrize(
    ("error", "right", "wrong"),
    [(ConfigError, "return_code", "return_cod"), (EnvError, "127.0.0.1:0", "192.0.2.1:1")],
)
def test_what_is_wrong_or_cannot_begin_changes_nothing(
    serve: Callable[..., Served], error: type[Exception], right: str, wrong: str
) -> None:
    served = serve(SITE.format(text="old"))
    old = served.stage
    with pytest.raises(error):
        served.reload(SITE.format(text="new").replace(right, wrong))
    assert served.stage is old
    assert served.get("/").text == "old"


def test_a_reload_changes_the_sockets_that_stay(serve: Callable[..., Served], tmp_path: Path) -> None:
    path = tmp_path / "s"

    def site(mode: str, more: str = "") -> str:
        return SITE.format(text="x").replace('"127.0.0.1:0"', f'"unix:{path}", uds_mode: {mode}{more}')

    served = serve(site("0600"))
    served.reload(site("0666"))
    assert path.stat().st_mode & 0o777 == 0o666
    elsewhere = "\n  other: {type: httpx_server, address: '192.0.2.1:1', webapps: [one]}\n"
    with pytest.raises(EnvError, match="cannot listen"):
        served.reload(site("0606") + elsewhere)
    with pytest.raises(EnvError, match="there is no user no-such-user"):
        served.reload(site("0606", ", uds_user: no-such-user"))
    assert path.stat().st_mode & 0o777 == 0o666, "nothing has changed"
    path.rename(tmp_path / "moved")
    old = served.stage
    with pytest.raises(EnvError, match="cannot change"):
        served.reload(site("0600"))
    assert served.stage is old


def test_a_stage_that_fails_its_rehearsal_does_not_begin(serve: Callable[..., Served]) -> None:
    site = SITE.format(text="x").replace("[one]", "[one], warm_up: [/, /missing]")
    served = serve(site)
    assert served.stage.members["servers"]["main"].requests == 2  # type: ignore[attr-defined]
    with pytest.raises(EnvError, match=r'"main": warm_up: the answer to GET / must be below 500, not 503'):
        serve(site.replace("200", "503"))


class Building:
    """Builds stages of an empty configuration, when it is allowed to."""

    def __init__(self, dirs: Dirs) -> None:
        self.dirs = dirs
        self.built = 0
        self.going_on = 0
        self.most = 0
        self.allowed = Event()
        self.allowed.set()

    def __call__(self) -> Stage:
        self.going_on += 1
        self.most = max(self.most, self.going_on)
        self.allowed.wait(10)
        self.going_on -= 1
        self.built += 1
        return load_text("drain_timeout: 100ms\nlog_level: 'off'\n", self.dirs)


def reloading(dirs: Dirs) -> tuple[Building, StageKeeper]:
    """A keeper whose reload is going on, until it is allowed to end."""
    build = Building(dirs)
    keeper = StageKeeper(build)
    keeper.start()
    build.allowed.clear()
    keeper.request_reload()
    assert until(lambda: build.going_on)
    return build, keeper


def test_requests_for_reloads_are_coalesced(dirs: Dirs) -> None:
    build, keeper = reloading(dirs)
    for _ in range(50):  # while the first is being built
        keeper.request_reload()
    build.allowed.set()
    assert until(lambda: keeper.reloads == 2)
    assert (build.built, build.most) == (3, 1)
    keeper.stop(time.monotonic())


def test_stop_waits_for_a_reload_that_is_going_on(dirs: Dirs) -> None:
    build, keeper = reloading(dirs)
    stopping = gevent.spawn(keeper.stop, time.monotonic() + 10)
    gevent.sleep(0)
    assert not stopping.ready()
    build.allowed.set()
    stopping.get(timeout=10)
    assert keeper.current is None


def test_stop_leaves_a_reload_that_hangs(dirs: Dirs) -> None:
    build, keeper = reloading(dirs)
    began = time.monotonic()
    keeper.stop(began + 0.05)
    assert time.monotonic() - began < 5
    build.allowed.set()


def test_stop_is_idempotent_and_ends_reloading(dirs: Dirs) -> None:
    build = Building(dirs)
    keeper = StageKeeper(build)
    keeper.start()
    keeper.stop(time.monotonic())
    keeper.stop(time.monotonic())
    keeper.reload()
    assert keeper.current is None
    assert build.built == 1
    assert keeper.drain_timeout == 0


def test_repr_says_the_state(serve: Callable[..., Served]) -> None:
    served = serve(SITE.format(text="x"))
    assert "draining=0 reloads=0" in repr(served.keeper)
