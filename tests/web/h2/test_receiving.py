"""Frames against a model: whatever a client sends, the connection survives or ends by a GOAWAY, and serves others.

What single frames do is in tests/conformance/test_h2_frames.py and test_h2_streams.py, section by section.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.web.h2.frames import KINDS
from hemi.web.h2.receiving import HANDLERS
from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    RST_STREAM,
    WINDOW_UPDATE,
    Ended,
    RawClient,
    frame,
    word,
)
from tests.webkit import Site, serve, until


def echo(req: Request, resp: Response) -> bool:
    resp.send(req.content())
    return True


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve(echo, server={"h2_max_resets": 10_000, "head_timeout": "1h"}) as running:
        yield running
        assert not running.log.of("error")
        until(lambda: not running.conns)


def test_every_kind_has_its_function() -> None:
    assert set(HANDLERS) == set(KINDS)


def end_of(client: RawClient) -> tuple[dict[int, list[str]], int | None]:
    """What came on each stream, and the code of the GOAWAY, if any. Ends with a PING's answer or the connection."""
    came: dict[int, list[str]] = {}
    code = None
    client.send(frame(PING, 0, 0, b"the end!"))
    try:
        while True:
            one = client.frame()
            if one.kind == PING and one.payload == b"the end!":
                return came, code
            if one.kind == GOAWAY:
                code = one.code
            elif one.kind in (HEADERS, DATA, RST_STREAM):
                name = {HEADERS: "head", DATA: "data", RST_STREAM: "reset"}[one.kind]
                if one.kind == HEADERS:
                    client.decoder.decode(one.payload)
                came.setdefault(one.sid, []).append(
                    name + ("." if one.flags & END_STREAM and name != "reset" else "")
                )
    except Ended:
        return came, code


def check_order(came: dict[int, list[str]]) -> None:
    """On every stream at most one answer, in order, and nothing behind its end but a reset."""
    for what in came.values():
        text = " ".join(what)
        body = text.removesuffix("reset").strip()
        assert text.count("reset") <= 1 and (text.endswith("reset") or "reset" not in text), text
        assert body.count("head") <= 1 and (not body or body.startswith("head")), text
        assert "." not in body[:-1], text


KIND = st.one_of(st.sampled_from(sorted(KINDS)), st.integers(0, 255))
FRAME = st.builds(
    lambda kind, flags, sid, payload: frame(kind, flags, sid, payload),
    KIND,
    st.one_of(st.sampled_from([0, 1, 4, 5, 8, 13, 32, 37]), st.integers(0, 255)),
    st.sampled_from([0, 1, 3, 5, 7, 2, 0x7FFFFFFF, 0x80000001]),
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"\x82\x86\x84\x41\x01a", b"\0\0\0\1", b"\0" * 8, b"\0" * 5, b"\0\4\0\0\0\1"]),
    ),
)


@given(st.lists(FRAME, max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_frames(site: Site, sent: list[bytes]) -> None:
    with RawClient(site) as client, gevent.Timeout(10):
        client.send(*sent)
        came, _ = end_of(client)
        check_order(came)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_field_block(site: Site, block: bytes) -> None:
    with RawClient(site) as client, gevent.Timeout(10):
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
        came, _ = end_of(client)
        check_order(came)


class Model:
    """The states of streams as RFC 9113 §5.1 has them, for a client that keeps to the rules but for one step."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.open: dict[int, bytes] = {}
        self.expected: dict[int, bytes] = {}
        self.closed: list[int] = []
        self.next = 1

    def step(self, client: RawClient) -> None:
        """Sends something that is allowed now."""
        choice = self.random.choice(
            ["get", "post", "data", "end", "trailers", "reset", "window", "ping", "late"]
        )
        sid = self.random.choice([*self.open, 0])
        if choice == "get":
            client.send(client.headers(self.take()))
            self.expected[self.next - 2] = b""
        elif choice == "post" and len(self.open) < 50:
            sid = self.take()
            block = client.block(POST)
            cut = self.random.randrange(len(block))
            client.send(
                frame(HEADERS, 0, sid, block[:cut]), frame(CONTINUATION, END_HEADERS, sid, block[cut:])
            )
            self.open[sid] = b""
        elif choice == "data" and sid:
            data = self.random.randbytes(self.random.randrange(1, 300))
            pad = self.random.randrange(3)
            client.send(frame(DATA, PADDED, sid, bytes([pad]) + data + b"\0" * pad))
            self.open[sid] += data
        elif choice in ("end", "trailers") and sid:
            client.send(
                frame(DATA, END_STREAM, sid) if choice == "end" else client.headers(sid, [("x", "y")])
            )
            self.expected[sid] = self.open.pop(sid)
        elif choice == "reset" and sid:
            client.send(frame(RST_STREAM, 0, sid, word(8)))
            del self.open[sid]
            self.closed.append(sid)
        elif choice == "window":
            client.send(frame(WINDOW_UPDATE, 0, sid, word(self.random.randrange(1, 1000))))
        elif choice == "ping":
            client.send(frame(PING, ACK, 0, b"whatever"))
        elif choice == "late" and self.closed:
            client.send(frame(RST_STREAM, 0, self.closed[0], word(8)))

    def take(self) -> int:
        self.next += 2
        return self.next - 2


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_allowed_is_served(site: Site, seed: int) -> None:
    model = Model(seed)
    with RawClient(site) as client, gevent.Timeout(20):
        for _ in range(150):
            model.step(client)
        for sid in list(model.open):
            client.send(frame(DATA, END_STREAM, sid))
            model.expected[sid] = model.open.pop(sid)
        got: dict[int, bytes] = dict.fromkeys(model.expected, b"")
        left = set(model.expected)
        while left:
            one = client.frame()
            assert one.kind != GOAWAY, one
            assert one.kind != RST_STREAM or one.sid not in left, one
            if one.kind == DATA:
                got[one.sid] += one.payload
            if one.kind in (DATA, HEADERS) and one.flags & END_STREAM:
                left.discard(one.sid)
        assert got == model.expected


@pytest.mark.parametrize("cut", [1, 2, 5, 7])
def test_frames_in_any_pieces(site: Site, cut: int) -> None:
    with RawClient(site) as client, gevent.Timeout(20):
        data = b""
        for sid in range(1, 41, 2):
            data += client.headers(
                sid, GET if sid % 4 == 1 else POST, END_HEADERS | (END_STREAM if sid % 4 == 1 else 0)
            )
            if sid % 4 == 3:
                data += frame(DATA, END_STREAM, sid, b"x" * sid)
        for at in range(0, len(data), cut):
            client.send(data[at : at + cut])
        for sid in range(1, 41, 2):
            client.until(HEADERS, sid)
