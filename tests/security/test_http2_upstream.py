"""What nodes that speak HTTP/2 may try on a proxy (SECURITY, rows 4, 5, 7, 8): it bounds what it takes, the client can
tell a broken answer from a whole one, and the other exchanges go on where the connection can."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from h2.errors import ErrorCodes
from hpack import Encoder

from tests.h2node import Exchange, Node2
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import Malformed, Site, until

V2 = {"version": "2", "max_fails": 0}

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def head(*fields: tuple[str, str], status: str = "200", encoder: Encoder | None = None) -> bytes:
    return (encoder or Encoder()).encode([(":status", status), *fields])


class Raw:
    """A node that sends what a test says, when a request has come."""

    def __init__(self, *steps: bytes | Callable[[Any], None], then_listen: bool = True) -> None:
        self.steps = steps
        self.heard = b""
        self.then_listen = then_listen

    def __call__(self, sock: Any) -> None:
        sock.sendall(frame(SETTINGS))
        while not self._asked():
            data = sock.recv(65536)
            if not data:
                return
            self.heard += data
        for step in self.steps:
            if callable(step):
                step(sock)
            else:
                sock.sendall(step)
        while self.then_listen and (data := sock.recv(65536)):
            self.heard += data

    def frames(self) -> list[tuple[int, int, bytes]]:
        """Kind, stream and payload of what the proxy sent."""
        at, found = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []
        while at + 9 <= len(self.heard):
            size = int.from_bytes(self.heard[at : at + 3], "big")
            number = int.from_bytes(self.heard[at + 5 : at + 9], "big")
            found.append((self.heard[at + 3], number, self.heard[at + 9 : at + 9 + size]))
            at += 9 + size
        return found

    def _asked(self) -> bool:
        return any(kind == HEADERS for kind, _, _ in self.frames())

    def resets(self) -> list[int]:
        """The codes of its RST_STREAM frames."""
        return [int.from_bytes(payload, "big") for kind, _, payload in self.frames() if kind == RST_STREAM]

    def goodbye(self) -> int | None:
        """The code of its GOAWAY."""
        codes = [int.from_bytes(payload[4:8], "big") for kind, _, payload in self.frames() if kind == GOAWAY]
        return codes[-1] if codes else None


@contextmanager
def attacked(*steps: bytes | Callable[[Any], None], **backend: Any) -> Any:
    raw = Raw(*steps)
    with (
        Node2(raw=raw) as node,
        proxying(node.address, backend={**V2, **backend}, head_timeout="5s", max_retries=0) as site,
    ):
        yield site, raw, node


def errors(site: Site) -> str:
    return "\n".join(entry.message for entry in site.log.of("error") + site.log.of("warning"))


def broken_off(site: Site) -> bytes:
    """Asks, and returns what came before the answer was broken off; a whole answer is a failure, unless it is a 502 as
    nothing had gone out yet."""
    with site.connect() as client:
        client.request("GET", "/")
        try:
            answer = client.answer()
        except (Malformed, ConnectionResetError):
            return bytes(client.buffer)
        assert answer.status == 502
        return answer.content


# Row 5 and 4: answers that are none. Each ends its stream alone.


@pytest.mark.parametrize(
    "fields",
    [
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("X-Upper", "a")],
        [("a b", "c")],
        [("a", "b\r\nset-cookie: c")],
        [("a\r\nb", "c")],
        [("a", "b\0")],
        [(":path", "/")],
        [(":status", "200")],
        [("", "a")],
    ],
)
def test_malformed_fields_reach_nobody(fields: list[tuple[str, str]]) -> None:
    with attacked(frame(HEADERS, END_HEADERS, 1, head(*fields))) as (site, raw, node):
        answer = site.get()
        assert answer.status == 502
        until(raw.resets)
        assert raw.resets() == [ErrorCodes.PROTOCOL_ERROR] and raw.goodbye() is None
        assert node.open == 1


def test_an_answer_without_a_status() -> None:
    block = Encoder().encode([("a", "b")])
    with attacked(frame(HEADERS, END_HEADERS | END_STREAM, 1, block)) as (site, _, _):
        assert site.get().status == 502


@pytest.mark.parametrize(("length", "data"), [("10", b"abc"), ("2", b"abc"), ("0", b"abc"), ("10", b"")])
def test_lengths_that_lie(length: str, data: bytes) -> None:
    steps = (
        frame(HEADERS, END_HEADERS, 1, head(("content-length", length))),
        frame(DATA, END_STREAM, 1, data),
    )
    with attacked(*steps) as (site, raw, node):
        with site.connect() as client:
            client.request("GET", "/")
            try:
                answer = client.answer()
            except (Malformed, ConnectionResetError):
                pass  # the head had gone out
            else:  # of the length 0, all of the answer may have gone out
                assert answer.status == 502 or (length == "0" and answer.content == b"")
        assert node.open == 1 and raw.goodbye() is None, (
            "it is the stream that is malformed (RFC 9113 §8.1.1)"
        )


def test_a_length_that_lies_harms_no_other_stream() -> None:
    steps = (
        frame(HEADERS, END_HEADERS, 1, head(("content-length", "10"))) + frame(DATA, 0, 1, b"x" * 11),
        lambda sock: gate.wait(),
        frame(HEADERS, END_HEADERS, 3, head(("content-length", "3"))) + frame(DATA, END_STREAM, 3, b"abc"),
    )
    gate = Event()
    with attacked(*steps) as (site, raw, node), site.connect() as first, site.connect() as second:
        first.request("GET", "/lie")
        with suppress(Malformed, ConnectionResetError):
            assert first.answer().status == 502
        second.request("GET", "/truth")
        until(lambda: node_of(site).conns == 1 and len(site.stage.members["backends"]["up"].exchanges) == 1)
        gate.set()
        answer = second.answer()
        assert (answer.status, answer.content) == (200, b"abc")
        assert node.open == 1
        until(raw.resets)
        assert raw.resets() == [ErrorCodes.PROTOCOL_ERROR]
        assert "more content than it says" in errors(site)


def test_content_where_none_may_be() -> None:
    for method, status in (("HEAD", "200"), ("GET", "204"), ("GET", "304")):
        steps = (
            frame(HEADERS, END_HEADERS, 1, head(("content-length", "3"), status=status)),
            frame(DATA, END_STREAM, 1, b"abc"),
        )
        with attacked(*steps) as (site, raw, node):
            with site.connect() as client:
                client.request(method, "/")
                assert client.answer(method).status in (int(status), 502)
            assert node.open == 1 and raw.goodbye() is None


def test_a_length_of_what_has_no_content() -> None:
    for method, status in (("HEAD", "200"), ("GET", "304")):
        steps = (
            frame(HEADERS, END_HEADERS, 1, head(("content-length", "3"), status=status)),
            frame(DATA, END_STREAM, 1, b""),
        )
        with attacked(*steps) as (site, raw, node), site.connect() as client:
            client.request(method, "/")
            answer = client.answer(method)
            assert answer.status == int(status)
            assert node.open == 1 and raw.goodbye() is None


def test_content_with_padding_and_without() -> None:
    content = b"".join(
        frame(DATA, 8 if padding else 0, 1, (bytes((padding,)) if padding else b"") + b"abc" + bytes(padding))
        for padding in (0, 5, 0, 255)
    )
    with attacked(frame(HEADERS, END_HEADERS, 1, head()) + content + frame(DATA, END_STREAM, 1, b"d")) as (
        site,
        _,
        _,
    ):
        answer = site.get()
        assert (answer.status, answer.content) == (200, b"abc" * 4 + b"d")


@pytest.mark.parametrize(
    "steps",
    [
        frame(DATA, 0, 1, b"abc"),  # before the head
        frame(DATA, 0, 3, b"abc"),  # on a stream that nobody began
        frame(DATA, 0, 0, b"abc"),
        frame(HEADERS, END_HEADERS, 1, head()) + frame(DATA, 8, 1, b"\x09abc"),  # more padding than there is
    ],
)
def test_content_out_of_place_ends_the_connection(steps: bytes) -> None:
    with attacked(steps) as (site, raw, _):
        broken_off(site)
        until(lambda: node_of(site).conns == 0)
        until(raw.goodbye)


def test_content_of_a_stream_that_was_given_up_is_dropped() -> None:
    gate = Event()
    steps = (
        frame(HEADERS, END_HEADERS, 1, head(("content-length", "1"))) + frame(DATA, 0, 1, b"too much"),
        lambda sock: gate.wait(),
        frame(DATA, END_STREAM, 1, b"x" * 1000)
        + frame(HEADERS, END_HEADERS, 3, head())
        + frame(DATA, END_STREAM, 3, b"abc"),
    )
    with attacked(*steps) as (site, _, node), site.connect() as first, site.connect() as second:
        first.request("GET", "/")
        with suppress(Malformed, ConnectionResetError):
            assert first.answer().status == 502
        second.request("GET", "/")
        until(lambda: len(site.stage.members["backends"]["up"].exchanges) == 1)
        gate.set()
        assert second.answer().content == b"abc"
        assert node.open == 1


def test_lengths_that_are_none() -> None:
    for lengths in (["-1"], ["1", "2"], ["0x1"], ["9" * 30]):
        block = head(*[("content-length", length) for length in lengths])
        with attacked(frame(HEADERS, END_HEADERS, 1, block)) as (site, _, _):
            assert site.get().status == 502


def test_two_answers() -> None:
    steps = (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, head(("content-length", "0"))),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, head(("x-second", "1"))),
    )
    with attacked(*steps) as (site, _, _):
        answer = site.get()
        assert answer.header("x-second") is None and answer.status in (200, 502)
        until(lambda: node_of(site).conns == 0)


def test_an_answer_to_nobody() -> None:
    with attacked(frame(HEADERS, END_HEADERS | END_STREAM, 7, head())) as (site, raw, _):
        assert site.get().status == 502
        assert "breaks the rules of HTTP/2" in errors(site)
        until(lambda: raw.goodbye() == ErrorCodes.PROTOCOL_ERROR)


def test_content_before_the_head() -> None:
    with attacked(frame(DATA, END_STREAM, 1, b"abc")) as (site, _, _):
        assert site.get().status == 502


def test_pushed_streams() -> None:
    block = Encoder().encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
    promise = frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4, "big") + block)
    with attacked(promise) as (site, raw, _):
        assert site.get().status == 502
        until(lambda: raw.goodbye() == ErrorCodes.PROTOCOL_ERROR)


def test_what_ends_early_is_broken_off() -> None:
    def close(sock: Any) -> None:
        sock.shutdown(2)

    opening = frame(HEADERS, END_HEADERS, 1, head()) + frame(DATA, 0, 1, b"abc")
    endings: tuple[Any, ...] = (
        frame(RST_STREAM, 0, 1, (0).to_bytes(4, "big")),
        frame(RST_STREAM, 0, 1, (2).to_bytes(4, "big")),
        frame(GOAWAY, 0, 0, bytes(4) + (1).to_bytes(4, "big")),
        frame(DATA, 0, 1, b"x" * 70_000),
        close,
    )
    for ending in endings:
        with attacked(opening, lambda sock: gevent.sleep(0.05), ending) as (site, _, _):
            broken_off(site)


def test_bad_trailers_break_the_answer_off() -> None:
    steps = (
        frame(HEADERS, END_HEADERS, 1, head()),
        frame(DATA, 0, 1, b"abc"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, Encoder().encode([("a", "b\r\nc: d")])),
    )
    with attacked(*steps) as (site, _, _):
        assert b"c: d" not in broken_off(site)


# Rows 7 and 8: too much of something


FLOODS = {
    "settings": frame(SETTINGS, 0, 0, b"\0\4\0\1\0\0") * 10,
    "settings acks": frame(SETTINGS, ACK),
    "pings": frame(PING, 0, 0, b"12345678"),
    "pongs": frame(PING, ACK, 0, b"12345678"),
    "priorities": frame(PRIORITY, 0, 1, b"\0\0\0\0\1"),
    "windows": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
    "windows of the stream": frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
    "unknown frames": frame(77, 0, 0, b"x"),
    "resets": frame(RST_STREAM, 0, 1, b"\0\0\0\0"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_say_nothing(name: str) -> None:
    with attacked(FLOODS[name] * 3000) as (site, raw, _):
        assert site.get().status == 502
        until(lambda: raw.goodbye() is not None)
        until(lambda: "flood" in errors(site))
        assert raw.goodbye() == ErrorCodes.ENHANCE_YOUR_CALM
        assert f"node {node_of(site).key}" in errors(site)
        assert node_of(site).conns == 0


def test_empty_data() -> None:
    with attacked(frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1) * 3000) as (site, raw, _):
        broken_off(site)
        until(lambda: raw.goodbye() == ErrorCodes.ENHANCE_YOUR_CALM)


def test_who_takes_no_answers_to_its_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings between data, so that they pass for honest ones: what is to be sent must not pile up."""
    monkeypatch.setattr("hemi.web.h2.backend.MAX_REPLIES", 20_000)

    def flood(sock: Any) -> None:
        go.wait(10)
        piece = (frame(PING, 0, 0, b"12345678") + frame(DATA, 0, 1, b"x")) * 1000
        while True:
            sock.sendall(piece)

    opening = frame(HEADERS, END_HEADERS, 1, head())
    most, go = [0], Event()
    with (
        attacked(opening, flood, write_timeout="300ms", window_size="16M") as (site, _, _),
        site.connect() as client,
    ):
        client.request("GET", "/")
        up: Any = site.stage.members["backends"]["up"]
        (conn,) = until(lambda: up.shared)
        conn.channel.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, 4096
        )  # else the kernel takes megabytes
        go.set()

        def is_over() -> bool:
            most[0] = max(most[0], conn._unsent)
            return bool(most[0]) and node_of(site).in_flight == 0

        until(is_over)
        assert most[0] < 1 << 20


def test_continuations_without_end() -> None:
    flood = frame(HEADERS, 0, 1, head()) + frame(CONTINUATION, 0, 1, b"") * 5000
    with attacked(flood) as (site, _, _):
        assert site.get().status == 502
        until(lambda: node_of(site).conns == 0)


def test_large_heads_end_their_stream_and_larger_ones_the_connection() -> None:
    fields = [(f"x-{number}", "y" * 1000) for number in range(30)]

    def whole(block: bytes) -> bytes:
        pieces = [block[at : at + 16000] for at in range(0, len(block), 16000)]
        frames = [frame(HEADERS, 0, 1, pieces[0])]
        frames += [frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:-1]]
        return b"".join([*frames, frame(CONTINUATION, END_HEADERS, 1, pieces[-1])])

    with attacked(whole(head(*fields)), max_head_size="16K") as (site, raw, _):
        assert site.get().status == 502
        assert "larger than 16384 bytes" in errors(site)
        until(raw.resets)
        assert raw.goodbye() is None
    with attacked(whole(head(*fields * 10)), max_head_size="16K") as (site, raw, _):
        assert site.get().status == 502
        until(lambda: raw.goodbye() is not None)


def test_hpack_bombs() -> None:
    """One field of 4,000 bytes in the table, and then a byte for each further time."""
    encoder = Encoder()
    first = encoder.encode([(":status", "200"), ("x", "y" * 4000)])
    bomb = first + b"\xbe" * 16000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with attacked(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb)) as (site, raw, _):
        assert site.get().status == 502
        until(lambda: raw.goodbye() == ErrorCodes.ENHANCE_YOUR_CALM)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_tables_and_frames_that_are_broken() -> None:
    for attack in (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xff\xff\x7f"),
        frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
        frame(SETTINGS, 0, 0, b"12345"),
        frame(SETTINGS, 0, 1, b""),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
        frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        frame(PING, 0, 0, b"short"),
        frame(GOAWAY, 0, 0, b"short"),
        frame(GOAWAY, 0, 1, bytes(8)),
        b"\xff\xff\xff\0\0\0\0\0\1",
        b"HTTP/1.1 200 OK\r\n\r\n" * 100,
    ):
        with attacked(attack) as (site, _, _):
            assert site.get().status == 502, attack
            until(lambda site=site: node_of(site).conns == 0)


def test_interim_answers_without_end() -> None:
    encoder = Encoder()
    interim = b"".join(
        [frame(HEADERS, END_HEADERS, 1, head(status="103", encoder=encoder)) for _ in range(200)]
    )
    with attacked(interim) as (site, raw, _), site.connect() as client:
        client.request("GET", "/")
        answer = client.answer()
        assert answer.status == 502 and len(answer.informational) <= 32
        until(raw.resets)


def test_more_than_the_window_allows() -> None:
    steps = (frame(HEADERS, END_HEADERS, 1, head()), frame(DATA, 0, 1, b"x" * 16000) * 30)
    with attacked(*steps, window_size="64K") as (site, raw, _):
        broken_off(site)
        until(lambda: raw.goodbye() == ErrorCodes.FLOW_CONTROL_ERROR)


def test_a_window_that_never_opens() -> None:
    """Zero windows hold an upload; its time runs out, other exchanges go on."""
    zero = frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")

    def app(exchange: Exchange) -> None:
        if exchange[":method"] == "GET":
            exchange.answer(b"fine")

    with (
        Node2(app, generous=False) as node,
        proxying(node.address, backend={**V2, "write_timeout": "300ms"}) as site,
        site.connect() as client,
    ):
        assert site.get().content == b"fine"
        node.conns[0].sock.sendall(zero)
        uploads = gevent.spawn(client.request, "POST", "/", content=b"x" * 100_000)
        assert site.get().content == b"fine"
        assert client.answer().status == 504
        uploads.kill()
        assert site.get().content == b"fine"
        assert node.accepted == 1


# Others on the same connection


def test_what_others_get_is_not_touched_by_a_broken_answer() -> None:
    encoder = Encoder()

    def serve(sock: Any) -> None:
        sock.sendall(
            frame(HEADERS, END_HEADERS, 1, head(("content-length", "4"), encoder=encoder))
            + frame(DATA, 0, 1, b"ab")
            + frame(HEADERS, END_HEADERS | END_STREAM, 3, head(("connection", "x"), encoder=encoder))
        )
        gevent.sleep(0.1)
        sock.sendall(frame(DATA, END_STREAM, 1, b"cd"))

    class Both(Raw):
        def _asked(self) -> bool:
            return sum(kind == HEADERS for kind, _, _ in self.frames()) == 2

    with Node2(raw=Both(serve)) as node, proxying(node.address, backend=V2, max_retries=0) as site:
        answers = [gevent.spawn(site.get), gevent.spawn(site.get)]
        gevent.joinall(answers)
        found = sorted((task.get().status, task.get().content) for task in answers)
        assert found[0] == (200, b"abcd") and found[1][0] == 502


def test_what_is_whole_stays_so_when_the_connection_breaks() -> None:
    whole = frame(HEADERS, END_HEADERS, 1, head()) + frame(DATA, END_STREAM, 1, b"whole")
    with attacked(whole + frame(SETTINGS, 0, 0, b"12345")) as (site, _, _):
        assert site.get().content == b"whole"
