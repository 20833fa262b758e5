"""Waiting for what must become so, with a deadline; other greenlets run meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import psutil

TIMEOUT = 30.0
"""Seconds after which a wait is a failure, on any machine."""


def until(condition: Callable[[], Any], seconds: float = TIMEOUT) -> Any:
    """Waits until the condition holds; returns its value."""
    with gevent.Timeout(seconds, AssertionError(f"not so within {seconds:g} seconds")):
        while not (value := condition()):
            gevent.sleep(0.002)
    return value


def gone(pid: int) -> bool:
    """True when a process has ended, whether or not somebody has taken note."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
