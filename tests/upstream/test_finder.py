"""Finding nodes: they come and go while a backend runs, and failures of sources change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import dns.rcode
import pytest

from hemi.errors import UsageError
from hemi.source import Dirs
from tests.dnsserver import DNSServer
from tests.peer import Peer
from tests.running import until
from tests.upstream.kit import Running, exchange, load

Run = Callable[..., Running]


def keys(running: Running) -> list[str]:
    return sorted(node.key for node in running["b"].roster.nodes)


def write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


def by_file(path: Path, more: str = "") -> str:
    return f"b: {{type: echo_backend, nodes_file: {path}, discovery_interval: 10ms{more}}}"


def test_a_file_is_watched(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    write(path, "127.0.0.1:1\n127.0.0.1:2 weight=3\n")
    running = run(by_file(path))
    assert keys(running) == ["127.0.0.1:1", "127.0.0.1:2"]
    kept = running["b"].node("127.0.0.1:2")
    write(path, "127.0.0.1:2 weight=5 tier=1 max_conns=7\n127.0.0.1:3\n")
    assert until(lambda: keys(running) == ["127.0.0.1:2", "127.0.0.1:3"])
    assert running["b"].node("127.0.0.1:2") is kept
    assert (kept.weight, kept.share, kept.tier, kept.limit) == (5, 5.0, 1, 7)
    assert [line.partition("node ")[2] for line in running.log.find("node ")] == [
        "127.0.0.1:1 is gone",
        "127.0.0.1:3 is new",
    ]


def test_nonsense_in_the_file_changes_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    write(path, "127.0.0.1:1\n")
    running = run(by_file(path))
    write(path, "nonsense\n")
    assert until(lambda: running.log.find("the search for nodes failed"))
    path.unlink()
    assert until(lambda: running.log.find("no such file"))
    assert keys(running) == ["127.0.0.1:1"]


def test_a_file_must_be_right_the_first_time(dirs: Dirs, tmp_path: Path) -> None:
    stage = load(by_file(tmp_path / "none"), dirs)
    with pytest.raises(UsageError, match=r'echo_backend "b": .*cannot be read: no such file'):
        stage.prepare()


def test_the_list_and_the_file_together(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    write(path, "127.0.0.1:1 weight=9\n127.0.0.1:2\n")
    running = run(by_file(path, ', nodes: [{address: "127.0.0.1:1"}]'))
    assert keys(running) == ["127.0.0.1:1", "127.0.0.1:2"]
    assert running["b"].node("127.0.0.1:1").weight == 1  # the list's word counts
    write(path, "")
    assert until(lambda: keys(running) == ["127.0.0.1:1"])


def test_a_node_that_goes_finishes_its_work(run: Run, peer: Callable[..., Peer], tmp_path: Path) -> None:
    path, one = tmp_path / "nodes", peer()
    write(path, one.address)
    running = run(by_file(path))
    backend = running["b"]
    exchange(backend.lease())
    lease, idle = backend.lease(), backend.lease()
    conn = lease.take()
    idle.take()
    idle.done(keep=True)
    write(path, "127.0.0.1:1")
    assert until(lambda: keys(running) == ["127.0.0.1:1"])
    assert len(backend.channels) == 1  # the idle one is closed
    conn.channel.send(b"x")
    assert conn.channel.recv(1) == b"x"
    assert lease.node.status == "gone"
    lease.answered(200)
    lease.done(keep=True)
    assert backend.channels == set()


def test_new_nodes_warm_up_and_are_checked(run: Run, peer: Callable[..., Peer], tmp_path: Path) -> None:
    path, one = tmp_path / "nodes", peer()
    write(path, "127.0.0.1:1\n")
    running = run(by_file(path, ", slow_start: 10s, checks: [{tcp: {interval: 10ms}}]"))
    write(path, f"127.0.0.1:1\n{one.address} weight=10")
    assert until(lambda: len(keys(running)) == 2)
    node = running["b"].node(one.address)
    assert (node.status, node.share) == ("warming", 1.0)
    running["b"].tick(node.warm_from + 5)
    assert node.share == 5.0
    running["b"].tick(node.warm_from + 10)
    assert (node.status, node.share) == ("up", 10.0)
    assert until(lambda: one.accepted)


@pytest.fixture
def names() -> Iterator[DNSServer]:
    server = DNSServer()
    server.ttl = 0
    yield server
    server.close()


def by_name(run: Run, names: DNSServer, backend: str, predecessor: Running | None = None) -> Running:
    host, port = names.address
    resolv = (
        f"resolv: {{servers: ['{host}:{port}'], hosts_file: /dev/null, "
        "min_ttl: 0, negative_ttl: 10ms, resolv_timeout: 5s}"
    )
    text = f"b: {{type: echo_backend, discovery_interval: 10ms, {backend}}}"
    return run(f"{text}\n---\n{resolv}", predecessor)


def test_the_addresses_of_a_name_are_nodes(run: Run, names: DNSServer) -> None:
    names.zone["api.test.", "A"] = ["127.0.0.2", "127.0.0.1"]
    running = by_name(run, names, 'nodes_name: "api.test:80"')
    assert keys(running) == ["127.0.0.1:80", "127.0.0.2:80"]
    names.zone["api.test.", "A"] = ["127.0.0.2", "127.0.0.3"]
    assert until(lambda: keys(running) == ["127.0.0.2:80", "127.0.0.3:80"])


def test_the_last_good_answer_is_kept_while_dns_fails(run: Run, names: DNSServer) -> None:
    names.zone["api.test.", "A"] = ["127.0.0.1"]
    running = by_name(run, names, 'nodes_name: "api.test:80"')
    names.rcode = dns.rcode.SERVFAIL
    asked = len(names.asked)
    assert until(lambda: len(names.asked) > asked + 1)
    assert keys(running) == ["127.0.0.1:80"]


def test_that_there_are_none_is_an_answer(run: Run, names: DNSServer) -> None:
    names.zone["api.test.", "A"] = ["127.0.0.1"]
    running = by_name(run, names, 'nodes_name: "api.test:80"')
    del names.zone["api.test.", "A"]
    assert until(lambda: keys(running) == [])
    assert running.log.find("the search for nodes failed: 'api.test' cannot be resolved: no such name")
    names.zone["api.test.", "A"] = ["127.0.0.4"]
    assert until(lambda: keys(running) == ["127.0.0.4:80"])


def test_services_are_nodes(run: Run, names: DNSServer) -> None:
    names.zone["_http._tcp.test.", "SRV"] = ["10 60 8080 big.test.", "20 1 8081 spare.test."]
    running = by_name(run, names, "nodes_service: _http._tcp.test")
    big, spare = running["b"].node("big.test:8080"), running["b"].node("spare.test:8081")
    assert (big.weight, big.tier, spare.tier) == (60, 0, 1)
    assert running["b"].roster.ready == [big]


def test_a_start_does_not_wait_long_for_dns(
    run: Run, names: DNSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hemi.upstream.finder.FIRST_LOOK", 0.05)
    names.silent = True
    began = monotonic()
    running = by_name(run, names, 'nodes_name: "api.test:80"')
    assert monotonic() - began < 3
    assert keys(running) == []
    assert running.log.find('"b": it has no nodes')
    names.silent = False
    names.zone["api.test.", "A"] = ["127.0.0.1"]


def test_a_reload_while_dns_is_silent_keeps_the_nodes(
    run: Run, names: DNSServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hemi.upstream.finder.FIRST_LOOK", 0.05)
    names.zone["api.test.", "A"] = ["127.0.0.1"]
    before = by_name(run, names, 'nodes_name: "api.test:80"')
    assert until(lambda: keys(before) == ["127.0.0.1:80"])
    names.silent = True
    after = by_name(run, names, 'nodes_name: "api.test:80"', before)
    assert keys(after) == ["127.0.0.1:80"]
    other = by_name(run, names, 'nodes_name: "other.test:80"', after)
    assert keys(other) == []
