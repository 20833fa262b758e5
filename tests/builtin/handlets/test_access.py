"""Who may come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hemi.builtin
import hemi.builtin.handlets.access
from hemi.errors import ConfigError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Site, config, hello, load, scripted, serve

BEHIND = {"trusted_proxies": ["127.0.0.0/8"], "trust_uds": True}


def status(site: Site, address: str, target: str = "/", **fields: str) -> int:
    return site.get(target, X_Forwarded_For=address, **fields).status


def verdicts(props: dict[str, Any], addresses: list[str]) -> str:
    """What a client of each address gets: + for being let in."""
    rules = [{"handlets": [{"access": props}, scripted(hello)]}]
    with serve(rules=rules, server=BEHIND) as site:
        return "".join({200: "+", 403: "-"}[status(site, address)] for address in addresses)


CLIENTS = ["10.0.0.1", "10.1.0.1", "10.1.2.3", "192.0.2.1", "2001:db8::1", "::ffff:10.1.2.3"]


@pytest.mark.parametrize(
    ("props", "expected"),
    [
        ({"allow": "all"}, "++++++"),
        ({"deny": "all"}, "------"),
        ({"deny": ["10.1.2.3"]}, "++-++-"),
        ({"allow": ["10.0.0.0/8"]}, "+++--+"),
        ({"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}, "+-----"),
        ({"allow": ["10.1.2.3"], "deny": ["10.0.0.0/8"]}, "--+--+"),
        ({"allow": ["10.1.2.3", "all"], "deny": ["10.0.0.0/8"]}, "--++++"),
        ({"allow": ["10.0.0.0/8", "10.1.2.3"], "deny": ["10.1.0.0/16", "all"]}, "+-+--+"),
        ({"allow": ["2001:db8::/32", "unix"]}, "----+-"),
        ({"allow": ["::ffff:10.1.2.3"]}, "--+--+"),
    ],
)
def test_the_most_specific_entry_decides(props: dict[str, Any], expected: str) -> None:
    assert verdicts(props, CLIENTS) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["allow all", "deny all"], "++++++"),
        (["deny 10.1.2.3", "allow 10.0.0.0/8", "deny all"], "++----"),
        (["allow 10.0.0.0/8", "deny 10.1.2.3", "deny all"], "+++--+"),
        (["deny 10.0.0.0/8, 2001:db8::1"], "---+--"),
        (["deny unix"], "++++++"),
        (['deny if $method == "GET"'], "------"),
        (['allow if $src_host in ("192.0.2.0/24", "2001:db8::/64")', "deny all"], "---++-"),
    ],
)
def test_the_first_line_decides(order: list[str], expected: str) -> None:
    assert verdicts({"order": order}, CLIENTS) == expected


def test_clients_of_unix_domain_sockets(tmp_path: Path) -> None:
    for props, expected in [
        ({"allow": ["unix"]}, 200),
        ({"allow": ["10.0.0.0/8"]}, 403),
        ({"deny": ["unix"]}, 403),
        ({"deny": ["10.0.0.0/8"]}, 200),
        ({"order": ["allow unix", "deny all"]}, 200),
        ({"order": ["deny 0.0.0.0/0 ::/0"]}, 200),
        ({"order": ["deny unix"]}, 403),
    ]:
        rules = [{"handlets": [{"access": props}, scripted(hello)]}]
        with serve(rules=rules, address=str(tmp_path / "a.sock")) as site:
            assert site.get().status == expected, props


def key(req: Request, resp: Response) -> bool:
    """Stands in for an authenticating handlet."""
    if req.header("x-key") == "right":
        return False
    resp.error(401)
    return True


@pytest.mark.parametrize(
    ("satisfy", "address", "right", "expected"),
    [
        ("all", "10.0.0.1", "right", 200),
        ("all", "10.0.0.1", "wrong", 401),
        ("all", "192.0.2.1", "right", 403),
        ("any", "10.0.0.1", "wrong", 200),
        ("any", "192.0.2.1", "right", 200),
        ("any", "192.0.2.1", "wrong", 401),
    ],
)
def test_satisfy(satisfy: str, address: str, right: str, expected: int) -> None:
    props = {"allow": ["10.0.0.0/8"], "satisfy": satisfy, "auth": [scripted(key)]}
    with serve(rules=[{"handlets": [{"access": props}, scripted(hello)]}], server=BEHIND) as site:
        assert status(site, address, X_Key=right) == expected


def test_refusals_have_a_status_and_are_logged() -> None:
    rules = [{"handlets": [{"access": {"deny": "all", "status": 404}}]}]
    with serve(rules=rules) as site:
        assert site.get("/x").status == 404
        assert site.log.of("info", "access")[0].message == "127.0.0.1 was refused at GET /x HTTP/1.1"


def test_whoever_may_come_in_goes_on_with_the_next_rule() -> None:
    rules = [{"handlets": [{"access": {"allow": "all"}}]}, {"return_code": 200, "return_text": "next"}]
    with serve(rules=rules) as site:
        assert site.get().content == b"next"


def test_many_clients_are_not_remembered_for_ever() -> None:
    specific = hemi.builtin.handlets.access.Specific([], [])
    ask: Callable[[Any], bool] = specific.allows
    for number in range(3000):
        assert ask(type("Req", (), {"src_host": f"10.0.{number >> 8}.{number & 255}"}))
    assert len(specific._known) <= hemi.builtin.handlets.access.KNOWN_HOSTS


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({}, "must have order, allow or deny"),
        ({"allow": "all", "order": ["deny all"]}, "must have either order, or allow and deny"),
        (
            {"allow": ["10.0.0.1"], "deny": ["10.0.0.1/32"]},
            'deny must not have "10.0.0.1/32", which is allowed',
        ),
        ({"allow": ["10.0.0.1/8"]}, 'allow must be an address, a network such as "10.0.0.0/8"'),
        ({"allow": ["everybody"]}, 'or "unix", not "everybody"'),
        ({"order": ["permit all"]}, 'order must be a line such as "allow 10.0.0.0/8 ::1"'),
        ({"order": ["allow"]}, "order must be a line"),
        ({"order": ["allow 10.0.0.0/8 nobody"]}, "'nobody' is none of these"),
        ({"order": ["allow if $nothing == 1"]}, "there is no variable \\$nothing"),
        ({"allow": "all", "satisfy": "any"}, 'satisfy "any" needs auth'),
    ],
)
def test_problems(props: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(config(rules=[{"handlets": [{"access": props}]}]))
