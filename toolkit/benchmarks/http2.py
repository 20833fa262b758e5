"""The suite `http2`: gorox and its peers by HTTP/2 with prior knowledge, under h2load (16 connections × 32 streams)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from toolkit.benchmarks import h2load
from toolkit.benchmarks.proxies import _nginx
from toolkit.benchmarks.servers import TOP_DIR, Server, _free_port, _ports, find_program
from toolkit.benchmarks.works import BROWSER_HEAD, Work
from toolkit.benchmarks.wrk import Run

BROWSER = tuple(line.lower() for line in BROWSER_HEAD if not line.lower().startswith(("connection", "host")))

WORKS: dict[str, Work] = {
    "h2hello": Work("HTTP/2: handlet hello", "handlet"),
    "h2head": Work("HTTP/2: handlet hello, a browser's head", "handlet", fields=BROWSER),
    "h2wsgi": Work("HTTP/2: WSGI hello", "wsgi"),
    "h2file1k": Work("HTTP/2: static file of 1 KiB", "files", "/1k.txt"),
    "h2file10m": Work("HTTP/2: static file of 10 MiB", "files", "/10m.bin", figure="bytes_per_s"),
}


def load(url: str, seconds: int, core: int | None, work: Work) -> Run:
    """Loads a URL by h2load; with large files one after another on each connection, lest none ends in time."""
    streams = 1 if work.figure == "bytes_per_s" else 32
    return h2load.run(url, seconds, core, streams=streams, fields=work.fields)


def gorox(folder: Path) -> list[Server]:
    """Gorox, with the access log written to a file."""
    ports = _ports("handlet", "wsgi", "files")
    config = folder / "gorox-h2.yaml"
    config.write_text(f"""\
extensions: [toolkit.benchmarks.handlets]
access_log: {{target: {folder}/gorox-access.log, format: combined}}
drain_timeout: 1s
keepalive_requests: 100000000
webapps:
  handlet: {{hostnames: ["*"], rules: [handlets: bench_hello]}}
  wsgi: {{hostnames: ["*"], rules: [handlets: [{{wsgi: {{app: "toolkit.benchmarks.apps:hello"}}}}]]}}
  files: {{hostnames: ["*"], web_root: {folder}/public, rules: [handlets: static]}}
servers:
""")
    with config.open("a") as more:
        for work, port in ports.items():
            more.write(f'  {work}: {{type: httpx_server, address: "127.0.0.1:{port}", webapps: [{work}]}}\n')
    program = str(TOP_DIR / "bin" / "gorox")
    command = [sys.executable, program, "--config", str(config), "--top-dir", str(folder)]
    return [Server("gorox", "access log to a file", ports, command)]


def nginx(folder: Path) -> list[Server]:
    """Nginx, answering from its configuration where the others run code."""
    ports = _ports("handlet", "files")
    rest = f"""open_file_cache max=100 inactive=60s;
  server {{ listen 127.0.0.1:{ports["handlet"]} http2; location / {{ return 200 "hello, world!"; }} }}
  server {{ listen 127.0.0.1:{ports["files"]} http2; root {folder}/public; }}"""
    ports["wsgi"] = ports["handlet"]
    return [_nginx(folder, "nginx", "`return 200`, no log", ports, rest)]


def granian(folder: Path) -> list[Server]:
    """Granian: one worker, its WSGI interface."""
    port = _free_port()
    command = [
        find_program("granian") or "", "--interface", "wsgi", "--workers", "1", "--host", "127.0.0.1", "--no-log",
        "--http", "2", "--port", str(port), "toolkit.benchmarks.apps:hello",
    ]  # fmt: skip
    return [Server("Granian", "WSGI, no log", dict.fromkeys(("handlet", "wsgi"), port), command)]


def hypercorn(folder: Path) -> list[Server]:
    """Hypercorn: one worker, an ASGI app."""
    port = _free_port()
    program = find_program("hypercorn") or ""
    command = [program, "-w", "1", "-b", f"127.0.0.1:{port}", "toolkit.benchmarks.apps:hello_asgi"]
    return [Server("hypercorn", "ASGI, no log", {"handlet": port}, command)]


PEERS: tuple[tuple[str, str, Callable[[Path], list[Server]]], ...] = (
    ("nginx", "apt install nginx-light", nginx),
    ("Granian", "pip install granian", granian),
    ("hypercorn", "pip install hypercorn", hypercorn),
)


@contextlib.contextmanager
def running(
    folder: Path, work: str, server_core: int | None, without: frozenset[str]
) -> Iterator[list[Server]]:
    """Runs gorox and the peers that can do a work, and stops them all at the end."""
    servers = gorox(folder)
    for name, _, make in PEERS:
        if name not in without and find_program(name.lower()):
            servers += [one for one in make(folder) if work in one.ports]
    try:
        for server in servers:
            server.start(folder, server_core)
        yield servers
    finally:
        for server in servers:
            server.stop()
