"""What forward proxies have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hemi.builtin.servers.forwarding import FORWARD_SCOPE, Forwarding
from hemi.component import concrete
from hemi.conditions import compile_template
from hemi.errors import ConfigError
from hemi.server import Server
from tests.forwardkit import HASH, read, target
from tests.running import Served, until
from tests.webkit import dial

Serve = Callable[..., Served]

CONFIG = """
servers:
  proxy:
    type: socks_server
    address: "127.0.0.1:0"
    users_file: users
    allow_plain: true
    allow: [{users: anna, networks: 127.0.0.0/8}]
"""


def test_who_belongs_here() -> None:
    signs = {cls.sign for cls in concrete(Server) if issubclass(cls, Forwarding)}
    assert signs == {"socks_server", "tunnel_server"}


def login(served: Served, user: bytes) -> bytes:
    with dial(served.address()) as sock:
        sock.sendall(b"\5\1\2")
        assert read(sock, 2) == b"\5\2"
        sock.sendall(bytes((1, len(user))) + user + b"\5gorox")
        return read(sock, 2)


def test_changes_of_the_users_file_count(serve: Serve, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"anna:{HASH}\n")
    served = serve(CONFIG)
    assert (login(served, b"anna"), login(served, b"bert")) == (b"\1\0", b"\1\1")
    users.write_text(f"bertram:{HASH}\nbert:{HASH}\n")
    assert until(lambda: login(served, b"bert") == b"\1\0")
    assert login(served, b"anna") == b"\1\1"


def test_a_broken_users_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("anna\n")
    with pytest.raises(ConfigError, match="line 1 must be user:hash"):
        serve(CONFIG)


def test_variables_of_the_log(serve: Serve) -> None:
    """Every variable of the scope works, for a connection that said nothing, too."""
    seen: list[str] = []
    show = compile_template(" ".join(f"{name}=$({name})" for name in FORWARD_SCOPE.variables), FORWARD_SCOPE)
    served = serve(
        'servers: {p: {type: tunnel_server, address: "127.0.0.1:0", allow: [{networks: 127.0.0.1}]}}'
    )
    server: Any = served.server()
    server.record = lambda conn: seen.append(show(conn))
    with target() as there:
        with dial(served.address()) as sock:
            sock.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % there.port)
            assert read(sock, 12) == b"HTTP/1.1 200"
        assert until(lambda: seen)
        for piece in ("server=p", "method=CONNECT", "hostname=127.0.0.1", f"port={there.port}", "status=200"):
            assert piece in seen[0]
        dial(served.address()).close()
        assert until(lambda: len(seen) == 2)
        assert "status=400" in seen[1]
