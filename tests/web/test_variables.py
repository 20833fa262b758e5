"""The $variables: each has a value for every request, and for every response in logs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hemi.conditions import compile_condition, compile_template
from hemi.web.request import Request
from hemi.web.response import Response
from hemi.web.variables import LOG_SCOPE, REQUEST_SCOPE
from tests.webkit import serve

MESSAGE = (
    b"GET /a%20b/?x=1&y=%C3%A9 HTTP/1.1\r\nHost: Shop.Example:8080\r\nContent-Type: Text/HTML; charset=x\r\n"
    b"X-Some: v1\r\nX-Some: v2\r\nCookie: c=1; d=2\r\nAuthorization: Basic am9lOnNlY3JldA==\r\n\r\n"
)

EXPECTED = {
    "method": "GET",
    "scheme": "http",
    "authority": "shop.example:8080",
    "hostname": "shop.example",
    "port": "8080",
    "path": "/a b/",
    "uri": "/a%20b/?x=1&y=%C3%A9",
    "encoded_path": "/a%20b/",
    "query_string": "x=1&y=%C3%A9",
    "content_type": "text/html",
    "src_host": "127.0.0.1",
    "tls": "off",
    "tls_version": "",
    "server_name": "",
    "client_subject": "",
    "version": "1.1",
    "webapp": "app",
    "header_x_some": "v1, v2",
    "header_none": "",
    "cookie_d": "2",
    "cookie_none": "",
    "query_y": "é",
    "query_none": "",
    "user": "joe",
}


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """What every variable says of MESSAGE, and of its response."""
    found: dict[str, str] = {}

    def app(req: Request, resp: Response) -> bool:
        resp.add_header("x-out", "o")
        resp.send(b"12345", 201)
        names = [*REQUEST_SCOPE.variables, *EXPECTED]
        for name in names:
            found[name] = compile_template(f"$({name})", REQUEST_SCOPE)(req)
        for name in [*LOG_SCOPE.variables, "sent_x_out", "header_x_some"]:
            found[f"log {name}"] = compile_template(f"$({name})", LOG_SCOPE)(resp)
        found["remote"] = str(compile_condition('$src_host in ("127.0.0.0/8")', REQUEST_SCOPE)(req))
        return True

    with serve(app) as site, site.connect() as client:
        client.send(MESSAGE)
        assert client.answer().status == 201
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_requests(values: dict[str, str], name: str) -> None:
    assert values[name] == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in EXPECTED if name in LOG_SCOPE.variables])
def test_logs_say_the_same(values: dict[str, str], name: str) -> None:
    assert values[f"log {name}"] == EXPECTED[name]


def test_logs(values: dict[str, str]) -> None:
    assert values["log status"] == "201"
    assert values["log bytes_sent"] == values["log body_bytes_sent"] == "5"
    assert values["log request"] == "GET /a%20b/?x=1&y=%C3%A9 HTTP/1.1"
    assert values["log sent_x_out"] == "o"
    assert values["log remote_addr"] == "127.0.0.1" and values["log remote_user"] == "joe"
    assert float(values["log request_time"]) >= 0


@pytest.mark.parametrize(("method", "version"), [("GET", 11), ("POST", 10), ("GET", 20), ("", 11)])
def test_the_request_line_is_that_of_the_request(method: str, version: int) -> None:
    conn = SimpleNamespace(scheme="http", peer=("127.0.0.1", 1), tls=None)
    request = Request(None, conn, version, method, b"/\xe9", (), {})  # type: ignore[arg-type]
    line = compile_template("$request", LOG_SCOPE)(SimpleNamespace(request=request))
    assert line == request.line()
    assert bool(line) is bool(method)


def test_every_value_is_text(values: dict[str, str]) -> None:
    assert all(isinstance(value, str) for value in values.values())
    assert values["remote"] == "True"
