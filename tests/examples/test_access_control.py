"""The examples of access control, limits and rewriting do what their comments say."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.config import load_text
from hemi.source import Dirs
from tests.client import Answer
from tests.running import Served

TOP_DIR = Path(__file__).resolve().parents[2]

Ask = Callable[..., Any]


@contextmanager
def example(name: str, tmp_path: Path) -> Iterator[Ask]:
    text = (TOP_DIR / "conf" / "examples" / name).read_text()
    assert '":3080"' in text
    dirs = Dirs(str(TOP_DIR), str(tmp_path), str(tmp_path), str(tmp_path))
    load_text(text, dirs)
    text = text.replace('address: ":3080"', 'address: "127.0.0.1:0"\n    trusted_proxies: [127.0.0.1]')
    served = Served(text, dirs)

    def ask(path: str, address: str = "192.0.2.1", *fields: str, **more: Any) -> Answer:
        return served.get(path, f"X-Forwarded-For: {address}", *fields, **more)  # type: ignore[no-any-return]

    try:
        yield ask
    finally:
        served.close()


PASSWORD = "Authorization: Basic " + base64.b64encode(b"anna:gorox").decode()


def test_access_control(tmp_path: Path) -> None:
    with example("access_control.yaml", tmp_path) as ask:
        assert [ask("/status", address).status for address in ("127.0.0.1", "::1", "10.0.0.1")] == [
            200,
            200,
            403,
        ]
        assert [ask("/office", address).status for address in ("10.0.0.1", "10.6.6.6", "192.0.2.1")] == [
            200,
            401,
            401,
        ]
        assert ask("/office", "192.0.2.1", PASSWORD).content == b"welcome to the office, anna"
        assert ask("/admin", "127.0.0.1", PASSWORD).content == b"hello, anna"
        assert ask("/admin", "127.0.0.1").status == 401
        assert ask("/admin", "192.0.2.1", PASSWORD).status == 403
        assert ask("/admin", "192.0.2.1", PASSWORD, "X-Maintenance: now").status == 200
        assert ask("/admin", "127.0.0.1", PASSWORD, method="TRACE").status == 403
        assert ask("/x.png", "192.0.2.1", "Referer: https://other.example/").status == 403
        assert ask("/x.png", "192.0.2.1", "Referer: https://www.example.com/").status == 404
        assert ask("/x.png").status == 404
        assert ask("/").status == 200


def test_rate_limit(tmp_path: Path) -> None:
    with example("rate_limit.yaml", tmp_path) as ask:
        answer = ask("/api/x")
        assert answer.status == 200 and answer.header("content-type") == "application/json"
        assert [ask("/search", "192.0.2.2").status for _ in range(25)] == [404] * 25
        statuses = [ask("/", "192.0.2.3").status for _ in range(110)]
        assert set(statuses[:100]) == {200} and 429 in statuses
        assert {ask("/", "127.0.0.1").status for _ in range(110)} == {200}
        assert ask("/downloads/README.md").status == 200
        assert ask("/login").status == 200


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/about.html", 301, "/about"),
        ("/manual/a/b?c", 301, "/docs/a/b?c"),
        ("/blog/a", 301, "https://blog.example.com/a"),
        ("/?utm_source=x&a=1&utm_medium=y", 302, "/?a=1"),
        ("/user/7/orders", 200, "orders of 7, version "),
        ("/v1/orders?id=3", 200, "orders of 3, version 1"),
        ("/some/page", 200, None),
        ("/some/page.png", 404, None),
    ],
)
def test_rewrite(path: str, status: int, expected: str | None, tmp_path: Path) -> None:
    with example("rewrite.yaml", tmp_path) as ask:
        answer = ask(path)
        assert answer.status == status
        if status < 300 and expected is not None:
            assert answer.content.decode() == expected
        elif expected is not None:
            assert answer.header("location") == expected


PROXIED = """
backends:
  api: {type: http_backend, nodes: [{address: "unix:behind.sock"}]}
webapps:
  front:
    hostnames: ["*"]
    rules:
      - handlets:
          - access: {allow: 127.0.0.0/8}
          - basic_auth: {users: {anna: "{PLAIN}gorox"}, allow_plain: true, hide: true}
          - limit: {requests: 3/h, concurrent: 3, bandwidth: 100M}
          - rewrite: {from: "^/old/(.*)", to: "/new/$1?from=$user"}
          - http_proxy: {to_backend: api}
servers:
  main: {type: httpx_server, address: "127.0.0.1:0", webapps: [front]}
"""
BEHIND = """
webapps:
  app:
    hostnames: ["*"]
    rules: [{return_code: 200, return_text: "$uri $(header_authorization)."}]
servers:
  main: {type: httpx_server, address: "unix:behind.sock", webapps: [app]}
"""


def test_all_of_them_in_front_of_a_proxy(serve: Callable[[str], Served]) -> None:
    serve(BEHIND)
    front = serve(PROXIED)
    assert front.get("/old/a").status == 401
    for left in (2, 1, 0):
        answer = front.get("/old/a%20b?x", PASSWORD)
        assert answer.status == 200 and answer.content == b"/new/a%20b?from=anna ."
        assert answer.header("ratelimit").startswith(f'"default";r={left};t=')
    assert front.get("/old/a", PASSWORD).status == 429
