"""Compression of responses: when, with what, and what the head says then."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import brotli
import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.builtin.revisers import gzip as module
from hemi.errors import ConfigError
from hemi.web import codings
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Answer, App, Site, config, load, scripted, serve

TEXT = b"a text that is long enough to be compressed, and says the same again. " * 20
zstd = codings._module("zstd")


def decode(answer: Answer) -> bytes:
    coding = answer.header("content-encoding")
    decoders: dict[str | None, Any] = {
        None: bytes,
        "gzip": lambda data: zlib.decompress(data, 31),
        "br": brotli.decompress,
        "zstd": zstd.decompress,
    }
    return bytes(decoders[coding](answer.content))


@contextmanager
def site(app: App | dict[str, Any], **props: Any) -> Iterator[Site]:
    handlet = app if isinstance(app, dict) else scripted(app)
    with serve(rules=[{"handlets": [handlet], "revisers": [{"gzip": props}]}]) as site:
        yield site


def sends(content: bytes = TEXT, content_type: str = "text/plain", status: int = 200, **fields: str) -> App:
    def app(req: Request, resp: Response) -> bool:
        resp.content_type = content_type
        for name, value in fields.items():
            resp.set_header(name.replace("_", "-"), value)
        resp.send(content, status)
        return True

    return app


def ask(app: App, accepted: str = "gzip", **props: Any) -> Answer:
    with site(app, **props) as running:
        return running.get("/", accept_encoding=accepted)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("br;q=0.1, gzip", "gzip"),
        ("deflate", None),
        ("gzip;q=0", None),
        ("identity", None),
        ("*", "zstd"),
    ],
)
def test_negotiation(accepted: str, coding: str | None) -> None:
    answer = ask(sends(), accepted)
    assert (answer.status, answer.header("content-encoding")) == (200, coding)
    assert answer.header("vary") == "accept-encoding", "also for those who get it plain"
    assert decode(answer) == TEXT
    assert int(answer.header("content-length") or 0) == len(answer.content)
    assert (len(answer.content) < len(TEXT) / 2) == bool(coding)


def test_the_order_is_ours() -> None:
    assert ask(sends(), "zstd, br, gzip", codings=["gzip", "br"]).header("content-encoding") == "gzip"
    assert ask(sends(), "zstd", codings=["gzip", "br"]).header("content-encoding") is None


def test_a_client_that_says_nothing_gets_it_plain() -> None:
    with site(sends()) as running:
        answer = running.get("/")
        assert (answer.header("content-encoding"), answer.header("vary")) == (None, "accept-encoding")


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(sends(b"short"), id="small"),
        pytest.param(sends(content_type="image/png"), id="type"),
        pytest.param(sends(content_encoding="br"), id="coded already"),
        pytest.param(sends(cache_control="public, No-Transform"), id="no-transform"),
        pytest.param(sends(b"", status=204), id="no content"),
    ],
)
def test_what_is_left_alone(app: App) -> None:
    with site(app) as running:
        answer = running.get("/", accept_encoding="gzip")
        assert answer.header("content-encoding") in (None, "br")
        assert answer.header("vary") is None, "it could not have been another one"


@pytest.mark.parametrize(
    ("content_type", "types", "compressed"),
    [
        ("text/html; charset=utf-8", None, True),
        ("application/json", None, True),
        ("application/problem+json", None, True),
        ("image/svg+xml", None, True),
        ("application/wasm", None, True),
        ("text/event-stream", None, True),
        ("application/zip", None, False),
        ("font/woff2", None, False),
        ("Text/HTML", ["text/html"], True),
        ("text/css", ["text/html"], False),
        ("image/png", ["image/*"], True),
        ("video/mp4", ["*"], True),
    ],
)
def test_types(content_type: str, types: list[str] | None, compressed: bool) -> None:
    answer = ask(sends(content_type=content_type), **({"types": types} if types else {}))
    assert (answer.header("content-encoding") == "gzip") == compressed


def test_the_least_size() -> None:
    assert ask(sends(b"x" * 99), min_size=100).header("content-encoding") is None
    assert ask(sends(b"x" * 100), min_size=100).header("content-encoding") == "gzip"


def test_the_head_is_that_of_the_coded_content() -> None:
    fields = {"etag": '"abc"', "content_digest": "sha-256=:x:", "accept_ranges": "bytes", "vary": "Cookie"}
    answer = ask(sends(**fields))
    assert answer.header("etag") == 'W/"abc"'
    assert answer.header("vary") == "Cookie, accept-encoding"
    assert answer.header("content-digest") is None
    assert answer.header("accept-ranges") is None
    assert ask(sends(**fields), "identity").header("etag") == '"abc"'
    assert ask(sends(etag='W/"abc"')).header("etag") == 'W/"abc"'


def tagged(req: Request, resp: Response) -> bool:
    resp.content_type = "text/plain"
    resp.set_etag("abc")
    resp.send(TEXT)
    return True


def test_conditions_hold_for_weakened_tags() -> None:
    with site(tagged) as running:
        answer = running.get("/", accept_encoding="gzip")
        assert answer.header("etag") == 'W/"abc"'
        unchanged = running.get("/", accept_encoding="gzip", if_none_match='W/"abc"')
        assert (unchanged.status, unchanged.header("etag")) == (304, 'W/"abc"')
        assert unchanged.header("vary") == "accept-encoding"
        assert unchanged.header("content-encoding") is None
        assert unchanged.header("content-type") is None


def test_what_apps_say_of_the_unchanged_is_what_the_client_has() -> None:
    """A 304 of an app has no type to decide by, but the client tells which of the two responses it keeps."""

    def unchanged(req: Request, resp: Response) -> bool:
        resp.status = 304
        resp.fields.append((b"etag", b'"abc"'))
        resp.open()
        return True

    with site(unchanged) as running:
        for tag, vary in (('W/"abc"', "accept-encoding"), ('"abc"', None)):
            answer = running.get("/", accept_encoding="gzip", if_none_match=tag)
            assert (answer.status, answer.header("etag"), answer.header("vary")) == (304, tag, vary)


def test_head_has_the_head_of_get() -> None:
    with site(tagged) as running, running.connect() as client:
        for _ in range(2):
            client.request("HEAD", "/", {"accept-encoding": "gzip"})
            answer = client.answer("HEAD")
            assert answer.header("content-encoding") == "gzip"
            assert answer.header("etag") == 'W/"abc"'
            assert answer.header("content-length") is None, "nobody knows it"


def test_streams_arrive_piece_by_piece() -> None:
    pieces = [b"data: 1\n\n", b"data: 22\n\n", b"data: 333\n\n"]
    asked: list[int] = []

    def app(req: Request, resp: Response) -> bool:
        resp.content_type = "text/event-stream"
        for at, piece in enumerate(pieces):
            asked.append(at)
            resp.echo(piece)
            assert req.read(1), "the client got it, and says so"
        return True

    decoders = {
        "gzip": lambda: zlib.decompressobj(31).decompress,
        "br": lambda: brotli.Decompressor().process,
        "zstd": lambda: zstd.ZstdDecompressor().decompress,
    }
    for coding, make in decoders.items():
        with site(app) as running, running.connect() as client:
            client.request("POST", "/", {"accept-encoding": coding, "transfer-encoding": "chunked"})
            _, status, fields = client.head()
            assert status == 200
            assert ("content-encoding", coding) in fields and ("transfer-encoding", "chunked") in fields
            decoder = make()
            for piece in pieces:
                got = b""
                while got != piece:
                    got += decoder(client.chunk())
                client.send(b"1\r\nx\r\n")
            client.send(b"0\r\n\r\n")
            while data := client.chunk():
                decoder(data)


def test_a_promised_length_is_forgotten() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.content_type = "text/plain"
        resp.set_header("content-length", str(len(TEXT)))
        for at in range(0, len(TEXT), 100):
            resp.echo(TEXT[at : at + 100])
        return True

    answer = ask(app)
    assert answer.header("content-length") is None
    assert decode(answer) == TEXT


def test_http_1_0_gets_it_until_the_end_of_the_connection() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.content_type = "text/plain"
        resp.echo(TEXT)
        return True

    with site(app) as running, running.connect() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        answer = client.answer()
        assert decode(answer) == TEXT


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_files(tmp_path: Path, size: int) -> None:
    content = (TEXT * (size // len(TEXT) + 1))[:size]
    (tmp_path / "a.txt").write_bytes(content)
    with site({"static": {"web_root": str(tmp_path)}}) as running:
        for accepted in ("gzip", "br", "zstd", "identity"):
            answer = running.get("/a.txt", accept_encoding=accepted)
            assert decode(answer) == content
        tag = answer.header("etag") or ""
        assert running.get("/a.txt", accept_encoding="gzip").header("etag") == f"W/{tag}"
        assert running.get("/a.txt", accept_encoding="gzip", if_none_match=tag).status == 304
        part = running.get("/a.txt", accept_encoding="gzip", range="bytes=0-9")
        assert (part.status, part.content, part.header("content-encoding")) == (206, content[:10], None)
        assert part.header("vary") == "accept-encoding", "as the whole has (RFC 9110 §15.3.7)"
        parts = running.get("/a.txt", accept_encoding="gzip", range="bytes=0-9,500-509")
        assert (parts.status, parts.header("content-encoding")) == (206, None)
        assert parts.header("vary") == "accept-encoding"
        with running.connect() as client:
            client.request("HEAD", "/a.txt", {"accept-encoding": "gzip"})
            assert client.answer("HEAD").header("content-encoding") == "gzip"


def test_what_is_compressed_beforehand_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "a.txt.gz").write_bytes(b"made before")
    with site({"static": {"web_root": str(tmp_path), "precompressed": ["gzip"]}}) as running:
        assert running.get("/a.txt", accept_encoding="gzip").content == b"made before"


def test_never_twice() -> None:
    rules = [{"handlets": [scripted(sends())], "revisers": ["gzip", {"gzip": {"codings": ["br"]}}]}]
    with serve(rules=rules) as running:
        answer = running.get("/", accept_encoding="gzip, br")
        assert decode(answer) == TEXT


def test_error_pages_are_compressed_too() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.error(404)
        return True

    answer = ask(app, min_size=10)
    assert answer.status == 404
    assert b"404" in decode(answer)


def test_large_pieces_go_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OFF_HUB", 1000)
    answer = ask(sends(TEXT * 100))
    assert decode(answer) == TEXT * 100


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({"codings": ["lzma"]}, "codings must be"),
        ({"codings": ["gzip", "gzip"]}, "codings must not name the same coding twice"),
        ({"gzip_level": 10}, "gzip_level must be 1 to 9, not 10"),
        ({"br_level": 12}, "br_level must be 0 to 11"),
        ({"zstd_level": 0}, "zstd_level must be 1 to 19"),
        ({"types": ["html"]}, 'types must be media types such as "text/html" or "text/*", not "html"'),
        ({"types": ["text/"]}, "types must be media types"),
        ({"types": ["*+"]}, "types must be media types"),
    ],
)
def test_problems(props: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config(rules=[{"return_code": 200, "revisers": [{"gzip": props}]}]))
    assert message in str(caught.value)


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "_module", lambda coding: None)
    with pytest.raises(ConfigError) as caught:
        load(config(rules=[{"return_code": 200, "revisers": [{"gzip": {"codings": ["br", "gzip"]}}]}]))
    assert 'codings "br" needs an extra package: pip install "gorox[brotli]"' in str(caught.value)
    assert ask(sends(), "zstd, br, gzip").header("content-encoding") == "gzip", "what is there is used"
