"""gRPC through http_proxy, end to end: grpcio as client and as server, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.h2node import Exchange, Node2
from tests.processes.grpcpeer import ROCK
from tests.running import TOP_DIR
from tests.tlskit import Authority
from tests.web.proxy.proxykit import node_of, proxying
from tests.webkit import Site, until

PEER = str(TOP_DIR / "tests/processes/grpcpeer.py")
V2 = {"version": "2"}


class Server:
    """A server of gRPC."""

    def __init__(self, *files: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, PEER, "node", *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with gevent.Timeout(20):
            self.address = f"127.0.0.1:{self.process.stdout.readline().strip()}"  # type: ignore[union-attr]
        self.reader = gevent.spawn(self._read)

    def _read(self) -> None:
        for line in self.process.stdout:  # type: ignore[union-attr]
            self.lines.append(line.strip())

    def say(self, word: str) -> None:
        self.process.stdin.write(word + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]


@contextmanager
def serving(*files: str) -> Iterator[Server]:
    server = Server(*files)
    try:
        yield server
    finally:
        server.stop()


def begin(site: Site, *words: str) -> Any:
    kind, *rest = words if len(words) > 1 else ("client", *words)
    return subprocess.Popen(
        [sys.executable, PEER, kind, site.address, *rest], stdout=subprocess.PIPE, text=True
    )


def end(client: Any) -> Any:
    """What a client says at its end."""
    output, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    return json.loads(output.splitlines()[-1])


def ask(site: Site, *words: str) -> Any:
    return end(begin(site, *words))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_calls_of_all_types(server: Server) -> None:
    with proxying(server.address, backend=V2) as site:
        answer, first, blob, last = ask(site, "unary")
        assert (answer, first, blob, last["x-last"]) == ("cba", "me", "00ff", "z")
        downs, up, boths = ask(site, "types")
        assert downs == [len(ROCK) + 1] * 5
        assert up == "50 5000"
        assert boths == ["a!", "b!", "c!"]
        assert ask(site, "turns") == [f"{number}!" for number in range(10)]
        assert not site.log.of("error")
        told = node_of(site).describe()
        assert told["in_flight"] == 0 and told["conns"] == 1


def test_big_streams(server: Server) -> None:
    with proxying(server.address, backend=V2) as site:
        assert ask(site, "big") == [100 * len(ROCK) + 190, f"100 {100 * len(ROCK)}"]


def test_deadlines_and_cancelling_reach_the_server(server: Server) -> None:
    with proxying(server.address, backend=V2) as site:
        del server.lines[:]
        assert ask(site, "deadline") == [True, "DEADLINE_EXCEEDED", True]
        until(lambda: server.lines == ["hangs", "cancelled"])
        assert ask(site, "cancel") == ["begun", "CANCELLED"]
        until(lambda: server.lines == ["hangs", "cancelled"] * 2)
        until(lambda: node_of(site).in_flight == 0)


def test_errors_of_the_server_arrive(server: Server) -> None:
    with proxying(server.address, backend=V2) as site:
        fail, missing, late = ask(site, "errors")
        assert fail[:2] == ["NOT_FOUND", "ungültig: 100%"]
        assert fail[2]["x-why"] == "so"
        assert missing[0] == "UNIMPLEMENTED"
        assert late == ["DATA_LOSS", "lost", ["one"]]


def test_errors_of_the_proxy_are_told_in_grpc(server: Server) -> None:
    def hang(exchange: Exchange) -> None:
        exchange.is_reset.wait(10)

    def reset(exchange: Exchange) -> None:
        exchange.content()
        exchange.reset()

    with proxying("127.0.0.1:1", backend=V2) as site:
        code, details = ask(site, "status")
        assert code == "UNAVAILABLE" and "behind this one" in details
    with Node2(hang) as node, proxying(node.address, backend=V2, head_timeout="100ms") as site:
        assert ask(site, "status")[0] == "DEADLINE_EXCEEDED"
        assert node.exchanges[0]["te"] == "trailers"
        assert node.exchanges[0]["content-type"] == "application/grpc"
        assert float(node.exchanges[0]["grpc-timeout"][:-1]) > 0
    with Node2(reset) as node, proxying(node.address, backend=V2) as site:
        assert ask(site, "status")[0] == "UNAVAILABLE"


def test_no_call_is_lost_when_a_server_goes_away_gently(server: Server) -> None:
    with (
        serving() as other,
        proxying(server.address, other.address, backend=V2) as site,
    ):
        client = begin(site, "steady")
        node = node_of(site, 1)
        until(lambda: node.leases > 10)
        other.say("stop")
        done, failed = end(client)
        # What grpcio has taken but not begun when it is told to stop it answers with CANCELLED. We lost nothing then:
        # our errors are UNAVAILABLE, and what a server has answered is asked of no other.
        assert done and [code for code, *_ in failed if code != "CANCELLED"] == [], site.log.entries
        assert len(failed) <= 4
        until(lambda: "stopped" in other.lines)


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("localhost", "localhost")
    pem = {"tls_certificate": identity.certificate, "tls_private_key": identity.private_key}
    backend = {"version": "2", "tls": True, "tls_ca": authority.file, "tls_server_name": "localhost"}
    with (
        serving(str(identity.certificate), str(identity.private_key)) as server,
        proxying(server.address, backend=backend, server={"tls": True}, webapp=pem) as site,
    ):
        assert ask(site, "secure-client", str(authority.file), "unary")[0] == "cba"
