"""User names and passwords of who may come in, whatever protocol asks for them.

What costs time is kept away from everybody else. Hashes are verified in threads of their own, a few at a time, and a
success is remembered for a while: under the HMAC of hash, user and password with a key of this process, so that
memory holds no password, and a changed hash forgets it. A user that does not exist costs what one that does costs. A
client that fails too often must wait before its next guess is looked at at all.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Iterator
from math import ceil

from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from hemi.component import Component, prop
from hemi.errors import EnvError, UsageError
from hemi.library import htpasswd
from hemi.library.tokenbucket import TokenBuckets
from hemi.library.watchedfile import WatchedFile
from hemi.peers import client_of
from hemi.values import Duration, Path, Secret

__all__ = ["Passwords", "PutOff", "Verifier"]

THREADS = 4
MAX_WAITING = 64
"""How many verifications may wait for a thread; more are put off."""
MAX_CACHED = 10000
MAX_CLIENTS = 50000
"""Of how many clients the failures are counted."""


class PutOff(Exception):
    """A password was not even looked at: the client must wait `seconds` first. `is_guessing` tells why: it was wrong
    too often, or else there is too much to do."""

    def __init__(self, reason: str, seconds: int, is_guessing: bool) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.is_guessing = is_guessing


class Passwords(Component):
    """The part of a component that knows users and their passwords."""

    users: dict[str, Secret] = prop({}, "Hashes of passwords by user name.", inherit=False)
    users_file: Path | None = prop(
        None,
        "A file with a line user:hash for each, as htpasswd makes it. Changes count at once.",
        inherit=False,
    )
    allow_plain: bool = prop(False, 'Take "{PLAIN}password" for a hash, too. For experiments.', inherit=False)
    cache_time: Duration = prop(
        "5m", "How long a right password is not verified again; 0: always verify.", inherit=False
    )
    max_failures: int = prop(
        20,
        "How many wrong passwords a client may try at once, and per failure_window; 0: any number.",
        least=0,
        inherit=False,
    )
    failure_window: Duration = prop("1m", "See max_failures.", least="1s", inherit=False)

    @property
    def has_users(self) -> bool:
        """Whether there is anybody to know."""
        return bool(self.users) or self.users_file is not None

    def check(self) -> Iterator[str | tuple[str, str]]:
        """All hashes must be usable, those of the file as well."""
        for name, hashed in self.users.items():
            try:
                htpasswd.check_user(name)
                htpasswd.scheme_of(hashed, self.allow_plain)
            except ValueError as error:
                yield "users", f'"{name}": {error}'
        if self.users_file is not None:
            try:
                self._watch(self.users_file)
            except ValueError as error:
                yield "users_file", f"{self.users_file} is not usable: {error}"
            except OSError as error:
                yield "users_file", f"cannot be read: {self.users_file}: {error.strerror}"

    def prepare(self) -> None:
        """Reads the file. Raises EnvError or UsageError when that is impossible by now."""
        try:
            self._file = self._watch(self.users_file) if self.users_file is not None else None
        except ValueError as error:
            raise UsageError(f"{self.users_file} is not usable: {error}") from error
        except OSError as error:
            raise EnvError(f"cannot read {self.users_file}: {error.strerror}") from error
        failures = None
        if self.max_failures:
            failures = TokenBuckets(self.max_failures / self.failure_window, self.max_failures, MAX_CLIENTS)
        self._verifier = Verifier(self.cache_time, failures)

    def stop(self, deadline: float) -> None:
        """Lets the threads go."""
        if hasattr(self, "_verifier"):
            self._verifier.close()

    def _watch(self, path: str) -> WatchedFile[dict[str, str]]:
        return WatchedFile(
            path,
            lambda text: htpasswd.parse(text, self.allow_plain),
            lambda message: self.stage.log.error("auth", message),
        )

    def knows(self, user: str, password: bytes, host: str) -> bool:
        """Tells whether this is the password of this user; `host` is the address of who says so. Raises PutOff."""
        of_file = self._file.get() if self._file is not None else {}
        hashed = self.users.get(user) or of_file.get(user)
        if hashed is not None and self._verifier.remembers(hashed, user, password):
            return True
        decoys = () if hashed is not None else (*self.users.values(), *of_file.values())
        return self._verifier.verify(hashed, user, password, decoys, client_of(host))


class Verifier:
    """Verifies passwords in threads, and remembers those that were right for `cache_time` seconds.

    `failures` has a token for each password that a client may still get wrong.
    """

    def __init__(self, cache_time: float, failures: TokenBuckets | None) -> None:
        self._cache_time = cache_time
        self._failures = failures
        self._key = os.urandom(32)
        self._right: dict[bytes, float] = {}  # digest -> until when it counts
        self._running: dict[bytes, AsyncResult[bool]] = {}
        self._pool: ThreadPool | None = None

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.kill()
            self._pool = None

    def _digest(self, hashed: str, user: str, password: bytes) -> bytes:
        text = f"{hashed}\0{user}\0".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, text + password, "sha256")

    def remembers(self, hashed: str, user: str, password: bytes) -> bool:
        """Tells whether this was right not long ago."""
        until = self._right.get(self._digest(hashed, user, password))
        return until is not None and until > time.monotonic()

    def verify(
        self, hashed: str | None, user: str, password: bytes, decoys: tuple[str, ...], client: str
    ) -> bool:
        """Verifies a password; for a user that does not exist, who has no hash, one of `decoys`, always the same.

        Equal verifications that come at the same time are made once: browsers open several connections. Raises
        PutOff.
        """
        exists = hashed is not None
        if hashed is None:
            if not decoys:
                return False
            hashed = decoys[int.from_bytes(self._digest("", user, b"")[:8], "big") % len(decoys)]
        digest = self._digest(hashed, user, password)
        running = self._running.get(digest)
        if running is not None:
            return bool(running.get()) and exists
        self._admit(client)
        running = self._running[digest] = AsyncResult()
        right = False
        try:
            right = self._in_thread(hashed, password) and exists
        finally:
            del self._running[digest]
            running.set(right)
        if right:
            self._remember(digest, client)
        return right

    def _admit(self, client: str) -> None:
        """Counts a guess, as a failure until it proves right."""
        if len(self._running) >= MAX_WAITING:
            raise PutOff("too many passwords are being verified", 1, is_guessing=False)
        if self._failures is not None:
            taken = self._failures.take(client, time.monotonic())
            if not taken.allowed:
                raise PutOff("too many passwords are tried", ceil(taken.wait), is_guessing=True)

    def _in_thread(self, hashed: str, password: bytes) -> bool:
        if self._pool is None:
            self._pool = ThreadPool(THREADS)
        result: bool = self._pool.apply(htpasswd.verify, (hashed, password))
        return result

    def _remember(self, digest: bytes, client: str) -> None:
        if self._failures is not None:
            self._failures.give_back(client)
        if self._cache_time:
            if len(self._right) >= MAX_CACHED:
                del self._right[next(iter(self._right))]
            self._right[digest] = time.monotonic() + self._cache_time
