"""Open files as responses: whole, in parts, from memory, and through filters that change them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Malformed, serve

CONTENT = bytes(range(256)) * 1200  # more than one piece of a filter


class Upper:
    """A reviser and its filter: makes text upper case, and says at the end how often it was called."""

    def __init__(self) -> None:
        self.sizes: list[int | None] = []
        self.updates = 0

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Any:
        self.sizes.append(size)
        return self

    def update(self, data: bytes) -> bytes:
        self.updates += 1
        return data.upper()

    def finish(self) -> bytes:
        return b"!"


def sends(
    path: Path, revisers: tuple[Any, ...] = (), in_memory: bool = False, size: int | None = None
) -> Any:
    def app(req: Request, resp: Response) -> bool:
        resp.revisers = revisers
        resp.content_type = "text/plain"
        resp.set_etag("tag")
        if in_memory:
            content = path.read_bytes()
            resp.send_open_file(content, len(content))
            return True
        file = os.open(path, os.O_RDONLY)
        try:
            resp.send_open_file(file, os.fstat(file).st_size if size is None else size)
        finally:
            os.close(file)
        return True

    return app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("in_memory", [False, True])
def test_whole_and_parts(path: Path, in_memory: bool) -> None:
    with serve(sends(path, in_memory=in_memory)) as site:
        whole = site.get("/")
        assert (whole.content, whole.header("etag")) == (CONTENT, '"tag"')
        part = site.get("/", range="bytes=5-9")
        assert (part.status, part.content) == (206, CONTENT[5:10])
        parts = site.get("/", range="bytes=5-9,1000-1009")
        assert parts.status == 206 and b"\r\n\r\n" + CONTENT[1000:1010] + b"\r\n--" in parts.content
        beyond = site.get("/", range="bytes=999999-")
        assert (beyond.status, beyond.header("content-range")) == (416, f"bytes */{len(CONTENT)}")
        assert site.get("/", if_none_match='"tag"').status == 304


@pytest.mark.parametrize("in_memory", [False, True])
def test_through_a_filter(path: Path, in_memory: bool) -> None:
    path.write_bytes(b"some text")
    upper = Upper()
    with serve(sends(path, (upper,), in_memory)) as site:
        assert site.get("/").content == b"SOME TEXT!"
        assert site.get("/", range="bytes=0-3").content == b"SOME!"
        assert upper.sizes == [9, 4]
        unchanged = site.get("/", if_none_match='"tag"')
        assert (unchanged.status, unchanged.header("content-type")) == (304, None)
        assert upper.sizes == [9, 4, 9], "revisers see what a 304 is about"


def test_several_parts_through_a_filter(path: Path) -> None:
    path.write_bytes(b"abcdefghij" * 100)
    with serve(sends(path, (Upper(),))) as site:
        content = site.get("/", range="bytes=0-2,500-502").content
        assert b"\r\n\r\nABC\r\n--" in content and content.endswith(b"--\r\n!")


def test_a_large_file_goes_through_a_filter_in_pieces(path: Path) -> None:
    upper = Upper()
    with serve(sends(path, (upper,))) as site:
        assert site.get("/").content == CONTENT.upper() + b"!"
        assert upper.updates == 2


@pytest.mark.parametrize("revisers", [(), (Upper(),)])
@pytest.mark.parametrize("in_memory", [False, True])
def test_head(path: Path, revisers: tuple[Any, ...], in_memory: bool) -> None:
    with serve(sends(path, revisers, in_memory)) as site, site.connect() as client:
        for _ in range(2):
            client.request("HEAD", "/", {"Range": "bytes=0-1"})
            answer = client.answer("HEAD")
            assert answer.status == 200
            assert answer.header("content-length") == (None if revisers else str(len(CONTENT)))
        if revisers:
            assert not revisers[0].updates, "nobody would see what it makes"


@pytest.mark.parametrize("filtered", [False, True])
def test_a_file_that_is_shorter_than_it_was_breaks_off(path: Path, filtered: bool) -> None:
    app = sends(path, (Upper(),) if filtered else (), size=len(CONTENT) + 1)
    with serve(app) as site, site.connect() as client:
        client.request("GET", "/")
        with pytest.raises((Malformed, ConnectionResetError)):
            client.answer()
