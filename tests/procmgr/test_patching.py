"""What a process is after it was patched, and that plugins of gevent are found as ever."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.running import TOP_DIR, run


def test_blocking_calls_are_replaced_and_plugins_called(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("called = []\n")
    info = tmp_path / "plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[gevent.plugins.monkey.did_patch_all]\nname = plugin:called.append\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "from importlib import metadata; look = metadata.entry_points;"
        "from hemi.procmgr.patching import patch; patch(); import gevent, plugin, time;"
        "print(time.sleep is gevent.sleep, len(plugin.called), metadata.entry_points is look)"
    )
    done = run([sys.executable, "-c", code], cwd=TOP_DIR)
    assert done.stdout.split() == ["True", "1", "True"], done.stderr
