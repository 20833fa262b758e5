"""Bytes that nobody would send: the server always answers or closes, never fails, and goes on serving others.

What it accepts is compared with what h11 makes of the same bytes: two implementations that read different requests
out of one stream of bytes are what smuggling is made of.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gevent
import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.web.request import Request
from hemi.web.response import Response
from tests.conformance import corpus
from tests.webkit import Client, Site, serve

SAMPLES = [
    case.message for case in corpus.read("valid") + corpus.read("invalid") if 0 < len(case.message) < 2000
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"0",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"\xff",
]
FUZZ = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Seen = list[tuple[str, bytes, bytes]]


class Observer:
    def __init__(self) -> None:
        self.seen: Seen = []

    def __call__(self, req: Request, resp: Response) -> bool:
        content = req.content()
        self.seen.append((req.method, req.target, content))
        resp.send(b"ok")
        return True


@pytest.fixture(scope="module")
def observed() -> Iterator[tuple[Site, Observer]]:
    observer = Observer()
    with serve(observer) as site:
        yield site, observer


def converse(site: Site, pieces: list[bytes], pause: bool) -> bytes:
    """Sends the pieces, ends, and returns all that comes until the server closes."""
    with site.connect(timeout=5) as client:
        try:
            for piece in pieces:
                client.send(piece)
                if pause:
                    gevent.sleep(1e-6)
            client.shutdown()
        except OSError:
            pass
        try:
            return client.rest()
        except ConnectionResetError:
            return client.buffer


def check(site: Site, data: bytes) -> list[int]:
    """All that came is a row of well-formed answers; the server is none the worse. Returns their statuses."""
    client = Client(None)
    client.buffer, client.ended = data, True
    statuses = []
    while client.buffer:
        statuses.append(client.answer().status)
    assert site.log.entries == []
    assert site.get("/").status == 200
    return statuses


def mutate(data: bytes, chooser: random.Random) -> bytes:
    """Changes a message here and there."""
    for _ in range(chooser.randint(1, 3)):
        at = chooser.randint(0, len(data))
        match chooser.randint(0, 4):
            case 0:
                data = data[:at] + bytes([chooser.randint(0, 255)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + chooser.randint(1, 8) :]
            case 2:
                data = data[:at] + chooser.choice(PIECES) + data[at:]
            case 3:
                end = at + chooser.randint(1, 20)
                data = data[:end] + data[at:]
            case 4:
                data = data[:at] + chooser.choice(SAMPLES)
    return data


def cut(data: bytes, chooser: random.Random) -> list[bytes]:
    """Cuts a message into pieces."""
    places = sorted(chooser.randint(0, len(data)) for _ in range(chooser.randint(0, 6)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


@FUZZ
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.booleans())
def test_random_bytes(observed: tuple[Site, Observer], pieces: list[bytes], pause: bool) -> None:
    site, _ = observed
    check(site, converse(site, pieces, pause))


@FUZZ
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=30), st.booleans())
def test_random_fragments(observed: tuple[Site, Observer], pieces: list[bytes], pause: bool) -> None:
    site, _ = observed
    check(site, converse(site, pieces, pause))


@pytest.mark.parametrize("seed", range(400))
def test_mutated_messages(observed: tuple[Site, Observer], seed: int) -> None:
    site, observer = observed
    chooser = random.Random(seed)
    data = mutate(chooser.choice(SAMPLES), chooser)
    observer.seen.clear()
    answers = check(site, converse(site, cut(data, chooser), bool(seed % 2)))
    accepted = observer.seen[: answers.count(200)]
    agree(data, accepted)


def agree(data: bytes, accepted: Seen) -> None:
    """What was served, h11 reads the same way, as far as it reads it at all."""
    for ours, theirs in zip(accepted, by_h11(data), strict=False):
        assert ours == theirs, data


def by_h11(data: bytes) -> Seen:
    """The requests that h11 finds."""
    found: Seen = []
    conn: Any = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    conn.receive_data(data)
    conn.receive_data(b"")
    head: Any = None
    content = b""
    try:
        while True:
            event = conn.next_event()
            if isinstance(event, h11.Request):
                head, content = event, b""
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((head.method.decode(), head.target, content))
                if head.http_version == b"1.1":
                    conn.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    conn.send(h11.EndOfMessage())
                if conn.their_state is not h11.DONE or conn.our_state is not h11.DONE:
                    return found
                conn.start_next_cycle()
            else:
                return found
    except h11.ProtocolError:
        return found


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[bytes], Seen]:
    """Some good requests in a row, in the many ways in which they can be written."""
    messages, expected = [], []
    for _ in range(draw(st.integers(1, 4))):
        method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]))
        path = draw(st.text("abcXYZ019-._~%!$&'()*+,;=:@/", max_size=20)).replace("%", "%41")
        target = b"/" + path.replace("..", "").replace("/.", "/").encode()
        content = draw(st.binary(max_size=200))
        fields = [b"Host: a.example"]
        for name in draw(st.lists(st.text("abcdefXYZ0-_", min_size=1, max_size=8), max_size=4)):
            value = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
            fields.append(
                b"X-%b:%b%b" % (name.encode(), draw(st.sampled_from([b"", b" ", b"\t "])), value.encode())
            )
        match draw(st.integers(0, 2)):
            case 0:
                content, body = b"", b""
            case 1:
                fields.append(b"Content-Length: %d" % len(content))
                body = content
            case _:
                fields.append(
                    draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED"]))
                )
                body, rest = b"", content
                while rest:
                    size = draw(st.integers(1, len(rest)))
                    extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b c"']))
                    body += draw(st.sampled_from([b"%x%b\r\n%b\r\n", b"0%X%b\r\n%b\r\n"])) % (
                        size,
                        extension,
                        rest[:size],
                    )
                    rest = rest[size:]
                body += b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: y\r\n"])) + b"\r\n"
        order = draw(st.permutations(fields))
        line = b"%b %b HTTP/1.1\r\n" % (method.encode(), target)
        messages.append(line + b"\r\n".join(order) + b"\r\n\r\n" + body)
        expected.append((method, target, content))
    return messages, expected


@FUZZ
@given(requests(), st.randoms(use_true_random=False), st.sampled_from([b"", b"\r\n"]), st.booleans())
def test_good_requests(
    observed: tuple[Site, Observer],
    made: tuple[list[bytes], Seen],
    chooser: random.Random,
    empty: bytes,
    pause: bool,
) -> None:
    """However they are written and cut, they are read as they were meant, and as h11 reads them."""
    site, observer = observed
    messages, expected = made
    data = empty + empty.join(messages)  # empty lines before a request line (RFC 9112 §2.2), unknown to h11
    observer.seen.clear()
    answers = check(site, converse(site, cut(data, chooser), pause))
    assert answers == [200] * len(expected), data
    assert observer.seen[: len(expected)] == expected
    assert by_h11(b"".join(messages)) == expected
