"""The circuit breaker of a node: what its answers to real traffic say about it.

Closed, it lets everything through, and opens after so many failures in a row, or when so large a part of what
came within a window failed. Open, it lets nothing through for a while, which doubles every time up to a
limit. Half open, it lets a few probes through: one that fails opens it again, as many successes as wanted
close it. Pure: `now` is passed in, in seconds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Breaker", "Rules", "State"]

State = Literal["closed", "open", "half-open"]


class Rules(NamedTuple):
    """When to open and to close. `max_fails` and `fail_rate` (0 to 1) are off when 0."""

    max_fails: int = 3
    fail_rate: float = 0.0
    fail_window: float = 10.0
    least_requests: int = 20
    fail_timeout: float = 10.0
    most_timeout: float = 60.0
    probes: int = 1


class Breaker:
    """Counts, and decides. While `state` is "closed", a success is `fails = 0` and `passed += 1`, which callers on the
    hot path write themselves."""

    __slots__ = ("_begun", "_failed", "_opened", "_rules", "fails", "passed", "state", "until")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.state: State = "closed"
        self.fails = 0  # in a row
        self.passed = 0  # within the window
        self.until = 0.0  # when an open one lets probes through
        self._failed = 0  # within the window
        self._begun = 0.0  # of the window
        self._opened = 0  # times without having closed in between

    def __repr__(self) -> str:
        return f"<Breaker {self.state} fails={self.fails}>"

    @property
    def is_on(self) -> bool:
        """Whether it ever opens."""
        return self._rules.max_fails > 0 or self._rules.fail_rate > 0

    @property
    def probes(self) -> int:
        """How many may go through at a time while it is half open."""
        return self._rules.probes

    def success(self) -> bool:
        """Notes that something went well; True when this closes the breaker."""
        self.fails = 0
        self.passed += 1
        if self.state == "half-open" and self.passed >= self._rules.probes:
            self.reset()
            return True
        return False

    def failure(self, now: float) -> bool:
        """Notes a failure; True when this opens the breaker."""
        rules = self._rules
        self.fails += 1
        if self.state == "open":
            return False  # of something that was on its way
        if self.state == "half-open":
            self._open(now)
            return True
        if now - self._begun >= rules.fail_window:
            self._begun, self._failed, self.passed = now, 0, 0
        self._failed += 1
        total = self._failed + self.passed
        if (rules.max_fails and self.fails >= rules.max_fails) or (
            rules.fail_rate and total >= rules.least_requests and self._failed >= rules.fail_rate * total
        ):
            self._open(now)
            return True
        return False

    def _open(self, now: float) -> None:
        rules = self._rules
        self.until = now + min(rules.fail_timeout * 2.0 ** min(self._opened, 30), rules.most_timeout)
        self._opened += 1
        self.state = "open"

    def tick(self, now: float) -> bool:
        """Looks at the time; True when an open one has become half open, or a window of traffic has passed."""
        if self.state == "open" and now >= self.until:
            self.state = "half-open"
            self.passed = 0
            return True
        if self.state == "closed" and now - self._begun >= self._rules.fail_window:
            self._begun, self._failed, self.passed = now, 0, 0
        return False

    def reset(self) -> None:
        """Closes it, and forgets."""
        self.state = "closed"
        self.fails = self.passed = self._failed = self._opened = 0

    def adopt(self, other: Breaker) -> None:
        """Takes over what another one knows: the same node's, of the stage before."""
        if self.is_on:
            self.state, self.fails, self.until = other.state, other.fails, other.until
            self._opened = other._opened
