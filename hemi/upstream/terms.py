"""What a configuration says about a backend: its properties, what fits together, and what is made of them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

from hemi.component import Component, prop
from hemi.resolv import ResolveError, clean_name
from hemi.tls import MinVersion
from hemi.upstream import balancers
from hemi.upstream.checks import Check
from hemi.upstream.clienttls import ClientPolicy, check_policy
from hemi.upstream.node import Node
from hemi.upstream.ranges import parse_ranges
from hemi.upstream.sticky import LEAST_SECRET
from hemi.values import Address, Children, Duration, Parts, Path, Secret, Template

__all__ = ["BackendTerms"]


class BackendTerms(Component):
    """The declarations of all backends."""

    alpn: ClassVar[tuple[str, ...]] = ()
    """The protocols to offer in TLS handshakes, best first."""

    nodes: Children[Node] = prop([], "The servers.", inherit=False)
    nodes_file: Path | None = prop(
        None,
        "File with further nodes, a line each: ADDRESS [weight=N] [tier=N] [max_conns=N].",
        inherit=False,
    )
    nodes_name: Address | None = prop(
        None, "HOST:PORT; each address that the name has (A, AAAA) is a node.", inherit=False
    )
    nodes_service: str | None = prop(
        None,
        "Name of SRV records, such as _http._tcp.example.com; their priorities become tiers.",
        inherit=False,
    )
    discovery_interval: Duration = prop("1s", "How often to look for changes of nodes.", least="10ms")

    balancer: Literal[
        "round_robin", "random", "random_two", "least_conn", "least_time", "ip_hash", "hash", "first"
    ] = prop("round_robin", "How to choose a node.")
    hash_key: Template | None = prop(None, "What the balancer hash goes by.", inherit=False)
    sticky_secret: Secret | None = prop(
        None,
        "Keeps clients at their node by tags signed with this; the same for all machines.",
        inherit=False,
    )
    slow_start: Duration = prop("0s", "How long a node that came up takes to get its whole weight.")
    max_conns: int = prop(0, "How many exchanges a node may have at a time, per worker; 0 is any.", least=0)
    queue_size: int = prop(100, "How many may wait while all nodes have max_conns.", least=0)
    queue_timeout: Duration = prop("5s", "How long one may wait for a node.", least="10ms")

    dial_timeout: Duration = prop("5s", "How long connecting may take, TLS included.", least="10ms")
    write_timeout: Duration = prop("60s", "How long a node may take nothing.", least="100ms")
    idle_conns: int = prop(64, "How many idle connections to keep to a node, per worker.", least=0)
    idle_timeout: Duration = prop("60s", "How long an idle connection is kept.")
    conn_age: Duration = prop("1h", "After how long a connection is not used again.", least="1s")
    conn_uses: int = prop(0, "After how many uses a connection is closed; 0 is any.", least=0)

    max_fails: int = prop(
        3, "After how many failures in a row a node is left alone for fail_timeout; 0 is never.", least=0
    )
    fail_timeout: Duration = prop(
        "10s", "How long a failing node is left alone; twice as long every further time.", least="10ms"
    )
    fail_timeout_limit: Duration = prop("1m", "The longest that a failing node is left alone.", least="10ms")
    fail_rate: float = prop(
        0.0, "The part of failures within fail_window that has the same effect; 0 is off.", least=0, most=1
    )
    fail_window: Duration = prop(
        "10s", "What fail_rate is about; windows of less than 20 say nothing.", least="1s"
    )
    fail_statuses: list[str] = prop([], 'Statuses that count as failures, such as 503 or "500-599".')
    fail_latency: Duration = prop("0s", "Answers that take longer count as failures; 0 is off.")
    probes: int = prop(
        1, "How many exchanges may find out at a time whether a failing node works again.", least=1, most=100
    )
    checks: Parts[Check] = prop([], "Active checks: http, grpc, tcp, tls, udp. A node must pass all.")
    panic_threshold: int = prop(
        1,
        "When fewer percent of the nodes are up, all are used: the checks may be wrong; 0 is never.",
        least=0,
        most=100,
    )

    tls: bool = prop(False, "Speak TLS to the nodes.", inherit=False)
    tls_server_name: str | None = prop(
        None, "The name that certificates of nodes must have, and that SNI says; their hosts when missing."
    )
    tls_verify: bool = prop(True, "Verify the certificates of nodes.", inherit=False)
    tls_ca: Path | None = prop(
        None,
        "PEM file with the authorities that nodes' certificates must come from; the system's.",
        inherit=False,
    )
    tls_certificate: Path | None = prop(None, "PEM file with a certificate to show to nodes.", inherit=False)
    tls_private_key: Path | None = prop(None, "PEM file with its key, if not in the same.", inherit=False)
    tls_password: Secret | None = prop(None, "What the key is encrypted with.", inherit=False)
    tls_min_version: MinVersion = prop("1.2", "The oldest version of TLS.", inherit=False)
    tls_ciphers: str = prop("", "The cipher suites for TLS 1.2; good ones when empty.", inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together."""
        sources = (self.nodes_file, self.nodes_name, self.nodes_service)
        if not self.nodes and all(source is None for source in sources):
            yield "needs nodes, nodes_file, nodes_name or nodes_service"
        addresses = [node.address for node in self.nodes]
        for address in sorted({str(one) for one in addresses if addresses.count(one) > 1}):
            yield "nodes", f'must not have the same address twice: "{address}"'
        if self.nodes_name is not None and not (self.nodes_name.host and self.nodes_name.port):
            yield "nodes_name", f'must be HOST:PORT, not "{self.nodes_name}"'
        if self.nodes_service is not None:
            try:
                clean_name(self.nodes_service)
            except ResolveError:
                yield (
                    "nodes_service",
                    f'must be a name such as _http._tcp.example.com, not "{self.nodes_service}"',
                )
        if (self.balancer == "hash") != (self.hash_key is not None):
            yield "hash_key", 'is for the balancer "hash", which needs it'
        if self.sticky_secret is not None and len(self.sticky_secret) < LEAST_SECRET:
            yield "sticky_secret", f"must have at least {LEAST_SECRET} characters"
        titles = [check.title for check in self.checks]
        if len(set(titles)) != len(titles):
            yield "checks", "must not have the same check twice"
        try:
            parse_ranges(self.fail_statuses)
        except ValueError as error:
            yield "fail_statuses", str(error)
        problem = check_policy(self.tls_policy())
        if problem:
            yield problem
        if self.tls and self.tls_verify and self.tls_server_name is None:
            for node in self.nodes:
                if node.address.path and node.tls_server_name is None:
                    yield "tls", f'needs tls_server_name for node "{node.address}", or tls_verify: false'

    def tls_policy(self) -> ClientPolicy:
        """How to speak TLS with the nodes."""
        return ClientPolicy(
            verify=self.tls_verify,
            ca=self.tls_ca or "",
            certificate=self.tls_certificate or "",
            private_key=self.tls_private_key or "",
            password=self.tls_password or "",
            min_version=self.tls_min_version,
            ciphers=self.tls_ciphers,
            alpn=self.alpn,
        )

    def make_balancer(self) -> balancers.Balancer:
        """The balancer that the properties name."""
        if self.balancer == "hash" and self.hash_key is not None:
            return balancers.Hashed(self.hash_key)
        if self.balancer == "ip_hash":
            return balancers.Hashed(_address_of)
        plain: dict[str, Callable[[], balancers.Balancer]] = {
            "random": balancers.Random,
            "random_two": balancers.RandomTwo,
            "least_conn": balancers.LeastConn,
            "least_time": balancers.LeastTime,
            "first": balancers.First,
        }
        return plain.get(self.balancer, balancers.RoundRobin)()


def _address_of(subject: Any) -> str:
    return str(subject.src_host)
