"""Signals to a serving process: drain, stop, reload, reopen. Real processes, real signals, counted requests."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.event
import pytest

from tests.client import Client
from tests.running import GoroxProcess, until

Start = Callable[..., GoroxProcess]

CONFIG = """\
access_log: {target: "${log_dir}/access.log"}
drain_timeout: 20s
extensions: [slowly]
webapps:
  one:
    hostnames: ["*"]
    rules:
      - if: $path == "/slow"
        handlets: slowly
      - return_code: 200
        return_text: first
servers:
  main: {type: httpx_server, address: "127.0.0.1:0", webapps: [one]}
"""

SLOWLY = '''\
"""A handlet that answers when a file is there."""

import os

import gevent
import gevent.event

from hemi.web.handlet import Handlet


class Slowly(Handlet, sign="slowly"):
    """Waits for a file named go."""

    def handle(self, req, resp):
        open(os.path.join(self.stage.dirs.top, "waiting"), "w").close()
        while not os.path.exists(os.path.join(self.stage.dirs.top, "go")):
            gevent.sleep(0.01)
        resp.send("done at last")
        return True
'''


@pytest.fixture
def process(gorox: Start, tmp_path: Path) -> GoroxProcess:
    (tmp_path / "slowly.py").write_text(SLOWLY)
    return gorox(CONFIG, env={"PYTHONPATH": str(tmp_path)})


def fetch(process: GoroxProcess, target: str = "/") -> str:
    with process.client() as client:
        return client.request("GET", target, close=True).text


def begin_slow(process: GoroxProcess) -> Client:
    """Begins a request that is answered when the file go is there."""
    client = process.client(timeout=30)
    client.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert until((process.folder / "waiting").exists)
    return client


def refused(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except (
        ConnectionRefusedError,
        ConnectionResetError,
    ):  # reset: it came between the last accept and the close
        return True
    return False


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_term_answers_what_was_begun(process: GoroxProcess, signum: signal.Signals) -> None:
    with begin_slow(process) as client:
        process.signal(signum)
        assert until(lambda: refused(process.address)), "new connections must be refused while draining"
        assert process.process.poll() is None
        (process.folder / "go").touch()
        assert client.read_answer().text == "done at last"
    assert process.wait() == 0
    assert "GET /slow" in (process.folder / "data/log/access.log").read_text()


def test_an_idle_connection_does_not_hold_it_up(process: GoroxProcess) -> None:
    with process.client() as client:
        assert client.request("GET", "/").text == "first"
        process.signal(signal.SIGTERM)
        assert client.is_closed()
        assert process.wait(5) == 0


def test_a_second_term_cuts(process: GoroxProcess) -> None:
    with begin_slow(process) as client:
        process.signal(signal.SIGTERM)
        assert until(lambda: refused(process.address))
        process.signal(signal.SIGTERM)
        assert client.read_to_end() == b""
        assert process.wait(5) == 10


def test_drain_timeout_cuts(gorox: Start, tmp_path: Path) -> None:
    (tmp_path / "slowly.py").write_text(SLOWLY)
    process = gorox(CONFIG.replace("20s", "300ms"), env={"PYTHONPATH": str(tmp_path)})
    with begin_slow(process) as client:
        process.signal(signal.SIGTERM)
        assert client.read_to_end() == b""
        assert process.wait(5) == 0


def test_an_endless_loop_does_not_keep_it_alive(gorox: Start, tmp_path: Path) -> None:
    (tmp_path / "slowly.py").write_text(SLOWLY.replace("gevent.sleep(0.01)", "pass"))
    process = gorox(CONFIG, env={"PYTHONPATH": str(tmp_path)})
    with begin_slow(process):
        for _ in range(3):
            process.signal(signal.SIGINT)
            time.sleep(0.05)  # the kernel merges equal signals that are pending
        assert process.wait(5) == 10


def test_hup_with_a_bad_file_changes_nothing(process: GoroxProcess) -> None:
    process.config.write_text(CONFIG.replace("return_code", "return_cod").replace("slowly]", "sloly]"))
    process.signal(signal.SIGHUP)
    assert until(lambda: process.log().count("test.yaml:") >= 2), process.log()
    assert "return_code" in process.log()
    assert "sloly" in process.log()
    assert fetch(process) == "first"
    process.config.write_text(CONFIG.replace("first", "second"))
    process.signal(signal.SIGHUP)
    assert until(lambda: fetch(process) == "second")


def test_hup_with_a_missing_file_changes_nothing(process: GoroxProcess) -> None:
    process.config.unlink()
    process.signal(signal.SIGHUP)
    assert until(lambda: "nothing was changed" in process.log())
    assert fetch(process) == "first"


def test_hup_with_an_address_in_use_changes_nothing(process: GoroxProcess) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = CONFIG.replace("first", "second").replace(":0", f":{port}")
        process.config.write_text(config)
        process.signal(signal.SIGHUP)
        assert until(lambda: "nothing was changed" in process.log())
        assert fetch(process) == "first"


def test_hup_moves_to_another_address(process: GoroxProcess) -> None:
    old = process.address
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        new = f"127.0.0.1:{probe.getsockname()[1]}"
    process.config.write_text(CONFIG.replace("first", "second").replace("127.0.0.1:0", new))
    process.signal(signal.SIGHUP)
    assert until(lambda: refused(old) and not refused(new))
    with Client(new) as client:
        assert client.request("GET", "/").text == "second"


def test_hup_lets_what_was_begun_finish(process: GoroxProcess) -> None:
    with begin_slow(process) as client:
        process.config.write_text(CONFIG.replace("first", "second"))
        process.signal(signal.SIGHUP)
        assert until(lambda: fetch(process) == "second")
        (process.folder / "go").touch()
        assert client.read_answer().text == "done at last"


def test_many_hups_are_few_reloads(process: GoroxProcess) -> None:
    process.config.write_text(CONFIG.replace("first", "second"))
    for _ in range(200):
        process.signal(signal.SIGHUP)
    assert until(lambda: fetch(process) == "second")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "Traceback" not in process.log()


def test_hup_and_term_together(process: GoroxProcess) -> None:
    process.signal(signal.SIGHUP)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "Traceback" not in process.log()


def test_usr1_reopens_the_logs(process: GoroxProcess) -> None:
    log = process.folder / "data" / "log" / "access.log"
    fetch(process, "/before")
    assert until(lambda: log.exists() and "/before" in log.read_text())
    moved = log.rename(log.with_name("access.old"))
    fetch(process, "/between")
    assert until(lambda: "/between" in moved.read_text())
    process.signal(signal.SIGUSR1)
    assert until(log.exists)
    fetch(process, "/after")
    assert until(lambda: "/after" in log.read_text())
    assert "/after" not in moved.read_text()


@pytest.mark.slow
def test_reloads_under_load_lose_nothing(process: GoroxProcess) -> None:
    """At least 50,000 requests, over kept and over new connections, while the configuration changes all the time."""
    wanted, kept, fresh = 50_000, [0] * 6, [0] * 2
    failed: list[str] = []
    done = gevent.event.Event()

    def check(answer_text: str) -> None:
        if not re.fullmatch(r"answer \d+", answer_text) and answer_text != "first":
            failed.append(answer_text)

    def keep_asking(number: int) -> None:
        client = process.client()
        while not done.is_set():
            # As every client must: a connection that the server said it closes is not used again.
            answer = client.request("GET", "/")
            check(answer.text)
            kept[number] += 1
            if answer.header("connection") == "close":
                client.close()
                client = process.client()
        client.close()

    def ask_anew(number: int) -> None:
        while not done.is_set():
            check(fetch(process))
            fresh[number] += 1

    askers = [gevent.spawn(keep_asking, number) for number in range(len(kept))]
    askers += [gevent.spawn(ask_anew, number) for number in range(len(fresh))]
    deadline = time.monotonic() + 120
    reloads = 0
    while (
        sum(kept) + sum(fresh) < wanted and time.monotonic() < deadline and not any(a.ready() for a in askers)
    ):
        reloads += 1
        process.config.write_text(CONFIG.replace("first", f"answer {reloads}"))
        process.signal(signal.SIGHUP)
        gevent.sleep(0.2)
    done.set()
    gevent.joinall(askers, timeout=20, raise_error=True)
    assert not failed
    assert sum(kept) + sum(fresh) >= wanted
    assert reloads >= 20
    assert "nothing was changed" not in process.log()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
