"""The suite "processes": what an instance does to its clients while it is changed, broken and watched.

There are no peers here: the aim is that nothing fails. The load is wrk, over kept connections and with a connection for
each request, plain and with TLS; what wrk counts as failed are connections that are refused or end without an answer,
answers that are late, and statuses that are no success.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import selectors
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from toolkit.benchmarks import wrk
from toolkit.benchmarks.instances import Instance, instance, loading
from toolkit.benchmarks.servers import TOP_DIR, BenchError, pinned

SPAN = 60
"""Seconds that the load lasts while an instance is changed."""

REST = 3.0
"""Seconds after a start until the process that stands by is there, too."""

STREAMS = 200
MAX_RSS = 96
"""MiB that a worker with a leak may have."""

Cores = tuple[int | None, int | None]


class Change(NamedTuple):
    """What happens to an instance under load, how often, and how goroxctl is told to."""

    title: str
    count: int
    order: tuple[str, ...]


CHANGES = {
    "reloads": Change("reloads", 50, ("reload",)),
    "reworks": Change("reworks", 10, ("rework",)),
    "upgrades": Change("upgrades", 3, ("upgrade",)),
}


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def measure_change(name: str, folder: Path, rounds: int, seconds: int, cores: Cores) -> str:
    """Load on two workers, plain and TLS, kept and one-shot, while the instance is changed."""
    change = CHANGES[name]
    took = []
    with instance(folder, 2) as one, loading({one.url("plain"): 16, one.url("tls"): 4}, SPAN) as runs:
        begun = time.monotonic()
        for number in range(change.count):
            time.sleep(max(0.0, begun + SPAN * (number + 0.5) / change.count - time.monotonic()))
            at = time.monotonic()
            one.tell(*change.order)
            took.append(time.monotonic() - at)
    requests, failed = sum(run.requests for run in runs), sum(run.failed for run in runs)
    return "\n".join(
        [
            f"\n### {SPAN} s of load, {change.count} {change.title}\n",
            "| changes | a change took, median (longest) | requests | failed |",
            "|--:|--:|--:|--:|",
            _row(len(took), f"{statistics.median(took):.2f} s ({max(took):.2f} s)", f"{requests:,}", failed),
        ]
    )


def measure_crashes(folder: Path, rounds: int, seconds: int, cores: Cores) -> str:
    """A worker of two is killed every 2 s under load."""
    replaced, killed = [], 0
    with instance(folder, 2) as one, loading({one.url("plain"): 16}, SPAN) as runs:
        begun = time.monotonic()
        while time.monotonic() < begun + SPAN - 3:
            ready = one.await_workers(2)
            count = one.log().count("is ready")
            os.kill(random.choice(ready), signal.SIGKILL)
            at = time.monotonic()
            killed += 1
            while one.log().count("is ready") == count:
                if time.monotonic() > at + 30:
                    raise BenchError(f"no worker took the place of the one that was killed:\n{one.log()}")
                time.sleep(0.005)
            replaced.append(time.monotonic() - at)
            time.sleep(max(0.0, at + 2 - time.monotonic()))
    return "\n".join(
        [
            f"\n### A worker of two is killed every 2 s, for {SPAN} s\n",
            "| killed | replaced after, median (longest) | requests | cut off | refused |",
            "|--:|--:|--:|--:|--:|",
            _row(
                killed,
                f"{statistics.median(replaced):.2f} s ({max(replaced):.2f} s)",
                f"{sum(run.requests for run in runs):,}",
                sum(run.failed - run.refused for run in runs),
                sum(run.refused for run in runs),
            ),
        ]
    )


def measure_streams(folder: Path, rounds: int, seconds: int, cores: Cores) -> str:
    """Long responses while the configuration is loaded again and again."""
    reloads = 20
    with instance(folder, 2, drain_timeout="5m") as one, contextlib.ExitStack() as opened:
        port = one.ports["stream"]
        socks = []
        for _ in range(STREAMS):
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            socks.append(sock)
        _drain(socks, 3.0)
        for _ in range(reloads):
            one.tell("reload")
        _drain(socks, 1.0)
        alive = _drain(socks, 3.0)
    return "\n".join(
        [
            f"\n### {STREAMS} responses without an end\n",
            "| reloads | streams that went on | streams that ended |",
            "|--:|--:|--:|",
            _row(reloads, alive, STREAMS - alive),
        ]
    )


def _drain(socks: list[socket.socket], seconds: float) -> int:
    """Reads what comes for some seconds; returns how many sent something and did not end."""
    deadline = time.monotonic() + seconds
    heard: set[socket.socket] = set()
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and selector.get_map():
            for key, _ in selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock.recv(65536):
                    heard.add(sock)
                else:
                    heard.discard(sock)
                    selector.unregister(sock)
    return len(heard)


def measure_leak(folder: Path, rounds: int, seconds: int, cores: Cores) -> str:
    """An app that leaks, in workers with a limit."""
    most = 0
    with instance(folder, 2, max_rss=f"{MAX_RSS}M") as one:
        with loading({one.url("leak"): 8}, SPAN) as runs:
            until = time.monotonic() + SPAN
            while time.monotonic() < until:
                assert one.server.process is not None
                for process in psutil.Process(one.server.process.pid).children():
                    with contextlib.suppress(psutil.Error):
                        most = max(most, process.memory_info().rss)
                time.sleep(0.1)
        workers = len(re.findall(r"worker \d+ is ready", one.log()))
    return "\n".join(
        [
            f"\n### An app that leaks 16 KiB a request, max_rss {MAX_RSS}M, {SPAN} s\n",
            "| requests | leaked | workers, one after another | the largest had | failed |",
            "|--:|--:|--:|--:|--:|",
            _row(
                f"{sum(run.requests for run in runs):,}",
                f"{sum(run.requests for run in runs) >> 6:,} MiB",
                workers,
                f"{most >> 20} MiB",
                sum(run.failed for run in runs),
            ),
        ]
    )


def measure_workers(folder: Path, rounds: int, seconds: int, cores: Cores) -> str:
    """Hello from one worker and from two.

    The load needs a good part of a core itself. So one worker shares a core with its load, and two workers share two
    cores with theirs: the ratio says what is lost by there being two.
    """
    if cores[0] is None:
        raise BenchError("two workers need two cores")
    rates: tuple[list[float], list[float]] = ([], [])
    with instance(folder, 1, cores[0]) as single, instance(folder, 2) as double:
        for number in range(-1, rounds):  # the first is for warming up
            alone = wrk.run(single.url("plain"), seconds, cores[0]).requests_per_s
            loads = [
                subprocess.Popen(
                    [*pinned(core), "wrk", "-t1", "-c64", f"-d{seconds}s", double.url("plain")],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for core in cores
            ]
            both = sum(wrk.parse(one.communicate(timeout=60)[0]).requests_per_s for one in loads)
            if number >= 0:
                rates[0].append(alone)
                rates[1].append(both)
    ratios = [two / one for one, two in zip(*rates, strict=True)]
    return "\n".join(
        [
            "\n### Two workers against one, hello\n",
            "| one worker and its load on one core | two workers and their load on two | ratio |",
            "|--:|--:|--:|",
            _row(
                *(f"{statistics.median(rate):,.0f}/s" for rate in rates),
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            ),
        ]
    )


def measure_times(folder: Path, rounds: int, seconds: int, cores: Cores) -> str:
    """How long an operator waits."""
    rows: dict[str, list[float]] = {
        "start, to the first answer": [],
        "goroxctl reload": [],
        "goroxctl pids": [],
    }
    died, again = [], []
    for _ in range(rounds):
        one = Instance(folder, 1)
        rows["start, to the first answer"].append(_time(lambda one=one: _start(one)))
        try:
            one.await_workers(1)
            time.sleep(REST)
            rows["goroxctl pids"].append(_time(lambda one=one: one.tell("pids")))
            rows["goroxctl reload"].append(_time(lambda one=one: one.tell("reload")))
            workers = one.await_workers(1)
            assert one.server.process is not None
            os.kill(one.server.process.pid, signal.SIGKILL)
            died.append(_time(lambda workers=workers: _await_end(workers)))
            one.server.process.wait(10)
            again.append(_time(lambda one=one: _start(one)))
        finally:
            one.server.stop()
    rows["the leader is killed: its workers are gone"] = died
    rows["start on the same ports, to the first answer"] = again
    lines = ["\n### How long it takes\n", "| what | median | lowest to highest |", "|---|--:|--:|"]
    lines += [
        _row(what, f"{statistics.median(took):.3f} s", f"{min(took):.3f} to {max(took):.3f}")
        for what, took in rows.items()
    ]
    return "\n".join(lines)


def _time(do: Callable[[], object]) -> float:
    at = time.monotonic()
    do()
    return time.monotonic() - at


def _start(one: Instance) -> None:
    """Starts a leader, and waits until it answers."""
    one.server.output = one.folder / "out"
    with one.server.output.open("wb") as out:
        one.server.process = subprocess.Popen(
            one.server.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(TOP_DIR)},
            start_new_session=True,
        )
    deadline = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", one.ports["plain"]), 10) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if sock.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise BenchError(f"no answer after 30 s:\n{one.log()}") from None
        time.sleep(0.002)


def _await_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise BenchError("workers have outlived their leader for 30 s")
        time.sleep(0.005)


def _lives(pid: int) -> bool:
    """Whether a process has not ended, even if init has not taken note yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


WORKS: dict[str, Callable[[Path, int, int, Cores], str]] = {
    **{name: partial(measure_change, name) for name in CHANGES},
    "crashes": measure_crashes,
    "streams": measure_streams,
    "leak": measure_leak,
    "workers": measure_workers,
    "times": measure_times,
}
