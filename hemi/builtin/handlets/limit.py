"""The handlet `limit`: how many requests, how many at the same time, and how many bytes a second, for each key.

What is counted is counted in the memory of one worker: with four workers a client may get up to four times as much,
and a reload counts from the beginning. Tables are bounded; see `hemi.library.tokenbucket` for what happens when
somebody comes with more keys than they hold.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

from gevent import sleep

from hemi.component import prop
from hemi.library.sparing import Sparing
from hemi.library.tokenbucket import ENTRY_SIZE, Taken, TokenBuckets
from hemi.peers import client_of
from hemi.source import Given
from hemi.values import Condition, Context, Duration, Kind, Size, Template
from hemi.web.handlet import Handlet
from hemi.web.throttle import ThrottledStream

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response
    from hemi.web.reviser import Filter, Reviser

LONGEST_KEY = 64
"""Characters; longer keys are counted by their digest, so that nobody can fill the memory with them."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Rate(NamedTuple):
    """So many in so many seconds."""

    amount: int
    seconds: float
    text: str


class RateKind(Kind):
    """A number per time: 10/s, 100/m, 5000/h, 3/10s."""

    noun = 'a rate such as "10/s", "100/m" or "50/10s"'
    _form = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,5})?([smhd])")

    def parse(self, given: Given, context: Context) -> Rate:
        match = self._form.fullmatch(given.value) if isinstance(given.value, str) else None
        if match is None:
            self.refuse(given)
        return Rate(int(match[1]), int(match[2] or 1) * _UNITS[match[3]], match[0])

    def show(self, value: Rate) -> Any:
        return value.text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[1-9][0-9]*/([1-9][0-9]*)?[smhd]$"}


class Limit(Handlet, sign="limit"):
    """Refuses requests beyond a limit (429 with Retry-After), and declines all others, so that the next handlet or rule
    serves them.

    Requests are counted by token buckets: `requests: 100/m` lets 100 come at once, and one more every 0.6 seconds.
    Clients can read in the RateLimit fields of all responses where they stand.
    """

    key: Template = prop(
        "$src_host",
        "What is counted together, such as $header_x_api_key; IPv6 clients by their /64. What has an empty key is "
        "not limited.",
        inherit=False,
    )
    requests: Annotated[Rate, RateKind()] | None = prop(None, "How many requests per time.", inherit=False)
    burst: int | None = prop(
        None,
        "How many of these may come at once; as many as requests says when missing.",
        least=1,
        inherit=False,
    )
    max_delay: Duration = prop(
        "0s", "How long requests beyond that may wait for their turn, before any is refused.", inherit=False
    )
    concurrent: int | None = prop(
        None, "How many requests may be served at the same time.", least=1, inherit=False
    )
    bandwidth: Size | None = prop(
        None, "Bytes per second of all the responses together.", least="256", inherit=False
    )
    bandwidth_burst: Size | None = prop(
        None, "Bytes that go out at full speed before that; those of a second when missing.", inherit=False
    )
    exempt: Condition | None = prop(None, "Which requests are not limited.", inherit=False)
    status: int = prop(429, "The status of refusals.", least=400, most=599, inherit=False)
    fields: bool = prop(True, "Send RateLimit and RateLimit-Policy when requests are limited.", inherit=False)
    dry_run: bool = prop(False, "Log what would be refused or delayed, and let it pass.", inherit=False)
    memory: Size = prop(
        "16M", "How large the table of keys may get, in each worker.", least="64K", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """There must be a limit, and what belongs to it must not stand alone."""
        if self.requests is None and self.concurrent is None and self.bandwidth is None:
            yield "must have requests, concurrent or bandwidth"
        if self.requests is None and self.burst is not None:
            yield "burst", "needs requests"
        if self.requests is None and self.max_delay:
            yield "max_delay", "needs requests"
        if self.bandwidth is None and self.bandwidth_burst is not None:
            yield "bandwidth_burst", "needs a bandwidth"
        if self.key.constant == "":
            yield "key", "must not be empty"

    def prepare(self) -> None:
        """Makes the tables."""
        most = self.memory // ENTRY_SIZE
        self._buckets = self._bytes = None
        if self.requests is not None:
            rate, capacity = self.requests.amount / self.requests.seconds, self.burst or self.requests.amount
            self._buckets = TokenBuckets(rate, capacity, most)
            self._policy = f"q={capacity};w={ceil(capacity / rate - 1e-6)}"
        if self.bandwidth is not None:
            self._bytes = TokenBuckets(self.bandwidth, self.bandwidth_burst or self.bandwidth, most)
        self._running: dict[str, int] = {}
        self._by_client = self.key.text == "$src_host"
        self._title = f'"{self.name or "default"}"'
        self._mark = f"limit {id(self)}"  # in the state of requests that were counted
        self._logging = Sparing()

    def handle(self, req: Request, resp: Response) -> bool:
        """Declines when the request is within the limits."""
        if self.exempt is not None and self.exempt(req):
            return False
        key = self._key_of(req)
        if not key:
            return False
        if req.state is None:
            req.state = {}
        elif self._mark in req.state:  # the rules are searched once more for a request that was let in
            self._announce(resp, req.state[self._mark])
            return False
        full = self.concurrent is not None and not self._enter(key, req)
        if full and self._refuse(req, resp, key, "concurrent", 1):
            return True
        taken = None
        if self._buckets is not None:
            taken = self._buckets.take(key, monotonic(), 1.0, self.max_delay)
            self._announce(resp, taken)
            if not taken.allowed:
                if self._refuse(req, resp, key, "requests", ceil(taken.wait)):
                    return True
            elif taken.wait:
                self._delay(req, key, taken.wait)
        if self._bytes is not None and not self.dry_run:
            resp.stream = cast("Any", ThrottledStream(resp.stream, self._bytes, key))
        req.state[self._mark] = taken
        return False

    def _key_of(self, req: Request) -> str:
        key = client_of(req.src_host) if self._by_client else self.key(req)
        if len(key) > LONGEST_KEY:
            key = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return key

    def _enter(self, key: str, req: Request) -> bool:
        """Counts a request until its end; False when there are as many as may be."""
        running = self._running.get(key, 0)
        full = running >= cast("int", self.concurrent)
        if not full or self.dry_run:
            self._running[key] = running + 1
            req.at_end(partial(self._leave, key))
        return not full

    def _leave(self, key: str) -> None:
        running = self._running[key] - 1
        if running:
            self._running[key] = running
        else:
            del self._running[key]

    def _delay(self, req: Request, key: str, seconds: float) -> None:
        if self.dry_run:
            self._log(req, key, f"would wait for {seconds:.3f} seconds")
        else:
            sleep(seconds)

    def _refuse(self, req: Request, resp: Response, key: str, what: str, retry_after: int) -> bool:
        """Refuses the request; False when that is only for the log."""
        if self.dry_run:
            self._log(req, key, f"would be over the limit of {what}")
            return False
        self._log(req, key, f"is over the limit of {what}")
        resp.error(self.status, headers=(("retry-after", str(max(1, retry_after))),))
        return True

    def _log(self, req: Request, key: str, what: str) -> None:
        more = self._logging.admit(monotonic())
        if more is not None:
            also = f", and {more} others before" if more else ""
            self.stage.log.warning("limit", f"{key!r} {what} at {req.line()} from {req.src_host}{also}")

    def _announce(self, resp: Response, taken: Taken | None) -> None:
        if self.fields and taken is not None and not self.dry_run:
            announcement = Announcement(self._title, self._policy, taken)
            resp.revisers = (*resp.revisers, cast("Reviser", announcement))


class Announcement:
    """Puts the RateLimit fields (draft-ietf-httpapi-ratelimit-headers-10) on a response, whoever makes it.

    It stands among the revisers: what is set on a response before its handlet is known, many handlets replace.
    """

    __slots__ = ("_policy", "_taken", "_title")

    def __init__(self, title: str, policy: str, taken: Taken) -> None:
        self._title = title
        self._policy = policy
        self._taken = taken

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Filter | None:
        """Adds the fields."""
        taken = self._taken
        until = taken.full_in if taken.allowed else taken.wait
        resp.add_header("ratelimit-policy", f"{self._title};{self._policy}")
        resp.add_header("ratelimit", f"{self._title};r={taken.left};t={ceil(until - 1e-6)}")
        return None
