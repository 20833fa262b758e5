"""Statuses and fields of replies, and which files can go out by sendfile. The rest is in the tests of the handlet."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hemi.web.wsgi import reply as module
from hemi.web.wsgi.reply import LENGTH, PLAIN, TYPE, FileWrapper, parse_field, parse_status, part_of


def test_statuses() -> None:
    assert [parse_status(text) for text in ("200 OK", "404", "599 What's this?", "204 ")] == [
        200,
        404,
        599,
        204,
    ]


@pytest.mark.parametrize(
    "status", ["", "OK", "20 OK", "2000 OK", "199 No", "600 No", "200OK", "٢٠٠ OK", "200 O\nK"]
)
def test_bad_statuses(status: str) -> None:
    with pytest.raises(ValueError):
        parse_status(status)


def test_fields() -> None:
    assert parse_field(("X-A", " b ")) == (PLAIN, (b"x-a", b"b"))
    assert parse_field(("Content-TYPE", "text/plain")) == (TYPE, "text/plain")
    assert parse_field(("content-length", "007")) == (LENGTH, 7)
    assert parse_field(("X-É".replace("É", "E"), "é")) == (PLAIN, (b"x-e", b"\xe9"))


@pytest.mark.parametrize(
    "field",
    [
        ("Connection", "close"),
        ("keep-alive", "1"),
        ("Upgrade", "websocket"),
        ("TE", "trailers"),
        ("X-A", "1\n"),
        ("X-A", "\0"),
        ("X:A", "1"),
        ("", "1"),
        ("Content-Length", "1.0"),
        ("Content-Length", "9" * 20),
        ("Content-Length", "²"),
    ],
)
def test_bad_fields(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        parse_field(field)


def test_what_apps_send_is_not_remembered_for_ever() -> None:
    for number in range(2 * module.MAX_KNOWN):
        parse_field(("X-A", str(number)))
    assert len(module._fields) <= module.MAX_KNOWN
    parse_field(("X-A", "x" * 1000))
    assert ("X-A", "x" * 1000) not in module._fields


def test_regular_files_have_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.read(3)
        assert part_of(file) == (file.fileno(), 3, 7)
        file.seek(100)
        assert part_of(file) == (file.fileno(), 100, 0)
    with path.open("rb", buffering=0) as raw:
        assert part_of(raw) == (raw.fileno(), 0, 10)
    with tempfile.NamedTemporaryFile() as named:
        named.write(b"abc")
        named.seek(1)
        assert part_of(named) == (named.fileno(), 1, 2)


def test_other_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"content"))
    read, write = os.pipe()
    with gzip.open(path) as packed, open(read, "rb") as pipe, open(write, "wb"), path.open() as text:
        others: list[Any] = [packed, io.BufferedReader(packed), pipe, text, io.BytesIO(b"x"), object(), None]
        for other in others:
            assert part_of(other) is None
    with path.open("rb") as closed:
        pass
    assert part_of(closed) is None
    with tempfile.SpooledTemporaryFile() as spooled:
        assert part_of(spooled) is None


def test_a_wrapper_reads_large_pieces_and_closes() -> None:
    file = io.BytesIO(b"x" * 100_000)
    wrapper = FileWrapper(file, 10)
    assert [len(piece) for piece in wrapper] == [65536, 34464]
    wrapper.close()
    assert file.closed
    FileWrapper(object()).close()
