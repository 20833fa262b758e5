"""Active checks: what passes and what does not, against real peers that behave in every way."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.source import Dirs
from hemi.upstream.checks import Check, Watch
from tests.h2node import Exchange, Node2
from tests.net.udpkit import Node
from tests.peer import Peer
from tests.running import until
from tests.tlskit import Authority
from tests.upstream.kit import Running, closed_port, load, problems
from tests.web.proxy.proxykit import proxying

Run = Callable[..., Running]
Peers = Callable[..., Peer]


def answering(
    answer: bytes, heard: list[bytes] | None = None, then: Callable[[Any], None] | None = None
) -> Any:
    """A handler that reads a request and sends an answer."""

    def handle(sock: Any) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            data = sock.recv(65536)
            if not data:
                return
            request += data
        if heard is not None:
            heard.append(request)
        sock.sendall(answer)
        if then is not None:
            then(sock)

    return handle


def verdict(dirs: Dirs, port: int, check: str, more: str = "") -> str:
    """What one probe says of a node."""
    stage = load(
        f'b: {{type: echo_backend, nodes: [{{address: "127.0.0.1:{port}"}}], checks: [{check}]{more}}}', dirs
    )
    stage.prepare()
    try:
        backend: Any = stage.members["backends"]["b"]
        result: str = backend.checks[0].probe(backend.nodes[0])
        assert backend.channels == set()
        return result
    finally:
        stage.stop(0)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready"


def test_tcp(dirs: Dirs, peer: Peers) -> None:
    assert verdict(dirs, peer().port, "tcp") == ""
    assert verdict(dirs, closed_port(), "tcp") == "connect: connection refused"


def test_another_port(dirs: Dirs, peer: Peers) -> None:
    assert verdict(dirs, closed_port(), f"{{tcp: {{port: {peer().port}}}}}") == ""


def test_tls(dirs: Dirs, peer: Peers, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    good = peer(context=context)
    assert verdict(dirs, good.port, "tls", f", tls_ca: {authority.file}") == ""
    assert "certificate verify failed" in verdict(dirs, good.port, "tls")
    assert verdict(dirs, peer(answering(OK)).port, "{tls: {timeout: 200ms}}").startswith("tls: ")


def test_http(dirs: Dirs, peer: Peers) -> None:
    heard: list[bytes] = []
    one = peer(answering(OK, heard))
    check = "{http: {path: /health?a=b, fields: {x-check: gorox}}}"
    assert verdict(dirs, one.port, check) == ""
    assert heard == [
        b"GET /health?a=b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: gorox-check\r\nAccept: */*\r\n"
        b"Connection: close\r\nx-check: gorox\r\n\r\n" % one.port
    ]


def test_http_over_tls_with_another_host(dirs: Dirs, peer: Peers, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("node.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    heard: list[bytes] = []
    one = peer(answering(OK, heard), context=context)
    more = f", tls: true, tls_ca: {authority.file}, tls_server_name: node.test"
    assert verdict(dirs, one.port, "{http: {host: shop.test}}", more) == ""
    assert b"\r\nHost: shop.test\r\n" in heard[0]


@pytest.mark.parametrize(
    ("answer", "check", "why"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "", ""),
        (b"HTTP/1.0 200 OK\r\n\r\nready", "body: ready", ""),
        (OK, "body: ^rea.y$", ""),
        (OK, "body: steady", "its content does not match"),
        (OK, "method: HEAD", ""),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "", "status 503"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", 'statuses: ["200-299", 503]', ""),
        (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", 'statuses: [200]', "status 301"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, "body: ready", ""),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "", "status 101"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n", "body: ready", ""),
        (b"", "", "it closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "", "its answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nready", "body: ready", ""),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20000, "", "its answer has a head of more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, "body: y", "its content does not match"),
    ],
)  # fmt: skip
def test_answers(dirs: Dirs, peer: Peers, answer: bytes, check: str, why: str) -> None:
    assert verdict(dirs, peer(answering(answer)).port, f"{{http: {{{check}}}}}") == why


def test_a_node_that_does_not_answer_in_time(dirs: Dirs, peer: Peers) -> None:
    silent = peer(answering(b"HTTP/1.1 200", then=lambda sock: sock.recv(1)))
    assert verdict(dirs, silent.port, "{http: {timeout: 50ms}}") == "no answer within 0.05 s"


def test_answers_byte_by_byte(dirs: Dirs, peer: Peers) -> None:
    def drip(sock: Any) -> None:
        sock.recv(65536)
        for byte in OK:
            sock.sendall(bytes([byte]))

    assert verdict(dirs, peer(drip).port, "{http: {body: ready}}") == ""


def watch(is_up: bool, rise: int = 2, fall: int = 3, is_new: bool = False) -> Watch:
    check: Any = SimpleNamespace(title="a check", rise=rise, fall=fall)
    why = "not checked yet" if is_new else "down"
    node: Any = SimpleNamespace(sick={} if is_up else {"a check": why})
    return Watch(check, node)


def test_rise_and_fall() -> None:
    one = watch(True)
    assert [one.note(why) for why in ("x", "x", "", "x", "x", "x")] == [False] * 5 + [True]
    assert [one.note(why) for why in ("", "x", "", "")] == [False] * 3 + [True]
    assert one.is_up


def test_the_first_pass_of_a_new_node_counts() -> None:
    assert watch(False, is_new=True).note("")
    assert not watch(False).note("")


@given(st.lists(st.booleans(), max_size=50), st.integers(1, 4), st.integers(1, 4))
def test_any_results_keep_the_law(results: list[bool], rise: int, fall: int) -> None:
    one, row, last = watch(True, rise, fall), 0, True
    for passed in results:
        row = row + 1 if passed == last else 1
        last = passed
        before = one.is_up
        changed = one.note("" if passed else "x")
        assert changed == (before != one.is_up)
        if changed:
            assert row >= (rise if passed else fall)
        elif before != passed:
            assert row < (rise if passed else fall)


FAST = "interval: 10ms, timeout: 2s, jitter: 0"


def test_nodes_go_down_and_come_back(run: Run, peer: Peers) -> None:
    one, two = peer(), peer()
    running = run(
        f'b: {{type: echo_backend, nodes: [{{address: "{one.address}"}}, {{address: "{two.address}"}}], '
        f"checks: [{{tcp: {{{FAST}}}}}]}}"
    )
    node, other = running["b"].roster.nodes
    one.stop()
    assert until(lambda: node.status == "down")
    assert (node.why, running["b"].roster.ready) == ("tcp check: connect: connection refused", [other])
    one.start()
    assert until(lambda: node.status == "up")
    assert running["b"].roster.ready == [node, other]
    (down,) = running.log.find("is down")
    assert down.endswith(
        f'backend: "b": node {node.key} is down: tcp check: connect: connection refused (1 of 2 nodes are up)'
    )
    assert running.log.find("is up: tcp check passed")


def test_all_checks_must_pass(run: Run, peer: Peers) -> None:
    bad = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    one = peer(answering(bad))
    running = run(
        f'b: {{type: echo_backend, nodes: [{{address: "{one.address}"}}], '
        f"checks: [{{tcp: {{{FAST}}}}}, {{http: {{{FAST}, path: /a}}}}]}}"
    )
    (node,) = running["b"].roster.nodes
    assert until(lambda: node.sick == {"http check /a": "status 500"})


def test_nodes_that_begin_as_down(run: Run, peer: Peers) -> None:
    running = run(
        f'b: {{type: echo_backend, panic_threshold: 0, nodes: [{{address: "{peer().address}"}}], '
        f"checks: [{{tcp: {{{FAST}, initial: down}}}}]}}"
    )
    (node,) = running["b"].roster.nodes
    assert (node.status, node.why) == ("down", "tcp check: not checked yet")
    assert until(lambda: node.status == "up")


def test_a_pass_closes_the_breaker_when_its_time_is_over(run: Run, peer: Peers) -> None:
    """No user's request is needed as a probe."""
    running = run(
        f'b: {{type: echo_backend, max_fails: 1, nodes: [{{address: "{peer().address}"}}], '
        f"checks: [{{tcp: {{{FAST}}}}}]}}"
    )
    (node,) = running["b"].roster.nodes
    lease = running["b"].lease()
    lease.take()
    lease.fail("head", "garbage")
    assert node.status == "down"
    running["b"].tick(node.breaker.until + 1)
    assert node.status == "down"  # not half open: the checks are the probes
    node.breaker.until = 0.0
    assert until(lambda: node.status == "up")


def test_disabled_nodes_are_not_checked(run: Run, peer: Peers) -> None:
    one = peer()
    running = run(
        f'b: {{type: echo_backend, nodes: [{{address: "{one.address}", state: disabled}}], '
        f"checks: [{{tcp: {{{FAST}}}}}]}}"
    )
    (node,) = running["b"].roster.nodes
    assert node.status == "disabled"
    running["b"].order_node(node.key, "down")
    assert until(lambda: one.accepted)
    running["b"].order_node(node.key, "disabled")


def test_what_this_machine_lacks_says_nothing_about_nodes(
    run: Run, peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("hemi.upstream.dial.RawSocket", none)
    running = run(
        f'b: {{type: echo_backend, nodes: [{{address: "{peer().address}"}}], '
        f"checks: [{{tcp: {{{FAST}, fall: 1}}}}]}}"
    )
    assert until(lambda: len(running.log.find("tcp check is not possible")) > 2)
    assert running["b"].roster.nodes[0].status == "up"


def test_a_bug_in_a_check_fails_it(run: Run, peer: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, node: Any) -> str:
        raise KeyError("oops")

    monkeypatch.setattr(Check, "probe", broken)
    running = run(
        f'b: {{type: echo_backend, nodes: [{{address: "{peer().address}"}}], checks: [{{tcp: {{{FAST}}}}}]}}'
    )
    (node,) = running["b"].roster.nodes
    assert until(lambda: node.sick == {"tcp check": "KeyError: 'oops'"})
    assert running.log.find("tcp check of")


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ("{http: {path: health}}", 'path must be a path such as "/health", not "health"'),
        ('{http: {path: "/a b"}}', 'path must be a path such as "/health", not "/a b"'),
        ('{http: {host: "a\\r\\nx"}}', "host must be a host name"),
        ('{http: {fields: {host: x}}}', 'fields must have names of further header fields, not "host"'),
        ('{http: {fields: {x: "a\\r\\nb"}}}', 'fields "x" must be printable ASCII text'),
        ("{http: {method: HEAD, body: x}}", "body must not be there with the method HEAD"),
        ("{http: {statuses: [600]}}", 'statuses must have statuses such as 200 or "200-299", not "600"'),
        ('{http: {statuses: ["300-200"]}}', 'not "300-200"'),
        ("{tcp: {interval: 0s}}", "interval must be at least 10ms"),
        ("ping", "must be the sign or name of one of the checks"),
    ],
)  # fmt: skip
def test_checks_that_are_written_badly(dirs: Dirs, check: str, problem: str) -> None:
    found = problems(f'b: {{type: echo_backend, nodes: [{{address: ":1"}}], checks: [{check}]}}', dirs)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("check", "answers", "why"),
    [
        ("udp", True, ""),
        ("{udp: {request: ping, expect: '^ping$'}}", True, ""),
        ("{udp: {request_hex: '00 ff', expect_hex: 00ff}}", True, ""),
        ("{udp: {request_hex: '00 ff', expect: '^\\x00\\xff$'}}", True, ""),
        ("{udp: {request: ping, expect: pong}}", True, "its answer does not match"),
        ("{udp: {request: ping, expect_hex: '00'}}", True, "its answer does not begin as expected: 70696e67"),
        ("{udp: {timeout: 50ms}}", False, "no answer within 0.05 s"),
        ("{udp: {timeout: 50ms, silent: true}}", False, ""),
        ("{udp: {silent: true}}", None, "connection refused"),
        ("udp", None, "connection refused"),
    ],
)
def test_datagrams(dirs: Dirs, check: str, answers: bool | None, why: str) -> None:
    node = Node((lambda data: data) if answers else (lambda data: []))
    if answers is None:
        node.stop()
    try:
        assert verdict(dirs, node.port, check) == why
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ("request_hex: x", 'must be hexadecimal digits, not "x"'),
        ("expect_hex: '0'", 'must be hexadecimal digits, not "0"'),
        ("request: a, request_hex: '00'", "must have request or request_hex, not both"),
        ("silent: true, expect: a", "must not be there with what is expected"),
    ],
)
def test_mistakes_of_datagram_checks(dirs: Dirs, check: str, problem: str) -> None:
    text = f'b: {{type: echo_backend, nodes: [{{address: ":1"}}], checks: [{{udp: {{{check}}}}}]}}'
    assert any(problem in each for each in problems(text, dirs))


# HTTP/2 and gRPC


def healthy(exchange: Exchange) -> None:
    content = exchange.content()
    if exchange[":path"] == "/grpc.health.v1.Health/Check":
        name = content[7:]
        exchange.begin(200, [("content-type", "application/grpc")], end=False)
        if name == b"unknown":
            exchange.end([("grpc-status", "5"), ("grpc-message", "no such service")])
            return
        exchange.send(b"\0\0\0\0\2\x08" + (b"\2" if name == b"sick" else b"\1"))
        exchange.end([("grpc-status", "0")])
    else:
        exchange.answer(f"{exchange[':method']} {exchange[':path']} {exchange.get('x-a')}".encode())


@pytest.mark.parametrize(
    ("check", "result"),
    [
        ('{http: {version: "2"}}', ""),
        ('{http: {version: "2", path: /a, fields: {X-A: "1"}, body: "^GET /a 1$"}}', ""),
        ('{http: {version: "2", body: "^no"}}', "its content does not match"),
        ('{http: {version: "2", statuses: ["500"]}}', "status 200"),
        ("{http: {}}", "its answer is not HTTP"),
        ("{grpc: {}}", ""),
        ("{grpc: {service: well}}", ""),
        ("{grpc: {service: sick}}", "it says that it does not serve"),
        ("{grpc: {service: unknown}}", "grpc-status 5: no such service"),
    ],
)
def test_by_http2(dirs: Dirs, check: str, result: str) -> None:
    with Node2(healthy) as node:
        assert verdict(dirs, node.server.server_port, check) == result


def test_by_http2_what_is_http1(dirs: Dirs, peer: Peers) -> None:
    port = peer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).port
    assert verdict(dirs, port, '{http: {version: "2"}}') == "it speaks HTTP/1"
    assert verdict(dirs, port, "{grpc: {}}") == "it speaks HTTP/1"


def test_the_version_is_the_backends(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("localhost", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.private_key)
    old: list[bytes] = []

    def raw(sock: Any) -> None:
        old.append(sock.recv(65536))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def probe(node: Node2, **more: Any) -> str:
        backend = {"version": "2", "checks": [{"http": {"interval": "1h"}}], **more}
        with proxying(node.address, backend=backend) as site:
            up: Any = site.stage.members["backends"]["up"]
            verdict: str = up.checks[0].probe(up.nodes[0])
            return verdict

    tls = {"tls": True, "tls_server_name": "localhost", "tls_ca": str(authority.file)}
    with Node2(healthy) as node:
        assert probe(node) == ""
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Node2(healthy, context=context) as node:
        assert probe(node, **tls) == ""
        assert node.exchanges[0][":scheme"] == "https"
    context.set_alpn_protocols(["http/1.1"])
    with Node2(raw=raw, context=context) as node:
        assert probe(node, **tls) == ""
        assert old[0].startswith(b"GET / HTTP/1.1\r\n")


def test_names_of_services_have_a_limit(dirs: Dirs) -> None:
    check = f"{{grpc: {{service: {'x' * 128}}}}}"
    found = problems(f'b: {{type: echo_backend, nodes: [{{address: "a:1"}}], checks: [{check}]}}', dirs)
    assert any("must have at most 127 bytes" in problem for problem in found)
