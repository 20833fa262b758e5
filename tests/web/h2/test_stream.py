"""Streams: what goes out for what a handlet does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hemi.web.errors import ClientGone, HTTPError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2raw import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    INTERNAL_ERROR,
    POST,
    RST_STREAM,
    RawClient,
    frame,
    settings,
    word,
)
from tests.webkit import Site, hello, serve, until


def ask(client: RawClient, sid: int, path: str = "/", method: str = "GET") -> tuple[dict[str, str], bytes]:
    client.send(client.headers(sid, [(":method", method), GET[1], (":path", path), GET[3]]))
    return client.response(sid)


def test_a_small_answer_goes_out_in_two_frames() -> None:
    with serve() as site, RawClient(site) as client:
        client.send(client.headers(1))
        head, content = client.frame(), client.frame()
        assert (head.kind, head.flags, head.sid) == (HEADERS, END_HEADERS, 1)
        assert content == (DATA, END_STREAM, 1, b"hello")
        fields = dict(client.decoder.decode(head.payload))
        assert fields.pop("date").endswith(" GMT")
        assert fields == {
            ":status": "200",
            "server": "gorox",
            "content-type": "text/plain",
            "content-length": "5",
        }


def test_the_request_is_of_version_2() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(f"{req.version} {req.version_text()} {req.line()} {req.header('host')} {req.scheme}")
        return True

    with serve(app) as site, RawClient(site) as client:
        assert ask(client, 1)[1] == b"20 2.0 GET / HTTP/2.0 a.example http"


def test_a_stream_that_ends_early_is_reset() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "10")
        resp.echo(b"abc")
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1))
        assert client.until(RST_STREAM, 1).code == INTERNAL_ERROR
        assert client.is_alive()
        assert site.log.of("error")


def test_more_than_promised_is_cut_off() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.set_header("content-length", "5")
        resp.echo(b"abcdefgh")
        return True

    with serve(app) as site, RawClient(site) as client:
        assert ask(client, 1)[1] == b"abcde"
        assert site.log.of("error")


@pytest.mark.parametrize("when", ["before", "head", "content"])
def test_handlets_that_fail(when: str) -> None:
    def app(req: Request, resp: Response) -> bool:
        if when != "before":
            resp.begin()
        if when == "content":
            resp.echo(b"abc")
        raise ZeroDivisionError

    with serve(app) as site, RawClient(site) as client:
        if when == "content":
            client.send(client.headers(1))
            assert client.until(RST_STREAM, 1).code == INTERNAL_ERROR
        else:
            assert ask(client, 1)[0][":status"] == "500"
        assert client.is_alive()


def test_a_reset_wakes_handlets_wherever_they_wait() -> None:
    ends: dict[str, BaseException] = {}

    def app(req: Request, resp: Response) -> bool:
        try:
            if req.path == "/read":
                req.content()
            elif req.path == "/send":
                resp.send(b"x" * 1_000_000)
            else:
                resp.echo("x")
                until(req.stream.is_gone)
                resp.echo("y")
        except Exception as error:
            ends[req.path] = error
            raise
        return True

    with serve(app) as site, RawClient(site) as client:
        for sid, path in ((1, "/read"), (3, "/send"), (5, "/look")):
            client.send(client.headers(sid, [*POST[:2], (":path", path), POST[3]], END_HEADERS))
        (conn,) = site.conns
        client.ping()
        until(lambda: conn.streams[3].source is not None)
        for sid in (1, 3, 5):
            client.send(frame(RST_STREAM, 0, sid, word(CANCEL)))
        until(lambda: len(ends) == 3)
        assert {type(error) for error in ends.values()} == {ClientGone}
        assert client.is_alive()
        until(lambda: conn.idle)
        assert not site.log.of("error")


def test_a_stream_can_do_no_harm_when_its_exchange_has_ended() -> None:
    kept: list[Any] = []

    def app(req: Request, resp: Response) -> bool:
        kept.append((req.stream, resp))
        return hello(req, resp)

    with serve(app) as site, RawClient(site) as client:
        ask(client, 1)
        ((stream, resp),) = kept
        until(lambda: stream.conn is None)
        assert stream.is_gone() and repr(stream) == "<Server2Stream 1 done left=-1>"
        for verb in (
            lambda: stream.send_data(b"x"),
            lambda: stream.send_whole(resp, b"x"),
            lambda: stream.send_head(resp),
            lambda: stream.send_file(0, 0, 1),
            lambda: stream.take_over(resp, b"x"),
        ):
            with pytest.raises((ClientGone, AttributeError)):
                verb()
        stream.abort()
        stream.finish()
        assert client.is_alive()


def test_trailers_and_informational_responses() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.early_hints("</a.css>; rel=preload")
        resp.echo("abc")
        resp.add_trailer("x-sum", "7")
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1))
        heads = [client.until(HEADERS) for _ in range(3)]
        decoded = [dict(client.decoder.decode(head.payload)) for head in heads]
        assert decoded[0] == {":status": "103", "link": "</a.css>; rel=preload"}
        assert decoded[1][":status"] == "200" and "content-length" not in decoded[1]
        assert decoded[2] == {"x-sum": "7"}
        assert [head.flags & END_STREAM for head in heads] == [0, 0, END_STREAM]


def test_large_heads_go_out_in_several_frames() -> None:
    def app(req: Request, resp: Response) -> bool:
        for number in range(300):
            resp.add_header(f"x-{number}", "y" * 200)
        resp.send("z")
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1))
        first = client.until(HEADERS)
        block = first.payload
        assert not first.flags & END_HEADERS
        while not (more := client.frame()).flags & END_HEADERS:
            assert more.kind == 9
            block += more.payload
        assert len(client.decoder.decode(block + more.payload)) > 300


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 100_000, 1_000_000])
def test_files_of_all_sizes(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)

    def app(req: Request, resp: Response) -> bool:
        resp.send_file(str(path))
        return True

    with serve(app) as site, RawClient(site, pairs=[(4, 1 << 20)]) as client:
        client.send(frame(8, 0, 0, word(1 << 24)))
        for sid in (1, 3):
            fields, content = ask(client, sid)
            assert content == data and fields["content-length"] == str(size)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)

    def app(req: Request, resp: Response) -> bool:
        resp.content_size = 200_000
        resp.begin()
        with path.open("rb") as file:
            os.truncate(path, 150_000)
            resp.stream.send_file(file.fileno(), 0, 200_000, last=True)
        return True

    with serve(app) as site, RawClient(site, pairs=[(4, 1 << 20)]) as client:
        client.send(frame(8, 0, 0, word(1 << 24)), client.headers(1))
        assert client.until(RST_STREAM, 1).code == INTERNAL_ERROR
        assert "early" in str(site.log.of("error")[0].exc)


def test_urgent_streams_go_first() -> None:
    """Two large answers are ready when the window opens: by the field, and by PRIORITY_UPDATE."""

    def app(req: Request, resp: Response) -> bool:
        resp.send(req.path.encode() * 20_000)
        return True

    def order(
        site: Site, first: list[tuple[str, str]], second: list[tuple[str, str]], update: bytes = b""
    ) -> list[int]:
        with RawClient(site, pairs=[(4, 0)]) as client:
            client.send(update)
            for sid, fields in ((1, first), (3, second)):
                client.send(client.headers(sid, [*GET, *fields]))
            client.ping()
            (conn,) = [conn for conn in site.conns if conn.streams]
            until(lambda: len([one for one in conn.streams.values() if one.source is not None]) == 2)
            client.send(settings((4, 1 << 20)))
            ends: list[int] = []
            while len(ends) < 2:
                one = client.until(DATA)
                if one.flags & END_STREAM:
                    ends.append(one.sid)
            return ends

    with serve(app) as site:
        assert order(site, [], []) == [1, 3]
        assert order(site, [("priority", "u=5")], [("priority", "u=1")]) == [3, 1]
        update = frame(16, 0, 0, word(3) + b"u=0")
        assert order(site, [("priority", "u=1")], [], update) == [3, 1]


def test_incremental_streams_share() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(b"x" * 400_000)
        return True

    with serve(app) as site, RawClient(site, pairs=[(4, 0)]) as client:
        for sid in (1, 3):
            client.send(client.headers(sid, [*GET, ("priority", "i")]))
        (conn,) = site.conns
        client.ping()
        until(lambda: len([one for one in conn.streams.values() if one.source is not None]) == 2)
        client.send(frame(8, 0, 0, word(1 << 24)), settings((4, 1 << 20)))
        turns: list[int] = []
        ends = 0
        while ends < 2:
            one = client.until(DATA)
            ends += one.flags & END_STREAM
            if not turns or turns[-1] != one.sid:
                turns.append(one.sid)
        assert len(turns) >= 8


def test_http_errors_from_reading_are_answered() -> None:
    def app(req: Request, resp: Response) -> bool:
        raise HTTPError(413, "too much", close=True)

    with serve(app) as site, RawClient(site) as client:
        assert ask(client, 1)[0][":status"] == "413"
        assert client.is_alive()
        assert not site.log.entries
