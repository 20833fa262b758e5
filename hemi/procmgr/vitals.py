"""What the system says about a process: memory, processor, descriptors, threads (by psutil, loaded at first use); and
about the control group that it is in: a container's, or a service's of systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

__all__ = ["Vitals", "cgroup_file", "count_oom_kills"]


class Vitals:
    """Looks at processes; remembers them, because processor use is a difference between two looks."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}

    def of(self, pid: int) -> dict[str, Any]:
        """Returns rss (bytes), cpu (per cent of one core since the last look), fds, threads; {} when it has gone."""
        import psutil

        try:
            process = self._known.get(pid)
            if process is None:
                process = self._known[pid] = psutil.Process(pid)
                process.cpu_percent(None)
            with process.oneshot():
                return {
                    "rss": process.memory_info().rss,
                    "cpu": process.cpu_percent(None),
                    "fds": process.num_fds(),
                    "threads": process.num_threads(),
                }
        except psutil.Error:
            return {}

    def forget(self, pid: int) -> None:
        """Says that a process has ended."""
        self._known.pop(pid, None)


def cgroup_file(name: str, old_name: str = "", controller: str = "memory", root: str = "/") -> str:
    """The path of a file of our control group, "" when there is none; `old_name` is what version 1 calls it.

    In a container our group may be mounted as if it were the root, whatever the kernel says that its path is.
    """
    return next((path for path in _candidates(name, old_name, controller, root) if os.path.exists(path)), "")


def _candidates(name: str, old_name: str, controller: str, root: str) -> Iterator[str]:
    mounted = os.path.join(root, "sys/fs/cgroup")
    try:
        with open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8", errors="replace") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        groups = []
    own = {word: each[2] for each in groups if len(each) == 3 for word in each[1].split(",")}
    for path in (own.get("", "/"), "/"):
        yield f"{mounted}{path.rstrip('/')}/{name}"
    for path in (own.get(controller, "/"), "/") if old_name else ():
        yield f"{mounted}/{controller}{path.rstrip('/')}/{old_name}"


def count_oom_kills(root: str = "/") -> int:
    """How often the kernel has killed something in our control group because memory ran out; 0 where unknown."""
    path = cgroup_file("memory.events", "memory.oom_control", root=root)
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0
