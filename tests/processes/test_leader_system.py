"""The leader among others: service managers, users, containers, and workers that outgrow their limits."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import psutil
import pytest

from tests.client import Client
from tests.processes.leaderkit import CONFIG, GOROX, TRICKS, TRICKY, Leader, Load
from tests.running import TOP_DIR, run, until
from tests.waiting import gone

Start = Callable[..., Leader]

need_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


# Daemons


def start_daemon(folder: Path, config: str) -> tuple[int, str]:
    """Starts a daemon; returns the starter's exit code, and what it said."""
    (folder / "test.yaml").write_text(config)
    command = [sys.executable, GOROX, "--daemon", "--top-dir", str(folder), "--config", "test.yaml"]
    done = run(command, env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_a_daemon(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = CONFIG.replace(":0", f":{port}")
    assert start_daemon(tmp_path, config) == (0, "")
    pid_file = tmp_path / "data/var/gorox.pid"
    pid = int(pid_file.read_text())
    try:
        with Client(f"127.0.0.1:{port}") as client:  # it serves when the starter has ended
            assert client.request("GET", "/", close=True).text == "first"
        assert os.getsid(pid) != os.getsid(0)
        assert psutil.Process(pid).cwd() == str(tmp_path)
        code, text = start_daemon(tmp_path, config)
        assert (code, text) == (22, f"gorox: {pid_file}: process {pid} is running already\n")
        out, err = tmp_path / "data/log/gorox.out", tmp_path / "data/log/gorox.err"
        assert f"http://127.0.0.1:{port}/" in out.read_text()
        err.rename(tmp_path / "moved")
        os.kill(pid, signal.SIGUSR1)
        assert until(err.exists)
    finally:
        os.kill(pid, signal.SIGTERM)
        assert until(lambda: gone(pid), 20)
    assert not pid_file.exists()


def test_a_daemon_that_cannot_boot_says_so(tmp_path: Path) -> None:
    code, text = start_daemon(tmp_path, CONFIG.replace("return_text", "return_txt"))
    assert code == 21
    assert "test.yaml:7:9" in text
    assert not (tmp_path / "data/var/gorox.pid").exists()
    done = run(
        [sys.executable, GOROX, "--daemon", "--stdout", "/dev/null/x", "--top-dir", str(tmp_path)],
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        22,
        "",
        "gorox: cannot open /dev/null/x: Not a directory\n",
    )


def test_a_stale_pid_file_is_no_obstacle(lead: Start, tmp_path: Path) -> None:
    (tmp_path / "old.pid").write_text(f"{os.getpid()}\n")
    leader = lead(CONFIG, "--pid-file", str(tmp_path / "old.pid"))
    assert (tmp_path / "old.pid").read_text() == f"{leader.process.pid}\n"
    assert leader.end() == 0


# Users


def reaches_python(user: pwd.struct_passwd) -> bool:
    """Whether a user can run the Python that runs this (a development one may be in root's own folder)."""
    code = "import os, sys; os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[2])); import logging, gevent"
    return run([sys.executable, "-c", code, str(user.pw_gid), str(user.pw_uid)], cwd=TOP_DIR).returncode == 0


@need_root
def test_workers_have_another_group(lead: Start) -> None:
    gid = grp.getgrnam("nogroup").gr_gid
    leader = lead(TRICKY, "--user", "root", "--group", "nogroup", "--allow-root")
    assert leader.fetch("/uid").startswith(f"0:{gid}:")
    assert leader.end() == 0


@need_root
def test_workers_are_somebody_else(lead: Start, tmp_path: Path) -> None:
    if not reaches_python(pwd.getpwnam("nobody")):
        pytest.skip(f"{sys.executable} is out of nobody's reach")
    for folder in [tmp_path, *tmp_path.parents]:  # the user must reach the configuration
        if folder.owner() == pwd.getpwuid(os.getuid()).pw_name and len(folder.parts) > 2:
            folder.chmod(0o755)
    leader = lead(TRICKY, "--user", "nobody")
    nobody = pwd.getpwnam("nobody")
    assert leader.fetch("/uid") == f"{nobody.pw_uid}:{nobody.pw_gid}:[{nobody.pw_gid}]"
    assert os.stat(tmp_path / "data/log").st_uid == nobody.pw_uid
    leader.signal(signal.SIGHUP)
    leader.wait_log("reload: done")
    assert leader.end() == 0


@need_root
def test_root_must_be_meant(tmp_path: Path) -> None:
    (tmp_path / "test.yaml").write_text(CONFIG)
    command = [sys.executable, GOROX, "--workers", "1", "--top-dir", str(tmp_path), "--config", "test.yaml"]
    done = run(command, env={**os.environ, "GOROX_ALLOW_ROOT": ""})
    assert done.returncode == 21
    assert done.stderr == (
        "gorox: the workers would run as root: name a user (--user NAME), or say that it is meant (--allow-root)\n"
    )
    done = run([*command, "--user", "nobody-of-that-name"])
    assert (done.returncode, done.stderr) == (
        21,
        "gorox: --user nobody-of-that-name: there is no such user\n",
    )


# systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The notification socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(20)
        yield sock


def next_of(manager: socket.socket, word: str) -> str:
    """The next notification with a word in it."""
    while word not in (text := manager.recv(4096).decode()):
        pass
    return text


def test_the_service_manager_is_told(lead: Start, tmp_path: Path, manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    leader = lead(CONFIG, env=environ)
    assert next_of(manager, "READY=1") == "READY=1\nSTATUS=1 of 1 worker(s) ready"
    next_of(manager, "WATCHDOG=1")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    leader.signal(signal.SIGHUP)
    lines = dict(line.split("=") for line in next_of(manager, "RELOADING=1").splitlines())
    assert before <= int(lines["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    next_of(manager, "READY=1")
    leader.signal(signal.SIGTERM)
    next_of(manager, "STOPPING=1")
    assert leader.wait() == 0


def passing(sock: socket.socket, name: str) -> list[str]:
    """The words before a command that is to get a socket as systemd passes it: descriptor 3."""
    code = (
        "import os, sys; fd = int(sys.argv[1]); fd == 3 or os.dup2(fd, 3); os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES=sys.argv[2]);"
        "os.execv(sys.executable, [sys.executable, *sys.argv[3:]])"
    )
    return [sys.executable, "-c", code, str(sock.fileno()), name]


@pytest.mark.parametrize("by_name", [False, True])
def test_sockets_of_the_service_manager(tmp_path: Path, by_name: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        config = CONFIG if by_name else CONFIG.replace(":0", f":{port}")
        (tmp_path / "test.yaml").write_text(config)
        process = psutil.Popen(
            [
                *passing(sock, "main" if by_name else "x"),
                GOROX,
                "--top-dir",
                str(tmp_path),
                "--config",
                "test.yaml",
            ],
            pass_fds=[sock.fileno()],
            cwd=TOP_DIR,
        )
        try:
            with Client(f"127.0.0.1:{port}", timeout=20) as client:  # queued until gorox accepts
                assert client.request("GET", "/", close=True).text == "first"
        finally:
            process.terminate()
        assert process.wait(20) == 0


# Limits


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["max_requests: 300", "max_lifetime: 2s"])
def test_workers_are_replaced_in_time(lead: Start, limit: str) -> None:
    leader = lead(f"{limit}\n{CONFIG}", "--workers", "2")
    first = leader.wait_workers(2)
    load = Load(leader.address)
    leader.wait_log(f"is replaced: {limit.split(':')[0]}", count=2)
    assert until(lambda: all(gone(pid) for pid in first), 20)
    load.stop()
    assert not load.failures
    assert leader.end() == 0


@pytest.mark.slow
def test_a_leaking_application_is_replaced(lead: Start) -> None:
    leader = lead("max_rss: 120M\n" + TRICKY)
    (first,) = leader.wait_workers(1)
    load = Load(leader.address)
    while not gone(first):
        leader.fetch("/leak")
        gevent.sleep(0.01)
        assert leader.process.poll() is None
    assert "is replaced: max_rss" in leader.log()
    load.stop()
    assert not load.failures
    assert leader.end() == 0


# Others


def test_long_connections_are_spread_evenly(lead: Start) -> None:
    leader = lead(TRICKY, "--workers", "2")
    leader.wait_workers(2)
    clients, pids = [], []
    for _ in range(30):
        clients.append(leader.client())
        pids.append(clients[-1].request("GET", "/pid").text)
    for client in clients:
        client.close()
    # Fifteen each, where both get the processor when it is their turn (a worker waits 4 ms for another, no more); none
    # for one of them where they just take what comes. The rule itself is tested in tests/procmgr/test_board.py.
    assert min(pids.count(str(pid)) for pid in leader.workers()) >= 2
    assert leader.end() == 0


def test_strangers_are_reaped(lead: Start, tmp_path: Path) -> None:
    """Orphans become children of process 1 of a container, or of whoever asks for them."""
    code = (
        "import ctypes, os, sys, time; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0);"
        "os.fork() or (os.fork() and os._exit(0))"
        " or (print(os.getpid(), file=open('orphan', 'w'), flush=True),"
        " any(time.sleep(0.05) or os.path.exists('end') for _ in range(600)), os._exit(3));"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    (tmp_path / "tricks.py").write_text(TRICKS)
    command = [sys.executable, "-c", code, GOROX, "--top-dir", str(tmp_path), "--config", "test.yaml"]
    leader = lead(CONFIG)
    assert leader.end() == 0
    orphan = tmp_path / "orphan"
    process = psutil.Popen(command, cwd=tmp_path)
    try:
        assert until(lambda: orphan.exists() and orphan.read_text().endswith("\n"), 20)
        pid = int(orphan.read_text())
        assert until(lambda: psutil.Process(pid).ppid() == process.pid, 20)
        (tmp_path / "end").touch()
        assert until(
            lambda: not psutil.pid_exists(pid), 20
        )  # ended, it would still exist if nobody took note
        assert process.poll() is None
    finally:
        process.terminate()
    assert process.wait(20) == 0
