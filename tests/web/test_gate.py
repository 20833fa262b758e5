"""Gates: accepting, handing connections over to a newer stage, draining; reloads in process, also under load."""

from __future__ import annotations

import socket
import time
from _socket import socket as RawSocket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import ssl
from gevent.event import Event

from hemi.errors import EnvError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.tlskit import Authority
from tests.webkit import App, Client, Site, config, dial, hello, load, scripted, serve, until


def named(name: str) -> App:
    """Says its name; for /slow only when told to."""

    def app(req: Request, resp: Response) -> bool:
        if req.path == "/slow":
            GO.wait(10)
        resp.send(name.encode())
        return True

    return app


GO = Event()


class Stages:
    """A sequence of stages, each the successor of the one before."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.stopping: list[gevent.Greenlet] = []

    @property
    def current(self) -> Site:
        return self.sites[-1]

    def begin(self, mapping: dict[str, Any], drain: float = 5.0) -> Site:
        """Builds a stage and lets it take over. The old one stops in the background."""
        site = Site(load(mapping))
        old = self.sites[-1].stage if self.sites else None
        site.stage.start(old)
        self.sites.append(site)
        if old is not None:
            self.stopping.append(gevent.spawn(old.stop, time.monotonic() + drain))
        return site

    def settle(self) -> None:
        """Waits until all old stages have stopped."""
        gevent.joinall(self.stopping, timeout=10, raise_error=True)
        assert all(one.dead for one in self.stopping)


@contextmanager
def staged() -> Iterator[Stages]:
    GO.clear()
    stages = Stages()
    try:
        yield stages
    finally:
        GO.set()
        for site in stages.sites:
            site.stage.stop(time.monotonic() + 0.3)


def ask(client: Client, target: str = "/") -> bytes:
    client.request("GET", target)
    return client.answer().content


def test_repr_and_peers() -> None:
    with serve() as site:
        (gate,) = site.server.gates
        assert repr(gate) == f"<Gate {site.address} conns=0>"


def test_a_connection_that_is_killed_before_it_began_is_closed() -> None:
    """Otherwise its client would wait until the garbage collector comes by."""
    with serve() as site:
        (gate,) = site.server.gates
        ours, theirs = socket.socketpair()
        with theirs:
            fd = ours.detach()
            gate._accepted(RawSocket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd), "")
            (greenlet,) = gate.greenlets
            sock = gate.greenlets[greenlet]
            gate.join(time.monotonic() - 1)
            assert greenlet.dead and sock.fileno() == -1 and not gate.greenlets
            assert theirs.recv(1) == b""


# Reloads


@pytest.mark.parametrize("transport", ["tcp", "uds"])
def test_idle_connections_move(transport: str, tmp_path: Path) -> None:
    address = str(tmp_path / "s") if transport == "uds" else "127.0.0.1:0"
    with staged() as stages:
        stages.begin(config(named("old"), address=address))
        where = stages.current.address
        with Client(dial(where)) as client, Client(dial(where)) as silent:
            assert ask(client) == b"old"
            until(lambda: len(stages.current.conns) == 2)
            stages.begin(config(named("new"), address=address))
            assert stages.current.address == where
            stages.settle()
            assert len(stages.current.conns) == 2
            assert ask(client) == b"new"
            assert ask(silent) == b"new"
            with Client(dial(where)) as third:
                assert ask(third) == b"new"


def test_an_old_stage_without_work_stops_at_once() -> None:
    """Its connections have moved; nobody waits for them until the deadline."""
    with staged() as stages:
        stages.begin(config(named("old")))
        with Client(dial(stages.current.address)) as client:
            client.request("GET", "/slow")
            until(lambda: stages.current.conns)
            stages.begin(config(named("new")), drain=60)
            gevent.sleep(0.01)
            assert not stages.stopping[0].dead
            GO.set()
            assert client.answer().content == b"old"
            stages.settle()
            assert ask(client) == b"new"


def test_requests_in_flight_finish_on_the_old_stage() -> None:
    with staged() as stages:
        stages.begin(config(named("old")))
        with Client(dial(stages.current.address)) as client:
            client.request("GET", "/slow")
            client.request("GET", "/")  # is read together with the first
            until(lambda: any(not conn.idle for conn in stages.current.conns))
            stages.begin(config(named("new")))
            GO.set()
            assert client.answer().content == b"old"
            assert client.answer().content == b"old"
            assert ask(client) == b"new"
            stages.settle()


def test_a_head_that_has_begun_is_served() -> None:
    with staged() as stages:
        stages.begin(config(named("old")))
        with Client(dial(stages.current.address)) as client:
            client.drip(b"GET / HTTP/1.1\r\nhost:")
            until(lambda: any(conn._last for conn in stages.current.conns))
            stages.begin(config(named("new")))
            client.send(b"a\r\n\r\n")
            assert client.answer().content == b"old"
            assert ask(client) == b"new"
            stages.settle()


def test_a_content_on_its_way_is_read_to_its_end() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(b"old " + req.content())
        return True

    with staged() as stages:
        stages.begin(config(app))
        with Client(dial(stages.current.address)) as client:
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhe")
            until(lambda: any(not conn.idle for conn in stages.current.conns))
            stages.begin(config(named("new")))
            client.send(b"llo")
            assert client.answer().content == b"old hello"
            assert ask(client) == b"new"
            stages.settle()


def test_connections_move_on_past_stages_that_have_retired_meanwhile() -> None:
    with staged() as stages:
        stages.begin(config(named("first")))
        with Client(dial(stages.current.address)) as client:
            client.request("GET", "/slow")
            until(lambda: stages.current.conns)
            for number in range(3):
                stages.begin(config(named(f"next {number}")))
            GO.set()
            assert client.answer().content == b"first"
            until(lambda: stages.current.conns)
            stages.settle()
            assert [len(site.conns) for site in stages.sites] == [0, 0, 0, 1]
            assert ask(client) == b"next 2"


def test_new_and_removed_addresses(tmp_path: Path) -> None:
    kept, removed, added = (str(tmp_path / name) for name in ("kept", "removed", "added"))
    with staged() as stages:
        stages.begin(config(named("old"), address=[kept, removed]))
        with Client(dial(kept)) as one, Client(dial(removed)) as other:
            assert ask(one) == ask(other) == b"old"
            stages.begin(config(named("new"), address=[kept, added]))
            assert ask(one) == b"new"
            stages.settle()
            assert other.is_closed()
            with Client(dial(added)) as client:
                assert ask(client) == b"new"
            with pytest.raises(OSError):
                dial(removed)
            assert not Path(removed).exists()


def test_a_removed_port_is_refused() -> None:
    with staged() as stages:
        stages.begin(config(named("old")))
        where = stages.current.address
        mapping = config(named("new"))
        mapping["servers"]["other"] = mapping["servers"].pop("main")
        stages.begin(mapping)
        stages.settle()
        assert stages.current.address != where
        with pytest.raises(ConnectionRefusedError):
            dial(where)


def test_a_stage_that_cannot_prepare_changes_nothing(tmp_path: Path) -> None:
    taken = str(tmp_path / "taken")
    Path(taken).write_text("no socket")
    with staged() as stages:
        stages.begin(config(named("old")))
        where = stages.current.address
        with Client(dial(where)) as client:
            assert ask(client) == b"old"
            bad = load(config(named("bad"), address=["127.0.0.1:0", str(tmp_path / "new"), taken]))
            with pytest.raises(EnvError, match=r"cannot listen on .*taken"):
                bad.prepare()
            assert ask(client) == b"old"
            with Client(dial(where)) as another:
                assert ask(another) == b"old"
            assert not (tmp_path / "new").exists()
            stages.begin(config(named("new")))
            assert ask(client) == b"new"
            stages.settle()


def test_limits_of_the_new_stage_hold_for_adopted_connections() -> None:
    with staged() as stages:
        stages.begin(config(named("old")))
        with Client(dial(stages.current.address)) as client:
            assert ask(client) == b"old"
            until(lambda: all(conn.idle for conn in stages.current.conns))
            stages.begin(
                config(named("new"), server={"keepalive_timeout": "100ms", "max_concurrent_conns": 1})
            )
            with Client(dial(stages.current.address)) as another:
                assert another.answer().status == 503
            assert ask(client) == b"new"
            assert client.is_closed()


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def tls_config(
    authority: Authority, name: str, certificate: str = "localhost", **server: Any
) -> dict[str, Any]:
    identity = authority.issue(certificate, "localhost")
    pems = {"tls_certificate": identity.certificate, "tls_private_key": identity.private_key}
    return config(named(name), server={"tls": True, **server}, webapp=pems)


def tls_client(authority: Authority, address: str) -> Client:
    context = ssl.create_default_context(cafile=authority.file)
    return Client(dial(address, tls=context))


def serial(client: Client) -> Any:
    return client.sock.getpeercert()["serialNumber"]


def test_tls_connections_move_and_new_ones_get_the_new_certificate(authority: Authority) -> None:
    with staged() as stages:
        stages.begin(tls_config(authority, "old"))
        where = stages.current.address
        with tls_client(authority, where) as client:
            assert ask(client) == b"old"
            before = serial(client)
            stages.begin(tls_config(authority, "new"))
            assert ask(client) == b"new"
            assert ask(client) == b"new"
            with tls_client(authority, where) as another:
                assert ask(another) == b"new"
                assert serial(another) != before
            stages.settle()


def test_a_changed_tls_policy_ends_connections_gracefully(authority: Authority) -> None:
    with staged() as stages:
        stages.begin(tls_config(authority, "old"))
        where = stages.current.address
        with tls_client(authority, where) as idle, tls_client(authority, where) as busy:
            assert ask(idle) == b"old"
            busy.request("GET", "/slow")
            until(lambda: sum(not conn.idle for conn in stages.current.conns) == 1)
            stages.begin(tls_config(authority, "new", tls_min_version="1.3"))
            GO.set()
            answer = busy.answer()
            assert answer.content == b"old" and answer.closes
            assert busy.is_closed()
            assert idle.is_closed()
            stages.settle()
            with tls_client(authority, where) as another:
                assert ask(another) == b"new"


# Draining


def test_stopping_drains() -> None:
    with serve(named("app")) as site, site.connect() as busy, site.connect() as idle:
        GO.clear()
        assert ask(idle) == b"app"
        busy.request("GET", "/slow")
        until(lambda: sum(not conn.idle for conn in site.conns) == 1)
        stopping = gevent.spawn(site.stage.stop, time.monotonic() + 10)
        assert idle.is_closed()
        assert not stopping.dead
        assert until(lambda: site.server.conns == 1), "those that drain are counted"
        GO.set()
        answer = busy.answer()
        assert answer.content == b"app" and answer.closes
        stopping.join(5)
        assert stopping.dead
        assert not site.log.of("warning")


def test_the_end_of_the_drain_cuts() -> None:
    with serve(named("app")) as site, site.connect() as busy:
        GO.clear()
        busy.request("GET", "/slow")
        until(lambda: site.conns)
        site.stage.stop(time.monotonic() + 0.2)
        assert busy.is_closed()
        assert "cut at the end of the drain" in site.log.of("warning")[0].message


# Under load


def test_no_request_is_lost_in_reloads_under_load() -> None:
    """Keep-alive clients, some of which pipeline, and new connections, over reloads without a pause."""
    reloads, wanted = 24, 50_000
    done = Event()
    served = [0]
    failures: list[BaseException] = []
    request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

    def keep(depth: int) -> None:
        try:
            client = Client(dial(where))
            while not done.is_set():
                client.send(request * depth)
                for _ in range(depth):
                    head = client.exactly(size)
                    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\nhello"), head
                    served[0] += 1
            client.close()
        except BaseException as error:
            failures.append(error)

    def come_and_go() -> None:
        try:
            while not done.is_set():
                with Client(dial(where)) as client:
                    client.send(request)
                    assert client.answer().content == b"hello"
                    served[0] += 1
                gevent.sleep(0.001)
        except BaseException as error:
            failures.append(error)

    with staged() as stages:
        app = scripted(hello)
        mapping = config(rules=[{"handlets": [app]}], server={"keepalive_requests": 10_000_000})
        stages.begin(mapping)
        where = stages.current.address
        size = _size_of(where, request)
        clients = [gevent.spawn(keep, depth) for depth in (1, 1, 1, 1, 8, 8, 16, 16)]
        clients += [gevent.spawn(come_and_go) for _ in range(2)]
        for number in range(1, reloads + 1):
            part = wanted * number // reloads
            until(lambda part=part: failures or served[0] >= part, 20)  # type: ignore[misc]
            stages.begin(mapping)
        done.set()
        gevent.joinall(clients, timeout=10)
        stages.settle()
        assert failures == []
        assert served[0] >= wanted
        assert all(not site.log.of("error") and not site.log.of("warning") for site in stages.sites)


def _size_of(where: str, request: bytes) -> int:
    """Bytes of the answer."""
    with Client(dial(where)) as client:
        client.send(request)
        client._more()
        return len(client.buffer)


def test_what_waits_in_the_queue_is_answered_at_the_end() -> None:
    """Connections that only the kernel has accepted yet: to close the socket would reset them."""
    with serve(hello) as site:
        host, port = site.server.addresses[0].split(":")
        clients = [RawSocket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(40)]
        for client in clients:  # nothing of this lets the hub run
            client.connect((host, int(port)))
            client.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        site.stage.stop(time.monotonic() + 10)
        for client in clients:
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
            client.close()
