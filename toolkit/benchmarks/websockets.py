"""The suite "websocket": echoes beside uvicorn with the websockets package, and the memory of idle WebSockets."""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from toolkit.benchmarks import wsload
from toolkit.benchmarks.servers import TOP_DIR, BenchError, Server, _ports, find_program, pinned

CONNECTIONS = 64
IDLE = 5000
WORKS: dict[str, tuple[int, float]] = {"wsecho": (125, 1.0), "wsecho64k": (65536, 0.5)}
"""Bytes of a message, and how many times uvicorn's rate is the aim."""


def gorox(folder: Path) -> Server:
    """Gorox with the socklet echo, its access log written to a file."""
    ports = _ports("echo")
    config = folder / "gorox-websocket.yaml"
    config.write_text(
        f"access_log: {{target: {folder}/gorox-access.log, format: combined}}\n"
        "drain_timeout: 1s\n"
        'webapps: {echo: {hostnames: ["*"], rules: [socklets: echo]}}\n'
        f'servers: {{echo: {{type: httpx_server, address: "127.0.0.1:{ports["echo"]}", webapps: [echo]}}}}\n'
    )
    program = str(TOP_DIR / "bin" / "gorox")
    command = [sys.executable, program, "--config", str(config), "--top-dir", str(folder)]
    return Server("gorox", "socklet, access log to a file", ports, command)


def uvicorn() -> Server:
    """Uvicorn with uvloop and the websockets package, an ASGI app."""
    ports = _ports("echo")
    command = [
        find_program("uvicorn") or "", "--no-access-log", "--log-level", "warning", "--lifespan", "off", "--ws",
        "websockets", "--port", str(ports["echo"]), "toolkit.benchmarks.apps:echo_asgi",
    ]  # fmt: skip
    return Server("uvicorn", "ASGI, websockets, no log", ports, command)


@contextlib.contextmanager
def running(folder: Path, core: int | None, without: frozenset[str]) -> Iterator[list[Server]]:
    """Runs both, and stops them at the end."""
    servers = [gorox(folder)]
    if "uvicorn" not in without and find_program("uvicorn"):
        servers.append(uvicorn())
    try:
        for server in servers:
            server.start(folder, core)
        yield servers
    finally:
        for server in servers:
            server.stop()


def measure(
    name: str,
    folder: Path,
    rounds: int,
    seconds: int,
    cores: tuple[int | None, int | None],
    without: frozenset[str],
) -> str:
    """A table of one work."""
    size, aim = WORKS[name]
    with running(folder, cores[0], without) as servers:
        rates: dict[str, list[float]] = {server.name: [] for server in servers}
        failed = dict.fromkeys(rates, 0)
        for number in range(-1, rounds):  # the first is for warming up
            shift = number % len(servers)
            for server in servers[shift:] + servers[:shift]:
                result = _load(server.ports["echo"], size, seconds, cores[1])
                if number >= 0:
                    rates[server.name].append(result.rate)
                    failed[server.name] += result.failed
    lines = [
        f"\n### WebSocket echo, {size:,} bytes, {CONNECTIONS} connections\n",
        f"| server | messages/s | gorox is × this (aim {aim:g}) | failed | |",
        "|---|--:|--:|--:|---|",
    ]
    for server in servers:
        own = rates[server.name]
        ratios = [mine / its for mine, its in zip(rates["gorox"], own, strict=True) if its]
        to = (
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            if server.name != "gorox"
            else ""
        )
        lines.append(
            f"| {server.name} | {statistics.median(own):,.0f} | {to} | {failed[server.name]} | {server.note} |"
        )
    return "\n".join(lines)


def _load(port: int, size: int, seconds: int, core: int | None) -> wsload.Result:
    command = [sys.executable, "-m", "toolkit.benchmarks.wsload"]
    done = subprocess.run(
        [*pinned(core), *command, str(port), str(CONNECTIONS), str(size), str(seconds)],
        capture_output=True,
        text=True,
        cwd=TOP_DIR,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"the load failed: {done.stderr[-2000:]}")
    rate, failed = done.stdout.split()
    return wsload.Result(float(rate), int(failed))


def measure_idle(folder: Path, cores: tuple[int | None, int | None], without: frozenset[str]) -> str:
    """Memory of idle WebSockets that have all echoed something once."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < IDLE + 100:
        raise BenchError(f"{IDLE} WebSockets need as many open files; the hard limit is {hard} (ulimit -Hn)")
    lines = [
        f"\n### {IDLE:,} idle WebSockets\n",
        "| server | KiB each (aim: at most 40) | |",
        "|---|--:|---|",
    ]
    frame, echo = wsload.make_frame(125)
    with running(folder, cores[0], without) as servers:
        for server in servers:
            _load(server.ports["echo"], 125, 1, cores[1])
            before = server.memory()
            socks: list[socket.socket] = []
            try:
                for _ in range(IDLE):
                    sock = wsload.connect(server.ports["echo"])
                    socks.append(sock)
                    sock.sendall(frame)
                    if sock.recv(len(echo), socket.MSG_WAITALL) != echo:
                        raise BenchError(f"{server.name} gave another echo")
                memory = server.memory() - before
            finally:
                for sock in socks:
                    sock.close()
            lines.append(f"| {server.name} | {memory / IDLE / 1024:.1f} | {server.note} |")
    return "\n".join(lines)
