"""The handlet `readiness`: tells load balancers and orchestrators whether to send requests here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.web.handlet import Handlet

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response


class Readiness(Handlet, sign="readiness"):
    """Answers 200 while the instance serves, and 503 when it is about to stop.

    A stopping instance goes on serving for `shutdown_delay`, so that whoever asks here has time to send requests
    elsewhere before connections are refused.
    """

    def handle(self, req: Request, resp: Response) -> bool:
        """Answers."""
        leaving = self.stage.leaving
        resp.content_type = "text/plain"
        resp.set_header("cache-control", "no-store")
        resp.send("leaving\n" if leaving else "ready\n", 503 if leaving else 200)
        return True
