"""The dealet: how many connections, per time and at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hemi.builtin.dealets import limit as module
from hemi.source import Dirs
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, problems
from tests.net.test_conn import conn_of, hello

Start = Callable[[str], Net]


def text(properties: str) -> str:
    case = f"{{dealets: [{{limit: {{{properties}}}}}]}}"
    return f'routers: {{one: {{type: tcpx_router, address: "127.0.0.1:0", cases: [{case}]}}}}'


def one_of(host: str = "192.0.2.1", data: bytes = b"") -> Any:
    conn = conn_of(data)
    conn.src_host = host
    return conn


def test_connections_per_time(net: Start, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    one = net(text("connections: 10/s, burst: 2"))
    deal = one.owner("one").cases[0].dealets[0].deal
    conns = [one_of() for _ in range(4)]
    assert [deal(conn) for conn in conns] == [False, False, True, True]
    assert conns[2].status == 429 and conns[2].reason == "beyond 10/s connections"
    assert not deal(one_of("192.0.2.2"))  # counted by source
    now[0] += 0.1
    assert [deal(one_of()) for _ in range(2)] == [False, True]
    assert len(one.log.find("is beyond 10/s connections")) == 1


def test_at_the_same_time(net: Start) -> None:  # noqa: F811
    dealet = net(text("concurrent: 2")).owner("one").cases[0].dealets[0]
    conns = [one_of() for _ in range(3)]
    assert [dealet.deal(conn) for conn in conns] == [False, False, True]
    assert not dealet.deal(conns[0])  # another case asks again: it counts once
    for conn in conns:
        conn.end()
    assert not dealet._open and not dealet._counted
    assert not dealet.deal(one_of())


def test_keys(net: Start) -> None:  # noqa: F811
    deal = net(text("connections: 1/m, key: $server_name")).owner("one").cases[0].dealets[0].deal
    assert not deal(one_of(data=hello("a.example")))
    assert deal(one_of("192.0.2.9", hello("a.example")))
    assert not deal(one_of(data=hello("b.example")))
    assert not deal(one_of()) and not deal(one_of())  # an empty key


def test_ipv6_clients_are_counted_by_network(net: Start) -> None:  # noqa: F811
    deal = net(text("connections: 1/m")).owner("one").cases[0].dealets[0].deal
    assert [deal(one_of(host)) for host in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")] == [
        False,
        True,
        False,
    ]


def test_exempt(net: Start) -> None:  # noqa: F811
    deal = (
        net(text("connections: 1/m, exempt: '$src_host in \"192.0.2.0/24\"'"))
        .owner("one")
        .cases[0]
        .dealets[0]
        .deal
    )
    assert [deal(one_of()) for _ in range(3)] == [False] * 3


def test_bandwidth(net: Start) -> None:  # noqa: F811
    """Connections of a source share it, by direction or altogether."""
    dealet = (
        net(text("bandwidth: 10K, bandwidth_down: 4K, bandwidth_burst: 1K")).owner("one").cases[0].dealets[0]
    )
    one, other, third = one_of(), one_of(), one_of("192.0.2.2")
    for conn in (one, other, third):
        assert not dealet.deal(conn)
        assert not dealet.deal(conn)  # another case asks again: it has its paces already
    (both_up, both_down), (up, down) = one.paces
    assert up is None and (both_up.piece, both_down.piece, down.piece) == (2560, 2560, 1024)
    assert both_up.take(1024) == 0.0
    assert other.paces[0][1].take(1024) > 0.05  # another connection, the other direction
    assert third.paces[0][1].take(1024) == 0.0
    assert down.take(1024) == 0.0 and other.paces[1][1].take(1024) > 0.1


def test_datagrams_have_no_bandwidth(dirs: Dirs) -> None:
    assert "must have no bandwidth" in problems(
        text("bandwidth: 1K").replace("tcpx_router", "udpx_router"), dirs
    )


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ("", "must have connections, concurrent or a bandwidth"),
        ("burst: 3, concurrent: 1", "burst needs connections"),
        ("connections: 3", "must be a rate"),
        ("bandwidth_burst: 1K, concurrent: 1", "bandwidth_burst needs a bandwidth"),
        ("bandwidth: 255", "must be at least 256"),
        ("concurrent: 1, key: ''", "must not be empty"),
    ],
)
def test_problems(dirs: Dirs, properties: str, problem: str) -> None:
    assert problem in problems(text(properties), dirs)
