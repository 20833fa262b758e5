"""What the system says about a process: memory, processor, descriptors, threads. By psutil, loaded at first use."""

from __future__ import annotations

from typing import Any

__all__ = ["Vitals", "count_oom_kills"]

_EVENTS = "/sys/fs/cgroup/memory.events"


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


def count_oom_kills() -> int:
    """How often the kernel has killed something in our control group because memory ran out; 0 where unknown."""
    try:
        with open(_EVENTS, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0
