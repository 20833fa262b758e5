"""scgi_proxy in front of scripted servers. What it shares with fcgi_proxy is tested there and in tests/web/cgi."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from tests.builtin.backends.test_scgi_backend import read_head
from tests.cgikit import PLAIN_FAULTS, ask, check_fault, check_waits, exactly, fake, site


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


@pytest.mark.parametrize(("answer", "status", "reason"), PLAIN_FAULTS)
def test_answers(answer: bytes, status: int | None, reason: str) -> None:
    check_fault("scgi", read_head, answer, status, reason)


def test_timeouts_and_clients_that_leave() -> None:
    check_waits("scgi", read_head)


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
