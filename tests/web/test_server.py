"""The HTTP server: what its configuration must be, where it listens, which certificates it shows."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from gevent import ssl

from hemi.errors import ConfigError, EnvError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.tlskit import Authority
from tests.webkit import Client, config, dial, hello, load, running, scripted, serve


def problems(**server: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(config(server=server))
    return str(raised.value)


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({"address": []}, "address"),
        ({"address": ["127.0.0.1:1", "127.0.0.1:1"]}, "must not name the same address twice"),
        ({"webapps": ["other"]}, "other"),
        ({"server_header": "a\r\nb"}, "server_header must be a field value"),
        ({"access_log": {"target": "stdout", "format": "$nope"}}, "access_log does not fit requests"),
        ({"tls": True}, 'needs a tls_certificate on webapp "app"'),
        ({"tls": True, "webapps": []}, "tls needs webapps, for their certificates"),
        ({"tls_client_auth": "require"}, '"require" needs tls_client_ca'),
        ({"max_head_size": "1"}, "max_head_size must be"),
        ({"overload": "panic"}, "overload"),
        ({"protocols": []}, "protocols"),
        ({"protocols": ["h3"]}, "protocols"),
        ({"h2_max_streams": 0}, "h2_max_streams"),
        ({"h2_max_frame_size": "8K"}, "h2_max_frame_size"),
        ({"h2_window": "2M", "h2_max_window": "1M"}, "h2_max_window must not be smaller than h2_window"),
        ({"keepalive_timout": "1s"}, "keepalive_timeout"),
    ],
)
def test_problems(server: dict[str, Any], problem: str) -> None:
    assert problem in problems(**server)


def test_two_webapps_of_one_name() -> None:
    mapping = config()
    mapping["webapps"]["other"] = {"hostnames": ["*"], "rules": [{"return_code": 200}]}
    mapping["servers"]["main"]["webapps"].append("other")
    with pytest.raises(ConfigError, match='"app" and "other" both have the host name'):
        load(mapping)


def test_several_addresses(tmp_path: Path) -> None:
    uds = tmp_path / "s.sock"
    name = f"@gorox-test-{os.getpid()}"
    addresses = ["127.0.0.1:0", "[::1]:0", str(uds), name]
    with serve(address=addresses, server={"uds_mode": "0600"}) as site:
        assert site.server.addresses[0].startswith("127.0.0.1:")
        assert site.server.addresses[1].startswith("[::1]:")
        assert site.server.addresses[2:] == [str(uds), name]
        assert stat.S_IMODE(uds.stat().st_mode) == 0o600
        for number in range(4):
            with site.connect(number) as client:
                client.request()
                assert client.answer().content == b"hello"
    assert not uds.exists()
    with pytest.raises(OSError):
        dial(name)


def test_both_families_of_a_port() -> None:
    def who(req: Request, resp: Response) -> bool:
        resp.send(req.src_host)
        return True

    with serve(who, address=":0") as site:
        port = site.server.addresses[0].rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]"):
            with Client(dial(f"{host}:{port}")) as client:
                client.request()
                assert client.answer().content.decode() == host.strip("[]")


def test_addresses_that_cannot_be_had(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("no socket")
    with pytest.raises(EnvError, match="cannot listen on"):
        load(config(address=str(taken))).prepare()
    assert taken.read_text() == "no socket"
    with pytest.raises(EnvError, match="cannot listen on"):
        load(config(address="192.0.2.1:1")).prepare()


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "s"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with serve(address=str(path)) as site:
        assert site.get("/").content == b"hello"


def test_hosts() -> None:
    def of(name: str) -> dict[str, Any]:
        return {"rules": [{"return_code": 200, "return_text": name}]}

    mapping = config()
    mapping["webapps"] = {
        "exact": {"hostnames": ["a.example"], **of("exact")},
        "suffix": {"hostnames": ["*.example"], **of("suffix")},
        "idna": {"hostnames": ["bücher.example"], **of("idna")},
    }
    mapping["servers"]["main"]["webapps"] = ["exact", "suffix", "idna"]
    with running(mapping) as site, site.connect() as client:
        for host, content in (
            ("a.example", b"exact"),
            ("A.EXAMPLE:1234", b"exact"),
            ("b.example", b"suffix"),
            ("xn--bcher-kva.example", b"idna"),
        ):
            client.request(host=host)
            assert client.answer().content == content
        client.request(host="elsewhere.test")
        answer = client.answer()
        assert answer.status == 404 and b"No site of this name" in answer.content
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.answer().status == 404


@pytest.mark.parametrize("value", ["", "me/1.0"])
def test_the_server_field(value: str) -> None:
    with serve(server={"server_header": value}) as site:
        assert site.get("/").header("server") == (value or None)


def test_force_https() -> None:
    with serve(webapp={"force_https": True}) as site:
        answer = site.get("/a%20b?c=d")
        assert (answer.status, answer.header("location")) == (308, "https://a.example/a%20b?c=d")


def test_metered() -> None:
    with serve() as site, site.connect() as client:
        for _ in range(3):
            client.request()
            client.answer()
        assert site.server.requests == 3


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def pems(authority: Authority, *names: str) -> dict[str, str]:
    identity = authority.issue(names[0], *names)
    return {"tls_certificate": identity.certificate, "tls_private_key": identity.private_key}


def test_certificates_by_name_and_misdirected_requests(authority: Authority) -> None:
    """A request for a webapp of another certificate is refused (RFC 9110 §15.5.20)."""
    mapping = config(server={"tls": True})
    mapping["webapps"] = {
        name: {
            "hostnames": [f"{name}.example"],
            "rules": [{"return_code": 200, "return_text": f"{name} $server_name"}],
            **pems(authority, f"{name}.example"),
        }
        for name in ("one", "two")
    }
    mapping["servers"]["main"]["webapps"] = ["one", "two"]
    context = ssl.create_default_context(cafile=authority.file)
    with running(mapping) as site:
        for name in ("one", "two"):
            with Client(dial(site.address, tls=context, name=f"{name}.example")) as client:
                for _ in range(3):
                    client.request(host=f"{name}.example")
                    assert client.answer().content.decode() == f"{name} {name}.example"
        for _ in range(3):  # known fields do not lift it
            with Client(dial(site.address, tls=context, name="one.example")) as client:
                client.request(host="two.example")
                answer = client.answer()
                assert answer.status == 421 and answer.closes
                assert client.is_closed()


def test_plain_http_on_a_tls_port(authority: Authority) -> None:
    with (
        serve(server={"tls": True}, webapp=pems(authority, "plain.example")) as site,
        site.connect() as client,
    ):
        client.request()
        answer = client.answer()
        assert answer.status == 400 and answer.closes
        assert client.is_closed()
        assert site.access == []


def test_handshakes_have_a_deadline(authority: Authority) -> None:
    with (
        serve(
            server={"tls": True, "handshake_timeout": "200ms"}, webapp=pems(authority, "slow.example")
        ) as site,
        site.connect() as client,
    ):
        client.send(b"\x16\x03\x01")
        assert client.is_closed()


def test_client_certificates_in_conditions(authority: Authority) -> None:
    rules = [
        {"if": '$client_subject *= "me.example"', "return_code": 200, "return_text": "it is me"},
        {"handlets": [scripted(hello)]},
    ]
    server = {"tls": True, "tls_client_auth": "request", "tls_client_ca": authority.file}
    mine = authority.issue("client", "me.example", common_name="me.example")
    with serve(rules=rules, server=server, webapp=pems(authority, "localhost")) as site:
        context = ssl.create_default_context(cafile=authority.file)
        with Client(dial(site.address, tls=context)) as client:
            client.request()
            assert client.answer().content == b"hello"
        context.load_cert_chain(mine.certificate, mine.private_key)
        with Client(dial(site.address, tls=context)) as client:
            client.request()
            assert client.answer().content == b"it is me"


def test_a_stage_that_cannot_start_leaves_the_connections_where_they_are(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("cannot go to work")

    mapping = config()
    mapping["servers"]["other"] = {"type": "httpx_server", "address": "127.0.0.3:0", "webapps": ["app"]}
    with running(mapping, str(tmp_path)) as site, site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.answer()
        (conn,) = site.conns
        new = load(mapping, str(tmp_path))
        new.prepare()
        new.members["servers"]["other"].start = fail  # type: ignore[method-assign]
        with pytest.raises(EnvError):
            new.start(site.stage)
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().status == 200
        assert conn.server is site.stage.members["servers"]["main"]
