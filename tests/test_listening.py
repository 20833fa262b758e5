"""What listens: addresses, proxies, TLS policies, and gates that come, retire and close."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hemi.errors import EnvError
from hemi.listeners import Listener, listening_keys
from hemi.listening import StreamListening
from tests import samples


class FakeGate:
    """Notes what is done with it."""

    def __init__(self, owner: Port, listener: Listener) -> None:
        self.owner = owner
        self.listener = listener
        self.greenlets: list[int] = []
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")

    def close(self) -> None:
        self.done.append("close")

    def join(self, deadline: float) -> None:
        self.done.append("join" if self.listener.users == 0 else "join too early")


sandbox = samples.Sandbox()

with sandbox:

    class Port(StreamListening, kind="servers", sign="port"):
        """Listens, and takes datagrams at the same addresses."""

        gates: Sequence[FakeGate]
        gate_class = FakeGate

        def alpn(self) -> tuple[str, ...]:
            return ("echo",)


@pytest.fixture(autouse=True)
def sandboxed() -> Iterator[None]:
    with sandbox:
        yield


def port(more: str = "", address: str = '"127.0.0.1:0"') -> Any:
    text = f"servers: {{it: {{type: port, address: {address}{', ' + more if more else ''}}}}}"
    return samples.load(text).members["servers"]["it"]


def problems(more: str, address: str = '"127.0.0.1:0"') -> list[str]:
    return samples.problems(
        f"servers: {{it: {{type: port, address: {address}{', ' + more if more else ''}}}}}"
    )


@pytest.mark.parametrize(
    ("more", "address", "problem"),
    [
        ("", '["127.0.0.1:1", "127.0.0.1:1"]', "must not name the same address twice"),
        ("tls_client_auth: require", '":1"', 'tls_client_auth "require" needs tls_client_ca'),
        ("tls: true, tls_ciphers: nothing", '":1"', "ciphers must be an OpenSSL cipher list"),
    ],
)
def test_problems(more: str, address: str, problem: str) -> None:
    (found,) = problems(more, address)
    assert problem in found


def test_the_files_of_a_policy_count_with_tls_only() -> None:
    authority = "tls_client_auth: request, tls_client_ca: /is/not/there.pem"
    assert problems(authority) == []
    (found,) = problems(f"tls: true, {authority}")
    assert "/is/not/there.pem" in found


def test_the_policy() -> None:
    one = port("tls_min_version: '1.3', tls_ciphers: ECDHE+AESGCM, tls_client_crl: x.pem")
    policy = one.tls_policy()
    assert (policy.min_version, policy.ciphers, policy.client_auth) == ("1.3", "ECDHE+AESGCM", "off")
    assert (policy.client_ca, policy.client_crl, policy.alpn) == ("", "/top/x.pem", ("echo",))


def test_proxies() -> None:
    one = port(
        "proxy_protocol_from: [10.0.0.0/8, '::ffff:10.0.0.0/104', 'fe80::/10']"
    )  # two of them are the same
    one.prepare()
    assert [one.is_proxy(host) for host in ("10.1.1.1", "::ffff:10.1.1.1", "fe80::1", "unix:")] == [True] * 4
    assert not one.is_proxy("11.0.0.1") and not one.is_proxy("127.0.0.1")


def test_the_life_of_gates(tmp_path: Path) -> None:
    one = port("max_concurrent_conns: 3", f'["127.0.0.1:0", "{tmp_path}/s"]')
    assert one.addresses == [] and one.conns == 0
    one.prepare()
    one.take_addresses()
    assert one.addresses == one.urls() == [gate.listener.bound for gate in one.gates]
    assert one.addresses[1] == f"{tmp_path}/s"
    one.start()
    for gate in one.gates:
        gate.greenlets.append(1)
    assert one.conns == 2 and not one.is_full()
    one.gates[1].greenlets.append(2)
    assert one.conns == 3 and one.is_full()
    one.stop(monotonic())
    one.stop(monotonic())
    assert [gate.done for gate in one.gates] == [["start", "close", "join"]] * 2
    assert not (tmp_path / "s").exists()


def test_what_could_not_be_prepared_gives_back_what_it_has(tmp_path: Path) -> None:
    one = port("", f'["127.0.0.1:0", "{tmp_path}/there/is/no/folder"]')
    with pytest.raises(EnvError, match="cannot listen on"):
        one.take_addresses()
    assert len(one.gates) == 1 and len(listening_keys()) == 1
    one.stop(monotonic())
    assert not listening_keys()


def test_who_retires() -> None:
    old, new = port("", '["127.0.0.1:0", "@gorox-test-old"]'), port("", '["127.0.0.1:0", "@gorox-test-new"]')
    for one in (old, new):
        one.take_addresses()
    assert list(new.retiring(old.stage, Port)) == [(old, old.gates[0], new.gates[0])]
    assert list(new.retiring(samples.load("{}"), Port)) == []
    for one in (old, new):
        one.stop(monotonic())


def test_datagrams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = port("uds_mode: '0600'", f'["127.0.0.1:0", "{tmp_path}/d"]')
    listeners = list(one.take_datagrams())
    assert [listener.sock.type for listener in listeners] == [socket.SOCK_DGRAM] * 2
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o600
    for listener in listeners:
        listener.release()
    monkeypatch.setattr("hemi.listeners.share", 2)
    (listener,) = one.take_datagrams()  # a path is the first process's
    assert not listener.address.path
    listener.release()
