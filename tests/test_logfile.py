"""Writers of logs: files, rotation, full disks, streams, syslog."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import signal
import stat
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gevent import monkey, socket

from hemi import logfile
from hemi.logfile import (
    FileWriter,
    Rotation,
    StreamWriter,
    SyslogWriter,
    fitting,
    next_turn,
    rotated,
    squeeze,
    tidy,
)
from hemi.logsink import Shortfall
from tests.waiting import until


@pytest.fixture
def make(tmp_path: Path, monkeypatch: Any) -> Iterator[Callable[..., FileWriter]]:
    monkeypatch.setattr(FileWriter, "settle", 0.0)
    made = []

    def maker(*rotation: Any, path: str = "") -> FileWriter:
        writer = FileWriter(path or str(tmp_path / "a.log"), Rotation(*rotation))
        made.append(writer)
        writer.open()
        return writer

    yield maker
    for writer in made:
        writer.close()


@pytest.fixture
def zone(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_lines_are_appended(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"0\n")
    make().write([b"1\n", b"2\n"])
    assert (tmp_path / "a.log").read_bytes() == b"0\n1\n2\n"


def test_folder_and_file_are_made(make: Any, tmp_path: Path) -> None:
    make(path=str(tmp_path / "new" / "er" / "a.log")).write([b"1\n"])
    status = os.stat(tmp_path / "new" / "er" / "a.log")
    assert stat.S_IMODE(status.st_mode) & 0o007 == 0


def test_a_path_that_cannot_be(make: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        make(path=str(tmp_path / "file" / "a.log"))
    with pytest.raises(OSError):
        make(path=str(tmp_path))


def test_a_renamed_file_is_written_until_reopened(make: Any, tmp_path: Path) -> None:
    writer = make()
    writer.write([b"1\n"])
    os.rename(tmp_path / "a.log", tmp_path / "b.log")
    writer.write([b"2\n"])
    assert not (tmp_path / "a.log").exists()
    writer.reopen()
    writer.write([b"3\n"])
    assert (tmp_path / "b.log").read_bytes() == b"1\n2\n"
    assert (tmp_path / "a.log").read_bytes() == b"3\n"


def test_a_reopen_that_fails_keeps_the_old(make: Any, tmp_path: Path) -> None:
    writer = make()
    os.rename(tmp_path / "a.log", tmp_path / "b.log")
    os.mkdir(tmp_path / "a.log")
    with pytest.raises(OSError):
        writer.reopen()
    writer.write([b"1\n"])
    assert (tmp_path / "b.log").read_bytes() == b"1\n"


# --- full disks


def test_dev_full(make: Any) -> None:
    writer = make(10, path="/dev/full")
    with pytest.raises(Shortfall) as caught:
        writer.write([b"1\n", b"2\n"])
    assert (caught.value.done, caught.value.error.errno) == (0, errno.ENOSPC)


def test_a_file_that_may_not_grow(make: Any, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes a real partial write, as a full disk does."""
    writer = make()
    lines = [b"%09d\n" % number for number in range(20)]
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (55, hard))
    try:
        with pytest.raises(Shortfall) as caught:
            writer.write(lines)
        assert (caught.value.done, caught.value.error.errno) == (5, errno.EFBIG)
        with pytest.raises(Shortfall) as caught:
            writer.write(lines[5:])
        assert caught.value.done == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    writer.write(lines[5:])
    text = (tmp_path / "a.log").read_bytes()
    # what was torn stays as a line of its own, and the whole line follows
    assert text == b"".join(lines[:5]) + lines[5][:5] + b"\n" + b"".join(lines[5:])


@pytest.mark.parametrize("takes", range(12))
def test_every_partial_write(make: Any, tmp_path: Path, monkeypatch: Any, takes: int) -> None:
    writer = make()
    lines = [b"aaa\n", b"bb\n", b"cccc\n"]
    real, left = os.write, [takes]

    def write(fd: int, data: Any) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "full")
        count = min(left[0], len(data))
        left[0] -= count
        return real(fd, data[:count])

    monkeypatch.setattr(logfile.os, "write", write)
    with pytest.raises(Shortfall) as caught:
        writer.write(lines)
    monkeypatch.undo()
    done = caught.value.done
    assert len(b"".join(lines[:done])) <= takes + 1  # a line counts when only its newline is missing
    writer.write([*lines[done:], b"more\n"])
    lines.append(b"more\n")
    found = (tmp_path / "a.log").read_bytes().splitlines(True)
    torn = [line for line in found if line not in lines]
    assert [line for line in found if line in lines] == lines
    assert len(torn) <= 1


def test_a_fifo_without_room(make: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    with pytest.raises(OSError):
        make(path=path)  # nobody reads; this must not wait
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = make(path=path)
    with pytest.raises(Shortfall) as caught:
        writer.write([b"x" * 9999 + b"\n"] * 100)
    assert caught.value.error.errno == errno.EAGAIN
    assert 0 < caught.value.done < 100
    os.close(reader)


# --- rotation


def test_rotation_by_size(make: Any, tmp_path: Path) -> None:
    writer = make(100)
    lines = [b"%09d\n" % number for number in range(95)]
    for begin in range(0, 95, 5):
        writer.write(lines[begin : begin + 5])
    files = [*rotated(str(tmp_path / "a.log")), str(tmp_path / "a.log")]
    assert len(files) == 10
    assert b"".join(Path(name).read_bytes() for name in files) == b"".join(lines)
    assert {os.path.getsize(name) for name in files[:-1]} == {100}


def test_a_large_batch_is_spread(make: Any, tmp_path: Path) -> None:
    make(100).write([b"%09d\n" % number for number in range(35)])
    assert len(rotated(str(tmp_path / "a.log"))) == 3


def test_a_line_larger_than_a_file(make: Any, tmp_path: Path) -> None:
    writer = make(10)
    writer.write([b"x" * 50 + b"\n", b"1\n"])
    assert len(rotated(str(tmp_path / "a.log"))) == 1


def test_rotation_by_time(make: Any, tmp_path: Path, monkeypatch: Any, zone: None) -> None:
    now = [1_795_384_800.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    writer = make(0, 3600)
    writer.write([b"1\n"])
    now[0] += 3599
    writer.write([b"2\n"])
    assert rotated(str(tmp_path / "a.log")) == []
    now[0] += 1
    writer.write([b"3\n"])
    (old,) = rotated(str(tmp_path / "a.log"))
    assert old.endswith("a.log.20261123T000000")
    assert Path(old).read_bytes() == b"1\n2\n"
    now[0] += 7200
    writer.write([b"4\n"])
    assert len(rotated(str(tmp_path / "a.log"))) == 2


def test_a_file_of_an_earlier_day_is_rotated_at_once(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"old\n")
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    make(0, 86400).write([b"new\n"])
    assert path.read_bytes() == b"new\n"
    assert Path(rotated(str(path))[0]).read_bytes() == b"old\n"


def test_an_empty_file_is_not_rotated(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    writer = make(0, 60)
    now[0] += 1000
    writer.write([b"1\n"])
    assert rotated(str(tmp_path / "a.log")) == []


def local(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("now", "every", "turn"),
    [
        ("2026-11-22 21:40:00", 86400, "2026-11-23 00:00:00"),
        ("2026-11-22 00:00:00", 86400, "2026-11-23 00:00:00"),
        ("2026-10-24 12:00:00", 86400, "2026-10-25 00:00:00"),
        ("2026-10-25 12:00:00", 86400, "2026-10-26 00:00:00"),  # 25 hours long
        ("2026-03-29 12:00:00", 86400, "2026-03-30 00:00:00"),  # 23 hours long
        ("2026-11-22 21:40:00", 3600, "2026-11-22 22:00:00"),
        ("2026-11-22 21:40:00", 6 * 3600, "2026-11-23 00:00:00"),
        ("2026-11-22 21:40:00", 5 * 3600, "2026-11-23 00:00:00"),
        ("2026-12-31 23:59:59", 60, "2027-01-01 00:00:00"),
    ],
)
def test_turns(zone: None, now: str, every: float, turn: str) -> None:
    assert next_turn(local(now), every) == local(turn)


def test_turns_of_several_days_agree(zone: None) -> None:
    turns = {next_turn(local("2026-11-22 21:40:00") + hours * 3600, 3 * 86400) for hours in range(24 * 30)}
    found = sorted(turns)
    assert len(found) == 11
    assert {later - earlier for earlier, later in pairwise(found)} == {3 * 86400}


def test_several_processes_rotate_one_file(make: Any, tmp_path: Path) -> None:
    """Two writers stand for two processes: flock belongs to the open file."""
    one, two = make(100), make(100)
    for number in range(60):
        (one, two)[number % 2].write([b"%09d\n" % number])
    files = [*rotated(str(tmp_path / "a.log")), str(tmp_path / "a.log")]
    assert b"".join(Path(name).read_bytes() for name in files) == b"".join(b"%09d\n" % n for n in range(60))
    assert len(files) == 6


def test_a_rotation_that_fails_is_no_outage(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr(logfile, "complain", said.append)

    def rename(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(logfile.os, "rename", rename)
    writer = make(10)
    for _ in range(5):
        writer.write([b"123456789\n"])
    assert os.path.getsize(tmp_path / "a.log") == 50
    assert said == [f"logger: {tmp_path}/a.log cannot be rotated: Permission denied"]


def test_a_removed_file_is_made_again_when_rotating(make: Any, tmp_path: Path) -> None:
    writer = make(1000)
    writer.write([b"1\n"])
    os.unlink(tmp_path / "a.log")
    writer.write([b"2\n"])
    assert (tmp_path / "a.log").read_bytes() == b"2\n"


def test_keep_and_compress(make: Any, tmp_path: Path) -> None:
    writer = make(10, 0, 3, True)
    for number in range(9):
        writer.write([b"%09d\n" % number])
    path = str(tmp_path / "a.log")
    until(lambda: len(rotated(path)) == 3 and all(name.endswith(".gz") for name in rotated(path)))
    assert [gzip.decompress(Path(name).read_bytes()) for name in rotated(path)] == [
        b"%09d\n" % number for number in (5, 6, 7)
    ]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_tidying_touches_nothing_else(tmp_path: Path) -> None:
    names = [
        "a.log",
        "a.log.1",
        "a.log.20260101",
        "a.log.20260101T000000.bz2",
        "b.log.20260101T000000",
        "xa.log.20260101T000000",
    ]
    for name in [
        *names,
        "a.log.20260101T000000",
        "a.log.20260101T000000-1",
        "a.log.20260101T000000-10",
        "a.log.20260101T000000-2.gz",
    ]:
        (tmp_path / name).write_text("x")
    assert [os.path.basename(name) for name in rotated(str(tmp_path / "a.log"))] == [
        "a.log.20260101T000000",
        "a.log.20260101T000000-1",
        "a.log.20260101T000000-2.gz",
        "a.log.20260101T000000-10",
    ]
    tidy(str(tmp_path / "a.log"), 1, False)
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "a.log.20260101T000000-10"])


def test_tidying_beside_others(tmp_path: Path, monkeypatch: Any) -> None:
    """What another process compresses right now is there twice, and counts once; what it has removed is no error."""
    for name in ("1", "2", "2.gz", "3", "4"):
        (tmp_path / f"a.log.2026010{name[0]}T000000{name[1:]}").write_text("x")
    real, path = logfile.squeeze, str(tmp_path / "a.log")

    def squeeze(name: str) -> None:
        if name.endswith("3T000000"):
            os.unlink(name)
        real(name)

    monkeypatch.setattr(logfile, "squeeze", squeeze)
    tidy(path, 3, True)
    assert [os.path.basename(name)[6:] for name in rotated(path)] == [
        "20260102T000000.gz",
        "20260104T000000.gz",
    ]


def test_compressing_keeps_mode_and_time(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"hello" * 1000)
    os.chmod(file, 0o640)
    os.utime(file, (1_500_000_000, 1_500_000_000))
    squeeze(str(file))
    status = os.stat(str(file) + ".gz")
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o640, 1_500_000_000)
    assert not file.exists()


def test_tidying_a_full_disk_complains(tmp_path: Path, monkeypatch: Any) -> None:
    said: list[str] = []
    monkeypatch.setattr(logfile, "complain", said.append)
    (tmp_path / "a.log.20260101T000000").write_text("x")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logfile.shutil, "copyfileobj", full)
    tidy(str(tmp_path / "a.log"), 0, True)
    assert said and "No space left" in said[0]
    assert os.listdir(tmp_path) == ["a.log.20260101T000000"]


def test_fitting() -> None:
    lines = [b"12345", b"123", b"12"]
    assert [fitting(lines, 0, room) for room in (0, 5, 7, 8, 9, 10)] == [1, 1, 1, 2, 2, 3]
    assert fitting(lines, 1, 5) == 3


# --- streams


def test_a_stream_that_is_a_file_does_not_block(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        writer = StreamWriter(file.fileno())
        writer.open()
        assert writer.blocks is False
        writer.write([b"1\n", b"2\n"])
    assert (tmp_path / "out").read_bytes() == b"1\n2\n"


def test_a_stream_that_is_a_pipe() -> None:
    reader, fd = os.pipe()
    writer = StreamWriter(fd)
    writer.open()
    assert writer.blocks is True
    writer.write([b"1\n"])
    assert os.read(reader, 10) == b"1\n"
    monkey.get_original("os", "close")(reader)  # gevent's would wait for the next round of the hub
    with pytest.raises(Shortfall) as caught:
        writer.write([b"1\n"])
    assert (caught.value.done, caught.value.error.errno) == (0, errno.EPIPE)
    os.close(fd)


def test_a_closed_stream() -> None:
    with pytest.raises(OSError):
        StreamWriter(987).open()


# --- syslog


def test_syslog_on_a_local_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(5)
        writer = SyslogWriter(path)
        writer.write([b"<1>one\n", b"<1>two\n", b"<1>" + b"x" * 20000 + b"\n"])
        assert [server.recv(65536) for _ in range(2)] == [b"<1>one", b"<1>two"]
        assert len(server.recv(65536)) == logfile.LONGEST
    os.unlink(path)
    with pytest.raises(Shortfall) as caught:
        writer.write([b"<1>lost\n"])
    assert caught.value.done == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:  # the daemon is back
        server.bind(path)
        server.settimeout(5)
        writer.write([b"<1>three\n"])
        assert server.recv(100) == b"<1>three"
    writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_syslog_over_udp(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip("no IPv6 here")
        server.settimeout(5)
        writer = SyslogWriter((host, server.getsockname()[1]))
        writer.open()
        writer.write([b"<1>one\n"])
        assert server.recv(100) == b"<1>one"
        writer.reopen()
        writer.write([b"<1>two\n"])
        assert server.recv(100) == b"<1>two"
        writer.close()


def test_a_syslog_server_that_does_not_read(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        writer = SyslogWriter(path, timeout=0.05)
        with pytest.raises(Shortfall) as caught:
            writer.write([b"x" * 100 + b"\n"] * 10000)
        assert 0 < caught.value.done < 10000
        writer.close()
