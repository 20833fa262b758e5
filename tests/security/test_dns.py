"""SECURITY row 18: name servers that are slow, fail or lie stop nobody, and cost nobody the last good answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.rcode
import gevent
import pytest

from hemi.resolv import ResolveError, Resolver
from tests.dnsserver import DNSServer


@pytest.fixture
def server() -> Iterator[DNSServer]:
    one = DNSServer()
    yield one
    one.close()


@pytest.fixture
def resolver(server: DNSServer, tmp_path: Path) -> Iterator[Resolver]:
    one = Resolver(
        servers=(server.address,),
        hosts_file=str(tmp_path / "hosts"),
        settings_file=str(tmp_path / "resolv.conf"),
        timeout=1.0,
        attempt_timeout=0.3,
    )
    yield one
    one.close()


def expire(resolver: Resolver) -> None:
    for key, answer in resolver.answers.items():
        resolver.answers[key] = answer._replace(due=0.0)


def test_a_silent_server_does_not_stop_the_others(server: DNSServer, resolver: Resolver) -> None:
    server.silent = True
    turns = 0

    def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    worker = gevent.spawn(work)
    with pytest.raises(ResolveError) as caught:
        resolver.lookup("slow.test")
    worker.kill()
    assert caught.value.temporary
    assert turns > 100


def test_the_last_good_answer_outlives_a_failure(server: DNSServer, resolver: Resolver) -> None:
    server.zone[("api.test.", "A")] = ["192.0.2.7"]
    assert resolver.lookup("api.test") == ["192.0.2.7"]
    expire(resolver)
    server.rcode = dns.rcode.SERVFAIL
    assert resolver.lookup("api.test") == ["192.0.2.7"]
    expire(resolver)
    server.silent = True
    assert resolver.lookup("api.test") == ["192.0.2.7"]


def test_many_who_ask_the_same_ask_once(server: DNSServer, resolver: Resolver) -> None:
    server.zone[("api.test.", "A")] = ["192.0.2.7"]
    server.delay["A"] = 0.05
    asking = [gevent.spawn(resolver.lookup, "api.test") for _ in range(50)]
    gevent.joinall(asking, timeout=5)
    assert all(one.value == ["192.0.2.7"] for one in asking)
    assert len([name for name, kind in server.asked if kind == "A"]) == 1


def test_an_answer_from_elsewhere_is_not_believed(server: DNSServer, resolver: Resolver) -> None:
    server.zone[("api.test.", "A")] = ["192.0.2.66"]
    server.from_elsewhere = True
    with pytest.raises(ResolveError):
        resolver.lookup("api.test")
