"""http_backend as a component."""

from __future__ import annotations

from tests.badserver import answering, bad_server
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import until


def test_it_counts_what_nodes_do_and_keeps_connections() -> None:
    with bad_server(answering()) as node, proxying(node, backend={"idle_conns": 1}) as site:
        assert site.get().status == 200
        assert site.get().status == 200
        known = node_of(site)
        until(lambda: known.pool.idle)
        assert (known.leases, known.in_flight, known.failures) == (2, 0, 0)
        assert node.conns == 1
        backend = site.stage.members["backends"]["up"]
        assert backend.describe()["type"] == "http_backend"
        assert not backend.exchanges


def test_a_stopped_stage_leaves_no_connection() -> None:
    with bad_server(answering()) as node:
        with proxying(node) as site:
            assert site.get().status == 200
        until(lambda: node.ended)
