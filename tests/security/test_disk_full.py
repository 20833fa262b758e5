"""Row 16: the disk is full. Serving goes on; what cannot be written is dropped, counted or refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Client, config, hello, running, serve


def upload(size: int) -> tuple[dict[str, str], bytes]:
    """Fields and content of a form with one file."""
    content = (
        b'--b\r\ncontent-disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
        + b"x" * size
        + b"\r\n--b--\r\n"
    )
    return {"content-type": "multipart/form-data; boundary=b"}, content


def sizes(req: Request, resp: Response) -> bool:
    if req.method == "GET":
        return hello(req, resp) is True
    resp.send_json([len(one.file.read()) for one in req.uploads()])
    return True


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files are on a device without room."""

    def make(*args: Any, **more: Any) -> Any:
        return open("/dev/full", "w+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", make)


def post(client: Client, size: int) -> Any:
    fields, content = upload(size)
    client.request("POST", "/", fields, content=content)
    return client.answer()


def test_uploads_that_cannot_be_spooled(full: None) -> None:
    with serve(sizes, webapp={"spool_size": "10K"}) as site:
        with site.connect() as client:
            assert post(client, 5000).content == b"[5000]"  # stays in memory
            assert post(client, 50_000).status == 507
        with site.connect() as client:
            assert post(client, 2_000_000).status == 507
            assert client.is_closed() or client.ended
        assert site.get("/").content == b"hello"
        assert site.log.of("error") == []


def test_a_spool_without_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with serve(sizes, folder=str(folder), webapp={"spool_size": "10K"}) as site, site.connect() as client:
        assert post(client, 50_000).status == 507
        assert site.get("/").content == b"hello"


def test_spooling_works_otherwise(tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    with (
        serve(sizes, folder=str(tmp_path), webapp={"spool_size": "10K"}) as site,
        site.connect() as client,
    ):
        assert post(client, 500_000).content == b"[500000]"
        assert list(tmp_path.iterdir()) == []


def test_access_logs_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    mapping = config(hello, stage={"access_log": "access"})
    mapping["loggers"] = {"access": {"target": "/dev/full", "format": "combined"}}
    with running(mapping) as site, site.connect() as client:
        logger: Any = site.stage.members["loggers"]["access"]
        for _ in range(50):
            client.request()
            assert client.answer().content == b"hello"
        logger.flush()
        client.request()
        assert client.answer().content == b"hello"
        assert site.log.of("error", "web") == []
    said = capfd.readouterr().err
    assert "No space left on device (51 lines dropped, 0 waiting)" in said
    assert said.count("\n") <= 5  # not for every line
