"""Forms: urlencoded and multipart, in pieces, under caps, with files on disk."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from hemi.web.forms import (
    DEFAULT_LIMITS,
    Form,
    FormError,
    FormLimits,
    FormReader,
    Upload,
    safe_filename,
)

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = 'multipart/form-data; boundary="----XyZ"'


def read(
    content_type: str, content: bytes, step: int = 0, limits: FormLimits = DEFAULT_LIMITS, **more: Any
) -> Form:
    reader = FormReader(content_type, limits, **more)
    for start in range(0, len(content), step or len(content) or 1):
        reader.feed(content[start : start + (step or len(content))])
    return reader.finish()


def part(disposition: str, content: bytes, *fields: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {disposition}", *fields])
    return b"------XyZ\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"------XyZ--\r\n"


def refused(status: int, content_type: str, content: bytes, message: str = ".", **more: Any) -> None:
    with pytest.raises(FormError, match=message) as caught:
        read(content_type, content, **more)
    assert caught.value.status == status


@pytest.fixture
def spooled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The files that were spooled; all are closed when the test ends."""
    files: list[Any] = []
    make = tempfile.TemporaryFile

    def note(*args: Any, **kwargs: Any) -> Any:
        files.append(make(*args, **kwargs))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", note)
    yield files
    assert all(file.closed for file in files)


@pytest.mark.parametrize(
    "content_type", ["application/json", "", "multipart/mixed; boundary=x", "text/plain"]
)
def test_what_is_no_form(content_type: str) -> None:
    refused(415, content_type, b"")


# Urlencoded


@pytest.mark.parametrize("step", [0, 1, 3])
def test_urlencoded(step: int) -> None:
    content = b"name=J%C3%BCrgen+B&empty=&a=1&a=2&flag"
    fields = [("name", "Jürgen B"), ("empty", ""), ("a", "1"), ("a", "2"), ("flag", "")]
    assert read(URLENCODED, content, step) == Form(fields, [])


def test_urlencoded_charsets() -> None:
    assert read(f"{URLENCODED}; charset=gbk", b"a=%C4%E3").fields == [("a", "你")]
    assert read(f"{URLENCODED}; charset=UTF-8", b"a=%C3%A9").fields == [("a", "é")]
    assert read(URLENCODED, b"a=%E9&b=\xff").fields == [("a", "\ufffd"), ("b", "\ufffd")]
    for charset in (
        "rot13",
        "zip",
        "unicode_escape",
        "utf-7",
        "punycode",
        "idna",
        "nonsense",
        "latin-99",
        "x" * 9999,
    ):
        refused(415, f"{URLENCODED}; charset={charset}", b"a=1", "charset")


def test_urlencoded_caps() -> None:
    refused(413, URLENCODED, b"a&b&c", "2 fields", limits=FormLimits(max_fields=2))
    refused(413, URLENCODED, b"a=1234", "3 bytes", limits=FormLimits(max_field_size=3))
    refused(413, URLENCODED, b"a=1234", "5 bytes", limits=FormLimits(max_memory=5), step=1)
    refused(413, URLENCODED, b"a=1234", "5 bytes", limits=FormLimits(max_total=5), step=1)


@given(st.binary(max_size=100), st.integers(1, 10))
def test_urlencoded_takes_anything(content: bytes, step: int) -> None:
    assert read(URLENCODED, content) == read(URLENCODED, content, step)


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5))
def test_urlencoded_round_trip(pairs: list[tuple[str, str]]) -> None:
    try:
        content = urlencode(pairs).encode()
    except UnicodeEncodeError:
        return
    assert read(URLENCODED, content).fields == pairs


# Multipart

BROWSER = (
    part('name="title"', "Grüße".encode())
    + part('name="file"; filename="a.txt"', b"one\r\ntwo\r\n--", "Content-Type: Text/Plain; charset=x")
    + part('name="file"; filename="b%22\\c.bin"', bytes(range(256)) * 40)
    + part('name="none"; filename=""', b"", "Content-Type: application/octet-stream")
    + part('name="title"', b"")
    + END
)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("spool_size", [0, 100, 1 << 20])
def test_multipart(step: int, spool_size: int, spooled: list[Any]) -> None:
    form = read(MULTIPART, BROWSER, step, FormLimits(spool_size=spool_size))
    assert form.fields == [("title", "Grüße"), ("title", "")]
    first, second = form.uploads
    assert (first.name, first.filename, first.content_type, first.size) == ("file", "a.txt", "text/plain", 12)
    assert first.headers["content-type"] == "Text/Plain; charset=x"
    assert (first.read(3), first.read(), first.read()) == (b"one", b"\r\ntwo\r\n--", b"")
    assert second.content_type == "application/octet-stream"
    assert second.size == 10240
    assert second.file.read() == bytes(range(256)) * 40
    assert [upload.is_spooled for upload in form.uploads] == [spool_size < 12, spool_size < 10240]
    assert len(spooled) == sum(upload.is_spooled for upload in form.uploads)
    form.close()
    form.close()


def test_with_a_preamble_and_a_tail() -> None:
    content = b"ignore me\r\n" + part('name="a"', b"1") + END
    for tail in (b"", b"\r\n", b"epilogue " * 100, content):
        for step in (0, 1):
            assert read(MULTIPART, content + tail, step).fields == [("a", "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unexpected end"),
        (b"nonsense", "unexpected end"),
        (part('name="a"', b"1"), "unexpected end"),
        (part('name="a"', b"1") + b"------XyZ", "unexpected end"),
        (part('name="a"', b"1") + b"------XyZ-x\r\n", "after boundary"),
        (BROWSER[:300], "unexpected end"),
        (b"------XyZ\nContent", "line break"),
        (b"------XyZ\r\n\r\nx\r\n" + END, "Content-Disposition"),
        (b"------XyZ\r\nContent-Disposition: inline; name=a\r\n\r\nx\r\n" + END, "Content-Disposition"),
        (b"------XyZ\r\nno colon\r\n\r\nx\r\n" + END, "malformed"),
        (b"------XyZ\r\nB\xc3\xa4d: x\r\n\r\nx\r\n" + END, "header name"),
        (part('name="a"', b"12", "Content-Length: 1") + END, "Content-Length"),
        (part('name="a"', b"12", "Content-Length: 3") + END, "Content-Length"),
        (part('name="a"', b"12", "Content-Length: " + "9" * 5000) + END, "Content-Length"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_malformed(content: bytes, message: str, step: int) -> None:
    refused(400, MULTIPART, content, message, step=step)


@pytest.mark.parametrize("boundary", ["", '""', "a" * 71, '"a b "', '"a\nb"', "é", '"a{b"'])
def test_bad_boundaries(boundary: str) -> None:
    refused(400, f"multipart/form-data; boundary={boundary}", b"", "boundary")
    refused(400, "multipart/form-data", b"", "boundary")


def test_charsets() -> None:
    content = part('name="a"', b"\xe9", "Content-Type: text/plain; charset=ISO-8859-1") + part(
        'name="b"', b"\xe9"
    )
    assert read(MULTIPART, content + END).fields == [("a", "é"), ("b", "\ufffd")]
    refused(415, MULTIPART, part('name="a"', b"x", "Content-Type: text/plain; charset=zip") + END, "charset")


def test_names() -> None:
    content = (
        part('filename="ü.txt"; name="ñ"', b"")
        + part("name=x; filename*=UTF-8''%E2%82%AC%20rates", b"")
        + part('name="C"; filename="C:\\\\dir\\\\a.txt"', b"")
        + part('name="%22%0D"', b"1")
        + part("x=y", b"2")
    )
    form = read(MULTIPART, content.replace("ñ".encode(), b"\xf1") + END)
    assert [(upload.name, upload.filename) for upload in form.uploads][:2] == [
        ("\ufffd", "ü.txt"),
        ("x", "€ rates"),
    ]
    assert form.uploads[2].safe_name == "a.txt"
    assert form.fields == [('"\r', "1"), ("", "2")]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (FormLimits(max_parts=3), "segment count"),
        (FormLimits(max_fields=1), "1 fields"),
        (FormLimits(max_files=1), "1 files"),
        (FormLimits(max_field_size=6), "field"),
        (FormLimits(max_file_size=10239), "file"),
        (FormLimits(max_part_head=40), "header"),
        (FormLimits(max_part_head=60), "header|head of a part"),
        (FormLimits(max_total=len(BROWSER) - 1), "form"),
        (FormLimits(max_memory=6), "fields"),
    ],
)
@pytest.mark.parametrize("step", [0, 1, 13])
def test_caps(limits: FormLimits, message: str, step: int, spooled: list[Any]) -> None:
    refused(413, MULTIPART, BROWSER, message, step=step, limits=limits._replace(spool_size=5))


def test_many_fields_in_a_head() -> None:
    refused(413, MULTIPART, part('name="a"', b"", *(f"X-{n}: 1" for n in range(16))) + END, "header count")


def test_memory_that_is_used_up_goes_to_disk(spooled: list[Any]) -> None:
    content = b"".join(part(f'name="{n}"; filename="{n}"', b"x" * 1000) for n in range(10)) + END
    form = read(MULTIPART, content, limits=FormLimits(max_memory=5000, spool_size=4000))
    assert sum(upload.is_spooled for upload in form.uploads) == 5
    assert all(upload.read() == b"x" * 1000 for upload in form.uploads)
    form.close()


def test_files_are_let_go_of_after_an_error_and_by_close(spooled: list[Any], tmp_path: Path) -> None:
    limits = FormLimits(spool_size=0)
    refused(400, MULTIPART, BROWSER[:-40], limits=limits, spool_dir=str(tmp_path))
    reader = FormReader(MULTIPART, limits, str(tmp_path))
    reader.feed(BROWSER[:500])
    reader.close()
    reader.close()
    assert len(spooled) == 4
    assert os.listdir(tmp_path) == []


class FullDisk:
    """A file on a disk without room; writes may also fail only when the buffer is written out."""

    def __init__(self, late: bool):
        self.late = late
        self.closed = False

    def write(self, data: bytes) -> int:
        if not self.late:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    def seek(self, place: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.closed = True
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_is_507(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(late)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: disk)
    refused(507, MULTIPART, BROWSER, "No space left", limits=FormLimits(spool_size=100))
    assert disk.closed


def test_a_folder_that_is_not_there_is_507(tmp_path: Path) -> None:
    limits = FormLimits(spool_size=0)
    refused(507, MULTIPART, BROWSER, "No such file", limits=limits, spool_dir=str(tmp_path / "none"))


def test_what_requests_sends() -> None:
    request = requests.Request(
        "POST",
        "http://x/",
        data={"a": "ü", "b": ["1", "2"]},
        files={"f": ("naïve.txt", b"\r\n--" * 50000, "text/plain")},
    ).prepare()
    assert isinstance(request.body, bytes)
    form = read(request.headers["content-type"], request.body, 4096)
    assert form.fields == [("a", "ü"), ("b", "1"), ("b", "2")]
    assert (form.uploads[0].filename, form.uploads[0].size) == ("naïve.txt", 200000)
    assert form.uploads[0].is_spooled
    form.close()


@settings(max_examples=60)
@given(st.binary(max_size=200), st.binary(max_size=60), st.integers(1, 30))
def test_content_is_kept_as_it_is(content: bytes, junk: bytes, step: int) -> None:
    if b"\r\n------XyZ" in b"\r\n" + content:
        return
    body = part('name="f"; filename="x"', content) + END
    form = read(MULTIPART, body, step)
    assert form.uploads[0].read() == content
    for broken in (junk + body, body[: len(junk)] + junk + body[len(junk) :], junk):
        try:
            read(MULTIPART, broken, step).close()
        except FormError as error:
            assert error.status in (400, 413, 415)


def upload_of(content: bytes) -> Upload:
    return read(MULTIPART, part('name="f"; filename="x"', content) + END).uploads[0]


def test_save(tmp_path: Path) -> None:
    upload = upload_of(b"content")
    upload.read(3)
    upload.save(str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(OSError, match="No such file"):
        upload.save(str(tmp_path / "none" / "a"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        upload.save(str(tmp_path / "folder"))
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"]
    assert "size=7" in repr(upload)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Grüße 你.txt", "Grüße 你.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\dir\\a.txt", "a.txt"),
        ("..", "upload"),
        ("", "upload"),
        ("a/", "upload"),
        ("\0", "upload"),
        (".htaccess", "htaccess"),
        ("a\0b.txt", "a_b.txt"),
        ("a\r\nb:c?.txt", "a__b_c_.txt"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("console.txt", "console.txt"),
        ("a. . ", "a"),
        ("evil\u202egpj.exe", "evil_gpj.exe"),
        ("u\u0308.txt", "ü.txt"),
        ("\udcff.txt", "_.txt"),
    ],
)
def test_safe_filename(name: str, safe: str) -> None:
    assert safe_filename(name) == safe


@given(st.text(max_size=300))
def test_safe_filenames_are_safe(name: str) -> None:
    safe = safe_filename(name)
    assert 0 < len(safe.encode()) <= 201
    assert not set("/\\\0\r\n") & set(safe)
    assert safe[0] != "."
    assert safe_filename("x" * 500 + ".jpeg").endswith("x.jpeg")
