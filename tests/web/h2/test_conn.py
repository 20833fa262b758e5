"""Connections of HTTP/2: how they begin, move to a newer stage, and end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import gevent
import greenlet as greenlets
import pytest
from gevent import ssl
from gevent.event import Event

from hemi.web.request import Request
from hemi.web.response import Response
from tests.h2client import H2Client
from tests.h2raw import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    NO_ERROR,
    PING,
    POST,
    PREFACE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    Ended,
    RawClient,
    frame,
    settings,
)
from tests.tlskit import Authority
from tests.web.proxy.proxykit import proxying
from tests.webkit import Client, Site, config, dial, hello, load, running, serve, until

LAST = 0x7FFFFFFF


def last_id(one: Any) -> int:
    return int.from_bytes(one.payload[:4], "big")


# Beginnings


def test_both_versions_on_the_same_address() -> None:
    with serve() as site, site.connect() as old, H2Client(dial(site.address)) as new:
        old.request()
        new.request()
        assert old.answer().content == new.answer().content == b"hello"
        names = {type(conn).__name__ for conn in site.conns}
        assert names == {"Server1Conn", "Server2Conn"}


@pytest.mark.parametrize("at", [1, 3, 18, 23, 24, 30])
def test_the_preface_in_two_pieces(at: int) -> None:
    data = PREFACE + settings()
    with serve() as site, RawClient(site, begin=False) as client:
        client.send(data[:at])
        until(lambda: site.conns)
        gevent.sleep(0.005)
        client.send(data[at:], client.headers(1))
        assert client.response(1)[1] == b"hello"


def test_a_request_with_the_preface() -> None:
    with serve() as site, RawClient(site, begin=False) as client:
        client.send(PREFACE, settings(), client.headers(1))
        assert client.response(1)[1] == b"hello"


def test_no_preface_behind_a_request_of_http_1() -> None:
    with serve() as site, site.connect() as client:
        client.request()
        client.answer()
        client.send(PREFACE + settings())
        assert client.answer().status == 505
        assert client.is_closed()


def test_alpn(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("localhost", "localhost")
    mapping = config()
    mapping["servers"]["main"]["tls"] = True
    mapping["webapps"]["app"] |= {
        "tls_certificate": identity.certificate,
        "tls_private_key": identity.private_key,
    }

    def talk(site: Site, *names: str) -> str | None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.file)
        if names:
            context.set_alpn_protocols(list(names))
        sock = dial(site.address, tls=context)
        chosen: str | None = sock.selected_alpn_protocol()
        client: Any = H2Client(sock) if chosen == "h2" else Client(sock)
        with client:
            client.request()
            assert client.answer().status == 200
        return chosen

    with running(mapping) as site:
        assert talk(site, "http/1.1", "h2") == "h2"
        assert talk(site, "http/1.1") == "http/1.1"
        assert talk(site) is None
    mapping["servers"]["main"]["protocols"] = ["http/1.1"]
    with running(mapping) as site:
        assert talk(site, "h2", "http/1.1") == "http/1.1"
    mapping["servers"]["main"]["protocols"] = ["h2"]
    with running(mapping) as site:
        assert talk(site, "http/1.1", "h2") == "h2"


def test_what_we_say_of_ourselves() -> None:
    server = {"h2_max_streams": 7, "h2_window": "100K", "h2_table_size": "1K", "max_head_size": "9K"}
    with serve(server=server) as site, RawClient(site) as client:
        assert client.settings == {1: 1024, 3: 7, 4: 102400, 5: 16384, 6: 9216, 8: 1, 9: 1}
        (conn,) = site.conns
        assert repr(conn) == f"<Server2Conn 127.0.0.1:{conn.peer.port} idle 0 served=0>"


# Many streams


def test_streams_that_wait_do_not_hold_up_the_others() -> None:
    go = Event()

    def app(req: Request, resp: Response) -> bool:
        if req.path == "/slow":
            go.wait(10)
        resp.send(req.path)
        return True

    with serve(app) as site, H2Client(dial(site.address)) as client:
        slow = [client.request("GET", "/slow") for _ in range(50)]
        for number in range(50):
            exchange = client.request("GET", f"/{number}")
            assert client.answer(exchange=exchange).content == f"/{number}".encode()
        go.set()
        for exchange in slow:
            assert client.answer(exchange=exchange).content == b"/slow"
        (conn,) = site.conns
        until(lambda: conn.idle)
        assert conn.served == 100 and not conn.streams


def test_streams_refused_before_the_client_knows_the_limit_are_no_offence() -> None:
    go = Event()

    def app(req: Request, resp: Response) -> bool:
        go.wait(10)
        return hello(req, resp)

    with (
        serve(app, server={"h2_max_streams": 10, "h2_max_resets": 10}) as site,
        RawClient(site, begin=False) as client,
    ):
        client.send(PREFACE, settings(), b"".join(client.headers(sid) for sid in range(1, 201, 2)))
        for _ in range(90):
            assert client.until(RST_STREAM).code == REFUSED_STREAM
        client.send(frame(SETTINGS, ACK))
        go.set()
        assert client.response(19)[1] == b"hello"
        assert client.is_alive()


def test_an_app_that_is_killed_or_fails_hurts_only_its_stream() -> None:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/fail":
            raise SystemExit(3)
        return hello(req, resp)

    with serve(app) as site, H2Client(dial(site.address)) as client:
        bad, good = client.request("GET", "/fail"), client.request("GET", "/")
        assert client.answer(exchange=good).content == b"hello"
        assert client.answer(exchange=bad).status == 500


# Moving and leaving

GO = Event()


def named(name: str) -> Any:
    def app(req: Request, resp: Response) -> bool:
        if req.path == "/slow":
            GO.wait(10)
        resp.send(name)
        return True

    return app


@contextmanager
def reloaded() -> Iterator[tuple[Any, list[Any]]]:
    """A function that begins a stage, the old one stopping in the background."""
    sites: list[Site] = []
    stopping: list[Any] = []

    def begin(app: Any, drain: float = 10.0, **more: Any) -> Site:
        site = Site(load(config(named(app) if isinstance(app, str) else app, **more)))
        old = sites[-1].stage if sites else None
        site.stage.start(old)
        sites.append(site)
        if old is not None:
            stopping.append(gevent.spawn(old.stop, time.monotonic() + drain))
            gevent.sleep(0.01)
        return site

    GO.clear()
    try:
        yield begin, stopping
    finally:
        GO.set()
        gevent.joinall(stopping, timeout=10)
        for site in sites:
            site.stage.stop(time.monotonic() + 0.3)


def ask(client: H2Client, path: str = "/") -> bytes:
    return client.answer(exchange=client.request("GET", path)).content


def test_idle_connections_move_to_the_new_stage() -> None:
    with reloaded() as (begin, stopping):
        old = begin("old")
        with H2Client(dial(old.address)) as client:
            assert ask(client) == b"old"
            until(lambda: all(conn.idle for conn in old.conns))
            new = begin("new")
            stopping[0].join(5)
            assert stopping[0].dead and len(new.conns) == 1
            assert ask(client) == b"new"
            assert client.goaway is None
            (conn,) = new.conns
            (gate,) = new.server.gates
            assert gate.members == {conn, conn.channel} and len(gate.greenlets) == 1


def test_busy_connections_are_told_twice_and_finish_on_the_old_stage() -> None:
    with reloaded() as (begin, stopping):
        old = begin("old")
        with RawClient(old) as client:
            client.send(client.headers(1, [*GET[:2], (":path", "/slow"), GET[3]]))
            client.ping()
            begin("new")
            first = client.until(GOAWAY)
            assert (last_id(first), first.code) == (LAST, NO_ERROR)
            # What is on its way is served still, and then no more.
            client.send(client.headers(3))
            assert client.response(3)[1] == b"old"
            client.send(frame(PING, ACK, 0, b"leaving!"))
            second = client.until(GOAWAY)
            assert (last_id(second), second.code) == (3, NO_ERROR)
            client.send(client.headers(5), frame(DATA, END_STREAM, 5, b"x"))
            client.ping()
            assert not stopping[0].dead
            GO.set()
            assert client.response(1)[1] == b"old"
            with pytest.raises(Ended):
                client.until(GOAWAY)
        stopping[0].join(5)
        assert stopping[0].dead


def test_reloads_under_load_lose_no_request() -> None:
    with reloaded() as (begin, stopping):
        address = begin("0").address
        seen: set[bytes] = set()
        running = True

        def load_it() -> int:
            number = 0
            client = H2Client(dial(address))
            while running:
                if client.goaway is not None:
                    client.close()
                    client = H2Client(dial(address))
                exchanges = [client.request("GET", f"/{number}") for _ in range(8)]
                for exchange in exchanges:
                    seen.add(client.answer(exchange=exchange).content)
                number += 8
            client.close()
            return number

        clients = [gevent.spawn(load_it) for _ in range(4)]
        for number in range(1, 6):
            gevent.sleep(0.1)
            begin(str(number))
        until(lambda: b"5" in seen)
        running = False
        gevent.joinall(clients, timeout=10, raise_error=True)
        assert all(client.value > 100 for client in clients)
        assert seen == {b"0", b"1", b"2", b"3", b"4", b"5"}
        gevent.joinall(stopping, timeout=10, raise_error=True)
        assert all(one.dead for one in stopping)


def test_a_real_client_loses_nothing_and_sends_nothing_twice() -> None:
    """The proxy as a client: requests that may not be repeated, on connections that are told to leave all the time."""
    served: Counter[str] = Counter()

    def counting(req: Request, resp: Response) -> bool:
        served[f"{req.path} {req.read().decode()}"] += 1
        gevent.sleep(0.02)
        resp.send("done")
        return True

    with reloaded() as (begin, stopping):
        address = begin(counting).address
        wanted: Counter[str] = Counter()
        with proxying(
            address, backend={"version": "2", "max_fails": 0}, address="127.0.0.2:0", max_retries=0
        ) as site:
            running = True

            def load_it(who: int) -> None:
                with site.connect() as client:
                    while running:
                        number = len(wanted)
                        wanted[f"/{who} {number}"] += 1
                        client.request("POST", f"/{who}", content=[str(number).encode()])
                        answer = client.answer()
                        assert (answer.status, answer.content) == (200, b"done"), site.log.entries

            clients = [gevent.spawn(load_it, who) for who in range(16)]
            for _ in range(6):
                before = served.total()
                until(lambda before=before: served.total() > before + 20)
                begin(counting)
            running = False
            gevent.joinall(clients, timeout=30, raise_error=True)
        assert served == wanted
        gevent.joinall(stopping, timeout=10, raise_error=True)


def test_a_client_that_does_not_answer_the_ping_is_told_in_a_second() -> None:
    with reloaded() as (begin, _):
        old = begin("old")
        with RawClient(old) as client:
            client.send(client.headers(1, [*GET[:2], (":path", "/slow"), GET[3]]))
            client.ping()
            begin("new")
            assert last_id(client.until(GOAWAY)) == LAST
            assert last_id(client.until(GOAWAY)) == 1


def test_what_lasts_longer_than_the_drain_is_cut() -> None:
    with reloaded() as (begin, stopping):
        old = begin("old")
        with RawClient(old) as client:
            client.send(client.headers(1, [*GET[:2], (":path", "/slow"), GET[3]]))
            client.ping()
            begin("new", drain=0.1)
            stopping[0].join(5)
            assert stopping[0].dead
            with pytest.raises((Ended, AssertionError)):
                client.response(1)
        assert "cut" in old.log.of("warning", "gate")[0].message


def test_a_stage_that_stops_says_goodbye_and_finishes() -> None:
    GO.clear()
    with serve(named("only")) as site:
        client, idle = H2Client(dial(site.address)), H2Client(dial(site.address))
        with client, idle:
            ask(idle)
            exchange = client.request("GET", "/slow")
            client.settle()
            until(lambda: any(conn.streams for conn in site.conns))
            stopping = gevent.spawn(site.stage.stop, time.monotonic() + 10)
            assert idle.is_closed() and [code for code, _ in idle.goaways] == [0, 0]
            GO.set()
            assert client.answer(exchange=exchange).content == b"only"
            assert client.is_closed() and [last for _, last in client.goaways] == [LAST, 1]
            idle.close()
            client.close()
            stopping.join(5)
            assert stopping.dead and not site.log.of("warning")


def test_the_last_request_of_a_connection() -> None:
    with serve(server={"keepalive_requests": 2}) as site, RawClient(site) as client:
        client.send(client.headers(1))
        assert client.response(1)[1] == b"hello"
        client.send(client.headers(3))
        assert last_id(client.until(GOAWAY)) == LAST
        client.send(client.headers(5))
        assert client.response(5)[1] == b"hello"
        client.send(frame(PING, ACK, 0, b"leaving!"))
        assert last_id(client.until(GOAWAY)) == 5


def test_a_goaway_never_promises_more_than_the_one_before() -> None:
    with serve(server={"keepalive_timeout": "100ms"}) as site, RawClient(site) as client:
        client.send(client.headers(1))
        assert last_id(client.until(GOAWAY)) == 1
        client.send(client.headers(3), frame(PING, 0, 0, b"short"))
        try:
            assert last_id(client.until(GOAWAY)) == 1
        except Ended:
            pass


def test_connections_count_and_are_gone_when_they_end() -> None:
    with serve() as site:
        with H2Client(dial(site.address)) as client:
            assert ask(client) == b"hello"
            assert site.server.conns == 1
        until(lambda: not site.conns and site.server.conns == 0)
        (gate,) = site.server.gates
        assert not gate.members and not gate.greenlets


def test_exchanges_leave_no_garbage() -> None:
    import gc

    with serve() as site, H2Client(dial(site.address)) as client:
        ask(client)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                ask(client)
                client.answer(exchange=client.request("POST", "/", content=b"x" * 100))
            until(lambda: all(conn.idle for conn in site.conns))
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [one for one in gc.garbage if type(one).__module__.startswith("hemi.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert not left


def test_trusted_proxies_are_believed() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(f"{req.src_host} {req.scheme}")
        return True

    fields = [*GET, ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")]
    with serve(app, server={"trusted_proxies": ["127.0.0.0/8"]}) as site, RawClient(site) as client:
        for sid in (1, 3):
            client.send(client.headers(sid, fields))
            assert client.response(sid)[1] == b"1.2.3.4 https"
    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1, fields))
        assert client.response(1)[1] == b"127.0.0.1 http"


def test_expectations_and_contents_of_no_size() -> None:
    def app(req: Request, resp: Response) -> bool:
        resp.send(f"{req.content_size} {len(req.content())}")
        return True

    with serve(app) as site, RawClient(site) as client:
        client.send(client.headers(1, POST, END_HEADERS), frame(DATA, END_STREAM, 1))
        assert client.response(1)[1] == b"-1 0"
        client.send(client.headers(3, [*POST, ("content-length", "0")]))
        assert client.response(3)[1] == b"0 0"
        client.send(
            client.headers(5, [*POST, ("content-length", "2")], END_HEADERS),
            frame(DATA, END_STREAM, 5, b"xy"),
        )
        assert client.response(5)[1] == b"2 2"


def test_what_an_exchange_costs_in_calls(tmp_path: Path) -> None:
    """As tests/test_budget.py for HTTP/1: exact, where times are noise. With limits and log, 16 streams at a time."""
    calls: Counter[str] = Counter()

    def profile(frame_: FrameType, event: str, arg: Any) -> None:
        if event == "call" and "/hemi/" in frame_.f_code.co_filename:
            calls[frame_.f_code.co_qualname] += 1

    mapping = config(stage={"access_log": "access"})
    mapping["loggers"] = {"access": {"target": str(tmp_path / "access.log"), "format": "combined"}}
    with running(mapping, str(tmp_path)) as site, RawClient(site) as client:
        fields = [*GET, *[(f"x-field-{number}", "value") for number in range(8)]]
        client.send(client.headers(1, fields))
        client.response(1)
        me = gevent.getcurrent()

        def tracer(event: str, args: Any) -> None:
            sys.setprofile(None if args[1] is me else profile)

        previous = greenlets.settrace(tracer)
        try:
            for start in (3, 35):
                sids = range(start, start + 32, 2)
                client.send(b"".join(client.headers(sid, fields) for sid in sids))
                for sid in sids:
                    client.until(DATA, sid)
        finally:
            greenlets.settrace(previous)
            sys.setprofile(None)
        assert site.log.entries == []
    number = sum(calls.values()) / 32
    report = "\n".join(f"{count / 32:6.2f} {name}" for name, count in calls.most_common())
    assert 5 < number <= 24, f"{number} calls:\n{report}"
