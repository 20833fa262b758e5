"""Handlets: the components that answer requests. The kind itself; ready-made ones are in `hemi.builtin.handlets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.component import Component
from hemi.web.variables import REQUEST_SCOPE

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class Handlet(Component, kind="handlets", nested=True):
    """Produces a response, or declines."""

    scope = REQUEST_SCOPE

    def handle(self, req: Request, resp: Response) -> bool | None:
        """Answers the request through `resp` and returns True, or returns False to let the next one try.

        Runs in the greenlet of the connection and may block: other connections go on meanwhile. An exception becomes
        a logged 500; `HTTPError` becomes the error page of its status.
        """
        raise NotImplementedError
