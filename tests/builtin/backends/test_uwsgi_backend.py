"""The backend `uwsgi_backend`: a connection for each request."""

from __future__ import annotations

from typing import Any

from tests.cgikit import ask, exactly, fake, site


def read_head(sock: Any) -> tuple[tuple[int, int], dict[str, str]]:
    """The modifiers and variables of a request of the uwsgi protocol."""
    head = exactly(sock, 4)
    block = exactly(sock, int.from_bytes(head[1:3], "little"))
    words, at = [], 0
    while at < len(block):
        size = int.from_bytes(block[at : at + 2], "little")
        words.append(block[at + 2 : at + 2 + size].decode("latin-1"))
        at += 2 + size
    return (head[0], head[3]), dict(zip(words[::2], words[1::2], strict=True))


def test_each_request_has_a_connection_of_its_own() -> None:
    def handle(sock: Any) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nok")

    with fake(handle) as server, site("uwsgi", server.address) as it:
        assert [ask(it).content for _ in range(3)] == [b"ok"] * 3
        assert server.accepted == 3
