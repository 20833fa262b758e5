"""Memory: of idle connections, and over a million requests."""

from __future__ import annotations

import resource
import socket
import statistics
from pathlib import Path

from toolkit.benchmarks import wrk
from toolkit.benchmarks.servers import IDLE_CONNS, BenchError, Server, running

_HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PYTHON_PEERS = frozenset({"Granian", "gunicorn", "uvicorn", "waitress", "gevent.pywsgi"})
_TOTAL = 1_000_000
_STEP = 100_000


def measure_idle(folder: Path, server_core: int | None, load_core: int | None) -> str:
    """Memory of 10,000 idle keep-alive connections, and hello's rate while they are there."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < IDLE_CONNS + 100:
        raise BenchError(
            f"{IDLE_CONNS} connections need as many open files; the hard limit is {hard} (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = [
        f"\n### {IDLE_CONNS:,} idle keep-alive connections\n",
        "| server | KiB a connection | hello while they are there, × without | |",
        "|---|--:|--:|---|",
    ]
    with running(folder, "handlet", server_core, _PYTHON_PEERS) as servers:
        for server in servers:
            lines.append(_idle_row(server, load_core))
    return "\n".join(lines)


def _idle_row(server: Server, load_core: int | None) -> str:
    port = server.ports["handlet"]
    url = f"http://127.0.0.1:{port}/"
    wrk.run(url, 2, load_core)
    before = server.memory()
    ratios: list[float] = []
    conns: list[socket.socket] = []
    try:
        without = [wrk.run(url, 1, load_core).requests_per_s for _ in range(3)]
        for _ in range(IDLE_CONNS):
            conn = socket.create_connection(("127.0.0.1", port), 10)
            conns.append(conn)
            conn.sendall(_HELLO)
            if not conn.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchError(f"{server.name} refused a connection after {len(conns)}")
        memory = server.memory() - before
        busy = [wrk.run(url, 1, load_core).requests_per_s for _ in range(3)]
        for conn in conns[:: IDLE_CONNS // 100]:  # they must still be served
            conn.sendall(_HELLO)
            if not conn.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchError(f"{server.name} dropped an idle connection")
    finally:
        for conn in conns:
            conn.close()
    without += [wrk.run(url, 1, load_core).requests_per_s for _ in range(3)]
    ratios = [statistics.median(busy) / statistics.median(without)]
    return f"| {server.name} | {memory / IDLE_CONNS / 1024:.1f} | {ratios[0]:.2f} | {server.note} |"


def measure_slope(folder: Path, server_core: int | None, load_core: int | None) -> str:
    """How resident memory grows over a million requests."""
    with running(folder, "handlet", server_core, _PYTHON_PEERS | {"nginx"}) as servers:
        server = servers[0]
        url = f"http://127.0.0.1:{server.ports['handlet']}/"
        done = wrk.run(url, 3, load_core).requests  # caches and free lists have their size then
        start, samples = done, [(0, server.memory())]
        while done - start < _TOTAL:
            done += wrk.run(url, 3, load_core).requests
            samples.append((done - start, server.memory()))
    slope = statistics.linear_regression([at for at, _ in samples], [size for _, size in samples]).slope
    return (
        f"\n### Memory over {done - start:,} requests\n\n"
        f"From {samples[0][1] / (1 << 20):.1f} to {samples[-1][1] / (1 << 20):.1f} MiB:"
        f" {slope * _STEP / (1 << 20):.3f} MiB more for every 100,000 requests."
    )
