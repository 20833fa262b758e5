"""What a proxied exchange costs, and what happens to many of them when nodes die."""

from __future__ import annotations

import gevent

from tests.badserver import answering, bad_server
from tests.web.proxy.proxykit import proxying
from tests.webkit import TIMEOUT


def test_no_get_fails_while_nodes_die_and_come_back() -> None:
    """Ten nodes under load, three of which close all connections and their doors."""
    with gevent.Timeout(TIMEOUT):
        nodes = [bad_server(answering(b"x")) for _ in range(10)]
        running = [node.__enter__() for node in nodes]
        try:
            with proxying(*running) as site:
                statuses: list[int] = []

                def load() -> None:
                    with site.connect() as client:
                        for _ in range(40):
                            client.request()
                            statuses.append(client.answer().status)

                loads = [gevent.spawn(load) for _ in range(16)]
                for node in running[:3]:
                    gevent.sleep(0.02)
                    node.close()
                gevent.joinall(loads, raise_error=True)
                assert statuses == [200] * 640
        finally:
            for node in nodes:
                node.__exit__(None, None, None)
