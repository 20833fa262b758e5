"""Row 23: more connections than may be."""

from __future__ import annotations

import gevent
import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Client, dial, hello, serve, until


def test_those_beyond_the_limit_are_refused_politely() -> None:
    with serve(server={"max_concurrent_conns": 3}) as site:
        admitted = [site.connect() for _ in range(3)]
        for client in admitted:
            client.request()
            assert client.answer().status == 200
        for _ in range(5):
            with site.connect() as refused:
                answer = refused.answer()
                assert answer.status == 503 and answer.closes
                assert answer.header("retry-after") == "1"
                assert refused.rest() == b""
        for client in admitted:  # they notice nothing
            client.request()
            assert client.answer().status == 200
        admitted.pop().close()
        until(lambda: len(site.conns) == 2)
        assert site.get("/").status == 200
        for client in admitted:
            client.close()


def test_a_request_that_was_sent_already_does_not_destroy_the_503() -> None:
    with serve(server={"max_concurrent_conns": 1}) as site, site.connect() as admitted:
        admitted.request()
        assert admitted.answer().status == 200
        for _ in range(10):
            with site.connect() as client:
                client.request("POST", "/", content=b"x" * 2000)  # before the server gets its turn
                assert client.answer().status == 503


def test_pausing_lets_clients_wait() -> None:
    with serve(server={"max_concurrent_conns": 2, "overload": "pause"}) as site:
        admitted = [site.connect() for _ in range(2)]
        for client in admitted:
            client.request()
            assert client.answer().status == 200
        waiting = [site.connect() for _ in range(3)]
        for client in waiting:
            client.request()
        gevent.sleep(0.05)
        assert len(site.conns) == 2
        for client in admitted:
            client.close()
        for client in waiting:
            assert client.answer().status == 200
            client.close()
        assert [entry.message for entry in site.log.of("warning", "gate")] == [
            f"accepting on {site.address} pauses: as many connections as may be are open"
        ]


def test_the_limit_is_for_all_addresses_together() -> None:
    both = ["127.0.0.1:0", "[::1]:0"]
    with serve(address=both, server={"max_concurrent_conns": 1}) as site, site.connect(0) as client:
        client.request()
        assert client.answer().status == 200
        with site.connect(1) as other:
            assert other.answer().status == 503


@pytest.mark.parametrize("count", [200])
def test_a_crowd(count: int) -> None:
    """Each is served or refused; none hangs; admitted ones are served to their end."""

    def app(req: Request, resp: Response) -> bool:
        gevent.sleep(0.005)
        return hello(req, resp) is True

    with serve(app, server={"max_concurrent_conns": 50}) as site:
        statuses: list[int] = []

        def come() -> None:
            with Client(dial(site.address)) as client:
                try:
                    client.request()
                    client.request()
                except OSError:
                    pass
                first = client.answer().status
                statuses.append(first)
                if first == 200:
                    assert client.answer().status == 200

        crowd = [gevent.spawn(come) for _ in range(count)]
        gevent.joinall(crowd, timeout=10, raise_error=True)
        assert len(statuses) == count
        assert statuses.count(200) >= 50 and set(statuses) <= {200, 503}
        assert not site.log.of("error")
