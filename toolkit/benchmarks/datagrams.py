"""The rows `udp…` of the suite `net`: gorox and nginx (stream) relaying datagrams to an echo, on the core of the load.

The load is a program in C (udpload.c), built with `cc`: it must cost less than what it loads. Where the core of the
load is the bottleneck all look alike, so each row also says what a server did with a second of its own processor.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from toolkit.benchmarks.servers import BOOT_TIMEOUT, TOP_DIR, BenchError, Server, find_program, pinned

Cores = tuple[int | None, int | None]

AIM = 0.4
"""What the ratio to nginx should be."""

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


class Datagrams(NamedTuple):
    """A work: what `udpload` is told behind the port and the seconds."""

    title: str
    command: str
    arguments: tuple[str, ...]
    port: str


WORKS: dict[str, Datagrams] = {
    "udp64": Datagrams("datagrams of 64 bytes, 32 sessions", "load", ("64", "32", "4"), "many"),
    "udp1200": Datagrams("datagrams of 1200 bytes, 32 sessions", "load", ("1200", "32", "4"), "many"),
    "udpnew": Datagrams("a session for each datagram, as of DNS", "once", ("64", "32"), "once"),
}


class Figure(NamedTuple):
    """What a run came to: datagrams a second, those lost, and datagrams for a second of the server's processor."""

    rate: float
    lost: int
    for_a_second: float


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _build(folder: Path) -> str:
    program = folder / "udpload"
    source = Path(__file__).with_name("udpload.c")
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("cc is missing (Debian, Ubuntu: apt install gcc libc6-dev)")
    done = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"udpload cannot be built: {done.stderr[-500:]}")
    return str(program)


def gorox(folder: Path, ports: dict[str, int], echo: int) -> Server:
    """Gorox, with the access log written to a file."""
    lines = [
        f"access_log: {{target: {folder}/gorox-access.log, format: combined}}",
        "drain_timeout: 1s",
        f'backends: {{echo: {{type: udpx_backend, nodes: [{{address: "127.0.0.1:{echo}"}}]}}}}',
        "routers:",
    ]
    for name, more in (("many", ""), ("once", ", responses: 1")):
        lines += [
            f'  {name}: {{type: udpx_router, address: "127.0.0.1:{ports[name]}",',
            f"    cases: [{{dealets: [{{udpx_proxy: {{to_backend: echo{more}}}}}]}}]}}",
        ]
    config = folder / "gorox-udp.yaml"
    config.write_text("\n".join(lines) + "\n")
    program = str(TOP_DIR / "bin" / "gorox")
    command = [sys.executable, program, "--config", str(config), "--top-dir", str(folder)]
    return Server("gorox", "access log to a file", {}, command)


def nginx(folder: Path, ports: dict[str, int], echo: int) -> Server:
    """Nginx's stream module, one worker."""
    module = f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""
    config = folder / "nginx-udp.conf"
    config.write_text(f"""\
{module}
user root; worker_processes 1; daemon off; pid {folder}/nginx-udp.pid; error_log {folder}/nginx-udp.log;
events {{ worker_connections 16384; }}
stream {{
  server {{ listen 127.0.0.1:{ports["many"]} udp; proxy_pass 127.0.0.1:{echo}; proxy_timeout 60s; }}
  server {{ listen 127.0.0.1:{ports["once"]} udp; proxy_pass 127.0.0.1:{echo}; proxy_responses 1; }}
}}
""")
    command = [find_program("nginx") or "", "-e", f"{folder}/nginx-udp.log", "-c", str(config)]
    return Server("nginx", "stream, no log", {}, command)


@contextlib.contextmanager
def _running(
    folder: Path, cores: Cores, program: str, without: frozenset[str]
) -> Iterator[list[tuple[Server, dict[str, int]]]]:
    """The echo on the core of the load, and the servers with their ports."""
    echo = _free_port()
    behind = Server("udp echo", "", {}, [program, "echo", str(echo)])
    found: list[tuple[Server, dict[str, int]]] = []
    try:
        behind.start(folder, cores[1])
        _await_echo(behind, echo)
        for name, make in (("gorox", gorox), ("nginx", nginx)):
            if name not in without and (name == "gorox" or find_program(name)):
                ports = {"many": _free_port(), "once": _free_port()}
                server = make(folder, ports, echo)
                found.append((server, ports))
                server.start(folder, cores[0])
                for port in ports.values():
                    _await_echo(server, port)
        yield found
    finally:
        for server, _ in found:
            server.stop()
        behind.stop()


def _await_echo(server: Server, port: int) -> None:
    """Waits until a datagram comes back. Raises BenchError."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.connect(("127.0.0.1", port))
        while time.monotonic() < deadline:
            try:
                sock.send(b"ready?")
                sock.recv(100)
                return
            except OSError:
                time.sleep(0.05)
    raise BenchError(f"{server.name} is not up:\n{server.output.read_text(errors='replace')[-2000:]}")


def measure(
    work: Datagrams, folder: Path, rounds: int, seconds: int, cores: Cores, without: frozenset[str]
) -> str:
    """Loads the servers in turn, and returns a table. Raises BenchError."""
    program = _build(folder)
    with _running(folder, cores, program, without) as servers:
        figures: dict[str, list[Figure]] = {server.name: [] for server, _ in servers}
        for number in range(-1, rounds):  # the first is for warming up
            shift = number % len(servers)
            for server, ports in servers[shift:] + servers[:shift]:
                figure = _run(server, ports[work.port], work, program, seconds, cores[1])
                if number >= 0:
                    figures[server.name].append(figure)
        return _table(work, servers, figures)


def _run(server: Server, port: int, work: Datagrams, program: str, seconds: int, core: int | None) -> Figure:
    before = _processor(server)
    done = subprocess.run(
        [*pinned(core), program, work.command, str(port), str(seconds), *work.arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"udpload failed: {done.stderr[-500:]}")
    rate, lost = done.stdout.split()
    used = max(_processor(server) - before, 0.01)
    return Figure(float(rate), int(lost), float(rate) * seconds / used)


def _processor(server: Server) -> float:
    """Seconds of processor that a server's processes have used."""
    assert server.process is not None
    root = psutil.Process(server.process.pid)
    times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def _table(
    work: Datagrams, servers: list[tuple[Server, dict[str, int]]], figures: dict[str, list[Figure]]
) -> str:
    lines = [
        f"\n### {work.title}\n",
        "| server | datagrams/s | × nginx | for a second of its processor | × nginx | lost | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for server, _ in servers:
        own, to = figures[server.name], figures.get("nginx", [])
        rate = statistics.median(each.rate for each in own)
        work_done = statistics.median(each.for_a_second for each in own)
        ratios = _ratio([each.rate for each in own], [each.rate for each in to])
        per_cpu = _ratio([each.for_a_second for each in own], [each.for_a_second for each in to])
        note = server.note + (f"; should be {AIM}" if server.name == "gorox" and work.port == "many" else "")
        cells = (
            server.name,
            f"{rate:,.0f}",
            ratios,
            f"{work_done:,.0f}",
            per_cpu,
            str(sum(each.lost for each in own)),
        )
        lines.append(f"| {' | '.join(cells)} | {note} |")
    return "\n".join(lines)


def _ratio(above: list[float], below: list[float]) -> str:
    if not below or not all(below):
        return ""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
