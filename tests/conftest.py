"""What all tests share: running stages and processes, clients, and a look for what was left behind.

`tests.patching` has patched before: start pytest by toolkit/test, or by python -m pytest in the top directory.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import psutil
import pytest
from hypothesis import HealthCheck, settings

from hemi.source import Dirs
from tests.running import GoroxProcess, Served, dirs_below, serve_text, until
from tests.waiting import gone as has_ended

if TYPE_CHECKING:
    from hemi.tls import Identity
    from tests.tlskit import Authority

os.environ.setdefault("GOROX_ALLOW_ROOT", "1")  # where tests run as root, so do the workers that they start


def _keep_bytecode() -> None:
    """Has the processes of tests compile each module once, even where the environment says not to write bytecode."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        folder = tempfile.mkdtemp(prefix="gorox-tests-bytecode-")
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        owner = os.getpid()
        atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))


_keep_bytecode()
# How long an example takes says something about the machine, not about what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def dirs(tmp_path: Path) -> Dirs:
    """The directories of a stage, all below this test's own."""
    return dirs_below(tmp_path)


@pytest.fixture
def serve(dirs: Dirs) -> Iterator[Callable[..., Served]]:
    """Serves configurations (YAML) in this process: serve(text, debug=0) returns a Served. Stopped at the end."""
    running: list[Served] = []

    def start(text: str, **options: Any) -> Served:
        served = serve_text(text, dirs, **options)
        running.append(served)
        return served

    yield start
    for served in running:
        served.close()


@pytest.fixture
def gorox(tmp_path: Path) -> Iterator[Callable[..., GoroxProcess]]:
    """Starts bin/gorox: gorox(config_text, *arguments) returns a GoroxProcess. Killed at the end if it still runs."""
    running: list[GoroxProcess] = []

    def start(config: str | None, *arguments: str, **options: Any) -> GoroxProcess:
        process = GoroxProcess(tmp_path, config, *arguments, **options)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of this module's own."""
    from tests.tlskit import Authority

    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    """Its certificate for localhost."""
    return authority.issue("localhost")


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """Ends the run with an error if a test left a process or a listening socket behind."""
    me = psutil.Process()
    before = {(one.laddr, one.type) for one in _listening(me)}
    yield
    gone = until(lambda: not _children(me), 10)
    assert gone, f"left behind: {_children(me)}"
    left = [one for one in _listening(me) if (one.laddr, one.type) not in before]
    assert not left, f"still listening: {left}"


def _children(me: psutil.Process) -> list[psutil.Process]:
    return [child for child in me.children(recursive=True) if not has_ended(child.pid)]


def _listening(me: psutil.Process) -> list[Any]:
    return [one for one in me.net_connections("tcp") if one.status == psutil.CONN_LISTEN]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For -n auto: tests wait more than they compute."""
    return min((os.cpu_count() or 1) + 1, 8)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end, one process would be left alone with them."""
    slow: dict[Path, int] = {}
    for item in items:
        slow[item.path] = slow.get(item.path, 0) + sum(1 for _ in item.iter_markers("slow"))
    items.sort(key=lambda item: -min(slow[item.path], 1))


def pytest_report_header() -> str:
    """Says in the output where this runs: missing programs are failures in CI."""
    return f"CI: {'yes' if os.environ.get('CI') else 'no'}, gevent {gevent.__version__}"
