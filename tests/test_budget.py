"""What an exchange costs in Python calls: an exact number, where times are noise (ARCHITECTURE §5)."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import greenlet as greenlets
import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import config, running, scripted

EXCHANGES = 20

PLAIN = b"GET /bench?a=1 HTTP/1.1\r\nHost: a.example\r\n\r\n"
BROWSER = (
    b"GET /bench HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0\r\n"
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nSec-Fetch-Site: none\r\n"
    b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\n\r\n"
)


def counted(message: bytes, changing: bool, folder: Path) -> Counter[str]:
    """The Python functions that run for an exchange, on average, on a connection that is kept."""

    def app(req: Request, resp: Response) -> bool:
        resp.send(b"hello")
        return True

    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and "/hemi/" in frame.f_code.co_filename:
            calls[frame.f_code.co_qualname] += 1

    rules = [
        {"if": '$path == "/other"', "return_code": 200},
        {"if": '$path ^= "/api/"', "return_code": 200},
        {"handlets": [scripted(app)]},
    ]
    mapping = config(rules=rules, stage={"access_log": "access"})
    mapping["loggers"] = {"access": {"target": str(folder / "access.log"), "format": "combined"}}
    with running(mapping, str(folder)) as site, site.connect() as client:
        client.send(message)
        client.answer()
        (conn,) = site.conns
        greenlet = conn.greenlet

        def tracer(event: str, args: Any) -> None:
            # Only what the connection's own greenlet does counts, not the client and the hub.
            sys.setprofile(profile if args[1] is greenlet else None)

        previous = greenlets.settrace(tracer)
        try:
            for number in range(EXCHANGES):
                data = (
                    message.replace(b"\r\n\r\n", b"\r\nX-Number: %d\r\n\r\n" % number)
                    if changing
                    else message
                )
                client.send(data)
                client.answer()
        finally:
            greenlets.settrace(previous)
            sys.setprofile(None)
        assert site.log.entries == []
    assert len((folder / "access.log").read_text().splitlines()) == EXCHANGES + 1
    return calls


@pytest.mark.parametrize("message", [PLAIN, BROWSER], ids=["plain", "browser"])
@pytest.mark.parametrize("changing", [False, True], ids=["same", "changing"])
def test_an_exchange_stays_within_its_budget(message: bytes, changing: bool, tmp_path: Path) -> None:
    """At most 30 calls with limits and log for a request as a client repeats it, and for one with new fields that
    many more as its fields cost: a callback of the parser each."""
    calls = counted(message, changing, tmp_path)
    number = sum(calls.values()) / EXCHANGES
    fields = message.count(b"\r\n") - 2 + changing
    budget = 30 + (fields + 4 if changing else 0)
    report = "\n".join(f"{count / EXCHANGES:6.2f} {name}" for name, count in calls.most_common())
    assert 5 < number <= budget, f"{number} calls of {budget}:\n{report}"
