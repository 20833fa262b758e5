"""The opening handshake: what is one, what is refused and how, which pages may, what is agreed on."""

from __future__ import annotations

import pytest

from tests.web.websocket.wskit import FIELDS, open_ws, serving
from tests.webkit import Answer, Site


def ask(site: Site, method: str = "GET", content: bytes | None = None, **fields: str | None) -> Answer:
    """The answer to a handshake with other fields than it should have; None leaves one out."""
    given: dict[str, str | None] = {
        **FIELDS,
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    with site.connect() as client:
        client.request(
            method, "/", {name: value for name, value in given.items() if value is not None}, content
        )
        return client.answer()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Upgrade": None, "Connection": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Upgrade": "h2c, WebSocket"}, 101),
        ({"Connection": "keep-alive, upgrade"}, 101),
        ({"Connection": "keep-alive"}, 400),
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Version": "13, 13"}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
        ({"Sec-WebSocket-Key": "dGhl IHNhbXBsZSBub25jZQ=="}, 400),
        ({"Sec-WebSocket-Protocol": "a, b c"}, 400),
    ],
)
def test_the_form(fields: dict[str, str | None], status: int) -> None:
    with serving() as site:
        answer = ask(site, **fields)
        assert answer.status == status
        if status == 426:
            assert answer.header("upgrade") == "websocket"
            assert answer.header("connection") == "upgrade"
            assert answer.header("sec-websocket-version") == "13"
        if status == 101:
            assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of RFC 6455 §1.3


def test_other_methods_contents_and_versions() -> None:
    with serving() as site:
        assert ask(site, "POST").status == 400
        assert ask(site, content=b"x").status == 400
        with site.connect() as client:
            fields = "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items())
            client.send(f"GET / HTTP/1.0\r\nHost: a\r\n{fields}\r\n".encode())
            assert client.answer().status == 400


def test_the_connection_goes_on_behind_a_refusal() -> None:
    with serving() as site, site.connect() as client:
        client.request("GET")
        assert client.answer().status == 426
        client.request("GET", fields=FIELDS)
        assert client.answer().status == 101


@pytest.mark.parametrize(
    ("origins", "host", "origin", "status"),
    [
        ([], "a.example", "http://a.example", 101),
        ([], "a.example", "https://a.example", 101),  # something in front of us may end TLS
        ([], "A.example:80", "http://a.EXAMPLE", 101),
        ([], "a.example:8080", "http://a.example:8080", 101),
        ([], "[::1]:8080", "http://[::1]:8080", 101),
        ([], "a.example:8080", "http://a.example", 403),
        ([], "a.example", "http://a.example:8080", 403),
        ([], "a.example", "http://b.example", 403),
        ([], "a.example", "http://a.example.evil", 403),
        ([], "a.example", "http://evil/a.example", 403),
        ([], "a.example", "http://a.example@evil", 403),
        ([], "a.example", "null", 403),
        ([], "a.example", "", 403),
        ([], "a.example", "http://[", 403),
        (["*"], "a.example", "http://b.example", 101),
        (["*"], "a.example", "null", 101),
        (["null"], "a.example", "null", 101),
        (["https://b.example"], "a.example", "https://b.example", 101),
        (["https://b.example"], "a.example", "http://b.example", 403),
        (["https://b.example"], "a.example", "https://b.example:8443", 403),
        (["https://b.example:8443"], "a.example", "https://b.example:8443", 101),
        (["b.example"], "a.example", "http://b.example:8000", 101),
        (["b.example:80"], "a.example", "http://b.example", 101),
        (["b.example:80"], "a.example", "https://b.example", 403),
        (["*.b.example"], "a.example", "https://x.y.b.example", 101),
        (["*.b.example"], "a.example", "https://b.example", 403),
        (["*.b.example"], "a.example", "https://evilb.example", 403),
    ],
)
def test_origins(origins: list[str], host: str, origin: str, status: int) -> None:
    with serving(origins=origins) as site, site.connect() as client:
        client.request("GET", "/", {**FIELDS, "Origin": origin}, host=host)
        assert client.answer().status == status


def test_clients_that_are_no_browsers_have_no_origin() -> None:
    with serving() as site:
        assert ask(site).status == 101


def test_subprotocols() -> None:
    with serving(subprotocols=["chat.v2", "chat.v1"]) as site:
        for offer, choice in (("x, chat.v1, chat.v2", "chat.v1"), ("x", None), ("", None)):
            with open_ws(site, Sec_WebSocket_Protocol=offer) as ws:
                assert ws.subprotocol == choice


def test_a_page_of_the_site_for_426(tmp_path: object) -> None:
    page = f"{tmp_path}/426.html"
    with open(page, "w") as file:
        file.write("only sockets")
    with serving(_webapp={"error_pages": {"426": page}}) as site:
        assert site.get().content == b"only sockets"
