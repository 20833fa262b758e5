"""Servers: what listens. The kind itself; what is spoken belongs to the packages of the protocols."""

from __future__ import annotations

from typing import Any

from hemi.component import Component


class Server(Component, kind="servers"):
    """Listens on addresses and serves what comes."""

    requests = 0
    """How many requests, calls or sessions were begun."""

    @property
    def conns(self) -> int:
        """How many connections are open."""
        return 0

    @property
    def addresses(self) -> list[str]:
        """The addresses as they were bound, from `prepare` on."""
        return []

    def explain(
        self, method: str, url: str, fields: list[tuple[str, str]], source: str
    ) -> dict[str, Any] | None:
        """What a request would meet here, without serving it: plain data for operators.

        `source` is the client's address. None when this server does not get such requests.
        """
        return None

    def rehearse(self) -> None:
        """Does what must succeed before a new process is said to be ready, when all has started.

        Raises EnvError.
        """

    def urls(self) -> list[str]:
        """The addresses as one may type them into a client."""
        return self.addresses
