"""The suite `http2proxy`: clients of HTTP/2 and gRPC through gorox, beside nginx, and beside no proxy at all."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from toolkit.benchmarks import h2load, proxies
from toolkit.benchmarks.servers import TOP_DIR, BenchError, Server, _ports, find_program

WORKS = {
    "proxied2": "HTTP/2 in front, HTTP/1.1 behind: hello, 16 connections × 32 streams",
    "proxied22": "HTTP/2 in front and behind: hello, 16 connections × 32 streams",
    "grpc": "gRPC, a unary call after another",
}

PEER = str(TOP_DIR / "tests" / "processes" / "grpcpeer.py")


def _upstream(folder: Path) -> Server:
    """An nginx that speaks both versions."""
    ports = _ports("old", "new")
    rest = f"""server {{
    listen 127.0.0.1:{ports["old"]}; listen 127.0.0.1:{ports["new"]} http2;
    location = / {{ return 200 "hello, world!"; }}
  }}"""
    return proxies._nginx(folder, "upstream", "", ports, rest)


def _nginx(folder: Path, origin: Server) -> Server:
    """Nginx speaks HTTP/2 to clients, and HTTP/1.1 to servers."""
    ports = _ports("proxied2")
    rest = f"""upstream up {{
    server 127.0.0.1:{origin.ports["old"]}; keepalive {proxies.KEPT}; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{ports["proxied2"]} http2;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}"""
    return proxies._nginx(folder, "nginx", "proxy_pass with keepalive, no log", ports, rest)


def _gorox(folder: Path, nodes: dict[str, tuple[int, str]]) -> Server:
    """Gorox in front of nodes: for each work a port and a version."""
    ports = _ports(*nodes)
    text = f"access_log: {{target: {folder}/gorox-access.log, format: combined}}\ndrain_timeout: 1s\n"
    text += "keepalive_timeout: 10m\nkeepalive_requests: 100000000\n"
    parts: dict[str, list[str]] = {"backends": [], "webapps": [], "servers": []}
    for work, (port, version) in nodes.items():
        parts["backends"].append(
            f'{work}: {{type: http_backend, version: "{version}", idle_conns: {proxies.KEPT},'
            f' nodes: [{{address: "127.0.0.1:{port}"}}]}}'
        )
        parts["webapps"].append(
            f'{work}: {{hostnames: ["*"], rules: [handlets: [{{http_proxy: {{to_backend: {work}}}}}]]}}'
        )
        parts["servers"].append(
            f'{work}: {{type: httpx_server, address: "127.0.0.1:{ports[work]}", webapps: [{work}]}}'
        )
    for section, lines in parts.items():
        text += f"{section}:\n" + "".join(f"  {line}\n" for line in lines)
    config = folder / "gorox-http2.yaml"
    config.write_text(text)
    program = str(TOP_DIR / "bin" / "gorox")
    command = [sys.executable, program, "--config", str(config), "--top-dir", str(folder)]
    return Server("gorox", "access log to a file", ports, command)


def measure(
    name: str,
    folder: Path,
    rounds: int,
    seconds: int,
    cores: tuple[int | None, int | None],
    without: frozenset[str],
) -> str:
    """A table of one work."""
    return (
        _measure_grpc(folder, rounds)
        if name == "grpc"
        else _measure(name, folder, rounds, seconds, cores, without)
    )


@contextlib.contextmanager
def _running(servers: list[tuple[Server, int | None]], folder: Path) -> Iterator[None]:
    try:
        for server, core in servers:
            server.start(folder, core)
        yield
    finally:
        for server, _ in servers:
            server.stop()


def _measure(
    name: str,
    folder: Path,
    rounds: int,
    seconds: int,
    cores: tuple[int | None, int | None],
    without: frozenset[str],
) -> str:
    origin = _upstream(folder)
    node = (origin.ports["old"], "1.1") if name == "proxied2" else (origin.ports["new"], "2")
    servers = [_gorox(folder, {"proxied2": node})]
    if "nginx" not in without and find_program("nginx"):
        servers.append(_nginx(folder, origin))
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    failed = dict.fromkeys(rates, 0)
    with _running([(origin, cores[1]), *[(server, cores[0]) for server in servers]], folder):
        for number in range(-1, rounds):  # the first is for warming up
            shift = number % len(servers)
            for server in servers[shift:] + servers[:shift]:
                run = h2load.run(f"http://127.0.0.1:{server.ports['proxied2']}/", seconds, cores[1])
                if number >= 0:
                    rates[server.name].append(run.requests_per_s)
                    failed[server.name] += run.failed
    lines = [
        f"\n### {WORKS[name]}\n",
        "| server | requests/s | × nginx | failed | |",
        "|---|--:|--:|--:|---|",
    ]
    for server in servers:
        own = rates[server.name]
        beside = [one / other for one, other in zip(own, rates.get("nginx", own), strict=True)]
        ratio = f"{statistics.median(beside):.2f} ({min(beside):.2f} to {max(beside):.2f})"
        cells = (server.name, f"{statistics.median(own):,.0f}", ratio, str(failed[server.name]), server.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _measure_grpc(folder: Path, rounds: int) -> str:
    """Latencies of one call after another: at most one of the three processes works at a time, wherever it likes."""
    node = subprocess.Popen(
        [sys.executable, PEER, "node"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert node.stdout is not None
        port = int(node.stdout.readline() or 0)
        if not port:
            raise BenchError("the server of gRPC is not up (pip install grpcio)")
        server = _gorox(folder, {"grpc": (port, "2")})
        took: dict[str, list[float]] = {"direct": [], "gorox": []}
        failed = dict.fromkeys(took, 0)
        with _running([(server, None)], folder):
            for number in range(-1, rounds):
                for name, target in (("direct", port), ("gorox", server.ports["grpc"])):
                    command = [
                        sys.executable,
                        PEER,
                        "client",
                        f"127.0.0.1:{target}",
                        "times",
                    ]
                    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
                    median, lost = json.loads(done.stdout)
                    if number >= 0:
                        took[name].append(median)
                        failed[name] += lost
    finally:
        node.kill()
        node.communicate()
    lines = [f"\n### {WORKS['grpc']}\n", "| through | p50 in ms | × direct | failed |", "|---|--:|--:|--:|"]
    for name, times in took.items():
        beside = [one / other for one, other in zip(times, took["direct"], strict=True)]
        ratio = f"{statistics.median(beside):.2f} ({min(beside):.2f} to {max(beside):.2f})"
        lines.append(f"| {name} | {statistics.median(times):.2f} | {ratio} | {failed[name]} |")
    return "\n".join(lines)
