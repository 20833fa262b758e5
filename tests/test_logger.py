"""The component "logger" and the error log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.threadpool import ThreadPool

from hemi import logger as module
from hemi.conditions import Scope
from hemi.errors import BugError
from hemi.logger import ErrorLog, Logger, iso_time, short_date, syslog_address
from tests.waiting import until

SCOPE = Scope("log", {"uri": "s.uri", "status": "str(s.status)"})
SUBJECT = SimpleNamespace(uri="/x", status=200)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Logger]]:
    made: list[Logger] = []

    def maker(target: str = "a.log", prepare: bool = True, **given: Any) -> Logger:
        logger = Logger("main")
        logger.stage = SimpleNamespace(dirs=SimpleNamespace(top=str(tmp_path)))  # type: ignore[assignment]
        settings = {
            "target": target,
            "format": "$status $uri",
            "rotate_size": 0,
            "rotate_every": 0.0,
            "keep": 10,
            "compress": False,
            "flush_interval": 0.01,
            "max_pending": 1 << 20,
            "facility": "local7",
            "tag": "gorox",
            "syslog_format": "auto",
        }
        logger.__dict__.update(settings | given)
        assert set(Logger.props()) == set(settings)
        if prepare:
            logger.prepare()
            made.append(logger)
        return logger

    yield maker
    for logger in made:
        logger.stop(time.monotonic() + 1)


def test_lines_reach_the_file(make: Any, tmp_path: Path) -> None:
    logger = make()
    record = logger.recorder(SCOPE)
    record(SUBJECT)
    logger.flush()
    logger.write("by hand\r\nforged\u2028")
    until(lambda: (tmp_path / "a.log").read_text() == "200 /x\nby hand\\x0D\\x0Aforged\\xE2\\x80\\xA8\n")
    assert logger.dropped == 0


def test_one_recorder_for_all_who_ask_for_a_scope(make: Any, tmp_path: Path) -> None:
    one, two = make(), make()
    other = Scope("other", SCOPE.variables)
    assert one.recorder(SCOPE) is one.recorder(SCOPE)
    assert len({one.recorder(SCOPE), two.recorder(SCOPE), one.recorder(other)}) == 3
    for number in range(9):
        (one, two)[number % 2].recorder(SCOPE)(SimpleNamespace(uri="/", status=number))
    one.flush()
    assert (tmp_path / "a.log").read_text() == "".join(f"{number} /\n" for number in range(9))


def test_stop_writes_the_last_lines(make: Any, tmp_path: Path) -> None:
    logger = make(flush_interval=60.0)
    logger.recorder(SCOPE)(SUBJECT)
    logger.stop(time.monotonic() + 1)
    assert (tmp_path / "a.log").read_text() == "200 /x\n"
    logger.write("late")
    logger.flush()
    logger.reopen()
    logger.stop(time.monotonic() + 1)
    with pytest.raises(BugError):
        logger.recorder(SCOPE)


def test_two_loggers_share_a_file(make: Any, tmp_path: Path) -> None:
    """Several webapps name one file; during a reload, two stages do."""
    (tmp_path / "link.log").symlink_to("a.log")
    one, two, three = make(), make(str(tmp_path / "a.log")), make("link.log", rotate_size=5000)
    assert one.sink is two.sink is three.sink
    assert one.sink.writer.rotation.size == 5000
    for number in range(10):
        (one, two, three)[number % 3].write(str(number))
    one.stop(time.monotonic() + 1)
    assert (tmp_path / "a.log").read_text().split() == list("0123456789")
    two.write("10")
    two.flush()
    assert (tmp_path / "a.log").read_text().endswith("9\n10\n")


def test_reopen(make: Any, tmp_path: Path) -> None:
    logger = make()
    logger.write("1")
    logger.flush()
    os.rename(tmp_path / "a.log", tmp_path / "b.log")
    logger.reopen()
    until((tmp_path / "a.log").exists)
    logger.write("2")
    logger.flush()
    assert ((tmp_path / "a.log").read_text(), (tmp_path / "b.log").read_text()) == ("2\n", "1\n")


def test_reopen_from_threads_while_lines_are_written(make: Any, tmp_path: Path) -> None:
    logger = make(flush_interval=0.0)
    pool = ThreadPool(2)
    jobs = [pool.spawn(lambda: [logger.reopen() for _ in range(200)]) for _ in range(2)]
    for number in range(2000):
        logger.write(str(number))
        if number % 100 == 0:
            os.rename(tmp_path / "a.log", tmp_path / f"{number}.log")
            logger.reopen()
            until((tmp_path / "a.log").exists)
    gevent.joinall(jobs, timeout=10)
    logger.flush()
    found = [int(line) for path in tmp_path.glob("*.log") for line in path.read_text().split()]
    assert sorted(found) == list(range(2000))


def test_a_full_disk(make: Any, monkeypatch: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr("hemi.logsink.complain", said.append)
    logger = make("/dev/full", max_pending=100)
    record = logger.recorder(SCOPE)
    for _ in range(1000):
        record(SUBJECT)
    until(lambda: said)
    assert "No space left on device" in said[0]
    assert logger.dropped >= 980
    logger.stop(time.monotonic() + 1)
    assert logger.dropped == 0


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({}, []),
        ({"target": "stdout"}, []),
        ({"target": "syslog:udp://[::1]:514"}, []),
        ({"rotate_size": 5, "rotate_every": 86400.0, "compress": True}, []),
        ({"target": "stderr", "rotate_size": 5, "compress": True}, ["rotate_size", "compress"]),
        ({"target": "syslog:what"}, ["target"]),
        ({"rotate_every": 5.0}, ["rotate_every"]),
        ({"tag": "a b"}, ["tag"]),
    ],
)
def test_check(make: Any, settings: dict[str, Any], problems: list[str]) -> None:
    found = list(make(prepare=False, **settings).check())
    assert [name for name, _ in found] == problems


def test_format_problem(make: Any) -> None:
    logger = make(prepare=False, format="$stauts")
    assert (
        logger.format_problem(SCOPE)
        == 'logger "main": format has an unknown variable $stauts; did you mean $status?'
    )
    assert make(prepare=False).format_problem(SCOPE) is None


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("syslog", "/dev/log"),
        ("syslog:/run/log", "/run/log"),
        ("syslog:udp://log.example:1514", ("log.example", 1514)),
        ("syslog:udp://log.example", ("log.example", 514)),
        ("syslog:udp://[::1]:99", ("::1", 99)),
        ("syslog:udp://[::1]", ("::1", 514)),
        ("syslog:tcp://x:1", None),
        ("syslog:udp://", None),
        ("syslog:udp://x:0", None),
        ("syslog:udp://x:99999", None),
        ("syslog:x", None),
    ],
)
def test_syslog_addresses(target: str, address: Any) -> None:
    if address is None:
        with pytest.raises(ValueError, match="must be"):
            syslog_address(target)
    else:
        assert syslog_address(target) == address


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("auto", r"<19[01]>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d shop\[\d+\]: "),
        ("rfc3164", r"<19[01]>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d shop\[\d+\]: "),
        ("rfc5424", r"<19[01]>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d \S+ shop \d+ - - "),
    ],
)
def test_syslog_messages(make: Any, tmp_path: Path, form: str, pattern: str) -> None:
    # 23 (local7) * 8 + 6 (informational) is 190
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "dev-log"))
        server.settimeout(5)
        logger = make(f"syslog:{tmp_path}/dev-log", tag="shop", syslog_format=form)
        logger.recorder(SCOPE)(SUBJECT)
        message = server.recv(1000).decode()
        assert re.fullmatch(pattern + "200 /x", message)
        assert message.startswith("<190>")
        ErrorLog(logger).error("web", "broken")
        message = server.recv(1000).decode()
        assert re.match(pattern.replace("<19[01]>", "<187>"), message)
        assert message.endswith(" web: broken")


def test_syslog_over_udp_is_rfc5424(make: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        logger = make(f"syslog:udp://127.0.0.1:{server.getsockname()[1]}")
        logger.write("hello")
        assert re.fullmatch(rb"<190>1 \S+ \S+ gorox \d+ - - hello", server.recv(1000))


def test_stdout_in_a_process() -> None:
    program = """
import gevent.monkey; gevent.monkey.patch_all()
import time
from types import SimpleNamespace
from hemi.logger import Logger
logger = Logger("main")
logger.__dict__.update(target="stdout", format="combined", flush_interval=60.0, max_pending=1 << 20, facility="user",
    tag="x", syslog_format="auto", stage=SimpleNamespace(dirs=SimpleNamespace(top="/")))
logger.prepare()
for number in range(5):
    logger.write(str(number))
logger.stop(time.monotonic() + 5)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20, check=True)
    assert found.stdout.split() == [b"0", b"1", b"2", b"3", b"4"]
    assert found.stderr == b""


# --- the error log


@pytest.fixture
def errors(make: Any, tmp_path: Path) -> tuple[ErrorLog, Callable[[], list[str]]]:
    logger = make("error.log")

    def lines() -> list[str]:
        logger.flush()
        return (tmp_path / "error.log").read_text().splitlines()

    return ErrorLog(logger), lines


def test_lines_of_the_error_log(errors: Any) -> None:
    log, lines = errors
    log.info("web", "größer als sonst")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
    assert re.fullmatch(stamp + rf" info {os.getpid()} web: größer als sonst", lines()[0])


def test_levels(errors: Any) -> None:
    log, lines = errors
    for level in ("debug", "info", "warning", "error", "off"):
        log.level = level
        for verb in ("debug", "info", "warning", "error"):
            getattr(log, verb)("test", f"{verb} at {level}")
    assert [" ".join(line.split(" test: ")[1:]) for line in lines()] == [
        *(f"{verb} at debug" for verb in ("debug", "info", "warning", "error")),
        *(f"{verb} at info" for verb in ("info", "warning", "error")),
        *(f"{verb} at warning" for verb in ("warning", "error")),
        "error at error",
    ]
    with pytest.raises(ValueError, match="level must be one of debug, info, warning, error, off, not 'loud'"):
        log.level = "loud"


def test_tracebacks_are_indented_and_cannot_forge(errors: Any) -> None:
    log, lines = errors
    try:
        raise ValueError("evil\n2026-11-22T21:40:00.000+00:00 error 1 web: forged\x1b[0m")
    except ValueError as e:
        log.error("web", "a\nb", e)
    found = lines()
    assert found[0].endswith(" web: a\\x0Ab")
    assert found[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in found[1:])
    assert "\\x1B[0m" in found[-1]


def test_what_is_long_is_cut(errors: Any) -> None:
    log, lines = errors

    def deep(depth: int) -> None:
        if depth:
            (deep if depth % 2 else lambda one: deep(one))(depth - 1)
        else:
            raise ValueError("x" * 5000)

    try:
        deep(200)
    except ValueError as e:
        log.error("web", "y" * 100_000, e)
    found = lines()
    assert len(found) <= 202
    assert max(map(len, found)) < 17_000
    assert any("lines …" in line for line in found)


def test_an_exception_that_cannot_be_shown(errors: Any, monkeypatch: Any) -> None:
    log, lines = errors
    said: list[str] = []
    monkeypatch.setattr(module, "complain", said.append)

    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    log.error("web", "trouble", Nasty())
    log.error("web", None)
    assert "web: trouble" in lines()[0]
    assert said == ["logger: a line about web is lost: TypeError"]


def test_without_a_logger_lines_go_to_stderr(monkeypatch: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "complain", said.append)
    log = ErrorLog()
    log.debug("boot", "not this")
    log.warning("boot", "this\n")
    assert len(said) == 1
    assert said[0].endswith(" boot: this\\x0A")


def test_threads_may_report(errors: Any) -> None:
    log, lines = errors
    pool = ThreadPool(3)
    jobs = [pool.spawn(lambda: [log.info("thread", str(number)) for number in range(200)]) for _ in range(3)]
    gevent.joinall(jobs, timeout=10)
    assert len(lines()) == 600


def test_dates(monkeypatch: Any) -> None:
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    try:
        assert iso_time(1_795_384_800.1239) == "2026-11-22T18:30:00.123-03:30"
        assert short_date(1_793_656_177) == "Nov  2 18:19:37"
    finally:
        monkeypatch.undo()
        time.tzset()
