"""What Gorox serves in benchmarks: components written as any user would write them."""

from __future__ import annotations

from typing import ClassVar

import gevent

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


class BenchStream(Handlet, sign="bench_stream"):
    """Goes on for as long as the client listens, a line every half second."""

    def handle(self, req: Request, resp: Response) -> bool:
        """Streams."""
        resp.content_type = "text/plain"
        while True:
            resp.echo(b"still here\n")
            gevent.sleep(0.5)


class BenchLeak(Handlet, sign="bench_leak"):
    """Loses 16 KiB of memory with each request, and takes 5 ms for it."""

    lost: ClassVar[list[bytearray]] = []

    def handle(self, req: Request, resp: Response) -> bool:
        """Leaks."""
        self.lost.append(bytearray(b"x" * 16384))
        gevent.sleep(0.005)
        resp.send(b"lost")
        return True
