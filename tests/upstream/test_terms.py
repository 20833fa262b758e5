"""What a configuration says about a backend: what is wrong, what is right, and the balancers it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hemi.errors import ConfigError
from hemi.source import Dirs
from tests.peer import Peer
from tests.upstream.kit import NODE, Running, exchange, listed, load, problems, subject

Run = Callable[..., Running]
Peers = Callable[..., Peer]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("b: {type: echo_backend}", "needs nodes, nodes_file, nodes_name or nodes_service"),
        (listed(NODE, NODE), 'nodes must not have the same address twice: "127.0.0.1:1"'),
        (listed('address: ":0"'), 'node ":0": address must have a port, not ":0"'),
        (listed("weight: 2"), "node: address is required"),
        (listed(NODE + ", wieght: 2"), 'unknown key "wieght", did you mean "weight"?'),
        (listed(NODE + ", weight: 0"), "weight must be 1 to 1000, not 0"),
        (listed(NODE + ", state: off"), 'state must be up, draining, down or disabled, not "off"'),
        (listed(NODE, more=", balancer: hash"), 'hash_key is for the balancer "hash", which needs it'),
        (listed(NODE, more=', hash_key: "$key"'), 'hash_key is for the balancer "hash"'),
        (listed(NODE, more=', balancer: hash, hash_key: "$kye"'), 'no variable $kye, did you mean "$key"?'),
        (listed(NODE, more=", balancer: fastest"), "balancer must be"),
        (listed(NODE, more=", sticky_secret: short"), "sticky_secret must have at least 16 characters"),
        (listed(NODE, more=", fail_statuses: [5xx]"), 'fail_statuses must have statuses such as 200 or "200-299"'),
        (listed(NODE, more=", checks: [tcp, tcp]"), "checks must not have the same check twice"),
        (listed(NODE, more=', nodes_name: ":80"'), 'nodes_name must be HOST:PORT, not ":80"'),
        (listed(NODE, more=", nodes_service: a..b"), "nodes_service must be a name such as _http._tcp"),
        (listed('address: "/a.sock"', more=", tls: true"), 'tls needs tls_server_name for node "/a.sock"'),
        (listed(NODE, more=", tls: true, tls_ca: /none"), '"/none" cannot be read: no such file or directory'),
    ],
)  # fmt: skip
def test_configurations_that_are_wrong(dirs: Dirs, text: str, problem: str) -> None:
    found = problems(text, dirs)
    assert len(found) == 1, found
    assert problem in found[0]


@pytest.mark.parametrize(
    "text",
    [
        listed(NODE, 'address: "/run/app.sock"', 'address: "@app", tier: 1', 'address: "[::1]:80"'),
        listed(NODE, more=", checks: [tcp, {tcp: {port: 2}}, {http: {path: /a}}, http]"),
        listed('address: "/a.sock"', more=", tls: true, tls_verify: false"),
        listed('address: "/a.sock", tls_server_name: a.test', more=", tls: true"),
        listed(NODE, more=', balancer: hash, hash_key: "$src_host $key"'),
        'b: {type: echo_backend, nodes_name: "api.test:80"}',
        "b: {type: echo_backend, nodes_service: _http._tcp.api.test}",
    ],
)
def test_configurations_that_are_right(dirs: Dirs, text: str) -> None:
    assert problems(text, dirs) == []


def test_secrets_are_not_shown(dirs: Dirs) -> None:
    with pytest.raises(ConfigError) as caught:
        load(listed(NODE, more=", sticky_secret: hunter2, tls_password: hunter2"), dirs)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "balancer", ["round_robin", "random", "random_two", "least_conn", "least_time", "ip_hash", "first"]
)
def test_every_balancer_works(run: Run, peer: Peers, balancer: str) -> None:
    one, two = peer(), peer()
    more = f", balancer: {balancer}"
    backend = run(listed(f'address: "{one.address}"', f'address: "{two.address}"', more=more))["b"]
    for number in range(40):
        exchange(backend.lease(subject(f"192.0.2.{number}")))
    counts = [node.leases for node in backend.roster.nodes]
    assert sum(counts) == 40
    assert balancer == "first" or min(counts) > 0


def test_hashing_goes_by_the_key(run: Run) -> None:
    more = ', balancer: hash, hash_key: "$key"'
    nodes = [f'address: "127.0.0.1:{port}"' for port in range(1, 9)]
    backend = run(listed(*nodes, more=more))["b"]

    def chosen(key: str, host: str) -> Any:
        lease = backend.lease(subject(host, key))
        node = lease.choose()
        lease.done()
        return node

    assert {chosen("a", f"192.0.2.{n}") for n in range(9)} == {chosen("a", "x")}
    assert len({chosen(f"k{n}", "x") for n in range(100)}) == 8
