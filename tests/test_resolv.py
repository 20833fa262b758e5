"""Names to addresses: order, memory, failures."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import dns.rcode
import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi import resolv, resolvconf
from hemi.resolv import (
    Resolv,
    ResolveError,
    Resolver,
    Service,
    clean_name,
)
from hemi.resolvconf import literal_family
from tests.dnsserver import DNSServer


@pytest.fixture
def server() -> Iterator[DNSServer]:
    one = DNSServer()
    yield one
    one.close()


@pytest.fixture
def make(server: DNSServer, tmp_path: Path) -> Iterator[Callable[..., Resolver]]:
    made: list[Resolver] = []

    def maker(**settings: Any) -> Resolver:
        given = {
            "servers": (server.address,),
            "hosts_file": str(tmp_path / "hosts"),
            "settings_file": str(tmp_path / "resolv.conf"),
            "timeout": 2.0,
            "attempt_timeout": 0.5,
        }
        made.append(Resolver(**{**given, **settings}))
        return made[-1]

    yield maker
    for one in made:
        one.close()


def expire(resolver: Resolver) -> None:
    """Let all answers be overdue."""
    for key, answer in resolver.answers.items():
        resolver.answers[key] = answer._replace(due=0.0)


# --- without DNS


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%lo"])
def test_addresses_are_their_own_answers(make: Any, server: DNSServer, host: str) -> None:
    assert make().lookup(host) == [host]
    assert not server.asked


def test_resolve_gives_what_connect_takes(make: Any) -> None:
    resolver = make()
    assert resolver.resolve("192.0.2.1", 80) == [(socket.AF_INET, ("192.0.2.1", 80))]
    assert resolver.resolve("[2001:db8::1]", 80) == [(socket.AF_INET6, ("2001:db8::1", 80, 0, 0))]
    assert resolver.resolve("fe80::1%7", 80) == [(socket.AF_INET6, ("fe80::1", 80, 0, 7))]
    with pytest.raises(ResolveError, match="no interface 'nonesuch'"):
        resolver.resolve("fe80::1%nonesuch", 80)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "app.localhost", "a.b.Localhost."])
def test_localhost_is_this_machine(make: Any, server: DNSServer, host: str) -> None:
    assert make().lookup(host) == ["127.0.0.1", "::1"]
    assert make(prefer="ipv6").lookup(host) == ["::1", "127.0.0.1"]
    assert make(families="ipv6").lookup(host) == ["::1"]
    assert not server.asked


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a\0b",
        "x" * 64,
        "a." * 127 + "aa",
        "127.1",
        "0x7f.1",
        "1",
        "0x7f000001",
        "a.b.1",
        "a/b",
        "ü" * 64,
        "\ud800",
        "::1%",
        ":::",
    ],
)
def test_what_is_no_name(make: Any, server: DNSServer, host: str) -> None:
    with pytest.raises(ResolveError, match="not a host name") as caught:
        make().lookup(host)
    assert not caught.value.temporary
    assert isinstance(caught.value, OSError)
    assert not server.asked


def test_names_are_cleaned() -> None:
    assert clean_name("Bücher.Example.") == "xn--bcher-kva.example."
    assert clean_name("_http._tcp.A") == "_http._tcp.a"


@given(st.text(max_size=20))
def test_any_text_is_a_name_an_address_or_refused(text: str) -> None:
    if literal_family(text) is None:
        try:
            assert clean_name(text).isascii()
        except ResolveError:
            pass


def test_the_hosts_file(make: Any, server: DNSServer, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(resolvconf, "LOOK", 0.0)
    (tmp_path / "hosts").write_text(
        "192.0.2.7 A.test b.test # c.test\n2001:db8::7 a.test\nnonsense x\n192.0.2.8 a.test"
    )
    resolver = make()
    assert resolver.lookup("a.TEST") == ["192.0.2.7", "192.0.2.8", "2001:db8::7"]
    assert resolver.lookup("b.test.") == ["192.0.2.7"]
    with pytest.raises(ResolveError):
        resolver.lookup("c.test")
    (tmp_path / "hosts").write_text("192.0.2.9 a.test")
    assert resolver.lookup("a.test") == ["192.0.2.9"]
    os.unlink(tmp_path / "hosts")
    with pytest.raises(ResolveError):
        resolver.lookup("a.test")


# --- with DNS


def test_both_families_are_asked_at_the_same_time(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.zone["a.test.", "AAAA"] = ["2001:db8::1"]
    server.delay = {"A": 0.1, "AAAA": 0.1}
    assert make().lookup("a.test") == ["192.0.2.1", "2001:db8::1"]
    assert server.most_waiting == 2
    assert make(prefer="ipv6").lookup("a.test") == ["2001:db8::1", "192.0.2.1"]
    assert make(families="ipv6").lookup("a.test") == ["2001:db8::1"]


def test_other_greenlets_go_on_meanwhile(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.delay = {"A": 0.1}
    ticks = []
    ticker = gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.001)) for _ in range(1000)])
    make().lookup("a.test")
    assert len(ticks) > 2
    ticker.kill()


def test_answers_count_for_their_ttl(make: Any, server: DNSServer, monkeypatch: Any) -> None:
    now = [1000.0]
    monkeypatch.setattr(resolv, "monotonic", lambda: now[0])
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.ttl = 60
    resolver = make()
    for _ in range(5):
        assert resolver.lookup("a.test") == ["192.0.2.1"]
    assert len(server.asked) == 2
    server.zone["a.test.", "A"] = ["192.0.2.2"]
    server.ttl = 3
    now[0] += 59
    assert resolver.lookup("A.Test") == ["192.0.2.1"]
    now[0] += 2
    assert resolver.lookup("a.test") == ["192.0.2.2"]
    server.zone["a.test.", "A"] = ["192.0.2.3"]
    now[0] += 4
    assert resolver.lookup("a.test") == ["192.0.2.3"]


@pytest.mark.parametrize(("ttl", "due"), [(0, 10.0), (50, 50.0), (9999, 100.0)])
def test_ttl_is_clamped(make: Any, server: DNSServer, monkeypatch: Any, ttl: int, due: float) -> None:
    monkeypatch.setattr(resolv, "monotonic", lambda: 1000.0)
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.ttl = ttl
    resolver = make(min_ttl=10.0, max_ttl=100.0)
    resolver.lookup("a.test")
    assert [answer.due for answer in resolver.answers.values()] == [1000.0 + due]


def test_misses_count_too(make: Any, server: DNSServer) -> None:
    resolver = make()
    for _ in range(3):
        with pytest.raises(ResolveError, match=r"^'none[.]test' cannot be resolved: no such name$") as caught:
            resolver.lookup("none.test")
        assert not caught.value.temporary
    assert len(server.asked) == 2
    server.zone["none.test.", "A"] = ["192.0.2.1"]
    expire(resolver)
    assert resolver.lookup("none.test") == ["192.0.2.1"]


def test_a_name_without_addresses(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "MX"] = ["10 mail.test."]
    with pytest.raises(ResolveError, match="it has no address"):
        make().lookup("a.test")


def test_one_query_for_all_who_wait(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.delay = {"A": 0.05}
    resolver = make()
    tasks = [gevent.spawn(resolver.lookup, "a.test") for _ in range(50)]
    gevent.joinall(tasks, timeout=5)
    assert all(task.value == ["192.0.2.1"] for task in tasks)
    assert len(server.asked) == 2
    assert not resolver.queries


def test_who_gives_up_does_not_end_the_query(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.delay = {"A": 0.1}
    resolver = make()
    with pytest.raises(ResolveError, match=r"no answer within 0\.01 s") as caught:
        resolver.lookup("a.test", timeout=0.01)
    assert caught.value.temporary
    assert resolver.lookup("a.test") == ["192.0.2.1"]
    assert len(server.asked) == 2


@pytest.mark.parametrize("failure", ["silent", "servfail", "gone"])
def test_the_last_good_answer_is_kept(make: Any, server: DNSServer, failure: str) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    resolver = make(attempt_timeout=0.02)
    resolver.lookup("a.test")
    expire(resolver)
    if failure == "silent":
        server.silent = True
    elif failure == "servfail":
        server.rcode = dns.rcode.SERVFAIL
    else:
        server.close()
    assert resolver.lookup("a.test") == ["192.0.2.1"]
    begun = monotonic()
    for _ in range(100):  # nobody waits again right away
        assert resolver.lookup("a.test") == ["192.0.2.1"]
    assert monotonic() - begun < 0.5
    with pytest.raises(ResolveError) as caught:
        resolver.lookup("b.test")
    assert caught.value.temporary


def test_a_stale_answer_is_not_waited_for_long(make: Any, server: DNSServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(resolv, "STALE_WAIT", 0.02)
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    resolver = make()
    resolver.lookup("a.test")
    expire(resolver)
    server.delay = {"A": 0.2}
    server.zone["a.test.", "A"] = ["192.0.2.2"]
    assert resolver.lookup("a.test") == ["192.0.2.1"]
    with gevent.Timeout(5):
        while resolver.lookup("a.test") != ["192.0.2.2"]:
            gevent.sleep(0.01)


def test_staleness_has_a_limit(make: Any, server: DNSServer, monkeypatch: Any) -> None:
    now = [1000.0]
    monkeypatch.setattr(resolv, "monotonic", lambda: now[0])
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    resolver = make(stale_limit=100.0, attempt_timeout=0.2)
    resolver.lookup("a.test")
    server.silent = True
    now[0] += 399
    assert resolver.lookup("a.test") == ["192.0.2.1"]
    now[0] += 6
    with pytest.raises(ResolveError):
        resolver.lookup("a.test")


def test_a_name_that_is_gone_is_gone(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    resolver = make()
    resolver.lookup("a.test")
    expire(resolver)
    server.zone.clear()
    with pytest.raises(ResolveError, match="no such name"):
        resolver.lookup("a.test")


def test_a_server_that_drops_aaaa(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    server.silent_types = {"AAAA"}
    resolver = make(attempt_timeout=5.0, timeout=20.0)
    begun = monotonic()
    assert resolver.lookup("a.test") == ["192.0.2.1"]
    assert monotonic() - begun < 2
    (answer,) = resolver.answers.values()
    assert answer.due - monotonic() <= resolv.PARTIAL_TTL


def test_the_second_server_helps(make: Any, server: DNSServer) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    dead = DNSServer()
    dead.silent = True
    try:
        assert make(servers=(dead.address, server.address), attempt_timeout=0.05).lookup("a.test") == [
            "192.0.2.1"
        ]
        dead.silent, dead.rcode = False, dns.rcode.REFUSED
        assert make(servers=(dead.address, server.address)).lookup("a.test") == ["192.0.2.1"]
    finally:
        dead.close()


def test_search_domains(make: Any, server: DNSServer, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("search one.test two.test\noptions ndots:2\n")
    server.zone["db.two.test.", "A"] = ["192.0.2.1"]
    server.zone["db.", "A"] = ["192.0.2.9"]
    server.zone["x.y.", "A"] = ["192.0.2.2"]
    resolver = make(families="ipv4")
    assert resolver.lookup("db") == ["192.0.2.1"]
    assert [name for name, _ in server.asked] == ["db.one.test.", "db.two.test."]
    assert resolver.lookup("db.") == ["192.0.2.9"]
    assert resolver.lookup("x.y") == ["192.0.2.2"]
    server.asked.clear()
    with pytest.raises(ResolveError):
        resolver.lookup("a.b.c")
    assert [name for name, _ in server.asked] == ["a.b.c.", "a.b.c.one.test.", "a.b.c.two.test."]


def test_services(make: Any, server: DNSServer) -> None:
    server.zone["_http._tcp.a.test.", "SRV"] = ["20 0 8082 c.test.", "10 1 8080 a.test.", "10 9 8081 b.test."]
    server.zone["_none._tcp.a.test.", "SRV"] = ["0 0 0 ."]
    resolver = make()
    assert resolver.lookup_srv("_http._tcp.a.test") == [
        Service(10, 9, 8081, "b.test"),
        Service(10, 1, 8080, "a.test"),
        Service(20, 0, 8082, "c.test"),
    ]
    resolver.lookup_srv("_HTTP._tcp.a.test.".lower().rstrip("."))
    assert len(server.asked) == 1
    for name in ("_none._tcp.a.test", "_other._tcp.a.test"):
        with pytest.raises(ResolveError, match="no such service"):
            resolver.lookup_srv(name)


def test_memory_is_bounded(make: Any, server: DNSServer, monkeypatch: Any) -> None:
    resolver = make(max_names=10)
    for number in range(30):
        with pytest.raises(ResolveError):
            resolver.lookup(f"n{number}.test")
    assert len(resolver.answers) == 10
    monkeypatch.setattr(resolv, "MOST_QUERIES", 3)
    server.silent = True
    tasks = [gevent.spawn(resolver.lookup, f"m{number}.test", timeout=0.1) for number in range(5)]
    gevent.joinall(tasks, timeout=5)
    assert sorted("too many" in str(task.exception) for task in tasks) == [False, False, False, True, True]


def test_close_frees_who_waits(make: Any, server: DNSServer) -> None:
    server.silent = True
    resolver = make(timeout=20.0, attempt_timeout=20.0)
    task = gevent.spawn(resolver.lookup, "a.test")
    with gevent.Timeout(5):
        while not server.asked:
            gevent.sleep(0.002)
    resolver.close()
    task.join(timeout=5)
    assert isinstance(task.exception, ResolveError)


def test_the_fixture(server: DNSServer, tmp_path: Path) -> None:
    server.zone["a.test.", "A"] = ["192.0.2.1"]
    one = Resolv("resolv")
    one.stop(0)
    one.__dict__.update(
        servers=[f"127.0.0.1:{server.address[1]}"],
        hosts_file="/none",
        resolv_file="/none",
        resolv_timeout=2.0,
        min_ttl=1.0,
        max_ttl=9.0,
        negative_ttl=1.0,
        stale_limit=1.0,
        max_names=5,
        families="both",
        prefer="ipv4",
        stage=SimpleNamespace(),
    )
    assert list(one.check()) == []
    one.prepare()
    assert one.resolve("a.test", 80) == [(socket.AF_INET, ("192.0.2.1", 80))]
    assert one.lookup("a.test") == ["192.0.2.1"]
    one.stop(0)
    one.servers = ["ns.example"]
    assert list(one.check()) == [
        ("servers", "must have IP addresses with or without a port, not 'ns.example'")
    ]
