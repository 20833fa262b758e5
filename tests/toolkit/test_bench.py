from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import TOP_DIR, require_program, run
from toolkit.benchmarks.servers import BenchError, Server
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
    assert parse(OUTPUT) == Run(62312, 62298.11, 9.86 * 1024**2, 15)


def test_what_wrk_says_when_something_is_wrong() -> None:
    with pytest.raises(BenchError):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_browsers_head_has_twelve_fields_with_host() -> None:
    assert len(BROWSER_HEAD) == 11


def test_a_server_that_does_not_come_up_is_shown(tmp_path: Path) -> None:
    server = Server("broken", "", {"hello": 1}, ["sh", "-c", "echo it hurts; exit 3"])
    with pytest.raises(BenchError, match=r"broken is not up:\nit hurts"):
        server.start(tmp_path, None)
    assert server.process is None


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
