"""systemd: what it is told (sd_notify(3)), and the sockets that it hands over (sd_listen_fds(3)).

Without systemd (no NOTIFY_SOCKET, no LISTEN_FDS) nothing happens. The variables are taken out of the environment, so
that workers and what they start do not take themselves for the service.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

__all__ = ["Notify", "passed_sockets"]

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class Notify:
    """The notification socket of the service manager. Nothing here raises: the service runs without it too."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self.path = environ.pop("NOTIFY_SOCKET", "")
        self.interval = _watchdog_interval(environ)
        """Seconds between the pings that the service manager wants, 0 when it wants none."""

    def __repr__(self) -> str:
        return f"<Notify {self.path or 'off'}>"

    def send(self, **assignments: object) -> None:
        """Sends assignments such as READY=1; names are turned to upper case."""
        if not self.path:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in assignments.items())
        address = "\0" + self.path[1:] if self.path.startswith("@") else self.path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError:
            pass

    def ready(self, status: str) -> None:
        """The service serves, again or for the first time."""
        self.send(ready=1, status=status)

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. Type=notify-reload wants the time as well."""
        self.send(reloading=1, monotonic_usec=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self) -> None:
        """The service begins to stop."""
        self.send(stopping=1)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.send(status=text)

    def main_pid(self, pid: int) -> None:
        """Another process is the service from now on."""
        self.send(mainpid=pid)

    def ping(self) -> None:
        """We are alive."""
        self.send(watchdog=1)


def _watchdog_interval(environ: MutableMapping[str, str]) -> float:
    usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1e6 / 2


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[tuple[int, str]]:
    """Returns the descriptors that were passed to this process, with their names ("" for none)."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    names += [""] * int(count)
    return [(FIRST_DESCRIPTOR + index, names[index]) for index in range(int(count))]
