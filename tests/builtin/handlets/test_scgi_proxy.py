"""scgi_proxy in front of scripted servers. What it shares with fcgi_proxy is tested there."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from tests.builtin.backends.test_scgi_backend import read_head
from tests.cgikit import ask, exactly, fake, problems, site
from tests.webkit import Malformed, until


def test_variables_and_content() -> None:
    seen: list[dict[str, str]] = []

    def handle(sock: Any) -> None:
        seen.append(read_head(sock))
        content = exactly(sock, int(seen[-1]["CONTENT_LENGTH"]))
        sock.sendall(b"Content-Type: text/plain\r\n\r\n" + content)

    with fake(handle) as server, site("scgi", server.address, proxy={"script_name": "/app"}) as it:
        for content in (b"", b"hello", b"x" * 300_000, [b"a" * 100] * 5):
            whole = b"".join(content) if isinstance(content, list) else content
            assert ask(it, "/app/one?q", "POST", content).content == whole
            found = seen[-1]
            assert list(found)[:2] == ["CONTENT_LENGTH", "SCGI"] and found["SCGI"] == "1"
            assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["QUERY_STRING"]) == ("/app", "/one", "q")
            assert found["CONTENT_LENGTH"] == str(len(whole))
        assert ask(it, "/app").content == b"" and seen[-1]["CONTENT_LENGTH"] == "0"
        assert ask(it, "/other").status == 404


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (b"", 502, "without a head"),
        (b"Content-Type: a/b\r\n", 502, "in the middle of its head"),
        (b"garbage\n\n", 502, "no field"),
        (b"Content-Length: 5\n\nhel", None, "2 bytes of its content are missing"),
        (b"Content-Type: a/b\n\nhello", 200, ""),
        (b"Content-Length: 5\n\nhello world", 200, ""),
    ],
)
def test_answers(answer: bytes, status: int | None, reason: str) -> None:
    def handle(sock: Any) -> None:
        read_head(sock)
        sock.sendall(answer)

    with fake(handle) as server, site("scgi", server.address, proxy={"max_retries": 0}) as it:
        if status is None:  # the head has gone out
            with pytest.raises((Malformed, ConnectionResetError)):
                ask(it)
        else:
            found = ask(it)
            assert found.status == status
            if status == 200:
                assert found.content == b"hello"
        if reason:
            assert reason in problems(it, "scgi")[0] and server.address in problems(it, "scgi")[0]


def test_timeouts_and_clients_that_leave() -> None:
    closed: list[bool] = []

    def handle(sock: Any) -> None:
        read_head(sock)
        closed.append(sock.recv(1) == b"")

    with fake(handle) as server, site("scgi", server.address, proxy={"head_timeout": "200ms"}) as it:
        assert ask(it).status == 504
        assert "head: " in problems(it, "scgi")[0]
    closed.clear()
    with fake(handle) as server, site("scgi", server.address) as it:
        with it.connect() as client:
            client.request("GET", "/")
            until(lambda: server.open)
        until(lambda: closed)
        until(lambda: it.access)
        assert it.access[0].status == 499 and not problems(it, "scgi")


def test_streaming() -> None:
    socks: list[Any] = []

    def handle(sock: Any) -> None:
        read_head(sock)
        socks.append(sock)
        sock.sendall(b"Content-Type: text/plain\n\none")
        gevent.sleep(10)

    with fake(handle) as server, site("scgi", server.address) as it, it.connect() as client:
        client.request("GET", "/")
        assert client.head()[1] == 200
        assert client.chunk() == b"one"
        socks[0].sendall(b"two")
        assert client.chunk() == b"two"
        socks[0].shutdown(2)
        assert client.chunk() == b""
