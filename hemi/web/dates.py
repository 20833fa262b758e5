"""HTTP dates: the three forms of RFC 9110 §5.6.7, and the one form that is sent."""

from __future__ import annotations

import re
import time
from datetime import date
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}

_TIME = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"  # 60: a leap second
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_DAY_NAME = f"(?:{'|'.join(_DAYS)})"
_LONG_DAY_NAME = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_FORMS = (
    re.compile(rf"{_DAY_NAME}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),  # IMF-fixdate
    re.compile(
        rf"{_LONG_DAY_NAME}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"
    ),  # RFC 850
    re.compile(rf"{_DAY_NAME} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),  # asctime
)
_EPOCH = date(1970, 1, 1).toordinal()


def parse_date(value: bytes | str, now: float | None = None) -> int | None:
    """Unix seconds of an HTTP date, or None if it is not one: recipients must ignore a bad date.

    The name of the day is not compared with the date. A year of two digits that seems more than 50 years
    ahead of `now` (default: this moment) is in the last century (RFC 9110 §5.6.7).
    """
    text = value if isinstance(value, str) else value.decode("latin-1")
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    day, month, year, hour, minute, second = match.group("day", "month", "year", "hour", "minute", "second")
    number = int(year)
    if len(year) == 2:
        this_year = time.gmtime(now).tm_year
        number += this_year - this_year % 100
        if number > this_year + 50:
            number -= 100
    try:
        days = date(number, _MONTH_NUMBERS[month], int(day)).toordinal() - _EPOCH
    except ValueError:  # the 30th of February, the year 0
        return None
    return days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)


def format_date(seconds: float) -> bytes:
    """The IMF-fixdate of Unix seconds (fractions are cut off): ``Sun, 06 Nov 1994 08:49:37 GMT``.

    Raises ValueError outside of the years 1 to 9999.
    """
    return _format_date(int(seconds // 1))


@lru_cache(1024)  # modification times of served files repeat: 0.1 µs instead of 1.6
def _format_date(seconds: int) -> bytes:
    days, rest = divmod(seconds, 86400)
    try:
        day = date.fromordinal(days + _EPOCH)
    except OverflowError:
        raise ValueError(f"a date must be in the years 1 to 9999, not {seconds} seconds from 1970") from None
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        _DAYS[day.weekday()].encode(),
        day.day,
        _MONTHS[day.month - 1].encode(),
        day.year,
        rest // 3600,
        rest // 60 % 60,
        rest % 60,
    )
