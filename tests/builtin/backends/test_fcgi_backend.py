"""The backend `fcgi_backend`: its own properties. What it does is tested with fcgi_proxy."""

from __future__ import annotations

import pytest

from tests.cgikit import answering, ask, plain, site


@pytest.mark.parametrize("keep", [False, True])
def test_nodes_are_asked_to_keep_connections(keep: bool) -> None:
    with answering(plain(b"ok")) as server, site("fcgi", server.address, backend={"keep_conn": keep}) as it:
        assert ask(it).content == b"ok"
        assert server.asked[0].flags == keep


def test_heads_have_a_limit() -> None:
    large = plain(b"ok", b"Content-Type: a/b\nX-A: " + b"a" * 2000 + b"\n")
    with answering(large) as server, site("fcgi", server.address, backend={"max_head_size": "1K"}) as it:
        assert ask(it).status == 502
    with answering(large) as server, site("fcgi", server.address) as it:
        assert ask(it).status == 200
