"""Who the client is behind proxies: fields of requests, PROXY headers, and from whom they are believed."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from typing import Any

import pytest

from hemi.web.realip import Networks, _node
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Site, serve


def who(req: Request, resp: Response) -> bool:
    resp.send_json([req.src_host, req.src_port, req.scheme])
    return True


def ask(site: Site, prefix: bytes = b"", **fields: str) -> Any:
    with site.connect() as client:
        client.send(prefix)
        client.request("GET", "/", {name.replace("_", "-"): value for name, value in fields.items()})
        return json.loads(client.answer().content)


def test_networks() -> None:
    networks = Networks([ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")])
    assert networks
    assert [host in networks for host in ("10.1.2.3", "11.1.2.3", "2001:db8::1", "unix:", "nonsense")] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert not Networks([])
    assert Networks([], with_uds=True) and "unix:" in Networks([], with_uds=True)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("1.2.3.4", ("1.2.3.4", 0)),
        (" 1.2.3.4:80 ", ("1.2.3.4", 80)),
        ('"[2001:db8::1]:4711"', ("2001:db8::1", 4711)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("::ffff:1.2.3.4", ("1.2.3.4", 0)),
        ("1.2.3.4:99999999", ("1.2.3.4", 0)),
        ("unknown", ("", 0)),
        ("_hidden", ("", 0)),
        ("", ("", 0)),
        ("a.example", ("", 0)),
        ("1.2.3.4\x00", ("", 0)),
    ],
)
def test_nodes(text: str, node: tuple[str, int]) -> None:
    assert _node(text) == node


def test_nobody_is_believed_by_default() -> None:
    with serve(who) as site:
        assert ask(site, x_forwarded_for="1.2.3.4", x_forwarded_proto="https")[::2] == ["127.0.0.1", "http"]


TRUSTING = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),  # the client wrote the first one itself
        ("1.2.3.4, 10.0.0.1", "1.2.3.4"),
        ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
        ("6.6.6.6, unknown, 10.0.0.1", "10.0.0.1"),
        ("nonsense", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_x_forwarded_for(value: str, host: str) -> None:
    with serve(who, server=TRUSTING) as site:
        assert ask(site, x_forwarded_for=value)[0] == host
        assert ask(site, x_forwarded_for=value)[0] == host  # with fields that are known by now


def test_several_lines_are_one_list() -> None:
    with serve(who, server=TRUSTING) as site, site.connect() as client:
        client.request("GET", "/", [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")])
        assert json.loads(client.answer().content)[0] == "1.2.3.4"


def test_other_fields() -> None:
    with serve(who, server={**TRUSTING, "real_ip": "x-real-ip"}) as site:
        assert ask(site, x_real_ip="1.2.3.4", x_forwarded_for="6.6.6.6")[0] == "1.2.3.4"
    with serve(who, server={**TRUSTING, "real_ip": "forwarded"}) as site:
        value = 'for=6.6.6.6, for="[2001:db8::1]:47";proto=https;by=10.0.0.1'
        assert ask(site, forwarded=value) == ["2001:db8::1", 47, "https"]


@pytest.mark.parametrize(("value", "scheme"), [("https", "https"), ("HTTPS", "https"), ("gopher", "http")])
def test_schemes(value: str, scheme: str) -> None:
    with serve(who, server=TRUSTING) as site:
        assert ask(site, x_forwarded_proto=value)[2] == scheme


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [
        ("a.example", "https", 443),
        ("a.example:8080", "https", 8080),
        ("[::1]", "https", 443),
        ("a", "http", 80),
    ],
)
def test_the_port_goes_with_the_scheme(host: str, scheme: str, port: int) -> None:
    """An app that makes a URL of SERVER_NAME and SERVER_PORT must not send clients to https://host:80/."""

    def tell(req: Request, resp: Response) -> bool:
        resp.send_json([req.scheme, req.port])
        return True

    with serve(tell, server=TRUSTING) as site, site.connect() as client:
        client.send(f"GET / HTTP/1.1\r\nhost: {host}\r\nx-forwarded-proto: {scheme}\r\n\r\n".encode())
        assert json.loads(client.answer().content) == [scheme, port]


def test_a_forced_scheme() -> None:
    with serve(who, server={"forced_scheme": "https"}) as site:
        assert ask(site)[2] == "https"


# PROXY headers

V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21"
    + struct.pack("!H", 36)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + struct.pack("!HH", 1111, 80)
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"
PROXIED = {"proxy_protocol": True}


def test_headers() -> None:
    with serve(who, server=PROXIED) as site:
        assert ask(site, V1) == ["1.2.3.4", 1111, "http"]
        assert ask(site, V2) == ["2001:db8::1", 1111, "http"]
        assert ask(site, LOCAL)[0] == "127.0.0.1"
        assert ask(site, b"PROXY UNKNOWN\r\n")[0] == "127.0.0.1"


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_headers_byte_by_byte(header: bytes) -> None:
    with serve(who, server=PROXIED) as site, site.connect() as client:
        client.drip(header + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert json.loads(client.answer().content)[1] == 1111
        client.request()
        assert json.loads(client.answer().content)[1] == 1111


def test_headers_are_for_listed_peers_only() -> None:
    """Of others none is expected, and none is believed."""
    with serve(who, server={**PROXIED, "proxy_protocol_from": ["10.0.0.0/8"]}) as site:
        assert ask(site)[0] == "127.0.0.1"
        with site.connect() as client:
            client.send(V1 + b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.answer().status in (400, 501)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 80\n",
        b"PROXY " + b"x" * 200,
        b"\r\n\r\n\0\r\nQUIT\n\x31\x21\0\0",
        V2[:20],
    ],
)
def test_headers_that_are_none_end_the_connection(data: bytes) -> None:
    with serve(who, server={**PROXIED, "handshake_timeout": "200ms"}) as site, site.connect() as client:
        client.send(data)
        assert client.is_closed()
        assert site.access == []
        assert not site.log.of("error")


def test_a_header_that_does_not_come() -> None:
    with serve(who, server={**PROXIED, "handshake_timeout": "200ms"}) as site, site.connect() as client:
        assert client.is_closed()
        assert not site.log.of("error") and not site.log.of("warning")


def test_a_client_named_by_a_header_is_trusted_by_its_own_address() -> None:
    with serve(who, server={**PROXIED, "trusted_proxies": ["1.2.3.4"]}) as site:
        assert ask(site, V1, x_forwarded_for="9.9.9.9")[0] == "9.9.9.9"
        assert ask(site, V2, x_forwarded_for="9.9.9.9")[0] == "2001:db8::1"
