"""Logs: the component "logger", and the error log that everything reports to.

Belongs here: what a configuration says about a log, and the levels of the error log. What lines look like is
`logformat`'s, how they wait is `logsink`'s, how they get to a file or a syslog server is `logfile`'s.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Literal

from hemi.component import Component, prop
from hemi.conditions import Scope
from hemi.errors import BugError
from hemi.logfile import FileWriter, Rotation, StreamWriter, SyslogWriter
from hemi.logformat import FormatError, Stamps, compile_recorder, plain
from hemi.logsink import Sink, Writer, acquire, complain, release
from hemi.values import Duration, Size

__all__ = ["LEVELS", "ErrorLog", "Level", "Logger"]

Level = Literal["debug", "info", "warning", "error", "off"]
LEVELS: dict[str, int] = {"debug": 0, "info": 1, "warning": 2, "error": 3, "off": 4}
SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # RFC 5424 §6.2.1

Facility = Literal[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip
FACILITIES = {
    name: code
    for code, name in [
        *enumerate(
            (
                "kern",
                "user",
                "mail",
                "daemon",
                "auth",
                "syslog",
                "lpr",
                "news",
                "uucp",
                "cron",
                "authpriv",
                "ftp",
            )
        ),
        *((16 + number, f"local{number}") for number in range(8)),
    ]
}

LONGEST = 16384  # characters of a message, and of a traceback; what is beyond is cut off
TIMEOUT = 1.0  # seconds for the error log's last lines, where no deadline is known


class Logger(Component, kind="loggers", sign="logger"):
    """Writes lines to a file, a standard stream or syslog."""

    target: str = prop(
        doc='Where to: "stdout", "stderr", the path of a file, "syslog" (/dev/log), "syslog:PATH" or "syslog:udp://HOST:PORT".',
        inherit=False,
    )
    format: str = prop(
        "combined",
        'Of access logs: "combined", "common", "json", or text with $variables.',
        least=1,
        inherit=False,
    )
    rotate_size: Size = prop("0", "Begin a new file when it has this size; 0 is never.", inherit=False)
    rotate_every: Duration = prop(
        "0", "Begin a new file that often, counted from local midnight; 0 is never.", inherit=False
    )
    keep: int = prop(10, "How many rotated files to keep; 0 is all.", least=0, inherit=False)
    compress: bool = prop(False, "Compress rotated files by gzip.", inherit=False)
    flush_interval: Duration = prop(
        "100ms", "How long lines are gathered before they are written.", most="1m", inherit=False
    )
    max_pending: Size = prop(
        "4M",
        "How much may wait to be written; lines beyond are dropped.",
        least="64K",
        most="1G",
        inherit=False,
    )
    facility: Facility = prop("local7", "What syslog takes the lines for.", inherit=False)
    tag: str = prop("gorox", "What syslog calls the program.", least=1, most=32, inherit=False)
    syslog_format: Literal["auto", "rfc3164", "rfc5424"] = prop(
        "auto",
        'The form of syslog messages; "auto" is rfc3164 for a local socket, otherwise rfc5424.',
        inherit=False,
    )

    _sink: Sink | None = None
    _key = ""

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together."""
        is_file = self._is_file()
        if self.target.startswith("syslog"):
            try:
                syslog_address(self.target)
            except ValueError as e:
                yield "target", f"{e}, not {self.target!r}"
        for name in ("rotate_size", "rotate_every", "compress"):
            if getattr(self, name) and not is_file:
                yield name, "only works for files"
        if self.rotate_every and self.rotate_every < 60:
            yield "rotate_every", "must be at least 1m"
        if not (self.tag.isascii() and self.tag.isalnum()):
            yield "tag", f"must be ASCII letters and digits, not {self.tag!r}"

    def format_problem(self, scope: Scope) -> str | None:
        """What is wrong with the format for subjects of `scope`, if anything; for `check` of who uses it."""
        try:
            compile_recorder(self.format, scope, Sink(StreamWriter(2)), Stamps(), complain_about)
        except FormatError as e:
            return f"{self.label}: format {e}"
        return None

    def prepare(self) -> None:
        """Open the target, or share it with who has it open. Raises OSError."""
        path = os.path.join(self.stage.dirs.top, self.target) if self._is_file() else self.target
        self._key = os.path.realpath(path) if self._is_file() else path
        self._sink = acquire(self._key, lambda: self._make_writer(path))
        self._sink.interval = self.flush_interval
        self._sink.most = self.max_pending
        if isinstance(self._sink.writer, FileWriter):
            # Who shares a file shares its rotation; the youngest configuration counts.
            self._sink.writer.set_rotation(
                Rotation(self.rotate_size, self.rotate_every, self.keep, self.compress)
            )
        self._stamps = Stamps(self._make_head("info"))
        self._recorders: dict[int, tuple[Scope, Callable[[Any], None]]] = {}
        self._heads = {level: Stamps(self._make_head(level)) for level in SEVERITIES}

    def stop(self, deadline: float) -> None:
        """Write what waits; close the target when nobody else has it."""
        sink, self._sink = self._sink, None
        if sink is not None:
            release(self._key, sink, deadline)

    @property
    def sink(self) -> Sink:
        """The queue to the target. Raises BugError before `prepare` and after `stop`."""
        if self._sink is None:
            raise BugError(f"{self.label} is not open")
        return self._sink

    @property
    def dropped(self) -> int:
        """How many lines the target has lost so far."""
        return self._sink.dropped if self._sink is not None else 0

    def recorder(self, scope: Scope) -> Callable[[Any], None]:
        """A function that queues a line about its subject in one Python call; never waits, never raises.

        All who ask for the same scope get the same one: lines of one recorder are made together.

        To be called after `prepare`. Raises FormatError, see `format_problem`.
        """
        sink = self.sink
        known = self._recorders.get(id(scope))
        if known is None:
            record = compile_recorder(self.format, scope, sink, self._stamps, complain_about)
            known = self._recorders[id(scope)] = scope, record
        return known[1]

    def write(self, line: str, level: str = "info") -> None:
        """Queue a line, without its newline. Never waits, never raises. `level` is for syslog."""
        sink = self._sink
        if sink is None:
            return
        if not line.isprintable():
            line = plain(line)
        stamps = self._heads[level]
        now = time.time()
        if not stamps.begin <= now < stamps.end:
            stamps.tick(now)
        sink.put(f"{stamps.head}{line}\n".encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Write what waits, now."""
        if self._sink is not None:
            self._sink.flush()

    def reopen(self) -> None:
        """Open the file anew, soon: it was renamed or removed. From any thread."""
        if self._sink is not None:
            self._sink.reopen()

    def _is_file(self) -> bool:
        return self.target not in ("stdout", "stderr", "syslog") and not self.target.startswith("syslog:")

    def _make_writer(self, path: str) -> Writer:
        if self.target == "stdout":
            return StreamWriter(1)
        if self.target == "stderr":
            return StreamWriter(2)
        if self._is_file():
            return FileWriter(path)
        return SyslogWriter(syslog_address(self.target))

    def _make_head(self, level: str) -> Callable[[float], str] | None:
        """What makes the header of a syslog message for a time; None where lines have no header."""
        if not self.target.startswith("syslog") or self._is_file():
            return None
        is_local = isinstance(syslog_address(self.target), str)
        form = self.syslog_format if self.syslog_format != "auto" else "rfc3164" if is_local else "rfc5424"
        priority = f"<{FACILITIES[self.facility] * 8 + SEVERITIES[level]}>"
        host = (
            "".join(
                char for char in socket.gethostname() if char.isascii() and (char.isalnum() or char in "-.")
            )
            or "-"
        )
        if form == "rfc5424":
            # MSGID and structured data are left out
            return lambda now: f"{priority}1 {iso_time(now)} {host} {self.tag} {os.getpid()} - - "
        # A local server knows the host; it expects what syslog(3) sends, which leaves it out.
        place = "" if is_local else f"{host} "
        return lambda now: f"{priority}{short_date(now)} {place}{self.tag}[{os.getpid()}]: "


def syslog_address(target: str) -> str | tuple[str, int]:
    """The address in "syslog[:…]": a path, or host and port. Raises ValueError with what it must be."""
    rest = target.removeprefix("syslog").removeprefix(":")
    if rest == "":
        return "/dev/log"
    if rest.startswith("/"):
        return rest
    if rest.startswith("udp://"):
        rest = rest.removeprefix("udp://")
        if rest.endswith("]") or ":" not in rest:
            rest += ":514"
        host, _, port = rest.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return host, int(port)
    raise ValueError('must be "syslog", "syslog:/path" or "syslog:udp://host:port"')


def short_date(now: float) -> str:
    """The date of RFC 3164 §4.1.2, whatever the locale is: `Nov  6 08:49:37`, local time."""
    parts = time.localtime(now)
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[
        parts.tm_mon - 1
    ]
    return f"{month} {parts.tm_mday:2} {parts.tm_hour:02}:{parts.tm_min:02}:{parts.tm_sec:02}"


_complained: dict[str, float] = {}


def complain_about(error: Exception) -> None:
    """Tell stderr about a variable of a format that raises, once a minute for each kind of exception."""
    kind, now = type(error).__name__, time.monotonic()
    if now - _complained.get(kind, -60.0) >= 60.0:
        _complained[kind] = now
        complain(f"logger: lines are lost, a variable raised {kind}: {plain(str(error))[:500]}")


class ErrorLog:
    """What happened, for operators: `TIME LEVEL PID SUBSYSTEM: MESSAGE`, tracebacks indented below.

    `level` is the least that is written, and can be changed at any time. Without a logger, lines go to
    stderr. Usable from any thread; never waits, never raises.
    """

    def __init__(self, logger: Logger | None = None, level: Level = "info") -> None:
        self.logger = logger
        self.level = level

    @property
    def level(self) -> Level:
        """The least level that is written."""
        return self._level

    @level.setter
    def level(self, level: Level) -> None:
        if level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
        self._level: Level = level
        self._least = LEVELS[level]

    def debug(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        """For who looks into a problem."""
        if self._least <= 0:
            self._write("debug", subsystem, message, exc)

    def info(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        """What an operator may want to know."""
        if self._least <= 1:
            self._write("info", subsystem, message, exc)

    def warning(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        """What an operator should look at."""
        if self._least <= 2:
            self._write("warning", subsystem, message, exc)

    def error(self, subsystem: str, message: str, exc: BaseException | None = None) -> None:
        """What went wrong; `exc` adds its traceback."""
        if self._least <= 3:
            self._write("error", subsystem, message, exc)

    def _write(self, level: str, subsystem: str, message: str, exc: BaseException | None) -> None:
        try:
            text = message if len(message) <= LONGEST else message[:LONGEST] + " …"
            self._put(f"{iso_time(time.time())} {level} {os.getpid()} {subsystem}: {text}", level)
            if exc is not None:
                for line in trace_lines(exc):
                    self._put("    " + line, level)
        except Exception as e:  # a broken __str__ of an exception must not break who reports it
            complain(f"logger: a line about {subsystem} is lost: {type(e).__name__}")

    def _put(self, line: str, level: str) -> None:
        if self.logger is not None and self.logger._sink is not None:
            self.logger.write(line, level)
        else:
            complain(plain(line))


def iso_time(now: float) -> str:
    """Local time with milliseconds and zone, ISO 8601."""
    millis = int(now * 1000)
    parts = time.localtime(millis // 1000)
    offset = parts.tm_gmtoff // 60
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', parts)}.{millis % 1000:03}{zone}"


def trace_lines(exc: BaseException) -> Iterator[str]:
    """The lines of a traceback, cut in the middle when there are too many."""
    lines = "".join(traceback.format_exception(exc)).rstrip("\n").split("\n")
    lines = [line if len(line) <= 1000 else line[:1000] + " …" for line in lines]
    if len(lines) > 200:
        lines[100:-100] = [f"… {len(lines) - 200} lines …"]
    yield from lines
