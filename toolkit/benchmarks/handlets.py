"""What Gorox serves in benchmarks: a component written as any user would write one."""

from __future__ import annotations

from hemi.web.handlet import Handlet
from hemi.web.request import Request
from hemi.web.response import Response


class BenchHello(Handlet, sign="bench_hello"):
    """Says hello."""

    def handle(self, req: Request, resp: Response) -> bool:
        """Answers with a constant."""
        resp.content_type = "text/plain"
        resp.send(b"hello, world!")
        return True
