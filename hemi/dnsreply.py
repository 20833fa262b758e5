"""What name servers tell, for who asks and for who is told.

No sockets and no messages in here: `hemi.dnsclient`, which has them, is imported when the first name is asked for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["DNSFailure", "Reply", "Server"]

Server = tuple[str, int]
"""Address and port."""


class DNSFailure(Exception):
    """A server did not tell: no answer, or one that is none (SERVFAIL, REFUSED)."""


class Reply(NamedTuple):
    """What a server told: addresses (or SRV fields), for how many seconds; whether the name exists at all."""

    values: list[Any]
    ttl: float
    is_absent: bool
