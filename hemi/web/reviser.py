"""Revisers: the components that change heads and content on their way in and out.

A reviser has no state of its own for an exchange: what it needs lives in the filter that it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hemi.component import Component
from hemi.web.variables import REQUEST_SCOPE

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class Filter(Protocol):
    """Changes one content while it passes."""

    def update(self, data: bytes) -> bytes:
        """Takes the next piece; returns what can go on by now, maybe nothing."""
        ...

    def finish(self) -> bytes:
        """Returns the rest. Called once, at the end."""
        ...


class Reviser(Component, kind="revisers", nested=True):
    """Revises requests before the handlet sees them, and responses before the client does."""

    scope = REQUEST_SCOPE

    def revise_request(self, req: Request) -> Filter | None:
        """May change the head of the request; the filter it returns changes the content while it is read."""
        return None

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Filter | None:
        """May change the head of the response, which has not gone out yet; the filter changes the content.

        `size` is the size of the content in bytes, or None when it is streamed.
        """
        return None
