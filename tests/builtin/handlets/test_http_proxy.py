"""http_proxy between a strict client and scripted upstreams."""

from __future__ import annotations

import hashlib
from typing import Any

import gevent
import pytest

from tests.badserver import (
    Again,
    Close,
    Drip,
    Hang,
    Head,
    Request,
    Reset,
    answering,
    bad_server,
    dead_address,
    ok,
)
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import Client, Malformed, until


def get(client: Client, target: str = "/", **fields: str) -> Any:
    client.request("GET", target, {name.replace("_", "-"): value for name, value in fields.items()})
    return client.answer()


def test_a_request_and_its_answer_pass_and_the_connection_is_used_again() -> None:
    with (
        bad_server(answering(b"hi", "Content-Type: text/plain", "X-Made-By: node")) as node,
        proxying(node) as site,
    ):
        with site.connect() as client:
            for number in range(3):
                answer = get(client, f"/a/{number}?q=%20x", user_agent="me")
                assert (answer.status, answer.content) == (200, b"hi")
                assert answer.header("content-type") == "text/plain"
                assert answer.header("x-made-by") == "node"
                assert answer.header("via") == "1.1 gorox"
        assert node.conns == 1
        assert [seen.line for seen in node.requests] == [f"GET /a/{n}?q=%20x HTTP/1.1" for n in range(3)]
        assert node.requests[0].header("user-agent") == "me"
        assert node.requests[0].header("host") == "a.example"
        assert node.requests[0].header("via") == "1.1 gorox"
        assert node.requests[0].header("x-forwarded-for") == "127.0.0.1"
        assert node.requests[0].header("x-forwarded-proto") == "http"
        assert node.requests[0].header("x-forwarded-host") == "a.example"
        assert site.access[0].status == 200


@pytest.mark.parametrize("size", [1, 5000, 65536, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("buffer", [False, True])
def test_contents_pass_both_ways(size: int, chunked: bool, buffer: bool, tmp_path: Any) -> None:
    data = hashlib.shake_128(b"x").digest(size)
    framing = (
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, data)
        if chunked
        else b"Content-Length: %d\r\n\r\n%b" % (size, data)
    )
    with (
        bad_server([Request(), b"HTTP/1.1 200 OK\r\n" + framing, Again()]) as node,
        proxying(node, buffer_request=buffer, buffer_response=buffer, folder=str(tmp_path)) as site,
        site.connect() as client,
    ):
        for _ in range(2):
            client.request(
                "POST", "/", content=[data[: size // 2], data[size // 2 :]] if chunked and size > 1 else data
            )
            answer = client.answer()
            assert answer.status == 200
            assert answer.content == data
            assert node.requests[-1].content == data
        assert node.conns == 1
        if buffer:
            assert node.requests[0].header("content-length") == str(size)


@pytest.mark.parametrize("size", [0, 3, 300_000])
def test_trailers_behind_a_buffered_request(size: int, tmp_path: Any) -> None:
    """In memory and on disk; a second node gets them as the first one did."""
    first = [Request(), b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]
    second = [Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"]
    data = b"x" * size
    with (
        bad_server(first) as one,
        bad_server(second) as other,
        proxying(
            one, other, backend={"balancer": "first"}, folder=str(tmp_path), buffer_request=True,
            retry_statuses=["500"], retry_methods=["POST"],
        ) as site,
        site.connect() as client,
    ):  # fmt: skip
        pieces = [piece for piece in (data[:2], data[2:]) if piece]
        client.request("POST", "/", content=pieces, trailers=[("x-t", "1"), ("host", "evil")])
        assert client.answer().status == 200
        for node in (one, other):
            request = node.requests[0]
            assert (request.content, request.trailers) == (data, b"x-t: 1\r\n")
            assert request.header("transfer-encoding") == "chunked"
            assert request.header("content-length") is None


def test_trailers_pass_both_ways() -> None:
    script = [
        Request(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n",
        Again(),
    ]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        client.request(
            "POST", "/", {"TE": "trailers"}, content=[b"abc"], trailers=[("x-t", "1"), ("host", "evil")]
        )
        answer = client.answer()
        assert answer.trailers == [("x-sum", "7")]
        assert node.requests[0].trailers == b"x-t: 1\r\n"
        assert node.requests[0].header("te") == "trailers"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PATCH"])
def test_methods(method: str) -> None:
    script = [
        Request(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + (b"" if method == "HEAD" else b"hello"),
    ]
    with bad_server([*script, Again()]) as node, proxying(node) as site, site.connect() as client:
        for _ in range(2):
            client.request(method, "/")
            answer = client.answer(method)
            assert answer.header("content-length") == "5"
        assert node.conns == 1


@pytest.mark.parametrize(
    "head",
    [
        b"204 No Content\r\n\r\n",
        b'304 Not Modified\r\nETag: "x"\r\n\r\n',
        b"200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_answers_without_content(head: bytes) -> None:
    with bad_server([Request(), b"HTTP/1.1 " + head, Again()]) as node, proxying(node) as site:
        with site.connect() as client:
            for _ in range(2):
                assert get(client).status == int(head[:3])
        assert node.conns == 1


def test_head_of_a_chunked_answer_has_no_length() -> None:
    script = [Request(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Again()]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        client.request("HEAD", "/")
        assert client.answer("HEAD").header("content-length") is None
        assert len(node.requests) == 1


def test_interim_answers_pass_and_100_does_not() -> None:
    script = [
        Request(),
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nKeep-Alive: 3\r\n\r\n",
        ok(),
    ]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        answer = get(client)
        assert answer.informational == [(103, [("link", "</a.css>; rel=preload")])]
        assert answer.content == b"hello"


def test_expect_goes_to_the_node_and_a_refusal_comes_before_the_content() -> None:
    with bad_server([Head(), ok(b"no", status="401 Unauthorized"), Hang()]) as node, proxying(node) as site:
        with site.connect() as client:
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
            )
            answer = client.answer()
            assert answer.status == 401
            assert answer.informational == []
            assert answer.closes
        assert node.requests[0].header("expect") == "100-continue"


def test_expect_is_met_by_the_nodes_100() -> None:
    script = [Head(), b"HTTP/1.1 100 Continue\r\n\r\n", lambda sock: sock.recv(5), ok()]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.head()[1] == 100
        client.send(b"12345")
        assert client.answer().content == b"hello"
        assert node.conns == 1


def test_an_early_answer_passes_while_the_content_still_comes() -> None:
    """A node may answer while it reads: what both send goes on."""

    def echo(sock: Any) -> None:
        left = 200_000
        while left:
            data = sock.recv(65536)
            left -= len(data)
            sock.sendall(data)

    script = [Head(), b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", echo]
    with bad_server(script) as node, proxying(node) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        assert client.head()[1] == 200
        client.send(b"a" * 100)
        assert client.exactly(100) == b"a" * 100
        client.send(b"b" * 199_900)
        assert client.exactly(199_900) == b"b" * 199_900
        assert node.conns == 1


def test_a_stream_comes_piece_by_piece() -> None:
    """Server-sent events: the head, and each piece, without waiting for the next one."""
    go: list[gevent.event.Event] = [gevent.event.Event() for _ in range(2)]
    script = [
        Request(),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        lambda sock: go[0].wait(5),
        b"data: 1\n\n",
        lambda sock: go[1].wait(5),
        b"data: 2\n\n",
    ]
    with bad_server(script) as node, proxying(node, buffer_response=True) as site, site.connect() as client:
        client.request()
        assert client.head()[1] == 200
        go[0].set()
        assert client.chunk() == b"data: 1\n\n"
        go[1].set()
        assert client.chunk() == b"data: 2\n\n"
        assert client.chunk() == b""
        assert node.conns == 1


def test_buffered_answers_free_the_node_before_the_client_has_read() -> None:
    with bad_server(answering(b"x" * 8_000_000)) as node, proxying(node, buffer_response=True) as site:
        with site.connect(rcvbuf=4096) as client:
            client.request()
            until(lambda: node_of(site).pool.idle)
            assert client.answer().content == b"x" * 8_000_000
        assert node.conns == 1


# Upgrades


def echo_all(sock: Any) -> None:
    while data := sock.recv(65536):
        sock.sendall(data.upper())


FIELDS = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\n" + FIELDS + b"Sec-WebSocket-Key: x\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n" + FIELDS + b"Sec-WebSocket-Accept: y\r\n\r\n"


def test_upgrades_are_tunnelled() -> None:
    with (
        bad_server([Head(), SWITCH + b"first", echo_all]) as node,
        proxying(node) as site,
        site.connect() as client,
    ):
        client.send(UPGRADE + b"early")
        _, status, fields = client.head()
        assert status == 101
        assert ("upgrade", "websocket") in fields
        assert ("sec-websocket-accept", "y") in fields
        assert client.exactly(10) == b"firstEARLY"
        client.send(b"more")
        assert client.exactly(4) == b"MORE"
        client.shutdown()
        assert client.rest() == b""
        until(lambda: site.access)
        assert site.access[0].status == 101
        assert site.access[0].bytes_sent == 14
        assert node.requests[0].header("connection") == "upgrade"
        assert node.requests[0].header("upgrade") == "websocket"
        assert not site.stage.members["backends"]["up"].exchanges


def test_a_node_may_refuse_an_upgrade_and_the_connection_goes_on() -> None:
    with bad_server(answering(b"no", status="400 Bad Request")) as node, proxying(node) as site:
        with site.connect() as client:
            client.send(UPGRADE + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.answer().status == 400
            assert client.answer().status == 400
        assert [seen.line for seen in node.requests] == ["GET /chat HTTP/1.1", "GET /next HTTP/1.1"]


def test_silent_tunnels_end() -> None:
    with bad_server([Head(), SWITCH, Hang()]) as node, proxying(node, tunnel_timeout="100ms") as site:
        with site.connect() as client:
            client.send(UPGRADE)
            assert client.head()[1] == 101
            assert client.is_closed()
        until(lambda: node.ended)


# Heads


def test_fields_are_deleted_set_and_added() -> None:
    with (
        bad_server(answering(b"", "X-Secret: 1", "Server: node", "X-Old: 1")) as node,
        proxying(
            node,
            host="inside.example",
            delete_request=["cookie"],
            set_request={"X-Path": "$path", "X-None": "$header_none"},
            add_request={"X-Who": "gorox"},
            delete_response=["x-secret"],
            set_response={"X-Old": "$method"},
            add_response={"X-New": "2"},
            x_real_ip=True,
            forwarded="set",
        ) as site,
        site.connect() as client,
    ):
        answer = get(client, "/p", cookie="a=b", x_path="lie", X_Path="lie")
        seen = node.requests[0]
        assert seen.header("host") == "inside.example"
        assert seen.header("cookie") is None
        assert seen.header("x-path") == "/p"
        assert seen.header("x-none") is None
        assert seen.header("x-who") == "gorox"
        assert seen.header("x-real-ip") == "127.0.0.1"
        assert seen.header("forwarded") == "for=127.0.0.1;host=a.example;proto=http"
        assert answer.header("x-secret") is None
        assert answer.header("x-old") == "GET"
        assert answer.header("x-new") == "2"
        assert answer.header("server") == "node"


def test_claims_count_from_trusted_proxies_only() -> None:
    lies = {
        "x_forwarded_for": "1.2.3.4",
        "x_forwarded_proto": "https",
        "forwarded": "for=9.9.9.9",
        "x_real_ip": "5.5.5.5",
    }
    with bad_server(answering()) as node:
        with proxying(node) as site, site.connect() as client:
            get(client, **lies)
        with proxying(node, server={"trusted_proxies": ["127.0.0.1"]}) as site, site.connect() as client:
            get(client, **lies)
        with proxying(node, x_forwarded="off") as site, site.connect() as client:
            get(client, **lies)
    untrusted, trusted, off = node.requests
    assert untrusted.header("x-forwarded-for") == "127.0.0.1"
    assert untrusted.header("x-forwarded-proto") == "http"
    assert untrusted.header("forwarded") is None
    assert untrusted.header("x-real-ip") is None
    assert trusted.header("x-forwarded-for") == "1.2.3.4, 127.0.0.1"
    assert trusted.header("x-forwarded-proto") == "https"
    assert off.header("x-forwarded-for") == "1.2.3.4"
    assert off.header("forwarded") == "for=9.9.9.9"


@pytest.mark.parametrize(
    ("properties", "target", "expected"),
    [
        ({}, "/a/../b", "/b"),
        ({}, "/a/%2e%2e/b?x=../y", "/b?x=../y"),
        ({}, "/a%2Fb//c", "/a%2Fb//c"),
        ({}, "/a%2f..%2fb", "/b"),
        ({"strip_prefix": "/api"}, "/api/x?y", "/x?y"),
        ({"strip_prefix": "/api"}, "/api", "/"),
        ({"strip_prefix": "/api"}, "/apis", "/apis"),
        ({"strip_prefix": "/api"}, "/%61pi/x", "/x"),
        ({"add_prefix": "/v1"}, "/x", "/v1/x"),
        ({"strip_prefix": "/api/", "add_prefix": "/v1"}, "/api/x", "/v1/x"),
        ({"rewrite_pattern": r"^/user/(\d+)", "rewrite_to": r"/u?id=\1"}, "/user/7", "/u?id=7"),
    ],
)
def test_targets(properties: dict[str, Any], target: str, expected: str) -> None:
    with bad_server(answering()) as node, proxying(node, **properties) as site, site.connect() as client:
        assert get(client, target).status == 200
        assert node.requests[0].line == f"GET {expected} HTTP/1.1"


def test_locations_and_cookies_point_to_here() -> None:
    with bad_server([Request(), lambda sock: sock.sendall(answer()), Again()]) as node:

        def answer() -> bytes:
            return ok(
                b"",
                f"Location: http://{node.address}/v1/x?y",
                "Refresh: 3; url=/v1/z",
                "Set-Cookie: a=b; Path=/v1/x; Domain=inside.example; HttpOnly",
                status="302 Found",
            )

        with (
            proxying(
                node,
                strip_prefix="/api",
                add_prefix="/v1",
                cookie_domains={"inside.example": "a.example"},
                cookie_paths={"/v1": "/api"},
            ) as site,
            site.connect() as client,
        ):
            got = get(client, "/api/q")
            assert got.header("location") == "http://a.example/api/x?y"
            assert got.header("refresh") == "3; url=/api/z"
            assert got.header("set-cookie") == "a=b; Path=/api/x; Domain=a.example; HttpOnly"


def test_sticky_clients_get_a_cookie_and_stay() -> None:
    with (
        bad_server(answering(b"1")) as one,
        bad_server(answering(b"2")) as two,
        proxying(one, two, backend={"sticky_secret": "0123456789abcdef"}) as site,
        site.connect() as client,
    ):
        first = get(client)
        cookie = (first.header("set-cookie") or "").partition(";")[0]
        assert cookie.startswith("gorox_node=")
        for _ in range(4):
            answer = get(client, cookie=cookie)
            assert answer.content == first.content
            assert answer.header("set-cookie") is None


def test_requests_are_mirrored() -> None:
    with bad_server(answering()) as node, bad_server(answering(b"copy")) as other:
        backends = {"shadow": {"type": "http_backend", "nodes": [{"address": other.address}]}}
        with proxying(node, mirror="shadow", backends=backends) as site, site.connect() as client:
            client.request("POST", "/x", content=b"data")
            assert client.answer().content == b"hello"
            until(lambda: other.requests)
            assert other.requests[0].line == "POST /x HTTP/1.1"
            assert other.requests[0].content == b"data"


# Failures


def test_nobody_listens() -> None:
    with proxying(dead_address()) as site, site.connect() as client:
        answer = get(client)
        assert answer.status == 502
        entry = site.log.of("error", "proxy")[0]
        assert "connect: connection refused" in entry.message
        assert node_of(site).key in entry.message
        assert not answer.closes


def test_another_node_is_tried() -> None:
    with bad_server(answering()) as node, proxying(dead_address(), node, dead_address()) as site:
        with site.connect() as client:
            for _ in range(5):
                assert get(client).status == 200
        assert site.log.of("warning", "proxy")


def test_a_post_is_not_sent_twice_but_a_get_is() -> None:
    with bad_server([Request(), Close()]) as bad, bad_server(answering()) as good:
        with (
            proxying(bad, good, backend={"balancer": "first", "max_fails": 0}) as site,
            site.connect() as client,
        ):
            assert get(client).status == 200
            client.request("POST", "/", content=b"x")
            assert client.answer().status == 502
        assert len(good.requests) == 1


def test_a_connection_that_died_idle_is_replaced_without_a_failure() -> None:
    """The node closes when the next request comes: no answer has begun, so it is sent again on a new connection."""
    with bad_server([Request(), ok(), Request(), Reset()], answering(b"new")) as node, proxying(node) as site:
        with site.connect() as client:
            assert get(client).content == b"hello"
            assert get(client).content == b"new"
        assert node_of(site).failures == 0


def test_statuses_can_be_tried_again() -> None:
    with bad_server(answering(b"", status="503 Busy")) as bad, bad_server(answering()) as good:
        with proxying(bad, good, backend={"balancer": "first"}, retry_statuses=["503"]) as site:
            assert site.get().status == 200
        with proxying(bad, retry_statuses=["503"]) as site, site.connect() as client:
            assert get(client).status == 503  # there is no other: its answer is better than ours


def test_timeouts() -> None:
    with bad_server([Request(), Hang()]) as node, proxying(node, head_timeout="50ms") as site:
        with site.connect() as client:
            assert get(client).status == 504
        assert "head" in site.log.of("error", "proxy")[0].message
        assert node_of(site).failures == 1
    with bad_server([Request(), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Hang()]) as node:
        with proxying(node, read_timeout="50ms") as site, site.connect() as client:
            client.request()
            with pytest.raises((ConnectionResetError, Malformed)):
                client.answer()
        with proxying(node, read_timeout="50ms", buffer_response=True) as site, site.connect() as client:
            assert get(client).status == 504
    with (
        bad_server([Request(), Drip(ok(b"x" * 500), 0.02)]) as node,
        proxying(node, total_timeout="200ms") as site,
        site.connect() as client,
    ):
        assert get(client).status == 504


def test_no_node_is_left() -> None:
    with (
        proxying(dead_address(), backend={"max_fails": 1, "panic_threshold": 0}) as site,
        site.connect() as client,
    ):
        assert get(client).status == 502
        answer = get(client)
        assert answer.status == 503
        assert answer.header("retry-after") == "1"


def test_the_node_is_told_when_the_client_leaves() -> None:
    with bad_server([Request(), Hang()]) as node, proxying(node) as site:
        with site.connect() as client:
            client.request()
            until(lambda: node.requests)
        until(lambda: node.ended)
        until(lambda: site.access)
        assert site.access[0].status == 499
        assert node_of(site).failures == 0
        assert node_of(site).in_flight == 0


def test_a_client_that_breaks_off_its_content_is_not_the_nodes_fault() -> None:
    with bad_server([Request(), ok()]) as node, proxying(node) as site:
        with site.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
            until(lambda: node.conns)
            client.shutdown()
            assert client.answer().status == 400
        until(lambda: node.ended)
        assert node_of(site).failures == 0


@pytest.mark.parametrize(
    "properties",
    [
        {"upgrades": ["h2c"]},
        {"set_request": {"Transfer-Encoding": "x"}},
        {"add_response": {"a b": "x"}},
        {"strip_prefix": "api"},
        {"add_prefix": "/v1/"},
        {"rewrite_to": "/x"},
        {"retry_statuses": ["abc"]},
        {"via": "a\r\nb"},
    ],
)
def test_what_does_not_fit_is_a_problem(properties: dict[str, Any]) -> None:
    from hemi.errors import ConfigError

    with pytest.raises(ConfigError), proxying("127.0.0.1:1", **properties):
        pass
