"""toolkit/bench: gorox and its peers side by side, as ratios, because absolute figures of shared machines drift.

In each round every server is loaded once, in an order that rotates; a ratio is made of two figures of one round; what
is printed is the median of the ratios and their spread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from toolkit.benchmarks import (
    datagrams,
    h2proxies,
    http2,
    memory,
    processes,
    proxies,
    relays,
    websockets,
    wrk,
)
from toolkit.benchmarks.servers import PEERS, BenchError, Server, find_program, make_files, running
from toolkit.benchmarks.works import WORKS, Work


class Terms(NamedTuple):
    """How works are measured: rounds of so many seconds, on which cores (server, load), without which peers."""

    rounds: int
    seconds: int
    cores: tuple[int | None, int | None]
    without: frozenset[str]


Measure = Callable[[Path, Terms], str]
"""Measures one work in a folder of its own, and returns a table. Raises BenchError."""


def _web(work: Work) -> Measure:
    return lambda folder, terms: _measure(
        running(folder, work.port, terms.cores[0], terms.without), work, terms
    )


def _proxy(work: Work) -> Measure:
    return lambda folder, terms: _measure(proxies.running(folder, *terms.cores, terms.without), work, terms)


def _http2(work: Work) -> Measure:
    return lambda folder, terms: _measure(
        http2.running(folder, work.port, terms.cores[0], terms.without), work, terms, http2.load
    )


def _net(work: relays.Relaying) -> Measure:
    return lambda folder, terms: relays.measure(work, folder, *terms)


def _datagrams(work: datagrams.Datagrams) -> Measure:
    return lambda folder, terms: datagrams.measure(work, folder, *terms)


def _websocket(name: str) -> Measure:
    return lambda folder, terms: websockets.measure(name, folder, *terms)


def _http2_proxy(name: str) -> Measure:
    return lambda folder, terms: h2proxies.measure(name, folder, *terms)


def _processes(measure: Callable[[Path, int, int, tuple[int | None, int | None]], str]) -> Measure:
    return lambda folder, terms: measure(folder, terms.rounds, terms.seconds, terms.cores)


SUITES: dict[str, dict[str, Measure]] = {
    "web": {
        **{name: _web(work) for name, work in WORKS.items()},
        "idle": lambda folder, terms: memory.measure_idle(folder, *terms.cores),
        "slope": lambda folder, terms: memory.measure_slope(folder, *terms.cores),
    },
    "proxy": {name: _proxy(work) for name, work in proxies.WORKS.items()},
    "net": {
        **{name: _net(work) for name, work in relays.WORKS.items()},
        "idlerelays": lambda folder, terms: relays.measure_idle(folder, terms.cores, terms.without),
        **{name: _datagrams(work) for name, work in datagrams.WORKS.items()},
    },
    "websocket": {
        **{name: _websocket(name) for name in websockets.WORKS},
        "wsidle": lambda folder, terms: websockets.measure_idle(folder, terms.cores, terms.without),
    },
    "http2": {name: _http2(work) for name, work in http2.WORKS.items()},
    "http2proxy": {name: _http2_proxy(name) for name in h2proxies.WORKS},
    "processes": {name: _processes(measure) for name, measure in processes.WORKS.items()},
}


def main(arguments: list[str]) -> int:
    """Measures what is asked for and prints tables in Markdown."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(10))  # so that what was started is stopped
    available = sorted(os.sched_getaffinity(0))
    cores = (available[0], available[1]) if len(available) > 1 else (None, None)
    terms = Terms(options.rounds, options.seconds, cores, frozenset(options.without))
    suite = SUITES[options.suite]
    try:
        _check_programs()
        print(_preamble(options, *cores), flush=True)
        for name in options.only or suite:
            if name not in suite:
                raise BenchError(f"{name} is no work of {options.suite}, which has {' '.join(suite)}")
            with tempfile.TemporaryDirectory(prefix="gorox-bench-") as folder:
                os.chmod(folder, 0o755)
                make_files(Path(folder))
                print(suite[name](Path(folder), terms), flush=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 22
    except KeyboardInterrupt:
        return 10
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="toolkit/bench", description="Measures gorox beside its peers.")
    parser.add_argument("suite", choices=[*SUITES], help="what to measure")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="how many rounds (default: 7)")
    parser.add_argument(
        "--seconds", type=int, default=1, metavar="S", help="how long a server is loaded in a round"
    )
    told = "; ".join(f"{suite}: {' '.join(works)}" for suite, works in SUITES.items())
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"works ({told})")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=sorted({peer[0] for peer in (*PEERS, *proxies.PEERS)}),
        metavar="PEER",
        help="peers to leave out",
    )
    return parser.parse_args(arguments)


def _check_programs() -> None:
    for program, package in (("wrk", "wrk"), ("taskset", "util-linux"), ("openssl", "openssl")):
        if shutil.which(program) is None:
            raise BenchError(f"{program} is missing (Debian, Ubuntu: apt install {package})")


def _preamble(options: argparse.Namespace, server_core: int | None, load_core: int | None) -> str:
    missing = [f"{name} ({how})" for name, program, how, _ in PEERS if not find_program(program)]
    if options.suite != "web":
        missing = [f"{name} ({how})" for name, how, _ in proxies.PEERS if not find_program(name)]
    where = f"Servers on core {server_core}, the load on core {load_core}"
    if server_core is None:
        where = "Everything on one core (the figures say little)"
    how = f"{options.rounds} rounds of {options.seconds} s, medians of the ratios within a round (lowest to highest)"
    lines = [f"{where}; {how}. Load of the machine: {os.getloadavg()[0]:.1f}."]
    if missing:
        lines.append(f"Not installed, so not measured: {', '.join(missing)}.")
    return "\n".join(lines)


def _measure(
    peers: AbstractContextManager[list[Server]],
    work: Work,
    terms: Terms,
    load: Callable[[str, int, int | None, Work], wrk.Run] = wrk.load,
) -> str:
    with peers as servers:
        figures: dict[str, list[float]] = {server.name: [] for server in servers}
        failed: dict[str, int] = dict.fromkeys(figures, 0)
        for round_number in range(-1, terms.rounds):  # the first is for warming up
            shift = round_number % len(servers)
            for server in servers[shift:] + servers[:shift]:
                url = f"{work.scheme}://127.0.0.1:{server.ports[work.port]}{work.path}"
                result = load(url, terms.seconds, terms.cores[1], work)
                if round_number >= 0:
                    figures[server.name].append(getattr(result, work.figure))
                    failed[server.name] += result.failed
        return _table(work, servers, figures, failed)


def _table(work: Work, servers: list[Server], figures: dict[str, list[float]], failed: dict[str, int]) -> str:
    in_bytes = work.figure == "bytes_per_s"
    lines = [
        f"\n### {work.title}\n",
        f"| server | {'MiB/s' if in_bytes else 'requests/s'} | × nginx | gorox is × this | failed | |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for server in servers:
        own = figures[server.name]
        rate = statistics.median(own) / (1 << 20 if in_bytes else 1)
        to_nginx = _ratio(own, figures.get("nginx"))
        to_gorox = _ratio(figures["gorox"], own) if server.name != "gorox" else ""
        cells = (server.name, f"{rate:,.0f}", to_nginx, to_gorox, str(failed[server.name]), server.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(above: list[float], below: list[float] | None) -> str:
    if not below or not all(below):
        return ""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
