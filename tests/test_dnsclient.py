"""One question to one server: lies, garbage, cut answers."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from hemi.dnsclient import DNSClient, DNSFailure
from tests.dnsserver import DNSServer


@pytest.fixture
def server() -> Iterator[DNSServer]:
    one = DNSServer()
    yield one
    one.close()


def ask(server: DNSServer, name: str = "a.example.", kind: str = "A", timeout: float = 2.0) -> list[object]:
    return DNSClient().ask(name, kind, server.address, timeout).values


def test_an_answer(server: DNSServer) -> None:
    server.zone["a.example.", "A"] = ["192.0.2.1", "192.0.2.2"]
    values, ttl, is_absent = DNSClient().ask("a.example.", "A", server.address, 2.0)
    assert (sorted(values), ttl, is_absent) == (["192.0.2.1", "192.0.2.2"], 300.0, False)


def test_no_such_name_and_no_such_type(server: DNSServer) -> None:
    server.zone["a.example.", "AAAA"] = ["2001:db8::1"]
    assert DNSClient().ask("b.example.", "A", server.address, 2.0) == ([], 5.0, True)
    assert DNSClient().ask("a.example.", "A", server.address, 2.0) == ([], 5.0, False)


def test_aliases_are_followed_within_the_answer(server: DNSServer) -> None:
    server.aliases["a.example."] = "b.example."
    server.zone["b.example.", "A"] = ["192.0.2.1"]
    server.ttl = 7
    assert DNSClient().ask("a.example.", "A", server.address, 2.0) == (["192.0.2.1"], 7.0, False)


def test_services(server: DNSServer) -> None:
    server.zone["_x._tcp.a.", "SRV"] = ["10 5 8080 Host.Example.", "0 0 0 ."]
    assert set(ask(server, "_x._tcp.a.", "SRV")) == {(10, 5, 8080, "host.example"), (0, 0, 0, "")}


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_refusals(server: DNSServer, rcode: str) -> None:
    server.rcode = dns.rcode.from_text(rcode)
    with pytest.raises(DNSFailure, match=rcode):
        ask(server)


def test_an_old_server_without_edns(server: DNSServer) -> None:
    server.zone["a.example.", "A"] = ["192.0.2.1"]
    server.no_edns = True
    assert ask(server) == ["192.0.2.1"]


def test_no_answer(server: DNSServer) -> None:
    server.silent = True
    begun = monotonic()
    with pytest.raises(DNSFailure, match=r"127\.0\.0\.1 does not answer"):
        ask(server, timeout=0.1)
    assert monotonic() - begun < 1


def test_no_server(server: DNSServer) -> None:
    server.close()
    with pytest.raises(DNSFailure):
        ask(server, timeout=0.2)


def forge_id(message: dns.message.Message) -> dns.message.Message:
    message.id ^= 1
    return message


def forge_question(message: dns.message.Message) -> dns.message.Message:
    message.question = [dns.rrset.RRset(dns.name.from_text("evil.example."), 1, 1)]
    return message


def forge_flag(message: dns.message.Message) -> dns.message.Message:
    message.flags &= ~dns.flags.QR
    return message


@pytest.mark.parametrize("forge", [forge_id, forge_question, forge_flag])
def test_forged_answers_are_ignored(server: DNSServer, forge: object) -> None:
    server.zone["a.example.", "A"] = ["192.0.2.1"]
    server.before = [lambda message, wire: forge(dns.message.from_wire(wire)).to_wire()]  # type: ignore[operator]
    assert ask(server) == ["192.0.2.1"]
    assert server.sent_before == 1


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\xff" * 600])
def test_garbage_is_ignored(server: DNSServer, garbage: bytes) -> None:
    server.zone["a.example.", "A"] = ["192.0.2.1"]
    server.before = [lambda message, wire: garbage, lambda message, wire: wire[:20]]
    assert ask(server) == ["192.0.2.1"]


def test_a_flood_of_garbage_does_not_prolong_the_wait(server: DNSServer) -> None:
    server.before = [lambda message, wire: b"x"] * 1000
    server.silent = True
    begun = monotonic()
    with pytest.raises(DNSFailure):
        ask(server, timeout=0.2)
    assert monotonic() - begun < 2


def test_strangers_are_not_heard(server: DNSServer) -> None:
    """The right answer from another port."""
    server.zone["a.example.", "A"] = ["192.0.2.66"]
    server.from_elsewhere = True
    with pytest.raises(DNSFailure, match="does not answer"):
        ask(server, timeout=0.1)


def test_unrelated_records_are_no_answer(server: DNSServer) -> None:
    server.extra = [dns.rrset.from_text("bank.example.", 300, "IN", "A", "192.0.2.66")]
    server.zone["a.example.", "A"] = ["192.0.2.1"]
    assert ask(server) == ["192.0.2.1"]
    assert ask(server, "c.example.") == []


def test_a_cut_answer_is_asked_for_by_tcp(server: DNSServer) -> None:
    server.zone["a.example.", "A"] = [f"192.0.{number // 250}.{number % 250 + 1}" for number in range(500)]
    assert len(ask(server)) == 500
    assert server.by_tcp == 1


def test_tcp_that_ends_within_the_answer(server: DNSServer) -> None:
    server.zone["a.example.", "A"] = [f"192.0.2.{number}" for number in range(200)]
    server.cut_tcp = True
    with pytest.raises(DNSFailure, match="ends within"):
        ask(server)


def test_an_endless_chain(server: DNSServer) -> None:
    server.aliases["a.example."] = "a.example."
    with pytest.raises(DNSFailure, match="nonsense"):
        ask(server)
