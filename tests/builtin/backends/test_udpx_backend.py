"""The backend of datagrams: its own limits are here, what it shares with others in tests/upstream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from hemi.source import Dirs
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, problems
from tests.net.udpkit import Client, backend, nodes, router, to

Start = Callable[[str], Net]


@pytest.mark.parametrize(
    ("balancer", "counts"),
    [("balancer: first", [6]), ("balancer: round_robin", [3, 3]), ("balancer: hash, hash_key: $size", [6])],
)
def test_balancers(net: Start, balancer: str, counts: list[int]) -> None:  # noqa: F811
    with nodes(lambda data: b"a", lambda data: b"b") as found:
        one = net(router(to("b"), backends=backend("b", *(node.address for node in found), more=balancer)))
        answers: Counter[bytes] = Counter()
        for _ in range(6):
            with Client(one.address("front")) as client:
                answers[client.ask()] += 1
        assert sorted(answers.values()) == counts


def test_tls_is_for_connections(dirs: Dirs) -> None:
    text = router(to("b"), backends=backend("b", "127.0.0.1:1", more="tls: true, tls_verify: false"))
    assert "tls is not for datagrams" in problems(text, dirs)
