"""What can go wrong with upstreams, as one family of exceptions.

Not an OSError, any of them: to whoever serves a client, those mean that the client has gone.
"""

from __future__ import annotations

import os
import socket

__all__ = ["DialFailed", "ExchangeFailed", "NoNodeAvailable", "QueueTimeout", "UpstreamError", "reason_of"]


class UpstreamError(Exception):
    """Says what the error log needs to know: backend, node ("" when it came to none), phase, reason.

    `timed_out` tells a gateway's timeout from a bad gateway.
    """

    def __init__(
        self, reason: str, *, backend: str = "", node: str = "", phase: str = "", timed_out: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.backend = backend
        self.node = node
        self.phase = phase
        self.timed_out = timed_out

    def __str__(self) -> str:
        backend = f'backend "{self.backend}"' if self.backend else ""
        node = f"node {self.node}" if self.node else ""
        return ": ".join(filter(None, (backend, node, self.phase, self.reason)))


class NoNodeAvailable(UpstreamError):
    """No node may be used: all are down, or were tried, or too many wait for one already."""


class QueueTimeout(NoNodeAvailable):
    """All nodes stayed full for longer than one may wait for them."""


class DialFailed(UpstreamError):
    """No connection came about. The phase is "resolve", "connect" or "tls"; nothing has been sent.

    `is_local` is set when this machine could not: it has no descriptor or port left. That is no fault of the node.
    """

    is_local = False


class ExchangeFailed(UpstreamError):
    """A connection was there, and what was done on it failed. The phase is the protocol's: "send", "head", …"""


def reason_of(error: BaseException | str) -> str:
    """The reason of a failure in words: "connection refused"."""
    if isinstance(error, str):
        return error
    if isinstance(error, UpstreamError):
        return error.reason
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError):
        return str(error) or type(error).__name__
    if error.errno is not None and error.strerror == os.strerror(error.errno):
        return error.strerror.lower()
    return str(error.strerror or error) or type(error).__name__
