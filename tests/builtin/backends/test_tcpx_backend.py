"""The backend: what it adds is the variables of connections."""

from __future__ import annotations

from hemi.config import load_text
from hemi.source import Dirs
from tests.net.kit import problems
from tests.net.test_conn import conn_of, hello


def text(key: str) -> str:
    nodes = '[{address: "127.0.0.1:1"}, {address: "127.0.0.1:2"}]'
    return f"backends: {{db: {{type: tcpx_backend, balancer: hash, hash_key: {key}, nodes: {nodes}}}}}"


def test_hash_key(dirs: Dirs) -> None:
    backend = load_text(text("$server_name"), dirs).members["backends"]["db"]
    assert backend.hash_key(conn_of(hello("a.example"))) == "a.example"  # type: ignore[attr-defined]
    assert "there is no variable $path" in problems(text("$path"), dirs)
