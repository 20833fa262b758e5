"""The leader and its workers: real forks, real signals, real kills."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from tests.client import Client
from tests.processes.leaderkit import CONFIG, TRICKY, Leader, Load, kill_hard
from tests.running import GoroxProcess, until
from tests.waiting import gone

Start = Callable[..., Leader]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(address: str) -> bool:
    try:
        Client(address, timeout=2).close()
    except (
        ConnectionRefusedError,
        ConnectionResetError,
    ):  # reset: it was in the queue when the socket was closed
        return True
    return False


# Starting and ending


def test_it_serves_and_quits(lead: Start) -> None:
    leader = lead(CONFIG, "--workers", "2")
    assert leader.fetch() == "first"
    workers = leader.wait_workers(2)
    assert leader.process.pid not in workers
    assert leader.end() == 0
    assert all(gone(pid) for pid in workers)
    assert refused(leader.address)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop_at_once(lead: Start, signum: signal.Signals) -> None:
    leader = lead(TRICKY)
    with leader.client() as client:
        client.send("GET /slow?s=20 HTTP/1.1\r\nhost: a\r\n\r\n")
        gevent.sleep(0.1)
        begun = time.monotonic()
        assert leader.end(signum) == 10
        assert time.monotonic() - begun < 4
        assert client.read_to_end() == b""


def test_term_answers_what_was_begun(lead: Start) -> None:
    leader = lead(TRICKY)
    with leader.client() as client:
        client.send("GET /slow?s=1 HTTP/1.1\r\nhost: a\r\n\r\n")
        gevent.sleep(0.2)
        leader.signal(signal.SIGTERM)
        assert until(lambda: refused(leader.address), 3)
        assert client.read_answer().text == "done at last"
    assert leader.wait() == 0


def test_a_second_term_hurries(lead: Start) -> None:
    leader = lead(TRICKY)
    with leader.client() as client:
        client.send("GET /slow?s=20 HTTP/1.1\r\nhost: a\r\n\r\n")
        gevent.sleep(0.2)
        leader.signal(signal.SIGTERM)
        assert until(lambda: refused(leader.address), 3)
        assert leader.end() == 10


def test_shutdown_delay_serves_on(lead: Start) -> None:
    ready = '      - {if: $path == "/ready", handlets: readiness}\n      - return_code: 200\n'
    config = "shutdown_delay: 1s\n" + CONFIG.replace("      - return_code: 200\n", ready)
    leader = lead(config)
    assert leader.fetch("/ready") == "ready\n"
    leader.signal(signal.SIGTERM)
    leader.wait_log("stopping in 1 s")
    assert leader.fetch("/ready") == "leaving\n"
    assert leader.fetch() == "first"
    assert leader.wait() == 0
    single = GoroxProcess(leader.folder, config)
    single.signal(signal.SIGTERM)
    with single.client() as client:
        assert until(lambda: client.request("GET", "/ready").text == "leaving\n", 5)
    single.signal(signal.SIGTERM)
    assert single.wait() == 10, "hurried"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (("return_text", "return_txt"), 21, 'did you mean "return_text"'),
        (("return_text", "- ]"), 21, "test.yaml:"),
        (("webapps:", "extensions: [no_such_module]\nwebapps:"), 21, "no_such_module"),
    ],
)
def test_what_cannot_boot(lead: Start, change: tuple[str, str], code: int, text: str) -> None:
    leader = lead(CONFIG.replace(*change, 1), wait=False)
    assert leader.wait() == code
    assert text in leader.log()


def test_an_address_in_use_is_no_boot(lead: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        leader = lead(CONFIG.replace(":0", f":{other.getsockname()[1]}"), wait=False)
        assert leader.wait() == 22
        assert "in use" in leader.log()


# Workers that go


def test_a_killed_worker_is_replaced(lead: Start) -> None:
    leader = lead(CONFIG, "--workers", "2")
    first, second = leader.wait_workers(2)
    load = Load(leader.address)
    assert until(lambda: load.count > 50)
    kill_hard(first)
    leader.wait_log("killed by SIGKILL")
    assert until(lambda: len(leader.workers()) == 2, 5)
    assert first not in leader.workers()
    assert second in leader.workers()
    load.stop()
    assert not [failure for failure in load.failures if "Refused" in failure]
    assert len(load.failures) <= 6  # what was in flight in that worker
    assert leader.end() == 0


def test_an_app_that_exits_is_replaced(lead: Start) -> None:
    leader = lead(TRICKY)
    leader.wait_workers(1)
    gevent.sleep(1.0)
    with pytest.raises((EOFError, ConnectionError)):
        leader.fetch("/exit?code=3")
    leader.wait_log("exit code 3")
    assert until(lambda: leader.fetch() == "first")
    assert leader.end() == 0


def test_workers_go_with_a_killed_leader(lead: Start) -> None:
    port = free_port()
    leader = lead(CONFIG.replace(":0", f":{port}"), "--workers", "2")
    workers = leader.wait_workers(2)
    leader.kill()
    assert until(lambda: all(gone(pid) for pid in workers), 2.5)
    assert refused(f"127.0.0.1:{port}")
    again = lead(CONFIG.replace(":0", f":{port}"))
    assert again.fetch() == "first"
    assert again.end() == 0


def test_a_blocked_worker_goes_with_a_killed_leader(lead: Start) -> None:
    leader = lead(TRICKY)
    workers = leader.wait_workers(1)
    with leader.client() as client:
        client.send("GET /block?s=30 HTTP/1.1\r\nhost: a\r\n\r\n")
        gevent.sleep(0.5)
        leader.kill()
        assert until(lambda: all(gone(pid) for pid in workers), 3)


def test_a_crash_loop_ends_in_failed(lead: Start, tmp_path: Path) -> None:
    leader = lead("start_attempts: 3\n" + TRICKY, "--workers", "2")
    leader.wait_workers(2)
    (tmp_path / "tricks.py").write_text("import os\nos._exit(77)\n")
    kill_hard(leader.workers()[0])
    leader.wait_log("has failed: 3 failures in a row, the last: ended (exit code 77)")
    assert leader.fetch() == "first"  # the other one serves
    assert leader.end() == 0


def test_a_blocked_hub_is_told_and_ended(lead: Start) -> None:
    leader = lead("hang_timeout: 2s\n" + TRICKY, "--workers", "2")
    leader.wait_workers(2)
    pids = {leader.fetch("/pid") for _ in range(20)}
    with leader.client() as client:
        client.send("GET /block?s=30 HTTP/1.1\r\nhost: a\r\n\r\n")
        leader.wait_log("culprit_of_the_block", timeout=5)
        assert leader.fetch("/pid") in pids  # the other one goes on
        leader.wait_log("is killed: its hub was blocked", timeout=6)
    leader.wait_workers(2)
    assert leader.end() == 0


def test_who_holds_the_interpreter_is_told_and_ended(lead: Start) -> None:
    """Not even the watchdog's thread runs then: the leader hears nothing, and has the process write down its stacks."""
    leader = lead("hang_timeout: 2s\n" + TRICKY, "--workers", "2")
    leader.wait_workers(2)
    with leader.client() as client:
        client.send("GET /hold?s=30 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert {leader.fetch() for _ in range(10)} == {"first"}  # the other one goes on
        leader.wait_log("is killed: it gave no sign of life for", timeout=10)
        leader.wait_log("in culprit_that_holds_the_lock")
    leader.wait_workers(2)
    assert leader.end() == 0


# Changes


def test_hup_reloads_all_workers(lead: Start) -> None:
    leader = lead(CONFIG, "--workers", "2")
    workers = leader.wait_workers(2)
    leader.config.write_text(CONFIG.replace("first", "second"))
    leader.signal(signal.SIGHUP)
    leader.wait_log("reload: done")
    assert {leader.fetch() for _ in range(20)} == {"second"}
    assert leader.workers() == workers
    assert leader.end() == 0


def test_hup_with_a_bad_file_changes_nothing(lead: Start) -> None:
    leader = lead(CONFIG, "--workers", "2")
    leader.config.write_text(CONFIG.replace("return_text", "return_txt").replace("hostnames", "hostname"))
    leader.signal(signal.SIGHUP)
    leader.wait_log("reload: nothing was changed")
    leader.wait_log("test.yaml:", count=2)
    assert leader.fetch() == "first"
    assert leader.end() == 0


def test_a_reload_that_one_worker_cannot_do_changes_none(lead: Start, tmp_path: Path) -> None:
    config = CONFIG.replace("extensions", "").replace("hostnames", 'init: "odd:hook"\n    hostnames')
    (tmp_path / "odd.py").write_text(
        "import os\n"
        "def hook(webapp):\n"
        "    try:\n"
        "        os.close(os.open(os.environ['ODD'], os.O_CREAT | os.O_EXCL))\n"
        "    except FileExistsError:\n"
        "        raise RuntimeError('only one can')\n"
    )
    leader = lead(CONFIG, "--workers", "2", env={"ODD": str(tmp_path / "taken")})
    leader.wait_workers(2)
    leader.config.write_text(config.replace("first", "second"))
    leader.signal(signal.SIGHUP)
    leader.wait_log("nothing was changed: 1 of 2 worker(s)")
    assert {leader.fetch() for _ in range(20)} == {"first"}
    (tmp_path / "taken").unlink()
    assert leader.end() == 0


def test_a_reload_moves_to_another_address(lead: Start) -> None:
    port = free_port()
    leader = lead(CONFIG, "--workers", "2")
    leader.wait_workers(2)
    old = leader.address
    leader.config.write_text(CONFIG.replace(":0", f":{port}"))
    leader.signal(signal.SIGHUP)
    leader.wait_log("reload: done")
    assert until(lambda: refused(old), 5)
    with Client(f"127.0.0.1:{port}") as client:
        assert client.request("GET", "/", close=True).text == "first"
    kill_hard(leader.workers()[0])
    leader.wait_workers(2)
    assert not refused(f"127.0.0.1:{port}")
    assert leader.end() == 0


def test_ttin_and_ttou_change_the_number(lead: Start) -> None:
    leader = lead()
    leader.wait_workers(1)
    leader.signal(signal.SIGTTIN)
    leader.wait_workers(2)
    leader.signal(signal.SIGTTOU)
    leader.wait_workers(1)
    leader.signal(signal.SIGTTOU)
    leader.wait_log("the number of workers must be 1 to")
    assert leader.fetch() == "first"
    assert leader.end() == 0


@pytest.mark.slow
def test_reloads_under_load_lose_nothing(lead: Start) -> None:
    leader = lead(CONFIG, "--workers", "2")
    leader.wait_workers(2)
    load = Load(leader.address)
    for number in range(1, 6):
        leader.config.write_text(CONFIG.replace("first", f"answer {number}"))
        leader.signal(signal.SIGHUP)
        leader.wait_log("reload: done", count=number)
    load.stop()
    assert not load.failures
    assert load.count > 100
    assert leader.end() == 0


@pytest.mark.slow
def test_upgrades_under_load_lose_nothing(lead: Start, tmp_path: Path) -> None:
    pid_file = tmp_path / "gorox.pid"
    leader = lead(CONFIG, "--workers", "2", "--pid-file", str(pid_file))
    leader.wait_workers(2)
    old = leader.process.pid
    load = Load(leader.address)
    try:
        assert until(lambda: load.count > 50)
        leader.signal(signal.SIGUSR2)
        assert leader.wait(30) == 0
        heir = int(pid_file.read_text())
        assert heir != old
        assert until(lambda: load.count > 100)
    finally:
        load.stop()
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
    assert until(lambda: gone(heir), 20)
    assert not load.failures
    assert refused(leader.address)
    assert not pid_file.exists()


def test_an_upgrade_that_fails_changes_nothing(lead: Start) -> None:
    leader = lead(CONFIG, "--workers", "2")
    workers = leader.wait_workers(2)
    leader.config.write_text(CONFIG.replace("return_text", "return_txt"))
    leader.signal(signal.SIGUSR2)
    leader.wait_log("upgrade: nothing was changed")
    assert leader.workers() == workers
    assert leader.fetch() == "first"
    assert leader.end() == 0
