"""Errors: what they say to a log."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from hemi.upstream.errors import DialFailed, NoNodeAvailable, QueueTimeout, UpstreamError, reason_of


def test_what_a_log_needs_to_know() -> None:
    error = DialFailed("connection refused", backend="api", node="10.0.0.1:80", phase="connect")
    assert str(error) == 'backend "api": node 10.0.0.1:80: connect: connection refused'
    assert str(NoNodeAvailable("it has no nodes", backend="api")) == 'backend "api": it has no nodes'


def test_one_family() -> None:
    assert issubclass(QueueTimeout, NoNodeAvailable)
    assert issubclass(NoNodeAvailable, UpstreamError)
    assert issubclass(DialFailed, UpstreamError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("in words", "in words"),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), "connection reset by peer"),
        (ConnectionResetError(errno.ECONNRESET, "tls: bad record mac"), "tls: bad record mac"),
        (TimeoutError("the deadline has passed"), "the deadline has passed"),
        (OSError(), "OSError"),
        (ValueError("too long"), "too long"),
        (EOFError(), "EOFError"),
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
        (DialFailed("refused", node="a:1"), "refused"),
    ],
)
def test_reasons(error: BaseException | str, reason: str) -> None:
    assert reason_of(error) == reason
