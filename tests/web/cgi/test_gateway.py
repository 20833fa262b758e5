"""Exchanges with scripted FastCGI servers that go wrong: bad answers, tries, timeouts, clients that leave."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from hemi.library import fcgi
from tests.cgikit import END, answering, ask, fake, out, plain, problems, read_request, record, site
from tests.webkit import Malformed, until

# Bad answers and tries


BAD = {
    "nothing": (b"", "closed the connection before it answered"),
    "http": (b"HTTP/1.1 200 OK\r\n\r\n", "not FastCGI"),
    "another_version": (record(fcgi.STDOUT, b"a", version=2), "version 2"),
    "another_request": (record(fcgi.STDOUT, b"Content-Type: a/b\n\nx", request=2) + END, "request 2"),
    "another_type": (record(5, b"x"), "type 5"),
    "overloaded": (record(fcgi.END_REQUEST, b"\0\0\0\0\2\0\0\0"), "overloaded"),
    "short_end": (record(fcgi.END_REQUEST, b"\0"), "has 1 bytes, not 8"),
    "no_output": (END, "without a head"),
    "half_a_head": (out(b"Content-Type: a/b\n") + END, "in the middle of its head"),
    "no_end": (out(b"Content-Type: a/b\n"), "before its answer ended"),
    "empty_head": (out(b"\r\nhello") + END, "its head is empty"),
    "no_field": (out(b"hello world\n\n") + END, "no field"),
    "splitting": (out(b"X-A: a\rb\n\n") + END, "control characters"),
    "bad_status": (out(b"Status: okay\n\n") + END, "the Status"),
    "status_100": (out(b"Status: 100\n\n") + END, "status 100"),
    "status_999": (out(b"Status: 999\n\n") + END, "status 999"),
    "two_lengths": (out(b"Content-Length: 1\nContent-Length: 2\n\na") + END, "Content-Length"),
    "bad_length": (out(b"Content-Length: -1\n\na") + END, "Content-Length"),
    "huge_head": (out(b"X-A: " + b"a" * 60_000) * 3, "larger than 65536"),
    "many_fields": (out(b"X-A: a\n" * 600 + b"\n") + END, "more than 500 fields"),
    "bad_location": (out(b"Location: /../../x\n\n") + END, "Location"),
}  # fmt: skip


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
@pytest.mark.parametrize("name", BAD)
def test_bad_answers(name: str, kept: bool) -> None:
    """Also on a connection that is kept, behind good answers, where exchanges take the short way."""
    answer, reason = BAD[name]
    good = 2 if kept else 0

    def handle(sock: Any) -> None:
        nonlocal good
        while True:
            read_request(sock)
            if not good:
                break
            good -= 1
            sock.sendall(plain(b"good"))
        sock.sendall(answer)

    with (
        fake(handle) as server,
        site("fcgi", server.address, proxy={"max_retries": 0}, backend={"keep_conn": kept}) as it,
    ):
        for _ in range(good):
            assert ask(it).content == b"good"
        assert server.accepted <= 1
        found = ask(it)
        assert found.status == 502
        [problem] = problems(it)
        assert reason in problem and f"node {server.address}: " in problem and "GET /a.php" in problem
        node = it.stage.members["backends"]["back"].roster.nodes[0]
        assert node.failures == 1 and node.in_flight == 0 and not node.pool.idle


def test_a_truncated_answer_is_visible_to_the_client() -> None:
    def handle(sock: Any) -> None:
        read_request(sock)
        sock.sendall(out(b"Content-Type: a/b\n\n" + b"x" * 1000))
        gevent.sleep(0.05)

    with fake(handle) as server, site("fcgi", server.address) as it:
        with pytest.raises((Malformed, ConnectionResetError)):
            ask(it)
        assert "content: the node closed the connection before its answer ended" in problems(it)[0]


def test_stderr_is_logged_in_lines_and_capped() -> None:
    noise = b"".join(record(fcgi.STDERR, b"line %d\x1b[31m\n" % number) for number in range(300))
    with (
        answering(
            record(fcgi.STDERR, b"half ") + record(fcgi.STDERR, b"line\n") + noise + plain(b"ok")
        ) as server,
        site("fcgi", server.address) as it,
    ):
        assert ask(it).content == b"ok"
        lines = problems(it)
        assert f'backend "back": node {server.address}: stderr: half line (GET /a.php HTTP/1.1)' == lines[0]
        assert "line 0\\x1b[31m" in lines[1]
        assert len(lines) == 101 and "and 201 more lines" in lines[-1]


def test_no_server() -> None:
    with fake(lambda sock: None) as server:
        address = server.address
    with site("fcgi", address) as it:
        assert ask(it).status == 502
        assert "connect: connection refused" in problems(it)[0]
    with site("fcgi", address, backend={"max_fails": 1, "panic_threshold": 0}) as it:
        assert ask(it).status == 502
        answer = ask(it)
        assert (answer.status, answer.header("retry-after")) == (503, "1")


def test_another_server_is_tried() -> None:
    with fake(lambda sock: None) as dead:
        address = dead.address
    with answering(plain(b"ok")) as server, site("fcgi", address, server.address) as it:
        assert [ask(it, "/a.php", "POST", b"x" * 200_000).content for _ in range(2)] == [b"ok", b"ok"]
        assert "is tried again" in it.log.of("warning", "fcgi_proxy")[0].message


def test_a_request_is_not_carried_out_twice() -> None:
    with (
        fake(lambda sock: read_request(sock) and None) as bad,
        answering(plain(b"ok")) as good,
        site("fcgi", bad.address, good.address, backend={"balancer": "first"}) as it,
    ):
        assert ask(it, "/a.php", "POST", b"x").status == 502
        assert ask(it, "/a.php").content == b"ok"
        assert (bad.accepted, good.accepted) == (2, 1)


def test_timeouts() -> None:
    def silent(sock: Any) -> None:
        read_request(sock)
        exactly_nothing = sock.recv(1)
        assert not exactly_nothing

    with fake(silent) as server, site("fcgi", server.address, proxy={"head_timeout": "200ms"}) as it:
        assert ask(it).status == 504
        assert "head: " in problems(it)[0]

    def dripping(sock: Any) -> None:
        read_request(sock)
        for byte in out(b"X-A: " + b"a" * 1000):
            sock.sendall(bytes((byte,)))
            gevent.sleep(0.02)

    with fake(dripping) as server, site("fcgi", server.address, proxy={"head_timeout": "200ms"}) as it:
        assert ask(it).status == 504  # it sends, but the head has to be there in time


# Clients that leave


def test_the_server_is_told_when_the_client_leaves() -> None:
    seen: list[int] = []

    def handle(sock: Any) -> None:
        read_request(sock)
        seen.append(0)
        data = sock.recv(100)
        seen.append(data[1] if data else -1)

    with fake(handle) as server, site("fcgi", server.address) as it:
        with it.connect() as client:
            client.request("GET", "/a.php")
            until(lambda: seen)
        until(lambda: len(seen) == 2)
        assert seen[1] == fcgi.ABORT_REQUEST
        until(lambda: it.access)
        assert it.access[0].status == 499
        assert not problems(it) and it.stage.members["backends"]["back"].roster.nodes[0].failures == 0


def test_a_client_that_breaks_off_its_content() -> None:
    def handle(sock: Any) -> None:
        read_request(sock)

    with fake(handle) as server, site("fcgi", server.address) as it:
        with it.connect() as client:
            client.send(b"POST /a.php HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nhello")
            until(lambda: server.accepted)
        until(lambda: not server.open)
        until(lambda: it.access)
        assert it.stage.members["backends"]["back"].roster.nodes[0].failures == 0
