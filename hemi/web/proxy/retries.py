"""What is tried again, and how often. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["IDEMPOTENT", "Budget", "Cause", "Retries"]

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose requests may be carried out twice (RFC 9110 §9.2.2)."""

Cause = Literal["connect", "closed", "timeout", "malformed", "status"]
"""Why a try failed: there was no connection; it broke before a byte of the answer came; no answer came in time; the
answer was no HTTP; its status is on the list."""


class Retries(NamedTuple):
    """When to try again: up to `most` times, for these causes. What was sent is only sent again with these methods."""

    most: int = 2
    causes: frozenset[str] = frozenset({"connect", "closed"})
    statuses: frozenset[int] = frozenset()
    methods: frozenset[str] = IDEMPOTENT

    def allow(self, cause: Cause, method: str, tries: int) -> bool:
        """Whether there may be another try after so many, if the request can still be sent."""
        if tries > self.most or (cause != "status" and cause not in self.causes):
            return False
        return cause == "connect" or method in self.methods


class Budget:
    """Bounds retries to a share of the requests, so that they do not finish off what is overloaded. A burst of `spare`
    is allowed at any time: that one node of several dies must not use it up."""

    __slots__ = ("left", "share", "spare")

    def __init__(self, share: float, spare: float = 1000.0) -> None:
        self.share = share
        self.spare = spare
        self.left = spare

    def __repr__(self) -> str:
        return f"<Budget {self.left:.1f} of {self.spare:g}>"

    def earn(self) -> None:
        """Counts a request."""
        if self.left < self.spare:
            self.left = min(self.spare, self.left + self.share)

    def spend(self) -> bool:
        """Counts a retry; False when it may not be."""
        if self.left < 1:
            return False
        self.left -= 1
        return True
