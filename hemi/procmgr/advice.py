"""What of the system to change, and why: limits, kernel settings, memory, clock. Looks, and changes nothing.

Each check is a function of the system that gives one or more findings. Standard library and /proc alone: the leader
looks at its own environment, which is the one that counts; goroxctl does where no leader runs.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from hemi.procmgr.vitals import cgroup_file

__all__ = ["Finding", "System", "look"]

PLENTY_FILES = 65536
PLENTY_BACKLOG = 4096
PLENTY_PORTS = 28000
SLOW_CLOCK = 0.4e-6
"""Seconds that a look at the clock may cost."""


class Finding(NamedTuple):
    """One thing that was looked at. `change` says what to do; empty: all is well."""

    item: str
    value: str
    change: str = ""
    why: str = ""


class System:
    """Where to look; tests give another root."""

    def __init__(self, root: str = "/", workers: int = 1) -> None:
        self.root = root
        self.workers = workers

    def text(self, path: str) -> str:
        """The content of a small file; "" when there is none, or it is not for us."""
        try:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                return file.read(65536).strip()
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        """The number in a file, None when there is none."""
        try:
            return int(self.text(path).split()[0])
        except (ValueError, IndexError):
            return None

    def cgroup(self, name: str, old_name: str = "", controller: str = "memory") -> str:
        """The content of a file of our control group."""
        return self.text(cgroup_file(name, old_name, controller, self.root))

    def sysctl(self, name: str) -> int | None:
        """A kernel setting."""
        return self.number("proc/sys/" + name.replace(".", "/"))


Check = Callable[[System], Iterator[Finding]]


def look(workers: int = 1, root: str = "/") -> list[dict[str, Any]]:
    """All findings as plain data; those that advise a change have a `change`."""
    system = System(root, workers)
    return [finding._asdict() for check in _CHECKS for finding in check(system)]


def _files(system: System) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = f"{_limit(soft)}, at most {_limit(hard)}"
    if hard != resource.RLIM_INFINITY and hard < PLENTY_FILES:
        yield Finding(
            "open files",
            shown,
            f"raise the hard limit to {PLENTY_FILES} or more: ulimit -Hn, LimitNOFILE= in the unit",
            "every connection is one, with a backend two; workers raise the soft limit themselves",
        )
    else:
        yield Finding("open files", shown)
    most = system.sysctl("fs.file-max")
    if most is not None and most < PLENTY_FILES * system.workers:
        yield Finding(
            "fs.file-max",
            str(most),
            f"sysctl fs.file-max={max(1 << 20, PLENTY_FILES * system.workers)}",
            "all processes together cannot open more",
        )


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _backlog(system: System) -> Iterator[Finding]:
    for name, why in (
        (
            "net.core.somaxconn",
            "the kernel cuts the backlog of every server to it: bursts of clients are refused",
        ),
        ("net.ipv4.tcp_max_syn_backlog", "handshakes beyond it are dropped in bursts"),
    ):
        value = system.sysctl(name)
        if value is not None:
            low = value < PLENTY_BACKLOG
            yield Finding(
                name, str(value), f"sysctl {name}={PLENTY_BACKLOG}" if low else "", why if low else ""
            )


def _tcp(system: System) -> Iterator[Finding]:
    for name, good, why in (
        ("net.ipv4.tcp_syncookies", (1, 2), "without them a flood of SYN packets locks clients out"),
        (
            "net.ipv4.tcp_slow_start_after_idle",
            (0,),
            "with it kept connections begin slowly again after each pause",
        ),
        ("net.ipv4.tcp_tw_reuse", (1, 2), "new connections to backends may run out of ports otherwise"),
    ):
        value = system.sysctl(name)
        if value is not None:
            fine = value in good
            yield Finding(name, str(value), "" if fine else f"sysctl {name}={good[0]}", "" if fine else why)


def _ports(system: System) -> Iterator[Finding]:
    name = "net.ipv4.ip_local_port_range"
    words = system.text("proc/sys/" + name.replace(".", "/")).split()
    if len(words) == 2 and all(word.isdigit() for word in words):
        low, high = map(int, words)
        few = high - low + 1 < PLENTY_PORTS
        yield Finding(
            name,
            f"{low} to {high}",
            f'sysctl {name}="10240 65535"' if few else "",
            "it bounds the connections to one backend node, those that just ended included" if few else "",
        )


def _conntrack(system: System) -> Iterator[Finding]:
    used = system.sysctl("net.netfilter.nf_conntrack_count")
    most = system.sysctl("net.netfilter.nf_conntrack_max")
    if used is not None and most:
        full = used > most * 0.7
        yield Finding(
            "net.netfilter.nf_conntrack_max",
            f"{used} of {most} used",
            f"sysctl net.netfilter.nf_conntrack_max={most * 4}" if full else "",
            "beyond it the firewall drops new connections" if full else "",
        )


def _memory(system: System) -> Iterator[Finding]:
    sizes = {}
    for line in system.text("proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            sizes[name] = int(words[0]) << 10
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    if total:
        low = free < total * 0.1
        yield Finding(
            "memory",
            f"{free >> 20} MB of {total >> 20} MB available",
            "fewer workers, max_rss, or more memory" if low else "",
            "little is left: the kernel may kill a worker" if low else "",
        )
    limit = system.cgroup("memory.max", "memory.limit_in_bytes")
    usage = system.cgroup("memory.current", "memory.usage_in_bytes")
    if limit.isdigit() and usage.isdigit() and 0 < int(limit) <= (total or int(limit)):
        most, used = int(limit), int(usage)
        low = used > most * 0.85
        yield Finding(
            "memory of the control group",
            f"{used >> 20} MB of {most >> 20} MB used",
            "raise the limit, or set max_rss" if low else "",
            "at the limit the kernel kills a process" if low else "",
        )
    if system.sysctl("vm.overcommit_memory") == 2:
        yield Finding(
            "vm.overcommit_memory",
            "2",
            "sysctl vm.overcommit_memory=0",
            "forks of large processes can fail although there is memory",
        )


def _huge_pages(system: System) -> Iterator[Finding]:
    text = system.text("sys/kernel/mm/transparent_hugepage/enabled")
    if text:
        always = "[always]" in text
        yield Finding(
            "transparent huge pages",
            text.partition("[")[2].partition("]")[0] or text,
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" if always else "",
            "workers share pages after the fork; large ones are copied for one changed byte, and stall while that lasts"
            if always
            else "",
        )


def _processors(system: System) -> Iterator[Finding]:
    count = float(len(os.sched_getaffinity(0)))
    words = system.cgroup("cpu.max", controller="cpu").split()
    shown = f"{count:g}"
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        quota = int(words[0]) / int(words[1])
        shown += f", {quota:g} by quota"
        count = min(count, quota)
    if system.workers > max(1.0, count * 2):
        change, why = (
            f"goroxctl workers {max(1, round(count))}",
            "more workers than processors only take memory",
        )
    elif system.workers < count / 2:
        change, why = f"goroxctl workers {round(count)}", "a worker uses one processor; the others idle"
    else:
        change = why = ""
    yield Finding("processors", f"{shown}; {system.workers} worker(s)", change, why)


def _clock(system: System) -> Iterator[Finding]:
    source = system.text("sys/devices/system/clocksource/clocksource0/current_clocksource")
    cost = min(_time_clock() for _ in range(5))
    slow = source in ("hpet", "acpi_pm") or cost > SLOW_CLOCK
    yield Finding(
        "clock",
        f"{source or 'unknown'}, {cost * 1e9:.0f} ns a look",
        "use the clock source tsc (or kvm-clock, arch_sys_counter)" if slow else "",
        "every request looks at the clock several times" if slow else "",
    )


def _time_clock() -> float:
    read, count = time.monotonic, 1000
    begun = read()
    for _ in range(count):
        read()
    return (read() - begun) / count


_CHECKS: tuple[Check, ...] = (
    _files,
    _backlog,
    _tcp,
    _ports,
    _conntrack,
    _memory,
    _huge_pages,
    _processors,
    _clock,
)
