"""The corpus of messages: each whole, byte by byte, with a tail behind it, over every wire of HTTP/1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.conformance import corpus
from tests.webkit import Client, Site
from tests.wires import Wire

TAIL = b"GET /tail HTTP/1.1\r\nHost: a.example\r\n\r\n"
DRIPPED = 1500
"""Larger messages are fed in pieces of some size; the bytes that matter are in the small ones."""

VALID = corpus.read("valid")
INVALID = corpus.read("invalid")


class Observer:
    """An app that notes and answers what it sees."""

    def __init__(self) -> None:
        self.begun = 0
        self.seen: list[dict[str, Any]] = []

    def __call__(self, req: Request, resp: Response) -> bool:
        self.begun += 1
        content = req.content()
        self.seen.append(
            {
                "method": req.method,
                "path": req.path,
                "raw_path": req.raw_path.decode("latin-1"),
                "query": req.query_string,
                "version": req.version,
                "authority": req.authority,
                "hostname": req.hostname,
                "port": req.port,
                "size": req.content_size,
                "content": content.decode("latin-1"),
                "fields": {name.decode(): value.decode("latin-1") for name, value in req.index.items()},
                "trailers": {
                    name.decode(): value.decode("latin-1") for name, value in req.trailer_fields or []
                },
            }
        )
        resp.send_json({"number": len(self.seen)})
        return True


@pytest.fixture(scope="module")
def observed(wire1: Wire) -> Iterator[tuple[Site, Observer]]:
    observer = Observer()
    with wire1.serve(observer, server={"protocols": ["http/1.1"]}, webapp={"max_content_size": "1M"}) as site:
        yield site, observer
    assert site.log.of("error") == []


def feed(client: Client, message: bytes, how: str) -> None:
    """Sends a message; the server may refuse and end it long before it is complete."""
    try:
        if how == "dripped":
            if len(message) <= DRIPPED:
                client.drip(message)
            else:
                size = len(message) // 300 + 1
                for at in range(0, len(message), size):
                    client.send(message[at : at + size])
        else:
            client.send(message + (TAIL if how == "tailed" else b""))
    except OSError:
        pass


def meet(expected: dict[str, Any], seen: dict[str, Any]) -> None:
    """What was seen has at least what was expected."""
    for key, value in expected.items():
        if key == "missing":
            assert not set(value) & set(seen["fields"])
        elif key in ("fields", "trailers"):
            assert {name: seen[key].get(name) for name in value} == value
        else:
            assert seen[key] == value, key


HOWS = ("whole", "dripped", "tailed")


def ways(wire: Wire, case: corpus.Case) -> tuple[str, ...]:
    """How a case can be fed."""
    if not case.eof:
        return HOWS
    return () if wire.transport == "tls" else HOWS[:2]  # the TLS of Python cannot half-close


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_valid(wire1: Wire, observed: tuple[Site, Observer], case: corpus.Case) -> None:
    for how in ways(wire1, case):
        check_valid(wire1, *observed, case, how)


def check_valid(wire: Wire, site: Site, observer: Observer, case: corpus.Case, how: str) -> None:
    observer.seen.clear()
    with wire.connect(site) as client:
        feed(client, case.message, how)
        if case.eof:
            client.shutdown()
        for number, expected in enumerate(case.expected, 1):
            assert expected.saw is not None
            answer = client.answer(expected.saw.get("method", "GET"))
            assert answer.status in expected.statuses, how
            if answer.content:
                assert json.loads(answer.content) == {"number": number}, how
            meet(expected.saw, observer.seen[number - 1])
            assert answer.closes == expected.closes, how
        if case.closes:
            assert client.is_closed(), how
        elif how == "tailed":
            assert client.answer().status == 200
            assert observer.seen[-1]["path"] == "/tail"
        assert len(observer.seen) == len(case.expected) + (how == "tailed" and not case.closes)


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name)
def test_invalid(wire1: Wire, observed: tuple[Site, Observer], case: corpus.Case) -> None:
    for how in ways(wire1, case):
        check_invalid(wire1, *observed, case, how)


def check_invalid(wire: Wire, site: Site, observer: Observer, case: corpus.Case, how: str) -> None:
    observer.seen.clear()
    begun = observer.begun
    with wire.connect(site) as client:
        feed(client, case.message, how)
        if case.eof:
            client.shutdown()
        *before, last = case.expected
        for expected in before:
            assert client.answer().status in expected.statuses, how
        answer = client.answer()
        assert answer.status in last.statuses, how
        assert answer.closes, how
        assert client.is_closed(), how
    assert len(observer.seen) == len(before), how
    if not last.in_content:
        assert observer.begun == begun + len(before), how
