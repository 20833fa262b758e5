"""What a request would meet, told without serving it, against what it does meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hemi.errors import UsageError
from tests.running import Served
from tests.tlskit import Authority

CONFIG = """\
webapps:
  shop:
    hostnames: [shop.test, "*.shop.test"]
    rules:
      - if: $path ^= "/api/" and $header_x_key == "k"
        return_code: 403
      - if: $path == "/files" or $query_f == "1"
        handlets: static
        revisers: [head: {add_response: {x-a: b}}]
      - if: $src_host in "10.0.0.0/8"
        return_code: 204
      - return_code: 200
        return_text: rest
    web_root: .
  safe:
    hostnames: [safe.test]
    force_https: true
    rules: [{return_code: 200}]
servers:
  main: {type: httpx_server, address: "127.0.0.1:0", webapps: [shop, safe], max_target_size: 100}
"""


@pytest.fixture
def tell(serve: Callable[..., Served]) -> Callable[..., Any]:
    served = serve(CONFIG)

    def tell(
        method: str, url: str, *fields: tuple[str, str], source: str = "127.0.0.1", status: int = 0
    ) -> Any:
        told = served.server().explain(method, url, list(fields), source)
        if status:
            host = url.split("/")[2]
            lines = [f"{name}: {value}" for name, value in fields]
            path = "/" + url.split("/", 3)[3]
            assert served.get(path, *lines, method=method, host=host).status == status
        return told

    return tell


def matched(told: Any) -> list[int]:
    return [rule["rule"] for rule in told["rules"] if rule["matches"]]


def test_the_first_rule_that_returns_ends_the_search(tell: Callable[..., Any]) -> None:
    told = tell("GET", "http://www.shop.test/api/x", ("X-Key", "k"), status=403)
    assert (told["server"], told["webapp"]) == ("main", "shop")
    assert told["why"] == 'its host name "*.shop.test" matches "www.shop.test"'
    assert matched(told) == [1]
    assert told["rules"][0]["variables"] == {"path": "/api/x", "header_x_key": "k"}
    assert told["rules"][0]["place"].startswith("test.yaml:5:")
    assert told["outcome"] == "return_code 403"


def test_it_says_why_a_rule_does_not_match(tell: Callable[..., Any]) -> None:
    told = tell("GET", "http://shop.test/api/x", status=200)
    assert matched(told) == [4]
    assert told["rules"][0]["variables"]["header_x_key"] == ""
    assert told["rules"][2]["variables"] == {"src_host": "127.0.0.1"}


def test_a_handlet_may_decline(tell: Callable[..., Any]) -> None:
    told = tell("GET", "http://shop.test/files")
    assert matched(told) == [2, 4]
    assert told["rules"][1]["revisers"] == ["head"]
    assert told["outcome"] == "static, when it declines return_code 200 'rest'"


def test_the_client_s_address_counts(tell: Callable[..., Any]) -> None:
    assert tell("GET", "/any", source="10.1.2.3")["webapp"] == ""
    told = tell("GET", "http://shop.test/any", source="10.1.2.3")
    assert told["outcome"] == "return_code 204"


def test_strangers_and_refusals(tell: Callable[..., Any]) -> None:
    told = tell("GET", "http://other.test/", status=404)
    assert told["webapp"] == ""
    assert "other.test" in told["why"]
    assert tell("GET", "http://shop.test/" + "x" * 200, status=414)["refusal"].startswith("414 ")
    assert tell("GET", "http://safe.test/", status=308)["outcome"] == "force_https: 308 to https"


def test_another_port_is_another_server(tell: Callable[..., Any]) -> None:
    assert tell("GET", "http://shop.test:1/") is None


@pytest.mark.parametrize(
    ("method", "url", "fields"),
    [
        ("G T", "/", []),
        ("GET", "ftp://a/", []),
        ("GET", "http://[::1/", []),
        ("GET", "http://a:99999/", []),
        ("GET", "/a b", []),
        ("GET", "/", [("a b", "c")]),
        ("GET", "/", [("a", "b\r\nc: d")]),
    ],
)
def test_what_is_no_request(
    tell: Callable[..., Any], method: str, url: str, fields: list[tuple[str, str]]
) -> None:
    with pytest.raises(UsageError):
        tell(method, url, *fields)


def test_explaining_serves_nothing(serve: Callable[..., Served]) -> None:
    served = serve(CONFIG)
    served.server().explain("GET", "http://shop.test/", [], "127.0.0.1")
    assert served.server().requests == 0
    webapp: Any = served.stage.members["webapps"]["shop"]
    assert not any(webapp.meter)


SOCKETS = """\
webapps:
  a:
    hostnames: ["*"]
    rules:
      - {if: $path == "/both", handlets: static, web_root: .}
      - {socklets: [hello, echo]}
servers: {main: {type: httpx_server, address: "127.0.0.1:0", webapps: [a]}}
"""
UPGRADE = [("Upgrade", "websocket"), ("Connection", "upgrade")]


@pytest.mark.parametrize(
    ("url", "fields", "outcome"),
    [
        ("/both", [], "static, when it declines hello: 426, as the request does not open a WebSocket"),
        (
            "/both",
            UPGRADE,
            "static, when it declines hello, when it declines echo, and when all decline 404",
        ),
        ("/", [], "hello: 426, as the request does not open a WebSocket"),
        ("/", UPGRADE, "hello, when it declines echo, and when all decline 404"),
    ],
)
def test_websockets(
    serve: Callable[..., Served], url: str, fields: list[tuple[str, str]], outcome: str
) -> None:
    told: Any = serve(SOCKETS).server().explain("GET", url, fields, "127.0.0.1")
    assert told["outcome"] == outcome


def test_the_handshake_is_the_one_of_a_client_of_today(serve: Callable[..., Served], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    sites = {name: authority.issue(name) for name in ("one.test", "two.test")}
    webapps = "".join(
        f"  {name[:3]}:\n    hostnames: [{name}]\n    tls_certificate: {identity.certificate}\n"
        f"    tls_private_key: {identity.private_key}\n    rules:\n"
        '      - if: $tls == "on" and $server_name == "one.test" and $tls_version == "TLSv1.3"\n'
        "        return_code: 204\n"
        "      - return_code: 200\n"
        for name, identity in sites.items()
    )
    served = serve(
        f"webapps:\n{webapps}servers:\n"
        '  main: {type: httpx_server, address: "127.0.0.1:0", tls: true, tls_strict_sni: true, webapps: [one, two]}\n'
    )

    def tell(url: str, *fields: tuple[str, str]) -> Any:
        return served.server().explain("GET", url, list(fields), "127.0.0.1")

    assert matched(tell("https://one.test/")) == [1]
    assert matched(tell("/", ("Host", "one.test"))) == [1]
    assert matched(tell("https://two.test/")) == [2]
    assert tell("https://one.test/", ("Host", "two.test"))["refusal"].startswith("421 ")
    with pytest.raises(UsageError, match="no certificate is for"):
        tell("https://three.test/")
