"""The dealet: who may connect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hemi.source import Dirs
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, problems
from tests.net.test_conn import conn_of, hello

Start = Callable[[str], Net]


def text(properties: str) -> str:
    case = f"{{dealets: [{{access: {{{properties}}}}}]}}"
    return f'routers: {{one: {{type: tcpx_router, address: "127.0.0.1:0", cases: [{case}]}}}}'


@pytest.mark.parametrize(
    ("properties", "host", "allowed"),
    [
        ("allow: [10.0.0.0/8], deny: [10.6.6.6]", "10.1.1.1", True),
        ("allow: [10.0.0.0/8], deny: [10.6.6.6]", "10.6.6.6", False),
        ("allow: [10.0.0.0/8]", "192.0.2.1", False),
        ("deny: [10.0.0.0/8]", "192.0.2.1", True),
        ("allow: [unix]", "unix:", True),
        ("order: [allow 192.0.2.0/24, deny all]", "192.0.2.1", True),
        ("order: [allow 192.0.2.0/24, deny all]", "192.0.3.1", False),
        ("order: ['allow if $server_name == \"a.example\"', deny all]", "192.0.2.1", True),
        ("order: ['deny if $server_name == \"a.example\"']", "192.0.2.1", False),
        ("allow: [192.0.2.0/24], condition: '$tls == \"on\"'", "192.0.2.1", True),
        ("allow: [192.0.2.0/24], condition: '$tls == \"off\"'", "192.0.2.1", False),
        ("allow: [192.0.2.0/24], condition: '$tls == \"on\"'", "192.0.3.1", False),
        ("allow: [192.0.2.0/24], condition: '$tls == \"on\"', satisfy: any", "192.0.3.1", True),
        ("allow: [192.0.2.0/24], condition: '$tls == \"off\"', satisfy: any", "192.0.2.1", True),
        ("allow: [192.0.2.0/24], condition: '$tls == \"off\"', satisfy: any", "192.0.3.1", False),
    ],
)
def test_who_may(net: Start, properties: str, host: str, allowed: bool) -> None:  # noqa: F811
    one = net(text(properties))
    dealet = one.owner("one").cases[0].dealets[0]
    conn: Any = conn_of(hello("a.example"))
    conn.src_host = host
    assert dealet.deal(conn) is not allowed
    assert conn.status == (200 if allowed else 403)
    assert bool(one.log.find("was refused at")) is not allowed


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ("", "must have order, allow or deny"),
        ("order: [deny all], allow: [all]", "must have either order, or allow and deny"),
        ("allow: [10.0.0.1], deny: [10.0.0.1]", "which is allowed as well"),
        ("order: ['deny if $path == \"/\"']", "there is no variable $path"),
        ("allow: [all], satisfy: any", "needs a condition"),
        ("allow: [nowhere]", "an address, a network"),
    ],
)
def test_problems(dirs: Dirs, properties: str, problem: str) -> None:
    assert problem in problems(text(properties), dirs)
