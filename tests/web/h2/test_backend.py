"""Connections to nodes that speak HTTP/2, through a proxy with HTTP/1 clients."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent import ssl
from gevent.event import Event
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

import hemi.builtin.handlets.forward_auth  # noqa: F401
from tests.h2node import Exchange, Node2, echo, hello
from tests.tlskit import Authority
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import until

V2 = {"version": "2"}


def test_an_exchange() -> None:
    with Node2() as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        for number in range(3):
            client.request("GET", f"/a?{number}", {"X-A": "b"})
            answer = client.answer()
            assert (answer.status, answer.content) == (200, b"hello")
            assert answer.header("content-type") == "text/plain"
        assert node.accepted == 1
        seen = node.exchanges[2]
        assert (seen[":method"], seen[":path"], seen[":scheme"]) == ("GET", "/a?2", "http")
        assert seen[":authority"] and seen.get("host") is None and seen["x-a"] == "b"
        assert seen.get("connection") is None
        assert not node.broken
        told = node_of(site).describe()
        assert (told["conns"], told["in_flight"], told["idle_conns"], told["leases"]) == (1, 0, 1, 3)


@pytest.mark.parametrize("more", [{}, {"buffer_request": True, "buffer_memory": "1"}])
def test_contents_and_trailers(more: dict[str, Any]) -> None:
    with Node2(echo) as node, proxying(node.address, backend=V2, **more) as site:
        for size in (0, 1, 70_000, 3_000_000):
            data = (bytes(range(256)) * (size // 256 + 1))[:size]
            with site.connect() as client:
                writer = gevent.spawn(client.request, "POST", "/", content=data)
                answer = client.answer()
                writer.get()
                assert answer.content == data, site.log.entries
        with site.connect() as client:
            client.request("POST", "/", content=[b"one", b"two"], trailers=[("X-Sum", "6")])
            answer = client.answer()
        assert answer.content == b"onetwo"
        assert answer.trailers == [("x-sum", "6")]
        assert node.accepted == 1 and not node.broken


def test_many_at_a_time() -> None:
    gate: Any = []

    def wait(exchange: Exchange) -> None:
        gate.append(exchange)
        until(lambda: len(gate) == 30)
        exchange.answer(exchange[":path"].encode())

    with Node2(wait) as node, proxying(node.address, backend=V2) as site:
        clients = [site.connect() for _ in range(30)]
        for number, client in enumerate(clients):
            client.request("GET", f"/{number}")
        for number, client in enumerate(clients):
            assert client.answer().content == b"/%d" % number
            client.close()
        assert node.accepted == 1


def test_a_client_that_leaves_resets_its_stream_alone() -> None:
    def some(exchange: Exchange) -> None:
        if exchange[":path"] == "/hang":
            exchange.is_reset.wait(10)
        else:
            hello(exchange)

    with Node2(some) as node, proxying(node.address, backend=V2) as site:
        with site.connect() as client:
            client.request("GET", "/hang")
            until(lambda: node.exchanges)
        until(lambda: node.exchanges[0].is_reset.is_set())
        assert node.exchanges[0].reset_code == ErrorCodes.CANCEL
        assert site.get().content == b"hello"
        assert node.accepted == 1
        until(lambda: node_of(site).in_flight == 0)


def test_a_client_that_leaves_while_it_sends() -> None:
    def sink(exchange: Exchange) -> None:
        exchange.content()
        exchange.answer()

    with Node2(sink) as node, proxying(node.address, backend=V2) as site:
        with site.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
            until(lambda: node.exchanges)
        until(lambda: node.exchanges[0].reset_code == ErrorCodes.CANCEL)
        assert site.get().status == 200


def test_a_node_that_answers_before_it_has_read_all() -> None:
    def hasty(exchange: Exchange) -> None:
        exchange.answer(b"enough", 413)
        exchange.reset(ErrorCodes.NO_ERROR)

    with Node2(hasty, generous=False) as node, proxying(node.address, backend=V2) as site:
        client = site.connect()
        writer = gevent.spawn(client.request, "POST", "/", content=bytes(3_000_000))
        answer = client.answer()
        assert (answer.status, answer.content) == (413, b"enough")
        writer.kill()
        client.close()
        until(lambda: node_of(site).in_flight == 0)
        assert not node.broken


def test_back_pressure_from_the_client() -> None:
    sent: list[int] = []

    def big(exchange: Exchange) -> None:
        exchange.begin(200)
        for _ in range(400):
            exchange.send(bytes(100_000))
            sent.append(100_000)
        exchange.end()

    with Node2(big) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        client.request("GET", "/")
        until(lambda: len(sent) > 10)
        before = -1
        while before != len(sent):  # until nothing moves any more: kernels take much
            before = len(sent)
            gevent.sleep(0.3)
        assert len(sent) < 400
        assert len(client.answer().content) == 40_000_000


def test_back_pressure_from_the_node() -> None:
    with (
        Node2(lambda exchange: None, generous=False) as node,
        proxying(node.address, backend={**V2, "write_timeout": "300ms"}) as site,
    ):
        with site.connect() as client:
            writer = gevent.spawn(client.request, "POST", "/", content=bytes(10_000_000))
            assert client.answer().status == 504
            writer.kill()
        assert "does not take what is sent" in site.log.of("error")[0].message
        until(lambda: node.exchanges[0].is_reset.is_set())


# Connections


def test_connections_open_when_those_there_are_full() -> None:
    waiting: list[Exchange] = []

    def wait(exchange: Exchange) -> None:
        waiting.append(exchange)
        until(lambda: len(waiting) == 7)
        exchange.answer()

    settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 3}
    with Node2(wait, settings=settings) as node, proxying(node.address, backend=V2) as site:
        clients = [site.connect() for _ in range(7)]
        for client in clients:
            client.request("GET", "/")
        until(lambda: len(waiting) == 7)
        assert node_of(site).describe()["conns"] == 3
        for client in clients:
            assert client.answer().status == 200
            client.close()
        assert node.accepted == 3


def test_max_conns_are_exchanges() -> None:
    running: list[int] = [0, 0]

    def count(exchange: Exchange) -> None:
        running[0] += 1
        running[1] = max(running)
        gevent.sleep(0.01)
        running[0] -= 1
        exchange.answer()

    with Node2(count) as node, proxying(node.address, backend={**V2, "max_conns": 2}) as site:
        for task in [gevent.spawn(site.get) for _ in range(8)]:
            assert task.get().status == 200
        assert running[1] == 2 and node.accepted == 1


def test_an_idle_connection_ends() -> None:
    with Node2() as node, proxying(node.address, backend={**V2, "idle_timeout": "50ms"}) as site:
        assert site.get().status == 200
        until(lambda: node.open == 0)
        assert node.conns[0].goodbye.error_code == 0
        assert node_of(site).describe()["conns"] == 0
        assert site.get().status == 200
        assert node.accepted == 2


def test_a_connection_that_has_served_enough_ends() -> None:
    with Node2() as node, proxying(node.address, backend={**V2, "conn_uses": 2}) as site:
        for _ in range(5):
            assert site.get().status == 200
        assert node.accepted == 3
        until(lambda: node.open == 1)


def test_a_dead_connection_is_replaced() -> None:
    with Node2() as node, proxying(node.address, backend=V2) as site:
        assert site.get().status == 200
        node.conns[0].sock.shutdown(2)
        until(lambda: node_of(site).describe()["conns"] == 0)
        assert site.get().status == 200
        assert node.accepted == 2


def test_a_silent_node_is_asked_whether_it_lives() -> None:
    def mute(sock: Any) -> None:
        sock.recv(1000)
        sock.sendall(b"\0\0\0\4\0\0\0\0\0")
        while sock.recv(65536):
            pass

    backend = {**V2, "ping_interval": "100ms", "ping_timeout": "100ms"}
    with Node2(raw=mute) as node, proxying(node.address, backend=backend, max_retries=0) as site:
        with site.connect() as client:
            client.request("POST", "/", content=b"x")
            assert client.answer().status == 502
        assert "does not answer PING" in site.log.of("error")[0].message


def test_a_node_that_answers_pings_may_take_its_time() -> None:
    def slow(exchange: Exchange) -> None:
        gevent.sleep(1.3)
        exchange.answer(b"late")

    backend = {**V2, "ping_interval": "100ms", "ping_timeout": "100ms"}
    with Node2(slow) as node, proxying(node.address, backend=backend) as site:
        assert site.get().content == b"late"


def test_timeouts() -> None:
    def slow(exchange: Exchange) -> None:
        if exchange[":path"] == "/late":
            exchange.begin(200, [("content-length", "4")])
            exchange.send(b"ab")
        exchange.is_reset.wait(10)

    with (
        Node2(slow) as node,
        proxying(node.address, backend=V2, head_timeout="100ms", read_timeout="100ms") as site,
    ):
        assert site.get().status == 504
        with site.connect() as client:
            client.request("GET", "/late")
            with pytest.raises((ConnectionResetError, AssertionError)):
                client.answer()
        until(lambda: all(exchange.is_reset.is_set() for exchange in node.exchanges))
        assert node.accepted == 1


def test_what_does_not_speak_http2() -> None:
    def old(sock: Any) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    def shut(sock: Any) -> None:
        sock.recv(1000)

    def silent(sock: Any) -> None:
        while sock.recv(1000):
            pass

    for raw, reason in (
        (old, "it speaks HTTP/1"),
        (shut, "closed the connection"),
        (silent, "no settings in time"),
    ):
        with Node2(raw=raw) as node, Node2() as other:
            backend = {**V2, "dial_timeout": "100ms", "balancer": "first"}
            with proxying(node.address, backend=backend) as site, site.connect() as client:
                client.request("POST", "/", content=b"x")
                assert client.answer().status == (504 if raw is silent else 502)
                assert reason in site.log.of("error")[0].message
            with proxying(node.address, other.address, backend=backend) as site, site.connect() as client:
                client.request("POST", "/", content=b"x")  # nothing was sent to the first one
                assert client.answer().status == 200


def test_a_hundred_at_once_open_one_connection() -> None:
    with Node2() as node, proxying(node.address, backend=V2) as site:
        for task in [gevent.spawn(site.get) for _ in range(50)]:
            assert task.get().status == 200
        assert node.accepted == 1
    with proxying("127.0.0.1:1", backend=V2) as site:
        for task in [gevent.spawn(site.get) for _ in range(10)]:
            assert task.get().status == 502


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def tls_node(authority: Authority, *protocols: str) -> Any:
    identity = authority.issue("localhost", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_alpn(authority: Authority) -> None:
    backend = {**V2, "tls": True, "tls_server_name": "localhost", "tls_ca": str(authority.file)}

    def old(sock: Any) -> None:
        while sock.recv(65536):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")

    with (
        Node2(context=tls_node(authority, "h2", "http/1.1")) as node,
        proxying(node.address, backend=backend) as site,
    ):
        assert [site.get().content for _ in range(3)] == [b"hello"] * 3
        assert node.exchanges[0][":scheme"] == "https" and node.accepted == 1
    with (
        Node2(context=tls_node(authority, "http/1.1"), raw=old) as node,
        proxying(node.address, backend=backend) as site,
    ):
        assert [site.get().content for _ in range(3)] == [b"old"] * 3
        assert node.accepted == 1
        assert node_of(site).describe()["conns"] == 1
    with (
        Node2(context=tls_node(authority), raw=old) as node,
        proxying(node.address, backend=backend) as site,
    ):
        assert site.get().status == 502
        assert "did not choose a version of HTTP" in site.log.of("error")[0].message


# WebSocket (RFC 8441)


def upgrade(client: Any) -> None:
    client.request(
        "GET",
        "/chat",
        {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        },
    )


def test_a_websocket() -> None:
    settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    with Node2(echo, settings=settings) as node, proxying(node.address, backend=V2) as site:
        with site.connect() as client:
            upgrade(client)
            _, status, fields = client.head()
            assert status == 101
            assert dict(fields)["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert dict(fields)["upgrade"] == "websocket"
            client.send(b"ping")
            assert client.exactly(4) == b"ping"
            seen = node.exchanges[0]
            assert (seen[":method"], seen[":protocol"], seen[":path"]) == ("CONNECT", "websocket", "/chat")
            assert seen.get("sec-websocket-key") is None and seen["sec-websocket-version"] == "13"
        until(lambda: node_of(site).in_flight == 0)
        assert site.get().status == 200
        assert node.accepted == 1 and not node.broken


def test_a_websocket_that_is_refused() -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.answer(b"no", 403)

    settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    with (
        Node2(refuse, settings=settings) as node,
        proxying(node.address, backend=V2) as site,
        site.connect() as client,
    ):
        upgrade(client)
        answer = client.answer()
        assert (answer.status, answer.content) == (403, b"no")
    with Node2(echo) as node, proxying(node.address, backend=V2) as site, site.connect() as client:
        upgrade(client)
        assert client.answer().status == 502
        assert "RFC 8441" in site.log.of("error")[0].message


# Others that ask nodes


def test_mirrors() -> None:
    with (
        Node2() as node,
        Node2() as copy,
        proxying(
            node.address,
            backend=V2,
            backends={"copies": {"type": "http_backend", **V2, "nodes": [{"address": copy.address}]}},
            mirror="copies",
        ) as site,
    ):
        for _ in range(3):
            assert site.get("/m").content == b"hello"
        until(lambda: len(copy.exchanges) == 3)
        until(lambda: site.stage.members["backends"]["copies"].roster.nodes[0].in_flight == 0)
        assert copy.accepted == 1 and copy.exchanges[0][":path"] == "/m"
        assert not any(exchange.is_reset.is_set() for exchange in copy.exchanges)


def test_forward_auth() -> None:
    def judge(exchange: Exchange) -> None:
        exchange.answer(b"no", 403 if exchange["x-forwarded-uri"] == "/secret" else 200)

    with (
        Node2() as node,
        Node2(judge) as sso,
        proxying(
            node.address,
            backend=V2,
            backends={"sso": {"type": "http_backend", **V2, "nodes": [{"address": sso.address}]}},
            rule={
                "handlets": [
                    {"forward_auth": {"to_backend": "sso", "auth_uri": "/auth"}},
                    {"http_proxy": {"to_backend": "up"}},
                ]
            },
        ) as site,
    ):
        assert site.get("/open").content == b"hello"
        answer = site.get("/secret")
        assert (answer.status, answer.content) == (403, b"no")
        assert sso.accepted == 1 and len(node.exchanges) == 1


def test_a_priority_is_passed_on() -> None:
    with Node2() as node, proxying(node.address, backend=V2) as site:
        assert site.get("/", priority="u=1, i").status == 200
        assert node.exchanges[0]["priority"] == "u=1, i"


def test_a_stage_that_stops_ends_its_connections() -> None:
    with Node2() as node:
        with proxying(node.address, backend=V2) as site:
            assert site.get().status == 200
            assert node.open == 1
        until(lambda: node.open == 0)
        assert not site.stage.members["backends"]["up"].channels


def test_an_answer_goes_on_while_the_request_waits() -> None:
    """Each side has its own time: what waits to be sent must not bring back a deadline that is over."""
    waits = Event()

    def app(exchange: Exchange) -> None:
        exchange.begin(200)
        for _ in range(8):
            exchange.send(b"x")
            gevent.sleep(0.15)
        waits.set()
        exchange.conn.node.generous = True
        for piece in exchange.queue():
            exchange.conn.acknowledge(len(piece), exchange.number)
        exchange.end()

    with (
        Node2(app, generous=False) as node,
        proxying(node.address, backend=V2, read_timeout="600ms") as site,
        site.connect() as client,
    ):
        writer = gevent.spawn(client.request, "POST", "/", content=bytes(200_000))
        assert client.answer().content == b"x" * 8
        writer.get()
        assert waits.is_set()
