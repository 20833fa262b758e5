"""How a process that serves becomes gevent's: before anything of the engine is imported in it.

For each module that it patches, gevent tells plugins, which it looks for in all that is installed, by way of
importlib.metadata: a start would have to wait 0.1 s and more for that. So they are looked up here, once and without it.
"""

from __future__ import annotations

import glob
import importlib
import os
import sys
from typing import Any

__all__ = ["patch"]

_GROUPS = b"gevent.plugins."


def patch() -> None:
    """Has gevent replace what blocks."""
    import gevent
    import gevent.events
    import gevent.monkey

    events: Any = gevent.events
    plugins = _find_plugins()

    def tell(event: Any) -> None:
        events.notify(event)
        for spec in plugins.get(event.ENTRY_POINT_NAME, ()):
            module, _, name = spec.partition(":")
            plugin: Any = importlib.import_module(module)
            for part in name.split("."):
                plugin = getattr(plugin, part)
            plugin(event)

    usual, events.notify_and_call_entry_points = events.notify_and_call_entry_points, tell
    try:
        gevent.monkey.patch_all()
    finally:
        events.notify_and_call_entry_points = usual
    # Keeping parent, spawning stack and locals of every greenlet costs 4 µs and 1 KiB a connection.
    gevent.config.track_greenlet_tree = False


def _find_plugins() -> dict[str, list[str]]:
    """The entry points in gevent's groups: "module:name" by group. The same distribution counts once, where it comes
    first in sys.path."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for folder in sys.path:
        for path in glob.glob(os.path.join(glob.escape(folder or os.curdir), "*.*-info", "entry_points.txt")):
            name = os.path.basename(os.path.dirname(path)).partition("-")[0].lower()
            if name in seen:
                continue
            seen.add(name)
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                continue
            if _GROUPS in data:
                _parse(data.decode("utf-8", "replace"), found)
    return found


def _parse(text: str, found: dict[str, list[str]]) -> None:
    """Takes what is in gevent's groups from an entry_points.txt (PyPA specification "Entry points")."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[] ")
        elif group.startswith(_GROUPS.decode()) and "=" in line and not line.startswith("#"):
            found.setdefault(group, []).append(line.partition("=")[2].partition("[")[0].strip())
