"""What a worker counts. The rest is in tests/processes: real forks, real signals."""

from __future__ import annotations

from collections.abc import Callable

from hemi.procmgr.single import accepting
from tests.procmgr.test_orders import CONFIG
from tests.running import Served


def test_connections_and_requests_are_counted(serve: Callable[..., Served]) -> None:
    served = serve(CONFIG)
    (server,) = accepting(served.stage)
    assert (server.conns, server.requests) == (0, 0)
    with served.client() as client:
        client.request("GET", "/")
        client.request("GET", "/")
        assert (server.conns, server.requests) == (1, 2)
