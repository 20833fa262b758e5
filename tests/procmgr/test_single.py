from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from hemi.errors import UsageError
from hemi.procmgr.options import parse
from hemi.procmgr.program import GOROX, Program
from hemi.procmgr.single import addresses, build, check, describe, raise_file_limit
from tests.running import Served

SITE = """\
webapps:
  one: {hostnames: ["*"], rules: [{return_code: 200, return_text: hi}]}
servers:
  main: {type: httpx_server, address: ["127.0.0.1:0", "[::1]:0"], webapps: [one]}
"""


def test_build_takes_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "gorox.yaml").write_text("drain_timeout: 1s")
    (tmp_path / "other.yaml").write_text("drain_timeout: 2s")
    assert build(GOROX, parse(GOROX, [], str(tmp_path))).drain_timeout == 1
    assert build(GOROX, parse(GOROX, ["--config", "other.yaml"], str(tmp_path))).drain_timeout == 2
    assert build(GOROX, parse(GOROX, ["--config", f"{tmp_path}/other.yaml"], "/")).drain_timeout == 2


def test_build_takes_the_embedded_one_when_there_is_no_file(tmp_path: Path) -> None:
    assert "welcome" in build(GOROX, parse(GOROX, [], str(tmp_path))).members["webapps"]


def test_build_without_any(tmp_path: Path) -> None:
    program = Program(name="mine", title="Mine")
    with pytest.raises(UsageError, match=r"there is no conf/mine\.yaml"):
        build(program, parse(program, [], str(tmp_path)))
    with pytest.raises(UsageError, match="no such file"):
        build(GOROX, parse(GOROX, ["--config", "x.yaml"], str(tmp_path)))


def test_check_prints_on_request(tmp_path: Path) -> None:
    assert check(GOROX, parse(GOROX, ["check"], str(tmp_path))) == "the configuration is fine"
    assert "drain_timeout: 30s" in check(GOROX, parse(GOROX, ["check", "--print"], str(tmp_path)))


def test_describe() -> None:
    assert describe(GOROX, "static").startswith("static")
    with pytest.raises(UsageError):
        describe(GOROX, "statc")


def test_addresses(serve: Callable[..., Served]) -> None:
    served = serve(SITE)
    first, second = served.server().addresses
    assert addresses(served.stage) == [f'server "main" at http://{first}/ and http://{second}/']


def test_the_file_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
