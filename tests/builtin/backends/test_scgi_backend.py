"""The backend `scgi_backend`: a connection for each request."""

from __future__ import annotations

from typing import Any

from tests.cgikit import ask, exactly, fake, site


def read_head(sock: Any) -> dict[str, str]:
    """The variables of an SCGI request."""
    digits = b""
    while (byte := exactly(sock, 1)) != b":":
        digits += byte
    words = exactly(sock, int(digits)).decode("latin-1").split("\0")
    assert exactly(sock, 1) == b","
    return dict(zip(words[::2], words[1::2], strict=False))


def test_each_request_has_a_connection_of_its_own() -> None:
    def handle(sock: Any) -> None:
        read_head(sock)
        sock.sendall(b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")

    with fake(handle) as server, site("scgi", server.address) as it:
        assert [ask(it).content for _ in range(3)] == [b"ok"] * 3
        assert server.accepted == 3
        assert not it.stage.members["backends"]["back"].roster.nodes[0].pool.idle
