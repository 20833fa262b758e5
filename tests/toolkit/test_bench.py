from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forwardkit import closed_port
from tests.running import TOP_DIR, require_program, run, until
from toolkit.benchmarks import h2load, processes, relays
from toolkit.benchmarks.servers import BenchError, Server, make_files
from toolkit.benchmarks.works import BROWSER_HEAD
from toolkit.benchmarks.wrk import Run, parse

OUTPUT = """\
Running 1s test @ http://127.0.0.1:3080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  345.12us   9.99ms   88.11%
    Req/Sec    62.44k     2.11k   65.01k    80.00%
  62312 requests in 1.00s, 9.86MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:  62298.11
Transfer/sec:      9.86MB
"""


def test_what_wrk_says() -> None:
    assert parse(OUTPUT) == Run(62312, 62298.11, 9.86 * 1024**2, 15, 1)


def test_what_wrk_says_when_something_is_wrong() -> None:
    with pytest.raises(BenchError):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


H2LOAD = """\
finished in 1.00s, 9034.00 req/s, 882.24KB/s
requests: 9546 total, 9546 started, 9034 done, 9030 succeeded, 4 failed, 0 errored, 0 timeout
status codes: 9030 2xx, 0 3xx, 0 4xx, 4 5xx
"""


def test_what_h2load_says() -> None:
    assert h2load.parse(H2LOAD) == Run(9030, 9034.0, 882.24 * 1024, 4)
    with pytest.raises(BenchError):
        h2load.parse("could not connect")


def test_a_browsers_head_has_twelve_fields_with_host() -> None:
    assert len(BROWSER_HEAD) == 11


def test_a_server_that_does_not_come_up_is_shown(tmp_path: Path) -> None:
    server = Server("broken", "", {"hello": 1}, ["sh", "-c", "echo it hurts; exit 3"])
    with pytest.raises(BenchError, match=r"broken is not up:\nit hurts"):
        server.start(tmp_path, None)
    assert server.process is None


def test_the_dialer_receives_what_the_source_sends() -> None:
    """The load of the suite `net`, without a proxy between."""
    port = closed_port()
    command = [sys.executable, "-m", "toolkit.benchmarks.dialer"]
    source = subprocess.Popen([*command, "source", f"127.0.0.1:{port}"], cwd=TOP_DIR)
    try:
        assert until(lambda: _answers(port))
        done = run([*command, "bulk", f"127.0.0.1:{port}", "--seconds", "0.2", "--conns", "2"], cwd=TOP_DIR)
        rate, failed = done.stdout.split()
        assert float(rate) > 1 << 20 and failed == "0"
    finally:
        source.kill()
        source.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_the_table_of_relays() -> None:
    rates = {"gorox": [100.0, 90.0, 80.0], "haproxy": [100.0, 100.0, 100.0]}
    table = relays._table(relays.WORKS["small"], rates, rates, {"gorox": 0, "haproxy": 1})
    assert "| gorox | 90 | 0.90 (0.80 to 1.00) | 0.90 (0.80 to 1.00) | 0 |" in table
    assert "| haproxy | 100 |  |  | 1 |" in table


@pytest.mark.slow
def test_reloads_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_program("wrk", "wrk")
    monkeypatch.setattr(processes, "SPAN", 3)
    monkeypatch.setitem(processes.CHANGES, "reloads", processes.Change("reloads", 2, ("reload",)))
    make_files(tmp_path)
    row = processes.WORKS["reloads"](tmp_path, 1, 1, (None, None)).splitlines()[-1]
    reloads, _, requests, failed = (cell.strip() for cell in row.strip("|").split("|"))
    assert reloads == "2" and int(requests.replace(",", "")) > 100 and failed == "0"


@pytest.mark.slow
def test_a_short_benchmark() -> None:
    require_program("wrk", "wrk")
    require_program("nginx", "nginx-light")
    peers = ["Granian", "gunicorn", "uvicorn", "waitress", "gevent.pywsgi"]
    command = [
        str(TOP_DIR / "toolkit" / "bench"),
        "web",
        "--only",
        "hello",
        "--rounds",
        "1",
        "--without",
        *peers,
    ]
    done = run(command, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| gorox", "| nginx"))]
    assert len(rows) == 2
    assert all(row.split("|")[5].strip() == "0" for row in rows), done.stdout
