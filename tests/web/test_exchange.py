"""Where exchanges end: what is logged and answered. What apps do wrong is in tests/security/test_apps.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hemi.web.errors import HTTPError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import config, hello, running, serve


def test_errors_that_handlets_raise() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.add_header("x-old", "1")
        raise HTTPError(
            401, "Who are you?", headers=(("www-authenticate", "Basic"),), close=req.path == "/close"
        )

    with serve(app) as site, site.connect() as client:
        for path in ("/", "/close"):
            client.request("GET", path)
            answer = client.answer()
            assert answer.status == 401 and b"Who are you?" in answer.content
            assert answer.header("www-authenticate") == "Basic" and answer.header("x-old") is None
            assert answer.closes == (path == "/close")
        assert site.log.entries == []


def test_error_pages_of_the_webapp(tmp_path: Path) -> None:
    page = tmp_path / "404.html"
    page.write_text("<p>nowhere</p>")
    with serve(
        rules=[{"if": '$path == "/"', "return_code": 200}], webapp={"error_pages": {"404": str(page)}}
    ) as site:
        answer = site.get("/none")
        assert answer.status == 404 and answer.content == b"<p>nowhere</p>"
        assert (answer.header("content-type") or "").startswith("text/html")
        with site.connect() as client:
            client.request("HEAD", "/none")
            head = client.answer("HEAD")
            assert head.status == 404 and head.header("content-length") == "14"


@pytest.mark.parametrize(
    "message",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    ],
)
def test_refusals_are_logged_in_any_format(message: bytes, tmp_path: Path) -> None:
    """Whatever a log format asks for, also what was never found out about such a request."""
    path = tmp_path / "access.log"
    fields = "status method scheme authority hostname port path uri encoded_path query_string content_type src_host"
    mapping = config(hello, stage={"access_log": "access"})
    mapping["loggers"] = {
        "access": {
            "target": str(path),
            "format": " ".join(
                f"${name}" for name in [*fields.split(), "request", "header_host", "cookie_a", "user"]
            ),
        }
    }
    with running(mapping) as site, site.connect() as client:
        client.send(message)
        answer = client.answer()
        assert 400 <= answer.status <= 505 and client.is_closed()
        assert site.log.entries == []
    (line,) = path.read_text().splitlines()
    assert line.startswith(str(answer.status))


def test_the_end_of_uploads() -> None:
    """What an exchange has spooled is freed, whatever the handlet did."""
    forms = []

    def app(req: Request, resp: Response) -> bool:
        forms.append(req.read_form())
        raise ValueError

    content = b'--b\r\ncontent-disposition: form-data; name="f"; filename="f"\r\n\r\nhello\r\n--b--\r\n'
    with serve(app, webapp={"spool_size": 1}) as site, site.connect() as client:
        client.request("POST", "/", {"content-type": "multipart/form-data; boundary=b"}, content=content)
        assert client.answer().status == 500
        assert forms[0].uploads[0].file.closed


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data", 400),
        ('multipart/form-data; boundary=""', 400),
        ("multipart/form-data; boundary=b", 400),  # which is not in the content
        ("application/x-www-form-urlencoded; charset=zip", 415),
        ("application/x-www-form-urlencoded", 200),
        ("text/plain", 200),  # no form, and so without fields
    ],
)
def test_forms_that_cannot_be_read_are_the_client_s_fault(content_type: str, status: int) -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(req.form("a") or "none")
        return True

    with serve(app) as site, site.connect() as client:
        for _ in range(2):
            client.request("POST", "/", {"content-type": content_type}, content=b"a=1")
            assert client.answer().status == status
        assert not site.log.of("error")
