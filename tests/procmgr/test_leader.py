"""The leader's laws. What it does is in tests/processes: real forks, real signals."""

from __future__ import annotations

import sys

from tests.running import TOP_DIR, run


def test_the_leader_loads_no_engine() -> None:
    code = "import sys, hemi.procmgr.leader; print(*sys.modules)"
    done = run([sys.executable, "-c", code], cwd=TOP_DIR)
    assert done.returncode == 0
    assert not {"gevent", "greenlet", "hemi.stage", "hemi.config", "yaml", "ssl"} & set(done.stdout.split())
