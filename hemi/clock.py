"""The time of day, ready to be sent: the fixture "clock".

Belongs here: the Date field line (RFC 9110 §6.6.1), made four times a second instead of with every response.
Parsing the dates of others belongs to the web; deadlines belong to the connections.
"""

from __future__ import annotations

import time
from typing import Any

from gevent import get_hub

from hemi.component import Component

__all__ = ["Clock", "http_date"]

INTERVAL = 0.25  # seconds; how late the Date may be

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(seconds: float) -> str:
    """The IMF-fixdate of a Unix time: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), in any locale."""
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return f"{DAYS[weekday]}, {day:02} {MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


class Clock(Component, kind="fixtures", sign="clock"):
    """Keeps the Date line: right from `prepare` on, and at most a quarter of a second late after `start`."""

    date_line: bytes  # b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    date: str  # the date alone
    second: int  # the Unix time that both say
    _timer: Any

    def prepare(self) -> None:
        """Tell the time once."""
        self._timer = None
        self.second = -1
        self._tick()

    def start(self) -> None:
        """Tell it from now on; the timer does not keep the hub alive."""
        self._tick()
        self._timer = get_hub().loop.timer(INTERVAL, INTERVAL, ref=False)
        self._timer.start(self._tick)

    def stop(self, deadline: float) -> None:
        """Stand still."""
        timer = getattr(self, "_timer", None)
        if timer is not None:
            timer.stop()
            timer.close()
            self._timer = None

    def _tick(self) -> None:
        now = int(time.time())
        if now != self.second:
            self.date = http_date(now)
            self.date_line = f"date: {self.date}\r\n".encode("ascii")
            self.second = now
