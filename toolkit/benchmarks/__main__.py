"""toolkit/bench: gorox and its peers side by side, as ratios, because absolute figures of shared machines drift.

In each round every server is loaded once, in an order that rotates; a ratio is made of two figures of one round; what
is printed is the median of the ratios and their spread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from toolkit.benchmarks import datagrams, h2proxies, http2, memory, proxies, relays, websockets, wrk
from toolkit.benchmarks.servers import PEERS, BenchError, Server, find_program, make_files, running
from toolkit.benchmarks.works import WORKS, Work

MEMORY_WORKS = {"idle": memory.measure_idle, "slope": memory.measure_slope}
SUITES = {
    "web": [*WORKS, *MEMORY_WORKS],
    "proxy": [*proxies.WORKS],
    "net": [*relays.WORKS, "idlerelays", *datagrams.WORKS],
    "websocket": [*websockets.WORKS, "wsidle"],
    "http2": [*http2.WORKS],
    "http2proxy": [*h2proxies.WORKS],
}


def main(arguments: list[str]) -> int:
    """Measures what is asked for and prints tables in Markdown."""
    options = _parse(arguments)
    available = sorted(os.sched_getaffinity(0))
    server_core, load_core = (available[0], available[1]) if len(available) > 1 else (None, None)
    try:
        _check_programs()
        print(_preamble(options, server_core, load_core), flush=True)
        for name in options.only or SUITES[options.suite]:
            with tempfile.TemporaryDirectory(prefix="gorox-bench-") as folder:
                os.chmod(folder, 0o755)
                make_files(Path(folder))
                cores, without = (server_core, load_core), frozenset(options.without)
                if name in relays.WORKS:
                    work = relays.WORKS[name]
                    print(
                        relays.measure(work, Path(folder), options.rounds, options.seconds, cores, without),
                        flush=True,
                    )
                elif name in websockets.WORKS:
                    print(
                        websockets.measure(
                            name, Path(folder), options.rounds, options.seconds, cores, without
                        ),
                        flush=True,
                    )
                elif name in http2.WORKS:
                    h2 = http2.running(Path(folder), http2.WORKS[name].port, server_core, without)
                    print(_measure(h2, http2.WORKS[name], options, load_core, http2.load), flush=True)
                elif name in h2proxies.WORKS:
                    print(
                        h2proxies.measure(
                            name, Path(folder), options.rounds, options.seconds, cores, without
                        ),
                        flush=True,
                    )
                elif name == "wsidle":
                    print(websockets.measure_idle(Path(folder), cores, without), flush=True)
                elif name in datagrams.WORKS:
                    one = datagrams.WORKS[name]
                    print(
                        datagrams.measure(one, Path(folder), options.rounds, options.seconds, cores, without),
                        flush=True,
                    )
                elif name == "idlerelays":
                    print(relays.measure_idle(Path(folder), cores, without), flush=True)
                elif name in proxies.WORKS:
                    peers = proxies.running(Path(folder), server_core, load_core, frozenset(options.without))
                    print(_measure(peers, proxies.WORKS[name], options, load_core), flush=True)
                elif name in WORKS:
                    peers = running(Path(folder), WORKS[name].port, server_core, frozenset(options.without))
                    print(_measure(peers, WORKS[name], options, load_core), flush=True)
                else:
                    print(MEMORY_WORKS[name](Path(folder), server_core, load_core), flush=True)
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
    names = [name for works in SUITES.values() for name in works]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"works: {' '.join(names)}")
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
    options: argparse.Namespace,
    load_core: int | None,
    load: Callable[[str, int, int | None, Work], wrk.Run] = wrk.load,
) -> str:
    with peers as servers:
        figures: dict[str, list[float]] = {server.name: [] for server in servers}
        failed: dict[str, int] = dict.fromkeys(figures, 0)
        for round_number in range(-1, options.rounds):  # the first is for warming up
            shift = round_number % len(servers)
            for server in servers[shift:] + servers[:shift]:
                url = f"{work.scheme}://127.0.0.1:{server.ports[work.port]}{work.path}"
                result = load(url, options.seconds, load_core, work)
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
