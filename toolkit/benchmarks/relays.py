"""The suite `net`: gorox and HAProxy relaying connections, with the load and what is behind them on another core.

Behind them are an iperf3 server (bulk), an nginx (small messages, new connections, TLS) and a process that sends as
fast as it can (bulk through SOCKS). Where the core of the load is the bottleneck, both look alike, so each row also
says what a server did with a second of its own processor.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from toolkit.benchmarks import wrk
from toolkit.benchmarks.proxies import upstream
from toolkit.benchmarks.servers import TOP_DIR, BenchError, Server, _ports, find_program, pinned

IDLE_RELAYS = 5000
CONNS = 32


class Load(NamedTuple):
    """What a run came to: something per second, and what failed."""

    rate: float
    failed: int


class Place(NamedTuple):
    """Where to put a load: seconds, the core of the load, and the ports of what is behind the servers."""

    seconds: int
    core: int | None
    behind: dict[str, int]


class Relaying(NamedTuple):
    """A work: `load(place, server)` makes one run. `to` is the row that ratios are to, `aim` what they should be."""

    title: str
    unit: str
    to: str
    aim: float
    rows: tuple[tuple[str, str, str], ...]  # title, server, port
    load: Callable[[Place, int, str], Load]


def _iperf(streams: int) -> Callable[[Place, int, str], Load]:
    def load(place: Place, port: int, row: str) -> Load:
        command = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-J", "-t", str(place.seconds)]
        done = subprocess.run(
            [*pinned(place.core), *command, "-P", str(streams)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        try:
            end = json.loads(done.stdout)["end"]
            return Load(end["sum_received"]["bits_per_second"] / 8 / (1 << 20), 0)
        except (ValueError, KeyError):
            raise BenchError(f"iperf3 failed: {done.stdout[-500:]}{done.stderr[-500:]}") from None

    return load


def _wrk(
    path: str, *fields: str, scheme: str = "http", bulk: bool = False
) -> Callable[[Place, int, str], Load]:
    def load(place: Place, port: int, row: str) -> Load:
        url = f"{scheme}://127.0.0.1:{port}{path}"
        run = wrk.run(url, place.seconds, place.core, conns=CONNS if not bulk else 4, fields=fields)
        return Load(run.bytes_per_s / (1 << 20) if bulk else run.requests_per_s, run.failed)

    return load


def _dialer(what: str, conns: int, behind: str) -> Callable[[Place, int, str], Load]:
    def load(place: Place, port: int, row: str) -> Load:
        target = f"127.0.0.1:{place.behind[behind]}" if row == "socks" else f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "toolkit.benchmarks.dialer", what, target, "--conns", str(conns)]
        command += [
            "--seconds",
            str(place.seconds),
            *(["--via", f"127.0.0.1:{port}"] if row == "socks" else []),
        ]
        done = subprocess.run(
            [*pinned(place.core), *command],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=TOP_DIR,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"the dialer failed: {done.stderr[-500:]}")
        rate, failed = done.stdout.split()
        return Load(float(rate) / (1 << 20) if what == "bulk" else float(rate), int(failed))

    return load


def _against_haproxy(port: str) -> tuple[tuple[str, str, str], ...]:
    return ("gorox", "gorox", port), ("haproxy", "haproxy", port)


_SOCKS = ("socks", "gorox", "socks")

WORKS: dict[str, Relaying] = {
    "bulk1": Relaying("bulk, one stream", "MiB/s", "haproxy", 1.0, _against_haproxy("iperf"), _iperf(1)),
    "bulk32": Relaying("bulk, 32 streams", "MiB/s", "haproxy", 1.0, _against_haproxy("iperf"), _iperf(32)),
    "small": Relaying(
        "small messages, 32 connections", "requests/s", "haproxy", 0.65, _against_haproxy("small"), _wrk("/")
    ),
    "new": Relaying(
        "new connections", "connections/s", "haproxy", 0.5, _against_haproxy("small"),
        _wrk("/", "Connection: close"),
    ),
    "tlsbulk": Relaying(
        "bulk, TLS ends here", "MiB/s", "haproxy", 0.8, _against_haproxy("tls"),
        _wrk("/10m.bin", scheme="https", bulk=True),
    ),
    "socksbulk": Relaying(
        "bulk through SOCKS5", "MiB/s", "gorox", 0.9, (("gorox", "gorox", "source"), _SOCKS),
        _dialer("bulk", 1, "source"),
    ),
    "socksnew": Relaying(
        "new connections through SOCKS5", "connections/s", "gorox", 0.5, (("gorox", "gorox", "small"), _SOCKS),
        _dialer("new", CONNS, "upstream"),
    ),
}  # fmt: skip


def gorox(folder: Path, behind: dict[str, int]) -> Server:
    """Gorox: a router for each work, and a SOCKS proxy; the access log written to a file."""
    ports = _ports("iperf", "small", "tls", "source", "socks", "sink")
    nodes = {"iperf": "iperf", "small": "upstream", "tls": "upstream", "source": "source", "sink": "sink"}
    lines = [
        f"access_log: {{target: {folder}/gorox-access.log, format: combined}}",
        "drain_timeout: 1s",
        "backends:",
        *(
            f'  {name}: {{type: tcpx_backend, nodes: [{{address: "127.0.0.1:{behind[node]}"}}]}}'
            for name, node in nodes.items()
        ),
        "routers:",
    ]
    for name in nodes:
        tls = (
            f", tls: true, certificates: [{{certificate: {folder}/cert.pem, private_key: {folder}/key.pem}}]"
        )
        lines.append(
            f'  {name}: {{type: tcpx_router, address: "127.0.0.1:{ports[name]}"{tls if name == "tls" else ""},'
            f" cases: [{{dealets: [{{tcpx_proxy: {{to_backend: {name}}}}}]}}]}}"
        )
    lines += [
        "servers:",
        f'  socks: {{type: socks_server, address: "127.0.0.1:{ports["socks"]}", allow: [{{networks: 127.0.0.0/8}}]}}',
    ]
    config = folder / "gorox-net.yaml"
    config.write_text("\n".join(lines) + "\n")
    program = str(TOP_DIR / "bin" / "gorox")
    command = [sys.executable, program, "--config", str(config), "--top-dir", str(folder)]
    return Server("gorox", "access log to a file", ports, command)


def haproxy(folder: Path, behind: dict[str, int]) -> Server:
    """HAProxy in TCP mode, one thread, splicing where it thinks it pays."""
    ports = _ports("iperf", "small", "tls", "sink")
    pem = folder / "haproxy.pem"
    pem.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    lines = [
        "global", "  nbthread 1", f"  maxconn {IDLE_RELAYS + 1000}", "  tune.ssl.default-dh-param 2048",
        "defaults", "  mode tcp", "  timeout connect 5s", "  timeout client 600s", "  timeout server 600s",
        "  option splice-auto",
    ]  # fmt: skip
    nodes = {"iperf": "iperf", "small": "upstream", "tls": "upstream", "sink": "sink"}
    for name, node in nodes.items():
        tls = f" ssl crt {pem}" if name == "tls" else ""
        lines += [
            f"listen {name}",
            f"  bind 127.0.0.1:{ports[name]}{tls}",
            f"  server one 127.0.0.1:{behind[node]}",
        ]
    config = folder / "haproxy-net.cfg"
    config.write_text("\n".join(lines) + "\n")
    return Server(
        "haproxy", "splice-auto, no log", ports, [find_program("haproxy") or "", "-db", "-f", str(config)]
    )


class _Sink:
    """Accepts and keeps connections, in a thread: what is behind idle ones."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self.listening.getsockname()[1]
        self.kept: list[socket.socket] = []
        threading.Thread(target=self._keep, daemon=True).start()

    def _keep(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.kept.append(self.listening.accept()[0])

    def close(self) -> None:
        """Ends everything."""
        self.listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self.listening.close()
        for sock in self.kept:
            sock.close()


@contextlib.contextmanager
def running(
    folder: Path, server_core: int | None, load_core: int | None, without: frozenset[str]
) -> Iterator[tuple[list[Server], dict[str, int], _Sink]]:
    """Runs what is behind, gorox and HAProxy, and stops them all at the end."""
    _check_programs()
    origin = upstream(folder)
    source_ports, iperf_ports = _ports("source"), _ports("iperf")
    command = [
        sys.executable,
        "-m",
        "toolkit.benchmarks.dialer",
        "source",
        f"127.0.0.1:{source_ports['source']}",
    ]
    source = Server("source", "", source_ports, command)
    iperf = Server("iperf3", "", iperf_ports, ["iperf3", "-s", "-p", str(iperf_ports["iperf"])])
    sink = _Sink()
    behind = {**origin.ports, **source_ports, **iperf_ports, "sink": sink.port}
    servers = [gorox(folder, behind)]
    if "haproxy" not in without and find_program("haproxy"):
        servers.append(haproxy(folder, behind))
    try:
        for server in (origin, source, iperf):
            server.start(folder, load_core)
        for server in servers:
            server.start(folder, server_core)
        yield servers, behind, sink
    finally:
        for server in (*servers, origin, source, iperf):
            server.stop()
        sink.close()


def _check_programs() -> None:
    for program in ("iperf3", "nginx"):
        if find_program(program) is None:
            raise BenchError(f"{program} is missing (Debian, Ubuntu: apt install {program})")


def measure(
    work: Relaying,
    folder: Path,
    rounds: int,
    seconds: int,
    cores: tuple[int | None, int | None],
    without: frozenset[str],
) -> str:
    """A table of one work."""
    with running(folder, cores[0], cores[1], without) as (servers, behind, _):
        by_name = {server.name: server for server in servers}
        place = Place(seconds, cores[1], behind)
        rows = [(title, by_name[name], port) for title, name, port in work.rows if name in by_name]
        rates: dict[str, list[float]] = {title: [] for title, _, _ in rows}
        shares: dict[str, list[float]] = {title: [] for title, _, _ in rows}
        failed = dict.fromkeys(rates, 0)
        for number in range(-1, rounds):  # the first is for warming up
            shift = number % len(rows)
            for title, server, port in rows[shift:] + rows[:shift]:
                before = _processor(server)
                load = work.load(place, server.ports[port], title)
                used = _processor(server) - before
                if number >= 0:
                    rates[title].append(load.rate)
                    shares[title].append(load.rate * seconds / max(used, 0.01))
                    failed[title] += load.failed
    return _table(work, rates, shares, failed)


def _processor(server: Server) -> float:
    """Seconds of processor that a server has used."""
    assert server.process is not None
    root = psutil.Process(server.process.pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _table(
    work: Relaying, rates: dict[str, list[float]], shares: dict[str, list[float]], failed: dict[str, int]
) -> str:
    lines = [
        f"\n### {work.title}\n",
        f"| | {work.unit} | × {work.to} (aim {work.aim:g}) | the same, per second of its processor | failed |",
        "|---|--:|--:|--:|--:|",
    ]
    for title, own in rates.items():
        cells = (
            title,
            f"{statistics.median(own):,.0f}",
            _ratio(own, rates.get(work.to)),
            _ratio(shares[title], shares.get(work.to)),
            str(failed[title]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(above: list[float], below: list[float] | None) -> str:
    if not below or not all(below) or above is below:
        return ""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def measure_idle(folder: Path, cores: tuple[int | None, int | None], without: frozenset[str]) -> str:
    """Memory of idle relayed connections."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 2 * IDLE_RELAYS + 1000:
        raise BenchError(
            f"{IDLE_RELAYS} relays need {2 * IDLE_RELAYS + 1000} open files; the hard limit is {hard}"
        )
    lines = [
        f"\n### {IDLE_RELAYS:,} idle relayed connections\n",
        "| | KiB each (aim: at most 40) |",
        "|---|--:|",
    ]
    with running(folder, cores[0], cores[1], without) as (servers, _, sink):
        for server in servers:
            conns: list[socket.socket] = []
            _relay(server, sink, conns, 100)  # for warming up
            before = server.memory()
            _relay(server, sink, conns, IDLE_RELAYS)
            lines.append(f"| {server.name} | {(server.memory() - before) / IDLE_RELAYS / 1024:.1f} |")
            for conn in (*conns, *sink.kept):
                conn.close()
            sink.kept.clear()
    return "\n".join(lines)


def _relay(server: Server, sink: _Sink, conns: list[socket.socket], count: int) -> None:
    """Has so many more connections relayed to the sink."""
    wanted = len(sink.kept) + count
    for _ in range(count):
        conns.append(socket.create_connection(("127.0.0.1", server.ports["sink"]), 10))
    deadline = time.monotonic() + 30
    while len(sink.kept) < wanted:
        if time.monotonic() > deadline:
            raise BenchError(f"{server.name} relays {len(sink.kept)} of {wanted} connections")
        time.sleep(0.05)
